/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * How a VHDX's metadata becomes durable.
 *
 * Changed pages stay in memory until a flush (of the guest, of the timer, or for want of room).
 * Then
 *   1. if sector bitmaps or space that was used before are concerned: the data is flushed, so that
 *      no bit says "here" of a sector that is not. A new block of a dynamic disk needs none of
 *      this: its space reads as zeroes, which is what the block held before. But the file must be
 *      known to be that large: growing it is for replay to do as well ([MS-VHDX] 2.3.1.1,
 *      LastFileOffset), which not every implementation does. It grows by so much at once that such
 *      a flush is rare;
 *   2. the pages are written as one log entry;
 *   3. the file is flushed: the guest's flush is answered now;
 *   4. the pages are written to their places. The next flush makes that durable, and the entry is
 * no longer needed: the log's tail moves behind it. Commits do not overlap, so at each flush every
 * entry but the one being written is in place.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "core/storage/vhdx.h"

#define V(img) ((struct vhdx *)(img))

/* ---- the first change of a session: both headers get new GUIDs and announce the log ---- */

static void activate_next(struct vhdx *v);

static void activate_step_done(struct sfile_req *r, int status)
{
    struct vhdx *v = CONTAINER_OF(r, struct vhdx, activate_io);
    if (status == 0) {
        if (r->op == SFILE_FLUSH) { /* this header is in force now */
            v->header = *v->activate_header;
            v->current = !v->current;
        }
        if (++v->activate_step < 4) {
            activate_next(v);
            return;
        }
        v->active = true;
    }
    free(v->activate_header);
    v->activate_header = NULL;
    v->activating = false;
    image_wake(&v->base, status);
}

static void activate_next(struct vhdx *v)
{
    struct vhdx_header *h = v->activate_header;
    bool write = v->activate_step % 2 == 0;
    if (write) {
        h->sequence = v->header.sequence + 1;
        vhdx_seal_header(h);
        v->activate_iov = (struct iovec){h, sizeof *h};
    }
    v->activate_io = (struct sfile_req){.op = write ? SFILE_WRITE : SFILE_FLUSH,
                                        .offset = VHDX_HEADER_OFFSET(!v->current),
                                        .length = sizeof *h,
                                        .iov = &v->activate_iov,
                                        .iovcnt = 1,
                                        .done = activate_step_done};
    sfile_submit(v->base.file, &v->activate_io);
}

static void session_header(struct vhdx *v, struct vhdx_header *h)
{
    *h = v->header;
    guid_random(&h->file_write);
    if (!v->base.keep_identity)
        guid_random(&h->data_write);
    guid_random(&h->log);
    h->log_version = 0;
    v->log_head = v->log_tail = 0;
    v->log_used = false;
    v->log_seq = 1;
}

static void no_memory(void *ctx)
{
    struct vhdx *v = ctx;
    v->activating = false;
    image_wake(&v->base, ENOMEM);
}

void vhdx_activate(struct vhdx *v)
{
    if (v->active || v->activating)
        return;
    v->activating = true;
    void *h = NULL;
    if (posix_memalign(&h, VHDX_PAGE, sizeof(struct vhdx_header)) != 0) {
        loop_call(v->base.loop, no_memory, v);
        return;
    }
    v->activate_header = h;
    v->activate_step = 0;
    session_header(v, h);
    activate_next(v);
}

int vhdx_settle_identity(struct image *img)
{
    struct vhdx *v = V(img);
    while (v->activating)
        loop_turn(img->loop, -1);
    if (v->active)
        return 0;
    struct vhdx_header h;
    session_header(v, &h);
    int rc = vhdx_write_headers(v, &h);
    v->active = rc == 0;
    return rc;
}

/* ---- commits ---- */

static void commit_run(struct vhdx *v);

static void release(struct vhdx *v, bool dirty_again)
{
    struct vhdx_commit *c = &v->c;
    for (struct meta_page *p = c->pages, *next; p; p = next) {
        next = p->taken_next;
        meta_unpin(p);
        if (dirty_again)
            meta_dirty(&v->base.meta, p);
    }
    c->pages = NULL;
    free(c->entry);
    free(c->copies);
    free(c->in_place);
    free(c->in_place_iov);
    c->entry = c->copies = NULL;
    c->in_place = NULL;
    c->in_place_iov = NULL;
}

static void settled(struct vhdx *v, int status)
{
    v->c.step = COMMIT_IDLE;
    space_recycle(&v->space);
    image_settled(&v->base, status);
}

static void failed(struct vhdx *v, int status)
{
    v->need_barrier |= v->c.barrier;
    space_durable(&v->space, false);
    release(v, true);
    image_durable(&v->base, status);
    settled(v, status);
}

/* A flush of the file has succeeded: what was in place before it is durable there. */
static void file_flushed(struct vhdx *v)
{
    v->stable_size = v->c.size_at_flush;
    if (!v->in_place_bad)
        v->log_used = false;
}

static void start_flush(struct vhdx *v);

static void flush_done(struct sfile_req *r, int status)
{
    struct vhdx *v = CONTAINER_OF(r, struct vhdx, c.io[0]);
    if (status) {
        failed(v, status);
        return;
    }
    switch (v->c.step) {
    case COMMIT_PLAIN:
        file_flushed(v);
        space_durable(&v->space, true);
        image_durable(&v->base, 0);
        settled(v, 0);
        return;
    case COMMIT_BARRIER:
        file_flushed(v);
        v->c.step = COMMIT_LOG;
        commit_run(v);
        return;
    default: v->c.step = COMMIT_IN_PLACE; commit_run(v);
    }
}

static void start_flush(struct vhdx *v)
{
    v->c.size_at_flush = v->space.file_size;
    v->c.io[0] = (struct sfile_req){.op = SFILE_FLUSH, .done = flush_done};
    sfile_submit(v->base.file, &v->c.io[0]);
}

static uint32_t log_room(const struct vhdx *v)
{
    uint32_t size = v->header.log_length;
    if (!v->log_used)
        return size;
    return v->log_head > v->log_tail ? size - (v->log_head - v->log_tail)
                                     : v->log_tail - v->log_head;
}

static void io_done(struct sfile_req *r, int status)
{
    struct vhdx *v = r->ctx;
    if (status && !v->c.status)
        v->c.status = status;
    if (--v->c.nwriting)
        return;
    if (v->c.step == COMMIT_LOG && v->c.status) {
        failed(v, v->c.status);
        return;
    }
    v->c.step = v->c.step == COMMIT_LOG ? COMMIT_LOG_FLUSH : COMMIT_IDLE;
    commit_run(v);
}

static void write_part(struct vhdx *v, int i, uint32_t at, uint8_t *p, uint32_t len)
{
    v->c.iov[i] = (struct iovec){p, len};
    v->c.io[i] = (struct sfile_req){.op = SFILE_WRITE,
                                    .offset = v->header.log_offset + at,
                                    .length = len,
                                    .iov = &v->c.iov[i],
                                    .iovcnt = 1,
                                    .ctx = v,
                                    .done = io_done};
    sfile_submit(v->base.file, &v->c.io[i]);
}

static void write_entry(struct vhdx *v)
{
    struct vhdx_commit *c = &v->c;
    vhdx_log_build(v, c->pages, c->npages, c->copies, c->entry);
    uint32_t first = MIN(c->entry_len, v->header.log_length - v->log_head);
    c->status = 0;
    c->nwriting = first < c->entry_len ? 2 : 1;
    if (first < c->entry_len)
        write_part(v, 1, 0, c->entry + first, c->entry_len - first);
    write_part(v, 0, v->log_head, c->entry, first);
}

/* The entry is durable: answer whoever waits, and put the pages where they belong. */
static void entry_durable(struct vhdx *v)
{
    struct vhdx_commit *c = &v->c;
    v->stable_size = c->size_at_flush;
    if (!v->in_place_bad || !v->log_used)
        v->log_tail = v->log_head;
    v->log_used = true;
    v->log_head = (uint32_t)(((uint64_t)v->log_head + c->entry_len) % v->header.log_length);
    v->log_seq++;
    space_durable(&v->space, true);
    c->status = 0;
    c->nwriting = c->npages;
    struct meta_page *p = c->pages;
    for (uint32_t i = 0, n = c->npages; i < n; i++, p = p->taken_next) {
        c->in_place_iov[i] = (struct iovec){c->copies + (size_t)i * VHDX_PAGE, VHDX_PAGE};
        c->in_place[i] = (struct sfile_req){.op = SFILE_WRITE,
                                            .offset = p->off,
                                            .length = VHDX_PAGE,
                                            .iov = &c->in_place_iov[i],
                                            .iovcnt = 1,
                                            .ctx = v,
                                            .done = io_done};
        sfile_submit(v->base.file, &c->in_place[i]);
    }
    image_durable(&v->base, 0);
}

static void in_place_done(struct vhdx *v)
{
    bool bad = v->c.status != 0;
    if (!bad && v->in_place_bad) /* what could not be written before is in this entry */
        v->log_tail = (v->log_head + v->header.log_length - v->c.entry_len) % v->header.log_length;
    v->in_place_bad = bad;
    release(v, bad);
    settled(v, 0);
}

static bool take_pages(struct vhdx *v)
{
    struct vhdx_commit *c = &v->c;
    uint32_t n = v->base.meta.ndirty;
    c->entry_len = vhdx_log_entry_len(n);
    void *entry = NULL, *copies = NULL;
    if (posix_memalign(&entry, VHDX_PAGE, c->entry_len) != 0)
        entry = NULL;
    if (posix_memalign(&copies, VHDX_PAGE, (size_t)n * VHDX_PAGE) != 0)
        copies = NULL;
    c->entry = entry;
    c->copies = copies;
    c->in_place = calloc(n, sizeof *c->in_place);
    c->in_place_iov = calloc(n, sizeof *c->in_place_iov);
    if (!entry || !copies || !c->in_place || !c->in_place_iov)
        return false;
    c->npages = n;
    c->pages = meta_take_dirty(&v->base.meta);
    uint8_t *to = copies;
    for (struct meta_page *p = c->pages; p; p = p->taken_next, to += VHDX_PAGE)
        memcpy(to, p->data, VHDX_PAGE);
    return true;
}

static void commit_run(struct vhdx *v)
{
    switch (v->c.step) {
    case COMMIT_PLAIN:
    case COMMIT_BARRIER:
    case COMMIT_LOG_FLUSH: start_flush(v); return;
    case COMMIT_LOG:
        if (v->c.entry_len > log_room(v))
            failed(v, ENOSPC); /* pages of old entries cannot be written in place */
        else
            write_entry(v);
        return;
    case COMMIT_IN_PLACE: entry_durable(v); return;
    case COMMIT_IDLE: in_place_done(v); return;
    }
}

static void fail_from_loop(void *ctx)
{
    failed(ctx, ENOMEM);
}

/* After a crash the file might be shorter than what is allocated. */
static bool size_is_unsure(const struct vhdx *v)
{
    return MIN(v->space.end, v->space.file_size) > v->stable_size;
}

void vhdx_commit(struct image *img)
{
    struct vhdx *v = V(img);
    struct vhdx_commit *c = &v->c;
    c->barrier = v->need_barrier || v->space.reused || size_is_unsure(v);
    v->space.reused = false;
    space_commit(&v->space);
    if (!img->meta.ndirty) {
        c->step = COMMIT_PLAIN;
        v->need_barrier = false;
        commit_run(v);
        return;
    }
    if (!take_pages(v)) {
        loop_call(img->loop, fail_from_loop, v);
        return;
    }
    v->need_barrier = false;
    bool flush_first = c->barrier || c->entry_len > log_room(v);
    c->step = flush_first ? COMMIT_BARRIER : COMMIT_LOG;
    commit_run(v);
}

/* What the file was grown by ahead of need. */
static void give_back_tail(struct vhdx *v)
{
    if (v->space.file_size > v->space.end && sfile_set_size(v->base.file, v->space.end) == 0)
        v->space.file_size = v->space.end;
    v->stable_size = MIN(v->stable_size, v->space.file_size);
}

/* Nothing is in flight, nothing dirty. */
int vhdx_clean(struct image *img)
{
    struct vhdx *v = V(img);
    while (v->space.punching || v->activating)
        loop_turn(img->loop, -1);
    if (!v->active)
        return 0;
    if (v->in_place_bad || img->meta.ndirty)
        return EIO; /* the log stays, to be replayed */
    int rc = sfile_flush(img->file);
    if (rc)
        return rc;
    struct vhdx_header h = v->header;
    h.log = (struct guid){0};
    rc = vhdx_write_headers(v, &h);
    if (rc)
        return rc;
    v->active = v->log_used = false;
    give_back_tail(v); /* no entry of the log insists on the size any more */
    return 0;
}

static int vhdx_set_identity(struct image *img, const struct guid *id)
{
    struct vhdx *v = V(img);
    int rc = vhdx_settle_identity(img);
    if (rc)
        return rc;
    struct vhdx_header h = v->header;
    h.data_write = *id;
    return vhdx_write_headers(v, &h);
}

static bool vhdx_now_writable(struct image *img, err *e)
{
    struct vhdx *v = V(img);
    if (!guid_is_zero(&v->header.log) && !v->active) {
        if (!vhdx_replay(v, e))
            return false;
        meta_drop_overlay(&img->meta);
    }
    v->space.file_size = v->stable_size = sfile_size(img->file);
    v->space.end = align_up(v->space.file_size, VHDX_MB);
    return true;
}

static void vhdx_destroy(struct image *img)
{
    struct vhdx *v = V(img);
    space_fini(&v->space);
    image_fini(img);
    free(v);
}

const struct image_ops vhdx_ops = {
    .name = "VHDX",
    .map = vhdx_map,
    .map_write = vhdx_map_write,
    .map_zero = vhdx_map_zero,
    .wrote = vhdx_wrote,
    .forget = vhdx_forget,
    .commit = vhdx_commit,
    .clean = vhdx_clean,
    .settle_identity = vhdx_settle_identity,
    .resize = vhdx_resize,
    .identity = vhdx_identity,
    .parent_ref = vhdx_parent_ref,
    .set_parent = vhdx_set_parent,
    .set_identity = vhdx_set_identity,
    .now_writable = vhdx_now_writable,
    .destroy = vhdx_destroy,
};
