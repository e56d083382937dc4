/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VireoCheckpointPane: the tree of a machine's checkpoints. */
#pragma once

#include <gtk/gtk.h>

#include "app/vm.h"

G_BEGIN_DECLS
#define VIREO_TYPE_CHECKPOINT_PANE (vireo_checkpoint_pane_get_type())
G_DECLARE_FINAL_TYPE(VireoCheckpointPane, vireo_checkpoint_pane, VIREO, CHECKPOINT_PANE, GtkWidget)
void vireo_checkpoint_pane_set_vm(VireoCheckpointPane *self, VireoVm *vm);
/* After a change of the machine. */
void vireo_checkpoint_pane_update(VireoCheckpointPane *self);
gboolean vireo_checkpoint_pane_can_revert(VireoCheckpointPane *self);
/* Asks, then goes back to the newest checkpoint on the machine's line. */
void vireo_checkpoint_pane_revert(VireoCheckpointPane *self);
G_END_DECLS
