/* SPDX-License-Identifier: GPL-3.0-or-later */
/* [MS-VHDX] on disk. All little-endian; section numbers are that document's. */
#ifndef VIREO_STORAGE_VHDX_FORMAT_H
#define VIREO_STORAGE_VHDX_FORMAT_H

#include <stdint.h>

#include "core/base/guid.h"

#define VHDX_PAGE 4096u
#define VHDX_MB 0x100000u

#define VHDX_FILE_SIGNATURE "vhdxfile"
#define VHDX_HEADER_MAGIC 0x64616568u /* head */
#define VHDX_REGION_MAGIC 0x69676572u /* regi */
#define VHDX_METADATA_MAGIC "metadata"
#define VHDX_LOG_MAGIC 0x65676f6cu      /* loge */
#define VHDX_LOG_DESC_MAGIC 0x63736564u /* desc */
#define VHDX_LOG_ZERO_MAGIC 0x6f72657au /* zero */
#define VHDX_LOG_DATA_MAGIC 0x61746164u /* data */

#define VHDX_HEADER_OFFSET(i) (((uint64_t)(i) + 1) << 16)
#define VHDX_REGION_OFFSET(i) (((uint64_t)(i) + 3) << 16)
#define VHDX_TABLE_SIZE 0x10000u

#define VHDX_MIN_BLOCK 0x100000u
#define VHDX_MAX_BLOCK 0x10000000u
#define VHDX_MAX_SIZE (64ull << 40)
#define VHDX_SECTORS_PER_BITMAP (1u << 23)

struct vhdx_header { /* 2.2.2 */
    uint32_t signature, checksum;
    uint64_t sequence;
    struct guid file_write, data_write, log;
    uint16_t log_version, version;
    uint32_t log_length;
    uint64_t log_offset;
    uint8_t reserved[4016];
};
_Static_assert(sizeof(struct vhdx_header) == VHDX_PAGE, "header");

struct vhdx_region_table { /* 2.2.3.1 */
    uint32_t signature, checksum, count, reserved;
};
struct vhdx_region {
    struct guid id;
    uint64_t offset;
    uint32_t length, required;
};
_Static_assert(sizeof(struct vhdx_region) == 32, "region");
enum { VHDX_MAX_REGIONS = 2047 };

struct vhdx_metadata_table { /* 2.6.1 */
    char signature[8];
    uint16_t reserved, count;
    uint32_t reserved2[5];
};
struct vhdx_item {
    struct guid id;
    uint32_t offset, length, flags, reserved;
};
_Static_assert(sizeof(struct vhdx_metadata_table) == 32 && sizeof(struct vhdx_item) == 32, "table");
enum { VHDX_MAX_ITEMS = 2047 };
#define VHDX_ITEM_USER 1u
#define VHDX_ITEM_DISK 2u
#define VHDX_ITEM_REQUIRED 4u

struct vhdx_file_parameters { /* 2.6.2.1 */
    uint32_t block_size, flags;
};
#define VHDX_LEAVE_ALLOCATED 1u
#define VHDX_HAS_PARENT 2u

struct vhdx_locator { /* 2.6.2.6 */
    struct guid type;
    uint16_t reserved, count;
};
struct vhdx_locator_entry {
    uint32_t key_offset, value_offset;
    uint16_t key_length, value_length;
};
_Static_assert(sizeof(struct vhdx_locator) == 20 && sizeof(struct vhdx_locator_entry) == 12,
               "locator");

struct vhdx_log_header { /* 2.3.1.1 */
    uint32_t signature, checksum, length, tail;
    uint64_t sequence;
    uint32_t descriptors, reserved;
    struct guid log;
    uint64_t flushed_size, last_size;
};
struct vhdx_log_desc {            /* 2.3.1.2, 2.3.1.3 */
    uint32_t signature, trailing; /* zero: trailing is reserved */
    uint64_t leading;             /* zero: the length */
    uint64_t offset, sequence;
};
struct vhdx_log_data { /* 2.3.1.4 */
    uint32_t signature, sequence_high;
    uint8_t data[4084];
    uint32_t sequence_low;
};
_Static_assert(sizeof(struct vhdx_log_header) == 64 && sizeof(struct vhdx_log_desc) == 32 &&
                   sizeof(struct vhdx_log_data) == VHDX_PAGE,
               "log");

enum vhdx_payload_state { /* 2.5.1.1 */
                          VHDX_NOT_PRESENT = 0,
                          VHDX_UNDEFINED = 1,
                          VHDX_ZERO = 2,
                          VHDX_UNMAPPED = 3,
                          VHDX_FULLY_PRESENT = 6,
                          VHDX_PARTIALLY_PRESENT = 7,
};
enum { VHDX_BITMAP_PRESENT = 6 }; /* 2.5.1.2 */
#define VHDX_ENTRY_STATE(e) ((unsigned)((e)&7))
#define VHDX_ENTRY_OFFSET(e) ((e) & ~(uint64_t)0xfffff)

#define VHDX_GUID_BAT GUID(0x2dc27766, 0xf623, 0x4200, 0x9d64, 0x115e9bfd4a08)
#define VHDX_GUID_METADATA GUID(0x8b7ca206, 0x4790, 0x4b9a, 0xb8fe, 0x575f050f886e)
#define VHDX_GUID_FILE_PARAMETERS GUID(0xcaa16737, 0xfa36, 0x4d43, 0xb3b6, 0x33f0aa44e76b)
#define VHDX_GUID_SIZE GUID(0x2fa54224, 0xcd1b, 0x4876, 0xb211, 0x5dbed83bf4b8)
#define VHDX_GUID_DISK_ID GUID(0xbeca12ab, 0xb2e6, 0x4523, 0x93ef, 0xc309e000c746)
#define VHDX_GUID_LOGICAL GUID(0x8141bf1d, 0xa96f, 0x4709, 0xba47, 0xf233a8faab5f)
#define VHDX_GUID_PHYSICAL GUID(0xcda348c7, 0x445d, 0x4471, 0x9cc9, 0xe9885251c556)
#define VHDX_GUID_LOCATOR GUID(0xa8d35f2d, 0xb30b, 0x454d, 0xabf7, 0xd3d84834ab0c)
#define VHDX_GUID_LOCATOR_VHDX GUID(0xb04aefb7, 0xd19e, 0x4a81, 0xb789, 0x25b8e9445913)

#endif
