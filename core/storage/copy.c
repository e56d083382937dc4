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
    struct copy_range *range; /* that the piece is of */
    struct iovec iov;
    uint8_t *buf;
    uint64_t off, len; /* the piece */
    uint64_t pos;      /* how far it has been looked at for zeroes */
    bool busy;
};

struct copy {
    struct copy_params p;
    struct copy_range all;
    struct copy_redo *redos; /* oldest first */
    uint64_t finished;
    uint64_t moved; /* since `passed` was called */
    struct slot slots[SLOTS];
    uint8_t *memory;
    unsigned busy;
    int status;
    bool bad_read, flushing, synced, passing, ended;
    bool proceeding, more;
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

/* Once in step, a failure is that of the change which is being followed. */
static void piece_failed(struct slot *s, int status, bool reading, uint64_t at)
{
    if (s->copy->synced)
        CONTAINER_OF(s->range, struct copy_redo, range)->status = status;
    else
        fail(s->copy, status, reading, at);
}

static void take_slot(struct slot *s, struct copy_range *r)
{
    s->busy = true;
    s->range = r;
    s->copy->busy++;
    r->busy++;
}

static void give_slot(struct slot *s)
{
    s->busy = false;
    s->copy->busy--;
    s->range->busy--;
}

static void told(struct copy *c, const struct copy_range *r, uint64_t len)
{
    if (r == &c->all)
        c->finished += len;
}

static void release(struct slot *s)
{
    struct copy *c = s->copy;
    give_slot(s);
    told(c, s->range, s->len);
    if (s->range == &c->all && s->req.op != DISK_WRITE_ZEROES)
        c->moved += s->len;
    if (c->p.progress && !c->status && s->range == &c->all)
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
        piece_failed(s, status, false, r->offset);
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
    s->pos = 0;
    if (status) {
        piece_failed(s, status, true, r->offset);
        s->pos = s->len;
    }
    write_next(s);
}

static void start_read(struct slot *s, struct copy_range *r, uint64_t len)
{
    take_slot(s, r);
    s->off = r->pos;
    s->len = len;
    s->iov = (struct iovec){s->buf, len};
    s->req = (struct disk_req){.op = DISK_READ,
                               .offset = s->off,
                               .length = len,
                               .iov = &s->iov,
                               .iovcnt = 1,
                               .done = was_read};
    r->pos += len;
    disk_submit(s->copy->p.from, &s->req);
}

static void start_zero(struct slot *s, struct copy_range *r, uint64_t len)
{
    take_slot(s, r);
    s->off = r->pos;
    s->len = s->pos = len;
    s->req = (struct disk_req){.op = DISK_WRITE_ZEROES,
                               .flags = DISK_REQ_UNMAP,
                               .offset = s->off,
                               .length = len,
                               .done = written};
    r->pos += len;
    disk_submit(s->copy->p.to, &s->req);
}

/* ---- finding out what there is to copy ---- */

/* A file's hole at the place of DATA reads as zeroes; *len is cut to one kind. Not of a live
 * source: what is a hole now may be written the next moment. */
static bool in_hole(struct copy *c, struct image *img, uint64_t at, uint64_t *len)
{
    struct sfile *f = img->file;
    if (c->p.live)
        return false;
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

/* Looks along the chain for what is at r->pos. */
static enum map_kind look(struct copy *c, const struct copy_range *r, struct map *m,
                          struct image **which)
{
    struct image *img = c->p.from->top;
    m->len = r->end - r->pos;
    for (;;) {
        enum map_kind k = img->ops->map(img, r->pos, m);
        *which = img;
        if (k != MAP_PARENT || c->p.layer)
            return k;
        img = img->parent;
        if (!img || r->pos >= img->size)
            return MAP_ZERO;
        m->len = MIN(m->len, img->size - r->pos);
    }
}

static void page_there(struct waiter *w, int status)
{
    struct slot *s = CONTAINER_OF(w, struct slot, wait);
    struct copy *c = s->copy;
    give_slot(s);
    s->range->looking = false;
    if (status) {
        piece_failed(s, status, true, s->range->pos);
        s->range->pos = s->range->end;
    }
    proceed(c);
}

static void wait_for_page(struct slot *s, struct copy_range *r, struct image *img, uint64_t page)
{
    take_slot(s, r);
    r->looking = true;
    s->off = s->len = 0;
    s->wait.fn = page_there;
    int rc = meta_wait(&img->meta, page, &s->wait);
    if (rc)
        page_there(&s->wait, rc);
}

/* Zeroes and what is not of this layer are passed over in whole grains, so that small ones are
 * copied with their neighbours; a layer's extents are copied exactly. */
static void skip(struct copy *c, struct copy_range *r, uint64_t len)
{
    r->pos += len;
    told(c, r, len);
}

static void next_of_layer(struct slot *s, struct copy_range *r, enum map_kind k, uint64_t len)
{
    if (k == MAP_DATA)
        start_read(s, r, MIN(len, CHUNK - r->pos % CHUNK));
    else
        start_zero(s, r, len);
}

static void next_of_all(struct copy *c, struct slot *s, struct copy_range *r, enum map_kind k,
                        uint64_t len)
{
    uint64_t end = r->pos + len;
    uint64_t whole = end == r->end ? end : align_down(end, GRAIN);
    if (k == MAP_ZERO && whole > r->pos) {
        if (c->p.target_is_zero)
            skip(c, r, whole - r->pos);
        else
            start_zero(s, r, whole - r->pos);
        return;
    }
    /* Data: up to where it ends, in whole grains, and at least one. */
    uint64_t stop = k == MAP_DATA ? align_up(end, GRAIN) : align_down(r->pos, GRAIN) + GRAIN;
    stop = MIN(stop, r->end);
    start_read(s, r, MIN(stop - r->pos, CHUNK - r->pos % CHUNK));
}

static void next_piece(struct copy *c, struct slot *s, struct copy_range *r)
{
    struct map m;
    struct image *img;
    enum map_kind k = look(c, r, &m, &img);
    switch (k) {
    case MAP_LOAD: wait_for_page(s, r, img, m.at); return;
    case MAP_PARENT: skip(c, r, m.len); return;
    case MAP_ERROR:
    case MAP_WAIT:
        s->range = r;
        piece_failed(s, k == MAP_ERROR ? (int)m.at : EIO, true, r->pos);
        r->pos = r->end;
        return;
    default: break;
    }
    if (k == MAP_DATA && in_hole(c, img, m.at, &m.len))
        k = MAP_ZERO;
    if (c->p.layer)
        next_of_layer(s, r, k, m.len);
    else
        next_of_all(c, s, r, k, m.len);
}

/* ---- keeping the slots busy ---- */

/* Pieces of one place follow each other: what was read first must not be written last. */
static bool in_flight(const struct copy *c, const struct copy_range *r)
{
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *s = &c->slots[i];
        if (s->busy && s->off < r->end && r->pos < s->off + s->len)
            return true;
    }
    return false;
}

/* Not too far ahead of what is known to be passed. */
static bool must_wait(const struct copy *c, const struct copy_range *r)
{
    return r->looking || (r == &c->all && c->passing && c->moved >= c->p.pass_step);
}

static void advance(struct copy *c, struct copy_range *r)
{
    for (int i = 0; i < SLOTS; i++)
        while (!c->slots[i].busy && !must_wait(c, r) && !c->status && r->pos < r->end)
            next_piece(c, &c->slots[i], r);
}

static bool redo_ended(const struct copy *c, const struct copy_redo *r)
{
    return !r->range.busy && (c->status || r->range.pos >= r->range.end);
}

/* Takes the first that has ended off the list. */
static struct copy_redo *take_ended(struct copy *c)
{
    for (struct copy_redo **at = &c->redos; *at; at = &(*at)->next) {
        struct copy_redo *r = *at;
        if (!redo_ended(c, r))
            continue;
        *at = r->next;
        return r;
    }
    return NULL;
}

static void round_of_pieces(struct copy *c)
{
    disk_plug(c->p.to);
    disk_plug(c->p.from);
    for (struct copy_redo *r = c->redos; r; r = r->next)
        if (r->range.busy || !in_flight(c, &r->range))
            advance(c, &r->range);
    advance(c, &c->all);
    disk_unplug(c->p.from);
    disk_unplug(c->p.to);
    struct copy_redo *r;
    while ((r = take_ended(c)))
        r->done(r, r->status);
}

static void flushed(struct disk_req *r, int status)
{
    struct copy *c = CONTAINER_OF(r, struct copy, flush);
    c->flushing = false;
    if (status)
        fail(c, status, false, 0);
    else
        c->synced = true;
    if (c->synced && c->p.live && c->p.synced && !c->status)
        c->p.synced(c->p.ctx);
    proceed(c);
}

/* From here on whoever flushes flushes the target too, so that with the end of this flush all that
 * was ever acknowledged is durable there. */
static void flush_target(struct copy *c)
{
    c->p.to->top->background = false;
    c->flushing = true;
    c->flush = (struct disk_req){.op = DISK_FLUSH, .done = flushed};
    disk_submit(c->p.to, &c->flush);
}

/* Before this everything is done. */
static uint64_t all_before(const struct copy *c)
{
    uint64_t to = c->all.pos;
    for (int i = 0; i < SLOTS; i++) {
        const struct slot *s = &c->slots[i];
        if (s->busy && s->range == &c->all && s->len)
            to = MIN(to, s->off);
    }
    return to;
}

static void tell_passed(struct copy *c)
{
    if (!c->p.passed || c->passing || c->status || c->flushing || c->synced ||
        c->moved < c->p.pass_step)
        return;
    c->moved = 0;
    c->passing = true;
    c->p.passed(c->p.ctx, all_before(c));
}

void copy_passed(struct copy *c)
{
    c->passing = false;
    loop_post(c->p.to->loop, &c->kick);
}

static void end_if_done(struct copy *c)
{
    if (c->passing || c->flushing || c->ended || c->kick.pending)
        return;
    if (!c->status && !c->synced) {
        if (c->all.pos >= c->all.end && !c->all.busy)
            flush_target(c);
        return;
    }
    if (c->busy || c->redos || (c->p.live && !c->status))
        return;
    c->ended = true;
    c->p.to->top->background = false;
    c->p.done(c->p.ctx, c->status, c->bad_read, c->bad_at);
}

/* Called from completions, and from the loop at first. */
static void proceed(struct copy *c)
{
    c->more = true;
    if (c->proceeding)
        return;
    c->proceeding = true;
    while (c->more) {
        c->more = false;
        round_of_pieces(c);
    }
    c->proceeding = false;
    tell_passed(c);
    end_if_done(c);
}

void copy_again(struct copy *c, struct copy_redo *r)
{
    /* What was not reached yet will be copied as it is then. */
    r->range.end = MIN(r->range.end, c->all.pos);
    r->range.busy = 0;
    r->range.looking = false;
    r->status = 0;
    r->next = NULL;
    if (c->status || c->ended || r->range.pos >= r->range.end) {
        r->done(r, 0);
        return;
    }
    struct copy_redo **at = &c->redos;
    while (*at)
        at = &(*at)->next;
    *at = r;
    proceed(c);
}

void copy_finish(struct copy *c)
{
    c->p.live = false;
    loop_post(c->p.to->loop, &c->kick);
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
    c->all.end = p->length;
    p->to->top->background = p->layer;
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
    if (c->ended)
        return;
    fail(c, ECANCELED, false, c->all.pos);
    loop_post(c->p.to->loop, &c->kick);
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
