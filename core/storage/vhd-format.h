/* SPDX-License-Identifier: GPL-3.0-or-later */
/* "Virtual Hard Disk Image Format Specification" 1.0 on disk. All big-endian. */
#ifndef VIREO_STORAGE_VHD_FORMAT_H
#define VIREO_STORAGE_VHD_FORMAT_H

#include <stdint.h>

#define VHD_SECTOR 512u
#define VHD_COOKIE "conectix"
#define VHD_HEADER_COOKIE "cxsparse"
#define VHD_VERSION 0x00010000u
#define VHD_FEATURES 2u
#define VHD_NO_OFFSET UINT64_MAX
#define VHD_MAX_SIZE (2040ull << 30)
#define VHD_UNUSED UINT32_MAX
#define VHD_MIN_BLOCK 4096u
#define VHD_MAX_BLOCK (256u << 20)
#define VHD_EPOCH 946684800 /* 2000-01-01 in Unix time */

enum vhd_type { VHD_FIXED = 2, VHD_DYNAMIC = 3, VHD_DIFFERENCING = 4 };

struct vhd_footer {
    char cookie[8];
    uint32_t features, version;
    uint64_t header_offset;
    uint32_t timestamp;
    char creator[4];
    uint32_t creator_version;
    char creator_os[4];
    uint64_t original_size, current_size;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t type, checksum;
    uint8_t id[16];
    uint8_t saved_state;
    uint8_t reserved[427];
} __attribute__((packed));
_Static_assert(sizeof(struct vhd_footer) == 512, "footer");

struct vhd_locator {
    uint32_t platform, space, length, reserved;
    uint64_t offset;
} __attribute__((packed));
_Static_assert(sizeof(struct vhd_locator) == 24, "locator");

enum { VHD_LOCATORS = 8 };
#define VHD_W2RU 0x57327275u
#define VHD_W2KU 0x57326b75u

struct vhd_header {
    char cookie[8];
    uint64_t next;
    uint64_t table_offset;
    uint32_t version, table_entries, block_size, checksum;
    uint8_t parent_id[16];
    uint32_t parent_timestamp, reserved;
    uint8_t parent_name[512]; /* UTF-16BE */
    struct vhd_locator locators[VHD_LOCATORS];
    uint8_t reserved2[256];
} __attribute__((packed));
_Static_assert(sizeof(struct vhd_header) == 1024, "header");

#endif
