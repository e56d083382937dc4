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

#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"
#define CLIPBOARD_INTERFACE "org.qemu.Display1.Clipboard"
enum { VIEWER_ANSWER_MS = 60000 };

/* clipboard.c: owners */
void vireo_clipboard_disown(struct vireo_clipboard *c, guint selection);
/* And tells both sides. */
void vireo_clipboard_release(struct vireo_clipboard *c, guint selection);
/* The guest gives what it owns as an answer to the call, which is taken. */
void vireo_clipboard_ask_guest(struct vireo_clipboard *c, guint selection, guint32 type,
                               GDBusMethodInvocation *call);

/* clipboard-guest.c */
gboolean vireo_peer_can(const struct peer *p, guint cap);
gboolean vireo_peer_selections(const struct peer *p);
void vireo_peer_send(struct peer *p, guint32 type, gconstpointer head, gsize nhead,
                     gconstpointer data, gsize len);
void vireo_peer_send_caps(struct peer *p, gboolean request, gboolean clipboard);
/* Who has the guest's clipboard. */
struct peer *vireo_clipboard_active(struct vireo_clipboard *c);
void vireo_clipboard_tell_guest(struct vireo_clipboard *c, guint32 type, guint selection,
                                const guint32 *words, guint n);
void vireo_clipboard_grab_guest(struct vireo_clipboard *c, guint selection);
void vireo_clipboard_answer_guest(struct vireo_clipboard *c, guint selection, guint32 type,
                                  const void *data, gsize len);
void vireo_clipboard_send_size(struct vireo_clipboard *c);

/* clipboard-viewers.c */
void vireo_clipboard_serve(struct vireo_clipboard *c); /* makes the skeleton */
void vireo_clipboard_tell_viewers(struct vireo_clipboard *c, GDBusConnection *but,
                                  const char *method, GVariant *args);
void vireo_clipboard_tell_grab(struct vireo_clipboard *c, guint selection, GDBusConnection *but);
void vireo_clipboard_refuse(GDBusMethodInvocation *call, const char *code, const char *text);

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
