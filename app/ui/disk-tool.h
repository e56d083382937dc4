/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoDiskTool: looks at a virtual disk, checks, repairs, compacts, converts it; makes new ones.
 */
#pragma once

#include <adwaita.h>

G_BEGIN_DECLS
#define VIREO_TYPE_DISK_TOOL (vireo_disk_tool_get_type())
G_DECLARE_FINAL_TYPE(VireoDiskTool, vireo_disk_tool, VIREO, DISK_TOOL, AdwWindow)
GtkWindow *vireo_disk_tool_new(GtkApplication *app);
void vireo_disk_tool_open(VireoDiskTool *self, const char *path);

/* Asks for size and file, makes a dynamic VHDX there. `made` gets its path. */
void vireo_ask_new_disk(GtkWindow *parent, void (*made)(const char *path, gpointer data),
                        gpointer data);

/* Asks for a new size of the disk, and changes it: by `change` where that is given (a machine that
 * runs has the disk), else in the file. `row` is borrowed, and is what `change` gets. */
void vireo_ask_disk_size(GtkWindow *parent, const char *path,
                         void (*change)(GtkWidget *row, guint64 bytes), GtkWidget *row);
G_END_DECLS
