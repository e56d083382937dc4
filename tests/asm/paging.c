/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Four-level paging: permissions at every level, error codes, accessed and dirty bits, large
 * pages, reserved bits, NX, WP, SMEP, SMAP, TLB invalidation, global pages. */
#include "test.h"

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)
#define AREA 0x40000000ull /* 1 GiB: not the image's; the pages behind are at PHYS */
#define PHYS 0x1000000ull

static volatile uint64_t *pte;

static void load(void *a)
{
    __asm__ volatile("mov (%0), %%eax" ::"r"(a) : "eax", "memory");
}
static void store(void *a)
{
    __asm__ volatile("movl $7, (%0)" ::"r"(a) : "memory");
}
static void add_locked(void *a)
{
    __asm__ volatile("lock addl $0, (%0)" ::"r"(a) : "memory");
}
static void call(void *a)
{
    ((void (*)(void))(uintptr_t)a)();
}
static uint64_t do_load(uint64_t a)
{
    load((void *)a);
    return 0;
}
static uint64_t do_store(uint64_t a)
{
    store((void *)a);
    return 0;
}
static uint64_t do_call(uint64_t a)
{
    call((void *)a);
    return 0;
}
static void user_load(void *a)
{
    user_call(do_load, (uint64_t)(uintptr_t)a);
}
static void user_store(void *a)
{
    user_call(do_store, (uint64_t)(uintptr_t)a);
}
static void user_fetch(void *a)
{
    user_call(do_call, (uint64_t)(uintptr_t)a);
}

/* The error code of an access with the PTE as given; -1: none. */
static int access(void (*fn)(void *), uint64_t entry)
{
    *pte = PHYS | entry;
    invlpg(AREA);
    int v = try_call(fn, (void *)AREA);
    if (v < 0)
        return -1;
    CHECK_EQ(v, 14);
    if (fn != call && fn != user_fetch)
        CHECK_EQ(last_cr2, AREA);
    return (int)last_trap.error;
}

__attribute__((noinline)) static uint64_t get(uint64_t a)
{
    uint64_t v;
    __asm__ volatile("mov (%1), %0" : "=r"(v) : "r"(a) : "memory");
    return v;
}

__attribute__((noinline)) static void put(uint64_t a, uint64_t v)
{
    __asm__ volatile("mov %1, (%0)" ::"r"(a), "r"(v) : "memory");
}

/* Two pages whose frames are not neighbours, looked at by the same instruction within the one, then
 * within the other, then over both: what was remembered of the last page must not serve for both.
 */
static void across(void)
{
    uint64_t next = AREA + 0x1000;
    pte[0] = (PHYS + 0x3000) | P | W;
    pte[1] = (PHYS + 0x1000) | P | W;
    invlpg(AREA);
    invlpg(next);
    for (unsigned n = 0; n < 40; n++) {
        put(AREA + 0xff8, 0x1111111122222222 + n);
        put(next, 0x3333333344444444 + n);
        CHECK_EQ(get(AREA + 0xff8), 0x1111111122222222 + n);
        CHECK_EQ(get(next), 0x3333333344444444 + n);
        CHECK_EQ(get(next - 4), 0x4444444411111111 + ((uint64_t)n << 32));
        put(next - 4, 0x5555555566666666 + n);
        CHECK_EQ(get(next), 0x3333333355555555);
        CHECK_EQ(get(AREA + 0xff8), 0x6666666622222222 + ((uint64_t)n << 32) + n);
    }
    pte[1] = 0;
    invlpg(next);
}

static void permissions(void)
{
    CHECK_EQ(access(load, 0), 0);
    CHECK_EQ(access(store, 0), 2);
    CHECK_EQ(access(add_locked, 0), 2);
    CHECK_EQ(access(user_load, 0), 4);
    CHECK_EQ(access(user_store, 0), 6);
    CHECK_EQ(access(load, P), -1);
    CHECK_EQ(access(store, P), 3);
    CHECK_EQ(access(store, P | W), -1);
    CHECK_EQ(access(user_load, P | W), 5);
    CHECK_EQ(access(user_store, P | W), 7);
    CHECK_EQ(access(user_store, P | U), 7);
    CHECK_EQ(access(user_load, P | U), -1);
    CHECK_EQ(access(user_store, P | U | W), -1);
    CHECK_EQ(access(add_locked, P | U), 3);
    CHECK_EQ(access(call, NX | P | W), 0x11);
    CHECK_EQ(access(user_fetch, NX | P | W | U), 0x15);
    CHECK_EQ(access(user_fetch, P | W), 0x15);
    CHECK_EQ(access(call, 0), 0x10);
    CHECK_EQ(access(load, NX | P), -1);
    *(volatile uint8_t *)PHYS = 0xc3;
    CHECK_EQ(access(call, P), -1);
    CHECK_EQ(access(user_fetch, P | U), -1);
}

static void write_protect_off(void)
{
    uint64_t cr0 = READ_CR(0);
    WRITE_CR(0, cr0 & ~(1ull << 16));
    CHECK_EQ(access(store, P), -1);
    CHECK_EQ(*pte & D, D);
    CHECK_EQ(access(store, P | U), -1);
    CHECK_EQ(access(user_store, P | U), 7);
    WRITE_CR(0, cr0);
    CHECK_EQ(access(store, P), 3);
}

static void accessed_dirty(void)
{
    CHECK_EQ(access(load, P | W), -1);
    CHECK_EQ(*pte & (A | D), A);
    CHECK_EQ(access(store, P | W), -1);
    CHECK_EQ(*pte & (A | D), A | D);
    CHECK_EQ(access(store, P), 3);
    CHECK_EQ(*pte & (A | D), 0);
    CHECK_EQ(access(add_locked, P | W), -1);
    CHECK_EQ(*pte & (A | D), A | D);
    /* A page first read, then written: dirty without an invalidation. */
    CHECK_EQ(access(load, P | W), -1);
    *(volatile uint32_t *)AREA = 1;
    CHECK_EQ(*pte & (A | D), A | D);
    /* Upper levels get A, never D. */
    volatile uint64_t *pde = &page_tables[2 + 1][0], *pdpte = &page_tables[1][1];
    *pde &= ~(uint64_t)(A | D);
    *pdpte &= ~(uint64_t)(A | D);
    CHECK_EQ(access(store, P | W), -1);
    CHECK_EQ(*pde & (A | D), A);
    CHECK_EQ(*pdpte & (A | D), A);
}

static void upper_levels(void)
{
    volatile uint64_t *pde = &page_tables[2 + 1][0], old = *pde;
    *pde = old & ~(uint64_t)W;
    CHECK_EQ(access(store, P | W | U), 3);
    *pde = old & ~(uint64_t)U;
    CHECK_EQ(access(user_load, P | W | U), 5);
    *pde = old | NX;
    CHECK_EQ(access(call, P | W | U), 0x11);
    *pde = old & ~(uint64_t)P;
    CHECK_EQ(access(load, P | W | U), 0);
    *pde = old;
    volatile uint64_t *pdpte = &page_tables[1][1], old2 = *pdpte;
    *pdpte = old2 & ~(uint64_t)W;
    CHECK_EQ(access(store, P | W | U), 3);
    *pdpte = old2 | PS << 1; /* bit 8: ignored */
    CHECK_EQ(access(load, P | W | U), -1);
    *pdpte = old2;
    CHECK_EQ(access(load, P | W | U), -1);
}

static void reserved_bits(void)
{
    CHECK_EQ(access(load, P | W | 1ull << 51), 9);
    CHECK_EQ(access(user_store, P | W | U | 1ull << 51), 0xf);
    volatile uint64_t *pde = &page_tables[2 + 1][0], old = *pde;
    *pde = old | PS; /* a large page at an address that is not 2 MiB aligned */
    *pde = (PHYS | 0x2000 | P | W | PS);
    invlpg(AREA);
    CHECK_EQ(try_call(load, (void *)AREA), 14);
    CHECK_EQ(last_trap.error, 9);
    *pde = old;
    invlpg(AREA);
    uint64_t e = page_tables[0][0];
    page_tables[0][1] = e | PS; /* PS is reserved in a PML4 entry */
    CHECK_EQ(try_call(load, (void *)(1ull << 39)), 14);
    CHECK_EQ(last_trap.error, 9);
    page_tables[0][1] = 0;
}

static void large_pages(void)
{
    volatile uint64_t *pde = &page_tables[2 + 1][0], old = *pde;
    *(volatile uint64_t *)(PHYS + 0x12340) = 0x1122334455667788;
    *pde = PHYS | P | W | PS;
    invlpg(AREA);
    CHECK_EQ(*(volatile uint64_t *)(AREA + 0x12340), 0x1122334455667788);
    CHECK_EQ(*pde & (A | D), A);
    *(volatile uint64_t *)(AREA + 0x12348) = 5;
    CHECK_EQ(*pde & (A | D), A | D);
    *pde = old;
    invlpg(AREA);
    uint32_t r[4];
    cpuid(0x80000001, 0, r);
    if (r[3] & 1u << 26) { /* 1 GiB pages */
        volatile uint64_t *pdpte = &page_tables[1][1], old2 = *pdpte;
        *pdpte = 0 | P | W | U | PS;
        WRITE_CR(3, READ_CR(3));
        CHECK_EQ(*(volatile uint64_t *)(AREA + PHYS + 0x12340), 0x1122334455667788);
        CHECK_EQ(*pdpte & (A | D), A);
        *pdpte = old2;
        WRITE_CR(3, READ_CR(3));
    }
}

/* With SMEP or SMAP the image itself must not be user pages. */
static void image_is_user(bool user)
{
    for (uint64_t a = 0x100000; a < (uint64_t)(uintptr_t)image_end; a += 4096)
        *pte_of(a) = (*pte_of(a) & ~(uint64_t)U) | (user ? U : 0);
    WRITE_CR(3, READ_CR(3));
}

static void smep_smap(void)
{
    uint32_t r[4];
    cpuid(7, 0, r);
    uint64_t cr4 = READ_CR(4);
    if (r[1] & 1u << 7) {
        image_is_user(false);
        *(volatile uint8_t *)PHYS = 0xc3;
        WRITE_CR(4, cr4 | 1ull << 20);
        CHECK_EQ(access(call, P | U), 0x11);
        CHECK_EQ(access(call, P), -1);
        CHECK_EQ(access(load, P | U), -1);
        WRITE_CR(4, cr4);
        image_is_user(true);
    } else {
        print("SMEP is not offered\n");
    }
    if (r[1] & 1u << 20) {
        image_is_user(false);
        WRITE_CR(4, cr4 | 1ull << 21);
        CHECK_EQ(access(load, P | U), 1);
        CHECK_EQ(access(store, P | U | W), 3);
        CHECK_EQ(access(load, P), -1);
        __asm__ volatile("stac");
        int with_ac = access(load, P | U);
        __asm__ volatile("clac");
        CHECK_EQ(with_ac, -1);
        WRITE_CR(4, cr4);
        image_is_user(true);
    } else {
        print("SMAP is not offered\n");
    }
}

static void invalidation(void)
{
    volatile uint64_t *v = (volatile uint64_t *)AREA;
    *(volatile uint64_t *)PHYS = 1;
    *(volatile uint64_t *)(PHYS + 0x1000) = 2;
    *pte = PHYS | P | W;
    invlpg(AREA);
    CHECK_EQ(*v, 1);
    *pte = (PHYS + 0x1000) | P | W;
    invlpg(AREA);
    CHECK_EQ(*v, 2);
    *pte = PHYS | P | W;
    WRITE_CR(3, READ_CR(3));
    CHECK_EQ(*v, 1);
    /* Global pages outlive a CR3 write, unless CR4.PGE is toggled. */
    WRITE_CR(4, READ_CR(4) | 0x80);
    *pte = PHYS | P | W | G;
    invlpg(AREA);
    CHECK_EQ(*v, 1);
    *pte = (PHYS + 0x1000) | P | W;
    WRITE_CR(4, READ_CR(4) & ~0x80ull);
    CHECK_EQ(*v, 2);
    /* A page made present needs no invalidation. */
    *pte = 0;
    invlpg(AREA);
    CHECK_EQ(try_call(load, (void *)AREA), 14);
    *pte = PHYS | P | W;
    CHECK_EQ(*v, 1);
}

/* An access over a page border: the fault is on the page that causes it, nothing is written. */
static void crossing(void)
{
    *pte = PHYS | P | W;
    pte[1] = 0;
    invlpg(AREA);
    invlpg(AREA + 0x1000);
    *(volatile uint32_t *)(AREA + 0xffc) = 0x55555555;
    CHECK_EQ(try_call(store, (void *)(AREA + 0xffe)), 14);
    CHECK_EQ(last_cr2, AREA + 0x1000);
    CHECK_EQ(*(volatile uint32_t *)(AREA + 0xffc), 0x55555555);
    pte[1] = (PHYS + 0x5000) | P | W;
    *(volatile uint32_t *)(AREA + 0xffe) = 0x11223344;
    CHECK_EQ(*(volatile uint16_t *)(PHYS + 0xffe), 0x3344);
    CHECK_EQ(*(volatile uint16_t *)(PHYS + 0x5000), 0x1122);
    /* An instruction over a border whose second page is missing. */
    static const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0xc3};
    memcpy((void *)(AREA + 0xffd), code, sizeof(code));
    ((void (*)(void))(uintptr_t)(AREA + 0xffd))();
    pte[1] = 0;
    invlpg(AREA + 0x1000);
    CHECK_EQ(try_call(call, (void *)(AREA + 0xffd)), 14);
    CHECK_EQ(last_cr2, AREA + 0x1000);
    CHECK_EQ(last_trap.rip, AREA + 0xffd);
    CHECK_EQ(last_trap.error, 0x10);
}

void test_main(void)
{
    pte = pte_of(AREA);
    across();
    permissions();
    write_protect_off();
    accessed_dirty();
    upper_levels();
    reserved_bits();
    large_pages();
    smep_smap();
    invalidation();
    crossing();
}
