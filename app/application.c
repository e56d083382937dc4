/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/application.h"

#include <glib/gi18n.h>

#include "app/search-provider.h"
#include "app/ui/console-window.h"
#include "app/ui/disk-tool.h"
#include "app/ui/library-window.h"
#include "app/ui/preferences.h"
#include "app/ui/settings-window.h"
#include "app/ui/switch-manager.h"
#include "app/ui/transfer.h"
#include "app/ui/vm-actions.h"
#include "app/ui/why-slow.h"
#include "app/ui/wizard.h"

enum { IDLE_MS = 10000 };

struct _VireoApplication {
    AdwApplication parent;
    VireoLibrary *library;
    GSettings *settings;
    GtkWindow *window;
};

G_DEFINE_FINAL_TYPE(VireoApplication, vireo_application, ADW_TYPE_APPLICATION)

static gboolean ensure_library(VireoApplication *self, GError **error);

/* ---- windows ---- */

/* The newest of our windows of a type that `fits`; NULL: none. */
static GtkWindow *find_window(VireoApplication *self, GType type, VireoVm *vm)
{
    for (GList *l = gtk_application_get_windows(GTK_APPLICATION(self)); l; l = l->next) {
        if (!g_type_is_a(G_OBJECT_TYPE(l->data), type))
            continue;
        if (!vm || g_object_get_data(l->data, "vireo-vm") == vm)
            return l->data;
    }
    return NULL;
}

void vireo_application_open_console(VireoApplication *self, VireoVm *vm)
{
    GtkWindow *w = find_window(self, VIREO_TYPE_CONSOLE_WINDOW, vm);
    if (!w) {
        w = vireo_console_window_new(GTK_APPLICATION(self), vm, self->settings);
        g_object_set_data(G_OBJECT(w), "vireo-vm", vm);
    }
    gtk_window_present(w);
}

void vireo_application_open_settings(VireoApplication *self, VireoVm *vm, GtkWindow *parent)
{
    GtkWindow *w = find_window(self, VIREO_TYPE_SETTINGS_WINDOW, vm);
    if (!w) {
        w = vireo_settings_window_new(vm, parent);
        gtk_window_set_application(w, GTK_APPLICATION(self));
        g_object_set_data(G_OBJECT(w), "vireo-vm", vm);
    }
    gtk_window_present(w);
}

void vireo_application_open_wizard(VireoApplication *self, const char *path)
{
    GtkWindow *w = find_window(self, VIREO_TYPE_WIZARD, NULL);
    if (!w && self->library) {
        w = vireo_wizard_new(self->library, self->window);
        gtk_window_set_application(w, GTK_APPLICATION(self));
    }
    if (!w)
        return;
    if (path)
        vireo_wizard_set_image(VIREO_WIZARD(w), path);
    gtk_window_present(w);
}

void vireo_application_reload(VireoApplication *self)
{
    g_autoptr(GError) error = NULL;
    if (!vireo_library_reload(self->library, &error))
        g_message("%s", error->message);
}

VireoLibrary *vireo_application_get_library(VireoApplication *self)
{
    ensure_library(self, NULL);
    return self->library;
}

GSettings *vireo_application_get_settings(VireoApplication *self)
{
    return self->settings;
}

void vireo_application_notify(VireoApplication *self, const char *id, const char *title,
                              const char *body, VireoVm *vm)
{
    g_autoptr(GNotification) n = g_notification_new(title);
    if (body)
        g_notification_set_body(n, body);
    if (vm)
        g_notification_set_default_action_and_target(n, "app.open", "s", vireo_vm_get_id(vm));
    g_application_send_notification(G_APPLICATION(self), id, n);
}

/* ---- machines that fail while nobody looks ---- */

static void on_failed(VireoVm *vm, const char *title, const char *text, VireoApplication *self)
{
    GtkWindow *w = find_window(self, VIREO_TYPE_CONSOLE_WINDOW, vm);
    if (!w)
        w = self->window;
    if (w)
        vireo_show_failure(GTK_WIDGET(w), title, text);
}

static void on_ended(VireoVm *vm, const char *reason, VireoApplication *self)
{
    GtkWindow *w = find_window(self, VIREO_TYPE_CONSOLE_WINDOW, vm);
    if (!*reason || (w && gtk_window_is_active(w)))
        return;
    g_autofree char *title = g_strdup_printf(_("“%s” ended unexpectedly"), vireo_vm_get_name(vm));
    vireo_application_notify(self, vireo_vm_get_id(vm), title, reason, vm);
}

/* Checkpoints go on while their machine does, and nobody waits for their end. */
static void on_finished(VireoVm *vm, const char *operation, const char *error,
                        VireoApplication *self)
{
    GtkWindow *w = find_window(self, VIREO_TYPE_CONSOLE_WINDOW, vm);
    if (!g_str_has_prefix(operation, "checkpoint") || (!*error && w && gtk_window_is_active(w)))
        return;
    const char *format = *error ? _("The checkpoint of “%s” was not completed")
                                : _("The checkpoint of “%s” is complete");
    g_autofree char *title = g_strdup_printf(format, vireo_vm_get_name(vm));
    g_autofree char *id = g_strconcat(vireo_vm_get_id(vm), "-checkpoint", NULL);
    vireo_application_notify(self, id, title, *error ? error : NULL, vm);
}

static void on_items(GListModel *model, guint position, guint removed, guint added,
                     VireoApplication *self)
{
    for (guint i = position; i < position + added; i++) {
        g_autoptr(VireoVm) vm = g_list_model_get_item(model, i);
        g_signal_connect_object(vm, "failed", G_CALLBACK(on_failed), self, 0);
        g_signal_connect_object(vm, "ended", G_CALLBACK(on_ended), self, 0);
        g_signal_connect_object(vm, "finished", G_CALLBACK(on_finished), self, 0);
    }
}

/* ---- actions ---- */

static void do_new(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    g_application_activate(data);
    vireo_application_open_wizard(data, NULL);
}

static void do_open(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoApplication *self = data;
    g_application_activate(data);
    VireoVm *vm = self->library
                      ? vireo_library_find(self->library, g_variant_get_string(parameter, NULL))
                      : NULL;
    if (vm)
        vireo_application_open_console(self, vm);
}

static void do_settings(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoApplication *self = data;
    g_application_activate(data);
    VireoVm *vm = self->library
                      ? vireo_library_find(self->library, g_variant_get_string(parameter, NULL))
                      : NULL;
    if (vm && vireo_vm_get_config(vm))
        vireo_application_open_settings(self, vm, self->window);
}

static void do_preferences(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoApplication *self = data;
    gtk_window_present(vireo_preferences_new(
        self->settings, gtk_application_get_active_window(GTK_APPLICATION(self))));
}

static void do_switches(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoApplication *self = data;
    if (ensure_library(self, NULL))
        gtk_window_present(vireo_switch_manager_new(
            self->library, gtk_application_get_active_window(GTK_APPLICATION(self))));
}

static void do_import(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoApplication *self = data;
    g_application_activate(data);
    if (self->library)
        vireo_ask_import(self->window,
                         g_str_has_suffix(g_action_get_name(G_ACTION(action)), "folder"));
}

static void do_disk_tool(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    GtkWindow *w = find_window(data, VIREO_TYPE_DISK_TOOL, NULL);
    gtk_window_present(w ? w : vireo_disk_tool_new(data));
}

static void do_why_slow(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    VireoApplication *self = data;
    gtk_window_present(
        vireo_why_slow_new(gtk_application_get_active_window(GTK_APPLICATION(self))));
}

static void do_shortcuts(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    g_autoptr(GtkBuilder) b = gtk_builder_new_from_resource("/org/vireo/Vireo/ui/shortcuts.ui");
    GtkWindow *w = GTK_WINDOW(gtk_builder_get_object(b, "shortcuts"));
    gtk_window_set_transient_for(w, gtk_application_get_active_window(data));
    gtk_window_present(w);
}

static void do_about(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    adw_show_about_window(gtk_application_get_active_window(data), "application-name", "Vireo",
                          "application-icon", VIREO_APP_ID, "version", VIREO_VERSION,
                          "developer-name", _("The Vireo developers"), "license-type",
                          GTK_LICENSE_GPL_3_0, "comments",
                          _("Virtual machines with a hypervisor of their own, in the manner of "
                            "Client Hyper-V."),
                          "translator-credits", _("translator-credits"), NULL);
}

static void do_quit(GSimpleAction *action, GVariant *parameter, gpointer data)
{
    GList *windows = g_list_copy(gtk_application_get_windows(data));
    for (GList *l = windows; l; l = l->next)
        gtk_window_destroy(l->data);
    g_list_free(windows);
}

static const GActionEntry entries[] = {
    {"new", do_new},
    {"open", do_open, "s"},
    {"settings", do_settings, "s"},
    {"preferences", do_preferences},
    {"import", do_import},
    {"import-folder", do_import},
    {"switches", do_switches},
    {"disk-tool", do_disk_tool},
    {"why-slow", do_why_slow},
    {"shortcuts", do_shortcuts},
    {"about", do_about},
    {"quit", do_quit},
};

static void set_accels(VireoApplication *self)
{
    static const struct {
        const char *action;
        const char *keys[3];
    } accels[] = {
        {"app.new", {"<Control>n"}},
        {"app.preferences", {"<Control>comma"}},
        {"app.shortcuts", {"<Control>question", "F1"}},
        {"app.quit", {"<Control>q"}},
        {"win.find", {"<Control>f"}},
        {"window.close", {"<Control>w"}},
        {"win.fullscreen", {"F11"}},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(accels); i++)
        gtk_application_set_accels_for_action(GTK_APPLICATION(self), accels[i].action,
                                              (const char *const *)accels[i].keys);
}

/* ---- the application ---- */

static void apply_scheme(VireoApplication *self)
{
    static const AdwColorScheme schemes[] = {ADW_COLOR_SCHEME_DEFAULT, ADW_COLOR_SCHEME_FORCE_LIGHT,
                                             ADW_COLOR_SCHEME_FORCE_DARK};
    int i = g_settings_get_enum(self->settings, "color-scheme");
    adw_style_manager_set_color_scheme(adw_style_manager_get_default(), schemes[CLAMP(i, 0, 2)]);
}

static GSettings *open_settings(void)
{
    /* Not installed and no schema folder given: defaults, not kept. */
    GSettingsSchemaSource *source = g_settings_schema_source_get_default();
    g_autoptr(GSettingsSchema) schema =
        source ? g_settings_schema_source_lookup(source, VIREO_APP_ID, TRUE) : NULL;
    if (!schema) {
        g_printerr("%s\n", _("Vireo is not installed completely: its settings schema is missing."));
        exit(1);
    }
    return g_settings_new_full(schema, NULL, NULL);
}

static void vireo_application_startup(GApplication *app)
{
    VireoApplication *self = VIREO_APPLICATION(app);
    G_APPLICATION_CLASS(vireo_application_parent_class)->startup(app);
    gtk_window_set_default_icon_name(VIREO_APP_ID);
    self->settings = open_settings();
    apply_scheme(self);
    g_signal_connect_swapped(self->settings, "changed::color-scheme", G_CALLBACK(apply_scheme),
                             self);
    g_action_map_add_action_entries(G_ACTION_MAP(app), entries, G_N_ELEMENTS(entries), app);
    set_accels(self);
    g_application_set_inactivity_timeout(app, IDLE_MS); /* started by a search alone */
}

/* Without a store there is nothing to show but why. */
static void show_unusable(VireoApplication *self, const GError *error)
{
    GtkWidget *w = adw_application_window_new(GTK_APPLICATION(self));
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
    GtkWidget *page = adw_status_page_new();
    g_autofree char *text = g_markup_escape_text(error->message, -1);
    gtk_window_set_title(GTK_WINDOW(w), "Vireo");
    gtk_window_set_default_size(GTK_WINDOW(w), 600, 400);
    adw_status_page_set_icon_name(ADW_STATUS_PAGE(page), "dialog-error-symbolic");
    adw_status_page_set_title(ADW_STATUS_PAGE(page), _("The Virtual Machines Cannot Be Reached"));
    adw_status_page_set_description(ADW_STATUS_PAGE(page), text);
    gtk_widget_set_vexpand(page, TRUE);
    gtk_box_append(GTK_BOX(box), adw_header_bar_new());
    gtk_box_append(GTK_BOX(box), page);
    adw_application_window_set_content(ADW_APPLICATION_WINDOW(w), box);
    gtk_window_present(GTK_WINDOW(w));
}

static gboolean ensure_library(VireoApplication *self, GError **error)
{
    if (self->library)
        return TRUE;
    self->library = vireo_library_new(error);
    if (!self->library)
        return FALSE;
    g_signal_connect(self->library, "items-changed", G_CALLBACK(on_items), self);
    on_items(G_LIST_MODEL(self->library), 0, 0,
             g_list_model_get_n_items(G_LIST_MODEL(self->library)), self);
    return TRUE;
}

static void vireo_application_activate(GApplication *app)
{
    VireoApplication *self = VIREO_APPLICATION(app);
    g_autoptr(GError) error = NULL;
    if (!ensure_library(self, &error)) {
        show_unusable(self, error);
        return;
    }
    if (!self->window) {
        self->window = vireo_library_window_new(GTK_APPLICATION(self), self->library);
        g_object_add_weak_pointer(G_OBJECT(self->window), (gpointer *)&self->window);
    }
    gtk_window_present(self->window);
}

static void vireo_application_open(GApplication *app, GFile **files, int n, const char *hint)
{
    g_application_activate(app);
    g_autofree char *path = n ? g_file_get_path(files[0]) : NULL;
    if (path)
        vireo_application_open_wizard(VIREO_APPLICATION(app), path);
}

static void vireo_application_finalize(GObject *object)
{
    VireoApplication *self = VIREO_APPLICATION(object);
    if (self->window)
        g_object_remove_weak_pointer(G_OBJECT(self->window), (gpointer *)&self->window);
    g_clear_object(&self->library);
    g_clear_object(&self->settings);
    G_OBJECT_CLASS(vireo_application_parent_class)->finalize(object);
}

static int on_local_options(GApplication *app, GVariantDict *options, gpointer data)
{
    if (!g_variant_dict_contains(options, "version"))
        return -1;
    g_print("vireo %s\n", VIREO_VERSION);
    return 0;
}

static gboolean vireo_application_dbus_register(GApplication *app, GDBusConnection *connection,
                                                const char *path, GError **error)
{
    return G_APPLICATION_CLASS(vireo_application_parent_class)
               ->dbus_register(app, connection, path, error) &&
           vireo_search_provider_export(VIREO_APPLICATION(app), connection, error);
}

static void vireo_application_class_init(VireoApplicationClass *klass)
{
    GApplicationClass *app = G_APPLICATION_CLASS(klass);
    G_OBJECT_CLASS(klass)->finalize = vireo_application_finalize;
    app->startup = vireo_application_startup;
    app->activate = vireo_application_activate;
    app->open = vireo_application_open;
    app->dbus_register = vireo_application_dbus_register;
}

static void vireo_application_init(VireoApplication *self)
{
    static const GOptionEntry options[] = {
        {"version", 0, 0, G_OPTION_ARG_NONE, NULL, N_("Show the version"), NULL}, {NULL}};
    g_application_add_main_option_entries(G_APPLICATION(self), options);
    g_signal_connect(self, "handle-local-options", G_CALLBACK(on_local_options), NULL);
}

VireoApplication *vireo_application_new(void)
{
    return g_object_new(VIREO_TYPE_APPLICATION, "application-id", VIREO_APP_ID, "flags",
                        G_APPLICATION_HANDLES_OPEN, "resource-base-path", "/org/vireo/Vireo", NULL);
}
