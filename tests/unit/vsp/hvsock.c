/* SPDX-License-Identifier: GPL-3.0-or-later */
/* hv_sock through the fake guest: both directions, flow control, ends, and the Unix-socket bridge.
 */
#include "core/vsp/hvsock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/vsp/hvsock-proto.h"
#include "fake-guest.h"

struct rig {
    struct fake_guest *g;
    struct hvsock *h;
};
struct app { /* a user of a stream on the host */
    struct hvsock_stream *s;
    unsigned connected, closed, writable, ended;
    int reason;
    uint8_t got[70000];
    size_t ngot;
    bool lazy; /* does not read */
};

static void app_connected(void *ctx, struct hvsock_stream *s)
{
    ((struct app *)ctx)->connected++;
}
static void app_readable(void *ctx, struct hvsock_stream *s)
{
    struct app *a = ctx;
    const void *p;
    size_t n;
    while (!a->lazy && (p = hvsock_peek(s, &n))) {
        if (!n) {
            a->ended++;
            return;
        }
        memcpy(a->got + a->ngot, p, MIN(n, sizeof a->got - a->ngot));
        a->ngot += MIN(n, sizeof a->got - a->ngot);
        hvsock_consume(s, n);
    }
}
static void app_writable(void *ctx, struct hvsock_stream *s)
{
    ((struct app *)ctx)->writable++;
}
static void app_closed(void *ctx, struct hvsock_stream *s, int reason)
{
    struct app *a = ctx;
    a->closed++;
    a->reason = reason;
}
static const struct hvsock_stream_ops app_ops = {.connected = app_connected,
                                                 .readable = app_readable,
                                                 .writable = app_writable,
                                                 .closed = app_closed};

static void rig_up(struct rig *r)
{
    r->g = fake_guest_new(&(struct fake_params){.ram = 64 << 20});
    r->h = hvsock_new(r->g->bus, NULL);
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
}

static void rig_down(struct rig *r)
{
    struct device d = hvsock_as_device(r->h);
    d.ops->destroy(d.self);
    fake_guest_free(r->g);
}

static struct guid service(uint32_t port)
{
    struct guid g = hvsock_template;
    put_le32(g.b, port);
    return g;
}

static bool say(struct fake_channel *ch, const void *p, uint32_t n)
{
    uint8_t m[4096] = {HVSOCK_DATA};
    put_le32(m + 4, n);
    if (n)
        memcpy(m + 8, p, n);
    return fake_send(ch, 0, false, m, 8 + n);
}

/* What the guest got; -1: nothing, 0: the end. */
static int hear(struct fake_channel *ch, uint8_t *buf)
{
    struct fake_packet p;
    if (!fake_poll(ch, &p))
        return -1;
    CHECK_EQ(p.type, VMBUS_PACKET_INBAND);
    CHECK_EQ(get_le32(p.payload), HVSOCK_DATA);
    uint32_t n = get_le32(p.payload + 4);
    CHECK(n <= 16384 && n + 8 <= p.len);
    memcpy(buf, p.payload + 8, n);
    fake_settle(ch->g);
    return (int)n;
}

static bool app_is_closed(void *ctx)
{
    return ((struct app *)ctx)->closed > 0;
}

static struct fake_channel *guest_accepts(struct rig *r, uint32_t port)
{
    struct guid g = service(port);
    const struct vmbus_msg_offer *o = fake_offer_of(r->g, &g, 0);
    CHECK(o != NULL);
    if (!o)
        return NULL;
    CHECK_EQ(o->flags, 0x2011);
    CHECK_EQ(o->user[4], 1);
    return fake_open(r->g, o, 6, NULL);
}

static void the_host_connects(void)
{
    struct rig r;
    struct app a = {0};
    uint8_t buf[20000];
    rig_up(&r);
    a.s = hvsock_connect(r.h, 1234, 2000, &app_ops, &a, NULL);
    CHECK(a.s != NULL);
    struct fake_channel *ch = guest_accepts(&r, 1234);
    CHECK_EQ(a.connected, 1);
    CHECK_EQ(hvsock_write(a.s, "hello", 5), 5);
    CHECK_EQ(hear(ch, buf), 5);
    CHECK(memcmp(buf, "hello", 5) == 0);
    CHECK(say(ch, "good day", 8));
    CHECK_EQ(a.ngot, 8);
    CHECK(memcmp(a.got, "good day", 8) == 0);
    hvsock_shutdown(a.s); /* half-close: the guest still speaks */
    CHECK_EQ(hear(ch, buf), 0);
    CHECK_EQ(hvsock_write(a.s, "x", 1), -EPIPE);
    CHECK(say(ch, "last", 4));
    CHECK_EQ(a.ngot, 12);
    CHECK_EQ(a.closed, 0);
    CHECK(say(ch, NULL, 0));
    CHECK_EQ(a.ended, 1);
    CHECK(fake_wait(r.g, app_is_closed, &a));
    CHECK_EQ(a.reason, 0);
    CHECK(r.g->rescinded[ch->relid]);
    fake_release(r.g, ch->relid);
    CHECK_EQ(hvsock_count(r.h), 0);
    fake_forget(ch);
    rig_down(&r);
}

static void nobody_listens(void)
{
    struct rig r;
    struct app a = {0};
    rig_up(&r);
    CHECK(hvsock_connect(r.h, 9, 50, &app_ops, &a, NULL));
    CHECK_EQ(r.g->offer_count, 1);
    CHECK(fake_wait(r.g, app_is_closed, &a));
    CHECK_EQ(a.reason, ETIMEDOUT);
    CHECK_EQ(r.g->offer_count, 0);
    rig_down(&r);
}

static bool accept_app(void *ctx, struct hvsock_stream *s, uint32_t host_port, uint32_t guest_port)
{
    struct app *a = ctx;
    CHECK_EQ(host_port, 77);
    CHECK_EQ(guest_port, 0x1111);
    a->s = s;
    hvsock_set_ops(s, &app_ops, a);
    return true;
}

static int guest_connects(struct rig *r, uint32_t from, uint32_t to)
{
    struct vmbus_msg_tl_connect m = {
        .h.type = VMBUS_MSG_TL_CONNECT, .endpoint = service(from), .service = service(to)};
    struct vmbus_msg_tl_result res;
    fake_post(r->g, &m, sizeof m);
    return fake_take(r->g, VMBUS_MSG_TL_RESULT, &res, sizeof res) ? (int)res.status : -1;
}

static void the_guest_connects(void)
{
    struct rig r;
    struct app a = {0};
    uint8_t buf[20000];
    rig_up(&r);
    CHECK_EQ((uint32_t)guest_connects(&r, 0x1111, 77), 0xC0000236);
    CHECK(hvsock_listen(r.h, 77, accept_app, &a, NULL));
    CHECK(!hvsock_listen(r.h, 77, accept_app, &a, NULL));
    CHECK_EQ(guest_connects(&r, 0x1111, 77), 0);
    struct guid endpoint = service(0x1111), svc = service(77);
    const struct vmbus_msg_offer *o = fake_offer_instance(r.g, &endpoint, 0);
    CHECK(o && guid_equal(&o->class_id, &svc));
    CHECK_EQ(o->user[4], 0);
    /* The same endpoint again: the first has been given up, and goes before the second is offered.
     */
    uint32_t relid = o->relid;
    CHECK_EQ(guest_connects(&r, 0x1111, 77), 0);
    CHECK_EQ(a.closed, 1);
    CHECK_EQ(a.reason, ETIMEDOUT);
    a.closed = 0;
    CHECK(r.g->rescinded[relid & 0x7ff]);
    unsigned offers = r.g->offer_count;
    fake_release(r.g, relid);
    CHECK_EQ(r.g->offer_count, offers + 1);
    o = &r.g->offers[offers];
    CHECK(guid_equal(&o->instance, &endpoint));
    CHECK_EQ(hvsock_write(a.s, "early", 5), -EAGAIN);
    struct fake_channel *ch = fake_open(r.g, o, 6, NULL);
    CHECK_EQ(a.writable, 1);
    CHECK_EQ(hvsock_write(a.s, "early", 5), 5);
    CHECK_EQ(hear(ch, buf), 5);
    CHECK(fake_close(ch)); /* a program that was killed */
    CHECK_EQ(a.closed, 1);
    CHECK_EQ(a.reason, ECONNRESET);
    hvsock_unlisten(r.h, 77);
    CHECK((uint32_t)guest_connects(&r, 0x1112, 77) == 0xC0000236);
    rig_down(&r);
}

static void flow_is_controlled(void)
{
    struct rig r;
    struct app a = {.lazy = true};
    static uint8_t big[60000], buf[20000];
    rig_up(&r);
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i * 7 + (i >> 8));
    a.s = hvsock_connect(r.h, 5, 2000, &app_ops, &a, NULL);
    struct fake_channel *ch = guest_accepts(&r, 5);
    ssize_t went = hvsock_write(a.s, big, sizeof big);
    CHECK(went > 16000 && went < 20480);
    CHECK_EQ(hvsock_write(a.s, big, 1), -EAGAIN);
    size_t got = 0;
    for (unsigned spins = 0; got < sizeof big && spins < 1000; spins++) {
        int n = hear(ch, buf);
        if (n > 0) {
            CHECK(memcmp(buf, big + got, (size_t)n) == 0);
            got += (size_t)n;
        }
        if (a.writable && (size_t)went < sizeof big) {
            a.writable = 0;
            ssize_t more = hvsock_write(a.s, big + went, sizeof big - (size_t)went);
            went += MAX(more, 0);
        }
    }
    CHECK_EQ(got, sizeof big);
    /* the other way: a host that does not read stops the guest */
    unsigned said = 0;
    while (said < 100 && say(ch, big + said * 4000, 4000 * (said * 4000 + 4000 <= sizeof big)))
        said++;
    CHECK(said >= 4 && said < 10);
    CHECK_EQ(a.ngot, 0);
    a.lazy = false;
    app_readable(&a, a.s);
    fake_settle(r.g);
    CHECK_EQ(a.ngot, said * 4000);
    CHECK(memcmp(a.got, big, a.ngot) == 0);
    hvsock_close(a.s);
    CHECK_EQ(a.closed, 0);
    while (hear(ch, buf) > 0)
        ;
    fake_close(ch);
    rig_down(&r);
}

static void data_before_the_end_is_read(void)
{
    struct rig r;
    struct app a = {0};
    uint8_t buf[20000];
    rig_up(&r);
    a.s = hvsock_connect(r.h, 5, 2000, &app_ops, &a, NULL);
    struct fake_channel *ch = guest_accepts(&r, 5);
    CHECK_EQ(hvsock_write(a.s, "slow reader", 11), 11);
    hvsock_close(a.s);
    CHECK(say(ch, NULL, 0));
    for (unsigned i = 0; i < 5; i++)
        loop_turn(r.g->loop, 30);
    CHECK(!r.g->rescinded[ch->relid]); /* the guest has not read it yet */
    CHECK_EQ(hear(ch, buf), 11);
    uint64_t end = clock_ns() + UINT64_C(2000000000);
    while (!r.g->rescinded[ch->relid] && clock_ns() < end)
        loop_turn(r.g->loop, 30);
    CHECK(r.g->rescinded[ch->relid]);
    fake_forget(ch);
    rig_down(&r);
}

static void streams_end_with_the_connection(void)
{
    struct rig r;
    struct app a = {0}, b = {0};
    rig_up(&r);
    a.s = hvsock_connect(r.h, 5, 2000, &app_ops, &a, NULL);
    b.s = hvsock_connect(r.h, 6, 2000, &app_ops, &b, NULL);
    struct fake_channel *ch = guest_accepts(&r, 5);
    CHECK(fake_unload(r.g));
    CHECK_EQ(a.closed, 1);
    CHECK_EQ(b.closed, 1);
    CHECK_EQ(hvsock_count(r.h), 0);
    CHECK(!hvsock_connect(r.h, 5, 2000, &app_ops, &a, NULL));
    CHECK(fake_guest_connect(r.g, VMBUS_VERSION(5, 3)));
    CHECK_EQ(r.g->offer_count, 0);
    fake_forget(ch);
    rig_down(&r);
}

static void a_flood_is_bounded(void)
{
    struct rig r;
    rig_up(&r);
    static struct app a[600];
    CHECK(hvsock_listen(r.h, 77, accept_app, &a[0], NULL));
    unsigned n = 0;
    for (uint32_t i = 0; i < 600; i++) {
        struct vmbus_msg_tl_connect m = {
            .h.type = VMBUS_MSG_TL_CONNECT, .endpoint = service(0x1111), .service = service(77)};
        put_le32(m.endpoint.b + 12, 0);
        m.endpoint.b[15] = (uint8_t)i;
        m.endpoint.b[14] = (uint8_t)(i >> 8);
        r.g->message_count = 0;
        fake_post(r.g, &m, sizeof m);
        struct vmbus_msg_tl_result res;
        n += fake_take(r.g, VMBUS_MSG_TL_RESULT, &res, sizeof res) && !res.status;
    }
    CHECK_EQ(n, 512);
    rig_down(&r);
}

/* ---- the bridge ---- */

static int unix_connect(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_EQ(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

struct fd_wait {
    int fd;
    char *buf;
    size_t room, have, want;
    bool end;
};
static bool fd_has(void *ctx)
{
    struct fd_wait *w = ctx;
    ssize_t n = recv(w->fd, w->buf + w->have, w->room - w->have, MSG_DONTWAIT);
    w->end |= n == 0;
    w->have += (size_t)MAX(n, 0);
    return w->have >= w->want || w->end;
}

static void the_bridge_carries_streams(void)
{
    struct rig r;
    char dir[] = "/tmp/vireo-hvsock-XXXXXX", path[64], text[256] = {0};
    uint8_t buf[20000];
    rig_up(&r);
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/vsock", dir);
    struct hvsock_bridge *b = hvsock_bridge_new(r.h, path, NULL);
    CHECK(b != NULL);
    int fd = unix_connect(path);
    CHECK_EQ(write(fd, "CONNECT 52\nfirst bytes", 22), 22);
    fake_settle(r.g);
    struct fake_channel *ch = guest_accepts(&r, 52);
    fake_settle(r.g);
    struct fd_wait w = {.fd = fd, .buf = text, .room = sizeof text - 1, .want = 14};
    CHECK(fake_wait(r.g, fd_has, &w));
    CHECK(strncmp(text, "OK 1073741824\n", 14) == 0);
    CHECK_EQ(hear(ch, buf), 11);
    CHECK(memcmp(buf, "first bytes", 11) == 0);
    CHECK(say(ch, "answer", 6));
    w.have = 0;
    w.want = 6;
    CHECK(fake_wait(r.g, fd_has, &w));
    CHECK(memcmp(text, "answer", 6) == 0);
    shutdown(fd, SHUT_WR);
    fake_settle(r.g);
    CHECK_EQ(hear(ch, buf), 0);
    CHECK(say(ch, "after", 5));
    CHECK(say(ch, NULL, 0));
    w = (struct fd_wait){.fd = fd, .buf = text, .room = sizeof text - 1, .want = 99};
    CHECK(fake_wait(r.g, fd_has, &w));
    CHECK(w.end);
    CHECK_EQ(w.have, 5);
    close(fd);
    for (unsigned i = 0; i < 20 && !r.g->rescinded[ch->relid]; i++)
        loop_turn(r.g->loop, 20);
    CHECK(r.g->rescinded[ch->relid]);
    fake_forget(ch);
    static const char *const bad[] = {"CONNECT\n", "CONNECT x\n", "CONNECT 99999999999\n",
                                      "GET / HTTP/1.1\n", "CONNECT -1\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        fd = unix_connect(path);
        CHECK(write(fd, bad[i], strlen(bad[i])) > 0);
        w = (struct fd_wait){.fd = fd, .buf = text, .room = sizeof text - 1, .want = 1};
        CHECK(fake_wait(r.g, fd_has, &w));
        CHECK(w.end);
        close(fd);
    }
    fd = unix_connect(path); /* goes away while the guest is asked */
    CHECK_EQ(write(fd, "CONNECT 53\n", 11), 11);
    fake_settle(r.g);
    CHECK_EQ(hvsock_count(r.h), 1);
    close(fd);
    fake_settle(r.g);
    CHECK_EQ(hvsock_count(r.h), 0);
    hvsock_bridge_free(b);
    CHECK_EQ(rmdir(dir), 0);
    rig_down(&r);
}

static void got_fd(void *ctx, int fd)
{
    *(int *)ctx = fd;
}

static void streams_can_be_descriptors(void)
{
    struct rig r;
    int fd = -2;
    uint8_t buf[20000];
    char text[64];
    rig_up(&r);
    CHECK(hvsock_connect_fd(r.h, 8, 2000, got_fd, &fd, NULL));
    struct fake_channel *ch = guest_accepts(&r, 8);
    CHECK(fd >= 0);
    CHECK_EQ(write(fd, "abc", 3), 3);
    fake_settle(r.g);
    CHECK_EQ(hear(ch, buf), 3);
    CHECK(say(ch, "def", 3));
    CHECK_EQ(read(fd, text, sizeof text), 3);
    CHECK(fake_close(ch));
    CHECK_EQ(read(fd, text, sizeof text), 0);
    close(fd);
    fd = -2;
    CHECK(hvsock_connect_fd(r.h, 9, 30, got_fd, &fd, NULL));
    for (unsigned i = 0; i < 20 && fd == -2; i++)
        loop_turn(r.g->loop, 20);
    CHECK_EQ(fd, -1);
    rig_down(&r);
}

static const struct check_test tests[] = {
    CHECK_TEST(the_host_connects),           CHECK_TEST(nobody_listens),
    CHECK_TEST(the_guest_connects),          CHECK_TEST(flow_is_controlled),
    CHECK_TEST(data_before_the_end_is_read), CHECK_TEST(streams_end_with_the_connection),
    CHECK_TEST(a_flood_is_bounded),          CHECK_TEST(the_bridge_carries_streams),
    CHECK_TEST(streams_can_be_descriptors),
};
CHECK_MAIN(tests)
