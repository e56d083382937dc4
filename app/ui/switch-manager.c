/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/switch-manager.h"

#include <glib/gi18n.h>

#include "app/error.h"
#include "app/switches.h"
#include "app/ui/names.h"

typedef struct {
    AdwPreferencesWindow *window; /* owns this */
    VireoLibrary *library;
    AdwPreferencesGroup *shared, *private, *devices;
    GPtrArray *rows; /* borrowed */
} Manager;

static void show(Manager *m);

static void tell(Manager *m, const GError *error)
{
    g_autofree char *text = vireo_error_text(error);
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    adw_preferences_window_add_toast(m->window, adw_toast_new(escaped));
}

static void on_remove(GtkButton *button, Manager *m)
{
    g_autoptr(GError) error = NULL;
    if (!vireo_switches_remove(vireo_library_get_store(m->library),
                               g_object_get_data(G_OBJECT(button), "name"), &error))
        tell(m, error);
    show(m);
}

static void on_add(AdwEntryRow *entry, Manager *m)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strstrip(g_strdup(gtk_editable_get_text(GTK_EDITABLE(entry))));
    if (!vireo_switches_add(vireo_library_get_store(m->library), name, &error)) {
        tell(m, error);
        return;
    }
    gtk_editable_set_text(GTK_EDITABLE(entry), "");
    show(m);
}

static void add_row(Manager *m, AdwPreferencesGroup *group, GtkWidget *row)
{
    adw_preferences_group_add(group, row);
    g_ptr_array_add(m->rows, row);
    g_object_set_data(G_OBJECT(row), "group", group);
}

static GtkWidget *remove_button(Manager *m, const VireoSwitch *s)
{
    GtkWidget *b = gtk_button_new_from_icon_name("user-trash-symbolic");
    g_autofree char *label = g_strdup_printf(_("Remove %s"), s->name);
    gtk_widget_set_valign(b, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(b, "flat");
    gtk_widget_set_sensitive(b, !*s->users);
    gtk_widget_set_tooltip_text(b, *s->users ? _("Machines are connected to it") : label);
    gtk_accessible_update_property(GTK_ACCESSIBLE(b), GTK_ACCESSIBLE_PROPERTY_LABEL, label, -1);
    g_object_set_data_full(G_OBJECT(b), "name", g_strdup(s->name), g_free);
    g_signal_connect(b, "clicked", G_CALLBACK(on_remove), m);
    return b;
}

static GtkWidget *switch_row(Manager *m, const VireoSwitch *s)
{
    GtkWidget *row = adw_action_row_new();
    g_autofree char *users = g_strjoinv(", ", s->users);
    g_autofree char *subtitle = *s->users ? g_strdup_printf(_("Connected: %s"), users)
                                          : g_strdup(_("No machine is connected"));
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), s->kind == VM_SWITCH_NAT
                                                                ? _("Shared connection (NAT)")
                                                                : s->name);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), subtitle);
    adw_action_row_set_subtitle_lines(ADW_ACTION_ROW(row), 3);
    if (s->kind == VM_SWITCH_PRIVATE)
        adw_action_row_add_suffix(ADW_ACTION_ROW(row), remove_button(m, s));
    return row;
}

/* What an administrator does for an internal or external switch, to be copied from here. */
static GtkWidget *hint_row(void)
{
    GtkWidget *row = adw_preferences_row_new();
    g_autofree char *text = g_strdup_printf(
        "ip tuntap add dev vireo0 mode tap user %s\nip link set vireo0 master br0 up",
        g_get_user_name());
    GtkWidget *label = gtk_label_new(text);
    gtk_label_set_selectable(GTK_LABEL(label), TRUE);
    gtk_label_set_wrap(GTK_LABEL(label), TRUE);
    gtk_label_set_wrap_mode(GTK_LABEL(label), PANGO_WRAP_WORD_CHAR);
    gtk_label_set_xalign(GTK_LABEL(label), 0);
    gtk_widget_add_css_class(label, "monospace");
    gtk_widget_set_margin_top(label, 12);
    gtk_widget_set_margin_bottom(label, 12);
    gtk_widget_set_margin_start(label, 12);
    gtk_widget_set_margin_end(label, 12);
    gtk_list_box_row_set_child(GTK_LIST_BOX_ROW(row), label);
    gtk_list_box_row_set_activatable(GTK_LIST_BOX_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row),
                                  _("What an administrator does for that, as an example"));
    return row;
}

static void show(Manager *m)
{
    g_autoptr(GPtrArray) all = vireo_switches_load(vireo_library_get_store(m->library));
    for (guint i = 0; i < m->rows->len; i++)
        adw_preferences_group_remove(g_object_get_data(m->rows->pdata[i], "group"),
                                     m->rows->pdata[i]);
    g_ptr_array_set_size(m->rows, 0);
    for (guint i = 0; i < all->len; i++) {
        const VireoSwitch *s = all->pdata[i];
        add_row(m,
                s->kind == VM_SWITCH_NAT       ? m->shared
                : s->kind == VM_SWITCH_PRIVATE ? m->private
                                               : m->devices,
                switch_row(m, s));
    }
    add_row(m, m->devices, hint_row());
}

static AdwPreferencesGroup *add_group(AdwPreferencesPage *page, const char *title,
                                      const char *description)
{
    AdwPreferencesGroup *g = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    adw_preferences_group_set_title(g, title);
    adw_preferences_group_set_description(g, description);
    adw_preferences_page_add(page, g);
    return g;
}

static GtkWidget *make_entry(Manager *m)
{
    GtkWidget *entry = adw_entry_row_new();
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(entry), _("Name of a new private switch"));
    adw_entry_row_set_show_apply_button(ADW_ENTRY_ROW(entry), TRUE);
    g_signal_connect(entry, "apply", G_CALLBACK(on_add), m);
    return entry;
}

static void free_manager(gpointer data)
{
    Manager *m = data;
    g_object_unref(m->library);
    g_ptr_array_unref(m->rows);
    g_free(m);
}

GtkWindow *vireo_switch_manager_new(VireoLibrary *library, GtkWindow *parent)
{
    AdwPreferencesPage *page = ADW_PREFERENCES_PAGE(adw_preferences_page_new());
    Manager *m = g_new0(Manager, 1);
    m->window = g_object_new(ADW_TYPE_PREFERENCES_WINDOW, "title", _("Switch Manager"),
                             "transient-for", parent, "search-enabled", FALSE, "default-width", 520,
                             "default-height", 600, NULL);
    gtk_widget_set_size_request(GTK_WIDGET(m->window), 360, 294);
    m->library = g_object_ref(library);
    m->rows = g_ptr_array_new();
    m->shared = add_group(page, _("Shared Connection"),
                          _("Always there: machines reach what this computer reaches."));
    m->private = add_group(page, _("Private Switches"),
                           _("Join machines with one another, and with nothing else."));
    AdwPreferencesGroup *g = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    adw_preferences_group_add(g, make_entry(m));
    adw_preferences_page_add(page, g);
    m->devices = add_group(page, _("Network Devices"),
                           _("Internal and external switches use a TAP or macvtap device that an "
                             "administrator has prepared for you; those are listed here."));
    show(m);
    adw_preferences_window_add(m->window, page);
    g_object_set_data_full(G_OBJECT(m->window), "vireo-switches", m, free_manager);
    vireo_tidy_names(GTK_WIDGET(m->window));
    return GTK_WINDOW(m->window);
}
