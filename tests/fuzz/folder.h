/* SPDX-License-Identifier: GPL-3.0-or-later */
/* For targets that make files. */
#ifndef VIREO_FUZZ_FOLDER_H
#define VIREO_FUZZ_FOLDER_H

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Removes all that lies there, which must be files, and returns how many; hidden: whether such ones
 * may be among them. */
static inline unsigned fuzz_empty_folder(const char *path, bool hidden)
{
    unsigned n = 0;
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((e->d_name[0] == '.' && !hidden) || unlinkat(dirfd(d), e->d_name, 0) != 0)
            abort();
        n++;
    }
    if (d)
        closedir(d);
    return n;
}

#endif
