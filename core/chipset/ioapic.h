/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The IOAPIC: 24 pins, edge and level triggered, remote IRR, version 0x11 (no EOI register: level
 * interrupts end by the local APIC's EOI, which the partition reports). Pins are given as asserted
 * or not; their polarity bit is kept, not interpreted.
 * Source: Intel 82093AA data sheet.
 */
#ifndef VIREO_CHIPSET_IOAPIC_H
#define VIREO_CHIPSET_IOAPIC_H

#include "core/chipset/chip.h"
#include "core/hv/backend.h"

struct ioapic;

/* Towards the partition; called with the IOAPIC's lock held. */
struct ioapic_out {
    void (*msi)(void *ctx, const struct hv_msi *m);
    /* The message of a pin whose EOIs matter (NULL: none do), and the one that the pin sent last
     * and whose EOI has not come, if the guest has programmed another since (or NULL). */
    void (*route)(void *ctx, unsigned pin, const struct hv_msi *m, const struct hv_msi *in_service);
    void *ctx;
};

struct ioapic *ioapic_new(const struct chip_env *env, const struct ioapic_out *out, err *e);
struct device ioapic_device(struct ioapic *a);
struct chip_line ioapic_line(struct ioapic *a, unsigned pin);
void ioapic_eoi(struct ioapic *a, uint8_t vector); /* any thread */

#endif
