/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/utf16.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum { REPLACEMENT = 0xfffd };

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    int n = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out[0] = (char)((0xf00 >> n) | (c >> (6 * n)));
    for (int i = 1; i <= n; i++)
        out[i] = (char)(0x80 | (c >> (6 * (n - i)) & 0x3f));
    return (size_t)n + 1;
}

char *utf16_to_utf8(const uint8_t *p, size_t len, bool big_endian)
{
    char *out = malloc(len / 2 * 3 + 1), *o = out;
    if (!out)
        return NULL;
    for (size_t i = 0; i + 2 <= len; i += 2) {
        uint32_t c = big_endian ? get_be16(p + i) : get_le16(p + i);
        if (!c)
            break;
        if (c >= 0xd800 && c < 0xdc00 && i + 4 <= len) {
            uint32_t low = big_endian ? get_be16(p + i + 2) : get_le16(p + i + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        if (c >= 0xd800 && c < 0xe000)
            c = REPLACEMENT;
        o += put_utf8(o, c);
    }
    *o = 0;
    return out;
}

/* The next character; advances *s by at least one byte. */
static uint32_t get_utf8(const uint8_t **s)
{
    uint32_t c = *(*s)++;
    if (c < 0x80)
        return c;
    int n = c >= 0xf0 && c < 0xf8 ? 3 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xc2 && c < 0xe0 ? 1 : 0;
    if (!n)
        return REPLACEMENT;
    c &= 0x3fu >> n;
    for (int i = 0; i < n; i++) {
        if ((**s & 0xc0) != 0x80)
            return REPLACEMENT;
        c = c << 6 | (*(*s)++ & 0x3f);
    }
    static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    bool bad = c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000);
    return bad ? REPLACEMENT : c;
}

uint8_t *utf16_from_utf8(const char *text, size_t *len)
{
    const uint8_t *s = (const uint8_t *)text;
    uint8_t *out = malloc(strlen(text) * 2 + 2), *o = out;
    if (!out)
        return NULL;
    while (*s) {
        uint32_t c = get_utf8(&s);
        if (c >= 0x10000) {
            put_le16(o, (uint16_t)(0xd800 + ((c - 0x10000) >> 10)));
            o += 2;
            c = 0xdc00 + ((c - 0x10000) & 0x3ff);
        }
        put_le16(o, (uint16_t)c);
        o += 2;
    }
    *len = (size_t)(o - out);
    return out;
}
