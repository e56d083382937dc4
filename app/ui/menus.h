/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The menus of all windows: menus.ui, which the application reads at its start and keeps.
 *
 * They are shared, not made with each window: GTK 4.8's popovers take a reference of the model of
 * every section and submenu that they show and do not give it back. What a window made for itself
 * would never be freed.
 */
#pragma once

#include <gtk/gtk.h>

/* Gives `button`, a GtkMenuButton or an AdwSplitButton, the menu `id`. On the main thread, with the
 * application started. */
void vireo_menus_attach(gpointer button, const char *id);
