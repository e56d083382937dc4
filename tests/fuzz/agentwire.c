/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The agent's control channel as vireo-agent in the guest reads it, and sound as both sides do. The
 * first byte: bit 0 which, the rest in pieces of which size it comes. */
#include <stdlib.h>

#include "session/audio/audio-wire.h"
/* vireo-agent's own file, with the rest of it left out. */
#include "session/guest/agent-control.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct watch *watch_add(int fd, short events, void (*fn)(void *ctx, short revents), void *ctx)
{
    return NULL;
}
void watch_events(struct watch *w, short events)
{
}
void watch_remove(struct watch *w)
{
}
void timer_set(enum timer_id t, uint64_t at, void (*fn)(void))
{
}
uint64_t now_ms(void)
{
    return 0;
}
bool port_connected(void)
{
    return true;
}
void port_start(uint32_t id)
{
    control_failed(AGENT_VDAGENT, id, AGENT_FAILURE_MISSING);
}
void port_stop(void)
{
}
uint32_t helper_services(void)
{
    return 0;
}
void helper_start(uint32_t service, uint32_t id)
{
    if (service >= AGENT_SERVICES)
        abort();
}
void helper_stop(uint32_t service)
{
    if (service >= AGENT_SERVICES)
        abort();
}
bool usb_there(void)
{
    return true;
}
void usb_start(uint32_t id, uint32_t device, uint32_t speed)
{
}
void say(const char *fmt, ...)
{
}

static unsigned frame;

static void on_format(void *ctx, const struct audio_format *f)
{
    frame = audio_frame_size(f);
    if (!frame || f->channels > AUDIO_MAX_CHANNELS)
        abort();
}
static void on_data(void *ctx, uint64_t sequence, uint64_t time, const uint8_t *data, size_t len)
{
    if (!frame || !len || len % frame || len > AUDIO_MAX_DATA)
        abort();
    if (data[len - 1] == 0 && data[0] == 1) /* reads what it was given */
        frame += 0;
}
static void on_running(void *ctx, bool on)
{
}
static void on_volume(void *ctx, const struct audio_volume *v)
{
    if (v->channels > AUDIO_MAX_CHANNELS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct audio_wire_ops ops = {on_format, on_data, on_running, on_volume};
    static struct audio_wire audio;
    if (!size)
        return 0;
    size_t piece = 1 + (data[0] >> 1);
    memset(&audio, 0, sizeof audio);
    memset(&c, 0, sizeof c);
    c.fd = -1;
    frame = 0;
    for (size_t at = 1; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        if (!(data[0] & 1 ? audio_wire_feed(&audio, data + at, n, &ops, NULL)
                          : agent_wire_feed(&c.in, data + at, n, on_message, NULL)))
            break;
    }
    return 0;
}
