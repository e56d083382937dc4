/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of the floppy controller. Everything is under the lock unless said. */
#ifndef VIREO_CHIPSET_FLOPPY_INT_H
#define VIREO_CHIPSET_FLOPPY_INT_H

#include "core/chipset/floppy.h"

enum { SECTOR = 512, MOST_SECTORS = 36, SIDES = 2, MOST_CYLINDER = 85, UNITS = 4, CHANNEL = 2 };
enum { BUFFER = MOST_SECTORS * SIDES * SECTOR, FIFO = 16, RANGES = 2 };
enum { REG_DOR = 2, REG_TAPE, REG_MAIN, REG_FIFO, REG_RATE = 7, PORTS = 6 };
enum { DOR_UNIT = 3, DOR_ON = 4, DOR_DMA = 8, RATE_RESET = 0x80, RATE = 3 };
enum { MAIN_BUSY = 0x10, MAIN_TO_HOST = 0x40, MAIN_READY = 0x80, CHANGED = 0x80 };
enum { MULTI_TRACK = 0x80, HEAD = 4, SIZE_512 = 2 };
enum status0 { ABNORMAL = 0x40, INVALID = 0x80, POLLING = 0xc0, SEEK_END = 0x20, NO_DRIVE = 0x10 };
enum status1 {
    NO_MARK = 1,
    PROTECTED = 2,
    NO_DATA = 4,
    OVERRUN = 0x10,
    BAD_DATA = 0x20,
    BEYOND = 0x80
};
enum status2 { WRONG_CYLINDER = 0x10 };
enum status3 { DRIVE_PROTECTED = 0x40, DRIVE_READY = 0x20, TRACK_0 = 0x10, TWO_SIDED = 0x08 };
enum { CONFIG_IMPLIED_SEEK = 0x40, CONFIG_DEFAULT = 0x20, NON_DMA = 1 };

enum command { /* in the lower five bits of the first byte */
               READ_TRACK = 0x02,
               SPECIFY = 0x03,
               SENSE_DRIVE = 0x04,
               WRITE_DATA = 0x05,
               READ_DATA = 0x06,
               RECALIBRATE = 0x07,
               SENSE_INTERRUPT = 0x08,
               WRITE_DELETED = 0x09,
               READ_ID = 0x0a,
               READ_DELETED = 0x0c,
               FORMAT = 0x0d,
               DUMP = 0x0e,
               SEEK = 0x0f,
               VERSION = 0x10,
               PERPENDICULAR = 0x12,
               CONFIGURE = 0x13,
               LOCK = 0x14,
               VERIFY = 0x16,
};

enum phase { PH_COMMAND, PH_EXECUTE, PH_RESULT, PH_LAST }; /* EXECUTE: the I/O thread's */

struct floppy_kind {
    uint16_t kib;
    uint8_t cylinders, heads, sectors;
    uint8_t rates; /* bit n: it is read at data rate n */
    uint8_t cmos;  /* the drive that it goes into */
};
struct floppy {
    struct floppy_params p;
    struct hv_io_range *ranges[RANGES];
    struct loop_post post;

    pthread_mutex_t lock;           /* all below */
    const struct floppy_kind *kind; /* NULL: no medium */
    bool read_only;
    bool changed;
    uint8_t dor, rate;
    uint8_t cylinder; /* where the heads are */
    uint8_t phase;
    uint8_t fifo[FIFO]; /* the command, then its result */
    uint8_t pos, len;
    uint8_t specify[2], config[3], perpendicular, eot;
    bool lock_config;
    bool irq;
    uint8_t polled;  /* units that have yet to say that they were reset */
    bool seek_ended; /* SENSE INTERRUPT has something to say */
    uint8_t seek_status;
    struct floppy_counters counters;

    /* I/O thread's */
    struct disk *medium;
    uint64_t bytes; /* of the image, which may be shorter than a floppy */
    struct disk_req req;
    struct iovec iov;
    uint8_t buffer[BUFFER];
    bool running, in_flight, discard;
    uint32_t sectors; /* of the request in flight */
    size_t moves;     /* and bytes */
    bool terminal;    /* which is the last of the DMA channel's count */
    bool pending;     /* a change of the medium */
    struct disk *next;
    void (*medium_done)(void *ctx);
    void *medium_ctx;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

/* floppy.c */
void floppy_update_line(struct floppy *f);

/* floppy-commands.c */
void floppy_set_irq(struct floppy *f, bool on);
/* So many bytes of fifo are the result; 0: none, the next command may come. */
void floppy_give(struct floppy *f, unsigned len);
/* The seven bytes that commands with data end with; fifo[2..5] is where it got to. */
void floppy_finish(struct floppy *f, uint8_t st0, uint8_t st1, uint8_t st2);
void floppy_soft_reset(struct floppy *f);
void floppy_power_on(struct floppy *f);
bool floppy_writes(uint8_t command);
/* Whether the command in fifo can be done on the medium; if not, it is finished. */
bool floppy_sectors_there(struct floppy *f);
bool floppy_can_format(struct floppy *f);
unsigned floppy_command_length(uint8_t first);
void floppy_run(struct floppy *f); /* the command in fifo is complete */

/* floppy-data.c: the I/O thread's, without the lock */
void floppy_act(void *ctx);
void floppy_settle(struct floppy *f); /* says that it has stopped, if that was asked for */

#endif
