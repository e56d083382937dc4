/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Plays a sender's sound into a PulseAudio stream at the pace at which it comes. Where the latency
 * comes to rest within the first second it is kept: the sender's clock is followed from there. What
 * is too much is left out: at the beginning at once, later where it is quiet. A stream that ran dry
 * gets more in store. In the viewer for what the guest plays, in the guest for the microphone: no
 * GLib. Thread: the stream's.
 */
#ifndef VIREO_AUDIO_PACE_H
#define VIREO_AUDIO_PACE_H

#include <pulse/pulseaudio.h>
#include <stdbool.h>

#include "session/audio/drift.h"

struct pace_params {
    unsigned rate, channels; /* at most RESAMPLE_CHANNELS */
    unsigned store_ms;       /* waits in the server when sound begins */
    unsigned block_ms;       /* what the server's sink should take at once */
};

struct pace {
    struct pace_params p;
    pa_stream *stream;
    struct drift drift;
    struct resampler resampler;
    unsigned store; /* ms; grows */
    pa_operation *asking;
    pa_usec_t asked;
    /* The server's clock, all in ms: what it has played is now + base. */
    double written, base, sink;
    bool has_base;
    unsigned base_looks, odd; /* it is the mean of so many; so many in a row say something else */
    double begun;             /* of what is written: when it began or ran dry */
    double most, seen; /* ms to the ear in this second, when pieces came; how much of it is over */
    bool at_rest, beginning;
    unsigned skips; /* pieces left out */
};

/* The attributes and flags to connect the stream with; its samples must be PA_SAMPLE_FLOAT32NE. */
pa_buffer_attr pace_attr(const struct pace_params *p);
#define PACE_FLAGS PA_STREAM_EARLY_REQUESTS

/* stream: borrowed until pace_end; connected already or not. */
void pace_begin(struct pace *c, pa_stream *stream, const struct pace_params *p);
void pace_end(struct pace *c);
/* Sound comes again after a while without: what was learnt of the clocks stays. */
void pace_again(struct pace *c);
/* The stream ran dry, and should not have. */
void pace_dry(struct pace *c);
/* Returns how many frames were written. The stream must be ready. */
size_t pace_write(struct pace *c, const float *frames, size_t n);

#endif
