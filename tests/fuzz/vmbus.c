/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A hostile guest against the bus: control messages, GPADLs, rings, signals, in any order, with
 * providers of every kind behind it. The first byte chooses which provider is in the middle; then
 * each step is a byte of what to do and its operands.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vsp/balloon.h"
#include "core/vsp/hvsock.h"
#include "core/vsp/integration.h"
#include "core/vsp/storvsp.h"
#include "fake-guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t n;
};
struct rig {
    struct fake_guest *g;
    struct storvsp *scsi;
    struct integration *ic;
    struct balloon *balloon;
    struct hvsock *hvsock;
    struct fake_channel *ch[4];
    uint64_t ram;
};

static uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes && in->n; i++, in->p++, in->n--)
        v |= (uint64_t)*in->p << i * 8;
    return v;
}

static size_t take_bytes(struct input *in, uint8_t *buf, size_t max)
{
    size_t want = (size_t)take(in, 1) * 4, n = MIN(want, MIN(max, in->n));
    memcpy(buf, in->p, n);
    in->p += n;
    in->n -= n;
    return n;
}

/* ---- host applications of streams ---- */

static void readable(void *ctx, struct hvsock_stream *s)
{
    size_t n;
    while (hvsock_peek(s, &n) && n)
        hvsock_consume(s, n);
}
static void writable(void *ctx, struct hvsock_stream *s)
{
}
static void closed(void *ctx, struct hvsock_stream *s, int reason)
{
}
static const struct hvsock_stream_ops stream_ops = {
    .readable = readable, .writable = writable, .closed = closed};
static bool accept_any(void *ctx, struct hvsock_stream *s, uint32_t host_port, uint32_t guest_port)
{
    hvsock_set_ops(s, &stream_ops, NULL);
    hvsock_write(s, "hello", 5);
    return true;
}

static bool add_ram(void *ctx, uint64_t gpa, uint64_t size, err *e)
{
    return err_set(e, ERR_NO_MEMORY, "none");
}
static uint64_t reference_time(void *ctx)
{
    return 1;
}
static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

static void rig_up(struct rig *r)
{
    log_set_sink(quiet, NULL);
    r->g = fake_guest_new(&(struct fake_params){.ram = MIB(4)});
    r->g->lenient = true;
    r->scsi = storvsp_new(&(struct storvsp_params){.bus = r->g->bus,
                                                   .instance = GUID(1, 2, 3, 4, 5),
                                                   .max_subchannels = 4},
                          NULL);
    storvsp_attach(r->scsi, 0, scsi_lun_new(&(struct scsi_lun_params){.kind = SCSI_DVD}, NULL),
                   NULL);
    r->ic = integration_new(&(struct integration_params){.bus = r->g->bus,
                                                         .services = INTEGRATION_ALL,
                                                         .reference_time = reference_time},
                            NULL);
    r->balloon = balloon_new(
        &(struct balloon_params){
            .bus = r->g->bus, .max_bytes = GIB(1), .hot_add_base = GIB(4), .add_ram = add_ram},
        NULL);
    r->hvsock = hvsock_new(r->g->bus, NULL);
    hvsock_listen(r->hvsock, 1, accept_any, NULL, NULL);
    struct device b = balloon_as_device(r->balloon);
    b.ops->start(b.self);
}

static void destroy(struct device d)
{
    d.ops->destroy(d.self);
}

static void rig_down(struct rig *r)
{
    for (unsigned i = 0; i < ARRAY_LEN(r->ch); i++)
        if (r->ch[i])
            fake_forget(r->ch[i]);
    destroy(hvsock_as_device(r->hvsock));
    destroy(balloon_as_device(r->balloon));
    destroy(integration_as_device(r->ic));
    destroy(storvsp_as_device(r->scsi));
    fake_guest_free(r->g);
}

/* ---- steps ---- */

static void raw_message(struct rig *r, struct input *in)
{
    uint8_t m[VMBUS_MESSAGE_MAX] = {0};
    put_le32(m, (uint32_t)take(in, 1) % 26);
    size_t n = take_bytes(in, m + 8, sizeof m - 8);
    fake_post(r->g, m, 8 + n);
}

static void open_one(struct rig *r, struct input *in)
{
    unsigned slot = take(in, 1) % ARRAY_LEN(r->ch), which = (unsigned)take(in, 1);
    if (!r->g->offer_count || r->g->next_free + (64 << 10) > r->g->ram_size)
        return;
    if (r->ch[slot])
        fake_close(r->ch[slot]);
    r->ch[slot] = fake_open(r->g, &r->g->offers[which % r->g->offer_count], 2 + which % 3, NULL);
}

static void raw_packet(struct rig *r, struct input *in, bool framed)
{
    uint8_t p[1024 + 16] = {0};
    struct fake_channel *ch = r->ch[take(in, 1) % ARRAY_LEN(r->ch)];
    uint16_t type = (uint16_t)take(in, 1) % 16, offset8 = (uint16_t)take(in, 1);
    size_t n = take_bytes(in, p + 16, sizeof p - 16);
    struct vmbus_descriptor d = {.type = framed && type & 1 ? 9
                                         : framed           ? 6
                                                            : type,
                                 .offset8 = framed && !(type & 1) ? 2 : offset8,
                                 .len8 = (uint16_t)div_round_up(16 + n, 8),
                                 .flags = type & 1,
                                 .transaction_id = type};
    memcpy(p, &d, sizeof d);
    if (ch)
        fake_send_raw(ch, p, 16 + n);
}

static void drain(struct rig *r)
{
    for (unsigned i = 0; i < ARRAY_LEN(r->ch); i++) {
        struct fake_channel *ch = r->ch[i];
        if (!ch) /* indices that the fuzzer spoilt are not for the guest's reader */
            continue;
        ch->in.control->read_index = ch->in.control->write_index;
        fake_signal(ch);
    }
    fake_settle(r->g);
}

/* A service's answer as a guest gives it: what was asked, edited. */
static void answer_service(struct rig *r, struct input *in)
{
    struct fake_channel *ch = r->ch[take(in, 1) % ARRAY_LEN(r->ch)];
    struct vmbus_ring_control *c = ch ? ch->in.control : NULL;
    if (!ch || c->read_index >= ch->in.size || c->write_index >= ch->in.size || c->read_index % 8 ||
        c->write_index % 8)
        return;
    struct fake_packet p;
    uint8_t m[8192];
    if (c->read_index == c->write_index || !fake_poll(ch, &p) || p.len > sizeof m)
        return;
    memcpy(m, p.payload, p.len);
    for (unsigned edits = (unsigned)take(in, 1) % 16; edits; edits--) {
        uint32_t at = (uint32_t)take(in, 1) % MAX(p.len, 1u);
        m[at] = (uint8_t)take(in, 1);
    }
    fake_send(ch, p.id, false, m, p.len);
}

static void spoil_ring(struct rig *r, struct input *in)
{
    struct fake_channel *ch = r->ch[take(in, 1) % ARRAY_LEN(r->ch)];
    unsigned which = (unsigned)take(in, 1);
    uint32_t v = (uint32_t)take(in, 4);
    if (!ch)
        return;
    uint32_t *f = &ch->out.control->write_index;
    if (which & 4)
        f = &ch->in.control->write_index;
    f[which & 3] = v;
    fake_signal(ch);
    fake_settle(r->g);
    if (which & 4 && (which & 3) == 0)
        f[0] = 0; /* the guest's own reader of this test trusts it */
}

static void step(struct rig *r, struct input *in)
{
    switch (take(in, 1) % 12) {
    case 0: raw_message(r, in); break;
    case 1:
    case 2: open_one(r, in); break;
    case 3: raw_packet(r, in, false); break;
    case 4:
    case 5: raw_packet(r, in, true); break;
    case 6: answer_service(r, in); break;
    case 7: spoil_ring(r, in); break;
    case 8: drain(r); break;
    case 9: fake_guest_connect(r->g, VMBUS_VERSION(5, 3)); break;
    case 10: {
        struct vmbus_msg_tl_connect m = {.h.type = VMBUS_MSG_TL_CONNECT};
        m.service = (struct guid)GUID(1, 0xfacb, 0x11e6, 0xbd58, 0x64006a7986d3);
        m.endpoint.b[0] = (uint8_t)take(in, 1);
        fake_post(r->g, &m, sizeof m);
        break;
    }
    default: balloon_set_target(r->balloon, 1 + take(in, 3) % MIB(4), NULL);
    }
    r->g->message_count = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, MIN(size, (size_t)8192)};
    struct rig r = {0};
    rig_up(&r);
    if (take(&in, 1) & 0x80 || fake_guest_connect(r.g, VMBUS_VERSION(5, 3)))
        while (in.n)
            step(&r, &in);
    rig_down(&r);
    return 0;
}
