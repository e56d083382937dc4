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

static bool set_slot(struct kvm *k, const struct hv_region *r, uint64_t size, bool logged)
{
    struct kvm_userspace_memory_region m = {
        .slot = hv_region_slot(r),
        .flags = (hv_region_kind(r) == HV_REGION_ROM ? KVM_MEM_READONLY : 0) |
                 (logged ? KVM_MEM_LOG_DIRTY_PAGES : 0),
        .guest_phys_addr = hv_region_gpa(r),
        .memory_size = size,
        .userspace_addr = (uintptr_t)hv_region_host(r),
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
        k->logged[log.slot] = ok;
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
