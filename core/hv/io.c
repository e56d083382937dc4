/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/io.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"

struct hv_io_range {
    enum hv_io_space space;
    uint64_t base, last; /* inclusive */
    const struct hv_io_ops *ops;
    void *ctx;
    _Atomic unsigned in_use; /* handlers in progress, plus one while claimed */
};

struct claims {
    struct hv_io_range **v; /* by base */
    size_t count, room;
};

struct hv_io {
    pthread_rwlock_t lock; /* guards the arrays */
    struct claims claims[2];
    pthread_mutex_t idle_lock;
    pthread_cond_t idle; /* a released range's last handler returned */
};

struct hv_io *hv_io_new(err *e)
{
    struct hv_io *io = calloc(1, sizeof *io);
    if (!io) {
        err_set(e, ERR_NO_MEMORY, "no memory for I/O dispatch");
        return NULL;
    }
    pthread_rwlock_init(&io->lock, NULL);
    pthread_mutex_init(&io->idle_lock, NULL);
    pthread_cond_init(&io->idle, NULL);
    return io;
}

void hv_io_free(struct hv_io *io)
{
    if (!io)
        return;
    for (unsigned s = 0; s < ARRAY_LEN(io->claims); s++) {
        for (size_t i = 0; i < io->claims[s].count; i++)
            free(io->claims[s].v[i]);
        free(io->claims[s].v);
    }
    pthread_cond_destroy(&io->idle);
    pthread_mutex_destroy(&io->idle_lock);
    pthread_rwlock_destroy(&io->lock);
    free(io);
}

/* Index of the first claim that ends at or after addr. */
static size_t lower(const struct claims *c, uint64_t addr)
{
    size_t lo = 0, hi = c->count;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (c->v[mid]->last < addr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool insert(struct claims *c, struct hv_io_range *r, err *e)
{
    size_t at = lower(c, r->base);
    if (at < c->count && c->v[at]->base <= r->last)
        return err_set(e, ERR_EXISTS, "%s: addresses 0x%llx-0x%llx are taken by %s", r->ops->name,
                       (unsigned long long)r->base, (unsigned long long)r->last,
                       c->v[at]->ops->name);
    if (c->count == c->room) {
        size_t room = c->room ? c->room * 2 : 16;
        void *v = realloc(c->v, room * sizeof(*c->v));
        if (!v)
            return err_set(e, ERR_NO_MEMORY, "no memory for I/O dispatch");
        c->v = v;
        c->room = room;
    }
    memmove(c->v + at + 1, c->v + at, (c->count - at) * sizeof(*c->v));
    c->v[at] = r;
    c->count++;
    return true;
}

struct hv_io_range *hv_io_claim(struct hv_io *io, enum hv_io_space space, uint64_t base,
                                uint64_t len, const struct hv_io_ops *ops, void *ctx, err *e)
{
    uint64_t last;
    if (!len || !checked_add(base, len - 1, &last) || (space == HV_IO_PORT && last > 0xffff)) {
        err_set(e, ERR_INVALID, "%s: 0x%llx bytes at 0x%llx are no I/O range", ops->name,
                (unsigned long long)len, (unsigned long long)base);
        return NULL;
    }
    struct hv_io_range *r = malloc(sizeof *r);
    if (!r) {
        err_set(e, ERR_NO_MEMORY, "no memory for I/O dispatch");
        return NULL;
    }
    *r = (struct hv_io_range){space, base, last, ops, ctx, 1};
    pthread_rwlock_wrlock(&io->lock);
    bool ok = insert(&io->claims[space], r, e);
    pthread_rwlock_unlock(&io->lock);
    if (!ok) {
        free(r);
        return NULL;
    }
    return r;
}

void hv_io_release(struct hv_io *io, struct hv_io_range *r)
{
    if (!r)
        return;
    struct claims *c = &io->claims[r->space];
    pthread_rwlock_wrlock(&io->lock);
    size_t at = lower(c, r->base);
    memmove(c->v + at, c->v + at + 1, (--c->count - at) * sizeof(*c->v));
    pthread_rwlock_unlock(&io->lock);
    pthread_mutex_lock(&io->idle_lock);
    atomic_fetch_sub(&r->in_use, 1);
    while (atomic_load(&r->in_use))
        pthread_cond_wait(&io->idle, &io->idle_lock);
    pthread_mutex_unlock(&io->idle_lock);
    free(r);
}

/* The claim at addr, held; NULL if none, and then *gap is how many bytes follow unclaimed, at most
 * `max`. */
static struct hv_io_range *hold(struct hv_io *io, enum hv_io_space space, uint64_t addr,
                                unsigned max, unsigned *gap)
{
    struct hv_io_range *found = NULL;
    pthread_rwlock_rdlock(&io->lock);
    const struct claims *c = &io->claims[space];
    size_t at = lower(c, addr);
    *gap = max;
    if (at < c->count && c->v[at]->base <= addr) {
        found = c->v[at];
        atomic_fetch_add(&found->in_use, 1);
    } else if (at < c->count && c->v[at]->base - addr < max) {
        *gap = (unsigned)(c->v[at]->base - addr);
    }
    pthread_rwlock_unlock(&io->lock);
    return found;
}

static void unhold(struct hv_io *io, struct hv_io_range *r)
{
    if (atomic_fetch_sub(&r->in_use, 1) != 1)
        return;
    pthread_mutex_lock(&io->idle_lock);
    pthread_cond_broadcast(&io->idle);
    pthread_mutex_unlock(&io->idle_lock);
}

/* The largest power of two that is at most `left` and at most what the range still holds. */
static unsigned piece(const struct hv_io_range *r, uint64_t addr, unsigned left)
{
    uint64_t room = r->last - addr;
    unsigned n = 8;
    while (n > left || n - 1 > room)
        n /= 2;
    return n;
}

static uint64_t mask_of(unsigned size)
{
    return size >= 8 ? UINT64_MAX : ((uint64_t)1 << size * 8) - 1;
}

uint64_t hv_io_read(struct hv_io *io, enum hv_io_space space, uint64_t addr, unsigned size)
{
    uint64_t value = 0;
    for (unsigned done = 0, n; done < size; done += n) {
        struct hv_io_range *r = hold(io, space, addr + done, size - done, &n);
        uint64_t v = UINT64_MAX;
        if (r) {
            n = piece(r, addr + done, size - done);
            if (r->ops->read)
                v = r->ops->read(r->ctx, addr + done - r->base, n);
            unhold(io, r);
        }
        value |= (v & mask_of(n)) << done * 8;
    }
    return value;
}

void hv_io_write(struct hv_io *io, enum hv_io_space space, uint64_t addr, unsigned size,
                 uint64_t value)
{
    for (unsigned done = 0, n; done < size; done += n) {
        struct hv_io_range *r = hold(io, space, addr + done, size - done, &n);
        if (!r)
            continue;
        n = piece(r, addr + done, size - done);
        if (r->ops->write)
            r->ops->write(r->ctx, addr + done - r->base, n, value >> done * 8 & mask_of(n));
        unhold(io, r);
    }
}
