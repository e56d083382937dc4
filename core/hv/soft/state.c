/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A VP's state as a whole: what follows from it, reset, and exchange with hv_vp_state. */
#include "core/hv/soft/jit.h"
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

static unsigned code_size(const struct soft_vp *vp)
{
    if (soft_long_mode(vp) && (vp->seg[HV_CS].attrib & SEG_L))
        return SOFT_MODE64;
    return vp->seg[HV_CS].attrib & SEG_D ? SOFT_MODE32 : SOFT_MODE16;
}

static bool whole(const struct soft_vp *vp, unsigned seg)
{
    return !vp->seg[seg].base && vp->seg_read[seg] && vp->seg_write[seg];
}

bool soft_flat(const struct soft_vp *vp)
{
    return vp->code == SOFT_MODE32 && !vp->seg[HV_CS].base && vp->seg[HV_CS].limit == 0xffffffffu &&
           whole(vp, HV_DS) && whole(vp, HV_ES) && whole(vp, HV_SS) &&
           vp->stack_mask == 0xffffffffu;
}

void soft_update_mode(struct soft_vp *vp)
{
    vp->code = (uint8_t)code_size(vp);
    if (vp->code == SOFT_MODE64)
        vp->stack_mask = ~0ull;
    else
        vp->stack_mask = vp->seg[HV_SS].attrib & SEG_D ? 0xffffffffu : 0xffff;
    bool single = (vp->eflags & (FL_TF | FL_RF)) || vp->shadow || (vp->dr7 & 0xff);
    vp->fpu_gate = (vp->cr0 & (CR0_EM | CR0_TS)) || !(vp->cr4 & CR4_OSFXSR);
    uint64_t mode = vp->code | (single ? SOFT_MODE_SINGLE : 0) |
                    (vp->cpl == 3 ? SOFT_MODE_USER : 0) | (soft_flat(vp) ? SOFT_MODE_FLAT : 0);
    vp->jump_key[0] = (vp->jump_key[0] & ~0xffull) | mode;
    vp->jump_key[1] = (vp->jump_key[1] & ~0xffull) | mode;
    if ((vp->cpl == 3) != vp->ret_user) {
        struct soft_ret *other = vp->ret_other;
        vp->ret_other = vp->ret_top;
        vp->ret_top = other;
        vp->ret_user = !vp->ret_user;
    }
    if (vp->code == SOFT_MODE64 || (mode & SOFT_MODE_FLAT)) /* translated code has no other */
        soft_jit_ring_mode(vp, vp->code);
    soft_mmu_update(vp);
    if (!vp->held && !single)
        return;
    /* attn is shared: no locked operation when the bit is there already */
    if (!(atomic_load_explicit(&vp->attn, memory_order_relaxed) & ATTN_SELF))
        atomic_fetch_or(&vp->attn, ATTN_SELF);
}

static void load_fx(struct soft_vp *vp, const uint8_t *xsave)
{
    memcpy(&vp->fx, xsave, sizeof vp->fx);
    vp->fx.mxcsr &= 0xffff;
    vp->fx.mxcsr_mask = 0xffff;
}

static void get_regs(const struct soft_vp *vp, struct hv_vp_state *s)
{
    memcpy(s->gpr, vp->gpr, sizeof s->gpr);
    s->rip = vp->rip;
    s->rflags = soft_rflags(vp);
    memcpy(s->seg, vp->seg, sizeof s->seg);
    s->gdtr = vp->gdtr;
    s->idtr = vp->idtr;
    s->cr0 = vp->cr0;
    s->cr2 = vp->cr2;
    s->cr3 = vp->cr3;
    s->cr4 = vp->cr4;
    s->cr8 = soft_lapic_tpr(vp->lapic) >> 4;
    s->xcr0 = vp->xcr0;
    memcpy(s->dr, vp->dr, sizeof s->dr);
    s->dr6 = vp->dr6;
    s->dr7 = vp->dr7;
}

static void get_msrs(const struct soft_vp *vp, struct hv_vp_state *s)
{
    s->efer = vp->efer;
    s->star = vp->star;
    s->lstar = vp->lstar;
    s->cstar = vp->cstar;
    s->sfmask = vp->sfmask;
    s->kernel_gs_base = vp->kernel_gs_base;
    s->sysenter_cs = vp->sysenter_cs;
    s->sysenter_eip = vp->sysenter_eip;
    s->sysenter_esp = vp->sysenter_esp;
    s->pat = vp->pat;
    s->apic_base = soft_lapic_base(vp->lapic);
    s->tsc_aux = vp->tsc_aux;
    s->misc_enable = vp->misc_enable;
    s->spec_ctrl = vp->spec_ctrl;
    s->debugctl = vp->debugctl;
    s->tsc = soft_tsc(vp);
    s->tsc_adjust = vp->tsc_adjust;
    s->mtrr_def_type = vp->mtrr_def_type;
    memcpy(s->mtrr_fixed, vp->mtrr_fixed, sizeof s->mtrr_fixed);
    memcpy(s->mtrr_base, vp->mtrr_base, sizeof s->mtrr_base);
    memcpy(s->mtrr_mask, vp->mtrr_mask, sizeof s->mtrr_mask);
}

/* Fills all but `synthetic`, which is core/hv's. */
bool soft_get_state(struct soft_vp *vp, struct hv_vp_state *s)
{
    get_regs(vp, s);
    get_msrs(vp, s);
    s->exception_pending = vp->exc_pending;
    s->exception_has_error = vp->exc_has_error;
    s->exception_vector = vp->exc_vector;
    s->exception_error = vp->exc_error;
    s->interrupt_pending = vp->taken;
    s->interrupt_vector = vp->taken ? vp->taken_vector : 0;
    s->nmi_pending = vp->nmi_pending || (atomic_load(&vp->attn) & ATTN_NMI);
    s->nmi_blocked = vp->nmi_blocked;
    s->interrupt_shadow = vp->shadow;
    s->activity = vp->activity;
    soft_lapic_save(vp->lapic, s->lapic);
    memset(s->xsave, 0, sizeof s->xsave);
    memcpy(s->xsave, &vp->fx, sizeof vp->fx);
    s->xsave[512] = 3; /* XSTATE_BV: x87, SSE */
    return true;
}

static void set_msrs(struct soft_vp *vp, const struct hv_vp_state *s)
{
    vp->efer = s->efer;
    vp->star = s->star;
    vp->lstar = s->lstar;
    vp->cstar = s->cstar;
    vp->sfmask = s->sfmask;
    vp->kernel_gs_base = s->kernel_gs_base;
    vp->sysenter_cs = s->sysenter_cs;
    vp->sysenter_eip = s->sysenter_eip;
    vp->sysenter_esp = s->sysenter_esp;
    vp->pat = s->pat;
    vp->tsc_aux = s->tsc_aux;
    vp->misc_enable = s->misc_enable;
    vp->spec_ctrl = s->spec_ctrl;
    vp->debugctl = s->debugctl;
    vp->tsc_offset = s->tsc - hv_clock_now(vp->soft->clock);
    vp->tsc_adjust = s->tsc_adjust;
    vp->mtrr_def_type = s->mtrr_def_type;
    memcpy(vp->mtrr_fixed, s->mtrr_fixed, sizeof s->mtrr_fixed);
    memcpy(vp->mtrr_base, s->mtrr_base, sizeof s->mtrr_base);
    memcpy(vp->mtrr_mask, s->mtrr_mask, sizeof s->mtrr_mask);
}

static void set_regs(struct soft_vp *vp, const struct hv_vp_state *s)
{
    memcpy(vp->gpr, s->gpr, sizeof s->gpr);
    vp->rip = s->rip;
    vp->eflags = ((uint32_t)s->rflags & 0x3f7fd7 & ~(uint32_t)FL_ARITH) | 2;
    soft_set_arith(vp, s->rflags);
    memcpy(vp->seg, s->seg, sizeof s->seg);
    vp->gdtr = s->gdtr;
    vp->idtr = s->idtr;
    vp->cr0 = (s->cr0 & 0xe005003f) | CR0_ET;
    vp->cr2 = s->cr2;
    vp->cr3 = s->cr3;
    vp->cr4 = s->cr4;
    vp->xcr0 = s->xcr0;
    memcpy(vp->dr, s->dr, sizeof s->dr);
    vp->dr6 = (s->dr6 & 0xe00f) | 0xffff0ff0;
    vp->dr7 = (s->dr7 & 0xffff2fff) | 0x400;
}

/* LMA is what LME and PG make it; whatever else a state says wrongly harms only its guest. */
static void settle(struct soft_vp *vp)
{
    vp->efer &= EFER_SCE | EFER_LME | EFER_NXE;
    if ((vp->efer & EFER_LME) && (vp->cr0 & CR0_PG))
        vp->efer |= EFER_LMA;
    if (!(vp->cr0 & CR0_PE))
        vp->cpl = 0;
    else if (vp->eflags & FL_VM)
        vp->cpl = 3;
    else
        vp->cpl = vp->seg[HV_SS].attrib >> 5 & 3;
    if ((vp->cr0 & CR0_PG) && (vp->cr4 & CR4_PAE) && !soft_long_mode(vp))
        soft_load_pdptes(vp, vp->cr3);
    for (unsigned n = 0; n < 6; n++)
        soft_seg_update(vp, n);
    soft_flush_tlb(vp, true);
    soft_update_mode(vp);
}

bool soft_set_state(struct soft_vp *vp, const struct hv_vp_state *s, err *e)
{
    if (s->activity > HV_VP_INIT_RECEIVED)
        return err_set(e, ERR_CORRUPT, "processor %u: unknown activity %u", vp->index, s->activity);
    set_regs(vp, s);
    set_msrs(vp, s);
    vp->exc_pending = s->exception_pending;
    vp->exc_has_error = s->exception_has_error;
    vp->exc_vector = s->exception_vector & 31;
    vp->exc_error = s->exception_error;
    vp->taken = s->interrupt_pending; /* the APIC has it in service, or it was the PIC's */
    vp->taken_vector = s->interrupt_vector;
    vp->nmi_pending = s->nmi_pending;
    vp->nmi_blocked = s->nmi_blocked;
    vp->shadow = s->interrupt_shadow & 3;
    vp->activity = s->activity;
    vp->delivering = vp->stopped = false;
    vp->held = true;
    vp->ext = 0;
    vp->db_pending = 0;
    vp->cur = NULL;
    load_fx(vp, s->xsave);
    atomic_fetch_and(&vp->attn, ATTN_KICK | ATTN_CODE | ATTN_TLB);
    soft_lapic_load(vp->lapic, s->apic_base, s->lapic);
    settle(vp);
    return true;
}

void soft_reset_vp(struct soft_vp *vp, bool init)
{
    struct hv_vp_state s;
    hv_vp_state_reset(&s, vp->index);
    uint64_t base = soft_lapic_base(vp->lapic);
    vp->held = true;
    if (init) { /* keeps FPU, MSRs, MTRRs, TSC, CD and NW */
        soft_lapic_reset(vp->lapic, true);
        s.cr0 = (vp->cr0 & (CR0_CD | CR0_NW)) | CR0_ET;
        s.xcr0 = vp->xcr0;
        s.gpr[HV_RDX] = 0x600;
        set_regs(vp, &s);
        vp->efer = 0;
        vp->nmi_pending = 0;
        vp->taken = false;
        vp->nmi_blocked = vp->exc_pending = false;
        vp->shadow = 0;
        vp->activity = base & 0x100 ? HV_VP_RUNNING : HV_VP_INIT_RECEIVED;
        settle(vp);
        return;
    }
    err e;
    soft_set_state(vp, &s, &e);
}
