/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Keyboard and pointer of SPICE clients: all of them share one of each. */
#include "session/remote/spice-int.h"

/* PC set-1 codes as bytes: E0 before some keys, E1 1D 45 for Pause; bit 7 of the last: released. */
enum {
    EXTENDED = 0xe0,
    PAUSE = 0xe1,
    RELEASED = 0x80,
    QNUM_PAUSE = 0xc6,
    PAUSE_BYTES = 2,
    BUTTONS = 5
};

/* The instances come first: spice-server hands them back, and keeps their `st` for itself. */
struct keyboard {
    SpiceKbdInstance instance;
    struct console *console;
    gboolean view_only, extended;
    unsigned pause; /* bytes of Pause that are still to come */
};

struct tablet {
    SpiceTabletInstance instance;
    struct console *console;
    gboolean view_only;
    uint32_t buttons;
};

/* For clients that send movements ("server mode"); buttons are the tablet's. */
struct mouse {
    SpiceMouseInstance instance;
    struct tablet *tablet;
};

struct spice_input {
    struct keyboard keyboard;
    struct tablet tablet;
    struct mouse mouse;
};

static void push(SpiceKbdInstance *sin, uint8_t byte)
{
    struct keyboard *st = (struct keyboard *)sin;
    if (st->pause) {
        if (--st->pause == 0 && !st->view_only)
            console_key(st->console, QNUM_PAUSE, !(byte & RELEASED));
    } else if (byte == PAUSE) {
        st->pause = PAUSE_BYTES;
    } else if (byte == EXTENDED) {
        st->extended = TRUE;
    } else {
        uint8_t qnum = (uint8_t)((byte & 0x7f) | (st->extended ? 0x80 : 0));
        st->extended = FALSE;
        if (!st->view_only && qnum)
            console_key(st->console, qnum, !(byte & RELEASED));
    }
}

/* The console numbers the lamps as SPICE does. */
static uint8_t get_leds(SpiceKbdInstance *sin)
{
    return (uint8_t)(console_leds(((struct keyboard *)sin)->console) &
                     SPICE_KEYBOARD_MODIFIER_FLAGS_MASK);
}

static const SpiceKbdInterface keyboard_interface = {
    .base = {SPICE_INTERFACE_KEYBOARD, "vireo keyboard", SPICE_INTERFACE_KEYBOARD_MAJOR,
             SPICE_INTERFACE_KEYBOARD_MINOR},
    .push_scan_freg = push,
    .get_leds = get_leds,
};

static void set_buttons(struct tablet *st, uint32_t state)
{
    static const struct {
        uint32_t mask;
        unsigned button;
    } map[BUTTONS] = {{SPICE_MOUSE_BUTTON_MASK_LEFT, 0},
                      {SPICE_MOUSE_BUTTON_MASK_RIGHT, 1},
                      {SPICE_MOUSE_BUTTON_MASK_MIDDLE, 2},
                      {SPICE_MOUSE_BUTTON_MASK_SIDE, 3},
                      {SPICE_MOUSE_BUTTON_MASK_EXTRA, 4}};
    for (int i = 0; i < BUTTONS && !st->view_only; i++)
        if ((state ^ st->buttons) & map[i].mask)
            console_button(st->console, map[i].button, state & map[i].mask);
    st->buttons = state;
}

/* Positions come in the screen's pixels. */
static void set_logical_size(SpiceTabletInstance *sin, int width, int height)
{
}

static void position(SpiceTabletInstance *sin, int x, int y, uint32_t buttons)
{
    struct tablet *st = (struct tablet *)sin;
    if (!st->view_only)
        console_move_pixels(st->console, (uint32_t)MAX(x, 0), (uint32_t)MAX(y, 0));
    set_buttons(st, buttons);
}

static void wheel(SpiceTabletInstance *sin, int motion, uint32_t buttons)
{
    struct tablet *st = (struct tablet *)sin;
    if (!st->view_only)
        console_wheel(st->console, -motion);
    set_buttons(st, buttons);
}

static void buttons_only(SpiceTabletInstance *sin, uint32_t buttons)
{
    set_buttons((struct tablet *)sin, buttons);
}

static const SpiceTabletInterface tablet_interface = {
    .base = {SPICE_INTERFACE_TABLET, "vireo tablet", SPICE_INTERFACE_TABLET_MAJOR,
             SPICE_INTERFACE_TABLET_MINOR},
    .set_logical_size = set_logical_size,
    .position = position,
    .wheel = wheel,
    .buttons = buttons_only,
};

static void motion(SpiceMouseInstance *sin, int dx, int dy, int dz, uint32_t buttons)
{
    struct tablet *st = ((struct mouse *)sin)->tablet;
    if (!st->view_only && (dx || dy))
        console_move_by(st->console, dx, dy);
    if (!st->view_only && dz)
        console_wheel(st->console, -dz);
    set_buttons(st, buttons);
}

static void mouse_buttons(SpiceMouseInstance *sin, uint32_t buttons)
{
    set_buttons(((struct mouse *)sin)->tablet, buttons);
}

static const SpiceMouseInterface mouse_interface = {
    .base = {SPICE_INTERFACE_MOUSE, "vireo mouse", SPICE_INTERFACE_MOUSE_MAJOR,
             SPICE_INTERFACE_MOUSE_MINOR},
    .motion = motion,
    .buttons = mouse_buttons,
};

struct spice_input *spice_input_new(SpiceServer *server, struct console *console)
{
    struct spice_input *i = g_new0(struct spice_input, 1);
    i->keyboard.console = i->tablet.console = console;
    i->keyboard.instance.base.sif = &keyboard_interface.base;
    i->tablet.instance.base.sif = &tablet_interface.base;
    spice_server_add_interface(server, &i->keyboard.instance.base);
    i->mouse.tablet = &i->tablet;
    i->mouse.instance.base.sif = &mouse_interface.base;
    spice_server_add_interface(server, &i->tablet.instance.base);
    spice_server_add_interface(server, &i->mouse.instance.base);
    return i;
}

void spice_input_set_view_only(struct spice_input *i, gboolean on)
{
    i->keyboard.view_only = i->tablet.view_only = on;
    if (on)
        console_keys_up(i->keyboard.console);
}

void spice_input_free(struct spice_input *i)
{
    set_buttons(&i->tablet, 0);
    console_keys_up(i->keyboard.console);
    g_free(i);
}
