/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The worker's only way to a file: what lies in the machine's own folder (the present folder), and
 * descriptors that a client handed over, by name. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"

struct worker_files {
    GMutex lock;
    GHashTable *fds; /* name -> descriptor + 1 */
    char *folder;    /* or NULL */
};

static void close_entry(gpointer value)
{
    close(GPOINTER_TO_INT(value) - 1);
}

struct worker_files *worker_files_new(void)
{
    struct worker_files *f = g_new0(struct worker_files, 1);
    g_mutex_init(&f->lock);
    f->fds = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, close_entry);
    return f;
}

void worker_files_set_folder(struct worker_files *f, const char *folder)
{
    f->folder = g_strdup(folder);
}

void worker_files_close(struct worker_files *f)
{
    g_mutex_lock(&f->lock);
    g_hash_table_remove_all(f->fds);
    g_mutex_unlock(&f->lock);
}

void worker_files_free(struct worker_files *f)
{
    g_hash_table_unref(f->fds);
    g_mutex_clear(&f->lock);
    g_free(f->folder);
    g_free(f);
}

gboolean worker_files_add(struct worker_files *f, GVariant *files, GUnixFDList *fds, err *e)
{
    GVariantIter iter;
    const char *name;
    gint32 handle;
    g_variant_iter_init(&iter, files);
    while (g_variant_iter_next(&iter, "(&sh)", &name, &handle)) {
        g_autoptr(GError) error = NULL;
        int fd = fds ? g_unix_fd_list_get(fds, handle, &error) : -1;
        if (fd < 0)
            return err_set(e, ERR_INVALID, "no descriptor came with \"%s\"", name);
        g_mutex_lock(&f->lock);
        g_hash_table_replace(f->fds, g_strdup(name), GINT_TO_POINTER(fd + 1));
        g_mutex_unlock(&f->lock);
    }
    return TRUE;
}

void worker_files_add_own(struct worker_files *f, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        g_hash_table_replace(f->fds, g_strdup(path), GINT_TO_POINTER(fd + 1));
}

int worker_files_take(struct worker_files *f, const char *name)
{
    g_mutex_lock(&f->lock);
    gpointer v = g_hash_table_lookup(f->fds, name);
    int fd = v ? fcntl(GPOINTER_TO_INT(v) - 1, F_DUPFD_CLOEXEC, 0) : -1;
    g_hash_table_remove(f->fds, name);
    g_mutex_unlock(&f->lock);
    return fd;
}

/* A name as it is; then, for a parent, relative to the folder of the file that names it. */
static int find(struct worker_files *f, const char *path, const char *referrer, char **resolved)
{
    g_autofree char *beside = NULL;
    const char *slash = referrer ? strrchr(referrer, '/') : NULL;
    const char *base = strrchr(path, '/');
    if (slash && path[0] != '/')
        beside = g_strdup_printf("%.*s/%s", (int)(slash - referrer), referrer, path);
    g_autofree char *sibling =
        slash && base ? g_strdup_printf("%.*s%s", (int)(slash - referrer), referrer, base) : NULL;
    const char *names[] = {beside, path, sibling};
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        gpointer v = names[i] ? g_hash_table_lookup(f->fds, names[i]) : NULL;
        if (!v)
            continue;
        *resolved = strdup(names[i]);
        return GPOINTER_TO_INT(v) - 1;
    }
    return -1;
}

/* What is in the machine's folder needs no handing over: layers that checkpoints made, and parents
 * that are to be written when layers are merged. */
static int open_own(struct worker_files *f, const char *path, const char *referrer, unsigned flags,
                    char **resolved)
{
    const char *slash = referrer ? strrchr(referrer, '/') : NULL;
    g_autofree char *name =
        slash && path[0] != '/'
            ? g_strdup_printf("%.*s/%s", (int)(slash - referrer), referrer, path)
            : g_strdup(path);
    struct stat st;
    if (!f->folder ||
        (name[0] == '/' && (!g_str_has_prefix(name, f->folder) || name[strlen(f->folder)] != '/')))
        return -1;
    AUTO(fd)
    fd = open(name, (flags & DISK_OPEN_READ_ONLY ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK |
                        O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || !(*resolved = strdup(name)))
        return -1;
    return TAKE_FD(fd);
}

/* A descriptor with a file position and locks of its own where /proc allows it. */
static int open_file(void *ctx, const char *path, const char *referrer, unsigned flags,
                     char **resolved, err *e)
{
    struct worker_files *f = ctx;
    int mine = open_own(f, path, referrer, flags, resolved);
    if (mine >= 0)
        return mine;
    g_mutex_lock(&f->lock);
    int fd = find(f, path, referrer, resolved);
    int own = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    g_mutex_unlock(&f->lock);
    if (fd < 0) {
        err_set(e, ERR_NOT_FOUND, "the file \"%s\" was not handed over", path);
        return -1;
    }
    if (own < 0)
        err_errno(e, errno, "the file \"%s\" cannot be used", path);
    return own;
}

struct disk_opener worker_files_opener(struct worker_files *f)
{
    return (struct disk_opener){.open = open_file, .ctx = f};
}
