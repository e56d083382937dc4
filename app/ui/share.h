/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Share: the machine's screen for other programs and computers, by SPICE and VNC. */
#pragma once

#include <adwaita.h>

#include "app/vm.h"

GtkWindow *vireo_share_new(VireoVm *vm, GtkWindow *parent);
