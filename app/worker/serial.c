/* SPDX-License-Identifier: GPL-3.0-or-later */
/* COM ports: what the guest writes goes to every open stream and into a history; what streams send
 * goes to the guest. A stream that does not read loses what it does not take, and the guest does
 * not wait for it; but for the one stream socket that may be handed over with the machine. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"

enum { HISTORY = 64 * 1024, STREAMS = 8, RETRY_MS = 10, NOBODY_MS = 200, DRAIN_MS = 2000 };

struct stream {
    struct worker_serial *s;
    unsigned port;
    int fd;                     /* -1: free */
    bool waited;                /* the guest waits until it takes what there is */
    struct loop_source *source; /* NULL: a file */
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
    int listeners[MACHINE_SERIALS]; /* -1: none */
    struct loop_source *accepting[MACHINE_SERIALS];
    bool draining;
};

struct worker_serial *worker_serial_new(void)
{
    struct worker_serial *s = g_new0(struct worker_serial, 1);
    for (unsigned i = 0; i < STREAMS; i++)
        s->streams[i].fd = -1;
    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        s->listeners[i] = -1;
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
    for (unsigned i = 0; i < MACHINE_SERIALS; i++)
        auto_close(s->listeners[i]);
    g_free(s);
}

void worker_serial_attach(struct worker_serial *s, struct vm *vm)
{
    s->vm = vm;
}

/* What the stream that is waited for takes now, or, when all has ended, in a while. */
static size_t out_waited(struct stream *t, const uint8_t *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(t->fd, data + done, len - done);
        struct pollfd p = {.fd = t->fd, .events = POLLOUT};
        if (n > 0) {
            done += (size_t)n;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            stream_close(t);
            return len;
        } else if (!t->s->draining || poll(&p, 1, DRAIN_MS) != 1) {
            loop_source_set_events(t->source, t->rest_len ? EPOLLOUT : EPOLLIN | EPOLLOUT);
            return done;
        }
    }
    return len;
}

size_t worker_serial_out(struct worker_serial *s, unsigned port, const uint8_t *data, size_t len)
{
    if (port >= MACHINE_SERIALS)
        return len;
    for (unsigned i = 0; i < STREAMS; i++)
        if (s->streams[i].fd >= 0 && s->streams[i].port == port && s->streams[i].waited)
            len = out_waited(&s->streams[i], data, len);
    for (size_t i = 0; i < len; i++)
        s->history[port][s->written[port]++ % HISTORY] = data[i];
    for (unsigned i = 0; i < STREAMS; i++) {
        struct stream *t = &s->streams[i];
        if (t->fd >= 0 && t->port == port && !t->waited && len && write(t->fd, data, len) < 0 &&
            errno != EAGAIN && errno != EIO)
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
    loop_source_set_events(t->source, 0); /* and output that waits: when the timer comes */
    loop_timer_arm_in(&t->retry, RETRY_MS * 1000000ull);
    return false;
}

static void retry(void *ctx)
{
    struct stream *t = ctx;
    if (t->fd >= 0 && give_rest(t))
        loop_source_set_events(t->source, t->waited ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void readable(void *ctx, uint32_t events)
{
    struct stream *t = ctx;
    if (events & EPOLLOUT) {
        loop_source_set_events(t->source, EPOLLIN);
        machine_serial_ready(vm_machine(t->s->vm), t->port);
    }
    if (t->fd < 0 || !(events & ~(uint32_t)EPOLLOUT))
        return;
    ssize_t n = read(t->fd, t->rest, sizeof t->rest);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0 && errno == EIO) { /* a terminal that nobody has open: look again later */
        loop_source_set_events(t->source, 0);
        loop_timer_arm_in(&t->retry, NOBODY_MS * 1000000ull);
        return;
    }
    if (n <= 0) {
        stream_close(t);
        return;
    }
    t->rest_len = (size_t)n;
    give_rest(t);
}

/* Takes fd, or returns NULL. */
static struct stream *stream_add(struct worker_serial *s, unsigned port, int fd, bool waited,
                                 err *e)
{
    struct stream *t = NULL;
    struct stat st;
    for (unsigned i = 0; i < STREAMS && !t; i++)
        if (s->streams[i].fd < 0)
            t = &s->streams[i];
    if (!t) {
        err_set(e, ERR_BUSY, "too many programs have the machine's serial ports open");
        return NULL;
    }
    struct loop *loop = vm_loop(s->vm);
    *t = (struct stream){.s = s, .port = port, .fd = fd, .waited = waited};
    loop_timer_init(&t->retry, loop, retry, t);
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return t;
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    t->source = loop_add_fd(loop, fd, EPOLLIN, readable, t, e);
    if (t->source)
        return t;
    t->fd = -1;
    return NULL;
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

/* ---- what came with the machine ---- */

static void incoming(void *ctx, uint32_t events)
{
    struct worker_serial *s = ctx;
    for (unsigned port = 0; port < MACHINE_SERIALS; port++) {
        int fd = s->listeners[port] < 0
                     ? -1
                     : accept4(s->listeners[port], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 && !stream_add(s, port, fd, false, NULL))
            close(fd);
    }
}

static bool join_listener(struct opening *o)
{
    fcntl(o->fd, F_SETFL, fcntl(o->fd, F_GETFL) | O_NONBLOCK);
    o->s->accepting[o->port] = loop_add_fd(vm_loop(o->s->vm), o->fd, EPOLLIN, incoming, o->s, o->e);
    if (o->s->accepting[o->port])
        o->s->listeners[o->port] = o->fd;
    return o->s->accepting[o->port] != NULL;
}

static void do_join(void *ctx)
{
    struct opening *o = ctx;
    int listens = 0, type = 0;
    socklen_t len = sizeof listens;
    bool socket = getsockopt(o->fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0;
    len = sizeof listens;
    if (socket && getsockopt(o->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens)
        o->ok = join_listener(o);
    else
        o->ok = stream_add(o->s, o->port, o->fd, socket, o->e) != NULL;
}

bool worker_serial_join(struct worker_serial *s, unsigned port, int fd, err *e)
{
    struct opening o = {.s = s, .port = port, .fd = fd, .e = e};
    loop_call_wait(vm_loop(s->vm), do_join, &o);
    if (!o.ok)
        close(fd);
    return o.ok;
}

static void do_drain(void *ctx)
{
    struct worker_serial *s = ctx;
    s->draining = true;
    for (unsigned port = 0; port < MACHINE_SERIALS; port++)
        machine_serial_ready(vm_machine(s->vm), port);
    for (unsigned i = 0; i < STREAMS; i++)
        if (s->streams[i].fd >= 0 && s->streams[i].waited)
            shutdown(s->streams[i].fd, SHUT_WR);
}

void worker_serial_drain(struct worker_serial *s)
{
    if (s->vm)
        loop_call_wait(vm_loop(s->vm), do_drain, s);
}

/* ---- what clients open ---- */

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
    o->ok = stream_add(o->s, o->port, o->fd, false, o->e) != NULL;
    if (o->ok)
        copy_history(o);
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
