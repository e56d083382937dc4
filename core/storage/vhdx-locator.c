/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/storage/vhdx-locator.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/base/cleanup.h"
#include "core/storage/utf16.h"
#include "core/storage/vhdx-format.h"

enum { MAX_KEYS = 64 };

/* ---- building ---- */

struct builder {
    uint8_t *buf;
    size_t at;
    unsigned n;
    bool failed;
};

static uint32_t put_text(struct builder *b, const char *s, uint16_t *len)
{
    size_t n = 0;
    AUTO(buf) text = utf16_from_utf8(s, &n);
    uint32_t at = (uint32_t)b->at;
    if (!text || n > 16384 || b->at + n > VHDX_TABLE_SIZE) {
        b->failed = true;
        return 0;
    }
    memcpy(b->buf + b->at, text, n);
    b->at += n;
    *len = (uint16_t)n;
    return at;
}

static void put_pair(struct builder *b, const char *key, const char *value)
{
    struct vhdx_locator_entry en = {0};
    en.key_offset = put_text(b, key, &en.key_length);
    en.value_offset = put_text(b, value, &en.value_length);
    memcpy(b->buf + sizeof(struct vhdx_locator) + b->n++ * sizeof en, &en, sizeof en);
}

static void put_guid(struct builder *b, const char *key, const struct guid *id)
{
    char text[GUID_STR_LEN + 3] = "{";
    guid_format(id, text + 1);
    strcat(text, "}");
    put_pair(b, key, text);
}

static void put_relative(struct builder *b, const char *path)
{
    AUTO(str) win = malloc(strlen(path) + 3);
    if (!win) {
        b->failed = true;
        return;
    }
    strcpy(win, path[0] == '.' ? "" : ".\\");
    strcat(win, path);
    for (char *p = win; *p; p++)
        if (*p == '/')
            *p = '\\';
    put_pair(b, "relative_path", win);
}

uint8_t *vhdx_locator_build(const char *path, const char *absolute, const struct guid *id,
                            const struct guid *id2, size_t *len, err *e)
{
    static const struct guid type = VHDX_GUID_LOCATOR_VHDX;
    struct builder b = {.buf = calloc(1, VHDX_TABLE_SIZE)};
    if (!b.buf) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a parent's name");
        return NULL;
    }
    b.at = sizeof(struct vhdx_locator) + 4 * sizeof(struct vhdx_locator_entry);
    put_guid(&b, "parent_linkage", id);
    if (id2 && !guid_is_zero(id2))
        put_guid(&b, "parent_linkage2", id2);
    if (path[0] != '/')
        put_relative(&b, path);
    if (path[0] == '/' || absolute)
        put_pair(&b, "absolute_win32_path", path[0] == '/' ? path : absolute);
    struct vhdx_locator h = {.type = type, .count = (uint16_t)b.n};
    memcpy(b.buf, &h, sizeof h);
    if (b.failed) {
        free(b.buf);
        err_set(e, ERR_INVALID, "The parent's name is too long: %s", path);
        return NULL;
    }
    *len = b.at;
    return b.buf;
}

/* ---- parsing ---- */

static char *text_at(const uint8_t *p, size_t len, uint32_t off, uint16_t n)
{
    return range_within(off, n, len) ? utf16_to_utf8(p + off, n, false) : NULL;
}

struct pairs {
    char *relative, *absolute, *volume;
};

static bool take_pair(struct pairs *s, struct parent_ref *out, const char *key, char *value)
{
    if (!strcmp(key, "parent_linkage"))
        return guid_parse(value, &out->id);
    if (!strcmp(key, "parent_linkage2"))
        return guid_parse(value, &out->id2);
    char **to = !strcmp(key, "relative_path")         ? &s->relative
                : !strcmp(key, "absolute_win32_path") ? &s->absolute
                : !strcmp(key, "volume_path")         ? &s->volume
                                                      : NULL;
    if (to && !*to)
        *to = strdup(value);
    return true;
}

static bool add_all(struct pairs *s, struct parent_ref *out)
{
    const char *show = s->absolute ? s->absolute : s->relative ? s->relative : s->volume;
    return (!s->relative || parent_ref_add(out, s->relative)) &&
           (!s->absolute || parent_ref_add(out, s->absolute)) &&
           (!s->volume || parent_ref_add(out, s->volume)) && show &&
           (out->stored = strdup(show)) != NULL;
}

bool vhdx_locator_parse(const uint8_t *p, size_t len, struct parent_ref *out, const char *name,
                        err *e)
{
    static const struct guid type = VHDX_GUID_LOCATOR_VHDX;
    struct vhdx_locator h;
    struct pairs s = {0};
    if (len < sizeof h)
        return err_set(e, ERR_CORRUPT, "%s: what it says about its parent is damaged", name);
    memcpy(&h, p, sizeof h);
    if (!guid_equal(&h.type, &type))
        return err_set(e, ERR_UNSUPPORTED, "%s names its parent in a way that is not known", name);
    bool ok = h.count <= MAX_KEYS &&
              range_within(sizeof h, h.count * sizeof(struct vhdx_locator_entry), len);
    for (unsigned i = 0; ok && i < h.count; i++) {
        struct vhdx_locator_entry en;
        memcpy(&en, p + sizeof h + i * sizeof en, sizeof en);
        AUTO(str) key = text_at(p, len, en.key_offset, en.key_length);
        AUTO(str) value = text_at(p, len, en.value_offset, en.value_length);
        ok = key && value && take_pair(&s, out, key, value);
    }
    ok = ok && !guid_is_zero(&out->id) && add_all(&s, out);
    free(s.relative);
    free(s.absolute);
    free(s.volume);
    return ok || err_set(e, ERR_CORRUPT, "%s: what it says about its parent is damaged", name);
}
