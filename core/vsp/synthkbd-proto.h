/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The synthetic keyboard's messages (drivers/input/serio/hyperv-keyboard.c). Little-endian. */
#ifndef VIREO_VSP_SYNTHKBD_PROTO_H
#define VIREO_VSP_SYNTHKBD_PROTO_H

#include <stdint.h>

#define SYNTHKBD_CLASS GUID(0xf912ad6d, 0x2b17, 0x48ea, 0xbd65, 0xf927a61c7684)
#define SYNTHKBD_INSTANCE GUID(0xd34b2567, 0xb9b6, 0x42b9, 0x8778, 0x0a4ec0b955bf)

enum { SYNTHKBD_VERSION = 0x00010000 };
enum {
    SYNTHKBD_REQUEST = 1,
    SYNTHKBD_RESPONSE = 2,
    SYNTHKBD_EVENT = 3,
    SYNTHKBD_LEDS = 4,
};
enum { SYNTHKBD_UNICODE = 1, SYNTHKBD_BREAK = 2, SYNTHKBD_E0 = 4, SYNTHKBD_E1 = 8 };

struct synthkbd_request {
    uint32_t type;
    uint32_t version;
};
struct synthkbd_response {
    uint32_t type;
    uint32_t accepted; /* bit 0 */
};
struct synthkbd_event {
    uint32_t type;
    uint16_t make_code;
    uint16_t reserved;
    uint32_t info;
};
struct synthkbd_leds {
    uint32_t type;
    uint16_t flags; /* 1 scroll, 2 num, 4 caps */
    uint16_t reserved;
};
_Static_assert(sizeof(struct synthkbd_request) == 8, "wire size");
_Static_assert(sizeof(struct synthkbd_response) == 8, "wire size");
_Static_assert(sizeof(struct synthkbd_event) == 12, "wire size");
_Static_assert(sizeof(struct synthkbd_leds) == 8, "wire size");

#endif
