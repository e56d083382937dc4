/* SPDX-License-Identifier: GPL-3.0-or-later */
/* ELF kernels: segments, the PVH note and its start_info; multiboot uses the segments too. */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/checked.h"
#include "core/chipset/layout.h"
#include "core/machine/boot.h"

enum { SEGMENTS_MAX = 64, NOTES_MAX = 64 * 1024, NOTE_PVH_ENTRY = 18 };
enum { START_MAGIC = 0x336ec578, START_INFO = 56, START_MODULE = 32, START_RANGE = 24 };

static bool bad_elf(const struct boot_file *f, const char *what, err *e)
{
    return err_set(e, ERR_CORRUPT, "%s is not a kernel that can be started (%s)", f->name, what);
}

/* ---- one shape for both classes ---- */

struct head {
    uint64_t entry, phoff;
    unsigned phnum, phentsize;
    bool is64;
};

static bool read_head(const struct boot_file *f, struct head *h, err *e)
{
    uint8_t raw[sizeof(Elf64_Ehdr)];
    if (f->size < sizeof raw)
        return bad_elf(f, "too short", e);
    if (!boot_file_read(f, 0, raw, sizeof raw, e))
        return false;
    if (memcmp(raw, ELFMAG, SELFMAG) || raw[EI_DATA] != ELFDATA2LSB)
        return bad_elf(f, "no little-endian ELF", e);
    h->is64 = raw[EI_CLASS] == ELFCLASS64;
    Elf64_Ehdr a;
    Elf32_Ehdr b;
    memcpy(&a, raw, sizeof a);
    memcpy(&b, raw, sizeof b);
    if (a.e_machine != EM_X86_64 && a.e_machine != EM_386)
        return bad_elf(f, "for another processor", e);
    if (h->is64)
        *h = (struct head){a.e_entry, a.e_phoff, a.e_phnum, a.e_phentsize, true};
    else
        *h = (struct head){b.e_entry, b.e_phoff, b.e_phnum, b.e_phentsize, false};
    if (!h->phnum || h->phnum > SEGMENTS_MAX ||
        h->phentsize < (h->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)))
        return bad_elf(f, "program headers", e);
    return true;
}

static bool read_segment(const struct boot_file *f, const struct head *h, unsigned i,
                         Elf64_Phdr *out, err *e)
{
    uint64_t off;
    if (!checked_add(h->phoff, (uint64_t)i * h->phentsize, &off))
        return bad_elf(f, "program headers", e);
    if (h->is64)
        return boot_file_read(f, off, out, sizeof *out, e);
    Elf32_Phdr p;
    if (!boot_file_read(f, off, &p, sizeof p, e))
        return false;
    *out = (Elf64_Phdr){.p_type = p.p_type,
                        .p_offset = p.p_offset,
                        .p_paddr = p.p_paddr,
                        .p_vaddr = p.p_vaddr,
                        .p_filesz = p.p_filesz,
                        .p_memsz = p.p_memsz};
    return true;
}

static bool zero(struct hv_memory *mem, uint64_t gpa, uint64_t len)
{
    static const uint8_t none[65536];
    while (len) {
        size_t n = (size_t)MIN(len, sizeof none);
        if (!hv_memory_write(mem, gpa, none, n))
            return false;
        gpa += n;
        len -= n;
    }
    return true;
}

static bool load_segment(const struct boot_file *f, const Elf64_Phdr *p, const struct memmap *map,
                         struct hv_memory *mem, struct boot_elf *out, err *e)
{
    if (!p->p_memsz)
        return true;
    if (p->p_filesz > p->p_memsz)
        return bad_elf(f, "a segment larger in the file than in memory", e);
    /* Conventional memory, but for the boot structures there. */
    bool low =
        (p->p_paddr >= BOOT_CMDLINE + BOOT_CMDLINE_MAX &&
         range_within(p->p_paddr, p->p_memsz, LAYOUT_EBDA)) ||
        (p->p_paddr >= BOOT_PAGE_TABLES_END && range_within(p->p_paddr, p->p_memsz, BOOT_INFO));
    if (!low &&
        (p->p_paddr < LAYOUT_HIGH_RAM_BASE || !range_within(p->p_paddr, p->p_memsz, map->low_end)))
        return err_set(e, ERR_INVALID,
                       "%s wants to be loaded at 0x%" PRIx64 " (%" PRIu64
                       " KiB), where the machine has no memory for it",
                       f->name, (uint64_t)p->p_paddr, (uint64_t)p->p_memsz >> 10);
    out->lowest = MIN(out->lowest, p->p_paddr);
    out->highest = MAX(out->highest, p->p_paddr + p->p_memsz);
    return boot_file_load(f, p->p_offset, p->p_filesz, mem, p->p_paddr, e) &&
           (zero(mem, p->p_paddr + p->p_filesz, p->p_memsz - p->p_filesz) ||
            bad_elf(f, "segments", e));
}

/* Looks for Xen's note with the PVH entry among the notes of a segment. */
static bool scan_notes(const struct boot_file *f, const Elf64_Phdr *p, struct boot_elf *out, err *e)
{
    uint8_t notes[4096];
    size_t len = (size_t)MIN(p->p_filesz, sizeof notes), pos = 0;
    if (!boot_file_read(f, p->p_offset, notes, len, e))
        return false;
    while (len - pos >= 12) {
        uint64_t name = get_le32(notes + pos), desc = get_le32(notes + pos + 4);
        uint32_t type = get_le32(notes + pos + 8);
        uint64_t desc_at = pos + 12 + align_up(name, 4), next = desc_at + align_up(desc, 4);
        if (desc_at + desc > len)
            return true;
        if (name == 4 && memcmp(notes + pos + 12, "Xen", 4) == 0 && type == NOTE_PVH_ENTRY) {
            if (desc == 4)
                out->pvh_entry = get_le32(notes + desc_at);
            else if (desc == 8)
                out->pvh_entry = get_le64(notes + desc_at);
        }
        if (next >= len)
            return true;
        pos = (size_t)next;
    }
    return true;
}

bool boot_elf_load(const struct boot_file *f, const struct memmap *map, struct hv_memory *mem,
                   struct boot_elf *out, err *e)
{
    struct head h = {0};
    if (!read_head(f, &h, e))
        return false;
    *out = (struct boot_elf){.entry = h.entry, .lowest = UINT64_MAX, .is64 = h.is64};
    for (unsigned i = 0; i < h.phnum; i++) {
        Elf64_Phdr p;
        if (!read_segment(f, &h, i, &p, e))
            return false;
        if (p.p_type == PT_LOAD && !load_segment(f, &p, map, mem, out, e))
            return false;
        if (p.p_type == PT_NOTE && !scan_notes(f, &p, out, e))
            return false;
    }
    if (out->highest == 0)
        return bad_elf(f, "nothing to load", e);
    return true;
}

/* ---- PVH ---- */

static bool put_start_info(const struct boot_params *p, struct hv_memory *mem, uint64_t initrd,
                           err *e)
{
    uint8_t info[START_INFO] = {0}, rest[START_MODULE + MEMMAP_MAX * START_RANGE] = {0};
    put_le32(info, START_MAGIC);
    put_le32(info + 4, 1); /* version */
    put_le32(info + 12, initrd ? 1 : 0);
    put_le64(info + 16, initrd ? BOOT_INFO_2 : 0);
    put_le64(info + 24, BOOT_CMDLINE);
    put_le64(info + 32, LAYOUT_ACPI_BASE);
    put_le64(info + 40, BOOT_INFO_2 + START_MODULE);
    put_le32(info + 48, (uint32_t)p->map->n);
    put_le64(rest, initrd);
    put_le64(rest + 8, p->initrd.size);
    for (size_t i = 0; i < p->map->n; i++) {
        uint8_t *r = rest + START_MODULE + i * START_RANGE;
        put_le64(r, p->map->range[i].base);
        put_le64(r + 8, p->map->range[i].size);
        put_le32(r + 16, (uint32_t)p->map->range[i].kind);
    }
    if (!hv_memory_write(mem, BOOT_INFO, info, sizeof info) ||
        !hv_memory_write(mem, BOOT_INFO_2, rest, sizeof rest))
        return err_set(e, ERR_INVALID, "The machine has too little memory to start a kernel");
    return true;
}

bool boot_load_elf(const struct boot_params *p, struct hv_memory *mem, struct hv_vp_state *s,
                   err *e)
{
    struct boot_elf elf;
    uint64_t initrd;
    if (!boot_elf_load(&p->kernel, p->map, mem, &elf, e))
        return false;
    if (!elf.pvh_entry && !elf.is64)
        return bad_elf(&p->kernel, "a 32-bit kernel without a PVH entry", e);
    if (!boot_put_initrd(p, mem, elf.lowest, elf.highest, LAYOUT_RAM_HOLE, &initrd, e) ||
        !boot_put_cmdline(p, mem, BOOT_CMDLINE_MAX - 1, e))
        return false;
    if (elf.pvh_entry) {
        s->gpr[HV_RBX] = BOOT_INFO;
        return put_start_info(p, mem, initrd, e) && boot_enter_32(mem, s, elf.pvh_entry, e);
    }
    s->gpr[HV_RSI] = BOOT_INFO;
    return boot_put_zero_page(p, mem, NULL, 0, initrd, e) && boot_enter_64(mem, s, elf.entry, e);
}
