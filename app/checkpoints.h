/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine's checkpoints for the windows: of one that runs through its worker, of one that is off
 * in its folder, under its lock. What fails is told by the machine's "failed" signal.
 */
#pragma once

#include "app/vm.h"

/* aa{sv} as the property Checkpoints of org.vireo.Machine1; a new reference, NULL: none. */
GVariant *vireo_checkpoints_list(VireoVm *vm);

void vireo_checkpoints_create(VireoVm *vm, const char *name);
/* The machine becomes what it was then, and runs on if it runs now. */
void vireo_checkpoints_apply(VireoVm *vm, const char *id);
void vireo_checkpoints_rename(VireoVm *vm, const char *id, const char *name);
void vireo_checkpoints_delete(VireoVm *vm, const char *id, gboolean subtree);
