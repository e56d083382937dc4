/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Chains: leaves pushed under a disk in use, layers merged in the background, and the offline
 * tools, each against a model of what the guest must read. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/storage/disk-internal.h"
#include "core/storage/disk-tool.h"

#ifdef __has_feature
#if __has_feature(address_sanitizer) && !defined __SANITIZE_ADDRESS__
#define __SANITIZE_ADDRESS__
#endif
#endif

enum { SIZE = 24 << 20 };

static struct loop *loop;
static char dir[] = "storage-chain-XXXXXX";
static uint8_t *model;
static uint64_t seed = 5;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static const char *at(const char *name)
{
    static char paths[8][256];
    static unsigned n;
    char *p = paths[n++ % 8];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static bool told(bool ok, const err *e)
{
    if (!ok)
        fprintf(stderr, "%s\n", e->text);
    return ok;
}

static bool create(const char *name, enum disk_format f, const char *parent, uint32_t block)
{
    err e = ERR_INIT;
    return told(
        disk_create(&(struct disk_create_params){.path = name,
                                                 .format = f,
                                                 .type = parent ? DISK_DIFFERENCING : DISK_DYNAMIC,
                                                 .size = parent ? 0 : SIZE,
                                                 .block_size = block,
                                                 .parent = parent,
                                                 .force = true},
                    loop, &e),
        &e);
}

static struct disk *open_it(const char *name, unsigned flags)
{
    err e = ERR_INIT;
    struct disk *d = disk_open(
        &(struct disk_open_params){
            .path = name, .flags = flags, .opener = &disk_opener_paths, .loop = loop},
        &e);
    told(d, &e);
    return d;
}

static void scribble(struct disk *d, int n)
{
    static uint8_t buf[256 * 512];
    for (int i = 0; i < n; i++) {
        uint64_t off = rnd() % (SIZE / 512 - 256) * 512, len = (1 + rnd() % 256) * 512;
        if (rnd() % 8 == 0) {
            off = align_down(off, 1 << 20);
            len = MIN((uint64_t)4 << 20, SIZE - off);
            memset(model + off, 0, len);
            CHECK_EQ(disk_zero_sync(d, off, len, true), 0);
            continue;
        }
        for (uint64_t k = 0; k < len; k += 8)
            put_le64(buf + k, rnd());
        memcpy(model + off, buf, len);
        CHECK_EQ(disk_write_sync(d, off, buf, len), 0);
    }
}

static bool same(struct disk *d)
{
    static uint8_t got[1 << 20];
    if (!d)
        return false;
    for (uint64_t off = 0; off < SIZE; off += sizeof got) {
        if (disk_read_sync(d, off, got, sizeof got) != 0)
            return false;
        if (memcmp(got, model + off, sizeof got))
            return false;
    }
    return true;
}

static bool reads_so(const char *name)
{
    struct disk *d = open_it(name, DISK_OPEN_READ_ONLY);
    bool ok = same(d);
    disk_close(d);
    return ok;
}

static bool sound(const char *name)
{
    struct disk_check_result r;
    err e = ERR_INIT;
    return told(disk_check(name, false, loop, NULL, NULL, NULL, &r, &e), &e) &&
           r.defects + r.damages == 0;
}

static struct disk_layer *new_layer(struct disk *d, const char *name)
{
    err e = ERR_INIT;
    if (!told(disk_create_leaf(d, name, &e), &e))
        return NULL;
    scribble(d, 3); /* the guest goes on meanwhile */
    struct disk_layer *l = disk_layer_open(d, name, &e);
    told(l, &e);
    return l;
}

static bool push_layer(struct disk *d, struct disk_layer *l, bool hold)
{
    err e = ERR_INIT;
    disk_pause(d, NULL, NULL);
    while (disk_in_flight(d))
        loop_turn(loop, 100);
    bool ok = told(disk_push_layer(d, l, hold, &e), &e);
    disk_resume(d);
    return ok;
}

static bool push(struct disk *d, const char *name, bool hold)
{
    struct disk_layer *l = new_layer(d, name);
    return l && push_layer(d, l, hold);
}

struct merged {
    bool done, ready;
    err e;
    unsigned progress;
};
static void merge_done(void *ctx, const err *e)
{
    struct merged *m = ctx;
    m->e = *e;
    m->done = true;
}
static void merge_progress(void *ctx, uint64_t done, uint64_t total)
{
    ((struct merged *)ctx)->progress++;
}

static struct disk_merge *start_merge(struct disk *d, unsigned depth, struct merged *m)
{
    err e = ERR_INIT;
    *m = (struct merged){0};
    struct disk_merge_params p = {
        .depth = depth, .progress = merge_progress, .done = merge_done, .ctx = m};
    struct disk_merge *job = disk_merge_start(d, &p, &e);
    told(job, &e);
    return job;
}

static void checkpoints_in_use(enum disk_format f, const char *ending)
{
    char n[5][64];
    err e = ERR_INIT;
    memset(model, 0, SIZE);
    for (int i = 0; i < 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "cp%d.%s", i, ending);
        snprintf(n[i], sizeof n[i], "%s", at(name));
    }
    CHECK(create(n[0], f, NULL, 1 << 20));
    struct disk *d = open_it(n[0], 0);
    d->merge_step = 1 << 20;
    scribble(d, 20);
    for (int i = 1; i < 5; i++) {
        CHECK(push(d, n[i], false));
        scribble(d, 10);
        CHECK(told(disk_settle_layers(d, &e), &e));
        CHECK(same(d));
    }
    CHECK_STR(disk_layer_name(d, 0), n[4]);
    CHECK_STR(disk_layer_name(d, 4), n[0]);
    CHECK(disk_layer_name(d, 5) == NULL);

    struct merged m;
    CHECK(start_merge(d, 2, &m) != NULL); /* n[2] into n[1], the guest writing all along */
    while (!m.done)
        scribble(d, 1);
    CHECK(told(m.e.code == ERR_NONE, &m.e));
    CHECK(m.progress > 0);
    CHECK(unlink(n[2]) == 0);
    CHECK(same(d));
    CHECK_STR(disk_layer_name(d, 2), n[1]);

    struct disk_merge *job = start_merge(d, 2, &m);
    disk_merge_cancel(job);
    while (!m.done)
        scribble(d, 1);
    CHECK_EQ(m.e.code, ERR_CANCELLED);
    CHECK(same(d));
    CHECK(start_merge(d, 1, &m) != NULL); /* the layer just below the one in use */
    while (!m.done)
        scribble(d, 1);
    CHECK(told(m.e.code == ERR_NONE, &m.e));
    CHECK(unlink(n[3]) == 0);
    CHECK(same(d));
    CHECK(start_merge(d, 1, &m) != NULL);
    scribble(d, 1);
    disk_close(d); /* cancels */
    CHECK(m.done);
    CHECK(reads_so(n[4]));
    CHECK(sound(n[4]) && sound(n[1]) && sound(n[0]));

    /* Offline, down to one file. */
    CHECK(told(disk_merge_into_parent(n[4], false, loop, NULL, &e), &e));
    CHECK(access(n[4], F_OK) != 0);
    CHECK(reads_so(n[1]));
    CHECK(told(disk_merge_into_parent(n[1], false, loop, NULL, &e), &e));
    CHECK(reads_so(n[0]));
    CHECK(sound(n[0]));
}

static void checkpoints_of_vhdx(void)
{
    checkpoints_in_use(DISK_FORMAT_VHDX, "vhdx");
}
static void checkpoints_of_vhd(void)
{
    checkpoints_in_use(DISK_FORMAT_VHD, "vhd");
}

/* ---- merging goes on where it was ---- */

/* What the layer itself holds. */
static uint64_t held_by(const char *name)
{
    struct disk *d = open_it(name, DISK_OPEN_READ_ONLY | DISK_OPEN_NO_PARENT);
    struct disk_extent x;
    uint64_t sum = 0;
    for (uint64_t off = 0; d && off < SIZE && disk_map(d, off, &x, NULL); off += x.length)
        sum += x.kind == DISK_EXTENT_DATA ? x.length : 0;
    disk_close(d);
    return sum;
}

struct interruption {
    struct disk_merge *job;
    bool done;
};
static void interrupt_at_two_thirds(void *ctx, uint64_t done, uint64_t total)
{
    struct interruption *i = ctx;
    if (done > total / 3 * 2 && i->job) {
        disk_merge_cancel(i->job);
        i->job = NULL;
    }
}
static void interrupted(void *ctx, const err *e)
{
    CHECK_EQ(e->code, ERR_CANCELLED);
    ((struct interruption *)ctx)->done = true;
}

/* base <- upper [<- top]: `upper` is full, goes down, and is interrupted. */
static void merge_again(enum disk_format f, const char *ending, bool in_use)
{
    char n[3][64];
    err e = ERR_INIT;
    struct merged m;
    struct interruption i = {0};
    for (int k = 0; k < 3; k++) {
        char name[32];
        snprintf(name, sizeof name, "again%d-%d.%s", in_use, k, ending);
        snprintf(n[k], sizeof n[k], "%s", at(name));
    }
    memset(model, 0, SIZE);
    CHECK(create(n[0], f, NULL, 1 << 20));
    struct disk *d = open_it(n[0], 0);
    CHECK(push(d, n[1], false));
    for (uint64_t off = 0; off < SIZE; off += 1 << 20) {
        memset(model + off, (int)(off >> 20) + 1, 1 << 20);
        CHECK_EQ(disk_write_sync(d, off, model + off, 1 << 20), 0);
    }
    CHECK(in_use || push(d, n[2], false));
    CHECK(told(disk_settle_layers(d, &e), &e));
    d->merge_step = 1 << 20;
    struct disk_merge_params p = {
        .depth = !in_use, .progress = interrupt_at_two_thirds, .done = interrupted, .ctx = &i};
    i.job = disk_merge_start(d, &p, &e);
    CHECK(told(i.job, &e));
    while (!i.done)
        loop_turn(loop, -1);
    CHECK(same(d));
    scribble(d, 3);
    disk_close(d);
    uint64_t left = held_by(n[1]);
    CHECK(left > 0 && left < SIZE);
    CHECK(reads_so(n[in_use ? 1 : 2]));
    CHECK(sound(n[1]) && sound(n[0]));
    d = open_it(n[in_use ? 1 : 2], 0);
    d->merge_step = 1 << 20;
    CHECK(start_merge(d, !in_use, &m) != NULL);
    while (!m.done)
        scribble(d, 1);
    CHECK(told(m.e.code == ERR_NONE, &m.e));
    CHECK(unlink(n[1]) == 0);
    CHECK(same(d));
    disk_close(d);
    CHECK(reads_so(n[in_use ? 0 : 2]));
    CHECK(sound(n[0]));
}

static void merging_goes_on(void)
{
    for (int in_use = 0; in_use < 2; in_use++) {
        merge_again(DISK_FORMAT_VHDX, "vhdx", in_use);
        merge_again(DISK_FORMAT_VHD, "vhd", in_use);
    }
}

/* ---- merging the layer in use ---- */

enum live { LIVE_AT_ONCE, LIVE_LATER, LIVE_PUSH, LIVE_CANCEL, LIVE_CLOSE, LIVE_WAYS };

static void merge_ready(void *ctx)
{
    ((struct merged *)ctx)->ready = true;
}

static struct disk_merge *start_live(struct disk *d, enum live how, struct merged *m)
{
    err e = ERR_INIT;
    *m = (struct merged){0};
    struct disk_merge_params p = {
        .ready = how == LIVE_AT_ONCE ? NULL : merge_ready, .done = merge_done, .ctx = m};
    struct disk_merge *job = disk_merge_start(d, &p, &e);
    told(job, &e);
    return job;
}

/* base <- mid <- top, top in use; top goes into mid. */
static void merge_live(enum disk_format f, const char *ending, enum live how)
{
    char n[4][64];
    struct merged m;
    err e = ERR_INIT;
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "live%d-%d.%s", how, i, ending);
        snprintf(n[i], sizeof n[i], "%s", at(name));
    }
    memset(model, 0, SIZE);
    CHECK(create(n[0], f, NULL, 1 << 20));
    struct disk *d = open_it(n[0], 0);
    d->merge_step = 1 << 20;
    for (int i = 0; i < 3; i++) {
        CHECK(i == 0 || push(d, n[i], false));
        scribble(d, 15);
    }
    CHECK(told(disk_settle_layers(d, &e), &e));
    struct disk_layer *layer = how == LIVE_PUSH ? new_layer(d, n[3]) : NULL;
    struct disk_merge *job = start_live(d, how, &m);
    CHECK(job != NULL);
    CHECK(!disk_resize(d, SIZE * 2, false, &e) && e.code == ERR_BUSY);
    if (how == LIVE_PUSH) /* before it can be ready */
        CHECK(layer && push_layer(d, layer, false));
    scribble(d, 2);
    while (!m.done && !m.ready)
        scribble(d, 1);
    CHECK_EQ(m.ready, how != LIVE_AT_ONCE && how != LIVE_PUSH);
    scribble(d, 5);
    CHECK(same(d));
    CHECK(how == LIVE_AT_ONCE || how == LIVE_PUSH || !m.done);
    if (how == LIVE_LATER) {
        disk_merge_conclude(job);
        while (!m.done)
            scribble(d, 1);
    } else if (how == LIVE_CANCEL) {
        disk_merge_cancel(job);
        while (!m.done)
            scribble(d, 1);
    } else if (how == LIVE_CLOSE) {
        disk_close(d);
        CHECK(m.done);
        CHECK(reads_so(n[1]));
        CHECK(reads_so(n[2]));
        return;
    }
    bool merged = how != LIVE_CANCEL;
    CHECK_EQ(m.e.code, merged ? ERR_NONE : ERR_CANCELLED);
    CHECK(same(d));
    CHECK_STR(disk_layer_name(d, how == LIVE_PUSH), merged ? n[1] : n[2]);
    CHECK(!merged || unlink(n[2]) == 0);
    scribble(d, 5);
    if (how != LIVE_CANCEL && how != LIVE_PUSH) { /* what there was of it is no child any more */
        struct merged again;
        CHECK(start_live(d, LIVE_AT_ONCE, &again) != NULL);
        while (!again.done)
            scribble(d, 1);
        CHECK_EQ(again.e.code, ERR_NONE);
        CHECK_STR(disk_layer_name(d, 0), n[0]);
        CHECK(disk_layer_name(d, 1) == NULL);
        CHECK(!start_live(d, LIVE_AT_ONCE, &again)); /* nothing to merge into */
        CHECK(same(d));
        disk_close(d);
        CHECK(reads_so(n[0]) && sound(n[0]));
        return;
    }
    disk_close(d);
    CHECK(reads_so(how == LIVE_PUSH ? n[3] : n[2]));
    CHECK(sound(how == LIVE_PUSH ? n[3] : n[2]) && sound(n[1]));
}

static void the_layer_in_use_of_vhdx(void)
{
    for (enum live how = 0; how < LIVE_WAYS; how++)
        merge_live(DISK_FORMAT_VHDX, "vhdx", how);
}
static void the_layer_in_use_of_vhd(void)
{
    for (enum live how = 0; how < LIVE_WAYS; how++)
        merge_live(DISK_FORMAT_VHD, "vhd", how);
}

static void flushed(struct disk_req *r, int status)
{
    *(int *)r->owner = status ? -1 : 1;
}

static void flushes_wait_for_the_manifest(void)
{
    memset(model, 0, SIZE);
    CHECK(create(at("h0.vhdx"), DISK_FORMAT_VHDX, NULL, 1 << 20));
    struct disk *d = open_it(at("h0.vhdx"), 0);
    scribble(d, 3);
    CHECK(push(d, at("h1.vhdx"), true));
    scribble(d, 3);
    int done = 0;
    struct disk_req r = {.op = DISK_FLUSH, .done = flushed, .owner = &done};
    disk_submit(d, &r);
    for (int i = 0; i < 20; i++)
        loop_turn(loop, 10);
    CHECK_EQ(done, 0);
    disk_release_flushes(d);
    while (!done)
        loop_turn(loop, 100);
    CHECK_EQ(done, 1);
    disk_close(d);
}

static void a_stranger_is_no_parent(void)
{
    err e = ERR_INIT;
    memset(model, 0, SIZE);
    CHECK(create(at("a.vhdx"), DISK_FORMAT_VHDX, NULL, 1 << 20));
    struct disk *d = open_it(at("a.vhdx"), 0);
    scribble(d, 10);
    disk_close(d);
    CHECK(create(at("b.vhdx"), DISK_FORMAT_VHDX, at("a.vhdx"), 1 << 20));
    CHECK(reads_so(at("b.vhdx")));
    CHECK(rename(at("a.vhdx"), at("moved.vhdx")) == 0);
    CHECK(!disk_open(&(struct disk_open_params){.path = at("b.vhdx"),
                                                .opener = &disk_opener_paths,
                                                .loop = loop},
                     &e));
    CHECK_EQ(e.code, ERR_NOT_FOUND);
    CHECK(told(disk_reparent(at("b.vhdx"), at("moved.vhdx"), false, loop, &e), &e));
    CHECK(reads_so(at("b.vhdx")));
    /* A parent that was written to since is none; a child that names itself neither. */
    CHECK(create(at("c.vhdx"), DISK_FORMAT_VHDX, NULL, 1 << 20));
    CHECK(!disk_reparent(at("b.vhdx"), at("c.vhdx"), false, loop, &e) && e.code == ERR_STATE);
    d = open_it(at("moved.vhdx"), 0);
    uint8_t b[512] = {1};
    CHECK_EQ(disk_write_sync(d, 0, b, 512), 0);
    disk_close(d);
    CHECK(!disk_open(&(struct disk_open_params){.path = at("b.vhdx"),
                                                .opener = &disk_opener_paths,
                                                .loop = loop},
                     &e));
    CHECK_EQ(e.code, ERR_CORRUPT);
    CHECK(told(disk_reparent(at("b.vhdx"), at("moved.vhdx"), true, loop, &e), &e));
    d = open_it(at("b.vhdx"), DISK_OPEN_READ_ONLY);
    CHECK(d != NULL);
    disk_close(d);
    CHECK(!disk_reparent(at("b.vhdx"), at("b.vhdx"), true, loop, &e));
}

static void sixty_four_layers(void)
{
    char name[32], parent[300];
    err e = ERR_INIT;
    memset(model, 0, SIZE);
    CHECK(create(at("deep0.vhdx"), DISK_FORMAT_VHDX, NULL, 1 << 20));
    for (int i = 1; i <= 64; i++) {
        snprintf(name, sizeof name, "deep%d.vhdx", i - 1);
        snprintf(parent, sizeof parent, "%s", at(name));
        snprintf(name, sizeof name, "deep%d.vhdx", i);
        CHECK(create(at(name), DISK_FORMAT_VHDX, parent, 1 << 20));
        struct disk *d = open_it(at(name), 0);
        scribble(d, 1);
        disk_close(d);
    }
    CHECK(reads_so(at("deep64.vhdx")));
    CHECK(disk_create(&(struct disk_create_params){.path = at("deep65.vhdx"),
                                                   .type = DISK_DIFFERENCING,
                                                   .parent = at("deep64.vhdx")},
                      loop, &e));
    CHECK(!disk_open(&(struct disk_open_params){.path = at("deep65.vhdx"),
                                                .opener = &disk_opener_paths,
                                                .loop = loop},
                     &e));
}

static uint64_t length_of(const char *name)
{
    struct stat st;
    return stat(name, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void compacting(void)
{
    static const char *const names[] = {"k.vhdx", "k.vhd"};
    for (int i = 0; i < 2; i++) {
        err e = ERR_INIT;
        char name[256];
        snprintf(name, sizeof name, "%s", at(names[i]));
        memset(model, 0, SIZE);
        CHECK(create(name, i ? DISK_FORMAT_VHD : DISK_FORMAT_VHDX, NULL, 1 << 20));
        struct disk *d = open_it(name, 0);
        for (int k = SIZE / (1 << 20) - 1; k >= 0; k--) {
            memset(model + k * (1 << 20), k + 1, 1 << 20);
            CHECK_EQ(disk_write_sync(d, (uint64_t)k << 20, model + k * (1 << 20), 1 << 20), 0);
        }
        for (int k = 0; k < SIZE / (1 << 20); k++) {
            if (k % 3 == 0) { /* written zeroes, not TRIM */
                memset(model + k * (1 << 20), 0, 1 << 20);
                CHECK_EQ(disk_write_sync(d, (uint64_t)k << 20, model + k * (1 << 20), 1 << 20), 0);
            } else if (k % 3 == 1) {
                memset(model + k * (1 << 20), 0, 1 << 20);
                CHECK_EQ(disk_discard_sync(d, (uint64_t)k << 20, 1 << 20), 0);
            }
        }
        disk_close(d);
        uint64_t before = length_of(name);
        CHECK(told(disk_compact(name, loop, NULL, &e), &e));
        CHECK(length_of(name) <= before - (uint64_t)15 * (1 << 20));
        CHECK(reads_so(name));
        CHECK(sound(name));
        struct disk_check_result r;
        CHECK(disk_check(name, false, loop, NULL, NULL, NULL, &r, &e));
        CHECK_EQ(r.leaked, 0);
    }
}

static void a_huge_disk_costs_little(void)
{
    err e = ERR_INIT;
    CHECK(told(disk_create(&(struct disk_create_params){.path = at("huge.vhdx"),
                                                        .type = DISK_DYNAMIC,
                                                        .size = TIB(64),
                                                        .block_size = 1 << 20},
                           loop, &e),
               &e));
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    struct disk *d = open_it(at("huge.vhdx"), 0);
    uint8_t b[512] = {42}, got[512];
    for (uint64_t i = 0; i < 20000; i++) { /* each in another page of the table */
        uint64_t off = i * 3355443200ull;
        if (i % 50 == 0)
            CHECK_EQ(disk_write_sync(d, off, b, 512), 0);
        CHECK_EQ(disk_read_sync(d, off, got, 512), 0);
        CHECK_EQ(got[0], i % 50 ? 0 : 42);
    }
    getrusage(RUSAGE_SELF, &after);
#ifndef __SANITIZE_ADDRESS__ /* whose quarantine counts as ours */
    CHECK(after.ru_maxrss - before.ru_maxrss < 64 * 1024);
#endif
    disk_close(d);
}

static void conversions_and_refusals(void)
{
    err e = ERR_INIT;
    memset(model, 0, SIZE);
    CHECK(create(at("v0.vhdx"), DISK_FORMAT_VHDX, NULL, 1 << 20));
    CHECK(create(at("v1.vhdx"), DISK_FORMAT_VHDX, at("v0.vhdx"), 2 << 20));
    struct disk *d = open_it(at("v1.vhdx"), 0);
    scribble(d, 30);
    disk_close(d);
    static const char *const to[] = {"o.raw", "o.vhd", "o.vhdx"};
    for (int i = 0; i < 3; i++)
        for (int fixed = 0; fixed < 2; fixed++) {
            struct disk_convert_params p = {.source = at("v1.vhdx"),
                                            .target = at(to[i]),
                                            .type = fixed ? DISK_FIXED : DISK_DYNAMIC,
                                            .force = fixed};
            CHECK(told(disk_convert(&p, loop, NULL, &e), &e));
            CHECK(reads_so(at(to[i])));
            p.force = false;
            CHECK(!disk_convert(&p, loop, NULL, &e) && e.code == ERR_EXISTS);
        }
    CHECK(!disk_create(&(struct disk_create_params){.path = at("o.vhdx"), .size = 1 << 20}, loop,
                       &e) &&
          e.code == ERR_EXISTS);
    CHECK(!disk_create(&(struct disk_create_params){.path = at("x.vhdx"), .size = 1000}, loop, &e));
    CHECK(!disk_create(&(struct disk_create_params){.path = at("x.vhdx"), .size = TIB(65)}, loop,
                       &e));
    CHECK(!disk_create(&(struct disk_create_params){.path = at("x.vhd"), .size = GIB(2041)}, loop,
                       &e));
    CHECK(access(at("x.vhdx"), F_OK) != 0);
}

static const struct check_test tests[] = {
    CHECK_TEST(checkpoints_of_vhdx),
    CHECK_TEST(checkpoints_of_vhd),
    CHECK_TEST(merging_goes_on),
    CHECK_TEST(the_layer_in_use_of_vhdx),
    CHECK_TEST(the_layer_in_use_of_vhd),
    CHECK_TEST(flushes_wait_for_the_manifest),
    CHECK_TEST(a_stranger_is_no_parent),
    CHECK_TEST(sixty_four_layers),
    CHECK_TEST(compacting),
    CHECK_TEST(a_huge_disk_costs_little),
    CHECK_TEST(conversions_and_refusals),
};

int main(int argc, char **argv)
{
    loop = loop_new(NULL);
    model = calloc(1, SIZE);
    if (!mkdtemp(dir))
        return 1;
    int rc = check_run(tests, ARRAY_LEN(tests), argc, argv);
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    if (system(cmd) != 0)
        rc = 1;
    free(model);
    loop_free(loop);
    return rc;
}
