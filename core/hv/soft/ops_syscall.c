/* SPDX-License-Identifier: GPL-3.0-or-later */
/* System calls, and the bases of FS and GS that they live with. Source: SDM vol. 2. */
#include "core/hv/soft/block.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

#define OP(name) void soft_op_##name(struct soft_vp *vp, const struct insn *i)

static inline void need_cpl0(struct soft_vp *vp, const struct insn *i)
{
    if (SOFT_UNLIKELY(vp->cpl))
        soft_raise_error(vp, i, EXC_GP, 0);
}

static const struct hv_segment flat_code64 = {0, 0xffffffff, 0, 0xa09b};
static const struct hv_segment flat_data = {0, 0xffffffff, 0, 0xc093};

static struct hv_segment flat(const struct hv_segment *s, uint64_t sel, unsigned dpl)
{
    struct hv_segment r = *s;
    r.selector = (uint16_t)((sel & 0xfffc) | dpl);
    r.attrib |= (uint16_t)(dpl << 5);
    return r;
}

/* Sets CS, SS and CPL; soft_update_mode is to follow. */
static void flat_switch(struct soft_vp *vp, uint64_t cs_sel, uint64_t ss_sel, unsigned cpl,
                        bool wide)
{
    struct hv_segment cs = flat(&flat_code64, cs_sel, cpl), ss = flat(&flat_data, ss_sel, cpl);
    if (!wide)
        cs.attrib = (uint16_t)((cs.attrib & ~SEG_L) | SEG_D);
    vp->seg[HV_SS] = ss;
    vp->seg[HV_CS] = cs;
    soft_seg_update(vp, HV_SS);
    soft_seg_update(vp, HV_CS);
    vp->cpl = (uint8_t)cpl;
}

/* SYSCALL and SYSRET trap at once if TF is set when they end. */
static void syscall_end(struct soft_vp *vp)
{
    vp->entered = true;
    soft_update_mode(vp);
    if (vp->eflags & FL_TF) {
        vp->dr6 |= 0x4000;
        soft_raise(vp, NULL, EXC_DB);
    }
    soft_chain(vp);
}

OP(syscall)
{
    bool from64 = vp->code == SOFT_MODE64;
    if (!(vp->efer & EFER_SCE) || (!vp->soft->amd && !from64) || !soft_protected(vp))
        soft_raise(vp, i, EXC_UD);
    uint64_t next = soft_insn_rip(vp, i) + i->len, fl = soft_rflags(vp);
    uint64_t sel = vp->star >> 32 & 0xffff;
    if (soft_long_mode(vp)) {
        vp->gpr[HV_RCX] = next;
        vp->gpr[HV_R11] = fl & ~(uint64_t)FL_RF;
        fl &= ~vp->sfmask;
        vp->rip = from64 ? vp->lstar : vp->cstar;
        flat_switch(vp, sel, sel + 8, 0, true);
    } else {
        vp->gpr[HV_RCX] = (uint32_t)next;
        fl &= ~(uint64_t)(FL_IF | FL_VM);
        vp->rip = (uint32_t)vp->star;
        flat_switch(vp, sel, sel + 8, 0, false);
    }
    vp->eflags = (uint32_t)(fl & ~(uint64_t)(FL_ARITH | FL_RF)) | 2;
    soft_set_arith(vp, fl);
    syscall_end(vp);
}

OP(sysret)
{
    bool to64 = i->flags & INSN_REXW;
    if (!(vp->efer & EFER_SCE) || (!vp->soft->amd && vp->code != SOFT_MODE64) ||
        !soft_protected(vp))
        soft_raise(vp, i, EXC_UD);
    need_cpl0(vp, i);
    uint64_t sel = vp->star >> 48, to = vp->gpr[HV_RCX];
    if (to64 && !soft_canonical(to))
        soft_raise_error(vp, i, EXC_GP, 0);
    if (soft_long_mode(vp)) {
        uint64_t fl = vp->gpr[HV_R11];
        vp->eflags = (uint32_t)(fl & 0x3c7fd7 & ~FL_ARITH) | 2;
        soft_set_arith(vp, fl);
    } else {
        vp->eflags |= FL_IF;
    }
    vp->rip = to64 ? to : (uint32_t)to;
    flat_switch(vp, (to64 ? sel + 16 : sel) | 3, (sel + 8) | 3, 3, to64);
    syscall_end(vp);
}

OP(sysenter)
{
    if (vp->soft->amd && soft_long_mode(vp))
        soft_raise(vp, i, EXC_UD);
    if (!(vp->cr0 & CR0_PE) || !(vp->sysenter_cs & 0xfffc))
        soft_raise_error(vp, i, EXC_GP, 0);
    bool lm = soft_long_mode(vp);
    vp->eflags &= ~(uint32_t)(FL_VM | FL_IF);
    vp->rip = lm ? vp->sysenter_eip : (uint32_t)vp->sysenter_eip;
    vp->gpr[HV_RSP] = lm ? vp->sysenter_esp : (uint32_t)vp->sysenter_esp;
    flat_switch(vp, vp->sysenter_cs, (vp->sysenter_cs & 0xfffc) + 8, 0, lm);
    soft_update_mode(vp);
    soft_chain(vp);
}

OP(sysexit)
{
    bool to64 = i->flags & INSN_REXW;
    if (vp->soft->amd && soft_long_mode(vp))
        soft_raise(vp, i, EXC_UD);
    if (!(vp->cr0 & CR0_PE) || !(vp->sysenter_cs & 0xfffc) || vp->cpl)
        soft_raise_error(vp, i, EXC_GP, 0);
    uint64_t ip = vp->gpr[HV_RDX], sp = vp->gpr[HV_RCX];
    if (to64 && (!soft_canonical(ip) || !soft_canonical(sp)))
        soft_raise_error(vp, i, EXC_GP, 0);
    vp->rip = to64 ? ip : (uint32_t)ip;
    vp->gpr[HV_RSP] = to64 ? sp : (uint32_t)sp;
    uint64_t sel = (vp->sysenter_cs & 0xfffc) + (to64 ? 32 : 16);
    flat_switch(vp, sel, sel + 8, 3, to64);
    soft_update_mode(vp);
    soft_chain(vp);
}

OP(swapgs)
{
    if (vp->code != SOFT_MODE64)
        soft_raise(vp, i, EXC_UD);
    need_cpl0(vp, i);
    uint64_t v = vp->kernel_gs_base;
    vp->kernel_gs_base = vp->seg[HV_GS].base;
    vp->seg[HV_GS].base = v;
    SOFT_NEXT(vp, i);
}

OP(fsgsbase) /* F3 0F AE /0-/3 reg: RDFSBASE RDGSBASE WRFSBASE WRGSBASE */
{
    unsigned op = i->modrm >> 3 & 3;
    if (!(vp->cr4 & CR4_FSGSBASE))
        soft_raise(vp, i, EXC_UD);
    uint64_t *base = &vp->seg[op & 1 ? HV_GS : HV_FS].base;
    uint64_t *reg = &SOFT_REG(uint64_t, vp, i->rm);
    bool wide = i->flags & INSN_REXW;
    if (op < 2) {
        *reg = wide ? *base : (uint32_t)*base;
    } else {
        uint64_t v = wide ? *reg : (uint32_t)*reg;
        if (!soft_canonical(v))
            soft_raise_error(vp, i, EXC_GP, 0);
        *base = v;
    }
    SOFT_NEXT(vp, i);
}
