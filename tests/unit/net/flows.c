/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/net/flows.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "tests/lib/check.h"

/* A guest's segment: what a probe of the same flow would be, the other way round. */
static size_t segment(uint8_t family, uint16_t port, uint32_t ack, uint8_t flags, uint8_t out[100])
{
    struct net_flow f = {.family = family,
                         .guest_mac = {2, 2, 2, 2, 2, 2}, /* of the frame's destination */
                         .peer_mac = {4, 4, 4, 4, 4, 4},
                         .guest = {192, 0, 2, 9},
                         .peer = {10, 203, 1, 1},
                         .guest_port = 80,
                         .peer_port = port};
    size_t len = net_flow_probe(&f, out);
    size_t l4 = NET_ETH_HEADER + (family == 4 ? 20 : 40);
    put_be32(out + l4 + 8, ack);
    out[l4 + 13] = flags;
    return len;
}

static void note(struct net_flows *f, uint8_t family, uint16_t port, uint32_t ack, uint8_t flags)
{
    uint8_t frame[100];
    struct net_headers h;
    size_t len = segment(family, port, ack, flags, frame);
    CHECK(net_parse(frame, len, &h) && h.tcp);
    net_flows_note(f, frame, &h);
}

static void test_probe(void)
{
    for (unsigned family = 4; family <= 6; family += 2) {
        struct net_flows *f = calloc(1, sizeof *f);
        uint8_t saved[NET_FLOW_SIZE * 3], frame[NET_FLOW_PROBE];
        struct net_flow k;
        struct net_headers h;
        note(f, (uint8_t)family, 1000, 77, 2); /* SYN */
        CHECK_EQ(net_flows_save(f, saved, sizeof saved), 0);
        note(f, (uint8_t)family, 1000, 78, 0x10);
        note(f, (uint8_t)family, 1000, 1078, 0x18);
        note(f, (uint8_t)family, 1001, 5, 0x10);
        CHECK_EQ(net_flows_save(f, saved, sizeof saved), 2 * NET_FLOW_SIZE);
        CHECK(net_flow_load(saved, &k) && k.guest_port == 1001); /* the last first */
        CHECK(net_flow_load(saved + NET_FLOW_SIZE, &k) && k.guest_port == 1000);
        size_t len = net_flow_probe(&k, frame);
        CHECK(net_parse(frame, len, &h) && h.tcp && net_sums_valid(frame, len));
        CHECK_EQ(get_be16(frame + h.l4), 80);
        CHECK_EQ(get_be16(frame + h.l4 + 2), 1000);
        CHECK_EQ(get_be32(frame + h.l4 + 4), 1077); /* what it has already */
        CHECK(!memcmp(frame, k.guest_mac, 6) && frame[0] == 4);
        note(f, (uint8_t)family, 1000, 0, 0x14);
        note(f, (uint8_t)family, 1001, 0, 4);
        CHECK_EQ(net_flows_save(f, saved, sizeof saved), 0);
        memset(saved, 0xff, sizeof saved);
        CHECK(!net_flow_load(saved, &k));
        free(f);
    }
}

static void test_full(void)
{
    struct net_flows *f = calloc(1, sizeof *f);
    uint8_t *saved = malloc(NET_FLOWS * NET_FLOW_SIZE);
    struct net_flow k;
    for (unsigned i = 0; i < 20000; i++)
        note(f, 4, (uint16_t)(1024 + i), i, 0x10);
    size_t len = net_flows_save(f, saved, NET_FLOWS * NET_FLOW_SIZE);
    CHECK(len > NET_FLOWS / 2 * NET_FLOW_SIZE && len % NET_FLOW_SIZE == 0);
    CHECK(net_flow_load(saved, &k) && k.guest_port == 1024 + 19999);
    free(saved);
    free(f);
}

int main(int argc, char **argv)
{
    static const struct check_test tests[] = {CHECK_TEST(test_probe), CHECK_TEST(test_full)};
    return check_run(tests, ARRAY_LEN(tests), argc, argv);
}
