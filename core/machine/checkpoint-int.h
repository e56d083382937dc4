/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Between the files of checkpoints. */
#ifndef VIREO_MACHINE_CHECKPOINT_INT_H
#define VIREO_MACHINE_CHECKPOINT_INT_H

#include "core/machine/checkpoint.h"

struct loop;

#define CHECKPOINT_FOLDER "checkpoints"
#define CHECKPOINT_STATES "states"
#define CHECKPOINT_INI "checkpoint.ini"

/* "<folder>/checkpoints/ID" and a file in it (may be NULL), malloc'ed. */
char *checkpoint_path(const char *folder, const struct guid *id, const char *file, err *e);
/* checkpoint.ini's text; NULL where damaged. `c` is cleared first. */
bool checkpoint_parse(const char *text, size_t len, struct checkpoint *c, err *e);
bool checkpoint_read(const char *folder, const struct guid *id, struct checkpoint *c, err *e);
bool checkpoint_write(const char *folder, const struct checkpoint *c, err *e);
/* The deleted ones, too, in no order. */
bool checkpoint_read_all(const char *folder, struct checkpoint **list, size_t *n, err *e);
/* Marks the descendants of deleted subtrees as deleted; parents that are deleted or not there are
 * stepped over. */
void checkpoint_resolve(struct checkpoint *list, size_t n);
/* The nearest of *id and its ancestors that is not deleted. */
void checkpoint_resolve_id(struct checkpoint *list, size_t n, struct guid *id);
struct checkpoint *checkpoint_by_id(struct checkpoint *list, size_t n, const struct guid *id);
/* Its description first: a cut leaves a folder without one, which the next sweep takes away. */
void checkpoint_remove_folder(const char *folder, const struct guid *id);
/* Changes the settings of a checkpoint. */
bool checkpoint_update_config(const char *folder, const struct guid *id,
                              bool (*fn)(void *ctx, struct vm_config *c, err *e), void *ctx,
                              err *e);
/* The real path of the layer that the disk at `path` lies on, malloc'ed, or NULL where there is
 * none. What may not be opened lies below all that are ours. */
bool checkpoint_layer_below(const char *path, struct loop *loop, char **out, err *e);
char *checkpoint_absolute(const char *folder, const char *path, err *e);

#endif
