/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What all formats share: when a commit is started, who waits for it. */
#include "core/storage/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/storage/disk-internal.h"

/* How long written metadata may stay in memory when nobody flushes. */
static const uint64_t commit_delay_ns = 1000000000;

static void commit_timer_fired(void *ctx)
{
    image_kick(ctx);
}

void image_init(struct image *img, const struct image_ops *ops, struct sfile *file,
                struct loop *loop)
{
    img->ops = ops;
    img->file = file;
    img->loop = loop;
    img->read_only = file->read_only;
    loop_timer_init(&img->commit_timer, loop, commit_timer_fired, img);
}

void image_fini(struct image *img)
{
    loop_timer_disarm(&img->commit_timer);
    if (img->meta.buckets)
        meta_destroy(&img->meta);
    if (img->file && img->locked) /* whoever handed us the descriptor may keep another one of the
                                     same open file */
        img->file->ops->lock(img->file, SFILE_UNLOCKED);
    sfile_close(img->file);
}

void image_free(struct image *img)
{
    while (img) {
        struct image *parent = img->parent;
        img->ops->destroy(img);
        img = parent;
    }
}

static bool metadata_pending(const struct image *img)
{
    return (img->meta.buckets && img->meta.ndirty) || (img->ops->pending && img->ops->pending(img));
}

bool image_needs_flush(const struct image *img)
{
    return !img->read_only && (img->unflushed || img->committing || metadata_pending(img));
}

static void start(struct image *img)
{
    img->committing = true;
    img->unflushed = false;
    img->commit_status = 0;
    img->flush_now = img->flush_next;
    img->flush_next = NULL;
    loop_timer_disarm(&img->commit_timer);
    img->ops->commit(img);
}

void image_kick(struct image *img)
{
    if (!img->committing && (img->flush_next || metadata_pending(img)))
        start(img);
}

void image_flush(struct image *img, struct waiter *w)
{
    if (!image_needs_flush(img)) {
        w->fn(w, 0);
        return;
    }
    waiters_add(&img->flush_next, w);
    image_kick(img);
}

void image_wait(struct image *img, struct waiter *w)
{
    waiters_add(&img->waiting, w);
    image_kick(img);
}

void image_wake(struct image *img, int status)
{
    waiters_wake(&img->waiting, status);
}

void image_commit_soon(struct image *img)
{
    if (!img->committing && !loop_timer_armed(&img->commit_timer))
        loop_timer_arm_in(&img->commit_timer, commit_delay_ns);
}

void image_durable(struct image *img, int status)
{
    if (status) {
        img->unflushed = true;
        img->commit_status = status;
    }
    waiters_wake(&img->flush_now, status);
}

void image_settled(struct image *img, int status)
{
    img->committing = false;
    if (!status)
        status = img->commit_status;
    image_wake(img, status);
    if (img->committing)
        return; /* someone woken has started the next */
    if (img->flush_next)
        start(img);
    else if (metadata_pending(img))
        image_commit_soon(img);
}

static void rest_over(void *ctx)
{
    struct rest *r = ctx;
    r->fn(r->ctx, r->status);
}

static void rested(struct waiter *w, int status)
{
    struct rest *r = CONTAINER_OF(w, struct rest, w);
    if (!r->flushed)
        r->status = status; /* what follows is putting pages in their places */
    r->flushed = true;
    if (r->img->committing)
        waiters_add(&r->img->waiting, w);
    else
        loop_post(r->img->loop, &r->post);
}

void image_rest(struct image *img, struct rest *r)
{
    r->img = img;
    r->w.fn = rested;
    r->flushed = false;
    loop_post_init(&r->post, rest_over, r);
    image_flush(img, &r->w);
}

struct sync_wait {
    struct rest rest;
    bool done;
};
static void sync_done(void *ctx, int status)
{
    struct sync_wait *s = ctx;
    s->done = true;
}

int image_flush_sync(struct image *img)
{
    struct sync_wait s = {.rest = {.fn = sync_done, .ctx = &s}};
    image_rest(img, &s.rest);
    while (!s.done)
        loop_turn(img->loop, -1);
    return s.rest.status;
}

bool image_epoch_passed(struct image *img, uint64_t epoch)
{
    /* An epoch ends when the one before it has no I/O left. */
    while (img->epoch <= epoch + 1 && img->io[(img->epoch + 1) & 1] == 0)
        img->epoch++;
    return img->epoch > epoch + 1;
}

bool image_make_writable(struct image *img, struct sfile_source *s, unsigned flags, err *e)
{
    if (!img->read_only)
        return true;
    unsigned how = flags & ~(unsigned)DISK_OPEN_READ_ONLY;
    bool lock = !(flags & DISK_OPEN_NO_LOCK);
    struct sfile *f = s->open(s->ctx, img->file->name, NULL, how, e), *old = img->file;
    if (!f)
        return false;
    if (lock)
        old->ops->lock(old, SFILE_UNLOCKED);
    bool ok = !lock || image_lock(f, SFILE_EXCLUSIVE, e);
    if (ok) {
        img->file = img->meta.file = f;
        img->read_only = false;
        ok = img->ops->now_writable(img, e);
    }
    if (ok) {
        sfile_close(old);
        return true;
    }
    img->file = img->meta.file = old;
    img->read_only = true;
    sfile_close(f);
    if (lock)
        old->ops->lock(old, SFILE_SHARED);
    return false;
}

bool image_make_read_only(struct image *img, unsigned flags, err *e)
{
    if (img->read_only)
        return true;
    int rc = image_flush_sync(img);
    if (rc == 0)
        rc = img->ops->clean(img);
    if (rc)
        return err_errno(e, rc, "Could not write %s", img->file->name);
    loop_timer_disarm(&img->commit_timer);
    img->read_only = true;
    return (flags & DISK_OPEN_NO_LOCK) || image_lock(img->file, SFILE_SHARED, e);
}
