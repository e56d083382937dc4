/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The request engine: cuts requests at the borders that the layers' maps give, moves the bytes. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/storage/copy.h"

enum { KEEP_FREE_SUBS = 64 };

static void advance(struct dio *q);

/* ---- lists ---- */

static void append(struct dio ***tail, struct dio *q)
{
    q->qnext = NULL;
    **tail = q;
    *tail = &q->qnext;
}

/* ---- the end of a request ---- */

static void check_drained(struct disk *d)
{
    if (!d->paused || d->nin_flight || d->holding)
        return;
    if (d->drained_fn) {
        void (*fn)(void *ctx) = d->drained_fn;
        d->drained_fn = NULL;
        fn(d->drained_ctx);
    } else if (d->holds && (d->paused == d->nholds || d->closing)) {
        d->holding = true;
        d->holds->begin(d->holds);
    }
}

static void tell(struct dio *q)
{
    struct disk *d = q->disk;
    struct disk_req *r = q->req;
    int status = q->status;
    d->nin_flight--;
    free(q);
    r->done(r, status);
    check_drained(d);
}

void disk_tell_deferred(void *ctx)
{
    struct disk *d = ctx;
    struct dio *q = d->deferred;
    d->deferred = NULL;
    d->deferred_tail = &d->deferred;
    while (q) {
        struct dio *next = q->qnext;
        tell(q);
        q = next;
    }
}

/* `done` is never called from within disk_submit. */
static void finish(struct dio *q)
{
    struct disk *d = q->disk;
    if (!d->in_submit) {
        tell(q);
        return;
    }
    append(&d->deferred_tail, q);
    loop_post(d->loop, &d->deferred_post);
}

void disk_release_flushes(struct disk *d)
{
    struct dio *q = d->held;
    d->hold_flushes = false;
    d->held = NULL;
    d->held_tail = &d->held;
    d->in_submit++;
    while (q) {
        struct dio *next = q->qnext;
        finish(q);
        q = next;
    }
    d->in_submit--;
}

/* ---- flushing: every layer that has something, from the top down ---- */

static void flush_step(struct dio *q);

static void flushed(struct waiter *w, int status)
{
    struct dio *q = CONTAINER_OF(w, struct dio, wait);
    if (status && !q->status)
        q->status = status;
    q->flush_at = q->flush_at->parent;
    flush_step(q);
}

static void flush_step(struct dio *q)
{
    while (q->flush_at && (!image_needs_flush(q->flush_at) ||
                           (q->flush_at->background && q->flush_at != q->disk->top)))
        q->flush_at = q->flush_at->parent;
    if (q->flush_at) {
        q->wait.fn = flushed;
        image_flush(q->flush_at, &q->wait);
    } else if (q->disk->hold_flushes && !q->status) {
        append(&q->disk->held_tail, q);
    } else {
        finish(q);
    }
}

/* ---- a merge of the top layer follows what is changed ---- */

static void moved_all(struct dio *q);

static void followed(struct copy_redo *r, int status)
{
    struct dio *q = CONTAINER_OF(r, struct dio, redo);
    if (status && !q->status)
        q->status = status;
    moved_all(q);
}

/* Even a change that failed may have changed something. */
static bool follow(struct dio *q)
{
    struct disk_req *r = q->req;
    if (!q->disk->mirror || q->mirrored || q->pos == r->offset || r->op == DISK_READ ||
        r->op == DISK_FLUSH)
        return false;
    q->mirrored = true;
    q->redo = (struct copy_redo){.range = {.pos = r->offset, .end = q->pos}, .done = followed};
    copy_again(q->disk->mirror, &q->redo);
    return true;
}

static void moved_all(struct dio *q)
{
    if (follow(q))
        return;
    bool fua = q->req->op != DISK_READ && (q->req->flags & DISK_REQ_FUA);
    if (q->status || !(fua || q->req->op == DISK_FLUSH)) {
        finish(q);
        return;
    }
    q->flushing = true;
    q->flush_at = q->disk->top;
    flush_step(q);
}

/* ---- pieces ---- */

static struct sub *sub_new(struct dio *q)
{
    struct disk *d = q->disk;
    struct sub *s = d->free_subs;
    if (s) {
        d->free_subs = s->next_free;
        d->nfree_subs--;
        return s;
    }
    return malloc(sizeof *s);
}

static void sub_free(struct disk *d, struct sub *s)
{
    if (d->nfree_subs >= KEEP_FREE_SUBS) {
        free(s);
        return;
    }
    s->next_free = d->free_subs;
    d->free_subs = s;
    d->nfree_subs++;
}

static void iov_advance(struct dio *q, uint64_t n)
{
    while (n) {
        uint64_t k = MIN(n, q->iov->iov_len - q->iov_off);
        q->iov_off += k;
        n -= k;
        if (q->iov_off == q->iov->iov_len && q->iov_left > 1) {
            q->iov++;
            q->iov_left--;
            q->iov_off = 0;
        }
    }
}

/* Fills s->iov for up to `len` bytes; returns how many fit, in whole sectors of 512. */
static uint64_t iov_slice(struct dio *q, struct sub *s, uint64_t len)
{
    uint64_t got = 0;
    int n = 0, left = q->iov_left;
    const struct iovec *v = q->iov;
    size_t off = q->iov_off;
    while (got < len && n < DISK_SUB_IOVS && left) {
        size_t k = MIN(len - got, v->iov_len - off);
        if (k)
            s->iov[n++] = (struct iovec){(char *)v->iov_base + off, k};
        got += k;
        v++;
        left--;
        off = 0;
    }
    for (uint64_t cut = got % 512; cut;) { /* only when the vectors ran out inside a sector */
        uint64_t k = MIN(cut, s->iov[n - 1].iov_len);
        s->iov[n - 1].iov_len -= k;
        cut -= k;
        got -= k;
        n -= s->iov[n - 1].iov_len == 0;
    }
    s->io.iovcnt = n;
    return got;
}

static void zero_fill(struct dio *q, uint64_t len)
{
    while (len) {
        uint64_t k = MIN(len, q->iov->iov_len - q->iov_off);
        memset((char *)q->iov->iov_base + q->iov_off, 0, k);
        iov_advance(q, k);
        len -= k;
    }
}

static void settle(struct dio *q)
{
    if (!q->pending && !q->parked)
        moved_all(q);
}

static void piece_done(struct sfile_req *r, int status)
{
    struct sub *s = CONTAINER_OF(r, struct sub, io);
    struct dio *q = s->dio;
    if (r->op != SFILE_READ)
        s->img->unflushed = true;
    image_io_end(s->img, s->parity);
    if (s->pin)
        s->img->ops->wrote(s->img, s->off, r->length, s->pin, status == 0);
    if (status && !q->status)
        q->status = status;
    sub_free(q->disk, s);
    q->pending--;
    if (q->pos < q->end && !q->status && !q->parked)
        advance(q);
    else
        settle(q);
}

static void unparked(struct waiter *w, int status)
{
    struct dio *q = CONTAINER_OF(w, struct dio, wait);
    q->parked = false;
    if (status && !q->status)
        q->status = status;
    advance(q);
}

static void park_for_page(struct dio *q, struct image *img, uint64_t page)
{
    q->parked = true;
    q->wait.fn = unparked;
    int rc = meta_wait(&img->meta, page, &q->wait);
    if (rc) {
        q->parked = false;
        q->status = rc;
    }
}

static void park_for_image(struct dio *q, struct image *img)
{
    q->parked = true;
    q->wait.fn = unparked;
    image_wait(img, &q->wait);
}

static void issue(struct dio *q, struct image *img, enum sfile_op op, struct map *m)
{
    struct sub *s = sub_new(q);
    if (!s) {
        q->status = ENOMEM;
        if (m->pin)
            img->ops->wrote(img, q->pos, m->len, m->pin, false);
        return;
    }
    bool moves = op == SFILE_READ || op == SFILE_WRITE;
    uint64_t len = m->len;
    if (moves) {
        len = iov_slice(q, s, len);
        if (!len) { /* more than DISK_SUB_IOVS vectors for one sector */
            q->status = EINVAL;
            if (m->pin)
                img->ops->wrote(img, q->pos, m->len, m->pin, false);
            sub_free(q->disk, s);
            return;
        }
        iov_advance(q, len);
    }
    s->io.op = op;
    s->io.offset = m->at;
    s->io.length = len;
    s->io.iov = s->iov;
    s->io.done = piece_done;
    s->dio = q;
    s->img = img;
    s->pin = m->pin;
    s->off = q->pos;
    s->parity = image_io_begin(img);
    q->pending++;
    q->pos += len;
    sfile_submit(img->file, &s->io);
}

/* ---- steps: one piece each ---- */

/* What the chain says about the bytes at `off`; *which is the layer that said it. */
static enum map_kind chain_map(struct image *img, uint64_t off, struct map *m, struct image **which)
{
    for (;;) {
        enum map_kind k = img->ops->map(img, off, m);
        *which = img;
        if (k != MAP_PARENT)
            return k;
        img = img->parent;
        if (!img || off >= img->size)
            return MAP_ZERO;
        m->len = MIN(m->len, img->size - off);
    }
}

static void step_read(struct dio *q)
{
    struct map m = {.len = q->end - q->pos};
    struct image *img;
    switch (chain_map(q->disk->top, q->pos, &m, &img)) {
    case MAP_DATA: issue(q, img, SFILE_READ, &m); break;
    case MAP_LOAD: park_for_page(q, img, m.at); break;
    case MAP_WAIT: park_for_image(q, img); break;
    case MAP_ERROR: q->status = (int)m.at; break;
    default:
        zero_fill(q, m.len);
        q->pos += m.len;
        break;
    }
}

static void step_change(struct dio *q)
{
    struct map m = {.len = q->end - q->pos};
    struct image *img = q->disk->top;
    bool write = q->req->op == DISK_WRITE, discard = q->req->op == DISK_DISCARD;
    bool unmap = discard || (q->req->flags & DISK_REQ_UNMAP);
    enum map_kind k = write ? img->ops->map_write(img, q->pos, &m)
                            : img->ops->map_zero(img, q->pos, unmap, discard, &m);
    switch (k) {
    case MAP_DATA:
        issue(q, img,
              write                           ? SFILE_WRITE
              : unmap && !img->keep_allocated ? SFILE_PUNCH
                                              : SFILE_ZERO,
              &m);
        break;
    case MAP_LOAD: park_for_page(q, img, m.at); break;
    case MAP_WAIT: park_for_image(q, img); break;
    case MAP_ERROR: q->status = (int)m.at; break;
    default: q->pos += m.len; break;
    }
}

static void advance(struct dio *q)
{
    struct disk *d = q->disk;
    q->pending++;
    d->source.plug(d->source.ctx);
    while (!q->status && !q->parked && q->pos < q->end && q->pending <= DISK_SUBS_PER_REQ) {
        if (q->req->op == DISK_READ)
            step_read(q);
        else
            step_change(q);
    }
    d->source.unplug(d->source.ctx);
    q->pending--;
    settle(q);
}

/* ---- submission ---- */

static int validate(const struct disk *d, const struct disk_req *r)
{
    const struct image *top = d->top;
    if (r->op == DISK_FLUSH)
        return 0;
    if (!range_within(r->offset, r->length, top->size) ||
        (r->offset | r->length) % top->logical_sector)
        return EINVAL;
    if (r->op != DISK_READ && top->read_only)
        return EROFS;
    if (r->op != DISK_READ && r->op != DISK_WRITE)
        return 0;
    uint64_t sum = 0;
    for (int i = 0; i < r->iovcnt; i++)
        if (!checked_add(sum, r->iov[i].iov_len, &sum))
            return EINVAL;
    return sum == r->length ? 0 : EINVAL;
}

void disk_begin(struct dio *q)
{
    struct disk *d = q->disk;
    struct disk_req *r = q->req;
    d->nin_flight++;
    q->status = validate(d, r);
    q->pos = r->op == DISK_FLUSH ? 0 : r->offset;
    q->end = q->pos + (r->op == DISK_FLUSH ? 0 : r->length);
    q->iov = r->iov;
    q->iov_left = r->iovcnt;
    advance(q);
}

static void refuse(void *ctx)
{
    struct disk_req *r = ctx;
    r->done(r, ENOMEM);
}

void disk_submit(struct disk *d, struct disk_req *r)
{
    struct dio *q = calloc(1, sizeof *q);
    if (!q) {
        if (!loop_call(d->loop, refuse, r))
            abort(); /* not even a few bytes to say so: the host is out of memory */
        return;
    }
    q->disk = d;
    q->req = r;
    d->nrequests++;
    if (d->paused) {
        append(&d->queue_tail, q);
        return;
    }
    d->in_submit++;
    disk_begin(q);
    d->in_submit--;
}

/* ---- pausing ---- */

void disk_pause(struct disk *d, void (*drained)(void *ctx), void *ctx)
{
    d->paused++;
    d->drained_fn = drained;
    d->drained_ctx = ctx;
    check_drained(d);
}

void disk_hold(struct disk *d, struct hold *h)
{
    h->next = NULL;
    *d->holds_tail = h;
    d->holds_tail = &h->next;
    d->nholds++;
    d->paused++;
    check_drained(d);
}

void disk_unhold(struct disk *d)
{
    d->holds = d->holds->next;
    if (!d->holds)
        d->holds_tail = &d->holds;
    d->nholds--;
    d->holding = false;
    disk_resume(d);
}

void disk_resume(struct disk *d)
{
    if (--d->paused) {
        check_drained(d);
        return;
    }
    struct dio *q = d->queue;
    d->queue = NULL;
    d->queue_tail = &d->queue;
    d->in_submit++;
    while (q) {
        struct dio *next = q->qnext;
        disk_begin(q);
        q = next;
    }
    d->in_submit--;
}

unsigned disk_in_flight(const struct disk *d)
{
    unsigned n = d->nin_flight;
    for (const struct dio *q = d->queue; q; q = q->qnext)
        n++;
    return n;
}

void disk_plug(struct disk *d)
{
    d->source.plug(d->source.ctx);
}
void disk_unplug(struct disk *d)
{
    d->source.unplug(d->source.ctx);
}

/* ---- for tools and tests ---- */

struct sync_req {
    struct disk_req req;
    bool done;
    int status;
};
static void sync_done(struct disk_req *r, int status)
{
    struct sync_req *s = CONTAINER_OF(r, struct sync_req, req);
    s->status = status;
    s->done = true;
}

static int run_sync(struct disk *d, struct disk_req r)
{
    struct sync_req s = {.req = r};
    s.req.done = sync_done;
    disk_submit(d, &s.req);
    while (!s.done)
        loop_turn(d->loop, -1);
    return s.status;
}

int disk_read_sync(struct disk *d, uint64_t offset, void *buf, size_t len)
{
    struct iovec v = {buf, len};
    return run_sync(d,
                    (struct disk_req){
                        .op = DISK_READ, .offset = offset, .length = len, .iov = &v, .iovcnt = 1});
}
int disk_write_sync(struct disk *d, uint64_t offset, const void *buf, size_t len)
{
    struct iovec v = {(void *)buf, len};
    return run_sync(d,
                    (struct disk_req){
                        .op = DISK_WRITE, .offset = offset, .length = len, .iov = &v, .iovcnt = 1});
}
int disk_flush_sync(struct disk *d)
{
    return run_sync(d, (struct disk_req){.op = DISK_FLUSH});
}
int disk_discard_sync(struct disk *d, uint64_t offset, uint64_t len)
{
    return run_sync(d, (struct disk_req){.op = DISK_DISCARD, .offset = offset, .length = len});
}
int disk_zero_sync(struct disk *d, uint64_t offset, uint64_t len, bool unmap)
{
    return run_sync(d, (struct disk_req){.op = DISK_WRITE_ZEROES,
                                         .flags = unmap ? DISK_REQ_UNMAP : 0,
                                         .offset = offset,
                                         .length = len});
}
