/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Changing a disk's size while it is in use: the steps are the formats', waiting is done here. */
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/storage/disk-internal.h"

struct resizing {
    struct image *img;
    struct resize r;
    struct rest rest;
    struct waiter wait;
    struct loop_post again;
    err e;
    void (*done)(void *ctx, const err *e);
    void *ctx;
};

static void step(void *ctx);

static void finish(struct resizing *z)
{
    z->done(z->ctx, &z->e);
    free(z);
}

static void went_on(struct resizing *z, int status)
{
    if (status)
        err_errno(&z->e, status, "Could not resize %s", z->img->file->name);
    loop_post(z->img->loop, &z->again);
}
static void rested(void *ctx, int status)
{
    went_on(ctx, status);
}
static void waited(struct waiter *w, int status)
{
    went_on(CONTAINER_OF(w, struct resizing, wait), status);
}

static void step(void *ctx)
{
    struct resizing *z = ctx;
    switch (z->e.code == ERR_NONE ? z->img->ops->resize(z->img, &z->r, &z->e) : RESIZE_FAILED) {
    case RESIZE_DONE:
    case RESIZE_FAILED: finish(z); break;
    case RESIZE_FLUSH: image_rest(z->img, &z->rest); break;
    case RESIZE_WAIT: image_wait(z->img, &z->wait); break;
    case RESIZE_MORE: loop_post(z->img->loop, &z->again); break;
    }
}

void image_resize(struct image *img, uint64_t size, bool force,
                  void (*done)(void *ctx, const err *e), void *ctx)
{
    struct resizing *z = calloc(1, sizeof *z);
    if (!z)
        abort(); /* not even a few bytes to say so: the host is out of memory */
    *z = (struct resizing){.img = img,
                           .r = {.size = size, .force = force},
                           .wait.fn = waited,
                           .done = done,
                           .ctx = ctx};
    z->rest.fn = rested;
    z->rest.ctx = z;
    loop_post_init(&z->again, step, z);
    image_rest(img, &z->rest);
}

/* ---- of a disk ---- */

struct job {
    struct hold hold;
    struct disk *disk;
    uint64_t size;
    bool force;
    void (*done)(void *ctx, const err *e);
    void *ctx;
};

static void resized(void *ctx, const err *e)
{
    struct job *j = ctx;
    struct disk *d = j->disk;
    if (e->code == ERR_NONE && d->change_fn)
        d->change_fn(d->change_ctx);
    void (*done)(void *ctx, const err *e) = j->done;
    ctx = j->ctx;
    disk_unhold(d);
    free(j);
    done(ctx, e);
}

static bool may_resize(const struct disk *d, err *e)
{
    if (d->top->read_only)
        return err_set(e, ERR_READ_ONLY, "%s is open for reading alone", d->top->file->name);
    return !d->mirror ||
           err_set(e, ERR_BUSY, "%s is being merged: resize it afterwards", d->top->file->name);
}

static void refuse(void *ctx)
{
    struct job *j = ctx;
    err e = ERR_INIT;
    if (may_resize(j->disk, &e))
        err_set(&e, ERR_BUSY, "%s was busy: try again", j->disk->top->file->name);
    resized(j, &e);
}

static void begin(struct hold *h)
{
    struct job *j = CONTAINER_OF(h, struct job, hold);
    if (may_resize(j->disk, NULL))
        image_resize(j->disk->top, j->size, j->force, resized, j);
    else if (!loop_call(j->disk->loop, refuse, j))
        abort();
}

void disk_resize_start(struct disk *d, uint64_t size, bool force,
                       void (*done)(void *ctx, const err *e), void *ctx)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j)
        abort(); /* not even a few bytes to say so: the host is out of memory */
    *j = (struct job){
        .hold.begin = begin, .disk = d, .size = size, .force = force, .done = done, .ctx = ctx};
    disk_hold(d, &j->hold);
}

/* ---- for tools ---- */

struct outcome {
    err *e;
    bool done, ok;
};

static void came(void *ctx, const err *e)
{
    struct outcome *o = ctx;
    o->done = true;
    o->ok = e->code == ERR_NONE;
    if (!o->ok && o->e)
        *o->e = *e;
}

bool disk_resize(struct disk *d, uint64_t size, bool force, err *e)
{
    struct outcome o = {.e = e};
    disk_resize_start(d, size, force, came, &o);
    while (!o.done)
        loop_turn(d->loop, -1);
    return o.ok;
}

bool image_resize_sync(struct image *img, uint64_t size, bool force, err *e)
{
    struct outcome o = {.e = e};
    image_resize(img, size, force, came, &o);
    while (!o.done)
        loop_turn(img->loop, -1);
    return o.ok;
}
