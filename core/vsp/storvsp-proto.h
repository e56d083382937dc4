/* SPDX-License-Identifier: GPL-3.0-or-later */
/* storvsc's packets: 64 bytes both ways. Source: drivers/scsi/storvsc_drv.c of Linux 6.1. */
#ifndef VIREO_VSP_STORVSP_PROTO_H
#define VIREO_VSP_STORVSP_PROTO_H

#include <stdint.h>

enum vstor_op {
    VSTOR_COMPLETE_IO = 1,
    VSTOR_REMOVE_DEVICE = 2,
    VSTOR_EXECUTE_SRB = 3,
    VSTOR_RESET_LUN = 4,
    VSTOR_RESET_ADAPTER = 5,
    VSTOR_RESET_BUS = 6,
    VSTOR_BEGIN_INITIALIZATION = 7,
    VSTOR_END_INITIALIZATION = 8,
    VSTOR_QUERY_VERSION = 9,
    VSTOR_QUERY_PROPERTIES = 10,
    VSTOR_ENUMERATE_BUS = 11,
    VSTOR_CREATE_SUB_CHANNELS = 13,
};

enum {
    VSTOR_STATUS_OK = 0,
    VSTOR_STATUS_REVISION_MISMATCH = 0xC0000059,
    VSTOR_STATUS_INVALID_PARAMETER = 0xC000000D,
    VSTOR_STATUS_INVALID_DEVICE_STATE = 0xC0000184,
};

enum srb_status {
    SRB_SUCCESS = 0x01,
    SRB_ERROR = 0x04,
    SRB_INVALID_REQUEST = 0x06,
    SRB_INVALID_LUN = 0x20,
    SRB_AUTOSENSE_VALID = 0x80,
};
enum { SRB_DIRECTION_WRITE = 0, SRB_DIRECTION_READ = 1, SRB_DIRECTION_NONE = 2 };

struct vstor_srb {
    uint16_t length;
    uint8_t srb_status, scsi_status;
    uint8_t port, path, target, lun;
    uint8_t cdb_length, sense_length, data_in, reserved;
    uint32_t transfer_length;
    uint8_t cdb_or_sense[20];
    uint16_t reserved2;
    uint8_t queue_tag, queue_action;
    uint32_t srb_flags, timeout, sort_key;
};
struct vstor_properties {
    uint32_t reserved;
    uint16_t max_subchannels, reserved2;
    uint32_t flags, max_transfer;
    uint64_t reserved3;
} __attribute__((packed));
enum { VSTOR_MULTI_CHANNEL = 1 };

struct vstor_packet {
    uint32_t op, flags, status;
    union {
        struct vstor_srb srb;
        struct vstor_properties properties;
        struct {
            uint16_t version, revision;
        };
        uint16_t subchannels;
        uint8_t body[52];
    };
};
_Static_assert(sizeof(struct vstor_packet) == 64, "vstor_packet");
_Static_assert(sizeof(struct vstor_srb) == 52, "vmscsi_request");

#endif
