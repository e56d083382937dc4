/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * org.gnome.Shell.SearchProvider2 at /org/vireo/Vireo/SearchProvider: finds machines by their names
 * and notes from the desktop's search; a result opens its console.
 */
#pragma once

#include "app/application.h"

G_BEGIN_DECLS

/* From GApplication's dbus_register; what was exported goes with the connection. */
gboolean vireo_search_provider_export(VireoApplication *app, GDBusConnection *connection,
                                      GError **error);

G_END_DECLS
