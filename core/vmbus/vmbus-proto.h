/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * VMBus on the wire: control messages (SynIC messages of at most 240 bytes), packet descriptors,
 * ring control pages. Little-endian; every struct is laid out without padding. Sources:
 * include/linux/hyperv.h and drivers/hv/hyperv_vmbus.h of Linux 6.1.
 */
#ifndef VIREO_VMBUS_VMBUS_PROTO_H
#define VIREO_VMBUS_VMBUS_PROTO_H

#include <stdint.h>

#include "core/base/guid.h"

enum vmbus_message_type {
    VMBUS_MSG_OFFER = 1,
    VMBUS_MSG_RESCIND = 2,
    VMBUS_MSG_REQUEST_OFFERS = 3,
    VMBUS_MSG_ALL_OFFERS_DELIVERED = 4,
    VMBUS_MSG_OPEN = 5,
    VMBUS_MSG_OPEN_RESULT = 6,
    VMBUS_MSG_CLOSE = 7,
    VMBUS_MSG_GPADL_HEADER = 8,
    VMBUS_MSG_GPADL_BODY = 9,
    VMBUS_MSG_GPADL_CREATED = 10,
    VMBUS_MSG_GPADL_TEARDOWN = 11,
    VMBUS_MSG_GPADL_TORNDOWN = 12,
    VMBUS_MSG_RELID_RELEASED = 13,
    VMBUS_MSG_INITIATE_CONTACT = 14,
    VMBUS_MSG_VERSION_RESPONSE = 15,
    VMBUS_MSG_UNLOAD = 16,
    VMBUS_MSG_UNLOAD_RESPONSE = 17,
    VMBUS_MSG_TL_CONNECT = 21,
    VMBUS_MSG_MODIFY_CHANNEL = 22,
    VMBUS_MSG_TL_RESULT = 23,
    VMBUS_MSG_MODIFY_CHANNEL_RESPONSE = 24,
};

enum { VMBUS_CONNECTION_MESSAGES = 1, VMBUS_CONNECTION_MESSAGES_5 = 4 };
enum { VMBUS_MESSAGE_MAX = 240 };

struct vmbus_msg_header {
    uint32_t type, zero;
};
struct vmbus_msg_offer {
    struct vmbus_msg_header h;
    struct guid class_id, instance;
    uint8_t reserved[16];
    uint16_t flags, mmio_mib;
    uint8_t user[120];
    uint16_t sub_index, mmio_optional;
    uint32_t relid;
    uint8_t monitor_id, monitor_allocated;
    uint16_t dedicated_interrupt;
    uint32_t connection;
};
struct vmbus_msg_relid { /* RESCIND, CLOSE, RELID_RELEASED */
    struct vmbus_msg_header h;
    uint32_t relid;
};
struct vmbus_msg_open {
    struct vmbus_msg_header h;
    uint32_t relid, open_id, gpadl, target_vp, out_page;
    uint8_t user[120];
};
struct vmbus_msg_open_result {
    struct vmbus_msg_header h;
    uint32_t relid, open_id, status;
};
struct vmbus_msg_gpadl_header {
    struct vmbus_msg_header h;
    uint32_t relid, gpadl;
    uint16_t range_bytes, range_count;
    uint32_t byte_count, byte_offset; /* the one range; its page numbers follow, unaligned */
};
struct vmbus_msg_gpadl_body {
    struct vmbus_msg_header h;
    uint32_t number, gpadl; /* page numbers follow */
};
struct vmbus_msg_gpadl_created {
    struct vmbus_msg_header h;
    uint32_t relid, gpadl, status;
};
struct vmbus_msg_gpadl_teardown {
    struct vmbus_msg_header h;
    uint32_t relid, gpadl;
};
struct vmbus_msg_gpadl_torndown {
    struct vmbus_msg_header h;
    uint32_t gpadl;
};
struct vmbus_msg_contact {
    struct vmbus_msg_header h;
    uint32_t version, target_vp;
    uint8_t sint, vtl; /* before 5.0: the low bytes of the interrupt page's address */
    uint8_t rest[6];
    uint64_t monitor_in, monitor_out;
};
struct vmbus_msg_version_response {
    struct vmbus_msg_header h;
    uint8_t supported, state;
    uint16_t zero;
    uint32_t connection;
};
struct vmbus_msg_tl_connect {
    struct vmbus_msg_header h;
    struct guid endpoint, service;
};
struct vmbus_msg_tl_result {
    struct vmbus_msg_header h;
    struct guid endpoint, service;
    uint32_t status;
};
struct vmbus_msg_modify {
    struct vmbus_msg_header h;
    uint32_t relid, target_vp;
};
struct vmbus_msg_modify_response {
    struct vmbus_msg_header h;
    uint32_t relid, status;
};

_Static_assert(sizeof(struct vmbus_msg_offer) == 196, "OFFERCHANNEL");
_Static_assert(sizeof(struct vmbus_msg_open) == 148, "OPENCHANNEL");
_Static_assert(sizeof(struct vmbus_msg_open_result) == 20, "OPENCHANNEL_RESULT");
_Static_assert(sizeof(struct vmbus_msg_gpadl_header) == 28, "GPADL_HEADER");
_Static_assert(sizeof(struct vmbus_msg_gpadl_body) == 16, "GPADL_BODY");
_Static_assert(sizeof(struct vmbus_msg_contact) == 40, "INITIATE_CONTACT");
_Static_assert(sizeof(struct vmbus_msg_version_response) == 16, "VERSION_RESPONSE");
_Static_assert(sizeof(struct vmbus_msg_tl_connect) == 40, "TL_CONNECT_REQUEST");
_Static_assert(sizeof(struct vmbus_msg_tl_result) == 44, "TL_CONNECT_RESULT");
_Static_assert(sizeof(struct vmbus_msg_modify) == 16, "MODIFYCHANNEL");

enum { VMBUS_GPADL_HEADER_PFNS = 26, VMBUS_GPADL_BODY_PFNS = 28 };

/* NTSTATUS values in *_status fields. */
enum {
    VMBUS_STATUS_OK = 0,
    VMBUS_STATUS_UNSUCCESSFUL = 0xC0000001,
    VMBUS_STATUS_INVALID_PARAMETER = 0xC000000D,
    VMBUS_STATUS_NO_MEMORY = 0xC0000017,
    VMBUS_STATUS_CONNECTION_REFUSED = 0xC0000236,
};

/* ---- rings ---- */

struct vmbus_descriptor {
    uint16_t type, offset8, len8, flags;
    uint64_t transaction_id;
};
enum { VMBUS_FLAG_COMPLETION = 1 };

struct vmbus_transfer_header { /* after the descriptor of type 7 */
    uint16_t pageset;
    uint8_t sender_owns_set, zero;
    uint32_t range_count;
};
struct vmbus_gpa_header { /* after the descriptor of type 9 */
    uint32_t zero, range_count;
};
_Static_assert(sizeof(struct vmbus_descriptor) == 16, "packet descriptor");
_Static_assert(sizeof(struct vmbus_transfer_header) == 8, "transfer pages header");

/* Control page: indices in bytes. */
struct vmbus_ring_control {
    uint32_t write_index, read_index, interrupt_mask, pending_send_size;
    uint32_t reserved[12];
    uint32_t feature_bits;
    uint8_t rest[4096 - 68];
};
enum { VMBUS_RING_FEATURE_PENDING_SEND = 1 };
_Static_assert(sizeof(struct vmbus_ring_control) == 4096, "ring control page");

#endif
