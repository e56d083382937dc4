/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Following a sender's clock: a controller that says by how much to play faster or slower so that
 * what waits stays near a target, and a resampler that does it. No allocation, no clock of its own.
 */
#ifndef VIREO_AUDIO_DRIFT_H
#define VIREO_AUDIO_DRIFT_H

#include <stdbool.h>
#include <stddef.h>

struct drift {
    double target;   /* ms */
    double smooth;   /* what waits, ms, averaged over a second or two */
    double integral; /* the clocks' difference as learnt, a share */
    double ratio;    /* input frames for one output frame */
    bool started;
};

void drift_init(struct drift *d, double target_ms);
/* From here on, another target and what waits now; what was learnt of the clocks stays. */
void drift_rest(struct drift *d, double target_ms, double waiting);
/* `waiting`: ms of sound between here and the ear; dt: seconds since the last call. */
void drift_update(struct drift *d, double waiting, double dt);

enum { RESAMPLE_CHANNELS = 8 };
struct resampler {
    unsigned channels;
    double at;                        /* in [0, 1) between past[1] and past[2] */
    float past[4][RESAMPLE_CHANNELS]; /* the last four frames */
};
void resampler_init(struct resampler *r, unsigned channels);
/* Cubic interpolation, two frames late. Writes at most `room` frames and returns how many: of n
 * input frames all are used if room >= n / ratio + 2. */
size_t resampler_run(struct resampler *r, double ratio, const float *in, size_t n, float *out,
                     size_t room);

#endif
