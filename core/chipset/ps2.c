/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/ps2.h"

#include <string.h>

#include "core/base/bytes.h"

enum { ACK = 0xfa, RESEND = 0xfe, PASSED = 0xaa, RELEASE = 0xf0, EXTENDED = 0xe0 };
enum { QNUM_PAUSE = 0xc6, QNUM_EXTENDED = 0x80, SET1_BREAK = 0x80 };

/* ---- queues ---- */

bool ps2_take(struct ps2_queue *q, uint8_t *out)
{
    if (!q->n)
        return false;
    *out = q->byte[0];
    memmove(q->byte, q->byte + 1, --q->n);
    return true;
}

static void put(struct ps2_queue *q, uint8_t byte)
{
    if (q->n < PS2_QUEUE)
        q->byte[q->n++] = byte;
}

/* All or nothing, leaving room for answers to commands. */
static bool put_all(struct ps2_queue *q, const uint8_t *bytes, size_t n)
{
    enum { ROOM_FOR_ANSWERS = 8 };
    if (q->n + n > PS2_QUEUE - ROOM_FOR_ANSWERS)
        return false;
    for (size_t i = 0; i < n; i++)
        put(q, bytes[i]);
    return true;
}

/* ---- scan codes ---- */

/* Set 2's make code of each of set 1's; 0: there is none. */
static const uint8_t set2_of[0x80] = {
    0x00, 0x76, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55, 0x66, 0x0d,
    0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5a, 0x14, 0x1c, 0x1b,
    0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52, 0x0e, 0x12, 0x5d, 0x1a, 0x22, 0x21, 0x2a,
    0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a, 0x59, 0x7c, 0x11, 0x29, 0x58, 0x05, 0x06, 0x04, 0x0c, 0x03,
    0x0b, 0x83, 0x0a, 0x01, 0x09, 0x77, 0x7e, 0x6c, 0x75, 0x7d, 0x7b, 0x6b, 0x73, 0x74, 0x79, 0x69,
    0x72, 0x7a, 0x70, 0x71, 0x7f, 0x60, 0x61, 0x78, 0x07, 0x0f, 0x17, 0x1f, 0x27, 0x2f, 0x37, 0x3f,
    0x47, 0x4f, 0x56, 0x5e, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40, 0x48, 0x50, 0x57, 0x6f,
    0x13, 0x19, 0x39, 0x51, 0x53, 0x5c, 0x5f, 0x62, 0x63, 0x64, 0x65, 0x67, 0x68, 0x6a, 0x6d, 0x6e,
};

uint8_t ps2_translate(uint8_t set2)
{
    for (unsigned i = 1; i < sizeof set2_of; i++)
        if (set2_of[i] == set2)
            return (uint8_t)i;
    return set2; /* answers pass as they are */
}

/* ---- keyboard ---- */

void ps2_keyboard_reset(struct ps2_keyboard *k)
{
    *k = (struct ps2_keyboard){.scanning = true, .set = 2, .rate = 0x2b};
}

static void keyboard_argument(struct ps2_keyboard *k, uint8_t byte)
{
    uint8_t command = k->command;
    k->command = 0;
    put(&k->queue, ACK);
    if (command == 0xed)
        k->leds = byte & 7;
    else if (command == 0xf3)
        k->rate = byte & 0x7f;
    else if (!byte)
        put(&k->queue, k->set);
    else if (byte <= 2)
        k->set = byte;
}

void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte)
{
    if (k->command && byte < 0xed) {
        keyboard_argument(k, byte);
        return;
    }
    k->command = 0;
    switch (byte) {
    case 0xed: /* LEDs */
    case 0xf0: /* scan code set */
    case 0xf3: /* repeat rate */
        k->command = byte;
        put(&k->queue, ACK);
        break;
    case 0xee: put(&k->queue, 0xee); break;
    case 0xf2:
        put(&k->queue, ACK);
        put(&k->queue, 0xab);
        put(&k->queue, 0x83);
        break;
    case 0xf4:
        k->scanning = true;
        k->queue.n = 0;
        put(&k->queue, ACK);
        break;
    case 0xf5:
    case 0xf6:
        ps2_keyboard_reset(k);
        k->scanning = byte == 0xf6;
        put(&k->queue, ACK);
        break;
    case 0xf7: /* key types of set 3: nothing to choose */
    case 0xf8:
    case 0xf9:
    case 0xfa: put(&k->queue, ACK); break;
    case 0xff:
        ps2_keyboard_reset(k);
        put(&k->queue, ACK);
        put(&k->queue, PASSED);
        break;
    default: put(&k->queue, RESEND);
    }
}

static void pause_key(struct ps2_keyboard *k)
{
    static const uint8_t one[] = {0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5};
    static const uint8_t two[] = {0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77};
    if (k->set == 1)
        put_all(&k->queue, one, sizeof one);
    else
        put_all(&k->queue, two, sizeof two);
}

void ps2_keyboard_key(struct ps2_keyboard *k, uint8_t qnum, bool down)
{
    uint8_t bytes[3], code = qnum & 0x7f;
    size_t n = 0;
    if (!k->scanning || !code)
        return;
    if (qnum == QNUM_PAUSE) {
        if (down)
            pause_key(k);
        return;
    }
    if (qnum & QNUM_EXTENDED)
        bytes[n++] = EXTENDED;
    if (k->set == 1) {
        bytes[n++] = down ? code : code | SET1_BREAK;
    } else {
        if (!down)
            bytes[n++] = RELEASE;
        bytes[n++] = set2_of[code];
    }
    put_all(&k->queue, bytes, n);
}

/* ---- mouse ---- */

enum { DEFAULT_RATE = 100, DEFAULT_RESOLUTION = 2, MOST = 255, WHEEL_MOST = 7 };

static void mouse_defaults(struct ps2_mouse *m)
{
    m->rate = DEFAULT_RATE;
    m->resolution = DEFAULT_RESOLUTION;
    m->reporting = m->remote = m->scaling = m->wrap = false;
    m->command = 0;
    m->dx = m->dy = m->dz = 0;
}

void ps2_mouse_reset(struct ps2_mouse *m)
{
    *m = (struct ps2_mouse){0};
    mouse_defaults(m);
}

static void set_rate(struct ps2_mouse *m, uint8_t rate)
{
    m->rate = rate;
    m->rates[0] = m->rates[1];
    m->rates[1] = m->rates[2];
    m->rates[2] = rate;
    if (m->rates[0] == 200 && m->rates[1] == 100 && rate == 80)
        m->type = 3;
    else if (m->rates[0] == 200 && m->rates[1] == 200 && rate == 80 && m->type == 3)
        m->type = 4;
}

static int32_t clamp(int32_t v, int32_t least, int32_t most)
{
    return v < least ? least : v > most ? most : v;
}

static bool put_packet(struct ps2_mouse *m)
{
    int32_t x = clamp(m->dx, -MOST, MOST), y = clamp(m->dy, -MOST, MOST);
    int32_t z = clamp(m->dz, -WHEEL_MOST, WHEEL_MOST);
    uint8_t p[4] = {(uint8_t)(8 | (m->buttons & 7) | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0)),
                    (uint8_t)x, (uint8_t)y, (uint8_t)z};
    if (m->type == 4)
        p[3] = (uint8_t)((z & 15) | (m->buttons & 0x18) << 1);
    if (!put_all(&m->queue, p, m->type ? 4 : 3))
        return false;
    m->dx -= x;
    m->dy -= y;
    m->dz -= m->type ? z : m->dz;
    m->told = m->buttons;
    return true;
}

void ps2_mouse_report(struct ps2_mouse *m)
{
    if (!m->reporting || m->remote)
        return;
    while ((m->dx || m->dy || m->dz || m->buttons != m->told) && put_packet(m))
        ;
}

void ps2_mouse_move(struct ps2_mouse *m, int32_t dx, int32_t dy, int32_t dz, uint8_t buttons)
{
    enum { FAR = 1 << 20 };
    if (buttons != m->buttons)
        ps2_mouse_report(m); /* what was before the click */
    m->dx = clamp(m->dx + dx, -FAR, FAR);
    m->dy = clamp(m->dy + dy, -FAR, FAR);
    m->dz = clamp(m->dz + dz, -FAR, FAR);
    m->buttons = buttons & 31;
    if (!m->reporting && !m->remote)
        m->dx = m->dy = m->dz = 0;
    ps2_mouse_report(m);
}

static void mouse_argument(struct ps2_mouse *m, uint8_t byte)
{
    if (m->command == 0xf3)
        set_rate(m, byte);
    else
        m->resolution = byte & 3;
    m->command = 0;
    put(&m->queue, ACK);
}

static void mouse_status(struct ps2_mouse *m)
{
    put(&m->queue,
        (uint8_t)((m->remote ? 0x40 : 0) | (m->reporting ? 0x20 : 0) | (m->scaling ? 0x10 : 0) |
                  (m->buttons & 1 ? 4 : 0) | (m->buttons & 4 ? 2 : 0) | (m->buttons & 2 ? 1 : 0)));
    put(&m->queue, m->resolution);
    put(&m->queue, m->rate);
}

void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte)
{
    if (m->command) {
        mouse_argument(m, byte);
        return;
    }
    if (m->wrap && byte != 0xec && byte != 0xff) {
        put(&m->queue, byte);
        return;
    }
    if (byte == 0xf4 || byte == 0xf5 || byte == 0xf6 || byte == 0xff)
        m->queue.n = 0;
    put(&m->queue, byte >= 0xe6 ? ACK : RESEND);
    switch (byte) {
    case 0xe6: m->scaling = false; break;
    case 0xe7: m->scaling = true; break;
    case 0xe8:
    case 0xf3: m->command = byte; break;
    case 0xe9: mouse_status(m); break;
    case 0xea: m->remote = false; break;
    case 0xeb: put_packet(m); break;
    case 0xec: m->wrap = false; break;
    case 0xee: m->wrap = true; break;
    case 0xf0: m->remote = true; break;
    case 0xf2: put(&m->queue, m->type); break;
    case 0xf4: m->reporting = true; break;
    case 0xf5: m->reporting = false; break;
    case 0xf6: mouse_defaults(m); break;
    case 0xff:
        mouse_defaults(m);
        m->type = 0;
        put(&m->queue, PASSED);
        put(&m->queue, 0);
        break;
    default: break;
    }
}

/* ---- state ---- */

static const struct state_field queue_fields[] = {
    STATE_VARBYTES(1, struct ps2_queue, byte, n),
};
static const struct state_table queue_table = {
    .name = "PS/2 queue", .fields = queue_fields, .nfields = ARRAY_LEN(queue_fields)};

static const struct state_field keyboard_fields[] = {
    STATE_SUB(1, struct ps2_keyboard, queue, &queue_table, 1),
    STATE_FIELD(2, STATE_BOOL, struct ps2_keyboard, scanning),
    STATE_FIELD_MAX(3, STATE_U8, struct ps2_keyboard, set, 2),
    STATE_FIELD(4, STATE_U8, struct ps2_keyboard, command),
    STATE_FIELD_MAX(5, STATE_U8, struct ps2_keyboard, leds, 7),
    STATE_FIELD(6, STATE_U8, struct ps2_keyboard, rate),
};
const struct state_table ps2_keyboard_table = {
    .name = "PS/2 keyboard", .fields = keyboard_fields, .nfields = ARRAY_LEN(keyboard_fields)};

static bool mouse_loaded(void *obj, uint16_t version, err *e)
{
    enum { FAR = 1 << 20 };
    struct ps2_mouse *m = obj;
    m->dx = clamp(m->dx, -FAR, FAR);
    m->dy = clamp(m->dy, -FAR, FAR);
    m->dz = clamp(m->dz, -FAR, FAR);
    return true;
}

static const struct state_field mouse_fields[] = {
    STATE_SUB(1, struct ps2_mouse, queue, &queue_table, 1),
    STATE_FIELD(2, STATE_BOOL, struct ps2_mouse, reporting),
    STATE_FIELD(3, STATE_BOOL, struct ps2_mouse, remote),
    STATE_FIELD(4, STATE_BOOL, struct ps2_mouse, scaling),
    STATE_FIELD(5, STATE_BOOL, struct ps2_mouse, wrap),
    STATE_FIELD(6, STATE_U8, struct ps2_mouse, command),
    STATE_FIELD(7, STATE_U8, struct ps2_mouse, rate),
    STATE_FIELD_MAX(8, STATE_U8, struct ps2_mouse, resolution, 3),
    STATE_FIELD_MAX(9, STATE_U8, struct ps2_mouse, type, 4),
    STATE_FIELD(10, STATE_BYTES, struct ps2_mouse, rates),
    STATE_FIELD(11, STATE_U32, struct ps2_mouse, dx),
    STATE_FIELD(12, STATE_U32, struct ps2_mouse, dy),
    STATE_FIELD(13, STATE_U32, struct ps2_mouse, dz),
    STATE_FIELD_MAX(14, STATE_U8, struct ps2_mouse, buttons, 31),
    STATE_FIELD_MAX(15, STATE_U8, struct ps2_mouse, told, 31),
};
const struct state_table ps2_mouse_table = {.name = "PS/2 mouse",
                                            .fields = mouse_fields,
                                            .nfields = ARRAY_LEN(mouse_fields),
                                            .post_load = mouse_loaded};
