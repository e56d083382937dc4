/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/audio/audio-wire.h"

#include <endian.h>
#include <string.h>

unsigned audio_frame_size(const struct audio_format *f)
{
    unsigned sample = f->sample == AUDIO_S16LE ? 2 : f->sample == AUDIO_F32LE ? 4 : 0;
    if (f->rate < AUDIO_MIN_RATE || f->rate > AUDIO_MAX_RATE || !f->channels ||
        f->channels > AUDIO_MAX_CHANNELS)
        return 0;
    return sample * f->channels;
}

void audio_wire_head(struct audio_head *h, uint32_t type, size_t len, uint64_t sequence,
                     uint64_t time)
{
    *h = (struct audio_head){htole32(type), htole32((uint32_t)len), htole64(sequence),
                             htole64(time)};
}

static bool on_format(struct audio_wire *w, const uint8_t *p, size_t len,
                      const struct audio_wire_ops *ops, void *ctx)
{
    struct audio_format f;
    if (len < sizeof f)
        return false;
    memcpy(&f, p, sizeof f);
    f.rate = le32toh(f.rate);
    w->frame = audio_frame_size(&f);
    if (w->frame)
        ops->format(ctx, &f);
    return w->frame != 0;
}

static bool on_volume(const uint8_t *p, size_t len, const struct audio_wire_ops *ops, void *ctx)
{
    struct audio_volume v;
    if (len < sizeof v)
        return false;
    memcpy(&v, p, sizeof v);
    if (v.channels > AUDIO_MAX_CHANNELS)
        return false;
    for (unsigned i = 0; i < AUDIO_MAX_CHANNELS; i++)
        v.volume[i] = le16toh(v.volume[i]);
    ops->volume(ctx, &v);
    return true;
}

static bool on_message(struct audio_wire *w, const struct audio_head *h, const uint8_t *p,
                       size_t len, const struct audio_wire_ops *ops, void *ctx)
{
    uint32_t on;
    switch (le32toh(h->type)) {
    case AUDIO_FORMAT: return on_format(w, p, len, ops, ctx);
    case AUDIO_VOLUME: return on_volume(p, len, ops, ctx);
    case AUDIO_RUNNING:
        if (len < sizeof on)
            return false;
        memcpy(&on, p, sizeof on);
        ops->running(ctx, on != 0);
        return true;
    case AUDIO_DATA:
        if (!w->frame || len % w->frame)
            return false;
        if (len)
            ops->data(ctx, le64toh(h->sequence), le64toh(h->time), p, len);
        return true;
    default: return true; /* of a later minor version */
    }
}

/* Adds what is missing to `want` bytes; true when they are there. */
static bool gather(struct audio_wire *w, size_t want, const uint8_t **bytes, size_t *len)
{
    size_t n = want > w->have ? want - w->have : 0;
    if (n > *len)
        n = *len;
    memcpy(w->buf + w->have, *bytes, n);
    w->have += n;
    *bytes += n;
    *len -= n;
    return w->have >= want;
}

bool audio_wire_feed(struct audio_wire *w, const uint8_t *bytes, size_t len,
                     const struct audio_wire_ops *ops, void *ctx)
{
    struct audio_head h;
    while (len) {
        if (!gather(w, sizeof h, &bytes, &len))
            return true;
        memcpy(&h, w->buf, sizeof h);
        uint32_t size = le32toh(h.size);
        if (size > AUDIO_MAX_DATA)
            return false;
        if (!gather(w, sizeof h + size, &bytes, &len))
            return true;
        w->have = 0;
        if (!on_message(w, &h, w->buf + sizeof h, size, ops, ctx))
            return false;
    }
    return true;
}
