/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Guest memory as instructions see it: effective addresses, loads and stores through the software
 * TLB. Every function may leave by longjmp with the right exception raised; then nothing was
 * changed. Accesses of up to 8 bytes inside a page are single host accesses (so atomic where x86's
 * are).
 */
#ifndef VIREO_HV_SOFT_ACCESS_H
#define VIREO_HV_SOFT_ACCESS_H

#include <string.h>

#include "core/hv/soft/cpu.h"

/* Guests' processors race for guest memory as they please: no race of ours. */
#ifdef __SANITIZE_THREAD__
#define SOFT_GUEST_MEMORY __attribute__((no_sanitize("thread")))
#else
#define SOFT_GUEST_MEMORY
#endif

/* Linear address of the memory operand in legacy modes: wraps, and checks segment rights and limit
 * for `size` bytes, #GP or #SS. */
uint64_t soft_ea_legacy(struct soft_vp *vp, const struct insn *i, uint64_t offset, unsigned size,
                        bool write);

static inline uint64_t soft_offset(const struct soft_vp *vp, const struct insn *i)
{
    return SOFT_REG(const uint64_t, vp, i->base) +
           (SOFT_REG(const uint64_t, vp, i->index) << i->scale) + (uint64_t)(int64_t)i->disp;
}

/* The linear address of the memory operand; size and write are for legacy segment checks. */
static inline uint64_t soft_ea(struct soft_vp *vp, const struct insn *i, unsigned size, bool write)
{
    uint64_t offset = soft_offset(vp, i);
    if (SOFT_UNLIKELY(i->ea))
        return soft_ea_legacy(vp, i, offset, size, write);
    return offset + SOFT_REG(const uint64_t, vp, i->segbase);
}

/* The slow paths: misses, page crossings, MMIO, code pages, watchpoints, faults. `i` may be NULL
 * (rip is valid). read/write take 1..512 bytes (FXSAVE) in any position. */
void soft_read(struct soft_vp *vp, const struct insn *i, uint64_t lin, void *buf, unsigned size);
void soft_write(struct soft_vp *vp, const struct insn *i, uint64_t lin, const void *buf,
                unsigned size);
/* Faults as a write of that size would, and changes nothing. */
void soft_probe_write(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned size);

/*
 * Read-modify-write: a pointer to operate on (with host LOCK if the guest's is), then commit. For
 * what the TLB does not hold: soft_hit_write() first.
 */
void *soft_rmw_slow(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned size);
void soft_rmw_commit(struct soft_vp *vp, const struct insn *i, unsigned size);

static inline struct soft_tlbe *soft_tlbe(struct soft_vp *vp, uint64_t lin)
{
    return &vp->tlb[(lin >> 12) & (SOFT_TLB_SIZE - 1)];
}

/* Host pointer for [lin, lin + size) if the TLB holds it within one page; else NULL. */
static inline void *soft_hit_read(struct soft_vp *vp, uint64_t lin, unsigned size)
{
    struct soft_tlbe *t = soft_tlbe(vp, lin);
    if (SOFT_LIKELY(((lin + size - 1) & ~0xfffull) + vp->tlb_gen == t->rtag))
        return (void *)(uintptr_t)(t->addend + lin);
    return NULL;
}

static inline void *soft_hit_write(struct soft_vp *vp, uint64_t lin, unsigned size)
{
    struct soft_tlbe *t = soft_tlbe(vp, lin);
    if (SOFT_LIKELY(((lin + size - 1) & ~0xfffull) + vp->tlb_gen == t->wtag))
        return (void *)(uintptr_t)(t->addend + lin);
    return NULL;
}

#define SOFT_ACCESS(bits)                                                         \
    SOFT_GUEST_MEMORY static inline uint##bits##_t soft_load##bits(               \
        struct soft_vp *vp, const struct insn *i, uint64_t lin)                   \
    {                                                                             \
        uint##bits##_t v;                                                         \
        void *p = soft_hit_read(vp, lin, bits / 8);                               \
        if (SOFT_LIKELY(p))                                                       \
            memcpy(&v, p, bits / 8);                                              \
        else                                                                      \
            soft_read(vp, i, lin, &v, bits / 8);                                  \
        return v;                                                                 \
    }                                                                             \
    SOFT_GUEST_MEMORY static inline void soft_store##bits(                        \
        struct soft_vp *vp, const struct insn *i, uint64_t lin, uint##bits##_t v) \
    {                                                                             \
        void *p = soft_hit_write(vp, lin, bits / 8);                              \
        if (SOFT_LIKELY(p))                                                       \
            memcpy(p, &v, bits / 8);                                              \
        else                                                                      \
            soft_write(vp, i, lin, &v, bits / 8);                                 \
    }
SOFT_ACCESS(8)
SOFT_ACCESS(16)
SOFT_ACCESS(32)
SOFT_ACCESS(64)

/* 16-byte operands; `aligned`: #GP(0) unless on a 16-byte boundary. */
SOFT_GUEST_MEMORY static inline void soft_load128(struct soft_vp *vp, const struct insn *i,
                                                  uint64_t lin, void *out, bool aligned)
{
    if (aligned && (lin & 15))
        soft_raise_error(vp, i, EXC_GP, 0);
    void *p = soft_hit_read(vp, lin, 16);
    if (SOFT_LIKELY(p))
        memcpy(out, p, 16);
    else
        soft_read(vp, i, lin, out, 16);
}

SOFT_GUEST_MEMORY static inline void soft_store128(struct soft_vp *vp, const struct insn *i,
                                                   uint64_t lin, const void *v, bool aligned)
{
    if (aligned && (lin & 15))
        soft_raise_error(vp, i, EXC_GP, 0);
    void *p = soft_hit_write(vp, lin, 16);
    if (SOFT_LIKELY(p))
        memcpy(p, v, 16);
    else
        soft_write(vp, i, lin, v, 16);
}

#endif
