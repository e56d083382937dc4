/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The machine's ACPI tables: RSDP, XSDT, FADT, FACS, MADT, WAET and DSDT, laid out for one address.
 * The DSDT has the VMBus device in a module device with its MMIO windows, the processors, COM
 * ports, RTC and the VM generation counter. Source: ACPI 6.5; what Hyper-V's firmware gives.
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
    bool floppy;         /* with pci: a floppy controller */
    bool pci;            /* generation 1: PCI bus, ISA bridge, keyboard controller, VGA */
    uint64_t base;       /* where the tables go; 0: LAYOUT_ACPI_BASE */
    uint64_t generation; /* the generation counter's page; 0: LAYOUT_GENERATION */
    uint16_t pm_port;    /* 0: LAYOUT_PORT_PM */
};

struct acpi_tables {
    uint8_t *data; /* goes to the base; the RSDP is first. Freed by acpi_free. */
    size_t len;
    size_t dsdt, dsdt_len; /* where the DSDT is within data */
};

bool acpi_build(const struct acpi_params *p, struct acpi_tables *out, err *e);
void acpi_free(struct acpi_tables *t);

#endif
