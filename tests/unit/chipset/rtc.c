/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/rtc.h"

#include "fake.h"

struct board {
    struct fake f;
    struct rtc *r;
    struct device d;
    uint64_t epoch_ns;
};

static uint64_t wall(void *ctx)
{
    struct board *b = ctx;
    return b->epoch_ns + b->f.now_ns;
}

static void begin(struct board *b, uint64_t epoch_s)
{
    memset(b, 0, sizeof *b);
    fake_init(&b->f);
    b->f.now_ns = 0;
    b->epoch_ns = epoch_s * 1000000000;
    b->r = rtc_new(
        &(struct rtc_params){.env = &b->f.env, .irq = fake_line(&b->f), .wall_ns = wall, .ctx = b},
        NULL);
    b->d = rtc_device(b->r);
    fake_start(&b->f, b->d);
}

static uint8_t get(struct board *b, uint8_t reg)
{
    out8(&b->f, 0x70, reg);
    return in8(&b->f, 0x71);
}
static void set(struct board *b, uint8_t reg, uint8_t v)
{
    out8(&b->f, 0x70, reg);
    out8(&b->f, 0x71, v);
}

static void shows_the_time(void)
{
    struct board b;
    begin(&b, 1709210096); /* 2024-02-29 12:34:56 UTC, a Thursday */
    CHECK_EQ(get(&b, 0), 0x56);
    CHECK_EQ(get(&b, 2), 0x34);
    CHECK_EQ(get(&b, 4), 0x12);
    CHECK_EQ(get(&b, 6), 5);
    CHECK_EQ(get(&b, 7), 0x29);
    CHECK_EQ(get(&b, 8), 0x02);
    CHECK_EQ(get(&b, 9), 0x24);
    CHECK_EQ(get(&b, 0x32), 0x20);
    CHECK_EQ(get(&b, 0x0d), 0x80);
    fake_advance(&b.f, b.d, 4000000000);
    CHECK_EQ(get(&b, 0), 0x00);
    CHECK_EQ(get(&b, 2), 0x35);
    set(&b, 0x0b, 6); /* binary */
    CHECK_EQ(get(&b, 2), 35);
    set(&b, 0x0b, 4); /* 12 hours */
    CHECK_EQ(get(&b, 4), 0x80 | 12);
    fake_advance(&b.f, b.d, 3600 * 1000000000ull);
    CHECK_EQ(get(&b, 4), 0x80 | 1);
    fake_end(&b.f, b.d);
}

static void can_be_set(void)
{
    struct board b;
    begin(&b, 1709210096);
    set(&b, 0x0b, 0x82);
    static const uint8_t new_time[][2] = {{0, 0x58}, {2, 0x59}, {4, 0x23},   {7, 0x31},
                                          {8, 0x12}, {9, 0x99}, {0x32, 0x19}};
    for (size_t i = 0; i < 7; i++)
        set(&b, new_time[i][0], new_time[i][1]);
    fake_advance(&b.f, b.d, 10000000000); /* stands while it is set */
    CHECK_EQ(get(&b, 0), 0x58);
    set(&b, 0x0b, 0x02);
    fake_advance(&b.f, b.d, 2000000000);
    CHECK_EQ(get(&b, 0), 0x00);
    CHECK_EQ(get(&b, 4), 0x00);
    CHECK_EQ(get(&b, 7), 0x01);
    CHECK_EQ(get(&b, 8), 0x01);
    CHECK_EQ(get(&b, 9), 0x00);
    CHECK_EQ(get(&b, 0x32), 0x20);
    fake_end(&b.f, b.d);
}

static void alarm_update_and_periodic_interrupt(void)
{
    struct board b;
    begin(&b, 1709210096);
    get(&b, 0x0c);
    set(&b, 0x0b, 0x12); /* update-ended */
    CHECK(!b.f.line);
    fake_advance(&b.f, b.d, 1100000000);
    CHECK(b.f.line);
    CHECK_EQ(get(&b, 0x0c) & 0xbf, 0x90);
    CHECK(!b.f.line);
    CHECK_EQ(get(&b, 0x0c), 0);
    set(&b, 1, 0x05); /* alarm at any hour and minute, second 5 */
    set(&b, 3, 0xff);
    set(&b, 5, 0xff);
    set(&b, 0x0b, 0x22);
    b.f.rises = 0;
    for (int i = 0; i < 7; i++)
        fake_advance(&b.f, b.d, 1000000000);
    CHECK_EQ(b.f.rises, 0);
    fake_advance(&b.f, b.d, 1000000000);
    CHECK_EQ(get(&b, 0x0c) & 0xbf, 0xb0);
    fake_advance(&b.f, b.d, 59000000000); /* not again before the next second 5 */
    CHECK_EQ(get(&b, 0x0c) & 0xbf, 0x10);
    set(&b, 0x0a, 0x26); /* 1024 Hz */
    set(&b, 0x0b, 0x42);
    b.f.rises = 0;
    for (int i = 0; i < 10; i++) {
        fake_advance(&b.f, b.d, 976563);
        CHECK(get(&b, 0x0c) & 0x40);
    }
    CHECK_EQ(b.f.rises, 10);
    fake_end(&b.f, b.d);
}

static uint64_t slow_ns(void *ctx)
{
    return ((struct board *)ctx)->f.now_ns += 1000000; /* a tick and more passes at each look */
}

/* An edge is seen by the PIC even when the next tick is due before the read of C is done. */
static void each_read_is_followed_by_an_edge(void)
{
    struct board b;
    begin(&b, 1709210096);
    b.f.env.guest_ns = slow_ns;
    b.f.env.ctx = &b;
    set(&b, 0x0b, 0x42); /* 1024 Hz */
    get(&b, 0x0c);
    for (int i = 0; i < 10; i++) {
        b.f.rises = 0;
        CHECK(get(&b, 0x0c) & 0x40);
        CHECK(b.f.line);
        CHECK(b.f.rises >= 1);
    }
    fake_end(&b.f, b.d);
}

static void says_when_it_updates(void)
{
    struct board b;
    begin(&b, 1000000000);
    CHECK_EQ(get(&b, 0x0a) & 0x80, 0);
    fake_advance(&b.f, b.d, 999800000);
    CHECK_EQ(get(&b, 0x0a) & 0x80, 0x80);
    fake_advance(&b.f, b.d, 300000);
    CHECK_EQ(get(&b, 0x0a) & 0x80, 0);
    fake_end(&b.f, b.d);
}

static void memory_is_kept(void)
{
    struct board b;
    begin(&b, 1000000000);
    rtc_set_cmos(b.r, 0x10, 0x40);
    set(&b, 0x7f, 0xaa);
    b.d.ops->reset(b.d.self);
    CHECK_EQ(get(&b, 0x7f), 0xaa);
    CHECK_EQ(get(&b, 0x10), 0x40);
    CHECK_EQ(get(&b, 0x0b), 2);
    fake_end(&b.f, b.d);
}

static void nonsense_dates_do_no_harm(void)
{
    struct board b;
    begin(&b, 0);
    for (unsigned v = 0; v < 256; v++)
        for (unsigned reg = 0; reg < 10; reg++) {
            set(&b, (uint8_t)reg, (uint8_t)v);
            get(&b, (uint8_t)reg);
        }
    set(&b, 0x32, 0xff);
    get(&b, 9);
    fake_end(&b.f, b.d);
}

static void state_survives(void)
{
    struct board b;
    begin(&b, 1709210096);
    set(&b, 0x0b, 0x82);
    set(&b, 9, 0x30);
    set(&b, 0x50, 0x99);
    fake_check_state(&b.f, b.d);
    set(&b, 0x0b, 0x02);
    CHECK_EQ(get(&b, 9), 0x30);
    CHECK_EQ(get(&b, 0x50), 0x99);
    fake_end(&b.f, b.d);
}

static const struct check_test tests[] = {CHECK_TEST(shows_the_time),
                                          CHECK_TEST(can_be_set),
                                          CHECK_TEST(alarm_update_and_periodic_interrupt),
                                          CHECK_TEST(each_read_is_followed_by_an_edge),
                                          CHECK_TEST(says_when_it_updates),
                                          CHECK_TEST(memory_is_kept),
                                          CHECK_TEST(nonsense_dates_do_no_harm),
                                          CHECK_TEST(state_survives)};
CHECK_MAIN(tests)
