/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How often strangers may knock: at most GATE_TRIES connections in GATE_WINDOW_US that have not
 * shown the right password, and how many connections there may be at all. Thread: any, one at a
 * time.
 */
#ifndef VIREO_SESSION_REMOTE_GATE_H
#define VIREO_SESSION_REMOTE_GATE_H

#include <glib.h>

#define GATE_TRIES 3
#define GATE_WINDOW_US G_USEC_PER_SEC

struct gate {
    gint64 tries[GATE_TRIES]; /* when each of the last ones came that are not let in; 0: none */
};

/* Microseconds until the next try may be made at the time `now`; 0: it may, and is counted. */
gint64 gate_try(struct gate *g, gint64 now);
/* One of those that were counted knew the password: it does not count. */
void gate_passed(struct gate *g);

#endif
