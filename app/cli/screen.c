/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl screenshot, type, key, mouse: a running machine's console. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "app/cli/client.h"
#include "app/cli/keys.h"
#include "app/cli/png.h"
#include "core/base/cleanup.h"

enum { FRAME_WAIT_S = 20, KEY_GAP_US = 4000, PIXMAN_X8R8G8B8 = 0x20020888 };
#define LISTENER "/org/qemu/Display1/Listener"

/* ---- a picture ---- */

struct shot {
    GMainLoop *loop;
    int fd;
    guint32 offset, width, height, stride, format;
    bool come, dark;
};

static gboolean on_map(VireoDisplayListenerUnixMap *m, GDBusMethodInvocation *call,
                       GUnixFDList *fds, GVariant *handle, guint offset, guint width, guint height,
                       guint stride, guint format, struct shot *s)
{
    auto_close(s->fd);
    s->fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(handle), NULL) : -1;
    s->offset = offset;
    s->width = width;
    s->height = height;
    s->stride = stride;
    s->format = format;
    s->come = s->fd >= 0;
    vireo_display_listener_unix_map_complete_scanout_map(m, call, NULL);
    g_main_loop_quit(s->loop);
    return TRUE;
}

static gboolean on_dark(VireoDisplayListener *l, GDBusMethodInvocation *call, struct shot *s)
{
    s->dark = true;
    vireo_display_listener_complete_disable(l, call);
    g_main_loop_quit(s->loop);
    return TRUE;
}

static gboolean on_late(gpointer data)
{
    g_main_loop_quit(((struct shot *)data)->loop);
    return G_SOURCE_REMOVE;
}

/* Our end of the socket pair as a D-Bus connection that serves a listener. */
static GDBusConnection *serve_listener(int fd, struct shot *s, VireoDisplayListener *l,
                                       VireoDisplayListenerUnixMap *m, GError **error)
{
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, error);
    if (!socket)
        return NULL;
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    GDBusConnection *c =
        g_dbus_connection_new_sync(G_IO_STREAM(stream), NULL,
                                   G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                                       G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                                   NULL, NULL, error);
    if (!c)
        return NULL;
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(l), c, LISTENER, NULL);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(m), c, LISTENER, NULL);
    g_dbus_connection_start_message_processing(c);
    return c;
}

static bool register_listener(struct client *c, int fd, GError **error)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    int index = g_unix_fd_list_append(fds, fd, error);
    if (index < 0)
        return false;
    g_autoptr(GVariant) r = g_dbus_connection_call_with_unix_fd_list_sync(
        c->bus, NULL, CLIENT_CONSOLE, "org.qemu.Display1.Console", "RegisterListener",
        g_variant_new("(h)", index), NULL, G_DBUS_CALL_FLAGS_NONE, 30000, fds, NULL, NULL, error);
    return r != NULL;
}

static bool take(struct client *c, struct shot *s, GError **error)
{
    static const char *const interfaces[] = {"org.qemu.Display1.Listener.Unix.Map", NULL};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_FAILED, "no socket could be had");
        return false;
    }
    bool ok = register_listener(c, pair[1], error);
    close(pair[1]);
    if (!ok) {
        close(pair[0]);
        return false;
    }
    g_autoptr(VireoDisplayListener) l = vireo_display_listener_skeleton_new();
    g_autoptr(VireoDisplayListenerUnixMap) m = vireo_display_listener_unix_map_skeleton_new();
    vireo_display_listener_set_interfaces(l, interfaces);
    g_signal_connect(m, "handle-scanout-map", G_CALLBACK(on_map), s);
    g_signal_connect(l, "handle-disable", G_CALLBACK(on_dark), s);
    g_autoptr(GDBusConnection) d = serve_listener(pair[0], s, l, m, error);
    if (!d)
        return false;
    guint late = g_timeout_add_seconds(FRAME_WAIT_S, on_late, s);
    g_main_loop_run(s->loop);
    if (s->come || s->dark)
        g_source_remove(late);
    g_dbus_connection_close_sync(d, NULL, NULL);
    return true;
}

static bool write_shot(const struct shot *s, const char *path, err *e)
{
    size_t len = (size_t)s->stride * s->height;
    if (s->dark)
        return err_set(e, ERR_STATE, "the machine shows nothing now");
    if (!s->come)
        return err_set(e, ERR_TIMEOUT, "the machine gave no picture in time");
    if (s->format != PIXMAN_X8R8G8B8 || s->stride < s->width * 4ull)
        return err_set(e, ERR_UNSUPPORTED, "the screen has a format that cannot be written");
    void *p = mmap(NULL, len, PROT_READ, MAP_SHARED, s->fd, s->offset);
    if (p == MAP_FAILED)
        return err_set(e, ERR_IO, "the screen cannot be read");
    bool ok = png_write(path, p, s->width, s->height, s->stride, e);
    munmap(p, len);
    return ok;
}

bool client_screenshot(struct client *c, const char *path)
{
    err e = ERR_INIT;
    g_autoptr(GError) error = NULL;
    struct shot s = {.fd = -1, .loop = g_main_loop_new(NULL, FALSE)};
    bool ok = take(c, &s, &error);
    if (!ok)
        client_fail(error);
    else if (!write_shot(&s, path, &e)) {
        cli_fail(&e);
        ok = false;
    }
    auto_close(s.fd);
    g_main_loop_unref(s.loop);
    return ok;
}

int cli_screenshot(int argc, char **argv)
{
    int operands;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl screenshot NAME FILE\n\nWrites the machine's screen as PNG "
                   "(or PPM where FILE ends in .ppm).\n"))
        return CLI_USAGE;
    if (operands != 2)
        return cli_usage("screenshot takes a machine and a file");
    AUTO(client) c = client_connect(argv[1]);
    return c && client_screenshot(c, argv[2]) ? CLI_OK : CLI_FAILED;
}

/* ---- keys and pointer ---- */

static bool call(struct client *c, const char *interface, const char *method, GVariant *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) r =
        g_dbus_connection_call_sync(c->bus, NULL, CLIENT_CONSOLE, interface, method, args, NULL,
                                    G_DBUS_CALL_FLAGS_NONE, 30000, NULL, &error);
    if (error)
        client_fail(error);
    return r != NULL;
}

static bool key(struct client *c, uint8_t code, bool down)
{
    return call(c, "org.qemu.Display1.Keyboard", down ? "Press" : "Release",
                g_variant_new("(u)", code));
}

static bool type_char(struct client *c, char ch)
{
    uint8_t code;
    bool shift;
    if (!keys_for_char(ch, &code, &shift)) {
        cli_usage("no key of a US keyboard types \"%c\"", ch);
        return false;
    }
    bool ok = (!shift || key(c, KEYS_SHIFT, true)) && key(c, code, true) && key(c, code, false) &&
              (!shift || key(c, KEYS_SHIFT, false));
    g_usleep(KEY_GAP_US);
    return ok;
}

int cli_type(int argc, char **argv)
{
    int operands;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl type NAME TEXT...\n\nTypes on a US keyboard; the texts are "
                   "joined by spaces. \\n is Enter, \\t Tab.\n"))
        return CLI_USAGE;
    if (operands < 2)
        return cli_usage("type takes a machine and what to type");
    AUTO(client) c = client_connect(argv[1]);
    if (!c)
        return CLI_FAILED;
    for (int i = 2; i <= operands; i++) {
        g_autofree char *text = g_strcompress(argv[i]);
        for (const char *p = text; *p; p++)
            if (!type_char(c, *p))
                return CLI_FAILED;
        if (i < operands && !type_char(c, ' '))
            return CLI_FAILED;
    }
    return CLI_OK;
}

/* "ctrl-alt-delete": pressed in order, released the other way round. */
static bool combination(struct client *c, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "-", 8);
    guint n = g_strv_length(parts);
    uint8_t codes[8];
    if (!n || n > G_N_ELEMENTS(codes))
        return cli_usage("\"%s\" is no combination of keys", text) == CLI_OK;
    for (guint i = 0; i < n; i++)
        if (!(codes[i] = keys_by_name(parts[i])))
            return cli_usage("there is no key \"%s\"", parts[i]) == CLI_OK;
    bool ok = true;
    for (guint i = 0; i < n; i++)
        ok = ok && key(c, codes[i], true);
    for (guint i = n; i-- > 0;)
        ok = ok && key(c, codes[i], false);
    g_usleep(KEY_GAP_US);
    return ok;
}

int cli_key(int argc, char **argv)
{
    int operands;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl key NAME KEY[-KEY...]...\n\nPresses keys: a, f5, enter, "
                   "ctrl-alt-delete, ...\n"))
        return CLI_USAGE;
    if (operands < 2)
        return cli_usage("key takes a machine and keys");
    AUTO(client) c = client_connect(argv[1]);
    for (int i = 2; c && i <= operands; i++)
        if (!combination(c, argv[i]))
            return CLI_FAILED;
    return c ? CLI_OK : CLI_FAILED;
}

static bool button(struct client *c, const char *name)
{
    static const char *const names[] = {"left",       "middle", "right", "wheel-up",
                                        "wheel-down", "side",   "extra"};
    const char *mouse = "org.qemu.Display1.Mouse";
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(names[i], name) == 0)
            return call(c, mouse, "Press", g_variant_new("(u)", i)) &&
                   call(c, mouse, "Release", g_variant_new("(u)", i));
    cli_usage("there is no button \"%s\"", name);
    return false;
}

int cli_mouse(int argc, char **argv)
{
    int operands;
    if (!cli_parse(argc, argv, NULL, 0, &operands,
                   "Usage: vireoctl mouse NAME X Y [BUTTON...]\n\nMoves the pointer (in pixels) "
                   "and clicks: left, middle, right, wheel-up, wheel-down, side, extra.\n"))
        return CLI_USAGE;
    if (operands < 3)
        return cli_usage("mouse takes a machine and a place");
    AUTO(client) c = client_connect(argv[1]);
    if (!c || !call(c, "org.qemu.Display1.Mouse", "SetAbsPosition",
                    g_variant_new("(uu)", (guint32)strtoul(argv[2], NULL, 10),
                                  (guint32)strtoul(argv[3], NULL, 10))))
        return CLI_FAILED;
    for (int i = 4; i <= operands; i++)
        if (!button(c, argv[i]))
            return CLI_FAILED;
    return CLI_OK;
}
