/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl remote: a machine's SPICE and VNC servers. */
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "app/cli/client.h"
#include "app/remote.h"
#include "core/base/cleanup.h"
#include "vireo-remote1.h"

#define REMOTE_PATH "/org/vireo/Remote1"

static const char help[] = "Usage: vireoctl remote NAME [--json]\n"
                           "       vireoctl remote NAME spice|vnc on [--port N] [--address A] "
                           "[--password-file FILE|--no-password]\n"
                           "       vireoctl remote NAME spice|vnc off|file|uri\n"
                           "       vireoctl remote NAME disconnect|view-only|take-part ID\n\n"
                           "A machine's console for SPICE and VNC clients. Without more words, "
                           "tells what is on and who is connected. On and off are\n"
                           "kept for the next start. Without --port it is a socket file in the "
                           "session's runtime folder, without --address this\n"
                           "computer's alone; beyond it a password is needed (--password-file -: "
                           "asked for), and SPICE is encrypted. \"file\" writes a\n"
                           "connection file (.vv), with the password, to standard output; \"uri\" "
                           "where clients find it.\n";

struct request {
    const char *name, *port, *address, *password_file;
    bool no_password, json;
    VireoRemoteKind kind;
    bool on;
};

/* A machine of the store: its folder and configuration. */
struct machine {
    struct store *store;
    struct guid id;
    struct vm_config *config;
    char *folder;
};

static void machine_clear(struct machine *m)
{
    vm_config_free(m->config);
    free(m->folder);
    if (m->store)
        store_close(m->store);
}

static bool machine_find(struct machine *m, const char *name)
{
    err e = ERR_INIT;
    m->store = cli_store();
    if (!m->store || !cli_find(m->store, name, &m->id))
        return false;
    m->config = store_load(m->store, &m->id, &e);
    m->folder = m->config ? store_path(m->store, &m->id, NULL, &e) : NULL;
    if (!m->folder)
        cli_fail(&e);
    return m->folder;
}

/* Whether it runs: NULL without a message if not. */
static struct client *if_running(struct machine *m)
{
    return store_is_locked(m->store, &m->id) ? client_connect(m->config->name) : NULL;
}

/* ---- looking ---- */

static void show_table(const char *title, GVariant *rows, struct cli_json *j)
{
    if (j) {
        cli_json_key(j, title);
        cli_json_open(j, '[');
    }
    for (gsize i = 0; rows && i < g_variant_n_children(rows); i++) {
        g_autoptr(GVariant) row = g_variant_get_child_value(rows, i);
        const char *kind = "", *address = "";
        gboolean view_only = FALSE;
        guint32 id = 0;
        g_variant_lookup(row, "kind", "&s", &kind);
        g_variant_lookup(row, "address", "&s", &address);
        g_variant_lookup(row, "view-only", "b", &view_only);
        bool client = g_variant_lookup(row, "id", "u", &id);
        if (!j) {
            if (client)
                printf("  client %u: ", id);
            printf("%s %s%s\n", kind, address[0] ? address : "this computer",
                   view_only ? " (view only)" : "");
            continue;
        }
        cli_json_open(j, '{');
        if (client) {
            cli_json_key(j, "id");
            cli_json_number(j, id);
        }
        cli_json_key(j, "kind");
        cli_json_string(j, kind);
        cli_json_key(j, "address");
        cli_json_string(j, address);
        cli_json_key(j, "view-only");
        cli_json_bool(j, view_only);
        cli_json_close(j, '}');
    }
    if (j)
        cli_json_close(j, ']');
}

static VireoRemote1 *connect_remote(struct client *c)
{
    g_autoptr(GError) error = NULL;
    VireoRemote1 *r = vireo_remote1_proxy_new_sync(c->bus, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                                   REMOTE_PATH, NULL, &error);
    if (!r)
        client_fail(error);
    return r;
}

static int status(struct machine *m, bool json)
{
    AUTO(client) c = if_running(m);
    g_autoptr(VireoRemote1) r = c ? connect_remote(c) : NULL;
    if (c && !r)
        return CLI_FAILED;
    GVariant *servers = r ? vireo_remote1_get_servers(r) : NULL;
    struct cli_json j = {.f = stdout};
    if (json) {
        cli_json_open(&j, '{');
        show_table("servers", servers, &j);
        show_table("clients", r ? vireo_remote1_get_clients(r) : NULL, &j);
        cli_json_close(&j, '}');
        return CLI_OK;
    }
    if (!r)
        printf("The machine is off; at its start SPICE will be %s and VNC %s.\n",
               m->config->spice ? "on" : "off", m->config->vnc ? "on" : "off");
    else if (!servers || g_variant_n_children(servers) == 0)
        printf("Neither SPICE nor VNC is on.\n");
    show_table("servers", servers, NULL);
    show_table("clients", r ? vireo_remote1_get_clients(r) : NULL, NULL);
    return CLI_OK;
}

/* ---- changing ---- */

static bool change(void *ctx, struct vm_config *c, err *e)
{
    const struct request *q = ctx;
    const char *kind = vireo_remote_kind_name(q->kind);
    char key[32], port[32];
    snprintf(key, sizeof key, "remote.%s", kind);
    snprintf(port, sizeof port, "remote.%s-port", kind);
    return vm_config_set(c, key, q->on ? "true" : "false", e) &&
           (!q->port || vm_config_set(c, port, q->port, e)) &&
           (!q->address || vm_config_set(c, "remote.listen", q->address, e));
}

/* A line without its end; from the terminal without showing it. NULL: nothing came. */
static char *read_password(const char *path)
{
    bool ask = strcmp(path, "-") == 0;
    FILE *f = ask ? stdin : fopen(path, "re");
    struct termios before, quiet;
    bool terminal = ask && tcgetattr(0, &before) == 0;
    char line[256];
    if (!f)
        return NULL;
    if (terminal) {
        fputs("Password: ", stderr);
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSAFLUSH, &quiet);
    }
    char *got = fgets(line, sizeof line, f);
    if (terminal) {
        tcsetattr(0, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    if (f != stdin)
        fclose(f);
    if (!got)
        return NULL;
    line[strcspn(line, "\r\n")] = '\0';
    return g_strdup(line);
}

static bool set_password(const struct machine *m, const struct request *q)
{
    g_autoptr(GError) error = NULL;
    if (!q->password_file && !q->no_password)
        return true;
    g_autofree char *password = q->password_file ? read_password(q->password_file) : NULL;
    if (q->password_file && !password) {
        err e = ERR_INIT;
        err_set(&e, ERR_NOT_FOUND, "no password can be read from \"%s\"", q->password_file);
        cli_fail(&e);
        return false;
    }
    if (vireo_remote_set_password(m->folder, q->kind, password, &error))
        return true;
    client_fail(error);
    return false;
}

static void on_applied(GObject *source, GAsyncResult *result, gpointer to)
{
    *(GAsyncResult **)to = g_object_ref(result);
}

bool client_apply_remote(struct client *c, const struct vm_config *config, const char *folder)
{
    g_autoptr(GAsyncResult) result = NULL;
    g_autoptr(GError) error = NULL;
    vireo_remote_apply_async(c->bus, config, folder, NULL, on_applied, &result);
    while (!result)
        g_main_context_iteration(NULL, TRUE);
    if (vireo_remote_apply_finish(result, &error))
        return true;
    client_fail(error);
    return false;
}

static int set(struct machine *m, struct request *q)
{
    err e = ERR_INIT;
    if (!store_update(m->store, &m->id, change, q, &e))
        return cli_fail(&e);
    if (!set_password(m, q))
        return CLI_FAILED;
    vm_config_free(m->config);
    m->config = store_load(m->store, &m->id, &e);
    if (!m->config)
        return cli_fail(&e);
    AUTO(client) c = if_running(m);
    if (c && !client_apply_remote(c, m->config, m->folder))
        return CLI_FAILED;
    if (q->on) {
        g_autofree char *uri = vireo_remote_uri(m->config, q->kind);
        puts(uri);
    }
    return CLI_OK;
}

static int with_client(struct machine *m, const char *verb, const char *which)
{
    g_autoptr(GError) error = NULL;
    AUTO(client) c = client_connect(m->config->name);
    g_autoptr(VireoRemote1) r = c ? connect_remote(c) : NULL;
    guint id = (guint)strtoul(which, NULL, 10);
    if (!r)
        return CLI_FAILED;
    bool ok = strcmp(verb, "disconnect") == 0
                  ? vireo_remote1_call_disconnect_sync(r, id, NULL, &error)
                  : vireo_remote1_call_set_view_only_sync(r, id, strcmp(verb, "view-only") == 0,
                                                          NULL, &error);
    return ok ? CLI_OK : client_fail(error);
}

static int with_server(struct machine *m, const char *verb, struct request *q)
{
    g_autofree char *text = NULL;
    if (strcmp(verb, "on") == 0 || strcmp(verb, "off") == 0) {
        q->on = verb[1] == 'n';
        return set(m, q);
    }
    text = strcmp(verb, "file") == 0 ? vireo_remote_connection_file(m->config, m->folder, q->kind)
                                     : vireo_remote_uri(m->config, q->kind);
    puts(text);
    return CLI_OK;
}

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

int cli_remote(int argc, char **argv)
{
    static const char *const kinds[] = {"spice", "vnc", NULL},
                             *const verbs[] = {"on", "off", "file", "uri", NULL},
                             *const for_clients[] = {"disconnect", "view-only", "take-part", NULL};
    struct request q = {0};
    const struct cli_option options[] = {{"--port", NULL, &q.port},
                                         {"--address", NULL, &q.address},
                                         {"--password-file", NULL, &q.password_file},
                                         {"--no-password", &q.no_password, NULL},
                                         {"--json", &q.json, NULL}};
    int operands, status_code = CLI_USAGE;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &operands, help))
        return CLI_USAGE;
    bool server = operands == 3 && is_one_of(argv[2], kinds) && is_one_of(argv[3], verbs);
    bool client = operands == 3 && is_one_of(argv[2], for_clients);
    if (operands != 1 && !server && !client)
        return cli_usage(
            "remote takes a machine, and spice or vnc with on, off, file or uri; see --help");
    struct machine m = {0};
    if (!machine_find(&m, argv[1]))
        status_code = CLI_FAILED;
    else if (server) {
        q.kind = argv[2][0] == 's' ? VIREO_REMOTE_SPICE : VIREO_REMOTE_VNC;
        status_code = with_server(&m, argv[3], &q);
    } else {
        status_code = client ? with_client(&m, argv[2], argv[3]) : status(&m, q.json);
    }
    machine_clear(&m);
    return status_code;
}
