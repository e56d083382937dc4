/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/guid.h"

#include <stdio.h>
#include <sys/random.h>

/* Printed position of each wire byte. */
static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};

void guid_random(struct guid *out)
{
    size_t got = 0;
    while (got < sizeof out->b) {
        ssize_t n = getrandom(out->b + got, sizeof out->b - got, 0);
        if (n > 0)
            got += (size_t)n;
    }
    out->b[7] = (uint8_t)((out->b[7] & 0x0f) | 0x40);
    out->b[8] = (uint8_t)((out->b[8] & 0x3f) | 0x80);
}

void guid_format(const struct guid *g, char out[GUID_STR_LEN + 1])
{
    static const char hex[] = "0123456789abcdef";
    char *p = out;
    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[g->b[order[i]] >> 4];
        *p++ = hex[g->b[order[i]] & 15];
    }
    *p = 0;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool guid_parse(const char *s, struct guid *out)
{
    struct guid g;
    bool brace = *s == '{';
    s += brace;
    for (unsigned i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *s++ != '-')
            return false;
        int hi = hex_value(s[0]);
        int lo = hi < 0 ? -1 : hex_value(s[1]);
        if (lo < 0)
            return false;
        g.b[order[i]] = (uint8_t)(hi << 4 | lo);
        s += 2;
    }
    if (brace && *s++ != '}')
        return false;
    if (*s)
        return false;
    *out = g;
    return true;
}
