/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * USB devices lent to one guest, and their D-Bus interface org.vireo.Usb1 (data/dbus). How the
 * guest is reached and what the person allows is the session's to say. Thread: the main context
 * that was the thread's default at the making.
 */
#ifndef VIREO_SESSION_USB_USB_SERVICE_H
#define VIREO_SESSION_USB_USB_SERVICE_H

#include <gio/gio.h>

#define VIREO_USB_PATH "/org/vireo/Usb1"

#define VIREO_TYPE_USB_SERVICE (vireo_usb_service_get_type())
G_DECLARE_FINAL_TYPE(VireoUsbService, vireo_usb_service, VIREO, USB_SERVICE, GObject)

/* `stream`: connected, taken by the callee; or -1 with why. Exactly once for each request. */
typedef void (*VireoUsbStreamFunc)(gpointer data, int stream, const GError *why);

typedef struct {
    /* Whether a device may be lent now. FALSE with *error: to be told to the person. */
    gboolean (*allowed)(gpointer ctx, guint16 vendor, guint16 product, GError **error);
    /* Asks the guest's agent for a stream that vhci_hcd serves as device `devid` of `speed` (enum
     * usb_device_speed of linux/usb/ch9.h). */
    void (*request_stream)(gpointer ctx, guint32 devid, guint32 speed, VireoUsbStreamFunc done,
                           gpointer data);
} VireoUsbServiceOps;

VireoUsbService *vireo_usb_service_new(const VireoUsbServiceOps *ops, gpointer ctx);

/* To be exported at VIREO_USB_PATH on each viewer's connection. Borrowed. */
GDBusInterfaceSkeleton *vireo_usb_service_get_skeleton(VireoUsbService *self);

/* Gives every device back: the session ended, or the person withdrew the permission. `reason` for
 * people. */
void vireo_usb_service_close_all(VireoUsbService *self, const char *reason);

/* Devices that are not yet given back. */
guint vireo_usb_service_get_count(VireoUsbService *self);

#endif
