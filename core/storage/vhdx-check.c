/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checking a VHDX: what opening verifies, both copies of all that is there twice, and the table. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/storage/tool.h"
#include "core/storage/vhdx.h"

static void check_headers(struct checker *c, struct sfile *f)
{
    for (unsigned i = 0; i < 2; i++) {
        struct vhdx_header h;
        if (sfile_read(f, VHDX_HEADER_OFFSET(i), &h, sizeof h) != 0)
            return;
        if (h.signature != VHDX_HEADER_MAGIC || h.checksum != vhdx_checksum(&h, sizeof h))
            check_say(c, DISK_DEFECT, "header %u is damaged", i + 1);
        else if (!guid_is_zero(&h.log) && i == 0)
            check_say(c, DISK_NOTE, "changes wait in the log; the next use applies them");
    }
}

/* Which of the region tables is good: bits 0 and 1. */
static unsigned good_tables(struct vhdx *v, uint8_t *buf)
{
    unsigned good = 0;
    for (unsigned i = 0; i < 2; i++) {
        const struct vhdx_region_table *t = (const void *)buf;
        if (vhdx_read_meta(v, VHDX_REGION_OFFSET(i), buf, VHDX_TABLE_SIZE, NULL) &&
            t->signature == VHDX_REGION_MAGIC && t->checksum == vhdx_checksum(buf, VHDX_TABLE_SIZE))
            good |= 1u << i;
    }
    return good;
}

static void check_regions(struct checker *c, struct vhdx *v)
{
    AUTO(buf) buf = malloc(VHDX_TABLE_SIZE);
    unsigned good = buf ? good_tables(v, buf) : 3;
    if (good == 3)
        return;
    unsigned from = good == 1 ? 0 : 1;
    check_say(c, DISK_DEFECT, "region table %u is damaged", !from + 1);
    if (!c->repair)
        return;
    struct sfile *f = v->base.file;
    if (vhdx_read_meta(v, VHDX_REGION_OFFSET(from), buf, VHDX_TABLE_SIZE, NULL) &&
        sfile_write(f, VHDX_REGION_OFFSET(!from), buf, VHDX_TABLE_SIZE) == 0 && sfile_flush(f) == 0)
        check_say(c, DISK_REPAIRED, "region table %u was made anew from the other", !from + 1);
}

/* ---- the table ---- */

struct table {
    struct checker *c;
    struct vhdx *v;
    uint8_t *used; /* a bit for each MiB of the file */
    uint64_t nmb;
};

static bool claim(struct table *t, uint64_t off, uint64_t len)
{
    for (uint64_t mb = off / VHDX_MB; mb < (off + len) / VHDX_MB; mb++)
        if (mb >= t->nmb || t->used[mb / 8] >> (mb % 8) & 1)
            return false;
    for (uint64_t mb = off / VHDX_MB; mb < (off + len) / VHDX_MB; mb++)
        t->used[mb / 8] |= (uint8_t)(1u << mb % 8);
    return true;
}

/* What is wrong with an entry, or NULL. */
static const char *entry_fault(struct table *t, uint64_t index, uint64_t entry, bool beyond)
{
    struct vhdx *v = t->v;
    bool bitmap = index % (v->ratio + 1) == v->ratio;
    unsigned state = VHDX_ENTRY_STATE(entry);
    uint64_t off = VHDX_ENTRY_OFFSET(entry), len = bitmap ? VHDX_MB : v->base.block_size;
    if (beyond)
        return entry ? "is used, but lies beyond the end of the disk" : NULL;
    if (bitmap ? state != 0 && state != VHDX_BITMAP_PRESENT
               : state > VHDX_UNMAPPED && state < VHDX_FULLY_PRESENT)
        return "has a state that does not exist";
    if (!bitmap && state == VHDX_PARTIALLY_PRESENT && !v->has_parent)
        return "says partially present, but there is no parent";
    if (!bitmap && state == VHDX_NOT_PRESENT && v->keep && index)
        return NULL;
    if (state < VHDX_FULLY_PRESENT)
        return NULL;
    if (!vhdx_payload_ok(v, off, len))
        return "points outside of the file or into its metadata";
    return claim(t, off, len) ? NULL : "points to space that another one uses";
}

static bool repair_entry(struct table *t, uint64_t at)
{
    struct vhdx *v = t->v;
    int rc = vhdx_settle_identity(&v->base);
    struct meta_page *p = rc ? NULL : meta_get(&v->base.meta, align_down(at, VHDX_PAGE), &rc);
    if (!p)
        return false;
    put_le64(p->data + at % VHDX_PAGE, 0);
    meta_dirty(&v->base.meta, p);
    return v->base.meta.ndirty < v->max_dirty / 2 || image_flush_sync(&v->base) == 0;
}

static void check_entry(struct table *t, uint64_t i, uint64_t entry, bool beyond)
{
    const char *fault = entry_fault(t, i, entry, beyond);
    if (!fault)
        return;
    check_say(t->c, beyond ? DISK_DEFECT : DISK_DAMAGE,
              "entry %llu of the block allocation table %s", (unsigned long long)i, fault);
    if (t->c->repair && repair_entry(t, t->v->bat_off + i * 8))
        check_say(t->c, DISK_REPAIRED, "entry %llu was cleared", (unsigned long long)i);
}

static bool go_on(struct table *t, uint64_t i, uint64_t all, err *e)
{
    const struct disk_progress *p = t->c->progress;
    return !p || !p->fn || p->fn(p->ctx, i, all) || err_set(e, ERR_CANCELLED, "Cancelled");
}

static bool check_entries(struct table *t, err *e)
{
    enum { ENTRIES = VHDX_PAGE / 8 };
    static const uint64_t none[ENTRIES];
    struct vhdx *v = t->v;
    uint64_t valid =
        vhdx_bat_entries(v->base.size, v->base.block_size, v->base.logical_sector, v->has_parent);
    uint64_t all = v->bat_len / 8, entries[ENTRIES];
    for (uint64_t first = 0; first < all; first += ENTRIES) {
        int rc = 0;
        struct meta_page *p = meta_get(&v->base.meta, v->bat_off + first * 8, &rc);
        if (!p)
            return err_errno(e, rc, "Could not read %s", t->c->name);
        if (first % 65536 == 0 && !go_on(t, first, all, e))
            return false;
        if (!memcmp(p->data, none, sizeof none)) /* nothing can be wrong with 0 */
            continue;
        memcpy(entries, p->data, sizeof entries);
        for (unsigned i = 0; i < ENTRIES; i++)
            check_entry(t, first + i, get_le64((uint8_t *)&entries[i]), first + i >= valid);
    }
    return true;
}

static bool check_table(struct checker *c, struct vhdx *v, err *e)
{
    struct table t = {.c = c, .v = v, .nmb = div_round_up(v->space.file_size, VHDX_MB)};
    AUTO(buf) used = calloc(1, t.nmb / 8 + 1);
    if (!used)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to check %s", c->name);
    t.used = used;
    claim(&t, 0, VHDX_MB);
    claim(&t, v->bat_off, v->bat_len);
    claim(&t, v->meta_off, v->meta_len);
    claim(&t, v->header.log_offset, v->header.log_length);
    if (!check_entries(&t, e))
        return false;
    uint64_t unused = 0;
    for (uint64_t mb = 0; mb < t.nmb; mb++)
        unused += !(t.used[mb / 8] >> (mb % 8) & 1);
    c->result->leaked = unused * VHDX_MB;
    if (unused)
        check_say(c, DISK_NOTE, "%llu MiB of the file are not in use; compacting frees them",
                  (unsigned long long)unused);
    return true;
}

bool vhdx_check(struct checker *c, struct sfile *f, struct loop *loop, err *e)
{
    err why = ERR_INIT;
    check_headers(c, f);
    unsigned bad = c->result->defects;
    struct image *img = vhdx_open(f, loop, &why);
    if (!img) {
        check_say(c, DISK_DAMAGE, "%s", why.text);
        return true;
    }
    struct vhdx *v = (struct vhdx *)img;
    img->keep_identity = true;
    check_regions(c, v);
    bool ok = check_table(c, v, e);
    if (c->repair && bad && vhdx_settle_identity(img) == 0)
        check_say(c, DISK_REPAIRED, "both headers were written anew");
    if (c->repair && (image_flush_sync(img) != 0 || img->ops->clean(img) != 0))
        ok = err_set(e, ERR_IO, "Could not write %s", c->name);
    img->file = NULL; /* stays the caller's */
    image_free(img);
    return ok;
}
