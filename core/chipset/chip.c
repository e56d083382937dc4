/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/chip.h"

static void fire(void *ctx)
{
    struct chip_timer *t = ctx;
    atomic_store(&t->due, 0);
    t->fn(t->ctx);
}

static void sync_timer(void *ctx)
{
    struct chip_timer *t = ctx;
    uint64_t due = atomic_load(&t->due);
    if (!due || !atomic_load(&t->running)) {
        loop_timer_disarm(&t->timer);
        return;
    }
    uint64_t now = chip_now(t->env);
    loop_timer_arm_in(&t->timer, due > now ? due - now : 0);
}

void chip_timer_init(struct chip_timer *t, const struct chip_env *env, void (*fn)(void *ctx),
                     void *ctx)
{
    *t = (struct chip_timer){.env = env, .fn = fn, .ctx = ctx};
    loop_timer_init(&t->timer, env->loop, fire, t);
    loop_post_init(&t->sync, sync_timer, t);
}

void chip_timer_set(struct chip_timer *t, uint64_t due)
{
    if (atomic_exchange(&t->due, due) == due)
        return;
    if (!atomic_load(&t->running))
        return;
    if (loop_is_current(t->env->loop))
        sync_timer(t);
    else
        loop_post(t->env->loop, &t->sync);
}

void chip_timer_start(struct chip_timer *t)
{
    atomic_store(&t->running, true);
    sync_timer(t);
}

void chip_timer_stop(struct chip_timer *t)
{
    atomic_store(&t->running, false);
    loop_timer_disarm(&t->timer);
}
