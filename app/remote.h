/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Switching a machine's SPICE and VNC servers on and off, from the person's side: opens the
 * listening socket, keeps the password and the certificate in the machine's folder ("remote/"),
 * hands them to the worker (org.vireo.Remote1). Thread: the main loop's.
 */
#pragma once

#include <gio/gio.h>

#include "core/machine/config.h"

typedef enum { VIREO_REMOTE_SPICE, VIREO_REMOTE_VNC } VireoRemoteKind;

const char *vireo_remote_kind_name(VireoRemoteKind kind); /* "spice", "vnc" */

/* NULL: no password. VNC looks at the first eight characters alone. */
char *vireo_remote_password(const char *folder, VireoRemoteKind kind);
gboolean vireo_remote_set_password(const char *folder, VireoRemoteKind kind, const char *password,
                                   GError **error);

/* The servers of a running machine as its configuration has them (remote.*): on or off. `folder`:
 * the machine's. Errors say which server. */
void vireo_remote_apply_async(GDBusConnection *connection, const struct vm_config *config,
                              const char *folder, GCancellable *cancellable,
                              GAsyncReadyCallback done, gpointer data);
gboolean vireo_remote_apply_finish(GAsyncResult *result, GError **error);

/* Where clients find it: "vnc://127.0.0.1:5901", "spice+unix:///run/...". */
char *vireo_remote_uri(const struct vm_config *config, VireoRemoteKind kind);

/* A connection file (.vv) for remote-viewer, with the password and, where there is one, the
 * certificate. */
char *vireo_remote_connection_file(const struct vm_config *config, const char *folder,
                                   VireoRemoteKind kind);
