/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/i8042.h"

#include "board.h"

enum { STATUS_FULL = 1, STATUS_MOUSE = 0x20, QNUM_A = 0x1e, QNUM_UP = 0xc8 };

static void turn(struct board *b)
{
    for (int i = 0; i < 8 && loop_turn(b->f.env.loop, 0); i++)
        ;
}

static void test_controller(struct board *b)
{
    out8(&b->f, 0x64, 0xaa);
    CHECK(in8(&b->f, 0x64) & STATUS_FULL);
    CHECK_EQ(in8(&b->f, 0x60), 0x55);
    CHECK(!(in8(&b->f, 0x64) & STATUS_FULL));
    out8(&b->f, 0x64, 0x60);
    out8(&b->f, 0x60, 0x47); /* both interrupts, translation */
    out8(&b->f, 0x64, 0x20);
    CHECK_EQ(in8(&b->f, 0x60), 0x47);
    out8(&b->f, 0x64, 0xfe);
    CHECK_EQ(b->resets, 1);
}

static void test_keys(struct board *b)
{
    console_key(b->console, QNUM_A, true);
    console_key(b->console, QNUM_A, false);
    console_key(b->console, QNUM_UP, true);
    console_key(b->console, QNUM_UP, false);
    turn(b);
    static const uint8_t translated[] = {0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8};
    for (size_t i = 0; i < sizeof translated; i++) {
        CHECK(b->irq[1]);
        CHECK_EQ(in8(&b->f, 0x60), translated[i]);
    }
    CHECK(!b->irq[1]);
    out8(&b->f, 0x64, 0x60);
    out8(&b->f, 0x60, 0x07); /* as the keyboard sends them: set 2 */
    console_key(b->console, QNUM_A, true);
    console_key(b->console, QNUM_A, false);
    turn(b);
    static const uint8_t raw[] = {0x1c, 0xf0, 0x1c};
    for (size_t i = 0; i < sizeof raw; i++)
        CHECK_EQ(in8(&b->f, 0x60), raw[i]);
}

static void mouse_command(struct board *b, uint8_t byte)
{
    out8(&b->f, 0x64, 0xd4);
    out8(&b->f, 0x60, byte);
    CHECK((in8(&b->f, 0x64) & (STATUS_FULL | STATUS_MOUSE)) == (STATUS_FULL | STATUS_MOUSE));
    CHECK_EQ(in8(&b->f, 0x60), 0xfa);
}

static void test_mouse(struct board *b)
{
    static const uint8_t magic[] = {200, 100, 80};
    for (size_t i = 0; i < sizeof magic; i++) {
        mouse_command(b, 0xf3);
        mouse_command(b, magic[i]);
    }
    mouse_command(b, 0xf2);
    CHECK_EQ(in8(&b->f, 0x60), 3); /* it has a wheel */
    mouse_command(b, 0xf4);
    console_move(b->console, 0, 0);
    turn(b);
    console_move(b->console, CONSOLE_MAX_ABS * 10 / 1024 + 1, CONSOLE_MAX_ABS * 20 / 768 + 1);
    turn(b);
    CHECK(b->irq[12]);
    CHECK_EQ(in8(&b->f, 0x60), 0x28); /* y is negative */
    CHECK_EQ(in8(&b->f, 0x60), 10);
    CHECK_EQ(in8(&b->f, 0x60), (uint8_t)-20);
    CHECK_EQ(in8(&b->f, 0x60), 0);
    console_button(b->console, 0, true);
    console_wheel(b->console, 1);
    turn(b);
    CHECK_EQ(in8(&b->f, 0x60), 9);
    in8(&b->f, 0x60);
    in8(&b->f, 0x60);
    CHECK_EQ(in8(&b->f, 0x60), 0);
    CHECK_EQ(in8(&b->f, 0x60), 9);
    in8(&b->f, 0x60);
    in8(&b->f, 0x60);
    CHECK_EQ(in8(&b->f, 0x60), 0xff);
    CHECK(!b->irq[12]);
}

static bool is_a20(void *ctx)
{
    return piix4_a20(((struct board *)ctx)->piix4);
}
static void put_a20(void *ctx, bool on)
{
    piix4_set_a20(((struct board *)ctx)->piix4, on);
}

static void test_a20(struct board *b)
{
    unsigned resets = b->resets;
    out8(&b->f, 0x64, 0xd1);
    out8(&b->f, 0x60, 0xdd);
    CHECK(!b->a20);
    CHECK_EQ(b->resets, resets);
    out8(&b->f, 0x64, 0xd0);
    CHECK_EQ(in8(&b->f, 0x60) & 2, 0);
    out8(&b->f, 0x92, 2); /* it is one gate */
    out8(&b->f, 0x64, 0xd0);
    CHECK_EQ(in8(&b->f, 0x60) & 2, 2);
    out8(&b->f, 0x64, 0xdd);
    CHECK(!b->a20);
    out8(&b->f, 0x64, 0xdf);
    CHECK(b->a20);
}

int main(void)
{
    struct board b;
    board_init(&b);
    struct i8042 *k = i8042_new(&(struct i8042_params){.env = &b.f.env,
                                                       .console = b.console,
                                                       .keyboard = board_line(&b, 1),
                                                       .mouse = board_line(&b, 12),
                                                       .reset = board_reset,
                                                       .a20 = is_a20,
                                                       .set_a20 = put_a20,
                                                       .ctx = &b},
                                NULL);
    struct device d = i8042_device(k);
    fake_start(&b.f, d);
    test_controller(&b);
    test_keys(&b);
    test_mouse(&b);
    test_a20(&b);
    console_key(b.console, QNUM_A, true);
    turn(&b);
    fake_check_state(&b.f, d);
    CHECK_EQ(in8(&b.f, 0x60), 0x1c); /* the key is still there */
    fake_stop(&b.f, d);
    d.ops->destroy(d.self);
    board_end(&b);
    return check_failures != 0;
}
