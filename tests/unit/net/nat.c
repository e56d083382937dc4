/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The NAT, seen by a guest made of hand-written frames. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "core/net/port.h"
#include "frames.h"

static struct loop *loop;
static struct net_port *port;
static uint8_t frame[NET_FRAME_MAX], got[NET_FRAME_MAX];
/* The last frame of each protocol since the last emit (0: ARP). */
static struct {
    uint8_t data[NET_FRAME_MAX];
    size_t len;
} last[256];
static size_t got_len;

static bool deliver(void *ctx, const struct net_packet *p)
{
    struct net_headers h;
    bool arp = get_be16(p->data + 12) == 0x806;
    if (!arp && !net_parse(p->data, p->len, &h))
        return true;
    memcpy(last[arp ? 0 : h.proto].data, p->data, p->len);
    last[arp ? 0 : h.proto].len = p->len;
    return true;
}
static void nothing(void *ctx)
{
}
static void link_is(void *ctx, bool up)
{
}
static const struct net_adapter_ops ops = {deliver, nothing, link_is};

static void start(struct net_nat_params *n)
{
    err e = ERR_INIT;
    loop = loop_new(&e);
    struct net_port_params p = {.loop = loop, .ops = &ops};
    memcpy(p.mac, guest_mac, 6);
    port = net_port_new(&p, &e);
    n->address.s_addr = inet_addr("10.203.7.9");
    CHECK(net_port_plug_nat(port, n, &e));
    net_port_start(port);
}
static void end(void)
{
    net_port_free(port);
    loop_free(loop);
}

static bool wait_frame(uint8_t proto, unsigned ms)
{
    uint64_t until = clock_ns() + ms * 1000000ull;
    while (!last[proto].len && clock_ns() < until)
        loop_turn(loop, 10);
    got_len = last[proto].len;
    memcpy(got, last[proto].data, got_len);
    return got_len != 0;
}

static void emit(size_t len, unsigned flags)
{
    struct net_packet p = {.data = frame, .len = (uint32_t)len, .flags = (uint8_t)flags};
    for (unsigned i = 0; i < ARRAY_LEN(last); i++)
        last[i].len = 0;
    net_port_send(port, &p);
}

static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};

/* Tells the NAT where 10.203.7.9 lives, and learns its own address (into `gateway`). */
static uint8_t gateway[6];
static void arp(void)
{
    put_eth(frame, broadcast, guest_mac, 0x806);
    const uint8_t head[8] = {0, 1, 8, 0, 6, 4, 0, 1};
    memcpy(frame + 14, head, 8);
    memcpy(frame + 22, guest_mac, 6);
    inet_pton(AF_INET, "10.203.7.9", frame + 28);
    memset(frame + 32, 0, 6);
    inet_pton(AF_INET, "10.203.0.2", frame + 38);
    memset(frame + 42, 0, 18);
    emit(60, 0);
    CHECK(wait_frame(0, 1000));
    memcpy(gateway, got + 22, 6);
}

static void dhcp_gives_the_address(void)
{
    struct net_nat_params n = {.host_name = "wren"};
    start(&n);
    uint8_t m[300] = {1, 1, 6, 0, 1, 2, 3, 4};
    memcpy(m + 28, guest_mac, 6);
    const uint8_t options[] = {0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255};
    memcpy(m + 236, options, sizeof options);
    put_eth(frame, broadcast, guest_mac, 0x800);
    size_t at = put_ipv4(frame, 17, "0.0.0.0", "255.255.255.255", 8 + sizeof m);
    emit(put_udp(frame, at, 68, 67, m, sizeof m), NET_FILL_IP | NET_FILL_L4);
    CHECK(wait_frame(17, 1000));
    CHECK(net_sums_valid(got, got_len));
    char text[INET_ADDRSTRLEN];
    CHECK_STR(inet_ntop(AF_INET, got + 42 + 16, text, sizeof text), "10.203.7.9");
    end();
}

static int listener(uint16_t *port_out)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 5) == 0);
    getsockname(fd, (struct sockaddr *)&a, &len);
    *port_out = ntohs(a.sin_port);
    return fd;
}

/* TCP flags of the answer to a SYN, 0 if none came. */
static uint8_t syn(const char *to, uint16_t to_port, uint16_t from_port)
{
    struct net_headers h;
    put_eth(frame, gateway, guest_mac, 0x800);
    size_t at = put_ipv4(frame, 6, "10.203.7.9", to, 20);
    emit(put_tcp(frame, at, from_port, to_port, 1000, 2, NULL, 0), NET_FILL_IP | NET_FILL_L4);
    if (!wait_frame(6, 400) || !net_parse(got, got_len, &h) || !h.tcp)
        return 0;
    return got[h.l4 + 13];
}

static void loopback_is_out_of_reach_unless_allowed(void)
{
    uint16_t host;
    int fd = listener(&host);
    struct net_nat_params n = {0};
    start(&n);
    arp();
    CHECK(syn("10.203.0.2", host, 40001) != 0x12);
    CHECK(syn("127.0.0.1", host, 40002) != 0x12);
    CHECK(syn("0.0.0.0", host, 40003) != 0x12);
    CHECK(syn("127.9.9.9", host, 40004) != 0x12);
    CHECK(syn("10.203.0.3", host, 40005) != 0x12); /* the name server's other ports */
    CHECK(accept(fd, NULL, NULL) < 0);
    end();
    n.host_loopback = true;
    start(&n);
    arp();
    CHECK_EQ(syn("10.203.0.2", host, 40001), 0x12);
    CHECK(syn("127.0.0.1", host, 40002) != 0x12);
    int in = accept(fd, NULL, NULL);
    CHECK(in >= 0);
    close(in);
    end();
    close(fd);
}

static void forwards_reach_the_guest(void)
{
    uint16_t host;
    int fd = listener(&host);
    struct net_forward f;
    err e = ERR_INIT;
    close(fd); /* a port that is free */
    char text[40];
    snprintf(text, sizeof text, "tcp:%u:22", host);
    CHECK(net_forward_parse(text, &f, &e));
    struct net_nat_params n = {.forwards = &f, .nforwards = 1};
    start(&n);
    arp();
    CHECK(!net_port_add_forward(port, &f, &e)); /* taken */
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(host)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    connect(c, (struct sockaddr *)&a, sizeof a);
    CHECK(wait_frame(6, 1000));
    CHECK_EQ(got[34 + 13], 2);
    CHECK_EQ(get_be16(got + 36), 22);
    CHECK(net_port_remove_forward(port, &f, &e));
    CHECK(!net_port_remove_forward(port, &f, &e));
    close(c);
    end();
}

static void addresses_are_stable_and_differ(void)
{
    struct in_addr x = net_nat_address("vm one", 6), y = net_nat_address("vm two", 6);
    CHECK_EQ(x.s_addr, net_nat_address("vm one", 6).s_addr);
    CHECK(x.s_addr != y.s_addr);
    CHECK_EQ(ntohl(x.s_addr) >> 16, 0x0acb);
}

static void forwards_are_parsed_strictly(void)
{
    struct net_forward f;
    char text[64];
    err e = ERR_INIT;
    const char *good[] = {"tcp:2222:22", "udp:192.168.1.4:53:5353"};
    const char *bad[] = {"",          "tcp:1",     "tcp:0:22",      "tcp:22:65536", "sctp:1:2",
                         "tcp:1:2:3", "tcp:-1:22", "tcp:1:2:3:4:5", "tcp:22x:22",   "tcp: 2:2"};
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        CHECK(net_forward_parse(good[i], &f, &e));
        net_forward_format(&f, text, sizeof text);
        CHECK_STR(text, good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK(!net_forward_parse(bad[i], &f, &e));
}

/* An echo request of 4000 bytes in three parts, the middle one last. */
static void large_datagrams_cross_in_parts(void)
{
    static uint8_t whole[8 + 4000];
    static const unsigned order[] = {0, 2, 1};
    struct net_nat_params n = {0};
    start(&n);
    arp();
    whole[0] = 8;
    for (unsigned i = 8; i < sizeof whole; i++)
        whole[i] = (uint8_t)(i * 7);
    uint16_t sum = net_sum_fold(net_sum(whole, sizeof whole, 0));
    memcpy(whole + 2, &sum, 2);
    for (unsigned i = 0; i < 3; i++) {
        unsigned from = order[i] * 1480, len = MIN(1480u, (unsigned)sizeof whole - from);
        put_eth(frame, gateway, guest_mac, 0x800);
        size_t at = put_ipv4(frame, 1, "10.203.7.9", "10.203.0.2", len);
        put_be16(frame + 20, (uint16_t)(from / 8 | (order[i] < 2 ? 0x2000 : 0)));
        memcpy(frame + at, whole + from, len);
        CHECK(i == 2 || !last[1].len);
        emit(at + len, NET_FILL_IP);
    }
    CHECK(wait_frame(1, 1000));
    CHECK(got_len <= 1514);
    end();
}

static const struct check_test tests[] = {
    CHECK_TEST(large_datagrams_cross_in_parts),          CHECK_TEST(dhcp_gives_the_address),
    CHECK_TEST(loopback_is_out_of_reach_unless_allowed), CHECK_TEST(forwards_reach_the_guest),
    CHECK_TEST(addresses_are_stable_and_differ),         CHECK_TEST(forwards_are_parsed_strictly),
};
CHECK_MAIN(tests)
