/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One USB/IP connection, the server's side, as a state machine: bytes from the guest's vhci_hcd in,
 * URBs to whoever has the device, replies out. It opens nothing, waits for nothing and knows no
 * device.
 *
 * The guest is hostile: lengths, packets and sequence numbers are checked here, and what a guest
 * can make the host hold is bounded (USBIP_URB_BYTES_MAX, USBIP_HELD_BYTES_MAX, USBIP_HELD_MAX): a
 * URB beyond that is answered with -ENOMEM. What breaks the protocol ends the connection. Thread:
 * any, one at a time.
 */
#ifndef VIREO_SESSION_USB_USBIP_H
#define VIREO_SESSION_USB_USBIP_H

#include "session/usb/usbip-proto.h"

#include <glib.h>
#include <stdbool.h>
#include <sys/uio.h>

#define USBIP_URB_BYTES_MAX (16u << 20)
#define USBIP_HELD_BYTES_MAX (64u << 20)
#define USBIP_HELD_MAX 2048u

typedef struct usbip usbip;

/* A request for the device. The backend reads the first group, fills the second, and calls
 * usbip_complete exactly once for each that it was given. */
struct usbip_urb {
    guint8 endpoint; /* 0 to 15 */
    bool in;         /* direction of the data */
    guint32 flags;   /* USBIP_ flags */
    guint32 length;  /* bytes of data */
    guint32 packets; /* more than 0: isochronous */
    guint8 *data;    /* of packets: one after the other without gaps, each as long as its `length`,
                      * even if the    guest had it otherwise. The 8 bytes before are `setup` again, as
                      * libusb wants it. */
    const guint8 *setup;
    struct usbip_packet *packet; /* in the host's byte order; `offset` is the guest's */

    gint32 status;         /* 0 or a negative errno */
    guint32 actual_length; /* at most `length`; for packets, which have their own, it is summed up
                              here */

    void *backend; /* the backend's own */
};

struct usbip_ops {
    /* Starts a URB, or completes it at once. */
    void (*submit)(void *ctx, struct usbip_urb *urb);
    /* The guest wants it back: it must be completed soon, with -ECONNRESET if it had no result yet.
     * May complete at once. */
    void (*cancel)(void *ctx, struct usbip_urb *urb);
};

/* devid: what the guest was told at the attach; commands for another end the connection. */
usbip *usbip_new(guint32 devid, const struct usbip_ops *ops, void *ctx);

/* No URB may be with the backend any more (usbip_held is 0). */
void usbip_free(usbip *self);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(usbip, usbip_free)

/* Where the next bytes from the guest go, and how many are wanted at most; 0 while replies must
 * leave first. */
gsize usbip_input(usbip *self, guint8 **to);
/* `n` bytes were put there. FALSE: the guest broke the protocol; `why` then says how. */
gboolean usbip_input_done(usbip *self, gsize n, const char **why);

/* What goes to the guest next: fills at most `max` vectors, returns how many; 0: nothing. */
int usbip_output(usbip *self, struct iovec *iov, int max);
void usbip_output_done(usbip *self, gsize n);

/* From the backend. */
void usbip_complete(usbip *self, struct usbip_urb *urb);

/* URBs that the backend has. */
guint usbip_held(const usbip *self);

/* Cancels all that the backend has and reads no further command; replies are dropped. */
void usbip_cancel_all(usbip *self);

#endif
