/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Memory images: what a machine's RAM holds, in a folder as two files,
 *     ID.ram   page N of the RAM at byte N * 4096; sparse, uncompressed, so that it can be mapped
 *     ID.map   (core/base/state.h) which pages it has, and a checksum for every 256 of them
 * Pages are counted over all regions of RAM in the order of their addresses. A page is zero, in the
 * file, or as in the image below (the parent), whose regions are the first of this one's.
 *
 * Writing is in two parts, because what is written is frozen by fork: memfile_writer_new makes and
 * maps all that is needed; memfile_writer_run, perhaps in the child, calls only what is safe there.
 * Maps are hostile input; a .ram file is checked by memfile_check alone, being mapped lazily.
 */
#ifndef VIREO_MACHINE_MEMFILE_H
#define VIREO_MACHINE_MEMFILE_H

#include "core/base/cleanup.h"
#include "core/base/guid.h"
#include "core/hv/memory.h"

enum { MEMFILE_PAGE = 4096, MEMFILE_CHUNK = 256, MEMFILE_REGIONS = 64, MEMFILE_DEPTH = 16 };

/* ---- reading ---- */

struct memfile;

/* Opens the image and those below it. NULL on error. */
struct memfile *memfile_open(const char *folder, const struct guid *id, err *e);
void memfile_close(struct memfile *m);
AUTO_DEFINE(memfile, struct memfile *, memfile_close)

struct memfile_region {
    uint64_t gpa, size;
};
unsigned memfile_regions(const struct memfile *m, struct memfile_region out[MEMFILE_REGIONS]);
unsigned memfile_depth(const struct memfile *m); /* images below it */
/* Zero: none. */
struct guid memfile_parent(const struct memfile *m);
uint64_t memfile_stored(const struct memfile *m); /* pages in its own file */

/* Maps the RAM of `mem`, which must have the image's regions, from the files. */
bool memfile_map(const struct memfile *m, struct hv_memory *mem, err *e);
/* Compares the pages of its own file, not those below it, with their checksums. `go_on` may be
 * NULL; false cancels. */
bool memfile_check(const struct memfile *m, bool (*go_on)(void *ctx, uint64_t done, uint64_t total),
                   void *ctx, err *e);
/* The parent that a map names, without opening the images: for finding what is still needed. */
bool memfile_read_parent(const char *folder, const struct guid *id, struct guid *parent, err *e);
/* The map's bytes alone, for fuzzing: NULL if they are damaged. */
struct memfile *memfile_parse(const uint8_t *data, size_t len, err *e);

/* ---- writing ---- */

struct memfile_writer;

/* `below` may be NULL: then every page that is not zero is stored. It is used only where its
 * regions fit and it is not too deep. Borrowed until the writer is freed. */
struct memfile_writer *memfile_writer_new(const char *folder, const struct guid *id,
                                          struct hv_memory *mem, const struct memfile *below,
                                          err *e);
/* Writes what the memory holds now, and syncs. 0, or an errno. Allocates nothing, locks nothing. */
int memfile_writer_run(struct memfile_writer *w);
/* The descriptor that the child must keep. */
int memfile_writer_fd(const struct memfile_writer *w);
/* Any process that shares it: how far it is, 0..1; cancel makes run return ECANCELED soon. */
double memfile_writer_progress(const struct memfile_writer *w);
void memfile_writer_cancel(struct memfile_writer *w);
/* After run succeeded (here or in the child): writes the map. */
bool memfile_writer_commit(struct memfile_writer *w, err *e);
uint64_t memfile_writer_stored(const struct memfile_writer *w); /* pages */
/* Removes the files unless committed. NULL is allowed. */
void memfile_writer_free(struct memfile_writer *w);
AUTO_DEFINE(memfile_writer, struct memfile_writer *, memfile_writer_free)

#endif
