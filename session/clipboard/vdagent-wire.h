/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The SPICE agent's wire (spice/vd_agent.h): messages in chunks. Reads a guest's bytes into whole
 * messages and cuts ours into chunks. Memory grows only with what has come, up to the limits;
 * longer messages are read past. Knows no GLib. Hostile input: the guest's.
 */
#ifndef VIREO_CLIPBOARD_VDAGENT_WIRE_H
#define VIREO_CLIPBOARD_VDAGENT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VDAGENT_MAX_DATA = 64 << 20, /* of a clipboard's content */
    VDAGENT_MAX_OTHER =
        65536 + 64,       /* of any other message: clients send files in pieces of 64 KiB */
    VDAGENT_CHUNK = 2048, /* ours: VD_AGENT_MAX_DATA_SIZE, more makes spice-vdagentd give up */
};

struct vdagent_wire_ops {
    /* A whole message. */
    void (*message)(void *ctx, uint32_t type, const uint8_t *data, size_t len);
    /* Part of a clipboard's content has come. */
    void (*progress)(void *ctx, size_t have, size_t total);
    /* A message is longer than its limit and is read past; `data`: its first bytes (16 at most). */
    void (*too_long)(void *ctx, uint32_t type, const uint8_t *data, size_t have, uint32_t len);
};

struct vdagent_wire;
struct vdagent_wire *vdagent_wire_new(const struct vdagent_wire_ops *ops, void *ctx);
void vdagent_wire_free(struct vdagent_wire *w);
/* False: the guest broke the protocol, or there is no memory; the stream is to be closed. The ops
 * must not free the wire. */
bool vdagent_wire_feed(struct vdagent_wire *w, const uint8_t *bytes, size_t len);

/* A message in chunks: one after the other, by put. */
typedef void vdagent_put_fn(void *ctx, const void *bytes, size_t len);
/* The message's data is `head` and then `data`. */
void vdagent_wire_pack(uint32_t type, const void *head, size_t nhead, const void *data, size_t len,
                       vdagent_put_fn *put, void *ctx);

/* ---- what messages hold, read with all checks ---- */

struct vdagent_grab {
    uint8_t selection;
    uint32_t serial;
    uint32_t types[32];
    unsigned n;
};
bool vdagent_read_grab(const uint8_t *data, size_t len, bool selections, bool serials,
                       struct vdagent_grab *out);
/* CLIPBOARD and CLIPBOARD_REQUEST: selection and type; the content begins at *at. */
bool vdagent_read_content(const uint8_t *data, size_t len, bool selections, uint8_t *selection,
                          uint32_t *type, size_t *at);
/* ANNOUNCE_CAPABILITIES: the first 32 of them. */
bool vdagent_read_caps(const uint8_t *data, size_t len, bool *request, uint32_t *caps);
/* FILE_XFER_STATUS; *space: what is free, for NOT_ENOUGH_SPACE, else 0. */
bool vdagent_read_status(const uint8_t *data, size_t len, uint32_t *id, uint32_t *result,
                         uint64_t *space);

#endif
