/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Opening a VHD. The size of a disk is the footer's current size, for every creator: so do Windows
 * and Hyper-V. (The geometry beside it is rounded down to whole cylinders; Virtual PC's own IDE
 * disks showed that many sectors to their guests, and QEMU still takes it for files of Virtual PC
 * and its own older ones; where the two differ, following the geometry would cut off the end of a
 * disk that Windows has written.)
 */
#include <errno.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/base/log.h"
#include "core/storage/utf16.h"
#include "core/storage/vhd.h"

#define NAME(v) ((v)->base.file->name)

enum { MAX_LOCATOR = 65536 };

uint32_t vhd_checksum(const void *structure, size_t len, size_t field)
{
    const uint8_t *p = structure;
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i++)
        if (i < field || i >= field + 4)
            sum += p[i];
    return ~sum;
}

void vhd_seal_footer(struct vhd_footer *f)
{
    f->checksum =
        __builtin_bswap32(vhd_checksum(f, sizeof *f, offsetof(struct vhd_footer, checksum)));
}
void vhd_seal_header(struct vhd_header *h)
{
    h->checksum =
        __builtin_bswap32(vhd_checksum(h, sizeof *h, offsetof(struct vhd_header, checksum)));
}
bool vhd_footer_ok(const struct vhd_footer *f)
{
    return !memcmp(f->cookie, VHD_COOKIE, 8) &&
           get_be32(&f->checksum) ==
               vhd_checksum(f, sizeof *f, offsetof(struct vhd_footer, checksum));
}

void vhd_guid_get(const uint8_t *p, struct guid *out)
{
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (int i = 0; i < 16; i++)
        out->b[i] = p[order[i]];
}
void vhd_guid_put(uint8_t *p, const struct guid *g)
{
    struct guid turned;
    vhd_guid_get(g->b, &turned);
    memcpy(p, turned.b, 16);
}

uint32_t vhd_bitmap_size(uint32_t block_size)
{
    return (uint32_t)align_up(div_round_up(block_size / VHD_SECTOR, 8), VHD_SECTOR);
}

/* ---- footer ---- */

static bool read_footers(struct vhd *v, err *e)
{
    struct sfile *f = v->base.file;
    struct vhd_footer tail = {0}, copy = {0};
    uint64_t size = sfile_size(f);
    if (size < VHD_SECTOR - 1)
        return err_set(e, ERR_CORRUPT, "%s is too short for a VHD", NAME(v));
    /* Virtual PC before 2004 wrote a footer of 511 bytes: the last is taken as zero. */
    uint64_t at = align_up(size, VHD_SECTOR) - VHD_SECTOR;
    int rc = sfile_read(f, at, &tail, sizeof tail);
    if (rc == 0)
        rc = sfile_read(f, 0, &copy, sizeof copy);
    if (rc)
        return err_errno(e, rc, "Could not read %s", NAME(v));
    v->footer_bad = !vhd_footer_ok(&tail);
    v->copy_bad = !vhd_footer_ok(&copy);
    if (v->footer_bad && v->copy_bad)
        return err_set(e, ERR_CORRUPT, "%s: %s", NAME(v),
                       !memcmp(tail.cookie, VHD_COOKIE, 8) ? "the footer's checksum is wrong"
                                                           : "there is no footer");
    v->footer = v->footer_bad ? copy : tail;
    /* A cut between writing the two leaves them different: the one at the end is the newer. */
    if (!v->footer_bad && get_be32(&tail.type) != VHD_FIXED && memcmp(&tail, &copy, sizeof tail))
        v->copy_bad = true;
    v->space.file_size = size;
    v->space.tail = VHD_SECTOR;
    v->space.end = v->footer_bad ? align_up(size, VHD_SECTOR) : at;
    if (v->footer_bad)
        log_line(LOG_WARNING, "vhd", "%s: the footer is missing; its copy is used", NAME(v));
    return true;
}

static bool take_footer(struct vhd *v, err *e)
{
    struct image *img = &v->base;
    const struct vhd_footer *f = &v->footer;
    uint32_t type = get_be32(&f->type);
    img->size = get_be64(&f->current_size);
    vhd_guid_get(f->id, &img->disk_id);
    if (get_be32(&f->version) >> 16 != VHD_VERSION >> 16)
        return err_set(e, ERR_UNSUPPORTED, "%s: version %u.%u of VHD is not known", NAME(v),
                       get_be32(&f->version) >> 16, get_be32(&f->version) & 0xffff);
    if (type != VHD_FIXED && type != VHD_DYNAMIC && type != VHD_DIFFERENCING)
        return err_set(e, ERR_UNSUPPORTED, "%s: type %u of VHD is not known", NAME(v), type);
    if (!img->size || img->size > VHD_MAX_SIZE || img->size % VHD_SECTOR)
        return err_set(e, ERR_CORRUPT, "%s: a size of %llu bytes is not possible", NAME(v),
                       (unsigned long long)img->size);
    img->type = type == VHD_FIXED     ? DISK_FIXED
                : type == VHD_DYNAMIC ? DISK_DYNAMIC
                                      : DISK_DIFFERENCING;
    if (img->type == DISK_FIXED && (v->footer_bad || img->size > v->space.end))
        return err_set(e, ERR_CORRUPT, "%s has been cut short", NAME(v));
    return true;
}

/* ---- dynamic header ---- */

static bool check_header(struct vhd *v, err *e)
{
    const struct vhd_header *h = &v->header;
    if (memcmp(h->cookie, VHD_HEADER_COOKIE, 8))
        return err_set(e, ERR_CORRUPT, "%s: the dynamic header is missing", NAME(v));
    if (get_be32(&h->checksum) != vhd_checksum(h, sizeof *h, offsetof(struct vhd_header, checksum)))
        return err_set(e, ERR_CORRUPT, "%s: the dynamic header's checksum is wrong", NAME(v));
    if (get_be32(&h->version) >> 16 != VHD_VERSION >> 16)
        return err_set(e, ERR_UNSUPPORTED, "%s: a dynamic header of this version is not known",
                       NAME(v));
    return true;
}

static bool take_header(struct vhd *v, err *e)
{
    struct image *img = &v->base;
    const struct vhd_header *h = &v->header;
    uint32_t bs = get_be32(&h->block_size);
    if (bs < VHD_MIN_BLOCK || bs > VHD_MAX_BLOCK || (bs & (bs - 1)))
        return err_set(e, ERR_CORRUPT, "%s: a block size of %u bytes is not possible", NAME(v), bs);
    img->block_size = bs;
    v->block_shift = (uint32_t)__builtin_ctz(bs);
    v->bitmap_size = vhd_bitmap_size(bs);
    v->nblocks = div_round_up(img->size, bs);
    v->table_off = get_be64(&h->table_offset);
    v->table_entries = get_be32(&h->table_entries);
    if (v->table_entries < v->nblocks)
        return err_set(e, ERR_CORRUPT, "%s: the block allocation table is too small", NAME(v));
    if (v->table_off % VHD_SECTOR || v->table_off < VHD_SECTOR ||
        !range_within(v->table_off, (uint64_t)v->table_entries * 4, v->space.file_size))
        return err_set(e, ERR_CORRUPT, "%s: the block allocation table lies outside of the file",
                       NAME(v));
    return true;
}

static bool read_header(struct vhd *v, err *e)
{
    v->header_off = get_be64(&v->footer.header_offset);
    if (v->header_off % VHD_SECTOR ||
        !range_within(v->header_off, sizeof v->header, v->space.file_size))
        return err_set(e, ERR_CORRUPT, "%s: the dynamic header lies outside of the file", NAME(v));
    int rc = sfile_read(v->base.file, v->header_off, &v->header, sizeof v->header);
    if (rc)
        return err_errno(e, rc, "Could not read %s", NAME(v));
    return check_header(v, e) && take_header(v, e);
}

static bool open_it(struct vhd *v, err *e)
{
    struct image *img = &v->base;
    v->space.img = img;
    img->format = DISK_FORMAT_VHD;
    img->logical_sector = img->physical_sector = VHD_SECTOR;
    if (!read_footers(v, e) || !take_footer(v, e))
        return false;
    img->keep_allocated = img->type == DISK_FIXED;
    img->zeroes_after_discard = img->type == DISK_DYNAMIC;
    if (img->type == DISK_FIXED)
        return true;
    if (!meta_init(&img->meta, img->file, VHD_SECTOR, VHD_CACHE_PAGES))
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", NAME(v));
    if (!read_header(v, e))
        return false;
    img->discard_granularity = img->type == DISK_DYNAMIC ? img->block_size : 0;
    v->footer_moved = v->footer_bad || v->copy_bad;
    return true;
}

struct image *vhd_open(struct sfile *file, struct loop *loop, err *e)
{
    struct vhd *v = calloc(1, sizeof *v);
    if (!v) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", file->name);
        return NULL;
    }
    image_init(&v->base, &vhd_ops, file, loop);
    if (open_it(v, e))
        return &v->base;
    v->base.file = NULL; /* stays the caller's */
    vhd_ops.destroy(&v->base);
    return NULL;
}

/* ---- parents ---- */

static bool vhd_identity(struct image *img, struct guid *out)
{
    *out = img->disk_id;
    return true;
}

/* A locator's name; NULL where it is not one of ours to read or is damaged. */
static char *locator_name(struct vhd *v, const struct vhd_locator *l)
{
    uint32_t code = get_be32(&l->platform), len = get_be32(&l->length);
    uint64_t off = get_be64(&l->offset);
    if ((code != VHD_W2RU && code != VHD_W2KU) || len > MAX_LOCATOR ||
        !range_within(off, len, v->space.file_size))
        return NULL;
    AUTO(buf) text = malloc(len + 1);
    if (!text || sfile_read(v->base.file, off, text, len) != 0)
        return NULL;
    return utf16_to_utf8(text, len, false);
}

static bool add_locators(struct vhd *v, uint32_t code, struct parent_ref *out)
{
    for (int i = 0; i < VHD_LOCATORS; i++) {
        if (get_be32(&v->header.locators[i].platform) != code)
            continue;
        AUTO(str) name = locator_name(v, &v->header.locators[i]);
        if (!name)
            continue;
        if (!parent_ref_add(out, name))
            return false;
        if (!out->stored || code == VHD_W2KU) {
            free(out->stored);
            out->stored = TAKE(name);
        }
    }
    return true;
}

static bool vhd_parent_ref(struct image *img, struct parent_ref *out, err *e)
{
    struct vhd *v = (struct vhd *)img;
    vhd_guid_get(v->header.parent_id, &out->id);
    AUTO(str) name = utf16_to_utf8(v->header.parent_name, sizeof v->header.parent_name, true);
    if (!name || !add_locators(v, VHD_W2RU, out) || !add_locators(v, VHD_W2KU, out) ||
        (*name && !parent_ref_add(out, name)))
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", NAME(v));
    if (!out->stored)
        out->stored = TAKE(name);
    return out->npaths || err_set(e, ERR_CORRUPT, "%s does not name its parent", NAME(v));
}

static int vhd_settle_identity(struct image *img)
{
    return 0; /* writing does not change it */
}

static int vhd_set_identity(struct image *img, const struct guid *id)
{
    return 0; /* a VHD's is its own for ever: children are told their new parent's */
}

static bool vhd_now_writable(struct image *img, err *e)
{
    return true;
}

static void vhd_destroy(struct image *img)
{
    space_fini(&((struct vhd *)img)->space);
    image_fini(img);
    free(img);
}

static bool vhd_pending(const struct image *img)
{
    return ((const struct vhd *)img)->footer_moved && img->unflushed;
}

const struct image_ops vhd_ops = {
    .name = "VHD",
    .map = vhd_map,
    .map_write = vhd_map_write,
    .map_zero = vhd_map_zero,
    .wrote = vhd_wrote,
    .forget = vhd_forget,
    .commit = vhd_commit,
    .clean = vhd_clean,
    .settle_identity = vhd_settle_identity,
    .pending = vhd_pending,
    .resize = vhd_resize,
    .identity = vhd_identity,
    .parent_ref = vhd_parent_ref,
    .set_parent = vhd_set_parent,
    .set_identity = vhd_set_identity,
    .now_writable = vhd_now_writable,
    .destroy = vhd_destroy,
};
