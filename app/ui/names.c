/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/names.h"

#include <adwaita.h>
#include <glib/gi18n.h>

static void set_name(GtkWidget *w, const char *name)
{
    gtk_accessible_update_property(GTK_ACCESSIBLE(w), GTK_ACCESSIBLE_PROPERTY_LABEL, name, -1);
}

/* Its two buttons are without names where it shows an icon. */
static void name_split_button(AdwSplitButton *split)
{
    GtkWidget *w = gtk_widget_get_first_child(GTK_WIDGET(split));
    for (; w; w = gtk_widget_get_next_sibling(w)) {
        if (GTK_IS_MENU_BUTTON(w)) /* the button within has its name, too */
            set_name(w, adw_split_button_get_dropdown_tooltip(split));
        else if (GTK_IS_BUTTON(w))
            set_name(w, gtk_widget_get_tooltip_text(GTK_WIDGET(split)));
    }
}

/* Gives the name to the buttons below that have an icon alone, but for an entry row's own. */
static void name_icons(GtkWidget *w, const char *name)
{
    if (GTK_IS_BUTTON(w) && !gtk_button_get_label(GTK_BUTTON(w)) &&
        g_strcmp0(gtk_button_get_icon_name(GTK_BUTTON(w)), "adw-entry-apply-symbolic") != 0)
        set_name(w, name);
    for (w = gtk_widget_get_first_child(w); w; w = gtk_widget_get_next_sibling(w))
        name_icons(w, name);
}

/* A preferences window's own button and entry for searching. */
static void name_search(GtkWidget *w)
{
    if (GTK_IS_SEARCH_ENTRY(w) ||
        (GTK_IS_TOGGLE_BUTTON(w) &&
         !g_strcmp0(gtk_button_get_icon_name(GTK_BUTTON(w)), "edit-find-symbolic")))
        set_name(w, _("Search"));
}

void vireo_tidy_names(GtkWidget *root)
{
    name_search(root);
    if (GTK_IS_BUTTON(root) && gtk_button_get_use_underline(GTK_BUTTON(root)))
        gtk_accessible_reset_property(GTK_ACCESSIBLE(root), GTK_ACCESSIBLE_PROPERTY_LABEL);
    if (ADW_IS_PASSWORD_ENTRY_ROW(root))
        name_icons(root, _("Show or Hide the Password"));
    if (GTK_IS_INFO_BAR(root))
        name_icons(root, _("Close"));
    if (ADW_IS_SPLIT_BUTTON(root)) {
        name_split_button(ADW_SPLIT_BUTTON(root));
        return;
    }
    for (GtkWidget *w = gtk_widget_get_first_child(root); w; w = gtk_widget_get_next_sibling(w))
        vireo_tidy_names(w);
}
