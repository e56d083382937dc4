/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/worker/call.h"

#include "core/base/cleanup.h"

void call_free(struct call *j)
{
    auto_close(j->fd);
    g_free(j->text);
    g_free(j->text2);
    g_free(j);
}

gboolean call_start_failed(struct worker *w, GDBusMethodInvocation *call, const err *e)
{
    g_autofree char *text = g_utf8_make_valid(e->text, -1);
    worker_fail(call, e);
    worker_end(w, "off", text);
    return TRUE;
}

static bool run(struct worker *w, gpointer data, err *e)
{
    struct call *j = data;
    return j->run(j, e);
}

static void done(struct worker *w, gpointer data, const err *e)
{
    struct call *j = data;
    if (e && j->ends)
        call_start_failed(w, j->call, e);
    else if (e)
        worker_fail(j->call, e);
    else if (j->done)
        j->done(j);
    else
        g_dbus_method_invocation_return_value(j->call, NULL);
    call_free(j);
}

struct call *call_new(struct worker *w, GDBusMethodInvocation *call)
{
    struct call *j = g_new0(struct call, 1);
    j->w = w;
    j->call = call;
    j->fd = -1;
    return j;
}

gboolean call_start(struct call *j, bool (*fn)(struct call *j, err *e))
{
    j->run = fn;
    worker_run(j->w, run, done, j);
    return TRUE;
}

gboolean call_fail(GDBusMethodInvocation *call, enum err_code code, const char *text)
{
    err e = ERR_INIT;
    err_set(&e, code, "%s", text);
    worker_fail(call, &e);
    return TRUE;
}

gboolean call_need_live(struct worker *w, GDBusMethodInvocation *call)
{
    return worker_is_live(w) || !call_fail(call, ERR_STATE, "The machine is not running.");
}

gboolean call_keys_known(GVariant *dict, const char *const *keys, GDBusMethodInvocation *call)
{
    GVariantIter iter;
    const char *key;
    g_variant_iter_init(&iter, dict);
    while (g_variant_iter_next(&iter, "{&sv}", &key, NULL)) {
        if (g_strv_contains(keys, key))
            continue;
        g_autofree char *text = g_strdup_printf("There is no option “%s”.", key);
        call_fail(call, ERR_INVALID, text);
        return FALSE;
    }
    return TRUE;
}

bool call_option(GVariant *options, const char *key)
{
    gboolean b = FALSE;
    return g_variant_lookup(options, key, "b", &b) && b;
}
