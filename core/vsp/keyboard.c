/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/keyboard.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vsp/synthkbd-proto.h"

enum { QUEUE = 256, QNUM_PAUSE = 0xc6 };

struct keyboard {
    struct vmbus *bus;
    struct vmbus_device *device;
    struct console *console;
    struct vmbus_channel *channel; /* NULL: closed */
    bool ready;                    /* a version was agreed upon */
    bool answer_due;
    uint32_t answer;
    struct synthkbd_event queue[QUEUE];
    uint32_t first, count;
};

static bool send_answer(struct keyboard *k)
{
    struct synthkbd_response r = {SYNTHKBD_RESPONSE, k->answer};
    if (k->answer_due && !vmbus_send(k->channel, 0, false, &r, sizeof r))
        return false;
    k->answer_due = false;
    return true;
}

static void flush(struct keyboard *k)
{
    if (!k->channel || !send_answer(k))
        return;
    while (k->ready && k->count &&
           vmbus_send(k->channel, 0, false, &k->queue[k->first], sizeof k->queue[0])) {
        k->first = (k->first + 1) % QUEUE;
        k->count--;
    }
}

static void push(struct keyboard *k, uint16_t code, uint32_t info)
{
    if (!k->ready || k->count == QUEUE)
        return;
    k->queue[(k->first + k->count++) % QUEUE] =
        (struct synthkbd_event){.type = SYNTHKBD_EVENT, .make_code = code, .info = info};
}

/* Pause has no break code of its own: E1 1D 45, then E1 9D C5 (IBM 101-key, set 1). */
static void push_pause(struct keyboard *k)
{
    push(k, 0x1d, SYNTHKBD_E1);
    push(k, 0x45, 0);
    push(k, 0x1d, SYNTHKBD_E1 | SYNTHKBD_BREAK);
    push(k, 0x45, SYNTHKBD_BREAK);
}

static void on_key(void *ctx, uint8_t qnum, bool down)
{
    struct keyboard *k = ctx;
    if (qnum == QNUM_PAUSE) {
        if (down)
            push_pause(k);
    } else if (qnum & 0x7f) {
        push(k, qnum & 0x7f, (qnum & 0x80 ? SYNTHKBD_E0 : 0) | (down ? 0 : SYNTHKBD_BREAK));
    }
    flush(k);
}

static const struct console_input_ops input_ops = {.key = on_key};

static void forget(struct keyboard *k)
{
    k->ready = false;
    k->answer_due = false;
    k->first = k->count = 0;
}

static bool opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct keyboard *k = ctx;
    forget(k);
    k->channel = ch;
    console_prefer_input(k->console, k, true);
    return true;
}

static void closed(void *ctx, struct vmbus_channel *ch)
{
    struct keyboard *k = ctx;
    forget(k);
    k->channel = NULL;
    console_prefer_input(k->console, k, false);
}

static void on_request(struct keyboard *k, const struct vmbus_packet *p)
{
    struct synthkbd_request r;
    if (p->len < sizeof r) {
        LOG_GUEST("keyboard", "the guest sent a version request that is too short");
        return;
    }
    memcpy(&r, p->payload, sizeof r);
    k->ready = r.version == SYNTHKBD_VERSION;
    k->answer = k->ready;
    k->answer_due = true;
    flush(k);
}

static void on_leds(struct keyboard *k, const struct vmbus_packet *p)
{
    struct synthkbd_leds l;
    if (p->len < sizeof l)
        return;
    memcpy(&l, p->payload, sizeof l);
    console_set_leds(k->console, l.flags & 7);
}

static void readable(void *ctx, struct vmbus_channel *ch)
{
    struct keyboard *k = ctx;
    struct vmbus_packet p;
    while (vmbus_channel_next(ch, &p)) {
        if (p.type != VMBUS_PACKET_INBAND || p.len < 8)
            continue;
        uint32_t type = get_le32(p.payload);
        if (type == SYNTHKBD_REQUEST)
            on_request(k, &p);
        else if (type == SYNTHKBD_LEDS)
            on_leds(k, &p);
        else
            LOG_GUEST("keyboard", "the guest sent a message of unknown type %u", type);
    }
}

static void writable(void *ctx, struct vmbus_channel *ch)
{
    flush(ctx);
}

static const struct vmbus_provider_ops provider = {
    .name = "keyboard",
    .opened = opened,
    .closed = closed,
    .readable = readable,
    .writable = writable,
};

struct keyboard *keyboard_new(struct vmbus *bus, struct console *console, err *e)
{
    struct keyboard *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for the keyboard");
        return NULL;
    }
    struct vmbus_device_params p = {
        .class_id = SYNTHKBD_CLASS, .instance = SYNTHKBD_INSTANCE, .ops = &provider, .ctx = k};
    k->bus = bus;
    k->console = console;
    k->device = vmbus_device_add(bus, &p, e);
    if (!k->device) {
        free(k);
        return NULL;
    }
    console_set_input(console, &input_ops, k);
    console_prefer_input(console, k, false); /* until its driver is there */
    return k;
}

/* ---- device life ---- */

static void keyboard_start(void *self)
{
    flush(self);
}

static void keyboard_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void keyboard_reset(void *self)
{
    forget(self);
}

static bool check_loaded(void *obj, uint16_t version, err *e)
{
    struct keyboard *k = obj;
    if (k->count > QUEUE)
        return err_set(e, ERR_CORRUPT, "the saved keyboard holds too many keys");
    k->first = 0;
    return true;
}

static const struct state_field event_fields[] = {
    STATE_FIELD(1, STATE_U16, struct synthkbd_event, make_code),
    STATE_FIELD(2, STATE_U32, struct synthkbd_event, info),
    STATE_FIELD(3, STATE_U32, struct synthkbd_event, type),
};
static const struct state_table event_table = {
    .name = "key", .fields = event_fields, .nfields = ARRAY_LEN(event_fields)};
static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_BOOL, struct keyboard, ready),
    STATE_FIELD(2, STATE_BOOL, struct keyboard, answer_due),
    STATE_FIELD(3, STATE_U32, struct keyboard, answer),
    STATE_FIELD_MAX(4, STATE_U32, struct keyboard, count, QUEUE),
    STATE_SUB(5, struct keyboard, queue, &event_table, QUEUE),
};
static void turn_to_front(void *obj)
{
    struct keyboard *k = obj;
    struct synthkbd_event copy[QUEUE];
    for (uint32_t i = 0; i < QUEUE; i++)
        copy[i] = k->queue[(k->first + i) % QUEUE];
    memcpy(k->queue, copy, sizeof copy);
    k->first = 0;
}
static const struct state_table table = {
    .name = "keyboard",
    .section = STATE_ID('K', 'B', 'D', ' '),
    .version = 1,
    .least_reader = 1,
    .fields = fields,
    .nfields = ARRAY_LEN(fields),
    .pre_save = turn_to_front,
    .post_load = check_loaded,
};

static void keyboard_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

/* The channel was restored by the bus, and `opened` is not called again: it is looked up. */
static bool keyboard_restore(void *self, const struct state_reader *r, err *e)
{
    struct keyboard *k = self;
    k->channel = vmbus_device_channel(k->device, 0);
    console_prefer_input(k->console, k, k->channel != NULL);
    return state_restore(r, &table, 0, k, e);
}

static void keyboard_destroy(void *self)
{
    struct keyboard *k = self;
    console_drop_input(k->console, k);
    vmbus_device_remove(k->device);
    free(k);
}

static const struct device_ops ops = {
    .name = "keyboard",
    .start = keyboard_start,
    .stop = keyboard_stop,
    .reset = keyboard_reset,
    .save = keyboard_save,
    .restore = keyboard_restore,
    .destroy = keyboard_destroy,
};

struct device keyboard_as_device(struct keyboard *k)
{
    return (struct device){&ops, k};
}
