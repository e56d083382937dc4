/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The remote console of a machine that is a picture: for tests with real clients (remote.py).
 *   remote-server KIND SOCKET [password=P] [tls=FOLDER] [view-only] [guest=PATH]
 * SOCKET: a path (of a Unix socket), or "tcp:PORT". Reads orders from stdin, one a line, and
 * answers each by a line: picture WIDTH HEIGHT SEED   another size and picture: "shown" change X Y
 * W H SEED         other pixels in a rectangle: "changed" write FILE                  what is
 * shown, as PPM: "written" clients                     "clients N" disconnect disconnects all:
 * "done" and says each key and pointer event: "key QNUM 0|1", "pointer X Y BUTTONS WHEEL"
 * (0..32767). guest: a Unix socket at which whoever connects is a stream of the guest's agent
 * (session/agent-proto.h): then there is an enhanced session.
 */
#include "session/remote/remote.h"
#include "session/session.h"

#include <gio/gunixfdlist.h>
#include <gio/gunixinputstream.h>
#include <gio/gunixsocketaddress.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vireo-remote1.h"

static GMainLoop *main_loop;
static struct loop *io;
static struct console *console;
static VireoRemote1 *proxy;
static VireoSession *session;
static int picture = -1;
static guint32 *pixels;
static guint32 width, height;
static const char *kind;
static gint ending;

static void say(const char *format, ...) G_GNUC_PRINTF(1, 2);
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    printf("%s\n", line);
    fflush(stdout);
}

/* ---- the machine: its I/O thread draws, and takes the keys ---- */

static void on_key(void *ctx, uint8_t qnum, bool down)
{
    say("key %u %d", qnum, down);
}

static void on_pointer(void *ctx, uint32_t x, uint32_t y, uint32_t buttons, int wheel)
{
    say("pointer %u %u %u %d", x, y, buttons, wheel);
}

/* Smooth in one channel, steps in another, noise in the third. */
static void fill(guint32 x0, guint32 y0, guint32 w, guint32 h, guint32 seed)
{
    for (guint32 y = y0; y < y0 + h; y++)
        for (guint32 x = x0; x < x0 + w; x++) {
            guint32 noise = (x * 2654435761u ^ y * 40503u ^ seed * 2246822519u) >> 24;
            pixels[y * width + x] = (x & 255) << 16 | (y / 16 * 16 & 255) << 8 | noise;
        }
}

static void show(guint32 w, guint32 h, guint32 seed)
{
    if (pixels)
        munmap(pixels, (gsize)width * height * 4);
    if (picture >= 0)
        close(picture);
    picture = memfd_create("picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    width = w;
    height = h;
    if (ftruncate(picture, (off_t)w * h * 4) < 0)
        exit(1);
    pixels = mmap(NULL, (gsize)w * h * 4, PROT_READ | PROT_WRITE, MAP_SHARED, picture, 0);
    fill(0, 0, w, h, seed);
    const struct console_surface s = {.fd = picture, .width = w, .height = h, .stride = w * 4};
    console_source_show(console, &s, NULL);
}

static void write_ppm(const char *path)
{
    FILE *f = fopen(path, "wb");
    fprintf(f, "P6\n%u %u\n255\n", width, height);
    for (gsize i = 0; i < (gsize)width * height; i++) {
        const guint8 rgb[3] = {(guint8)(pixels[i] >> 16), (guint8)(pixels[i] >> 8),
                               (guint8)pixels[i]};
        fwrite(rgb, 3, 1, f);
    }
    fclose(f);
}

static void order(void *ctx)
{
    g_autofree char *line = ctx;
    guint32 a[5] = {0};
    char path[256];
    if (sscanf(line, "picture %u %u %u", &a[0], &a[1], &a[2]) == 3) {
        show(a[0], a[1], a[2]);
        say("shown");
    } else if (sscanf(line, "change %u %u %u %u %u", &a[0], &a[1], &a[2], &a[3], &a[4]) == 5) {
        fill(a[0], a[1], a[2], a[3], a[4]);
        console_source_dirty(console, a[0], a[1], (int64_t)a[0] + a[2], (int64_t)a[1] + a[3]);
        say("changed");
    } else if (sscanf(line, "write %255s", path) == 1) {
        write_ppm(path);
        say("written");
    }
}

static gpointer io_thread(gpointer data)
{
    static const struct console_input_ops input = {on_key, on_pointer};
    console_set_input(console, &input, console);
    show(800, 600, 1);
    while (!g_atomic_int_get(&ending))
        loop_turn(io, 20);
    return NULL;
}

/* ---- orders ---- */

static void tell_clients(void)
{
    GVariant *clients = vireo_remote1_get_clients(proxy);
    say("clients %zu", clients ? g_variant_n_children(clients) : 0);
}

static void disconnect_all(void)
{
    GVariant *clients = vireo_remote1_get_clients(proxy);
    for (gsize i = 0; clients && i < g_variant_n_children(clients); i++) {
        g_autoptr(GVariant) c = g_variant_get_child_value(clients, i);
        guint32 id = 0;
        g_variant_lookup(c, "id", "u", &id);
        vireo_remote1_call_disconnect(proxy, id, NULL, NULL, NULL);
    }
    say("done");
}

static void set_policy(const char *line)
{
    unsigned policy, allowed;
    if (session && sscanf(line, "policy %u %u", &policy, &allowed) == 2 && policy < VIREO_POLICIES)
        vireo_session_set_policy(session, policy, allowed != 0);
    say("set");
}

static void on_line(GObject *input, GAsyncResult *result, gpointer data)
{
    char *line =
        g_data_input_stream_read_line_finish(G_DATA_INPUT_STREAM(input), result, NULL, NULL);
    if (!line) {
        g_main_loop_quit(main_loop);
        return;
    }
    if (strcmp(line, "clients") == 0)
        tell_clients();
    else if (strcmp(line, "disconnect") == 0)
        disconnect_all();
    else if (g_str_has_prefix(line, "policy "))
        set_policy(line);
    else
        loop_call(io, order, g_strdup(line));
    g_free(line);
    g_data_input_stream_read_line_async(G_DATA_INPUT_STREAM(input), 0, NULL, on_line, NULL);
}

/* ---- the viewer's side: opens the socket, hands it over ---- */

static int open_socket(const char *where)
{
    gboolean tcp = g_str_has_prefix(where, "tcp:");
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketAddress) address =
        tcp ? g_inet_socket_address_new_from_string("127.0.0.1", (guint)atoi(where + 4))
            : g_unix_socket_address_new(where);
    g_autoptr(GSocket) socket =
        g_socket_new(tcp ? G_SOCKET_FAMILY_IPV4 : G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM,
                     G_SOCKET_PROTOCOL_DEFAULT, &error);
    if (!socket || !g_socket_bind(socket, address, TRUE, &error) ||
        !g_socket_listen(socket, &error))
        g_error("%s", error->message);
    return dup(g_socket_get_fd(socket));
}

static void on_listening(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    if (vireo_remote1_call_listen_finish(proxy, NULL, result, &error))
        say("listening");
    else
        say("refused %s", error->message);
}

static void on_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    char **args = data;
    GVariantBuilder options;
    proxy = vireo_remote1_proxy_new_finish(result, NULL);
    int fd = open_socket(args[0]);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&fd, 1);
    g_variant_builder_init(&options, G_VARIANT_TYPE_VARDICT);
    for (char **o = args + 1; *o; o++)
        if (g_str_has_prefix(*o, "password="))
            g_variant_builder_add(&options, "{sv}", "password", g_variant_new_string(*o + 9));
        else if (g_str_has_prefix(*o, "tls="))
            g_variant_builder_add(&options, "{sv}", "tls-folder", g_variant_new_string(*o + 4));
        else if (strcmp(*o, "view-only") == 0)
            g_variant_builder_add(&options, "{sv}", "view-only", g_variant_new_boolean(TRUE));
    vireo_remote1_call_listen(proxy, kind, g_variant_new_handle(0), g_variant_builder_end(&options),
                              fds, NULL, on_listening, NULL);
}

/* ---- the guest's agent ---- */

static gboolean usb_allowed(gpointer ctx, guint16 vendor, guint16 product, GError **error)
{
    return vireo_session_get_policy(ctx, VIREO_POLICY_USB);
}

static void usb_stream(gpointer ctx, guint32 device, guint32 speed, VireoUsbStreamFunc done,
                       gpointer data)
{
    vireo_session_open_usb(ctx, device, speed, done, data);
}

static const VireoRemoteUsb usb_ops = {usb_allowed, usb_stream};

static gboolean on_guest(GSocket *socket, GIOCondition condition, gpointer data)
{
    int fd = accept4(g_socket_get_fd(socket), NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        vireo_session_accept(session, fd, 1000);
    return G_SOURCE_CONTINUE;
}

static void begin_session(const char *path)
{
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    GSocket *socket =
        g_socket_new(G_SOCKET_FAMILY_UNIX, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_DEFAULT, NULL);
    if (!g_socket_bind(socket, address, TRUE, NULL) || !g_socket_listen(socket, NULL))
        exit(2);
    session = vireo_session_new();
    for (unsigned i = 0; i < VIREO_POLICIES; i++)
        vireo_session_set_policy(session, i, TRUE);
    vireo_session_set_enabled(session, TRUE);
    GSource *source = g_socket_create_source(socket, G_IO_IN, NULL);
    g_source_set_callback(source, G_SOURCE_FUNC(on_guest), NULL, NULL);
    g_source_attach(source, NULL);
    g_source_unref(source);
}

static GIOStream *stream_of(int fd)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);
    return G_IO_STREAM(g_socket_connection_factory_create_connection(socket));
}

static void on_connected(GObject *source, GAsyncResult *result, gpointer to)
{
    *(GDBusConnection **)to = g_dbus_connection_new_finish(result, NULL);
}

/* The worker's end, and a viewer's. */
static void connect_both(GDBusConnection *ends[2])
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        exit(2);
    g_autofree char *guid = g_dbus_generate_guid();
    g_autoptr(GIOStream) server = stream_of(pair[0]), client = stream_of(pair[1]);
    g_dbus_connection_new(server, guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                              G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_ALLOW_ANONYMOUS |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, NULL, on_connected, &ends[0]);
    g_dbus_connection_new(client, NULL, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT, NULL, NULL,
                          on_connected, &ends[1]);
    while (!ends[0] || !ends[1])
        g_main_context_iteration(NULL, TRUE);
}

int main(int argc, char **argv)
{
    err e = ERR_INIT;
    GDBusConnection *ends[2] = {NULL, NULL};
    if (argc < 3)
        return 2;
    kind = argv[1];
    main_loop = g_main_loop_new(NULL, FALSE);
    io = loop_new(&e);
    console = console_new(io, &e);
    GThread *thread = g_thread_new("io", io_thread, NULL);
    connect_both(ends);
    for (int i = 3; i < argc; i++)
        if (g_str_has_prefix(argv[i], "guest="))
            begin_session(argv[i] + 6);
    if (session && !vireo_session_export(session, ends[0], NULL))
        return 2;
    VireoRemote *remote = vireo_remote_new(session ? ends[1] : NULL, &usb_ops, session);
    vireo_remote_attach(remote, console, "A machine");
    g_dbus_interface_skeleton_export(vireo_remote_get_skeleton(remote), ends[0], VIREO_REMOTE_PATH,
                                     NULL);
    g_dbus_connection_start_message_processing(ends[0]);
    vireo_remote1_proxy_new(ends[1], G_DBUS_PROXY_FLAGS_NONE, NULL, VIREO_REMOTE_PATH, NULL,
                            on_proxy, argv + 2);
    g_autoptr(GInputStream) raw = g_unix_input_stream_new(0, FALSE);
    g_autoptr(GDataInputStream) input = g_data_input_stream_new(raw);
    g_data_input_stream_read_line_async(input, 0, NULL, on_line, NULL);
    g_main_loop_run(main_loop);
    vireo_remote_close(remote);
    if (session)
        vireo_session_close(session);
    g_atomic_int_set(&ending, 1);
    g_thread_join(thread);
    g_object_unref(remote);
    g_clear_object(&session);
    console_free(console);
    loop_free(io);
    say("ended");
    return 0;
}
