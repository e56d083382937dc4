/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A remote viewer's own copy of the machine's screen, in BGRx. Encoders look at pixels more than
 * once; a guest that changes them meanwhile must not confuse them, so they see this copy, never the
 * guest's memory. Thread: one at a time.
 */
#ifndef VIREO_SESSION_REMOTE_FRAME_H
#define VIREO_SESSION_REMOTE_FRAME_H

#include "core/vsp/console.h"

#include <glib.h>

struct frame {
    uint8_t *pixels; /* NULL: nothing is shown, or no memory for it */
    uint32_t width, height, stride;
    /* the guest's */
    uint8_t *shown;
    size_t shown_bytes;
    struct console_surface surface;
};

/* What console_take gave: maps a new surface and copies what changed. Returns whether the size or
 * the presence of the screen changed; then `pixels` may be elsewhere. What changed is in u->rects
 * (all of it for a new surface). */
gboolean frame_update(struct frame *f, struct console_update *u);
void frame_clear(struct frame *f);

#endif
