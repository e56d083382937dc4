/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "crashfile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/bytes.h"

enum { SECTOR = 512 };
#define SPACE ((uint64_t)1 << 36) /* address space of one file */

enum change_kind { CHANGE_WRITE, CHANGE_ZERO, CHANGE_SIZE };
struct change {
    struct change *next;
    enum change_kind kind;
    uint64_t off, len;
    uint8_t *data;
};

struct pending {
    struct pending *next;
    struct sfile_req *req;
    int status;
};

struct crashfile {
    struct crashfile *next;
    char *name;
    uint8_t *now; /* as it reads */
    uint8_t *durable;
    uint64_t size, durable_size;
    struct change *changes, **tail;
};

struct handle {
    struct sfile base;
    struct crashstore *store;
    struct crashfile *file;
    struct pending *queue, **queue_tail;
    struct loop_post post;
};

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint8_t *space(void)
{
    void *p = mmap(NULL, SPACE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void zero_range(uint8_t *base, uint64_t off, uint64_t len)
{
    if (len > 65536) {
        uint64_t from = align_up(off, 4096), to = align_down(off + len, 4096);
        memset(base + off, 0, from - off);
        madvise(base + from, to - from, MADV_DONTNEED);
        memset(base + to, 0, off + len - to);
    } else {
        memset(base + off, 0, len);
    }
}

/* ---- what happens to a file ---- */

static void apply(uint8_t *base, uint64_t *size, const struct change *c, uint64_t from,
                  uint64_t len)
{
    switch (c->kind) {
    case CHANGE_WRITE:
        memcpy(base + c->off + from, c->data + from, len);
        *size = MAX(*size, c->off + from + len);
        break;
    case CHANGE_ZERO: zero_range(base, c->off + from, len); break;
    case CHANGE_SIZE:
        if (c->off < *size)
            zero_range(base, c->off, *size - c->off);
        *size = c->off;
        break;
    }
}

static int record(struct handle *h, enum change_kind kind, uint64_t off, const struct iovec *iov,
                  int n, uint64_t len)
{
    struct crashfile *f = h->file;
    struct crashstore *s = h->store;
    uint64_t end = kind == CHANGE_SIZE ? off : kind == CHANGE_WRITE ? off + len : 0;
    if (off > SPACE || len > SPACE - off)
        return EFBIG;
    if (s->max_size && end > s->max_size)
        return ENOSPC;
    if (s->forgetful) {
        uint64_t have = off < f->size ? MIN(len, f->size - off) : 0;
        if (kind == CHANGE_ZERO)
            zero_range(f->now, off, have);
        else if (kind == CHANGE_SIZE)
            apply(f->now, &f->size, &(struct change){.kind = kind, .off = off}, 0, 0);
        for (int i = 0; kind == CHANGE_WRITE && i < n; off += iov[i++].iov_len) {
            memcpy(f->now + off, iov[i].iov_base, iov[i].iov_len);
            f->size = MAX(f->size, off + iov[i].iov_len);
        }
        return 0;
    }
    struct change *c = calloc(1, sizeof *c);
    *c = (struct change){.kind = kind, .off = off, .len = len};
    if (kind == CHANGE_WRITE) {
        uint8_t *p = c->data = malloc(len ? len : 1);
        for (int i = 0; i < n; i++) {
            memcpy(p, iov[i].iov_base, iov[i].iov_len);
            p += iov[i].iov_len;
        }
    }
    if (kind == CHANGE_ZERO) /* never grows a file */
        c->len = off < f->size ? MIN(len, f->size - off) : 0;
    apply(f->now, &f->size, c, 0, c->len);
    *f->tail = c;
    f->tail = &c->next;
    return 0;
}

static void make_durable(struct crashfile *f)
{
    while (f->changes) {
        struct change *c = f->changes;
        f->changes = c->next;
        apply(f->durable, &f->durable_size, c, 0, c->len);
        free(c->data);
        free(c);
    }
    f->tail = &f->changes;
}

/* Counts an operation; true: the power is gone. */
static bool power_gone(struct crashstore *s)
{
    if (s->before_change)
        s->before_change(s);
    if (!s->cut && s->cut_after && s->ops++ >= s->cut_after)
        s->cut = true;
    return s->cut;
}

static void do_read(struct crashfile *f, uint64_t off, uint8_t *p, size_t len)
{
    uint64_t have = off < f->size ? MIN(len, f->size - off) : 0;
    memcpy(p, f->now + off, have);
    memset(p + have, 0, len - have);
}

static int perform(struct handle *h, struct sfile_req *r)
{
    uint64_t off = r->offset;
    if (r->op != SFILE_READ && power_gone(h->store))
        return EIO;
    switch (r->op) {
    case SFILE_READ:
        for (int i = 0; i < r->iovcnt; i++) {
            if (off > SPACE)
                return EIO;
            do_read(h->file, off, r->iov[i].iov_base, r->iov[i].iov_len);
            off += r->iov[i].iov_len;
        }
        return 0;
    case SFILE_WRITE: return record(h, CHANGE_WRITE, off, r->iov, r->iovcnt, r->length);
    case SFILE_FLUSH: make_durable(h->file); return 0;
    default: return record(h, CHANGE_ZERO, off, NULL, 0, r->length);
    }
}

/* ---- asynchronous: performed and told from the loop, in an order of chance ---- */

static void run_queue(void *ctx)
{
    struct handle *h = ctx;
    while (h->queue) {
        struct pending **at = &h->queue;
        if (!h->store->deterministic)
            while ((*at)->next && rnd(&h->store->rng) % 3 == 0)
                at = &(*at)->next;
        struct pending *p = *at;
        *at = p->next;
        if (!p->next)
            h->queue_tail = at;
        struct sfile_req *r = p->req;
        free(p);
        int status = perform(h, r);
        r->done(r, status);
    }
}

static void crash_submit(struct sfile *sf, struct sfile_req *r)
{
    struct handle *h = (struct handle *)sf;
    struct pending *p = calloc(1, sizeof *p);
    p->req = r;
    *h->queue_tail = p;
    h->queue_tail = &p->next;
    loop_post(h->store->loop, &h->post);
}

/* ---- synchronous ---- */

static int crash_read(struct sfile *sf, uint64_t off, void *buf, size_t len)
{
    if (off > SPACE || len > SPACE - off)
        return EIO;
    do_read(((struct handle *)sf)->file, off, buf, len);
    return 0;
}
static int crash_write(struct sfile *sf, uint64_t off, const void *buf, size_t len)
{
    struct handle *h = (struct handle *)sf;
    struct iovec v = {(void *)buf, len};
    return power_gone(h->store) ? EIO : record(h, CHANGE_WRITE, off, &v, 1, len);
}
static int crash_flush(struct sfile *sf)
{
    struct handle *h = (struct handle *)sf;
    if (power_gone(h->store))
        return EIO;
    make_durable(h->file);
    return 0;
}
static int crash_get_size(struct sfile *sf, uint64_t *size, uint64_t *allocated)
{
    *size = *allocated = ((struct handle *)sf)->file->size;
    return 0;
}
static int crash_set_size(struct sfile *sf, uint64_t size)
{
    struct handle *h = (struct handle *)sf;
    return power_gone(h->store) ? EIO : record(h, CHANGE_SIZE, size, NULL, 0, 0);
}
static int crash_zero(struct sfile *sf, uint64_t off, uint64_t len)
{
    struct handle *h = (struct handle *)sf;
    return power_gone(h->store) ? EIO : record(h, CHANGE_ZERO, off, NULL, 0, len);
}
static int crash_reserve(struct sfile *sf, uint64_t off, uint64_t len)
{
    return EOPNOTSUPP;
}
static int crash_next_data(struct sfile *sf, uint64_t off, uint64_t *start, uint64_t *end)
{
    struct handle *h = (struct handle *)sf;
    if (off >= h->file->size)
        return ENXIO;
    *start = off;
    *end = h->file->size;
    return 0;
}
static int crash_lock(struct sfile *sf, enum sfile_lock kind)
{
    return 0;
}
static int crash_identity(struct sfile *sf, uint64_t id[2])
{
    id[0] = 0;
    id[1] = (uintptr_t)((struct handle *)sf)->file;
    return 0;
}
static bool crash_set_direct(struct sfile *sf, uint32_t unit)
{
    return false;
}
static void crash_close(struct sfile *sf)
{
    struct handle *h = (struct handle *)sf;
    while (h->post.pending)
        loop_turn(h->store->loop, 0);
    free(sf->name);
    free(h);
}

static const struct sfile_ops crash_ops = {
    .submit = crash_submit,
    .read = crash_read,
    .write = crash_write,
    .flush = crash_flush,
    .get_size = crash_get_size,
    .set_size = crash_set_size,
    .punch = crash_zero,
    .zero = crash_zero,
    .reserve = crash_reserve,
    .next_data = crash_next_data,
    .lock = crash_lock,
    .identity = crash_identity,
    .set_direct = crash_set_direct,
    .close = crash_close,
};

/* ---- stores ---- */

void crashstore_init(struct crashstore *s, struct loop *l, uint64_t seed)
{
    *s = (struct crashstore){.loop = l, .rng = seed * 2 + 1};
}

static struct crashfile *find(struct crashstore *s, const char *name)
{
    const char *slash = strrchr(name, '/');
    struct crashfile *f = s->files;
    while (f && strcmp(f->name, slash ? slash + 1 : name))
        f = f->next;
    return f;
}

static struct crashfile *new_file(struct crashstore *s, const char *name)
{
    struct crashfile *f = calloc(1, sizeof *f);
    f->name = strdup(name);
    f->now = space();
    f->durable = s->forgetful ? NULL : space();
    f->tail = &f->changes;
    f->next = s->files;
    s->files = f;
    return f;
}

void crashstore_clear(struct crashstore *s)
{
    while (s->files) {
        struct crashfile *f = s->files;
        s->files = f->next;
        make_durable(f);
        munmap(f->now, SPACE);
        if (f->durable)
            munmap(f->durable, SPACE);
        free(f->name);
        free(f);
    }
}

void crashstore_put(struct crashstore *s, const char *name, const void *data, uint64_t size)
{
    struct crashfile *f = new_file(s, name);
    for (uint64_t off = 0; off < size; off += 4096) { /* pages of zeroes are there already */
        static const uint8_t zero[4096];
        uint64_t n = MIN(size - off, (uint64_t)4096);
        if (!memcmp((const uint8_t *)data + off, zero, n))
            continue;
        memcpy(f->now + off, (const uint8_t *)data + off, n);
        if (f->durable)
            memcpy(f->durable + off, (const uint8_t *)data + off, n);
    }
    f->size = f->durable_size = size;
}

uint8_t *crashstore_get(struct crashstore *s, const char *name, uint64_t *size)
{
    struct crashfile *f = find(s, name);
    *size = f->size;
    return f->now;
}

static struct sfile *open_handle(struct crashstore *s, struct crashfile *f, bool read_only)
{
    struct handle *h = calloc(1, sizeof *h);
    h->base = (struct sfile){.ops = &crash_ops, .name = strdup(f->name), .read_only = read_only};
    h->store = s;
    h->file = f;
    h->queue_tail = &h->queue;
    loop_post_init(&h->post, run_queue, h);
    return &h->base;
}

struct sfile *crashstore_open(struct crashstore *s, const char *name)
{
    struct crashfile *f = find(s, name);
    return open_handle(s, f ? f : new_file(s, name), false);
}

static struct sfile *source_open(void *ctx, const char *path, const char *referrer, unsigned flags,
                                 err *e)
{
    struct crashfile *f = find(ctx, path);
    if (f)
        return open_handle(ctx, f, flags & DISK_OPEN_READ_ONLY);
    err_set(e, ERR_NOT_FOUND, "%s is not there", path);
    return NULL;
}
static void nothing(void *ctx)
{
}

struct sfile_source crashstore_source(struct crashstore *s)
{
    return (struct sfile_source){
        .open = source_open, .plug = nothing, .unplug = nothing, .free = nothing, .ctx = s};
}

struct disk *crashstore_disk(struct crashstore *s, const char *name, unsigned flags, err *e)
{
    struct sfile_source src = crashstore_source(s);
    struct disk_open_params p = {.path = name, .flags = flags, .loop = s->loop};
    return disk_open_source(&p, &src, e);
}

/* ---- the power cut ---- */

static void copy_pages(uint8_t *to, const uint8_t *from, uint64_t size)
{
    enum { PAGE = 4096, RUN = 1024 };
    unsigned char in_core[RUN];
    for (uint64_t off = 0; off < size; off += (uint64_t)PAGE * RUN) {
        uint64_t len = MIN(align_up(size - off, PAGE), (uint64_t)PAGE * RUN);
        mincore((void *)(from + off), len, in_core);
        for (uint64_t i = 0; i < len / PAGE; i++)
            if (in_core[i] & 1)
                memcpy(to + off + i * PAGE, from + off + i * PAGE, PAGE);
    }
}

/* Changes of size are the file system's and happen in order; the rest at its own pleasure. */
static void crash_file(struct crashfile *f, struct crashstore *to, uint64_t *rng)
{
    struct crashfile *t = new_file(to, f->name);
    copy_pages(t->now, f->durable, f->durable_size);
    t->size = f->durable_size;
    unsigned style = (unsigned)(rnd(rng) % 4); /* keep all, none, a prefix, or any */
    size_t n = 0, keep;
    for (struct change *c = f->changes; c; c = c->next)
        n++;
    keep = n ? rnd(rng) % (n + 1) : 0;
    size_t i = 0;
    for (struct change *c = f->changes; c; c = c->next, i++) {
        bool in = style == 0 || (style == 2 && i < keep) || (style == 3 && rnd(rng) % 2);
        bool tear = style >= 2 && (style == 3 ? rnd(rng) % 3 == 0 : i == keep);
        if (c->kind != CHANGE_SIZE && tear && c->len) {
            for (uint64_t at = 0; at < c->len; at += SECTOR)
                if (rnd(rng) % 2)
                    apply(t->now, &t->size, c, at, MIN((uint64_t)SECTOR, c->len - at));
        } else if (in) {
            apply(t->now, &t->size, c, 0, c->len);
        }
    }
}

void crashstore_crash(struct crashstore *from, struct crashstore *to, uint64_t seed)
{
    uint64_t rng = seed * 0x9e3779b97f4a7c15u + 1;
    crashstore_init(to, from->loop, seed);
    to->forgetful = true;
    for (struct crashfile *f = from->files; f; f = f->next)
        crash_file(f, to, &rng);
}
