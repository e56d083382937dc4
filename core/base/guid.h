/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GUIDs in Microsoft's wire order: the first three groups little-endian, the rest as printed. */
#ifndef VIREO_BASE_GUID_H
#define VIREO_BASE_GUID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define GUID_STR_LEN 36

struct guid {
    uint8_t b[16];
};

/* Literal from the five printed groups: GUID(0xf8615163, 0xdf3e, 0x46c5, 0x913f, 0xf2d2f965ed0e) */
#define GUID(d1, d2, d3, d4, d5)                                                                 \
    {                                                                                            \
        {                                                                                        \
            (uint8_t)((d1)&0xff), (uint8_t)((d1) >> 8 & 0xff), (uint8_t)((d1) >> 16 & 0xff),     \
                (uint8_t)((d1) >> 24 & 0xff), (uint8_t)((d2)&0xff), (uint8_t)((d2) >> 8 & 0xff), \
                (uint8_t)((d3)&0xff), (uint8_t)((d3) >> 8 & 0xff), (uint8_t)((d4) >> 8 & 0xff),  \
                (uint8_t)((d4)&0xff), (uint8_t)((uint64_t)(d5) >> 40 & 0xff),                    \
                (uint8_t)((uint64_t)(d5) >> 32 & 0xff), (uint8_t)((d5) >> 24 & 0xff),            \
                (uint8_t)((d5) >> 16 & 0xff), (uint8_t)((d5) >> 8 & 0xff), (uint8_t)((d5)&0xff)  \
        }                                                                                        \
    }

static inline bool guid_equal(const struct guid *a, const struct guid *b)
{
    return memcmp(a->b, b->b, sizeof a->b) == 0;
}
static inline bool guid_is_zero(const struct guid *g)
{
    static const struct guid zero;
    return guid_equal(g, &zero);
}

/* Version 4, from getrandom(2). */
void guid_random(struct guid *out);
/* Lower case, no braces, NUL included. */
void guid_format(const struct guid *g, char out[GUID_STR_LEN + 1]);
/* Accepts either case and optional braces around the whole; nothing else before or after. */
bool guid_parse(const char *s, struct guid *out);

#endif
