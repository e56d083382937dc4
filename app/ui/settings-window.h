/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoSettingsWindow: all the hardware and behaviour of one machine. */
#pragma once

#include <adwaita.h>

#include "app/vm.h"

G_BEGIN_DECLS
#define VIREO_TYPE_SETTINGS_WINDOW (vireo_settings_window_get_type())
G_DECLARE_FINAL_TYPE(VireoSettingsWindow, vireo_settings_window, VIREO, SETTINGS_WINDOW,
                     AdwPreferencesWindow)
GtkWindow *vireo_settings_window_new(VireoVm *vm, GtkWindow *parent);
G_END_DECLS
