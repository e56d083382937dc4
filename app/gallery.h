/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The gallery: systems that are built on the spot. Each is a key file (data/gallery/<name>.ini)
 * with titles and the packages; data/gallery/build-debian makes the disk.
 */
#pragma once

#include <gio/gio.h>

G_BEGIN_DECLS

#define VIREO_TYPE_GALLERY_ENTRY (vireo_gallery_entry_get_type())
G_DECLARE_FINAL_TYPE(VireoGalleryEntry, vireo_gallery_entry, VIREO, GALLERY_ENTRY, GObject)

/* Every readable entry of the installed folder (or $VIREO_GALLERY), in the order of their files'
 * names. */
GPtrArray *vireo_gallery_load(void);
const char *vireo_gallery_entry_get_id(VireoGalleryEntry *self);
const char *vireo_gallery_entry_get_title(VireoGalleryEntry *self);
const char *vireo_gallery_entry_get_description(VireoGalleryEntry *self);
guint vireo_gallery_entry_get_memory(VireoGalleryEntry *self); /* MiB, suggested */
/* 1: a BIOS starts its boot loader. 2: kernel and command line are started directly. */
guint vireo_gallery_entry_get_generation(VireoGalleryEntry *self);
const char *vireo_gallery_entry_get_cmdline(VireoGalleryEntry *self);

typedef struct {
    VireoGalleryEntry *entry;
    const char *folder;                       /* where disk.raw, vmlinuz and initrd.img are put */
    const char *user, *password, *key, *host; /* key: a line of authorized_keys; it or password
                                                 may be "" */
    const char *locale, *zone;
    guint disk_gib;
} VireoGalleryBuild;

typedef void (*VireoProgress)(double fraction, const char *text, gpointer data);

/* Runs the builder. Cancelling ends it and removes what it had made. */
void vireo_gallery_build_async(const VireoGalleryBuild *build, VireoProgress progress,
                               gpointer progress_data, GCancellable *cancellable,
                               GAsyncReadyCallback callback, gpointer data);
gboolean vireo_gallery_build_finish(GAsyncResult *result, GError **error);

G_END_DECLS
