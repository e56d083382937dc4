/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/disk-job.h"

#include <stdatomic.h>

#include "app/error.h"

enum { PROGRESS_MS = 100, MAX_FINDINGS = 50 };

typedef struct {
    VireoDiskWork work;
    char *path, *target;
    guint64 size;
    GCancellable *cancellable;
    VireoDiskProgress progress;
    gpointer progress_data;
    guint timer;
    _Atomic int permille;
    GString *report;
    guint findings;
} Job;

static void free_job(gpointer data)
{
    Job *j = data;
    g_clear_handle_id(&j->timer, g_source_remove);
    g_clear_object(&j->cancellable);
    g_free(j->path);
    g_free(j->target);
    g_string_free(j->report, TRUE);
    g_free(j);
}

/* ---- on the thread ---- */

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
    Job *j = ctx;
    atomic_store(&j->permille, total ? (int)(done * 1000 / total) : 0);
    return !j->cancellable || !g_cancellable_is_cancelled(j->cancellable);
}

static void on_finding(void *ctx, enum disk_finding kind, const char *text)
{
    Job *j = ctx;
    if (kind != DISK_NOTE && j->findings++ < MAX_FINDINGS)
        g_string_append_printf(j->report, "%s%s", j->report->len ? "\n" : "", text);
}

static bool create(Job *j, struct loop *loop, err *e)
{
    const struct disk_create_params p = {
        .path = j->path, .format = DISK_FORMAT_VHDX, .type = DISK_DYNAMIC, .size = j->size};
    return disk_create(&p, loop, e);
}

static bool resize(Job *j, struct loop *loop, err *e)
{
    const struct disk_open_params p = {.path = j->path, .opener = &disk_opener_paths, .loop = loop};
    struct disk_info info;
    uint64_t end = 0;
    struct disk *d = disk_open(&p, e);
    if (!d)
        return false;
    disk_get_info(d, &info);
    bool ok = j->size >= info.size || disk_data_end(d, &end, e);
    if (ok && j->size < end)
        ok = err_set(e, ERR_STATE,
                     "%s holds data beyond that size. Shrink the partitions in the guest first",
                     j->path);
    ok = ok && disk_resize(d, j->size, true, e);
    disk_close(d);
    return ok;
}

static bool convert(Job *j, struct loop *loop, const struct disk_progress *progress, err *e)
{
    const struct disk_convert_params p = {
        .source = j->path, .target = j->target, .type = DISK_DYNAMIC};
    return disk_convert(&p, loop, progress, e);
}

static bool work(Job *j, struct loop *loop, err *e)
{
    const struct disk_progress progress = {on_progress, j};
    struct disk_check_result result;
    switch (j->work) {
    case VIREO_DISK_CREATE: return create(j, loop, e);
    case VIREO_DISK_CONVERT: return convert(j, loop, &progress, e);
    case VIREO_DISK_RESIZE: return resize(j, loop, e);
    case VIREO_DISK_COMPACT: return disk_compact(j->path, loop, &progress, e);
    case VIREO_DISK_CHECK:
    case VIREO_DISK_REPAIR:
        return disk_check(j->path, j->work == VIREO_DISK_REPAIR, loop, on_finding, j, &progress,
                          &result, e);
    }
    return false;
}

static void run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    Job *j = data;
    err e = ERR_INIT;
    struct loop *loop = loop_new(&e);
    bool ok = loop && work(j, loop, &e);
    if (loop)
        loop_free(loop);
    GError *error = NULL;
    if (!ok)
        vireo_error_set(&error, &e);
    if (ok)
        g_task_return_boolean(task, TRUE);
    else
        g_task_return_error(task, error);
}

/* ---- on the caller's ---- */

static gboolean on_time(gpointer data)
{
    Job *j = data;
    j->progress(atomic_load(&j->permille) / 1000.0, j->progress_data);
    return G_SOURCE_CONTINUE;
}

void vireo_disk_job_async(VireoDiskWork kind, const char *path, const char *target, guint64 size,
                          VireoDiskProgress progress, gpointer progress_data,
                          GCancellable *cancellable, GAsyncReadyCallback callback, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, callback, data);
    Job *j = g_new0(Job, 1);
    j->work = kind;
    j->path = g_strdup(path);
    j->target = g_strdup(target);
    j->size = size;
    j->cancellable = cancellable ? g_object_ref(cancellable) : NULL;
    j->progress = progress;
    j->progress_data = progress_data;
    j->report = g_string_new(NULL);
    g_task_set_task_data(task, j, free_job);
    if (progress)
        j->timer = g_timeout_add(PROGRESS_MS, on_time, j);
    g_task_run_in_thread(task, run);
}

gboolean vireo_disk_job_finish(GAsyncResult *result, char **report, GError **error)
{
    Job *j = g_task_get_task_data(G_TASK(result));
    gboolean check = j->work == VIREO_DISK_CHECK || j->work == VIREO_DISK_REPAIR;
    g_clear_handle_id(&j->timer, g_source_remove);
    if (report)
        *report = check ? g_strdup(j->report->str) : NULL;
    return g_task_propagate_boolean(G_TASK(result), error);
}
