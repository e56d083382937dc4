/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fresh VHDX files: the layout that Windows uses (headers, log, metadata, table, payload). */
#include <errno.h>
#include <stdlib.h>

#include "core/base/cleanup.h"
#include "core/storage/format.h"
#include "core/storage/utf16.h"
#include "core/storage/vhdx-locator.h"
#include "core/storage/vhdx.h"

enum { LOG_AT = 1, METADATA_AT = 2, BAT_AT = 3, BAT_CHUNK = 1 << 20 };

struct layout {
    uint64_t bat_len, payload, blocks, file_size;
    uint32_t ratio;
};

static void plan(const struct format_params *p, struct layout *l)
{
    bool child = p->type == DISK_DIFFERENCING;
    uint64_t entries = vhdx_bat_entries(p->size, p->block_size, p->logical_sector, child);
    l->ratio = (uint32_t)((uint64_t)VHDX_SECTORS_PER_BITMAP * p->logical_sector / p->block_size);
    l->bat_len = align_up(entries * 8, VHDX_MB);
    l->payload = (uint64_t)BAT_AT * VHDX_MB + l->bat_len;
    l->blocks = p->type == DISK_FIXED ? div_round_up(p->size, p->block_size) : 0;
    l->file_size = l->payload + l->blocks * p->block_size;
}

static bool write_identifier(struct sfile *f, uint8_t *buf)
{
    static const char creator[] = "Vireo";
    memset(buf, 0, VHDX_TABLE_SIZE);
    memcpy(buf, VHDX_FILE_SIGNATURE, 8);
    for (size_t i = 0; creator[i]; i++)
        buf[8 + i * 2] = (uint8_t)creator[i];
    return sfile_write(f, 0, buf, VHDX_TABLE_SIZE) == 0;
}

static bool write_headers(struct sfile *f, uint8_t *buf)
{
    struct vhdx_header *h = (void *)buf;
    memset(buf, 0, VHDX_TABLE_SIZE);
    *h = (struct vhdx_header){.signature = VHDX_HEADER_MAGIC,
                              .version = 1,
                              .log_length = VHDX_MB,
                              .log_offset = (uint64_t)LOG_AT * VHDX_MB};
    guid_random(&h->file_write);
    guid_random(&h->data_write);
    for (unsigned i = 0; i < 2; i++) {
        h->sequence = i;
        vhdx_seal_header(h);
        if (sfile_write(f, VHDX_HEADER_OFFSET(i), buf, VHDX_TABLE_SIZE) != 0)
            return false;
    }
    return true;
}

void vhdx_build_regions(uint8_t *buf, uint64_t bat_off, uint32_t bat_len, uint64_t meta_off,
                        uint32_t meta_len)
{
    struct vhdx_region_table *t = (void *)buf;
    struct vhdx_region *r = (void *)(t + 1);
    memset(buf, 0, VHDX_TABLE_SIZE);
    *t = (struct vhdx_region_table){.signature = VHDX_REGION_MAGIC, .count = 2};
    r[0] = (struct vhdx_region){
        .id = VHDX_GUID_BAT, .offset = bat_off, .length = bat_len, .required = 1};
    r[1] = (struct vhdx_region){
        .id = VHDX_GUID_METADATA, .offset = meta_off, .length = meta_len, .required = 1};
    t->checksum = vhdx_checksum(buf, VHDX_TABLE_SIZE);
}

static bool write_regions(struct sfile *f, const struct layout *l, uint8_t *buf)
{
    vhdx_build_regions(buf, (uint64_t)BAT_AT * VHDX_MB, (uint32_t)l->bat_len,
                       (uint64_t)METADATA_AT * VHDX_MB, VHDX_MB);
    for (unsigned i = 0; i < 2; i++)
        if (sfile_write(f, VHDX_REGION_OFFSET(i), buf, VHDX_TABLE_SIZE) != 0)
            return false;
    return true;
}

struct items {
    uint8_t *buf;
    struct vhdx_metadata_table *table;
    uint32_t at;
};

static void put_item(struct items *it, struct guid id, uint32_t flags, const void *data,
                     uint32_t len)
{
    struct vhdx_item *e = (struct vhdx_item *)(it->table + 1) + it->table->count++;
    *e = (struct vhdx_item){.id = id, .offset = it->at, .length = len, .flags = flags};
    memcpy(it->buf + it->at, data, len);
    it->at += (uint32_t)align_up(len, 8);
}

/* Table and items; the locator, which may grow when the child is moved, is last. */
static bool write_metadata(struct sfile *f, const struct format_params *p, err *e)
{
    enum { TOTAL = 4 * VHDX_TABLE_SIZE };
    AUTO(buf) buf = calloc(1, TOTAL);
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to create %s", f->name);
    struct items it = {.buf = buf, .table = buf, .at = VHDX_TABLE_SIZE};
    memcpy(it.table->signature, VHDX_METADATA_MAGIC, 8);
    struct vhdx_file_parameters fp = {
        .block_size = p->block_size,
        .flags = p->type == DISK_FIXED          ? VHDX_LEAVE_ALLOCATED
                 : p->type == DISK_DIFFERENCING ? VHDX_HAS_PARENT
                                                : 0,
    };
    uint32_t disk = VHDX_ITEM_REQUIRED | VHDX_ITEM_DISK;
    put_item(&it, (struct guid)VHDX_GUID_FILE_PARAMETERS, VHDX_ITEM_REQUIRED, &fp, sizeof fp);
    put_item(&it, (struct guid)VHDX_GUID_SIZE, disk, &p->size, 8);
    put_item(&it, (struct guid)VHDX_GUID_DISK_ID, disk, &p->disk_id, 16);
    put_item(&it, (struct guid)VHDX_GUID_LOGICAL, disk, &p->logical_sector, 4);
    put_item(&it, (struct guid)VHDX_GUID_PHYSICAL, disk, &p->physical_sector, 4);
    if (p->type == DISK_DIFFERENCING) {
        size_t len;
        AUTO(buf)
        loc = vhdx_locator_build(p->parent_path, p->parent_absolute, &p->parent_id, NULL, &len, e);
        if (!loc)
            return false;
        put_item(&it, (struct guid)VHDX_GUID_LOCATOR, VHDX_ITEM_REQUIRED, loc, (uint32_t)len);
    }
    int rc = sfile_write(f, (uint64_t)METADATA_AT * VHDX_MB, buf, TOTAL);
    return rc == 0 || err_errno(e, rc, "Could not write %s", f->name);
}

/* A fixed disk's table: every block in its place. */
static int write_fixed_bat(struct sfile *f, const struct format_params *p, const struct layout *l,
                           uint8_t *buf)
{
    uint64_t n = 0, index = 0, off = (uint64_t)BAT_AT * VHDX_MB;
    while (n < l->blocks) {
        uint32_t fill = 0;
        memset(buf, 0, VHDX_TABLE_SIZE);
        for (; fill < VHDX_TABLE_SIZE / 8 && n < l->blocks; fill++, index++) {
            if (index % (l->ratio + 1) == l->ratio)
                continue; /* a bitmap's place */
            put_le64(buf + (size_t)fill * 8, (l->payload + n * p->block_size) | VHDX_FULLY_PRESENT);
            n++;
        }
        int rc = sfile_write(f, off, buf, VHDX_TABLE_SIZE);
        if (rc)
            return rc;
        off += VHDX_TABLE_SIZE;
    }
    return 0;
}

bool vhdx_format(struct sfile *f, const struct format_params *p, err *e)
{
    struct layout l;
    plan(p, &l);
    AUTO(buf) buf = malloc(VHDX_TABLE_SIZE);
    if (!buf)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to create %s", f->name);
    int rc = sfile_set_size(f, l.file_size);
    if (rc)
        return err_errno(e, rc, "Could not create %s", f->name);
    /* The log and the small tables must not lack space later; a fixed disk's payload neither. */
    uint64_t reserve = p->type == DISK_FIXED ? l.file_size : MIN(l.payload, (uint64_t)8 * VHDX_MB);
    rc = f->ops->reserve(f, 0, reserve);
    if (rc == ENOSPC || rc == EDQUOT || rc == EFBIG)
        return err_errno(e, rc, "Could not create %s", f->name);
    errno = 0;
    if (!write_identifier(f, buf) || !write_headers(f, buf) || !write_regions(f, &l, buf) ||
        (rc = write_fixed_bat(f, p, &l, buf)) != 0)
        return err_errno(e, rc ? rc : errno ? errno : EIO, "Could not write %s", f->name);
    return write_metadata(f, p, e);
}
