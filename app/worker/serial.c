/* SPDX-License-Identifier: GPL-3.0-or-later */
/* COM ports: what the guest writes goes to every open stream and into a history; what streams send
 * goes to the guest. A stream that does not read loses what it does not take; the guest never
 * waits. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"

enum { HISTORY = 64 * 1024, STREAMS = 8, RETRY_MS = 10 };

struct stream {
    struct worker_serial *s;
    unsigned port;
    int fd; /* -1: free */
    struct loop_source *source;
    struct loop_timer retry;
    uint8_t rest[256]; /* what the port had no room for */
    size_t rest_len;
};

struct worker_serial {
    struct vm *vm;
    /* the I/O thread's */
    uint8_t history[MACHINE_SERIALS][HISTORY];
    uint64_t written[MACHINE_SERIALS];
    struct stream streams[STREAMS];
};

struct worker_serial *worker_serial_new(void)
{
    struct worker_serial *s = g_new0(struct worker_serial, 1);
    for (unsigned i = 0; i < STREAMS; i++)
        s->streams[i].fd = -1;
    return s;
}

static void stream_close(struct stream *t)
{
    loop_source_remove(t->source);
    loop_timer_disarm(&t->retry);
    close(t->fd);
    t->fd = -1;
    t->source = NULL;
    t->rest_len = 0;
}

void worker_serial_free(struct worker_serial *s)
{
    for (unsigned i = 0; i < STREAMS; i++)
        if (s->streams[i].fd >= 0)
            close(s->streams[i].fd);
    g_free(s);
}

void worker_serial_attach(struct worker_serial *s, struct vm *vm)
{
    s->vm = vm;
}

size_t worker_serial_out(struct worker_serial *s, unsigned port, const uint8_t *data, size_t len)
{
    if (port >= MACHINE_SERIALS)
        return len;
    for (size_t i = 0; i < len; i++)
        s->history[port][s->written[port]++ % HISTORY] = data[i];
    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *t = &s->streams[i];
        if (t->fd >= 0 && t->port == port &&
            send(t->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            stream_close(t);
    }
    return len;
}

/* Gives the port what is left; true if all went. */
static bool give_rest(struct stream *t)
{
    size_t n = machine_serial_input(vm_machine(t->s->vm), t->port, t->rest, t->rest_len);
    n = MIN(n, t->rest_len);
    memmove(t->rest, t->rest + n, t->rest_len - n);
    t->rest_len -= n;
    if (!t->rest_len)
        return true;
    loop_source_set_events(t->source, 0);
    loop_timer_arm_in(&t->retry, RETRY_MS * 1000000ull);
    return false;
}

static void retry(void *ctx)
{
    struct stream *t = ctx;
    if (t->fd >= 0 && give_rest(t))
        loop_source_set_events(t->source, EPOLLIN);
}

static void readable(void *ctx, uint32_t events)
{
    struct stream *t = ctx;
    ssize_t n = recv(t->fd, t->rest, sizeof t->rest, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0) {
        stream_close(t);
        return;
    }
    t->rest_len = (size_t)n;
    give_rest(t);
}

struct opening {
    struct worker_serial *s;
    unsigned port;
    int fd; /* our end; taken when ok */
    uint8_t *history;
    size_t len;
    err *e;
    bool ok;
};

static void copy_history(struct opening *o)
{
    uint64_t end = o->s->written[o->port], begin = end > HISTORY ? end - HISTORY : 0;
    o->len = (size_t)(end - begin);
    o->history = malloc(o->len + 1);
    for (size_t i = 0; o->history && i < o->len; i++)
        o->history[i] = o->s->history[o->port][(begin + i) % HISTORY];
    if (!o->history)
        o->len = 0;
}

static void do_open(void *ctx)
{
    struct opening *o = ctx;
    struct stream *t = NULL;
    for (unsigned i = 0; i < STREAMS && !t; i++)
        if (o->s->streams[i].fd < 0)
            t = &o->s->streams[i];
    if (!t) {
        err_set(o->e, ERR_BUSY, "too many programs have the machine's serial ports open");
        return;
    }
    struct loop *loop = vm_loop(o->s->vm);
    *t = (struct stream){.s = o->s, .port = o->port, .fd = o->fd};
    loop_timer_init(&t->retry, loop, retry, t);
    t->source = loop_add_fd(loop, t->fd, EPOLLIN, readable, t, o->e);
    if (!t->source) {
        t->fd = -1;
        return;
    }
    copy_history(o);
    o->ok = true;
}

int worker_serial_open(struct worker_serial *s, unsigned port, uint8_t **history, size_t *len,
                       err *e)
{
    int pair[2], size = 256 * 1024;
    if (!s->vm || port >= MACHINE_SERIALS) {
        err_set(e, s->vm ? ERR_NOT_FOUND : ERR_STATE, "the machine has no serial port %u now",
                port + 1);
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0) {
        err_errno(e, errno, "the serial port cannot be opened");
        return -1;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    struct opening o = {.s = s, .port = port, .fd = pair[0], .e = e};
    loop_call_wait(vm_loop(s->vm), do_open, &o);
    *history = o.history;
    *len = o.len;
    if (o.ok)
        return pair[1];
    close(pair[0]);
    close(pair[1]);
    return -1;
}
