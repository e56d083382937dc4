/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/shared.h"

#include <string.h>

#include "vireo-display1.h"
#include "vireo-session1.h"

#define SESSION_PATH "/org/vireo/Session1"
#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"
#define TEXT_MIME "text/plain;charset=utf-8"
enum { CLIPBOARD = 0, TEXT_MAX_BYTES = 1 << 20 };

struct remote_shared {
    gatomicrefcount refs; /* what is posted holds one */
    GDBusConnection *connection;
    void (*on_text)(void *ctx, const char *text, gsize len);
    void *ctx; /* NULL: freed by the owner */
    VireoSession1 *session;
    VireoDisplayClipboard *clipboard, *face; /* the worker's; ours, which it calls */
    GCancellable *cancellable;
    gboolean watched;
    gint on;    /* atomic: the session is on */
    char *text; /* that a client copied last */
    guint serial;
};

static void unref(struct remote_shared *s)
{
    if (!g_atomic_ref_count_dec(&s->refs))
        return;
    g_clear_object(&s->connection);
    g_clear_object(&s->session);
    g_clear_object(&s->clipboard);
    g_clear_object(&s->face);
    g_object_unref(s->cancellable);
    g_free(s->text);
    g_free(s);
}

static struct remote_shared *ref(struct remote_shared *s)
{
    g_atomic_ref_count_inc(&s->refs);
    return s;
}

/* ---- what the worker calls ---- */

static void on_content(GObject *source, GAsyncResult *result, gpointer data)
{
    struct remote_shared *s = data;
    g_autoptr(GVariant) content = NULL;
    if (vireo_display_clipboard_call_request_finish(VIREO_DISPLAY_CLIPBOARD(source), NULL, &content,
                                                    result, NULL)) {
        gsize len;
        const char *text = g_variant_get_fixed_array(content, &len, 1);
        if (s->on_text && len <= TEXT_MAX_BYTES && g_utf8_validate(text, (gssize)len, NULL))
            s->on_text(s->ctx, text, len);
    }
    unref(s);
}

static gboolean is_text(const char *const *mimes)
{
    return g_strv_contains(mimes, TEXT_MIME) || g_strv_contains(mimes, "text/plain");
}

static gboolean on_grab(VireoDisplayClipboard *face, GDBusMethodInvocation *call, guint selection,
                        guint serial, const char *const *mimes, struct remote_shared *s)
{
    static const char *const wanted[] = {TEXT_MIME, "text/plain", NULL};
    if (selection == CLIPBOARD && s->clipboard && is_text(mimes))
        vireo_display_clipboard_call_request(s->clipboard, CLIPBOARD, wanted, s->cancellable,
                                             on_content, ref(s));
    vireo_display_clipboard_complete_grab(face, call);
    return TRUE;
}

static gboolean on_release(VireoDisplayClipboard *face, GDBusMethodInvocation *call,
                           guint selection, struct remote_shared *s)
{
    vireo_display_clipboard_complete_release(face, call);
    return TRUE;
}

static gboolean on_request(VireoDisplayClipboard *face, GDBusMethodInvocation *call,
                           guint selection, const char *const *mimes, struct remote_shared *s)
{
    if (selection != CLIPBOARD || !s->text || !is_text(mimes)) {
        g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.NotFound",
                                                   "there is no such content");
        return TRUE;
    }
    GVariant *content = g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, s->text, strlen(s->text), 1);
    vireo_display_clipboard_complete_request(face, call, TEXT_MIME, content);
    return TRUE;
}

/* ---- being a viewer ---- */

static void on_state(struct remote_shared *s)
{
    const char *state = s->session ? vireo_session1_get_state(s->session) : NULL;
    g_atomic_int_set(&s->on, g_strcmp0(state, "on") == 0);
}

static void on_session(GObject *source, GAsyncResult *result, gpointer data)
{
    struct remote_shared *s = data;
    VireoSession1 *session = vireo_session1_proxy_new_finish(result, NULL);
    if (session && s->watched) {
        s->session = session;
        g_signal_connect_swapped(session, "notify::state", G_CALLBACK(on_state), s);
        vireo_session1_call_connect(session, s->cancellable, NULL, NULL);
        on_state(s);
    } else {
        g_clear_object(&session);
    }
    unref(s);
}

static void on_clipboard(GObject *source, GAsyncResult *result, gpointer data)
{
    struct remote_shared *s = data;
    VireoDisplayClipboard *clipboard = vireo_display_clipboard_proxy_new_finish(result, NULL);
    if (clipboard && s->watched) {
        s->clipboard = clipboard;
        vireo_display_clipboard_call_register(clipboard, s->cancellable, NULL, NULL);
    } else {
        g_clear_object(&clipboard);
    }
    unref(s);
}

static void connect_viewer(struct remote_shared *s)
{
    s->cancellable = g_cancellable_new();
    vireo_session1_proxy_new(s->connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SESSION_PATH,
                             s->cancellable, on_session, ref(s));
    vireo_display_clipboard_proxy_new(s->connection, G_DBUS_PROXY_FLAGS_NONE, NULL, CLIPBOARD_PATH,
                                      s->cancellable, on_clipboard, ref(s));
}

static void disconnect_viewer(struct remote_shared *s)
{
    g_cancellable_cancel(s->cancellable);
    g_object_unref(s->cancellable);
    s->cancellable = g_cancellable_new();
    if (s->clipboard)
        vireo_display_clipboard_call_unregister(s->clipboard, NULL, NULL, NULL);
    if (s->session) {
        g_signal_handlers_disconnect_by_data(s->session, s);
        vireo_session1_call_disconnect(s->session, NULL, NULL, NULL);
    }
    g_clear_object(&s->clipboard);
    g_clear_object(&s->session);
    on_state(s);
}

void remote_shared_set_watched(struct remote_shared *s, gboolean watched)
{
    if (!s->connection || watched == s->watched)
        return;
    s->watched = watched;
    if (watched) {
        g_clear_object(&s->cancellable);
        connect_viewer(s);
    } else {
        disconnect_viewer(s);
    }
}

/* ---- what clients do ---- */

struct copied {
    struct remote_shared *shared;
    char *text;
};

static gboolean on_copied(gpointer data)
{
    static const char *const mimes[] = {TEXT_MIME, "text/plain", NULL};
    struct copied *c = data;
    struct remote_shared *s = c->shared;
    g_free(s->text);
    s->text = c->text;
    if (s->clipboard)
        vireo_display_clipboard_call_grab(s->clipboard, CLIPBOARD, ++s->serial, mimes,
                                          s->cancellable, NULL, NULL);
    unref(s);
    g_free(c);
    return G_SOURCE_REMOVE;
}

void remote_shared_copied(struct remote_shared *s, const char *text, gsize len)
{
    if (!s->connection || len > TEXT_MAX_BYTES)
        return;
    struct copied *c = g_new(struct copied, 1);
    *c = (struct copied){ref(s), g_strndup(text, len)};
    g_idle_add(on_copied, c);
}

struct wish {
    struct remote_shared *shared;
    unsigned width, height;
};

static gboolean on_wish(gpointer data)
{
    struct wish *w = data;
    if (w->shared->session)
        vireo_session1_call_set_size(w->shared->session, w->width, w->height, 0, 0,
                                     w->shared->cancellable, NULL, NULL);
    unref(w->shared);
    g_free(w);
    return G_SOURCE_REMOVE;
}

gboolean remote_shared_resize(struct remote_shared *s, unsigned width, unsigned height)
{
    if (!g_atomic_int_get(&s->on))
        return FALSE;
    struct wish *w = g_new(struct wish, 1);
    *w = (struct wish){ref(s), width, height};
    g_idle_add(on_wish, w);
    return TRUE;
}

/* ---- life ---- */

struct remote_shared *remote_shared_new(GDBusConnection *connection,
                                        void (*on_text)(void *ctx, const char *text, gsize len),
                                        void *ctx)
{
    struct remote_shared *s = g_new0(struct remote_shared, 1);
    g_atomic_ref_count_init(&s->refs);
    s->on_text = on_text;
    s->ctx = ctx;
    s->cancellable = g_cancellable_new();
    if (!connection)
        return s;
    s->connection = g_object_ref(connection);
    s->face = vireo_display_clipboard_skeleton_new();
    g_signal_connect(s->face, "handle-grab", G_CALLBACK(on_grab), s);
    g_signal_connect(s->face, "handle-release", G_CALLBACK(on_release), s);
    g_signal_connect(s->face, "handle-request", G_CALLBACK(on_request), s);
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(s->face), connection, CLIPBOARD_PATH,
                                     NULL);
    return s;
}

void remote_shared_free(struct remote_shared *s)
{
    remote_shared_set_watched(s, FALSE);
    s->on_text = NULL;
    if (s->face) {
        g_signal_handlers_disconnect_by_data(s->face, s);
        g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(s->face));
    }
    unref(s);
}
