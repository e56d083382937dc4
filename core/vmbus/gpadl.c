/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Guest physical address descriptor lists: page lists that the guest gives a handle to. */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/vmbus/bus.h"

static struct vmbus_gpadl **bucket(struct vmbus *b, uint32_t id)
{
    return &b->gpadls[id % GPADL_BUCKETS];
}

struct vmbus_gpadl *vmbus_gpadl_get(struct vmbus *b, uint32_t id)
{
    struct vmbus_gpadl *g = *bucket(b, id);
    while (g && g->id != id)
        g = g->next;
    return g;
}

uint32_t vmbus_gpadl_create(struct vmbus_channel *ch, uint32_t id, uint32_t byte_count,
                            uint32_t byte_offset, struct vmbus_gpadl **out)
{
    struct vmbus *b = ch->bus;
    *out = NULL;
    uint64_t npfn = div_round_up((uint64_t)byte_count + byte_offset, HV_PAGE_SIZE);
    if (!byte_count || byte_offset >= HV_PAGE_SIZE || vmbus_gpadl_get(b, id))
        return VMBUS_STATUS_INVALID_PARAMETER;
    if (npfn > MAX_GPADL_PAGES || npfn > MAX_GPADL_PAGES_TOTAL - b->gpadl_pages ||
        b->gpadl_count == MAX_GPADLS)
        return VMBUS_STATUS_NO_MEMORY;
    struct vmbus_gpadl *g = calloc(1, sizeof *g);
    if (!g)
        return VMBUS_STATUS_NO_MEMORY;
    *g = (struct vmbus_gpadl){.ch = ch,
                              .id = id,
                              .byte_count = byte_count,
                              .byte_offset = byte_offset,
                              .npfn = (uint32_t)npfn,
                              .next = *bucket(b, id)};
    *bucket(b, id) = g;
    b->gpadl_count++;
    b->gpadl_pages += g->npfn;
    *out = g;
    return VMBUS_STATUS_OK;
}

bool vmbus_gpadl_append(struct vmbus_gpadl *g, const uint64_t *pfn, uint32_t n)
{
    n = MIN(n, g->npfn - g->have);
    if (g->have + n > g->room) { /* grows with what has arrived, not with what was announced */
        uint32_t room = MIN(g->npfn, MAX(g->room * 2, g->have + n));
        uint64_t *more = realloc(g->pfn, room * sizeof *more);
        if (!more)
            return false;
        g->pfn = more;
        g->room = room;
    }
    memcpy(g->pfn + g->have, pfn, n * sizeof *pfn);
    g->have += n;
    return true;
}

static void unpin(struct vmbus_gpadl *g)
{
    for (uint32_t i = 0; g->pins && i < g->npfn; i++)
        hv_memory_release(&g->pins[i]);
    free(TAKE(g->pins));
}

void vmbus_gpadl_free(struct vmbus *b, struct vmbus_gpadl *g)
{
    struct vmbus_gpadl **at = bucket(b, g->id);
    while (*at != g)
        at = &(*at)->next;
    *at = g->next;
    b->gpadl_count--;
    b->gpadl_pages -= g->npfn;
    unpin(g);
    free(g->pfn);
    free(g);
}

void vmbus_gpadl_free_of(struct vmbus *b, struct vmbus_channel *ch)
{
    for (unsigned i = 0; i < GPADL_BUCKETS; i++)
        for (struct vmbus_gpadl *g = b->gpadls[i], *next; g; g = next) {
            next = g->next;
            if (!ch || g->ch == ch)
                vmbus_gpadl_free(b, g);
        }
}

struct vmbus_gpadl *vmbus_gpadl_find(struct vmbus_channel *ch, uint32_t id)
{
    struct vmbus_gpadl *g = vmbus_gpadl_get(ch->bus, id);
    return g && g->ch == ch && vmbus_gpadl_complete(g) && !g->tearing ? g : NULL;
}

uint32_t vmbus_gpadl_id(const struct vmbus_gpadl *g)
{
    return g->id;
}

uint64_t vmbus_gpadl_bytes(const struct vmbus_gpadl *g)
{
    return g->byte_count;
}

/* Memory that stays: no region that a device may move under an acquired page. */
static bool acquire_ram(struct hv_memory *m, uint64_t gpa, size_t len, bool write,
                        struct hv_span *out)
{
    if (!hv_memory_acquire(m, gpa, len, write, out))
        return false;
    if (hv_region_kind(out->region) != HV_REGION_VIDEO)
        return true;
    hv_memory_release(out);
    return false;
}

/* A page number beyond 2^52 has no address. */
static bool page_address(uint64_t pfn, uint64_t *gpa)
{
    return checked_mul(pfn, (uint64_t)HV_PAGE_SIZE, gpa);
}

bool vmbus_gpadl_pin(struct vmbus_gpadl *g)
{
    if (g->pins)
        return true;
    struct hv_span *pins = calloc(g->npfn, sizeof *pins);
    uint64_t gpa;
    uint32_t n = 0;
    while (pins && n < g->npfn && page_address(g->pfn[n], &gpa) &&
           acquire_ram(g->ch->bus->memory, gpa, HV_PAGE_SIZE, true, &pins[n]))
        n++;
    if (pins && n == g->npfn) {
        g->pins = pins;
        return true;
    }
    while (n)
        hv_memory_release(&pins[--n]);
    free(pins);
    return false;
}

/* Calls fn for each piece of [offset, offset + len) that lies in one page. */
static bool copy_gpadl(struct vmbus_gpadl *g, uint64_t offset, void *buf, size_t len, bool write)
{
    if (!range_within(offset, len, g->byte_count))
        return false;
    struct hv_memory *m = g->ch->bus->memory;
    uint8_t *p = buf;
    for (uint64_t at = offset + g->byte_offset; len;) {
        uint64_t page = at / HV_PAGE_SIZE, in_page = at % HV_PAGE_SIZE, gpa;
        size_t n = MIN(len, HV_PAGE_SIZE - in_page);
        if (g->pins) {
            uint8_t *host = (uint8_t *)g->pins[page].ptr + in_page;
            memcpy(write ? host : p, write ? p : host, n);
        } else if (!page_address(g->pfn[page], &gpa) ||
                   !(write ? hv_memory_write(m, gpa + in_page, p, n)
                           : hv_memory_read(m, gpa + in_page, p, n))) {
            return false;
        }
        p += n;
        at += n;
        len -= n;
    }
    return true;
}

bool vmbus_gpadl_read(struct vmbus_gpadl *g, uint64_t offset, void *buf, size_t len)
{
    return copy_gpadl(g, offset, buf, len, false);
}

bool vmbus_gpadl_write(struct vmbus_gpadl *g, uint64_t offset, const void *buf, size_t len)
{
    return copy_gpadl(g, offset, (void *)(uintptr_t)buf, len, true);
}

bool vmbus_gpadl_map(struct vmbus_gpadl *g, struct vmbus_map *m, uint64_t offset, uint64_t len,
                     bool write)
{
    const struct vmbus_range r = {
        .len = g->byte_count, .offset = g->byte_offset, .npfn = g->npfn, .pfn = g->pfn};
    return vmbus_map_ranges(g->ch->bus, m, &r, 1, offset, len, write);
}

/* ---- ranges ---- */

/* One run of guest-contiguous bytes of a range, at most to the range's end. */
static bool next_run(const struct vmbus_range *r, uint64_t skip, uint64_t want, uint64_t *gpa,
                     uint64_t *len)
{
    uint64_t at = r->offset + skip, page = at / HV_PAGE_SIZE, first = page;
    uint64_t n = HV_PAGE_SIZE - at % HV_PAGE_SIZE;
    while (n < want && page + 1 < r->npfn && r->pfn[page + 1] == r->pfn[page] + 1) {
        n += HV_PAGE_SIZE;
        page++;
    }
    *len = MIN(n, want);
    if (!page_address(r->pfn[first], gpa))
        return false;
    return checked_add(*gpa, at % HV_PAGE_SIZE, gpa);
}

typedef bool run_fn(void *ctx, uint64_t gpa, uint64_t len);

static bool each_run(const struct vmbus_range *r, uint32_t nranges, uint64_t skip, uint64_t len,
                     run_fn *fn, void *ctx)
{
    for (uint32_t i = 0; i < nranges && len; i++) {
        if (skip >= r[i].len) {
            skip -= r[i].len;
            continue;
        }
        for (; skip < r[i].len && len;) {
            uint64_t gpa, n;
            if (!next_run(&r[i], skip, MIN(len, r[i].len - skip), &gpa, &n) || !fn(ctx, gpa, n))
                return false;
            skip += n;
            len -= n;
        }
        skip = 0;
    }
    return !len;
}

static bool reserve(struct vmbus_map *m)
{
    if (m->count < m->room)
        return true;
    unsigned room = m->room ? m->room * 2 : 16;
    struct iovec *iov = realloc(m->iov, room * sizeof *iov);
    if (!iov)
        return false;
    m->iov = iov;
    struct hv_span *spans = realloc(m->spans, room * sizeof *spans);
    if (!spans)
        return false;
    m->spans = spans;
    m->room = room;
    return true;
}

struct map_walk {
    struct vmbus_map *map;
    struct hv_memory *memory;
    bool write;
};

static bool map_piece(const struct map_walk *w, uint64_t gpa, uint64_t len)
{
    struct vmbus_map *m = w->map;
    if (!reserve(m) || !acquire_ram(w->memory, gpa, len, w->write, &m->spans[m->count]))
        return false;
    m->iov[m->count] = (struct iovec){.iov_base = m->spans[m->count].ptr, .iov_len = len};
    m->count++;
    m->bytes += len;
    return true;
}

/* A run may cross from one region into its neighbour: then page by page. */
static bool map_run(void *ctx, uint64_t gpa, uint64_t len)
{
    const struct map_walk *w = ctx;
    if (map_piece(w, gpa, len))
        return true;
    while (len) {
        uint64_t n = MIN(len, HV_PAGE_SIZE - gpa % HV_PAGE_SIZE);
        if (!map_piece(w, gpa, n))
            return false;
        gpa += n;
        len -= n;
    }
    return true;
}

bool vmbus_map_ranges(struct vmbus *b, struct vmbus_map *m, const struct vmbus_range *ranges,
                      uint32_t nranges, uint64_t skip, uint64_t len, bool write)
{
    struct map_walk w = {.map = m, .memory = b->memory, .write = write};
    return each_run(ranges, nranges, skip, len, map_run, &w);
}

void vmbus_map_clear(struct vmbus_map *m)
{
    for (unsigned i = 0; i < m->count; i++)
        hv_memory_release(&m->spans[i]);
    m->count = 0;
    m->bytes = 0;
}

void vmbus_map_free(struct vmbus_map *m)
{
    vmbus_map_clear(m);
    free(m->iov);
    free(m->spans);
    *m = (struct vmbus_map){0};
}

struct copy_walk {
    struct hv_memory *memory;
    uint8_t *buf;
    bool write;
};

static bool copy_run(void *ctx, uint64_t gpa, uint64_t len)
{
    struct copy_walk *w = ctx;
    bool ok = w->write ? hv_memory_write(w->memory, gpa, w->buf, len)
                       : hv_memory_read(w->memory, gpa, w->buf, len);
    w->buf += len;
    return ok;
}

bool vmbus_ranges_read(struct vmbus *b, const struct vmbus_range *ranges, uint32_t nranges,
                       uint64_t skip, void *buf, size_t len)
{
    struct copy_walk w = {.memory = b->memory, .buf = buf, .write = false};
    return each_run(ranges, nranges, skip, len, copy_run, &w);
}

bool vmbus_ranges_write(struct vmbus *b, const struct vmbus_range *ranges, uint32_t nranges,
                        uint64_t skip, const void *buf, size_t len)
{
    struct copy_walk w = {.memory = b->memory, .buf = (void *)(uintptr_t)buf, .write = true};
    return each_run(ranges, nranges, skip, len, copy_run, &w);
}
