/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/keyfile.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    char *key;   /* NULL: a comment or a blank line, whose text is `value` */
    char *value; /* unescaped */
};

struct section {
    char *name; /* NULL for what stands before the first section */
    struct entry *entries;
    size_t n, cap;
};

struct keyfile {
    struct section *sections; /* [0] is the one without a name */
    size_t n, cap;
};

static bool no_memory(err *e)
{
    return err_set(e, ERR_NO_MEMORY, "Not enough memory for a configuration");
}

static bool grow(void **array, size_t *cap, size_t n, size_t size)
{
    if (n < *cap)
        return true;
    size_t want = *cap ? *cap * 2 : 8;
    void *p = reallocarray(*array, want, size);
    if (!p)
        return false;
    *array = p;
    *cap = want;
    return true;
}

static struct section *add_section(struct keyfile *k, const char *name, size_t len)
{
    AUTO(str) copy = name ? strndup(name, len) : NULL;
    if ((name && !copy) || !grow((void **)&k->sections, &k->cap, k->n, sizeof *k->sections))
        return NULL;
    struct section *s = &k->sections[k->n++];
    *s = (struct section){.name = TAKE(copy)};
    return s;
}

/* Takes key and value, which may be NULL only on failure to allocate (key: NULL is a comment). */
static bool add_entry(struct section *s, char *key, char *value)
{
    if (!value || !grow((void **)&s->entries, &s->cap, s->n, sizeof *s->entries)) {
        free(key);
        free(value);
        return false;
    }
    s->entries[s->n++] = (struct entry){key, value};
    return true;
}

static void clear_section(struct section *s)
{
    for (size_t i = 0; i < s->n; i++) {
        free(s->entries[i].key);
        free(s->entries[i].value);
    }
    free(s->entries);
    free(s->name);
}

struct keyfile *keyfile_new(err *e)
{
    AUTO(keyfile) k = calloc(1, sizeof *k);
    if (!k || !add_section(k, NULL, 0)) {
        no_memory(e);
        return NULL;
    }
    return TAKE(k);
}

void keyfile_free(struct keyfile *k)
{
    if (!k)
        return;
    for (size_t i = 0; i < k->n; i++)
        clear_section(&k->sections[i]);
    free(k->sections);
    free(k);
}

/* ---- reading ---- */

/* Length of the UTF-8 sequence at s, or 0: broken, overlong, surrogate, or a control character. */
static size_t utf8_len(const uint8_t *s, size_t left)
{
    if (s[0] < 0x80)
        return s[0] == '\t' || (s[0] >= 0x20 && s[0] != 0x7f);
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xf0 && s[1] < 0x90);
    bool outside = (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf4 && s[1] > 0x8f);
    bool c1 = s[0] == 0xc2 && s[1] < 0xa0;
    return overlong || outside || c1 ? 0 : n;
}

static bool text_ok(const char *s, size_t len)
{
    for (size_t i = 0; i < len;) {
        size_t n = utf8_len((const uint8_t *)s + i, len - i);
        if (!n)
            return false;
        i += n;
    }
    return true;
}

static void trim(const char **s, size_t *len)
{
    while (*len && ((*s)[0] == ' ' || (*s)[0] == '\t')) {
        (*s)++;
        (*len)--;
    }
    while (*len && ((*s)[*len - 1] == ' ' || (*s)[*len - 1] == '\t' || (*s)[*len - 1] == '\r'))
        (*len)--;
}

static bool name_ok(const char *s, size_t len)
{
    if (!len || len > KEYFILE_MAX_NAME)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
              (s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '_' ||
              (s[i] == ' ' && i > 0 && i + 1 < len)))
            return false;
    return true;
}

/* NULL: a backslash before something unknown (*bad set), or out of memory. */
static char *unescape(const char *s, size_t len, bool *bad)
{
    char *out = malloc(len + 1), *o = out;
    for (size_t i = 0; out && i < len; i++) {
        if (s[i] != '\\') {
            *o++ = s[i];
            continue;
        }
        i++;
        char c = i < len ? s[i] : 0;
        if (c != 'n' && c != 't' && c != 's' && c != '\\') {
            *bad = true;
            free(out);
            return NULL;
        }
        *o++ = (char)(c == 'n' ? '\n' : c == 't' ? '\t' : c == 's' ? ' ' : '\\');
    }
    if (out)
        *o = 0;
    return out;
}

static struct section *find_section(const struct keyfile *k, const char *name, size_t len)
{
    for (size_t i = 1; i < k->n; i++)
        if (strlen(k->sections[i].name) == len && !memcmp(k->sections[i].name, name, len))
            return &k->sections[i];
    return NULL;
}

static struct entry *find_entry(const struct section *s, const char *key, size_t len)
{
    for (size_t i = 0; s && i < s->n; i++)
        if (s->entries[i].key && strlen(s->entries[i].key) == len &&
            !memcmp(s->entries[i].key, key, len))
            return &s->entries[i];
    return NULL;
}

static bool parse_section(struct keyfile *k, const char *s, size_t len, unsigned line, err *e)
{
    if (s[len - 1] != ']')
        return err_set(e, ERR_CORRUPT, "line %u: a section has no closing bracket", line);
    const char *name = s + 1;
    size_t n = len - 2;
    if (!name_ok(name, n))
        return err_set(e, ERR_CORRUPT, "line %u: this is not a section's name", line);
    if (find_section(k, name, n))
        return err_set(e, ERR_CORRUPT, "line %u: section [%.*s] is there twice", line, (int)n,
                       name);
    return add_section(k, name, n) || no_memory(e);
}

static bool parse_pair(struct keyfile *k, const char *s, size_t len, unsigned line, err *e)
{
    const char *eq = memchr(s, '=', len);
    if (!eq)
        return err_set(e, ERR_CORRUPT, "line %u: neither a section nor \"key = value\"", line);
    const char *key = s, *value = eq + 1;
    size_t key_len = (size_t)(eq - s), value_len = len - key_len - 1;
    trim(&key, &key_len);
    trim(&value, &value_len);
    struct section *sec = &k->sections[k->n - 1];
    if (!name_ok(key, key_len))
        return err_set(e, ERR_CORRUPT, "line %u: this is not a key's name", line);
    if (!sec->name)
        return err_set(e, ERR_CORRUPT, "line %u: a key stands before the first section", line);
    if (find_entry(sec, key, key_len))
        return err_set(e, ERR_CORRUPT, "line %u: \"%.*s\" is there twice in [%s]", line,
                       (int)key_len, key, sec->name);
    bool bad = false;
    char *v = unescape(value, value_len, &bad);
    if (bad)
        return err_set(e, ERR_CORRUPT, "line %u: a backslash before an unknown letter", line);
    char *name = v ? strndup(key, key_len) : NULL;
    if (!name) {
        free(v);
        return no_memory(e);
    }
    return add_entry(sec, name, v) || no_memory(e);
}

static bool parse_line(struct keyfile *k, const char *s, size_t len, unsigned line, err *e)
{
    const char *t = s;
    size_t n = len;
    trim(&t, &n);
    if (!text_ok(t, n))
        return err_set(e, ERR_CORRUPT, "line %u: this is not plain UTF-8 text", line);
    if (!n || t[0] == '#' || t[0] == ';')
        return add_entry(&k->sections[k->n - 1], NULL, strndup(t, n)) || no_memory(e);
    return t[0] == '[' ? parse_section(k, t, n, line, e) : parse_pair(k, t, n, line, e);
}

struct keyfile *keyfile_parse(const char *text, size_t len, err *e)
{
    AUTO(keyfile) k = keyfile_new(e);
    if (!k)
        return NULL;
    if (len > KEYFILE_MAX_BYTES) {
        err_set(e, ERR_CORRUPT, "the file is too large to be a configuration");
        return NULL;
    }
    unsigned line = 0;
    for (size_t at = 0; at < len;) {
        const char *nl = memchr(text + at, '\n', len - at);
        size_t n = nl ? (size_t)(nl - text) - at : len - at;
        if (++line > KEYFILE_MAX_LINES) {
            err_set(e, ERR_CORRUPT, "the file has too many lines to be a configuration");
            return NULL;
        }
        if (!parse_line(k, text + at, n, line, e))
            return NULL;
        at += n + 1;
    }
    return TAKE(k);
}

/* ---- looking and changing ---- */

const char *keyfile_get(const struct keyfile *k, const char *section, const char *key)
{
    struct entry *en = find_entry(find_section(k, section, strlen(section)), key, strlen(key));
    return en ? en->value : NULL;
}

static struct section *need_section(struct keyfile *k, const char *name)
{
    struct section *s = find_section(k, name, strlen(name));
    if (s)
        return s;
    /* A blank line between sections, unless one is there. */
    struct section *last = &k->sections[k->n - 1];
    bool empty = k->n == 1 && !last->n;
    bool blank = last->n && !last->entries[last->n - 1].key && !*last->entries[last->n - 1].value;
    if (!empty && !blank && !add_entry(last, NULL, strdup("")))
        return NULL;
    return add_section(k, name, strlen(name));
}

/* New keys go before the blank lines that end a section. */
static void move_before_blanks(struct section *s)
{
    struct entry last = s->entries[s->n - 1];
    size_t at = s->n - 1;
    while (at > 0 && !s->entries[at - 1].key && !*s->entries[at - 1].value) {
        s->entries[at] = s->entries[at - 1];
        at--;
    }
    s->entries[at] = last;
}

static bool value_ok(const char *v)
{
    for (size_t n; *v; v += n) {
        n = *v == '\n' ? 1 : utf8_len((const uint8_t *)v, strlen(v));
        if (!n)
            return false;
    }
    return true;
}

bool keyfile_set(struct keyfile *k, const char *section, const char *key, const char *value, err *e)
{
    if (!name_ok(section, strlen(section)) || !name_ok(key, strlen(key)))
        return err_set(e, ERR_INVALID, "\"%s.%s\" is not a setting's name", section, key);
    if (!value_ok(value))
        return err_set(e, ERR_INVALID, "The value of \"%s.%s\" is not plain UTF-8 text", section,
                       key);
    struct section *s = need_section(k, section);
    struct entry *en = find_entry(s, key, strlen(key));
    char *copy = s ? strdup(value) : NULL;
    if (!copy)
        return no_memory(e);
    if (en) {
        free(en->value);
        en->value = copy;
        return true;
    }
    char *name = strdup(key);
    if (!name) {
        free(copy);
        return no_memory(e);
    }
    if (!add_entry(s, name, copy))
        return no_memory(e);
    move_before_blanks(s);
    return true;
}

void keyfile_unset(struct keyfile *k, const char *section, const char *key)
{
    struct section *s = find_section(k, section, strlen(section));
    struct entry *en = find_entry(s, key, strlen(key));
    if (!en)
        return;
    free(en->key);
    free(en->value);
    size_t i = (size_t)(en - s->entries);
    memmove(en, en + 1, (s->n - i - 1) * sizeof *en);
    s->n--;
}

void keyfile_drop_section(struct keyfile *k, const char *section)
{
    struct section *s = find_section(k, section, strlen(section));
    if (!s)
        return;
    clear_section(s);
    size_t i = (size_t)(s - k->sections);
    memmove(s, s + 1, (k->n - i - 1) * sizeof *s);
    k->n--;
}

bool keyfile_has_section(const struct keyfile *k, const char *section)
{
    return find_section(k, section, strlen(section)) != NULL;
}

size_t keyfile_sections(const struct keyfile *k)
{
    return k->n - 1;
}

const char *keyfile_section_name(const struct keyfile *k, size_t index)
{
    return index + 1 < k->n ? k->sections[index + 1].name : NULL;
}

/* ---- writing ---- */

static void put_value(FILE *f, const char *v)
{
    size_t n = strlen(v);
    for (size_t i = 0; i < n; i++) {
        bool edge = i == 0 || i + 1 == n;
        if (v[i] == '\n')
            fputs("\\n", f);
        else if (v[i] == '\t')
            fputs("\\t", f);
        else if (v[i] == '\\')
            fputs("\\\\", f);
        else if (v[i] == ' ' && edge)
            fputs("\\s", f);
        else
            fputc(v[i], f);
    }
}

static void put_section(FILE *f, const struct section *s)
{
    if (s->name)
        fprintf(f, "[%s]\n", s->name);
    for (size_t i = 0; i < s->n; i++) {
        const struct entry *en = &s->entries[i];
        if (!en->key) {
            fprintf(f, "%s\n", en->value);
            continue;
        }
        fprintf(f, "%s = ", en->key);
        put_value(f, en->value);
        fputc('\n', f);
    }
}

char *keyfile_format(const struct keyfile *k, err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) {
        no_memory(e);
        return NULL;
    }
    for (size_t i = 0; i < k->n; i++)
        put_section(f, &k->sections[i]);
    bool bad = ferror(f) != 0;
    if (fclose(f) || bad) {
        free(text);
        no_memory(e);
        return NULL;
    }
    return text;
}
