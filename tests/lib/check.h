/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The smallest unit-test frame: CHECK* report file, line and values, and go on; a program lists its
 * tests and returns check_run(). Runs all, or those named on the command line.
 */
#ifndef VIREO_TESTS_CHECK_H
#define VIREO_TESTS_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static unsigned check_failures;

#define CHECK(cond)                                                    \
    do {                                                               \
        if (!(cond)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
            check_failures++;                                          \
        }                                                              \
    } while (0)
#define CHECK_EQ(a, b)                                                                     \
    do {                                                                                   \
        uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                                   \
        if (a_ != b_) {                                                                    \
            fprintf(stderr, "%s:%d: %s is 0x%" PRIx64 ", %s is 0x%" PRIx64 "\n", __FILE__, \
                    __LINE__, #a, a_, #b, b_);                                             \
            check_failures++;                                                              \
        }                                                                                  \
    } while (0)
#define CHECK_STR(a, b)                                                                       \
    do {                                                                                      \
        const char *a_ = (a), *b_ = (b);                                                      \
        if (!a_ || !b_ || strcmp(a_, b_)) {                                                   \
            fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #a, \
                    a_ ? a_ : "(null)", b_ ? b_ : "(null)");                                  \
            check_failures++;                                                                 \
        }                                                                                     \
    } while (0)

struct check_test {
    const char *name;
    void (*fn)(void);
};
#define CHECK_TEST(fn) \
    {                  \
#fn, fn        \
    }

static inline int check_run(const struct check_test *tests, size_t n, int argc, char **argv)
{
    unsigned bad = 0, ran = 0;
    for (size_t i = 0; i < n; i++) {
        int wanted = argc < 2;
        for (int k = 1; k < argc; k++)
            wanted |= strcmp(argv[k], tests[i].name) == 0;
        if (!wanted)
            continue;
        unsigned before = check_failures;
        tests[i].fn();
        ran++;
        int failed = check_failures != before;
        bad += (unsigned)failed;
        printf("%s %s\n", failed ? "FAIL" : "ok  ", tests[i].name);
    }
    printf("%u of %u tests passed\n", ran - bad, ran);
    return bad || !ran;
}
#define CHECK_MAIN(tests)                                                        \
    int main(int argc, char **argv)                                              \
    {                                                                            \
        return check_run(tests, sizeof(tests) / sizeof((tests)[0]), argc, argv); \
    }

#endif
