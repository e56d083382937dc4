/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SMBIOS tables (64-bit entry point) that name the machine as Hyper-V does, laid out for
 * LAYOUT_SMBIOS_BASE.
 * Source: DMTF DSP0134 3.x.
 */
#ifndef VIREO_CHIPSET_SMBIOS_H
#define VIREO_CHIPSET_SMBIOS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/guid.h"

struct smbios_params {
    unsigned vps;
    uint64_t ram_bytes;
    struct guid uuid;    /* the machine's own, stays with it */
    const char *version; /* "Hyper-V UEFI Release v4.1" */
};

/* Builds entry point and tables into out (size LAYOUT_SMBIOS_SIZE); returns the bytes used, 0 if
 * they do not fit. */
size_t smbios_build(const struct smbios_params *p, uint8_t *out, size_t size);

#endif
