/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/console.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"

static struct loop *loop;
static struct console *console;
static unsigned wakes;
static uint8_t *pixels;
static int fd;

enum { W = 64, H = 48 };

static void wake(void *ctx)
{
    wakes++;
}

static void begin(void)
{
    err e = ERR_INIT;
    loop = loop_new(&e);
    console = console_new(loop, &e);
    fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(ftruncate(fd, W * H * 4) == 0);
    pixels = mmap(NULL, W * H * 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    wakes = 0;
}

static void end(void)
{
    console_free(console);
    loop_free(loop);
    munmap(pixels, W * H * 4);
    close(fd);
}

static void turns(unsigned ms)
{
    uint64_t until = clock_ns() + ms * 1000000ull;
    do
        loop_turn(loop, 5);
    while (clock_ns() < until);
}

static void show(bool plain)
{
    struct console_surface s = {.fd = fd, .width = W, .height = H, .stride = W * 4};
    console_source_show(console, &s, plain ? pixels : NULL);
}

static void drain(struct console_listener *l)
{
    struct console_update u;
    while (console_take(l, &u))
        console_update_clear(&u);
}

static void a_viewer_gets_all_and_then_changes(void)
{
    struct console_update u;
    begin();
    show(false);
    struct console_listener *l = console_listen(console, wake, NULL);
    CHECK(console_take(l, &u));
    CHECK(u.changes & CONSOLE_SURFACE_CHANGED);
    CHECK(u.surface.fd >= 0 && u.surface.fd != fd);
    CHECK_EQ(u.surface.width, W);
    console_update_clear(&u);
    CHECK(!console_take(l, &u));
    console_source_dirty(console, 10, 10, 20, 20);
    console_source_dirty(console, 12, 12, 18, 18); /* inside: joined for nothing */
    CHECK_EQ(wakes, 1);
    CHECK(console_take(l, &u));
    CHECK_EQ(u.changes, CONSOLE_DIRTY);
    CHECK_EQ(u.nrects, 1);
    CHECK_EQ(u.rects[0].width, 10);
    CHECK_EQ(u.surface.fd, (uint64_t)-1);
    console_update_clear(&u);
    drain(l);
    /* What lies outside is cut off or dropped. */
    console_source_dirty(console, -5, -5, 3, 3);
    console_source_dirty(console, 100, 100, 200, 200);
    console_source_dirty(console, 20, 20, 10, 10);
    CHECK(console_take(l, &u));
    CHECK_EQ(u.nrects, 1);
    CHECK_EQ(u.rects[0].x, 0);
    CHECK_EQ(u.rects[0].width, 3);
    console_update_clear(&u);
    console_unlisten(l);
    end();
}

static void many_rectangles_stay_few_and_cover_all(void)
{
    struct console_update u;
    static bool hit[H][W];
    begin();
    show(false);
    struct console_listener *l = console_listen(console, wake, NULL);
    drain(l);
    memset(hit, 0, sizeof hit);
    for (unsigned i = 0; i < 300; i++) {
        unsigned x = i * 37 % (W - 2), y = i * 53 % (H - 2);
        hit[y][x] = hit[y + 1][x + 1] = true;
        console_source_dirty(console, x, y, x + 2, y + 2);
    }
    CHECK(console_take(l, &u));
    CHECK(u.nrects <= CONSOLE_RECTS);
    for (unsigned i = 0; i < u.nrects; i++)
        for (unsigned y = u.rects[i].y; y < u.rects[i].y + u.rects[i].height; y++)
            for (unsigned x = u.rects[i].x; x < u.rects[i].x + u.rects[i].width; x++)
                hit[y][x] = false;
    unsigned missed = 0;
    for (unsigned y = 0; y < H; y++)
        for (unsigned x = 0; x < W; x++)
            missed += hit[y][x];
    CHECK_EQ(missed, 0);
    console_update_clear(&u);
    console_unlisten(l);
    end();
}

static void a_plain_framebuffer_is_compared_while_watched(void)
{
    struct console_update u;
    begin();
    show(true);
    struct console_listener *l = console_listen(console, wake, NULL);
    turns(60);
    drain(l);
    pixels[(17 * W + 5) * 4] = 0xaa;
    turns(300);
    CHECK(console_take(l, &u));
    CHECK(u.nrects == 1 && u.rects[0].y == 17 && u.rects[0].height == 1);
    console_update_clear(&u);
    turns(300);
    CHECK(!console_take(l, &u)); /* nothing changes, nothing is said */
    console_unlisten(l);
    end();
}

struct got {
    unsigned keys, pointers, downs;
    uint8_t last;
    uint32_t x, y, buttons;
    int wheel;
};
static void on_key(void *ctx, uint8_t qnum, bool down)
{
    struct got *g = ctx;
    g->keys++;
    g->downs += down;
    g->last = qnum;
}
static void on_pointer(void *ctx, uint32_t x, uint32_t y, uint32_t buttons, int wheel)
{
    struct got *g = ctx;
    g->pointers++;
    g->x = x;
    g->y = y;
    g->buttons = buttons;
    g->wheel += wheel;
}

static void input_reaches_the_device_in_order(void)
{
    static const struct console_input_ops ops = {on_key, on_pointer};
    struct got got = {0};
    begin();
    show(false);
    console_set_input(console, &ops, &got);
    CHECK(console_has_keyboard(console) && console_has_pointer(console));
    console_key(console, 0x1e, true);
    console_key(console, 0x1e, false);
    for (unsigned i = 0; i < 2000; i++)
        console_move(console, i, i); /* joined */
    console_button(console, 2, true);
    console_wheel(console, -3);
    turns(20);
    CHECK_EQ(got.keys, 2);
    CHECK_EQ(got.pointers, 3);
    CHECK_EQ(got.x, 1999);
    CHECK_EQ(got.buttons, 4);
    CHECK_EQ((unsigned)-got.wheel, 3);
    console_move_pixels(console, W - 1, 0);
    turns(10);
    CHECK_EQ(got.x, CONSOLE_MAX_ABS);
    CHECK_EQ(got.y, 0);
    for (int i = 0; i < 3; i++)
        console_move_by(console, -1, -7); /* joined, and it stays on the screen */
    turns(10);
    CHECK_EQ(got.x, CONSOLE_MAX_ABS - 3 * CONSOLE_MAX_ABS / (W - 1));
    CHECK_EQ(got.y, 0);
    console_move_by(console, INT32_MAX, 2);
    turns(10);
    CHECK_EQ(got.x, CONSOLE_MAX_ABS);
    CHECK_EQ(got.y, 2 * CONSOLE_MAX_ABS / (H - 1));
    /* The focus goes while keys are down. */
    console_key(console, 0x2a, true);
    console_keys_up(console);
    turns(10);
    CHECK_EQ(got.last, 0x2a);
    CHECK_EQ(got.keys, 4);
    CHECK_EQ(got.downs, 2);
    CHECK_EQ(got.buttons, 0);
    console_drop_input(console, &got);
    CHECK(!console_has_keyboard(console));
    end();
}

static void pointer_and_shape_are_kept(void)
{
    struct console_update u;
    uint8_t argb[4 * 4 * 4];
    begin();
    memset(argb, 0x7f, sizeof argb);
    console_source_shape(console, &(struct console_shape){4, 4, 1, 2, argb});
    console_source_pointer(console, &(struct console_pointer){true, 3, 4});
    struct console_listener *l = console_listen(console, wake, NULL);
    CHECK(console_take(l, &u));
    CHECK(u.changes & CONSOLE_SHAPE_CHANGED && u.changes & CONSOLE_POINTER_MOVED);
    CHECK(u.shape.width == 4 && u.shape.hot_y == 2 && u.shape.argb[63] == 0x7f);
    CHECK(u.pointer.visible && u.pointer.x == 3);
    CHECK_EQ(u.surface.fd, (uint64_t)-1); /* nothing is shown */
    console_update_clear(&u);
    drain(l);
    console_source_pointer(console, &(struct console_pointer){true, 3, 4});
    CHECK(!console_take(l, &u));
    console_unlisten(l);
    end();
}

static const struct check_test tests[] = {
    CHECK_TEST(a_viewer_gets_all_and_then_changes),
    CHECK_TEST(many_rectangles_stay_few_and_cover_all),
    CHECK_TEST(a_plain_framebuffer_is_compared_while_watched),
    CHECK_TEST(input_reaches_the_device_in_order),
    CHECK_TEST(pointer_and_shape_are_kept),
};
CHECK_MAIN(tests)
