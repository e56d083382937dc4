/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/crc32c.h"

#include "check.h"

static void known_values(void)
{
    uint8_t zero[32] = {0}, up[32];
    for (unsigned i = 0; i < 32; i++)
        up[i] = (uint8_t)i;
    CHECK_EQ(crc32c(0, "123456789", 9), 0xe3069283u);
    CHECK_EQ(crc32c(0, zero, 32), 0x8a9136aau); /* RFC 3720, B.4 */
    CHECK_EQ(crc32c(0, up, 32), 0x46dd794eu);
    CHECK_EQ(crc32c(crc32c(0, up, 5), up + 5, 27), 0x46dd794eu);
    CHECK_EQ(crc32c(0, up, 0), 0);
}

static const struct check_test tests[] = {CHECK_TEST(known_values)};
CHECK_MAIN(tests)
