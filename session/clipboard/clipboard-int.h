/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the clipboard's files share. */
#pragma once

#include <spice/vd_agent.h>

#include "session/clipboard/clipboard.h"
#include "session/clipboard/mime.h"
#include "session/clipboard/vdagent-wire.h"
#include "session/stream.h"
#include "vireo-display1.h"

enum { SELECTIONS = 3 };

struct vireo_transfers;

enum owner { OWNER_NONE, OWNER_GUEST, OWNER_VIEWER };

struct selection {
    enum owner owner;
    GDBusConnection *viewer; /* OWNER_VIEWER; a reference */
    GStrv mimes;
    guint32 serial;  /* of the next grab, on either side */
    GQueue requests; /* of viewers to the guest: struct request */
    guint timeout_id;
    GCancellable *answers; /* viewers are asked for what the guest wants */
    guint asking;          /* how many times */
};

/* An agent in the guest that speaks the protocol. */
struct peer {
    struct vireo_clipboard *c;
    struct vireo_stream *stream;
    struct vdagent_wire *wire;
    gboolean announced; /* it told its capabilities */
    guint32 caps;       /* bits 1 << VD_AGENT_CAP_... */
};

struct vireo_clipboard {
    const struct vireo_clipboard_ops *ops;
    gpointer ctx;
    VireoDisplayClipboard *skeleton;
    struct peer peers[VIREO_AGENTS];
    struct vireo_clipboard_policy policy;
    GPtrArray *viewers; /* GDBusConnection, registered */
    struct selection selections[SELECTIONS];
    guint width, height;
    guint size_id;
    struct vireo_transfers *files;
};

gboolean vireo_peer_can(const struct peer *p, guint cap);
void vireo_peer_send(struct peer *p, guint32 type, gconstpointer head, gsize nhead,
                     gconstpointer data, gsize len);

/* transfers.c */
struct vireo_transfers *vireo_transfers_new(struct vireo_clipboard *c);
void vireo_transfers_free(struct vireo_transfers *f);
void vireo_transfers_status(struct vireo_transfers *f, const struct peer *from, guint32 id,
                            guint32 result, guint64 space);
/* That agent is. */
void vireo_transfers_gone(struct vireo_transfers *f, const struct peer *peer);
void vireo_transfers_pump(struct vireo_transfers *f);
void vireo_transfers_fail_all(struct vireo_transfers *f, const char *text);
guint vireo_transfers_send(struct vireo_transfers *f, int fd, const char *name, GError **error);
void vireo_transfers_cancel(struct vireo_transfers *f, guint id);
