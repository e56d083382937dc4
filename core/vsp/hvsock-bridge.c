/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Streams joined to descriptors, and the bridge to Unix sockets. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/vsp/hvsock.h"

enum { JOIN_BUFFER = 16384, LINE_MAX_BYTES = 64, MAX_CLIENTS = 256, CONNECT_MS = 5000 };

/* ---- a stream and a descriptor ---- */

struct join {
    struct hvsock_stream *s;
    struct loop *loop;
    int fd;
    struct loop_source *source;
    bool fd_ended;   /* nothing more comes from the descriptor */
    bool fd_full;    /* the descriptor takes nothing now */
    bool told_ended; /* the descriptor has been told of the guest's end */
    size_t have, sent;
    uint8_t buf[JOIN_BUFFER]; /* from the descriptor, not yet taken by the stream */
};

static void join_free(struct join *j)
{
    loop_source_remove(j->source);
    close(j->fd);
    free(j);
}

static void update_events(struct join *j)
{
    if (!j->source)
        return;
    bool in = !j->fd_ended && j->have == j->sent;
    loop_source_set_events(j->source, (in ? EPOLLIN : 0u) | (j->fd_full ? EPOLLOUT : 0u));
}

/* The descriptor is broken: the guest sees a reset. */
static void join_break(struct join *j)
{
    hvsock_reset(j->s);
    join_free(j);
}

static void join_over(struct join *j)
{
    hvsock_close(j->s);
    join_free(j);
}

/* Pushes what was read into the stream; true if all went. */
static bool push(struct join *j)
{
    while (j->sent < j->have) {
        ssize_t n = hvsock_write(j->s, j->buf + j->sent, j->have - j->sent);
        if (n == -EPIPE)
            n = (ssize_t)(j->have - j->sent); /* the guest has closed: its end will be told */
        if (n <= 0)
            return false;
        j->sent += (size_t)n;
    }
    j->have = j->sent = 0;
    return true;
}

static void from_fd(struct join *j)
{
    while (!j->fd_ended && push(j)) {
        ssize_t n = recv(j->fd, j->buf, sizeof j->buf, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return;
        if (n <= 0) {
            j->fd_ended = true;
            hvsock_shutdown(j->s);
            return;
        }
        j->have = (size_t)n;
    }
}

/* False: the descriptor is broken. */
static bool to_fd(struct join *j)
{
    const void *p;
    size_t len;
    j->fd_full = false;
    while ((p = hvsock_peek(j->s, &len)) && len) {
        ssize_t n = send(j->fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            j->fd_full = true;
            return true;
        }
        if (n < 0)
            return false;
        hvsock_consume(j->s, (size_t)n);
    }
    if (p && !j->told_ended) {
        j->told_ended = true;
        shutdown(j->fd, SHUT_WR);
    }
    return true;
}

static void pump(struct join *j, bool in, bool out)
{
    if (out && !to_fd(j)) {
        join_break(j);
        return;
    }
    if (in)
        from_fd(j);
    if (j->fd_ended && j->told_ended)
        join_over(j);
    else
        update_events(j);
}

static void on_fd(void *ctx, uint32_t events)
{
    struct join *j = ctx;
    if (events & EPOLLERR) {
        join_break(j);
        return;
    }
    if ((events & EPOLLHUP) && j->fd_ended) { /* nobody is left to read what the guest sends */
        join_over(j);
        return;
    }
    if (events &
        EPOLLHUP) { /* would be reported for ever; the rest is read as the stream takes it */
        loop_source_remove(j->source);
        j->source = NULL;
    }
    pump(j, (events & (EPOLLIN | EPOLLHUP)) != 0, (events & EPOLLOUT) != 0);
}

static void on_readable(void *ctx, struct hvsock_stream *s)
{
    pump(ctx, false, true);
}

static void on_writable(void *ctx, struct hvsock_stream *s)
{
    pump(ctx, true, false);
}

static void on_closed(void *ctx, struct hvsock_stream *s, int reason)
{
    join_free(ctx);
}

static const struct hvsock_stream_ops join_ops = {
    .readable = on_readable, .writable = on_writable, .closed = on_closed};

static struct join *join_new(struct loop *loop, int fd, const void *first, size_t nfirst, err *e)
{
    struct join *j = nfirst <= JOIN_BUFFER ? malloc(sizeof *j) : NULL;
    if (!j) {
        close(fd);
        err_set(e, ERR_NO_MEMORY, "There is no memory for a connection to the guest");
        return NULL;
    }
    memset(j, 0, offsetof(struct join, buf));
    j->loop = loop;
    j->fd = fd;
    j->have = nfirst;
    if (nfirst)
        memcpy(j->buf, first, nfirst);
    j->source = loop_add_fd(loop, fd, EPOLLIN, on_fd, j, e);
    if (j->source)
        return j;
    close(fd);
    free(j);
    return NULL;
}

static bool join_stream(struct loop *loop, struct hvsock_stream *s, int fd, const void *first,
                        size_t nfirst, err *e)
{
    struct join *j = join_new(loop, fd, first, nfirst, e);
    if (!j)
        return false;
    j->s = s;
    hvsock_set_ops(s, &join_ops, j);
    push(j);
    update_events(j);
    return true;
}

bool hvsock_join_fd(struct hvsock_stream *s, int fd, const void *first, size_t nfirst, err *e)
{
    if (join_stream(hvsock_stream_loop(s), s, fd, first, nfirst, e))
        return true;
    hvsock_reset(s);
    return false;
}

bool hvsock_join_accepted(struct hvsock_stream *s, int fd, err *e)
{
    return join_stream(hvsock_stream_loop(s), s, fd, NULL, 0, e);
}

/* ---- socket pairs ---- */

static bool make_pair(int fd[2], err *e)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0)
        return true;
    return err_errno(e, errno, "A connection to the guest cannot be made");
}

struct pending {
    void (*done)(void *ctx, int fd);
    void *ctx;
};

static void pending_done(struct pending *p, int fd)
{
    p->done(p->ctx, fd);
    free(p);
}

static void pair_connected(void *ctx, struct hvsock_stream *s)
{
    int fd[2] = {-1, -1};
    if (!make_pair(fd, NULL))
        hvsock_reset(s);
    else if (!hvsock_join_fd(s, fd[0], NULL, 0, NULL))
        auto_close(TAKE_FD(fd[1]));
    pending_done(ctx, fd[1]);
}

static void nothing_yet(void *ctx, struct hvsock_stream *s)
{
}

static void pair_closed(void *ctx, struct hvsock_stream *s, int reason)
{
    pending_done(ctx, -1);
}

bool hvsock_connect_fd(struct hvsock *h, uint32_t port, unsigned timeout_ms,
                       void (*done)(void *ctx, int fd), void *ctx, err *e)
{
    static const struct hvsock_stream_ops ops = {.connected = pair_connected,
                                                 .readable = nothing_yet,
                                                 .writable = nothing_yet,
                                                 .closed = pair_closed};
    struct pending *p = malloc(sizeof *p);
    if (!p)
        return err_set(e, ERR_NO_MEMORY, "There is no memory for a connection to the guest");
    *p = (struct pending){done, ctx};
    if (hvsock_connect(h, port, timeout_ms, &ops, p, e))
        return true;
    free(p);
    return false;
}

struct fd_listener {
    void (*accept)(void *ctx, int fd, uint32_t guest_port);
    void *ctx;
};

static bool accept_pair(void *ctx, struct hvsock_stream *s, uint32_t host_port, uint32_t guest_port)
{
    struct fd_listener *l = ctx;
    int fd[2];
    if (!make_pair(fd, NULL))
        return false;
    if (!join_stream(hvsock_stream_loop(s), s, fd[0], NULL, 0, NULL)) {
        close(fd[1]);
        return false;
    }
    l->accept(l->ctx, fd[1], guest_port);
    return true;
}

bool hvsock_listen_fd(struct hvsock *h, uint32_t port,
                      void (*accept)(void *ctx, int fd, uint32_t guest_port), void *ctx, err *e)
{
    struct fd_listener *l = malloc(sizeof *l);
    if (!l)
        return err_set(e, ERR_NO_MEMORY, "There is no memory to listen for guests");
    *l = (struct fd_listener){accept, ctx};
    if (hvsock_listen_owned(h, port, accept_pair, l, e))
        return true;
    free(l);
    return false;
}

/* ---- the bridge ---- */

struct client {
    struct hvsock_bridge *b;
    int fd;
    struct loop_source *source;
    struct hvsock_stream *s; /* connecting */
    uint8_t line[LINE_MAX_BYTES];
    size_t have;
    size_t line_len;
    struct client *prev, *next;
};

struct hvsock_bridge {
    struct hvsock *h;
    struct loop *loop;
    int fd;
    struct loop_source *source;
    struct client *clients;
    unsigned nclients;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
};

/* Leaves the descriptor to the caller. */
static int client_free(struct client *c)
{
    struct hvsock_bridge *b = c->b;
    int fd = c->fd;
    loop_source_remove(c->source);
    *(c->prev ? &c->prev->next : &b->clients) = c->next;
    if (c->next)
        c->next->prev = c->prev;
    b->nclients--;
    free(c);
    return fd;
}

static void client_connected(void *ctx, struct hvsock_stream *s)
{
    struct client *c = ctx;
    char ok[32];
    int n = snprintf(ok, sizeof ok, "OK %u\n", hvsock_peer_port(s));
    uint8_t first[LINE_MAX_BYTES];
    size_t nfirst = c->have - c->line_len;
    memcpy(first, c->line + c->line_len, nfirst);
    int fd = client_free(c);
    if (send(fd, ok, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) != n) {
        close(fd);
        hvsock_reset(s);
        return;
    }
    hvsock_join_fd(s, fd, first, nfirst, NULL);
}

static void client_closed(void *ctx, struct hvsock_stream *s, int reason)
{
    close(client_free(ctx));
}

/* "CONNECT <port>" without the newline. */
static bool parse_connect(const char *line, uint32_t *port)
{
    static const char verb[] = "CONNECT ";
    char *end;
    if (strncmp(line, verb, sizeof verb - 1) != 0 || line[sizeof verb - 1] < '0' ||
        line[sizeof verb - 1] > '9')
        return false;
    errno = 0;
    unsigned long long v = strtoull(line + sizeof verb - 1, &end, 10);
    *port = (uint32_t)v;
    return !errno && v <= UINT32_MAX && (!*end || (end[0] == '\r' && !end[1]));
}

static bool client_request(struct client *c)
{
    static const struct hvsock_stream_ops ops = {.connected = client_connected,
                                                 .readable = nothing_yet,
                                                 .writable = nothing_yet,
                                                 .closed = client_closed};
    uint8_t *nl = memchr(c->line, '\n', c->have);
    char text[LINE_MAX_BYTES + 1];
    uint32_t port;
    if (!nl)
        return c->have < sizeof c->line;
    c->line_len = (size_t)(nl - c->line) + 1;
    memcpy(text, c->line, c->line_len - 1);
    text[c->line_len - 1] = 0;
    if (!parse_connect(text, &port))
        return false;
    loop_source_set_events(c->source, 0);
    c->s = hvsock_connect(c->b->h, port, CONNECT_MS, &ops, c, NULL);
    return c->s != NULL;
}

static void on_client(void *ctx, uint32_t events)
{
    struct client *c = ctx;
    if (c->s) { /* it went while the guest was asked */
        hvsock_reset(c->s);
        close(client_free(c));
        return;
    }
    ssize_t n = recv(c->fd, c->line + c->have, sizeof c->line - c->have, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        c->have += (size_t)n;
    if (n <= 0 || !client_request(c))
        close(client_free(c));
}

static void on_listen(void *ctx, uint32_t events)
{
    struct hvsock_bridge *b = ctx;
    int fd = accept4(b->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct client *c = b->nclients < MAX_CLIENTS ? calloc(1, sizeof *c) : NULL;
    if (c)
        c->source = loop_add_fd(b->loop, fd, EPOLLIN, on_client, c, NULL);
    if (!c || !c->source) {
        free(c);
        close(fd);
        return;
    }
    c->b = b;
    c->fd = fd;
    c->next = b->clients;
    if (c->next)
        c->next->prev = c;
    b->clients = c;
    b->nclients++;
}

/* A guest connects to a port that no service has: the socket beside the bridge's. */
static bool accept_to_socket(void *ctx, struct hvsock_stream *s, uint32_t host_port,
                             uint32_t guest_port)
{
    struct hvsock_bridge *b = ctx;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int n = snprintf(a.sun_path, sizeof a.sun_path, "%s_%u", b->path, host_port);
    AUTO(fd) fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n < 0 || (size_t)n >= sizeof a.sun_path || fd < 0 ||
        connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        return false;
    return join_stream(b->loop, s, TAKE_FD(fd), NULL, 0, NULL);
}

struct hvsock_bridge *hvsock_bridge_new(struct hvsock *h, const char *path, err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct hvsock_bridge *b = calloc(1, sizeof *b);
    if (!b) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for the bridge to guest sockets");
        return NULL;
    }
    if (snprintf(a.sun_path, sizeof a.sun_path, "%s", path) >= (int)sizeof a.sun_path - 12) {
        free(b);
        err_set(e, ERR_INVALID, "The path %s is too long for a socket", path);
        return NULL;
    }
    snprintf(b->path, sizeof b->path, "%s", path);
    b->h = h;
    b->loop = hvsock_loop(h);
    b->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    unlink(path);
    if (b->fd >= 0 && bind(b->fd, (struct sockaddr *)&a, sizeof a) == 0 && chmod(path, 0600) == 0 &&
        listen(b->fd, 16) == 0)
        b->source = loop_add_fd(b->loop, b->fd, EPOLLIN, on_listen, b, e);
    else
        err_errno(e, errno, "The socket %s cannot be made", path);
    if (!b->source) {
        auto_close(b->fd);
        free(b);
        return NULL;
    }
    hvsock_listen_rest(h, accept_to_socket, b);
    return b;
}

void hvsock_bridge_free(struct hvsock_bridge *b)
{
    if (!b)
        return;
    hvsock_listen_rest(b->h, NULL, NULL);
    while (b->clients) {
        struct client *c = b->clients;
        if (c->s)
            hvsock_reset(c->s);
        close(client_free(c));
    }
    loop_source_remove(b->source);
    close(b->fd);
    unlink(b->path);
    free(b);
}
