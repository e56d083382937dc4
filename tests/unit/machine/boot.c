/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/boot.h"

#include <stdlib.h>

#include "check.h"
#include "core/base/bytes.h"
#include "core/chipset/layout.h"

struct bench {
    struct memmap map;
    struct hv_memory *mem;
    struct boot_params p;
    struct hv_vp_state s;
    err e;
};

static void begin(struct bench *b, uint64_t ram, const void *kernel, size_t len)
{
    memset(b, 0, sizeof *b);
    b->mem = hv_memory_new(NULL);
    CHECK(memmap_init(&b->map, ram, NULL));
    CHECK(memmap_add_ram(&b->map, b->mem, NULL));
    b->p = (struct boot_params){
        .kernel = {.name = "kernel", .fd = -1, .data = kernel, .size = len},
        .initrd = {.name = "initrd", .fd = -1},
        .cmdline = "console=ttyS0",
        .map = &b->map,
    };
}

static void end(struct bench *b)
{
    hv_memory_free(b->mem);
}

static uint64_t peek(struct bench *b, uint64_t gpa, size_t len)
{
    uint64_t v = 0;
    CHECK(hv_memory_read(b->mem, gpa, &v, len));
    return v;
}

enum { BZ_SIZE = 5 * 512 + 4096 };

/* A bzImage of 4 setup sectors and one page that wants 16 MiB at 16 MiB. */
static void make_bzimage(uint8_t *k, bool is64)
{
    memset(k, 0, BZ_SIZE);
    k[0x1f1] = 4;
    put_le32(k + 0x1f4, 4096 / 16);
    put_le16(k + 0x1fe, 0xaa55);
    k[0x201] = 0x6a;
    memcpy(k + 0x202, "HdrS", 4);
    put_le16(k + 0x206, 0x20f);
    k[0x211] = 1;
    put_le32(k + 0x22c, 0x7fffffff);
    put_le32(k + 0x230, 0x200000);
    k[0x234] = 1;
    put_le16(k + 0x236, is64 ? 3 : 0);
    put_le32(k + 0x238, 2047);
    put_le64(k + 0x258, 0x1000000);
    put_le32(k + 0x260, 0x1000000);
    memset(k + 5 * 512, 0xcc, 4096);
}

static void a_64_bit_kernel_gets_what_it_expects(void)
{
    struct bench b;
    static uint8_t k[BZ_SIZE], initrd[10000];
    make_bzimage(k, true);
    memset(initrd, 0x77, sizeof initrd);
    begin(&b, MIB(64), k, sizeof k);
    b.p.initrd.data = initrd;
    b.p.initrd.size = sizeof initrd;
    b.p.fb = (struct boot_framebuffer){0xe0000000, 1024, 768, 4096};
    CHECK(boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_EQ(b.s.rip, 0x1000200);
    CHECK_EQ(peek(&b, 0x1000000, 8), 0xcccccccccccccccc);
    CHECK_EQ(b.s.cr0 & 0x80000001, 0x80000001);
    CHECK_EQ(b.s.efer, 0x500);
    CHECK_EQ(b.s.seg[HV_CS].attrib, 0xa09b);
    uint64_t zero = b.s.gpr[HV_RSI];
    CHECK_EQ(peek(&b, zero + 0x70, 8), LAYOUT_ACPI_BASE);
    CHECK_EQ(peek(&b, zero + 0x1e8, 1), b.map.n);
    CHECK_EQ(peek(&b, zero + 0x2d0 + 8, 8), LAYOUT_EBDA);
    CHECK_EQ(peek(&b, zero + 0x210, 1), 0xff);
    CHECK_EQ(peek(&b, zero + 0x18, 4), 0xe0000000);
    CHECK_EQ(peek(&b, zero + 0x0f, 1), 0x23);
    CHECK_EQ(peek(&b, peek(&b, zero + 0x228, 4), 8), get_le64("console="));
    uint64_t at = peek(&b, zero + 0x218, 4);
    CHECK_EQ(at, MIB(64) - 12288);
    CHECK_EQ(peek(&b, zero + 0x21c, 4), sizeof initrd);
    CHECK_EQ(peek(&b, at + sizeof initrd - 8, 8), 0x7777777777777777);
    /* the identity map: 3 levels of present entries for the kernel's and the last page */
    for (uint64_t va = 0x1000000; va < GIB(4); va += GIB(4) - 0x1000000 - 0x200000) {
        uint64_t pdpt = peek(&b, b.s.cr3, 8) & ~0xfffull;
        uint64_t dir = peek(&b, pdpt + (va >> 30) * 8, 8) & ~0xfffull;
        CHECK_EQ(peek(&b, dir + (va >> 21 & 511) * 8, 8), (va & ~0x1fffffull) | 0x83);
    }
    end(&b);
}

static void a_32_bit_kernel_enters_protected_mode(void)
{
    struct bench b;
    static uint8_t k[BZ_SIZE];
    make_bzimage(k, false);
    begin(&b, MIB(64), k, sizeof k);
    CHECK(boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_EQ(b.s.rip, 0x1000000);
    CHECK_EQ(b.s.cr0 & 0x80000001, 1);
    CHECK_EQ(b.s.efer, 0);
    CHECK_EQ(b.s.seg[HV_CS].attrib, 0xc09b);
    CHECK_EQ(b.s.seg[HV_CS].limit, 0xffffffff);
    CHECK_EQ(b.s.gpr[HV_RSI], BOOT_INFO);
    end(&b);
}

static void little_memory_is_refused(void)
{
    struct bench b;
    static uint8_t k[BZ_SIZE];
    make_bzimage(k, true);
    /* 16 to 32 MiB does not fit; loaded at 2 MiB it would unpack itself to 16 all the same. */
    for (uint64_t memory = MIB(8); memory <= MIB(24); memory += MIB(16)) {
        begin(&b, memory, k, sizeof k);
        CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
        CHECK(strstr(b.e.text, "more memory than the machine has") != NULL);
        end(&b);
    }
    begin(&b, MIB(40), k, sizeof k);
    CHECK(boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_EQ(b.s.rip, MIB(16) + 0x200);
    end(&b);
}

static void wrong_files_are_refused_with_a_reason(void)
{
    struct bench b;
    static uint8_t k[BZ_SIZE], big[MIB(40)];
    char line[4000];
    make_bzimage(k, true);
    for (size_t cut = 1; cut < sizeof k; cut += 97) {
        begin(&b, MIB(64), k, cut);
        CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
        CHECK(b.e.text[0]);
        end(&b);
    }
    begin(&b, MIB(64), k, sizeof k);
    b.p.initrd = (struct boot_file){.name = "initrd", .fd = -1, .data = big, .size = sizeof big};
    CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK(strstr(b.e.text, "initrd (41 MiB) does not fit") != NULL);
    b.p.initrd.size = 0;
    memset(line, 'a', sizeof line);
    line[3999] = 0;
    b.p.cmdline = line;
    CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK(strstr(b.e.text, "too long") != NULL);
    end(&b);
    begin(&b, MIB(64), "#!/bin/sh\n", 10);
    CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_STR(b.e.text, "kernel is not a Linux kernel (bzImage or ELF)");
    end(&b);
}

enum { ELF_SIZE = 8192 };

/* An ELF64 of one segment at `paddr` and, if asked for, a PVH note. */
static void make_elf(uint8_t *k, uint64_t paddr, bool note)
{
    memset(k, 0, ELF_SIZE);
    memcpy(k, "\177ELF\2\1\1", 7);
    put_le16(k + 16, 2);
    put_le16(k + 18, 62);
    put_le64(k + 24, paddr + 0x10);
    put_le64(k + 32, 64);
    put_le16(k + 54, 56);
    put_le16(k + 56, note ? 2 : 1);
    uint8_t *ph = k + 64;
    put_le32(ph, 1);
    put_le64(ph + 8, 4096);
    put_le64(ph + 24, paddr);
    put_le64(ph + 32, 4096);
    put_le64(ph + 40, 8192);
    put_le32(ph + 56, 4);
    put_le64(ph + 56 + 8, 512);
    put_le64(ph + 56 + 32, 20);
    put_le32(k + 512, 4);
    put_le32(k + 516, 4);
    put_le32(k + 520, 18);
    memcpy(k + 524, "Xen", 4);
    put_le32(k + 528, (uint32_t)paddr + 0x20);
    memset(k + 4096, 0xab, 4096);
}

static void elf_kernels_by_pvh_or_64_bit_entry(void)
{
    struct bench b;
    static uint8_t k[ELF_SIZE];
    make_elf(k, 0x1000000, true);
    begin(&b, MIB(64), k, sizeof k);
    CHECK(boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_EQ(b.s.rip, 0x1000020);
    CHECK_EQ(b.s.cr0 & 0x80000001, 1);
    CHECK_EQ(peek(&b, 0x1000000, 4), 0xabababab);
    CHECK_EQ(peek(&b, 0x1001000, 4), 0);
    uint64_t info = b.s.gpr[HV_RBX];
    CHECK_EQ(peek(&b, info, 4), 0x336ec578);
    CHECK_EQ(peek(&b, info + 32, 8), LAYOUT_ACPI_BASE);
    CHECK_EQ(peek(&b, info + 48, 4), b.map.n);
    end(&b);
    make_elf(k, 0x1000000, false);
    begin(&b, MIB(64), k, sizeof k);
    CHECK(boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_EQ(b.s.rip, 0x1000010);
    CHECK_EQ(b.s.efer, 0x500);
    CHECK_EQ(peek(&b, b.s.gpr[HV_RSI] + 0x202, 4), get_le32("HdrS"));
    end(&b);
    make_elf(k, 0x80000000, true); /* where there is no memory */
    begin(&b, MIB(64), k, sizeof k);
    CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
    end(&b);
    make_elf(k, 0x2000, true); /* over the boot structures */
    begin(&b, MIB(64), k, sizeof k);
    CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
    end(&b);
}

static void multiboot_by_header_addresses(void)
{
    struct bench b;
    static uint8_t k[4096], module[100];
    uint32_t flags = 0x10003;
    put_le32(k + 64, 0x1badb002);
    put_le32(k + 68, flags);
    put_le32(k + 72, -(0x1badb002 + flags));
    put_le32(k + 76, 0x400040); /* header */
    put_le32(k + 80, 0x400000);
    put_le32(k + 84, 0);
    put_le32(k + 88, 0x402000);
    put_le32(k + 92, 0x400080);
    k[4095] = 0x5a;
    begin(&b, MIB(16), k, sizeof k);
    b.p.protocol = BOOT_MULTIBOOT;
    b.p.initrd = (struct boot_file){.name = "m", .fd = -1, .data = module, .size = sizeof module};
    CHECK(boot_load(&b.p, b.mem, &b.s, &b.e));
    CHECK_EQ(b.s.rip, 0x400080);
    CHECK_EQ(b.s.gpr[HV_RAX], 0x2badb002);
    CHECK_EQ(peek(&b, 0x400fff, 1), 0x5a);
    uint64_t info = b.s.gpr[HV_RBX];
    CHECK_EQ(peek(&b, info, 4) & 0x4d, 0x4d);
    CHECK_EQ(peek(&b, info + 8, 4), 15 * 1024);
    CHECK_EQ(peek(&b, info + 20, 4), 1);
    uint64_t mod = peek(&b, info + 24, 4);
    CHECK_EQ(peek(&b, mod + 4, 4) - peek(&b, mod, 4), sizeof module);
    CHECK_EQ(peek(&b, peek(&b, info + 16, 4), 8), get_le64("console="));
    end(&b);
    put_le32(k + 80, 0x500000); /* load address behind the header's */
    begin(&b, MIB(16), k, sizeof k);
    b.p.protocol = BOOT_MULTIBOOT;
    CHECK(!boot_load(&b.p, b.mem, &b.s, &b.e));
    end(&b);
}

static void memory_maps(void)
{
    struct memmap m;
    err e = ERR_INIT;
    CHECK(memmap_init(&m, GIB(8), &e));
    CHECK_EQ(m.low_end, LAYOUT_RAM_HOLE);
    CHECK_EQ(m.high_end, GIB(4) + GIB(8) - LAYOUT_RAM_HOLE);
    uint64_t last = 0;
    for (size_t i = 0; i < m.n; i++) {
        CHECK(m.range[i].base >= last);
        last = m.range[i].base + m.range[i].size;
    }
    CHECK(last <= LAYOUT_MMIO_HIGH_BASE);
    CHECK(memmap_init(&m, LAYOUT_MAX_RAM, &e));
    CHECK_EQ(m.high_end, LAYOUT_MMIO_HIGH_BASE);
    CHECK(!memmap_init(&m, LAYOUT_MAX_RAM + MIB(1), &e));
    CHECK(!memmap_init(&m, MIB(1), &e));
    CHECK(!memmap_init(&m, MIB(64) + 4096, &e));
}

static const struct check_test tests[] = {CHECK_TEST(a_64_bit_kernel_gets_what_it_expects),
                                          CHECK_TEST(a_32_bit_kernel_enters_protected_mode),
                                          CHECK_TEST(little_memory_is_refused),
                                          CHECK_TEST(wrong_files_are_refused_with_a_reason),
                                          CHECK_TEST(elf_kernels_by_pvh_or_64_bit_entry),
                                          CHECK_TEST(multiboot_by_header_addresses),
                                          CHECK_TEST(memory_maps)};
CHECK_MAIN(tests)
