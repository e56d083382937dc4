/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The wire between vireo-agent in a Linux guest and the session in the worker, over hv_sock. Shared
 * by both; all of it little-endian, and hostile input to whoever reads it.
 *
 * The guest connects, from a port below 1024 (root opened it), to AGENT_PORT of the host. Each
 * stream begins with struct agent_open. The first is the control channel (service AGENT_CONTROL,
 * token of zeros); there is one at a time, and a new one takes the place of the old. On it messages
 * follow, each with struct agent_head: AGENT_HELLO from the guest, AGENT_WELCOME or AGENT_REFUSED
 * from the host, then the others. For AGENT_START the guest opens a further stream with the
 * message's service and id and the token of AGENT_WELCOME, or answers AGENT_FAILED. What follows on
 * it is the service's:
 *     AGENT_VDAGENT    the SPICE agent protocol as on its virtio port (spice/vd_agent.h)
 *     AGENT_CLIPBOARD  the same, only the clipboard, from a helper of ours in a desktop's session;
 * with the types of enum agent_content. While it is there the other's clipboard is not used
 *     AGENT_PLAYBACK, AGENT_RECORD    session/audio/audio-proto.h
 *     AGENT_USB        USB/IP, after the import (Linux Documentation/usb/usbip_protocol.rst)
 * A stream ends by being closed; all end with the control channel.
 *
 * Versions: the major number must be the same. Unknown messages and longer known ones are skipped
 * or cut off, so that a minor version may add.
 */
#ifndef VIREO_AGENT_PROTO_H
#define VIREO_AGENT_PROTO_H

#include <stdint.h>

#define AGENT_MAGIC "VIREOAGT"

enum {
    AGENT_PORT = 0x56495245,
    AGENT_MAJOR = 1,
    AGENT_MINOR = 0,
    AGENT_MAX_MESSAGE = 4096, /* payload */
    AGENT_TOKEN = 16,
    AGENT_MAX_NAME = 255,
};

enum agent_service {
    AGENT_CONTROL,
    AGENT_VDAGENT,
    AGENT_CLIPBOARD,
    AGENT_PLAYBACK,
    AGENT_RECORD,
    AGENT_USB,
    AGENT_SERVICES,
};

/* Types of content beside those of vd_agent.h. */
enum agent_content {
    AGENT_CLIPBOARD_HTML = 0x56000001,
    /* from the guest alone: what a program copied as files, each struct agent_file, name, content
     */
    AGENT_CLIPBOARD_FILES = 0x56000002,
};

enum agent_message {
    /* guest to host */
    AGENT_HELLO = 1,   /* struct agent_hello */
    AGENT_CHANGED = 2, /* struct agent_changed: services came or went */
    AGENT_FAILED = 3,  /* struct agent_failed */
    /* host to guest */
    AGENT_WELCOME = 32, /* struct agent_welcome */
    AGENT_REFUSED = 33, /* struct agent_welcome without a token: the host's version */
    AGENT_START = 34,   /* struct agent_start */
    AGENT_STOP = 35,    /* struct agent_start: service and id */
};

enum agent_fact {
    AGENT_FACT_VHCI = 1,     /* vhci_hcd is there or can be loaded */
    AGENT_FACT_VDAGENTD = 2, /* spice-vdagentd is connected to the agent */
    AGENT_FACT_WAYLAND = 4,  /* the session on the seat is a Wayland one */
};

struct agent_open {
    char magic[8];
    uint16_t major, minor;
    uint32_t service; /* enum agent_service */
    uint32_t id;      /* of AGENT_START */
    uint8_t token[AGENT_TOKEN];
    uint32_t reserved;
} __attribute__((packed));
_Static_assert(sizeof(struct agent_open) == 40, "wire");

struct agent_file {
    uint32_t name; /* its length, 1 to AGENT_MAX_NAME: UTF-8, no slash, no zero at its end */
    uint32_t reserved;
    uint64_t size; /* of the content */
} __attribute__((packed));
_Static_assert(sizeof(struct agent_file) == 16, "wire");

struct agent_head {
    uint32_t type; /* enum agent_message */
    uint32_t size; /* of what follows, at most AGENT_MAX_MESSAGE */
} __attribute__((packed));
_Static_assert(sizeof(struct agent_head) == 8, "wire");

struct agent_changed {
    uint32_t services; /* bits 1 << enum agent_service */
    uint32_t facts;    /* enum agent_fact */
} __attribute__((packed));
_Static_assert(sizeof(struct agent_changed) == 8, "wire");

struct agent_hello {
    struct agent_changed now;
    char version[32], kernel[64], system[96]; /* UTF-8, ended by a zero where shorter */
} __attribute__((packed));
_Static_assert(sizeof(struct agent_hello) == 200, "wire");

struct agent_welcome {
    uint16_t major, minor;
    uint8_t token[AGENT_TOKEN];
} __attribute__((packed));
_Static_assert(sizeof(struct agent_welcome) == 20, "wire");

struct agent_start {
    uint32_t service, id;
    /* AGENT_USB: device id (bus << 16 | device) and speed (enum usb_device_speed of Linux). */
    uint32_t args[2];
} __attribute__((packed));
_Static_assert(sizeof(struct agent_start) == 16, "wire");

enum agent_failure {
    AGENT_FAILURE_MISSING = 1, /* no such service now */
    AGENT_FAILURE_FULL = 2,    /* no free place (USB ports, streams) */
    AGENT_FAILURE_DENIED = 3,  /* the system refused */
};

struct agent_failed {
    uint32_t service, id, reason; /* enum agent_failure */
} __attribute__((packed));
_Static_assert(sizeof(struct agent_failed) == 12, "wire");

#endif
