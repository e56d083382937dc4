/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the session's files share. */
#pragma once

#include "session/agent-wire.h"
#include "session/audio/audio.h"
#include "session/clipboard/clipboard.h"
#include "session/session.h"
#include "session/stream.h"
#include "vireo-session1.h"

enum service_state { SERVICE_CLOSED, SERVICE_ASKED, SERVICE_OPEN };

struct service {
    enum service_state state;
    guint32 id;        /* of what was asked */
    gint64 not_before; /* monotonic us: the guest failed; it is asked again then */
    gint64 asked_at;
};

struct usb_wait {
    guint32 id;
    VireoUsbStreamFunc done;
    gpointer data;
    gint64 asked_at;
};

struct _VireoSession {
    GObject parent;
    VireoSession1 *skeleton;
    gboolean enabled, closed;
    gboolean policy[VIREO_POLICIES];
    GHashTable *connections; /* GDBusConnection -> exported */
    GHashTable *viewers;     /* GDBusConnection: called Connect */

    /* the agent */
    GQueue incoming; /* struct incoming: streams whose first bytes have not all come */
    struct vireo_stream *control;
    struct agent_wire wire;
    gboolean hello;
    guint32 offered; /* bits 1 << enum agent_service */
    guint8 token[AGENT_TOKEN];
    guint32 last_id;
    struct service services[AGENT_SERVICES]; /* all but CONTROL and USB */
    GQueue usb_waits;                        /* struct usb_wait */

    struct vireo_clipboard *clipboard;
    struct vireo_audio *audio;
    guint update_id;
};

/* session.c: looks at everything anew, soon. */
void vireo_session_update(VireoSession *self);

/* agent.c: the guest's side */
void vireo_agent_drop(VireoSession *self); /* the control channel and all that hangs on it */
void vireo_agent_start(VireoSession *self, guint32 service);
void vireo_agent_stop(VireoSession *self, guint32 service);
void vireo_agent_forget_incoming(VireoSession *self);
void vireo_agent_check_times(VireoSession *self);
