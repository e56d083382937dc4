/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Threads that make blocking calls. Groups of fields by owner: `lock` guards the queue and the list
 * of finished requests; the rest belongs to the loop's thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/storage/aio.h"

enum { POOL_THREADS = 4 };

struct pool {
    struct aio base;
    pthread_t threads[POOL_THREADS];
    unsigned nthreads;
    int fds[AIO_MAX_FILES];
    struct loop_post finished_post;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct aio_req *queue, **queue_tail;
    struct aio_req *finished;
    bool quit;
};

static int64_t perform(struct pool *p, const struct aio_req *r)
{
    int fd = p->fds[r->slot];
    ssize_t n;
    do {
        switch (r->op) {
        case AIO_READ: n = preadv(fd, r->iov, r->iovcnt, (off_t)r->offset); break;
        case AIO_WRITE: n = pwritev(fd, r->iov, r->iovcnt, (off_t)r->offset); break;
        case AIO_FSYNC: n = fdatasync(fd); break;
        default: n = fallocate(fd, r->mode, (off_t)r->offset, (off_t)r->length); break;
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

static void *pool_thread(void *ctx)
{
    struct pool *p = ctx;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->queue && !p->quit)
            pthread_cond_wait(&p->wake, &p->lock);
        if (!p->queue)
            break;
        struct aio_req *r = p->queue;
        p->queue = r->next;
        if (!p->queue)
            p->queue_tail = &p->queue;
        pthread_mutex_unlock(&p->lock);
        r->res = perform(p, r);
        pthread_mutex_lock(&p->lock);
        r->next = p->finished;
        p->finished = r;
        loop_post(p->base.loop, &p->finished_post);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

static void deliver(void *ctx)
{
    struct pool *p = ctx;
    pthread_mutex_lock(&p->lock);
    struct aio_req *r = p->finished;
    p->finished = NULL;
    pthread_mutex_unlock(&p->lock);
    aio_plug(&p->base);
    while (r) {
        struct aio_req *next = r->next;
        r->done(r, r->res);
        r = next;
    }
    aio_unplug(&p->base);
}

static int pool_add_file(struct aio *a, int fd)
{
    struct pool *p = (struct pool *)a;
    for (int i = 0; i < AIO_MAX_FILES; i++)
        if (p->fds[i] < 0) {
            p->fds[i] = fd;
            return i;
        }
    return -EMFILE;
}

static void pool_remove_file(struct aio *a, int slot)
{
    ((struct pool *)a)->fds[slot] = -1;
}

static void pool_submit(struct aio *a, struct aio_req *r)
{
    struct pool *p = (struct pool *)a;
    r->next = NULL;
    pthread_mutex_lock(&p->lock);
    *p->queue_tail = r;
    p->queue_tail = &r->next;
    pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void pool_kick(struct aio *a)
{
}

static void pool_free(struct aio *a)
{
    struct pool *p = (struct pool *)a;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->nthreads; i++)
        pthread_join(p->threads[i], NULL);
    while (p->finished_post.pending) /* a post may still be on its way with nothing to deliver */
        loop_turn(p->base.loop, 0);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static const struct aio_ops pool_ops = {
    .add_file = pool_add_file,
    .remove_file = pool_remove_file,
    .submit = pool_submit,
    .kick = pool_kick,
    .free = pool_free,
    .name = "threads",
};

struct aio *aio_pool_new(struct loop *l, err *e)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for disk I/O");
        return NULL;
    }
    p->base = (struct aio){.ops = &pool_ops, .loop = l};
    p->queue_tail = &p->queue;
    for (int i = 0; i < AIO_MAX_FILES; i++)
        p->fds[i] = -1;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    loop_post_init(&p->finished_post, deliver, p);
    sigset_t all, old; /* signals are for the process's own threads */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = 0;
    while (p->nthreads < POOL_THREADS &&
           (rc = pthread_create(&p->threads[p->nthreads], NULL, pool_thread, p)) == 0)
        p->nthreads++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (!p->nthreads) {
        err_errno(e, rc, "Could not start a thread for disk I/O");
        pool_free(&p->base);
        return NULL;
    }
    return &p->base;
}
