/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A USB device of the host that is being lent to a guest: the thread that joins the device
 * (usb-host.h) with a stream to the guest's vhci_hcd (usbip.h).
 *
 * Thread: the functions and signals belong to the main context that was the thread's default at the
 * making.
 */
#ifndef VIREO_SESSION_USB_USB_DEVICE_H
#define VIREO_SESSION_USB_USB_DEVICE_H

#include <gio/gio.h>

#define VIREO_TYPE_USB_DEVICE (vireo_usb_device_get_type())
G_DECLARE_FINAL_TYPE(VireoUsbDevice, vireo_usb_device, VIREO, USB_DEVICE, GObject)

/*
 * Begins to take the device over. Takes `fd`, a device node of usbfs open for reading and writing.
 * devid: what the guest is told at the attach; its own choice among this guest's devices.
 * Signals:
 *   "ready" (): the device is ours; vendor, product and speed are known.
 *   "closed" (GError *why): the last signal: the device has been given back, or could not be had.
 * why: NULL if that was asked for by vireo_usb_device_close or by the guest, which detached it.
 */
VireoUsbDevice *vireo_usb_device_new(int fd, guint32 devid);

guint32 vireo_usb_device_get_devid(VireoUsbDevice *self);

/* From "ready" on. speed: enum usb_device_speed of linux/usb/ch9.h, as vhci_hcd wants it. */
guint16 vireo_usb_device_get_vendor(VireoUsbDevice *self);
guint16 vireo_usb_device_get_product(VireoUsbDevice *self);
guint32 vireo_usb_device_get_speed(VireoUsbDevice *self);

/* Once, after "ready": serves the guest on `stream`, a connected stream socket, which it takes. */
void vireo_usb_device_serve(VireoUsbDevice *self, int stream);

/* Takes the device from the guest; "closed" follows when its drivers here have it again. */
void vireo_usb_device_close(VireoUsbDevice *self);

#endif
