/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The network adapter against a guest that says anything. Byte 0, bit 0: only after an orderly
 * initialisation. Then steps: {u8 kind, u8 length, bytes}: 0 NVSP message, 1 RNDIS control message,
 * 2 RNDIS data in the send buffer, 3 the same in guest pages, 4 a completion, 5 a raw packet,
 * 6 a frame from the switch.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/vsp/netvsp-proto.h"
#include "core/vsp/netvsp.h"
#include "core/vsp/rndis-proto.h"
#include "fake-guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { RECV_PAGES = 64, SEND_PAGES = 16, PAGES = 4, STEPS = 64 };
static const struct guid class_id = NETVSP_CLASS;
static struct fake_guest *g;
static struct netvsp *adapter;
static uint64_t recv_gpa, send_gpa, page_gpa, kept;

static void ignore(void *ctx)
{
}

static char folder[] = "/tmp/vireo-fuzz-XXXXXX";

static void clean(void)
{
    struct device d = netvsp_as_device(adapter);
    d.ops->stop(d.self, ignore, NULL);
    d.ops->destroy(d.self);
    fake_guest_free(g);
}

static void make(void)
{
    err e = ERR_INIT;
    struct net_port_params pp = {.mac = {0, 0x15, 0x5d, 1, 2, 3}, .policy.spoofing = true};
    g = fake_guest_new(NULL);
    pp.loop = g->loop;
    struct net_port *port = net_port_new(&pp, &e);
    /* A switch without anybody on it: nothing of this leaves the process. */
    if (!mkdtemp(folder) || !port || !net_port_plug_private(port, folder, &e))
        abort();
    atexit(clean);
    struct netvsp_params p = {.bus = g->bus, .port = port, .queues = 2, .name = "fuzz"};
    p.instance = (struct guid){{1, 2, 3}};
    adapter = netvsp_new(&p, &e);
    if (!adapter)
        abort();
    struct device d = netvsp_as_device(adapter);
    d.ops->start(d.self);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    recv_gpa = fake_alloc(g, RECV_PAGES);
    send_gpa = fake_alloc(g, SEND_PAGES);
    page_gpa = fake_alloc(g, PAGES);
    kept = g->next_free;
}

static void say(struct fake_channel *ch, const void *msg, size_t len)
{
    struct fake_packet p;
    fake_send(ch, 9, true, msg, len);
    while (fake_poll(ch, &p))
        ;
}

static void rndis(struct fake_channel *ch, uint32_t channel, bool section, const uint8_t *data,
                  size_t len)
{
    struct nvsp_message m = {.type = NVSP_RNDIS};
    struct fake_range r = {page_gpa, (uint32_t)len};
    m.rndis.channel = channel;
    m.rndis.section = section ? 1 : NVSP_NO_SECTION;
    m.rndis.bytes = section ? (uint32_t)len : 0;
    memcpy(fake_ptr(g, section ? send_gpa + 6144 : page_gpa), data, len);
    if (section)
        fake_send(ch, 5, true, &m, sizeof m);
    else
        fake_send_gpa(ch, 5, &m, sizeof m, &r, 1);
}

static void initialise(struct fake_channel *ch)
{
    struct nvsp_message m = {.type = NVSP_INIT};
    m.init.min = m.init.max = NVSP_6_1;
    say(ch, &m, sizeof m);
    m = (struct nvsp_message){.type = NVSP_RECV_BUF};
    m.buf.gpadl = fake_gpadl(g, ch->relid, recv_gpa, RECV_PAGES * 4096);
    say(ch, &m, sizeof m);
    m = (struct nvsp_message){.type = NVSP_SEND_BUF};
    m.buf.gpadl = fake_gpadl(g, ch->relid, send_gpa, SEND_PAGES * 4096);
    say(ch, &m, sizeof m);
    const uint32_t init[6] = {RNDIS_INIT, 24, 4, 1, 0, 0x4000};
    rndis(ch, NVSP_CONTROL, false, (const uint8_t *)init, sizeof init);
    const uint32_t filter[8] = {RNDIS_SET, 32, 4, OID_CURRENT_PACKET_FILTER, 4, 20, 0, 0x2f};
    rndis(ch, NVSP_CONTROL, false, (const uint8_t *)filter, sizeof filter);
}

static void step(struct fake_channel *ch, uint8_t kind, const uint8_t *data, size_t len)
{
    struct fake_packet p;
    switch (kind % 7) {
    case 0: fake_send(ch, 7, kind & 0x80, data, len); break;
    case 1: rndis(ch, NVSP_CONTROL, false, data, len); break;
    case 2: rndis(ch, NVSP_DATA, true, data, len); break;
    case 3: rndis(ch, NVSP_DATA, false, data, len); break;
    case 4: fake_complete(ch, len ? data[0] : 0, data, len); break;
    case 5:
        if (len >= 16)
            fake_send_raw(ch, data, len & ~7u);
        break;
    default: {
        struct net_packet f = {.data = data, .len = (uint32_t)len, .mss = kind >> 3};
        if (len >= NET_ETH_HEADER)
            net_port_send(netvsp_port(adapter), &f);
        break;
    }
    }
    while (fake_poll(ch, &p))
        ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (!g)
        make();
    const struct vmbus_msg_offer *o = fake_offer_of(g, &class_id, 0);
    struct fake_channel *ch = o ? fake_open(g, o, 16, NULL) : NULL;
    if (!ch)
        abort();
    if (data[0] & 1)
        initialise(ch);
    size_t at = 1;
    for (unsigned n = 0; n < STEPS && at + 2 <= size; n++) {
        size_t len = MIN((size_t)data[at + 1], size - at - 2);
        step(ch, data[at], data + at + 2, len);
        at += 2 + len;
    }
    /* All anew for the next input: subchannels and GPADLs go with the connection. */
    fake_unload(g);
    fake_forget(ch);
    g->next_free = kept; /* the rings' pages are handed out again */
    g->message_count = 0;
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    return 0;
}
