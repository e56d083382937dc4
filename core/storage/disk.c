/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening and closing disks, and what can be asked about them. */
#include "core/storage/disk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/storage/disk-internal.h"
#include "core/storage/hostfile.h"
#include "core/storage/tool.h"

enum { LOCK_TRIES = 40, LOCK_WAIT_NS = 25000000 };

bool image_lock(struct sfile *file, enum sfile_lock kind, err *e)
{
    /* A killed process's io_uring lets go of its files a moment after the process is gone. */
    int rc = file->ops->lock(file, kind);
    for (int tries = 0; rc == EAGAIN && tries < LOCK_TRIES; tries++) {
        nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
        rc = file->ops->lock(file, kind);
    }
    if (rc == 0)
        return true;
    if (rc == EAGAIN)
        return err_set(e, ERR_BUSY, "%s is in use by another program%s", file->name,
                       kind == SFILE_SHARED ? " that writes to it" : "");
    return err_errno(e, rc, "Could not lock %s", file->name);
}

/* QEMU's name of a format that is only imported, or NULL. */
static const char *foreign_format(const uint8_t head[512])
{
    if (!memcmp(head, "QFI\xfb", 4))
        return "qcow2";
    if (!memcmp(head, "KDMV", 4) || !memcmp(head, "COWD", 4) ||
        !memcmp(head, "# Disk DescriptorFile", 21))
        return "vmdk";
    return get_le32(head + 64) == 0xbeda107fu ? "vdi" : NULL;
}

enum disk_format image_probe(struct sfile *f, const char **foreign)
{
    uint8_t head[512] = {0}, tail[8] = {0};
    uint64_t size = sfile_size(f);
    *foreign = NULL;
    if (sfile_read(f, 0, head, sizeof head) != 0)
        return DISK_FORMAT_RAW;
    if (!memcmp(head, "vhdxfile", 8))
        return DISK_FORMAT_VHDX;
    if (size >= 511) /* a VHD without its footer's copy in front is told by the one at its end */
        sfile_read(f, align_up(size, 512) - 512, tail, sizeof tail);
    if (!memcmp(head, "conectix", 8) || !memcmp(tail, "conectix", 8))
        return DISK_FORMAT_VHD;
    *foreign = foreign_format(head);
    return DISK_FORMAT_RAW;
}

static bool probe(struct sfile *f, enum disk_format *out, err *e)
{
    const char *foreign;
    *out = image_probe(f, &foreign);
    return !foreign || err_set(e, ERR_UNSUPPORTED,
                               "%s is a %s image, which can only be imported: convert it to VHDX",
                               f->name, foreign);
}

struct image *image_open(struct sfile *file, enum disk_format format, unsigned flags,
                         struct loop *loop, err *e)
{
    struct image *img = NULL;
    enum sfile_lock kind = file->read_only ? SFILE_SHARED : SFILE_EXCLUSIVE;
    bool locked = !(flags & DISK_OPEN_NO_LOCK) && image_lock(file, kind, e);
    if ((locked || (flags & DISK_OPEN_NO_LOCK)) &&
        (format != DISK_FORMAT_AUTO || probe(file, &format, e))) {
        img = format == DISK_FORMAT_VHDX  ? vhdx_open(file, loop, e)
              : format == DISK_FORMAT_VHD ? vhd_open(file, loop, e)
                                          : raw_open(file, loop, e);
    }
    if (!img) {
        if (locked)
            file->ops->lock(file, SFILE_UNLOCKED);
        sfile_close(file);
        return NULL;
    }
    img->locked = locked;
    if (flags & DISK_OPEN_DIRECT)
        file->ops->set_direct(file, img->logical_sector);
    return img;
}

static struct disk *disk_new(struct loop *loop, err *e)
{
    struct disk *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to open a disk");
        return NULL;
    }
    d->loop = loop;
    d->queue_tail = &d->queue;
    d->held_tail = &d->held;
    d->holds_tail = &d->holds;
    d->deferred_tail = &d->deferred;
    loop_post_init(&d->deferred_post, disk_tell_deferred, d);
    return d;
}

static void disk_free(struct disk *d)
{
    while (d->free_subs) {
        struct sub *s = d->free_subs;
        d->free_subs = s->next_free;
        free(s);
    }
    if (d->owns_source)
        d->source.free(d->source.ctx);
    free(d);
}

static bool open_layers(struct disk *d, const struct disk_open_params *p, err *e)
{
    struct sfile *f = d->source.open(d->source.ctx, p->path, NULL, p->flags, e);
    if (!f)
        return false;
    d->top = image_open(f, p->format, p->flags, d->loop, e);
    if (!d->top)
        return false;
    if (!(p->flags & DISK_OPEN_NO_PARENT) && !chain_open_parents(d->top, &d->source, p->flags, e))
        return false;
    return true;
}

struct disk *disk_open_source(const struct disk_open_params *p, struct sfile_source *s, err *e)
{
    struct disk *d = disk_new(p->loop, e);
    if (!d) {
        s->free(s->ctx);
        return NULL;
    }
    d->source = *s;
    d->owns_source = true;
    d->flags = p->flags;
    if (!open_layers(d, p, e)) {
        image_free(d->top);
        disk_free(d);
        return NULL;
    }
    return d;
}

struct disk *disk_open(const struct disk_open_params *p, err *e)
{
    struct sfile_source s;
    if (!hostfile_source(&s, p->opener, p->loop, p->flags & DISK_OPEN_THREADS, e))
        return NULL;
    return disk_open_source(p, &s, e);
}

struct disk *disk_view(struct disk *owner, struct image *top, err *e)
{
    struct disk *d = disk_new(owner->loop, e);
    if (!d)
        return NULL;
    d->source = owner->source;
    d->top = top;
    return d;
}

static void cancel_queued(struct disk *d)
{
    struct dio *q = d->queue;
    d->queue = NULL;
    d->queue_tail = &d->queue;
    while (q) {
        struct dio *next = q->qnext;
        struct disk_req *r = q->req;
        free(q);
        r->done(r, ECANCELED);
        q = next;
    }
}

/* Leaves one layer's file as after a clean shutdown; a failure is told, the file is consistent. */
static void shut_down(struct image *img)
{
    if (img->read_only)
        return;
    int rc = image_flush_sync(img);
    if (rc == 0)
        rc = img->ops->clean(img);
    if (rc)
        log_line(LOG_WARNING, "disk", "%s could not be closed cleanly: %s", img->file->name,
                 strerror(rc));
}

void disk_close(struct disk *d)
{
    if (!d)
        return;
    d->closing = true;
    cancel_queued(d);
    disk_pause(d, NULL, NULL);
    disk_release_flushes(d);
    while (d->nin_flight || d->holds || d->deferred_post.pending)
        loop_turn(d->loop, -1);
    if (d->merge && merge_is_ending(d->merge)) {
        d->close_wanted = true;
        return;
    }
    if (d->merge)
        disk_merge_cancel(d->merge);
    while (d->merge)
        loop_turn(d->loop, -1);
    if (d->owns_source) {
        for (struct image *img = d->top; img; img = img->parent)
            shut_down(img);
        for (struct image *img = d->top; img; img = img->parent)
            while (img->meta.loading)
                loop_turn(d->loop, -1);
        image_free(d->top);
    }
    disk_free(d);
}

void disk_get_info(const struct disk *d, struct disk_info *out)
{
    const struct image *t = d->top;
    uint64_t size = 0, allocated = 0;
    t->file->ops->get_size(t->file, &size, &allocated);
    *out = (struct disk_info){
        .format = t->format,
        .type = t->type,
        .size = t->size,
        .logical_sector = t->logical_sector,
        .physical_sector = t->physical_sector,
        .block_size = t->block_size,
        .discard_granularity = t->read_only ? 0 : t->discard_granularity,
        .read_only = t->read_only,
        .zeroes_after_discard = t->zeroes_after_discard,
        .requests = d->nrequests,
        .disk_id = t->disk_id,
        .file_size = allocated,
    };
    for (const struct image *p = t->parent; p; p = p->parent)
        out->depth++;
}

void disk_drain_sync(struct disk *d)
{
    d->paused++;
    while (d->nin_flight || d->holding)
        loop_turn(d->loop, -1);
}

void disk_set_change_fn(struct disk *d, void (*fn)(void *ctx), void *ctx)
{
    d->change_fn = fn;
    d->change_ctx = ctx;
}
