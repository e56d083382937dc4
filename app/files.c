/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/files.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "app/error.h"
#include "core/machine/handover.h"

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

struct parcel {
    GVariantBuilder *builder;
    GUnixFDList *fds;
};

static bool give(void *ctx, const char *name, int fd, err *e)
{
    struct parcel *p = ctx;
    g_autoptr(GError) error = NULL;
    return add_fd(p->builder, p->fds, name, fd, &error) ||
           err_set(e, ERR_NO_MEMORY, "%s", error->message);
}

static gboolean is_there(const char *name, const char *folder, GError **error)
{
    g_autofree char *path =
        g_path_is_absolute(name) ? g_strdup(name) : g_build_filename(folder, name, NULL);
    if (g_access(path, F_OK) == 0)
        return TRUE;
    g_set_error(error, VIREO_ERROR, ERR_NOT_FOUND,
                _("The file “%s” is not there. Was it moved? Choose it again in the settings."),
                path);
    return FALSE;
}

/* The parcel's content, or the error. */
static GVariant *finish(GVariantBuilder *b, bool ok, const err *e, GError **error)
{
    if (ok)
        return g_variant_builder_end(b);
    vireo_error_set(error, e);
    return NULL;
}

GVariant *vireo_files_collect(const struct vm_config *c, const char *folder, GUnixFDList *fds,
                              GError **error)
{
    err e = ERR_INIT;
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    struct parcel p = {&b, fds};
    for (guint i = 0; i < c->n_disks; i++)
        if (c->disks[i].path && !is_there(c->disks[i].path, folder, error))
            return NULL;
    return finish(&b, handover_all(c, folder, give, &p, &e), &e, error);
}

GVariant *vireo_files_collect_disk(const char *path, const char *folder, gboolean read_only,
                                   enum vm_media media, GUnixFDList *fds, GError **error)
{
    err e = ERR_INIT;
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    struct parcel p = {&b, fds};
    if (path && !is_there(path, folder, error))
        return NULL;
    return finish(&b, !path || handover_disk(path, folder, read_only, media, give, &p, &e), &e,
                  error);
}

GVariant *vireo_files_collect_switch(const char *where, GUnixFDList *fds, GError **error)
{
    err e = ERR_INIT;
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    struct parcel p = {&b, fds};
    return finish(&b, handover_switch(where, give, &p, &e), &e, error);
}

GVariant *vireo_files_collect_image(const char *path, gboolean read_only, const char *folder,
                                    GUnixFDList *fds, GError **error)
{
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    if (!add_path(&b, fds, path, folder, read_only, error))
        return NULL;
    return g_variant_builder_end(&b);
}
