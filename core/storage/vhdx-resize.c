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

enum { ENTRIES_A_STEP = 8192, FIXED_A_STEP = 64 };

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

/*
 * Sets the entries of blocks from r->pos to `to`, some at a time; `fn` gives the new entry or
 * leaves it. *step says what comes next: DONE when all are set, and then r->pos is 0.
 */
static int each_entry(struct vhdx *v, struct resize *r, uint64_t to,
                      int (*fn)(struct vhdx *v, uint64_t block, uint64_t *entry),
                      enum resize_step *step)
{
    uint64_t stop = MIN(to, r->pos + ENTRIES_A_STEP);
    *step = RESIZE_MORE;
    for (; r->pos < stop; r->pos++) {
        int rc = 0;
        uint64_t off = v->bat_off + vhdx_block_index(v, r->pos) * 8;
        struct meta_page *p = meta_get(&v->base.meta, align_down(off, VHDX_PAGE), &rc);
        if (!p)
            return rc;
        uint64_t old = get_le64(p->data + off % VHDX_PAGE), entry = old;
        meta_pin(p);
        rc = fn(v, r->pos, &entry);
        meta_unpin(p);
        if (rc)
            return rc;
        if (entry == old)
            continue;
        put_le64(p->data + off % VHDX_PAGE, entry);
        meta_dirty(&v->base.meta, p);
        if (v->base.meta.ndirty > v->max_dirty / 2) {
            r->pos++;
            *step = RESIZE_FLUSH;
            return 0;
        }
    }
    if (r->pos >= to)
        *step = RESIZE_DONE;
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

/* The next MiB of the table, to its new place. */
static int copy_table(struct vhdx *v, struct resize *r)
{
    AUTO(buf) buf = malloc(VHDX_MB);
    if (!buf)
        return ENOMEM;
    int rc = sfile_read(v->base.file, v->bat_off + r->pos, buf, VHDX_MB);
    if (rc == 0)
        rc = sfile_write(v->base.file, r->table + r->pos, buf, VHDX_MB);
    r->pos += VHDX_MB;
    v->base.unflushed = true;
    return rc;
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

/* ---- sizes ---- */

static int set_size(struct vhdx *v, uint64_t size)
{
    v->need_barrier = true;
    return put_meta(v, v->size_item, &size, sizeof size);
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

enum {
    BEGIN,
    /* growing */
    ZERO_TAIL,
    MAKE_TABLE,
    COPY_TABLE,
    SWITCH_TABLE,
    LEAVE_TABLE,
    FORGET,
    /* shrinking */
    LOOK,
    CLEAR,
    /* both */
    SET_SIZE,
    SIZE_IS_SET,
    END,
};

static uint32_t table_for(const struct vhdx *v, uint64_t size)
{
    const struct image *img = &v->base;
    uint64_t need = vhdx_bat_entries(size, img->block_size, img->logical_sector, v->has_parent) * 8;
    return (uint32_t)align_up(need, VHDX_MB);
}

static enum resize_step next(struct resize *r, unsigned phase, enum resize_step step)
{
    r->phase = phase;
    r->pos = 0;
    return step;
}

/* A larger table: copied, made durable, switched to by one entry of the log. */
static int move_table(struct vhdx *v, struct resize *r, enum resize_step *step)
{
    uint32_t len = table_for(v, r->size);
    int rc = 0;
    switch (r->phase) {
    case MAKE_TABLE:
        rc = space_alloc(&v->space, len, &r->table);
        *step = next(r, COPY_TABLE, RESIZE_MORE);
        break;
    case COPY_TABLE:
        rc = copy_table(v, r);
        *step = r->pos < v->bat_len ? RESIZE_MORE : next(r, SWITCH_TABLE, RESIZE_FLUSH);
        break;
    case SWITCH_TABLE:
        rc = point_to_table(v, r->table, len);
        *step = next(r, LEAVE_TABLE, RESIZE_FLUSH);
        if (rc)
            break;
        r->old_table = v->bat_off;
        r->pos = v->bat_len; /* for the next phase */
        v->bat_off = r->table;
        v->bat_len = len;
        break;
    default:
        space_free(&v->space, r->old_table, r->pos);
        *step = next(r, FORGET, RESIZE_MORE);
        r->pos = v->nblocks;
    }
    return rc;
}

static int grow_step(struct vhdx *v, struct resize *r, enum resize_step *step)
{
    uint64_t blocks = div_round_up(r->size, v->base.block_size);
    int rc;
    switch (r->phase) {
    case ZERO_TAIL:
        rc = zero_tail(v, r->size);
        bool larger = table_for(v, r->size) > v->bat_len;
        *step = next(r, larger ? MAKE_TABLE : FORGET, RESIZE_MORE);
        if (!larger)
            r->pos = v->nblocks;
        return rc;
    case FORGET:
        if (v->keep)
            rc = each_entry(v, r, MIN(blocks, r->pos + FIXED_A_STEP), give_space, step);
        else
            rc = each_entry(v, r, blocks, forget_entry, step);
        if (*step == RESIZE_DONE)
            *step = r->pos < blocks ? RESIZE_MORE : next(r, SET_SIZE, RESIZE_MORE);
        return rc;
    default: return move_table(v, r, step);
    }
}

static int shrink_step(struct vhdx *v, struct resize *r, enum resize_step *step)
{
    bool look = r->phase == LOOK;
    int rc = each_entry(v, r, v->nblocks, look ? refuse_present : clear_entry, step);
    if (*step == RESIZE_DONE)
        *step = look ? next(r, SET_SIZE, RESIZE_MORE) : next(r, END, RESIZE_FLUSH);
    return rc;
}

static enum resize_step begin(struct vhdx *v, struct resize *r)
{
    if (!v->active) {
        vhdx_activate(v);
        return RESIZE_WAIT;
    }
    bool shrink = r->size < v->base.size, look = shrink && !r->force && !v->keep;
    next(r, look ? LOOK : shrink ? SET_SIZE : ZERO_TAIL, RESIZE_MORE);
    if (look)
        r->pos = div_round_up(r->size, v->base.block_size);
    return RESIZE_MORE;
}

static int one_step(struct vhdx *v, struct resize *r, enum resize_step *step)
{
    bool shrink = r->size < v->base.size;
    switch (r->phase) {
    case BEGIN: *step = begin(v, r); return 0;
    case SET_SIZE: *step = next(r, SIZE_IS_SET, RESIZE_FLUSH); return set_size(v, r->size);
    case SIZE_IS_SET: /* what nothing refers to any more */
        *step = next(r, shrink ? CLEAR : END, RESIZE_MORE);
        if (shrink)
            r->pos = div_round_up(r->size, v->base.block_size);
        return 0;
    case END:
        vhdx_set_geometry(v, r->size);
        *step = RESIZE_DONE;
        return 0;
    default: return shrink ? shrink_step(v, r, step) : grow_step(v, r, step);
    }
}

static bool size_possible(const struct vhdx *v, uint64_t size, err *e)
{
    const struct image *img = &v->base;
    if (!size || size > VHDX_MAX_SIZE || size % img->logical_sector)
        return err_set(e, ERR_INVALID, "%s cannot have a size of %llu bytes", NAME(v),
                       (unsigned long long)size);
    return size >= img->size || !v->has_parent ||
           err_set(e, ERR_UNSUPPORTED, "%s is differencing and cannot shrink: merge it first",
                   NAME(v));
}

enum resize_step vhdx_resize(struct image *img, struct resize *r, err *e)
{
    struct vhdx *v = (struct vhdx *)img;
    if (!size_possible(v, r->size, e))
        return RESIZE_FAILED;
    if (r->size == img->size)
        return RESIZE_DONE;
    enum resize_step step;
    int rc = one_step(v, r, &step);
    if (!rc)
        return step;
    if (rc == ENOTEMPTY)
        err_set(e, ERR_STATE, "%s holds data beyond the new size", NAME(v));
    else
        err_errno(e, rc, "Could not resize %s", NAME(v));
    return RESIZE_FAILED;
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
