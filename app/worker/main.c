/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireo-vm: the worker of one virtual machine.
 *     vireo-vm --id ID [--folder FOLDER] [--no-sandbox]
 * Serves $XDG_RUNTIME_DIR/vireo/ID/bus (data/dbus/org.vireo.Machine1.xml) and ends with its
 * machine. Exit status: 0, or 1 with a line on standard error.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "app/worker/sandbox.h"
#include "app/worker/worker.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "session/skeleton.h"

static int complain(const char *what, const char *why)
{
    fprintf(stderr, "vireo-vm: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    return 1;
}

/* ---- one worker a machine ---- */

static gboolean private_folder(const char *path)
{
    struct stat st;
    if (g_mkdir_with_parents(path, 0700) != 0 || lstat(path, &st) != 0)
        return FALSE;
    if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
        errno = EPERM;
        return FALSE;
    }
    return chmod(path, 0700) == 0;
}

/* The lock in the VM's folder (core/machine/store.h), or beside the socket if it has none. */
static int take_lock(struct worker *w)
{
    g_autofree char *path = g_build_filename(w->folder ? w->folder : w->runtime, "lock", NULL);
    w->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->lock < 0)
        return complain(path, g_strerror(errno));
    if (flock(w->lock, LOCK_EX | LOCK_NB) != 0)
        return complain("the machine is in use by another process", NULL);
    return 0;
}

static int make_folders(struct worker *w)
{
    w->runtime = g_build_filename(g_get_user_runtime_dir(), "vireo", w->id, NULL);
    w->switches = g_build_filename(g_get_user_runtime_dir(), "vireo", "switch", NULL);
    if (!private_folder(w->runtime))
        return complain(w->runtime, g_strerror(errno));
    if (!private_folder(w->switches))
        return complain(w->switches, g_strerror(errno));
    /* Names in the configuration are relative to the machine's folder. */
    char *real = w->folder ? realpath(w->folder, NULL) : NULL;
    if (w->folder && (!real || chdir(real) != 0))
        return complain(w->folder, g_strerror(errno));
    if (real) {
        g_free(w->folder);
        w->folder = g_strdup(real);
        free(real);
    }
    return 0;
}

/* Where the kernel has no Landlock the worker runs without, and says so. */
static int enter_sandbox(struct worker *w)
{
    const char *own[] = {w->runtime, w->switches, w->folder, NULL};
    err e = ERR_INIT;
    if (!w->sandbox || sandbox_files(own, &e))
        return 0;
    if (e.code != ERR_UNSUPPORTED)
        return complain(e.text, NULL);
    fprintf(stderr, "vireo-vm: %s\n", e.text);
    return 0;
}

/* ---- D-Bus ---- */

enum { OBJECTS = 5 };

struct object {
    gpointer skeleton;
    const char *path;
};

static void list_objects(struct worker *w, struct object out[OBJECTS])
{
    const struct object objects[OBJECTS] = {{w->machine, WORKER_MACHINE_PATH},
                                            {w->display, WORKER_VM_PATH},
                                            {w->console, WORKER_CONSOLE_PATH},
                                            {w->keyboard, WORKER_CONSOLE_PATH},
                                            {w->mouse, WORKER_CONSOLE_PATH}};
    memcpy(out, objects, sizeof objects);
}

static void unexport_all(struct worker *w, GDBusConnection *c)
{
    struct object objects[OBJECTS];
    list_objects(w, objects);
    for (size_t i = 0; i < OBJECTS; i++)
        vireo_skeleton_unexport(objects[i].skeleton, c);
    worker_session_unexport(w->session, c);
    worker_remote_unexport(w->remote, c);
}

static void on_closed(GDBusConnection *c, gboolean remote, GError *error, gpointer data)
{
    struct worker *w = data;
    g_signal_handlers_disconnect_by_data(c, w);
    if (c == w->owner) {
        if (w->vm && !w->ended)
            vm_power_off(w->vm);
        worker_end(w, "off", "The program that ran the machine has gone.");
    }
    unexport_all(w, c);
    g_ptr_array_remove(w->connections, c);
}

static gboolean export_all(struct worker *w, GDBusConnection *c)
{
    struct object objects[OBJECTS];
    list_objects(w, objects);
    for (size_t i = 0; i < OBJECTS; i++)
        if (!g_dbus_interface_skeleton_export(objects[i].skeleton, c, objects[i].path, NULL))
            return FALSE;
    return worker_session_export(w->session, c) && worker_remote_export(w->remote, c);
}

static gboolean on_connection(GDBusServer *server, GDBusConnection *c, struct worker *w)
{
    if (!export_all(w, c)) {
        unexport_all(w, c);
        return FALSE;
    }
    g_dbus_connection_set_exit_on_close(c, FALSE);
    g_ptr_array_add(w->connections, g_object_ref(c));
    g_signal_connect(c, "closed", G_CALLBACK(on_closed), w);
    return TRUE;
}

enum { UNWANTED_S = 15 };

/* A worker whose caller went before the machine was started: nobody else knows of it. */
static gboolean end_if_unwanted(gpointer data)
{
    struct worker *w = data;
    if (w->ended || w->vm || !(worker_is(w, "new") || worker_is(w, "off")))
        return G_SOURCE_REMOVE;
    w->unwanted = w->connections->len ? 0 : w->unwanted + 1;
    if (w->unwanted < 2)
        return G_SOURCE_CONTINUE;
    worker_end(w, "off", "The program that made the machine ready has gone.");
    return G_SOURCE_REMOVE;
}

static int serve(struct worker *w)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(w->runtime, "bus", NULL);
    g_autofree char *escaped = g_dbus_address_escape_value(path);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
    g_autofree char *guid = g_dbus_generate_guid();
    if (strlen(path) >= sizeof((struct sockaddr_un *)0)->sun_path)
        return complain("the runtime folder's path is too long for a socket", path);
    g_unlink(path); /* of a worker that was killed: we hold the lock */
    w->server = g_dbus_server_new_sync(
        address, G_DBUS_SERVER_FLAGS_AUTHENTICATION_REQUIRE_SAME_USER, guid, NULL, NULL, &error);
    if (!w->server)
        return complain("the socket cannot be served", error->message);
    g_signal_connect(w->server, "new-connection", G_CALLBACK(on_connection), w);
    g_dbus_server_start(w->server);
    g_timeout_add_seconds(UNWANTED_S, end_if_unwanted, w);
    return 0;
}

void worker_hide(struct worker *w)
{
    g_autofree char *path = g_build_filename(w->runtime, "bus", NULL);
    if (w->lock < 0)
        return;
    if (w->server)
        g_dbus_server_stop(w->server); /* takes its socket away: later it would be another's */
    g_unlink(path);
    close(w->lock);
    w->lock = -1;
}

/* ---- signals ---- */

static gboolean on_term(gpointer data)
{
    worker_leave(data);
    return G_SOURCE_CONTINUE;
}

static void watch_signals(struct worker *w)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    g_unix_signal_add(SIGTERM, on_term, w);
    g_unix_signal_add(SIGINT, on_term, w);
}

/* ---- begin and end ---- */

static gboolean parse(struct worker *w, int argc, char **argv)
{
    gboolean no_sandbox = FALSE, version = FALSE;
    GOptionEntry entries[] = {
        {"id", 0, 0, G_OPTION_ARG_STRING, &w->id, "The machine's id", "ID"},
        {"folder", 0, 0, G_OPTION_ARG_FILENAME, &w->folder, "The machine's folder", "FOLDER"},
        {"no-sandbox", 0, 0, G_OPTION_ARG_NONE, &no_sandbox, "For debugging", NULL},
        {"version", 0, 0, G_OPTION_ARG_NONE, &version, "Print the version", NULL},
        {NULL}};
    g_autoptr(GOptionContext) context = g_option_context_new("- run one virtual machine");
    g_autoptr(GError) error = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        complain(error->message, NULL);
        return FALSE;
    }
    if (version) {
        puts("vireo-vm " VIREO_VERSION);
        exit(0);
    }
    w->sandbox = !no_sandbox;
    struct guid id;
    if (w->id && guid_parse(w->id, &id))
        return TRUE;
    complain("--id says which machine, and is needed", NULL);
    return FALSE;
}

static void clean_up(struct worker *w)
{
    worker_console_gone(w);
    worker_remote_gone(w->remote);
    worker_session_gone(w->session);
    g_dbus_server_stop(w->server);
    for (guint i = 0; i < w->connections->len; i++)
        g_dbus_connection_flush_sync(g_ptr_array_index(w->connections, i), NULL, NULL);
    vm_free(w->vm);
    w->vm = NULL;
    worker_hide(w);
    worker_remote_free(w->remote);
    worker_session_free(w->session);
    worker_serial_free(w->serial);
    worker_files_free(w->files);
    worker_log_stop(w);
    worker_check_stop(w);
    worker_dispose(w);
    vm_config_free(w->config);
}

/* Wrong parameters must not leave a core of guest memory behind. */
static void limits(void)
{
    struct rlimit none = {0, 0}, files;
    setrlimit(RLIMIT_CORE, &none);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    umask(077);
}

int main(int argc, char **argv)
{
    struct worker w = {.lock = -1, .inhibitor = -1};
    if (!parse(&w, argc, argv))
        return 1;
    limits();
    w.files = worker_files_new();
    worker_files_add_own(w.files, VM_FIRMWARE_BIOS);
    worker_files_add_own(w.files, VM_FIRMWARE_VGA);
    worker_files_add_own(w.files, VM_FIRMWARE_NETWORK);
    if (make_folders(&w) || take_lock(&w) || enter_sandbox(&w))
        return 1;
    worker_files_set_folder(w.files, w.folder);
    w.loop = g_main_loop_new(NULL, FALSE);
    w.connections = g_ptr_array_new_with_free_func(g_object_unref);
    w.viewers = g_ptr_array_new();
    w.serial = worker_serial_new();
    w.session = worker_session_new();
    w.remote = worker_remote_new(&w);
    worker_export_machine(&w);
    worker_export_console(&w);
    worker_log_start(&w);
    watch_signals(&w);
    if (w.folder)
        worker_inhibit(&w);
    if (serve(&w))
        return 1;
    g_main_loop_run(w.loop);
    clean_up(&w);
    return w.status;
}
