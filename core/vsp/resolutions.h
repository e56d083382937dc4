/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The resolutions that synthetic video offers, and the EDID that goes with them. Pure. */
#ifndef VIREO_VSP_RESOLUTIONS_H
#define VIREO_VSP_RESOLUTIONS_H

#include <stdint.h>

#include "core/vsp/synthvid-proto.h"

struct resolution {
    uint16_t width, height;
};

/* Those of at most `bytes` video memory at 32 bits a pixel, small to large, the preferred one among
 * them (if it fits); returns how many, at least one. *preferred: its index. */
unsigned resolutions_list(uint64_t bytes, uint32_t width, uint32_t height,
                          struct resolution out[SYNTHVID_MAX_RESOLUTIONS], unsigned *preferred);

/* An EDID 1.4 base block of a monitor whose preferred timing is this (VESA E-EDID A2). */
void resolutions_edid(const struct resolution *preferred, uint8_t out[SYNTHVID_EDID]);

#endif
