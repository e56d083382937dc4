/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pit.h"

#include "fake.h"

struct board {
    struct fake f;
    struct device d;
};

static void begin(struct board *b)
{
    memset(b, 0, sizeof *b);
    fake_init(&b->f);
    b->d = pit_device(pit_new(&b->f.env, fake_line(&b->f), NULL));
    fake_start(&b->f, b->d);
}

static void program(struct board *b, unsigned channel, uint8_t mode, uint16_t count)
{
    out8(&b->f, 0x43, (uint8_t)(channel << 6 | 0x30 | mode << 1));
    out8(&b->f, (uint16_t)(0x40 + channel), (uint8_t)count);
    out8(&b->f, (uint16_t)(0x40 + channel), (uint8_t)(count >> 8));
}

static uint16_t latched(struct board *b, unsigned channel)
{
    out8(&b->f, 0x43, (uint8_t)(channel << 6));
    uint8_t low = in8(&b->f, (uint16_t)(0x40 + channel));
    return (uint16_t)(low | in8(&b->f, (uint16_t)(0x40 + channel)) << 8);
}

static void periodic_interrupts_keep_their_rate(void)
{
    for (uint8_t mode = 2; mode <= 3; mode++) {
        struct board b;
        begin(&b);
        program(&b, 0, mode, 11932); /* 10 ms */
        b.f.rises = 0;
        for (int i = 0; i < 100; i++)
            fake_advance(&b.f, b.d, 5000000);
        CHECK(b.f.rises >= 49 && b.f.rises <= 50);
        fake_advance(&b.f, b.d, 10000000000); /* late: one, not a thousand */
        CHECK(b.f.rises <= 51);
        fake_end(&b.f, b.d);
    }
}

static void one_shot_fires_once(void)
{
    struct board b;
    begin(&b);
    program(&b, 0, 0, 1193);
    CHECK(!b.f.line);
    b.f.rises = 0;
    fake_advance(&b.f, b.d, 900000);
    CHECK(!b.f.line);
    fake_advance(&b.f, b.d, 200000);
    CHECK(b.f.line);
    for (int i = 0; i < 10; i++)
        fake_advance(&b.f, b.d, 60000000);
    CHECK_EQ(b.f.rises, 1);
    fake_end(&b.f, b.d);
}

static void counts_down_and_latches(void)
{
    struct board b;
    begin(&b);
    program(&b, 0, 2, 50000);
    fake_advance(&b.f, b.d, 10000000); /* 11931 ticks */
    CHECK_EQ(latched(&b, 0), 50000 - 11931);
    out8(&b.f, 0x43, 0);
    fake_advance(&b.f, b.d, 10000000);
    uint8_t low = in8(&b.f, 0x40); /* low byte first, whatever order the compiler likes */
    CHECK_EQ(low | in8(&b.f, 0x40) << 8, 50000 - 11931);
    CHECK_EQ(latched(&b, 0), 50000 - 23863);
    out8(&b.f, 0x43, 0xe2); /* read back: status of channel 0 */
    CHECK_EQ(in8(&b.f, 0x40), 0x80 | 0x30 | 2 << 1);
    fake_end(&b.f, b.d);
}

static void bcd_counts(void)
{
    struct board b;
    begin(&b);
    out8(&b.f, 0x43, 0x35);
    out8(&b.f, 0x40, 0x34);
    out8(&b.f, 0x40, 0x12);
    CHECK_EQ(latched(&b, 0), 0x1234);
    fake_advance(&b.f, b.d, 100000); /* 119 ticks */
    CHECK_EQ(latched(&b, 0), 0x1115);
    fake_end(&b.f, b.d);
}

static void the_speaker_gate_times_a_loop(void)
{
    struct board b;
    begin(&b);
    out8(&b.f, 0x61, 0);
    out8(&b.f, 0x43, 0xb0);
    out8(&b.f, 0x42, 0xff);
    out8(&b.f, 0x42, 0x0f); /* 4095 ticks: 3.43 ms */
    fake_advance(&b.f, b.d, 5000000);
    CHECK_EQ(in8(&b.f, 0x61) & 0x20, 0); /* the gate is closed */
    out8(&b.f, 0x61, 1);
    CHECK_EQ(in8(&b.f, 0x61) & 0x0f, 1);
    fake_advance(&b.f, b.d, 3000000);
    CHECK_EQ(in8(&b.f, 0x61) & 0x20, 0);
    out8(&b.f, 0x61, 0); /* held */
    fake_advance(&b.f, b.d, 3000000);
    CHECK_EQ(in8(&b.f, 0x61) & 0x20, 0);
    out8(&b.f, 0x61, 1);
    fake_advance(&b.f, b.d, 1000000);
    CHECK_EQ(in8(&b.f, 0x61) & 0x20, 0x20);
    fake_end(&b.f, b.d);
}

static void state_survives(void)
{
    struct board b;
    begin(&b);
    program(&b, 0, 2, 11932);
    out8(&b.f, 0x61, 3);
    fake_advance(&b.f, b.d, 7000000);
    uint16_t before = latched(&b, 0);
    out8(&b.f, 0x43, 0xb0);
    out8(&b.f, 0x42, 0x77); /* half a count */
    fake_check_state(&b.f, b.d);
    CHECK_EQ(latched(&b, 0), before);
    b.f.rises = 0;
    fake_advance(&b.f, b.d, 5000000);
    CHECK_EQ(b.f.rises, 1);
    fake_end(&b.f, b.d);
}

static const struct check_test tests[] = {CHECK_TEST(periodic_interrupts_keep_their_rate),
                                          CHECK_TEST(one_shot_fires_once),
                                          CHECK_TEST(counts_down_and_latches),
                                          CHECK_TEST(bcd_counts),
                                          CHECK_TEST(the_speaker_gate_times_a_loop),
                                          CHECK_TEST(state_survives)};
CHECK_MAIN(tests)
