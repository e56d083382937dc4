/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is plugged into the keyboard controller: a keyboard (scan code sets 1 and 2) and a mouse
 * with wheel and five buttons, as queues of bytes towards the controller. Pure; the controller
 * locks.
 */
#ifndef VIREO_CHIPSET_PS2_H
#define VIREO_CHIPSET_PS2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/state.h"

enum { PS2_QUEUE = 64 };
struct ps2_queue {
    uint8_t byte[PS2_QUEUE];
    size_t n;
};
/* False if there is none. */
bool ps2_take(struct ps2_queue *q, uint8_t *out);

struct ps2_keyboard {
    struct ps2_queue queue;
    bool scanning;
    uint8_t set;     /* 1 or 2 */
    uint8_t command; /* waits for its argument; 0: none */
    uint8_t leds, rate;
};
void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);
/* qnum as in core/vsp/console.h. Dropped if the queue is full. */
void ps2_keyboard_key(struct ps2_keyboard *k, uint8_t qnum, bool down);

struct ps2_mouse {
    struct ps2_queue queue;
    bool reporting, remote, scaling, wrap;
    uint8_t command;                /* waits for its argument */
    uint8_t rate, resolution, type; /* type: 0, 3 (wheel), 4 (and five buttons) */
    uint8_t rates[3];               /* the last that were set, for the wheel's magic */
    int32_t dx, dy, dz;             /* not reported yet */
    uint8_t buttons, told;
};
void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);
/* y grows upwards, z towards the user. Buttons: left, right, middle, back, forward. */
void ps2_mouse_move(struct ps2_mouse *m, int32_t dx, int32_t dy, int32_t dz, uint8_t buttons);
/* Puts packets for what happened into the queue, as far as there is room. */
void ps2_mouse_report(struct ps2_mouse *m);

/* Set 2 to set 1, as the controller translates; 0xf0 (release) is the controller's to handle. */
uint8_t ps2_translate(uint8_t set2);

extern const struct state_table ps2_keyboard_table, ps2_mouse_table;

#endif
