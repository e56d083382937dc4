/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layers put on top of a disk in use: what checkpoints are made of. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/storage/tool.h"

struct disk_layer {
    struct image *img;
    struct disk *disk;
};

bool disk_create_leaf(struct disk *d, const char *path, err *e)
{
    struct format_params f = {.format = d->top->format, .type = DISK_DIFFERENCING};
    struct parent_names names = {0};
    if (f.format == DISK_FORMAT_RAW)
        return err_set(e, ERR_UNSUPPORTED,
                       "%s is a raw disk and cannot have checkpoints. Convert it to VHDX first",
                       d->top->file->name);
    if (d->top->read_only)
        return err_set(e, ERR_READ_ONLY, "%s is open for reading alone", d->top->file->name);
    int rc = d->top->ops->settle_identity(d->top);
    if (rc)
        return err_errno(e, rc, "Could not write %s", d->top->file->name);
    bool ok = format_from_parent(&f, d->top, path, d->top->file->name, &names, e) &&
              format_check(&f, e) && tool_write_new(path, false, &f, e);
    parent_names_clear(&names);
    return ok;
}

static bool fits(struct disk *d, struct image *leaf, err *e)
{
    struct parent_ref ref = {0};
    struct guid id;
    bool ok = image_parent_ref(leaf, &ref, e) && image_identity(d->top, &id);
    ok = ok && (guid_equal(&id, &ref.id) || guid_equal(&id, &ref.id2));
    parent_ref_clear(&ref);
    if (!ok || leaf->size != d->top->size || leaf->logical_sector != d->top->logical_sector)
        return err_set(e, ERR_STATE, "%s was not made on %s", leaf->file->name, d->top->file->name);
    return true;
}

struct disk_layer *disk_layer_open(struct disk *d, const char *path, err *e)
{
    struct disk_layer *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", path);
        return NULL;
    }
    struct sfile *f = d->source.open(d->source.ctx, path, NULL, d->flags, e);
    l->disk = d;
    l->img = f ? image_open(f, d->top->format, d->flags, d->loop, e) : NULL;
    if (l->img && fits(d, l->img, e)) {
        /* Its first write must not wait: headers are written now. */
        int rc = l->img->ops->settle_identity(l->img);
        if (rc == 0)
            return l;
        err_errno(e, rc, "Could not write %s", path);
    }
    disk_layer_close(l);
    return NULL;
}

void disk_layer_close(struct disk_layer *l)
{
    if (!l)
        return;
    if (l->img && !l->img->read_only)
        l->img->ops->clean(l->img);
    image_free(l->img);
    free(l);
}

bool disk_push_layer(struct disk *d, struct disk_layer *l, bool hold_flushes, err *e)
{
    unsigned depth = 1;
    for (struct image *i = d->top; i; i = i->parent)
        depth++;
    if (!d->paused || d->nin_flight)
        return err_set(e, ERR_STATE, "%s is not at rest", d->top->file->name);
    if (depth > DISK_MAX_DEPTH + 1)
        return err_set(e, ERR_UNSUPPORTED, "%s has %d layers already: merge some checkpoints",
                       d->top->file->name, DISK_MAX_DEPTH);
    if (!fits(d, l->img, e) || !merge_now_below(d, l->img, e))
        return false;
    l->img->parent = d->top;
    d->top = l->img;
    d->hold_flushes |= hold_flushes;
    free(l);
    return true;
}

bool disk_settle_layers(struct disk *d, err *e)
{
    for (struct image *i = d->top->parent; i; i = i->parent)
        if (!(d->merge && disk_merge_uses(d->merge, i)) && !image_make_read_only(i, d->flags, e))
            return false;
    return true;
}

const char *disk_layer_name(const struct disk *d, unsigned depth)
{
    const struct image *i = d->top;
    while (i && depth--)
        i = i->parent;
    return i ? i->file->name : NULL;
}
