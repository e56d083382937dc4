/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/vm-row.h"

#include <glib/gi18n.h>

#include "app/ui/menus.h"
#include "app/ui/vm-actions.h"

struct _VireoVmRow {
    AdwActionRow parent;
    VireoVm *vm;
    GtkStack *picture;
    GtkImage *icon;
    GtkPicture *thumbnail;
    GtkWidget *start;
    GtkMenuButton *menu_button;
};

G_DEFINE_FINAL_TYPE(VireoVmRow, vireo_vm_row, ADW_TYPE_ACTION_ROW)

static char *describe(VireoVm *vm)
{
    g_autofree char *state = vireo_vm_describe(vm);
    if (vireo_vm_get_problem(vm))
        return g_strdup_printf("%s: %s", state, vireo_vm_get_problem(vm));
    g_autofree char *memory = g_format_size_full(vireo_vm_get_memory(vm), G_FORMAT_SIZE_IEC_UNITS);
    if (!vireo_vm_is_active(vm) || vireo_vm_get_cpu(vm) < 0)
        return g_strdup_printf("%s · %s", state, memory);
    /* Translators: state, processor use, memory */
    return g_strdup_printf(_("%s · CPU %d%% · %s"), state, (int)(vireo_vm_get_cpu(vm) * 100),
                           memory);
}

static void update_page(VireoVmRow *self)
{
    GdkPaintable *shot = gtk_picture_get_paintable(self->thumbnail);
    gboolean dark = !shot || !gdk_paintable_get_intrinsic_width(shot);
    gtk_stack_set_visible_child_name(self->picture, dark ? "icon" : "thumbnail");
}

static void update_picture(VireoVmRow *self)
{
    GdkPaintable *shot = vireo_vm_get_thumbnail(self->vm);
    GdkPaintable *before = gtk_picture_get_paintable(self->thumbnail);
    if (shot == before)
        return;
    if (before)
        g_signal_handlers_disconnect_by_func(before, update_page, self);
    if (shot)
        g_signal_connect_object(shot, "invalidate-size", G_CALLBACK(update_page), self,
                                G_CONNECT_SWAPPED);
    gtk_picture_set_paintable(self->thumbnail, shot);
    update_page(self);
}

static void update(VireoVmRow *self)
{
    g_autofree char *text = describe(self->vm);
    gboolean damaged = vireo_vm_get_state(self->vm) == VIREO_VM_DAMAGED;
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(self), vireo_vm_get_name(self->vm));
    adw_action_row_set_subtitle(ADW_ACTION_ROW(self), text);
    gtk_image_set_from_icon_name(self->icon,
                                 damaged ? "dialog-warning-symbolic" : "computer-symbolic");
    update_picture(self);
    gtk_widget_set_visible(self->start, !damaged && !vireo_vm_is_active(self->vm));
    gtk_list_box_row_set_activatable(GTK_LIST_BOX_ROW(self), !damaged);
    g_autofree char *label = g_strdup_printf(_("Start %s"), vireo_vm_get_name(self->vm));
    g_autofree char *more = g_strdup_printf(_("Actions for %s"), vireo_vm_get_name(self->vm));
    gtk_accessible_update_property(GTK_ACCESSIBLE(self->start), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   label, -1);
    gtk_accessible_update_property(GTK_ACCESSIBLE(self->menu_button), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   more, -1);
}

VireoVm *vireo_vm_row_get_vm(VireoVmRow *self)
{
    return self->vm;
}

/* A menu's widgets cost more than the whole row beside it: made when it is first opened. */
static void on_menu(GtkMenuButton *button, gpointer data)
{
    if (!gtk_menu_button_get_menu_model(button))
        vireo_menus_attach(button, "vm");
}

static void vireo_vm_row_dispose(GObject *object)
{
    VireoVmRow *self = VIREO_VM_ROW(object);
    if (self->vm)
        g_signal_handlers_disconnect_by_data(self->vm, self);
    g_clear_object(&self->vm);
    G_OBJECT_CLASS(vireo_vm_row_parent_class)->dispose(object);
}

static void vireo_vm_row_class_init(VireoVmRowClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_vm_row_dispose;
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/vm-row.ui");
    gtk_widget_class_bind_template_child(widget, VireoVmRow, picture);
    gtk_widget_class_bind_template_child(widget, VireoVmRow, icon);
    gtk_widget_class_bind_template_child(widget, VireoVmRow, thumbnail);
    gtk_widget_class_bind_template_child(widget, VireoVmRow, start);
    gtk_widget_class_bind_template_child(widget, VireoVmRow, menu_button);
}

static void vireo_vm_row_init(VireoVmRow *self)
{
    gtk_widget_init_template(GTK_WIDGET(self));
    gtk_menu_button_set_create_popup_func(self->menu_button, on_menu, NULL, NULL);
}

GtkWidget *vireo_vm_row_new(VireoVm *vm)
{
    VireoVmRow *self = g_object_new(VIREO_TYPE_VM_ROW, NULL);
    self->vm = g_object_ref(vm);
    vireo_vm_actions_insert(GTK_WIDGET(self), vm);
    g_signal_connect_swapped(vm, "changed", G_CALLBACK(update), self);
    update(self);
    return GTK_WIDGET(self);
}
