/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/share.h"

#include <glib/gi18n.h>

#include "app/ui/settings-rows.h"

static const VireoSettingRow rows[] = {
    {"remote.spice", VIREO_ROW_SWITCH, N_("SPICE"), N_("For remote-viewer and others"), 0, 0, 0,
     NULL},
    {"remote.spice-port", VIREO_ROW_NUMBER, N_("SPICE port (0: a socket file)"), NULL, 0, 65535, 1,
     NULL},
    {"remote.vnc", VIREO_ROW_SWITCH, N_("VNC"), N_("For every VNC viewer"), 0, 0, 0, NULL},
    {"remote.vnc-port", VIREO_ROW_NUMBER, N_("VNC port (0: a socket file)"), NULL, 0, 65535, 1,
     NULL},
    {"remote.listen", VIREO_ROW_TEXT, N_("Address"), NULL, 0, 0, 0, NULL},
};

GtkWindow *vireo_share_new(VireoVm *vm, GtkWindow *parent)
{
    AdwPreferencesWindow *w = g_object_new(
        ADW_TYPE_PREFERENCES_WINDOW, "title", _("Share"), "transient-for", parent, "modal", TRUE,
        "search-enabled", FALSE, "default-width", 480, "default-height", 480, NULL);
    AdwPreferencesPage *page = ADW_PREFERENCES_PAGE(adw_preferences_page_new());
    AdwPreferencesGroup *group = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    gtk_widget_set_size_request(GTK_WIDGET(w), 360, 294);
    adw_preferences_group_set_title(group, _("Remote Access"));
    adw_preferences_group_set_description(
        group, _("Off until switched on. Without an address only this computer can connect; "
                 "with one, a password or encryption is required."));
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        adw_preferences_group_add(group, vireo_settings_row_new(&rows[i], NULL, vm));
    adw_preferences_page_add(page, group);
    adw_preferences_window_add(w, page);
    return GTK_WINDOW(w);
}
