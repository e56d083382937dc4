/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The two 8237A DMA controllers of a PC with their page registers. A device on the ISA bus moves
 * its data by a channel that the guest has programmed: single, demand and block transfers of the
 * four 8-bit channels, counting up or down within 64 KiB, with or without starting over at the end.
 * The 16-bit channels and memory-to-memory are registers alone: nothing on the board uses them.
 * Source: Intel 8237A and 82371AB data sheets.
 * Thread: any; one lock.
 */
#ifndef VIREO_CHIPSET_DMA_H
#define VIREO_CHIPSET_DMA_H

#include "core/chipset/chip.h"
#include "core/hv/memory.h"

struct dma;
struct dma *dma_new(const struct chip_env *env, struct hv_memory *memory, err *e); /* borrows */
struct device dma_device(struct dma *d);

/* Bytes that the channel (0 to 3) takes before its terminal count; 0 if it is masked or programmed
 * for the other direction. */
size_t dma_ready(struct dma *d, unsigned channel, bool to_memory);
/* Moves up to len bytes and returns how many; *terminal if the last was the count's. Memory that is
 * not there takes nothing and gives 0xff. */
size_t dma_move(struct dma *d, unsigned channel, uint8_t *bytes, size_t len, bool to_memory,
                bool *terminal);

#endif
