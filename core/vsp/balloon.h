/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Dynamic memory: takes pages from the guest (balloon) and gives them back, adds memory to a
 * running guest (hot add), and hears how much it needs (pressure).
 *
 * The guest decides which pages it lets go; their backing goes back to the host at once. What it
 * gives is bounded by what was asked.
 * Source: drivers/hv/hv_balloon.c of Linux 6.1.
 * Thread: the bus's loop.
 */
#ifndef VIREO_VSP_BALLOON_H
#define VIREO_VSP_BALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/device.h"
#include "core/vmbus/vmbus.h"

struct balloon_status {
    bool connected; /* the guest's driver is there */
    bool can_balloon, can_hot_add;
    bool pressure_known;    /* the three below */
    uint64_t available;     /* bytes the guest could use without paging */
    uint64_t committed;     /* bytes its programs have asked for */
    uint64_t status_age_ns; /* since the guest said so */
    uint64_t assigned;      /* bytes the guest has now: RAM less the balloon */
    uint64_t ballooned;
    uint64_t target; /* bytes asked for */
    uint64_t added;  /* bytes added since start */
};

struct balloon_params {
    struct vmbus *bus;
    uint64_t max_bytes;    /* the most that hot add may reach; 0: no hot add */
    uint64_t hot_add_base; /* guest address where added memory starts, 128 MiB-aligned */
    /* Adds RAM at [gpa, gpa + size). False: the host has none. */
    bool (*add_ram)(void *ctx, uint64_t gpa, uint64_t size, err *e);
    void (*changed)(void *ctx); /* the status: may be NULL */
    void *ctx;
};

struct balloon;
struct balloon *balloon_new(const struct balloon_params *p, err *e);
struct device balloon_as_device(struct balloon *b);

/* Asks for an amount of memory: reached step by step, as far as the guest goes along. More than it
 * has: the balloon gives back first, then memory is added. ERR_INVALID beyond max_bytes. */
bool balloon_set_target(struct balloon *b, uint64_t bytes, err *e);
void balloon_status(const struct balloon *b, struct balloon_status *out);
/* Memory that hot add has put in place so far: what a restored machine has to map before the
 * balloon is restored. */
uint64_t balloon_saved_added(const struct state_reader *r);

#endif
