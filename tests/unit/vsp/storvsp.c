/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The SCSI controller through the fake guest, on raw files. */
#include "core/vsp/storvsp.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "core/base/bytes.h"
#include "fake-storvsc.h"

enum { DISK_BYTES = 8 << 20, SECTOR = 512 };

struct rig {
    struct fake_guest *g;
    struct storvsp *s;
    struct disk *disk;
    struct fake_channel *ch;
    char path[64];
    uint64_t buf; /* 1 MiB of guest memory, unaligned by 512 */
};

static struct disk *open_disk(struct rig *r, const char *path, unsigned flags)
{
    err e = ERR_INIT;
    struct disk *d = disk_open(&(struct disk_open_params){.path = path,
                                                          .format = DISK_FORMAT_RAW,
                                                          .flags = flags,
                                                          .opener = &disk_opener_paths,
                                                          .loop = r->g->loop},
                               &e);
    if (!d)
        fprintf(stderr, "%s\n", e.text);
    return d;
}

static void make_file(char *path, size_t bytes)
{
    strcpy(path, "/tmp/vireo-storvsp-XXXXXX");
    int fd = mkstemp(path);
    uint8_t sector[SECTOR];
    for (uint32_t i = 0; i < bytes / SECTOR; i++) {
        memset(sector, (int)(i * 7), sizeof sector);
        put_le32(sector, i);
        if (write(fd, sector, sizeof sector) != SECTOR)
            abort();
    }
    close(fd);
}

static struct scsi_lun *make_lun(struct disk *d, enum scsi_kind kind)
{
    return scsi_lun_new(
        &(struct scsi_lun_params){.kind = kind,
                                  .disk = d,
                                  .id = GUID(0x01234567, 0x89ab, 0xcdef, 0x0123, 0x456789abcdef)},
        NULL);
}

static void rig_up(struct rig *r)
{
    memset(r, 0, sizeof *r);
    r->g = fake_guest_new(&(struct fake_params){.vps = 4});
    make_file(r->path, DISK_BYTES);
    r->disk = open_disk(r, r->path, 0);
    r->s = storvsp_new(&(struct storvsp_params){.bus = r->g->bus,
                                                .instance = GUID(5, 5, 5, 5, 0x500000000005),
                                                .max_subchannels = 8},
                       NULL);
    CHECK(storvsp_attach(r->s, 0, make_lun(r->disk, SCSI_DISK), NULL));
    CHECK(fake_guest_connect(r->g, VMBUS_VERSION(5, 3)));
    r->ch = fake_open(r->g, fake_offer_of(r->g, &fake_class_scsi, 0), 8, NULL);
    r->buf = fake_alloc(r->g, 257) + 512;
    struct vstor_properties props;
    CHECK(fake_storvsc_init(r->ch, 0x0602, &props));
    CHECK_EQ(props.max_subchannels, 3);
    CHECK_EQ(props.flags, 1);
    CHECK(props.max_transfer >= 256 * 1024 && props.max_transfer % 4096 == 0);
}

static void rig_down(struct rig *r)
{
    if (r->ch)
        CHECK(fake_close(r->ch));
    struct device d = storvsp_as_device(r->s);
    d.ops->destroy(d.self);
    disk_close(r->disk);
    fake_guest_free(r->g);
    unlink(r->path);
}

static struct vstor_srb run(struct rig *r, uint8_t lun, const void *cdb, uint8_t cdb_len,
                            uint32_t len, bool write)
{
    struct fake_scsi c = {
        .lun = lun, .cdb = cdb, .cdb_len = cdb_len, .gpa = r->buf, .len = len, .write = write};
    return fake_scsi_run(r->ch, &c);
}

static struct vstor_srb rw(struct rig *r, bool write, uint32_t lba, uint16_t count, uint32_t len)
{
    uint8_t cdb[10] = {write ? SCSI_WRITE_10 : SCSI_READ_10};
    put_be32(cdb + 2, lba);
    put_be16(cdb + 7, count);
    return run(r, 0, cdb, sizeof cdb, len, write);
}

static uint8_t *data(struct rig *r)
{
    return fake_ptr(r->g, r->buf);
}

static void initialisation_is_ordered(void)
{
    struct rig r;
    rig_up(&r);
    struct vstor_packet v = {.op = VSTOR_QUERY_VERSION, .version = 0x0602};
    CHECK(fake_vstor(r.ch, &v));
    CHECK(v.status != 0); /* not after BEGIN */
    v = (struct vstor_packet){.op = VSTOR_BEGIN_INITIALIZATION};
    CHECK(fake_vstor(r.ch, &v) && v.status == 0);
    v = (struct vstor_packet){.op = VSTOR_QUERY_VERSION, .version = 0x0700};
    CHECK(fake_vstor(r.ch, &v));
    CHECK_EQ(v.status, 0xC0000059);
    CHECK(fake_storvsc_init(r.ch, 0x0501, NULL));
    v = (struct vstor_packet){.op = 99};
    CHECK(fake_vstor(r.ch, &v) && v.status != 0);
    rig_down(&r);
}

static void disks_say_what_they_are(void)
{
    struct rig r;
    rig_up(&r);
    uint8_t inquiry[6] = {SCSI_INQUIRY, 0, 0, 0, 255};
    struct vstor_srb s = run(&r, 0, inquiry, 6, 255, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    CHECK_EQ(s.transfer_length, 36);
    CHECK(memcmp(data(&r) + 8, "Msft    Virtual Disk    1.0 ", 28) == 0);
    static const uint8_t pages[] = {0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2};
    for (size_t i = 0; i < sizeof pages; i++) {
        uint8_t vpd[6] = {SCSI_INQUIRY, 1, pages[i], 0, 255};
        s = run(&r, 0, vpd, 6, 255, false);
        CHECK_EQ(s.srb_status, SRB_SUCCESS);
        CHECK_EQ(data(&r)[1], pages[i]);
        CHECK_EQ(s.transfer_length, 4u + get_be16(data(&r) + 2));
    }
    uint8_t serial[6] = {SCSI_INQUIRY, 1, 0x80, 0, 255};
    run(&r, 0, serial, 6, 255, false);
    CHECK(memcmp(data(&r) + 4, "67452301AB89EFCD0123456789ABCDEF", 32) == 0);
    uint8_t short_cdb[6] = {SCSI_INQUIRY, 0, 0, 0, 5};
    s = run(&r, 0, short_cdb, 6, 255, false);
    CHECK_EQ(s.transfer_length, 5);
    uint8_t bad_page[6] = {SCSI_INQUIRY, 1, 0xC5, 0, 255};
    s = run(&r, 0, bad_page, 6, 255, false);
    CHECK_EQ(s.srb_status, SRB_ERROR | SRB_AUTOSENSE_VALID);
    CHECK_EQ(fake_sense(&s), SENSE_INVALID_CDB);
    CHECK_EQ(s.scsi_status, SCSI_CHECK_CONDITION);
    uint8_t capacity[10] = {SCSI_READ_CAPACITY_10};
    s = run(&r, 0, capacity, 10, 8, false);
    CHECK_EQ(get_be32(data(&r)), DISK_BYTES / SECTOR - 1);
    CHECK_EQ(get_be32(data(&r) + 4), SECTOR);
    uint8_t capacity16[16] = {SCSI_SERVICE_IN_16, SCSI_READ_CAPACITY_16, [13] = 32};
    s = run(&r, 0, capacity16, 16, 32, false);
    CHECK_EQ(get_be64(data(&r)), DISK_BYTES / SECTOR - 1);
    CHECK(data(&r)[14] & 0x80);
    uint8_t mode[6] = {SCSI_MODE_SENSE_6, 0, 0x3F, 0, 192};
    s = run(&r, 0, mode, 6, 192, false);
    CHECK_EQ(s.transfer_length, data(&r)[0] + 1u);
    CHECK_EQ(data(&r)[2], 0x10);      /* FUA is understood, not write-protected */
    CHECK_EQ(data(&r)[4], 0x08);      /* caching page first */
    CHECK_EQ(data(&r)[4 + 2] & 4, 4); /* write cache on */
    uint8_t unknown[6] = {0xFF};
    s = run(&r, 0, unknown, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_INVALID_OPCODE);
    rig_down(&r);
}

static void absent_units_answer_as_hyperv(void)
{
    struct rig r;
    rig_up(&r);
    uint8_t inquiry[6] = {SCSI_INQUIRY, 0, 0, 0, 36}, ready[6] = {SCSI_TEST_UNIT_READY};
    uint8_t luns[12] = {SCSI_REPORT_LUNS, [8] = 1};
    struct vstor_srb s = run(&r, 7, inquiry, 6, 36, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    CHECK_EQ(data(&r)[0], 0x7F);
    CHECK(s.transfer_length > 0);
    s = run(&r, 7, ready, 6, 0, false);
    CHECK_EQ(s.srb_status, SRB_INVALID_LUN);
    s = run(&r, 200, ready, 6, 0, false);
    CHECK_EQ(s.srb_status, SRB_INVALID_LUN);
    CHECK(storvsp_attach(r.s, 63, make_lun(NULL, SCSI_DVD), NULL));
    struct fake_packet p;
    CHECK(fake_recv(r.ch, &p)); /* look again */
    CHECK_EQ(p.type, VMBUS_PACKET_INBAND);
    CHECK_EQ(p.id, 0);
    CHECK_EQ(get_le32(p.payload), VSTOR_ENUMERATE_BUS);
    s = run(&r, 7, luns, 12, 256, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    CHECK_EQ(get_be32(data(&r)), 16);
    CHECK_EQ(data(&r)[8 + 1], 0);
    CHECK_EQ(data(&r)[16 + 1], 63);
    struct fake_scsi other = {.target = 1, .cdb = luns, .cdb_len = 12, .gpa = r.buf, .len = 256};
    s = fake_scsi_run(r.ch, &other);
    CHECK_EQ(get_be32(data(&r)), 0);
    rig_down(&r);
}

static void data_goes_both_ways(void)
{
    struct rig r;
    rig_up(&r);
    struct vstor_srb s = rw(&r, false, 100, 200, 200 * SECTOR);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    CHECK_EQ(s.transfer_length, 200 * SECTOR);
    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQ(get_le32(data(&r) + i * SECTOR), 100 + i);
    for (uint32_t i = 0; i < 512 * 1024; i++)
        data(&r)[i] = (uint8_t)(i * 13 >> 3);
    s = rw(&r, true, 1000, 1024, 512 * 1024);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    uint8_t sync[10] = {SCSI_SYNC_CACHE_10};
    s = run(&r, 0, sync, 10, 0, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    uint8_t *file = malloc(512 * 1024);
    int fd = open(r.path, O_RDONLY);
    CHECK_EQ(pread(fd, file, 512 * 1024, 1000 * SECTOR), 512 * 1024);
    close(fd);
    CHECK(memcmp(file, data(&r), 512 * 1024) == 0);
    free(file);
    uint8_t fua[16] = {SCSI_WRITE_16, 0x08};
    put_be64(fua + 2, 7);
    put_be32(fua + 10, 1);
    memset(data(&r), 0xA5, SECTOR);
    s = run(&r, 0, fua, 16, SECTOR, true);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    memset(data(&r), 0, SECTOR);
    s = rw(&r, false, 7, 1, SECTOR);
    CHECK_EQ(data(&r)[511], 0xA5);
    /* less memory than the command asks for: what fits is moved, and said */
    s = rw(&r, false, 0, 8, 4 * SECTOR);
    CHECK_EQ(s.transfer_length, 4 * SECTOR);
    rig_down(&r);
}

static void bad_requests_get_sense(void)
{
    struct rig r;
    rig_up(&r);
    struct vstor_srb s = rw(&r, false, DISK_BYTES / SECTOR - 1, 2, 2 * SECTOR);
    CHECK_EQ(fake_sense(&s), SENSE_LBA_OUT_OF_RANGE);
    CHECK_EQ(s.transfer_length, 0);
    s = rw(&r, false, 0xffffffff, 1, SECTOR);
    CHECK_EQ(fake_sense(&s), SENSE_LBA_OUT_OF_RANGE);
    s = rw(&r, true, 0, 1, 0);
    CHECK_EQ(fake_sense(&s), SENSE_INVALID_CDB);
    s = rw(&r, true, 0, 1, 100);
    CHECK_EQ(fake_sense(&s), SENSE_INVALID_CDB);
    uint8_t wrap[16] = {SCSI_READ_16};
    put_be64(wrap + 2, UINT64_MAX);
    put_be32(wrap + 10, 2);
    s = run(&r, 0, wrap, 16, SECTOR, false);
    CHECK_EQ(fake_sense(&s), SENSE_LBA_OUT_OF_RANGE);
    uint64_t buf = r.buf;
    r.buf = r.g->ram_size - 512; /* runs out of memory */
    s = rw(&r, false, 0, 8, 8 * SECTOR);
    CHECK_EQ(s.srb_status, SRB_INVALID_REQUEST);
    r.buf = UINT64_MAX - 4095;
    s = rw(&r, false, 0, 1, SECTOR);
    CHECK_EQ(s.srb_status, SRB_INVALID_REQUEST);
    r.buf = buf;
    s = run(&r, 0, "\0", 1, 1 << 20, false); /* longer than agreed */
    CHECK_EQ(s.srb_status, SRB_INVALID_REQUEST);
    rig_down(&r);
}

static void discarded_blocks_leave_the_file(void)
{
    struct rig r;
    rig_up(&r);
    struct stat before, after;
    CHECK_EQ(stat(r.path, &before), 0);
    uint8_t unmap[10] = {SCSI_UNMAP};
    put_be16(unmap + 7, 8 + 2 * 16);
    memset(data(&r), 0, 40);
    put_be16(data(&r), 38);
    put_be16(data(&r) + 2, 32);
    put_be64(data(&r) + 8, 2048);
    put_be32(data(&r) + 16, 2048);
    put_be64(data(&r) + 24, 8192);
    put_be32(data(&r) + 32, 2048);
    struct vstor_srb s = run(&r, 0, unmap, 10, 40, true);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    CHECK_EQ(stat(r.path, &after), 0);
    CHECK((before.st_blocks - after.st_blocks) * 512 >= 2 << 20);
    s = rw(&r, false, 4095, 2, 2 * SECTOR);
    CHECK_EQ(get_le32(data(&r)), 0);
    CHECK_EQ(get_le32(data(&r) + SECTOR), 4096);
    put_be64(data(&r) + 8, DISK_BYTES / SECTOR - 1);
    put_be16(data(&r), 22);
    put_be16(data(&r) + 2, 16);
    put_be32(data(&r) + 16, 2);
    s = run(&r, 0, unmap, 10, 24, true);
    CHECK_EQ(fake_sense(&s), SENSE_INVALID_PARAMETER);
    uint8_t same[16] = {SCSI_WRITE_SAME_16, 0x08};
    put_be64(same + 2, 100);
    put_be32(same + 10, 1000);
    memset(data(&r), 0, SECTOR);
    s = run(&r, 0, same, 16, SECTOR, true);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    s = rw(&r, false, 1099, 2, 2 * SECTOR);
    CHECK_EQ(get_le32(data(&r)), 0);
    CHECK_EQ(get_le32(data(&r) + SECTOR), 1100);
    memset(data(&r), 0x5A, SECTOR);
    same[1] = 0;
    s = run(&r, 0, same, 16, SECTOR, true); /* 500 KiB of a pattern */
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    s = rw(&r, false, 99, 1002, 512 * 1024);
    CHECK_EQ(get_le32(data(&r)), 99);
    for (unsigned i = 1; i <= 1000; i++)
        CHECK_EQ(data(&r)[i * SECTOR + 17], 0x5A);
    CHECK_EQ(get_le32(data(&r) + 1001 * SECTOR), 1100);
    rig_down(&r);
}

static void read_only_disks_refuse_writes(void)
{
    struct rig r;
    rig_up(&r);
    struct disk *ro = open_disk(&r, r.path, DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK);
    if (!ro)
        return;
    CHECK(storvsp_attach(r.s, 5, make_lun(ro, SCSI_DISK), NULL));
    struct fake_packet p;
    CHECK(fake_recv(r.ch, &p));
    uint8_t write[10] = {SCSI_WRITE_10, [8] = 1}, mode[6] = {SCSI_MODE_SENSE_6, 0, 0x3F, 0, 192};
    struct vstor_srb s = run(&r, 5, write, 10, SECTOR, true);
    CHECK_EQ(fake_sense(&s), SENSE_WRITE_PROTECTED);
    run(&r, 5, mode, 6, 192, false);
    CHECK_EQ(data(&r)[2], 0x90);
    bool done = false;
    CHECK(storvsp_detach(r.s, 5, NULL, &done, NULL));
    disk_close(ro);
    CHECK(fake_recv(r.ch, &p));
    CHECK_EQ(get_le32(p.payload), VSTOR_REMOVE_DEVICE);
    rig_down(&r);
}

static void set_flag(void *ctx)
{
    *(bool *)ctx = true;
}

static bool flag_set(void *ctx)
{
    return *(bool *)ctx;
}

/* Two hundred reads at once; the disk is taken away meanwhile. */
static void units_leave_when_their_io_is_done(void)
{
    struct rig r;
    rig_up(&r);
    uint8_t cdb[10] = {SCSI_READ_10, [8] = 16};
    unsigned sent = 0;
    for (; sent < 200; sent++) {
        struct fake_scsi c = {
            .cdb = cdb, .cdb_len = 10, .gpa = r.buf + (sent % 32) * 8192, .len = 8192};
        if (!fake_scsi_send(r.ch, sent + 1, &c))
            break;
    }
    bool gone = false;
    CHECK(storvsp_detach(r.s, 0, set_flag, &gone, NULL));
    err e = ERR_INIT;
    CHECK(gone || !storvsp_detach(r.s, 0, NULL, NULL, &e));
    CHECK(gone || e.code == ERR_BUSY);
    CHECK(fake_wait(r.g, flag_set, &gone));
    unsigned answers = 0;
    struct fake_packet p;
    while (answers < sent && fake_recv(r.ch, &p))
        answers += p.type == VMBUS_PACKET_COMPLETION;
    CHECK_EQ(answers, sent);
    CHECK(storvsp_unit(r.s, 0) == NULL);
    rig_down(&r);
}

/* The guest takes no answers for a while: nothing is lost, nothing grows without bound. */
static void a_full_ring_delays_answers(void)
{
    struct rig r;
    rig_up(&r);
    uint8_t ready[6] = {SCSI_TEST_UNIT_READY};
    struct fake_scsi c = {.cdb = ready, .cdb_len = 6};
    unsigned sent = 0, got = 0;
    while (sent < 5000 && fake_scsi_send(r.ch, sent + 1, &c))
        sent++;
    CHECK(sent > 400 && sent < 5000); /* both rings are full: the host stopped reading */
    struct fake_packet p;
    while (got < sent && fake_recv(r.ch, &p)) {
        CHECK_EQ(p.id, got + 1);
        got++;
    }
    CHECK_EQ(got, sent);
    CHECK(fake_scsi_send(r.ch, 1, &c) && fake_recv(r.ch, &p));
    rig_down(&r);
}

static void subchannels_carry_requests(void)
{
    struct rig r;
    rig_up(&r);
    struct vstor_packet v = {.op = VSTOR_CREATE_SUB_CHANNELS, .subchannels = 4};
    CHECK(fake_vstor(r.ch, &v) && v.status != 0);
    v = (struct vstor_packet){.op = VSTOR_CREATE_SUB_CHANNELS, .subchannels = 3};
    CHECK(fake_vstor(r.ch, &v) && v.status == 0);
    struct fake_channel *sub[3], *main_channel = r.ch;
    for (unsigned i = 0; i < 3; i++) {
        sub[i] = fake_open(r.g, fake_offer_of(r.g, &fake_class_scsi, i + 1), 8, NULL);
        CHECK(sub[i] != NULL);
        r.ch = sub[i];
        struct vstor_srb s = rw(&r, false, i, 1, SECTOR);
        CHECK_EQ(s.srb_status, SRB_SUCCESS);
        CHECK_EQ(get_le32(data(&r)), i);
    }
    for (unsigned i = 0; i < 3; i++)
        CHECK(fake_close(sub[i]));
    r.ch = main_channel;
    rig_down(&r);
}

static void dvds_change_their_media(void)
{
    struct rig r;
    rig_up(&r);
    struct disk *iso = open_disk(&r, r.path, DISK_OPEN_READ_ONLY | DISK_OPEN_NO_LOCK);
    struct fake_packet p;
    CHECK(storvsp_attach(r.s, 1, make_lun(NULL, SCSI_DVD), NULL));
    CHECK(fake_recv(r.ch, &p));
    uint8_t ready[6] = {SCSI_TEST_UNIT_READY}, capacity[10] = {SCSI_READ_CAPACITY_10};
    uint8_t event[10] = {SCSI_GET_EVENT_STATUS, 1, [4] = 0x10, [8] = 8};
    uint8_t lock[6] = {SCSI_PREVENT_ALLOW, [4] = 1}, eject[6] = {SCSI_START_STOP, [4] = 2};
    struct vstor_srb s = run(&r, 1, ready, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_NO_MEDIUM);
    bool done = false;
    CHECK(storvsp_set_medium(r.s, 1, iso, set_flag, &done, NULL));
    CHECK(done);
    s = run(&r, 1, event, 10, 8, false);
    CHECK_EQ(data(&r)[4], 2); /* new medium */
    CHECK_EQ(data(&r)[5], 2);
    s = run(&r, 1, ready, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_MEDIUM_CHANGED);
    s = run(&r, 1, ready, 6, 0, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    s = run(&r, 1, capacity, 10, 8, false);
    CHECK_EQ(get_be32(data(&r) + 4), 2048);
    CHECK_EQ(get_be32(data(&r)), DISK_BYTES / 2048 - 1);
    uint8_t read[10] = {SCSI_READ_10, [5] = 3, [8] = 2};
    s = run(&r, 1, read, 10, 4096, false);
    CHECK_EQ(s.transfer_length, 4096);
    CHECK_EQ(get_le32(data(&r)), 12);
    uint8_t toc[10] = {SCSI_READ_TOC, [8] = 20};
    s = run(&r, 1, toc, 10, 20, false);
    CHECK_EQ(s.transfer_length, 20);
    CHECK_EQ(data(&r)[2 + 12], 0xAA);
    CHECK_EQ(get_be32(data(&r) + 16), DISK_BYTES / 2048);
    uint8_t config[10] = {SCSI_GET_CONFIGURATION, [8] = 96};
    s = run(&r, 1, config, 10, 96, false);
    CHECK_EQ(get_be32(data(&r)), s.transfer_length - 4);
    CHECK_EQ(get_be16(data(&r) + 6), 8);
    uint8_t write[10] = {SCSI_WRITE_10, [8] = 1};
    s = run(&r, 1, write, 10, 2048, true);
    CHECK_EQ(fake_sense(&s), SENSE_INVALID_OPCODE);
    s = run(&r, 1, lock, 6, 0, false);
    CHECK(scsi_medium_locked(storvsp_unit(r.s, 1)));
    s = run(&r, 1, eject, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_REMOVAL_PREVENTED);
    scsi_request_eject(storvsp_unit(r.s, 1));
    s = run(&r, 1, event, 10, 8, false);
    CHECK_EQ(data(&r)[4], 1);
    s = run(&r, 1, ready, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_EJECT_REQUESTED);
    lock[4] = 0;
    run(&r, 1, lock, 6, 0, false);
    s = run(&r, 1, eject, 6, 0, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    s = run(&r, 1, ready, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_NO_MEDIUM_TRAY_OPEN);
    CHECK(storvsp_set_medium(r.s, 1, NULL, NULL, NULL, NULL));
    disk_close(iso);
    rig_down(&r);
}

static void resets_wait_for_io(void)
{
    struct rig r;
    rig_up(&r);
    uint8_t cdb[10] = {SCSI_READ_10, [8] = 16};
    struct fake_scsi c = {.cdb = cdb, .cdb_len = 10, .gpa = r.buf, .len = 8192};
    for (unsigned i = 0; i < 20; i++)
        CHECK(fake_scsi_send(r.ch, i + 1, &c));
    struct vstor_packet v = {.op = VSTOR_RESET_BUS};
    CHECK(fake_send(r.ch, 77777, true, &v, sizeof v));
    struct fake_packet p;
    unsigned n = 0;
    while (fake_recv(r.ch, &p) && p.id != 77777)
        n++;
    CHECK_EQ(n, 20);
    rig_down(&r);
}

static void state_survives_saving(void)
{
    struct rig r;
    rig_up(&r);
    struct device bus = vmbus_as_device(r.g->bus), dev = storvsp_as_device(r.s);
    uint8_t ready[6] = {SCSI_TEST_UNIT_READY}, cdb[10] = {SCSI_READ_10, [8] = 16};
    struct fake_scsi c = {.cdb = cdb, .cdb_len = 10, .gpa = r.buf, .len = 8192};
    scsi_luns_changed(storvsp_unit(r.s, 0));
    for (unsigned i = 0; i < 20; i++)
        CHECK(fake_scsi_send(r.ch, i + 1, &c));
    bool stopped = false;
    bus.ops->stop(bus.self, set_flag, &stopped);
    stopped = false;
    dev.ops->stop(dev.self, set_flag, &stopped);
    CHECK(fake_wait(r.g, flag_set, &stopped));
    struct state_writer *w = state_writer_new();
    bus.ops->save(bus.self, w);
    dev.ops->save(dev.self, w);
    size_t len;
    const uint8_t *bytes = state_writer_data(w, &len, NULL);
    dev.ops->destroy(dev.self);
    vmbus_free(r.g->bus);
    r.g->bus = vmbus_new(&(struct vmbus_params){.loop = r.g->loop,
                                                .memory = r.g->memory,
                                                .transport = &r.g->transport},
                         NULL);
    r.s = storvsp_new(&(struct storvsp_params){.bus = r.g->bus,
                                               .instance = GUID(5, 5, 5, 5, 0x500000000005),
                                               .max_subchannels = 8},
                      NULL);
    CHECK(storvsp_attach(r.s, 0, make_lun(r.disk, SCSI_DISK), NULL));
    bus = vmbus_as_device(r.g->bus);
    dev = storvsp_as_device(r.s);
    struct state_reader reader = {.data = bytes, .len = len};
    err e = ERR_INIT;
    CHECK(bus.ops->restore(bus.self, &reader, &e));
    CHECK(dev.ops->restore(dev.self, &reader, &e));
    CHECK_STR(e.text, "");
    bus.ops->start(bus.self);
    dev.ops->start(dev.self);
    struct fake_packet p;
    unsigned n = 0;
    while (n < 20 && fake_recv(r.ch, &p))
        n++;
    CHECK_EQ(n, 20);
    struct vstor_srb s = run(&r, 0, ready, 6, 0, false);
    (void)s; /* the attention went with the first read */
    s = rw(&r, false, 9, 1, SECTOR);
    CHECK_EQ(get_le32(data(&r)), 9);
    state_writer_free(w);
    rig_down(&r);
}

/* The attention waits for a command that may carry it, and comes once. */
static void a_new_capacity_is_told_once(void)
{
    struct rig r;
    rig_up(&r);
    uint8_t ready[6] = {SCSI_TEST_UNIT_READY}, capacity[10] = {SCSI_READ_CAPACITY_10};
    uint8_t inquiry[6] = {SCSI_INQUIRY, [4] = 36};
    err e = ERR_INIT;
    CHECK(disk_resize(r.disk, 2 * DISK_BYTES, false, &e));
    CHECK_STR(e.text, "");
    struct vstor_srb s = run(&r, 0, inquiry, 6, 36, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS); /* never carries one */
    s = rw(&r, false, 9, 1, SECTOR);
    CHECK_EQ(fake_sense(&s), SENSE_CAPACITY_CHANGED);
    s = run(&r, 0, ready, 6, 0, false);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    s = run(&r, 0, capacity, 10, 8, false);
    CHECK_EQ(get_be32(data(&r)), 2 * DISK_BYTES / SECTOR - 1);
    s = rw(&r, true, 2 * DISK_BYTES / SECTOR - 1, 1, SECTOR);
    CHECK_EQ(s.srb_status, SRB_SUCCESS);
    CHECK(disk_resize(r.disk, DISK_BYTES, true, &e));
    s = run(&r, 0, ready, 6, 0, false);
    CHECK_EQ(fake_sense(&s), SENSE_CAPACITY_CHANGED);
    s = rw(&r, false, DISK_BYTES / SECTOR, 1, SECTOR);
    CHECK_EQ(fake_sense(&s), SENSE_LBA_OUT_OF_RANGE);
    rig_down(&r);
}

static const struct check_test tests[] = {
    CHECK_TEST(initialisation_is_ordered),     CHECK_TEST(disks_say_what_they_are),
    CHECK_TEST(absent_units_answer_as_hyperv), CHECK_TEST(data_goes_both_ways),
    CHECK_TEST(bad_requests_get_sense),        CHECK_TEST(discarded_blocks_leave_the_file),
    CHECK_TEST(read_only_disks_refuse_writes), CHECK_TEST(units_leave_when_their_io_is_done),
    CHECK_TEST(a_full_ring_delays_answers),    CHECK_TEST(subchannels_carry_requests),
    CHECK_TEST(dvds_change_their_media),       CHECK_TEST(resets_wait_for_io),
    CHECK_TEST(state_survives_saving),         CHECK_TEST(a_new_capacity_is_told_once),
};
CHECK_MAIN(tests)
