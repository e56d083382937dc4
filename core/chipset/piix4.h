/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The board around the PCI bus: the 82441FX host bridge, the 82371AB (PIIX4) ISA bridge with the
 * routing of PCI interrupts and the reset ports, its power management function (whose ports are
 * core/chipset/pm's), and the port of SeaBIOS's log. Shadow RAM below 1 MiB is always there and
 * writable: PAM registers are kept, not enforced. Source: Intel 82441FX and 82371AB data sheets.
 */
#ifndef VIREO_CHIPSET_PIIX4_H
#define VIREO_CHIPSET_PIIX4_H

#include "core/chipset/pci.h"

struct piix4;
struct piix4_params {
    const struct chip_env *env; /* borrowed */
    struct chip_line irq[16];   /* the ISA lines that PCI interrupts may be routed to */
    void (*reset)(void *ctx);   /* any thread; it only asks */
    void *ctx;
};
/* Makes the bus, too. */
struct piix4 *piix4_new(const struct piix4_params *p, err *e);
struct device piix4_device(struct piix4 *p);
struct pci *piix4_bus(struct piix4 *p);

#endif
