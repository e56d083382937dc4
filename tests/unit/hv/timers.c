/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/timers.h"

#include <stdatomic.h>
#include <unistd.h>

#include "check.h"
#include "core/base/loop.h"

static struct hv_clock clock_;
static _Atomic unsigned order, slots[8];

static void fired(void *ctx)
{
    atomic_store((_Atomic unsigned *)ctx, atomic_fetch_add(&order, 1) + 1);
}
static bool wait_for(unsigned n)
{
    for (int i = 0; i < 5000 && atomic_load(&order) < n; i++)
        usleep(1000);
    return atomic_load(&order) == n;
}
static struct hv_timers *start(struct hv_timer *t, unsigned n)
{
    atomic_store(&order, 0);
    hv_clock_init(&clock_);
    hv_clock_start(&clock_);
    struct hv_timers *s = hv_timers_new(&clock_, NULL);
    for (unsigned i = 0; i < n; i++) {
        atomic_store(&slots[i], 0);
        hv_timer_init(&t[i], s, fired, &slots[i]);
    }
    return s;
}

static void timers_fire_in_order_and_not_early(void)
{
    struct hv_timer t[4];
    struct hv_timers *s = start(t, 4);
    uint64_t now = hv_clock_now(&clock_);
    static const unsigned after_ms[4] = {30, 10, 40, 20};
    for (unsigned i = 0; i < 4; i++)
        hv_timer_arm(&t[i], now + after_ms[i] * 1000000u);
    CHECK(wait_for(4));
    CHECK(hv_clock_now(&clock_) >= now + 40000000);
    static const unsigned expect[4] = {3, 1, 4, 2};
    for (unsigned i = 0; i < 4; i++)
        CHECK_EQ(atomic_load(&slots[i]), expect[i]);
    CHECK_EQ(t[0].due_ns, 0);
    hv_timers_free(s);
}

static void rearmed_and_disarmed(void)
{
    struct hv_timer t[3];
    struct hv_timers *s = start(t, 3);
    uint64_t now = hv_clock_now(&clock_);
    hv_timer_arm(&t[0], now + 3600000000000u);
    hv_timer_arm(&t[1], now + 20000000);
    hv_timer_arm(&t[2], now + 30000000);
    hv_timer_disarm(&t[1]);
    hv_timer_disarm(&t[1]);
    hv_timer_arm(&t[0], 0); /* in the past */
    CHECK(wait_for(2));
    usleep(30000);
    CHECK_EQ(atomic_load(&slots[0]), 1);
    CHECK_EQ(atomic_load(&slots[1]), 0);
    CHECK_EQ(atomic_load(&slots[2]), 2);
    hv_timers_free(s);
}

static void nothing_fires_while_the_clock_stands(void)
{
    struct hv_timer t[1];
    struct hv_timers *s = start(t, 1);
    hv_timer_arm(&t[0], hv_clock_now(&clock_) + 10000000);
    hv_clock_stop(&clock_);
    hv_timers_clock_changed(s);
    uint64_t frozen = hv_clock_now(&clock_);
    usleep(30000);
    CHECK_EQ(hv_clock_now(&clock_), frozen);
    CHECK_EQ(atomic_load(&order), 0);
    hv_clock_set(&clock_, frozen + 3600000000000u); /* restored far later */
    hv_clock_start(&clock_);
    hv_timers_clock_changed(s);
    CHECK(wait_for(1));
    CHECK(hv_clock_now(&clock_) >= frozen + 3600000000000u);
    hv_timers_free(s);
}

static _Atomic int in_callback;
static void slow(void *ctx)
{
    atomic_store(&in_callback, 1);
    usleep(30000);
    hv_timer_arm(ctx, 1); /* once more: cancel must win */
    atomic_store(&in_callback, 2);
}

static void cancel_waits_for_the_callback(void)
{
    struct hv_timer t;
    struct hv_timers *s = start(&t, 0);
    hv_timer_init(&t, s, slow, &t);
    hv_timer_arm(&t, 1);
    while (!atomic_load(&in_callback))
        usleep(100);
    hv_timer_cancel(&t);
    CHECK_EQ(atomic_load(&in_callback), 2);
    CHECK_EQ(t.due_ns, 0);
    hv_timers_free(s);
}

static void the_clock_converts_to_host_time(void)
{
    struct hv_clock c;
    hv_clock_init(&c);
    hv_clock_set(&c, 5000);
    hv_clock_start(&c);
    uint64_t host = clock_ns(), now = hv_clock_now(&c);
    int64_t off = (int64_t)(hv_clock_to_host(&c, now) - host);
    CHECK(off >= 0 && off < 1000000000);
    CHECK_EQ(hv_clock_to_host(&c, UINT64_MAX), UINT64_MAX);
    hv_clock_stop(&c);
    hv_clock_set(&c, UINT64_MAX / 2);
    hv_clock_start(&c);
    CHECK_EQ(hv_clock_to_host(&c, 0), 0);
}

static const struct check_test tests[] = {
    CHECK_TEST(timers_fire_in_order_and_not_early),   CHECK_TEST(rearmed_and_disarmed),
    CHECK_TEST(nothing_fires_while_the_clock_stands), CHECK_TEST(cancel_waits_for_the_callback),
    CHECK_TEST(the_clock_converts_to_host_time),
};
CHECK_MAIN(tests)
