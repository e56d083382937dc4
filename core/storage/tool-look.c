/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Describing and mapping disks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/storage/tool.h"
#include "core/storage/utf16.h"
#include "core/storage/vhd.h"
#include "core/storage/vhdx.h"

static void describe_format(struct image *img, struct disk_description *out)
{
    if (img->format == DISK_FORMAT_VHDX) {
        struct vhdx *v = (struct vhdx *)img;
        uint8_t name[512];
        out->log_pending = !guid_is_zero(&v->header.log);
        if (sfile_read(img->file, 8, name, sizeof name) != 0)
            return;
        AUTO(str) text = utf16_to_utf8(name, sizeof name, false);
        if (text)
            snprintf(out->creator, sizeof out->creator, "%.60s", text);
    } else if (img->format == DISK_FORMAT_VHD) {
        struct vhd *v = (struct vhd *)img;
        unsigned n = 4;
        while (n && (v->footer.creator[n - 1] == ' ' || !v->footer.creator[n - 1]))
            n--;
        snprintf(out->creator, sizeof out->creator, "%.*s %u.%u", (int)n, v->footer.creator,
                 get_be32(&v->footer.creator_version) >> 16,
                 get_be32(&v->footer.creator_version) & 0xffff);
    }
}

/* A VHD's parent keeps its identity when it is written to: all that tells is the time. */
static bool changed_since(struct image *img, const char *parent)
{
    if (img->format != DISK_FORMAT_VHD)
        return false;
    uint32_t noted = get_be32(&((struct vhd *)img)->header.parent_timestamp);
    return noted && vhd_time_of(parent) > noted;
}

static void describe_parent(struct disk *d, struct disk_description *out)
{
    struct parent_ref ref = {0};
    err e = ERR_INIT;
    if (d->top->type != DISK_DIFFERENCING)
        return;
    if (image_parent_ref(d->top, &ref, &e) && ref.stored)
        out->parent = strdup(ref.stored);
    parent_ref_clear(&ref);
    if (chain_open_parents(d->top, &d->source, d->flags, &e)) {
        out->parent_path = strdup(d->top->parent->file->name);
        out->parent_later = out->parent_path && changed_since(d->top, out->parent_path);
        return;
    }
    out->chain_broken = true;
    memcpy(out->problem, e.text, sizeof out->problem);
}

bool disk_describe(const char *path, struct loop *loop, struct disk_description *out, err *e)
{
    *out = (struct disk_description){0};
    struct disk_open_params p = {.path = path,
                                 .flags =
                                     DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK | DISK_OPEN_NO_PARENT,
                                 .opener = &disk_opener_paths,
                                 .loop = loop};
    struct disk *d = disk_open(&p, e);
    if (!d)
        return false;
    describe_format(d->top, out);
    describe_parent(d, out);
    disk_get_info(d, &out->info);
    out->file_length = sfile_size(d->top->file);
    image_identity(d->top, &out->identity);
    disk_close(d);
    return true;
}

void disk_description_clear(struct disk_description *d)
{
    free(d->parent);
    free(d->parent_path);
    *d = (struct disk_description){0};
}

/* ---- mapping ---- */

/* One layer's answer, its pages read at once. */
static enum map_kind map_now(struct image *img, uint64_t off, struct map *m, int *rc)
{
    for (;;) {
        uint64_t want = m->len;
        enum map_kind k = img->ops->map(img, off, m);
        if (k != MAP_LOAD)
            return k;
        m->len = want;
        if (!meta_get(&img->meta, m->at, rc))
            return MAP_ERROR;
    }
}

static bool map_once(struct disk *d, uint64_t offset, struct disk_extent *x, err *e)
{
    struct map m = {.len = d->top->size - offset};
    struct image *img = d->top;
    uint32_t depth = 0;
    int rc = EIO;
    for (; img; img = img->parent, depth++) {
        if (offset >= img->size)
            break;
        m.len = MIN(m.len, img->size - offset);
        enum map_kind k = map_now(img, offset, &m, &rc);
        if (k == MAP_ERROR || k == MAP_WAIT || k == MAP_LOAD)
            return err_errno(e, rc, "Could not map %s at byte %llu", img->file->name,
                             (unsigned long long)offset);
        if (k == MAP_PARENT)
            continue;
        bool hole = k == MAP_ZERO && depth == 0 && !img->parent;
        *x = (struct disk_extent){.offset = offset,
                                  .length = m.len,
                                  .kind = k == MAP_DATA ? DISK_EXTENT_DATA
                                          : hole        ? DISK_EXTENT_HOLE
                                                        : DISK_EXTENT_ZERO,
                                  .depth = depth,
                                  .file_offset = k == MAP_DATA ? m.at : 0};
        return true;
    }
    *x = (struct disk_extent){.offset = offset, .length = m.len, .kind = DISK_EXTENT_HOLE};
    return true;
}

/* In a raw file or a block, what the file system has not allocated. */
static void cut_at_hole(struct disk *d, struct disk_extent *x)
{
    struct image *img = d->top;
    for (uint32_t i = 0; i < x->depth; i++)
        img = img->parent;
    uint64_t from, to;
    int rc = img->file->ops->next_data(img->file, x->file_offset, &from, &to);
    if (rc == ENXIO || (rc == 0 && from > x->file_offset)) {
        x->kind = DISK_EXTENT_ZERO;
        if (rc == 0)
            x->length = MIN(x->length, from - x->file_offset);
    } else if (rc == 0) {
        x->length = MIN(x->length, to - x->file_offset);
    }
    uint64_t cut = x->length % d->top->logical_sector;
    if (x->length > cut)
        x->length -= cut;
}

static bool follows(const struct disk_extent *a, const struct disk_extent *b)
{
    return a->kind == b->kind && a->depth == b->depth &&
           (a->kind != DISK_EXTENT_DATA || a->file_offset + a->length == b->file_offset);
}

bool disk_map(struct disk *d, uint64_t offset, struct disk_extent *out, err *e)
{
    if (offset >= d->top->size)
        return err_set(e, ERR_INVALID, "%s ends before byte %llu", d->top->file->name,
                       (unsigned long long)offset);
    if (!map_once(d, offset, out, e))
        return false;
    if (out->kind == DISK_EXTENT_DATA)
        cut_at_hole(d, out);
    while (out->offset + out->length < d->top->size) {
        struct disk_extent next;
        if (!map_once(d, out->offset + out->length, &next, e))
            return false;
        if (next.kind == DISK_EXTENT_DATA)
            cut_at_hole(d, &next);
        if (!follows(out, &next))
            break;
        out->length += next.length;
    }
    return true;
}

bool disk_data_end(struct disk *d, uint64_t *end, err *e)
{
    enum { STEP = 1 << 20 };
    AUTO(buf) buf = malloc(STEP);
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to look at %s", d->top->file->name);
    *end = 0;
    for (uint64_t off = 0; off < d->top->size;) {
        struct disk_extent x;
        if (!disk_map(d, off, &x, e))
            return false;
        off += x.length;
        if (x.kind != DISK_EXTENT_DATA)
            continue;
        /* From its end backwards to the last byte that is not zero. */
        for (uint64_t left = x.length; left;) {
            uint64_t n = MIN(left, (uint64_t)STEP), at = x.offset + left - n;
            int rc = disk_read_sync(d, at, buf, n);
            if (rc)
                return err_errno(e, rc, "Could not read %s", d->top->file->name);
            const uint8_t *p = buf;
            while (n && !p[n - 1])
                n--;
            if (n) {
                *end = align_up(at + n, d->top->logical_sector);
                break;
            }
            left = at - x.offset;
        }
    }
    return true;
}
