/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Space in an image's file: taken at its end, or where a TRIM of this session has left some. What
 * is handed out reads as zeroes. Thread: the loop's.
 */
#ifndef VIREO_STORAGE_SPACE_H
#define VIREO_STORAGE_SPACE_H

#include "core/storage/image.h"

enum { SPACE_MAX_NEW = 4096 };

/* Space that a TRIM has freed. It may be used again when the change is durable, no I/O that was
 * mapped before is in flight, and it reads as zeroes. */
struct space_range {
    uint64_t off, len, epoch;
    enum { FREE_NEW, FREE_COMMITTING, FREE_DURABLE, FREE_PUNCHING, FREE_READY } stage;
};

struct space {
    struct image *img;
    uint64_t file_size;
    uint64_t end;  /* allocations go here */
    uint32_t tail; /* bytes that the file has behind `end` */
    bool ahead;    /* the file may be larger than that: it is grown by a part of its size at once */
    bool reused;   /* since last reset: zeroes must be durable before anything points to them */
    struct space_range *frees;
    uint32_t nfrees, cap_frees;
    uint32_t nnew; /* ranges whose freeing is in no commit yet; callers stop at SPACE_MAX_NEW */
    unsigned punching;
    struct sfile_req punch;
};

/* 0 or an errno; *off is space of `len` bytes. */
int space_alloc(struct space *s, uint64_t len, uint64_t *off);
void space_free(struct space *s, uint64_t off, uint64_t len);
void space_commit(struct space *s);           /* a commit has begun ... */
void space_durable(struct space *s, bool ok); /* ... and ended */
void space_recycle(struct space *s);
void space_fini(struct space *s);

#endif
