/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Segment loads, far transfers, descriptor instructions. Source: SDM vol. 2. */
#include "core/hv/soft/block.h"
#include "core/hv/soft/flags.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

#define ROWW(op)                     \
    {                                \
        NULL, op##16, op##32, op##64 \
    }
#define OP(name) void soft_op_##name(struct soft_vp *vp, const struct insn *i)

static unsigned op_size(const struct insn *i) /* 2, 4, 8: set by the decoder in imm8's high bits */
{
    return i->imm8 >> 4;
}

static void leave(struct soft_vp *vp, const struct insn *i)
{
    vp->rip = soft_insn_rip(vp, i) + i->len;
    soft_chain(vp);
}

/* MOV SS and POP SS hold off interrupts and debug traps for one instruction. */
static void ss_shadow(struct soft_vp *vp, unsigned seg)
{
    if (seg == HV_SS) {
        vp->shadow = 2;
        soft_update_mode(vp);
    }
}

OP(mov_sreg) /* imm8 low bits: which; always ends the block */
{
    unsigned seg = i->imm8 & 7;
    uint16_t sel = i->flags & INSN_MEM ? soft_load16(vp, i, soft_ea(vp, i, 2, false))
                                       : SOFT_REG(uint16_t, vp, i->rm);
    soft_load_seg(vp, i, seg, sel);
    ss_shadow(vp, seg);
    leave(vp, i);
}

OP(mov_from_sreg)
{
    uint16_t sel = vp->seg[i->imm8 & 7].selector;
    switch (op_size(i)) {
    case 2: SOFT_REG(uint16_t, vp, i->rm) = sel; break;
    default: SOFT_REG(uint64_t, vp, i->rm) = sel;
    }
    SOFT_NEXT(vp, i);
}

OP(mov_from_sreg_m)
{
    soft_store16(vp, i, soft_ea(vp, i, 2, true), vp->seg[i->imm8 & 7].selector);
    SOFT_NEXT(vp, i);
}

static void pop_seg(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    unsigned seg = i->imm8 & 7;
    uint16_t sel = (uint16_t)soft_stack_get(vp, i, soft_sp(vp, 0), n);
    uint64_t sp = vp->gpr[HV_RSP] + n;
    soft_load_seg(vp, i, seg, sel);
    soft_set_sp(vp, sp);
    ss_shadow(vp, seg);
    leave(vp, i);
}

HANDLER(pop_seg16)
{
    pop_seg(vp, i, 2);
}

HANDLER(pop_seg32)
{
    pop_seg(vp, i, 4);
}

HANDLER(pop_seg64)
{
    pop_seg(vp, i, 8);
}
insn_fn *const soft_pop_seg[4] = ROWW(pop_seg);

static uint64_t load_n(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned n)
{
    uint64_t v = 0;
    soft_read(vp, i, lin, &v, n);
    return v;
}

static void put_reg(struct soft_vp *vp, unsigned off, uint64_t v, unsigned n)
{
    if (n == 2)
        SOFT_REG(uint16_t, vp, off) = (uint16_t)v;
    else
        SOFT_REG(uint64_t, vp, off) = n == 4 ? (uint32_t)v : v;
}

OP(lseg) /* LES, LDS, LSS, LFS, LGS */
{
    unsigned n = op_size(i);
    uint64_t lin = soft_ea(vp, i, n + 2, false);
    uint64_t v = load_n(vp, i, lin, n);
    uint16_t sel = (uint16_t)load_n(vp, i, lin + n, 2);
    soft_load_seg(vp, i, i->imm8 & 7, sel);
    put_reg(vp, i->reg, v, n);
    leave(vp, i);
}

/* Far jumps and calls. */

static void far_real(struct soft_vp *vp, const struct insn *i, uint16_t sel, uint64_t off)
{
    if (off > vp->seg[HV_CS].limit)
        soft_raise_error(vp, i, EXC_GP, 0);
    struct hv_segment cs = vp->seg[HV_CS];
    cs.selector = sel;
    cs.base = (uint32_t)sel << 4;
    vp->rip = off;
    soft_set_cs(vp, &cs, vp->cpl);
}

static void check_target(struct soft_vp *vp, const struct insn *i, const struct desc *d,
                         const struct hv_segment *cs, uint64_t off)
{
    if (soft_long_mode(vp) && desc_long(d)) {
        if (!soft_canonical(off))
            soft_raise_error(vp, i, EXC_GP, 0);
    } else if (off > cs->limit) {
        soft_raise_error(vp, i, EXC_GP, 0);
    }
}

static void check_code(struct soft_vp *vp, const struct insn *i, uint16_t sel, const struct desc *d)
{
    bool bad = desc_conforming(d) ? desc_dpl(d) > vp->cpl
                                  : (unsigned)(sel & 3) > vp->cpl || desc_dpl(d) != vp->cpl;
    if (bad || (soft_long_mode(vp) && desc_long(d) && desc_big(d)))
        soft_raise_sel(vp, i, EXC_GP, sel);
    if (!desc_present(d))
        soft_raise_sel(vp, i, EXC_NP, sel);
}

struct call_gate {
    uint16_t sel;
    uint64_t off;
    unsigned params, size;
};

static void read_call_gate(struct soft_vp *vp, const struct insn *i, uint16_t sel,
                           const struct desc *d, struct call_gate *g, struct desc *code)
{
    unsigned type = desc_type(d);
    if (desc_dpl(d) < vp->cpl || desc_dpl(d) < (unsigned)(sel & 3))
        soft_raise_sel(vp, i, EXC_GP, sel);
    if (!desc_present(d))
        soft_raise_sel(vp, i, EXC_NP, sel);
    g->size = soft_long_mode(vp) ? 8 : type == 12 ? 4 : 2;
    g->sel = (uint16_t)(d->raw >> 16);
    g->params = d->raw >> 32 & 31;
    g->off = (d->raw & 0xffff) | (type == 12 ? d->raw >> 32 & 0xffff0000u : 0);
    if (soft_long_mode(vp)) {
        if (d->high >> 40 & 31)
            soft_raise_sel(vp, i, EXC_GP, sel);
        g->off |= d->high << 32;
        g->params = 0;
    }
    if (!(g->sel & 0xfffc))
        soft_raise_error(vp, i, EXC_GP, 0);
    soft_desc_read(vp, i, g->sel, EXC_GP, code);
    if (!desc_code(code) || desc_dpl(code) > vp->cpl ||
        (soft_long_mode(vp) && (!desc_long(code) || desc_big(code))))
        soft_raise_sel(vp, i, EXC_GP, g->sel);
    if (!desc_present(code))
        soft_raise_sel(vp, i, EXC_NP, g->sel);
}

static void far_jump(struct soft_vp *vp, const struct insn *i, uint16_t sel, uint64_t off)
{
    struct desc d;
    struct hv_segment cs;
    if (!soft_protected(vp)) {
        far_real(vp, i, sel, off);
        return;
    }
    if (!(sel & 0xfffc))
        soft_raise_error(vp, i, EXC_GP, 0);
    soft_desc_read(vp, i, sel, EXC_GP, &d);
    unsigned type = desc_type(&d);
    if (!desc_s(&d) && type == 12) {
        struct call_gate g;
        struct desc code;
        read_call_gate(vp, i, sel, &d, &g, &code);
        if (!desc_conforming(&code) && desc_dpl(&code) != vp->cpl)
            soft_raise_sel(vp, i, EXC_GP, g.sel);
        d = code;
        sel = g.sel;
        off = g.off;
    } else if (!desc_s(&d) && !soft_long_mode(vp) && (type == 1 || type == 9 || type == 5)) {
        if (desc_dpl(&d) < vp->cpl || desc_dpl(&d) < (unsigned)(sel & 3))
            soft_raise_sel(vp, i, EXC_GP, sel);
        if (!desc_present(&d))
            soft_raise_sel(vp, i, EXC_NP, sel);
        soft_task_switch(vp, i, type == 5 ? (uint16_t)(d.raw >> 16) : sel, TASK_JMP,
                         soft_insn_rip(vp, i) + i->len);
        return;
    } else if (!desc_code(&d)) {
        soft_raise_sel(vp, i, EXC_GP, sel);
    } else {
        check_code(vp, i, sel, &d);
    }
    soft_desc_to_seg(&d, (uint16_t)((sel & ~3u) | vp->cpl), false, &cs);
    check_target(vp, i, &d, &cs, off);
    soft_desc_mark(vp, i, &d);
    vp->rip = off;
    soft_set_cs(vp, &cs, vp->cpl);
}

/* A call gate to an inner ring: new stack, parameters copied. */
static void call_inner(struct soft_vp *vp, const struct insn *i, const struct call_gate *g,
                       struct desc *code)
{
    unsigned cpl = desc_dpl(code), n = g->size;
    struct hv_segment ss = {.selector = (uint16_t)cpl, .attrib = (uint16_t)(cpl << 5)}, cs;
    uint64_t sp, mask = ~0ull, v[36];
    uint16_t sel;
    soft_tss_stack(vp, i, cpl, &sel, &sp);
    if (!soft_long_mode(vp)) {
        soft_check_ss(vp, i, sel, cpl, EXC_TS, &ss);
        mask = ss.attrib & SEG_D ? 0xffffffffu : 0xffff;
    }
    unsigned k = 0;
    v[k++] = soft_insn_rip(vp, i) + i->len;
    v[k++] = vp->seg[HV_CS].selector;
    for (unsigned p = 0; p < g->params; p++)
        v[k++] = soft_stack_get(vp, i, soft_sp(vp, (int64_t)p * n), n);
    v[k++] = vp->gpr[HV_RSP];
    v[k++] = vp->seg[HV_SS].selector;
    soft_desc_to_seg(code, (uint16_t)((g->sel & ~3u) | cpl), false, &cs);
    check_target(vp, i, code, &cs, g->off);
    while (k--) {
        sp = (sp - n) & mask;
        if (!soft_long_mode(vp) && !(ss.attrib & SEG_E) && sp + n - 1 > ss.limit)
            soft_raise_sel(vp, i, EXC_SS, ss.selector);
        soft_write_as(vp, i, cpl, soft_long_mode(vp) ? sp : (uint32_t)(ss.base + sp), &v[k], n);
    }
    soft_desc_mark(vp, i, code);
    vp->rip = g->off;
    soft_set_cs(vp, &cs, cpl);
    soft_set_seg(vp, HV_SS, &ss);
    soft_set_sp(vp, sp);
}

static void push_back(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    uint64_t sp = soft_sp(vp, -2 * (int64_t)n);
    soft_stack_put(vp, i, (sp + n) & vp->stack_mask, vp->seg[HV_CS].selector, n);
    soft_stack_put(vp, i, sp, soft_insn_rip(vp, i) + i->len, n);
    vp->far_sp = sp;
}

static void far_call(struct soft_vp *vp, const struct insn *i, uint16_t sel, uint64_t off)
{
    struct desc d;
    struct hv_segment cs;
    unsigned n = op_size(i);
    if (!soft_protected(vp)) {
        if (off > vp->seg[HV_CS].limit)
            soft_raise_error(vp, i, EXC_GP, 0);
        push_back(vp, i, n);
        soft_set_sp(vp, vp->far_sp);
        far_real(vp, i, sel, off);
        return;
    }
    if (!(sel & 0xfffc))
        soft_raise_error(vp, i, EXC_GP, 0);
    soft_desc_read(vp, i, sel, EXC_GP, &d);
    unsigned type = desc_type(&d);
    if (!desc_s(&d) && (type == 12 || (type == 4 && !soft_long_mode(vp)))) {
        struct call_gate g;
        struct desc code;
        read_call_gate(vp, i, sel, &d, &g, &code);
        if (!desc_conforming(&code) && desc_dpl(&code) < vp->cpl) {
            call_inner(vp, i, &g, &code);
            return;
        }
        d = code;
        sel = g.sel;
        off = g.off;
        n = g.size;
    } else if (!desc_s(&d) && !soft_long_mode(vp) && (type == 1 || type == 9 || type == 5)) {
        if (desc_dpl(&d) < vp->cpl || desc_dpl(&d) < (unsigned)(sel & 3))
            soft_raise_sel(vp, i, EXC_GP, sel);
        if (!desc_present(&d))
            soft_raise_sel(vp, i, EXC_NP, sel);
        soft_task_switch(vp, i, type == 5 ? (uint16_t)(d.raw >> 16) : sel, TASK_CALL,
                         soft_insn_rip(vp, i) + i->len);
        return;
    } else if (!desc_code(&d)) {
        soft_raise_sel(vp, i, EXC_GP, sel);
    } else {
        check_code(vp, i, sel, &d);
    }
    soft_desc_to_seg(&d, (uint16_t)((sel & ~3u) | vp->cpl), false, &cs);
    check_target(vp, i, &d, &cs, off);
    push_back(vp, i, n);
    soft_desc_mark(vp, i, &d);
    uint64_t sp = vp->far_sp;
    soft_set_sp(vp, sp);
    vp->rip = off;
    soft_set_cs(vp, &cs, vp->cpl);
}

static uint64_t far_operand(struct soft_vp *vp, const struct insn *i, uint16_t *sel)
{
    unsigned n = op_size(i);
    uint64_t lin = soft_ea(vp, i, n + 2, false);
    uint64_t off = load_n(vp, i, lin, n);
    *sel = (uint16_t)load_n(vp, i, lin + n, 2);
    return off;
}

OP(far_jmp) /* imm: offset | selector << 32 */
{
    far_jump(vp, i, (uint16_t)(i->imm >> 32), (uint32_t)i->imm);
}

OP(far_call)
{
    far_call(vp, i, (uint16_t)(i->imm >> 32), (uint32_t)i->imm);
}

OP(far_jmp_m)
{
    uint16_t sel;
    uint64_t off = far_operand(vp, i, &sel);
    far_jump(vp, i, sel, off);
}

OP(far_call_m)
{
    uint16_t sel;
    uint64_t off = far_operand(vp, i, &sel);
    far_call(vp, i, sel, off);
}

/* Returns. */

/* CS of a far return or IRET in protected mode, checked. */
static unsigned return_cs(struct soft_vp *vp, const struct insn *i, uint16_t sel, struct desc *d)
{
    unsigned rpl = sel & 3;
    if (!(sel & 0xfffc))
        soft_raise_error(vp, i, EXC_GP, 0);
    soft_desc_read(vp, i, sel, EXC_GP, d);
    if (!desc_code(d) || rpl < vp->cpl ||
        (desc_conforming(d) ? desc_dpl(d) > rpl : desc_dpl(d) != rpl) ||
        (soft_long_mode(vp) && desc_long(d) && desc_big(d)))
        soft_raise_sel(vp, i, EXC_GP, sel);
    if (!desc_present(d))
        soft_raise_sel(vp, i, EXC_NP, sel);
    return rpl;
}

static void return_ss(struct soft_vp *vp, const struct insn *i, uint16_t sel, unsigned rpl,
                      bool to64, struct hv_segment *ss)
{
    if (!(sel & 0xfffc)) {
        if (!to64 || rpl == 3 || (sel & 3u) != rpl)
            soft_raise_error(vp, i, EXC_GP, 0);
        *ss = (struct hv_segment){.selector = sel, .attrib = (uint16_t)(rpl << 5)};
        return;
    }
    soft_check_ss(vp, i, sel, rpl, EXC_GP, ss);
}

OP(retf)
{
    unsigned n = op_size(i);
    uint64_t extra = (uint16_t)i->imm;
    uint64_t rip = soft_stack_get(vp, i, soft_sp(vp, 0), n);
    uint16_t sel = (uint16_t)soft_stack_get(vp, i, soft_sp(vp, n), n);
    if (!soft_protected(vp)) {
        far_real(vp, i, sel, rip);
        soft_set_sp(vp, vp->gpr[HV_RSP] + 2 * n + extra);
        return;
    }
    struct desc d;
    struct hv_segment cs, ss;
    unsigned rpl = return_cs(vp, i, sel, &d), old = vp->cpl;
    bool to64 = soft_long_mode(vp) && desc_long(&d);
    uint64_t sp = vp->gpr[HV_RSP] + 2 * n + extra;
    soft_desc_to_seg(&d, sel, false, &cs);
    check_target(vp, i, &d, &cs, rip);
    if (rpl != old) {
        sp = soft_stack_get(vp, i, soft_sp(vp, (int64_t)(2 * n + extra)), n);
        uint16_t ss_sel = (uint16_t)soft_stack_get(vp, i, soft_sp(vp, (int64_t)(3 * n + extra)), n);
        return_ss(vp, i, ss_sel, rpl, to64, &ss);
    }
    soft_desc_mark(vp, i, &d);
    vp->rip = rip;
    soft_set_cs(vp, &cs, rpl);
    if (rpl != old) {
        soft_set_seg(vp, HV_SS, &ss);
        soft_set_sp(vp, sp + extra);
        soft_drop_segs(vp);
    } else {
        soft_set_sp(vp, sp);
    }
}

static void set_flags(struct soft_vp *vp, uint64_t fl, uint32_t may)
{
    vp->eflags = (vp->eflags & ~may) | ((uint32_t)fl & may & ~(uint32_t)FL_ARITH) | 2;
    soft_set_arith(vp, fl);
}

static uint32_t iret_flags(const struct soft_vp *vp, unsigned n)
{
    uint32_t may = FL_TF | FL_DF | FL_NT;
    if (n != 2)
        may |= FL_RF | FL_AC | FL_ID;
    if (vp->cpl <= (vp->eflags & FL_IOPL) >> 12)
        may |= FL_IF;
    if (vp->cpl == 0) {
        may |= FL_IOPL;
        if (n != 2)
            may |= FL_VIF | FL_VIP;
    }
    return may;
}

static void iret_real(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    bool v86 = vp->eflags & FL_VM;
    uint64_t rip = soft_stack_get(vp, i, soft_sp(vp, 0), n);
    uint16_t sel = (uint16_t)soft_stack_get(vp, i, soft_sp(vp, n), n);
    uint64_t fl = soft_stack_get(vp, i, soft_sp(vp, 2 * n), n);
    uint32_t may = FL_TF | FL_DF | FL_NT | FL_IF | (n != 2 ? FL_RF | FL_AC | FL_ID : 0);
    if (v86 && (vp->eflags & FL_IOPL) != FL_IOPL) { /* VME, 16 bits: checked by the caller */
        if (((fl & FL_IF) && (vp->eflags & FL_VIP)) || (fl & FL_TF))
            soft_raise_error(vp, i, EXC_GP, 0);
        may = FL_DF | FL_NT | FL_VIF;
        fl = (fl & ~(uint64_t)FL_VIF) | (fl & FL_IF ? FL_VIF : 0);
    } else if (!v86) {
        may |= FL_IOPL;
    }
    far_real(vp, i, sel, n == 2 ? (uint16_t)rip : rip);
    soft_set_sp(vp, vp->gpr[HV_RSP] + 3 * n);
    set_flags(vp, fl, may);
    soft_update_mode(vp);
}

static void iret_to_v86(struct soft_vp *vp, const struct insn *i, uint64_t rip, uint16_t cs,
                        uint64_t fl)
{
    uint64_t v[6]; /* esp ss es ds fs gs */
    for (unsigned k = 0; k < 6; k++)
        v[k] = soft_stack_get(vp, i, soft_sp(vp, 12 + 4 * (int64_t)k), 4);
    set_flags(vp, fl, ~(uint32_t)FL_ARITH & 0x3f7fd5);
    vp->cpl = 3;
    vp->rip = (uint16_t)rip;
    vp->gpr[HV_RSP] = v[0];
    static const uint8_t segs[5] = {HV_SS, HV_ES, HV_DS, HV_FS, HV_GS};
    for (unsigned k = 0; k < 5; k++)
        soft_load_seg(vp, i, segs[k], (uint16_t)v[k + 1]);
    struct hv_segment c = {(uint64_t)cs << 4, 0xffff, cs, 0xf3};
    soft_set_cs(vp, &c, 3);
}

static void iret_protected(struct soft_vp *vp, const struct insn *i, unsigned n)
{
    bool lm = soft_long_mode(vp);
    uint64_t rip = soft_stack_get(vp, i, soft_sp(vp, 0), n);
    uint16_t sel = (uint16_t)soft_stack_get(vp, i, soft_sp(vp, n), n);
    uint64_t fl = soft_stack_get(vp, i, soft_sp(vp, 2 * n), n);
    if (!lm && n == 4 && (fl & FL_VM) && vp->cpl == 0) {
        iret_to_v86(vp, i, rip, sel, fl);
        return;
    }
    struct desc d;
    struct hv_segment cs, ss;
    unsigned rpl = return_cs(vp, i, sel, &d), old = vp->cpl;
    bool to64 = lm && desc_long(&d), stack = rpl != old || vp->code == SOFT_MODE64;
    uint64_t sp = vp->gpr[HV_RSP] + 3 * n;
    soft_desc_to_seg(&d, sel, false, &cs);
    check_target(vp, i, &d, &cs, rip);
    if (stack) {
        sp = soft_stack_get(vp, i, soft_sp(vp, 3 * n), n);
        return_ss(vp, i, (uint16_t)soft_stack_get(vp, i, soft_sp(vp, 4 * n), n), rpl, to64, &ss);
    }
    soft_desc_mark(vp, i, &d);
    uint32_t may = iret_flags(vp, n);
    vp->rip = rip;
    set_flags(vp, fl, may);
    soft_set_cs(vp, &cs, rpl);
    if (stack) {
        soft_set_seg(vp, HV_SS, &ss);
        if (n == 8 && !to64) /* the whole of RSP is popped, SS decides what counts */
            vp->gpr[HV_RSP] = sp;
        else
            soft_set_sp(vp, sp);
    } else {
        soft_set_sp(vp, sp);
    }
    if (rpl != old)
        soft_drop_segs(vp);
}

OP(iret)
{
    unsigned n = op_size(i);
    if (!soft_protected(vp)) {
        if ((vp->eflags & FL_VM) && (vp->eflags & FL_IOPL) != FL_IOPL &&
            (n != 2 || !(vp->cr4 & CR4_VME)))
            soft_raise_error(vp, i, EXC_GP, 0);
        iret_real(vp, i, n);
    } else if (vp->eflags & FL_NT) {
        if (soft_long_mode(vp))
            soft_raise_error(vp, i, EXC_GP, 0);
        uint16_t back;
        soft_sys_read(vp, i, vp->seg[HV_TR].base, &back, 2);
        soft_task_switch(vp, i, back, TASK_IRET, soft_insn_rip(vp, i) + i->len);
    } else {
        iret_protected(vp, i, n);
    }
    vp->nmi_blocked = false;
    soft_update_mode(vp);
}

OP(int)
{
    soft_software_interrupt(vp, i, i->imm8, EVENT_INT);
}

OP(int3)
{
    soft_software_interrupt(vp, i, EXC_BP, EVENT_INT3);
}

OP(into)
{
    if (vp->status & ST_OF)
        soft_software_interrupt(vp, i, EXC_OF, EVENT_INT3);
    else
        leave(vp, i);
}

OP(int1)
{
    vp->rip = soft_insn_rip(vp, i);
    vp->dr6 |= vp->db_pending & 15; /* held off by a MOV SS before it */
    vp->db_pending = 0;
    soft_deliver(vp, EVENT_HARDWARE, EXC_DB, false, 0, vp->rip + i->len);
}

OP(bound)
{
    unsigned n = op_size(i);
    uint64_t lin = soft_ea(vp, i, 2 * n, false);
    uint64_t lo = load_n(vp, i, lin, n), hi = load_n(vp, i, lin + n, n);
    int64_t v = n == 2 ? SOFT_REG(int16_t, vp, i->reg) : SOFT_REG(int32_t, vp, i->reg);
    int64_t l = n == 2 ? (int16_t)lo : (int32_t)lo, h = n == 2 ? (int16_t)hi : (int32_t)hi;
    if (v < l || v > h)
        soft_raise(vp, i, EXC_BR);
    SOFT_NEXT(vp, i);
}

/* Descriptor instructions. */

static void set_zf(struct soft_vp *vp, bool z)
{
    vp->status = (uint16_t)((vp->status & ~ST_ZF) | (z ? ST_ZF : 0));
}

static uint16_t operand16(struct soft_vp *vp, const struct insn *i)
{
    return i->flags & INSN_MEM ? soft_load16(vp, i, soft_ea(vp, i, 2, false))
                               : SOFT_REG(uint16_t, vp, i->rm);
}

OP(arpl)
{
    if (!soft_protected(vp))
        soft_raise(vp, i, EXC_UD);
    uint16_t src = SOFT_REG(uint16_t, vp, i->reg);
    uint64_t lin = i->flags & INSN_MEM ? soft_ea(vp, i, 2, false) : 0;
    uint16_t dst = i->flags & INSN_MEM ? soft_load16(vp, i, lin) : SOFT_REG(uint16_t, vp, i->rm);
    bool less = (dst & 3) < (src & 3);
    if (less)
        dst = (uint16_t)((dst & ~3u) | (src & 3));
    if (less && (i->flags & INSN_MEM))
        soft_store16(vp, i, soft_ea(vp, i, 2, true), dst);
    else if (less)
        SOFT_REG(uint16_t, vp, i->rm) = dst;
    set_zf(vp, less);
    SOFT_NEXT(vp, i);
}

static bool visible(const struct soft_vp *vp, uint16_t sel, const struct desc *d)
{
    if (desc_code(d) && desc_conforming(d))
        return true;
    return desc_dpl(d) >= vp->cpl && desc_dpl(d) >= (unsigned)(sel & 3);
}

static bool lar_type(const struct soft_vp *vp, unsigned type, bool lsl)
{
    bool lm = soft_long_mode(vp);
    switch (type) {
    case 1:
    case 3: return !lm;
    case 2:
    case 9:
    case 11: return true;
    case 4:
    case 5: return !lm && !lsl;
    case 12: return !lsl;
    default: return false;
    }
}

static void lar_lsl(struct soft_vp *vp, const struct insn *i, bool lsl)
{
    struct desc d;
    if (!soft_protected(vp))
        soft_raise(vp, i, EXC_UD);
    uint16_t sel = operand16(vp, i);
    bool ok = soft_desc_try(vp, i, sel, &d) && visible(vp, sel, &d) &&
              (desc_s(&d) || lar_type(vp, desc_type(&d), lsl));
    if (ok) {
        struct hv_segment s;
        soft_desc_to_seg(&d, sel, false, &s);
        put_reg(vp, i->reg, lsl ? s.limit : (uint32_t)(d.raw >> 32) & 0xffff00,
                op_size(i) == 2 ? 2 : 4);
    }
    set_zf(vp, ok);
}

OP(lar)
{
    lar_lsl(vp, i, false);
    SOFT_NEXT(vp, i);
}

OP(lsl)
{
    lar_lsl(vp, i, true);
    SOFT_NEXT(vp, i);
}

static bool verify(struct soft_vp *vp, const struct insn *i, uint16_t sel, bool write)
{
    struct desc d;
    if (!soft_desc_try(vp, i, sel, &d) || !desc_s(&d) || !visible(vp, sel, &d))
        return false;
    if (write)
        return !desc_code(&d) && (desc_type(&d) & SEG_W);
    return !desc_code(&d) || (desc_type(&d) & SEG_R);
}

/* The descriptor of an LDT or a TSS; 16 bytes with a canonical base in long mode. */
static void system_desc(struct soft_vp *vp, const struct insn *i, uint16_t sel, struct desc *d,
                        struct hv_segment *s)
{
    if (!desc_present(d))
        soft_raise_sel(vp, i, EXC_NP, sel);
    soft_desc_to_seg(d, sel, soft_long_mode(vp), s);
    if (soft_long_mode(vp) && !soft_canonical(s->base))
        soft_raise_sel(vp, i, EXC_GP, sel);
}

static void load_ldt(struct soft_vp *vp, const struct insn *i, uint16_t sel)
{
    struct desc d;
    struct hv_segment s = {.selector = sel};
    if (sel & 0xfffc) {
        if (sel & 4)
            soft_raise_sel(vp, i, EXC_GP, sel);
        soft_desc_read(vp, i, sel, EXC_GP, &d);
        if (desc_s(&d) || desc_type(&d) != 2)
            soft_raise_sel(vp, i, EXC_GP, sel);
        system_desc(vp, i, sel, &d, &s);
    }
    vp->seg[HV_LDTR] = s;
}

static void load_tr(struct soft_vp *vp, const struct insn *i, uint16_t sel)
{
    struct desc d;
    struct hv_segment s;
    if (!(sel & 0xfffc))
        soft_raise_error(vp, i, EXC_GP, 0);
    if (sel & 4)
        soft_raise_sel(vp, i, EXC_GP, sel);
    soft_desc_read(vp, i, sel, EXC_GP, &d);
    unsigned type = desc_type(&d);
    if (desc_s(&d) || !(type == 9 || (type == 1 && !soft_long_mode(vp))))
        soft_raise_sel(vp, i, EXC_GP, sel);
    system_desc(vp, i, sel, &d, &s);
    uint8_t busy = (uint8_t)(d.raw >> 40 | 2);
    soft_sys_write(vp, i, d.at + 5, &busy, 1);
    s.attrib |= 2;
    vp->seg[HV_TR] = s;
}

OP(grp6) /* SLDT STR LLDT LTR VERR VERW */
{
    unsigned op = i->modrm >> 3 & 7;
    if (!soft_protected(vp) || op > 5)
        soft_raise(vp, i, EXC_UD);
    if (op < 2) {
        if (vp->cpl && (vp->cr4 & CR4_UMIP))
            soft_raise_error(vp, i, EXC_GP, 0);
        uint16_t sel = vp->seg[op ? HV_TR : HV_LDTR].selector;
        if (i->flags & INSN_MEM)
            soft_store16(vp, i, soft_ea(vp, i, 2, true), sel);
        else
            put_reg(vp, i->rm, sel, op_size(i));
    } else if (op < 4) {
        if (vp->cpl)
            soft_raise_error(vp, i, EXC_GP, 0);
        if (op == 2)
            load_ldt(vp, i, operand16(vp, i));
        else
            load_tr(vp, i, operand16(vp, i));
    } else {
        set_zf(vp, verify(vp, i, operand16(vp, i), op == 5));
    }
    SOFT_NEXT(vp, i);
}
