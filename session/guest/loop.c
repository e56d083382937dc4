/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "session/guest/agent.h"

enum { WATCHES = 128, PUMP_ROOM = 32768 };

struct watch {
    int fd;
    short events;
    void (*fn)(void *ctx, short revents);
    void *ctx;
    bool used;
    unsigned round; /* of the loop, in which it was added */
};

static struct watch watches[WATCHES];
static unsigned round_now;
static struct {
    uint64_t at;
    void (*fn)(void);
} timers[TIMERS];
static volatile sig_atomic_t ending;

struct watch *watch_add(int fd, short events, void (*fn)(void *ctx, short revents), void *ctx)
{
    for (unsigned i = 0; i < WATCHES; i++)
        if (!watches[i].used) {
            watches[i] = (struct watch){fd, events, fn, ctx, true, round_now};
            return &watches[i];
        }
    return NULL;
}

void watch_events(struct watch *w, short events)
{
    w->events = events;
}

void watch_remove(struct watch *w)
{
    if (w)
        w->used = false;
}

void timer_set(enum timer_id t, uint64_t at, void (*fn)(void))
{
    timers[t].at = at;
    timers[t].fn = fn;
}

uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void on_term(int sig)
{
    ending = 1;
}

static int next_timeout(void)
{
    uint64_t now = now_ms(), next = UINT64_MAX;
    for (unsigned i = 0; i < TIMERS; i++)
        if (timers[i].at && timers[i].at < next)
            next = timers[i].at;
    if (next == UINT64_MAX)
        return -1;
    return next <= now ? 0 : next - now > 60000 ? 60000 : (int)(next - now);
}

static void run_timers(void)
{
    uint64_t now = now_ms();
    for (unsigned i = 0; i < TIMERS; i++)
        if (timers[i].at && timers[i].at <= now) {
            timers[i].at = 0;
            timers[i].fn();
        }
}

static void run_once(void)
{
    struct pollfd p[WATCHES];
    unsigned of[WATCHES], n = 0;
    for (unsigned i = 0; i < WATCHES; i++)
        if (watches[i].used && watches[i].events) {
            p[n] = (struct pollfd){watches[i].fd, watches[i].events, 0};
            of[n++] = i;
        }
    round_now++;
    if (poll(p, n, next_timeout()) < 0)
        return;
    for (unsigned i = 0; i < n; i++) {
        struct watch *w = &watches[of[i]];
        /* Not one that took the place of another meanwhile. */
        if (p[i].revents && w->used && w->round != round_now)
            w->fn(w->ctx, p[i].revents);
    }
    run_timers();
}

void loop_run(void)
{
    struct sigaction a = {.sa_handler = on_term};
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGINT, &a, NULL);
    signal(SIGPIPE, SIG_IGN);
    while (!ending)
        run_once();
}

void say(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* ---- pumps ---- */

struct way {
    int from, to;
    uint8_t buf[PUMP_ROOM];
    size_t begin, end;
};

struct pump {
    struct way way[2];
    struct watch *watch[2]; /* of way[i].from */
    void (*done)(void *ctx);
    void *ctx;
};

static void pump_close(struct pump *p)
{
    for (unsigned i = 0; i < 2; i++) {
        watch_remove(p->watch[i]);
        close(p->way[i].from);
    }
    free(p);
}

void pump_free(struct pump *p)
{
    if (p)
        pump_close(p);
}

static bool way_read(struct way *w)
{
    if (w->begin != w->end)
        return true;
    ssize_t n = recv(w->from, w->buf, sizeof w->buf, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        return false;
    w->begin = 0;
    w->end = n > 0 ? (size_t)n : 0;
    return true;
}

static bool way_write(struct way *w)
{
    if (w->begin == w->end)
        return true;
    ssize_t n = send(w->to, w->buf + w->begin, w->end - w->begin, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->begin += (size_t)n;
    return true;
}

/* What each descriptor is waited for: to be read while its way is empty, to be written while the
 * other way is not. */
static void pump_watch(struct pump *p)
{
    for (unsigned i = 0; i < 2; i++) {
        bool empty = p->way[i].begin == p->way[i].end;
        bool back = p->way[1 - i].begin != p->way[1 - i].end;
        watch_events(p->watch[i], (short)((empty ? POLLIN : 0) | (back ? POLLOUT : 0)));
    }
}

static void on_pump(void *ctx, short revents)
{
    struct pump *p = ctx;
    bool ok = true;
    for (unsigned i = 0; i < 2 && ok; i++)
        ok = way_read(&p->way[i]) && way_write(&p->way[i]);
    if (ok) {
        pump_watch(p);
        return;
    }
    void (*done)(void *) = p->done;
    void *of = p->ctx;
    pump_close(p);
    done(of);
}

struct pump *pump_new(int a, int b, void (*done)(void *ctx), void *ctx)
{
    struct pump *p = calloc(1, sizeof *p);
    if (p) {
        p->way[0].from = p->way[1].to = a;
        p->way[1].from = p->way[0].to = b;
        p->done = done;
        p->ctx = ctx;
        for (unsigned i = 0; i < 2; i++)
            p->watch[i] = watch_add(p->way[i].from, POLLIN, on_pump, p);
        if (p->watch[0] && p->watch[1])
            return p;
        watch_remove(p->watch[0]);
        watch_remove(p->watch[1]);
        free(p);
    }
    close(a);
    close(b);
    return NULL;
}
