/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The guest's SPICE agent: chunks, messages, and what is read from them. The first byte says in
 * pieces of which size the rest comes. */
#include <stdlib.h>

#include <spice/vd_agent.h>

#include "session/clipboard/vdagent-wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void on_message(void *ctx, uint32_t type, const uint8_t *data, size_t len)
{
    struct vdagent_grab g;
    uint8_t selection;
    uint32_t word, caps;
    uint64_t space;
    size_t at;
    bool request;
    for (unsigned i = 0; i < 4; i++)
        if (vdagent_read_grab(data, len, i & 1, i & 2, &g))
            for (unsigned k = 0; k < g.n; k++)
                sink ^= (uint8_t)g.types[k];
    for (unsigned i = 0; i < 2; i++)
        if (vdagent_read_content(data, len, i, &selection, &word, &at) && at < len)
            sink ^= data[at];
    vdagent_read_caps(data, len, &request, &caps);
    vdagent_read_status(data, len, &word, &caps, &space);
    if (len)
        sink ^= data[len - 1];
    if (len > (type == VD_AGENT_CLIPBOARD ? VDAGENT_MAX_DATA + 8u : (unsigned)VDAGENT_MAX_OTHER))
        abort();
}

static void on_progress(void *ctx, size_t have, size_t total)
{
    if (have > total)
        abort();
}

static void on_too_long(void *ctx, uint32_t type, const uint8_t *data, size_t have, uint32_t len)
{
    sink ^= data[have - 1];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vdagent_wire_ops ops = {on_message, on_progress, on_too_long};
    struct vdagent_wire *w = vdagent_wire_new(&ops, NULL);
    size_t piece = size ? 1 + data[0] : 1;
    for (size_t at = 1; at < size; at += piece)
        if (!vdagent_wire_feed(w, data + at, size - at < piece ? size - at : piece))
            break;
    vdagent_wire_free(w);
    return 0;
}
