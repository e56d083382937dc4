/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the store needs of the file system: whole writes, bounded reads, removal, the bin. */
#ifndef VIREO_MACHINE_STOREFS_H
#define VIREO_MACHINE_STOREFS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/err.h"

/* Makes the folder and those above it, mode 0700. */
bool storefs_make_folders(const char *path, err *e);
bool storefs_is_link(const char *path);
/* Also true for a dangling link. */
bool storefs_is_there(const char *path);

/* A regular file of at most `max` bytes, NUL added, malloc'ed. No link is followed. */
char *storefs_read(int folder, const char *name, size_t max, size_t *len, err *e);
/* Replaces the file in one step; synced, folder too. */
bool storefs_write(int folder, const char *name, const void *data, size_t len, err *e);
bool storefs_sync_parent(const char *path, err *e);

/* A file, or a folder with all that is in it; follows no link and stays on the file system. */
bool storefs_remove(int folder, const char *name, err *e);
/* Moves a file or folder into the desktop's bin ($XDG_DATA_HOME/Trash). False where there is none
 * or where it is on another file system; nothing is changed then. */
bool storefs_to_bin(const char *path, err *e);

#endif
