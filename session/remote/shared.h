/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What remote clients have of the enhanced session: the clipboard's text and the screen's size. To
 * the session they are one more viewer, on a connection of their own, and so under the same policy
 * as a window; it is connected only while there is a remote client. Thread: the main loop's, unless
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

void remote_shared_set_watched(struct remote_shared *s, gboolean watched);

/* Any thread: a client copied that (UTF-8), or wants that size (FALSE: the session is not on). */
void remote_shared_copied(struct remote_shared *s, const char *text, gsize len);
gboolean remote_shared_resize(struct remote_shared *s, unsigned width, unsigned height);

#endif
