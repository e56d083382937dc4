/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/base/bytes.h"

enum { EVENTS_PER_TURN = 64 };

struct loop_source {
    struct loop *loop;
    int fd;
    loop_fd_fn *fn;
    void *ctx;
    bool removed;
    struct loop_source *prev, *next; /* all sources, or the graveyard once removed */
};

struct loop {
    int epoll_fd, event_fd, timer_fd;
    struct loop_source *sources, *graveyard;
    struct loop_timer **heap;
    uint32_t ntimers, heap_cap;
    uint64_t programmed_ns; /* what timer_fd is set to; 0: nothing */
    _Atomic(struct loop_post *) inbox;
    struct loop_post *running; /* taken from the inbox, not yet called */
    struct loop_prepare *prepares;
    _Atomic bool quit;
    _Atomic(pthread_t) owner;
    _Atomic bool has_owner;
    unsigned depth; /* turns within turns: sources are freed by the outermost alone */
};

uint64_t clock_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool add_internal(struct loop *l, int fd, void *tag)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0;
}

struct loop *loop_new(err *e)
{
    struct loop *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for an event loop");
        return NULL;
    }
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->epoll_fd < 0 || l->event_fd < 0 || l->timer_fd < 0 ||
        !add_internal(l, l->event_fd, &l->event_fd) ||
        !add_internal(l, l->timer_fd, &l->timer_fd)) {
        err_errno(e, errno, "Could not create an event loop");
        loop_free(l);
        return NULL;
    }
    return l;
}

/* ---- mailbox ---- */

static bool run_posts(struct loop *l)
{
    struct loop_post *p = atomic_exchange_explicit(&l->inbox, NULL, memory_order_acquire);
    struct loop_post *fifo = NULL, **end = &l->running;
    while (p) { /* the inbox is a stack: turn it round */
        struct loop_post *next = p->next;
        p->next = fifo;
        fifo = p;
        p = next;
    }
    while (*end)
        end = &(*end)->next;
    *end = fifo;
    bool any = l->running != NULL;
    /* A callback may turn the loop again: that turn goes on where this one stands. */
    while ((p = l->running)) {
        l->running = p->next;
        /* Before fn looks at what it was posted for: who posts again from here on is heard. */
        atomic_store_explicit(&p->pending, false, memory_order_seq_cst);
        p->fn(p->ctx);
    }
    return any;
}

void loop_post_init(struct loop_post *p, void (*fn)(void *ctx), void *ctx)
{
    *p = (struct loop_post){.fn = fn, .ctx = ctx};
}

bool loop_post(struct loop *l, struct loop_post *p)
{
    if (atomic_exchange_explicit(&p->pending, true, memory_order_acq_rel))
        return false;
    struct loop_post *head = atomic_load_explicit(&l->inbox, memory_order_relaxed);
    do
        p->next = head;
    while (!atomic_compare_exchange_weak_explicit(&l->inbox, &head, p, memory_order_acq_rel,
                                                  memory_order_relaxed));
    if (!head && !loop_is_current(l)) { /* the loop's own thread looks before it waits */
        ssize_t n = write(l->event_fd, &(uint64_t){1}, 8);
        (void)n; /* EAGAIN: already readable */
    }
    return true;
}

struct call {
    struct loop_post post;
    void (*fn)(void *ctx);
    void *ctx;
    struct call_wait *wait;
};
struct call_wait {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool done;
};

static void run_call(void *ctx)
{
    struct call *c = ctx;
    struct call_wait *w = c->wait;
    c->fn(c->ctx);
    if (!w) {
        free(c);
        return;
    }
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

bool loop_call(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    struct call *c = calloc(1, sizeof *c);
    if (!c)
        return false;
    c->fn = fn;
    c->ctx = ctx;
    loop_post_init(&c->post, run_call, c);
    return loop_post(l, &c->post);
}

void loop_call_wait(struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    if (loop_is_current(l)) {
        fn(ctx);
        return;
    }
    struct call_wait w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct call c = {.fn = fn, .ctx = ctx, .wait = &w};
    loop_post_init(&c.post, run_call, &c);
    loop_post(l, &c.post);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
}

/* ---- descriptors ---- */

struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx,
                                err *e)
{
    struct loop_source *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to watch a descriptor");
        return NULL;
    }
    *s = (struct loop_source){.loop = l, .fd = fd, .fn = fn, .ctx = ctx, .next = l->sources};
    struct epoll_event ev = {.events = events, .data.ptr = s};
    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0) {
        err_errno(e, errno, "Could not watch a descriptor");
        free(s);
        return NULL;
    }
    if (l->sources)
        l->sources->prev = s;
    l->sources = s;
    return s;
}

void loop_source_set_events(struct loop_source *s, uint32_t events)
{
    struct epoll_event ev = {.events = events, .data.ptr = s};
    epoll_ctl(s->loop->epoll_fd, EPOLL_CTL_MOD, s->fd, &ev);
}

void loop_source_remove(struct loop_source *s)
{
    if (!s || s->removed)
        return;
    struct loop *l = s->loop;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
    if (s->prev)
        s->prev->next = s->next;
    else
        l->sources = s->next;
    if (s->next)
        s->next->prev = s->prev;
    s->removed = true; /* an event of this turn may still name it: freed when the turn ends */
    s->next = l->graveyard;
    l->graveyard = s;
}

static void bury(struct loop *l)
{
    while (l->graveyard) {
        struct loop_source *s = l->graveyard;
        l->graveyard = s->next;
        free(s);
    }
}

/* ---- timers: a binary heap by due time ---- */

static void heap_set(struct loop *l, uint32_t i, struct loop_timer *t)
{
    l->heap[i] = t;
    t->slot = i;
}

static void heap_sift(struct loop *l, uint32_t i)
{
    struct loop_timer *t = l->heap[i];
    while (i && t->due_ns < l->heap[(i - 1) / 2]->due_ns) {
        heap_set(l, i, l->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        uint32_t c = 2 * i + 1;
        if (c + 1 < l->ntimers && l->heap[c + 1]->due_ns < l->heap[c]->due_ns)
            c++;
        if (c >= l->ntimers || l->heap[c]->due_ns >= t->due_ns)
            break;
        heap_set(l, i, l->heap[c]);
        i = c;
    }
    heap_set(l, i, t);
}

static void program(struct loop *l)
{
    uint64_t due = l->ntimers ? l->heap[0]->due_ns : 0;
    if (due == l->programmed_ns)
        return;
    struct itimerspec its = {
        .it_value = {.tv_sec = (time_t)(due / 1000000000u), .tv_nsec = (long)(due % 1000000000u)}};
    timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &its, NULL);
    l->programmed_ns = due;
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fn)(void *ctx), void *ctx)
{
    *t = (struct loop_timer){.loop = l, .fn = fn, .ctx = ctx};
}

void loop_timer_disarm(struct loop_timer *t)
{
    struct loop *l = t->loop;
    if (!t->due_ns)
        return;
    t->due_ns = 0;
    struct loop_timer *last = l->heap[--l->ntimers];
    if (last != t) {
        heap_set(l, t->slot, last);
        heap_sift(l, t->slot);
    }
}

void loop_timer_arm(struct loop_timer *t, uint64_t due_ns)
{
    struct loop *l = t->loop;
    loop_timer_disarm(t);
    if (l->ntimers == l->heap_cap) {
        uint32_t cap = l->heap_cap ? l->heap_cap * 2 : 64;
        struct loop_timer **heap = realloc(l->heap, cap * sizeof *heap);
        if (!heap)
            abort(); /* a few timers per device, none per guest request: the host is out of memory
                      */
        l->heap = heap;
        l->heap_cap = cap;
    }
    t->due_ns = due_ns ? due_ns : 1;
    heap_set(l, l->ntimers++, t);
    heap_sift(l, t->slot);
}

void loop_timer_arm_in(struct loop_timer *t, uint64_t delay_ns)
{
    uint64_t now = clock_ns();
    loop_timer_arm(t, delay_ns > UINT64_MAX / 2 - now ? UINT64_MAX / 2 : now + delay_ns);
}

static bool run_timers(struct loop *l)
{
    bool any = false;
    uint64_t now = clock_ns();
    while (l->ntimers && l->heap[0]->due_ns <= now) {
        struct loop_timer *t = l->heap[0];
        loop_timer_disarm(t);
        t->fn(t->ctx);
        any = true;
    }
    return any;
}

/* ---- running ---- */

bool loop_is_current(const struct loop *l)
{
    struct loop *m = (struct loop *)l;
    return atomic_load(&m->has_owner) && pthread_equal(atomic_load(&m->owner), pthread_self());
}

void loop_prepare_add(struct loop *l, struct loop_prepare *p)
{
    p->next = l->prepares;
    l->prepares = p;
}

void loop_prepare_remove(struct loop *l, struct loop_prepare *p)
{
    for (struct loop_prepare **at = &l->prepares; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            return;
        }
}

static bool prepare(struct loop *l)
{
    bool any = false;
    for (struct loop_prepare *p = l->prepares; p; p = p->next)
        any |= p->fn(p->ctx);
    return any;
}

static bool wait_and_dispatch(struct loop *l, int timeout_ms)
{
    struct epoll_event evs[EVENTS_PER_TURN];
    program(l);
    bool posted = l->running || atomic_load_explicit(&l->inbox, memory_order_relaxed);
    int n = epoll_wait(l->epoll_fd, evs, EVENTS_PER_TURN, posted ? 0 : timeout_ms);
    bool any = false;
    l->depth++;
    for (int i = 0; i < n; i++) {
        uint64_t count;
        if (evs[i].data.ptr == &l->event_fd) {
            ssize_t r = read(l->event_fd, &count, sizeof count);
            (void)r;
        } else if (evs[i].data.ptr == &l->timer_fd) {
            ssize_t r = read(l->timer_fd, &count, sizeof count);
            (void)r;
            l->programmed_ns = 0;
        } else {
            struct loop_source *s = evs[i].data.ptr;
            if (!s->removed) {
                s->fn(s->ctx, evs[i].events);
                any = true;
            }
        }
    }
    any |= run_posts(l);
    any |= run_timers(l);
    if (--l->depth == 0)
        bury(l);
    return any;
}

bool loop_turn(struct loop *l, int timeout_ms)
{
    bool nested = atomic_exchange(&l->has_owner, false);
    pthread_t before = atomic_load(&l->owner);
    atomic_store(&l->owner, pthread_self());
    atomic_store(&l->has_owner, true);
    bool done = prepare(l), any = wait_and_dispatch(l, done ? 0 : timeout_ms) || done;
    if (nested)
        atomic_store(&l->owner, before);
    else
        atomic_store(&l->has_owner, false);
    return any;
}

void loop_run(struct loop *l)
{
    atomic_store(&l->owner, pthread_self());
    atomic_store(&l->has_owner, true);
    while (!atomic_exchange(&l->quit, false)) {
        prepare(l); /* nobody waits for what came of it: on to the wait */
        wait_and_dispatch(l, -1);
    }
    atomic_store(&l->has_owner, false);
}

void loop_quit(struct loop *l)
{
    atomic_store(&l->quit, true);
    ssize_t n = write(l->event_fd, &(uint64_t){1}, 8);
    (void)n;
}

void loop_free(struct loop *l)
{
    if (!l)
        return;
    while (run_posts(l))
        ;
    while (l->sources)
        loop_source_remove(l->sources);
    bury(l);
    for (uint32_t i = 0; i < l->ntimers; i++)
        l->heap[i]->due_ns = 0;
    free(l->heap);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    if (l->event_fd >= 0)
        close(l->event_fd);
    if (l->timer_fd >= 0)
        close(l->timer_fd);
    free(l);
}
