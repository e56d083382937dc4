/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dynamic memory through the fake guest. */
#include "core/vsp/balloon.h"

#include <stdlib.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/vsp/balloon-proto.h"
#include "fake-guest.h"

#define HOT_BASE UINT64_C(0x40000000)
static const struct guid class_dm = GUID(0x525074dc, 0x8985, 0x46e2, 0x8057, 0xa307dc18a502);

struct rig {
    struct fake_guest *g;
    struct balloon *b;
    struct fake_channel *ch;
    unsigned added;
};

static bool add_ram(void *ctx, uint64_t gpa, uint64_t size, err *e)
{
    struct rig *r = ctx;
    r->added++;
    CHECK_EQ(gpa, HOT_BASE + (r->added - 1) * (128 << 20));
    return hv_memory_add_ram(r->g->memory, gpa, size, e) != NULL;
}

static bool recv_type(struct rig *r, uint16_t type, struct fake_packet *p)
{
    bool ok = fake_recv(r->ch, p) && get_le16(p->payload) == type;
    CHECK(ok);
    return ok;
}

static void connect_guest(struct rig *r)
{
    struct fake_packet p;
    struct dm_version v = {.h = {DM_VERSION_REQUEST, sizeof v, 1}, .version = 0x30000};
    struct dm_capabilities c = {.h = {DM_CAPABILITIES_REPORT, sizeof c, 3}, .caps = 3 | 7 << 2};
    r->ch = fake_open(r->g, fake_offer_of(r->g, &class_dm, 0), 5, NULL);
    fake_send(r->ch, 0, false, &v, sizeof v);
    if (recv_type(r, DM_VERSION_RESPONSE, &p))
        CHECK_EQ(p.payload[8], 0);
    v.version = DM_VERSION_2;
    v.h.transaction = 2;
    fake_send(r->ch, 0, false, &v, sizeof v);
    if (recv_type(r, DM_VERSION_RESPONSE, &p)) {
        CHECK_EQ(get_le32(p.payload + 4), 2);
        CHECK_EQ(p.payload[8], 1);
    }
    fake_send(r->ch, 0, false, &c, sizeof c);
    if (recv_type(r, DM_CAPABILITIES_RESPONSE, &p))
        CHECK_EQ(get_le32(p.payload + 4), 3);
    if (recv_type(r, DM_INFO, &p))
        CHECK_EQ(get_le64(p.payload + 24), (UINT64_C(1) << 30) / 4096);
}

static void rig_up(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->g = fake_guest_new(&(struct fake_params){.ram = 256 << 20});
    r->b = balloon_new(&(struct balloon_params){.bus = r->g->bus,
                                                .max_bytes = 1 << 30,
                                                .hot_add_base = HOT_BASE,
                                                .add_ram = add_ram,
                                                .ctx = r},
                       NULL);
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
    connect_guest(r);
}

static void rig_down(struct rig *r)
{
    CHECK(fake_close(r->ch));
    struct device d = balloon_as_device(r->b);
    d.ops->destroy(d.self);
    fake_guest_free(r->g);
}

static void give(struct rig *r, bool more, const uint64_t *ranges, unsigned n)
{
    struct {
        struct dm_balloon_response m;
        uint64_t ranges[16];
    } m = {.m = {.h = {DM_BALLOON_RESPONSE, (uint16_t)(16 + n * 8), 1},
                 .more_and_count = n << 1 | more}};
    memcpy(m.ranges, ranges, n * 8);
    CHECK(fake_send(r->ch, 0, false, &m, 16 + n * 8));
}

static uint64_t ballooned(struct rig *r)
{
    struct balloon_status s;
    balloon_status(r->b, &s);
    return s.ballooned;
}

static void memory_goes_out_and_back(void)
{
    struct rig r;
    struct fake_packet p;
    rig_up(&r);
    struct device dev = balloon_as_device(r.b);
    dev.ops->start(dev.self);
    memset(fake_ptr(r.g, 0x1000000), 0xAA, 0x4000);
    CHECK(balloon_set_target(r.b, 192 << 20, NULL));
    CHECK(recv_type(&r, DM_BALLOON_REQUEST, &p));
    CHECK_EQ(get_le32(p.payload + 8), (64 << 20) / 4096);
    give(&r, true, (uint64_t[]){DM_RANGE(0x1000, 0x2000), DM_RANGE(0x4000, 1)}, 2);
    CHECK_EQ(ballooned(&r), 0x2001 * 4096);
    CHECK_EQ(*(uint8_t *)fake_ptr(r.g, 0x1000000), 0); /* the host has it back */
    give(&r, false, (uint64_t[]){DM_RANGE(0x6000, 0x1fff)}, 1);
    CHECK_EQ(ballooned(&r), 64 << 20);
    CHECK(!fake_poll(r.ch, &p));
    struct balloon_status s;
    balloon_status(r.b, &s);
    CHECK_EQ(s.assigned, 192 << 20);
    CHECK(balloon_set_target(r.b, 256 << 20, NULL));
    CHECK(recv_type(&r, DM_UNBALLOON_REQUEST, &p));
    CHECK_EQ(get_le32(p.payload + 8), 0);
    CHECK_EQ(get_le32(p.payload + 12), 3);
    CHECK_EQ(get_le64(p.payload + 16), DM_RANGE(0x1000, 0x2000));
    CHECK_EQ(get_le64(p.payload + 32), DM_RANGE(0x6000, 0x1fff));
    struct dm_header done = {DM_UNBALLOON_RESPONSE, sizeof done, 9};
    fake_send(r.ch, 0, false, &done, sizeof done);
    CHECK_EQ(ballooned(&r), 0);
    CHECK(!balloon_set_target(r.b, UINT64_C(2) << 30, NULL));
    rig_down(&r);
}

static void memory_is_added(void)
{
    struct rig r;
    struct fake_packet p;
    rig_up(&r);
    struct device dev = balloon_as_device(r.b);
    dev.ops->start(dev.self);
    CHECK(balloon_set_target(r.b, 512 << 20, NULL));
    for (unsigned i = 0; i < 2; i++) {
        CHECK(recv_type(&r, DM_HOT_ADD_REQUEST, &p));
        CHECK_EQ(get_le64(p.payload + 8), DM_RANGE(HOT_BASE / 4096 + i * 32768u, 32768));
        struct dm_hot_add_response m = {
            .h = {DM_HOT_ADD_RESPONSE, sizeof m, 1}, .pages = 32768, .result = 1};
        fake_send(r.ch, 0, false, &m, sizeof m);
    }
    CHECK(!fake_poll(r.ch, &p));
    struct balloon_status s;
    balloon_status(r.b, &s);
    CHECK_EQ(s.assigned, 512 << 20);
    CHECK_EQ(s.added, 256 << 20);
    fake_close(r.ch); /* another kernel: it is offered the same memory again */
    connect_guest(&r);
    CHECK(recv_type(&r, DM_HOT_ADD_REQUEST, &p));
    CHECK_EQ(get_le64(p.payload + 8), DM_RANGE(HOT_BASE / 4096, 32768));
    CHECK_EQ(r.added, 2);
    struct dm_hot_add_response no = {.h = {DM_HOT_ADD_RESPONSE, sizeof no, 1}, .result = 1};
    fake_send(r.ch, 0, false, &no, sizeof no);
    CHECK(!fake_poll(r.ch, &p));
    rig_down(&r);
}

static void lies_take_nothing(void)
{
    struct rig r;
    struct fake_packet p;
    rig_up(&r);
    struct device dev = balloon_as_device(r.b);
    dev.ops->start(dev.self);
    give(&r, false, (uint64_t[]){DM_RANGE(0x1000, 1)}, 1); /* not asked */
    CHECK_EQ(ballooned(&r), 0);
    CHECK(balloon_set_target(r.b, 255 << 20, NULL));
    CHECK(recv_type(&r, DM_BALLOON_REQUEST, &p));
    give(&r, true,
         (uint64_t[]){DM_RANGE(0xFFFFFFFFFF, 1), DM_RANGE(0, 0xFFFFFF), DM_RANGE(0xFFFF, 2),
                      DM_RANGE(0x10000, 1), DM_RANGE(0x1000, 16), DM_RANGE(0x1000, 16)},
         6);
    CHECK_EQ(ballooned(&r), 16 * 4096);
    struct dm_balloon_response cut = {.h = {DM_BALLOON_RESPONSE, 16, 1},
                                      .more_and_count = 0xFFFFFFFF};
    fake_send(r.ch, 0, false, &cut, sizeof cut);
    CHECK_EQ(ballooned(&r), 16 * 4096);
    for (uint16_t type = 0; type < 20; type++)
        fake_send(r.ch, 0, false, &type, sizeof type);
    struct dm_status st = {.h = {DM_STATUS, sizeof st, 1}, .available = 5, .committed = 6};
    fake_send(r.ch, 0, false, &st, sizeof st);
    struct balloon_status s;
    balloon_status(r.b, &s);
    CHECK(s.pressure_known);
    CHECK_EQ(s.committed, 6 * 4096);
    rig_down(&r);
}

static void set_flag(void *ctx)
{
    *(bool *)ctx = true;
}

static void the_balloon_is_saved(void)
{
    struct rig r;
    struct fake_packet p;
    rig_up(&r);
    struct device dev = balloon_as_device(r.b), bus = vmbus_as_device(r.g->bus);
    dev.ops->start(dev.self);
    CHECK(balloon_set_target(r.b, 192 << 20, NULL));
    CHECK(recv_type(&r, DM_BALLOON_REQUEST, &p));
    give(&r, true, (uint64_t[]){DM_RANGE(0x1000, 100), DM_RANGE(0x4000, 7)}, 2);
    bool stopped = false;
    bus.ops->stop(bus.self, set_flag, &stopped);
    dev.ops->stop(dev.self, set_flag, &stopped);
    struct state_writer *w = state_writer_new();
    bus.ops->save(bus.self, w);
    dev.ops->save(dev.self, w);
    size_t len;
    const uint8_t *bytes = state_writer_data(w, &len, NULL);
    dev.ops->destroy(dev.self);
    vmbus_free(r.g->bus);
    struct state_reader reader = {.data = bytes, .len = len};
    r.g->bus = vmbus_new(&(struct vmbus_params){.loop = r.g->loop,
                                                .memory = r.g->memory,
                                                .transport = &r.g->transport},
                         NULL);
    r.b = balloon_new(&(struct balloon_params){.bus = r.g->bus, .max_bytes = 1 << 30}, NULL);
    dev = balloon_as_device(r.b);
    bus = vmbus_as_device(r.g->bus);
    err e = ERR_INIT;
    CHECK_EQ(balloon_saved_added(&reader), 0);
    CHECK(bus.ops->restore(bus.self, &reader, &e));
    CHECK(dev.ops->restore(dev.self, &reader, &e));
    CHECK_STR(e.text, "");
    bus.ops->start(bus.self);
    dev.ops->start(dev.self);
    CHECK_EQ(ballooned(&r), 107 * 4096);
    give(&r, false, (uint64_t[]){DM_RANGE(0x5000, 3)}, 1);
    CHECK_EQ(ballooned(&r), 110 * 4096);
    state_writer_free(w);
    rig_down(&r);
}

static const struct check_test tests[] = {
    CHECK_TEST(memory_goes_out_and_back),
    CHECK_TEST(memory_is_added),
    CHECK_TEST(lies_take_nothing),
    CHECK_TEST(the_balloon_is_saved),
};
CHECK_MAIN(tests)
