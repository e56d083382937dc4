/* SPDX-License-Identifier: GPL-3.0-or-later */
/* fake.h's surroundings with a PCI board, memory and a console. */
#ifndef VIREO_TESTS_CHIPSET_BOARD_H
#define VIREO_TESTS_CHIPSET_BOARD_H

#include "core/base/bytes.h"
#include "core/chipset/layout.h"
#include "core/chipset/pam.h"
#include "core/chipset/piix4.h"
#include "core/hv/memory.h"
#include "core/vsp/console.h"
#include "fake.h"

struct board {
    struct fake f;
    struct hv_memory *memory;
    struct console *console;
    struct device board;
    struct pci *bus;
    struct piix4 *piix4;
    unsigned resets;
    bool a20; /* the line */
    bool irq[16];
};

static inline void board_irq(void *ctx, unsigned pin, bool asserted)
{
    ((struct board *)ctx)->irq[pin] = asserted;
}

static inline void board_reset(void *ctx)
{
    ((struct board *)ctx)->resets++;
}

static inline void board_a20(void *ctx, bool on)
{
    ((struct board *)ctx)->a20 = on;
}

static inline struct chip_line board_line(struct board *b, unsigned irq)
{
    return (struct chip_line){.set = board_irq, .ctx = b, .pin = irq};
}

enum { BOARD_ROM = 0x40000 };

/* What PAM turns: RAM from C0000 to 2 MiB, and a BIOS whose bytes tell their place in its end. */
static inline void board_low_memory(struct board *b)
{
    uint64_t parts[PAM_SEGMENTS];
    for (unsigned i = 0; i < PAM_SEGMENTS; i++)
        parts[i] = pam_segment_size(i);
    CHECK(
        hv_memory_add_ram_parts(b->memory, PAM_BASE, MIB(2) - PAM_BASE, parts, PAM_SEGMENTS, NULL));
    uint8_t *rom = malloc(BOARD_ROM);
    for (unsigned i = 0; i < BOARD_ROM; i++)
        rom[i] = (uint8_t)(i >> 12);
    CHECK(hv_memory_add_rom(b->memory, GIB(4) - BOARD_ROM, BOARD_ROM, rom, BOARD_ROM, NULL));
    free(rom);
}

static inline void board_init(struct board *b)
{
    *b = (struct board){.a20 = true};
    fake_init(&b->f);
    b->memory = hv_memory_new(NULL);
    CHECK(hv_memory_add_ram(b->memory, 0, MIB(1) / 2, NULL) != NULL);
    board_low_memory(b);
    b->console = console_new(b->f.env.loop, NULL);
    struct piix4_params p = {.env = &b->f.env,
                             .memory = b->memory,
                             .reset = board_reset,
                             .set_a20 = board_a20,
                             .ctx = b};
    for (unsigned i = 0; i < 16; i++)
        p.irq[i] = board_line(b, i);
    struct piix4 *board = piix4_new(&p, NULL);
    CHECK(board != NULL);
    b->piix4 = board;
    b->board = piix4_device(board);
    b->bus = piix4_bus(board);
    b->board.ops->reset(b->board.self);
}

/* The devices on it are gone. */
static inline void board_end(struct board *b)
{
    b->board.ops->destroy(b->board.self);
    console_free(b->console);
    for (int i = 0; i < 8 && loop_turn(b->f.env.loop, 0); i++)
        ;
    hv_memory_free(b->memory);
    loop_free(b->f.env.loop);
    hv_io_free(b->f.env.io);
}

static inline void out32(struct fake *f, uint16_t port, uint32_t v)
{
    hv_io_write(f->env.io, HV_IO_PORT, port, 4, v);
}

static inline void config_select(struct board *b, unsigned slot, unsigned function, unsigned reg)
{
    out32(&b->f, 0xcf8, 0x80000000u | slot << 11 | function << 8 | (reg & 0xfc));
}
static inline uint32_t config_in(struct board *b, unsigned slot, unsigned function, unsigned reg)
{
    config_select(b, slot, function, reg);
    return in32(&b->f, 0xcfc);
}
static inline void config_out(struct board *b, unsigned slot, unsigned function, unsigned reg,
                              uint32_t v)
{
    config_select(b, slot, function, reg);
    out32(&b->f, 0xcfc, v);
}

#endif
