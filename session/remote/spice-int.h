/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The parts of the SPICE view. */
#ifndef VIREO_SESSION_REMOTE_SPICE_INT_H
#define VIREO_SESSION_REMOTE_SPICE_INT_H

#include <glib.h>
#include <spice.h>

#include "core/vsp/console.h"

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

#endif
