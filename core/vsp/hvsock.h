/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * hv_sock: byte streams between host and guest by ports, which the guest sees as AF_VSOCK. Each
 * stream is a VMBus channel of its own. Streams of one connection of the bus: they end with it, and
 * a restored machine's guest sees all of them reset.
 *
 * Flow control is the rings': a side that does not read stops the other's writing. Nothing is
 * buffered here.
 * Sources: net/vmw_vsock/hyperv_transport.c of Linux 6.1.
 * Thread: the bus's loop.
 */
#ifndef VIREO_VSP_HVSOCK_H
#define VIREO_VSP_HVSOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/base/device.h"
#include "core/vmbus/vmbus.h"

struct hvsock;
struct hvsock_stream;

struct hvsock_stream_ops {
    /* The guest took the connection (host to guest). May be NULL. */
    void (*connected)(void *ctx, struct hvsock_stream *s);
    /* There is data, or the end of it: hvsock_peek. Not called again for data that was left. */
    void (*readable)(void *ctx, struct hvsock_stream *s);
    /* There is room again after a short or refused write. */
    void (*writable)(void *ctx, struct hvsock_stream *s);
    /* The stream is gone: 0 after an orderly end on both sides, else ETIMEDOUT (not accepted),
     * ECONNRESET. The last call; not made after hvsock_close or hvsock_reset. */
    void (*closed)(void *ctx, struct hvsock_stream *s, int reason);
};

struct hvsock *hvsock_new(struct vmbus *bus, err *e);
struct device hvsock_as_device(struct hvsock *h);

/* Connects to a port on which a guest program listens. ERR_STATE: no guest that could. */
struct hvsock_stream *hvsock_connect(struct hvsock *h, uint32_t port, unsigned timeout_ms,
                                     const struct hvsock_stream_ops *ops, void *ctx, err *e);

/* Guest programs connect to a port of the host. `accept` sets the stream's ops by
 * hvsock_set_ops and returns true, or refuses. ERR_EXISTS. */
typedef bool hvsock_accept_fn(void *ctx, struct hvsock_stream *s, uint32_t host_port,
                              uint32_t guest_port);
bool hvsock_listen(struct hvsock *h, uint32_t port, hvsock_accept_fn *accept, void *ctx, err *e);
/* The same; ctx is free()d when it is no longer needed. */
bool hvsock_listen_owned(struct hvsock *h, uint32_t port, hvsock_accept_fn *accept, void *ctx,
                         err *e);
void hvsock_unlisten(struct hvsock *h, uint32_t port);
/* For ports that nobody listens on; NULL: refused. */
void hvsock_listen_rest(struct hvsock *h, hvsock_accept_fn *accept, void *ctx);
void hvsock_set_ops(struct hvsock_stream *s, const struct hvsock_stream_ops *ops, void *ctx);

/* The bytes that are there; *len 0 and non-NULL: the guest has ended its side; NULL: none now.
 * Stays valid until consume. */
const void *hvsock_peek(struct hvsock_stream *s, size_t *len);
void hvsock_consume(struct hvsock_stream *s, size_t n);
/* Returns how many bytes went (perhaps fewer: then writable follows), -EAGAIN, -EPIPE. */
ssize_t hvsock_write(struct hvsock_stream *s, const void *buf, size_t len);
/* Ends our side: the guest reads to the end. */
void hvsock_shutdown(struct hvsock_stream *s);
/* Done with it: ends our side, throws away what comes, and goes when the guest has ended too. */
void hvsock_close(struct hvsock_stream *s);
/* Away at once; the guest sees a reset. */
void hvsock_reset(struct hvsock_stream *s);

uint32_t hvsock_port(const struct hvsock_stream *s);      /* the port that was connected to */
uint32_t hvsock_peer_port(const struct hvsock_stream *s); /* of the side that connected */
unsigned hvsock_count(const struct hvsock *h);            /* streams */
struct loop *hvsock_loop(const struct hvsock *h);
struct loop *hvsock_stream_loop(const struct hvsock_stream *s);

/*
 * Joins a stream and a descriptor (stream socket; taken): bytes and ends go both ways until both
 * are over. To be called when the stream is connected. `first` bytes are written to
 * the stream before what the descriptor gives. False: no memory, or more than a ring's first room;
 * then both are closed.
 */
bool hvsock_join_fd(struct hvsock_stream *s, int fd, const void *first, size_t nfirst, err *e);
/* The same in an accept callback: on failure fd is closed and the stream is to be refused. */
bool hvsock_join_accepted(struct hvsock_stream *s, int fd, err *e);
/* A connected stream as one end of a socket pair, for other threads: -1 is given to done on
 * failure. done owns fd. */
bool hvsock_connect_fd(struct hvsock *h, uint32_t port, unsigned timeout_ms,
                       void (*done)(void *ctx, int fd), void *ctx, err *e);
/* As hvsock_listen, each connection as one end of a socket pair. */
bool hvsock_listen_fd(struct hvsock *h, uint32_t port,
                      void (*accept)(void *ctx, int fd, uint32_t guest_port), void *ctx, err *e);

/*
 * Bridge to Unix sockets, as other VMMs have it: a client connects to `path`, sends "CONNECT
 * <port>\n" and gets "OK <its port>\n" and the stream; a guest that connects to a port that nobody
 * listens on gets the socket `path`_<port>, where there is one.
 */
struct hvsock_bridge;
struct hvsock_bridge *hvsock_bridge_new(struct hvsock *h, const char *path, err *e);
void hvsock_bridge_free(struct hvsock_bridge *b);

#endif
