/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The 8254 timer and the PC's port 0x61: channel 0 is the timer interrupt, channel 2 the speaker
 * (which makes no sound) that calibration loops read back. Ticks that the host was too late for are
 * skipped, not made up for.
 * Source: Intel 8254 data sheet.
 */
#ifndef VIREO_CHIPSET_PIT_H
#define VIREO_CHIPSET_PIT_H

#include "core/chipset/chip.h"

#define PIT_HZ 1193182u

struct pit;

struct pit *pit_new(const struct chip_env *env, struct chip_line irq, err *e);
struct device pit_device(struct pit *p);

#endif
