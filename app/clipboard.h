/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoClipboard: this desktop's clipboard and primary selection bound to a machine's, by
 * org.qemu.Display1.Clipboard. Content moves when it is pasted, not before. What came from the
 * machine is not offered back to it.
 */
#pragma once

#include <gdk/gdk.h>
#include <gio/gio.h>

G_BEGIN_DECLS

#define VIREO_TYPE_CLIPBOARD (vireo_clipboard_get_type())
G_DECLARE_FINAL_TYPE(VireoClipboard, vireo_clipboard, VIREO, CLIPBOARD, GObject)

/* connection: to the worker, already an enhanced console. */
VireoClipboard *vireo_clipboard_bind(GDBusConnection *connection, GdkDisplay *display);
/* Takes the machine's content off this desktop's clipboard, too. */
void vireo_clipboard_unbind(VireoClipboard *self);

G_END_DECLS
