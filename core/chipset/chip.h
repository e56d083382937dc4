/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What every chipset device is given at construction: where its ports are claimed, guest time, a
 * loop for its timers, and an interrupt line.
 *
 * Locks: a device's handlers run on processor threads, its timers on the I/O thread; each device
 * has one lock for its registers. Interrupt lines may be set with it held: the order is device,
 * then line fan-out, then PIC or IOAPIC, then partition.
 */
#ifndef VIREO_CHIPSET_CHIP_H
#define VIREO_CHIPSET_CHIP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/device.h"
#include "core/base/loop.h"
#include "core/hv/io.h"

struct chip_env {
    struct hv_io *io;
    struct loop *loop;
    /* Time of the guest in nanoseconds since power-on of the partition; never steps back, goes on
     * from the saved value after a restore. Any thread. */
    uint64_t (*guest_ns)(void *ctx);
    void *ctx;
};

static inline uint64_t chip_now(const struct chip_env *env)
{
    return env->guest_ns(env->ctx);
}

/* An interrupt line's source end. A line without `set` goes nowhere. */
struct chip_line {
    void (*set)(void *ctx, unsigned pin, bool asserted);
    void *ctx;
    unsigned pin;
};

static inline void chip_line_set(const struct chip_line *l, bool asserted)
{
    if (l->set)
        l->set(l->ctx, l->pin, asserted);
}

/*
 * A deadline in guest time that may be moved from any thread. `fn` runs on the I/O thread with no
 * lock held, at or after the deadline; it may also run when the deadline was moved meanwhile, so it
 * compares its device's state with chip_now and sets the next deadline itself. Devices call
 * chip_timer_set with their lock held. Stopped timers keep their deadline and fire nothing.
 */
struct chip_timer {
    const struct chip_env *env;
    void (*fn)(void *ctx);
    void *ctx;
    _Atomic uint64_t due; /* guest ns; 0: none */
    _Atomic bool running;
    struct loop_timer timer;
    struct loop_post sync;
};
void chip_timer_init(struct chip_timer *t, const struct chip_env *env, void (*fn)(void *ctx),
                     void *ctx);
void chip_timer_set(struct chip_timer *t, uint64_t due); /* any thread; 0 disarms */
void chip_timer_start(struct chip_timer *t);             /* I/O thread */
void chip_timer_stop(struct chip_timer *t);              /* I/O thread; then fn does not run */

/* a * mul / div without overflow in between; div is not 0. */
static inline uint64_t chip_scale(uint64_t a, uint64_t mul, uint64_t div)
{
    return (uint64_t)((unsigned __int128)a * mul / div);
}

#define CHIP_NS_PER_S 1000000000ull

#endif
