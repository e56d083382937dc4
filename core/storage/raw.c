/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Raw images, ISO images and block devices: the file is the disk. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/storage/image.h"

struct raw {
    struct image base;
    struct sfile_req flush;
};

static enum map_kind raw_map(struct image *img, uint64_t off, struct map *m)
{
    m->at = off;
    return MAP_DATA;
}

static enum map_kind raw_map_zero(struct image *img, uint64_t off, bool unmap, bool discard,
                                  struct map *m)
{
    m->at = off;
    return MAP_DATA;
}

static void raw_wrote(struct image *img, uint64_t off, uint64_t len, struct meta_page *pin, bool ok)
{
}

static void flushed(struct sfile_req *r, int status)
{
    struct raw *w = CONTAINER_OF(r, struct raw, flush);
    image_durable(&w->base, status);
    image_settled(&w->base, status);
}

static void raw_commit(struct image *img)
{
    struct raw *w = (struct raw *)img;
    w->flush = (struct sfile_req){.op = SFILE_FLUSH, .done = flushed};
    sfile_submit(img->file, &w->flush);
}

static int raw_nothing(struct image *img)
{
    return 0;
}

static bool raw_has_data(struct image *img, uint64_t from)
{
    uint64_t start, end;
    return img->file->ops->next_data(img->file, from, &start, &end) == 0;
}

static bool raw_set_size(struct image *img, uint64_t size, bool force, err *e)
{
    if (img->file->is_device)
        return err_set(e, ERR_UNSUPPORTED, "%s is a device: its size is its own", img->file->name);
    if (!size || size % img->logical_sector)
        return err_set(e, ERR_INVALID, "%s cannot have a size of %llu bytes", img->file->name,
                       (unsigned long long)size);
    if (size < img->size && !force && raw_has_data(img, size))
        return err_set(e, ERR_STATE, "%s holds data beyond the new size", img->file->name);
    int rc = sfile_set_size(img->file, size);
    return rc == 0 || err_errno(e, rc, "Could not resize %s", img->file->name);
}

static enum resize_step raw_resize(struct image *img, struct resize *r, err *e)
{
    if (img->size == r->size)
        return RESIZE_DONE;
    if (!raw_set_size(img, r->size, r->force, e))
        return RESIZE_FAILED;
    img->size = r->size;
    img->unflushed = true;
    return RESIZE_FLUSH;
}

static void raw_destroy(struct image *img)
{
    image_fini(img);
    free(img);
}

static const struct image_ops raw_ops = {
    .name = "raw",
    .map = raw_map,
    .map_write = raw_map,
    .map_zero = raw_map_zero,
    .wrote = raw_wrote,
    .commit = raw_commit,
    .clean = raw_nothing,
    .settle_identity = raw_nothing,
    .resize = raw_resize,
    .destroy = raw_destroy,
};

struct image *raw_open(struct sfile *file, struct loop *loop, err *e)
{
    uint64_t size, allocated;
    int rc = file->ops->get_size(file, &size, &allocated);
    struct raw *w = rc ? NULL : calloc(1, sizeof *w);
    if (!w) {
        err_errno(e, rc ? rc : ENOMEM, "Could not open %s", file->name);
        return NULL;
    }
    image_init(&w->base, &raw_ops, file, loop);
    struct image *img = &w->base;
    img->format = DISK_FORMAT_RAW;
    img->type = DISK_FIXED;
    img->size = align_up(MIN(size, (uint64_t)INT64_MAX - 511), 512);
    img->logical_sector = img->physical_sector = 512;
    img->discard_granularity = 4096;
    img->zeroes_after_discard = true;
    return img;
}
