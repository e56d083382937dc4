/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Importing: an archive or a folder is made into a hidden folder, looked at, and given its name. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/machine/keyfile.h"
#include "core/machine/storefs.h"
#include "core/machine/transfer-int.h"

enum { MAX_FILES = 16384 };

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory to import the machine");
}

/* ---- export.ini ---- */

void transfer_layers_clear(struct transfer_layers *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->layer[i].file);
        free(l->layer[i].parent);
    }
    free(l->layer);
    *l = (struct transfer_layers){0};
}

static bool plain_name(const char *name)
{
    return archive_name_ok(name) && !strchr(name, '/');
}

static bool check_version(const struct keyfile *k, err *e)
{
    const char *v = keyfile_get(k, "export", "version");
    char *end = NULL;
    unsigned long n = v ? strtoul(v, &end, 10) : 0;
    if (!v || end == v || *end || n < 1)
        return err_set(e, ERR_CORRUPT, "It is not an exported machine: its version");
    return n <= TRANSFER_VERSION ||
           err_set(e, ERR_UNSUPPORTED, "It was exported by a newer Vireo (version %lu)", n);
}

static bool read_layer(const struct keyfile *k, const char *section, struct transfer_layers *out,
                       err *e)
{
    const char *file = keyfile_get(k, section, "file");
    const char *parent = keyfile_get(k, section, "parent");
    if (!file || !plain_name(file) || (parent && *parent && !plain_name(parent)))
        return err_set(e, ERR_CORRUPT, "The export's description is damaged: %s", section);
    struct transfer_layer *p = reallocarray(out->layer, out->n + 1, sizeof *p);
    if (!p)
        return no_memory(e);
    out->layer = p;
    p[out->n] = (struct transfer_layer){strdup(file), strdup(parent ? parent : "")};
    out->n++;
    return (p[out->n - 1].file && p[out->n - 1].parent) || no_memory(e);
}

bool transfer_read_layers(const char *text, size_t len, struct transfer_layers *out, err *e)
{
    *out = (struct transfer_layers){0};
    AUTO(keyfile) k = keyfile_parse(text, len, e);
    bool ok = k && check_version(k, e);
    for (unsigned i = 0; ok; i++) {
        char section[32];
        snprintf(section, sizeof section, "layer %u", i);
        if (!keyfile_has_section(k, section))
            break;
        ok = i < TRANSFER_MAX_LAYERS ? read_layer(k, section, out, e)
                                     : err_set(e, ERR_CORRUPT, "The export has too many disks");
    }
    if (!ok)
        transfer_layers_clear(out);
    return ok;
}

bool transfer_parse(const char *text, size_t len, err *e)
{
    struct transfer_layers l;
    bool ok = transfer_read_layers(text, len, &l, e);
    if (ok)
        transfer_layers_clear(&l);
    return ok;
}

bool transfer_connect(const char *folder, const struct transfer_layers *l, err *e)
{
    struct loop *loop = loop_new(e);
    bool ok = loop != NULL;
    for (size_t i = 0; ok && i < l->n; i++) {
        const struct transfer_layer *y = &l->layer[i];
        if (!*y->parent)
            continue;
        AUTO(str) path = checkpoint_absolute(folder, y->file, e);
        AUTO(str) parent = path ? checkpoint_absolute(folder, y->parent, e) : NULL;
        ok = parent && disk_reparent(path, parent, false, loop, e);
    }
    if (loop)
        loop_free(loop);
    return ok;
}

/* ---- the hidden folder ---- */

struct incoming {
    const struct store *s;
    const struct transfer_import *p;
    const struct transfer_progress *progress;
    char *hidden; /* in the store: the folder, or a link to it */
    char *folder; /* where the files are */
    int fd;
    uint64_t total, done;
    struct transfer_layers layers;
    bool described;
};

static bool make_hidden(struct incoming *in, err *e)
{
    struct guid g;
    char id[GUID_STR_LEN + 1];
    guid_random(&g);
    guid_format(&g, id);
    if (asprintf(&in->hidden, "%s/.import-%s", store_root(in->s), id) < 0)
        return (in->hidden = NULL) || no_memory(e);
    int n = in->p->place ? asprintf(&in->folder, "%s/.vireo-%s", in->p->place, id)
                         : asprintf(&in->folder, "%s", in->hidden);
    if (n < 0)
        return (in->folder = NULL) || no_memory(e);
    if (in->p->place && symlink(in->folder, in->hidden) != 0)
        return err_errno(e, errno, "The machine cannot be entered in %s", store_root(in->s));
    if (mkdir(in->folder, 0700) != 0)
        return err_errno(e, errno, "The folder %s cannot be made", in->folder);
    in->fd = open(in->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return in->fd >= 0 || err_errno(e, errno, "The folder %s cannot be opened", in->folder);
}

static void drop_hidden(struct incoming *in)
{
    if (in->folder)
        storefs_remove(AT_FDCWD, in->folder, NULL);
    if (in->p->place && in->hidden)
        unlink(in->hidden);
}

static void incoming_clear(struct incoming *in)
{
    auto_close(in->fd);
    free(in->hidden);
    free(in->folder);
    transfer_layers_clear(&in->layers);
}

static bool tell(void *ctx, uint64_t n)
{
    struct incoming *in = ctx;
    in->done += n;
    double part = in->total ? (double)in->done / (double)in->total : 0;
    return !in->progress || !in->progress->fn ||
           in->progress->fn(in->progress->ctx, MIN(part, 1.0));
}

/* What an export may hold: checkpoint.h's files, and files beside machine.ini. */
static bool expected(const char *name)
{
    struct guid id;
    if (plain_name(name))
        return strcmp(name, STORE_LOCK_NAME) && strcmp(name, STORE_RAN_NAME) &&
               strcmp(name, STORE_DISPOSABLE_NAME);
    if (!strncmp(name, CHECKPOINT_STATES "/", sizeof CHECKPOINT_STATES))
        return plain_name(name + sizeof CHECKPOINT_STATES);
    if (strncmp(name, CHECKPOINT_FOLDER "/", sizeof CHECKPOINT_FOLDER) != 0)
        return false;
    const char *at = name + sizeof CHECKPOINT_FOLDER;
    char text[GUID_STR_LEN + 1] = "";
    if (strlen(at) <= GUID_STR_LEN + 1 || at[GUID_STR_LEN] != '/')
        return false;
    memcpy(text, at, GUID_STR_LEN);
    return guid_parse(text, &id) && plain_name(at + GUID_STR_LEN + 1);
}

/* A new file in the folder, with the folders above it; -1 on error. */
static int make_file(struct incoming *in, const char *name, err *e)
{
    char folder[ARCHIVE_MAX_NAME + 1];
    if (!expected(name))
        return err_set(e, ERR_CORRUPT, "An exported machine has no file \"%s\"", name) - 1;
    for (const char *s = name; (s = strchr(s, '/')); s++) {
        snprintf(folder, sizeof folder, "%.*s", (int)(s - name), name);
        if (mkdirat(in->fd, folder, 0700) != 0 && errno != EEXIST)
            return err_errno(e, errno, "%s cannot be made", folder) - 1;
    }
    int fd = openat(in->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        err_errno(e, errno, "%s cannot be written", name);
    return fd;
}

/* ---- from an archive ---- */

static bool take_entry(struct incoming *in, struct archive_reader *a,
                       const struct archive_entry *entry, err *e)
{
    const struct archive_progress p = {tell, in};
    size_t len = 0;
    if (!strcmp(entry->name, TRANSFER_INI)) {
        AUTO(str) text = in->described ? NULL : archive_read(a, TRANSFER_MAX_INI, &len, e);
        in->described = true;
        return text && transfer_read_layers(text, len, &in->layers, e);
    }
    if (!in->described)
        return err_set(e, ERR_CORRUPT, "It is not an exported machine");
    AUTO(fd) fd = make_file(in, entry->name, e);
    return fd >= 0 && (archive_extract(a, fd, &p, e) || err_prefix(e, "%s", entry->name));
}

static bool take_archive(struct incoming *in, int fd, err *e)
{
    struct archive_entry entry;
    struct stat st;
    bool end = false;
    AUTO(archive_reader) a = archive_reader_new(fd, e);
    if (a && fstat(fd, &st) == 0)
        in->total = (uint64_t)st.st_size * 2; /* a guess at what is in it */
    for (unsigned n = 0; a && archive_next(a, &entry, &end, e); n++) {
        in->total = MAX(in->total, in->done + entry.size);
        if (n == MAX_FILES)
            return err_set(e, ERR_CORRUPT, "The export has too many files");
        if (!take_entry(in, a, &entry, e))
            return false;
    }
    return end;
}

/* ---- from a folder ---- */

static bool copy_item(struct incoming *in, const struct transfer_item *t, err *e)
{
    const struct archive_progress p = {tell, in};
    if (t->text && !strcmp(t->name, TRANSFER_INI))
        return transfer_read_layers(t->text, strlen(t->text), &in->layers, e);
    AUTO(fd) to = make_file(in, t->name, e);
    if (to < 0)
        return false;
    if (t->text) {
        size_t len = strlen(t->text);
        return (write(to, t->text, len) == (ssize_t)len && fsync(to) == 0) ||
               err_errno(e, errno, "%s cannot be written", t->name);
    }
    AUTO(fd) from = open(t->path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return err_errno(e, errno, "%s cannot be opened", t->path);
    return archive_copy_file(from, to, &p, e) || err_prefix(e, "%s", t->path);
}

static bool take_folder(struct incoming *in, err *e)
{
    struct transfer_list l = {0};
    err why = ERR_INIT;
    AUTO(fd) lock = store_lock_at(in->p->path, &why); /* a folder on a disc cannot be locked */
    if (lock < 0 && why.code == ERR_BUSY)
        return err_set(e, ERR_BUSY, "The machine in %s is running", in->p->path);
    bool ok = transfer_gather(&l, in->p->path, NULL, e);
    in->total = l.total;
    for (size_t i = 0; ok && i < l.n; i++)
        ok = copy_item(in, &l.item[i], e);
    transfer_list_clear(&l);
    return ok;
}

/* ---- looking at it ---- */

/* What a foreign machine must not decide: which of this computer's files and addresses it uses. */
static void make_safe(struct vm_config *c)
{
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (c->disks[i].media == VM_MEDIA_DVD)
            vm_config_string(&c->disks[i].path, NULL, NULL);
    for (unsigned i = 0; i < VM_MAX_PORTS; i++) {
        c->ports[i].kind = VM_PORT_NONE;
        vm_config_string(&c->ports[i].path, NULL, NULL);
    }
    for (uint32_t i = 0; i < c->n_adapters; i++)
        c->adapters[i].host_access = false;
    c->spice = c->vnc = false;
    c->pending = (struct guid){{0}};
}

static bool in_folder(const struct incoming *in, const char *name, err *e)
{
    return !name || (plain_name(name) && faccessat(in->fd, name, R_OK, 0) == 0) ||
           err_set(e, ERR_CORRUPT, "It needs \"%s\", which is not in it", name);
}

static bool files_there(const struct incoming *in, const struct vm_config *c, err *e)
{
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (!in_folder(in, c->disks[i].path, e))
            return false;
    return in_folder(in, c->kernel, e) && in_folder(in, c->initrd, e);
}

struct adopting {
    const struct incoming *in;
    struct guid id;
    bool fresh; /* nothing in the guest knows the old addresses */
};

static bool adopt(void *ctx, struct vm_config *c, err *e)
{
    const struct adopting *a = ctx;
    const char *name = a->in->p->name;
    make_safe(c);
    c->id = a->id;
    for (uint32_t i = 0; a->fresh && i < c->n_adapters; i++)
        vm_mac_random(&c->adapters[i].mac);
    return files_there(a->in, c, e) && (!name || vm_config_set(c, "machine.name", name, e));
}

/* Checkpoints keep their adapters' addresses: their guests know them. */
static bool adopt_checkpoints(const struct adopting *a, err *e)
{
    struct checkpoint *list = NULL;
    struct adopting then = *a;
    struct transfer_import unnamed = *a->in->p;
    struct incoming in = *a->in;
    size_t n = 0;
    unnamed.name = NULL;
    in.p = &unnamed;
    then.in = &in;
    then.fresh = false;
    bool ok = checkpoint_read_all(in.folder, &list, &n, e);
    for (size_t i = 0; ok && i < n; i++)
        ok = checkpoint_update_config(in.folder, &list[i].id, adopt, &then, e);
    for (size_t i = 0; i < n; i++)
        checkpoint_clear(&list[i]);
    free(list);
    return ok;
}

/* No layer may stand on a file of this computer's that did not come with it. */
static bool layer_ok(const struct incoming *in, const char *name, struct loop *loop, err *e)
{
    struct disk_description d;
    char real[PATH_MAX], here[PATH_MAX];
    AUTO(str) path = checkpoint_absolute(in->folder, name, e);
    if (!path || !disk_describe(path, loop, &d, e))
        return false;
    bool ok = d.info.type != DISK_DIFFERENCING;
    if (!ok && d.parent_path && realpath(d.parent_path, real) && realpath(in->folder, here)) {
        size_t len = strlen(here);
        ok = !strncmp(real, here, len) && real[len] == '/';
    }
    disk_description_clear(&d);
    return ok || err_set(e, ERR_CORRUPT, "The disk that %s stands on is not in it", name);
}

static bool layers_ok(const struct incoming *in, err *e)
{
    struct loop *loop = loop_new(e);
    DIR *d = loop ? opendir(in->folder) : NULL;
    bool ok = d || (loop && err_errno(e, errno, "%s cannot be read", in->folder));
    for (struct dirent *de; ok && (de = readdir(d));) {
        const char *dot = strrchr(de->d_name, '.');
        if (dot && dot > de->d_name &&
            (!strcasecmp(dot, ".vhdx") || !strcasecmp(dot, ".avhdx") || !strcasecmp(dot, ".vhd") ||
             !strcasecmp(dot, ".avhd")))
            ok = layer_ok(in, de->d_name, loop, e);
    }
    if (d)
        closedir(d);
    if (loop)
        loop_free(loop);
    return ok;
}

static bool states_ok(const struct incoming *in, const struct vm_config *c, err *e)
{
    AUTO(str)
    state =
        guid_is_zero(&c->saved) ? NULL : checkpoint_state_path(in->folder, &c->saved, ".state", e);
    return guid_is_zero(&c->saved) || (state && storefs_is_there(state)) ||
           err_set(e, ERR_CORRUPT, "Its saved state is not in it");
}

/* ---- giving it its name ---- */

static bool name_it(struct incoming *in, const struct vm_config *c, err *e)
{
    AUTO(str) path = store_path(in->s, &c->id, NULL, e);
    AUTO(str) place = path && in->p->place ? store_place(in->p->place, c->name, e) : NULL;
    if (!path || (in->p->place && !place))
        return false;
    if (storefs_is_there(path))
        return err_set(e, ERR_EXISTS, "The machine \"%s\" is in the library already", c->name);
    if (fsync(in->fd) != 0)
        return err_errno(e, errno, "The folder cannot be written");
    if (!place)
        return rename(in->folder, path) == 0
                   ? storefs_sync_parent(path, e)
                   : err_errno(e, errno, "The machine cannot be entered in the library");
    if (storefs_is_there(place) || rename(in->folder, place) != 0)
        return err_errno(e, storefs_is_there(place) ? EEXIST : errno, "%s cannot be made", place);
    if (symlink(place, path) != 0) {
        err_errno(e, errno, "The machine cannot be entered in the library");
        return rename(place, in->folder) == 0 && false;
    }
    unlink(in->hidden);
    return storefs_sync_parent(place, e) && storefs_sync_parent(path, e);
}

static bool finish(struct incoming *in, struct guid *out, err *e)
{
    AUTO(vm_config) c = store_load_at(in->folder, e);
    if (!c || !states_ok(in, c, e))
        return false;
    struct adopting a = {in, c->id, !in->p->keep_id && guid_is_zero(&c->saved)};
    if (!in->p->keep_id)
        guid_random(&a.id);
    if (!store_update_at(in->folder, adopt, &a, e) || !adopt_checkpoints(&a, e) ||
        !transfer_connect(in->folder, &in->layers, e) || !layers_ok(in, e))
        return false;
    AUTO(vm_config) now = store_load_at(in->folder, e);
    if (!now || !name_it(in, now, e))
        return false;
    *out = now->id;
    return true;
}

bool transfer_import(const struct store *s, const struct transfer_import *p, struct guid *out,
                     const struct transfer_progress *progress, err *e)
{
    struct incoming in = {.s = s, .p = p, .progress = progress, .fd = -1};
    struct stat st;
    AUTO(fd) busy = store_busy(s, e);
    AUTO(fd) fd = open(p->path, O_RDONLY | O_CLOEXEC);
    bool ok = busy >= 0 && ((fd >= 0 && fstat(fd, &st) == 0) ||
                            err_errno(e, errno, "%s cannot be opened", p->path));
    ok = ok && make_hidden(&in, e) &&
         (S_ISDIR(st.st_mode) ? take_folder(&in, e) : take_archive(&in, fd, e)) &&
         finish(&in, out, e);
    if (!ok)
        drop_hidden(&in);
    incoming_clear(&in);
    return ok || err_prefix(e, "The machine was not imported");
}
