/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Virtual disks: what storvsp, IDE, checkpoints and the disk tool use. A disk is opened from a path
 * through an opener, has a request queue and completes on the loop that it was opened on.
 *
 * Requests. The caller owns a struct disk_req and its buffers until `done` is called, exactly once,
 * never from within disk_submit. Offsets and lengths are bytes and multiples of the logical sector
 * size, buffers need no alignment (bounced where the host's file wants one). Requests may complete
 * in any order; overlapping requests in flight are not ordered against each other. A FLUSH covers
 * every write whose `done` was called before it was submitted; FUA makes one write durable before
 * its `done`. Completion status is 0 or a positive errno: EIO, ENOSPC, EROFS, EINVAL (out of
 * range), EOPNOTSUPP (a DISCARD the format cannot do is success: it is a hint), ECANCELED (the disk
 * was closed).
 *
 * Thread: everything on the loop's thread unless said.
 */
#ifndef VIREO_STORAGE_DISK_H
#define VIREO_STORAGE_DISK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "core/base/err.h"
#include "core/base/guid.h"
#include "core/base/loop.h"

/* ---- opener: the only way to a file ---- */

enum disk_open_flags {
    DISK_OPEN_READ_ONLY = 1u << 0,
    DISK_OPEN_NO_LOCK = 1u << 1,   /* for inspection beside a writer */
    DISK_OPEN_NO_PARENT = 1u << 2, /* a differencing disk's own layer alone */
    DISK_OPEN_DIRECT = 1u << 3,    /* O_DIRECT where the file system has it */
    DISK_OPEN_THREADS = 1u << 4,   /* a thread pool even where there is io_uring */
};

/*
 * Turns a name into a descriptor that the caller owns. `path` is what a person or a parent locator
 * says (absolute, or relative to the folder of `referrer`); `referrer` is the path of the file that
 * names it, or NULL for the first. The worker's opener answers from the descriptors it was handed;
 * a tool's opens the path. On success *resolved (malloc'ed) is the name to show and to resolve
 * further relative names against.
 */
struct disk_opener {
    int (*open)(void *ctx, const char *path, const char *referrer, unsigned flags, char **resolved,
                err *e);
    void *ctx;
};
/* Opens paths with the person's rights; O_CLOEXEC; refuses anything but regular files and block
 * devices. */
extern const struct disk_opener disk_opener_paths;

/* ---- disks ---- */

enum disk_format { DISK_FORMAT_AUTO, DISK_FORMAT_RAW, DISK_FORMAT_VHD, DISK_FORMAT_VHDX };
enum disk_type { DISK_FIXED, DISK_DYNAMIC, DISK_DIFFERENCING };

struct disk_info {
    enum disk_format format;
    enum disk_type type;
    uint64_t size;           /* virtual size in bytes */
    uint32_t logical_sector; /* 512 or 4096 */
    uint32_t physical_sector;
    uint32_t block_size;          /* allocation unit in bytes, 0 where there is none */
    uint32_t discard_granularity; /* bytes, 0: no discard */
    bool read_only;
    bool zeroes_after_discard; /* reads after DISCARD give zeroes */
    struct guid disk_id;       /* SCSI device id; stable over the life of the disk, or zero */
    uint64_t file_size;        /* bytes the file occupies on the host (st_blocks) */
    uint32_t depth;            /* layers below this one */
    uint64_t requests;         /* submitted since it was opened */
};

struct disk;

struct disk_open_params {
    const char *path;
    enum disk_format format; /* AUTO: by content; raw needs the caller's say in the worker */
    unsigned flags;          /* enum disk_open_flags */
    const struct disk_opener *opener; /* borrowed for the life of the disk */
    struct loop *loop;                /* borrowed; completions run here */
};

/* Opens a disk and, unless NO_PARENT, its whole chain. Synchronous (metadata only). NULL on error.
 */
struct disk *disk_open(const struct disk_open_params *p, err *e);
/* Drains or cancels what is in flight (every `done` is called), flushes, unlocks, closes, frees.
 * Runs the loop's turns as needed. (Where a merge of it is just ending, the file is closed with
 * that, a moment later.) */
void disk_close(struct disk *d);
void disk_get_info(const struct disk *d, struct disk_info *out);
/* Called when the virtual size, the read-only state or the medium changed (resize); for the SCSI
 * unit attention. One listener; NULL to remove. */
void disk_set_change_fn(struct disk *d, void (*fn)(void *ctx), void *ctx);

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES };
enum disk_req_flags {
    DISK_REQ_FUA = 1u << 0,
    DISK_REQ_UNMAP = 1u << 1, /* WRITE_ZEROES may deallocate */
};

struct disk_req {
    enum disk_op op;
    unsigned flags;
    uint64_t offset, length; /* bytes; FLUSH: both 0 */
    const struct iovec *iov; /* READ, WRITE: buffers, sum of lengths == length; borrowed */
    int iovcnt;
    void (*done)(struct disk_req *r, int status);
    void *owner;   /* the caller's */
    void *priv[8]; /* core/storage's while in flight; starts zeroed by disk_submit */
};

void disk_submit(struct disk *d, struct disk_req *r);
/* Requests in flight, those held back by a pause included. */
unsigned disk_in_flight(const struct disk *d);
/* Between plug and unplug submissions are gathered into one call of the kernel. May nest. */
void disk_plug(struct disk *d);
void disk_unplug(struct disk *d);

/* Holds back new requests; `drained` is called (perhaps from within) when none is in flight. One
 * caller at a time may wait so; resume lets the held requests go. */
void disk_pause(struct disk *d, void (*drained)(void *ctx), void *ctx);
void disk_resume(struct disk *d);

/* Changes the virtual size of a disk in use: requests are held back meanwhile, which takes
 * milliseconds unless the table has to grow by many MiB. `done` is called once, from the loop; the
 * change function before it. ERR_BUSY while the layer in use is being merged. Shrinking refuses
 * (ERR_STATE) if the layer has data beyond the new end, unless `force`. */
void disk_resize_start(struct disk *d, uint64_t size, bool force,
                       void (*done)(void *ctx, const err *e), void *ctx);
/* The same for tools: turns the loop until it is done. */
bool disk_resize(struct disk *d, uint64_t size, bool force, err *e);

/* ---- layers of a disk in use: checkpoints ---- */

/*
 * A checkpoint's new leaf: disk_create_leaf makes the file while the guest goes on (its parent is
 * d's top, whose identity is settled by this), disk_layer_open opens it. Then, with the disk paused
 * and drained, disk_push_layer puts it on top; it cannot fail but for a wrong layer, and does no
 * I/O. Afterwards, in use again, disk_settle_layers makes the former top clean and read-only.
 * With `hold_flushes` no flush is answered until disk_release_flushes (when the manifest that names
 * the new leaf is durable).
 */
struct disk_layer;
bool disk_create_leaf(struct disk *d, const char *path, err *e);
struct disk_layer *disk_layer_open(struct disk *d, const char *path, err *e);
void disk_layer_close(struct disk_layer *l); /* one that was not pushed; NULL is allowed */
/* Takes `l` on success. */
bool disk_push_layer(struct disk *d, struct disk_layer *l, bool hold_flushes, err *e);
void disk_release_flushes(struct disk *d);
bool disk_settle_layers(struct disk *d, err *e);
/* The name of the layer `depth` below the top (0: the top), NULL beyond the chain's end. */
const char *disk_layer_name(const struct disk *d, unsigned depth);

/*
 * Merges the layer `depth` below the top into the one below it, in the background: the layer above
 * is then told its new parent and the merged layer leaves the chain; its file may be deleted when
 * `done` says so (e->code NONE). After a failure, a cancellation or a crash the chain reads as it
 * did, and merging may be begun again: what was merged is not copied again but for the last part,
 * because the merged layer gives up in steps what the one below it holds durably.
 *
 * Depth 0 is the layer in use. What the guest changes goes to both layers once it was copied, and
 * when the lower one holds everything, durably, `ready` is called: from then on either file is the
 * disk, also after a crash. The caller records that the lower one is, durably, and says so by
 * disk_merge_conclude; then the upper leaves and `done` is called. If `ready` is NULL that is done
 * at once. No resizing meanwhile; a layer may be pushed before `ready`, and the merge goes on below
 * it (`ready` is then not called).
 */
struct disk_merge;
struct disk_merge_params {
    unsigned depth;
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* may be NULL */
    void (*ready)(void *ctx);                                   /* see above */
    void (*done)(void *ctx, const err *e);
    void *ctx;
};
struct disk_merge *disk_merge_start(struct disk *d, const struct disk_merge_params *p, err *e);
void disk_merge_conclude(struct disk_merge *m);
/* `done` will come, with ERR_CANCELLED unless it was too late. Not between recording the lower
 * layer and disk_merge_conclude. */
void disk_merge_cancel(struct disk_merge *m);

/* For tools and tests: submit and turn the loop until done. Returns 0 or a positive errno. */
int disk_read_sync(struct disk *d, uint64_t offset, void *buf, size_t len);
int disk_write_sync(struct disk *d, uint64_t offset, const void *buf, size_t len);
int disk_flush_sync(struct disk *d);
int disk_discard_sync(struct disk *d, uint64_t offset, uint64_t len);
int disk_zero_sync(struct disk *d, uint64_t offset, uint64_t len, bool unmap);

#endif
