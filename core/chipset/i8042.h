/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The keyboard controller at ports 0x60 and 0x64 with a PS/2 keyboard and a wheel mouse. Keys and
 * the pointer come from the console for as long as no synthetic device takes them; the pointer's
 * absolute places become movements.
 * Sources: IBM PS/2 Technical Reference (keyboard controller, keyboard, mouse); Microsoft's
 * scan code specification.
 */
#ifndef VIREO_CHIPSET_I8042_H
#define VIREO_CHIPSET_I8042_H

#include "core/chipset/chip.h"
#include "core/vsp/console.h"

struct i8042;
struct i8042_params {
    const struct chip_env *env; /* borrowed, as the next */
    struct console *console;
    struct chip_line keyboard, mouse;
    void (*reset)(void *ctx); /* any thread; it only asks */
    /* The A20 gate, which is the board's. Any thread; NULL: always on. */
    bool (*a20)(void *ctx);
    void (*set_a20)(void *ctx, bool on);
    void *ctx;
};
struct i8042 *i8042_new(const struct i8042_params *p, err *e);
struct device i8042_device(struct i8042 *k);

#endif
