/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoScreen: the widget that shows a console and takes keyboard and pointer for it. The frame is
 * cut into tiles of 128 device pixels, each a cached render node that is made again only where the
 * guest painted. Signal "capture-changed"; property "zoom" and "captured" by functions below.
 *
 * Keyboard: a click or Return captures it; then every key goes to the guest as its hardware code
 * and the compositor is asked to let its shortcuts through. Left Ctrl and Alt pressed and released
 * together, with no other key between, give it back.
 */
#pragma once

#include <gtk/gtk.h>

#include "app/console.h"

G_BEGIN_DECLS

typedef enum {
    VIREO_ZOOM_FIT,  /* as large as the window allows */
    VIREO_ZOOM_1TO1, /* a guest's pixel is one of the screen's */
} VireoZoom;

#define VIREO_TYPE_SCREEN (vireo_screen_get_type())
G_DECLARE_FINAL_TYPE(VireoScreen, vireo_screen, VIREO, SCREEN, GtkWidget)

GtkWidget *vireo_screen_new(void);
void vireo_screen_set_console(VireoScreen *self, VireoConsole *console);
void vireo_screen_set_zoom(VireoScreen *self, VireoZoom zoom);
gboolean vireo_screen_is_captured(VireoScreen *self);
void vireo_screen_capture(VireoScreen *self, gboolean capture);
/* A key of the window's, before anyone else sees it. TRUE: it went to the guest. */
gboolean vireo_screen_handle_key(VireoScreen *self, guint hardware_keycode, gboolean press,
                                 GdkEvent *event);

G_END_DECLS
