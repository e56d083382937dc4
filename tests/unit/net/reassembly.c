/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fragments put together, and what is no datagram refused. */
#include "core/net/reassembly.h"
#include "check.h"
#include "frames.h"

enum { TOTAL = 3000 };
static uint8_t payload[TOTAL], frame[2048];
static struct net_reassembly *r;
static const uint8_t *whole;
static size_t whole_len;

static void begin(void)
{
    r = net_reassembly_new();
    for (unsigned i = 0; i < TOTAL; i++)
        payload[i] = (uint8_t)(i * 13 + (i >> 8));
}

static bool part(uint16_t id, unsigned from, unsigned len, bool more, uint64_t now)
{
    put_eth(frame, other_mac, guest_mac, 0x800);
    size_t at = put_ipv4(frame, 17, "10.0.0.1", "10.0.0.2", len);
    put_be16(frame + 18, id);
    put_be16(frame + 20, (uint16_t)(from / 8 | (more ? 0x2000 : 0)));
    memcpy(frame + at, payload + from, len);
    whole = net_reassembly_add(r, frame, at + len, now, &whole_len);
    return whole != NULL;
}

static bool is_right(void)
{
    struct net_headers h;
    return whole_len == 34 + TOTAL && net_parse(whole, whole_len, &h) && !h.fragment && h.udp &&
           get_be16(whole + 16) == 20 + TOTAL && memcmp(whole + 34, payload, TOTAL) == 0;
}

static void any_order_will_do(void)
{
    begin();
    CHECK(!part(1, 0, 1480, true, 0) && !part(1, 1480, 1480, true, 0));
    CHECK(part(1, 2960, 40, false, 0) && is_right());
    CHECK(!part(2, 2960, 40, false, 0) && !part(2, 1480, 1480, true, 0));
    CHECK(part(2, 0, 1480, true, 0) && is_right());
    net_reassembly_free(r);
}

static void datagrams_are_told_apart(void)
{
    begin();
    for (uint16_t id = 0; id < 8; id++)
        CHECK(!part(id, 0, 1480, true, id));
    for (uint16_t id = 0; id < 8; id++)
        CHECK(!part(id, 1480, 1480, true, id) && part(id, 2960, 40, false, id) && is_right());
    /* a ninth takes the oldest's place */
    for (uint16_t id = 10; id < 19; id++)
        CHECK(!part(id, 0, 2000, true, id));
    CHECK(!part(10, 2000, 1000, false, 20));
    CHECK(part(18, 2000, 1000, false, 20) && is_right());
    net_reassembly_free(r);
}

static void what_overlaps_is_dropped(void)
{
    begin();
    CHECK(!part(1, 0, 1480, true, 0) && !part(1, 1472, 1528, false, 0));
    CHECK(!part(1, 1480, 1520, false, 0)); /* the first part is forgotten */
    CHECK(!part(2, 0, 1480, true, 0) && !part(2, 0, 1480, true, 0) &&
          !part(2, 1480, 1520, false, 0));
    net_reassembly_free(r);
}

static void ends_that_lie_are_dropped(void)
{
    begin();
    /* as many bytes as it should have, but some beyond its end and a hole inside */
    CHECK(!part(1, 800, 8, true, 0) && !part(1, 80, 8, false, 0) && !part(1, 0, 72, true, 0));
    CHECK(!part(2, 80, 8, false, 0) && !part(2, 800, 8, true, 0) && !part(2, 0, 72, true, 0));
    CHECK(!part(3, 80, 8, false, 0) && !part(3, 88, 8, false, 0));
    CHECK(!part(4, 0, 81, true, 0)); /* only the last may end anywhere */
    CHECK(!part(5, 0, 0, true, 0));
    put_be16(frame + 16, 1500); /* longer than the frame */
    CHECK(!net_reassembly_add(r, frame, 60, 0, &whole_len));
    put_be16(frame + 16, 10);
    CHECK(!net_reassembly_add(r, frame, 60, 0, &whole_len));
    net_reassembly_free(r);
}

static void what_waits_too_long_is_forgotten(void)
{
    begin();
    CHECK(!part(1, 0, 1480, true, 0));
    CHECK(!part(1, 1480, 1520, false, UINT64_C(16000000000)));
    net_reassembly_free(r);
}

static const struct check_test tests[] = {
    CHECK_TEST(any_order_will_do),
    CHECK_TEST(datagrams_are_told_apart),
    CHECK_TEST(what_overlaps_is_dropped),
    CHECK_TEST(ends_that_lie_are_dropped),
    CHECK_TEST(what_waits_too_long_is_forgotten),
};
CHECK_MAIN(tests)
