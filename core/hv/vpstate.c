/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/vpstate.h"

#include <string.h>

#include "core/base/bytes.h"

/* Local APIC after RESET (SDM vol. 3, 11.4.7.1): identification, version, spurious vector, masked
 * LVTs. */
static void reset_lapic(uint8_t *page, unsigned vp_index)
{
    put_le32(page + 0x20, vp_index << 24);
    put_le32(page + 0x30, 0x00050014); /* version 0x14, 6 LVT entries */
    put_le32(page + 0xe0, 0xffffffff); /* destination format: flat */
    put_le32(page + 0xf0, 0xff);
    for (unsigned lvt = 0x320; lvt <= 0x370; lvt += 0x10)
        put_le32(page + lvt, 0x10000);
}

static void reset_segments(struct hv_vp_state *s)
{
    for (unsigned i = 0; i < HV_SEG_COUNT; i++)
        s->seg[i] = (struct hv_segment){.limit = 0xffff, .attrib = 0x93};
    s->seg[HV_CS] = (struct hv_segment){
        .base = 0xffff0000, .limit = 0xffff, .selector = 0xf000, .attrib = 0x9b};
    s->seg[HV_LDTR].attrib = 0x82;
    s->seg[HV_TR].attrib = 0x8b;
    s->gdtr.limit = s->idtr.limit = 0xffff;
}

/* The FXSAVE image of SDM vol. 3, table 9-1: FCW 0x40, all registers +0.0 and valid, MXCSR 0x1F80.
 */
static void reset_fpu(uint8_t *xsave)
{
    put_le16(xsave, 0x40);
    xsave[4] = 0xff; /* abridged tag word: none empty (FTW 5555H) */
    put_le32(xsave + 24, 0x1f80);
    put_le32(xsave + 28, 0xffff);
    put_le64(xsave + 512, 3); /* XSTATE_BV: x87, SSE */
}

void hv_vp_state_reset(struct hv_vp_state *s, unsigned vp_index)
{
    memset(s, 0, sizeof *s);
    s->rip = 0xfff0;
    s->rflags = 2;
    s->gpr[HV_RDX] = 0x600;
    reset_segments(s);
    s->cr0 = 0x60000010;
    s->xcr0 = 1;
    s->dr6 = 0xffff0ff0;
    s->dr7 = 0x400;
    s->pat = 0x0007040600070406;
    s->apic_base = 0xfee00800 | (vp_index == 0 ? 0x100 : 0);
    s->misc_enable = 1; /* fast strings */
    s->activity = vp_index == 0 ? HV_VP_RUNNING : HV_VP_WAIT_FOR_SIPI;
    for (unsigned i = 0; i < HV_VP_SINTS; i++)
        s->synthetic.sint[i] = 0x10000; /* masked */
    reset_lapic(s->lapic, vp_index);
    reset_fpu(s->xsave);
}

void hv_vp_state_init(struct hv_vp_state *s)
{
    enum { CACHES = 0x60000000 };
    struct hv_vp_state now = *s;
    hv_vp_state_reset(s, 0);
    s->cr0 = 0x10 | (now.cr0 & CACHES);
    s->xcr0 = now.xcr0;
    s->pat = now.pat;
    s->apic_base = now.apic_base;
    s->tsc_aux = now.tsc_aux;
    s->misc_enable = now.misc_enable;
    s->tsc = now.tsc;
    s->tsc_adjust = now.tsc_adjust;
    s->mtrr_def_type = now.mtrr_def_type;
    memcpy(s->mtrr_fixed, now.mtrr_fixed, sizeof s->mtrr_fixed);
    memcpy(s->mtrr_base, now.mtrr_base, sizeof s->mtrr_base);
    memcpy(s->mtrr_mask, now.mtrr_mask, sizeof s->mtrr_mask);
    s->synthetic = now.synthetic;
    memcpy(s->lapic, now.lapic, sizeof s->lapic);
    memcpy(s->xsave, now.xsave, sizeof s->xsave);
}
