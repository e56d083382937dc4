/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checkpoints of a running machine. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/machine/store.h"
#include "core/machine/vm-int.h"
#include "core/machine/vmsave-int.h"

enum { MAX_DEPTH = 62 };

struct vm_checkpointing {
    struct vm *v;
    char *folder;
    struct checkpoint c; /* id and memory; the strings are the caller's */
    struct checkpoint_leaf leaf[VM_PLACES];
    struct disk_layer *layer[VM_PLACES]; /* by leaf */
    unsigned nleaves;
    struct state_writer *w;
    struct memfile *below;
    struct memfile_writer *mem;
    pid_t pid;
    bool swapped;
    struct vm_checkpoint_times times;
};

static struct vm_lun *place_of(struct vm_checkpointing *k, unsigned leaf)
{
    const struct checkpoint_leaf *l = &k->leaf[leaf];
    return &k->v->luns[l->bus == VM_BUS_IDE ? VM_LUNS + l->slot : l->slot];
}

static char *leaf_path(const struct vm_checkpointing *k, unsigned i, err *e)
{
    char *path = NULL;
    if (asprintf(&path, "%s/%s", k->folder, k->leaf[i].path) >= 0)
        return path;
    err_set(e, ERR_NO_MEMORY, "Not enough memory");
    return NULL;
}

static bool make_leaf(struct vm_checkpointing *k, unsigned lun, struct vm_lun *l, err *e)
{
    unsigned i = k->nleaves;
    if (disk_layer_name(l->disk, MAX_DEPTH))
        return err_set(e, ERR_UNSUPPORTED, "%s has too many layers: delete some checkpoints",
                       l->path);
    bool ide = lun >= VM_LUNS;
    k->leaf[i] = (struct checkpoint_leaf){ide ? VM_BUS_IDE : VM_BUS_SCSI, ide ? lun - VM_LUNS : lun,
                                          checkpoint_leaf_name(l->path, &k->c.id, lun, e)};
    if (!k->leaf[i].path)
        return false;
    k->nleaves++;
    AUTO(str) path = leaf_path(k, i, e);
    if (!path || !disk_create_leaf(l->disk, path, e))
        return false;
    k->layer[i] = disk_layer_open(l->disk, path, e);
    return k->layer[i] != NULL;
}

static void make_leaves(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    for (unsigned i = 0; c->ok && i < VM_PLACES; i++) {
        struct vm_lun *l = &c->v->luns[i];
        if (l->used && l->disk && !l->dvd && !l->floppy && !l->read_only)
            c->ok = make_leaf(k, i, l, c->e);
    }
}

static void drained(void *ctx)
{
    *(bool *)ctx = true;
}

/* The devices are stopped: nothing is in flight. */
static bool push_layers(struct vm_checkpointing *k, err *e)
{
    for (unsigned i = 0; i < k->nleaves; i++) {
        struct vm_lun *l = place_of(k, i);
        bool quiet = false;
        AUTO(str) name = strdup(k->leaf[i].path);
        disk_pause(l->disk, drained, &quiet);
        bool ok = name && quiet && disk_push_layer(l->disk, k->layer[i], true, e);
        disk_resume(l->disk);
        if (!ok)
            return false;
        k->layer[i] = NULL;
        k->swapped = true;
        free(l->path);
        l->path = TAKE(name);
    }
    return true;
}

/* All that the guest waits for; its requests in flight end before. */
static void stall(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    struct machine *m = c->v->machine;
    uint64_t begin = clock_ns();
    if (c->v->running)
        vm_quiet(c->v);
    uint64_t t0 = clock_ns();
    bool was_running = machine_pause(m);
    uint64_t t1 = clock_ns();
    if (k->c.memory) {
        vmsave_put_head(c->v, k->w);
        c->ok = machine_save(m, k->w, c->e);
    } else if (!was_running) {
        c->ok =
            machine_is_paused(m) || err_set(c->e, ERR_STATE, "The machine does not run any more");
    }
    uint64_t t2 = clock_ns();
    if (c->ok && k->c.memory)
        c->ok = (k->pid = vmsave_freeze(k->mem, c->e)) > 0;
    uint64_t t3 = clock_ns();
    c->ok = c->ok && push_layers(k, c->e);
    if (c->ok || !k->swapped) {
        if (was_running)
            hv_partition_pass_time(machine_partition(m), clock_ns() - t1);
        if (was_running)
            machine_resume(m);
    } else { /* half of the disks have new layers: as after a power cut, but not as a lie */
        machine_power_off(m);
    }
    k->times = (struct vm_checkpoint_times){.drain_ns = t0 - begin,
                                            .stall_ns = clock_ns() - t0,
                                            .pause_ns = t1 - t0,
                                            .save_ns = t2 - t1,
                                            .fork_ns = t3 - t2};
}

static void settle(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    for (unsigned i = 0; i < k->nleaves; i++)
        disk_release_flushes(place_of(k, i)->disk);
    for (unsigned i = 0; c->ok && i < k->nleaves; i++)
        c->ok = disk_settle_layers(place_of(k, i)->disk, c->e);
    vm_changed(k->v, VM_CHANGED_DISKS);
}

static void drop_layers(struct vm_call *c)
{
    struct vm_checkpointing *k = c->arg;
    for (unsigned i = 0; i < k->nleaves; i++) {
        disk_layer_close(k->layer[i]);
        k->layer[i] = NULL;
    }
}

static void checkpointing_free(struct vm_checkpointing *k)
{
    for (unsigned i = 0; i < k->nleaves; i++)
        free(k->leaf[i].path);
    memfile_writer_free(k->mem);
    memfile_close(k->below);
    state_writer_free(k->w);
    free(k->folder);
    free(k);
}

static void undo(struct vm_checkpointing *k)
{
    vm_call(k->v, drop_layers, k, NULL);
    if (k->pid > 0) {
        memfile_writer_cancel(k->mem);
        vmsave_wait(k->pid, k->mem, NULL, NULL);
    }
    for (unsigned i = 0; i < k->nleaves && !k->swapped; i++) {
        AUTO(str) path = leaf_path(k, i, NULL);
        if (path)
            unlink(path);
    }
    checkpoint_abandon(k->folder, &k->c.id);
    checkpointing_free(k);
}

static bool prepare_memory(struct vm_checkpointing *k, err *e)
{
    if (!k->c.memory)
        return true;
    AUTO(str) states = checkpoint_states(k->folder, e);
    k->w = state_writer_new();
    if (!states || !k->w)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for a checkpoint");
    k->below = vmsave_memory_below(k->folder, &k->c.parent);
    k->mem = memfile_writer_new(states, &k->c.id,
                                hv_partition_memory(machine_partition(k->v->machine)), k->below, e);
    return k->mem != NULL;
}

/* From here on it is made, or the machine is off. */
static bool commit(struct vm_checkpointing *k, struct store_change *change, err *e)
{
    if (!store_change_commit(change, e)) {
        vm_power_off(k->v); /* what is flushed from now on would be lost: it must not be said */
        return err_prefix(e, "The machine was turned off, because its folder cannot be written");
    }
    return vm_call(k->v, settle, k, e);
}

struct vm_checkpointing *vm_checkpoint_begin(struct vm *v, const char *folder,
                                             const struct vm_config *base, struct checkpoint *c,
                                             err *e)
{
    struct store_change *change = NULL;
    AUTO(vm_config) settings = vm_config_now(v, base, e);
    if (!settings || !checkpoint_begin(folder, c, settings, e))
        return NULL;
    struct vm_checkpointing *k = calloc(1, sizeof *k);
    if (!k || !(k->folder = strdup(folder))) {
        free(k);
        checkpoint_abandon(folder, &c->id);
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a checkpoint");
        return NULL;
    }
    k->v = v;
    k->c = *c;
    bool ok = vm_call(v, make_leaves, k, e) && prepare_memory(k, e) &&
              (change = checkpoint_change_begin(folder, c, settings, k->leaf, k->nleaves, e)) &&
              vm_call(v, stall, k, e);
    if (!ok)
        store_change_abort(change);
    if (ok && commit(k, change, e))
        return k;
    undo(k);
    return NULL;
}

void vm_checkpoint_get_times(const struct vm_checkpointing *k, struct vm_checkpoint_times *out)
{
    *out = k->times;
}

bool vm_checkpoint_finish(struct vm_checkpointing *k, const struct vm_progress *progress, err *e)
{
    bool ok = vmsave_write_files(k->v, k->folder, &k->c.id, k->w, e);
    if (!ok && k->mem)
        memfile_writer_cancel(k->mem);
    if (k->mem && !vmsave_wait(k->pid, k->mem, progress, ok ? e : NULL))
        ok = false;
    if (k->mem)
        vmsave_make_huge(k->v);
    ok = ok && (!k->mem || memfile_writer_commit(k->mem, e)) &&
         checkpoint_complete(k->folder, &k->c, e);
    if (!ok) {
        checkpoint_abandon(k->folder, &k->c.id);
        err_prefix(e, "The checkpoint was not made");
    }
    checkpointing_free(k);
    return ok;
}
