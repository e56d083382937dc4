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
 * After a crash between any two steps the chain opens and reads as it should.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/storage/copy.h"
#include "core/storage/tool.h"

struct disk_merge {
    struct disk *disk;
    struct disk_merge_params p;
    struct image *above, *a, *b;
    struct disk *from, *to; /* views */
    struct copy *copy;
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
    m->a->keep_identity = m->b->keep_identity = true;
    if (!image_identity(m->a, &id_a) || !image_identity(m->b, &id_b))
        return err_set(e, ERR_UNSUPPORTED, "%s cannot be merged into", m->b->file->name);
    if (m->b->size < m->a->size && !m->b->ops->resize(m->b, m->a->size, false, e))
        return false;
    return name_parent(m->a, m->b, &id_b, &id_a, e);
}

/* Steps 2 and 3, on a drained disk. */
static bool conclude(struct disk_merge *m, err *e)
{
    struct disk *d = m->disk;
    struct guid id;
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
    m->a->parent = NULL;
    m->a->ops->clean(m->a);
    image_free(m->a);
    m->a = NULL;
    return true;
}

static void put_back(struct disk_merge *m)
{
    if (m->a) {
        image_make_read_only(m->a, m->disk->flags, NULL);
        m->a->keep_identity = false;
    }
    image_make_read_only(m->b, m->disk->flags, NULL);
    m->b->keep_identity = false;
}

static void finish(struct disk_merge *m, const err *e)
{
    struct disk_merge_params p = m->p;
    m->disk->merge = NULL;
    copy_free(m->copy);
    disk_close(m->from);
    disk_close(m->to);
    free(m);
    p.done(p.ctx, e);
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
    disk_drain_sync(m->disk);
    if (x->e.code == ERR_NONE)
        conclude(m, &x->e);
    put_back(m);
    disk_resume(m->disk);
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
    if (status == ECANCELED)
        err_set(&x->e, ERR_CANCELLED, "Merging %s was cancelled", m->a->file->name);
    else if (status)
        err_errno(&x->e, status, "Could not %s %s", reading ? "read" : "write",
                  (reading ? m->a : m->b)->file->name);
    if (!loop_call(m->disk->loop, end, x))
        abort();
}

static void progressed(void *ctx, uint64_t done, uint64_t total)
{
    struct disk_merge *m = ctx;
    if (m->p.progress)
        m->p.progress(m->p.ctx, done, total);
}

static bool start_copy(struct disk_merge *m, err *e)
{
    m->from = disk_view(m->disk, m->a, e);
    m->to = m->from ? disk_view(m->disk, m->b, e) : NULL;
    if (!m->to)
        return false;
    struct copy_params cp = {.from = m->from,
                             .to = m->to,
                             .layer = true,
                             .length = m->a->size,
                             .progress = progressed,
                             .done = copied,
                             .ctx = m};
    m->copy = copy_start(&cp, e);
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

struct disk_merge *merge_start(struct disk *d, const struct disk_merge_params *p, err *e)
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
    if (p->depth)
        return merge_start(d, p, e);
    err_set(e, ERR_INVALID, "The layer in use of %s cannot be merged: put a new one on top first",
            d->top->file->name);
    return NULL;
}

void disk_merge_cancel(struct disk_merge *m)
{
    copy_cancel(m->copy);
}
