/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHDX's inside, shared by the vhdx-*.c files. */
#ifndef VIREO_STORAGE_VHDX_H
#define VIREO_STORAGE_VHDX_H

#include "core/base/bytes.h"
#include "core/storage/image.h"
#include "core/storage/space.h"
#include "core/storage/vhdx-format.h"

enum { VHDX_CACHE_PAGES = 2048, VHDX_DIRTY_SLACK = 24 };

struct vhdx_commit {
    enum {
        COMMIT_IDLE,
        COMMIT_PLAIN,   /* nothing but a flush */
        COMMIT_BARRIER, /* data before the log entry */
        COMMIT_LOG,
        COMMIT_LOG_FLUSH,
        COMMIT_IN_PLACE,
    } step;
    struct meta_page *pages; /* pinned, by taken_next */
    uint32_t npages, nwriting;
    uint8_t *entry;  /* the log entry */
    uint8_t *copies; /* the pages as they were logged */
    uint32_t entry_len;
    bool barrier;
    int status;
    uint64_t size_at_flush; /* the file's size when the flush under way was started */
    struct sfile_req io[2];
    struct iovec iov[2];
    struct sfile_req *in_place;
    struct iovec *in_place_iov;
};

struct vhdx {
    struct image base;
    unsigned current; /* header in force: 0 or 1 */
    struct vhdx_header header;

    uint64_t bat_off, meta_off;
    uint32_t bat_len, meta_len;
    uint64_t size_item, params_item, logical_item, physical_item, id_item, locator_item;
    uint32_t locator_len;
    uint32_t params_flags;
    uint64_t nblocks;
    uint32_t block_shift, ratio; /* blocks per sector bitmap */
    bool has_parent, keep;       /* keep: LeaveBlocksAllocated */

    struct space space;
    uint64_t stable_size; /* the file is this large even after a crash */

    bool active; /* headers written: this session's GUIDs, log in use */
    bool activating;
    int activate_step;
    struct vhdx_header *activate_header;
    struct sfile_req activate_io;
    struct iovec activate_iov;

    uint32_t log_head, log_tail; /* offsets in the log; tail: the oldest entry still needed */
    uint64_t log_seq;
    bool log_used;     /* tail is valid: there are entries still needed */
    bool in_place_bad; /* a page could not be written in place: entries stay needed */
    bool need_barrier;
    uint32_t max_dirty, reserved;
    struct vhdx_commit c;
};

/* vhdx-open.c */
uint32_t vhdx_checksum(void *structure, size_t len); /* the checksum field counted as 0 */
bool vhdx_read_meta(struct vhdx *v, uint64_t off, void *buf, size_t len, err *e);
/* Writes `h` over the header that is not in force (sequence and checksum are set) and then over the
 * other, flushing after each. */
int vhdx_write_headers(struct vhdx *v, struct vhdx_header *h);
void vhdx_seal_header(struct vhdx_header *h);
void vhdx_set_geometry(struct vhdx *v, uint64_t size);
uint64_t vhdx_bat_entries(uint64_t size, uint32_t block_size, uint32_t sector, bool has_parent);

/* vhdx-log.c */
/* Replays the log into the file (writable) or into the cache (read-only). */
bool vhdx_replay(struct vhdx *v, err *e);
/* Fills the entry for pages already copied; returns its length. */
uint32_t vhdx_log_entry_len(uint32_t npages);
void vhdx_log_build(struct vhdx *v, struct meta_page *pages, uint32_t n, const uint8_t *copies,
                    uint8_t *out);

/* vhdx-map.c */
extern const struct image_ops vhdx_ops;
enum map_kind vhdx_map(struct image *img, uint64_t off, struct map *m);
enum map_kind vhdx_map_write(struct image *img, uint64_t off, struct map *m);
enum map_kind vhdx_map_zero(struct image *img, uint64_t off, bool unmap, bool discard,
                            struct map *m);
enum map_kind vhdx_forget(struct image *img, uint64_t off, struct map *m);
void vhdx_wrote(struct image *img, uint64_t off, uint64_t len, struct meta_page *pin, bool ok);
bool vhdx_payload_ok(const struct vhdx *v, uint64_t off, uint64_t len);
static inline uint64_t vhdx_block_index(const struct vhdx *v, uint64_t block)
{
    return block + block / v->ratio;
}
static inline uint64_t vhdx_bitmap_index(const struct vhdx *v, uint64_t chunk)
{
    return (chunk + 1) * v->ratio + chunk;
}

/* vhdx-commit.c */
void vhdx_activate(struct vhdx *v);
void vhdx_commit(struct image *img);
int vhdx_clean(struct image *img);
int vhdx_settle_identity(struct image *img);

/* vhdx-resize.c */
enum resize_step vhdx_resize(struct image *img, struct resize *r, err *e);
bool vhdx_identity(struct image *img, struct guid *out);
bool vhdx_parent_ref(struct image *img, struct parent_ref *out, err *e);
bool vhdx_set_parent(struct image *img, const char *path, const char *absolute,
                     const struct guid *id, const struct guid *id2, err *e);

#endif
