/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the tool-*.c files share. */
#ifndef VIREO_STORAGE_TOOL_H
#define VIREO_STORAGE_TOOL_H

#include "core/storage/disk-internal.h"
#include "core/storage/disk-tool.h"
#include "core/storage/format.h"
#include "core/storage/hostfile.h"
#include "core/storage/newfile.h"

struct parent_names {
    char *relative, *absolute;
};
void parent_names_clear(struct parent_names *n);
/* What a child of `parent` is to be, where `f` leaves it open. `names` outlives `f`. */
bool format_from_parent(struct format_params *f, struct image *parent, const char *child_path,
                        const char *parent_path, struct parent_names *names, err *e);
enum disk_format format_by_name(const char *path);
bool tool_write_new(const char *path, bool force, const struct format_params *f, err *e);

#endif
