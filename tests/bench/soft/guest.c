/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the processor benchmark runs, as a guest's init or natively: for each program a line "BEGIN
 * name", its work, and "END name checksum". The amount of work is fixed, so that CPU seconds
 * compare. Static, freestanding of anything but libc.
 */
#include <emmintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint32_t rotr(uint32_t v, unsigned n)
{
    return v >> n | v << (32 - n);
}

static uint64_t sha256(unsigned rounds)
{
    uint32_t k[64], w[64], h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    for (unsigned i = 0; i < 64; i++)
        k[i] = (i + 1) * 2654435761u;
    for (unsigned n = 0; n < rounds; n++) {
        for (unsigned i = 0; i < 16; i++)
            w[i] = h[i & 7] + i + n;
        for (unsigned i = 16; i < 64; i++)
            w[i] = w[i - 16] + (rotr(w[i - 15], 7) ^ rotr(w[i - 15], 18) ^ w[i - 15] >> 3) +
                   w[i - 7] + (rotr(w[i - 2], 17) ^ rotr(w[i - 2], 19) ^ w[i - 2] >> 10);
        uint32_t v[8];
        memcpy(v, h, sizeof v);
        for (unsigned i = 0; i < 64; i++) {
            uint32_t t1 = v[7] + (rotr(v[4], 6) ^ rotr(v[4], 11) ^ rotr(v[4], 25)) +
                          ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t t2 = (rotr(v[0], 2) ^ rotr(v[0], 13) ^ rotr(v[0], 22)) +
                          ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof v[0]);
            v[4] += t1;
            v[0] = t1 + t2;
        }
        for (unsigned i = 0; i < 8; i++)
            h[i] += v[i];
    }
    return h[0];
}

static uint64_t crc32(unsigned rounds)
{
    static uint32_t table[256];
    static uint8_t buf[65536];
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int n = 0; n < 8; n++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table[i] = c;
    }
    for (unsigned i = 0; i < sizeof buf; i++)
        buf[i] = (uint8_t)(i * 7);
    uint32_t c = ~0u;
    while (rounds--)
        for (unsigned i = 0; i < sizeof buf; i++)
            c = c >> 8 ^ table[(c ^ buf[i]) & 0xff];
    return c;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t sort(unsigned rounds)
{
    enum { N = 100000 };
    static uint32_t v[N];
    uint64_t sum = 0;
    for (unsigned r = 0; r < rounds; r++) {
        uint32_t s = r + 1;
        for (unsigned i = 0; i < N; i++)
            v[i] = s = s * 1664525 + 1013904223;
        qsort(v, N, sizeof v[0], by_value);
        sum += v[N / 2];
    }
    return sum;
}

__attribute__((noinline)) static uint64_t fib(unsigned n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

/* A bytecode interpreter: a little stack machine, dispatched by a switch. */
static uint64_t bytecode(unsigned rounds)
{
    enum { LIT, LOAD, STORE, ADD, XOR, LESS, JNZ, HALT };
    static const int32_t code[] = {
        LIT,  0, STORE, 0,     LIT,  0,     STORE, 1,              /* i = s = 0 */
        LOAD, 1, LOAD,  0,     ADD,  LIT,   3,     XOR,  STORE, 1, /* 8: s = (s + i) ^ 3 */
        LOAD, 0, LIT,   1,     ADD,  STORE, 0,                     /* i++ */
        LOAD, 0, LIT,   20000, LESS, JNZ,   8,     HALT,
    };
    uint64_t sum = 0;
    while (rounds--) {
        int32_t st[16], var[4] = {0};
        unsigned sp = 0, pc = 0;
        for (;;) {
            switch (code[pc++]) {
            case LIT: st[sp++] = code[pc++]; continue;
            case LOAD: st[sp++] = var[code[pc++]]; continue;
            case STORE: var[code[pc++]] = st[--sp]; continue;
            case ADD: sp--, st[sp - 1] += st[sp]; continue;
            case XOR: sp--, st[sp - 1] ^= st[sp]; continue;
            case LESS: sp--, st[sp - 1] = st[sp - 1] < st[sp]; continue;
            case JNZ: pc = st[--sp] ? (unsigned)code[pc] : pc + 1; continue;
            default: break;
            }
            break;
        }
        sum += (uint32_t)var[1];
    }
    return sum;
}

static uint64_t chase(unsigned rounds)
{
    enum { N = 1 << 16 };
    static uint32_t next[N];
    uint32_t s = 1;
    for (unsigned i = 0; i < N; i++)
        next[i] = i;
    for (unsigned i = N - 1; i > 0; i--) { /* one cycle (Sattolo) */
        s = s * 1664525 + 1013904223;
        unsigned j = (s >> 8) % i;
        uint32_t t = next[i];
        next[i] = next[j];
        next[j] = t;
    }
    uint32_t p = 1;
    while (rounds--)
        for (unsigned i = 0; i < N - 1; i++)
            p = next[p];
    return p;
}

static uint64_t scalar(unsigned rounds)
{
    volatile double seed = 1.0;
    double x = seed, y = 0.5, vx = 0, vy = 0.9;
    while (rounds--) {
        double r2 = x * x + y * y,
               inv = 1.0 / (r2 * _mm_cvtsd_f64(_mm_sqrt_sd(_mm_set_sd(r2), _mm_set_sd(r2))));
        vx -= x * inv * 0.001;
        vy -= y * inv * 0.001;
        x += vx * 0.001;
        y += vy * 0.001;
    }
    return (uint64_t)(int64_t)((x + y) * 1e9);
}

static uint64_t packed(unsigned rounds)
{
    static float a[1024], b[1024];
    for (int i = 0; i < 1024; i++)
        a[i] = (float)i, b[i] = (float)(1024 - i);
    while (rounds--)
        for (int i = 0; i < 1024; i += 4) {
            __m128 v = _mm_load_ps(a + i), w = _mm_load_ps(b + i);
            v = _mm_add_ps(_mm_mul_ps(v, _mm_set1_ps(0.999f)), w);
            _mm_store_ps(b + i, _mm_sub_ps(v, _mm_mul_ps(w, _mm_set1_ps(0.5f))));
        }
    return (uint64_t)(int64_t)b[7];
}

static uint64_t x87(unsigned rounds)
{
    volatile long double seed = 1.0L;
    long double x = seed, s = 0;
    while (rounds--) {
        x = x * 1.0000001L + 1e-9L;
        s += 1.0L / x;
    }
    return (uint64_t)s;
}

static uint64_t forks(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        pid_t p = fork();
        if (!p)
            _exit(7);
        int st = 0;
        waitpid(p, &st, 0);
        sum += (unsigned)WEXITSTATUS(st);
    }
    return sum;
}

static const char *self;
static uint64_t execs(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--) {
        pid_t p = fork();
        if (!p) {
            execl(self, self, "--exit", (char *)NULL);
            _exit(99);
        }
        int st = 0;
        waitpid(p, &st, 0);
        sum += (unsigned)WEXITSTATUS(st);
    }
    return sum;
}

static uint64_t pipes(unsigned rounds)
{
    int a[2], b[2];
    char c = 0;
    if (pipe(a) || pipe(b))
        return 0;
    pid_t p = fork();
    if (!p) {
        close(a[1]);
        while (read(a[0], &c, 1) == 1)
            if (write(b[1], &c, 1) != 1)
                break;
        _exit(0);
    }
    uint64_t sum = 0;
    while (rounds--) {
        c++;
        if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
            break;
        sum += (uint8_t)c;
    }
    close(a[1]);
    waitpid(p, NULL, 0);
    close(a[0]);
    close(b[0]);
    close(b[1]);
    return sum;
}

static uint64_t faults(unsigned rounds)
{
    enum { PAGES = 1024 };
    uint64_t sum = 0;
    while (rounds--) {
        uint8_t *m =
            mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (unsigned i = 0; i < PAGES; i++)
            m[i * 4096] = 1, sum += m[i * 4096];
        munmap(m, PAGES * 4096);
    }
    return sum;
}

static uint64_t syscalls(unsigned rounds)
{
    uint64_t sum = 0;
    while (rounds--)
        sum += syscall(SYS_getppid) >= 0;
    return sum;
}

/* Writes a function, runs it, writes another. */
static uint64_t smc(unsigned rounds)
{
    uint8_t *m =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t sum = 0;
    while (rounds--) {
        m[0] = 0xb8; /* mov eax, imm32; ret */
        memcpy(m + 1, &rounds, 4);
        m[5] = 0xc3;
        sum += ((unsigned (*)(void))(uintptr_t)m)();
    }
    munmap(m, 4096);
    return sum;
}

static uint64_t run_fib(unsigned n)
{
    return fib(n);
}

static const struct {
    const char *name;
    uint64_t (*fn)(unsigned);
    unsigned work;
} programs[] = {
    {"sha256", sha256, 60000},    {"crc32", crc32, 700},         {"sort", sort, 8},
    {"calls", run_fib, 37},       {"bytecode", bytecode, 60},    {"chase", chase, 400},
    {"scalar", scalar, 12000000}, {"packed", packed, 240000},    {"x87", x87, 16000000},
    {"fork", forks, 1000},        {"exec", execs, 400},          {"pipe", pipes, 10000},
    {"fault", faults, 40},        {"syscall", syscalls, 400000}, {"smc", smc, 100000},
};

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "--exit"))
        return 3;

    int init = getpid() == 1;
    self = init ? "/init" : "/proc/self/exe";
    if (init)
        mount("proc", "/proc", "proc", 0, NULL);
    setvbuf(stdout, NULL, _IONBF, 0);
    printf("READY\n");
    for (unsigned i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        if (argc > 1 && !strstr(argv[1], programs[i].name))
            continue;
        printf("BEGIN %s\n", programs[i].name);
        uint64_t v = programs[i].fn(programs[i].work);
        printf("END %s %016llx\n", programs[i].name, (unsigned long long)v);
    }
    printf("DONE\n");
    if (!init)
        usleep(300000); /* the time taken is read meanwhile */
    if (init)
        reboot(RB_POWER_OFF);
    return 0;
}
