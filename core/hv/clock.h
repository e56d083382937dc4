/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The partition's clock: nanoseconds since the partition was made, standing still while it is
 * paused and carried over by save and restore. A backend without a clock of its own (soft) takes
 * the guest's TSC from it: one TSC tick is one nanosecond (HV_CLOCK_TSC_HZ). KVM keeps its own
 * clock and leaves this one alone. Thread: hv_clock_now from any; the others while paused, one
 * thread at a time.
 */
#ifndef VIREO_HV_CLOCK_H
#define VIREO_HV_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define HV_CLOCK_TSC_HZ 1000000000ull

struct hv_clock {
    _Atomic uint64_t stopped_at; /* UINT64_MAX: running */
    _Atomic uint64_t offset;     /* running: added to CLOCK_MONOTONIC */
};

void hv_clock_init(struct hv_clock *c); /* stopped at 0 */
uint64_t hv_clock_now(const struct hv_clock *c);
bool hv_clock_running(const struct hv_clock *c);
void hv_clock_stop(struct hv_clock *c);
void hv_clock_start(struct hv_clock *c);
void hv_clock_set(struct hv_clock *c, uint64_t now); /* stopped only */
/* The CLOCK_MONOTONIC time, in nanoseconds, at which a running clock reads `t`; 0 if it lies before
 * boot. */
uint64_t hv_clock_to_host(const struct hv_clock *c, uint64_t t);

#endif
