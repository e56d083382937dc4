/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/fit.h"

enum { SOON_MS = 100, SETTLED_MS = 400 }; /* after a layout; after what slides in */

static gboolean on_time(gpointer data);

static void fit_in(VireoFit *f, guint ms)
{
    f->due = TRUE;
    if (!f->timer)
        f->timer = g_timeout_add(ms, on_time, f);
}

/* Text beside the place may need more lines in a window of another width. */
static void look_again(VireoFit *f, gboolean narrower)
{
    gboolean again = narrower && !f->again;
    f->again = again;
    if (again)
        fit_in(f, SETTLED_MS);
}

static gboolean on_time(gpointer data)
{
    VireoFit *f = data;
    int have_w = gtk_widget_get_width(f->place), have_h = gtk_widget_get_height(f->place);
    int factor = gtk_widget_get_scale_factor(f->place), w, h, old;
    GdkSurface *surface = gtk_native_get_surface(GTK_NATIVE(f->window));
    GdkRectangle room;
    f->timer = 0;
    if (!f->width || !have_w || !surface)
        return G_SOURCE_REMOVE;
    f->due = FALSE;
    if (gtk_window_is_fullscreen(f->window) || gtk_window_is_maximized(f->window))
        return G_SOURCE_REMOVE;
    gdk_monitor_get_geometry(
        gdk_display_get_monitor_at_surface(gdk_surface_get_display(surface), surface), &room);
    gtk_window_get_default_size(f->window, &w, &h);
    old = w;
    w += (f->width + factor - 1) / factor - have_w;
    h += (f->height + factor - 1) / factor - have_h;
    if (w <= room.width && h <= room.height) {
        gtk_window_set_default_size(f->window, w, h);
        look_again(f, w < old);
    }
    return G_SOURCE_REMOVE;
}

void vireo_fit_want(VireoFit *f, int width, int height)
{
    f->width = width;
    f->height = height;
    fit_in(f, SOON_MS);
}

void vireo_fit_keep(VireoFit *f)
{
    int factor = gtk_widget_get_scale_factor(f->place);
    if (f->width && gtk_widget_get_width(f->place) * factor >= f->width &&
        gtk_widget_get_height(f->place) * factor >= f->height)
        fit_in(f, SETTLED_MS);
}

void vireo_fit_laid_out(VireoFit *f)
{
    if (f->due)
        fit_in(f, SOON_MS);
}

void vireo_fit_clear(VireoFit *f)
{
    g_clear_handle_id(&f->timer, g_source_remove);
}
