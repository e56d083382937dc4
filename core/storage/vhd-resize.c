/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Changing a VHD's size and parent, drained. There is no log: each step leaves a file that opens,
 * and the step that counts is the writing of one sector.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "core/storage/vhd.h"

#define NAME(v) ((v)->base.file->name)

enum { ENTRIES_A_STEP = 8192 };

/* The footer at the end first: it is the one that is believed. */
int vhd_write_footers(struct vhd *v, const struct vhd_footer *f)
{
    int rc = sfile_write(v->base.file, v->space.end, f, sizeof *f);
    if (rc == 0)
        rc = sfile_flush(v->base.file);
    if (rc == 0 && v->base.type != DISK_FIXED)
        rc = sfile_write(v->base.file, 0, f, sizeof *f);
    if (rc == 0)
        rc = sfile_flush(v->base.file);
    if (rc)
        return rc;
    v->footer = *f;
    v->footer_bad = v->copy_bad = v->footer_moved = false;
    v->space.file_size = MAX(v->space.file_size, v->space.end + VHD_SECTOR);
    return 0;
}

static void sized_footer(const struct vhd *v, uint64_t size, struct vhd_footer *f)
{
    *f = v->footer;
    put_be64(&f->current_size, size);
    vhd_geometry(size, f);
    vhd_seal_footer(f);
}

static int resize_fixed(struct vhd *v, uint64_t size)
{
    struct vhd_footer f;
    struct sfile *file = v->base.file;
    uint64_t old_end = v->space.end;
    sized_footer(v, size, &f);
    int rc = size > old_end ? sfile_set_size(file, size + VHD_SECTOR) : 0;
    if (rc == 0 && size > old_end) {
        rc = file->ops->reserve(file, old_end, size + VHD_SECTOR - old_end);
        rc = rc == EOPNOTSUPP ? 0 : rc;
    }
    if (rc)
        return rc;
    v->space.end = size;
    rc = vhd_write_footers(v, &f);
    if (rc) {
        v->space.end = old_end;
        return rc;
    }
    if (size > old_end) { /* the old footer is the guest's first new sector */
        static const uint8_t zeroes[VHD_SECTOR];
        rc = sfile_write(file, old_end, zeroes, sizeof zeroes);
        if (rc == 0)
            rc = sfile_flush(file);
        return rc;
    }
    v->space.file_size = size + VHD_SECTOR;
    return sfile_set_size(file, size + VHD_SECTOR);
}

/* ---- dynamic ---- */

static uint32_t entry_of(struct vhd *v, uint64_t block, struct meta_page **p, int *rc)
{
    *p = meta_get(&v->base.meta, align_down(v->table_off + block * 4, VHD_SECTOR), rc);
    return *p ? get_be32((*p)->data + block % (VHD_SECTOR / 4) * 4) : VHD_UNUSED;
}

/* Entries from r->pos to `to`, some at a time: refused if used and not `clear`. *step is DONE when
 * all were seen. */
static int clear_entries(struct vhd *v, struct resize *r, uint64_t to, bool clear, bool release,
                         enum resize_step *step)
{
    uint64_t stop = MIN(to, r->pos + ENTRIES_A_STEP);
    *step = RESIZE_MORE;
    for (; r->pos < stop; r->pos++) {
        struct meta_page *p;
        int rc = 0;
        uint32_t entry = entry_of(v, r->pos, &p, &rc);
        if (rc)
            return rc;
        if (entry == VHD_UNUSED)
            continue;
        if (!clear)
            return ENOTEMPTY;
        put_be32(p->data + r->pos % (VHD_SECTOR / 4) * 4, VHD_UNUSED);
        meta_dirty(&v->base.meta, p);
        if (release && vhd_block_ok(v, entry))
            space_free(&v->space, (uint64_t)entry * VHD_SECTOR,
                       v->bitmap_size + (uint64_t)v->base.block_size);
        if (v->base.meta.ndirty > VHD_MAX_DIRTY / 2) {
            r->pos++;
            *step = RESIZE_FLUSH;
            return 0;
        }
    }
    if (r->pos >= to)
        *step = RESIZE_DONE;
    return 0;
}

static int fill_unused(struct sfile *f, uint64_t at, uint64_t len)
{
    uint8_t buf[8192];
    memset(buf, 0xff, sizeof buf);
    int rc = 0;
    for (uint64_t done = 0; rc == 0 && done < len; done += sizeof buf)
        rc = sfile_write(f, at + done, buf, MIN(len - done, sizeof buf));
    return rc;
}

static int copy(struct sfile *f, uint64_t from, uint64_t to, uint64_t len)
{
    uint8_t buf[8192];
    int rc = 0;
    for (uint64_t done = 0; rc == 0 && done < len; done += sizeof buf) {
        size_t n = MIN(len - done, sizeof buf);
        rc = sfile_read(f, from + done, buf, n);
        if (rc == 0)
            rc = sfile_write(f, to + done, buf, n);
    }
    return rc;
}

/* A larger table at the end of the file; the header's first sector switches to it. Everything is
 * durable before. */
static int move_table(struct vhd *v, uint32_t entries)
{
    uint64_t to;
    uint64_t used = align_up((uint64_t)v->table_entries * 4, VHD_SECTOR);
    uint64_t len = align_up((uint64_t)entries * 4, VHD_SECTOR);
    int rc = space_alloc(&v->space, len, &to);
    if (rc == 0)
        rc = fill_unused(v->base.file, to, len);
    if (rc == 0)
        rc = copy(v->base.file, v->table_off, to, (uint64_t)v->table_entries * 4);
    if (rc == 0)
        rc = vhd_write_footers(v, &v->footer);
    if (rc)
        return rc;
    struct vhd_header h = v->header;
    put_be64(&h.table_offset, to);
    put_be32(&h.table_entries, entries);
    vhd_seal_header(&h);
    rc = sfile_write(v->base.file, v->header_off, &h, sizeof h);
    if (rc == 0)
        rc = sfile_flush(v->base.file);
    if (rc)
        return rc;
    uint64_t old_off = v->table_off;
    v->header = h;
    v->table_off = to;
    v->table_entries = entries;
    meta_forget(&v->base.meta);
    space_free(&v->space, old_off, used);
    return 0;
}

static int zero_tail(struct vhd *v, uint64_t size)
{
    uint64_t end = MIN(align_up(v->base.size, v->base.block_size), size);
    struct meta_page *p;
    int rc = 0;
    if (end == v->base.size)
        return 0;
    uint32_t entry = entry_of(v, v->base.size >> v->block_shift, &p, &rc);
    if (rc || entry == VHD_UNUSED || !vhd_block_ok(v, entry))
        return rc;
    uint64_t at =
        (uint64_t)entry * VHD_SECTOR + v->bitmap_size + (v->base.size & (v->base.block_size - 1));
    return v->base.file->ops->zero(v->base.file, at, end - v->base.size);
}

enum { BEGIN, GROW, LOOK, SET_SIZE, WRITE_SIZE, CLEAR, END };

static enum resize_step next(struct resize *r, unsigned phase, uint64_t pos, enum resize_step step)
{
    r->phase = phase;
    r->pos = pos;
    return step;
}

static int begin(struct vhd *v, struct resize *r, uint64_t blocks, enum resize_step *step)
{
    if (r->size < v->base.size) {
        *step = next(r, r->force ? SET_SIZE : LOOK, blocks, RESIZE_MORE);
        return 0;
    }
    int rc = zero_tail(v, r->size);
    if (rc == 0 && blocks > v->table_entries)
        rc = move_table(v, (uint32_t)blocks);
    *step = next(r, GROW, v->nblocks, RESIZE_MORE);
    return rc;
}

static int resize_dynamic(struct vhd *v, struct resize *r, enum resize_step *step)
{
    uint64_t blocks = div_round_up(r->size, v->base.block_size);
    bool shrink = r->size < v->base.size;
    struct vhd_footer f;
    int rc = 0;
    switch (r->phase) {
    case BEGIN: return begin(v, r, blocks, step);
    case GROW:
        rc = clear_entries(v, r, blocks, true, false, step);
        if (*step == RESIZE_DONE)
            *step = next(r, SET_SIZE, 0, RESIZE_MORE);
        return rc;
    case LOOK:
        rc = clear_entries(v, r, v->nblocks, false, false, step);
        if (*step == RESIZE_DONE)
            *step = next(r, SET_SIZE, 0, RESIZE_MORE);
        return rc;
    case SET_SIZE: *step = next(r, WRITE_SIZE, 0, RESIZE_FLUSH); return 0;
    case WRITE_SIZE:
        sized_footer(v, r->size, &f);
        *step = next(r, shrink ? CLEAR : END, blocks, RESIZE_MORE);
        return vhd_write_footers(v, &f);
    case CLEAR:
        rc = clear_entries(v, r, v->nblocks, true, true, step);
        if (*step == RESIZE_DONE)
            *step = next(r, END, 0, RESIZE_FLUSH);
        return rc;
    default:
        v->nblocks = blocks;
        v->base.size = r->size;
        *step = RESIZE_DONE;
        return 0;
    }
}

static bool size_possible(const struct vhd *v, const struct resize *r, err *e)
{
    const struct image *img = &v->base;
    uint64_t start, end;
    if (!r->size || r->size > VHD_MAX_SIZE || r->size % VHD_SECTOR)
        return err_set(e, ERR_INVALID, "%s cannot have a size of %llu bytes", NAME(v),
                       (unsigned long long)r->size);
    if (img->type == DISK_DIFFERENCING && r->size < img->size)
        return err_set(e, ERR_UNSUPPORTED, "%s is differencing and cannot shrink: merge it first",
                       NAME(v));
    if (img->type == DISK_FIXED && r->size < img->size && !r->force &&
        img->file->ops->next_data(img->file, r->size, &start, &end) == 0 && start < img->size)
        return err_set(e, ERR_STATE, "%s holds data beyond the new size", NAME(v));
    return true;
}

enum resize_step vhd_resize(struct image *img, struct resize *r, err *e)
{
    struct vhd *v = (struct vhd *)img;
    enum resize_step step = RESIZE_DONE;
    int rc;
    if (!size_possible(v, r, e))
        return RESIZE_FAILED;
    if (r->size == img->size)
        return RESIZE_DONE;
    if (img->type == DISK_FIXED) {
        rc = resize_fixed(v, r->size);
        if (rc == 0)
            img->size = r->size;
    } else {
        rc = resize_dynamic(v, r, &step);
    }
    if (!rc)
        return step;
    if (rc == ENOTEMPTY)
        err_set(e, ERR_STATE, "%s holds data beyond the new size", NAME(v));
    else
        err_errno(e, rc, "Could not resize %s", NAME(v));
    return RESIZE_FAILED;
}

/* ---- parent: a second header at the end of the file, to which the footers then point ---- */

bool vhd_set_parent(struct image *img, const char *path, const char *absolute,
                    const struct guid *id, const struct guid *id2, err *e)
{
    struct vhd *v = (struct vhd *)img;
    struct vhd_header h = v->header;
    uint8_t *data = NULL;
    size_t len = 0;
    uint64_t at = v->space.end;
    uint32_t when = absolute ? vhd_time_of(absolute) : 0;
    if (!when)
        when = get_be32(&h.parent_timestamp);
    if (!vhd_build_parent(&h, path, absolute, id, when, at + sizeof h, &data, &len, e))
        return false;
    vhd_seal_header(&h);
    struct vhd_footer f = v->footer;
    put_be64(&f.header_offset, at);
    vhd_seal_footer(&f);
    int rc = image_flush_sync(img);
    if (rc == 0)
        rc = sfile_write(img->file, at, &h, sizeof h);
    if (rc == 0)
        rc = sfile_write(img->file, at + sizeof h, data, len);
    free(data);
    if (rc == 0)
        rc = sfile_flush(img->file);
    if (rc == 0) {
        v->space.end = at + sizeof h + len;
        rc = vhd_write_footers(v, &f);
    }
    if (rc)
        return err_errno(e, rc, "Could not write %s", NAME(v));
    v->header = h;
    v->header_off = at;
    return true;
}
