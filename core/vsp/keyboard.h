/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The synthetic keyboard: keys of the console become PC set-1 make codes for the guest. Keys
 * pressed while no driver listens are lost, as on hardware. Thread: the I/O loop's.
 */
#ifndef VIREO_VSP_KEYBOARD_H
#define VIREO_VSP_KEYBOARD_H

#include "core/base/device.h"
#include "core/base/err.h"
#include "core/vmbus/vmbus.h"
#include "core/vsp/console.h"

struct keyboard;

struct keyboard *keyboard_new(struct vmbus *bus, struct console *console, err *e);
/* destroy frees it and takes its offer away. */
struct device keyboard_as_device(struct keyboard *k);

#endif
