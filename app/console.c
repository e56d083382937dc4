/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/console.h"

#include <gio/gunixfdlist.h>
#include <glib-unix.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vireo-display1.h"

#define CONSOLE_PATH "/org/qemu/Display1/Console_0"
#define LISTENER_PATH "/org/qemu/Display1/Listener"

enum {
    PIXMAN_X8R8G8B8 = 0x20020888,
    PIXMAN_A8R8G8B8 = 0x20028888,
    PIXMAN_R5G6B5 = 0x10020565,
    MAX_SIDE = 16384,
    MAX_CURSOR = 256,
    THUMBNAIL_MS = 500, /* how often updates are answered while nobody paints */
};

struct _VireoConsole {
    GObject parent;
    GCancellable *cancellable;

    GDBusConnection *connection;    /* to the worker */
    GDBusConnection *listener_conn; /* on which the worker calls us */
    VireoDisplayListener *listener;
    VireoDisplayListenerUnixMap *map_listener;
    VireoDisplayConsole *console;
    VireoDisplayKeyboard *keyboard;
    VireoDisplayMouse *mouse;

    void *map;
    gsize map_size;
    cairo_surface_t *surface;
    int width, height;

    GdkTexture *cursor;
    int hot_x, hot_y;
    gboolean cursor_hidden;

    unsigned viewers;
    GDBusMethodInvocation *waiting; /* an UpdateMap not yet answered */
    guint answer_id;
};

G_DEFINE_FINAL_TYPE(VireoConsole, vireo_console, G_TYPE_OBJECT)

enum { RESIZED, UPDATED, CURSOR_CHANGED, N_SIGNALS };
static guint signals[N_SIGNALS];

/* ---- the frame ---- */

static void drop_frame(VireoConsole *self)
{
    if (self->surface) {
        cairo_surface_finish(self->surface);
        g_clear_pointer(&self->surface, cairo_surface_destroy);
    }
    if (self->map)
        munmap(self->map, self->map_size);
    self->map = NULL;
    self->width = self->height = 0;
}

static cairo_format_t cairo_format(guint pixman_format)
{
    switch (pixman_format) {
    case PIXMAN_X8R8G8B8:
    case PIXMAN_A8R8G8B8: return CAIRO_FORMAT_RGB24;
    case PIXMAN_R5G6B5: return CAIRO_FORMAT_RGB16_565;
    default: return CAIRO_FORMAT_INVALID;
    }
}

/* The worker's numbers are checked against the descriptor; a map that could shrink under us is not
 * taken. */
static gboolean map_frame(VireoConsole *self, int fd, guint offset, guint width, guint height,
                          guint stride, guint pixman_format, const char **why)
{
    cairo_format_t format = cairo_format(pixman_format);
    struct stat st;
    guint64 end = (guint64)offset + (guint64)stride * height;
    int seals = fcntl(fd, F_GET_SEALS);
    guint bytes = format == CAIRO_FORMAT_RGB16_565 ? 2 : 4;
    *why = "The worker's frame cannot be used";
    if (format == CAIRO_FORMAT_INVALID || !width || !height || width > MAX_SIDE ||
        height > MAX_SIDE || stride < width * bytes || stride % 4 || offset % 4 ||
        fstat(fd, &st) != 0 || end > (guint64)st.st_size || seals < 0 || !(seals & F_SEAL_SHRINK))
        return FALSE;
    void *map = mmap(NULL, end, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return FALSE;
    drop_frame(self);
    self->map = map;
    self->map_size = end;
    self->width = (int)width;
    self->height = (int)height;
    self->surface = cairo_image_surface_create_for_data((unsigned char *)map + offset, format,
                                                        (int)width, (int)height, (int)stride);
    return TRUE;
}

static void answer(VireoConsole *self)
{
    GDBusMethodInvocation *inv = g_steal_pointer(&self->waiting);
    g_clear_handle_id(&self->answer_id, g_source_remove);
    if (inv)
        vireo_display_listener_unix_map_complete_update_map(self->map_listener, inv);
}

static gboolean on_answer_time(gpointer data)
{
    VireoConsole *self = data;
    self->answer_id = 0;
    answer(self);
    return G_SOURCE_REMOVE;
}

static gboolean on_scanout_map(VireoDisplayListenerUnixMap *skeleton, GDBusMethodInvocation *inv,
                               GUnixFDList *fds, GVariant *handle, guint offset, guint width,
                               guint height, guint stride, guint format, VireoConsole *self)
{
    const char *why = "The worker sent no frame";
    g_autoptr(GError) error = NULL;
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(handle), &error) : -1;
    gboolean ok = fd >= 0 && map_frame(self, fd, offset, width, height, stride, format, &why);
    if (fd >= 0)
        close(fd);
    if (!ok) {
        g_dbus_method_invocation_return_error_literal(inv, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS,
                                                      why);
        return TRUE;
    }
    vireo_display_listener_unix_map_complete_scanout_map(skeleton, inv, NULL);
    g_signal_emit(self, signals[RESIZED], 0);
    return TRUE;
}

static gboolean on_update_map(VireoDisplayListenerUnixMap *skeleton, GDBusMethodInvocation *inv,
                              int x, int y, int w, int h, VireoConsole *self)
{
    answer(self); /* a worker that does not wait gets its answer early */
    int x2 = CLAMP((gint64)x + w, 0, self->width), y2 = CLAMP((gint64)y + h, 0, self->height);
    x = CLAMP(x, 0, self->width);
    y = CLAMP(y, 0, self->height);
    self->waiting = inv;
    if (self->surface && x2 > x && y2 > y) {
        cairo_surface_mark_dirty(self->surface);
        g_signal_emit(self, signals[UPDATED], 0, x, y, x2 - x, y2 - y);
    }
    if (self->waiting && !self->answer_id)
        self->answer_id = g_timeout_add(THUMBNAIL_MS, on_answer_time, self);
    return TRUE;
}

static gboolean on_disable(VireoDisplayListener *skeleton, GDBusMethodInvocation *inv,
                           VireoConsole *self)
{
    drop_frame(self);
    vireo_display_listener_complete_disable(skeleton, inv);
    g_signal_emit(self, signals[RESIZED], 0);
    return TRUE;
}

static gboolean on_mouse_set(VireoDisplayListener *skeleton, GDBusMethodInvocation *inv, int x,
                             int y, int on, VireoConsole *self)
{
    gboolean hidden = !on;
    vireo_display_listener_complete_mouse_set(skeleton, inv);
    if (hidden != self->cursor_hidden) {
        self->cursor_hidden = hidden;
        g_signal_emit(self, signals[CURSOR_CHANGED], 0);
    }
    return TRUE;
}

static gboolean on_cursor_define(VireoDisplayListener *skeleton, GDBusMethodInvocation *inv, int w,
                                 int h, int hot_x, int hot_y, GVariant *data, VireoConsole *self)
{
    gsize size = 0;
    g_variant_get_fixed_array(data, &size, 1);
    if (w <= 0 || h <= 0 || w > MAX_CURSOR || h > MAX_CURSOR || size < (gsize)w * h * 4) {
        g_dbus_method_invocation_return_error_literal(inv, G_DBUS_ERROR, G_DBUS_ERROR_INVALID_ARGS,
                                                      "This is no pointer's shape");
        return TRUE;
    }
    g_autoptr(GBytes) bytes = g_variant_get_data_as_bytes(data);
    g_clear_object(&self->cursor);
    self->cursor = gdk_memory_texture_new(w, h, GDK_MEMORY_B8G8R8A8, bytes, (gsize)w * 4);
    self->hot_x = CLAMP(hot_x, 0, w - 1);
    self->hot_y = CLAMP(hot_y, 0, h - 1);
    vireo_display_listener_complete_cursor_define(skeleton, inv);
    g_signal_emit(self, signals[CURSOR_CHANGED], 0);
    return TRUE;
}

/* ---- connecting ---- */

static void on_listener_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) conn = g_dbus_connection_new_finish(result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return;
    VireoConsole *self = data;
    if (!conn ||
        !g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(self->listener), conn,
                                          LISTENER_PATH, &error) ||
        !g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(self->map_listener), conn,
                                          LISTENER_PATH, &error)) {
        g_debug("console: %s", error->message);
        return;
    }
    g_dbus_connection_start_message_processing(conn);
    self->listener_conn = g_steal_pointer(&conn);
}

static void on_registered(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    if (!vireo_display_console_call_register_listener_finish(VIREO_DISPLAY_CONSOLE(source), NULL,
                                                             result, &error))
        g_debug("console: %s", error->message);
}

static void register_listener(VireoConsole *self)
{
    int pair[2];
    g_autoptr(GError) error = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    g_autoptr(GSocket) socket = g_socket_new_from_fd(pair[0], &error);
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&pair[1], 1);
    if (!socket) {
        close(pair[0]);
        return;
    }
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    vireo_display_console_call_register_listener(self->console, g_variant_new_handle(0), fds,
                                                 self->cancellable, on_registered, NULL);
    g_dbus_connection_new(G_IO_STREAM(stream), NULL,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, self->cancellable, on_listener_connection, self);
}

static void on_console_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    VireoDisplayConsole *proxy = vireo_display_console_proxy_new_finish(result, &error);
    if (!proxy)
        return;
    VireoConsole *self = data;
    self->console = proxy;
    register_listener(self);
}

static void on_keyboard_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    VireoDisplayKeyboard *proxy = vireo_display_keyboard_proxy_new_finish(result, NULL);
    if (proxy)
        VIREO_CONSOLE(data)->keyboard = proxy;
}

static void on_mouse_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    VireoDisplayMouse *proxy = vireo_display_mouse_proxy_new_finish(result, NULL);
    if (proxy)
        VIREO_CONSOLE(data)->mouse = proxy;
}

VireoConsole *vireo_console_new(GDBusConnection *connection)
{
    VireoConsole *self = g_object_new(VIREO_TYPE_CONSOLE, NULL);
    self->connection = g_object_ref(connection);
    vireo_display_console_proxy_new(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, CONSOLE_PATH,
                                    self->cancellable, on_console_proxy, self);
    vireo_display_keyboard_proxy_new(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, CONSOLE_PATH,
                                     self->cancellable, on_keyboard_proxy, self);
    vireo_display_mouse_proxy_new(connection, G_DBUS_PROXY_FLAGS_NONE, NULL, CONSOLE_PATH,
                                  self->cancellable, on_mouse_proxy, self);
    return self;
}

void vireo_console_close(VireoConsole *self)
{
    g_cancellable_cancel(self->cancellable);
    answer(self);
    g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(self->listener));
    g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(self->map_listener));
    if (self->listener_conn)
        g_dbus_connection_close(self->listener_conn, NULL, NULL, NULL);
    g_clear_object(&self->listener_conn);
    drop_frame(self);
    g_signal_emit(self, signals[RESIZED], 0);
}

static void vireo_console_finalize(GObject *object)
{
    VireoConsole *self = VIREO_CONSOLE(object);
    g_cancellable_cancel(self->cancellable);
    answer(self);
    drop_frame(self);
    g_clear_object(&self->listener);
    g_clear_object(&self->map_listener);
    g_clear_object(&self->listener_conn);
    g_clear_object(&self->console);
    g_clear_object(&self->keyboard);
    g_clear_object(&self->mouse);
    g_clear_object(&self->connection);
    g_clear_object(&self->cursor);
    g_clear_object(&self->cancellable);
    G_OBJECT_CLASS(vireo_console_parent_class)->finalize(object);
}

static void vireo_console_class_init(VireoConsoleClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = vireo_console_finalize;
    GType type = G_TYPE_FROM_CLASS(klass);
    signals[RESIZED] =
        g_signal_new("resized", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL, G_TYPE_NONE, 0);
    signals[UPDATED] = g_signal_new("updated", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL, NULL,
                                    G_TYPE_NONE, 4, G_TYPE_INT, G_TYPE_INT, G_TYPE_INT, G_TYPE_INT);
    signals[CURSOR_CHANGED] = g_signal_new("cursor-changed", type, G_SIGNAL_RUN_LAST, 0, NULL, NULL,
                                           NULL, G_TYPE_NONE, 0);
}

static void vireo_console_init(VireoConsole *self)
{
    static const char *const interfaces[] = {"org.qemu.Display1.Listener.Unix.Map", NULL};
    self->cancellable = g_cancellable_new();
    self->listener = vireo_display_listener_skeleton_new();
    self->map_listener = vireo_display_listener_unix_map_skeleton_new();
    vireo_display_listener_set_interfaces(self->listener, interfaces);
    g_signal_connect(self->listener, "handle-disable", G_CALLBACK(on_disable), self);
    g_signal_connect(self->listener, "handle-mouse-set", G_CALLBACK(on_mouse_set), self);
    g_signal_connect(self->listener, "handle-cursor-define", G_CALLBACK(on_cursor_define), self);
    g_signal_connect(self->map_listener, "handle-scanout-map", G_CALLBACK(on_scanout_map), self);
    g_signal_connect(self->map_listener, "handle-update-map", G_CALLBACK(on_update_map), self);
}

/* ---- for viewers ---- */

cairo_surface_t *vireo_console_get_surface(VireoConsole *self)
{
    return self->surface;
}

int vireo_console_get_width(VireoConsole *self)
{
    return self->width;
}

int vireo_console_get_height(VireoConsole *self)
{
    return self->height;
}

void vireo_console_attach(VireoConsole *self)
{
    self->viewers++;
}

void vireo_console_detach(VireoConsole *self)
{
    g_return_if_fail(self->viewers > 0);
    self->viewers--;
}

void vireo_console_painted(VireoConsole *self)
{
    answer(self);
}

GdkTexture *vireo_console_get_cursor(VireoConsole *self, int *hot_x, int *hot_y)
{
    *hot_x = self->hot_x;
    *hot_y = self->hot_y;
    return self->cursor;
}

gboolean vireo_console_cursor_hidden(VireoConsole *self)
{
    return self->cursor_hidden;
}

gboolean vireo_console_is_absolute(VireoConsole *self)
{
    return !self->mouse || vireo_display_mouse_get_is_absolute(self->mouse);
}

void vireo_console_key(VireoConsole *self, guint keycode, gboolean press)
{
    if (self->keyboard && press)
        vireo_display_keyboard_call_press(self->keyboard, keycode, NULL, NULL, NULL);
    else if (self->keyboard)
        vireo_display_keyboard_call_release(self->keyboard, keycode, NULL, NULL, NULL);
}

void vireo_console_combination(VireoConsole *self, const guint *keycodes, gsize n)
{
    for (gsize i = 0; i < n; i++)
        vireo_console_key(self, keycodes[i], TRUE);
    for (gsize i = n; i-- > 0;)
        vireo_console_key(self, keycodes[i], FALSE);
}

void vireo_console_button(VireoConsole *self, guint button, gboolean press)
{
    if (self->mouse && press)
        vireo_display_mouse_call_press(self->mouse, button, NULL, NULL, NULL);
    else if (self->mouse)
        vireo_display_mouse_call_release(self->mouse, button, NULL, NULL, NULL);
}

void vireo_console_move(VireoConsole *self, guint x, guint y)
{
    if (self->mouse)
        vireo_display_mouse_call_set_abs_position(self->mouse, x, y, NULL, NULL, NULL);
}

void vireo_console_move_by(VireoConsole *self, int dx, int dy)
{
    if (self->mouse)
        vireo_display_mouse_call_rel_motion(self->mouse, dx, dy, NULL, NULL, NULL);
}

void vireo_console_set_size(VireoConsole *self, guint width, guint height, guint width_mm,
                            guint height_mm)
{
    if (self->console)
        vireo_display_console_call_set_uiinfo(self->console, (guint16)MIN(width_mm, G_MAXUINT16),
                                              (guint16)MIN(height_mm, G_MAXUINT16), 0, 0, width,
                                              height, NULL, NULL, NULL);
}

GdkTexture *vireo_console_snapshot(VireoConsole *self)
{
    if (!self->surface)
        return NULL;
    cairo_surface_t *copy =
        cairo_image_surface_create(CAIRO_FORMAT_ARGB32, self->width, self->height);
    cairo_t *cr = cairo_create(copy);
    cairo_set_source_surface(cr, self->surface, 0, 0);
    cairo_set_operator(cr, CAIRO_OPERATOR_SOURCE); /* opaque */
    cairo_paint(cr);
    cairo_destroy(cr);
    cairo_surface_flush(copy);
    gsize stride = (gsize)cairo_image_surface_get_stride(copy);
    g_autoptr(GBytes) bytes =
        g_bytes_new_with_free_func(cairo_image_surface_get_data(copy), stride * (gsize)self->height,
                                   (GDestroyNotify)cairo_surface_destroy, copy);
    return gdk_memory_texture_new(self->width, self->height, GDK_MEMORY_B8G8R8A8_PREMULTIPLIED,
                                  bytes, stride);
}
