/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The IDE function of the PIIX4: two channels of two drives at the ports of a PC, with bus-master
 * DMA. ATA disks (28- and 48-bit addresses) stand on virtual disks, ATAPI DVD drives on SCSI units.
 *
 * Registers are the processors' threads', under one lock; disks are the I/O thread's: a command
 * that needs one is handed over and meanwhile BSY. Data goes through a buffer of 128 KiB a channel.
 * Sources: ATA/ATAPI-6; SFF-8020i; Intel 82371AB.
 */
#ifndef VIREO_CHIPSET_IDE_H
#define VIREO_CHIPSET_IDE_H

#include "core/chipset/pci.h"
#include "core/hv/memory.h"
#include "core/vsp/scsi.h"

enum { IDE_PLACES = 4 }; /* channel * 2 + unit */

struct ide;
struct ide_params {
    const struct chip_env *env; /* borrowed, as the next two */
    struct pci *bus;
    struct hv_memory *memory;
    struct chip_line irq[2];
};
struct ide *ide_new(const struct ide_params *p, err *e);
struct device ide_device(struct ide *d);

/* Borrow what they are given. Before start. */
void ide_attach_disk(struct ide *d, unsigned place, struct disk *disk, const char *serial);
void ide_attach_dvd(struct ide *d, unsigned place, struct scsi_lun *drive);
/* Changes the medium of the DVD drive (NULL: takes it out) when nothing is in flight, then calls
 * done: the old one may be closed then. I/O thread. ERR_NOT_FOUND, ERR_BUSY. */
bool ide_set_medium(struct ide *d, unsigned place, struct disk *medium, void (*done)(void *ctx),
                    void *ctx, err *e);

struct ide_counters {
    uint64_t commands, read_bytes, written_bytes; /* of data that really moved */
};
void ide_counters(struct ide *d, unsigned place, struct ide_counters *out); /* any thread */

#endif
