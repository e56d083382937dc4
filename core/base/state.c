/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/state.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/crc32c.h"

#define SECTION_MAGIC STATE_ID('V', 'S', 'e', 'c')
enum { SECTION_HEADER = 24, FIELD_HEADER = 8, NESTING_LIMIT = 4 };

struct state_writer {
    uint8_t *data;
    size_t len, cap;
    size_t open; /* offset of the section being written, or SIZE_MAX */
    bool failed;
};

struct state_writer *state_writer_new(void)
{
    struct state_writer *w = calloc(1, sizeof *w);
    if (w)
        w->open = SIZE_MAX;
    return w;
}

void state_writer_free(struct state_writer *w)
{
    if (!w)
        return;
    free(w->data);
    free(w);
}

const uint8_t *state_writer_data(struct state_writer *w, size_t *len, err *e)
{
    if (w->failed) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory to save the state");
        return NULL;
    }
    *len = w->len;
    return w->data ? w->data : (const uint8_t *)"";
}

/* Room for len more bytes, or NULL (and the writer has failed). */
static uint8_t *grow(struct state_writer *w, size_t len)
{
    size_t need;
    if (w->failed || !checked_add(w->len, len, &need)) {
        w->failed = true;
        return NULL;
    }
    if (need > w->cap) {
        size_t cap = w->cap ? w->cap : 4096;
        while (cap < need)
            cap *= 2;
        uint8_t *data = realloc(w->data, cap);
        if (!data) {
            w->failed = true;
            return NULL;
        }
        w->data = data;
        w->cap = cap;
    }
    uint8_t *p = w->data + w->len;
    w->len = need;
    return p;
}

void state_begin(struct state_writer *w, uint32_t section, uint32_t instance, uint16_t version,
                 uint16_t least_reader)
{
    size_t at = w->len;
    uint8_t *p = grow(w, SECTION_HEADER);
    if (!p)
        return;
    put_le32(p, SECTION_MAGIC);
    put_le32(p + 4, section);
    put_le32(p + 8, instance);
    put_le16(p + 12, version);
    put_le16(p + 14, least_reader);
    w->open = at;
}

static void put_flags(struct state_writer *w, uint16_t tag, uint16_t flags, const void *data,
                      size_t len)
{
    uint8_t *p = len > UINT32_MAX ? NULL : grow(w, FIELD_HEADER + len);
    if (!p) {
        w->failed = true;
        return;
    }
    put_le16(p, tag);
    put_le16(p + 2, flags);
    put_le32(p + 4, (uint32_t)len);
    if (len)
        memcpy(p + FIELD_HEADER, data, len);
}

void state_put(struct state_writer *w, uint16_t tag, const void *data, size_t len)
{
    put_flags(w, tag, 0, data, len);
}

void state_put_u64(struct state_writer *w, uint16_t tag, uint64_t v)
{
    uint8_t b[8];
    put_le64(b, v);
    state_put(w, tag, b, sizeof b);
}

void state_end(struct state_writer *w)
{
    if (w->failed || w->open == SIZE_MAX)
        return;
    size_t len = w->len - w->open - SECTION_HEADER;
    if (len > UINT32_MAX) {
        w->failed = true;
        return;
    }
    uint8_t *p = w->data + w->open;
    put_le32(p + 16, (uint32_t)len);
    put_le32(p + 20, crc32c(0, p + SECTION_HEADER, len));
    w->open = SIZE_MAX;
}

/* ---- reading ---- */

bool state_next(struct state_reader *r, struct state_section *out, err *e)
{
    if (e)
        e->code = ERR_NONE;
    if (r->pos == r->len)
        return false;
    if (r->len - r->pos < SECTION_HEADER)
        return err_set(e, ERR_CORRUPT, "The saved state is cut short");
    const uint8_t *p = r->data + r->pos;
    uint32_t len = get_le32(p + 16);
    if (get_le32(p) != SECTION_MAGIC)
        return err_set(e, ERR_CORRUPT,
                       "The saved state is damaged (no section where one should be)");
    if (len > r->len - r->pos - SECTION_HEADER)
        return err_set(e, ERR_CORRUPT, "The saved state is cut short");
    if (crc32c(0, p + SECTION_HEADER, len) != get_le32(p + 20))
        return err_set(e, ERR_CORRUPT, "The saved state is damaged (checksum of section %.4s)",
                       (const char *)(p + 4));
    *out = (struct state_section){.id = get_le32(p + 4),
                                  .instance = get_le32(p + 8),
                                  .version = get_le16(p + 12),
                                  .least_reader = get_le16(p + 14),
                                  .data = p + SECTION_HEADER,
                                  .len = len};
    r->pos += SECTION_HEADER + len;
    return true;
}

bool state_find(const struct state_reader *r, uint32_t id, uint32_t instance,
                struct state_section *out, err *e)
{
    struct state_reader it = {.data = r->data, .len = r->len};
    err local = ERR_INIT;
    while (state_next(&it, out, &local))
        if (out->id == id && out->instance == instance)
            return true;
    if (local.code == ERR_NONE) {
        uint8_t name[4];
        put_le32(name, id);
        return err_set(e, ERR_NOT_FOUND, "The saved state has no section %.4s %u",
                       (const char *)name, instance);
    }
    if (e)
        *e = local;
    return false;
}

bool state_field_next(const struct state_section *s, size_t *pos, struct state_field_view *out,
                      err *e)
{
    if (e)
        e->code = ERR_NONE;
    if (*pos == s->len)
        return false;
    if (*pos > s->len || s->len - *pos < FIELD_HEADER)
        return err_set(e, ERR_CORRUPT, "The saved state is damaged (field header)");
    const uint8_t *p = s->data + *pos;
    uint32_t len = get_le32(p + 4);
    if (len > s->len - *pos - FIELD_HEADER)
        return err_set(e, ERR_CORRUPT, "The saved state is damaged (field length)");
    *out = (struct state_field_view){
        .tag = get_le16(p), .flags = get_le16(p + 2), .data = p + FIELD_HEADER, .len = len};
    *pos += FIELD_HEADER + len;
    return true;
}

/* ---- tables ---- */

static void save_fields(struct state_writer *w, const struct state_table *t, void *obj);

static void save_table_field(struct state_writer *w, const struct state_field *f, uint8_t *base)
{
    uint32_t n = f->count ? f->count : 1;
    size_t at = w->len;
    put_flags(w, f->tag, f->flags, NULL, 0);
    for (uint32_t i = 0; i < n; i++) { /* elements: { u32 bytes, fields } */
        size_t item = w->len;
        if (!grow(w, 4))
            return;
        save_fields(w, f->table, base + (size_t)i * f->size);
        if (!w->failed)
            put_le32(w->data + item, (uint32_t)(w->len - item - 4));
    }
    if (!w->failed)
        put_le32(w->data + at + 4, (uint32_t)(w->len - at - FIELD_HEADER));
}

static void save_fields(struct state_writer *w, const struct state_table *t, void *obj)
{
    if (t->pre_save)
        t->pre_save(obj);
    for (size_t i = 0; i < t->nfields; i++) {
        const struct state_field *f = &t->fields[i];
        uint8_t *p = (uint8_t *)obj + f->offset;
        if (f->kind == STATE_TABLE) {
            save_table_field(w, f, p);
            continue;
        }
        size_t len = (size_t)f->size * (f->count ? f->count : 1);
        if (f->kind == STATE_VBYTES)
            memcpy(&len, (uint8_t *)obj + f->count_off, sizeof len);
        put_flags(w, f->tag, f->flags, p, len);
    }
}

void state_save(struct state_writer *w, const struct state_table *t, uint32_t instance, void *obj)
{
    state_begin(w, t->section, instance, t->version, t->least_reader);
    save_fields(w, t, obj);
    state_end(w);
}

static bool load_fields(const struct state_section *s, const struct state_table *t, void *obj,
                        unsigned depth, err *e);

static bool damaged(const struct state_table *t, const struct state_field *f, const char *what,
                    err *e)
{
    return err_set(e, ERR_CORRUPT, "The saved state of the %s is damaged (field %u: %s)", t->name,
                   f->tag, what);
}

static bool load_table_field(const struct state_field_view *v, const struct state_table *t,
                             const struct state_field *f, uint8_t *base, uint16_t version,
                             unsigned depth, err *e)
{
    uint32_t n = f->count ? f->count : 1;
    size_t pos = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (v->len - pos < 4 || get_le32(v->data + pos) > v->len - pos - 4)
            return damaged(t, f, "element cut short", e);
        struct state_section sub = {
            .data = v->data + pos + 4, .len = get_le32(v->data + pos), .version = version};
        if (!load_fields(&sub, f->table, base + (size_t)i * f->size, depth + 1, e))
            return false;
        pos += 4 + sub.len;
    }
    return pos == v->len || damaged(t, f, "too many elements", e);
}

static uint64_t integer_at(const uint8_t *p, uint32_t size)
{
    switch (size) {
    case 1: return *p;
    case 2: return get_le16(p);
    case 4: return get_le32(p);
    default: return get_le64(p);
    }
}

static bool load_integers(const struct state_field_view *v, const struct state_table *t,
                          const struct state_field *f, uint8_t *p, err *e)
{
    uint64_t max = f->kind == STATE_BOOL ? 1 : f->max;
    if (v->len != (size_t)f->size * (f->count ? f->count : 1))
        return damaged(t, f, "wrong size", e);
    for (uint32_t i = 0; max && i < v->len; i += f->size)
        if (integer_at(v->data + i, f->size) > max)
            return damaged(t, f, "value out of range", e);
    memcpy(p, v->data, v->len);
    return true;
}

static bool load_field(const struct state_field_view *v, const struct state_table *t,
                       const struct state_field *f, void *obj, uint16_t version, unsigned depth,
                       err *e)
{
    uint8_t *p = (uint8_t *)obj + f->offset;
    switch ((enum state_kind)f->kind) {
    case STATE_TABLE: return load_table_field(v, t, f, p, version, depth, e);
    case STATE_BYTES:
        if (v->len != f->size)
            return damaged(t, f, "wrong size", e);
        memcpy(p, v->data, v->len);
        return true;
    case STATE_VBYTES:
        if (v->len > f->size)
            return damaged(t, f, "too long", e);
        memcpy(p, v->data, v->len);
        memcpy((uint8_t *)obj + f->count_off, &(size_t){v->len}, sizeof(size_t));
        return true;
    default: return load_integers(v, t, f, p, e);
    }
}

static const struct state_field *field_of(const struct state_table *t, uint16_t tag)
{
    for (size_t i = 0; i < t->nfields; i++)
        if (t->fields[i].tag == tag)
            return &t->fields[i];
    return NULL;
}

static bool load_fields(const struct state_section *s, const struct state_table *t, void *obj,
                        unsigned depth, err *e)
{
    struct state_field_view v;
    size_t pos = 0;
    err local = ERR_INIT;
    if (depth > NESTING_LIMIT)
        return err_set(e, ERR_CORRUPT, "The saved state of the %s is nested too deeply", t->name);
    while (state_field_next(s, &pos, &v, &local)) {
        const struct state_field *f = field_of(t, v.tag);
        if (!f && (v.flags & STATE_REQUIRED))
            return err_set(e, ERR_UNSUPPORTED,
                           "The saved state of the %s comes from a newer version of Vireo",
                           t->name);
        if (f && !load_field(&v, t, f, obj, s->version, depth, e))
            return false;
    }
    if (local.code != ERR_NONE) {
        if (e)
            *e = local;
        return false;
    }
    return !t->post_load || t->post_load(obj, s->version, e);
}

bool state_load(const struct state_section *s, const struct state_table *t, void *obj, err *e)
{
    if (s->id != t->section)
        return err_set(e, ERR_CORRUPT, "The saved state has no %s", t->name);
    if (s->least_reader > t->version)
        return err_set(e, ERR_UNSUPPORTED,
                       "The saved state of the %s comes from a newer version of Vireo", t->name);
    return load_fields(s, t, obj, 0, e);
}

bool state_restore(const struct state_reader *r, const struct state_table *t, uint32_t instance,
                   void *obj, err *e)
{
    struct state_section s;
    if (!state_find(r, t->section, instance, &s, e))
        return err_prefix(e, "Restoring the %s", t->name);
    return state_load(&s, t, obj, e);
}
