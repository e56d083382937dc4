/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A menu whose item opens a dialog closes while its window is not active, and GTK (seen in 4.8)
 * then leaves the window's focus within the closed menu: no key does anything any more.
 */
#pragma once

#include <gtk/gtk.h>

G_BEGIN_DECLS

/* From now on the window that becomes active again gives such a focus to what opened the menu. */
void vireo_focus_keep(GtkWindow *window);

G_END_DECLS
