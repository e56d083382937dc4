/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/thumbnail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"

enum { STORED_MAX = 65535, ADLER_BASE = 65521 };

/* ---- PNG ---- */

static uint32_t crc32_of(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    while (n--) {
        crc ^= *p++;
        for (unsigned k = 0; k < 8; k++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

/* Length and CRC around what the caller wrote at out + 8; returns the end. */
static uint8_t *close_chunk(uint8_t *out, const char *type, size_t len)
{
    put_be32(out, (uint32_t)len);
    memcpy(out + 4, type, 4);
    put_be32(out + 8 + len, crc32_of(0, out + 4, len + 4));
    return out + 12 + len;
}

static uint32_t adler(const uint8_t *p, size_t n)
{
    uint32_t a = 1, b = 0;
    for (size_t i = 0; i < n; i++) {
        a = (a + p[i]) % ADLER_BASE;
        b = (b + a) % ADLER_BASE;
    }
    return b << 16 | a;
}

/* zlib's format with nothing compressed. */
static size_t store(uint8_t *out, const uint8_t *raw, size_t len)
{
    uint8_t *p = out;
    *p++ = 0x78;
    *p++ = 0x01;
    for (size_t done = 0; done < len;) {
        size_t n = MIN(len - done, (size_t)STORED_MAX);
        *p++ = done + n == len;
        put_le16(p, (uint16_t)n);
        put_le16(p + 2, (uint16_t)~n);
        memcpy(p + 4, raw + done, n);
        p += 4 + n;
        done += n;
    }
    put_be32(p, adler(raw, len));
    return (size_t)(p + 4 - out);
}

static uint8_t *png(const uint8_t *raw, uint32_t width, uint32_t height, size_t *len, err *e)
{
    static const uint8_t magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    size_t raw_len = (size_t)height * (width * 3 + 1);
    uint8_t *out = malloc(raw_len + raw_len / STORED_MAX * 5 + 128);
    if (!out) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a picture");
        return NULL;
    }
    memcpy(out, magic, sizeof magic);
    uint8_t *p = out + sizeof magic;
    put_be32(p + 8, width);
    put_be32(p + 12, height);
    memcpy(p + 16, (const uint8_t[5]){8, 2, 0, 0, 0}, 5); /* 8 bits RGB */
    p = close_chunk(p, "IHDR", 13);
    p = close_chunk(p, "IDAT", store(p + 8, raw, raw_len));
    p = close_chunk(p, "IEND", 0);
    *len = (size_t)(p - out);
    return out;
}

/* ---- scaling: the mean of the pixels that fall into one ---- */

static void pixel(const struct console_surface *s, const uint8_t *row, uint32_t x, uint32_t rgb[3])
{
    if (s->format == CONSOLE_RGB565) {
        uint16_t v = get_le16(row + x * 2);
        rgb[0] += (uint32_t)(v >> 11) * 255 / 31;
        rgb[1] += (uint32_t)(v >> 5 & 63) * 255 / 63;
        rgb[2] += (uint32_t)(v & 31) * 255 / 31;
        return;
    }
    for (unsigned i = 0; i < 3; i++)
        rgb[i] += row[x * 4 + 2 - i];
}

static void scale(const struct console_surface *s, const uint8_t *from, uint32_t width,
                  uint32_t height, uint8_t *to)
{
    for (uint32_t y = 0; y < height; y++) {
        uint32_t y0 = y * s->height / height, y1 = MAX((y + 1) * s->height / height, y0 + 1);
        *to++ = 0; /* no filter */
        for (uint32_t x = 0; x < width; x++) {
            uint32_t x0 = x * s->width / width, x1 = MAX((x + 1) * s->width / width, x0 + 1);
            uint32_t rgb[3] = {0}, n = (y1 - y0) * (x1 - x0);
            for (uint32_t v = y0; v < y1; v++)
                for (uint32_t u = x0; u < x1; u++)
                    pixel(s, from + (size_t)v * s->stride, u, rgb);
            for (unsigned i = 0; i < 3; i++)
                *to++ = (uint8_t)(rgb[i] / n);
        }
    }
}

static uint8_t *picture(const struct console_surface *s, const uint8_t *pixels, size_t *len, err *e)
{
    uint32_t width = MIN(s->width, (uint32_t)THUMBNAIL_WIDTH);
    uint32_t height = MAX(s->height * width / s->width, 1u);
    if (height > THUMBNAIL_HEIGHT) {
        height = THUMBNAIL_HEIGHT;
        width = MAX(s->width * height / s->height, 1u);
    }
    AUTO(buf) raw = malloc((size_t)height * (width * 3 + 1));
    if (!raw) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a picture");
        return NULL;
    }
    scale(s, pixels, width, height, raw);
    return png(raw, width, height, len, e);
}

uint8_t *thumbnail_png(struct console *c, size_t *len, err *e)
{
    struct console_surface s;
    struct stat st;
    console_surface_now(c, &s);
    AUTO(fd) fd = s.fd;
    if (fd < 0 || !s.width || !s.height || fstat(fd, &st) != 0)
        return NULL;
    uint64_t need = s.offset + (uint64_t)s.stride * s.height;
    if (s.width > CONSOLE_MAX_WIDTH || s.height > CONSOLE_MAX_HEIGHT || need > (uint64_t)st.st_size)
        return NULL;
    uint8_t *p = mmap(NULL, need, PROT_READ, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED) {
        err_errno(e, errno, "The screen cannot be read");
        return NULL;
    }
    uint8_t *out = picture(&s, p + s.offset, len, e);
    munmap(p, need);
    return out;
}
