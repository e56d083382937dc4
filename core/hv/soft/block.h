/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Decoded blocks: straight runs of instructions inside one physical page, found by physical address
 * and mode. A VP's cache is its own: no locks. A dropped block keeps its memory until the whole
 * cache is emptied, and its first handler then sends whoever still jumps there back to the look-up.
 */
#ifndef VIREO_HV_SOFT_BLOCK_H
#define VIREO_HV_SOFT_BLOCK_H

#include "core/hv/soft/cpu.h"

enum { BLOCK_MAX_INSNS = 48 };

struct block {
    uint64_t phys;
    struct block *hash_next, *page_next;
    void *code;             /* translated (jit.h), NULL or SOFT_JIT_NEVER */
    uint64_t no_window;     /* bits of instructions that are to go by the TLB */
    uint32_t runs;          /* counted until it is translated */
    uint16_t mode, n;       /* n without the closing pseudo instruction */
    uint16_t before, bytes; /* all lie in [phys - before, phys + bytes) */
    uint16_t size16;        /* of the whole, in 16-byte units */
    bool kept;              /* made by soft_block_keep */
    bool own_windows;       /* code of CPL 3: accesses of the stack do not share theirs */
    struct insn insn[];
};

enum { SOFT_JIT_NEVER = 1 }; /* b->code of a block that is not to be translated */
static inline bool soft_jit_ready(const struct block *b)
{
    return (uintptr_t)b->code > SOFT_JIT_NEVER;
}

/* Counts a run of a block that has no code: true when it is hot enough to be translated. */
static inline bool soft_jit_wanted(const struct soft_vp *vp, struct block *b)
{
    return !b->code && vp->jit && ++b->runs >= vp->jit_after;
}

/* Leaves a block: goes straight on in the next one if it is known and nothing calls for attention.
 */
static inline uint64_t soft_linear_rip(const struct soft_vp *vp)
{
    return vp->code == SOFT_MODE64 ? vp->rip : (uint32_t)(vp->seg[HV_CS].base + vp->rip);
}

static inline struct soft_jump *soft_jump_slot(struct soft_vp *vp, uint64_t lin)
{
    return &vp->jump[(lin ^ (lin >> SOFT_JUMP_BITS)) & (SOFT_JUMP_SIZE - 1)];
}

#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__)
#define SOFT_CHAIN_CALLS 1
#endif

static inline void soft_chain(struct soft_vp *vp)
{
#ifdef SOFT_CHAIN_CALLS
    uint64_t lin = soft_linear_rip(vp);
    struct soft_jump *j = soft_jump_slot(vp, lin);
    if (SOFT_UNLIKELY(atomic_load_explicit(&vp->attn, memory_order_relaxed) || j->lin != lin ||
                      j->key != soft_jump_key(vp, lin)))
        return;
    struct block *b = j->b;
    if (SOFT_UNLIKELY(vp->code != SOFT_MODE64 && vp->rip + b->bytes - 1 > vp->seg[HV_CS].limit))
        return;
    if (soft_jit_wanted(vp, b))
        return; /* to the run loop, which translates it */
    vp->block_rip = vp->rip;
    if (soft_jit_ready(b))
        return vp->jit_enter(vp, b->code);
    soft_count_insns(vp, b->n);
    return b->insn[0].fn(vp, b->insn);
#endif
}

insn_fn soft_op_end; /* closes a block that ends without a branch */

/*
 * What is to be translated instead of b, which it replaces: a block that begins there and goes on
 * beyond jumps, direct ones and conditional ones that were not taken most times (`all`: any), as
 * long as they lead to the same page. NULL: not to be translated, or not now (vp->jit_full).
 */
struct block *soft_block_keep(struct soft_vp *vp, struct block *b, bool all);

/* decode.c: fills `out` for the instruction at `bytes`; `left` bytes are there (up to 15 are looked
 * at). */
enum decode_result {
    DECODE_OK,
    DECODE_END,   /* ok, and the block ends with it */
    DECODE_SHORT, /* more bytes needed */
    DECODE_LONG,  /* over 15 bytes: #GP */
};
enum decode_result soft_decode(struct insn *out, const uint8_t *bytes, unsigned left, unsigned mode,
                               int off);

#endif
