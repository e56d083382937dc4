/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Memory images: writing. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "core/machine/memfile-int.h"
#include "core/machine/storefs.h"

/* What the child tells. */
struct shared {
    _Atomic uint64_t done; /* chunks */
    _Atomic bool cancel;
};

struct source {
    const uint8_t *host;
    uint64_t pages;
};

struct memfile_writer {
    char *folder;
    struct memfile head; /* fd, regions, chunk (shared) */
    const struct memfile *below;
    struct source source[MEMFILE_REGIONS];
    uint8_t *before; /* what `below` holds, mapped; NULL: nothing */
    uint64_t before_pages;
    void *map; /* struct shared, then the chunks */
    size_t map_len;
    struct shared *shared;
    bool too_many, committed;
};

/* ---- making ---- */

static bool note_region(void *ctx, struct hv_region *r)
{
    struct memfile_writer *w = ctx;
    struct memfile *h = &w->head;
    if (hv_region_kind(r) != HV_REGION_RAM)
        return true;
    uint64_t size = hv_region_size(r), gpa = hv_region_gpa(r);
    struct memfile_region *last = h->nregions ? &h->region[h->nregions - 1] : NULL;
    struct source *before = h->nregions ? &w->source[h->nregions - 1] : NULL;
    h->pages += size / MEMFILE_PAGE;
    /* Parts of one mapping are one: what they are parted for is not the file's business. */
    if (last && last->gpa + last->size == gpa &&
        before->host + last->size == (const uint8_t *)hv_region_host(r)) {
        last->size += size;
        before->pages += size / MEMFILE_PAGE;
        return true;
    }
    w->too_many = h->nregions == MEMFILE_REGIONS;
    if (w->too_many)
        return false;
    w->source[h->nregions] = (struct source){hv_region_host(r), size / MEMFILE_PAGE};
    h->region[h->nregions++] = (struct memfile_region){gpa, size};
    return true;
}

static bool map_before(void *ctx, uint64_t first, uint64_t count, const struct memfile *from,
                       err *e)
{
    struct memfile_writer *w = ctx;
    return mmap(w->before + first * MEMFILE_PAGE, count * MEMFILE_PAGE, PROT_READ,
                MAP_PRIVATE | MAP_FIXED, from->fd, (off_t)(first * MEMFILE_PAGE)) != MAP_FAILED ||
           err_errno(e, errno, "Mapping the memory below");
}

static bool count_runs(void *ctx, uint64_t first, uint64_t count, const struct memfile *from,
                       err *e)
{
    return ++*(unsigned *)ctx < MEMFILE_CHUNK * 32;
}

/* Nothing is lost where it does not fit: then all is stored. */
static void take_below(struct memfile_writer *w, const struct memfile *below)
{
    unsigned runs = 0;
    if (!below || memfile_depth(below) + 1 >= MEMFILE_DEPTH || below->nregions > w->head.nregions ||
        memcmp(below->region, w->head.region, below->nregions * sizeof below->region[0]) != 0 ||
        !memfile_each_run(below, count_runs, &runs, NULL))
        return;
    size_t len = below->pages * MEMFILE_PAGE;
    w->before = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (w->before == MAP_FAILED) {
        w->before = NULL;
        return;
    }
    w->before_pages = below->pages;
    if (memfile_each_run(below, map_before, w, NULL)) {
        w->below = below;
        w->head.below_id = below->id;
        return;
    }
    munmap(w->before, len);
    w->before = NULL;
}

static bool make_files(struct memfile_writer *w, err *e)
{
    AUTO(str) path = memfile_name(w->folder, &w->head.id, ".ram", e);
    if (!path)
        return false;
    w->head.fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (w->head.fd < 0 || ftruncate(w->head.fd, (off_t)(w->head.pages * MEMFILE_PAGE)) != 0)
        return err_errno(e, errno, "The memory cannot be written to %s", path);
    return true;
}

static bool make_shared(struct memfile_writer *w, err *e)
{
    struct memfile *h = &w->head;
    h->nchunks = (h->pages + MEMFILE_CHUNK - 1) / MEMFILE_CHUNK;
    w->map_len = sizeof *w->shared + h->nchunks * sizeof *h->chunk;
    w->map = mmap(NULL, w->map_len, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (w->map == MAP_FAILED) {
        w->map = NULL;
        return err_errno(e, errno, "There is no memory to save the machine");
    }
    w->shared = w->map;
    h->chunk = (struct memfile_chunk *)(w->shared + 1);
    return true;
}

struct memfile_writer *memfile_writer_new(const char *folder, const struct guid *id,
                                          struct hv_memory *mem, const struct memfile *below,
                                          err *e)
{
    AUTO(memfile_writer) w = calloc(1, sizeof *w);
    if (w)
        w->head.fd = -1;
    if (!w || !(w->folder = strdup(folder))) {
        err_set(e, ERR_NO_MEMORY, "There is no memory to save the machine");
        return NULL;
    }
    w->head.id = *id;
    hv_memory_each(mem, note_region, w);
    if (w->too_many || !w->head.pages) {
        err_set(e, ERR_UNSUPPORTED, "The machine's memory lies in too many places to be saved");
        return NULL;
    }
    take_below(w, below);
    return make_files(w, e) && make_shared(w, e) ? TAKE(w) : NULL;
}

/* ---- writing; perhaps in a child ---- */

static bool is_zero(const uint8_t *p)
{
    const uint64_t *v = (const uint64_t *)(const void *)p;
    for (unsigned i = 0; i < MEMFILE_PAGE / 8; i += 8)
        if (v[i] | v[i + 1] | v[i + 2] | v[i + 3] | v[i + 4] | v[i + 5] | v[i + 6] | v[i + 7])
            return false;
    return true;
}

static enum memfile_kind kind_of(const struct memfile_writer *w, const uint8_t *host, uint64_t page)
{
    if (page < w->before_pages && memcmp(host, w->before + page * MEMFILE_PAGE, MEMFILE_PAGE) == 0)
        return is_zero(host) ? MEMFILE_ZERO : MEMFILE_BELOW;
    return is_zero(host) ? MEMFILE_ZERO : MEMFILE_DATA;
}

static int write_run(int fd, const uint8_t *host, uint64_t page, uint64_t count)
{
    size_t len = count * MEMFILE_PAGE, done = 0;
    while (done < len) {
        ssize_t n = pwrite(fd, host + done, len - done, (off_t)(page * MEMFILE_PAGE + done));
        if (n < 0 && errno != EINTR)
            return errno;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Pages [page, page + count) of one region, at `host`, all in one chunk. */
static int write_part(struct memfile_writer *w, const uint8_t *host, uint64_t page, uint64_t count)
{
    struct memfile_chunk *c = &w->head.chunk[page / MEMFILE_CHUNK];
    uint64_t run = 0; /* pages before i that wait to be written */
    for (uint64_t i = 0; i <= count; i++) {
        enum memfile_kind k =
            i < count ? kind_of(w, host + i * MEMFILE_PAGE, page + i) : MEMFILE_ZERO;
        if (k == MEMFILE_DATA) {
            c->crc = crc32c(c->crc, host + i * MEMFILE_PAGE, MEMFILE_PAGE);
            run++;
        } else if (run) {
            int rc = write_run(w->head.fd, host + (i - run) * MEMFILE_PAGE, page + i - run, run);
            if (rc)
                return rc;
            run = 0;
        }
        if (i < count)
            memfile_set_kind(c, (page + i) % MEMFILE_CHUNK, k);
    }
    return 0;
}

int memfile_writer_run(struct memfile_writer *w)
{
    uint64_t page = 0; /* of all */
    for (unsigned r = 0; r < w->head.nregions; r++) {
        const struct source *s = &w->source[r];
        for (uint64_t at = 0; at < s->pages;) {
            uint64_t n = MIN(s->pages - at, MEMFILE_CHUNK - page % MEMFILE_CHUNK);
            if (atomic_load_explicit(&w->shared->cancel, memory_order_relaxed))
                return ECANCELED;
            int rc = write_part(w, s->host + at * MEMFILE_PAGE, page, n);
            if (rc)
                return rc;
            at += n;
            page += n;
            atomic_store_explicit(&w->shared->done, page / MEMFILE_CHUNK, memory_order_relaxed);
        }
    }
    return fdatasync(w->head.fd) == 0 ? 0 : errno;
}

int memfile_writer_fd(const struct memfile_writer *w)
{
    return w->head.fd;
}

double memfile_writer_progress(const struct memfile_writer *w)
{
    return (double)atomic_load(&w->shared->done) / (double)w->head.nchunks;
}

void memfile_writer_cancel(struct memfile_writer *w)
{
    atomic_store(&w->shared->cancel, true);
}

/* ---- the end ---- */

static void put_map(const struct memfile_writer *w, struct state_writer *out)
{
    const struct memfile *h = &w->head;
    uint8_t regions[MEMFILE_REGIONS * 16];
    for (unsigned i = 0; i < h->nregions; i++) {
        put_le64(regions + i * 16, h->region[i].gpa);
        put_le64(regions + i * 16 + 8, h->region[i].size);
    }
    state_begin(out, MEMFILE_SECTION_HEAD, 0, MEMFILE_VERSION, 1);
    state_put_u64(out, MEMFILE_TAG_PAGES, h->pages);
    if (w->below)
        state_put(out, MEMFILE_TAG_PARENT, h->below_id.b, sizeof h->below_id.b);
    state_put(out, MEMFILE_TAG_REGIONS, regions, h->nregions * 16);
    state_end(out);
    for (uint64_t done = 0, part = 0; done < h->nchunks; part++) {
        uint64_t n = MIN(h->nchunks - done, (uint64_t)MEMFILE_SECTION_MAX);
        state_begin(out, MEMFILE_SECTION_CHUNKS, (uint32_t)part, MEMFILE_VERSION, 1);
        state_put(out, MEMFILE_TAG_CHUNKS, h->chunk + done, n * sizeof *h->chunk);
        state_end(out);
        done += n;
    }
}

bool memfile_writer_commit(struct memfile_writer *w, err *e)
{
    char name[GUID_STR_LEN + 8];
    size_t len = 0;
    struct state_writer *out = state_writer_new();
    if (!out)
        return err_set(e, ERR_NO_MEMORY, "There is no memory to save the machine");
    put_map(w, out);
    const uint8_t *data = state_writer_data(out, &len, e);
    AUTO(fd) folder = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    guid_format(&w->head.id, name);
    strcat(name, ".map");
    w->committed = data && storefs_write(folder, name, data, len, e);
    state_writer_free(out);
    return w->committed;
}

uint64_t memfile_writer_stored(const struct memfile_writer *w)
{
    return memfile_stored(&w->head);
}

void memfile_writer_free(struct memfile_writer *w)
{
    if (!w)
        return;
    AUTO(str)
    path = w->head.fd >= 0 && !w->committed ? memfile_name(w->folder, &w->head.id, ".ram", NULL)
                                            : NULL;
    if (path)
        unlink(path);
    auto_close(w->head.fd);
    if (w->before)
        munmap(w->before, w->before_pages * MEMFILE_PAGE);
    if (w->map)
        munmap(w->map, w->map_len);
    free(w->folder);
    free(w);
}
