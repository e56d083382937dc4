/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The message pipe that mouse, video and integration services speak through. Little-endian. */
#ifndef VIREO_VSP_PIPE_PROTO_H
#define VIREO_VSP_PIPE_PROTO_H

#include <stdint.h>

enum { PIPE_DATA = 1 };

struct pipe_header {
    uint32_t type;
    uint32_t size; /* bytes that follow */
};
/* Behind it in the mouse's and video's messages; their sizes differ, see there. */
struct pipe_message {
    uint32_t type;
    uint32_t size;
};
_Static_assert(sizeof(struct pipe_header) == 8, "wire size");
_Static_assert(sizeof(struct pipe_message) == 8, "wire size");

#endif
