/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One layer of a disk: a file in some format. A format says where bytes lie (map), makes room for
 * them (map_write, map_zero, wrote) and makes its metadata durable (commit); the engine in disk.c
 * moves the bytes. Maps are pure over the metadata in memory: they never wait, but say for what.
 * Thread: the loop's.
 */
#ifndef VIREO_STORAGE_IMAGE_H
#define VIREO_STORAGE_IMAGE_H

#include "core/base/loop.h"
#include "core/storage/disk.h"
#include "core/storage/meta.h"
#include "core/storage/sfile.h"

struct image;
struct parent_ref;

/* A change of size under way; what is not named is the format's. */
struct resize {
    uint64_t size;
    bool force; /* data beyond the end may be lost */
    unsigned phase;
    uint64_t pos;
    uint64_t table, old_table;
};
enum resize_step {
    RESIZE_DONE,
    RESIZE_FAILED,
    RESIZE_FLUSH, /* image_rest, then again */
    RESIZE_WAIT,  /* image_wait, then again */
    RESIZE_MORE,  /* again, after others had their turn */
};

enum map_kind {
    MAP_DATA,   /* [at, at + len) of the file */
    MAP_ZERO,   /* zeroes; from map_zero: nothing left to do for these bytes */
    MAP_PARENT, /* not in this layer */
    MAP_LOAD,   /* the metadata page at `at` is needed first: meta_wait, then ask again */
    MAP_WAIT,   /* image_wait, then ask again */
    MAP_ERROR,  /* the errno is in `at` */
};

struct map {
    uint64_t len; /* in: wanted, > 0; out: covered, > 0 for DATA, ZERO and PARENT */
    uint64_t at;
    struct meta_page *pin; /* map_write, map_zero: hand to wrote() when the bytes are written */
};

struct image_ops {
    const char *name;
    enum map_kind (*map)(struct image *img, uint64_t off, struct map *m);
    /* Makes the range writable in place. The caller takes over the reference in m->pin, if any, and
     * must call wrote() for it whether or not the write succeeded. */
    enum map_kind (*map_write)(struct image *img, uint64_t off, struct map *m);
    /* As map_write for a range to be zeroed, by PUNCH (if `unmap`) or ZERO of the bytes named. */
    enum map_kind (*map_zero)(struct image *img, uint64_t off, bool unmap, bool discard,
                              struct map *m);
    void (*wrote)(struct image *img, uint64_t off, uint64_t len, struct meta_page *pin, bool ok);
    /* Of a differencing image, `off` at the start of a block: what the range's whole blocks hold is
     * in the parent too, and goes. PARENT: m->len bytes are dealt with. Nobody writes there now. */
    enum map_kind (*forget)(struct image *img, uint64_t off, struct map *m);
    /* Makes everything written so far durable; ends with image_durable, then image_settled (each
     * once, not from within). */
    void (*commit)(struct image *img);
    /* Nothing in flight, everything committed: leaves the file as after a clean shutdown. Returns 0
     * or an errno; the file is consistent either way. */
    int (*clean)(struct image *img);
    /* Sees to it that the identity that children refer to will not change any more. */
    int (*settle_identity)(struct image *img);
    /* Whether the image's metadata waits for a commit (beyond meta.ndirty). May be NULL. */
    bool (*pending)(const struct image *img);
    /* Changes the virtual size, a step at a time (image_resize); drained. Everything is durable
     * before the first. Each leaves what may be flushed and, after a crash, opened. */
    enum resize_step (*resize)(struct image *img, struct resize *r, err *e);
    /* See format.h; NULL where the format has no differencing images. */
    bool (*identity)(struct image *img, struct guid *out);
    bool (*parent_ref)(struct image *img, struct parent_ref *out, err *e);
    bool (*set_parent)(struct image *img, const char *path, const char *absolute,
                       const struct guid *id, const struct guid *id2, err *e);
    /* Takes another identity, at once and durably. */
    int (*set_identity)(struct image *img, const struct guid *id);
    /* img->file was replaced by a writable one: does what opening it so would have done. */
    bool (*now_writable)(struct image *img, err *e);
    /* Frees the image and closes its file. */
    void (*destroy)(struct image *img);
};

struct image {
    const struct image_ops *ops;
    struct sfile *file;
    struct meta meta; /* buckets == NULL: none */
    struct loop *loop;
    struct image *parent; /* owned; NULL: none (or not opened) */
    /* I/O in flight to this file by parity of the epoch in which it was mapped. */
    uint64_t epoch;
    unsigned io[2];

    enum disk_format format;
    enum disk_type type;
    uint64_t size;
    uint32_t logical_sector, physical_sector, block_size, discard_granularity;
    bool read_only, zeroes_after_discard, keep_allocated;
    bool locked;        /* the file, by image_open */
    bool background;    /* below the top: a copy writes here that nobody relies on yet */
    bool keep_identity; /* writing does not change what children refer to (merging, compacting) */
    struct guid disk_id;

    /* committing */
    bool committing, unflushed;
    int commit_status;
    struct waiter *flush_now, *flush_next;
    struct waiter *waiting; /* MAP_WAIT */
    struct loop_timer commit_timer;
};

void image_init(struct image *img, const struct image_ops *ops, struct sfile *file,
                struct loop *loop);
/* Frees what image_init and the common part hold, the parent included; for destroy(). */
void image_fini(struct image *img);
/* NULL is allowed; parents too. */
void image_free(struct image *img);

bool image_needs_flush(const struct image *img);
/* Calls `w` when everything written before is durable. May call it from within if there is nothing
 * to do. */
void image_flush(struct image *img, struct waiter *w);
void image_wait(struct image *img, struct waiter *w);
void image_wake(struct image *img, int status);
/* Starts a commit in a while if there will be something to commit. */
void image_commit_soon(struct image *img);
/* Starts a commit now unless one is under way. */
void image_kick(struct image *img);
/* For commit(): see there. */
void image_durable(struct image *img, int status);
void image_settled(struct image *img, int status);

/* As image_flush, but also waits for the commit to have settled. Never calls `fn` from within. */
struct rest {
    struct waiter w;
    struct image *img;
    struct loop_post post;
    bool flushed;
    int status;
    void (*fn)(void *ctx, int status);
    void *ctx;
};
void image_rest(struct image *img, struct rest *r);

/* For synchronous use on a drained image: turns the loop until everything is durable and settled.
 */
int image_flush_sync(struct image *img);

/* Changes the size of a drained image; `done`, from the loop, frees nothing but its own. */
void image_resize(struct image *img, uint64_t size, bool force,
                  void (*done)(void *ctx, const err *e), void *ctx);
/* The same, turning the loop. */
bool image_resize_sync(struct image *img, uint64_t size, bool force, err *e);

/* A read-only layer, nothing in flight: opened again for writing under an exclusive lock; and back,
 * after a clean flush, under a shared one. */
bool image_make_writable(struct image *img, struct sfile_source *s, unsigned flags, err *e);
bool image_make_read_only(struct image *img, unsigned flags, err *e);

/* I/O is counted from being mapped to being done, so that space is not used again too early. */
static inline unsigned image_io_begin(struct image *img)
{
    unsigned parity = img->epoch & 1;
    img->io[parity]++;
    return parity;
}
static inline void image_io_end(struct image *img, unsigned parity)
{
    img->io[parity]--;
}
/* Whether all I/O that was mapped in `epoch` (a former img->epoch) or before is done. */
bool image_epoch_passed(struct image *img, uint64_t epoch);

/* ---- formats ---- */

/* On failure the file stays the caller's. */
struct image *raw_open(struct sfile *file, struct loop *loop, err *e);
struct image *vhdx_open(struct sfile *file, struct loop *loop, err *e);
struct image *vhd_open(struct sfile *file, struct loop *loop, err *e);

#endif
