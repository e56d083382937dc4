/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * USB redirection channels: a device of a SPICE client (usbredir, session/usb/usb-redir.h) becomes
 * a device of the guest by the same path as a device of this computer, USB/IP on a stream of the
 * guest's agent.
 */
#include <errno.h>
#include <glib-unix.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/log.h"
#include "session/remote/spice-int.h"
#include "session/usb/usb-redir.h"

/* Bus 2: bus 1 is for this computer's devices (session/usb/usb-service.c). */
enum { CHANNELS = 4, BUS_NUMBER = 2, VECTORS = 48, TURNS = 64 };

struct channel {
    SpiceCharDeviceInstance instance; /* first: spice-server hands it back */
    struct spice_usb *usb;
    usb_redir *redir; /* while the channel is connected */
    gboolean broken;

    guint32 devid;
    guint64 request; /* number of the last one, so that an old answer finds nobody */
    usbip *link;
    int stream;
    guint in_id, out_id, end_id, wake_id;
    const char *why; /* it ends; static */
};

struct spice_usb {
    SpiceServer *server;
    const VireoRemoteUsb *ops;
    gpointer ops_ctx;
    struct channel channels[CHANNELS];
    guint last_number;
    guint64 last_request;
    gboolean view_only;
    gatomicrefcount refs; /* requests hold one */
    gboolean freed;
};

/* ---- the guest's stream ---- */

static void end_link(struct channel *c)
{
    c->request = 0;
    g_clear_handle_id(&c->in_id, g_source_remove);
    g_clear_handle_id(&c->out_id, g_source_remove);
    g_clear_handle_id(&c->end_id, g_source_remove);
    if (!c->link)
        return;
    usbip_cancel_all(c->link); /* usb_redir completes at once */
    usb_redir_set_link(c->redir, NULL);
    g_clear_pointer(&c->link, usbip_free);
    close(c->stream);
}

static gboolean on_end(gpointer data)
{
    struct channel *c = data;
    c->end_id = 0;
    log_line(LOG_INFO, "usb", "a SPICE client's device is given back: %s", c->why);
    end_link(c);
    usb_redir_reject(c->redir);
    return G_SOURCE_REMOVE;
}

/* Not at once: it may be in the middle of a call of what is to end. */
static void end_later(struct channel *c, const char *why)
{
    c->why = why;
    if (!c->end_id)
        c->end_id = g_idle_add_full(G_PRIORITY_DEFAULT, on_end, c, NULL);
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data);
static gboolean on_writable(gint fd, GIOCondition condition, gpointer data);

static gboolean write_guest(struct channel *c)
{
    for (;;) {
        struct iovec iov[VECTORS];
        int count = usbip_output(c->link, iov, VECTORS);
        if (count == 0)
            return TRUE;
        ssize_t n = writev(c->stream, iov, count);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        usbip_output_done(c->link, (gsize)n);
    }
}

/* Writes what can be written, and waits for what cannot be, and for more. */
static void pump(struct channel *c)
{
    guint8 *to;
    struct iovec iov[3];
    if (!c->link || c->end_id)
        return;
    if (!write_guest(c)) {
        end_later(c, "the guest's stream broke");
        return;
    }
    if (usbip_output(c->link, iov, 3) && !c->out_id)
        c->out_id = g_unix_fd_add(c->stream, G_IO_OUT, on_writable, c);
    if (usbip_input(c->link, &to) && !c->in_id)
        c->in_id = g_unix_fd_add(c->stream, G_IO_IN, on_readable, c);
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer data)
{
    struct channel *c = data;
    c->out_id = 0;
    pump(c);
    return G_SOURCE_REMOVE;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer data)
{
    struct channel *c = data;
    for (int i = 0; i < TURNS; i++) {
        guint8 *to;
        const char *why = "the guest let go of it";
        gsize want = usbip_input(c->link, &to);
        ssize_t n = want ? read(fd, to, want) : 0;
        if (!want || (n < 0 && (errno == EAGAIN || errno == EINTR)))
            break;
        if (n <= 0 || !usbip_input_done(c->link, (gsize)n, &why)) {
            c->in_id = 0;
            end_later(c, why);
            return G_SOURCE_REMOVE;
        }
    }
    c->in_id = 0;
    pump(c);
    return G_SOURCE_REMOVE;
}

static void submit(void *ctx, struct usbip_urb *urb)
{
    usb_redir_submit(((struct channel *)ctx)->redir, urb);
}

static void cancel(void *ctx, struct usbip_urb *urb)
{
    usb_redir_cancel(((struct channel *)ctx)->redir, urb);
}

struct request {
    struct spice_usb *usb;
    struct channel *channel;
    guint64 number;
};

static void unref(struct spice_usb *u)
{
    if (g_atomic_ref_count_dec(&u->refs))
        g_free(u);
}

static void on_stream(gpointer data, int stream, const GError *why)
{
    static const struct usbip_ops ops = {submit, cancel};
    struct request *r = data;
    struct channel *c = r->channel;
    gboolean wanted = !r->usb->freed && c->request == r->number && c->redir;
    if (!wanted) {
        if (stream >= 0)
            close(stream);
    } else if (stream < 0) {
        usb_redir_reject(c->redir);
    } else {
        g_unix_set_fd_nonblocking(stream, TRUE, NULL);
        c->stream = stream;
        c->link = usbip_new(c->devid, &ops, c);
        usb_redir_set_link(c->redir, c->link);
        pump(c);
    }
    unref(r->usb);
    g_free(r);
}

/* ---- the client's device ---- */

static gboolean on_wake(gpointer data)
{
    struct channel *c = data;
    c->wake_id = 0;
    spice_server_char_device_wakeup(&c->instance);
    return G_SOURCE_REMOVE;
}

/* Not at once: spice-server hands over what the client sent meanwhile, and that may end the link in
 * the midst of a request of its guest. */
static void on_output(void *ctx)
{
    struct channel *c = ctx;
    if (!c->wake_id)
        c->wake_id = g_idle_add_full(G_PRIORITY_DEFAULT, on_wake, c, NULL);
}

static void on_plugged(void *ctx, const struct usb_host_info *info)
{
    struct channel *c = ctx;
    struct spice_usb *u = c->usb;
    g_autoptr(GError) error = NULL;
    if (u->view_only || !u->ops ||
        !u->ops->allowed(u->ops_ctx, info->vendor, info->product, &error)) {
        usb_redir_reject(c->redir);
        return;
    }
    struct request *r = g_new(struct request, 1);
    u->last_number = u->last_number % 0xffff + 1;
    c->devid = BUS_NUMBER << 16 | u->last_number;
    c->request = ++u->last_request;
    *r = (struct request){u, c, c->request};
    g_atomic_ref_count_inc(&u->refs);
    u->ops->request_stream(u->ops_ctx, c->devid, info->speed, on_stream, r);
}

static void on_unplugged(void *ctx)
{
    end_link(ctx);
}

static const struct usb_redir_ops redir_ops = {on_output, on_plugged, on_unplugged};

/* ---- the channel ---- */

static void drop(struct channel *c)
{
    g_clear_handle_id(&c->wake_id, g_source_remove);
    if (!c->redir)
        return;
    end_link(c);
    g_clear_pointer(&c->redir, usb_redir_free);
    g_clear_handle_id(&c->wake_id, g_source_remove);
}

/* A client took the channel, or left it. */
static void set_state(SpiceCharDeviceInstance *sin, int connected)
{
    struct channel *c = (struct channel *)sin;
    drop(c);
    c->broken = FALSE;
    if (connected) {
        c->redir = usb_redir_new(&redir_ops, c);
        on_output(c); /* the greeting */
    }
}

static int write_bytes(SpiceCharDeviceInstance *sin, const uint8_t *buf, int len)
{
    struct channel *c = (struct channel *)sin;
    if (c->redir && !c->broken && len > 0 && !usb_redir_feed(c->redir, buf, (gsize)len)) {
        log_line(LOG_WARNING, "usb", "a SPICE client broke the USB redirection protocol");
        c->broken = TRUE; /* until the client connects anew */
        end_link(c);
    }
    if (!c->broken)
        pump(c);
    return len;
}

static int read_bytes(SpiceCharDeviceInstance *sin, uint8_t *buf, int len)
{
    struct channel *c = (struct channel *)sin;
    return c->redir && len > 0 ? (int)usb_redir_take(c->redir, buf, (gsize)len) : 0;
}

static const SpiceCharDeviceInterface interface = {
    .base = {SPICE_INTERFACE_CHAR_DEVICE, "vireo usb", SPICE_INTERFACE_CHAR_DEVICE_MAJOR,
             SPICE_INTERFACE_CHAR_DEVICE_MINOR},
    .state = set_state,
    .write = write_bytes,
    .read = read_bytes,
};

void spice_usb_set_view_only(struct spice_usb *u, gboolean on)
{
    u->view_only = on;
}

struct spice_usb *spice_usb_new(SpiceServer *server, const VireoRemoteUsb *ops, gpointer ctx)
{
    struct spice_usb *u = g_new0(struct spice_usb, 1);
    g_atomic_ref_count_init(&u->refs);
    u->server = server;
    u->ops = ops;
    u->ops_ctx = ctx;
    for (guint i = 0; i < CHANNELS; i++) {
        struct channel *c = &u->channels[i];
        c->usb = u;
        c->instance.base.sif = &interface.base;
        c->instance.subtype = "usbredir";
        spice_server_add_interface(server, &c->instance.base);
    }
    return u;
}

void spice_usb_free(struct spice_usb *u)
{
    u->freed = TRUE;
    for (guint i = 0; i < CHANNELS; i++) {
        drop(&u->channels[i]);
        spice_server_remove_interface(&u->channels[i].instance.base);
    }
    unref(u);
}
