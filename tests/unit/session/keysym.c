/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/keysym.h"

#include "check.h"
#include "session/remote/gate.h"

static void keys_of_a_us_keyboard(void)
{
    static const struct {
        uint32_t keysym;
        uint8_t qnum;
    } k[] = {{'a', 0x1e},    {'A', 0x1e},    {'1', 0x02},    {'!', 0x02},    {'/', 0x35},
             {'?', 0x35},    {'\\', 0x2b},   {'~', 0x29},    {' ', 0x39},    {0xff0d, 0x1c},
             {0xff8d, 0x9c}, {0xffe3, 0x1d}, {0xffe4, 0x9d}, {0xff52, 0xc8}, {0xffc9, 0x58},
             {0xff13, 0xc6}, {'z', 0x2c},    {'m', 0x32},    {'=', 0x0d},    {'+', 0x0d},
             {'\'', 0x28},   {';', 0x27}};
    for (unsigned i = 0; i < sizeof k / sizeof k[0]; i++)
        CHECK_EQ(keysym_to_qnum(k[i].keysym), k[i].qnum);
    CHECK_EQ(keysym_to_qnum(0), 0);
    CHECK_EQ(keysym_to_qnum(0xe9), 0); /* eacute: on no key of it */
    CHECK_EQ(keysym_to_qnum(0xffffffff), 0);
}

/* Every printable character has a key, and no two of one kind share it. */
static void all_of_ascii(void)
{
    unsigned uses[256] = {0};
    for (uint32_t c = 0x20; c < 0x7f; c++) {
        CHECK(keysym_to_qnum(c) != 0);
        uses[keysym_to_qnum(c)]++;
    }
    for (unsigned q = 0; q < 256; q++)
        CHECK(uses[q] <= 2);
}

static void three_tries_a_second(void)
{
    struct gate g = {{0}};
    gint64 t = 1000000;
    for (int i = 0; i < GATE_TRIES; i++)
        CHECK_EQ(gate_try(&g, t + i), 0);
    CHECK(gate_try(&g, t + 10) > 0);
    CHECK_EQ(gate_try(&g, t + 10), GATE_WINDOW_US - 10);
    CHECK_EQ(gate_try(&g, t + GATE_WINDOW_US), 0);
    CHECK(gate_try(&g, t + GATE_WINDOW_US) > 0);
    gate_passed(&g);
    CHECK_EQ(gate_try(&g, t + GATE_WINDOW_US + 1), 0);
}

static const struct check_test tests[] = {
    CHECK_TEST(keys_of_a_us_keyboard),
    CHECK_TEST(all_of_ascii),
    CHECK_TEST(three_tries_a_second),
};
CHECK_MAIN(tests)
