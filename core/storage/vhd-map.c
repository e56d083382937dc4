/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where a VHD's bytes lie, and how room is made for them. A block is a bitmap, then its sectors. */
#include <errno.h>

#include "core/base/checked.h"
#include "core/base/log.h"
#include "core/storage/vhd.h"

#define V(img) ((struct vhd *)(img))

enum { BITS_PER_PAGE = VHD_SECTOR * 8 };

static bool overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

bool vhd_block_ok(const struct vhd *v, uint32_t entry)
{
    uint64_t off = (uint64_t)entry * VHD_SECTOR, len = v->bitmap_size + v->base.block_size;
    /* The last block may be short of the sectors that lie beyond the disk's end. */
    return off >= VHD_SECTOR && range_within(off, v->bitmap_size, v->space.file_size) &&
           !overlaps(off, len, v->table_off, (uint64_t)v->table_entries * 4) &&
           !overlaps(off, len, v->header_off, sizeof v->header);
}

static enum map_kind bad_entry(struct vhd *v, uint64_t block, struct map *m)
{
    LOG_GUEST("vhd", "%s: the table's entry of block %llu is damaged", v->base.file->name,
              (unsigned long long)block);
    m->at = EIO;
    return MAP_ERROR;
}

static struct meta_page *bat_page(struct vhd *v, uint64_t block, struct map *m)
{
    m->at = align_down(v->table_off + block * 4, VHD_SECTOR);
    return meta_peek(&v->base.meta, m->at);
}
static uint32_t bat_get(const struct meta_page *p, uint64_t block)
{
    return get_be32(p->data + block % (VHD_SECTOR / 4) * 4);
}
static void bat_set(struct vhd *v, struct meta_page *p, uint64_t block, uint32_t entry)
{
    put_be32(p->data + block % (VHD_SECTOR / 4) * 4, entry);
    meta_dirty(&v->base.meta, p);
}

/* Bits count from the most significant one of each byte. */
static bool bit_at(const uint8_t *p, uint32_t i)
{
    return p[i / 8] >> (7 - i % 8) & 1;
}

static uint32_t run_length(const uint8_t *p, uint32_t first, uint32_t count)
{
    bool value = bit_at(p, first);
    uint32_t i = first + 1, end = first + count;
    uint64_t same = value ? UINT64_MAX : 0;
    while (i < end) {
        if (i % 64 == 0 && end - i >= 64 && get_le64(p + i / 8) == same)
            i += 64;
        else if (bit_at(p, i) == value)
            i++;
        else
            break;
    }
    return i - first;
}

struct bits {
    struct meta_page *page;
    uint32_t first, count;
};

static bool bitmap_bits(struct vhd *v, uint32_t entry, uint64_t in_block, uint64_t len,
                        struct bits *b, struct map *m)
{
    uint32_t bit = (uint32_t)(in_block / VHD_SECTOR);
    m->at = (uint64_t)entry * VHD_SECTOR + align_down(bit / 8, VHD_SECTOR);
    b->page = meta_peek(&v->base.meta, m->at);
    b->first = bit % BITS_PER_PAGE;
    b->count = (uint32_t)MIN(len / VHD_SECTOR, BITS_PER_PAGE - b->first);
    return b->page != NULL;
}

static uint64_t same_beyond(struct vhd *v, const struct meta_page *p, uint64_t block, uint64_t got,
                            uint64_t want)
{
    for (block++; got < want && block < v->nblocks && block % (VHD_SECTOR / 4); block++) {
        if (bat_get(p, block) != VHD_UNUSED)
            break;
        got = MIN(want, got + v->base.block_size);
    }
    return got;
}

static enum map_kind absent(const struct vhd *v)
{
    return v->base.type == DISK_DIFFERENCING ? MAP_PARENT : MAP_ZERO;
}

enum map_kind vhd_map(struct image *img, uint64_t off, struct map *m)
{
    struct vhd *v = V(img);
    if (img->type == DISK_FIXED) {
        m->at = off;
        return MAP_DATA;
    }
    uint64_t block = off >> v->block_shift, in_block = off & (img->block_size - 1);
    uint64_t want = m->len, here = MIN(want, img->block_size - in_block);
    struct meta_page *p = bat_page(v, block, m);
    if (!p)
        return MAP_LOAD;
    uint32_t entry = bat_get(p, block);
    if (entry == VHD_UNUSED) {
        m->len = same_beyond(v, p, block, here, want);
        return absent(v);
    }
    struct bits b;
    if (!vhd_block_ok(v, entry))
        return bad_entry(v, block, m);
    if (!bitmap_bits(v, entry, in_block, here, &b, m))
        return MAP_LOAD;
    m->len = (uint64_t)run_length(b.page->data, b.first, b.count) * VHD_SECTOR;
    m->at = (uint64_t)entry * VHD_SECTOR + v->bitmap_size + in_block;
    return bit_at(b.page->data, b.first) ? MAP_DATA : absent(v);
}

/* ---- making room ---- */

static bool may_change(struct vhd *v)
{
    if (v->base.meta.ndirty + v->reserved + 64 > VHD_MAX_DIRTY || v->space.nnew > SPACE_MAX_NEW)
        return false;
    if (v->base.meta.ndirty > VHD_MAX_DIRTY / 2)
        image_kick(&v->base);
    else
        image_commit_soon(&v->base);
    return true;
}

/* A block of a dynamic disk begins with all its bits set, as others write it: its sectors read as
 * zeroes. One of a differencing disk begins with none. */
static int new_bitmap(struct vhd *v, uint64_t off)
{
    uint8_t fill = v->base.type == DISK_DIFFERENCING ? 0 : 0xff;
    for (uint32_t at = 0; at < v->bitmap_size; at += VHD_SECTOR) {
        struct meta_page *p = meta_fresh(&v->base.meta, off + at);
        if (!p)
            return ENOMEM;
        uint32_t bits = v->base.block_size / VHD_SECTOR, done = at * 8;
        memset(p->data, fill, MIN((bits - done) / 8, VHD_SECTOR));
        meta_dirty(&v->base.meta, p);
    }
    return 0;
}

/* What the commit will write must not lack space then: the bitmap, and the footer at the end. */
static int reserve(struct vhd *v, uint64_t off)
{
    struct sfile *f = v->base.file;
    int rc = f->ops->reserve(f, off, v->bitmap_size);
    if (rc == 0)
        rc = f->ops->reserve(f, v->space.end, VHD_SECTOR);
    return rc == EOPNOTSUPP ? 0 : rc;
}

static enum map_kind allocate(struct vhd *v, uint64_t block, struct meta_page *p, struct map *m)
{
    uint64_t off, end = v->space.end;
    if (!may_change(v))
        return MAP_WAIT;
    meta_pin(p);
    int rc = space_alloc(&v->space, v->bitmap_size + (uint64_t)v->base.block_size, &off);
    if (rc == 0 && off / VHD_SECTOR >= VHD_UNUSED)
        rc = EFBIG;
    if (rc == 0)
        rc = reserve(v, off);
    if (rc == 0)
        rc = new_bitmap(v, off);
    meta_unpin(p);
    if (rc && v->space.end != end) { /* as it was */
        v->space.end = end;
        if (sfile_set_size(v->base.file, end + VHD_SECTOR) == 0)
            v->space.file_size = end + VHD_SECTOR;
    }
    if (rc) {
        m->at = (uint64_t)rc;
        return MAP_ERROR;
    }
    v->footer_moved |= v->space.end != end;
    bat_set(v, p, block, (uint32_t)(off / VHD_SECTOR));
    return MAP_DATA;
}

enum map_kind vhd_map_write(struct image *img, uint64_t off, struct map *m)
{
    struct vhd *v = V(img);
    if (img->type == DISK_FIXED) {
        m->at = off;
        return MAP_DATA;
    }
    uint64_t block = off >> v->block_shift, in_block = off & (img->block_size - 1);
    uint64_t here = MIN(m->len, img->block_size - in_block);
    struct meta_page *p = bat_page(v, block, m);
    if (!p)
        return MAP_LOAD;
    if (bat_get(p, block) == VHD_UNUSED) {
        enum map_kind k = allocate(v, block, p, m);
        if (k != MAP_DATA)
            return k;
    }
    uint32_t entry = bat_get(p, block);
    struct bits b;
    if (!vhd_block_ok(v, entry))
        return bad_entry(v, block, m);
    if (!bitmap_bits(v, entry, in_block, here, &b, m))
        return MAP_LOAD;
    m->len = (uint64_t)b.count * VHD_SECTOR;
    if (!bit_at(b.page->data, b.first) || run_length(b.page->data, b.first, b.count) != b.count) {
        if (!may_change(v))
            return MAP_WAIT;
        meta_pin(b.page);
        v->reserved++;
        m->pin = b.page;
    }
    m->at = (uint64_t)entry * VHD_SECTOR + v->bitmap_size + in_block;
    return MAP_DATA;
}

enum map_kind vhd_map_zero(struct image *img, uint64_t off, bool unmap, bool discard, struct map *m)
{
    struct vhd *v = V(img);
    if (discard && img->type != DISK_DYNAMIC)
        return MAP_ZERO; /* a hint; the format has no "unmapped" over a parent */
    if (img->type != DISK_DYNAMIC)
        return vhd_map_write(img, off, m);
    uint64_t block = off >> v->block_shift, in_block = off & (img->block_size - 1);
    uint64_t want = m->len, here = MIN(want, img->block_size - in_block);
    struct meta_page *p = bat_page(v, block, m);
    if (!p)
        return MAP_LOAD;
    uint32_t entry = bat_get(p, block);
    if (entry == VHD_UNUSED) {
        m->len = same_beyond(v, p, block, here, want);
        return MAP_ZERO;
    }
    bool whole = in_block == 0 && (here == img->block_size || off + here == img->size);
    if (!whole || !unmap || !vhd_block_ok(v, entry))
        return vhd_map_write(img, off, m);
    if (!may_change(v))
        return MAP_WAIT;
    bat_set(v, p, block, VHD_UNUSED);
    space_free(&v->space, (uint64_t)entry * VHD_SECTOR, v->bitmap_size + (uint64_t)img->block_size);
    m->len = here;
    return MAP_ZERO;
}

enum map_kind vhd_forget(struct image *img, uint64_t off, struct map *m)
{
    struct vhd *v = V(img);
    uint64_t block = off >> v->block_shift, want = m->len;
    m->len = MIN(want, img->block_size);
    if (m->len < img->block_size && off + m->len != img->size)
        return MAP_PARENT;
    struct meta_page *p = bat_page(v, block, m);
    if (!p)
        return MAP_LOAD;
    uint32_t entry = bat_get(p, block);
    if (entry == VHD_UNUSED) {
        m->len = same_beyond(v, p, block, m->len, want);
        return MAP_PARENT;
    }
    if (!may_change(v))
        return MAP_WAIT;
    bat_set(v, p, block, VHD_UNUSED);
    if (vhd_block_ok(v, entry))
        space_free(&v->space, (uint64_t)entry * VHD_SECTOR,
                   v->bitmap_size + (uint64_t)img->block_size);
    return MAP_PARENT;
}

void vhd_wrote(struct image *img, uint64_t off, uint64_t len, struct meta_page *pin, bool ok)
{
    struct vhd *v = V(img);
    v->reserved--;
    meta_unpin(pin);
    if (ok) {
        uint32_t first = (uint32_t)((off & (img->block_size - 1)) / VHD_SECTOR % BITS_PER_PAGE);
        for (uint32_t i = first; i < first + len / VHD_SECTOR; i++)
            pin->data[i / 8] |= (uint8_t)(0x80u >> i % 8);
        meta_dirty(&img->meta, pin);
        v->need_barrier = true;
        image_commit_soon(img);
    }
    if (img->waiting && !img->committing)
        image_wake(img, 0);
}
