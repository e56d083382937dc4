/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a crash left in the store while nothing goes on there:
 *     .import-ID   a machine that was not wholly there yet: a folder, or a link to one elsewhere
 *     .move-ID     a folder or link that was to become the entry ID, or was it
 *     .gone-ID     a folder that was being deleted, or a link to one whose copy is the entry now
 * and disposable machines that no worker runs any more.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "core/machine/store.h"
#include "core/machine/storefs.h"

enum { YOUNG_S = 60 }; /* a disposable machine whose worker may be about to come */

struct place {
    const char *root;
    int fd;
    const char *name; /* with its dot, or an id */
};

static char *path_of(const struct place *p, const char *name)
{
    char *path = NULL;
    return asprintf(&path, "%s/%s", p->root, name) < 0 ? NULL : path;
}

static bool is_folder(const struct place *p, const char *name)
{
    struct stat st;
    return fstatat(p->fd, name, &st, 0) == 0 && S_ISDIR(st.st_mode);
}

static bool is_link(const struct place *p, const char *name)
{
    struct stat st;
    return fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode);
}

static bool same_folder(const struct place *p, const char *a, const char *b)
{
    struct stat x, y;
    return fstatat(p->fd, a, &x, 0) == 0 && fstatat(p->fd, b, &y, 0) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

/* The folder that a link leads to, or the folder itself, and then the link. */
static void remove_both(const struct place *p)
{
    char target[PATH_MAX];
    AUTO(str) path = path_of(p, p->name);
    if (path && is_link(p, p->name) && realpath(path, target))
        storefs_remove(AT_FDCWD, target, NULL);
    storefs_remove(p->fd, p->name, NULL);
}

static void end_move(const struct place *p, const char *id)
{
    if (is_folder(p, id)) { /* it has become the entry, or never will */
        storefs_remove(p->fd, p->name, NULL);
    } else if (is_folder(p, p->name)) {
        unlinkat(p->fd, id, 0);
        renameat(p->fd, p->name, p->fd, id);
    }
}

static void end_deleting(const struct place *p, const char *id)
{
    if (!is_link(p, p->name))
        storefs_remove(p->fd, p->name, NULL);
    else if (is_folder(p, id) && !same_folder(p, id, p->name))
        remove_both(p);
    else
        unlinkat(p->fd, p->name, 0);
}

static void end_disposable(const struct place *p)
{
    char marker[GUID_STR_LEN + 24], lock[GUID_STR_LEN + 24];
    struct stat st;
    snprintf(marker, sizeof marker, "%s/" STORE_DISPOSABLE_NAME, p->name);
    snprintf(lock, sizeof lock, "%s/" STORE_LOCK_NAME, p->name);
    if (fstatat(p->fd, marker, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    AUTO(fd) fd = openat(p->fd, lock, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    bool young = st.st_mtime + YOUNG_S > time(NULL);
    if (fd < 0 ? !young : !young && flock(fd, LOCK_EX | LOCK_NB) == 0)
        storefs_remove(p->fd, p->name, NULL);
}

static void sweep_one(const struct place *p)
{
    struct guid id;
    static const struct {
        const char *prefix;
        void (*fn)(const struct place *p, const char *id);
    } kinds[] = {{".move-", end_move}, {".gone-", end_deleting}};
    if (guid_parse(p->name, &id)) {
        end_disposable(p);
        return;
    }
    if (!strncmp(p->name, ".import-", 8) && guid_parse(p->name + 8, &id))
        remove_both(p);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strncmp(p->name, kinds[i].prefix, 6) && guid_parse(p->name + 6, &id))
            kinds[i].fn(p, p->name + 6);
}

int store_busy(const struct store *s, err *e)
{
    int fd = open(store_root(s), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_SH) == 0)
        return fd;
    err_errno(e, errno, "The folder of virtual machines %s cannot be locked", store_root(s));
    auto_close(fd);
    return -1;
}

void store_sweep(const struct store *s)
{
    struct place p = {.root = store_root(s),
                      .fd = open(store_root(s), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    DIR *d = p.fd >= 0 && flock(p.fd, LOCK_EX | LOCK_NB) == 0 ? opendir(p.root) : NULL;
    for (struct dirent *de; d && (de = readdir(d));)
        if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..")) {
            p.name = de->d_name;
            sweep_one(&p);
        }
    if (d)
        closedir(d);
    auto_close(p.fd);
}
