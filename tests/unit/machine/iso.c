/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/iso.h"

#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "core/base/cleanup.h"

enum { S = 2048, ROOT = 20, FOLDER = 21, KERNEL = 22, INITRD = 24, SECTORS = 25 };

static uint8_t image[SECTORS * S];

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static size_t record(uint8_t *p, const char *name, uint32_t sector, uint32_t len, uint8_t flags)
{
    size_t n = strlen(name) ? strlen(name) : 1;
    p[0] = (uint8_t)((33 + n + 1) & ~1u);
    put32(p + 2, sector);
    put32(p + 10, len);
    p[25] = flags;
    p[32] = (uint8_t)n;
    memcpy(p + 33, name, strlen(name));
    return p[0];
}

/* A disc as Debian's: INSTALL.AMD/VMLINUZ.;1 and INITRD.GZ;1. */
static int make_disc(void)
{
    memset(image, 0, sizeof image);
    uint8_t *pvd = image + 16 * S, *end = image + 17 * S;
    pvd[0] = 1;
    memcpy(pvd + 1, "CD001", 5);
    memcpy(pvd + 40, "Debian 12 amd64                 ", 32);
    record(pvd + 156, "", ROOT, S, 2);
    end[0] = 255;
    memcpy(end + 1, "CD001", 5);
    uint8_t *r = image + ROOT * S;
    r += record(r, "", ROOT, S, 2);
    r += record(r, "README.;1", KERNEL, 10, 0);
    record(r, "INSTALL.AMD", FOLDER, S, 2);
    r = image + FOLDER * S;
    r += record(r, "VMLINUZ.;1", KERNEL, S + 100, 0);
    record(r, "INITRD.GZ;1", INITRD, 50, 0);
    memset(image + KERNEL * S, 'k', S + 100);
    memset(image + INITRD * S, 'i', 50);
    int fd = memfd_create("disc", MFD_CLOEXEC);
    CHECK(pwrite(fd, image, sizeof image, 0) == (ssize_t)sizeof image);
    return fd;
}

static void finds_the_installer(void)
{
    err e = ERR_INIT;
    AUTO(fd) fd = make_disc();
    struct iso_linux l;
    CHECK(iso_find_linux(fd, &l, &e));
    CHECK_STR(l.system, "Debian");
    CHECK_EQ(l.kernel.offset, KERNEL * S);
    CHECK_EQ(l.kernel.length, S + 100);
    CHECK_EQ(l.initrd.length, 50);
    char path[] = "/tmp/vireo-iso-XXXXXX", text[64] = "";
    AUTO(fd) out = mkstemp(path);
    CHECK(iso_extract(fd, &l.initrd, path, &e));
    CHECK_EQ(pread(out, text, sizeof text, 0), 50);
    CHECK(text[0] == 'i' && text[49] == 'i');
    unlink(path);
}

static void names_the_label(void)
{
    err e = ERR_INIT;
    AUTO(fd) fd = make_disc();
    struct iso_linux l;
    uint8_t *r = image + ROOT * S;
    r += record(r, "", ROOT, S, 2);
    record(r, "IMAGES", FOLDER, S, 2);
    record(image + FOLDER * S, "PXEBOOT", 23, S, 2);
    r = image + 23 * S;
    r += record(r, "VMLINUZ.;1", KERNEL, 100, 0);
    record(r, "INITRD.IMG;1", INITRD, 50, 0);
    CHECK(pwrite(fd, image, sizeof image, 0) == (ssize_t)sizeof image);
    CHECK(iso_find_linux(fd, &l, &e));
    CHECK_STR(l.system, "Fedora");
    CHECK_STR(l.cmdline, "inst.stage2=hd:LABEL=Debian\\x2012\\x20amd64 quiet");
}

static void refuses(size_t at, uint8_t value, enum err_code code)
{
    err e = ERR_INIT;
    AUTO(fd) fd = make_disc();
    struct iso_linux l;
    CHECK(pwrite(fd, &value, 1, (off_t)at) == 1);
    CHECK(!iso_find_linux(fd, &l, &e));
    CHECK_EQ(e.code, code);
}

static void refuses_what_is_wrong(void)
{
    refuses(16 * S + 1, 'X', ERR_CORRUPT);
    refuses(16 * S + 156 + 5, 0x7f, ERR_UNSUPPORTED);  /* root far outside */
    refuses(16 * S + 156 + 13, 0x7f, ERR_UNSUPPORTED); /* root too large */
    refuses(FOLDER * S, 3, ERR_UNSUPPORTED);           /* record too short */
    refuses(FOLDER * S + 32, 200, ERR_UNSUPPORTED);    /* name longer than its record */
    refuses(FOLDER * S + 13, 0x7f, ERR_UNSUPPORTED);   /* kernel larger than the disc */
    err e = ERR_INIT;
    struct iso_linux l;
    CHECK(!iso_find_linux(-1, &l, &e));
    AUTO(fd) empty = memfd_create("empty", MFD_CLOEXEC);
    CHECK(!iso_find_linux(empty, &l, &e) && e.code == ERR_CORRUPT);
}

static const struct check_test tests[] = {
    CHECK_TEST(finds_the_installer),
    CHECK_TEST(names_the_label),
    CHECK_TEST(refuses_what_is_wrong),
};
CHECK_MAIN(tests)
