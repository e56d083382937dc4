/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where a machine's RAM lies (core/chipset/layout.h), as guests are told. */
#ifndef VIREO_MACHINE_MEMMAP_H
#define VIREO_MACHINE_MEMMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/hv/memory.h"

/* The kinds of INT 15h E820, which PVH and multiboot use too. */
enum memmap_kind { MEMMAP_RAM = 1, MEMMAP_RESERVED = 2 };

struct memmap_range {
    uint64_t base, size;
    enum memmap_kind kind;
};
enum { MEMMAP_MAX = 8 };

struct memmap {
    struct memmap_range range[MEMMAP_MAX];
    size_t n;
    uint64_t low_end;  /* end of RAM below 4 GiB */
    uint64_t high_end; /* end of RAM above 4 GiB; LAYOUT_RAM_ABOVE_4G if none */
    bool pc;           /* generation 1: VGA's hole, tables at the end of low RAM */
};

enum { MEMMAP_LEAST_RAM = 2 << 20, MEMMAP_LEAST_PC = 16 << 20 };

/* ERR_INVALID if the size is none that a machine can have. */
bool memmap_init(struct memmap *m, uint64_t ram_bytes, err *e);
/* As a PC with a BIOS has it. */
bool memmap_init_pc(struct memmap *m, uint64_t ram_bytes, err *e);
/* Makes the RAM regions. */
bool memmap_add_ram(const struct memmap *m, struct hv_memory *mem, err *e);

#endif
