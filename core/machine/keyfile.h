/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * INI-like text that people may read and edit: "[section]" lines, "key = value" lines, comment
 * lines that begin with '#' or ';'. Comments, order and unknown keys survive a read and a write.
 * In values \n, \t, \\ and \s (a space at either end) are escapes. Text is UTF-8 without control
 * characters. The input is hostile: size, lines and nesting are bounded, errors name the line.
 * Thread: one keyfile belongs to one thread.
 */
#ifndef VIREO_MACHINE_KEYFILE_H
#define VIREO_MACHINE_KEYFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/cleanup.h"
#include "core/base/err.h"

enum { KEYFILE_MAX_BYTES = 1 << 20, KEYFILE_MAX_LINES = 16384, KEYFILE_MAX_NAME = 64 };

struct keyfile;

struct keyfile *keyfile_new(err *e);
/* Refuses: a second section of the same name, a key twice in one section, a key before any
 * section. */
struct keyfile *keyfile_parse(const char *text, size_t len, err *e);
void keyfile_free(struct keyfile *k);
AUTO_DEFINE(keyfile, struct keyfile *, keyfile_free)

/* Borrowed until the next change; NULL: not there. */
const char *keyfile_get(const struct keyfile *k, const char *section, const char *key);
/* Adds section and key where missing. */
bool keyfile_set(struct keyfile *k, const char *section, const char *key, const char *value,
                 err *e);
void keyfile_unset(struct keyfile *k, const char *section, const char *key);
void keyfile_drop_section(struct keyfile *k, const char *section);

bool keyfile_has_section(const struct keyfile *k, const char *section);
size_t keyfile_sections(const struct keyfile *k);
const char *keyfile_section_name(const struct keyfile *k, size_t index);

/* The whole text, malloc'ed; NULL: out of memory. */
char *keyfile_format(const struct keyfile *k, err *e);

#endif
