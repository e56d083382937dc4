/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Drives a fuzz target without libFuzzer: every file of the corpus folder, then a bounded number of
 * deterministic mutations of them. Used as a test in ordinary builds.
 *     replay-<target> CORPUS [--runs N] [--seconds S] [--seed N] [FILE...]
 * With FILEs only these are run. The same seed and corpus give the same inputs. An input that makes
 * the target die or take longer than 20 s is written to crash-<target> in $VIREO_FUZZ_OUT or the
 * current folder, whence it can be given as FILE.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv);
/* ASan's and UBSan's, where built in. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*fn)(void));

enum { INPUT_MAX = 64 * 1024, INPUT_SECONDS = 20 };

struct input {
    uint8_t *data;
    size_t len;
};

static struct input *corpus;
static size_t ncorpus;
static uint64_t rng_state;

/* What is running now, for the crash file. */
static const uint8_t *current;
static size_t current_len;
static char crash_path[4096];

static uint64_t rng(void)
{
    uint64_t z = (rng_state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n ? (size_t)(rng() % n) : 0;
}

static void write_crash(void)
{
    int fd = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    ssize_t n = write(fd, current, current_len);
    static const char text[] = "replay: the input is in ";
    if (n >= 0)
        n = write(2, text, sizeof(text) - 1);
    if (n >= 0)
        n = write(2, crash_path, strlen(crash_path));
    if (n >= 0)
        n = write(2, "\n", 1);
    (void)n;
    close(fd);
}

static void on_signal(int sig)
{
    write_crash();
    signal(sig, SIG_DFL);
    raise(sig);
}

static bool add_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        fprintf(stderr, "replay: %s: %s\n", path, strerror(errno));
        return false;
    }
    struct input in = {.data = malloc(INPUT_MAX)};
    ssize_t n = in.data ? read(fd, in.data, INPUT_MAX) : -1;
    close(fd);
    struct input *more = n < 0 ? NULL : realloc(corpus, (ncorpus + 1) * sizeof(*corpus));
    if (!more) {
        free(in.data);
        return false;
    }
    in.len = (size_t)n;
    corpus = more;
    corpus[ncorpus++] = in;
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool add_folder(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT;
    char **names = NULL;
    size_t n = 0;
    bool ok = true;
    for (struct dirent *de; (de = readdir(d));) {
        if (de->d_name[0] == '.')
            continue;
        char **more = realloc(names, (n + 1) * sizeof(*names));
        if (!more)
            abort();
        names = more;
        if (asprintf(&names[n], "%s/%s", folder, de->d_name) < 0)
            abort();
        n++;
    }
    closedir(d);
    if (n)
        qsort(names, n, sizeof(*names), by_name);
    for (size_t i = 0; i < n; i++) {
        ok &= add_file(names[i]);
        free(names[i]);
    }
    free(names);
    return ok;
}

static void run_one(const uint8_t *data, size_t len)
{
    /* An allocation of the exact size, so that ASan sees reads past the end. */
    uint8_t *copy = malloc(len ? len : 1);
    if (!copy)
        abort();
    memcpy(copy, data, len);
    current = copy;
    current_len = len;
    alarm(INPUT_SECONDS);
    LLVMFuzzerTestOneInput(copy, len);
    alarm(0);
    current = NULL;
    current_len = 0;
    free(copy);
}

static void put_value(uint8_t *b, size_t len)
{
    static const uint64_t values[] = {0,      1,      0x7f,       0x80,       0xff,
                                      0x7fff, 0x8000, 0xffff,     0x10000,    0x7fffffff,
                                      ~0u,    4096,   0x80000000, UINT64_MAX, INT64_MAX};
    size_t width = (size_t)1 << below(4);
    if (len < width)
        return;
    uint64_t v = values[below(sizeof(values) / sizeof(values[0]))];
    memcpy(b + below(len - width + 1), &v, width);
}

static size_t mutate_once(uint8_t *b, size_t len)
{
    size_t at = below(len), n;
    switch (below(8)) {
    case 0:
        if (len)
            b[at] ^= (uint8_t)(1u << below(8));
        return len;
    case 1:
        if (len)
            b[at] = (uint8_t)rng();
        return len;
    case 2: put_value(b, len); return len;
    case 3: /* insert random bytes */
        n = 1 + below(16);
        if (len + n > INPUT_MAX)
            return len;
        memmove(b + at + n, b + at, len - at);
        for (size_t i = 0; i < n; i++)
            b[at + i] = (uint8_t)rng();
        return len + n;
    case 4: /* remove */
        n = 1 + below(16);
        if (n > len - at)
            n = len - at;
        memmove(b + at, b + at + n, len - at - n);
        return len - n;
    case 5: return below(4) ? len : at; /* cut */
    case 6:                             /* copy within */
        n = below(32);
        if (at + n <= len)
            memmove(b + below(len - n + 1), b + at, n);
        return len;
    default: /* splice with another input */
        if (ncorpus) {
            const struct input *o = &corpus[below(ncorpus)];
            size_t from = below(o->len);
            n = o->len - from;
            if (n > INPUT_MAX - at)
                n = INPUT_MAX - at;
            if (n)
                memcpy(b + at, o->data + from, n);
            return at + n > len ? at + n : len;
        }
        return len;
    }
}

static size_t mutate(uint8_t *b)
{
    size_t len = 0;
    if (ncorpus) {
        const struct input *o = &corpus[below(ncorpus)];
        len = o->len;
        memcpy(b, o->data, len);
    } else {
        len = below(512);
        for (size_t i = 0; i < len; i++)
            b[i] = (uint8_t)rng();
    }
    for (size_t n = 1 + below(8); n; n--)
        len = mutate_once(b, len);
    return len;
}

static void install(const char *program)
{
    const char *out = getenv("VIREO_FUZZ_OUT"), *base = strrchr(program, '/');
    base = base ? base + 1 : program;
    base = strncmp(base, "replay-", 7) == 0 ? base + 7 : base;
    snprintf(crash_path, sizeof(crash_path), "%s/crash-%s", out ? out : ".", base);
    signal(SIGALRM, on_signal);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(write_crash);
        return;
    }
    static const int sigs[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP};
    for (size_t i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
        signal(sigs[i], on_signal);
}

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    uint64_t runs = 20000, done = 0;
    double seconds = 30;
    const char *folder = NULL;
    bool files = false;
    rng_state = 1;
    install(argv[0]);
    if (LLVMFuzzerInitialize)
        LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
            runs = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--seconds") == 0 && i + 1 < argc)
            seconds = strtod(argv[++i], NULL);
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            rng_state = strtoull(argv[++i], NULL, 0);
        else if (!folder)
            folder = argv[i];
        else {
            files = true;
            if (!add_file(argv[i]))
                return 2;
        }
    }
    if (!folder || (!files && !add_folder(folder))) {
        fprintf(stderr, "usage: %s CORPUS [--runs N] [--seconds S] [--seed N] [FILE...]\n",
                argv[0]);
        return 2;
    }
    run_one(NULL, 0);
    for (size_t i = 0; i < ncorpus; i++)
        run_one(corpus[i].data, corpus[i].len);
    uint8_t *b = malloc(INPUT_MAX);
    double end = now() + seconds;
    for (; b && !files && done < runs && now() < end; done++)
        run_one(b, mutate(b));
    free(b);
    printf("%zu inputs and %llu mutations\n", ncorpus, (unsigned long long)done);
    for (size_t i = 0; i < ncorpus; i++)
        free(corpus[i].data);
    free(corpus);
    return 0;
}
