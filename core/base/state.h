/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Saved states. A device describes what it saves in a table of fields with permanent tags; saving
 * writes a section (who, which instance, version, CRC-32C, tagged fields), restoring reads one as
 * hostile input: lengths, counts and enumerations are checked before use, unknown tags are skipped
 * unless their REQUIRED bit is set, absent tags leave the object's present (reset) value.
 *
 * Stream: sections back to back, each
 *     u32 magic "VSec"  u32 section id  u32 instance  u16 version  u16 least reader version
 *     u32 payload bytes u32 CRC-32C of the payload
 * payload: fields back to back, each { u16 tag, u16 flags, u32 bytes, data }. All little-endian.
 * Source: Vireo's own; docs/ARCHITECTURE.md "Saved states" lists the section ids.
 * Thread: any, one at a time per reader or writer.
 */
#ifndef VIREO_BASE_STATE_H
#define VIREO_BASE_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

/* ---- the stream ---- */

struct state_writer; /* grows a memory buffer; remembers the first failure */
struct state_writer *state_writer_new(void); /* NULL: no memory */
void state_writer_free(struct state_writer *w);
/* Borrowed until the next write or free; NULL and *e set if any write failed. */
const uint8_t *state_writer_data(struct state_writer *w, size_t *len, err *e);

void state_begin(struct state_writer *w, uint32_t section, uint32_t instance, uint16_t version,
                 uint16_t least_reader);
void state_put(struct state_writer *w, uint16_t tag, const void *data, size_t len);
void state_put_u64(struct state_writer *w, uint16_t tag, uint64_t v);
void state_end(struct state_writer *w);

#define STATE_REQUIRED 1u /* field flag: a reader that does not know the tag must refuse */

struct state_reader {
    const uint8_t *data; /* borrowed */
    size_t len, pos;
};
struct state_section {
    uint32_t id, instance;
    uint16_t version, least_reader;
    const uint8_t *data; /* borrowed from the reader's bytes; CRC already checked */
    size_t len;
};
struct state_field_view {
    uint16_t tag, flags;
    const uint8_t *data;
    uint32_t len;
};
/* False at the end (e->code == ERR_NONE) or on damage. */
bool state_next(struct state_reader *r, struct state_section *out, err *e);
/* Finds a section by id and instance in the whole stream; ERR_NOT_FOUND if absent. */
bool state_find(const struct state_reader *r, uint32_t id, uint32_t instance,
                struct state_section *out, err *e);
/* Steps through a section's fields; *pos starts at 0. False at the end or on damage, as above. */
bool state_field_next(const struct state_section *s, size_t *pos, struct state_field_view *out,
                      err *e);

/* ---- tables ---- */

enum state_kind {
    STATE_U8,
    STATE_U16,
    STATE_U32,
    STATE_U64,
    STATE_BOOL,   /* read as 0 or 1, anything else refused */
    STATE_BYTES,  /* `size` bytes exactly */
    STATE_VBYTES, /* *(size_t *)(obj + count_off) bytes, at most `size`; inline array */
    STATE_TABLE,  /* an embedded struct by `table`, `count` of them (1 if 0), stride `size` */
};

struct state_field {
    uint16_t tag; /* permanent, unique in its table, never reused */
    uint8_t kind;
    uint8_t flags;
    uint32_t offset;    /* in the object */
    uint32_t size;      /* see kind */
    uint32_t count;     /* for integers and TABLE: array length, 0 = 1 */
    uint32_t count_off; /* VBYTES: offset of the size_t that holds the length */
    uint64_t max;       /* integers: largest value accepted, 0 = any */
    const struct state_table *table;
};

struct state_table {
    const char *name; /* for messages: "serial port" */
    uint32_t section; /* permanent id, STATE_ID('U','A','R','T') */
    uint16_t version, least_reader;
    const struct state_field *fields;
    size_t nfields;
    /* Called on the object before its fields are written; may be NULL. */
    void (*pre_save)(void *obj);
    /* Called after all fields were read: validates what depends on several fields and rebuilds what
     * is derived. False refuses the state. May be NULL. */
    bool (*post_load)(void *obj, uint16_t version, err *e);
};

#define STATE_ID(a, b, c, d) \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define STATE_FIELD(tag_, kind_, type, member)                            \
    {                                                                     \
        .tag = (tag_), .kind = (kind_), .offset = offsetof(type, member), \
        .size = sizeof(((type *)0)->member)                               \
    }
#define STATE_FIELD_MAX(tag_, kind_, type, member, max_)                  \
    {                                                                     \
        .tag = (tag_), .kind = (kind_), .offset = offsetof(type, member), \
        .size = sizeof(((type *)0)->member), .max = (max_)                \
    }
/* An array member of integers. */
#define STATE_ARRAY(tag_, kind_, type, member)                                \
    {                                                                         \
        .tag = (tag_), .kind = (kind_), .offset = offsetof(type, member),     \
        .size = sizeof(((type *)0)->member[0]),                               \
        .count = sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]) \
    }
#define STATE_SUB(tag_, type, member, table_, count_)                                        \
    {                                                                                        \
        .tag = (tag_), .kind = STATE_TABLE, .offset = offsetof(type, member),                \
        .size = sizeof(((type *)0)->member) / (count_), .count = (count_), .table = (table_) \
    }
#define STATE_VARBYTES(tag_, type, member, len_member)                               \
    {                                                                                \
        .tag = (tag_), .kind = STATE_VBYTES, .offset = offsetof(type, member),       \
        .size = sizeof(((type *)0)->member), .count_off = offsetof(type, len_member) \
    }

void state_save(struct state_writer *w, const struct state_table *t, uint32_t instance, void *obj);
/* On failure the object may be half written: the caller throws the machine away. */
bool state_load(const struct state_section *s, const struct state_table *t, void *obj, err *e);
/* state_find and state_load in one. */
bool state_restore(const struct state_reader *r, const struct state_table *t, uint32_t instance,
                   void *obj, err *e);

#endif
