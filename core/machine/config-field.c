/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/config-field.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/machine/config.h"

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for a configuration");
}

bool vm_config_string(char **member, const char *value, err *e)
{
    char *copy = value && *value ? strdup(value) : NULL;
    if (value && *value && !copy)
        return no_memory(e);
    free(*member);
    *member = copy;
    return true;
}

static bool parse_number(const struct field *f, const char *s, uint64_t *out, err *e)
{
    char *end = NULL;
    bool digits = isdigit((unsigned char)*s) && strlen(s) < 20;
    uint64_t v = digits ? strtoull(s, &end, 10) : 0;
    if (!digits || *end)
        return err_set(e, ERR_INVALID, "%s.%s: \"%.40s\" is not a number", f->section, f->key, s);
    if (v < f->min || v > f->max)
        return err_set(e, ERR_INVALID, "%s.%s: %" PRIu64 " is not between %" PRIu64 " and %" PRIu64,
                       f->section, f->key, v, f->min, f->max);
    *out = v;
    return true;
}

static bool parse_bool(const struct field *f, const char *s, bool *out, err *e)
{
    bool yes = !strcmp(s, "true") || !strcmp(s, "yes") || !strcmp(s, "on") || !strcmp(s, "1");
    bool no = !strcmp(s, "false") || !strcmp(s, "no") || !strcmp(s, "off") || !strcmp(s, "0");
    if (!yes && !no)
        return err_set(e, ERR_INVALID, "%s.%s: \"%.40s\" is neither true nor false", f->section,
                       f->key, s);
    *out = yes;
    return true;
}

static bool parse_choice(const struct field *f, const char *s, uint32_t *out, err *e)
{
    char list[160] = "";
    for (uint32_t i = 0; f->choices[i]; i++) {
        if (!strcmp(f->choices[i], s)) {
            *out = i;
            return true;
        }
        size_t n = strlen(list);
        snprintf(list + n, sizeof list - n, "%s%s", i ? ", " : "", f->choices[i]);
    }
    return err_set(e, ERR_INVALID, "%s.%s: \"%.40s\" is none of: %s", f->section, f->key, s, list);
}

static bool parse_mac(const struct field *f, const char *s, struct vm_mac *out, err *e)
{
    struct vm_mac m = {{0}};
    size_t n = 0;
    for (const char *p = s; n < 6; n++) {
        char sep = p[0] && p[1] ? p[2] : 0;
        if (!isxdigit((unsigned char)p[0]) || !isxdigit((unsigned char)p[1]) ||
            (n < 5 ? sep != ':' && sep != '-' : sep != 0))
            break;
        char two[3] = {p[0], p[1], 0};
        m.b[n] = (uint8_t)strtoul(two, NULL, 16);
        p += 3;
    }
    if (n < 6 || (m.b[0] & 1))
        return err_set(e, ERR_INVALID, "%s.%s: \"%.40s\" is not an adapter's hardware address",
                       f->section, f->key, s);
    *out = m;
    return true;
}

static bool parse_string(const struct field *f, const char *s, char **out, err *e)
{
    if (strlen(s) > f->max)
        return err_set(e, ERR_INVALID, "%s.%s: longer than %" PRIu64 " bytes", f->section, f->key,
                       f->max);
    return vm_config_string(out, s, e);
}

bool field_parse(const struct field *f, void *base, const char *s, err *e)
{
    void *at = (char *)base + f->offset;
    uint64_t v = 0;
    switch (f->type) {
    case FIELD_U32:
        if (!parse_number(f, s, &v, e))
            return false;
        *(uint32_t *)at = (uint32_t)v;
        return true;
    case FIELD_U64: return parse_number(f, s, at, e);
    case FIELD_BOOL: return parse_bool(f, s, at, e);
    case FIELD_CHOICE: return parse_choice(f, s, at, e);
    case FIELD_STR: return parse_string(f, s, at, e);
    case FIELD_MAC: return parse_mac(f, s, at, e);
    case FIELD_GUID:
        return guid_parse(s, at) ||
               err_set(e, ERR_INVALID, "%s.%s: \"%.40s\" is not an id", f->section, f->key, s);
    }
    return false;
}

char *field_format(const struct field *f, const void *base, err *e)
{
    const void *at = (const char *)base + f->offset;
    char buf[64] = "";
    const char *s = buf;
    const uint8_t *m = at;
    switch (f->type) {
    case FIELD_U32: snprintf(buf, sizeof buf, "%" PRIu32, *(const uint32_t *)at); break;
    case FIELD_U64: snprintf(buf, sizeof buf, "%" PRIu64, *(const uint64_t *)at); break;
    case FIELD_BOOL: s = *(const bool *)at ? "true" : "false"; break;
    case FIELD_CHOICE: s = f->choices[*(const uint32_t *)at]; break;
    case FIELD_STR: s = *(char *const *)at ? *(char *const *)at : ""; break;
    case FIELD_GUID: guid_format(at, buf); break;
    case FIELD_MAC:
        snprintf(buf, sizeof buf, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
                 m[5]);
        break;
    }
    char *copy = strdup(s);
    if (!copy)
        no_memory(e);
    return copy;
}

static void field_default(const struct field *f, void *base)
{
    void *at = (char *)base + f->offset;
    if (f->type == FIELD_U32 || f->type == FIELD_CHOICE)
        *(uint32_t *)at = (uint32_t)f->value;
    else if (f->type == FIELD_U64)
        *(uint64_t *)at = f->value;
    else if (f->type == FIELD_BOOL)
        *(bool *)at = f->value != 0;
}

bool field_is_default(const struct field *f, const void *base)
{
    const void *at = (const char *)base + f->offset;
    switch (f->type) {
    case FIELD_U32:
    case FIELD_CHOICE: return *(const uint32_t *)at == f->value;
    case FIELD_U64: return *(const uint64_t *)at == f->value;
    case FIELD_BOOL: return *(const bool *)at == (f->value != 0);
    case FIELD_STR: return !*(char *const *)at;
    case FIELD_GUID: return guid_is_zero(at);
    case FIELD_MAC: return !memcmp(at, &(struct vm_mac){{0}}, sizeof(struct vm_mac));
    }
    return false;
}

void fields_clear(const struct field *f, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++)
        if (f[i].type == FIELD_STR) {
            char **s = (char **)((char *)base + f[i].offset);
            free(*s);
            *s = NULL;
        }
}

void fields_default(const struct field *f, size_t n, void *base)
{
    for (size_t i = 0; i < n; i++)
        field_default(&f[i], base);
}
