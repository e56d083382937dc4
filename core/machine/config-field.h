/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One setting of a configuration: where it is in its struct, its range and default, and how it is
 * read from text and written. The tables are config.c's. Errors name section and key.
 */
#ifndef VIREO_MACHINE_CONFIG_FIELD_H
#define VIREO_MACHINE_CONFIG_FIELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum field_type {
    FIELD_U32,
    FIELD_U64,
    FIELD_BOOL,
    FIELD_CHOICE, /* a uint32_t */
    FIELD_STR,    /* malloc'ed, NULL where it is not set */
    FIELD_GUID,
    FIELD_MAC,
};
enum field_flags {
    FIELD_LIVE = 1u << 0,   /* may change while the machine runs */
    FIELD_ALWAYS = 1u << 1, /* written even when it is the default */
};

struct field {
    const char *section, *key;
    enum field_type type;
    size_t offset;            /* in struct vm_config, vm_disk, vm_adapter or vm_port_config */
    uint64_t min, max, value; /* strings: max is the length; value is the default */
    const char *const *choices;
    unsigned flags; /* enum field_flags */
    const char *help;
};

/* `base` is the struct that the field is in. It is unchanged on failure. */
bool field_parse(const struct field *f, void *base, const char *s, err *e);
/* malloc'ed; "" for a string that is not set. */
char *field_format(const struct field *f, const void *base, err *e);
bool field_is_default(const struct field *f, const void *base);

/* Frees the strings. */
void fields_clear(const struct field *f, size_t n, void *base);
/* Numbers and choices; strings, ids and addresses stay as they are. */
void fields_default(const struct field *f, size_t n, void *base);

#endif
