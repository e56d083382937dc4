/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A disposable machine that goes on from a checkpoint. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/machine/memfile.h"
#include "core/machine/storefs.h"
#include "core/machine/transfer-int.h"

struct clone {
    const char *from; /* the machine's folder */
    char *folder;     /* the clone's, hidden until it is whole */
    struct checkpoint c;
    struct vm_config *config;
};

/* The same file under another name, else a copy. */
static bool share(const char *from, const char *to, err *e)
{
    if (link(from, to) == 0)
        return true;
    if (errno != EXDEV && errno != EPERM && errno != EMLINK)
        return err_errno(e, errno, "%s cannot be used", from);
    AUTO(fd) in = open(from, O_RDONLY | O_CLOEXEC);
    AUTO(fd) out = in < 0 ? -1 : open(to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return out >= 0 ? archive_copy_file(in, out, NULL, e)
                    : err_errno(e, errno, "%s cannot be copied", from);
}

static bool share_state(const struct clone *k, const struct guid *id, const char *ending, err *e)
{
    AUTO(str) from = checkpoint_state_path(k->from, id, ending, e);
    AUTO(str) to = from ? checkpoint_state_path(k->folder, id, ending, e) : NULL;
    return to && share(from, to, e);
}

static bool share_states(const struct clone *k, err *e)
{
    struct guid at = k->c.id;
    AUTO(str) from = checkpoint_states(k->from, e);
    AUTO(str) to = from ? checkpoint_states(k->folder, e) : NULL;
    if (!to || !storefs_make_folders(to, e) || !share_state(k, &at, ".state", e))
        return false;
    for (unsigned depth = 0; !guid_is_zero(&at) && depth <= MEMFILE_DEPTH; depth++) {
        struct guid below = {{0}};
        if (!share_state(k, &at, ".map", e) || !share_state(k, &at, ".ram", e) ||
            !memfile_read_parent(from, &at, &below, e))
            return false;
        at = below;
    }
    return true;
}

/* A layer of the clone's own on each disk that is written. */
static bool make_disk(const struct clone *k, struct vm_disk *d, unsigned i, struct loop *loop,
                      err *e)
{
    AUTO(str) parent = checkpoint_absolute(k->from, d->path, e);
    if (!parent || d->media != VM_MEDIA_DISK || d->read_only)
        return parent && vm_config_string(&d->path, parent, e);
    AUTO(str) name = checkpoint_leaf_name(d->path, &k->config->id, i, e);
    AUTO(str) path = name ? checkpoint_absolute(k->folder, name, e) : NULL;
    const char *dot = name ? strrchr(name, '.') : NULL;
    struct disk_create_params p = {.path = path,
                                   .type = DISK_DIFFERENCING,
                                   .parent = parent,
                                   .format = dot && !strcmp(dot, ".avhd") ? DISK_FORMAT_VHD
                                                                          : DISK_FORMAT_VHDX};
    return path && disk_create(&p, loop, e) && vm_config_string(&d->path, name, e);
}

static bool make_disks(const struct clone *k, err *e)
{
    struct loop *loop = loop_new(e);
    bool ok = loop != NULL;
    for (uint32_t i = 0; ok && i < k->config->n_disks; i++)
        ok = !k->config->disks[i].path || make_disk(k, &k->config->disks[i], i, loop, e);
    if (loop)
        loop_free(loop);
    return ok;
}

static bool own_file(const struct clone *k, char **member, err *e)
{
    AUTO(str) path = *member ? checkpoint_absolute(k->from, *member, e) : NULL;
    return !*member || (path && vm_config_string(member, path, e));
}

/* Its own id and name, and nothing that reaches beyond it. */
static bool set_up(struct clone *k, err *e)
{
    struct vm_config *c = k->config;
    char name[VM_MAX_NAME + 1];
    int room = VM_MAX_NAME - (int)strlen(k->c.name) - 3;
    snprintf(name, sizeof name, "%.*s: %s", room > 0 ? room : 0, c->name, k->c.name);
    guid_random(&c->id);
    c->saved = k->c.memory ? k->c.id : (struct guid){{0}};
    c->checkpoint = c->pending = (struct guid){{0}};
    c->checkpoints = VM_CHECKPOINTS_OFF;
    c->checkpoint_automatic = false;
    c->autostart = VM_AUTOSTART_NEVER;
    c->autostop = VM_AUTOSTOP_OFF;
    c->spice = c->vnc = false;
    for (uint32_t i = 0; i < c->n_adapters; i++)
        c->adapters[i].kind = VM_SWITCH_NONE;
    for (unsigned i = 0; i < VM_MAX_PORTS; i++) {
        c->ports[i].kind = VM_PORT_NONE;
        vm_config_string(&c->ports[i].path, NULL, NULL);
    }
    return vm_config_string(&c->name, name, e) && own_file(k, &c->kernel, e) &&
           own_file(k, &c->initrd, e);
}

static bool write_file(const struct clone *k, const char *name, const char *text, err *e)
{
    AUTO(fd) fd = open(k->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 || err_errno(e, errno, "%s cannot be opened", k->folder)) &&
           storefs_write(fd, name, text, strlen(text), e);
}

/* machine.ini last: before it, it is no machine. */
static bool make(struct clone *k, err *e)
{
    if (mkdir(k->folder, 0700) != 0)
        return err_errno(e, errno, "The folder %s cannot be made", k->folder);
    if (!write_file(k, STORE_DISPOSABLE_NAME, "It goes when it is turned off.\n", e) ||
        (k->c.memory && !share_states(k, e)) || !make_disks(k, e))
        return false;
    AUTO(str) text = vm_config_check(k->config, e) ? vm_config_format(k->config, e) : NULL;
    return text && write_file(k, STORE_CONFIG_NAME, text, e);
}

static char *hidden_path(const struct store *s, const struct guid *id, err *e)
{
    char text[GUID_STR_LEN + 1], *path = NULL;
    guid_format(id, text);
    if (asprintf(&path, "%s/.import-%s", store_root(s), text) >= 0)
        return path;
    err_set(e, ERR_NO_MEMORY, "Not enough memory to clone the machine");
    return NULL;
}

bool transfer_clone(const struct store *s, const struct guid *id, const struct guid *checkpoint,
                    struct guid *out, err *e)
{
    struct clone k = {0};
    AUTO(fd) busy = store_busy(s, e);
    AUTO(str) from = busy < 0 ? NULL : store_path(s, id, NULL, e);
    bool ok = from && checkpoint_read(from, checkpoint, &k.c, e);
    k.from = from;
    ok = ok && ((k.c.complete && !k.c.deleted) ||
                err_set(e, ERR_NOT_FOUND, "There is no such checkpoint"));
    k.config = ok ? checkpoint_config(from, checkpoint, e) : NULL;
    ok = k.config && set_up(&k, e);
    AUTO(str) path = ok ? store_path(s, &k.config->id, NULL, e) : NULL;
    k.folder = path ? hidden_path(s, &k.config->id, e) : NULL;
    ok = k.folder && make(&k, e) &&
         (rename(k.folder, path) == 0 || err_errno(e, errno, "%s cannot be made", path));
    if (ok)
        *out = k.config->id;
    else if (k.folder)
        storefs_remove(AT_FDCWD, k.folder, NULL);
    free(k.folder);
    vm_config_free(k.config);
    checkpoint_clear(&k.c);
    return ok || err_prefix(e, "The checkpoint cannot be tried");
}
