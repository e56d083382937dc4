/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A disk's inside, for core/storage and its tests. */
#ifndef VIREO_STORAGE_DISK_INTERNAL_H
#define VIREO_STORAGE_DISK_INTERNAL_H

#include "core/storage/disk.h"
#include "core/storage/image.h"

enum { DISK_MAX_DEPTH = 64, DISK_SUBS_PER_REQ = 32, DISK_SUB_IOVS = 64 };

/* A range that a copy is to do over (copy.h), because its source was changed. */
struct copy_range {
    uint64_t pos, end; /* what is left */
    unsigned busy;     /* pieces in flight */
    bool looking;      /* a piece waits for metadata: the next ones must */
};
struct copy_redo {
    struct copy_range range;
    struct copy_redo *next;
    int status;
    void (*done)(struct copy_redo *r, int status);
};

/* A request in flight. */
struct dio {
    struct waiter wait; /* parked: for a page, for room, for a flush */
    struct disk *disk;
    struct disk_req *req;
    struct dio *qnext;       /* queued, held or deferred */
    uint64_t pos, end;       /* next byte to map */
    const struct iovec *iov; /* where `pos` falls */
    size_t iov_off;
    int iov_left;
    unsigned pending; /* sub-requests in flight, and one while advancing */
    int status;
    bool parked, flushing, mirrored;
    struct image *flush_at;
    struct copy_redo redo;
};

/*
 * Who needs the disk at rest for a while, not turning the loop: `begin` is called with nothing in
 * flight, one holder at a time, and not while anyone else pauses the disk. Until disk_unhold, a
 * pause waits.
 */
struct hold {
    struct hold *next;
    void (*begin)(struct hold *h);
};

/* One contiguous piece of I/O to one layer. */
struct sub {
    struct sfile_req io;
    struct dio *dio;
    struct image *img;
    struct meta_page *pin;
    uint64_t off;
    unsigned parity;
    struct sub *next_free;
    struct iovec iov[DISK_SUB_IOVS];
};

struct disk {
    struct loop *loop;
    struct sfile_source source;
    bool owns_source;
    struct image *top;
    unsigned flags;

    unsigned nin_flight;
    uint64_t nrequests; /* ever */

    struct dio *queue, **queue_tail; /* submitted while paused */
    unsigned paused;
    void (*drained_fn)(void *ctx);
    void *drained_ctx;
    struct hold *holds, **holds_tail;
    unsigned nholds;
    bool holding; /* the first has begun */
    bool closing;
    bool hold_flushes;
    struct dio *held, **held_tail; /* flushes that may not be acknowledged yet */

    unsigned in_submit;
    struct dio *deferred, **deferred_tail; /* finished, to be told from the loop */
    struct loop_post deferred_post;
    struct sub *free_subs;
    unsigned nfree_subs;

    struct disk_merge *merge; /* the one under way */
    bool close_wanted;        /* at the end of the merge */
    uint64_t merge_step;      /* bytes copied between two reliefs (relief.h); 0: as usual */
    struct copy *mirror;      /* the top layer is being copied: to be told of changes */

    void (*change_fn)(void *ctx);
    void *change_ctx;
};

void disk_begin(struct dio *q);
/* Pauses and turns the loop until nothing is in flight. */
void disk_drain_sync(struct disk *d);
void disk_hold(struct disk *d, struct hold *h);
/* By the one that has begun. */
void disk_unhold(struct disk *d);
void disk_tell_deferred(void *d);

/* Opens over a source, which the disk takes (also on error). */
struct disk *disk_open_source(const struct disk_open_params *p, struct sfile_source *s, err *e);
/* A disk whose top is a layer of `owner`, which it borrows: for jobs that write below the top. */
struct disk *disk_view(struct disk *owner, struct image *top, err *e);

/* Opens one file as a layer, without its parent. Takes `file`, also on error. */
struct image *image_open(struct sfile *file, enum disk_format format, unsigned flags,
                         struct loop *loop, err *e);
/* What the file is, by its content; *foreign: QEMU's name of a format that is only imported. */
enum disk_format image_probe(struct sfile *f, const char **foreign);
/* Opens and attaches the parents of `img`. */
bool chain_open_parents(struct image *img, struct sfile_source *s, unsigned flags, err *e);
/* Locks; says in people's words who is in the way. */
bool image_lock(struct sfile *file, enum sfile_lock kind, err *e);

#endif
