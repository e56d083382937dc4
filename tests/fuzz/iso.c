/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A disc image: what is found lies within it. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/machine/iso.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* The first 16 sectors say nothing: the input begins at the descriptors. */
    AUTO(fd) fd = memfd_create("disc", MFD_CLOEXEC);
    struct iso_linux l;
    err e = ERR_INIT;
    if (fd < 0 || pwrite(fd, data, size, 16 * 2048) != (ssize_t)size)
        return 0;
    if (iso_find_linux(fd, &l, &e) && (l.kernel.offset + l.kernel.length > size + 16 * 2048 ||
                                       l.initrd.offset + l.initrd.length > size + 16 * 2048))
        abort();
    return 0;
}
