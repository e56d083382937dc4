/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Merging a layer A into its parent B, with the layer above (if any) in use.
 *
 *   0. A is told a second identity that its parent may have: the one B will have at the end.
 *   1. What A holds is copied into B. B keeps its identity, and A lies over B: whatever part was
 *      copied, the chain reads the same, so this may stop at any point and begin again.
 *   2. B takes A's identity: whoever was made on A now fits B.
 *   3. The layer above is told B's name. A is out of the chain; its file may go.
 *
 * After a crash between any two steps the chain opens and reads as it should. So that a merge begun
 * again does not begin at the start, A forgets from time to time what B has, durably (relief.h);
 * that also gives its space back.
 *
 * Where A is the top and in use, what the guest changes is copied again before it is acknowledged.
 * When B holds all of it, A over B and B alone read the same and go on doing so, each flush being
 * one of both; so whoever keeps the disk's name may change it to B's at leisure. B keeps the
 * identity that A knows until that is done. There are no steps 0, 2 and 3.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/storage/copy.h"
#include "core/storage/relief.h"
#include "core/storage/tool.h"

static const uint64_t MERGE_STEP = 128 << 20;

struct disk_merge {
    struct disk *disk;
    struct disk_merge_params p;
    struct image *above, *a, *b;
    struct disk *from, *to; /* views */
    struct copy *copy;
    struct relief relief;
    enum { MERGE_BELOW, MERGE_OFFLINE, MERGE_LIVE } kind;
    bool late;   /* was live, until a layer was put on top */
    bool ready;  /* live: B alone is the disk, too */
    bool paused; /* live: the disk is held for the change-over */
    bool ending; /* the loop may be being turned for the end */
};

bool disk_merge_uses(const struct disk_merge *m, const struct image *img)
{
    return img == m->a || img == m->b || img == m->above;
}

/* Names `to` as the parent of `img` as its file should. */
static bool name_parent(struct image *img, struct image *to, const struct guid *id,
                        const struct guid *id2, err *e)
{
    char *rel = path_relative(img->file->name, to->file->name);
    char *abs = realpath(to->file->name, NULL);
    bool ok = rel ? image_set_parent(img, rel, abs ? abs : to->file->name, id, id2, e)
                  : err_set(e, ERR_NO_MEMORY, "Not enough memory to merge");
    free(rel);
    free(abs);
    return ok;
}

/* Step 0, on a drained disk. */
static bool prepare(struct disk_merge *m, err *e)
{
    struct disk *d = m->disk;
    struct guid id_a, id_b;
    if (!image_make_writable(m->a, &d->source, d->flags, e) ||
        !image_make_writable(m->b, &d->source, d->flags, e))
        return false;
    m->b->keep_identity = true;
    m->a->keep_identity |= m->kind != MERGE_LIVE;
    if (!image_identity(m->a, &id_a) || !image_identity(m->b, &id_b))
        return err_set(e, ERR_UNSUPPORTED, "%s cannot be merged into", m->b->file->name);
    if (m->b->size < m->a->size && !image_resize_sync(m->b, m->a->size, false, e))
        return false;
    return m->kind == MERGE_LIVE || name_parent(m->a, m->b, &id_b, &id_a, e);
}

/* A's child was made on what A is now, not on what it was at the beginning. */
static bool prepare_late(struct disk_merge *m, err *e)
{
    struct guid id_a, id_b;
    image_identity(m->a, &id_a);
    image_identity(m->b, &id_b);
    m->a->keep_identity = true;
    return name_parent(m->a, m->b, &id_b, &id_a, e);
}

static void drop_a(struct disk_merge *m)
{
    m->a->parent = NULL;
    m->a->ops->clean(m->a);
    image_free(m->a);
    m->a = NULL;
}

/* Step 4 of a live merge: the caller has said that B is the disk. */
static void change_over(struct disk_merge *m)
{
    m->disk->top = m->b;
    m->b->keep_identity = false;
}

/* In use again: what was made on the former B does not fit it any more. */
static void settle_live(struct disk_merge *m)
{
    struct guid id;
    int rc = image_flush_sync(m->a);
    guid_random(&id);
    if (rc == 0)
        rc = m->b->ops->set_identity(m->b, &id);
    if (rc)
        log_line(LOG_WARNING, "disk", "%s: %s", m->b->file->name, strerror(rc));
    drop_a(m);
}

/* Steps 2 and 3, on a drained disk. */
static bool conclude(struct disk_merge *m, err *e)
{
    struct disk *d = m->disk;
    struct guid id;
    if (m->late && !prepare_late(m, e))
        return false;
    image_identity(m->a, &id);
    int rc = image_flush_sync(m->b);
    if (rc == 0)
        rc = m->b->ops->set_identity(m->b, &id);
    if (rc)
        return err_errno(e, rc, "Could not write %s", m->b->file->name);
    image_identity(m->b, &id); /* a VHD keeps its own */
    if (!m->above)
        return true;
    bool was_read_only = m->above->read_only, keep = m->above->keep_identity;
    if (!image_make_writable(m->above, &d->source, d->flags, e))
        return false;
    m->above->keep_identity = true;
    bool ok = name_parent(m->above, m->b, &id, NULL, e);
    m->above->keep_identity = keep;
    if (was_read_only && !image_make_read_only(m->above, d->flags, e))
        ok = false;
    if (!ok)
        return false;
    m->above->parent = m->b;
    drop_a(m);
    return true;
}

static void put_back(struct disk_merge *m)
{
    if (m->a && m->kind != MERGE_LIVE) {
        image_make_read_only(m->a, m->disk->flags, NULL);
        m->a->keep_identity = false;
    }
    image_make_read_only(m->b, m->disk->flags, NULL);
    m->b->keep_identity = false;
}

static void finish(struct disk_merge *m, const err *e)
{
    struct disk_merge_params p = m->p;
    struct disk *d = m->disk;
    d->merge = NULL;
    copy_free(m->copy);
    disk_close(m->from);
    disk_close(m->to);
    free(m);
    p.done(p.ctx, e);
    if (d->close_wanted)
        disk_close(d);
}

struct ending {
    struct disk_merge *m;
    err e;
};

/* From the loop, so that no copying is on the stack. */
static void end(void *ctx)
{
    struct ending *x = ctx;
    struct disk_merge *m = x->m;
    bool over = m->kind == MERGE_LIVE && x->e.code == ERR_NONE;
    m->ending = true;
    if (!m->paused)
        disk_drain_sync(m->disk);
    if (over)
        change_over(m);
    else if (x->e.code == ERR_NONE)
        conclude(m, &x->e);
    if (!over)
        put_back(m);
    disk_resume(m->disk);
    if (over)
        settle_live(m);
    finish(m, &x->e);
    free(x);
}

static void copied(void *ctx, int status, bool reading, uint64_t at)
{
    struct disk_merge *m = ctx;
    struct ending *x = calloc(1, sizeof *x);
    if (!x)
        abort(); /* not even a few bytes to say so: the host is out of memory */
    x->m = m;
    m->disk->mirror = NULL;
    if (status == ECANCELED)
        err_set(&x->e, ERR_CANCELLED, "Merging %s was cancelled", m->a->file->name);
    else if (status)
        err_errno(&x->e, status, "Could not %s %s", reading ? "read" : "write",
                  (reading ? m->a : m->b)->file->name);
    if (!loop_call(m->disk->loop, end, x))
        abort();
}

static void synced(void *ctx)
{
    struct disk_merge *m = ctx;
    m->ready = true;
    if (m->p.ready)
        m->p.ready(m->p.ctx);
    else
        disk_merge_conclude(m);
}

/* With nothing in flight there is nothing left to follow. */
static void hold_and_finish(void *ctx)
{
    struct disk_merge *m = ctx;
    disk_drain_sync(m->disk);
    m->disk->mirror = NULL;
    copy_finish(m->copy);
}

void disk_merge_conclude(struct disk_merge *m)
{
    if (!m->ready || m->paused)
        return;
    m->paused = true;
    if (!loop_call(m->disk->loop, hold_and_finish, m))
        abort(); /* not even a few bytes to say so: the host is out of memory */
}

bool merge_is_ending(const struct disk_merge *m)
{
    return m->ending;
}

bool merge_now_below(struct disk *d, struct image *above, err *e)
{
    struct disk_merge *m = d->merge;
    if (!m || m->kind != MERGE_LIVE)
        return true;
    if (m->ready)
        return err_set(e, ERR_BUSY, "%s is at the end of being merged: try again",
                       d->top->file->name);
    m->kind = MERGE_BELOW;
    m->late = true;
    m->above = above;
    d->mirror = NULL;
    copy_finish(m->copy);
    return true;
}

static void progressed(void *ctx, uint64_t done, uint64_t total)
{
    struct disk_merge *m = ctx;
    if (m->p.progress)
        m->p.progress(m->p.ctx, done, total);
}

static void relieved(void *ctx)
{
    struct disk_merge *m = ctx;
    copy_passed(m->copy);
}

static void passed(void *ctx, uint64_t to)
{
    struct disk_merge *m = ctx;
    relief_start(&m->relief, to, m->kind == MERGE_LIVE ? m->disk : NULL);
}

static bool start_copy(struct disk_merge *m, err *e)
{
    m->relief = (struct relief){.a = m->a, .b = m->b, .done = relieved, .ctx = m};
    m->from = disk_view(m->disk, m->a, e);
    m->to = m->from ? disk_view(m->disk, m->b, e) : NULL;
    if (!m->to)
        return false;
    struct copy_params cp = {.from = m->from,
                             .to = m->to,
                             .layer = true,
                             .live = m->kind == MERGE_LIVE,
                             .synced = synced,
                             .passed = passed,
                             .pass_step = m->disk->merge_step ? m->disk->merge_step : MERGE_STEP,
                             .length = m->a->size,
                             .progress = progressed,
                             .done = copied,
                             .ctx = m};
    m->copy = copy_start(&cp, e);
    if (m->kind == MERGE_LIVE)
        m->disk->mirror = m->copy;
    return m->copy != NULL;
}

static bool find_layers(struct disk_merge *m, unsigned depth, err *e)
{
    m->a = m->disk->top;
    while (m->a && depth--) {
        m->above = m->a;
        m->a = m->a->parent;
    }
    m->b = m->a ? m->a->parent : NULL;
    return m->b ||
           err_set(e, ERR_NOT_FOUND, "%s has no such layer to merge", m->disk->top->file->name);
}

static struct disk_merge *merge_start(struct disk *d, const struct disk_merge_params *p,
                                      bool offline, err *e)
{
    if (d->merge) {
        err_set(e, ERR_BUSY, "Layers of %s are being merged already", d->top->file->name);
        return NULL;
    }
    struct disk_merge *m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to merge");
        return NULL;
    }
    m->disk = d;
    m->p = *p;
    m->kind = p->depth ? MERGE_BELOW : offline ? MERGE_OFFLINE : MERGE_LIVE;
    disk_drain_sync(d);
    bool ok = find_layers(m, p->depth, e);
    if (ok) {
        ok = prepare(m, e) && start_copy(m, e);
        if (!ok)
            put_back(m);
    }
    disk_resume(d);
    if (!ok) {
        disk_close(m->from);
        disk_close(m->to);
        free(m);
        return NULL;
    }
    d->merge = m;
    return m;
}

struct disk_merge *disk_merge_start(struct disk *d, const struct disk_merge_params *p, err *e)
{
    if (p->depth || !d->top->read_only)
        return merge_start(d, p, false, e);
    err_set(e, ERR_READ_ONLY, "%s is open for reading alone", d->top->file->name);
    return NULL;
}

struct disk_merge *merge_start_offline(struct disk *d, const struct disk_merge_params *p, err *e)
{
    return merge_start(d, p, true, e);
}

void disk_merge_cancel(struct disk_merge *m)
{
    if (!m->paused)
        copy_cancel(m->copy);
}
