/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Saving and restoring a partition: section HVPT (what all VPs share), HVVP (one a VP) and HVMQ
 * (one a VP: the messages that wait). A state moves between backends.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/hv/partition-int.h"

/* ---- HVPT ---- */

struct shared {
    uint64_t vp_count, cpu, vendor;
    uint64_t guest_os_id, hypercall, ref_tsc;
    uint64_t reference_time, clock, tsc_hz;
    uint64_t crash_param[5];
};

static const struct state_field shared_fields[] = {
    STATE_FIELD_MAX(1, STATE_U64, struct shared, vp_count, HV_MAX_VPS),
    STATE_FIELD_MAX(2, STATE_U64, struct shared, cpu, HV_CPU_HOST),
    STATE_FIELD_MAX(3, STATE_U64, struct shared, vendor, HV_VENDOR_AMD),
    STATE_FIELD(4, STATE_U64, struct shared, guest_os_id),
    STATE_FIELD(5, STATE_U64, struct shared, hypercall),
    STATE_FIELD(6, STATE_U64, struct shared, ref_tsc),
    STATE_FIELD(7, STATE_U64, struct shared, reference_time),
    STATE_FIELD(8, STATE_U64, struct shared, clock),
    STATE_FIELD(9, STATE_U64, struct shared, tsc_hz),
    STATE_ARRAY(10, STATE_U64, struct shared, crash_param),
};
static const struct state_table shared_table = {
    .name = "partition",
    .section = STATE_ID('H', 'V', 'P', 'T'),
    .version = 1,
    .least_reader = 1,
    .fields = shared_fields,
    .nfields = ARRAY_LEN(shared_fields),
};

static void collect(struct hv_partition *p, struct shared *s)
{
    *s = (struct shared){
        .vp_count = p->params.vp_count,
        .cpu = p->params.cpu,
        .vendor = p->params.vendor,
        .guest_os_id = p->guest_os_id,
        .hypercall = p->hypercall_msr,
        .ref_tsc = p->ref_tsc_msr,
        .reference_time = hv_ref_time(p),
        .clock = hv_clock_now(&p->clock),
        .tsc_hz = p->ops->tsc_hz(p->backend),
    };
    memcpy(s->crash_param, p->crash_param, sizeof s->crash_param);
    if (!hv_has_synic(p))
        return;
    p->ops->synic->get_msr(p->backend, 0, HV_MSR_GUEST_OS_ID, &s->guest_os_id);
    p->ops->synic->get_msr(p->backend, 0, HV_MSR_HYPERCALL, &s->hypercall);
    p->ops->synic->get_msr(p->backend, 0, HV_MSR_REF_TSC, &s->ref_tsc);
}

static bool compatible(const struct hv_partition *p, const struct shared *s, err *e)
{
    if (s->vp_count != p->params.vp_count)
        return err_set(e, ERR_CORRUPT, "the saved machine has %u processors, this one %u",
                       (unsigned)s->vp_count, p->params.vp_count);
    if (s->cpu != p->params.cpu || s->vendor != p->params.vendor)
        return err_set(e, ERR_CORRUPT, "the saved machine has another processor model");
    return true;
}

/* Before the VPs: what they refer to. */
static bool apply_shared(struct hv_partition *p, const struct shared *s, err *e)
{
    bool ok = true;
    memcpy(p->crash_param, s->crash_param, sizeof p->crash_param);
    if (hv_has_synic(p)) {
        const struct hv_backend_synic_ops *k = p->ops->synic;
        ok = k->set_reference_time(p->backend, s->reference_time, e);
        ok = ok && (k->set_msr(p->backend, 0, HV_MSR_GUEST_OS_ID, s->guest_os_id) ||
                    err_set(e, ERR_CORRUPT, "guest OS id refused"));
        ok = ok && (k->set_msr(p->backend, 0, HV_MSR_HYPERCALL, s->hypercall) ||
                    err_set(e, ERR_CORRUPT, "hypercall page refused"));
        ok = ok && (k->set_msr(p->backend, 0, HV_MSR_REF_TSC, s->ref_tsc) ||
                    err_set(e, ERR_CORRUPT, "reference TSC page refused"));
        return ok;
    }
    p->guest_os_id = s->guest_os_id;
    p->hypercall_msr = s->hypercall;
    p->ref_tsc_msr = s->ref_tsc;
    /* The page may hold the other vendor's instruction: it is the same state, made afresh. */
    if ((s->hypercall & HV_MSR_ENABLE) && !hv_write_hypercall_page(p, s->hypercall))
        return err_set(e, ERR_CORRUPT, "the saved hypercall page lies outside memory");
    return true;
}

/* ---- HVVP ---- */

#define S struct hv_vp_state
static const struct state_field seg_fields[] = {
    STATE_FIELD(1, STATE_U64, struct hv_segment, base),
    STATE_FIELD(2, STATE_U32, struct hv_segment, limit),
    STATE_FIELD(3, STATE_U16, struct hv_segment, selector),
    STATE_FIELD(4, STATE_U16, struct hv_segment, attrib),
};
static const struct state_table seg_table = {
    .name = "segment", .fields = seg_fields, .nfields = ARRAY_LEN(seg_fields)};
static const struct state_field dt_fields[] = {
    STATE_FIELD(1, STATE_U64, struct hv_table, base),
    STATE_FIELD(2, STATE_U16, struct hv_table, limit),
};
static const struct state_table dt_table = {
    .name = "descriptor table", .fields = dt_fields, .nfields = ARRAY_LEN(dt_fields)};
static const struct state_field syn_fields[] = {
    STATE_FIELD(1, STATE_U64, struct hv_vp_synthetic, vp_assist_page),
    STATE_FIELD(2, STATE_U64, struct hv_vp_synthetic, scontrol),
    STATE_FIELD(3, STATE_U64, struct hv_vp_synthetic, siefp),
    STATE_FIELD(4, STATE_U64, struct hv_vp_synthetic, simp),
    STATE_ARRAY(5, STATE_U64, struct hv_vp_synthetic, sint),
    STATE_ARRAY(6, STATE_U64, struct hv_vp_synthetic, stimer_config),
    STATE_ARRAY(7, STATE_U64, struct hv_vp_synthetic, stimer_count),
};
static const struct state_table syn_table = {
    .name = "synthetic registers", .fields = syn_fields, .nfields = ARRAY_LEN(syn_fields)};

static bool check_vp(void *obj, uint16_t version, err *e)
{
    const S *s = obj;
    for (unsigned i = 0; i < HV_VP_SINTS; i++)
        if (!(s->synthetic.sint[i] & HV_SINT_MASKED) &&
            (s->synthetic.sint[i] & HV_SINT_VECTOR) < 16)
            return err_set(e, ERR_CORRUPT, "a saved processor's SINT %u has no valid vector", i);
    return true;
}

static const struct state_field vp_fields[] = {
    STATE_ARRAY(1, STATE_U64, S, gpr),
    STATE_FIELD(2, STATE_U64, S, rip),
    STATE_FIELD(3, STATE_U64, S, rflags),
    STATE_SUB(4, S, seg, &seg_table, HV_SEG_COUNT),
    STATE_SUB(5, S, gdtr, &dt_table, 1),
    STATE_SUB(6, S, idtr, &dt_table, 1),
    STATE_FIELD(7, STATE_U64, S, cr0),
    STATE_FIELD(8, STATE_U64, S, cr2),
    STATE_FIELD(9, STATE_U64, S, cr3),
    STATE_FIELD(10, STATE_U64, S, cr4),
    STATE_FIELD_MAX(11, STATE_U64, S, cr8, 15),
    STATE_FIELD(12, STATE_U64, S, xcr0),
    STATE_ARRAY(13, STATE_U64, S, dr),
    STATE_FIELD(14, STATE_U64, S, dr6),
    STATE_FIELD(15, STATE_U64, S, dr7),
    STATE_FIELD(16, STATE_U64, S, efer),
    STATE_FIELD(17, STATE_U64, S, star),
    STATE_FIELD(18, STATE_U64, S, lstar),
    STATE_FIELD(19, STATE_U64, S, cstar),
    STATE_FIELD(20, STATE_U64, S, sfmask),
    STATE_FIELD(21, STATE_U64, S, kernel_gs_base),
    STATE_FIELD(22, STATE_U64, S, sysenter_cs),
    STATE_FIELD(23, STATE_U64, S, sysenter_eip),
    STATE_FIELD(24, STATE_U64, S, sysenter_esp),
    STATE_FIELD(25, STATE_U64, S, pat),
    STATE_FIELD(26, STATE_U64, S, apic_base),
    STATE_FIELD(27, STATE_U64, S, tsc_aux),
    STATE_FIELD(28, STATE_U64, S, misc_enable),
    STATE_FIELD(29, STATE_U64, S, spec_ctrl),
    STATE_FIELD(30, STATE_U64, S, debugctl),
    STATE_FIELD(31, STATE_U64, S, tsc),
    STATE_FIELD(32, STATE_U64, S, tsc_adjust),
    STATE_FIELD(33, STATE_U64, S, mtrr_def_type),
    STATE_ARRAY(34, STATE_U64, S, mtrr_fixed),
    STATE_ARRAY(35, STATE_U64, S, mtrr_base),
    STATE_ARRAY(36, STATE_U64, S, mtrr_mask),
    STATE_FIELD(37, STATE_BOOL, S, exception_pending),
    STATE_FIELD(38, STATE_BOOL, S, exception_has_error),
    STATE_FIELD_MAX(39, STATE_U8, S, exception_vector, 31),
    STATE_FIELD(40, STATE_U32, S, exception_error),
    STATE_FIELD(41, STATE_BOOL, S, interrupt_pending),
    STATE_FIELD(42, STATE_U8, S, interrupt_vector),
    STATE_FIELD(43, STATE_BOOL, S, nmi_pending),
    STATE_FIELD(44, STATE_BOOL, S, nmi_blocked),
    STATE_FIELD_MAX(45, STATE_U8, S, interrupt_shadow, 2),
    STATE_FIELD_MAX(46, STATE_U8, S, activity, HV_VP_INIT_RECEIVED),
    STATE_SUB(47, S, synthetic, &syn_table, 1),
    STATE_FIELD(48, STATE_BYTES, S, lapic),
    STATE_FIELD(49, STATE_BYTES, S, xsave),
};
static const struct state_table vp_table = {
    .name = "processor",
    .section = STATE_ID('H', 'V', 'V', 'P'),
    .version = 1,
    .least_reader = 1,
    .fields = vp_fields,
    .nfields = ARRAY_LEN(vp_fields),
    .post_load = check_vp,
};

/* ---- HVMQ ---- */

enum { TAG_MESSAGE = 1, MESSAGE_HEAD = 8 }; /* u32 type, u8 sint, s8 stimer, u16 0, payload */

static void save_queues(struct hv_vp *vp, struct state_writer *w)
{
    uint8_t buf[MESSAGE_HEAD + HV_MAX_MESSAGE];
    state_begin(w, STATE_ID('H', 'V', 'M', 'Q'), vp->index, 1, 1);
    pthread_mutex_lock(&vp->lock);
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
        for (const struct hv_queued *m = vp->queue[sint].first; m; m = m->next) {
            put_le32(buf, m->type);
            buf[4] = (uint8_t)sint;
            buf[5] = (uint8_t)m->stimer;
            put_le16(buf + 6, 0);
            memcpy(buf + MESSAGE_HEAD, m->payload, m->len);
            state_put(w, TAG_MESSAGE, buf, MESSAGE_HEAD + (size_t)m->len);
        }
    pthread_mutex_unlock(&vp->lock);
    state_end(w);
}

static bool load_message(struct hv_vp *vp, const struct state_field_view *f, err *e)
{
    if (f->len < MESSAGE_HEAD || f->len > MESSAGE_HEAD + HV_MAX_MESSAGE ||
        f->data[4] >= HV_VP_SINTS || !get_le32(f->data))
        return err_set(e, ERR_CORRUPT, "a saved message of processor %u is damaged", vp->index);
    int timer = (int8_t)f->data[5];
    uint8_t len = (uint8_t)(f->len - MESSAGE_HEAD);
    if (timer < -1 || timer >= HV_VP_STIMERS ||
        (timer >= 0 && len != sizeof(struct hv_timer_payload)))
        return err_set(e, ERR_CORRUPT, "a saved message names timer %d", timer);
    if (!hv_synic_enqueue(vp, f->data[4], get_le32(f->data), f->data + MESSAGE_HEAD, len, timer))
        return err_set(e, ERR_CORRUPT, "processor %u has too many saved messages", vp->index);
    if (timer >= 0)
        vp->stimer[timer].queued = true;
    return true;
}

static bool load_queues(struct hv_vp *vp, const struct state_reader *r, err *e)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    err end = ERR_INIT;
    if (!state_find(r, STATE_ID('H', 'V', 'M', 'Q'), vp->index, &s, e))
        return false;
    pthread_mutex_lock(&vp->lock);
    bool ok = true;
    while (ok && state_field_next(&s, &pos, &f, &end))
        ok = f.tag != TAG_MESSAGE || load_message(vp, &f, e);
    pthread_mutex_unlock(&vp->lock);
    if (ok && end.code != ERR_NONE)
        return err_set(e, end.code, "%s", end.text);
    return ok;
}

/* ---- all of it ---- */

bool hv_partition_save(struct hv_partition *p, struct state_writer *w, err *e)
{
    AUTO(buf) mem = malloc(sizeof(S));
    S *s = mem;
    struct shared shared;
    if (!s)
        return err_set(e, ERR_NO_MEMORY, "no memory to save the processors");
    collect(p, &shared);
    state_save(w, &shared_table, 0, &shared);
    for (unsigned i = 0; i < p->params.vp_count; i++) {
        if (!hv_partition_get_vp(p, i, s, e))
            return false;
        state_save(w, &vp_table, i, s);
        save_queues(&p->vp[i], w);
    }
    return true;
}

static bool restore_vp(struct hv_partition *p, unsigned i, const struct state_reader *r, S *s,
                       err *e)
{
    hv_vp_state_reset(s, i); /* fields that the writer did not know */
    return state_restore(r, &vp_table, i, s, e) && hv_partition_set_vp(p, i, s, e) &&
           load_queues(&p->vp[i], r, e);
}

bool hv_partition_restore(struct hv_partition *p, const struct state_reader *r, err *e)
{
    AUTO(buf) mem = malloc(sizeof(S));
    S *s = mem;
    struct shared shared = {0};
    if (!s)
        return err_set(e, ERR_NO_MEMORY, "no memory to restore the processors");
    hv_partition_reset(p);
    if (!state_restore(r, &shared_table, 0, &shared, e) || !compatible(p, &shared, e))
        return false;
    hv_clock_set(&p->clock, shared.clock);
    if (!apply_shared(p, &shared, e))
        return false;
    /* Time first, and that needs VP 0's TSC: timers are judged by it as they are set. */
    hv_vp_state_reset(s, 0);
    if (!state_restore(r, &vp_table, 0, s, e))
        return false;
    if (!hv_has_synic(p))
        hv_ref_set(p, shared.reference_time, s->tsc);
    for (unsigned i = 0; i < p->params.vp_count; i++)
        if (!restore_vp(p, i, r, s, e))
            return false;
    return true;
}
