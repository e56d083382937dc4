/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Power loss. A workload (writes, FUA, TRIM, zeroing, flushes, many in flight) runs on a file in
 * memory. Before each change or flush of that file a power cut is played: the file as it could be
 * left (changes since the last flush kept, lost, torn by sectors, in any order) is opened again.
 * Every sector must hold what was last flushed, or something that was written to it after; the
 * metadata must be consistent; then the disk must take writes again. Some cuts are shown to
 * qemu-img check as well.
 *     crash [CUTS [SEED]]      at least CUTS in all (10000)
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/storage/format.h"
#include "core/storage/tool.h"
#include "crashfile.h"

enum { SECTOR = 512, SIZE = 7 << 20, SECTORS = SIZE / SECTOR, HISTORY = 12, SLOTS = 6 };

struct scenario {
    const char *name;
    enum disk_format format;
    enum disk_type type;
    uint32_t block;
    bool qemu;
};

/* What a sector may hold: versions[0] is durable or older, the rest came after. 0: zeroes. */
struct sector {
    uint32_t versions[HISTORY];
    uint32_t done_at[HISTORY]; /* clock of completion; 0: in flight */
    uint8_t n;
};

static struct sector model[SECTORS];
static uint32_t now_clock;
static uint32_t next_version;
static struct crashstore store;
static struct loop *loop, *loop2;
static const struct scenario *scenario;
static unsigned long merges, resizes, cuts, want_cuts = 10000, bad_cuts, qemu_checks;
static uint64_t seed = 1;
static bool playing, have_qemu;
/* The file that is the disk; while a merge of the layer in use waits to be concluded, or this. */
static const char *disk_name = "d", *or_name;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static void fill_sector(uint8_t *p, uint64_t sector, uint32_t version)
{
    uint64_t v = version ? (uint64_t)version << 32 | (uint32_t)sector : 0;
    for (int i = 0; i < SECTOR; i += 8)
        put_le64(p + i, v);
}

/* The version a sector holds, or UINT32_MAX for what was never written whole. */
static uint32_t version_of(const uint8_t *p, uint64_t sector)
{
    uint64_t v = get_le64(p);
    for (int i = 8; i < SECTOR; i += 8)
        if (get_le64(p + i) != v)
            return UINT32_MAX;
    return !v ? 0 : (uint32_t)v == (uint32_t)sector ? (uint32_t)(v >> 32) : UINT32_MAX;
}

/* ---- after a cut ---- */

static void complain(const char *what, uint64_t n)
{
    if (bad_cuts++ < 20)
        fprintf(stderr, "%s, cut %lu: %s %llu\n", scenario->name, cuts, what,
                (unsigned long long)n);
}

static bool allowed(const struct sector *s, uint32_t version)
{
    for (int i = 0; i < s->n; i++)
        if (s->versions[i] == version)
            return true;
    return false;
}

static void verify_content(struct disk *d)
{
    enum { STEP = 128 };
    static uint8_t buf[STEP * SECTOR];
    for (uint64_t first = 0; first < SECTORS; first += STEP) {
        bool touched = false;
        for (int i = 0; i < STEP; i++)
            touched |= model[first + i].n > 1 || model[first + i].versions[0];
        if (!touched && cuts % 16)
            continue;
        if (disk_read_sync(d, first * SECTOR, buf, sizeof buf) != 0) {
            complain("cannot read sector", first);
            return;
        }
        for (int i = 0; i < STEP; i++)
            if (!allowed(&model[first + i], version_of(buf + i * SECTOR, first + i))) {
                complain("wrong content of sector", first + i);
                return;
            }
    }
}

static void say(void *ctx, enum disk_finding kind, const char *text)
{
    if (kind == DISK_DAMAGE || kind == DISK_DEFECT)
        fprintf(stderr, "check: %s\n", text);
}

static void verify_metadata(struct crashstore *s, const char *name)
{
    struct disk_check_result r = {0};
    struct checker c = {.name = name, .result = &r, .finding = say};
    struct sfile *f = crashstore_open(s, name);
    err e = ERR_INIT;
    bool ok =
        scenario->format == DISK_FORMAT_VHDX ? vhdx_check(&c, f, loop2, &e) : vhd_check(&c, f, &e);
    sfile_close(f);
    if (!ok || r.damages || r.defects)
        complain("damages and defects:", r.damages + r.defects);
}

static void ask_qemu(struct crashstore *s)
{
    static const char path[] = "storage-crash-qemu.vhdx";
    uint64_t size;
    const uint8_t *p = crashstore_get(s, "d", &size);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    for (uint64_t off = 0; off < size; off += 65536) {
        static const uint8_t zero[65536];
        uint64_t n = MIN(size - off, (uint64_t)65536);
        if (memcmp(p + off, zero, n) && pwrite(fd, p + off, n, (off_t)off) != (ssize_t)n)
            complain("cannot write", off);
    }
    if (ftruncate(fd, (off_t)size) < 0)
        complain("cannot write", size);
    close(fd);
    int rc = system("qemu-img check -q -r all -f vhdx storage-crash-qemu.vhdx");
    if (!WIFEXITED(rc) || WEXITSTATUS(rc))
        complain("qemu-img check says", (uint64_t)rc);
    qemu_checks++;
    unlink(path);
}

static void play_cut(void)
{
    struct crashstore left;
    err e = ERR_INIT;
    crashstore_crash(&store, &left, ++cuts * 7919 + seed);
    left.loop = loop2;
    left.deterministic = true;
    if (have_qemu && scenario->qemu && cuts % 97 == 0)
        ask_qemu(&left);
    /* Read-only first, now and then: the log is then replayed in memory. */
    bool read_only = cuts % 3 == 0;
    const char *name = or_name && cuts % 2 ? or_name : disk_name;
    struct disk *d = crashstore_disk(&left, name, read_only ? DISK_OPEN_READ_ONLY : 0, &e);
    if (!d) {
        complain(e.text, 0);
    } else {
        verify_content(d);
        if (!read_only) {
            uint8_t b[SECTOR], got[SECTOR];
            fill_sector(b, 77, 0x7fffffff);
            if (disk_write_sync(d, 77 * SECTOR, b, SECTOR) || disk_flush_sync(d) ||
                disk_read_sync(d, 77 * SECTOR, got, SECTOR) || memcmp(b, got, SECTOR))
                complain("cannot write after it", 0);
        }
        disk_close(d);
        if (!read_only)
            verify_metadata(&left, name);
    }
    crashstore_clear(&left);
}

static void before_change(struct crashstore *s)
{
    if (playing)
        play_cut();
}

/* ---- the workload ---- */

struct slot {
    struct disk_req req;
    struct iovec iov;
    uint8_t *buf;
    bool busy;
    uint32_t version, submitted_at;
};
static struct slot slots[SLOTS];

static bool busy_overlap(uint64_t off, uint64_t len)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].busy && off < slots[i].req.offset + slots[i].req.length &&
            slots[i].req.offset < off + len)
            return true;
    return false;
}

static void wait_for(unsigned most)
{
    for (;;) {
        unsigned n = 0;
        for (int i = 0; i < SLOTS; i++)
            n += slots[i].busy;
        if (n <= most)
            return;
        loop_turn(loop, 1000);
    }
}

/* A version that will be there sometime: from now on a cut may show it. */
static void note_submitted(uint64_t off, uint64_t len, uint32_t version)
{
    for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++) {
        model[s].versions[model[s].n] = version;
        model[s].done_at[model[s].n++] = 0;
    }
}

static void note_durable(uint32_t clock)
{
    for (int i = 0; i < SECTORS; i++) {
        struct sector *s = &model[i];
        int last = -1;
        for (int k = 0; k < s->n; k++)
            if (s->done_at[k] && s->done_at[k] <= clock)
                last = k;
        if (last > 0) {
            memmove(s->versions, s->versions + last, sizeof s->versions[0] * (s->n - last));
            memmove(s->done_at, s->done_at + last, sizeof s->done_at[0] * (s->n - last));
            s->n = (uint8_t)(s->n - last);
        }
    }
}

static void slot_done(struct disk_req *r, int status)
{
    struct slot *s = CONTAINER_OF(r, struct slot, req);
    CHECK_EQ(status, 0);
    uint32_t when = ++now_clock;
    if (r->op == DISK_FLUSH) {
        note_durable(s->submitted_at);
    } else {
        for (uint64_t i = r->offset / SECTOR; i < (r->offset + r->length) / SECTOR; i++)
            for (int k = 0; k < model[i].n; k++)
                if (model[i].versions[k] == s->version && !model[i].done_at[k]) {
                    model[i].done_at[k] = when;
                    if (r->flags & DISK_REQ_FUA) { /* durable by itself */
                        memmove(model[i].versions, model[i].versions + k,
                                sizeof model[i].versions[0] * (model[i].n - k));
                        memmove(model[i].done_at, model[i].done_at + k,
                                sizeof model[i].done_at[0] * (model[i].n - k));
                        model[i].n = (uint8_t)(model[i].n - k);
                    }
                }
    }
    s->busy = false;
}

static bool room(uint64_t off, uint64_t len)
{
    for (uint64_t s = off / SECTOR; s < (off + len) / SECTOR; s++)
        if (model[s].n >= HISTORY - 1)
            return false;
    return true;
}

static void one_op(struct disk *d)
{
    unsigned kind = (unsigned)(rnd() % 16);
    uint64_t block = scenario->block, off, len;
    if (kind >= 13) { /* whole blocks */
        off = rnd() % div_round_up(SIZE, block) * block;
        len = MIN(block, SIZE - off);
    } else { /* near block borders, so that few blocks are crowded */
        off = (rnd() % 4 * block + rnd() % 64 * SECTOR) % (SIZE - 64 * SECTOR);
        len = (1 + rnd() % 40) * SECTOR;
    }
    if (kind == 12 || (kind < 13 && !room(off, len))) {
        off = len = 0;
        kind = 12;
    }
    if (kind >= 13 && !room(off, len))
        return;
    while (busy_overlap(off, len))
        loop_turn(loop, 1000);
    wait_for(SLOTS - 1);
    struct slot *s = slots;
    while (s->busy)
        s++;
    s->req = (struct disk_req){.offset = off, .length = len, .done = slot_done};
    s->submitted_at = now_clock;
    s->busy = true;
    if (kind == 12) {
        s->req.op = DISK_FLUSH;
    } else if (kind < 10) {
        s->version = ++next_version;
        for (uint64_t i = 0; i < len / SECTOR; i++)
            fill_sector(s->buf + i * SECTOR, off / SECTOR + i, s->version);
        s->iov = (struct iovec){s->buf, len};
        s->req.op = DISK_WRITE;
        s->req.iov = &s->iov;
        s->req.iovcnt = 1;
        s->req.flags = rnd() % 6 == 0 ? DISK_REQ_FUA : 0;
    } else {
        bool discard = kind % 2 && scenario->type == DISK_DYNAMIC;
        s->version = 0;
        s->req.op = discard ? DISK_DISCARD : DISK_WRITE_ZEROES;
        s->req.flags = rnd() % 2 ? DISK_REQ_UNMAP : 0;
    }
    if (kind != 12)
        note_submitted(off, len, s->version);
    disk_submit(d, &s->req);
    if (rnd() % 3)
        wait_for((unsigned)(rnd() % SLOTS));
}

static void make(const char *name, enum disk_type type, const char *parent,
                 const struct guid *parent_id)
{
    struct format_params f = {.format = scenario->format,
                              .type = type,
                              .size = SIZE,
                              .block_size = scenario->block,
                              .parent_path = parent};
    if (parent)
        f.parent_id = *parent_id;
    err e = ERR_INIT;
    struct sfile *file = crashstore_open(&store, name);
    CHECK(format_check(&f, &e) && format_write(file, &f, &e) && sfile_flush(file) == 0);
    sfile_close(file);
}

static void base_content(struct disk *d)
{
    for (uint64_t i = 0; i < 12; i++) { /* some where the workload will be, some anywhere */
        uint64_t first = i < 6 ? i * scenario->block / SECTOR : rnd() % (SECTORS - 64);
        uint32_t version = ++next_version;
        for (int k = 0; k < 64; k++) {
            fill_sector(slots[0].buf + k * SECTOR, first + k, version);
            model[first + k].versions[0] = version;
        }
        CHECK_EQ(disk_write_sync(d, first * SECTOR, slots[0].buf, 64 * SECTOR), 0);
    }
    CHECK_EQ(disk_flush_sync(d), 0);
}

static void new_model(const struct scenario *sc)
{
    scenario = sc;
    next_version = 0;
    memset(model, 0, sizeof model);
    for (int i = 0; i < SECTORS; i++) {
        model[i].n = 1;
        model[i].done_at[0] = 1;
    }
    crashstore_init(&store, loop, rnd());
    store.before_change = before_change;
}

/* A disk in use grows, its table too, and later shrinks to what it was. */
static void resized(void *ctx, const err *e)
{
    if (e->code != ERR_NONE)
        fprintf(stderr, "%s\n", e->text);
    CHECK_EQ(e->code, ERR_NONE);
    resizes++;
}

static void one_run(const struct scenario *sc, unsigned ops, bool resizing)
{
    err e = ERR_INIT;
    new_model(sc);
    now_clock = 2;
    struct guid id;
    if (sc->type == DISK_DIFFERENCING) {
        make("p", DISK_DYNAMIC, NULL, NULL);
        struct disk *p = crashstore_disk(&store, "p", 0, &e);
        base_content(p);
        image_identity(p->top, &id);
        disk_close(p);
    }
    make("d", sc->type, sc->type == DISK_DIFFERENCING ? "p" : NULL, &id);
    struct disk *d = crashstore_disk(&store, "d", 0, &e);
    CHECK(d != NULL);
    if (!d)
        return;
    playing = true;
    uint64_t large = sc->format == DISK_FORMAT_VHDX ? 160ull << 30 : 4ull << 30;
    for (unsigned i = 0; i < ops; i++) {
        if (resizing && (i == ops / 3 || i == ops * 2 / 3))
            disk_resize_start(d, i == ops / 3 ? large : SIZE, true, resized, NULL);
        one_op(d);
    }
    wait_for(0);
    disk_close(d); /* cuts while it is closed count too */
    playing = false;
    crashstore_clear(&store);
}

/* ---- merging, cut anywhere ---- */

static void merged(void *ctx, const err *e)
{
    if (e->code != ERR_NONE)
        fprintf(stderr, "%s\n", e->text);
    CHECK_EQ(e->code, ERR_NONE);
    *(bool *)ctx = true;
}

/* p <- a <- d: a goes into p while d is in use; whenever the power goes, d reads the same. */
static void one_merge(const struct scenario *sc)
{
    static const char *const names[] = {"p", "a", "d"};
    struct guid id;
    err e = ERR_INIT;
    bool done = false;
    new_model(sc);
    for (int i = 0; i < 3; i++) {
        make(names[i], i ? DISK_DIFFERENCING : DISK_DYNAMIC, i ? names[i - 1] : NULL, &id);
        struct disk *l = crashstore_disk(&store, names[i], 0, &e);
        CHECK(l != NULL);
        base_content(l);
        disk_close(l);
        l = crashstore_disk(&store, names[i], DISK_OPEN_READ_ONLY | DISK_OPEN_NO_PARENT, &e);
        image_identity(l->top, &id);
        disk_close(l);
    }
    struct disk *d = crashstore_disk(&store, "d", 0, &e);
    CHECK(d != NULL);
    d->merge_step = 128 << 10;
    playing = true;
    CHECK(d && disk_merge_start(
                   d, &(struct disk_merge_params){.depth = 1, .done = merged, .ctx = &done}, &e));
    while (d && !done && e.code == ERR_NONE)
        loop_turn(loop, 1000);
    disk_close(d);
    playing = false;
    crashstore_clear(&store);
    merges++;
}

static void ready(void *ctx)
{
    or_name = "p";
}

/* p <- d: d goes into p while the workload runs on it. Once the merge is ready either is the disk,
 * and when it is concluded p is. */
static void one_live_merge(const struct scenario *sc)
{
    struct guid id;
    err e = ERR_INIT;
    bool done = false;
    new_model(sc);
    now_clock = 2;
    make("p", DISK_DYNAMIC, NULL, NULL);
    struct disk *d = crashstore_disk(&store, "p", 0, &e);
    base_content(d);
    image_identity(d->top, &id);
    disk_close(d);
    make("d", DISK_DIFFERENCING, "p", &id);
    d = crashstore_disk(&store, "d", 0, &e);
    playing = true;
    for (int i = 0; i < 20; i++)
        one_op(d);
    struct disk_merge_params p = {.ready = ready, .done = merged, .ctx = &done};
    d->merge_step = 128 << 10;
    struct disk_merge *m = disk_merge_start(d, &p, &e);
    CHECK(m != NULL);
    while (m && !or_name && !done)
        one_op(d);
    for (int i = 0; m && i < 8; i++)
        one_op(d);
    disk_name = "p"; /* what a manifest would say now */
    or_name = NULL;
    if (m)
        disk_merge_conclude(m);
    while (m && !done)
        one_op(d);
    for (int i = 0; m && i < 8; i++)
        one_op(d);
    wait_for(0);
    disk_close(d);
    playing = false;
    disk_name = "d";
    crashstore_clear(&store);
    merges++;
}

int main(int argc, char **argv)
{
    static const struct scenario all[] = {
        {"VHDX dynamic", DISK_FORMAT_VHDX, DISK_DYNAMIC, 1 << 20, true},
        {"VHDX differencing", DISK_FORMAT_VHDX, DISK_DIFFERENCING, 1 << 20, false},
        {"VHD dynamic", DISK_FORMAT_VHD, DISK_DYNAMIC, 1 << 19, false},
        {"VHD differencing", DISK_FORMAT_VHD, DISK_DIFFERENCING, 1 << 19, false},
        {"VHDX dynamic, small log use", DISK_FORMAT_VHDX, DISK_DYNAMIC, 2 << 20, true},
    };
    if (argc > 1)
        want_cuts = strtoul(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    log_set_level(LOG_ERROR);
    have_qemu = system("qemu-img --version >/dev/null 2>&1") == 0;
    loop = loop_new(NULL);
    loop2 = loop_new(NULL);
    for (int i = 0; i < SLOTS; i++)
        slots[i].buf = malloc(64 * SECTOR);
    for (unsigned run = 0; cuts < want_cuts && bad_cuts < 20; run++)
        if (run % 7 == 5)
            one_merge(&all[run / 7 % 2 ? 3 : 1]);
        else if (run % 7 == 6)
            one_live_merge(&all[run / 7 % 2 ? 3 : 1]);
        else
            one_run(&all[run % 7], 60, run % 21 >= 14 && (run % 7 == 0 || run % 7 == 2));
    printf("%lu cuts, %lu of them shown to qemu-img, %lu merges, %lu resizes, %lu bad\n", cuts,
           qemu_checks, merges, resizes, bad_cuts);
    return bad_cuts || check_failures;
}
