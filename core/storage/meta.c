/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/meta.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"

void waiters_add(struct waiter **list, struct waiter *w)
{
    w->next = NULL;
    while (*list)
        list = &(*list)->next;
    *list = w;
}

void waiters_wake(struct waiter **list, int status)
{
    struct waiter *w = *list;
    *list = NULL;
    while (w) {
        struct waiter *next = w->next;
        w->fn(w, status);
        w = next;
    }
}

bool meta_init(struct meta *m, struct sfile *file, uint32_t page_size, uint32_t limit)
{
    *m = (struct meta){.file = file, .page_size = page_size, .limit = limit, .nbuckets = 1024};
    m->lru.lru_next = m->lru.lru_prev = &m->lru;
    m->buckets = calloc(m->nbuckets, sizeof *m->buckets);
    return m->buckets != NULL;
}

static struct meta_page **bucket(struct meta *m, uint64_t off)
{
    uint64_t n = off / m->page_size;
    return &m->buckets[(n * 0x9e3779b97f4a7c15u >> 32) % m->nbuckets];
}

static void lru_remove(struct meta_page *p)
{
    p->lru_prev->lru_next = p->lru_next;
    p->lru_next->lru_prev = p->lru_prev;
}
static void lru_push(struct meta *m, struct meta_page *p)
{
    p->lru_next = m->lru.lru_next;
    p->lru_prev = &m->lru;
    m->lru.lru_next->lru_prev = p;
    m->lru.lru_next = p;
}

static void drop(struct meta *m, struct meta_page *p)
{
    struct meta_page **at = bucket(m, p->off);
    while (*at != p)
        at = &(*at)->hash_next;
    *at = p->hash_next;
    lru_remove(p);
    m->count--;
    free(p->data);
    free(p);
}

void meta_destroy(struct meta *m)
{
    while (m->buckets && m->lru.lru_next != &m->lru)
        drop(m, m->lru.lru_next);
    free(m->buckets);
    m->buckets = NULL;
}

static bool droppable(const struct meta_page *p)
{
    return !p->pins && !p->dirty && !p->overlay && p->ready;
}

static void evict(struct meta *m)
{
    struct meta_page *p = m->lru.lru_prev;
    /* What cannot leave is few (see the images' limits on dirty pages), so the walk is short. */
    while (m->count > m->limit && p != &m->lru) {
        struct meta_page *prev = p->lru_prev;
        if (droppable(p))
            drop(m, p);
        p = prev;
    }
}

void meta_forget(struct meta *m)
{
    for (struct meta_page *p = m->lru.lru_prev, *prev; p != &m->lru; p = prev) {
        prev = p->lru_prev;
        if (droppable(p))
            drop(m, p);
    }
}

static struct meta_page *find(struct meta *m, uint64_t off)
{
    struct meta_page *p = *bucket(m, off);
    while (p && p->off != off)
        p = p->hash_next;
    return p;
}

struct meta_page *meta_peek(struct meta *m, uint64_t off)
{
    struct meta_page *p = find(m, off);
    if (!p || !p->ready)
        return NULL;
    if (m->lru.lru_next != p) {
        lru_remove(p);
        lru_push(m, p);
    }
    return p;
}

static struct meta_page *add(struct meta *m, uint64_t off)
{
    struct meta_page *p = calloc(1, sizeof *p);
    void *data = NULL;
    if (!p || posix_memalign(&data, MAX(m->page_size, 512u), m->page_size) != 0) {
        free(p);
        return NULL;
    }
    evict(m);
    *p = (struct meta_page){.off = off, .data = data, .meta = m};
    struct meta_page **at = bucket(m, off);
    p->hash_next = *at;
    *at = p;
    lru_push(m, p);
    m->count++;
    return p;
}

static void loaded(struct sfile_req *r, int status)
{
    struct meta_page *p = CONTAINER_OF(r, struct meta_page, io);
    struct meta *m = p->meta;
    struct waiter *w = TAKE(p->waiters);
    m->loading--;
    if (status)
        drop(m, p);
    else
        p->ready = true;
    waiters_wake(&w, status);
}

int meta_wait(struct meta *m, uint64_t off, struct waiter *w)
{
    struct meta_page *p = find(m, off);
    if (!p) {
        p = add(m, off);
        if (!p)
            return ENOMEM;
        p->iov = (struct iovec){p->data, m->page_size};
        p->io = (struct sfile_req){.op = SFILE_READ,
                                   .offset = off,
                                   .length = m->page_size,
                                   .iov = &p->iov,
                                   .iovcnt = 1,
                                   .done = loaded};
        m->loading++;
        waiters_add(&p->waiters, w);
        sfile_submit(m->file, &p->io);
        return 0;
    }
    waiters_add(&p->waiters, w);
    return 0;
}

struct meta_page *meta_get(struct meta *m, uint64_t off, int *status)
{
    struct meta_page *p = meta_peek(m, off);
    if (p)
        return p;
    p = find(m, off) ? NULL : add(m, off);
    if (!p) {
        *status = ENOMEM;
        return NULL;
    }
    *status = sfile_read(m->file, off, p->data, m->page_size);
    if (*status) {
        drop(m, p);
        return NULL;
    }
    p->ready = true;
    return p;
}

struct meta_page *meta_fresh(struct meta *m, uint64_t off)
{
    struct meta_page *p = meta_peek(m, off);
    if (!p)
        p = find(m, off) ? NULL : add(m, off);
    if (!p)
        return NULL;
    memset(p->data, 0, m->page_size);
    p->ready = true;
    return p;
}

void meta_dirty(struct meta *m, struct meta_page *p)
{
    if (p->dirty)
        return;
    p->dirty = true;
    p->dirty_next = m->dirty;
    m->dirty = p;
    m->ndirty++;
}

struct meta_page *meta_take_dirty(struct meta *m)
{
    struct meta_page *out = NULL;
    while (m->dirty) {
        struct meta_page *p = m->dirty;
        m->dirty = p->dirty_next;
        p->taken_next = out;
        p->dirty = false;
        meta_pin(p);
        out = p;
    }
    m->ndirty = 0;
    return out;
}

void meta_drop_overlay(struct meta *m)
{
    for (struct meta_page *p = m->lru.lru_next; p != &m->lru; p = p->lru_next)
        p->overlay = false;
}
