/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoVmRow: a machine in the library: picture, name, state, what it costs, start or open. */
#pragma once

#include <adwaita.h>

#include "app/vm.h"

G_BEGIN_DECLS
#define VIREO_TYPE_VM_ROW (vireo_vm_row_get_type())
G_DECLARE_FINAL_TYPE(VireoVmRow, vireo_vm_row, VIREO, VM_ROW, AdwActionRow)
GtkWidget *vireo_vm_row_new(VireoVm *vm);
VireoVm *vireo_vm_row_get_vm(VireoVmRow *self);
G_END_DECLS
