/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Synthetic timers where core/hv keeps them (TLFS 12.3): one-shot and periodic, message and direct
 * mode. */
#include "core/hv/partition-int.h"

/* A periodic timer of a hostile guest must not keep the timer thread busy. */
#define MIN_PERIOD 1000u /* 100 ns: a tenth of a millisecond */

static void expired(void *ctx);

void hv_stimer_init(struct hv_vp *vp)
{
    for (unsigned n = 0; n < HV_VP_STIMERS; n++) {
        vp->stimer[n] = (struct hv_stimer){.vp = vp, .index = (uint8_t)n};
        hv_timer_init(&vp->stimer[n].timer, vp->p->timers, expired, &vp->stimer[n]);
    }
}

static void stop(struct hv_vp *vp, unsigned n)
{
    vp->stimer[n].due = 0;
    hv_timer_disarm(&vp->stimer[n].timer);
}

static void deliver(struct hv_vp *vp, unsigned n)
{
    uint64_t config = vp->syn.stimer_config[n];
    if (config & HV_STIMER_DIRECT)
        vp->p->ops->interrupt(vp->p->backend, vp->index, HV_STIMER_VECTOR(config));
    else
        hv_synic_post_stimer(&vp->stimer[n], HV_STIMER_SINT(config));
}

static void schedule(struct hv_vp *vp, unsigned n, uint64_t due)
{
    struct hv_stimer *t = &vp->stimer[n];
    t->due = due ? due : 1;
    uint64_t when = hv_ref_to_clock(vp->p, t->due);
    if (when == UINT64_MAX)
        hv_timer_disarm(&t->timer);
    else
        hv_timer_arm(&t->timer, when);
}

static uint64_t period(uint64_t count)
{
    return count < MIN_PERIOD ? MIN_PERIOD : count;
}

/* The next due time after `now` on the timer's own beat; expiries that were missed are dropped. */
static uint64_t next_beat(uint64_t due, uint64_t count, uint64_t now)
{
    uint64_t step = period(count), late = now - due;
    uint64_t next = due + (late / step + 1) * step;
    return next > now ? next : UINT64_MAX;
}

/* Lock held. Takes the timer as far as time has come. */
static void advance(struct hv_vp *vp, unsigned n)
{
    struct hv_stimer *t = &vp->stimer[n];
    uint64_t now = hv_ref_time(vp->p), config = vp->syn.stimer_config[n];
    if (!t->due || !(config & HV_STIMER_ENABLE))
        return;
    if (now < t->due) {
        schedule(vp, n, t->due);
        return;
    }
    if (config & HV_STIMER_PERIODIC) {
        schedule(vp, n, next_beat(t->due, vp->syn.stimer_count[n], now));
    } else {
        vp->syn.stimer_config[n] &= ~HV_STIMER_ENABLE;
        stop(vp, n);
    }
    deliver(vp, n);
}

static void expired(void *ctx)
{
    struct hv_stimer *t = ctx;
    pthread_mutex_lock(&t->vp->lock);
    advance(t->vp, t->index);
    pthread_mutex_unlock(&t->vp->lock);
}

static void start(struct hv_vp *vp, unsigned n)
{
    uint64_t count = vp->syn.stimer_count[n], now = hv_ref_time(vp->p);
    if (!(vp->syn.stimer_config[n] & HV_STIMER_ENABLE) || !count)
        return;
    uint64_t due = count;
    if (vp->syn.stimer_config[n] & HV_STIMER_PERIODIC)
        due = count > UINT64_MAX - now ? UINT64_MAX : now + period(count);
    vp->stimer[n].due = due;
    if (due <= now)
        advance(vp, n); /* fires at once */
    else
        schedule(vp, n, due);
}

void hv_stimer_write_config(struct hv_vp *vp, unsigned n, uint64_t config)
{
    stop(vp, n);
    config &= HV_STIMER_VALID;
    if (!(config & HV_STIMER_DIRECT) && HV_STIMER_SINT(config) == 0)
        config &= ~HV_STIMER_ENABLE; /* message mode needs a SINT */
    vp->syn.stimer_config[n] = config;
    start(vp, n);
}

void hv_stimer_write_count(struct hv_vp *vp, unsigned n, uint64_t count)
{
    stop(vp, n);
    vp->syn.stimer_count[n] = count;
    uint64_t *config = &vp->syn.stimer_config[n];
    if (!count)
        *config &= ~HV_STIMER_ENABLE;
    else if (*config & HV_STIMER_AUTO_ENABLE)
        *config |= HV_STIMER_ENABLE;
    start(vp, n);
}

void hv_stimer_reset(struct hv_vp *vp)
{
    for (unsigned n = 0; n < HV_VP_STIMERS; n++) {
        stop(vp, n);
        vp->stimer[n].queued = false;
        vp->syn.stimer_config[n] = vp->syn.stimer_count[n] = 0;
    }
}

void hv_stimer_start_all(struct hv_vp *vp)
{
    for (unsigned n = 0; n < HV_VP_STIMERS; n++) {
        stop(vp, n);
        start(vp, n);
    }
}

void hv_stimer_cancel_all(struct hv_vp *vp)
{
    for (unsigned n = 0; n < HV_VP_STIMERS; n++)
        hv_timer_cancel(&vp->stimer[n].timer);
}
