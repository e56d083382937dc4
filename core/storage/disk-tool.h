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

/* ---- looking ---- */

struct disk_description {
    struct disk_info info;
    char *parent;         /* the name that the file has of its parent, or NULL */
    char *parent_path;    /* where it was found, or NULL */
    char creator[64];     /* as the file says */
    struct guid identity; /* what children refer to */
    uint64_t file_length;
    bool log_pending;  /* changes wait in the log */
    bool parent_later; /* VHD: the parent's file was changed after this was made on it */
    bool chain_broken; /* the parent could not be opened; why is in problem */
    char problem[496];
};
/* Looks even at a disk in use, and at one whose parent is not there. */
bool disk_describe(const char *path, struct loop *loop, struct disk_description *out, err *e);
void disk_description_clear(struct disk_description *d);

enum disk_extent_kind { DISK_EXTENT_DATA, DISK_EXTENT_ZERO, DISK_EXTENT_HOLE };
struct disk_extent {
    uint64_t offset, length;
    enum disk_extent_kind kind; /* HOLE: allocated nowhere in the chain */
    uint32_t depth;             /* DATA, ZERO: of the layer that has it */
    uint64_t file_offset;       /* DATA */
};
/* The extent at `offset`, as long as one answer goes. */
bool disk_map(struct disk *d, uint64_t offset, struct disk_extent *out, err *e);
/* One beyond the last byte that is not zero, a multiple of the sector size. */
bool disk_data_end(struct disk *d, uint64_t *end, err *e);

/* ---- changing ---- */

bool disk_merge_into_parent(const char *path, bool keep_file, struct loop *loop,
                            const struct disk_progress *progress, err *e);
/* Makes `path` name `parent`. Unless `force`, only one with the identity that it was made on. */
bool disk_reparent(const char *path, const char *parent, bool force, struct loop *loop, err *e);
bool disk_compact(const char *path, struct loop *loop, const struct disk_progress *progress,
                  err *e);

enum disk_finding {
    DISK_NOTE,     /* nothing wrong: space that compact would free, a log to replay */
    DISK_DEFECT,   /* wrong, can be repaired without loss */
    DISK_DAMAGE,   /* wrong, repair gives up what is concerned */
    DISK_REPAIRED, /* was one of these */
};
struct disk_check_result {
    unsigned notes, defects, damages, repaired;
    uint64_t leaked; /* bytes of the file that nothing refers to */
};
bool disk_check(const char *path, bool repair, struct loop *loop,
                void (*finding)(void *ctx, enum disk_finding kind, const char *text), void *ctx,
                const struct disk_progress *progress, struct disk_check_result *out, err *e);

#endif
