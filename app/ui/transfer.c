/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/transfer.h"

#include <glib/gi18n.h>

#include "app/application.h"
#include "app/error.h"
#include "app/ui/choose-file.h"
#include "app/ui/names.h"
#include "app/ui/vm-actions.h"
#include "core/base/cleanup.h"
#include "core/machine/transfer.h"

enum { LOOK_MS = 100 };

typedef enum { EXPORT, IMPORT, MOVE, TRY } Work;

static const struct {
    const char *title, *failed;
} words[] = {
    [EXPORT] = {N_("Exporting “%s”"), N_("The Machine Was Not Exported")},
    [IMPORT] = {N_("Importing “%s”"), N_("The Machine Was Not Imported")},
    [MOVE] = {N_("Moving “%s”"), N_("The Machine Was Not Moved")},
    [TRY] = {N_("Cloning “%s”"), N_("The Clone Was Not Made")},
};

/* One piece of work. The thread reads what is set before it starts, and writes `permille`, `made`
 * and the task's result. */
typedef struct {
    Work work;
    struct store *store; /* the library's, which outlives it */
    VireoVm *vm;         /* NULL: import */
    GtkWindow *parent;   /* weak */
    char *folder;        /* of the machine */
    char *path, *name;
    struct guid id, checkpoint, made;
    gboolean has_checkpoint;
    int permille;             /* atomic */
    int cancelled;            /* atomic */
    AdwMessageDialog *dialog; /* weak */
    GtkProgressBar *bar;
    guint timer;
} Transfer;

static void free_transfer(gpointer data)
{
    Transfer *t = data;
    g_clear_handle_id(&t->timer, g_source_remove);
    if (t->parent)
        g_object_remove_weak_pointer(G_OBJECT(t->parent), (gpointer *)&t->parent);
    if (t->dialog)
        g_object_remove_weak_pointer(G_OBJECT(t->dialog), (gpointer *)&t->dialog);
    g_clear_object(&t->vm);
    g_free(t->folder);
    g_free(t->path);
    g_free(t->name);
    g_free(t);
}

static Transfer *new_transfer(Work work, GtkWindow *parent, VireoVm *vm, const char *checkpoint)
{
    Transfer *t = g_new0(Transfer, 1);
    VireoApplication *app = VIREO_APPLICATION(g_application_get_default());
    t->work = work;
    t->store = vireo_library_get_store(vireo_application_get_library(app));
    t->parent = parent;
    g_object_add_weak_pointer(G_OBJECT(parent), (gpointer *)&t->parent);
    if (vm) {
        t->vm = g_object_ref(vm);
        t->folder = g_strdup(vireo_vm_get_folder(vm));
        t->name = g_strdup(vireo_vm_get_name(vm));
        t->id = *vireo_vm_get_guid(vm);
    }
    t->has_checkpoint = checkpoint && guid_parse(checkpoint, &t->checkpoint);
    return t;
}

/* ---- on the thread ---- */

static bool on_step(void *ctx, double fraction)
{
    Transfer *t = ctx;
    g_atomic_int_set(&t->permille, (int)(fraction * 1000));
    return !g_atomic_int_get(&t->cancelled);
}

static bool export(Transfer *t, const struct transfer_progress *p, err *e)
{
    if (t->has_checkpoint)
        return transfer_export(t->folder, &t->checkpoint, t->path, true, p, e);
    AUTO(fd) lock = store_lock(t->store, &t->id, e);
    return lock >= 0 && checkpoint_recover(t->folder, e) &&
           transfer_export(t->folder, NULL, t->path, true, p, e);
}

static bool move(Transfer *t, const struct transfer_progress *p, err *e)
{
    AUTO(fd) lock = store_lock(t->store, &t->id, e);
    return lock >= 0 && checkpoint_recover(t->folder, e) &&
           transfer_move(t->store, &t->id, t->path, p, e);
}

static bool work(Transfer *t, err *e)
{
    const struct transfer_progress p = {on_step, t};
    const struct transfer_import import = {.path = t->path};
    switch (t->work) {
    case EXPORT: return export(t, &p, e);
    case IMPORT: return transfer_import(t->store, &import, &t->made, &p, e);
    case MOVE: return move(t, &p, e);
    case TRY: return transfer_clone(t->store, &t->id, &t->checkpoint, &t->made, e);
    }
    return false;
}

static void run(GTask *task, gpointer source, gpointer data, GCancellable *cancellable)
{
    err e = ERR_INIT;
    GError *error = NULL;
    if (work(data, &e)) {
        g_task_return_boolean(task, TRUE);
        return;
    }
    vireo_error_set(&error, &e);
    g_task_return_error(task, error);
}

/* ---- its end ---- */

static void tell_imported(Transfer *t, VireoApplication *app, VireoVm *vm)
{
    g_autofree char *title =
        g_strdup_printf(_("“%s” was imported"), vm ? vireo_vm_get_name(vm) : t->name);
    vireo_application_notify(app, "import", title, NULL, vm);
}

static void finish(Transfer *t)
{
    VireoApplication *app = VIREO_APPLICATION(g_application_get_default());
    char id[GUID_STR_LEN + 1];
    vireo_application_reload(app);
    guid_format(&t->made, id);
    VireoVm *made = vireo_library_find(vireo_application_get_library(app), id);
    if (t->work == IMPORT)
        tell_imported(t, app, made);
    if (t->work == TRY && made) {
        vireo_application_open_console(app, made);
        vireo_vm_start(made);
    }
    if (t->work == EXPORT) {
        g_autofree char *title = g_strdup_printf(_("“%s” was exported"), t->name);
        vireo_application_notify(app, "export", title, t->path, t->vm);
    }
}

static void on_done(GObject *source, GAsyncResult *result, gpointer data)
{
    Transfer *t = g_task_get_task_data(G_TASK(result));
    g_autoptr(GError) error = NULL;
    gboolean ok = g_task_propagate_boolean(G_TASK(result), &error);
    g_clear_handle_id(&t->timer, g_source_remove);
    if (t->dialog)
        gtk_window_destroy(GTK_WINDOW(t->dialog));
    if (ok)
        finish(t);
    else if (!vireo_error_is_cancelled(error) && t->parent)
        vireo_show_failure(GTK_WIDGET(t->parent), _(words[t->work].failed), error->message);
}

/* ---- the dialog ---- */

static void on_response(AdwMessageDialog *dialog, const char *response, Transfer *t)
{
    g_atomic_int_set(&t->cancelled, 1);
}

static gboolean on_time(gpointer data)
{
    Transfer *t = data;
    if (t->dialog)
        gtk_progress_bar_set_fraction(t->bar, g_atomic_int_get(&t->permille) / 1000.0);
    return G_SOURCE_CONTINUE;
}

static void show_dialog(Transfer *t)
{
    g_autofree char *title = g_strdup_printf(_(words[t->work].title), t->name);
    t->dialog = ADW_MESSAGE_DIALOG(adw_message_dialog_new(t->parent, title, NULL));
    g_object_add_weak_pointer(G_OBJECT(t->dialog), (gpointer *)&t->dialog);
    t->bar = GTK_PROGRESS_BAR(gtk_progress_bar_new());
    gtk_accessible_update_property(GTK_ACCESSIBLE(t->bar), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Progress"), -1);
    adw_message_dialog_set_extra_child(t->dialog, GTK_WIDGET(t->bar));
    adw_message_dialog_add_response(t->dialog, "cancel", _("_Cancel"));
    adw_message_dialog_set_close_response(t->dialog, "cancel");
    vireo_tidy_names(GTK_WIDGET(t->dialog));
    g_signal_connect(t->dialog, "response", G_CALLBACK(on_response), t);
    gtk_window_present(GTK_WINDOW(t->dialog));
    t->timer = g_timeout_add(LOOK_MS, on_time, t);
}

/* Takes `t`. The task is what holds the application while it works. */
static void start(Transfer *t)
{
    g_autoptr(GTask) task = g_task_new(g_application_get_default(), NULL, on_done, NULL);
    g_task_set_task_data(task, t, free_transfer);
    show_dialog(t);
    g_task_run_in_thread(task, run);
}

/* ---- asking ---- */

/* The dialog for files gives its path to one of these; where it is cancelled, the request goes with
 * the window that it belongs to. */
static void on_path(const char *path, gpointer data)
{
    Transfer *t = data;
    Transfer *mine = new_transfer(t->work, t->parent, t->vm, NULL);
    mine->has_checkpoint = t->has_checkpoint;
    mine->checkpoint = t->checkpoint;
    mine->path = g_strdup(path);
    if (!mine->name)
        mine->name = g_path_get_basename(path);
    start(mine);
}

/* One request a window: a new one replaces the last, which was cancelled or is under way by itself.
 */
static Transfer *request(Work work, GtkWindow *parent, VireoVm *vm, const char *checkpoint)
{
    Transfer *t = new_transfer(work, parent, vm, checkpoint);
    g_object_set_data_full(G_OBJECT(parent), "vireo-transfer", t, free_transfer);
    return t;
}

void vireo_ask_export(GtkWindow *parent, VireoVm *vm, const char *checkpoint)
{
    g_autofree char *name = g_strdup_printf("%s.vireo", vireo_vm_get_name(vm));
    g_strdelimit(name, "/", '-');
    vireo_choose_file(parent, checkpoint ? _("Export Checkpoint") : _("Export Machine"),
                      VIREO_FILE_MACHINE, TRUE, name, on_path,
                      request(EXPORT, parent, vm, checkpoint));
}

void vireo_ask_import(GtkWindow *parent, gboolean folder)
{
    vireo_choose_file(parent, folder ? _("Import a Machine’s Folder") : _("Import Machine"),
                      folder ? VIREO_FILE_FOLDER : VIREO_FILE_MACHINE, FALSE, NULL, on_path,
                      request(IMPORT, parent, NULL, NULL));
}

void vireo_ask_move(GtkWindow *parent, VireoVm *vm)
{
    vireo_choose_file(parent, _("Move Machine to Folder"), VIREO_FILE_FOLDER, FALSE, NULL, on_path,
                      request(MOVE, parent, vm, NULL));
}

void vireo_try_checkpoint(GtkWindow *parent, VireoVm *vm, const char *checkpoint)
{
    start(new_transfer(TRY, parent, vm, checkpoint));
}
