/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/loop.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "check.h"

static int order[16], norder;
static struct loop *the_loop;

static void note(void *ctx)
{
    order[norder++] = (int)(intptr_t)ctx;
}

static void timers_fire_in_order(void)
{
    struct loop *l = loop_new(NULL);
    struct loop_timer t[8];
    norder = 0;
    uint64_t now = clock_ns();
    for (int i = 0; i < 8; i++) {
        loop_timer_init(&t[i], l, note, (void *)(intptr_t)i);
        loop_timer_arm(&t[i], now + (uint64_t)((i * 5) % 8) * 1000000);
    }
    loop_timer_disarm(&t[3]);
    loop_timer_arm(&t[4], now + 1); /* 4: (20 % 8) = 4 ms before; now the earliest after 0 */
    while (norder < 7)
        loop_turn(l, 100);
    static const int want[] = {0, 4, 5, 2, 7, 1, 6};
    for (int i = 0; i < 7; i++)
        CHECK_EQ(order[i], want[i]);
    loop_free(l);
}

static void *poster(void *ctx)
{
    struct loop_post *p = ctx;
    for (int i = 0; i < 4; i++)
        loop_post(the_loop, &p[i]);
    loop_call_wait(the_loop, note, (void *)99);
    loop_quit(the_loop);
    return NULL;
}

static void posts_arrive_in_order(void)
{
    pthread_t th;
    struct loop_post p[4];
    the_loop = loop_new(NULL);
    norder = 0;
    for (int i = 0; i < 4; i++)
        loop_post_init(&p[i], note, (void *)(intptr_t)i);
    pthread_create(&th, NULL, poster, p);
    loop_run(the_loop);
    pthread_join(th, NULL);
    CHECK_EQ(norder, 5);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(order[i], i);
    CHECK_EQ(order[4], 99);
    loop_free(the_loop);
}

static struct loop_source *sources[2];
static void remove_both(void *ctx, uint32_t events)
{
    (*(int *)ctx)++;
    loop_source_remove(sources[0]);
    loop_source_remove(sources[1]);
    sources[0] = sources[1] = NULL;
}

static void a_source_may_remove_another_that_is_ready(void)
{
    struct loop *l = loop_new(NULL);
    int a[2], b[2], calls = 0;
    CHECK(pipe(a) == 0 && pipe(b) == 0);
    CHECK(write(a[1], "x", 1) == 1 && write(b[1], "x", 1) == 1);
    sources[0] = loop_add_fd(l, a[0], EPOLLIN, remove_both, &calls, NULL);
    sources[1] = loop_add_fd(l, b[0], EPOLLIN, remove_both, &calls, NULL);
    loop_turn(l, 0);
    loop_turn(l, 0);
    CHECK_EQ(calls, 1);
    loop_free(l);
    for (int i = 0; i < 2; i++) {
        close(a[i]);
        close(b[i]);
    }
}

/* What is posted from a callback is called although nothing wakes the loop; and what came of
 * preparing a wait is what a caller of loop_turn waited for. */
struct chain {
    struct loop *l;
    struct loop_post post;
    struct loop_timer timer;
    unsigned calls, prepared;
};
static void again(void *ctx)
{
    struct chain *c = ctx;
    if (++c->calls < 3)
        loop_post(c->l, &c->post);
    else
        loop_quit(c->l);
}
static bool come_of_it(void *ctx)
{
    struct chain *c = ctx;
    return c->prepared++ == 0;
}

static void nothing_waits_for_what_is_there(void)
{
    struct chain c = {.l = loop_new(NULL)};
    struct loop_prepare p = {come_of_it, &c, NULL};
    loop_post_init(&c.post, again, &c);
    loop_timer_init(&c.timer, c.l, again, &c);
    loop_timer_arm_in(&c.timer, 1);
    loop_run(c.l); /* the timer, then two posts from the loop's own thread */
    CHECK_EQ(c.calls, 3);
    loop_prepare_add(c.l, &p);
    CHECK(loop_turn(c.l, -1));
    CHECK_EQ(c.prepared, 1);
    loop_prepare_remove(c.l, &p);
    loop_free(c.l);
}

static const struct check_test tests[] = {CHECK_TEST(timers_fire_in_order),
                                          CHECK_TEST(posts_arrive_in_order),
                                          CHECK_TEST(a_source_may_remove_another_that_is_ready),
                                          CHECK_TEST(nothing_waits_for_what_is_there)};
CHECK_MAIN(tests)
