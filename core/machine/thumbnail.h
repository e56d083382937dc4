/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A small picture of a machine's screen, as PNG (ISO 15948; deflate's stored blocks). Any thread.
 */
#ifndef VIREO_MACHINE_THUMBNAIL_H
#define VIREO_MACHINE_THUMBNAIL_H

#include "core/vsp/console.h"

enum { THUMBNAIL_WIDTH = 256, THUMBNAIL_HEIGHT = 192 };

/* malloc'ed; NULL where nothing is shown (e->code NONE) or on error. */
uint8_t *thumbnail_png(struct console *c, size_t *len, err *e);

#endif
