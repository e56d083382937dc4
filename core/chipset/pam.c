/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pam.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/layout.h"

enum { READ_RAM = 1, WRITE_RAM = 2, MODE = 3, LARGEST = 0x10000 };
enum { FIRST_ROM = 8 }; /* segments from E0000 */

struct pam {
    struct hv_io *io;
    struct hv_memory *memory;
    struct hv_io_range *range;
    uint8_t *nothing; /* as large as the largest segment */
    struct hv_span rom[PAM_SEGMENTS];
    _Atomic uint8_t mode[PAM_SEGMENTS];
};

static uint64_t segment(unsigned i)
{
    return PAM_BASE + i * 0x4000ull;
}

static unsigned segment_of(uint64_t offset)
{
    uint64_t i = offset / 0x4000;
    return i < PAM_SEGMENTS ? (unsigned)i : PAM_SEGMENTS - 1;
}

static void show(struct pam *p, unsigned i, uint8_t mode)
{
    err e = ERR_INIT;
    const void *rom = p->rom[i].ptr ? p->rom[i].ptr : p->nothing;
    bool ram = mode & READ_RAM;
    p->mode[i] = mode;
    if (!hv_memory_show(p->memory, segment(i), ram ? NULL : rom, mode == MODE, &e))
        LOG_GUEST("pam", "the memory at 0x%llx stays as it is: %s", (unsigned long long)segment(i),
                  e.text);
}

void pam_set(struct pam *p, const uint8_t reg[PAM_REGISTERS])
{
    for (unsigned i = 0; i < PAM_SEGMENTS; i++) {
        uint8_t r = i + 1 < PAM_SEGMENTS ? reg[1 + i / 2] >> i % 2 * 4 : reg[0] >> 4;
        if ((r & MODE) != p->mode[i])
            show(p, i, r & MODE);
    }
}

/* ---- accesses that are not memory's: writes where RAM is not both ---- */

static uint64_t read_hole(void *ctx, uint64_t offset, unsigned size)
{
    struct pam *p = ctx;
    uint64_t v = UINT64_MAX; /* the segment was about to change */
    hv_memory_read(p->memory, PAM_BASE + offset, &v, size);
    return v;
}

static void write_through(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct pam *p = ctx;
    for (unsigned i = 0; i < size; i++, value >>= 8) {
        uint8_t byte = (uint8_t)value;
        if (p->mode[segment_of(offset + i)] & WRITE_RAM)
            hv_memory_load(p->memory, PAM_BASE + offset + i, &byte, 1);
    }
}

static const struct hv_io_ops ops = {
    .name = "shadow memory", .read = read_hole, .write = write_through};

/* ---- life ---- */

void pam_free(struct pam *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < PAM_SEGMENTS; i++) {
        hv_memory_show(p->memory, segment(i), NULL, true, NULL);
        hv_memory_release(&p->rom[i]);
    }
    hv_io_release(p->io, p->range);
    free(p->nothing);
    free(p);
}

struct pam *pam_new(struct hv_io *io, struct hv_memory *memory, err *e)
{
    struct pam *p = calloc(1, sizeof *p);
    if (p)
        p->nothing = aligned_alloc(HV_PAGE_SIZE, LARGEST);
    if (!p || !p->nothing) {
        free(p);
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the PCI board");
        return NULL;
    }
    memset(p->nothing, 0xff, LARGEST);
    p->io = io;
    p->memory = memory;
    for (unsigned i = 0; i < PAM_SEGMENTS; i++)
        p->mode[i] = MODE;
    for (unsigned i = FIRST_ROM; i < PAM_SEGMENTS; i++)
        hv_memory_acquire(memory, LAYOUT_RAM_ABOVE_4G - LAYOUT_HIGH_RAM_BASE + segment(i),
                          pam_segment_size(i), false, &p->rom[i]);
    p->range = hv_io_claim(io, HV_IO_MMIO, PAM_BASE, LAYOUT_HIGH_RAM_BASE - PAM_BASE, &ops, p, e);
    if (p->range)
        return p;
    pam_free(p);
    return NULL;
}
