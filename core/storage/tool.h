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

/* Its end is under way, below this call on the stack perhaps. */
bool merge_is_ending(const struct disk_merge *m);
/* Merges the top layer of a disk that nobody writes to: it stays the top, but the one below says it
 * all. */
struct disk_merge *merge_start_offline(struct disk *d, const struct disk_merge_params *p, err *e);
/* `above` is about to be put on the top layer; a merge of that goes on as one below the top. */
bool merge_now_below(struct disk *d, struct image *above, err *e);
bool disk_merge_uses(const struct disk_merge *m, const struct image *img);

/* ---- checking ---- */

struct checker {
    const char *name;
    bool repair;
    struct disk_check_result *result;
    void (*finding)(void *ctx, enum disk_finding kind, const char *text);
    void *ctx;
    const struct disk_progress *progress;
};
void check_say(struct checker *c, enum disk_finding kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Looks at a file whose structure may be beyond opening. False: I/O failed or was cancelled. */
bool vhdx_check(struct checker *c, struct sfile *f, struct loop *loop, err *e);
bool vhd_check(struct checker *c, struct sfile *f, err *e);

/* Moves what lies highest into holes and cuts the file; blocks of zeroes are given up first. */
bool vhdx_compact(struct image *img, const struct disk_progress *progress, err *e);
bool vhd_compact(struct image *img, const struct disk_progress *progress, err *e);

#endif
