/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/names.h"

void vireo_tidy_names(GtkWidget *root)
{
    if (GTK_IS_BUTTON(root) && gtk_button_get_use_underline(GTK_BUTTON(root)))
        gtk_accessible_reset_property(GTK_ACCESSIBLE(root), GTK_ACCESSIBLE_PROPERTY_LABEL);
    for (GtkWidget *w = gtk_widget_get_first_child(root); w; w = gtk_widget_get_next_sibling(w))
        vireo_tidy_names(w);
}
