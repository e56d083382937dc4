/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The VM store: one folder a machine, named by its id, below $XDG_DATA_HOME/vireo. It holds
 * machine.ini (core/machine/config.h), the disks that were made for it, checkpoints and saved
 * states. `<id>` may be a symbolic link to a folder elsewhere: a machine on another disk.
 *
 * Locks. `lock` in the folder is held (exclusively, flock) for as long as a worker runs the
 * machine, and by whoever deletes or moves it. The folder itself is flock'ed for the short time of
 * reading, changing and writing machine.ini. Both vanish with their holder.
 * Writes are whole: a temporary file, synced, renamed.
 * Thread: a struct store has no state that changes; any thread.
 */
#ifndef VIREO_MACHINE_STORE_H
#define VIREO_MACHINE_STORE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"
#include "core/base/guid.h"
#include "core/machine/config.h"

#define STORE_CONFIG_NAME "machine.ini"
#define STORE_LOCK_NAME "lock"
#define STORE_RAN_NAME "running" /* there: it ran when its session or the computer ended */
#define STORE_DISPOSABLE_NAME "disposable" /* there: the machine goes when it is turned off */

struct store;

/* `root` NULL: $XDG_DATA_HOME/vireo (or ~/.local/share/vireo). The folder is made where missing,
 * mode 0700, and swept (store_sweep). NULL on error. */
struct store *store_open(const char *root, err *e);
void store_close(struct store *s);
AUTO_DEFINE(store, struct store *, store_close)
const char *store_root(const struct store *s);

/* A machine's folder or a file in it (`file` may be NULL), malloc'ed; the folder need not exist. */
char *store_path(const struct store *s, const struct guid *id, const char *file, err *e);

/* ---- what is there ---- */

struct store_entry {
    char *folder;             /* its name in the store */
    struct guid id;           /* zero where the folder's name is none */
    struct vm_config *config; /* NULL: damaged */
    char *problem;            /* why; for people. NULL where config is set */
};
struct store_list {
    struct store_entry *entries; /* by name (case ignored), the damaged ones last */
    size_t n;
};

/* Reads every machine; one that cannot be read is an entry with a problem. False only if the store
 * itself cannot be read. */
bool store_list(const struct store *s, struct store_list *out, err *e);
void store_list_clear(struct store_list *l);

/* By id, or by name where exactly one machine has it. ERR_NOT_FOUND, or ERR_EXISTS for a name that
 * several have. */
bool store_find(const struct store *s, const char *name_or_id, struct guid *out, err *e);
struct vm_config *store_load(const struct store *s, const struct guid *id, err *e);

/* ---- changes ---- */

/*
 * Makes a machine of `c`: gives it an id, its time of creation and its adapters their addresses
 * where they have none. `place` NULL, or the folder in which the machine's own folder is made
 * (named after the machine), linked from the store. Nothing is left behind on failure.
 */
bool store_create(const struct store *s, struct vm_config *c, const char *place, err *e);
/* Writes a changed configuration, id taken from `c`. */
bool store_save(const struct store *s, const struct vm_config *c, err *e);
/* Reads, lets `fn` change, checks and writes, under the folder's lock. `fn` returning false (with
 * `e` set) leaves the file as it was. */
bool store_update(const struct store *s, const struct guid *id,
                  bool (*fn)(void *ctx, struct vm_config *c, err *e), void *ctx, err *e);
bool store_rename(const struct store *s, const struct guid *id, const char *name, err *e);

enum store_delete_flags {
    STORE_DELETE_TO_BIN = 1u << 0, /* into the desktop's bin where it is on the same file system */
};
/* Refuses (ERR_BUSY) while the machine runs. Only the machine's own folder goes; disks that are
 * elsewhere stay. `folder` is the name in the store, so that damaged entries can be deleted. */
bool store_delete(const struct store *s, const char *folder, unsigned flags, err *e);

/* PLACE/NAME: where a machine of that name has its folder, malloc'ed. `place` is a full path. */
char *store_place(const char *place, const char *name, err *e);
/* Held (a descriptor) while something half done lies in the store; -1 on error. */
int store_busy(const struct store *s, err *e);
/* Removes what a crash left, unless somebody is busy. */
void store_sweep(const struct store *s);

/* Registers a machine's folder that is elsewhere, by a link. */
bool store_register(const struct store *s, const char *path, struct guid *out, err *e);

/* ---- a machine's folder by its path: for those who know no store (the worker) ---- */

struct vm_config *store_load_at(const char *folder, err *e);
bool store_update_at(const char *folder, bool (*fn)(void *ctx, struct vm_config *c, err *e),
                     void *ctx, err *e);
/* The same in two steps: after begin the new configuration is on disk under another name, the
 * folder's lock held; commit is one rename, abort forgets it. Either frees. */
struct store_change;
struct store_change *store_change_begin(const char *folder,
                                        bool (*fn)(void *ctx, struct vm_config *c, err *e),
                                        void *ctx, err *e);
bool store_change_commit(struct store_change *ch, err *e);
void store_change_abort(struct store_change *ch); /* NULL is allowed */
int store_lock_at(const char *folder, err *e);

/* ---- the run lock ---- */

/* The descriptor holds the lock until it is closed; -1: ERR_BUSY while another holds it. */
int store_lock(const struct store *s, const struct guid *id, err *e);
/* Whether someone holds it now. */
bool store_is_locked(const struct store *s, const struct guid *id);

#endif
