/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHD's inside, shared by the vhd-*.c files. */
#ifndef VIREO_STORAGE_VHD_H
#define VIREO_STORAGE_VHD_H

#include "core/base/bytes.h"
#include "core/storage/format.h"
#include "core/storage/image.h"
#include "core/storage/space.h"
#include "core/storage/vhd-format.h"

enum { VHD_CACHE_PAGES = 12288, VHD_MAX_DIRTY = 4096 };

struct vhd {
    struct image base;
    struct vhd_footer footer; /* as in the file */
    struct vhd_header header; /* dynamic and differencing */
    uint64_t header_off, table_off;
    uint32_t table_entries, block_shift, bitmap_size; /* bytes, whole sectors */
    uint64_t nblocks;
    bool footer_bad, copy_bad; /* the one at the end, the one in front */
    bool footer_moved;         /* the end moved: it is written with the next commit */
    struct space space;

    bool need_barrier;
    uint32_t reserved;
    struct {
        enum {
            VHD_IDLE,
            VHD_PLAIN,
            VHD_BARRIER,
            VHD_BITMAPS,
            VHD_BITMAPS_FLUSH,
            VHD_TABLE,
            VHD_TABLE_FLUSH,
        } step;
        struct meta_page *pages;
        uint32_t n, nwriting;
        uint8_t *copies;
        struct sfile_req *io;
        struct iovec *iov;
        bool barrier, table, footer;
        int status;
        struct sfile_req flush, footer_io;
        struct iovec footer_iov;
        struct vhd_footer footer_copy;
    } c;
};

extern const struct image_ops vhd_ops;
uint32_t vhd_checksum(const void *structure, size_t len, size_t field);
void vhd_seal_footer(struct vhd_footer *f);
void vhd_seal_header(struct vhd_header *h);
bool vhd_footer_ok(const struct vhd_footer *f);
void vhd_geometry(uint64_t size, struct vhd_footer *f);
uint32_t vhd_bitmap_size(uint32_t block_size);

enum map_kind vhd_map(struct image *img, uint64_t off, struct map *m);
enum map_kind vhd_map_write(struct image *img, uint64_t off, struct map *m);
enum map_kind vhd_map_zero(struct image *img, uint64_t off, bool unmap, bool discard,
                           struct map *m);
enum map_kind vhd_forget(struct image *img, uint64_t off, struct map *m);
void vhd_wrote(struct image *img, uint64_t off, uint64_t len, struct meta_page *pin, bool ok);
bool vhd_block_ok(const struct vhd *v, uint32_t entry);

void vhd_commit(struct image *img);
int vhd_clean(struct image *img);
/* Both, durably, the one at the end first. */
int vhd_write_footers(struct vhd *v, const struct vhd_footer *f);

enum resize_step vhd_resize(struct image *img, struct resize *r, err *e);
bool vhd_set_parent(struct image *img, const char *path, const char *absolute,
                    const struct guid *id, const struct guid *id2, err *e);

/* Parent names: fills parent_name and locators, and the bytes that these point to, which are to lie
 * at `at`; *data is malloc'ed, a multiple of sectors. */
/* When the file was last changed, as a child's header says it of its parent; 0: not known. */
uint32_t vhd_time_of(const char *path);
bool vhd_build_parent(struct vhd_header *h, const char *path, const char *absolute,
                      const struct guid *id, uint32_t timestamp, uint64_t at, uint8_t **data,
                      size_t *len, err *e);
/* VHD stores GUIDs as printed; struct guid has Microsoft's wire order. */
void vhd_guid_get(const uint8_t *p, struct guid *out);
void vhd_guid_put(uint8_t *p, const struct guid *g);

#endif
