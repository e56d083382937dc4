/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The USB devices of this computer, for the viewer's device chooser: names from the hardware
 * database, what would be lost if a guest had them, and their nodes opened with the person's
 * rights. Thread: the main context that was the thread's default at the making.
 */
#ifndef VIREO_SESSION_USB_USB_LIST_H
#define VIREO_SESSION_USB_USB_LIST_H

#include <gio/gio.h>

typedef enum {
    VIREO_USB_RISK_NONE,
    VIREO_USB_RISK_INPUT,  /* a keyboard or a mouse, perhaps this computer's only one: ask */
    VIREO_USB_RISK_IN_USE, /* holds a mounted file system: ask */
    VIREO_USB_RISK_SYSTEM, /* this computer runs from it: refuse */
} VireoUsbRisk;

/* Boxed; read-only. */
typedef struct {
    char *id;     /* where it is plugged in ("1-2.3"); stays while it is plugged in */
    char *key;    /* what it is, for "always connect": vendor:product[:serial number] */
    char *name;   /* for people, made valid UTF-8 */
    char *detail; /* "1234:5678, bus 1, device 4" */
    guint16 vendor, product;
    guint bus, device;
    VireoUsbRisk risk;
    char *mount; /* where it is mounted (IN_USE, SYSTEM), or NULL */
} VireoUsbInfo;

#define VIREO_TYPE_USB_INFO (vireo_usb_info_get_type())
GType vireo_usb_info_get_type(void);
VireoUsbInfo *vireo_usb_info_copy(const VireoUsbInfo *info);
void vireo_usb_info_free(VireoUsbInfo *info);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VireoUsbInfo, vireo_usb_info_free)

/* Signals: "changed" () when a device came or went. */
#define VIREO_TYPE_USB_LIST (vireo_usb_list_get_type())
G_DECLARE_FINAL_TYPE(VireoUsbList, vireo_usb_list, VIREO, USB_LIST, GObject)

VireoUsbList *vireo_usb_list_new(void);

/* All but hubs and what is behind vhci_hcd (that would be this list's own devices again). Of
 * VireoUsbInfo, by name. */
GPtrArray *vireo_usb_list_get(VireoUsbList *self);

/* Opens the node for reading and writing; where the account may not, asks the desktop's helper for
 * it (spice-client-glib-usb-acl-helper, which asks the person by polkit). Errors: G_IO_ERROR,
 * PERMISSION_DENIED with what can be done about it, NOT_FOUND when it was unplugged, CANCELLED.
 * Result: a descriptor. */
void vireo_usb_open_async(const VireoUsbInfo *info, GCancellable *cancellable,
                          GAsyncReadyCallback done, gpointer data);
int vireo_usb_open_finish(GAsyncResult *result, GError **error);

#endif
