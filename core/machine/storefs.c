/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/storefs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/cleanup.h"

bool storefs_make_folders(const char *path, err *e)
{
    AUTO(str) p = strdup(path);
    if (!p)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory");
    for (char *s = p + 1;; s++) {
        char c = *s;
        if (c && c != '/')
            continue;
        *s = 0;
        if (mkdir(p, 0700) != 0 && errno != EEXIST)
            return err_errno(e, errno, "The folder %s cannot be made", p);
        *s = c;
        if (!c)
            break;
    }
    struct stat st;
    if (stat(path, &st) != 0)
        return err_errno(e, errno, "The folder %s cannot be opened", path);
    return S_ISDIR(st.st_mode) || err_set(e, ERR_INVALID, "%s is not a folder", path);
}

bool storefs_is_link(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

bool storefs_is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

/* ---- files ---- */

static bool read_all(int fd, char *buf, size_t max, size_t *len, const char *name, err *e)
{
    size_t n = 0;
    while (n <= max) {
        ssize_t r = read(fd, buf + n, max + 1 - n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return err_errno(e, errno, "%s cannot be read", name);
        if (r == 0)
            break;
        n += (size_t)r;
    }
    if (n > max)
        return err_set(e, ERR_CORRUPT, "%s is too large", name);
    buf[n] = 0;
    *len = n;
    return true;
}

char *storefs_read(int folder, const char *name, size_t max, size_t *len, err *e)
{
    struct stat st;
    AUTO(fd) fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0) {
        err_errno(e, errno, "%s cannot be opened", name);
        return NULL;
    }
    if (!S_ISREG(st.st_mode)) {
        err_set(e, ERR_CORRUPT, "%s is not a file", name);
        return NULL;
    }
    size_t room = (size_t)st.st_size < max ? (size_t)st.st_size : max;
    AUTO(str) buf = malloc(room + 2);
    if (!buf) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to read %s", name);
        return NULL;
    }
    return read_all(fd, buf, room, len, name, e) ? TAKE(buf) : NULL;
}

static bool write_all(int fd, const char *data, size_t len)
{
    while (len) {
        ssize_t w = write(fd, data, len);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return false;
        data += w;
        len -= (size_t)w;
    }
    return fsync(fd) == 0;
}

bool storefs_write(int folder, const char *name, const void *data, size_t len, err *e)
{
    AUTO(str) tmp = NULL;
    if (asprintf(&tmp, ".%s.new", name) < 0)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory");
    unlinkat(folder, tmp, 0);
    AUTO(fd) fd = openat(folder, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, errno, "%s cannot be written", name);
    if (!write_all(fd, data, len) || renameat(folder, tmp, folder, name) != 0) {
        int why = errno;
        unlinkat(folder, tmp, 0);
        return err_errno(e, why, "%s cannot be written", name);
    }
    return fsync(folder) == 0 || err_errno(e, errno, "%s cannot be written", name);
}

bool storefs_sync_parent(const char *path, err *e)
{
    AUTO(str) parent = strdup(path);
    char *slash = parent ? strrchr(parent, '/') : NULL;
    if (!slash)
        return parent || err_set(e, ERR_NO_MEMORY, "Not enough memory");
    slash[slash == parent] = 0;
    AUTO(fd) fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && fsync(fd) == 0) ||
           err_errno(e, errno, "The folder %s cannot be written", parent);
}

/* ---- removal ---- */

enum { MAX_DEPTH = 32 };

static bool remove_at(int folder, const char *name, dev_t dev, int depth, err *e);

static bool empty_folder(int fd, const char *name, dev_t dev, int depth, err *e)
{
    int again = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    if (!d) {
        int why = errno;
        if (again >= 0)
            close(again);
        return err_errno(e, why, "%s cannot be read", name);
    }
    bool ok = true;
    for (struct dirent *de; ok && (de = readdir(d));)
        if (strcmp(de->d_name, ".") && strcmp(de->d_name, ".."))
            ok = remove_at(fd, de->d_name, dev, depth + 1, e);
    closedir(d);
    return ok;
}

static bool remove_at(int folder, const char *name, dev_t dev, int depth, err *e)
{
    struct stat st;
    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || err_errno(e, errno, "%s cannot be removed", name);
    if (S_ISDIR(st.st_mode)) {
        if (depth > MAX_DEPTH || (depth && st.st_dev != dev))
            return err_set(e, ERR_DENIED, "%s is another file system; it was not removed", name);
        AUTO(fd) fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
            return err_errno(e, errno, "%s cannot be opened", name);
        if (!empty_folder(fd, name, st.st_dev, depth, e))
            return false;
    }
    return unlinkat(folder, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) == 0 ||
           err_errno(e, errno, "%s cannot be removed", name);
}

bool storefs_remove(int folder, const char *name, err *e)
{
    return remove_at(folder, name, 0, 0, e);
}

/* ---- the bin (freedesktop.org Trash specification 1.0) ---- */

static char *bin_folder(void)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *p = NULL;
    int n = data && *data == '/'   ? asprintf(&p, "%s/Trash", data)
            : home && *home == '/' ? asprintf(&p, "%s/.local/share/Trash", home)
                                   : -1;
    return n < 0 ? NULL : p;
}

static void put_escaped(FILE *f, const char *path)
{
    for (const unsigned char *s = (const unsigned char *)path; *s; s++)
        if (isalnum(*s) || strchr("/-_.~", *s))
            fputc(*s, f);
        else
            fprintf(f, "%%%02X", *s);
}

static bool write_info(const char *bin, const char *name, const char *path)
{
    AUTO(str) info = NULL;
    if (asprintf(&info, "%s/info/%s.trashinfo", bin, name) < 0)
        return false;
    int fd = open(info, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f)
        return false;
    char when[32];
    struct tm tm;
    time_t now = time(NULL);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", localtime_r(&now, &tm));
    fputs("[Trash Info]\nPath=", f);
    put_escaped(f, path);
    fprintf(f, "\nDeletionDate=%s\n", when);
    return fclose(f) == 0;
}

bool storefs_to_bin(const char *path, err *e)
{
    AUTO(str) bin = bin_folder();
    AUTO(str) files = NULL;
    AUTO(str) infos = NULL;
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    if (!bin || asprintf(&files, "%s/files", bin) < 0 || asprintf(&infos, "%s/info", bin) < 0 ||
        !storefs_make_folders(files, e) || !storefs_make_folders(infos, e))
        return err_set(e, ERR_NOT_FOUND, "There is no bin");
    for (unsigned i = 1; i < 1000; i++) {
        AUTO(str) name = NULL;
        AUTO(str) to = NULL;
        if ((i == 1 ? asprintf(&name, "%s", base) : asprintf(&name, "%s.%u", base, i)) < 0 ||
            asprintf(&to, "%s/%s", files, name) < 0)
            return err_set(e, ERR_NO_MEMORY, "Not enough memory");
        if (storefs_is_there(to) || !write_info(bin, name, path))
            continue;
        if (rename(path, to) == 0)
            return true;
        int why = errno;
        AUTO(str) info = NULL;
        if (asprintf(&info, "%s/%s.trashinfo", infos, name) >= 0)
            unlink(info);
        return err_errno(e, why, "%s cannot be moved to the bin", path);
    }
    return err_set(e, ERR_EXISTS, "The bin has no place for %s", base);
}
