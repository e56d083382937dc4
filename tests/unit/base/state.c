/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/state.h"

#include <stdlib.h>

#include "check.h"

struct channel {
    uint16_t count;
    bool armed;
};
struct dev {
    uint8_t reg;
    uint64_t big;
    uint32_t arr[3];
    struct channel ch[2];
    uint8_t fifo[16];
    size_t fifo_len;
    unsigned loads;
};

static const struct state_field channel_fields[] = {
    STATE_FIELD(1, STATE_U16, struct channel, count),
    STATE_FIELD(2, STATE_BOOL, struct channel, armed),
};
static const struct state_table channel_table = {
    .name = "channel", .fields = channel_fields, .nfields = 2};
static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct dev, reg, 9),
    STATE_FIELD(2, STATE_U64, struct dev, big),
    STATE_ARRAY(3, STATE_U32, struct dev, arr),
    STATE_SUB(4, struct dev, ch, &channel_table, 2),
    STATE_VARBYTES(5, struct dev, fifo, fifo_len),
};
static bool loaded(void *obj, uint16_t version, err *e)
{
    ((struct dev *)obj)->loads++;
    return true;
}
static const struct state_table table = {.name = "device",
                                         .section = STATE_ID('D', 'E', 'V', '0'),
                                         .version = 2,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = 5,
                                         .post_load = loaded};

static const struct dev sample = {.reg = 7,
                                  .big = 0x1122334455667788,
                                  .arr = {1, 2, 3},
                                  .ch = {{10, true}, {20, false}},
                                  .fifo = "hello",
                                  .fifo_len = 5};

static uint8_t *saved(size_t *len)
{
    struct state_writer *w = state_writer_new();
    struct dev d = sample;
    state_save(w, &table, 3, &d);
    const uint8_t *p = state_writer_data(w, len, NULL);
    uint8_t *copy = malloc(*len);
    memcpy(copy, p, *len);
    state_writer_free(w);
    return copy;
}

static void what_is_saved_comes_back(void)
{
    size_t len;
    uint8_t *bytes = saved(&len);
    struct state_reader r = {.data = bytes, .len = len};
    struct dev d = {0};
    err e = ERR_INIT;
    CHECK(state_restore(&r, &table, 3, &d, &e));
    CHECK_EQ(d.reg, 7);
    CHECK_EQ(d.big, sample.big);
    CHECK_EQ(d.arr[2], 3);
    CHECK_EQ(d.ch[0].count, 10);
    CHECK(d.ch[0].armed && !d.ch[1].armed);
    CHECK_EQ(d.fifo_len, 5);
    CHECK(memcmp(d.fifo, "hello", 5) == 0);
    CHECK_EQ(d.loads, 1);
    CHECK(!state_restore(&r, &table, 4, &d, &e));
    CHECK_EQ(e.code, ERR_NOT_FOUND);
    free(bytes);
}

static void every_flipped_bit_is_refused(void)
{
    size_t len;
    uint8_t *bytes = saved(&len);
    for (size_t bit = 16 * 8; bit < len * 8; bit++) { /* length, checksum and payload */
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct state_reader r = {.data = bytes, .len = len};
        struct dev d = {0};
        err e = ERR_INIT;
        CHECK(!state_restore(&r, &table, 3, &d, &e));
        CHECK(e.text[0]);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < len; cut++) {
        struct state_reader r = {.data = bytes, .len = cut};
        struct dev d = {0};
        CHECK(!state_restore(&r, &table, 3, &d, NULL));
    }
    free(bytes);
}

/* A state that is well formed but lies: values out of range, long arrays, tags of the future. */
static bool try_field(uint16_t tag, const void *data, size_t len, uint16_t version, uint16_t least)
{
    struct state_writer *w = state_writer_new();
    state_begin(w, table.section, 0, version, least);
    state_put(w, tag, data, len);
    state_end(w);
    size_t n;
    const uint8_t *p = state_writer_data(w, &n, NULL);
    struct state_reader r = {.data = p, .len = n};
    struct dev d = {0};
    bool ok = state_restore(&r, &table, 0, &d, NULL);
    state_writer_free(w);
    return ok;
}

static void lies_are_refused(void)
{
    static const uint8_t zero[64];
    CHECK(try_field(1, "\x09", 1, 2, 1));
    CHECK(!try_field(1, "\x0a", 1, 2, 1));
    CHECK(!try_field(1, zero, 2, 2, 1));
    CHECK(!try_field(3, zero, 16, 2, 1));
    CHECK(try_field(5, zero, 16, 2, 1));
    CHECK(!try_field(5, zero, 17, 2, 1));
    CHECK(!try_field(4, "\xff\xff\xff\xff", 4, 2, 1));
    CHECK(!try_field(4, zero, 12, 2, 1));
    CHECK(try_field(4, zero, 8, 2, 1));
    CHECK(try_field(77, zero, 3, 2, 1));
    CHECK(try_field(1, zero, 1, 9, 2));
    CHECK(!try_field(1, zero, 1, 9, 3));
}

static const struct check_test tests[] = {CHECK_TEST(what_is_saved_comes_back),
                                          CHECK_TEST(every_flipped_bit_is_refused),
                                          CHECK_TEST(lies_are_refused)};
CHECK_MAIN(tests)
