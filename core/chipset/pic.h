/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The pair of 8259A interrupt controllers of a PC with their ELCR registers: master at 0x20, slave
 * at 0xA0 on the master's input 2.
 * Source: Intel 8259A data sheet; 82371AB (PIIX4) for ELCR.
 */
#ifndef VIREO_CHIPSET_PIC_H
#define VIREO_CHIPSET_PIC_H

#include "core/chipset/chip.h"

struct pic;

struct pic_out {
    void (*intr)(void *ctx, bool asserted); /* the INTR line; called with the PIC's lock held */
    void *ctx;
};

struct pic *pic_new(const struct chip_env *env, const struct pic_out *out, err *e);
struct device pic_device(struct pic *p);
struct chip_line pic_line(struct pic *p, unsigned input); /* 0-15, not 2 */
/* The processor's acknowledge cycle: the vector, -1 if INTR is not asserted. Any thread. */
int pic_acknowledge(struct pic *p);

#endif
