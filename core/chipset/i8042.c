/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/i8042.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"
#include "core/chipset/ps2.h"

enum { ST_FULL = 1, ST_SYSTEM = 4, ST_COMMAND = 8, ST_UNLOCKED = 0x10, ST_MOUSE = 0x20 };
enum {
    MODE_KEYBOARD_IRQ = 1,
    MODE_MOUSE_IRQ = 2,
    MODE_SYSTEM = 4,
    MODE_KEYBOARD_OFF = 0x10,
    MODE_MOUSE_OFF = 0x20,
    MODE_TRANSLATE = 0x40,
};
enum { OUTPUT_RESET = 1, OUTPUT_A20 = 2, RAM = 32, RANGES = 2, TRANSLATED_RELEASE = 0xf0 };
enum { PIXELS_WIDE = 1024, PIXELS_HIGH = 768 };

struct i8042 {
    struct i8042_params p;
    struct hv_io_range *ranges[RANGES];
    uint32_t x, y; /* I/O thread: where the pointer was */
    bool placed;

    pthread_mutex_t lock; /* all below */
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    uint8_t mode, output_port;
    uint8_t command;          /* waits for its data byte; 0: none */
    uint8_t ram[RAM];         /* [0] unused: it is `mode` */
    struct ps2_queue answers; /* of the controller itself */
    uint8_t out;              /* the output buffer */
    bool full, from_mouse, was_command;
    bool release; /* set 2's F0 was taken: the next code is a release */
};

/* ---- the output buffer ---- */

static void update_lines(struct i8042 *k)
{
    chip_line_set(&k->p.keyboard, k->full && !k->from_mouse && k->mode & MODE_KEYBOARD_IRQ);
    chip_line_set(&k->p.mouse, k->full && k->from_mouse && k->mode & MODE_MOUSE_IRQ);
}

/* The next byte of the keyboard as the guest sees it; false if there is none (any more). */
static bool keyboard_byte(struct i8042 *k, uint8_t *out)
{
    while (ps2_take(&k->keyboard.queue, out)) {
        if (!(k->mode & MODE_TRANSLATE) || k->keyboard.set == 1)
            return true;
        if (*out == TRANSLATED_RELEASE) {
            k->release = true;
            continue;
        }
        if (*out < 0x84)
            *out = (uint8_t)(ps2_translate(*out) | (k->release ? 0x80 : 0));
        if (*out != 0xe0 && *out != 0xe1)
            k->release = false;
        return true;
    }
    return false;
}

static void fill(struct i8042 *k)
{
    if (!k->full) {
        k->from_mouse = false;
        if (ps2_take(&k->answers, &k->out))
            k->full = true;
        else if (!(k->mode & MODE_KEYBOARD_OFF) && keyboard_byte(k, &k->out))
            k->full = true;
        else if (!(k->mode & MODE_MOUSE_OFF) && ps2_take(&k->mouse.queue, &k->out))
            k->full = k->from_mouse = true;
    }
    update_lines(k);
}

static void answer(struct i8042 *k, uint8_t byte)
{
    if (k->answers.n < PS2_QUEUE)
        k->answers.byte[k->answers.n++] = byte;
}

/* ---- commands ---- */

static uint8_t output_port(const struct i8042 *k)
{
    bool a20 = !k->p.a20 || k->p.a20(k->p.ctx);
    return (uint8_t)((k->output_port & ~OUTPUT_A20) | OUTPUT_RESET | (a20 ? OUTPUT_A20 : 0));
}

static void set_a20(const struct i8042 *k, bool on)
{
    if (k->p.set_a20)
        k->p.set_a20(k->p.ctx, on);
}

static bool data_for_controller(struct i8042 *k, uint8_t byte)
{
    uint8_t command = k->command;
    k->command = 0;
    if (command == 0x60) {
        k->mode = byte & 0x7f;
    } else if (command > 0x60 && command < 0x80) {
        k->ram[command - 0x60] = byte;
    } else if (command == 0xd1) {
        k->output_port = byte;
        set_a20(k, byte & OUTPUT_A20);
        return !(byte & OUTPUT_RESET);
    } else if (command == 0xd2) {
        answer(k, byte);
    } else if (command == 0xd3) {
        if (k->mouse.queue.n < PS2_QUEUE)
            k->mouse.queue.byte[k->mouse.queue.n++] = byte;
    } else if (command == 0xd4) {
        ps2_mouse_write(&k->mouse, byte);
        k->mode &= (uint8_t)~MODE_MOUSE_OFF;
    }
    return false;
}

/* True: the guest wants a reset. */
static bool controller_command(struct i8042 *k, uint8_t byte)
{
    k->command = 0;
    if ((byte >= 0x60 && byte < 0x80) || (byte >= 0xd1 && byte <= 0xd4)) {
        k->command = byte;
        return false;
    }
    if (byte >= 0x20 && byte < 0x40) {
        answer(k, byte == 0x20 ? k->mode : k->ram[byte - 0x20]);
        return false;
    }
    switch (byte) {
    case 0xa7: k->mode |= MODE_MOUSE_OFF; break;
    case 0xa8: k->mode &= (uint8_t)~MODE_MOUSE_OFF; break;
    case 0xa9:
    case 0xab: answer(k, 0); break;
    case 0xaa: answer(k, 0x55); break;
    case 0xad: k->mode |= MODE_KEYBOARD_OFF; break;
    case 0xae: k->mode &= (uint8_t)~MODE_KEYBOARD_OFF; break;
    case 0xc0: answer(k, 0x80); break;
    case 0xd0: answer(k, output_port(k)); break;
    case 0xdd: set_a20(k, false); break;
    case 0xdf: set_a20(k, true); break;
    default: return byte >= 0xf0 && !(byte & 1); /* pulse of the reset line */
    }
    return false;
}

/* ---- ports ---- */

static uint64_t data_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8042 *k = ctx;
    pthread_mutex_lock(&k->lock);
    uint8_t v = k->out;
    k->full = false;
    ps2_mouse_report(&k->mouse);
    update_lines(k); /* down, then up again: an edge for the next byte */
    fill(k);
    pthread_mutex_unlock(&k->lock);
    return v;
}

static void data_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = ctx;
    bool reset = false;
    pthread_mutex_lock(&k->lock);
    k->was_command = false;
    if (k->command) {
        reset = data_for_controller(k, (uint8_t)value);
    } else {
        ps2_keyboard_write(&k->keyboard, (uint8_t)value);
        console_set_leds(k->p.console, k->keyboard.leds);
        k->mode &= (uint8_t)~MODE_KEYBOARD_OFF;
    }
    fill(k);
    pthread_mutex_unlock(&k->lock);
    if (reset)
        k->p.reset(k->p.ctx);
}

static uint64_t status_read(void *ctx, uint64_t offset, unsigned size)
{
    struct i8042 *k = ctx;
    pthread_mutex_lock(&k->lock);
    uint8_t v = (uint8_t)(ST_UNLOCKED | (k->mode & MODE_SYSTEM ? ST_SYSTEM : 0) |
                          (k->was_command ? ST_COMMAND : 0) |
                          (k->full ? ST_FULL | (k->from_mouse ? ST_MOUSE : 0) : 0));
    pthread_mutex_unlock(&k->lock);
    return v;
}

static void command_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *k = ctx;
    pthread_mutex_lock(&k->lock);
    k->was_command = true;
    bool reset = controller_command(k, (uint8_t)value);
    fill(k);
    pthread_mutex_unlock(&k->lock);
    if (reset)
        k->p.reset(k->p.ctx);
}

static const struct hv_io_ops data_ops = {
    .name = "keyboard controller", .read = data_read, .write = data_write};
static const struct hv_io_ops command_ops = {
    .name = "keyboard controller", .read = status_read, .write = command_write};

/* ---- the console; I/O thread ---- */

static void on_key(void *ctx, uint8_t qnum, bool down)
{
    struct i8042 *k = ctx;
    pthread_mutex_lock(&k->lock);
    ps2_keyboard_key(&k->keyboard, qnum, down);
    fill(k);
    pthread_mutex_unlock(&k->lock);
}

static int32_t pixels(uint32_t to, uint32_t from, int32_t size)
{
    return (int32_t)((int64_t)to * size / CONSOLE_MAX_ABS) -
           (int32_t)((int64_t)from * size / CONSOLE_MAX_ABS);
}

/* The console counts buttons as left, right, middle, as the mouse does. */
static void on_pointer(void *ctx, uint32_t x, uint32_t y, uint32_t buttons, int wheel)
{
    struct i8042 *k = ctx;
    int32_t dx = k->placed ? pixels(x, k->x, PIXELS_WIDE) : 0;
    int32_t dy = k->placed ? pixels(y, k->y, PIXELS_HIGH) : 0;
    k->x = x;
    k->y = y;
    k->placed = true;
    pthread_mutex_lock(&k->lock);
    ps2_mouse_move(&k->mouse, dx, -dy, -wheel, (uint8_t)buttons);
    fill(k);
    pthread_mutex_unlock(&k->lock);
}

static const struct console_input_ops input_ops = {.key = on_key, .pointer = on_pointer};

/* ---- life ---- */

static void start(void *self)
{
    struct i8042 *k = self;
    pthread_mutex_lock(&k->lock);
    fill(k);
    pthread_mutex_unlock(&k->lock);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    done(ctx);
}

static void power_on(struct i8042 *k)
{
    ps2_keyboard_reset(&k->keyboard);
    ps2_mouse_reset(&k->mouse);
    k->mode = MODE_SYSTEM | MODE_TRANSLATE | MODE_KEYBOARD_IRQ;
    k->output_port = OUTPUT_RESET | OUTPUT_A20;
    k->command = 0;
    memset(k->ram, 0, sizeof k->ram);
    k->answers.n = 0;
    k->full = k->from_mouse = k->was_command = k->release = false;
}

static void reset(void *self)
{
    struct i8042 *k = self;
    power_on(k);
    update_lines(k);
}

static const struct state_field fields[] = {
    STATE_SUB(1, struct i8042, keyboard, &ps2_keyboard_table, 1),
    STATE_SUB(2, struct i8042, mouse, &ps2_mouse_table, 1),
    STATE_FIELD_MAX(3, STATE_U8, struct i8042, mode, 0x7f),
    STATE_FIELD(4, STATE_U8, struct i8042, output_port),
    STATE_FIELD(5, STATE_U8, struct i8042, command),
    STATE_FIELD(6, STATE_BYTES, struct i8042, ram),
    STATE_VARBYTES(7, struct i8042, answers.byte, answers.n),
    STATE_FIELD(8, STATE_U8, struct i8042, out),
    STATE_FIELD(9, STATE_BOOL, struct i8042, full),
    STATE_FIELD(10, STATE_BOOL, struct i8042, from_mouse),
    STATE_FIELD(11, STATE_BOOL, struct i8042, was_command),
    STATE_FIELD(12, STATE_BOOL, struct i8042, release),
};
static const struct state_table table = {.name = "keyboard controller",
                                         .section = STATE_ID('8', '0', '4', '2'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

static void save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}
static bool restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

static void destroy(void *self)
{
    struct i8042 *k = self;
    console_drop_input(k->p.console, k);
    for (unsigned i = 0; i < RANGES; i++)
        if (k->ranges[i])
            hv_io_release(k->p.env->io, k->ranges[i]);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

struct i8042 *i8042_new(const struct i8042_params *p, err *e)
{
    struct i8042 *k = calloc(1, sizeof *k);
    if (!k) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the keyboard controller");
        return NULL;
    }
    k->p = *p;
    pthread_mutex_init(&k->lock, NULL);
    power_on(k);
    k->ranges[0] = hv_io_claim(p->env->io, HV_IO_PORT, LAYOUT_PORT_I8042_DATA, 1, &data_ops, k, e);
    if (k->ranges[0])
        k->ranges[1] =
            hv_io_claim(p->env->io, HV_IO_PORT, LAYOUT_PORT_I8042_COMMAND, 1, &command_ops, k, e);
    if (!k->ranges[1] || !console_set_input(p->console, &input_ops, k)) {
        destroy(k);
        return NULL;
    }
    return k;
}

struct device i8042_device(struct i8042 *k)
{
    static const struct device_ops ops = {.name = "keyboard controller",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = k};
}
