/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layers that nobody needs apart are merged while the machine runs. */
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/log.h"
#include "core/machine/vm-int.h"
#include "core/machine/vmsave.h"

struct merging {
    pthread_mutex_t lock;
    pthread_cond_t come;
    const struct checkpoint_merge *m;
    struct disk_merge *merge;
    uint64_t done, total;
    bool ready, ended;
    err e;
};

static void merge_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct merging *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->done = done;
    g->total = total;
    pthread_mutex_unlock(&g->lock);
}

static void merge_ready(void *ctx)
{
    struct merging *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->ready = true;
    pthread_cond_signal(&g->come);
    pthread_mutex_unlock(&g->lock);
}

static void merge_done(void *ctx, const err *e)
{
    struct merging *g = ctx;
    pthread_mutex_lock(&g->lock);
    g->e = *e;
    g->ended = true;
    pthread_cond_signal(&g->come);
    pthread_mutex_unlock(&g->lock);
}

static bool is_file(const char *name, const char *path)
{
    char real[PATH_MAX];
    return name && realpath(name, real) && !strcmp(real, path);
}

static void start_merge(struct vm_call *c)
{
    struct merging *g = c->arg;
    for (unsigned i = 0; i < VM_PLACES; i++) {
        struct disk *d = c->v->luns[i].disk;
        const char *name;
        for (unsigned depth = 0; d && (name = disk_layer_name(d, depth)); depth++) {
            if (!is_file(name, g->m->upper) || !is_file(disk_layer_name(d, depth + 1), g->m->lower))
                continue;
            struct disk_merge_params p = {.depth = depth,
                                          .progress = merge_progress,
                                          .ready = merge_ready,
                                          .done = merge_done,
                                          .ctx = g};
            g->merge = disk_merge_start(d, &p, c->e);
            c->ok = g->merge != NULL;
            return;
        }
    }
    c->ok = err_set(c->e, ERR_NOT_FOUND, "No disk of the machine has these layers");
}

static void cancel_merge(struct vm_call *c)
{
    struct merging *g = c->arg;
    pthread_mutex_lock(&g->lock);
    bool ended = g->ended;
    pthread_mutex_unlock(&g->lock);
    if (!ended)
        disk_merge_cancel(g->merge);
}

static void conclude_merge(struct vm_call *c)
{
    struct merging *g = c->arg;
    disk_merge_conclude(g->merge);
}

/* The layer in use has gone: the disk is known by the lower one's name. */
static void rename_disk(struct vm_call *c)
{
    const struct checkpoint_merge *m = c->arg;
    for (unsigned i = 0; i < VM_PLACES; i++) {
        struct vm_lun *l = &c->v->luns[i];
        const char *name = l->disk ? disk_layer_name(l->disk, 0) : NULL;
        char *copy = is_file(name, m->lower) ? strdup(name) : NULL;
        if (!copy)
            continue;
        free(l->path);
        l->path = copy;
        vm_changed(c->v, VM_CHANGED_DISKS);
    }
}

/* What is to be done while it goes on; without the lock. */
static void attend_merge(struct vm *v, const char *folder, struct merging *g, bool ready,
                         const struct vm_progress *progress, double part)
{
    err why = ERR_INIT;
    if (ready && checkpoint_retarget(folder, g->m, &why)) {
        vm_call(v, conclude_merge, g, NULL);
    } else if (ready) {
        log_line(LOG_WARNING, "checkpoint", "merging: %s", why.text);
        vm_call(v, cancel_merge, g, NULL);
    } else if (progress && progress->fn && !progress->fn(progress->ctx, part)) {
        vm_call(v, cancel_merge, g, NULL);
    }
}

bool vm_merge_layers(struct vm *v, const char *folder, const struct checkpoint_merge *m,
                     const struct vm_progress *progress, err *e)
{
    struct merging g = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .come = PTHREAD_COND_INITIALIZER, .m = m};
    if (!vm_call(v, start_merge, &g, e))
        return false;
    pthread_mutex_lock(&g.lock);
    while (!g.ended) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += 1;
        if (!g.ready)
            pthread_cond_timedwait(&g.come, &g.lock, &until);
        double part = g.total ? (double)g.done / (double)g.total : 0;
        bool ended = g.ended, ready = g.ready;
        g.ready = false;
        pthread_mutex_unlock(&g.lock);
        if (!ended)
            attend_merge(v, folder, &g, ready, progress, part);
        pthread_mutex_lock(&g.lock);
    }
    pthread_mutex_unlock(&g.lock);
    if (g.e.code == ERR_NONE)
        vm_call(v, rename_disk, (void *)(uintptr_t)m, NULL);
    else if (e)
        *e = g.e;
    return g.e.code == ERR_NONE;
}
