/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Host files as sfile: alignment, short transfers, holes, and locks that QEMU's tools respect too.
 */
#ifndef VIREO_STORAGE_HOSTFILE_H
#define VIREO_STORAGE_HOSTFILE_H

#include "core/storage/aio.h"
#include "core/storage/disk.h"
#include "core/storage/sfile.h"

/* Takes `fd` and `name` (malloc'ed), also on error. `a` is borrowed for the file's life;
 * NULL: for synchronous use alone. */
struct sfile *hostfile_new(int fd, char *name, bool read_only, struct aio *a, err *e);

/* A source over an opener (borrowed); owns its aio. False on error. */
bool hostfile_source(struct sfile_source *out, const struct disk_opener *o, struct loop *l,
                     bool threads_only, err *e);

/* "io_uring" or "threads", for a host source's context. */
const char *hostfile_engine(const struct sfile_source *s);

#endif
