/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHDX: headers, regions, items, locator, table, bitmaps and log of images gone wrong; opened,
 * checked, read, written, trimmed and closed. */
#include "disk-fuzz.h"

#include "core/storage/vhdx.h"

static struct loop *loop;
static struct sample parent, samples[3]; /* dynamic, differencing, with a log to replay */

static void set_up(void)
{
    struct crashstore s;
    struct guid id;
    loop = loop_new(NULL);
    log_set_sink(silent, NULL);
    crashstore_init(&s, loop, 1);
    s.deterministic = s.forgetful = true;
    struct format_params f = {
        .format = DISK_FORMAT_VHDX, .type = DISK_DYNAMIC, .size = 4 << 20, .block_size = 1 << 20};
    make_image(&s, "p", &f);
    write_some(&s, "p");
    make_image(&s, "a", &f);
    write_some(&s, "a");
    struct disk *d = crashstore_disk(&s, "p", DISK_OPEN_READ_ONLY, NULL);
    image_identity(d->top, &id);
    disk_close(d);
    f.type = DISK_DIFFERENCING;
    f.parent_path = "p";
    f.parent_id = id;
    make_image(&s, "c", &f);
    write_some(&s, "c");
    take_sample(&s, "p", &parent);
    take_sample(&s, "a", &samples[0]);
    take_sample(&s, "c", &samples[1]);
    d = crashstore_disk(&s, "c", 0, NULL);
    uint8_t b[512] = {1};
    disk_write_sync(d, 3 << 20, b, sizeof b);
    disk_flush_sync(d);
    disk_write_sync(d, 2 << 20, b, sizeof b);
    disk_flush_sync(d);
    take_sample(&s, "c", &samples[2]); /* as it is while in use */
    disk_close(d);
    crashstore_clear(&s);
}

static void seal(uint8_t *p, uint64_t size)
{
    if (size < 2 * VHDX_MB)
        return;
    for (unsigned i = 0; i < 2; i++) {
        put_le32(p + VHDX_HEADER_OFFSET(i) + 4,
                 vhdx_checksum(p + VHDX_HEADER_OFFSET(i), VHDX_PAGE));
        put_le32(p + VHDX_REGION_OFFSET(i) + 4,
                 vhdx_checksum(p + VHDX_REGION_OFFSET(i), VHDX_TABLE_SIZE));
    }
    for (uint64_t at = VHDX_MB; at < 2 * VHDX_MB; at += VHDX_PAGE) {
        uint32_t len = get_le32(p + at + 8);
        if (get_le32(p + at) == VHDX_LOG_MAGIC && len >= 64 && at + len <= 2 * VHDX_MB)
            put_le32(p + at + 4, vhdx_checksum(p + at, len));
    }
}

static void check(struct crashstore *s, bool repair)
{
    struct disk_check_result r = {0};
    struct checker c = {.name = "d", .repair = repair, .result = &r};
    struct sfile *f = crashstore_open(s, "d");
    f->read_only = !repair;
    vhdx_check(&c, f, loop, NULL);
    sfile_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t places[] = {
        VHDX_HEADER_OFFSET(0),
        VHDX_HEADER_OFFSET(1),
        VHDX_REGION_OFFSET(0),
        VHDX_REGION_OFFSET(1),
        VHDX_MB,
        VHDX_MB + 4096,
        VHDX_MB + 8192,
        VHDX_MB + 12288,
        2 * VHDX_MB,
        2 * VHDX_MB + VHDX_TABLE_SIZE,
        3 * VHDX_MB,
        5 * VHDX_MB,
    };
    if (!loop)
        set_up();
    struct input in = {data, size};
    uint8_t how = in_u8(&in);
    const struct sample *s = &samples[how % 3];
    struct crashstore store;
    uint64_t image_size = s->size;
    uint8_t *p;
    if ((how & 7) == 7) {
        p = put_whole(&in, &store, loop, &parent, &image_size);
    } else {
        p = put_image(&store, loop, s, &parent);
        change_image(&in, p, s->size, places, ARRAY_LEN(places));
    }
    if (how & 8)
        seal(p, image_size);
    if (how & 16)
        cut_image(&store, image_size - in_u32(&in) % MAX(image_size, 1u));
    if (how & 64)
        check(&store, how & 128);
    use_image(&in, &store,
              (how & 32 ? DISK_OPEN_READ_ONLY : 0) | (how == 7 ? DISK_OPEN_NO_PARENT : 0));
    crashstore_clear(&store);
    return 0;
}
