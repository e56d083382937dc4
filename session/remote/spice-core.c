/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <glib-unix.h>

#include "session/remote/spice-int.h"

struct SpiceTimer {
    SpiceTimerFunc func;
    void *opaque;
    guint source;
};

struct SpiceWatch {
    SpiceWatchFunc func;
    void *opaque;
    int fd;
    guint source;
};

static SpiceTimer *timer_add(SpiceTimerFunc func, void *opaque)
{
    SpiceTimer *t = g_new0(SpiceTimer, 1);
    *t = (SpiceTimer){func, opaque, 0};
    return t;
}

static void timer_cancel(SpiceTimer *t)
{
    g_clear_handle_id(&t->source, g_source_remove);
}

static gboolean on_timer(gpointer data)
{
    SpiceTimer *t = data;
    t->source = 0;
    t->func(t->opaque);
    return G_SOURCE_REMOVE;
}

static void timer_start(SpiceTimer *t, uint32_t ms)
{
    timer_cancel(t);
    t->source = g_timeout_add(ms, on_timer, t);
}

static void timer_remove(SpiceTimer *t)
{
    timer_cancel(t);
    g_free(t);
}

static gboolean on_watch(gint fd, GIOCondition condition, gpointer data)
{
    SpiceWatch *w = data;
    int event = (condition & (G_IO_IN | G_IO_HUP | G_IO_ERR) ? SPICE_WATCH_EVENT_READ : 0) |
                (condition & G_IO_OUT ? SPICE_WATCH_EVENT_WRITE : 0);
    w->func(w->fd, event, w->opaque); /* it may remove the watch */
    return G_SOURCE_CONTINUE;
}

static void watch_update_mask(SpiceWatch *w, int mask)
{
    GIOCondition condition = (mask & SPICE_WATCH_EVENT_READ ? G_IO_IN : 0) |
                             (mask & SPICE_WATCH_EVENT_WRITE ? G_IO_OUT : 0);
    g_clear_handle_id(&w->source, g_source_remove);
    if (condition)
        w->source = g_unix_fd_add(w->fd, condition, on_watch, w);
}

static SpiceWatch *watch_add(int fd, int mask, SpiceWatchFunc func, void *opaque)
{
    SpiceWatch *w = g_new0(SpiceWatch, 1);
    *w = (SpiceWatch){func, opaque, fd, 0};
    watch_update_mask(w, mask);
    return w;
}

static void watch_remove(SpiceWatch *w)
{
    g_clear_handle_id(&w->source, g_source_remove);
    g_free(w);
}

void spice_core_fill(SpiceCoreInterface *core)
{
    core->base = (SpiceBaseInterface){SPICE_INTERFACE_CORE, "vireo", SPICE_INTERFACE_CORE_MAJOR,
                                      SPICE_INTERFACE_CORE_MINOR};
    core->timer_add = timer_add;
    core->timer_start = timer_start;
    core->timer_cancel = timer_cancel;
    core->timer_remove = timer_remove;
    core->watch_add = watch_add;
    core->watch_update_mask = watch_update_mask;
    core->watch_remove = watch_remove;
}
