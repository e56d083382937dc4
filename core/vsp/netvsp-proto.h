/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Network VSP messages (drivers/net/hyperv/hyperv_net.h), versions to 6.1. Every message is 40
 * bytes toward the guest. Little-endian. */
#ifndef VIREO_VSP_NETVSP_PROTO_H
#define VIREO_VSP_NETVSP_PROTO_H

#include <stdint.h>

#define NETVSP_CLASS GUID(0xf8615163, 0xdf3e, 0x46c5, 0x913f, 0xf2d2f965ed0e)

enum {
    NVSP_1_0 = 0x00002,
    NVSP_2_0 = 0x30002,
    NVSP_4_0 = 0x40000,
    NVSP_5_0 = 0x50000,
    NVSP_6_0 = 0x60000,
    NVSP_6_1 = 0x60001,
};
enum nvsp_type {
    NVSP_INIT = 1,
    NVSP_INIT_COMPLETE = 2,
    NVSP_NDIS_VERSION = 100,
    NVSP_RECV_BUF = 101,
    NVSP_RECV_BUF_COMPLETE = 102,
    NVSP_REVOKE_RECV_BUF = 103,
    NVSP_SEND_BUF = 104,
    NVSP_SEND_BUF_COMPLETE = 105,
    NVSP_REVOKE_SEND_BUF = 106,
    NVSP_RNDIS = 107,
    NVSP_RNDIS_COMPLETE = 108,
    NVSP_NDIS_CONFIG = 125,
    NVSP_SWITCH_DATA_PATH = 129,
    NVSP_SUBCHANNEL = 133,
    NVSP_INDIRECTION_TABLE = 134,
};
enum nvsp_status {
    NVSP_OK = 1,
    NVSP_FAIL = 2,
    NVSP_TOO_NEW = 3,
    NVSP_TOO_OLD = 4,
    NVSP_INVALID_RNDIS = 5,
    NVSP_BUSY = 6,
    NVSP_UNSUPPORTED = 7,
};
enum { NVSP_DATA = 0, NVSP_CONTROL = 1 };
enum { NVSP_RECV_PAGESET = 0xcafe, NVSP_SUBCHANNEL_ALLOCATE = 1 };
#define NVSP_NO_SECTION 0xffffffffu

enum { NVSP_MESSAGE_BYTES = 40 };

struct nvsp_message {
    uint32_t type;
    union {
        struct {
            uint32_t min, max;
        } init;
        struct {
            uint32_t version, max_mdl, status;
        } init_complete;
        struct {
            uint32_t mtu, reserved; /* mtu: with the Ethernet header */
            uint64_t capabilities;
        } __attribute__((packed)) ndis_config;
        struct {
            uint32_t gpadl;
            uint16_t id;
        } buf;
        struct {
            uint32_t status, sections, offset, size, count, end;
        } recv_complete;
        struct {
            uint32_t status, section_size;
        } send_complete;
        struct {
            uint32_t channel, section, bytes;
        } rndis;
        struct {
            uint32_t status;
        } rndis_complete;
        struct {
            uint32_t op_or_status, count;
        } subchannel;
        uint8_t bytes[NVSP_MESSAGE_BYTES - 4];
    };
} __attribute__((packed));
_Static_assert(sizeof(struct nvsp_message) == NVSP_MESSAGE_BYTES, "wire size");

#endif
