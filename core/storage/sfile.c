/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/sfile.h"

uint64_t sfile_size(struct sfile *f)
{
    uint64_t size = 0, allocated = 0;
    return f->ops->get_size(f, &size, &allocated) == 0 ? size : 0;
}

void sfile_close(struct sfile *f)
{
    if (f)
        f->ops->close(f);
}
