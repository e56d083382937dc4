/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A floppy disk controller (82077AA) at 0x3f0 with one drive, A. Data goes by DMA channel 2; what
 * asks for it by the processor ends with an overrun. A medium is a raw image of one of the sizes
 * that a PC's floppies have; a shorter one is write-protected and reads as zeroes beyond its end.
 *
 * Registers are the processors' threads', under one lock; the image is the I/O thread's: a command
 * that needs it is handed over. Sector numbers come with the command, as they would be found on the
 * track; a drive that stands over another cylinder does not find them.
 * Sources: Intel 82077AA data sheet; ISO 9293's and IBM's formats.
 */
#ifndef VIREO_CHIPSET_FLOPPY_H
#define VIREO_CHIPSET_FLOPPY_H

#include "core/chipset/dma.h"
#include "core/storage/disk.h"

struct floppy;
struct floppy_params {
    const struct chip_env *env; /* borrowed, as the next */
    struct dma *dma;
    struct chip_line irq;
};
struct floppy *floppy_new(const struct floppy_params *p, err *e);
struct device floppy_device(struct floppy *f);

/* Whether an image of that many bytes is a floppy's. */
bool floppy_fits(uint64_t bytes, err *e);
/* What CMOS says of a drive for images of that size (0: an empty drive), in the upper four bits. */
uint8_t floppy_cmos(uint64_t bytes);

/* Puts a medium in before start; borrows it. It fits. */
void floppy_attach(struct floppy *f, struct disk *medium);
/* Changes the medium (NULL: takes it out) when nothing is in flight, then calls done: the old one
 * may be closed then. I/O thread. ERR_INVALID, ERR_BUSY. */
bool floppy_set_medium(struct floppy *f, struct disk *medium, void (*done)(void *ctx), void *ctx,
                       err *e);
/* Any thread: commands that moved data, ever. */
struct floppy_counters {
    uint64_t commands, read_bytes, written_bytes;
};
void floppy_counters(struct floppy *f, struct floppy_counters *out);

#endif
