/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How a VHD's metadata becomes durable. The format has no log; order keeps it whole:
 *   1. if bits were set or space is used again: the data is flushed;
 *   2. bitmaps, and the footer at the new end (its copy in front holds meanwhile); flush;
 *   3. the table's sectors that now point to new blocks; flush.
 * Each page here is one sector, which disks write whole or not at all; sectors are independent.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/storage/vhd.h"

#define V(img) ((struct vhd *)(img))

static void run(struct vhd *v);

static bool in_table(const struct vhd *v, uint64_t off)
{
    return off >= v->table_off && off < v->table_off + (uint64_t)v->table_entries * 4;
}

static void release(struct vhd *v, bool dirty_again)
{
    for (struct meta_page *p = v->c.pages, *next; p; p = next) {
        next = p->taken_next;
        meta_unpin(p);
        if (dirty_again)
            meta_dirty(&v->base.meta, p);
    }
    v->c.pages = NULL;
    free(v->c.copies);
    free(v->c.io);
    free(v->c.iov);
    v->c.copies = NULL;
    v->c.io = NULL;
    v->c.iov = NULL;
}

static void finish(struct vhd *v, int status)
{
    if (status) {
        v->need_barrier |= v->c.barrier;
        v->footer_moved |= v->c.footer;
    }
    space_durable(&v->space, status == 0);
    release(v, status != 0);
    v->c.step = VHD_IDLE;
    image_durable(&v->base, status);
    space_recycle(&v->space);
    image_settled(&v->base, status);
}

static void step_done(struct vhd *v, int status)
{
    if (status) {
        finish(v, status);
        return;
    }
    switch (v->c.step) {
    case VHD_BARRIER: v->c.step = VHD_BITMAPS; break;
    case VHD_BITMAPS: v->c.step = VHD_BITMAPS_FLUSH; break;
    case VHD_BITMAPS_FLUSH: v->c.step = v->c.table ? VHD_TABLE : VHD_IDLE; break;
    case VHD_TABLE: v->c.step = VHD_TABLE_FLUSH; break;
    default: v->c.step = VHD_IDLE; break;
    }
    if (v->c.step == VHD_IDLE)
        finish(v, 0);
    else
        run(v);
}

static void flushed(struct sfile_req *r, int status)
{
    step_done(r->ctx, status);
}

static void written(struct sfile_req *r, int status)
{
    struct vhd *v = r->ctx;
    if (status && !v->c.status)
        v->c.status = status;
    if (--v->c.nwriting == 0)
        step_done(v, v->c.status);
}

static void write_at(struct vhd *v, struct sfile_req *r, struct iovec *iov, uint64_t off, void *p)
{
    *iov = (struct iovec){p, VHD_SECTOR};
    *r = (struct sfile_req){.op = SFILE_WRITE,
                            .offset = off,
                            .length = VHD_SECTOR,
                            .iov = iov,
                            .iovcnt = 1,
                            .ctx = v,
                            .done = written};
    v->c.nwriting++;
    sfile_submit(v->base.file, r);
}

static void write_pages(struct vhd *v, bool table)
{
    struct meta_page *p = v->c.pages;
    for (uint32_t i = 0; i < v->c.n; i++, p = p->taken_next)
        if (in_table(v, p->off) == table)
            write_at(v, &v->c.io[i], &v->c.iov[i], p->off, v->c.copies + (size_t)i * VHD_SECTOR);
}

static void run(struct vhd *v)
{
    v->c.status = 0;
    v->c.nwriting = 1; /* held until all are under way */
    switch (v->c.step) {
    case VHD_BITMAPS:
        write_pages(v, false);
        if (v->c.footer) {
            v->c.footer_copy = v->footer;
            write_at(v, &v->c.footer_io, &v->c.footer_iov, v->space.end, &v->c.footer_copy);
        }
        break;
    case VHD_TABLE: write_pages(v, true); break;
    default:
        v->c.flush = (struct sfile_req){.op = SFILE_FLUSH, .ctx = v, .done = flushed};
        sfile_submit(v->base.file, &v->c.flush);
        return;
    }
    if (--v->c.nwriting == 0) /* nothing of this kind */
        step_done(v, 0);
}

static bool take_pages(struct vhd *v)
{
    uint32_t n = v->base.meta.ndirty;
    v->c.copies = malloc((size_t)n * VHD_SECTOR);
    v->c.io = calloc(n, sizeof *v->c.io);
    v->c.iov = calloc(n, sizeof *v->c.iov);
    if (n && (!v->c.copies || !v->c.io || !v->c.iov))
        return false;
    v->c.n = n;
    v->c.pages = meta_take_dirty(&v->base.meta);
    uint8_t *to = v->c.copies;
    for (struct meta_page *p = v->c.pages; p; p = p->taken_next, to += VHD_SECTOR) {
        memcpy(to, p->data, VHD_SECTOR);
        v->c.table |= in_table(v, p->off);
    }
    return true;
}

static void fail_from_loop(void *ctx)
{
    finish(ctx, ENOMEM);
}

void vhd_commit(struct image *img)
{
    struct vhd *v = V(img);
    v->c.barrier = v->need_barrier || v->space.reused;
    v->space.reused = false;
    v->c.table = false;
    v->c.footer = v->footer_moved;
    space_commit(&v->space);
    if (!take_pages(v)) {
        loop_call(img->loop, fail_from_loop, v);
        return;
    }
    v->need_barrier = v->footer_moved = false;
    v->c.step = !v->c.n && !v->c.footer ? VHD_PLAIN : v->c.barrier ? VHD_BARRIER : VHD_BITMAPS;
    run(v);
}

int vhd_clean(struct image *img)
{
    struct vhd *v = V(img);
    while (v->space.punching)
        loop_turn(img->loop, -1);
    /* Found damaged when it was opened, as a power cut may leave them: both are made whole. */
    if (img->type == DISK_FIXED || !(v->footer_bad || v->copy_bad))
        return 0;
    return vhd_write_footers(v, &v->footer);
}
