/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Cutting a byte stream of the agent's control channel into messages; used on both sides. Knows no
 * GLib. Bounded: one message at most.
 */
#ifndef VIREO_AGENT_WIRE_H
#define VIREO_AGENT_WIRE_H

#include <stdbool.h>
#include <stddef.h>

#include "session/agent-proto.h"

struct agent_wire {
    uint8_t buf[sizeof(struct agent_head) + AGENT_MAX_MESSAGE];
    size_t have;
};

/* False: ends the reading. The callback may free what holds the wire if it returns false. */
typedef bool agent_wire_fn(void *ctx, uint32_t type, const uint8_t *data, size_t len);
/* False: a message too long, or the callback's refusal; the stream is to be closed. */
bool agent_wire_feed(struct agent_wire *w, const uint8_t *data, size_t len, agent_wire_fn *fn,
                     void *ctx);
/* Writes head and payload to out, which has room for sizeof(struct agent_head) + len. */
size_t agent_wire_put(uint8_t *out, uint32_t type, const void *data, size_t len);
/* Copies a message's payload into a structure of `size` bytes; what is missing is zero. False: less
 * than `least` came. */
bool agent_wire_take(void *out, size_t size, size_t least, const uint8_t *data, size_t len);
/* Whether a stream's first bytes are ones of this protocol and major version. */
bool agent_open_valid(const struct agent_open *o);

#endif
