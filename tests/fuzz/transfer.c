/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Exported machines: the archive's headers and names, and the description in it. The bytes are
 * packed first, so that mutations reach the parser and not zstd alone. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "core/machine/archive.h"
#include "core/machine/transfer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void read_all(int fd)
{
    struct archive_entry entry;
    bool end;
    AUTO(archive_reader) a = archive_reader_new(fd, NULL);
    for (unsigned i = 0; a && i < 100 && archive_next(a, &entry, &end, NULL); i++) {
        size_t n = 0;
        if (!archive_name_ok(entry.name))
            abort();
        AUTO(str) text = i % 2 ? archive_read(a, 4096, &n, NULL) : NULL;
        if (text)
            transfer_parse(text, n, NULL);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    size_t room = ZSTD_compressBound(len);
    AUTO(buf) packed = malloc(room);
    AUTO(fd) fd = memfd_create("fuzz", MFD_CLOEXEC);
    size_t n = packed ? ZSTD_compress(packed, room, data, len, 1) : 0;
    bool raw = len && data[0] == 0x28; /* as it is */
    if (fd < 0 || ZSTD_isError(n) || write(fd, raw ? data : packed, raw ? len : n) < 0 ||
        lseek(fd, 0, SEEK_SET) < 0)
        return 0;
    read_all(fd);
    transfer_parse((const char *)data, len, NULL);
    return 0;
}
