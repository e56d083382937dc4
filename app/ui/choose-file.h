/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The desktop's file dialog, for one file. */
#pragma once

#include <gtk/gtk.h>

typedef enum {
    VIREO_FILE_ANY,
    VIREO_FILE_ISO,
    VIREO_FILE_DISK,
    VIREO_FILE_PNG,
    VIREO_FILE_KERNEL,
    VIREO_FILE_FOLDER,
    VIREO_FILE_MACHINE, /* an exported one */
} VireoFileKind;

typedef void (*VireoFileChosen)(const char *path, gpointer data);

/* `chosen` is called unless the person cancels or `parent` goes away before. `name`: suggested, for
 * saving; may be NULL. */
void vireo_choose_file(GtkWindow *parent, const char *title, VireoFileKind kind, gboolean save,
                       const char *name, VireoFileChosen chosen, gpointer data);
