/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/guid.h"

#include "check.h"

static void wire_order(void)
{
    static const struct guid nic = GUID(0xf8615163, 0xdf3e, 0x46c5, 0x913f, 0xf2d2f965ed0e);
    static const uint8_t wire[16] = {0x63, 0x51, 0x61, 0xf8, 0x3e, 0xdf, 0xc5, 0x46,
                                     0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e};
    char text[GUID_STR_LEN + 1];
    struct guid g;
    CHECK(memcmp(nic.b, wire, 16) == 0);
    guid_format(&nic, text);
    CHECK_STR(text, "f8615163-df3e-46c5-913f-f2d2f965ed0e");
    CHECK(guid_parse("{F8615163-DF3E-46C5-913F-F2D2F965ED0E}", &g) && guid_equal(&g, &nic));
}

static void bad_texts(void)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "f8615163",
                                      "f8615163-df3e-46c5-913f-f2d2f965ed0",
                                      "x8615163-df3e-46c5-913f-f2d2f965ed0e",
                                      "f8615163-df3e-46c5-913f-f2d2f965ed0e0",
                                      "{f8615163-df3e-46c5-913f-f2d2f965ed0e",
                                      "f8615163-df3e-46c5-913f-f2d2f965ed0e}",
                                      "f8615163xdf3e-46c5-913f-f2d2f965ed0e"};
    struct guid g;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(!guid_parse(bad[i], &g));
}

static void random_ones(void)
{
    struct guid a, b;
    guid_random(&a);
    guid_random(&b);
    CHECK(!guid_equal(&a, &b));
    CHECK_EQ(a.b[7] >> 4, 4);
    CHECK_EQ(a.b[8] >> 6, 2);
}

static const struct check_test tests[] = {CHECK_TEST(wire_order), CHECK_TEST(bad_texts),
                                          CHECK_TEST(random_ones)};
CHECK_MAIN(tests)
