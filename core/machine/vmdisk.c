/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A machine's disks and drives: one synthetic SCSI controller with 64 places, and on generation 1
 * four IDE places. An IDE disk is on the emulated controller, for the BIOS, and on a VMBus channel
 * of its own, for drivers: the same storage. DVD drives are on the emulated controller alone, as in
 * Hyper-V.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/bytes.h"
#include "core/base/cleanup.h"
#include "core/chipset/floppy.h"
#include "core/chipset/ide.h"
#include "core/machine/vm-int.h"

/* The controller's instance: the same in every machine, as in Hyper-V. */
static const struct guid controller = GUID(0xa3d6d5f2, 0x7c1e, 0x4b58, 0x8a4f, 0x56495245304f);

static void lun_id(unsigned lun, char id[VM_ID_LEN])
{
    unsigned place = lun - VM_LUNS;
    if (lun < VM_LUNS)
        snprintf(id, VM_ID_LEN, "scsi0:%u", lun);
    else if (lun == VM_FLOPPY)
        snprintf(id, VM_ID_LEN, "floppy0");
    else
        snprintf(id, VM_ID_LEN, "ide%u:%u", place / 2, place % 2);
}

/* Raw only where the name does not say otherwise: a raw disk's content is the guest's, and must not
 * decide what is opened. */
static enum disk_format format_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    if (dot && (!strcasecmp(dot, ".vhdx") || !strcasecmp(dot, ".avhdx")))
        return DISK_FORMAT_VHDX;
    if (dot && (!strcasecmp(dot, ".vhd") || !strcasecmp(dot, ".avhd")))
        return DISK_FORMAT_VHD;
    return DISK_FORMAT_RAW;
}

static struct disk *open_disk(struct vm *v, const char *path, bool read_only, err *e)
{
    struct disk_open_params p = {
        .path = path,
        .format = format_of(path),
        .flags = read_only ? DISK_OPEN_READ_ONLY : 0,
        .opener = &v->opener,
        .loop = machine_loop(v->machine),
    };
    return disk_open(&p, e);
}

/* An image that may not be written is a write-protected floppy. */
static struct disk *open_floppy(struct vm *v, const char *path, bool read_only, err *e)
{
    struct disk_open_params p = {
        .path = path,
        .format = DISK_FORMAT_RAW,
        .flags = read_only ? DISK_OPEN_READ_ONLY : 0,
        .opener = &v->opener,
        .loop = machine_loop(v->machine),
    };
    struct disk_info info;
    struct disk *d = disk_open(&p, read_only ? e : NULL);
    p.flags = DISK_OPEN_READ_ONLY;
    if (!d && !read_only)
        d = disk_open(&p, e);
    if (!d)
        return NULL;
    disk_get_info(d, &info);
    if (floppy_fits(info.size, e))
        return d;
    disk_close(d);
    return NULL;
}

static struct disk *open_medium(struct vm *v, bool floppy, const char *path, bool read_only, err *e)
{
    return floppy ? open_floppy(v, path, read_only, e) : open_disk(v, path, read_only, e);
}

/* A disk that has no identity of its own gets one of the machine's id and its place. */
static struct guid device_id(const struct vm *v, unsigned lun, struct disk *d)
{
    struct disk_info info = {0};
    struct guid id = v->id;
    if (d)
        disk_get_info(d, &info);
    if (!guid_is_zero(&info.disk_id))
        return info.disk_id;
    id.b[15] ^= (uint8_t)(lun + 1);
    return id;
}

static void ejected(void *ctx)
{
    vm_changed(ctx, VM_CHANGED_DISKS);
}

static void lun_clear(struct vm_lun *l)
{
    if (l->disk)
        disk_close(l->disk);
    free(l->path);
    *l = (struct vm_lun){0};
}

/* ---- IDE ---- */

/* The VMBus side of an IDE disk: Linux takes the unit from bytes 4 and 5 of the instance. */
static bool attach_channel(struct vm *v, unsigned place, struct vm_lun *l, err *e)
{
    struct guid id = GUID(0, 0, 0x8899, 0, 0);
    id.b[0] = (uint8_t)(place / 2);
    id.b[4] = (uint8_t)(place % 2);
    struct storvsp_params p = {
        .bus = v->bus, .instance = id, .number = 1 + place, .ide = true, .ide_place = place};
    struct storvsp *s = storvsp_new(&p, e);
    if (!s)
        return false;
    return vm_provider_add(v, storvsp_as_device(s), e) && storvsp_attach(s, 0, l->unit, e);
}

static bool attach_ide(struct vm *v, unsigned place, struct vm_lun *l, err *e)
{
    struct scsi_lun_params p = {.kind = l->dvd ? SCSI_DVD : SCSI_DISK,
                                .disk = l->disk,
                                .id = device_id(v, VM_LUNS + place, l->disk),
                                .ejected = ejected,
                                .ctx = v};
    char serial[21];
    l->unit = scsi_lun_new(&p, e);
    if (!l->unit)
        return false;
    if (l->dvd) {
        ide_attach_dvd(v->ide, place, l->unit);
        return true;
    }
    if (!attach_channel(v, place, l, e)) {
        scsi_lun_free(l->unit);
        return false;
    }
    for (unsigned i = 0; i < 10; i++)
        snprintf(serial + i * 2, 3, "%02X", p.id.b[i]);
    ide_attach_disk(v->ide, place, l->disk, serial);
    return true;
}

static bool attach(struct vm *v, unsigned lun, struct vm_lun *l, err *e)
{
    if (lun == VM_FLOPPY) {
        struct disk_info info = {0};
        if (l->disk)
            disk_get_info(l->disk, &info);
        machine_set_floppy(v->machine, floppy_cmos(info.size));
        floppy_attach(v->floppy, l->disk);
        return true;
    }
    if (lun >= VM_LUNS)
        return attach_ide(v, lun - VM_LUNS, l, e);
    struct scsi_lun_params p = {.kind = l->dvd ? SCSI_DVD : SCSI_DISK,
                                .disk = l->disk,
                                .id = device_id(v, lun, l->disk),
                                .ejected = ejected,
                                .ctx = v};
    l->unit = scsi_lun_new(&p, e);
    if (!l->unit)
        return false;
    if (storvsp_attach(v->scsi, lun, l->unit, e))
        return true;
    scsi_lun_free(l->unit);
    return false;
}

static bool add_disk(struct vm *v, const struct vm_disk_request *d, unsigned lun, err *e)
{
    struct vm_lun l = {
        .used = true, .dvd = d->dvd, .floppy = d->floppy, .read_only = d->read_only || d->dvd};
    if (!d->path && !d->dvd && !d->floppy)
        return err_set(e, ERR_INVALID, "a disk needs a file");
    if (d->path) {
        l.path = strdup(d->path);
        l.disk = l.path ? open_medium(v, l.floppy, d->path, l.read_only, e) : NULL;
        if (!l.disk) {
            free(l.path);
            return false;
        }
    }
    if (!attach(v, lun, &l, e)) {
        lun_clear(&l);
        return false;
    }
    v->luns[lun] = l;
    return true;
}

/* Its place in the machine; -1: there is none such. */
static int place_of(const struct vm *v, const struct vm_disk *d)
{
    if (d->bus == VM_BUS_FLOPPY)
        return v->floppy && !d->slot ? VM_FLOPPY : -1;
    if (d->bus == VM_BUS_IDE && v->ide)
        return d->slot < VM_IDE ? (int)(VM_LUNS + d->slot) : -1;
    return d->slot < VM_LUNS ? (int)d->slot : -1;
}

bool vm_disks_make(struct vm *v, const struct vm_config *c, err *e)
{
    struct storvsp_params p = {
        .bus = v->bus, .instance = controller, .max_subchannels = v->vps - 1};
    v->scsi = storvsp_new(&p, e);
    if (!v->scsi || !vm_provider_add(v, storvsp_as_device(v->scsi), e))
        return false;
    for (uint32_t i = 0; i < c->n_disks; i++) {
        const struct vm_disk *d = &c->disks[i];
        struct vm_disk_request r = {.path = d->path,
                                    .dvd = d->media == VM_MEDIA_DVD,
                                    .floppy = d->bus == VM_BUS_FLOPPY,
                                    .read_only = d->read_only};
        int place = place_of(v, d);
        if (place < 0 || v->luns[place].used)
            return err_set(e, ERR_INVALID, "disk %u has a place that is not there or taken", i);
        if (!add_disk(v, &r, (unsigned)place, e))
            return false;
    }
    return true;
}

void vm_disks_close(struct vm *v)
{
    for (unsigned i = 0; i < VM_PLACES; i++) {
        if (i >= VM_LUNS && v->luns[i].dvd) /* no controller's but ours */
            scsi_lun_free(v->luns[i].unit);
        lun_clear(&v->luns[i]);
    }
}

/* ---- hot add ---- */

struct adding {
    const struct vm_disk_request *request;
    char *id;
};

static void do_add(struct vm_call *c)
{
    struct vm *v = c->v;
    struct adding *a = c->arg;
    int lun = a->request->lun;
    for (unsigned i = 0; lun < 0 && i < VM_LUNS; i++)
        if (!v->luns[i].used)
            lun = (int)i;
    if (lun < 0 || lun >= VM_LUNS || v->luns[lun].used) {
        c->ok = err_set(c->e, lun < 0 ? ERR_NO_SPACE : ERR_EXISTS,
                        "there is no free place for the disk");
        return;
    }
    c->ok = add_disk(v, a->request, (unsigned)lun, c->e);
    if (!c->ok)
        return;
    lun_id((unsigned)lun, a->id);
    vm_changed(v, VM_CHANGED_DISKS);
}

bool vm_add_disk(struct vm *v, const struct vm_disk_request *d, char id[VM_ID_LEN], err *e)
{
    struct adding a = {d, id};
    return vm_call(v, do_add, &a, e);
}

/* ---- hot remove, media: the end comes later, on the I/O thread ---- */

struct leaving {
    pthread_mutex_t lock;
    pthread_cond_t gone;
    bool done;
    struct vm *v;
    const char *id, *path;
    bool ask;
    unsigned lun;
    struct disk *old, *fresh;
    struct loop_post post;
};

/* Not at once: it may be told from within the disk's own last completion, and a disk that is closed
 * there would go from under it. */
static void soon(struct leaving *l, void (*fn)(void *ctx))
{
    loop_post_init(&l->post, fn, l);
    loop_post(machine_loop(l->v->machine), &l->post);
}

static void leaving_done(struct leaving *l)
{
    pthread_mutex_lock(&l->lock);
    l->done = true;
    pthread_cond_signal(&l->gone);
    pthread_mutex_unlock(&l->lock);
}

static void wait_gone(struct leaving *l)
{
    pthread_mutex_lock(&l->lock);
    while (!l->done)
        pthread_cond_wait(&l->gone, &l->lock);
    pthread_mutex_unlock(&l->lock);
}

static int find_lun(const struct vm *v, const char *id, bool dvd)
{
    for (unsigned i = 0; i < VM_PLACES; i++) {
        char name[VM_ID_LEN];
        lun_id(i, name);
        if (v->luns[i].used && !v->luns[i].leaving &&
            (id[0] ? strcmp(id, name) == 0 : dvd && v->luns[i].dvd))
            return (int)i;
    }
    return -1;
}

static void take_away(void *ctx)
{
    struct leaving *l = ctx;
    lun_clear(&l->v->luns[l->lun]);
    vm_changed(l->v, VM_CHANGED_DISKS);
    leaving_done(l);
}

static void detached(void *ctx)
{
    soon(ctx, take_away);
}

static void do_remove(struct vm_call *c)
{
    struct leaving *l = c->arg;
    int lun = find_lun(c->v, l->id, false);
    if (lun < 0) {
        c->ok = err_set(c->e, ERR_NOT_FOUND, "there is no disk \"%s\"", l->id);
        return;
    }
    if (lun >= VM_LUNS) {
        c->ok =
            err_set(c->e, ERR_STATE,
                    "IDE disks, drives and the floppy drive can be removed only while the machine "
                    "is off");
        return;
    }
    l->lun = (unsigned)lun;
    c->v->luns[lun].leaving = true;
    c->ok = storvsp_detach(c->v->scsi, l->lun, detached, l, c->e);
    if (!c->ok)
        c->v->luns[lun].leaving = false;
}

bool vm_remove_disk(struct vm *v, const char *id, err *e)
{
    struct leaving l = {
        .lock = PTHREAD_MUTEX_INITIALIZER, .gone = PTHREAD_COND_INITIALIZER, .v = v, .id = id};
    if (!vm_call(v, do_remove, &l, e))
        return false;
    wait_gone(&l);
    return true;
}

static void change_medium(void *ctx)
{
    struct leaving *l = ctx;
    struct vm_lun *lun = &l->v->luns[l->lun];
    if (l->old)
        disk_close(l->old);
    free(lun->path);
    lun->path = l->path ? strdup(l->path) : NULL;
    lun->disk = l->fresh;
    lun->leaving = false;
    vm_changed(l->v, VM_CHANGED_DISKS);
    leaving_done(l);
}

static void medium_changed(void *ctx)
{
    soon(ctx, change_medium);
}

static bool swap_medium(struct vm *v, struct leaving *l, err *e)
{
    if (l->lun == VM_FLOPPY)
        return floppy_set_medium(v->floppy, l->fresh, medium_changed, l, e);
    if (l->lun >= VM_LUNS)
        return ide_set_medium(v->ide, l->lun - VM_LUNS, l->fresh, medium_changed, l, e);
    return storvsp_set_medium(v->scsi, l->lun, l->fresh, medium_changed, l, e);
}

static void do_medium(struct vm_call *c)
{
    struct leaving *l = c->arg;
    int n = find_lun(c->v, l->id, true);
    if (n < 0 || !(c->v->luns[n].dvd || c->v->luns[n].floppy)) {
        c->ok = err_set(c->e, ERR_NOT_FOUND, "there is no drive \"%s\"", l->id);
        return;
    }
    struct vm_lun *lun = &c->v->luns[n];
    l->lun = (unsigned)n;
    l->old = lun->disk;
    if (l->ask && lun->unit && scsi_medium_locked(lun->unit)) {
        scsi_request_eject(lun->unit);
        c->ok = err_set(c->e, ERR_BUSY,
                        "the guest uses the medium; it was asked to let it go, eject it again "
                        "then");
        return;
    }
    if (l->path && !(l->fresh = open_medium(c->v, lun->floppy, l->path, lun->read_only, c->e))) {
        c->ok = false;
        return;
    }
    lun->leaving = true;
    c->ok = swap_medium(c->v, l, c->e);
    if (!c->ok) {
        lun->leaving = false;
        if (l->fresh)
            disk_close(l->fresh);
    }
}

bool vm_set_medium(struct vm *v, const char *id, const char *path, bool ask, err *e)
{
    struct leaving l = {.lock = PTHREAD_MUTEX_INITIALIZER,
                        .gone = PTHREAD_COND_INITIALIZER,
                        .v = v,
                        .id = id,
                        .path = path,
                        .ask = ask};
    if (!vm_call(v, do_medium, &l, e))
        return false;
    wait_gone(&l);
    return true;
}

/* ---- size ---- */

struct sizing {
    struct leaving end;
    uint64_t size;
    err e;
};

static void resized(void *ctx, const err *e)
{
    struct sizing *s = ctx;
    struct leaving *l = &s->end;
    s->e = *e;
    l->v->luns[l->lun].leaving = false;
    if (e->code == ERR_NONE)
        vm_changed(l->v, VM_CHANGED_DISKS);
    leaving_done(l);
}

static void do_resize(struct vm_call *c)
{
    struct sizing *s = c->arg;
    int n = find_lun(c->v, s->end.id, false);
    if (n < 0 || c->v->luns[n].dvd || c->v->luns[n].floppy) {
        c->ok = err_set(c->e, ERR_NOT_FOUND, "there is no disk \"%s\"", s->end.id);
        return;
    }
    s->end.lun = (unsigned)n;
    c->v->luns[n].leaving = true; /* not to be taken away meanwhile */
    disk_resize_start(c->v->luns[n].disk, s->size, false, resized, s);
    c->ok = true;
}

bool vm_resize_disk(struct vm *v, const char *id, uint64_t size, err *e)
{
    struct sizing s = {.end = {.lock = PTHREAD_MUTEX_INITIALIZER,
                               .gone = PTHREAD_COND_INITIALIZER,
                               .v = v,
                               .id = id},
                       .size = size,
                       .e = ERR_INIT};
    if (!vm_call(v, do_resize, &s, e))
        return false;
    wait_gone(&s.end);
    if (s.e.code != ERR_NONE && e)
        *e = s.e;
    return s.e.code == ERR_NONE;
}

/* ---- listing ---- */

struct listing {
    void *out;
    unsigned max, n;
};

static void do_list(struct vm_call *c)
{
    struct listing *l = c->arg;
    struct vm_disk_info *out = l->out;
    for (unsigned i = 0; i < VM_PLACES && l->n < l->max; i++) {
        const struct vm_lun *u = &c->v->luns[i];
        struct vm_disk_info *o = &out[l->n];
        struct disk_info info = {0};
        if (!u->used)
            continue;
        if (u->disk)
            disk_get_info(u->disk, &info);
        *o = (struct vm_disk_info){.lun = i < VM_LUNS ? i : (i - VM_LUNS) % VM_IDE,
                                   .dvd = u->dvd,
                                   .floppy = u->floppy,
                                   .read_only = u->read_only,
                                   .medium = u->disk != NULL,
                                   .size = info.size,
                                   .requests = info.requests};
        if (u->floppy) {
            struct floppy_counters n;
            floppy_counters(c->v->floppy, &n);
            o->emulated_commands = n.commands;
            o->emulated_read = n.read_bytes;
            o->emulated_written = n.written_bytes;
        } else if (i >= VM_LUNS) {
            struct ide_counters n;
            ide_counters(c->v->ide, i - VM_LUNS, &n);
            o->emulated_commands = n.commands;
            o->emulated_read = n.read_bytes;
            o->emulated_written = n.written_bytes;
        }
        lun_id(i, o->id);
        snprintf(o->path, sizeof o->path, "%s", u->path ? u->path : "");
        l->n++;
    }
}

unsigned vm_list_disks(struct vm *v, struct vm_disk_info *out, unsigned max)
{
    struct listing l = {out, max, 0};
    vm_call(v, do_list, &l, NULL);
    return l.n;
}
