/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/agent-wire.h"

#include <endian.h>
#include <string.h>

/* Adds to what is there up to `want` bytes; true when they are. */
static bool gather(struct agent_wire *w, size_t want, const uint8_t **data, size_t *len)
{
    size_t n = want > w->have ? want - w->have : 0;
    if (n > *len)
        n = *len;
    memcpy(w->buf + w->have, *data, n);
    w->have += n;
    *data += n;
    *len -= n;
    return w->have >= want;
}

bool agent_wire_feed(struct agent_wire *w, const uint8_t *data, size_t len, agent_wire_fn *fn,
                     void *ctx)
{
    struct agent_head h;
    while (len) {
        if (!gather(w, sizeof h, &data, &len))
            return true;
        memcpy(&h, w->buf, sizeof h);
        uint32_t size = le32toh(h.size);
        if (size > AGENT_MAX_MESSAGE)
            return false;
        if (!gather(w, sizeof h + size, &data, &len))
            return true;
        w->have = 0;
        if (!fn(ctx, le32toh(h.type), w->buf + sizeof h, size))
            return false;
    }
    return true;
}

size_t agent_wire_put(uint8_t *out, uint32_t type, const void *data, size_t len)
{
    struct agent_head h = {htole32(type), htole32((uint32_t)len)};
    memcpy(out, &h, sizeof h);
    if (len)
        memcpy(out + sizeof h, data, len);
    return sizeof h + len;
}

bool agent_wire_take(void *out, size_t size, size_t least, const uint8_t *data, size_t len)
{
    memset(out, 0, size);
    if (len < least)
        return false;
    memcpy(out, data, len < size ? len : size);
    return true;
}

bool agent_open_valid(const struct agent_open *o)
{
    return memcmp(o->magic, AGENT_MAGIC, sizeof o->magic) == 0 &&
           le16toh(o->major) == AGENT_MAJOR && le32toh(o->service) < AGENT_SERVICES;
}
