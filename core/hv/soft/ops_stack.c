/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stack instructions and near branches. Source: SDM vol. 2. */
#include "core/hv/soft/block.h"
#include "core/hv/soft/flags.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/soft.h"
#include "core/hv/soft/stack.h"

#define ROWW(op)                     \
    {                                \
        NULL, op##16, op##32, op##64 \
    }
#define OP(name) void soft_op_##name(struct soft_vp *vp, const struct insn *i)

void soft_stack_check(struct soft_vp *vp, const struct insn *i, uint64_t lin)
{
    if (!soft_canonical(lin))
        soft_raise_error(vp, i, EXC_SS, 0);
}

static uint64_t stack_lin(struct soft_vp *vp, const struct insn *i, uint64_t at, unsigned size,
                          bool write)
{
    if (vp->code == SOFT_MODE64) {
        soft_stack_check(vp, i, at);
        return at;
    }
    return soft_seg_lin(vp, i, HV_SS, at, size, write);
}

void soft_stack_put(struct soft_vp *vp, const struct insn *i, uint64_t at, uint64_t v,
                    unsigned size)
{
    uint64_t lin = stack_lin(vp, i, at, size, true);
    switch (size) {
    case 2: soft_store16(vp, i, lin, (uint16_t)v); break;
    case 4: soft_store32(vp, i, lin, (uint32_t)v); break;
    default: soft_store64(vp, i, lin, v);
    }
}

uint64_t soft_stack_get(struct soft_vp *vp, const struct insn *i, uint64_t at, unsigned size)
{
    uint64_t lin = stack_lin(vp, i, at, size, false);
    switch (size) {
    case 2: return soft_load16(vp, i, lin);
    case 4: return soft_load32(vp, i, lin);
    default: return soft_load64(vp, i, lin);
    }
}

static inline void push(struct soft_vp *vp, const struct insn *i, uint64_t v, unsigned bits)
{
    if (bits == 64) {
        uint64_t sp = vp->gpr[HV_RSP] - 8;
        soft_stack_store64(vp, i, sp, v);
        vp->gpr[HV_RSP] = sp;
    } else {
        soft_push(vp, i, v, bits / 8);
    }
}

static inline uint64_t top(struct soft_vp *vp, const struct insn *i, unsigned bits)
{
    if (bits == 64)
        return soft_stack_load64(vp, i, vp->gpr[HV_RSP]);
    return soft_stack_get(vp, i, soft_sp(vp, 0), bits / 8);
}

static inline void drop_sp(struct soft_vp *vp, uint64_t n, unsigned bits)
{
    if (bits == 64)
        vp->gpr[HV_RSP] += n;
    else
        soft_set_sp(vp, vp->gpr[HV_RSP] + n);
}

#define STACK(bits, sfx, op, ins)                                                   \
    HANDLER(push_r##bits)                                                           \
    {                                                                               \
        push(vp, i, RD(bits, vp, i->rm), bits);                                     \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(push_i##bits)                                                           \
    {                                                                               \
        push(vp, i, i->imm, bits);                                                  \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(push_m##bits)                                                           \
    {                                                                               \
        push(vp, i, soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false)), bits); \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(pop_r##bits)                                                            \
    {                                                                               \
        uint64_t v = top(vp, i, bits);                                              \
        drop_sp(vp, bits / 8, bits);                                                \
        WR(bits, vp, i->rm, (U(bits))v);                                            \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(pop_m##bits)                                                            \
    {                                                                               \
        U(bits) v = (U(bits))top(vp, i, bits);                                      \
        uint64_t sp = vp->gpr[HV_RSP];                                              \
        drop_sp(vp, bits / 8, bits); /* an address on RSP means the new one */      \
        uint64_t offset = soft_offset(vp, i);                                       \
        vp->gpr[HV_RSP] = sp;                                                       \
        uint64_t lin = i->ea ? soft_ea_legacy(vp, i, offset, bits / 8, true)        \
                             : offset + SOFT_REG(uint64_t, vp, i->segbase);         \
        soft_store##bits(vp, i, lin, v);                                            \
        drop_sp(vp, bits / 8, bits);                                                \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(leave##bits)                                                            \
    {                                                                               \
        uint64_t bp = vp->gpr[HV_RBP] & vp->stack_mask;                             \
        U(bits) v = (U(bits))soft_stack_get(vp, i, bp, bits / 8);                   \
        soft_set_sp(vp, bp + bits / 8);                                             \
        WR(bits, vp, 8 * HV_RBP, v);                                                \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(enter##bits)                                                            \
    {                                                                               \
        enter(vp, i, bits / 8);                                                     \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(pushf##bits)                                                            \
    {                                                                               \
        pushf(vp, i, bits);                                                         \
        SOFT_NEXT(vp, i);                                                           \
    }                                                                               \
    HANDLER(popf##bits)                                                             \
    {                                                                               \
        popf(vp, i, bits);                                                          \
        vp->rip = soft_insn_rip(vp, i) + i->len;                                    \
        soft_chain(vp);                                                             \
    }                                                                               \
    HANDLER(push_seg##bits)                                                         \
    {                                                                               \
        push_seg(vp, i, bits);                                                      \
        SOFT_NEXT(vp, i);                                                           \
    }

static void enter(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    unsigned level = i->imm8 & 31;
    uint64_t sp = soft_sp(vp, -(int64_t)n), frame = sp, bp = vp->gpr[HV_RBP];
    soft_stack_put(vp, i, sp, bp, n);
    for (unsigned k = 1; k < level; k++) {
        bp -= n;
        uint64_t v = soft_stack_get(vp, i, bp & vp->stack_mask, n);
        sp = (sp - n) & vp->stack_mask;
        soft_stack_put(vp, i, sp, v, n);
    }
    if (level) {
        sp = (sp - n) & vp->stack_mask;
        soft_stack_put(vp, i, sp, frame, n);
    }
    sp = (sp - (uint16_t)i->imm) & vp->stack_mask;
    uint64_t lin = stack_lin(vp, i, sp, 1, true);
    soft_probe_write(vp, i, lin, 1);
    soft_set_sp(vp, sp);
    if (n == 2)
        WR16(vp, 8 * HV_RBP, (uint16_t)frame);
    else
        vp->gpr[HV_RBP] = n == 4 ? (uint32_t)frame : frame;
}

static void push_seg(struct soft_vp *vp, const struct insn *i, unsigned bits)
{
    uint16_t sel = vp->seg[i->imm8].selector;
    if (bits == 32 && vp->code != SOFT_MODE64) { /* writes 16 bits of the 32-bit slot */
        uint64_t sp = soft_sp(vp, -4);
        soft_stack_put(vp, i, sp, sel, 2);
        soft_set_sp(vp, sp);
        return;
    }
    push(vp, i, sel, bits);
}

static bool v86_gp(const struct soft_vp *vp)
{
    return (vp->eflags & FL_VM) && (vp->eflags & FL_IOPL) != FL_IOPL;
}

static void pushf(struct soft_vp *vp, const struct insn *i, unsigned bits)
{
    uint64_t fl = soft_rflags(vp) & ~(uint64_t)(FL_VM | FL_RF);
    if (v86_gp(vp)) {
        if (bits != 16 || !(vp->cr4 & CR4_VME))
            soft_raise_error(vp, i, EXC_GP, 0);
        fl = (fl & ~(uint64_t)FL_IF) | FL_IOPL | (vp->eflags & FL_VIF ? FL_IF : 0);
    }
    push(vp, i, fl, bits);
}

static void popf_vme(struct soft_vp *vp, const struct insn *i)
{
    uint16_t fl = (uint16_t)top(vp, i, 16);
    if (((fl & FL_IF) && (vp->eflags & FL_VIP)) || (fl & FL_TF))
        soft_raise_error(vp, i, EXC_GP, 0);
    uint32_t keep = vp->eflags & ~(uint32_t)(FL_DF | FL_NT | FL_VIF);
    vp->eflags = keep | (fl & (FL_DF | FL_NT)) | (fl & FL_IF ? FL_VIF : 0) | 2;
    soft_set_arith(vp, fl);
    drop_sp(vp, 2, 16);
}

static void popf(struct soft_vp *vp, const struct insn *i, unsigned bits)
{
    if (v86_gp(vp)) {
        if (bits != 16 || !(vp->cr4 & CR4_VME))
            soft_raise_error(vp, i, EXC_GP, 0);
        popf_vme(vp, i);
        soft_update_mode(vp);
        return;
    }
    uint64_t fl = top(vp, i, bits);
    uint32_t may = FL_DF | FL_NT | FL_TF;
    unsigned iopl = (vp->eflags & FL_IOPL) >> 12;
    if (bits != 16)
        may |= FL_AC | FL_ID;
    if (vp->cpl == 0 && !(vp->eflags & FL_VM))
        may |= FL_IOPL;
    if (vp->cpl <= iopl)
        may |= FL_IF;
    uint32_t now = (vp->eflags & ~may) | ((uint32_t)fl & may) | 2;
    if (bits != 16)
        now &= ~(uint32_t)FL_RF;
    vp->eflags = now;
    soft_set_arith(vp, fl);
    drop_sp(vp, bits / 8, bits);
    soft_update_mode(vp);
}

FOR_WORDS(STACK, , "")
insn_fn *const soft_push_r[4] = ROWW(push_r);
insn_fn *const soft_push_i[4] = ROWW(push_i);
insn_fn *const soft_push_m[4] = ROWW(push_m);
insn_fn *const soft_pop_r[4] = ROWW(pop_r);
insn_fn *const soft_pop_m[4] = ROWW(pop_m);
insn_fn *const soft_pushf[4] = ROWW(pushf);
insn_fn *const soft_popf[4] = ROWW(popf);
insn_fn *const soft_leave[4] = ROWW(leave);
insn_fn *const soft_enter[4] = ROWW(enter);
insn_fn *const soft_push_seg[4] = ROWW(push_seg);

/* PUSHA, POPA: not in 64-bit code. */
static void pusha(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    uint64_t sp = soft_sp(vp, -(int64_t)(8 * n));
    for (unsigned k = 0; k < 8; k++)
        soft_stack_put(vp, i, (sp + (7 - k) * n) & vp->stack_mask, vp->gpr[k], n);
    soft_set_sp(vp, sp);
}

static void popa(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    uint64_t v[8];
    for (unsigned k = 0; k < 8; k++)
        v[k] = soft_stack_get(vp, i, soft_sp(vp, (int64_t)(k * n)), n);
    soft_set_sp(vp, vp->gpr[HV_RSP] + 8 * n);
    for (unsigned k = 0; k < 8; k++) {
        unsigned reg = 7 - k;
        if (reg == HV_RSP)
            continue;
        if (n == 2)
            WR16(vp, 8 * reg, (uint16_t)v[k]);
        else
            vp->gpr[reg] = (uint32_t)v[k];
    }
}

HANDLER(pusha16)
{
    pusha(vp, i, 2);
    SOFT_NEXT(vp, i);
}

HANDLER(pusha32)
{
    pusha(vp, i, 4);
    SOFT_NEXT(vp, i);
}

HANDLER(popa16)
{
    popa(vp, i, 2);
    SOFT_NEXT(vp, i);
}

HANDLER(popa32)
{
    popa(vp, i, 4);
    SOFT_NEXT(vp, i);
}
insn_fn *const soft_pusha[4] = {NULL, pusha16, pusha32, NULL};
insn_fn *const soft_popa[4] = {NULL, popa16, popa32, NULL};

/* Near branches. `wide`: 64-bit code. */

/* Outside 64-bit code: imm8 1 cuts the target to 16 bits; the target must lie within CS. */
static uint64_t target_legacy(struct soft_vp *vp, const struct insn *i, uint64_t rip)
{
    rip = i->imm8 & 1 ? (uint16_t)rip : (uint32_t)rip;
    if (SOFT_UNLIKELY(rip > vp->seg[HV_CS].limit))
        soft_raise_error(vp, i, EXC_GP, 0);
    return rip;
}

static inline uint64_t target64(struct soft_vp *vp, const struct insn *i, uint64_t rip)
{
    if (SOFT_UNLIKELY(!soft_canonical(rip)))
        soft_raise_error(vp, i, EXC_GP, 0);
    return rip;
}

#define FOR_CC(M) \
    M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#define LIST_CC(M)                                                                              \
    {                                                                                           \
        M(0), M(1), M(2), M(3), M(4), M(5), M(6), M(7), M(8), M(9), M(10), M(11), M(12), M(13), \
            M(14), M(15)                                                                        \
    }
#define JCC(cc)                                                     \
    HANDLER(jcc_##cc)                                               \
    {                                                               \
        if (soft_cond(vp->status, cc)) {                            \
            vp->rip = target64(vp, i, vp->block_rip + i->imm);      \
            return soft_chain(vp);                                  \
        }                                                           \
        vp->rip = vp->block_rip + i->off + i->len;                  \
        return soft_chain(vp);                                      \
    }                                                               \
    HANDLER(jcc_legacy_##cc)                                        \
    {                                                               \
        if (soft_cond(vp->status, cc))                              \
            vp->rip = target_legacy(vp, i, vp->block_rip + i->imm); \
        else                                                        \
            vp->rip = vp->block_rip + i->off + i->len;              \
        return soft_chain(vp);                                      \
    }
FOR_CC(JCC)
#define JCC_NAME(cc) jcc_##cc
#define JCC_LEGACY_NAME(cc) jcc_legacy_##cc
insn_fn *const soft_jcc[16] = LIST_CC(JCC_NAME);
insn_fn *const soft_jcc_legacy[16] = LIST_CC(JCC_LEGACY_NAME);

#define JCC_MID(cc)                     \
    HANDLER(jcc_mid_##cc)               \
    {                                   \
        if (!soft_cond(vp->status, cc)) \
            SOFT_NEXT(vp, i);           \
        vp->rip = leave_midway(vp, i);  \
        return soft_chain(vp);          \
    }
static inline uint64_t leave_midway(struct soft_vp *vp, const struct insn *i)
{
    uint64_t rip = vp->block_rip + i->imm;
    rip = i->flags & INSN_NEAR64 ? target64(vp, i, rip) : target_legacy(vp, i, rip);
    soft_count_insns(vp, -(int64_t)i->disp);
    return rip;
}
FOR_CC(JCC_MID)
#define JCC_MID_NAME(cc) jcc_mid_##cc
insn_fn *const soft_jcc_mid[16] = LIST_CC(JCC_MID_NAME);

OP(jmp_mid)
{
    SOFT_NEXT(vp, i);
}

OP(jmp)
{
    vp->rip = target64(vp, i, vp->block_rip + i->imm);
    return soft_chain(vp);
}

OP(jmp_legacy)
{
    vp->rip = target_legacy(vp, i, vp->block_rip + i->imm);
    return soft_chain(vp);
}

static inline void call64(struct soft_vp *vp, const struct insn *i, uint64_t to)
{
    to = target64(vp, i, to);
    push(vp, i, vp->block_rip + i->off + i->len, 64);
    vp->rip = to;
}

OP(call64)
{
    call64(vp, i, vp->block_rip + i->imm);
    return soft_chain(vp);
}

OP(ret64)
{
    uint64_t to = target64(vp, i, top(vp, i, 64));
    vp->gpr[HV_RSP] += 8;
    vp->rip = to;
    return soft_chain(vp);
}

OP(ret64_imm)
{
    uint64_t to = target64(vp, i, top(vp, i, 64));
    vp->gpr[HV_RSP] += 8 + (uint16_t)i->imm;
    vp->rip = to;
    return soft_chain(vp);
}

OP(jmp_r64)
{
    vp->rip = target64(vp, i, RD(64, vp, i->rm));
    return soft_chain(vp);
}

OP(jmp_m64)
{
    vp->rip = target64(vp, i, soft_load64(vp, i, soft_ea(vp, i, 8, false)));
    return soft_chain(vp);
}

OP(call_r64)
{
    call64(vp, i, RD(64, vp, i->rm));
    return soft_chain(vp);
}

OP(call_m64)
{
    call64(vp, i, soft_load64(vp, i, soft_ea(vp, i, 8, false)));
    return soft_chain(vp);
}

static void call_legacy(struct soft_vp *vp, const struct insn *i, uint64_t to, unsigned n)
{
    to = target_legacy(vp, i, to);
    soft_push(vp, i, soft_insn_rip(vp, i) + i->len, n);
    vp->rip = to;
}

#define NEAR(bits)                                                                               \
    HANDLER(call_rel##bits)                                                                      \
    {                                                                                            \
        call_legacy(vp, i, vp->block_rip + i->imm, bits / 8);                                    \
        return soft_chain(vp);                                                                   \
    }                                                                                            \
    HANDLER(ret##bits)                                                                           \
    {                                                                                            \
        uint64_t to = target_legacy(vp, i, top(vp, i, bits));                                    \
        drop_sp(vp, bits / 8 + (uint16_t)i->imm, bits);                                          \
        vp->rip = to;                                                                            \
        return soft_chain(vp);                                                                   \
    }                                                                                            \
    HANDLER(jmp_r##bits)                                                                         \
    {                                                                                            \
        vp->rip = target_legacy(vp, i, RD(bits, vp, i->rm));                                     \
        return soft_chain(vp);                                                                   \
    }                                                                                            \
    HANDLER(jmp_m##bits)                                                                         \
    {                                                                                            \
        vp->rip = target_legacy(vp, i, soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false))); \
        return soft_chain(vp);                                                                   \
    }                                                                                            \
    HANDLER(call_r##bits)                                                                        \
    {                                                                                            \
        call_legacy(vp, i, RD(bits, vp, i->rm), bits / 8);                                       \
        return soft_chain(vp);                                                                   \
    }                                                                                            \
    HANDLER(call_m##bits)                                                                        \
    {                                                                                            \
        call_legacy(vp, i, soft_load##bits(vp, i, soft_ea(vp, i, bits / 8, false)), bits / 8);   \
        return soft_chain(vp);                                                                   \
    }
NEAR(16)
NEAR(32)
insn_fn *const soft_call_rel[4] = {NULL, call_rel16, call_rel32, soft_op_call64};
insn_fn *const soft_ret[4] = {NULL, ret16, ret32, soft_op_ret64_imm};
insn_fn *const soft_jmp_r[4] = {NULL, jmp_r16, jmp_r32, soft_op_jmp_r64};
insn_fn *const soft_jmp_m[4] = {NULL, jmp_m16, jmp_m32, soft_op_jmp_m64};
insn_fn *const soft_call_r[4] = {NULL, call_r16, call_r32, soft_op_call_r64};
insn_fn *const soft_call_m[4] = {NULL, call_m16, call_m32, soft_op_call_m64};

/* LOOPNE, LOOPE, LOOP, JCXZ: imm8 bit 0 as above, the kind in bits 1-2. */
OP(loop)
{
    unsigned kind = i->imm8 >> 1;
    uint64_t mask = i->ea & INSN_EA16 ? 0xffff : i->ea & INSN_EA32 ? 0xffffffffu : ~0ull;
    uint64_t count = vp->gpr[HV_RCX] & mask;
    bool zf = vp->status & ST_ZF, taken = count == 0;
    if (kind != 3) {
        count = (count - 1) & mask;
        taken = count != 0 && (kind == 2 || zf == (kind == 1));
    }
    uint64_t rip = vp->block_rip + i->off + i->len;
    if (taken && i->flags & INSN_NEAR64)
        rip = target64(vp, i, vp->block_rip + i->imm);
    else if (taken)
        rip = target_legacy(vp, i, vp->block_rip + i->imm);
    if (kind != 3) {
        if (mask == 0xffff)
            WR16(vp, 8 * HV_RCX, (uint16_t)count);
        else
            vp->gpr[HV_RCX] = count;
    }
    vp->rip = rip;
    return soft_chain(vp);
}
