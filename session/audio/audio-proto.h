/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sound on an AGENT_PLAYBACK or AGENT_RECORD stream, both ways the same messages; little-endian.
 *
 * Who has a format to say says AUDIO_FORMAT first: the guest, on both streams; data before it is an
 * error. AUDIO_DATA is whole frames of it: from the guest on playback, to the guest on record. Its
 * sequence counts frames since the format, so that what is missing shows; its time is the sender's
 * CLOCK_MONOTONIC in microseconds at the first frame. AUDIO_RUNNING: on playback whether a program
 * plays (silence is not sent), on record whether a program records. AUDIO_VOLUME: the guest's.
 */
#ifndef VIREO_AUDIO_PROTO_H
#define VIREO_AUDIO_PROTO_H

#include <stdint.h>

enum {
    AUDIO_MAX_DATA = 32768,
    AUDIO_MAX_CHANNELS = 8,
    AUDIO_MIN_RATE = 8000,
    AUDIO_MAX_RATE = 192000,
    AUDIO_VOLUME_FULL = 65535,
};

enum audio_message {
    AUDIO_FORMAT = 1, /* struct audio_format */
    AUDIO_DATA = 2,
    AUDIO_RUNNING = 3, /* uint32_t: 1, 0 */
    AUDIO_VOLUME = 4,  /* struct audio_volume */
};

enum audio_sample { AUDIO_S16LE = 1, AUDIO_F32LE = 2 };

struct audio_head {
    uint32_t type, size;
    uint64_t sequence, time;
} __attribute__((packed));
_Static_assert(sizeof(struct audio_head) == 24, "wire");

struct audio_format {
    uint32_t rate;
    uint8_t sample; /* enum audio_sample */
    uint8_t channels;
    uint16_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct audio_format) == 8, "wire");

struct audio_volume {
    uint8_t mute, channels;
    uint16_t volume[AUDIO_MAX_CHANNELS]; /* linear in what the user sees, 65535: 100 % */
} __attribute__((packed));
_Static_assert(sizeof(struct audio_volume) == 18, "wire");

#endif
