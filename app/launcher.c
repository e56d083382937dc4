/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <gio/gunixsocketaddress.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "app/error.h"

enum { CONNECT_STEP_MS = 40, CONNECT_TRIES = 250 };

typedef struct {
    char *id, *folder;
    GPid pid; /* of the detached worker's log holder: 0 with systemd */
    unsigned tries;
    guint timer;
} Start;

static void start_free(gpointer data)
{
    Start *s = data;
    g_free(s->id);
    g_free(s->folder);
    g_clear_handle_id(&s->timer, g_source_remove);
    g_free(s);
}

static char *runtime_folder(const char *id)
{
    return g_build_filename(g_get_user_runtime_dir(), "vireo", id, NULL);
}

char *vireo_launcher_socket(const char *id)
{
    return g_build_filename(g_get_user_runtime_dir(), "vireo", id, "bus", NULL);
}

char *vireo_launcher_worker(void)
{
    const char *given = g_getenv("VIREO_WORKER");
    if (given)
        return g_strdup(given);
    g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *folder = self ? g_path_get_dirname(self) : NULL;
    static const char *const places[] = {"worker", "../worker"};
    for (gsize i = 0; folder && i < G_N_ELEMENTS(places); i++) {
        g_autofree char *beside = g_build_filename(folder, places[i], "vireo-vm", NULL);
        if (g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
            return g_canonicalize_filename(beside, NULL);
    }
    return g_strdup(VIREO_LIBEXECDIR "/vireo-vm");
}

/* ---- connecting ---- */

static void on_connected(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    GError *error = NULL;
    GDBusConnection *conn = g_dbus_connection_new_for_address_finish(result, &error);
    if (conn)
        g_task_return_pointer(task, conn, g_object_unref);
    else
        g_task_return_error(task, error);
}

void vireo_launcher_connect_async(const char *id, GCancellable *cancellable,
                                  GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, cancellable, callback, data);
    g_autofree char *path = vireo_launcher_socket(id);
    g_autofree char *escaped = g_dbus_address_escape_value(path);
    g_autofree char *address = g_strconcat("unix:path=", escaped, NULL);
    g_dbus_connection_new_for_address(address, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL,
                                      cancellable, on_connected, task);
}

GDBusConnection *vireo_launcher_connect_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}

/* ---- starting ---- */

/* The last lines that the worker wrote before it gave up. */
static char *worker_says(const Start *s)
{
    g_autofree char *path = g_build_filename(s->folder, "worker.log", NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL) || !*g_strstrip(text))
        return NULL;
    const char *last = strrchr(text, '\n');
    g_autofree char *line = g_strdup(last ? last + 1 : text);
    return g_utf8_make_valid(line, -1);
}

static void try_connect(GTask *task);

static gboolean on_step(gpointer data)
{
    GTask *task = data;
    Start *s = g_task_get_task_data(task);
    s->timer = 0;
    if (!g_task_return_error_if_cancelled(task))
        try_connect(g_object_ref(task));
    g_object_unref(task);
    return G_SOURCE_REMOVE;
}

/* Whether the detached worker is still there. */
static gboolean is_alive(const Start *s)
{
    return !s->pid || kill(s->pid, 0) == 0 || errno == EPERM;
}

static void on_tried(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GTask) task = data;
    Start *s = g_task_get_task_data(task);
    g_autoptr(GError) error = NULL;
    GDBusConnection *conn = vireo_launcher_connect_finish(result, &error);
    if (conn) {
        g_task_return_pointer(task, conn, g_object_unref);
        return;
    }
    if (vireo_error_is_cancelled(error)) {
        g_task_return_error(task, g_steal_pointer(&error));
        return;
    }
    if (++s->tries < CONNECT_TRIES && is_alive(s)) {
        s->timer = g_timeout_add(CONNECT_STEP_MS, on_step, g_object_ref(task));
        return;
    }
    g_autofree char *says = worker_says(s);
    g_task_return_new_error(task, VIREO_ERROR, ERR_IO, "%s%s%s",
                            _("The program that runs the machine did not start."), says ? " " : "",
                            says ? says : "");
}

/* Takes the task. */
static void try_connect(GTask *task)
{
    Start *s = g_task_get_task_data(task);
    vireo_launcher_connect_async(s->id, g_task_get_cancellable(task), on_tried, task);
}

static void detach(gpointer data)
{
    setsid();
}

/* GLib forks twice unless told otherwise: the worker is not our child. */
static gboolean spawn_detached(Start *s, GError **error)
{
    g_autofree char *worker = vireo_launcher_worker();
    g_autofree char *log = g_build_filename(s->folder, "worker.log", NULL);
    const char *argv[] = {worker, "--id", s->id, "--folder", s->folder, NULL};
    int out = g_open(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int in = g_open("/dev/null", O_RDONLY | O_CLOEXEC, 0);
    if (out < 0)
        out = g_open("/dev/null", O_WRONLY | O_CLOEXEC, 0);
    gboolean ok = g_spawn_async_with_fds(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, detach, NULL,
                                         &s->pid, in, out, out, error);
    close(in);
    close(out);
    return ok;
}

static void start_detached(GTask *task)
{
    Start *s = g_task_get_task_data(task);
    g_autoptr(GError) error = NULL;
    if (spawn_detached(s, &error))
        try_connect(task);
    else {
        g_task_return_new_error(task, VIREO_ERROR, ERR_NOT_FOUND,
                                _("The program that runs the machine cannot be started: %s"),
                                error->message);
        g_object_unref(task);
    }
}

/* ---- a systemd unit of its own ---- */

static GVariant *exec_start(const Start *s)
{
    g_autofree char *worker = vireo_launcher_worker();
    const char *argv[] = {worker, "--id", s->id, "--folder", s->folder, NULL};
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sasb)"));
    g_variant_builder_add(&b, "(s^asb)", worker, argv, FALSE);
    return g_variant_builder_end(&b);
}

static GVariant *unit_call(const Start *s)
{
    g_autofree char *unit = g_strdup_printf("app-vireo-vm-%s.service", s->id);
    g_autofree char *description = g_strdup_printf("Vireo virtual machine %s", s->id);
    GVariantBuilder b;
    g_variant_builder_init(&b, G_VARIANT_TYPE("a(sv)"));
    g_variant_builder_add(&b, "(sv)", "Description", g_variant_new_string(description));
    g_variant_builder_add(&b, "(sv)", "CollectMode", g_variant_new_string("inactive-or-failed"));
    g_variant_builder_add(&b, "(sv)", "KillMode", g_variant_new_string("mixed"));
    g_variant_builder_add(&b, "(sv)", "TimeoutStopUSec", g_variant_new_uint64(90 * G_USEC_PER_SEC));
    g_variant_builder_add(&b, "(sv)", "ExecStart", exec_start(s));
    return g_variant_new("(ssa(sv)a(sa(sv)))", unit, "fail", &b, NULL);
}

static void on_unit_started(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) job =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    if (job)
        try_connect(task);
    else if (vireo_error_is_cancelled(error)) {
        g_task_return_error(task, g_steal_pointer(&error));
        g_object_unref(task);
    } else
        start_detached(task); /* no user manager here */
}

static void on_session_bus(GObject *source, GAsyncResult *result, gpointer data)
{
    GTask *task = data;
    g_autoptr(GDBusConnection) bus = g_bus_get_finish(result, NULL);
    if (!bus) {
        start_detached(task);
        return;
    }
    g_dbus_connection_call(bus, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                           "org.freedesktop.systemd1.Manager", "StartTransientUnit",
                           unit_call(g_task_get_task_data(task)), G_VARIANT_TYPE("(o)"),
                           G_DBUS_CALL_FLAGS_NO_AUTO_START, 5000, g_task_get_cancellable(task),
                           on_unit_started, task);
}

void vireo_launcher_start_async(const char *id, const char *folder, GCancellable *cancellable,
                                GAsyncReadyCallback callback, gpointer data)
{
    GTask *task = g_task_new(NULL, cancellable, callback, data);
    Start *s = g_new0(Start, 1);
    s->id = g_strdup(id);
    s->folder = g_strdup(folder);
    g_task_set_task_data(task, s, start_free);
    g_autofree char *runtime = runtime_folder(id);
    if (g_mkdir_with_parents(runtime, 0700) != 0) {
        g_task_return_new_error(task, VIREO_ERROR, ERR_IO,
                                _("The folder for running machines, %s, cannot be used: %s"),
                                runtime, g_strerror(errno));
        g_object_unref(task);
        return;
    }
    if (g_access(folder, W_OK) != 0) {
        g_task_return_new_error(task, VIREO_ERROR, ERR_READ_ONLY,
                                _("The machine’s folder, %s, cannot be written: %s. Its disks and "
                                  "its log are there; make it writable and start again."),
                                folder, g_strerror(errno));
        g_object_unref(task);
        return;
    }
    if (g_getenv("VIREO_NO_SYSTEMD"))
        start_detached(task);
    else
        g_bus_get(G_BUS_TYPE_SESSION, cancellable, on_session_bus, task);
}

GDBusConnection *vireo_launcher_start_finish(GAsyncResult *result, GError **error)
{
    return g_task_propagate_pointer(G_TASK(result), error);
}
