/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Checkpoints and saved states in a machine's folder, for whoever has the machine's run lock
 * (store.h), but for reading. In the folder:
 *     machine.ini                    the present; [state] tells the checkpoint that it goes on from
 *     checkpoints/ID/checkpoint.ini  name, parent, kind; machine.ini beside it: the settings then,
 *                                    whose disks are layers that are written no more
 *     states/ID.state .ram .map .png processors and devices, memory (memfile.h), a picture; ID is a
 *                                    checkpoint's or a saved state's
 *     *-XXXXXXXX.avhdx               layers made by checkpoints
 * A checkpoint is made in two commits, each one rename: machine.ini names the new layers and the
 * checkpoint as pending; checkpoint.ini says complete. What a crash leaves is put in order by
 * checkpoint_recover: a pending one that is not complete is dropped, its layers stay in use.
 * Deleting is one rename (checkpoint.ini says deleted); files that nobody needs go, and layers that
 * need not be apart are merged, by checkpoint_sweep, at once or later.
 * Thread: any, one at a time for a folder.
 */
#ifndef VIREO_MACHINE_CHECKPOINT_H
#define VIREO_MACHINE_CHECKPOINT_H

#include "core/machine/config.h"

enum checkpoint_kind { CHECKPOINT_STANDARD, CHECKPOINT_PRODUCTION, CHECKPOINT_AUTOMATIC };
const char *checkpoint_kind_name(enum checkpoint_kind k); /* "standard", ... permanent */
bool checkpoint_kind_parse(const char *name, enum checkpoint_kind *out);

enum { CHECKPOINT_MAX_NAME = 100, CHECKPOINT_MAX_NOTES = 8192, CHECKPOINT_MAX = 500 };

struct checkpoint {
    struct guid id, parent; /* parent zero: none */
    char *name, *notes;     /* notes may be NULL */
    enum checkpoint_kind kind;
    int64_t created; /* microseconds since 1970 */
    bool memory;     /* processors and memory, too: applying it does not boot */
    bool complete;   /* not pending */
    bool deleted;    /* never in a loaded tree */
    bool subtree;    /* with deleted: and all that descend from it */
};
void checkpoint_clear(struct checkpoint *c);

struct checkpoint_tree {
    struct checkpoint *list; /* parents before children, siblings by age */
    size_t n;
    struct guid current; /* the present's checkpoint, or zero */
    struct guid saved;   /* the state that Start resumes, or zero */
};
/* Damaged checkpoints are left out, with a line in the log. */
bool checkpoint_tree_load(const char *folder, struct checkpoint_tree *out, err *e);
void checkpoint_tree_clear(struct checkpoint_tree *t);
/* By id or, where one alone has it, by name. */
const struct checkpoint *checkpoint_find(const struct checkpoint_tree *t, const char *name_or_id,
                                         err *e);

/* False: it cannot be read, and why; such a one is in no tree. */
bool checkpoint_readable(const char *folder, const struct guid *id, err *e);

/* malloc'ed paths: "states/ID.state" and the like below the folder. */
char *checkpoint_states(const char *folder, err *e);
char *checkpoint_state_path(const char *folder, const struct guid *id, const char *ending, err *e);
/* The settings of a checkpoint. */
struct vm_config *checkpoint_config(const char *folder, const struct guid *id, err *e);

/* ---- making; in this order ---- */

struct checkpoint_leaf {
    uint32_t bus, slot;
    char *path; /* relative to the folder */
};
/* The name of a layer for a disk (borrowed path) in a checkpoint, malloc'ed. */
char *checkpoint_leaf_name(const char *disk_path, const struct guid *checkpoint, unsigned index,
                           err *e);
/* Writes what is known before: the settings with the disks as they are. `c` gets id, creation
 * time, its parent (the present's) and, if it has none, a name. */
bool checkpoint_begin(const char *folder, struct checkpoint *c, const struct vm_config *settings,
                      err *e);
/* The first commit, in two steps: when begin returns nothing but a rename is missing. */
struct store_change *checkpoint_change_begin(const char *folder, const struct checkpoint *c,
                                             const struct vm_config *settings,
                                             const struct checkpoint_leaf *leaves, unsigned n,
                                             err *e);
/* The second one. */
bool checkpoint_complete(const char *folder, const struct checkpoint *c, err *e);
/* It will not be: as checkpoint_recover would find it. */
void checkpoint_abandon(const char *folder, const struct guid *id);

/* ---- a saved state ---- */

/* The commit of Save: settings as they are, and the state. */
bool checkpoint_set_saved(const char *folder, const struct vm_config *settings,
                          const struct guid *state, err *e);
/* The machine runs (or the state is thrown away): it can be resumed no more. */
bool checkpoint_clear_saved(const char *folder, err *e);

/* ---- of a machine that is off ---- */

/* After a crash. Removes nothing that a checkpoint or the present needs. */
bool checkpoint_recover(const char *folder, err *e);
/* One of a machine that is off or saved. */
bool checkpoint_create_off(const char *folder, struct checkpoint *c, err *e);
/* The present becomes what the checkpoint was: new layers on its disks; with memory, Start resumes.
 */
bool checkpoint_apply(const char *folder, const struct guid *id, err *e);
/* The same in two steps, of a machine that runs: who may open all disks makes the layers (nothing
 * changes by that), who has the lock commits. Layers that are not wanted any more are swept. */
enum { CHECKPOINT_LAYERS = VM_MAX_DISKS };
struct checkpoint_layers {
    struct checkpoint_leaf leaf[CHECKPOINT_LAYERS];
    unsigned n;
};
bool checkpoint_make_layers(const char *folder, const struct guid *id,
                            struct checkpoint_layers *out, err *e);
void checkpoint_layers_clear(struct checkpoint_layers *l);
bool checkpoint_apply_layers(const char *folder, const struct guid *id,
                             const struct checkpoint_layers *l, err *e);

/* ---- at any time ---- */

bool checkpoint_rename(const char *folder, const struct guid *id, const char *name, err *e);
bool checkpoint_set_notes(const char *folder, const struct guid *id, const char *notes, err *e);
bool checkpoint_delete(const char *folder, const struct guid *id, bool subtree, err *e);

/* ---- sweeping ---- */

/* A layer and the one layer on it, which may become one: nobody needs the lower one's contents. */
struct checkpoint_merge {
    char *lower, *upper; /* absolute */
};
struct checkpoint_plan {
    struct checkpoint_merge *merges;
    size_t n;
};
/* Removes files that nobody needs and says what could be merged. A chain that cannot be read keeps
 * all layers. `running`: new layers are left alone for a minute, because somebody may be about to
 * name them. */
bool checkpoint_sweep(const char *folder, bool running, struct checkpoint_plan *out, err *e);
void checkpoint_plan_clear(struct checkpoint_plan *p);
/* While or after `upper` is merged: settings that named it name `lower`, durably. */
bool checkpoint_retarget(const char *folder, const struct checkpoint_merge *m, err *e);
/* After `upper` was merged into `lower`: who named `upper` now names `lower`, and `upper` goes. */
bool checkpoint_merged(const char *folder, const struct checkpoint_merge *m, err *e);
/* Merges two layers that are in no running machine's chain, and all that follows. */
bool checkpoint_merge_one(const char *folder, const struct checkpoint_merge *m,
                          bool (*progress)(void *ctx, const char *file, double fraction), void *ctx,
                          err *e);
/* Merges all that can be while the machine is off. `progress` may be NULL; false cancels. */
bool checkpoint_merge_off(const char *folder,
                          bool (*progress)(void *ctx, const char *file, double fraction), void *ctx,
                          err *e);

#endif
