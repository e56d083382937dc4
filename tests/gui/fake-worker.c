/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The tests' counterpart of vireo-vm: serves org.vireo.Machine1 and the console on the same
 * socket, with a moving test picture in a sealed memfd instead of a machine. Whatever the window
 * does arrives in a log, one line each, for the tests to read:
 *     press 28 / release 28 / button 0 down / move 10 20 / call Pause
 * Runs until the machine is turned off; dies at once on SIGKILL like the real one.
 * VIREO_FAKE_AGENT: a path; the enhanced session is a real one, and what connects to a Unix socket
 * there is the guest's agent (tests/session).
 */
#include <fcntl.h>
#include <gio/gio.h>
#include <gio/gunixfdlist.h>
#include <gio/gunixsocketaddress.h>
#include <glib-unix.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "session/session.h"
#include "vireo-display1.h"
#include "vireo-machine1.h"

enum { BOX = 64, FORMAT = 0x20020888 };

typedef struct {
    GDBusConnection *conn;
    VireoDisplayListener *listener;
    VireoDisplayListenerUnixMap *map;
    gboolean busy, stale;
} Listener;

static GMainLoop *loop;
static char *id, *folder;
static FILE *log_file;
static int frame_fd = -1;
static guint32 *frame;
static VireoMachine1 *machine;
static VireoDisplayConsole *console;
static VireoDisplayKeyboard *keyboard;
static VireoDisplayMouse *mouse;
static GPtrArray *listeners;
static int width = 1024, height = 768;
static int step;
static int bench_width, bench_height; /* what each update changes; 0: the moving box */
static unsigned painted;
static GDBusServer *server;
static guint animation;
static VireoSession *session;

static void note(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static void note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vfprintf(log_file, fmt, ap);
    va_end(ap);
    fputc('\n', log_file);
    fflush(log_file);
}

/* ---- the picture ---- */

static void fill(int x0, int y0, int w, int h, guint32 colour)
{
    for (int y = y0; y < y0 + h; y++)
        for (int x = x0; x < x0 + w; x++)
            frame[y * width + x] = colour;
}

static void make_frame(void)
{
    frame_fd = memfd_create("fake-frame", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (frame_fd < 0 || ftruncate(frame_fd, width * 4 * height) != 0)
        g_error("no memory for the frame");
    fcntl(frame_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
    frame = mmap(NULL, width * 4 * height, PROT_READ | PROT_WRITE, MAP_SHARED, frame_fd, 0);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            frame[y * width + x] =
                (guint32)(x * 255 / width) << 16 | (guint32)(y * 255 / height) << 8 | 0x60;
    /* Fine structure, which scaling must not tear: one-pixel lines. */
    for (int x = 0; x < width; x += 32)
        fill(x, 0, 1, height, 0xffffff);
    for (int y = 0; y < height; y += 32)
        fill(0, y, width, 1, 0xffffff);
    fill(0, 0, 40, 40, 0xff0000);
    fill(width - 40, height - 40, 40, 40, 0x0000ff);
}

static void update_listener(Listener *l, int x, int y, int w, int h);

static void on_painted(GObject *source, GAsyncResult *result, gpointer data)
{
    Listener *l = data;
    l->busy = FALSE;
    if (++painted % 50 == 0 && bench_width)
        note("painted %u", painted);
    if (!vireo_display_listener_unix_map_call_update_map_finish(l->map, result, NULL)) {
        g_ptr_array_remove(listeners, l);
        return;
    }
    if (l->stale)
        update_listener(l, 0, 0, width, height);
}

static void update_listener(Listener *l, int x, int y, int w, int h)
{
    if (!l->map || l->busy) {
        l->stale = TRUE;
        return;
    }
    l->busy = TRUE;
    l->stale = FALSE;
    vireo_display_listener_unix_map_call_update_map(l->map, x, y, w, h, NULL, on_painted, l);
}

/* For tests/bench/ui: one rectangle, written anew each time. */
static void change_rectangle(void)
{
    for (guint i = 0; i < listeners->len; i++)
        if (((Listener *)listeners->pdata[i])->busy)
            return; /* each is painted alone */
    step++;
    fill(0, 0, bench_width, bench_height, (guint32)step * 0x010305);
    for (guint i = 0; i < listeners->len; i++)
        update_listener(listeners->pdata[i], 0, 0, bench_width, bench_height);
}

static gboolean on_animate(gpointer data)
{
    if (g_strcmp0(vireo_machine1_get_state(machine), "running"))
        return G_SOURCE_CONTINUE;
    if (bench_width) {
        change_rectangle();
        return G_SOURCE_CONTINUE;
    }
    int before = 100 + step * 8 % 800, x = 100 + ++step * 8 % 800, left = MIN(before, x);
    fill(before, 300, BOX, BOX, 0x303030);
    fill(x, 300, BOX, BOX, 0xffe000);
    for (guint i = 0; i < listeners->len; i++)
        update_listener(listeners->pdata[i], left, 300, MAX(before, x) + BOX - left, BOX);
    return G_SOURCE_CONTINUE;
}

/* ---- listeners ---- */

static void on_map_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    Listener *l = data;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    l->map = vireo_display_listener_unix_map_proxy_new_finish(result, NULL);
    if (!l->map)
        return;
    g_dbus_proxy_set_default_timeout(G_DBUS_PROXY(l->map), G_MAXINT);
    g_unix_fd_list_append(fds, frame_fd, NULL);
    if (g_strcmp0(vireo_machine1_get_state(machine), "off"))
        vireo_display_listener_unix_map_call_scanout_map(l->map, g_variant_new_handle(0), 0, width,
                                                         height, width * 4, FORMAT, fds, NULL, NULL,
                                                         NULL);
    update_listener(l, 0, 0, width, height);
}

static void on_listener_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    Listener *l = data;
    guint32 shape[16 * 16] = {0};
    l->listener = vireo_display_listener_proxy_new_finish(result, NULL);
    if (!l->listener)
        return;
    for (int y = 0; y < 16; y++)
        for (int x = 0; x <= y; x++)
            shape[y * 16 + x] = 0xff00ffff;
    vireo_display_listener_call_cursor_define(
        l->listener, 16, 16, 0, 0,
        g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, shape, sizeof shape, 1), NULL, NULL, NULL);
}

static void on_listener_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    GDBusConnection *conn = g_dbus_connection_new_finish(result, NULL);
    if (!conn)
        return;
    Listener *l = g_new0(Listener, 1);
    l->conn = conn;
    g_ptr_array_add(listeners, l);
    vireo_display_listener_unix_map_proxy_new(conn, G_DBUS_PROXY_FLAGS_DO_NOT_LOAD_PROPERTIES, NULL,
                                              "/org/qemu/Display1/Listener", NULL, on_map_proxy, l);
    vireo_display_listener_proxy_new(conn, G_DBUS_PROXY_FLAGS_DO_NOT_LOAD_PROPERTIES, NULL,
                                     "/org/qemu/Display1/Listener", NULL, on_listener_proxy, l);
}

static gboolean on_register(VireoDisplayConsole *c, GDBusMethodInvocation *inv, GUnixFDList *fds,
                            GVariant *handle)
{
    int fd = g_unix_fd_list_get(fds, g_variant_get_handle(handle), NULL);
    g_autoptr(GSocket) socket = g_socket_new_from_fd(fd, NULL);
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    g_autofree char *guid = g_dbus_generate_guid();
    vireo_display_console_complete_register_listener(c, inv, NULL);
    g_dbus_connection_new(G_IO_STREAM(stream), guid, G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER,
                          NULL, NULL, on_listener_connection, NULL);
    note("listener");
    return TRUE;
}

/* ---- input ---- */

static gboolean on_press(VireoDisplayKeyboard *k, GDBusMethodInvocation *inv, guint code)
{
    note("press %u", code);
    vireo_display_keyboard_complete_press(k, inv);
    return TRUE;
}

static gboolean on_release(VireoDisplayKeyboard *k, GDBusMethodInvocation *inv, guint code)
{
    note("release %u", code);
    vireo_display_keyboard_complete_release(k, inv);
    return TRUE;
}

static gboolean on_button(VireoDisplayMouse *m, GDBusMethodInvocation *inv, guint b)
{
    note("button %u down", b);
    vireo_display_mouse_complete_press(m, inv);
    return TRUE;
}

static gboolean on_button_up(VireoDisplayMouse *m, GDBusMethodInvocation *inv, guint b)
{
    note("button %u up", b);
    vireo_display_mouse_complete_release(m, inv);
    return TRUE;
}

static gboolean on_move(VireoDisplayMouse *m, GDBusMethodInvocation *inv, guint x, guint y)
{
    note("move %u %u", x, y);
    vireo_display_mouse_complete_set_abs_position(m, inv);
    return TRUE;
}

/* ---- the machine ---- */

static gboolean quit(gpointer data)
{
    g_main_loop_quit(loop);
    return G_SOURCE_REMOVE;
}

static void set_state(const char *state)
{
    vireo_machine1_set_state(machine, state);
    g_dbus_interface_skeleton_flush(G_DBUS_INTERFACE_SKELETON(machine));
    note("state %s", state);
    if (!strcmp(state, "off") || !strcmp(state, "saved"))
        g_timeout_add(200, quit, NULL);
}

static gboolean on_configure(VireoMachine1 *m, GDBusMethodInvocation *inv, GUnixFDList *fds,
                             const char *config, GVariant *files, GVariant *options)
{
    note("configure files=%u fds=%d", (unsigned)g_variant_n_children(files),
         fds ? g_unix_fd_list_get_length(fds) : 0);
    if (strstr(config, "refuse")) {
        g_dbus_method_invocation_return_dbus_error(
            inv, "org.vireo.Error.Unsupported",
            "The disk /x/y.vhdx is encrypted, which Vireo cannot read. Choose another disk.");
        return TRUE;
    }
    vireo_machine1_complete_configure(m, inv, NULL);
    return TRUE;
}

static gboolean go_running(gpointer data)
{
    set_state("running");
    return G_SOURCE_REMOVE;
}

static gboolean on_start(VireoMachine1 *m, GDBusMethodInvocation *inv, GUnixFDList *fds,
                         GVariant *files, GVariant *options)
{
    set_state("starting");
    vireo_machine1_set_backend(m, "soft");
    vireo_machine1_set_backend_note(m, "/dev/kvm is not there");
    vireo_machine1_complete_start(m, inv, NULL);
    g_timeout_add(300, go_running, NULL);
    return TRUE;
}

static gboolean on_verb(GDBusInterfaceSkeleton *s, GDBusMethodInvocation *inv)
{
    static const struct {
        const char *method, *state;
    } verbs[] = {{"Pause", "paused"},
                 {"Resume", "running"},
                 {"TurnOff", "off"},
                 {"Save", "saved"},
                 {"Reset", "running"}};
    const char *method = g_dbus_method_invocation_get_method_name(inv);
    note("call %s", method);
    g_dbus_method_invocation_return_value(inv, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(verbs); i++)
        if (!strcmp(verbs[i].method, method))
            set_state(verbs[i].state);
    return TRUE;
}

static gboolean go_off(gpointer data)
{
    set_state("off");
    return G_SOURCE_REMOVE;
}

static gboolean on_shutdown(VireoMachine1 *m, GDBusMethodInvocation *inv, const char *action,
                            gboolean force)
{
    note("call Shutdown %s", action);
    vireo_machine1_complete_shutdown(m, inv);
    set_state("stopping");
    g_timeout_add(500, go_off, NULL);
    return TRUE;
}

static gboolean on_insert(VireoMachine1 *m, GDBusMethodInvocation *inv, GUnixFDList *fds,
                          const char *drive, const char *path, GVariant *files)
{
    note("call InsertMedia %s", path);
    vireo_machine1_complete_insert_media(m, inv, NULL);
    return TRUE;
}

static gboolean on_checkpoint(VireoMachine1 *m, GDBusMethodInvocation *inv, GUnixFDList *fds,
                              GVariant *options, GVariant *files)
{
    static guint n;
    g_autofree char *cp = g_strdup_printf("cp%u", n);
    g_autofree char *parent = n ? g_strdup_printf("cp%u", n - 1) : g_strdup("");
    GVariant *old = vireo_machine1_get_checkpoints(m);
    GVariantBuilder b;
    const char *name = "checkpoint";
    n++;
    g_variant_lookup(options, "name", "&s", &name);
    g_variant_builder_init(&b, G_VARIANT_TYPE("aa{sv}"));
    for (gsize i = 0; old && i < g_variant_n_children(old); i++) {
        g_autoptr(GVariant) v = g_variant_get_child_value(old, i);
        g_variant_builder_add_value(&b, v);
    }
    g_variant_builder_add_parsed(
        &b,
        "{'id': <%s>, 'parent': <%s>, 'name': <%s>, 'kind': <'standard'>, 'memory': <true>, "
        "'complete': <true>, 'created': <%x>}",
        cp, parent, name, g_get_real_time());
    vireo_machine1_set_checkpoints(m, g_variant_builder_end(&b));
    note("call CreateCheckpoint %s", name);
    vireo_machine1_complete_create_checkpoint(m, inv, NULL, cp);
    return TRUE;
}

static gboolean on_delete_checkpoint(VireoMachine1 *m, GDBusMethodInvocation *inv, const char *cp,
                                     gboolean subtree)
{
    note("call DeleteCheckpoint %s %d", cp, subtree);
    vireo_machine1_complete_delete_checkpoint(m, inv);
    return TRUE;
}

static GVariant *dicts(const char *text)
{
    return g_variant_parse(G_VARIANT_TYPE("aa{sv}"), text, NULL, NULL, NULL);
}

static void make_objects(void)
{
    machine = vireo_machine1_skeleton_new();
    vireo_machine1_set_state(machine, "new");
    vireo_machine1_set_id(machine, id);
    vireo_machine1_set_process_id(machine, (guint)getpid());
    vireo_machine1_set_memory(machine, 1024ull << 20);
    vireo_machine1_set_memory_assigned(machine, 1024ull << 20);
    vireo_machine1_set_checkpoints(machine, dicts("[]"));
    vireo_machine1_set_disks(machine, dicts("[{'id': <'scsi0:0'>, 'kind': <'disk'>}]"));
    vireo_machine1_set_adapters(machine, dicts("[{'id': <'net0'>, 'switch': <'nat'>}]"));
    g_signal_connect(machine, "handle-configure", G_CALLBACK(on_configure), NULL);
    g_signal_connect(machine, "handle-start", G_CALLBACK(on_start), NULL);
    g_signal_connect(machine, "handle-shutdown", G_CALLBACK(on_shutdown), NULL);
    g_signal_connect(machine, "handle-insert-media", G_CALLBACK(on_insert), NULL);
    g_signal_connect(machine, "handle-create-checkpoint", G_CALLBACK(on_checkpoint), NULL);
    g_signal_connect(machine, "handle-delete-checkpoint", G_CALLBACK(on_delete_checkpoint), NULL);
    static const char *const verbs[] = {"pause", "resume",     "turn-off",    "save",
                                        "reset", "inject-nmi", "eject-media", "rename-checkpoint"};
    for (gsize i = 0; i < G_N_ELEMENTS(verbs); i++) {
        g_autofree char *signal = g_strconcat("handle-", verbs[i], NULL);
        g_signal_connect(machine, signal, G_CALLBACK(on_verb), NULL);
    }
    console = vireo_display_console_skeleton_new();
    vireo_display_console_set_width(console, width);
    vireo_display_console_set_height(console, height);
    g_signal_connect(console, "handle-register-listener", G_CALLBACK(on_register), NULL);
    keyboard = vireo_display_keyboard_skeleton_new();
    g_signal_connect(keyboard, "handle-press", G_CALLBACK(on_press), NULL);
    g_signal_connect(keyboard, "handle-release", G_CALLBACK(on_release), NULL);
    mouse = vireo_display_mouse_skeleton_new();
    vireo_display_mouse_set_is_absolute(mouse, TRUE);
    g_signal_connect(mouse, "handle-press", G_CALLBACK(on_button), NULL);
    g_signal_connect(mouse, "handle-release", G_CALLBACK(on_button_up), NULL);
    g_signal_connect(mouse, "handle-set-abs-position", G_CALLBACK(on_move), NULL);
}

/* ---- serving ---- */

static gboolean on_connection(GDBusServer *s, GDBusConnection *conn)
{
    static const char path[] = "/org/qemu/Display1/Console_0";
    g_object_ref(conn);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(machine), conn,
                                     "/org/vireo/Machine1", NULL);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(console), conn, path, NULL);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(keyboard), conn, path, NULL);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(mouse), conn, path, NULL);
    if (session)
        vireo_session_export(session, conn, NULL);
    note("connection");
    return TRUE;
}

/* ---- the enhanced session ---- */

static gboolean on_agent(GSocketService *service, GSocketConnection *connection, GObject *source)
{
    int fd = dup(g_socket_get_fd(g_socket_connection_get_socket(connection)));
    vireo_session_accept(session, fd, 1000); /* a port that only root may have */
    return TRUE;
}

static void serve_agent(const char *path)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GSocketAddress) address = g_unix_socket_address_new(path);
    GSocketService *service = g_socket_service_new();
    session = vireo_session_new();
    for (guint i = 0; i < VIREO_POLICIES; i++)
        vireo_session_set_policy(session, i, i != VIREO_POLICY_MICROPHONE);
    vireo_session_set_enabled(session, TRUE);
    g_unlink(path);
    if (!g_socket_listener_add_address(G_SOCKET_LISTENER(service), address, G_SOCKET_TYPE_STREAM,
                                       G_SOCKET_PROTOCOL_DEFAULT, NULL, NULL, &error))
        g_error("%s: %s", path, error->message);
    g_signal_connect(service, "incoming", G_CALLBACK(on_agent), NULL);
}

static void serve(void)
{
    g_autofree char *runtime = g_build_filename(g_get_user_runtime_dir(), "vireo", id, NULL);
    g_autofree char *socket = g_build_filename(runtime, "bus", NULL);
    g_autofree char *address = g_strconcat("unix:path=", socket, NULL);
    g_autofree char *guid = g_dbus_generate_guid();
    g_autoptr(GError) error = NULL;
    g_mkdir_with_parents(runtime, 0700);
    g_unlink(socket);
    server = g_dbus_server_new_sync(address, G_DBUS_SERVER_FLAGS_NONE, guid, NULL, NULL, &error);
    if (!server)
        g_error("%s", error->message);
    g_signal_connect(server, "new-connection", G_CALLBACK(on_connection), NULL);
    g_dbus_server_start(server);
}

int main(int argc, char **argv)
{
    const GOptionEntry options[] = {
        {"id", 0, 0, G_OPTION_ARG_STRING, &id, NULL, NULL},
        {"folder", 0, 0, G_OPTION_ARG_STRING, &folder, NULL, NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_option_context_add_main_entries(context, options, NULL);
    if (!g_option_context_parse(context, &argc, &argv, NULL) || !id || !folder)
        return 2;
    g_autofree char *log_path = g_build_filename(folder, "fake.log", NULL);
    log_file = fopen(log_path, "a");
    if (!log_file)
        return 1;
    loop = g_main_loop_new(NULL, FALSE);
    listeners = g_ptr_array_new_with_free_func(g_free);
    note("begin %d", (int)getpid());
    /* "1280x800:64x64": the screen, and what each update changes */
    if (g_getenv("VIREO_FAKE_BENCH"))
        sscanf(g_getenv("VIREO_FAKE_BENCH"), "%dx%d:%dx%d", &width, &height, &bench_width,
               &bench_height);
    make_frame();
    make_objects();
    if (g_getenv("VIREO_FAKE_AGENT"))
        serve_agent(g_getenv("VIREO_FAKE_AGENT"));
    serve();
    const char *quiet = g_getenv("VIREO_FAKE_STILL");
    animation = quiet ? 0 : g_timeout_add(bench_width ? 50 : 100, on_animate, NULL);
    g_unix_signal_add(SIGTERM, quit, NULL);
    g_main_loop_run(loop);
    g_autofree char *socket = g_build_filename(g_get_user_runtime_dir(), "vireo", id, "bus", NULL);
    g_dbus_server_stop(server);
    g_unlink(socket);
    return 0;
}
