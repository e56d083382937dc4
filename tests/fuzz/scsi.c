/* SPDX-License-Identifier: GPL-3.0-or-later */
/* CDBs and parameter lists against a disk and a DVD drive, on a file in memory. Each command: LUN,
 * flags, data length, CDB, data. */
#include "core/vsp/scsi.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK_BYTES = 1 << 20, BUFFER = 8192 };

static int open_memory(void *ctx, const char *path, const char *referrer, unsigned flags,
                       char **resolved, err *e)
{
    int fd = memfd_create("disk", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, DISK_BYTES) != 0)
        abort();
    *resolved = strdup(path);
    return fd;
}
static const struct disk_opener opener = {.open = open_memory};
static void quiet(void *ctx, enum log_level level, const char *subsystem, const char *text)
{
}

static struct loop *loop;
static struct disk *disk[2];

static void make(void)
{
    log_set_sink(quiet, NULL);
    loop = loop_new(NULL);
    for (unsigned i = 0; i < 2; i++)
        disk[i] =
            disk_open(&(struct disk_open_params){.path = i ? "dvd" : "disk",
                                                 .format = DISK_FORMAT_RAW,
                                                 .flags = DISK_OPEN_NO_LOCK | DISK_OPEN_THREADS |
                                                          (i ? DISK_OPEN_READ_ONLY : 0u),
                                                 .opener = &opener,
                                                 .loop = loop},
                      NULL);
    if (!disk[0] || !disk[1])
        abort();
}

static void done(struct scsi_task *t)
{
    *(bool *)t->owner = true;
    if (t->transferred > t->bytes && t->bytes)
        abort();
}

static size_t one(struct scsi_lun *const *lun, const uint8_t *p, size_t n)
{
    uint8_t buf[BUFFER];
    bool finished = false;
    struct scsi_task t = {.done = done, .owner = &finished, .luns = 3};
    if (n < 4 + SCSI_CDB_BYTES)
        return n;
    memcpy(t.cdb, p + 4, SCSI_CDB_BYTES);
    t.direction = (enum scsi_direction)(p[1] % 3);
    size_t len = t.direction == SCSI_DATA_NONE ? 0 : MIN((size_t)get_le16(p + 2), sizeof buf);
    size_t have = MIN(len, n - 4 - SCSI_CDB_BYTES);
    memset(buf, 0, sizeof buf);
    memcpy(buf, p + 4 + SCSI_CDB_BYTES, have);
    size_t split = len / 3;
    struct iovec iov[2] = {{buf, split}, {buf + split, len - split}};
    t.iov = iov;
    t.iovcnt = 2;
    t.bytes = len;
    if ((p[0] & 7) == 7)
        scsi_execute_absent(&t);
    else {
        scsi_execute(lun[p[0] & 1], &t);
        while (!finished)
            loop_turn(loop, 100);
    }
    return 4 + SCSI_CDB_BYTES + (t.direction == SCSI_DATA_OUT ? have : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!loop)
        make();
    struct scsi_lun *lun[2];
    for (unsigned i = 0; i < 2; i++)
        lun[i] = scsi_lun_new(
            &(struct scsi_lun_params){.kind = i ? SCSI_DVD : SCSI_DISK, .disk = disk[i]}, NULL);
    for (unsigned n = 0; n < 32 && size; n++) {
        size_t used = one(lun, data, size);
        data += used;
        size -= used;
    }
    scsi_lun_free(lun[0]);
    scsi_lun_free(lun[1]);
    return 0;
}
