/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The x87 part of reread.h: which floating-point instructions the translator emits as themselves.
 * FLDCW, FNINIT, FNCLEX, environments and saves stay the interpreter's. Source: SDM vol. 2, tables
 * */
#include "core/hv/soft/reread.h"

/* Memory forms, by opcode - D8 and modrm.reg: bytes, negative if stored; 0: not ours. */
static const int8_t memory_forms[8][8] = {
    {4, 4, 4, 4, 4, 4, 4, 4},       /* D8: arithmetic m32 */
    {4, 0, -4, -4, 0, 0, 0, -2},    /* D9: FLD, FST, FSTP m32; FNSTCW */
    {4, 4, 4, 4, 4, 4, 4, 4},       /* DA: arithmetic m32int */
    {4, -4, -4, -4, 0, 10, 0, -10}, /* DB: FILD, FISTTP, FIST, FISTP m32int; FLD, FSTP m80 */
    {8, 8, 8, 8, 8, 8, 8, 8},       /* DC: arithmetic m64 */
    {8, -8, -8, -8, 0, 0, 0, -2},   /* DD: FLD, FISTTP, FST, FSTP m64; FNSTSW */
    {2, 2, 2, 2, 2, 2, 2, 2},       /* DE: arithmetic m16int */
    {2, -2, -2, -2, 0, 8, 0, -8},   /* DF: FILD, FISTTP, FIST, FISTP m16int; FILD, FISTP m64int */
};

enum { X_NO, X_OK, X_READS_FLAGS, X_SETS_FLAGS };

/* Register forms of D9 E0-FF that exist. */
static bool d9_ok(uint8_t modrm)
{
    return modrm != 0xe2 && modrm != 0xe3 && modrm != 0xe6 && modrm != 0xe7 && modrm != 0xef;
}

static unsigned register_form(uint8_t op, uint8_t modrm)
{
    unsigned row = modrm >> 3 & 7;
    switch (op) {
    case 0xd8: return X_OK;
    case 0xd9:
        if (row < 2)
            return X_OK; /* FLD ST(i), FXCH */
        return row == 2 ? modrm == 0xd0 : row == 3 ? X_NO : d9_ok(modrm);
    case 0xda: return row < 4 ? X_READS_FLAGS : modrm == 0xe9 ? X_OK : X_NO;
    case 0xdb: return row < 4 ? X_READS_FLAGS : row == 5 || row == 6 ? X_SETS_FLAGS : X_NO;
    case 0xdc: return row < 2 || row > 3 ? X_OK : X_NO;
    case 0xdd: return row == 0 || (row > 1 && row < 6) ? X_OK : X_NO;
    case 0xde: return row < 2 || row > 3 || modrm == 0xd9 ? X_OK : X_NO;
    default: return row == 5 || row == 6 ? X_SETS_FLAGS : modrm == 0xe0 ? X_OK : X_NO;
    }
}

bool soft_reread_x87(struct reread *r)
{
    r->kind = RR_X87;
    r->group = true;
    r->size = 4;
    if (r->rep || r->opsz)
        return false;
    if (r->mem) {
        int bytes = memory_forms[r->op - 0xd8][r->modrm >> 3 & 7];
        r->rm_size = (uint8_t)(bytes < 0 ? -bytes : bytes);
        r->rm_use = bytes < 0 ? RR_W : RR_R;
        return bytes != 0;
    }
    unsigned form = register_form(r->op, r->modrm);
    r->flags_read = form == X_READS_FLAGS;
    r->flags_set = form == X_SETS_FLAGS;
    return form != X_NO;
}
