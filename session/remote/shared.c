/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/remote/shared.h"

#include <gio/gunixfdlist.h>
#include <string.h>

#include "vireo-display1.h"
#include "vireo-session1.h"

#define SESSION_PATH "/org/vireo/Session1"
#define CLIPBOARD_PATH "/org/qemu/Display1/Clipboard"
#define TEXT_MIME "text/plain;charset=utf-8"
enum { CLIPBOARD = 0, SELECTIONS = 3, TEXT_MAX_BYTES = 1 << 20 };

static const char *const text_mimes[] = {TEXT_MIME, "text/plain", NULL};

struct remote_shared {
    gatomicrefcount refs; /* what is posted holds one */
    GDBusConnection *connection;
    void (*on_text)(void *ctx, const char *text, gsize len);
    void *ctx; /* NULL: freed by the owner */
    VireoSession1 *session;
    VireoDisplayClipboard *clipboard, *face; /* the worker's; ours, which it calls */
    GCancellable *cancellable;
    gboolean watched, viewer; /* it has been asked to be, it is one */
    gboolean vnc;
    gint on;                  /* atomic: the session is on */
    char *text;               /* that a VNC client copied last; NULL: somebody else has since */
    GStrv others[SELECTIONS]; /* what somebody else has copied; NULL: nothing, or it is ours */
    guint serial;
    const struct remote_spice_ops *spice;
    void *spice_ctx;
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
    for (guint i = 0; i < SELECTIONS; i++)
        g_strfreev(s->others[i]);
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

static void set_others(struct remote_shared *s, guint selection, const char *const *mimes)
{
    if (selection >= SELECTIONS)
        return;
    g_strfreev(s->others[selection]);
    s->others[selection] = g_strdupv((char **)mimes);
}

static gboolean on_grab(VireoDisplayClipboard *face, GDBusMethodInvocation *call, guint selection,
                        guint serial, const char *const *mimes, struct remote_shared *s)
{
    set_others(s, selection, mimes);
    if (selection == CLIPBOARD) {
        g_clear_pointer(&s->text, g_free);
        if (s->on_text && s->vnc && s->clipboard && is_text(mimes))
            vireo_display_clipboard_call_request(s->clipboard, CLIPBOARD, text_mimes,
                                                 s->cancellable, on_content, ref(s));
    }
    if (s->spice)
        s->spice->grab(s->spice_ctx, selection, mimes);
    vireo_display_clipboard_complete_grab(face, call);
    return TRUE;
}

static gboolean on_release(VireoDisplayClipboard *face, GDBusMethodInvocation *call,
                           guint selection, struct remote_shared *s)
{
    set_others(s, selection, NULL);
    if (s->spice)
        s->spice->release(s->spice_ctx, selection);
    vireo_display_clipboard_complete_release(face, call);
    return TRUE;
}

static void refuse(GDBusMethodInvocation *call)
{
    g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.NotFound",
                                               "there is no such content");
}

static gboolean on_request(VireoDisplayClipboard *face, GDBusMethodInvocation *call,
                           guint selection, const char *const *mimes, struct remote_shared *s)
{
    if (selection == CLIPBOARD && s->text && is_text(mimes)) {
        GVariant *content =
            g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, s->text, strlen(s->text), 1);
        vireo_display_clipboard_complete_request(face, call, TEXT_MIME, content);
    } else if (s->spice && !(selection == CLIPBOARD && s->text)) {
        s->spice->request(s->spice_ctx, call, selection, mimes);
    } else {
        refuse(call);
    }
    return TRUE;
}

/* ---- being a viewer ---- */

/* Whether the guest's desktop has the clipboard's service, and this viewer may use it. */
static gboolean clipboard_is_on(struct remote_shared *s)
{
    GVariant *services = s->session ? vireo_session1_get_services(s->session) : NULL;
    const char *clipboard = NULL;
    return s->viewer && services && g_variant_lookup(services, "clipboard", "&s", &clipboard) &&
           strcmp(clipboard, "on") == 0;
}

static void on_state(struct remote_shared *s)
{
    const char *state = s->session ? vireo_session1_get_state(s->session) : NULL;
    g_atomic_int_set(&s->on, g_strcmp0(state, "on") == 0);
    if (s->spice)
        s->spice->clipboard(s->spice_ctx, clipboard_is_on(s));
}

static void on_transfer(VireoSession1 *session, guint id, guint64 done, guint64 total,
                        const char *state, const char *text, struct remote_shared *s)
{
    if (s->spice)
        s->spice->transfer(s->spice_ctx, id, state);
}

static void on_clipboard(GObject *source, GAsyncResult *result, gpointer data)
{
    struct remote_shared *s = data;
    VireoDisplayClipboard *clipboard = vireo_display_clipboard_proxy_new_finish(result, NULL);
    if (clipboard && s->viewer && !s->clipboard) {
        s->clipboard = clipboard;
        vireo_display_clipboard_call_register(clipboard, s->cancellable, NULL, NULL);
        on_state(s);
    } else {
        g_clear_object(&clipboard);
    }
    unref(s);
}

static void on_viewer(GObject *source, GAsyncResult *result, gpointer data)
{
    struct remote_shared *s = data;
    g_autoptr(GError) error = NULL;
    if (vireo_session1_call_connect_finish(VIREO_SESSION1(source), result, &error) && s->watched) {
        s->viewer = TRUE;
        vireo_display_clipboard_proxy_new(s->connection, G_DBUS_PROXY_FLAGS_NONE, NULL,
                                          CLIPBOARD_PATH, s->cancellable, on_clipboard, ref(s));
        if (s->spice)
            s->spice->connected(s->spice_ctx, s->connection);
        on_state(s);
    }
    unref(s);
}

static void on_session(GObject *source, GAsyncResult *result, gpointer data)
{
    struct remote_shared *s = data;
    VireoSession1 *session = vireo_session1_proxy_new_finish(result, NULL);
    if (session && s->watched && !s->session) {
        s->session = session;
        g_signal_connect_swapped(session, "notify::state", G_CALLBACK(on_state), s);
        g_signal_connect_swapped(session, "notify::services", G_CALLBACK(on_state), s);
        g_signal_connect(session, "transfer", G_CALLBACK(on_transfer), s);
        vireo_session1_call_connect(session, s->cancellable, on_viewer, ref(s));
        on_state(s);
    } else {
        g_clear_object(&session);
    }
    unref(s);
}

static void connect_viewer(struct remote_shared *s)
{
    s->cancellable = g_cancellable_new();
    vireo_session1_proxy_new(s->connection, G_DBUS_PROXY_FLAGS_NONE, NULL, SESSION_PATH,
                             s->cancellable, on_session, ref(s));
}

static void disconnect_viewer(struct remote_shared *s)
{
    g_cancellable_cancel(s->cancellable);
    g_object_unref(s->cancellable);
    s->cancellable = g_cancellable_new();
    if (s->viewer && s->spice)
        s->spice->disconnected(s->spice_ctx);
    s->viewer = FALSE;
    for (guint i = 0; i < SELECTIONS; i++)
        set_others(s, i, NULL);
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

void remote_shared_set_watched(struct remote_shared *s, gboolean watched, gboolean vnc)
{
    s->vnc = vnc;
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
    struct copied *c = data;
    struct remote_shared *s = c->shared;
    remote_shared_grab(s, CLIPBOARD, text_mimes);
    g_free(s->text);
    s->text = c->text;
    if (s->spice)
        s->spice->grab(s->spice_ctx, CLIPBOARD, text_mimes);
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

/* ---- SPICE ---- */

void remote_shared_set_spice(struct remote_shared *s, const struct remote_spice_ops *ops, void *ctx)
{
    s->spice = ops;
    s->spice_ctx = ctx;
    if (ops && s->viewer)
        ops->connected(ctx, s->connection);
    if (ops)
        ops->clipboard(ctx, clipboard_is_on(s));
}

void remote_shared_tell_spice(struct remote_shared *s)
{
    for (guint i = 0; i < SELECTIONS; i++)
        if (i == CLIPBOARD && s->text)
            s->spice->grab(s->spice_ctx, i, text_mimes);
        else if (s->others[i])
            s->spice->grab(s->spice_ctx, i, (const char *const *)s->others[i]);
}

void remote_shared_grab(struct remote_shared *s, guint selection, const char *const *mimes)
{
    set_others(s, selection, NULL);
    if (selection == CLIPBOARD)
        g_clear_pointer(&s->text, g_free);
    if (s->clipboard)
        vireo_display_clipboard_call_grab(s->clipboard, selection, ++s->serial, mimes,
                                          s->cancellable, NULL, NULL);
}

void remote_shared_release(struct remote_shared *s, guint selection)
{
    if (s->clipboard)
        vireo_display_clipboard_call_release(s->clipboard, selection, s->cancellable, NULL, NULL);
}

struct asked {
    struct remote_shared *shared;
    gconstpointer of; /* who asked: spice_ctx */
    guint selection;
    guint32 type;
    char *mime;
    remote_content_fn *done;
    void *ctx;
};

static void answer_asked(struct asked *a, const char *mime, const guint8 *data, gsize len)
{
    if (a->of && a->shared->spice_ctx == a->of)
        a->done(a->ctx, a->selection, a->type, mime, data, len);
    unref(a->shared);
    g_free(a->mime);
    g_free(a);
}

static void on_asked(GObject *source, GAsyncResult *result, gpointer data)
{
    struct asked *a = data;
    g_autoptr(GVariant) content = NULL;
    gsize len = 0;
    const guint8 *bytes = NULL;
    gboolean got = vireo_display_clipboard_call_request_finish(VIREO_DISPLAY_CLIPBOARD(source),
                                                               NULL, &content, result, NULL);
    if (got)
        bytes = g_variant_get_fixed_array(content, &len, 1);
    answer_asked(a, got ? a->mime : NULL, bytes, len);
}

void remote_shared_request(struct remote_shared *s, guint selection, guint32 type, const char *mime,
                           remote_content_fn *done, void *ctx)
{
    const char *const mimes[] = {mime, NULL};
    struct asked *a = g_new(struct asked, 1);
    *a = (struct asked){ref(s), s->spice_ctx, selection, type, g_strdup(mime), done, ctx};
    if (selection == CLIPBOARD && s->text && is_text(mimes))
        answer_asked(a, mime, (const guint8 *)s->text, strlen(s->text));
    else if (!s->clipboard)
        answer_asked(a, NULL, NULL, 0);
    else
        vireo_display_clipboard_call_request(s->clipboard, selection, mimes, s->cancellable,
                                             on_asked, a);
}

struct sending {
    struct remote_shared *shared;
    gconstpointer of; /* who asked: spice_ctx */
    guint token;
    remote_sent_fn *done;
    void *ctx;
};

static void on_sent(GObject *source, GAsyncResult *result, gpointer data)
{
    struct sending *f = data;
    guint id = 0;
    if (!vireo_session1_call_send_file_finish(VIREO_SESSION1(source), &id, NULL, result, NULL))
        id = 0;
    if (f->of && f->shared->spice_ctx == f->of)
        f->done(f->ctx, f->token, id);
    unref(f->shared);
    g_free(f);
}

void remote_shared_send_file(struct remote_shared *s, int fd, const char *name, guint token,
                             remote_sent_fn *done, void *ctx)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    if (!s->session || g_unix_fd_list_append(fds, fd, NULL) < 0) {
        done(ctx, token, 0);
        return;
    }
    struct sending *f = g_new(struct sending, 1);
    *f = (struct sending){ref(s), s->spice_ctx, token, done, ctx};
    vireo_session1_call_send_file(s->session, g_variant_new_handle(0), name, fds, s->cancellable,
                                  on_sent, f);
}

void remote_shared_cancel_file(struct remote_shared *s, guint id)
{
    if (s->session)
        vireo_session1_call_cancel_file(s->session, id, NULL, NULL, NULL);
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
    remote_shared_set_watched(s, FALSE, FALSE);
    s->on_text = NULL;
    if (s->face) {
        g_signal_handlers_disconnect_by_data(s->face, s);
        g_dbus_interface_skeleton_unexport(G_DBUS_INTERFACE_SKELETON(s->face));
    }
    unref(s);
}
