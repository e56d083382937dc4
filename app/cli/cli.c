/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/cli/cli.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int cli_fail(const err *e)
{
    fprintf(stderr, "vireoctl: %s\n", e->text[0] ? e->text : "it failed");
    return e->code == ERR_INVALID ? CLI_USAGE : CLI_FAILED;
}

int cli_usage(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("vireoctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputs(" (try --help)\n", stderr);
    va_end(ap);
    return CLI_USAGE;
}

static const struct cli_option *find_option(const struct cli_option *o, size_t n, const char *arg)
{
    size_t len = strcspn(arg, "=");
    for (size_t i = 0; i < n; i++)
        if (strlen(o[i].name) == len && !strncmp(o[i].name, arg, len))
            return &o[i];
    return NULL;
}

/* Takes argv[*i] (and its value); false: the message is out. */
static bool take_option(int argc, char **argv, int *i, const struct cli_option *options, size_t n)
{
    const struct cli_option *o = find_option(options, n, argv[*i]);
    const char *eq = strchr(argv[*i], '=');
    if (!o || (o->flag && eq)) {
        cli_usage("%s: unknown option %s", argv[0], argv[*i]);
        return false;
    }
    if (o->flag) {
        *o->flag = true;
        return true;
    }
    if (!eq && *i + 1 == argc) {
        cli_usage("%s: %s needs a value", argv[0], o->name);
        return false;
    }
    const char *value = eq ? eq + 1 : argv[++*i];
    if (o->value) {
        *o->value = value;
    } else if (o->list->n == CLI_LIST) {
        cli_usage("%s: %s may be given %d times at most", argv[0], o->name, CLI_LIST);
        return false;
    } else {
        o->list->v[o->list->n++] = value;
    }
    return true;
}

bool cli_parse(int argc, char **argv, const struct cli_option *options, size_t n, int *operands,
               const char *help)
{
    bool ended = false;
    *operands = 0;
    for (int i = 1; i < argc; i++) {
        if (!ended && !strcmp(argv[i], "--")) {
            ended = true;
        } else if (!ended && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            fputs(help, stdout);
            exit(CLI_OK);
        } else if (!ended && argv[i][0] == '-' && argv[i][1] == '-') {
            if (!take_option(argc, argv, &i, options, n))
                return false;
        } else {
            argv[1 + (*operands)++] = argv[i];
        }
    }
    return true;
}

bool cli_size(const char *text, uint64_t *bytes, err *e)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    uint64_t v = isdigit((unsigned char)*text) && strlen(text) < 20 ? strtoull(text, &end, 10) : 0;
    const char *u = end && *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
    unsigned shift = u ? 10u * (unsigned)(u - units + 1) : 0;
    bool tail = end && *end && (!u || (end[1] && strcmp(end + 1, "iB") && strcmp(end + 1, "B")));
    if (!end || tail || v > UINT64_MAX >> shift)
        return err_set(e, ERR_INVALID, "\"%.40s\" is not a size such as 512M or 20G", text);
    *bytes = v << shift;
    return true;
}

struct store *cli_store(void)
{
    err e = ERR_INIT;
    struct store *s = store_open(NULL, &e);
    if (!s)
        cli_fail(&e);
    return s;
}

bool cli_find(const struct store *s, const char *name_or_id, struct guid *out)
{
    err e = ERR_INIT;
    if (store_find(s, name_or_id, out, &e))
        return true;
    cli_fail(&e);
    return false;
}

/* ---- JSON ---- */

static void json_next(struct cli_json *j)
{
    if (!j->after_key && j->depth && !j->first[j->depth])
        fputc(',', j->f);
    j->first[j->depth] = false;
    j->after_key = false;
}

void cli_json_open(struct cli_json *j, char bracket)
{
    json_next(j);
    fputc(bracket, j->f);
    if (j->depth + 1 < sizeof j->first)
        j->first[++j->depth] = true;
}

void cli_json_close(struct cli_json *j, char bracket)
{
    fputc(bracket, j->f);
    if (j->depth)
        j->depth--;
    if (!j->depth)
        fputc('\n', j->f);
}

void cli_json_key(struct cli_json *j, const char *key)
{
    cli_json_string(j, key);
    fputc(':', j->f);
    j->after_key = true;
}

/* Bytes of the well-formed UTF-8 sequence at s, or 0. */
static size_t sequence(const unsigned char *s)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    if (s[0] > 0xf4 || (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
        (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

void cli_json_string(struct cli_json *j, const char *text)
{
    json_next(j);
    if (!text) {
        fputs("null", j->f);
        return;
    }
    fputc('"', j->f);
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        size_t n = sequence(s);
        if (!n)
            fputs("\xef\xbf\xbd", j->f);
        else if (*s == '"' || *s == '\\')
            fprintf(j->f, "\\%c", *s);
        else if (*s < 0x20)
            fprintf(j->f, "\\u%04x", *s);
        else
            fwrite(s, 1, n, j->f);
        s += n ? n : 1;
    }
    fputc('"', j->f);
}

void cli_json_number(struct cli_json *j, int64_t v)
{
    json_next(j);
    fprintf(j->f, "%" PRId64, v);
}

void cli_json_real(struct cli_json *j, double v)
{
    json_next(j);
    if (isfinite(v))
        fprintf(j->f, "%.9g", v);
    else
        fputs("null", j->f);
}

void cli_json_bool(struct cli_json *j, bool v)
{
    json_next(j);
    fputs(v ? "true" : "false", j->f);
}
