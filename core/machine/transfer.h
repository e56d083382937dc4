/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Machines that go elsewhere: exported to one file (archive.h), imported from it or from a folder,
 * moved, cloned from a checkpoint. An export holds, side by side and by relative names,
 *     export.ini       what it is, and the layers of disks, each after the one below it
 *     machine.ini      the present (of a checkpoint: the machine as it was then)
 *     checkpoints/ID/  checkpoint.ini, machine.ini
 *     states/          saved states and memory (checkpoint.h)
 *     disks with every layer that they stand on, the kernel of a machine that boots directly
 * Disc images stay where they are; on another computer their drives are empty.
 * The machine's run lock is the caller's where it says so. Nothing half done appears under its
 * name; what a crash leaves is swept by store_open. Thread: any; these take as long as the disks
 * are large.
 */
#ifndef VIREO_MACHINE_TRANSFER_H
#define VIREO_MACHINE_TRANSFER_H

#include "core/machine/checkpoint.h"
#include "core/machine/store.h"

/* How far it is: 0..1. False cancels. May be NULL. */
struct transfer_progress {
    bool (*fn)(void *ctx, double fraction);
    void *ctx;
};

/* Writes the machine with all its checkpoints to `target`; it is off or saved and locked. With
 * `checkpoint`, that alone, as a machine that goes on from there; the machine may then run. */
bool transfer_export(const char *folder, const struct guid *checkpoint, const char *target,
                     bool replace, const struct transfer_progress *progress, err *e);

struct transfer_import {
    const char *path;  /* an export, or a machine's folder (which stays as it is) */
    const char *name;  /* NULL: as it was */
    const char *place; /* as store_create's */
    bool keep_id;      /* else it is a new machine beside the one it was made of */
};
bool transfer_import(const struct store *s, const struct transfer_import *p, struct guid *out,
                     const struct transfer_progress *progress, err *e);

/* Moves the machine's folder into `place` (under the machine's name), NULL: into the store. The
 * machine is off and locked. Disks that lie elsewhere stay there. */
bool transfer_move(const struct store *s, const struct guid *id, const char *place,
                   const struct transfer_progress *progress, err *e);

/* A disposable machine that goes on from a checkpoint, without network: its disks are layers on the
 * checkpoint's, its memory is the checkpoint's. Its worker empties the folder at its end. */
bool transfer_clone(const struct store *s, const struct guid *id, const struct guid *checkpoint,
                    struct guid *out, err *e);

/* For fuzzing: export.ini's text; false: refused. */
bool transfer_parse(const char *text, size_t len, err *e);

#endif
