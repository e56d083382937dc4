/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/pic.h"

#include "fake.h"

struct board {
    struct fake f;
    struct pic *p;
    struct device d;
    bool intr;
};

static void on_intr(void *ctx, bool asserted)
{
    ((struct board *)ctx)->intr = asserted;
}

static void init_chip(struct board *b, uint16_t port, uint8_t base, uint8_t cascade, uint8_t icw4)
{
    out8(&b->f, port, 0x11);
    out8(&b->f, port + 1, base);
    out8(&b->f, port + 1, cascade);
    out8(&b->f, port + 1, icw4);
    out8(&b->f, port + 1, 0);
}

static void begin(struct board *b)
{
    memset(b, 0, sizeof *b);
    fake_init(&b->f);
    b->p = pic_new(&b->f.env, &(struct pic_out){.intr = on_intr, .ctx = b}, NULL);
    b->d = pic_device(b->p);
    fake_start(&b->f, b->d);
    init_chip(b, 0x20, 0x20, 4, 1);
    init_chip(b, 0xa0, 0x28, 2, 1);
}

static void line(struct board *b, unsigned input, bool level)
{
    struct chip_line l = pic_line(b->p, input);
    chip_line_set(&l, level);
}

static void priorities_and_end_of_interrupt(void)
{
    struct board b;
    begin(&b);
    CHECK_EQ((unsigned)pic_acknowledge(b.p), (unsigned)-1);
    line(&b, 4, true);
    CHECK(b.intr);
    line(&b, 1, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x21);
    CHECK(!b.intr); /* 4 waits for 1 */
    line(&b, 0, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x20); /* 0 does not */
    out8(&b.f, 0x20, 0x20);
    CHECK(!b.intr);
    out8(&b.f, 0x20, 0x20);
    CHECK_EQ(pic_acknowledge(b.p), 0x24);
    out8(&b.f, 0x20, 0x0b);
    CHECK_EQ(in8(&b.f, 0x20), 0x10);
    out8(&b.f, 0x20, 0x64); /* specific end of 4 */
    CHECK_EQ(in8(&b.f, 0x20), 0);
    CHECK(!b.intr); /* edges do not repeat */
    fake_end(&b.f, b.d);
}

static void the_slave_is_behind_input_2(void)
{
    struct board b;
    begin(&b);
    line(&b, 8, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x28);
    line(&b, 12, true);
    CHECK(!b.intr);
    out8(&b.f, 0xa0, 0x20);
    CHECK(!b.intr); /* the master's input 2 is still in service */
    out8(&b.f, 0x20, 0x20);
    CHECK_EQ(pic_acknowledge(b.p), 0x2c);
    fake_end(&b.f, b.d);
}

static void masks_hide_and_keep(void)
{
    struct board b;
    begin(&b);
    out8(&b.f, 0x21, 0xff);
    CHECK_EQ(in8(&b.f, 0x21), 0xff);
    line(&b, 3, true);
    CHECK(!b.intr);
    out8(&b.f, 0x20, 0x0a);
    CHECK_EQ(in8(&b.f, 0x20), 8);
    line(&b, 3, false); /* an edge stays latched */
    out8(&b.f, 0x21, 0xf7);
    CHECK(b.intr);
    fake_end(&b.f, b.d);
}

static void level_inputs_repeat(void)
{
    struct board b;
    begin(&b);
    out8(&b.f, 0x4d0, 0xff);
    CHECK_EQ(in8(&b.f, 0x4d0), 0xf8);
    line(&b, 5, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x25);
    out8(&b.f, 0x20, 0x20);
    CHECK(b.intr);
    line(&b, 5, false);
    CHECK(!b.intr);
    fake_end(&b.f, b.d);
}

static void auto_end_rotation_and_poll(void)
{
    struct board b;
    begin(&b);
    init_chip(&b, 0x20, 0x40, 4, 3);
    line(&b, 6, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x46);
    line(&b, 7, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x47); /* nothing is in service */
    init_chip(&b, 0x20, 0x40, 4, 1);
    line(&b, 1, true);
    pic_acknowledge(b.p);
    out8(&b.f, 0x20, 0xa0); /* rotate: 1 becomes the lowest */
    line(&b, 0, true);
    line(&b, 2, false);
    line(&b, 3, true);
    CHECK_EQ(pic_acknowledge(b.p), 0x43);
    out8(&b.f, 0x20, 0x20);
    out8(&b.f, 0x20, 0x0c);
    CHECK_EQ(in8(&b.f, 0x20), 0x80); /* poll finds input 0 */
    fake_end(&b.f, b.d);
}

static void state_survives(void)
{
    struct board b;
    begin(&b);
    line(&b, 10, true);
    pic_acknowledge(b.p);
    line(&b, 0, true);
    fake_check_state(&b.f, b.d);
    CHECK(b.intr);
    CHECK_EQ(pic_acknowledge(b.p), 0x20);
    fake_end(&b.f, b.d);
}

static const struct check_test tests[] = {CHECK_TEST(priorities_and_end_of_interrupt),
                                          CHECK_TEST(the_slave_is_behind_input_2),
                                          CHECK_TEST(masks_hide_and_keep),
                                          CHECK_TEST(level_inputs_repeat),
                                          CHECK_TEST(auto_end_rotation_and_poll),
                                          CHECK_TEST(state_survives)};
CHECK_MAIN(tests)
