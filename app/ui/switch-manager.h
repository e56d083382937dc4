/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The switch manager: which switches there are and who is connected; private ones are made and
 * removed. */
#pragma once

#include <adwaita.h>

#include "app/library.h"

GtkWindow *vireo_switch_manager_new(VireoLibrary *library, GtkWindow *parent);
