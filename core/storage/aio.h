/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Asynchronous host I/O for the files of one disk: io_uring, restricted to the few operations here
 * on registered files; a pool of threads where the host or the sandbox has no io_uring. The choice
 * is made when it is created.
 * Thread: the loop's. `done` is called on it, never from within aio_submit.
 */
#ifndef VIREO_STORAGE_AIO_H
#define VIREO_STORAGE_AIO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/err.h"
#include "core/base/loop.h"

enum { AIO_MAX_FILES = 80 };

enum aio_op { AIO_READ, AIO_WRITE, AIO_FSYNC, AIO_FALLOCATE };

struct aio_req {
    enum aio_op op;
    int slot; /* aio_add_file's */
    int mode; /* FALLOCATE */
    int iovcnt;
    const struct iovec *iov; /* READ, WRITE: at most IOV_MAX; borrowed until done */
    uint64_t offset, length;
    void (*done)(struct aio_req *r, int64_t res); /* bytes, 0, or a negative errno */
    struct aio_req *next;
    int64_t res;
};

struct aio;

struct aio_ops {
    int (*add_file)(struct aio *a, int fd); /* slot, or a negative errno */
    void (*remove_file)(struct aio *a, int slot);
    void (*submit)(struct aio *a, struct aio_req *r);
    void (*kick)(struct aio *a); /* end of a gathering */
    bool (*reap)(struct aio *a); /* completes what is ready: whether there was any; or NULL */
    void (*free)(struct aio *a);
    const char *name;
};
struct aio {
    const struct aio_ops *ops;
    struct loop *loop;
    unsigned plugged;
    struct loop_prepare prepare;
};

struct aio *aio_new(struct loop *l, bool threads_only, err *e);
struct aio *aio_uring_new(struct loop *l, err *e);
struct aio *aio_pool_new(struct loop *l, err *e);
/* Nothing may be in flight. */
void aio_free(struct aio *a);
/* Gathers submissions; the outermost unplug hands them to the kernel, or the loop before it waits
 * (a completion may turn it). */
static inline void aio_plug(struct aio *a)
{
    a->plugged++;
}
void aio_unplug(struct aio *a);
void aio_submit(struct aio *a, struct aio_req *r);

#endif
