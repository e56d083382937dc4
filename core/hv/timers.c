/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/timers.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

struct hv_timers {
    const struct hv_clock *clock;
    pthread_t thread;
    pthread_mutex_t lock; /* guards all below, and due_ns and slot of every timer */
    pthread_cond_t changed, finished;
    struct hv_timer **heap; /* least due first */
    uint32_t count, room;
    const struct hv_timer *firing;
    bool quit;
};

static void place(struct hv_timers *s, uint32_t i, struct hv_timer *t)
{
    s->heap[i] = t;
    t->slot = i;
}

static void sift_up(struct hv_timers *s, uint32_t i)
{
    struct hv_timer *t = s->heap[i];
    while (i && s->heap[(i - 1) / 2]->due_ns > t->due_ns) {
        place(s, i, s->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    place(s, i, t);
}

static void sift_down(struct hv_timers *s, uint32_t i)
{
    struct hv_timer *t = s->heap[i];
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c >= s->count)
            break;
        if (c + 1 < s->count && s->heap[c + 1]->due_ns < s->heap[c]->due_ns)
            c++;
        if (s->heap[c]->due_ns >= t->due_ns)
            break;
        place(s, i, s->heap[c]);
        i = c;
    }
    place(s, i, t);
}

static void heap_remove(struct hv_timers *s, struct hv_timer *t)
{
    struct hv_timer *last = s->heap[--s->count];
    if (last != t) {
        place(s, t->slot, last);
        sift_up(s, last->slot);
        sift_down(s, last->slot);
    }
    t->due_ns = 0;
}

/* Sleeps until the first timer is due or something changes. The lock is held on entry and exit. */
static void wait_for_change(struct hv_timers *s)
{
    if (!s->count || !hv_clock_running(s->clock)) {
        pthread_cond_wait(&s->changed, &s->lock);
        return;
    }
    uint64_t host = hv_clock_to_host(s->clock, s->heap[0]->due_ns);
    if (host > INT64_MAX)
        host = INT64_MAX;
    struct timespec ts = {.tv_sec = (time_t)(host / 1000000000u),
                          .tv_nsec = (long)(host % 1000000000u)};
    pthread_cond_timedwait(&s->changed, &s->lock, &ts);
}

static bool first_is_due(const struct hv_timers *s)
{
    return s->count && hv_clock_running(s->clock) && s->heap[0]->due_ns <= hv_clock_now(s->clock);
}

static void fire_first(struct hv_timers *s)
{
    struct hv_timer *t = s->heap[0];
    void (*fn)(void *) = t->fn;
    void *ctx = t->ctx;
    heap_remove(s, t);
    s->firing = t;
    pthread_mutex_unlock(&s->lock);
    fn(ctx);
    pthread_mutex_lock(&s->lock);
    s->firing = NULL;
    pthread_cond_broadcast(&s->finished);
}

static void *timer_thread(void *arg)
{
    struct hv_timers *s = arg;
    prctl(PR_SET_TIMERSLACK, 1000ul, 0, 0, 0);
    prctl(PR_SET_NAME, "vireo-timers", 0, 0, 0);
    pthread_mutex_lock(&s->lock);
    while (!s->quit) {
        if (first_is_due(s))
            fire_first(s);
        else
            wait_for_change(s);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

struct hv_timers *hv_timers_new(const struct hv_clock *clock, err *e)
{
    struct hv_timers *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_NO_MEMORY, "no memory for the partition's timers");
        return NULL;
    }
    s->clock = clock;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->changed, &attr);
    pthread_cond_init(&s->finished, NULL);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&s->lock, NULL);
    int rc = pthread_create(&s->thread, NULL, timer_thread, s);
    if (rc) {
        err_errno(e, rc, "starting the timer thread");
        free(s);
        return NULL;
    }
    return s;
}

void hv_timers_free(struct hv_timers *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    pthread_cond_destroy(&s->changed);
    pthread_cond_destroy(&s->finished);
    pthread_mutex_destroy(&s->lock);
    free(s->heap);
    free(s);
}

void hv_timers_clock_changed(struct hv_timers *s)
{
    pthread_mutex_lock(&s->lock);
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void hv_timer_init(struct hv_timer *t, struct hv_timers *set, void (*fn)(void *ctx), void *ctx)
{
    *t = (struct hv_timer){.set = set, .fn = fn, .ctx = ctx};
}

/* Timers are made with their partition, a bounded number: running out here is a dead host. */
static bool make_room(struct hv_timers *s)
{
    if (s->count < s->room)
        return true;
    uint32_t room = s->room ? s->room * 2 : 64;
    struct hv_timer **heap = realloc(s->heap, room * sizeof *heap);
    if (!heap)
        return false;
    s->heap = heap;
    s->room = room;
    return true;
}

void hv_timer_arm(struct hv_timer *t, uint64_t due_ns)
{
    struct hv_timers *s = t->set;
    pthread_mutex_lock(&s->lock);
    if (t->due_ns)
        heap_remove(s, t);
    if (!t->cancelling && make_room(s)) {
        t->due_ns = due_ns ? due_ns : 1;
        place(s, s->count, t);
        sift_up(s, s->count++);
        if (t->slot == 0)
            pthread_cond_signal(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
}

void hv_timer_disarm(struct hv_timer *t)
{
    pthread_mutex_lock(&t->set->lock);
    if (t->due_ns)
        heap_remove(t->set, t);
    pthread_mutex_unlock(&t->set->lock);
}

void hv_timer_cancel(struct hv_timer *t)
{
    struct hv_timers *s = t->set;
    pthread_mutex_lock(&s->lock);
    t->cancelling = true;
    if (t->due_ns)
        heap_remove(s, t);
    while (s->firing == t)
        pthread_cond_wait(&s->finished, &s->lock);
    t->cancelling = false;
    pthread_mutex_unlock(&s->lock);
}
