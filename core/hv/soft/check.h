/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lock-step, for tests: a translated block is first interpreted, with every write to memory noted;
 * then all is put back, its translation runs, and registers, flags and what was written are
 * compared. A block that did anything that cannot be done twice stands as interpreted. For machines
 * of one processor: others would write meanwhile.
 */
#ifndef VIREO_HV_SOFT_CHECK_H
#define VIREO_HV_SOFT_CHECK_H

#include "core/hv/soft/block.h"

struct soft_check;

/* Compares `count` blocks, every `each`th that comes by. NULL: no memory. */
struct soft_check *soft_check_new(uint64_t count, unsigned each);
/* Says on standard error how many were compared. */
void soft_check_free(struct soft_check *c);

/* Whether vp has a check that is not done: blocks then run one by one. */
bool soft_check_on(const struct soft_vp *vp);
/* Runs b, whose code is ready, at vp->rip; stops the VP if the two ways differ. May raise. */
void soft_check_block(struct soft_vp *vp, struct block *b);
/* An exception came: true if the check was at its first way, which then stands. */
void soft_check_faulted(struct soft_vp *vp);

/* Memory at `host` is about to be written to. */
void soft_check_writes(struct soft_vp *vp, void *host, unsigned size);
/* Something that cannot be done twice. */
void soft_check_once(struct soft_vp *vp);

#endif
