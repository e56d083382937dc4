/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoLibraryWindow: the machines, and the way to a new one. */
#pragma once

#include <adwaita.h>

#include "app/library.h"

G_BEGIN_DECLS
#define VIREO_TYPE_LIBRARY_WINDOW (vireo_library_window_get_type())
G_DECLARE_FINAL_TYPE(VireoLibraryWindow, vireo_library_window, VIREO, LIBRARY_WINDOW,
                     AdwApplicationWindow)
GtkWindow *vireo_library_window_new(GtkApplication *app, VireoLibrary *library);
void vireo_library_window_toast(VireoLibraryWindow *self, const char *text);
G_END_DECLS
