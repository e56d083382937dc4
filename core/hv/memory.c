/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"

enum { MAX_REGIONS = 256, MAX_LISTENERS = 4, LARGE = 64 << 20 };
#define HUGE_PAGE MIB(2)
#define MAX_GPA (1ull << 52)

struct hv_region {
    struct hv_memory *memory;
    uint64_t gpa, size;
    uint8_t *host;
    enum hv_region_kind kind;
    unsigned slot;
    uint8_t *view; /* what is seen: host, or what hv_memory_show gave */
    bool writable;
    _Atomic unsigned holds; /* spans out, plus one while mapped */
};

struct hv_memory {
    pthread_rwlock_t lock;                  /* guards the table; writers also hold `change` */
    struct hv_region *regions[MAX_REGIONS]; /* by gpa */
    unsigned count;
    pthread_mutex_t change; /* one change of the map at a time */
    struct hv_memory_listener listeners[MAX_LISTENERS];
    _Atomic unsigned nlisteners; /* only grows */
    bool slot_used[MAX_REGIONS];
    pthread_mutex_t idle_lock;
    pthread_cond_t idle; /* a removed region's last span was released */
};

struct hv_memory *hv_memory_new(err *e)
{
    struct hv_memory *m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_NO_MEMORY, "no memory for the guest memory map");
        return NULL;
    }
    pthread_rwlock_init(&m->lock, NULL);
    pthread_mutex_init(&m->change, NULL);
    pthread_mutex_init(&m->idle_lock, NULL);
    pthread_cond_init(&m->idle, NULL);
    return m;
}

struct unmapping {
    void *host;
    size_t size;
};

static void *unmap(void *arg)
{
    struct unmapping u = *(struct unmapping *)arg;
    free(arg);
    munmap(u.host, u.size);
    return NULL;
}

/* Giving much memory back takes long, and whoever frees a machine may be about to start the next.
 */
static void unmap_ram(uint8_t *host, size_t size)
{
    pthread_t t;
    struct unmapping *u = size >= LARGE ? malloc(sizeof *u) : NULL;
    if (u) {
        *u = (struct unmapping){host, size};
        if (pthread_create(&t, NULL, unmap, u) == 0) {
            pthread_detach(t);
            return;
        }
        free(u);
    }
    munmap(host, size);
}

static void region_free(struct hv_region *r)
{
    if (!r)
        return;
    if (r->host && r->kind == HV_REGION_RAM)
        unmap_ram(r->host, r->size);
    else if (r->host)
        munmap(r->host, r->size);
    free(r);
}

void hv_memory_free(struct hv_memory *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < m->count; i++)
        region_free(m->regions[i]);
    pthread_cond_destroy(&m->idle);
    pthread_mutex_destroy(&m->idle_lock);
    pthread_mutex_destroy(&m->change);
    pthread_rwlock_destroy(&m->lock);
    free(m);
}

bool hv_memory_add_listener(struct hv_memory *m, const struct hv_memory_listener *l, err *e)
{
    pthread_mutex_lock(&m->change);
    bool ok = m->nlisteners < MAX_LISTENERS;
    if (!ok)
        err_set(e, ERR_STATE, "guest memory has too many listeners");
    for (unsigned i = 0; ok && i < m->count; i++)
        ok = l->map(l->ctx, m->regions[i], e);
    if (ok)
        m->listeners[m->nlisteners] = *l;
    if (ok)
        atomic_fetch_add(&m->nlisteners, 1);
    pthread_mutex_unlock(&m->change);
    return ok;
}

/* ---- making host mappings ---- */

/* Address space of `size` bytes, congruent to gpa modulo the huge page size, so that huge pages
 * line up. */
static uint8_t *reserve(uint64_t gpa, uint64_t size, int prot, int *error)
{
    uint64_t total;
    if (!checked_add(size, HUGE_PAGE, &total)) {
        *error = ENOMEM;
        return NULL;
    }
    uint8_t *p = mmap(NULL, total, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        *error = errno;
        return NULL;
    }
    uint64_t skip = (gpa - (uint64_t)(uintptr_t)p) & (HUGE_PAGE - 1);
    skip &= ~(uint64_t)(HV_PAGE_SIZE - 1);
    if (skip)
        munmap(p, skip);
    if (HUGE_PAGE - skip)
        munmap(p + skip + size, HUGE_PAGE - skip);
    return p + skip;
}

/* What the host could give now without pushing others out, in bytes; UINT64_MAX if it does not say.
 */
static uint64_t host_available(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    if (!f)
        return UINT64_MAX;
    char line[128];
    unsigned long long kib, available = 0, swap = 0;
    bool known = false;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %llu", &kib) == 1) {
            available = kib;
            known = true;
        } else if (sscanf(line, "SwapFree: %llu", &kib) == 1) {
            swap = kib;
        }
    }
    fclose(f);
    return known ? (available + swap) << 10 : UINT64_MAX;
}

static bool lacks_memory(uint64_t size, err *e)
{
    uint64_t have = host_available();
    if (size <= have)
        return false;
    err_set(e, ERR_NO_MEMORY, "the host has %llu MiB of memory free, less than the machine needs",
            (unsigned long long)(have >> 20));
    return true;
}

static uint8_t *map_anonymous(uint64_t gpa, uint64_t size, err *e)
{
    int error = 0;
    if (lacks_memory(size, e))
        return NULL;
    uint8_t *p = reserve(gpa, size, PROT_READ | PROT_WRITE, &error);
    if (!p) {
        err_errno(e, error, "mapping %llu MiB of guest memory", (unsigned long long)(size >> 20));
        return NULL;
    }
    madvise(p, size, MADV_HUGEPAGE); /* a wish: hosts without huge pages refuse it */
    return p;
}

static uint8_t *map_file(uint64_t gpa, uint64_t size, int fd, uint64_t offset, int flags, err *e)
{
    struct stat st;
    if (fstat(fd, &st)) {
        err_errno(e, errno, "reading the memory file");
        return NULL;
    }
    if (offset % HV_PAGE_SIZE || !range_within(offset, size, (uint64_t)st.st_size)) {
        err_set(e, ERR_CORRUPT, "the memory file is too short: it has %lld bytes",
                (long long)st.st_size);
        return NULL;
    }
    int error = 0;
    uint8_t *p = reserve(gpa, size, PROT_NONE, &error);
    if (p &&
        mmap(p, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, (off_t)offset) == MAP_FAILED) {
        error = errno;
        munmap(p, size);
        p = NULL;
    }
    if (!p)
        err_errno(e, error, "mapping %llu MiB of guest memory", (unsigned long long)(size >> 20));
    return p;
}

/* ---- changing the map ---- */

static bool valid_range(uint64_t gpa, uint64_t size, err *e)
{
    if (size && gpa % HV_PAGE_SIZE == 0 && size % HV_PAGE_SIZE == 0 &&
        range_within(gpa, size, MAX_GPA))
        return true;
    return err_set(e, ERR_INVALID, "0x%llx bytes at guest address 0x%llx are no memory region",
                   (unsigned long long)size, (unsigned long long)gpa);
}

/* Index of the first region that ends after gpa. */
static unsigned lower(const struct hv_memory *m, uint64_t gpa)
{
    unsigned lo = 0, hi = m->count;
    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;
        if (m->regions[mid]->gpa + m->regions[mid]->size <= gpa)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool check_free(struct hv_memory *m, const struct hv_region *r, err *e)
{
    if (m->count == MAX_REGIONS)
        return err_set(e, ERR_NO_SPACE, "the guest memory map is full (%d regions)", MAX_REGIONS);
    unsigned at = lower(m, r->gpa);
    if (at < m->count && m->regions[at]->gpa < r->gpa + r->size)
        return err_set(e, ERR_EXISTS, "guest address 0x%llx is memory already",
                       (unsigned long long)MAX(m->regions[at]->gpa, r->gpa));
    return true;
}

static void take_slot(struct hv_memory *m, struct hv_region *r)
{
    while (m->slot_used[r->slot])
        r->slot++;
    m->slot_used[r->slot] = true;
}

static bool tell_listeners(struct hv_memory *m, struct hv_region *r, err *e)
{
    for (unsigned i = 0; i < m->nlisteners; i++) {
        if (m->listeners[i].map(m->listeners[i].ctx, r, e))
            continue;
        while (i--)
            m->listeners[i].unmap(m->listeners[i].ctx, r);
        return false;
    }
    return true;
}

static void table_insert(struct hv_memory *m, struct hv_region *r)
{
    pthread_rwlock_wrlock(&m->lock);
    unsigned at = lower(m, r->gpa);
    memmove(m->regions + at + 1, m->regions + at, (m->count - at) * sizeof m->regions[0]);
    m->regions[at] = r;
    m->count++;
    pthread_rwlock_unlock(&m->lock);
}

/* Takes `host`, a mapping of `size` bytes, also on failure. NULL host: an error is set already. */
static struct hv_region *add(struct hv_memory *m, enum hv_region_kind kind, uint64_t gpa,
                             uint64_t size, uint8_t *host, err *e)
{
    if (!host)
        return NULL;
    struct hv_region *r = malloc(sizeof *r);
    if (!r) {
        munmap(host, size);
        err_set(e, ERR_NO_MEMORY, "no memory for the guest memory map");
        return NULL;
    }
    *r = (struct hv_region){.memory = m,
                            .gpa = gpa,
                            .size = size,
                            .host = host,
                            .kind = kind,
                            .view = host,
                            .writable = kind != HV_REGION_ROM,
                            .holds = 1};
    pthread_mutex_lock(&m->change);
    bool ok = check_free(m, r, e);
    if (ok) {
        take_slot(m, r);
        ok = tell_listeners(m, r, e);
        if (ok)
            table_insert(m, r);
        else
            m->slot_used[r->slot] = false;
    }
    pthread_mutex_unlock(&m->change);
    if (!ok) {
        region_free(r);
        return NULL;
    }
    return r;
}

struct hv_region *hv_memory_add_ram(struct hv_memory *m, uint64_t gpa, uint64_t size, err *e)
{
    if (!valid_range(gpa, size, e))
        return NULL;
    return add(m, HV_REGION_RAM, gpa, size, map_anonymous(gpa, size, e), e);
}

bool hv_memory_add_ram_parts(struct hv_memory *m, uint64_t gpa, uint64_t size,
                             const uint64_t *parts, size_t n, err *e)
{
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++)
        if (!parts[i] || parts[i] % HV_PAGE_SIZE || !checked_add(end, parts[i], &end))
            return err_set(e, ERR_INVALID, "parts of no memory region");
    if (!valid_range(gpa, size, e) || end >= size)
        return err_set(e, ERR_INVALID, "parts of no memory region");
    uint8_t *host = map_anonymous(gpa, size, e);
    /* From the end: the last, the largest, is then found first by who goes through them. */
    for (size_t i = n + 1; host && i-- > 0;) {
        uint64_t len = i == n ? size - end : parts[i];
        uint64_t at = i == n ? end : (end -= parts[i]);
        if (!add(m, HV_REGION_RAM, gpa + at, len, host + at, e)) {
            munmap(host, at);
            return false;
        }
    }
    return host != NULL;
}

struct hv_region *hv_memory_add_ram_file(struct hv_memory *m, uint64_t gpa, uint64_t size, int fd,
                                         uint64_t offset, err *e)
{
    if (!valid_range(gpa, size, e) || lacks_memory(size, e))
        return NULL;
    return add(m, HV_REGION_RAM, gpa, size, map_file(gpa, size, fd, offset, MAP_PRIVATE, e), e);
}

struct hv_region *hv_memory_add_rom(struct hv_memory *m, uint64_t gpa, uint64_t size,
                                    const void *data, size_t len, err *e)
{
    if (!valid_range(gpa, size, e))
        return NULL;
    if (len > size) {
        err_set(e, ERR_INVALID, "a ROM of %zu bytes does not fit into %llu", len,
                (unsigned long long)size);
        return NULL;
    }
    uint8_t *host = map_anonymous(gpa, size, e);
    if (host && len)
        memcpy(host, data, len);
    return add(m, HV_REGION_ROM, gpa, size, host, e);
}

struct hv_region *hv_memory_add_video(struct hv_memory *m, uint64_t gpa, uint64_t size, int fd,
                                      err *e)
{
    if (!valid_range(gpa, size, e))
        return NULL;
    return add(m, HV_REGION_VIDEO, gpa, size, map_file(gpa, size, fd, 0, MAP_SHARED, e), e);
}

static void drop_hold(struct hv_region *r)
{
    struct hv_memory *m = r->memory;
    if (atomic_fetch_sub(&r->holds, 1) != 1)
        return;
    pthread_mutex_lock(&m->idle_lock);
    pthread_cond_broadcast(&m->idle);
    pthread_mutex_unlock(&m->idle_lock);
}

void hv_memory_remove(struct hv_memory *m, struct hv_region *r)
{
    if (!r)
        return;
    pthread_mutex_lock(&m->change);
    pthread_rwlock_wrlock(&m->lock);
    unsigned at = lower(m, r->gpa);
    memmove(m->regions + at, m->regions + at + 1, (--m->count - at) * sizeof m->regions[0]);
    pthread_rwlock_unlock(&m->lock);
    for (unsigned i = 0; i < m->nlisteners; i++)
        m->listeners[i].unmap(m->listeners[i].ctx, r);
    pthread_mutex_lock(&m->idle_lock);
    atomic_fetch_sub(&r->holds, 1);
    while (atomic_load(&r->holds))
        pthread_cond_wait(&m->idle, &m->idle_lock);
    pthread_mutex_unlock(&m->idle_lock);
    m->slot_used[r->slot] = false;
    pthread_mutex_unlock(&m->change);
    region_free(r);
}

uint64_t hv_region_gpa(const struct hv_region *r)
{
    return r->gpa;
}
uint64_t hv_region_size(const struct hv_region *r)
{
    return r->size;
}
enum hv_region_kind hv_region_kind(const struct hv_region *r)
{
    return r->kind;
}
void *hv_region_host(const struct hv_region *r)
{
    return r->host;
}
void *hv_region_view(const struct hv_region *r)
{
    return r->view;
}
bool hv_region_writable(const struct hv_region *r)
{
    return r->writable;
}
unsigned hv_region_slot(const struct hv_region *r)
{
    return r->slot;
}

/* ---- access ---- */

/* The region that holds gpa, or NULL. Lock held. */
static struct hv_region *find(struct hv_memory *m, uint64_t gpa)
{
    unsigned at = lower(m, gpa);
    return at < m->count && m->regions[at]->gpa <= gpa ? m->regions[at] : NULL;
}

bool hv_memory_show(struct hv_memory *m, uint64_t gpa, const void *view, bool writable, err *e)
{
    pthread_mutex_lock(&m->change);
    pthread_rwlock_wrlock(&m->lock);
    struct hv_region *r = find(m, gpa);
    bool ok = r && r->gpa == gpa && r->kind == HV_REGION_RAM && !(view && writable);
    uint8_t *seen = NULL;
    bool same = false;
    if (ok) {
        seen = view ? (uint8_t *)(uintptr_t)view : r->host;
        same = r->view == seen && r->writable == writable;
        r->view = seen;
        r->writable = writable;
    }
    pthread_rwlock_unlock(&m->lock);
    if (!ok)
        err_set(e, ERR_INVALID, "nothing else can be shown at 0x%llx", (unsigned long long)gpa);
    for (unsigned i = 0; ok && !same && i < m->nlisteners; i++)
        ok = m->listeners[i].change(m->listeners[i].ctx, r, e);
    pthread_mutex_unlock(&m->change);
    return ok;
}

enum direction { FROM_GUEST, TO_GUEST, TO_RAM };

/* Copies piecewise over adjacent regions. Lock held: regions cannot go away. */
static bool copy(struct hv_memory *m, uint64_t gpa, void *buf, size_t len, enum direction d)
{
    for (size_t done = 0; done < len;) {
        struct hv_region *r = find(m, gpa);
        if (!r || (d == TO_GUEST && !r->writable) || (d == TO_RAM && r->kind != HV_REGION_RAM))
            return false;
        size_t n = (size_t)MIN((uint64_t)(len - done), r->gpa + r->size - gpa);
        uint8_t *host = (d == TO_RAM ? r->host : r->view) + (gpa - r->gpa);
        if (d != FROM_GUEST)
            memcpy(host, (uint8_t *)buf + done, n);
        else
            memcpy((uint8_t *)buf + done, host, n);
        done += n;
        gpa += n;
    }
    return true;
}

bool hv_memory_read(struct hv_memory *m, uint64_t gpa, void *buf, size_t len)
{
    pthread_rwlock_rdlock(&m->lock);
    bool ok = copy(m, gpa, buf, len, FROM_GUEST);
    pthread_rwlock_unlock(&m->lock);
    return ok;
}

/* Whether all of [gpa, gpa + len) may be written. Lock held. */
static bool writable(struct hv_memory *m, uint64_t gpa, uint64_t len)
{
    while (len) {
        struct hv_region *r = find(m, gpa);
        if (!r || !r->writable)
            return false;
        uint64_t n = MIN(len, r->gpa + r->size - gpa);
        len -= n;
        gpa += n;
    }
    return true;
}

static void tell_written(struct hv_memory *m, uint64_t gpa, uint64_t len)
{
    unsigned n = atomic_load_explicit(&m->nlisteners, memory_order_acquire);
    for (unsigned i = 0; i < n; i++)
        if (m->listeners[i].written)
            m->listeners[i].written(m->listeners[i].ctx, gpa, len);
}

bool hv_memory_write(struct hv_memory *m, uint64_t gpa, const void *buf, size_t len)
{
    pthread_rwlock_rdlock(&m->lock);
    bool ok = writable(m, gpa, len) && copy(m, gpa, (void *)(uintptr_t)buf, len, TO_GUEST);
    pthread_rwlock_unlock(&m->lock);
    if (ok && len)
        tell_written(m, gpa, len);
    return ok;
}

bool hv_memory_load(struct hv_memory *m, uint64_t gpa, const void *buf, size_t len)
{
    pthread_rwlock_rdlock(&m->lock);
    bool ok = copy(m, gpa, (void *)(uintptr_t)buf, len, TO_RAM);
    pthread_rwlock_unlock(&m->lock);
    if (ok && len)
        tell_written(m, gpa, len);
    return ok;
}

bool hv_memory_acquire(struct hv_memory *m, uint64_t gpa, size_t len, bool write,
                       struct hv_span *out)
{
    *out = (struct hv_span){0};
    pthread_rwlock_rdlock(&m->lock);
    struct hv_region *r = find(m, gpa);
    if (r && range_within(gpa - r->gpa, len, r->size) && (!write || r->writable)) {
        atomic_fetch_add(&r->holds, 1);
        *out = (struct hv_span){r->view + (gpa - r->gpa), r, write ? gpa : 0, write ? len : 0};
    }
    pthread_rwlock_unlock(&m->lock);
    return out->region != NULL;
}

void hv_memory_release(struct hv_span *s)
{
    if (s->region && s->len)
        tell_written(s->region->memory, s->gpa, s->len);
    if (s->region)
        drop_hold(s->region);
    *s = (struct hv_span){0};
}

/* Fresh zero pages in place of what was there, be it anonymous or a private file mapping. */
static void drop_pages(uint8_t *host, size_t len)
{
    if (mmap(host, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        memset(host, 0, len); /* too many mappings: at least the contents are as promised */
        return;
    }
    madvise(host, len, MADV_HUGEPAGE);
}

/* Lock held. */
static bool all_ram(struct hv_memory *m, uint64_t gpa, uint64_t len)
{
    bool ok = gpa % HV_PAGE_SIZE == 0 && len % HV_PAGE_SIZE == 0 && len;
    while (ok && len) {
        struct hv_region *r = find(m, gpa);
        ok = r && r->kind == HV_REGION_RAM;
        uint64_t n = ok ? MIN(len, r->gpa + r->size - gpa) : 0;
        gpa += n;
        len -= n;
    }
    return ok;
}

bool hv_memory_map_file(struct hv_memory *m, uint64_t gpa, uint64_t len, int fd, uint64_t offset,
                        err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_errno(e, errno, "reading the memory file");
    if (!range_within(offset, len, (uint64_t)st.st_size)) /* touching it would kill us */
        return err_set(e, ERR_CORRUPT, "the memory file is too short: it has %lld bytes",
                       (long long)st.st_size);
    pthread_rwlock_rdlock(&m->lock);
    bool ok = all_ram(m, gpa, len);
    if (!ok)
        err_set(e, ERR_CORRUPT, "the memory file has 0x%llx bytes at 0x%llx, which is no RAM",
                (unsigned long long)len, (unsigned long long)gpa);
    for (uint64_t done = 0, n; ok && done < len; done += n) {
        const struct hv_region *r = find(m, gpa + done);
        n = MIN(len - done, r->gpa + r->size - gpa - done);
        ok = mmap(r->host + (gpa + done - r->gpa), n, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_FIXED, fd, (off_t)(offset + done)) != MAP_FAILED ||
             err_errno(e, errno, "mapping saved memory");
    }
    pthread_rwlock_unlock(&m->lock);
    if (ok)
        tell_written(m, gpa, len);
    return ok;
}

bool hv_memory_discard(struct hv_memory *m, uint64_t gpa, uint64_t len)
{
    const uint64_t start = gpa, total = len;
    bool ok = gpa % HV_PAGE_SIZE == 0 && len % HV_PAGE_SIZE == 0;
    pthread_rwlock_rdlock(&m->lock);
    for (uint64_t at = 0, n; ok && at < len; at += n) { /* whether or not it is writable now */
        struct hv_region *r = find(m, gpa + at);
        ok = r && r->kind != HV_REGION_ROM;
        n = ok ? MIN(len - at, r->gpa + r->size - gpa - at) : 0;
    }
    while (ok && len) {
        struct hv_region *r = find(m, gpa);
        uint64_t n = MIN(len, r->gpa + r->size - gpa);
        if (r->kind == HV_REGION_RAM)
            drop_pages(r->host + (gpa - r->gpa), n);
        else
            memset(r->host + (gpa - r->gpa), 0, n);
        len -= n;
        gpa += n;
    }
    pthread_rwlock_unlock(&m->lock);
    if (ok && total)
        tell_written(m, start, total);
    return ok;
}

bool hv_memory_each(struct hv_memory *m, bool (*fn)(void *ctx, struct hv_region *r), void *ctx)
{
    bool ok = true;
    pthread_rwlock_rdlock(&m->lock);
    for (unsigned i = 0; ok && i < m->count; i++)
        ok = fn(ctx, m->regions[i]);
    pthread_rwlock_unlock(&m->lock);
    return ok;
}

uint64_t hv_memory_ram_bytes(struct hv_memory *m)
{
    uint64_t sum = 0;
    pthread_rwlock_rdlock(&m->lock);
    for (unsigned i = 0; i < m->count; i++)
        sum += m->regions[i]->kind == HV_REGION_RAM ? m->regions[i]->size : 0;
    pthread_rwlock_unlock(&m->lock);
    return sum;
}
