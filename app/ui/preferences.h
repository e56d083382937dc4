/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The application's own preferences. */
#pragma once

#include <adwaita.h>

GtkWindow *vireo_preferences_new(GSettings *settings, GtkWindow *parent);
