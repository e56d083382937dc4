/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/wizard.h"

#include <glib/gi18n.h>
#include <glib/gstdio.h>
#include <unistd.h>

#include "app/application.h"
#include "app/create.h"
#include "app/error.h"
#include "app/locales.h"
#include "app/ui/choose-file.h"
#include "app/ui/names.h"

enum { MIB = 1024 * 1024, DEFAULT_MEMORY = 2048, DEFAULT_DISK_GIB = 32 };

struct _VireoWizard {
    AdwWindow parent;
    VireoLibrary *library;
    AdwWindowTitle *title;
    AdwToastOverlay *toasts;
    GtkStack *stack;
    GtkButton *back, *next;
    GtkCheckButton *from_gallery, *from_iso, *from_disk, *from_kernel;
    AdwPreferencesGroup *gallery_group, *image_group;
    GtkEditable *user, *password, *key, *host, *zone;
    AdwComboRow *locale;
    GtkEditable *image, *kernel, *initrd, *cmdline, *kernel_disk, *name, *place;
    GtkWidget *key_browse, *image_browse, *kernel_browse, *initrd_browse, *kernel_disk_browse,
        *place_browse;
    GtkCheckButton *generation1, *generation2;
    GtkSpinButton *memory, *cpus, *disk;
    GtkWidget *disk_row;
    GtkSwitch *dynamic, *start;
    AdwComboRow *network;
    AdwActionRow *summary;
    GtkLabel *build_title, *build_text;
    GtkProgressBar *build_progress;
    GPtrArray *entries;        /* VireoGalleryEntry */
    GPtrArray *entry_buttons;  /* borrowed, one an entry */
    GCancellable *cancellable; /* set while something is made */
    gboolean name_is_ours;
};

G_DEFINE_FINAL_TYPE(VireoWizard, vireo_wizard, ADW_TYPE_WINDOW)

/* ---- pages ---- */

static VireoSource source(VireoWizard *self)
{
    return gtk_check_button_get_active(self->from_gallery) ? VIREO_SOURCE_GALLERY
           : gtk_check_button_get_active(self->from_iso)   ? VIREO_SOURCE_ISO
           : gtk_check_button_get_active(self->from_disk)  ? VIREO_SOURCE_DISK
                                                           : VIREO_SOURCE_KERNEL;
}

/* The pages of each way, in order. */
static const char *const *pages(VireoWizard *self)
{
    static const char *const ways[][8] = {
        [VIREO_SOURCE_GALLERY] = {"source", "gallery", "name", "hardware", "summary", NULL},
        [VIREO_SOURCE_ISO] = {"source", "image", "name", "generation", "hardware", "summary", NULL},
        [VIREO_SOURCE_DISK] = {"source", "image", "name", "generation", "hardware", "summary",
                               NULL},
        [VIREO_SOURCE_KERNEL] = {"source", "kernel", "name", "hardware", "summary", NULL},
    };
    return ways[source(self)];
}

static int page_index(VireoWizard *self)
{
    const char *now = gtk_stack_get_visible_child_name(self->stack);
    for (int i = 0; pages(self)[i]; i++)
        if (!g_strcmp0(pages(self)[i], now))
            return i;
    return -1;
}

static VireoGalleryEntry *chosen_entry(VireoWizard *self)
{
    for (guint i = 0; i < self->entry_buttons->len; i++)
        if (gtk_check_button_get_active(self->entry_buttons->pdata[i]))
            return self->entries->pdata[i];
    return NULL;
}

static const char *text_of(GtkEditable *e)
{
    return gtk_editable_get_text(e);
}

static gboolean is_file(GtkEditable *e)
{
    return g_file_test(text_of(e), G_FILE_TEST_IS_REGULAR);
}

/* Names that Debian's tools take too. */
static gboolean is_user_name(const char *s)
{
    return g_regex_match_simple("^[a-z_][a-z0-9_-]{0,30}$", s, 0, 0) && strcmp(s, "root");
}

static gboolean is_host_name(const char *s)
{
    return g_regex_match_simple("^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", s, G_REGEX_CASELESS, 0);
}

/* A line of an authorized_keys file; empty is none. */
static gboolean is_key(const char *s)
{
    return !*s || g_regex_match_simple("^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\\n]*)?$",
                                       s, 0, 0);
}

static gboolean page_is_complete(VireoWizard *self, const char *page)
{
    if (!strcmp(page, "gallery"))
        return chosen_entry(self) && is_user_name(text_of(self->user)) &&
               (*text_of(self->password) || *text_of(self->key)) && is_key(text_of(self->key)) &&
               is_host_name(text_of(self->host)) && vireo_is_time_zone(text_of(self->zone));
    if (!strcmp(page, "image"))
        return is_file(self->image);
    if (!strcmp(page, "kernel"))
        return is_file(self->kernel) && (!*text_of(self->initrd) || is_file(self->initrd)) &&
               (!*text_of(self->kernel_disk) || is_file(self->kernel_disk));
    if (!strcmp(page, "name")) {
        g_autofree char *name = g_strstrip(g_strdup(text_of(self->name)));
        const char *place = text_of(self->place);
        return *name && strlen(name) <= VM_MAX_NAME &&
               (!*place || g_file_test(place, G_FILE_TEST_IS_DIR));
    }
    return TRUE;
}

static char *base_name(GtkEditable *e)
{
    g_autofree char *base = g_path_get_basename(text_of(e));
    char *dot = strrchr(base, '.');
    if (dot && dot != base)
        *dot = 0;
    return g_steal_pointer(&base);
}

/* A name from what was chosen, unless the person gave one; free among the machines. */
static void suggest_name(VireoWizard *self)
{
    VireoGalleryEntry *entry = chosen_entry(self);
    g_autofree char *base = NULL;
    if (!self->name_is_ours)
        return;
    if (source(self) == VIREO_SOURCE_GALLERY)
        base = g_strdup(entry ? vireo_gallery_entry_get_title(entry) : _("Virtual machine"));
    else
        base = base_name(source(self) == VIREO_SOURCE_KERNEL ? self->kernel : self->image);
    g_autofree char *name = vireo_library_free_name(self->library, base);
    gtk_editable_set_text(self->name, name);
    self->name_is_ours = TRUE;
}

/* With the units of the person's language. */
static char *size_text(guint64 bytes)
{
    return g_format_size_full(bytes, G_FORMAT_SIZE_IEC_UNITS);
}

static char *describe(VireoWizard *self)
{
    GString *s = g_string_new(NULL);
    VireoGalleryEntry *entry = chosen_entry(self);
    static const char *const kinds[] = {N_("Debian, built on the spot"), N_("Installer image"),
                                        N_("Existing disk"), N_("Linux kernel")};
    g_string_append_printf(s, "%s",
                           source(self) == VIREO_SOURCE_GALLERY && entry
                               ? vireo_gallery_entry_get_title(entry)
                               : _(kinds[source(self)]));
    if (source(self) == VIREO_SOURCE_ISO || source(self) == VIREO_SOURCE_DISK)
        g_string_append_printf(s, ": %s", text_of(self->image));
    g_autofree char *memory =
        size_text((guint64)gtk_spin_button_get_value_as_int(self->memory) << 20);
    g_autofree char *disk = size_text((guint64)gtk_spin_button_get_value_as_int(self->disk) << 30);
    g_string_append_printf(s, "\n%s: %s", _("Memory"), memory);
    g_string_append_printf(s, "\n%s: %d", _("Processors"),
                           gtk_spin_button_get_value_as_int(self->cpus));
    if (gtk_widget_get_visible(self->disk_row))
        g_string_append_printf(s, "\n%s: %s", _("Disk"), disk);
    g_string_append_printf(s, "\n%s: %s", _("Network"),
                           adw_combo_row_get_selected(self->network) == 0
                               ? _("Shared connection (NAT)")
                               : _("Not connected"));
    return g_string_free(s, FALSE);
}

static void enter_page(VireoWizard *self, const char *page)
{
    gboolean disc = source(self) == VIREO_SOURCE_ISO;
    if (!strcmp(page, "image"))
        adw_preferences_group_set_title(self->image_group,
                                        disc ? _("Installer image") : _("Existing disk"));
    if (!strcmp(page, "name"))
        suggest_name(self);
    if (!strcmp(page, "hardware"))
        gtk_widget_set_visible(self->disk_row, disc || source(self) == VIREO_SOURCE_GALLERY);
    if (!strcmp(page, "summary")) {
        g_autofree char *text = describe(self);
        adw_preferences_row_set_title(ADW_PREFERENCES_ROW(self->summary), text_of(self->name));
        adw_action_row_set_subtitle(self->summary, text);
    }
}

static void mark(GtkEditable *row, gboolean good)
{
    gboolean bad = *text_of(row) && !good;
    if (bad)
        gtk_widget_add_css_class(GTK_WIDGET(row), "error");
    else
        gtk_widget_remove_css_class(GTK_WIDGET(row), "error");
    gtk_accessible_update_state(GTK_ACCESSIBLE(row), GTK_ACCESSIBLE_STATE_INVALID,
                                bad ? GTK_ACCESSIBLE_INVALID_TRUE : GTK_ACCESSIBLE_INVALID_FALSE,
                                -1);
}

/* What is in the way of the next page; what is still empty speaks for itself. */
static void mark_problems(VireoWizard *self)
{
    mark(self->user, is_user_name(text_of(self->user)));
    mark(self->key, is_key(text_of(self->key)));
    mark(self->host, is_host_name(text_of(self->host)));
    mark(self->zone, vireo_is_time_zone(text_of(self->zone)));
    mark(self->image, is_file(self->image));
    mark(self->kernel, is_file(self->kernel));
    mark(self->initrd, is_file(self->initrd));
    mark(self->kernel_disk, is_file(self->kernel_disk));
    mark(self->name, strlen(text_of(self->name)) <= VM_MAX_NAME);
    mark(self->place, g_file_test(text_of(self->place), G_FILE_TEST_IS_DIR));
}

static void update(VireoWizard *self)
{
    int i = page_index(self);
    mark_problems(self);
    gboolean last = i >= 0 && !pages(self)[i + 1], building = i < 0;
    gtk_button_set_label(self->back, i == 0 || building ? _("_Cancel") : _("_Back"));
    gtk_button_set_label(self->next, last ? _("_Create") : _("_Next"));
    gtk_widget_set_visible(GTK_WIDGET(self->next), !building);
    vireo_tidy_names(GTK_WIDGET(self->back));
    vireo_tidy_names(GTK_WIDGET(self->next));
    gtk_widget_action_set_enabled(GTK_WIDGET(self), "wizard.next",
                                  !building && page_is_complete(self, pages(self)[i]));
}

static void go_to(VireoWizard *self, const char *page)
{
    enter_page(self, page);
    gtk_stack_set_visible_child_name(self->stack, page);
    update(self);
}

/* ---- making it ---- */

static void fill_request(VireoWizard *self, VireoCreateRequest *r)
{
    VireoGalleryEntry *entry = chosen_entry(self);
    r->source = source(self);
    r->name = g_strstrip(g_strdup(text_of(self->name)));
    r->place = *text_of(self->place) ? g_strdup(text_of(self->place)) : NULL;
    r->image = g_strdup(text_of(self->image));
    r->kernel = g_strdup(text_of(self->kernel));
    r->initrd = g_strdup(text_of(self->initrd));
    r->cmdline = g_strdup(text_of(self->cmdline));
    r->kernel_disk = g_strdup(text_of(self->kernel_disk));
    r->entry = entry && r->source == VIREO_SOURCE_GALLERY ? g_object_ref(entry) : NULL;
    r->user = g_strdup(text_of(self->user));
    r->password = g_strdup(text_of(self->password));
    r->key = g_strdup(text_of(self->key));
    r->host = g_strdup(text_of(self->host));
    r->locale = g_strdup(vireo_locale_at(adw_combo_row_get_selected(self->locale)));
    r->zone = g_strdup(text_of(self->zone));
    r->generation = gtk_check_button_get_active(self->generation1) ? 1 : 2;
    r->memory = (guint)gtk_spin_button_get_value_as_int(self->memory);
    r->dynamic = gtk_switch_get_active(self->dynamic);
    r->cpus = (guint)gtk_spin_button_get_value_as_int(self->cpus);
    r->disk_gib = (guint)gtk_spin_button_get_value_as_int(self->disk);
    r->connected = adw_combo_row_get_selected(self->network) == 0;
}

static void show_problem(VireoWizard *self, const GError *error)
{
    g_autofree char *text = vireo_error_text(error);
    GtkWidget *dialog =
        adw_message_dialog_new(GTK_WINDOW(self), _("The Machine Was Not Created"), text);
    adw_message_dialog_add_response(ADW_MESSAGE_DIALOG(dialog), "close", _("_Close"));
    vireo_tidy_names(dialog);
    gtk_window_present(GTK_WINDOW(dialog));
}

static void on_created(GObject *source_object, GAsyncResult *result, gpointer data)
{
    g_autoptr(VireoWizard) self = data;
    g_autoptr(GError) error = NULL;
    g_autofree char *id = vireo_create_finish(result, &error);
    VireoApplication *app = VIREO_APPLICATION(g_application_get_default());
    g_clear_object(&self->cancellable);
    if (!id) {
        go_to(self, "summary");
        if (!vireo_error_is_cancelled(error))
            show_problem(self, error);
        return;
    }
    vireo_library_reload(self->library, NULL);
    VireoVm *vm = vireo_library_find(self->library, id);
    gboolean start = gtk_switch_get_active(self->start);
    gtk_window_close(GTK_WINDOW(self));
    if (vm && start) {
        vireo_application_open_console(app, vm);
        vireo_vm_start(vm);
    }
}

static void on_progress(double fraction, const char *text, gpointer data)
{
    VireoWizard *self = data;
    if (fraction >= 0)
        gtk_progress_bar_set_fraction(self->build_progress, fraction);
    else
        gtk_progress_bar_pulse(self->build_progress);
    gtk_label_set_text(self->build_text, text);
}

static void create(VireoWizard *self)
{
    VireoCreateRequest *r = g_new0(VireoCreateRequest, 1);
    fill_request(self, r);
    self->cancellable = g_cancellable_new();
    g_autofree char *title = g_strdup_printf(_("Creating “%s”"), r->name);
    gtk_label_set_text(self->build_title, title);
    gtk_label_set_text(self->build_text, "");
    gtk_progress_bar_set_fraction(self->build_progress, 0);
    gtk_stack_set_visible_child_name(self->stack, "building");
    update(self);
    vireo_create_async(vireo_library_get_store(self->library), r, on_progress, self,
                       self->cancellable, on_created, g_object_ref(self));
}

/* ---- buttons ---- */

static void do_next(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoWizard *self = VIREO_WIZARD(widget);
    int i = page_index(self);
    if (i < 0)
        return;
    if (pages(self)[i + 1])
        go_to(self, pages(self)[i + 1]);
    else
        create(self);
}

static void do_back(GtkWidget *widget, const char *name, GVariant *parameter)
{
    VireoWizard *self = VIREO_WIZARD(widget);
    int i = page_index(self);
    if (i > 0)
        go_to(self, pages(self)[i - 1]);
    else if (self->cancellable)
        g_cancellable_cancel(self->cancellable);
    else
        gtk_window_close(GTK_WINDOW(self));
}

static gboolean vireo_wizard_close_request(GtkWindow *window)
{
    VireoWizard *self = VIREO_WIZARD(window);
    if (self->cancellable)
        g_cancellable_cancel(self->cancellable);
    return GTK_WINDOW_CLASS(vireo_wizard_parent_class)->close_request(window);
}

static void set_text(const char *path, gpointer data)
{
    gtk_editable_set_text(data, path);
}

/* The first line of the file: a public key is one line. */
static void set_key(const char *path, gpointer data)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL) || !g_utf8_validate(text, -1, NULL))
        return;
    text[strcspn(text, "\r\n")] = 0;
    gtk_editable_set_text(data, text);
}

static void on_browse(GtkWidget *button, VireoWizard *self)
{
    struct {
        GtkWidget *button;
        GtkEditable *target;
        VireoFileKind kind;
        const char *title;
        void (*chosen)(const char *path, gpointer data);
    } ways[] = {
        {self->key_browse, self->key, VIREO_FILE_ANY, _("Choose a Key File"), set_key},
        {self->kernel_disk_browse, self->kernel_disk, VIREO_FILE_DISK, _("Choose a Disk Image"),
         set_text},
        {self->image_browse, self->image,
         source(self) == VIREO_SOURCE_ISO ? VIREO_FILE_ISO : VIREO_FILE_DISK, _("Choose an Image"),
         set_text},
        {self->kernel_browse, self->kernel, VIREO_FILE_KERNEL, _("Choose a Kernel"), set_text},
        {self->initrd_browse, self->initrd, VIREO_FILE_ANY, _("Choose an Initial RAM Disk"),
         set_text},
        {self->place_browse, self->place, VIREO_FILE_FOLDER, _("Choose a Folder"), set_text},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++)
        if (ways[i].button == button)
            vireo_choose_file(GTK_WINDOW(self), ways[i].title, ways[i].kind, FALSE, NULL,
                              ways[i].chosen, ways[i].target);
}

static void on_name(VireoWizard *self)
{
    self->name_is_ours = FALSE;
    update(self);
}

void vireo_wizard_set_image(VireoWizard *self, const char *path)
{
    g_autofree char *lower = g_ascii_strdown(path, -1);
    gboolean iso = g_str_has_suffix(lower, ".iso");
    gtk_check_button_set_active(iso ? self->from_iso : self->from_disk, TRUE);
    gtk_editable_set_text(self->image, path);
    go_to(self, "image");
}

/* ---- the window ---- */

static void add_entry_row(VireoWizard *self, VireoGalleryEntry *entry)
{
    GtkWidget *row = adw_action_row_new();
    GtkWidget *check = gtk_check_button_new();
    const char *title = vireo_gallery_entry_get_title(entry);
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), title);
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), vireo_gallery_entry_get_description(entry));
    adw_action_row_set_subtitle_lines(ADW_ACTION_ROW(row), 0);
    gtk_widget_set_valign(check, GTK_ALIGN_CENTER);
    if (self->entry_buttons->len)
        gtk_check_button_set_group(GTK_CHECK_BUTTON(check), self->entry_buttons->pdata[0]);
    else
        gtk_check_button_set_active(GTK_CHECK_BUTTON(check), TRUE);
    adw_action_row_add_prefix(ADW_ACTION_ROW(row), check);
    adw_action_row_set_activatable_widget(ADW_ACTION_ROW(row), check);
    adw_preferences_group_add(self->gallery_group, row);
    g_ptr_array_add(self->entry_buttons, check);
    g_signal_connect_swapped(check, "toggled", G_CALLBACK(update), self);
}

static void set_limits(VireoWizard *self)
{
    guint64 host = (guint64)sysconf(_SC_PHYS_PAGES) * (guint64)sysconf(_SC_PAGESIZE) / MIB;
    guint processors = g_get_num_processors();
    gtk_spin_button_set_range(self->memory, 64, (double)CLAMP(host, 256, VM_MAX_MEMORY_MIB));
    gtk_spin_button_set_value(self->memory, (double)MIN(DEFAULT_MEMORY, MAX(256, host / 4)));
    gtk_spin_button_set_range(self->cpus, 1, MIN(VM_MAX_CPUS, MAX(1, processors)));
    gtk_spin_button_set_value(self->cpus, MIN(2, processors));
    gtk_spin_button_set_value(self->disk, DEFAULT_DISK_GIB);
    gtk_switch_set_active(self->start, TRUE);
    gtk_editable_set_text(self->user, g_get_user_name());
    if (!is_user_name(text_of(self->user)))
        gtk_editable_set_text(self->user, "user");
    gtk_editable_set_text(self->host, "debian");
    g_autofree char *zone = vireo_own_time_zone();
    gtk_editable_set_text(self->zone, zone);
    g_autoptr(GtkStringList) names = gtk_string_list_new(vireo_locale_names());
    adw_combo_row_set_model(self->locale, G_LIST_MODEL(names));
    adw_combo_row_set_selected(self->locale, vireo_own_locale());
}

static void connect_all(VireoWizard *self)
{
    GtkEditable *const texts[] = {self->user,  self->password,   self->key,    self->host,
                                  self->zone,  self->image,      self->kernel, self->initrd,
                                  self->place, self->kernel_disk};
    GtkWidget *const browsers[] = {self->key_browse,    self->image_browse,
                                   self->kernel_browse, self->initrd_browse,
                                   self->place_browse,  self->kernel_disk_browse};
    GtkCheckButton *const sources[] = {self->from_gallery, self->from_iso, self->from_disk,
                                       self->from_kernel};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        g_signal_connect_swapped(texts[i], "changed", G_CALLBACK(update), self);
    for (gsize i = 0; i < G_N_ELEMENTS(browsers); i++)
        g_signal_connect(browsers[i], "clicked", G_CALLBACK(on_browse), self);
    for (gsize i = 0; i < G_N_ELEMENTS(sources); i++)
        g_signal_connect_swapped(sources[i], "toggled", G_CALLBACK(update), self);
    g_signal_connect_swapped(self->name, "changed", G_CALLBACK(on_name), self);
}

static void vireo_wizard_dispose(GObject *object)
{
    VireoWizard *self = VIREO_WIZARD(object);
    g_clear_object(&self->library);
    g_clear_pointer(&self->entries, g_ptr_array_unref);
    g_clear_pointer(&self->entry_buttons, g_ptr_array_unref);
    G_OBJECT_CLASS(vireo_wizard_parent_class)->dispose(object);
}

#define BIND(name) gtk_widget_class_bind_template_child(widget, VireoWizard, name)

static void vireo_wizard_class_init(VireoWizardClass *klass)
{
    GtkWidgetClass *widget = GTK_WIDGET_CLASS(klass);
    G_OBJECT_CLASS(klass)->dispose = vireo_wizard_dispose;
    GTK_WINDOW_CLASS(klass)->close_request = vireo_wizard_close_request;
    gtk_widget_class_set_template_from_resource(widget, "/org/vireo/Vireo/ui/wizard.ui");
    BIND(title);
    BIND(toasts);
    BIND(stack);
    BIND(back);
    BIND(next);
    BIND(from_gallery);
    BIND(from_iso);
    BIND(from_disk);
    BIND(from_kernel);
    BIND(gallery_group);
    BIND(image_group);
    BIND(user);
    BIND(password);
    BIND(key);
    BIND(host);
    BIND(locale);
    BIND(zone);
    BIND(kernel_disk);
    BIND(key_browse);
    BIND(kernel_disk_browse);
    BIND(image);
    BIND(kernel);
    BIND(initrd);
    BIND(cmdline);
    BIND(name);
    BIND(place);
    BIND(image_browse);
    BIND(kernel_browse);
    BIND(initrd_browse);
    BIND(place_browse);
    BIND(generation1);
    BIND(generation2);
    BIND(memory);
    BIND(cpus);
    BIND(disk);
    BIND(disk_row);
    BIND(dynamic);
    BIND(start);
    BIND(network);
    BIND(summary);
    BIND(build_title);
    BIND(build_text);
    BIND(build_progress);
    gtk_widget_class_install_action(widget, "wizard.next", NULL, do_next);
    gtk_widget_class_install_action(widget, "wizard.back", NULL, do_back);
    gtk_widget_class_add_binding_action(widget, GDK_KEY_Escape, 0, "wizard.back", NULL);
}

static void vireo_wizard_init(VireoWizard *self)
{
    self->name_is_ours = TRUE;
    self->entry_buttons = g_ptr_array_new();
    gtk_widget_init_template(GTK_WIDGET(self));
    gtk_window_set_default_widget(GTK_WINDOW(self), GTK_WIDGET(self->next));
    self->entries = vireo_gallery_load();
    for (guint i = 0; i < self->entries->len; i++)
        add_entry_row(self, self->entries->pdata[i]);
    set_limits(self);
    connect_all(self);
    update(self);
    vireo_tidy_names(GTK_WIDGET(self));
}

GtkWindow *vireo_wizard_new(VireoLibrary *library, GtkWindow *parent)
{
    VireoWizard *self = g_object_new(VIREO_TYPE_WIZARD, "transient-for", parent, NULL);
    self->library = g_object_ref(library);
    return GTK_WINDOW(self);
}
