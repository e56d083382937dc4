/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Marks in the machine's folder: that it runs, for the next session; that nothing of it is kept. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "app/worker/worker.h"
#include "core/base/cleanup.h"
#include "core/machine/store.h"
#include "core/machine/storefs.h"

static int open_folder(struct worker *w)
{
    return w->folder ? open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

void worker_note_running(struct worker *w, gboolean running)
{
    AUTO(fd) fd = open_folder(w);
    if (fd < 0)
        return;
    w->disposable = faccessat(fd, STORE_DISPOSABLE_NAME, F_OK, 0) == 0;
    if (!running)
        unlinkat(fd, STORE_RAN_NAME, 0);
    else if (faccessat(fd, STORE_CONFIG_NAME, F_OK, 0) == 0)
        auto_close(openat(fd, STORE_RAN_NAME, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
}

/* The folder itself lies where we may remove nothing: store_sweep does. */
void worker_dispose(struct worker *w)
{
    AUTO(fd) fd = w->disposable ? open_folder(w) : -1;
    int again = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *d = again < 0 ? NULL : fdopendir(again);
    for (struct dirent *de; d && (de = readdir(d));)
        if (strcmp(de->d_name, ".") && strcmp(de->d_name, "..") &&
            strcmp(de->d_name, STORE_DISPOSABLE_NAME) && strcmp(de->d_name, STORE_LOCK_NAME))
            storefs_remove(fd, de->d_name, NULL);
    if (d)
        closedir(d);
}
