/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/hvsock.h"

#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vmbus/vmbus-proto.h"
#include "core/vsp/hvsock-proto.h"

enum {
    MAX_STREAMS = 512,
    MAX_LISTENERS = 64,
    ACCEPT_MS = 60000, /* the guest asked, but never opens; busy ones take long over many */
    LINGER_MS = 60000, /* for the guest's end, after ours */
    DRAIN_MS = 20,     /* between looks whether the guest has read to the end */
    DRAIN_TRIES = 150, /* without progress */
    FIN_BYTES = 32,    /* in the ring */
    LEAST_WRITE = 512,
    FIRST_PORT = 0x40000000,
};
#define MS UINT64_C(1000000)

struct hvsock_stream {
    struct hvsock *h;
    const struct hvsock_stream_ops *ops; /* NULL: nobody cares any more */
    void *ctx;
    struct vmbus_device *dev;
    struct vmbus_channel *ch; /* NULL: not open yet, or no longer */
    uint32_t port, peer_port;
    struct guid endpoint; /* the guest's, if it asked */
    bool to_guest, opened;
    bool eof_in, eof_out, fin_due;
    bool blocked; /* a write was refused or short */
    const uint8_t *rx;
    size_t rx_len;
    struct loop_timer timer; /* until opened; then while lingering or draining */
    unsigned drain_tries;    /* not 0: both sides have ended, the guest may still be reading */
    size_t unread;
    struct hvsock_stream *prev, *next;
};

struct listener {
    uint32_t port;
    hvsock_accept_fn *accept;
    void *ctx;
    bool owned;
};

struct hvsock {
    struct vmbus *bus;
    struct hvsock_stream *streams;
    unsigned count;
    uint32_t next_port;
    bool running;
    struct listener listeners[MAX_LISTENERS];
    unsigned nlisteners;
    struct listener rest;
};

/* ---- streams end ---- */

static void unlink_stream(struct hvsock_stream *s)
{
    struct hvsock *h = s->h;
    *(s->prev ? &s->prev->next : &h->streams) = s->next;
    if (s->next)
        s->next->prev = s->prev;
    h->count--;
}

/* Frees the stream and takes its offer away. */
static void drop(struct hvsock_stream *s)
{
    struct vmbus_device *dev = s->dev;
    loop_timer_disarm(&s->timer);
    unlink_stream(s);
    s->dev = NULL;
    s->ch = NULL;
    s->ops = NULL;
    vmbus_device_remove(dev); /* `removed` frees the stream */
}

static void end(struct hvsock_stream *s, int reason)
{
    const struct hvsock_stream_ops *ops = s->ops;
    void *ctx = s->ctx;
    s->ops = NULL;
    if (ops)
        ops->closed(ctx, s, reason);
    drop(s);
}

/* Both sides have ended: the stream goes when the guest has read what it was sent, or does not. */
static void drain(struct hvsock_stream *s)
{
    size_t unread = vmbus_channel_unread(s->ch);
    if (unread < s->unread)
        s->drain_tries = 0;
    s->unread = unread;
    if (unread <= FIN_BYTES || ++s->drain_tries > DRAIN_TRIES)
        end(s, 0);
    else
        loop_timer_arm_in(&s->timer, DRAIN_MS * MS);
}

static bool both_ended(const struct hvsock_stream *s)
{
    return s->ch && s->eof_in && s->eof_out && !s->fin_due && !s->rx;
}

static void on_timer(void *ctx)
{
    struct hvsock_stream *s = ctx;
    if (both_ended(s))
        drain(s);
    else
        end(s, ETIMEDOUT);
}

/* At the timer's next chance, not from within a caller that goes on with the stream. */
static void maybe_over(struct hvsock_stream *s)
{
    if (both_ended(s) && !s->unread) {
        s->unread = SIZE_MAX;
        loop_timer_arm_in(&s->timer, 1);
    }
}

/* ---- writing ---- */

static bool send(struct hvsock_stream *s, const void *buf, size_t len)
{
    struct hvsock_header h = {.type = HVSOCK_DATA, .bytes = (uint32_t)len};
    struct iovec iov[2] = {{&h, sizeof h}, {(void *)(uintptr_t)buf, len}};
    return vmbus_sendv(s->ch, 0, false, iov, 2);
}

ssize_t hvsock_write(struct hvsock_stream *s, const void *buf, size_t len)
{
    size_t done = 0;
    if (s->eof_out || (!s->ch && s->opened))
        return -EPIPE;
    if (!s->ch || !s->h->running) {
        s->blocked = true;
        return -EAGAIN;
    }
    while (done < len) {
        size_t room = vmbus_channel_room(s->ch), left = len - done;
        size_t least = sizeof(struct hvsock_header) + MIN(left, (size_t)LEAST_WRITE);
        if (room < least) {
            s->blocked = true;
            if (!vmbus_channel_has_room(s->ch, least))
                break;
            continue;
        }
        size_t n = MIN(MIN(left, (size_t)HVSOCK_MAX_SEND), room - sizeof(struct hvsock_header));
        if (!send(s, (const uint8_t *)buf + done, n))
            break;
        done += n;
    }
    return done || !len ? (ssize_t)done : -EAGAIN;
}

static void send_fin(struct hvsock_stream *s)
{
    s->fin_due = !send(s, NULL, 0);
}

void hvsock_shutdown(struct hvsock_stream *s)
{
    if (s->eof_out || (!s->ch && s->opened))
        return;
    s->eof_out = true;
    s->fin_due = true;
    if (s->ch && s->h->running)
        send_fin(s);
    maybe_over(s);
}

/* ---- reading ---- */

/* Takes packets until one has data or the end. */
static void fill(struct hvsock_stream *s)
{
    struct vmbus_packet p;
    while (!s->rx && !s->eof_in && s->ch && vmbus_channel_next(s->ch, &p)) {
        struct hvsock_header h = {0};
        if (p.len >= sizeof h)
            memcpy(&h, p.payload, sizeof h);
        if (p.type != VMBUS_PACKET_INBAND || h.type != HVSOCK_DATA || h.bytes > p.len - sizeof h) {
            LOG_GUEST("hvsock", "malformed packet ignored");
            continue;
        }
        if (!h.bytes) {
            s->eof_in = true;
        } else if (s->ops) {
            s->rx = p.payload + sizeof h;
            s->rx_len = h.bytes;
        }
    }
}

const void *hvsock_peek(struct hvsock_stream *s, size_t *len)
{
    fill(s);
    *len = s->rx_len;
    return s->rx ? s->rx : s->eof_in ? (const void *)"" : NULL;
}

void hvsock_consume(struct hvsock_stream *s, size_t n)
{
    n = MIN(n, s->rx_len);
    s->rx += n;
    s->rx_len -= n;
    if (s->rx_len)
        return;
    s->rx = NULL;
    if (s->ch)
        vmbus_channel_pause(s->ch, false);
}

/* ---- the bus's callbacks ---- */

static bool on_opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct hvsock_stream *s = ctx;
    if (s->opened)
        return false; /* a stream is not opened twice */
    s->opened = true;
    s->ch = ch;
    loop_timer_disarm(&s->timer);
    vmbus_channel_signal_always(ch, true);
    return true;
}

/* There is room, or the channel has just been opened. */
static void make_way(struct hvsock_stream *s)
{
    if (s->fin_due) {
        send_fin(s);
        maybe_over(s);
    } else if (s->blocked) {
        s->blocked = false;
        if (s->ops)
            s->ops->writable(s->ctx, s);
    }
}

/* The guest closed, or the connection ended. Not called by our own removal: that forgets ch first.
 */
static void on_closed(void *ctx, struct vmbus_channel *ch)
{
    struct hvsock_stream *s = ctx;
    if (!s->ch)
        return;
    s->ch = NULL;
    s->rx = NULL;
    end(s, s->eof_in && s->eof_out ? 0 : ECONNRESET);
}

static void on_readable(void *ctx, struct vmbus_channel *ch)
{
    struct hvsock_stream *s = ctx;
    if (!s->dev)
        return;
    if (s->to_guest && s->ops && s->ops->connected) {
        s->to_guest = false;
        s->ops->connected(s->ctx, s);
        if (!s->ch)
            return;
    }
    if (s->blocked || s->fin_due)
        make_way(s);
    if (!s->ch)
        return;
    fill(s);
    if (s->ops && (s->rx || s->eof_in))
        s->ops->readable(s->ctx, s);
    if (!s->ch)
        return;
    if (s->rx)
        vmbus_channel_pause(ch, true); /* until it is consumed */
    maybe_over(s);
}

static void on_writable(void *ctx, struct vmbus_channel *ch)
{
    struct hvsock_stream *s = ctx;
    if (s->ch)
        make_way(s);
}

static void on_removed(void *ctx)
{
    struct hvsock_stream *s = ctx;
    if (s->dev) { /* the connection ended before the guest opened it */
        if (s->ops)
            s->ops->closed(s->ctx, s, ECONNRESET);
        loop_timer_disarm(&s->timer);
        unlink_stream(s);
    }
    free(s);
}

static const struct vmbus_provider_ops provider_ops = {
    .name = "hvsock",
    .opened = on_opened,
    .closed = on_closed,
    .readable = on_readable,
    .writable = on_writable,
    .removed = on_removed,
};

/* ---- streams begin ---- */

static struct hvsock_stream *new_stream(struct hvsock *h, err *e)
{
    if (h->count >= MAX_STREAMS) {
        err_set(e, ERR_BUSY, "The guest has too many connections");
        return NULL;
    }
    struct hvsock_stream *s = calloc(1, sizeof *s);
    if (!s) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for a connection to the guest");
        return NULL;
    }
    s->h = h;
    loop_timer_init(&s->timer, vmbus_loop(h->bus), on_timer, s);
    s->next = h->streams;
    if (s->next)
        s->next->prev = s;
    h->streams = s;
    h->count++;
    return s;
}

static void discard_stream(struct hvsock_stream *s)
{
    unlink_stream(s);
    free(s);
}

static bool offer(struct hvsock_stream *s, const struct guid *class_id, const struct guid *instance,
                  unsigned timeout_ms, err *e)
{
    struct vmbus_device_params p = {.class_id = *class_id,
                                    .instance = *instance,
                                    .flags = VMBUS_OFFER_ENUMERATE | VMBUS_OFFER_NAMED_PIPE |
                                             VMBUS_OFFER_TLNPI,
                                    .max_packet = HVSOCK_MAX_PACKET / 2,
                                    .transient = true,
                                    .ops = &provider_ops,
                                    .ctx = s};
    put_le32(p.user, VMBUS_PIPE_BYTE);
    p.user[HVSOCK_USER_FROM_HOST] = s->to_guest;
    put_le32(p.user + HVSOCK_USER_VERSION, 1);
    s->dev = vmbus_device_add(s->h->bus, &p, e);
    if (!s->dev)
        return false;
    loop_timer_arm_in(&s->timer, timeout_ms * MS);
    return true;
}

struct hvsock_stream *hvsock_connect(struct hvsock *h, uint32_t port, unsigned timeout_ms,
                                     const struct hvsock_stream_ops *ops, void *ctx, err *e)
{
    struct guid class_id = hvsock_template, instance;
    if (vmbus_version(h->bus) < VMBUS_VERSION(4, 0) || !h->running) {
        err_set(e, ERR_STATE, "No guest is there that could take a connection");
        return NULL;
    }
    struct hvsock_stream *s = new_stream(h, e);
    if (!s)
        return NULL;
    s->to_guest = true;
    s->port = port;
    s->peer_port = FIRST_PORT | (h->next_port++ & (FIRST_PORT - 1));
    s->ops = ops;
    s->ctx = ctx;
    guid_random(&instance);
    put_le32(class_id.b, port);
    put_le32(instance.b, s->peer_port);
    if (offer(s, &class_id, &instance, timeout_ms, e))
        return s;
    discard_stream(s);
    return NULL;
}

static const struct listener *listener_for(const struct hvsock *h, uint32_t port)
{
    for (unsigned i = 0; i < h->nlisteners; i++)
        if (h->listeners[i].port == port)
            return &h->listeners[i];
    return h->rest.accept ? &h->rest : NULL;
}

static bool is_service(const struct guid *g)
{
    return memcmp(g->b + 4, hvsock_template.b + 4, sizeof g->b - 4) == 0;
}

/* A guest that asks again from the same port has given up what it asked for before: it would never
 * open that. */
static void forget_unopened(struct hvsock *h, const struct guid *endpoint)
{
    for (struct hvsock_stream *s = h->streams; s; s = s->next)
        if (!s->to_guest && !s->opened && guid_equal(&s->endpoint, endpoint)) {
            end(s, ETIMEDOUT);
            return;
        }
}

static bool accept_guest(struct hvsock *h, const struct guid *endpoint, const struct guid *service)
{
    uint32_t port = get_le32(service->b);
    const struct listener *l = is_service(service) ? listener_for(h, port) : NULL;
    forget_unopened(h, endpoint);
    struct hvsock_stream *s = l ? new_stream(h, NULL) : NULL;
    if (!s)
        return false;
    s->port = port;
    s->peer_port = get_le32(endpoint->b);
    s->endpoint = *endpoint;
    if (!l->accept(l->ctx, s, port, s->peer_port)) {
        discard_stream(s);
        return false;
    }
    if (offer(s, service, endpoint, ACCEPT_MS, NULL))
        return true;
    if (s->ops)
        s->ops->closed(s->ctx, s, ECONNRESET);
    discard_stream(s);
    return false;
}

static void on_tl_connect(void *ctx, const struct guid *endpoint, const struct guid *service)
{
    struct hvsock *h = ctx;
    bool ok = accept_guest(h, endpoint, service);
    vmbus_tl_result(h->bus, endpoint, service, ok ? 0 : VMBUS_STATUS_CONNECTION_REFUSED);
}

static bool listen_on(struct hvsock *h, const struct listener *l, err *e)
{
    uint32_t port = l->port;
    for (unsigned i = 0; i < h->nlisteners; i++)
        if (h->listeners[i].port == port)
            return err_set(e, ERR_EXISTS, "The host's port %u for guests is in use", port);
    if (h->nlisteners == MAX_LISTENERS)
        return err_set(e, ERR_BUSY, "Too many of the host's ports for guests are in use");
    h->listeners[h->nlisteners++] = *l;
    return true;
}

bool hvsock_listen(struct hvsock *h, uint32_t port, hvsock_accept_fn *accept, void *ctx, err *e)
{
    return listen_on(h, &(struct listener){port, accept, ctx, false}, e);
}

bool hvsock_listen_owned(struct hvsock *h, uint32_t port, hvsock_accept_fn *accept, void *ctx,
                         err *e)
{
    return listen_on(h, &(struct listener){port, accept, ctx, true}, e);
}

void hvsock_unlisten(struct hvsock *h, uint32_t port)
{
    for (unsigned i = 0; i < h->nlisteners; i++)
        if (h->listeners[i].port == port) {
            if (h->listeners[i].owned)
                free(h->listeners[i].ctx);
            h->listeners[i] = h->listeners[--h->nlisteners];
            return;
        }
}

void hvsock_listen_rest(struct hvsock *h, hvsock_accept_fn *accept, void *ctx)
{
    h->rest = (struct listener){0, accept, ctx, false};
}

void hvsock_set_ops(struct hvsock_stream *s, const struct hvsock_stream_ops *ops, void *ctx)
{
    s->ops = ops;
    s->ctx = ctx;
}

void hvsock_close(struct hvsock_stream *s)
{
    s->ops = NULL;
    if (!s->ch) {
        drop(s);
        return;
    }
    s->rx = NULL;
    s->rx_len = 0;
    loop_timer_arm_in(&s->timer, LINGER_MS * MS);
    vmbus_channel_pause(s->ch, false);
    hvsock_shutdown(s);
    maybe_over(s);
}

void hvsock_reset(struct hvsock_stream *s)
{
    drop(s);
}

uint32_t hvsock_port(const struct hvsock_stream *s)
{
    return s->port;
}

uint32_t hvsock_peer_port(const struct hvsock_stream *s)
{
    return s->peer_port;
}

struct loop *hvsock_loop(const struct hvsock *h)
{
    return vmbus_loop(h->bus);
}

struct loop *hvsock_stream_loop(const struct hvsock_stream *s)
{
    return hvsock_loop(s->h);
}

unsigned hvsock_count(const struct hvsock *h)
{
    return h->count;
}

/* ---- life ---- */

struct hvsock *hvsock_new(struct vmbus *bus, err *e)
{
    struct hvsock *h = calloc(1, sizeof *h);
    if (!h) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for connections to the guest");
        return NULL;
    }
    h->bus = bus;
    h->running = true;
    vmbus_set_tl_connect(bus, on_tl_connect, h);
    return h;
}

static void hvsock_start(void *self)
{
    struct hvsock *h = self;
    h->running = true;
    for (struct hvsock_stream *s = h->streams, *next; s; s = next) {
        next = s->next;
        if (s->ch)
            make_way(s);
    }
}

static void hvsock_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct hvsock *h = self;
    h->running = false;
    done(ctx);
}

/* The bus ended every stream with the connection; a restored bus resets those of the saved one. */
static void hvsock_reset_device(void *self)
{
}
static void hvsock_save(void *self, struct state_writer *w)
{
}
static bool hvsock_restore(void *self, const struct state_reader *r, err *e)
{
    return true;
}

static void hvsock_destroy(void *self)
{
    struct hvsock *h = self;
    vmbus_set_tl_connect(h->bus, NULL, NULL);
    while (h->streams)
        end(h->streams, ECONNRESET);
    while (h->nlisteners)
        hvsock_unlisten(h, h->listeners[0].port);
    free(h);
}

static const struct device_ops ops = {
    .name = "guest sockets",
    .start = hvsock_start,
    .stop = hvsock_stop,
    .reset = hvsock_reset_device,
    .save = hvsock_save,
    .restore = hvsock_restore,
    .destroy = hvsock_destroy,
};

struct device hvsock_as_device(struct hvsock *h)
{
    return (struct device){.ops = &ops, .self = h};
}
