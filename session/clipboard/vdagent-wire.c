/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/clipboard/vdagent-wire.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include <spice/vd_agent.h>

enum { HEAD = sizeof(VDAgentMessage), SHOWN = 16, FIRST_ROOM = 4096 };

struct vdagent_wire {
    const struct vdagent_wire_ops *ops;
    void *ctx;
    /* the chunk */
    uint8_t chunk_head[sizeof(VDIChunkHeader)];
    size_t chunk_have;
    uint32_t chunk_left;
    /* the message */
    uint8_t head[HEAD];
    size_t head_have;
    uint32_t type, size, have;
    uint8_t *data; /* room bytes */
    size_t room;
    bool skipping;
};

struct vdagent_wire *vdagent_wire_new(const struct vdagent_wire_ops *ops, void *ctx)
{
    struct vdagent_wire *w = calloc(1, sizeof *w);
    if (w) {
        w->ops = ops;
        w->ctx = ctx;
    }
    return w;
}

void vdagent_wire_free(struct vdagent_wire *w)
{
    if (w)
        free(w->data);
    free(w);
}

static uint32_t limit_of(uint32_t type)
{
    return type == VD_AGENT_CLIPBOARD ? VDAGENT_MAX_DATA + 8 : VDAGENT_MAX_OTHER;
}

/* Makes room for n bytes, not for what the message says that it will have. */
static bool grow(struct vdagent_wire *w, size_t n)
{
    size_t room = w->room ? w->room : FIRST_ROOM;
    while (room < n)
        room *= 2;
    if (room == w->room)
        return true;
    uint8_t *data = realloc(w->data, room);
    if (!data)
        return false;
    w->data = data;
    w->room = room;
    return true;
}

static void end_message(struct vdagent_wire *w)
{
    if (!w->skipping)
        w->ops->message(w->ctx, w->type, w->data, w->have);
    w->head_have = 0;
    w->have = 0;
    w->skipping = false;
    if (w->room > VDAGENT_MAX_OTHER) {
        free(w->data);
        w->data = NULL;
        w->room = 0;
    }
}

static bool begin_message(struct vdagent_wire *w)
{
    VDAgentMessage m;
    memcpy(&m, w->head, sizeof m);
    w->type = le32toh(m.type);
    w->size = le32toh(m.size);
    w->have = 0;
    return le32toh(m.protocol) == VD_AGENT_PROTOCOL && grow(w, 1);
}

static bool take_data(struct vdagent_wire *w, const uint8_t *bytes, size_t n)
{
    bool long_one = w->size > limit_of(w->type);
    size_t keep = n;
    if (long_one)
        keep = w->have >= SHOWN ? 0 : n < SHOWN - w->have ? n : SHOWN - w->have;
    if (keep) {
        if (!grow(w, w->have + keep))
            return false;
        memcpy(w->data + w->have, bytes, keep);
    }
    w->have += (uint32_t)n;
    if (long_one && !w->skipping && w->have >= SHOWN) {
        w->skipping = true;
        w->ops->too_long(w->ctx, w->type, w->data, SHOWN, w->size);
    }
    if (!long_one && w->type == VD_AGENT_CLIPBOARD)
        w->ops->progress(w->ctx, w->have, w->size);
    return true;
}

/* Bytes of a chunk's inside. */
static bool take(struct vdagent_wire *w, const uint8_t *bytes, size_t len)
{
    while (len) {
        if (w->head_have < HEAD) {
            size_t n = HEAD - w->head_have < len ? HEAD - w->head_have : len;
            memcpy(w->head + w->head_have, bytes, n);
            w->head_have += n;
            bytes += n;
            len -= n;
            if (w->head_have < HEAD)
                return true;
            if (!begin_message(w))
                return false;
        }
        size_t n = w->size - w->have < len ? w->size - w->have : len;
        if (n && !take_data(w, bytes, n))
            return false;
        bytes += n;
        len -= n;
        if (w->have == w->size)
            end_message(w);
    }
    return true;
}

/* Of any length: spice-vdagentd sends a message in one chunk, and nothing waits for the whole. */
static void begin_chunk(struct vdagent_wire *w)
{
    VDIChunkHeader h;
    memcpy(&h, w->chunk_head, sizeof h);
    w->chunk_left = le32toh(h.size);
}

bool vdagent_wire_feed(struct vdagent_wire *w, const uint8_t *bytes, size_t len)
{
    while (len) {
        if (!w->chunk_left) {
            size_t want = sizeof w->chunk_head - w->chunk_have;
            size_t n = want < len ? want : len;
            memcpy(w->chunk_head + w->chunk_have, bytes, n);
            w->chunk_have += n;
            bytes += n;
            len -= n;
            if (w->chunk_have < sizeof w->chunk_head)
                return true;
            w->chunk_have = 0;
            begin_chunk(w);
            continue;
        }
        size_t n = w->chunk_left < len ? w->chunk_left : len;
        w->chunk_left -= (uint32_t)n;
        if (!take(w, bytes, n))
            return false;
        bytes += n;
        len -= n;
    }
    return true;
}

/* ---- ours ---- */

struct packer {
    const uint8_t *part[3];
    size_t left[3];
};

static size_t fill(struct packer *p, uint8_t *out, size_t room)
{
    size_t done = 0;
    for (unsigned i = 0; i < 3 && done < room; i++) {
        size_t n = p->left[i] < room - done ? p->left[i] : room - done;
        if (n)
            memcpy(out + done, p->part[i], n);
        p->part[i] += n;
        p->left[i] -= n;
        done += n;
    }
    return done;
}

void vdagent_wire_pack(uint32_t type, const void *head, size_t nhead, const void *data, size_t len,
                       vdagent_put_fn *put, void *ctx)
{
    static const uint8_t nothing[1];
    VDAgentMessage m = {.protocol = htole32(VD_AGENT_PROTOCOL),
                        .type = htole32(type),
                        .size = htole32((uint32_t)(nhead + len))};
    struct packer p = {{(const uint8_t *)&m, head ? head : nothing, data ? data : nothing},
                       {sizeof m, nhead, len}};
    uint8_t out[sizeof(VDIChunkHeader) + VDAGENT_CHUNK];
    for (size_t n; (n = fill(&p, out + sizeof(VDIChunkHeader), VDAGENT_CHUNK)) > 0;) {
        VDIChunkHeader h = {htole32(VDP_CLIENT_PORT), htole32((uint32_t)n)};
        memcpy(out, &h, sizeof h);
        put(ctx, out, sizeof h + n);
    }
}

/* ---- reading ---- */

static uint32_t read_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

bool vdagent_read_grab(const uint8_t *data, size_t len, bool selections, bool serials,
                       struct vdagent_grab *out)
{
    size_t at = 0;
    memset(out, 0, sizeof *out);
    if (len < (selections ? 4u : 0) + (serials ? 4u : 0))
        return false;
    if (selections) {
        out->selection = data[0];
        at += 4;
    }
    if (serials) {
        out->serial = read_u32(data + at);
        at += 4;
    }
    for (; len - at >= 4 && out->n < sizeof out->types / sizeof out->types[0]; at += 4)
        out->types[out->n++] = read_u32(data + at);
    return out->selection <= VD_AGENT_CLIPBOARD_SELECTION_SECONDARY;
}

bool vdagent_read_content(const uint8_t *data, size_t len, bool selections, uint8_t *selection,
                          uint32_t *type, size_t *at)
{
    *at = selections ? 8 : 4;
    if (len < *at)
        return false;
    *selection = selections ? data[0] : 0;
    *type = read_u32(data + *at - 4);
    return *selection <= VD_AGENT_CLIPBOARD_SELECTION_SECONDARY;
}

bool vdagent_read_caps(const uint8_t *data, size_t len, bool *request, uint32_t *caps)
{
    if (len < 8)
        return false;
    *request = read_u32(data) != 0;
    *caps = read_u32(data + 4);
    return true;
}

bool vdagent_read_status(const uint8_t *data, size_t len, uint32_t *id, uint32_t *result,
                         uint64_t *space)
{
    *space = 0;
    if (len < 8)
        return false;
    *id = read_u32(data);
    *result = read_u32(data + 4);
    if (*result == VD_AGENT_FILE_XFER_STATUS_NOT_ENOUGH_SPACE && len >= 16)
        *space = read_u32(data + 8) | (uint64_t)read_u32(data + 12) << 32;
    return true;
}
