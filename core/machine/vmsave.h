/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine's state to disk and back: Save, resume, and checkpoints of a machine that runs. The
 * files are core/machine/checkpoint.h's; `folder` is the machine's.
 * Thread: any but the I/O thread and processors'; one of these at a time for a machine.
 */
#ifndef VIREO_MACHINE_VMSAVE_H
#define VIREO_MACHINE_VMSAVE_H

#include "core/machine/checkpoint.h"
#include "core/machine/vm.h"

/* The configuration with the disks and adapters that the machine has now. */
struct vm_config *vm_config_now(struct vm *v, const struct vm_config *base, err *e);

/* How far it is: 0..1. False cancels. May be NULL. */
struct vm_progress {
    bool (*fn)(void *ctx, double fraction);
    void *ctx;
};

/*
 * Pauses the machine, writes its state and memory, commits. When it returns true the machine is
 * paused for good and to be freed; on false it goes on as before (if it was running).
 */
bool vm_save_to_disk(struct vm *v, const char *folder, const struct vm_config *base,
                     const struct vm_progress *progress, err *e);

/*
 * Restores a new machine (vm_new) from a state; it is then paused: vm_resume lets it go on.
 * `fresh`: the guest is told by the generation counter that it is a copy of the past.
 */
bool vm_load_from_disk(struct vm *v, const char *folder, const struct guid *id, bool fresh, err *e);

/* ---- a checkpoint of a running (or paused) machine ---- */

struct vm_checkpointing;
struct vm_checkpoint_times {
    uint64_t drain_ns; /* before: I/O in flight ended, nothing more was taken */
    uint64_t stall_ns; /* the processors stood still; of that: */
    uint64_t pause_ns, save_ns, fork_ns;
};
/*
 * Returns when the guest runs on and the first commit is made: what remains is the memory. `c` has
 * name (or NULL), kind and memory from the caller and the rest filled in; its strings stay the
 * caller's to clear.
 */
struct vm_checkpointing *vm_checkpoint_begin(struct vm *v, const char *folder,
                                             const struct vm_config *base, struct checkpoint *c,
                                             err *e);
/* Waits until all is durable, and commits; or drops the checkpoint and says why. Frees. */
bool vm_checkpoint_finish(struct vm_checkpointing *k, const struct vm_progress *progress, err *e);
void vm_checkpoint_get_times(const struct vm_checkpointing *k, struct vm_checkpoint_times *out);

/* ---- merging layers of a running machine's disks ---- */

/* Merges `m` if both layers are in the chain of one of its disks, records that nobody needs the
 * upper one any more (checkpoint_merged is still to be called), and waits for it. ERR_NOT_FOUND:
 * they are not in any chain. */
bool vm_merge_layers(struct vm *v, const char *folder, const struct checkpoint_merge *m,
                     const struct vm_progress *progress, err *e);

#endif
