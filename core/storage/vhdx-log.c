/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The log ([MS-VHDX] 2.3): finding and replaying its active sequence, and building entries. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/base/crc32c.h"
#include "core/base/log.h"
#include "core/storage/vhdx.h"

enum {
    MAX_OVERLAY_PAGES = 8192, /* 32 MiB: what a read-only replay may hold in memory */
    MAX_CANDIDATES = 64,
};

#define NAME(v) ((v)->base.file->name)
#define MAX_FILE (2 * VHDX_MAX_SIZE) /* payload, table, bitmaps, and as much again of holes */

/* ---- reading the ring ---- */

struct found {
    uint32_t pos, length, tail;
    uint64_t sequence, flushed, last;
};

struct scan {
    struct vhdx *v;
    uint32_t size;
    uint8_t *entry; /* the entry last read, `length` bytes */
    struct found *all;
    uint32_t n, cap;
    uint64_t budget; /* bytes that may still be examined: overlapping forgeries cost no more */
};

static bool ring_read(struct scan *s, uint32_t pos, uint8_t *buf, uint32_t len, err *e)
{
    struct vhdx *v = s->v;
    uint32_t first = MIN(len, s->size - pos);
    int rc = sfile_read(v->base.file, v->header.log_offset + pos, buf, first);
    if (rc == 0 && len > first)
        rc = sfile_read(v->base.file, v->header.log_offset, buf + first, len - first);
    return rc == 0 || err_errno(e, rc, "Could not read the log of %s", NAME(v));
}

static uint32_t desc_sectors(uint32_t descriptors)
{
    uint64_t bytes =
        sizeof(struct vhdx_log_header) + (uint64_t)descriptors * sizeof(struct vhdx_log_desc);
    return (uint32_t)div_round_up(bytes, VHDX_PAGE);
}

/* The parts of an entry agree with each other. */
static bool entry_sound(const struct vhdx_log_header *h)
{
    const uint8_t *base = (const uint8_t *)h;
    uint32_t sectors = h->length / VHDX_PAGE, used = desc_sectors(h->descriptors);
    if (used > sectors)
        return false;
    for (uint32_t i = 0; i < h->descriptors; i++) {
        struct vhdx_log_desc d;
        memcpy(&d, base + sizeof *h + i * sizeof d, sizeof d);
        if (d.sequence != h->sequence || d.offset % VHDX_PAGE)
            return false;
        if (d.signature == VHDX_LOG_ZERO_MAGIC) {
            if (d.leading % VHDX_PAGE)
                return false;
            continue;
        }
        if (d.signature != VHDX_LOG_DESC_MAGIC || used >= sectors)
            return false;
        const struct vhdx_log_data *data = (const void *)(base + (size_t)used++ * VHDX_PAGE);
        if (data->signature != VHDX_LOG_DATA_MAGIC ||
            data->sequence_high != (uint32_t)(h->sequence >> 32) ||
            data->sequence_low != (uint32_t)h->sequence)
            return false;
    }
    return true;
}

/* Reads the entry at `pos` into s->entry. False: there is none (e->code NONE) or an error. */
static bool read_entry(struct scan *s, uint32_t pos, err *e)
{
    struct vhdx_log_header h;
    if (!ring_read(s, pos, (uint8_t *)&h, sizeof h, e))
        return false;
    if (h.signature != VHDX_LOG_MAGIC || !guid_equal(&h.log, &s->v->header.log) || !h.sequence ||
        !h.length || h.length % VHDX_PAGE || h.length > s->size || h.tail % VHDX_PAGE ||
        h.tail >= s->size || h.descriptors > h.length / sizeof(struct vhdx_log_desc) ||
        h.length > s->budget)
        return false;
    s->budget -= h.length;
    uint8_t *p = realloc(s->entry, h.length);
    if (!p)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to replay the log of %s", NAME(s->v));
    s->entry = p;
    if (!ring_read(s, pos, p, h.length, e))
        return false;
    return get_le32(p + 4) == vhdx_checksum(p, h.length) && entry_sound((const void *)p);
}

static bool note_entry(struct scan *s, uint32_t pos, err *e)
{
    const struct vhdx_log_header *h = (const void *)s->entry;
    if (s->n == s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 64;
        struct found *all = realloc(s->all, cap * sizeof *all);
        if (!all)
            return err_set(e, ERR_NO_MEMORY, "Not enough memory to replay the log of %s",
                           NAME(s->v));
        s->all = all;
        s->cap = cap;
    }
    s->all[s->n++] = (struct found){.pos = pos,
                                    .length = h->length,
                                    .tail = h->tail,
                                    .sequence = h->sequence,
                                    .flushed = h->flushed_size,
                                    .last = h->last_size};
    return true;
}

static bool find_entries(struct scan *s, err *e)
{
    err local = ERR_INIT;
    for (uint32_t pos = 0; pos < s->size;) {
        uint32_t step = VHDX_PAGE;
        if (read_entry(s, pos, &local)) {
            if (!note_entry(s, pos, e))
                return false;
            step = s->all[s->n - 1].length;
        } else if (local.code != ERR_NONE) {
            if (e)
                *e = local;
            return false;
        }
        pos = step > s->size - pos ? s->size : pos + step;
    }
    return true;
}

static const struct found *at(const struct scan *s, uint32_t pos)
{
    uint32_t lo = 0, hi = s->n; /* found in order of position */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (s->all[mid].pos < pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < s->n && s->all[lo].pos == pos ? &s->all[lo] : NULL;
}

/* Whether the entries from head->tail up to head follow each other without a gap. */
static bool complete(const struct scan *s, const struct found *head)
{
    const struct found *f = at(s, head->tail);
    for (uint32_t i = 0; f && i < s->n; i++) {
        if (f == head)
            return true;
        uint64_t next = f->sequence + 1;
        f = at(s, (uint32_t)(((uint64_t)f->pos + f->length) % s->size));
        if (f && f->sequence != next)
            return false;
    }
    return false;
}

/* The head of the active sequence: the newest one that is complete. */
static const struct found *active_head(const struct scan *s)
{
    uint64_t below = UINT64_MAX;
    for (int tries = 0; tries < MAX_CANDIDATES; tries++) {
        const struct found *best = NULL;
        for (uint32_t i = 0; i < s->n; i++)
            if (s->all[i].sequence < below && (!best || s->all[i].sequence > best->sequence))
                best = &s->all[i];
        if (!best || complete(s, best))
            return best;
        below = best->sequence;
    }
    return NULL;
}

/* ---- replaying ---- */

static bool place_ok(const struct vhdx *v, uint64_t off, uint64_t len)
{
    uint64_t end;
    /* Never the headers, which say what is to be replayed, nor the log itself. */
    return checked_add(off, len, &end) && end <= INT64_MAX && off >= VHDX_REGION_OFFSET(0) &&
           (end <= v->header.log_offset || off >= v->header.log_offset + v->header.log_length);
}

static struct meta_page *overlay_page(struct vhdx *v, uint64_t off, err *e)
{
    struct meta *m = &v->base.meta;
    struct meta_page *p = m->count < MAX_OVERLAY_PAGES ? meta_fresh(m, off) : NULL;
    if (!p)
        err_set(e, ERR_NO_MEMORY,
                "The log of %s is too large to be replayed in memory: open it for "
                "writing once",
                NAME(v));
    else
        p->overlay = true;
    return p;
}

static bool apply_data(struct vhdx *v, const struct vhdx_log_desc *d,
                       const struct vhdx_log_data *data, err *e)
{
    uint8_t page[VHDX_PAGE];
    put_le64(page, d->leading);
    memcpy(page + 8, data->data, sizeof data->data);
    put_le32(page + 4092, d->trailing);
    if (v->base.read_only) {
        struct meta_page *p = overlay_page(v, d->offset, e);
        if (p)
            memcpy(p->data, page, sizeof page);
        return p;
    }
    int rc = sfile_write(v->base.file, d->offset, page, sizeof page);
    return rc == 0 || err_errno(e, rc, "Could not replay the log of %s", NAME(v));
}

static bool apply_zero(struct vhdx *v, const struct vhdx_log_desc *d, err *e)
{
    if (!v->base.read_only) {
        int rc = v->base.file->ops->zero(v->base.file, d->offset, d->leading);
        return rc == 0 || err_errno(e, rc, "Could not replay the log of %s", NAME(v));
    }
    for (uint64_t at_ = 0; at_ < d->leading; at_ += VHDX_PAGE)
        if (!overlay_page(v, d->offset + at_, e))
            return false;
    return true;
}

static bool apply_entry(struct scan *s, err *e)
{
    const struct vhdx_log_header *h = (const void *)s->entry;
    uint32_t data = desc_sectors(h->descriptors);
    for (uint32_t i = 0; i < h->descriptors; i++) {
        struct vhdx_log_desc d;
        memcpy(&d, s->entry + sizeof *h + i * sizeof d, sizeof d);
        bool zero = d.signature == VHDX_LOG_ZERO_MAGIC;
        if (!place_ok(s->v, d.offset, zero ? d.leading : VHDX_PAGE))
            return err_set(e, ERR_CORRUPT, "%s: the log would write where it must not", NAME(s->v));
        if (zero ? !apply_zero(s->v, &d, e)
                 : !apply_data(s->v, &d, (const void *)(s->entry + (size_t)data++ * VHDX_PAGE), e))
            return false;
    }
    return true;
}

static bool apply_sequence(struct scan *s, const struct found *head, err *e)
{
    const struct found *f = at(s, head->tail);
    for (uint32_t i = 0; f && i < s->n; i++) {
        s->budget = UINT64_MAX;
        if (!read_entry(s, f->pos, e))
            return err_set(e, ERR_CORRUPT, "%s: the log changed while it was read", NAME(s->v));
        if (!apply_entry(s, e))
            return false;
        if (f == head)
            break;
        f = at(s, (uint32_t)(((uint64_t)f->pos + f->length) % s->size));
    }
    return true;
}

static bool settle_file(struct vhdx *v, const struct found *head, err *e)
{
    if (head->last > MAX_FILE)
        return err_set(e, ERR_CORRUPT, "%s: the log names a size that no file has", NAME(v));
    uint64_t want = align_up(head->last, VHDX_MB);
    if (v->base.read_only) {
        v->space.file_size = MAX(v->space.file_size, want);
        return true;
    }
    int rc = v->space.file_size < want ? sfile_set_size(v->base.file, want) : 0;
    v->space.file_size = sfile_size(v->base.file);
    if (rc == 0)
        rc = sfile_flush(v->base.file);
    return rc == 0 || err_errno(e, rc, "Could not replay the log of %s", NAME(v));
}

static bool replay_found(struct scan *s, err *e)
{
    struct vhdx *v = s->v;
    const struct found *head = active_head(s);
    if (!head) /* the log was announced but nothing reached it */
        return true;
    if (head->flushed > v->space.file_size)
        return err_set(e, ERR_CORRUPT, "%s has been cut short: %llu bytes are missing", NAME(v),
                       (unsigned long long)(head->flushed - v->space.file_size));
    return apply_sequence(s, head, e) && settle_file(v, head, e);
}

bool vhdx_replay(struct vhdx *v, err *e)
{
    struct scan s = {.v = v, .size = v->header.log_length};
    s.budget = 8ull * s.size;
    bool ok = find_entries(&s, e) && replay_found(&s, e);
    free(s.entry);
    free(s.all);
    if (!ok)
        return false;
    meta_forget(&v->base.meta);
    if (v->base.read_only)
        return true;
    struct vhdx_header h = v->header;
    h.log = (struct guid){0};
    int rc = vhdx_write_headers(v, &h);
    return rc == 0 || err_errno(e, rc, "Could not mark the log of %s as replayed", NAME(v));
}

/* ---- building ---- */

uint32_t vhdx_log_entry_len(uint32_t npages)
{
    return (desc_sectors(npages) + npages) * VHDX_PAGE;
}

void vhdx_log_build(struct vhdx *v, struct meta_page *pages, uint32_t n, const uint8_t *copies,
                    uint8_t *out)
{
    struct vhdx_log_header *h = (void *)out;
    uint32_t dsec = desc_sectors(n);
    memset(out, 0, (size_t)dsec * VHDX_PAGE);
    *h = (struct vhdx_log_header){
        .signature = VHDX_LOG_MAGIC,
        .length = vhdx_log_entry_len(n),
        .tail = v->log_used ? v->log_tail : v->log_head,
        .sequence = v->log_seq,
        .descriptors = n,
        .log = v->header.log,
        .flushed_size = v->stable_size,
        .last_size = v->space.file_size,
    };
    for (uint32_t i = 0; i < n; i++, pages = pages->taken_next) {
        const uint8_t *page = copies + (size_t)i * VHDX_PAGE;
        struct vhdx_log_desc d = {.signature = VHDX_LOG_DESC_MAGIC,
                                  .trailing = get_le32(page + 4092),
                                  .leading = get_le64(page),
                                  .offset = pages->off,
                                  .sequence = h->sequence};
        memcpy(out + sizeof *h + i * sizeof d, &d, sizeof d);
        struct vhdx_log_data *data = (void *)(out + (size_t)(dsec + i) * VHDX_PAGE);
        data->signature = VHDX_LOG_DATA_MAGIC;
        data->sequence_high = (uint32_t)(h->sequence >> 32);
        memcpy(data->data, page + 8, sizeof data->data);
        data->sequence_low = (uint32_t)h->sequence;
    }
    h->checksum = vhdx_checksum(out, h->length);
}
