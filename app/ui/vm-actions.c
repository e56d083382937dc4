/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/vm-actions.h"

#include <adwaita.h>
#include <glib/gi18n.h>

#include "app/application.h"
#include "app/checkpoints.h"
#include "app/error.h"
#include "app/ui/names.h"
#include "app/ui/transfer.h"

typedef struct {
    GtkWidget *widget; /* the widget owns this, through the group */
    VireoVm *vm;
    GSimpleActionGroup *group;
    gulong changed_id;
} Context;

/* ---- dialogs ---- */

static GtkWindow *window_of(GtkWidget *widget)
{
    GtkRoot *root = gtk_widget_get_root(widget);
    return root && GTK_IS_WINDOW(root) ? GTK_WINDOW(root) : NULL;
}

void vireo_show_failure(GtkWidget *widget, const char *title, const char *text)
{
    GtkWidget *dialog = adw_message_dialog_new(window_of(widget), title, text);
    adw_message_dialog_add_response(ADW_MESSAGE_DIALOG(dialog), "close", _("_Close"));
    vireo_tidy_names(dialog);
    gtk_window_present(GTK_WINDOW(dialog));
}

typedef struct {
    void (*agreed)(gpointer data);
    gpointer data;
    GClosureNotify free_data;
} Question;

static void on_response(AdwMessageDialog *dialog, const char *response, Question *q)
{
    if (!strcmp(response, "agree"))
        q->agreed(q->data);
}

static void free_question(gpointer data, GClosure *closure)
{
    Question *q = data;
    if (q->free_data)
        q->free_data(q->data, closure);
    g_free(q);
}

void vireo_ask(GtkWidget *widget, const char *title, const char *text, const char *agree,
               gboolean destructive, GCallback response, gpointer data, GClosureNotify free_data)
{
    AdwMessageDialog *dialog =
        ADW_MESSAGE_DIALOG(adw_message_dialog_new(window_of(widget), title, text));
    Question *q = g_new0(Question, 1);
    q->agreed = (void (*)(gpointer))response;
    q->data = data;
    q->free_data = free_data;
    adw_message_dialog_add_responses(dialog, "cancel", _("_Cancel"), "agree", agree, NULL);
    adw_message_dialog_set_response_appearance(
        dialog, "agree", destructive ? ADW_RESPONSE_DESTRUCTIVE : ADW_RESPONSE_SUGGESTED);
    adw_message_dialog_set_default_response(dialog, destructive ? "cancel" : "agree");
    adw_message_dialog_set_close_response(dialog, "cancel");
    vireo_tidy_names(GTK_WIDGET(dialog));
    g_signal_connect_data(dialog, "response", G_CALLBACK(on_response), q, free_question, 0);
    gtk_window_present(GTK_WINDOW(dialog));
}

static void unref_vm(gpointer data, GClosure *closure)
{
    g_object_unref(data);
}

static void ask(Context *c, const char *title, const char *text, const char *agree,
                void (*agreed)(VireoVm *vm))
{
    g_autofree char *full = g_strdup_printf(title, vireo_vm_get_name(c->vm));
    vireo_ask(c->widget, full, text, agree, TRUE, G_CALLBACK(agreed), g_object_ref(c->vm),
              unref_vm);
}

/* ---- what the actions do ---- */

static void do_start(Context *c)
{
    vireo_vm_start(c->vm);
}

static void do_open(Context *c)
{
    vireo_application_open_console(VIREO_APPLICATION(g_application_get_default()), c->vm);
}

static void turn_off(VireoVm *vm)
{
    vireo_vm_call(vm, "TurnOff", NULL, _("The machine was not turned off"));
}

static void do_turn_off(Context *c)
{
    ask(c, _("Turn Off “%s”?"),
        _("This is as pulling the plug of a real computer. What is not saved in the machine is "
          "lost. Shut Down lets its system end in order."),
        _("_Turn Off"), turn_off);
}

static void do_shut_down(Context *c)
{
    vireo_vm_call(c->vm, "Shutdown", g_variant_new("(sb)", "shutdown", FALSE),
                  _("The machine was not shut down"));
}

static void do_restart(Context *c)
{
    vireo_vm_call(c->vm, "Shutdown", g_variant_new("(sb)", "reboot", FALSE),
                  _("The machine was not restarted"));
}

static void do_save(Context *c)
{
    vireo_vm_call(c->vm, "Save", NULL, _("The machine was not saved"));
}

static void do_pause(Context *c)
{
    vireo_vm_call(c->vm, "Pause", NULL, _("The machine was not paused"));
}

static void do_resume(Context *c)
{
    vireo_vm_call(c->vm, "Resume", NULL, _("The machine did not go on"));
}

static void reset(VireoVm *vm)
{
    vireo_vm_call(vm, "Reset", NULL, _("The machine was not reset"));
}

static void do_reset(Context *c)
{
    ask(c, _("Reset “%s”?"), _("The machine starts anew at once. What is not saved in it is lost."),
        _("_Reset"), reset);
}

static void do_checkpoint(Context *c)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *name = g_date_time_format(now, "%x %X");
    vireo_checkpoints_create(c->vm, name);
}

static void do_nmi(Context *c)
{
    vireo_vm_call(c->vm, "InjectNmi", NULL, _("The interrupt was not sent"));
}

static void do_settings(Context *c)
{
    vireo_application_open_settings(VIREO_APPLICATION(g_application_get_default()), c->vm,
                                    window_of(c->widget));
}

static void do_export(Context *c)
{
    vireo_ask_export(window_of(c->widget), c->vm, NULL);
}

static void do_move(Context *c)
{
    vireo_ask_move(window_of(c->widget), c->vm);
}

static void delete_machine(VireoVm *vm)
{
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    if (!store_delete(vireo_vm_get_store(vm), vireo_vm_get_id(vm), STORE_DELETE_TO_BIN, &e)) {
        vireo_error_set(&error, &e);
        vireo_vm_fail(vm, _("The machine was not deleted"), error);
    }
    vireo_application_reload(VIREO_APPLICATION(g_application_get_default()));
}

static void do_delete(Context *c)
{
    ask(c, _("Delete “%s”?"),
        _("The machine, its checkpoints and the disks in its folder go to the bin, or away for "
          "good where the bin cannot take them. Disk images that are elsewhere stay."),
        _("_Delete"), delete_machine);
}

enum when {
    OFF = 1 << 0, /* off, saved or crashed, and readable */
    RUNNING = 1 << 1,
    PAUSED = 1 << 2,
    BUSY = 1 << 3, /* between states */
    DAMAGED = 1 << 4,
};

static const struct {
    const char *name;
    void (*fn)(Context *c);
    unsigned when;
} actions[] = {
    {"start", do_start, OFF | PAUSED},
    {"open", do_open, OFF | RUNNING | PAUSED | BUSY},
    {"turn-off", do_turn_off, RUNNING | PAUSED | BUSY},
    {"shut-down", do_shut_down, RUNNING},
    {"restart", do_restart, RUNNING},
    {"save", do_save, RUNNING | PAUSED},
    {"pause", do_pause, RUNNING},
    {"resume", do_resume, PAUSED},
    {"reset", do_reset, RUNNING | PAUSED},
    {"checkpoint", do_checkpoint, OFF | RUNNING | PAUSED},
    {"nmi", do_nmi, RUNNING},
    {"settings", do_settings, OFF | RUNNING | PAUSED | BUSY},
    {"export", do_export, OFF},
    {"move", do_move, OFF},
    {"delete", do_delete, OFF | DAMAGED},
};

static unsigned condition(VireoVm *vm)
{
    switch (vireo_vm_get_state(vm)) {
    case VIREO_VM_DAMAGED: return DAMAGED;
    case VIREO_VM_OFF:
    case VIREO_VM_SAVED: return vireo_vm_is_active(vm) ? BUSY : OFF;
    case VIREO_VM_CRASHED: return vireo_vm_is_active(vm) ? RUNNING : OFF;
    case VIREO_VM_RUNNING: return RUNNING;
    case VIREO_VM_PAUSED: return PAUSED;
    default: return BUSY;
    }
}

static void update(Context *c)
{
    unsigned now = condition(c->vm);
    for (gsize i = 0; i < G_N_ELEMENTS(actions); i++) {
        GAction *a = g_action_map_lookup_action(G_ACTION_MAP(c->group), actions[i].name);
        g_simple_action_set_enabled(G_SIMPLE_ACTION(a), (actions[i].when & now) != 0);
    }
}

static void on_activate(GSimpleAction *action, GVariant *parameter, Context *c)
{
    const char *name = g_action_get_name(G_ACTION(action));
    for (gsize i = 0; i < G_N_ELEMENTS(actions); i++)
        if (!strcmp(actions[i].name, name))
            actions[i].fn(c);
}

static void free_context(gpointer data)
{
    Context *c = data;
    g_signal_handler_disconnect(c->vm, c->changed_id);
    g_object_unref(c->vm);
    g_object_unref(c->group);
    g_free(c);
}

void vireo_vm_actions_insert(GtkWidget *widget, VireoVm *vm)
{
    Context *c = g_new0(Context, 1);
    c->widget = widget;
    c->vm = g_object_ref(vm);
    c->group = g_simple_action_group_new();
    for (gsize i = 0; i < G_N_ELEMENTS(actions); i++) {
        g_autoptr(GSimpleAction) a = g_simple_action_new(actions[i].name, NULL);
        g_signal_connect(a, "activate", G_CALLBACK(on_activate), c);
        g_action_map_add_action(G_ACTION_MAP(c->group), G_ACTION(a));
    }
    c->changed_id = g_signal_connect_swapped(vm, "changed", G_CALLBACK(update), c);
    update(c);
    gtk_widget_insert_action_group(widget, "vm", G_ACTION_GROUP(c->group));
    g_object_set_data_full(G_OBJECT(widget), "vireo-vm-actions", c, free_context);
}
