/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The gates of vector and x87 operations (vec.h): what is checked before each. */
#include "core/hv/soft/ops.h"
#include "core/hv/soft/stack.h"
#include "core/hv/soft/vec.h"

#define OP(name) void soft_op_##name(struct soft_vp *vp, const struct insn *i)

static inline void sse_check(struct soft_vp *vp, const struct insn *i)
{
    if (SOFT_LIKELY(!vp->fpu_gate))
        return;
    if ((vp->cr0 & CR0_EM) || !(vp->cr4 & CR4_OSFXSR))
        soft_raise(vp, i, EXC_UD);
    if (vp->cr0 & CR0_TS)
        soft_raise(vp, i, EXC_NM);
}

static void mf_check(struct soft_vp *vp, const struct insn *i)
{
    if (SOFT_LIKELY(!soft_x87_pending(vp)))
        return;
    soft_raise(vp, i, EXC_MF); /* whatever CR0.NE says: FERR# leads nowhere */
}

HANDLER(gate_sse)
{
    sse_check(vp, i);
    i->vec(vp, i);
    SOFT_NEXT(vp, i);
}

HANDLER(gate_mmx)
{
    if (vp->cr0 & CR0_EM)
        soft_raise(vp, i, EXC_UD);
    if (vp->cr0 & CR0_TS)
        soft_raise(vp, i, EXC_NM);
    mf_check(vp, i);
    i->vec(vp, i);
    SOFT_NEXT(vp, i);
}

HANDLER(gate_x87)
{
    if (vp->cr0 & (CR0_EM | CR0_TS))
        soft_raise(vp, i, EXC_NM);
    mf_check(vp, i);
    i->vec(vp, i);
    SOFT_NEXT(vp, i);
}

HANDLER(gate_x87_quiet)
{
    if (vp->cr0 & (CR0_EM | CR0_TS))
        soft_raise(vp, i, EXC_NM);
    i->vec(vp, i);
    SOFT_NEXT(vp, i);
}

HANDLER(gate_plain)
{
    i->vec(vp, i);
    SOFT_NEXT(vp, i);
}

insn_fn *const soft_vec_gate[6] = {
    [VEC_SSE] = gate_sse,        [VEC_MMX] = gate_mmx,
    [VEC_X87] = gate_x87,        [VEC_X87_QUIET] = gate_x87_quiet,
    [VEC_FXSR] = gate_x87_quiet, [VEC_PLAIN] = gate_plain,
};

OP(fwait)
{
    if ((vp->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
        soft_raise(vp, i, EXC_NM);
    mf_check(vp, i);
    SOFT_NEXT(vp, i);
}
