/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checkpoints on disk: what nobody needs goes, layers that need not be apart are merged. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/checkpoint-int.h"
#include "core/machine/memfile.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"
#include "core/storage/disk-tool.h"

enum { MAX_LAYERS = 4096, CHAIN_LIMIT = 80, MERGE_ROUNDS = 2 * CHECKPOINT_MAX, FRESH_S = 60 };

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory to look after the checkpoints");
}

/* A layer's file: "NAME-xxxxxxxx.avhdx" or ".avhd". */
static bool is_layer_name(const char *name)
{
    const char *dot = strrchr(name, '.');
    if (!dot || (strcmp(dot, ".avhdx") != 0 && strcmp(dot, ".avhd") != 0) || dot - name < 9)
        return false;
    return dot[-9] == '-' && strspn(dot - 8, "0123456789abcdef") == 8;
}

/* ---- the checkpoints themselves ---- */

struct sweep {
    const char *folder;
    struct vm_config *now;
    struct checkpoint *list;
    size_t n;
    bool running;
    bool damaged; /* a checkpoint cannot be read: its disks are not known */
    /* layers */
    struct layer {
        char *path;
        size_t parent; /* SIZE_MAX: none */
        unsigned children;
        size_t child;
        bool needed; /* the contents, by a checkpoint or the present */
    } * layer;
    size_t nlayers;
    struct loop *loop;
};

static bool is_live(const struct sweep *s, const struct checkpoint *c)
{
    return !c->deleted && (c->complete || guid_equal(&c->id, &s->now->pending));
}

/* What the whole tree says of a checkpoint, its own description says from now on: its parent, or
 * that it goes with a subtree. The parent of one that goes stays: those below find the subtree by
 * it until they are marked, too. */
static bool settle_one(const char *folder, const struct checkpoint *c, err *e)
{
    struct checkpoint now;
    if (!checkpoint_read(folder, &c->id, &now, e))
        return false;
    bool same = c->deleted ? now.deleted : guid_equal(&now.parent, &c->parent);
    now.deleted = c->deleted;
    now.parent = c->deleted ? now.parent : c->parent;
    bool ok = same || checkpoint_write(folder, &now, e);
    checkpoint_clear(&now);
    return ok;
}

static bool set_current(void *ctx, struct vm_config *c, err *e)
{
    c->checkpoint = *(const struct guid *)ctx;
    return true;
}

/* Descriptions first, then folders: a cut leaves what the next sweep takes up. */
static bool settle_tree(struct sweep *s, err *e)
{
    struct guid current = s->now->checkpoint;
    checkpoint_resolve(s->list, s->n);
    checkpoint_resolve_id(s->list, s->n, &current);
    for (size_t i = 0; i < s->n; i++)
        if ((s->list[i].deleted || is_live(s, &s->list[i])) &&
            !settle_one(s->folder, &s->list[i], e))
            return false;
    if (!guid_equal(&current, &s->now->checkpoint) &&
        !store_update_at(s->folder, set_current, &current, e))
        return false;
    for (size_t i = 0; i < s->n; i++)
        if (!is_live(s, &s->list[i]))
            checkpoint_remove_folder(s->folder, &s->list[i].id);
    return true;
}

/* A folder without a description is what was left of one in the making; one with a damaged
 * description is somebody's loss already, and nothing may be taken from it. */
static bool look_at_folders(struct sweep *s, err *e)
{
    AUTO(str) path = NULL;
    if (asprintf(&path, "%s/" CHECKPOINT_FOLDER, s->folder) < 0)
        return no_memory(e);
    DIR *d = opendir(path);
    for (struct dirent *de; d && (de = readdir(d));) {
        struct guid id;
        if (!guid_parse(de->d_name, &id) || checkpoint_by_id(s->list, s->n, &id))
            continue;
        AUTO(str) ini = checkpoint_path(s->folder, &id, CHECKPOINT_INI, NULL);
        if (ini && !storefs_is_there(ini))
            checkpoint_remove_folder(s->folder, &id);
        else
            s->damaged = true;
    }
    if (d)
        closedir(d);
    return true;
}

/* ---- states ---- */

struct idset {
    struct guid *id;
    size_t n;
};

static bool idset_has(const struct idset *s, const struct guid *id)
{
    for (size_t i = 0; i < s->n; i++)
        if (guid_equal(&s->id[i], id))
            return true;
    return false;
}

static bool idset_add(struct idset *s, const struct guid *id)
{
    if (guid_is_zero(id) || idset_has(s, id))
        return true;
    struct guid *p = reallocarray(s->id, s->n + 1, sizeof *p);
    if (!p)
        return false;
    s->id = p;
    p[s->n++] = *id;
    return true;
}

static bool states_in_use(struct sweep *s, struct idset *own, struct idset *memory, err *e)
{
    AUTO(str) states = checkpoint_states(s->folder, e);
    if (!states)
        return false;
    bool ok = idset_add(own, &s->now->saved) && idset_add(own, &s->now->pending);
    for (size_t i = 0; ok && i < s->n; i++)
        if (is_live(s, &s->list[i]) && s->list[i].memory)
            ok = idset_add(own, &s->list[i].id);
    for (size_t i = 0; ok && i < own->n; i++)
        ok = idset_add(memory, &own->id[i]);
    for (size_t i = 0; ok && i < memory->n; i++) { /* grows on the way: those below */
        struct guid below = {{0}};
        err why = ERR_INIT;
        if (!memfile_read_parent(states, &memory->id[i], &below, &why)) {
            if (why.sys == ENOENT) /* one that is being written, or has no memory */
                continue;
            return err_set(e, ERR_CORRUPT, "%s", why.text);
        }
        ok = idset_add(memory, &below);
    }
    return ok || no_memory(e);
}

static void sweep_states(struct sweep *s)
{
    struct idset own = {0}, memory = {0};
    err why = ERR_INIT;
    AUTO(str) states = checkpoint_states(s->folder, NULL);
    DIR *d = states ? opendir(states) : NULL;
    bool known = d && !s->damaged && states_in_use(s, &own, &memory, &why);
    for (struct dirent *de; known && (de = readdir(d));) {
        char name[GUID_STR_LEN + 1];
        struct guid id;
        bool temporary = de->d_name[0] == '.' && strstr(de->d_name, ".new");
        snprintf(name, sizeof name, "%.*s", GUID_STR_LEN, de->d_name);
        if (!temporary && !guid_parse(name, &id))
            continue;
        const char *ending = de->d_name + (temporary ? 0 : GUID_STR_LEN);
        bool is_memory = !strcmp(ending, ".ram") || !strcmp(ending, ".map");
        if (temporary || !idset_has(is_memory ? &memory : &own, &id))
            unlinkat(dirfd(d), de->d_name, 0);
    }
    if (why.code != ERR_NONE)
        log_line(LOG_WARNING, "checkpoint", "old saved states are kept: %s", why.text);
    if (d)
        closedir(d);
    free(own.id);
    free(memory.id);
}

/* ---- layers ---- */

static size_t find_layer(const struct sweep *s, const char *path)
{
    for (size_t i = 0; i < s->nlayers; i++)
        if (!strcmp(s->layer[i].path, path))
            return i;
    return SIZE_MAX;
}

static size_t add_layer(struct sweep *s, const char *path)
{
    struct layer *p =
        s->nlayers < MAX_LAYERS ? reallocarray(s->layer, s->nlayers + 1, sizeof *p) : NULL;
    if (!p)
        return SIZE_MAX;
    s->layer = p;
    p[s->nlayers] = (struct layer){.path = strdup(path), .parent = SIZE_MAX, .child = SIZE_MAX};
    return p[s->nlayers].path ? s->nlayers++ : SIZE_MAX;
}

/* The name that the file has of its parent, where that is: a worker may not open what lies outside
 * of the folder, but it may look whether it is there. */
static char *named_parent(const char *path, const char *parent)
{
    char *full = NULL;
    const char *slash = strrchr(path, '/');
    if (!parent)
        return NULL;
    if (parent[0] == '/' || !slash)
        return realpath(parent, NULL);
    if (asprintf(&full, "%.*s/%s", (int)(slash - path), path, parent) < 0)
        return NULL;
    for (char *c = full; *c; c++)
        if (*c == '\\')
            *c = '/';
    char *real = realpath(full, NULL);
    free(full);
    return real;
}

bool checkpoint_layer_below(const char *path, struct loop *loop, char **out, err *e)
{
    struct disk_description d = {0};
    err why = ERR_INIT;
    *out = NULL;
    if (!disk_describe(path, loop, &d, &why)) {
        if (why.code == ERR_DENIED)
            return true;
        if (e)
            *e = why;
        return false;
    }
    bool ok = d.info.type != DISK_DIFFERENCING;
    if (!ok) {
        *out = d.parent_path ? realpath(d.parent_path, NULL) : named_parent(path, d.parent);
        ok = *out != NULL;
    }
    if (!ok)
        err_set(e, ERR_NOT_FOUND, "%s", d.problem[0] ? d.problem : "A parent is missing");
    disk_description_clear(&d);
    return ok;
}

static bool walk_chain(struct sweep *s, const char *path, err *e)
{
    char real[PATH_MAX];
    size_t child = SIZE_MAX;
    if (!realpath(path, real))
        return err_errno(e, errno, "%s cannot be found", path);
    AUTO(str) at = strdup(real);
    for (unsigned depth = 0; at && depth < CHAIN_LIMIT; depth++) {
        size_t i = find_layer(s, at);
        bool known = i != SIZE_MAX;
        if (!known && (i = add_layer(s, at)) == SIZE_MAX)
            return no_memory(e);
        if (depth == 0)
            s->layer[i].needed = true;
        if (child != SIZE_MAX && s->layer[child].parent == SIZE_MAX) {
            s->layer[child].parent = i;
            s->layer[i].children++;
            s->layer[i].child = child;
        }
        if (known)
            return true;
        char *next = NULL;
        if (!checkpoint_layer_below(at, s->loop, &next, e))
            return false;
        free(at);
        at = next;
        child = i;
    }
    return true;
}

static bool walk_config(struct sweep *s, const struct vm_config *c, err *e)
{
    for (uint32_t i = 0; i < c->n_disks; i++) {
        const struct vm_disk *d = &c->disks[i];
        if (d->media != VM_MEDIA_DISK || !d->path)
            continue;
        AUTO(str) path = checkpoint_absolute(s->folder, d->path, e);
        if (!path || !walk_chain(s, path, e))
            return false;
    }
    return true;
}

static bool walk_all(struct sweep *s, err *e)
{
    if (!walk_config(s, s->now, e))
        return false;
    for (size_t i = 0; i < s->n; i++) {
        if (!is_live(s, &s->list[i]))
            continue;
        AUTO(vm_config) c = checkpoint_config(s->folder, &s->list[i].id, e);
        if (!c || !walk_config(s, c, e))
            return false;
    }
    return true;
}

static void remove_unneeded(struct sweep *s)
{
    DIR *d = opendir(s->folder);
    for (struct dirent *de; d && (de = readdir(d));) {
        if (!is_layer_name(de->d_name))
            continue;
        AUTO(str) path = checkpoint_absolute(s->folder, de->d_name, NULL);
        char real[PATH_MAX];
        struct stat st;
        if (s->running && (!path || stat(path, &st) != 0 || st.st_mtime + FRESH_S > time(NULL)))
            continue;
        if (path && realpath(path, real) && find_layer(s, real) == SIZE_MAX)
            unlinkat(dirfd(d), de->d_name, 0);
    }
    if (d)
        closedir(d);
}

/* Whether the file is a layer that a checkpoint of this machine made. */
static bool is_ours(const struct sweep *s, const char *path)
{
    char real[PATH_MAX];
    const char *slash = strrchr(path, '/');
    return realpath(s->folder, real) && slash && strlen(real) == (size_t)(slash - path) &&
           !strncmp(real, path, (size_t)(slash - path)) && is_layer_name(slash + 1);
}

static bool plan_merges(struct sweep *s, struct checkpoint_plan *out, err *e)
{
    for (size_t i = 0; i < s->nlayers; i++) {
        const struct layer *l = &s->layer[i];
        if (l->needed || l->children != 1 || !is_ours(s, s->layer[l->child].path))
            continue;
        struct checkpoint_merge *p = reallocarray(out->merges, out->n + 1, sizeof *p);
        if (!p)
            return no_memory(e);
        out->merges = p;
        p[out->n] = (struct checkpoint_merge){strdup(l->path), strdup(s->layer[l->child].path)};
        if (!p[out->n].lower || !p[out->n++].upper)
            return no_memory(e);
    }
    return true;
}

static bool sweep_layers(struct sweep *s, struct checkpoint_plan *out, err *e)
{
    err why = ERR_INIT;
    s->loop = loop_new(e);
    if (!s->loop)
        return false;
    bool known = walk_all(s, &why);
    if (!known)
        log_line(LOG_WARNING, "checkpoint", "old layers of disks are kept: %s", why.text);
    else
        remove_unneeded(s);
    return !known || plan_merges(s, out, e);
}

/* ---- all ---- */

void checkpoint_plan_clear(struct checkpoint_plan *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->merges[i].lower);
        free(p->merges[i].upper);
    }
    free(p->merges);
    *p = (struct checkpoint_plan){0};
}

static void sweep_end(struct sweep *s)
{
    for (size_t i = 0; i < s->n; i++)
        checkpoint_clear(&s->list[i]);
    for (size_t i = 0; i < s->nlayers; i++)
        free(s->layer[i].path);
    free(s->list);
    free(s->layer);
    vm_config_free(s->now);
    if (s->loop)
        loop_free(s->loop);
}

bool checkpoint_sweep(const char *folder, bool running, struct checkpoint_plan *out, err *e)
{
    struct sweep s = {.folder = folder, .now = store_load_at(folder, e), .running = running};
    *out = (struct checkpoint_plan){0};
    bool ok = s.now && checkpoint_read_all(folder, &s.list, &s.n, e) && look_at_folders(&s, e) &&
              settle_tree(&s, e);
    if (ok)
        sweep_states(&s);
    ok = ok && (s.damaged || sweep_layers(&s, out, e));
    if (!ok)
        checkpoint_plan_clear(out);
    sweep_end(&s);
    return ok;
}

/* ---- merging ---- */

struct retarget {
    const char *folder;
    const struct checkpoint_merge *m;
    bool found;
};

/* As short as it can be: relative where it lies in the folder. */
static const char *name_for(const char *folder, const char *path)
{
    char real[PATH_MAX];
    size_t len = realpath(folder, real) ? strlen(real) : 0;
    return len && !strncmp(path, real, len) && path[len] == '/' ? path + len + 1 : path;
}

static bool same_file(const char *folder, const char *name, const char *path)
{
    char real[PATH_MAX];
    AUTO(str) full = checkpoint_absolute(folder, name, NULL);
    return full && realpath(full, real) && !strcmp(real, path);
}

static bool retarget(void *ctx, struct vm_config *c, err *e)
{
    struct retarget *r = ctx;
    for (uint32_t i = 0; i < c->n_disks; i++)
        if (c->disks[i].path && same_file(r->folder, c->disks[i].path, r->m->upper)) {
            r->found = true;
            if (!vm_config_string(&c->disks[i].path, name_for(r->folder, r->m->lower), e))
                return false;
        }
    return true;
}

static bool retarget_configs(struct retarget *r, err *e)
{
    struct checkpoint *list = NULL;
    size_t n = 0;
    bool ok =
        store_update_at(r->folder, retarget, r, e) && checkpoint_read_all(r->folder, &list, &n, e);
    for (size_t i = 0; ok && i < n; i++)
        ok = checkpoint_update_config(r->folder, &list[i].id, retarget, r, e);
    for (size_t i = 0; i < n; i++)
        checkpoint_clear(&list[i]);
    free(list);
    return ok;
}

/* The layers that lie on `upper` come to lie on `lower`, which now has its identity. */
static bool reparent_layers(const char *folder, const struct checkpoint_merge *m, err *e)
{
    struct sweep s = {.folder = folder, .loop = loop_new(e)};
    if (!s.loop)
        return false;
    const char *dot = strrchr(m->upper, '.');
    bool vhd = dot && !strcmp(dot, ".avhd"); /* keeps its own identity when it is merged into */
    DIR *d = opendir(folder);
    bool ok = true;
    for (struct dirent *de; ok && d && (de = readdir(d));) {
        if (!is_layer_name(de->d_name))
            continue;
        AUTO(str) path = checkpoint_absolute(folder, de->d_name, e);
        AUTO(str) parent = NULL;
        char *below = NULL;
        if (!path || !checkpoint_layer_below(path, s.loop, &below, NULL))
            continue;
        parent = below;
        if (parent && !strcmp(parent, m->upper))
            ok = disk_reparent(path, m->lower, vhd, s.loop, e);
    }
    if (d)
        closedir(d);
    sweep_end(&s);
    return ok;
}

bool checkpoint_retarget(const char *folder, const struct checkpoint_merge *m, err *e)
{
    struct retarget r = {folder, m, false};
    return retarget_configs(&r, e);
}

bool checkpoint_merged(const char *folder, const struct checkpoint_merge *m, err *e)
{
    return reparent_layers(folder, m, e) && checkpoint_retarget(folder, m, e) &&
           (unlink(m->upper) == 0 || errno == ENOENT ||
            err_errno(e, errno, "%s cannot be removed", m->upper));
}

struct telling {
    bool (*fn)(void *ctx, const char *file, double fraction);
    void *ctx;
    const char *file;
};

static bool tell(void *ctx, uint64_t done, uint64_t total)
{
    struct telling *t = ctx;
    return !t->fn || t->fn(t->ctx, t->file, total ? (double)done / (double)total : 0);
}

bool checkpoint_merge_one(const char *folder, const struct checkpoint_merge *m,
                          bool (*progress)(void *ctx, const char *file, double fraction), void *ctx,
                          err *e)
{
    struct telling t = {progress, ctx, m->upper};
    struct disk_progress p = {tell, &t};
    struct loop *loop = loop_new(e);
    bool ok = loop && disk_merge_into_parent(m->upper, true, loop, &p, e);
    if (loop)
        loop_free(loop);
    return ok && checkpoint_merged(folder, m, e);
}

bool checkpoint_merge_off(const char *folder,
                          bool (*progress)(void *ctx, const char *file, double fraction), void *ctx,
                          err *e)
{
    for (unsigned round = 0; round < MERGE_ROUNDS; round++) {
        struct checkpoint_plan plan;
        if (!checkpoint_sweep(folder, false, &plan, e))
            return false;
        bool more = plan.n > 0;
        bool ok = !more || checkpoint_merge_one(folder, &plan.merges[0], progress, ctx, e);
        checkpoint_plan_clear(&plan);
        if (!ok || !more)
            return ok;
    }
    return true;
}
