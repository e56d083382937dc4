/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What saving and checkpoints share. */
#ifndef VIREO_MACHINE_VMSAVE_INT_H
#define VIREO_MACHINE_VMSAVE_INT_H

#include <sys/types.h>

#include "core/base/state.h"
#include "core/machine/memfile.h"
#include "core/machine/vmsave.h"

/* The first section of a state file: what the machine is. On the I/O thread. */
void vmsave_put_head(struct vm *v, struct state_writer *w);
/* The sections (`w` may be NULL: none) and, where something is shown, a picture. */
bool vmsave_write_files(struct vm *v, const char *folder, const struct guid *id,
                        struct state_writer *w, err *e);

/* Freezes memory for a child that writes it; the child's id or, with the error, -1. On the I/O
 * thread, the machine stopped. */
pid_t vmsave_freeze(struct memfile_writer *mem, err *e);
/* Until the child has ended; `p` (NULL: none) is asked now and then. Any thread. */
bool vmsave_wait(pid_t pid, struct memfile_writer *mem, const struct vm_progress *p, err *e);
void vmsave_make_huge(struct vm *v);
/* The memory of the checkpoint that the machine goes on from (what is the same is not written), or
 * NULL. */
struct memfile *vmsave_memory_below(const char *folder, const struct guid *parent);

#endif
