/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Fresh VHD files. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "core/base/cleanup.h"
#include "core/storage/utf16.h"
#include "core/storage/vhd.h"

/* The specification's own rule for a geometry that holds no more than the size. */
void vhd_geometry(uint64_t size, struct vhd_footer *f)
{
    uint64_t total = MIN(size / VHD_SECTOR, (uint64_t)65535 * 16 * 255);
    uint32_t sectors, heads, cyl_heads;
    if (total >= (uint64_t)65535 * 16 * 63) {
        sectors = 255;
        heads = 16;
        cyl_heads = (uint32_t)(total / sectors);
    } else {
        sectors = 17;
        cyl_heads = (uint32_t)(total / sectors);
        heads = MAX((cyl_heads + 1023) / 1024, 4u);
        if (cyl_heads >= heads * 1024 || heads > 16) {
            sectors = 31;
            heads = 16;
            cyl_heads = (uint32_t)(total / sectors);
        }
        if (cyl_heads >= heads * 1024) {
            sectors = 63;
            heads = 16;
            cyl_heads = (uint32_t)(total / sectors);
        }
    }
    put_be16(&f->cylinders, (uint16_t)(cyl_heads / heads));
    f->heads = (uint8_t)heads;
    f->sectors = (uint8_t)sectors;
}

/* The creator is Windows's own, because readers choose by it which of the two sizes they take. */
static void build_footer(const struct format_params *p, struct vhd_footer *f)
{
    *f = (struct vhd_footer){0};
    memcpy(f->cookie, VHD_COOKIE, 8);
    memcpy(f->creator, "win ", 4);
    memcpy(f->creator_os, "Wi2k", 4);
    put_be32(&f->features, VHD_FEATURES);
    put_be32(&f->version, VHD_VERSION);
    put_be64(&f->header_offset, p->type == DISK_FIXED ? VHD_NO_OFFSET : VHD_SECTOR);
    put_be32(&f->timestamp, (uint32_t)(time(NULL) - VHD_EPOCH));
    put_be32(&f->creator_version, 0x000a0000);
    put_be64(&f->original_size, p->size);
    put_be64(&f->current_size, p->size);
    vhd_geometry(p->size, f);
    put_be32(&f->type, p->type == DISK_FIXED     ? VHD_FIXED
                       : p->type == DISK_DYNAMIC ? VHD_DYNAMIC
                                                 : VHD_DIFFERENCING);
    vhd_guid_put(f->id, &p->disk_id);
    vhd_seal_footer(f);
}

/* ---- parents ---- */

static bool put_locator(struct vhd_locator *l, uint32_t code, const char *name, uint64_t at,
                        uint8_t **data, size_t *len)
{
    size_t n, padded;
    AUTO(buf) text = utf16_from_utf8(name, &n);
    if (!text || n > 16384)
        return false;
    padded = align_up(MAX(n, 1u), VHD_SECTOR);
    uint8_t *grown = realloc(*data, *len + padded);
    if (!grown)
        return false;
    memset(grown + *len, 0, padded);
    memcpy(grown + *len, text, n);
    put_be32(&l->platform, code);
    put_be32(&l->space, (uint32_t)padded);
    put_be32(&l->length, (uint32_t)n);
    put_be64(&l->offset, at + *len);
    *data = grown;
    *len += padded;
    return true;
}

static char *windows_relative(const char *path)
{
    char *out = malloc(strlen(path) + 3);
    if (!out)
        return NULL;
    strcpy(out, path[0] == '.' ? "" : ".\\");
    strcat(out, path);
    for (char *c = out; *c; c++)
        if (*c == '/')
            *c = '\\';
    return out;
}

static bool put_name(struct vhd_header *h, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n;
    AUTO(buf) name = utf16_from_utf8(slash ? slash + 1 : path, &n);
    if (!name)
        return false;
    n = MIN(n, sizeof h->parent_name - 2);
    memset(h->parent_name, 0, sizeof h->parent_name);
    for (size_t i = 0; i + 2 <= n; i += 2)
        put_be16(h->parent_name + i, get_le16((uint8_t *)name + i));
    return true;
}

uint32_t vhd_time_of(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_mtime > VHD_EPOCH ? (uint32_t)(st.st_mtime - VHD_EPOCH)
                                                           : 0;
}

bool vhd_build_parent(struct vhd_header *h, const char *path, const char *absolute,
                      const struct guid *id, uint32_t timestamp, uint64_t at, uint8_t **data,
                      size_t *len, err *e)
{
    *data = NULL;
    *len = 0;
    memset(h->locators, 0, sizeof h->locators);
    vhd_guid_put(h->parent_id, id);
    put_be32(&h->parent_timestamp, timestamp);
    int n = 0;
    bool ok = put_name(h, path);
    if (ok && path[0] != '/') {
        AUTO(str) rel = windows_relative(path);
        ok = rel && put_locator(&h->locators[n++], VHD_W2RU, rel, at, data, len);
    }
    const char *whole = path[0] == '/' ? path : absolute;
    if (ok && whole)
        ok = put_locator(&h->locators[n++], VHD_W2KU, whole, at, data, len);
    if (ok)
        return true;
    free(*data);
    *data = NULL;
    return err_set(e, ERR_INVALID, "The parent's name is too long: %s", path);
}

/* ---- the file ---- */

static int write_table(struct sfile *f, uint64_t at, uint64_t len)
{
    uint8_t buf[8192];
    memset(buf, 0xff, sizeof buf);
    while (len) {
        size_t n = MIN(len, sizeof buf);
        int rc = sfile_write(f, at, buf, n);
        if (rc)
            return rc;
        at += n;
        len -= n;
    }
    return 0;
}

static int write_fixed(struct sfile *f, const struct format_params *p)
{
    struct vhd_footer footer;
    build_footer(p, &footer);
    int rc = sfile_set_size(f, p->size + VHD_SECTOR);
    if (rc == 0)
        rc = f->ops->reserve(f, 0, p->size + VHD_SECTOR);
    if (rc == 0 || rc == EOPNOTSUPP)
        rc = sfile_write(f, p->size, &footer, sizeof footer);
    return rc;
}

/* Footer's copy, header, parent names, table, footer. */
bool vhd_format(struct sfile *f, const struct format_params *p, err *e)
{
    struct vhd_footer footer;
    struct vhd_header h = {0};
    AUTO(buf) names = NULL;
    uint8_t *data = NULL;
    size_t len = 0;
    if (p->type == DISK_FIXED) {
        int rc = write_fixed(f, p);
        return rc == 0 || err_errno(e, rc, "Could not create %s", f->name);
    }
    uint64_t entries = div_round_up(p->size, p->block_size), at = VHD_SECTOR + sizeof h;
    if (p->type == DISK_DIFFERENCING &&
        !vhd_build_parent(&h, p->parent_path, p->parent_absolute, &p->parent_id,
                          p->parent_timestamp, at, &data, &len, e))
        return false;
    names = data;
    uint64_t table = at + len, table_len = align_up(entries * 4, VHD_SECTOR);
    memcpy(h.cookie, VHD_HEADER_COOKIE, 8);
    put_be64(&h.next, VHD_NO_OFFSET);
    put_be64(&h.table_offset, table);
    put_be32(&h.version, VHD_VERSION);
    put_be32(&h.table_entries, (uint32_t)entries);
    put_be32(&h.block_size, p->block_size);
    vhd_seal_header(&h);
    build_footer(p, &footer);
    int rc = sfile_write(f, 0, &footer, sizeof footer);
    if (rc == 0)
        rc = sfile_write(f, VHD_SECTOR, &h, sizeof h);
    if (rc == 0 && len)
        rc = sfile_write(f, at, names, len);
    if (rc == 0)
        rc = write_table(f, table, table_len);
    if (rc == 0)
        rc = sfile_write(f, table + table_len, &footer, sizeof footer);
    return rc == 0 || err_errno(e, rc, "Could not create %s", f->name);
}
