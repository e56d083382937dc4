/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The opener of tools: paths, with the person's rights. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/cleanup.h"
#include "core/storage/disk.h"

/* `path`, taken from the folder of `referrer` if it is relative. malloc'ed. */
static char *resolve(const char *path, const char *referrer)
{
    const char *slash = referrer ? strrchr(referrer, '/') : NULL;
    char *out = NULL;
    if (path[0] == '/' || !slash)
        return strdup(path);
    return asprintf(&out, "%.*s%s", (int)(slash - referrer + 1), referrer, path) < 0 ? NULL : out;
}

static int open_path(void *ctx, const char *path, const char *referrer, unsigned flags,
                     char **resolved, err *e)
{
    AUTO(str) full = resolve(path, referrer);
    if (!full) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to open %s", path);
        return -1;
    }
    int mode = flags & DISK_OPEN_READ_ONLY ? O_RDONLY : O_RDWR;
    /* Not blocking: a FIFO by this name must not hold us up before it is refused. */
    AUTO(fd) fd = open(full, mode | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        err_errno(e, errno, "Could not open %s", full);
        return -1;
    }
    struct stat st;
    if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))) {
        err_set(e, ERR_INVALID, "%s is neither a file nor a block device", full);
        return -1;
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    *resolved = TAKE(full);
    return TAKE_FD(fd);
}

const struct disk_opener disk_opener_paths = {.open = open_path};
