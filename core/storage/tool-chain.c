/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Offline work on chains: merging, reconnecting; and checking. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/storage/tool.h"

static struct disk *open_writable(const char *path, unsigned flags, struct loop *loop, err *e)
{
    return disk_open(
        &(struct disk_open_params){
            .path = path, .flags = flags, .opener = &disk_opener_paths, .loop = loop},
        e);
}

/* ---- merging ---- */

struct waiting {
    struct disk_merge *merge;
    const struct disk_progress *progress;
    bool done;
    err e;
};
static void merge_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct waiting *w = ctx;
    if (w->progress && w->progress->fn && !w->progress->fn(w->progress->ctx, done, total))
        disk_merge_cancel(w->merge);
}
static void merge_done(void *ctx, const err *e)
{
    struct waiting *w = ctx;
    w->e = *e;
    w->done = true;
}

/* Step 2 of a merge was the last thing done: the parent has taken the child's identity. */
static bool merged_already(const char *path, struct loop *loop)
{
    struct disk_description child = {0};
    bool is = false;
    if (disk_describe(path, loop, &child, NULL) && child.parent_path &&
        child.info.format == DISK_FORMAT_VHDX) {
        struct disk_description parent = {0};
        is = disk_describe(child.parent_path, loop, &parent, NULL) &&
             guid_equal(&parent.identity, &child.identity);
        disk_description_clear(&parent);
    }
    disk_description_clear(&child);
    return is;
}

bool disk_merge_into_parent(const char *path, bool keep_file, struct loop *loop,
                            const struct disk_progress *progress, err *e)
{
    if (!merged_already(path, loop)) {
        struct waiting w = {.progress = progress};
        struct disk *d = open_writable(path, 0, loop, e);
        if (!d)
            return false;
        struct disk_merge_params p = {.progress = merge_progress, .done = merge_done, .ctx = &w};
        if (d->top->type != DISK_DIFFERENCING)
            err_set(e, ERR_STATE, "%s is not a differencing disk: there is no parent to merge into",
                    path);
        else
            w.merge = merge_start_offline(d, &p, e);
        while (w.merge && !w.done)
            loop_turn(loop, -1);
        disk_close(d);
        if (!w.merge)
            return false;
        if (w.e.code != ERR_NONE) {
            if (e)
                *e = w.e;
            return false;
        }
    }
    if (!keep_file && unlink(path) < 0)
        return err_errno(e, errno, "%s is merged, but could not be deleted", path);
    return true;
}

/* ---- reconnecting ---- */

bool disk_reparent(const char *path, const char *parent, bool force, struct loop *loop, err *e)
{
    struct parent_ref ref = {0};
    struct parent_names names = {0};
    struct disk *d = open_writable(path, DISK_OPEN_NO_PARENT, loop, e);
    struct disk *p = d ? open_writable(parent, DISK_OPEN_READ_ONLY, loop, e) : NULL;
    struct guid id;
    bool ok = p && image_parent_ref(d->top, &ref, e);
    if (ok && !image_identity(p->top, &id))
        ok = err_set(e, ERR_UNSUPPORTED, "%s cannot be a parent: it is neither VHD nor VHDX",
                     parent);
    if (ok && p->top->size > d->top->size)
        ok = err_set(e, ERR_INVALID, "%s is larger than %s", parent, path);
    if (ok && p->top->logical_sector != d->top->logical_sector)
        ok = err_set(e, ERR_INVALID, "%s and %s have sectors of different sizes", parent, path);
    if (ok && !force && !guid_equal(&id, &ref.id) && !guid_equal(&id, &ref.id2))
        ok =
            err_set(e, ERR_STATE,
                    "%s is not the disk that %s was made on, or was changed since. Connecting them "
                    "anyway (--force) gives a damaged disk unless they do belong together",
                    parent, path);
    if (ok) {
        names.relative = path_relative(path, parent);
        names.absolute = realpath(parent, NULL);
        d->top->keep_identity = true;
        ok = names.relative &&
             image_set_parent(d->top, names.relative, names.absolute, &id, NULL, e);
    }
    parent_ref_clear(&ref);
    parent_names_clear(&names);
    disk_close(d);
    disk_close(p);
    return ok;
}

/* ---- compacting ---- */

bool disk_compact(const char *path, struct loop *loop, const struct disk_progress *progress, err *e)
{
    struct disk *d = open_writable(path, DISK_OPEN_NO_PARENT, loop, e);
    if (!d)
        return false;
    d->top->keep_identity = true;
    bool ok = d->top->format == DISK_FORMAT_VHDX ? vhdx_compact(d->top, progress, e)
              : d->top->format == DISK_FORMAT_VHD
                  ? vhd_compact(d->top, progress, e)
                  : err_set(e, ERR_UNSUPPORTED, "%s is raw: there is nothing to compact", path);
    disk_close(d);
    return ok;
}

/* ---- checking ---- */

void check_say(struct checker *c, enum disk_finding kind, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    unsigned *count = kind == DISK_NOTE     ? &c->result->notes
                      : kind == DISK_DEFECT ? &c->result->defects
                      : kind == DISK_DAMAGE ? &c->result->damages
                                            : &c->result->repaired;
    ++*count;
    if (c->finding)
        c->finding(c->ctx, kind, text);
}

static void check_chain(struct checker *c, const char *path, struct loop *loop)
{
    struct disk_description d;
    if (!disk_describe(path, loop, &d, NULL))
        return; /* said before */
    if (d.chain_broken)
        check_say(c, DISK_DEFECT, "%s", d.problem);
    if (d.parent_later)
        check_say(
            c, DISK_NOTE,
            "the parent's file was changed after this disk was made on it. That is sound if it "
            "was copied or merged into; if it was written to, this disk is damaged");
    disk_description_clear(&d);
}

bool disk_check(const char *path, bool repair, struct loop *loop,
                void (*finding)(void *ctx, enum disk_finding kind, const char *text), void *ctx,
                const struct disk_progress *progress, struct disk_check_result *out, err *e)
{
    *out = (struct disk_check_result){0};
    struct checker c = {.name = path,
                        .repair = repair,
                        .result = out,
                        .finding = finding,
                        .ctx = ctx,
                        .progress = progress};
    struct sfile_source s;
    if (!hostfile_source(&s, &disk_opener_paths, loop, false, e))
        return false;
    struct sfile *f = s.open(s.ctx, path, NULL, repair ? 0 : DISK_OPEN_READ_ONLY, e);
    bool ok = f && image_lock(f, repair ? SFILE_EXCLUSIVE : SFILE_SHARED, e);
    if (ok) {
        const char *foreign;
        switch (image_probe(f, &foreign)) {
        case DISK_FORMAT_VHDX: ok = vhdx_check(&c, f, loop, e); break;
        case DISK_FORMAT_VHD: ok = vhd_check(&c, f, e); break;
        default:
            if (foreign)
                ok = err_set(e, ERR_UNSUPPORTED, "%s is a %s image: qemu-img can check it", path,
                             foreign);
            else
                check_say(&c, DISK_NOTE, "a raw disk: there is nothing to check");
        }
    }
    sfile_close(f);
    s.free(s.ctx);
    if (ok)
        check_chain(&c, path, loop);
    return ok;
}
