/* SPDX-License-Identifier: GPL-3.0-or-later */
/* gallery: what can be built on the spot, and building it. */
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "app/cli/client.h"
#include "app/create.h"
#include "app/locales.h"
#include "core/base/cleanup.h"

static const char help[] =
    "Usage: vireoctl gallery [--json]\n"
    "       vireoctl gallery ENTRY NAME [OPTION...]\n\n"
    "Lists the systems that are built on the spot, or builds one into a new machine and prints "
    "its\n"
    "id. The password of its user is the first line of standard input; empty: only --key lets in.\n"
    "  --user NAME          its user (your own name)\n"
    "  --key FILE           a public SSH key that lets the user in\n"
    "  --host NAME          its own name (debian)\n"
    "  --locale LOCALE      its language, such as ja_JP.UTF-8\n"
    "  --timezone ZONE      such as Asia/Tokyo\n"
    "  --memory SIZE        memory (what the system suggests)\n"
    "  --cpus N             virtual processors (1)\n"
    "  --disk-size SIZE     disk (32G)\n"
    "  --place FOLDER       folder for its disks\n";

struct options {
    const char *user, *key, *host, *locale, *zone, *memory, *cpus, *disk, *place;
    bool json;
};

/* ---- list ---- */

static int list(GPtrArray *entries, bool json)
{
    struct cli_json j = {.f = stdout};
    if (json)
        cli_json_open(&j, '[');
    for (guint i = 0; i < entries->len; i++) {
        VireoGalleryEntry *e = entries->pdata[i];
        if (!json) {
            printf("%-20s  %s\n", vireo_gallery_entry_get_id(e),
                   vireo_gallery_entry_get_description(e));
            continue;
        }
        cli_json_open(&j, '{');
        cli_json_key(&j, "id");
        cli_json_string(&j, vireo_gallery_entry_get_id(e));
        cli_json_key(&j, "title");
        cli_json_string(&j, vireo_gallery_entry_get_title(e));
        cli_json_key(&j, "description");
        cli_json_string(&j, vireo_gallery_entry_get_description(e));
        cli_json_key(&j, "memory");
        cli_json_number(&j, (int64_t)vireo_gallery_entry_get_memory(e) << 20);
        cli_json_close(&j, '}');
    }
    if (json)
        cli_json_close(&j, ']');
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

/* ---- build ---- */

/* By "10-debian-server" or "debian-server". */
static VireoGalleryEntry *find(GPtrArray *entries, const char *name)
{
    for (guint i = 0; i < entries->len; i++) {
        const char *id = vireo_gallery_entry_get_id(entries->pdata[i]);
        const char *dash = strchr(id, '-');
        if (!strcmp(id, name) || (dash && !strcmp(dash + 1, name)))
            return entries->pdata[i];
    }
    return NULL;
}

/* Without showing it on a terminal. */
static char *read_password(void)
{
    struct termios before, silent;
    bool terminal = tcgetattr(0, &before) == 0;
    char line[512] = "";
    if (terminal) {
        fputs("Password of its user: ", stderr);
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(0, TCSAFLUSH, &silent);
    }
    if (!fgets(line, sizeof line, stdin))
        *line = 0;
    if (terminal) {
        tcsetattr(0, TCSAFLUSH, &before);
        fputc('\n', stderr);
    }
    line[strcspn(line, "\r\n")] = 0;
    return g_strdup(line);
}

static bool read_key(const char *path, char **key, err *e)
{
    g_autoptr(GError) error = NULL;
    *key = NULL;
    if (!path)
        *key = g_strdup("");
    else if (!g_file_get_contents(path, key, NULL, &error))
        return err_set(e, ERR_NOT_FOUND, "The key cannot be read: %s", error->message);
    (*key)[strcspn(*key, "\r\n")] = 0;
    return true;
}

static bool fill(VireoCreateRequest *r, const struct options *o, err *e)
{
    uint64_t bytes = 0;
    r->memory = MAX(vireo_gallery_entry_get_memory(r->entry), 512);
    if (o->memory) {
        if (!cli_size(o->memory, &bytes, e))
            return false;
        r->memory = (guint)MIN(bytes >> 20, VM_MAX_MEMORY_MIB);
    }
    bytes = 32ull << 30;
    if (o->disk && !cli_size(o->disk, &bytes, e))
        return false;
    r->disk_gib = (guint)MIN(bytes >> 30, 65536);
    r->cpus = o->cpus ? (guint)strtoul(o->cpus, NULL, 10) : 1;
    if (r->cpus < 1 || r->cpus > VM_MAX_CPUS)
        return err_set(e, ERR_INVALID, "\"%s\" is no number of processors", o->cpus);
    r->zone = o->zone ? g_strdup(o->zone) : vireo_own_time_zone();
    if (!vireo_is_time_zone(r->zone))
        return err_set(e, ERR_INVALID, "There is no time zone \"%s\"", r->zone);
    r->locale = g_strdup(o->locale ? o->locale : vireo_locale_at(vireo_own_locale()));
    r->user = g_strdup(o->user ? o->user : g_get_user_name());
    r->host = g_strdup(o->host ? o->host : "debian");
    r->place = g_strdup(o->place);
    return read_key(o->key, &r->key, e);
}

struct build {
    GMainLoop *loop;
    char *id;
    GError *error;
    int percent;
};

static void on_progress(double fraction, const char *text, gpointer data)
{
    struct build *b = data;
    int percent = (int)(fraction * 100);
    if (percent != b->percent)
        fprintf(stderr, "%3d%% %s\n", percent, text);
    b->percent = percent;
}

static void on_created(GObject *source, GAsyncResult *result, gpointer data)
{
    struct build *b = data;
    b->id = vireo_create_finish(result, &b->error);
    g_main_loop_quit(b->loop);
}

static int build(struct store *s, VireoCreateRequest *r)
{
    struct build b = {.loop = g_main_loop_new(NULL, FALSE), .percent = -1};
    vireo_create_async(s, r, on_progress, &b, NULL, on_created, &b);
    g_main_loop_run(b.loop);
    g_main_loop_unref(b.loop);
    if (!b.id) {
        client_fail(b.error);
        g_clear_error(&b.error);
        return CLI_FAILED;
    }
    puts(b.id);
    g_free(b.id);
    return CLI_OK;
}

int cli_gallery(int argc, char **argv)
{
    struct options o = {0};
    const struct cli_option options[] = {
        {"--json", &o.json, NULL},      {"--user", NULL, &o.user},
        {"--key", NULL, &o.key},        {"--host", NULL, &o.host},
        {"--locale", NULL, &o.locale},  {"--timezone", NULL, &o.zone},
        {"--memory", NULL, &o.memory},  {"--cpus", NULL, &o.cpus},
        {"--disk-size", NULL, &o.disk}, {"--place", NULL, &o.place},
    };
    int n;
    err e = ERR_INIT;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n, help))
        return CLI_USAGE;
    g_autoptr(GPtrArray) entries = vireo_gallery_load();
    if (!n)
        return list(entries, o.json);
    VireoGalleryEntry *entry = find(entries, argv[1]);
    if (n != 2)
        return cli_usage("gallery takes an entry and a name for the machine, or nothing");
    if (!entry)
        return cli_usage("the gallery has no \"%s\"", argv[1]);
    AUTO(store) s = cli_store();
    if (!s)
        return CLI_FAILED;
    VireoCreateRequest *r = g_new0(VireoCreateRequest, 1);
    r->source = VIREO_SOURCE_GALLERY;
    r->entry = g_object_ref(entry);
    r->name = g_strdup(argv[2]);
    r->connected = TRUE;
    if (!fill(r, &o, &e))
        return cli_fail(&e); /* the process ends */
    r->password = read_password();
    return build(s, r);
}
