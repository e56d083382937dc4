/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What jit.c (cache, thunks, linking) and translate.c (blocks) share. */
#ifndef VIREO_HV_SOFT_JIT_INTERNAL_H
#define VIREO_HV_SOFT_JIT_INTERNAL_H

#include "core/hv/soft/emit.h"
#include "core/hv/soft/jit.h"

enum { J_VP = E_R15, J_ADDR = E_R14, J_TMP = E_R13, J_TMP2 = E_R12 };

struct soft_jit {
    uint8_t *rw, *rx;
    uint32_t size;
    struct emit e;
    uint32_t first; /* end of the thunks: where blocks begin */
    /* offsets of the thunks */
    uint32_t enter, exit, bail, indirect, call, load_vec, load_all, save_fpu;
    bool exact; /* see struct tr */
    uint64_t blocks, flushes;
};

/* vp->jit_fpu: what the host's registers hold of the guest's. */
enum jit_fpu {
    JIT_FPU_NONE,
    JIT_FPU_VEC, /* XMM and MXCSR */
    JIT_FPU_ALL, /* x87 too */
};

/* Lies in the code buffer; vp->jit_link is its offset after an exit by a direct jump. */
struct jit_link {
    uint64_t phys;   /* where the jump goes */
    uint32_t rel_at; /* offset of the rel32 to patch */
    uint32_t mode;
};

#define VP(field) ((int32_t)offsetof(struct soft_vp, field))

static inline int32_t vp_gpr(unsigned g)
{
    return VP(gpr) + 8 * (int32_t)g;
}

/* Host register of a guest register, or E_NONE: it lives in vp->gpr. */
static inline unsigned jit_pinned(unsigned g)
{
    return g == HV_RSP ? E_R11 : g >= HV_R11 ? E_NONE : g;
}

/* Translates b at the end of the buffer; the offset of its code, or 0 (buffer full or not worth
 * it). */
uint32_t jit_block(struct soft_jit *j, struct soft_vp *vp, struct block *b);

#endif
