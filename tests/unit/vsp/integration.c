/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The integration services through the fake guest, which answers as hv_utils and its daemons do. */
#include "core/vsp/integration.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/vsp/ic-proto.h"
#include "core/vsp/utf16.h"
#include "fake-guest.h"

struct rig {
    struct fake_guest *g;
    struct integration *i;
    unsigned beats, facts;
    enum heartbeat_state last;
};

static uint64_t reference_time(void *ctx)
{
    return 12345;
}
static void heartbeat_changed(void *ctx, enum heartbeat_state s)
{
    struct rig *r = ctx;
    r->beats++;
    r->last = s;
}
static void facts_changed(void *ctx)
{
    ((struct rig *)ctx)->facts++;
}

static void rig_up(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->g = fake_guest_new(NULL);
    r->i = integration_new(&(struct integration_params){.bus = r->g->bus,
                                                        .services = INTEGRATION_ALL,
                                                        .reference_time = reference_time,
                                                        .heartbeat_changed = heartbeat_changed,
                                                        .facts_changed = facts_changed,
                                                        .ctx = r},
                           NULL);
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
    CHECK_EQ(r->g->offer_count, 6);
}

static void rig_down(struct rig *r)
{
    struct device d = integration_as_device(r->i);
    d.ops->destroy(d.self);
    fake_guest_free(r->g);
}

static struct guid heartbeat = GUID(0x57164f39, 0x9115, 0x4e78, 0xab55, 0x382f3bd5422d);
static struct guid shutdown_class = GUID(0x0e0b6031, 0x5213, 0x4934, 0x818b, 0x38d90ced39db);
static struct guid timesync = GUID(0x9527e630, 0xd0ae, 0x497b, 0xadce, 0xe80ab0175caf);
static struct guid kvp = GUID(0xa9a0f4e7, 0x5a45, 0x4d96, 0xb827, 0x8a841e8c03e6);
static struct guid vss = GUID(0x35fa2e29, 0xea23, 0x4236, 0x96ae, 0x3a6ebacba440);
static struct guid fcopy = GUID(0x34d14be3, 0xdee4, 0x41c8, 0x9ae7, 0x6b174977c192);

/* What hv_utils does with a packet: the same bytes back, edited. */
struct msg {
    uint64_t id;
    uint32_t len;
    struct ic_header h;
    uint8_t bytes[9000];
    uint8_t *body;
    uint32_t events;
};
static bool take(struct fake_channel *ch, struct msg *m)
{
    struct fake_packet p;
    memset(m, 0, sizeof *m);
    if (!fake_recv(ch, &p) || p.type != VMBUS_PACKET_INBAND || p.len > sizeof m->bytes)
        return false;
    m->id = p.id;
    m->len = p.len;
    memcpy(m->bytes, p.payload, p.len);
    memcpy(&m->h, m->bytes, sizeof m->h);
    m->body = m->bytes + sizeof m->h;
    CHECK_EQ(m->h.pipe_type, 1);
    CHECK_EQ(m->h.pipe_bytes, 20u + m->h.body_bytes);
    CHECK_EQ(m->h.flags, 3);
    return true;
}
static void give(struct fake_channel *ch, struct msg *m, uint32_t status)
{
    m->h.status = status;
    m->h.flags = IC_FLAG_TRANSACTION | IC_FLAG_RESPONSE;
    memcpy(m->bytes, &m->h, sizeof m->h);
    CHECK(fake_send(ch, m->id, false, m->bytes, m->len));
}

static struct fake_channel *open_ic(struct rig *r, const struct guid *class_id)
{
    const struct vmbus_msg_offer *o = fake_offer_of(r->g, class_id, 0);
    CHECK(o != NULL);
    CHECK_EQ(o->flags, 0x11);
    CHECK_EQ(get_le32(o->user), 4);
    return fake_open(r->g, o, 4, NULL);
}

static void agree(struct fake_channel *ch, uint16_t framework, uint16_t major, uint16_t minor)
{
    struct msg m;
    CHECK(take(ch, &m));
    CHECK_EQ(m.h.type, IC_NEGOTIATE);
    unsigned frameworks = get_le16(m.body), messages = get_le16(m.body + 2);
    CHECK_EQ(m.h.body_bytes, 8 + 4 * (frameworks + messages));
    put_le16(m.body, 1);
    put_le16(m.body + 2, 1);
    put_le16(m.body + 8, framework);
    put_le16(m.body + 10, 0);
    put_le16(m.body + 12, major);
    put_le16(m.body + 14, minor);
    m.h.body_bytes = 16;
    give(ch, &m, 0);
}

static void set_status(void *ctx, uint32_t status)
{
    *(uint32_t *)ctx = status;
}

static void heartbeat_is_lost_and_found(void)
{
    struct rig r;
    struct msg m;
    rig_up(&r);
    struct fake_channel *ch = open_ic(&r, &heartbeat);
    agree(ch, 3, 3, 0);
    CHECK_EQ(integration_heartbeat(r.i), HEARTBEAT_NONE);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(take(ch, &m));
        CHECK_EQ(m.h.type, IC_HEARTBEAT);
        CHECK_EQ(m.h.message.major, 3);
        CHECK_EQ(m.h.body_bytes, 40);
        put_le64(m.body, get_le64(m.body) + 1);
        uint64_t before = r.g->events[ch->relid];
        give(ch, &m, 0);
        CHECK(r.g->events[ch->relid] >= before);
        CHECK_EQ(integration_heartbeat(r.i), HEARTBEAT_OK);
    }
    CHECK_EQ(r.beats, 1);
    fake_close(ch);
    CHECK_EQ(integration_heartbeat(r.i), HEARTBEAT_NONE);
    ch = open_ic(&r, &heartbeat); /* driver reloaded; picks 1.0 */
    agree(ch, 1, 1, 0);
    CHECK(take(ch, &m));
    CHECK_EQ(m.h.message.major, 1);
    fake_close(ch);
    ch = open_ic(&r, &heartbeat); /* a version that nobody offered */
    agree(ch, 3, 9, 9);
    struct fake_packet p;
    CHECK(!fake_poll(ch, &p));
    fake_close(ch);
    rig_down(&r);
}

static void shutdown_is_asked_and_answered(void)
{
    static const struct {
        enum shutdown_kind kind;
        bool force;
        uint32_t flags;
    } kinds[] = {{SHUTDOWN_POWER_OFF, false, 0},
                 {SHUTDOWN_POWER_OFF, true, 1},
                 {SHUTDOWN_REBOOT, false, 2},
                 {SHUTDOWN_HIBERNATE, false, 4}};
    struct rig r;
    struct msg m;
    err e = ERR_INIT;
    uint32_t status = 0xdead;
    rig_up(&r);
    CHECK(!integration_shutdown(r.i, SHUTDOWN_REBOOT, false, set_status, &status, &e));
    CHECK_EQ(e.code, ERR_STATE);
    struct fake_channel *ch = open_ic(&r, &shutdown_class);
    agree(ch, 3, 3, 2);
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        CHECK(integration_shutdown(r.i, kinds[i].kind, kinds[i].force, set_status, &status, NULL));
        CHECK(!integration_shutdown(r.i, kinds[i].kind, false, set_status, &status, &e));
        CHECK(take(ch, &m));
        CHECK_EQ(m.h.body_bytes, 2060);
        CHECK_EQ(get_le32(m.body + 8), kinds[i].flags);
        status = 0xdead;
        give(ch, &m, i == 3 ? 0x80004005 : 0);
        CHECK_EQ(status, i == 3 ? 0x80004005 : 0);
    }
    CHECK(integration_shutdown(r.i, SHUTDOWN_REBOOT, false, set_status, &status, NULL));
    fake_close(ch);
    CHECK_EQ(status, IC_STATUS_GONE);
    rig_down(&r);
}

static void time_is_set_once_and_then_sampled(void)
{
    struct rig r;
    struct msg m;
    rig_up(&r);
    struct fake_channel *ch = open_ic(&r, &timesync);
    agree(ch, 3, 4, 0);
    CHECK(take(ch, &m));
    CHECK_EQ(m.h.body_bytes, 22);
    CHECK_EQ(m.body[16], IC_TIME_SYNC);
    CHECK_EQ(get_le64(m.body + 8), 12345);
    uint64_t unix_s = (get_le64(m.body) - UINT64_C(116444736000000000)) / 10000000;
    CHECK(unix_s + 5 > (uint64_t)time(NULL) && unix_s < (uint64_t)time(NULL) + 5);
    give(ch, &m, 0);
    integration_sync_time(r.i);
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[16], IC_TIME_SYNC);
    integration_sync_time(r.i); /* one at a time: when that is answered */
    struct fake_packet p;
    CHECK(!fake_poll(ch, &p));
    give(ch, &m, 0);
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[16], IC_TIME_SYNC);
    fake_close(ch);
    ch = open_ic(&r, &timesync);
    agree(ch, 3, 3, 0);
    CHECK(take(ch, &m));
    CHECK_EQ(m.h.body_bytes, 25);
    CHECK_EQ(m.body[24], IC_TIME_SYNC);
    fake_close(ch);
    rig_down(&r);
}

struct items {
    unsigned n;
    char key[64], value[64];
    uint32_t status;
};
static void on_item(void *ctx, const char *key, const char *value)
{
    struct items *t = ctx;
    t->n++;
    snprintf(t->key, sizeof t->key, "%s", key);
    snprintf(t->value, sizeof t->value, "%s", value);
}
static void on_items(void *ctx, uint32_t status)
{
    ((struct items *)ctx)->status = status;
}

static void put_pair(struct msg *m, const char *key, const char *value)
{
    put_le32(m->body + 8, 1);
    put_le32(m->body + 12, (uint32_t)utf16_encode(key, m->body + 20, 512));
    put_le32(m->body + 16, (uint32_t)utf16_encode(value, m->body + 532, 2048));
}

static void the_guest_tells_its_facts(void)
{
    static const char *const pairs[][2] = {{"OSName", "Debian GNU/Linux"},
                                           {"NetworkAddressIPv4", "10.0.2.15;"},
                                           {"OSVersion", "6.1.0"}};
    struct rig r;
    struct msg m;
    rig_up(&r);
    struct fake_channel *ch = open_ic(&r, &kvp);
    agree(ch, 3, 4, 0);
    for (unsigned i = 0; i <= ARRAY_LEN(pairs); i++) {
        CHECK(take(ch, &m));
        CHECK_EQ(m.body[0], KVP_ENUMERATE);
        CHECK_EQ(m.body[1], KVP_AUTO);
        CHECK_EQ(get_le32(m.body + 4), i);
        CHECK(m.len >= 2608);
        if (i < ARRAY_LEN(pairs))
            put_pair(&m, pairs[i][0], pairs[i][1]);
        give(ch, &m, i < ARRAY_LEN(pairs) ? 0 : IC_STATUS_NO_MORE);
    }
    CHECK_EQ(r.facts, 1);
    CHECK_STR(integration_fact(r.i, "OSName"), "Debian GNU/Linux");
    CHECK_STR(integration_fact(r.i, "NetworkAddressIPv4"), "10.0.2.15;");
    CHECK(integration_fact(r.i, "nothing") == NULL);

    struct items t = {.status = 0xdead};
    CHECK(integration_kvp_set(r.i, KVP_EXTERNAL, "größe", "zwölf", on_items, &t, NULL));
    CHECK(integration_kvp_get(r.i, KVP_GUEST, "k", on_item, on_items, &t, NULL)); /* queued */
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], KVP_SET);
    CHECK_EQ(m.body[1], KVP_EXTERNAL);
    CHECK_EQ(get_le32(m.body + 8), 12);
    CHECK_EQ(get_le16(m.body + 16 + 4), 0xF6); /* ö */
    give(ch, &m, 0);
    CHECK_EQ(t.status, 0);
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], KVP_GET);
    put_le32(m.body + 12, 4096); /* lies about the length */
    memset(m.body + 528, 'A', 2048);
    give(ch, &m, 0);
    CHECK_EQ(t.n, 1);
    CHECK_STR(t.key, "k");
    t.status = 0xdead;
    CHECK(integration_kvp_delete(r.i, KVP_EXTERNAL, "k", on_items, &t, NULL));
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], KVP_DELETE);
    CHECK_EQ(get_le32(m.body + 4), 4);
    give(ch, &m, IC_STATUS_FAIL);
    CHECK_EQ(t.status, IC_STATUS_FAIL);
    CHECK(!integration_kvp_get(r.i, KVP_GUEST, "", on_item, on_items, &t, NULL));
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    CHECK(!integration_kvp_set(r.i, KVP_EXTERNAL, "k", big, on_items, &t, NULL));
    CHECK(integration_kvp_enumerate(r.i, KVP_EXTERNAL, on_item, on_items, &t, NULL));
    fake_close(ch);
    CHECK_EQ(t.status, IC_STATUS_GONE);
    rig_down(&r);
}

static void an_endless_enumeration_ends(void)
{
    struct rig r;
    struct msg m;
    rig_up(&r);
    struct fake_channel *ch = open_ic(&r, &kvp);
    agree(ch, 3, 4, 0);
    unsigned n = 0;
    struct fake_packet p;
    while (n < 5000 && fake_poll(ch, &p)) {
        m.len = p.len;
        m.id = p.id;
        memcpy(m.bytes, p.payload, p.len);
        memcpy(&m.h, m.bytes, sizeof m.h);
        m.body = m.bytes + sizeof m.h;
        put_pair(&m, "again", "and again");
        give(ch, &m, 0);
        n++;
    }
    CHECK(n > 100 && n < 2000);
    fake_close(ch);
    rig_down(&r);
}

static void file_systems_freeze_and_thaw(void)
{
    struct rig r;
    struct msg m;
    uint32_t status = 0xdead;
    rig_up(&r);
    struct fake_channel *ch = open_ic(&r, &vss);
    agree(ch, 3, 5, 0);
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], VSS_HOT_BACKUP);
    CHECK(m.h.body_bytes >= 12);
    CHECK(!integration_can_freeze(r.i));
    give(ch, &m, 0x80004005); /* its daemon is not there yet: asked again */
    CHECK(!integration_can_freeze(r.i));
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], VSS_HOT_BACKUP);
    give(ch, &m, 0);
    CHECK(integration_can_freeze(r.i));
    CHECK(integration_freeze(r.i, 60, set_status, &status, NULL));
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], VSS_FREEZE);
    give(ch, &m, 0);
    CHECK_EQ(status, 0);
    CHECK(!integration_freeze(r.i, 60, set_status, &status, NULL));
    status = 0xdead;
    CHECK(integration_thaw(r.i, set_status, &status, NULL));
    CHECK(take(ch, &m));
    CHECK_EQ(m.body[0], VSS_THAW);
    give(ch, &m, 0);
    CHECK_EQ(status, 0);
    CHECK(integration_freeze(r.i, 0, set_status, &status, NULL));
    CHECK(take(ch, &m));
    give(ch, &m, 0);
    CHECK(take(ch, &m)); /* nobody thaws: after the limit it is done */
    CHECK_EQ(m.body[0], VSS_THAW);
    fake_close(ch);
    rig_down(&r);
}

static void count_progress(void *ctx, uint64_t copied)
{
    *(uint64_t *)ctx = copied;
}
struct copy_end {
    uint64_t progress;
    uint32_t status;
};
static void copy_done(void *ctx, uint32_t status)
{
    ((struct copy_end *)ctx)->status = status;
}

static void files_are_copied_in(void)
{
    enum { SIZE = 100001 };
    struct rig r;
    struct msg m;
    struct copy_end end = {.status = 0xdead};
    rig_up(&r);
    struct fake_channel *ch = open_ic(&r, &fcopy);
    agree(ch, 3, 1, 1);
    int fd = memfd_create("source", 0);
    static uint8_t source[SIZE], target[SIZE];
    for (unsigned i = 0; i < SIZE; i++)
        source[i] = (uint8_t)(i * 31 >> 2);
    CHECK_EQ(write(fd, source, SIZE), SIZE);
    struct integration_copy c = {.fd = fd,
                                 .size = SIZE,
                                 .name = "file.bin",
                                 .folder = "/var/tmp",
                                 .overwrite = true,
                                 .progress = count_progress,
                                 .done = copy_done,
                                 .ctx = &end};
    CHECK(integration_copy_file(r.i, &c, NULL));
    CHECK(take(ch, &m));
    CHECK_EQ(get_le32(m.body), FCOPY_START);
    CHECK_EQ(get_le16(m.body + 36), 'f');
    CHECK_EQ(get_le16(m.body + 36 + 520), '/');
    CHECK_EQ(get_le16(m.body + 36 + 520 + 2 * 8), '/');
    CHECK_EQ(get_le32(m.bytes + 1104), 1);
    CHECK_EQ(get_le64(m.bytes + 1108), SIZE);
    give(ch, &m, 0);
    for (;;) {
        CHECK(take(ch, &m));
        if (get_le32(m.body) != FCOPY_WRITE)
            break;
        uint64_t offset = get_le64(m.bytes + 68);
        uint32_t size = get_le32(m.bytes + 76);
        CHECK(size <= 6144 && offset + size <= SIZE);
        memcpy(target + offset, m.bytes + 80, size);
        give(ch, &m, 0);
    }
    CHECK_EQ(get_le32(m.body), FCOPY_COMPLETE);
    CHECK_EQ(end.status, 0xdead);
    give(ch, &m, 0);
    CHECK_EQ(end.status, 0);
    CHECK_EQ(end.progress, SIZE);
    CHECK(memcmp(source, target, SIZE) == 0);
    CHECK(integration_copy_file(r.i, &c, NULL));
    CHECK(take(ch, &m));
    give(ch, &m, 0);
    CHECK(take(ch, &m));
    give(ch, &m, IC_STATUS_DISK_FULL);
    CHECK(take(ch, &m));
    CHECK_EQ(get_le32(m.body), FCOPY_CANCEL);
    give(ch, &m, 0);
    CHECK_EQ(end.status, IC_STATUS_DISK_FULL);
    CHECK(integration_copy_file(r.i, &c, NULL));
    CHECK(take(ch, &m));
    give(ch, &m, IC_STATUS_EXISTS);
    CHECK_EQ(end.status, IC_STATUS_EXISTS);
    c.name = "../up";
    CHECK(!integration_copy_file(r.i, &c, NULL));
    fake_close(ch);
    close(fd);
    rig_down(&r);
}

static void texts_are_converted(void)
{
    uint8_t wire[64];
    char text[64];
    CHECK_EQ(utf16_encode("aé€😀", wire, sizeof wire), 12);
    utf16_decode(wire, sizeof wire, text, sizeof text);
    CHECK_STR(text, "aé€😀");
    utf16_decode(wire, sizeof wire, text, 7);
    CHECK_STR(text, "aé€");
    CHECK_EQ(utf16_encode("abc", wire, 7), 0);
    CHECK_EQ(utf16_encode("\xff", wire, 64), 0);
    CHECK_EQ(utf16_encode("\xc0\x80", wire, 64), 0);
    CHECK_EQ(utf16_encode("\xed\xa0\x80", wire, 64), 0);
    utf16_decode((const uint8_t *)"\x00\xd8"
                                  "a\0\x07\0",
                 6, text, sizeof text);
    CHECK_STR(text, "\xef\xbf\xbd"
                    "a"
                    "\xef\xbf\xbd");
}

static const struct check_test tests[] = {
    CHECK_TEST(heartbeat_is_lost_and_found),
    CHECK_TEST(shutdown_is_asked_and_answered),
    CHECK_TEST(time_is_set_once_and_then_sampled),
    CHECK_TEST(the_guest_tells_its_facts),
    CHECK_TEST(an_endless_enumeration_ends),
    CHECK_TEST(file_systems_freeze_and_thaw),
    CHECK_TEST(files_are_copied_in),
    CHECK_TEST(texts_are_converted),
};
CHECK_MAIN(tests)
