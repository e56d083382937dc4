/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Saved memory is compared with its checksums in the background, at a quarter of a processor. */
#include <stdlib.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/machine/checkpoint.h"
#include "core/machine/memfile.h"

enum { DELAY_S = 60, SHARE = 3, NAP_MAX_US = 2 * G_USEC_PER_SEC, NAP_STEP_US = 50000 };

struct checking {
    GPtrArray *ids, *found; /* texts, pairwise: what is wrong, or "" */
    struct worker *w;
    gint64 last;
};

static bool go_on(void *ctx, uint64_t done, uint64_t total)
{
    struct checking *c = ctx;
    gint64 nap = MIN((g_get_monotonic_time() - c->last) * SHARE, NAP_MAX_US);
    for (; nap > 0 && !g_atomic_int_get(&c->w->over); nap -= NAP_STEP_US)
        g_usleep(MIN(nap, NAP_STEP_US));
    c->last = g_get_monotonic_time();
    return !g_atomic_int_get(&c->w->over);
}

static bool check_one(struct checking *c, const struct checkpoint *k, const char *states)
{
    char id[GUID_STR_LEN + 1];
    err e = ERR_INIT;
    guid_format(&k->id, id);
    c->last = g_get_monotonic_time();
    AUTO(memfile) m = memfile_open(states, &k->id, &e);
    if (m)
        memfile_check(m, go_on, c, &e);
    if (e.code == ERR_CANCELLED)
        return false;
    if (e.code != ERR_NONE)
        log_line(LOG_ERROR, "checkpoint", "\"%s\" is damaged: %s", k->name, e.text);
    g_ptr_array_add(c->ids, g_strdup(id));
    g_ptr_array_add(c->found, g_utf8_make_valid(e.text, -1));
    return true;
}

static bool is_new(struct worker *w, GPtrArray *known, const struct guid *id)
{
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    return !g_ptr_array_find_with_equal_func(known, text, g_str_equal, NULL);
}

static bool run(struct worker *w, gpointer data, err *e)
{
    struct checking *c = data;
    struct checkpoint_tree t;
    g_autoptr(GPtrArray) known = c->found;
    c->found = g_ptr_array_new_with_free_func(g_free);
    AUTO(str) states = checkpoint_states(w->folder, e);
    if (!states || !checkpoint_tree_load(w->folder, &t, e))
        return false;
    bool more = true;
    for (size_t i = 0; more && i < t.n; i++)
        if (t.list[i].memory && t.list[i].complete && is_new(w, known, &t.list[i].id))
            more = check_one(c, &t.list[i], states);
    checkpoint_tree_clear(&t);
    return true;
}

static void done(struct worker *w, gpointer data, const err *e)
{
    struct checking *c = data;
    for (guint i = 0; w->checked && i < c->ids->len; i++)
        g_hash_table_insert(w->checked, g_strdup(g_ptr_array_index(c->ids, i)),
                            g_strdup(g_ptr_array_index(c->found, i)));
    if (!w->ended && c->ids->len)
        worker_refresh_checkpoints(w);
    g_ptr_array_unref(c->ids);
    g_ptr_array_unref(c->found);
    g_free(c);
}

static gboolean on_time(gpointer data)
{
    struct worker *w = data;
    w->check = 0;
    if (w->ended || !w->folder || g_atomic_int_get(&w->over))
        return G_SOURCE_REMOVE;
    struct checking *c = g_new0(struct checking, 1);
    GHashTableIter iter;
    gpointer key;
    c->w = w;
    c->ids = g_ptr_array_new_with_free_func(g_free);
    c->found = g_ptr_array_new_with_free_func(g_free); /* those that are known, at first */
    g_hash_table_iter_init(&iter, w->checked);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        g_ptr_array_add(c->found, g_strdup(key));
    worker_run(w, run, done, c);
    return G_SOURCE_REMOVE;
}

void worker_check_later(struct worker *w)
{
    const char *given = g_getenv("VIREO_CHECK_DELAY"); /* tests have no minute */
    if (!w->checked)
        w->checked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    if (!w->check)
        w->check =
            g_timeout_add_seconds(given ? (guint)strtoul(given, NULL, 10) : DELAY_S, on_time, w);
}

const char *worker_check_says(struct worker *w, const char *id)
{
    const char *text = w->checked ? g_hash_table_lookup(w->checked, id) : NULL;
    return text ? text : "";
}

void worker_check_stop(struct worker *w)
{
    g_clear_handle_id(&w->check, g_source_remove);
    g_clear_pointer(&w->checked, g_hash_table_unref);
}
