/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-device.h"

#include "session/usb/usb-host.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POLL_MAX 16
#define IOV_MAX_HERE 48
/* How long the kernel may take to give cancelled URBs back. */
#define CANCEL_MS 5000

struct _VireoUsbDevice {
    GObject parent;
    GMainContext *context;
    guint32 devid;
    struct usb_host_info info; /* written before "ready" */

    GMutex lock;
    int stream; /* to be taken over by the thread, or -1 */
    bool closing;
    int wake;

    /* Of the thread. */
    int fd;
    usb_host *host;
    usbip *link;
    int guest; /* the stream, or -1 */
    GError *why;
};

G_DEFINE_FINAL_TYPE(VireoUsbDevice, vireo_usb_device, G_TYPE_OBJECT)

enum { READY, CLOSED, SIGNALS };
static guint signals[SIGNALS];

static gboolean emit_ready(gpointer data)
{
    g_signal_emit(data, signals[READY], 0);
    return G_SOURCE_REMOVE;
}

static gboolean emit_closed(gpointer data)
{
    VireoUsbDevice *self = data;
    g_signal_emit(self, signals[CLOSED], 0, self->why);
    return G_SOURCE_REMOVE;
}

static void post(VireoUsbDevice *self, GSourceFunc func)
{
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, func, g_object_ref(self), g_object_unref);
    g_source_attach(source, self->context);
}

static void fail(VireoUsbDevice *self, const char *text)
{
    if (!self->why)
        self->why = g_error_new_literal(G_IO_ERROR, G_IO_ERROR_FAILED, text);
}

/* FALSE: to be closed. */
static gboolean take_orders(VireoUsbDevice *self)
{
    guint64 count;
    (void)!read(self->wake, &count, sizeof count);
    g_mutex_lock(&self->lock);
    if (self->stream >= 0) {
        self->guest = self->stream;
        self->stream = -1;
    }
    gboolean on = !self->closing;
    g_mutex_unlock(&self->lock);
    return on;
}

/* FALSE: the guest is gone, or broke the protocol. */
static gboolean read_guest(VireoUsbDevice *self)
{
    for (int i = 0; i < 64; i++) { /* then the device has its turn */
        guint8 *to;
        gsize want = usbip_input(self->link, &to);
        if (want == 0)
            return TRUE;
        ssize_t n = read(self->guest, to, want);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        if (n == 0)
            return FALSE;
        const char *why;
        if (!usbip_input_done(self->link, (gsize)n, &why)) {
            g_autofree char *text = g_strdup_printf("the guest broke the USB/IP protocol: %s", why);
            fail(self, text);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean write_guest(VireoUsbDevice *self)
{
    for (;;) {
        struct iovec iov[IOV_MAX_HERE];
        int count = usbip_output(self->link, iov, IOV_MAX_HERE);
        if (count == 0)
            return TRUE;
        ssize_t n = writev(self->guest, iov, count);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        usbip_output_done(self->link, (gsize)n);
    }
}

static short guest_events(VireoUsbDevice *self)
{
    guint8 *to;
    struct iovec iov[3];
    return (short)((usbip_input(self->link, &to) ? POLLIN : 0) |
                   (usbip_output(self->link, iov, 3) ? POLLOUT : 0));
}

static gboolean device_failed(const struct pollfd *fds, guint n)
{
    for (guint i = 0; i < n; i++)
        if (fds[i].revents & (POLLERR | POLLHUP | POLLNVAL))
            return TRUE;
    return FALSE;
}

static void serve(VireoUsbDevice *self)
{
    struct pollfd fds[POLL_MAX];
    for (;;) {
        guint n = usb_host_pollfds(self->host, fds, POLL_MAX - 2);
        fds[n] = (struct pollfd){.fd = self->wake, .events = POLLIN};
        fds[n + 1] =
            (struct pollfd){.fd = self->guest, .events = self->guest >= 0 ? guest_events(self) : 0};
        if (poll(fds, n + 2, -1) < 0 && errno != EINTR)
            return;
        usb_host_dispatch(self->host, 0);
        if (device_failed(fds, n) || usb_host_is_gone(self->host)) {
            fail(self, "the device was unplugged");
            return;
        }
        if (fds[n].revents && !take_orders(self))
            return;
        if (self->guest < 0)
            continue;
        if ((fds[n + 1].revents && !read_guest(self)) || !write_guest(self))
            return;
    }
}

/* Whether nothing runs on the device any more. */
static gboolean settle(VireoUsbDevice *self)
{
    usbip_cancel_all(self->link);
    gint64 deadline = g_get_monotonic_time() + CANCEL_MS * 1000;
    while (usbip_held(self->link) && g_get_monotonic_time() < deadline)
        usb_host_dispatch(self->host, 100);
    return usbip_held(self->link) == 0;
}

static gpointer run(gpointer data)
{
    g_autoptr(VireoUsbDevice) self = data;
    const struct usbip_ops ops = {.submit = usb_host_submit, .cancel = usb_host_cancel};
    self->host = usb_host_open(self->fd, &self->why);
    if (self->host) {
        self->info = *usb_host_info(self->host);
        self->link = usbip_new(self->devid, &ops, self->host);
        usb_host_set_link(self->host, self->link);
        post(self, emit_ready);
        serve(self);
        if (settle(self)) {
            usbip_free(self->link);
            usb_host_close(self->host);
        } else {
            /* Freed memory that the kernel still writes to would be worse than memory that is lost.
             */
            g_warning("USB device %04x:%04x does not give its requests back", self->info.vendor,
                      self->info.product);
        }
    }
    if (self->guest >= 0)
        close(self->guest);
    post(self, emit_closed);
    return NULL;
}

VireoUsbDevice *vireo_usb_device_new(int fd, guint32 devid)
{
    VireoUsbDevice *self = g_object_new(VIREO_TYPE_USB_DEVICE, NULL);
    self->fd = fd;
    self->devid = devid;
    g_thread_unref(g_thread_new("vireo-usb", run, g_object_ref(self)));
    return self;
}

guint32 vireo_usb_device_get_devid(VireoUsbDevice *self)
{
    return self->devid;
}

guint16 vireo_usb_device_get_vendor(VireoUsbDevice *self)
{
    return self->info.vendor;
}

guint16 vireo_usb_device_get_product(VireoUsbDevice *self)
{
    return self->info.product;
}

guint32 vireo_usb_device_get_speed(VireoUsbDevice *self)
{
    return self->info.speed;
}

static void wake(VireoUsbDevice *self)
{
    guint64 one = 1;
    (void)!write(self->wake, &one, sizeof one);
}

void vireo_usb_device_serve(VireoUsbDevice *self, int stream)
{
    g_unix_set_fd_nonblocking(stream, TRUE, NULL);
    g_mutex_lock(&self->lock);
    self->stream = stream;
    g_mutex_unlock(&self->lock);
    wake(self);
}

void vireo_usb_device_close(VireoUsbDevice *self)
{
    g_mutex_lock(&self->lock);
    self->closing = true;
    g_mutex_unlock(&self->lock);
    wake(self);
}

static void vireo_usb_device_finalize(GObject *object)
{
    VireoUsbDevice *self = VIREO_USB_DEVICE(object);
    if (self->stream >= 0)
        close(self->stream);
    close(self->wake);
    g_mutex_clear(&self->lock);
    g_clear_error(&self->why);
    g_main_context_unref(self->context);
    G_OBJECT_CLASS(vireo_usb_device_parent_class)->finalize(object);
}

static void vireo_usb_device_class_init(VireoUsbDeviceClass *class)
{
    G_OBJECT_CLASS(class)->finalize = vireo_usb_device_finalize;
    signals[READY] = g_signal_new("ready", G_TYPE_FROM_CLASS(class), G_SIGNAL_RUN_LAST, 0, NULL,
                                  NULL, NULL, G_TYPE_NONE, 0);
    signals[CLOSED] = g_signal_new("closed", G_TYPE_FROM_CLASS(class), G_SIGNAL_RUN_LAST, 0, NULL,
                                   NULL, NULL, G_TYPE_NONE, 1, G_TYPE_ERROR);
}

static void vireo_usb_device_init(VireoUsbDevice *self)
{
    self->context = g_main_context_ref_thread_default();
    self->stream = self->guest = -1;
    self->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    g_mutex_init(&self->lock);
}
