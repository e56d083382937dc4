/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/audio/pace.h"

#include <math.h>

enum {
    ASK_MS = 100,      /* from one look at the server's clock to the next */
    WINDOW_MS = 1000,  /* of sound, from one look at what waits to the next */
    SLACK_MS = 20,     /* more than that too much is left out where that is not heard */
    BEGIN_MS = 60,     /* or at the beginning */
    MOST_MS = 150,     /* more than that at once */
    UNKNOWN_MS = 3000, /* a server that does not tell what it plays gets all */
    GROW_MS = 20,      /* more in store after it ran dry */
    STORE_MOST = 120,  /* ms */
    CHUNK = 512,       /* frames resampled at once */
    TLENGTH_MS = 1000, /* never asked for: the sender's pace is what counts */
};
/* The server's clock is the mean of the last looks at it: PipeWire's moves by whole cycles. One
 * that says something quite different was held up, if the next ones do not say so too. */
enum { BASE_MOVES = 8, BASE_ODD = 5, BASE_LOOKS = 20 };
static const float QUIET = 0.002f;

pa_buffer_attr pace_attr(const struct pace_params *p)
{
    uint32_t ms = p->rate * p->channels * (uint32_t)sizeof(float) / 1000;
    uint32_t frame = p->channels * (uint32_t)sizeof(float);
    ms -= ms % frame;
    return (pa_buffer_attr){.maxlength = 2 * TLENGTH_MS * ms,
                            .tlength = TLENGTH_MS * ms,
                            .prebuf = p->store_ms * ms,
                            .minreq = p->block_ms * ms};
}

static void forget(struct pace *c)
{
    if (!c->asking)
        return;
    pa_operation_cancel(c->asking);
    pa_operation_unref(c->asking);
    c->asking = NULL;
}

/* What waits is found out again. */
static void restart(struct pace *c)
{
    forget(c);
    c->has_base = c->at_rest = false;
    c->sink = 0;
    c->begun = c->written;
    c->most = c->seen = 0;
    c->odd = c->base_looks = 0;
}

static void set_store(struct pace *c, unsigned ms)
{
    struct pace_params p = c->p;
    c->store = p.store_ms = ms;
    pa_buffer_attr attr = pace_attr(&p);
    pa_operation *o = pa_stream_set_buffer_attr(c->stream, &attr, NULL, NULL);
    if (o)
        pa_operation_unref(o);
}

void pace_again(struct pace *c)
{
    restart(c);
    c->beginning = true;
    if (c->stream && c->store >= c->p.store_ms + GROW_MS)
        set_store(c, c->store - GROW_MS);
}

void pace_begin(struct pace *c, pa_stream *stream, const struct pace_params *p)
{
    *c = (struct pace){.p = *p, .stream = stream, .store = p->store_ms};
    drift_init(&c->drift, 0);
    resampler_init(&c->resampler, p->channels);
    pace_again(c);
}

void pace_end(struct pace *c)
{
    forget(c);
    c->stream = NULL;
}

/* The server waits until so much is there before it plays again. */
void pace_dry(struct pace *c)
{
    restart(c);
    if (c->store + GROW_MS <= STORE_MOST)
        set_store(c, c->store + GROW_MS);
}

static double now_ms(void)
{
    return (double)pa_rtclock_now() / 1000;
}

/* Ms to the ear of what is written now. */
static double lateness(const struct pace *c)
{
    return c->has_base ? c->written - now_ms() - c->base : c->written - c->begun;
}

static void on_timing(pa_stream *s, int success, void *data)
{
    struct pace *c = data;
    const pa_timing_info *t = success ? pa_stream_get_timing_info(s) : NULL;
    pa_usec_t latency = 0;
    int negative = 0;
    pa_operation_unref(c->asking);
    c->asking = NULL;
    if (!t || !t->playing || pa_stream_get_latency(s, &latency, &negative) < 0 || negative)
        return;
    double base = c->written - (double)latency / 1000 - now_ms();
    if (c->has_base && fabs(base - c->base) > BASE_MOVES && ++c->odd < BASE_ODD)
        return;
    if (!c->has_base || c->odd >= BASE_ODD) { /* another device, or it stood still for a while */
        restart(c);
        c->base = base;
        c->has_base = true;
    }
    c->base_looks += c->base_looks < BASE_LOOKS;
    c->base += (base - c->base) / c->base_looks;
    c->odd = 0;
    c->sink = (double)t->sink_usec / 1000;
}

static void ask(struct pace *c)
{
    pa_usec_t now = pa_rtclock_now();
    if (c->asking || (c->has_base && now - c->asked < ASK_MS * 1000))
        return;
    c->asked = now;
    c->asking = pa_stream_update_timing_info(c->stream, on_timing, c);
}

/* A piece that comes late finds less waiting, and busy machines have many. Those that came in time
 * tell of the clocks. */
static void observe(struct pace *c, size_t frames)
{
    double late = lateness(c);
    c->most = late > c->most ? late : c->most;
    c->seen += (double)frames * 1000 / c->p.rate;
    if (!c->has_base || c->seen < WINDOW_MS)
        return;
    /* Kept from now on, unless a burst or a server that stood still has made it too much. */
    double rest = c->sink + c->store + SLACK_MS;
    if (c->at_rest)
        drift_update(&c->drift, c->most, c->seen / 1000);
    else
        drift_rest(&c->drift, c->most < rest ? c->most : rest, c->most);
    c->at_rest = true;
    c->beginning = false;
    c->most = c->seen = 0;
}

static bool is_quiet(const float *frames, size_t samples)
{
    for (size_t i = 0; i < samples; i++)
        if (fabsf(frames[i]) > QUIET)
            return false;
    return true;
}

static bool is_too_much(const struct pace *c, const float *frames, size_t n)
{
    double queued = lateness(c) - c->sink;
    if (!c->has_base && c->seen > UNKNOWN_MS)
        return false;
    if (queued > c->store + MOST_MS)
        return true;
    if (!c->at_rest)
        return c->beginning && queued > c->store + BEGIN_MS;
    return c->drift.smooth > c->drift.target + SLACK_MS && is_quiet(frames, n * c->p.channels);
}

static void leave_out(struct pace *c, size_t n)
{
    if (c->at_rest)
        c->drift.smooth -= (double)n * 1000 / c->p.rate;
    if (c->has_base)
        c->most = c->seen = 0;
    c->skips++;
}

size_t pace_write(struct pace *c, const float *frames, size_t n)
{
    float out[(CHUNK + CHUNK / 64 + 4) * RESAMPLE_CHANNELS];
    size_t written = 0, given = n;
    if (is_too_much(c, frames, n)) {
        leave_out(c, n);
        n = 0;
    }
    while (n) {
        size_t now = n < CHUNK ? n : CHUNK;
        size_t made =
            resampler_run(&c->resampler, c->drift.ratio, frames, now, out, CHUNK + CHUNK / 64 + 4);
        pa_stream_write(c->stream, out, made * c->p.channels * sizeof(float), NULL, 0,
                        PA_SEEK_RELATIVE);
        frames += now * c->p.channels;
        n -= now;
        written += made;
    }
    c->written += (double)written * 1000 / c->p.rate;
    ask(c);
    observe(c, given);
    return written;
}
