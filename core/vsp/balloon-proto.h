/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Dynamic memory messages. Source: drivers/hv/hv_balloon.c of Linux 6.1. */
#ifndef VIREO_VSP_BALLOON_PROTO_H
#define VIREO_VSP_BALLOON_PROTO_H

#include <stdint.h>

enum dm_type {
    DM_VERSION_REQUEST = 1,
    DM_VERSION_RESPONSE = 2,
    DM_CAPABILITIES_REPORT = 3,
    DM_CAPABILITIES_RESPONSE = 4,
    DM_STATUS = 5,
    DM_BALLOON_REQUEST = 6,
    DM_BALLOON_RESPONSE = 7,
    DM_UNBALLOON_REQUEST = 8,
    DM_UNBALLOON_RESPONSE = 9,
    DM_HOT_ADD_REQUEST = 10,
    DM_HOT_ADD_RESPONSE = 11,
    DM_INFO = 12,
};
enum { DM_VERSION_2 = 0x20000, DM_VERSION_1 = 0x10000, DM_VERSION_0_3 = 0x3 };
enum { DM_CAP_BALLOON = 1, DM_CAP_HOT_ADD = 2 };

struct dm_header {
    uint16_t type, size;
    uint32_t transaction;
};
struct dm_version {
    struct dm_header h;
    uint32_t version, last_attempt;
};
struct dm_accepted { /* VERSION_RESPONSE, CAPABILITIES_RESPONSE */
    struct dm_header h;
    uint64_t accepted;
};
struct dm_capabilities {
    struct dm_header h;
    uint64_t caps, min_pages, max_page;
};
struct dm_status {
    struct dm_header h;
    uint64_t available, committed, page_file, zero_free;
    uint32_t page_file_writes, io_diff;
};
struct dm_balloon {
    struct dm_header h;
    uint32_t pages, reserved;
};
struct dm_balloon_response { /* u64 ranges follow */
    struct dm_header h;
    uint32_t reserved, more_and_count; /* bit 0: more messages; 31:1: ranges */
};
struct dm_unballoon { /* u64 ranges follow */
    struct dm_header h;
    uint32_t more, count;
};
struct dm_hot_add {
    struct dm_header h;
    uint64_t range, region;
};
struct dm_hot_add_response {
    struct dm_header h;
    uint32_t pages, result; /* 1: done, or never; 0: try again later */
};
struct dm_info_max {
    struct dm_header h;
    uint32_t reserved, info_size, type, size;
    uint64_t pages;
};
_Static_assert(sizeof(struct dm_status) == 48, "STATUS");
_Static_assert(sizeof(struct dm_unballoon) == 16, "UNBALLOON_REQUEST");

/* A range of pages: [39:0] the first, [63:40] how many. */
#define DM_RANGE(first, count) ((uint64_t)(count) << 40 | (first))
#define DM_RANGE_FIRST(r) ((r) & ((UINT64_C(1) << 40) - 1))
#define DM_RANGE_COUNT(r) ((r) >> 40)

#endif
