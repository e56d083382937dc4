/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory images: reading, mapping, checking. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/machine/memfile-int.h"
#include "core/machine/storefs.h"

enum {
    MAX_MAP_BYTES = 64 << 20,
    MAX_MAPPINGS = 10000, /* of the 65530 that the kernel allows a process */
};

static bool damaged(err *e, const char *why)
{
    return err_set(e, ERR_CORRUPT, "The saved memory's map is damaged: %s", why);
}

char *memfile_name(const char *folder, const struct guid *id, const char *ending, err *e)
{
    char text[GUID_STR_LEN + 1];
    char *path = NULL;
    guid_format(id, text);
    if (asprintf(&path, "%s/%s%s", folder, text, ending) >= 0)
        return path;
    err_set(e, ERR_NO_MEMORY, "Not enough memory");
    return NULL;
}

/* ---- the map ---- */

static bool read_regions(struct memfile *m, const struct state_field_view *f, err *e)
{
    uint64_t end = 0, pages = 0;
    if (f->len % 16 || f->len == 0 || f->len / 16 > MEMFILE_REGIONS)
        return damaged(e, "its list of regions");
    for (unsigned i = 0; i < f->len / 16; i++) {
        struct memfile_region r = {get_le64(f->data + i * 16), get_le64(f->data + i * 16 + 8)};
        if (r.gpa < end || r.gpa % MEMFILE_PAGE || !r.size || r.size % MEMFILE_PAGE ||
            r.gpa > UINT64_C(1) << 52 || r.size > UINT64_C(1) << 52)
            return damaged(e, "a region's place");
        end = r.gpa + r.size;
        pages += r.size / MEMFILE_PAGE;
        m->region[m->nregions++] = r;
    }
    m->pages = pages;
    return pages <= MEMFILE_MAX_PAGES || damaged(e, "it is too large");
}

static bool read_head(struct memfile *m, const struct state_reader *r, err *e)
{
    struct state_section s;
    struct state_field_view f;
    size_t pos = 0;
    err why = ERR_INIT;
    uint64_t said = 0;
    if (!state_find(r, MEMFILE_SECTION_HEAD, 0, &s, e))
        return false;
    if (s.least_reader > MEMFILE_VERSION)
        return err_set(e, ERR_UNSUPPORTED, "The saved memory was written by a newer Vireo");
    while (state_field_next(&s, &pos, &f, &why)) {
        if (f.tag == MEMFILE_TAG_PAGES && f.len == 8)
            said = get_le64(f.data);
        else if (f.tag == MEMFILE_TAG_PARENT && f.len == sizeof m->below_id)
            memcpy(m->below_id.b, f.data, f.len);
        else if (f.tag == MEMFILE_TAG_REGIONS && (m->nregions || !read_regions(m, &f, e)))
            return m->nregions ? damaged(e, "two lists of regions") : false;
        else if (f.flags & STATE_REQUIRED && f.tag > MEMFILE_TAG_REGIONS)
            return err_set(e, ERR_UNSUPPORTED, "The saved memory was written by a newer Vireo");
    }
    if (why.code != ERR_NONE)
        return damaged(e, why.text);
    return (m->nregions && said == m->pages) || damaged(e, "its size");
}

static bool check_chunk(const struct memfile *m, uint64_t at, err *e)
{
    const struct memfile_chunk *c = &m->chunk[at];
    for (unsigned i = 0; i < MEMFILE_CHUNK; i++) {
        unsigned k = memfile_kind(c, i);
        if (k > MEMFILE_BELOW || (k && at * MEMFILE_CHUNK + i >= m->pages) ||
            (k == MEMFILE_BELOW && guid_is_zero(&m->below_id)))
            return damaged(e, "a page's kind");
    }
    return true;
}

static bool read_chunks(struct memfile *m, const struct state_reader *r, err *e)
{
    m->nchunks = (m->pages + MEMFILE_CHUNK - 1) / MEMFILE_CHUNK;
    m->chunk = calloc(m->nchunks, sizeof *m->chunk);
    if (!m->chunk)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory for the saved memory's map");
    for (uint64_t done = 0, part = 0; done < m->nchunks; part++) {
        struct state_section s;
        struct state_field_view f;
        size_t pos = 0;
        uint64_t n = MIN(m->nchunks - done, (uint64_t)MEMFILE_SECTION_MAX);
        if (!state_find(r, MEMFILE_SECTION_CHUNKS, (uint32_t)part, &s, e))
            return false;
        if (!state_field_next(&s, &pos, &f, NULL) || f.tag != MEMFILE_TAG_CHUNKS ||
            f.len != n * sizeof *m->chunk)
            return damaged(e, "its list of pages");
        memcpy(m->chunk + done, f.data, f.len);
        done += n;
    }
    for (uint64_t i = 0; i < m->nchunks; i++)
        if (!check_chunk(m, i, e))
            return false;
    return true;
}

struct memfile *memfile_parse(const uint8_t *data, size_t len, err *e)
{
    struct state_reader r = {.data = data, .len = len};
    AUTO(memfile) m = calloc(1, sizeof *m);
    if (!m) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the saved memory's map");
        return NULL;
    }
    m->fd = -1;
    /* The chunks must be there before room is made for what the header says. */
    return read_head(m, &r, e) &&
                   (len / sizeof(struct memfile_chunk) >= m->pages / MEMFILE_CHUNK ||
                    damaged(e, "it is cut short")) &&
                   read_chunks(m, &r, e)
               ? TAKE(m)
               : NULL;
}

void memfile_close(struct memfile *m)
{
    while (m) {
        struct memfile *below = m->below;
        auto_close(m->fd);
        free(m->chunk);
        free(m);
        m = below;
    }
}

/* ---- files ---- */

static struct memfile *read_map(int folder, const struct guid *id, err *e)
{
    char name[GUID_STR_LEN + 8];
    size_t len = 0;
    guid_format(id, name);
    strcat(name, ".map");
    AUTO(str) data = storefs_read(folder, name, MAX_MAP_BYTES, &len, e);
    struct memfile *m = data ? memfile_parse((const uint8_t *)data, len, e) : NULL;
    if (m)
        m->id = *id;
    return m;
}

static bool open_ram(struct memfile *m, int folder, err *e)
{
    char name[GUID_STR_LEN + 8];
    struct stat st;
    guid_format(&m->id, name);
    strcat(name, ".ram");
    m->fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (m->fd < 0 || fstat(m->fd, &st) != 0)
        return err_errno(e, errno, "The saved memory %s cannot be opened", name);
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != m->pages * MEMFILE_PAGE)
        return err_set(e, ERR_CORRUPT, "The saved memory %s has not the size that its map says",
                       name);
    return true;
}

/* Whether every region of `below` is the same in `m`. */
static bool regions_fit(const struct memfile *m, const struct memfile *below)
{
    if (below->nregions > m->nregions)
        return false;
    return memcmp(m->region, below->region, below->nregions * sizeof m->region[0]) == 0;
}

static struct memfile *open_image(int folder, const struct guid *id, unsigned depth, err *e)
{
    AUTO(memfile) m = read_map(folder, id, e);
    if (!m || !open_ram(m, folder, e))
        return NULL;
    if (guid_is_zero(&m->below_id))
        return TAKE(m);
    if (depth == MEMFILE_DEPTH) {
        err_set(e, ERR_CORRUPT, "The saved memory lies over too many others");
        return NULL;
    }
    m->below = open_image(folder, &m->below_id, depth + 1, e);
    if (m->below && !regions_fit(m, m->below)) {
        damaged(e, "it does not fit the one below it");
        return NULL;
    }
    return m->below ? TAKE(m) : NULL;
}

struct memfile *memfile_open(const char *folder, const struct guid *id, err *e)
{
    AUTO(fd) fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        err_errno(e, errno, "The folder %s cannot be opened", folder);
        return NULL;
    }
    return open_image(fd, id, 0, e);
}

bool memfile_read_parent(const char *folder, const struct guid *id, struct guid *parent, err *e)
{
    AUTO(fd) fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, errno, "The folder %s cannot be opened", folder);
    AUTO(memfile) m = read_map(fd, id, e);
    if (m)
        *parent = m->below_id;
    return m != NULL;
}

unsigned memfile_regions(const struct memfile *m, struct memfile_region out[MEMFILE_REGIONS])
{
    memcpy(out, m->region, m->nregions * sizeof out[0]);
    return m->nregions;
}

unsigned memfile_depth(const struct memfile *m)
{
    unsigned n = 0;
    while ((m = m->below))
        n++;
    return n;
}

struct guid memfile_parent(const struct memfile *m)
{
    return m->below_id;
}

uint64_t memfile_stored(const struct memfile *m)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < m->pages; i++)
        n += memfile_kind(&m->chunk[i / MEMFILE_CHUNK], i % MEMFILE_CHUNK) == MEMFILE_DATA;
    return n;
}

/* ---- runs ---- */

static const struct memfile *owner(const struct memfile *m, uint64_t page)
{
    while (m->below &&
           memfile_kind(&m->chunk[page / MEMFILE_CHUNK], page % MEMFILE_CHUNK) == MEMFILE_BELOW) {
        if (page >= m->below->pages)
            break; /* added later: a hole of ours */
        m = m->below;
    }
    return m;
}

bool memfile_each_run(const struct memfile *m, memfile_run_fn *fn, void *ctx, err *e)
{
    uint64_t first = 0;
    const struct memfile *from = NULL;
    for (uint64_t i = 0; i < m->pages; i++) {
        const struct memfile *o = m->below ? owner(m, i) : m;
        if (o == from)
            continue;
        if (from && !fn(ctx, first, i - first, from, e))
            return false;
        first = i;
        from = o;
    }
    return !from || fn(ctx, first, m->pages - first, from, e);
}

/* ---- mapping ---- */

struct mapping {
    const struct memfile *m;
    struct hv_memory *mem;
    uint64_t least; /* shorter runs are copied */
    uint64_t count; /* runs of at least that length */
    void *buf;
};

static bool count_run(void *ctx, uint64_t first, uint64_t count, const struct memfile *from, err *e)
{
    struct mapping *g = ctx;
    g->count += count >= g->least;
    return true;
}

/* A file's pages into memory; short. */
static bool copy_pages(struct mapping *g, uint64_t gpa, uint64_t first, uint64_t count,
                       const struct memfile *from, err *e)
{
    for (uint64_t i = 0; i < count; i++) {
        if (pread(from->fd, g->buf, MEMFILE_PAGE, (off_t)((first + i) * MEMFILE_PAGE)) !=
            MEMFILE_PAGE)
            return err_errno(e, errno ? errno : EIO, "Reading saved memory");
        if (!hv_memory_load(g->mem, gpa + i * MEMFILE_PAGE, g->buf, MEMFILE_PAGE))
            return err_set(e, ERR_CORRUPT, "The saved memory does not fit the machine");
    }
    return true;
}

/* One run, cut at the regions. */
static bool map_run(void *ctx, uint64_t first, uint64_t count, const struct memfile *from, err *e)
{
    struct mapping *g = ctx;
    uint64_t base = 0; /* the region's first page */
    for (unsigned i = 0; i < g->m->nregions && count; i++) {
        const struct memfile_region *r = &g->m->region[i];
        uint64_t pages = r->size / MEMFILE_PAGE;
        if (first < base + pages) {
            uint64_t n = MIN(count, base + pages - first);
            uint64_t gpa = r->gpa + (first - base) * MEMFILE_PAGE;
            bool ok = count < g->least ? copy_pages(g, gpa, first, n, from, e)
                                       : hv_memory_map_file(g->mem, gpa, n * MEMFILE_PAGE, from->fd,
                                                            first * MEMFILE_PAGE, e);
            if (!ok)
                return false;
            first += n;
            count -= n;
        }
        base += pages;
    }
    return true;
}

bool memfile_map(const struct memfile *m, struct hv_memory *mem, err *e)
{
    AUTO(buf) buf = malloc(MEMFILE_PAGE);
    struct mapping g = {.m = m, .mem = mem, .least = 1, .buf = buf};
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to restore the machine");
    for (;; g.least *= 2) {
        g.count = 0;
        memfile_each_run(m, count_run, &g, NULL);
        if (g.count <= MAX_MAPPINGS)
            break;
    }
    return memfile_each_run(m, map_run, &g, e);
}

/* ---- checking ---- */

static bool check_one(const struct memfile *m, uint64_t at, void *buf, err *e)
{
    const struct memfile_chunk *c = &m->chunk[at];
    uint32_t crc = 0;
    for (unsigned i = 0; i < MEMFILE_CHUNK; i++) {
        uint64_t page = at * MEMFILE_CHUNK + i;
        if (memfile_kind(c, i) != MEMFILE_DATA)
            continue;
        if (pread(m->fd, buf, MEMFILE_PAGE, (off_t)(page * MEMFILE_PAGE)) != MEMFILE_PAGE)
            return err_errno(e, errno ? errno : EIO, "Reading saved memory");
        crc = crc32c(crc, buf, MEMFILE_PAGE);
    }
    return crc == c->crc ||
           err_set(e, ERR_CORRUPT,
                   "The saved memory is damaged between the pages %llu and %llu of %llu",
                   (unsigned long long)at * MEMFILE_CHUNK,
                   (unsigned long long)(at + 1) * MEMFILE_CHUNK - 1, (unsigned long long)m->pages);
}

bool memfile_check(const struct memfile *m, bool (*go_on)(void *ctx, uint64_t done, uint64_t total),
                   void *ctx, err *e)
{
    AUTO(buf) buf = malloc(MEMFILE_PAGE);
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to check");
    for (uint64_t i = 0; i < m->nchunks; i++) {
        if (go_on && i % 8 == 0 && !go_on(ctx, i, m->nchunks))
            return err_set(e, ERR_CANCELLED, "Checking was cancelled");
        if (!check_one(m, i, buf, e))
            return false;
    }
    return true;
}
