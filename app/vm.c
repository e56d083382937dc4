/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/vm.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/error.h"
#include "app/files.h"
#include "app/launcher.h"
#include "app/remote.h"
#include "app/thumbnail.h"

#define MACHINE_PATH "/org/vireo/Machine1"

struct _VireoVm {
    GObject parent;
    struct store *store; /* borrowed */
    char *id, *folder, *problem;
    struct guid guid;
    struct vm_config *config;
    gint64 config_time;
    gboolean has_saved_state;

    VireoVmState state;
    char *reason;
    GCancellable *cancellable;
    GDBusConnection *connection;
    VireoMachine1 *machine;
    VireoConsole *console;
    gboolean connecting, starting;
    gboolean start_again; /* when the worker has gone */

    char *operation; /* under way, as the worker names it */
    const char *operation_text;
    double operation_fraction;

    double cpu;
    guint64 cpu_ticks;
    gint64 cpu_time;
    VireoThumbnail *thumbnail;
};

G_DEFINE_FINAL_TYPE(VireoVm, vireo_vm, G_TYPE_OBJECT)

enum { CHANGED, FAILED, ENDED, FINISHED, N_SIGNALS };
static guint signals[N_SIGNALS];

static void emit_changed(VireoVm *self)
{
    g_signal_emit(self, signals[CHANGED], 0);
}

void vireo_vm_fail(VireoVm *self, const char *title, const GError *error)
{
    g_autofree char *text = vireo_error_text(error);
    g_signal_emit(self, signals[FAILED], 0, title, text);
}

/* ---- the store's side ---- */

static gint64 config_time(VireoVm *self)
{
    g_autofree char *path = g_build_filename(self->folder, STORE_CONFIG_NAME, NULL);
    struct stat st;
    if (stat(path, &st) != 0)
        return -1;
    return (gint64)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

static gboolean find_saved_state(VireoVm *self)
{
    return self->config && !guid_is_zero(&self->config->saved);
}

static VireoVmState state_at_rest(VireoVm *self)
{
    if (!self->config)
        return VIREO_VM_DAMAGED;
    return self->has_saved_state ? VIREO_VM_SAVED : VIREO_VM_OFF;
}

static void take_config(VireoVm *self, struct vm_config *config, const char *problem)
{
    vm_config_free(self->config);
    self->config = config;
    g_free(self->problem);
    self->problem = g_strdup(problem);
    self->config_time = config_time(self);
    self->has_saved_state = find_saved_state(self);
    if (!self->machine && self->state != VIREO_VM_CRASHED)
        self->state = state_at_rest(self);
}

void vireo_vm_reload(VireoVm *self, const struct store_entry *entry)
{
    take_config(self, entry->config ? vm_config_copy(entry->config, NULL) : NULL, entry->problem);
    emit_changed(self);
}

static void read_config(VireoVm *self)
{
    err e = ERR_INIT;
    struct vm_config *c = store_load(self->store, &self->guid, &e);
    take_config(self, c, c ? NULL : e.text);
}

static void read_again(VireoVm *self)
{
    read_config(self);
    emit_changed(self);
}

void vireo_vm_refresh(VireoVm *self)
{
    read_again(self);
}

VireoVm *vireo_vm_new(struct store *store, const struct store_entry *entry)
{
    VireoVm *self = g_object_new(VIREO_TYPE_VM, NULL);
    self->store = store;
    self->id = g_strdup(entry->folder);
    self->guid = entry->id;
    self->folder = g_build_filename(store_root(store), entry->folder, NULL);
    take_config(self, entry->config ? vm_config_copy(entry->config, NULL) : NULL, entry->problem);
    return self;
}

gboolean vireo_vm_update(VireoVm *self, bool (*fn)(void *ctx, struct vm_config *c, err *e),
                         void *ctx, GError **error)
{
    err e = ERR_INIT;
    if (!store_update(self->store, &self->guid, fn, ctx, &e)) {
        vireo_error_set(error, &e);
        return FALSE;
    }
    read_again(self);
    return TRUE;
}

struct setting {
    const char *key, *value;
};

static bool change_setting(void *ctx, struct vm_config *c, err *e)
{
    const struct setting *s = ctx;
    return vm_config_set(c, s->key, s->value, e);
}

static void on_remote(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoVm) self = data;
    g_autoptr(GError) error = NULL;
    if (!vireo_remote_apply_finish(result, &error) && !vireo_error_is_cancelled(error))
        vireo_vm_fail(self, _("The console could not be shared"), error);
}

void vireo_vm_apply_remote(VireoVm *self)
{
    if (self->connection && self->config)
        vireo_remote_apply_async(self->connection, self->config, self->folder, self->cancellable,
                                 on_remote, g_object_ref(self));
}

gboolean vireo_vm_set(VireoVm *self, const char *key, const char *value, GError **error)
{
    struct setting s = {key, value};
    if (!vireo_vm_update(self, change_setting, &s, error))
        return FALSE;
    if (g_str_has_prefix(key, "remote."))
        vireo_vm_apply_remote(self);
    return TRUE;
}

/* ---- the worker's side ---- */

static VireoVmState state_from_worker(const char *s)
{
    static const struct {
        const char *name;
        VireoVmState state;
    } names[] = {
        {"new", VIREO_VM_STARTING},    {"starting", VIREO_VM_STARTING},
        {"running", VIREO_VM_RUNNING}, {"paused", VIREO_VM_PAUSED},
        {"saving", VIREO_VM_SAVING},   {"stopping", VIREO_VM_STOPPING},
        {"saved", VIREO_VM_SAVED},     {"crashed", VIREO_VM_CRASHED},
        {"off", VIREO_VM_OFF},
    };
    for (gsize i = 0; s && i < G_N_ELEMENTS(names); i++)
        if (!strcmp(names[i].name, s))
            return names[i].state;
    return VIREO_VM_OFF;
}

static void on_machine_changed(VireoVm *self)
{
    if (!self->machine)
        return;
    const char *reason = vireo_machine1_get_state_reason(self->machine);
    self->state = state_from_worker(vireo_machine1_get_state(self->machine));
    g_free(self->reason);
    self->reason = g_strdup(reason && *reason ? reason : NULL);
    emit_changed(self);
}

/* States in which a worker may go without a word. */
static gboolean ends_well(VireoVmState s)
{
    return s == VIREO_VM_OFF || s == VIREO_VM_SAVED;
}

static void drop_connection(VireoVm *self)
{
    g_clear_object(&self->thumbnail);
    if (self->console)
        vireo_console_close(self->console);
    g_clear_object(&self->console);
    if (self->machine)
        g_signal_handlers_disconnect_by_data(self->machine, self);
    g_clear_object(&self->machine);
    if (self->connection)
        g_signal_handlers_disconnect_by_data(self->connection, self);
    g_clear_object(&self->connection);
    g_clear_pointer(&self->operation, g_free);
    self->cpu = -1;
    self->cpu_time = 0;
}

/* ---- what takes its time ---- */

/* What the worker says (app/worker/checkpoints.c), for translators. */
static const char *const worker_texts[] = {
    N_("Merging checkpoints"),
    N_("Making a checkpoint"),
    N_("Saving the machine"),
    N_("Applying a checkpoint"),
};

static void on_progress(VireoMachine1 *machine, const char *operation, const char *text,
                        double fraction, gboolean done, const char *error, VireoVm *self)
{
    g_free(self->operation);
    self->operation = done ? NULL : g_strdup(operation);
    self->operation_fraction = fraction;
    for (gsize i = 0; i < G_N_ELEMENTS(worker_texts); i++)
        if (!strcmp(worker_texts[i], text))
            self->operation_text = _(worker_texts[i]);
    if (done)
        g_signal_emit(self, signals[FINISHED], 0, operation, error);
    emit_changed(self);
}

const char *vireo_vm_get_progress(VireoVm *self, double *fraction)
{
    *fraction = self->operation_fraction;
    return self->operation ? self->operation_text : NULL;
}

void vireo_vm_cancel_progress(VireoVm *self)
{
    if (self->operation)
        vireo_vm_call(self, "Cancel", g_variant_new("(s)", self->operation),
                      _("It could not be cancelled"));
}

static void on_closed(GDBusConnection *conn, gboolean vanished, GError *error, VireoVm *self)
{
    gboolean crashed = self->state == VIREO_VM_CRASHED, well = ends_well(self->state);
    gboolean again = self->start_again && well;
    g_autofree char *reason = g_strdup(self->reason);
    drop_connection(self);
    self->starting = self->start_again = FALSE;
    read_config(self);
    if (well || crashed)
        self->state = crashed ? VIREO_VM_CRASHED : state_at_rest(self);
    else {
        self->state = VIREO_VM_CRASHED;
        g_free(self->reason);
        self->reason = g_strdup(_("The program that ran the machine ended unexpectedly. It is as "
                                  "after a power cut: what the guest had written to its disks is "
                                  "kept. Start it again to go on."));
    }
    emit_changed(self);
    if (again) {
        vireo_vm_start(self);
        return;
    }
    g_signal_emit(self, signals[ENDED], 0, well ? "" : (reason && crashed ? reason : self->reason));
}

static void adopt_machine(VireoVm *self, VireoMachine1 *machine)
{
    self->machine = machine;
    self->console = vireo_console_new(self->connection);
    g_signal_connect_swapped(machine, "g-properties-changed", G_CALLBACK(on_machine_changed), self);
    g_signal_connect(machine, "progress", G_CALLBACK(on_progress), self);
    self->thumbnail = vireo_thumbnail_new(self->console);
    on_machine_changed(self);
}

static void begin_machine(VireoVm *self);

static void on_machine_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoVm) self = data;
    g_autoptr(GError) error = NULL;
    VireoMachine1 *machine = vireo_machine1_proxy_new_finish(result, &error);
    self->connecting = FALSE;
    if (!machine || !self->connection) {
        g_clear_object(&machine);
        if (!vireo_error_is_cancelled(error) && self->starting && error)
            vireo_vm_fail(self, _("The machine was not started"), error);
        self->starting = FALSE;
        drop_connection(self);
        self->state = state_at_rest(self);
        emit_changed(self);
        return;
    }
    adopt_machine(self, machine);
    if (self->starting)
        begin_machine(self);
}

static void adopt_connection(VireoVm *self, GDBusConnection *conn)
{
    self->connection = conn;
    g_signal_connect(conn, "closed", G_CALLBACK(on_closed), self);
    vireo_machine1_proxy_new(conn, G_DBUS_PROXY_FLAGS_NONE, NULL, MACHINE_PATH, self->cancellable,
                             on_machine_proxy, g_object_ref(self));
}

static void on_found(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoVm) self = data;
    GDBusConnection *conn = vireo_launcher_connect_finish(result, NULL);
    if (conn && !self->connection)
        adopt_connection(self, conn);
    else {
        g_clear_object(&conn);
        self->connecting = FALSE;
    }
}

static void look_for_worker(VireoVm *self)
{
    g_autofree char *path = vireo_launcher_socket(self->id);
    if (self->connection || self->connecting || self->starting || !self->config ||
        !g_file_test(path, G_FILE_TEST_EXISTS))
        return;
    self->connecting = TRUE;
    vireo_launcher_connect_async(self->id, self->cancellable, on_found, g_object_ref(self));
}

/* ---- what it costs ---- */

static gboolean read_ticks(guint pid, guint64 *ticks)
{
    g_autofree char *path = g_strdup_printf("/proc/%u/stat", pid);
    g_autofree char *text = NULL;
    guint64 user = 0, system = 0;
    const char *p = g_file_get_contents(path, &text, NULL, NULL) ? strrchr(text, ')') : NULL;
    if (!p || sscanf(p + 1,
                     " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" G_GUINT64_FORMAT
                     " %" G_GUINT64_FORMAT,
                     &user, &system) != 2)
        return FALSE;
    *ticks = user + system;
    return TRUE;
}

static void measure(VireoVm *self)
{
    guint64 ticks = 0;
    gint64 now = g_get_monotonic_time();
    guint pid = self->machine ? vireo_machine1_get_process_id(self->machine) : 0;
    if (!pid || !read_ticks(pid, &ticks))
        return;
    double before = self->cpu;
    if (self->cpu_time && now > self->cpu_time)
        self->cpu = (double)(ticks - self->cpu_ticks) / (double)sysconf(_SC_CLK_TCK) * 1e6 /
                    (double)(now - self->cpu_time);
    self->cpu_ticks = ticks;
    self->cpu_time = now;
    if ((int)(before * 100) != (int)(self->cpu * 100))
        emit_changed(self);
}

void vireo_vm_poll(VireoVm *self)
{
    if (config_time(self) != self->config_time)
        read_again(self);
    look_for_worker(self);
    measure(self);
}

/* ---- doing something ---- */

typedef struct {
    VireoVm *vm;
    char *title;
    gboolean start; /* a new worker when this one goes */
} Call;

static void on_called(GObject *source, GAsyncResult *result, gpointer data)
{
    Call *call = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) v =
        g_dbus_proxy_call_with_unix_fd_list_finish(G_DBUS_PROXY(source), NULL, result, &error);
    if (!v && !vireo_error_is_cancelled(error) &&
        !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED))
        vireo_vm_fail(call->vm, call->title, error);
    if (!v && call->start && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED))
        call->vm->start_again = FALSE; /* it was refused, and the machine runs on */
    g_object_unref(call->vm);
    g_free(call->title);
    g_free(call);
}

void vireo_vm_call_with_files(VireoVm *self, const char *method, GVariant *parameters,
                              GUnixFDList *fds, const char *title)
{
    if (!self->machine) {
        if (parameters)
            g_variant_unref(g_variant_ref_sink(parameters));
        return;
    }
    Call *call = g_new0(Call, 1);
    call->vm = g_object_ref(self);
    call->title = g_strdup(title);
    g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(self->machine), method, parameters,
                                        G_DBUS_CALL_FLAGS_NONE, G_MAXINT, fds, self->cancellable,
                                        on_called, call);
}

void vireo_vm_call_and_start(VireoVm *self, const char *method, GVariant *parameters,
                             const char *title)
{
    self->start_again = self->machine != NULL;
    Call *call = g_new0(Call, 1);
    call->vm = g_object_ref(self);
    call->title = g_strdup(title);
    call->start = TRUE;
    g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(self->machine), method, parameters,
                                        G_DBUS_CALL_FLAGS_NONE, G_MAXINT, NULL, self->cancellable,
                                        on_called, call);
}

void vireo_vm_call(VireoVm *self, const char *method, GVariant *parameters, const char *title)
{
    vireo_vm_call_with_files(self, method, parameters, NULL, title);
}

static void start_failed(VireoVm *self, const GError *error)
{
    self->starting = FALSE;
    if (!vireo_error_is_cancelled(error))
        vireo_vm_fail(self, _("The machine was not started"), error);
    if (self->connection)
        g_dbus_connection_close(self->connection, NULL, NULL, NULL);
    drop_connection(self);
    self->state = state_at_rest(self);
    emit_changed(self);
}

static void on_started(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoVm) self = data;
    g_autoptr(GError) error = NULL;
    if (vireo_machine1_call_start_finish(VIREO_MACHINE1(source), NULL, result, &error)) {
        self->starting = FALSE;
        if (self->config && (self->config->spice || self->config->vnc))
            vireo_vm_apply_remote(self);
    } else if (self->machine == VIREO_MACHINE1(source))
        start_failed(self, error);
}

static void on_configured(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoVm) self = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    if (!vireo_machine1_call_configure_finish(VIREO_MACHINE1(source), NULL, result, &error)) {
        if (self->machine == VIREO_MACHINE1(source))
            start_failed(self, error);
        return;
    }
    vireo_machine1_call_start(VIREO_MACHINE1(source), g_variant_new("a(sh)", NULL),
                              g_variant_new("a{sv}", NULL), fds, self->cancellable, on_started,
                              g_object_ref(self));
}

/* Hands a new worker its machine. */
static void begin_machine(VireoVm *self)
{
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariant *files = NULL; /* floating */
    AUTO(str) text = vm_config_format(self->config, &e);
    if (!text)
        vireo_error_set(&error, &e);
    else
        files = vireo_files_collect(self->config, self->folder, fds, &error);
    if (!files) {
        start_failed(self, error);
        return;
    }
    vireo_machine1_call_configure(self->machine, text, files, g_variant_new("a{sv}", NULL), fds,
                                  self->cancellable, on_configured, g_object_ref(self));
}

static void on_launched(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoVm) self = data;
    g_autoptr(GError) error = NULL;
    GDBusConnection *conn = vireo_launcher_start_finish(result, &error);
    if (conn)
        adopt_connection(self, conn);
    else
        start_failed(self, error);
}

void vireo_vm_start(VireoVm *self)
{
    if (self->machine && self->state == VIREO_VM_PAUSED) {
        vireo_vm_call(self, "Resume", NULL, _("The machine did not go on"));
        return;
    }
    if (!self->config || self->machine || self->starting)
        return;
    self->starting = TRUE;
    self->state = VIREO_VM_STARTING;
    g_clear_pointer(&self->reason, g_free);
    emit_changed(self);
    vireo_launcher_start_async(self->id, self->folder, self->cancellable, on_launched,
                               g_object_ref(self));
}

/* ---- reading ---- */

struct store *vireo_vm_get_store(VireoVm *self)
{
    return self->store;
}

const char *vireo_vm_get_id(VireoVm *self)
{
    return self->id;
}

const struct guid *vireo_vm_get_guid(VireoVm *self)
{
    return &self->guid;
}

const char *vireo_vm_get_folder(VireoVm *self)
{
    return self->folder;
}

const char *vireo_vm_get_name(VireoVm *self)
{
    return self->config ? self->config->name : self->id;
}

const char *vireo_vm_get_problem(VireoVm *self)
{
    return self->problem;
}

const struct vm_config *vireo_vm_get_config(VireoVm *self)
{
    return self->config;
}

VireoVmState vireo_vm_get_state(VireoVm *self)
{
    return self->state;
}

gboolean vireo_vm_is_active(VireoVm *self)
{
    return self->machine != NULL;
}

const char *vireo_vm_get_reason(VireoVm *self)
{
    return self->reason;
}

char *vireo_vm_describe(VireoVm *self)
{
    static const char *const names[] = {
        [VIREO_VM_DAMAGED] = N_("Damaged"), [VIREO_VM_OFF] = N_("Off"),
        [VIREO_VM_SAVED] = N_("Saved"),     [VIREO_VM_STARTING] = N_("Starting…"),
        [VIREO_VM_RUNNING] = N_("Running"), [VIREO_VM_PAUSED] = N_("Paused"),
        [VIREO_VM_SAVING] = N_("Saving…"),  [VIREO_VM_STOPPING] = N_("Shutting down…"),
        [VIREO_VM_CRASHED] = N_("Crashed"),
    };
    return g_strdup(_(names[self->state]));
}

double vireo_vm_get_cpu(VireoVm *self)
{
    return self->cpu;
}

guint64 vireo_vm_get_memory(VireoVm *self)
{
    guint64 now = self->machine ? vireo_machine1_get_memory_assigned(self->machine) : 0;
    return now ? now : self->config ? (guint64)self->config->memory << 20 : 0;
}

GdkPaintable *vireo_vm_get_thumbnail(VireoVm *self)
{
    return self->thumbnail ? GDK_PAINTABLE(self->thumbnail) : NULL;
}

VireoMachine1 *vireo_vm_get_machine(VireoVm *self)
{
    return self->machine;
}

VireoConsole *vireo_vm_get_console(VireoVm *self)
{
    return self->console;
}

/* ---- the object ---- */

static void vireo_vm_dispose(GObject *object)
{
    VireoVm *self = VIREO_VM(object);
    g_cancellable_cancel(self->cancellable);
    drop_connection(self);
    G_OBJECT_CLASS(vireo_vm_parent_class)->dispose(object);
}

static void vireo_vm_finalize(GObject *object)
{
    VireoVm *self = VIREO_VM(object);
    vm_config_free(self->config);
    g_clear_object(&self->cancellable);
    g_free(self->operation);
    g_free(self->id);
    g_free(self->folder);
    g_free(self->problem);
    g_free(self->reason);
    G_OBJECT_CLASS(vireo_vm_parent_class)->finalize(object);
}

static void vireo_vm_class_init(VireoVmClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = vireo_vm_dispose;
    G_OBJECT_CLASS(klass)->finalize = vireo_vm_finalize;
    GType type = G_TYPE_FROM_CLASS(klass);
    signals[CHANGED] =
        g_signal_new("changed", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
    signals[FAILED] = g_signal_new("failed", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                                   G_TYPE_NONE, 2, G_TYPE_STRING, G_TYPE_STRING);
    signals[ENDED] = g_signal_new("ended", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                                  G_TYPE_NONE, 1, G_TYPE_STRING);
    signals[FINISHED] = g_signal_new("finished", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                                     G_TYPE_NONE, 2, G_TYPE_STRING, G_TYPE_STRING);
}

static void vireo_vm_init(VireoVm *self)
{
    self->cancellable = g_cancellable_new();
    self->cpu = -1;
}
