/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The board around the PCI bus: the 82441FX host bridge, the 82371AB (PIIX4) ISA bridge with the
 * routing of PCI interrupts, the reset ports and the A20 gate, its power management function (whose
 * ports are core/chipset/pm's), and the port of SeaBIOS's log. What the PAM registers do is
 * pam.c's. Source: Intel 82441FX and 82371AB data sheets.
 */
#ifndef VIREO_CHIPSET_PIIX4_H
#define VIREO_CHIPSET_PIIX4_H

#include "core/chipset/pci.h"

struct piix4;
struct piix4_params {
    const struct chip_env *env;          /* borrowed */
    struct chip_line irq[16];            /* the ISA lines that PCI interrupts may be routed to */
    struct hv_memory *memory;            /* borrowed; as pam_new wants it. NULL: PAM does nothing */
    void (*reset)(void *ctx);            /* any thread; it only asks */
    void (*set_a20)(void *ctx, bool on); /* one caller at a time; may be NULL */
    void *ctx;
};
/* Makes the bus, too. */
struct piix4 *piix4_new(const struct piix4_params *p, err *e);
struct device piix4_device(struct piix4 *p);
struct pci *piix4_bus(struct piix4 *p);
/* The A20 gate is one, whoever turns it: port 92h or the keyboard controller. Any thread. */
bool piix4_a20(struct piix4 *p);
void piix4_set_a20(struct piix4 *p, bool on);

#endif
