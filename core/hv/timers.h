/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The partition's timer thread: precise one-shot timers for the software local APIC and synthetic
 * timers, on the partition's clock (core/hv/clock.h): while that stands still nothing fires.
 * Callbacks run on the timer thread, with no lock held; they must be short. Thread: arm and disarm
 * from any. After hv_timer_cancel returns the callback neither runs nor will.
 */
#ifndef VIREO_HV_TIMERS_H
#define VIREO_HV_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/hv/clock.h"

struct hv_timers;
struct hv_timer {
    struct hv_timers *set;
    void (*fn)(void *ctx);
    void *ctx;
    uint64_t due_ns; /* on the partition's clock; 0: not armed */
    uint32_t slot;   /* place in the heap */
    bool cancelling; /* arming is ignored */
};

struct hv_timers *hv_timers_new(const struct hv_clock *clock, err *e);
void hv_timers_free(
    struct hv_timers *t); /* no timer may be armed or armed later; NULL is allowed */
/* The clock was started, stopped or set: look again at what is due. */
void hv_timers_clock_changed(struct hv_timers *t);

void hv_timer_init(struct hv_timer *t, struct hv_timers *set, void (*fn)(void *ctx), void *ctx);
/* Replaces an earlier due time. A due time that has passed fires at once; 0 means 1. */
void hv_timer_arm(struct hv_timer *t, uint64_t due_ns);
/* Does not wait for a callback in progress. */
void hv_timer_disarm(struct hv_timer *t);
/* Waits; must not be called from the callback. */
void hv_timer_cancel(struct hv_timer *t);

#endif
