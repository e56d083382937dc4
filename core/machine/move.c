/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Moving a machine's folder. The entry in the store (a folder or a link) changes in one step; what
 * a crash leaves beside it (.move-ID, .gone-ID) storesweep.c knows how to end. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/bytes.h"
#include "core/machine/storefs.h"
#include "core/machine/transfer-int.h"

enum { MAX_DEPTH = 8 };

struct move {
    const struct store *s;
    char *entry; /* ROOT/ID: a folder, or a link to one */
    char *next;  /* ROOT/.move-ID: what the entry becomes */
    char *gone;  /* ROOT/.gone-ID: a link to the old folder while it is removed */
    char *path;  /* the new folder */
    char old[PATH_MAX];
    bool linked, inside; /* it was elsewhere; it comes into the store */
    const struct transfer_progress *progress;
    uint64_t total, done;
};

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory to move the machine");
}

static bool failed(const char *path, err *e)
{
    return err_errno(e, errno, "%s cannot be made", path);
}

/* ---- copying to another file system ---- */

static bool tell(void *ctx, uint64_t n)
{
    struct move *m = ctx;
    m->done += n;
    return !m->progress || !m->progress->fn ||
           m->progress->fn(m->progress->ctx,
                           m->total ? MIN((double)m->done / (double)m->total, 1.0) : 0);
}

static bool copy_file(struct move *m, int from, int to, const char *name, err *e)
{
    const struct archive_progress p = {tell, m};
    AUTO(fd) in = openat(from, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    AUTO(fd)
    out = in < 0 ? -1 : openat(to, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (out < 0)
        return err_errno(e, errno, "%s cannot be copied", name);
    return archive_copy_file(in, out, &p, e) || err_prefix(e, "%s", name);
}

static bool copy_link(int from, int to, const char *name, err *e)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(from, name, target, sizeof target - 1);
    target[MAX(n, 0)] = 0;
    return (n > 0 && symlinkat(target, to, name) == 0) ||
           err_errno(e, errno, "%s cannot be copied", name);
}

typedef bool entry_fn(struct move *m, int from, int to, const char *name, const struct stat *st,
                      unsigned depth, err *e);

static bool each_entry(struct move *m, int from, int to, unsigned depth, entry_fn *fn, err *e)
{
    int again = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    bool ok = d || err_errno(e, errno, "The machine's folder cannot be read");
    for (struct dirent *de; ok && (de = readdir(d));) {
        struct stat st;
        if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, ".."))
            continue;
        ok = fstatat(from, de->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0
                 ? fn(m, from, to, de->d_name, &st, depth, e)
                 : err_errno(e, errno, "%s cannot be read", de->d_name);
    }
    if (d)
        closedir(d);
    return ok;
}

static bool copy_entry(struct move *m, int from, int to, const char *name, const struct stat *st,
                       unsigned depth, err *e)
{
    if (S_ISREG(st->st_mode))
        return copy_file(m, from, to, name, e);
    if (S_ISLNK(st->st_mode))
        return copy_link(from, to, name, e);
    if (!S_ISDIR(st->st_mode) || depth == MAX_DEPTH)
        return true; /* sockets and the like */
    AUTO(fd) in = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (in < 0 || mkdirat(to, name, 0700) != 0)
        return err_errno(e, errno, "%s cannot be copied", name);
    AUTO(fd) out = openat(to, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return out >= 0 ? each_entry(m, in, out, depth + 1, copy_entry, e) : failed(name, e);
}

static bool count_entry(struct move *m, int from, int to, const char *name, const struct stat *st,
                        unsigned depth, err *e)
{
    m->total += S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    if (!S_ISDIR(st->st_mode) || depth == MAX_DEPTH)
        return true;
    AUTO(fd) in = openat(from, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return in < 0 || each_entry(m, in, -1, depth + 1, count_entry, e);
}

/* All of the old folder in a new one. */
static bool copy_all(struct move *m, const char *path, err *e)
{
    AUTO(fd) from = open(m->old, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from < 0 || mkdir(path, 0700) != 0)
        return failed(path, e);
    AUTO(fd) to = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = to >= 0 ? each_entry(m, from, -1, 0, count_entry, e) &&
                            each_entry(m, from, to, 0, copy_entry, e)
                      : failed(path, e);
    return ok && (fsync(to) == 0 || failed(path, e));
}

/* ---- the steps ---- */

static bool link_to(const char *target, const char *link, err *e)
{
    unlink(link);
    return symlink(target, link) == 0 || failed(link, e);
}

/* The entry and what waits beside it change places; the old entry goes. */
static bool exchange(struct move *m, err *e)
{
    if (renameat2(AT_FDCWD, m->next, AT_FDCWD, m->entry, RENAME_EXCHANGE) == 0)
        return true;
    if (!m->linked)
        return failed(m->entry, e);
    /* Not every file system can: between the two the entry is not there, until the next sweep. */
    return (unlink(m->entry) == 0 && rename(m->next, m->entry) == 0) || failed(m->entry, e);
}

/* Out of the store or from one place to another, without copying. */
static bool rename_out(struct move *m, bool *other, err *e)
{
    if (!link_to(m->path, m->next, e))
        return false;
    if (rename(m->old, m->path) != 0) {
        *other = errno == EXDEV;
        failed(m->path, e);
        unlink(m->next);
        return false;
    }
    return rename(m->next, m->entry) == 0 || failed(m->entry, e);
}

static bool rename_in(struct move *m, bool *other, err *e)
{
    if (rename(m->old, m->next) != 0) {
        *other = errno == EXDEV;
        return failed(m->next, e);
    }
    if (!exchange(m, e))
        return false;
    unlink(m->next);
    return true;
}

/* Copied whole into a hidden folder first. */
static bool copy_over(struct move *m, const struct guid *id, err *e)
{
    AUTO(str) hidden = NULL;
    AUTO(str) note = NULL;
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    int n = m->inside ? asprintf(&hidden, "%s/.import-%s", store_root(m->s), text)
                      : asprintf(&hidden, "%.*s/.vireo-%s", (int)(strrchr(m->path, '/') - m->path),
                                 m->path, text);
    if (n < 0 || (!m->inside && asprintf(&note, "%s/.import-%s", store_root(m->s), text) < 0))
        return no_memory(e);
    if (note && !link_to(hidden, note, e))
        return false;
    bool ok = copy_all(m, hidden, e) && (!m->linked || link_to(m->old, m->gone, e)) &&
              (rename(hidden, m->inside ? m->next : m->path) == 0 || failed(m->path, e));
    if (!ok)
        storefs_remove(AT_FDCWD, hidden, NULL);
    if (note)
        unlink(note);
    if (!ok || (!m->inside && !link_to(m->path, m->next, e)))
        return false;
    if (!m->inside && m->linked)
        ok = rename(m->next, m->entry) == 0 || failed(m->entry, e);
    else
        ok = exchange(m, e);
    if (!ok)
        return false;
    storefs_sync_parent(m->entry, NULL);
    /* From here on it is moved; what cannot be removed now, the next sweep removes. */
    storefs_remove(AT_FDCWD, m->linked ? m->old : m->next, NULL);
    if (m->linked && m->inside)
        unlink(m->next);
    unlink(m->gone);
    return true;
}

/* ---- layers that named files by where they were ---- */

/* Names of parents are relative; only those that lie elsewhere must be told anew. */
static bool reconnect(const char *folder, err *e)
{
    struct loop *loop = loop_new(e);
    DIR *d = loop ? opendir(folder) : NULL;
    for (struct dirent *de; d && (de = readdir(d));) {
        struct disk_description desc;
        const char *dot = strrchr(de->d_name, '.');
        if (!dot || (strcmp(dot, ".avhdx") != 0 && strcmp(dot, ".avhd") != 0))
            continue;
        AUTO(str) path = checkpoint_absolute(folder, de->d_name, NULL);
        if (!path || !disk_describe(path, loop, &desc, NULL))
            continue;
        if (desc.parent_path)
            disk_reparent(path, desc.parent_path, false, loop, NULL);
        disk_description_clear(&desc);
    }
    if (d)
        closedir(d);
    if (loop)
        loop_free(loop);
    return loop != NULL;
}

/* ---- all ---- */

static bool plan(struct move *m, const struct guid *id, const char *place, err *e)
{
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    AUTO(vm_config) c = store_load(m->s, id, e);
    if (!c)
        return false;
    m->entry = store_path(m->s, id, NULL, e);
    if (!m->entry || asprintf(&m->next, "%s/.move-%s", store_root(m->s), text) < 0 ||
        asprintf(&m->gone, "%s/.gone-%s", store_root(m->s), text) < 0)
        return no_memory(e);
    m->linked = storefs_is_link(m->entry);
    m->inside = !place;
    if (!realpath(m->entry, m->old))
        return err_errno(e, errno, "%s cannot be opened", m->entry);
    m->path = place ? store_place(place, c->name, e) : strdup(m->entry);
    if (!m->path)
        return place ? false : no_memory(e);
    if (m->inside && !m->linked)
        return err_set(e, ERR_EXISTS, "\"%s\" is in the library's folder already", c->name);
    size_t len = strlen(m->old);
    if (!strncmp(m->path, m->old, len) && (m->path[len] == '/' || !m->path[len]))
        return err_set(e, ERR_INVALID, "A machine cannot be moved into its own folder");
    return m->inside || !storefs_is_there(m->path) ||
           err_set(e, ERR_EXISTS, "%s is there already", m->path);
}

bool transfer_move(const struct store *s, const struct guid *id, const char *place,
                   const struct transfer_progress *progress, err *e)
{
    struct move m = {.s = s, .progress = progress};
    AUTO(fd) busy = store_busy(s, e);
    bool other = false;
    bool ok = busy >= 0 && plan(&m, id, place, e);
    if (ok) {
        ok = m.inside ? rename_in(&m, &other, e) : rename_out(&m, &other, e);
        if (!ok && other) {
            if (e)
                *e = (err)ERR_INIT;
            ok = copy_over(&m, id, e);
        }
    }
    ok = ok && storefs_sync_parent(m.entry, e) && storefs_sync_parent(m.path, e) &&
         reconnect(m.entry, e);
    free(m.entry);
    free(m.next);
    free(m.gone);
    free(m.path);
    return ok || err_prefix(e, "The machine was not moved");
}
