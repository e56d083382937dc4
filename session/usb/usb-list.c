/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-list.h"

#include "session/usb/usb-mounts.h"

#include <glib-unix.h>
#include <libudev.h>
#include <stdlib.h>
#include <string.h>

#define CLASS_HID 3
#define CLASS_HUB 9
#define SUBCLASS_BOOT 1

struct _VireoUsbList {
    GObject parent;
    struct udev *udev;
    struct udev_hwdb *hwdb; /* may be missing */
    struct udev_monitor *monitor;
    guint watch;
};

G_DEFINE_FINAL_TYPE(VireoUsbList, vireo_usb_list, G_TYPE_OBJECT)
G_DEFINE_BOXED_TYPE(VireoUsbInfo, vireo_usb_info, vireo_usb_info_copy, vireo_usb_info_free)

static guint changed_signal;

VireoUsbInfo *vireo_usb_info_copy(const VireoUsbInfo *info)
{
    VireoUsbInfo *copy = g_new(VireoUsbInfo, 1);
    *copy = *info;
    copy->id = g_strdup(info->id);
    copy->key = g_strdup(info->key);
    copy->name = g_strdup(info->name);
    copy->detail = g_strdup(info->detail);
    copy->mount = g_strdup(info->mount);
    return copy;
}

void vireo_usb_info_free(VireoUsbInfo *info)
{
    g_free(info->id);
    g_free(info->key);
    g_free(info->name);
    g_free(info->detail);
    g_free(info->mount);
    g_free(info);
}

static guint number(struct udev_device *d, const char *name, int base)
{
    const char *text = udev_device_get_sysattr_value(d, name);
    return text ? (guint)strtoul(text, NULL, base) : 0;
}

/* What the device says of itself: any bytes at all. NULL if it says nothing. */
static char *own_text(struct udev_device *d, const char *name)
{
    const char *text = udev_device_get_sysattr_value(d, name);
    if (!text)
        return NULL;
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    for (char *c = valid; *c; c++)
        if (g_ascii_iscntrl(*c))
            *c = ' ';
    g_strstrip(valid);
    return valid[0] ? g_steal_pointer(&valid) : NULL;
}

/* From the hardware database; NULL if it has none. */
static char *known_text(VireoUsbList *self, guint16 vendor, guint16 product, const char *property)
{
    if (!self->hwdb)
        return NULL;
    g_autofree char *alias = g_strdup_printf("usb:v%04Xp%04X", vendor, product);
    struct udev_list_entry *list = udev_hwdb_get_properties_list_entry(self->hwdb, alias, 0),
                           *entry;
    udev_list_entry_foreach(entry, list)
    {
        if (strcmp(udev_list_entry_get_name(entry), property) == 0)
            return g_utf8_make_valid(udev_list_entry_get_value(entry), -1);
    }
    return NULL;
}

static char *first_of(char *a, char *b)
{
    if (a) {
        g_free(b);
        return a;
    }
    return b;
}

static char *name_of(VireoUsbList *self, struct udev_device *d, guint16 vendor, guint16 product)
{
    g_autofree char *maker = first_of(own_text(d, "manufacturer"),
                                      known_text(self, vendor, product, "ID_VENDOR_FROM_DATABASE"));
    g_autofree char *model = first_of(known_text(self, vendor, product, "ID_MODEL_FROM_DATABASE"),
                                      own_text(d, "product"));
    if (!model && !maker)
        return g_strdup_printf("USB device %04x:%04x", vendor, product);
    if (!model || !maker)
        return g_strdup(model ? model : maker);
    if (g_str_has_prefix(model, maker))
        return g_steal_pointer(&model);
    return g_strdup_printf("%s %s", maker, model);
}

/* Whether one of its interfaces is a keyboard's or a mouse's. */
static gboolean is_input(const char *syspath)
{
    g_autoptr(GDir) dir = g_dir_open(syspath, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *class = g_build_filename(syspath, name, "bInterfaceClass", NULL),
                        *class_text = NULL;
        g_autofree char *subclass = g_build_filename(syspath, name, "bInterfaceSubClass", NULL),
                        *subclass_text = NULL;
        if (strchr(name, ':') && g_file_get_contents(class, &class_text, NULL, NULL) &&
            strtol(class_text, NULL, 16) == CLASS_HID &&
            g_file_get_contents(subclass, &subclass_text, NULL, NULL) &&
            strtol(subclass_text, NULL, 16) == SUBCLASS_BOOT)
            return TRUE;
    }
    return FALSE;
}

/* Whether the desktop points or types with it, whatever its interfaces say: a touch screen, a
 * graphics tablet. */
static gboolean is_used_for_input(VireoUsbList *self, struct udev_device *d)
{
    static const char *const marks[] = {"ID_INPUT_KEYBOARD", "ID_INPUT_MOUSE", "ID_INPUT_TOUCHPAD",
                                        "ID_INPUT_TOUCHSCREEN", "ID_INPUT_TABLET"};
    struct udev_enumerate *all = udev_enumerate_new(self->udev);
    struct udev_list_entry *e;
    gboolean found = FALSE;
    if (!all)
        return FALSE;
    udev_enumerate_add_match_parent(all, d);
    for (gsize i = 0; i < G_N_ELEMENTS(marks); i++)
        udev_enumerate_add_match_property(all, marks[i], "1");
    udev_enumerate_scan_devices(all);
    udev_list_entry_foreach(e, udev_enumerate_get_list_entry(all))
    {
        struct udev_device *one =
            udev_device_new_from_syspath(self->udev, udev_list_entry_get_name(e));
        found |= one && g_strcmp0(udev_device_get_subsystem(one), "input") == 0;
        udev_device_unref(one);
    }
    udev_enumerate_unref(all);
    return found;
}

static VireoUsbInfo *read_info(VireoUsbList *self, struct udev_device *d)
{
    const char *path = udev_device_get_syspath(d);
    if (number(d, "bDeviceClass", 16) == CLASS_HUB || strstr(path, "/vhci_hcd"))
        return NULL;
    VireoUsbInfo *info = g_new0(VireoUsbInfo, 1);
    g_autofree char *serial = own_text(d, "serial");
    info->id = g_strdup(udev_device_get_sysname(d));
    info->vendor = (guint16)number(d, "idVendor", 16);
    info->product = (guint16)number(d, "idProduct", 16);
    info->bus = number(d, "busnum", 10);
    info->device = number(d, "devnum", 10);
    info->key = g_strdup_printf("%04x:%04x%s%s", info->vendor, info->product, serial ? ":" : "",
                                serial ? serial : "");
    info->name = name_of(self, d, info->vendor, info->product);
    info->detail = g_strdup_printf("%04x:%04x, bus %u, device %u", info->vendor, info->product,
                                   info->bus, info->device);
    info->mount = usb_mount_of(path);
    if (info->mount)
        info->risk =
            usb_mount_is_system(info->mount) ? VIREO_USB_RISK_SYSTEM : VIREO_USB_RISK_IN_USE;
    else if (is_input(path) || is_used_for_input(self, d))
        info->risk = VIREO_USB_RISK_INPUT;
    return info;
}

static gint by_name(gconstpointer a, gconstpointer b)
{
    const VireoUsbInfo *x = *(VireoUsbInfo *const *)a, *y = *(VireoUsbInfo *const *)b;
    int order = g_utf8_collate(x->name, y->name);
    return order ? order : strcmp(x->id, y->id);
}

GPtrArray *vireo_usb_list_get(VireoUsbList *self)
{
    GPtrArray *all = g_ptr_array_new_with_free_func((GDestroyNotify)vireo_usb_info_free);
    struct udev_enumerate *found = udev_enumerate_new(self->udev);
    struct udev_list_entry *entry;
    udev_enumerate_add_match_subsystem(found, "usb");
    udev_enumerate_add_match_sysattr(found, "idVendor", NULL);
    udev_enumerate_scan_devices(found);
    udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(found))
    {
        struct udev_device *d =
            udev_device_new_from_syspath(self->udev, udev_list_entry_get_name(entry));
        VireoUsbInfo *info = d ? read_info(self, d) : NULL;
        if (info)
            g_ptr_array_add(all, info);
        if (d)
            udev_device_unref(d);
    }
    udev_enumerate_unref(found);
    g_ptr_array_sort(all, by_name);
    return all;
}

static gboolean on_event(gint fd, GIOCondition condition, gpointer data)
{
    VireoUsbList *self = data;
    struct udev_device *d;
    while ((d = udev_monitor_receive_device(self->monitor)))
        udev_device_unref(d);
    g_signal_emit(self, changed_signal, 0);
    return G_SOURCE_CONTINUE;
}

VireoUsbList *vireo_usb_list_new(void)
{
    return g_object_new(VIREO_TYPE_USB_LIST, NULL);
}

static void vireo_usb_list_finalize(GObject *object)
{
    VireoUsbList *self = VIREO_USB_LIST(object);
    if (self->watch)
        g_source_remove(self->watch);
    if (self->monitor)
        udev_monitor_unref(self->monitor);
    if (self->hwdb)
        udev_hwdb_unref(self->hwdb);
    udev_unref(self->udev);
    G_OBJECT_CLASS(vireo_usb_list_parent_class)->finalize(object);
}

static void vireo_usb_list_class_init(VireoUsbListClass *class)
{
    G_OBJECT_CLASS(class)->finalize = vireo_usb_list_finalize;
    changed_signal = g_signal_new("changed", G_TYPE_FROM_CLASS(class), G_SIGNAL_RUN_LAST, 0, NULL,
                                  NULL, NULL, G_TYPE_NONE, 0);
}

static void vireo_usb_list_init(VireoUsbList *self)
{
    self->udev = udev_new();
    self->hwdb = udev_hwdb_new(self->udev);
    /* Events of udevd come when the node has its rights; where there is none, the kernel's have to
     * do. */
    self->monitor = udev_monitor_new_from_netlink(
        self->udev, g_file_test("/run/udev/control", G_FILE_TEST_EXISTS) ? "udev" : "kernel");
    if (!self->monitor)
        return;
    udev_monitor_filter_add_match_subsystem_devtype(self->monitor, "usb", "usb_device");
    if (udev_monitor_enable_receiving(self->monitor) >= 0)
        self->watch = g_unix_fd_add(udev_monitor_get_fd(self->monitor), G_IO_IN, on_event, self);
}
