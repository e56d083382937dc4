/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/utf16.h"

#include <string.h>

#include "core/base/bytes.h"

enum { REPLACEMENT = 0xFFFD };

/* One character of UTF-8; returns its length, 0 if malformed. */
static size_t take_utf8(const uint8_t *s, uint32_t *c)
{
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
               : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                                             : 2;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (n == 1) {
        *c = s[0];
        return 1;
    }
    if (n == 2 && (s[0] < 0xC2 || s[0] >= 0xE0))
        return 0;
    *c = s[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80)
            return 0;
        *c = *c << 6 | (s[i] & 0x3F);
    }
    return *c < least[n] || *c > 0x10FFFF || (*c >= 0xD800 && *c < 0xE000) ? 0 : n;
}

static size_t put_utf8(uint32_t c, char *out)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i; c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)((0xF00u >> n & 0xFF) | c);
    return n;
}

size_t utf16_encode(const char *s, uint8_t *out, size_t room)
{
    const uint8_t *p = (const uint8_t *)s;
    size_t n = 0;
    memset(out, 0, room);
    while (*p) {
        uint32_t c;
        size_t used = take_utf8(p, &c);
        size_t need = c >= 0x10000 ? 4 : 2;
        if (!used || n + need + 2 > room)
            return 0;
        if (need == 4) {
            put_le16(out + n, (uint16_t)(0xD800 | (c - 0x10000) >> 10));
            put_le16(out + n + 2, (uint16_t)(0xDC00 | ((c - 0x10000) & 0x3FF)));
        } else {
            put_le16(out + n, (uint16_t)c);
        }
        n += need;
        p += used;
    }
    return n + 2 <= room ? n + 2 : 0;
}

static uint32_t take_utf16(const uint8_t **in, const uint8_t *end)
{
    uint32_t c = get_le16(*in);
    *in += 2;
    if (c >= 0xD800 && c < 0xDC00 && end - *in >= 2) {
        uint32_t low = get_le16(*in);
        if (low >= 0xDC00 && low < 0xE000) {
            *in += 2;
            return 0x10000 + ((c & 0x3FF) << 10 | (low & 0x3FF));
        }
    }
    return (c >= 0xD800 && c < 0xE000) || (c && c < 0x20) || c == 0x7F ? REPLACEMENT : c;
}

void utf16_decode(const uint8_t *in, size_t len, char *out, size_t room)
{
    const uint8_t *end = in + len / 2 * 2;
    size_t n = 0;
    while (in < end) {
        uint32_t c = take_utf16(&in, end);
        char bytes[4];
        size_t need = put_utf8(c, bytes);
        if (!c || n + need >= room)
            break;
        memcpy(out + n, bytes, need);
        n += need;
    }
    out[n] = 0;
}
