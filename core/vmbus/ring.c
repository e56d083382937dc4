/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vmbus/ring.h"

#include <string.h>

#include "core/base/bytes.h"
#include "core/vmbus/vmbus-proto.h"

static struct vmbus_ring_control *control(const struct vmbus_ring *r)
{
    return r->control;
}

static uint32_t load(const uint32_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void publish(uint32_t *p, uint32_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* Orders a published index before a look at what the other side writes. */
static void full_barrier(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static bool index_ok(const struct vmbus_ring *r, uint32_t index)
{
    return index < r->size && index % 8 == 0;
}

static uint32_t distance(const struct vmbus_ring *r, uint32_t from, uint32_t to)
{
    return to >= from ? to - from : r->size - from + to;
}

static uint32_t advance(const struct vmbus_ring *r, uint32_t index, uint32_t by)
{
    return (uint32_t)(((uint64_t)index + by) % r->size);
}

static void init(struct vmbus_ring *r, void *ctl, uint8_t *const *pages, uint32_t npages)
{
    *r = (struct vmbus_ring){.control = ctl, .pages = pages, .size = npages * HV_PAGE_SIZE};
}

static void take_index(struct vmbus_ring *r, const uint32_t *index)
{
    r->own = r->published = load(index);
    if (!index_ok(r, r->own)) {
        r->own = r->published = 0;
        r->broken = true;
    }
}

void vmbus_ring_init_in(struct vmbus_ring *r, void *ctl, uint8_t *const *pages, uint32_t npages)
{
    init(r, ctl, pages, npages);
    take_index(r, &control(r)->read_index);
}

void vmbus_ring_init_out(struct vmbus_ring *r, void *ctl, uint8_t *const *pages, uint32_t npages)
{
    init(r, ctl, pages, npages);
    take_index(r, &control(r)->write_index);
}

static void copy_out(const struct vmbus_ring *r, uint32_t at, void *buf, size_t len)
{
    for (uint8_t *to = buf; len;) {
        uint32_t in_page = at % HV_PAGE_SIZE;
        size_t n = MIN(len, HV_PAGE_SIZE - in_page);
        memcpy(to, r->pages[at / HV_PAGE_SIZE] + in_page, n);
        to += n;
        len -= n;
        at = advance(r, at, (uint32_t)n);
    }
}

static uint32_t copy_in(const struct vmbus_ring *r, uint32_t at, const void *buf, size_t len)
{
    for (const uint8_t *from = buf; len;) {
        uint32_t in_page = at % HV_PAGE_SIZE;
        size_t n = MIN(len, HV_PAGE_SIZE - in_page);
        memcpy(r->pages[at / HV_PAGE_SIZE] + in_page, from, n);
        from += n;
        len -= n;
        at = advance(r, at, (uint32_t)n);
    }
    return at;
}

static enum vmbus_ring_status broken(struct vmbus_ring *r)
{
    r->broken = true;
    return VMBUS_RING_BROKEN;
}

enum vmbus_ring_status vmbus_ring_read(struct vmbus_ring *r, void *buf, size_t room, size_t *len)
{
    if (r->broken)
        return VMBUS_RING_BROKEN;
    uint32_t write = load(&control(r)->write_index);
    if (!index_ok(r, write))
        return broken(r);
    uint32_t used = distance(r, r->own, write);
    if (!used)
        return VMBUS_RING_EMPTY;
    struct vmbus_descriptor d;
    if (used < sizeof d + VMBUS_RING_TRAILER || room < sizeof d)
        return broken(r);
    copy_out(r, r->own, &d, sizeof d);
    size_t n = d.len8 * 8u;
    if (n < sizeof d || n > room || n + VMBUS_RING_TRAILER > used)
        return broken(r);
    memcpy(buf, &d, sizeof d); /* what was checked, not what the guest may have put there since */
    copy_out(r, advance(r, r->own, sizeof d), (uint8_t *)buf + sizeof d, n - sizeof d);
    r->own = advance(r, r->own, (uint32_t)n + VMBUS_RING_TRAILER);
    *len = n;
    return VMBUS_RING_OK;
}

bool vmbus_ring_publish_read(struct vmbus_ring *r)
{
    if (r->broken || r->own == r->published)
        return false;
    struct vmbus_ring_control *c = control(r);
    uint32_t before = r->published;
    publish(&c->read_index, r->own);
    r->published = r->own;
    full_barrier();
    uint32_t pending = load(&c->pending_send_size);
    if (!pending)
        return false;
    uint32_t write = load(&c->write_index);
    if (!index_ok(r, write))
        return false;
    uint32_t free_before = r->size - distance(r, before, write);
    uint32_t free_now = r->size - distance(r, r->own, write);
    return free_before <= pending && free_now > pending;
}

void vmbus_ring_mask(struct vmbus_ring *r)
{
    publish(&control(r)->interrupt_mask, 1);
}

bool vmbus_ring_unmask(struct vmbus_ring *r)
{
    struct vmbus_ring_control *c = control(r);
    publish(&c->interrupt_mask, 0);
    full_barrier();
    if (r->broken || load(&c->write_index) == r->own)
        return false;
    publish(&c->interrupt_mask, 1);
    return true;
}

/* Bytes that may be written: one is always left, so that full and empty differ. */
static bool room_for(struct vmbus_ring *r, uint32_t *read)
{
    *read = load(&control(r)->read_index);
    if (!index_ok(r, *read))
        r->broken = true;
    return !r->broken;
}

static bool fits(const struct vmbus_ring *r, uint32_t read, size_t len)
{
    uint32_t free = r->size - distance(r, read, r->own);
    return free > align_up(len, 8) + VMBUS_RING_TRAILER;
}

enum vmbus_ring_status vmbus_ring_write(struct vmbus_ring *r, const struct iovec *iov,
                                        unsigned niov, bool *signal)
{
    static const uint8_t zeroes[8];
    struct vmbus_ring_control *c = control(r);
    *signal = false;
    size_t len = 0;
    for (unsigned i = 0; i < niov; i++)
        len += iov[i].iov_len;
    uint32_t read;
    if (!room_for(r, &read))
        return VMBUS_RING_BROKEN;
    if (len >= r->size || !fits(r, read, len))
        return VMBUS_RING_FULL;
    uint32_t old = r->own, at = old;
    for (unsigned i = 0; i < niov; i++)
        at = copy_in(r, at, iov[i].iov_base, iov[i].iov_len);
    at = copy_in(r, at, zeroes, align_up(len, 8) - len);
    uint64_t trailer = (uint64_t)old << 32;
    at = copy_in(r, at, &trailer, sizeof trailer);
    r->own = r->published = at;
    publish(&c->write_index, at);
    full_barrier();
    *signal = !load(&c->interrupt_mask) && load(&c->read_index) == old;
    return VMBUS_RING_OK;
}

bool vmbus_ring_fits(struct vmbus_ring *r, size_t len)
{
    uint32_t read;
    return room_for(r, &read) && len < r->size && fits(r, read, len);
}

uint32_t vmbus_ring_room(struct vmbus_ring *r)
{
    uint32_t read;
    if (!room_for(r, &read))
        return 0;
    uint32_t free = r->size - distance(r, read, r->own);
    return free > VMBUS_RING_TRAILER + 8 ? (free - VMBUS_RING_TRAILER - 8) / 8 * 8 : 0;
}

bool vmbus_ring_want_room(struct vmbus_ring *r, size_t len)
{
    publish(&control(r)->pending_send_size, (uint32_t)(align_up(len, 8) + VMBUS_RING_TRAILER));
    full_barrier();
    return vmbus_ring_fits(r, len);
}

void vmbus_ring_want_nothing(struct vmbus_ring *r)
{
    publish(&control(r)->pending_send_size, 0);
}

uint32_t vmbus_ring_used(const struct vmbus_ring *r)
{
    uint32_t read = load(&control(r)->read_index), write = load(&control(r)->write_index);
    return index_ok(r, read) && index_ok(r, write) ? distance(r, read, write) : 0;
}
