/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/settings-window.h"

#include <glib/gi18n.h>

#include "app/error.h"
#include "app/live.h"
#include "app/ui/choose-file.h"
#include "app/ui/disk-tool.h"
#include "app/ui/names.h"
#include "app/ui/settings-rows.h"
#include "app/ui/switch-row.h"

struct _VireoSettingsWindow {
    AdwPreferencesWindow parent;
    VireoVm *vm;
    GPtrArray *rows;              /* borrowed: those that are refreshed */
    AdwPreferencesGroup *running; /* the note that the machine runs */
    AdwPreferencesPage *disks_page, *network_page;
    GPtrArray *parts; /* groups of disks and adapters, made anew when their number changes */
    guint n_disks, n_adapters;
};

G_DEFINE_FINAL_TYPE(VireoSettingsWindow, vireo_settings_window, ADW_TYPE_PREFERENCES_WINDOW)

/* ---- what there is to set ---- */

static const char *const accels[] = {N_("Automatic"), N_("Hardware (KVM)"),
                                     N_("Software processor"), NULL};
static const char *const models[] = {N_("Portable"), N_("As this computer’s"), NULL};
static const char *const checkpoint_types[] = {N_("Off"), N_("Standard"), N_("Production"), NULL};
static const char *const starts[] = {N_("Never"), N_("If it ran before"), N_("Always"), NULL};
static const char *const stops[] = {N_("Save"), N_("Shut down"), N_("Turn off"), NULL};
static const char *const boots[] = {N_("Disk or disc"), N_("Linux kernel"), NULL};
static const char *const ports[] = {N_("Nowhere"), N_("File"), N_("Pseudo-terminal"), N_("Socket"),
                                    NULL};

#define SWITCH(key, title, sub)                          \
    {                                                    \
        key, VIREO_ROW_SWITCH, title, sub, 0, 0, 0, NULL \
    }
#define NUMBER(key, title, sub, lo, hi, step)                 \
    {                                                         \
        key, VIREO_ROW_NUMBER, title, sub, lo, hi, step, NULL \
    }
#define CHOICE(key, title, sub, list)                    \
    {                                                    \
        key, VIREO_ROW_CHOICE, title, sub, 0, 0, 0, list \
    }
#define TEXT(key, title)                                \
    {                                                   \
        key, VIREO_ROW_TEXT, title, NULL, 0, 0, 0, NULL \
    }
#define END                                             \
    {                                                   \
        NULL, VIREO_ROW_TEXT, NULL, NULL, 0, 0, 0, NULL \
    }

typedef struct {
    const char *title, *description;
    VireoSettingRow rows[10];
} Group;

static const Group machine_groups[] = {
    {N_("Machine"),
     NULL,
     {TEXT("machine.name", N_("Name")), TEXT("machine.notes", N_("Notes")), END}},
    {N_("Processor"),
     NULL,
     {NUMBER("processor.count", N_("Virtual processors"), NULL, 1, VM_MAX_CPUS, 1),
      CHOICE("processor.accel", N_("Run by"),
             N_("Automatic takes the hardware’s virtualisation where it can be used"), accels),
      CHOICE("processor.model", N_("Processor model"),
             N_("A portable one lets saved machines move between computers"), models),
      END}},
    {N_("Memory"),
     NULL,
     {NUMBER("memory.startup", N_("Memory at start (MiB)"), NULL, 16, VM_MAX_MEMORY_MIB, 256),
      SWITCH("memory.dynamic", N_("Dynamic memory"),
             N_("Gives and takes memory as the machine needs it")),
      NUMBER("memory.minimum", N_("Minimum (MiB)"), NULL, 16, VM_MAX_MEMORY_MIB, 256),
      NUMBER("memory.maximum", N_("Maximum (MiB)"), NULL, 16, VM_MAX_MEMORY_MIB, 256),
      NUMBER("memory.buffer", N_("Kept free (per cent)"), NULL, 5, 200, 5), END}},
    {N_("Start"),
     NULL,
     {CHOICE("boot.from", N_("Start from"), NULL, boots), TEXT("boot.kernel", N_("Kernel")),
      TEXT("boot.initrd", N_("Initial RAM disk")), TEXT("boot.cmdline", N_("Command line")), END}},
};

static const Group console_groups[] = {
    {N_("Screen"),
     NULL,
     {NUMBER("video.memory", N_("Video memory (MiB)"), NULL, 4, 128, 4),
      NUMBER("video.width", N_("Width at start"), NULL, 640, 7680, 8),
      NUMBER("video.height", N_("Height at start"), NULL, 480, 4320, 8), END}},
    {N_("Enhanced Session"),
     N_("Needs Vireo’s agent in the machine."),
     {SWITCH("session.enhanced", N_("Enhanced session"), NULL),
      SWITCH("session.clipboard-to-guest", N_("Paste into the guest what was copied here"), NULL),
      SWITCH("session.clipboard-from-guest", N_("Paste here what was copied in the guest"), NULL),
      SWITCH("session.files", N_("Let files be sent into the guest"), NULL),
      SWITCH("session.sound", N_("Play its sound"), NULL),
      SWITCH("session.microphone", N_("Let it use the microphone"), NULL),
      SWITCH("session.usb", N_("Hand USB devices over"), NULL), END}},
    {N_("Remote Access"),
     N_("Off until switched on; without an address, this computer alone."),
     {SWITCH("remote.spice", N_("SPICE"), NULL),
      NUMBER("remote.spice-port", N_("SPICE port (0: a socket file)"), NULL, 0, 65535, 1),
      SWITCH("remote.vnc", N_("VNC"), NULL),
      NUMBER("remote.vnc-port", N_("VNC port (0: a socket file)"), NULL, 0, 65535, 1),
      TEXT("remote.listen", N_("Address")), END}},
    {N_("Serial Ports"),
     NULL,
     {CHOICE("port0.kind", N_("COM 1"), NULL, ports), TEXT("port0.path", N_("COM 1: path")),
      CHOICE("port1.kind", N_("COM 2"), NULL, ports), TEXT("port1.path", N_("COM 2: path")), END}},
};

static const Group management_groups[] = {
    {N_("Integration Services"),
     N_("What the machine’s system may do with this computer’s help."),
     {SWITCH("integration.shutdown", N_("Shut down from here"), NULL),
      SWITCH("integration.time", N_("Time synchronisation"), NULL),
      SWITCH("integration.heartbeat", N_("Heartbeat"), NULL),
      SWITCH("integration.data-exchange", N_("Data exchange"), NULL),
      SWITCH("integration.backup", N_("Backup (consistent checkpoints)"), NULL),
      SWITCH("integration.guest-files", N_("Copying files into it"), NULL), END}},
    {N_("Checkpoints"),
     NULL,
     {CHOICE("checkpoints.type", N_("Kind"),
             N_("Production asks the system inside to settle its files first"), checkpoint_types),
      SWITCH("checkpoints.fallback", N_("Standard where production is not possible"), NULL),
      SWITCH("checkpoints.automatic", N_("Make one at every start"), NULL), END}},
    {N_("Start and Stop"),
     NULL,
     {CHOICE("automatic.start", N_("Start with the desktop session"), NULL, starts),
      NUMBER("automatic.start-delay", N_("Delay (seconds)"), NULL, 0, 3600, 5),
      CHOICE("automatic.stop", N_("When the session ends"), NULL, stops), END}},
};

static const VireoSettingRow disk_rows[] = {
    SWITCH("read-only", N_("Read-only"), NULL),
    NUMBER("iops", N_("Operations a second at most (0: no limit)"), NULL, 0, 1000000, 100),
};

static const VireoSettingRow adapter_rows[] = {
    TEXT("mac", N_("Hardware address")),
    SWITCH("mac-spoofing", N_("May send as another address"), NULL),
    NUMBER("vlan", N_("VLAN (0: none)"), NULL, 0, 4094, 1),
    NUMBER("bandwidth", N_("Bandwidth in Mbit/s (0: no limit)"), NULL, 0, 1000000, 100),
    SWITCH("host-access", N_("May reach this computer"), NULL),
    TEXT("forwards", N_("Forwarded ports")),
};

/* Generation 1's. */
static const VireoSettingRow legacy_row =
    SWITCH("legacy", N_("Legacy network adapter"),
           N_("For systems without Hyper-V’s drivers, and to start from the network"));

/* ---- plain pages ---- */

static void add_row(VireoSettingsWindow *self, AdwPreferencesGroup *group,
                    const VireoSettingRow *what, const char *key)
{
    GtkWidget *row = vireo_settings_row_new(what, key, self->vm);
    adw_preferences_group_add(group, row);
    g_ptr_array_add(self->rows, row);
}

static AdwPreferencesPage *add_page(VireoSettingsWindow *self, const char *title, const char *icon,
                                    const Group *groups, gsize n)
{
    AdwPreferencesPage *page = ADW_PREFERENCES_PAGE(adw_preferences_page_new());
    adw_preferences_page_set_title(page, title);
    adw_preferences_page_set_icon_name(page, icon);
    for (gsize i = 0; i < n; i++) {
        AdwPreferencesGroup *g = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
        adw_preferences_group_set_title(g, _(groups[i].title));
        if (groups[i].description)
            adw_preferences_group_set_description(g, _(groups[i].description));
        for (const VireoSettingRow *r = groups[i].rows; r->key; r++)
            add_row(self, g, r, NULL);
        adw_preferences_page_add(page, g);
    }
    adw_preferences_window_add(ADW_PREFERENCES_WINDOW(self), page);
    return page;
}

/* ---- disks and adapters ---- */

typedef struct {
    VireoSettingsWindow *window; /* weak: the button dies with it */
    guint index;
} Part;

static void free_part(gpointer data, GClosure *closure)
{
    g_free(data);
}

static void tell(VireoSettingsWindow *self, const GError *error)
{
    g_autofree char *escaped = g_markup_escape_text(error->message, -1);
    adw_preferences_window_add_toast(ADW_PREFERENCES_WINDOW(self), adw_toast_new(escaped));
}

static gboolean change(VireoSettingsWindow *self, bool (*fn)(void *, struct vm_config *, err *),
                       void *ctx)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = vireo_vm_update(self->vm, fn, ctx, &error);
    if (!ok)
        tell(self, error);
    return ok;
}

static bool remove_disk(void *ctx, struct vm_config *c, err *e)
{
    vm_config_remove_disk(c, *(guint *)ctx);
    return true;
}

static bool remove_adapter(void *ctx, struct vm_config *c, err *e)
{
    vm_config_remove_adapter(c, *(guint *)ctx);
    return true;
}

/* The running machine lets go of it first, as the configuration names it until then. */
static void on_remove_disk(GtkButton *button, Part *p)
{
    const struct vm_config *c = vireo_vm_get_config(p->window->vm);
    if (!c || p->index >= c->n_disks)
        return;
    vireo_live_remove_disk(p->window->vm, &c->disks[p->index]);
    change(p->window, remove_disk, &p->index);
}

static void on_remove_adapter(GtkButton *button, Part *p)
{
    change(p->window, remove_adapter, &p->index);
}

struct new_disk {
    enum vm_bus bus;
    enum vm_media media;
    const char *path;
};

static bool add_disk(void *ctx, struct vm_config *c, err *e)
{
    const struct new_disk *d = ctx;
    return vm_config_add_disk(c, d->bus, d->media, d->path, e) != NULL;
}

static bool add_adapter(void *ctx, struct vm_config *c, err *e)
{
    return vm_config_add_adapter(c, VM_SWITCH_NAT, e) != NULL;
}

/* A PC's BIOS sees its IDE drives alone, which come and go only while it is off. */
static enum vm_bus new_bus(VireoSettingsWindow *self)
{
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    guint ide = 0;
    for (guint i = 0; c && i < c->n_disks; i++)
        ide += c->disks[i].bus == VM_BUS_IDE;
    return c && c->generation == 1 && ide < 4 && !vireo_vm_is_active(self->vm) ? VM_BUS_IDE
                                                                               : VM_BUS_SCSI;
}

static void add_new(VireoSettingsWindow *self, enum vm_media media, const char *path)
{
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    struct new_disk d = {new_bus(self), media, path};
    guint before = c ? c->n_disks : 0;
    if (!change(self, add_disk, &d))
        return;
    c = vireo_vm_get_config(self->vm);
    if (c && c->n_disks > before)
        vireo_live_add_disk(self->vm, &c->disks[c->n_disks - 1]);
}

static void on_new_disk(const char *path, gpointer data)
{
    add_new(data, VM_MEDIA_DISK, path);
}

static void on_add_disk(VireoSettingsWindow *self)
{
    vireo_choose_file(GTK_WINDOW(self), _("Attach Disk Image"), VIREO_FILE_DISK, FALSE, NULL,
                      on_new_disk, self);
}

static void on_make_disk(VireoSettingsWindow *self)
{
    vireo_ask_new_disk(GTK_WINDOW(self), on_new_disk, self);
}

static void on_add_drive(VireoSettingsWindow *self)
{
    add_new(self, VM_MEDIA_DVD, NULL);
}

static void on_add_floppy(VireoSettingsWindow *self)
{
    change(self, add_disk, &(struct new_disk){VM_BUS_FLOPPY, VM_MEDIA_FLOPPY, NULL});
}

static void on_add_adapter(VireoSettingsWindow *self)
{
    if (!change(self, add_adapter, NULL))
        return;
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    if (c && c->n_adapters)
        vireo_live_add_adapter(self->vm, &c->adapters[c->n_adapters - 1]);
}

static void on_manage_switches(VireoSettingsWindow *self)
{
    g_action_group_activate_action(G_ACTION_GROUP(g_application_get_default()), "switches", NULL);
}

static void on_image_chosen(const char *path, gpointer data)
{
    GtkWidget *row = data;
    VireoSettingsWindow *self =
        VIREO_SETTINGS_WINDOW(gtk_widget_get_ancestor(row, VIREO_TYPE_SETTINGS_WINDOW));
    g_autoptr(GError) error = NULL;
    if (!vireo_vm_set(self->vm, g_object_get_data(G_OBJECT(row), "key"), path, &error)) {
        tell(self, error);
        return;
    }
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    guint index = GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(row), "index"));
    if (c && index < c->n_disks && c->disks[index].media != VM_MEDIA_DISK)
        vireo_live_insert(self->vm, &c->disks[index]);
}

static void on_choose_image(GtkWidget *row)
{
    static const VireoFileKind kinds[] = {[VM_MEDIA_DISK] = VIREO_FILE_DISK,
                                          [VM_MEDIA_DVD] = VIREO_FILE_ISO,
                                          [VM_MEDIA_FLOPPY] = VIREO_FILE_ANY};
    guint media = GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(row), "media"));
    vireo_choose_file(GTK_WINDOW(gtk_widget_get_root(row)), _("Choose Image"), kinds[media], FALSE,
                      NULL, on_image_chosen, row);
}

static GtkWidget *icon_button(const char *icon, const char *label)
{
    GtkWidget *b = gtk_button_new_from_icon_name(icon);
    gtk_widget_set_tooltip_text(b, label);
    gtk_widget_set_valign(b, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(b, "flat");
    gtk_accessible_update_property(GTK_ACCESSIBLE(b), GTK_ACCESSIBLE_PROPERTY_LABEL, label, -1);
    return b;
}

static AdwPreferencesGroup *add_part(VireoSettingsWindow *self, AdwPreferencesPage *page,
                                     const char *title, guint index, const char *remove,
                                     gboolean removable, GCallback on_remove)
{
    AdwPreferencesGroup *g = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    GtkWidget *button = icon_button("user-trash-symbolic", remove);
    Part *p = g_new0(Part, 1);
    p->window = self;
    p->index = index;
    adw_preferences_group_set_title(g, title);
    adw_preferences_group_set_header_suffix(g, button);
    gtk_widget_set_sensitive(button, removable);
    if (!removable)
        gtk_widget_set_tooltip_text(button, _("Can be changed when the machine is off"));
    g_signal_connect_data(button, "clicked", on_remove, p, free_part, 0);
    adw_preferences_page_add(page, g);
    g_object_set_data(G_OBJECT(g), "page", page);
    g_ptr_array_add(self->parts, g);
    return g;
}

static void resize_disk(GtkWidget *row, guint64 bytes)
{
    VireoSettingsWindow *self =
        VIREO_SETTINGS_WINDOW(gtk_widget_get_ancestor(row, VIREO_TYPE_SETTINGS_WINDOW));
    const struct vm_config *c = self ? vireo_vm_get_config(self->vm) : NULL;
    guint index = GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(row), "index"));
    if (c && index < c->n_disks)
        vireo_live_resize_disk(self->vm, &c->disks[index], bytes);
}

static void on_resize(GtkWidget *row)
{
    VireoSettingsWindow *self =
        VIREO_SETTINGS_WINDOW(gtk_widget_get_ancestor(row, VIREO_TYPE_SETTINGS_WINDOW));
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    guint index = GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(row), "index"));
    if (!c || index >= c->n_disks)
        return;
    g_autofree char *path =
        g_canonicalize_filename(c->disks[index].path, vireo_vm_get_folder(self->vm));
    vireo_ask_disk_size(GTK_WINDOW(self), path, vireo_vm_is_active(self->vm) ? resize_disk : NULL,
                        row);
}

/* Looking at, checking, compacting and converting are the disk tool's, while nobody writes to it.
 */
static void on_tool(GtkWidget *row)
{
    VireoSettingsWindow *self =
        VIREO_SETTINGS_WINDOW(gtk_widget_get_ancestor(row, VIREO_TYPE_SETTINGS_WINDOW));
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    guint index = GPOINTER_TO_UINT(g_object_get_data(G_OBJECT(row), "index"));
    if (!c || index >= c->n_disks)
        return;
    g_autofree char *path =
        g_canonicalize_filename(c->disks[index].path, vireo_vm_get_folder(self->vm));
    GtkWindow *tool = vireo_disk_tool_new(GTK_APPLICATION(g_application_get_default()));
    gtk_window_present(tool);
    vireo_disk_tool_open(VIREO_DISK_TOOL(tool), path);
}

static void add_disk_buttons(VireoSettingsWindow *self, GtkWidget *row)
{
    GtkWidget *resize = icon_button("view-fullscreen-symbolic", _("Resize Disk"));
    GtkWidget *tool = icon_button("applications-utilities-symbolic", _("Open in Disk Tool"));
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), resize);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), tool);
    gtk_widget_set_sensitive(tool, !vireo_vm_is_active(self->vm));
    g_signal_connect_swapped(resize, "clicked", G_CALLBACK(on_resize), row);
    g_signal_connect_swapped(tool, "clicked", G_CALLBACK(on_tool), row);
}

static void add_image_row(VireoSettingsWindow *self, AdwPreferencesGroup *g,
                          const struct vm_disk *d, guint index)
{
    GtkWidget *row = adw_action_row_new();
    GtkWidget *choose = icon_button("document-open-symbolic", _("Choose Image"));
    adw_preferences_row_set_use_markup(ADW_PREFERENCES_ROW(row), FALSE);
    adw_preferences_row_set_title(ADW_PREFERENCES_ROW(row), _("Image"));
    adw_action_row_set_subtitle(ADW_ACTION_ROW(row), d->path ? d->path : _("Empty"));
    adw_action_row_set_subtitle_lines(ADW_ACTION_ROW(row), 3);
    adw_action_row_add_suffix(ADW_ACTION_ROW(row), choose);
    g_object_set_data_full(G_OBJECT(row), "key", g_strdup_printf("disk%u.path", index), g_free);
    g_object_set_data(G_OBJECT(row), "index", GUINT_TO_POINTER(index));
    gtk_widget_set_sensitive(choose, d->media != VM_MEDIA_DISK || !vireo_vm_is_active(self->vm));
    g_object_set_data(G_OBJECT(row), "media", GUINT_TO_POINTER(d->media));
    g_signal_connect_swapped(choose, "clicked", G_CALLBACK(on_choose_image), row);
    if (d->media == VM_MEDIA_DISK)
        add_disk_buttons(self, row);
    adw_preferences_group_add(g, row);
}

static void add_disk_group(VireoSettingsWindow *self, const struct vm_disk *d, guint index)
{
    gboolean drive = d->media != VM_MEDIA_DISK;
    /* Translators: kind of drive, controller, place on it */
    g_autofree char *title =
        d->media == VM_MEDIA_FLOPPY
            ? g_strdup(_("Floppy Drive"))
            : g_strdup_printf(_("%s (%s, place %u)"), drive ? _("DVD Drive") : _("Disk"),
                              d->bus == VM_BUS_IDE ? "IDE" : "SCSI", d->slot);
    AdwPreferencesGroup *g =
        add_part(self, self->disks_page, title, index, drive ? _("Remove Drive") : _("Remove Disk"),
                 vireo_live_may_change_disk(self->vm, d->bus), G_CALLBACK(on_remove_disk));
    add_image_row(self, g, d, index);
    for (gsize i = 0; !drive && i < G_N_ELEMENTS(disk_rows); i++) {
        g_autofree char *key = g_strdup_printf("disk%u.%s", index, disk_rows[i].key);
        add_row(self, g, &disk_rows[i], key);
    }
}

static gboolean is_pc(VireoSettingsWindow *self)
{
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    return c && c->generation == 1;
}

static void add_adapter_group(VireoSettingsWindow *self, guint index)
{
    g_autofree char *title = g_strdup_printf(_("Network Adapter %u"), index + 1);
    AdwPreferencesGroup *g = add_part(self, self->network_page, title, index, _("Remove Adapter"),
                                      !vireo_vm_is_active(self->vm), G_CALLBACK(on_remove_adapter));
    adw_preferences_group_add(g, vireo_switch_row_new(self->vm, index));
    for (gsize i = 0; i < G_N_ELEMENTS(adapter_rows); i++) {
        g_autofree char *key = g_strdup_printf("adapter%u.%s", index, adapter_rows[i].key);
        add_row(self, g, &adapter_rows[i], key);
    }
    g_autofree char *legacy = g_strdup_printf("adapter%u.%s", index, legacy_row.key);
    if (is_pc(self))
        add_row(self, g, &legacy_row, legacy);
}

static void drop_parts(VireoSettingsWindow *self)
{
    for (guint i = self->rows->len; i-- > 0;)
        for (guint k = 0; k < self->parts->len; k++)
            if (gtk_widget_is_ancestor(self->rows->pdata[i], self->parts->pdata[k])) {
                g_ptr_array_remove_index(self->rows, i);
                break;
            }
    for (guint k = 0; k < self->parts->len; k++)
        adw_preferences_page_remove(g_object_get_data(self->parts->pdata[k], "page"),
                                    self->parts->pdata[k]);
    g_ptr_array_set_size(self->parts, 0);
}

static void build_parts(VireoSettingsWindow *self)
{
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    drop_parts(self);
    for (guint i = 0; i < c->n_disks; i++)
        add_disk_group(self, &c->disks[i], i);
    for (guint i = 0; i < c->n_adapters; i++)
        add_adapter_group(self, i);
}

static GtkWidget *add_button(const char *label, GCallback fn, VireoSettingsWindow *self)
{
    GtkWidget *b = gtk_button_new_with_mnemonic(label);
    gtk_widget_set_halign(b, GTK_ALIGN_CENTER);
    gtk_widget_add_css_class(b, "pill");
    g_signal_connect_swapped(b, "clicked", fn, self);
    return b;
}

static void add_hardware_pages(VireoSettingsWindow *self)
{
    self->disks_page = add_page(self, _("Disks"), "drive-harddisk-symbolic", NULL, 0);
    AdwPreferencesGroup *g = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6);
    gtk_box_append(GTK_BOX(box), add_button(_("_New Disk…"), G_CALLBACK(on_make_disk), self));
    gtk_box_append(GTK_BOX(box), add_button(_("_Attach Disk…"), G_CALLBACK(on_add_disk), self));
    gtk_box_append(GTK_BOX(box), add_button(_("Add _DVD Drive"), G_CALLBACK(on_add_drive), self));
    if (is_pc(self))
        gtk_box_append(GTK_BOX(box),
                       add_button(_("Add _Floppy Drive"), G_CALLBACK(on_add_floppy), self));
    adw_preferences_group_add(g, box);
    adw_preferences_page_add(self->disks_page, g);
    self->network_page = add_page(self, _("Network"), "network-wired-symbolic", NULL, 0);
    g = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 6);
    gtk_box_append(GTK_BOX(box), add_button(_("Add _Adapter"), G_CALLBACK(on_add_adapter), self));
    gtk_box_append(GTK_BOX(box),
                   add_button(_("_Switch Manager"), G_CALLBACK(on_manage_switches), self));
    adw_preferences_group_add(g, box);
    adw_preferences_page_add(self->network_page, g);
}

/* ---- the window ---- */

static char *fingerprint(VireoSettingsWindow *self, const struct vm_config *c)
{
    GString *s = g_string_new(NULL);
    for (guint i = 0; i < c->n_disks; i++)
        g_string_append_printf(s, "%u.%u.%u:%s;", c->disks[i].bus, c->disks[i].slot,
                               c->disks[i].media, c->disks[i].path ? c->disks[i].path : "");
    /* Whether parts may be removed depends on it. */
    g_string_append_printf(s, "/%u/%d", c->n_adapters, vireo_vm_is_active(self->vm));
    return g_string_free(s, FALSE);
}

static void on_changed(VireoSettingsWindow *self)
{
    const struct vm_config *c = vireo_vm_get_config(self->vm);
    if (!c) {
        gtk_window_close(GTK_WINDOW(self));
        return;
    }
    g_autofree char *now = fingerprint(self, c);
    if (g_strcmp0(now, g_object_get_data(G_OBJECT(self), "parts"))) {
        g_object_set_data_full(G_OBJECT(self), "parts", g_strdup(now), g_free);
        build_parts(self);
    }
    for (guint i = 0; i < self->rows->len; i++)
        vireo_settings_row_refresh(self->rows->pdata[i]);
    gtk_widget_set_visible(GTK_WIDGET(self->running), vireo_vm_is_active(self->vm));
}

static void vireo_settings_window_dispose(GObject *object)
{
    VireoSettingsWindow *self = VIREO_SETTINGS_WINDOW(object);
    if (self->vm)
        g_signal_handlers_disconnect_by_data(self->vm, self);
    g_clear_object(&self->vm);
    g_clear_pointer(&self->rows, g_ptr_array_unref);
    g_clear_pointer(&self->parts, g_ptr_array_unref);
    G_OBJECT_CLASS(vireo_settings_window_parent_class)->dispose(object);
}

static void vireo_settings_window_class_init(VireoSettingsWindowClass *klass)
{
    G_OBJECT_CLASS(klass)->dispose = vireo_settings_window_dispose;
}

static void vireo_settings_window_init(VireoSettingsWindow *self)
{
    self->rows = g_ptr_array_new();
    self->parts = g_ptr_array_new();
}

GtkWindow *vireo_settings_window_new(VireoVm *vm, GtkWindow *parent)
{
    g_autofree char *title = g_strdup_printf(_("Settings of %s"), vireo_vm_get_name(vm));
    VireoSettingsWindow *self =
        g_object_new(VIREO_TYPE_SETTINGS_WINDOW, "title", title, "transient-for", parent,
                     "default-width", 720, "default-height", 640, NULL);
    gtk_widget_set_size_request(GTK_WIDGET(self), 360, 294);
    self->vm = g_object_ref(vm);
    AdwPreferencesPage *first = add_page(self, _("Machine"), "computer-symbolic", machine_groups,
                                         G_N_ELEMENTS(machine_groups));
    self->running = ADW_PREFERENCES_GROUP(adw_preferences_group_new());
    adw_preferences_group_set_description(
        self->running, _("The machine is running. What is greyed out can be changed when it is "
                         "off."));
    adw_preferences_page_add(first, self->running);
    add_hardware_pages(self);
    add_page(self, _("Console"), "video-display-symbolic", console_groups,
             G_N_ELEMENTS(console_groups));
    add_page(self, _("Management"), "preferences-system-symbolic", management_groups,
             G_N_ELEMENTS(management_groups));
    g_signal_connect_swapped(vm, "changed", G_CALLBACK(on_changed), self);
    on_changed(self);
    vireo_tidy_names(GTK_WIDGET(self));
    return GTK_WINDOW(self);
}
