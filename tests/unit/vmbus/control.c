/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The control plane through the fake guest: versions, offers, GPADLs, opening, ends. */
#include <stdlib.h>

#include "check.h"
#include "core/base/bytes.h"
#include "fake-guest.h"

static const struct guid class_a = GUID(0x11111111, 0x2222, 0x3333, 0x4444, 0x555555555555);

struct echo {
    struct vmbus_device *dev;
    unsigned opened, closed, removed, readable, gpadls_gone;
    bool refuse, hold;
    struct vmbus_channel *held;
    uint8_t user0;
};

static bool on_opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct echo *e = ctx;
    e->opened++;
    e->user0 = user[0];
    return !e->refuse;
}
static void on_closed(void *ctx, struct vmbus_channel *ch)
{
    ((struct echo *)ctx)->closed++;
}
static void on_readable(void *ctx, struct vmbus_channel *ch)
{
    struct echo *e = ctx;
    struct vmbus_packet p;
    e->readable++;
    while (vmbus_channel_next(ch, &p)) {
        if (e->hold && !e->held) {
            e->held = ch;
            vmbus_channel_hold_busy(ch);
        }
        vmbus_send_completion(ch, p.transaction_id, p.payload, p.len);
    }
}
static void on_gpadl_gone(void *ctx, struct vmbus_channel *ch, struct vmbus_gpadl *g)
{
    ((struct echo *)ctx)->gpadls_gone++;
}
static void on_removed(void *ctx)
{
    ((struct echo *)ctx)->removed++;
}
static const struct vmbus_provider_ops echo_ops = {.name = "echo",
                                                   .opened = on_opened,
                                                   .closed = on_closed,
                                                   .readable = on_readable,
                                                   .gpadl_gone = on_gpadl_gone,
                                                   .removed = on_removed};

static void add_echo(struct fake_guest *g, struct echo *e, uint8_t n)
{
    struct vmbus_device_params p = {.class_id = class_a,
                                    .instance = GUID(0xaaaa0000, 1, 2, 3, 4),
                                    .max_subchannels = 3,
                                    .flags = VMBUS_OFFER_ENUMERATE,
                                    .mmio_mib = 8,
                                    .ops = &echo_ops,
                                    .ctx = e};
    p.instance.b[0] = n;
    p.user[0] = 0x77;
    e->dev = vmbus_device_add(g->bus, &p, NULL);
    CHECK(e->dev != NULL);
}

static void echo_once(struct fake_channel *ch, uint64_t id)
{
    struct fake_packet p;
    CHECK(fake_send(ch, id, true, "hello, world", 12));
    CHECK(fake_recv(ch, &p));
    CHECK_EQ(p.type, VMBUS_PACKET_COMPLETION);
    CHECK_EQ(p.id, id);
    CHECK_EQ(p.len, 16);
    CHECK(memcmp(p.payload, "hello, world\0\0\0", 16) == 0);
}

static void versions_are_negotiated(void)
{
    static const struct {
        uint32_t version;
        bool ok;
    } tries[] = {
        {VMBUS_VERSION(6, 0), false}, {VMBUS_VERSION(5, 3), true},  {VMBUS_VERSION(5, 2), true},
        {VMBUS_VERSION(5, 1), true},  {VMBUS_VERSION(5, 0), true},  {VMBUS_VERSION(4, 1), true},
        {VMBUS_VERSION(4, 0), true},  {VMBUS_VERSION(3, 0), true},  {VMBUS_VERSION(2, 4), true},
        {VMBUS_VERSION(1, 1), false}, {VMBUS_VERSION(0, 13), false}};
    struct fake_guest *g = fake_guest_new(NULL);
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        CHECK_EQ(fake_contact(g, tries[i].version, 1), tries[i].ok);
        CHECK_EQ(vmbus_version(g->bus), tries[i].ok ? tries[i].version : 0);
    }
    CHECK_EQ(g->drops, ARRAY_LEN(tries));
    fake_guest_free(g);
    g = fake_guest_new(&(struct fake_params){.max_version = VMBUS_VERSION(4, 1)});
    CHECK(!fake_contact(g, VMBUS_VERSION(5, 0), 0));
    CHECK(fake_contact(g, VMBUS_VERSION(4, 1), 0));
    fake_guest_free(g);
}

static void the_response_goes_to_the_asked_processor(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct vmbus_msg_contact m = {.h.type = VMBUS_MSG_INITIATE_CONTACT,
                                  .version = VMBUS_VERSION(5, 3),
                                  .target_vp = 1,
                                  .sint = 2};
    struct vmbus_msg_version_response r;
    CHECK_EQ(vmbus_post_message(g->bus, 4, 1, &m, sizeof m), 0);
    fake_settle(g);
    CHECK_EQ(g->message_count, 1);
    CHECK_EQ(g->messages[0].vp, 1);
    CHECK(fake_take(g, VMBUS_MSG_VERSION_RESPONSE, &r, sizeof r));
    CHECK_EQ(r.supported, 1);
    CHECK_EQ(r.connection, 1);
    CHECK(vmbus_post_message(g->bus, 3, 1, &m, sizeof m) != 0);
    CHECK(vmbus_post_message(g->bus, 1, 2, &m, sizeof m) != 0);
    CHECK(vmbus_post_message(g->bus, 1, 1, &m, 241) != 0);
    fake_guest_free(g);
}

static void offers_carry_what_was_asked(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0}, b = {0}, c = {0};
    add_echo(g, &a, 1);
    add_echo(g, &b, 2);
    CHECK(fake_guest_connect(g, VMBUS_VERSION(5, 3)));
    CHECK_EQ(g->offer_count, 2);
    const struct vmbus_msg_offer *o = &g->offers[0];
    CHECK_EQ(o->instance.b[0], 1);
    CHECK_EQ(o->flags, VMBUS_OFFER_ENUMERATE);
    CHECK_EQ(o->mmio_mib, 8);
    CHECK_EQ(o->user[0], 0x77);
    CHECK_EQ(o->relid, 1);
    CHECK_EQ(o->connection, 0x2001);
    CHECK_EQ(o->dedicated_interrupt, 1);
    CHECK_EQ(o->monitor_allocated, 0);
    err e = ERR_INIT;
    struct vmbus_device_params same = {
        .class_id = class_a, .instance = o->instance, .ops = &echo_ops, .ctx = &c};
    CHECK(!vmbus_device_add(g->bus, &same, &e));
    CHECK_EQ(e.code, ERR_EXISTS);
    add_echo(g, &c, 3); /* hot add */
    fake_settle(g);
    CHECK_EQ(g->offer_count, 3);
    fake_guest_free(g);
    CHECK_EQ(a.removed + b.removed + c.removed, 3);
}

static void a_channel_opens_echoes_and_closes(bool eventfd)
{
    struct fake_guest *g = fake_guest_new(&(struct fake_params){.eventfd = eventfd});
    struct echo a = {0};
    add_echo(g, &a, 1);
    CHECK(fake_guest_connect(g, VMBUS_VERSION(5, 3)));
    uint8_t user[120] = {42};
    for (unsigned round = 1; round <= 3; round++) {
        struct fake_channel *ch = fake_open(g, &g->offers[0], 3, user);
        CHECK(ch != NULL);
        if (!ch)
            break;
        CHECK_EQ(a.opened, round);
        CHECK_EQ(a.user0, 42);
        for (uint64_t i = 0; i < 1000; i++)
            echo_once(ch, i << 40 | 7);
        CHECK(g->events[ch->relid] >= 1000);
        CHECK(fake_close(ch));
        CHECK_EQ(a.closed, round);
    }
    CHECK_EQ(g->event_fd[1], -1);
    fake_guest_free(g);
}

static void channels_work_by_upcall(void)
{
    a_channel_opens_echoes_and_closes(false);
}

static void channels_work_by_eventfd(void)
{
    a_channel_opens_echoes_and_closes(true);
}

static void a_provider_may_refuse(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {.refuse = true};
    add_echo(g, &a, 1);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    CHECK(!fake_open(g, &g->offers[0], 3, NULL));
    a.refuse = false;
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    CHECK(ch != NULL);
    CHECK(!fake_open(g, &g->offers[0], 3, NULL)); /* open already */
    echo_once(ch, 1);
    fake_close(ch);
    fake_guest_free(g);
}

static uint32_t try_open(struct fake_guest *g, uint32_t relid, uint32_t gpadl, uint32_t vp,
                         uint32_t out_page)
{
    struct vmbus_msg_open m = {.h.type = VMBUS_MSG_OPEN,
                               .relid = relid,
                               .open_id = relid,
                               .gpadl = gpadl,
                               .target_vp = vp,
                               .out_page = out_page};
    struct vmbus_msg_open_result r = {.status = 0xdead};
    fake_post(g, &m, sizeof m);
    CHECK(fake_take(g, VMBUS_MSG_OPEN_RESULT, &r, sizeof r));
    return r.status;
}

static void bad_openings_are_refused(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0}, b = {0};
    add_echo(g, &a, 1);
    add_echo(g, &b, 2);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    uint32_t good = fake_gpadl(g, 1, fake_alloc(g, 8), 8 * 4096);
    uint32_t other = fake_gpadl(g, 2, fake_alloc(g, 8), 8 * 4096);
    uint32_t outside = fake_gpadl(g, 1, g->ram_size - 4 * 4096, 8 * 4096);
    uint32_t odd = fake_gpadl(g, 1, fake_alloc(g, 8), 7 * 4096 + 5);
    CHECK(good && other && outside && odd);
    CHECK(try_open(g, 1, good, 0, 0));
    CHECK(try_open(g, 1, good, 0, 1));
    CHECK(try_open(g, 1, good, 0, 7));
    CHECK(try_open(g, 1, good, 0, 0xffffffff));
    CHECK(try_open(g, 1, good, 2, 4));
    CHECK(try_open(g, 1, other, 0, 4));
    CHECK(try_open(g, 1, outside, 0, 4));
    CHECK(try_open(g, 1, odd, 0, 4));
    CHECK(try_open(g, 1, 0x1234, 0, 4));
    CHECK(try_open(g, 3, good, 0, 4));
    CHECK(try_open(g, 0xffffffff, good, 0, 4));
    CHECK_EQ(a.opened, 0);
    CHECK_EQ(try_open(g, 1, good, 1, 4), 0);
    CHECK_EQ(a.opened, 1);
    fake_guest_free(g);
    CHECK_EQ(a.closed, 1);
}

static void gpadls_are_checked(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0};
    add_echo(g, &a, 1);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    CHECK(!fake_gpadl(g, 9, 0, 4096)); /* no such channel */
    CHECK(!fake_gpadl(g, 1, 0, 0));
    uint32_t big = fake_gpadl(g, 1, 0, 3000 * 4096); /* many bodies */
    CHECK(big);
    g->next_gpadl = big; /* the same handle again */
    CHECK(!fake_gpadl(g, 1, 0, 4096));
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    struct vmbus_channel *host = vmbus_device_channel(a.dev, 0);
    struct vmbus_gpadl *h = vmbus_gpadl_find(host, big);
    CHECK(h != NULL);
    CHECK_EQ(vmbus_gpadl_bytes(h), 3000 * 4096);
    CHECK(vmbus_gpadl_write(h, 4096 * 300 - 2, "abcd", 4));
    CHECK(memcmp(fake_ptr(g, 4096 * 300 - 2), "abcd", 4) == 0);
    CHECK(vmbus_gpadl_pin(h));
    char back[4];
    CHECK(vmbus_gpadl_read(h, 4096 * 300 - 2, back, 4));
    CHECK(memcmp(back, "abcd", 4) == 0);
    CHECK(!vmbus_gpadl_read(h, 3000 * 4096 - 3, back, 4));
    CHECK(!vmbus_gpadl_read(h, UINT64_MAX, back, 4));
    struct vmbus_map map = {0};
    CHECK(vmbus_gpadl_map(h, &map, 4095, 8192, true));
    CHECK_EQ(map.count, 1); /* neighbours are joined */
    CHECK_EQ(map.bytes, 8192);
    vmbus_map_free(&map);
    CHECK(fake_gpadl_teardown(g, 1, big));
    CHECK_EQ(a.gpadls_gone, 1);
    CHECK(!vmbus_gpadl_find(host, big));
    fake_close(ch);
    fake_guest_free(g);
}

static void teardown_waits_for_requests_in_flight(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {.hold = true};
    add_echo(g, &a, 1);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    echo_once(ch, 1);
    CHECK(a.held != NULL);
    CHECK(!fake_close(ch)); /* no TORNDOWN yet */
    CHECK_EQ(a.closed, 1);
    CHECK(!fake_open(g, &g->offers[0], 3, NULL));
    CHECK(!vmbus_send(a.held, 1, false, "x", 1));
    vmbus_channel_release_busy(a.held);
    CHECK(fake_take(g, VMBUS_MSG_GPADL_TORNDOWN, NULL, 12));
    a = (struct echo){.hold = true};
    ch = fake_open(g, &g->offers[0], 3, NULL);
    echo_once(ch, 1);
    CHECK(!fake_unload(g));
    CHECK_EQ(a.closed, 1);
    vmbus_channel_release_busy(a.held);
    CHECK(fake_take(g, VMBUS_MSG_UNLOAD_RESPONSE, NULL, 8));
    fake_forget(ch);
    CHECK(fake_guest_connect(g, VMBUS_VERSION(5, 3)));
    CHECK_EQ(g->offer_count, 1);
    fake_guest_free(g);
}

static void subchannels_come_and_go_with_their_primary(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0};
    add_echo(g, &a, 1);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    CHECK_EQ(vmbus_device_offer_subchannels(a.dev, 2), 0);
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    CHECK_EQ(vmbus_device_offer_subchannels(a.dev, 2), 2);
    CHECK_EQ(vmbus_device_offer_subchannels(a.dev, 9), 1);
    const struct vmbus_msg_offer *o = fake_offer_of(g, &class_a, 2);
    CHECK(o && o->relid == 3);
    struct fake_channel *sub = fake_open(g, o, 3, NULL);
    echo_once(sub, 5);
    CHECK(vmbus_device_channel(a.dev, 2) != NULL);
    CHECK_EQ(vmbus_channel_index(vmbus_device_channel(a.dev, 2)), 2);
    CHECK(fake_close(ch));
    CHECK_EQ(a.closed, 2);
    CHECK_EQ(g->offer_count, 1);
    CHECK(g->rescinded[2] && g->rescinded[3] && g->rescinded[4]);
    fake_forget(sub);
    fake_release(g, 3);
    fake_release(g, 2);
    fake_release(g, 4);
    ch = fake_open(g, &g->offers[0], 3, NULL);
    CHECK_EQ(vmbus_device_offer_subchannels(a.dev, 1), 1);
    CHECK_EQ(fake_offer_of(g, &class_a, 1)->relid, 2);
    fake_close(ch);
    fake_guest_free(g);
}

static void removal_rescinds_and_waits_for_release(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0}, b = {0};
    add_echo(g, &a, 1);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    vmbus_device_remove(a.dev);
    CHECK_EQ(a.closed, 1);
    CHECK_EQ(a.removed, 0);
    CHECK(g->rescinded[1]);
    CHECK_EQ(g->offer_count, 0);
    add_echo(g, &b, 1); /* the same instance comes back when the guest has let go of the first */
    fake_settle(g);
    CHECK_EQ(g->offer_count, 0);
    fake_release(g, 1);
    fake_settle(g);
    CHECK_EQ(a.removed, 1);
    CHECK_EQ(g->offer_count, 1);
    fake_forget(ch);
    uint32_t relid = g->offers[0].relid;
    ch = fake_open(g, &g->offers[0], 3, NULL);
    echo_once(ch, 1);
    vmbus_device_remove(b.dev);
    CHECK_EQ(b.closed, 1);
    /* and one that waits may go without ever having been offered */
    struct echo c = {0};
    add_echo(g, &c, 1);
    vmbus_device_remove(c.dev);
    CHECK_EQ(c.removed, 1);
    fake_release(g, relid);
    CHECK_EQ(b.removed, 1);
    fake_settle(g);
    CHECK_EQ(g->offer_count, 0);
    fake_forget(ch);
    fake_guest_free(g);
}

static void modify_channel_moves_interrupts(void)
{
    for (unsigned minor = 2; minor <= 3; minor++) {
        struct fake_guest *g = fake_guest_new(NULL);
        struct echo a = {0};
        add_echo(g, &a, 1);
        fake_guest_connect(g, VMBUS_VERSION(5, minor));
        struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
        echo_once(ch, 1);
        CHECK_EQ(g->event_vp[1], 0);
        struct vmbus_msg_modify m = {
            .h.type = VMBUS_MSG_MODIFY_CHANNEL, .relid = 1, .target_vp = 1};
        struct vmbus_msg_modify_response r = {.status = 9};
        fake_post(g, &m, sizeof m);
        CHECK_EQ(fake_take(g, VMBUS_MSG_MODIFY_CHANNEL_RESPONSE, &r, sizeof r), minor == 3);
        CHECK_EQ(r.status, minor == 3 ? 0 : 9);
        echo_once(ch, 2);
        CHECK_EQ(g->event_vp[1], 1);
        m.target_vp = 2;
        fake_post(g, &m, sizeof m);
        if (minor == 3) {
            CHECK(fake_take(g, VMBUS_MSG_MODIFY_CHANNEL_RESPONSE, &r, sizeof r));
            CHECK(r.status != 0);
        }
        fake_close(ch);
        fake_guest_free(g);
    }
}

static void a_new_contact_ends_the_old_connection(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0};
    add_echo(g, &a, 1);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    CHECK(fake_guest_connect(g, VMBUS_VERSION(4, 0)));
    CHECK_EQ(a.closed, 1);
    CHECK_EQ(g->offer_count, 1);
    fake_forget(ch);
    ch = fake_open(g, &g->offers[0], 3, NULL);
    echo_once(ch, 3);
    fake_close(ch);
    fake_guest_free(g);
}

static void nonsense_is_ignored(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0};
    uint8_t junk[240];
    memset(junk, 0xff, sizeof junk);
    add_echo(g, &a, 1);
    for (uint32_t type = 0; type < 40; type++)
        for (size_t len = 0; len <= sizeof junk; len += 13) {
            memset(junk, 0xff, sizeof junk);
            put_le32(junk, type);
            if (type != VMBUS_MSG_INITIATE_CONTACT)
                fake_post(g, junk, len);
        }
    CHECK_EQ(g->message_count, 0);
    CHECK(fake_guest_connect(g, VMBUS_VERSION(5, 3)));
    for (uint32_t type = 0; type < 40; type++)
        for (size_t len = 0; len <= sizeof junk; len += 13) {
            memset(junk, 0xff, sizeof junk);
            put_le32(junk, type);
            if (type != VMBUS_MSG_INITIATE_CONTACT && type != VMBUS_MSG_UNLOAD)
                fake_post(g, junk, len);
        }
    g->message_count = 0;
    struct fake_channel *ch = fake_open(g, &g->offers[0], 3, NULL);
    echo_once(ch, 3);
    fake_close(ch);
    fake_guest_free(g);
}

static void on_stopped(void *ctx)
{
    *(bool *)ctx = true;
}

static void a_saved_bus_comes_back(void)
{
    struct fake_guest *g = fake_guest_new(NULL);
    struct echo a = {0}, gone = {0};
    add_echo(g, &a, 1);
    add_echo(g, &gone, 2);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    struct fake_channel *ch =
        fake_open(g, fake_offer_instance(g, &g->offers[0].instance, 0), 3, NULL);
    struct fake_channel *lost = fake_open(g, &g->offers[1], 3, NULL);
    CHECK_EQ(vmbus_device_offer_subchannels(a.dev, 1), 1);
    echo_once(ch, 1);
    struct device d = vmbus_as_device(g->bus);
    bool stopped = false;
    d.ops->stop(d.self, on_stopped, &stopped);
    CHECK(stopped);
    CHECK(fake_send(ch, 2, true, "late", 4)); /* in the ring when the machine is saved */
    struct state_writer *w = state_writer_new();
    d.ops->save(d.self, w);
    size_t len;
    const uint8_t *bytes = state_writer_data(w, &len, NULL);
    vmbus_free(g->bus);
    g->bus = vmbus_new(
        &(struct vmbus_params){.loop = g->loop, .memory = g->memory, .transport = &g->transport},
        NULL);
    a = (struct echo){0};
    add_echo(g, &a, 1);
    struct state_reader r = {.data = bytes, .len = len};
    err e = ERR_INIT;
    d = vmbus_as_device(g->bus);
    CHECK(d.ops->restore(d.self, &r, &e));
    CHECK_STR(e.text, "");
    CHECK_EQ(a.opened, 0);
    CHECK(vmbus_device_channel(a.dev, 0) != NULL);
    d.ops->start(d.self);
    fake_settle(g);
    CHECK_EQ(vmbus_version(g->bus), VMBUS_VERSION(5, 3));
    struct fake_packet p;
    CHECK(fake_recv(ch, &p));
    CHECK_EQ(p.id, 2);
    echo_once(ch, 3);
    CHECK(g->rescinded[lost->relid]); /* nobody claims it */
    fake_forget(lost);
    CHECK(fake_close(ch));
    CHECK(g->rescinded[3]);
    state_writer_free(w);
    fake_guest_free(g);
}

static const struct check_test tests[] = {
    CHECK_TEST(versions_are_negotiated),
    CHECK_TEST(the_response_goes_to_the_asked_processor),
    CHECK_TEST(offers_carry_what_was_asked),
    CHECK_TEST(channels_work_by_upcall),
    CHECK_TEST(channels_work_by_eventfd),
    CHECK_TEST(a_provider_may_refuse),
    CHECK_TEST(bad_openings_are_refused),
    CHECK_TEST(gpadls_are_checked),
    CHECK_TEST(teardown_waits_for_requests_in_flight),
    CHECK_TEST(subchannels_come_and_go_with_their_primary),
    CHECK_TEST(removal_rescinds_and_waits_for_release),
    CHECK_TEST(modify_channel_moves_interrupts),
    CHECK_TEST(a_new_contact_ends_the_old_connection),
    CHECK_TEST(nonsense_is_ignored),
    CHECK_TEST(a_saved_bus_comes_back),
};
CHECK_MAIN(tests)
