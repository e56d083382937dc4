/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The synthetic interrupt controller, host side (TLFS 11): messages with a queue behind each slot,
 * event flags, and the assertion of SINTs. Pages are guest memory: addresses and contents are
 * hostile.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/hv/partition-int.h"

/* ---- queues; the VP's lock is held ---- */

static bool queue_put(struct hv_queue *q, struct hv_queued *m)
{
    if (q->count >= HV_QUEUE_MAX)
        return false;
    if (!q->first)
        q->last = &q->first;
    m->next = NULL;
    *q->last = m;
    q->last = &m->next;
    q->count++;
    return true;
}

static void queue_pop(struct hv_queue *q)
{
    struct hv_queued *m = q->first;
    q->first = m->next;
    q->count--;
    free(m);
}

static void queue_clear(struct hv_vp *vp, unsigned sint)
{
    while (vp->queue[sint].first) {
        if (vp->queue[sint].first->stimer >= 0)
            vp->stimer[vp->queue[sint].first->stimer].queued = false;
        queue_pop(&vp->queue[sint]);
    }
}

bool hv_synic_enqueue(struct hv_vp *vp, unsigned sint, uint32_t type, const void *payload,
                      uint8_t len, int stimer)
{
    struct hv_queued *m = malloc(sizeof *m);
    if (!m)
        return false;
    *m = (struct hv_queued){.type = type, .len = len, .stimer = (int8_t)stimer};
    if (len)
        memcpy(m->payload, payload, len);
    if (queue_put(&vp->queue[sint], m))
        return true;
    free(m);
    return false;
}

/* ---- delivery; the VP's lock is held ---- */

static void assert_sint(struct hv_vp *vp, unsigned sint)
{
    struct hv_partition *p = vp->p;
    if (hv_has_synic(p)) {
        p->ops->synic->assert_sint(p->backend, vp->index, sint);
        return;
    }
    uint64_t reg = vp->syn.sint[sint];
    uint8_t vector = (uint8_t)(reg & HV_SINT_VECTOR);
    if (!(reg & (HV_SINT_MASKED | HV_SINT_POLLING)) && vector >= 16)
        p->ops->interrupt(p->backend, vp->index, vector);
}

static bool acquire_page(struct hv_vp *vp, uint64_t page_msr, unsigned sint, struct hv_span *span)
{
    *span = (struct hv_span){0};
    if (!(vp->syn.scontrol & HV_MSR_ENABLE) || !(page_msr & HV_MSR_ENABLE))
        return false;
    if (hv_memory_acquire(vp->p->memory, (page_msr & HV_MSR_PAGE) + sint * HV_SLOT_BYTES,
                          HV_SLOT_BYTES, true, span))
        return true;
    LOG_GUEST("hv", "processor %u: SynIC page 0x%llx is outside memory", vp->index,
              (unsigned long long)(page_msr & HV_MSR_PAGE));
    return false;
}

/* Whether the slot is free; if not, the guest is asked to write EOM when it is. */
static bool slot_free(struct hv_slot *slot)
{
    if (__atomic_load_n(&slot->type, __ATOMIC_ACQUIRE) == 0)
        return true;
    __atomic_or_fetch(&slot->flags, HV_MESSAGE_PENDING, __ATOMIC_SEQ_CST);
    /* The guest may have freed it without having seen the flag. */
    return __atomic_load_n(&slot->type, __ATOMIC_SEQ_CST) == 0;
}

static void fill_timer(struct hv_vp *vp, struct hv_queued *m)
{
    if (m->stimer < 0)
        return;
    uint64_t now = hv_ref_time(vp->p);
    memcpy(m->payload + offsetof(struct hv_timer_payload, delivery), &now, sizeof now);
    vp->stimer[m->stimer].queued = false;
}

static void write_slot(struct hv_slot *slot, const struct hv_queued *m, bool more)
{
    memcpy(slot->payload, m->payload, m->len);
    slot->sender = 0;
    slot->reserved = 0;
    slot->size = m->len;
    __atomic_store_n(&slot->flags, more ? HV_MESSAGE_PENDING : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&slot->type, m->type, __ATOMIC_SEQ_CST);
}

/* Moves the head of the queue into the slot if that is free, and asserts the SINT. */
static void deliver(struct hv_vp *vp, unsigned sint)
{
    struct hv_queue *q = &vp->queue[sint];
    struct hv_span span;
    if (!q->first || !acquire_page(vp, vp->syn.simp, sint, &span))
        return;
    bool sent = false;
    if (slot_free(span.ptr)) {
        fill_timer(vp, q->first);
        write_slot(span.ptr, q->first, q->count > 1);
        queue_pop(q);
        sent = true;
    }
    hv_memory_release(&span);
    if (sent)
        assert_sint(vp, sint);
}

static void deliver_all(struct hv_vp *vp)
{
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
        deliver(vp, sint);
}

bool hv_synic_post_stimer(struct hv_stimer *t, unsigned sint)
{
    if (t->queued) /* one at a time: the guest has not taken the last */
        return true;
    struct hv_timer_payload m = {.index = t->index, .expiration = t->due};
    if (!m.expiration)
        m.expiration = t->vp->syn.stimer_count[t->index];
    if (!hv_synic_enqueue(t->vp, sint, HV_MESSAGE_TIMER_EXPIRED, &m, sizeof m, t->index))
        return false;
    t->queued = true;
    deliver(t->vp, sint);
    return true;
}

/* ---- the host's calls ---- */

bool hv_synic_post(struct hv_partition *p, unsigned vp, unsigned sint, uint32_t type,
                   const void *payload, uint8_t len)
{
    if (vp >= p->params.vp_count || sint >= HV_VP_SINTS || len > HV_MAX_MESSAGE || !type)
        return false;
    struct hv_vp *v = &p->vp[vp];
    pthread_mutex_lock(&v->lock);
    bool ok = hv_synic_enqueue(v, sint, type, payload, len, -1);
    if (ok)
        deliver(v, sint);
    pthread_mutex_unlock(&v->lock);
    return ok;
}

bool hv_synic_signal(struct hv_partition *p, unsigned vp, unsigned sint, uint16_t flag)
{
    if (vp >= p->params.vp_count || sint >= HV_VP_SINTS || flag >= HV_FLAGS_BITS)
        return false;
    struct hv_vp *v = &p->vp[vp];
    struct hv_span span;
    pthread_mutex_lock(&v->lock);
    bool ok = acquire_page(v, v->syn.siefp, sint, &span);
    if (ok) {
        uint64_t bit = 1ull << flag % 64;
        uint64_t *word = (uint64_t *)span.ptr + flag / 64;
        bool was = __atomic_fetch_or(word, bit, __ATOMIC_SEQ_CST) & bit;
        hv_memory_release(&span);
        if (!was)
            assert_sint(v, sint);
    }
    pthread_mutex_unlock(&v->lock);
    return ok;
}

void hv_synic_assert(struct hv_partition *p, unsigned vp, unsigned sint)
{
    if (vp >= p->params.vp_count || sint >= HV_VP_SINTS)
        return;
    pthread_mutex_lock(&p->vp[vp].lock);
    assert_sint(&p->vp[vp], sint);
    pthread_mutex_unlock(&p->vp[vp].lock);
}

void hv_synic_drop(struct hv_partition *p, unsigned sint)
{
    if (sint >= HV_VP_SINTS)
        return;
    for (unsigned i = 0; i < p->params.vp_count; i++) {
        pthread_mutex_lock(&p->vp[i].lock);
        queue_clear(&p->vp[i], sint);
        pthread_mutex_unlock(&p->vp[i].lock);
    }
}

/* ---- what the guest did ---- */

void hv_synic_retry(void *ctx, unsigned vp)
{
    struct hv_vp *v = &((struct hv_partition *)ctx)->vp[vp];
    pthread_mutex_lock(&v->lock);
    deliver_all(v);
    pthread_mutex_unlock(&v->lock);
}

void hv_synic_eoi(struct hv_vp *vp, uint8_t vector)
{
    pthread_mutex_lock(&vp->lock);
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
        if ((vp->syn.sint[sint] & (HV_SINT_VECTOR | HV_SINT_MASKED)) == vector)
            deliver(vp, sint);
    pthread_mutex_unlock(&vp->lock);
}

void hv_synic_pages(void *ctx, unsigned vp, uint64_t scontrol, uint64_t siefp, uint64_t simp)
{
    struct hv_vp *v = &((struct hv_partition *)ctx)->vp[vp];
    pthread_mutex_lock(&v->lock);
    v->syn.scontrol = scontrol;
    v->syn.siefp = siefp;
    v->syn.simp = simp;
    deliver_all(v);
    pthread_mutex_unlock(&v->lock);
}

void hv_synic_auto_eoi(struct hv_vp *vp)
{
    if (!vp->p->ops->auto_eoi)
        return;
    uint64_t vectors[4] = {0};
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++) {
        uint64_t reg = vp->syn.sint[sint];
        if ((reg & HV_SINT_AUTO_EOI) && !(reg & HV_SINT_MASKED))
            vectors[(reg & HV_SINT_VECTOR) / 64] |= 1ull << (reg & HV_SINT_VECTOR) % 64;
    }
    vp->p->ops->auto_eoi(vp->p->backend, vp->index, vectors);
}

void hv_synic_reset(struct hv_vp *vp)
{
    pthread_mutex_lock(&vp->lock);
    hv_stimer_reset(vp);
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
        queue_clear(vp, sint);
    memset(&vp->syn, 0, sizeof vp->syn);
    for (unsigned sint = 0; sint < HV_VP_SINTS; sint++)
        vp->syn.sint[sint] = HV_SINT_MASKED;
    hv_synic_auto_eoi(vp);
    pthread_mutex_unlock(&vp->lock);
}
