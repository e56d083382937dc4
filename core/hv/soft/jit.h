/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The translator: turns hot decoded blocks into host code. One instance a VP, used on that VP's
 * thread alone; the code cache is mapped twice, writable and executable. 64-bit guest code and
 * 32-bit code in flat segments are translated; everything else, and every slow path, is the
 * interpreter's.
 *
 * In translated code: r15 = vp, r12-r14 scratch, guest RAX RCX RDX RBX RBP RSI RDI R8 R9 R10 in the
 * same host registers, guest RSP in r11, guest R11-R15 in vp->gpr. vp->block_rip is the linear
 * address of the page that the block lies in, so that one translation serves every mapping of it.
 * At block borders the flags are in vp->status.
 *
 * Why a guest stays in its memory: translated code stores and loads through a TLB entry that the
 * interpreter filled (tag of the very page, access within the page), through vp at constant
 * offsets, and through the host stack in fixed thunks; guest bytes decide nothing else about an
 * address. Host instructions are emitted only as reread*.c knows them, never copied unknown.
 */
#ifndef VIREO_HV_SOFT_JIT_H
#define VIREO_HV_SOFT_JIT_H

#include "core/hv/soft/block.h"

struct soft_jit;

struct soft_jit_options {
    bool exact;
    bool exact_but_x87; /* x87 code is translated even so: its instruction pointers read as 0 */
    bool perf_map;      /* /tmp/perf-PID.map names what was translated */
    bool count;         /* translated code counts its instructions; it is slower then */
};

/*
 * Flags that are overwritten before any instruction can read them are not kept, so that the frame
 * of a fault in between may show older arithmetic flags than a processor would; `exact` keeps them,
 * for tests that compare. NULL if the host refuses executable memory: the VP then only interprets.
 * `bytes` of code cache.
 */
struct soft_jit *soft_jit_new(struct soft_vp *vp, uint32_t bytes, const struct soft_jit_options *o);
void soft_jit_free(struct soft_jit *j);

/* Sets b->code if the block can be translated; else marks it so that it is not tried again. Called
 * between blocks. When the code cache is full it sets vp->jit_full: the run loop then drops all.
 */
void soft_jit_translate(struct soft_vp *vp, struct block *b);
/* The block's bytes changed: whoever still jumps to its code comes out to the look-up. */
void soft_jit_drop(struct soft_vp *vp, struct block *b);
/* b's code behind the look at what asks for attention; NULL if it is not to be entered so. */
void *soft_jit_past_head(const struct block *b);
/* All blocks are about to be freed. */
void soft_jit_drop_all(struct soft_vp *vp);
/* vp->jit_hot is set: sees to it, between blocks. */
void soft_jit_cool(struct soft_vp *vp);
/* The same when vp->stack_misses is not below 0. */
void soft_jit_cool_stack(struct soft_vp *vp);
/* Rights to pages were taken away: no window holds. */
void soft_jit_close_windows(struct soft_vp *vp);
/* Translations of addresses changed: no return is predicted by what was called before. */
void soft_jit_forget_calls(struct soft_vp *vp);
/* Other than the calls made so far, the privilege's code is of this mode. */
void soft_jit_ring_mode(struct soft_vp *vp, unsigned mode);
/* Bytes that it has touched, at most; any thread. */
uint64_t soft_jit_memory(const struct soft_jit *j);
/* After a look-up that followed an exit by a direct jump: links that jump to b's code. */
void soft_jit_link(struct soft_vp *vp, struct block *b);

#endif
