/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The synthetic SCSI controller: up to 64 logical units behind one VMBus device, with subchannels.
 * Units may come and go while the guest runs; it is told to look again.
 *
 * Requests go from the ring to core/vsp/scsi and core/storage/disk with the guest's own pages as
 * buffers; nothing is copied. Order between requests is the guest's business, as on real disks.
 * Source: drivers/scsi/storvsc_drv.c of Linux 6.1.
 * Thread: the bus's loop.
 */
#ifndef VIREO_VSP_STORVSP_H
#define VIREO_VSP_STORVSP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/device.h"
#include "core/vmbus/vmbus.h"
#include "core/vsp/scsi.h"

enum { STORVSP_LUNS = 64 };

struct storvsp;
struct storvsp_params {
    struct vmbus *bus; /* borrowed */
    struct guid instance;
    uint32_t number;          /* of the controller in the machine: its place in saved states */
    bool ide;                 /* a channel of generation 1 with one IDE disk, LUN 0 */
    unsigned ide_place;       /* controller * 2 + unit */
    unsigned max_subchannels; /* what the guest may ask for; it takes processors - 1 */
};
struct storvsp *storvsp_new(const struct storvsp_params *p, err *e);
struct device storvsp_as_device(struct storvsp *s);

/* Adds a unit (takes it: freed by detach or destroy). ERR_EXISTS if the number is in use. */
bool storvsp_attach(struct storvsp *s, unsigned lun, struct scsi_lun *unit, err *e);
/* Takes a unit away: new commands find nothing, those in flight finish; then the unit is freed and
 * done is called (perhaps at once) - the disk may be closed then. ERR_NOT_FOUND, ERR_BUSY. */
bool storvsp_detach(struct storvsp *s, unsigned lun, void (*done)(void *ctx), void *ctx, err *e);
/* Changes a DVD drive's medium (NULL: takes it out) when nothing is in flight; done as above - the
 * old medium may be closed then. A lock set by the guest is overruled. */
bool storvsp_set_medium(struct storvsp *s, unsigned lun, struct disk *medium,
                        void (*done)(void *ctx), void *ctx, err *e);
/* NULL if there is none. For scsi_request_eject, scsi_medium_locked. */
struct scsi_lun *storvsp_unit(struct storvsp *s, unsigned lun);

#endif
