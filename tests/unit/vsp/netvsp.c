/* SPDX-License-Identifier: GPL-3.0-or-later */
/* An adapter on a private switch, against a fake guest that speaks as Linux's netvsc does. */
#include "core/vsp/netvsp.h"

#include <unistd.h>

#include "../net/frames.h"
#include "core/base/checked.h"
#include "core/vsp/netvsp-priv.h"
#include "rig.h"

enum { RECV_PAGES = 512, SEND_PAGES = 32, MTU = 1500 };

static const struct guid class_id = NETVSP_CLASS;
static const struct guid instance = GUID(0x11223344, 0x5566, 0x7788, 0x99aa, 0xbbccddeeff00);
static struct rig rig;
static char folder[64];
static struct net_port *peer;
static struct {
    unsigned frames;
    uint32_t len;
    struct net_packet last;
    uint8_t data[NET_FRAME_MAX];
} heard;

struct guest {
    struct fake_channel *ch;
    uint64_t recv, send, control; /* guest addresses */
    uint32_t recv_gpadl, send_gpadl, sub_size, subs;
};
static struct guest guest;

/* ---- the peer ---- */

static bool peer_deliver(void *ctx, const struct net_packet *p)
{
    heard.frames++;
    heard.last = *p;
    memcpy(heard.data, p->data, p->len);
    return true;
}
static void nothing(void *ctx)
{
}
static void peer_link(void *ctx, bool up)
{
}
static const struct net_adapter_ops peer_ops = {peer_deliver, nothing, peer_link};

static struct net_port *make_port(const uint8_t *mac, const struct net_adapter_ops *ops)
{
    err e = ERR_INIT;
    struct net_port_params p = {.loop = rig.g->loop, .ops = ops};
    memcpy(p.mac, mac, 6);
    struct net_port *port = net_port_new(&p, &e);
    CHECK(net_port_plug_private(port, folder, &e));
    return port;
}

static struct device start(struct rig *r, unsigned queues, bool new_folder)
{
    err e = ERR_INIT;
    memset(&heard, 0, sizeof heard);
    rig_begin(r);
    if (new_folder) {
        strcpy(folder, "/tmp/vireo-net-XXXXXX");
        CHECK(mkdtemp(folder));
    }
    struct rig *was = &rig;
    CHECK(was->g != NULL);
    struct net_port_params pp = {.loop = r->g->loop};
    memcpy(pp.mac, guest_mac, 6);
    struct net_port *port = net_port_new(&pp, &e);
    CHECK(net_port_plug_private(port, folder, &e));
    struct netvsp_params p = {
        .bus = r->g->bus, .port = port, .instance = instance, .queues = queues, .name = "Wren"};
    struct netvsp *n = netvsp_new(&p, &e);
    CHECK(n != NULL);
    struct device d = netvsp_as_device(n);
    d.ops->start(d.self);
    return d;
}

static void end(struct device d)
{
    d.ops->destroy(d.self);
    net_port_free(peer);
    peer = NULL;
    rig_end(&rig);
}

static void turns(unsigned ms)
{
    uint64_t until = clock_ns() + ms * 1000000ull;
    do
        loop_turn(rig.g->loop, 2);
    while (clock_ns() < until);
}

/* ---- the guest's driver ---- */

static uint64_t next_id = 1;

static const uint8_t *ask(const struct nvsp_message *m)
{
    static struct fake_packet p;
    uint64_t id = next_id++;
    CHECK(fake_send(guest.ch, id, true, m, sizeof *m));
    CHECK(fake_recv(guest.ch, &p));
    CHECK_EQ(p.type, VMBUS_PACKET_COMPLETION);
    CHECK_EQ(p.id, id);
    CHECK_EQ(p.len, 40);
    return p.payload;
}

/* The RNDIS messages of one transfer packet, one after the other; completes it. */
static uint8_t messages[RECV_PAGES * 4096];
static unsigned nmessages;
static uint32_t message_at[600], message_len[600];

static bool receive(unsigned wait_ms)
{
    struct fake_packet p;
    bool any;
    uint64_t until = clock_ns() + wait_ms * 1000000ull;
    while (!(any = fake_poll(guest.ch, &p)) && clock_ns() < until)
        loop_turn(guest.ch->g->loop, 2);
    if (!any)
        return false;
    CHECK_EQ(p.type, VMBUS_PACKET_TRANSFER_PAGES);
    CHECK_EQ(get_le16(p.extra), NVSP_RECV_PAGESET);
    CHECK_EQ(get_le32(p.payload), NVSP_RNDIS);
    nmessages = get_le32(p.extra + 4);
    uint32_t at = 0;
    for (unsigned i = 0; i < nmessages; i++) {
        uint32_t len = get_le32(p.extra + 8 + i * 8), off = get_le32(p.extra + 12 + i * 8);
        CHECK(len <= guest.sub_size);
        CHECK(range_within(off, len, RECV_PAGES * 4096));
        memcpy(messages + at, (uint8_t *)fake_ptr(guest.ch->g, guest.recv) + off, len);
        CHECK_EQ(get_le32(messages + at + 4), len);
        message_at[i] = at;
        message_len[i] = len;
        at += len;
    }
    uint32_t done[2] = {NVSP_RNDIS_COMPLETE, NVSP_OK};
    uint64_t id = p.id;
    CHECK(fake_complete(guest.ch, id, done, sizeof done));
    return true;
}

static void send_control(const void *msg, uint32_t len)
{
    struct nvsp_message m = {.type = NVSP_RNDIS};
    struct fake_packet p;
    m.rndis.channel = NVSP_CONTROL;
    m.rndis.section = NVSP_NO_SECTION;
    memcpy(fake_ptr(guest.ch->g, guest.control), msg, len);
    struct fake_range r = {guest.control, len};
    CHECK(fake_send_gpa(guest.ch, 77, &m, sizeof m, &r, 1));
    CHECK(fake_recv(guest.ch, &p));
    CHECK_EQ(p.type, VMBUS_PACKET_COMPLETION);
    CHECK_EQ(get_le32(p.payload), NVSP_RNDIS_COMPLETE);
}

/* The answer, from its start. */
static const uint8_t *control(const void *msg, uint32_t len)
{
    send_control(msg, len);
    CHECK(receive(1000));
    CHECK_EQ(nmessages, 1);
    return messages;
}

static const uint8_t *query(uint32_t oid, const void *in, uint32_t in_len, uint32_t *len)
{
    uint8_t m[512] = {0};
    struct rndis_query q = {{RNDIS_QUERY, sizeof q + in_len}, 5, oid, in_len, 20, 0};
    memcpy(m, &q, sizeof q);
    memcpy(m + sizeof q, in, in_len);
    const uint8_t *a = control(m, q.head.length);
    CHECK_EQ(get_le32(a), RNDIS_QUERY | RNDIS_COMPLETE);
    CHECK_EQ(get_le32(a + 8), 5);
    *len = get_le32(a + 16);
    return a + 8 + get_le32(a + 20);
}

static uint32_t set(uint32_t oid, const void *in, uint32_t in_len)
{
    uint8_t m[1024] = {0};
    struct rndis_query q = {{RNDIS_SET, sizeof q + in_len}, 6, oid, in_len, 20, 0};
    memcpy(m, &q, sizeof q);
    memcpy(m + sizeof q, in, in_len);
    const uint8_t *a = control(m, q.head.length);
    CHECK_EQ(get_le32(a), RNDIS_SET | RNDIS_COMPLETE);
    return get_le32(a + 12);
}

static void bring_up(struct rig *r, uint32_t version, uint32_t mtu)
{
    struct nvsp_message m = {.type = NVSP_INIT};
    guest = (struct guest){0};
    guest.ch = rig_open(r, &class_id, 128);
    m.init.min = m.init.max = version;
    const uint8_t *a = ask(&m);
    CHECK_EQ(get_le32(a), NVSP_INIT_COMPLETE);
    CHECK_EQ(get_le32(a + 12), NVSP_OK);
    m = (struct nvsp_message){.type = NVSP_NDIS_CONFIG};
    m.ndis_config.mtu = mtu + NET_ETH_HEADER;
    CHECK(fake_send(guest.ch, UINT64_MAX - 2, false, &m, sizeof m));
    m = (struct nvsp_message){.type = NVSP_NDIS_VERSION};
    CHECK(fake_send(guest.ch, UINT64_MAX - 2, false, &m, sizeof m));

    guest.recv = fake_alloc(r->g, RECV_PAGES);
    guest.recv_gpadl = fake_gpadl(r->g, guest.ch->relid, guest.recv, RECV_PAGES * 4096);
    m = (struct nvsp_message){.type = NVSP_RECV_BUF};
    m.buf.gpadl = guest.recv_gpadl;
    a = ask(&m);
    CHECK_EQ(get_le32(a), NVSP_RECV_BUF_COMPLETE);
    CHECK_EQ(get_le32(a + 4), NVSP_OK);
    guest.sub_size = get_le32(a + 16);
    guest.subs = get_le32(a + 20);
    CHECK(guest.sub_size >= mtu + 14 + 44 && guest.sub_size * guest.subs <= RECV_PAGES * 4096);
    guest.send = fake_alloc(r->g, SEND_PAGES);
    guest.send_gpadl = fake_gpadl(r->g, guest.ch->relid, guest.send, SEND_PAGES * 4096);
    m = (struct nvsp_message){.type = NVSP_SEND_BUF};
    m.buf.gpadl = guest.send_gpadl;
    a = ask(&m);
    CHECK_EQ(get_le32(a + 4), NVSP_OK);
    CHECK_EQ(get_le32(a + 8), NETVSP_SECTION);
    guest.control = fake_alloc(r->g, 20);
}

static void rndis_up(void)
{
    const uint32_t init[6] = {RNDIS_INIT, 24, 4, 1, 0, 0x4000};
    const uint8_t *a = control(init, sizeof init);
    CHECK_EQ(get_le32(a), RNDIS_INIT | RNDIS_COMPLETE);
    CHECK_EQ(get_le32(a + 8), 4);
    CHECK_EQ(get_le32(a + 12), RNDIS_STATUS_SUCCESS);
    uint32_t filter = FILTER_DIRECTED | FILTER_BROADCAST | FILTER_ALL_MULTICAST;
    CHECK_EQ(set(OID_CURRENT_PACKET_FILTER, &filter, 4), RNDIS_STATUS_SUCCESS);
}

static struct device ready(unsigned queues, uint32_t version, uint32_t mtu)
{
    struct device d = start(&rig, queues, true);
    peer = make_port(other_mac, &peer_ops);
    net_port_start(peer);
    CHECK(fake_guest_connect(rig.g, VMBUS_VERSION(5, 3)));
    bring_up(&rig, version, mtu);
    rndis_up();
    return d;
}

/* An RNDIS message around a frame; returns its length. ppi: type, value, or 0xffffffff. */
static uint32_t wrap(uint8_t *out, const uint8_t *frame, uint32_t len, uint32_t ppi, uint32_t value)
{
    bool has = ppi != UINT32_MAX;
    struct rndis_packet r = {.head = {RNDIS_PACKET, 0}, .data_len = len};
    uint32_t at = sizeof r;
    if (has) {
        const uint32_t p[4] = {16, ppi, 12, value};
        memcpy(out + at, p, 16);
        r.ppi_offset = at - 8;
        r.ppi_len = 16;
        at += 16;
    }
    r.data_offset = at - 8;
    memcpy(out + at, frame, len);
    r.head.length = (uint32_t)align_up(at + len, 8);
    memcpy(out, &r, sizeof r);
    return r.head.length;
}

static uint8_t frame[NET_FRAME_MAX];

static uint32_t plain_frame(const uint8_t *to, uint8_t fill, uint32_t len)
{
    put_eth(frame, to, guest_mac, 0x88b5);
    memset(frame + 14, fill, len - 14);
    return len;
}

static void expect_completion(uint64_t id)
{
    struct fake_packet p;
    CHECK(fake_recv(guest.ch, &p));
    CHECK_EQ(p.type, VMBUS_PACKET_COMPLETION);
    CHECK_EQ(p.id, id);
    CHECK_EQ(get_le32(p.payload), NVSP_RNDIS_COMPLETE);
    CHECK_EQ(get_le32(p.payload + 4), NVSP_OK);
}

/* ---- tests ---- */

static void versions_and_objects(void)
{
    uint32_t len;
    struct device d = start(&rig, 1, true);
    CHECK(fake_guest_connect(rig.g, VMBUS_VERSION(5, 3)));
    guest.ch = rig_open(&rig, &class_id, 128);
    struct nvsp_message m = {.type = NVSP_INIT};
    m.init.max = 0x70000;
    CHECK(get_le32(ask(&m) + 12) != NVSP_OK);
    CHECK(fake_close(guest.ch));
    bring_up(&rig, NVSP_6_1, MTU);
    rndis_up();
    const uint8_t *a = query(OID_PERMANENT_ADDRESS, NULL, 0, &len);
    CHECK(len == 6 && memcmp(a, guest_mac, 6) == 0);
    a = query(OID_FRIENDLY_NAME, NULL, 0, &len);
    CHECK(len == 8 && a[0] == 'W' && a[1] == 0 && a[6] == 'n');
    a = query(OID_MAXIMUM_FRAME_SIZE, NULL, 0, &len);
    CHECK(len == 4 && get_le32(a) >= 1500);
    a = query(OID_MEDIA_CONNECT_STATUS, NULL, 0, &len);
    CHECK(len == 4 && get_le32(a) == 0);
    struct ndis_offload o = {.head = {NDIS_TYPE_OFFLOAD, 3, sizeof o}};
    a = query(OID_OFFLOAD_CAPABILITIES, &o, sizeof o, &len);
    CHECK_EQ(len, 156);
    memcpy(&o, a, sizeof o);
    CHECK(o.head.type == 0xa7 && o.head.size == 156);
    CHECK_EQ(o.csum.ip4_tx & 0x54, 0x54);
    CHECK_EQ(o.csum.ip6_tx & 0x55, 0x55);
    CHECK(o.lso2.ip4_encap & 2 && o.lso2.ip6_encap & 2 && o.lso2.ip4_max > 60000);
    a = query(OID_OFFLOAD_CAPABILITIES, &o, 112, &len); /* an older guest's structure */
    CHECK(len == 112 && get_le16(a + 2) == 112);
    query(0x7777, NULL, 0, &len);
    CHECK_EQ(len, 0);
    CHECK_EQ(set(0x7777, &len, 4), RNDIS_STATUS_NOT_SUPPORTED);
    struct ndis_offload_parameters op = {
        .head = {NDIS_TYPE_DEFAULT, 3, sizeof op}, .tcp4_csum = 4, .udp4_csum = 4};
    CHECK_EQ(set(OID_OFFLOAD_PARAMETERS, &op, sizeof op), RNDIS_STATUS_SUCCESS);
    /* Another address is the switch's policy to allow. */
    uint8_t cfg[20 + 28 + 24] = {20, 0, 0, 0, 28, 0, 0, 0, 2, 0, 0, 0, 48, 0, 0, 0, 24};
    for (unsigned i = 0; i < 14; i++)
        cfg[20 + i * 2] = (uint8_t) "NetworkAddress"[i];
    for (unsigned i = 0; i < 12; i++)
        cfg[48 + i * 2] = (uint8_t) "00155dAABBCC"[i];
    CHECK_EQ(set(OID_CONFIG_PARAMETER, cfg, sizeof cfg), RNDIS_STATUS_FAILURE);
    net_port_set_policy(netvsp_port(d.self), &(struct net_policy){.spoofing = true}, NULL);
    CHECK_EQ(set(OID_CONFIG_PARAMETER, cfg, sizeof cfg), RNDIS_STATUS_SUCCESS);
    a = query(OID_CURRENT_ADDRESS, NULL, 0, &len);
    CHECK(a[5] == 0xcc);
    CHECK(fake_close(guest.ch));
    end(d);
}

static void frames_by_section_by_pages_and_by_both(void)
{
    struct device d = ready(1, NVSP_6_1, MTU);
    uint8_t *section = (uint8_t *)fake_ptr(rig.g, guest.send) + 2 * NETVSP_SECTION;
    struct nvsp_message m = {.type = NVSP_RNDIS};
    /* (a) three messages in one section */
    uint32_t at = 0;
    for (unsigned i = 0; i < 3; i++)
        at += wrap(section + at, frame, plain_frame(other_mac, (uint8_t)i, 60 + i), UINT32_MAX, 0);
    m.rndis.section = 2;
    m.rndis.bytes = at;
    CHECK(fake_send(guest.ch, 501, true, &m, sizeof m));
    expect_completion(501);
    turns(20);
    CHECK_EQ(heard.frames, 3);
    CHECK(heard.last.len == 62 && heard.data[20] == 2);
    /* (b) all in guest pages */
    uint8_t *page = fake_ptr(rig.g, guest.control);
    uint32_t len = wrap(page, frame, plain_frame(other_mac, 0x33, 1514), UINT32_MAX, 0);
    m.rndis.section = NVSP_NO_SECTION;
    m.rndis.bytes = 0;
    struct fake_range r[2] = {{guest.control, 100}, {guest.control + 100, len - 100}};
    CHECK(fake_send_gpa(guest.ch, 502, &m, sizeof m, r, 2));
    expect_completion(502);
    turns(20);
    CHECK(heard.frames == 4 && heard.last.len == 1514 && heard.data[1513] == 0x33);
    /* (c) a whole message and the header of another in the section, its data in pages */
    at = wrap(section, frame, plain_frame(other_mac, 0x44, 100), UINT32_MAX, 0);
    len = wrap(page, frame, plain_frame(other_mac, 0x55, 1200), UINT32_MAX, 0);
    memcpy(section + at, page, 44);
    m.rndis.section = 2;
    m.rndis.bytes = at + 44;
    r[0] = (struct fake_range){guest.control + 44, len - 44};
    CHECK(fake_send_gpa(guest.ch, 503, &m, sizeof m, r, 1));
    expect_completion(503);
    turns(20);
    CHECK(heard.frames == 6 && heard.last.len == 1200 && heard.data[1199] == 0x55);
    CHECK(fake_close(guest.ch));
    end(d);
}

static void offloads_from_the_guest(void)
{
    struct device d = ready(1, NVSP_6_1, MTU);
    struct nvsp_message m = {.type = NVSP_RNDIS};
    m.rndis.section = NVSP_NO_SECTION;
    uint8_t *page = fake_ptr(rig.g, guest.control);
    /* a checksum to be filled */
    put_eth(frame, other_mac, guest_mac, 0x800);
    size_t at = put_ipv4(frame, 6, "10.0.0.1", "10.0.0.2", 20 + 100);
    uint32_t n = (uint32_t)put_tcp(frame, at, 1, 2, 3, 0x10, messages, 100);
    uint32_t len =
        wrap(page, frame, n, PPI_CHECKSUM, CSUM_TX_IPV4 | CSUM_TX_TCP | CSUM_TX_IP | 34 << 16);
    struct fake_range r = {guest.control, len};
    CHECK(fake_send_gpa(guest.ch, 1, &m, sizeof m, &r, 1));
    expect_completion(1);
    turns(20);
    CHECK(heard.frames == 1 && net_sums_valid(heard.data, heard.last.len));
    /* a large send: 40,000 bytes arrive as segments of 1460 */
    at = put_ipv4(frame, 6, "10.0.0.1", "10.0.0.2", 0);
    put_be16(frame + 16, 0);
    n = (uint32_t)put_tcp(frame, at, 1, 2, 3, 0x18, messages, 40000);
    len = wrap(page, frame, n, PPI_LSO, 1460 | 34 << 20 | 1u << 30);
    r.len = len;
    CHECK(fake_send_gpa(guest.ch, 2, &m, sizeof m, &r, 1));
    expect_completion(2);
    turns(30);
    CHECK_EQ(heard.frames, 1 + 28);
    CHECK(net_sums_valid(heard.data, heard.last.len));
    /* a tag beside the frame, which this port's policy does not let pass */
    len = wrap(page, frame, plain_frame(other_mac, 1, 60), PPI_VLAN, 5 << 4);
    r.len = len;
    CHECK(fake_send_gpa(guest.ch, 3, &m, sizeof m, &r, 1));
    expect_completion(3);
    turns(20);
    CHECK_EQ(heard.frames, 29);
    CHECK(fake_close(guest.ch));
    end(d);
}

static void peer_sends(const uint8_t *to, uint8_t fill, uint32_t len)
{
    put_eth(frame, to, other_mac, 0x88b5);
    memset(frame + 14, fill, len - 14);
    struct net_packet p = {.data = frame, .len = len};
    CHECK_EQ(net_port_send(peer, &p), NET_SENT);
}

static void frames_toward_the_guest(void)
{
    static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};
    static const uint8_t foreign[6] = {0, 1, 2, 3, 4, 5};
    struct device d = ready(1, NVSP_6_1, MTU);
    turns(10);
    peer_sends(guest_mac, 7, 60);
    CHECK(receive(500));
    CHECK(nmessages == 1 && message_len[0] == 104);
    CHECK(messages[44 + 59] == 7);
    peer_sends(foreign, 8, 60); /* flooded, but not for us */
    CHECK(!receive(30));
    peer_sends(broadcast, 9, 1514);
    CHECK(receive(500));
    CHECK(messages[44 + 1513] == 9);
    CHECK(fake_close(guest.ch));
    end(d);
}

/* Counts what came, which must be in order. */
static unsigned take_numbered(unsigned got, unsigned wait_ms)
{
    if (receive(wait_ms))
        for (unsigned i = 0; i < nmessages; i++, got++)
            CHECK_EQ(messages[message_at[i] + 44 + 20], got & 0xff);
    return got;
}

/* Many more frames than the receive buffer holds, and a guest that takes its time: the peer is held
 * back, and none is lost. */
static void a_slow_guest_loses_nothing(void)
{
    struct device d = ready(1, NVSP_6_1, MTU);
    turns(10);
    /* The peer learns where the guest is. */
    struct nvsp_message m = {.type = NVSP_RNDIS};
    m.rndis.section = 0;
    m.rndis.bytes =
        wrap(fake_ptr(rig.g, guest.send), frame, plain_frame(other_mac, 1, 60), UINT32_MAX, 0);
    CHECK(fake_send(guest.ch, 1, true, &m, sizeof m));
    expect_completion(1);
    turns(10);
    unsigned got = 0, later = 0;
    for (unsigned i = 0; i < 6000; i++) {
        put_eth(frame, guest_mac, other_mac, 0x88b5);
        memset(frame + 14, (int)i, 50);
        struct net_packet p = {.data = frame, .len = 64};
        enum net_send r;
        while ((r = net_port_send(peer, &p)) == NET_SEND_LATER) {
            later++;
            got = take_numbered(got, 2);
        }
        CHECK_EQ(r, NET_SENT);
    }
    for (unsigned was = UINT32_MAX; got < 6000 && was != got;) {
        was = got;
        got = take_numbered(got, 300);
    }
    CHECK_EQ(got, 6000);
    CHECK(later > 0);
    CHECK(fake_close(guest.ch));
    end(d);
}

static void coalesced_segments(void)
{
    struct device d = ready(1, NVSP_6_1, MTU);
    struct ndis_offload_parameters op = {
        .head = {NDIS_TYPE_DEFAULT, 3, sizeof op}, .tcp4_csum = 4, .rsc4 = 2, .rsc6 = 2};
    CHECK_EQ(set(OID_OFFLOAD_PARAMETERS, &op, sizeof op), RNDIS_STATUS_SUCCESS);
    turns(10);
    put_eth(frame, guest_mac, other_mac, 0x800);
    size_t at = put_ipv4(frame, 6, "10.0.0.2", "10.0.0.1", 0);
    for (unsigned i = 0; i < 50000; i++)
        messages[i] = (uint8_t)(i * 31);
    struct net_packet p = {.data = frame, .mss = 1460};
    p.len = (uint32_t)put_tcp(frame, at, 1, 2, 3, 0x18, messages, 50000);
    CHECK_EQ(net_port_send(peer, &p), NET_SENT);
    CHECK(receive(500));
    CHECK(nmessages > 20);
    static uint8_t whole[60000];
    uint32_t total = 0;
    for (unsigned i = 0; i < nmessages; i++) {
        const uint8_t *m = messages + message_at[i];
        uint32_t off = 8 + get_le32(m + 8), len = get_le32(m + 12);
        /* the last of the per-packet information: {16, packet id, 12, {1, flags, id}} */
        const uint8_t *ppi = m + off - 16;
        CHECK_EQ(get_le32(ppi + 4), 0x80000001);
        CHECK_EQ(ppi[13], 1 | (i ? 0 : 2) | (i + 1 == nmessages ? 4 : 0));
        CHECK(off + len <= message_len[i]);
        memcpy(whole + total, m + off, len);
        total += len;
    }
    CHECK_EQ(get_le32(messages + 44 + 4), PPI_CHECKSUM);
    CHECK_EQ(get_le32(messages + 44 + 12), CSUM_RX_TCP_OK | CSUM_RX_IP_OK);
    CHECK_EQ(total, p.len);
    CHECK(net_sums_valid(whole, total));
    CHECK_EQ(whole[total - 1], (uint8_t)(49999 * 31));
    CHECK(fake_close(guest.ch));
    end(d);
}

static void link_events_and_mtu_changes(void)
{
    struct device d = ready(1, NVSP_6_1, MTU);
    struct net_port *port = netvsp_port(d.self);
    net_port_set_cable(port, false);
    CHECK(receive(500));
    CHECK_EQ(get_le32(messages), RNDIS_INDICATE);
    CHECK_EQ(get_le32(messages + 8), RNDIS_STATUS_DISCONNECT);
    net_port_set_cable(port, true);
    CHECK(receive(500));
    CHECK_EQ(get_le32(messages + 8), RNDIS_STATUS_CONNECT);
    netvsp_network_changed(d.self);
    CHECK(receive(500));
    CHECK_EQ(get_le32(messages + 8), RNDIS_STATUS_NETWORK_CHANGE);
    /* As Linux does for a new MTU: halt, revoke, close, tear down, and all anew. */
    const uint32_t halt[3] = {RNDIS_HALT, 12, 9};
    send_control(halt, sizeof halt);
    struct nvsp_message m = {.type = NVSP_REVOKE_RECV_BUF};
    CHECK(fake_send(guest.ch, UINT64_MAX - 2, false, &m, sizeof m));
    m.type = NVSP_REVOKE_SEND_BUF;
    CHECK(fake_send(guest.ch, UINT64_MAX - 2, false, &m, sizeof m));
    uint32_t relid = guest.ch->relid;
    CHECK(fake_close(guest.ch));
    CHECK(fake_gpadl_teardown(rig.g, relid, guest.recv_gpadl));
    CHECK(fake_gpadl_teardown(rig.g, relid, guest.send_gpadl));
    bring_up(&rig, NVSP_5_0, 9000);
    rndis_up();
    turns(10);
    peer_sends(guest_mac, 7, 9014);
    CHECK(receive(500));
    CHECK_EQ(message_len[0], 44 + 9014);
    CHECK(fake_close(guest.ch));
    end(d);
}

static void subchannels_spread_the_load(void)
{
    struct device d = ready(4, NVSP_6_1, MTU);
    uint32_t len;
    const uint8_t *a = query(OID_RECEIVE_SCALE_CAPABILITIES, NULL, 0, &len);
    CHECK(len == 18 && get_le32(a + 12) == 4);
    struct nvsp_message m = {.type = NVSP_SUBCHANNEL};
    m.subchannel.op_or_status = NVSP_SUBCHANNEL_ALLOCATE;
    m.subchannel.count = 9;
    a = ask(&m);
    CHECK(get_le32(a + 4) == NVSP_OK && get_le32(a + 8) == 3);
    struct fake_channel *sub[3];
    for (unsigned i = 0; i < 3; i++) {
        const struct vmbus_msg_offer *o = fake_offer_of(rig.g, &class_id, i + 1);
        CHECK(o && (sub[i] = fake_open(rig.g, o, 64, NULL)));
    }
    struct {
        struct ndis_rss_parameters p;
        uint32_t table[16];
        uint8_t key[40];
    } rss = {.p = {.head = {NDIS_TYPE_RSS_PARAMETERS, 2, 40},
                   .hash_info = NDIS_HASH_TOEPLITZ | NDIS_HASH_IPV4 | NDIS_HASH_TCP_IPV4,
                   .table_bytes = 64,
                   .table_offset = 40,
                   .key_bytes = 40,
                   .key_offset = 104}};
    for (unsigned i = 0; i < 16; i++)
        rss.table[i] = i % 4;
    for (unsigned i = 0; i < 40; i++)
        rss.key[i] = (uint8_t)(i * 17 + 3);
    CHECK_EQ(set(OID_RECEIVE_SCALE_PARAMETERS, &rss, sizeof rss), RNDIS_STATUS_SUCCESS);
    turns(10);
    unsigned got[4] = {0};
    for (unsigned i = 0; i < 64; i++) {
        put_eth(frame, guest_mac, other_mac, 0x800);
        size_t at = put_ipv4(frame, 6, "10.0.0.2", "10.0.0.1", 20);
        struct net_packet p = {.data = frame};
        p.len = (uint32_t)put_tcp(frame, at, (uint16_t)(1000 + i), 80, 1, 2, NULL, 0);
        net_fill_sums(frame, p.len, NET_FILL_IP | NET_FILL_L4);
        CHECK_EQ(net_port_send(peer, &p), NET_SENT);
        turns(0);
    }
    turns(30);
    struct fake_packet p;
    uint32_t done[2] = {NVSP_RNDIS_COMPLETE, NVSP_OK};
    for (unsigned i = 0; i < 4; i++) {
        struct fake_channel *ch = i ? sub[i - 1] : guest.ch;
        while (fake_poll(ch, &p)) {
            got[i] += get_le32(p.extra + 4);
            CHECK(fake_complete(ch, p.id, done, sizeof done));
        }
    }
    CHECK_EQ(got[0] + got[1] + got[2] + got[3], 64);
    for (unsigned i = 0; i < 4; i++)
        CHECK(got[i] > 0);
    rss.table[3] = 4; /* no such queue */
    CHECK(set(OID_RECEIVE_SCALE_PARAMETERS, &rss, sizeof rss) != RNDIS_STATUS_SUCCESS);
    for (unsigned i = 0; i < 3; i++)
        CHECK(fake_close(sub[i]));
    CHECK(fake_close(guest.ch));
    end(d);
}

/* From "Verifying the RSS hash calculation" in Microsoft's NDIS documentation. */
static void toeplitz_as_published(void)
{
    static const uint8_t key[40] = {0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                    0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                                    0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                                    0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
    uint8_t in[12];
    inet_pton(AF_INET, "66.9.149.187", in);
    inet_pton(AF_INET, "161.142.100.80", in + 4);
    put_be16(in + 8, 2794);
    put_be16(in + 10, 1766);
    CHECK_EQ(rss_toeplitz(key, in, 8), 0x323e8fc2);
    CHECK_EQ(rss_toeplitz(key, in, 12), 0x51ccc178);
}

static void hostile_messages(void)
{
    struct device d = ready(1, NVSP_6_1, MTU);
    struct nvsp_message m = {.type = NVSP_RNDIS};
    uint8_t *page = fake_ptr(rig.g, guest.control);
    struct fake_range r = {guest.control, 200};
    static const struct {
        unsigned at;
        uint32_t value;
    } bad[] = {{4, 0},       {4, 7},          {4, 0xffffffff}, {8, 0xfffffff0}, {12, 5},
               {12, 100000}, {28, 44},        {28, 500},       {32, 5000},      {44, 0},
               {44, 11},     {44, 4000},      {52, 15},        {52, 100000},    {32, 16},
               {8, 0},       {12, 0xffffffff}};
    m.rndis.section = NVSP_NO_SECTION;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        wrap(page, frame, plain_frame(other_mac, 1, 100), PPI_CHECKSUM, 0);
        put_le32(page + bad[i].at, bad[i].value);
        CHECK(fake_send_gpa(guest.ch, 900 + i, &m, sizeof m, &r, 1));
        expect_completion(900 + i);
    }
    m.rndis.section = 5000; /* behind the send buffer */
    m.rndis.bytes = 100;
    CHECK(fake_send(guest.ch, 950, true, &m, sizeof m));
    expect_completion(950);
    m.rndis.section = 1;
    m.rndis.bytes = NETVSP_SECTION + 1;
    CHECK(fake_send(guest.ch, 951, true, &m, sizeof m));
    expect_completion(951);
    uint32_t done[2] = {NVSP_RNDIS_COMPLETE, NVSP_OK};
    CHECK(fake_complete(guest.ch, 5, done, sizeof done)); /* never sent */
    CHECK(fake_complete(guest.ch, UINT64_MAX, done, sizeof done));
    fake_settle(rig.g);
    uint32_t len;
    query(OID_PERMANENT_ADDRESS, NULL, 0, &len);
    CHECK_EQ(len, 6);
    CHECK(fake_close(guest.ch));
    end(d);
}

static void an_adapter_moves(void)
{
    struct rig to;
    struct device d = ready(1, NVSP_6_1, MTU);
    turns(10);
    /* One packet that the guest has and has not completed. */
    peer_sends(guest_mac, 1, 60);
    turns(20);
    struct fake_packet p;
    CHECK(fake_poll(guest.ch, &p));
    uint64_t open_id = p.id;
    d.ops->stop(d.self, nothing, NULL);
    struct device d2 = start(&to, 1, false);
    d2.ops->stop(d2.self, nothing, NULL);
    CHECK(rig_move(&rig, d, &to, d2, guest.ch));
    struct netvsp_info info;
    netvsp_get_info(d2.self, &info);
    CHECK(info.up && info.version == NVSP_6_1 && info.filter == 0xd);
    uint32_t done[2] = {NVSP_RNDIS_COMPLETE, NVSP_OK}, len;
    CHECK(fake_complete(guest.ch, open_id, done, sizeof done));
    const uint8_t *a = query(OID_PERMANENT_ADDRESS, NULL, 0, &len);
    CHECK(len == 6 && memcmp(a, guest_mac, 6) == 0);
    struct netvsp *n = d2.self;
    CHECK_EQ(n->nfree, n->subs);
    CHECK(fake_close(guest.ch));
    d2.ops->destroy(d2.self);
    rig_end(&to);
    end(d);
}

static const struct check_test tests[] = {
    CHECK_TEST(versions_and_objects),
    CHECK_TEST(frames_by_section_by_pages_and_by_both),
    CHECK_TEST(offloads_from_the_guest),
    CHECK_TEST(frames_toward_the_guest),
    CHECK_TEST(a_slow_guest_loses_nothing),
    CHECK_TEST(coalesced_segments),
    CHECK_TEST(link_events_and_mtu_changes),
    CHECK_TEST(subchannels_spread_the_load),
    CHECK_TEST(toeplitz_as_published),
    CHECK_TEST(hostile_messages),
    CHECK_TEST(an_adapter_moves),
};
CHECK_MAIN(tests)
