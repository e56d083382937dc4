/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The guest's sound. Programs play into a null sink, "vireo": it runs on the guest's own clock, so
 * that no program ever waits for the host, and its latency is told truly. We record its monitor and
 * send what is not silence. Programs record from "vireo_mic", the monitor of a second null sink
 * that we play the host's microphone into; that host is asked for it only while vireo_mic is in
 * use. The same modules are in PulseAudio and in PipeWire's pulse server. They are left behind when
 * we end, so that programs keep their sink, and found again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "session/agent-proto.h"
#include "session/audio/audio-wire.h"
#include "session/audio/pace.h"
#include "session/guest/session-helper.h"

enum {
    RATE = 48000,
    CHANNELS = 2,
    FRAME = 4,
    FRAGMENT_MS = 10,
    OUT_ROOM = RATE / 5 * FRAME,      /* 200 ms for a host that is late */
    SILENCE_AFTER = RATE / 2 * FRAME, /* so much of it, and it is not sent any more */
    MIC_STORE_MS = 40,                /* waiting in the server; more after it ran dry */
    MIC_BLOCK_MS = 20,                /* what the feed's sink takes at once */
    AGAIN_MS = 1000,
};

static const pa_sample_spec spec = {PA_SAMPLE_S16LE, RATE, CHANNELS};

static pa_context *context;
static bool ready; /* sink and source are there */

static struct {
    int fd;
    pa_io_event *event;
    pa_stream *stream; /* recording the monitor */
    uint8_t out[OUT_ROOM + 4096];
    size_t have;
    uint64_t sequence;
    size_t silent; /* bytes of silence in a row */
    bool running;
} play = {.fd = -1};

static struct {
    int fd;
    pa_io_event *event;
    pa_stream *stream; /* playing into the feed */
    struct audio_wire wire;
    bool running;
    struct pace pace;
} mic = {.fd = -1};

static void connect_server(void *ctx);

/* ---- to the host: what the guest plays ---- */

static void stop_play(void)
{
    if (play.fd >= 0) {
        helper_api->io_free(play.event);
        close(play.fd);
    }
    play.fd = -1;
    if (play.stream) {
        pa_stream_set_read_callback(play.stream, NULL, NULL);
        pa_stream_disconnect(play.stream);
        pa_stream_unref(play.stream);
    }
    play.stream = NULL;
}

static bool flush(void)
{
    while (play.have) {
        ssize_t n = send(play.fd, play.out, play.have, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n <= 0)
            return false;
        memmove(play.out, play.out + n, play.have - (size_t)n);
        play.have -= (size_t)n;
    }
    helper_api->io_enable(play.event, PA_IO_EVENT_INPUT | (play.have ? PA_IO_EVENT_OUTPUT : 0));
    return true;
}

/* What does not fit is lost, whole; the sequence tells. */
static void put(uint32_t type, const void *data, size_t len)
{
    struct audio_head h;
    if (play.have + sizeof h + len > sizeof play.out)
        return;
    audio_wire_head(&h, type, len, play.sequence, pa_rtclock_now());
    memcpy(play.out + play.have, &h, sizeof h);
    memcpy(play.out + play.have + sizeof h, data, len);
    play.have += sizeof h + len;
}

static void put_running(bool on)
{
    uint32_t word = on;
    if (play.running == on)
        return;
    play.running = on;
    put(AUDIO_RUNNING, &word, sizeof word);
}

static void on_play_io(pa_mainloop_api *api, pa_io_event *e, int fd, pa_io_event_flags_t f,
                       void *data)
{
    char byte;
    ssize_t n = f & PA_IO_EVENT_INPUT ? recv(fd, &byte, 1, MSG_DONTWAIT) : 1;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR) || (f & PA_IO_EVENT_HANGUP) ||
        !flush())
        stop_play();
}

static bool is_silent(const uint8_t *p, size_t len)
{
    return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static void send_sound(const uint8_t *p, size_t len)
{
    if (is_silent(p, len)) {
        play.silent += len;
        if (play.silent > SILENCE_AFTER) {
            put_running(false);
            return;
        }
    } else {
        play.silent = 0;
        put_running(true);
    }
    if (!play.running)
        return;
    while (len) {
        size_t n = len < 4096 - 64 ? len : (4096 - 64) / FRAME * FRAME;
        put(AUDIO_DATA, p, n);
        play.sequence += n / FRAME;
        p += n;
        len -= n;
    }
}

static void on_monitor(pa_stream *s, size_t bytes, void *data)
{
    const void *p;
    size_t len;
    while (pa_stream_readable_size(s) > 0) {
        if (pa_stream_peek(s, &p, &len) < 0)
            return;
        if (p && len && play.fd >= 0)
            send_sound(p, len - len % FRAME);
        if (len)
            pa_stream_drop(s);
    }
    if (play.fd >= 0 && !flush())
        stop_play();
}

static void record_monitor(void)
{
    const pa_buffer_attr attr = {.maxlength = RATE * FRAME,
                                 .fragsize = RATE * FRAGMENT_MS / 1000 * FRAME};
    play.stream = pa_stream_new(context, "to the host", &spec, NULL);
    if (!play.stream)
        return;
    pa_stream_set_read_callback(play.stream, on_monitor, NULL);
    pa_stream_connect_record(play.stream, "vireo.monitor", &attr,
                             PA_STREAM_ADJUST_LATENCY | PA_STREAM_DONT_INHIBIT_AUTO_SUSPEND |
                                 PA_STREAM_DONT_MOVE);
}

static void put_format(int fd)
{
    struct {
        struct audio_head head;
        struct audio_format format;
    } __attribute__((packed)) m = {.format = {RATE, AUDIO_S16LE, CHANNELS, 0}};
    audio_wire_head(&m.head, AUDIO_FORMAT, sizeof m.format, 0, pa_rtclock_now());
    if (send(fd, &m, sizeof m, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof m)
        shutdown(fd, SHUT_RDWR);
}

void audio_play_stream(int fd)
{
    stop_play();
    if (!ready) {
        close(fd);
        return;
    }
    play.fd = fd;
    play.have = 0;
    play.sequence = 0;
    play.silent = 0;
    play.running = false;
    play.event = helper_api->io_new(helper_api, fd, PA_IO_EVENT_INPUT, on_play_io, NULL);
    put_format(fd);
    record_monitor();
}

/* ---- from the host: what the guest records ---- */

static void drop_feed(void)
{
    if (!mic.stream)
        return;
    pace_end(&mic.pace);
    pa_stream_set_underflow_callback(mic.stream, NULL, NULL);
    pa_stream_disconnect(mic.stream);
    pa_stream_unref(mic.stream);
    mic.stream = NULL;
}

static void stop_mic(void)
{
    if (mic.fd >= 0) {
        helper_api->io_free(mic.event);
        close(mic.fd);
    }
    mic.fd = -1;
    drop_feed();
    mic.running = false;
}

/* A guest or a host that is busy needs more in store. */
static void on_feed_dry(pa_stream *s, void *data)
{
    pace_dry(&mic.pace);
}

static void on_sound(void *ctx, uint64_t sequence, uint64_t time, const uint8_t *data, size_t len)
{
    float samples[512 * CHANNELS];
    if (!mic.stream || pa_stream_get_state(mic.stream) != PA_STREAM_READY)
        return;
    while (len) {
        size_t n = len / FRAME < 512 ? len / FRAME : 512;
        for (size_t i = 0; i < n * CHANNELS; i++)
            samples[i] = (float)(int16_t)(data[2 * i] | data[2 * i + 1] << 8) / 32768;
        pace_write(&mic.pace, samples, n);
        data += n * FRAME;
        len -= n * FRAME;
    }
}

static void ignore_format(void *ctx, const struct audio_format *f)
{
}
static void ignore_running(void *ctx, bool on)
{
}
static void ignore_volume(void *ctx, const struct audio_volume *v)
{
}
static const struct audio_wire_ops mic_ops = {ignore_format, on_sound, ignore_running,
                                              ignore_volume};

static void on_mic_io(pa_mainloop_api *api, pa_io_event *e, int fd, pa_io_event_flags_t f,
                      void *data)
{
    uint8_t buf[8192];
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0 || !audio_wire_feed(&mic.wire, buf, (size_t)n, &mic_ops, NULL))
        stop_mic();
}

static void play_feed(void)
{
    static const pa_sample_spec floats = {PA_SAMPLE_FLOAT32NE, RATE, CHANNELS};
    static const struct pace_params params = {RATE, CHANNELS, MIC_STORE_MS, MIC_BLOCK_MS};
    const pa_buffer_attr attr = pace_attr(&params);
    mic.stream = pa_stream_new(context, "from the host", &floats, NULL);
    if (!mic.stream)
        return;
    pace_begin(&mic.pace, mic.stream, &params);
    pa_stream_set_underflow_callback(mic.stream, on_feed_dry, NULL);
    pa_stream_connect_playback(
        mic.stream, "vireo_mic_feed", &attr,
        PACE_FLAGS | PA_STREAM_DONT_INHIBIT_AUTO_SUSPEND | PA_STREAM_DONT_MOVE, NULL, NULL);
}

static void tell_recording(bool on)
{
    struct {
        struct audio_head head;
        uint32_t on;
    } __attribute__((packed)) m = {.on = on};
    if (mic.fd < 0 || mic.running == on)
        return;
    mic.running = on;
    audio_wire_head(&m.head, AUDIO_RUNNING, sizeof m.on, 0, pa_rtclock_now());
    if (send(mic.fd, &m, sizeof m, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof m)
        shutdown(mic.fd, SHUT_RDWR);
    if (on && !mic.stream)
        play_feed();
    else if (!on)
        drop_feed();
}

static void on_source(pa_context *c, const pa_source_info *i, int eol, void *data)
{
    if (i)
        tell_recording(i->state == PA_SOURCE_RUNNING);
}

static void look_at_source(void)
{
    pa_operation *o = pa_context_get_source_info_by_name(context, "vireo_mic", on_source, NULL);
    if (o)
        pa_operation_unref(o);
}

void audio_record_stream(int fd)
{
    stop_mic();
    if (!ready) {
        close(fd);
        return;
    }
    mic.fd = fd;
    memset(&mic.wire, 0, sizeof mic.wire);
    mic.wire.frame = FRAME;
    mic.event = helper_api->io_new(helper_api, fd, PA_IO_EVENT_INPUT, on_mic_io, NULL);
    put_format(fd);
    look_at_source();
}

void audio_stop(bool playback, bool record)
{
    if (playback)
        stop_play();
    if (record)
        stop_mic();
}

/* ---- the server ---- */

static const struct {
    const char *name, *module, *arguments;
    bool source;
    const char *more; /* arguments that old servers do not know */
} parts[] = {
    {"vireo", "module-null-sink",
     "sink_name=vireo rate=48000 channels=2 format=s16le "
     "sink_properties=\"device.description='Vireo' device.icon_name='audio-card'\"",
     false},
    {"vireo_mic_feed", "module-null-sink",
     "sink_name=vireo_mic_feed rate=48000 channels=2 format=s16le "
     "sink_properties=\"device.description='Vireo-microphone-(internal)'\"",
     false, " norewinds=1"}, /* else silence is there for two seconds when the host's sound comes */
    {"vireo_mic", "module-remap-source",
     "master=vireo_mic_feed.monitor source_name=vireo_mic "
     "source_properties=\"device.description='Vireo-microphone'\"",
     true},
};
enum { PARTS = sizeof parts / sizeof parts[0] };
static unsigned part; /* being looked for */
static bool found, plain;

static void next_part(void);
static void load_part(void);

static void done_with(pa_operation *o)
{
    if (o)
        pa_operation_unref(o);
}

static void all_there(void)
{
    ready = true;
    done_with(pa_context_subscribe(context, PA_SUBSCRIPTION_MASK_SOURCE, NULL, NULL));
    helper_offer(1u << AGENT_PLAYBACK | 1u << AGENT_RECORD);
}

static void on_loaded(pa_context *c, uint32_t index, void *data)
{
    if (index == PA_INVALID_INDEX && parts[part].more && !plain) {
        plain = true;
        load_part();
        return;
    }
    if (index == PA_INVALID_INDEX)
        fprintf(stderr, "the sound server has no %s\n", parts[part].module);
    else if (part == 0)
        done_with(pa_context_set_default_sink(c, "vireo", NULL, NULL));
    else if (parts[part].source)
        done_with(pa_context_set_default_source(c, "vireo_mic", NULL, NULL));
    part++;
    next_part();
}

static void load_part(void)
{
    char arguments[256];
    snprintf(arguments, sizeof arguments, "%s%s", parts[part].arguments,
             parts[part].more && !plain ? parts[part].more : "");
    done_with(pa_context_load_module(context, parts[part].module, arguments, on_loaded, NULL));
}

static void looked(void)
{
    if (!found) {
        plain = false;
        load_part();
        return;
    }
    part++;
    next_part();
}

static void on_sink_there(pa_context *c, const pa_sink_info *i, int eol, void *data)
{
    found |= i != NULL;
    if (eol)
        looked();
}

static void on_source_there(pa_context *c, const pa_source_info *i, int eol, void *data)
{
    found |= i != NULL;
    if (eol)
        looked();
}

static void next_part(void)
{
    if (part == PARTS) {
        all_there();
        return;
    }
    found = false;
    done_with(
        parts[part].source
            ? pa_context_get_source_info_by_name(context, parts[part].name, on_source_there, NULL)
            : pa_context_get_sink_info_by_name(context, parts[part].name, on_sink_there, NULL));
}

static void on_event(pa_context *c, pa_subscription_event_type_t t, uint32_t index, void *data)
{
    look_at_source();
}

static void on_state(pa_context *c, void *data)
{
    switch (pa_context_get_state(c)) {
    case PA_CONTEXT_READY:
        part = 0;
        next_part();
        break;
    case PA_CONTEXT_FAILED:
    case PA_CONTEXT_TERMINATED:
        ready = false;
        helper_offer(0);
        audio_stop(true, true);
        pa_context_unref(context);
        context = NULL;
        helper_after(AGAIN_MS, connect_server, NULL);
        break;
    default: break;
    }
}

static void connect_server(void *ctx)
{
    context = pa_context_new(helper_api, "Vireo");
    if (!context)
        abort();
    pa_context_set_state_callback(context, on_state, NULL);
    pa_context_set_subscribe_callback(context, on_event, NULL);
    if (pa_context_connect(context, NULL, PA_CONTEXT_NOAUTOSPAWN, NULL) < 0 && context)
        on_state(context, NULL);
}

void audio_begin(void)
{
    connect_server(NULL);
}
