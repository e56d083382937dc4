/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Opening a VHDX: headers, log, regions, metadata items. Every number is hostile. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/base/crc32c.h"
#include "core/storage/vhdx.h"

enum { MAX_LOG = 256 << 20 };

#define NAME(v) ((v)->base.file->name)

uint32_t vhdx_checksum(void *structure, size_t len)
{
    uint8_t *p = structure;
    uint32_t kept = get_le32(p + 4);
    put_le32(p + 4, 0);
    uint32_t sum = crc32c(0, p, len);
    put_le32(p + 4, kept);
    return sum;
}

void vhdx_seal_header(struct vhdx_header *h)
{
    h->checksum = vhdx_checksum(h, sizeof *h);
}

/* ---- headers ---- */

static bool read_header(struct vhdx *v, unsigned i, struct vhdx_header *h)
{
    if (sfile_read(v->base.file, VHDX_HEADER_OFFSET(i), h, sizeof *h) != 0)
        return false;
    return h->signature == VHDX_HEADER_MAGIC && h->checksum == vhdx_checksum(h, sizeof *h);
}

static bool choose_header(struct vhdx *v, err *e)
{
    AUTO(buf) mem = calloc(2, sizeof(struct vhdx_header));
    struct vhdx_header *h = mem;
    if (!h)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", NAME(v));
    bool ok[2] = {read_header(v, 0, &h[0]), read_header(v, 1, &h[1])};
    if (!ok[0] && !ok[1])
        return err_set(e, ERR_CORRUPT, "%s: both headers are damaged", NAME(v));
    if (ok[0] && ok[1] && h[0].sequence == h[1].sequence && memcmp(&h[0], &h[1], sizeof *h))
        return err_set(e, ERR_CORRUPT, "%s: the two headers contradict each other", NAME(v));
    v->current = !ok[0] || (ok[1] && h[1].sequence > h[0].sequence);
    v->header = h[v->current];
    if (v->header.version != 1)
        return err_set(e, ERR_UNSUPPORTED, "%s: version %u of VHDX is not known", NAME(v),
                       v->header.version);
    if (!guid_is_zero(&v->header.log) && v->header.log_version != 0)
        return err_set(e, ERR_UNSUPPORTED, "%s: version %u of the log is not known", NAME(v),
                       v->header.log_version);
    return true;
}

static bool check_log_place(struct vhdx *v, err *e)
{
    const struct vhdx_header *h = &v->header;
    if (!h->log_length || h->log_length % VHDX_MB || h->log_offset % VHDX_MB ||
        h->log_offset < VHDX_MB || !range_within(h->log_offset, h->log_length, v->space.file_size))
        return err_set(e, ERR_CORRUPT, "%s: the log lies outside of the file", NAME(v));
    if (h->log_length > MAX_LOG)
        return err_set(e, ERR_UNSUPPORTED, "%s: a log of %u MiB is not supported", NAME(v),
                       h->log_length >> 20);
    return true;
}

int vhdx_write_headers(struct vhdx *v, struct vhdx_header *h)
{
    for (int i = 0; i < 2; i++) {
        unsigned other = !v->current;
        h->sequence = v->header.sequence + 1;
        vhdx_seal_header(h);
        int rc = sfile_write(v->base.file, VHDX_HEADER_OFFSET(other), h, sizeof *h);
        if (rc == 0)
            rc = sfile_flush(v->base.file);
        if (rc)
            return rc;
        v->header = *h;
        v->current = other;
    }
    return 0;
}

/* ---- regions ---- */

bool vhdx_read_meta(struct vhdx *v, uint64_t off, void *buf, size_t len, err *e)
{
    uint8_t *p = buf;
    while (len) {
        int status = 0;
        struct meta_page *pg = meta_get(&v->base.meta, align_down(off, VHDX_PAGE), &status);
        if (!pg)
            return err_errno(e, status, "Could not read %s", NAME(v));
        size_t in = off % VHDX_PAGE, n = MIN(len, VHDX_PAGE - in);
        memcpy(p, pg->data + in, n);
        p += n;
        off += n;
        len -= n;
    }
    return true;
}

static bool overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

static bool add_region(struct vhdx *v, const struct vhdx_region *r, err *e)
{
    static const struct guid bat = VHDX_GUID_BAT, metadata = VHDX_GUID_METADATA;
    bool is_bat = guid_equal(&r->id, &bat), is_meta = guid_equal(&r->id, &metadata);
    if (!is_bat && !is_meta)
        return !(r->required & 1) ||
               err_set(e, ERR_UNSUPPORTED, "%s needs a region that is not known", NAME(v));
    if (r->offset % VHDX_MB || r->length % VHDX_MB || r->offset < VHDX_MB || !r->length ||
        !range_within(r->offset, r->length, v->space.file_size))
        return err_set(e, ERR_CORRUPT, "%s: the %s lies outside of the file", NAME(v),
                       is_bat ? "block allocation table" : "metadata region");
    if (is_bat ? v->bat_off : v->meta_off)
        return err_set(e, ERR_CORRUPT, "%s: a region is there twice", NAME(v));
    if (is_bat) {
        v->bat_off = r->offset;
        v->bat_len = r->length;
    } else {
        v->meta_off = r->offset;
        v->meta_len = r->length;
    }
    return true;
}

static bool read_region_table(struct vhdx *v, unsigned i, uint8_t *t, err *e)
{
    if (!vhdx_read_meta(v, VHDX_REGION_OFFSET(i), t, VHDX_TABLE_SIZE, e))
        return false;
    const struct vhdx_region_table *rt = (const void *)t;
    return rt->signature == VHDX_REGION_MAGIC &&
           rt->checksum == vhdx_checksum(t, VHDX_TABLE_SIZE) && rt->count <= VHDX_MAX_REGIONS;
}

static bool read_regions(struct vhdx *v, err *e)
{
    AUTO(buf) t = malloc(VHDX_TABLE_SIZE);
    if (!t)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", NAME(v));
    if (!read_region_table(v, 0, t, e) && !read_region_table(v, 1, t, e))
        return err_set(e, ERR_CORRUPT, "%s: both region tables are damaged", NAME(v));
    const struct vhdx_region_table *rt = t;
    for (uint32_t i = 0; i < rt->count; i++) {
        struct vhdx_region r;
        memcpy(&r, (uint8_t *)t + sizeof *rt + i * sizeof r, sizeof r);
        if (!add_region(v, &r, e))
            return false;
    }
    if (!v->bat_off || !v->meta_off)
        return err_set(e, ERR_CORRUPT, "%s has no %s", NAME(v),
                       v->meta_off ? "block allocation table" : "metadata");
    const struct vhdx_header *h = &v->header;
    if (overlaps(v->bat_off, v->bat_len, v->meta_off, v->meta_len) ||
        overlaps(v->bat_off, v->bat_len, h->log_offset, h->log_length) ||
        overlaps(v->meta_off, v->meta_len, h->log_offset, h->log_length))
        return err_set(e, ERR_CORRUPT, "%s: its regions overlap", NAME(v));
    return true;
}

/* ---- metadata items ---- */

static bool item_known(struct vhdx *v, const struct vhdx_item *it, uint64_t **place, uint32_t *size)
{
    static const struct guid params = VHDX_GUID_FILE_PARAMETERS, size_id = VHDX_GUID_SIZE,
                             disk = VHDX_GUID_DISK_ID, logical = VHDX_GUID_LOGICAL,
                             physical = VHDX_GUID_PHYSICAL, locator = VHDX_GUID_LOCATOR;
    const struct {
        const struct guid *id;
        uint64_t *place;
        uint32_t size;
    } known[] = {
        {&params, &v->params_item, 8},     {&size_id, &v->size_item, 8},
        {&disk, &v->id_item, 16},          {&logical, &v->logical_item, 4},
        {&physical, &v->physical_item, 4}, {&locator, &v->locator_item, 0},
    };
    if (it->flags & VHDX_ITEM_USER)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (guid_equal(&it->id, known[i].id)) {
            *place = known[i].place;
            *size = known[i].size;
            return true;
        }
    return false;
}

static bool add_item(struct vhdx *v, const struct vhdx_item *it, err *e)
{
    uint64_t *place;
    uint32_t size;
    if (guid_is_zero(&it->id) && !it->length && !it->flags)
        return true; /* an empty entry */
    if (!item_known(v, it, &place, &size))
        return !(it->flags & VHDX_ITEM_REQUIRED) ||
               err_set(e, ERR_UNSUPPORTED, "%s needs a metadata item that is not known", NAME(v));
    if (it->offset < VHDX_TABLE_SIZE || !range_within(it->offset, it->length, v->meta_len) ||
        it->length > VHDX_MB || (size && it->length != size) || !it->length)
        return err_set(e, ERR_CORRUPT, "%s: a metadata item lies outside of its region", NAME(v));
    if (*place)
        return err_set(e, ERR_CORRUPT, "%s: a metadata item is there twice", NAME(v));
    *place = v->meta_off + it->offset;
    if (place == &v->locator_item)
        v->locator_len = it->length;
    return true;
}

static bool read_item_table(struct vhdx *v, err *e)
{
    struct vhdx_metadata_table t;
    if (v->meta_len < VHDX_TABLE_SIZE || !vhdx_read_meta(v, v->meta_off, &t, sizeof t, e))
        return false;
    if (memcmp(t.signature, VHDX_METADATA_MAGIC, 8) || t.count > VHDX_MAX_ITEMS)
        return err_set(e, ERR_CORRUPT, "%s: the metadata table is damaged", NAME(v));
    for (uint32_t i = 0; i < t.count; i++) {
        struct vhdx_item it;
        if (!vhdx_read_meta(v, v->meta_off + sizeof t + i * sizeof it, &it, sizeof it, e) ||
            !add_item(v, &it, e))
            return false;
    }
    if (!v->params_item || !v->size_item || !v->logical_item)
        return err_set(e, ERR_CORRUPT, "%s: metadata items are missing", NAME(v));
    return true;
}

static bool read_items(struct vhdx *v, err *e)
{
    struct vhdx_file_parameters fp = {0};
    uint64_t size = 0;
    struct image *img = &v->base;
    img->physical_sector = 4096;
    if (!read_item_table(v, e) || !vhdx_read_meta(v, v->params_item, &fp, sizeof fp, e) ||
        !vhdx_read_meta(v, v->size_item, &size, sizeof size, e) ||
        !vhdx_read_meta(v, v->logical_item, &img->logical_sector, 4, e) ||
        (v->physical_item && !vhdx_read_meta(v, v->physical_item, &img->physical_sector, 4, e)) ||
        (v->id_item && !vhdx_read_meta(v, v->id_item, &img->disk_id, 16, e)))
        return false;
    uint32_t bs = fp.block_size;
    if (bs < VHDX_MIN_BLOCK || bs > VHDX_MAX_BLOCK || (bs & (bs - 1)))
        return err_set(e, ERR_CORRUPT, "%s: a block size of %u bytes is not possible", NAME(v), bs);
    if ((img->logical_sector != 512 && img->logical_sector != 4096) ||
        (img->physical_sector != 512 && img->physical_sector != 4096))
        return err_set(e, ERR_CORRUPT, "%s: its sector sizes are neither 512 nor 4096", NAME(v));
    if (!size || size > VHDX_MAX_SIZE || size % img->logical_sector)
        return err_set(e, ERR_CORRUPT, "%s: a size of %llu bytes is not possible", NAME(v),
                       (unsigned long long)size);
    v->params_flags = fp.flags;
    v->has_parent = fp.flags & VHDX_HAS_PARENT;
    v->keep = (fp.flags & VHDX_LEAVE_ALLOCATED) && !v->has_parent;
    if (v->has_parent && !v->locator_item)
        return err_set(e, ERR_CORRUPT, "%s is differencing but names no parent", NAME(v));
    img->block_size = bs;
    v->block_shift = (uint32_t)__builtin_ctz(bs);
    vhdx_set_geometry(v, size);
    if (vhdx_bat_entries(size, bs, img->logical_sector, v->has_parent) > v->bat_len / 8)
        return err_set(e, ERR_CORRUPT, "%s: the block allocation table is too small", NAME(v));
    return true;
}

uint64_t vhdx_bat_entries(uint64_t size, uint32_t block_size, uint32_t sector, bool has_parent)
{
    uint64_t blocks = div_round_up(size, block_size);
    uint64_t ratio = (uint64_t)VHDX_SECTORS_PER_BITMAP * sector / block_size;
    if (has_parent)
        return div_round_up(blocks, ratio) * (ratio + 1);
    return blocks ? blocks + (blocks - 1) / ratio : 0;
}

void vhdx_set_geometry(struct vhdx *v, uint64_t size)
{
    struct image *img = &v->base;
    img->size = size;
    v->nblocks = div_round_up(size, img->block_size);
    v->ratio =
        (uint32_t)((uint64_t)VHDX_SECTORS_PER_BITMAP * img->logical_sector / img->block_size);
}

/* ---- the whole ---- */

static bool open_it(struct vhdx *v, err *e)
{
    char id[8];
    struct image *img = &v->base;
    int rc = sfile_read(img->file, 0, id, sizeof id);
    if (rc)
        return err_errno(e, rc, "Could not read %s", NAME(v));
    if (memcmp(id, VHDX_FILE_SIGNATURE, 8))
        return err_set(e, ERR_CORRUPT, "%s is not a VHDX file", NAME(v));
    v->space.img = img;
    v->space.ahead = true;
    v->space.file_size = v->stable_size = sfile_size(img->file);
    if (!meta_init(&img->meta, img->file, VHDX_PAGE, VHDX_CACHE_PAGES))
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", NAME(v));
    if (!choose_header(v, e) || !check_log_place(v, e))
        return false;
    if (!guid_is_zero(&v->header.log) && !vhdx_replay(v, e))
        return false;
    if (!read_regions(v, e) || !read_items(v, e))
        return false;
    v->space.end = align_up(v->space.file_size, VHDX_MB);
    v->max_dirty = MIN(v->header.log_length / VHDX_PAGE / 2 - 8, 480u);
    img->format = DISK_FORMAT_VHDX;
    img->type = v->has_parent ? DISK_DIFFERENCING : v->keep ? DISK_FIXED : DISK_DYNAMIC;
    img->discard_granularity = v->keep ? 0 : img->block_size;
    img->zeroes_after_discard = !v->keep;
    img->keep_allocated = v->keep;
    return true;
}

struct image *vhdx_open(struct sfile *file, struct loop *loop, err *e)
{
    struct vhdx *v = calloc(1, sizeof *v);
    if (!v) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", file->name);
        return NULL;
    }
    image_init(&v->base, &vhdx_ops, file, loop);
    if (open_it(v, e))
        return &v->base;
    v->base.file = NULL; /* stays the caller's */
    vhdx_ops.destroy(&v->base);
    return NULL;
}
