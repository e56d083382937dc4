/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The descriptors that a worker needs for what its configuration names; opened with the person's
 * rights, because a worker opens nothing by path. */
#pragma once

#include <gio/gio.h>
#include <gio/gunixfdlist.h>

#include "core/machine/config.h"

/* a(sh) of (path as named, index in fds), floating. NULL: a file cannot be opened. */
GVariant *vireo_files_collect(const struct vm_config *c, const char *folder, GUnixFDList *fds,
                              GError **error);
/* One disk with its parents, or an image for a DVD drive (dvd; `path` may then be NULL). */
GVariant *vireo_files_collect_disk(const char *path, const char *folder, gboolean read_only,
                                   enum vm_media media, GUnixFDList *fds, GError **error);
/* The device of an adapter's switch ("tap:DEV"); none for others. */
GVariant *vireo_files_collect_switch(const char *where, GUnixFDList *fds, GError **error);
/* The same for one image (with its parents) put into a drive of a running machine. */
GVariant *vireo_files_collect_image(const char *path, gboolean read_only, const char *folder,
                                    GUnixFDList *fds, GError **error);
