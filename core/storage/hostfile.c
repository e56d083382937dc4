/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/hostfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"

/* O_DIRECT wants aligned memory; a page suits every device. */
enum { MEM_ALIGN = 4096, ZERO_CHUNK = 1 << 20 };

struct hostfile {
    struct sfile base;
    struct aio *aio;
    int fd, slot;
    bool direct;
};

/* What a request carries while in flight, in sfile_req.priv. */
struct flight {
    struct aio_req aio;
    void *bounce;
    uint64_t moved; /* bytes done */
};
_Static_assert(sizeof(struct flight) <= sizeof(((struct sfile_req *)0)->priv), "priv is too small");

static struct flight *flight_of(struct sfile_req *r)
{
    return (struct flight *)r->priv;
}
static struct sfile_req *req_of(struct aio_req *a)
{
    return CONTAINER_OF((uint64_t(*)[16])a, struct sfile_req, priv);
}

/* ---- vectors ---- */

static void iov_copy(const struct iovec *iov, int n, uint8_t *flat, bool to_flat)
{
    for (int i = 0; i < n; i++) {
        if (to_flat)
            memcpy(flat, iov[i].iov_base, iov[i].iov_len);
        else
            memcpy(iov[i].iov_base, flat, iov[i].iov_len);
        flat += iov[i].iov_len;
    }
}

static void iov_skip(struct sfile_req *r, uint64_t n)
{
    while (n && r->iovcnt) {
        uint64_t k = MIN(n, r->iov->iov_len);
        r->iov->iov_base = (char *)r->iov->iov_base + k;
        r->iov->iov_len -= k;
        n -= k;
        if (!r->iov->iov_len) {
            r->iov++;
            r->iovcnt--;
        }
    }
}

static void iov_zero(const struct iovec *iov, int n)
{
    for (int i = 0; i < n; i++)
        memset(iov[i].iov_base, 0, iov[i].iov_len);
}

static bool iov_aligned(const struct iovec *iov, int n)
{
    for (int i = 0; i < n; i++)
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) % 512)
            return false;
    return true;
}

/* ---- asynchronous ---- */

static void finish(struct sfile_req *r, int status)
{
    struct flight *fl = flight_of(r);
    if (fl->bounce && r->op == SFILE_READ && status == 0)
        iov_copy(r->iov, r->iovcnt, fl->bounce, false);
    free(fl->bounce);
    r->done(r, status);
}

static void start(struct sfile_req *r);

static void transferred(struct sfile_req *r, int64_t res)
{
    struct flight *fl = flight_of(r);
    if (res == -EINTR || res == -EAGAIN) {
        start(r);
        return;
    }
    if (res < 0) {
        finish(r, (int)-res);
        return;
    }
    if (res == 0 && r->op == SFILE_WRITE) {
        finish(r, EIO);
        return;
    }
    if (res == 0) { /* past the end */
        if (fl->bounce)
            memset((char *)fl->bounce + fl->moved, 0, r->length - fl->moved);
        else
            iov_zero(r->iov, r->iovcnt);
        finish(r, 0);
        return;
    }
    fl->moved += (uint64_t)res;
    if (fl->moved >= r->length) {
        finish(r, 0);
        return;
    }
    if (!fl->bounce)
        iov_skip(r, (uint64_t)res);
    start(r);
}

/* No punching or zeroing here: write zeroes. Rare enough to be done at once. */
static int zero_by_writing(struct hostfile *f, uint64_t off, uint64_t len)
{
    static const uint8_t zeroes[ZERO_CHUNK] __attribute__((aligned(4096)));
    while (len) {
        size_t n = MIN(len, sizeof zeroes);
        ssize_t w = pwrite(f->fd, zeroes, n, (off_t)off);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0)
            return w ? errno : EIO;
        off += (uint64_t)w;
        len -= (uint64_t)w;
    }
    return 0;
}

static void completed(struct aio_req *a, int64_t res)
{
    struct sfile_req *r = req_of(a);
    struct hostfile *f = (struct hostfile *)r->file;
    switch (r->op) {
    case SFILE_READ:
    case SFILE_WRITE: transferred(r, res); return;
    case SFILE_FLUSH: finish(r, (int)-res); return;
    case SFILE_PUNCH:
    case SFILE_ZERO:
        if (res == -EOPNOTSUPP || res == -EINVAL)
            res = -zero_by_writing(f, r->offset, r->length);
        if (res == -EINTR)
            start(r);
        else
            finish(r, (int)-res);
        return;
    }
}

static int fallocate_mode(enum sfile_op op)
{
    if (op == SFILE_PUNCH)
        return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
}

static void start(struct sfile_req *r)
{
    struct hostfile *f = (struct hostfile *)r->file;
    struct flight *fl = flight_of(r);
    struct aio_req *a = &fl->aio;
    a->slot = f->slot;
    a->done = completed;
    a->offset = r->offset + fl->moved;
    a->length = r->length - fl->moved;
    switch (r->op) {
    case SFILE_READ:
    case SFILE_WRITE:
        a->op = r->op == SFILE_READ ? AIO_READ : AIO_WRITE;
        a->iov = r->iov;
        a->iovcnt = r->iovcnt;
        if (fl->bounce) { /* its vector lies behind it in the same allocation */
            struct iovec *v = (struct iovec *)((char *)fl->bounce + align_up(r->length, 64));
            *v = (struct iovec){(char *)fl->bounce + fl->moved, r->length - fl->moved};
            a->iov = v;
            a->iovcnt = 1;
        }
        break;
    case SFILE_FLUSH: a->op = AIO_FSYNC; break;
    case SFILE_PUNCH:
    case SFILE_ZERO:
        a->op = AIO_FALLOCATE;
        a->mode = fallocate_mode(r->op);
        break;
    }
    aio_submit(f->aio, a);
}

static void refuse(void *ctx)
{
    struct sfile_req *r = ctx;
    r->done(r, ENOMEM);
}

static void host_submit(struct sfile *sf, struct sfile_req *r)
{
    struct hostfile *f = (struct hostfile *)sf;
    struct flight *fl = flight_of(r);
    memset(fl, 0, sizeof *fl);
    bool moves = r->op == SFILE_READ || r->op == SFILE_WRITE;
    if (moves && f->direct && !iov_aligned(r->iov, r->iovcnt)) {
        size_t len = align_up(r->length, 64) + sizeof(struct iovec);
        if (posix_memalign(&fl->bounce, MEM_ALIGN, len) != 0) {
            fl->bounce = NULL;
            if (!loop_call(f->aio->loop, refuse, r))
                abort(); /* not even a few bytes to say so: the host is out of memory */
            return;
        }
        if (r->op == SFILE_WRITE)
            iov_copy(r->iov, r->iovcnt, fl->bounce, true);
    }
    start(r);
}

/* ---- synchronous ---- */

static int whole_read(int fd, uint8_t *p, size_t len, uint64_t off)
{
    while (len) {
        ssize_t n = pread(fd, p, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0) {
            memset(p, 0, len);
            return 0;
        }
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int whole_write(int fd, const uint8_t *p, size_t len, uint64_t off)
{
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n ? errno : EIO;
        p += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static bool needs_bounce(const struct hostfile *f, uint64_t off, const void *buf, size_t len)
{
    return f->direct && ((uintptr_t)buf | off | len) % MEM_ALIGN;
}

static int host_read(struct sfile *sf, uint64_t off, void *buf, size_t len)
{
    struct hostfile *f = (struct hostfile *)sf;
    if (!needs_bounce(f, off, buf, len))
        return whole_read(f->fd, buf, len, off);
    uint64_t from = align_down(off, MEM_ALIGN), to = align_up(off + len, MEM_ALIGN);
    AUTO(buf) b = NULL;
    if (posix_memalign(&b, MEM_ALIGN, to - from) != 0) {
        b = NULL;
        return ENOMEM;
    }
    int rc = whole_read(f->fd, b, to - from, from);
    if (rc == 0)
        memcpy(buf, (char *)b + (off - from), len);
    return rc;
}

static int host_write(struct sfile *sf, uint64_t off, const void *buf, size_t len)
{
    struct hostfile *f = (struct hostfile *)sf;
    if (!needs_bounce(f, off, buf, len))
        return whole_write(f->fd, buf, len, off);
    AUTO(buf) b = NULL;
    if (posix_memalign(&b, MEM_ALIGN, align_up(len, 512)) != 0) {
        b = NULL;
        return ENOMEM;
    }
    memcpy(b, buf, len);
    return whole_write(f->fd, b, len, off);
}

static int host_flush(struct sfile *sf)
{
    return fdatasync(((struct hostfile *)sf)->fd) == 0 ? 0 : errno;
}

static int host_get_size(struct sfile *sf, uint64_t *size, uint64_t *allocated)
{
    struct hostfile *f = (struct hostfile *)sf;
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return errno;
    *size = (uint64_t)st.st_size;
    *allocated = (uint64_t)st.st_blocks * 512;
    if (S_ISBLK(st.st_mode)) {
        if (ioctl(f->fd, BLKGETSIZE64, size) < 0)
            return errno;
        *allocated = *size;
    }
    return 0;
}

static int host_set_size(struct sfile *sf, uint64_t size)
{
    struct hostfile *f = (struct hostfile *)sf;
    if (sf->is_device)
        return size <= sfile_size(sf) ? 0 : ENOSPC;
    if (size > INT64_MAX)
        return EFBIG;
    return ftruncate(f->fd, (off_t)size) == 0 ? 0 : errno;
}

static int host_fallocate(struct hostfile *f, enum sfile_op op, uint64_t off, uint64_t len)
{
    int rc;
    do
        rc = fallocate(f->fd, fallocate_mode(op), (off_t)off, (off_t)len);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != EINVAL)
        return errno;
    return zero_by_writing(f, off, len);
}

static int host_punch(struct sfile *sf, uint64_t off, uint64_t len)
{
    return host_fallocate((struct hostfile *)sf, SFILE_PUNCH, off, len);
}
static int host_zero(struct sfile *sf, uint64_t off, uint64_t len)
{
    return host_fallocate((struct hostfile *)sf, SFILE_ZERO, off, len);
}

static int host_reserve(struct sfile *sf, uint64_t off, uint64_t len)
{
    struct hostfile *f = (struct hostfile *)sf;
    int rc;
    do
        rc = fallocate(f->fd, 0, (off_t)off, (off_t)len);
    while (rc < 0 && errno == EINTR);
    return rc == 0 ? 0 : errno;
}

static int host_next_data(struct sfile *sf, uint64_t off, uint64_t *start_, uint64_t *end)
{
    struct hostfile *f = (struct hostfile *)sf;
    uint64_t size = sfile_size(sf);
    if (off >= size)
        return ENXIO;
    off_t d = sf->is_device ? (off_t)off : lseek(f->fd, (off_t)off, SEEK_DATA);
    if (d < 0 && errno == ENXIO)
        return ENXIO;
    if (d < 0) /* the file system cannot tell */
        d = (off_t)off;
    off_t h = sf->is_device ? -1 : lseek(f->fd, d, SEEK_HOLE);
    *start_ = (uint64_t)d;
    *end = h < 0 ? size : (uint64_t)h;
    return 0;
}

/*
 * Open file description locks on the bytes that QEMU's tools use (100: reads consistently, 101:
 * writes, 201: lets nobody else write), so that either side sees the other. A writer of ours holds
 * all of them exclusively.
 */
static int set_lock(int fd, short type, off_t at, off_t len)
{
    struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = len};
    int rc = fcntl(fd, F_OFD_SETLK, &fl) == 0 ? 0 : errno;
    return rc == EACCES ? EAGAIN : rc;
}

static int lock_shared(struct hostfile *f)
{
    int rc = set_lock(f->fd, F_UNLCK, 100, 200);
    if (rc == 0)
        rc = set_lock(f->fd, F_RDLCK, 100, 1);
    if (rc == 0)
        rc = set_lock(f->fd, F_RDLCK, 201, 1);
    struct flock other = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    if (rc == 0 && fcntl(f->fd, F_OFD_GETLK, &other) == 0 && other.l_type != F_UNLCK)
        rc = EAGAIN;
    return rc;
}

static int host_lock(struct sfile *sf, enum sfile_lock kind)
{
    struct hostfile *f = (struct hostfile *)sf;
    int rc;
    switch (kind) {
    case SFILE_UNLOCKED: return set_lock(f->fd, F_UNLCK, 100, 200);
    case SFILE_SHARED:
        rc = lock_shared(f);
        if (rc)
            set_lock(f->fd, F_UNLCK, 100, 200);
        break;
    default: rc = set_lock(f->fd, F_WRLCK, 100, 200); break;
    }
    return rc == ENOLCK || rc == EINVAL || rc == EOPNOTSUPP ? 0 : rc; /* no locks on this system */
}

static int host_identity(struct sfile *sf, uint64_t id[2])
{
    struct stat st;
    if (fstat(((struct hostfile *)sf)->fd, &st) < 0)
        return errno;
    id[0] = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
    id[1] = S_ISBLK(st.st_mode) ? 0 : st.st_ino;
    return 0;
}

static bool host_set_direct(struct sfile *sf, uint32_t unit)
{
    struct hostfile *f = (struct hostfile *)sf;
    struct statx sx;
    uint32_t want = 4096; /* what every device takes, where the kernel does not say */
#ifdef STATX_DIOALIGN
    if (statx(f->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 && (sx.stx_mask & STATX_DIOALIGN))
        want = sx.stx_dio_offset_align;
#else
    (void)sx;
#endif
    if (!want || want > unit)
        return false;
    int fl = fcntl(f->fd, F_GETFL);
    f->direct = fl >= 0 && fcntl(f->fd, F_SETFL, fl | O_DIRECT) == 0;
    return f->direct;
}

static void host_close(struct sfile *sf)
{
    struct hostfile *f = (struct hostfile *)sf;
    if (f->slot >= 0)
        f->aio->ops->remove_file(f->aio, f->slot);
    if (f->fd >= 0)
        close(f->fd);
    free(sf->name);
    free(f);
}

static const struct sfile_ops host_ops = {
    .submit = host_submit,
    .read = host_read,
    .write = host_write,
    .flush = host_flush,
    .get_size = host_get_size,
    .set_size = host_set_size,
    .punch = host_punch,
    .zero = host_zero,
    .reserve = host_reserve,
    .next_data = host_next_data,
    .lock = host_lock,
    .identity = host_identity,
    .set_direct = host_set_direct,
    .close = host_close,
};

struct sfile *hostfile_new(int fd, char *name, bool read_only, struct aio *a, err *e)
{
    struct hostfile *f = calloc(1, sizeof *f);
    struct stat st;
    if (!f) {
        close(fd);
        free(name);
        err_set(e, ERR_NO_MEMORY, "Not enough memory to open a disk");
        return NULL;
    }
    *f = (struct hostfile){.base = {.ops = &host_ops, .name = name, .read_only = read_only},
                           .aio = a,
                           .fd = fd,
                           .slot = -1};
    if (fstat(fd, &st) < 0) {
        err_errno(e, errno, "Could not look at %s", name);
        host_close(&f->base);
        return NULL;
    }
    f->base.is_device = S_ISBLK(st.st_mode);
    f->slot = a ? a->ops->add_file(a, fd) : -1;
    if (a && f->slot < 0) {
        err_errno(e, -f->slot, "Could not use %s for disk I/O", name);
        host_close(&f->base);
        return NULL;
    }
    return &f->base;
}

/* ---- source ---- */

struct host_source {
    const struct disk_opener *opener;
    struct aio *aio;
};

static struct sfile *source_open(void *ctx, const char *path, const char *referrer, unsigned flags,
                                 err *e)
{
    struct host_source *s = ctx;
    char *name = NULL;
    int fd = s->opener->open(s->opener->ctx, path, referrer, flags, &name, e);
    if (fd < 0) {
        free(name);
        return NULL;
    }
    return hostfile_new(fd, name, flags & DISK_OPEN_READ_ONLY, s->aio, e);
}

static void source_plug(void *ctx)
{
    aio_plug(((struct host_source *)ctx)->aio);
}
static void source_unplug(void *ctx)
{
    aio_unplug(((struct host_source *)ctx)->aio);
}
static void source_free(void *ctx)
{
    struct host_source *s = ctx;
    aio_free(s->aio);
    free(s);
}

bool hostfile_source(struct sfile_source *out, const struct disk_opener *o, struct loop *l,
                     bool threads_only, err *e)
{
    struct host_source *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open a disk");
    s->opener = o;
    s->aio = aio_new(l, threads_only, e);
    if (!s->aio) {
        free(s);
        return false;
    }
    *out = (struct sfile_source){.open = source_open,
                                 .plug = source_plug,
                                 .unplug = source_unplug,
                                 .free = source_free,
                                 .ctx = s};
    return true;
}

const char *hostfile_engine(const struct sfile_source *s)
{
    return ((struct host_source *)s->ctx)->aio->ops->name;
}
