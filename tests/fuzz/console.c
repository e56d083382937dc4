/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Video, keyboard and mouse against a guest that says anything. Steps: {u8 kind, u8 length, bytes}:
 * 0 video message (type, body), 1 keyboard packet, 2 mouse packet, 3 raw video packet, 4 input from
 * the person.
 */
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/vsp/keyboard.h"
#include "core/vsp/mouse.h"
#include "core/vsp/synthhid-proto.h"
#include "core/vsp/synthkbd-proto.h"
#include "core/vsp/synthvid-proto.h"
#include "core/vsp/video.h"
#include "fake-guest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct guid classes[3] = {SYNTHVID_CLASS, SYNTHKBD_CLASS, SYNTHHID_CLASS};
static struct fake_guest *g;
static struct console *console;
static struct console_listener *listener;
static uint64_t kept;

static void wake(void *ctx)
{
}

static void make(void)
{
    err e = ERR_INIT;
    g = fake_guest_new(NULL);
    console = console_new(g->loop, &e);
    struct video_params p = {.bus = g->bus,
                             .memory = g->memory,
                             .console = console,
                             .memory_mib = VIDEO_MIN_MIB,
                             .boot_gpa = 0xe0000000,
                             .boot_width = 320,
                             .boot_height = 200};
    if (!video_new(&p, &e) || !keyboard_new(g->bus, console, &e) || !mouse_new(g->bus, console, &e))
        abort();
    listener = console_listen(console, wake, NULL);
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    kept = g->next_free;
}

static void video(struct fake_channel *ch, const uint8_t *data, size_t len)
{
    uint8_t m[16 + 256] = {PIPE_DATA};
    if (!len)
        return;
    put_le32(m + 4, (uint32_t)(8 + len - 1));
    m[8] = data[0] % 17;
    memcpy(m + 16, data + 1, len - 1);
    fake_send(ch, 1, true, m, 16 + len - 1);
}

static void person(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i + 2 < len; i += 3) {
        console_key(console, data[i], data[i + 1] & 1);
        console_move(console, data[i] * 300u, data[i + 1] * 300u);
        console_button(console, data[i + 2], data[i] & 1);
        console_wheel(console, data[i + 2] - 128);
    }
    fake_settle(g);
}

static void drain(struct fake_channel **ch)
{
    struct console_update u;
    struct fake_packet p;
    for (unsigned i = 0; i < 3; i++)
        while (fake_poll(ch[i], &p))
            ;
    while (console_take(listener, &u)) {
        for (unsigned i = 0; i < u.nrects; i++)
            if (u.rects[i].x + u.rects[i].width > u.surface.width ||
                u.rects[i].y + u.rects[i].height > u.surface.height)
                abort();
        console_update_clear(&u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fake_channel *ch[3];
    const uint32_t version = SYNTHVID_3_5;
    uint8_t hello[16 + 4] = {PIPE_DATA, 0, 0, 0, 12, 0, 0, 0, SYNTHVID_VERSION_REQUEST};
    if (!g)
        make();
    for (unsigned i = 0; i < 3; i++) {
        const struct vmbus_msg_offer *o = fake_offer_of(g, &classes[i], 0);
        if (!o || !(ch[i] = fake_open(g, o, 16, NULL)))
            abort();
    }
    memcpy(hello + 16, &version, 4);
    fake_send(ch[0], 1, true, hello, sizeof hello);
    for (size_t at = 0, n = 0; at + 2 <= size && n < 64; n++) {
        size_t len = MIN((size_t)data[at + 1], size - at - 2);
        const uint8_t *p = data + at + 2;
        switch (data[at] % 5) {
        case 0: video(ch[0], p, len); break;
        case 1:
        case 2: fake_send(ch[data[at] % 5], 1, true, p, len); break;
        case 3:
            if (len >= 16)
                fake_send_raw(ch[0], p, len & ~7u);
            break;
        default: person(p, len); break;
        }
        drain(ch);
        at += 2 + len;
    }
    fake_unload(g);
    for (unsigned i = 0; i < 3; i++)
        fake_forget(ch[i]);
    g->next_free = kept; /* the rings' pages are handed out again */
    g->message_count = 0;
    fake_guest_connect(g, VMBUS_VERSION(5, 3));
    return 0;
}
