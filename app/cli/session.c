/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl session, clipboard, send: the enhanced session of a running machine. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/cli/session.h"
#include "core/base/cleanup.h"
#include "session/audio/sound.h"
#include "session/clipboard/file-list.h"

#define SESSION_PATH "/org/vireo/Session1"
#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"

enum { READY_S = 15 };

/* ---- the connection ---- */

VireoSession1 *cli_session(struct client *c)
{
    g_autoptr(GError) error = NULL;
    VireoSession1 *s = vireo_session1_proxy_new_sync(c->bus, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                                     SESSION_PATH, NULL, &error);
    if (!s)
        client_fail(error);
    return s;
}

static gboolean on_time(gpointer data)
{
    *(gboolean *)data = TRUE;
    return G_SOURCE_CONTINUE;
}

bool cli_session_connect(VireoSession1 *s, const char *service)
{
    g_autoptr(GError) error = NULL;
    gboolean late = FALSE;
    const char *state = NULL;
    if (!vireo_session1_call_connect_sync(s, NULL, &error)) {
        client_fail(error);
        return false;
    }
    guint timeout = g_timeout_add_seconds(READY_S, on_time, &late);
    for (;;) {
        GVariant *services = vireo_session1_get_services(s);
        state = "missing";
        if (services)
            g_variant_lookup(services, service, "&s", &state);
        if (late || strcmp(state, "on") == 0 || strcmp(state, "denied") == 0)
            break;
        g_main_context_iteration(NULL, TRUE);
    }
    g_source_remove(timeout);
    if (strcmp(state, "on") == 0)
        return true;
    err e = ERR_INIT;
    const char *reason = vireo_session1_get_reason(s);
    if (strcmp(state, "denied") == 0)
        err_set(&e, ERR_DENIED, "the machine's settings do not allow it (%s)", service);
    else
        err_set(&e, ERR_STATE, "%s", reason && *reason ? reason : "the guest does not answer");
    cli_fail(&e);
    return false;
}

/* ---- session status, policy ---- */

static void print_words(const char *label, GVariant *v, const char *type)
{
    GVariantIter iter;
    const char *key, *text = NULL;
    gboolean flag = FALSE;
    printf("%s:", label);
    g_variant_iter_init(&iter, v);
    if (strcmp(type, "{&sb}") == 0)
        while (g_variant_iter_next(&iter, type, &key, &flag))
            printf(" %s=%s", key, flag ? "yes" : "no");
    else
        while (g_variant_iter_next(&iter, type, &key, &text))
            printf(" %s=%s", key, text);
    putchar('\n');
}

static void print_agent(GVariant *agent)
{
    const char *version = NULL, *kernel = "", *system = "";
    if (!g_variant_lookup(agent, "version", "&s", &version))
        return;
    g_variant_lookup(agent, "kernel", "&s", &kernel);
    g_variant_lookup(agent, "system", "&s", &system);
    printf("agent: %s on %s, Linux %s\n", version, system, kernel);
}

static void json_status(VireoSession1 *s)
{
    struct cli_json j = {.f = stdout};
    GVariantIter iter;
    const char *key, *text;
    gboolean flag;
    GVariant *v;
    cli_json_open(&j, '{');
    cli_json_key(&j, "state");
    cli_json_string(&j, vireo_session1_get_state(s));
    cli_json_key(&j, "reason");
    cli_json_string(&j, vireo_session1_get_reason(s));
    cli_json_key(&j, "viewers");
    cli_json_number(&j, vireo_session1_get_viewers(s));
    cli_json_key(&j, "recording");
    cli_json_bool(&j, vireo_session1_get_recording(s));
    cli_json_key(&j, "agent");
    cli_json_open(&j, '{');
    g_variant_iter_init(&iter, vireo_session1_get_agent(s));
    while (g_variant_iter_next(&iter, "{&sv}", &key, &v)) {
        cli_json_key(&j, key);
        cli_json_string(&j, g_variant_get_string(v, NULL));
        g_variant_unref(v);
    }
    cli_json_close(&j, '}');
    cli_json_key(&j, "services");
    cli_json_open(&j, '{');
    g_variant_iter_init(&iter, vireo_session1_get_services(s));
    while (g_variant_iter_next(&iter, "{&s&s}", &key, &text)) {
        cli_json_key(&j, key);
        cli_json_string(&j, text);
    }
    cli_json_close(&j, '}');
    cli_json_key(&j, "policy");
    cli_json_open(&j, '{');
    g_variant_iter_init(&iter, vireo_session1_get_policy(s));
    while (g_variant_iter_next(&iter, "{&sb}", &key, &flag)) {
        cli_json_key(&j, key);
        cli_json_bool(&j, flag);
    }
    cli_json_close(&j, '}');
    cli_json_close(&j, '}');
}

static int status(VireoSession1 *s, bool json)
{
    if (json) {
        json_status(s);
        return ferror(stdout) ? CLI_FAILED : CLI_OK;
    }
    const char *reason = vireo_session1_get_reason(s);
    printf("state: %s%s%s\n", vireo_session1_get_state(s), reason[0] ? ": " : "", reason);
    print_agent(vireo_session1_get_agent(s));
    print_words("services", vireo_session1_get_services(s), "{&s&s}");
    print_words("allowed", vireo_session1_get_policy(s), "{&sb}");
    printf("viewers: %u%s\n", vireo_session1_get_viewers(s),
           vireo_session1_get_recording(s) ? ", the microphone is heard" : "");
    return CLI_OK;
}

/* KEY=yes|no ... */
static int policy(VireoSession1 *s, int n, char **pairs)
{
    GVariantBuilder b;
    g_autoptr(GError) error = NULL;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sb}"));
    for (int i = 0; i < n; i++) {
        const char *eq = strchr(pairs[i], '=');
        if (!eq || (strcmp(eq, "=yes") != 0 && strcmp(eq, "=no") != 0)) {
            g_variant_builder_clear(&b);
            return cli_usage("“%s” is not NAME=yes or NAME=no", pairs[i]);
        }
        g_autofree char *key = g_strndup(pairs[i], (gsize)(eq - pairs[i]));
        g_variant_builder_add(&b, "{sb}", key, strcmp(eq, "=yes") == 0);
    }
    if (!vireo_session1_call_set_policy_sync(s, g_variant_builder_end(&b), NULL, &error))
        return client_fail(error);
    return CLI_OK;
}

/* ---- session audio ---- */

static gboolean on_stop(gpointer data)
{
    g_main_loop_quit(data);
    return G_SOURCE_REMOVE;
}

static void on_worker_gone(GDBusConnection *c, gboolean remote, GError *error, GMainLoop *loop)
{
    g_main_loop_quit(loop);
}

static void print_stats(VireoSound *sound, bool json)
{
    struct vireo_sound_stats st;
    struct cli_json j = {.f = stdout};
    vireo_sound_get_stats(sound, &st);
    if (!json) {
        printf("latency %.1f ms, clock %+.1f ppm, %" G_GUINT64_FORMAT
               " frames, %u underruns, %u skips\n",
               st.latency_ms, (st.ratio - 1) * 1e6, st.frames, st.underruns, st.skips);
        return;
    }
    cli_json_open(&j, '{');
    cli_json_key(&j, "latency-ms");
    cli_json_real(&j, st.latency_ms);
    cli_json_key(&j, "clock-ppm");
    cli_json_real(&j, (st.ratio - 1) * 1e6);
    cli_json_key(&j, "frames");
    cli_json_number(&j, (gint64)st.frames);
    cli_json_key(&j, "underruns");
    cli_json_number(&j, st.underruns);
    cli_json_key(&j, "skips");
    cli_json_number(&j, st.skips);
    cli_json_close(&j, '}');
}

/* Plays, and records if asked to, until a signal, the machine's end, or the time is up. */
static int audio(struct client *c, VireoSession1 *s, const char *seconds, bool record, bool json)
{
    g_autoptr(GError) error = NULL;
    if (!vireo_session1_call_connect_sync(s, NULL, &error))
        return client_fail(error);
    GMainLoop *loop = g_main_loop_new(NULL, FALSE);
    g_dbus_connection_set_exit_on_close(c->bus, FALSE);
    g_signal_connect(c->bus, "closed", G_CALLBACK(on_worker_gone), loop);
    g_unix_signal_add(SIGINT, on_stop, loop);
    g_unix_signal_add(SIGTERM, on_stop, loop);
    if (seconds)
        g_timeout_add((guint)(g_ascii_strtod(seconds, NULL) * 1000), on_stop, loop);
    g_autoptr(VireoSound) sound =
        vireo_sound_new(c->bus, vireo_machine1_get_name(c->machine), record);
    g_main_loop_run(loop);
    print_stats(sound, json);
    vireo_sound_close(sound);
    g_signal_handlers_disconnect_by_data(c->bus, loop);
    g_main_loop_unref(loop);
    return CLI_OK;
}

/* WIDTHxHEIGHT, pixels. */
static int size(VireoSession1 *s, const char *text)
{
    g_autoptr(GError) error = NULL;
    guint width = 0, height = 0;
    char end;
    if (sscanf(text, "%ux%u%c", &width, &height, &end) != 2 || !width || !height)
        return cli_usage("“%s” is not WIDTHxHEIGHT", text);
    if (!cli_session_connect(s, "display"))
        return CLI_FAILED;
    if (!vireo_session1_call_set_size_sync(s, width, height, 0, 0, NULL, &error))
        return client_fail(error);
    return CLI_OK;
}

int cli_session_command(int argc, char **argv)
{
    bool json = false, record = false;
    const char *seconds = NULL;
    const struct cli_option options[] = {
        {"--json", &json, NULL}, {"--record", &record, NULL}, {"--seconds", NULL, &seconds}};
    int n;
    if (!cli_parse(
            argc, argv, options, G_N_ELEMENTS(options), &n,
            "Usage: vireoctl session status NAME [--json]\n"
            "       vireoctl session policy NAME PERMISSION=yes|no...\n"
            "       vireoctl session size NAME WIDTHxHEIGHT\n"
            "       vireoctl session audio NAME [--seconds N] [--record]\n\n"
            "The enhanced session of a running machine: what the guest's agent offers, what "
            "is\nallowed (clipboard-to-guest, clipboard-from-guest, files, sound, "
            "microphone, usb;\nuntil the machine ends, `vireoctl set` keeps it), the size of "
            "its desktop, and its\nsound, played here.\n"))
        return CLI_USAGE;
    if (n < 2)
        return cli_usage("session takes status, policy, size or audio, and a machine");
    AUTO(client) c = client_connect(argv[2]);
    g_autoptr(VireoSession1) s = c ? cli_session(c) : NULL;
    if (!s)
        return CLI_FAILED;
    if (strcmp(argv[1], "status") == 0 && n == 2)
        return status(s, json);
    if (strcmp(argv[1], "policy") == 0 && n > 2)
        return policy(s, n - 2, argv + 3);
    if (strcmp(argv[1], "size") == 0 && n == 3)
        return size(s, argv[3]);
    if (strcmp(argv[1], "audio") == 0 && n == 2)
        return audio(c, s, seconds, record, json);
    return cli_usage("session takes status, policy, size or audio, and a machine");
}

/* ---- clipboard ---- */

static VireoDisplayClipboard *clipboard_of(struct client *c)
{
    g_autoptr(GError) error = NULL;
    VireoDisplayClipboard *p = vireo_display_clipboard_proxy_new_sync(
        c->bus, G_DBUS_PROXY_FLAGS_NONE, NULL, CLIPBOARD_PATH, NULL, &error);
    if (!p)
        client_fail(error);
    return p;
}

struct holder {
    GMainLoop *loop;
    guint8 *data;
    gsize len;
    const char *mime;
    guint selection;
    const char *folder; /* for files */
    /* for `get`: what the guest offered */
    gboolean grabbed;
    bool background;
};

static gboolean on_grab(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                        guint selection, guint serial, const char *const *mimes, struct holder *h)
{
    vireo_display_clipboard_complete_grab(skeleton, call);
    if (selection == h->selection) {
        h->grabbed = TRUE;
        if (h->loop)
            g_main_loop_quit(h->loop);
    }
    return TRUE;
}

static gboolean on_release(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                           guint selection, struct holder *h)
{
    vireo_display_clipboard_complete_release(skeleton, call);
    return TRUE;
}

static gboolean on_request(VireoDisplayClipboard *skeleton, GDBusMethodInvocation *call,
                           guint selection, const char *const *mimes, struct holder *h)
{
    vireo_display_clipboard_complete_request(
        skeleton, call, h->mime,
        g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, h->data, h->len, 1));
    return TRUE;
}

static VireoDisplayClipboard *serve(struct client *c, struct holder *h)
{
    g_autoptr(VireoDisplayClipboard) s = vireo_display_clipboard_skeleton_new();
    g_autoptr(GError) error = NULL;
    g_signal_connect(s, "handle-grab", G_CALLBACK(on_grab), h);
    g_signal_connect(s, "handle-release", G_CALLBACK(on_release), h);
    g_signal_connect(s, "handle-request", G_CALLBACK(on_request), h);
    if (!g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(s), c->bus, CLIPBOARD_PATH,
                                          &error)) {
        client_fail(error);
        return NULL;
    }
    return g_steal_pointer(&s);
}

/* The files' paths, a line each. */
static int put_files(const void *bytes, gsize len, const char *folder)
{
    g_autoptr(GError) error = NULL;
    g_auto(GStrv) paths = vireo_file_list_unpack(bytes, len, folder, &error);
    if (!paths)
        return client_fail(error);
    for (guint i = 0; paths[i]; i++)
        puts(paths[i]);
    return ferror(stdout) ? CLI_FAILED : CLI_OK;
}

static int get(VireoDisplayClipboard *p, struct holder *h)
{
    const char *const mimes[] = {h->mime, NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) data = NULL;
    g_autofree char *mime = NULL;
    gboolean late = FALSE;
    if (!vireo_display_clipboard_call_register_sync(p, NULL, &error))
        return client_fail(error);
    /* The guest tells what it has when its agent has connected; a moment's patience. */
    guint timeout = g_timeout_add(2000, on_time, &late);
    while (!h->grabbed && !late)
        g_main_context_iteration(NULL, TRUE);
    g_source_remove(timeout);
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(p), G_MAXINT);
    if (!vireo_display_clipboard_call_request_sync(p, h->selection, mimes, &mime, &data, NULL,
                                                   &error))
        return client_fail(error);
    gsize len = 0;
    const void *bytes = g_variant_get_fixed_array(data, &len, 1);
    if (h->folder)
        return put_files(bytes, len, h->folder);
    return fwrite(bytes, 1, len, stdout) == len && fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}

static bool read_all(struct holder *h)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint8 buf[65536];
    ssize_t n;
    while ((n = read(0, buf, sizeof buf)) > 0)
        g_byte_array_append(all, buf, (guint)n);
    h->len = all->len;
    h->data = g_byte_array_free(g_steal_pointer(&all), FALSE);
    return n == 0;
}

static void on_gone(GDBusConnection *c, gboolean remote, GError *error, struct holder *h)
{
    g_main_loop_quit(h->loop);
}

/* Tells the parent that all is well, and keeps nobody's pipe open. */
static void let_go(void)
{
    puts("ready");
    fflush(stdout);
    AUTO(fd) null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3 && null >= 0; i++)
        dup2(null, i);
}

/* Serves what was copied until somebody else copies. */
static int hold(struct client *c, VireoDisplayClipboard *p, struct holder *h)
{
    const char *const mimes[] = {h->mime, NULL};
    g_autoptr(GError) error = NULL;
    h->loop = g_main_loop_new(NULL, FALSE);
    g_dbus_connection_set_exit_on_close(c->bus, FALSE);
    g_signal_connect(c->bus, "closed", G_CALLBACK(on_gone), h);
    /* In this order: who registers is told who owns what, which then is us. */
    if (!vireo_display_clipboard_call_grab_sync(p, h->selection, 0, mimes, NULL, &error) ||
        !vireo_display_clipboard_call_register_sync(p, NULL, &error))
        return client_fail(error);
    if (h->background)
        let_go();
    h->grabbed = FALSE;
    g_main_loop_run(h->loop);
    g_signal_handlers_disconnect_by_data(c->bus, h);
    return CLI_OK;
}

/* The parent returns when the child says that it serves. */
static int detach(void)
{
    int p[2];
    char word[8] = "";
    if (pipe(p) != 0)
        return -1;
    pid_t child = fork();
    if (child == 0) {
        dup2(p[1], 1);
        close(p[0]);
        close(p[1]);
        setsid();
        return 0;
    }
    close(p[1]);
    ssize_t n = child > 0 ? read(p[0], word, sizeof word - 1) : -1;
    exit(n > 0 ? CLI_OK : CLI_FAILED);
}

int cli_clipboard(int argc, char **argv)
{
    bool primary = false, wait = false;
    const char *type = NULL, *folder = NULL;
    const struct cli_option options[] = {{"--primary", &primary, NULL},
                                         {"--type", NULL, &type},
                                         {"--files", NULL, &folder},
                                         {"--wait", &wait, NULL}};
    int n;
    if (!cli_parse(argc, argv, options, G_N_ELEMENTS(options), &n,
                   "Usage: vireoctl clipboard get NAME [--primary] [--type MIME | --files FOLDER]\n"
                   "       vireoctl clipboard set NAME [--primary] [--type MIME] [--wait]\n\n"
                   "Writes what was copied in the guest to standard output; copies standard input, "
                   "so that\nit can be pasted in the guest until something else is copied (--wait: "
                   "returns then).\nMIME: text/plain (the default), image/png and others. --files: "
                   "puts the files that were\ncopied there, 64 MiB in all at most, into FOLDER and "
                   "tells their paths.\n"))
        return CLI_USAGE;
    bool setting = n == 2 && strcmp(argv[1], "set") == 0;
    if (!setting && (n != 2 || strcmp(argv[1], "get") != 0))
        return cli_usage("clipboard takes get or set, and a machine");
    if (folder && (setting || type))
        return cli_usage("--files is for get, and in place of --type");
    struct holder h = {.selection = primary,
                       .folder = folder,
                       .mime = folder ? VIREO_MIME_FILES
                               : type ? type
                                      : "text/plain;charset=utf-8"};
    if (setting && !read_all(&h))
        return cli_usage("standard input cannot be read");
    h.background = setting && !wait;
    if (h.background)
        detach();
    AUTO(client) c = client_connect(argv[2]);
    g_autoptr(VireoSession1) s = c ? cli_session(c) : NULL;
    g_autoptr(VireoDisplayClipboard) p = s ? clipboard_of(c) : NULL;
    if (!p)
        return CLI_FAILED;
    g_autoptr(VireoDisplayClipboard) mine = serve(c, &h);
    if (!mine || !cli_session_connect(s, "clipboard"))
        return CLI_FAILED;
    return setting ? hold(c, p, &h) : get(p, &h);
}

/* ---- send ---- */

struct sending {
    GMainLoop *loop;
    guint id;
    bool tty;
    char *state, *text;
};

static void on_transfer(VireoSession1 *s, guint id, guint64 done, guint64 total, const char *state,
                        const char *text, struct sending *t)
{
    if (t->id && id != t->id)
        return;
    if (t->tty && total)
        fprintf(stderr, "\r%3u %%", (unsigned)(done * 100 / total));
    if (strcmp(state, "going") == 0)
        return;
    g_free(t->state);
    g_free(t->text);
    t->state = g_strdup(state);
    t->text = g_strdup(text);
    g_main_loop_quit(t->loop);
}

static int send_one(VireoSession1 *s, const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    g_autofree char *name = g_path_get_basename(path);
    struct sending t = {.loop = g_main_loop_new(NULL, FALSE), .tty = isatty(2)};
    err e = ERR_INIT;
    AUTO(fd) fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || g_unix_fd_list_append(fds, fd, &error) < 0) {
        err_errno(&e, errno, "%s", path);
        return cli_fail(&e);
    }
    gulong handler = g_signal_connect(s, "transfer", G_CALLBACK(on_transfer), &t);
    if (!vireo_session1_call_send_file_sync(s, g_variant_new_handle(0), name, fds, &t.id, NULL,
                                            NULL, &error))
        return client_fail(error);
    g_main_loop_run(t.loop);
    g_signal_handler_disconnect(s, handler);
    if (t.tty)
        fputs("\r     \r", stderr);
    bool ok = g_strcmp0(t.state, "done") == 0;
    if (!ok)
        err_set(&e, ERR_IO, "%s: %s", name, t.text && *t.text ? t.text : "cancelled");
    g_free(t.state);
    g_free(t.text);
    g_main_loop_unref(t.loop);
    return ok ? CLI_OK : cli_fail(&e);
}

int cli_send(int argc, char **argv)
{
    int n;
    if (!cli_parse(argc, argv, NULL, 0, &n,
                   "Usage: vireoctl send NAME FILE...\n\nPuts files into the guest's session (its "
                   "desktop or downloads folder).\n"))
        return CLI_USAGE;
    if (n < 2)
        return cli_usage("send takes a machine and files");
    AUTO(client) c = client_connect(argv[1]);
    g_autoptr(VireoSession1) s = c ? cli_session(c) : NULL;
    if (!s || !cli_session_connect(s, "files"))
        return CLI_FAILED;
    for (int i = 2; i <= n; i++)
        if (send_one(s, argv[i]) != CLI_OK)
            return CLI_FAILED;
    return CLI_OK;
}
