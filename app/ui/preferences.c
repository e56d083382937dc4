/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/preferences.h"

#include <glib/gi18n.h>

/* The order is the schema's. */
static const char *const scheme_nicks[] = {"default", "light", "dark"};

static void on_scheme(AdwComboRow *row, GParamSpec *spec, GSettings *settings)
{
    guint i = adw_combo_row_get_selected(row);
    if (i < G_N_ELEMENTS(scheme_nicks))
        g_settings_set_string(settings, "color-scheme", scheme_nicks[i]);
}

static void bind_switch(GtkBuilder *b, const char *id, GSettings *settings, const char *key)
{
    g_settings_bind(settings, key, gtk_builder_get_object(b, id), "active",
                    G_SETTINGS_BIND_DEFAULT);
}

GtkWindow *vireo_preferences_new(GSettings *settings, GtkWindow *parent)
{
    g_autoptr(GtkBuilder) b = gtk_builder_new_from_resource("/org/vireo/Vireo/ui/preferences.ui");
    GtkWindow *w = GTK_WINDOW(gtk_builder_get_object(b, "window"));
    AdwComboRow *scheme = ADW_COMBO_ROW(gtk_builder_get_object(b, "scheme"));
    adw_combo_row_set_selected(scheme, (guint)g_settings_get_enum(settings, "color-scheme"));
    g_signal_connect_object(scheme, "notify::selected", G_CALLBACK(on_scheme), settings, 0);
    bind_switch(b, "toolbar", settings, "toolbar");
    bind_switch(b, "told", settings, "told-runs-on");
    gtk_window_set_transient_for(w, parent);
    return w;
}
