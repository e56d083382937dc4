/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/usb-chooser.h"

#include <gio/gunixfdlist.h>
#include <glib/gi18n.h>
#include <string.h>

#include "session/usb/usb-list.h"
#include "vireo-usb1.h"

#define USB_PATH "/org/vireo/Usb1"
#define ALWAYS_KEY "usb-always-connect" /* of "machine device" */

struct _VireoUsbChooser {
    AdwBin parent;
    GtkMenuButton *button;
    GtkLabel *note;
    GtkListBox *rows;

    char *vm_id, *reason;
    GSettings *settings;
    VireoUsbList *list;
    VireoUsb1 *usb;            /* NULL: no enhanced session */
    GCancellable *cancellable; /* of what is under way on `usb` */
    GHashTable *busy;          /* places that are being lent or taken back */
    GHashTable *tried;         /* places that "always connect" has had its try at */
};

G_DEFINE_FINAL_TYPE(VireoUsbChooser, vireo_usb_chooser, ADW_TYPE_BIN)

/* A device on its way to the guest. */
struct lending {
    VireoUsbChooser *self; /* a reference */
    VireoUsbInfo *info;
    VireoUsb1 *usb;
    gboolean quiet; /* nobody asked for it just now */
};

static void refresh(VireoUsbChooser *self);

static void lending_free(struct lending *l)
{
    g_object_unref(l->self);
    g_object_unref(l->usb);
    vireo_usb_info_free(l->info);
    g_free(l);
}

static void tell(VireoUsbChooser *self, const char *title, const char *text)
{
    GtkRoot *root = gtk_widget_get_root(GTK_WIDGET(self));
    GtkWidget *d =
        adw_message_dialog_new(GTK_IS_WINDOW(root) ? GTK_WINDOW(root) : NULL, title, text);
    adw_message_dialog_add_response(ADW_MESSAGE_DIALOG(d), "close", _("_Close"));
    gtk_window_present(GTK_WINDOW(d));
}

/* ---- what is remembered ---- */

static char *remembered(VireoUsbChooser *self, const VireoUsbInfo *info)
{
    return g_strdup_printf("%s %s", self->vm_id, info->key);
}

static gboolean is_always(VireoUsbChooser *self, const VireoUsbInfo *info)
{
    g_auto(GStrv) all = g_settings_get_strv(self->settings, ALWAYS_KEY);
    g_autofree char *entry = remembered(self, info);
    return g_strv_contains((const char *const *)all, entry);
}

static void set_always(VireoUsbChooser *self, const VireoUsbInfo *info, gboolean on)
{
    g_auto(GStrv) all = g_settings_get_strv(self->settings, ALWAYS_KEY);
    g_autofree char *entry = remembered(self, info);
    g_autoptr(GStrvBuilder) b = g_strv_builder_new();
    for (guint i = 0; all[i]; i++)
        if (strcmp(all[i], entry) != 0)
            g_strv_builder_add(b, all[i]);
    if (on)
        g_strv_builder_add(b, entry);
    g_auto(GStrv) now = g_strv_builder_end(b);
    g_settings_set_strv(self->settings, ALWAYS_KEY, (const char *const *)now);
}

/* ---- lending ---- */

static void lending_failed(struct lending *l, const GError *error)
{
    if (!l->quiet && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        g_autofree char *title = g_strdup_printf(_("“%s” Could Not Be Connected"), l->info->name);
        tell(l->self, title, error->message);
    }
}

static void on_attached(GObject *source, GAsyncResult *result, gpointer data)
{
    struct lending *l = data;
    g_autoptr(GError) error = NULL;
    g_hash_table_remove(l->self->busy, l->info->id);
    if (!vireo_usb1_call_attach_finish(VIREO_USB1(source), NULL, NULL, result, &error)) {
        g_dbus_error_strip_remote_error(error);
        lending_failed(l, error);
    }
    refresh(l->self);
    lending_free(l);
}

static void on_opened(GObject *source, GAsyncResult *result, gpointer data)
{
    struct lending *l = data;
    g_autoptr(GError) error = NULL;
    int fd = vireo_usb_open_finish(result, &error);
    if (fd < 0) {
        g_hash_table_remove(l->self->busy, l->info->id);
        lending_failed(l, error);
        refresh(l->self);
        lending_free(l);
        return;
    }
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);
    GVariantBuilder info;
    g_variant_builder_init(&info, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&info, "{sv}", "name", g_variant_new_string(l->info->name));
    g_variant_builder_add(&info, "{sv}", "place", g_variant_new_string(l->info->id));
    vireo_usb1_call_attach(l->usb, g_variant_new_handle(0), g_variant_builder_end(&info), fds,
                           l->self->cancellable, on_attached, l);
}

static void lend(VireoUsbChooser *self, const VireoUsbInfo *info, gboolean quiet)
{
    if (!self->usb || !g_hash_table_add(self->busy, g_strdup(info->id)))
        return;
    struct lending *l = g_new(struct lending, 1);
    *l = (struct lending){.self = g_object_ref(self),
                          .info = vireo_usb_info_copy(info),
                          .usb = g_object_ref(self->usb),
                          .quiet = quiet};
    vireo_usb_open_async(info, self->cancellable, on_opened, l);
    refresh(self);
}

static void on_detached(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoUsbChooser) self = data;
    g_autoptr(GError) error = NULL;
    if (!vireo_usb1_call_detach_finish(VIREO_USB1(source), result, &error) &&
        !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED)) {
        g_dbus_error_strip_remote_error(error);
        tell(self, _("The USB Device Could Not Be Taken Back"), error->message);
    }
    refresh(self);
}

/* The guest's id of the device that is plugged in at `place`; NULL: the guest does not have it. */
static char *guest_id(VireoUsbChooser *self, const char *place)
{
    GVariant *devices = self->usb ? vireo_usb1_get_devices(self->usb) : NULL;
    for (gsize i = 0; devices && i < g_variant_n_children(devices); i++) {
        g_autoptr(GVariant) d = g_variant_get_child_value(devices, i);
        const char *id = "", *at = "";
        g_variant_lookup(d, "id", "&s", &id);
        g_variant_lookup(d, "place", "&s", &at);
        if (strcmp(at, place) == 0)
            return g_strdup(id);
    }
    return NULL;
}

static void on_asked(AdwMessageDialog *dialog, const char *response, gpointer data)
{
    struct lending *l = data;
    if (strcmp(response, "connect") == 0)
        lend(l->self, l->info, FALSE);
    refresh(l->self);
    lending_free(l);
}

static void ask(VireoUsbChooser *self, const VireoUsbInfo *info)
{
    g_autofree char *title = g_strdup_printf(_("Connect “%s”?"), info->name);
    g_autofree char *text = info->risk == VIREO_USB_RISK_INPUT
                                ? g_strdup(_("It is a keyboard or a pointing device. This computer "
                                             "cannot use it while the guest has it; "
                                             "without another one you could not take it back."))
                                : g_strdup_printf(_("It is mounted at “%s”. Eject it first, or "
                                                    "files that are being written are lost."),
                                                  info->mount);
    GtkRoot *root = gtk_widget_get_root(GTK_WIDGET(self));
    GtkWidget *d =
        adw_message_dialog_new(GTK_IS_WINDOW(root) ? GTK_WINDOW(root) : NULL, title, text);
    adw_message_dialog_add_responses(ADW_MESSAGE_DIALOG(d), "cancel", _("_Cancel"), "connect",
                                     _("Co_nnect Anyway"), NULL);
    adw_message_dialog_set_response_appearance(ADW_MESSAGE_DIALOG(d), "connect",
                                               ADW_RESPONSE_DESTRUCTIVE);
    struct lending *l = g_new(struct lending, 1);
    *l = (struct lending){.self = g_object_ref(self),
                          .info = vireo_usb_info_copy(info),
                          .usb = g_object_ref(self->usb)};
    g_signal_connect(d, "response", G_CALLBACK(on_asked), l);
    gtk_window_present(GTK_WINDOW(d));
}

static gboolean on_switch(GtkSwitch *widget, gboolean on, VireoUsbChooser *self)
{
    const VireoUsbInfo *info = g_object_get_data(G_OBJECT(widget), "vireo-usb-info");
    g_autofree char *id = guest_id(self, info->id);
    if (on == (id != NULL))
        return FALSE;
    if (!on)
        vireo_usb1_call_detach(self->usb, id, self->cancellable, on_detached, g_object_ref(self));
    else if (info->risk == VIREO_USB_RISK_NONE)
        lend(self, info, FALSE);
    else
        ask(self, info);
    return TRUE; /* the state follows the guest's */
}

static void on_always(GtkToggleButton *button, VireoUsbChooser *self)
{
    set_always(self, g_object_get_data(G_OBJECT(button), "vireo-usb-info"),
               gtk_toggle_button_get_active(button));
}

/* ---- what is shown ---- */

static const char *subtitle(VireoUsbChooser *self, const VireoUsbInfo *info, gboolean lent)
{
    if (g_hash_table_contains(self->busy, info->id))
        return _("Connecting…");
    if (lent)
        return _("In the guest");
    switch (info->risk) {
    case VIREO_USB_RISK_INPUT: return _("Keyboard or pointing device");
    case VIREO_USB_RISK_IN_USE: return _("Mounted");
    case VIREO_USB_RISK_SYSTEM: return _("This computer runs from it");
    default: return info->detail;
    }
}

static void keep_info(GtkWidget *widget, const VireoUsbInfo *info)
{
    g_object_set_data_full(G_OBJECT(widget), "vireo-usb-info", vireo_usb_info_copy(info),
                           (GDestroyNotify)vireo_usb_info_free);
}

static GtkWidget *make_row(VireoUsbChooser *self, const VireoUsbInfo *info)
{
    g_autofree char *id = guest_id(self, info->id);
    GtkWidget *row = adw_action_row_new(), *lent = gtk_switch_new(),
              *always = gtk_toggle_button_new();
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), info->name);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), subtitle(self, info, id != NULL));
    keep_info(lent, info);
    keep_info(always, info);
    gtk_widget_set_valign(lent, GTK_ALIGN_CENTER);
    gtk_widget_set_valign(always, GTK_ALIGN_CENTER);
    gtk_switch_set_active(GTK_SWITCH(lent), id != NULL);
    gtk_widget_set_sensitive(lent, self->usb && info->risk != VIREO_USB_RISK_SYSTEM &&
                                       !g_hash_table_contains(self->busy, info->id));
    g_autofree char *label = g_strdup_printf(_("Connect %s"), info->name);
    gtk_accessible_update_property(GTK_ACCESSIBLE(lent), GTK_ACCESSIBLE_PROPERTY_LABEL, label, -1);
    gtk_button_set_icon_name(GTK_BUTTON(always), "starred-symbolic");
    gtk_widget_set_tooltip_text(always, _("Always connect to this machine"));
    gtk_accessible_update_property(GTK_ACCESSIBLE(always), GTK_ACCESSIBLE_PROPERTY_LABEL,
                                   _("Always connect to this machine"), -1);
    gtk_widget_add_css_class(always, "flat");
    gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(always), is_always(self, info));
    gtk_widget_set_sensitive(always, info->risk == VIREO_USB_RISK_NONE);
    g_signal_connect(lent, "state-set", G_CALLBACK(on_switch), self);
    g_signal_connect(always, "toggled", G_CALLBACK(on_always), self);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), always);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), lent);
    return row;
}

/* Each device that is to be always connected has one try each time it is plugged in or the session
 * comes up. */
static void connect_always(VireoUsbChooser *self, GPtrArray *all)
{
    for (guint i = 0; self->usb && i < all->len; i++) {
        const VireoUsbInfo *info = g_ptr_array_index(all, i);
        g_autofree char *id = guest_id(self, info->id);
        if (!id && info->risk == VIREO_USB_RISK_NONE && is_always(self, info) &&
            g_hash_table_add(self->tried, g_strdup(info->id)))
            lend(self, info, TRUE);
    }
}

static void refresh(VireoUsbChooser *self)
{
    if (!self->list) /* disposed of */
        return;
    g_autoptr(GPtrArray) all = vireo_usb_list_get(self->list);
    GtkWidget *child;
    while ((child = gtk_widget_get_first_child(GTK_WIDGET(self->rows))))
        gtk_list_box_remove(self->rows, child);
    for (guint i = 0; i < all->len; i++)
        gtk_list_box_append(self->rows, make_row(self, g_ptr_array_index(all, i)));
    gtk_widget_set_visible(GTK_WIDGET(self->rows), all->len > 0);
    const char *note = !self->usb ? self->reason
                       : all->len ? NULL
                                  : _("No USB device is plugged in.");
    gtk_label_set_text(self->note, note ? note : "");
    gtk_widget_set_visible(GTK_WIDGET(self->note), note && note[0]);
}

static void on_plugged(VireoUsbChooser *self)
{
    g_autoptr(GPtrArray) all = vireo_usb_list_get(self->list);
    GHashTableIter iter;
    gpointer place;
    g_hash_table_iter_init(&iter, self->tried);
    while (g_hash_table_iter_next(&iter, &place, NULL)) {
        gboolean there = FALSE;
        for (guint i = 0; i < all->len && !there; i++)
            there = strcmp(((VireoUsbInfo *)g_ptr_array_index(all, i))->id, place) == 0;
        if (!there)
            g_hash_table_iter_remove(&iter);
    }
    refresh(self);
    connect_always(self, all);
}

static void on_closed(VireoUsb1 *usb, const char *id, const char *name, const char *reason,
                      VireoUsbChooser *self)
{
    if (!reason[0])
        return;
    g_autofree char *title = g_strdup_printf(_("“%s” Was Disconnected"), name);
    tell(self, title, reason);
}

static void on_usb(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    VireoUsb1 *usb = vireo_usb1_proxy_new_finish(result, &error);
    if (!usb) /* an old worker, or the chooser went away meanwhile */
        return;
    VireoUsbChooser *self = data;
    self->usb = usb;
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(usb), G_MAXINT);
    g_signal_connect_object(usb, "notify::devices", G_CALLBACK(refresh), self, G_CONNECT_SWAPPED);
    g_signal_connect_object(usb, "closed", G_CALLBACK(on_closed), self, 0);
    g_hash_table_remove_all(self->tried);
    on_plugged(self);
}

void vireo_usb_chooser_set_connection(VireoUsbChooser *self, GDBusConnection *connection,
                                      const char *reason)
{
    g_cancellable_cancel(self->cancellable);
    g_object_unref(self->cancellable);
    self->cancellable = g_cancellable_new();
    g_clear_object(&self->usb);
    g_free(self->reason);
    self->reason = g_strdup(reason);
    if (connection)
        vireo_usb1_proxy_new(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, USB_PATH, self->cancellable,
                             on_usb, self);
    refresh(self);
}

GtkWidget *vireo_usb_chooser_new(const char *vm_id)
{
    VireoUsbChooser *self = g_object_new(VIREO_TYPE_USB_CHOOSER, NULL);
    self->vm_id = g_strdup(vm_id);
    refresh(self);
    return GTK_WIDGET(self);
}

static void vireo_usb_chooser_dispose(GObject *object)
{
    VireoUsbChooser *self = VIREO_USB_CHOOSER(object);
    g_cancellable_cancel(self->cancellable);
    g_clear_object(&self->usb);
    g_clear_object(&self->list);
    G_OBJECT_CLASS(vireo_usb_chooser_parent_class)->dispose(object);
}

static void vireo_usb_chooser_finalize(GObject *object)
{
    VireoUsbChooser *self = VIREO_USB_CHOOSER(object);
    g_object_unref(self->cancellable);
    g_object_unref(self->settings);
    g_hash_table_unref(self->busy);
    g_hash_table_unref(self->tried);
    g_free(self->vm_id);
    g_free(self->reason);
    G_OBJECT_CLASS(vireo_usb_chooser_parent_class)->finalize(object);
}

static void vireo_usb_chooser_class_init(VireoUsbChooserClass *class)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(class);
    G_OBJECT_CLASS(class)->dispose = vireo_usb_chooser_dispose;
    G_OBJECT_CLASS(class)->finalize = vireo_usb_chooser_finalize;
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/usb-chooser.ui");
    gtk_widget_class_bind_template_child(widget, VireoUsbChooser, button);
    gtk_widget_class_bind_template_child(widget, VireoUsbChooser, note);
    gtk_widget_class_bind_template_child(widget, VireoUsbChooser, rows);
}

static void vireo_usb_chooser_init(VireoUsbChooser *self)
{
    gtk_widget_init_template(GTK_WIDGET(self));
    self->settings = g_settings_new("org.vireo.Vireo");
    self->cancellable = g_cancellable_new();
    self->busy = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->tried = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    self->list = vireo_usb_list_new();
    g_signal_connect_object(self->list, "changed", G_CALLBACK(on_plugged), self, G_CONNECT_SWAPPED);
}
