/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Names of parents: what Windows stores, as host paths; and the chain that they make. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/storage/disk-internal.h"
#include "core/storage/format.h"

void parent_ref_clear(struct parent_ref *r)
{
    for (unsigned i = 0; i < r->npaths; i++)
        free(r->paths[i]);
    free(r->stored);
    *r = (struct parent_ref){0};
}

static bool add_path(struct parent_ref *r, char *path)
{
    if (!path)
        return false;
    for (unsigned i = 0; i < r->npaths; i++)
        if (!strcmp(r->paths[i], path)) {
            free(path);
            return true;
        }
    if (r->npaths == PARENT_PATHS || !*path)
        free(path);
    else
        r->paths[r->npaths++] = path;
    return true;
}

static bool windows_absolute(const char *s)
{
    return (s[0] && s[1] == ':') || (s[0] == '\\' && s[1] == '\\');
}

static const char *last_part(const char *s)
{
    const char *last = s;
    for (; *s; s++)
        if (*s == '/' || *s == '\\')
            last = s + 1;
    return last;
}

bool parent_ref_add(struct parent_ref *r, const char *stored)
{
    if (stored[0] == '/')
        return add_path(r, strdup(stored)) && add_path(r, strdup(last_part(stored)));
    if (windows_absolute(stored)) /* some other machine's: its name, beside the child */
        return add_path(r, strdup(last_part(stored)));
    char *p = strdup(stored);
    for (char *c = p; c && *c; c++)
        if (*c == '\\')
            *c = '/';
    const char *from = p;
    while (from && from[0] == '.' && from[1] == '/')
        from += 2;
    if (p && from != p)
        memmove(p, from, strlen(from) + 1);
    return add_path(r, p) && add_path(r, strdup(last_part(stored)));
}

static char *normal(const char *path)
{
    char *real = realpath(path, NULL);
    if (real)
        return real;
    /* Not there yet: its folder is. */
    const char *base = last_part(path);
    AUTO(str) dir = base == path ? strdup(".") : strndup(path, (size_t)(base - path));
    AUTO(str) real_dir = dir ? realpath(dir, NULL) : NULL;
    if (!real_dir || asprintf(&real, "%s/%s", strcmp(real_dir, "/") ? real_dir : "", base) < 0)
        return path[0] == '/' ? strdup(path) : NULL; /* not ours to look at: as it is written */
    return real;
}

char *path_relative(const char *from, const char *to)
{
    AUTO(str) a = normal(from);
    AUTO(str) b = normal(to);
    if (!a || !b)
        return strdup(to);
    size_t common = 0; /* length of the shared folders, the slash included */
    for (size_t i = 0; a[i] && a[i] == b[i]; i++)
        if (a[i] == '/')
            common = i + 1;
    unsigned ups = 0;
    for (const char *p = a + common; *p; p++)
        ups += *p == '/';
    char *out = malloc(ups * 3 + strlen(b + common) + 1);
    if (!out)
        return NULL;
    *out = 0;
    for (unsigned i = 0; i < ups; i++)
        strcat(out, "../");
    return strcat(out, b + common);
}

/* ---- by format ---- */

bool image_identity(struct image *img, struct guid *out)
{
    return img->ops->identity && img->ops->identity(img, out);
}

bool image_parent_ref(struct image *img, struct parent_ref *out, err *e)
{
    if (img->type != DISK_DIFFERENCING)
        return err_set(e, ERR_STATE, "%s is not a differencing disk", img->file->name);
    return img->ops->parent_ref(img, out, e);
}

bool image_set_parent(struct image *img, const char *path, const char *absolute,
                      const struct guid *id, const struct guid *id2, err *e)
{
    if (img->type != DISK_DIFFERENCING)
        return err_set(e, ERR_STATE, "%s is not a differencing disk", img->file->name);
    return img->ops->set_parent(img, path, absolute, id, id2, e);
}

/* ---- the chain ---- */

static bool same_file(struct sfile *a, struct sfile *b)
{
    uint64_t x[2], y[2];
    return a->ops->identity(a, x) == 0 && b->ops->identity(b, y) == 0 && x[0] == y[0] &&
           x[1] == y[1];
}

static bool check_parent(struct image *top, struct image *img, struct image *parent,
                         const struct parent_ref *ref, err *e)
{
    struct guid id;
    unsigned depth = 1;
    for (struct image *i = top; i; i = i->parent, depth++)
        if (same_file(i->file, parent->file))
            return err_set(e, ERR_CORRUPT, "%s is its own parent", parent->file->name);
    if (depth > DISK_MAX_DEPTH + 1)
        return err_set(e, ERR_UNSUPPORTED, "%s has more than %d layers below it", top->file->name,
                       DISK_MAX_DEPTH);
    if (!image_identity(parent, &id))
        return err_set(e, ERR_CORRUPT, "%s cannot be a parent: it is neither VHD nor VHDX",
                       parent->file->name);
    if (!guid_equal(&id, &ref->id) && (guid_is_zero(&ref->id2) || !guid_equal(&id, &ref->id2)))
        return err_set(e, ERR_CORRUPT,
                       "%s is not the parent that %s was made on, or was changed since. If it is "
                       "known to be the right one, reconnect it",
                       parent->file->name, img->file->name);
    if (parent->logical_sector != img->logical_sector)
        return err_set(e, ERR_CORRUPT, "%s and its parent %s have sectors of different sizes",
                       img->file->name, parent->file->name);
    return true;
}

static struct image *open_candidate(struct image *top, struct image *img, const char *path,
                                    const struct parent_ref *ref, struct sfile_source *s,
                                    unsigned flags, err *e)
{
    struct sfile *f = s->open(s->ctx, path, img->file->name, flags | DISK_OPEN_READ_ONLY, e);
    if (!f)
        return NULL;
    struct image *parent =
        image_open(f, DISK_FORMAT_AUTO, flags | DISK_OPEN_READ_ONLY, img->loop, e);
    if (parent && !check_parent(top, img, parent, ref, e)) {
        image_free(parent);
        parent = NULL;
    }
    return parent;
}

static bool open_parent(struct image *top, struct image *img, struct sfile_source *s,
                        unsigned flags, err *e)
{
    struct parent_ref ref = {0};
    bool ok = image_parent_ref(img, &ref, e);
    err worst = ERR_INIT;
    for (unsigned i = 0; ok && !img->parent && i < ref.npaths; i++) {
        err now = ERR_INIT;
        img->parent = open_candidate(top, img, ref.paths[i], &ref, s, flags, &now);
        if (!img->parent && (worst.code == ERR_NONE || now.code != ERR_NOT_FOUND) &&
            (worst.code == ERR_NONE || worst.code == ERR_NOT_FOUND))
            worst = now;
    }
    if (ok && !img->parent && worst.code == ERR_NOT_FOUND)
        err_set(e, ERR_NOT_FOUND, "The parent of %s is not there: %s", img->file->name, ref.stored);
    else if (ok && !img->parent && e)
        *e = worst;
    parent_ref_clear(&ref);
    return img->parent != NULL;
}

bool chain_open_parents(struct image *img, struct sfile_source *s, unsigned flags, err *e)
{
    for (struct image *at = img; at->type == DISK_DIFFERENCING; at = at->parent)
        if (!open_parent(img, at, s, flags, e))
            return false;
    return true;
}
