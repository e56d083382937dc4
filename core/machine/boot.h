/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Starting a kernel without firmware: Linux bzImage (64-bit entry, 32-bit entry of i386 kernels),
 * Linux ELF (PVH entry, or the 64-bit entry of a vmlinux without one), multiboot 1. Files are
 * hostile input: every offset and size is checked against file and memory.
 * Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst; Xen's start_info.h (PVH);
 * Multiboot Specification 0.6.96.
 */
#ifndef VIREO_MACHINE_BOOT_H
#define VIREO_MACHINE_BOOT_H

#include "core/hv/memory.h"
#include "core/hv/vpstate.h"
#include "core/machine/memmap.h"

/* A file as the loaders see it: a descriptor, or bytes in memory (fd -1). */
struct boot_file {
    const char *name; /* for messages */
    int fd;           /* borrowed; read by pread */
    const uint8_t *data;
    uint64_t size; /* 0: there is none */
};
/* Sets fd and size; refuses what is not a regular file. */
bool boot_file_open(struct boot_file *f, const char *name, int fd, err *e);
/* ERR_CORRUPT if the file ends before. */
bool boot_file_read(const struct boot_file *f, uint64_t off, void *buf, size_t len, err *e);
/* Copies [off, off + len) of the file to guest memory. */
bool boot_file_load(const struct boot_file *f, uint64_t off, uint64_t len, struct hv_memory *mem,
                    uint64_t gpa, err *e);

/* A linear 32-bit framebuffer that is on from the first instruction; width 0: none. */
struct boot_framebuffer {
    uint64_t base;
    uint32_t width, height, stride; /* stride in bytes */
};

enum boot_protocol { BOOT_LINUX, BOOT_MULTIBOOT, BOOT_FIRMWARE /* the reset vector */ };

struct boot_params {
    enum boot_protocol protocol;
    struct boot_file kernel, initrd; /* multiboot: initrd is the first module */
    const char *cmdline;             /* "" if none */
    const struct memmap *map;
    struct boot_framebuffer fb;
    bool legacy_apic; /* local APIC in virtual wire mode, as a PC's BIOS leaves it */
};

/* Loads into memory and sets up VP 0's registers in *s (which it resets first). */
bool boot_load(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s, err *e);

/* What firmware leaves of every processor but the first, which waits for its start-up interrupt:
 * into the state of one in power-on state. */
void boot_other_vp(const struct boot_params *p, struct hv_vp_state *s);

/* Whether the file is a 32-bit Linux bzImage: such a system expects a PC with a PIT. */
bool boot_is_linux32(const struct boot_file *f);

/* ---- the parts, for boot_load and tests ---- */

enum { /* where boot structures go; all in conventional memory */
       BOOT_GDT = 0x1000,
       BOOT_PAGE_TABLES = 0x2000, /* 6 pages */
       BOOT_PAGE_TABLES_END = 0x8000,
       BOOT_INFO = 0x10000,   /* zero page, start_info or multiboot info */
       BOOT_INFO_2 = 0x11000, /* what they point to */
       BOOT_CMDLINE = 0x20000,
       BOOT_CMDLINE_MAX = 0x10000, /* with the NUL */
};

bool boot_load_bzimage(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s,
                       err *e);
bool boot_load_elf(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s,
                   err *e);
bool boot_load_multiboot(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s,
                         err *e);

/* ELF segments into memory; *lowest and *highest get the range they use. */
struct boot_elf {
    uint64_t entry, lowest, highest;
    uint64_t pvh_entry; /* 0: no PVH note */
    bool is64;
};
bool boot_elf_load(const struct boot_file *f, const struct memmap *map, struct hv_memory *mem,
                   struct boot_elf *out, err *e);

/* Writes the command line; at most `max` bytes without the NUL. */
bool boot_put_cmdline(const struct boot_params *p, struct hv_memory *mem, size_t max, err *e);
/* Loads the initrd below 4 GiB if it fits there, clear of [kernel, kernel_end), and in any case
 * below `limit`; *at is 0 if there is none. */
bool boot_put_initrd(const struct boot_params *p, struct hv_memory *mem, uint64_t kernel,
                     uint64_t kernel_end, uint64_t limit, uint64_t *at, err *e);
/* Writes GDT (and page tables) and sets segments and control registers for flat 32-bit protected
 * mode, or long mode with the first 4 GiB mapped to themselves. */
bool boot_enter_32(struct hv_memory *mem, struct hv_vp_state *s, uint64_t entry, err *e);
bool boot_enter_64(struct hv_memory *mem, struct hv_vp_state *s, uint64_t entry, err *e);
/* The zero page of a kernel whose setup header (from 0x1f1 on) is given; NULL makes one. */
bool boot_put_zero_page(const struct boot_params *p, struct hv_memory *mem, const uint8_t *header,
                        size_t header_len, uint64_t initrd, err *e);

#endif
