/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A guest that spoils one channel's ring, floods it, or changes its packets while they are read:
 * only that channel suffers. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/base/log.h"
#include "fake-guest.h"

static const struct guid class_a = GUID(0x11111111, 0x2222, 0x3333, 0x4444, 0x555555555555);

struct victim {
    struct vmbus_device *dev;
    struct fake_channel *ch;
    uint64_t packets, changed;
    unsigned turns, most; /* packets of one turn */
};

static uint64_t sum_of(const struct vmbus_packet *p)
{
    uint64_t sum = p->len + p->type;
    for (uint32_t i = 0; i < p->len; i++)
        sum = sum * 31 + p->payload[i];
    for (uint32_t i = 0; i < p->nranges; i++)
        sum = sum * 31 + p->ranges[i].len + p->ranges[i].offset + p->ranges[i].npfn;
    return sum;
}

static bool on_opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    return true;
}
static void on_closed(void *ctx, struct vmbus_channel *ch)
{
}
/* Answers; a packet that is not the same when it is looked at twice was not copied. */
static void on_readable(void *ctx, struct vmbus_channel *ch)
{
    struct victim *v = ctx;
    struct vmbus_packet p;
    unsigned n = 0;
    for (; vmbus_channel_next(ch, &p); n++) {
        uint64_t once = sum_of(&p);
        v->changed += sum_of(&p) != once;
        vmbus_send_completion(ch, p.transaction_id, p.payload, MIN(p.len, 16u));
    }
    v->packets += n;
    v->turns++;
    v->most = MAX(v->most, n);
}
static const struct vmbus_provider_ops ops = {
    .name = "victim", .opened = on_opened, .closed = on_closed, .readable = on_readable};

static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

static struct fake_guest *two_channels(struct victim v[2], unsigned pages)
{
    struct fake_guest *g = fake_guest_new(NULL);
    log_set_sink(quiet, NULL);
    g->lenient = true;
    for (uint8_t i = 0; i < 2; i++) {
        struct vmbus_device_params p = {.class_id = class_a,
                                        .instance = GUID(0xaaaa0000, 1, 2, 3, 4),
                                        .ops = &ops,
                                        .ctx = &v[i]};
        p.instance.b[0] = i;
        v[i] = (struct victim){.dev = vmbus_device_add(g->bus, &p, NULL)};
    }
    CHECK(fake_guest_connect(g, VMBUS_VERSION(5, 3)));
    for (unsigned i = 0; i < 2; i++)
        v[i].ch = fake_open(g, &g->offers[i], pages, NULL);
    return g;
}

static bool answers(struct victim *v)
{
    struct fake_packet p;
    return fake_send(v->ch, 7, true, "hello, world", 12) && fake_recv(v->ch, &p) && p.id == 7;
}

static void end(struct fake_guest *g, struct victim v[2])
{
    for (unsigned i = 0; i < 2; i++)
        fake_close(v[i].ch);
    fake_guest_free(g);
    log_set_sink(NULL, NULL);
}

struct is_broken {
    uint32_t relid;
    bool broken;
};
static bool look(void *ctx, const struct vmbus_channel_info *i)
{
    struct is_broken *b = ctx;
    if (i->relid == b->relid)
        b->broken = i->broken;
    return true;
}
static bool broken(struct fake_guest *g, const struct victim *v)
{
    struct is_broken b = {.relid = v->ch->relid};
    vmbus_each_channel(g->bus, look, &b);
    return b.broken;
}

/* Every way to spoil an index; closed and opened again, the channel works. */
static void spoilt_indices_break_their_channel_alone(void)
{
    static const uint32_t outs[] = {0xfffffff8, 0x1000000, 3, 0x2000 - 8 /* behind: it shrank */};
    struct victim v[2];
    struct fake_guest *g = two_channels(v, 3);
    for (size_t i = 0; i < ARRAY_LEN(outs) * 2; i++) {
        bool in = i % 2;
        uint32_t bad = outs[i / 2];
        CHECK(answers(&v[0]));
        struct vmbus_ring_control *c = in ? v[0].ch->in.control : v[0].ch->out.control;
        *(in ? &c->read_index : &c->write_index) = bad;
        fake_signal(v[0].ch);
        fake_settle(g);
        if (in) { /* found when there is something to say */
            fake_send(v[0].ch, 1, true, "x", 1);
            fake_settle(g);
        }
        CHECK(broken(g, &v[0]) || (in && bad == 0x2000 - 8)); /* that one only lies about room */
        CHECK(answers(&v[1]));
        CHECK(!broken(g, &v[1]));
        CHECK(fake_close(v[0].ch));
        v[0].ch = fake_open(g, &g->offers[0], 3, NULL);
        CHECK(v[0].ch != NULL);
    }
    end(g, v);
}

/* A full ring of the smallest packets, none of whose answers is taken. */
static void a_flood_takes_turns(void)
{
    enum { PACKETS = 2000, AT_ONCE = 64 };
    struct victim v[2];
    struct fake_guest *g = two_channels(v, 33);
    struct vmbus_ring_control *c = v[0].ch->out.control;
    struct fake_packet p;
    uint64_t signals = v[0].ch->signals;
    c->interrupt_mask = 1; /* the host is not told yet */
    for (unsigned i = 0; i < PACKETS; i++)
        CHECK(fake_send(v[0].ch, i, true, "x", 1));
    CHECK_EQ(v[0].ch->signals, signals);
    fake_signal(v[0].ch);
    loop_turn(g->loop, 0);
    CHECK(v[0].packets > 0 && v[0].packets <= AT_ONCE);
    c = v[1].ch->out.control;
    CHECK(fake_send(v[1].ch, 9, true, "hello, world", 12)); /* and turns the loop */
    CHECK(fake_recv(v[1].ch, &p) && p.id == 9);
    fake_settle(g);
    CHECK(v[0].most <= AT_ONCE);
    CHECK_EQ(v[0].packets, PACKETS);
    end(g, v);
}

struct mutator {
    struct fake_channel *ch;
    _Atomic bool stop;
};
/* Descriptors become longer, shorter and of other types, ranges count more than there is. */
static void *mutate(void *arg)
{
    struct mutator *m = arg;
    for (uint32_t x = 1; !m->stop; x = x * 1664525 + 1013904223) {
        volatile uint8_t *page = m->ch->out.pages[x >> 8 & 1];
        page[(x >> 12) % HV_PAGE_SIZE] = (uint8_t)(x >> 24);
    }
    return NULL;
}

static void packets_change_while_they_are_read(void)
{
    enum { ROUNDS = 20000 };
    struct victim v[2];
    struct fake_guest *g = two_channels(v, 3);
    uint64_t page = fake_alloc(g, 1), read = 0;
    struct fake_range r = {page, 512};
    struct mutator m = {.ch = v[0].ch};
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, mutate, &m), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct fake_packet p;
        if (!fake_send_gpa(v[0].ch, i, "twelve bytes", 12, &r, 1) || broken(g, &v[0])) {
            m.stop = true;
            pthread_join(t, NULL);
            read += v[0].packets;
            v[0].packets = 0;
            CHECK(fake_close(v[0].ch));
            m = (struct mutator){.ch = v[0].ch = fake_open(g, &g->offers[0], 3, NULL)};
            CHECK_EQ(pthread_create(&t, NULL, mutate, &m), 0);
        }
        v[0].ch->in.control->read_index = v[0].ch->in.control->write_index;
        while (fake_poll(v[1].ch, &p))
            ;
    }
    m.stop = true;
    pthread_join(t, NULL);
    CHECK(read + v[0].packets > 0);
    CHECK_EQ(v[0].changed, 0);
    CHECK(answers(&v[1]));
    end(g, v);
}

static const struct check_test tests[] = {CHECK_TEST(spoilt_indices_break_their_channel_alone),
                                          CHECK_TEST(a_flood_takes_turns),
                                          CHECK_TEST(packets_change_while_they_are_read)};
CHECK_MAIN(tests)
