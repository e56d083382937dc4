/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A cache of an image's metadata in pages: block allocation table, sector bitmaps, metadata items.
 * Pages are loaded on demand, so that the memory in use depends on what is touched and not on how
 * large the image is. A page that is pinned or dirty stays; the others leave, oldest use first.
 * Thread: the loop's.
 */
#ifndef VIREO_STORAGE_META_H
#define VIREO_STORAGE_META_H

#include <stdbool.h>
#include <stdint.h>

#include "core/storage/sfile.h"

/* Someone who waits; embedded in its owner, called once. */
struct waiter {
    struct waiter *next;
    void (*fn)(struct waiter *w, int status);
};
/* Calls and empties a list; those who wait again during the calls are left for the next time. */
void waiters_wake(struct waiter **list, int status);
/* Appends, so that the order of waiting is the order of waking. */
void waiters_add(struct waiter **list, struct waiter *w);

struct meta;

struct meta_page {
    uint64_t off; /* in the file, a multiple of the page size */
    uint8_t *data;
    unsigned pins;
    bool dirty, ready, overlay;
    struct waiter *waiters;
    struct meta_page *hash_next;
    struct meta_page *lru_prev, *lru_next;
    struct meta_page *dirty_next;
    struct meta_page *taken_next; /* see meta_take_dirty */
    struct meta *meta;
    struct sfile_req io;
    struct iovec iov;
};

struct meta {
    struct sfile *file;
    uint32_t page_size;
    uint32_t limit; /* pages to keep */
    uint32_t count, nbuckets;
    struct meta_page **buckets;
    struct meta_page lru;    /* head of a ring: next is the most recently used */
    struct meta_page *dirty; /* in the order of becoming dirty, newest first */
    uint32_t ndirty;
    unsigned loading;
};

/* `file` is borrowed. False: no memory. */
bool meta_init(struct meta *m, struct sfile *file, uint32_t page_size, uint32_t limit);
/* Nothing may be loading. Dirty pages are dropped. */
void meta_destroy(struct meta *m);

/* The page at `off` if it is in memory, else NULL. Good until control returns to the loop, or for
 * as long as it is pinned. */
struct meta_page *meta_peek(struct meta *m, uint64_t off);
/* Calls `w` when the page is there (or could not be read or held: status is an errno). Never calls
 * it from within. */
int meta_wait(struct meta *m, uint64_t off, struct waiter *w);
/* As peek, reading the file at once if need be; NULL and *status otherwise. */
struct meta_page *meta_get(struct meta *m, uint64_t off, int *status);
/* A page whose bytes are known without reading: zeroes. For space that was just made. */
struct meta_page *meta_fresh(struct meta *m, uint64_t off);

static inline void meta_pin(struct meta_page *p)
{
    p->pins++;
}
static inline void meta_unpin(struct meta_page *p)
{
    p->pins--;
}
/* To be called after a page's bytes were changed. */
void meta_dirty(struct meta *m, struct meta_page *p);
/* Takes the dirty pages, each pinned and clean now, linked by taken_next, oldest first. */
struct meta_page *meta_take_dirty(struct meta *m);
/* Drops every page that is clean and not pinned, so that the file is read again. */
void meta_forget(struct meta *m);

/* The file says now what the overlay said: its pages are as the others. */
void meta_drop_overlay(struct meta *m);

#endif
