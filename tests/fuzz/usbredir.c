/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A SPICE client's usbredir channel: the input is a row of steps, each a packet of the client's
 * with a right or a wrong length, a request of the guest, or one taken back. */
#include "session/usb/usb-redir.h"

#include <string.h>
#include <usbredirproto.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HELD = 8 };

struct guest {
    usb_redir *redir;
    usbip *link;
    gboolean plugged;
    guint32 seqnum;
};

static void on_output(void *ctx)
{
    struct guest *g = ctx;
    guint8 out[512];
    while (usb_redir_take(g->redir, out, sizeof out) == sizeof out)
        ;
}

static void on_submit(void *ctx, struct usbip_urb *urb)
{
    usb_redir_submit(((struct guest *)ctx)->redir, urb);
}

static void on_cancel(void *ctx, struct usbip_urb *urb)
{
    usb_redir_cancel(((struct guest *)ctx)->redir, urb);
}

static void on_plugged(void *ctx, const struct usb_host_info *info)
{
    static const struct usbip_ops ops = {on_submit, on_cancel};
    struct guest *g = ctx;
    g->plugged = TRUE;
    g->link = usbip_new(1, &ops, g);
    usb_redir_set_link(g->redir, g->link);
}

static void end_link(struct guest *g)
{
    if (!g->link)
        return;
    usbip_cancel_all(g->link);
    if (usbip_held(g->link))
        __builtin_trap(); /* a URB was lost */
    usb_redir_set_link(g->redir, NULL);
    g_clear_pointer(&g->link, usbip_free);
}

static void on_unplugged(void *ctx)
{
    struct guest *g = ctx;
    g->plugged = FALSE;
    if (usbip_held(g->link))
        __builtin_trap();
    end_link(g);
}

static void feed_guest(struct guest *g, const void *bytes, gsize len)
{
    const guint8 *p = bytes;
    const char *why;
    while (len && g->link) {
        guint8 *to;
        gsize n = MIN(usbip_input(g->link, &to), len);
        if (!n) {
            struct iovec iov[12];
            gsize all = 0;
            int vectors = usbip_output(g->link, iov, 12);
            for (int i = 0; i < vectors; i++)
                all += iov[i].iov_len;
            usbip_output_done(g->link, all);
            continue;
        }
        memcpy(to, p, n);
        p += n;
        len -= n;
        if (!usbip_input_done(g->link, n, &why))
            end_link(g);
    }
}

/* s: endpoint and direction, flags, length, packets; the setup is of s too. */
static void request(struct guest *g, const guint8 s[8])
{
    static const guint8 nothing[4096];
    guint32 length = s[2] * 16u, packets = s[3] & 0x80 ? s[3] & 7 : 0;
    struct usbip_command c = {.command = GUINT32_TO_BE(USBIP_CMD_SUBMIT),
                              .seqnum = GUINT32_TO_BE(++g->seqnum),
                              .devid = GUINT32_TO_BE(1),
                              .direction = GUINT32_TO_BE(s[0] >> 7),
                              .endpoint = GUINT32_TO_BE(s[0] & 15)};
    c.submit.length = (gint32)GUINT32_TO_BE(length);
    c.submit.packets = GUINT32_TO_BE(packets);
    memcpy(c.submit.setup, s, 8);
    feed_guest(g, &c, sizeof c);
    if (!(s[0] & 0x80))
        feed_guest(g, nothing, length);
    for (guint32 i = 0; i < packets; i++) {
        struct usbip_packet p = {.offset = GUINT32_TO_BE(i * 16), .length = GUINT32_TO_BE(16)};
        feed_guest(g, &p, sizeof p);
    }
}

static void take_back(struct guest *g, guint8 which)
{
    struct usbip_command c = {.command = GUINT32_TO_BE(USBIP_CMD_UNLINK),
                              .seqnum = GUINT32_TO_BE(++g->seqnum),
                              .devid = GUINT32_TO_BE(1)};
    c.unlink.seqnum = GUINT32_TO_BE(which);
    feed_guest(g, &c, sizeof c);
}

static gboolean packet(struct guest *g, guint32 type, guint64 id, const guint8 *data, guint32 len)
{
    struct {
        guint32 type, length;
        guint64 id;
    } h = {GUINT32_TO_LE(type), GUINT32_TO_LE(len), GUINT64_TO_LE(id)};
    /* before the greeting numbers have 32 bits */
    gsize head = type == usb_redir_hello ? 12 : 16;
    return usb_redir_feed(g->redir, (guint8 *)&h, head) && usb_redir_feed(g->redir, data, len);
}

static gboolean greet(struct guest *g)
{
    guint8 hello[68] = "client";
    struct usb_redir_ep_info_header ep;
    struct usb_redir_device_connect_header c = {.speed = usb_redir_speed_high};
    hello[64] = 0x7e; /* all but bulk streams and receiving */
    memset(&ep, 0, sizeof ep);
    for (int i = 0; i < 32; i++) {
        ep.type[i] = (guint8)(i & 15 ? (i & 15) % 4 : 0);
        ep.interval[i] = 1;
    }
    return packet(g, usb_redir_hello, 0, hello, sizeof hello) &&
           packet(g, usb_redir_ep_info, 0, (guint8 *)&ep,
                  offsetof(struct usb_redir_ep_info_header, max_streams)) &&
           packet(g, usb_redir_device_connect, 0, (guint8 *)&c, sizeof c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct usb_redir_ops ops = {on_output, on_plugged, on_unplugged};
    struct guest g = {0};
    g.redir = usb_redir_new(&ops, &g);
    gboolean good = size && (data[0] & 1 ? greet(&g) : usb_redir_feed(g.redir, data, size));
    if (size && !(data[0] & 1))
        size = 0;
    for (size_t at = 1; good && at + 12 <= size; at += 12) {
        const guint8 *s = data + at;
        guint32 more = (guint32)MIN((size_t)s[3], size - at - 12);
        switch (s[0] % 4) {
        case 0: request(&g, s + 4); break;
        case 1: take_back(&g, s[1]); break;
        default:
            good = packet(&g, s[1], s[2], s + 4, 8 + more);
            at += more;
            break;
        }
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    end_link(&g);
    usb_redir_free(g.redir);
    return 0;
}
