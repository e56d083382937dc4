/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The screen's size in a Wayland session whose compositor has wlr-output-management-unstable-v1:
 * the nearest mode that the first screen lists, or where it lists none the size itself. */
#ifndef VIREO_GUEST_OUTPUTS_H
#define VIREO_GUEST_OUTPUTS_H

#include <stdbool.h>
#include <stdint.h>
#include <wayland-client-protocol.h>

/* A global of the registry; true: it is ours. */
bool outputs_global(struct wl_registry *r, uint32_t name, const char *interface);
bool outputs_there(void);
void outputs_resize(unsigned width, unsigned height);
void outputs_end(void);

/* Which of n sizes (width, height) is nearest: the largest of those that fit, else the smallest. */
unsigned outputs_nearest(const int32_t (*sizes)[2], unsigned n, unsigned width, unsigned height);

#endif
