/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * USB devices by the kernel's own USB/IP host controller: a stream is handed to vhci_hcd by its
 * `attach` file, and the kernel speaks on it from then on. When the stream ends the kernel takes
 * the device away. It is not the host's stream itself but a pair joined with that: vhci_hcd reads
 * whole scatter elements with MSG_WAITALL, and af_vsock refuses that for more than the transport's
 * stream_rcvhiwat, which is 16 KiB for hv_sock (ENOMEM). Source: drivers/usb/usbip/vhci_sysfs.c,
 * usbip_common.c, net/vmw_vsock/af_vsock.c, hyperv_transport.c and
 * tools/usb/usbip/libsrc/vhci_driver.c of Linux 6.1.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/guest/agent.h"

#define VHCI "/sys/devices/platform/vhci_hcd.0"
enum { USB_SPEED_SUPER = 5, FREE = 4 /* VDEV_ST_NULL */, STATUS_FILES = 16 };

bool usb_there(void)
{
    return access(VHCI "/attach", W_OK) == 0;
}

/* A line is "hs  0000 004 000 00000000 000000 0-0": hub, port, status... -1: none is free. */
static int free_port_in(const char *path, const char *hub)
{
    char line[256], kind[8];
    int port = -1;
    unsigned number, status;
    FILE *f = fopen(path, "re");
    while (f && port < 0 && fgets(line, sizeof line, f))
        if (sscanf(line, "%7s %u %u", kind, &number, &status) == 3 && status == FREE &&
            strcmp(kind, hub) == 0)
            port = (int)number;
    if (f)
        fclose(f);
    return port;
}

static int free_port(uint32_t speed)
{
    const char *hub = speed >= USB_SPEED_SUPER ? "ss" : "hs";
    int port = free_port_in(VHCI "/status", hub);
    for (int i = 1; i < STATUS_FILES && port < 0; i++) {
        char path[64];
        snprintf(path, sizeof path, VHCI "/status.%d", i);
        port = free_port_in(path, hub);
    }
    return port;
}

static bool attach(int port, int stream, uint32_t device, uint32_t speed)
{
    char text[64];
    int n = snprintf(text, sizeof text, "%d %d %u %u", port, stream, device, speed);
    int fd = open(VHCI "/attach", O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (!ok)
        say("a USB device was not attached: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Either side ended, and so has the other. */
static void on_ended(void *ctx)
{
}

void usb_start(uint32_t id, uint32_t device, uint32_t speed)
{
    int pair[2], port = usb_there() ? free_port(speed) : -1;
    if (port < 0) {
        control_failed(AGENT_USB, id, usb_there() ? AGENT_FAILURE_FULL : AGENT_FAILURE_MISSING);
        return;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        control_failed(AGENT_USB, id, AGENT_FAILURE_FULL);
        return;
    }
    int fd = control_open(AGENT_USB, id);
    if (fd < 0) {
        control_failed(AGENT_USB, id, AGENT_FAILURE_DENIED);
        close(pair[0]);
    } else if (!pump_new(fd, pair[0], on_ended, NULL)) {
        control_failed(AGENT_USB, id, AGENT_FAILURE_FULL);
    } else if (!attach(port, pair[1], device, speed)) {
        control_failed(AGENT_USB, id, AGENT_FAILURE_DENIED);
    }
    close(pair[1]); /* the kernel has its own; without it the pump ends */
}
