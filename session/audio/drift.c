/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/audio/drift.h"

#include <math.h>
#include <string.h>

/* 10 ms too much is played 0.3 % faster, gone in some seconds, inaudible; the integral learns what
 * the clocks differ by within half a minute. It learns from 2 ms at most, and nothing where it is
 * far off: the way to the target is no difference of clocks. Nothing ever moves by more than 0.5 %.
 */
static const double PROPORTION = 3e-4, LEARNING = 1.5e-5, TEACHES_MS = 2, FAR_MS = 10, MOST = 5e-3,
                    SMOOTH_S = 1.5;

void drift_init(struct drift *d, double target_ms)
{
    *d = (struct drift){.target = target_ms, .ratio = 1};
}

void drift_rest(struct drift *d, double target_ms, double waiting)
{
    d->target = target_ms;
    d->smooth = waiting;
    d->started = true;
    d->ratio = 1 + d->integral;
}

static double clamp(double v, double most)
{
    return v > most ? most : v < -most ? -most : v;
}

void drift_update(struct drift *d, double waiting, double dt)
{
    if (!d->started) {
        d->smooth = waiting;
        d->started = true;
    }
    double share = dt < SMOOTH_S ? dt / SMOOTH_S : 1;
    d->smooth += (waiting - d->smooth) * share;
    double off = d->smooth - d->target;
    double teaches = fabs(off) > FAR_MS ? 0 : clamp(off, TEACHES_MS);
    d->integral = clamp(d->integral + LEARNING * teaches * dt, MOST / 2);
    d->ratio = 1 + clamp(PROPORTION * off + d->integral, MOST);
}

void resampler_init(struct resampler *r, unsigned channels)
{
    memset(r, 0, sizeof *r);
    r->channels = channels;
}

/* Catmull-Rom through past[0..3], between [1] and [2]. */
static float between(const struct resampler *r, unsigned c, float t)
{
    float a = r->past[0][c], b = r->past[1][c], d = r->past[2][c], e = r->past[3][c];
    float c1 = (d - a) * 0.5f, c2 = a - 2.5f * b + 2 * d - 0.5f * e;
    float c3 = (e - a) * 0.5f + (b - d) * 1.5f;
    return ((c3 * t + c2) * t + c1) * t + b;
}

static void push(struct resampler *r, const float *frame)
{
    memmove(r->past[0], r->past[1], sizeof r->past[0] * 3);
    memcpy(r->past[3], frame, sizeof(float) * r->channels);
}

size_t resampler_run(struct resampler *r, double ratio, const float *in, size_t n, float *out,
                     size_t room)
{
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        push(r, in + i * r->channels);
        for (; r->at < 1 && made < room; r->at += ratio, made++)
            for (unsigned c = 0; c < r->channels; c++)
                out[made * r->channels + c] = between(r, c, (float)r->at);
        if (r->at >= 1)
            r->at -= 1;
    }
    return made;
}
