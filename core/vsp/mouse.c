/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/vsp/mouse.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/vsp/synthhid-proto.h"

enum { QUEUE = 64, VENDOR = 0x045e, PRODUCT = 0x0621, DEVICE_VERSION = 0x0202 };

/* HID 1.11: a mouse with five buttons, X and Y absolute 0..32767, a relative wheel. */
static const uint8_t report_descriptor[] = {
    0x05, 0x01,       /* usage page: generic desktop */
    0x09, 0x02,       /* usage: mouse */
    0xa1, 0x01,       /* collection: application */
    0x09, 0x01,       /*   usage: pointer */
    0xa1, 0x00,       /*   collection: physical */
    0x05, 0x09,       /*     usage page: buttons */
    0x19, 0x01,       /*     usage minimum 1 */
    0x29, 0x05,       /*     usage maximum 5 */
    0x15, 0x00,       /*     logical minimum 0 */
    0x25, 0x01,       /*     logical maximum 1 */
    0x95, 0x05,       /*     count 5 */
    0x75, 0x01,       /*     size 1 */
    0x81, 0x02,       /*     input: variable, absolute */
    0x95, 0x01,       /*     count 1 */
    0x75, 0x03,       /*     size 3 */
    0x81, 0x03,       /*     input: constant */
    0x05, 0x01,       /*     usage page: generic desktop */
    0x09, 0x30,       /*     usage: X */
    0x09, 0x31,       /*     usage: Y */
    0x15, 0x00,       /*     logical minimum 0 */
    0x26, 0xff, 0x7f, /*     logical maximum 32767 */
    0x75, 0x10,       /*     size 16 */
    0x95, 0x02,       /*     count 2 */
    0x81, 0x02,       /*     input: variable, absolute */
    0x09, 0x38,       /*     usage: wheel */
    0x16, 0x01, 0x80, /*     logical minimum -32767 */
    0x26, 0xff, 0x7f, /*     logical maximum 32767 */
    0x75, 0x10,       /*     size 16 */
    0x95, 0x01,       /*     count 1 */
    0x81, 0x06,       /*     input: variable, relative */
    0xc0,             /*   end */
    0xc0,             /* end */
};

struct device_info {
    struct pipe_header pipe;
    struct pipe_message message;
    struct synthhid_attributes attributes;
    struct synthhid_descriptor hid;
    uint8_t report[sizeof report_descriptor];
} __attribute__((packed));

struct entry {
    struct synthhid_report report;
    bool moved_only; /* may be replaced by a later movement */
};

struct mouse {
    struct vmbus *bus;
    struct vmbus_device *device;
    struct console *console;
    struct vmbus_channel *channel; /* NULL: closed */
    bool ready;
    bool response_due, approved, info_due;
    uint32_t version; /* asked for */
    uint8_t buttons;
    struct entry queue[QUEUE];
    uint32_t first, count;
};

static bool send_response(struct mouse *m)
{
    struct synthhid_response r = {
        .pipe = {PIPE_DATA, sizeof r - sizeof(struct pipe_header)},
        .message = {SYNTHHID_RESPONSE, sizeof r.version + sizeof r.approved},
        .version = SYNTHHID_VERSION,
        .approved = m->approved,
    };
    if (!vmbus_send(m->channel, 0, false, &r, sizeof r))
        return false;
    m->response_due = false;
    return true;
}

static bool send_info(struct mouse *m)
{
    struct device_info d = {
        .pipe = {PIPE_DATA, sizeof d - sizeof(struct pipe_header)},
        .message = {SYNTHHID_DEVICE_INFO,
                    sizeof d - sizeof(struct pipe_header) - sizeof(struct pipe_message)},
        .attributes = {.size = sizeof(struct synthhid_attributes),
                       .vendor = VENDOR,
                       .product = PRODUCT,
                       .version = DEVICE_VERSION},
        .hid = {.length = sizeof(struct synthhid_descriptor),
                .type = 0x21,
                .bcd = 0x0101,
                .count = 1,
                .report_type = 0x22,
                .report_length = sizeof report_descriptor},
    };
    memcpy(d.report, report_descriptor, sizeof d.report);
    if (!vmbus_send(m->channel, 0, false, &d, sizeof d))
        return false;
    m->info_due = false;
    m->ready = true;
    return true;
}

static bool send_report(struct mouse *m, const struct synthhid_report *report)
{
    struct {
        struct pipe_header pipe;
        struct pipe_message message;
        struct synthhid_report report;
    } __attribute__((packed)) out = {
        .pipe = {PIPE_DATA, sizeof(struct pipe_message) + sizeof *report},
        .message = {SYNTHHID_REPORT, sizeof *report},
        .report = *report,
    };
    return vmbus_send(m->channel, 0, false, &out, sizeof out);
}

static void flush(struct mouse *m)
{
    if (!m->channel || (m->response_due && !send_response(m)) || (m->info_due && !send_info(m)))
        return;
    while (m->ready && m->count && send_report(m, &m->queue[m->first].report)) {
        m->first = (m->first + 1) % QUEUE;
        m->count--;
    }
}

static void on_pointer(void *ctx, uint32_t x, uint32_t y, uint32_t buttons, int wheel)
{
    struct mouse *m = ctx;
    struct entry e = {
        .report = {.buttons = buttons & 0x1f,
                   .x = (uint16_t)x,
                   .y = (uint16_t)y,
                   .wheel = (int16_t)wheel},
        .moved_only = m->buttons == (buttons & 0x1f) && !wheel,
    };
    if (!m->ready)
        return;
    m->buttons = e.report.buttons;
    struct entry *last = m->count ? &m->queue[(m->first + m->count - 1) % QUEUE] : NULL;
    if (last && last->moved_only && e.moved_only)
        *last = e;
    else if (m->count < QUEUE)
        m->queue[(m->first + m->count++) % QUEUE] = e;
    else
        last->report.buttons = e.report.buttons; /* the state at least comes to be right */
    flush(m);
}

static const struct console_input_ops input_ops = {.pointer = on_pointer};

static void forget(struct mouse *m)
{
    m->ready = m->response_due = m->info_due = m->approved = false;
    m->first = m->count = 0;
    m->buttons = 0;
}

static bool opened(void *ctx, struct vmbus_channel *ch, const uint8_t *user)
{
    struct mouse *m = ctx;
    forget(m);
    m->channel = ch;
    console_prefer_input(m->console, m, true);
    return true;
}

static void closed(void *ctx, struct vmbus_channel *ch)
{
    struct mouse *m = ctx;
    forget(m);
    m->channel = NULL;
    console_prefer_input(m->console, m, false);
}

static void on_message(struct mouse *m, const struct vmbus_packet *p)
{
    struct pipe_message msg;
    if (p->len < sizeof(struct pipe_header) + sizeof msg) {
        LOG_GUEST("mouse", "the guest sent a message that is too short");
        return;
    }
    memcpy(&msg, p->payload + sizeof(struct pipe_header), sizeof msg);
    if (msg.type == SYNTHHID_DEVICE_INFO_ACK)
        return;
    if (msg.type != SYNTHHID_REQUEST || p->len < 20) {
        LOG_GUEST("mouse", "the guest sent a message of unknown type %u", msg.type);
        return;
    }
    m->approved = get_le32(p->payload + 16) == SYNTHHID_VERSION;
    m->response_due = true;
    m->info_due = m->approved;
    m->ready = false;
    flush(m);
}

static void readable(void *ctx, struct vmbus_channel *ch)
{
    struct vmbus_packet p;
    while (vmbus_channel_next(ch, &p))
        if (p.type == VMBUS_PACKET_INBAND)
            on_message(ctx, &p);
}

static void writable(void *ctx, struct vmbus_channel *ch)
{
    flush(ctx);
}

static const struct vmbus_provider_ops provider = {
    .name = "mouse",
    .opened = opened,
    .closed = closed,
    .readable = readable,
    .writable = writable,
};

struct mouse *mouse_new(struct vmbus *bus, struct console *console, err *e)
{
    struct mouse *m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_NO_MEMORY, "there is no memory for the mouse");
        return NULL;
    }
    struct vmbus_device_params p = {.class_id = SYNTHHID_CLASS,
                                    .instance = SYNTHHID_INSTANCE,
                                    .flags = VMBUS_OFFER_NAMED_PIPE,
                                    .user = {VMBUS_PIPE_MESSAGE},
                                    .ops = &provider,
                                    .ctx = m};
    m->bus = bus;
    m->console = console;
    m->device = vmbus_device_add(bus, &p, e);
    if (!m->device) {
        free(m);
        return NULL;
    }
    console_set_input(console, &input_ops, m);
    console_prefer_input(console, m, false); /* until its driver is there */
    return m;
}

/* ---- device life ---- */

static void mouse_start(void *self)
{
    flush(self);
}

static void mouse_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void mouse_reset(void *self)
{
    forget(self);
}

/* Movements on their way are not saved: the next one says all. */
static const struct state_field fields[] = {
    STATE_FIELD(1, STATE_BOOL, struct mouse, ready),
    STATE_FIELD(2, STATE_BOOL, struct mouse, response_due),
    STATE_FIELD(3, STATE_BOOL, struct mouse, approved),
    STATE_FIELD(4, STATE_BOOL, struct mouse, info_due),
    STATE_FIELD_MAX(5, STATE_U8, struct mouse, buttons, 0x1f),
};
static const struct state_table table = {
    .name = "mouse",
    .section = STATE_ID('M', 'O', 'U', 'S'),
    .version = 1,
    .least_reader = 1,
    .fields = fields,
    .nfields = ARRAY_LEN(fields),
};

static void mouse_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

static bool mouse_restore(void *self, const struct state_reader *r, err *e)
{
    struct mouse *m = self;
    m->channel = vmbus_device_channel(m->device, 0);
    console_prefer_input(m->console, m, m->channel != NULL);
    return state_restore(r, &table, 0, m, e);
}

static void mouse_destroy(void *self)
{
    struct mouse *m = self;
    console_drop_input(m->console, m);
    vmbus_device_remove(m->device);
    free(m);
}

static const struct device_ops ops = {
    .name = "mouse",
    .start = mouse_start,
    .stop = mouse_stop,
    .reset = mouse_reset,
    .save = mouse_save,
    .restore = mouse_restore,
    .destroy = mouse_destroy,
};

struct device mouse_as_device(struct mouse *m)
{
    return (struct device){&ops, m};
}
