/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoLibrary: every machine of the store as a GListModel of VireoVm, kept up to date. */
#pragma once

#include <gio/gio.h>

#include "app/vm.h"

G_BEGIN_DECLS

#define VIREO_TYPE_LIBRARY (vireo_library_get_type())
G_DECLARE_FINAL_TYPE(VireoLibrary, vireo_library, VIREO, LIBRARY, GObject)

/* NULL with `error` where the store cannot be used. */
VireoLibrary *vireo_library_new(GError **error);
struct store *vireo_library_get_store(VireoLibrary *self);
/* Reads the store now. */
gboolean vireo_library_reload(VireoLibrary *self, GError **error);
VireoVm *vireo_library_find(VireoLibrary *self, const char *id); /* borrowed */

/* `base`, or `base` and a number, that no machine has. Owned by the caller. */
char *vireo_library_free_name(VireoLibrary *library, const char *base);

G_END_DECLS
