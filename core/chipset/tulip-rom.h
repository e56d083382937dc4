/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The legacy network adapter's option ROM, by which a BIOS boots from the network: it takes iPXE
 * from fw_cfg's file TULIP_ROM_PAYLOAD. Thread: any; no state.
 */
#ifndef VIREO_CHIPSET_TULIP_ROM_H
#define VIREO_CHIPSET_TULIP_ROM_H

#include <stddef.h>
#include <stdint.h>

#define TULIP_ROM_NAME "pci1011,0009.rom" /* as SeaBIOS looks for it */
#define TULIP_ROM_PAYLOAD "ipxe.lkrn"

/* A copy, ready to run; malloc'ed, NULL: no memory. */
uint8_t *tulip_rom(size_t *len);

#endif
