/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The synthetic mouse's messages (drivers/hid/hid-hyperv.c); each behind a pipe_header and a
 * pipe_message whose size is that of the body. Little-endian. */
#ifndef VIREO_VSP_SYNTHHID_PROTO_H
#define VIREO_VSP_SYNTHHID_PROTO_H

#include <stdint.h>

#include "core/vsp/pipe-proto.h"

#define SYNTHHID_CLASS GUID(0xcfa8b69e, 0x5b4a, 0x4cc0, 0xb98b, 0x8ba1a1f3f95a)
#define SYNTHHID_INSTANCE GUID(0x58f75a6d, 0xd949, 0x4320, 0x99e1, 0xa2a2576d581c)

enum { SYNTHHID_VERSION = 0x00020000 };
enum {
    SYNTHHID_REQUEST = 0,
    SYNTHHID_RESPONSE = 1,
    SYNTHHID_DEVICE_INFO = 2,
    SYNTHHID_DEVICE_INFO_ACK = 3,
    SYNTHHID_REPORT = 4,
};

struct synthhid_response {
    struct pipe_header pipe;
    struct pipe_message message;
    uint32_t version;
    uint8_t approved;
} __attribute__((packed));
_Static_assert(sizeof(struct synthhid_response) == 21, "wire size");

struct synthhid_attributes {
    uint32_t size;
    uint16_t vendor, product, version;
    uint16_t reserved[11];
};
_Static_assert(sizeof(struct synthhid_attributes) == 32, "wire size");

/* HID 1.11 section 6.2.1. */
struct synthhid_descriptor {
    uint8_t length;
    uint8_t type; /* 0x21 */
    uint16_t bcd;
    uint8_t country;
    uint8_t count;
    uint8_t report_type; /* 0x22 */
    uint16_t report_length;
} __attribute__((packed));
_Static_assert(sizeof(struct synthhid_descriptor) == 9, "wire size");

/* What our report descriptor describes. */
struct synthhid_report {
    uint8_t buttons; /* left, right, middle, back, forward */
    uint16_t x, y;   /* 0..32767 */
    int16_t wheel;
} __attribute__((packed));
_Static_assert(sizeof(struct synthhid_report) == 7, "wire size");

#endif
