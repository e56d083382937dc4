/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A saved state is hostile input: the stream, its sections and the table-driven loader. */
#include <stdlib.h>
#include <string.h>

#include "core/base/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct inner {
    uint16_t a;
    bool b;
};
struct object {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32, array[4];
    uint64_t u64;
    uint8_t bytes[16], var[32];
    size_t var_len;
    struct inner in[3];
    uint32_t canary;
};

static const struct state_field inner_fields[] = {
    STATE_FIELD(1, STATE_U16, struct inner, a),
    STATE_FIELD(2, STATE_BOOL, struct inner, b),
};
static const struct state_table inner_table = {
    .name = "inner", .fields = inner_fields, .nfields = 2};
static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct object, u8, 5),
    STATE_FIELD(2, STATE_U16, struct object, u16),
    STATE_FIELD(3, STATE_U32, struct object, u32),
    STATE_ARRAY(4, STATE_U32, struct object, array),
    STATE_FIELD(5, STATE_U64, struct object, u64),
    STATE_FIELD(6, STATE_BYTES, struct object, bytes),
    STATE_VARBYTES(7, struct object, var, var_len),
    STATE_SUB(8, struct object, in, &inner_table, 3),
};
static const struct state_table table = {.name = "object",
                                         .section = STATE_ID('F', 'U', 'Z', 'Z'),
                                         .version = 2,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = sizeof(fields) / sizeof(fields[0])};

static void check(const struct object *o)
{
    if (o->u8 > 5 || o->var_len > sizeof(o->var) || o->canary != 0xdeadbeef)
        abort();
}

static void load(const struct state_section *s)
{
    struct object o = {.canary = 0xdeadbeef};
    if (state_load(s, &table, &o, NULL))
        check(&o);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    err e = ERR_INIT;
    struct state_reader r = {.data = data, .len = size};
    struct state_section s;
    while (state_next(&r, &s, &e))
        load(&s);
    /* The CRC would hide the tables from the fuzzer: the whole input as one section's payload. */
    s = (struct state_section){
        .id = table.section, .version = 2, .least_reader = 1, .data = data, .len = size};
    load(&s);
    return 0;
}
