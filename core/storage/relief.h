/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What was copied from a layer into the one below it goes from the upper one: first the lower one
 * is flushed, then the upper one's blocks are forgotten. Reading the chain gives the same at every
 * moment, also after a crash. A layer that is written meanwhile is held for the last part, with
 * the lower one flushed once more: then whatever was changed in it is below, durably.
 */
#ifndef VIREO_STORAGE_RELIEF_H
#define VIREO_STORAGE_RELIEF_H

#include "core/storage/disk-internal.h"

struct relief {
    struct image *a, *b; /* set by the owner; a over b */
    void (*done)(void *ctx);
    void *ctx;

    uint64_t pos, end; /* what is next, up to where */
    bool useless;      /* an entry could not be changed: nothing is tried any more */
    struct disk *held;
    struct hold hold;
    struct rest rest;
    struct waiter wait;
    struct loop_post again;
};

/* Forgets whole blocks up to `to`, from where the last time ended; then `done`, from the loop.
 * `in_use`: the disk whose top `a` is and which is written; else NULL. */
void relief_start(struct relief *r, uint64_t to, struct disk *in_use);

#endif
