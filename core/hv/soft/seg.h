/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Descriptors and segment registers. Source: SDM vol. 3, chapters 3, 5 and 7. */
#ifndef VIREO_HV_SOFT_SEG_H
#define VIREO_HV_SOFT_SEG_H

#include "core/hv/soft/stack.h"

/* Attribute bits (struct hv_segment.attrib). */
enum {
    SEG_A = 1,
    SEG_W = 2 /* data: writable */,
    SEG_R = 2 /* code: readable */,
    SEG_E = 4 /* expand down */,
    SEG_C = 4 /* conforming */,
    SEG_CODE = 8,
    SEG_S = 0x10,
    SEG_P = 0x80,
    SEG_L = 0x2000,
    SEG_D = 0x4000,
    SEG_G = 0x8000,
};

struct desc {
    uint64_t raw;  /* the 8 bytes */
    uint64_t high; /* of 16-byte system descriptors */
    uint64_t at;   /* linear address */
};

static inline unsigned desc_type(const struct desc *d)
{
    return d->raw >> 40 & 15;
}
static inline unsigned desc_dpl(const struct desc *d)
{
    return d->raw >> 45 & 3;
}
static inline bool desc_s(const struct desc *d)
{
    return d->raw >> 44 & 1;
}
static inline bool desc_present(const struct desc *d)
{
    return d->raw >> 47 & 1;
}
static inline bool desc_code(const struct desc *d)
{
    return desc_s(d) && (d->raw >> 43 & 1);
}
static inline bool desc_conforming(const struct desc *d)
{
    return d->raw >> 42 & 1;
}
static inline bool desc_long(const struct desc *d)
{
    return d->raw >> 53 & 1;
}
static inline bool desc_big(const struct desc *d)
{
    return d->raw >> 54 & 1;
}

/* Reads the descriptor of a selector; raises `vector`(selector) if it lies outside its table. */
void soft_desc_read(struct soft_vp *vp, const struct insn *i, uint16_t sel, unsigned vector,
                    struct desc *d);
/* The same for LAR, LSL, VERR, VERW: false instead of a fault. */
bool soft_desc_try(struct soft_vp *vp, const struct insn *i, uint16_t sel, struct desc *d);
void soft_desc_to_seg(const struct desc *d, uint16_t sel, bool wide, struct hv_segment *s);
/* Sets the accessed bit in memory. */
void soft_desc_mark(struct soft_vp *vp, const struct insn *i, struct desc *d);

/* Loads ES, SS, DS, FS, GS with all checks. */
void soft_load_seg(struct soft_vp *vp, const struct insn *i, unsigned seg, uint16_t sel);
/* Recomputes what is cached from seg[]. */
void soft_seg_update(struct soft_vp *vp, unsigned seg);
void soft_set_seg(struct soft_vp *vp, unsigned seg, const struct hv_segment *s);
/* CS and CPL together; the mode follows. */
void soft_set_cs(struct soft_vp *vp, const struct hv_segment *s, unsigned cpl);
/* Checks an SS for CPL `cpl`; raises `vector`. */
void soft_check_ss(struct soft_vp *vp, const struct insn *i, uint16_t sel, unsigned cpl,
                   unsigned vector, struct hv_segment *out);
/* Data segments that CPL may no longer hold become null (far returns to outer rings). */
void soft_drop_segs(struct soft_vp *vp);
/* The stack pointer (and selector) of a ring from the TSS. */
void soft_tss_stack(struct soft_vp *vp, const struct insn *i, unsigned cpl, uint16_t *ss,
                    uint64_t *sp);

enum soft_task_how { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT };
void soft_task_switch(struct soft_vp *vp, const struct insn *i, uint16_t sel,
                      enum soft_task_how how, uint64_t next);

static inline _Noreturn void soft_raise_sel(struct soft_vp *vp, const struct insn *i,
                                            unsigned vector, uint16_t sel)
{
    soft_raise_error(vp, i, vector, (uint32_t)(sel & 0xfffc) | vp->ext);
}

#endif
