/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The session's wires, cut at every byte, and what must be refused; the sound clock. */
#include <math.h>
#include <stdlib.h>

#include <spice/vd_agent.h>

#include "check.h"
#include "session/agent-wire.h"
#include "session/audio/audio-wire.h"
#include "session/audio/drift.h"
#include "session/clipboard/vdagent-wire.h"

/* ---- the control channel ---- */

struct seen {
    unsigned n;
    uint32_t type[8];
    size_t len[8];
    uint8_t last[256];
};

static bool on_agent(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    struct seen *s = ctx;
    if (s->n < 8) {
        s->type[s->n] = type;
        s->len[s->n++] = len;
        memcpy(s->last, data, len < sizeof s->last ? len : sizeof s->last);
    }
    return type != 99;
}

static void agent_pieces(void)
{
    uint8_t bytes[64];
    size_t n = agent_wire_put(bytes, 7, "hello", 5);
    n += agent_wire_put(bytes + n, 8, NULL, 0);
    n += agent_wire_put(bytes + n, 9, "x", 1);
    for (size_t cut = 0; cut <= n; cut++) {
        struct agent_wire w = {.have = 0};
        struct seen s = {0};
        CHECK(agent_wire_feed(&w, bytes, cut, on_agent, &s));
        CHECK(agent_wire_feed(&w, bytes + cut, n - cut, on_agent, &s));
        CHECK_EQ(s.n, 3);
        CHECK_EQ(s.type[0], 7);
        CHECK_EQ(s.len[0], 5);
        CHECK_EQ(s.len[1], 0);
        CHECK_EQ(s.type[2], 9);
    }
}

static void agent_refusals(void)
{
    struct agent_wire w = {.have = 0};
    struct seen s = {0};
    uint8_t bytes[8] = {1, 0, 0, 0, 1, 0x10, 0, 0}; /* 4097 bytes to come */
    CHECK(!agent_wire_feed(&w, bytes, sizeof bytes, on_agent, &s));
    w.have = 0;
    CHECK(!agent_wire_feed(&w, bytes, agent_wire_put(bytes, 99, NULL, 0), on_agent, &s));
    struct agent_open o = {.magic = AGENT_MAGIC, .major = AGENT_MAJOR};
    memcpy(o.magic, AGENT_MAGIC, sizeof o.magic);
    CHECK(agent_open_valid(&o));
    o.service = AGENT_SERVICES;
    CHECK(!agent_open_valid(&o));
    o.service = 0;
    o.major = AGENT_MAJOR + 1;
    CHECK(!agent_open_valid(&o));
}

/* ---- the SPICE agent ---- */

struct vseen {
    unsigned messages, long_ones;
    uint32_t type;
    size_t len;
    uint32_t sum;
};

static uint32_t sum_of(const uint8_t *p, size_t n)
{
    uint32_t s = 1;
    for (size_t i = 0; i < n; i++)
        s = s * 31 + p[i];
    return s;
}

static void v_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    struct vseen *s = ctx;
    s->messages++;
    s->type = type;
    s->len = len;
    s->sum = sum_of(data, len);
}
static void v_progress(void *ctx, size_t have, size_t total)
{
}
static void v_long(void *ctx, uint32_t type, const uint8_t *data, size_t have, uint32_t len)
{
    ((struct vseen *)ctx)->long_ones++;
}
static const struct vdagent_wire_ops v_ops = {v_message, v_progress, v_long};

struct bytes {
    uint8_t *p;
    size_t n;
};

static void collect(void *ctx, const void *p, size_t n)
{
    struct bytes *b = ctx;
    b->p = realloc(b->p, b->n + n);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void vdagent_round(void)
{
    static const size_t sizes[] = {0, 1, 2020, 2028, 2029, 5000, 65536 - 4, 300000};
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct bytes b = {0};
        struct vseen s = {0};
        uint8_t *data = malloc(sizes[i] + 4);
        for (size_t k = 0; k < sizes[i] + 4; k++)
            data[k] = (uint8_t)(k * 7);
        vdagent_wire_pack(VD_AGENT_CLIPBOARD, data, 4, data + 4, sizes[i], collect, &b);
        for (size_t piece = 1; piece < 5000; piece = piece * 3 + 1) {
            struct vdagent_wire *w = vdagent_wire_new(&v_ops, &s);
            s = (struct vseen){0};
            for (size_t at = 0; at < b.n; at += piece)
                CHECK(vdagent_wire_feed(w, b.p + at, b.n - at < piece ? b.n - at : piece));
            CHECK_EQ(s.messages, 1);
            CHECK_EQ(s.len, sizes[i] + 4);
            CHECK_EQ(s.sum, sum_of(data, sizes[i] + 4));
            vdagent_wire_free(w);
        }
        free(b.p);
        free(data);
    }
}

/* A message that says it is 4 GiB costs nothing and is read past; the next one arrives. */
static void vdagent_too_long(void)
{
    struct vseen s = {0};
    struct vdagent_wire *w = vdagent_wire_new(&v_ops, &s);
    struct {
        VDIChunkHeader chunk;
        VDAgentMessage head;
    } __attribute__((packed)) m = {{VDP_CLIENT_PORT, sizeof m.head + (100u << 20)},
                                   {VD_AGENT_PROTOCOL, VD_AGENT_CLIPBOARD, 0, 100u << 20}};
    static uint8_t zeros[1 << 20];
    struct bytes b = {0};
    CHECK(vdagent_wire_feed(w, (const uint8_t *)&m, sizeof m));
    for (unsigned i = 0; i < 100; i++)
        CHECK(vdagent_wire_feed(w, zeros, sizeof zeros));
    CHECK_EQ(s.long_ones, 1);
    CHECK_EQ(s.messages, 0);
    vdagent_wire_pack(VD_AGENT_REPLY, "12345678", 8, NULL, 0, collect, &b);
    CHECK(vdagent_wire_feed(w, b.p, b.n));
    CHECK_EQ(s.messages, 1);
    CHECK_EQ(s.type, VD_AGENT_REPLY);
    m.head.protocol = 2;
    CHECK(!vdagent_wire_feed(w, (const uint8_t *)&m, sizeof m));
    vdagent_wire_free(w);
    free(b.p);
}

static void vdagent_grabs(void)
{
    static const uint8_t bytes[] = {1, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9};
    struct vdagent_grab g;
    CHECK(vdagent_read_grab(bytes, sizeof bytes, true, true, &g));
    CHECK_EQ(g.selection, 1);
    CHECK_EQ(g.serial, 5);
    CHECK_EQ(g.n, 2);
    CHECK_EQ(g.types[1], 2);
    CHECK(!vdagent_read_grab(bytes, 7, true, true, &g));
    CHECK(!vdagent_read_grab(bytes + 4, 4, true, false, &g)); /* selection 5 */
    CHECK(vdagent_read_grab(bytes, 0, false, false, &g));
}

/* ---- sound ---- */

struct aseen {
    unsigned formats, data, running;
    uint64_t sequence;
    size_t len;
};
static void a_format(void *ctx, const struct audio_format *f)
{
    ((struct aseen *)ctx)->formats++;
    CHECK_EQ(f->rate, 48000);
}
static void a_data(void *ctx, uint64_t sequence, uint64_t time, const uint8_t *data, size_t len)
{
    struct aseen *s = ctx;
    s->data++;
    s->sequence = sequence;
    s->len = len;
}
static void a_running(void *ctx, bool on)
{
    ((struct aseen *)ctx)->running += on;
}
static void a_volume(void *ctx, const struct audio_volume *v)
{
}
static const struct audio_wire_ops a_ops = {a_format, a_data, a_running, a_volume};

static void audio_messages(void)
{
    static struct audio_wire w;
    struct aseen s = {0};
    uint8_t out[256];
    struct audio_head h;
    struct audio_format f = {48000, AUDIO_S16LE, 2, 0};
    audio_wire_head(&h, AUDIO_DATA, 8, 0, 0);
    memset(&w, 0, sizeof w);
    memcpy(out, &h, sizeof h);
    CHECK(!audio_wire_feed(&w, out, sizeof h + 8, &a_ops, &s)); /* data before the format */
    memset(&w, 0, sizeof w);
    audio_wire_head(&h, AUDIO_FORMAT, sizeof f, 0, 0);
    memcpy(out, &h, sizeof h);
    memcpy(out + sizeof h, &f, sizeof f);
    size_t n = sizeof h + sizeof f;
    audio_wire_head(&h, AUDIO_DATA, 8, 77, 0);
    memcpy(out + n, &h, sizeof h);
    n += sizeof h + 8;
    for (size_t i = 0; i < n; i++)
        CHECK(audio_wire_feed(&w, out + i, 1, &a_ops, &s));
    CHECK_EQ(s.formats, 1);
    CHECK_EQ(s.data, 1);
    CHECK_EQ(s.sequence, 77);
    CHECK_EQ(s.len, 8);
    audio_wire_head(&h, AUDIO_DATA, 7, 0, 0); /* no whole frames */
    memcpy(out, &h, sizeof h);
    CHECK(!audio_wire_feed(&w, out, sizeof h + 7, &a_ops, &s));
    f.channels = 9;
    CHECK_EQ(audio_frame_size(&f), 0);
    f.channels = 2;
    f.rate = 7999;
    CHECK_EQ(audio_frame_size(&f), 0);
}

/* The guest's clock is `ppm` fast; ten minutes. How far from the target it ends, and how much that
 * moves in the last minute. */
static void run_clock(double ppm, double *off, double *moved)
{
    struct drift d;
    double waiting = 80, before = 0, lost;
    drift_init(&d, 45);
    for (int i = 0; i < 60000; i++) { /* 10 ms each */
        double jitter = (double)(rand() % 1000) / 100 - 5;
        if (i == 54000)
            before = waiting;
        drift_update(&d, waiting + jitter, 0.01);
        waiting += 10 * (1 + ppm / 1e6) / d.ratio - 10;
    }
    lost = waiting - before;
    *off = fabs(waiting - 45);
    *moved = fabs(lost);
}

/* From the beginning on: half a minute settles it. */
static void settles(void)
{
    static const double ppms[] = {0, 100, -100, 250, -250};
    for (unsigned k = 0; k < sizeof ppms / sizeof ppms[0]; k++) {
        struct drift d;
        double waiting = 18, least = 1000, most = 0;
        drift_init(&d, 45);
        for (int i = 0; i < 9000; i++) {
            drift_update(&d, waiting, 0.01);
            waiting += 10 * (1 + ppms[k] / 1e6) / d.ratio - 10;
            if (i < 3000)
                continue;
            least = waiting < least ? waiting : least;
            most = waiting > most ? waiting : most;
        }
        if (most - least > 1)
            fprintf(stderr, "%+.0f ppm: from %.2f to %.2f ms\n", ppms[k], least, most);
        CHECK(most - least <= 1);
    }
}

/* As session/audio/pace.c has it: begun at rest, looked at once a second. */
static void at_rest(void)
{
    static const double ppms[] = {0, 50, -50, 300, -300};
    for (unsigned k = 0; k < sizeof ppms / sizeof ppms[0]; k++) {
        struct drift d;
        double waiting = 52, least = 1000, most = 0, before = 0;
        drift_init(&d, 0);
        drift_rest(&d, 52, 52);
        for (int i = 0; i < 150; i++) {
            if (i == 90)
                before = waiting;
            waiting += 1000 * (1 + ppms[k] / 1e6) / d.ratio - 1000;
            drift_update(&d, waiting, 1);
            least = waiting < least ? waiting : least;
            most = waiting > most ? waiting : most;
        }
        if (most - least > 2 || fabs(waiting - before) > 0.2)
            fprintf(stderr, "%+.0f ppm: from %.2f to %.2f ms, %.2f in a minute\n", ppms[k], least,
                    most, waiting - before);
        CHECK(most - least <= 2);
        CHECK(fabs(waiting - before) <= 0.2);
        drift_rest(&d, 60, 60); /* what was learnt stays */
        CHECK(fabs((d.ratio - 1) * 1e6 - ppms[k]) < 10);
    }
}

static void clocks(void)
{
    static const double ppms[] = {0, 50, -50, 300, -300, 1000, -1000};
    for (unsigned i = 0; i < sizeof ppms / sizeof ppms[0]; i++) {
        double off, moved;
        run_clock(ppms[i], &off, &moved);
        if (off > 2 || moved > 1)
            fprintf(stderr, "%+.0f ppm: %.2f ms off, moves %.2f ms a minute\n", ppms[i], off,
                    moved);
        CHECK(off <= 2);
        CHECK(moved <= 1);
    }
}

/* A tone through the resampler is still that tone, to -60 dB. */
static void resampling(void)
{
    enum { N = 4800 };
    static float in[N], out[N + 200];
    struct resampler r;
    double worst = 0, ratio = 1.0003;
    resampler_init(&r, 1);
    for (int i = 0; i < N; i++)
        in[i] = (float)sin(i * 2 * M_PI * 1000 / 48000);
    size_t n = 0;
    for (int i = 0; i < N; i += 480)
        n += resampler_run(&r, ratio, in + i, 480, out + n, N + 200 - n);
    CHECK(n > N / ratio - 4 && n < N / ratio + 4);
    for (size_t i = 10; i < n; i++) {
        double want = sin(((double)i * ratio - 2) * 2 * M_PI * 1000 / 48000);
        double e = fabs(out[i] - want);
        worst = e > worst ? e : worst;
    }
    if (worst > 0.001)
        fprintf(stderr, "worst %g\n", worst);
    CHECK(worst < 0.001);
}

static const struct check_test tests[] = {
    CHECK_TEST(agent_pieces),     CHECK_TEST(agent_refusals), CHECK_TEST(vdagent_round),
    CHECK_TEST(vdagent_too_long), CHECK_TEST(vdagent_grabs),  CHECK_TEST(audio_messages),
    CHECK_TEST(settles),          CHECK_TEST(at_rest),        CHECK_TEST(clocks),
    CHECK_TEST(resampling),
};
CHECK_MAIN(tests)
