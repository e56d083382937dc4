/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Guest sockets: so many streams to a port whose program sends back what it gets. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "tests/e2e/drive.h"

struct echo {
    struct drive *d;
    int fd;
    uint64_t sent, got, total;
    uint32_t port;
    uint8_t seed;
    bool bad;
};

static void got_stream(void *ctx, int fd)
{
    struct echo *s = ctx;
    s->fd = fd;
    answer(s->d, fd < 0);
}
static void ask_stream(void *ctx)
{
    struct echo *s = ctx;
    err e = ERR_INIT;
    must(s->d, hvsock_connect_fd(s->d->v->sockets, s->port, 10000, got_stream, s, &e), &e);
}

static uint8_t pattern(const struct echo *s, uint64_t at)
{
    return (uint8_t)(at * 7 + (at >> 11) + s->seed);
}

static void echo_out(struct echo *s)
{
    uint8_t buf[16384];
    size_t n = (size_t)MIN((uint64_t)sizeof buf, s->total - s->sent);
    for (size_t i = 0; i < n; i++)
        buf[i] = pattern(s, s->sent + i);
    ssize_t w = write(s->fd, buf, n);
    s->sent += (uint64_t)MAX(w, 0);
    if (s->sent == s->total)
        shutdown(s->fd, SHUT_WR);
}
static void echo_in(struct echo *s)
{
    uint8_t buf[65536];
    ssize_t n = read(s->fd, buf, sizeof buf);
    for (ssize_t i = 0; i < n; i++)
        s->bad |= buf[i] != pattern(s, s->got + (uint64_t)i);
    if (n > 0) {
        s->got += (uint64_t)n;
    } else if (n == 0) {
        close(s->fd);
        s->fd = -1;
    }
}

void run_echo(struct drive *d, uint32_t port, unsigned streams, uint64_t bytes)
{
    struct echo *s = calloc(streams, sizeof *s);
    struct pollfd *p = calloc(streams, sizeof *p);
    unsigned open_streams = streams;
    for (unsigned i = 0; i < streams; i++) {
        s[i] = (struct echo){.d = d, .total = bytes, .port = port, .seed = (uint8_t)i, .fd = -1};
        on_io(d, ask_stream, &s[i]);
        if (wait_answer(d))
            die(d, "stream %u was not taken", i);
        fcntl(s[i].fd, F_SETFL, O_NONBLOCK);
    }
    uint64_t end = clock_ns() + d->timeout_s * UINT64_C(1000000000);
    while (open_streams) {
        for (unsigned i = 0; i < streams; i++)
            p[i] = (struct pollfd){.fd = s[i].fd,
                                   .events = POLLIN | (s[i].sent < s[i].total ? POLLOUT : 0)};
        poll(p, streams, 1000);
        open_streams = 0;
        for (unsigned i = 0; i < streams; i++) {
            if (s[i].fd >= 0 && (p[i].revents & POLLOUT) && s[i].sent < s[i].total)
                echo_out(&s[i]);
            if (s[i].fd >= 0 && (p[i].revents & (POLLIN | POLLHUP)))
                echo_in(&s[i]);
            open_streams += s[i].fd >= 0;
        }
        if (clock_ns() > end)
            die(d, "streams still open in %u s: %u", d->timeout_s, open_streams);
    }
    for (unsigned i = 0; i < streams; i++)
        if (s[i].bad || s[i].got != bytes)
            die(d, "stream %u: %llu of %llu bytes came back%s", i, (unsigned long long)s[i].got,
                (unsigned long long)bytes, s[i].bad ? ", and wrong ones" : "");
    free(s);
    free(p);
}

/* A port of the host on which everything is given back: a thread for each connection. */
static void *serve_one(void *arg)
{
    int fd = (int)(intptr_t)arg;
    static _Thread_local uint8_t buf[65536];
    ssize_t n;
    while ((n = read(fd, buf, sizeof buf)) > 0)
        for (ssize_t at = 0, w; at < n; at += w)
            if ((w = write(fd, buf + at, (size_t)(n - at))) <= 0)
                break;
    close(fd);
    return NULL;
}
static void on_guest(void *ctx, int fd, uint32_t guest_port)
{
    pthread_t t;
    if (pthread_create(&t, NULL, serve_one, (void *)(intptr_t)fd) == 0)
        pthread_detach(t);
}
void ask_serve(void *ctx)
{
    struct ask *a = ctx;
    a->ok = hvsock_listen_fd(a->d->v->sockets, (uint32_t)atoi(a->w[1]), on_guest, a->d, &a->e);
}

/* A stream that the guest's program leaves without a word. */
void expect_reset(struct drive *d, uint32_t port)
{
    struct echo s = {.d = d, .port = port, .fd = -1};
    char c;
    on_io(d, ask_stream, &s);
    if (wait_answer(d))
        die(d, "the stream was not taken");
    do_expect(d, "VSOCK-HANGS");
    do_send(d, "\n");
    struct pollfd p = {.fd = s.fd, .events = POLLIN};
    if (poll(&p, 1, (int)d->timeout_s * 1000) != 1 || read(s.fd, &c, 1) > 0)
        die(d, "the stream did not end");
    close(s.fd);
}

/* A stream that the host leaves while the guest's program writes. */
void drop_stream(struct drive *d, uint32_t port)
{
    struct echo s = {.d = d, .port = port, .fd = -1};
    static char buf[65536];
    on_io(d, ask_stream, &s);
    if (wait_answer(d))
        die(d, "the stream was not taken");
    do_expect(d, "VSOCK-POURS");
    if (recv(s.fd, buf, sizeof buf, MSG_WAITALL) != sizeof buf)
        die(d, "the stream gave too little");
    close(s.fd);
    do_expect(d, "VSOCK-RESET");
}
