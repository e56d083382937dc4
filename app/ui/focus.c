/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/focus.h"

static void on_active(GtkWindow *window)
{
    GtkWidget *focus = gtk_window_is_active(window) ? gtk_window_get_focus(window) : NULL;
    if (!focus || gtk_widget_get_mapped(focus))
        return;
    while (focus && !gtk_widget_get_mapped(focus))
        focus = gtk_widget_get_parent(focus);
    if (!focus || !gtk_widget_grab_focus(focus))
        gtk_window_set_focus(window, NULL);
}

void vireo_focus_keep(GtkWindow *window)
{
    g_signal_connect(window, "notify::is-active", G_CALLBACK(on_active), NULL);
}
