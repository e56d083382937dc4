/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Privileged and system instructions, port I/O. Source: SDM vol. 2. */
#include "core/hv/soft/block.h"
#include "core/hv/soft/check.h"
#include "core/hv/soft/flags.h"
#include "core/hv/soft/ops.h"
#include "core/hv/soft/seg.h"
#include "core/hv/soft/soft.h"

#define OP(name) void soft_op_##name(struct soft_vp *vp, const struct insn *i)

static void leave(struct soft_vp *vp, const struct insn *i)
{
    vp->rip = soft_insn_rip(vp, i) + i->len;
    soft_chain(vp);
}

static inline void need_cpl0(struct soft_vp *vp, const struct insn *i)
{
    if (SOFT_UNLIKELY(vp->cpl))
        soft_raise_error(vp, i, EXC_GP, 0);
}

OP(ud)
{
    soft_raise(vp, i, EXC_UD);
}

OP(gp)
{
    soft_raise_error(vp, i, EXC_GP, 0);
}

OP(hlt)
{
    need_cpl0(vp, i);
    vp->rip = soft_insn_rip(vp, i) + i->len;
    vp->activity = HV_VP_HALTED;
    soft_count(vp, HV_COUNT_HALT);
    atomic_fetch_or(&vp->attn, ATTN_SELF);
}

OP(pause)
{
    if (vp->soft->vp_count > 1 && ++vp->pauses >= 64) {
        vp->pauses = 0;
        soft_yield(vp);
    }
    leave(vp, i);
}

static bool iopl_allows(const struct soft_vp *vp)
{
    return vp->cpl <= (vp->eflags & FL_IOPL) >> 12;
}

OP(cli)
{
    if (soft_protected(vp) || (vp->eflags & FL_VM)) {
        if (iopl_allows(vp)) {
            vp->eflags &= ~(uint32_t)FL_IF;
        } else if ((vp->eflags & FL_VM) ? (vp->cr4 & CR4_VME)
                                        : vp->cpl == 3 && (vp->cr4 & CR4_PVI)) {
            vp->eflags &= ~(uint32_t)FL_VIF;
        } else {
            soft_raise_error(vp, i, EXC_GP, 0);
        }
    } else {
        vp->eflags &= ~(uint32_t)FL_IF;
    }
    SOFT_NEXT(vp, i);
}

static void sti_anywhere(struct soft_vp *vp, const struct insn *i)
{
    if (iopl_allows(vp) || !(vp->cr0 & CR0_PE)) {
        if (!(vp->eflags & FL_IF)) {
            vp->eflags |= FL_IF;
            vp->shadow = 1;
            soft_update_mode(vp);
        }
    } else if (((vp->eflags & FL_VM) ? (vp->cr4 & CR4_VME) : vp->cpl == 3 && (vp->cr4 & CR4_PVI)) &&
               !(vp->eflags & FL_VIP)) {
        vp->eflags |= FL_VIF;
    } else {
        soft_raise_error(vp, i, EXC_GP, 0);
    }
}

/* Last but one of its block: interrupts are looked for at a block's end only, so that exactly one
 * more instruction comes first. */
OP(sti)
{
    if (SOFT_UNLIKELY(vp->cpl || !(vp->cr0 & CR0_PE))) {
        sti_anywhere(vp, i);
        vp->rip = soft_insn_rip(vp, i) + i->len;
        return;
    }
    if (!(vp->eflags & FL_IF)) {
        vp->eflags |= FL_IF;
        if (vp->held)
            atomic_fetch_or(&vp->attn, ATTN_SELF);
    }
    SOFT_NEXT(vp, i);
}

/* As the last one of a block: the next instruction is run by itself. */
OP(sti_last)
{
    sti_anywhere(vp, i);
    leave(vp, i);
}

/* Ports. */

void soft_io_check(struct soft_vp *vp, const struct insn *i, unsigned port, unsigned size)
{
    if (!(vp->cr0 & CR0_PE) || (!(vp->eflags & FL_VM) && iopl_allows(vp)))
        return;
    const struct hv_segment *tr = &vp->seg[HV_TR];
    uint16_t map = 0, bits = 0;
    bool ok = (tr->attrib & 15) >= 9 && tr->limit >= 103;
    if (ok) {
        soft_sys_read(vp, i, tr->base + 102, &map, 2);
        ok = map + port / 8 + 1u <= tr->limit;
    }
    if (ok) {
        soft_sys_read(vp, i, tr->base + map + port / 8, &bits, 2);
        ok = !(bits >> (port & 7) & ((1u << size) - 1));
    }
    if (!ok)
        soft_raise_error(vp, i, EXC_GP, 0);
}

uint32_t soft_port_in(struct soft_vp *vp, unsigned port, unsigned size)
{
    soft_count(vp, HV_COUNT_PIO);
    return (uint32_t)soft_io_read(vp, HV_IO_PORT, port, size);
}

void soft_port_out(struct soft_vp *vp, unsigned port, unsigned size, uint32_t v)
{
    soft_count(vp, HV_COUNT_PIO);
    soft_io_write(vp, HV_IO_PORT, port, size, v);
}

/* imm8: size; INSN_REPNE in flags is not used: modrm 1 means the port is in DX, else in imm. */
static unsigned port_of(const struct soft_vp *vp, const struct insn *i)
{
    return i->modrm ? (unsigned)(vp->gpr[HV_RDX] & 0xffff) : (unsigned)(i->imm & 0xff);
}

OP(in)
{
    unsigned port = port_of(vp, i), n = i->imm8;
    soft_io_check(vp, i, port, n);
    uint32_t v = soft_port_in(vp, port, n);
    if (n == 1)
        WR8(vp, 0, (uint8_t)v);
    else if (n == 2)
        WR16(vp, 0, (uint16_t)v);
    else
        vp->gpr[HV_RAX] = v;
    leave(vp, i);
}

OP(out)
{
    unsigned port = port_of(vp, i), n = i->imm8;
    soft_io_check(vp, i, port, n);
    uint32_t v = (uint32_t)vp->gpr[HV_RAX];
    soft_port_out(vp, port, n, n == 1 ? (uint8_t)v : n == 2 ? (uint16_t)v : v);
    leave(vp, i);
}

/* Identification, time, MSRs. */

/* What needs the address of a local variable is in a function of its own (SOFT_BODY): an operation
 * must end in a tail call, or a guest's loop would use up the host's stack. */

static SOFT_BODY void cpuid_body(struct soft_vp *vp)
{
    uint32_t r[4];
    soft_cpuid(vp, (uint32_t)vp->gpr[HV_RAX], (uint32_t)vp->gpr[HV_RCX], r);
    vp->gpr[HV_RAX] = r[0];
    vp->gpr[HV_RBX] = r[1];
    vp->gpr[HV_RCX] = r[2];
    vp->gpr[HV_RDX] = r[3];
}

OP(cpuid)
{
    cpuid_body(vp);
    leave(vp, i);
}

static void rdtsc(struct soft_vp *vp, const struct insn *i)
{
    if (vp->cpl && (vp->cr4 & CR4_TSD))
        soft_raise_error(vp, i, EXC_GP, 0);
    soft_check_once(vp);
    uint64_t t = soft_tsc(vp);
    vp->gpr[HV_RAX] = (uint32_t)t;
    vp->gpr[HV_RDX] = t >> 32;
}

OP(rdtsc)
{
    rdtsc(vp, i);
    SOFT_NEXT(vp, i);
}

static bool has_feature(struct soft_vp *vp, uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t r[4];
    soft_cpuid(vp, leaf, 0, r);
    return r[reg] >> bit & 1;
}

OP(rdtscp)
{
    if (!has_feature(vp, 0x80000001, 3, 27))
        soft_raise(vp, i, EXC_UD);
    rdtsc(vp, i);
    vp->gpr[HV_RCX] = (uint32_t)vp->tsc_aux;
    SOFT_NEXT(vp, i);
}

OP(rdpid)
{
    if (!has_feature(vp, 7, 2, 22))
        soft_raise(vp, i, EXC_UD);
    SOFT_REG(uint64_t, vp, i->rm) = vp->tsc_aux;
    SOFT_NEXT(vp, i);
}

OP(rdpmc)
{
    soft_raise_error(vp, i, EXC_GP, 0);
}

static SOFT_BODY void rdmsr_body(struct soft_vp *vp, const struct insn *i)
{
    uint64_t v;
    need_cpl0(vp, i);
    vp->cur = i;
    vp->rip = soft_insn_rip(vp, i);
    if (!soft_rdmsr(vp, (uint32_t)vp->gpr[HV_RCX], &v))
        soft_raise_error(vp, i, EXC_GP, 0);
    vp->gpr[HV_RAX] = (uint32_t)v;
    vp->gpr[HV_RDX] = v >> 32;
}

OP(rdmsr)
{
    rdmsr_body(vp, i);
    leave(vp, i);
}

OP(wrmsr)
{
    need_cpl0(vp, i);
    vp->cur = i;
    vp->rip = soft_insn_rip(vp, i);
    vp->held = true; /* the APIC base and the like: what waits is looked for again */
    uint64_t v = (uint32_t)vp->gpr[HV_RAX] | vp->gpr[HV_RDX] << 32;
    if (!soft_wrmsr(vp, (uint32_t)vp->gpr[HV_RCX], v))
        soft_raise_error(vp, i, EXC_GP, 0);
    leave(vp, i);
}

static SOFT_BODY void rdrand_body(struct soft_vp *vp, const struct insn *i)
{
    uint64_t v;
    bool seed = (i->modrm >> 3 & 7) == 7;
    if (!has_feature(vp, seed ? 7 : 1, seed ? 1 : 2, seed ? 18 : 30))
        soft_raise(vp, i, EXC_UD);
    soft_check_once(vp);
    bool ok = soft_random(&v);
    switch (i->imm8 >> 4) {
    case 2: SOFT_REG(uint16_t, vp, i->rm) = (uint16_t)v; break;
    case 4: SOFT_REG(uint64_t, vp, i->rm) = (uint32_t)v; break;
    default: SOFT_REG(uint64_t, vp, i->rm) = v;
    }
    vp->status = ok ? ST_CF : 0;
}

OP(rdrand)
{
    rdrand_body(vp, i);
    SOFT_NEXT(vp, i);
}

/* Control and debug registers. */

OP(mov_cr) /* from; imm8: which */
{
    static const char known[16] = {1, 0, 1, 1, 1, 0, 0, 0, 1};
    if (!known[i->imm8])
        soft_raise(vp, i, EXC_UD);
    need_cpl0(vp, i);
    uint64_t v = 0;
    switch (i->imm8) {
    case 0: v = vp->cr0; break;
    case 2: v = vp->cr2; break;
    case 3: v = vp->cr3; break;
    case 4: v = vp->cr4; break;
    case 8: v = soft_lapic_tpr(vp->lapic) >> 4; break;
    default: break;
    }
    SOFT_REG(uint64_t, vp, i->rm) = vp->code == SOFT_MODE64 ? v : (uint32_t)v;
    SOFT_NEXT(vp, i);
}

static bool set_cr0(struct soft_vp *vp, uint64_t v)
{
    uint64_t old = vp->cr0;
    if (v >> 32)
        return false;
    v = (v & 0xe005003f) | CR0_ET;
    if (((v & CR0_PG) && !(v & CR0_PE)) || ((v & CR0_NW) && !(v & CR0_CD)))
        return false;
    bool on = (v & CR0_PG) && !(old & CR0_PG), off = !(v & CR0_PG) && (old & CR0_PG);
    if (off && vp->code == SOFT_MODE64)
        return false;
    if (on && (vp->efer & EFER_LME)) {
        if (!(vp->cr4 & CR4_PAE) || (vp->seg[HV_CS].attrib & SEG_L))
            return false;
    } else if (on && (vp->cr4 & CR4_PAE) && !soft_load_pdptes(vp, vp->cr3)) {
        return false;
    }
    if (on && (vp->efer & EFER_LME))
        vp->efer |= EFER_LMA;
    if (off)
        vp->efer &= ~(uint64_t)EFER_LMA;
    vp->cr0 = v;
    if ((v ^ old) & (CR0_PG | CR0_WP | CR0_PE))
        soft_flush_tlb(vp, true);
    for (unsigned s = 0; s < 6; s++)
        soft_seg_update(vp, s);
    soft_update_mode(vp);
    return true;
}

static bool set_cr3(struct soft_vp *vp, uint64_t v)
{
    if (soft_long_mode(vp) && v >> SOFT_PHYS_BITS)
        return false;
    if (!soft_long_mode(vp)) {
        v = (uint32_t)v;
        if ((vp->cr0 & CR0_PG) && (vp->cr4 & CR4_PAE) && !soft_load_pdptes(vp, v))
            return false;
    }
    vp->cr3 = v;
    soft_flush_tlb(vp, false);
    return true;
}

static uint64_t cr4_allowed(struct soft_vp *vp)
{
    uint64_t ok = CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
                  CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    uint32_t r[4];
    soft_cpuid(vp, 7, 0, r);
    ok |= r[1] & 1 ? CR4_FSGSBASE : 0;
    ok |= r[1] >> 7 & 1 ? CR4_SMEP : 0;
    ok |= r[1] >> 20 & 1 ? CR4_SMAP : 0;
    ok |= r[2] >> 2 & 1 ? CR4_UMIP : 0;
    return ok;
}

static bool set_cr4(struct soft_vp *vp, uint64_t v)
{
    uint64_t old = vp->cr4;
    if (v & ~cr4_allowed(vp))
        return false;
    if (soft_long_mode(vp) && !(v & CR4_PAE))
        return false;
    uint64_t paging = CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP;
    bool change = (v ^ old) & paging;
    if (change && (vp->cr0 & CR0_PG) && (v & CR4_PAE) && !soft_long_mode(vp) &&
        !soft_load_pdptes(vp, vp->cr3))
        return false;
    vp->cr4 = v;
    if (change)
        soft_flush_tlb(vp, true);
    soft_update_mode(vp);
    return true;
}

OP(mov_to_cr)
{
    static const char known[16] = {1, 0, 1, 1, 1, 0, 0, 0, 1};
    if (!known[i->imm8])
        soft_raise(vp, i, EXC_UD);
    need_cpl0(vp, i);
    uint64_t v = SOFT_REG(uint64_t, vp, i->rm);
    if (vp->code != SOFT_MODE64)
        v = (uint32_t)v;
    bool ok = true;
    switch (i->imm8) {
    case 0: ok = set_cr0(vp, v); break;
    case 2: vp->cr2 = v; break;
    case 3: ok = set_cr3(vp, v); break;
    case 4: ok = set_cr4(vp, v); break;
    default:
        ok = !(v & ~15ull);
        if (ok)
            soft_lapic_set_tpr(vp->lapic, (uint8_t)(v << 4));
        break;
    }
    if (!ok)
        soft_raise_error(vp, i, EXC_GP, 0);
    leave(vp, i);
}

OP(clts)
{
    need_cpl0(vp, i);
    vp->cr0 &= ~(uint64_t)CR0_TS;
    soft_update_mode(vp);
    leave(vp, i);
}

static void debug_checks(struct soft_vp *vp, const struct insn *i, unsigned *n)
{
    if (*n > 7)
        soft_raise(vp, i, EXC_UD);
    need_cpl0(vp, i);
    if (*n == 4 || *n == 5) {
        if (vp->cr4 & CR4_DE)
            soft_raise(vp, i, EXC_UD);
        *n += 2;
    }
    if (vp->dr7 & 0x2000) {
        vp->dr6 |= 0x2000;
        soft_raise(vp, i, EXC_DB);
    }
}

OP(mov_dr)
{
    unsigned n = i->imm8;
    debug_checks(vp, i, &n);
    SOFT_REG(uint64_t, vp, i->rm) = n == 6 ? vp->dr6 : n == 7 ? vp->dr7 : vp->dr[n];
    SOFT_NEXT(vp, i);
}

OP(mov_to_dr)
{
    unsigned n = i->imm8;
    debug_checks(vp, i, &n);
    uint64_t v = SOFT_REG(uint64_t, vp, i->rm);
    if (vp->code != SOFT_MODE64)
        v = (uint32_t)v;
    if (n >= 6 && v >> 32)
        soft_raise_error(vp, i, EXC_GP, 0);
    if (n < 4)
        vp->dr[n] = v;
    else if (n == 6)
        vp->dr6 = (v & 0xe00f) | 0xffff0ff0;
    else
        vp->dr7 = (v & 0xffff2fff) | 0x400;
    soft_flush_tlb(vp, true); /* watched pages have no fast entries */
    soft_update_mode(vp);
    leave(vp, i);
}

static void umip(struct soft_vp *vp, const struct insn *i)
{
    if (vp->cpl && (vp->cr4 & CR4_UMIP) && soft_protected(vp))
        soft_raise_error(vp, i, EXC_GP, 0);
}

static void store_table(struct soft_vp *vp, const struct insn *i, const struct hv_table *t)
{
    uint8_t b[10];
    umip(vp, i);
    unsigned n = vp->code == SOFT_MODE64 ? 10 : 6;
    memcpy(b, &t->limit, 2);
    memcpy(b + 2, &t->base, 8);
    soft_write(vp, i, soft_ea(vp, i, n, true), b, n);
}

static void load_table(struct soft_vp *vp, const struct insn *i, struct hv_table *t)
{
    uint8_t b[10] = {0};
    need_cpl0(vp, i);
    unsigned n = vp->code == SOFT_MODE64 ? 10 : 6;
    soft_read(vp, i, soft_ea(vp, i, n, false), b, n);
    uint64_t base;
    memcpy(&base, b + 2, 8);
    if (n == 10 && !soft_canonical(base))
        soft_raise_error(vp, i, EXC_GP, 0);
    if (n == 6)
        base = i->imm8 >> 4 == 2 ? base & 0xffffff : (uint32_t)base;
    memcpy(&t->limit, b, 2);
    t->base = base;
}

OP(sgdt)
{
    store_table(vp, i, &vp->gdtr);
    SOFT_NEXT(vp, i);
}

OP(sidt)
{
    store_table(vp, i, &vp->idtr);
    SOFT_NEXT(vp, i);
}

OP(lgdt)
{
    load_table(vp, i, &vp->gdtr);
    SOFT_NEXT(vp, i);
}

OP(lidt)
{
    load_table(vp, i, &vp->idtr);
    SOFT_NEXT(vp, i);
}

OP(smsw)
{
    umip(vp, i);
    switch (i->imm8 >> 4) {
    case 2: SOFT_REG(uint16_t, vp, i->rm) = (uint16_t)vp->cr0; break;
    case 4: SOFT_REG(uint64_t, vp, i->rm) = (uint32_t)vp->cr0; break;
    default: SOFT_REG(uint64_t, vp, i->rm) = vp->cr0;
    }
    SOFT_NEXT(vp, i);
}

OP(smsw_m)
{
    umip(vp, i);
    soft_store16(vp, i, soft_ea(vp, i, 2, true), (uint16_t)vp->cr0);
    SOFT_NEXT(vp, i);
}

OP(lmsw)
{
    need_cpl0(vp, i);
    uint16_t v = i->flags & INSN_MEM ? soft_load16(vp, i, soft_ea(vp, i, 2, false))
                                     : SOFT_REG(uint16_t, vp, i->rm);
    uint64_t now = (vp->cr0 & ~14ull) | (v & 15u); /* PE can be set, not cleared */
    if (!set_cr0(vp, now | (vp->cr0 & CR0_PE)))
        soft_raise_error(vp, i, EXC_GP, 0);
    leave(vp, i);
}

OP(invlpg)
{
    need_cpl0(vp, i);
    uint64_t lin = soft_offset(vp, i);
    if (i->ea & INSN_EA32)
        lin = (uint32_t)lin;
    else if (i->ea & INSN_EA16)
        lin = (uint16_t)lin;
    lin += SOFT_REG(uint64_t, vp, i->segbase);
    if (vp->code != SOFT_MODE64)
        lin = (uint32_t)lin;
    soft_flush_page(vp, lin);
    leave(vp, i);
}

OP(invd)
{
    need_cpl0(vp, i);
    SOFT_NEXT(vp, i);
}

static void set_ac(struct soft_vp *vp, const struct insn *i, bool on)
{
    if (!vp->soft->has_smap || vp->cpl)
        soft_raise(vp, i, EXC_UD);
    vp->eflags = on ? vp->eflags | FL_AC : vp->eflags & ~(uint32_t)FL_AC;
    soft_mmu_update(vp);
}

OP(clac)
{
    set_ac(vp, i, false);
    SOFT_NEXT(vp, i);
}

OP(stac)
{
    set_ac(vp, i, true);
    SOFT_NEXT(vp, i);
}

OP(rsm)
{
    soft_raise(vp, i, EXC_UD);
}

/* VMCALL and VMMCALL: a hypercall in the way of Hyper-V (TLFS 3). */
static SOFT_BODY void vmcall_body(struct soft_vp *vp, const struct insn *i)
{
    if (vp->cpl || !soft_protected(vp))
        soft_raise(vp, i, EXC_UD);
    struct hv_hypercall h = {.long_mode = vp->code == SOFT_MODE64, .has_xmm = true};
    if (h.long_mode) {
        h.control = vp->gpr[HV_RCX];
        h.input = vp->gpr[HV_RDX];
        h.output = vp->gpr[HV_R8];
    } else {
        h.control = vp->gpr[HV_RDX] << 32 | (uint32_t)vp->gpr[HV_RAX];
        h.input = vp->gpr[HV_RBX] << 32 | (uint32_t)vp->gpr[HV_RCX];
        h.output = vp->gpr[HV_RDI] << 32 | (uint32_t)vp->gpr[HV_RSI];
    }
    memcpy(h.xmm, vp->fx.xmm, sizeof h.xmm);
    soft_count(vp, HV_COUNT_HYPERCALL);
    vp->rip = soft_insn_rip(vp, i) + i->len;
    soft_leave_guest(vp);
    uint64_t r = 0;
    soft_check_once(vp);
    bool known = vp->soft->up.hypercall(vp->soft->up.ctx, vp->index, &h, &r);
    soft_enter_guest(vp);
    if (!known)
        soft_raise(vp, i, EXC_UD);
    if (h.long_mode) {
        vp->gpr[HV_RAX] = r;
    } else {
        vp->gpr[HV_RAX] = (uint32_t)r;
        vp->gpr[HV_RDX] = r >> 32;
    }
}

OP(vmcall)
{
    vmcall_body(vp, i);
    soft_chain(vp);
}
