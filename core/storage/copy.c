/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/copy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"

enum { SLOTS = 16, CHUNK = 1 << 20, GRAIN = 65536 };

struct slot {
    struct waiter wait; /* for a metadata page */
    struct disk_req req;
    struct copy *copy;
    struct iovec iov;
    uint8_t *buf;
    uint64_t off, len; /* the piece */
    uint64_t pos;      /* how far it has been looked at for zeroes */
    bool busy;
};

struct copy {
    struct copy_params p;
    uint64_t pos, finished;
    struct slot slots[SLOTS];
    uint8_t *memory;
    unsigned busy;
    int status;
    bool bad_read, flushing, looking;
    uint64_t bad_at;
    struct disk_req flush;
    struct loop_post kick;
    struct sfile *hole_file; /* [data_from, data_to) of it holds data, before that is a hole */
    uint64_t asked, data_from, data_to;
};

static void proceed(struct copy *c);

static void fail(struct copy *c, int status, bool reading, uint64_t at)
{
    if (c->status)
        return;
    c->status = status;
    c->bad_read = reading;
    c->bad_at = at;
}

static void release(struct slot *s)
{
    struct copy *c = s->copy;
    s->busy = false;
    c->busy--;
    c->finished += s->len;
    if (c->p.progress && !c->status)
        c->p.progress(c->p.ctx, c->finished, c->p.length);
    proceed(c);
}

/* ---- writing what was read, but for zeroes ---- */

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void write_next(struct slot *s);

static void written(struct disk_req *r, int status)
{
    struct slot *s = CONTAINER_OF(r, struct slot, req);
    if (status)
        fail(s->copy, status, false, r->offset);
    write_next(s);
}

static uint64_t grain_at(const struct slot *s, uint64_t pos)
{
    return MIN((uint64_t)GRAIN - (s->off + pos) % GRAIN, s->len - pos);
}

static void write_next(struct slot *s)
{
    struct copy *c = s->copy;
    if (c->p.target_is_zero)
        while (s->pos < s->len && is_zero(s->buf + s->pos, grain_at(s, s->pos)))
            s->pos += grain_at(s, s->pos);
    if (c->status || s->pos >= s->len) {
        release(s);
        return;
    }
    uint64_t from = s->pos;
    do
        s->pos += grain_at(s, s->pos);
    while (s->pos < s->len &&
           !(c->p.target_is_zero && is_zero(s->buf + s->pos, grain_at(s, s->pos))));
    s->iov = (struct iovec){s->buf + from, s->pos - from};
    s->req = (struct disk_req){.op = DISK_WRITE,
                               .offset = s->off + from,
                               .length = s->pos - from,
                               .iov = &s->iov,
                               .iovcnt = 1,
                               .done = written};
    disk_submit(c->p.to, &s->req);
}

static void was_read(struct disk_req *r, int status)
{
    struct slot *s = CONTAINER_OF(r, struct slot, req);
    if (status)
        fail(s->copy, status, true, r->offset);
    s->pos = 0;
    write_next(s);
}

static void start_read(struct slot *s, uint64_t off, uint64_t len)
{
    struct copy *c = s->copy;
    s->busy = true;
    c->busy++;
    s->off = off;
    s->len = len;
    s->iov = (struct iovec){s->buf, len};
    s->req = (struct disk_req){.op = DISK_READ,
                               .offset = off,
                               .length = len,
                               .iov = &s->iov,
                               .iovcnt = 1,
                               .done = was_read};
    disk_submit(c->p.from, &s->req);
}

static void start_zero(struct slot *s, uint64_t off, uint64_t len)
{
    struct copy *c = s->copy;
    s->busy = true;
    c->busy++;
    s->off = off;
    s->len = s->pos = len;
    s->req = (struct disk_req){.op = DISK_WRITE_ZEROES,
                               .flags = DISK_REQ_UNMAP,
                               .offset = off,
                               .length = len,
                               .done = written};
    disk_submit(c->p.to, &s->req);
}

/* ---- finding out what there is to copy ---- */

/* A file's hole at the place of DATA reads as zeroes; *len is cut to one kind. */
static bool in_hole(struct copy *c, struct image *img, uint64_t at, uint64_t *len)
{
    struct sfile *f = img->file;
    if (c->hole_file != f || at < c->asked || at >= c->data_to) {
        uint64_t from, to;
        int rc = f->ops->next_data(f, at, &from, &to);
        if (rc == ENXIO)
            from = to = UINT64_MAX;
        else if (rc)
            return false;
        c->hole_file = f;
        c->asked = at;
        c->data_from = from;
        c->data_to = to;
    }
    bool hole = at < c->data_from;
    *len = MIN(*len, (hole ? c->data_from : c->data_to) - at);
    return hole;
}

/* Looks along the chain for what is at c->pos. */
static enum map_kind look(struct copy *c, struct map *m, struct image **which)
{
    struct image *img = c->p.from->top;
    m->len = c->p.length - c->pos;
    for (;;) {
        enum map_kind k = img->ops->map(img, c->pos, m);
        *which = img;
        if (k != MAP_PARENT || c->p.layer)
            return k;
        img = img->parent;
        if (!img || c->pos >= img->size)
            return MAP_ZERO;
        m->len = MIN(m->len, img->size - c->pos);
    }
}

static void page_there(struct waiter *w, int status)
{
    struct slot *s = CONTAINER_OF(w, struct slot, wait);
    struct copy *c = s->copy;
    s->busy = false;
    c->looking = false;
    c->busy--;
    if (status)
        fail(c, status, true, c->pos);
    proceed(c);
}

static void wait_for_page(struct slot *s, struct image *img, uint64_t page)
{
    struct copy *c = s->copy;
    s->busy = c->looking = true;
    c->busy++;
    s->wait.fn = page_there;
    int rc = meta_wait(&img->meta, page, &s->wait);
    if (rc)
        page_there(&s->wait, rc);
}

/* Zeroes and what is not of this layer are passed over in whole grains, so that small ones are
 * copied with their neighbours; a layer's extents are copied exactly. */
static void skip(struct copy *c, uint64_t len)
{
    c->pos += len;
    c->finished += len;
}

static void next_piece(struct copy *c, struct slot *s)
{
    struct map m;
    struct image *img;
    enum map_kind k = look(c, &m, &img);
    uint64_t to_grain = CHUNK - c->pos % CHUNK;
    if (k == MAP_LOAD) {
        wait_for_page(s, img, m.at);
        return;
    }
    if (k == MAP_ERROR || k == MAP_WAIT) {
        fail(c, k == MAP_ERROR ? (int)m.at : EIO, true, c->pos);
        return;
    }
    if (k == MAP_DATA && in_hole(c, img, m.at, &m.len))
        k = MAP_ZERO;
    if (k == MAP_PARENT) {
        skip(c, m.len);
        return;
    }
    if (c->p.layer) {
        uint64_t len = k == MAP_DATA ? MIN(m.len, to_grain) : m.len;
        if (k == MAP_DATA)
            start_read(s, c->pos, len);
        else
            start_zero(s, c->pos, len);
        c->pos += len;
        return;
    }
    uint64_t end = c->pos + m.len;
    uint64_t whole = end == c->p.length ? end : align_down(end, GRAIN);
    if (k == MAP_ZERO && whole > c->pos) {
        if (c->p.target_is_zero) {
            skip(c, whole - c->pos);
            return;
        }
        start_zero(s, c->pos, whole - c->pos);
        c->pos = whole;
        return;
    }
    /* Data: up to where it ends, in whole grains, and at least one. */
    uint64_t stop = k == MAP_DATA ? align_up(end, GRAIN) : align_down(c->pos, GRAIN) + GRAIN;
    stop = MIN(stop, c->p.length);
    uint64_t len = MIN(stop - c->pos, to_grain);
    start_read(s, c->pos, len);
    c->pos += len;
}

static void flushed(struct disk_req *r, int status)
{
    struct copy *c = CONTAINER_OF(r, struct copy, flush);
    if (status)
        fail(c, status, false, 0);
    c->p.done(c->p.ctx, c->status, c->bad_read, c->bad_at);
}

/* Keeps the slots busy. Called from completions, and from the loop at first. */
static void proceed(struct copy *c)
{
    disk_plug(c->p.to);
    disk_plug(c->p.from);
    for (int i = 0; i < SLOTS; i++)
        while (!c->slots[i].busy && !c->looking && !c->status && c->pos < c->p.length)
            next_piece(c, &c->slots[i]);
    disk_unplug(c->p.from);
    disk_unplug(c->p.to);
    if (c->busy || c->flushing || (!c->status && c->pos < c->p.length))
        return;
    c->flushing = true;
    c->flush = (struct disk_req){.op = DISK_FLUSH, .done = flushed};
    disk_submit(c->p.to, &c->flush);
}

static void begin(void *ctx)
{
    proceed(ctx);
}

struct copy *copy_start(const struct copy_params *p, err *e)
{
    struct copy *c = calloc(1, sizeof *c);
    if (c && posix_memalign((void **)&c->memory, 4096, (size_t)SLOTS * CHUNK) != 0) {
        free(c);
        c = NULL;
    }
    if (!c) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to copy a disk");
        return NULL;
    }
    c->p = *p;
    for (int i = 0; i < SLOTS; i++) {
        c->slots[i].copy = c;
        c->slots[i].buf = c->memory + (size_t)i * CHUNK;
    }
    loop_post_init(&c->kick, begin, c);
    loop_post(p->to->loop, &c->kick);
    return c;
}

void copy_cancel(struct copy *c)
{
    fail(c, ECANCELED, false, c->pos);
}

void copy_free(struct copy *c)
{
    if (!c)
        return;
    free(c->memory);
    free(c);
}

/* ---- to the end ---- */

struct running {
    const struct disk_progress *progress;
    struct copy *copy;
    bool done, reading;
    int status;
    uint64_t at;
};

static void run_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct running *r = ctx;
    if (r->progress && r->progress->fn && !r->progress->fn(r->progress->ctx, done, total))
        copy_cancel(r->copy);
}
static void run_done(void *ctx, int status, bool reading, uint64_t at)
{
    struct running *r = ctx;
    r->status = status;
    r->reading = reading;
    r->at = at;
    r->done = true;
}

bool copy_run(struct copy_params *p, const struct disk_progress *progress, err *e)
{
    struct running r = {.progress = progress};
    struct disk *bad;
    p->progress = run_progress;
    p->done = run_done;
    p->ctx = &r;
    r.copy = copy_start(p, e);
    if (!r.copy)
        return false;
    while (!r.done)
        loop_turn(p->to->loop, -1);
    copy_free(r.copy);
    bad = r.reading ? p->from : p->to;
    if (r.status == ECANCELED)
        return err_set(e, ERR_CANCELLED, "Cancelled");
    return !r.status ||
           err_errno(e, r.status, "Could not %s %s at byte %llu", r.reading ? "read" : "write",
                     bad->top->file->name, (unsigned long long)r.at);
}
