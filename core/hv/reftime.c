/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reference time where core/hv keeps it (TLFS 12.6, 12.7): the partition's clock scaled to 100 ns,
 * by the same multiplication that the guest does with the reference TSC page, so that both agree to
 * the tick.
 */
#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/hv/partition-int.h"

#define TICKS_PER_SECOND 10000000ull
/* floor(2^64 * 10^7 / tsc_hz) */
#define SCALE ((uint64_t)(((unsigned __int128)TICKS_PER_SECOND << 64) / HV_CLOCK_TSC_HZ))
#define NS_PER_TICK 100u

static uint64_t scaled(uint64_t tsc)
{
    return (uint64_t)((unsigned __int128)tsc * SCALE >> 64);
}

uint64_t hv_ref_time(struct hv_partition *p)
{
    if (hv_has_synic(p))
        return p->ops->synic->reference_time(p->backend);
    return scaled(hv_clock_now(&p->clock) + p->tsc_offset) + p->ref_offset;
}

uint64_t hv_ref_to_clock(struct hv_partition *p, uint64_t ref)
{
    uint64_t ticks = ref - p->ref_offset;
    if ((int64_t)ticks < 0)
        return 0; /* past, by any reading of a 64-bit counter that starts at 0 */
    /* The scale is rounded down: one nanosecond more is enough not to come early. */
    __int128 when = (__int128)ticks * NS_PER_TICK + 1 - (int64_t)p->tsc_offset;
    if (when < 0)
        return 0;
    return when > INT64_MAX ? UINT64_MAX : (uint64_t)when;
}

/* Sequence 0, then the values, then a new sequence. ref_lock held. */
static void publish(struct hv_partition *p)
{
    if (!(p->ref_tsc_msr & HV_MSR_ENABLE))
        return;
    struct hv_span span;
    if (!hv_memory_acquire(p->memory, p->ref_tsc_msr & HV_MSR_PAGE, HV_PAGE_SIZE, true, &span)) {
        LOG_GUEST("hv", "reference TSC page at 0x%llx is outside memory",
                  (unsigned long long)(p->ref_tsc_msr & HV_MSR_PAGE));
        return;
    }
    struct hv_ref_tsc_page *page = span.ptr;
    if (++p->ref_sequence == 0 || p->ref_sequence == UINT32_MAX)
        p->ref_sequence = 1;
    __atomic_store_n(&page->sequence, 0, __ATOMIC_SEQ_CST);
    page->reserved = 0;
    page->scale = SCALE;
    page->offset = (int64_t)p->ref_offset;
    __atomic_store_n(&page->sequence, p->ref_sequence, __ATOMIC_SEQ_CST);
    hv_memory_release(&span);
}

void hv_ref_tsc_write(struct hv_partition *p, uint64_t msr)
{
    pthread_mutex_lock(&p->ref_lock);
    p->ref_tsc_msr = msr;
    publish(p);
    pthread_mutex_unlock(&p->ref_lock);
}

void hv_ref_set(struct hv_partition *p, uint64_t ref, uint64_t tsc)
{
    pthread_mutex_lock(&p->ref_lock);
    p->tsc_offset = tsc - hv_clock_now(&p->clock);
    p->ref_offset = ref - scaled(tsc);
    publish(p);
    pthread_mutex_unlock(&p->ref_lock);
}
