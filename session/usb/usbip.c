/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usbip.h"

#include <errno.h>
#include <string.h>

#define SETUP_SIZE 8
/* While more than this waits to be read by the guest, it gets no further. */
#define OUTPUT_MAX (8u << 20)
#define OUTPUT_REPLIES_MAX 512u

enum phase { COMMAND, DATA, SKIP_DATA, PACKETS, SKIP_PACKETS, ENDED };

/* A URB with what the connection needs to know of it, and later its reply. */
struct entry {
    struct usbip_urb urb;
    GList link;
    guint32 seqnum; /* as on the wire, as is the next */
    guint32 unlink_seqnum;
    bool unlinked;
    gint32 start_frame;
    guint8 setup[SETUP_SIZE];
    guint8 *memory;           /* what `data` points into */
    struct usbip_packet *raw; /* as on the wire */
    struct usbip_reply reply;
};

struct usbip {
    guint32 devid;
    struct usbip_ops ops;
    void *ctx;

    enum phase phase;
    gsize have; /* bytes of the present phase */
    struct usbip_command command;
    struct entry *coming;
    guint32 skip_packets; /* after SKIP_DATA */
    gsize skip;
    guint8 waste[4096];

    GQueue held;       /* of entry: with the backend */
    gsize held_bytes;  /* of these, those in `coming` and in `replies` */
    GQueue replies;    /* of entry */
    gsize reply_bytes; /* left to send */
    gsize sent;        /* of the first */
};

usbip *usbip_new(guint32 devid, const struct usbip_ops *ops, void *ctx)
{
    usbip *self = g_new0(usbip, 1);
    self->devid = devid;
    self->ops = *ops;
    self->ctx = ctx;
    g_queue_init(&self->held);
    g_queue_init(&self->replies);
    return self;
}

static gsize entry_bytes(const struct entry *e)
{
    return sizeof *e + e->urb.length + e->urb.packets * 2 * sizeof(struct usbip_packet);
}

static void entry_free(usbip *self, struct entry *e)
{
    self->held_bytes -= entry_bytes(e);
    g_free(e->memory);
    g_free(e->urb.packet);
    g_free(e->raw);
    g_free(e);
}

void usbip_free(usbip *self)
{
    g_assert(self->held.length == 0);
    usbip_cancel_all(self);
    g_free(self);
}

/* NULL: more than a guest may have, or no memory. */
static struct entry *entry_new(usbip *self, const struct usbip_command *c, guint32 length,
                               guint32 packets)
{
    if (length > USBIP_URB_BYTES_MAX || self->held.length >= USBIP_HELD_MAX ||
        self->held_bytes + length > USBIP_HELD_BYTES_MAX)
        return NULL;
    struct entry *e = g_new0(struct entry, 1);
    e->urb.length = length;
    e->urb.packets = packets;
    self->held_bytes += entry_bytes(e);
    e->memory = g_try_malloc0(SETUP_SIZE + (gsize)length);
    e->urb.packet = packets ? g_try_new0(struct usbip_packet, packets) : NULL;
    e->raw = packets ? g_try_new0(struct usbip_packet, packets) : NULL;
    if (!e->memory || (packets && (!e->urb.packet || !e->raw))) {
        entry_free(self, e);
        return NULL;
    }
    e->link.data = e;
    e->seqnum = c->seqnum;
    e->start_frame = (gint32)GUINT32_FROM_BE((guint32)c->submit.start_frame);
    memcpy(e->setup, c->submit.setup, SETUP_SIZE);
    memcpy(e->memory, c->submit.setup, SETUP_SIZE);
    e->urb.setup = e->setup;
    e->urb.data = e->memory + SETUP_SIZE;
    e->urb.endpoint = (guint8)GUINT32_FROM_BE(c->endpoint);
    e->urb.in = GUINT32_FROM_BE(c->direction) == USBIP_DIR_IN;
    e->urb.flags = GUINT32_FROM_BE(c->submit.flags);
    return e;
}

/* Puts the reply in line; `data` of it are sent behind the header, and the packets behind those. */
static void reply(usbip *self, struct entry *e, guint32 command, gint32 status)
{
    if (self->phase == ENDED) {
        entry_free(self, e);
        return;
    }
    e->reply.command = GUINT32_TO_BE(command);
    e->reply.status = (gint32)GUINT32_TO_BE((guint32)status);
    self->reply_bytes += sizeof e->reply;
    g_queue_push_tail_link(&self->replies, &e->link);
}

/* A reply that belongs to no URB that we kept. */
static void reply_bare(usbip *self, guint32 command, guint32 seqnum_be, gint32 status)
{
    struct entry *e = g_new0(struct entry, 1);
    e->link.data = e;
    e->reply.seqnum = seqnum_be;
    e->reply.packets = command == USBIP_RET_SUBMIT ? USBIP_NOT_ISOCHRONOUS : 0;
    self->held_bytes += entry_bytes(e);
    reply(self, e, command, status);
}

/* Sums up the packets' results, writes them as they travel, and closes the gaps in what was read.
 */
static guint32 pack_packets(struct entry *e, gint32 *errors)
{
    gsize from = 0, to = 0;
    *errors = 0;
    for (guint32 i = 0; i < e->urb.packets; i++) {
        struct usbip_packet *p = &e->urb.packet[i];
        guint32 actual = MIN(p->actual_length, p->length);
        if (e->urb.in && from != to)
            memmove(e->urb.data + to, e->urb.data + from, actual);
        from += p->length;
        to += actual;
        *errors += p->status != 0;
        e->raw[i] = (struct usbip_packet){
            .offset = GUINT32_TO_BE(p->offset),
            .length = GUINT32_TO_BE(p->length),
            .actual_length = GUINT32_TO_BE(actual),
            .status = (gint32)GUINT32_TO_BE((guint32)p->status),
        };
    }
    return (guint32)to;
}

void usbip_complete(usbip *self, struct usbip_urb *urb)
{
    struct entry *e = (struct entry *)urb; /* its first member */
    g_queue_unlink(&self->held, &e->link);
    if (e->unlinked && urb->status == -ECONNRESET) {
        e->reply.seqnum = e->unlink_seqnum;
        e->urb.in = false;
        e->urb.actual_length = 0;
        reply(self, e, USBIP_RET_UNLINK, -ECONNRESET);
        return;
    }
    guint32 unlink_seqnum = e->unlink_seqnum;
    bool unlinked = e->unlinked;
    gint32 errors = 0;
    urb->actual_length =
        urb->packets ? pack_packets(e, &errors) : MIN(urb->actual_length, urb->length);
    e->reply.seqnum = e->seqnum;
    e->reply.actual_length = (gint32)GUINT32_TO_BE(urb->actual_length);
    e->reply.start_frame = (gint32)GUINT32_TO_BE((guint32)e->start_frame);
    e->reply.packets = GUINT32_TO_BE(urb->packets ? urb->packets : USBIP_NOT_ISOCHRONOUS);
    e->reply.error_count = (gint32)GUINT32_TO_BE((guint32)errors);
    if (self->phase != ENDED)
        self->reply_bytes += (urb->in ? urb->actual_length : 0) + urb->packets * sizeof *e->raw;
    reply(self, e, USBIP_RET_SUBMIT, urb->status);
    if (unlinked)
        reply_bare(self, USBIP_RET_UNLINK, unlink_seqnum, 0);
}

static void submit(usbip *self, struct entry *e)
{
    self->coming = NULL;
    g_queue_push_tail_link(&self->held, &e->link);
    self->ops.submit(self->ctx, &e->urb);
}

/* Copies the packets together, so that they lie one after the other; FALSE if they cannot be right.
 */
static gboolean take_packets(struct entry *e)
{
    gsize total = 0;
    bool packed = true;
    for (guint32 i = 0; i < e->urb.packets; i++) {
        struct usbip_packet *p = &e->urb.packet[i];
        p->offset = GUINT32_FROM_BE(e->raw[i].offset);
        p->length = GUINT32_FROM_BE(e->raw[i].length);
        if (p->offset > e->urb.length || p->length > e->urb.length - p->offset)
            return FALSE;
        packed = packed && p->offset == total;
        total += p->length;
        if (total > e->urb.length)
            return FALSE;
    }
    if (packed || e->urb.in)
        return TRUE;
    g_autofree guint8 *copy = g_try_malloc(e->urb.length);
    if (!copy)
        return FALSE;
    memcpy(copy, e->urb.data, e->urb.length);
    gsize to = 0;
    for (guint32 i = 0; i < e->urb.packets; i++) {
        memcpy(e->urb.data + to, copy + e->urb.packet[i].offset, e->urb.packet[i].length);
        to += e->urb.packet[i].length;
    }
    return TRUE;
}

static void submit_packets(usbip *self)
{
    struct entry *e = self->coming;
    if (take_packets(e)) {
        submit(self, e);
        return;
    }
    guint32 seqnum = e->seqnum;
    self->coming = NULL;
    entry_free(self, e);
    reply_bare(self, USBIP_RET_SUBMIT, seqnum, -EINVAL);
}

static void data_is_there(usbip *self)
{
    self->have = 0;
    if (self->coming->urb.packets) {
        self->phase = PACKETS;
        return;
    }
    self->phase = COMMAND;
    submit(self, self->coming);
}

/* Reads past what a refused URB brings. */
static void skip(usbip *self, gsize data, guint32 packets)
{
    self->have = 0;
    self->skip = data;
    self->skip_packets = packets;
    self->phase = data ? SKIP_DATA : packets ? SKIP_PACKETS : COMMAND;
    if (!data)
        self->skip = packets * sizeof(struct usbip_packet);
}

static gboolean got_submit(usbip *self, const char **why)
{
    const struct usbip_command *c = &self->command;
    gint32 length = (gint32)GUINT32_FROM_BE((guint32)c->submit.length);
    guint32 packets = GUINT32_FROM_BE(c->submit.packets);
    bool out = GUINT32_FROM_BE(c->direction) == USBIP_DIR_OUT;
    if (packets == USBIP_NOT_ISOCHRONOUS)
        packets = 0;
    if (length < 0 || packets > USBIP_PACKETS_MAX) {
        *why = length < 0 ? "a negative length" : "too many packets";
        return FALSE;
    }
    self->coming = entry_new(self, c, (guint32)length, packets);
    if (!self->coming) {
        reply_bare(self, USBIP_RET_SUBMIT, c->seqnum, -ENOMEM);
        skip(self, out ? (gsize)length : 0, packets);
        return TRUE;
    }
    if (out && length > 0)
        self->phase = DATA;
    else
        data_is_there(self);
    return TRUE;
}

static void got_unlink(usbip *self)
{
    const struct usbip_command *c = &self->command;
    for (GList *l = self->held.head; l; l = l->next) {
        struct entry *e = l->data;
        if (e->seqnum != c->unlink.seqnum || e->unlinked)
            continue;
        e->unlinked = true;
        e->unlink_seqnum = c->seqnum;
        self->ops.cancel(self->ctx, &e->urb);
        return;
    }
    reply_bare(self, USBIP_RET_UNLINK, c->seqnum, 0);
}

static gboolean got_command(usbip *self, const char **why)
{
    const struct usbip_command *c = &self->command;
    guint32 command = GUINT32_FROM_BE(c->command);
    self->have = 0;
    if (GUINT32_FROM_BE(c->devid) != self->devid)
        *why = "a command for another device";
    else if (command == USBIP_CMD_UNLINK)
        got_unlink(self);
    else if (command != USBIP_CMD_SUBMIT)
        *why = "an unknown command";
    else if (GUINT32_FROM_BE(c->direction) > USBIP_DIR_IN || GUINT32_FROM_BE(c->endpoint) > 15)
        *why = "an endpoint that cannot be";
    else
        return got_submit(self, why);
    return *why == NULL;
}

/* The rest of what the present phase reads into. */
static gsize wanted(usbip *self, guint8 **to)
{
    guint8 *at = NULL;
    gsize size = 0;
    switch (self->phase) {
    case COMMAND:
        at = (guint8 *)&self->command;
        size = sizeof self->command;
        break;
    case DATA:
        at = self->coming->urb.data;
        size = self->coming->urb.length;
        break;
    case PACKETS:
        at = (guint8 *)self->coming->raw;
        size = self->coming->urb.packets * sizeof *self->coming->raw;
        break;
    case SKIP_DATA:
    case SKIP_PACKETS: *to = self->waste; return MIN(self->skip, sizeof self->waste);
    case ENDED: break;
    }
    *to = at + self->have;
    return size - self->have;
}

gsize usbip_input(usbip *self, guint8 **to)
{
    *to = NULL;
    if (self->phase == COMMAND &&
        (self->reply_bytes > OUTPUT_MAX || self->replies.length > OUTPUT_REPLIES_MAX))
        return 0;
    return wanted(self, to);
}

gboolean usbip_input_done(usbip *self, gsize n, const char **why)
{
    guint8 *unused;
    *why = NULL;
    g_return_val_if_fail(n <= wanted(self, &unused), FALSE);
    if (self->phase == SKIP_DATA || self->phase == SKIP_PACKETS) {
        self->skip -= n;
        if (self->skip == 0)
            skip(self, 0, self->phase == SKIP_DATA ? self->skip_packets : 0);
        return TRUE;
    }
    self->have += n;
    if (wanted(self, &unused) > 0)
        return TRUE;
    switch (self->phase) {
    case COMMAND: return got_command(self, why);
    case DATA: data_is_there(self); break;
    case PACKETS:
        self->have = 0;
        self->phase = COMMAND;
        submit_packets(self);
        break;
    default: break;
    }
    return TRUE;
}

/* The up to three parts of a reply. */
static int parts(struct entry *e, struct iovec part[3])
{
    int n = 0;
    part[n++] = (struct iovec){&e->reply, sizeof e->reply};
    if (e->reply.command != GUINT32_TO_BE(USBIP_RET_SUBMIT))
        return n;
    if (e->urb.in && e->urb.actual_length)
        part[n++] = (struct iovec){e->urb.data, e->urb.actual_length};
    if (e->urb.packets)
        part[n++] = (struct iovec){e->raw, e->urb.packets * sizeof *e->raw};
    return n;
}

int usbip_output(usbip *self, struct iovec *iov, int max)
{
    gsize past = self->sent;
    int n = 0;
    for (GList *l = self->replies.head; l && n + 3 <= max; l = l->next) {
        struct iovec part[3];
        int count = parts(l->data, part);
        for (int i = 0; i < count; i++) {
            gsize cut = MIN(past, part[i].iov_len);
            past -= cut;
            if (cut < part[i].iov_len)
                iov[n++] = (struct iovec){(guint8 *)part[i].iov_base + cut, part[i].iov_len - cut};
        }
    }
    return n;
}

void usbip_output_done(usbip *self, gsize n)
{
    self->reply_bytes -= n;
    self->sent += n;
    while (self->replies.head) {
        struct entry *e = self->replies.head->data;
        struct iovec part[3];
        gsize size = 0;
        for (int i = parts(e, part) - 1; i >= 0; i--)
            size += part[i].iov_len;
        if (self->sent < size)
            return;
        self->sent -= size;
        g_queue_unlink(&self->replies, &e->link);
        entry_free(self, e);
    }
}

guint usbip_held(const usbip *self)
{
    return self->held.length;
}

void usbip_cancel_all(usbip *self)
{
    self->phase = ENDED;
    self->have = 0;
    if (self->coming)
        entry_free(self, self->coming);
    self->coming = NULL;
    while (self->replies.head) {
        struct entry *e = self->replies.head->data;
        g_queue_unlink(&self->replies, &e->link);
        entry_free(self, e);
    }
    self->reply_bytes = self->sent = 0;
    GList *next;
    for (GList *l = self->held.head; l; l = next) {
        struct entry *e = l->data;
        next = l->next; /* a cancel completes at most its own URB at once */
        if (e->unlinked)
            continue;
        e->unlinked = true;
        self->ops.cancel(self->ctx, &e->urb);
    }
}
