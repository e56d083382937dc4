/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Synthetic MSRs (TLFS appendix C). Backends with Hyper-V in their kernel send only what they do
 * not do themselves: end of message and the crash registers.
 */
#include <sched.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/hv/partition-int.h"

/* ---- partition-wide ---- */

bool hv_write_hypercall_page(struct hv_partition *p, uint64_t msr)
{
    static const uint8_t intel[] = {0x0f, 0x01, 0xc1, 0xc3}; /* vmcall; ret */
    static const uint8_t amd[] = {0x0f, 0x01, 0xd9, 0xc3};   /* vmmcall; ret */
    return hv_memory_write(p->memory, msr & HV_MSR_PAGE,
                           p->params.vendor == HV_VENDOR_AMD ? amd : intel, sizeof intel);
}

static void write_os_id(struct hv_partition *p, uint64_t value)
{
    pthread_mutex_lock(&p->ref_lock);
    p->guest_os_id = value;
    if (!value)
        p->hypercall_msr &= ~HV_MSR_ENABLE;
    pthread_mutex_unlock(&p->ref_lock);
}

static bool write_hypercall(struct hv_partition *p, uint64_t value)
{
    bool ok = true;
    pthread_mutex_lock(&p->ref_lock);
    if (!(p->hypercall_msr & HV_HYPERCALL_LOCKED) && p->guest_os_id) {
        if (value & HV_MSR_ENABLE)
            ok = hv_write_hypercall_page(p, value);
        if (ok)
            p->hypercall_msr = value;
    }
    pthread_mutex_unlock(&p->ref_lock);
    if (!ok)
        LOG_GUEST("hv", "hypercall page at 0x%llx is outside memory",
                  (unsigned long long)(value & HV_MSR_PAGE));
    return ok;
}

static uint64_t read_shared(struct hv_partition *p, const uint64_t *reg)
{
    pthread_mutex_lock(&p->ref_lock);
    uint64_t v = *reg;
    pthread_mutex_unlock(&p->ref_lock);
    return v;
}

static void write_shared(struct hv_partition *p, uint64_t *reg, uint64_t v)
{
    pthread_mutex_lock(&p->ref_lock);
    *reg = v;
    pthread_mutex_unlock(&p->ref_lock);
}

/* The guest reports that it is dying (TLFS 2.6 of the crash enlightenment): register values or a
 * log. */
static void crash(struct hv_vp *vp, uint64_t ctl)
{
    struct hv_partition *p = vp->p;
    struct hv_end_report r = {.kind = HV_END_CRASH, .vp = vp->index};
    if (!(ctl & HV_CRASH_NOTIFY))
        return;
    pthread_mutex_lock(&p->ref_lock);
    memcpy(r.crash_param, p->crash_param, sizeof r.crash_param);
    pthread_mutex_unlock(&p->ref_lock);
    if (ctl & HV_CRASH_MESSAGE) {
        uint64_t len = MIN(r.crash_param[4], sizeof r.text - 1);
        if (!hv_memory_read(p->memory, r.crash_param[3], r.text, len))
            len = 0;
        r.text[len] = '\0';
    }
    hv_end(vp, &r);
}

static void reset_requested(struct hv_vp *vp)
{
    hv_end(vp, &(struct hv_end_report){.kind = HV_END_RESET, .vp = vp->index});
}

/* ---- per processor ---- */

/* 100 ns that the VP's thread has run. Called on that thread or with it parked. */
static uint64_t vp_runtime(struct hv_vp *vp)
{
    clockid_t id;
    struct timespec ts = {0};
    if (vp->has_thread && pthread_getcpuclockid(vp->thread, &id) == 0)
        clock_gettime(id, &ts);
    return vp->runtime_base + (uint64_t)ts.tv_sec * 10000000u + (uint64_t)ts.tv_nsec / 100;
}

/* The register behind an MSR number of the SynIC and timer group, NULL if none. */
static uint64_t *synthetic_reg(struct hv_vp *vp, uint32_t msr)
{
    struct hv_vp_synthetic *s = &vp->syn;
    if (msr >= HV_MSR_SINT0 && msr < HV_MSR_SINT0 + HV_VP_SINTS)
        return &s->sint[msr - HV_MSR_SINT0];
    if (msr >= HV_MSR_STIMER0_CONFIG && msr < HV_MSR_STIMER0_CONFIG + 2 * HV_VP_STIMERS) {
        unsigned n = (msr - HV_MSR_STIMER0_CONFIG) / 2;
        return msr & 1 ? &s->stimer_count[n] : &s->stimer_config[n];
    }
    switch (msr) {
    case HV_MSR_VP_ASSIST: return &s->vp_assist_page;
    case HV_MSR_SCONTROL: return &s->scontrol;
    case HV_MSR_SIEFP: return &s->siefp;
    case HV_MSR_SIMP: return &s->simp;
    default: return NULL;
    }
}

static bool write_sint(struct hv_vp *vp, unsigned n, uint64_t value)
{
    if (!(value & HV_SINT_MASKED) && (value & HV_SINT_VECTOR) < 16)
        return false;
    pthread_mutex_lock(&vp->lock);
    vp->syn.sint[n] = value;
    hv_synic_auto_eoi(vp);
    pthread_mutex_unlock(&vp->lock);
    return true;
}

static bool write_stimer(struct hv_vp *vp, uint32_t msr, uint64_t value)
{
    unsigned n = (msr - HV_MSR_STIMER0_CONFIG) / 2;
    bool config = !(msr & 1);
    if (config && (value & HV_STIMER_ENABLE) && (value & HV_STIMER_DIRECT) &&
        HV_STIMER_VECTOR(value) < 16)
        return false;
    pthread_mutex_lock(&vp->lock);
    if (config)
        hv_stimer_write_config(vp, n, value);
    else
        hv_stimer_write_count(vp, n, value);
    pthread_mutex_unlock(&vp->lock);
    return true;
}

/* Clears the assist field, so that the guest finds no stale "no EOI required". */
static void write_vp_assist(struct hv_vp *vp, uint64_t value)
{
    static const uint8_t zero[4];
    if (value & HV_MSR_ENABLE)
        hv_memory_write(vp->p->memory, value & HV_MSR_PAGE, zero, sizeof zero);
    pthread_mutex_lock(&vp->lock);
    vp->syn.vp_assist_page = value;
    pthread_mutex_unlock(&vp->lock);
}

static bool write_synthetic(struct hv_vp *vp, uint32_t msr, uint64_t value)
{
    if (msr >= HV_MSR_STIMER0_CONFIG)
        return write_stimer(vp, msr, value);
    if (msr >= HV_MSR_SINT0)
        return write_sint(vp, msr - HV_MSR_SINT0, value);
    if (msr == HV_MSR_VP_ASSIST) {
        write_vp_assist(vp, value);
        return true;
    }
    pthread_mutex_lock(&vp->lock);
    *synthetic_reg(vp, msr) = value;
    pthread_mutex_unlock(&vp->lock);
    hv_synic_retry(vp->p, vp->index); /* a page or the whole may have been enabled */
    return true;
}

static unsigned apic_offset(uint32_t msr)
{
    return msr == HV_MSR_EOI ? 0xb0 : msr == HV_MSR_ICR ? 0x300 : 0x80;
}

/* ---- dispatch ---- */

bool hv_rdmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t *value)
{
    struct hv_partition *p = ctx;
    struct hv_vp *v = &p->vp[vp];
    uint64_t *reg = synthetic_reg(v, msr);
    if (reg) {
        pthread_mutex_lock(&v->lock);
        *value = *reg;
        pthread_mutex_unlock(&v->lock);
        return true;
    }
    *value = 0;
    switch (msr) {
    case HV_MSR_GUEST_OS_ID: *value = read_shared(p, &p->guest_os_id); return true;
    case HV_MSR_HYPERCALL: *value = read_shared(p, &p->hypercall_msr); return true;
    case HV_MSR_VP_INDEX: *value = vp; return true;
    case HV_MSR_RESET: return true;
    case HV_MSR_VP_RUNTIME: *value = vp_runtime(v); return true;
    case HV_MSR_REF_COUNT: *value = hv_ref_time(p); return true;
    case HV_MSR_REF_TSC: *value = read_shared(p, &p->ref_tsc_msr); return true;
    case HV_MSR_TSC_FREQUENCY: *value = p->ops->tsc_hz(p->backend); return true;
    case HV_MSR_APIC_FREQUENCY: *value = HV_APIC_HZ; return true;
    case HV_MSR_ICR:
    case HV_MSR_TPR:
        return p->ops->apic_read && p->ops->apic_read(p->backend, vp, apic_offset(msr), value);
    case HV_MSR_SVERSION: *value = 1; return true;
    case HV_MSR_EOM: return true;
    case HV_MSR_CRASH_CTL: *value = HV_CRASH_NOTIFY | HV_CRASH_MESSAGE; return true;
    default: break;
    }
    if (msr < HV_MSR_CRASH_P0 || msr >= HV_MSR_CRASH_CTL)
        return false;
    *value = read_shared(p, &p->crash_param[msr - HV_MSR_CRASH_P0]);
    return true;
}

bool hv_wrmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t value)
{
    struct hv_partition *p = ctx;
    struct hv_vp *v = &p->vp[vp];
    if (synthetic_reg(v, msr))
        return write_synthetic(v, msr, value);
    switch (msr) {
    case HV_MSR_GUEST_OS_ID: write_os_id(p, value); return true;
    case HV_MSR_HYPERCALL: return write_hypercall(p, value);
    case HV_MSR_RESET:
        if (value & 1)
            reset_requested(v);
        return true;
    case HV_MSR_REF_TSC: hv_ref_tsc_write(p, value); return true;
    case HV_MSR_EOI:
    case HV_MSR_ICR:
    case HV_MSR_TPR:
        return p->ops->apic_write && p->ops->apic_write(p->backend, vp, apic_offset(msr), value);
    case HV_MSR_EOM: hv_synic_retry(p, vp); return true;
    case HV_MSR_CRASH_CTL: crash(v, value); return true;
    default: break;
    }
    if (msr < HV_MSR_CRASH_P0 || msr >= HV_MSR_CRASH_CTL)
        return false;
    write_shared(p, &p->crash_param[msr - HV_MSR_CRASH_P0], value);
    return true;
}

void hv_msr_reset(struct hv_partition *p)
{
    static const uint32_t kernel[] = {HV_MSR_REF_TSC, HV_MSR_HYPERCALL, HV_MSR_GUEST_OS_ID};
    for (unsigned i = 0; hv_has_synic(p) && i < ARRAY_LEN(kernel); i++)
        p->ops->synic->set_msr(p->backend, 0, kernel[i], 0);
    pthread_mutex_lock(&p->ref_lock);
    p->guest_os_id = p->hypercall_msr = p->ref_tsc_msr = 0;
    memset(p->crash_param, 0, sizeof p->crash_param);
    pthread_mutex_unlock(&p->ref_lock);
}
