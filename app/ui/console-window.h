/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoConsoleWindow: one machine's screen, with the toolbar, menus, checkpoints and status line.
 */
#pragma once

#include <adwaita.h>

#include "app/vm.h"

G_BEGIN_DECLS
#define VIREO_TYPE_CONSOLE_WINDOW (vireo_console_window_get_type())
G_DECLARE_FINAL_TYPE(VireoConsoleWindow, vireo_console_window, VIREO, CONSOLE_WINDOW,
                     AdwApplicationWindow)
GtkWindow *vireo_console_window_new(GtkApplication *app, VireoVm *vm, GSettings *settings);
G_END_DECLS
