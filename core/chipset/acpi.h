/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The machine's ACPI tables: RSDP, XSDT, FADT, FACS, MADT, WAET and DSDT, laid out for
 * LAYOUT_ACPI_BASE. The DSDT has the VMBus device in a module device with its MMIO windows, the
 * processors, COM ports, RTC and the VM generation counter.
 * Source: ACPI 6.5; what Hyper-V's firmware gives.
 */
#ifndef VIREO_CHIPSET_ACPI_H
#define VIREO_CHIPSET_ACPI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct acpi_params {
    unsigned vps;
    bool legacy;      /* there are a PIC and a PIT */
    unsigned serials; /* COM ports, 0 to 2 */
    bool vmbus;
    bool s4;
};

struct acpi_tables {
    uint8_t *data; /* goes to LAYOUT_ACPI_BASE; the RSDP is first. Freed by acpi_free. */
    size_t len;
    size_t dsdt, dsdt_len; /* where the DSDT is within data */
};

bool acpi_build(const struct acpi_params *p, struct acpi_tables *out, err *e);
void acpi_free(struct acpi_tables *t);

#endif
