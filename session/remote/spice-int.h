/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The parts of the SPICE view. */
#ifndef VIREO_SESSION_REMOTE_SPICE_INT_H
#define VIREO_SESSION_REMOTE_SPICE_INT_H

#include <glib.h>
#include <spice.h>

#include "core/vsp/console.h"
#include "session/remote/remote.h"
#include "session/remote/shared.h"

/* spice-core.c: timers and watches of spice-server on the main loop; it has one set for all servers
 * of a process. */
void spice_core_fill(SpiceCoreInterface *core);

/* spice-display.c */
struct spice_display;
struct spice_display *spice_display_new(SpiceServer *server, struct console *console);
/* Whether anyone looks. */
void spice_display_set_active(struct spice_display *d, gboolean on);
void spice_display_free(struct spice_display *d); /* before the server goes */

/* spice-input.c */
struct spice_input;
struct spice_input *spice_input_new(SpiceServer *server, struct console *console);
void spice_input_set_view_only(struct spice_input *i, gboolean on);
void spice_input_free(
    struct spice_input *i); /* after the server went: it lets go of keys until then */

/* spice-agent.c */
struct spice_agent;
struct spice_files;
struct spice_agent *spice_agent_new(SpiceServer *server, struct remote_shared *shared);
/* Whether clients see an agent. */
void spice_agent_set_plugged(struct spice_agent *a, gboolean on);
void spice_agent_set_view_only(struct spice_agent *a, gboolean on);
/* As struct remote_spice_ops has them. */
void spice_agent_grab(struct spice_agent *a, guint selection, const char *const *mimes);
void spice_agent_release(struct spice_agent *a, guint selection);
void spice_agent_request(struct spice_agent *a, GDBusMethodInvocation *call, guint selection,
                         const char *const *mimes);
/* A message to the clients. */
void spice_agent_send(struct spice_agent *a, guint32 type, gconstpointer data, gsize len);
struct spice_files *spice_agent_files(struct spice_agent *a);
void spice_agent_free(struct spice_agent *a); /* before the server goes */

/* spice-files.c */
struct spice_files *spice_files_new(struct spice_agent *agent, struct remote_shared *shared);
void spice_files_free(struct spice_files *s);
void spice_files_message(struct spice_files *s, guint32 type, const guint8 *data, gsize len);
void spice_files_transfer(struct spice_files *s, guint id, const char *state);
void spice_files_cancel_all(struct spice_files *s);

/* spice-sound.c */
struct spice_sound;
struct spice_sound *spice_sound_new(SpiceServer *server);
/* A viewer's connection to the worker's objects; NULL: there is none. Borrowed. */
void spice_sound_set_connection(struct spice_sound *s, GDBusConnection *connection);
/* Whether anyone listens. */
void spice_sound_set_active(struct spice_sound *s, gboolean on);
void spice_sound_free(struct spice_sound *s); /* before the server goes */

/* spice-usb.c: ops NULL: no device is taken. */
struct spice_usb;
struct spice_usb *spice_usb_new(SpiceServer *server, const VireoRemoteUsb *ops, gpointer ctx);
void spice_usb_set_view_only(struct spice_usb *u, gboolean on);
void spice_usb_free(struct spice_usb *u); /* before the server goes */

#endif
