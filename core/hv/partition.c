/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Making and running a partition: backend choice, VP threads, pause and resume, reset, interrupts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/hv/partition-int.h"

/* ---- which backend ---- */

static const struct hv_backend_ops *soft_backend(void)
{
#ifdef VIREO_HAVE_SOFT
    return &hv_backend_soft;
#else
    return NULL;
#endif
}

static const struct hv_backend_ops *choose(const struct hv_partition_params *p, char *note,
                                           size_t size, err *e)
{
    char why[200] = "";
    if (p->backend)
        return p->backend;
    if (p->accel != HV_ACCEL_SOFT) {
        if (hv_backend_kvm.usable(why, sizeof why))
            return &hv_backend_kvm;
        if (p->accel == HV_ACCEL_KVM) {
            err_set(e, ERR_UNSUPPORTED, "KVM cannot be used here: %s", why);
            return NULL;
        }
        snprintf(note, size, "software processor in use, because %s", why);
    }
    if (!soft_backend())
        err_set(e, ERR_UNSUPPORTED, "this build has no software processor%s%s",
                *why ? ", and " : "", why);
    return soft_backend();
}

/* ---- the VP threads ---- */

static void set_phase(struct hv_vp *vp, enum hv_vp_phase phase)
{
    vp->phase = phase;
    pthread_cond_broadcast(&vp->p->run_changed);
}

/* On the VP's own thread, no lock held. */
void hv_end(struct hv_vp *vp, const struct hv_end_report *r)
{
    struct hv_partition *p = vp->p;
    bool tell = true;
    if (r->kind !=
        HV_END_CRASH) { /* after a crash report the guest goes on: kdump, its own reset */
        pthread_mutex_lock(&p->run_lock);
        tell = !p->ended;
        p->ended = true;
        vp->stopped = true;
        pthread_mutex_unlock(&p->run_lock);
        p->ops->vp_kick(p->backend, vp->index);
    }
    if (tell && p->params.ops->ended)
        p->params.ops->ended(p->params.ctx, r);
}

static void handle_exit(struct hv_vp *vp, const struct hv_exit *x)
{
    struct hv_end_report r = {.vp = vp->index};
    switch (x->kind) {
    case HV_EXIT_KICKED: return;
    case HV_EXIT_TRIPLE_FAULT: r.kind = HV_END_TRIPLE_FAULT; break;
    case HV_EXIT_RESET: r.kind = HV_END_RESET; break;
    case HV_EXIT_CRASH: r.kind = HV_END_CRASH; break;
    case HV_EXIT_FAILED: r.kind = HV_END_FAILED; break;
    }
    snprintf(r.text, sizeof r.text, "%s", x->text);
    hv_end(vp, &r);
}

static bool may_run(const struct hv_vp *vp)
{
    return vp->p->running && !vp->stopped;
}

static void *vp_thread(void *arg)
{
    struct hv_vp *vp = arg;
    struct hv_partition *p = vp->p;
    char name[16];
    snprintf(name, sizeof name, "vireo-vp%u", vp->index);
    prctl(PR_SET_NAME, name, 0, 0, 0);
    pthread_mutex_lock(&p->run_lock);
    while (!p->quit) {
        if (!may_run(vp)) {
            set_phase(vp, HV_PARKED);
            pthread_cond_wait(&p->run_changed, &p->run_lock);
            continue;
        }
        set_phase(vp, HV_IN_GUEST);
        pthread_mutex_unlock(&p->run_lock);
        struct hv_exit x = {.kind = HV_EXIT_KICKED};
        p->ops->vp_run(p->backend, vp->index, &x);
        handle_exit(vp, &x);
        pthread_mutex_lock(&p->run_lock);
    }
    set_phase(vp, HV_PARKED);
    pthread_mutex_unlock(&p->run_lock);
    return NULL;
}

static bool start_threads(struct hv_partition *p, err *e)
{
    for (unsigned i = 0; i < p->params.vp_count; i++) {
        int rc = pthread_create(&p->vp[i].thread, NULL, vp_thread, &p->vp[i]);
        if (rc)
            return err_errno(e, rc, "starting the thread of processor %u", i);
        p->vp[i].has_thread = true;
    }
    return true;
}

static void join_threads(struct hv_partition *p)
{
    pthread_mutex_lock(&p->run_lock);
    p->quit = true;
    p->running = false;
    pthread_cond_broadcast(&p->run_changed);
    pthread_mutex_unlock(&p->run_lock);
    for (unsigned i = 0; i < p->params.vp_count; i++)
        if (p->vp[i].has_thread)
            pthread_join(p->vp[i].thread, NULL);
}

/* ---- making and freeing ---- */

static void on_eoi(void *ctx, unsigned vp, uint8_t vector)
{
    struct hv_partition *p = ctx;
    hv_synic_eoi(&p->vp[vp], vector);
    if (p->params.ops->ioapic_eoi)
        p->params.ops->ioapic_eoi(p->params.ctx, vector);
}

static int on_extint_ack(void *ctx)
{
    struct hv_partition *p = ctx;
    return p->params.ops->pic_ack ? p->params.ops->pic_ack(p->params.ctx) : -1;
}

static bool make_backend(struct hv_partition *p, err *e)
{
    p->ncpuid = hv_cpuid_build(&p->params, p->ops, p->cpuid);
    const struct hv_backend_params bp = {
        .memory = p->memory,
        .io = p->io,
        .timers = p->timers,
        .vp_count = p->params.vp_count,
        .cpuid = p->cpuid,
        .ncpuid = p->ncpuid,
        .clock = &p->clock,
        .apic_hz = HV_APIC_HZ,
        .up = {.rdmsr = hv_rdmsr,
               .wrmsr = hv_wrmsr,
               .hypercall = hv_hypercall,
               .eoi = on_eoi,
               .eom = hv_synic_retry,
               .synic_pages = hv_synic_pages,
               .extint_ack = on_extint_ack,
               .ctx = p},
    };
    p->backend = p->ops->create(&bp, e);
    return p->backend != NULL;
}

static void init_vps(struct hv_partition *p)
{
    for (unsigned i = 0; i < p->params.vp_count; i++) {
        struct hv_vp *vp = &p->vp[i];
        vp->p = p;
        vp->index = i;
        pthread_mutex_init(&vp->lock, NULL);
        hv_stimer_init(vp);
    }
}

static bool make_parts(struct hv_partition *p, err *e)
{
    hv_clock_init(&p->clock);
    p->memory = hv_memory_new(e);
    p->io = p->memory ? hv_io_new(e) : NULL;
    p->timers = p->io ? hv_timers_new(&p->clock, e) : NULL;
    if (!p->timers)
        return false;
    init_vps(p);
    if (!make_backend(p, e))
        return false;
    hv_partition_reset(p);
    return start_threads(p, e);
}

struct hv_partition *hv_partition_new(const struct hv_partition_params *params, err *e)
{
    if (!params->vp_count || params->vp_count > HV_MAX_VPS) {
        err_set(e, ERR_INVALID, "%u processors: from 1 to %d are possible", params->vp_count,
                HV_MAX_VPS);
        return NULL;
    }
    struct hv_partition *p = calloc(1, sizeof *p + params->vp_count * sizeof p->vp[0]);
    if (!p) {
        err_set(e, ERR_NO_MEMORY, "no memory for a partition");
        return NULL;
    }
    p->params = *params;
    pthread_mutex_init(&p->run_lock, NULL);
    pthread_cond_init(&p->run_changed, NULL);
    pthread_mutex_init(&p->ref_lock, NULL);
    pthread_rwlock_init(&p->bind_lock, NULL);
    p->ops = choose(params, p->note, sizeof p->note, e);
    if (!p->ops || !make_parts(p, e)) {
        hv_partition_free(p);
        return NULL;
    }
    return p;
}

static void free_vps(struct hv_partition *p)
{
    if (!p->vp[0].p)
        return; /* they were not made */
    for (unsigned i = 0; i < p->params.vp_count; i++)
        hv_stimer_cancel_all(&p->vp[i]);
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
        hv_synic_drop(p, sint);
    for (unsigned i = 0; i < p->params.vp_count; i++)
        pthread_mutex_destroy(&p->vp[i].lock);
}

void hv_partition_free(struct hv_partition *p)
{
    if (!p)
        return;
    join_threads(p);
    free_vps(p);
    if (p->backend)
        p->ops->destroy(p->backend);
    hv_timers_free(p->timers);
    hv_bindings_free(p);
    hv_io_free(p->io);
    hv_memory_free(p->memory);
    pthread_rwlock_destroy(&p->bind_lock);
    pthread_mutex_destroy(&p->ref_lock);
    pthread_cond_destroy(&p->run_changed);
    pthread_mutex_destroy(&p->run_lock);
    free(p);
}

/* ---- plain questions ---- */

const char *hv_partition_backend(const struct hv_partition *p)
{
    return p->ops->name;
}
const char *hv_partition_note(const struct hv_partition *p)
{
    return p->note;
}
struct hv_memory *hv_partition_memory(struct hv_partition *p)
{
    return p->memory;
}
struct hv_io *hv_partition_io(struct hv_partition *p)
{
    return p->io;
}
unsigned hv_partition_vp_count(const struct hv_partition *p)
{
    return p->params.vp_count;
}
const struct hv_clock *hv_partition_clock(const struct hv_partition *p)
{
    return &p->clock;
}
uint64_t hv_partition_tsc_hz(const struct hv_partition *p)
{
    return p->ops->tsc_hz(p->backend);
}
uint64_t hv_partition_reference_time(struct hv_partition *p)
{
    return hv_ref_time(p);
}

/* ---- running ---- */

void hv_partition_resume(struct hv_partition *p)
{
    pthread_mutex_lock(&p->run_lock);
    hv_clock_start(&p->clock);
    hv_timers_clock_changed(p->timers);
    p->running = true;
    pthread_cond_broadcast(&p->run_changed);
    pthread_mutex_unlock(&p->run_lock);
}

void hv_partition_pass_time(struct hv_partition *p, uint64_t ns)
{
    if (!hv_clock_running(&p->clock))
        hv_clock_set(&p->clock, hv_clock_now(&p->clock) + ns);
}

static bool all_parked(const struct hv_partition *p)
{
    for (unsigned i = 0; i < p->params.vp_count; i++)
        if (p->vp[i].phase != HV_PARKED)
            return false;
    return true;
}

void hv_partition_pause(struct hv_partition *p)
{
    pthread_mutex_lock(&p->run_lock);
    p->running = false;
    for (unsigned i = 0; i < p->params.vp_count; i++)
        if (p->vp[i].phase == HV_IN_GUEST)
            p->ops->vp_kick(p->backend, i);
    while (!all_parked(p))
        pthread_cond_wait(&p->run_changed, &p->run_lock);
    hv_clock_stop(&p->clock);
    hv_timers_clock_changed(p->timers);
    pthread_mutex_unlock(&p->run_lock);
}

/* Reference time goes on, the TSCs start again at 0: the reference TSC page must know both. */
static void reset_time(struct hv_partition *p)
{
    if (!hv_has_synic(p))
        hv_ref_set(p, hv_ref_time(p), 0);
}

void hv_partition_reset(struct hv_partition *p)
{
    struct hv_vp_state *s = malloc(sizeof *s);
    hv_msr_reset(p);
    reset_time(p);
    for (unsigned i = 0; i < p->params.vp_count; i++) {
        hv_synic_reset(&p->vp[i]);
        err e = ERR_INIT;
        if (s)
            hv_vp_state_reset(s, i);
        if (!s || !p->ops->vp_set_state(p->backend, i, s, &e))
            log_line(LOG_ERROR, "hv", "processor %u cannot be reset: %s", i, e.text);
    }
    free(s);
    pthread_mutex_lock(&p->run_lock);
    p->ended = false;
    for (unsigned i = 0; i < p->params.vp_count; i++)
        p->vp[i].stopped = false;
    pthread_mutex_unlock(&p->run_lock);
}

bool hv_partition_init(struct hv_partition *p, err *e)
{
    struct hv_vp_state *s = malloc(sizeof *s);
    bool ok = s ? hv_partition_get_vp(p, 0, s, e) : err_set(e, ERR_NO_MEMORY, "Not enough memory");
    if (ok)
        hv_vp_state_init(s);
    ok = ok && hv_partition_set_vp(p, 0, s, e);
    free(s);
    pthread_mutex_lock(&p->run_lock);
    p->ended = false;
    p->vp[0].stopped = false;
    pthread_mutex_unlock(&p->run_lock);
    return ok;
}

bool hv_partition_get_vp(struct hv_partition *p, unsigned vp, struct hv_vp_state *s, err *e)
{
    if (vp >= p->params.vp_count)
        return err_set(e, ERR_NOT_FOUND, "there is no processor %u", vp);
    if (!p->ops->vp_get_state(p->backend, vp, s, e))
        return false;
    if (!hv_has_synic(p)) {
        pthread_mutex_lock(&p->vp[vp].lock);
        s->synthetic = p->vp[vp].syn;
        pthread_mutex_unlock(&p->vp[vp].lock);
    }
    return true;
}

bool hv_partition_set_vp(struct hv_partition *p, unsigned vp, const struct hv_vp_state *s, err *e)
{
    if (vp >= p->params.vp_count)
        return err_set(e, ERR_NOT_FOUND, "there is no processor %u", vp);
    if (!p->ops->vp_set_state(p->backend, vp, s, e))
        return false;
    struct hv_vp *v = &p->vp[vp];
    pthread_mutex_lock(&v->lock);
    if (hv_has_synic(p)) {
        v->syn.scontrol = s->synthetic.scontrol;
        v->syn.siefp = s->synthetic.siefp;
        v->syn.simp = s->synthetic.simp;
    } else {
        v->syn = s->synthetic;
        hv_synic_auto_eoi(v);
        hv_stimer_start_all(v);
    }
    pthread_mutex_unlock(&v->lock);
    return true;
}

void hv_partition_stats(struct hv_partition *p, unsigned vp, struct hv_vp_stats *out)
{
    memset(out, 0, sizeof *out);
    if (vp < p->params.vp_count)
        p->ops->vp_stats(p->backend, vp, out);
}

/* ---- interrupts ---- */

void hv_partition_msi(struct hv_partition *p, const struct hv_msi *m)
{
    p->ops->msi(p->backend, m);
}
void hv_partition_ioapic_route(struct hv_partition *p, unsigned pin, const struct hv_msi *m,
                               const struct hv_msi *in_service)
{
    p->ops->ioapic_route(p->backend, pin, m, in_service);
}
void hv_partition_extint(struct hv_partition *p, bool asserted)
{
    p->ops->extint(p->backend, asserted);
}
bool hv_partition_set_a20(struct hv_partition *p, bool on)
{
    return p->ops->set_a20 && p->ops->set_a20(p->backend, on);
}

void hv_partition_nmi(struct hv_partition *p, unsigned vp)
{
    if (vp < p->params.vp_count)
        p->ops->nmi(p->backend, vp);
}
