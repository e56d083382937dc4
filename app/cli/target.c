/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/cli/target.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOCK_STEP_US = 50000, LOCK_TRIES = 300 };

void target_free(struct target *t)
{
    if (!t)
        return;
    client_close(t->worker);
    auto_close(t->lock);
    free(t->folder);
    store_close(t->store);
    free(t);
}

/* Its machine is over, and it goes as soon as nobody is connected to it (or somebody else is about
 * to start one). */
static bool is_leaving(struct client *worker)
{
    const char *state = vireo_machine1_get_state(worker->machine);
    return state && (!strcmp(state, "off") || !strcmp(state, "saved"));
}

/* Its worker, or its lock: one that is about to end has neither socket nor yet let go. */
static bool reach(struct target *t, bool change, err *e)
{
    for (unsigned i = 0;; i++) {
        err why = ERR_INIT;
        t->worker = client_find(&t->id);
        if (t->worker && change && i < LOCK_TRIES && is_leaving(t->worker)) {
            client_close(TAKE(t->worker));
            g_usleep(LOCK_STEP_US);
            continue;
        }
        if (t->worker || !change)
            return true;
        t->lock = store_lock(t->store, &t->id, &why);
        if (t->lock >= 0)
            return true;
        if (why.code != ERR_BUSY || i == LOCK_TRIES) {
            *e = why;
            return false;
        }
        g_usleep(LOCK_STEP_US);
    }
}

struct target *target_open(const char *name, bool change)
{
    err e = ERR_INIT;
    AUTO(target) t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->lock = -1;
    t->store = cli_store();
    if (!t->store || !cli_find(t->store, name, &t->id))
        return NULL;
    t->folder = store_path(t->store, &t->id, NULL, &e);
    if (t->folder && reach(t, change, &e))
        return TAKE(t);
    cli_fail(&e);
    return NULL;
}

int target_start(struct target *t)
{
    err e = ERR_INIT;
    char text[GUID_STR_LEN + 1];
    guid_format(&t->id, text);
    AUTO(vm_config) c = store_load(t->store, &t->id, &e);
    if (!c)
        return cli_fail(&e);
    auto_close(TAKE_FD(t->lock)); /* the worker takes it */
    AUTO(client) worker = client_launch(text, t->folder, false);
    return worker && client_start(worker, c, t->folder, NULL) ? CLI_OK : CLI_FAILED;
}

/* ---- progress ---- */

static bool on_progress(void *ctx, double fraction)
{
    struct target_line *l = ctx;
    if (isatty(2)) {
        fprintf(stderr, "\r%s: %3.0f %%", l->text, fraction * 100);
        l->open = true;
    }
    return true;
}

struct transfer_progress target_progress(struct target_line *line)
{
    return (struct transfer_progress){on_progress, line};
}

void target_line_end(struct target_line *line)
{
    if (line->open)
        fputc('\n', stderr);
    line->open = false;
}
