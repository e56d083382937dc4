/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/archive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "core/base/bytes.h"

enum { BLOCK = 512, BUFFER = 1 << 20, SPARSE = 4096, LEVEL = 3, WORKERS = 2 };

/* ustar, as POSIX.1-1988 has it: text in fixed places. */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == BLOCK, "a header is one block");

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for an exported machine");
}

static bool part_ok(const char *s, size_t len)
{
    if (!len || s[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[i] == '\\')
            return false;
    return true;
}

bool archive_name_ok(const char *name)
{
    unsigned parts = 0;
    if (strlen(name) > ARCHIVE_MAX_NAME)
        return false;
    for (const char *s = name;; parts++) {
        size_t len = strcspn(s, "/");
        if (!part_ok(s, len) || parts == 3)
            return false;
        if (!s[len])
            return true;
        s += len + 1;
    }
}

static uint32_t checksum(const struct header *h)
{
    const uint8_t *b = (const uint8_t *)h;
    uint32_t sum = 0;
    for (size_t i = 0; i < sizeof *h; i++)
        sum += i >= offsetof(struct header, checksum) && i < offsetof(struct header, type) ? ' '
                                                                                           : b[i];
    return sum;
}

/* ---- writing ---- */

struct archive_writer {
    int fd;
    ZSTD_CCtx *z;
    uint8_t *in, *out;
};

struct archive_writer *archive_writer_new(int fd, err *e)
{
    AUTO(archive_writer) a = calloc(1, sizeof *a);
    if (a) {
        a->fd = fd;
        a->z = ZSTD_createCCtx();
        a->in = malloc(BUFFER);
        a->out = malloc(BUFFER);
    }
    if (!a || !a->z || !a->in || !a->out) {
        no_memory(e);
        return NULL;
    }
    ZSTD_CCtx_setParameter(a->z, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(a->z, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(a->z, ZSTD_c_nbWorkers, WORKERS); /* refused where there are none */
    return TAKE(a);
}

void archive_writer_free(struct archive_writer *a)
{
    if (!a)
        return;
    ZSTD_freeCCtx(a->z);
    free(a->in);
    free(a->out);
    free(a);
}

static bool write_all(int fd, const uint8_t *data, size_t len, err *e)
{
    while (len) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, errno, "The file cannot be written");
        data += n;
        len -= (size_t)n;
    }
    return true;
}

static bool put(struct archive_writer *a, const void *data, size_t len, bool end, err *e)
{
    ZSTD_inBuffer in = {data, len, 0};
    for (;;) {
        ZSTD_outBuffer out = {a->out, BUFFER, 0};
        size_t left = ZSTD_compressStream2(a->z, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return err_set(e, ERR_IO, "Compressing failed: %s", ZSTD_getErrorName(left));
        if (!write_all(a->fd, a->out, out.pos, e))
            return false;
        if (end ? left == 0 : in.pos == in.size)
            return true;
    }
}

static void put_size(struct header *h, uint64_t size)
{
    if (size < UINT64_C(1) << 33) {
        snprintf(h->size, sizeof h->size, "%011llo", (unsigned long long)size);
        return;
    }
    memset(h->size, 0, sizeof h->size);
    h->size[0] = (char)0x80;
    for (unsigned i = 0; i < 8; i++)
        h->size[11 - i] = (char)(size >> i * 8);
}

/* Long names are cut at a slash. */
static bool put_name(struct header *h, const char *name, err *e)
{
    size_t len = strlen(name);
    const char *slash = NULL;
    if (!archive_name_ok(name))
        return err_set(e, ERR_INVALID, "\"%s\" cannot be the name of an exported file", name);
    if (len > sizeof h->name)
        for (const char *s = name; (s = strchr(s, '/')); s++)
            if ((size_t)(s - name) <= sizeof h->prefix && strlen(s + 1) <= sizeof h->name)
                slash = s;
    if (len > sizeof h->name && !slash)
        return err_set(e, ERR_INVALID, "The name \"%s\" is too long", name);
    if (slash) {
        memcpy(h->prefix, name, (size_t)(slash - name));
        name = slash + 1;
    }
    memcpy(h->name, name, strlen(name));
    return true;
}

static bool put_header(struct archive_writer *a, const char *name, uint64_t size, err *e)
{
    struct header h = {.mode = "0000600",
                       .uid = "0000000",
                       .gid = "0000000",
                       .mtime = "00000000000",
                       .type = '0',
                       .magic = "ustar",
                       .version = {'0', '0'}};
    if (!put_name(&h, name, e))
        return false;
    put_size(&h, size);
    snprintf(h.checksum, sizeof h.checksum, "%06o", checksum(&h));
    h.checksum[7] = ' ';
    return put(a, &h, sizeof h, false, e);
}

static bool put_padding(struct archive_writer *a, uint64_t size, err *e)
{
    static const uint8_t zero[BLOCK];
    return put(a, zero, (size_t)(-size & (BLOCK - 1)), false, e);
}

bool archive_add_bytes(struct archive_writer *a, const char *name, const void *data, size_t len,
                       err *e)
{
    return put_header(a, name, len, e) && put(a, data, len, false, e) && put_padding(a, len, e);
}

/* Reads up to BUFFER bytes at `at`, or says that there is a hole of that many. */
static bool read_some(int fd, uint64_t at, uint64_t size, uint8_t *buf, size_t *n, bool *hole,
                      err *e)
{
    off_t data = lseek(fd, (off_t)at, SEEK_DATA);
    uint64_t next = data < 0 && errno == ENXIO ? size : data < 0 ? at : (uint64_t)data;
    *hole = next > at;
    *n = (size_t)MIN((*hole ? next : size) - at, (uint64_t)BUFFER);
    for (size_t done = 0; !*hole && done < *n;) {
        ssize_t r = pread(fd, buf + done, *n - done, (off_t)(at + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return r < 0 ? err_errno(e, errno, "The file cannot be read")
                         : err_set(e, ERR_IO, "The file became shorter while it was read");
        done += (size_t)r;
    }
    return true;
}

static bool file_size(int fd, uint64_t *size, err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(e, errno, "The file cannot be read");
    *size = (uint64_t)st.st_size;
    return S_ISREG(st.st_mode) || err_set(e, ERR_UNSUPPORTED, "It is not a regular file");
}

static bool tell(const struct archive_progress *p, uint64_t n, err *e)
{
    return !p || !p->fn || p->fn(p->ctx, n) || err_set(e, ERR_CANCELLED, "It was cancelled");
}

bool archive_add_file(struct archive_writer *a, const char *name, int fd,
                      const struct archive_progress *p, err *e)
{
    uint64_t size = 0;
    if (!file_size(fd, &size, e) || !put_header(a, name, size, e))
        return false;
    for (uint64_t at = 0; at < size;) {
        size_t n;
        bool hole;
        if (!read_some(fd, at, size, a->in, &n, &hole, e))
            return false;
        if (hole)
            memset(a->in, 0, n);
        if (!put(a, a->in, n, false, e) || !tell(p, n, e))
            return false;
        at += n;
    }
    return put_padding(a, size, e);
}

bool archive_end(struct archive_writer *a, err *e)
{
    static const uint8_t zero[2 * BLOCK];
    return put(a, zero, sizeof zero, true, e);
}

/* ---- reading ---- */

struct archive_reader {
    int fd;
    ZSTD_DCtx *z;
    uint8_t *in, *out;
    ZSTD_inBuffer from;
    size_t at, have; /* in `out` */
    size_t hint;     /* what zstd said last; 0: a frame has ended */
    uint64_t left, padding;
};

struct archive_reader *archive_reader_new(int fd, err *e)
{
    AUTO(archive_reader) a = calloc(1, sizeof *a);
    if (a) {
        a->fd = fd;
        a->z = ZSTD_createDCtx();
        a->in = malloc(BUFFER);
        a->out = malloc(BUFFER);
        a->from.src = a->in;
        a->hint = 1;
    }
    if (!a || !a->z || !a->in || !a->out) {
        no_memory(e);
        return NULL;
    }
    ZSTD_DCtx_setParameter(a->z, ZSTD_d_windowLogMax, 27);
    return TAKE(a);
}

void archive_reader_free(struct archive_reader *a)
{
    if (!a)
        return;
    ZSTD_freeDCtx(a->z);
    free(a->in);
    free(a->out);
    free(a);
}

static bool damaged(err *e, const char *why)
{
    return err_set(e, ERR_CORRUPT, "It is not an exported machine, or damaged: %s", why);
}

static bool read_in(struct archive_reader *a, err *e)
{
    ssize_t n;
    do
        n = read(a->fd, a->in, BUFFER);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(e, errno, "The file cannot be read");
    a->from = (ZSTD_inBuffer){a->in, (size_t)n, 0};
    return n > 0 || damaged(e, "it is cut short");
}

/* The next bytes, if any, to `out`; a frame that has ended leaves hint 0. */
static bool step(struct archive_reader *a, err *e)
{
    if (a->from.pos == a->from.size && !read_in(a, e))
        return false;
    ZSTD_outBuffer out = {a->out, BUFFER, 0};
    size_t hint = ZSTD_decompressStream(a->z, &out, &a->from);
    if (ZSTD_isError(hint))
        return damaged(e, ZSTD_getErrorName(hint));
    a->hint = hint;
    a->have = out.pos;
    return true;
}

/* More bytes in `out`. */
static bool fill(struct archive_reader *a, err *e)
{
    a->at = a->have = 0;
    while (!a->have) {
        if (a->hint == 0)
            return damaged(e, "it is cut short");
        if (!step(a, e))
            return false;
    }
    return true;
}

/* To the frame's end: its checksum is over all. */
static bool drain(struct archive_reader *a, err *e)
{
    while (a->hint)
        if (!step(a, e))
            return false;
    return true;
}

static bool take(struct archive_reader *a, void *to, size_t len, err *e)
{
    uint8_t *p = to;
    while (len) {
        if (a->at == a->have && !fill(a, e))
            return false;
        size_t n = MIN(len, a->have - a->at);
        if (p) {
            memcpy(p, a->out + a->at, n);
            p += n;
        }
        a->at += n;
        len -= n;
    }
    return true;
}

static bool get_octal(const char *s, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    size_t i = 0;
    while (i < n && s[i] == ' ')
        i++;
    size_t first = i;
    for (; i < n && s[i] >= '0' && s[i] <= '7'; i++)
        v = v << 3 | (uint64_t)(s[i] - '0');
    *out = v;
    return i > first && (i == n || s[i] == 0 || s[i] == ' ');
}

static bool get_size(const struct header *h, uint64_t *out)
{
    const uint8_t *b = (const uint8_t *)h->size;
    if (b[0] != 0x80)
        return get_octal(h->size, sizeof h->size, out);
    *out = get_be64(b + 4);
    return !b[1] && !b[2] && !b[3] && *out < UINT64_C(1) << 56;
}

static void get_name(const struct header *h, char out[ARCHIVE_MAX_NAME + 2])
{
    int p = (int)strnlen(h->prefix, sizeof h->prefix), n = (int)strnlen(h->name, sizeof h->name);
    const char *name = h->name;
    if (!p && n > 2 && name[0] == '.' && name[1] == '/') { /* as `tar -C folder .` writes them */
        name += 2;
        n -= 2;
    }
    snprintf(out, ARCHIVE_MAX_NAME + 2, "%.*s%s%.*s", p, h->prefix, p ? "/" : "", n, name);
}

static bool read_header(const struct header *h, struct archive_entry *out, err *e)
{
    uint64_t sum = 0;
    char name[ARCHIVE_MAX_NAME + 2];
    if (memcmp(h->magic, "ustar", 5) != 0 || !get_octal(h->checksum, sizeof h->checksum, &sum) ||
        sum != checksum(h) || !get_size(h, &out->size))
        return damaged(e, "a header");
    get_name(h, name);
    if (!archive_name_ok(name))
        return damaged(e, "a file's name");
    memcpy(out->name, name, strlen(name) + 1);
    return (h->type == '0' || h->type == 0) || damaged(e, "it holds other things than files");
}

/* Skips folders, which archives have that people make. */
bool archive_next(struct archive_reader *a, struct archive_entry *out, bool *end, err *e)
{
    static const struct header none;
    struct header h;
    *end = false;
    do {
        for (uint64_t skip = a->left + a->padding; skip;) {
            size_t n = (size_t)MIN(skip, (uint64_t)BUFFER);
            if (!take(a, NULL, n, e))
                return false;
            skip -= n;
        }
        a->left = a->padding = 0;
        if (!take(a, &h, sizeof h, e))
            return false;
    } while (h.type == '5' && memcmp(h.magic, "ustar", 5) == 0);
    if (memcmp(&h, &none, sizeof h) == 0) {
        *end = drain(a, e);
        return false;
    }
    if (!read_header(&h, out, e))
        return false;
    a->left = out->size;
    a->padding = -out->size & (BLOCK - 1);
    return true;
}

static bool is_zero(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* To the next page of the file, or the end. */
static size_t piece(uint64_t at, size_t i, size_t len)
{
    return MIN((size_t)(SPARSE - (at + i) % SPARSE), len - i);
}

/* Writes what is not zero. */
static bool write_sparse(int fd, const uint8_t *data, size_t len, uint64_t at, err *e)
{
    for (size_t i = 0; i < len;) {
        size_t n = 0;
        while (i < len && is_zero(data + i, piece(at, i, len)))
            i += piece(at, i, len);
        while (i + n < len && !is_zero(data + i + n, piece(at, i + n, len)))
            n += piece(at, i + n, len);
        for (size_t done = 0; done < n;) {
            ssize_t w = pwrite(fd, data + i + done, n - done, (off_t)(at + i + done));
            if (w < 0 && errno != EINTR)
                return err_errno(e, errno, "The file cannot be written");
            done += w > 0 ? (size_t)w : 0;
        }
        i += n;
    }
    return true;
}

static bool end_file(int fd, uint64_t size, err *e)
{
    return (ftruncate(fd, (off_t)size) == 0 && fsync(fd) == 0) ||
           err_errno(e, errno, "The file cannot be written");
}

bool archive_extract(struct archive_reader *a, int fd, const struct archive_progress *p, err *e)
{
    uint64_t at = 0;
    while (a->left) {
        if (a->at == a->have && !fill(a, e))
            return false;
        size_t n = (size_t)MIN(a->left, (uint64_t)(a->have - a->at));
        if (!write_sparse(fd, a->out + a->at, n, at, e) || !tell(p, n, e))
            return false;
        a->at += n;
        a->left -= n;
        at += n;
    }
    return end_file(fd, at, e);
}

char *archive_read(struct archive_reader *a, size_t max, size_t *len, err *e)
{
    if (a->left > max) {
        damaged(e, "a text in it is too long");
        return NULL;
    }
    size_t n = (size_t)a->left;
    AUTO(str) text = malloc(n + 1);
    if (!text)
        no_memory(e);
    if (!text || !take(a, text, n, e))
        return NULL;
    a->left = 0;
    text[n] = 0;
    *len = n;
    return TAKE(text);
}

/* ---- copying ---- */

bool archive_copy_file(int from, int to, const struct archive_progress *p, err *e)
{
    uint64_t size = 0;
    AUTO(buf) buf = malloc(BUFFER);
    if (!buf || !file_size(from, &size, e))
        return buf ? false : no_memory(e);
    for (uint64_t at = 0; at < size;) {
        size_t n;
        bool hole;
        if (!read_some(from, at, size, buf, &n, &hole, e) ||
            (!hole && !write_sparse(to, buf, n, at, e)) || !tell(p, n, e))
            return false;
        at += n;
    }
    return end_file(to, size, e);
}
