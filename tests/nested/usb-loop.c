/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Lends USB devices of this machine to this same machine's vhci_hcd: viewer, worker and guest's
 * agent in one, with the D-Bus interface between the first two and a socket pair in place of
 * hv_sock. Reads orders from stdin, one a line, and answers each by a line: attach VENDOR:PRODUCT
 * (hex)   "attached ID" or "failed REASON" detach ID                     "detached ID" or "failed
 * REASON" fds                           "fds N": open descriptors and "closed ID REASON" whenever a
 * device comes back unasked. Ends at end of file.
 */
#include "session/usb/usb-service.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixfdlist.h>
#include <gio/gunixinputstream.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vireo-usb1.h"

#define DEVICES "/sys/bus/usb/devices"
#define VHCI "/sys/devices/platform/vhci_hcd.0"
#define FIRST_SUPER_SPEED 5

static GMainLoop *loop;
static VireoUsb1 *proxy;

static void say(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* A number from a sysfs file of a device; base 0 for none. */
static long attribute(const char *device, const char *name, int base)
{
    g_autofree char *path = g_build_filename(DEVICES, device, name, NULL), *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? strtol(text, NULL, base) : -1;
}

/* Opens the node of the first such device that is not behind vhci_hcd. */
static int open_device(long vendor, long product)
{
    g_autoptr(GDir) dir = g_dir_open(DEVICES, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename(DEVICES, name, NULL), *real = realpath(link, NULL);
        if (!real || strstr(real, "vhci") || attribute(name, "idVendor", 16) != vendor ||
            attribute(name, "idProduct", 16) != product)
            continue;
        g_autofree char *node =
            g_strdup_printf("/dev/bus/usb/%03ld/%03ld", attribute(name, "busnum", 10),
                            attribute(name, "devnum", 10));
        return open(node, O_RDWR | O_CLOEXEC);
    }
    errno = ENODEV;
    return -1;
}

/* A free port of the right kind, or -1. */
static int free_port(guint32 speed)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(VHCI "/status", &text, NULL, NULL))
        return -1;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 1; lines[i]; i++) {
        char hub[3];
        int port, state;
        if (sscanf(lines[i], "%2s %d %d", hub, &port, &state) == 3 && state == 4 &&
            (strcmp(hub, "ss") == 0) == (speed >= FIRST_SUPER_SPEED))
            return port;
    }
    return -1;
}

/* What vireo-agent does in a guest. */
static void request_stream(gpointer ctx, guint32 devid, guint32 speed, VireoUsbStreamFunc done,
                           gpointer data)
{
    int pair[2] = {-1, -1};
    g_autoptr(GError) error = NULL;
    g_autofree char *order = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        g_error("no socket pair");
    int port = free_port(speed), attach = open(VHCI "/attach", O_WRONLY | O_CLOEXEC);
    order = g_strdup_printf("%d %d %u %u", port, pair[1], devid, speed);
    if (attach < 0 || write(attach, order, strlen(order)) < 0) {
        g_set_error(&error, G_IO_ERROR, G_IO_ERROR_FAILED, "vhci_hcd refuses \"%s\": %s", order,
                    g_strerror(errno));
        close(pair[0]);
        pair[0] = -1;
    }
    if (attach >= 0)
        close(attach);
    close(pair[1]);
    done(data, pair[0], error);
}

static gboolean allowed(gpointer ctx, guint16 vendor, guint16 product, GError **error)
{
    return TRUE;
}

static void on_attached(GObject *object, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL;
    if (vireo_usb1_call_attach_finish(proxy, &id, NULL, result, &error))
        say("attached %s", id);
    else
        say("failed %s", error->message);
}

static void attach(const char *which)
{
    unsigned vendor = 0, product = 0;
    sscanf(which, "%x:%x", &vendor, &product);
    int fd = open_device(vendor, product);
    if (fd < 0) {
        say("failed %s: %s", which, g_strerror(errno));
        return;
    }
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);
    GVariantBuilder info;
    g_variant_builder_init(&info, G_VARIANT_TYPE_VARDICT);
    g_variant_builder_add(&info, "{sv}", "name", g_variant_new_string(which));
    vireo_usb1_call_attach(proxy, g_variant_new_handle(0), g_variant_builder_end(&info), fds, NULL,
                           on_attached, NULL);
}

static void on_detached(GObject *object, GAsyncResult *result, gpointer id)
{
    g_autoptr(GError) error = NULL;
    if (vireo_usb1_call_detach_finish(proxy, result, &error))
        say("detached %s", (char *)id);
    else
        say("failed %s", error->message);
    g_free(id);
}

static void on_closed(VireoUsb1 *object, const char *id, const char *name, const char *reason)
{
    if (reason[0])
        say("closed %s %s", id, reason);
}

static void count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    closedir(dir);
    say("fds %d", n);
}

static void on_line(GObject *input, GAsyncResult *result, gpointer data)
{
    g_autofree char *line =
        g_data_input_stream_read_line_finish(G_DATA_INPUT_STREAM(input), result, NULL, NULL);
    if (!line) {
        g_main_loop_quit(loop);
        return;
    }
    if (g_str_has_prefix(line, "attach "))
        attach(line + 7);
    else if (g_str_has_prefix(line, "detach "))
        vireo_usb1_call_detach(proxy, line + 7, NULL, on_detached, g_strdup(line + 7));
    else
        count_fds();
    g_data_input_stream_read_line_async(G_DATA_INPUT_STREAM(input), 0, NULL, on_line, NULL);
}

static void on_proxy(GObject *object, GAsyncResult *result, gpointer input)
{
    g_autoptr(GError) error = NULL;
    proxy = vireo_usb1_proxy_new_finish(result, &error);
    if (!proxy)
        g_error("%s", error->message);
    g_signal_connect(proxy, "closed", G_CALLBACK(on_closed), NULL);
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(proxy), G_MAXINT);
    g_data_input_stream_read_line_async(input, 0, NULL, on_line, NULL);
}

static void on_client(GObject *object, GAsyncResult *result, gpointer input)
{
    g_autoptr(GError) error = NULL;
    GDBusConnection *client = g_dbus_connection_new_finish(result, &error);
    if (!client)
        g_error("%s", error->message);
    vireo_usb1_proxy_new(client, G_DBUS_PROXY_FLAGS_NONE, NULL, VIREO_USB_PATH, NULL, on_proxy,
                         input);
}

static void on_server(GObject *object, GAsyncResult *result, gpointer skeleton)
{
    g_autoptr(GError) error = NULL;
    GDBusConnection *server = g_dbus_connection_new_finish(result, &error);
    if (!server || !g_dbus_interface_skeleton_export(skeleton, server, VIREO_USB_PATH, &error))
        g_error("%s", error->message);
}

static GIOStream *stream_of(int fd)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);
    return G_IO_STREAM(g_socket_connection_factory_create_connection(socket));
}

int main(void)
{
    static const VireoUsbServiceOps ops = {allowed, request_stream};
    g_autoptr(GInputStream) raw = g_unix_input_stream_new(0, FALSE);
    g_autoptr(GDataInputStream) input = g_data_input_stream_new(raw);
    VireoUsbService *service = vireo_usb_service_new(&ops, NULL);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 1;
    loop = g_main_loop_new(NULL, FALSE);
    g_autofree char *guid = g_dbus_generate_guid();
    g_autoptr(GIOStream) server = stream_of(pair[0]), client = stream_of(pair[1]);
    g_dbus_connection_new(server, guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                              G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_ALLOW_ANONYMOUS,
                          NULL, NULL, on_server, vireo_usb_service_get_skeleton(service));
    g_dbus_connection_new(client, NULL, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL,
                          on_client, input);
    g_main_loop_run(loop);
    vireo_usb_service_close_all(service, "");
    while (vireo_usb_service_get_count(service))
        g_main_context_iteration(NULL, TRUE);
    return 0;
}
