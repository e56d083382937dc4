/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What remote clients have of the enhanced session. To the session they are one more viewer, on a
 * connection of their own, and so under the same policy as a window; it is connected only while
 * there is a remote client. VNC clients have the clipboard's text and the screen's size; SPICE's
 * (one server a process) have all, through `remote_spice_ops`. Thread: the main loop's, unless
 * said.
 */
#ifndef VIREO_SESSION_REMOTE_SHARED_H
#define VIREO_SESSION_REMOTE_SHARED_H

#include <gio/gio.h>

struct remote_shared;

/* connection: to the worker's objects; NULL: there is no session, nothing is shared. on_text: the
 * guest copied. */
struct remote_shared *remote_shared_new(GDBusConnection *connection,
                                        void (*on_text)(void *ctx, const char *text, gsize len),
                                        void *ctx);
void remote_shared_free(struct remote_shared *s);

/* Whether there are clients at all, and VNC clients among them, who get all text at once. */
void remote_shared_set_watched(struct remote_shared *s, gboolean watched, gboolean vnc);

/* Any thread: a client copied that (UTF-8), or wants that size (FALSE: the session is not on). */
void remote_shared_copied(struct remote_shared *s, const char *text, gsize len);
gboolean remote_shared_resize(struct remote_shared *s, unsigned width, unsigned height);

/* ---- SPICE ---- */

struct remote_spice_ops {
    /* The connection is a viewer now; it is none any more. */
    void (*connected)(void *ctx, GDBusConnection *connection);
    void (*disconnected)(void *ctx);
    /* Whether the guest's desktop takes part in the clipboard. */
    void (*clipboard)(void *ctx, gboolean on);
    /* Somebody else copied; has nothing any more; wants what was copied here (to be answered). */
    void (*grab)(void *ctx, guint selection, const char *const *mimes);
    void (*release)(void *ctx, guint selection);
    void (*request)(void *ctx, GDBusMethodInvocation *call, guint selection,
                    const char *const *mimes);
    /* As org.vireo.Session1 has it. */
    void (*transfer)(void *ctx, guint id, const char *state);
};
/* NULL: there is no SPICE server any more. At once tells how things are. */
void remote_shared_set_spice(struct remote_shared *s, const struct remote_spice_ops *ops,
                             void *ctx);

/* Calls `grab` for what others copied, again. */
void remote_shared_tell_spice(struct remote_shared *s);

void remote_shared_grab(struct remote_shared *s, guint selection, const char *const *mimes);
void remote_shared_release(struct remote_shared *s, guint selection);

/* Asks for content; `mime` NULL: there is none. Nothing is called back after the operations were
 * set to NULL. */
typedef void remote_content_fn(void *ctx, guint selection, guint32 type, const char *mime,
                               const guint8 *data, gsize len);
void remote_shared_request(struct remote_shared *s, guint selection, guint32 type, const char *mime,
                           remote_content_fn *done, void *ctx);

/* A file for the guest's session; fd is borrowed. done: its id for `transfer`, or 0. */
typedef void remote_sent_fn(void *ctx, guint token, guint id);
void remote_shared_send_file(struct remote_shared *s, int fd, const char *name, guint token,
                             remote_sent_fn *done, void *ctx);
void remote_shared_cancel_file(struct remote_shared *s, guint id);

#endif
