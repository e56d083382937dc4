/* SPDX-License-Identifier: GPL-3.0-or-later */
/* USB/IP from a hostile guest: the input is what it sends; a device that answers, stalls and
 * cancels by turns. */
#include "session/usb/usbip.h"

#include <errno.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct device {
    usbip *link;
    struct usbip_urb *waiting[8];
    unsigned turn;
};

static void finish(struct device *d, struct usbip_urb *urb, int status)
{
    urb->status = status;
    urb->actual_length = urb->length / 2;
    for (guint32 i = 0; i < urb->packets; i++)
        urb->packet[i].actual_length = urb->packet[i].length ^ (i & 1);
    if (urb->in && urb->length)
        memset(urb->data, 0x5a, urb->length);
    usbip_complete(d->link, urb);
}

static void on_submit(void *ctx, struct usbip_urb *urb)
{
    struct device *d = ctx;
    unsigned slot = d->turn++ % 9;
    if (slot == 8) {
        finish(d, urb, -EPIPE);
        return;
    }
    struct usbip_urb *before = d->waiting[slot];
    d->waiting[slot] = urb;
    if (before)
        finish(d, before, 0);
}

static void on_cancel(void *ctx, struct usbip_urb *urb)
{
    struct device *d = ctx;
    for (unsigned i = 0; i < 8; i++)
        if (d->waiting[i] == urb) {
            d->waiting[i] = NULL;
            finish(d, urb, i & 1 ? -ECONNRESET : 0);
            return;
        }
    __builtin_trap(); /* it is not with us */
}

static void take_output(usbip *link, unsigned step)
{
    struct iovec iov[12];
    int n = usbip_output(link, iov, 12);
    gsize all = 0;
    volatile guint8 last = 0;
    for (int i = 0; i < n; i++) {
        all += iov[i].iov_len;
        last = ((guint8 *)iov[i].iov_base)[iov[i].iov_len - 1];
    }
    (void)last;
    usbip_output_done(link, step & 1 ? all : all / 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct usbip_ops ops = {on_submit, on_cancel};
    struct device d = {0};
    d.link = usbip_new(1, &ops, &d);
    unsigned step = 0;
    while (size > 0) {
        guint8 *to;
        const char *why;
        gsize want = MIN(usbip_input(d.link, &to), size);
        if (want == 0) {
            take_output(d.link, 1);
            continue;
        }
        memcpy(to, data, want);
        data += want;
        size -= want;
        if (!usbip_input_done(d.link, want, &why))
            break;
        if (++step % 3 == 0)
            take_output(d.link, step);
    }
    usbip_cancel_all(d.link);
    if (usbip_held(d.link))
        __builtin_trap();
    usbip_free(d.link);
    return 0;
}
