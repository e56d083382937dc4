/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A USB device at the other end of a usbredir connection (the protocol of SPICE's USB redirection
 * channels; usbredir-protocol.txt 0.7): the side of who uses it, as a backend of usbip.h. Bytes in,
 * bytes out; it opens nothing.
 *
 * The client is hostile: what it sends is checked here and by libusbredirparser, what waits for the
 * guest is bounded. Thread: the main loop's (isochronous output is paced by GLib timers).
 */
#ifndef VIREO_SESSION_USB_USB_REDIR_H
#define VIREO_SESSION_USB_USB_REDIR_H

#include "session/usb/usb-host.h"

typedef struct usb_redir usb_redir;

struct usb_redir_ops {
    /* Bytes wait (usb_redir_take). */
    void (*output)(void *ctx);
    /* There is a device; it is gone: by then every URB has been completed. */
    void (*plugged)(void *ctx, const struct usb_host_info *info);
    void (*unplugged)(void *ctx);
};

/* ops: static. */
usb_redir *usb_redir_new(const struct usb_redir_ops *ops, void *ctx);
/* URBs that it still has are completed. */
void usb_redir_free(usb_redir *self);

/* From the client. FALSE: it broke the protocol; nothing more is to be fed. */
gboolean usb_redir_feed(usb_redir *self, const guint8 *bytes, gsize len);
/* To the client: at most `room` bytes; how many. */
gsize usb_redir_take(usb_redir *self, guint8 *out, gsize room);

/* Whom completions go to; NULL: nobody has the device. */
void usb_redir_set_link(usb_redir *self, usbip *link);
/* The device is not wanted: the client gets it back. */
void usb_redir_reject(usb_redir *self);

/* As struct usbip_ops has them; `self` is a usb_redir. */
void usb_redir_submit(void *self, struct usbip_urb *urb);
void usb_redir_cancel(void *self, struct usbip_urb *urb);

#endif
