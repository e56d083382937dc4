/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/resolutions.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/vsp/console.h"

static const struct resolution known[] = {
    {640, 480},   {800, 600},   {1024, 768},  {1152, 864},  {1280, 720},  {1280, 768},
    {1280, 800},  {1280, 960},  {1280, 1024}, {1360, 768},  {1366, 768},  {1400, 1050},
    {1440, 900},  {1440, 1080}, {1600, 900},  {1600, 1200}, {1680, 1050}, {1720, 1440},
    {1792, 1344}, {1856, 1392}, {1920, 1080}, {1920, 1200}, {1920, 1440}, {2048, 1152},
    {2048, 1536}, {2160, 1440}, {2256, 1504}, {2304, 1440}, {2560, 1080}, {2560, 1440},
    {2560, 1600}, {2560, 1920}, {2736, 1824}, {2880, 1620}, {2880, 1800}, {3000, 2000},
    {3072, 1920}, {3200, 1800}, {3240, 2160}, {3440, 1440}, {3456, 2234}, {3840, 1080},
    {3840, 1600}, {3840, 2160}, {3840, 2400}, {4096, 2160}, {4480, 2520}, {4500, 3000},
    {5120, 1440}, {5120, 2160}, {5120, 2880}, {5760, 3240}, {6016, 3384}, {6144, 3456},
    {7680, 2160}, {7680, 4320},
};
_Static_assert(ARRAY_LEN(known) < SYNTHVID_MAX_RESOLUTIONS, "room for one of the person's own");

static bool fits(const struct resolution *r, uint64_t bytes)
{
    return (uint64_t)r->width * r->height * 4 <= bytes;
}

unsigned resolutions_list(uint64_t bytes, uint32_t width, uint32_t height,
                          struct resolution out[SYNTHVID_MAX_RESOLUTIONS], unsigned *preferred)
{
    struct resolution own = {(uint16_t)width, (uint16_t)height};
    bool use_own = width >= 320 && height >= 200 && width <= CONSOLE_MAX_WIDTH &&
                   height <= CONSOLE_MAX_HEIGHT && fits(&own, bytes);
    unsigned n = 0;
    *preferred = 0;
    for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
        if (use_own && (known[i].width > own.width ||
                        (known[i].width == own.width && known[i].height >= own.height))) {
            *preferred = n;
            out[n++] = own;
            use_own = false;
            if (known[i].width == own.width && known[i].height == own.height)
                continue;
        }
        if (fits(&known[i], bytes))
            out[n++] = known[i];
    }
    if (use_own) {
        *preferred = n;
        out[n++] = own;
    }
    if (!n)
        out[n++] = known[0];
    return n;
}

/* Detailed timing (E-EDID 3.10.2) at 60 Hz with blanking as in CVT's reduced form. */
static void put_timing(const struct resolution *r, uint8_t *d)
{
    enum { H_BLANK = 160, V_BLANK = 45, H_FRONT = 48, H_SYNC = 32, V_FRONT = 3, V_SYNC = 6 };
    uint64_t khz10 = (uint64_t)(r->width + H_BLANK) * (r->height + V_BLANK) * 60 / 10000;
    if (khz10 > UINT16_MAX || r->width > 4095 || r->height > 4095) {
        /* More than a base block can say: a smaller timing of the same shape. */
        struct resolution half = {r->width / 2, r->height / 2};
        put_timing(&half, d);
        return;
    }
    put_le16(d, (uint16_t)khz10);
    d[2] = (uint8_t)r->width;
    d[3] = H_BLANK;
    d[4] = (uint8_t)(r->width >> 8 << 4);
    d[5] = (uint8_t)r->height;
    d[6] = V_BLANK;
    d[7] = (uint8_t)(r->height >> 8 << 4);
    d[8] = H_FRONT;
    d[9] = H_SYNC;
    d[10] = V_FRONT << 4 | V_SYNC;
    d[17] = 0x1e;
}

void resolutions_edid(const struct resolution *preferred, uint8_t out[SYNTHVID_EDID])
{
    static const uint8_t head[] = {
        0,    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0,  0x36, 0x68, /* "MSH" */
        0x2e, 0x06, 0,    0,    0,    0,    5,    33, 1,    4,
        0xa5, 0,    0,    120,  0x06}; /* digital, 8 bits, sRGB */
    static const uint8_t chroma[] = {0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54};
    memset(out, 0, SYNTHVID_EDID);
    memcpy(out, head, sizeof head);
    memcpy(out + 25, chroma, sizeof chroma);
    memset(out + 38, 1, 16); /* no standard timings */
    put_timing(preferred, out + 54);
    memcpy(out + 72, "\0\0\0\xfc\0Vireo\n       ", 18);
    memcpy(out + 90, "\0\0\0\x10", 4);
    memcpy(out + 108, "\0\0\0\x10", 4);
    uint8_t sum = 0;
    for (unsigned i = 0; i < SYNTHVID_EDID - 1; i++)
        sum = (uint8_t)(sum + out[i]);
    out[SYNTHVID_EDID - 1] = (uint8_t)-sum;
}
