/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/storage/aio.h"

enum { RING_ENTRIES = 128, MAX_IN_FLIGHT = 256 };

struct uring {
    struct aio base;
    struct io_uring ring;
    struct loop_source *source;
    struct aio_req *backlog, **backlog_tail; /* beyond MAX_IN_FLIGHT */
    unsigned in_flight, unsubmitted;
    bool used[AIO_MAX_FILES];
};

static int uring_add_file(struct aio *a, int fd)
{
    struct uring *u = (struct uring *)a;
    for (int i = 0; i < AIO_MAX_FILES; i++) {
        if (u->used[i])
            continue;
        int rc = io_uring_register_files_update(&u->ring, (unsigned)i, &fd, 1);
        if (rc < 0)
            return rc;
        u->used[i] = true;
        return i;
    }
    return -EMFILE;
}

static void uring_remove_file(struct aio *a, int slot)
{
    struct uring *u = (struct uring *)a;
    int none = -1;
    io_uring_register_files_update(&u->ring, (unsigned)slot, &none, 1);
    u->used[slot] = false;
}

static bool prepare(struct uring *u, struct aio_req *r)
{
    struct io_uring_sqe *s = io_uring_get_sqe(&u->ring);
    if (!s) {
        io_uring_submit(&u->ring);
        u->unsubmitted = 0;
        s = io_uring_get_sqe(&u->ring);
        if (!s)
            return false;
    }
    switch (r->op) {
    case AIO_READ: io_uring_prep_readv(s, r->slot, r->iov, (unsigned)r->iovcnt, r->offset); break;
    case AIO_WRITE: io_uring_prep_writev(s, r->slot, r->iov, (unsigned)r->iovcnt, r->offset); break;
    case AIO_FSYNC: io_uring_prep_fsync(s, r->slot, IORING_FSYNC_DATASYNC); break;
    case AIO_FALLOCATE:
        io_uring_prep_fallocate(s, r->slot, r->mode, (off_t)r->offset, (off_t)r->length);
        break;
    }
    io_uring_sqe_set_flags(s, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(s, r);
    u->in_flight++;
    u->unsubmitted++;
    return true;
}

static void enqueue(struct uring *u, struct aio_req *r)
{
    r->next = NULL;
    *u->backlog_tail = r;
    u->backlog_tail = &r->next;
}

static void uring_submit(struct aio *a, struct aio_req *r)
{
    struct uring *u = (struct uring *)a;
    if (u->backlog || u->in_flight >= MAX_IN_FLIGHT || !prepare(u, r))
        enqueue(u, r);
}

static void uring_kick(struct aio *a)
{
    struct uring *u = (struct uring *)a;
    while (u->backlog && u->in_flight < MAX_IN_FLIGHT && prepare(u, u->backlog)) {
        u->backlog = u->backlog->next;
        if (!u->backlog)
            u->backlog_tail = &u->backlog;
    }
    if (u->unsubmitted) {
        io_uring_submit(&u->ring);
        u->unsubmitted = 0;
    }
}

/* Much of what is in the host's cache is read by the submission already. */
static bool uring_reap(struct aio *a)
{
    struct uring *u = (struct uring *)a;
    struct io_uring_cqe *cqe;
    bool any = false;
    aio_plug(&u->base);
    while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
        struct aio_req *r = io_uring_cqe_get_data(cqe);
        int64_t res = cqe->res;
        io_uring_cqe_seen(&u->ring, cqe);
        u->in_flight--;
        r->done(r, res);
        any = true;
    }
    aio_unplug(&u->base);
    return any;
}

static void on_completions(void *ctx, uint32_t events)
{
    uring_reap(ctx);
}

static void uring_free(struct aio *a)
{
    struct uring *u = (struct uring *)a;
    loop_source_remove(u->source);
    io_uring_queue_exit(&u->ring);
    free(u);
}

static const struct aio_ops uring_ops = {
    .add_file = uring_add_file,
    .remove_file = uring_remove_file,
    .submit = uring_submit,
    .kick = uring_kick,
    .reap = uring_reap,
    .free = uring_free,
    .name = "io_uring",
};

/* liburing 2.3 as packaged does not export its wrappers of these two. */
static int ring_register(struct io_uring *ring, unsigned op, const void *arg, unsigned n)
{
    long rc = syscall(SYS_io_uring_register, ring->ring_fd, op, arg, n);
    return rc < 0 ? -errno : (int)rc;
}

/* What this ring may ever do, whoever gets hold of it: four operations on registered files. */
static int restrict_ring(struct io_uring *ring)
{
    static const uint8_t ops[] = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                  IORING_OP_FALLOCATE};
    struct io_uring_restriction r[ARRAY_LEN(ops) + 2] = {0};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        r[i].opcode = IORING_RESTRICTION_SQE_OP;
        r[i].sqe_op = ops[i];
    }
    r[ARRAY_LEN(ops)].opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED;
    r[ARRAY_LEN(ops)].sqe_flags = IOSQE_FIXED_FILE;
    r[ARRAY_LEN(ops) + 1].opcode = IORING_RESTRICTION_REGISTER_OP;
    r[ARRAY_LEN(ops) + 1].register_op = IORING_REGISTER_FILES_UPDATE;
    return ring_register(ring, IORING_REGISTER_RESTRICTIONS, r, ARRAY_LEN(r));
}

static int set_up(struct uring *u)
{
    int none[AIO_MAX_FILES];
    for (int i = 0; i < AIO_MAX_FILES; i++)
        none[i] = -1;
    int rc = restrict_ring(&u->ring);
    if (rc == 0)
        rc = io_uring_register_files(&u->ring, none, AIO_MAX_FILES);
    if (rc == 0)
        rc = ring_register(&u->ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
    io_uring_ring_dontfork(&u->ring);
    return rc;
}

struct aio *aio_uring_new(struct loop *l, err *e)
{
    struct uring *u = calloc(1, sizeof *u);
    if (!u) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for disk I/O");
        return NULL;
    }
    u->base = (struct aio){.ops = &uring_ops, .loop = l};
    u->backlog_tail = &u->backlog;
    struct io_uring_params p = {
        .flags = IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE,
        .cq_entries = 2 * MAX_IN_FLIGHT,
    };
    int rc = io_uring_queue_init_params(RING_ENTRIES, &u->ring, &p);
    if (rc < 0) {
        err_errno(e, -rc, "This host has no io_uring");
        free(u);
        return NULL;
    }
    rc = set_up(u);
    if (rc < 0)
        err_errno(e, -rc, "Could not restrict io_uring");
    else
        u->source = loop_add_fd(l, u->ring.ring_fd, EPOLLIN, on_completions, u, e);
    if (!u->source) {
        uring_free(&u->base);
        return NULL;
    }
    return &u->base;
}
