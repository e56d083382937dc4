/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/files.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "app/error.h"
#include "core/storage/disk.h"

/* Adds (name, descriptor). Takes fd. */
static gboolean add_fd(GVariantBuilder *b, GUnixFDList *fds, const char *name, int fd,
                       GError **error)
{
    int index = g_unix_fd_list_append(fds, fd, error);
    close(fd);
    if (index < 0)
        return FALSE;
    g_variant_builder_add(b, "(sh)", name, index);
    return TRUE;
}

static gboolean add_path(GVariantBuilder *b, GUnixFDList *fds, const char *name, const char *folder,
                         gboolean read_only, GError **error)
{
    g_autofree char *path =
        g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(folder, name, NULL);
    int fd = g_open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY, 0);
    if (fd < 0) {
        int why = errno;
        g_set_error(error, VIREO_ERROR, why == ENOENT ? ERR_NOT_FOUND : ERR_DENIED,
                    why == ENOENT
                        ? _("The file “%s” is not there. Was it moved? Choose it again in the "
                            "settings.")
                        : _("The file “%s” cannot be opened: %s"),
                    path, g_strerror(why));
        return FALSE;
    }
    return add_fd(b, fds, name, fd, error);
}

/* ---- a disk and its parents ---- */

/* Notes what opening the chain opens; the descriptors are duplicated for the worker. */
struct recorder {
    GVariantBuilder *builder;
    GUnixFDList *fds;
    const char *name; /* the leaf's, as the configuration has it */
    gboolean read_only;
};

static bool record(struct recorder *r, const char *name, int fd, err *e)
{
    g_autoptr(GError) error = NULL;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return (copy >= 0 && add_fd(r->builder, r->fds, name, copy, &error)) ||
           err_set(e, ERR_NO_MEMORY, "Too many files are open");
}

static int record_open(void *ctx, const char *path, const char *referrer, unsigned flags,
                       char **resolved, err *e)
{
    struct recorder *r = ctx;
    flags |= DISK_OPEN_READ_ONLY;
    if (!referrer && !r->read_only)
        flags &= ~(unsigned)DISK_OPEN_READ_ONLY;
    int fd = disk_opener_paths.open(NULL, path, referrer, flags, resolved, e);
    if (fd < 0)
        return -1;
    bool ok = record(r, referrer ? path : r->name, fd, e);
    if (ok && referrer && strcmp(path, *resolved))
        ok = record(r, *resolved, fd, e);
    if (ok)
        return fd;
    close(fd);
    return -1;
}

static gboolean add_chain(GVariantBuilder *b, GUnixFDList *fds, const char *name,
                          const char *folder, gboolean read_only, GError **error)
{
    err e = ERR_INIT;
    struct recorder r = {b, fds, name, read_only};
    const struct disk_opener opener = {record_open, &r};
    g_autofree char *path =
        g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(folder, name, NULL);
    struct loop *loop = loop_new(&e);
    const struct disk_open_params p = {
        .path = path,
        .flags = DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK,
        .opener = &opener,
        .loop = loop,
    };
    struct disk *d = loop ? disk_open(&p, &e) : NULL;
    if (d)
        disk_close(d);
    else
        vireo_error_set(error, &e);
    if (loop)
        loop_free(loop);
    return d != NULL;
}

static gboolean add_disks(GVariantBuilder *b, GUnixFDList *fds, const struct vm_config *c,
                          const char *folder, GError **error)
{
    for (guint i = 0; i < c->n_disks; i++) {
        const struct vm_disk *d = &c->disks[i];
        if (!d->path)
            continue;
        if (d->media == VM_MEDIA_DVD ? !add_path(b, fds, d->path, folder, TRUE, error)
                                     : !add_chain(b, fds, d->path, folder, d->read_only, error))
            return FALSE;
    }
    return TRUE;
}

GVariant *vireo_files_collect(const struct vm_config *c, const char *folder, GUnixFDList *fds,
                              GError **error)
{
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    gboolean linux_boot = c->boot == VM_BOOT_LINUX;
    if (linux_boot && c->kernel && !add_path(&b, fds, c->kernel, folder, TRUE, error))
        return NULL;
    if (linux_boot && c->initrd && !add_path(&b, fds, c->initrd, folder, TRUE, error))
        return NULL;
    if (!add_disks(&b, fds, c, folder, error))
        return NULL;
    return g_variant_builder_end(&b);
}

GVariant *vireo_files_collect_image(const char *path, gboolean read_only, const char *folder,
                                    GUnixFDList *fds, GError **error)
{
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    if (!add_path(&b, fds, path, folder, read_only, error))
        return NULL;
    return g_variant_builder_end(&b);
}
