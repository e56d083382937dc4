/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/clock.h"

#include <time.h>

#define RUNNING UINT64_MAX

static uint64_t host_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void hv_clock_init(struct hv_clock *c)
{
    atomic_init(&c->stopped_at, 0);
    atomic_init(&c->offset, 0);
}

uint64_t hv_clock_now(const struct hv_clock *c)
{
    uint64_t stopped = atomic_load_explicit(&c->stopped_at, memory_order_acquire);
    if (stopped != RUNNING)
        return stopped;
    return host_now() + atomic_load_explicit(&c->offset, memory_order_relaxed);
}

bool hv_clock_running(const struct hv_clock *c)
{
    return atomic_load(&c->stopped_at) == RUNNING;
}

void hv_clock_stop(struct hv_clock *c)
{
    if (hv_clock_running(c))
        atomic_store(&c->stopped_at, hv_clock_now(c));
}

void hv_clock_start(struct hv_clock *c)
{
    if (hv_clock_running(c))
        return;
    atomic_store(&c->offset, atomic_load(&c->stopped_at) - host_now());
    atomic_store(&c->stopped_at, RUNNING);
}

void hv_clock_set(struct hv_clock *c, uint64_t now)
{
    if (!hv_clock_running(c))
        atomic_store(&c->stopped_at, now);
}

uint64_t hv_clock_to_host(const struct hv_clock *c, uint64_t t)
{
    uint64_t offset = atomic_load(&c->offset); /* modulo 2^64: host = t - offset */
    uint64_t host = t - offset;
    if (offset > INT64_MAX) /* negative offset: later than t, unless that overflows */
        return host < t ? UINT64_MAX : host;
    return host > t ? 0 : host;
}
