/* SPDX-License-Identifier: GPL-3.0-or-later */
/* events: a machine's event log, and what is added to it. media: discs in its drive. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "app/cli/client.h"
#include "app/files.h"
#include "core/base/cleanup.h"

/* ---- events ---- */

/* A line of the log, "TIME LEVEL SUBSYSTEM: TEXT", as a member of the list. */
static void json_line(struct cli_json *j, char *line)
{
    static const char *const keys[] = {"time", "level", "subsystem", "text"};
    cli_json_open(j, '{');
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        char *end = i == 3 ? NULL : strstr(line, i == 2 ? ": " : " ");
        if (end)
            *end = 0;
        cli_json_key(j, keys[i]);
        cli_json_string(j, line);
        line = end ? end + (i == 2 ? 2 : 1) : line + strlen(line);
    }
    cli_json_close(j, '}');
}

static bool print_log(const char *folder, const char *name, struct cli_json *j)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    FILE *f = fopen(path, "re");
    char line[4096];
    if (!f)
        return errno == ENOENT;
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (j)
            json_line(j, line);
        else
            puts(line);
    }
    bool ok = !ferror(f);
    fclose(f);
    return ok;
}

struct follow {
    GMainLoop *loop;
    bool json;
};

static void on_event(VireoMachine1 *m, gint64 time, const char *level, const char *subsystem,
                     const char *text, struct follow *f)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_local(time / G_USEC_PER_SEC);
    g_autofree char *when = t ? g_date_time_format_iso8601(t) : g_strdup("-");
    g_autofree char *line = g_strdup_printf("%s %s %s: %s", when, level, subsystem, text);
    struct cli_json j = {.f = stdout};
    if (f->json)
        json_line(&j, line);
    else
        puts(line);
    fflush(stdout);
}

static void on_state(VireoMachine1 *m, GParamSpec *spec, struct follow *f)
{
    const char *reason = vireo_machine1_get_state_reason(m);
    on_event(m, g_get_real_time(), "info", vireo_machine1_get_state(m), reason ? reason : "", f);
}

static void on_end(GDBusConnection *bus, gboolean vanished, GError *error, struct follow *f)
{
    g_main_loop_quit(f->loop);
}

static int follow(const char *name, bool json)
{
    AUTO(client) c = client_connect(name);
    if (!c)
        return CLI_FAILED;
    struct follow f = {g_main_loop_new(NULL, FALSE), json};
    g_signal_connect(c->machine, "event", G_CALLBACK(on_event), &f);
    g_signal_connect(c->machine, "notify::state", G_CALLBACK(on_state), &f);
    g_signal_connect(c->bus, "closed", G_CALLBACK(on_end), &f);
    g_main_loop_run(f.loop);
    g_signal_handlers_disconnect_by_data(c->machine, &f);
    g_signal_handlers_disconnect_by_data(c->bus, &f);
    g_main_loop_unref(f.loop);
    return CLI_OK;
}

int cli_events(int argc, char **argv)
{
    bool json = false, wait = false;
    const struct cli_option options[] = {{"--json", &json, NULL}, {"--follow", &wait, NULL}};
    int n;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n,
                   "Usage: vireoctl events NAME [--follow] [--json]\n\nPrints a machine's event "
                   "log; with --follow instead what happens from now on, until\nthe machine is "
                   "off (--json: an object a line).\n"))
        return CLI_USAGE;
    if (n != 1)
        return cli_usage("events takes a machine");
    if (wait)
        return follow(argv[1], json);
    err e = ERR_INIT;
    struct guid id;
    char text[GUID_STR_LEN + 1];
    AUTO(store) s = cli_store();
    if (!s || !cli_find(s, argv[1], &id))
        return CLI_FAILED;
    guid_format(&id, text);
    g_autofree char *folder = g_build_filename(store_root(s), text, NULL);
    struct cli_json j = {.f = stdout};
    if (json)
        cli_json_open(&j, '[');
    bool ok = print_log(folder, "events.log.1", json ? &j : NULL) &&
              print_log(folder, "events.log", json ? &j : NULL);
    if (json)
        cli_json_close(&j, ']');
    err_set(&e, ERR_IO, "the event log of \"%s\" cannot be read", argv[1]);
    return ok ? CLI_OK : cli_fail(&e);
}

/* ---- media ---- */

static int insert(struct client *c, const char *path, const char *drive)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    g_autofree char *full = g_canonicalize_filename(path, NULL);
    enum vm_media media = g_str_has_prefix(drive, "floppy") ? VM_MEDIA_FLOPPY : VM_MEDIA_DVD;
    GVariant *files = vireo_files_collect_disk(full, "/", FALSE, media, fds, &error);
    if (!files || !vireo_machine1_call_insert_media_sync(c->machine, drive, full, files, fds, NULL,
                                                         NULL, &error))
        return client_fail(error);
    return CLI_OK;
}

int cli_media(int argc, char **argv)
{
    bool force = false;
    const char *drive = "";
    const struct cli_option options[] = {{"--force", &force, NULL}, {"--drive", NULL, &drive}};
    int n;
    g_autoptr(GError) error = NULL;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n,
                   "Usage: vireoctl media insert NAME FILE [--drive ID]\n"
                   "       vireoctl media eject NAME [--drive ID] [--force]\n\nPuts a disc image "
                   "into a running machine's DVD drive, or takes it out. A floppy drive is "
                   "\"floppy0\".\n"))
        return CLI_USAGE;
    bool inserting = n == 3 && !strcmp(argv[1], "insert");
    if (!inserting && (n != 2 || strcmp(argv[1], "eject")))
        return cli_usage("media takes insert, a machine and a file, or eject and a machine");
    AUTO(client) c = client_connect(argv[2]);
    if (!c)
        return CLI_FAILED;
    if (inserting)
        return insert(c, argv[3], drive);
    if (!vireo_machine1_call_eject_media_sync(c->machine, drive, force, NULL, &error))
        return client_fail(error);
    return CLI_OK;
}
