/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "session/audio/sound.h"

#include <gio/gunixfdlist.h>
#include <pulse/glib-mainloop.h>
#include <pulse/pulseaudio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/audio/audio-proto.h"
#include "session/audio/pace.h"
#include "vireo-display1.h"

#define AUDIO_PATH "/org/qemu/Display1/Audio"
#define OUT_PATH "/org/qemu/Display1/AudioOutListener"
#define IN_PATH "/org/qemu/Display1/AudioInListener"

enum {
    STORE_MS = 45,    /* in the server, when sound begins; 10 ms more are in the guest */
    BLOCK_MS = 15,    /* what the server's device takes at once */
    AGAIN_MS = 1000,  /* looking for the server */
    IDLE_S = 2,       /* of silence, and the server may sleep */
    COLLECT_MS = 2,   /* the server's pieces come in pieces */
    STARVED_MS = 200, /* a Read is answered with silence */
    MIC_ROOM_MS = 200,
    PIECE = 2048,        /* frames converted at once */
    MAX_BYTES = 1 << 20, /* of one Write or Read */
};

struct format {
    guint64 id;
    guint rate, channels, frame;
    gboolean is_float, ok, enabled;
};

struct _VireoSound {
    GObject parent;
    char *name;
    GCancellable *cancellable;
    GDBusConnection *out_connection, *in_connection;
    VireoDisplayAudioOutListener *out;
    VireoDisplayAudioInListener *in;
    gboolean closed;

    pa_glib_mainloop *loop;
    pa_context *context;
    guint again_id;

    struct format play;
    pa_stream *out_stream;
    guint idle_id;
    struct pace pace;
    struct vireo_sound_stats stats;

    struct format mic;
    pa_stream *in_stream;
    GByteArray *recorded;
    GDBusMethodInvocation *reading;
    gsize wanted;
    guint starved_id, collect_id;
};

G_DEFINE_FINAL_TYPE(VireoSound, vireo_sound, G_TYPE_OBJECT)

enum { CHANGED, N_SIGNALS };
static guint signals[N_SIGNALS];

static void changed(VireoSound *self)
{
    if (!self->closed)
        g_signal_emit(self, signals[CHANGED], 0);
}

static gboolean server_ready(VireoSound *self)
{
    return self->context && pa_context_get_state(self->context) == PA_CONTEXT_READY;
}

/* ---- playing ---- */

static void drop_stream(pa_stream **s)
{
    if (!*s)
        return;
    pa_stream_set_state_callback(*s, NULL, NULL);
    pa_stream_set_underflow_callback(*s, NULL, NULL);
    pa_stream_set_moved_callback(*s, NULL, NULL);
    pa_stream_set_read_callback(*s, NULL, NULL);
    pa_stream_disconnect(*s);
    pa_stream_unref(*s);
    *s = NULL;
}

static void close_out(VireoSound *self)
{
    pace_end(&self->pace);
    drop_stream(&self->out_stream);
}

static void on_underflow(pa_stream *s, void *data)
{
    VireoSound *self = data;
    if (!self->play.enabled)
        return;
    self->stats.underruns++;
    pace_dry(&self->pace);
}

static void on_moved(pa_stream *s, void *data)
{
    pace_again(&((VireoSound *)data)->pace);
}

static void on_out_state(pa_stream *s, void *data)
{
    VireoSound *self = data;
    if (pa_stream_get_state(s) == PA_STREAM_FAILED)
        close_out(self);
    changed(self);
}

static pa_proplist *properties(VireoSound *self)
{
    pa_proplist *p = pa_proplist_new();
    pa_proplist_sets(p, PA_PROP_MEDIA_NAME, self->name);
    pa_proplist_sets(p, PA_PROP_MEDIA_ICON_NAME, "org.vireo.Vireo");
    pa_proplist_sets(p, PA_PROP_MEDIA_ROLE, "production");
    return p;
}

static void open_out(VireoSound *self)
{
    const pa_sample_spec spec = {PA_SAMPLE_FLOAT32NE, self->play.rate, (guint8)self->play.channels};
    const struct pace_params params = {self->play.rate, self->play.channels, STORE_MS, BLOCK_MS};
    if (self->out_stream || !server_ready(self) || !self->play.ok)
        return;
    const pa_buffer_attr attr = pace_attr(&params);
    pa_proplist *p = properties(self);
    self->out_stream = pa_stream_new_with_proplist(self->context, self->name, &spec, NULL, p);
    pa_proplist_free(p);
    if (!self->out_stream)
        return;
    pace_begin(&self->pace, self->out_stream, &params);
    pa_stream_set_state_callback(self->out_stream, on_out_state, self);
    pa_stream_set_underflow_callback(self->out_stream, on_underflow, self);
    pa_stream_set_moved_callback(self->out_stream, on_moved, self);
    pa_stream_connect_playback(self->out_stream, NULL, &attr, PACE_FLAGS, NULL, NULL);
}

static void to_float(const struct format *f, const guint8 *data, gsize samples, float *out)
{
    for (gsize i = 0; i < samples; i++)
        if (f->is_float) {
            memcpy(&out[i], data + 4 * i, 4);
            out[i] = out[i] >= -8 && out[i] <= 8 ? out[i] : 0; /* no NaN goes on */
        } else {
            out[i] = (float)(gint16)(data[2 * i] | data[2 * i + 1] << 8) / 32768;
        }
}

static void play(VireoSound *self, const guint8 *data, gsize len)
{
    static float in[PIECE * RESAMPLE_CHANNELS];
    const struct format *f = &self->play;
    if (!self->out_stream || pa_stream_get_state(self->out_stream) != PA_STREAM_READY)
        return;
    for (gsize frames = len / f->frame; frames;) {
        gsize n = MIN(frames, (gsize)PIECE);
        to_float(f, data, n * f->channels, in);
        self->stats.frames += pace_write(&self->pace, in, n);
        data += n * f->frame;
        frames -= n;
    }
}

static void cork(pa_stream *s, gboolean on)
{
    pa_operation *o =
        s && pa_stream_get_state(s) == PA_STREAM_READY ? pa_stream_cork(s, on, NULL, NULL) : NULL;
    if (o)
        pa_operation_unref(o);
}

static gboolean on_idle(gpointer data)
{
    VireoSound *self = data;
    self->idle_id = 0;
    cork(self->out_stream, TRUE);
    return G_SOURCE_REMOVE;
}

static gboolean read_format(struct format *f, guint64 id, guint8 bits, gboolean is_signed,
                            gboolean is_float, guint rate, guint8 channels, gboolean be)
{
    *f = (struct format){.id = id, .rate = rate, .channels = channels, .is_float = is_float};
    f->frame = channels * bits / 8u;
    f->ok = is_signed && !be && bits == (is_float ? 32 : 16) && channels >= 1 &&
            channels <= RESAMPLE_CHANNELS && rate >= AUDIO_MIN_RATE && rate <= AUDIO_MAX_RATE;
    return f->ok;
}

static gboolean on_out_init(VireoDisplayAudioOutListener *l, GDBusMethodInvocation *call,
                            guint64 id, guint8 bits, gboolean is_signed, gboolean is_float,
                            guint rate, guint8 channels, guint frame, guint second, gboolean be,
                            VireoSound *self)
{
    close_out(self);
    read_format(&self->play, id, bits, is_signed, is_float, rate, channels, be);
    open_out(self);
    vireo_display_audio_out_listener_complete_init(l, call);
    return TRUE;
}

static gboolean on_out_fini(VireoDisplayAudioOutListener *l, GDBusMethodInvocation *call,
                            guint64 id, VireoSound *self)
{
    close_out(self);
    self->play = (struct format){0};
    vireo_display_audio_out_listener_complete_fini(l, call);
    changed(self);
    return TRUE;
}

static gboolean on_out_enabled(VireoDisplayAudioOutListener *l, GDBusMethodInvocation *call,
                               guint64 id, gboolean enabled, VireoSound *self)
{
    self->play.enabled = enabled;
    g_clear_handle_id(&self->idle_id, g_source_remove);
    if (enabled) {
        pace_again(&self->pace);
        cork(self->out_stream, FALSE);
    } else {
        self->idle_id = g_timeout_add_seconds(IDLE_S, on_idle, self);
    }
    vireo_display_audio_out_listener_complete_set_enabled(l, call);
    changed(self);
    return TRUE;
}

static gboolean on_out_volume(VireoDisplayAudioOutListener *l, GDBusMethodInvocation *call,
                              guint64 id, gboolean mute, GVariant *volume, VireoSound *self)
{
    /* The guest's volume is in its sound already. */
    vireo_display_audio_out_listener_complete_set_volume(l, call);
    return TRUE;
}

static gboolean on_out_write(VireoDisplayAudioOutListener *l, GDBusMethodInvocation *call,
                             guint64 id, GVariant *data, VireoSound *self)
{
    gsize len = 0;
    const guint8 *p = g_variant_get_fixed_array(data, &len, 1);
    if (self->play.ok && len <= MAX_BYTES)
        play(self, p, len);
    vireo_display_audio_out_listener_complete_write(l, call);
    return TRUE;
}

/* ---- recording ---- */

static void answer(VireoSound *self, const guint8 *data, gsize len)
{
    g_clear_handle_id(&self->starved_id, g_source_remove);
    vireo_display_audio_in_listener_complete_read(
        self->in, g_steal_pointer(&self->reading),
        g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, data, len, 1));
}

/* With what there is: what is kept until it is as much as was asked for would come later and later,
 * and then early again, as the server's pieces and those asked for fall apart. */
static gboolean answer_if_there(VireoSound *self)
{
    gsize len = MIN(self->recorded->len, self->wanted);
    if (!self->reading || !len || self->collect_id)
        return FALSE;
    answer(self, self->recorded->data, len);
    g_byte_array_remove_range(self->recorded, 0, (guint)len);
    return TRUE;
}

static gboolean on_collected(gpointer data)
{
    VireoSound *self = data;
    self->collect_id = 0;
    answer_if_there(self);
    return G_SOURCE_REMOVE;
}

static gboolean on_starved(gpointer data)
{
    VireoSound *self = data;
    self->starved_id = 0;
    g_autofree guint8 *silence = g_malloc0(self->wanted);
    answer(self, silence, self->wanted);
    return G_SOURCE_REMOVE;
}

static void on_recorded(pa_stream *s, size_t bytes, void *data)
{
    VireoSound *self = data;
    const void *p;
    size_t len;
    while (pa_stream_readable_size(s) > 0 && pa_stream_peek(s, &p, &len) == 0) {
        if (p)
            g_byte_array_append(self->recorded, p, (guint)len);
        if (len)
            pa_stream_drop(s);
    }
    if (!self->collect_id)
        self->collect_id = g_timeout_add(COLLECT_MS, on_collected, self);
    gsize most = self->mic.rate * MIC_ROOM_MS / 1000 * self->mic.frame;
    if (self->recorded->len > most)
        g_byte_array_remove_range(self->recorded, 0, (guint)(self->recorded->len - most / 2));
}

static void on_in_state(pa_stream *s, void *data)
{
    VireoSound *self = data;
    if (pa_stream_get_state(s) == PA_STREAM_FAILED)
        drop_stream(&self->in_stream);
    changed(self);
}

static void open_in(VireoSound *self)
{
    const pa_sample_spec spec = {self->mic.is_float ? PA_SAMPLE_FLOAT32LE : PA_SAMPLE_S16LE,
                                 self->mic.rate, (guint8)self->mic.channels};
    const pa_buffer_attr attr = {.maxlength = G_MAXUINT32,
                                 .fragsize = self->mic.rate / 100 * self->mic.frame};
    if (self->in_stream || !server_ready(self) || !self->mic.ok || !self->mic.enabled)
        return;
    pa_proplist *p = properties(self);
    self->in_stream = pa_stream_new_with_proplist(self->context, self->name, &spec, NULL, p);
    pa_proplist_free(p);
    if (!self->in_stream)
        return;
    pa_stream_set_state_callback(self->in_stream, on_in_state, self);
    pa_stream_set_read_callback(self->in_stream, on_recorded, self);
    pa_stream_connect_record(self->in_stream, NULL, &attr, PA_STREAM_ADJUST_LATENCY);
}

static void close_in(VireoSound *self)
{
    drop_stream(&self->in_stream);
    g_clear_handle_id(&self->collect_id, g_source_remove);
    g_byte_array_set_size(self->recorded, 0);
    if (self->reading)
        answer(self, NULL, 0);
}

static gboolean on_in_init(VireoDisplayAudioInListener *l, GDBusMethodInvocation *call, guint64 id,
                           guint8 bits, gboolean is_signed, gboolean is_float, guint rate,
                           guint8 channels, guint frame, guint second, gboolean be,
                           VireoSound *self)
{
    close_in(self);
    read_format(&self->mic, id, bits, is_signed, is_float, rate, channels, be);
    vireo_display_audio_in_listener_complete_init(l, call);
    return TRUE;
}

static gboolean on_in_fini(VireoDisplayAudioInListener *l, GDBusMethodInvocation *call, guint64 id,
                           VireoSound *self)
{
    close_in(self);
    self->mic = (struct format){0};
    vireo_display_audio_in_listener_complete_fini(l, call);
    changed(self);
    return TRUE;
}

static gboolean on_in_enabled(VireoDisplayAudioInListener *l, GDBusMethodInvocation *call,
                              guint64 id, gboolean enabled, VireoSound *self)
{
    self->mic.enabled = enabled;
    if (enabled)
        open_in(self);
    else
        close_in(self);
    vireo_display_audio_in_listener_complete_set_enabled(l, call);
    changed(self);
    return TRUE;
}

static gboolean on_in_volume(VireoDisplayAudioInListener *l, GDBusMethodInvocation *call,
                             guint64 id, gboolean mute, GVariant *volume, VireoSound *self)
{
    vireo_display_audio_in_listener_complete_set_volume(l, call);
    return TRUE;
}

static gboolean on_in_read(VireoDisplayAudioInListener *l, GDBusMethodInvocation *call, guint64 id,
                           guint64 size, VireoSound *self)
{
    if (self->reading || !self->mic.ok || !size || size > MAX_BYTES) {
        g_dbus_method_invocation_return_dbus_error(call, "org.vireo.Error.State",
                                                   "There is nothing to be read.");
        return TRUE;
    }
    self->reading = call;
    self->wanted = (gsize)size;
    if (!answer_if_there(self))
        self->starved_id = g_timeout_add(STARVED_MS, on_starved, self);
    return TRUE;
}

/* ---- the server ---- */

static void connect_server(VireoSound *self);

static gboolean on_again(gpointer data)
{
    VireoSound *self = data;
    self->again_id = 0;
    connect_server(self);
    return G_SOURCE_REMOVE;
}

static void drop_server(VireoSound *self)
{
    close_out(self);
    drop_stream(&self->in_stream);
    if (self->context) {
        pa_context_set_state_callback(self->context, NULL, NULL);
        pa_context_disconnect(self->context);
        pa_context_unref(self->context);
    }
    self->context = NULL;
}

static void on_context_state(pa_context *c, void *data)
{
    VireoSound *self = data;
    switch (pa_context_get_state(c)) {
    case PA_CONTEXT_READY:
        open_out(self);
        open_in(self);
        changed(self);
        break;
    case PA_CONTEXT_FAILED:
    case PA_CONTEXT_TERMINATED:
        drop_server(self);
        if (!self->again_id)
            self->again_id = g_timeout_add(AGAIN_MS, on_again, self);
        changed(self);
        break;
    default: break;
    }
}

static void connect_server(VireoSound *self)
{
    pa_proplist *p = pa_proplist_new();
    pa_proplist_sets(p, PA_PROP_APPLICATION_NAME, "Vireo");
    pa_proplist_sets(p, PA_PROP_APPLICATION_ID, "org.vireo.Vireo");
    pa_proplist_sets(p, PA_PROP_APPLICATION_ICON_NAME, "org.vireo.Vireo");
    self->context = pa_context_new_with_proplist(pa_glib_mainloop_get_api(self->loop), "Vireo", p);
    pa_proplist_free(p);
    pa_context_set_state_callback(self->context, on_context_state, self);
    if (pa_context_connect(self->context, NULL, PA_CONTEXT_NOFLAGS, NULL) < 0 && self->context)
        on_context_state(self->context, self);
}

/* ---- the worker ---- */

struct listening {
    VireoSound *self;
    gboolean record;
};

static void on_listener(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autofree struct listening *l = data;
    g_autoptr(VireoSound) self = l->self;
    g_autoptr(GError) error = NULL;
    g_autoptr(GDBusConnection) c = g_dbus_connection_new_finish(result, &error);
    if (!c || self->closed)
        return;
    GDBusInterfaceSkeleton *skeleton =
        l->record ? G_DBUS_INTERFACE_SKELETON(self->in) : G_DBUS_INTERFACE_SKELETON(self->out);
    if (!g_dbus_interface_skeleton_export(skeleton, c, l->record ? IN_PATH : OUT_PATH, &error)) {
        g_warning("sound: %s", error->message);
        return;
    }
    g_dbus_connection_start_message_processing(c);
    GDBusConnection **place = l->record ? &self->in_connection : &self->out_connection;
    g_set_object(place, c);
}

static void on_registered(GObject *source, GAsyncResult *result, gpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GVariant) r = g_dbus_connection_call_with_unix_fd_list_finish(
        G_DBUS_CONNECTION(source), NULL, result, &error);
    if (!r && !g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED))
        g_warning("sound: %s", error->message);
}

static void listen_on(VireoSound *self, GDBusConnection *connection, gboolean record)
{
    int pair[2];
    g_autoptr(GError) error = NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return;
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new_from_array(&pair[1], 1);
    g_autoptr(GSocket) socket = g_socket_new_from_fd(pair[0], &error);
    if (!socket) {
        close(pair[0]);
        return;
    }
    g_autoptr(GSocketConnection) stream = g_socket_connection_factory_create_connection(socket);
    g_dbus_connection_call_with_unix_fd_list(
        connection, NULL, AUDIO_PATH, "org.qemu.Display1.Audio",
        record ? "RegisterInListener" : "RegisterOutListener", g_variant_new("(h)", 0), NULL,
        G_DBUS_CALL_FLAGS_NONE, -1, fds, self->cancellable, on_registered, NULL);
    struct listening *l = g_new0(struct listening, 1);
    *l = (struct listening){g_object_ref(self), record};
    g_dbus_connection_new(G_IO_STREAM(stream), NULL,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, self->cancellable, on_listener, l);
}

VireoSound *vireo_sound_new(GDBusConnection *connection, const char *name, gboolean record)
{
    VireoSound *self = g_object_new(VIREO_TYPE_SOUND, NULL);
    self->name = g_strdup(name);
    connect_server(self);
    listen_on(self, connection, FALSE);
    if (record)
        listen_on(self, connection, TRUE);
    return self;
}

/* ---- telling ---- */

gboolean vireo_sound_is_playing(VireoSound *self)
{
    return self->play.enabled && self->out_stream != NULL;
}

gboolean vireo_sound_is_recording(VireoSound *self)
{
    return self->in_stream != NULL;
}

gboolean vireo_sound_has_server(VireoSound *self)
{
    return server_ready(self);
}

void vireo_sound_get_stats(VireoSound *self, struct vireo_sound_stats *out)
{
    *out = self->stats;
    out->latency_ms = self->pace.drift.smooth;
    out->ratio = 1 + self->pace.drift.integral;
    out->skips = self->pace.skips;
}

/* ---- the object ---- */

void vireo_sound_close(VireoSound *self)
{
    if (self->closed)
        return;
    self->closed = TRUE;
    g_cancellable_cancel(self->cancellable);
    if (self->reading)
        answer(self, NULL, 0);
    g_clear_handle_id(&self->again_id, g_source_remove);
    g_clear_handle_id(&self->idle_id, g_source_remove);
    g_clear_handle_id(&self->starved_id, g_source_remove);
    g_clear_handle_id(&self->collect_id, g_source_remove);
    drop_server(self);
    g_signal_handlers_disconnect_by_data(self->out, self);
    g_signal_handlers_disconnect_by_data(self->in, self);
    if (self->out_connection)
        g_dbus_connection_close(self->out_connection, NULL, NULL, NULL);
    if (self->in_connection)
        g_dbus_connection_close(self->in_connection, NULL, NULL, NULL);
    g_clear_object(&self->out_connection);
    g_clear_object(&self->in_connection);
}

static void vireo_sound_finalize(GObject *object)
{
    VireoSound *self = VIREO_SOUND(object);
    vireo_sound_close(self);
    pa_glib_mainloop_free(self->loop);
    g_byte_array_unref(self->recorded);
    g_object_unref(self->out);
    g_object_unref(self->in);
    g_object_unref(self->cancellable);
    g_free(self->name);
    G_OBJECT_CLASS(vireo_sound_parent_class)->finalize(object);
}

static void vireo_sound_class_init(VireoSoundClass *klass)
{
    G_OBJECT_CLASS(klass)->finalize = vireo_sound_finalize;
    signals[CHANGED] = g_signal_new("changed", G_TYPE_FROM_CLASS(klass), G_SIGNAL_RUN_LAST, 0, NULL,
                                    NULL, NULL, G_TYPE_NONE, 0);
}

static void vireo_sound_init(VireoSound *self)
{
    self->cancellable = g_cancellable_new();
    self->recorded = g_byte_array_new();
    self->loop = pa_glib_mainloop_new(NULL);
    self->out = vireo_display_audio_out_listener_skeleton_new();
    self->in = vireo_display_audio_in_listener_skeleton_new();
    g_signal_connect(self->out, "handle-init", G_CALLBACK(on_out_init), self);
    g_signal_connect(self->out, "handle-fini", G_CALLBACK(on_out_fini), self);
    g_signal_connect(self->out, "handle-set-enabled", G_CALLBACK(on_out_enabled), self);
    g_signal_connect(self->out, "handle-set-volume", G_CALLBACK(on_out_volume), self);
    g_signal_connect(self->out, "handle-write", G_CALLBACK(on_out_write), self);
    g_signal_connect(self->in, "handle-init", G_CALLBACK(on_in_init), self);
    g_signal_connect(self->in, "handle-fini", G_CALLBACK(on_in_fini), self);
    g_signal_connect(self->in, "handle-set-enabled", G_CALLBACK(on_in_enabled), self);
    g_signal_connect(self->in, "handle-set-volume", G_CALLBACK(on_in_volume), self);
    g_signal_connect(self->in, "handle-read", G_CALLBACK(on_in_read), self);
}
