/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl switch: which virtual switches there are; private ones are made and removed. */
#include <gio/gio.h>
#include <string.h>

#include "app/cli/cli.h"
#include "app/cli/client.h"
#include "app/switches.h"

static const char *kind_name(const VireoSwitch *s)
{
    return s->kind == VM_SWITCH_NAT ? "nat" : s->kind == VM_SWITCH_PRIVATE ? "private" : "tap";
}

static void list_json(GPtrArray *all)
{
    struct cli_json j = {.f = stdout};
    cli_json_open(&j, '[');
    for (guint i = 0; i < all->len; i++) {
        const VireoSwitch *s = all->pdata[i];
        cli_json_open(&j, '{');
        cli_json_key(&j, "kind");
        cli_json_string(&j, kind_name(s));
        cli_json_key(&j, "name");
        cli_json_string(&j, *s->name ? s->name : NULL);
        cli_json_key(&j, "machines");
        cli_json_open(&j, '[');
        for (char **u = s->users; *u; u++)
            cli_json_string(&j, *u);
        cli_json_close(&j, ']');
        cli_json_close(&j, '}');
    }
    cli_json_close(&j, ']');
}

static int list(struct store *store, bool json)
{
    g_autoptr(GPtrArray) all = vireo_switches_load(store);
    if (json)
        list_json(all);
    for (guint i = 0; !json && i < all->len; i++) {
        const VireoSwitch *s = all->pdata[i];
        g_autofree char *users = g_strjoinv(", ", s->users);
        g_autofree char *name = g_strconcat(kind_name(s), *s->name ? ":" : "", s->name, NULL);
        printf("%-24s  %s\n", name, users);
    }
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

int cli_switch(int argc, char **argv)
{
    bool json = false;
    const struct cli_option options[] = {{"--json", &json, NULL}};
    int n;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n,
                   "Usage: vireoctl switch [list] [--json]\n"
                   "       vireoctl switch create NAME\n"
                   "       vireoctl switch remove NAME\n\nLists the switches that adapters can be "
                   "connected to, with the machines\nthat are; makes and removes private ones. "
                   "`vireoctl set MACHINE adapter0.switch=private\nadapter0.name=NAME` connects "
                   "an adapter.\n"))
        return CLI_USAGE;
    AUTO(store) store = cli_store();
    if (!store)
        return CLI_FAILED;
    if (n == 0 || (n == 1 && !strcmp(argv[1], "list")))
        return list(store, json);
    bool creates = n == 2 && !strcmp(argv[1], "create");
    if (!creates && (n != 2 || strcmp(argv[1], "remove") != 0))
        return cli_usage("switch takes list, or create or remove and a name");
    if (creates ? vireo_switches_add(store, argv[2], &error)
                : vireo_switches_remove(store, argv[2], &error))
        return CLI_OK;
    client_fail(error);
    return CLI_FAILED;
}
