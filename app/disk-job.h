/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Long work on virtual disks, on a thread of its own, with progress and cancel. Files appear whole
 * or not at all (core/storage/disk-tool.h). */
#pragma once

#include <gio/gio.h>

#include "core/storage/disk-tool.h"

typedef enum {
    VIREO_DISK_CREATE,  /* path: the new dynamic VHDX of `size` bytes */
    VIREO_DISK_CONVERT, /* path to target */
    VIREO_DISK_COMPACT,
    VIREO_DISK_CHECK,
    VIREO_DISK_REPAIR,
    VIREO_DISK_RESIZE, /* to `size` bytes; refused where that would lose data */
} VireoDiskWork;

typedef void (*VireoDiskProgress)(double fraction, gpointer data);

/* `progress` may be NULL; it is called on the caller's main context. */
void vireo_disk_job_async(VireoDiskWork work, const char *path, const char *target, guint64 size,
                          VireoDiskProgress progress, gpointer progress_data,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data);
/* For CHECK and REPAIR *report is what was found, for people ("" : nothing); else NULL. */
gboolean vireo_disk_job_finish(GAsyncResult *result, char **report, GError **error);
