/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checkpoints on disk: reading, naming, the tree. */
#include "core/machine/checkpoint-int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/keyfile.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"

enum { INI_VERSION = 1, INI_MAX = 64 * 1024 };

static const char *const kinds[] = {"standard", "production", "automatic"};

const char *checkpoint_kind_name(enum checkpoint_kind k)
{
    return kinds[k];
}

bool checkpoint_kind_parse(const char *name, enum checkpoint_kind *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++)
        if (!strcmp(name, kinds[i])) {
            *out = (enum checkpoint_kind)i;
            return true;
        }
    return false;
}

void checkpoint_clear(struct checkpoint *c)
{
    free(c->name);
    free(c->notes);
    *c = (struct checkpoint){0};
}

/* ---- paths ---- */

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for checkpoints");
}

char *checkpoint_path(const char *folder, const struct guid *id, const char *file, err *e)
{
    char text[GUID_STR_LEN + 1];
    char *path = NULL;
    guid_format(id, text);
    if (asprintf(&path, "%s/" CHECKPOINT_FOLDER "/%s%s%s", folder, text, file ? "/" : "",
                 file ? file : "") >= 0)
        return path;
    no_memory(e);
    return NULL;
}

char *checkpoint_states(const char *folder, err *e)
{
    char *path = NULL;
    if (asprintf(&path, "%s/" CHECKPOINT_STATES, folder) >= 0)
        return path;
    no_memory(e);
    return NULL;
}

char *checkpoint_state_path(const char *folder, const struct guid *id, const char *ending, err *e)
{
    char text[GUID_STR_LEN + 1];
    char *path = NULL;
    guid_format(id, text);
    if (asprintf(&path, "%s/" CHECKPOINT_STATES "/%s%s", folder, text, ending) >= 0)
        return path;
    no_memory(e);
    return NULL;
}

char *checkpoint_absolute(const char *folder, const char *path, err *e)
{
    char *out = NULL;
    if ((path[0] == '/' ? asprintf(&out, "%s", path) : asprintf(&out, "%s/%s", folder, path)) >= 0)
        return out;
    no_memory(e);
    return NULL;
}

/* ---- checkpoint.ini ---- */

static bool bad(const char *what, err *e)
{
    return err_set(e, ERR_CORRUPT, "A checkpoint's description is damaged: %s", what);
}

static bool get_id(const struct keyfile *k, const char *key, struct guid *out)
{
    const char *v = keyfile_get(k, "checkpoint", key);
    return !v || guid_parse(v, out);
}

static bool get_text(const struct keyfile *k, const char *key, size_t max, char **out)
{
    const char *v = keyfile_get(k, "checkpoint", key);
    if (!v || !*v)
        return true;
    *out = strlen(v) <= max ? strdup(v) : NULL;
    return *out != NULL;
}

static bool get_flag(const struct keyfile *k, const char *key)
{
    const char *v = keyfile_get(k, "checkpoint", key);
    return v && !strcmp(v, "true");
}

static bool check_version(const struct keyfile *k, err *e)
{
    const char *v = keyfile_get(k, "checkpoint", "version");
    char *end = NULL;
    unsigned long n = v ? strtoul(v, &end, 10) : 0;
    if (!v || end == v || *end || n < 1)
        return bad("its version", e);
    return n <= INI_VERSION ||
           err_set(e, ERR_UNSUPPORTED, "The checkpoint was written by a newer Vireo (version %lu)",
                   n);
}

bool checkpoint_parse(const char *text, size_t len, struct checkpoint *c, err *e)
{
    *c = (struct checkpoint){0};
    AUTO(keyfile) k = keyfile_parse(text, len, e);
    if (!k || !check_version(k, e))
        return false;
    const char *kind = keyfile_get(k, "checkpoint", "kind");
    const char *created = keyfile_get(k, "checkpoint", "created");
    bool ok = (kind && checkpoint_kind_parse(kind, &c->kind)) || bad("its kind", e);
    ok = ok && ((get_id(k, "id", &c->id) && !guid_is_zero(&c->id)) || bad("its id", e));
    ok = ok && (get_id(k, "parent", &c->parent) || bad("its parent", e));
    ok = ok &&
         ((get_text(k, "name", CHECKPOINT_MAX_NAME, &c->name) && c->name) || bad("its name", e));
    ok = ok && (get_text(k, "notes", CHECKPOINT_MAX_NOTES, &c->notes) || bad("its notes", e));
    c->created = created ? strtoll(created, NULL, 10) : 0;
    c->memory = get_flag(k, "memory");
    c->complete = get_flag(k, "complete");
    c->deleted = get_flag(k, "deleted");
    c->subtree = get_flag(k, "subtree");
    if (!ok)
        checkpoint_clear(c);
    return ok;
}

bool checkpoint_read(const char *folder, const struct guid *id, struct checkpoint *c, err *e)
{
    size_t len = 0;
    *c = (struct checkpoint){0};
    AUTO(str) path = checkpoint_path(folder, id, NULL, e);
    AUTO(fd) fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        return path && err_set(e, ERR_NOT_FOUND, "There is no such checkpoint");
    AUTO(str) text = storefs_read(fd, CHECKPOINT_INI, INI_MAX, &len, e);
    if (!text || !checkpoint_parse(text, len, c, e))
        return false;
    if (guid_equal(&c->id, id))
        return true;
    checkpoint_clear(c);
    return bad("it is another's", e);
}

bool checkpoint_readable(const char *folder, const struct guid *id, err *e)
{
    struct checkpoint c;
    if (!checkpoint_read(folder, id, &c, e))
        return false;
    checkpoint_clear(&c);
    return true;
}

static bool put_id(struct keyfile *k, const char *key, const struct guid *g, err *e)
{
    char text[GUID_STR_LEN + 1];
    guid_format(g, text);
    return guid_is_zero(g) || keyfile_set(k, "checkpoint", key, text, e);
}

static bool put_flag(struct keyfile *k, const char *key, bool on, err *e)
{
    return keyfile_set(k, "checkpoint", key, on ? "true" : "false", e);
}

static char *format(const struct checkpoint *c, err *e)
{
    AUTO(keyfile) k = keyfile_new(e);
    char created[32], version[16];
    snprintf(created, sizeof created, "%" PRId64, c->created);
    snprintf(version, sizeof version, "%d", INI_VERSION);
    if (!k || !keyfile_set(k, "checkpoint", "version", version, e) || !put_id(k, "id", &c->id, e) ||
        !put_id(k, "parent", &c->parent, e) ||
        !keyfile_set(k, "checkpoint", "name", c->name ? c->name : "", e) ||
        !keyfile_set(k, "checkpoint", "notes", c->notes ? c->notes : "", e) ||
        !keyfile_set(k, "checkpoint", "kind", kinds[c->kind], e) ||
        !keyfile_set(k, "checkpoint", "created", created, e) ||
        !put_flag(k, "memory", c->memory, e) || !put_flag(k, "complete", c->complete, e) ||
        !put_flag(k, "deleted", c->deleted, e) || !put_flag(k, "subtree", c->subtree, e))
        return NULL;
    return keyfile_format(k, e);
}

bool checkpoint_write(const char *folder, const struct checkpoint *c, err *e)
{
    AUTO(str) path = checkpoint_path(folder, &c->id, NULL, e);
    AUTO(str) text = path ? format(c, e) : NULL;
    if (!text)
        return false;
    AUTO(fd) fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "The checkpoint's folder %s cannot be opened", path);
    return storefs_write(fd, CHECKPOINT_INI, text, strlen(text), e);
}

struct vm_config *checkpoint_config(const char *folder, const struct guid *id, err *e)
{
    AUTO(str) path = checkpoint_path(folder, id, NULL, e);
    struct vm_config *c = path ? store_load_at(path, e) : NULL;
    if (!c)
        err_prefix(e, "The checkpoint cannot be read");
    return c;
}

bool checkpoint_update_config(const char *folder, const struct guid *id,
                              bool (*fn)(void *ctx, struct vm_config *c, err *e), void *ctx, err *e)
{
    AUTO(str) path = checkpoint_path(folder, id, NULL, e);
    return path && store_update_at(path, fn, ctx, e);
}

/* ---- all of them ---- */

static bool add_one(const char *folder, const char *name, struct checkpoint **list, size_t *n,
                    err *e)
{
    struct guid id;
    struct checkpoint c;
    err why = ERR_INIT;
    if (!guid_parse(name, &id) || *n == CHECKPOINT_MAX)
        return true;
    if (!checkpoint_read(folder, &id, &c, &why)) {
        if (why.code != ERR_NOT_FOUND)
            log_line(LOG_WARNING, "checkpoint", "%s: %s", name, why.text);
        return true;
    }
    struct checkpoint *p = reallocarray(*list, *n + 1, sizeof *p);
    if (!p) {
        checkpoint_clear(&c);
        return no_memory(e);
    }
    *list = p;
    p[(*n)++] = c;
    return true;
}

bool checkpoint_read_all(const char *folder, struct checkpoint **list, size_t *n, err *e)
{
    AUTO(str) path = NULL;
    *list = NULL;
    *n = 0;
    if (asprintf(&path, "%s/" CHECKPOINT_FOLDER, folder) < 0)
        return no_memory(e);
    DIR *d = opendir(path);
    if (!d)
        return errno == ENOENT || err_errno(e, errno, "The checkpoints in %s cannot be read", path);
    bool ok = true;
    for (struct dirent *de; ok && (de = readdir(d));)
        ok = add_one(folder, de->d_name, list, n, e);
    closedir(d);
    return ok;
}

struct checkpoint *checkpoint_by_id(struct checkpoint *list, size_t n, const struct guid *id)
{
    for (size_t i = 0; i < n; i++)
        if (guid_equal(&list[i].id, id))
            return &list[i];
    return NULL;
}

void checkpoint_resolve_id(struct checkpoint *list, size_t n, struct guid *id)
{
    for (size_t steps = 0; !guid_is_zero(id); steps++) {
        const struct checkpoint *p = checkpoint_by_id(list, n, id);
        if (p && !p->deleted && steps <= n)
            return;
        *id = p && steps <= n ? p->parent : (struct guid){{0}};
    }
}

void checkpoint_resolve(struct checkpoint *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct checkpoint *c = &list[i];
        for (size_t steps = 0; c && steps <= n && !list[i].deleted; steps++) {
            c = checkpoint_by_id(list, n, &c->parent);
            list[i].deleted |= c && c->deleted && c->subtree;
        }
    }
    for (size_t i = 0; i < n; i++)
        checkpoint_resolve_id(list, n, &list[i].parent);
}

static int by_age(const void *a, const void *b)
{
    const struct checkpoint *x = a, *y = b;
    return x->created < y->created ? -1 : x->created > y->created;
}

/* Those not yet placed whose parent is `parent`, each followed by its own; the depth is bounded by
 * their number because each is placed once. */
static void place(struct checkpoint *from, size_t n, bool *placed, const struct guid *parent,
                  struct checkpoint *to, size_t *at)
{
    for (size_t i = 0; i < n; i++)
        if (!placed[i] && guid_equal(&from[i].parent, parent)) {
            placed[i] = true;
            to[(*at)++] = from[i];
            place(from, n, placed, &from[i].id, to, at);
        }
}

static bool sort_tree(struct checkpoint_tree *t, err *e)
{
    static const struct guid none;
    size_t at = 0;
    AUTO(buf) placed_buf = calloc(t->n + 1, sizeof(bool));
    struct checkpoint *to = calloc(t->n + 1, sizeof *to);
    bool *placed = placed_buf;
    if (!placed || !to) {
        free(to);
        return no_memory(e);
    }
    if (t->n)
        qsort(t->list, t->n, sizeof *t->list, by_age);
    place(t->list, t->n, placed, &none, to, &at);
    for (size_t i = 0; i < t->n; i++) /* a ring of parents: broken where it is met */
        if (!placed[i]) {
            placed[i] = true;
            t->list[i].parent = none;
            to[at++] = t->list[i];
            place(t->list, t->n, placed, &t->list[i].id, to, &at);
        }
    free(t->list);
    t->list = to;
    return true;
}

bool checkpoint_tree_load(const char *folder, struct checkpoint_tree *out, err *e)
{
    *out = (struct checkpoint_tree){0};
    AUTO(vm_config) c = store_load_at(folder, e);
    struct checkpoint *list = NULL;
    size_t n = 0;
    bool ok = c && checkpoint_read_all(folder, &list, &n, e);
    if (ok) {
        out->current = c->checkpoint;
        out->saved = c->saved;
        checkpoint_resolve(list, n);
        checkpoint_resolve_id(list, n, &out->current);
    }
    for (size_t i = 0; i < n; i++)
        if (!ok || list[i].deleted || (!list[i].complete && !guid_equal(&list[i].id, &c->pending)))
            checkpoint_clear(&list[i]);
        else
            list[out->n++] = list[i];
    out->list = list;
    if (ok && sort_tree(out, e))
        return true;
    checkpoint_tree_clear(out);
    return false;
}

void checkpoint_tree_clear(struct checkpoint_tree *t)
{
    for (size_t i = 0; i < t->n; i++)
        checkpoint_clear(&t->list[i]);
    free(t->list);
    *t = (struct checkpoint_tree){0};
}

const struct checkpoint *checkpoint_find(const struct checkpoint_tree *t, const char *name_or_id,
                                         err *e)
{
    struct guid id;
    const struct checkpoint *hit = NULL;
    bool is_id = guid_parse(name_or_id, &id);
    for (size_t i = 0; i < t->n; i++) {
        if (is_id && guid_equal(&id, &t->list[i].id))
            return &t->list[i];
        if (strcmp(t->list[i].name, name_or_id) != 0)
            continue;
        if (hit) {
            err_set(e, ERR_EXISTS, "Several checkpoints are named \"%s\": give the id instead",
                    name_or_id);
            return NULL;
        }
        hit = &t->list[i];
    }
    if (!hit)
        err_set(e, ERR_NOT_FOUND, "There is no checkpoint \"%s\"", name_or_id);
    return hit;
}

/* ---- changes that are one file each ---- */

bool checkpoint_rename(const char *folder, const struct guid *id, const char *name, err *e)
{
    struct checkpoint c;
    if (!*name || strlen(name) > CHECKPOINT_MAX_NAME || strchr(name, '\n'))
        return err_set(e, ERR_INVALID, "A checkpoint's name is one line of at most %d bytes",
                       CHECKPOINT_MAX_NAME);
    if (!checkpoint_read(folder, id, &c, e))
        return false;
    free(c.name);
    c.name = strdup(name);
    bool ok = c.name ? checkpoint_write(folder, &c, e) : no_memory(e);
    checkpoint_clear(&c);
    return ok;
}

bool checkpoint_set_notes(const char *folder, const struct guid *id, const char *notes, err *e)
{
    struct checkpoint c;
    if (strlen(notes) > CHECKPOINT_MAX_NOTES)
        return err_set(e, ERR_INVALID, "Notes have at most %d bytes", CHECKPOINT_MAX_NOTES);
    if (!checkpoint_read(folder, id, &c, e))
        return false;
    free(c.notes);
    c.notes = *notes ? strdup(notes) : NULL;
    bool ok = checkpoint_write(folder, &c, e);
    checkpoint_clear(&c);
    return ok;
}

bool checkpoint_delete(const char *folder, const struct guid *id, bool subtree, err *e)
{
    struct checkpoint c;
    if (!checkpoint_read(folder, id, &c, e))
        return false;
    bool ok = c.complete || err_set(e, ERR_BUSY, "The checkpoint is still being made");
    if (ok && c.deleted)
        ok = err_set(e, ERR_NOT_FOUND, "There is no such checkpoint");
    c.deleted = true;
    c.subtree = subtree;
    ok = ok && checkpoint_write(folder, &c, e);
    checkpoint_clear(&c);
    return ok;
}
