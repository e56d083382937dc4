/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checkpoints on disk: making, applying, saved states, and what a crash left. */
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
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/base/state.h"
#include "core/machine/checkpoint-int.h"
#include "core/machine/memfile.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"
#include "core/storage/disk-tool.h"

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for checkpoints");
}

/* ---- making ---- */

static bool put_config(const char *folder, const struct guid *id, const struct vm_config *settings,
                       err *e)
{
    AUTO(str) path = checkpoint_path(folder, id, NULL, e);
    AUTO(vm_config) c = path ? vm_config_copy(settings, e) : NULL;
    if (!c)
        return false;
    c->saved = c->checkpoint = c->pending = (struct guid){{0}};
    AUTO(str) text = vm_config_format(c, e);
    if (!text || !storefs_make_folders(path, e))
        return false;
    AUTO(fd) fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "The checkpoint's folder %s cannot be opened", path);
    return storefs_write(fd, STORE_CONFIG_NAME, text, strlen(text), e) &&
           storefs_sync_parent(path, e);
}

static bool default_name(struct checkpoint *c, err *e)
{
    char text[64];
    struct tm tm;
    time_t t = (time_t)(c->created / 1000000);
    if (c->name)
        return true;
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
    c->name = strdup(text);
    return c->name || no_memory(e);
}

bool checkpoint_begin(const char *folder, struct checkpoint *c, const struct vm_config *settings,
                      err *e)
{
    struct checkpoint_tree t;
    struct timespec now;
    if (!checkpoint_tree_load(folder, &t, e))
        return false;
    c->parent = t.current;
    bool full = t.n >= CHECKPOINT_MAX;
    checkpoint_tree_clear(&t);
    if (full)
        return err_set(e, ERR_NO_SPACE, "A machine has at most %d checkpoints", CHECKPOINT_MAX);
    if (c->name && (!*c->name || strlen(c->name) > CHECKPOINT_MAX_NAME || strchr(c->name, '\n')))
        return err_set(e, ERR_INVALID, "A checkpoint's name is one line of at most %d bytes",
                       CHECKPOINT_MAX_NAME);
    guid_random(&c->id);
    clock_gettime(CLOCK_REALTIME, &now);
    c->created = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
    c->complete = c->deleted = false;
    AUTO(str) states = checkpoint_states(folder, e);
    if (states && storefs_make_folders(states, e) && default_name(c, e) &&
        put_config(folder, &c->id, settings, e) && checkpoint_write(folder, c, e))
        return true;
    checkpoint_abandon(folder, &c->id);
    return false;
}

char *checkpoint_leaf_name(const char *disk_path, const struct guid *checkpoint, unsigned index,
                           err *e)
{
    const char *base = strrchr(disk_path, '/') ? strrchr(disk_path, '/') + 1 : disk_path;
    const char *dot = strrchr(base, '.');
    bool vhd = dot && (!strcasecmp(dot, ".vhd") || !strcasecmp(dot, ".avhd"));
    int len = dot ? (int)(dot - base) : (int)strlen(base);
    /* Without what an earlier checkpoint added. */
    const char *dash = len > 9 ? base + len - 9 : NULL;
    if (dash && *dash == '-' && strspn(dash + 1, "0123456789abcdef") == 8)
        len -= 9;
    len = len > 100 ? 100 : len;
    const uint8_t *b = checkpoint->b;
    char *name = NULL;
    if (asprintf(&name, "%.*s-%02x%02x%02x%02x.%s", len, base, b[0], b[1], b[2],
                 (unsigned)(b[4] ^ index) & 0xff, vhd ? "avhd" : "avhdx") >= 0)
        return name;
    no_memory(e);
    return NULL;
}

struct change {
    const struct checkpoint *c;
    const struct vm_config *settings;
    const struct checkpoint_leaf *leaves;
    unsigned n;
};

/* Disks that came while it ran belong to the machine from now on: their layers must be named. */
static bool add_missing(struct vm_config *c, const struct vm_config *settings, err *e)
{
    for (uint32_t i = 0; i < settings->n_disks; i++) {
        const struct vm_disk *d = &settings->disks[i];
        bool there = false;
        for (uint32_t k = 0; k < c->n_disks; k++)
            there |= c->disks[k].bus == d->bus && c->disks[k].slot == d->slot;
        if (there)
            continue;
        struct vm_disk *add = vm_config_add_disk(c, d->bus, d->media, d->path, e);
        if (!add)
            return false;
        add->slot = d->slot;
        add->read_only = d->read_only;
    }
    return true;
}

static bool set_leaves(struct vm_config *c, const struct checkpoint_leaf *leaves, unsigned n,
                       err *e)
{
    for (unsigned k = 0; k < n; k++)
        for (uint32_t i = 0; i < c->n_disks; i++)
            if (c->disks[i].bus == leaves[k].bus && c->disks[i].slot == leaves[k].slot &&
                !vm_config_string(&c->disks[i].path, leaves[k].path, e))
                return false;
    return true;
}

static bool set_pending(void *ctx, struct vm_config *c, err *e)
{
    const struct change *ch = ctx;
    c->pending = c->checkpoint = ch->c->id;
    return add_missing(c, ch->settings, e) && set_leaves(c, ch->leaves, ch->n, e);
}

struct store_change *checkpoint_change_begin(const char *folder, const struct checkpoint *c,
                                             const struct vm_config *settings,
                                             const struct checkpoint_leaf *leaves, unsigned n,
                                             err *e)
{
    struct change ch = {c, settings, leaves, n};
    return store_change_begin(folder, set_pending, &ch, e);
}

static bool clear_pending(void *ctx, struct vm_config *c, err *e)
{
    c->pending = (struct guid){{0}};
    return true;
}

bool checkpoint_complete(const char *folder, const struct checkpoint *c, err *e)
{
    struct checkpoint now;
    if (!checkpoint_read(folder, &c->id, &now, e)) /* a new name may have come meanwhile */
        return false;
    now.complete = true;
    bool ok = checkpoint_write(folder, &now, e);
    checkpoint_clear(&now);
    if (ok && !store_update_at(folder, clear_pending, NULL, NULL))
        log_line(LOG_WARNING, "checkpoint", "the checkpoint's end could not be noted; later then");
    return ok;
}

static void remove_states(const char *folder, const struct guid *id)
{
    static const char *const endings[] = {".state", ".png", ".map", ".ram"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        AUTO(str) path = checkpoint_state_path(folder, id, endings[i], NULL);
        if (path)
            unlink(path);
    }
}

void checkpoint_remove_folder(const char *folder, const struct guid *id)
{
    AUTO(str) path = checkpoint_path(folder, id, NULL, NULL);
    AUTO(fd) fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    if ((unlinkat(fd, CHECKPOINT_INI, 0) != 0 && errno != ENOENT) || fsync(fd) != 0)
        log_line(LOG_WARNING, "checkpoint", "what is left in %s cannot be removed", path);
    else
        storefs_remove(AT_FDCWD, path, NULL);
}

static bool forget_pending(void *ctx, struct vm_config *c, err *e)
{
    const struct checkpoint *dropped = ctx;
    if (guid_equal(&c->checkpoint, &dropped->id))
        c->checkpoint = dropped->parent;
    if (guid_equal(&c->pending, &dropped->id))
        c->pending = (struct guid){{0}};
    return true;
}

void checkpoint_abandon(const char *folder, const struct guid *id)
{
    struct checkpoint c;
    if (checkpoint_read(folder, id, &c, NULL)) {
        if (!c.complete)
            store_update_at(folder, forget_pending, &c, NULL);
        bool keep = c.complete;
        checkpoint_clear(&c);
        if (keep)
            return;
    }
    remove_states(folder, id);
    checkpoint_remove_folder(folder, id);
}

/* ---- saved states ---- */

struct saving {
    const struct vm_config *settings;
    const struct guid *state;
};

static bool take_devices(struct vm_config *c, const struct vm_config *from, err *e)
{
    while (c->n_disks)
        vm_config_remove_disk(c, c->n_disks - 1);
    while (c->n_adapters)
        vm_config_remove_adapter(c, c->n_adapters - 1);
    for (uint32_t i = 0; i < from->n_disks; i++) {
        const struct vm_disk *d = &from->disks[i];
        struct vm_disk *to = &c->disks[c->n_disks++];
        *to = *d;
        to->path = NULL;
        if (!vm_config_string(&to->path, d->path, e))
            return false;
    }
    for (uint32_t i = 0; i < from->n_adapters; i++) {
        const struct vm_adapter *a = &from->adapters[i];
        struct vm_adapter *to = &c->adapters[c->n_adapters++];
        *to = *a;
        to->name = to->forwards = NULL;
        if (!vm_config_string(&to->name, a->name, e) ||
            !vm_config_string(&to->forwards, a->forwards, e))
            return false;
    }
    return true;
}

static bool set_saved(void *ctx, struct vm_config *c, err *e)
{
    const struct saving *s = ctx;
    c->saved = *s->state;
    return take_devices(c, s->settings, e);
}

bool checkpoint_set_saved(const char *folder, const struct vm_config *settings,
                          const struct guid *state, err *e)
{
    struct saving s = {settings, state};
    return store_update_at(folder, set_saved, &s, e);
}

static bool clear_saved(void *ctx, struct vm_config *c, err *e)
{
    *(struct guid *)ctx = c->saved;
    c->saved = (struct guid){{0}};
    return true;
}

bool checkpoint_clear_saved(const char *folder, err *e)
{
    struct guid was = {{0}};
    struct checkpoint c;
    if (!store_update_at(folder, clear_saved, &was, e))
        return false;
    if (guid_is_zero(&was))
        return true;
    if (checkpoint_read(folder, &was, &c, NULL))
        checkpoint_clear(&c); /* the checkpoint keeps its state */
    else
        remove_states(folder, &was);
    return true;
}

/* ---- recovery ---- */

bool checkpoint_recover(const char *folder, err *e)
{
    struct checkpoint c;
    AUTO(vm_config) now = store_load_at(folder, e);
    if (!now)
        return false;
    if (guid_is_zero(&now->pending))
        return true;
    if (!checkpoint_read(folder, &now->pending, &c, NULL))
        return store_update_at(folder, clear_pending, NULL, e);
    bool complete = c.complete;
    log_line(LOG_INFO, "checkpoint", "%s the checkpoint \"%s\" that was being made",
             complete ? "found complete" : "dropped", c.name);
    bool ok = complete ? store_update_at(folder, clear_pending, NULL, e)
                       : store_update_at(folder, forget_pending, &c, e);
    if (ok && !complete) {
        remove_states(folder, &c.id);
        checkpoint_remove_folder(folder, &c.id);
    }
    checkpoint_clear(&c);
    return ok;
}

/* ---- of a machine that is off ---- */

static void leaves_free(struct checkpoint_leaf *l, unsigned n, const char *folder, bool remove)
{
    for (unsigned i = 0; i < n; i++) {
        AUTO(str) path = remove ? checkpoint_absolute(folder, l[i].path, NULL) : NULL;
        if (path)
            unlink(path);
        free(l[i].path);
    }
    free(l);
}

/* New layers on every disk of `c` that is written. */
static bool make_leaves(const char *folder, const struct vm_config *c, const struct guid *id,
                        struct checkpoint_leaf **out, unsigned *n, err *e)
{
    struct checkpoint_leaf *l = calloc(VM_MAX_DISKS, sizeof *l);
    struct loop *loop = l ? loop_new(e) : NULL;
    bool ok = loop != NULL || (l ? false : no_memory(e));
    *n = 0;
    for (uint32_t i = 0; ok && i < c->n_disks; i++) {
        const struct vm_disk *d = &c->disks[i];
        if (d->media != VM_MEDIA_DISK || d->read_only || !d->path)
            continue;
        AUTO(str) parent = checkpoint_absolute(folder, d->path, e);
        AUTO(str) name = parent ? checkpoint_leaf_name(d->path, id, i, e) : NULL;
        AUTO(str) path = name ? checkpoint_absolute(folder, name, e) : NULL;
        struct disk_create_params p = {
            .path = path, .type = DISK_DIFFERENCING, .parent = parent, .format = DISK_FORMAT_VHDX};
        const char *dot = name ? strrchr(name, '.') : NULL;
        if (dot && !strcmp(dot, ".avhd"))
            p.format = DISK_FORMAT_VHD;
        ok = path && disk_create(&p, loop, e);
        if (ok)
            l[(*n)++] = (struct checkpoint_leaf){d->bus, d->slot, TAKE(name)};
    }
    if (loop)
        loop_free(loop);
    if (ok)
        *out = l;
    else if (l)
        leaves_free(l, *n, folder, true);
    return ok;
}

struct applying {
    const struct checkpoint *c;
    const struct vm_config *then;
    const struct checkpoint_leaf *leaves;
    unsigned n;
};

/* The hardware is the checkpoint's; name, notes and what happens by itself stay the machine's. */
static bool set_applied(void *ctx, struct vm_config *c, err *e)
{
    static const char *const kept[] = {
        "machine.name",          "machine.notes",         "automatic.start",
        "automatic.start-delay", "automatic.stop",        "checkpoints.type",
        "checkpoints.fallback",  "checkpoints.automatic", "processor.accel"};
    const struct applying *a = ctx;
    struct vm_config *to = vm_config_copy(a->then, e);
    bool ok = to != NULL;
    for (size_t i = 0; ok && i < sizeof kept / sizeof kept[0]; i++) {
        AUTO(str) v = vm_config_get(c, kept[i], e);
        ok = v && vm_config_set(to, kept[i], v, e);
    }
    if (ok) {
        to->id = c->id;
        to->created = c->created;
        to->checkpoint = a->c->id;
        to->saved = a->c->memory ? a->c->id : (struct guid){{0}};
        to->pending = (struct guid){{0}};
        ok = set_leaves(to, a->leaves, a->n, e);
    }
    if (ok) {
        struct vm_config was = *c;
        *c = *to;
        *to = was;
    }
    vm_config_free(to);
    return ok;
}

enum { STATE_MAX = 512 << 20 };

/* What can be known without a machine: every section is as it was written, and memory is there. */
static bool state_whole(const char *folder, const struct guid *id, err *e)
{
    char name[GUID_STR_LEN + 8];
    struct state_section s;
    struct state_reader r = {0};
    err why = ERR_INIT;
    unsigned n = 0;
    AUTO(str) states = checkpoint_states(folder, e);
    AUTO(fd) fd = states ? open(states, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    guid_format(id, name);
    strcat(name, ".state");
    AUTO(str) data = fd < 0 ? NULL : storefs_read(fd, name, STATE_MAX, &r.len, &why);
    if (!data)
        return err_set(e, ERR_CORRUPT, "The checkpoint's saved state is not there");
    r.data = (const uint8_t *)data;
    while (state_next(&r, &s, &why))
        n++;
    if (why.code != ERR_NONE || !n)
        return err_set(e, ERR_CORRUPT, "The checkpoint's saved state is damaged: %s",
                       n ? why.text : "it is empty");
    AUTO(memfile) m = memfile_open(states, id, e);
    return m != NULL;
}

static bool states_there(const char *folder, const struct checkpoint *c, err *e)
{
    return !c->memory || state_whole(folder, &c->id, e);
}

static bool can_apply(const char *folder, const struct guid *id, struct checkpoint *c, err *e)
{
    if (!checkpoint_read(folder, id, c, e))
        return false;
    bool ok =
        (c->complete && !c->deleted) || err_set(e, ERR_NOT_FOUND, "There is no such checkpoint");
    if (ok && states_there(folder, c, e))
        return true;
    err_prefix(e, "The checkpoint \"%s\" was not applied", c->name);
    checkpoint_clear(c);
    return false;
}

void checkpoint_layers_clear(struct checkpoint_layers *l)
{
    for (unsigned i = 0; i < l->n; i++)
        free(l->leaf[i].path);
    l->n = 0;
}

bool checkpoint_make_layers(const char *folder, const struct guid *id,
                            struct checkpoint_layers *out, err *e)
{
    struct checkpoint c;
    struct checkpoint_leaf *leaves = NULL;
    struct guid fresh;
    guid_random(&fresh); /* their names: a checkpoint may be applied more than once */
    *out = (struct checkpoint_layers){.n = 0};
    if (!can_apply(folder, id, &c, e))
        return false;
    AUTO(vm_config) then = checkpoint_config(folder, id, e);
    bool ok = then && make_leaves(folder, then, &fresh, &leaves, &out->n, e);
    if (ok)
        memcpy(out->leaf, leaves, out->n * sizeof *leaves);
    else
        err_prefix(e, "The checkpoint \"%s\" was not applied", c.name);
    out->n = ok ? out->n : 0;
    free(ok ? leaves : NULL);
    checkpoint_clear(&c);
    return ok;
}

static bool lies_on(const char *folder, const char *layer, const char *disk, struct loop *loop)
{
    char real[PATH_MAX];
    AUTO(str) top = checkpoint_absolute(folder, layer, NULL);
    AUTO(str) bottom = checkpoint_absolute(folder, disk, NULL);
    AUTO(str) below = NULL;
    return top && bottom && checkpoint_layer_below(top, loop, &below, NULL) && below &&
           realpath(bottom, real) && !strcmp(real, below);
}

static bool layer_fits(const char *folder, const struct vm_disk *d, struct loop *loop,
                       const struct checkpoint_layers *l)
{
    if (d->media != VM_MEDIA_DISK || d->read_only || !d->path)
        return true;
    for (unsigned k = 0; k < l->n; k++)
        if (l->leaf[k].bus == d->bus && l->leaf[k].slot == d->slot)
            return !strchr(l->leaf[k].path, '/') && lies_on(folder, l->leaf[k].path, d->path, loop);
    return false;
}

/* One for every disk that is written, each on that disk: what came from outside is not trusted, and
 * a merge may have ended since it was made. */
static bool layers_fit(const char *folder, const struct vm_config *then,
                       const struct checkpoint_layers *l, err *e)
{
    struct loop *loop = loop_new(e);
    bool ok = loop != NULL;
    for (uint32_t i = 0; ok && i < then->n_disks; i++)
        ok = layer_fits(folder, &then->disks[i], loop, l) ||
             err_set(e, ERR_INVALID, "The checkpoint's disk %u has no new layer", i);
    if (loop)
        loop_free(loop);
    return ok;
}

bool checkpoint_apply_layers(const char *folder, const struct guid *id,
                             const struct checkpoint_layers *l, err *e)
{
    struct checkpoint c;
    if (!can_apply(folder, id, &c, e))
        return false;
    AUTO(vm_config) then = checkpoint_config(folder, id, e);
    struct applying a = {&c, then, l->leaf, l->n};
    bool ok = then && layers_fit(folder, then, l, e) && store_update_at(folder, set_applied, &a, e);
    if (!ok)
        err_prefix(e, "The checkpoint \"%s\" was not applied", c.name);
    checkpoint_clear(&c);
    return ok;
}

bool checkpoint_apply(const char *folder, const struct guid *id, err *e)
{
    struct checkpoint_layers l;
    bool ok =
        checkpoint_make_layers(folder, id, &l, e) && checkpoint_apply_layers(folder, id, &l, e);
    for (unsigned i = 0; i < l.n && !ok; i++) {
        AUTO(str) path = checkpoint_absolute(folder, l.leaf[i].path, NULL);
        if (path)
            unlink(path);
    }
    checkpoint_layers_clear(&l);
    return ok;
}

static bool link_state(const char *folder, const struct guid *from, const struct guid *to,
                       const char *ending, err *e)
{
    AUTO(str) a = checkpoint_state_path(folder, from, ending, e);
    AUTO(str) b = a ? checkpoint_state_path(folder, to, ending, e) : NULL;
    if (!b)
        return false;
    return link(a, b) == 0 || (errno == ENOENT && !strcmp(ending, ".png")) ||
           err_errno(e, errno, "The saved state cannot be kept");
}

/* The saved state of a machine becomes its checkpoint's, too: the files are shared. */
static bool link_states(const char *folder, const struct guid *from, const struct guid *to, err *e)
{
    return link_state(folder, from, to, ".state", e) && link_state(folder, from, to, ".map", e) &&
           link_state(folder, from, to, ".ram", e) && link_state(folder, from, to, ".png", e);
}

bool checkpoint_create_off(const char *folder, struct checkpoint *c, err *e)
{
    struct checkpoint_leaf *leaves = NULL;
    unsigned n = 0;
    AUTO(vm_config) now = store_load_at(folder, e);
    if (!now)
        return false;
    c->memory = !guid_is_zero(&now->saved);
    if (!checkpoint_begin(folder, c, now, e))
        return false;
    bool ok = (!c->memory || link_states(folder, &now->saved, &c->id, e)) &&
              make_leaves(folder, now, &c->id, &leaves, &n, e);
    if (ok) {
        struct store_change *ch = checkpoint_change_begin(folder, c, now, leaves, n, e);
        ok = ch && store_change_commit(ch, e);
        leaves_free(leaves, n, folder, !ok);
    }
    if (ok && checkpoint_complete(folder, c, e))
        return true;
    checkpoint_abandon(folder, &c->id);
    return false;
}
