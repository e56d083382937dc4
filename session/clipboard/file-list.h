/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Files that were copied in the guest, on the viewer's side: content of the type
 * VIREO_MIME_FILES (AGENT_CLIPBOARD_FILES of session/agent-proto.h), which is hostile. */
#pragma once

#include <gio/gio.h>

#define VIREO_MIME_FILES "application/x-vireo-files"

/* Writes them into a folder, each under its name or, where that is taken, with a number; nothing
 * that is there is changed, none is hidden or can be run, and all are made or none. Their paths;
 * NULL with *error set on failure. */
GStrv vireo_file_list_unpack(gconstpointer data, gsize len, const char *folder, GError **error);
