/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The MC146818A real-time clock and its CMOS memory at ports 0x70/0x71. It shows the host's wall
 * clock plus an offset; when a guest sets it, the offset changes. A saved state keeps the offset,
 * so that after a restore the clock shows the present time, as a battery-backed one would. Source:
 * Motorola MC146818A data sheet; century at index 0x32, as the FADT says.
 */
#ifndef VIREO_CHIPSET_RTC_H
#define VIREO_CHIPSET_RTC_H

#include "core/chipset/chip.h"

#define RTC_CENTURY 0x32

struct rtc;

struct rtc_params {
    const struct chip_env *env; /* borrowed */
    struct chip_line irq;
    /* Nanoseconds since 1970 UTC; NULL: the host's clock. */
    uint64_t (*wall_ns)(void *ctx);
    void *ctx;
    int32_t offset_s; /* what the guest's clock is ahead of UTC (local time) */
};

struct rtc *rtc_new(const struct rtc_params *p, err *e);
struct device rtc_device(struct rtc *r);
/* Sets a byte of CMOS memory (index 0x0e to 0x7f, not the century). Before start. */
void rtc_set_cmos(struct rtc *r, uint8_t index, uint8_t value);
/* A byte of CMOS memory; any thread. */
uint8_t rtc_cmos(struct rtc *r, uint8_t index);
/* What a BIOS is to do after the processor's reset: see machine.c. */
#define RTC_SHUTDOWN 0x0f

#endif
