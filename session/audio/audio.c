/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/audio/audio.h"

#include <gio/gunixfdlist.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "session/audio/audio-wire.h"
#include "session/stream.h"
#include "vireo-display1.h"

#define OUT_PATH "/org/qemu/Display1/AudioOutListener"
#define OUT_INTERFACE "org.qemu.Display1.AudioOutListener"
#define IN_PATH "/org/qemu/Display1/AudioInListener"
#define IN_INTERFACE "org.qemu.Display1.AudioInListener"

enum {
    MAX_LISTENERS = 8,
    MAX_WAITING = 64, /* calls without an answer, then sound is dropped */
    READ_MS = 20,     /* what one Read asks for: more than a sound server's pieces */
    MAX_GUEST_QUEUE = 65536,
    CALL_MS = 10000,
};

struct listener {
    struct vireo_audio *a;
    gboolean record;
    GDBusConnection *owner; /* who registered it */
    GDBusConnection *connection;
    GCancellable *cancellable;
    guint waiting;
    gboolean reading;
};

/* One of the guest's streams. */
struct side {
    struct vireo_stream *stream;
    struct audio_wire wire;
    struct audio_format format; /* rate 0: not said */
    gboolean running;
    struct audio_volume volume;
    gboolean has_volume;
    guint64 sequence; /* expected, or of what is sent next */
    guint64 id;
};

struct vireo_audio {
    const struct vireo_audio_ops *ops;
    gpointer ctx;
    VireoDisplayAudio *skeleton;
    GPtrArray *listeners;
    struct side sides[2]; /* [record] */
    guint64 last_id;
};

/* ---- calling listeners ---- */

static void listener_free(gpointer data)
{
    struct listener *l = data;
    g_cancellable_cancel(l->cancellable);
    if (l->connection) {
        g_signal_handlers_disconnect_by_data(l->connection, l);
        g_dbus_connection_close(l->connection, NULL, NULL, NULL);
    }
    g_clear_object(&l->connection);
    g_clear_object(&l->owner);
    g_clear_object(&l->cancellable);
    g_free(l);
}

static void on_answer(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    GVariant *r = g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    g_clear_pointer(&r, g_variant_unref);
    if (!g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        ((struct listener *)data)->waiting--;
}

static void call(struct listener *l, const char *method, GVariant *args)
{
    if (!l->connection) {
        g_variant_unref(g_variant_ref_sink(args));
        return;
    }
    l->waiting++;
    g_dbus_connection_call(l->connection, NULL, l->record ? IN_PATH : OUT_PATH,
                           l->record ? IN_INTERFACE : OUT_INTERFACE, method, args, NULL,
                           G_DBUS_CALL_FLAGS_NONE, CALL_MS, l->cancellable, on_answer, l);
}

static void call_all(struct vireo_audio *a, gboolean record, const char *method, GVariant *args)
{
    g_autoptr(GVariant) keep = g_variant_ref_sink(args);
    for (guint i = 0; i < a->listeners->len; i++) {
        struct listener *l = g_ptr_array_index(a->listeners, i);
        if (l->record == record)
            call(l, method, keep);
    }
}

static GVariant *init_args(const struct side *s)
{
    const struct audio_format *f = &s->format;
    guint frame = audio_frame_size(f);
    gboolean is_float = f->sample == AUDIO_F32LE;
    return g_variant_new("(tybbuyuub)", s->id, (guint8)(is_float ? 32 : 16), TRUE, is_float,
                         f->rate, f->channels, frame, frame * f->rate, FALSE);
}

static GVariant *volume_args(const struct side *s)
{
    guint8 v[AUDIO_MAX_CHANNELS];
    for (guint i = 0; i < s->volume.channels; i++)
        v[i] = (guint8)(s->volume.volume[i] >> 8);
    return g_variant_new("(tb@ay)", s->id, s->volume.mute != 0,
                         g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, v, s->volume.channels, 1));
}

static void read_on(struct listener *l);

/* Tells a new listener, or all after a new format, how things are. */
static void introduce(struct listener *l)
{
    struct side *s = &l->a->sides[l->record];
    if (!s->format.rate)
        return;
    call(l, "Init", init_args(s));
    if (s->has_volume)
        call(l, "SetVolume", volume_args(s));
    call(l, "SetEnabled", g_variant_new("(tb)", s->id, s->running));
    read_on(l);
}

/* ---- recording ---- */

static gboolean may_read(struct listener *l)
{
    struct side *s = &l->a->sides[TRUE];
    /* One listener: the first. */
    for (guint i = 0; i < l->a->listeners->len; i++) {
        struct listener *first = g_ptr_array_index(l->a->listeners, i);
        if (first->record)
            return first == l && s->running && s->stream && s->format.rate;
    }
    return FALSE;
}

static void to_guest(struct vireo_audio *a, const guint8 *data, gsize len)
{
    struct side *s = &a->sides[TRUE];
    guint frame = audio_frame_size(&s->format);
    struct audio_head h;
    len = MIN(len, (gsize)AUDIO_MAX_DATA);
    len -= len % frame;
    guint64 at = s->sequence;
    s->sequence += len / frame;
    if (!len || vireo_stream_queued(s->stream) > MAX_GUEST_QUEUE)
        return; /* a guest that does not read hears a gap */
    audio_wire_head(&h, AUDIO_DATA, len, at, (guint64)g_get_monotonic_time());
    vireo_stream_write(s->stream, &h, sizeof h);
    vireo_stream_write(s->stream, data, len);
}

static void on_read(GObject *source, GAsyncResult *result, gpointer data)
{
    struct listener *l = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) r =
        g_dbus_connection_call_finish(G_DBUS_CONNECTION(source), result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return;
    l->reading = FALSE;
    if (!r || !may_read(l))
        return;
    g_autoptr(GVariant) bytes = g_variant_get_child_value(r, 0);
    gsize len = 0;
    const guint8 *p = g_variant_get_fixed_array(bytes, &len, 1);
    to_guest(l->a, p, len);
    if (len)
        read_on(l);
}

static void read_on(struct listener *l)
{
    if (!l->record || l->reading || !l->connection || !may_read(l))
        return;
    struct side *s = &l->a->sides[TRUE];
    guint64 size = (guint64)s->format.rate * READ_MS / 1000 * audio_frame_size(&s->format);
    l->reading = TRUE;
    g_dbus_connection_call(l->connection, NULL, IN_PATH, IN_INTERFACE, "Read",
                           g_variant_new("(tt)", s->id, size), G_VARIANT_TYPE("(ay)"),
                           G_DBUS_CALL_FLAGS_NONE, CALL_MS, l->cancellable, on_read, l);
}

static void read_all(struct vireo_audio *a)
{
    for (guint i = 0; i < a->listeners->len; i++)
        read_on(g_ptr_array_index(a->listeners, i));
}

/* ---- what the guest says ---- */

struct told {
    struct vireo_audio *a;
    gboolean record;
};

static void on_format(void *ctx, const struct audio_format *f)
{
    struct told *t = ctx;
    struct side *s = &t->a->sides[t->record];
    s->format = *f;
    s->sequence = 0;
    s->id = ++t->a->last_id;
    for (guint i = 0; i < t->a->listeners->len; i++) {
        struct listener *l = g_ptr_array_index(t->a->listeners, i);
        if (l->record == t->record)
            introduce(l);
    }
}

static void on_sound(void *ctx, uint64_t sequence, uint64_t time, const uint8_t *data, size_t len)
{
    struct told *t = ctx;
    struct side *s = &t->a->sides[t->record];
    if (t->record)
        return;
    if (sequence != s->sequence)
        LOG_GUEST("audio", "sound of the guest is missing: %" G_GINT64_FORMAT " frames",
                  (gint64)(sequence - s->sequence));
    s->sequence = sequence + len / audio_frame_size(&s->format);
    g_autoptr(GVariant) args = g_variant_ref_sink(g_variant_new(
        "(t@ay)", s->id, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, len, 1)));
    for (guint i = 0; i < t->a->listeners->len; i++) {
        struct listener *l = g_ptr_array_index(t->a->listeners, i);
        if (!l->record && l->waiting < MAX_WAITING)
            call(l, "Write", args);
    }
}

static void on_running(void *ctx, bool on)
{
    struct told *t = ctx;
    struct side *s = &t->a->sides[t->record];
    if (s->running == on)
        return;
    s->running = on;
    call_all(t->a, t->record, "SetEnabled", g_variant_new("(tb)", s->id, (gboolean)on));
    if (t->record) {
        read_all(t->a);
        t->a->ops->changed(t->a->ctx);
    }
}

static void on_volume(void *ctx, const struct audio_volume *v)
{
    struct told *t = ctx;
    struct side *s = &t->a->sides[t->record];
    if (s->has_volume && memcmp(&s->volume, v, sizeof *v) == 0)
        return;
    s->volume = *v;
    s->has_volume = TRUE;
    call_all(t->a, t->record, "SetVolume", volume_args(s));
}

static const struct audio_wire_ops wire_ops = {on_format, on_sound, on_running, on_volume};

static gboolean on_data(struct vireo_audio *a, gboolean record, const guint8 *bytes, gsize len)
{
    struct told t = {a, record};
    if (audio_wire_feed(&a->sides[record].wire, bytes, len, &wire_ops, &t))
        return TRUE;
    LOG_GUEST("audio", "the guest's sound breaks its protocol; it is cut off");
    return FALSE;
}

static gboolean on_out_data(gpointer ctx, const guint8 *bytes, gsize len)
{
    return on_data(ctx, FALSE, bytes, len);
}

static gboolean on_in_data(gpointer ctx, const guint8 *bytes, gsize len)
{
    return on_data(ctx, TRUE, bytes, len);
}

static void on_out_closed(gpointer ctx)
{
    struct vireo_audio *a = ctx;
    vireo_audio_detach(a, FALSE);
    a->ops->closed(a->ctx, FALSE);
}

static void on_in_closed(gpointer ctx)
{
    struct vireo_audio *a = ctx;
    vireo_audio_detach(a, TRUE);
    a->ops->closed(a->ctx, TRUE);
}

static const struct vireo_stream_ops stream_ops[2] = {{on_out_data, NULL, on_out_closed},
                                                      {on_in_data, NULL, on_in_closed}};

void vireo_audio_attach(struct vireo_audio *a, gboolean record, int fd)
{
    record = record != FALSE;
    vireo_audio_detach(a, record);
    a->sides[record].stream = vireo_stream_new(fd, &stream_ops[record], a);
}

void vireo_audio_detach(struct vireo_audio *a, gboolean record)
{
    struct side *s = &a->sides[record != FALSE];
    if (!s->stream)
        return;
    vireo_stream_free(s->stream);
    if (s->format.rate)
        call_all(a, record != FALSE, "Fini", g_variant_new("(t)", s->id));
    memset(s, 0, sizeof *s);
    if (record)
        a->ops->changed(a->ctx);
}

gboolean vireo_audio_wanted(struct vireo_audio *a, gboolean record)
{
    for (guint i = 0; i < a->listeners->len; i++)
        if (((struct listener *)g_ptr_array_index(a->listeners, i))->record == record)
            return TRUE;
    return FALSE;
}

gboolean vireo_audio_recording(struct vireo_audio *a)
{
    return a->sides[TRUE].running && vireo_audio_wanted(a, TRUE);
}

/* ---- listeners ---- */

static void remove_listener(struct listener *l)
{
    struct vireo_audio *a = l->a;
    g_ptr_array_remove(a->listeners, l);
    read_all(a); /* another may record now */
    a->ops->changed(a->ctx);
}

static void on_closed(GDBusConnection *c, gboolean remote, GError *error, gpointer data)
{
    remove_listener(data);
}

static void on_connection(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    GDBusConnection *c = g_dbus_connection_new_finish(result, &error);
    struct listener *l = data;
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        return;
    if (!c) {
        remove_listener(l);
        return;
    }
    l->connection = c;
    g_signal_connect(c, "closed", G_CALLBACK(on_closed), l);
    introduce(l);
}

static void add_listener(struct vireo_audio *a, gboolean record, GDBusConnection *owner,
                         GSocket *socket)
{
    struct listener *l = g_new0(struct listener, 1);
    g_autofree char *guid = g_dbus_generate_guid();
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    l->a = a;
    l->record = record;
    l->owner = g_object_ref(owner);
    l->cancellable = g_cancellable_new();
    g_ptr_array_add(a->listeners, l);
    g_dbus_connection_new(G_IO_STREAM(stream), guid,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_SERVER |
                              G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_REQUIRE_SAME_USER,
                          NULL, l->cancellable, on_connection, l);
    a->ops->changed(a->ctx);
}

static gboolean refuse(GDBusMethodInvocation *invocation, const char *code, const char *text)
{
    g_autofree char *name = g_strconcat("org.vireo.Error.", code, NULL);
    g_dbus_method_invocation_return_dbus_error(invocation, name, text);
    return TRUE;
}

/* TRUE: not to be answered any more. */
static gboolean take_listener(struct vireo_audio *a, GDBusMethodInvocation *invocation,
                              GUnixFDList *fds, GVariant *handle, gboolean record)
{
    GDBusConnection *owner = g_dbus_method_invocation_get_connection(invocation);
    g_autoptr(GError) error = NULL;
    if (!a->ops->is_viewer(a->ctx, owner))
        return refuse(invocation, "State", "The enhanced session is not connected.");
    if (a->listeners->len >= MAX_LISTENERS)
        return refuse(invocation, "Busy", "Too many programs listen already.");
    int fd = fds ? g_unix_fd_list_get(fds, g_variant_get_handle(handle), NULL) : -1;
    g_autoptr(GSocket) socket = fd < 0 ? NULL : g_socket_new_from_fd(fd, &error);
    if (!socket) {
        if (fd >= 0)
            close(fd);
        return refuse(invocation, "Invalid", "A listener is given as a connected socket.");
    }
    add_listener(a, record, owner, socket);
    return FALSE;
}

static gboolean handle_out(VireoDisplayAudio *skeleton, GDBusMethodInvocation *invocation,
                           GUnixFDList *fds, GVariant *handle, struct vireo_audio *a)
{
    if (!take_listener(a, invocation, fds, handle, FALSE))
        vireo_display_audio_complete_register_out_listener(skeleton, invocation, NULL);
    return TRUE;
}

static gboolean handle_in(VireoDisplayAudio *skeleton, GDBusMethodInvocation *invocation,
                          GUnixFDList *fds, GVariant *handle, struct vireo_audio *a)
{
    if (!take_listener(a, invocation, fds, handle, TRUE))
        vireo_display_audio_complete_register_in_listener(skeleton, invocation, NULL);
    return TRUE;
}

GDBusInterfaceSkeleton *vireo_audio_skeleton(struct vireo_audio *a)
{
    return G_DBUS_INTERFACE_SKELETON(a->skeleton);
}

void vireo_audio_drop(struct vireo_audio *a, GDBusConnection *connection)
{
    for (guint i = a->listeners->len; i-- > 0;) {
        struct listener *l = g_ptr_array_index(a->listeners, i);
        if (l->owner == connection)
            remove_listener(l);
    }
}

/* ---- begin and end ---- */

struct vireo_audio *vireo_audio_new(const struct vireo_audio_ops *ops, gpointer ctx)
{
    static const char *const interfaces[] = {NULL};
    struct vireo_audio *a = g_new0(struct vireo_audio, 1);
    a->ops = ops;
    a->ctx = ctx;
    a->listeners = g_ptr_array_new_with_free_func(listener_free);
    a->skeleton = vireo_display_audio_skeleton_new();
    vireo_display_audio_set_interfaces(a->skeleton, interfaces);
    g_signal_connect(a->skeleton, "handle-register-out-listener", G_CALLBACK(handle_out), a);
    g_signal_connect(a->skeleton, "handle-register-in-listener", G_CALLBACK(handle_in), a);
    return a;
}

void vireo_audio_free(struct vireo_audio *a)
{
    for (guint i = 0; i < 2; i++)
        vireo_audio_detach(a, i == 1);
    g_ptr_array_unref(a->listeners);
    g_signal_handlers_disconnect_by_data(a->skeleton, a);
    g_object_unref(a->skeleton);
    g_free(a);
}
