/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/memmap.h"

#include <inttypes.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"
#include "core/chipset/pam.h"

static void add(struct memmap *m, uint64_t base, uint64_t end, enum memmap_kind kind)
{
    if (end > base)
        m->range[m->n++] = (struct memmap_range){.base = base, .size = end - base, .kind = kind};
}

bool memmap_init(struct memmap *m, uint64_t ram_bytes, err *e)
{
    if (ram_bytes % MIB(1))
        return err_set(e, ERR_INVALID, "Memory comes in whole MiB");
    if (ram_bytes < MEMMAP_LEAST_RAM)
        return err_set(e, ERR_INVALID, "A machine needs at least %u MiB of memory",
                       (unsigned)(MEMMAP_LEAST_RAM >> 20));
    if (ram_bytes > LAYOUT_MAX_RAM)
        return err_set(e, ERR_INVALID, "A machine can have at most %" PRIu64 " GiB of memory",
                       (uint64_t)(LAYOUT_MAX_RAM >> 30));
    *m = (struct memmap){.low_end = MIN(ram_bytes, LAYOUT_RAM_HOLE)};
    m->high_end = LAYOUT_RAM_ABOVE_4G + (ram_bytes - m->low_end);
    add(m, 0, LAYOUT_EBDA, MEMMAP_RAM);
    add(m, LAYOUT_EBDA, LAYOUT_LOW_RAM_END, MEMMAP_RESERVED);
    add(m, LAYOUT_ACPI_BASE, LAYOUT_HIGH_RAM_BASE, MEMMAP_RESERVED);
    add(m, LAYOUT_HIGH_RAM_BASE, m->low_end, MEMMAP_RAM);
    add(m, LAYOUT_RAM_ABOVE_4G, m->high_end, MEMMAP_RAM);
    return true;
}

bool memmap_init_pc(struct memmap *m, uint64_t ram_bytes, err *e)
{
    if (ram_bytes < MEMMAP_LEAST_PC)
        return err_set(e, ERR_INVALID, "A machine of generation 1 needs at least %u MiB of memory",
                       (unsigned)(MEMMAP_LEAST_PC >> 20));
    if (!memmap_init(m, ram_bytes, e))
        return false;
    uint64_t tables = m->low_end - LAYOUT_TABLES_SIZE;
    m->n = 0;
    m->pc = true;
    add(m, 0, LAYOUT_LOW_RAM_END, MEMMAP_RAM);
    add(m, LAYOUT_HIGH_RAM_BASE, tables, MEMMAP_RAM);
    add(m, tables, m->low_end, MEMMAP_RESERVED);
    add(m, LAYOUT_RAM_ABOVE_4G, m->high_end, MEMMAP_RAM);
    return true;
}

/* The host bridge shows something else in each segment below 1 MiB (core/chipset/pam), and KVM the
 * first memory at 1 MiB while address line 20 is off. */
static bool add_pc(const struct memmap *m, struct hv_memory *mem, err *e)
{
    uint64_t parts[PAM_SEGMENTS + 1];
    for (unsigned i = 0; i < PAM_SEGMENTS; i++)
        parts[i] = pam_segment_size(i);
    parts[PAM_SEGMENTS] = LAYOUT_LOW_RAM_END;
    return hv_memory_add_ram_parts(mem, PAM_BASE, m->low_end - PAM_BASE, parts, ARRAY_LEN(parts),
                                   e) &&
           hv_memory_add_ram(mem, 0, LAYOUT_LOW_RAM_END, e);
}

bool memmap_add_ram(const struct memmap *m, struct hv_memory *mem, err *e)
{
    bool ok = m->pc ? add_pc(m, mem, e) : hv_memory_add_ram(mem, 0, m->low_end, e) != NULL;
    if (!ok)
        return false;
    uint64_t above = m->high_end - LAYOUT_RAM_ABOVE_4G;
    return !above || hv_memory_add_ram(mem, LAYOUT_RAM_ABOVE_4G, above, e);
}
