/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Segment checks and the stack, for handlers and event delivery. */
#ifndef VIREO_HV_SOFT_STACK_H
#define VIREO_HV_SOFT_STACK_H

#include "core/hv/soft/access.h"

#define U(bits) uint##bits##_t
#define RD(bits, vp, o) SOFT_REG(U(bits), vp, o)
#define WR8(vp, o, v) (SOFT_REG(uint8_t, vp, o) = (v))
#define WR16(vp, o, v) (SOFT_REG(uint16_t, vp, o) = (v))
#define WR32(vp, o, v) (SOFT_REG(uint64_t, vp, o) = (uint32_t)(v))
#define WR64(vp, o, v) (SOFT_REG(uint64_t, vp, o) = (v))
#define WR(bits, vp, o, v) WR##bits(vp, o, v)
#define HANDLER(name) static void name(struct soft_vp *vp, const struct insn *i)

/* Linear address of seg:offset outside 64-bit code; raises #GP(0) or #SS(0). */
uint64_t soft_seg_lin(struct soft_vp *vp, const struct insn *i, unsigned seg, uint64_t offset,
                      unsigned size, bool write);
/* seg:offset in any mode: FS and GS alone have a base in 64-bit code. */
static inline uint64_t soft_lin(struct soft_vp *vp, const struct insn *i, unsigned seg,
                                uint64_t offset, unsigned size, bool write)
{
    if (vp->code == SOFT_MODE64)
        return seg >= HV_FS ? vp->seg[seg].base + offset : offset;
    return soft_seg_lin(vp, i, seg, offset, size, write);
}

/* #SS(0) if a 64-bit stack address is not canonical. */
void soft_stack_check(struct soft_vp *vp, const struct insn *i, uint64_t lin);

static inline void soft_set_sp(struct soft_vp *vp, uint64_t sp)
{
    uint64_t m = vp->stack_mask;
    vp->gpr[HV_RSP] = m == 0xffff ? (vp->gpr[HV_RSP] & ~m) | (sp & m) : sp & m;
}

static inline uint64_t soft_sp(const struct soft_vp *vp, int64_t add)
{
    return (vp->gpr[HV_RSP] + (uint64_t)add) & vp->stack_mask;
}

/* 64-bit code: the caller moves RSP. */
static inline void soft_stack_store64(struct soft_vp *vp, const struct insn *i, uint64_t lin,
                                      uint64_t v)
{
    void *p = soft_hit_write(vp, lin, 8);
    if (SOFT_LIKELY(p)) {
        memcpy(p, &v, 8);
    } else {
        soft_stack_check(vp, i, lin);
        soft_write(vp, i, lin, &v, 8);
    }
}

static inline uint64_t soft_stack_load64(struct soft_vp *vp, const struct insn *i, uint64_t lin)
{
    uint64_t v;
    void *p = soft_hit_read(vp, lin, 8);
    if (SOFT_LIKELY(p)) {
        memcpy(&v, p, 8);
    } else {
        soft_stack_check(vp, i, lin);
        soft_read(vp, i, lin, &v, 8);
    }
    return v;
}

/* Any mode, size 2, 4 or 8; `at` is a stack pointer as soft_sp() gives it. RSP is not moved. */
void soft_stack_put(struct soft_vp *vp, const struct insn *i, uint64_t at, uint64_t v,
                    unsigned size);
uint64_t soft_stack_get(struct soft_vp *vp, const struct insn *i, uint64_t at, unsigned size);

static inline void soft_push(struct soft_vp *vp, const struct insn *i, uint64_t v, unsigned size)
{
    uint64_t sp = soft_sp(vp, -(int64_t)size);
    soft_stack_put(vp, i, sp, v, size);
    soft_set_sp(vp, sp);
}

#endif
