/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Exporting: what a machine, or one of its checkpoints, needs; and its archive. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "core/base/bytes.h"
#include "core/machine/keyfile.h"
#include "core/machine/memfile.h"
#include "core/machine/storefs.h"
#include "core/machine/transfer-int.h"

enum { CHAIN_LIMIT = 80, INI_MAX = 64 * 1024 };

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory to export the machine");
}

/* ---- the list ---- */

static struct transfer_item *find_path(const struct transfer_list *l, const char *path)
{
    for (size_t i = 0; i < l->n; i++)
        if (l->item[i].path && !strcmp(l->item[i].path, path))
            return &l->item[i];
    return NULL;
}

static bool name_taken(const struct transfer_list *l, const char *name)
{
    for (size_t i = 0; i < l->n; i++)
        if (!strcasecmp(l->item[i].name, name))
            return true;
    return false;
}

static struct transfer_item *add(struct transfer_list *l, const char *name, err *e)
{
    struct transfer_item *p = reallocarray(l->item, l->n + 1, sizeof *p);
    char *copy = p ? strdup(name) : NULL;
    if (p)
        l->item = p;
    if (!copy) {
        no_memory(e);
        return NULL;
    }
    p[l->n] = (struct transfer_item){.name = copy};
    return &p[l->n++];
}

/* A free name for a file: its own, else with a number before it. */
static char *free_name(const struct transfer_list *l, const char *path, err *e)
{
    const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    for (unsigned i = 1; i < 1000; i++) {
        char *name = NULL;
        while (*base == '.')
            base++;
        if ((i == 1 ? asprintf(&name, "%s", base) : asprintf(&name, "%u-%s", i, base)) < 0) {
            no_memory(e);
            return NULL;
        }
        if (!name_taken(l, name))
            return name;
        free(name);
    }
    err_set(e, ERR_EXISTS, "Too many disks are called %s", base);
    return NULL;
}

static struct transfer_item *add_file(struct transfer_list *l, const char *name, const char *path,
                                      err *e)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        err_errno(e, errno, "%s cannot be opened", path);
        return NULL;
    }
    AUTO(str) fresh = name ? strdup(name) : free_name(l, path, e);
    struct transfer_item *t = fresh ? add(l, fresh, e) : NULL;
    if (!t)
        return NULL;
    t->path = strdup(path);
    l->total += (uint64_t)st.st_size;
    if (!t->path)
        no_memory(e);
    return t->path ? t : NULL;
}

void transfer_list_clear(struct transfer_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct transfer_item *t = &l->item[i];
        if (t->held)
            disk_close(t->held);
        free(t->name);
        free(t->path);
        free(t->text);
        free(t->parent);
    }
    free(l->item);
    if (l->loop)
        loop_free(l->loop);
    *l = (struct transfer_list){0};
}

bool transfer_tell(void *ctx, uint64_t n)
{
    struct transfer_list *l = ctx;
    l->done += n;
    double part = l->total ? (double)l->done / (double)l->total : 1;
    return !l->progress || !l->progress->fn || l->progress->fn(l->progress->ctx, MIN(part, 1.0));
}

/* ---- disks ---- */

/* Raw disks are never looked into: their content is the guest's, and must not name other files. */
static bool is_image(const char *path)
{
    static const char *const endings[] = {".vhdx", ".avhdx", ".vhd", ".avhd"};
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < ARRAY_LEN(endings); i++)
        if (!strcasecmp(dot, endings[i]))
            return true;
    return false;
}

/* Shares the lock that writers exclude. */
static bool hold(struct transfer_list *l, struct transfer_item *t, err *e)
{
    struct disk_open_params p = {.path = t->path,
                                 .format = is_image(t->path) ? DISK_FORMAT_AUTO : DISK_FORMAT_RAW,
                                 .flags = DISK_OPEN_READ_ONLY | DISK_OPEN_NO_PARENT,
                                 .opener = &disk_opener_paths,
                                 .loop = l->loop};
    t->held = disk_open(&p, e);
    return t->held != NULL;
}

static bool parent_of(struct transfer_list *l, const char *path, char **out, err *e)
{
    struct disk_description d;
    *out = NULL;
    if (!is_image(path))
        return true;
    if (!disk_describe(path, l->loop, &d, e))
        return false;
    bool ok = d.info.type != DISK_DIFFERENCING;
    if (!ok && d.parent_path)
        ok = (*out = realpath(d.parent_path, NULL)) != NULL;
    if (!ok)
        err_set(e, ERR_NOT_FOUND, "%s: %s", path,
                d.problem[0] ? d.problem : "the disk that it stands on is not there");
    disk_description_clear(&d);
    return ok;
}

/* The layer's name in the export, borrowed; those below it come before it. */
static const char *add_layer(struct transfer_list *l, const char *path, unsigned depth, err *e)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        err_errno(e, errno, "%s cannot be opened", path);
        return NULL;
    }
    const struct transfer_item *known = find_path(l, real);
    if (known)
        return known->name;
    if (depth == CHAIN_LIMIT) {
        err_set(e, ERR_CORRUPT, "%s stands on too many others", path);
        return NULL;
    }
    AUTO(str) parent = NULL;
    char *below = NULL;
    if (!parent_of(l, real, &below, e))
        return NULL;
    parent = below;
    const char *name = parent ? add_layer(l, parent, depth + 1, e) : "";
    AUTO(str) parent_name = name ? strdup(name) : NULL;
    struct transfer_item *t = parent_name ? add_file(l, NULL, real, e) : NULL;
    if (!t || !hold(l, t, e))
        return NULL;
    t->parent = TAKE(parent_name);
    return t->name;
}

/* ---- configurations ---- */

static bool take_name(struct transfer_list *l, char **member, bool layer, err *e)
{
    AUTO(str) path = *member ? checkpoint_absolute(l->folder, *member, e) : NULL;
    if (!path)
        return !*member;
    const char *name = NULL;
    char real[PATH_MAX];
    if (layer)
        name = add_layer(l, path, 0, e);
    else if (realpath(path, real)) {
        const struct transfer_item *t = find_path(l, real);
        t = t ? t : add_file(l, NULL, real, e);
        name = t ? t->name : NULL;
    } else
        err_errno(e, errno, "%s cannot be opened", path);
    return name && vm_config_string(member, name, e);
}

static bool take_names(struct transfer_list *l, struct vm_config *c, err *e)
{
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (c->disks[i].media == VM_MEDIA_DISK && !take_name(l, &c->disks[i].path, true, e))
            return false;
    return take_name(l, &c->kernel, false, e) && take_name(l, &c->initrd, false, e);
}

static bool add_text(struct transfer_list *l, const char *name, char *text, err *e)
{
    struct transfer_item *t = text ? add(l, name, e) : NULL;
    if (!t) {
        free(text);
        return false;
    }
    t->text = text;
    return true;
}

static bool add_config(struct transfer_list *l, const char *name, struct vm_config *c, err *e)
{
    return take_names(l, c, e) && add_text(l, name, vm_config_format(c, e), e);
}

/* ---- states ---- */

static bool add_state(struct transfer_list *l, const struct guid *id, const char *ending, bool need,
                      err *e)
{
    char text[GUID_STR_LEN + 1];
    AUTO(str) path = checkpoint_state_path(l->folder, id, ending, e);
    AUTO(str) name = NULL;
    guid_format(id, text);
    if (!path || asprintf(&name, CHECKPOINT_STATES "/%s%s", text, ending) < 0)
        return path ? no_memory(e) : false;
    if (name_taken(l, name) || (!need && !storefs_is_there(path)))
        return true;
    return add_file(l, name, path, e) != NULL;
}

/* A state with its memory and all images below that. */
static bool add_states(struct transfer_list *l, const struct guid *id, err *e)
{
    struct guid at = *id;
    AUTO(str) states = checkpoint_states(l->folder, e);
    if (!states || !add_state(l, id, ".state", true, e) || !add_state(l, id, ".png", false, e))
        return false;
    for (unsigned depth = 0; !guid_is_zero(&at); depth++) {
        struct guid below = {{0}};
        if (depth > MEMFILE_DEPTH)
            return err_set(e, ERR_CORRUPT, "The saved memory lies over too many others");
        if (!add_state(l, &at, ".map", true, e) || !add_state(l, &at, ".ram", true, e) ||
            !memfile_read_parent(states, &at, &below, e))
            return false;
        at = below;
    }
    return true;
}

/* ---- checkpoints ---- */

static bool add_checkpoint(struct transfer_list *l, const struct checkpoint *c, err *e)
{
    char id[GUID_STR_LEN + 1], name[2 * GUID_STR_LEN + 40];
    size_t len = 0;
    guid_format(&c->id, id);
    AUTO(str) path = checkpoint_path(l->folder, &c->id, NULL, e);
    AUTO(fd) fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    AUTO(vm_config) then = fd < 0 ? NULL : checkpoint_config(l->folder, &c->id, e);
    char *text = then ? storefs_read(fd, CHECKPOINT_INI, INI_MAX, &len, e) : NULL;
    snprintf(name, sizeof name, CHECKPOINT_FOLDER "/%s/" CHECKPOINT_INI, id);
    if (!text || !add_text(l, name, text, e))
        return false;
    snprintf(name, sizeof name, CHECKPOINT_FOLDER "/%s/" STORE_CONFIG_NAME, id);
    if (!add_config(l, name, then, e))
        return false;
    return c->memory ? add_states(l, &c->id, e) : add_state(l, &c->id, ".png", false, e);
}

static bool gather_machine(struct transfer_list *l, err *e)
{
    struct checkpoint_tree t;
    AUTO(vm_config) now = store_load_at(l->folder, e);
    if (!now || !checkpoint_tree_load(l->folder, &t, e))
        return false;
    now->checkpoint = t.current;
    bool ok = add_config(l, STORE_CONFIG_NAME, now, e) &&
              (guid_is_zero(&now->saved) || add_states(l, &now->saved, e));
    for (size_t i = 0; ok && i < t.n; i++)
        ok = add_checkpoint(l, &t.list[i], e);
    checkpoint_tree_clear(&t);
    return ok;
}

static bool gather_checkpoint(struct transfer_list *l, const struct guid *id, err *e)
{
    struct checkpoint c;
    if (!checkpoint_read(l->folder, id, &c, e))
        return false;
    bool memory = c.memory;
    bool ok = (c.complete && !c.deleted) || err_set(e, ERR_NOT_FOUND, "It is not there any more");
    checkpoint_clear(&c);
    AUTO(vm_config) then = ok ? checkpoint_config(l->folder, id, e) : NULL;
    AUTO(vm_config) now = then ? store_load_at(l->folder, e) : NULL;
    if (!now || !vm_config_string(&then->name, now->name, e))
        return false;
    then->saved = memory ? *id : (struct guid){{0}};
    then->checkpoint = then->pending = (struct guid){{0}};
    return add_config(l, STORE_CONFIG_NAME, then, e) && (!memory || add_states(l, id, e));
}

/* ---- export.ini ---- */

static bool put_layers(const struct transfer_list *l, struct keyfile *k, err *e)
{
    unsigned n = 0;
    for (size_t i = 0; i < l->n; i++) {
        char section[32];
        if (!l->item[i].parent)
            continue;
        snprintf(section, sizeof section, "layer %u", n++);
        if (!keyfile_set(k, section, "file", l->item[i].name, e) ||
            !keyfile_set(k, section, "parent", l->item[i].parent, e))
            return false;
    }
    return true;
}

static bool add_ini(struct transfer_list *l, bool checkpoint, err *e)
{
    char version[16];
    snprintf(version, sizeof version, "%d", TRANSFER_VERSION);
    AUTO(keyfile) k = keyfile_new(e);
    if (!k || !keyfile_set(k, "export", "version", version, e) ||
        !keyfile_set(k, "export", "of", checkpoint ? "checkpoint" : "machine", e) ||
        !put_layers(l, k, e))
        return false;
    return add_text(l, TRANSFER_INI, keyfile_format(k, e), e);
}

bool transfer_gather(struct transfer_list *l, const char *folder, const struct guid *checkpoint,
                     err *e)
{
    l->folder = folder;
    l->loop = loop_new(e);
    return l->loop && (checkpoint ? gather_checkpoint(l, checkpoint, e) : gather_machine(l, e)) &&
           add_ini(l, checkpoint != NULL, e);
}

/* ---- the archive ---- */

static bool add_item(struct archive_writer *a, struct transfer_list *l,
                     const struct transfer_item *t, err *e)
{
    const struct archive_progress p = {transfer_tell, l};
    if (t->text)
        return archive_add_bytes(a, t->name, t->text, strlen(t->text), e);
    AUTO(fd) fd = open(t->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "%s cannot be opened", t->path);
    return archive_add_file(a, t->name, fd, &p, e) || err_prefix(e, "%s", t->path);
}

/* Texts first, of which export.ini is the last made: who reads knows what will come. */
static bool write_archive(int fd, struct transfer_list *l, err *e)
{
    AUTO(archive_writer) a = archive_writer_new(fd, e);
    bool ok = a && add_item(a, l, &l->item[l->n - 1], e);
    for (size_t i = 0; ok && i + 1 < l->n; i++)
        ok = !l->item[i].text || add_item(a, l, &l->item[i], e);
    for (size_t i = 0; ok && i < l->n; i++)
        ok = l->item[i].text || add_item(a, l, &l->item[i], e);
    return ok && archive_end(a, e) &&
           (fsync(fd) == 0 || err_errno(e, errno, "The file cannot be written"));
}

/* A file without a name, or where the file system has none such, with a hidden one (*tmp). */
static int open_target(const char *target, char **tmp, err *e)
{
    AUTO(str) folder = strdup(target);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (!folder)
        return no_memory(e) - 1;
    if (slash)
        slash[slash == folder] = 0;
    int fd = open(slash ? folder : ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    int n = slash ? asprintf(tmp, "%s/.%s.part", folder, target + (slash - folder) + 1)
                  : asprintf(tmp, ".%s.part", target);
    if (n < 0) {
        *tmp = NULL;
        return no_memory(e) - 1;
    }
    fd = open(*tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        err_errno(e, errno, "%s cannot be written", target);
    return fd;
}

static bool give_name(int fd, const char *target, bool replace, char **tmp, err *e)
{
    char self[40];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (!*tmp && !replace)
        return linkat(AT_FDCWD, self, AT_FDCWD, target, AT_SYMLINK_FOLLOW) == 0 ||
               err_errno(e, errno, "%s cannot be written", target);
    if (!*tmp) {
        if (asprintf(tmp, "%s.part", target) < 0) {
            *tmp = NULL;
            return no_memory(e);
        }
        unlink(*tmp);
        if (linkat(AT_FDCWD, self, AT_FDCWD, *tmp, AT_SYMLINK_FOLLOW) != 0)
            return err_errno(e, errno, "%s cannot be written", target);
    }
    return rename(*tmp, target) == 0 || err_errno(e, errno, "%s cannot be written", target);
}

bool transfer_export(const char *folder, const struct guid *checkpoint, const char *target,
                     bool replace, const struct transfer_progress *progress, err *e)
{
    struct transfer_list l = {.progress = progress};
    AUTO(str) tmp = NULL;
    char *part = NULL;
    if (!replace && storefs_is_there(target))
        return err_set(e, ERR_EXISTS, "%s is there already", target);
    AUTO(fd) fd = -1;
    bool ok = transfer_gather(&l, folder, checkpoint, e) &&
              (fd = open_target(target, &part, e)) >= 0 && write_archive(fd, &l, e) &&
              give_name(fd, target, replace, &part, e) && storefs_sync_parent(target, e);
    tmp = part;
    if (!ok && tmp)
        unlink(tmp);
    transfer_list_clear(&l);
    return ok || err_prefix(e, "The machine was not exported");
}
