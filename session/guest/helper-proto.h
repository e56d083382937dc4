/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between vireo-agent and its helpers in a user's session, over a Unix socket of packets: both of
 * one machine, so in its byte order. Hostile to vireo-agent. */
#ifndef VIREO_GUEST_HELPER_PROTO_H
#define VIREO_GUEST_HELPER_PROTO_H

#include <stdint.h>

enum helper_type {
    HELPER_SERVICES = 1, /* helper: value is bits 1 << enum agent_service */
    HELPER_STREAM = 2,   /* agent: a stream for the service `value` comes as a descriptor */
    HELPER_STOP = 3,     /* agent: ends the stream of the service, 0: all */
};

struct helper_message {
    uint32_t type, value;
};
_Static_assert(sizeof(struct helper_message) == 8, "wire");

#endif
