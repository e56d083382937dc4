/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The synthetic mouse: an absolute pointer with five buttons and a wheel, as a HID device.
 * Movements that the guest has not taken yet are joined; buttons and wheel steps are kept in order.
 * Thread: the I/O loop's.
 */
#ifndef VIREO_VSP_MOUSE_H
#define VIREO_VSP_MOUSE_H

#include "core/base/device.h"
#include "core/base/err.h"
#include "core/vmbus/vmbus.h"
#include "core/vsp/console.h"

struct mouse;

struct mouse *mouse_new(struct vmbus *bus, struct console *console, err *e);
/* destroy frees it and takes its offer away. */
struct device mouse_as_device(struct mouse *m);

#endif
