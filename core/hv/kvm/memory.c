/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Guest memory as KVM's slots, and their dirty logs. Video memory is always logged, RAM once asked
 * for. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/hv/kvm/kvm-int.h"

/* The region at 1 MiB shows the first bytes of memory while address line 20 is off. */
static bool aliased(const struct kvm *k, const struct hv_region *r)
{
    return k->low_ram && hv_region_gpa(r) == KVM_A20;
}

static bool set_slot(struct kvm *k, const struct hv_region *r, uint64_t size, bool logged)
{
    struct kvm_userspace_memory_region m = {
        .slot = hv_region_slot(r),
        .flags =
            (hv_region_writable(r) ? 0 : KVM_MEM_READONLY) | (logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = hv_region_gpa(r),
        .memory_size = size,
        .userspace_addr = (uintptr_t)(aliased(k, r) ? k->low_ram : hv_region_view(r)),
    };
    return ioctl(k->vm, KVM_SET_USER_MEMORY_REGION, &m) == 0;
}

bool kvm_map(void *ctx, const struct hv_region *r, err *e)
{
    struct kvm *k = ctx;
    bool logged = hv_region_kind(r) == HV_REGION_VIDEO;
    if (hv_region_slot(r) >= KVM_SLOTS || !set_slot(k, r, hv_region_size(r), logged))
        return err_errno(e, errno, "giving KVM the memory at 0x%llx",
                         (unsigned long long)hv_region_gpa(r));
    k->logged[hv_region_slot(r)] = logged;
    return true;
}

/* KVM changes neither place nor protection of a slot that is there. */
static bool slot_again(struct kvm *k, const struct hv_region *r)
{
    pthread_mutex_lock(&k->slot_lock);
    k->logged[hv_region_slot(r)] = false;
    bool ok = set_slot(k, r, 0, false) && set_slot(k, r, hv_region_size(r), false);
    pthread_mutex_unlock(&k->slot_lock);
    return ok;
}

bool kvm_change(void *ctx, const struct hv_region *r, err *e)
{
    return slot_again(ctx, r) || err_errno(e, errno, "giving KVM the memory at 0x%llx",
                                           (unsigned long long)hv_region_gpa(r));
}

struct a20 {
    const struct hv_region *low, *above;
};

static bool find_a20(void *ctx, struct hv_region *r)
{
    struct a20 *a = ctx;
    if (hv_region_gpa(r) == 0)
        a->low = r;
    if (hv_region_gpa(r) == KVM_A20)
        a->above = r;
    return true;
}

/* What real mode can reach beyond 1 MiB wraps; the odd megabytes above that do not. */
bool kvm_set_a20(void *b, bool on)
{
    struct kvm *k = b;
    struct a20 a = {0};
    hv_memory_each(k->p.memory, find_a20, &a);
    if (!a.low || !a.above || hv_region_size(a.above) > hv_region_size(a.low))
        return false;
    pthread_mutex_lock(&k->slot_lock);
    k->low_ram = on ? NULL : hv_region_host(a.low);
    /* Writes by way of 1 MiB are logged there alone: of low memory all counts as written. */
    k->logged[hv_region_slot(a.low)] = false;
    pthread_mutex_unlock(&k->slot_lock);
    return slot_again(k, a.above);
}

void kvm_unmap(void *ctx, const struct hv_region *r)
{
    if (!set_slot(ctx, r, 0, false))
        log_line(LOG_ERROR, "kvm", "taking the memory at 0x%llx back: %s",
                 (unsigned long long)hv_region_gpa(r), strerror(errno));
}

bool kvm_dirty_log(void *b, const struct hv_region *r, uint64_t *bitmap, err *e)
{
    struct kvm *k = b;
    size_t words = div_round_up(hv_region_size(r) / HV_PAGE_SIZE, 64);
    AUTO(buf) mem = calloc(words, 8);
    uint64_t *now = mem;
    if (!now)
        return err_set(e, ERR_NO_MEMORY, "no memory to tell which pages were written");
    struct kvm_dirty_log log = {.slot = hv_region_slot(r), .dirty_bitmap = now};
    bool ok = true;
    pthread_mutex_lock(&k->slot_lock);
    if (!k->logged[log.slot]) { /* begins now: all may have been written before */
        ok = set_slot(k, r, hv_region_size(r), true);
        k->logged[log.slot] = ok && hv_region_host(r) != k->low_ram;
        memset(now, 0xff, words * 8);
    } else {
        ok = ioctl(k->vm, KVM_GET_DIRTY_LOG, &log) == 0;
    }
    pthread_mutex_unlock(&k->slot_lock);
    if (!ok)
        return err_errno(e, errno, "reading which pages were written");
    for (size_t i = 0; i < words; i++)
        bitmap[i] |= now[i];
    return true;
}
