/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A file in memory below a disk, for crash tests and fuzzers. It keeps every change since the last
 * flush, and can make the file as a power cut could have left it: of those changes each may be
 * there, missing, or (writes) there in some of its sectors, in any order.
 */
#ifndef VIREO_TESTS_CRASHFILE_H
#define VIREO_TESTS_CRASHFILE_H

#include "core/storage/disk-internal.h"

struct crashfile;

/* A store of files by name, to be used as a disk's source (which borrows it). */
struct crashstore {
    struct loop *loop;
    struct crashfile *files;
    uint64_t cut_after; /* operations that change or flush until `cut` is set; 0: never */
    uint64_t ops;
    bool cut;           /* everything fails from here on */
    bool forgetful;     /* no cuts will be played: what was flushed is not kept */
    bool deterministic; /* completions in the order of submission */
    uint64_t rng;
    void (*before_change)(struct crashstore *s); /* called before each change or flush */
    uint64_t max_size; /* files cannot grow beyond (ENOSPC); 0: no limit */
};

void crashstore_init(struct crashstore *s, struct loop *l, uint64_t seed);
void crashstore_clear(struct crashstore *s);
struct sfile_source crashstore_source(struct crashstore *s);
/* An empty file, or one of these bytes (copied). */
void crashstore_put(struct crashstore *s, const char *name, const void *data, uint64_t size);
/* The file as it reads now; may be changed by a forgetful store's owner. */
uint8_t *crashstore_get(struct crashstore *s, const char *name, uint64_t *size);
/* Opened for formatting; not locked. */
struct sfile *crashstore_open(struct crashstore *s, const char *name);
/* Every file of `from` as a power cut now could leave it, into `to`; `seed` chooses. */
void crashstore_crash(struct crashstore *from, struct crashstore *to, uint64_t seed);
struct disk *crashstore_disk(struct crashstore *s, const char *name, unsigned flags, err *e);

#endif
