/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Checking a VHD: footers, header, table. */
#include <errno.h>
#include <stdlib.h>

#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/storage/tool.h"
#include "core/storage/vhd.h"

struct look {
    struct checker *c;
    struct sfile *f;
    uint64_t size, tail_at;
    struct vhd_footer footer;
    bool tail_ok, copy_ok;
    struct vhd_header header;
    uint64_t header_at;
};

/* Both are bad: if it is the checksum alone, that can be set right. */
static bool reseal_footer(struct look *l)
{
    if (memcmp(l->footer.cookie, VHD_COOKIE, 8)) {
        check_say(l->c, DISK_DAMAGE, "neither the footer nor its copy is there");
        return false;
    }
    check_say(l->c, DISK_DEFECT, "the footer's checksum is wrong, in its copy too");
    vhd_seal_footer(&l->footer);
    return l->c->repair;
}

static bool check_footers(struct look *l, err *e)
{
    struct vhd_footer tail, copy;
    int rc = sfile_read(l->f, l->tail_at, &tail, sizeof tail);
    if (rc == 0)
        rc = sfile_read(l->f, 0, &copy, sizeof copy);
    if (rc)
        return err_errno(e, rc, "Could not read %s", l->c->name);
    l->tail_ok = vhd_footer_ok(&tail);
    l->copy_ok = vhd_footer_ok(&copy);
    l->footer = l->tail_ok || !l->copy_ok ? tail : copy;
    if (!l->tail_ok && !l->copy_ok)
        return reseal_footer(l);
    bool fixed = get_be32(&l->footer.type) == VHD_FIXED;
    if (!l->tail_ok)
        check_say(l->c, DISK_DEFECT, "the footer at the end is damaged or missing");
    if (!l->copy_ok && !fixed)
        check_say(l->c, DISK_DEFECT, "the copy of the footer in front is damaged");
    if (l->copy_ok && l->tail_ok && !fixed && memcmp(&tail, &copy, sizeof tail))
        check_say(l->c, DISK_DEFECT, "the two footers differ");
    return true;
}

static void repair_footers(struct look *l)
{
    struct vhd_footer copy;
    if (!l->c->repair || get_be32(&l->footer.type) == VHD_FIXED)
        return;
    bool same =
        sfile_read(l->f, 0, &copy, sizeof copy) == 0 && !memcmp(&copy, &l->footer, sizeof copy);
    if (l->tail_ok && l->copy_ok && same)
        return;
    struct vhd_footer tail;
    bool there = sfile_read(l->f, l->tail_at, &tail, sizeof tail) == 0 &&
                 !memcmp(tail.cookie, VHD_COOKIE, 8);
    uint64_t at = there ? l->tail_at : align_up(l->size, VHD_SECTOR);
    if (sfile_write(l->f, at, &l->footer, sizeof l->footer) == 0 && sfile_flush(l->f) == 0 &&
        sfile_write(l->f, 0, &l->footer, sizeof l->footer) == 0 && sfile_flush(l->f) == 0)
        check_say(l->c, DISK_REPAIRED, "both footers were written anew");
}

/* False: not to be gone on with. */
static bool check_header(struct look *l)
{
    struct vhd_header *h = &l->header;
    l->header_at = get_be64(&l->footer.header_offset);
    if (!range_within(l->header_at, sizeof *h, l->size) ||
        sfile_read(l->f, l->header_at, h, sizeof *h) != 0 ||
        memcmp(h->cookie, VHD_HEADER_COOKIE, 8)) {
        check_say(l->c, DISK_DAMAGE, "the dynamic header is missing");
        return false;
    }
    if (get_be32(&h->checksum) == vhd_checksum(h, sizeof *h, offsetof(struct vhd_header, checksum)))
        return true;
    check_say(l->c, DISK_DEFECT, "the dynamic header's checksum is wrong");
    if (!l->c->repair)
        return false;
    vhd_seal_header(h);
    if (sfile_write(l->f, l->header_at, h, sizeof *h) == 0 && sfile_flush(l->f) == 0)
        check_say(l->c, DISK_REPAIRED, "the dynamic header's checksum was set right");
    return true;
}

/* ---- the table ---- */

struct used {
    uint64_t off, block;
};

static int by_offset(const void *a, const void *b)
{
    const struct used *x = a, *y = b;
    return x->off < y->off ? -1 : x->off > y->off;
}

static void bad_block(struct look *l, struct vhd *v, uint64_t block, const char *what)
{
    uint8_t unused[4] = {0xff, 0xff, 0xff, 0xff};
    check_say(l->c, DISK_DAMAGE, "block %llu %s", (unsigned long long)block, what);
    if (l->c->repair && sfile_write(l->f, v->table_off + block * 4, unused, sizeof unused) == 0)
        check_say(l->c, DISK_REPAIRED, "block %llu was given up", (unsigned long long)block);
}

static bool check_table(struct look *l, struct vhd *v, err *e)
{
    uint64_t len = v->bitmap_size + (uint64_t)v->base.block_size, n = 0;
    uint64_t most = MIN(v->nblocks, v->space.file_size / VHD_SECTOR);
    AUTO(buf) mem = malloc((most + 1) * sizeof(struct used));
    struct used *u = mem;
    if (!u)
        return err_set(e, ERR_NO_MEMORY, "Not enough memory to check %s", l->c->name);
    for (uint64_t b = 0; b < v->nblocks; b++) {
        int rc = 0;
        uint64_t at = v->table_off + b * 4;
        struct meta_page *p = meta_get(&v->base.meta, align_down(at, VHD_SECTOR), &rc);
        if (!p)
            return err_errno(e, rc, "Could not read %s", l->c->name);
        uint32_t entry = get_be32(p->data + at % VHD_SECTOR);
        if (entry == VHD_UNUSED)
            continue;
        if (!vhd_block_ok(v, entry) || n == most)
            bad_block(l, v, b, "points outside of the file or into its metadata");
        else
            u[n++] = (struct used){(uint64_t)entry * VHD_SECTOR, b};
    }
    qsort(u, n, sizeof *u, by_offset);
    uint64_t total = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (i && u[i].off < u[i - 1].off + len)
            bad_block(l, v, u[i].block, "lies over another one");
        else
            total += MIN(len, v->space.file_size - u[i].off);
    }
    uint64_t front = align_up(v->table_off + (uint64_t)v->table_entries * 4, VHD_SECTOR);
    uint64_t rest = v->space.file_size - MIN(v->space.file_size, front + total + VHD_SECTOR);
    l->c->result->leaked = rest > VHD_SECTOR * 64 ? rest : 0;
    if (l->c->result->leaked)
        check_say(l->c, DISK_NOTE, "%llu bytes of the file are not in use; compacting frees them",
                  (unsigned long long)rest);
    return true;
}

bool vhd_check(struct checker *c, struct sfile *f, err *e)
{
    struct look l = {.c = c, .f = f, .size = sfile_size(f)};
    if (l.size < VHD_SECTOR) {
        check_say(c, DISK_DAMAGE, "the file is too short for a VHD");
        return true;
    }
    l.tail_at = align_up(l.size, VHD_SECTOR) - VHD_SECTOR;
    if (!check_footers(&l, e))
        return c->result->damages + c->result->defects > 0;
    bool fixed = get_be32(&l.footer.type) == VHD_FIXED;
    if (!fixed && !check_header(&l))
        return true;
    repair_footers(&l);
    err why = ERR_INIT;
    struct loop *loop = loop_new(e); /* nothing asynchronous is done; images want one */
    if (!loop)
        return false;
    struct image *img = vhd_open(f, loop, &why);
    bool ok = true;
    if (!img)
        check_say(c, DISK_DAMAGE, "%s", why.text);
    else if (!fixed)
        ok = check_table(&l, (struct vhd *)img, e);
    if (img) {
        img->file = NULL; /* stays the caller's */
        image_free(img);
    }
    loop_free(loop);
    if (ok && c->repair && c->result->repaired && sfile_flush(f) != 0)
        ok = err_set(e, ERR_IO, "Could not write %s", c->name);
    return ok;
}
