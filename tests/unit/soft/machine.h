/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The software processor with memory and ports alone, no partition around it. */
#ifndef VIREO_TESTS_UNIT_SOFT_MACHINE_H
#define VIREO_TESTS_UNIT_SOFT_MACHINE_H

#include <string.h>

#include "core/hv/backend.h"

enum {
    MACHINE_RAM = 16 << 20,
    MACHINE_CODE = 0x1000, /* where VP 0 starts, real mode, CS base 0 */
    MACHINE_PORTS = 0x80,  /* bytes written to port 0x80 are kept */
    MACHINE_END = 0xf4,    /* a write here kicks the VP that makes it */
};

struct machine {
    struct hv_clock clock;
    struct hv_memory *memory;
    struct hv_io *io;
    struct hv_timers *timers;
    const struct hv_backend_ops *ops;
    struct hv_region *ram;
    void *b;
    uint8_t out[256];
    unsigned nout;
    void (*on_out)(struct machine *m, uint8_t value); /* may be NULL */
    bool ended;
    struct hv_exit exit;
};

void machine_new(struct machine *m, unsigned vps);
void machine_free(struct machine *m);
/* Writes code and starts VP 0 on it; returns when it kicked itself or ended. */
void machine_run(struct machine *m, const void *code, size_t len);
void machine_go_on(struct machine *m);
struct hv_vp_state *machine_state(struct machine *m, unsigned vp); /* static storage */

#endif
