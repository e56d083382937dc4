/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * diff [--seed N] [--count M] [--mode 64|32|16] [--map 0|1|2|3] [--opcode 0xNN] [--singles]
 *      [--case 0xN] [--host] [--ac] [--ac] [--keep-going N] [--self]
 * Runs cases until M instructions were compared (0: until stopped). A difference is printed with
 * the shortest part of its sequence that still differs. Exit status 1 after a difference.
 * --self compares the processor with itself, which checks the harness.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/diff/diff.h"

struct run {
    struct diff_options o;
    uint64_t seed, count, one;
    unsigned keep_going, differences;
    bool self;
    struct diff_native *native;
    struct diff_soft *soft;
    uint64_t insns, cases, skipped;
    struct diff_case cases_buf[DIFF_BATCH];
    struct diff_outcome native_out[DIFF_BATCH], soft_out;
};

static bool run_other(struct run *r, const struct diff_case *c, struct diff_outcome *out)
{
    if (r->self)
        return diff_native_run(r->native, c, 1, out);
    diff_soft_run(r->soft, c, out);
    return true;
}

static bool differs(struct run *r, const struct diff_case *c)
{
    struct diff_outcome native;
    return diff_native_run(r->native, c, 1, &native) && !native.skipped &&
           run_other(r, c, &r->soft_out) && !diff_same(c, &native, &r->soft_out, false);
}

/* Drops instructions while the case still differs. */
static void shrink(struct run *r, struct diff_case *c)
{
    struct diff_case smaller;
    for (bool again = true; again;) {
        again = false;
        for (unsigned k = 0; k < c->insns; k++)
            if (diff_without(c, k, &smaller) && differs(r, &smaller)) {
                *c = smaller;
                again = true;
            }
    }
}

static void report(struct run *r, struct diff_case *c)
{
    struct diff_outcome native;
    shrink(r, c);
    if (!diff_native_run(r->native, c, 1, &native) || !run_other(r, c, &r->soft_out))
        return;
    diff_print_case(c);
    printf("  ended by vector %u natively\n", native.vector);
    if (diff_same(c, &native, &r->soft_out, true))
        printf("  (the difference does not repeat)\n");
    fflush(stdout);
}

static bool run_batch(struct run *r, unsigned n)
{
    if (!diff_native_run(r->native, r->cases_buf, n, r->native_out))
        return false;
    for (unsigned k = 0; k < n; k++) {
        struct diff_case *c = &r->cases_buf[k];
        r->cases++;
        r->insns += c->insns;
        if (r->native_out[k].skipped) { /* a system call, or an endless loop */
            r->skipped++;
            continue;
        }
        if (!run_other(r, c, &r->soft_out))
            return false;
        if (diff_same(c, &r->native_out[k], &r->soft_out, false))
            continue;
        report(r, c);
        if (++r->differences >= r->keep_going)
            return false;
    }
    return true;
}

static bool parse(struct run *r, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        bool used = true;
        if (strcmp(a, "--singles") == 0)
            r->o.max_insns = 1, used = false;
        else if (strcmp(a, "--host") == 0)
            r->o.host = true, used = false;
        else if (strcmp(a, "--ac") == 0)
            r->o.ac = true, used = false;
        else if (strcmp(a, "--self") == 0)
            r->self = true, used = false;
        else if (!v)
            return false;
        else if (strcmp(a, "--seed") == 0)
            r->seed = strtoull(v, NULL, 0);
        else if (strcmp(a, "--count") == 0)
            r->count = strtoull(v, NULL, 0);
        else if (strcmp(a, "--case") == 0)
            r->one = strtoull(v, NULL, 0);
        else if (strcmp(a, "--map") == 0)
            r->o.map = (int)strtol(v, NULL, 0);
        else if (strcmp(a, "--opcode") == 0)
            r->o.opcode = (int)strtol(v, NULL, 0);
        else if (strcmp(a, "--keep-going") == 0)
            r->keep_going = (unsigned)strtoul(v, NULL, 0);
        else if (strcmp(a, "--mode") == 0)
            r->o.mode_mask = strcmp(v, "64") == 0 ? 1 : strcmp(v, "32") == 0 ? 2 : 4;
        else
            return false;
        i += used;
    }
    return true;
}

static void run_all(struct run *r)
{
    uint64_t rng = r->seed;
    while (!r->count || r->insns < r->count) {
        unsigned n = r->one ? 1 : DIFF_BATCH;
        for (unsigned k = 0; k < n; k++)
            diff_generate(&r->cases_buf[k], r->one ? r->one : diff_rng(&rng), &r->o);
        if (r->one)
            diff_print_case(&r->cases_buf[0]);
        if (!run_batch(r, n) || r->one)
            return;
    }
}

int main(int argc, char **argv)
{
    static struct run r = {
        .o = {.mode_mask = 7, .opcode = -1, .map = -1, .max_insns = 20},
        .seed = 1,
        .count = 100000,
        .keep_going = 1,
    };
    if (!parse(&r, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--seed N] [--count M] [--mode 64|32|16] [--map 0-3] "
                "[--opcode N] [--singles] [--case N] [--host] [--ac] [--keep-going N] [--self]\n",
                argv[0]);
        return 2;
    }
    r.native = diff_native_new();
    r.soft = r.self ? NULL : diff_soft_new(r.o.host);
    if (!r.native || (!r.self && !r.soft))
        return 2;
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    uint64_t wanted = r.count;
    run_all(&r);
    clock_gettime(CLOCK_MONOTONIC, &b);
    double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
    printf("seed %" PRIu64 ": %" PRIu64 " instructions in %" PRIu64 " cases (%" PRIu64
           " skipped), %u differences, %.1f s\n",
           r.seed, r.insns, r.cases, r.skipped, r.differences, s);
    bool incomplete = wanted && r.insns < wanted && !r.one;
    diff_soft_free(r.soft);
    diff_native_free(r.native);
    return r.differences || incomplete ? 1 : 0;
}
