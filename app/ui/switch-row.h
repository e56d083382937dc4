/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The row that connects an adapter of a machine to one of the switches that there are. */
#pragma once

#include <adwaita.h>

#include "app/vm.h"

GtkWidget *vireo_switch_row_new(VireoVm *vm, guint adapter);
