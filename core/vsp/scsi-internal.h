/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Private to the SCSI files: the unit, results, and who handles what. */
#ifndef VIREO_VSP_SCSI_INTERNAL_H
#define VIREO_VSP_SCSI_INTERNAL_H

#include "core/vsp/scsi.h"

/* Unit attentions that wait to be told; the order is that of importance. */
enum { UA_LUNS_CHANGED = 1, UA_MEDIUM_CHANGED = 2, UA_CAPACITY_CHANGED = 4, UA_EJECT = 8 };
enum { EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW_MEDIUM, EVENT_MEDIUM_REMOVED };

struct scsi_lun {
    enum scsi_kind kind;
    struct disk *disk;
    struct disk_info info; /* as the guest was last told (capacity) */
    struct guid id;
    void (*ejected)(void *ctx);
    void *ctx;
    unsigned in_flight;
    uint32_t attentions;
    uint8_t event; /* MMC media event */
    bool locked, tray_open;
};

enum { UNMAP_MAX_DESCRIPTORS = 256, UNMAP_MAX_BYTES = 1 << 30, WRITE_SAME_MAX_BYTES = 1 << 30 };

/* Results: each ends the task. */
void scsi_finish(struct scsi_task *t);
void scsi_good(struct scsi_task *t);
void scsi_fail(struct scsi_task *t, enum scsi_sense sense);
/* Copies a reply, cut to the allocation length and to the guest's buffer. */
void scsi_reply(struct scsi_task *t, const void *data, size_t len, size_t allocation);
/* Without ending the task. */
void scsi_set_sense(struct scsi_task *t, enum scsi_sense sense);
void scsi_copy_reply(struct scsi_task *t, const void *data, size_t len, size_t allocation);
/* Copies the first bytes of the guest's data; returns how many there were. */
size_t scsi_copy_data(const struct scsi_task *t, void *buf, size_t len);

uint32_t scsi_sector(const struct scsi_lun *l);
uint64_t scsi_sectors(const struct scsi_lun *l);

/* scsi-inquiry.c */
void scsi_inquiry(struct scsi_lun *l, struct scsi_task *t);
void scsi_mode_sense(struct scsi_lun *l, struct scsi_task *t);
/* scsi-block.c: false: not one of its commands */
bool scsi_block(struct scsi_lun *l, struct scsi_task *t);
/* scsi-dvd.c: false: not one of its commands */
bool scsi_dvd(struct scsi_lun *l, struct scsi_task *t);

#endif
