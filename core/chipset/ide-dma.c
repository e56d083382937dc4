/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The bus master of a channel: registers and descriptor tables (82371AB, chapter 2.5.8). */
#include "core/base/bytes.h"
#include "core/chipset/ide-int.h"

enum { BM_START = 1, BM_TO_MEMORY = 8 };
enum { BM_ACTIVE = 1, BM_ERROR = 2, BM_INTERRUPT = 4, BM_CAPABLE = 0x60 };
enum { DESCRIPTOR = 8, LAST = 0x8000 };

static bool next_descriptor(struct ide_channel *c)
{
    uint8_t d[DESCRIPTOR];
    if (c->bm_last || !hv_memory_read(c->ide->memory, c->bm_next, d, sizeof d))
        return false;
    c->bm_next += DESCRIPTOR;
    c->bm_at = get_le32(d) & ~1u;
    c->bm_left = get_le16(d + 4) & 0xfffe;
    if (!c->bm_left)
        c->bm_left = 0x10000;
    c->bm_last = get_le16(d + 6) & LAST;
    return true;
}

bool ide_dma_move(struct ide_channel *c, uint32_t len, bool to_guest)
{
    struct hv_memory *m = c->ide->memory;
    if (!(c->bm_command & BM_START) || !(c->bm_command & BM_TO_MEMORY) == to_guest ||
        !pci_is_master(&c->ide->function))
        return false;
    for (uint32_t at = 0; at < len;) {
        if (!c->bm_left && !next_descriptor(c))
            return false;
        uint32_t n = MIN(len - at, c->bm_left);
        bool ok = to_guest ? hv_memory_write(m, c->bm_at, c->buffer + at, n)
                           : hv_memory_read(m, c->bm_at, c->buffer + at, n);
        if (!ok)
            return false;
        at += n;
        c->bm_at += n;
        c->bm_left -= n;
    }
    return true;
}

uint8_t ide_bm_read(struct ide_channel *c, unsigned reg)
{
    switch (reg) {
    case 0: return c->bm_command;
    case 2: return c->bm_status;
    case 4:
    case 5:
    case 6:
    case 7: return (uint8_t)(c->bm_table >> (reg - 4) * 8);
    default: return 0;
    }
}

static void set_command(struct ide_channel *c, uint8_t v)
{
    bool was = c->bm_command & BM_START;
    c->bm_command = v & (BM_START | BM_TO_MEMORY);
    if (!(v & BM_START)) {
        c->bm_status &= (uint8_t)~BM_ACTIVE;
        return;
    }
    if (was)
        return;
    c->bm_status |= BM_ACTIVE;
    c->bm_next = c->bm_table;
    c->bm_left = 0;
    c->bm_last = false;
    if (c->phase == PH_DMA_WAIT)
        ide_dma_begin(c);
}

void ide_bm_write(struct ide_channel *c, unsigned reg, uint8_t v)
{
    switch (reg) {
    case 0: set_command(c, v); break;
    case 2:
        c->bm_status = (uint8_t)((c->bm_status & BM_ACTIVE) | (v & BM_CAPABLE) |
                                 (c->bm_status & ~v & (BM_ERROR | BM_INTERRUPT)));
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        c->bm_table &= ~(0xffu << (reg - 4) * 8);
        c->bm_table |= (uint32_t)v << (reg - 4) * 8;
        c->bm_table &= ~3u;
        break;
    default: break;
    }
}
