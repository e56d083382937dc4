/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/share.h"

#include <glib/gi18n.h>

#include "app/remote.h"
#include "app/ui/choose-file.h"
#include "app/ui/names.h"
#include "app/ui/settings-rows.h"
#include "vireo-remote1.h"

#define REMOTE_PATH "/org/vireo/Remote1"

static const VireoSettingRow spice_rows[] = {
    {"remote.spice", VIREO_ROW_SWITCH, N_("SPICE"), N_("For remote-viewer and others"), 0, 0, 0,
     NULL},
    {"remote.spice-port", VIREO_ROW_NUMBER, N_("SPICE port (0: a socket file)"), NULL, 0, 65535, 1,
     NULL},
};
static const VireoSettingRow vnc_rows[] = {
    {"remote.vnc", VIREO_ROW_SWITCH, N_("VNC"), N_("For every VNC viewer"), 0, 0, 0, NULL},
    {"remote.vnc-port", VIREO_ROW_NUMBER, N_("VNC port (0: a socket file)"), NULL, 0, 65535, 1,
     NULL},
};
static const VireoSettingRow address_row = {
    "remote.listen", VIREO_ROW_TEXT, N_("Address"), NULL, 0, 0, 0, NULL};

typedef struct {
    AdwPreferencesWindow *window;
    VireoVm *vm;
    VireoRemote1 *remote; /* NULL: the machine is off */
    GCancellable *cancellable;
    AdwPreferencesGroup *clients;
    GPtrArray *rows; /* of `clients` */
} Share;

/* What a password row or a file button is for. */
typedef struct {
    Share *share;
    VireoRemoteKind kind;
} Server;

static void server_free(gpointer data, GClosure *closure)
{
    g_free(data);
}

static void tell(Share *s, const char *text)
{
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    adw_preferences_window_add_toast(s->window, adw_toast_new(escaped));
}

/* ---- passwords and connection files ---- */

static void on_password(AdwEntryRow *row, Server *server)
{
    g_autoptr(GError) error = NULL;
    VireoVm *vm = server->share->vm;
    if (!vireo_remote_set_password(vireo_vm_get_folder(vm), server->kind,
                                   gtk_editable_get_text(GTK_EDITABLE(row)), &error))
        tell(server->share, error->message);
    else
        vireo_vm_apply_remote(vm);
}

static void on_file(const char *path, gpointer data)
{
    Server *server = data;
    VireoVm *vm = server->share->vm;
    const struct vm_config *config = vireo_vm_get_config(vm);
    g_autoptr(GError) error = NULL;
    if (!config)
        return;
    g_autofree char *text =
        vireo_remote_connection_file(config, vireo_vm_get_folder(vm), server->kind);
    if (!g_file_set_contents_full(path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT, 0600, &error))
        tell(server->share, error->message);
}

static void on_save_file(GtkButton *button, Server *server)
{
    g_autofree char *name = g_strdup_printf("%s.vv", vireo_vm_get_name(server->share->vm));
    vireo_choose_file(GTK_WINDOW(server->share->window), _("Save Connection File"), VIREO_FILE_ANY,
                      TRUE, name, on_file, server);
}

static Server *server_new(Share *s, VireoRemoteKind kind)
{
    Server *server = g_new0(Server, 1);
    *server = (Server){.share = s, .kind = kind};
    return server;
}

static GtkWidget *password_row(Share *s, VireoRemoteKind kind, const char *title)
{
    GtkWidget *row = adw_password_entry_row_new();
    g_autofree char *password = vireo_remote_password(vireo_vm_get_folder(s->vm), kind);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), title);
    gtk_editable_set_text(GTK_EDITABLE(row), password ? password : "");
    adw_entry_row_set_show_apply_button(ADW_ENTRY_ROW(row), TRUE);
    vireo_tidy_names(row);
    g_signal_connect_data(row, "apply", G_CALLBACK(on_password), server_new(s, kind), server_free,
                          0);
    return row;
}

static GtkWidget *file_row(Share *s, VireoRemoteKind kind)
{
    GtkWidget *row = adw_action_row_new(), *button = gtk_button_new_with_mnemonic(_("_Save…"));
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), _("Connection file"));
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), _("For remote-viewer; with the password"));
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), button);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(row), button);
    g_signal_connect_data(button, "clicked", G_CALLBACK(on_save_file), server_new(s, kind),
                          server_free, 0);
    return row;
}

/* ---- who is connected ---- */

static guint32 id_of(GtkWidget *widget)
{
    return GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(widget), "vireo-client"));
}

static void on_disconnect(GtkWidget *button, Share *s)
{
    vireo_remote1_call_disconnect(s->remote, id_of(button), s->cancellable, NULL, NULL);
}

static void on_view_only(GtkToggleButton *button, Share *s)
{
    vireo_remote1_call_set_view_only(s->remote, id_of(GTK_WIDGET(button)),
                                     gtk_toggle_button_get_active(button), s->cancellable, NULL,
                                     NULL);
}

static GtkWidget *client_button(GtkWidget *button, guint32 id, const char *icon, const char *label)
{
    g_object_set_data(G_OBJECT(button), "vireo-client", GUINT_TO_POINTER(id));
    gtk_button_set_icon_name(GTK_BUTTON(button), icon);
    gtk_widget_set_tooltip_text(button, label);
    gtk_accessible_update_property(GTK_ACCESSIBLE(button), GTK_ACCESSIBLE_PROPERTY_LABEL, label,
                                   -1);
    gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(button, "flat");
    return button;
}

static GtkWidget *client_row(Share *s, GVariant *client)
{
    const char *kind = "", *address = "";
    guint32 id = 0;
    gboolean view_only = FALSE;
    GtkWidget *row = adw_action_row_new(), *look = gtk_toggle_button_new(), *cut = gtk_button_new();
    g_variant_lookup(client, "id", "u", &id);
    g_variant_lookup(client, "kind", "&s", &kind);
    g_variant_lookup(client, "address", "&s", &address);
    g_variant_lookup(client, "view-only", "b", &view_only);
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row),
                                  address[0] ? address : _("This computer"));
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row),
                                strcmp(kind, "spice") == 0 ? _("SPICE") : _("VNC"));
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(look), view_only);
    client_button(look, id, "changes-prevent-symbolic", _("May only look"));
    client_button(cut, id, "network-offline-symbolic", _("Disconnect"));
    g_signal_connect(look, "toggled", G_CALLBACK(on_view_only), s);
    g_signal_connect(cut, "clicked", G_CALLBACK(on_disconnect), s);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), look);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), cut);
    return row;
}

static void show_clients(Share *s)
{
    GVariant *all = s->remote ? vireo_remote1_get_clients(s->remote) : NULL;
    for (guint i = 0; i < s->rows->len; i++)
        adw_preferences_group_remove(s->clients, g_ptr_array_index(s->rows, i));
    g_ptr_array_set_size(s->rows, 0);
    for (gsize i = 0; all && i < g_variant_n_children(all); i++) {
        g_autoptr(GVariant) client = g_variant_get_child_value(all, i);
        GtkWidget *row = client_row(s, client);
        adw_preferences_group_add(s->clients, row);
        g_ptr_array_add(s->rows, row);
    }
    adw_preferences_group_set_description(s->clients,
                                          s->rows->len ? NULL : _("Nobody is connected."));
}

static void on_remote(GObject *source, GAsyncResult *result, gpointer data)
{
    VireoRemote1 *remote = vireo_remote1_proxy_new_finish(result, NULL);
    if (!remote) /* the window is gone, or the worker is an old one */
        return;
    Share *s = data;
    s->remote = remote;
    g_signal_connect_swapped(remote, "notify::clients", G_CALLBACK(show_clients), s);
    show_clients(s);
}

/* ---- the window ---- */

static AdwPreferencesGroup *add_group(AdwPreferencesPage *page, const char *title)
{
    AdwPreferencesGroup *group = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    if (title)
        adw_preferences_group_set_title(group, title);
    adw_preferences_page_add(page, group);
    return group;
}

static void add_rows(AdwPreferencesGroup *group, const VireoSettingRow *rows, gsize n, VireoVm *vm)
{
    for (gsize i = 0; i < n; i++)
        adw_preferences_group_add(group, vireo_settings_row_new(&rows[i], NULL, vm));
}

static void share_free(gpointer data)
{
    Share *s = data;
    g_cancellable_cancel(s->cancellable);
    g_object_unref(s->cancellable);
    if (s->remote)
        g_signal_handlers_disconnect_by_data(s->remote, s);
    g_clear_object(&s->remote);
    g_object_unref(s->vm);
    g_ptr_array_unref(s->rows);
    g_free(s);
}

GtkWindow *vireo_share_new(VireoVm *vm, GtkWindow *parent)
{
    AdwPreferencesWindow *w = g_object_new(
        ADW_TYPE_PREFERENCES_WINDOW, "title", _("Share"), "transient-for", parent, "modal", TRUE,
        "search-enabled", FALSE, "default-width", 480, "default-height", 640, NULL);
    AdwPreferencesPage *page = ADW_PREFERENCES_PAGE(adw_preferences_page_new());
    Share *s = g_new0(Share, 1);
    VireoMachine1 *machine = vireo_vm_get_machine(vm);
    s->window = w;
    s->vm = g_object_ref(vm);
    s->cancellable = g_cancellable_new();
    s->rows = g_ptr_array_new();
    gtk_widget_set_size_request(GTK_WIDGET(w), 360, 294);
    AdwPreferencesGroup *group = add_group(page, _("Remote Access"));
    adw_preferences_group_set_description(
        group, _("Off until switched on. Without an address only this computer can connect; "
                 "with one, a password or encryption is required."));
    adw_preferences_group_add(group, vireo_settings_row_new(&address_row, NULL, vm));
    group = add_group(page, NULL);
    add_rows(group, spice_rows, G_N_ELEMENTS(spice_rows), vm);
    adw_preferences_group_add(group, password_row(s, VIREO_REMOTE_SPICE, _("SPICE password")));
    adw_preferences_group_add(group, file_row(s, VIREO_REMOTE_SPICE));
    group = add_group(page, NULL);
    add_rows(group, vnc_rows, G_N_ELEMENTS(vnc_rows), vm);
    adw_preferences_group_add(group, password_row(s, VIREO_REMOTE_VNC, _("VNC password")));
    adw_preferences_group_add(group, file_row(s, VIREO_REMOTE_VNC));
    s->clients = add_group(page, _("Connected"));
    show_clients(s);
    if (machine)
        vireo_remote1_proxy_new(g_dbus_proxy_get_connection(G_DBUS_PROXY(machine)),
                                G_DBUS_PROXY_FLAGS_NONE, NULL, REMOTE_PATH, s->cancellable,
                                on_remote, s);
    adw_preferences_window_add(w, page);
    g_object_set_data_full(G_OBJECT(w), "vireo-share", s, share_free);
    return GTK_WINDOW(w);
}
