/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/boot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/chipset/layout.h"

enum { CR0_PE = 1, CR0_ET = 0x10, CR0_NE = 0x20, CR0_PG = 1u << 31, CR4_PAE = 0x20 };
enum { EFER_LME = 0x100, EFER_LMA = 0x400 };
enum { PTE_PRESENT = 1, PTE_WRITE = 2, PTE_LARGE = 0x80 };
enum { MTRR_UC = 0, MTRR_WB = 6, MTRR_ENABLE = 0x800, MTRR_FIXED = 0x400, MTRR_VALID = 0x800 };
enum { LAPIC_SVR = 0xf0, LAPIC_LINT0 = 0x350, LAPIC_LINT1 = 0x360 };
enum { SVR_ON = 0x1ff, LINT_EXTINT = 0x8700, LINT_NMI = 0x400 };
enum { CHUNK = 1 << 20, SELECTOR_CODE = 0x10, SELECTOR_DATA = 0x18, SELECTOR_TSS = 0x20 };

/* ---- files ---- */

bool boot_file_open(struct boot_file *f, const char *name, int fd, err *e)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_errno(e, errno, "%s", name);
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_INVALID, "%s is not a file", name);
    if (st.st_size == 0)
        return err_set(e, ERR_INVALID, "%s is empty", name);
    *f = (struct boot_file){.name = name, .fd = fd, .size = (uint64_t)st.st_size};
    return true;
}

static bool read_fd(const struct boot_file *f, uint64_t off, uint8_t *buf, size_t len, err *e)
{
    while (len) {
        ssize_t n = pread(f->fd, buf, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, errno, "Reading %s", f->name);
        if (n == 0)
            return err_set(e, ERR_CORRUPT, "%s is cut short", f->name);
        buf += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return true;
}

bool boot_file_read(const struct boot_file *f, uint64_t off, void *buf, size_t len, err *e)
{
    if (!range_within(off, len, f->size))
        return err_set(e, ERR_CORRUPT, "%s is cut short", f->name);
    if (f->fd >= 0)
        return read_fd(f, off, buf, len, e);
    memcpy(buf, f->data + off, len);
    return true;
}

bool boot_file_load(const struct boot_file *f, uint64_t off, uint64_t len, struct hv_memory *mem,
                    uint64_t gpa, err *e)
{
    while (len) {
        size_t n = (size_t)MIN(len, CHUNK);
        struct hv_span span;
        if (!hv_memory_acquire(mem, gpa, n, true, &span))
            return err_set(e, ERR_INVALID, "%s does not fit into the machine's memory", f->name);
        bool ok = boot_file_read(f, off, span.ptr, n, e);
        hv_memory_release(&span);
        if (!ok)
            return false;
        off += n;
        gpa += n;
        len -= n;
    }
    return true;
}

/* ---- what several protocols need ---- */

static bool put(struct hv_memory *mem, uint64_t gpa, const void *p, size_t len, err *e)
{
    return hv_memory_write(mem, gpa, p, len) ||
           err_set(e, ERR_INVALID, "The machine has too little memory to start a kernel");
}

bool boot_put_cmdline(const struct boot_params *p, struct hv_memory *mem, size_t max, err *e)
{
    size_t len = strlen(p->cmdline);
    if (len > max || len >= BOOT_CMDLINE_MAX)
        return err_set(e, ERR_INVALID,
                       "The kernel's command line is too long: %zu bytes, at most %zu", len,
                       MIN(max, (size_t)BOOT_CMDLINE_MAX - 1));
    return put(mem, BOOT_CMDLINE, p->cmdline, len + 1, e);
}

/* The highest page-aligned start for len bytes in [low, high), 0 if they do not fit. */
static uint64_t place_below(uint64_t low, uint64_t high, uint64_t len)
{
    if (high <= low || high - low < len)
        return 0;
    uint64_t at = align_down(high - len, HV_PAGE_SIZE);
    return at >= low ? at : 0;
}

bool boot_put_initrd(const struct boot_params *p, struct hv_memory *mem, uint64_t kernel,
                     uint64_t kernel_end, uint64_t limit, uint64_t *at, err *e)
{
    uint64_t len = p->initrd.size, low_end = MIN(p->map->low_end, limit);
    *at = 0;
    if (!len)
        return true;
    *at = place_below(MAX(kernel_end, LAYOUT_HIGH_RAM_BASE), low_end, len);
    if (!*at)
        *at = place_below(LAYOUT_HIGH_RAM_BASE, MIN(kernel, low_end), len);
    if (!*at)
        *at = place_below(LAYOUT_RAM_ABOVE_4G, MIN(p->map->high_end, limit), len);
    if (!*at)
        return err_set(e, ERR_INVALID,
                       "%s (%" PRIu64 " MiB) does not fit beside the kernel into the machine's "
                       "memory",
                       p->initrd.name, (len >> 20) + 1);
    return boot_file_load(&p->initrd, 0, len, mem, *at, e);
}

/* ---- processor state ---- */

static struct hv_segment flat(uint16_t selector, uint16_t attrib)
{
    return (struct hv_segment){.limit = UINT32_MAX, .selector = selector, .attrib = attrib};
}

static uint64_t descriptor(uint16_t attrib)
{
    uint64_t limit = 0xfffff, a = attrib;
    return (limit & 0xffff) | (a & 0xff) << 40 | (limit >> 16) << 48 | (a >> 12) << 52;
}

static bool put_segments(struct hv_memory *mem, struct hv_vp_state *s, uint16_t code, err *e)
{
    const uint16_t data = 0xc093, tss = 0x008b;
    uint64_t gdt[] = {0, 0, descriptor(code), descriptor(data), 0x67 | (uint64_t)tss << 40};
    s->seg[HV_CS] = flat(SELECTOR_CODE, code);
    static const enum hv_seg others[] = {HV_DS, HV_ES, HV_SS, HV_FS, HV_GS};
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        s->seg[others[i]] = flat(SELECTOR_DATA, data);
    s->seg[HV_TR] = (struct hv_segment){.limit = 0x67, .selector = SELECTOR_TSS, .attrib = tss};
    s->gdtr = (struct hv_table){.base = BOOT_GDT, .limit = sizeof gdt - 1};
    s->idtr = (struct hv_table){0};
    return put(mem, BOOT_GDT, gdt, sizeof gdt, e);
}

bool boot_enter_32(struct hv_memory *mem, struct hv_vp_state *s, uint64_t entry, err *e)
{
    s->cr0 = CR0_PE | CR0_ET;
    s->rip = entry;
    s->rflags = 2;
    return put_segments(mem, s, 0xc09b, e);
}

/* PML4, PDPT and four page directories: 4 GiB in 2 MiB pages. */
static bool put_identity_map(struct hv_memory *mem, err *e)
{
    uint64_t page[512] = {(BOOT_PAGE_TABLES + 0x1000) | PTE_PRESENT | PTE_WRITE};
    if (!put(mem, BOOT_PAGE_TABLES, page, sizeof page, e))
        return false;
    memset(page, 0, sizeof page);
    for (unsigned i = 0; i < 4; i++)
        page[i] = (BOOT_PAGE_TABLES + 0x2000 + i * 0x1000u) | PTE_PRESENT | PTE_WRITE;
    if (!put(mem, BOOT_PAGE_TABLES + 0x1000, page, sizeof page, e))
        return false;
    for (unsigned dir = 0; dir < 4; dir++) {
        for (unsigned i = 0; i < 512; i++)
            page[i] =
                ((uint64_t)dir << 30 | (uint64_t)i << 21) | PTE_PRESENT | PTE_WRITE | PTE_LARGE;
        if (!put(mem, BOOT_PAGE_TABLES + 0x2000 + dir * 0x1000u, page, sizeof page, e))
            return false;
    }
    return true;
}

bool boot_enter_64(struct hv_memory *mem, struct hv_vp_state *s, uint64_t entry, err *e)
{
    s->cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_PG;
    s->cr3 = BOOT_PAGE_TABLES;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->rip = entry;
    s->rflags = 2;
    return put_identity_map(mem, e) && put_segments(mem, s, 0xa09b, e);
}

/* Memory types as firmware sets them: write-back, but for the hole below 1 MiB and the windows. */
static void set_mtrrs(struct hv_vp_state *s)
{
    const uint64_t all = (1ull << LAYOUT_PHYS_BITS) - 1;
    memset(s->mtrr_fixed, 0, sizeof s->mtrr_fixed);
    memset(s->mtrr_base, 0, sizeof s->mtrr_base);
    memset(s->mtrr_mask, 0, sizeof s->mtrr_mask);
    for (unsigned i = 0; i < ARRAY_LEN(s->mtrr_fixed); i++)
        s->mtrr_fixed[i] = i == 2 ? 0 : 0x0606060606060606; /* all but 0xA0000 - 0xBFFFF */
    s->mtrr_base[0] = LAYOUT_MMIO_LOW_BASE | MTRR_UC;
    s->mtrr_mask[0] = (all & ~(0x20000000ull - 1)) | MTRR_VALID; /* to 4 GiB */
    s->mtrr_base[1] = LAYOUT_MMIO_HIGH_BASE | MTRR_UC;
    s->mtrr_mask[1] = (all & ~(LAYOUT_MMIO_HIGH_SIZE - 1)) | MTRR_VALID;
    s->mtrr_def_type = MTRR_ENABLE | MTRR_FIXED | MTRR_WB;
}

static void set_lapic(struct hv_vp_state *s, bool legacy)
{
    put_le32(s->lapic + LAPIC_SVR, SVR_ON);
    put_le32(s->lapic + LAPIC_LINT1, LINT_NMI);
    if (legacy)
        put_le32(s->lapic + LAPIC_LINT0, LINT_EXTINT);
}

/* Kernels compare memory types, and complain. */
void boot_other_vp(const struct boot_params *p, struct hv_vp_state *s)
{
    if (p->protocol != BOOT_FIRMWARE)
        set_mtrrs(s);
}

bool boot_load(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s, err *e)
{
    uint8_t magic[4];
    hv_vp_state_reset(s, 0);
    set_lapic(s, p->legacy_apic);
    if (p->protocol == BOOT_FIRMWARE)
        return true;
    set_mtrrs(s);
    if (p->protocol == BOOT_MULTIBOOT)
        return boot_load_multiboot(p, mem, s, e);
    if (!boot_file_read(&p->kernel, 0, magic, sizeof magic, e))
        return false;
    if (memcmp(magic, "\177ELF", 4) == 0)
        return boot_load_elf(p, mem, s, e);
    return boot_load_bzimage(p, mem, s, e);
}
