/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A file below an image: the host's (hostfile.h), or in tests one in memory that cuts, tears and
 * reorders. It has an asynchronous face for requests and a synchronous one for opening, tools and
 * what happens while a disk is drained.
 *
 * Asynchronous: the caller owns the request and its iovec array (which the file may change) until
 * `done`, which is called on the loop's thread, never from within `submit`. Reads past the end give
 * zeroes; writes past the end grow the file. FLUSH makes every write completed before it durable.
 * Synchronous calls return 0 or a positive errno and transfer all or fail.
 * Thread: the loop's.
 */
#ifndef VIREO_STORAGE_SFILE_H
#define VIREO_STORAGE_SFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/err.h"

struct sfile;

enum sfile_op {
    SFILE_READ,
    SFILE_WRITE,
    SFILE_FLUSH,
    SFILE_PUNCH, /* reads as zeroes afterwards and frees space where it can */
    SFILE_ZERO,  /* reads as zeroes afterwards, space stays allocated where it can */
};

struct sfile_req {
    enum sfile_op op;
    uint64_t offset, length;
    struct iovec *iov; /* READ, WRITE */
    int iovcnt;
    void (*done)(struct sfile_req *r, int status);
    void *ctx;          /* the caller's */
    struct sfile *file; /* set by sfile_submit; this and below is the file's */
    uint64_t priv[16];
};

enum sfile_lock { SFILE_UNLOCKED, SFILE_SHARED, SFILE_EXCLUSIVE };

struct sfile_ops {
    void (*submit)(struct sfile *f, struct sfile_req *r);
    int (*read)(struct sfile *f, uint64_t off, void *buf, size_t len);
    int (*write)(struct sfile *f, uint64_t off, const void *buf, size_t len);
    int (*flush)(struct sfile *f);
    int (*get_size)(struct sfile *f, uint64_t *size, uint64_t *allocated);
    int (*set_size)(struct sfile *f, uint64_t size);
    int (*punch)(struct sfile *f, uint64_t off, uint64_t len);
    int (*zero)(struct sfile *f, uint64_t off, uint64_t len);
    /* Reserves space so that later writes there cannot lack it. EOPNOTSUPP is harmless. */
    int (*reserve)(struct sfile *f, uint64_t off, uint64_t len);
    /* The first range at or after `off` that may hold data; ENXIO: none up to the end. */
    int (*next_data)(struct sfile *f, uint64_t off, uint64_t *start, uint64_t *end);
    int (*lock)(struct sfile *f, enum sfile_lock kind);
    /* Two names of one file give equal ids. */
    int (*identity)(struct sfile *f, uint64_t id[2]);
    /* Sets O_DIRECT where the file takes I/O in units of `unit` bytes; false: buffered as before.
     */
    bool (*set_direct)(struct sfile *f, uint32_t unit);
    void (*close)(struct sfile *f);
};

struct sfile {
    const struct sfile_ops *ops;
    char *name; /* resolved name, owned, freed by close */
    bool read_only;
    bool is_device;
};

static inline void sfile_submit(struct sfile *f, struct sfile_req *r)
{
    r->file = f;
    f->ops->submit(f, r);
}
static inline int sfile_read(struct sfile *f, uint64_t off, void *buf, size_t len)
{
    return f->ops->read(f, off, buf, len);
}
static inline int sfile_write(struct sfile *f, uint64_t off, const void *buf, size_t len)
{
    return f->ops->write(f, off, buf, len);
}
static inline int sfile_flush(struct sfile *f)
{
    return f->ops->flush(f);
}
static inline int sfile_set_size(struct sfile *f, uint64_t size)
{
    return f->ops->set_size(f, size);
}
/* The size alone; 0 when it cannot be had. */
uint64_t sfile_size(struct sfile *f);
/* NULL is allowed. */
void sfile_close(struct sfile *f);

/* ---- who opens files for a disk: the host's paths and descriptors, or a test's memory ---- */

struct sfile_source {
    /* `flags` as disk_opener.open; NULL on error. The file is unlocked. */
    struct sfile *(*open)(void *ctx, const char *path, const char *referrer, unsigned flags,
                          err *e);
    void (*plug)(void *ctx); /* gather submissions until unplug; may nest */
    void (*unplug)(void *ctx);
    void (*free)(void *ctx); /* after the last file was closed */
    void *ctx;
};

#endif
