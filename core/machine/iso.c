/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/iso.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"

enum {
    SECTOR = 2048,
    FIRST_DESCRIPTOR = 16, /* ECMA-119 6.3 */
    MAX_DESCRIPTORS = 64,
    PRIMARY = 1,
    TERMINATOR = 255,
    VOLUME_ID = 40, /* ECMA-119 8.4.7: 32 characters */
    VOLUME_ID_LEN = 32,
    ROOT_RECORD = 156, /* 8.4.18 */
    MIN_RECORD = 34,   /* 9.1 */
    MAX_FOLDER = 1 << 20,
    MAX_FILE = 1 << 30,
    FLAG_FOLDER = 2,
    FLAG_MORE = 0x80, /* the file goes on in another extent */
};

struct disc {
    int fd;
    uint64_t size;
    struct iso_extent root;
    char label[VOLUME_ID_LEN + 1];
};

static bool read_at(const struct disc *d, uint64_t offset, void *buf, size_t len, err *e)
{
    if (!range_within(offset, len, d->size))
        return err_set(e, ERR_CORRUPT, "The disc image is cut short");
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(d->fd, (char *)buf + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, errno, "The disc image cannot be read");
        if (n == 0)
            return err_set(e, ERR_CORRUPT, "The disc image is cut short");
        done += (size_t)n;
    }
    return true;
}

static struct iso_extent record_extent(const uint8_t *r)
{
    return (struct iso_extent){(uint64_t)get_le32(r + 2) * SECTOR, get_le32(r + 10)};
}

static void take_label(struct disc *d, const uint8_t *field)
{
    memcpy(d->label, field, VOLUME_ID_LEN);
    for (size_t i = VOLUME_ID_LEN; i-- > 0 && (d->label[i] == ' ' || !d->label[i]);)
        d->label[i] = 0;
    for (char *p = d->label; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(" ._-+", *p))
            *p = '_';
}

static bool open_disc(struct disc *d, int fd, err *e)
{
    struct stat st;
    uint8_t sector[SECTOR];
    *d = (struct disc){.fd = fd};
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(e, ERR_CORRUPT, "This is not a disc image");
    d->size = (uint64_t)st.st_size;
    for (unsigned i = 0; i < MAX_DESCRIPTORS; i++) {
        if (!read_at(d, (uint64_t)(FIRST_DESCRIPTOR + i) * SECTOR, sector, SECTOR, NULL) ||
            memcmp(sector + 1, "CD001", 5) || sector[0] == TERMINATOR)
            break;
        if (sector[0] != PRIMARY)
            continue;
        d->root = record_extent(sector + ROOT_RECORD);
        take_label(d, sector + VOLUME_ID);
        return true;
    }
    return err_set(e, ERR_CORRUPT, "This is not a disc image (ISO 9660)");
}

/* "VMLINUZ.;1" is "vmlinuz". */
static bool name_is(const uint8_t *name, size_t len, const char *want, size_t want_len)
{
    const uint8_t *version = memchr(name, ';', len);
    if (version)
        len = (size_t)(version - name);
    if (len && name[len - 1] == '.')
        len--;
    return len == want_len && !strncasecmp((const char *)name, want, len);
}

struct match {
    struct iso_extent extent;
    bool folder;
};

/* One name in a folder. False without an error set: not there. */
static bool look_up(const uint8_t *data, size_t size, const char *want, size_t want_len,
                    struct match *out)
{
    for (size_t at = 0; at < size;) {
        const uint8_t *r = data + at;
        size_t len = r[0];
        if (!len) { /* records do not cross sectors */
            at = (at / SECTOR + 1) * SECTOR;
            continue;
        }
        if (len < MIN_RECORD || len > size - at || 33u + r[32] > len)
            return false;
        if (name_is(r + 33, r[32], want, want_len) && !(r[25] & FLAG_MORE)) {
            *out = (struct match){record_extent(r), (r[25] & FLAG_FOLDER) != 0};
            return true;
        }
        at += len;
    }
    return false;
}

static bool find(const struct disc *d, const char *path, struct iso_extent *out, err *e)
{
    struct match m = {d->root, true};
    for (const char *p = path; *p;) {
        size_t len = strcspn(p, "/");
        if (!m.folder || m.extent.length > MAX_FOLDER)
            return err_set(e, ERR_NOT_FOUND, "%s is not on the disc", path);
        AUTO(buf) data = malloc((size_t)m.extent.length + 1);
        if (!data)
            return err_set(e, ERR_NO_MEMORY, "Not enough memory to read the disc");
        if (!read_at(d, m.extent.offset, data, (size_t)m.extent.length, e))
            return false;
        if (!look_up(data, (size_t)m.extent.length, p, len, &m))
            return err_set(e, ERR_NOT_FOUND, "%s is not on the disc", path);
        p += len;
        p += *p == '/';
    }
    if (m.folder)
        return err_set(e, ERR_NOT_FOUND, "%s is a folder of the disc", path);
    if (m.extent.length > MAX_FILE || !range_within(m.extent.offset, m.extent.length, d->size))
        return err_set(e, ERR_CORRUPT, "%s lies outside of the disc", path);
    *out = m.extent;
    return true;
}

bool iso_find(int fd, const char *path, struct iso_extent *out, err *e)
{
    struct disc d;
    return open_disc(&d, fd, e) && find(&d, path, out, e);
}

/* %s in a command line is the disc's label, as its boot loader has it. */
static const struct {
    const char *system, *kernel, *initrd, *cmdline;
} layouts[] = {
    {"Debian", "install.amd/vmlinuz", "install.amd/initrd.gz", "--- quiet"},
    {"Debian", "live/vmlinuz", "live/initrd.img", "boot=live components quiet"},
    {"Ubuntu", "casper/vmlinuz", "casper/initrd", "--- quiet"},
    {"Ubuntu", "casper/hwe-vmlinuz", "casper/hwe-initrd", "--- quiet"},
    {"Fedora", "images/pxeboot/vmlinuz", "images/pxeboot/initrd.img",
     "inst.stage2=hd:LABEL=%s quiet"},
    {"SUSE", "boot/x86_64/loader/linux", "boot/x86_64/loader/initrd", "install=cd:/ quiet"},
};

/* A label in a kernel's command line: blanks as \x20. */
static void put_cmdline(const char *format, const char *label, char *out, size_t size)
{
    char escaped[VOLUME_ID_LEN * 4 + 1] = "";
    size_t n = 0;
    for (const char *p = label; *p; p++)
        n += (size_t)snprintf(escaped + n, sizeof escaped - n, *p == ' ' ? "\\x20" : "%c", *p);
    const char *at = strstr(format, "%s");
    if (!at)
        snprintf(out, size, "%s", format);
    else
        snprintf(out, size, "%.*s%s%s", (int)(at - format), format, escaped, at + 2);
}

bool iso_find_linux(int fd, struct iso_linux *out, err *e)
{
    struct disc d;
    *out = (struct iso_linux){0};
    if (!open_disc(&d, fd, e))
        return false;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (!find(&d, layouts[i].kernel, &out->kernel, NULL) ||
            !find(&d, layouts[i].initrd, &out->initrd, NULL))
            continue;
        out->system = layouts[i].system;
        put_cmdline(layouts[i].cmdline, d.label, out->cmdline, sizeof out->cmdline);
        return true;
    }
    return err_set(e, ERR_UNSUPPORTED,
                   "No Linux installer that can be started directly is on this disc (known are "
                   "those of Debian, Ubuntu, Fedora and SUSE); others start in a machine of "
                   "generation 1");
}

bool iso_extract(int fd, const struct iso_extent *from, const char *path, err *e)
{
    struct disc d;
    if (!open_disc(&d, fd, e))
        return false;
    AUTO(fd) out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (out < 0)
        return err_errno(e, errno, "%s cannot be written", path);
    char buf[64 * 1024];
    for (uint64_t done = 0; done < from->length;) {
        uint64_t left = from->length - done;
        size_t n = left < sizeof buf ? (size_t)left : sizeof buf;
        if (!read_at(&d, from->offset + done, buf, n, e))
            return false;
        if (write(out, buf, n) != (ssize_t)n)
            return err_errno(e, errno ? errno : ENOSPC, "%s cannot be written", path);
        done += n;
    }
    return true;
}
