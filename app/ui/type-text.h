/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Types the clipboard's text into a machine, as a keyboard would: preview, cancel. */
#pragma once

#include <gtk/gtk.h>

#include "app/console.h"

GtkWindow *vireo_type_text_new(VireoConsole *console, GtkWindow *parent);
