/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Open channels: mapping rings, packets in and out, turns and signals. */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <sys/epoll.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vmbus/bus.h"

enum { DEFAULT_MAX_PACKET = 16384, MAX_SEND_PIECES = 8 };

static const char *name_of(const struct vmbus_channel *ch)
{
    return ch->dev->p.ops->name;
}

/* ---- attach and detach ---- */

/* control page, data pages of the guest's ring, control page, data pages of ours */
static bool map_rings(struct vmbus_channel *ch, struct vmbus_gpadl *g, uint32_t out_page)
{
    if (g->byte_offset || g->byte_count % HV_PAGE_SIZE || out_page < 2 || out_page > g->npfn - 2 ||
        g->npfn < 4 || out_page - 1 > MAX_RING_PAGES || g->npfn - out_page - 1 > MAX_RING_PAGES)
        return false;
    if (!vmbus_gpadl_pin(g))
        return false;
    ch->pages = malloc(g->npfn * sizeof *ch->pages);
    if (!ch->pages)
        return false;
    for (uint32_t i = 0; i < g->npfn; i++)
        ch->pages[i] = g->pins[i].ptr;
    vmbus_ring_init_in(&ch->in, ch->pages[0], ch->pages + 1, out_page - 1);
    vmbus_ring_init_out(&ch->out, ch->pages[out_page], ch->pages + out_page + 1,
                        g->npfn - out_page - 1);
    return true;
}

/* Edge-triggered, every signal is told whether the earlier ones were read or not: they are read
 * when somebody wants their number. */
static void on_event(void *ctx, uint32_t events)
{
    vmbus_schedule(ctx);
}

void vmbus_channel_count_signals(struct vmbus_channel *ch)
{
    uint64_t n;
    if (ch->event_fd >= 0 && read(ch->event_fd, &n, sizeof n) == (ssize_t)sizeof n)
        ch->stats.signals_in += n;
}

static bool bind_event(struct vmbus_channel *ch, err *e)
{
    struct vmbus *b = ch->bus;
    if (!b->t.bind_event)
        return true;
    ch->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (ch->event_fd < 0)
        return err_errno(e, errno, "The channel's event cannot be made");
    ch->source = loop_add_fd(b->loop, ch->event_fd, EPOLLIN | EPOLLET, on_event, ch, e);
    return ch->source && b->t.bind_event(b->t.ctx, ch->connection, ch->event_fd, e);
}

static void unbind_event(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    if (ch->event_fd < 0)
        return;
    b->t.unbind_event(b->t.ctx, ch->connection);
    vmbus_channel_count_signals(ch);
    loop_source_remove(TAKE(ch->source));
    auto_close(TAKE_FD(ch->event_fd));
}

bool vmbus_channel_attach(struct vmbus_channel *ch, struct vmbus_gpadl *g, uint32_t out_page)
{
    uint32_t max = ch->dev->p.max_packet ? ch->dev->p.max_packet : DEFAULT_MAX_PACKET;
    err e = ERR_INIT;
    ch->buf_size = align_up(max, 8);
    ch->buf = malloc(ch->buf_size);
    if (ch->buf && map_rings(ch, g, out_page) && bind_event(ch, &e)) {
        ch->ring_gpadl = g;
        ch->out_page = out_page;
        return true;
    }
    if (e.code)
        log_line(LOG_WARNING, "vmbus", "%s: %s", name_of(ch), e.text);
    vmbus_channel_detach(ch);
    return false;
}

void vmbus_channel_detach(struct vmbus_channel *ch)
{
    vmbus_unschedule(ch);
    unbind_event(ch);
    free(TAKE(ch->pages));
    free(TAKE(ch->buf));
    free(TAKE(ch->ranges));
    ch->in = ch->out = (struct vmbus_ring){0};
    ch->ring_gpadl = NULL;
    ch->ranges_room = 0;
    ch->broken = ch->paused = ch->signal_always = ch->signal_due = ch->wants_room = false;
}

void vmbus_channel_close(struct vmbus_channel *ch)
{
    struct vmbus_device *dev = ch->dev;
    ch->state = VMBUS_CHANNEL_OFFERED;
    vmbus_channel_detach(ch);
    dev->p.ops->closed(dev->p.ctx, ch);
    ch->data = NULL;
    for (unsigned i = 1; ch->index == 0 && i <= MAX_SUBCHANNELS; i++)
        if (dev->channels[i])
            vmbus_channel_rescind(dev->channels[i]);
}

/* ---- in ---- */

static void break_channel(struct vmbus_channel *ch, const char *what)
{
    ch->stats.errors++;
    if (!ch->broken)
        LOG_GUEST("vmbus", "%s channel %u: the guest broke the ring (%s); no more is read from it",
                  name_of(ch), ch->relid, what);
    ch->broken = true;
}

static bool reserve_ranges(struct vmbus_channel *ch, uint32_t n)
{
    if (n <= ch->ranges_room)
        return true;
    struct vmbus_range *more = realloc(ch->ranges, n * sizeof *more);
    if (!more)
        return false;
    ch->ranges = more;
    ch->ranges_room = n;
    return true;
}

static bool parse_gpa_ranges(struct vmbus_channel *ch, const uint8_t *p, const uint8_t *end,
                             uint32_t count, struct vmbus_packet *out)
{
    enum { LEAST = 8 };
    if (count > (size_t)(end - p) / LEAST || !reserve_ranges(ch, count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (end - p < LEAST)
            return false;
        struct vmbus_range *r = &ch->ranges[i];
        r->len = get_le32(p);
        r->offset = get_le32(p + 4);
        p += LEAST;
        uint64_t npfn = div_round_up((uint64_t)r->len + r->offset, HV_PAGE_SIZE);
        if (r->offset >= HV_PAGE_SIZE || npfn > (size_t)(end - p) / 8)
            return false;
        r->npfn = (uint32_t)npfn;
        r->pfn = (const uint64_t *)(const void *)p;
        p += npfn * 8;
        out->range_bytes += r->len;
    }
    out->ranges = ch->ranges;
    out->nranges = count;
    return true;
}

static bool parse_transfer_ranges(struct vmbus_channel *ch, const uint8_t *p, const uint8_t *end,
                                  uint32_t count, struct vmbus_packet *out)
{
    enum { BYTES = 8 };
    if (count > (size_t)(end - p) / BYTES || !reserve_ranges(ch, count))
        return false;
    for (uint32_t i = 0; i < count; i++, p += BYTES) {
        ch->ranges[i] = (struct vmbus_range){.len = get_le32(p), .offset = get_le32(p + 4)};
        out->range_bytes += ch->ranges[i].len;
    }
    out->ranges = ch->ranges;
    out->nranges = count;
    return true;
}

/* What stands between the descriptor and the payload. */
static bool parse_extra(struct vmbus_channel *ch, const uint8_t *p, const uint8_t *end,
                        struct vmbus_packet *out)
{
    enum { HEADER = 8 };
    if (out->type != VMBUS_PACKET_GPA_DIRECT && out->type != VMBUS_PACKET_TRANSFER_PAGES &&
        out->type != VMBUS_PACKET_GPADL)
        return out->type == VMBUS_PACKET_INBAND || out->type == VMBUS_PACKET_COMPLETION;
    if (end - p < HEADER)
        return false;
    uint32_t count = get_le32(p + 4);
    if (out->type == VMBUS_PACKET_GPA_DIRECT)
        return parse_gpa_ranges(ch, p + HEADER, end, count, out);
    if (out->type == VMBUS_PACKET_GPADL) {
        out->gpadl = get_le32(p);
        return true;
    }
    out->pageset = get_le16(p);
    return parse_transfer_ranges(ch, p + HEADER, end, count, out);
}

static bool parse(struct vmbus_channel *ch, size_t len, struct vmbus_packet *out)
{
    struct vmbus_descriptor d;
    memcpy(&d, ch->buf, sizeof d);
    size_t payload = d.offset8 * 8u;
    *out = (struct vmbus_packet){.type = d.type,
                                 .completion_requested = d.flags & VMBUS_FLAG_COMPLETION,
                                 .transaction_id = d.transaction_id};
    if (payload < sizeof d || payload > len)
        return false;
    out->payload = ch->buf + payload;
    out->len = (uint32_t)(len - payload);
    return parse_extra(ch, ch->buf + sizeof d, out->payload, out);
}

static void publish_read(struct vmbus_channel *ch)
{
    if (ch->in.control && vmbus_ring_publish_read(&ch->in))
        ch->signal_due = true;
}

static bool may_read(const struct vmbus_channel *ch)
{
    return ch->state == VMBUS_CHANNEL_OPEN && ch->bus->started && !ch->paused && !ch->broken &&
           ch->packets_left && ch->bytes_left;
}

static bool read_one(struct vmbus_channel *ch, size_t *len)
{
    switch (vmbus_ring_read(&ch->in, ch->buf, ch->buf_size, len)) {
    case VMBUS_RING_OK: return true;
    case VMBUS_RING_EMPTY: ch->drained = true; return false;
    default: break_channel(ch, "index or packet length"); return false;
    }
}

bool vmbus_channel_next(struct vmbus_channel *ch, struct vmbus_packet *out)
{
    size_t len;
    while (may_read(ch) && read_one(ch, &len)) {
        ch->packets_left--;
        ch->bytes_left -= (uint32_t)MIN(len, ch->bytes_left);
        ch->stats.packets_in++;
        ch->stats.bytes_in += len;
        if ((ch->in.own - ch->in.published + ch->in.size) % ch->in.size >= ch->in.size / 4)
            publish_read(ch);
        if (parse(ch, len, out))
            return true;
        ch->stats.errors++;
        LOG_GUEST("vmbus", "%s channel %u: malformed packet dropped", name_of(ch), ch->relid);
    }
    return false;
}

void vmbus_channel_pause(struct vmbus_channel *ch, bool paused)
{
    if (ch->state != VMBUS_CHANNEL_OPEN || ch->paused == paused)
        return;
    ch->paused = paused;
    if (!paused)
        vmbus_schedule(ch);
}

/* ---- turns ---- */

static void try_writable(struct vmbus_channel *ch)
{
    struct vmbus_device *dev = ch->dev;
    if (!ch->wants_room || !vmbus_ring_fits(&ch->out, ch->wanted))
        return;
    ch->wants_room = false;
    vmbus_ring_want_nothing(&ch->out);
    if (dev->p.ops->writable)
        dev->p.ops->writable(dev->p.ctx, ch);
}

static void read_turn(struct vmbus_channel *ch)
{
    struct vmbus_device *dev = ch->dev;
    ch->packets_left = PACKETS_PER_TURN;
    ch->bytes_left = BYTES_PER_TURN;
    ch->drained = false;
    vmbus_ring_mask(&ch->in);
    dev->p.ops->readable(dev->p.ctx, ch);
    if (ch->state != VMBUS_CHANNEL_OPEN)
        return;
    publish_read(ch);
    if (ch->broken || ch->paused)
        return;
    if (!ch->drained || vmbus_ring_unmask(&ch->in))
        vmbus_schedule(ch);
}

void vmbus_channel_turn(struct vmbus_channel *ch)
{
    vmbus_channel_hold_busy(ch); /* callbacks may remove the device */
    ch->in_turn = true;
    if (ch->state == VMBUS_CHANNEL_OPEN)
        try_writable(ch);
    if (ch->state == VMBUS_CHANNEL_OPEN && !ch->broken && !ch->paused)
        read_turn(ch);
    ch->in_turn = false;
    if (ch->signal_due && ch->state == VMBUS_CHANNEL_OPEN)
        vmbus_channel_signal(ch);
    ch->signal_due = false;
    vmbus_channel_release_busy(ch);
}

void vmbus_channel_signal(struct vmbus_channel *ch)
{
    struct vmbus *b = ch->bus;
    ch->stats.signals_out++;
    b->t.signal(b->t.ctx, ch->target_vp, (uint16_t)ch->relid);
}

/* ---- out ---- */

static void want_room(struct vmbus_channel *ch, size_t len)
{
    ch->stats.full++;
    ch->wanted = (uint32_t)MAX(len, ch->wants_room ? ch->wanted : 0);
    ch->wants_room = true;
    if (vmbus_ring_want_room(&ch->out, ch->wanted))
        vmbus_schedule(ch);
}

static bool send(struct vmbus_channel *ch, const struct iovec *iov, unsigned niov, size_t len)
{
    if (ch->state != VMBUS_CHANNEL_OPEN || ch->broken || len >= ch->out.size)
        return false;
    bool signal;
    switch (vmbus_ring_write(&ch->out, iov, niov, &signal)) {
    case VMBUS_RING_OK: break;
    case VMBUS_RING_FULL: want_room(ch, len); return false;
    default: break_channel(ch, "read index"); return false;
    }
    ch->stats.packets_out++;
    ch->stats.bytes_out += len;
    if (!signal && !ch->signal_always)
        return true;
    if (ch->in_turn && !ch->signal_always)
        ch->signal_due = true;
    else
        vmbus_channel_signal(ch);
    return true;
}

static bool send_packet(struct vmbus_channel *ch, uint16_t type, uint16_t flags, uint64_t id,
                        const struct iovec *extra, const struct iovec *payload, unsigned niov)
{
    struct vmbus_descriptor d = {.type = type, .flags = flags, .transaction_id = id};
    struct iovec iov[MAX_SEND_PIECES + 3] = {{.iov_base = &d, .iov_len = sizeof d}};
    unsigned n = 1;
    size_t len = sizeof d;
    for (; extra && n < 3; n++) {
        iov[n] = extra[n - 1];
        len += iov[n].iov_len;
    }
    size_t offset = len;
    if (niov > MAX_SEND_PIECES)
        return false;
    for (unsigned i = 0; i < niov; i++) {
        iov[n++] = payload[i];
        len += payload[i].iov_len;
    }
    if (len > 8u * UINT16_MAX)
        return false;
    d.offset8 = (uint16_t)(offset / 8);
    d.len8 = (uint16_t)div_round_up(len, 8);
    return send(ch, iov, n, len);
}

bool vmbus_sendv(struct vmbus_channel *ch, uint64_t id, bool want_completion,
                 const struct iovec *payload, unsigned niov)
{
    return send_packet(ch, VMBUS_PACKET_INBAND, want_completion ? VMBUS_FLAG_COMPLETION : 0, id,
                       NULL, payload, niov);
}

static struct iovec piece(const void *p, size_t len)
{
    return (struct iovec){.iov_base = (void *)(uintptr_t)p, .iov_len = len};
}

bool vmbus_send(struct vmbus_channel *ch, uint64_t id, bool want_completion, const void *payload,
                size_t len)
{
    struct iovec iov = piece(payload, len);
    return vmbus_sendv(ch, id, want_completion, &iov, 1);
}

bool vmbus_send_completion(struct vmbus_channel *ch, uint64_t id, const void *payload, size_t len)
{
    struct iovec iov = piece(payload, len);
    return send_packet(ch, VMBUS_PACKET_COMPLETION, 0, id, NULL, &iov, 1);
}

bool vmbus_send_transfer(struct vmbus_channel *ch, uint64_t id, uint16_t pageset,
                         const struct vmbus_transfer_range *ranges, unsigned nranges,
                         const void *payload, size_t len)
{
    struct vmbus_transfer_header h = {.pageset = pageset, .range_count = nranges};
    struct iovec extra[2] = {piece(&h, sizeof h), piece(ranges, nranges * sizeof *ranges)};
    struct iovec iov = piece(payload, len);
    return send_packet(ch, VMBUS_PACKET_TRANSFER_PAGES, VMBUS_FLAG_COMPLETION, id, extra, &iov, 1);
}

bool vmbus_channel_has_room(struct vmbus_channel *ch, size_t len)
{
    size_t packet = sizeof(struct vmbus_descriptor) + len;
    if (ch->state != VMBUS_CHANNEL_OPEN || ch->broken || packet >= ch->out.size)
        return false;
    if (vmbus_ring_fits(&ch->out, packet))
        return true;
    want_room(ch, packet);
    return false;
}

size_t vmbus_channel_room(struct vmbus_channel *ch)
{
    if (ch->state != VMBUS_CHANNEL_OPEN || ch->broken)
        return 0;
    uint32_t room = vmbus_ring_room(&ch->out);
    return room > sizeof(struct vmbus_descriptor) ? room - sizeof(struct vmbus_descriptor) : 0;
}

size_t vmbus_channel_unread(struct vmbus_channel *ch)
{
    return ch->state == VMBUS_CHANNEL_OPEN ? vmbus_ring_used(&ch->out) : 0;
}

void vmbus_channel_signal_always(struct vmbus_channel *ch, bool always)
{
    ch->signal_always = always;
}

/* ---- the rest ---- */

unsigned vmbus_channel_index(const struct vmbus_channel *ch)
{
    return ch->index;
}

unsigned vmbus_channel_target_vp(const struct vmbus_channel *ch)
{
    return ch->target_vp;
}

struct vmbus_device *vmbus_channel_device(const struct vmbus_channel *ch)
{
    return ch->dev;
}

bool vmbus_channel_is_open(const struct vmbus_channel *ch)
{
    return ch->state == VMBUS_CHANNEL_OPEN;
}

void vmbus_channel_set_data(struct vmbus_channel *ch, void *data)
{
    ch->data = data;
}

void *vmbus_channel_data(const struct vmbus_channel *ch)
{
    return ch->data;
}

void vmbus_channel_hold_busy(struct vmbus_channel *ch)
{
    if (!ch->busy++)
        ch->bus->busy_channels++;
}

void vmbus_channel_release_busy(struct vmbus_channel *ch)
{
    if (--ch->busy)
        return;
    ch->bus->busy_channels--;
    vmbus_no_longer_busy(ch);
}
