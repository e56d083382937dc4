/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reading and writing session/audio/audio-proto.h; used on both sides. Knows no GLib. Checks all:
 * what reaches the callbacks is in range, and data is whole frames after a format. Hostile input.
 */
#ifndef VIREO_AUDIO_WIRE_H
#define VIREO_AUDIO_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "session/audio/audio-proto.h"

struct audio_wire_ops {
    void (*format)(void *ctx, const struct audio_format *f); /* host order */
    void (*data)(void *ctx, uint64_t sequence, uint64_t time, const uint8_t *data, size_t len);
    void (*running)(void *ctx, bool on);
    void (*volume)(void *ctx, const struct audio_volume *v); /* host order */
};

struct audio_wire {
    uint8_t buf[sizeof(struct audio_head) + AUDIO_MAX_DATA];
    size_t have;
    unsigned frame; /* bytes; 0: no format yet. A side that is only written to sets it itself. */
};

/* False: the other side broke the protocol. The ops must not free the wire. */
bool audio_wire_feed(struct audio_wire *w, const uint8_t *bytes, size_t len,
                     const struct audio_wire_ops *ops, void *ctx);
/* Bytes of a frame; 0: not a format that is allowed. */
unsigned audio_frame_size(const struct audio_format *f);
/* Head for a message of len bytes. */
void audio_wire_head(struct audio_head *h, uint32_t type, size_t len, uint64_t sequence,
                     uint64_t time);

#endif
