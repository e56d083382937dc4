/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between memfile.c and memwrite.c. */
#ifndef VIREO_MACHINE_MEMFILE_INT_H
#define VIREO_MACHINE_MEMFILE_INT_H

#include "core/base/state.h"
#include "core/machine/memfile.h"

#define MEMFILE_SECTION_HEAD STATE_ID('M', 'E', 'M', 'H')
#define MEMFILE_SECTION_CHUNKS STATE_ID('M', 'E', 'M', 'C')
enum {
    MEMFILE_TAG_PAGES = 1,
    MEMFILE_TAG_PARENT = 2,
    MEMFILE_TAG_REGIONS = 3,
    MEMFILE_TAG_CHUNKS = 1,
    MEMFILE_VERSION = 1,
    MEMFILE_SECTION_MAX = 4096, /* chunks in one section */
};
#define MEMFILE_MAX_PAGES (UINT64_C(1) << 28) /* 1 TiB */

enum memfile_kind { MEMFILE_ZERO, MEMFILE_DATA, MEMFILE_BELOW };

/* As it is in the map: 64 + 4 bytes little-endian. */
struct memfile_chunk {
    uint8_t kinds[MEMFILE_CHUNK / 4]; /* two bits a page, the first page lowest */
    uint32_t crc;                     /* of the DATA pages, one after the other */
};
_Static_assert(sizeof(struct memfile_chunk) == 68, "no padding in a chunk");

struct memfile {
    struct guid id, below_id;
    int fd; /* -1: parsed alone */
    uint64_t pages;
    struct memfile_region region[MEMFILE_REGIONS];
    unsigned nregions;
    struct memfile_chunk *chunk;
    uint64_t nchunks;
    struct memfile *below;
};

static inline enum memfile_kind memfile_kind(const struct memfile_chunk *c, unsigned page)
{
    return (enum memfile_kind)(c->kinds[page / 4] >> page % 4 * 2 & 3);
}

static inline void memfile_set_kind(struct memfile_chunk *c, unsigned page, enum memfile_kind k)
{
    c->kinds[page / 4] = (uint8_t)(c->kinds[page / 4] | (unsigned)k << page % 4 * 2);
}

/* Runs of pages whose contents come from one file (holes included), in order: `from` is it. */
typedef bool memfile_run_fn(void *ctx, uint64_t first, uint64_t count, const struct memfile *from,
                            err *e);
bool memfile_each_run(const struct memfile *m, memfile_run_fn *fn, void *ctx, err *e);

char *memfile_name(const char *folder, const struct guid *id, const char *ending, err *e);

#endif
