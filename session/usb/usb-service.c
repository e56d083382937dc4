/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-service.h"

#include "session/usb/usb-device.h"

#include <gio/gunixfdlist.h>
#include <unistd.h>

#include "vireo-usb1.h"

/* vhci_hcd has 15 high-speed and 15 super-speed ports. */
#define DEVICES_MAX 30
#define BUS_NUMBER 1
#define TEXT_MAX 120 /* characters */

struct lent {
    VireoUsbService *service; /* borrowed: it goes after all of these */
    VireoUsbDevice *device;
    char *id, *name, *place;
    const char *state;
    char *reason; /* why it was taken back, when the session did */
    GDBusMethodInvocation *attaching;
    GPtrArray *detaching; /* of GDBusMethodInvocation */
};

struct _VireoUsbService {
    GObject parent;
    VireoUsbServiceOps ops;
    gpointer ctx;
    VireoUsb1 *skeleton;
    GPtrArray *devices; /* of lent */
    guint last_number;
};

G_DEFINE_FINAL_TYPE(VireoUsbService, vireo_usb_service, G_TYPE_OBJECT)

static void answer_error(GDBusMethodInvocation *call, const GError *error)
{
    const char *name = "org.vireo.Error.Io";
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_BUSY))
        name = "org.vireo.Error.Busy";
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED))
        name = "org.vireo.Error.Denied";
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND))
        name = "org.vireo.Error.NotFound";
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED))
        name = "org.vireo.Error.Unsupported";
    else if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_INVALID_ARGUMENT))
        name = "org.vireo.Error.Invalid";
    g_dbus_method_invocation_return_dbus_error(call, name, error->message);
}

static void publish(VireoUsbService *self)
{
    GVariantBuilder all;
    g_variant_builder_init(&all, G_VARIANT_TYPE("aa{sv}"));
    for (guint i = 0; i < self->devices->len; i++) {
        struct lent *l = g_ptr_array_index(self->devices, i);
        g_variant_builder_open(&all, G_VARIANT_TYPE("a{sv}"));
        g_variant_builder_add(&all, "{sv}", "id", g_variant_new_string(l->id));
        g_variant_builder_add(&all, "{sv}", "name", g_variant_new_string(l->name));
        g_variant_builder_add(&all, "{sv}", "place", g_variant_new_string(l->place));
        g_variant_builder_add(&all, "{sv}", "vendor",
                              g_variant_new_uint16(vireo_usb_device_get_vendor(l->device)));
        g_variant_builder_add(&all, "{sv}", "product",
                              g_variant_new_uint16(vireo_usb_device_get_product(l->device)));
        g_variant_builder_add(&all, "{sv}", "state", g_variant_new_string(l->state));
        g_variant_builder_close(&all);
    }
    vireo_usb1_set_devices(self->skeleton, g_variant_builder_end(&all));
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(self->skeleton));
}

static void set_state(struct lent *l, const char *state)
{
    l->state = state;
    publish(l->service);
}

static void lent_free(gpointer data)
{
    struct lent *l = data;
    g_signal_handlers_disconnect_by_data(l->device, l);
    vireo_usb_device_close(l->device);
    g_object_unref(l->device);
    g_ptr_array_unref(l->detaching);
    g_free(l->id);
    g_free(l->name);
    g_free(l->place);
    g_free(l->reason);
    g_free(l);
}

static struct lent *find(VireoUsbService *self, const char *id)
{
    for (guint i = 0; i < self->devices->len; i++) {
        struct lent *l = g_ptr_array_index(self->devices, i);
        if (strcmp(l->id, id) == 0)
            return l;
    }
    return NULL;
}

static void take_back(struct lent *l, const char *reason)
{
    if (!l->reason)
        l->reason = g_strdup(reason);
    set_state(l, "returning");
    vireo_usb_device_close(l->device);
}

static void on_closed(VireoUsbDevice *device, const GError *why, struct lent *l)
{
    VireoUsbService *self = l->service;
    const char *reason = l->reason ? l->reason
                         : why     ? why->message
                                   : "the guest let go of the device";
    if (l->attaching) {
        g_autoptr(GError) error =
            why ? g_error_copy(why) : g_error_new_literal(G_IO_ERROR, G_IO_ERROR_FAILED, reason);
        answer_error(l->attaching, error);
    } else {
        vireo_usb1_emit_closed(self->skeleton, l->id, l->name, reason);
    }
    for (guint i = 0; i < l->detaching->len; i++)
        vireo_usb1_complete_detach(self->skeleton, g_ptr_array_index(l->detaching, i));
    g_ptr_array_remove(self->devices, l);
    publish(self);
}

/* What an open request needs to find its device again, which may be gone when the answer comes. */
struct request {
    VireoUsbService *service;
    char *id;
};

static void on_stream(gpointer data, int stream, const GError *why)
{
    struct request *r = data;
    struct lent *l = find(r->service, r->id);
    if (!l || strcmp(l->state, "offering") != 0) {
        if (stream >= 0)
            close(stream);
    } else if (stream < 0) {
        GDBusMethodInvocation *call = g_steal_pointer(&l->attaching);
        answer_error(call, why);
        take_back(l, why->message);
    } else {
        vireo_usb_device_serve(l->device, stream);
        set_state(l, "attached");
        vireo_usb1_complete_attach(r->service->skeleton, g_steal_pointer(&l->attaching), NULL,
                                   l->id);
    }
    g_object_unref(r->service);
    g_free(r->id);
    g_free(r);
}

static void on_ready(VireoUsbDevice *device, struct lent *l)
{
    VireoUsbService *self = l->service;
    g_autoptr(GError) error = NULL;
    if (strcmp(l->state, "taking") != 0) /* taken back meanwhile */
        return;
    if (!self->ops.allowed(self->ctx, vireo_usb_device_get_vendor(device),
                           vireo_usb_device_get_product(device), &error)) {
        answer_error(g_steal_pointer(&l->attaching), error);
        take_back(l, error->message);
        return;
    }
    set_state(l, "offering");
    struct request *r = g_new(struct request, 1);
    *r = (struct request){.service = g_object_ref(self), .id = g_strdup(l->id)};
    self->ops.request_stream(self->ctx, vireo_usb_device_get_devid(device),
                             vireo_usb_device_get_speed(device), on_stream, r);
}

/* What the viewer says of a device, cut to what belongs in a line. */
static char *text_of(GVariant *info, const char *key, const char *otherwise)
{
    const char *text = NULL;
    g_variant_lookup(info, key, "&s", &text);
    if (!text || !text[0])
        return g_strdup(otherwise);
    return g_utf8_substring(text, 0, MIN(g_utf8_strlen(text, -1), TEXT_MAX));
}

static gboolean on_attach(VireoUsb1 *skeleton, GDBusMethodInvocation *call, GUnixFDList *fds,
                          GVariant *device, GVariant *info, VireoUsbService *self)
{
    g_autoptr(GError) error = NULL;
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(device), &error) : -1;
    if (fd < 0) {
        g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.Invalid",
                                                   "no device was handed over");
        return TRUE;
    }
    if (self->devices->len >= DEVICES_MAX) {
        close(fd);
        g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.Busy",
                                                   "a guest can have 30 USB devices");
        return TRUE;
    }
    struct lent *l = g_new0(struct lent, 1);
    self->last_number = self->last_number % 0xffff + 1;
    l->service = self;
    l->device = vireo_usb_device_new(fd, BUS_NUMBER << 16 | self->last_number);
    l->id = g_strdup_printf("usb%u", self->last_number);
    l->name = text_of(info, "name", "USB device");
    l->place = text_of(info, "place", "");
    l->state = "taking";
    l->attaching = call;
    l->detaching = g_ptr_array_new();
    g_ptr_array_add(self->devices, l);
    g_signal_connect(l->device, "ready", G_CALLBACK(on_ready), l);
    g_signal_connect(l->device, "closed", G_CALLBACK(on_closed), l);
    publish(self);
    return TRUE;
}

static gboolean on_detach(VireoUsb1 *skeleton, GDBusMethodInvocation *call, const char *id,
                          VireoUsbService *self)
{
    struct lent *l = find(self, id);
    if (!l) {
        g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.NotFound",
                                                   "the guest has no such USB device");
        return TRUE;
    }
    g_ptr_array_add(l->detaching, call);
    take_back(l, "");
    return TRUE;
}

void vireo_usb_service_close_all(VireoUsbService *self, const char *reason)
{
    for (guint i = 0; i < self->devices->len; i++)
        take_back(g_ptr_array_index(self->devices, i), reason);
}

guint vireo_usb_service_get_count(VireoUsbService *self)
{
    return self->devices->len;
}

GDBusInterfaceSkeleton *vireo_usb_service_get_skeleton(VireoUsbService *self)
{
    return G_DBUS_INTERFACE_SKELETON(self->skeleton);
}

VireoUsbService *vireo_usb_service_new(const VireoUsbServiceOps *ops, gpointer ctx)
{
    VireoUsbService *self = g_object_new(VIREO_TYPE_USB_SERVICE, NULL);
    self->ops = *ops;
    self->ctx = ctx;
    return self;
}

static void vireo_usb_service_dispose(GObject *object)
{
    VireoUsbService *self = VIREO_USB_SERVICE(object);
    g_clear_pointer(&self->devices, g_ptr_array_unref);
    g_clear_object(&self->skeleton);
    G_OBJECT_CLASS(vireo_usb_service_parent_class)->dispose(object);
}

static void vireo_usb_service_class_init(VireoUsbServiceClass *class)
{
    G_OBJECT_CLASS(class)->dispose = vireo_usb_service_dispose;
}

static void vireo_usb_service_init(VireoUsbService *self)
{
    self->devices = g_ptr_array_new_with_free_func(lent_free);
    self->skeleton = vireo_usb1_skeleton_new();
    g_signal_connect(self->skeleton, "handle-attach", G_CALLBACK(on_attach), self);
    g_signal_connect(self->skeleton, "handle-detach", G_CALLBACK(on_detach), self);
    publish(self);
}
