/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a change of the settings does to the machine at once, if it runs; nothing where it does not.
 * The configuration has been changed before. A refusal is told by VireoVm's "failed".
 */
#pragma once

#include "app/vm.h"

/* Adapter by its place in the configuration: switch, VLAN, limits, forwards. */
void vireo_live_adapter(VireoVm *vm, guint index);
void vireo_live_add_adapter(VireoVm *vm, const struct vm_adapter *adapter);
/* Whether a disk may come and go now: a machine that is off, or SCSI. */
gboolean vireo_live_may_change_disk(VireoVm *vm, enum vm_bus bus);
void vireo_live_add_disk(VireoVm *vm, const struct vm_disk *disk);
void vireo_live_remove_disk(VireoVm *vm, const struct vm_disk *disk);
void vireo_live_resize_disk(VireoVm *vm, const struct vm_disk *disk, guint64 bytes);
/* The DVD drive's new image; a path of NULL empties it. */
void vireo_live_insert(VireoVm *vm, const struct vm_disk *drive);
