/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/net/packet.h"

#include "check.h"
#include "frames.h"

static uint8_t frame[NET_FRAME_MAX], out[NET_FRAME_MAX], data[65536];

static void fill_data(void)
{
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
}

/* An example worked by hand: RFC 1071 section 3. */
static void sums_as_in_rfc1071(void)
{
    const uint8_t b[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    uint16_t folded = net_sum_fold(net_sum(b, sizeof b, 0));
    CHECK_EQ(get_be16(&folded), (uint16_t)~0xddf2);
    /* The same sum whether taken at once or in even pieces, and across the block loop. */
    fill_data();
    uint64_t whole = net_sum(data, 9001, 0);
    uint64_t parts = net_sum(data + 4098, 4903, net_sum(data, 4098, 0));
    CHECK_EQ(net_sum_fold(whole), net_sum_fold(parts));
}

static size_t udp_frame(size_t len)
{
    put_eth(frame, other_mac, guest_mac, 0x800);
    size_t at = put_ipv4(frame, 17, "10.0.0.1", "10.0.0.2", 8 + len);
    return put_udp(frame, at, 1000, 2000, data, len);
}

static void filled_sums_are_valid(void)
{
    for (size_t len = 0; len < 70; len++) {
        size_t n = udp_frame(len);
        net_fill_sums(frame, n, NET_FILL_IP | NET_FILL_L4);
        CHECK(net_sums_valid(frame, n));
        frame[n - 1] ^= 0x40;
        CHECK(!net_sums_valid(frame, n));
    }
    put_eth(frame, other_mac, guest_mac, 0x86dd);
    size_t at = put_ipv6(frame, 6, "fd00::1", "fd00::2", 20 + 777);
    size_t n = put_tcp(frame, at, 1, 2, 3, 0x10, data, 777);
    net_fill_sums(frame, n, NET_FILL_L4);
    CHECK(net_sums_valid(frame, n));
    /* Padding behind the datagram is not part of it. */
    CHECK(net_sums_valid(frame, n + 6));
}

static size_t large_frame(int family, size_t len)
{
    put_eth(frame, other_mac, guest_mac, family == 4 ? 0x800 : 0x86dd);
    size_t at = family == 4 ? put_ipv4(frame, 6, "10.0.0.1", "10.0.0.2", 0)
                            : put_ipv6(frame, 6, "fd00::1", "fd00::2", 0);
    put_be16(frame + (family == 4 ? 16 : 18), 0); /* as LSOv2 sends it */
    return put_tcp(frame, at, 1000, 2000, 0xfffffff0, 0x99, data, len);
}

static void check_cut(int family, size_t len, uint16_t mss)
{
    struct net_packet p = {.data = frame, .len = (uint32_t)large_frame(family, len), .mss = mss};
    struct net_cut c;
    struct net_headers h;
    size_t n, done = 0, count = 0;
    CHECK(net_cut_begin(&c, &p));
    while ((n = net_cut_next(&c, out, sizeof out))) {
        CHECK(net_sums_valid(out, n));
        CHECK(net_parse(out, n, &h) && h.tcp);
        CHECK_EQ(get_be32(out + h.l4 + 4), (uint32_t)(0xfffffff0 + done));
        CHECK(memcmp(out + h.payload, data + done, n - h.payload) == 0);
        done += n - h.payload;
        bool last = done == len;
        CHECK(last || n - h.payload == mss);
        CHECK_EQ(out[h.l4 + 13], 0x10 | (last ? 0x09 : 0) | (count ? 0 : 0x80));
        if (family == 4)
            CHECK_EQ(get_be16(out + 18), 0x1234 + count);
        count++;
    }
    CHECK_EQ(done, len);
    CHECK_EQ(count, (len + mss - 1) / mss);
}

static void large_packets_are_cut(void)
{
    fill_data();
    check_cut(4, 64000, 1460);
    check_cut(6, 60000, 1440);
    check_cut(4, 2920, 1460);
    check_cut(4, 1, 1460);
    check_cut(4, 999, 1);
}

static void large_packet_becomes_one_ip_packet(void)
{
    size_t n = large_frame(4, 60000);
    CHECK(net_fix_large(frame, n));
    CHECK(net_sums_valid(frame, n));
    CHECK_EQ(get_be16(frame + 16), 60040);
    n = large_frame(4, 65520);
    CHECK(!net_fix_large(frame, n)); /* longer than IP can say */
}

static void refuses_what_is_no_tcp(void)
{
    struct net_cut c;
    struct net_packet p = {.data = frame, .len = (uint32_t)udp_frame(3000), .mss = 1460};
    CHECK(!net_cut_begin(&c, &p));
    p.len = (uint32_t)large_frame(4, 100);
    p.mss = 0;
    CHECK(!net_cut_begin(&c, &p));
    p.mss = 10;
    frame[46] =
        0xf0; /* a TCP header longer than the frame's rest would be, and one that is short */
    p.len = 60;
    CHECK(!net_cut_begin(&c, &p));
    frame[46] = 0x10;
    CHECK(!net_cut_begin(&c, &p));
}

static void datagrams_are_fragmented(void)
{
    struct net_fragment f;
    size_t n = udp_frame(4000), len, done = 0;
    net_fill_sums(frame, n, NET_FILL_IP | NET_FILL_L4);
    CHECK(net_fragment_begin(&f, frame, n, 1500));
    while ((len = net_fragment_next(&f, out, sizeof out))) {
        CHECK(len <= 1514);
        uint16_t field = get_be16(out + 20);
        CHECK_EQ((field & 0x1fff) * 8, done);
        CHECK(memcmp(out + 34, frame + 34 + done, len - 34) == 0);
        CHECK(net_sums_valid(out, len)); /* the header's; there is no L4 sum of a fragment */
        done += len - 34;
        CHECK_EQ(!!(field & 0x2000), done < 4008);
    }
    CHECK_EQ(done, 4008);
    put_be16(frame + 20, 0x4000);
    CHECK(!net_fragment_begin(&f, frame, n, 1500));
}

static void tags_go_in_and_out(void)
{
    size_t n = udp_frame(100);
    uint16_t tci = 0;
    memcpy(data, frame, n);
    size_t m = net_tag_insert(frame, n, 0x6005, out);
    CHECK_EQ(m, n + 4);
    CHECK(net_tag_inside(out, m, &tci));
    CHECK_EQ(tci, 0x6005);
    CHECK_EQ(net_tag_strip(out, m, frame), n);
    CHECK(memcmp(frame, data, n) == 0);
    fill_data();
}

static void parse_holds_its_bounds(void)
{
    struct net_headers h;
    size_t n = large_frame(6, 10);
    for (size_t len = 0; len < n; len++)
        if (net_parse(frame, len, &h) && h.tcp)
            CHECK(h.payload <= len);
    frame[20] = 0; /* hop-by-hop options that claim to reach past the end */
    frame[55] = 200;
    CHECK(!net_parse(frame, n, &h));
}

static const struct check_test tests[] = {
    CHECK_TEST(sums_as_in_rfc1071),     CHECK_TEST(filled_sums_are_valid),
    CHECK_TEST(large_packets_are_cut),  CHECK_TEST(large_packet_becomes_one_ip_packet),
    CHECK_TEST(refuses_what_is_no_tcp), CHECK_TEST(datagrams_are_fragmented),
    CHECK_TEST(tags_go_in_and_out),     CHECK_TEST(parse_holds_its_bounds),
};
CHECK_MAIN(tests)
