/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Copying between disks on a loop, many pieces in flight: converting (what the source's whole chain
 * reads as) and merging (what its top layer holds).
 *
 * A live copy's source is in use: whoever changes it has the range copied again (copy_again) before
 * the change is acknowledged. When all is there and durable, `synced` is called; from then on
 * source and target stay the same, until copy_finish. What is written to the target before that is
 * nobody else's to flush. Thread: the loop's.
 */
#ifndef VIREO_STORAGE_COPY_H
#define VIREO_STORAGE_COPY_H

#include "core/storage/disk-internal.h"
#include "core/storage/disk-tool.h"

struct copy;

struct copy_params {
    struct disk *from, *to; /* borrowed */
    bool layer;             /* the source's top layer alone, zeroes of it included */
    bool target_is_zero;    /* so zeroes need not be written */
    bool live;
    uint64_t length;                                            /* bytes from the start */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* may be NULL */
    void (*synced)(void *ctx);                                  /* live; once, from the loop */
    /* All before `to` has been written to the target, said after every `pass_step` bytes or so; the
     * end waits until copy_passed. May be NULL. */
    void (*passed)(void *ctx, uint64_t to);
    uint64_t pass_step;
    /* Once, from the loop: everything is written and flushed, or `status` (ECANCELED too). `at` is
     * where an error was met. */
    void (*done)(void *ctx, int status, bool reading, uint64_t at);
    void *ctx;
};

struct copy *copy_start(const struct copy_params *p, err *e);
/* `done` will be called with ECANCELED when what is in flight has ended. */
void copy_cancel(struct copy *c);
/*
 * Of a live copy: `r->range` of the source was changed. `done` is called when the target has it,
 * perhaps from within; its status is that of writing the target if `synced` was called before, else
 * 0, because the copy may still fail on its own.
 */
void copy_again(struct copy *c, struct copy_redo *r);
void copy_passed(struct copy *c);
/* The source is not changed any more: `done` comes when all is there. */
void copy_finish(struct copy *c);
/* After `done`. */
void copy_free(struct copy *c);

/* Runs one to its end, turning the loop; `progress` may be NULL. */
bool copy_run(struct copy_params *p, const struct disk_progress *progress, err *e);

#endif
