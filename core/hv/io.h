/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Port and MMIO dispatch. Handlers run on the thread of the virtual processor that made the access,
 * several at once: a device locks its own state. Accesses nobody claims read as all ones and are
 * ignored when written. `size` is 1, 2, 4 or 8 (8: MMIO only); values are little-endian in the low
 * bytes. An access never crosses the claimed range's end: it is split or clipped by the dispatcher.
 * Thread: claiming and releasing while the processors do not run, or from the I/O thread (it waits
 * for handlers in progress).
 */
#ifndef VIREO_HV_IO_H
#define VIREO_HV_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/err.h"

enum hv_io_space { HV_IO_PORT, HV_IO_MMIO };

struct hv_io_ops {
    const char *name;
    uint64_t (*read)(void *ctx, uint64_t offset, unsigned size);
    void (*write)(void *ctx, uint64_t offset, unsigned size, uint64_t value);
};

struct hv_io;       /* one per partition */
struct hv_io_range; /* a claim */

struct hv_io *hv_io_new(err *e);
void hv_io_free(struct hv_io *io);
/* NULL if the range is empty, wraps or overlaps another claim (ERR_EXISTS names it). */
struct hv_io_range *hv_io_claim(struct hv_io *io, enum hv_io_space space, uint64_t base,
                                uint64_t len, const struct hv_io_ops *ops, void *ctx, err *e);
void hv_io_release(struct hv_io *io, struct hv_io_range *r);

/* What backends call. */
uint64_t hv_io_read(struct hv_io *io, enum hv_io_space space, uint64_t addr, unsigned size);
void hv_io_write(struct hv_io *io, enum hv_io_space space, uint64_t addr, unsigned size,
                 uint64_t value);

#endif
