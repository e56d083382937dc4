/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What Vireo writes, others read, and the other way round. For a matrix of format, type, block
 * size, sector size and size: random writes, TRIMs, zeroing, flushes, reopening and resizes, each
 * followed in an array; then the image is read back here and by qemu-img (and by libvhdi through
 * vhdi.py where given), which must agree with the array byte for byte.
 *     matrix [seed]          needs qemu-img; skipped (77) without
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/storage/disk-tool.h"

struct shape {
    enum disk_format format;
    enum disk_type type;
    uint32_t block, sector;
    uint64_t size;
};

static struct loop *loop;
static char dir[] = "storage-matrix-XXXXXX";
static unsigned long long seed = 1;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static int run(const char *cmd)
{
    int rc = system(cmd);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : 255;
}

static struct disk *open_disk(const char *path, unsigned flags)
{
    err e = ERR_INIT;
    struct disk *d = disk_open(
        &(struct disk_open_params){
            .path = path, .flags = flags, .opener = &disk_opener_paths, .loop = loop},
        &e);
    if (!d)
        fprintf(stderr, "%s\n", e.text);
    return d;
}

/* ---- many requests in flight that do not overlap ---- */

enum { SLOTS = 8 };
struct slot {
    struct disk_req req;
    struct iovec iov[3];
    uint8_t *buf;
    bool busy;
    int status;
};
static struct slot slots[SLOTS];

static void slot_done(struct disk_req *r, int status)
{
    struct slot *s = CONTAINER_OF(r, struct slot, req);
    s->busy = false;
    if (status)
        fprintf(stderr, "op %d at %llu: %s\n", r->op, (unsigned long long)r->offset,
                strerror(status));
    CHECK_EQ(status, 0);
}

static bool busy_overlap(uint64_t off, uint64_t len)
{
    for (int i = 0; i < SLOTS; i++)
        if (slots[i].busy && off < slots[i].req.offset + slots[i].req.length &&
            slots[i].req.offset < off + len)
            return true;
    return false;
}

static void wait_all(void)
{
    for (int i = 0; i < SLOTS; i++)
        while (slots[i].busy)
            loop_turn(loop, 1000);
}

static struct slot *free_slot(void)
{
    for (;;) {
        for (int i = 0; i < SLOTS; i++)
            if (!slots[i].busy)
                return &slots[i];
        loop_turn(loop, 1000);
    }
}

static void one_op(struct disk *d, const struct shape *sh, uint8_t *model, uint64_t size)
{
    uint64_t sectors = size / sh->sector;
    uint64_t block = sh->block ? sh->block : 65536;
    uint64_t n = rnd() % 8 ? 1 + rnd() % 64 : 1 + rnd() % (3 * block / sh->sector);
    uint64_t first = rnd() % sectors;
    n = MIN(n, MIN(sectors - first, (4u << 20) / sh->sector));
    uint64_t off = first * sh->sector, len = n * sh->sector;
    unsigned kind = (unsigned)(rnd() % 10);
    if (kind >= 8) { /* whole blocks, so that they are freed */
        off = rnd() % div_round_up(size, block) * block;
        len = block * (1 + rnd() % 3);
        len = MIN(len, size - off);
    }
    if (busy_overlap(off, len))
        wait_all();
    struct slot *s = free_slot();
    s->req = (struct disk_req){.offset = off, .length = len, .done = slot_done};
    if (kind < 6) {
        uint8_t v = (uint8_t)rnd();
        for (uint64_t i = 0; i < len; i += 8)
            put_le64(s->buf + i, (off + i) * 0x9e3779b97f4a7c15u + v);
        memcpy(model + off, s->buf, len);
        uint64_t cut = len / 3;
        s->iov[0] = (struct iovec){s->buf, cut};
        s->iov[1] = (struct iovec){s->buf + cut, 0};
        s->iov[2] = (struct iovec){s->buf + cut, len - cut};
        s->req.op = DISK_WRITE;
        s->req.flags = rnd() % 16 ? 0 : DISK_REQ_FUA;
        s->req.iov = s->iov;
        s->req.iovcnt = 3;
    } else {
        struct disk_info info;
        disk_get_info(d, &info);
        s->req.op = kind % 2 ? DISK_WRITE_ZEROES : DISK_DISCARD;
        s->req.flags = rnd() % 2 ? DISK_REQ_UNMAP : 0;
        if (s->req.op == DISK_DISCARD && !info.zeroes_after_discard)
            s->req.op = DISK_WRITE_ZEROES;
        memset(model + off, 0, len);
    }
    s->busy = true;
    disk_submit(d, &s->req);
    if (rnd() % 32 == 0)
        CHECK_EQ(disk_flush_sync(d), 0);
}

static bool same(struct disk *d, const uint8_t *model, uint64_t size)
{
    enum { STEP = 1 << 20 };
    static uint8_t got[STEP];
    for (uint64_t off = 0; off < size; off += STEP) {
        uint64_t n = MIN(size - off, (uint64_t)STEP);
        if (disk_read_sync(d, off, got, n) != 0)
            return false;
        for (uint64_t i = 0; i < n; i++)
            if (got[i] != model[off + i]) {
                fprintf(stderr, "differs at %llu: %02x, expected %02x\n",
                        (unsigned long long)(off + i), got[i], model[off + i]);
                return false;
            }
    }
    return true;
}

static void write_raw(const char *path, const uint8_t *model, uint64_t size)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    CHECK(write(fd, model, size) == (ssize_t)size);
    close(fd);
}

static void others_agree(const struct shape *sh, const char *img, const char *raw, uint64_t size)
{
    char cmd[600];
    const char *name = sh->format == DISK_FORMAT_VHD ? "vpc" : "vhdx";
    /* QEMU knows neither differencing disks nor sectors of 4096 bytes. */
    if (sh->format != DISK_FORMAT_RAW && sh->type != DISK_DIFFERENCING && sh->sector == 512) {
        if (sh->format == DISK_FORMAT_VHDX) {
            snprintf(cmd, sizeof cmd, "qemu-img check -q -f %s %s", name, img);
            CHECK_EQ(run(cmd), 0);
        }
        snprintf(cmd, sizeof cmd, "qemu-img compare -q -f %s -F raw %s %s", name, img, raw);
        CHECK_EQ(run(cmd), 0);
    }
    const char *py = getenv("VIREO_VHDI_PY");
    /* libvhdi takes a VHD's original size for its size, so it is wrong after a resize. */
    bool resized = sh->format == DISK_FORMAT_VHD && size != sh->size;
    /* ... and does not follow sector bitmaps of VHDX: there the model alone judges. */
    bool knows = sh->format == DISK_FORMAT_VHD || sh->type != DISK_DIFFERENCING;
    if (py && sh->format != DISK_FORMAT_RAW && knows && !resized) {
        snprintf(cmd, sizeof cmd, "/usr/bin/python3 %s %s %s %s", py, img, raw,
                 sh->type == DISK_DIFFERENCING ? "parent" : "");
        int rc = run(cmd);
        CHECK(rc == 0 || rc == 77);
    }
}

static void one_shape(const struct shape *sh)
{
    char img[256], raw[256], parent[256];
    const char *ending = disk_format_name(sh->format);
    snprintf(img, sizeof img, "%s/d.%s", dir, ending);
    snprintf(parent, sizeof parent, "%s/p.%s", dir, ending);
    snprintf(raw, sizeof raw, "%s/model.raw", dir);
    uint64_t room = sh->size * 2;
    uint8_t *model = calloc(1, room);
    err e = ERR_INIT;
    struct disk_create_params cp = {.path = img,
                                    .format = sh->format,
                                    .type = sh->type,
                                    .size = sh->size,
                                    .block_size = sh->block,
                                    .logical_sector = sh->sector,
                                    .physical_sector = sh->format == DISK_FORMAT_VHD ? 0 : 4096,
                                    .force = true};
    if (sh->type == DISK_DIFFERENCING) {
        struct disk_create_params pp = cp;
        pp.path = parent;
        pp.type = DISK_DYNAMIC;
        CHECK(disk_create(&pp, loop, &e) || !fprintf(stderr, "%s\n", e.text));
        struct disk *p = open_disk(parent, 0);
        for (int i = 0; p && i < 40; i++)
            one_op(p, sh, model, sh->size);
        wait_all();
        disk_close(p);
        cp.parent = parent;
        cp.size = 0;
        cp.block_size = sh->format == DISK_FORMAT_VHD ? sh->block : 2 << 20;
    }
    bool ok = disk_create(&cp, loop, &e);
    if (!ok)
        fprintf(stderr, "%s\n", e.text);
    CHECK(ok);
    uint64_t size = sh->size;
    for (int round = 0; ok && round < 4; round++) {
        struct disk *d = open_disk(img, round == 2 ? DISK_OPEN_THREADS : 0);
        CHECK(d != NULL);
        if (!d)
            break;
        CHECK(same(d, model, size));
        for (int i = 0; i < 60; i++)
            one_op(d, sh, model, size);
        wait_all();
        CHECK(same(d, model, size));
        if (round == 1) {
            uint64_t to = align_up(size + size / 2 + 12345, 4096);
            CHECK(disk_resize(d, to, false, &e) || !fprintf(stderr, "%s\n", e.text));
            size = to;
        }
        if (round == 2 && sh->type != DISK_DIFFERENCING) {
            uint64_t to = align_down(size - size / 3, 4096);
            CHECK(disk_resize(d, to, true, &e) || !fprintf(stderr, "%s\n", e.text));
            memset(model + to, 0, room - to);
            size = to;
        }
        CHECK(same(d, model, size));
        disk_close(d);
        write_raw(raw, model, size);
        others_agree(sh, img, raw, size);
    }
    free(model);
}

static void theirs(const char *fmt, const char *opts, const char *img, const uint8_t *model,
                   uint64_t size)
{
    char cmd[700], raw[256];
    snprintf(raw, sizeof raw, "%s/model.raw", dir);
    write_raw(raw, model, size);
    snprintf(cmd, sizeof cmd, "qemu-img convert -q -f raw -O %s %s %s %s/%s", fmt, opts, raw, dir,
             img);
    CHECK_EQ(run(cmd), 0);
    snprintf(cmd, sizeof cmd, "%s/%s", dir, img);
    struct disk *d = open_disk(cmd, 0);
    CHECK(d && same(d, model, size));
    disk_close(d);
}

static void images_of_qemu(void)
{
    enum { SIZE = 12 << 20 };
    uint8_t *model = calloc(1, SIZE);
    for (uint64_t i = 0; i < SIZE; i += 8)
        if (i / 65536 % 3)
            put_le64(model + i, rnd());
    theirs("vhdx", "-o subformat=dynamic,block_size=1M", "q1.vhdx", model, SIZE);
    theirs("vhdx", "-o subformat=fixed,block_size=2M", "q2.vhdx", model, SIZE);
    theirs("vhdx", "", "q3.vhdx", model, SIZE);
    theirs("vpc", "-o subformat=dynamic,force_size=on", "q4.vhd", model, SIZE);
    theirs("vpc", "-o subformat=fixed,force_size=on", "q5.vhd", model, SIZE);
    free(model);
}

static void vhdx_dynamic(void)
{
    static const uint32_t blocks[] = {1 << 20, 2 << 20, 32 << 20, 256 << 20};
    for (size_t b = 0; b < ARRAY_LEN(blocks); b++)
        for (uint32_t sector = 512; sector <= 4096; sector *= 8)
            one_shape(&(struct shape){DISK_FORMAT_VHDX, DISK_DYNAMIC, blocks[b], sector,
                                      (9 << 20) + (sector == 512 ? 1536 : 4096)});
}
static void vhdx_fixed(void)
{
    one_shape(&(struct shape){DISK_FORMAT_VHDX, DISK_FIXED, 1 << 20, 512, 6 << 20});
    one_shape(&(struct shape){DISK_FORMAT_VHDX, DISK_FIXED, 2 << 20, 4096, (6 << 20) + 4096});
}
static void vhdx_differencing(void)
{
    one_shape(&(struct shape){DISK_FORMAT_VHDX, DISK_DIFFERENCING, 1 << 20, 512, 9 << 20});
    one_shape(&(struct shape){DISK_FORMAT_VHDX, DISK_DIFFERENCING, 32 << 20, 4096, 40 << 20});
}
static void vhd_dynamic(void)
{
    one_shape(&(struct shape){DISK_FORMAT_VHD, DISK_DYNAMIC, 2 << 20, 512, (9 << 20) + 1536});
    one_shape(&(struct shape){DISK_FORMAT_VHD, DISK_DYNAMIC, 1 << 19, 512, 9 << 20});
}
static void vhd_fixed(void)
{
    one_shape(&(struct shape){DISK_FORMAT_VHD, DISK_FIXED, 0, 512, (5 << 20) + 512});
}
static void vhd_differencing(void)
{
    one_shape(&(struct shape){DISK_FORMAT_VHD, DISK_DIFFERENCING, 2 << 20, 512, 9 << 20});
}

static const struct check_test tests[] = {
    CHECK_TEST(vhdx_dynamic),   CHECK_TEST(vhdx_fixed), CHECK_TEST(vhdx_differencing),
    CHECK_TEST(vhd_dynamic),    CHECK_TEST(vhd_fixed),  CHECK_TEST(vhd_differencing),
    CHECK_TEST(images_of_qemu),
};

int main(int argc, char **argv)
{
    if (run("qemu-img --version >/dev/null 2>&1") != 0) {
        puts("skipped: qemu-img is not there");
        return 77;
    }
    if (getenv("SEED"))
        seed = strtoull(getenv("SEED"), NULL, 0);
    loop = loop_new(NULL);
    if (!mkdtemp(dir))
        return 1;
    for (int i = 0; i < SLOTS; i++)
        slots[i].buf = malloc(4 << 20);
    int rc = check_run(tests, ARRAY_LEN(tests), argc, argv);
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (!rc)
        run(cmd);
    loop_free(loop);
    return rc;
}
