/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A file that appears under its name when it is whole. Killed before, nothing of it remains where
 * the file system knows nameless files; elsewhere a hidden one beside its place. */
#ifndef VIREO_STORAGE_NEWFILE_H
#define VIREO_STORAGE_NEWFILE_H

#include <stdbool.h>

#include "core/base/err.h"

struct newfile {
    int fd; /* open for reading and writing; owned */
    char *path, *temp;
    bool force;
};

/* Refuses an existing `path` at once unless `force`. */
bool newfile_begin(struct newfile *n, const char *path, bool force, err *e);
/* Syncs and names the file. The descriptor stays open. */
bool newfile_commit(struct newfile *n, err *e);
/* Frees; removes what was not committed. */
void newfile_end(struct newfile *n);

#endif
