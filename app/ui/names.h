/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Accessible names that the toolkit gets wrong. */
#pragma once

#include <gtk/gtk.h>

/*
 * GTK 4.8 gives a button's text, underscore and all, as its accessible name besides the label
 * inside it: screen readers would say both. Leaves the label alone as the name, and gives names to
 * the parts of split buttons and password rows that have an icon alone, for `root` and all below.
 */
void vireo_tidy_names(GtkWidget *root);
