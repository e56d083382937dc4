/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Where a VHDX's bytes lie, and how room is made for them ([MS-VHDX] 2.5). */
#include <errno.h>

#include "core/base/checked.h"
#include "core/base/log.h"
#include "core/storage/vhdx.h"

#define V(img) ((struct vhdx *)(img))

static bool overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

bool vhdx_payload_ok(const struct vhdx *v, uint64_t off, uint64_t len)
{
    return off >= VHDX_MB && range_within(off, len, v->space.file_size) &&
           !overlaps(off, len, v->bat_off, v->bat_len) &&
           !overlaps(off, len, v->meta_off, v->meta_len) &&
           !overlaps(off, len, v->header.log_offset, v->header.log_length);
}

static enum map_kind bad_entry(struct vhdx *v, uint64_t block, struct map *m)
{
    LOG_GUEST("vhdx", "%s: the table's entry of block %llu is damaged", v->base.file->name,
              (unsigned long long)block);
    m->at = EIO;
    return MAP_ERROR;
}

/* ---- entries ---- */

/* The page that holds the entry, or NULL with m->at naming it. */
static struct meta_page *bat_page(struct vhdx *v, uint64_t index, struct map *m)
{
    m->at = align_down(v->bat_off + index * 8, VHDX_PAGE);
    return meta_peek(&v->base.meta, m->at);
}
static uint64_t bat_get(struct vhdx *v, const struct meta_page *p, uint64_t index)
{
    return get_le64(p->data + (v->bat_off + index * 8) % VHDX_PAGE);
}
static void bat_set(struct vhdx *v, struct meta_page *p, uint64_t index, uint64_t entry)
{
    put_le64(p->data + (v->bat_off + index * 8) % VHDX_PAGE, entry);
    meta_dirty(&v->base.meta, p);
}

/* A request's place within its block. */
struct place {
    uint64_t block, index, in_block, len;
};
static struct place locate(const struct vhdx *v, uint64_t off, uint64_t len)
{
    struct place p = {.block = off >> v->block_shift};
    p.index = vhdx_block_index(v, p.block);
    p.in_block = off & (v->base.block_size - 1);
    p.len = MIN(len, v->base.block_size - p.in_block);
    return p;
}

/* ---- sector bitmaps ---- */

struct bits {
    struct meta_page *page;
    uint32_t first, count; /* within the page */
};

/* The bits of a range, cut to one page. False: m says what is in the way (*k). */
static bool bitmap_bits(struct vhdx *v, uint64_t off, uint64_t len, struct bits *b, struct map *m,
                        enum map_kind *k)
{
    uint64_t sector = off / v->base.logical_sector;
    uint64_t index = vhdx_bitmap_index(v, sector / VHDX_SECTORS_PER_BITMAP);
    struct meta_page *bat = bat_page(v, index, m);
    *k = MAP_LOAD;
    if (!bat)
        return false;
    uint64_t entry = bat_get(v, bat, index), at = VHDX_ENTRY_OFFSET(entry);
    if (VHDX_ENTRY_STATE(entry) != VHDX_BITMAP_PRESENT || !vhdx_payload_ok(v, at, VHDX_MB)) {
        *k = bad_entry(v, off >> v->block_shift, m);
        return false;
    }
    uint32_t bit = (uint32_t)(sector % VHDX_SECTORS_PER_BITMAP);
    m->at = at + align_down(bit / 8, VHDX_PAGE);
    b->page = meta_peek(&v->base.meta, m->at);
    b->first = bit % (VHDX_PAGE * 8);
    b->count = (uint32_t)MIN(len / v->base.logical_sector, VHDX_PAGE * 8 - b->first);
    return b->page != NULL;
}

static bool bit_at(const uint8_t *p, uint32_t i)
{
    return p[i / 8] >> (i % 8) & 1;
}

/* How many bits from `first` on are the same, up to `count`. */
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

/* ---- reading ---- */

/* Entries that follow and say the same, within the page: one answer for a large empty range. */
static uint64_t same_beyond(struct vhdx *v, const struct meta_page *p, const struct place *at,
                            uint64_t entry, uint64_t want)
{
    uint64_t got = at->len, block = at->block + 1;
    while (got < want && block < v->nblocks) {
        uint64_t index = vhdx_block_index(v, block);
        if (align_down(v->bat_off + index * 8, VHDX_PAGE) != p->off ||
            bat_get(v, p, index) != entry)
            break;
        got = MIN(want, got + v->base.block_size);
        block++;
    }
    return got;
}

enum map_kind vhdx_map(struct image *img, uint64_t off, struct map *m)
{
    struct vhdx *v = V(img);
    struct place at = locate(v, off, m->len);
    uint64_t want = m->len;
    struct meta_page *p = bat_page(v, at.index, m);
    if (!p)
        return MAP_LOAD;
    uint64_t entry = bat_get(v, p, at.index), base = VHDX_ENTRY_OFFSET(entry);
    m->len = at.len;
    struct bits b;
    enum map_kind k;
    switch (VHDX_ENTRY_STATE(entry)) {
    case VHDX_NOT_PRESENT:
        m->len = same_beyond(v, p, &at, entry, want);
        return v->has_parent ? MAP_PARENT : MAP_ZERO;
    case VHDX_UNDEFINED:
    case VHDX_ZERO:
    case VHDX_UNMAPPED: m->len = same_beyond(v, p, &at, entry, want); return MAP_ZERO;
    case VHDX_FULLY_PRESENT:
        if (!vhdx_payload_ok(v, base, img->block_size))
            return bad_entry(v, at.block, m);
        m->at = base + at.in_block;
        return MAP_DATA;
    case VHDX_PARTIALLY_PRESENT:
        if (!v->has_parent || !vhdx_payload_ok(v, base, img->block_size))
            return bad_entry(v, at.block, m);
        if (!bitmap_bits(v, off, at.len, &b, m, &k))
            return k;
        m->len = (uint64_t)run_length(b.page->data, b.first, b.count) * img->logical_sector;
        m->at = base + at.in_block;
        return bit_at(b.page->data, b.first) ? MAP_DATA : MAP_PARENT;
    default: return bad_entry(v, at.block, m);
    }
}

/* ---- making room ---- */

/* Whether metadata may be changed now. */
static bool may_change(struct vhdx *v)
{
    if (!v->active) {
        vhdx_activate(v);
        return false;
    }
    uint32_t have = v->base.meta.ndirty + v->reserved;
    if (have + VHDX_DIRTY_SLACK > v->max_dirty || v->space.nnew > SPACE_MAX_NEW)
        return false;
    if (have > v->max_dirty / 2)
        image_kick(&v->base);
    else
        image_commit_soon(&v->base);
    return true;
}

/* A reference to the bits' page that goes to wrote(). */
static void hold_bits(struct vhdx *v, struct bits *b, struct map *m)
{
    meta_pin(b->page);
    v->reserved++;
    m->pin = b->page;
    m->len = (uint64_t)b->count * v->base.logical_sector;
}

/* Sees to a bitmap for the block's chunk, and to the block's own bits in it being clear. */
static enum map_kind prepare_bitmap(struct vhdx *v, uint64_t block, struct map *m)
{
    uint64_t start = block << v->block_shift, sector = start / v->base.logical_sector;
    uint64_t index = vhdx_bitmap_index(v, sector / VHDX_SECTORS_PER_BITMAP);
    struct meta_page *bat = bat_page(v, index, m);
    if (!bat)
        return MAP_LOAD;
    uint64_t entry = bat_get(v, bat, index);
    if (VHDX_ENTRY_STATE(entry) != VHDX_BITMAP_PRESENT) {
        uint64_t off;
        int rc = space_alloc(&v->space, VHDX_MB, &off);
        if (rc) {
            m->at = (uint64_t)rc;
            return MAP_ERROR;
        }
        bat_set(v, bat, index, off | VHDX_BITMAP_PRESENT);
        return MAP_DATA; /* all of it reads as zeroes */
    }
    uint64_t left = MIN(v->base.block_size, v->base.size - start);
    for (uint64_t off = start; left;) {
        struct bits b;
        enum map_kind k;
        if (!bitmap_bits(v, off, left, &b, m, &k))
            return k;
        bool dirty = false;
        for (uint32_t i = b.first; i < b.first + b.count; i += 8) {
            /* A block has a multiple of 256 sectors, so whole bytes are its own. */
            dirty |= b.page->data[i / 8] != 0;
            b.page->data[i / 8] = 0;
        }
        if (dirty)
            meta_dirty(&v->base.meta, b.page);
        uint64_t n = (uint64_t)b.count * v->base.logical_sector;
        off += n;
        left -= n;
    }
    return MAP_DATA;
}

static bool reads_zero(const struct vhdx *v, uint64_t entry)
{
    unsigned state = VHDX_ENTRY_STATE(entry);
    return state == VHDX_ZERO || state == VHDX_UNMAPPED || state == VHDX_UNDEFINED ||
           (state == VHDX_NOT_PRESENT && !v->has_parent);
}

/* Gives an absent block its space. Afterwards its entry is one that can be written. */
static enum map_kind allocate(struct vhdx *v, const struct place *at, struct map *m)
{
    struct meta_page *p = bat_page(v, at->index, m);
    if (!p)
        return MAP_LOAD;
    uint64_t entry = bat_get(v, p, at->index), off;
    bool partial = !reads_zero(v, entry);
    meta_pin(p);
    enum map_kind k = partial ? prepare_bitmap(v, at->block, m) : MAP_DATA;
    meta_unpin(p);
    if (k != MAP_DATA)
        return k;
    int rc = space_alloc(&v->space, v->base.block_size, &off);
    if (rc) {
        m->at = (uint64_t)rc;
        return MAP_ERROR;
    }
    bat_set(v, p, at->index, off | (partial ? VHDX_PARTIALLY_PRESENT : VHDX_FULLY_PRESENT));
    return MAP_DATA;
}

/* The range of a present block, to be written in place. */
static enum map_kind in_place(struct vhdx *v, uint64_t off, const struct place *at, uint64_t entry,
                              struct map *m)
{
    uint64_t base = VHDX_ENTRY_OFFSET(entry);
    struct bits b;
    enum map_kind k;
    if (!vhdx_payload_ok(v, base, v->base.block_size))
        return bad_entry(v, at->block, m);
    m->len = at->len;
    if (VHDX_ENTRY_STATE(entry) == VHDX_PARTIALLY_PRESENT) {
        if (!v->has_parent)
            return bad_entry(v, at->block, m);
        if (!bitmap_bits(v, off, at->len, &b, m, &k))
            return k;
        m->len = (uint64_t)b.count * v->base.logical_sector;
        bool all =
            bit_at(b.page->data, b.first) && run_length(b.page->data, b.first, b.count) == b.count;
        if (!all) {
            if (!may_change(v))
                return MAP_WAIT;
            hold_bits(v, &b, m);
        }
    }
    m->at = base + at->in_block;
    return MAP_DATA;
}

static bool present(uint64_t entry)
{
    unsigned state = VHDX_ENTRY_STATE(entry);
    return state == VHDX_FULLY_PRESENT || state == VHDX_PARTIALLY_PRESENT;
}

enum map_kind vhdx_map_write(struct image *img, uint64_t off, struct map *m)
{
    struct vhdx *v = V(img);
    struct place at = locate(v, off, m->len);
    if (!v->active) {
        vhdx_activate(v);
        return MAP_WAIT;
    }
    struct meta_page *p = bat_page(v, at.index, m);
    if (!p)
        return MAP_LOAD;
    uint64_t entry = bat_get(v, p, at.index);
    if (present(entry))
        return in_place(v, off, &at, entry, m);
    if (VHDX_ENTRY_STATE(entry) > VHDX_UNMAPPED)
        return bad_entry(v, at.block, m);
    if (!may_change(v))
        return MAP_WAIT;
    enum map_kind k = allocate(v, &at, m);
    if (k != MAP_DATA)
        return k;
    p = bat_page(v, at.index, m);
    return p ? in_place(v, off, &at, bat_get(v, p, at.index), m) : MAP_LOAD;
}

/* ---- zeroing ---- */

/* The whole block, or what the disk has of its last one. */
static bool is_whole(const struct vhdx *v, uint64_t off, const struct place *at)
{
    return at->in_block == 0 && (at->len == v->base.block_size || off + at->len == v->base.size);
}

static enum map_kind drop_block(struct vhdx *v, const struct place *at, uint64_t entry,
                                bool discard, struct map *m)
{
    struct meta_page *p = bat_page(v, at->index, m);
    if (!p)
        return MAP_LOAD;
    if (!may_change(v))
        return MAP_WAIT;
    bat_set(v, p, at->index, discard ? VHDX_UNMAPPED : VHDX_ZERO);
    if (present(entry) && vhdx_payload_ok(v, VHDX_ENTRY_OFFSET(entry), v->base.block_size))
        space_free(&v->space, VHDX_ENTRY_OFFSET(entry), v->base.block_size);
    m->len = at->len;
    return MAP_ZERO;
}

enum map_kind vhdx_map_zero(struct image *img, uint64_t off, bool unmap, bool discard,
                            struct map *m)
{
    struct vhdx *v = V(img);
    if (discard && v->keep)
        return MAP_ZERO; /* a hint that fixed disks do not take */
    uint64_t want = m->len;
    struct place at = locate(v, off, want);
    if (!v->active) {
        vhdx_activate(v);
        return MAP_WAIT;
    }
    struct meta_page *p = bat_page(v, at.index, m);
    if (!p)
        return MAP_LOAD;
    uint64_t entry = bat_get(v, p, at.index);
    if (reads_zero(v, entry)) {
        m->len = same_beyond(v, p, &at, entry, want);
        return MAP_ZERO;
    }
    if (!present(entry) && VHDX_ENTRY_STATE(entry) != VHDX_NOT_PRESENT)
        return bad_entry(v, at.block, m);
    if (is_whole(v, off, &at) && !v->keep && (unmap || !present(entry)))
        return drop_block(v, &at, entry, discard, m);
    return vhdx_map_write(img, off, m);
}

/* ---- forgetting ---- */

enum map_kind vhdx_forget(struct image *img, uint64_t off, struct map *m)
{
    struct vhdx *v = V(img);
    uint64_t want = m->len;
    struct place at = locate(v, off, want);
    m->len = at.len;
    if (!is_whole(v, off, &at))
        return MAP_PARENT;
    if (!v->active) {
        vhdx_activate(v);
        return MAP_WAIT;
    }
    struct meta_page *p = bat_page(v, at.index, m);
    if (!p)
        return MAP_LOAD;
    uint64_t entry = bat_get(v, p, at.index);
    if (VHDX_ENTRY_STATE(entry) == VHDX_NOT_PRESENT) {
        m->len = same_beyond(v, p, &at, entry, want);
        return MAP_PARENT;
    }
    if (!may_change(v))
        return MAP_WAIT;
    bat_set(v, p, at.index, VHDX_NOT_PRESENT);
    if (present(entry) && vhdx_payload_ok(v, VHDX_ENTRY_OFFSET(entry), img->block_size))
        space_free(&v->space, VHDX_ENTRY_OFFSET(entry), img->block_size);
    return MAP_PARENT;
}

/* ---- after the bytes ---- */

/* A block all of whose sectors are there needs its bitmap no more. */
static void note_if_full(struct vhdx *v, uint64_t off)
{
    struct map m;
    struct place at = locate(v, off, v->base.logical_sector);
    uint64_t start = at.block << v->block_shift;
    uint64_t left = MIN(v->base.block_size, v->base.size - start);
    if (left != v->base.block_size)
        return;
    for (uint64_t pos = start; left;) {
        struct bits b;
        enum map_kind k;
        if (!bitmap_bits(v, pos, left, &b, &m, &k) || !bit_at(b.page->data, b.first) ||
            run_length(b.page->data, b.first, b.count) != b.count)
            return;
        uint64_t n = (uint64_t)b.count * v->base.logical_sector;
        pos += n;
        left -= n;
    }
    struct meta_page *p = bat_page(v, at.index, &m);
    uint64_t entry = p ? bat_get(v, p, at.index) : 0;
    if (VHDX_ENTRY_STATE(entry) == VHDX_PARTIALLY_PRESENT)
        bat_set(v, p, at.index, VHDX_ENTRY_OFFSET(entry) | VHDX_FULLY_PRESENT);
}

void vhdx_wrote(struct image *img, uint64_t off, uint64_t len, struct meta_page *pin, bool ok)
{
    struct vhdx *v = V(img);
    v->reserved--;
    meta_unpin(pin);
    if (ok) {
        uint32_t first = (uint32_t)(off / img->logical_sector % (VHDX_PAGE * 8));
        uint32_t end = first + (uint32_t)(len / img->logical_sector);
        for (uint32_t i = first; i < end;) {
            if (i % 8 == 0 && end - i >= 8) {
                pin->data[i / 8] = 0xff;
                i += 8;
            } else {
                pin->data[i / 8] |= (uint8_t)(1u << i % 8);
                i++;
            }
        }
        meta_dirty(&img->meta, pin);
        v->need_barrier = true;
        note_if_full(v, off);
        image_commit_soon(img);
    }
    if (img->waiting && !img->committing && !v->activating)
        image_wake(img, 0);
}
