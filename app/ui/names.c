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
        if (GTK_IS_MENU_BUTTON(w)) {
            set_name(w, adw_split_button_get_dropdown_tooltip(split));
            set_name(gtk_widget_get_first_child(w), adw_split_button_get_dropdown_tooltip(split));
        } else if (GTK_IS_BUTTON(w))
            set_name(w, gtk_widget_get_tooltip_text(GTK_WIDGET(split)));
    }
}

/* The eye of a password's row, which has an icon alone. */
static void name_eye(GtkWidget *w)
{
    if (GTK_IS_BUTTON(w))
        set_name(w, _("Show or Hide the Password"));
    for (w = gtk_widget_get_first_child(w); w; w = gtk_widget_get_next_sibling(w))
        name_eye(w);
}

void vireo_tidy_names(GtkWidget *root)
{
    if (GTK_IS_BUTTON(root) && gtk_button_get_use_underline(GTK_BUTTON(root)))
        gtk_accessible_reset_property(GTK_ACCESSIBLE(root), GTK_ACCESSIBLE_PROPERTY_LABEL);
    if (ADW_IS_PASSWORD_ENTRY_ROW(root))
        name_eye(root);
    if (ADW_IS_SPLIT_BUTTON(root)) {
        name_split_button(ADW_SPLIT_BUTTON(root));
        return;
    }
    for (GtkWidget *w = gtk_widget_get_first_child(root); w; w = gtk_widget_get_next_sibling(w))
        vireo_tidy_names(w);
}
