/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "Why is this slow?": whether this computer's hardware virtualisation can be used, and what to do
 * where it cannot. */
#pragma once

#include <adwaita.h>

GtkWindow *vireo_why_slow_new(GtkWindow *parent);
