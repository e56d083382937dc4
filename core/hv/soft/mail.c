/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What VPs and the host tell each other: overwritten code, pages that now hold code, changed
 * mappings.
 *
 * Decoded code and writes: the first VP that decodes from a page sets its bit in the page's code
 * word and asks the others to drop their write rights to the page. Whoever holds such a right when
 * it hears of it may have written meanwhile: it answers by reporting the whole page as written.
 * Writers that see a code word not zero report the bytes. Reports reach a VP at its next block end,
 * before any interrupt.
 */
#include <stdlib.h>

#include "core/hv/soft/check.h"
#include "core/hv/soft/soft.h"

void soft_attention(struct soft *s, unsigned vp, uint32_t what)
{
    struct soft_mail *m = &s->mail[vp];
    atomic_fetch_or(&s->vp[vp]->attn, what);
    if (atomic_load(&m->asleep)) {
        pthread_mutex_lock(&m->lock);
        pthread_cond_broadcast(&m->wake);
        pthread_mutex_unlock(&m->lock);
    }
}

void soft_send_nmi(struct soft *s, unsigned vp)
{
    atomic_fetch_add(&s->mail[vp].nmis, 1);
    soft_attention(s, vp, ATTN_NMI);
}

/* The newest report is of the same page: it tells of both. */
static bool join_written(struct soft_mail *m, uint64_t gpa, uint64_t len)
{
    struct soft_range *r = m->nwritten ? &m->written[m->nwritten - 1] : NULL;
    if (!r || len > 0x1000 || r->len > 0x1000 || (r->gpa ^ gpa) >> 12)
        return false;
    uint64_t end = r->gpa + r->len > gpa + len ? r->gpa + r->len : gpa + len;
    r->gpa = r->gpa < gpa ? r->gpa : gpa;
    r->len = (uint32_t)(end - r->gpa);
    return true;
}

static void post_written(struct soft *s, unsigned vp, uint64_t gpa, uint64_t len)
{
    struct soft_mail *m = &s->mail[vp];
    pthread_mutex_lock(&m->lock);
    if (join_written(m, gpa, len))
        ;
    else if (m->nwritten < SOFT_MAIL && len <= UINT32_MAX)
        m->written[m->nwritten++] = (struct soft_range){gpa, (uint32_t)len};
    else
        m->all_code = true;
    pthread_mutex_unlock(&m->lock);
    soft_attention(s, vp, ATTN_CODE);
}

static void page_written(struct soft *s, struct soft_vp *self, _Atomic uint64_t *word, uint64_t gpa,
                         uint64_t len)
{
    uint64_t vps = atomic_load(word);
    while (vps) {
        unsigned vp = (unsigned)__builtin_ctzll(vps);
        vps &= vps - 1;
        if (self && vp == self->index)
            soft_block_drop(self, gpa, len);
        else
            post_written(s, vp, gpa, len);
    }
}

void soft_code_written(struct soft *s, struct soft_vp *self, uint64_t gpa, uint64_t len)
{
    while (len) {
        uint64_t n = 0x1000 - (gpa & 0xfff);
        n = n < len ? n : len;
        const struct soft_region *r = soft_region_at(s, gpa);
        if (!r)
            return;
        page_written(s, self, &r->code[(gpa - r->gpa) >> 12], gpa, n);
        gpa += n;
        len -= n;
    }
}

void soft_code_protect(struct soft *s, struct soft_vp *self, uint64_t page)
{
    soft_drop_write(self, page);
    for (unsigned n = 0; n < s->vp_count; n++) {
        if (n == self->index)
            continue;
        struct soft_mail *m = &s->mail[n];
        pthread_mutex_lock(&m->lock);
        if (m->nprotect < SOFT_MAIL)
            m->protect[m->nprotect++] = page;
        else
            m->all_tlb = true;
        pthread_mutex_unlock(&m->lock);
        soft_attention(s, n, ATTN_CODE);
    }
}

/* Other VPs decoded from `page` while this one may have been writing there. */
static void take_protect(struct soft_vp *vp, uint64_t page)
{
    if (!soft_drop_write(vp, page))
        return;
    const struct soft_region *r = soft_region_at(vp->soft, page);
    if (r)
        page_written(vp->soft, vp, &r->code[(page - r->gpa) >> 12], page, 0x1000);
}

/* So many pages that all write rights go: any code page may have been written by this VP. */
static void take_overflow(struct soft_vp *vp)
{
    soft_flush_tlb(vp, true);
    for (unsigned n = 0; n < vp->soft->vp_count; n++) {
        struct soft_mail *m = &vp->soft->mail[n];
        pthread_mutex_lock(&m->lock);
        m->all_code = true;
        pthread_mutex_unlock(&m->lock);
        soft_attention(vp->soft, n, ATTN_CODE);
    }
}

void soft_mail_take(struct soft_vp *vp)
{
    struct soft_mail *m = &vp->soft->mail[vp->index];
    struct soft_range written[SOFT_MAIL];
    uint64_t protect[SOFT_MAIL];
    if (atomic_fetch_and(&vp->attn, ~(uint32_t)(ATTN_CODE | ATTN_TLB)) & ATTN_TLB)
        soft_flush_tlb(vp, true);
    pthread_mutex_lock(&m->lock);
    unsigned nw = m->nwritten, np = m->nprotect;
    bool all_code = m->all_code, all_tlb = m->all_tlb;
    memcpy(written, m->written, nw * sizeof *written);
    memcpy(protect, m->protect, np * sizeof *protect);
    m->nwritten = m->nprotect = 0;
    m->all_code = m->all_tlb = false;
    pthread_cond_broadcast(&m->left);
    pthread_mutex_unlock(&m->lock);
    if (all_tlb)
        take_overflow(vp);
    for (unsigned n = 0; n < np; n++)
        take_protect(vp, protect[n]);
    if (all_code)
        soft_block_drop_all(vp);
    for (unsigned n = 0; n < nw && !all_code; n++)
        soft_block_drop(vp, written[n].gpa, written[n].len);
}

/* What soft_flush_others waits for has come: every place that leaves or takes ATTN_TLB says so. */
static void tell_flushers(struct soft_mail *m)
{
    pthread_mutex_lock(&m->lock);
    pthread_cond_broadcast(&m->left);
    pthread_mutex_unlock(&m->lock);
}

void soft_leave_guest(struct soft_vp *vp)
{
    struct soft_mail *m = &vp->soft->mail[vp->index];
    atomic_store(&m->inside, false);
    if (SOFT_UNLIKELY(atomic_load(&vp->attn) & ATTN_TLB))
        tell_flushers(m);
}

void soft_enter_guest(struct soft_vp *vp)
{
    struct soft_mail *m = &vp->soft->mail[vp->index];
    atomic_store(&m->inside, true);
    if (SOFT_UNLIKELY(atomic_load(&vp->attn) & ATTN_TLB)) {
        atomic_fetch_and(&vp->attn, ~(uint32_t)ATTN_TLB);
        soft_flush_tlb(vp, true);
        tell_flushers(m); /* one may have seen it inside before it was flushed */
    }
}

uint64_t soft_io_read(struct soft_vp *vp, enum hv_io_space space, uint64_t addr, unsigned size)
{
    soft_check_once(vp);
    soft_leave_guest(vp);
    uint64_t v = hv_io_read(vp->soft->io, space, addr, size);
    soft_enter_guest(vp);
    return v;
}

void soft_io_write(struct soft_vp *vp, enum hv_io_space space, uint64_t addr, unsigned size,
                   uint64_t value)
{
    soft_check_once(vp);
    soft_leave_guest(vp);
    hv_io_write(vp->soft->io, space, addr, size, value);
    soft_enter_guest(vp);
}

/* Regions. A VP outside (halted, in an upcall) flushes before it goes on. */

void soft_flush_others(struct soft *s, uint64_t mask)
{
    for (unsigned n = 0; n < s->vp_count; n++)
        if (mask >> n & 1)
            atomic_fetch_or(&s->vp[n]->attn, ATTN_TLB);
    for (unsigned n = 0; n < s->vp_count; n++) {
        struct soft_mail *m = &s->mail[n];
        if (!(mask >> n & 1) || !atomic_load(&m->inside))
            continue;
        pthread_mutex_lock(&m->lock);
        while (atomic_load(&m->inside) && (atomic_load(&s->vp[n]->attn) & ATTN_TLB))
            pthread_cond_wait(&m->left, &m->lock);
        pthread_mutex_unlock(&m->lock);
    }
}

static void publish(struct soft *s, struct soft_map *map)
{
    map->older = atomic_load(&s->map);
    atomic_store(&s->map, map);
}

bool soft_map_add(struct soft *s, const struct hv_region *r, err *e)
{
    struct soft_map *map = calloc(1, sizeof *map);
    uint64_t pages = hv_region_size(r) >> 12;
    _Atomic uint64_t *code = calloc(pages, sizeof *code);
    _Atomic uint64_t *dirty = calloc(pages / 64 + 1, sizeof *dirty);
    if (dirty) /* all are dirty until first collected */
        memset((void *)dirty, 0xff, (pages / 64 + 1) * sizeof *dirty);
    if (!map || !code || !dirty) {
        free(map);
        free((void *)code);
        free((void *)dirty);
        return err_set(e, ERR_NO_MEMORY, "no memory for the software processor's page table");
    }
    pthread_mutex_lock(&s->map_lock);
    const struct soft_map *old = atomic_load(&s->map);
    unsigned n = old ? old->n : 0;
    if (old)
        memcpy((void *)map->r, (const void *)old->r, n * sizeof *old->r);
    if (n == SOFT_MAX_REGIONS) {
        pthread_mutex_unlock(&s->map_lock);
        free(map);
        free((void *)code);
        free((void *)dirty);
        return err_set(e, ERR_UNSUPPORTED, "more than %d regions of guest memory", n);
    }
    map->r[n] = (struct soft_region){
        .gpa = hv_region_gpa(r),
        .size = hv_region_size(r),
        .host = hv_region_view(r),
        .writable = hv_region_writable(r),
        .region = r,
        .code = code,
        .dirty = dirty,
    };
    map->n = n + 1;
    publish(s, map);
    pthread_mutex_unlock(&s->map_lock);
    soft_flush_others(s, ~0ull);
    return true;
}

/* All VPs decode and translate anew. */
static void drop_all(struct soft *s)
{
    for (unsigned n = 0; n < s->vp_count; n++) {
        pthread_mutex_lock(&s->mail[n].lock);
        s->mail[n].all_code = true;
        pthread_mutex_unlock(&s->mail[n].lock);
        soft_attention(s, n, ATTN_CODE);
    }
    soft_flush_others(s, ~0ull);
}

void soft_map_remove(struct soft *s, const struct hv_region *r)
{
    struct soft_map *map = calloc(1, sizeof *map);
    if (!map)
        abort(); /* a mapping that cannot be taken back must not be used on */
    pthread_mutex_lock(&s->map_lock);
    const struct soft_map *old = atomic_load(&s->map);
    for (unsigned n = 0; old && n < old->n; n++)
        if (old->r[n].region != r)
            map->r[map->n++] = old->r[n];
    publish(s, map);
    pthread_mutex_unlock(&s->map_lock);
    drop_all(s);
}

void soft_map_change(struct soft *s, const struct hv_region *r)
{
    pthread_mutex_lock(&s->map_lock);
    struct soft_map *map = atomic_load(&s->map);
    for (unsigned n = 0; map && n < map->n; n++)
        if (map->r[n].region == r) {
            atomic_store(&map->r[n].host, hv_region_view(r));
            atomic_store(&map->r[n].writable, hv_region_writable(r));
        }
    pthread_mutex_unlock(&s->map_lock);
    drop_all(s);
}

void soft_set_a20_mask(struct soft *s, uint64_t mask)
{
    atomic_store(&s->a20_mask, mask);
    soft_flush_others(s, ~0ull);
}

/* The dirty log: pages are marked when a translation for writing is made, so collecting drops them
 * all. */

void soft_host_wrote(struct soft *s, uint64_t gpa, uint64_t len)
{
    const struct soft_region *r = soft_region_at(s, gpa);
    if (!r || !len)
        return;
    if (atomic_load_explicit(&s->dirty_log, memory_order_relaxed))
        for (uint64_t page = (gpa - r->gpa) >> 12; page <= (gpa + len - 1 - r->gpa) >> 12; page++)
            if (page < r->size >> 12)
                atomic_fetch_or(&r->dirty[page / 64], 1ull << (page & 63));
    soft_code_written(s, NULL, gpa, len);
}

bool soft_map_dirty(struct soft *s, const struct hv_region *r, uint64_t *bitmap, err *e)
{
    const struct soft_map *map = atomic_load(&s->map);
    const struct soft_region *found = NULL;
    for (unsigned n = 0; map && n < map->n; n++)
        if (map->r[n].region == r)
            found = &map->r[n];
    if (!found)
        return err_set(e, ERR_NOT_FOUND, "no such region of guest memory");
    atomic_store(&s->dirty_log, true);
    uint64_t pages = found->size >> 12;
    for (uint64_t n = 0; n < (pages + 63) / 64; n++)
        bitmap[n] |= atomic_exchange(&found->dirty[n], 0);
    if (pages % 64)
        bitmap[pages / 64] &= (1ull << pages % 64) - 1;
    soft_flush_others(s, ~0ull);
    return true;
}
