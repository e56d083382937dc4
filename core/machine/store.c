/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/machine/keyfile.h"
#include "core/machine/storefs.h"

struct store {
    char *root;
};

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for the list of machines");
}

/* ---- opening ---- */

static char *default_root(err *e)
{
    const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char *root = NULL;
    int n = -1;
    if (data && *data == '/')
        n = asprintf(&root, "%s/vireo", data);
    else if (home && *home == '/')
        n = asprintf(&root, "%s/.local/share/vireo", home);
    else {
        err_set(e, ERR_NOT_FOUND, "There is no home folder to keep virtual machines in");
        return NULL;
    }
    if (n < 0) {
        no_memory(e);
        return NULL;
    }
    return root;
}

struct store *store_open(const char *root, err *e)
{
    AUTO(str) path = root ? strdup(root) : default_root(e);
    if (!path || !storefs_make_folders(path, e))
        return NULL;
    struct store *s = malloc(sizeof *s);
    if (!s) {
        no_memory(e);
        return NULL;
    }
    s->root = TAKE(path);
    store_sweep(s);
    return s;
}

void store_close(struct store *s)
{
    if (s)
        free(s->root);
    free(s);
}

const char *store_root(const struct store *s)
{
    return s->root;
}

static char *folder_path(const struct store *s, const char *folder, const char *file, err *e)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s%s%s", s->root, folder, file ? "/" : "", file ? file : "") < 0) {
        no_memory(e);
        return NULL;
    }
    return path;
}

char *store_path(const struct store *s, const struct guid *id, const char *file, err *e)
{
    char name[GUID_STR_LEN + 1];
    guid_format(id, name);
    return folder_path(s, name, file, e);
}

static int open_folder(const struct store *s, const char *folder, err *e)
{
    AUTO(str) path = folder_path(s, folder, NULL, e);
    if (!path)
        return -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && storefs_is_link(path))
        err_set(e, ERR_NOT_FOUND,
                "Its folder is on a disk that is not connected, or was moved away");
    else if (fd < 0 && errno == ENOENT)
        err_set(e, ERR_NOT_FOUND, "There is no such machine");
    else if (fd < 0)
        err_errno(e, errno, "Its folder %s cannot be opened", path);
    return fd;
}

/* ---- reading ---- */

static struct vm_config *read_config(int folder, err *e)
{
    size_t len = 0;
    AUTO(str) text = storefs_read(folder, STORE_CONFIG_NAME, KEYFILE_MAX_BYTES, &len, e);
    if (!text)
        return NULL;
    struct vm_config *c = vm_config_parse(text, len, e);
    if (!c)
        err_prefix(e, "Its configuration (%s) is damaged", STORE_CONFIG_NAME);
    return c;
}

static struct vm_config *load_folder(const struct store *s, const char *folder, err *e)
{
    struct guid id;
    AUTO(fd) fd = open_folder(s, folder, e);
    AUTO(vm_config) c = fd < 0 ? NULL : read_config(fd, e);
    if (!c)
        return NULL;
    if (!guid_parse(folder, &id) || !guid_equal(&id, &c->id)) {
        err_set(e, ERR_CORRUPT,
                "Its folder's name is not the id in its configuration: it is a copy; import it "
                "instead");
        return NULL;
    }
    return TAKE(c);
}

struct vm_config *store_load(const struct store *s, const struct guid *id, err *e)
{
    char name[GUID_STR_LEN + 1];
    guid_format(id, name);
    struct vm_config *c = load_folder(s, name, e);
    if (!c)
        err_prefix(e, "The virtual machine %s cannot be read", name);
    return c;
}

static bool add_entry(const struct store *s, struct store_list *l, const char *folder, err *e)
{
    struct store_entry *p = reallocarray(l->entries, l->n + 1, sizeof *p);
    if (!p)
        return no_memory(e);
    l->entries = p;
    struct store_entry *en = &p[l->n];
    *en = (struct store_entry){.folder = strdup(folder)};
    if (!en->folder)
        return no_memory(e);
    l->n++;
    err why = ERR_INIT;
    if (!guid_parse(folder, &en->id))
        memset(&en->id, 0, sizeof en->id);
    en->config = load_folder(s, folder, &why);
    if (!en->config && !(en->problem = strdup(why.text)))
        return no_memory(e);
    return true;
}

/* Folders that may be machines: not hidden, a folder or a link, and named by an id or holding a
 * configuration. */
static bool is_candidate(DIR *d, const struct dirent *de)
{
    struct guid id;
    char inside[NAME_MAX + sizeof STORE_CONFIG_NAME + 2];
    if (de->d_name[0] == '.')
        return false;
    if (de->d_type != DT_DIR && de->d_type != DT_LNK && de->d_type != DT_UNKNOWN)
        return false;
    if (guid_parse(de->d_name, &id)) {
        struct stat st; /* a disposable one that is over is nobody's loss */
        char marker[NAME_MAX + sizeof STORE_DISPOSABLE_NAME + 2];
        snprintf(marker, sizeof marker, "%s/" STORE_DISPOSABLE_NAME, de->d_name);
        snprintf(inside, sizeof inside, "%s/" STORE_CONFIG_NAME, de->d_name);
        return fstatat(dirfd(d), marker, &st, 0) != 0 || fstatat(dirfd(d), inside, &st, 0) == 0;
    }
    snprintf(inside, sizeof inside, "%s/" STORE_CONFIG_NAME, de->d_name);
    return faccessat(dirfd(d), inside, F_OK, 0) == 0;
}

static int compare_entries(const void *a, const void *b)
{
    const struct store_entry *x = a, *y = b;
    if (!x->config != !y->config)
        return x->config ? -1 : 1;
    int c = x->config ? strcasecmp(x->config->name, y->config->name) : 0;
    return c ? c : strcmp(x->folder, y->folder);
}

bool store_list(const struct store *s, struct store_list *out, err *e)
{
    *out = (struct store_list){0};
    DIR *d = opendir(s->root);
    if (!d)
        return err_errno(e, errno, "The folder of virtual machines %s cannot be read", s->root);
    bool ok = true;
    for (struct dirent *de; ok && (de = readdir(d));)
        ok = !is_candidate(d, de) || add_entry(s, out, de->d_name, e);
    closedir(d);
    if (!ok)
        store_list_clear(out);
    else if (out->n)
        qsort(out->entries, out->n, sizeof *out->entries, compare_entries);
    return ok;
}

void store_list_clear(struct store_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->entries[i].folder);
        free(l->entries[i].problem);
        vm_config_free(l->entries[i].config);
    }
    free(l->entries);
    *l = (struct store_list){0};
}

bool store_find(const struct store *s, const char *name_or_id, struct guid *out, err *e)
{
    struct store_list l;
    unsigned found = 0;
    if (!store_list(s, &l, e))
        return false;
    struct guid id, hit = {{0}};
    bool is_id = guid_parse(name_or_id, &id);
    for (size_t i = 0; i < l.n; i++) {
        bool same = is_id && guid_equal(&l.entries[i].id, &id);
        if (same || (l.entries[i].config && !strcmp(l.entries[i].config->name, name_or_id))) {
            hit = l.entries[i].id;
            found++;
        }
        if (same) {
            found = 1;
            break;
        }
    }
    store_list_clear(&l);
    if (!found)
        return err_set(e, ERR_NOT_FOUND, "There is no virtual machine \"%.100s\"", name_or_id);
    if (found > 1)
        return err_set(e, ERR_EXISTS,
                       "%u virtual machines are called \"%.100s\"; name one by its id", found,
                       name_or_id);
    *out = hit;
    return true;
}

/* ---- writing ---- */

static bool write_config(int folder, const struct vm_config *c, err *e)
{
    AUTO(str) text = vm_config_format(c, e);
    return text && storefs_write(folder, STORE_CONFIG_NAME, text, strlen(text), e);
}

static void complete(struct vm_config *c)
{
    if (guid_is_zero(&c->id))
        guid_random(&c->id);
    if (!c->created)
        c->created = (uint64_t)time(NULL);
    for (uint32_t i = 0; i < c->n_adapters; i++)
        if (!memcmp(&c->adapters[i].mac, &(struct vm_mac){{0}}, sizeof(struct vm_mac)))
            vm_mac_random(&c->adapters[i].mac);
}

/* A folder with the configuration in it, complete before it gets its name `path`. */
static bool make_machine_folder(const char *path, const struct vm_config *c, err *e)
{
    AUTO(str) tmp = NULL;
    if (asprintf(&tmp, "%s.new", path) < 0)
        return no_memory(e);
    if (mkdir(tmp, 0700) != 0)
        return err_errno(e, errno, "The folder %s cannot be made", tmp);
    AUTO(fd) fd = open(tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 || err_errno(e, errno, "The folder %s cannot be opened", tmp);
    ok = ok && write_config(fd, c, e);
    /* RENAME_NOREPLACE is not on every file system; an empty folder of that name is no loss. */
    if (ok && rename(tmp, path) != 0)
        ok = err_errno(e, errno, "The folder %s cannot be made", path);
    if (!ok)
        storefs_remove(AT_FDCWD, tmp, NULL);
    return ok && storefs_sync_parent(path, e);
}

/* A folder's name from a machine's: no slash, no dot first. */
static void folder_name(const char *name, char *out, size_t size)
{
    snprintf(out, size, "%s", name);
    for (char *p = out; *p; p++)
        if (*p == '/')
            *p = '-';
    if (out[0] == '.')
        out[0] = '_';
}

char *store_place(const char *place, const char *name, err *e)
{
    char base[VM_MAX_NAME + 1], *path = NULL;
    folder_name(name, base, sizeof base);
    if (*place != '/')
        err_set(e, ERR_INVALID, "The place for the machine must be a full path");
    else if (asprintf(&path, "%s/%s", place, base) < 0)
        path = NULL;
    if (!path && *place == '/')
        no_memory(e);
    return path;
}

static bool create_elsewhere(const struct store *s, const struct vm_config *c, const char *place,
                             err *e)
{
    AUTO(str) path = store_place(place, c->name, e);
    if (!path)
        return false;
    if (access(path, F_OK) == 0)
        return err_set(e, ERR_EXISTS, "%s is there already", path);
    AUTO(str) link = store_path(s, &c->id, NULL, e);
    if (!link || !make_machine_folder(path, c, e))
        return false;
    if (symlink(path, link) == 0)
        return true;
    err_errno(e, errno, "The machine cannot be entered in %s", s->root);
    storefs_remove(AT_FDCWD, path, NULL);
    return false;
}

bool store_create(const struct store *s, struct vm_config *c, const char *place, err *e)
{
    complete(c);
    if (!vm_config_check(c, e))
        return false;
    AUTO(str) path = store_path(s, &c->id, NULL, e);
    if (!path)
        return false;
    if (storefs_is_there(path))
        return err_set(e, ERR_EXISTS, "A virtual machine with this id is there already");
    bool ok = place ? create_elsewhere(s, c, place, e) : make_machine_folder(path, c, e);
    return ok || err_prefix(e, "The virtual machine \"%s\" was not created", c->name);
}

/* The folder's descriptor with the configuration lock; -1 on error. */
static int lock_config(const struct store *s, const char *folder, err *e)
{
    int fd = open_folder(s, folder, e);
    if (fd < 0)
        return -1;
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR) {
            err_errno(e, errno, "The configuration cannot be locked");
            close(fd);
            return -1;
        }
    return fd;
}

bool store_save(const struct store *s, const struct vm_config *c, err *e)
{
    char name[GUID_STR_LEN + 1];
    guid_format(&c->id, name);
    if (!vm_config_check(c, e))
        return false;
    AUTO(fd) fd = lock_config(s, name, e);
    return (fd >= 0 && write_config(fd, c, e)) ||
           err_prefix(e, "The settings of \"%s\" were not saved", c->name);
}

bool store_update(const struct store *s, const struct guid *id,
                  bool (*fn)(void *ctx, struct vm_config *c, err *e), void *ctx, err *e)
{
    char name[GUID_STR_LEN + 1];
    guid_format(id, name);
    AUTO(fd) fd = lock_config(s, name, e);
    AUTO(vm_config) c = fd < 0 ? NULL : read_config(fd, e);
    if (!c || !fn(ctx, c, e) || !vm_config_check(c, e))
        return false;
    return write_config(fd, c, e) ||
           err_prefix(e, "The settings of \"%s\" were not saved", c->name);
}

/* ---- by path ---- */

struct store_change {
    int folder; /* holds the configuration lock */
};
#define CHANGE_NAME ".machine.ini.next"

static int open_at(const char *folder, err *e)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        err_errno(e, errno, "The machine's folder %s cannot be opened", folder);
    return fd;
}

struct vm_config *store_load_at(const char *folder, err *e)
{
    AUTO(fd) fd = open_at(folder, e);
    return fd < 0 ? NULL : read_config(fd, e);
}

struct store_change *store_change_begin(const char *folder,
                                        bool (*fn)(void *ctx, struct vm_config *c, err *e),
                                        void *ctx, err *e)
{
    AUTO(fd) fd = open_at(folder, e);
    if (fd < 0)
        return NULL;
    while (flock(fd, LOCK_EX) != 0)
        if (errno != EINTR) {
            err_errno(e, errno, "The configuration cannot be locked");
            return NULL;
        }
    AUTO(vm_config) c = read_config(fd, e);
    AUTO(str) text = c && fn(ctx, c, e) && vm_config_check(c, e) ? vm_config_format(c, e) : NULL;
    struct store_change *ch = text ? malloc(sizeof *ch) : NULL;
    if (text && !ch)
        no_memory(e);
    if (!ch || !storefs_write(fd, CHANGE_NAME, text, strlen(text), e)) {
        free(ch);
        return NULL;
    }
    ch->folder = TAKE_FD(fd);
    return ch;
}

bool store_change_commit(struct store_change *ch, err *e)
{
    bool ok = renameat(ch->folder, CHANGE_NAME, ch->folder, STORE_CONFIG_NAME) == 0 &&
              fsync(ch->folder) == 0;
    if (!ok)
        err_errno(e, errno, "The machine's configuration cannot be written");
    close(ch->folder);
    free(ch);
    return ok;
}

void store_change_abort(struct store_change *ch)
{
    if (!ch)
        return;
    unlinkat(ch->folder, CHANGE_NAME, 0);
    close(ch->folder);
    free(ch);
}

bool store_update_at(const char *folder, bool (*fn)(void *ctx, struct vm_config *c, err *e),
                     void *ctx, err *e)
{
    struct store_change *ch = store_change_begin(folder, fn, ctx, e);
    return ch && store_change_commit(ch, e);
}

static bool set_name(void *ctx, struct vm_config *c, err *e)
{
    return vm_config_set(c, "machine.name", ctx, e);
}

bool store_rename(const struct store *s, const struct guid *id, const char *name, err *e)
{
    return store_update(s, id, set_name, (void *)(uintptr_t)name, e);
}

/* ---- locks ---- */

static int lock_in(int folder, err *e)
{
    AUTO(fd) fd = openat(folder, STORE_LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        err_errno(e, errno, "The machine cannot be locked");
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return TAKE_FD(fd);
    if (errno == EWOULDBLOCK)
        err_set(e, ERR_BUSY, "The machine is running");
    else
        err_errno(e, errno, "The machine cannot be locked");
    return -1;
}

int store_lock(const struct store *s, const struct guid *id, err *e)
{
    char name[GUID_STR_LEN + 1];
    guid_format(id, name);
    AUTO(fd) folder = open_folder(s, name, e);
    return folder < 0 ? -1 : lock_in(folder, e);
}

int store_lock_at(const char *folder, err *e)
{
    AUTO(fd) fd = open_at(folder, e);
    return fd < 0 ? -1 : lock_in(fd, e);
}

bool store_is_locked(const struct store *s, const struct guid *id)
{
    AUTO(str) path = store_path(s, id, STORE_LOCK_NAME, NULL);
    AUTO(fd) fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

/* ---- leaving and joining ---- */

static bool remove_machine(const char *path, const char *target, unsigned flags, err *e)
{
    if ((flags & STORE_DELETE_TO_BIN) && storefs_to_bin(target, NULL))
        return true;
    /* Out of sight in one step; what a crash leaves is swept by its hidden name. */
    AUTO(str) gone = NULL;
    const char *base = strrchr(target, '/') + 1;
    if (asprintf(&gone, "%.*s.gone-%s", (int)(base - target), target, base) < 0)
        return no_memory(e);
    if (rename(target, gone) != 0)
        return err_errno(e, errno, "%s cannot be removed", target);
    return storefs_remove(AT_FDCWD, gone, e);
}

bool store_delete(const struct store *s, const char *folder, unsigned flags, err *e)
{
    if (!*folder || folder[0] == '.' || strchr(folder, '/'))
        return err_set(e, ERR_INVALID, "\"%.60s\" is not a machine's folder", folder);
    AUTO(str) path = folder_path(s, folder, NULL, e);
    if (!path)
        return false;
    char real[PATH_MAX];
    bool linked = storefs_is_link(path);
    if (!realpath(path, real)) {
        if (linked && errno == ENOENT) /* its disk is gone: only the entry can go */
            return unlink(path) == 0 || err_errno(e, errno, "%s cannot be removed", path);
        return err_errno(e, errno, "%s cannot be removed", path);
    }
    AUTO(fd) fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO(fd) lock = fd < 0 ? -1 : lock_in(fd, e);
    if (lock < 0)
        return fd < 0 ? err_errno(e, errno, "%s cannot be opened", path) : false;
    if (linked && unlink(path) != 0)
        return err_errno(e, errno, "%s cannot be removed", path);
    return remove_machine(path, real, flags, e);
}

bool store_register(const struct store *s, const char *path, struct guid *out, err *e)
{
    char real[PATH_MAX];
    if (!realpath(path, real))
        return err_errno(e, errno, "%s cannot be opened", path);
    AUTO(fd) fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "%s cannot be opened", real);
    AUTO(vm_config) c = read_config(fd, e);
    AUTO(str) link = c ? store_path(s, &c->id, NULL, e) : NULL;
    if (!link)
        return false;
    if (symlink(real, link) != 0)
        return errno == EEXIST
                   ? err_set(e, ERR_EXISTS, "\"%s\" is in the library already", c->name)
                   : err_errno(e, errno, "The machine cannot be entered in %s", s->root);
    *out = c->id;
    return true;
}
