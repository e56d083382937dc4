/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * DEC 21140 "Tulip", Hyper-V's legacy network adapter: a PCI function with the address in a serial
 * ROM (93C46) and an MII transceiver, on a port of the virtual switch.
 *
 * Registers are the processors' threads', under one lock; the rings are walked and frames moved on
 * the I/O thread, which owns the port. A frame is one descriptor list's piece as a whole: nothing
 * of it is given back to the guest before it was sent, so that no frame is ever part of a saved
 * state.
 * Sources: DEC 21140A hardware reference manual (EC-QN7NF), 21X4 serial ROM format 3.0; IEEE 802.3
 * clause 22 (MII management).
 */
#ifndef VIREO_CHIPSET_TULIP_H
#define VIREO_CHIPSET_TULIP_H

#include "core/chipset/pci.h"
#include "core/hv/memory.h"
#include "core/net/port.h"

struct tulip;
struct tulip_params {
    const struct chip_env *env; /* borrowed, as the next two */
    struct pci *bus;
    struct hv_memory *memory;
    struct net_port *port; /* taken, also on failure */
    uint8_t slot;          /* on the PCI bus */
    uint32_t instance;     /* of its saved state */
};
struct tulip *tulip_new(const struct tulip_params *p, err *e);
struct device tulip_device(struct tulip *t);
struct net_port *tulip_port(struct tulip *t);
/* The port was plugged in elsewhere: the link goes and comes for the guest to see. I/O thread. */
void tulip_network_changed(struct tulip *t);
/* Whether a driver has the receiver on. Any thread. */
bool tulip_in_use(struct tulip *t);

#endif
