/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The console of a machine, whatever draws on it (synthetic video, the boot framebuffer, an
 * emulated VGA) and whoever looks (windows, SPICE, VNC, screenshots): the surface now shown, what
 * of it changed, the guest's pointer; and the way in for keys and pointer movements.
 *
 * A surface is a memfd that the guest draws into. Viewers map it read-only and are told rectangles;
 * nothing is copied on the way. What one viewer has not yet taken is joined, so that a slow one
 * costs nothing but its own frames.
 *
 * Thread: sources (console_source_*) and console_set_input on the I/O loop's thread; viewers'
 * functions from any thread. `wake` is called on the I/O thread and must only post.
 */
#ifndef VIREO_VSP_CONSOLE_H
#define VIREO_VSP_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/loop.h"

struct console;
struct console_listener;

enum console_format {
    CONSOLE_XRGB8888, /* in memory B, G, R, x */
    CONSOLE_RGB565,
};

enum {
    CONSOLE_MAX_WIDTH = 7680,
    CONSOLE_MAX_HEIGHT = 4320,
    CONSOLE_MAX_POINTER = 96, /* pixels each way */
    CONSOLE_RECTS = 16,
    CONSOLE_MAX_ABS = 32767,
};

struct console_surface {
    int fd; /* memfd, sealed against shrinking; -1: nothing is shown */
    uint64_t offset;
    uint32_t width, height, stride;
    enum console_format format;
};

struct console_rect {
    uint32_t x, y, width, height; /* within the surface, not empty */
};

/* The guest's pointer. Not visible: the guest draws its own, or shows none. */
struct console_pointer {
    bool visible;
    int32_t x, y;
};
struct console_shape {
    uint32_t width, height, hot_x, hot_y; /* 0 x 0: none was set */
    const uint8_t *argb; /* width * height * 4 bytes B, G, R, A, not premultiplied */
};

enum console_changes {
    CONSOLE_SURFACE_CHANGED = 1, /* all of it is dirty too */
    CONSOLE_DIRTY = 2,
    CONSOLE_POINTER_MOVED = 4,
    CONSOLE_SHAPE_CHANGED = 8,
};

/* ---- for viewers ---- */

struct console_update {
    unsigned changes; /* enum console_changes */
    struct console_surface
        surface; /* as it is now; fd: the taker's own if SURFACE_CHANGED, else -1 */
    struct console_rect rects[CONSOLE_RECTS];
    unsigned nrects;
    struct console_pointer pointer;
    struct console_shape shape; /* argb: malloc'ed, the taker's, if SHAPE_CHANGED */
};

/* The first update has everything. NULL: no memory. */
struct console_listener *console_listen(struct console *c, void (*wake)(void *ctx), void *ctx);
/* When it returns, wake is not running and will not be called. */
void console_unlisten(struct console_listener *l);
/* What changed since the last time; false if nothing did. Call until then, after each wake. */
bool console_take(struct console_listener *l, struct console_update *out);
void console_update_clear(struct console_update *u); /* closes and frees what the taker owns */

/* The surface now (fd: the caller's own, -1: none). For screenshots. */
void console_surface_now(struct console *c, struct console_surface *out);

/* Keys by "qnum": PC set-1 make code, bit 7 for those with prefix E0; 0xc6 is Pause. */
void console_key(struct console *c, uint8_t qnum, bool down);
/* Lets go of every key that is down (the viewer lost the focus). */
void console_keys_up(struct console *c);
/* Position 0..CONSOLE_MAX_ABS over the surface's width and height. */
void console_move(struct console *c, uint32_t x, uint32_t y);
void console_move_pixels(struct console *c, uint32_t x, uint32_t y);
/* By pixels from where the pointer is (where it was last sent): for viewers that know movements
 * only. */
void console_move_by(struct console *c, int dx, int dy);
/* 0 left, 1 right, 2 middle, 3 back, 4 forward */
void console_button(struct console *c, unsigned button, bool down);
void console_wheel(struct console *c, int steps); /* away from the user: positive */
/* 1 scroll, 2 num, 4 caps lock, as the guest last said; guests may never say. */
unsigned console_leds(struct console *c);
/* Calls to console_key and others so far; for tests and the live view. */
bool console_has_keyboard(struct console *c);
bool console_has_pointer(struct console *c);

/* ---- for the machine and its devices ---- */

struct console *console_new(struct loop *loop, err *e);
void console_free(struct console *c); /* listeners are gone */

struct console_input_ops {
    void (*key)(void *ctx, uint8_t qnum, bool down);
    void (*pointer)(void *ctx, uint32_t x, uint32_t y, uint32_t buttons, int wheel);
};
/* A device that takes keys, or pointer events, or both (NULL members); the last one set gets them.
 * Calls come on the I/O thread. console_drop_input takes it away. */
bool console_set_input(struct console *c, const struct console_input_ops *ops, void *ctx);
void console_drop_input(struct console *c, void *ctx);
/* Lets the device come before all others, or after them: one whose driver is there, or is not. */
void console_prefer_input(struct console *c, const void *ctx, bool first);
void console_set_leds(struct console *c, unsigned leds);

/*
 * What is shown. Duplicates the descriptor. `pixels`: the source's own mapping of the surface if it
 * does not report what changes (a plain framebuffer): then the console compares while anyone looks;
 * it stays mapped until the next call. NULL: console_source_dirty is called.
 */
void console_source_show(struct console *c, const struct console_surface *s, const void *pixels);
void console_source_dirty(struct console *c, int64_t x1, int64_t y1, int64_t x2, int64_t y2);
void console_source_pointer(struct console *c, const struct console_pointer *p);
/* Copies; width and height at most CONSOLE_MAX_POINTER. */
void console_source_shape(struct console *c, const struct console_shape *s);
/* Told on the I/O thread whether anyone looks, at once and when that changes. */
void console_source_watch(struct console *c, void (*fn)(void *ctx, bool looked_at), void *ctx);

#endif
