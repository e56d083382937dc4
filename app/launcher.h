/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Starts a machine's worker (vireo-vm) so that it outlives this process: in a systemd unit of its
 * own where there is a user manager, else detached. Then waits for its socket.
 */
#pragma once

#include <gio/gio.h>

/* $XDG_RUNTIME_DIR/vireo/<id>/bus */
char *vireo_launcher_socket(const char *id);

/* The worker's program: $VIREO_WORKER, the one near this program in a build folder, or the
 * installed one. Owned by the caller. */
char *vireo_launcher_worker(void);
/* `folder` is the machine's own. The result is a connection to the worker, in state "new". */
void vireo_launcher_start_async(const char *id, const char *folder, GCancellable *cancellable,
                                GAsyncReadyCallback callback, gpointer data);
GDBusConnection *vireo_launcher_start_finish(GAsyncResult *result, GError **error);

/* Connects to a worker that runs; fails at once where none answers. */
void vireo_launcher_connect_async(const char *id, GCancellable *cancellable,
                                  GAsyncReadyCallback callback, gpointer data);
GDBusConnection *vireo_launcher_connect_finish(GAsyncResult *result, GError **error);
