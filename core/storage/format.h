/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writing fresh images, and what a differencing image says about its parent. */
#ifndef VIREO_STORAGE_FORMAT_H
#define VIREO_STORAGE_FORMAT_H

#include "core/storage/disk.h"
#include "core/storage/image.h"

/* What a new image is to be. Checked and completed by format_check. */
struct format_params {
    enum disk_format format;
    enum disk_type type;
    uint64_t size;
    uint32_t block_size, logical_sector, physical_sector; /* 0: the format's default */
    struct guid disk_id;                                  /* zero: a new one */
    /* Differencing. */
    const char *parent_path;     /* as to be stored: absolute, or relative to the child's folder */
    const char *parent_absolute; /* may be NULL */
    struct guid parent_id;       /* the parent's identity (image_identity) */
    uint32_t parent_timestamp;   /* VHD */
};

bool format_check(struct format_params *p, err *e);
/* Makes an empty file (or device) an image of zeroes (or of its parent). Not yet flushed. */
bool format_write(struct sfile *f, const struct format_params *p, err *e);
bool vhdx_format(struct sfile *f, const struct format_params *p, err *e);
bool vhd_format(struct sfile *f, const struct format_params *p, err *e);

/* ---- parents ---- */

enum { PARENT_PATHS = 8 };

struct parent_ref {
    char *paths[PARENT_PATHS]; /* owned; host names, in the order in which to try them */
    unsigned npaths;
    struct guid id, id2; /* either will do; id2 may be zero */
    char *stored;        /* owned; what to show: the name as the file has it */
};
void parent_ref_clear(struct parent_ref *r);
/* Adds a stored name (Windows or host) as the host names that it may mean. False: no memory. */
bool parent_ref_add(struct parent_ref *r, const char *stored);

/* What children of `img` refer to; false for formats that have none (raw). */
bool image_identity(struct image *img, struct guid *out);
/* Only for differencing images. */
bool image_parent_ref(struct image *img, struct parent_ref *out, err *e);
/* Makes a differencing image name another parent; drained, writable. `id2` may be NULL. */
bool image_set_parent(struct image *img, const char *path, const char *absolute,
                      const struct guid *id, const struct guid *id2, err *e);

/* The path to `to` as seen from the folder of `from`, both as given; malloc'ed. */
char *path_relative(const char *from, const char *to);

#endif
