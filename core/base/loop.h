/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * An event loop on epoll: descriptors, one-shot timers and calls posted from other threads. A VM
 * has one for its I/O thread (VMBus, every VSP, disks, network, chipset timers); tools and tests
 * run one on their main thread. Thread: loop_post and loop_quit from any; all else on the loop's
 * own thread (the one inside loop_run), or before it runs.
 */
#ifndef VIREO_BASE_LOOP_H
#define VIREO_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

struct loop;

struct loop *loop_new(err *e);
/* Must not be running. Sources and timers still there are dropped; posted calls that were not yet
 * made are made first, so that what they carry is freed by their owner. */
void loop_free(struct loop *l);

/* Runs until loop_quit. */
void loop_run(struct loop *l);
/* One round: waits up to timeout_ms (-1: for ever, 0: not at all) and dispatches what is ready.
 * Returns whether anything was dispatched. */
bool loop_turn(struct loop *l, int timeout_ms);
void loop_quit(struct loop *l);
/* Whether the caller is on the loop's thread. */
bool loop_is_current(const struct loop *l);

/* Descriptors. `events` is EPOLLIN, EPOLLOUT, ... (level triggered unless EPOLLET is given). The
 * source borrows the descriptor. The source may be removed within its own or another callback. */
struct loop_source;
typedef void loop_fd_fn(void *ctx, uint32_t events);
struct loop_source *loop_add_fd(struct loop *l, int fd, uint32_t events, loop_fd_fn *fn, void *ctx,
                                err *e);
void loop_source_set_events(struct loop_source *s, uint32_t events);
void loop_source_remove(struct loop_source *s); /* NULL is allowed */

/* Called before each wait for events, of nested turns too: for what is gathered during a turn and
 * must be on its way before one waits. True: something came of it that a caller of loop_turn may
 * have waited for. Embedded in its owner, on the loop's thread. */
struct loop_prepare {
    bool (*fn)(void *ctx);
    void *ctx;
    struct loop_prepare *next;
};
void loop_prepare_add(struct loop *l, struct loop_prepare *p);
void loop_prepare_remove(struct loop *l, struct loop_prepare *p);

/* Timers: embedded in their owner, armed with an absolute CLOCK_MONOTONIC time in nanoseconds. */
struct loop_timer {
    struct loop *loop;
    void (*fn)(void *ctx);
    void *ctx;
    uint64_t due_ns; /* 0: not armed */
    uint32_t slot;   /* place in the loop's heap */
};
void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fn)(void *ctx), void *ctx);
void loop_timer_arm(struct loop_timer *t, uint64_t due_ns);
void loop_timer_arm_in(struct loop_timer *t, uint64_t delay_ns);
void loop_timer_disarm(struct loop_timer *t);
static inline bool loop_timer_armed(const struct loop_timer *t)
{
    return t->due_ns != 0;
}

/* Mailbox: `fn(ctx)` is called on the loop's thread, in the order of posting per poster. Embedded
 * form: no allocation; a post that is still pending is not queued twice (returns false then). */
struct loop_post {
    struct loop_post *next;
    void (*fn)(void *ctx);
    void *ctx;
    _Atomic bool pending;
};
void loop_post_init(struct loop_post *p, void (*fn)(void *ctx), void *ctx);
bool loop_post(struct loop *l, struct loop_post *p);
/* Allocating form for rare events; false when memory is refused. */
bool loop_call(struct loop *l, void (*fn)(void *ctx), void *ctx);
/* Makes the call on the loop's thread and waits for it (directly if the caller is that thread).
 * The loop must be running. */
void loop_call_wait(struct loop *l, void (*fn)(void *ctx), void *ctx);

/* CLOCK_MONOTONIC in nanoseconds. */
uint64_t clock_ns(void);

#endif
