/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Makes a window so large that one widget in it has the size that its content needs: the guest's
 * screen is 1:1 then, sharp and quick. Not where the display has no room, nor with a window that is
 * maximized or full screen.
 */
#pragma once

#include <gtk/gtk.h>

G_BEGIN_DECLS

typedef struct {
    GtkWindow *window;
    GtkWidget *place; /* both borrowed */
    int width,
        height; /* that the place shall have, in pixels of the display; 0: nothing is wanted */
    guint timer;
    gboolean due, again;
} VireoFit;

void vireo_fit_want(VireoFit *f, int width, int height);
/* What is around the place changes: if it had its size it gets it again. */
void vireo_fit_keep(VireoFit *f);
/* The window was laid out. */
void vireo_fit_laid_out(VireoFit *f);
void vireo_fit_clear(VireoFit *f);

G_END_DECLS
