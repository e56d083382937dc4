/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoConsole: one machine's screen, keyboard and mouse, as org.qemu.Display1 gives them. The
 * frame is the worker's own sealed memory, mapped read-only. While a viewer is attached an update
 * is answered when it was painted; otherwise twice a second, which is what thumbnails need.
 *
 * Signals: "resized" (also when the screen goes dark), "updated" (x, y, width, height in guest
 * pixels), "cursor-changed".
 */
#pragma once

#include <cairo.h>
#include <gdk/gdk.h>
#include <gio/gio.h>

G_BEGIN_DECLS

#define VIREO_TYPE_CONSOLE (vireo_console_get_type())
G_DECLARE_FINAL_TYPE(VireoConsole, vireo_console, VIREO, CONSOLE, GObject)

VireoConsole *vireo_console_new(GDBusConnection *connection);
/* Ends the listener; called before the last reference goes. */
void vireo_console_close(VireoConsole *self);

/* The frame as a surface over the shared memory: for reading only, until "resized". NULL: dark. */
cairo_surface_t *vireo_console_get_surface(VireoConsole *self);
int vireo_console_get_width(VireoConsole *self);
int vireo_console_get_height(VireoConsole *self);

/* Viewers that paint: attach and detach come in pairs, painted() after each frame. */
void vireo_console_attach(VireoConsole *self);
void vireo_console_detach(VireoConsole *self);
void vireo_console_painted(VireoConsole *self);

/* The guest's pointer; NULL: the guest has not set one. Hidden is another matter. */
GdkTexture *vireo_console_get_cursor(VireoConsole *self, int *hot_x, int *hot_y);
gboolean vireo_console_cursor_hidden(VireoConsole *self);
gboolean vireo_console_is_absolute(VireoConsole *self);

/* keycode: qnum (app/ui/keymap.h). button: as org.qemu.Display1.Mouse. */
void vireo_console_key(VireoConsole *self, guint keycode, gboolean press);
void vireo_console_button(VireoConsole *self, guint button, gboolean press);
void vireo_console_move(VireoConsole *self, guint x, guint y);
void vireo_console_move_by(VireoConsole *self, int dx, int dy);
/* Asks the guest, by the enhanced session, for this size. */
void vireo_console_set_size(VireoConsole *self, guint width, guint height, guint width_mm,
                            guint height_mm);
/* Presses the keys in order and releases them in reverse. */
void vireo_console_combination(VireoConsole *self, const guint *keycodes, gsize n);

/* A copy of the frame. NULL: dark. */
GdkTexture *vireo_console_snapshot(VireoConsole *self);

G_END_DECLS
