/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the fuzzers of disk formats share. An input is a list of changes to sound images (so that a
 * few bytes reach deep), and then of requests. The target names the interesting places of its
 * format and how to set checksums right again.
 */
#ifndef VIREO_TESTS_DISK_FUZZ_H
#define VIREO_TESTS_DISK_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "../lib/crashfile.c"
#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/log.h"
#include "core/storage/format.h"
#include "core/storage/tool.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t left;
};

static inline uint8_t in_u8(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->p++;
}
static inline uint32_t in_u32(struct input *in)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v = v << 8 | in_u8(in);
    return v;
}

/* A sound image, kept as its pages that are not zero. */
struct sample {
    uint64_t size;
    uint32_t npages;
    uint64_t *at; /* of each */
    uint8_t *bytes;
};

static void silent(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

static inline void take_sample(struct crashstore *s, const char *name, struct sample *out)
{
    static const uint8_t zero[4096];
    const uint8_t *p = crashstore_get(s, name, &out->size);
    out->bytes = malloc(out->size);
    out->at = malloc(out->size / sizeof zero * sizeof *out->at + sizeof *out->at);
    out->npages = 0;
    for (uint64_t off = 0; off < out->size; off += sizeof zero) {
        uint64_t n = MIN(out->size - off, sizeof zero);
        if (!memcmp(p + off, zero, n))
            continue;
        memcpy(out->bytes + (uint64_t)out->npages * sizeof zero, p + off, n);
        out->at[out->npages++] = off;
    }
}

static inline void put_sample(struct crashstore *s, const char *name, const struct sample *x)
{
    uint64_t size;
    crashstore_put(s, name, "", 0);
    struct sfile *f = crashstore_open(s, name);
    sfile_set_size(f, x->size);
    sfile_close(f);
    uint8_t *p = crashstore_get(s, name, &size);
    for (uint32_t i = 0; i < x->npages; i++)
        memcpy(p + x->at[i], x->bytes + (uint64_t)i * 4096, MIN(size - x->at[i], (uint64_t)4096));
}

/* Up to 64 changes; each at one of `places` plus up to 64 KiB, or anywhere. */
static inline void change_image(struct input *in, uint8_t *p, uint64_t size, const uint64_t *places,
                                size_t nplaces)
{
    unsigned n = in_u8(in) % 64;
    for (unsigned i = 0; i < n && in->left; i++) {
        uint8_t where = in_u8(in), len = in_u8(in) % 17;
        uint64_t off = (uint64_t)(in_u8(in) << 8 | in_u8(in));
        if (where == 255)
            off = in_u32(in);
        else
            off = places[where % nplaces] + (where & 128 ? off : off % 512);
        for (uint8_t k = 0; k < len && off + k < size; k++)
            p[off + k] = in_u8(in);
    }
}

static inline void use_disk(struct input *in, struct disk *d)
{
    static uint8_t buf[1 << 16];
    struct disk_info info;
    disk_get_info(d, &info);
    uint64_t sectors = info.size / info.logical_sector;
    for (int i = 0; sectors && i < 24; i++) {
        uint8_t op = in_u8(in);
        uint64_t at = in_u32(in);
        if (op & 128)
            at = sectors - 1 - at % MIN(sectors, (uint64_t)4096);
        uint64_t n = MIN((uint64_t)(1 + in_u8(in) % 16), sectors - at % sectors);
        uint64_t off = at % sectors * info.logical_sector, len = n * info.logical_sector;
        switch (op % 8) {
        case 0:
        case 1:
        case 2: disk_read_sync(d, off, buf, len); break;
        case 3:
        case 4: disk_write_sync(d, off, buf, len); break;
        case 5: disk_discard_sync(d, off, MIN(info.size - off, (uint64_t)in_u8(in) << 20)); break;
        case 6: disk_zero_sync(d, off, len, op & 64); break;
        default: disk_flush_sync(d);
        }
    }
}

/* A store that holds the sample as "d", to be changed in place, and its parent as "p". */
static inline uint8_t *put_image(struct crashstore *s, struct loop *loop,
                                 const struct sample *image, const struct sample *parent)
{
    uint64_t size;
    crashstore_init(s, loop, 1);
    s->deterministic = s->forgetful = true;
    s->max_size = 1ull << 32;
    put_sample(s, "d", image);
    put_sample(s, "p", parent);
    return crashstore_get(s, "d", &size);
}

static inline void cut_image(struct crashstore *s, uint64_t size)
{
    struct sfile *f = crashstore_open(s, "d");
    sfile_set_size(f, size);
    sfile_close(f);
}

/*
 * The other kind of input: an image as a whole, so that other people's can be seeds (disk-seed.py
 * makes them): its size in sectors, a number of runs, of each the first sector and how many, and
 * their bytes. As "d", beside the parent as "p".
 */
static inline uint8_t *put_whole(struct input *in, struct crashstore *s, struct loop *loop,
                                 const struct sample *parent, uint64_t *size)
{
    const struct sample empty = {0};
    uint8_t *p = put_image(s, loop, &empty, parent);
    *size = (uint64_t)in_u32(in) % (s->max_size / 512) * 512;
    cut_image(s, *size);
    for (unsigned n = in_u8(in); n && in->left; n--) {
        uint64_t off = (uint64_t)in_u32(in) * 512, len = (uint64_t)in_u8(in) * 512;
        len = MIN(len, in->left);
        if (range_within(off, len, *size))
            memcpy(p + off, in->p, len);
        in->p += len;
        in->left -= len;
    }
    return p;
}

static inline void use_image(struct input *in, struct crashstore *s, unsigned flags)
{
    struct disk *d = crashstore_disk(s, "d", flags, NULL);
    if (!d)
        return;
    struct parent_ref ref = {0};
    image_parent_ref(d->top, &ref, NULL);
    parent_ref_clear(&ref);
    use_disk(in, d);
    disk_close(d);
}

static inline void make_image(struct crashstore *s, const char *name, const struct format_params *f)
{
    struct format_params p = *f;
    err e = ERR_INIT;
    struct sfile *file = crashstore_open(s, name);
    if (!format_check(&p, &e) || !format_write(file, &p, &e)) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
    sfile_close(file);
}

static inline void write_some(struct crashstore *s, const char *name)
{
    uint8_t b[4096];
    memset(b, 0x5a, sizeof b);
    struct disk *d = crashstore_disk(s, name, 0, NULL);
    if (!d)
        abort();
    for (int i = 0; i < 3; i++)
        disk_write_sync(d, (uint64_t)i * 1200 * 1024, b, sizeof b);
    disk_close(d);
}

#endif
