/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A VP's state out of and into KVM. Order of setting: system registers (they hold the APIC base)
 * before the local APIC; TSC_ADJUST before TSC; SynIC before timers, and of each timer the
 * configuration last.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/hv/kvm/kvm-int.h"
#include "core/hv/tlfs-proto.h"

_Static_assert(sizeof(struct kvm_lapic_state) == HV_LAPIC_BYTES, "local APIC page");
enum { LAPIC_ID = 0x20 };
_Static_assert(sizeof(struct kvm_xsave) == HV_XSAVE_BYTES, "XSAVE area");

#define S struct hv_vp_state

/* ---- MSRs ---- */

struct one_msr {
    struct kvm_msrs head;
    struct kvm_msr_entry e;
};

bool kvm_get_msr(void *b, unsigned vp, uint32_t msr, uint64_t *value)
{
    struct one_msr m = {.head.nmsrs = 1, .e.index = msr};
    if (ioctl(((struct kvm *)b)->vp[vp].fd, KVM_GET_MSRS, &m) != 1)
        return false;
    *value = m.e.data;
    return true;
}

bool kvm_set_msr(void *b, unsigned vp, uint32_t msr, uint64_t value)
{
    struct one_msr m = {.head.nmsrs = 1, .e = {.index = msr, .data = value}};
    return ioctl(((struct kvm *)b)->vp[vp].fd, KVM_SET_MSRS, &m) == 1;
}

struct msr_map {
    uint32_t msr;
    uint32_t offset;
    bool optional; /* a processor model may lack it */
};
#define MSR(number, member)                  \
    {                                        \
        (number), offsetof(S, member), false \
    }
#define MSR_OPT(number, member)             \
    {                                       \
        (number), offsetof(S, member), true \
    }
#define MTRR_PAIR(n) MSR_OPT(0x200 + 2 * (n), mtrr_base[n]), MSR_OPT(0x201 + 2 * (n), mtrr_mask[n])
#define TIMER(n)                                                         \
    MSR(HV_MSR_STIMER0_CONFIG + 2 * (n) + 1, synthetic.stimer_count[n]), \
        MSR(HV_MSR_STIMER0_CONFIG + 2 * (n), synthetic.stimer_config[n])

/* In the order of setting. */
static const struct msr_map msrs[] = {
    MSR(0xc0000081, star),
    MSR(0xc0000082, lstar),
    MSR(0xc0000083, cstar),
    MSR(0xc0000084, sfmask),
    MSR(0xc0000102, kernel_gs_base),
    MSR(0x174, sysenter_cs),
    MSR(0x175, sysenter_esp),
    MSR(0x176, sysenter_eip),
    MSR(0x277, pat),
    MSR_OPT(0xc0000103, tsc_aux),
    MSR_OPT(0x1a0, misc_enable),
    MSR_OPT(0x48, spec_ctrl),
    MSR_OPT(0x1d9, debugctl),
    MSR_OPT(0x2ff, mtrr_def_type),
    MSR_OPT(0x250, mtrr_fixed[0]),
    MSR_OPT(0x258, mtrr_fixed[1]),
    MSR_OPT(0x259, mtrr_fixed[2]),
    MSR_OPT(0x268, mtrr_fixed[3]),
    MSR_OPT(0x269, mtrr_fixed[4]),
    MSR_OPT(0x26a, mtrr_fixed[5]),
    MSR_OPT(0x26b, mtrr_fixed[6]),
    MSR_OPT(0x26c, mtrr_fixed[7]),
    MSR_OPT(0x26d, mtrr_fixed[8]),
    MSR_OPT(0x26e, mtrr_fixed[9]),
    MSR_OPT(0x26f, mtrr_fixed[10]),
    MTRR_PAIR(0),
    MTRR_PAIR(1),
    MTRR_PAIR(2),
    MTRR_PAIR(3),
    MTRR_PAIR(4),
    MTRR_PAIR(5),
    MTRR_PAIR(6),
    MTRR_PAIR(7),
    MSR_OPT(0x3b, tsc_adjust),
    MSR(0x10, tsc),
    MSR(HV_MSR_VP_ASSIST, synthetic.vp_assist_page),
    MSR(HV_MSR_SCONTROL, synthetic.scontrol),
    MSR(HV_MSR_SIEFP, synthetic.siefp),
    MSR(HV_MSR_SIMP, synthetic.simp),
};
static const struct msr_map timer_msrs[] = {TIMER(0), TIMER(1), TIMER(2), TIMER(3)};

static void get_msrs(struct kvm_vp *vp, const struct msr_map *m, size_t n, S *s)
{
    for (size_t i = 0; i < n; i++)
        kvm_get_msr(vp->k, vp->index, m[i].msr, (uint64_t *)((char *)s + m[i].offset));
}

static bool set_msrs(struct kvm_vp *vp, const struct msr_map *m, size_t n, const S *s, err *e)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t v;
        memcpy(&v, (const char *)s + m[i].offset, sizeof v);
        uint64_t old;
        if (m[i].optional && (!kvm_get_msr(vp->k, vp->index, m[i].msr, &old) || old == v))
            continue; /* not there, or nothing to do: KVM would complain in the host's log */
        if (!kvm_set_msr(vp->k, vp->index, m[i].msr, v) && !m[i].optional)
            return err_set(e, ERR_CORRUPT, "processor %u: KVM refuses 0x%llx in register 0x%x",
                           vp->index, (unsigned long long)v, m[i].msr);
    }
    return true;
}

static bool set_synthetic(struct kvm_vp *vp, const S *s, err *e)
{
    for (unsigned n = 0; n < HV_VP_SINTS; n++)
        if (!kvm_set_msr(vp->k, vp->index, HV_MSR_SINT0 + n, s->synthetic.sint[n]))
            return err_set(e, ERR_CORRUPT, "processor %u: KVM refuses SINT %u", vp->index, n);
    for (unsigned n = 0; n < HV_VP_STIMERS; n++) /* a count must not start an old configuration */
        kvm_set_msr(vp->k, vp->index, HV_MSR_STIMER0_CONFIG + 2 * n, 0);
    return set_msrs(vp, timer_msrs, ARRAY_LEN(timer_msrs), s, e);
}

/* ---- registers ---- */

static const struct {
    uint8_t gpr;
    uint16_t offset;
} gprs[HV_GPR_COUNT] = {
#define GPR(hv, kvm)                       \
    {                                      \
        hv, offsetof(struct kvm_regs, kvm) \
    }
    GPR(HV_RAX, rax), GPR(HV_RCX, rcx), GPR(HV_RDX, rdx), GPR(HV_RBX, rbx),
    GPR(HV_RSP, rsp), GPR(HV_RBP, rbp), GPR(HV_RSI, rsi), GPR(HV_RDI, rdi),
    GPR(HV_R8, r8),   GPR(HV_R9, r9),   GPR(HV_R10, r10), GPR(HV_R11, r11),
    GPR(HV_R12, r12), GPR(HV_R13, r13), GPR(HV_R14, r14), GPR(HV_R15, r15),
#undef GPR
};
static const uint16_t segs[HV_SEG_COUNT] = {
    [HV_ES] = offsetof(struct kvm_sregs, es),    [HV_CS] = offsetof(struct kvm_sregs, cs),
    [HV_SS] = offsetof(struct kvm_sregs, ss),    [HV_DS] = offsetof(struct kvm_sregs, ds),
    [HV_FS] = offsetof(struct kvm_sregs, fs),    [HV_GS] = offsetof(struct kvm_sregs, gs),
    [HV_LDTR] = offsetof(struct kvm_sregs, ldt), [HV_TR] = offsetof(struct kvm_sregs, tr),
};

static void regs_from_kvm(const struct kvm_regs *r, S *s)
{
    for (unsigned i = 0; i < HV_GPR_COUNT; i++)
        memcpy(&s->gpr[gprs[i].gpr], (const char *)r + gprs[i].offset, 8);
    s->rip = r->rip;
    s->rflags = r->rflags;
}

static void regs_to_kvm(const S *s, struct kvm_regs *r)
{
    for (unsigned i = 0; i < HV_GPR_COUNT; i++)
        memcpy((char *)r + gprs[i].offset, &s->gpr[gprs[i].gpr], 8);
    r->rip = s->rip;
    r->rflags = s->rflags;
}

static struct hv_segment seg_from_kvm(const struct kvm_segment *k)
{
    unsigned present = k->present && !k->unusable;
    return (struct hv_segment){.base = k->base,
                               .limit = k->limit,
                               .selector = k->selector,
                               .attrib = (uint16_t)(k->type | k->s << 4 | k->dpl << 5 |
                                                    present << 7 | k->avl << 12 | k->l << 13 |
                                                    k->db << 14 | k->g << 15)};
}

static struct kvm_segment seg_to_kvm(const struct hv_segment *s)
{
    uint16_t a = s->attrib;
    return (struct kvm_segment){.base = s->base,
                                .limit = s->limit,
                                .selector = s->selector,
                                .type = a & 15,
                                .s = a >> 4 & 1,
                                .dpl = a >> 5 & 3,
                                .present = a >> 7 & 1,
                                .avl = a >> 12 & 1,
                                .l = a >> 13 & 1,
                                .db = a >> 14 & 1,
                                .g = a >> 15 & 1,
                                .unusable = !(a >> 7 & 1)};
}

static void sregs_from_kvm(const struct kvm_sregs *k, S *s)
{
    for (unsigned i = 0; i < HV_SEG_COUNT; i++)
        s->seg[i] = seg_from_kvm((const struct kvm_segment *)((const char *)k + segs[i]));
    s->gdtr = (struct hv_table){k->gdt.base, k->gdt.limit};
    s->idtr = (struct hv_table){k->idt.base, k->idt.limit};
    s->cr0 = k->cr0;
    s->cr2 = k->cr2;
    s->cr3 = k->cr3;
    s->cr4 = k->cr4;
    s->cr8 = k->cr8;
    s->efer = k->efer;
    s->apic_base = k->apic_base;
}

static void sregs_to_kvm(const S *s, struct kvm_sregs *k)
{
    memset(k, 0, sizeof *k);
    for (unsigned i = 0; i < HV_SEG_COUNT; i++)
        *(struct kvm_segment *)((char *)k + segs[i]) = seg_to_kvm(&s->seg[i]);
    k->gdt.base = s->gdtr.base;
    k->gdt.limit = s->gdtr.limit;
    k->idt.base = s->idtr.base;
    k->idt.limit = s->idtr.limit;
    k->cr0 = s->cr0;
    k->cr2 = s->cr2;
    k->cr3 = s->cr3;
    k->cr4 = s->cr4;
    k->cr8 = s->cr8;
    k->efer = s->efer;
    k->apic_base = s->apic_base;
}

/* ---- events ---- */

enum { SHADOW_MOV_SS = 1, SHADOW_STI = 2 }; /* KVM_X86_SHADOW_INT_* */

static void events_from_kvm(const struct kvm_vcpu_events *k, S *s)
{
    /* INT n, INT3 and INTO in delivery are run again: RIP still stands on them. */
    bool soft = k->exception.nr == 3 || k->exception.nr == 4;
    s->exception_pending = (k->exception.injected || k->exception.pending) && !soft;
    s->exception_has_error = s->exception_pending && k->exception.has_error_code;
    s->exception_vector = s->exception_pending ? k->exception.nr & 31 : 0;
    s->exception_error = k->exception.error_code;
    s->interrupt_pending = k->interrupt.injected && !k->interrupt.soft;
    s->interrupt_vector = k->interrupt.nr;
    s->nmi_pending = k->nmi.pending || k->nmi.injected;
    s->nmi_blocked = k->nmi.masked;
    s->interrupt_shadow = k->interrupt.shadow & SHADOW_STI      ? 1
                          : k->interrupt.shadow & SHADOW_MOV_SS ? 2
                                                                : 0;
}

static void events_to_kvm(const S *s, struct kvm_vcpu_events *k)
{
    memset(k, 0, sizeof *k);
    k->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    k->exception.injected = s->exception_pending;
    k->exception.nr = s->exception_vector;
    k->exception.has_error_code = s->exception_has_error;
    k->exception.error_code = s->exception_error;
    k->interrupt.injected = s->interrupt_pending;
    k->interrupt.nr = s->interrupt_vector;
    k->nmi.pending = s->nmi_pending;
    k->nmi.masked = s->nmi_blocked;
    k->interrupt.shadow = s->interrupt_shadow == 1   ? SHADOW_STI
                          : s->interrupt_shadow == 2 ? SHADOW_MOV_SS
                                                     : 0;
}

static uint8_t activity_from_kvm(uint32_t mp_state)
{
    switch (mp_state) {
    case KVM_MP_STATE_HALTED: return HV_VP_HALTED;
    case KVM_MP_STATE_UNINITIALIZED: return HV_VP_WAIT_FOR_SIPI;
    case KVM_MP_STATE_INIT_RECEIVED: return HV_VP_INIT_RECEIVED;
    default: return HV_VP_RUNNING;
    }
}

/* A waiting VP takes a start-up interrupt only in INIT_RECEIVED, and an INIT there, too. */
static uint32_t activity_to_kvm(uint8_t activity)
{
    switch (activity) {
    case HV_VP_HALTED: return KVM_MP_STATE_HALTED;
    case HV_VP_WAIT_FOR_SIPI:
    case HV_VP_INIT_RECEIVED: return KVM_MP_STATE_INIT_RECEIVED;
    default: return KVM_MP_STATE_RUNNABLE;
    }
}

/* ---- all of it ---- */

struct all {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    struct kvm_debugregs debug;
    struct kvm_xcrs xcrs;
    struct kvm_vcpu_events events;
    struct kvm_mp_state mp;
};

static bool failed(const struct kvm_vp *vp, const char *what, err *e)
{
    return err_errno(e, errno, "processor %u: %s", vp->index, what);
}

bool kvm_get_state(void *b, unsigned index, S *s, err *e)
{
    struct kvm_vp *vp = &((struct kvm *)b)->vp[index];
    struct all a = {0};
    memset(s, 0, sizeof *s);
    /* Delivers what the local APIC has accepted, so mp_state first (api.rst). */
    if (ioctl(vp->fd, KVM_GET_MP_STATE, &a.mp) || ioctl(vp->fd, KVM_GET_REGS, &a.regs) ||
        ioctl(vp->fd, KVM_GET_SREGS, &a.sregs) || ioctl(vp->fd, KVM_GET_DEBUGREGS, &a.debug) ||
        ioctl(vp->fd, KVM_GET_VCPU_EVENTS, &a.events) || ioctl(vp->fd, KVM_GET_XSAVE, s->xsave) ||
        ioctl(vp->fd, KVM_GET_LAPIC, s->lapic))
        return failed(vp, "reading its registers", e);
    s->xcr0 =
        ioctl(vp->fd, KVM_GET_XCRS, &a.xcrs) == 0 && a.xcrs.nr_xcrs ? a.xcrs.xcrs[0].value : 1;
    regs_from_kvm(&a.regs, s);
    sregs_from_kvm(&a.sregs, s);
    events_from_kvm(&a.events, s);
    s->activity = activity_from_kvm(a.mp.mp_state);
    memcpy(s->dr, a.debug.db, sizeof s->dr);
    s->dr6 = a.debug.dr6;
    s->dr7 = a.debug.dr7;
    get_msrs(vp, msrs, ARRAY_LEN(msrs), s);
    get_msrs(vp, timer_msrs, ARRAY_LEN(timer_msrs), s);
    for (unsigned n = 0; n < HV_VP_SINTS; n++)
        kvm_get_msr(b, index, HV_MSR_SINT0 + n, &s->synthetic.sint[n]);
    return true;
}

static void all_to_kvm(const S *s, struct all *a)
{
    memset(a, 0, sizeof *a);
    regs_to_kvm(s, &a->regs);
    sregs_to_kvm(s, &a->sregs);
    events_to_kvm(s, &a->events);
    memcpy(a->debug.db, s->dr, sizeof s->dr);
    a->debug.dr6 = s->dr6;
    a->debug.dr7 = s->dr7;
    a->xcrs.nr_xcrs = 1;
    a->xcrs.xcrs[0].value = s->xcr0;
    a->mp.mp_state = activity_to_kvm(s->activity);
}

/* Its ID is the processor's number, in the place of xAPIC mode in x2APIC mode, too: as KVM wants it
 * without KVM_CAP_X2APIC_API. The software processor has it where x2APIC has it. */
static bool set_lapic(const struct kvm_vp *vp, unsigned index, const S *s)
{
    struct kvm_lapic_state page;
    memcpy(&page, s->lapic, sizeof page);
    put_le32((uint8_t *)&page + LAPIC_ID, index << 24);
    return ioctl(vp->fd, KVM_SET_LAPIC, &page) == 0;
}

bool kvm_set_state(void *b, unsigned index, const S *s, err *e)
{
    struct kvm_vp *vp = &((struct kvm *)b)->vp[index];
    struct all a;
    all_to_kvm(s, &a);
    if (ioctl(vp->fd, KVM_SET_SREGS, &a.sregs))
        return failed(vp, "KVM refuses its system registers", e);
    if (ioctl(vp->fd, KVM_SET_REGS, &a.regs) || ioctl(vp->fd, KVM_SET_DEBUGREGS, &a.debug))
        return failed(vp, "KVM refuses its registers", e);
    if (ioctl(vp->fd, KVM_SET_XCRS, &a.xcrs) && s->xcr0 != 1)
        return failed(vp, "KVM refuses its XCR0", e);
    if (ioctl(vp->fd, KVM_SET_XSAVE, s->xsave))
        return failed(vp, "KVM refuses its floating-point registers", e);
    if (!set_msrs(vp, msrs, ARRAY_LEN(msrs), s, e))
        return false;
    if (!set_lapic(vp, index, s))
        return failed(vp, "KVM refuses its local APIC", e);
    if (!set_synthetic(vp, s, e))
        return false;
    if (ioctl(vp->fd, KVM_SET_VCPU_EVENTS, &a.events) || ioctl(vp->fd, KVM_SET_MP_STATE, &a.mp))
        return failed(vp, "KVM refuses its pending events", e);
    return true;
}
