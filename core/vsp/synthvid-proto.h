/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Synthetic video's messages (drivers/gpu/drm/hyperv); each behind a pipe_header and a
 * pipe_message. A guest's inner size counts the inner header, ours the body alone; guests look at
 * neither. Little-endian. */
#ifndef VIREO_VSP_SYNTHVID_PROTO_H
#define VIREO_VSP_SYNTHVID_PROTO_H

#include <stdint.h>

#include "core/vsp/pipe-proto.h"

#define SYNTHVID_CLASS GUID(0xda0a7802, 0xe377, 0x4aac, 0x8e77, 0x0558eb1073f8)
#define SYNTHVID_INSTANCE GUID(0x5620e0c7, 0x8062, 0x4dce, 0xaeb7, 0x520c7ef76171)

enum {
    SYNTHVID_3_0 = 0x00000003,
    SYNTHVID_3_2 = 0x00020003,
    SYNTHVID_3_5 = 0x00050003,
};
enum {
    SYNTHVID_VERSION_REQUEST = 1,
    SYNTHVID_VERSION_RESPONSE = 2,
    SYNTHVID_VRAM_LOCATION = 3,
    SYNTHVID_VRAM_LOCATION_ACK = 4,
    SYNTHVID_SITUATION = 5,
    SYNTHVID_SITUATION_ACK = 6,
    SYNTHVID_POINTER_POSITION = 7,
    SYNTHVID_POINTER_SHAPE = 8,
    SYNTHVID_FEATURES = 9,
    SYNTHVID_DIRT = 10,
    SYNTHVID_RESOLUTIONS_REQUEST = 13,
    SYNTHVID_RESOLUTIONS = 14,
    SYNTHVID_CAPABILITY_REQUEST = 15,
    SYNTHVID_CAPABILITY = 16,
};
enum {
    SYNTHVID_MAX_RESOLUTIONS = 64,
    SYNTHVID_EDID = 128,
    SYNTHVID_SHAPE_COMPLETE = 0xff,
};

struct synthvid_version_request {
    uint32_t version;
};
struct synthvid_version_response {
    uint32_t version;
    uint8_t accepted;
    uint8_t max_outputs;
} __attribute__((packed));
_Static_assert(sizeof(struct synthvid_version_response) == 6, "wire size");

struct synthvid_vram_location {
    uint64_t user_ctx;
    uint8_t specified;
    uint64_t gpa;
} __attribute__((packed));
_Static_assert(sizeof(struct synthvid_vram_location) == 17, "wire size");

struct synthvid_ack {
    uint64_t user_ctx;
};

struct synthvid_situation {
    uint64_t user_ctx;
    uint8_t count; /* of outputs; the first follows */
    uint8_t active;
    uint32_t offset;
    uint8_t depth; /* bits */
    uint32_t width, height, pitch;
} __attribute__((packed));
_Static_assert(sizeof(struct synthvid_situation) == 27, "wire size");

struct synthvid_pointer_position {
    uint8_t visible, output;
    int32_t x, y;
} __attribute__((packed));
_Static_assert(sizeof(struct synthvid_pointer_position) == 10, "wire size");

struct synthvid_pointer_shape {
    uint8_t part; /* 0, 1, ...; SYNTHVID_SHAPE_COMPLETE with the last or only one */
    uint8_t argb;
    uint32_t width, height, hot_x, hot_y;
} __attribute__((packed)); /* pixels follow */
_Static_assert(sizeof(struct synthvid_pointer_shape) == 18, "wire size");

struct synthvid_features {
    uint8_t dirt, pointer_position, pointer_shape, situation;
};
_Static_assert(sizeof(struct synthvid_features) == 4, "wire size");

struct synthvid_dirt {
    uint8_t output, count;
} __attribute__((packed)); /* synthvid_rect[count] follow */
struct synthvid_rect {
    int32_t x1, y1, x2, y2; /* x2, y2 exclusive */
};
_Static_assert(sizeof(struct synthvid_dirt) == 2, "wire size");
_Static_assert(sizeof(struct synthvid_rect) == 16, "wire size");

struct synthvid_resolutions {
    uint8_t edid[SYNTHVID_EDID];
    uint8_t count, preferred, standard;
} __attribute__((packed)); /* {u16 width, u16 height}[count] follow */
_Static_assert(sizeof(struct synthvid_resolutions) == 131, "wire size");

#endif
