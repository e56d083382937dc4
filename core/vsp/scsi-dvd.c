/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What a DVD drive has beside block reading: tray, events, table of contents, profiles. */
#include "core/base/bytes.h"
#include "core/vsp/scsi-internal.h"

enum { PROFILE_CD = 0x08, PROFILE_DVD = 0x10, CD_MAX_BYTES = 900 << 20 };

static uint16_t profile(const struct scsi_lun *l)
{
    if (!l->disk)
        return 0;
    return l->info.size <= CD_MAX_BYTES ? PROFILE_CD : PROFILE_DVD;
}

static void no_medium(const struct scsi_lun *l, struct scsi_task *t)
{
    scsi_fail(t, l->tray_open ? SENSE_NO_MEDIUM_TRAY_OPEN : SENSE_NO_MEDIUM);
}

static void put_address(uint8_t *p, uint64_t lba, bool msf)
{
    if (msf) {
        lba += 150;
        p[0] = 0;
        p[1] = (uint8_t)(lba / (75 * 60));
        p[2] = (uint8_t)(lba / 75 % 60);
        p[3] = (uint8_t)(lba % 75);
    } else {
        put_be32(p, (uint32_t)MIN(lba, UINT32_MAX));
    }
}

/* One data track from 0, and the lead-out. */
static void read_toc(struct scsi_lun *l, struct scsi_task *t)
{
    enum { LEAD_OUT = 0xAA };
    uint8_t r[20] = {0, 0, 1, 1}, format = t->cdb[2] & 0x0F, track = t->cdb[6];
    bool msf = t->cdb[1] & 0x02;
    size_t n = 4;
    if (!format)
        format = t->cdb[9] >> 6;
    if (format > 1 || (format == 0 && track > 1 && track != LEAD_OUT)) {
        scsi_fail(t, SENSE_INVALID_CDB);
        return;
    }
    if (format == 1 || track <= 1) {
        r[n + 1] = 0x14;
        r[n + 2] = 1;
        put_address(r + n + 4, 0, msf);
        n += 8;
    }
    if (format == 0) {
        r[n + 1] = 0x14;
        r[n + 2] = LEAD_OUT;
        put_address(r + n + 4, scsi_sectors(l), msf);
        n += 8;
    }
    put_be16(r, (uint16_t)(n - 2));
    scsi_reply(t, r, n, get_be16(t->cdb + 7));
}

static size_t feature(uint8_t *p, uint16_t code, uint8_t bits, const void *data, uint8_t len)
{
    put_be16(p, code);
    p[2] = bits; /* version, persistent, current */
    p[3] = len;
    memcpy(p + 4, data, len);
    return 4u + len;
}

static void get_configuration(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[96] = {0}, profiles[8] = {0}, medium[4] = {0x29}; /* tray, eject, lock */
    uint8_t block[8] = {0, 0, 8, 0, 0, 1};
    uint16_t now = profile(l), from = get_be16(t->cdb + 2);
    bool one = (t->cdb[1] & 3) == 2;
    size_t n = 8;
    put_be16(profiles, PROFILE_DVD);
    profiles[2] = now == PROFILE_DVD;
    put_be16(profiles + 4, PROFILE_CD);
    profiles[6] = now == PROFILE_CD;
    struct {
        uint16_t code;
        uint8_t bits, len;
        const void *data;
    } f[] = {{0x0000, 3, sizeof profiles, profiles},
             {0x0001, 0x0B, 8, "\0\0\0\1\0\0\0\0"},   /* core: SCSI */
             {0x0003, 3, sizeof medium, medium},      /* removable medium */
             {0x0010, now != 0, sizeof block, block}, /* random reading */
             {0x001F, now == PROFILE_DVD, 4, "\0\0\0\0"}};
    for (size_t i = 0; i < ARRAY_LEN(f); i++)
        if (one ? f[i].code == from : f[i].code >= from)
            n += feature(r + n, f[i].code, f[i].bits, f[i].data, f[i].len);
    put_be32(r, (uint32_t)(n - 4));
    put_be16(r + 6, now);
    scsi_reply(t, r, n, get_be16(t->cdb + 7));
}

static void get_event_status(struct scsi_lun *l, struct scsi_task *t)
{
    enum { MEDIA_CLASS = 4, POLLED = 1 };
    uint8_t r[8] = {0};
    if (!(t->cdb[1] & POLLED)) {
        scsi_fail(t, SENSE_INVALID_CDB);
        return;
    }
    r[3] = 1 << MEDIA_CLASS;
    if (!(t->cdb[4] & 1 << MEDIA_CLASS)) {
        r[1] = 2;
        r[2] = 0x80; /* no event of the classes asked for */
        scsi_reply(t, r, 4, get_be16(t->cdb + 7));
        return;
    }
    r[1] = 6;
    r[2] = MEDIA_CLASS;
    r[4] = l->event;
    r[5] = (uint8_t)((l->disk ? 2 : 0) | (l->tray_open ? 1 : 0));
    l->event = EVENT_NONE;
    scsi_reply(t, r, sizeof r, get_be16(t->cdb + 7));
}

static void read_disc_info(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[34] = {0, 32, 0x0E, 1, 1, 1, 1, 0x20}; /* finished disc, one session, one track */
    scsi_reply(t, r, sizeof r, get_be16(t->cdb + 7));
}

static void mechanism_status(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[8] = {0, (uint8_t)(l->tray_open ? 0x10 : 0), 0, 0, 0, 1};
    scsi_reply(t, r, sizeof r, get_be16(t->cdb + 8));
}

static void start_stop(struct scsi_lun *l, struct scsi_task *t)
{
    bool load_eject = t->cdb[4] & 2, start = t->cdb[4] & 1;
    if (!load_eject) {
        scsi_good(t);
        return;
    }
    if (!start && l->locked) {
        scsi_fail(t, SENSE_REMOVAL_PREVENTED);
        return;
    }
    bool opens = !start && !l->tray_open;
    l->tray_open = !start;
    scsi_good(t);
    if (opens && l->ejected)
        l->ejected(l->ctx);
}

static void test_ready(struct scsi_lun *l, struct scsi_task *t)
{
    if (l->disk && !l->tray_open)
        scsi_good(t);
    else
        no_medium(l, t);
}

static bool needs_medium(uint8_t op)
{
    switch (op) {
    case SCSI_READ_6:
    case SCSI_READ_10:
    case SCSI_READ_12:
    case SCSI_READ_16:
    case SCSI_READ_CAPACITY_10:
    case SCSI_SERVICE_IN_16:
    case SCSI_READ_TOC:
    case SCSI_READ_DISC_INFO:
    case SCSI_VERIFY_10: return true;
    default: return false;
    }
}

bool scsi_dvd(struct scsi_lun *l, struct scsi_task *t)
{
    if (needs_medium(t->cdb[0]) && (!l->disk || l->tray_open)) {
        no_medium(l, t);
        return true;
    }
    switch (t->cdb[0]) {
    case SCSI_TEST_UNIT_READY: test_ready(l, t); return true;
    case SCSI_READ_TOC: read_toc(l, t); return true;
    case SCSI_GET_CONFIGURATION: get_configuration(l, t); return true;
    case SCSI_GET_EVENT_STATUS: get_event_status(l, t); return true;
    case SCSI_READ_DISC_INFO: read_disc_info(l, t); return true;
    case SCSI_MECHANISM_STATUS: mechanism_status(l, t); return true;
    case SCSI_START_STOP: start_stop(l, t); return true;
    case SCSI_PREVENT_ALLOW:
        l->locked = t->cdb[4] & 1;
        scsi_good(t);
        return true;
    default: return false;
    }
}
