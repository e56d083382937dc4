/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <string.h>

#include "app/cli/run-int.h"

static void number(struct cli_json *j, const char *json, GVariant *row, const char *key)
{
    guint64 v = 0;
    g_variant_lookup(row, key, "t", &v);
    cli_json_key(j, json);
    cli_json_number(j, (int64_t)v);
}

static void real(struct cli_json *j, const char *json, GVariant *row, const char *key)
{
    double v = 0;
    g_variant_lookup(row, key, "d", &v);
    cli_json_key(j, json);
    cli_json_real(j, v);
}

static void exits(struct cli_json *j, GVariant *row)
{
    GVariantIter iter;
    const char *key;
    GVariant *v;
    guint64 total = 0;
    cli_json_key(j, "exits");
    cli_json_open(j, '{');
    g_variant_iter_init(&iter, row);
    while (g_variant_iter_next(&iter, "{&sv}", &key, &v)) {
        if (g_str_has_prefix(key, "exits-")) {
            total += g_variant_get_uint64(v);
            cli_json_key(j, key + 6);
            cli_json_number(j, (int64_t)g_variant_get_uint64(v));
        }
        g_variant_unref(v);
    }
    cli_json_close(j, '}');
    cli_json_key(j, "exits_total");
    cli_json_number(j, (int64_t)total);
}

static void write_json(struct cli_json *j, GVariant *row, const char *end)
{
    const char *backend = "";
    g_variant_lookup(row, "backend", "&s", &backend);
    cli_json_open(j, '{');
    cli_json_key(j, "end");
    cli_json_string(j, end);
    cli_json_key(j, "backend");
    cli_json_string(j, backend);
    number(j, "resets", row, "resets");
    exits(j, row);
    number(j, "guest_instructions", row, "guest-instructions");
    number(j, "code_memory", row, "code-memory");
    number(j, "code_flushes", row, "code-flushes");
    real(j, "guest_seconds", row, "guest-seconds");
    real(j, "cpu_seconds", row, "cpu-seconds");
    number(j, "peak_memory", row, "peak-memory");
    number(j, "private_guest_memory", row, "private-guest-memory");
    number(j, "private_other_memory", row, "private-other-memory");
    cli_json_close(j, '}');
}

bool run_write_stats(const char *path, struct client *c, const char *end, err *e)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) rows = NULL;
    if (!vireo_machine1_call_info_sync(c->machine, "run", &rows, NULL, &error))
        return err_set(e, ERR_IO, "What the run took is not known: %s", error->message);
    g_autoptr(GVariant) row = g_variant_get_child_value(rows, 0);
    struct cli_json j = {.f = fopen(path, "we")};
    if (!j.f)
        return err_errno(e, errno, "%s", path);
    write_json(&j, row, end);
    bool failed = ferror(j.f);
    if (fclose(j.f) || failed)
        return err_errno(e, errno, "Writing %s", path);
    return true;
}
