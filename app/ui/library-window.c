/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/library-window.h"

#include <glib/gi18n.h>

#include "app/application.h"
#include "app/ui/focus.h"
#include "app/ui/menus.h"
#include "app/ui/names.h"
#include "app/ui/vm-actions.h"
#include "app/ui/vm-row.h"

enum { FIRST_ROWS = 12, MORE_ROWS = 8 };

struct _VireoLibraryWindow {
    AdwApplicationWindow parent;
    VireoLibrary *library;
    GtkStack *stack;
    GtkListBox *list;
    GtkSearchBar *search_bar;
    GtkSearchEntry *search_entry;
    GtkWidget *search_button, *menu_button;
    AdwToastOverlay *toasts;
    GtkFilter *filter;
    GListModel *shown;
    GtkSliceListModel *rows; /* of shown, those that have a row by now */
    guint more_id;
};

G_DEFINE_FINAL_TYPE(VireoLibraryWindow, vireo_library_window, ADW_TYPE_APPLICATION_WINDOW)

static gboolean contains(const char *text, const char *wanted)
{
    if (!text)
        return FALSE;
    g_autofree char *a = g_utf8_casefold(text, -1);
    g_autofree char *b = g_utf8_casefold(wanted, -1);
    return strstr(a, b) != NULL;
}

static gboolean is_shown(gpointer item, gpointer data)
{
    VireoLibraryWindow *self = data;
    VireoVm *vm = item;
    const struct vm_config *c = vireo_vm_get_config(vm);
    const char *text = gtk_editable_get_text(GTK_EDITABLE(self->search_entry));
    return !*text || !gtk_search_bar_get_search_mode(self->search_bar) ||
           contains(vireo_vm_get_name(vm), text) || (c && contains(c->notes, text));
}

static int by_name(gconstpointer a, gconstpointer b, gpointer data)
{
    gboolean bad_a = !vireo_vm_get_config((VireoVm *)(uintptr_t)a);
    gboolean bad_b = !vireo_vm_get_config((VireoVm *)(uintptr_t)b);
    if (bad_a != bad_b)
        return bad_a - bad_b;
    return g_utf8_collate(vireo_vm_get_name((VireoVm *)(uintptr_t)a),
                          vireo_vm_get_name((VireoVm *)(uintptr_t)b));
}

static void update_page(VireoLibraryWindow *self)
{
    guint all = g_list_model_get_n_items(G_LIST_MODEL(self->library));
    guint some = g_list_model_get_n_items(self->shown);
    gtk_stack_set_visible_child_name(self->stack, !all    ? "empty"
                                                  : !some ? "nothing-found"
                                                          : "list");
    gtk_widget_set_visible(self->search_button, all > 0);
}

static void on_search(VireoLibraryWindow *self)
{
    gtk_filter_changed(self->filter, GTK_FILTER_CHANGE_DIFFERENT);
    update_page(self);
}

static GtkWidget *make_row(gpointer item, gpointer data)
{
    return vireo_vm_row_new(item);
}

static void on_row(GtkListBox *list, GtkListBoxRow *row, VireoLibraryWindow *self)
{
    vireo_application_open_console(VIREO_APPLICATION(g_application_get_default()),
                                   vireo_vm_row_get_vm(VIREO_VM_ROW(row)));
}

void vireo_library_window_toast(VireoLibraryWindow *self, const char *text)
{
    AdwToast *toast = adw_toast_new("");
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    adw_toast_set_title(toast, escaped);
    adw_toast_overlay_add_toast(self->toasts, toast);
}

static void find(GtkWidget *widget, const char *name, GVariant *parameter)
{
    gtk_search_bar_set_search_mode(VIREO_LIBRARY_WINDOW(widget)->search_bar, TRUE);
}

static void vireo_library_window_dispose(GObject *object)
{
    VireoLibraryWindow *self = VIREO_LIBRARY_WINDOW(object);
    if (self->library)
        g_signal_handlers_disconnect_by_data(self->library, self);
    if (self->list)
        gtk_list_box_bind_model(self->list, NULL, NULL, NULL, NULL);
    g_clear_handle_id(&self->more_id, g_source_remove);
    g_clear_object(&self->rows);
    g_clear_object(&self->shown);
    g_clear_object(&self->library);
    G_OBJECT_CLASS(vireo_library_window_parent_class)->dispose(object);
}

static void vireo_library_window_class_init(VireoLibraryWindowClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_library_window_dispose;
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/library-window.ui");
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, stack);
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, list);
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, search_bar);
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, search_entry);
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, search_button);
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, menu_button);
    gtk_widget_class_bind_template_child(widget, VireoLibraryWindow, toasts);
    gtk_widget_class_install_action(widget, "win.find", NULL, find);
}

static void vireo_library_window_init(VireoLibraryWindow *self)
{
    gtk_widget_init_template(GTK_WIDGET(self));
    vireo_menus_attach(self->menu_button, "library");
    vireo_tidy_names(GTK_WIDGET(self));
    vireo_focus_keep(GTK_WINDOW(self));
    gtk_search_bar_connect_entry(self->search_bar, GTK_EDITABLE(self->search_entry));
    gtk_search_bar_set_key_capture_widget(self->search_bar, GTK_WIDGET(self));
}

/* A person sees the first rows at once; the others come while the window is already there. */
static gboolean on_more(gpointer data)
{
    VireoLibraryWindow *self = data;
    guint n = gtk_slice_list_model_get_size(self->rows) + MORE_ROWS;
    gboolean all = n >= g_list_model_get_n_items(self->shown);
    gtk_slice_list_model_set_size(self->rows, all ? G_MAXUINT : n);
    if (all)
        self->more_id = 0;
    return all ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

/* Order and search over the library. */
static void bind_list(VireoLibraryWindow *self)
{
    self->filter = GTK_FILTER(gtk_custom_filter_new(is_shown, self, NULL));
    GtkSorter *sorter = GTK_SORTER(gtk_custom_sorter_new(by_name, NULL, NULL));
    GListModel *sorted =
        G_LIST_MODEL(gtk_sort_list_model_new(g_object_ref(G_LIST_MODEL(self->library)), sorter));
    self->shown = G_LIST_MODEL(gtk_filter_list_model_new(sorted, self->filter));
    self->rows = gtk_slice_list_model_new(g_object_ref(self->shown), 0, FIRST_ROWS);
    self->more_id = g_idle_add_full(G_PRIORITY_LOW, on_more, self, NULL);
    gtk_list_box_bind_model(self->list, G_LIST_MODEL(self->rows), make_row, NULL, NULL);
    g_signal_connect_swapped(self->search_entry, "search-changed", G_CALLBACK(on_search), self);
    g_signal_connect_swapped(self->search_bar, "notify::search-mode-enabled", G_CALLBACK(on_search),
                             self);
    g_signal_connect(self->list, "row-activated", G_CALLBACK(on_row), self);
    g_signal_connect_object(self->library, "items-changed", G_CALLBACK(update_page), self,
                            G_CONNECT_SWAPPED | G_CONNECT_AFTER);
    update_page(self);
}

GtkWindow *vireo_library_window_new(GtkApplication *app, VireoLibrary *library)
{
    VireoLibraryWindow *self = g_object_new(VIREO_TYPE_LIBRARY_WINDOW, "application", app, NULL);
    self->library = g_object_ref(library);
    bind_list(self);
    return GTK_WINDOW(self);
}
