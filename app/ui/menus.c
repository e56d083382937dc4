/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/menus.h"

void vireo_menus_attach(gpointer button, const char *id)
{
    GtkApplication *app = GTK_APPLICATION(g_application_get_default());
    g_object_set(button, "menu-model", gtk_application_get_menu_by_id(app, id), NULL);
}
