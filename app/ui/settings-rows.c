/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/settings-rows.h"

#include <glib/gi18n.h>

#include "app/error.h"
#include "app/live.h"

typedef struct {
    GtkWidget *row;
    GtkWidget *control; /* switch, spin button, or the row itself */
    const VireoSettingRow *what;
    char *key;
    VireoVm *vm;
    gboolean refreshing;
} Binding;

#define BINDING "vireo-setting"

static void free_binding(gpointer data)
{
    Binding *b = data;
    g_object_unref(b->vm);
    g_free(b->key);
    g_free(b);
}

static void show_value(Binding *b, const char *value)
{
    switch (b->what->kind) {
    case VIREO_ROW_SWITCH:
        gtk_switch_set_active(GTK_SWITCH(b->control), !strcmp(value, "true"));
        break;
    case VIREO_ROW_NUMBER:
        gtk_spin_button_set_value(GTK_SPIN_BUTTON(b->control), g_ascii_strtod(value, NULL));
        break;
    case VIREO_ROW_CHOICE:
        for (guint i = 0; b->what->choices[i]; i++)
            if (!g_strcmp0(vm_config_choice(b->key, i), value))
                adw_combo_row_set_selected(ADW_COMBO_ROW(b->row), i);
        break;
    case VIREO_ROW_TEXT: gtk_editable_set_text(GTK_EDITABLE(b->row), value); break;
    }
}

void vireo_settings_row_refresh(GtkWidget *row)
{
    Binding *b = g_object_get_data(G_OBJECT(row), BINDING);
    const struct vm_config *c = b ? vireo_vm_get_config(b->vm) : NULL;
    AUTO(str) value = c ? vm_config_get(c, b->key, NULL) : NULL;
    if (!value)
        return;
    gboolean locked = vireo_vm_is_active(b->vm) && !vm_config_is_live(b->key);
    b->refreshing = TRUE;
    show_value(b, value);
    b->refreshing = FALSE;
    gtk_widget_set_sensitive(b->control, !locked);
    gtk_widget_set_tooltip_text(row, locked ? _("Can be changed when the machine is off")
                                     : b->what->kind == VIREO_ROW_CHOICE && b->what->subtitle
                                         ? _(b->what->subtitle)
                                         : NULL);
}

static void tell(GtkWidget *row, const char *text)
{
    GtkWidget *window = gtk_widget_get_ancestor(row, ADW_TYPE_PREFERENCES_WINDOW);
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    if (window)
        adw_preferences_window_add_toast(ADW_PREFERENCES_WINDOW(window), adw_toast_new(escaped));
}

static void store_value(Binding *b, const char *value)
{
    g_autoptr(GError) error = NULL;
    if (b->refreshing || !value)
        return;
    const struct vm_config *c = vireo_vm_get_config(b->vm);
    AUTO(str) before = c ? vm_config_get(c, b->key, NULL) : NULL;
    if (before && !strcmp(before, value))
        return;
    if (!vireo_vm_set(b->vm, b->key, value, &error)) {
        tell(b->row, error->message);
        vireo_settings_row_refresh(b->row);
        return;
    }
    guint adapter = 0;
    if (sscanf(b->key, "adapter%u.", &adapter) == 1)
        vireo_live_adapter(b->vm, adapter);
}

static void on_switch(Binding *b)
{
    store_value(b, gtk_switch_get_active(GTK_SWITCH(b->control)) ? "true" : "false");
}

static void on_number(Binding *b)
{
    g_autofree char *text =
        g_strdup_printf("%d", gtk_spin_button_get_value_as_int(GTK_SPIN_BUTTON(b->control)));
    store_value(b, text);
}

static void on_choice(Binding *b)
{
    store_value(b, vm_config_choice(b->key, adw_combo_row_get_selected(ADW_COMBO_ROW(b->row))));
}

static void on_text(Binding *b)
{
    store_value(b, gtk_editable_get_text(GTK_EDITABLE(b->row)));
}

static void make_switch(Binding *b)
{
    b->row = adw_action_row_new();
    b->control = gtk_switch_new();
    gtk_widget_set_valign(b->control, GTK_ALIGN_CENTER);
    adw_action_row_add_suffix(ADW_ACTION_ROW(b->row), b->control);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(b->row), b->control);
    g_signal_connect_swapped(b->control, "notify::active", G_CALLBACK(on_switch), b);
}

static void make_number(Binding *b)
{
    b->row = adw_action_row_new();
    b->control = gtk_spin_button_new_with_range(b->what->min, b->what->max, b->what->step);
    gtk_spin_button_set_update_policy(GTK_SPIN_BUTTON(b->control), GTK_UPDATE_IF_VALID);
    gtk_widget_set_valign(b->control, GTK_ALIGN_CENTER);
    adw_action_row_add_suffix(ADW_ACTION_ROW(b->row), b->control);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(b->row), b->control);
    g_signal_connect_swapped(b->control, "value-changed", G_CALLBACK(on_number), b);
}

static void make_choice(Binding *b)
{
    g_autoptr(GtkStringList) list = gtk_string_list_new(NULL);
    for (guint i = 0; b->what->choices[i]; i++)
        gtk_string_list_append(list, _(b->what->choices[i]));
    b->row = b->control = adw_combo_row_new();
    adw_combo_row_set_model(ADW_COMBO_ROW(b->row), G_LIST_MODEL(list));
    /* Below the title: beside it a long value would be cut. */
    adw_combo_row_set_use_subtitle(ADW_COMBO_ROW(b->row), TRUE);
    g_signal_connect_swapped(b->row, "notify::selected", G_CALLBACK(on_choice), b);
}

static void make_text(Binding *b)
{
    b->row = b->control = adw_entry_row_new();
    adw_entry_row_set_show_apply_button(ADW_ENTRY_ROW(b->row), TRUE);
    g_signal_connect_swapped(b->row, "apply", G_CALLBACK(on_text), b);
}

GtkWidget *vireo_settings_row_new(const VireoSettingRow *row, const char *key, VireoVm *vm)
{
    static void (*const make[])(Binding *) = {make_switch, make_number, make_choice, make_text};
    Binding *b = g_new0(Binding, 1);
    b->what = row;
    b->key = g_strdup(key ? key : row->key);
    b->vm = g_object_ref(vm);
    make[row->kind](b);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(b->row), _(row->title));
    if (row->subtitle && row->kind != VIREO_ROW_CHOICE && ADW_IS_ACTION_ROW(b->row))
        adw_action_row_set_subtitle(ADW_ACTION_ROW(b->row), _(row->subtitle));
    if (b->control == b->row && !ADW_IS_ENTRY_ROW(b->row)) /* others are labelled by their row */
        gtk_accessible_update_property(GTK_ACCESSIBLE(b->row), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                       _(row->title), -1);
    g_object_set_data_full(G_OBJECT(b->row), BINDING, b, free_binding);
    vireo_settings_row_refresh(b->row);
    return b->row;
}
