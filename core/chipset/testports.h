/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ports that have no state: the debug exit port 0xF4 of bare-metal test kernels, and a PC's ways
 * to be reset where it has no keyboard controller (0x64, 0x92, 0xCF9).
 */
#ifndef VIREO_CHIPSET_TESTPORTS_H
#define VIREO_CHIPSET_TESTPORTS_H

#include "core/chipset/chip.h"

struct testports;

struct testports_params {
    const struct chip_env *env; /* borrowed */
    /* On the processor's thread; NULL: the port is not there. */
    void (*debug_exit)(void *ctx, uint32_t code);
    void (*reset)(void *ctx);
    void *ctx;
};

struct testports *testports_new(const struct testports_params *p, err *e);
struct device testports_device(struct testports *t);

#endif
