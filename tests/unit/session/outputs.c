/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Which of a screen's modes is nearest to the window's size. */
#include "session/guest/outputs.h"

#include "check.h"

static const int32_t modes[][2] = {{1920, 1080}, {0, 0},     {1024, 768},
                                   {1600, 900},  {800, 600}, {1280, 1024}};
enum { N = sizeof modes / sizeof modes[0] };

static void nearest(void)
{
    CHECK_EQ(outputs_nearest(modes, N, 1600, 900), 3);  /* listed */
    CHECK_EQ(outputs_nearest(modes, N, 1700, 1000), 3); /* the largest that fits */
    CHECK_EQ(outputs_nearest(modes, N, 1279, 1023), 2);
    CHECK_EQ(outputs_nearest(modes, N, 1300, 1100), 5);
    CHECK_EQ(outputs_nearest(modes, N, 4000, 3000), 0);
    CHECK_EQ(outputs_nearest(modes, N, 640, 480), 4);     /* none fits: the smallest */
    CHECK_EQ(outputs_nearest(modes + 1, 1, 640, 480), 0); /* none is told */
}

static const struct check_test tests[] = {CHECK_TEST(nearest)};
CHECK_MAIN(tests)
