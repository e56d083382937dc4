/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Makes a virtual machine as the wizard asks: configuration, disk, gallery's system. */
#pragma once

#include "app/gallery.h"
#include "core/machine/store.h"

typedef enum {
    VIREO_SOURCE_GALLERY,
    VIREO_SOURCE_ISO,
    VIREO_SOURCE_DISK,
    VIREO_SOURCE_KERNEL,
} VireoSource;

typedef struct {
    VireoSource source;
    char *name, *place;
    char *image;
    char *kernel, *initrd, *cmdline, *kernel_disk; /* "": none */
    VireoGalleryEntry *entry;
    char *user, *password, *key, *host, *locale, *zone;
    guint generation, memory, cpus, disk_gib;
    gboolean dynamic, connected;
} VireoCreateRequest;

/* Takes the request, borrows the store until the callback. Nothing is left behind on failure or
 * when cancelled. */
void vireo_create_async(struct store *store, VireoCreateRequest *request, VireoProgress progress,
                        gpointer progress_data, GCancellable *cancellable,
                        GAsyncReadyCallback callback, gpointer data);
/* The new machine's id. */
char *vireo_create_finish(GAsyncResult *result, GError **error);
