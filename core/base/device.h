/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The life of a device, one way for all of them (chipset, VMBus, VSPs, switch ports):
 *
 *     new -> [restore] -> start <-> stop -> [save] -> ... -> destroy
 *                            \-> reset (while stopped)
 *
 * A device is made stopped and in its power-on state. While stopped it issues no I/O, fires no
 * timer, raises no interrupt and touches no guest memory; what was in flight has been drained or is
 * part of its state. Nothing but start may assume that the processors run. start    the machine
 * (re)starts: arm timers, re-evaluate interrupt lines, look at rings again. stop     begin to
 * become quiet; call done(ctx) once, at once or later, on the I/O thread. reset    power-on state,
 * as at new; configuration and media stay. save     write sections (core/base/state.h). Cannot fail
 * for lack of anything but memory. restore  read sections as hostile input into a device in
 * power-on state. On false the machine is thrown away. destroy  frees; the device is stopped.
 * Thread: all on the I/O thread, the processors paused (but for start, which precedes them).
 */
#ifndef VIREO_BASE_DEVICE_H
#define VIREO_BASE_DEVICE_H

#include "core/base/err.h"
#include "core/base/state.h"

struct device_ops {
    const char *name; /* "serial port" */
    void (*start)(void *self);
    void (*stop)(void *self, void (*done)(void *ctx), void *ctx);
    void (*reset)(void *self);
    void (*save)(void *self, struct state_writer *w);
    bool (*restore)(void *self, const struct state_reader *r, err *e);
    void (*destroy)(void *self);
};

struct device {
    const struct device_ops *ops;
    void *self;
};

#endif
