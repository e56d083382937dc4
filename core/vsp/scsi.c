/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Units, results and dispatch. */
#include "core/vsp/scsi.h"

#include <stdlib.h>

#include "core/base/bytes.h"
#include "core/vsp/scsi-internal.h"

/* ---- the unit ---- */

/* The disk changed its size or became read-only. */
static void on_disk_change(void *ctx)
{
    struct scsi_lun *l = ctx;
    disk_get_info(l->disk, &l->info);
    l->attentions |= l->kind == SCSI_DVD ? UA_MEDIUM_CHANGED : UA_CAPACITY_CHANGED;
}

struct scsi_lun *scsi_lun_new(const struct scsi_lun_params *p, err *e)
{
    struct scsi_lun *l = calloc(1, sizeof *l);
    if (!l) {
        err_set(e, ERR_NO_MEMORY, "There is no memory for the drive");
        return NULL;
    }
    *l = (struct scsi_lun){
        .kind = p->kind, .disk = p->disk, .id = p->id, .ejected = p->ejected, .ctx = p->ctx};
    if (l->disk) {
        disk_get_info(l->disk, &l->info);
        disk_set_change_fn(l->disk, on_disk_change, l);
    }
    if (guid_is_zero(&l->id))
        l->id = l->info.disk_id;
    return l;
}

void scsi_lun_free(struct scsi_lun *l)
{
    if (l && l->disk)
        disk_set_change_fn(l->disk, NULL, NULL);
    free(l);
}

enum scsi_kind scsi_lun_kind(const struct scsi_lun *l)
{
    return l->kind;
}

struct disk *scsi_lun_disk(const struct scsi_lun *l)
{
    return l->disk;
}

unsigned scsi_in_flight(const struct scsi_lun *l)
{
    return l->in_flight;
}

uint32_t scsi_sector(const struct scsi_lun *l)
{
    return l->kind == SCSI_DVD ? SCSI_DVD_SECTOR : l->info.logical_sector;
}

uint64_t scsi_sectors(const struct scsi_lun *l)
{
    return l->disk ? l->info.size / scsi_sector(l) : 0;
}

void scsi_set_medium(struct scsi_lun *l, struct disk *medium)
{
    bool had = l->disk != NULL;
    if (had)
        disk_set_change_fn(l->disk, NULL, NULL);
    l->disk = medium;
    l->info = (struct disk_info){0};
    if (medium) {
        disk_get_info(medium, &l->info);
        disk_set_change_fn(medium, on_disk_change, l);
    }
    l->tray_open = false;
    l->locked = false;
    l->attentions &= ~(uint32_t)UA_EJECT;
    if (had || medium)
        l->attentions |= UA_MEDIUM_CHANGED;
    l->event = medium ? EVENT_NEW_MEDIUM : EVENT_MEDIUM_REMOVED;
}

bool scsi_medium_locked(const struct scsi_lun *l)
{
    return l->locked;
}

void scsi_request_eject(struct scsi_lun *l)
{
    l->event = EVENT_EJECT_REQUEST;
    l->attentions |= UA_EJECT;
}

void scsi_luns_changed(struct scsi_lun *l)
{
    l->attentions |= UA_LUNS_CHANGED;
}

void scsi_lun_reset(struct scsi_lun *l)
{
    l->locked = false;
}

/* ---- results ---- */

void scsi_finish(struct scsi_task *t)
{
    if (t->lun)
        t->lun->in_flight--;
    t->done(t);
}

void scsi_good(struct scsi_task *t)
{
    t->status = SCSI_GOOD;
    scsi_finish(t);
}

void scsi_set_sense(struct scsi_task *t, enum scsi_sense sense)
{
    t->status = SCSI_CHECK_CONDITION;
    memset(t->sense, 0, sizeof t->sense);
    t->sense[0] = 0x70;
    t->sense[2] = (uint8_t)(sense >> 16);
    t->sense[7] = sizeof t->sense - 8;
    t->sense[12] = (uint8_t)(sense >> 8);
    t->sense[13] = (uint8_t)sense;
}

void scsi_fail(struct scsi_task *t, enum scsi_sense sense)
{
    scsi_set_sense(t, sense);
    scsi_finish(t);
}

void scsi_copy_reply(struct scsi_task *t, const void *data, size_t len, size_t allocation)
{
    const uint8_t *p = data;
    len = MIN(len, allocation);
    t->status = SCSI_GOOD;
    if (t->direction != SCSI_DATA_IN)
        return;
    for (int i = 0; i < t->iovcnt && len; i++) {
        size_t n = MIN(len, t->iov[i].iov_len);
        memcpy(t->iov[i].iov_base, p, n);
        p += n;
        len -= n;
        t->transferred += n;
    }
}

void scsi_reply(struct scsi_task *t, const void *data, size_t len, size_t allocation)
{
    scsi_copy_reply(t, data, len, allocation);
    scsi_finish(t);
}

size_t scsi_copy_data(const struct scsi_task *t, void *buf, size_t len)
{
    uint8_t *p = buf;
    if (t->direction != SCSI_DATA_OUT)
        return 0;
    for (int i = 0; i < t->iovcnt && len; i++) {
        size_t n = MIN(len, t->iov[i].iov_len);
        memcpy(p, t->iov[i].iov_base, n);
        p += n;
        len -= n;
    }
    return (size_t)(p - (uint8_t *)buf);
}

/* ---- commands of every kind ---- */

static void report_luns(struct scsi_task *t)
{
    uint8_t reply[8 + 64 * 8] = {0};
    size_t n = 8;
    for (unsigned i = 0; i < 64; i++)
        if (t->luns >> i & 1) {
            reply[n + 1] = (uint8_t)i;
            n += 8;
        }
    put_be32(reply, (uint32_t)(n - 8));
    scsi_copy_reply(t, reply, n, get_be32(t->cdb + 6));
}

static enum scsi_sense take_attention(struct scsi_lun *l)
{
    static const enum scsi_sense sense[] = {SENSE_LUNS_CHANGED, SENSE_MEDIUM_CHANGED,
                                            SENSE_CAPACITY_CHANGED, SENSE_EJECT_REQUESTED};
    if (!l->attentions)
        return SENSE_NONE;
    unsigned bit = (unsigned)__builtin_ctz(l->attentions);
    l->attentions &= l->attentions - 1;
    return sense[bit];
}

static void request_sense(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t reply[SCSI_SENSE_BYTES];
    scsi_set_sense(t, take_attention(l));
    memcpy(reply, t->sense, sizeof reply);
    scsi_reply(t, reply, sizeof reply, t->cdb[4]);
}

static bool without_attention(uint8_t op)
{
    return op == SCSI_INQUIRY || op == SCSI_REPORT_LUNS || op == SCSI_REQUEST_SENSE ||
           op == SCSI_GET_CONFIGURATION || op == SCSI_GET_EVENT_STATUS;
}

static bool common(struct scsi_lun *l, struct scsi_task *t)
{
    switch (t->cdb[0]) {
    case SCSI_INQUIRY: scsi_inquiry(l, t); return true;
    case SCSI_REQUEST_SENSE: request_sense(l, t); return true;
    case SCSI_MODE_SENSE_6:
    case SCSI_MODE_SENSE_10: scsi_mode_sense(l, t); return true;
    case SCSI_REPORT_LUNS:
        report_luns(t);
        scsi_finish(t);
        return true;
    default: return false;
    }
}

void scsi_execute(struct scsi_lun *l, struct scsi_task *t)
{
    t->lun = l;
    t->status = SCSI_GOOD;
    t->transferred = 0;
    t->extents = NULL;
    t->bounce = NULL;
    l->in_flight++;
    enum scsi_sense attention = without_attention(t->cdb[0]) ? SENSE_NONE : take_attention(l);
    if (attention != SENSE_NONE)
        scsi_fail(t, attention);
    else if (!common(l, t) && !(l->kind == SCSI_DVD && scsi_dvd(l, t)) && !scsi_block(l, t))
        scsi_fail(t, SENSE_INVALID_OPCODE);
}

bool scsi_execute_absent(struct scsi_task *t)
{
    enum { NOTHING_HERE = 0x7F, BYTES = 36 };
    uint8_t reply[BYTES] = {NOTHING_HERE, 0, 6, 2, BYTES - 5};
    t->transferred = 0;
    if (t->cdb[0] == SCSI_REPORT_LUNS)
        report_luns(t);
    else if (t->cdb[0] == SCSI_INQUIRY)
        scsi_copy_reply(t, reply, sizeof reply, get_be16(t->cdb + 3));
    else
        scsi_set_sense(t, SENSE_LUN_NOT_SUPPORTED);
    return t->cdb[0] == SCSI_REPORT_LUNS || t->cdb[0] == SCSI_INQUIRY;
}

/* ---- state ---- */

static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U32, struct scsi_lun, attentions, 15),
    STATE_FIELD_MAX(2, STATE_U8, struct scsi_lun, event, EVENT_MEDIUM_REMOVED),
    STATE_FIELD(3, STATE_BOOL, struct scsi_lun, locked),
    STATE_FIELD(4, STATE_BOOL, struct scsi_lun, tray_open),
};
static const struct state_table table = {.name = "SCSI unit",
                                         .section = STATE_ID('S', 'L', 'U', 'N'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};

void scsi_lun_save(struct scsi_lun *l, struct state_writer *w, uint32_t instance)
{
    state_save(w, &table, instance, l);
}

bool scsi_lun_restore(struct scsi_lun *l, const struct state_reader *r, uint32_t instance, err *e)
{
    return state_restore(r, &table, instance, l, e);
}
