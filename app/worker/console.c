/* SPDX-License-Identifier: GPL-3.0-or-later */
/* org.qemu.Display1: the console for viewers. Each viewer has a connection of its own on the socket
 * it handed over; what it has not answered yet holds back what comes next. */
#include <errno.h>
#include <fcntl.h>
#include <gio/gunixconnection.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"

#define LISTENER_PATH "/org/qemu/Display1/Listener"
#define MAP_INTERFACE "org.qemu.Display1.Listener.Unix.Map"
enum { PIXMAN_X8R8G8B8 = 0x20020888, PIXMAN_R5G6B5 = 0x10020565, CALL_TIMEOUT_MS = 60000 };

struct viewer {
    struct worker *w;
    GDBusConnection *connection;
    VireoDisplayListener *listener;
    VireoDisplayListenerUnixMap *map; /* NULL: frames go as bytes */
    GCancellable *cancellable;
    struct console_listener *source;
    unsigned waiting; /* calls not answered */
    gboolean gone;
    gint posted; /* atomic: a wake is on its way */
    /* for viewers that cannot map */
    uint8_t *pixels;
    size_t bytes;
    struct console_surface surface;
};

static void viewer_pump(struct viewer *v);

/* ---- life of a viewer ---- */

static void unmap(struct viewer *v)
{
    if (v->pixels)
        munmap(v->pixels, v->bytes);
    v->pixels = NULL;
}

static void viewer_free(struct viewer *v)
{
    g_clear_object(&v->map);
    g_clear_object(&v->listener);
    g_clear_object(&v->connection);
    g_clear_object(&v->cancellable);
    unmap(v);
    g_free(v);
}

/* Frees it now, or when the last answer and wake have come. */
static void viewer_end(struct viewer *v)
{
    if (!v->gone) {
        v->gone = TRUE;
        g_ptr_array_remove(v->w->viewers, v);
        if (v->source)
            console_unlisten(v->source);
        v->source = NULL;
        g_cancellable_cancel(v->cancellable);
        if (v->connection) {
            g_signal_handlers_disconnect_by_data(v->connection, v);
            g_dbus_connection_close(v->connection, NULL, NULL, NULL);
        }
    }
    if (!v->waiting && !g_atomic_int_get(&v->posted))
        viewer_free(v);
}

static gboolean on_wake(gpointer data)
{
    struct viewer *v = data;
    g_atomic_int_set(&v->posted, 0);
    if (v->gone)
        viewer_end(v);
    else
        viewer_pump(v);
    return G_SOURCE_REMOVE;
}

/* I/O thread. */
static void wake(void *ctx)
{
    struct viewer *v = ctx;
    if (g_atomic_int_compare_and_exchange(&v->posted, 0, 1))
        g_idle_add_full(G_PRIORITY_DEFAULT, on_wake, v, NULL);
}

/* ---- telling it ---- */

static void on_answer(GObject *proxy, GAsyncResult *result, gpointer data)
{
    struct viewer *v = data;
    g_autoptr(GError) error = NULL;
    GVariant *answer = g_dbus_proxy_call_finish(G_DBUS_PROXY(proxy), result, &error);
    g_clear_pointer(&answer, g_variant_unref); /* says nothing but that it has come */
    v->waiting--;
    if (v->gone || g_error_matches(error, G_DBUS_ERROR, G_DBUS_ERROR_NO_REPLY) ||
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CLOSED) ||
        g_error_matches(error, G_IO_ERROR, G_IO_ERROR_TIMED_OUT)) {
        viewer_end(v);
        return;
    }
    if (!v->waiting)
        viewer_pump(v);
}

static void tell(struct viewer *v, gpointer proxy, const char *method, GVariant *args,
                 GUnixFDList *fds)
{
    v->waiting++;
    g_dbus_proxy_call_with_unix_fd_list(G_DBUS_PROXY(proxy), method, args, G_DBUS_CALL_FLAGS_NONE,
                                        CALL_TIMEOUT_MS, fds, v->cancellable, on_answer, v);
}

static guint32 pixman_format(enum console_format f)
{
    return f == CONSOLE_RGB565 ? PIXMAN_R5G6B5 : PIXMAN_X8R8G8B8;
}

static guint32 pixel_bytes(enum console_format f)
{
    return f == CONSOLE_RGB565 ? 2 : 4;
}

static gboolean map_pixels(struct viewer *v, const struct console_surface *s)
{
    unmap(v);
    v->bytes = (size_t)s->stride * s->height;
    void *p = mmap(NULL, v->bytes, PROT_READ, MAP_SHARED, s->fd, (off_t)s->offset);
    v->pixels = p == MAP_FAILED ? NULL : p;
    return v->pixels != NULL;
}

/* A rectangle's bytes, rows packed. */
static GVariant *copy_pixels(const struct viewer *v, const struct console_rect *r)
{
    guint32 bpp = pixel_bytes(v->surface.format);
    size_t row = (size_t)r->width * bpp;
    uint8_t *copy = g_malloc(row * r->height);
    for (guint32 y = 0; y < r->height; y++)
        memcpy(copy + y * row,
               v->pixels + (size_t)(r->y + y) * v->surface.stride + (size_t)r->x * bpp, row);
    return g_variant_new_from_data(G_VARIANT_TYPE_BYTESTRING, copy, row * r->height, TRUE, g_free,
                                   copy);
}

static void tell_surface(struct viewer *v, const struct console_surface *s)
{
    guint32 format = pixman_format(s->format);
    v->surface = *s;
    if (s->fd < 0) {
        tell(v, v->listener, "Disable", NULL, NULL);
        return;
    }
    if (v->map) {
        g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
        int index = g_unix_fd_list_append(fds, s->fd, NULL);
        if (index >= 0)
            tell(v, v->map, "ScanoutMap",
                 g_variant_new("(huuuuu)", index, (guint32)s->offset, s->width, s->height,
                               s->stride, format),
                 fds);
        return;
    }
    struct console_rect all = {0, 0, s->width, s->height};
    if (map_pixels(v, s))
        tell(v, v->listener, "Scanout",
             g_variant_new("(uuuu@ay)", s->width, s->height, s->width * pixel_bytes(s->format),
                           format, copy_pixels(v, &all)),
             NULL);
}

static void tell_rect(struct viewer *v, const struct console_rect *r)
{
    guint32 bpp = pixel_bytes(v->surface.format);
    if (v->map)
        tell(v, v->map, "UpdateMap", g_variant_new("(iiii)", r->x, r->y, r->width, r->height),
             NULL);
    else if (v->pixels)
        tell(v, v->listener, "Update",
             g_variant_new("(iiiiuu@ay)", r->x, r->y, r->width, r->height, r->width * bpp,
                           pixman_format(v->surface.format), copy_pixels(v, r)),
             NULL);
}

static void tell_shape(struct viewer *v, const struct console_shape *s)
{
    if (!s->width)
        return;
    GVariant *bytes =
        g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, s->argb, (gsize)s->width * s->height * 4, 1);
    tell(v, v->listener, "CursorDefine",
         g_variant_new("(iiii@ay)", s->width, s->height, s->hot_x, s->hot_y, bytes), NULL);
}

static void viewer_pump(struct viewer *v)
{
    struct console_update u;
    while (v->source && !v->gone && !v->waiting && console_take(v->source, &u)) {
        if (u.changes & CONSOLE_SURFACE_CHANGED)
            tell_surface(v, &u.surface);
        for (unsigned i = 0; i < u.nrects; i++)
            tell_rect(v, &u.rects[i]);
        if (u.changes & CONSOLE_SHAPE_CHANGED)
            tell_shape(v, &u.shape);
        if (u.changes & CONSOLE_POINTER_MOVED)
            tell(v, v->listener, "MouseSet",
                 g_variant_new("(iii)", u.pointer.x, u.pointer.y, (gint32)u.pointer.visible), NULL);
        console_update_clear(&u);
    }
}

/* ---- a new viewer ---- */

static void listen_now(struct viewer *v)
{
    struct worker *w = v->w;
    if (!w->vm || w->ended)
        return;
    v->source = console_listen(vm_console(w->vm), wake, v);
    viewer_pump(v);
}

static void on_map_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    struct viewer *v = data;
    v->map = vireo_display_listener_unix_map_proxy_new_finish(result, NULL);
    v->waiting--;
    if (v->gone)
        viewer_end(v);
    else
        listen_now(v);
}

static void on_listener_proxy(GObject *source, GAsyncResult *result, gpointer data)
{
    struct viewer *v = data;
    v->listener = vireo_display_listener_proxy_new_finish(result, NULL);
    v->waiting--;
    if (v->gone || !v->listener) {
        viewer_end(v);
        return;
    }
    const char *const *interfaces = vireo_display_listener_get_interfaces(v->listener);
    if (interfaces && g_strv_contains(interfaces, MAP_INTERFACE)) {
        v->waiting++;
        vireo_display_listener_unix_map_proxy_new(v->connection,
                                                  G_DBUS_PROXY_FLAGS_DO_NOT_LOAD_PROPERTIES, NULL,
                                                  LISTENER_PATH, v->cancellable, on_map_proxy, v);
        return;
    }
    listen_now(v);
}

static void on_closed(GDBusConnection *c, gboolean remote, GError *error, gpointer data)
{
    viewer_end(data);
}

static void on_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    struct viewer *v = data;
    g_autoptr(GError) error = NULL;
    v->connection = g_dbus_connection_new_finish(result, &error);
    v->waiting--;
    if (v->gone || !v->connection) {
        viewer_end(v);
        return;
    }
    g_signal_connect(v->connection, "closed", G_CALLBACK(on_closed), v);
    v->waiting++;
    vireo_display_listener_proxy_new(v->connection, G_DBUS_PROXY_FLAGS_NONE, NULL, LISTENER_PATH,
                                     v->cancellable, on_listener_proxy, v);
}

static void viewer_begin(struct worker *w, GSocketConnection *stream)
{
    struct viewer *v = g_new0(struct viewer, 1);
    g_autofree char *guid = g_dbus_generate_guid();
    v->w = w;
    v->cancellable = g_cancellable_new();
    v->waiting = 1;
    v->surface.fd = -1;
    g_ptr_array_add(w->viewers, v);
    g_dbus_connection_new(G_IO_STREAM(stream), guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                              G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_REQUIRE_SAME_USER,
                          NULL, v->cancellable, on_connection, v);
}

static gboolean on_register(VireoDisplayConsole *console, GDBusMethodInvocation *call,
                            GUnixFDList *fds, GVariant *handle, struct worker *w)
{
    g_autoptr(GError) error = NULL;
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(handle), &error) : -1;
    g_autoptr(GSocket) socket = fd < 0 ? NULL : g_socket_new_from_fd(fd, &error);
    if (!socket) {
        err e = ERR_INIT;
        auto_close(fd);
        err_set(&e, ERR_INVALID, "A listener is given as a connected socket.");
        worker_fail(call, &e);
        return TRUE;
    }
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    viewer_begin(w, stream);
    vireo_display_console_complete_register_listener(console, call, NULL);
    return TRUE;
}

static gboolean on_ui_info(VireoDisplayConsole *console, GDBusMethodInvocation *call,
                           guint16 width_mm, guint16 height_mm, gint xoff, gint yoff, guint width,
                           guint height, struct worker *w)
{
    worker_session_size(w->session, g_dbus_method_invocation_get_connection(call), width, height,
                        width_mm, height_mm);
    vireo_display_console_complete_set_uiinfo(console, call);
    return TRUE;
}

/* ---- input ---- */

static struct console *console_of(struct worker *w)
{
    return w->vm && !w->ended ? vm_console(w->vm) : NULL;
}

static gboolean on_key(VireoDisplayKeyboard *k, GDBusMethodInvocation *call, guint code,
                       struct worker *w, bool down)
{
    struct console *c = console_of(w);
    if (c && code <= 0xff)
        console_key(c, (uint8_t)code, down);
    g_dbus_method_invocation_return_value(call, NULL);
    return TRUE;
}

static gboolean on_key_press(VireoDisplayKeyboard *k, GDBusMethodInvocation *call, guint code,
                             struct worker *w)
{
    return on_key(k, call, code, w, true);
}

static gboolean on_key_release(VireoDisplayKeyboard *k, GDBusMethodInvocation *call, guint code,
                               struct worker *w)
{
    return on_key(k, call, code, w, false);
}

static void press(struct console *c, guint button, bool down)
{
    /* Display1: left, middle, right, wheel up, wheel down, side, extra. */
    static const int buttons[] = {0, 2, 1, -1, -1, 3, 4};
    if (button == 3 || button == 4) {
        if (down)
            console_wheel(c, button == 3 ? 1 : -1);
    } else if (button < G_N_ELEMENTS(buttons)) {
        console_button(c, (unsigned)buttons[button], down);
    }
}

static gboolean on_press(VireoDisplayMouse *m, GDBusMethodInvocation *call, guint button,
                         struct worker *w)
{
    if (console_of(w))
        press(console_of(w), button, true);
    vireo_display_mouse_complete_press(m, call);
    return TRUE;
}

static gboolean on_release(VireoDisplayMouse *m, GDBusMethodInvocation *call, guint button,
                           struct worker *w)
{
    if (console_of(w))
        press(console_of(w), button, false);
    vireo_display_mouse_complete_release(m, call);
    return TRUE;
}

static gboolean on_move(VireoDisplayMouse *m, GDBusMethodInvocation *call, guint x, guint y,
                        struct worker *w)
{
    if (console_of(w))
        console_move_pixels(console_of(w), x, y);
    vireo_display_mouse_complete_set_abs_position(m, call);
    return TRUE;
}

static gboolean on_move_by(VireoDisplayMouse *m, GDBusMethodInvocation *call, gint dx, gint dy,
                           struct worker *w)
{
    if (console_of(w))
        console_move_by(console_of(w), dx, dy);
    vireo_display_mouse_complete_rel_motion(m, call);
    return TRUE;
}

/* ---- what the properties say ---- */

static void size_changed(struct worker *w)
{
    struct console_surface s;
    console_surface_now(vm_console(w->vm), &s);
    auto_close(s.fd);
    vireo_display_console_set_width(w->console, s.width);
    vireo_display_console_set_height(w->console, s.height);
}

static gboolean look(gpointer data)
{
    struct worker *w = data;
    if (!w->vm || w->ended)
        return G_SOURCE_REMOVE;
    size_changed(w);
    vireo_display_keyboard_set_modifiers(w->keyboard, console_leds(vm_console(w->vm)));
    return G_SOURCE_CONTINUE;
}

void worker_console_ready(struct worker *w)
{
    size_changed(w);
    g_timeout_add(500, look, w);
    for (guint i = 0; i < w->viewers->len; i++) {
        struct viewer *v = g_ptr_array_index(w->viewers, i);
        if (!v->waiting && v->listener && !v->source)
            listen_now(v);
    }
}

void worker_console_gone(struct worker *w)
{
    while (w->viewers->len)
        viewer_end(g_ptr_array_index(w->viewers, w->viewers->len - 1));
}

void worker_export_console(struct worker *w)
{
    static const char *const vm_interfaces[] = {NULL};
    static const char *const console_interfaces[] = {"org.qemu.Display1.Keyboard",
                                                     "org.qemu.Display1.Mouse", NULL};
    w->display = vireo_display_vm_skeleton_new();
    vireo_display_vm_set_name(w->display, "");
    vireo_display_vm_set_uuid(w->display, w->id);
    vireo_display_vm_set_console_ids(
        w->display,
        g_variant_new_fixed_array(G_VARIANT_TYPE_UINT32, &(guint32){0}, 1, sizeof(guint32)));
    vireo_display_vm_set_interfaces(w->display, vm_interfaces);
    w->console = vireo_display_console_skeleton_new();
    vireo_display_console_set_label(w->console, "Screen");
    vireo_display_console_set_type_(w->console, "Graphic");
    vireo_display_console_set_device_address(w->console, "vmbus/video");
    vireo_display_console_set_interfaces(w->console, console_interfaces);
    w->keyboard = vireo_display_keyboard_skeleton_new();
    w->mouse = vireo_display_mouse_skeleton_new();
    vireo_display_mouse_set_is_absolute(w->mouse, TRUE);
    g_signal_connect(w->console, "handle-register-listener", G_CALLBACK(on_register), w);
    g_signal_connect(w->console, "handle-set-uiinfo", G_CALLBACK(on_ui_info), w);
    g_signal_connect(w->keyboard, "handle-press", G_CALLBACK(on_key_press), w);
    g_signal_connect(w->keyboard, "handle-release", G_CALLBACK(on_key_release), w);
    g_signal_connect(w->mouse, "handle-press", G_CALLBACK(on_press), w);
    g_signal_connect(w->mouse, "handle-release", G_CALLBACK(on_release), w);
    g_signal_connect(w->mouse, "handle-set-abs-position", G_CALLBACK(on_move), w);
    g_signal_connect(w->mouse, "handle-rel-motion", G_CALLBACK(on_move_by), w);
}
