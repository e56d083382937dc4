/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Compacting an offline image in place. First, blocks that hold nothing but zeroes are given up.
 * Then what lies highest in the file moves into the holes below: a batch is copied and flushed, the
 * table changes (by the log, or sector by sector), and so on; nothing is ever in one place only. At
 * last the file is cut. It may be interrupted at any point.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/storage/tool.h"
#include "core/storage/vhd.h"
#include "core/storage/vhdx.h"

enum { BATCH = 64, CHUNK = 1 << 20 };

struct piece {
    uint64_t off, len;
    uint64_t index; /* the table's entry; UINT64_MAX: cannot move */
    uint64_t to;
};

struct compaction {
    struct image *img;
    struct piece *pieces;
    size_t n, cap;
    uint8_t *buf;
    const struct disk_progress *progress;
    uint64_t done, total; /* bytes looked at and moved */
    /* The format's: an entry's value by index, and setting where its block lies (0: nowhere). */
    int (*set)(struct image *img, uint64_t index, uint64_t off);
};

static bool add(struct compaction *c, uint64_t off, uint64_t len, uint64_t index)
{
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 256;
        struct piece *p = realloc(c->pieces, cap * sizeof *p);
        if (!p)
            return false;
        c->pieces = p;
        c->cap = cap;
    }
    c->pieces[c->n++] = (struct piece){.off = off, .len = len, .index = index};
    return true;
}

static int by_offset(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    return x->off < y->off ? -1 : x->off > y->off;
}

static bool step(struct compaction *c, uint64_t bytes)
{
    c->done += bytes;
    return !c->progress || !c->progress->fn ||
           c->progress->fn(c->progress->ctx, c->done, MAX(c->total, c->done));
}

/* ---- giving up zeroes ---- */

static bool all_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* 1: [off, off + len) of the file reads as zeroes; 0: not; negative: -errno. */
static int reads_zero(struct compaction *c, uint64_t off, uint64_t len)
{
    struct sfile *f = c->img->file;
    uint64_t end = off + len, from, to;
    while (off < end) {
        int rc = f->ops->next_data(f, off, &from, &to);
        if (rc == ENXIO || (rc == 0 && from >= end))
            return 1;
        if (rc)
            return -rc;
        off = MAX(off, from);
        uint64_t n = MIN(MIN(end, to) - off, (uint64_t)CHUNK);
        rc = sfile_read(f, off, c->buf, n);
        if (rc)
            return -rc;
        if (!all_zero(c->buf, n))
            return 0;
        off += n;
    }
    return 1;
}

/* ---- moving ---- */

static int copy_piece(struct compaction *c, const struct piece *p)
{
    struct sfile *f = c->img->file;
    int rc = f->ops->punch(f, p->to, p->len);
    for (uint64_t at = 0; rc == 0 && at < p->len;) {
        uint64_t from, to;
        rc = f->ops->next_data(f, p->off + at, &from, &to);
        if (rc == ENXIO || (rc == 0 && from >= p->off + p->len))
            return 0;
        if (rc)
            return rc;
        at = MAX(at, from - MIN(from, p->off));
        uint64_t n = MIN(MIN(p->len, to - p->off) - at, (uint64_t)CHUNK);
        rc = sfile_read(f, p->off + at, c->buf, n);
        if (rc == 0)
            rc = sfile_write(f, p->to + at, c->buf, n);
        at += n;
    }
    return rc;
}

static int move_batch(struct compaction *c, struct piece **batch, size_t n)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        rc = copy_piece(c, batch[i]);
        if (rc == 0 && !step(c, batch[i]->len))
            rc = ECANCELED;
    }
    if (rc == 0)
        rc = sfile_flush(c->img->file);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = c->set(c->img, batch[i]->index, batch[i]->to);
    if (rc == 0)
        rc = image_flush_sync(c->img);
    for (size_t i = 0; rc == 0 && i < n; i++)
        batch[i]->off = batch[i]->to;
    return rc;
}

/* Holes from below, pieces from above, until they meet. */
static int move_all(struct compaction *c, uint64_t base)
{
    struct piece *batch[BATCH];
    size_t nbatch = 0, next = 0, high = c->n;
    uint64_t hole = base;
    int rc = 0;
    qsort(c->pieces, c->n, sizeof *c->pieces, by_offset);
    while (rc == 0 && high > next) {
        struct piece *p = &c->pieces[high - 1];
        uint64_t hole_end = c->pieces[next].off;
        if (hole >= hole_end || hole_end - hole < p->len || p->index == UINT64_MAX) {
            /* Nothing fits here, or this one stays: go on. */
            if (p->index == UINT64_MAX && hole < hole_end && hole_end - hole >= CHUNK) {
                high--;
                continue;
            }
            hole = MAX(hole, hole_end + c->pieces[next].len);
            next++;
            continue;
        }
        p->to = hole;
        hole += p->len;
        high--;
        batch[nbatch++] = p;
        if (nbatch == BATCH) {
            rc = move_batch(c, batch, nbatch);
            nbatch = 0;
        }
    }
    return rc ? rc : move_batch(c, batch, nbatch);
}

static uint64_t used_end(const struct compaction *c, uint64_t base)
{
    uint64_t end = base;
    for (size_t i = 0; i < c->n; i++)
        end = MAX(end, c->pieces[i].off + c->pieces[i].len);
    return end;
}

static bool finish(struct compaction *c, int rc, err *e)
{
    free(c->pieces);
    free(c->buf);
    if (rc == ECANCELED)
        return err_set(e, ERR_CANCELLED, "Cancelled; what was done so far is kept");
    return rc == 0 || err_errno(e, rc, "Could not compact %s", c->img->file->name);
}

/* ---- VHDX ---- */

static struct meta_page *vhdx_entry(struct vhdx *v, uint64_t index, uint64_t *at, int *rc)
{
    *at = v->bat_off + index * 8;
    return meta_get(&v->base.meta, align_down(*at, VHDX_PAGE), rc);
}

static int vhdx_set(struct image *img, uint64_t index, uint64_t off)
{
    struct vhdx *v = (struct vhdx *)img;
    uint64_t at;
    int rc = 0;
    struct meta_page *p = vhdx_entry(v, index, &at, &rc);
    if (!p)
        return rc;
    uint64_t old = get_le64(p->data + at % VHDX_PAGE);
    put_le64(p->data + at % VHDX_PAGE, off ? off | VHDX_ENTRY_STATE(old) : VHDX_ZERO);
    meta_dirty(&img->meta, p);
    return img->meta.ndirty > v->max_dirty / 2 ? image_flush_sync(img) : 0;
}

/* Takes every block and bitmap that has a place; zeroes lose theirs. */
static int vhdx_collect(struct compaction *c)
{
    struct vhdx *v = (struct vhdx *)c->img;
    uint64_t entries =
        vhdx_bat_entries(c->img->size, c->img->block_size, c->img->logical_sector, v->has_parent);
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < entries; i++) {
        uint64_t at;
        struct meta_page *p = vhdx_entry(v, i, &at, &rc);
        if (!p)
            return rc;
        uint64_t entry = get_le64(p->data + at % VHDX_PAGE), off = VHDX_ENTRY_OFFSET(entry);
        bool bitmap = i % (v->ratio + 1) == v->ratio;
        uint64_t len = bitmap ? VHDX_MB : c->img->block_size;
        unsigned state = VHDX_ENTRY_STATE(entry);
        if (state != VHDX_FULLY_PRESENT && (bitmap || state != VHDX_PARTIALLY_PRESENT))
            continue;
        if (!vhdx_payload_ok(v, off, len))
            return EIO;
        int zero = !bitmap && state == VHDX_FULLY_PRESENT && !v->keep ? reads_zero(c, off, len) : 0;
        if (zero < 0)
            return -zero;
        if (zero)
            rc = vhdx_set(c->img, i, 0);
        else if (!add(c, off, len, i))
            return ENOMEM;
        if (!step(c, len))
            return ECANCELED;
    }
    return rc ? rc : image_flush_sync(c->img);
}

bool vhdx_compact(struct image *img, const struct disk_progress *progress, err *e)
{
    struct vhdx *v = (struct vhdx *)img;
    struct compaction c = {.img = img, .progress = progress, .set = vhdx_set};
    c.total = v->space.file_size;
    c.buf = malloc(CHUNK);
    int rc = c.buf ? vhdx_settle_identity(img) : ENOMEM;
    if (rc == 0)
        rc = vhdx_collect(&c);
    /* The regions and the log stay where they are. */
    if (rc == 0 && (!add(&c, v->bat_off, v->bat_len, UINT64_MAX) ||
                    !add(&c, v->meta_off, v->meta_len, UINT64_MAX) ||
                    !add(&c, v->header.log_offset, v->header.log_length, UINT64_MAX)))
        rc = ENOMEM;
    if (rc == 0)
        rc = move_all(&c, VHDX_MB);
    if (rc == 0) {
        v->space.end = align_up(used_end(&c, VHDX_MB), VHDX_MB);
        rc = sfile_set_size(img->file, v->space.end);
        v->space.file_size = v->space.end;
    }
    return finish(&c, rc, e);
}

/* ---- VHD ---- */

static int vhd_set(struct image *img, uint64_t index, uint64_t off)
{
    struct vhd *v = (struct vhd *)img;
    uint64_t at = v->table_off + index * 4;
    int rc = 0;
    struct meta_page *p = meta_get(&img->meta, align_down(at, VHD_SECTOR), &rc);
    if (!p)
        return rc;
    put_be32(p->data + at % VHD_SECTOR, off ? (uint32_t)(off / VHD_SECTOR) : VHD_UNUSED);
    meta_dirty(&img->meta, p);
    return img->meta.ndirty > VHD_MAX_DIRTY / 2 ? image_flush_sync(img) : 0;
}

static int vhd_collect(struct compaction *c)
{
    struct vhd *v = (struct vhd *)c->img;
    int rc = 0;
    for (uint64_t i = 0; rc == 0 && i < v->nblocks; i++) {
        uint64_t at = v->table_off + i * 4, len = v->bitmap_size + (uint64_t)c->img->block_size;
        struct meta_page *p = meta_get(&c->img->meta, align_down(at, VHD_SECTOR), &rc);
        if (!p)
            return rc;
        uint32_t entry = get_be32(p->data + at % VHD_SECTOR);
        uint64_t off = (uint64_t)entry * VHD_SECTOR;
        if (entry == VHD_UNUSED)
            continue;
        if (!vhd_block_ok(v, entry))
            return EIO;
        int zero = c->img->type == DISK_DYNAMIC
                       ? reads_zero(c, off + v->bitmap_size, c->img->block_size)
                       : 0;
        if (zero < 0)
            return -zero;
        if (zero)
            rc = vhd_set(c->img, i, 0);
        else if (!add(c, off, len, i))
            return ENOMEM;
        if (!step(c, len))
            return ECANCELED;
    }
    return rc ? rc : image_flush_sync(c->img);
}

/* The end of what lies in front of the blocks. */
static uint64_t vhd_base(const struct vhd *v)
{
    uint64_t end = VHD_SECTOR;
    for (int i = 0; i < VHD_LOCATORS; i++) {
        const struct vhd_locator *l = &v->header.locators[i];
        uint64_t off = get_be64(&l->offset), len = get_be32(&l->length);
        if (get_be32(&l->platform) && off < v->space.file_size)
            end = MAX(end, align_up(off + len, VHD_SECTOR));
    }
    end = MAX(end, v->header_off + sizeof v->header);
    return MAX(end, align_up(v->table_off + (uint64_t)v->table_entries * 4, VHD_SECTOR));
}

bool vhd_compact(struct image *img, const struct disk_progress *progress, err *e)
{
    struct vhd *v = (struct vhd *)img;
    if (img->type == DISK_FIXED)
        return true;
    struct compaction c = {.img = img, .progress = progress, .set = vhd_set};
    c.total = v->space.file_size;
    c.buf = malloc(CHUNK);
    int rc = c.buf ? vhd_collect(&c) : ENOMEM;
    uint64_t base = vhd_base(v);
    if (rc == 0)
        rc = move_all(&c, base);
    if (rc == 0) { /* the footer at the new end first, then what is behind it goes */
        v->space.end = used_end(&c, base);
        rc = sfile_write(img->file, v->space.end, &v->footer, sizeof v->footer);
        if (rc == 0)
            rc = sfile_flush(img->file);
        if (rc == 0)
            rc = sfile_set_size(img->file, v->space.end + VHD_SECTOR);
        v->space.file_size = v->space.end + VHD_SECTOR;
    }
    return finish(&c, rc, e);
}
