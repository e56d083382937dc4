/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the x87, MMX and FXSAVE parts share. Thread: the VP's. */
#ifndef VIREO_HV_SOFT_X87_H
#define VIREO_HV_SOFT_X87_H

#include "core/hv/soft/cpu.h"
#include "core/hv/soft/vec.h"

/* FNINIT. Registers keep their contents and become empty. */
void soft_x87_init(struct soft_fx *fx);

/* After an image was loaded: reserved bits take their values, the error summary follows the flags.
 */
void soft_fx_normalize(struct soft_fx *fx);

/* Every MMX instruction but EMMS: top of stack 0, all registers valid; then MMn is st[n]. */
static inline void soft_mmx_enter(struct soft_fx *fx)
{
    unsigned top = fx->fsw >> 11 & 7;
    if (SOFT_UNLIKELY(top)) {
        uint8_t regs[8][16];
        for (unsigned k = 0; k < 8; k++)
            __builtin_memcpy(regs[(top + k) & 7], fx->st[k], 16);
        __builtin_memcpy(fx->st, regs, sizeof(regs));
        fx->fsw &= 0xc7ff;
    }
    fx->ftw = 0xff;
}

/* 0F AE /0-/3 with memory. */
const struct vec_op *soft_vec_group15(uint8_t modrm);

#endif
