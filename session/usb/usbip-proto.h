/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * USB/IP, the part that travels once a device is attached: what Linux's vhci_hcd sends and expects.
 * Source: Documentation/usb/usbip_protocol.rst and drivers/usb/usbip/usbip_common.h of Linux 6.1.
 * Everything is big-endian but `setup`, which is as on the USB wire.
 */
#ifndef VIREO_SESSION_USB_USBIP_PROTO_H
#define VIREO_SESSION_USB_USBIP_PROTO_H

#include <stdint.h>

enum {
    USBIP_CMD_SUBMIT = 1,
    USBIP_CMD_UNLINK = 2,
    USBIP_RET_SUBMIT = 3,
    USBIP_RET_UNLINK = 4,
};

enum {
    USBIP_DIR_OUT = 0,
    USBIP_DIR_IN = 1,
};

/* transfer_flags: the numbers of the kernel's URB_ flags. */
enum {
    USBIP_SHORT_NOT_OK = 1 << 0,
    USBIP_ISO_ASAP = 1 << 1,
    USBIP_ZERO_PACKET = 1 << 6,
};

/* vhci_hcd never sends more packets in one URB, and number_of_packets is this in other URBs. */
#define USBIP_PACKETS_MAX 1024
#define USBIP_NOT_ISOCHRONOUS 0xffffffffu

struct usbip_command {
    uint32_t command;
    uint32_t seqnum;
    uint32_t devid; /* bus number << 16 | device number, as told at the attach */
    uint32_t direction;
    uint32_t endpoint; /* 0 to 15 */
    union {
        struct {
            uint32_t flags;
            int32_t length;
            int32_t start_frame;
            uint32_t packets; /* 0 or USBIP_NOT_ISOCHRONOUS where the endpoint is not */
            int32_t interval;
            uint8_t setup[8];
        } submit;
        struct {
            uint32_t seqnum; /* of the URB to take back */
        } unlink;
        uint8_t bytes[28];
    };
};
_Static_assert(sizeof(struct usbip_command) == 48, "USB/IP header");

struct usbip_reply {
    uint32_t command;
    uint32_t seqnum;
    uint32_t devid; /* 0 in replies, as are direction and endpoint */
    uint32_t direction;
    uint32_t endpoint;
    int32_t status; /* 0 or a negative errno */
    int32_t actual_length;
    int32_t start_frame;
    uint32_t packets;
    int32_t error_count;
    uint8_t reserved[8];
};
_Static_assert(sizeof(struct usbip_reply) == 48, "USB/IP header");

/* Follows the data of an isochronous URB, one a packet. IN data is packed: without the gaps. */
struct usbip_packet {
    uint32_t offset;
    uint32_t length;
    uint32_t actual_length;
    int32_t status;
};
_Static_assert(sizeof(struct usbip_packet) == 16, "USB/IP packet descriptor");

#endif
