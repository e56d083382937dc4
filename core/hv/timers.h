/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The partition's timer thread: precise one-shot timers for the software local APIC and synthetic
 * timers. Callbacks run on the timer thread, with no lock held; they must be short.
 * Thread: arm and disarm from any. After hv_timer_cancel returns the callback neither runs nor will.
 */
#ifndef VIREO_HV_TIMERS_H
#define VIREO_HV_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct hv_timers;
struct hv_timer {
    struct hv_timers *set;
    void (*fn)(void *ctx);
    void *ctx;
    uint64_t due_ns; /* CLOCK_MONOTONIC; 0: not armed */
    uint32_t slot;
};

struct hv_timers *hv_timers_new(err *e);
void hv_timers_free(struct hv_timers *t);
void hv_timer_init(struct hv_timer *t, struct hv_timers *set, void (*fn)(void *ctx), void *ctx);
void hv_timer_arm(struct hv_timer *t, uint64_t due_ns);
/* Does not wait for a callback in progress. */
void hv_timer_disarm(struct hv_timer *t);
/* Waits; must not be called from the callback. */
void hv_timer_cancel(struct hv_timer *t);

#endif
