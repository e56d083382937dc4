/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One USB device of the host, driven through libusb on an open device node: takes it from the
 * host's drivers, runs URBs, gives it back. It looks for no device by itself and opens nothing: the
 * node is handed over.
 *
 * Thread: one at a time. usb_host_open and usb_host_close wait for the host's drivers (seconds at
 * worst), so they do not belong on a thread that others wait for; completions come out of
 * usb_host_dispatch.
 */
#ifndef VIREO_SESSION_USB_USB_HOST_H
#define VIREO_SESSION_USB_USB_HOST_H

#include "session/usb/usbip.h"

#include <gio/gio.h>
#include <poll.h>

typedef struct usb_host usb_host;

struct usb_host_info {
    guint16 vendor, product;
    guint32 speed; /* enum usb_device_speed of linux/usb/ch9.h; SUPER for everything beyond */
};

/* Takes `fd`, a device node of usbfs open for reading and writing, also when it fails. All
 * interfaces are detached from their drivers and claimed; if one cannot be, all that were are given
 * back. */
usb_host *usb_host_open(int fd, GError **error);

/* Gives the device back to the drivers that had it, in the configuration that it had. No URB may be
 * running. Closes the node. */
void usb_host_close(usb_host *self);

const struct usb_host_info *usb_host_info(const usb_host *self);

/* Whom completions go to; before the first submit. */
void usb_host_set_link(usb_host *self, usbip *link);

/* As struct usbip_ops has them; `self` is a usb_host. */
void usb_host_submit(void *self, struct usbip_urb *urb);
void usb_host_cancel(void *self, struct usbip_urb *urb);

/* What to poll for: fills at most `max`, returns how many there are. They stay the same while it is
 * open. */
guint usb_host_pollfds(usb_host *self, struct pollfd *fds, guint max);

/* Lets completions happen that are due, and waits for them for at most `timeout_ms`. */
void usb_host_dispatch(usb_host *self, guint timeout_ms);

/* The device is no longer there. */
bool usb_host_is_gone(const usb_host *self);

#endif
