/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Changing a VHDX's size, and its parent: changes of metadata on a drained image, all through the
 * log. The size changes in one entry; what must precede it is made durable first, what may follow
 * (clearing entries that nothing refers to any more) follows.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "core/storage/vhdx-locator.h"
#include "core/storage/vhdx.h"

#define NAME(v) ((v)->base.file->name)

static int put_meta(struct vhdx *v, uint64_t off, const void *data, size_t len)
{
    const uint8_t *p = data;
    while (len) {
        int status = 0;
        struct meta_page *pg = meta_get(&v->base.meta, align_down(off, VHDX_PAGE), &status);
        if (!pg)
            return status;
        size_t in = off % VHDX_PAGE, n = MIN(len, VHDX_PAGE - in);
        memcpy(pg->data + in, p, n);
        meta_dirty(&v->base.meta, pg);
        p += n;
        off += n;
        len -= n;
    }
    return 0;
}

static int flush_if_many(struct vhdx *v)
{
    return v->base.meta.ndirty > v->max_dirty / 2 ? image_flush_sync(&v->base) : 0;
}

/* Sets entries [from, to) of blocks; `fn` gives the new entry or leaves it. */
static int each_entry(struct vhdx *v, uint64_t from, uint64_t to,
                      int (*fn)(struct vhdx *v, uint64_t block, uint64_t *entry))
{
    for (uint64_t block = from; block < to; block++) {
        int rc = 0;
        uint64_t off = v->bat_off + vhdx_block_index(v, block) * 8;
        struct meta_page *p = meta_get(&v->base.meta, align_down(off, VHDX_PAGE), &rc);
        if (!p)
            return rc;
        uint64_t old = get_le64(p->data + off % VHDX_PAGE), entry = old;
        meta_pin(p);
        rc = fn(v, block, &entry);
        meta_unpin(p);
        if (rc)
            return rc;
        if (entry == old)
            continue;
        put_le64(p->data + off % VHDX_PAGE, entry);
        meta_dirty(&v->base.meta, p);
        rc = flush_if_many(v);
        if (rc)
            return rc;
    }
    return 0;
}

static bool is_present(uint64_t entry)
{
    unsigned s = VHDX_ENTRY_STATE(entry);
    return s == VHDX_FULLY_PRESENT || s == VHDX_PARTIALLY_PRESENT;
}

static int refuse_present(struct vhdx *v, uint64_t block, uint64_t *entry)
{
    return is_present(*entry) ? ENOTEMPTY : 0;
}
static int clear_entry(struct vhdx *v, uint64_t block, uint64_t *entry)
{
    if (is_present(*entry) && vhdx_payload_ok(v, VHDX_ENTRY_OFFSET(*entry), v->base.block_size))
        space_free(&v->space, VHDX_ENTRY_OFFSET(*entry), v->base.block_size);
    *entry = 0;
    return 0;
}
/* In what grows nothing may be left from before a shrink; its space is not known to be ours. */
static int forget_entry(struct vhdx *v, uint64_t block, uint64_t *entry)
{
    *entry = 0;
    return 0;
}
static int give_space(struct vhdx *v, uint64_t block, uint64_t *entry)
{
    uint64_t off;
    int rc = space_alloc(&v->space, v->base.block_size, &off);
    if (rc == 0)
        rc = v->base.file->ops->reserve(v->base.file, off, v->base.block_size);
    if (rc && rc != EOPNOTSUPP)
        return rc;
    *entry = off | VHDX_FULLY_PRESENT;
    return 0;
}

/* ---- a larger table ---- */

static int copy_table(struct vhdx *v, uint64_t to)
{
    AUTO(buf) buf = malloc(VHDX_MB);
    if (!buf)
        return ENOMEM;
    for (uint64_t at = 0; at < v->bat_len; at += VHDX_MB) {
        int rc = sfile_read(v->base.file, v->bat_off + at, buf, VHDX_MB);
        if (rc == 0)
            rc = sfile_write(v->base.file, to + at, buf, VHDX_MB);
        if (rc)
            return rc;
    }
    return 0;
}

static int point_to_table(struct vhdx *v, uint64_t off, uint32_t len)
{
    static const struct guid bat = VHDX_GUID_BAT;
    AUTO(buf) buf = malloc(VHDX_TABLE_SIZE);
    if (!buf)
        return ENOMEM;
    for (unsigned i = 0; i < 2; i++) {
        struct vhdx_region_table *t = buf;
        if (!vhdx_read_meta(v, VHDX_REGION_OFFSET(i), buf, VHDX_TABLE_SIZE, NULL))
            return EIO;
        if (t->checksum != vhdx_checksum(buf, VHDX_TABLE_SIZE) || t->count > VHDX_MAX_REGIONS)
            continue; /* the damaged one of the two stays as it is */
        for (uint32_t k = 0; k < t->count; k++) {
            struct vhdx_region *r = (struct vhdx_region *)(t + 1) + k;
            if (guid_equal(&r->id, &bat)) {
                r->offset = off;
                r->length = len;
            }
        }
        t->checksum = vhdx_checksum(buf, VHDX_TABLE_SIZE);
        int rc = put_meta(v, VHDX_REGION_OFFSET(i), buf, VHDX_TABLE_SIZE);
        if (rc)
            return rc;
    }
    return 0;
}

static int move_table(struct vhdx *v, uint32_t len)
{
    uint64_t to, old = v->bat_off;
    uint32_t old_len = v->bat_len;
    int rc = image_flush_sync(&v->base);
    if (rc == 0)
        rc = space_alloc(&v->space, len, &to);
    if (rc == 0)
        rc = copy_table(v, to);
    if (rc == 0)
        rc = sfile_flush(v->base.file);
    if (rc == 0)
        rc = point_to_table(v, to, len);
    if (rc)
        return rc;
    v->bat_off = to;
    v->bat_len = len;
    rc = image_flush_sync(&v->base);
    if (rc == 0)
        space_free(&v->space, old, old_len);
    return rc;
}

/* ---- sizes ---- */

static int set_size(struct vhdx *v, uint64_t size)
{
    int rc = put_meta(v, v->size_item, &size, sizeof size);
    v->need_barrier = true;
    return rc ? rc : image_flush_sync(&v->base);
}

/* Bytes of the last block beyond the old end may hold anything. */
static int zero_tail(struct vhdx *v, uint64_t size)
{
    uint64_t end = MIN(align_up(v->base.size, v->base.block_size), size);
    struct map m = {.len = end - v->base.size};
    if (!m.len)
        return 0;
    int rc = 0;
    uint64_t off = v->bat_off + vhdx_block_index(v, v->base.size >> v->block_shift) * 8;
    struct meta_page *p = meta_get(&v->base.meta, align_down(off, VHDX_PAGE), &rc);
    if (!p)
        return rc;
    uint64_t entry = get_le64(p->data + off % VHDX_PAGE), at = VHDX_ENTRY_OFFSET(entry);
    if (!is_present(entry) || !vhdx_payload_ok(v, at, v->base.block_size))
        return 0;
    at += v->base.size & (v->base.block_size - 1);
    return v->base.file->ops->zero(v->base.file, at, m.len);
}

static int grow(struct vhdx *v, uint64_t size)
{
    struct image *img = &v->base;
    uint64_t blocks = div_round_up(size, img->block_size);
    uint64_t need = vhdx_bat_entries(size, img->block_size, img->logical_sector, v->has_parent) * 8;
    int rc = zero_tail(v, size);
    if (rc == 0 && need > v->bat_len)
        rc = move_table(v, (uint32_t)align_up(need, VHDX_MB));
    if (rc == 0)
        rc = each_entry(v, v->nblocks, blocks, v->keep ? give_space : forget_entry);
    return rc ? rc : set_size(v, size);
}

static int shrink(struct vhdx *v, uint64_t size, bool force)
{
    uint64_t blocks = div_round_up(size, v->base.block_size), old = v->nblocks;
    int rc = force || v->keep ? 0 : each_entry(v, blocks, old, refuse_present);
    if (rc == 0)
        rc = set_size(v, size);
    if (rc == 0)
        rc = each_entry(v, blocks, old, clear_entry);
    return rc ? rc : image_flush_sync(&v->base);
}

bool vhdx_resize(struct image *img, uint64_t size, bool force, err *e)
{
    struct vhdx *v = (struct vhdx *)img;
    if (!size || size > VHDX_MAX_SIZE || size % img->logical_sector)
        return err_set(e, ERR_INVALID, "%s cannot have a size of %llu bytes", NAME(v),
                       (unsigned long long)size);
    if (size == img->size)
        return true;
    if (size < img->size && v->has_parent)
        return err_set(e, ERR_UNSUPPORTED, "%s is differencing and cannot shrink: merge it first",
                       NAME(v));
    int rc = vhdx_settle_identity(img);
    if (rc == 0)
        rc = size > img->size ? grow(v, size) : shrink(v, size, force);
    if (rc == ENOTEMPTY)
        return err_set(e, ERR_STATE, "%s holds data beyond the new size", NAME(v));
    if (rc)
        return err_errno(e, rc, "Could not resize %s", NAME(v));
    vhdx_set_geometry(v, size);
    return true;
}

/* ---- parents ---- */

bool vhdx_identity(struct image *img, struct guid *out)
{
    *out = ((struct vhdx *)img)->header.data_write;
    return true;
}

bool vhdx_parent_ref(struct image *img, struct parent_ref *out, err *e)
{
    struct vhdx *v = (struct vhdx *)img;
    AUTO(buf) buf = malloc(MAX(v->locator_len, 1u));
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", NAME(v));
    return vhdx_read_meta(v, v->locator_item, buf, v->locator_len, e) &&
           vhdx_locator_parse(buf, v->locator_len, out, NAME(v), e);
}

/* The locator's entry in the item table, and the first free offset behind all items. */
static bool find_locator(struct vhdx *v, uint64_t *entry_at, uint32_t *end, err *e)
{
    static const struct guid locator = VHDX_GUID_LOCATOR;
    struct vhdx_metadata_table t;
    if (!vhdx_read_meta(v, v->meta_off, &t, sizeof t, e))
        return false;
    *end = VHDX_TABLE_SIZE;
    *entry_at = 0;
    for (uint32_t i = 0; i < t.count; i++) {
        struct vhdx_item it;
        uint64_t at = v->meta_off + sizeof t + i * sizeof it;
        if (!vhdx_read_meta(v, at, &it, sizeof it, e))
            return false;
        if (guid_equal(&it.id, &locator) && !(it.flags & VHDX_ITEM_USER))
            *entry_at = at;
        else
            *end = (uint32_t)MAX(*end, align_up((uint64_t)it.offset + it.length, 8));
    }
    return *entry_at || err_set(e, ERR_CORRUPT, "%s names no parent", NAME(v));
}

bool vhdx_set_parent(struct image *img, const char *path, const char *absolute,
                     const struct guid *id, const struct guid *id2, err *e)
{
    struct vhdx *v = (struct vhdx *)img;
    uint64_t entry_at;
    uint32_t end;
    size_t len;
    AUTO(buf) loc = vhdx_locator_build(path, absolute, id, id2, &len, e);
    if (!loc || !find_locator(v, &entry_at, &end, e))
        return false;
    /* Over the old one if it fits there, else behind all other items. */
    uint64_t at = len <= v->locator_len ? v->locator_item : v->meta_off + end;
    if (at + len > v->meta_off + v->meta_len)
        return err_set(e, ERR_NO_SPACE, "%s has no room for its parent's name", NAME(v));
    int rc = vhdx_settle_identity(img);
    struct vhdx_item it;
    if (rc || !vhdx_read_meta(v, entry_at, &it, sizeof it, e))
        return rc ? err_errno(e, rc, "Could not write %s", NAME(v)) : false;
    it.offset = (uint32_t)(at - v->meta_off);
    it.length = (uint32_t)len;
    rc = put_meta(v, at, loc, len);
    if (rc == 0)
        rc = put_meta(v, entry_at, &it, sizeof it);
    if (rc == 0)
        rc = image_flush_sync(img);
    if (rc)
        return err_errno(e, rc, "Could not write %s", NAME(v));
    v->locator_item = at;
    v->locator_len = (uint32_t)len;
    return true;
}
