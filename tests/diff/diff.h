/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The differential harness: a case is a piece of user-mode code with a whole register state and two
 * pages of data. It runs natively in a child (native.c) and in the software processor (soft.c)
 * under the same descriptors, addresses and paging rights, until the first exception; the two
 * outcomes are compared (compare.c). Cases are made from a seed (gen.c): the same seed gives the
 * same cases.
 */
#ifndef VIREO_TESTS_DIFF_H
#define VIREO_TESTS_DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where things are, in both worlds. Everything else is unmapped. */
#define DIFF_CODE 0x10000000u /* two pages, read and execute */
#define DIFF_CODE_BYTES 0x2000u
#define DIFF_DATA 0x20000000u /* two pages, read and write */
#define DIFF_DATA_BYTES 0x2000u
#define DIFF_RO (DIFF_DATA + DIFF_DATA_BYTES) /* one page, read only, no execute */
#define DIFF_RO_BYTES 0x1000u
#define DIFF_FS_BASE (DIFF_DATA + 0x100u) /* in 64-bit mode */
#define DIFF_GS_BASE (DIFF_DATA + 0x300u)

/* Linux's user selectors and the LDT that both worlds have. */
enum {
    DIFF_CS32 = 0x23,
    DIFF_DS = 0x2b,
    DIFF_CS64 = 0x33,
    DIFF_LDT_CODE16 = 0x07,   /* base DIFF_CODE, limit 0x1fff, 16-bit */
    DIFF_LDT_DATA16 = 0x0f,   /* base DIFF_DATA, limit 0x2fff, B = 0 */
    DIFF_LDT_DATA32 = 0x17,   /* base DIFF_DATA, limit 0x2fff, B = 1 */
    DIFF_LDT_DOWN = 0x1f,     /* base DIFF_DATA - 0x10000, expand-down above 0xffff, B = 1 */
    DIFF_LDT_READONLY = 0x27, /* base DIFF_DATA, limit 0x2fff, read-only */
    DIFF_LDT_ENTRIES = 5,
};

enum diff_mode { DIFF_64, DIFF_32, DIFF_16, DIFF_MODES };

enum { DIFF_CODE_MAX = 512, DIFF_INSNS_MAX = 24 };

struct diff_state {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint16_t cs, ss, ds, es, fs, gs;
    _Alignas(16) uint8_t fx[512]; /* FXSAVE64 */
};

struct diff_outcome {
    struct diff_state s;
    uint32_t vector, error; /* of the exception that ended the case */
    uint64_t cr2;           /* page faults */
    bool skipped;           /* made a system call, or did not end */
    uint8_t data[DIFF_DATA_BYTES];
};

struct diff_case {
    uint64_t seed; /* of this case alone */
    enum diff_mode mode;
    unsigned insns;
    uint16_t insn_off[DIFF_INSNS_MAX + 1]; /* offsets in code[]; the last: the end */
    uint16_t code_len;
    uint8_t code[DIFF_CODE_MAX]; /* at state.rip (linear) */
    uint64_t undefined_flags;    /* not compared */
    unsigned quirks;             /* enum diff_quirk of all instructions */
    struct diff_state s;
    uint32_t data_pick; /* which of the data pools fills the data pages */
};

/* ---- gen.c ---- */
struct diff_options {
    unsigned mode_mask; /* bits of enum diff_mode */
    int group;          /* only this group of opcodes (enum diff_group), -1: all */
    int opcode;         /* only this opcode of `map`, -1: all */
    int map;            /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A; -1: all */
    unsigned max_insns; /* 1: single instructions alone */
    bool ac;            /* alignment checking, now and then */
    bool host;          /* the guest is offered what the host has beyond the baseline */
};
void diff_generate(struct diff_case *c, uint64_t seed, const struct diff_options *o);
/* The code without instruction k: for shrinking. */
bool diff_without(const struct diff_case *c, unsigned k, struct diff_case *out);
const uint8_t *diff_data_pool(uint32_t pick); /* DIFF_DATA_BYTES */
const uint8_t *diff_ro_pool(void);            /* DIFF_RO_BYTES */
uint64_t diff_rng(uint64_t *state);

/* ---- scan.c ---- */
/* Where processors differ in the order of an instruction's faults. */
enum diff_quirk {
    DIFF_QUIRK_ORDER = 1, /* CMPS, FXRSTOR, environments, MASKMOV: which fault, at which byte */
    DIFF_QUIRK_CALL = 2,  /* near calls outside 64-bit mode: the push or the target first */
    DIFF_QUIRK_POPA = 4,  /* registers popped before a fault */
};
struct diff_scan {
    bool refused;       /* not to be run: system-dependent, not deterministic, not offered */
    bool valid;         /* the rest is meaningful */
    uint64_t undefined; /* flags left undefined */
    bool branch;
    unsigned quirks;
    bool has_modrm;
    uint8_t opcode_at; /* offset of the opcode's last byte */
    uint8_t modrm_at;
    uint8_t imm; /* bytes of immediate */
    uint8_t map;
    uint8_t length; /* of the whole instruction */
};
/* Looks at one instruction of `n` readable bytes. Knows lengths and flags, not meaning. */
struct diff_scan diff_scan(const uint8_t *p, size_t n, enum diff_mode mode, bool host);
bool diff_has_modrm(unsigned map, uint8_t opcode, enum diff_mode mode);

/* ---- native.c ---- */
struct diff_native;
struct diff_native *diff_native_new(void); /* NULL with a line on standard error */
void diff_native_free(struct diff_native *n);
/* Runs cases[0..count), count at most DIFF_BATCH. */
enum { DIFF_BATCH = 64 };
bool diff_native_run(struct diff_native *n, const struct diff_case *cases, unsigned count,
                     struct diff_outcome *out);

/* ---- soft.c ---- */
struct diff_soft;
struct diff_soft *diff_soft_new(bool host);
void diff_soft_free(struct diff_soft *s);
void diff_soft_run(struct diff_soft *s, const struct diff_case *c, struct diff_outcome *out);

/* ---- compare.c ---- */
/* Prints what differs when `report`; true if nothing does. */
bool diff_same(const struct diff_case *c, const struct diff_outcome *native,
               const struct diff_outcome *soft, bool report);
void diff_print_case(const struct diff_case *c);

#endif
