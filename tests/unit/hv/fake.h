/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A backend without a processor: records what the partition asks of it and lends its upcalls to the
 * test. */
#ifndef VIREO_TESTS_HV_FAKE_H
#define VIREO_TESTS_HV_FAKE_H

#include <pthread.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/hv/partition.h"
#include "core/hv/tlfs-proto.h"

enum { FAKE_VPS = 64, FAKE_LOG = 4096 };

/* One at a time: the last partition made. */
static struct fake {
    struct hv_backend_params p;
    struct hv_vp_state state[FAKE_VPS];
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool kicked[FAKE_VPS];
    struct {
        unsigned vp;
        uint8_t vector;
    } interrupt[FAKE_LOG];
    unsigned interrupts;
    uint64_t flushed[64];
    unsigned flushes;
    uint64_t auto_eoi[FAKE_VPS][4];
    /* What the partition told its owner. */
    unsigned ended;
    struct hv_end_report end;
    uint32_t post_id, post_type, post_len, signal_id;
    uint16_t signal_flag;
    uint8_t post[HV_MAX_MESSAGE];
    uint64_t reported_gpa, reported_len;
} fake;

static void *fake_create(const struct hv_backend_params *p, err *e)
{
    memset(&fake, 0, sizeof fake);
    fake.p = *p;
    pthread_mutex_init(&fake.lock, NULL);
    pthread_cond_init(&fake.changed, NULL);
    return &fake;
}
static void fake_destroy(void *b)
{
}
static void fake_run(void *b, unsigned vp, struct hv_exit *x)
{
    pthread_mutex_lock(&fake.lock);
    while (!fake.kicked[vp])
        pthread_cond_wait(&fake.changed, &fake.lock);
    fake.kicked[vp] = false;
    pthread_mutex_unlock(&fake.lock);
    x->kind = HV_EXIT_KICKED;
}
static void fake_kick(void *b, unsigned vp)
{
    pthread_mutex_lock(&fake.lock);
    fake.kicked[vp] = true;
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}
static bool fake_get(void *b, unsigned vp, struct hv_vp_state *s, err *e)
{
    *s = fake.state[vp];
    s->tsc = hv_clock_now(fake.p.clock) + 5000; /* this guest wrote its TSC */
    return true;
}
static bool fake_set(void *b, unsigned vp, const struct hv_vp_state *s, err *e)
{
    fake.state[vp] = *s;
    return true;
}
static void fake_stats(void *b, unsigned vp, struct hv_vp_stats *out)
{
}
static void fake_msi(void *b, const struct hv_msi *m)
{
}
static void fake_interrupt(void *b, unsigned vp, uint8_t vector)
{
    pthread_mutex_lock(&fake.lock);
    if (fake.interrupts < FAKE_LOG) {
        fake.interrupt[fake.interrupts].vp = vp;
        fake.interrupt[fake.interrupts++].vector = vector;
    }
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}
static void fake_nmi(void *b, unsigned vp)
{
}
static void fake_extint(void *b, bool asserted)
{
}
static void fake_route(void *b, unsigned pin, const struct hv_msi *m,
                       const struct hv_msi *in_service)
{
}
static void fake_auto_eoi(void *b, unsigned vp, const uint64_t vectors[4])
{
    memcpy(fake.auto_eoi[vp], vectors, sizeof fake.auto_eoi[vp]);
}
static void fake_flush(void *b, unsigned vp, uint64_t mask)
{
    if (fake.flushes < ARRAY_LEN(fake.flushed))
        fake.flushed[fake.flushes++] = mask;
}
static uint64_t fake_tsc_hz(void *b)
{
    return HV_CLOCK_TSC_HZ;
}
static bool fake_apic_read(void *b, unsigned vp, unsigned offset, uint64_t *v)
{
    *v = offset;
    return true;
}
static bool fake_apic_write(void *b, unsigned vp, unsigned offset, uint64_t v)
{
    return v != 0xbad;
}
static const struct hv_backend_ops fake_ops = {
    .name = "fake",
    .create = fake_create,
    .destroy = fake_destroy,
    .vp_run = fake_run,
    .vp_kick = fake_kick,
    .vp_get_state = fake_get,
    .vp_set_state = fake_set,
    .vp_stats = fake_stats,
    .msi = fake_msi,
    .interrupt = fake_interrupt,
    .nmi = fake_nmi,
    .extint = fake_extint,
    .ioapic_route = fake_route,
    .auto_eoi = fake_auto_eoi,
    .flush_tlb = fake_flush,
    .apic_read = fake_apic_read,
    .apic_write = fake_apic_write,
    .tsc_hz = fake_tsc_hz,
};

/* ---- the owner ---- */

static enum hv_status fake_post(void *ctx, unsigned vp, uint32_t id, uint32_t type,
                                const void *payload, uint32_t len)
{
    fake.post_id = id;
    fake.post_type = type;
    fake.post_len = len;
    memcpy(fake.post, payload, len);
    return id == 1 ? HV_STATUS_SUCCESS : HV_STATUS_INVALID_CONNECTION_ID;
}
static enum hv_status fake_signal(void *ctx, unsigned vp, uint32_t id, uint16_t flag)
{
    fake.signal_id = id;
    fake.signal_flag = flag;
    return HV_STATUS_SUCCESS;
}
static void fake_ended(void *ctx, const struct hv_end_report *r)
{
    fake.ended++;
    fake.end = *r;
}
static void fake_reported(void *ctx, uint64_t gpa, uint64_t len)
{
    fake.reported_gpa = gpa;
    fake.reported_len = len;
}
static const struct hv_partition_ops fake_owner = {.post_message = fake_post,
                                                   .signal_event = fake_signal,
                                                   .ended = fake_ended,
                                                   .pages_reported = fake_reported};

/* A partition of `vps` processors with `ram` bytes of memory, its clock running. */
static inline struct hv_partition *fake_partition(unsigned vps, uint64_t ram)
{
    const struct hv_partition_params pp = {.vendor = HV_VENDOR_AMD,
                                           .vp_count = vps,
                                           .page_reporting = true,
                                           .backend = &fake_ops,
                                           .ops = &fake_owner};
    struct hv_partition *p = hv_partition_new(&pp, NULL);
    if (p && ram && !hv_memory_add_ram(hv_partition_memory(p), 0, ram, NULL))
        return NULL;
    if (p)
        hv_partition_resume(p);
    return p;
}
static inline void fake_free(struct hv_partition *p)
{
    hv_partition_pause(p);
    hv_partition_free(p);
}
static inline bool fake_wrmsr(unsigned vp, uint32_t msr, uint64_t v)
{
    return fake.p.up.wrmsr(fake.p.up.ctx, vp, msr, v);
}
static inline bool fake_rdmsr(unsigned vp, uint32_t msr, uint64_t *v)
{
    return fake.p.up.rdmsr(fake.p.up.ctx, vp, msr, v);
}
/* The value, or all ones twice over for #GP. */
static inline uint64_t fake_msr(uint32_t msr)
{
    uint64_t v;
    return fake_rdmsr(0, msr, &v) ? v : 0xdeaddeaddeaddead;
}

#endif
