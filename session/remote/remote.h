/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VireoRemote: the machine's console for SPICE and VNC clients, and its D-Bus interface
 * org.vireo.Remote1 (data/dbus). It listens on what it is handed, and only while it is switched on.
 * Thread: the main loop's.
 */
#pragma once

#include <gio/gio.h>

#include "core/vsp/console.h"
#include "session/usb/usb-service.h"

G_BEGIN_DECLS

#define VIREO_REMOTE_PATH "/org/vireo/Remote1"

#define VIREO_TYPE_REMOTE (vireo_remote_get_type())
G_DECLARE_FINAL_TYPE(VireoRemote, vireo_remote, VIREO, REMOTE, GObject)

/* How a client's USB device gets to the guest; as in session/usb/usb-service.h. */
typedef VireoUsbServiceOps VireoRemoteUsb;

/* viewer: a connection to the worker's own D-Bus objects, as a window has one, for clipboard, sound
 * and sizes; NULL: none. usb (static) and its context: NULL: clients' devices are refused. */
VireoRemote *vireo_remote_new(GDBusConnection *viewer, const VireoRemoteUsb *usb, gpointer usb_ctx);

/* The machine is there: only now it can listen. console: borrowed until vireo_remote_close. name:
 * for clients' titles. */
void vireo_remote_attach(VireoRemote *self, struct console *console, const char *name);

/* To be exported at VIREO_REMOTE_PATH on each viewer's connection. Borrowed. */
GDBusInterfaceSkeleton *vireo_remote_get_skeleton(VireoRemote *self);

/* Ends all servers and waits for their clients' threads; the console may go then. */
void vireo_remote_close(VireoRemote *self);

G_END_DECLS
