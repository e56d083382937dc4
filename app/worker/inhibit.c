/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The end of the session waits (a few seconds, as logind is set) until the machine is saved: a
 * delay lock is taken before the worker shuts itself in. Source: systemd.io/INHIBITOR_LOCKS. */
#include "app/worker/worker.h"

enum { PATIENCE_MS = 500 };

void worker_inhibit(struct worker *w)
{
    g_autoptr(GUnixFDList) fds = NULL;
    g_autoptr(GDBusConnection) bus = g_bus_get_sync(G_BUS_TYPE_SYSTEM, NULL, NULL);
    if (!bus)
        return;
    g_dbus_connection_set_exit_on_close(bus, FALSE);
    g_autoptr(GVariant) reply = g_dbus_connection_call_with_unix_fd_list_sync(
        bus, "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager",
        "Inhibit",
        g_variant_new("(ssss)", "shutdown", "Vireo", "A virtual machine is being saved", "delay"),
        G_VARIANT_TYPE("(h)"), G_DBUS_CALL_FLAGS_NO_AUTO_START, PATIENCE_MS, NULL, &fds, NULL,
        NULL);
    gint32 handle = 0;
    if (reply)
        g_variant_get(reply, "(h)", &handle);
    if (fds)
        w->inhibitor = g_unix_fd_list_get(fds, handle, NULL);
    g_dbus_connection_close_sync(bus, NULL, NULL);
}
