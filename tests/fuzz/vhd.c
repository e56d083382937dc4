/* SPDX-License-Identifier: GPL-3.0-or-later */
/* VHD: footers, header, locators, table and bitmaps of images gone wrong; opened, checked, read,
 * written and closed. */
#include "disk-fuzz.h"

#include "core/storage/vhd.h"

static struct loop *loop;
static struct sample parent, samples[3]; /* dynamic, differencing, fixed */

static void set_up(void)
{
    struct crashstore s;
    loop = loop_new(NULL);
    log_set_sink(silent, NULL);
    crashstore_init(&s, loop, 1);
    s.deterministic = s.forgetful = true;
    struct format_params f = {
        .format = DISK_FORMAT_VHD, .type = DISK_DYNAMIC, .size = 4 << 20, .block_size = 65536};
    make_image(&s, "p", &f);
    write_some(&s, "p");
    make_image(&s, "a", &f);
    write_some(&s, "a");
    struct disk *d = crashstore_disk(&s, "p", DISK_OPEN_READ_ONLY, NULL);
    image_identity(d->top, &f.parent_id);
    disk_close(d);
    f.type = DISK_DIFFERENCING;
    f.parent_path = "p";
    make_image(&s, "c", &f);
    write_some(&s, "c");
    f = (struct format_params){.format = DISK_FORMAT_VHD, .type = DISK_FIXED, .size = 65536};
    make_image(&s, "f", &f);
    take_sample(&s, "p", &parent);
    take_sample(&s, "a", &samples[0]);
    take_sample(&s, "c", &samples[1]);
    take_sample(&s, "f", &samples[2]);
    crashstore_clear(&s);
}

static void seal(uint8_t *p, uint64_t size)
{
    struct vhd_footer *tail = (void *)(p + size - VHD_SECTOR), *front = (void *)p;
    struct vhd_header *h = (void *)(p + VHD_SECTOR);
    if (size < 2 * VHD_SECTOR)
        return;
    vhd_seal_footer(tail);
    vhd_seal_footer(front);
    if (size >= 4096)
        vhd_seal_header(h);
}

static void check(struct crashstore *s, bool repair)
{
    struct disk_check_result r = {0};
    struct checker c = {.name = "d", .repair = repair, .result = &r};
    struct sfile *f = crashstore_open(s, "d");
    f->read_only = !repair;
    vhd_check(&c, f, NULL);
    sfile_close(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!loop)
        set_up();
    struct input in = {data, size};
    uint8_t how = in_u8(&in);
    const struct sample *s = &samples[how % 3];
    const uint64_t places[] = {0,    VHD_SECTOR, VHD_SECTOR + 576,    1536, 2048,
                               2560, 3072,       s->size - VHD_SECTOR};
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
