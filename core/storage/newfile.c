/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"

/* The folder of `path`, malloc'ed. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static char *temp_name(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    char *out = NULL;
    return asprintf(&out, "%.*s.%.200s.XXXXXX", (int)(base - path), path, base) < 0 ? NULL : out;
}

bool newfile_begin(struct newfile *n, const char *path, bool force, err *e)
{
    struct stat st;
    *n = (struct newfile){.fd = -1, .path = strdup(path), .force = force};
    AUTO(str) dir = folder_of(path);
    if (!n->path || !dir)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to create %s", path);
    bool there = lstat(path, &st) == 0;
    if (there && !force)
        return err_set(e, ERR_EXISTS, "%s is already there", path);
    if (there && !S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is there and is not a plain file", path);
    n->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (n->fd >= 0)
        return true;
    n->temp = temp_name(path);
    n->fd = n->temp ? mkostemp(n->temp, O_CLOEXEC) : -1;
    if (n->fd < 0) {
        int saved = errno;
        free(n->temp);
        n->temp = NULL;
        return err_errno(e, saved, "Could not create %s", path);
    }
    mode_t mask = umask(0);
    umask(mask);
    fchmod(n->fd, 0666 & ~mask);
    return true;
}

/* Names a nameless file. 0 or an errno. */
static int link_as(int fd, const char *name)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : errno;
}

static int place(struct newfile *n)
{
    if (!n->temp) {
        int rc = link_as(n->fd, n->path);
        if (rc != EEXIST || !n->force)
            return rc;
        /* In the way: a name beside it, then over it. */
        n->temp = temp_name(n->path);
        int fd = n->temp ? mkostemp(n->temp, O_CLOEXEC) : -1;
        if (fd < 0)
            return errno;
        close(fd);
        unlink(n->temp);
        rc = link_as(n->fd, n->temp);
        if (rc)
            return rc;
    }
    int rc = n->force ? rename(n->temp, n->path)
                      : renameat2(AT_FDCWD, n->temp, AT_FDCWD, n->path, RENAME_NOREPLACE);
    return rc == 0 ? 0 : errno;
}

bool newfile_commit(struct newfile *n, err *e)
{
    AUTO(str) dir = folder_of(n->path);
    if (fsync(n->fd) < 0)
        return err_errno(e, errno, "Could not write %s", n->path);
    int rc = place(n);
    if (rc)
        return err_errno(e, rc, "Could not create %s", n->path);
    free(n->temp);
    n->temp = NULL;
    AUTO(fd) d = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (d >= 0)
        fsync(d); /* the name itself */
    return true;
}

void newfile_end(struct newfile *n)
{
    if (n->temp)
        unlink(n->temp);
    if (n->fd >= 0)
        close(n->fd);
    free(n->temp);
    free(n->path);
    *n = (struct newfile){.fd = -1};
}
