/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What can be done with disks beside reading and writing them: `vireoctl disk`, the application and
 * checkpoints use this. All of it is synchronous and for offline disks (it locks them), unless
 * said; `progress` is called now and then and may cancel by returning false. Files appear under
 * their names when they are whole, or not at all.
 */
#ifndef VIREO_STORAGE_DISK_TOOL_H
#define VIREO_STORAGE_DISK_TOOL_H

#include "core/storage/disk.h"

struct disk_progress {
    bool (*fn)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};

/* For messages and JSON: "raw", "vhd", "vhdx"; "fixed", "dynamic", "differencing". */
const char *disk_format_name(enum disk_format f);
const char *disk_type_name(enum disk_type t);

struct disk_create_params {
    const char *path;
    enum disk_format format; /* AUTO: by the name's ending, else VHDX */
    enum disk_type type;
    uint64_t size;                                        /* 0: the parent's */
    uint32_t block_size, logical_sector, physical_sector; /* 0: default */
    const char *parent;                                   /* differencing: its path */
    bool force;                                           /* replace an existing file */
};
bool disk_create(const struct disk_create_params *p, struct loop *loop, err *e);

struct disk_convert_params {
    const char *source, *target;
    enum disk_format source_format; /* AUTO: by content */
    enum disk_format format;        /* AUTO: by the target's name, else VHDX */
    enum disk_type type;            /* DYNAMIC or FIXED; raw: FIXED */
    uint32_t block_size, logical_sector, physical_sector;
    bool force;
};
bool disk_convert(const struct disk_convert_params *p, struct loop *loop,
                  const struct disk_progress *progress, err *e);

#endif
