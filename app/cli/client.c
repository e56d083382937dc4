/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "app/files.h"
#include "app/launcher.h"
#include "core/base/cleanup.h"
#include "core/machine/handover.h"

enum { CALL_TIMEOUT_MS = 120000, CONNECT_STEP_US = 20000, CONNECT_TRIES = 500 };
enum { CHILD_STEP_US = 2000, CHILD_TRIES = 30000 }; /* a minute: its disks are being flushed */

int client_fail(GError *error)
{
    err e = ERR_INIT;
    g_dbus_error_strip_remote_error(error);
    err_set(&e, ERR_IO, "%s", error->message);
    return cli_fail(&e);
}

static void wait_for_child(GPid pid)
{
    for (unsigned i = 0; i < CHILD_TRIES && waitpid(pid, NULL, WNOHANG) == 0; i++)
        g_usleep(CHILD_STEP_US);
}

void client_close(struct client *c)
{
    if (!c)
        return;
    g_clear_object(&c->machine);
    if (c->bus)
        g_dbus_connection_close_sync(c->bus, NULL, NULL);
    g_clear_object(&c->bus);
    if (c->child)
        wait_for_child(c->child);
    g_free(c);
}

static char *runtime; /* NULL: the session's */

void client_set_runtime(const char *path)
{
    g_free(runtime);
    runtime = g_strdup(path);
}

static const char *runtime_dir(void)
{
    return runtime ? runtime : g_get_user_runtime_dir();
}

static char *socket_path(const char *id)
{
    return g_build_filename(runtime_dir(), "vireo", id, "bus", NULL);
}

/* Takes the connection. */
static struct client *adopt(GDBusConnection *bus, GError **error)
{
    struct client *c = g_new0(struct client, 1);
    c->bus = bus;
    c->machine = vireo_machine1_proxy_new_sync(bus, G_DBUS_PROXY_FLAGS_NONE, NULL, CLIENT_MACHINE,
                                               NULL, error);
    if (!c->machine) {
        client_close(c);
        return NULL;
    }
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(c->machine), CALL_TIMEOUT_MS);
    return c;
}

static struct client *try_connect(const char *id, GError **error)
{
    g_autofree char *path = socket_path(id);
    g_autofree char *escaped = g_dbus_address_escape_value(path);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
    GDBusConnection *bus = g_dbus_connection_new_for_address_sync(
        address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL, error);
    return bus ? adopt(bus, error) : NULL;
}

void client_forget(const char *id)
{
    static const char *const names[] = {"bus", "lock", "vsock"};
    g_autofree char *folder = g_build_filename(runtime_dir(), "vireo", id, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(folder, names[i], NULL);
        unlink(path);
    }
    rmdir(folder);
}

/* A machine of no store (vireoctl run), by the name that its worker has. */
static bool find_running(const char *name, char id[GUID_STR_LEN + 1])
{
    g_autofree char *path = g_build_filename(runtime_dir(), "vireo", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *entry;
    struct guid g;
    while (dir && (entry = g_dir_read_name(dir))) {
        AUTO(client) c = guid_parse(entry, &g) ? try_connect(entry, NULL) : NULL;
        if (c && g_strcmp0(vireo_machine1_get_name(c->machine), name) == 0) {
            guid_format(&g, id);
            return true;
        }
    }
    return false;
}

/* Which disk of the machine this file is, or NULL. */
static char *disk_of(struct client *c, const struct stat *file)
{
    g_autoptr(GVariant) disks = vireo_machine1_dup_disks(c->machine);
    GVariantIter it;
    GVariant *d;
    char *found = NULL;
    g_variant_iter_init(&it, disks);
    while (!found && (d = g_variant_iter_next_value(&it))) {
        const char *path = "", *id = "";
        struct stat st;
        g_variant_lookup(d, "path", "&s", &path);
        g_variant_lookup(d, "id", "&s", &id);
        if (*path && stat(path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino)
            found = g_strdup(id);
        g_variant_unref(d);
    }
    return found;
}

struct client *client_find_disk(const char *path, char **id)
{
    struct stat file;
    g_autofree char *folder = g_build_filename(runtime_dir(), "vireo", NULL);
    g_autoptr(GDir) dir = stat(path, &file) == 0 ? g_dir_open(folder, 0, NULL) : NULL;
    const char *entry;
    struct guid g;
    while (dir && (entry = g_dir_read_name(dir))) {
        struct client *c = guid_parse(entry, &g) ? try_connect(entry, NULL) : NULL;
        if (c && (*id = disk_of(c, &file)))
            return c;
        client_close(c);
    }
    return NULL;
}

/* The id of a machine of the store, or one that only runs. */
static bool find_id(const char *name_or_id, char id[GUID_STR_LEN + 1])
{
    struct guid g;
    if (guid_parse(name_or_id, &g)) {
        guid_format(&g, id);
        g_autofree char *path = socket_path(id);
        if (access(path, F_OK) == 0)
            return true;
    }
    AUTO(store) s = cli_store();
    if (s && store_find(s, name_or_id, &g, NULL)) {
        guid_format(&g, id);
        return true;
    }
    if (find_running(name_or_id, id))
        return true;
    if (s)
        cli_find(s, name_or_id, &g); /* says what is wrong */
    return false;
}

struct client *client_connect(const char *name_or_id)
{
    char id[GUID_STR_LEN + 1];
    g_autoptr(GError) error = NULL;
    if (!find_id(name_or_id, id))
        return NULL;
    struct client *c = try_connect(id, &error);
    if (!c) {
        err e = ERR_INIT;
        err_set(&e, ERR_STATE, "the machine \"%s\" is not running", name_or_id);
        cli_fail(&e);
    }
    return c;
}

struct client *client_find(const struct guid *id)
{
    char text[GUID_STR_LEN + 1];
    guid_format(id, text);
    return try_connect(text, NULL);
}

/* ---- long calls ---- */

struct waiting {
    GMainLoop *loop;
    GVariant *result;
    GError *error;
    bool line; /* the terminal's line is not ended */
};

static void on_progress(VireoMachine1 *m, const char *operation, const char *text, double fraction,
                        gboolean done, const char *error, gpointer data)
{
    struct waiting *w = data;
    if (!isatty(2) || done)
        return;
    fprintf(stderr, "\r%s: %3.0f %%", text, fraction * 100);
    w->line = true;
}

static void on_answer(GObject *source, GAsyncResult *result, gpointer data)
{
    struct waiting *w = data;
    w->result = g_dbus_proxy_call_finish(G_DBUS_PROXY(source), result, &w->error);
    g_main_loop_quit(w->loop);
}

GVariant *client_call(struct client *c, const char *method, GVariant *parameters)
{
    struct waiting w = {.loop = g_main_loop_new(NULL, FALSE)};
    gulong id = g_signal_connect(c->machine, "progress", G_CALLBACK(on_progress), &w);
    g_dbus_proxy_call(G_DBUS_PROXY(c->machine), method, parameters, G_DBUS_CALL_FLAGS_NONE,
                      G_MAXINT, NULL, on_answer, &w);
    g_main_loop_run(w.loop);
    g_main_loop_unref(w.loop);
    g_signal_handler_disconnect(c->machine, id);
    if (w.line)
        fputc('\n', stderr);
    if (!w.result) {
        client_fail(w.error);
        g_error_free(w.error);
    }
    return w.result;
}

/* ---- starting ---- */

static void detach(gpointer data)
{
    setsid();
}

/* A worker of a machine without a folder, or one of ours: our own child. */
static bool spawn(const char *id, const char *folder, int words, GPid *pid, GError **error)
{
    g_autofree char *worker = vireo_launcher_worker();
    const char *argv[] = {worker, "--id", id, folder ? "--folder" : NULL, folder, NULL};
    AUTO(fd) out = open("/dev/null", O_WRONLY | O_CLOEXEC);
    AUTO(fd) in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    g_auto(GStrv) env = g_environ_setenv(g_get_environ(), "XDG_RUNTIME_DIR", runtime_dir(), TRUE);
    return g_spawn_async_with_fds(NULL, (char **)argv, env, G_SPAWN_DO_NOT_REAP_CHILD, detach, NULL,
                                  pid, in, out, words, error);
}

/* The last line that a worker wrote into the file, less the program's name. */
static char *last_words(int fd)
{
    char buf[1024];
    ssize_t n = fd < 0 ? 0 : pread(fd, buf, sizeof buf - 1, 0);
    buf[MAX(n, 0)] = 0;
    g_strchomp(buf);
    char *line = strrchr(buf, '\n');
    line = line ? line + 1 : buf;
    return g_strdup(g_str_has_prefix(line, "vireo-vm: ") ? line + 10 : line);
}

struct launch {
    GMainLoop *loop;
    GDBusConnection *bus;
    GError *error;
};

static void on_launched(GObject *source, GAsyncResult *result, gpointer data)
{
    struct launch *l = data;
    l->bus = vireo_launcher_start_finish(result, &l->error);
    g_main_loop_quit(l->loop);
}

/* A worker that outlives us. */
static struct client *launch(const char *id, const char *folder)
{
    struct launch l = {.loop = g_main_loop_new(NULL, FALSE)};
    g_autoptr(GError) error = NULL;
    vireo_launcher_start_async(id, folder, NULL, on_launched, &l);
    g_main_loop_run(l.loop);
    g_main_loop_unref(l.loop);
    struct client *c = l.bus ? adopt(l.bus, &error) : NULL;
    if (!c)
        client_fail(l.error ? l.error : error);
    g_clear_error(&l.error);
    return c;
}

struct client *client_launch(const char *id, const char *folder, bool quiet)
{
    return folder ? launch(id, folder) : client_launch_own(id, NULL, quiet);
}

struct client *client_launch_own(const char *id, const char *folder, bool quiet)
{
    g_autoptr(GError) error = NULL;
    GPid pid = 0;
    AUTO(fd) words = quiet ? memfd_create("words", MFD_CLOEXEC) : -1;
    if (!spawn(id, folder, words < 0 ? 2 : words, &pid, &error)) {
        client_fail(error);
        return NULL;
    }
    for (unsigned i = 0; i < CONNECT_TRIES; i++) {
        struct client *c = try_connect(id, NULL);
        if (c) {
            c->child = pid;
            return c;
        }
        if (waitpid(pid, NULL, WNOHANG) == pid)
            break;
        g_usleep(CONNECT_STEP_US);
    }
    err e = ERR_INIT;
    g_autofree char *said = last_words(words);
    err_set(&e, ERR_IO, "the program that runs the machine did not start%s%s", *said ? ": " : "",
            said);
    cli_fail(&e);
    return NULL;
}

/* ---- files ---- */

struct parcel {
    GVariantBuilder *b;
    GUnixFDList *fds;
};

static bool add_fd(void *ctx, const char *name, int fd, err *e)
{
    struct parcel *p = ctx;
    g_autoptr(GError) error = NULL;
    int index = g_unix_fd_list_append(p->fds, fd, &error);
    close(fd);
    if (index < 0)
        return err_set(e, ERR_IO, "%s", error->message);
    g_variant_builder_add(p->b, "(sh)", name, index);
    return true;
}

GVariant *client_disk(const char *path, bool read_only, enum vm_media media, GUnixFDList *fds)
{
    err e = ERR_INIT;
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    struct parcel p = {&b, fds};
    if (handover_disk(path, NULL, read_only, media, add_fd, &p, &e))
        return g_variant_builder_end(&b);
    cli_fail(&e);
    return NULL;
}

GVariant *client_switch(const char *where, GUnixFDList *fds)
{
    err e = ERR_INIT;
    g_auto(GVariantBuilder) b = G_VARIANT_BUILDER_INIT(G_VARIANT_TYPE("a(sh)"));
    struct parcel p = {&b, fds};
    if (handover_switch(where, add_fd, &p, &e))
        return g_variant_builder_end(&b);
    cli_fail(&e);
    return NULL;
}

/* `files` (taken) and the port beside. */
static GVariant *add_port(GVariant *files, int fd, GUnixFDList *fds, GError **error)
{
    g_autoptr(GVariant) list = g_variant_ref_sink(files);
    GVariantBuilder b;
    int index = g_unix_fd_list_append(fds, fd, error);
    if (index < 0)
        return NULL;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sh)"));
    for (gsize i = 0; i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(list, i);
        g_variant_builder_add_value(&b, v);
    }
    g_variant_builder_add(&b, "(sh)", "port0", index);
    return g_variant_builder_end(&b);
}

bool client_start(struct client *c, const struct vm_config *config, const char *folder,
                  const struct client_more *more)
{
    GVariant *options = more && more->options ? more->options : g_variant_new("a{sv}", NULL);
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    AUTO(str) text = vm_config_format(config, &e);
    if (!text) {
        cli_fail(&e);
        return false;
    }
    GVariant *files = vireo_files_collect(config, folder ? folder : ".", fds, &error);
    if (files && more && more->port0 >= 0)
        files = add_port(files, more->port0, fds, &error);
    if (files &&
        vireo_machine1_call_configure_sync(c->machine, text, files, options, fds, NULL, NULL,
                                           &error) &&
        vireo_machine1_call_start_sync(c->machine, g_variant_new("a(sh)", NULL),
                                       g_variant_new("a{sv}", NULL), NULL, NULL, NULL, &error))
        return true;
    client_fail(error);
    vireo_machine1_call_turn_off_sync(c->machine, NULL, NULL); /* it has nothing to wait for */
    return false;
}
