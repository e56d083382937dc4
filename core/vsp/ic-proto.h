/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Messages of the integration services. All start with the pipe header and the IC header (28
 * bytes); the guest answers with the same message, edited. Source: include/linux/hyperv.h and
 * drivers/hv/hv_{util,kvp,snapshot,fcopy}.c of Linux 6.1.
 */
#ifndef VIREO_VSP_IC_PROTO_H
#define VIREO_VSP_IC_PROTO_H

#include <stdint.h>

#include "core/base/guid.h"

enum ic_type {
    IC_NEGOTIATE = 0,
    IC_HEARTBEAT = 1,
    IC_KVP = 2,
    IC_SHUTDOWN = 3,
    IC_TIMESYNC = 4,
    IC_VSS = 5,
    IC_FCOPY = 7,
};
enum { IC_FLAG_TRANSACTION = 1, IC_FLAG_REQUEST = 2, IC_FLAG_RESPONSE = 4 };
enum {
    IC_STATUS_OK = 0,
    IC_STATUS_FAIL = 0x80004005,
    IC_STATUS_NO_MORE = 0x80070103,
    IC_STATUS_EXISTS = 0x80070050,
    IC_STATUS_DISK_FULL = 0x80070070,
    /* Ours, never on the wire: */
    IC_STATUS_TIMEOUT = 0x800705B4,
    IC_STATUS_GONE = 0x800703E3,
};

struct ic_version {
    uint16_t major, minor;
};
struct ic_header {
    uint32_t pipe_type, pipe_bytes;
    struct ic_version framework;
    uint16_t type;
    struct ic_version message;
    uint16_t body_bytes;
    uint32_t status;
    uint8_t transaction, flags;
    uint16_t zero;
} __attribute__((packed));
_Static_assert(sizeof(struct ic_header) == 28, "IC header");

struct ic_negotiate { /* versions follow: of the framework, then of the message */
    uint16_t framework_count, message_count;
    uint32_t zero;
};

struct ic_heartbeat {
    uint64_t sequence;
    uint8_t reserved[32];
};
struct ic_shutdown {
    uint32_t reason, timeout, flags;
    uint8_t message[2048];
};
enum {
    IC_SHUTDOWN_POWER_OFF = 0,
    IC_SHUTDOWN_FORCE = 1,
    IC_SHUTDOWN_REBOOT = 2,
    IC_SHUTDOWN_HIBERNATE = 4
};
struct ic_timesync_4 {
    uint64_t host_time, reference_time;
    uint8_t flags, leap, stratum, reserved[3];
} __attribute__((packed));
struct ic_timesync_1 {
    uint64_t host_time, guest_time, round_trip;
    uint8_t flags;
} __attribute__((packed));
enum { IC_TIME_PROBE = 0, IC_TIME_SYNC = 1, IC_TIME_SAMPLE = 2 };
_Static_assert(sizeof(struct ic_timesync_4) == 22, "timesync 4.0");
_Static_assert(sizeof(struct ic_timesync_1) == 25, "timesync 3.0");

/* ---- key-value exchange ---- */
enum kvp_op { KVP_GET, KVP_SET, KVP_DELETE, KVP_ENUMERATE, KVP_GET_IP, KVP_SET_IP };
enum { KVP_REG_SZ = 1, KVP_KEY_BYTES = 512, KVP_VALUE_BYTES = 2048 };
struct kvp_head {
    uint8_t op, pool;
    uint16_t zero;
};
struct kvp_value {
    uint32_t type, key_bytes, value_bytes;
    uint8_t key[KVP_KEY_BYTES], value[KVP_VALUE_BYTES];
};
struct kvp_exchange { /* GET, SET */
    struct kvp_head h;
    struct kvp_value v;
};
struct kvp_delete {
    struct kvp_head h;
    uint32_t key_bytes;
    uint8_t key[KVP_KEY_BYTES];
};
struct kvp_enumerate {
    struct kvp_head h;
    uint32_t index;
    struct kvp_value v;
};
struct kvp_ip {
    uint8_t op, pool;
    uint8_t adapter[256];
    uint8_t family, dhcp;
    uint8_t address[2048], subnet[2048], gateway[1024], dns[2048];
};
_Static_assert(sizeof(struct kvp_value) == 2572, "KVP value");
_Static_assert(sizeof(struct kvp_ip) == 7428, "KVP IP information");

/* ---- volume shadow copy ---- */
enum vss_op { VSS_HOT_BACKUP = 2, VSS_GET_DM_INFO = 3, VSS_FREEZE = 5, VSS_THAW = 6 };
struct ic_vss {
    uint8_t op, reserved[7];
    uint32_t flags;
};

/* ---- file copy ---- */
enum fcopy_op { FCOPY_START = 0, FCOPY_WRITE = 1, FCOPY_COMPLETE = 2, FCOPY_CANCEL = 3 };
enum { FCOPY_DATA = 6144, FCOPY_OVERWRITE = 1, FCOPY_CREATE_PATH = 2 };
struct fcopy_head {
    uint32_t op;
    struct guid service[2];
};
struct fcopy_start {
    struct fcopy_head h;
    uint8_t name[520], path[520];
    uint32_t flags;
    uint64_t size;
} __attribute__((packed));
struct fcopy_write {
    struct fcopy_head h;
    uint32_t zero;
    uint64_t offset;
    uint32_t size;
    uint8_t data[FCOPY_DATA];
} __attribute__((packed));
_Static_assert(sizeof(struct fcopy_head) == 36, "fcopy header");
_Static_assert(__builtin_offsetof(struct fcopy_start, flags) == 1104 - 28, "fcopy start");
_Static_assert(__builtin_offsetof(struct fcopy_write, data) == 80 - 28, "fcopy write");

#endif
