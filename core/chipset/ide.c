/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Registers of the two channels, interrupts, life and state. */
#include "core/chipset/ide.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"
#include "core/chipset/ide-int.h"
#include "core/chipset/layout.h"

enum { INTEL = 0x8086, PIIX4_IDE = 0x7111, BM_BAR = 4, BM_PORTS = 16, BM_CHANNEL = 8 };
enum { REG_DATA, REG_ERROR, REG_COUNT, REG_LOW, REG_MID, REG_HIGH, REG_DEVICE, REG_STATUS };
enum { CONTROL_NIEN = 2, CONTROL_RESET = 4, CONTROL_HOB = 0x80 };
enum { BM_STATUS_INTERRUPT = 4, TIMING = 0x40, TIMING_ENABLE = 0x80 };

/* ---- interrupts ---- */

static void update_line(struct ide_channel *c)
{
    chip_line_set(&c->ide->line[c->number], c->irq && !(c->control & CONTROL_NIEN));
}

void ide_raise(struct ide_channel *c)
{
    c->irq = true;
    c->bm_status |= BM_STATUS_INTERRUPT;
    update_line(c);
}

void ide_lower(struct ide_channel *c)
{
    c->irq = false;
    update_line(c);
}

/* ---- steps of a command ---- */

void ide_go(struct ide_channel *c)
{
    bool busy = c->phase == PH_READ || c->phase == PH_WRITE || c->phase == PH_FLUSH ||
                c->phase == PH_PACKET;
    if (busy)
        ide_active(c)->status = ST_BSY;
    loop_post(c->ide->env->loop, &c->post);
}

void ide_finish(struct ide_channel *c, uint8_t status, uint8_t error)
{
    struct ide_drive *d = ide_active(c);
    c->phase = PH_IDLE;
    d->status = status;
    d->error = error;
    c->bm_status &= (uint8_t)~1u;
    ide_raise(c);
}

void ide_offer(struct ide_channel *c, bool interrupt)
{
    uint32_t n = MIN(c->block, (uint32_t)c->len - c->pos);
    c->drq_end = c->pos + n;
    if (c->packet) {
        c->mid[0] = (uint8_t)n;
        c->high[0] = (uint8_t)(n >> 8);
        c->count[0] = 2; /* data, to the guest */
    }
    ide_active(c)->status = ST_DRDY | ST_DSC | ST_DRQ;
    if (interrupt)
        ide_raise(c);
}

/* ---- resets ---- */

void ide_reset_done(struct ide_channel *c)
{
    c->discard = false;
    c->phase = PH_IDLE;
    for (unsigned i = 0; i < 2; i++)
        ide_ata_reset_drive(&c->drive[i]);
    c->device = 0;
    c->unit = 0;
    c->signature = true;
    ide_signature(c);
}

static void soft_reset(struct ide_channel *c)
{
    c->phase = PH_IDLE;
    c->irq = false;
    if (!c->in_flight) {
        ide_reset_done(c);
        return;
    }
    c->discard = true;
    for (unsigned i = 0; i < 2; i++)
        if (c->drive[i].kind != IDE_NONE)
            c->drive[i].status = ST_BSY;
}

/* ---- the data port ---- */

static bool packet_byte(struct ide_channel *c, uint8_t byte)
{
    c->cdb[c->pos++] = byte;
    if (c->pos < IDE_CDB)
        return false;
    memset(c->cdb + IDE_CDB, 0, sizeof c->cdb - IDE_CDB);
    ide_packet_start(c);
    return true;
}

/* The guest has reached the end of a DRQ block. */
static void block_done(struct ide_channel *c)
{
    if (c->pos < c->len)
        ide_offer(c, true);
    else
        ide_data_done(c);
}

static uint64_t data_read(struct ide_channel *c, unsigned size)
{
    uint64_t v = 0;
    if (c->phase != PH_PIO_IN)
        return 0;
    for (unsigned i = 0; i < size && c->pos < c->drq_end; i++)
        v |= (uint64_t)c->buffer[c->pos++] << i * 8;
    if (c->pos == c->drq_end)
        block_done(c);
    return v;
}

static void data_write(struct ide_channel *c, unsigned size, uint64_t v)
{
    if (c->phase == PH_CDB) {
        for (unsigned i = 0; i < size; i++)
            if (packet_byte(c, (uint8_t)(v >> i * 8)))
                return;
        return;
    }
    if (c->phase != PH_PIO_OUT)
        return;
    for (unsigned i = 0; i < size && c->pos < c->drq_end; i++)
        c->buffer[c->pos++] = (uint8_t)(v >> i * 8);
    if (c->pos == c->drq_end)
        block_done(c);
}

/* ---- the task file ---- */

static bool busy(struct ide_channel *c)
{
    return (c->drive[0].status | c->drive[1].status) & ST_BSY;
}

static bool nothing_there(const struct ide_channel *c)
{
    return c->drive[0].kind == IDE_NONE && c->drive[1].kind == IDE_NONE;
}

static uint8_t status(struct ide_channel *c)
{
    return ide_selected(c)->kind == IDE_NONE ? 0 : ide_selected(c)->status;
}

/* After a reset each drive shows what it is. */
static uint8_t signature_byte(struct ide_channel *c, unsigned reg)
{
    bool dvd = ide_selected(c)->kind == IDE_DVD;
    switch (reg) {
    case REG_MID: return dvd ? 0x14 : 0;
    case REG_HIGH: return dvd ? 0xeb : 0;
    default: return 1;
    }
}

static uint8_t file_read(struct ide_channel *c, unsigned reg)
{
    unsigned hob = c->control & CONTROL_HOB ? 1 : 0;
    if (nothing_there(c) || (ide_selected(c)->kind == IDE_NONE && reg != REG_DEVICE))
        return 0;
    if (c->signature && reg >= REG_COUNT && reg <= REG_HIGH)
        return signature_byte(c, reg);
    switch (reg) {
    case REG_ERROR: return hob ? c->feature[1] : ide_selected(c)->error;
    case REG_COUNT: return c->count[hob];
    case REG_LOW: return c->low[hob];
    case REG_MID: return c->mid[hob];
    case REG_HIGH: return c->high[hob];
    case REG_DEVICE: return c->device | 0xa0;
    default: break;
    }
    if (ide_selected(c)->kind != IDE_NONE)
        ide_lower(c);
    return status(c);
}

static void put_twice(uint8_t reg[2], uint8_t v)
{
    reg[1] = reg[0];
    reg[0] = v;
}

static void file_write(struct ide_channel *c, unsigned reg, uint8_t v)
{
    enum { DEVICE_RESET = 8 };
    bool reset = reg == REG_STATUS && v == DEVICE_RESET && ide_selected(c)->kind == IDE_DVD;
    c->control &= (uint8_t)~CONTROL_HOB;
    if (nothing_there(c) || (busy(c) && !reset))
        return;
    if (reg >= REG_COUNT && reg != REG_DEVICE)
        c->signature = false;
    switch (reg) {
    case REG_ERROR: put_twice(c->feature, v); break;
    case REG_COUNT: put_twice(c->count, v); break;
    case REG_LOW: put_twice(c->low, v); break;
    case REG_MID: put_twice(c->mid, v); break;
    case REG_HIGH: put_twice(c->high, v); break;
    case REG_DEVICE: c->device = v; break;
    case REG_STATUS:
        if (ide_selected(c)->kind == IDE_NONE)
            break;
        if (reset && c->in_flight)
            soft_reset(c);
        else
            ide_ata_command(c, v);
        break;
    default: break;
    }
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct ide_port *p = ctx;
    struct ide_channel *c = &p->ide->channel[p->channel];
    uint64_t v = 0;
    pthread_mutex_lock(&p->ide->lock);
    if (offset == REG_DATA)
        v = data_read(c, size);
    else
        for (unsigned i = 0; i < size; i++)
            v |= (uint64_t)file_read(c, (unsigned)offset + i) << i * 8;
    pthread_mutex_unlock(&p->ide->lock);
    return v;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide_port *p = ctx;
    struct ide_channel *c = &p->ide->channel[p->channel];
    pthread_mutex_lock(&p->ide->lock);
    if (offset == REG_DATA)
        data_write(c, size, value);
    else
        for (unsigned i = 0; i < size; i++)
            file_write(c, (unsigned)offset + i, (uint8_t)(value >> i * 8));
    pthread_mutex_unlock(&p->ide->lock);
}

/* Alternate status; device control. */
static uint64_t control_read(void *ctx, uint64_t offset, unsigned size)
{
    struct ide_port *p = ctx;
    pthread_mutex_lock(&p->ide->lock);
    uint8_t v = status(&p->ide->channel[p->channel]);
    pthread_mutex_unlock(&p->ide->lock);
    return v;
}

static void control_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide_port *p = ctx;
    struct ide_channel *c = &p->ide->channel[p->channel];
    pthread_mutex_lock(&p->ide->lock);
    bool falls = (c->control & CONTROL_RESET) && !(value & CONTROL_RESET);
    c->control = (uint8_t)value;
    if (falls)
        soft_reset(c);
    update_line(c);
    pthread_mutex_unlock(&p->ide->lock);
}

/* ---- the bus master's ports ---- */

static uint64_t bm_read(void *ctx, uint64_t offset, unsigned size)
{
    struct ide *d = ctx;
    uint64_t v = 0;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        v |= (uint64_t)ide_bm_read(&d->channel[at / BM_CHANNEL], at % BM_CHANNEL) << i * 8;
    }
    pthread_mutex_unlock(&d->lock);
    return v;
}

static void bm_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct ide *d = ctx;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < size; i++) {
        unsigned at = (unsigned)offset + i;
        ide_bm_write(&d->channel[at / BM_CHANNEL], at % BM_CHANNEL, (uint8_t)(value >> i * 8));
    }
    pthread_mutex_unlock(&d->lock);
}

static const struct hv_io_ops port_ops = {.name = "IDE", .read = port_read, .write = port_write};
static const struct hv_io_ops control_ops = {
    .name = "IDE control", .read = control_read, .write = control_write};
static const struct hv_io_ops bm_ops = {
    .name = "IDE bus master", .read = bm_read, .write = bm_write};

/* ---- the I/O thread's side ---- */

/* Lock held. */
static void change_medium(struct ide_drive *d)
{
    scsi_set_medium(d->lun, d->medium);
    d->medium_pending = false;
    void (*done)(void *ctx) = d->medium_done;
    done(d->medium_ctx);
}

static void settle(struct ide *d)
{
    if (d->stopped && !d->channel[0].in_flight && !d->channel[1].in_flight) {
        void (*stopped)(void *ctx) = d->stopped;
        d->stopped = NULL;
        stopped(d->stopped_ctx);
    }
}

static void act(void *ctx)
{
    struct ide_channel *c = ctx;
    struct ide *d = c->ide;
    pthread_mutex_lock(&d->lock);
    for (unsigned i = 0; i < 2 && !c->in_flight; i++)
        if (c->drive[i].medium_pending)
            change_medium(&c->drive[i]);
    if (d->running && !c->in_flight) {
        if (c->phase == PH_PACKET)
            ide_atapi_act(c);
        else if (c->phase == PH_READ || c->phase == PH_WRITE || c->phase == PH_FLUSH)
            ide_ata_act(c);
    }
    pthread_mutex_unlock(&d->lock);
    settle(d);
}

bool ide_set_medium(struct ide *d, unsigned place, struct disk *medium, void (*done)(void *ctx),
                    void *ctx, err *e)
{
    struct ide_channel *c = &d->channel[place / 2 % 2];
    struct ide_drive *dr = &c->drive[place % 2];
    if (place >= IDE_PLACES || dr->kind != IDE_DVD)
        return err_set(e, ERR_NOT_FOUND, "There is no DVD drive at the place %u", place);
    if (dr->medium_pending)
        return err_set(e, ERR_BUSY, "The drive's medium is being changed already");
    dr->medium = medium;
    dr->medium_done = done;
    dr->medium_ctx = ctx;
    dr->medium_pending = true;
    loop_post(d->env->loop, &c->post);
    return true;
}

/* ---- life ---- */

void ide_attach_disk(struct ide *d, unsigned place, struct disk *disk, const char *serial)
{
    struct ide_drive *dr = &d->channel[place / 2].drive[place % 2];
    struct disk_info info;
    disk_get_info(disk, &info);
    dr->kind = IDE_DISK;
    dr->disk = disk;
    dr->sectors = info.size / SECTOR;
    memcpy(dr->serial, serial, strnlen(serial, sizeof dr->serial));
    ide_ata_reset_drive(dr);
}

void ide_attach_dvd(struct ide *d, unsigned place, struct scsi_lun *lun)
{
    struct ide_drive *dr = &d->channel[place / 2].drive[place % 2];
    dr->kind = IDE_DVD;
    dr->lun = lun;
    dr->serial[0] = (char)('0' + place);
    ide_ata_reset_drive(dr);
}

void ide_counters(struct ide *d, unsigned place, struct ide_counters *out)
{
    pthread_mutex_lock(&d->lock);
    *out = d->channel[place / 2 % 2].drive[place % 2].counters;
    pthread_mutex_unlock(&d->lock);
}

static void start(void *self)
{
    struct ide *d = self;
    pthread_mutex_lock(&d->lock);
    d->running = true;
    for (unsigned i = 0; i < 2; i++) {
        update_line(&d->channel[i]);
        ide_go(&d->channel[i]);
    }
    pthread_mutex_unlock(&d->lock);
}

static void stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct ide *d = self;
    d->running = false;
    d->stopped = done;
    d->stopped_ctx = ctx;
    settle(d);
}

static void reset_channel(struct ide_channel *c)
{
    ide_reset_done(c);
    c->control = 0;
    c->irq = false;
    c->bm_command = c->bm_status = 0;
    c->bm_table = 0;
    for (unsigned i = 0; i < 2; i++) {
        c->drive[i].udma = c->drive[i].mwdma = 0;
        if (c->drive[i].lun)
            scsi_lun_reset(c->drive[i].lun);
    }
}

static void reset(void *self)
{
    struct ide *d = self;
    pci_function_reset(&d->function);
    for (unsigned i = 0; i < 2; i++)
        reset_channel(&d->channel[i]);
}

static const struct state_field drive_fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct ide_drive, multiple, MOST_MULTIPLE),
    STATE_FIELD_MAX(2, STATE_U8, struct ide_drive, udma, 6),
    STATE_FIELD_MAX(3, STATE_U8, struct ide_drive, mwdma, 3),
    STATE_FIELD(4, STATE_U8, struct ide_drive, error),
    STATE_FIELD(5, STATE_U8, struct ide_drive, status),
    STATE_FIELD_MAX(6, STATE_U8, struct ide_drive, sense_key, 15),
    STATE_FIELD(7, STATE_U8, struct ide_drive, asc),
    STATE_FIELD(8, STATE_U8, struct ide_drive, ascq),
    STATE_FIELD(9, STATE_BOOL, struct ide_drive, write_cache),
};
static const struct state_table drive_table = {
    .name = "IDE drive", .fields = drive_fields, .nfields = ARRAY_LEN(drive_fields)};

static const struct state_field channel_fields[] = {
    STATE_SUB(1, struct ide_channel, drive, &drive_table, 2),
    STATE_FIELD(2, STATE_BYTES, struct ide_channel, feature),
    STATE_FIELD(3, STATE_BYTES, struct ide_channel, count),
    STATE_FIELD(4, STATE_BYTES, struct ide_channel, low),
    STATE_FIELD(5, STATE_BYTES, struct ide_channel, mid),
    STATE_FIELD(6, STATE_BYTES, struct ide_channel, high),
    STATE_FIELD(7, STATE_U8, struct ide_channel, device),
    STATE_FIELD(8, STATE_U8, struct ide_channel, control),
    STATE_FIELD(9, STATE_BOOL, struct ide_channel, irq),
    STATE_FIELD_MAX(10, STATE_U8, struct ide_channel, unit, 1),
    STATE_FIELD_MAX(11, STATE_U8, struct ide_channel, phase, PH_LAST - 1),
    STATE_FIELD(12, STATE_U8, struct ide_channel, command),
    STATE_FIELD(13, STATE_BOOL, struct ide_channel, dma),
    STATE_FIELD(14, STATE_BOOL, struct ide_channel, writes),
    STATE_FIELD(15, STATE_BOOL, struct ide_channel, packet),
    STATE_FIELD(16, STATE_BOOL, struct ide_channel, flush_after),
    STATE_FIELD(17, STATE_U64, struct ide_channel, lba),
    STATE_FIELD(18, STATE_U32, struct ide_channel, left),
    STATE_FIELD(19, STATE_U32, struct ide_channel, chunk),
    STATE_FIELD(20, STATE_U32, struct ide_channel, block),
    STATE_FIELD_MAX(21, STATE_U32, struct ide_channel, pos, BUFFER),
    STATE_FIELD_MAX(22, STATE_U32, struct ide_channel, drq_end, BUFFER),
    STATE_FIELD(23, STATE_BYTES, struct ide_channel, cdb),
    STATE_VARBYTES(24, struct ide_channel, buffer, len),
    STATE_FIELD_MAX(25, STATE_U8, struct ide_channel, bm_command, 9),
    STATE_FIELD_MAX(26, STATE_U8, struct ide_channel, bm_status, 0x67),
    STATE_FIELD(27, STATE_U32, struct ide_channel, bm_table),
    STATE_FIELD(28, STATE_U32, struct ide_channel, bm_next),
    STATE_FIELD(29, STATE_U32, struct ide_channel, bm_at),
    STATE_FIELD_MAX(30, STATE_U32, struct ide_channel, bm_left, 0x10000),
    STATE_FIELD(31, STATE_BOOL, struct ide_channel, bm_last),
    STATE_FIELD(32, STATE_BOOL, struct ide_channel, signature),
};

/* A transfer that is under way must be one that could have been begun. */
static bool channel_loaded(void *obj, uint16_t version, err *e)
{
    struct ide_channel *c = obj;
    const struct ide_drive *d = ide_active(c);
    bool data =
        c->phase == PH_READ || c->phase == PH_WRITE || (!c->packet && c->phase == PH_DMA_WAIT);
    bool moves = data || c->phase == PH_PIO_IN || c->phase == PH_PIO_OUT;
    bool ok = c->phase == PH_IDLE || d->kind != IDE_NONE;
    ok = ok && (!data || (d->kind == IDE_DISK && c->lba <= d->sectors && c->left &&
                          c->left <= d->sectors - c->lba));
    ok = ok && (c->phase != PH_FLUSH || d->kind == IDE_DISK);
    ok = ok && ((c->phase != PH_PACKET && c->phase != PH_CDB && !(c->packet && moves)) ||
                d->kind == IDE_DVD);
    ok = ok && (c->phase != PH_CDB || c->pos < IDE_CDB);
    ok = ok && (!moves || (c->block >= 2 && c->pos <= c->drq_end && c->drq_end <= c->len));
    if (c->phase == PH_PIO_OUT || ((c->phase == PH_PIO_IN || data) && !c->packet && c->left))
        ok = ok && d->kind == IDE_DISK && c->lba <= d->sectors && c->chunk <= c->left &&
             c->left <= d->sectors - c->lba &&
             (c->phase == PH_DMA_WAIT || c->len == (size_t)c->chunk * SECTOR);
    return ok || err_set(e, ERR_CORRUPT, "the saved IDE channel is damaged");
}

static const struct state_table channel_table = {.name = "IDE channel",
                                                 .fields = channel_fields,
                                                 .nfields = ARRAY_LEN(channel_fields),
                                                 .post_load = channel_loaded};
static const struct state_field fields[] = {
    STATE_SUB(1, struct ide, function, &pci_function_table, 1),
    STATE_SUB(2, struct ide, channel, &channel_table, 2),
};
static const struct state_table table = {.name = "IDE",
                                         .section = STATE_ID('I', 'D', 'E', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields)};
/* Of units' states: storvsp's number theirs from 0. */
enum { UNIT_INSTANCE = 0x10000 };

static void save(void *self, struct state_writer *w)
{
    struct ide *d = self;
    state_save(w, &table, 0, d);
    for (unsigned i = 0; i < IDE_PLACES; i++)
        if (d->channel[i / 2].drive[i % 2].lun)
            scsi_lun_save(d->channel[i / 2].drive[i % 2].lun, w, UNIT_INSTANCE + i);
}

static bool restore(void *self, const struct state_reader *r, err *e)
{
    struct ide *d = self;
    bool ok = state_restore(r, &table, 0, d, e);
    for (unsigned i = 0; ok && i < IDE_PLACES; i++) {
        struct scsi_lun *lun = d->channel[i / 2].drive[i % 2].lun;
        struct state_section found;
        if (lun && state_find(r, STATE_ID('S', 'L', 'U', 'N'), UNIT_INSTANCE + i, &found, NULL))
            ok = scsi_lun_restore(lun, r, UNIT_INSTANCE + i, e);
    }
    return ok;
}

static void destroy(void *self)
{
    struct ide *d = self;
    for (size_t i = 0; i < ARRAY_LEN(d->ranges); i++)
        if (d->ranges[i])
            hv_io_release(d->env->io, d->ranges[i]);
    if (d->function.bus)
        pci_remove(d->function.bus, &d->function);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static void make_function(struct ide *d)
{
    pci_function_init(
        &d->function, "IDE", LAYOUT_PCI_ISA << 3 | 1,
        &(struct pci_ids){
            .vendor = INTEL, .device = PIIX4_IDE, .class_code = 0x010180, .revision = 1});
    d->function.bar[BM_BAR] =
        (struct pci_bar){.size = BM_PORTS, .port = true, .ops = &bm_ops, .ctx = d};
    /* Timing: both channels decode; the rest is kept for drivers to read back. */
    for (unsigned r = TIMING; r < TIMING + 12; r++)
        d->function.writable[r] = 0xff;
    d->function.config[TIMING + 1] = d->function.config[TIMING + 3] = TIMING_ENABLE;
}

static bool claim(struct ide *d, err *e)
{
    static const uint16_t ports[2] = {0x1f0, 0x170}, controls[2] = {0x3f6, 0x376};
    for (unsigned i = 0; i < 2; i++) {
        d->ports[i] = (struct ide_port){d, i};
        d->ranges[i * 2] =
            hv_io_claim(d->env->io, HV_IO_PORT, ports[i], 8, &port_ops, &d->ports[i], e);
        if (!d->ranges[i * 2])
            return false;
        d->ranges[i * 2 + 1] =
            hv_io_claim(d->env->io, HV_IO_PORT, controls[i], 1, &control_ops, &d->ports[i], e);
        if (!d->ranges[i * 2 + 1])
            return false;
    }
    return true;
}

struct ide *ide_new(const struct ide_params *p, err *e)
{
    struct ide *d = calloc(1, sizeof *d);
    if (!d) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the IDE controller");
        return NULL;
    }
    d->env = p->env;
    d->memory = p->memory;
    pthread_mutex_init(&d->lock, NULL);
    for (unsigned i = 0; i < 2; i++) {
        struct ide_channel *c = &d->channel[i];
        c->ide = d;
        c->number = i;
        d->line[i] = p->irq[i];
        loop_post_init(&c->post, act, c);
    }
    make_function(d);
    if (!pci_add(p->bus, &d->function, e) || !claim(d, e)) {
        destroy(d);
        return NULL;
    }
    return d;
}

struct device ide_device(struct ide *d)
{
    static const struct device_ops ops = {.name = "IDE",
                                          .start = start,
                                          .stop = stop,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore,
                                          .destroy = destroy};
    return (struct device){.ops = &ops, .self = d};
}
