/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of the IDE function. Everything is under the lock unless said. */
#ifndef VIREO_CHIPSET_IDE_INT_H
#define VIREO_CHIPSET_IDE_INT_H

#include "core/chipset/ide.h"

enum ide_status {
    ST_ERR = 0x01,
    ST_DRQ = 0x08,
    ST_DSC = 0x10, /* seek complete */
    ST_DF = 0x20,
    ST_DRDY = 0x40,
    ST_BSY = 0x80,
};
enum ide_error { ER_ABRT = 4, ER_IDNF = 0x10, ER_UNC = 0x40 };
enum { SECTOR = 512, BUFFER = 128 << 10, IDE_CDB = 12, MOST_MULTIPLE = 16 };
enum { IDE_DEV = 0x10, IDE_LBA = 0x40 }; /* device register */

enum ide_kind { IDE_NONE, IDE_DISK, IDE_DVD };

/* What a channel is at. In those marked the I/O thread acts next. */
enum ide_phase {
    PH_IDLE,
    PH_PIO_IN,   /* the guest reads the buffer */
    PH_PIO_OUT,  /* the guest fills it */
    PH_CDB,      /* the guest writes a packet */
    PH_DMA_WAIT, /* for the bus master to be started */
    PH_READ,     /* I/O: disk to buffer, and on to memory with DMA */
    PH_WRITE,    /* I/O: (from memory with DMA,) buffer to disk */
    PH_FLUSH,    /* I/O */
    PH_PACKET,   /* I/O: the command in cdb */
    PH_LAST,
};

struct ide_drive {
    enum ide_kind kind;
    struct disk *disk;
    struct scsi_lun *lun;
    uint64_t sectors;
    char serial[20];
    uint8_t multiple;    /* sectors a block of READ MULTIPLE; 0: not set */
    uint8_t udma, mwdma; /* selected mode + 1; 0: none */
    uint8_t error, status;
    uint8_t sense_key, asc, ascq; /* ATAPI: of the last failure */
    bool write_cache;
    /* host's own */
    struct ide_counters counters;
    bool medium_pending; /* I/O thread: a change waits until the channel is idle */
    struct disk *medium;
    void (*medium_done)(void *ctx);
    void *medium_ctx;
};

struct ide_channel {
    struct ide *ide;
    unsigned number;
    struct ide_drive drive[2];

    /* task file; [1] is what was written before (48-bit commands) */
    uint8_t feature[2], count[2], low[2], mid[2], high[2];
    uint8_t device, control;
    bool irq;
    bool signature; /* both drives show theirs: nothing was written since a reset */

    uint8_t unit;  /* whose command it is */
    uint8_t phase; /* enum ide_phase */
    uint8_t command;
    bool dma, writes, packet, flush_after;
    uint64_t lba;
    uint32_t left;  /* sectors (ATA) or bytes (ATAPI blocks of 2048) yet to do, this chunk too */
    uint32_t chunk; /* of these in the buffer */
    uint32_t block; /* bytes of a DRQ block */
    uint32_t pos, drq_end;
    size_t len; /* bytes in the buffer */
    uint8_t cdb[16];
    uint8_t buffer[BUFFER];

    /* bus master */
    uint8_t bm_command, bm_status;
    uint32_t bm_table, bm_next; /* the next descriptor */
    uint32_t bm_at, bm_left;    /* what is left of the present one */
    bool bm_last;

    /* host's own */
    bool in_flight; /* a request of ours runs */
    bool discard;   /* its result does not matter any more: reset */
    struct loop_post post;
    struct disk_req req;
    struct iovec iov;
    struct scsi_task task;
};

struct ide {
    const struct chip_env *env;
    struct hv_memory *memory;
    struct chip_line line[2];
    struct pci_function function;
    struct hv_io_range *ranges[4];
    struct ide_port {
        struct ide *ide;
        unsigned channel;
    } ports[2];
    pthread_mutex_t lock;
    struct ide_channel channel[2];
    /* I/O thread's */
    bool running;
    void (*stopped)(void *ctx);
    void *stopped_ctx;
};

static inline struct ide_drive *ide_selected(struct ide_channel *c)
{
    return &c->drive[c->device & IDE_DEV ? 1 : 0];
}

/* Whose command runs. */
static inline struct ide_drive *ide_active(struct ide_channel *c)
{
    return &c->drive[c->unit];
}

/* ide.c */
void ide_reset_done(struct ide_channel *c); /* the last request from before is back */
void ide_raise(struct ide_channel *c);      /* the drive's interrupt */
void ide_lower(struct ide_channel *c);
void ide_go(struct ide_channel *c); /* the I/O thread acts on the phase */
/* Ends the command: idle, interrupt. */
void ide_finish(struct ide_channel *c, uint8_t status, uint8_t error);
/* Offers the next block of the buffer to the guest's data port, or asks for it. */
void ide_offer(struct ide_channel *c, bool interrupt);

/* ide-ata.c */
void ide_ata_command(struct ide_channel *c, uint8_t command);
void ide_data_done(struct ide_channel *c); /* the guest took or gave the whole buffer */
void ide_signature(struct ide_channel *c);
void ide_dma_begin(struct ide_channel *c);
/* I/O thread: act on PH_READ, PH_WRITE, PH_FLUSH. */
void ide_ata_act(struct ide_channel *c);
void ide_ata_reset_drive(struct ide_drive *d);

/* ide-atapi.c */
void ide_atapi_identify(const struct ide_drive *d, uint8_t out[SECTOR]);
void ide_packet_command(struct ide_channel *c);
void ide_packet_start(struct ide_channel *c); /* the packet is complete */
void ide_atapi_act(struct ide_channel *c);    /* I/O thread: PH_PACKET */
void ide_packet_data_done(struct ide_channel *c);
void ide_put_string(uint8_t *at, size_t len, const char *s); /* ATA's byte order */

/* ide-dma.c */
/* Moves buffer bytes along the descriptor table; false: the table ended or memory is missing. */
bool ide_dma_move(struct ide_channel *c, uint32_t len, bool to_guest);
uint8_t ide_bm_read(struct ide_channel *c, unsigned reg);
void ide_bm_write(struct ide_channel *c, unsigned reg, uint8_t v);

#endif
