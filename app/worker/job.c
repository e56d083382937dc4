/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Work that takes long: in a thread, with its end on the main thread. */
#include "app/worker/worker.h"

struct work {
    struct worker *w;
    worker_run_fn *run;
    worker_done_fn *done;
    gpointer data;
    err error;
    bool ok;
};

static gboolean finish(gpointer data)
{
    struct work *k = data;
    k->w->busy--;
    k->done(k->w, k->data, k->ok ? NULL : &k->error);
    g_free(k);
    return G_SOURCE_REMOVE;
}

static void in_thread(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    struct work *k = data;
    k->ok = k->run(k->w, k->data, &k->error);
    g_idle_add(finish, k);
}

void worker_run(struct worker *w, worker_run_fn *run, worker_done_fn *done, gpointer data)
{
    g_autoptr(GTask) task = g_task_new(NULL, NULL, NULL, NULL);
    struct work *k = g_new0(struct work, 1);
    *k = (struct work){.w = w, .run = run, .done = done, .data = data};
    w->busy++;
    g_task_set_task_data(task, k, NULL);
    g_task_run_in_thread(task, in_thread);
}
