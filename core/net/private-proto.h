/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What goes before each frame between the ports of a private switch. Host byte order: all members
 * run on one host. Vireo's own. */
#ifndef VIREO_NET_PRIVATE_PROTO_H
#define VIREO_NET_PRIVATE_PROTO_H

#include <stdint.h>

#define PRIVATE_MAGIC 0x57535056u /* "VPSW" */
#define PRIVATE_VERSION 1u

struct private_header {
    uint32_t magic;
    uint8_t version;
    uint8_t flags; /* enum net_packet_flags */
    uint16_t mss;
    uint8_t tagged;
    uint8_t reserved;
    uint16_t vlan_tci;
    uint32_t reserved2;
    uint64_t sender; /* the number in the sender's socket's name */
};
_Static_assert(sizeof(struct private_header) == 24, "wire size");

#endif
