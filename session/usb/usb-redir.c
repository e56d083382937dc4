/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-redir.h"

#include <errno.h>
#include <linux/usb/ch9.h>
#include <stdlib.h>
#include <string.h>
#include <usbredirparser.h>

#include "core/base/log.h"

enum {
    ENDPOINTS = 32,
    /* Of a stream, that the guest has not asked for yet: as many packets as a URB may want. */
    ARRIVED_MAX = USBIP_PACKETS_MAX,
    ARRIVED_MAX_BYTES = 4 << 20,
    ISO_PACKETS = 8, /* a URB of the client's, and how many of these */
    ISO_URBS = 3,
    OUTPUT_MAX_BYTES = 64 << 20,
};

/* A packet of an interrupt or isochronous endpoint, which the client sends unasked. */
struct arrival {
    gint32 status;
    gsize len;
    guint8 data[];
};

struct endpoint {
    guint8 type; /* usb_redir_type_ */
    guint8 interval;
    gboolean streaming;
    GQueue arrived; /* of arrival */
    gsize arrived_bytes;
    GQueue waiting; /* of usbip_urb: the guest asked */
};

struct usb_redir {
    const struct usb_redir_ops *ops;
    void *ctx;
    struct usbredirparser *parser;
    usbip *link;
    struct usb_host_info info;
    gboolean plugged;
    struct endpoint endpoints[ENDPOINTS];
    GHashTable *asked; /* id -> usbip_urb: control, bulk, interrupt and isochronous output */
    GHashTable
        *paced; /* usbip_urb -> source id: isochronous output that is said to be done later */
    guint64 last_id;
    const guint8 *in; /* what is being fed */
    gsize in_left;
};

static guint index_of(guint8 endpoint, gboolean in)
{
    return (endpoint & 15) | (in ? 16 : 0);
}

static guint8 address_of(const struct usbip_urb *urb)
{
    return (guint8)(urb->endpoint | (urb->in ? 0x80 : 0));
}

static gint32 to_errno(guint8 status)
{
    switch (status) {
    case usb_redir_success: return 0;
    case usb_redir_cancelled: return -ECONNRESET;
    case usb_redir_inval: return -EINVAL;
    case usb_redir_stall: return -EPIPE;
    case usb_redir_timeout: return -ETIMEDOUT;
    case usb_redir_babble: return -EOVERFLOW;
    default: return -EPROTO;
    }
}

/* ---- to the client ---- */

static void flush(usb_redir *self)
{
    if (usbredirparser_has_data_to_write(self->parser))
        self->ops->output(self->ctx);
}

/* usb_redir_take's buffer while it runs. */
struct taking {
    guint8 *out;
    gsize room, done;
};
static _Thread_local struct taking *taking;

static int write_func(void *priv, uint8_t *data, int count)
{
    gsize n = taking ? MIN((gsize)count, taking->room - taking->done) : 0;
    if (n)
        memcpy(taking->out + taking->done, data, n);
    if (taking)
        taking->done += n;
    return (int)n;
}

gsize usb_redir_take(usb_redir *self, guint8 *out, gsize room)
{
    struct taking t = {out, room, 0};
    taking = &t;
    while (usbredirparser_has_data_to_write(self->parser) && t.done < t.room) {
        gsize before = t.done;
        if (usbredirparser_do_write(self->parser) != 0 || t.done == before)
            break;
    }
    taking = NULL;
    return t.done;
}

/* ---- completions ---- */

static void complete(usb_redir *self, struct usbip_urb *urb, gint32 status)
{
    urb->status = status;
    usbip_complete(self->link, urb);
}

/* The request with that number, which is no longer asked for; NULL: it was taken back. */
static struct usbip_urb *answered(usb_redir *self, guint64 id)
{
    gpointer urb = NULL;
    g_autofree guint64 *key = NULL;
    if (!g_hash_table_steal_extended(self->asked, &id, (gpointer *)&key, &urb))
        return NULL;
    return urb;
}

static guint64 ask(usb_redir *self, struct usbip_urb *urb)
{
    guint64 *key = g_new(guint64, 1);
    *key = ++self->last_id;
    g_hash_table_insert(self->asked, key, urb);
    return *key;
}

static void end_stream(usb_redir *self, struct endpoint *e, gint32 status)
{
    struct usbip_urb *urb;
    e->streaming = FALSE;
    g_queue_clear_full(&e->arrived, g_free);
    e->arrived_bytes = 0;
    while ((urb = g_queue_pop_head(&e->waiting)))
        complete(self, urb, status);
}

static void end_all(usb_redir *self, gint32 status)
{
    GHashTableIter i;
    gpointer urb;
    for (guint e = 0; e < ENDPOINTS; e++)
        end_stream(self, &self->endpoints[e], status);
    g_hash_table_iter_init(&i, self->asked);
    while (g_hash_table_iter_next(&i, NULL, &urb)) {
        g_hash_table_iter_remove(&i);
        complete(self, urb, status);
        g_hash_table_iter_init(&i, self->asked);
    }
    gpointer source;
    g_hash_table_iter_init(&i, self->paced);
    while (g_hash_table_iter_next(&i, &urb, &source)) {
        g_source_remove(GPOINTER_TO_UINT(source));
        g_hash_table_iter_remove(&i);
        complete(self, urb, status);
        g_hash_table_iter_init(&i, self->paced);
    }
}

/* ---- what the client says of the device ---- */

static void on_hello(void *priv, struct usb_redir_hello_header *hello)
{
}

static void on_interfaces(void *priv, struct usb_redir_interface_info_header *info)
{
}

static void on_endpoints(void *priv, struct usb_redir_ep_info_header *info)
{
    usb_redir *self = priv;
    for (guint i = 0; i < ENDPOINTS; i++) {
        struct endpoint *e = &self->endpoints[i];
        if (e->type != info->type[i])
            end_stream(self, e, -EPIPE);
        e->type = info->type[i];
        e->interval = info->interval[i];
    }
}

static void on_connect(void *priv, struct usb_redir_device_connect_header *c)
{
    static const guint32 speeds[] = {USB_SPEED_LOW, USB_SPEED_FULL, USB_SPEED_HIGH,
                                     USB_SPEED_SUPER};
    usb_redir *self = priv;
    if (self->plugged)
        return;
    self->plugged = TRUE;
    self->info = (struct usb_host_info){c->vendor_id, c->product_id,
                                        c->speed < G_N_ELEMENTS(speeds) ? speeds[c->speed]
                                                                        : (guint32)USB_SPEED_HIGH};
    self->ops->plugged(self->ctx, &self->info);
}

static void on_disconnect(void *priv)
{
    usb_redir *self = priv;
    if (!self->plugged)
        return;
    self->plugged = FALSE;
    end_all(self, -ENODEV);
    for (guint i = 0; i < ENDPOINTS; i++)
        self->endpoints[i].type = usb_redir_type_invalid;
    self->ops->unplugged(self->ctx); /* the parser acknowledges by itself */
}

/* ---- answers ---- */

static void on_configuration(void *priv, uint64_t id,
                             struct usb_redir_configuration_status_header *h)
{
    usb_redir *self = priv;
    struct usbip_urb *urb = answered(self, id);
    if (!urb)
        return;
    if (urb->in && urb->length) {
        urb->data[0] = h->configuration;
        urb->actual_length = 1;
    }
    complete(self, urb, to_errno(h->status));
}

static void on_alternate(void *priv, uint64_t id, struct usb_redir_alt_setting_status_header *h)
{
    usb_redir *self = priv;
    struct usbip_urb *urb = answered(self, id);
    if (!urb)
        return;
    if (urb->in && urb->length) {
        urb->data[0] = h->alt;
        urb->actual_length = 1;
    }
    complete(self, urb, to_errno(h->status));
}

/* `said`: what the client says that it took of output. */
static void answer(usb_redir *self, guint64 id, guint8 status, const guint8 *data, int len,
                   guint32 said)
{
    struct usbip_urb *urb = answered(self, id);
    if (urb) {
        guint32 n = urb->in ? (guint32)MAX(len, 0) : said;
        gint32 error = to_errno(status);
        if (n > urb->length) {
            n = urb->length;
            error = error ? error : -EOVERFLOW;
        }
        if (urb->in && n)
            memcpy(urb->data, data, n);
        urb->actual_length = n;
        complete(self, urb, error);
    }
}

static void on_control(void *priv, uint64_t id, struct usb_redir_control_packet_header *h,
                       uint8_t *data, int len)
{
    usb_redir *self = priv;
    answer(self, id, h->status, data, len, h->length);
    usbredirparser_free_packet_data(self->parser, data);
}

static void on_bulk(void *priv, uint64_t id, struct usb_redir_bulk_packet_header *h, uint8_t *data,
                    int len)
{
    usb_redir *self = priv;
    answer(self, id, h->status, data, len, h->length | (guint32)h->length_high << 16);
    usbredirparser_free_packet_data(self->parser, data);
}

/* ---- streams of input ---- */

static struct arrival *next_arrival(struct endpoint *e)
{
    struct arrival *a = g_queue_pop_head(&e->arrived);
    if (a)
        e->arrived_bytes -= a->len;
    return a;
}

static void fill_interrupt(struct usbip_urb *urb, const struct arrival *a)
{
    gsize n = MIN(a->len, (gsize)urb->length);
    memcpy(urb->data, a->data, n);
    urb->actual_length = (guint32)n;
    urb->status = a->status ? a->status : a->len > urb->length ? -EOVERFLOW : 0;
}

/* Isochronous: one arrival a packet. TRUE: the URB has all of its packets. */
static gboolean fill_packets(struct endpoint *e, struct usbip_urb *urb)
{
    gsize at = 0;
    if (g_queue_get_length(&e->arrived) < urb->packets)
        return FALSE;
    for (guint32 i = 0; i < urb->packets; i++) {
        struct usbip_packet *p = &urb->packet[i];
        g_autofree struct arrival *a = next_arrival(e);
        gsize n = MIN(a->len, (gsize)p->length);
        memcpy(urb->data + at, a->data, n);
        p->actual_length = (guint32)n;
        p->status = a->status;
        at += p->length;
    }
    urb->status = 0;
    return TRUE;
}

static void serve_waiting(usb_redir *self, struct endpoint *e)
{
    struct usbip_urb *urb;
    while ((urb = g_queue_peek_head(&e->waiting)) && !g_queue_is_empty(&e->arrived)) {
        if (e->type == usb_redir_type_iso) {
            if (!fill_packets(e, urb))
                return;
        } else {
            g_autofree struct arrival *a = next_arrival(e);
            fill_interrupt(urb, a);
        }
        g_queue_pop_head(&e->waiting);
        usbip_complete(self->link, urb);
    }
}

static void arrive(usb_redir *self, guint8 endpoint, guint8 status, uint8_t *data, int len)
{
    struct endpoint *e = &self->endpoints[index_of(endpoint, endpoint & 0x80)];
    gsize n = data ? (gsize)MAX(len, 0) : 0;
    if (e->streaming && self->link) {
        struct arrival *a = g_malloc(sizeof *a + n);
        a->status = to_errno(status);
        a->len = n;
        if (n)
            memcpy(a->data, data, n);
        while (g_queue_get_length(&e->arrived) >= ARRIVED_MAX ||
               (e->arrived_bytes && e->arrived_bytes + n > ARRIVED_MAX_BYTES))
            g_free(next_arrival(e));
        g_queue_push_tail(&e->arrived, a);
        e->arrived_bytes += n;
        serve_waiting(self, e);
    }
    usbredirparser_free_packet_data(self->parser, data);
}

static void on_interrupt(void *priv, uint64_t id, struct usb_redir_interrupt_packet_header *h,
                         uint8_t *data, int len)
{
    usb_redir *self = priv;
    if (h->endpoint & 0x80) {
        arrive(self, h->endpoint, h->status, data, len);
        return;
    }
    answer(self, id, h->status, NULL, 0, h->length);
    usbredirparser_free_packet_data(self->parser, data);
}

static void on_iso(void *priv, uint64_t id, struct usb_redir_iso_packet_header *h, uint8_t *data,
                   int len)
{
    if (h->endpoint & 0x80)
        arrive(priv, h->endpoint, h->status, data, len);
    else
        usbredirparser_free_packet_data(((usb_redir *)priv)->parser, data);
}

static void stream_status(usb_redir *self, guint8 endpoint, guint8 status)
{
    struct endpoint *e = &self->endpoints[index_of(endpoint, endpoint & 0x80)];
    if (status != usb_redir_success && e->streaming)
        end_stream(self, e, to_errno(status));
}

static void on_interrupt_status(void *priv, uint64_t id,
                                struct usb_redir_interrupt_receiving_status_header *h)
{
    stream_status(priv, h->endpoint, h->status);
}

static void on_iso_status(void *priv, uint64_t id, struct usb_redir_iso_stream_status_header *h)
{
    stream_status(priv, h->endpoint, h->status);
}

/* What is of no use here, or for the other side to hear: the parser calls whatever a client sends,
 * so that none may be missing. */
static void ignore(void *priv)
{
}

#define IGNORE(name, header)                                                                  \
    static void ignore_##name(void *priv, uint64_t id, struct usb_redir_##header##_header *h) \
    {                                                                                         \
    }
IGNORE(set_configuration, set_configuration)
IGNORE(set_alt_setting, set_alt_setting)
IGNORE(get_alt_setting, get_alt_setting)
IGNORE(start_iso, start_iso_stream)
IGNORE(stop_iso, stop_iso_stream)
IGNORE(start_interrupt, start_interrupt_receiving)
IGNORE(stop_interrupt, stop_interrupt_receiving)
IGNORE(alloc_streams, alloc_bulk_streams)
IGNORE(free_streams, free_bulk_streams)
IGNORE(streams_status, bulk_streams_status)
IGNORE(start_bulk, start_bulk_receiving)
IGNORE(stop_bulk, stop_bulk_receiving)
IGNORE(bulk_status, bulk_receiving_status)
#undef IGNORE

static void ignore_number(void *priv, uint64_t id)
{
}

static void ignore_filter(void *priv, struct usbredirfilter_rule *rules, int count)
{
    free(rules);
}

static void ignore_buffered(void *priv, uint64_t id,
                            struct usb_redir_buffered_bulk_packet_header *h, uint8_t *data, int len)
{
    usbredirparser_free_packet_data(((usb_redir *)priv)->parser, data);
}

static void set_ignored(struct usbredirparser *p)
{
    p->reset_func = ignore;
    p->filter_reject_func = ignore;
    p->device_disconnect_ack_func = ignore;
    p->filter_filter_func = ignore_filter;
    p->get_configuration_func = ignore_number;
    p->cancel_data_packet_func = ignore_number;
    p->set_configuration_func = ignore_set_configuration;
    p->set_alt_setting_func = ignore_set_alt_setting;
    p->get_alt_setting_func = ignore_get_alt_setting;
    p->start_iso_stream_func = ignore_start_iso;
    p->stop_iso_stream_func = ignore_stop_iso;
    p->start_interrupt_receiving_func = ignore_start_interrupt;
    p->stop_interrupt_receiving_func = ignore_stop_interrupt;
    p->alloc_bulk_streams_func = ignore_alloc_streams;
    p->free_bulk_streams_func = ignore_free_streams;
    p->bulk_streams_status_func = ignore_streams_status;
    p->start_bulk_receiving_func = ignore_start_bulk;
    p->stop_bulk_receiving_func = ignore_stop_bulk;
    p->bulk_receiving_status_func = ignore_bulk_status;
    p->buffered_bulk_packet_func = ignore_buffered;
}

static void on_log(void *priv, int level, const char *text)
{
    if (level <= usbredirparser_warning)
        LOG_GUEST("usb", "of a SPICE client's device: %s", text);
}

/* ---- what the guest asks ---- */

static void submit_control(usb_redir *self, struct usbip_urb *urb)
{
    struct usb_ctrlrequest r;
    memcpy(&r, urb->setup, sizeof r);
    guint16 value = GUINT16_FROM_LE(r.wValue), index = GUINT16_FROM_LE(r.wIndex);
    guint64 id = ask(self, urb);
    if (r.bRequestType == 0x00 && r.bRequest == USB_REQ_SET_CONFIGURATION) {
        struct usb_redir_set_configuration_header h = {(guint8)value};
        for (guint e = 0; e < ENDPOINTS; e++)
            end_stream(self, &self->endpoints[e], -EPIPE);
        usbredirparser_send_set_configuration(self->parser, id, &h);
    } else if (r.bRequestType == 0x80 && r.bRequest == USB_REQ_GET_CONFIGURATION) {
        usbredirparser_send_get_configuration(self->parser, id);
    } else if (r.bRequestType == 0x01 && r.bRequest == USB_REQ_SET_INTERFACE) {
        struct usb_redir_set_alt_setting_header h = {(guint8)index, (guint8)value};
        usbredirparser_send_set_alt_setting(self->parser, id, &h);
    } else if (r.bRequestType == 0x81 && r.bRequest == USB_REQ_GET_INTERFACE) {
        struct usb_redir_get_alt_setting_header h = {(guint8)index};
        usbredirparser_send_get_alt_setting(self->parser, id, &h);
    } else {
        guint16 length = (guint16)MIN(urb->length, (guint32)GUINT16_FROM_LE(r.wLength));
        struct usb_redir_control_packet_header h = {.endpoint = r.bRequestType & 0x80,
                                                    .request = r.bRequest,
                                                    .requesttype = r.bRequestType,
                                                    .value = value,
                                                    .index = index,
                                                    .length = length};
        usbredirparser_send_control_packet(self->parser, id, &h, urb->in ? NULL : urb->data,
                                           urb->in ? 0 : length);
    }
}

static void submit_bulk(usb_redir *self, struct usbip_urb *urb)
{
    gboolean large = usbredirparser_peer_has_cap(self->parser, usb_redir_cap_32bits_bulk_length);
    if (urb->length > G_MAXUINT16 && !large) {
        complete(self, urb, -ENOMEM);
        return;
    }
    struct usb_redir_bulk_packet_header h = {.endpoint = address_of(urb),
                                             .length = (guint16)urb->length,
                                             .length_high = (guint16)(urb->length >> 16)};
    usbredirparser_send_bulk_packet(self->parser, ask(self, urb), &h, urb->in ? NULL : urb->data,
                                    urb->in ? 0 : (int)urb->length);
}

static void submit_interrupt(usb_redir *self, struct endpoint *e, struct usbip_urb *urb)
{
    if (!urb->in) {
        struct usb_redir_interrupt_packet_header h = {
            .endpoint = address_of(urb), .length = (guint16)MIN(urb->length, G_MAXUINT16)};
        usbredirparser_send_interrupt_packet(self->parser, ask(self, urb), &h, urb->data, h.length);
        return;
    }
    if (!e->streaming) {
        struct usb_redir_start_interrupt_receiving_header h = {address_of(urb)};
        usbredirparser_send_start_interrupt_receiving(self->parser, ++self->last_id, &h);
        e->streaming = TRUE;
    }
    g_queue_push_tail(&e->waiting, urb);
    serve_waiting(self, e);
}

struct pacing {
    usb_redir *self;
    struct usbip_urb *urb;
};

static gboolean on_paced(gpointer data)
{
    struct pacing *p = data;
    g_hash_table_remove(p->self->paced, p->urb);
    complete(p->self, p->urb, 0);
    return G_SOURCE_REMOVE;
}

/* How long that many packets of an endpoint take, in ms. */
static guint duration_ms(const usb_redir *self, const struct endpoint *e, guint32 packets)
{
    guint interval = e->interval ? MIN(e->interval, 16u) : 1;
    guint64 us = self->info.speed >= USB_SPEED_HIGH ? UINT64_C(125) << (interval - 1)
                                                    : UINT64_C(1000) << (interval - 1);
    return (guint)MIN(packets * us / 1000, UINT64_C(10000));
}

static void submit_iso(usb_redir *self, struct endpoint *e, struct usbip_urb *urb)
{
    if (!e->streaming) {
        struct usb_redir_start_iso_stream_header h = {address_of(urb), ISO_PACKETS, ISO_URBS};
        usbredirparser_send_start_iso_stream(self->parser, ++self->last_id, &h);
        e->streaming = TRUE;
    }
    if (urb->in) {
        g_queue_push_tail(&e->waiting, urb);
        serve_waiting(self, e);
        return;
    }
    gsize at = 0;
    for (guint32 i = 0; i < urb->packets; i++) {
        struct usbip_packet *p = &urb->packet[i];
        struct usb_redir_iso_packet_header h = {.endpoint = address_of(urb),
                                                .length = (guint16)MIN(p->length, G_MAXUINT16)};
        usbredirparser_send_iso_packet(self->parser, ++self->last_id, &h, urb->data + at, h.length);
        p->actual_length = p->length;
        p->status = 0;
        at += p->length;
    }
    struct pacing *pacing = g_new(struct pacing, 1);
    *pacing = (struct pacing){self, urb};
    guint source = g_timeout_add_full(G_PRIORITY_DEFAULT, duration_ms(self, e, urb->packets),
                                      on_paced, pacing, g_free);
    g_hash_table_insert(self->paced, urb, GUINT_TO_POINTER(source));
}

void usb_redir_submit(void *ctx, struct usbip_urb *urb)
{
    usb_redir *self = ctx;
    struct endpoint *e = &self->endpoints[index_of(urb->endpoint, urb->in)];
    gboolean full = usbredirparser_get_bufferered_output_size(self->parser) > OUTPUT_MAX_BYTES;
    gint32 refused = !self->plugged ? -ENODEV : full ? -ENOMEM : 0;
    if (!refused && urb->endpoint && (e->type == usb_redir_type_iso) != (urb->packets > 0))
        refused = -EINVAL;
    if (refused)
        complete(self, urb, refused);
    else if (urb->endpoint == 0)
        submit_control(self, urb);
    else if (e->type == usb_redir_type_bulk)
        submit_bulk(self, urb);
    else if (e->type == usb_redir_type_interrupt)
        submit_interrupt(self, e, urb);
    else if (e->type == usb_redir_type_iso)
        submit_iso(self, e, urb);
    else
        complete(self, urb, -ENOENT);
    flush(self);
}

/* The client's late answer to what is taken back finds nobody. */
void usb_redir_cancel(void *ctx, struct usbip_urb *urb)
{
    usb_redir *self = ctx;
    struct endpoint *e = &self->endpoints[index_of(urb->endpoint, urb->in)];
    gpointer source = g_hash_table_lookup(self->paced, urb);
    if (source) {
        g_source_remove(GPOINTER_TO_UINT(source));
        g_hash_table_remove(self->paced, urb);
    } else if (!g_queue_remove(&e->waiting, urb)) {
        GHashTableIter i;
        gpointer key, value;
        g_hash_table_iter_init(&i, self->asked);
        while (g_hash_table_iter_next(&i, &key, &value))
            if (value == urb) {
                usbredirparser_send_cancel_data_packet(self->parser, *(guint64 *)key);
                g_hash_table_iter_remove(&i);
                break;
            }
        flush(self);
    }
    urb->actual_length = 0;
    complete(self, urb, -ECONNRESET);
}

/* ---- the connection ---- */

static int read_func(void *priv, uint8_t *data, int count)
{
    usb_redir *self = priv;
    gsize n = MIN((gsize)MAX(count, 0), self->in_left);
    if (n)
        memcpy(data, self->in, n);
    self->in += n;
    self->in_left -= n;
    return (int)n;
}

gboolean usb_redir_feed(usb_redir *self, const guint8 *bytes, gsize len)
{
    self->in = bytes;
    self->in_left = len;
    while (self->in_left)
        if (usbredirparser_do_read(self->parser) != 0)
            return FALSE;
    flush(self);
    return TRUE;
}

void usb_redir_set_link(usb_redir *self, usbip *link)
{
    self->link = link;
}

void usb_redir_reject(usb_redir *self)
{
    if (usbredirparser_have_peer_caps(self->parser) &&
        usbredirparser_peer_has_cap(self->parser, usb_redir_cap_filter))
        usbredirparser_send_filter_reject(self->parser);
    flush(self);
}

static void set_callbacks(usb_redir *self)
{
    struct usbredirparser *p = self->parser;
    p->priv = self;
    p->log_func = on_log;
    p->read_func = read_func;
    p->write_func = write_func;
    p->hello_func = on_hello;
    p->device_connect_func = on_connect;
    p->device_disconnect_func = on_disconnect;
    p->interface_info_func = on_interfaces;
    p->ep_info_func = on_endpoints;
    p->configuration_status_func = on_configuration;
    p->alt_setting_status_func = on_alternate;
    p->iso_stream_status_func = on_iso_status;
    p->interrupt_receiving_status_func = on_interrupt_status;
    p->control_packet_func = on_control;
    p->bulk_packet_func = on_bulk;
    p->iso_packet_func = on_iso;
    p->interrupt_packet_func = on_interrupt;
    set_ignored(p);
}

usb_redir *usb_redir_new(const struct usb_redir_ops *ops, void *ctx)
{
    static const int caps[] = {usb_redir_cap_connect_device_version,
                               usb_redir_cap_filter,
                               usb_redir_cap_device_disconnect_ack,
                               usb_redir_cap_ep_info_max_packet_size,
                               usb_redir_cap_64bits_ids,
                               usb_redir_cap_32bits_bulk_length};
    guint32 words[USB_REDIR_CAPS_SIZE] = {0};
    usb_redir *self = g_new0(usb_redir, 1);
    self->ops = ops;
    self->ctx = ctx;
    self->parser = usbredirparser_create();
    self->asked = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    self->paced = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < ENDPOINTS; i++)
        self->endpoints[i].type = usb_redir_type_invalid;
    set_callbacks(self);
    for (guint i = 0; i < G_N_ELEMENTS(caps); i++)
        usbredirparser_caps_set_cap(words, caps[i]);
    usbredirparser_init(self->parser, "vireo", words, USB_REDIR_CAPS_SIZE, 0);
    return self;
}

void usb_redir_free(usb_redir *self)
{
    end_all(self, -ENODEV);
    usbredirparser_destroy(self->parser);
    g_hash_table_unref(self->asked);
    g_hash_table_unref(self->paced);
    g_free(self);
}
