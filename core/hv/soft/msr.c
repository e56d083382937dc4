/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CPUID, MSRs, time, random numbers. Source: SDM vol. 4, AMD APM vol. 2 appendix A. */
#include <sys/random.h>

#include "core/hv/soft/check.h"
#include "core/hv/soft/soft.h"

uint64_t soft_tsc(const struct soft_vp *vp)
{
    return hv_clock_now(vp->soft->clock) + vp->tsc_offset;
}

bool soft_random(uint64_t *v)
{
    return getrandom(v, sizeof *v, GRND_NONBLOCK) == (ssize_t)sizeof *v;
}

/* CPUID. */

static const struct hv_cpuid *cpuid_find(const struct soft *s, uint32_t leaf, uint32_t subleaf)
{
    for (size_t n = 0; n < s->ncpuid; n++)
        if (s->cpuid[n].leaf == leaf &&
            (!s->cpuid[n].per_subleaf || s->cpuid[n].subleaf == subleaf))
            return &s->cpuid[n];
    return NULL;
}

static uint32_t last_leaf(const struct soft *s, uint32_t base)
{
    const struct hv_cpuid *c = cpuid_find(s, base, 0);
    return c ? c->eax : 0;
}

static void cpuid_dynamic(const struct soft_vp *vp, uint32_t leaf, uint32_t out[4])
{
    switch (leaf) {
    case 1:
        out[1] = (out[1] & 0x00ffffff) | vp->index << 24;
        out[2] &= ~(1u << 27); /* no XSAVE */
        if (!(soft_lapic_base(vp->lapic) & 0x800))
            out[3] &= ~(1u << 9);
        break;
    case 0xb:
    case 0x1f: out[3] = vp->index; break;
    case 0x80000001:
        if (!vp->soft->amd && vp->code != SOFT_MODE64)
            out[3] &= ~(1u << 11); /* SYSCALL: 64-bit code only */
        break;
    case 0x8000001e: out[0] = vp->index; break;
    default: break;
    }
}

void soft_cpuid(struct soft_vp *vp, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    const struct soft *s = vp->soft;
    uint32_t base = leaf & 0xc0000000u;
    const struct hv_cpuid *c = cpuid_find(s, leaf, subleaf);
    out[0] = out[1] = out[2] = out[3] = 0;
    if (!c && !s->amd && leaf > last_leaf(s, base) && base != 0x40000000) {
        /* Intel: beyond the last leaf is as the last basic leaf */
        leaf = last_leaf(s, 0);
        c = cpuid_find(s, leaf, subleaf);
    }
    if (c) {
        out[0] = c->eax;
        out[1] = c->ebx;
        out[2] = c->ecx;
        out[3] = c->edx;
    }
    if (leaf == 0xb || leaf == 0x1f)
        out[2] = (out[2] & ~0xffu) | (subleaf & 0xff);
    cpuid_dynamic(vp, leaf, out);
}

/* MSRs. */

enum {
    MSR_TSC = 0x10,
    MSR_APIC_BASE = 0x1b,
    MSR_FEATURE_CONTROL = 0x3a,
    MSR_TSC_ADJUST = 0x3b,
    MSR_SPEC_CTRL = 0x48,
    MSR_PRED_CMD = 0x49,
    MSR_UCODE_REV = 0x8b,
    MSR_MTRRCAP = 0xfe,
    MSR_SYSENTER_CS = 0x174,
    MSR_SYSENTER_ESP = 0x175,
    MSR_SYSENTER_EIP = 0x176,
    MSR_MCG_CAP = 0x179,
    MSR_MCG_STATUS = 0x17a,
    MSR_MISC_ENABLE = 0x1a0,
    MSR_DEBUGCTL = 0x1d9,
    MSR_MTRR_BASE0 = 0x200,
    MSR_MTRR_FIX64K = 0x250,
    MSR_MTRR_FIX16K = 0x258,
    MSR_MTRR_FIX4K = 0x268,
    MSR_PAT = 0x277,
    MSR_MTRR_DEF = 0x2ff,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_AMD_DE_CFG 0xc0011029u

/* The MSRs that are a plain 64-bit variable; `kind` says what may be written. */
enum msr_kind { ANY, CANONICAL, LOW32, READ_ONLY };

static uint64_t *plain_msr(struct soft_vp *vp, uint32_t msr, enum msr_kind *kind)
{
    *kind = ANY;
    switch (msr) {
    case MSR_SYSENTER_CS: return &vp->sysenter_cs;
    case MSR_SYSENTER_ESP: *kind = CANONICAL; return &vp->sysenter_esp;
    case MSR_SYSENTER_EIP: *kind = CANONICAL; return &vp->sysenter_eip;
    case MSR_MISC_ENABLE: return &vp->misc_enable;
    case MSR_STAR: return &vp->star;
    case MSR_LSTAR: *kind = CANONICAL; return &vp->lstar;
    case MSR_CSTAR: *kind = CANONICAL; return &vp->cstar;
    case MSR_SFMASK: *kind = LOW32; return &vp->sfmask;
    case MSR_FS_BASE: *kind = CANONICAL; return &vp->seg[HV_FS].base;
    case MSR_GS_BASE: *kind = CANONICAL; return &vp->seg[HV_GS].base;
    case MSR_KERNEL_GS: *kind = CANONICAL; return &vp->kernel_gs_base;
    case MSR_TSC_AUX: *kind = LOW32; return &vp->tsc_aux;
    default: return NULL;
    }
}

/* AMD's model-specific registers that kernels look at without asking CPUID: they read 0, writes do
 * nothing. */
static bool amd_quiet(const struct soft_vp *vp, uint32_t msr)
{
    if (!vp->soft->amd)
        return false;
    if (msr - 0xc0010000u < 8) /* performance events and counters */
        return true;
    switch (msr) {
    case 0xc0010010: /* SYSCFG */
    case 0xc0010015: /* HWCR */
    case 0xc001001f: /* NB_CFG */
    case 0xc0010055: /* interrupt pending */
    case 0xc0010114: /* VM_CR */
    case 0xc0011020: /* LS_CFG */
    case 0xc0011022: /* DC_CFG */
    case MSR_AMD_DE_CFG:
    case 0xc001102a: /* BU_CFG2 */ return true;
    default: return false;
    }
}

static uint64_t *mtrr(struct soft_vp *vp, uint32_t msr)
{
    if (msr >= MSR_MTRR_BASE0 && msr < MSR_MTRR_BASE0 + 16)
        return msr & 1 ? &vp->mtrr_mask[(msr - MSR_MTRR_BASE0) / 2]
                       : &vp->mtrr_base[(msr - MSR_MTRR_BASE0) / 2];
    if (msr == MSR_MTRR_FIX64K)
        return &vp->mtrr_fixed[0];
    if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
        return &vp->mtrr_fixed[1 + msr - MSR_MTRR_FIX16K];
    if (msr >= MSR_MTRR_FIX4K && msr < MSR_MTRR_FIX4K + 8)
        return &vp->mtrr_fixed[3 + msr - MSR_MTRR_FIX4K];
    return msr == MSR_MTRR_DEF ? &vp->mtrr_def_type : NULL;
}

static bool cpuid_bit(struct soft_vp *vp, uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t r[4];
    soft_cpuid(vp, leaf, 0, r);
    return r[reg] >> bit & 1;
}

static bool valid_type(unsigned t)
{
    return t < 8 && t != 2 && t != 3;
}

static bool write_pat(struct soft_vp *vp, uint64_t v)
{
    for (unsigned n = 0; n < 8; n++)
        if (!valid_type(v >> (8 * n) & 0xff))
            return false;
    vp->pat = v;
    return true;
}

static bool write_mtrr(struct soft_vp *vp, uint32_t msr, uint64_t *slot, uint64_t v)
{
    if (msr == MSR_MTRR_DEF) {
        if ((v & ~0xcffull) || !valid_type(v & 0xff) || (v & 0xff) == 7)
            return false;
    } else if (msr >= MSR_MTRR_FIX64K) {
        for (unsigned n = 0; n < 8; n++)
            if (!valid_type(v >> (8 * n) & 0xff) || (v >> (8 * n) & 0xff) == 7)
                return false;
    } else if ((v >> SOFT_PHYS_BITS) ||
               (msr & 1 ? v & 0x7ff : (v & 0xf00) || !valid_type(v & 0xff))) {
        return false;
    }
    *slot = v;
    return true;
}

static bool write_efer(struct soft_vp *vp, uint64_t v)
{
    uint64_t may = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    if ((v & ~may) || ((v ^ vp->efer) & EFER_LME && (vp->cr0 & CR0_PG)))
        return false;
    if ((v & EFER_NXE) && !cpuid_bit(vp, 0x80000001, 3, 20))
        return false;
    bool flush = (v ^ vp->efer) & EFER_NXE;
    vp->efer = (v & ~(uint64_t)EFER_LMA) | (vp->efer & EFER_LMA);
    if (flush)
        soft_flush_tlb(vp, true);
    soft_update_mode(vp);
    return true;
}

static bool upcall_rdmsr(struct soft_vp *vp, uint32_t msr, uint64_t *v)
{
    soft_leave_guest(vp);
    bool ok = vp->soft->up.rdmsr && vp->soft->up.rdmsr(vp->soft->up.ctx, vp->index, msr, v);
    soft_enter_guest(vp);
    soft_count(vp, HV_COUNT_MSR);
    return ok;
}

static bool upcall_wrmsr(struct soft_vp *vp, uint32_t msr, uint64_t v)
{
    soft_leave_guest(vp);
    bool ok = vp->soft->up.wrmsr && vp->soft->up.wrmsr(vp->soft->up.ctx, vp->index, msr, v);
    soft_enter_guest(vp);
    soft_count(vp, HV_COUNT_MSR);
    return ok;
}

bool soft_rdmsr(struct soft_vp *vp, uint32_t msr, uint64_t *v)
{
    soft_check_once(vp);
    enum msr_kind kind;
    uint64_t *p = plain_msr(vp, msr, &kind);
    if (!p)
        p = mtrr(vp, msr);
    if (p) {
        *v = *p;
        return true;
    }
    if (msr >= 0x800 && msr < 0x900)
        return soft_lapic_rdmsr(vp->lapic, msr, v);
    switch (msr) {
    case MSR_TSC: *v = soft_tsc(vp); return true;
    case MSR_APIC_BASE: *v = soft_lapic_base(vp->lapic); return true;
    case MSR_TSC_ADJUST: *v = vp->tsc_adjust; return cpuid_bit(vp, 7, 1, 1);
    case MSR_SPEC_CTRL: *v = vp->spec_ctrl; return cpuid_bit(vp, 7, 3, 26);
    case MSR_FEATURE_CONTROL: *v = 1; return !vp->soft->amd;
    case MSR_UCODE_REV: *v = vp->soft->amd ? 0x01000065 : 0x100000000ull; return true;
    case MSR_MTRRCAP: *v = 0x508; return true;
    case MSR_MCG_CAP:
    case MSR_MCG_STATUS: *v = 0; return true;
    case MSR_DEBUGCTL: *v = vp->debugctl; return true;
    case MSR_PAT: *v = vp->pat; return true;
    case MSR_EFER: *v = vp->efer; return true;
    case MSR_AMD_DE_CFG:
        *v = 2; /* LFENCE serialises */
        return vp->soft->amd;
    default: break;
    }
    *v = 0;
    return amd_quiet(vp, msr) || upcall_rdmsr(vp, msr, v);
}

bool soft_wrmsr(struct soft_vp *vp, uint32_t msr, uint64_t v)
{
    soft_check_once(vp);
    enum msr_kind kind;
    uint64_t *p = plain_msr(vp, msr, &kind), now;
    if (p) {
        if ((kind == CANONICAL && !soft_canonical(v)) || (kind == LOW32 && v >> 32))
            return false;
        *p = v;
        return true;
    }
    if ((p = mtrr(vp, msr)))
        return write_mtrr(vp, msr, p, v);
    if (msr >= 0x800 && msr < 0x900)
        return soft_lapic_wrmsr(vp->lapic, msr, v);
    switch (msr) {
    case MSR_TSC:
        now = soft_tsc(vp);
        vp->tsc_offset += v - now;
        vp->tsc_adjust += v - now;
        return true;
    case MSR_TSC_ADJUST:
        vp->tsc_offset += v - vp->tsc_adjust;
        vp->tsc_adjust = v;
        return cpuid_bit(vp, 7, 1, 1);
    case MSR_APIC_BASE: return soft_lapic_set_base(vp->lapic, v);
    case MSR_SPEC_CTRL: vp->spec_ctrl = v & 7; return cpuid_bit(vp, 7, 3, 26);
    case MSR_PRED_CMD: return cpuid_bit(vp, 7, 3, 26);
    case MSR_UCODE_REV: return true;
    case MSR_MCG_STATUS: return v == 0;
    case MSR_DEBUGCTL: vp->debugctl = v & 0; return !(v & ~3ull);
    case MSR_PAT: return write_pat(vp, v);
    case MSR_EFER: return write_efer(vp, v);
    default: return amd_quiet(vp, msr) || upcall_wrmsr(vp, msr, v);
    }
}
