/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/gate.h"

gint64 gate_try(struct gate *g, gint64 now)
{
    guint oldest = 0;
    for (guint i = 1; i < GATE_TRIES; i++)
        if (g->tries[i] < g->tries[oldest])
            oldest = i;
    gint64 free_at = g->tries[oldest] ? g->tries[oldest] + GATE_WINDOW_US : 0;
    if (free_at > now)
        return free_at - now;
    g->tries[oldest] = now;
    return 0;
}

void gate_passed(struct gate *g)
{
    guint newest = 0;
    for (guint i = 1; i < GATE_TRIES; i++)
        if (g->tries[i] > g->tries[newest])
            newest = i;
    g->tries[newest] = 0;
}
