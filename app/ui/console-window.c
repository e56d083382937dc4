/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/console-window.h"

#include <glib/gi18n.h>

#include "app/enhanced.h"
#include "app/error.h"
#include "app/files.h"
#include "app/ui/activity.h"
#include "app/ui/checkpoint-pane.h"
#include "app/ui/choose-file.h"
#include "app/ui/fit.h"
#include "app/ui/focus.h"
#include "app/ui/keymap.h"
#include "app/ui/menus.h"
#include "app/ui/names.h"
#include "app/ui/screen.h"
#include "app/ui/share.h"
#include "app/ui/type-text.h"
#include "app/ui/usb-chooser.h"
#include "app/ui/vm-actions.h"

enum { FULLSCREEN_EDGE = 3, FULLSCREEN_LEAVE = 80, NOTE_HEIGHT = 480 };

struct _VireoConsoleWindow {
    AdwApplicationWindow parent;
    VireoVm *vm;
    GSettings *settings;
    GtkWidget *header, *menu_button;
    GtkWidget *toolbar_keys, *short_toolbar_keys, *leave_keys;
    AdwWindowTitle *title;
    GtkRevealer *toolbar;
    GtkInfoBar *info;
    AdwToastOverlay *toasts;
    AdwToast *way_back; /* weak: how to leave the full screen, while that is told */
    AdwFlap *flap;
    GtkStack *stack;
    AdwStatusPage *off_page;
    GtkWidget *start_button;
    GtkSpinner *spinner;
    VireoScreen *screen;
    GtkWidget *overlay;
    GtkRevealer *leave_bar;
    GtkLabel *leave_title;
    VireoCheckpointPane *checkpoints;
    GtkWidget *status;
    GtkLabel *state_label, *keyboard_label, *session_label;
    GtkWidget *pointer_icon, *disk_icon, *network_icon;
    GtkWidget *work;
    GtkLabel *work_label;
    GtkProgressBar *work_bar;
    VireoActivity *activity;
    VireoConsole *console;
    VireoFit fit;
    VireoEnhanced *enhanced;
    VireoUsbChooser *usb;
    GDBusConnection *usb_bus; /* compared only */
    gboolean usb_told;
    guint layout_id;
};

G_DEFINE_FINAL_TYPE(VireoConsoleWindow, vireo_console_window, ADW_TYPE_APPLICATION_WINDOW)

/* ---- what is shown ---- */

static AdwToast *toast(VireoConsoleWindow *self, const char *text)
{
    g_autofree char *escaped = g_markup_escape_text(text, -1);
    AdwToast *t = adw_toast_new(escaped);
    adw_toast_overlay_add_toast(self->toasts, t);
    return t;
}

static void tell_way_back(VireoConsoleWindow *self, gboolean full)
{
    if (self->way_back)
        adw_toast_dismiss(self->way_back);
    if (full)
        g_set_weak_pointer(
            &self->way_back,
            toast(self, _("Full screen. The way back: Ctrl+Alt, then F11, or the upper edge.")));
}

static void update_off_page(VireoConsoleWindow *self)
{
    VireoVmState state = vireo_vm_get_state(self->vm);
    const char *reason = vireo_vm_get_reason(self->vm);
    g_autofree char *text = vireo_vm_describe(self->vm);
    g_autofree char *description = reason ? g_markup_escape_text(reason, -1) : NULL;
    gboolean busy =
        state == VIREO_VM_STARTING || state == VIREO_VM_STOPPING || state == VIREO_VM_SAVING;
    adw_status_page_set_title(self->off_page, text);
    adw_status_page_set_description(self->off_page, description);
    adw_status_page_set_icon_name(self->off_page, state == VIREO_VM_CRASHED
                                                      ? "dialog-warning-symbolic"
                                                      : "computer-symbolic");
    gtk_widget_set_visible(self->start_button, !busy);
    gtk_widget_set_visible(GTK_WIDGET(self->spinner), busy);
    gtk_spinner_set_spinning(self->spinner, busy);
}

static void fit_window(VireoConsoleWindow *self)
{
    if (self->console && vireo_console_get_surface(self->console))
        vireo_fit_want(&self->fit, vireo_console_get_width(self->console),
                       vireo_console_get_height(self->console));
}

static void update_screen(VireoConsoleWindow *self);

static void on_guest_resized(VireoConsoleWindow *self)
{
    update_screen(self);
    fit_window(self);
}

/* The note above the screen comes or goes; a picture that was 1:1 stays so, the window gives way.
 */
static void reveal_note(VireoConsoleWindow *self, gboolean reveal)
{
    if (gtk_info_bar_get_revealed(self->info) == reveal)
        return;
    gtk_info_bar_set_revealed(self->info, reveal);
    if (!vireo_enhanced_is_on(self->enhanced))
        vireo_fit_keep(&self->fit);
}

static void show_page(VireoConsoleWindow *self, const char *page)
{
    if (!g_strcmp0(gtk_stack_get_visible_child_name(self->stack), page))
        return;
    gtk_stack_set_visible_child_name(self->stack, page);
    if (!strcmp(page, "screen"))
        fit_window(self);
}

/* It has the window's focus then, so that Enter is enough to type in it. */
static void on_screen_appears(VireoConsoleWindow *self)
{
    GtkWidget *focus = gtk_window_get_focus(GTK_WINDOW(self));
    if (!focus || !gtk_widget_is_ancestor(focus, GTK_WIDGET(self->checkpoints)))
        gtk_widget_grab_focus(GTK_WIDGET(self->screen));
}

static void update_screen(VireoConsoleWindow *self)
{
    VireoConsole *console = vireo_vm_get_console(self->vm);
    if (console != self->console) {
        if (self->console)
            g_signal_handlers_disconnect_by_data(self->console, self);
        g_set_object(&self->console, console);
        vireo_screen_set_console(self->screen, console);
        if (console)
            g_signal_connect_object(console, "resized", G_CALLBACK(on_guest_resized), self,
                                    G_CONNECT_SWAPPED);
    }
    show_page(self, console && vireo_console_get_surface(console) ? "screen" : "off");
}

static void update_keyboard(VireoConsoleWindow *self)
{
    gboolean captured = vireo_screen_is_captured(self->screen);
    const char *text = !self->console ? ""
                       : captured ? _("Keyboard captured: press and release Ctrl+Alt to free it")
                                  : _("Click the screen or press Enter in it to type");
    gtk_label_set_text(self->keyboard_label, text);
    gtk_widget_set_tooltip_text(GTK_WIDGET(self->keyboard_label), text);
}

static void update_work(VireoConsoleWindow *self)
{
    double fraction;
    g_autofree char *sending = NULL;
    const char *text = vireo_vm_get_progress(self->vm, &fraction);
    if (!text && self->enhanced)
        text = sending = vireo_enhanced_describe_transfer(self->enhanced, &fraction);
    gtk_widget_set_visible(self->work, text != NULL);
    if (!text)
        return;
    gtk_label_set_text(self->work_label, text);
    if (fraction >= 0)
        gtk_progress_bar_set_fraction(self->work_bar, MIN(fraction, 1));
    else
        gtk_progress_bar_pulse(self->work_bar);
}

static void cancel_work(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(widget);
    double fraction;
    if (vireo_vm_get_progress(self->vm, &fraction))
        vireo_vm_cancel_progress(self->vm);
    else if (self->enhanced)
        vireo_enhanced_cancel_files(self->enhanced);
}

static void update_status(VireoConsoleWindow *self)
{
    VireoMachine1 *m = vireo_vm_get_machine(self->vm);
    g_autofree char *state = vireo_vm_describe(self->vm);
    const char *backend = m ? vireo_machine1_get_backend(m) : NULL;
    GVariant *adapters = m ? vireo_machine1_get_adapters(m) : NULL;
    GVariant *disks = m ? vireo_machine1_get_disks(m) : NULL;
    gtk_label_set_text(self->state_label, state);
    gtk_widget_set_visible(self->pointer_icon, m != NULL);
    gtk_widget_set_visible(self->network_icon, adapters && g_variant_n_children(adapters));
    gtk_widget_set_visible(self->disk_icon, disks && g_variant_n_children(disks));
    gboolean soft = backend && strcmp(backend, "kvm") != 0,
             on = vireo_enhanced_is_on(self->enhanced);
    gtk_label_set_text(self->session_label, !m || !backend || !*backend ? ""
                                            : on && vireo_enhanced_is_recording(self->enhanced)
                                                ? _("Enhanced session · microphone in use")
                                            : on ? soft ? _("Enhanced session · software processor")
                                                        : _("Enhanced session")
                                            : soft ? _("Basic session · software processor")
                                                   : _("Basic session"));
    gtk_widget_set_tooltip_text(GTK_WIDGET(self->session_label),
                                on ? NULL : vireo_enhanced_get_reason(self->enhanced));
}

/* ---- the enhanced session ---- */

/* The screen's place in pixels of the display; the guest's screen becomes as large. */
static void follow_size(VireoConsoleWindow *self)
{
    GtkWidget *screen = GTK_WIDGET(self->screen);
    int scale = gtk_widget_get_scale_factor(screen);
    g_autofree char *zoom = g_settings_get_string(self->settings, "zoom");
    GdkSurface *surface = gtk_native_get_surface(GTK_NATIVE(self));
    GdkMonitor *monitor =
        surface ? gdk_display_get_monitor_at_surface(gtk_widget_get_display(screen), surface)
                : NULL;
    GdkRectangle all = {0};
    int width = gtk_widget_get_width(screen), height = gtk_widget_get_height(screen);
    if (!gtk_widget_get_mapped(screen) || width < 320 || height < 200 || !strcmp(zoom, "actual"))
        return;
    if (monitor)
        gdk_monitor_get_geometry(monitor, &all);
    int mm = monitor && all.width ? gdk_monitor_get_width_mm(monitor) * width / all.width : 0;
    vireo_enhanced_set_size(self->enhanced, (guint)(width * scale), (guint)(height * scale),
                            (guint)MAX(mm, 0), (guint)MAX(mm * height / width, 0));
}

static void update_enhanced(VireoConsoleWindow *self)
{
    gboolean available = vireo_enhanced_is_available(self->enhanced);
    GAction *action = g_action_map_lookup_action(G_ACTION_MAP(self), "enhanced");
    g_simple_action_set_enabled(G_SIMPLE_ACTION(action), available);
    g_simple_action_set_state(G_SIMPLE_ACTION(action),
                              g_variant_new_boolean(vireo_enhanced_is_on(self->enhanced)));
    VireoMachine1 *m = vireo_vm_get_machine(self->vm);
    const char *reason = vireo_enhanced_get_reason(self->enhanced);
    GDBusConnection *bus = m && vireo_enhanced_is_on(self->enhanced)
                               ? g_dbus_proxy_get_connection(G_DBUS_PROXY(m))
                               : NULL;
    if (bus != self->usb_bus || !self->usb_told) {
        self->usb_bus = bus;
        self->usb_told = TRUE;
        vireo_usb_chooser_set_connection(self->usb, bus,
                                         *reason ? reason : _("The enhanced session is off"));
    }
    follow_size(self);
    update_status(self);
}

static void on_enhanced_toggled(GSimpleAction *action, GVariant *state, VireoConsoleWindow *self)
{
    vireo_enhanced_set_wanted(self->enhanced, g_variant_get_boolean(state));
}

static gboolean on_layout_settled(gpointer data)
{
    VireoConsoleWindow *self = data;
    self->layout_id = 0;
    if (self->enhanced)
        follow_size(self);
    return G_SOURCE_REMOVE;
}

static void on_layout(VireoConsoleWindow *self)
{
    vireo_fit_laid_out(&self->fit);
    if (!self->layout_id)
        self->layout_id = g_timeout_add(200, on_layout_settled, self);
}

static void on_realized(VireoConsoleWindow *self)
{
    g_signal_connect_object(gtk_native_get_surface(GTK_NATIVE(self)), "layout",
                            G_CALLBACK(on_layout), self, G_CONNECT_SWAPPED);
}

/* A GdkX11Drop lives until the next one comes, and goes on listening to the source's window, whose
 * next drag changes the list of actions: GDK (seen in 4.8) then sets them in the drop that has
 * ended, and complains of itself. Whatever it has connected with the drop as data is of no use once
 * its content is here; other backends connect nothing. */
static void forget_drop(GdkDrop *drop)
{
    if (drop)
        g_signal_handlers_disconnect_matched(gdk_drop_get_display(drop), G_SIGNAL_MATCH_DATA, 0, 0,
                                             NULL, NULL, drop);
}

static gboolean on_dropped(GtkDropTarget *target, const GValue *value, double x, double y,
                           VireoConsoleWindow *self)
{
    forget_drop(gtk_drop_target_get_current_drop(target));
    vireo_enhanced_send_files(self->enhanced, g_value_get_boxed(value));
    return TRUE;
}

static void on_files(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoConsoleWindow) self = data;
    const GValue *files = gdk_clipboard_read_value_finish(GDK_CLIPBOARD(source), result, NULL);
    if (!self->enhanced)
        return; /* the window was closed meanwhile */
    if (!files)
        toast(self, _("No files were copied"));
    else
        vireo_enhanced_send_files(self->enhanced, g_value_get_boxed(files));
}

/* What was copied in this desktop's file manager. */
static void paste_files(GtkWidget *widget, const char *name, GVariant *parameter)
{
    gdk_clipboard_read_value_async(gtk_widget_get_clipboard(widget), GDK_TYPE_FILE_LIST,
                                   G_PRIORITY_DEFAULT, NULL, on_files, g_object_ref(widget));
}

static void on_message(VireoEnhanced *enhanced, const char *text, VireoConsoleWindow *self)
{
    toast(self, text);
}

static void begin_enhanced(VireoConsoleWindow *self)
{
    GtkDropTarget *target = gtk_drop_target_new(GDK_TYPE_FILE_LIST, GDK_ACTION_COPY);
    g_autoptr(GSimpleAction) action =
        g_simple_action_new_stateful("enhanced", NULL, g_variant_new_boolean(FALSE));
    g_signal_connect(action, "change-state", G_CALLBACK(on_enhanced_toggled), self);
    g_action_map_add_action(G_ACTION_MAP(self), G_ACTION(action));
    self->usb = VIREO_USB_CHOOSER(vireo_usb_chooser_new(vireo_vm_get_id(self->vm)));
    gtk_box_append(GTK_BOX(gtk_widget_get_parent(GTK_WIDGET(self->session_label))),
                   GTK_WIDGET(self->usb));
    self->enhanced = vireo_enhanced_new(self->vm, gtk_widget_get_display(GTK_WIDGET(self)));
    g_signal_connect_swapped(self->enhanced, "changed", G_CALLBACK(update_enhanced), self);
    g_signal_connect(self->enhanced, "message", G_CALLBACK(on_message), self);
    g_signal_connect_swapped(self->enhanced, "transfer", G_CALLBACK(update_work), self);
    g_signal_connect(target, "drop", G_CALLBACK(on_dropped), self);
    gtk_widget_add_controller(self->overlay, GTK_EVENT_CONTROLLER(target));
    g_signal_connect(self, "realize", G_CALLBACK(on_realized), NULL);
}

static void set_enabled(VireoConsoleWindow *self, const char *name, gboolean enabled)
{
    gtk_widget_action_set_enabled(GTK_WIDGET(self), name, enabled);
}

static void update(VireoConsoleWindow *self)
{
    gboolean on = vireo_vm_get_console(self->vm) != NULL;
    VireoMachine1 *m = vireo_vm_get_machine(self->vm);
    gtk_window_set_title(GTK_WINDOW(self), vireo_vm_get_name(self->vm));
    adw_window_title_set_title(self->title, vireo_vm_get_name(self->vm));
    gtk_label_set_text(self->leave_title, vireo_vm_get_name(self->vm));
    update_off_page(self);
    update_screen(self);
    update_keyboard(self);
    update_status(self);
    update_work(self);
    vireo_checkpoint_pane_update(self->checkpoints);
    static const char *const needs_console[] = {"win.ctrl-alt-del",    "win.keys",
                                                "win.type-text",       "win.screenshot",
                                                "win.copy-screenshot", "win.share"};
    for (gsize i = 0; i < G_N_ELEMENTS(needs_console); i++)
        set_enabled(self, needs_console[i], on);
    set_enabled(self, "win.insert-disc", m != NULL);
    set_enabled(self, "win.insert-agent", m != NULL);
    set_enabled(self, "win.eject-disc", m != NULL);
    set_enabled(self, "win.revert", vireo_checkpoint_pane_can_revert(self->checkpoints));
}

/* ---- keyboard ---- */

static gboolean on_key_pressed(GtkEventControllerKey *c, guint keyval, guint keycode,
                               GdkModifierType state, VireoConsoleWindow *self)
{
    return vireo_screen_handle_key(self->screen, keycode, TRUE,
                                   gtk_event_controller_get_current_event(GTK_EVENT_CONTROLLER(c)));
}

static void on_key_released(GtkEventControllerKey *c, guint keyval, guint keycode,
                            GdkModifierType state, VireoConsoleWindow *self)
{
    vireo_screen_handle_key(self->screen, keycode, FALSE,
                            gtk_event_controller_get_current_event(GTK_EVENT_CONTROLLER(c)));
}

static void ctrl_alt_del(GtkWidget *widget, const char *name, GVariant *parameter)
{
    static const guint keys[] = {QNUM_CTRL, QNUM_ALT, QNUM_DELETE};
    VireoConsole *console = VIREO_CONSOLE_WINDOW(widget)->console;
    if (console)
        vireo_console_combination(console, keys, G_N_ELEMENTS(keys));
}

/* The target is the keys' codes with blanks between. */
static void send_keys(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsole *console = VIREO_CONSOLE_WINDOW(widget)->console;
    g_auto(GStrv) words = g_strsplit(g_variant_get_string(parameter, NULL), " ", 8);
    guint keys[8], n = 0;
    for (; words[n] && n < G_N_ELEMENTS(keys); n++)
        keys[n] = (guint)g_ascii_strtoull(words[n], NULL, 10);
    if (console)
        vireo_console_combination(console, keys, n);
}

static void type_text(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(widget);
    if (self->console)
        gtk_window_present(vireo_type_text_new(self->console, GTK_WINDOW(self)));
}

/* ---- media and screenshots ---- */

static void on_disc_chosen(const char *path, gpointer data)
{
    VireoConsoleWindow *self = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariant *files = vireo_files_collect_image(path, TRUE, "/", fds, &error);
    if (!files) {
        vireo_vm_fail(self->vm, _("The disc was not inserted"), error);
        return;
    }
    vireo_vm_call_with_files(self->vm, "InsertMedia", g_variant_new("(ss@a(sh))", "", path, files),
                             fds, _("The disc was not inserted"));
}

static void insert_disc(GtkWidget *widget, const char *name, GVariant *parameter)
{
    vireo_choose_file(GTK_WINDOW(widget), _("Insert Disc Image"), VIREO_FILE_ISO, FALSE, NULL,
                      on_disc_chosen, widget);
}

static gboolean has_drive(VireoConsoleWindow *self)
{
    VireoMachine1 *m = vireo_vm_get_machine(self->vm);
    GVariant *disks = m ? vireo_machine1_get_disks(m) : NULL;
    const char *kind = "";
    for (gsize i = 0; disks && i < g_variant_n_children(disks); i++) {
        g_autoptr(GVariant) d = g_variant_get_child_value(disks, i);
        if (g_variant_lookup(d, "kind", "&s", &kind) && !strcmp(kind, "dvd"))
            return TRUE;
    }
    return FALSE;
}

/* The disc with the agent for the guest; into a new drive where the machine has none. */
static void insert_agent(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(widget);
    const char *given = g_getenv("VIREO_AGENT_ISO");
    const char *path = given ? given : VIREO_PKGDATADIR "/guest/vireo-agent.iso";
    g_autoptr(GError) error = NULL;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    GVariantBuilder b;
    if (has_drive(self)) {
        on_disc_chosen(path, self);
        return;
    }
    GVariant *files = vireo_files_collect_image(path, TRUE, "/", fds, &error);
    if (!files) {
        vireo_vm_fail(self->vm, _("The disc was not inserted"), error);
        return;
    }
    g_variant_builder_init(&b, G_VARIANT_TYPE("a{sv}"));
    g_variant_builder_add(&b, "{sv}", "kind", g_variant_new_string("dvd"));
    g_variant_builder_add(&b, "{sv}", "path", g_variant_new_string(path));
    vireo_vm_call_with_files(self->vm, "AddDisk", g_variant_new("(a{sv}@a(sh))", &b, files), fds,
                             _("The disc was not inserted"));
}

static void eject_disc(GtkWidget *widget, const char *name, GVariant *parameter)
{
    vireo_vm_call(VIREO_CONSOLE_WINDOW(widget)->vm, "EjectMedia", g_variant_new("(sb)", "", FALSE),
                  _("The disc was not ejected"));
}

static void on_screenshot_chosen(const char *path, gpointer data)
{
    VireoConsoleWindow *self = data;
    g_autoptr(GdkTexture) shot = self->console ? vireo_console_snapshot(self->console) : NULL;
    if (shot && gdk_texture_save_to_png(shot, path))
        toast(self, _("The screenshot was saved"));
    else
        vireo_show_failure(GTK_WIDGET(self), _("The screenshot was not saved"),
                           _("The file could not be written. Choose another folder."));
}

static void screenshot(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(widget);
    g_autofree char *suggestion = g_strdup_printf("%s.png", vireo_vm_get_name(self->vm));
    g_strdelimit(suggestion, "/", '-');
    vireo_choose_file(GTK_WINDOW(widget), _("Save Screenshot"), VIREO_FILE_PNG, TRUE, suggestion,
                      on_screenshot_chosen, widget);
}

static void copy_screenshot(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(widget);
    g_autoptr(GdkTexture) shot = self->console ? vireo_console_snapshot(self->console) : NULL;
    if (!shot)
        return;
    gdk_clipboard_set_texture(gtk_widget_get_clipboard(widget), shot);
    toast(self, _("The screenshot was copied"));
}

static void share(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(widget);
    gtk_window_present(vireo_share_new(self->vm, GTK_WINDOW(self)));
}

static void revert(GtkWidget *widget, const char *name, GVariant *parameter)
{
    vireo_checkpoint_pane_revert(VIREO_CONSOLE_WINDOW(widget)->checkpoints);
}

/* ---- view ---- */

static void toggle_fullscreen(GtkWidget *widget, const char *name, GVariant *parameter)
{
    if (gtk_window_is_fullscreen(GTK_WINDOW(widget)))
        gtk_window_unfullscreen(GTK_WINDOW(widget));
    else
        gtk_window_fullscreen(GTK_WINDOW(widget));
}

static void on_fullscreened(VireoConsoleWindow *self)
{
    gboolean full = gtk_window_is_fullscreen(GTK_WINDOW(self));
    gtk_widget_set_visible(self->header, !full);
    gtk_widget_set_visible(GTK_WIDGET(self->toolbar), !full);
    gtk_widget_set_visible(self->status, !full);
    gtk_widget_set_visible(GTK_WIDGET(self->info), !full);
    gtk_widget_set_visible(GTK_WIDGET(self->leave_bar), full);
    gtk_revealer_set_reveal_child(self->leave_bar, FALSE);
    tell_way_back(self, full);
}

static void on_motion(GtkEventControllerMotion *c, double x, double y, VireoConsoleWindow *self)
{
    if (!gtk_window_is_fullscreen(GTK_WINDOW(self)))
        return;
    if (y <= FULLSCREEN_EDGE)
        gtk_revealer_set_reveal_child(self->leave_bar, TRUE);
    else if (y > FULLSCREEN_LEAVE)
        gtk_revealer_set_reveal_child(self->leave_bar, FALSE);
}

static void on_zoom_changed(VireoConsoleWindow *self)
{
    g_autofree char *zoom = g_settings_get_string(self->settings, "zoom");
    vireo_screen_set_zoom(self->screen, strcmp(zoom, "actual") ? VIREO_ZOOM_FIT : VIREO_ZOOM_1TO1);
}

/* ---- closing ---- */

static gboolean vireo_console_window_close_request(GtkWindow *window)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(window);
    if (vireo_vm_is_active(self->vm) && !g_settings_get_boolean(self->settings, "told-runs-on")) {
        GApplication *app = g_application_get_default();
        GtkWindow *library = NULL;
        for (GList *l = gtk_application_get_windows(GTK_APPLICATION(app)); l; l = l->next)
            if (l->data != window)
                library = l->data;
        GtkWidget *dialog = adw_message_dialog_new(
            library, _("The Machine Runs On"),
            _("Closing its window leaves a virtual machine running. Open it again from the list, "
              "or shut it down there."));
        adw_message_dialog_add_response(ADW_MESSAGE_DIALOG(dialog), "close", _("_Understood"));
        vireo_tidy_names(dialog);
        gtk_window_set_application(GTK_WINDOW(dialog), GTK_APPLICATION(app));
        gtk_window_present(GTK_WINDOW(dialog));
        g_settings_set_boolean(self->settings, "told-runs-on", TRUE);
    }
    return GTK_WINDOW_CLASS(vireo_console_window_parent_class)->close_request(window);
}

static void on_ended(VireoVm *vm, const char *reason, VireoConsoleWindow *self)
{
    reveal_note(self, FALSE);
}

/* A small display needs its lines for the machine; the menu explains, too. */
static gboolean has_room(VireoConsoleWindow *self)
{
    GListModel *all = gdk_display_get_monitors(gtk_widget_get_display(GTK_WIDGET(self)));
    g_autoptr(GdkMonitor) monitor = g_list_model_get_item(all, 0);
    GdkRectangle r = {.height = G_MAXINT};
    if (monitor)
        gdk_monitor_get_geometry(monitor, &r);
    return r.height >= NOTE_HEIGHT;
}

/* Said until the person closes it. */
static void update_slow_note(VireoConsoleWindow *self)
{
    VireoMachine1 *m = vireo_vm_get_machine(self->vm);
    gboolean slow = m && !g_strcmp0(vireo_machine1_get_backend(m), "soft");
    if (slow && has_room(self) && !g_settings_get_boolean(self->settings, "told-slow"))
        reveal_note(self, TRUE);
}

static void on_info_response(GtkInfoBar *bar, int response, VireoConsoleWindow *self)
{
    if (response != GTK_RESPONSE_CLOSE) {
        g_action_group_activate_action(G_ACTION_GROUP(g_application_get_default()), "why-slow",
                                       NULL);
        return;
    }
    g_settings_set_boolean(self->settings, "told-slow", TRUE);
    reveal_note(self, FALSE);
}

static void on_changed(VireoConsoleWindow *self)
{
    update(self);
    update_slow_note(self);
}

static void vireo_console_window_dispose(GObject *object)
{
    VireoConsoleWindow *self = VIREO_CONSOLE_WINDOW(object);
    if (self->vm)
        g_signal_handlers_disconnect_by_data(self->vm, self);
    if (self->settings)
        g_signal_handlers_disconnect_by_data(self->settings, self);
    vireo_fit_clear(&self->fit);
    if (self->console)
        g_signal_handlers_disconnect_by_data(self->console, self);
    g_clear_object(&self->console);
    if (self->enhanced) {
        g_signal_handlers_disconnect_by_data(self->enhanced, self);
        vireo_enhanced_close(self->enhanced);
    }
    g_clear_object(&self->enhanced);
    g_clear_handle_id(&self->layout_id, g_source_remove);
    g_clear_pointer(&self->activity, vireo_activity_free);
    g_clear_weak_pointer(&self->way_back);
    g_clear_object(&self->vm);
    g_clear_object(&self->settings);
    G_OBJECT_CLASS(vireo_console_window_parent_class)->dispose(object);
}

#define BIND(name) gtk_widget_class_bind_template_child(widget, VireoConsoleWindow, name)

static void vireo_console_window_class_init(VireoConsoleWindowClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_console_window_dispose;
    GTK_WINDOW_CLASS(klass)->close_request = vireo_console_window_close_request;
    g_type_ensure(VIREO_TYPE_SCREEN);
    g_type_ensure(VIREO_TYPE_CHECKPOINT_PANE);
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/console-window.ui");
    BIND(header);
    BIND(menu_button);
    BIND(toolbar_keys);
    BIND(short_toolbar_keys);
    BIND(leave_keys);
    BIND(title);
    BIND(toolbar);
    BIND(info);
    BIND(toasts);
    BIND(flap);
    BIND(stack);
    BIND(off_page);
    BIND(start_button);
    BIND(spinner);
    BIND(screen);
    BIND(overlay);
    BIND(leave_bar);
    BIND(leave_title);
    BIND(checkpoints);
    BIND(status);
    BIND(state_label);
    BIND(keyboard_label);
    BIND(session_label);
    BIND(pointer_icon);
    BIND(disk_icon);
    BIND(network_icon);
    BIND(work);
    BIND(work_label);
    BIND(work_bar);
    gtk_widget_class_install_action(widget, "win.ctrl-alt-del", NULL, ctrl_alt_del);
    gtk_widget_class_install_action(widget, "win.keys", "s", send_keys);
    gtk_widget_class_install_action(widget, "win.type-text", NULL, type_text);
    gtk_widget_class_install_action(widget, "win.paste-files", NULL, paste_files);
    gtk_widget_class_install_action(widget, "win.insert-disc", NULL, insert_disc);
    gtk_widget_class_install_action(widget, "win.insert-agent", NULL, insert_agent);
    gtk_widget_class_install_action(widget, "win.eject-disc", NULL, eject_disc);
    gtk_widget_class_install_action(widget, "win.screenshot", NULL, screenshot);
    gtk_widget_class_install_action(widget, "win.copy-screenshot", NULL, copy_screenshot);
    gtk_widget_class_install_action(widget, "win.share", NULL, share);
    gtk_widget_class_install_action(widget, "win.revert", NULL, revert);
    gtk_widget_class_install_action(widget, "win.cancel-work", NULL, cancel_work);
    gtk_widget_class_install_action(widget, "win.fullscreen", NULL, toggle_fullscreen);
}

static void vireo_console_window_init(VireoConsoleWindow *self)
{
    gtk_widget_init_template(GTK_WIDGET(self));
    vireo_menus_attach(self->menu_button, "console");
    vireo_menus_attach(self->toolbar_keys, "keys");
    vireo_menus_attach(self->short_toolbar_keys, "keys");
    vireo_menus_attach(self->leave_keys, "keys");
    vireo_tidy_names(GTK_WIDGET(self));
    vireo_focus_keep(GTK_WINDOW(self));
    self->fit.window = GTK_WINDOW(self);
    self->fit.place = GTK_WIDGET(self->stack);
    GtkEventController *motion = gtk_event_controller_motion_new();
    gtk_event_controller_set_propagation_phase(motion, GTK_PHASE_CAPTURE);
    g_signal_connect(motion, "motion", G_CALLBACK(on_motion), self);
    gtk_widget_add_controller(self->overlay, motion);
    g_signal_connect(self, "notify::fullscreened", G_CALLBACK(on_fullscreened), NULL);
    g_signal_connect_swapped(self->screen, "capture-changed", G_CALLBACK(update_keyboard), self);
    g_signal_connect_swapped(self->screen, "map", G_CALLBACK(on_screen_appears), self);
    g_signal_connect(self->info, "response", G_CALLBACK(on_info_response), self);
}

/* While the keyboard is captured no shortcut of the application's may come first. */
static void take_keys_first(VireoConsoleWindow *self)
{
    GtkEventController *keys = gtk_event_controller_key_new();
    gtk_event_controller_set_propagation_phase(keys, GTK_PHASE_CAPTURE);
    g_signal_connect(keys, "key-pressed", G_CALLBACK(on_key_pressed), self);
    g_signal_connect(keys, "key-released", G_CALLBACK(on_key_released), self);
    gtk_widget_add_controller(GTK_WIDGET(self), keys);
}

static void bind_view(VireoConsoleWindow *self)
{
    g_autoptr(GAction) zoom = g_settings_create_action(self->settings, "zoom");
    g_autoptr(GAction) toolbar = g_settings_create_action(self->settings, "toolbar");
    g_autoptr(GPropertyAction) pane =
        g_property_action_new("checkpoints", self->flap, "reveal-flap");
    g_action_map_add_action(G_ACTION_MAP(self), zoom);
    g_action_map_add_action(G_ACTION_MAP(self), toolbar);
    g_action_map_add_action(G_ACTION_MAP(self), G_ACTION(pane));
    g_settings_bind(self->settings, "toolbar", self->toolbar, "reveal-child", G_SETTINGS_BIND_GET);
    g_signal_connect_swapped(self->settings, "changed::zoom", G_CALLBACK(on_zoom_changed), self);
    on_zoom_changed(self);
}

GtkWindow *vireo_console_window_new(GtkApplication *app, VireoVm *vm, GSettings *settings)
{
    VireoConsoleWindow *self = g_object_new(VIREO_TYPE_CONSOLE_WINDOW, "application", app, NULL);
    self->vm = g_object_ref(vm);
    self->settings = g_object_ref(settings);
    take_keys_first(self);
    bind_view(self);
    begin_enhanced(self);
    vireo_vm_actions_insert(GTK_WIDGET(self), vm);
    vireo_checkpoint_pane_set_vm(self->checkpoints, vm);
    g_signal_connect_swapped(vm, "changed", G_CALLBACK(on_changed), self);
    g_signal_connect(vm, "ended", G_CALLBACK(on_ended), self);
    self->activity = vireo_activity_new(GTK_WINDOW(self), vm, self->disk_icon, self->network_icon);
    on_changed(self);
    return GTK_WINDOW(self);
}
