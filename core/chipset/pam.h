/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The host bridge's programmable attribute map: whether reads of a segment below 1 MiB go to RAM or
 * to ROM, and writes to RAM or nowhere. At power-on all is ROM: the BIOS's last 128 KiB at E0000,
 * nothing (all ones) below. Each segment is a region of RAM of its own (hv_memory_add_ram_parts).
 * Reading ROM while writing RAM, as BIOSes do to copy themselves, takes an exit for each write.
 * Source: Intel 82441FX data sheet, PAM0 to PAM6 (59h to 5Fh).
 * Thread: any, out of the guest; pam_set by one at a time.
 */
#ifndef VIREO_CHIPSET_PAM_H
#define VIREO_CHIPSET_PAM_H

#include "core/hv/io.h"
#include "core/hv/memory.h"

enum { PAM_SEGMENTS = 13, PAM_REGISTERS = 7 };
#define PAM_BASE 0xc0000ull

static inline uint64_t pam_segment_size(unsigned i)
{
    return i + 1 < PAM_SEGMENTS ? 0x4000 : 0x10000;
}

struct pam;
/* Borrows both. What is read-only memory below 4 GiB by then is the ROM. */
struct pam *pam_new(struct hv_io *io, struct hv_memory *memory, err *e);
void pam_free(struct pam *p); /* all is RAM again; NULL is allowed */
/* The registers' bytes. */
void pam_set(struct pam *p, const uint8_t reg[PAM_REGISTERS]);

#endif
