/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ports and private switches: two or three ports in one process, on a folder of their own. */
#include "core/net/port.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "frames.h"

struct end {
    struct net_port *port;
    unsigned frames, links, again;
    bool refuse, up;
    uint64_t bytes;
    struct net_packet last;
    uint8_t data[NET_FRAME_MAX];
};

static struct loop *loop;
static char folder[64];
static uint8_t frame[NET_FRAME_MAX], data[65536];

static bool deliver(void *ctx, const struct net_packet *p)
{
    struct end *e = ctx;
    if (e->refuse)
        return false;
    e->frames++;
    e->bytes += p->len;
    e->last = *p;
    memcpy(e->data, p->data, p->len);
    return true;
}
static void again(void *ctx)
{
    ((struct end *)ctx)->again++;
}
static void link_is(void *ctx, bool up)
{
    struct end *e = ctx;
    e->links++;
    e->up = up;
}
static const struct net_adapter_ops ops = {deliver, again, link_is};

static void turns(unsigned ms)
{
    uint64_t until = clock_ns() + ms * 1000000ull;
    do
        loop_turn(loop, 5);
    while (clock_ns() < until);
}

static void plug(struct end *e, const uint8_t *mac, struct net_policy policy)
{
    err er = ERR_INIT;
    memset(e, 0, sizeof *e);
    struct net_port_params p = {.loop = loop, .ops = &ops, .ctx = e, .policy = policy};
    memcpy(p.mac, mac, 6);
    e->port = net_port_new(&p, &er);
    CHECK(e->port && net_port_plug_private(e->port, folder, &er));
    if (er.code)
        fprintf(stderr, "%s\n", er.text);
    net_port_start(e->port);
}

static void begin(void)
{
    err e = ERR_INIT;
    loop = loop_new(&e);
    strcpy(folder, "/tmp/vireo-switch-XXXXXX");
    CHECK(mkdtemp(folder));
}
static void finish(struct end *a, struct end *b)
{
    net_port_free(a->port);
    net_port_free(b->port);
    CHECK(access(folder, F_OK) != 0); /* the last one out removes it */
    loop_free(loop);
}

static size_t hello(const uint8_t *to, const uint8_t *from)
{
    put_eth(frame, to, from, 0x88b5);
    memset(frame + 14, 0x5a, 50);
    return 64;
}

static enum net_send emit(struct end *e, size_t len)
{
    struct net_packet p = {.data = frame, .len = (uint32_t)len};
    return net_port_send(e->port, &p);
}

static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};
static const uint8_t third_mac[6] = {0x00, 0x15, 0x5d, 4, 4, 4};
static struct end a, b, c;

static void frames_cross_and_addresses_are_learned(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){0});
    plug(&c, third_mac, (struct net_policy){0});
    turns(20);
    CHECK_EQ(a.links, 1);
    CHECK(a.up);
    CHECK_EQ(emit(&a, hello(broadcast, guest_mac)), NET_SENT);
    turns(20);
    CHECK_EQ(b.frames, 1);
    CHECK_EQ(c.frames, 1);
    CHECK_EQ(a.frames, 0);
    /* b answers: now only a hears it. */
    CHECK_EQ(emit(&b, hello(guest_mac, other_mac)), NET_SENT);
    turns(20);
    CHECK_EQ(a.frames, 1);
    CHECK_EQ(c.frames, 1);
    CHECK_EQ(a.last.len, 64);
    CHECK(memcmp(a.data, frame, 64) == 0);
    net_port_free(c.port);
    finish(&a, &b);
}

static void a_dead_peer_is_removed(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){0});
    /* What a killed worker leaves behind. */
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    snprintf(un.sun_path, sizeof un.sun_path, "%s/p00000000000000aa", folder);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    CHECK(bind(fd, (struct sockaddr *)&un, sizeof un) == 0);
    turns(20);
    close(fd);
    CHECK_EQ(emit(&a, hello(broadcast, guest_mac)), NET_SENT);
    turns(20);
    CHECK(access(un.sun_path, F_OK) != 0);
    CHECK_EQ(b.frames, 1);
    finish(&a, &b);
}

static void policy_holds(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){.vlan_mode = NET_VLAN_ACCESS, .vlan = 7});
    turns(10);
    CHECK_EQ(emit(&a, hello(broadcast, other_mac)), NET_DROPPED); /* another's address */
    CHECK_EQ(emit(&a, hello(broadcast, guest_mac)), NET_SENT);
    turns(20);
    CHECK_EQ(b.frames, 0); /* another VLAN */
    err e = ERR_INIT;
    struct net_policy p = {.vlan_mode = NET_VLAN_TRUNK, .trunk_first = 5, .trunk_last = 9};
    p.spoofing = true;
    CHECK(net_port_set_policy(a.port, &p, &e));
    struct net_packet tagged = {.data = frame, .tagged = true, .vlan_tci = 7};
    tagged.len = (uint32_t)hello(broadcast, third_mac);
    CHECK_EQ(net_port_send(a.port, &tagged), NET_SENT);
    /* The same with the tag inside the frame. */
    uint8_t inside[100];
    tagged.len = (uint32_t)net_tag_insert(frame, tagged.len, 7, inside);
    tagged.data = inside;
    tagged.tagged = false;
    CHECK_EQ(net_port_send(a.port, &tagged), NET_SENT);
    tagged.vlan_tci = 12;
    tagged.tagged = true;
    CHECK_EQ(net_port_send(a.port, &tagged), NET_DROPPED);
    turns(20);
    CHECK_EQ(b.frames, 2);
    CHECK_EQ(b.last.len, 64);
    CHECK(!b.last.tagged);
    hello(broadcast, other_mac);
    CHECK_EQ(emit(&b, 64), NET_SENT);
    turns(20);
    CHECK_EQ(a.frames, 1);
    CHECK(a.last.tagged);
    CHECK_EQ(a.last.vlan_tci, 7);
    p.vlan_mode = NET_VLAN_ACCESS;
    p.vlan = 4095;
    CHECK(!net_port_set_policy(a.port, &p, &e));
    struct net_port_stats st;
    net_port_get_stats(a.port, &st);
    CHECK_EQ(st.tx_refused, 2);
    finish(&a, &b);
}

static size_t large(size_t len)
{
    put_eth(frame, other_mac, guest_mac, 0x800);
    size_t at = put_ipv4(frame, 6, "10.0.0.1", "10.0.0.2", 0);
    put_be16(frame + 16, 0);
    return put_tcp(frame, at, 1, 2, 3, 0x18, data, len);
}

static void large_packets_cross_whole_or_cut(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){0});
    turns(10);
    struct net_packet p = {.data = frame, .len = (uint32_t)large(60000), .mss = 1460};
    CHECK_EQ(net_port_send(a.port, &p), NET_SENT);
    turns(20);
    CHECK_EQ(b.frames, 42);
    CHECK(net_sums_valid(b.data, b.last.len));
    net_port_set_limits(b.port, 1500, true);
    CHECK_EQ(net_port_send(a.port, &p), NET_SENT);
    turns(20);
    CHECK_EQ(b.frames, 43);
    CHECK_EQ(b.last.len, 60054);
    CHECK_EQ(b.last.mss, 1460);
    CHECK(net_sums_valid(b.data, b.last.len));
    CHECK(memcmp(b.data + 54, data, 60000) == 0);
    finish(&a, &b);
}

static void frames_wait_for_a_full_adapter(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){0});
    turns(10);
    b.refuse = true;
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(emit(&a, hello(other_mac, guest_mac)), NET_SENT);
        turns(0);
    }
    turns(20);
    CHECK_EQ(b.frames, 0);
    b.refuse = false;
    net_port_room(b.port);
    turns(20);
    CHECK_EQ(b.frames, 100);
    finish(&a, &b);
}

static void a_stuck_peer_holds_nobody_for_long(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){0});
    turns(10);
    CHECK_EQ(emit(&b, hello(guest_mac, other_mac)), NET_SENT); /* a learns b */
    turns(10);
    net_port_stop(b.port); /* its VM is paused */
    unsigned sent = 0;
    while (sent < 100000 && emit(&a, hello(other_mac, guest_mac)) == NET_SENT)
        sent++;
    CHECK(sent < 100000);
    CHECK_EQ(a.again, 1); /* from start */
    turns(60);
    CHECK(a.again > 1);
    CHECK_EQ(emit(&a, hello(other_mac, guest_mac)), NET_DROPPED);
    net_port_start(b.port);
    turns(60);
    CHECK_EQ(emit(&a, hello(other_mac, guest_mac)), NET_SENT);
    turns(60);
    CHECK_EQ(b.frames, sent + 1);
    finish(&a, &b);
}

static void bandwidth_is_limited(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){.bandwidth = 8000000}); /* 1 MB/s */
    plug(&b, other_mac, (struct net_policy){0});
    turns(10);
    uint64_t t0 = clock_ns(), sent = 0;
    memset(frame, 0, 1500);
    while (sent < 300000 && clock_ns() - t0 < 5000000000ull) {
        put_eth(frame, other_mac, guest_mac, 0x88b5);
        if (emit(&a, 1500) == NET_SENT)
            sent += 1500;
        else
            loop_turn(loop, 5);
    }
    /* 300 kB less a burst of 50 ms take 250 ms at least. */
    CHECK(clock_ns() - t0 >= 240000000ull);
    CHECK(a.again > 1);
    finish(&a, &b);
}

static void cable_and_foreign_folders(void)
{
    begin();
    plug(&a, guest_mac, (struct net_policy){0});
    plug(&b, other_mac, (struct net_policy){0});
    net_port_set_cable(a.port, false);
    CHECK(!a.up);
    CHECK_EQ(emit(&a, hello(broadcast, guest_mac)), NET_DROPPED);
    net_port_set_cable(a.port, true);
    CHECK(a.up);
    char open_dir[] = "/tmp/vireo-switch-XXXXXX";
    err e = ERR_INIT;
    CHECK(mkdtemp(open_dir) && chmod(open_dir, 0755) == 0);
    CHECK(!net_port_plug_private(a.port, open_dir, &e));
    CHECK_EQ(e.code, ERR_DENIED);
    CHECK(a.up); /* the old one stays */
    rmdir(open_dir);
    finish(&a, &b);
}

static const struct check_test tests[] = {
    CHECK_TEST(frames_cross_and_addresses_are_learned),
    CHECK_TEST(a_dead_peer_is_removed),
    CHECK_TEST(policy_holds),
    CHECK_TEST(large_packets_cross_whole_or_cut),
    CHECK_TEST(frames_wait_for_a_full_adapter),
    CHECK_TEST(a_stuck_peer_holds_nobody_for_long),
    CHECK_TEST(bandwidth_is_limited),
    CHECK_TEST(cable_and_foreign_folders),
};
CHECK_MAIN(tests)
