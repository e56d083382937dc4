/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/usb/usb-host.h"

#include <errno.h>
#include <libusb.h>
#include <linux/usb/ch9.h>
#include <unistd.h>

#define INTERFACES_MAX 32

struct usb_host {
    int fd;
    libusb_context *context;
    libusb_device_handle *handle;
    struct usb_host_info info;
    usbip *link;
    bool gone;
    int configuration_before;
    int configuration;
    guint32 claimed;  /* bit n: interface n is ours */
    guint32 detached; /* bit n: a driver of the host had it */
    guint8 alternate[INTERFACES_MAX];
    guint8 type[2]
               [16]; /* transfer type + 1 by direction (1: in) and endpoint; 0: no such endpoint */
};

/* A URB under way. */
struct transfer {
    usb_host *host;
    struct usbip_urb *urb;
    struct libusb_transfer *usb;
};

static int to_errno(int error)
{
    switch (error) {
    case LIBUSB_ERROR_NO_DEVICE: return -ENODEV;
    case LIBUSB_ERROR_NOT_FOUND: return -ENOENT;
    case LIBUSB_ERROR_BUSY: return -EBUSY;
    case LIBUSB_ERROR_NO_MEM: return -ENOMEM;
    case LIBUSB_ERROR_INVALID_PARAM:
    case LIBUSB_ERROR_NOT_SUPPORTED: return -EINVAL;
    case LIBUSB_ERROR_PIPE: return -EPIPE;
    case LIBUSB_ERROR_TIMEOUT: return -ETIMEDOUT;
    default: return error < 0 ? -EPROTO : 0;
    }
}

static int status_errno(enum libusb_transfer_status status)
{
    switch (status) {
    case LIBUSB_TRANSFER_COMPLETED: return 0;
    case LIBUSB_TRANSFER_TIMED_OUT: return -ETIMEDOUT;
    case LIBUSB_TRANSFER_CANCELLED: return -ECONNRESET;
    case LIBUSB_TRANSFER_STALL: return -EPIPE;
    case LIBUSB_TRANSFER_NO_DEVICE: return -ESHUTDOWN;
    case LIBUSB_TRANSFER_OVERFLOW: return -EOVERFLOW;
    default: return -EPROTO;
    }
}

static int note(usb_host *self, int error)
{
    if (error == LIBUSB_ERROR_NO_DEVICE)
        self->gone = true;
    return to_errno(error);
}

/* Which endpoints there are in the present configuration and alternate settings. */
static void read_endpoints(usb_host *self)
{
    memset(self->type, 0, sizeof self->type);
    struct libusb_config_descriptor *config;
    if (libusb_get_active_config_descriptor(libusb_get_device(self->handle), &config) < 0)
        return;
    for (int i = 0; i < config->bNumInterfaces; i++) {
        const struct libusb_interface *interface = &config->interface[i];
        for (int a = 0; a < interface->num_altsetting; a++) {
            const struct libusb_interface_descriptor *d = &interface->altsetting[a];
            if (d->bInterfaceNumber >= INTERFACES_MAX ||
                self->alternate[d->bInterfaceNumber] != d->bAlternateSetting)
                continue;
            for (int e = 0; e < d->bNumEndpoints; e++) {
                guint8 address = d->endpoint[e].bEndpointAddress;
                self->type[address >> 7][address & 15] = (d->endpoint[e].bmAttributes & 3) + 1;
            }
        }
    }
    libusb_free_config_descriptor(config);
}

/* Each interface number of the present configuration to `each`; stops at its first error. */
static int for_interfaces(usb_host *self, int (*each)(usb_host *self, int number))
{
    struct libusb_config_descriptor *config;
    int error = libusb_get_active_config_descriptor(libusb_get_device(self->handle), &config);
    if (error == LIBUSB_ERROR_NOT_FOUND) /* not configured: nothing to take */
        return 0;
    if (error < 0)
        return error;
    for (int i = 0; i < config->bNumInterfaces && error == 0; i++)
        if (config->interface[i].num_altsetting > 0) {
            int number = config->interface[i].altsetting[0].bInterfaceNumber;
            error = number < INTERFACES_MAX ? each(self, number) : LIBUSB_ERROR_NOT_SUPPORTED;
        }
    libusb_free_config_descriptor(config);
    return error;
}

static int claim(usb_host *self, int number)
{
    int error = libusb_detach_kernel_driver(self->handle, number);
    if (error == 0)
        self->detached |= 1u << number;
    else if (error != LIBUSB_ERROR_NOT_FOUND && error != LIBUSB_ERROR_INVALID_PARAM)
        return error;
    error = libusb_claim_interface(self->handle, number);
    if (error == 0)
        self->claimed |= 1u << number;
    self->alternate[number] = 0;
    return error;
}

static void release_all(usb_host *self)
{
    for (int i = 0; i < INTERFACES_MAX; i++)
        if (self->claimed & 1u << i)
            libusb_release_interface(self->handle, i);
    self->claimed = 0;
}

static int attach(usb_host *self, int number)
{
    if (self->detached & 1u << number || self->configuration != self->configuration_before)
        libusb_attach_kernel_driver(self->handle, number);
    return 0;
}

static void give_back(usb_host *self)
{
    if (!self->handle)
        return;
    release_all(self);
    if (self->gone)
        return;
    /* Whatever the guest left it in: its drivers here expect a device that was just plugged in. */
    if (self->detached && libusb_reset_device(self->handle) == LIBUSB_ERROR_NO_DEVICE)
        return;
    if (self->configuration != self->configuration_before)
        libusb_set_configuration(self->handle, self->configuration_before);
    for_interfaces(self, attach);
}

void usb_host_close(usb_host *self)
{
    give_back(self);
    if (self->handle)
        libusb_close(self->handle);
    if (self->context)
        libusb_exit(self->context);
    close(self->fd);
    g_free(self);
}

static guint32 speed_of(libusb_device *device)
{
    switch (libusb_get_device_speed(device)) {
    case LIBUSB_SPEED_LOW: return USB_SPEED_LOW;
    case LIBUSB_SPEED_FULL: return USB_SPEED_FULL;
    case LIBUSB_SPEED_SUPER:
    case LIBUSB_SPEED_SUPER_PLUS: return USB_SPEED_SUPER;
    default: return USB_SPEED_HIGH;
    }
}

static int set_up(usb_host *self)
{
    libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY);
    int error = libusb_init(&self->context);
    if (error == 0)
        error = libusb_wrap_sys_device(self->context, self->fd, &self->handle);
    if (error < 0)
        return error;
    libusb_device *device = libusb_get_device(self->handle);
    struct libusb_device_descriptor descriptor;
    libusb_get_device_descriptor(device, &descriptor);
    self->info.vendor = descriptor.idVendor;
    self->info.product = descriptor.idProduct;
    self->info.speed = speed_of(device);
    if (descriptor.bDeviceClass == LIBUSB_CLASS_HUB)
        return LIBUSB_ERROR_NOT_SUPPORTED;
    error = libusb_get_configuration(self->handle, &self->configuration_before);
    self->configuration = self->configuration_before;
    if (error == 0)
        error = for_interfaces(self, claim);
    read_endpoints(self);
    return error;
}

usb_host *usb_host_open(int fd, GError **error)
{
    usb_host *self = g_new0(usb_host, 1);
    self->fd = fd;
    int failed = set_up(self);
    if (failed == 0)
        return self;
    self->gone = failed == LIBUSB_ERROR_NO_DEVICE;
    switch (failed) {
    case LIBUSB_ERROR_BUSY:
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_BUSY,
                    "another program of this computer is using the device");
        break;
    case LIBUSB_ERROR_ACCESS:
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_PERMISSION_DENIED,
                    "the device may not be used by this account");
        break;
    case LIBUSB_ERROR_NO_DEVICE:
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_FOUND, "the device was unplugged");
        break;
    case LIBUSB_ERROR_NOT_SUPPORTED:
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_NOT_SUPPORTED, "hubs cannot be handed over");
        break;
    default:
        g_set_error(error, G_IO_ERROR, G_IO_ERROR_FAILED, "the device cannot be taken over: %s",
                    libusb_strerror(failed));
    }
    usb_host_close(self);
    return NULL;
}

const struct usb_host_info *usb_host_info(const usb_host *self)
{
    return &self->info;
}

void usb_host_set_link(usb_host *self, usbip *link)
{
    self->link = link;
}

static void finish(usb_host *self, struct usbip_urb *urb, int status)
{
    urb->status = status;
    usbip_complete(self->link, urb);
}

static int set_configuration(usb_host *self, int number)
{
    release_all(self);
    int error = libusb_set_configuration(self->handle, number ? number : -1);
    if (error == 0) {
        self->configuration = number;
        error = for_interfaces(self, claim);
    }
    read_endpoints(self);
    return error;
}

static int set_interface(usb_host *self, guint16 number, guint16 alternate)
{
    if (number >= INTERFACES_MAX || alternate > 255 || !(self->claimed & 1u << number))
        return LIBUSB_ERROR_NOT_FOUND;
    int error = libusb_set_interface_alt_setting(self->handle, number, alternate);
    if (error == 0)
        self->alternate[number] = (guint8)alternate;
    read_endpoints(self);
    return error;
}

/* Requests that the host's USB core must know of, because it keeps track of what they change. */
static bool tracked_request(usb_host *self, const struct usbip_urb *urb, int *error)
{
    guint16 value = (guint16)(urb->setup[2] | urb->setup[3] << 8);
    guint16 index = (guint16)(urb->setup[4] | urb->setup[5] << 8);
    switch (urb->setup[0] << 8 | urb->setup[1]) {
    case USB_RECIP_DEVICE << 8 | USB_REQ_SET_CONFIGURATION:
        *error = set_configuration(self, value & 255);
        return true;
    case USB_RECIP_INTERFACE << 8 | USB_REQ_SET_INTERFACE:
        *error = set_interface(self, index, value);
        return true;
    case USB_RECIP_ENDPOINT << 8 | USB_REQ_CLEAR_FEATURE:
        if (value != USB_ENDPOINT_HALT)
            return false;
        *error = libusb_clear_halt(self->handle, (unsigned char)index);
        return true;
    case USB_RECIP_DEVICE << 8 | USB_REQ_SET_ADDRESS: /* the guest's bus has its own addresses */
        *error = LIBUSB_ERROR_PIPE;
        return true;
    case (USB_TYPE_CLASS | USB_RECIP_OTHER) << 8 |
        USB_REQ_SET_FEATURE: /* to the hub above: reset the port */
        *error = value == 4 ? libusb_reset_device(self->handle) : LIBUSB_ERROR_PIPE;
        return true;
    default: return false;
    }
}

static void done(struct libusb_transfer *usb)
{
    struct transfer *t = usb->user_data;
    usb_host *self = t->host;
    struct usbip_urb *urb = t->urb;
    int status = status_errno(usb->status);
    if (usb->status == LIBUSB_TRANSFER_NO_DEVICE)
        self->gone = true;
    for (guint32 i = 0; i < urb->packets; i++) {
        urb->packet[i].actual_length = usb->iso_packet_desc[i].actual_length;
        urb->packet[i].status = status_errno(usb->iso_packet_desc[i].status);
    }
    urb->actual_length = (guint32)usb->actual_length;
    if (status == 0 && urb->in && urb->flags & USBIP_SHORT_NOT_OK &&
        urb->actual_length < urb->length && !urb->packets)
        status = -EREMOTEIO;
    libusb_free_transfer(usb);
    g_free(t);
    finish(self, urb, status);
}

/* Fills the transfer in; 0 or a negative errno. */
static int fill(usb_host *self, struct usbip_urb *urb, struct transfer *t)
{
    struct libusb_transfer *usb = t->usb;
    unsigned char address = (unsigned char)(urb->endpoint | (urb->in ? LIBUSB_ENDPOINT_IN : 0));
    int length = (int)urb->length;
    if (urb->endpoint == 0) {
        guint16 wanted = (guint16)(urb->setup[6] | urb->setup[7] << 8);
        if (wanted != urb->length || (wanted && urb->in != !!(urb->setup[0] & USB_DIR_IN)) ||
            urb->packets)
            return -EINVAL;
        libusb_fill_control_transfer(usb, self->handle, urb->data - LIBUSB_CONTROL_SETUP_SIZE, done,
                                     t, 0);
        return 0;
    }
    int type = self->type[urb->in][urb->endpoint] - 1;
    if (type < 0)
        return -ENOENT;
    if ((type == LIBUSB_TRANSFER_TYPE_ISOCHRONOUS) != (urb->packets > 0))
        return -EINVAL;
    if (type == LIBUSB_TRANSFER_TYPE_ISOCHRONOUS) {
        libusb_fill_iso_transfer(usb, self->handle, address, urb->data, length, (int)urb->packets,
                                 done, t, 0);
        for (guint32 i = 0; i < urb->packets; i++)
            usb->iso_packet_desc[i].length = urb->packet[i].length;
    } else if (type == LIBUSB_TRANSFER_TYPE_INTERRUPT) {
        libusb_fill_interrupt_transfer(usb, self->handle, address, urb->data, length, done, t, 0);
    } else {
        libusb_fill_bulk_transfer(usb, self->handle, address, urb->data, length, done, t, 0);
        if (!urb->in && urb->flags & USBIP_ZERO_PACKET)
            usb->flags |= LIBUSB_TRANSFER_ADD_ZERO_PACKET;
    }
    return 0;
}

void usb_host_submit(void *ctx, struct usbip_urb *urb)
{
    usb_host *self = ctx;
    int error = 0;
    if (self->gone) {
        finish(self, urb, -ENODEV);
        return;
    }
    if (urb->endpoint == 0 && tracked_request(self, urb, &error)) {
        finish(self, urb, note(self, error));
        return;
    }
    struct transfer *t = g_new0(struct transfer, 1);
    *t = (struct transfer){
        .host = self, .urb = urb, .usb = libusb_alloc_transfer((int)urb->packets)};
    urb->backend = t;
    int status = t->usb ? fill(self, urb, t) : -ENOMEM;
    if (status == 0)
        status = note(self, libusb_submit_transfer(t->usb));
    if (status == 0)
        return;
    libusb_free_transfer(t->usb);
    g_free(t);
    finish(self, urb, status);
}

void usb_host_cancel(void *ctx, struct usbip_urb *urb)
{
    struct transfer *t = urb->backend;
    /* Fails when it is done already: then its completion is on the way. */
    libusb_cancel_transfer(t->usb);
}

guint usb_host_pollfds(usb_host *self, struct pollfd *fds, guint max)
{
    const struct libusb_pollfd **list = libusb_get_pollfds(self->context);
    guint n = 0;
    for (; list && list[n] && n < max; n++)
        fds[n] = (struct pollfd){.fd = list[n]->fd, .events = list[n]->events};
    libusb_free_pollfds(list);
    return n;
}

void usb_host_dispatch(usb_host *self, guint timeout_ms)
{
    struct timeval timeout = {.tv_usec = (suseconds_t)timeout_ms * 1000};
    if (libusb_handle_events_timeout_completed(self->context, &timeout, NULL) ==
        LIBUSB_ERROR_NO_DEVICE)
        self->gone = true;
}

bool usb_host_is_gone(const usb_host *self)
{
    return self->gone;
}
