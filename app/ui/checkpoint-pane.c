/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/checkpoint-pane.h"

#include <adwaita.h>
#include <glib/gi18n.h>

#include "app/checkpoints.h"
#include "app/ui/menus.h"
#include "app/ui/transfer.h"
#include "app/ui/vm-actions.h"

enum { MAX_DEPTH = 64, INDENT = 18, PICTURE_WIDTH = 64, PICTURE_HEIGHT = 40 };

typedef struct {
    char *id, *parent, *name, *kind, *thumbnail, *problem;
    gint64 created;
    gboolean memory, complete, current, shown;
} Checkpoint;

struct _VireoCheckpointPane {
    GtkWidget parent;
    GtkWidget *box;
    GtkStack *stack;
    GtkListBox *list;
    GtkWidget *rename_entry, *rename_popover, *more_button;
    GSimpleActionGroup *actions;
    VireoVm *vm;
    GVariant *known; /* what the list was made from */
    GPtrArray *checkpoints;
};

G_DEFINE_FINAL_TYPE(VireoCheckpointPane, vireo_checkpoint_pane, GTK_TYPE_WIDGET)

static void free_checkpoint(gpointer data)
{
    Checkpoint *c = data;
    g_free(c->id);
    g_free(c->parent);
    g_free(c->name);
    g_free(c->kind);
    g_free(c->thumbnail);
    g_free(c->problem);
    g_free(c);
}

static Checkpoint *read_checkpoint(GVariant *v)
{
    Checkpoint *c = g_new0(Checkpoint, 1);
    g_auto(GVariantDict) d;
    g_variant_dict_init(&d, v);
    g_variant_dict_lookup(&d, "id", "s", &c->id);
    g_variant_dict_lookup(&d, "parent", "s", &c->parent);
    g_variant_dict_lookup(&d, "name", "s", &c->name);
    g_variant_dict_lookup(&d, "kind", "s", &c->kind);
    g_variant_dict_lookup(&d, "thumbnail", "s", &c->thumbnail);
    g_variant_dict_lookup(&d, "problem", "s", &c->problem);
    g_variant_dict_lookup(&d, "current", "b", &c->current);
    g_variant_dict_lookup(&d, "created", "x", &c->created);
    g_variant_dict_lookup(&d, "memory", "b", &c->memory);
    c->complete = TRUE;
    g_variant_dict_lookup(&d, "complete", "b", &c->complete);
    return c;
}

/* ---- rows ---- */

/* What the screen showed; an icon where there is no picture. */
static GtkWidget *make_picture(const Checkpoint *c)
{
    g_autoptr(GdkTexture) shot =
        c->thumbnail && *c->thumbnail ? gdk_texture_new_from_filename(c->thumbnail, NULL) : NULL;
    GtkWidget *w = shot ? gtk_picture_new_for_paintable(GDK_PAINTABLE(shot))
                        : gtk_image_new_from_icon_name("camera-photo-symbolic");
    gtk_widget_set_size_request(w, PICTURE_WIDTH, PICTURE_HEIGHT);
    gtk_widget_set_valign(w, GTK_ALIGN_CENTER);
    gtk_widget_set_overflow(w, GTK_OVERFLOW_HIDDEN);
    gtk_widget_add_css_class(w, "vm-picture");
    return w;
}

static GtkWidget *make_row(const Checkpoint *c, int depth)
{
    GtkWidget *row = adw_action_row_new();
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_local(c->created / G_USEC_PER_SEC);
    g_autofree char *when = t ? g_date_time_format(t, "%c") : g_strdup("");
    const char *kind = c->problem && *c->problem               ? _("Damaged")
                       : !c->complete                          ? _("Being made…")
                       : g_strcmp0(c->kind, "production") == 0 ? _("Production")
                       : g_strcmp0(c->kind, "automatic") == 0  ? _("Automatic")
                       : c->memory                             ? _("With memory")
                                                               : _("Disks only");
    g_autofree char *subtitle =
        g_strdup_printf("%s · %s%s%s", kind, when, c->current ? "\n" : "",
                        c->current ? _("The machine goes on from here") : "");
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), c->name ? c->name : c->id);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), subtitle);
    adw_action_row_set_subtitle_lines(ADW_ACTION_ROW(row), 3);
    adw_action_row_add_prefix(ADW_ACTION_ROW(row), make_picture(c));
    gtk_widget_set_margin_start(row, depth * INDENT);
    g_object_set_data(G_OBJECT(row), "complete", GINT_TO_POINTER(c->complete));
    g_object_set_data_full(G_OBJECT(row), "id", g_strdup(c->id), g_free);
    g_object_set_data_full(G_OBJECT(row), "name", g_strdup(c->name), g_free);
    return row;
}

static void add_children(VireoCheckpointPane *self, const char *parent, int depth)
{
    for (guint i = 0; depth < MAX_DEPTH && i < self->checkpoints->len; i++) {
        Checkpoint *c = self->checkpoints->pdata[i];
        if (c->shown || !c->id || g_strcmp0(c->parent ? c->parent : "", parent))
            continue;
        c->shown = TRUE;
        gtk_list_box_append(self->list, make_row(c, depth));
        add_children(self, c->id, depth + 1);
    }
}

static void clear_list(VireoCheckpointPane *self)
{
    GtkListBoxRow *row;
    while ((row = gtk_list_box_get_row_at_index(self->list, 0)))
        gtk_list_box_remove(self->list, GTK_WIDGET(row));
    g_ptr_array_set_size(self->checkpoints, 0);
}

static void update_actions(VireoCheckpointPane *self)
{
    GtkListBoxRow *row = gtk_list_box_get_selected_row(self->list);
    gboolean on = self->vm && row && g_object_get_data(G_OBJECT(row), "complete");
    static const char *const names[] = {"apply",          "rename", "delete",
                                        "delete-subtree", "export", "try"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        g_simple_action_set_enabled(
            G_SIMPLE_ACTION(g_action_map_lookup_action(G_ACTION_MAP(self->actions), names[i])), on);
}

static void show(VireoCheckpointPane *self, GVariant *list)
{
    clear_list(self);
    for (gsize i = 0; list && i < g_variant_n_children(list); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(list, i);
        g_ptr_array_add(self->checkpoints, read_checkpoint(v));
    }
    add_children(self, "", 0);
    /* Those whose parent is not in the list are roots too. */
    for (guint i = 0; i < self->checkpoints->len; i++) {
        Checkpoint *c = self->checkpoints->pdata[i];
        if (!c->shown && c->id) {
            c->shown = TRUE;
            gtk_list_box_append(self->list, make_row(c, 0));
            add_children(self, c->id, 1);
        }
    }
    gtk_stack_set_visible_child_name(self->stack, self->checkpoints->len ? "list" : "empty");
    update_actions(self);
}

void vireo_checkpoint_pane_update(VireoCheckpointPane *self)
{
    g_autoptr(GVariant) now = self->vm ? vireo_checkpoints_list(self->vm) : NULL;
    if (now == self->known || (now && self->known && g_variant_equal(now, self->known)))
        return;
    g_clear_pointer(&self->known, g_variant_unref);
    self->known = g_steal_pointer(&now);
    show(self, self->known);
}

void vireo_checkpoint_pane_set_vm(VireoCheckpointPane *self, VireoVm *vm)
{
    g_set_object(&self->vm, vm);
}

/* ---- actions ---- */

static GObject *selected(VireoCheckpointPane *self)
{
    GtkListBoxRow *row = gtk_list_box_get_selected_row(self->list);
    return row ? G_OBJECT(row) : NULL;
}

static void delete_selected(VireoCheckpointPane *self, gboolean subtree)
{
    GObject *row = selected(self);
    if (row)
        vireo_checkpoints_delete(self->vm, g_object_get_data(row, "id"), subtree);
}

static void delete_one(gpointer data)
{
    delete_selected(data, FALSE);
}

static void delete_subtree(gpointer data)
{
    delete_selected(data, TRUE);
}

static void do_delete(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    vireo_ask(data, _("Delete the Checkpoint?"),
              _("The machine keeps its present state. The checkpoint cannot be brought back."),
              _("_Delete"), TRUE, G_CALLBACK(delete_one), data, NULL);
}

static void do_delete_subtree(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    vireo_ask(data, _("Delete the Checkpoint and All After It?"),
              _("The machine keeps its present state. The checkpoints cannot be brought back."),
              _("_Delete"), TRUE, G_CALLBACK(delete_subtree), data, NULL);
}

static void on_renamed(GtkEntry *entry, VireoCheckpointPane *self)
{
    GObject *row = selected(self);
    const char *name = gtk_editable_get_text(GTK_EDITABLE(entry));
    gtk_popover_popdown(GTK_POPOVER(self->rename_popover));
    if (row && *name)
        vireo_checkpoints_rename(self->vm, g_object_get_data(row, "id"), name);
}

static void do_rename(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoCheckpointPane *self = data;
    GObject *row = selected(self);
    if (!row)
        return;
    const char *name = g_object_get_data(row, "name");
    gtk_editable_set_text(GTK_EDITABLE(self->rename_entry), name ? name : "");
    gtk_popover_popup(GTK_POPOVER(self->rename_popover));
    gtk_widget_grab_focus(self->rename_entry);
}

/* ---- going back ---- */

typedef struct {
    VireoVm *vm;
    char *id;
} Target;

static void free_target(gpointer data, GClosure *closure)
{
    Target *t = data;
    g_object_unref(t->vm);
    g_free(t->id);
    g_free(t);
}

static void apply(gpointer data)
{
    Target *t = data;
    vireo_checkpoints_apply(t->vm, t->id);
}

static void ask_to_apply(VireoCheckpointPane *self, const char *id, const char *name)
{
    g_autofree char *title = g_strdup_printf(_("Go Back to “%s”?"), name);
    Target *t = g_new0(Target, 1);
    t->vm = g_object_ref(self->vm);
    t->id = g_strdup(id);
    vireo_ask(GTK_WIDGET(self), title,
              _("What the machine did since is lost, unless a checkpoint is made of it first."),
              _("_Go Back"), TRUE, G_CALLBACK(apply), t, free_target);
}

static void do_apply(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    GObject *row = selected(data);
    if (row)
        ask_to_apply(data, g_object_get_data(row, "id"), g_object_get_data(row, "name"));
}

/* The one that the present goes on from. */
static const Checkpoint *current(VireoCheckpointPane *self)
{
    for (guint i = 0; i < self->checkpoints->len; i++) {
        const Checkpoint *c = self->checkpoints->pdata[i];
        if (c->current && c->complete && c->id)
            return c;
    }
    return NULL;
}

gboolean vireo_checkpoint_pane_can_revert(VireoCheckpointPane *self)
{
    return current(self) != NULL;
}

void vireo_checkpoint_pane_revert(VireoCheckpointPane *self)
{
    const Checkpoint *c = current(self);
    if (c)
        ask_to_apply(self, c->id, c->name ? c->name : c->id);
}

static void do_export(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoCheckpointPane *self = data;
    GObject *row = selected(self);
    if (row)
        vireo_ask_export(GTK_WINDOW(gtk_widget_get_root(data)), self->vm,
                         g_object_get_data(row, "id"));
}

static void do_try(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoCheckpointPane *self = data;
    GObject *row = selected(self);
    if (row)
        vireo_try_checkpoint(GTK_WINDOW(gtk_widget_get_root(data)), self->vm,
                             g_object_get_data(row, "id"));
}

static const GActionEntry entries[] = {
    {"apply", do_apply},   {"export", do_export}, {"try", do_try},
    {"rename", do_rename}, {"delete", do_delete}, {"delete-subtree", do_delete_subtree}};

/* ---- the widget ---- */

static void vireo_checkpoint_pane_dispose(GObject *object)
{
    VireoCheckpointPane *self = VIREO_CHECKPOINT_PANE(object);
    g_clear_pointer(&self->box, gtk_widget_unparent);
    g_clear_object(&self->vm);
    g_clear_object(&self->actions);
    g_clear_pointer(&self->known, g_variant_unref);
    g_clear_pointer(&self->checkpoints, g_ptr_array_unref);
    G_OBJECT_CLASS(vireo_checkpoint_pane_parent_class)->dispose(object);
}

static void vireo_checkpoint_pane_class_init(VireoCheckpointPaneClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_checkpoint_pane_dispose;
    gtk_widget_class_set_layout_manager_type(widget, GTK_TYPE_BIN_LAYOUT);
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/checkpoint-pane.ui");
    gtk_widget_class_bind_template_child(widget, VireoCheckpointPane, box);
    gtk_widget_class_bind_template_child(widget, VireoCheckpointPane, stack);
    gtk_widget_class_bind_template_child(widget, VireoCheckpointPane, list);
    gtk_widget_class_bind_template_child(widget, VireoCheckpointPane, rename_entry);
    gtk_widget_class_bind_template_child(widget, VireoCheckpointPane, rename_popover);
    gtk_widget_class_bind_template_child(widget, VireoCheckpointPane, more_button);
}

static void vireo_checkpoint_pane_init(VireoCheckpointPane *self)
{
    self->checkpoints = g_ptr_array_new_with_free_func(free_checkpoint);
    self->actions = g_simple_action_group_new();
    g_action_map_add_action_entries(G_ACTION_MAP(self->actions), entries, G_N_ELEMENTS(entries),
                                    self);
    gtk_widget_init_template(GTK_WIDGET(self));
    vireo_menus_attach(self->more_button, "checkpoint");
    gtk_widget_insert_action_group(GTK_WIDGET(self), "checkpoint", G_ACTION_GROUP(self->actions));
    g_signal_connect(self->rename_entry, "activate", G_CALLBACK(on_renamed), self);
    g_signal_connect_swapped(self->list, "row-selected", G_CALLBACK(update_actions), self);
    update_actions(self);
}
