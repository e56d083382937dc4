/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The look-up of vector operations: tables by map, prefix and opcode, filled once. */
#include <cpuid.h>
#include <pthread.h>

#include "core/hv/soft/vec-impl.h"

static vec_table tables[3];
static uint32_t host_features; /* bit n: the NEED_* value n << 2 is met */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static uint32_t find_host_features(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return 1;
    return 1u | (c & bit_SSE3 ? 1u << (NEED_SSE3 >> 2) : 0) |
           (c & bit_SSSE3 ? 1u << (NEED_SSSE3 >> 2) : 0) |
           (c & bit_SSE4_1 ? 1u << (NEED_SSE41 >> 2) : 0) |
           (c & bit_SSE4_2 ? 1u << (NEED_SSE42 >> 2) : 0) |
           (c & bit_AES ? 1u << (NEED_AES >> 2) : 0) |
           (c & bit_PCLMUL ? 1u << (NEED_PCLMUL >> 2) : 0);
}

static void fill(void)
{
    host_features = find_host_features();
    soft_vec_fill_move(&tables[0], &tables[1], &tables[2]);
    soft_vec_fill_int(&tables[0], &tables[1], &tables[2]);
    soft_vec_fill_fp(&tables[0], &tables[1], &tables[2]);
    soft_vec_fill_mmx(&tables[0], &tables[1], &tables[2]);
    soft_vec_fill_imm(&tables[0], &tables[1], &tables[2]);
}

const struct vec_op *soft_vec_lookup(const struct vec_bytes *v)
{
    pthread_once(&once, fill);
    if (v->map == VEC_MAP_0F && v->opcode == 0xae)
        return v->prefix == VEC_NP ? soft_vec_group15(v->modrm) : NULL;
    if (v->map == VEC_MAP_0F && v->opcode >= 0x71 && v->opcode <= 0x73)
        return soft_vec_shift_group(v);
    const struct vec_entry *e = &tables[v->map][v->prefix][v->opcode];
    bool mem = v->modrm < 0xc0;
    if (!e->op.fn || ((e->form & FORM_MASK) == FORM_MEM && !mem) ||
        ((e->form & FORM_MASK) == FORM_REG && mem) || !(host_features >> (e->form >> 2 & 7) & 1))
        return NULL;
    return &e->op;
}
