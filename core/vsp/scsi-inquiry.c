/* SPDX-License-Identifier: GPL-3.0-or-later */
/* INQUIRY with its vital product data, and mode pages. */
#include "core/base/bytes.h"
#include "core/vsp/scsi-internal.h"

enum { DISK_TYPE = 0x00, DVD_TYPE = 0x05 };

static uint8_t type_of(const struct scsi_lun *l)
{
    return l->kind == SCSI_DVD ? DVD_TYPE : DISK_TYPE;
}

static void standard(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[36] = {type_of(l)};
    r[1] = l->kind == SCSI_DVD ? 0x80 : 0; /* removable */
    r[2] = 6;                              /* SPC-4 */
    r[3] = 0x02;
    r[4] = sizeof r - 5;
    r[7] = 0x02; /* command queuing */
    memcpy(r + 8, "Msft    ", 8);
    memcpy(r + 16, l->kind == SCSI_DVD ? "Virtual DVD-ROM " : "Virtual Disk    ", 16);
    memcpy(r + 32, "1.0 ", 4);
    scsi_reply(t, r, sizeof r, get_be16(t->cdb + 3));
}

/* ---- vital product data: each fills r[4...] and returns how many bytes ---- */

static size_t vpd_supported(const struct scsi_lun *l, uint8_t *r)
{
    static const uint8_t pages[] = {0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2};
    size_t n = l->kind == SCSI_DVD ? 3 : sizeof pages;
    memcpy(r, pages, n);
    return n;
}

static size_t vpd_serial(const struct scsi_lun *l, uint8_t *r)
{
    static const char hex[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < 16; i++) {
        r[2 * i] = (uint8_t)hex[l->id.b[i] >> 4];
        r[2 * i + 1] = (uint8_t)hex[l->id.b[i] & 15];
    }
    return 32;
}

/* T10 vendor id, and an NAA of the kind that Hyper-V forms: Microsoft's company id and 12 bytes. */
static size_t vpd_device_id(const struct scsi_lun *l, uint8_t *r)
{
    static const uint8_t naa[] = {0x60, 0x02, 0x24, 0x80};
    size_t n = 0;
    r[n++] = 0x02; /* ASCII */
    r[n++] = 0x01; /* T10 vendor, of the unit */
    r[n++] = 0;
    r[n++] = 8 + 32;
    memcpy(r + n, "MSFT    ", 8);
    n += 8 + vpd_serial(l, r + n + 8);
    r[n++] = 0x01; /* binary */
    r[n++] = 0x03; /* NAA, of the unit */
    r[n++] = 0;
    r[n++] = 16;
    memcpy(r + n, naa, 4);
    memcpy(r + n + 4, l->id.b, 12);
    return n + 16;
}

static size_t vpd_block_limits(const struct scsi_lun *l, uint8_t *r)
{
    uint32_t sector = scsi_sector(l);
    uint32_t granularity = l->info.discard_granularity / sector;
    r[0] = 0x01; /* WRITE SAME of 0 blocks is refused */
    put_be16(r + 2, (uint16_t)(l->info.physical_sector / sector));
    put_be32(r + 12, 0); /* prefetch */
    if (granularity) {
        put_be32(r + 16, UNMAP_MAX_BYTES / sector);
        put_be32(r + 20, UNMAP_MAX_DESCRIPTORS);
        put_be32(r + 24, granularity);
        put_be32(r + 28, 0x80000000u); /* alignment 0, valid */
    }
    put_be64(r + 32, WRITE_SAME_MAX_BYTES / sector);
    return 60;
}

static size_t vpd_characteristics(const struct scsi_lun *l, uint8_t *r)
{
    put_be16(r, 1); /* does not rotate */
    return 60;
}

static size_t vpd_provisioning(const struct scsi_lun *l, uint8_t *r)
{
    bool discard = l->info.discard_granularity != 0;
    bool zeroes = l->info.zeroes_after_discard;
    r[1] = (uint8_t)(discard ? 0xE0 | (zeroes ? 0x04 : 0) : 0); /* LBPU, LBPWS, LBPWS10, LBPRZ */
    r[2] = discard ? 2 : 1;                                     /* thin, or full */
    return 4;
}

static void vpd(struct scsi_lun *l, struct scsi_task *t)
{
    uint8_t r[4 + 128] = {type_of(l), t->cdb[2]};
    size_t (*const disk_only[])(const struct scsi_lun *, uint8_t *) = {
        vpd_block_limits, vpd_characteristics, vpd_provisioning};
    uint8_t page = t->cdb[2];
    size_t n;
    if (page == 0x00)
        n = vpd_supported(l, r + 4);
    else if (page == 0x80)
        n = vpd_serial(l, r + 4);
    else if (page == 0x83)
        n = vpd_device_id(l, r + 4);
    else if (page >= 0xB0 && page <= 0xB2 && l->kind == SCSI_DISK)
        n = disk_only[page - 0xB0](l, r + 4);
    else {
        scsi_fail(t, SENSE_INVALID_CDB);
        return;
    }
    put_be16(r + 2, (uint16_t)n);
    scsi_reply(t, r, 4 + n, get_be16(t->cdb + 3));
}

void scsi_inquiry(struct scsi_lun *l, struct scsi_task *t)
{
    if (t->cdb[1] & 1)
        vpd(l, t);
    else if (t->cdb[2])
        scsi_fail(t, SENSE_INVALID_CDB);
    else
        standard(l, t);
}

/* ---- mode pages ---- */

static size_t mode_caching(const struct scsi_lun *l, uint8_t *r)
{
    r[0] = 0x08;
    r[1] = 18;
    r[2] = 0x04; /* writes are cached: WCE */
    return 20;
}

static size_t mode_control(const struct scsi_lun *l, uint8_t *r)
{
    r[0] = 0x0A;
    r[1] = 10;
    r[3] = 0x10; /* unrestricted reordering */
    return 12;
}

static size_t mode_exceptions(const struct scsi_lun *l, uint8_t *r)
{
    r[0] = 0x1C;
    r[1] = 10;
    return 12;
}

static size_t mode_dvd(const struct scsi_lun *l, uint8_t *r)
{
    r[0] = 0x2A;
    r[1] = 18;
    r[2] = 0x3B; /* reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R */
    r[4] = 0x70; /* mode 2, multisession */
    r[6] = (uint8_t)(0x29 | (l->locked ? 0x02 : 0)); /* tray, eject, lock */
    put_be16(r + 8, 706);
    put_be16(r + 12, 512);
    put_be16(r + 14, 706);
    return 20;
}

static size_t mode_page(const struct scsi_lun *l, uint8_t page, uint8_t *r)
{
    bool all = page == 0x3F, dvd = l->kind == SCSI_DVD;
    size_t n = 0;
    if (!dvd && (all || page == 0x08))
        n += mode_caching(l, r + n);
    if (!dvd && (all || page == 0x0A))
        n += mode_control(l, r + n);
    if (all || page == 0x1C)
        n += mode_exceptions(l, r + n);
    if (dvd && (all || page == 0x2A))
        n += mode_dvd(l, r + n);
    return n;
}

/* Which values can be changed: none. */
static void make_changeable(uint8_t *p, size_t len)
{
    for (size_t at = 0; at + 2 <= len; at += 2u + p[at + 1])
        memset(p + at + 2, 0, p[at + 1]);
}

void scsi_mode_sense(struct scsi_lun *l, struct scsi_task *t)
{
    enum { SAVED = 3, CHANGEABLE = 1, DPOFUA = 0x10, WRITE_PROTECT = 0x80 };
    uint8_t r[8 + 128] = {0};
    bool ten = t->cdb[0] == SCSI_MODE_SENSE_10;
    size_t head = ten ? 8 : 4;
    uint8_t control = t->cdb[2] >> 6;
    size_t n = t->cdb[3] ? 0 : mode_page(l, t->cdb[2] & 0x3F, r + head);
    if (!n || control == SAVED) {
        scsi_fail(t, SENSE_INVALID_CDB);
        return;
    }
    if (control == CHANGEABLE)
        make_changeable(r + head, n);
    uint8_t specific = (uint8_t)((l->kind == SCSI_DISK ? DPOFUA : 0) |
                                 (l->kind == SCSI_DISK && l->info.read_only ? WRITE_PROTECT : 0));
    if (ten)
        put_be16(r, (uint16_t)(head + n - 2));
    else
        r[0] = (uint8_t)(head + n - 1);
    r[ten ? 3 : 2] = specific;
    scsi_reply(t, r, head + n, ten ? get_be16(t->cdb + 7) : t->cdb[4]);
}
