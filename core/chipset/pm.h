/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ACPI power management as Hyper-V's FADT describes it, at port 0x400: PM1 status, enable and
 * control, the 32-bit PM timer, GPE0 and the reset register. Always in ACPI mode (SCI_EN is 1, no
 * SMI command port). S5 is sleep type 0; S4, if the machine offers it, is type 1.
 * Source: ACPI 6.x chapter 4.8.
 */
#ifndef VIREO_CHIPSET_PM_H
#define VIREO_CHIPSET_PM_H

#include "core/chipset/chip.h"

enum {
    PM_OFF_EVENT = 0,    /* status 2, enable 2 */
    PM_OFF_CONTROL = 4,  /* 2 */
    PM_OFF_TIMER = 8,    /* 4 */
    PM_OFF_GPE0 = 0xc,   /* status 2, enable 2 */
    PM_OFF_RESET = 0x33, /* 1; write PM_RESET_VALUE */
    PM_PORTS = 0x34,
    PM_RESET_VALUE = 1,
    PM_SLEEP_TYPE_S5 = 0,
    PM_SLEEP_TYPE_S4 = 1,
    PM_TIMER_HZ = 3579545,
};

/* Bits of GPE0. */
enum pm_gpe {
    PM_GPE_GENERATION = 0, /* the VM generation id changed */
};

/* On the processor's thread, no lock held; they only ask. */
struct pm_upcalls {
    void (*power_off)(void *ctx);
    void (*hibernated)(void *ctx); /* S4 was entered */
    void (*reset)(void *ctx);
    void *ctx;
};

struct pm;

struct pm_params {
    const struct chip_env *env; /* borrowed */
    struct chip_line sci;
    struct pm_upcalls up;
    bool s4;
    uint16_t port; /* 0: LAYOUT_PORT_PM */
};

struct pm *pm_new(const struct pm_params *p, err *e);
struct device pm_device(struct pm *p);
/* Any thread. */
void pm_press_power_button(struct pm *p);
void pm_press_sleep_button(struct pm *p);
void pm_raise_gpe(struct pm *p, enum pm_gpe gpe);

#endif
