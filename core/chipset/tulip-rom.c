/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/tulip-rom.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum { LENGTH = 2, CHECKSUM = 6, PCIR = 0x18, PNP = 0x1a, UNIT = 512, PNP_LENGTH = 32 };
enum { DEC = 0x1011, DC21140 = 0x0009 };

/* netboot.S */
extern const uint8_t netboot_rom[], netboot_rom_end[];

/* The byte that makes the sum of all 0. */
static uint8_t rest(const uint8_t *p, size_t len)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + p[i]);
    return (uint8_t)-sum;
}

uint8_t *tulip_rom(size_t *len)
{
    *len = (size_t)(netboot_rom_end - netboot_rom);
    uint8_t *rom = malloc(*len);
    if (!rom)
        return NULL;
    memcpy(rom, netboot_rom, *len);
    uint8_t *pcir = rom + get_le16(rom + PCIR), *pnp = rom + get_le16(rom + PNP);
    rom[LENGTH] = (uint8_t)(*len / UNIT);
    put_le16(pcir + 4, DEC);
    put_le16(pcir + 6, DC21140);
    put_le16(pcir + 16, (uint16_t)(*len / UNIT));
    pnp[9] = rest(pnp, PNP_LENGTH);
    rom[CHECKSUM] = rest(rom, *len);
    return rom;
}
