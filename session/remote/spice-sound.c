/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Sound for SPICE clients: a listener of the session's audio as a window's is one
 * (org.qemu.Display1.AudioOutListener and .AudioInListener), which passes on to spice-server's
 * playback channel and takes from its record channel: 16-bit stereo at the rate that the clients
 * take best. Clients follow the guest's clock by themselves (the channel's time stamps).
 */
#include <gio/gunixfdlist.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/audio/drift.h"
#include "session/remote/spice-int.h"
#include "vireo-display1.h"

#define AUDIO_PATH "/org/qemu/Display1/Audio"
#define OUT_PATH "/org/qemu/Display1/AudioOutListener"
#define IN_PATH "/org/qemu/Display1/AudioInListener"

enum {
    PIECE = 256,         /* frames converted at once */
    MAX_BYTES = 1 << 20, /* of one Write or Read */
    LOOK_MS = 10,        /* at what the clients recorded */
    STARVED_LOOKS = 20,  /* without sound, then a Read is answered with silence */
};

struct format {
    guint64 id;
    guint rate, channels, frame;
    gboolean is_float, ok;
};

struct spice_sound {
    SpicePlaybackInstance playback; /* known by their addresses alone */
    SpiceRecordInstance record;
    SpiceServer *server;
    GDBusConnection *connection; /* a viewer's; NULL: none */
    gboolean active;             /* there are clients */
    GCancellable *cancellable;

    GDBusConnection *out_connection, *in_connection;
    VireoDisplayAudioOutListener *out;
    VireoDisplayAudioInListener *in;

    struct format play, mic;
    struct resampler play_resampler, mic_resampler;
    guint out_rate, in_rate;
    gboolean playing, recording;
    guint32 *buffer; /* spice-server's, being filled */
    guint32 room, filled;

    GByteArray *recorded; /* in the guest's format */
    GDBusMethodInvocation *reading;
    gsize wanted;
    guint look_id, starved;
};

/* ---- formats ---- */

static gboolean set_format(struct format *f, guint64 id, guint bits, gboolean is_signed,
                           gboolean is_float, guint rate, guint channels, gboolean big_endian)
{
    *f = (struct format){.id = id, .rate = rate, .channels = channels, .is_float = is_float};
    f->frame = channels * (is_float ? 4 : 2);
    f->ok = !big_endian && channels >= 1 && channels <= RESAMPLE_CHANNELS && rate >= 8000 &&
            rate <= 192000 && (is_float ? bits == 32 : bits == 16 && is_signed);
    return f->ok;
}

static float sample_at(const struct format *f, const guint8 *frame, guint channel)
{
    if (f->is_float) {
        float v;
        memcpy(&v, frame + channel * 4, sizeof v);
        return v >= -8 && v <= 8 ? v : 0; /* no NaN */
    }
    gint16 v;
    memcpy(&v, frame + channel * 2, sizeof v);
    return v / 32768.0f;
}

static gint16 to_s16(float v)
{
    v *= 32768.0f;
    return (gint16)(v >= 32767 ? 32767 : v <= -32768 ? -32768 : v);
}

/* ---- playing ---- */

static void put_frame(struct spice_sound *s, float left, float right)
{
    if (!s->buffer) {
        s->filled = 0;
        spice_server_playback_get_buffer(&s->playback, &s->buffer, &s->room);
        if (!s->buffer) /* nobody hears it, or does not keep up */
            return;
    }
    const gint16 pair[2] = {to_s16(left), to_s16(right)};
    memcpy(&s->buffer[s->filled++], pair, sizeof pair);
    if (s->filled == s->room) {
        spice_server_playback_put_samples(&s->playback, s->buffer);
        s->buffer = NULL;
    }
}

/* The front pair is what is heard; one channel is heard on both sides. */
static void play(struct spice_sound *s, const guint8 *data, gsize len)
{
    const struct format *f = &s->play;
    float in[PIECE * 2] = {0}, out[PIECE * 2 * 26];
    double ratio = (double)f->rate / s->out_rate;
    for (gsize frames = len / f->frame; frames;) {
        gsize n = MIN(frames, (gsize)PIECE);
        for (gsize i = 0; i < n; i++, data += f->frame) {
            in[2 * i] = sample_at(f, data, 0);
            in[2 * i + 1] = f->channels > 1 ? sample_at(f, data, 1) : in[2 * i];
        }
        gsize made = resampler_run(&s->play_resampler, ratio, in, n, out, G_N_ELEMENTS(out) / 2);
        for (gsize i = 0; i < made; i++)
            put_frame(s, out[2 * i], out[2 * i + 1]);
        frames -= n;
    }
}

static gboolean on_out_init(VireoDisplayAudioOutListener *out, GDBusMethodInvocation *call,
                            guint64 id, guchar bits, gboolean is_signed, gboolean is_float,
                            guint rate, guchar channels, guint frame, guint second, gboolean be,
                            struct spice_sound *s)
{
    set_format(&s->play, id, bits, is_signed, is_float, rate, channels, be);
    resampler_init(&s->play_resampler, 2);
    vireo_display_audio_out_listener_complete_init(out, call);
    return TRUE;
}

static void set_playing(struct spice_sound *s, gboolean on)
{
    if (on == s->playing)
        return;
    s->playing = on;
    if (on) {
        s->out_rate = spice_server_get_best_playback_rate(&s->playback);
        spice_server_set_playback_rate(&s->playback, s->out_rate);
        resampler_init(&s->play_resampler, 2);
        spice_server_playback_start(&s->playback);
        return;
    }
    while (s->buffer) /* what was begun is heard */
        put_frame(s, 0, 0);
    spice_server_playback_stop(&s->playback);
}

static gboolean on_out_fini(VireoDisplayAudioOutListener *out, GDBusMethodInvocation *call,
                            guint64 id, struct spice_sound *s)
{
    if (id == s->play.id) {
        set_playing(s, FALSE);
        s->play.ok = FALSE;
    }
    vireo_display_audio_out_listener_complete_fini(out, call);
    return TRUE;
}

static gboolean on_out_enabled(VireoDisplayAudioOutListener *out, GDBusMethodInvocation *call,
                               guint64 id, gboolean on, struct spice_sound *s)
{
    if (id == s->play.id)
        set_playing(s, on && s->play.ok);
    vireo_display_audio_out_listener_complete_set_enabled(out, call);
    return TRUE;
}

/* Volumes as spice-server has them; 1 to RESAMPLE_CHANNELS of them. */
static guint read_volume(GVariant *volume, guint16 out[RESAMPLE_CHANNELS])
{
    gsize n;
    const guint8 *v = g_variant_get_fixed_array(volume, &n, 1);
    n = MIN(n, (gsize)RESAMPLE_CHANNELS);
    for (gsize i = 0; i < n; i++)
        out[i] = (guint16)(v[i] * 257);
    return (guint)n;
}

static gboolean on_out_volume(VireoDisplayAudioOutListener *out, GDBusMethodInvocation *call,
                              guint64 id, gboolean mute, GVariant *volume, struct spice_sound *s)
{
    guint16 v[RESAMPLE_CHANNELS];
    guint n = read_volume(volume, v);
    spice_server_playback_set_mute(&s->playback, mute);
    if (n)
        spice_server_playback_set_volume(&s->playback, (guint8)MIN(n, 2u), v);
    vireo_display_audio_out_listener_complete_set_volume(out, call);
    return TRUE;
}

static gboolean on_out_write(VireoDisplayAudioOutListener *out, GDBusMethodInvocation *call,
                             guint64 id, GVariant *data, struct spice_sound *s)
{
    gsize len;
    const guint8 *bytes = g_variant_get_fixed_array(data, &len, 1);
    if (s->playing && s->play.ok && id == s->play.id && len <= MAX_BYTES)
        play(s, bytes, len);
    vireo_display_audio_out_listener_complete_write(out, call);
    return TRUE;
}

/* ---- recording ---- */

/* With less than was asked for, if there is half of it. */
static void answer_read(struct spice_sound *s)
{
    guint len = (guint)MIN(s->recorded->len, s->wanted);
    if (!s->reading || len < s->wanted / 2)
        return;
    GVariant *data = g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, s->recorded->data, len, 1);
    vireo_display_audio_in_listener_complete_read(s->in, g_steal_pointer(&s->reading), data);
    g_byte_array_remove_range(s->recorded, 0, len);
}

/* Stereo of the clients into the guest's channels: further ones are silent, one is the mean. */
static void keep_frame(struct spice_sound *s, float left, float right)
{
    const struct format *f = &s->mic;
    for (guint c = 0; c < f->channels; c++) {
        float v = f->channels == 1 ? (left + right) / 2 : c == 0 ? left : c == 1 ? right : 0;
        gint16 word = to_s16(v);
        if (f->is_float)
            g_byte_array_append(s->recorded, (const guint8 *)&v, sizeof v);
        else
            g_byte_array_append(s->recorded, (const guint8 *)&word, sizeof word);
    }
}

static gsize take_recorded(struct spice_sound *s)
{
    guint32 samples[PIECE];
    float in[PIECE * 2] = {0}, out[PIECE * 2 * 26];
    guint32 n = spice_server_record_get_samples(&s->record, samples, PIECE);
    for (guint32 i = 0; i < n; i++) {
        gint16 pair[2];
        memcpy(pair, &samples[i], sizeof pair);
        in[2 * i] = pair[0] / 32768.0f;
        in[2 * i + 1] = pair[1] / 32768.0f;
    }
    gsize made = resampler_run(&s->mic_resampler, (double)s->in_rate / s->mic.rate, in, n, out,
                               G_N_ELEMENTS(out) / 2);
    for (gsize i = 0; i < made; i++)
        keep_frame(s, out[2 * i], out[2 * i + 1]);
    return n;
}

static gboolean on_look(gpointer data)
{
    struct spice_sound *s = data;
    gboolean got = FALSE;
    while (s->recorded->len < MAX_BYTES && take_recorded(s))
        got = TRUE;
    s->starved = got ? 0 : s->starved + 1;
    if (s->reading && s->recorded->len < s->wanted / 2 && s->starved > STARVED_LOOKS) {
        g_byte_array_set_size(s->recorded, (guint)s->wanted);
        memset(s->recorded->data, 0, s->wanted);
    }
    answer_read(s);
    return G_SOURCE_CONTINUE;
}

static void set_recording(struct spice_sound *s, gboolean on)
{
    if (on == s->recording)
        return;
    s->recording = on;
    if (on) {
        s->in_rate = spice_server_get_best_record_rate(&s->record);
        spice_server_set_record_rate(&s->record, s->in_rate);
        resampler_init(&s->mic_resampler, 2);
        spice_server_record_start(&s->record);
        s->look_id = g_timeout_add(LOOK_MS, on_look, s);
        s->starved = 0;
        return;
    }
    g_clear_handle_id(&s->look_id, g_source_remove);
    spice_server_record_stop(&s->record);
    g_byte_array_set_size(s->recorded, 0);
    if (s->reading)
        vireo_display_audio_in_listener_complete_read(
            s->in, g_steal_pointer(&s->reading),
            g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, NULL, 0, 1));
}

static gboolean on_in_init(VireoDisplayAudioInListener *in, GDBusMethodInvocation *call, guint64 id,
                           guchar bits, gboolean is_signed, gboolean is_float, guint rate,
                           guchar channels, guint frame, guint second, gboolean be,
                           struct spice_sound *s)
{
    set_recording(s, FALSE);
    set_format(&s->mic, id, bits, is_signed, is_float, rate, channels, be);
    vireo_display_audio_in_listener_complete_init(in, call);
    return TRUE;
}

static gboolean on_in_fini(VireoDisplayAudioInListener *in, GDBusMethodInvocation *call, guint64 id,
                           struct spice_sound *s)
{
    if (id == s->mic.id) {
        set_recording(s, FALSE);
        s->mic.ok = FALSE;
    }
    vireo_display_audio_in_listener_complete_fini(in, call);
    return TRUE;
}

static gboolean on_in_enabled(VireoDisplayAudioInListener *in, GDBusMethodInvocation *call,
                              guint64 id, gboolean on, struct spice_sound *s)
{
    if (id == s->mic.id)
        set_recording(s, on && s->mic.ok);
    vireo_display_audio_in_listener_complete_set_enabled(in, call);
    return TRUE;
}

static gboolean on_in_volume(VireoDisplayAudioInListener *in, GDBusMethodInvocation *call,
                             guint64 id, gboolean mute, GVariant *volume, struct spice_sound *s)
{
    guint16 v[RESAMPLE_CHANNELS];
    guint n = read_volume(volume, v);
    spice_server_record_set_mute(&s->record, mute);
    if (n)
        spice_server_record_set_volume(&s->record, (guint8)MIN(n, 2u), v);
    vireo_display_audio_in_listener_complete_set_volume(in, call);
    return TRUE;
}

static gboolean on_in_read(VireoDisplayAudioInListener *in, GDBusMethodInvocation *call, guint64 id,
                           guint64 size, struct spice_sound *s)
{
    if (!s->recording || id != s->mic.id || s->reading || size > MAX_BYTES || !size) {
        vireo_display_audio_in_listener_complete_read(
            in, call, g_variant_new_fixed_array(G_VARIANT_TYPE_BYTE, NULL, 0, 1));
        return TRUE;
    }
    s->reading = call;
    s->wanted = size - size % s->mic.frame;
    answer_read(s);
    return TRUE;
}

/* ---- listening ---- */

/* One end for the worker, whose number in *fds is returned; the other as a D-Bus client to be. */
static GIOStream *make_pair(GUnixFDList *fds, int *index)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return NULL;
    *index = g_unix_fd_list_append(fds, pair[0], NULL);
    close(pair[0]);
    g_autoptr(GSocket) socket = g_socket_new_from_fd(pair[1], NULL);
    if (*index < 0 || !socket) {
        if (!socket)
            close(pair[1]);
        return NULL;
    }
    return G_IO_STREAM(g_socket_connection_factory_create_connection(socket));
}

static void on_out_joined(GObject *source, GAsyncResult *result, gpointer data)
{
    struct spice_sound *s = data; /* gone if the result is that it was cancelled */
    g_autoptr(GError) error = NULL;
    GDBusConnection *c = g_dbus_connection_new_finish(result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || !c)
        return;
    s->out_connection = c;
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(s->out), c, OUT_PATH, NULL);
    g_dbus_connection_start_message_processing(c);
}

static void on_in_joined(GObject *source, GAsyncResult *result, gpointer data)
{
    struct spice_sound *s = data;
    g_autoptr(GError) error = NULL;
    GDBusConnection *c = g_dbus_connection_new_finish(result, &error);
    if (g_error_matches(error, G_IO_ERROR, G_IO_ERROR_CANCELLED) || !c)
        return;
    s->in_connection = c;
    g_dbus_interface_skeleton_export(G_DBUS_INTERFACE_SKELETON(s->in), c, IN_PATH, NULL);
    g_dbus_connection_start_message_processing(c);
}

static void listen_to(struct spice_sound *s, const char *method, GAsyncReadyCallback done)
{
    g_autoptr(GUnixFDList) fds = g_unix_fd_list_new();
    int index = -1;
    g_autoptr(GIOStream) stream = make_pair(fds, &index);
    if (!stream)
        return;
    g_dbus_connection_call_with_unix_fd_list(
        s->connection, NULL, AUDIO_PATH, "org.qemu.Display1.Audio", method,
        g_variant_new("(h)", index), NULL, G_DBUS_CALL_FLAGS_NONE, -1, fds, s->cancellable, NULL,
        NULL);
    g_dbus_connection_new(stream, NULL,
                          G_DBUS_CONNECTION_FLAGS_AUTHENTICATION_CLIENT |
                              G_DBUS_CONNECTION_FLAGS_DELAY_MESSAGE_PROCESSING,
                          NULL, s->cancellable, done, s);
}

static void leave(GDBusConnection **c, gpointer listener)
{
    if (!*c)
        return;
    g_dbus_interface_skeleton_unexport(listener);
    g_dbus_connection_close(*c, NULL, NULL, NULL);
    g_clear_object(c);
}

static void update(struct spice_sound *s)
{
    gboolean on = s->active && s->connection;
    if (on == (s->cancellable != NULL))
        return;
    if (on) {
        s->cancellable = g_cancellable_new();
        listen_to(s, "RegisterOutListener", on_out_joined);
        listen_to(s, "RegisterInListener", on_in_joined);
        return;
    }
    g_cancellable_cancel(s->cancellable);
    g_clear_object(&s->cancellable);
    set_playing(s, FALSE);
    set_recording(s, FALSE);
    s->play.ok = s->mic.ok = FALSE;
    leave(&s->out_connection, s->out);
    leave(&s->in_connection, s->in);
}

void spice_sound_set_connection(struct spice_sound *s, GDBusConnection *connection)
{
    s->connection = connection;
    update(s);
}

void spice_sound_set_active(struct spice_sound *s, gboolean on)
{
    s->active = on;
    update(s);
}

/* ---- life ---- */

static const SpicePlaybackInterface playback_interface = {
    .base = {SPICE_INTERFACE_PLAYBACK, "vireo sound", SPICE_INTERFACE_PLAYBACK_MAJOR,
             SPICE_INTERFACE_PLAYBACK_MINOR},
};
static const SpiceRecordInterface record_interface = {
    .base = {SPICE_INTERFACE_RECORD, "vireo microphone", SPICE_INTERFACE_RECORD_MAJOR,
             SPICE_INTERFACE_RECORD_MINOR},
};

static void connect_out(struct spice_sound *s)
{
    s->out = vireo_display_audio_out_listener_skeleton_new();
    g_signal_connect(s->out, "handle-init", G_CALLBACK(on_out_init), s);
    g_signal_connect(s->out, "handle-fini", G_CALLBACK(on_out_fini), s);
    g_signal_connect(s->out, "handle-set-enabled", G_CALLBACK(on_out_enabled), s);
    g_signal_connect(s->out, "handle-set-volume", G_CALLBACK(on_out_volume), s);
    g_signal_connect(s->out, "handle-write", G_CALLBACK(on_out_write), s);
}

static void connect_in(struct spice_sound *s)
{
    s->in = vireo_display_audio_in_listener_skeleton_new();
    g_signal_connect(s->in, "handle-init", G_CALLBACK(on_in_init), s);
    g_signal_connect(s->in, "handle-fini", G_CALLBACK(on_in_fini), s);
    g_signal_connect(s->in, "handle-set-enabled", G_CALLBACK(on_in_enabled), s);
    g_signal_connect(s->in, "handle-set-volume", G_CALLBACK(on_in_volume), s);
    g_signal_connect(s->in, "handle-read", G_CALLBACK(on_in_read), s);
}

struct spice_sound *spice_sound_new(SpiceServer *server)
{
    struct spice_sound *s = g_new0(struct spice_sound, 1);
    s->server = server;
    s->recorded = g_byte_array_new();
    connect_out(s);
    connect_in(s);
    s->playback.base.sif = &playback_interface.base;
    s->record.base.sif = &record_interface.base;
    spice_server_set_playback_compression(server, 1); /* Opus, where a client can */
    spice_server_add_interface(server, &s->playback.base);
    spice_server_add_interface(server, &s->record.base);
    return s;
}

void spice_sound_free(struct spice_sound *s)
{
    spice_sound_set_active(s, FALSE);
    spice_server_remove_interface(&s->playback.base);
    spice_server_remove_interface(&s->record.base);
    g_signal_handlers_disconnect_by_data(s->out, s);
    g_signal_handlers_disconnect_by_data(s->in, s);
    g_object_unref(s->out);
    g_object_unref(s->in);
    g_byte_array_unref(s->recorded);
    g_free(s);
}
