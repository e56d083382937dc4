/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * SCSI logical units on virtual disks: hard disks and DVD drives, as Hyper-V shows them. Knows no
 * transport: storvsp and ATAPI hand it tasks whose data pointers lead into guest memory.
 *
 * Whatever is in a task's CDB and data is hostile. Data that decides anything (parameter lists) is
 * copied once before it is looked at; payload goes straight between the iovecs and the disk.
 * Sources: SPC-4, SBC-3, MMC-6.
 * Thread: the disk's loop.
 */
#ifndef VIREO_VSP_SCSI_H
#define VIREO_VSP_SCSI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "core/base/guid.h"
#include "core/base/state.h"
#include "core/storage/disk.h"
#include "core/vsp/scsi-format.h"

struct scsi_lun;

enum scsi_direction { SCSI_DATA_NONE, SCSI_DATA_IN, SCSI_DATA_OUT }; /* IN: to the guest */

/* The caller's from scsi_execute until done. */
struct scsi_task {
    uint8_t cdb[SCSI_CDB_BYTES];
    enum scsi_direction direction;
    struct iovec *iov; /* the guest's buffers; the array may be changed (shortened) */
    int iovcnt;
    size_t bytes; /* sum of iov */
    /* REPORT LUNS: those present, bit per LUN */
    uint64_t luns;

    uint8_t status;                  /* enum scsi_status */
    uint8_t sense[SCSI_SENSE_BYTES]; /* fixed format; valid if CHECK_CONDITION */
    size_t transferred;              /* bytes that really moved */
    /* Called once, perhaps from within scsi_execute. */
    void (*done)(struct scsi_task *t);
    void *owner;

    /* scsi's */
    struct scsi_lun *lun;
    struct disk_req req;
    struct scsi_extents *extents; /* UNMAP: what is left to do */
    void *bounce;
    struct iovec one;
};

enum scsi_kind { SCSI_DISK, SCSI_DVD };
struct scsi_lun_params {
    enum scsi_kind kind;
    struct disk *disk; /* borrowed; a DVD drive's may be NULL (empty) */
    struct guid id;    /* device id and serial number; zero: the disk's own id */
    /* Medium or drive state changed on the guest's wish (tray opened): may be NULL. */
    void (*ejected)(void *ctx);
    void *ctx;
};

struct scsi_lun *scsi_lun_new(const struct scsi_lun_params *p, err *e);
/* No task is running. */
void scsi_lun_free(struct scsi_lun *l);
enum scsi_kind scsi_lun_kind(const struct scsi_lun *l);
struct disk *scsi_lun_disk(const struct scsi_lun *l);

void scsi_execute(struct scsi_lun *l, struct scsi_task *t);
/* Tasks that have not called done. */
unsigned scsi_in_flight(const struct scsi_lun *l);

/* A DVD drive's medium: NULL takes it out. The guest hears of it by unit attention and event. No
 * task may be in flight (the drive is drained by its owner). */
void scsi_set_medium(struct scsi_lun *l, struct disk *medium);
bool scsi_medium_locked(const struct scsi_lun *l);
/* Asks the guest to let the medium go (it then unlocks and ejects). */
void scsi_request_eject(struct scsi_lun *l);
/* The list of LUNs beside this one changed. */
void scsi_luns_changed(struct scsi_lun *l);
/* Bus or LUN reset: unlocks the tray. */
void scsi_lun_reset(struct scsi_lun *l);

/* A task that no unit answers: INQUIRY says that nothing is there, REPORT LUNS lists, all else
 * fails with LUN NOT SUPPORTED. Sets the result, does not call done. True if it is INQUIRY or
 * REPORT LUNS. */
bool scsi_execute_absent(struct scsi_task *t);

/* What a checkpoint keeps: pending unit attentions, tray and lock. `instance` tells LUNs apart. */
void scsi_lun_save(struct scsi_lun *l, struct state_writer *w, uint32_t instance);
bool scsi_lun_restore(struct scsi_lun *l, const struct state_reader *r, uint32_t instance, err *e);

#endif
