/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The clipboard between viewers and the guest, and what else goes by the guest's agents: files and
 * the screen's size. Our own agent's helper is preferred for each that it offers; SPICE's serves
 * where that is not, then without HTML. Content moves only when somebody pastes. One owner a
 * selection: the guest, or one viewer; a viewer is a connection that serves
 * org.qemu.Display1.Clipboard and registered. What the guest says is hostile; what it sends is
 * bounded by vdagent-wire.h. Thread: the main loop's.
 */
#pragma once

#include <gio/gio.h>

struct vireo_clipboard;

enum vireo_agent { VIREO_AGENT_SPICE, VIREO_AGENT_OWN, VIREO_AGENTS };

struct vireo_clipboard_ops {
    /* Whether the connection is an enhanced console. */
    gboolean (*is_viewer)(gpointer ctx, GDBusConnection *c);
    /* The stream is gone. */
    void (*closed)(gpointer ctx, enum vireo_agent agent);
    /* What the agent can, or whether it is there, changed. */
    void (*changed)(gpointer ctx);
    void (*message)(gpointer ctx, const char *text);
    void (*transfer)(gpointer ctx, guint id, guint64 done, guint64 total, const char *state,
                     const char *text);
};

struct vireo_clipboard_policy {
    gboolean to_guest, from_guest, files;
};

struct vireo_clipboard *vireo_clipboard_new(const struct vireo_clipboard_ops *ops, gpointer ctx);
void vireo_clipboard_free(struct vireo_clipboard *c);
/* org.qemu.Display1.Clipboard, to be exported on viewers' connections. */
GDBusInterfaceSkeleton *vireo_clipboard_skeleton(struct vireo_clipboard *c);

/* The guest's stream; fd is taken. */
void vireo_clipboard_attach(struct vireo_clipboard *c, enum vireo_agent agent, int fd);
void vireo_clipboard_detach(struct vireo_clipboard *c, enum vireo_agent agent);
/* The agent of a desktop's session is there. */
gboolean vireo_clipboard_ready(struct vireo_clipboard *c, enum vireo_agent agent);

void vireo_clipboard_set_policy(struct vireo_clipboard *c, struct vireo_clipboard_policy policy);
/* The connection is no viewer any more. */
void vireo_clipboard_drop(struct vireo_clipboard *c, GDBusConnection *connection);

/* Whether an agent there takes sizes. */
gboolean vireo_clipboard_takes_size(struct vireo_clipboard *c);
/* The size that the guest's screen shall have; sent again to each new agent. */
void vireo_clipboard_set_size(struct vireo_clipboard *c, guint width, guint height);

/* Whether one takes files. */
gboolean vireo_clipboard_takes_files(struct vireo_clipboard *c);
/* Sends a file's content; fd is taken. 0 with *error set on failure. */
guint vireo_clipboard_send_file(struct vireo_clipboard *c, int fd, const char *name,
                                GError **error);
void vireo_clipboard_cancel_file(struct vireo_clipboard *c, guint id);
