/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine of generation 1 starts in a BIOS: SeaBIOS, which learns of the machine by files of
 * fw_cfg. ACPI tables are in memory already when it runs; it is given the pointer to them.
 * Source: SeaBIOS docs/Runtime_config.md, src/fw/romfile_loader.h, src/fw/paravirt.c.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/acpi-format.h"
#include "core/machine/machine-int.h"

enum { BIOS_MOST = 16 << 20, E820_ENTRY = 20 };
enum { LOADER_ENTRY = 128, LOADER_ALLOCATE = 1, ZONE_FSEG = 2, NAME = 56 };
enum { SMBIOS_ANCHOR = 24 };

static bool add_memory_map(struct machine *m, err *e)
{
    uint8_t map[MEMMAP_MAX * E820_ENTRY];
    for (size_t i = 0; i < m->map.n; i++) {
        uint8_t *p = map + i * E820_ENTRY;
        put_le64(p, m->map.range[i].base);
        put_le64(p + 8, m->map.range[i].size);
        put_le32(p + 16, m->map.range[i].kind);
    }
    return fwcfg_set_file(m->fwcfg, "etc/e820", map, m->map.n * E820_ENTRY, e);
}

/* The pointer's address is in the tables' first bytes: a copy of it, placed below 1 MiB. */
static bool add_acpi(struct machine *m, err *e)
{
    uint8_t script[LOADER_ENTRY] = {0};
    struct acpi_tables t;
    if (!machine_acpi(m, &t, e))
        return false;
    put_le32(script, LOADER_ALLOCATE);
    memcpy(script + 4, "etc/acpi/rsdp", sizeof "etc/acpi/rsdp");
    put_le32(script + 4 + NAME, 16);
    script[4 + NAME + 4] = ZONE_FSEG;
    bool ok = fwcfg_set_file(m->fwcfg, "etc/acpi/rsdp", t.data, sizeof(struct acpi_rsdp), e) &&
              fwcfg_set_file(m->fwcfg, "etc/table-loader", script, sizeof script, e);
    acpi_free(&t);
    return ok;
}

static bool add_smbios(struct machine *m, err *e)
{
    uint8_t *buf = calloc(1, LAYOUT_SMBIOS_SIZE);
    size_t len = buf ? machine_smbios(m, buf) : 0;
    /* The anchor is followed by tables at the place that it names. */
    uint64_t at = len ? get_le64(buf + 16) - LAYOUT_SMBIOS_BASE : 0;
    bool ok = len && at < len &&
              fwcfg_set_file(m->fwcfg, "etc/smbios/smbios-anchor", buf, SMBIOS_ANCHOR, e) &&
              fwcfg_set_file(m->fwcfg, "etc/smbios/smbios-tables", buf + at, len - at, e);
    free(buf);
    return ok || err_set(e, ERR_NO_MEMORY, "The machine's SMBIOS tables do not fit");
}

bool machine_add_bios(struct machine *m, err *e)
{
    size_t len = m->p.bios_len;
    if (!len || len > BIOS_MOST || len % HV_PAGE_SIZE)
        return err_set(e, ERR_INVALID, "The BIOS has an impossible size");
    m->bios = malloc(len);
    if (!m->bios)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for the BIOS");
    memcpy(m->bios, m->p.bios, len);
    m->p.bios = m->bios;
    uint32_t processors = m->p.vps;
    return hv_memory_add_rom(hv_partition_memory(m->partition), LAYOUT_RAM_ABOVE_4G - len, len,
                             m->bios, len, e) &&
           add_memory_map(m, e) && add_acpi(m, e) && add_smbios(m, e) &&
           fwcfg_set_file(m->fwcfg, "etc/max-cpus", &processors, 2, e);
}
