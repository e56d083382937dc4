/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Paging and the software TLB. Source: SDM vol. 3, chapter 4.
 *
 * A TLB tag is page | generation: a CR3 write takes the next generation and so empties the table at
 * no cost; entries of global pages are found again by their page number and carried over.
 */
#include <stdlib.h>

#include "core/hv/soft/check.h"
#include "core/hv/soft/jit.h"
#include "core/hv/soft/soft.h"

enum { META_GLOBAL = 1, META_LARGE = 2 };
#define PHYS_MASK ((1ull << SOFT_PHYS_BITS) - 1)
#define PAGE_BITS (~0xfffull)

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80, PTE_G = 0x100 };
#define PTE_NX (1ull << 63)
enum { ERR_P = 1, ERR_W = 2, ERR_U = 4, ERR_RSVD = 8, ERR_I = 16 };
enum access { ACC_READ, ACC_WRITE, ACC_EXEC };

struct soft_mmu_state {
    struct soft_tlbe tlb[SOFT_MMU_KINDS][SOFT_TLB_SIZE];
    struct soft_tlbe none[SOFT_TLB_SIZE]; /* in use while every access must be looked at (#AC) */
    struct soft_fetch fetch[SOFT_FETCH_SIZE];
    /* Pages that code was fetched from since the last flush of jumps, for either half of the
     * address space, as two filters: small pages by number modulo 4096, large ones by 2 MiB number
     * modulo 64. An INVLPG elsewhere concerns no jump. */
    uint64_t fetched[2][64], fetched_large[2];
    bool upper_local; /* some of the upper half were not global: a CR3 write concerns it */
    uint64_t large;   /* a bit for each (2 MiB number modulo 64) that has large-page entries */
    uint8_t rmw[16];
    uint64_t rmw_lin, rmw_phys;
    bool rmw_buffered;
    /* An operand over two pages of memory: the parts, while soft.split_lock is held. */
    bool split;
    uint8_t *part[2];
    uint64_t part_phys[2];
    bool part_code[2];
};

struct xlat {
    uint64_t phys;                   /* of the byte asked for */
    bool write, global, large, huge; /* huge: 4 MiB, 1 GiB */
};

static void tlb_clear(struct soft_vp *vp)
{
    for (unsigned k = 0; k < SOFT_MMU_KINDS; k++)
        for (unsigned n = 0; n < SOFT_TLB_SIZE; n++)
            vp->mmu_state->tlb[k][n].rtag = vp->mmu_state->tlb[k][n].wtag = SOFT_TLB_NONE;
    vp->tlb_gen = 1;
    vp->mmu_state->large = 0;
}

struct soft_mmu_state *soft_mmu_new(struct soft_vp *vp)
{
    struct soft_mmu_state *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    vp->mmu_state = m;
    for (unsigned n = 0; n < SOFT_TLB_SIZE; n++)
        m->none[n].rtag = m->none[n].wtag = SOFT_TLB_NONE;
    tlb_clear(vp);
    vp->tlb = m->tlb[SOFT_MMU_KERNEL_USER];
    return m;
}

uint64_t soft_mmu_memory(void)
{
    return sizeof(struct soft_mmu_state);
}

void soft_mmu_free(struct soft_mmu_state *m)
{
    free(m);
}

const struct soft_region *soft_region_at(struct soft *s, uint64_t gpa)
{
    const struct soft_map *map = atomic_load_explicit(&s->map, memory_order_acquire);
    for (unsigned n = 0; map && n < map->n; n++)
        if (gpa - map->r[n].gpa < map->r[n].size)
            return &map->r[n];
    return NULL;
}

static enum soft_mmu kernel_view(const struct soft_vp *vp)
{
    return vp->cr4 & CR4_SMAP ? SOFT_MMU_KERNEL : SOFT_MMU_KERNEL_USER;
}

static enum soft_mmu view_of(const struct soft_vp *vp, unsigned cpl)
{
    if (cpl == 3)
        return SOFT_MMU_USER;
    return (vp->cr4 & CR4_SMAP) && !(vp->eflags & FL_AC) ? SOFT_MMU_KERNEL : SOFT_MMU_KERNEL_USER;
}

static bool checks_alignment(const struct soft_vp *vp)
{
    return vp->cpl == 3 && (vp->cr0 & CR0_AM) && (vp->eflags & FL_AC);
}

void soft_mmu_update(struct soft_vp *vp)
{
    vp->mmu = (uint8_t)view_of(vp, vp->cpl);
    vp->stack_view = (uint8_t)kernel_view(vp);
    bool none = checks_alignment(vp);
    if (none && !vp->checking && vp->tlb != vp->mmu_state->none)
        soft_jit_close_windows(vp);
    vp->tlb = none || vp->checking ? vp->mmu_state->none : vp->mmu_state->tlb[vp->mmu];
}

static void flush_jumps(struct soft_vp *vp, unsigned halves)
{
    struct soft_mmu_state *m = vp->mmu_state;
    for (unsigned half = 0; half < 2; half++)
        if (halves >> half & 1) {
            memset(m->fetched[half], 0, sizeof m->fetched[half]);
            m->fetched_large[half] = 0;
        }
    if (halves & 2)
        m->upper_local = false;
    soft_jump_flush(vp, halves);
}

static void note_fetched(struct soft_mmu_state *m, uint64_t lin, const struct xlat *x)
{
    unsigned half = lin >> 63;
    m->fetched[half][lin >> 18 & 63] |= 1ull << (lin >> 12 & 63);
    if (x->large)
        m->fetched_large[half] |= x->huge ? ~0ull : 1ull << (lin >> 21 & 63);
    if (half && !x->global)
        m->upper_local = true;
}

static bool was_fetched(const struct soft_mmu_state *m, uint64_t lin)
{
    unsigned half = lin >> 63;
    return (m->fetched[half][lin >> 18 & 63] >> (lin >> 12 & 63) & 1) ||
           (m->fetched_large[half] >> (lin >> 21 & 63) & 1);
}

/* Jumps within the upper half live on over a CR3 write if all their pages were global. */
void soft_flush_tlb(struct soft_vp *vp, bool global)
{
    if (global || vp->tlb_gen >= 4094)
        tlb_clear(vp);
    else
        vp->tlb_gen++;
    soft_jit_close_windows(vp);
    flush_jumps(vp, global || vp->mmu_state->upper_local ? 3 : 1);
}

void soft_flush_page(struct soft_vp *vp, uint64_t lin)
{
    struct soft_mmu_state *m = vp->mmu_state;
    bool large = m->large >> (lin >> 21 & 63) & 1;
    for (unsigned k = 0; k < SOFT_MMU_KINDS; k++) {
        struct soft_tlbe *t = &m->tlb[k][(lin >> 12) & (SOFT_TLB_SIZE - 1)];
        if (((t->rtag ^ lin) & PAGE_BITS) == 0 || ((t->wtag ^ lin) & PAGE_BITS) == 0)
            t->rtag = t->wtag = SOFT_TLB_NONE;
        for (unsigned n = 0; large && n < SOFT_TLB_SIZE; n++) {
            t = &m->tlb[k][n];
            if ((t->meta & META_LARGE) &&
                ((t->rtag ^ lin) >> 30 == 0 || (t->wtag ^ lin) >> 30 == 0))
                t->rtag = t->wtag = SOFT_TLB_NONE;
        }
    }
    soft_jit_close_windows(vp);
    if (was_fetched(m, lin))
        flush_jumps(vp, 1u << (lin >> 63));
}

/* Whether any entry, or window (perhaps), let this VP write to the page; from now on none does. */
bool soft_drop_write(struct soft_vp *vp, uint64_t page)
{
    bool had = vp->win_written[page >> 18 & 63] >> (page >> 12 & 63) & 1;
    soft_jit_close_windows(vp);
    for (unsigned k = 0; k < SOFT_MMU_KINDS; k++)
        for (unsigned n = 0; n < SOFT_TLB_SIZE; n++) {
            struct soft_tlbe *t = &vp->mmu_state->tlb[k][n];
            if ((t->meta & PAGE_BITS) != page || t->wtag == SOFT_TLB_NONE)
                continue;
            t->wtag = SOFT_TLB_NONE;
            had = true;
        }
    return had;
}

/* Page table entries. */

static uint8_t *table_at(struct soft *s, uint64_t gpa)
{
    const struct soft_region *r = soft_region_at(s, gpa);
    return r ? r->host + (gpa - r->gpa) : NULL;
}

static uint64_t pte_get(const uint8_t *host, bool wide)
{
    return wide ? __atomic_load_n((const uint64_t *)(const void *)host, __ATOMIC_RELAXED)
                : __atomic_load_n((const uint32_t *)(const void *)host, __ATOMIC_RELAXED);
}

/* Sets accessed and dirty bits if the entry is still what was read; false: walk again. */
static bool pte_mark(struct soft_vp *vp, uint64_t gpa, uint8_t *host, bool wide, uint64_t old,
                     uint64_t bits)
{
    if ((old & bits) == bits)
        return true;
    const struct soft_region *r = soft_region_at(vp->soft, gpa);
    if (!r || !r->writable)
        return true;
    bool done;
    if (wide) {
        uint64_t was = old;
        done = __atomic_compare_exchange_n((uint64_t *)(void *)host, &was, old | bits, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    } else {
        uint32_t was = (uint32_t)old;
        done = __atomic_compare_exchange_n((uint32_t *)(void *)host, &was, (uint32_t)(old | bits),
                                           false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    }
    if (done && atomic_load_explicit(&r->code[(gpa - r->gpa) >> 12], memory_order_relaxed))
        soft_code_written(vp->soft, vp, gpa, 1);
    return done;
}

struct walk {
    uint64_t gpa[4], pte[4];
    uint8_t *host[4];
    unsigned n;
    uint64_t base, mask; /* of the page found: base | (lin & mask) */
    bool wide;
};

enum step { STEP_FAULT, STEP_OK, STEP_RSVD };

static uint64_t with_a20(const struct soft_vp *vp, uint64_t gpa)
{
    return gpa & atomic_load_explicit(&vp->soft->a20_mask, memory_order_relaxed);
}

static enum step walk_entry(struct soft_vp *vp, struct walk *w, uint64_t at)
{
    uint64_t gpa = with_a20(vp, at);
    uint8_t *host = table_at(vp->soft, gpa);
    uint64_t pte = host ? pte_get(host, w->wide) : ~0ull;
    w->gpa[w->n] = gpa;
    w->host[w->n] = host;
    w->pte[w->n++] = pte;
    if (!(pte & PTE_P))
        return STEP_FAULT;
    if (!host)
        return STEP_RSVD;
    if (w->wide) {
        uint64_t rsvd = 0x000fffffffffffffull & ~PHYS_MASK;
        if (!(vp->efer & EFER_NXE))
            rsvd |= PTE_NX;
        if (!soft_long_mode(vp))
            rsvd |= 0x7ff0000000000000ull;
        if (pte & rsvd)
            return STEP_RSVD;
    }
    return STEP_OK;
}

static enum step walk_wide(struct soft_vp *vp, uint64_t lin, struct walk *w)
{
    unsigned level = soft_long_mode(vp) ? 4 : 2;
    uint64_t table = vp->cr3 & PHYS_MASK & PAGE_BITS;
    w->wide = true;
    if (level == 2) {
        uint64_t pdpte = vp->pdpte[lin >> 30 & 3];
        if (!(pdpte & PTE_P))
            return STEP_FAULT;
        table = pdpte & PHYS_MASK & PAGE_BITS;
    }
    for (;; level--) {
        unsigned shift = 12 + 9 * (level - 1);
        enum step st = walk_entry(vp, w, table + (lin >> shift & 511) * 8);
        if (st != STEP_OK)
            return st;
        uint64_t pte = w->pte[w->n - 1];
        w->mask = (1ull << shift) - 1;
        if (level == 1 || (pte & PTE_PS)) {
            if (level == 4 || (level == 3 && !vp->soft->has_1g))
                return STEP_RSVD;
            if (level > 1 && (pte & w->mask & 0xffffffe000ull))
                return STEP_RSVD;
            w->base = pte & PHYS_MASK & ~w->mask;
            return STEP_OK;
        }
        table = pte & PHYS_MASK & PAGE_BITS;
    }
}

static enum step walk_narrow(struct soft_vp *vp, uint64_t lin, struct walk *w)
{
    w->wide = false;
    enum step st = walk_entry(vp, w, (vp->cr3 & 0xfffff000u) + (lin >> 22 & 1023) * 4);
    if (st != STEP_OK)
        return st;
    uint64_t pde = w->pte[0];
    if ((pde & PTE_PS) && (vp->cr4 & CR4_PSE)) {
        if (pde & 0x300000)
            return STEP_RSVD;
        w->mask = 0x3fffff;
        w->base = (pde & 0xffc00000u) | (pde & 0xfe000) << 19;
        return STEP_OK;
    }
    st = walk_entry(vp, w, (pde & 0xfffff000u) + (lin >> 12 & 1023) * 4);
    w->mask = 0xfff;
    w->base = w->pte[w->n - 1] & 0xfffff000u;
    return st;
}

static bool permitted(const struct soft_vp *vp, enum soft_mmu view, enum access acc, uint64_t all,
                      bool nx)
{
    bool user = all & PTE_U, wr = all & PTE_W;
    if (view == SOFT_MMU_USER) {
        if (!user || (acc == ACC_WRITE && !wr))
            return false;
        return acc != ACC_EXEC || !nx;
    }
    if (acc == ACC_EXEC)
        return !nx && !(user && (vp->cr4 & CR4_SMEP));
    if (user && view == SOFT_MMU_KERNEL)
        return false;
    return acc != ACC_WRITE || wr || !(vp->cr0 & CR0_WP);
}

/* False: *error is the page fault's code. */
static bool translate(struct soft_vp *vp, uint64_t lin, enum access acc, enum soft_mmu view,
                      struct xlat *x, uint32_t *error)
{
    if (!(vp->cr0 & CR0_PG)) {
        *x = (struct xlat){.phys = with_a20(vp, lin & 0xffffffffu), .write = true};
        return true;
    }
    for (;;) {
        struct walk w = {.n = 0};
        enum step st = (vp->cr4 & CR4_PAE) ? walk_wide(vp, lin, &w) : walk_narrow(vp, lin, &w);
        *error = (acc == ACC_WRITE ? ERR_W : 0) | (view == SOFT_MMU_USER ? ERR_U : 0);
        if (acc == ACC_EXEC &&
            ((vp->cr4 & CR4_SMEP) || ((vp->efer & EFER_NXE) && (vp->cr4 & CR4_PAE))))
            *error |= ERR_I;
        if (st == STEP_RSVD)
            *error |= ERR_P | ERR_RSVD;
        if (st != STEP_OK)
            return false;
        uint64_t all = PTE_U | PTE_W;
        bool nx = false;
        for (unsigned n = 0; n < w.n; n++) {
            all &= w.pte[n];
            nx |= w.wide && (w.pte[n] & PTE_NX);
        }
        if (!permitted(vp, view, acc, all, nx)) {
            *error |= ERR_P;
            return false;
        }
        bool same = true;
        for (unsigned n = 0; n < w.n && same; n++)
            same = pte_mark(vp, w.gpa[n], w.host[n], w.wide, w.pte[n],
                            PTE_A | (n == w.n - 1 && acc == ACC_WRITE ? PTE_D : 0));
        if (!same)
            continue;
        uint64_t leaf = w.pte[w.n - 1];
        x->phys = with_a20(vp, w.base | (lin & w.mask));
        x->write = ((leaf & PTE_D) || acc == ACC_WRITE) && permitted(vp, view, ACC_WRITE, all, nx);
        x->global = (leaf & PTE_G) && (vp->cr4 & CR4_PGE);
        x->large = w.mask > 0xfff;
        x->huge = w.mask > 0x1fffff;
        return true;
    }
}

static _Noreturn void page_fault(struct soft_vp *vp, const struct insn *i, uint64_t lin,
                                 uint32_t error)
{
    vp->cr2 = lin;
    soft_raise_error(vp, i, EXC_PF, error);
}

/* #GP(0), or #SS(0) for a stack reference. */
static _Noreturn void bad_address(struct soft_vp *vp, const struct insn *i)
{
    bool stack = i && (i->flags & INSN_MEM) && i->seg == HV_SS;
    soft_raise_error(vp, i, stack ? EXC_SS : EXC_GP, 0);
}

/* Data breakpoints (SDM vol. 3, 17.2.4). */
static unsigned watch_len(const struct soft_vp *vp, unsigned n)
{
    static const uint8_t len[4] = {1, 2, 8, 4};
    return len[vp->dr7 >> (18 + 4 * n) & 3];
}

static bool watched_page(const struct soft_vp *vp, uint64_t lin)
{
    if (SOFT_LIKELY(!(vp->dr7 & 0xff)))
        return false;
    for (unsigned n = 0; n < 4; n++)
        if ((vp->dr7 >> (2 * n) & 3) && (vp->dr7 >> (16 + 4 * n) & 3) &&
            ((vp->dr[n] ^ lin) & PAGE_BITS) == 0)
            return true;
    return false;
}

static void watch(struct soft_vp *vp, uint64_t lin, unsigned size, bool write)
{
    if (SOFT_LIKELY(!(vp->dr7 & 0xff)))
        return;
    for (unsigned n = 0; n < 4; n++) {
        unsigned rw = vp->dr7 >> (16 + 4 * n) & 3, len = watch_len(vp, n);
        uint64_t at = vp->dr[n] & ~(uint64_t)(len - 1);
        if (!(vp->dr7 >> (2 * n) & 3) || !(rw == 3 || (rw == 1 && write)))
            continue;
        if (lin < at + len && at < lin + size)
            vp->db_pending |= 1u << n;
    }
}

/*
 * Translates one page's worth and fills the TLB. Returns the host address of `lin` when it is
 * memory that the access may touch directly; NULL for MMIO, writes to ROM.
 */
static uint8_t *look(struct soft_vp *vp, const struct insn *i, uint64_t lin, enum access acc,
                     enum soft_mmu view, uint64_t *phys, bool *has_code)
{
    struct soft_mmu_state *m = vp->mmu_state;
    struct soft_tlbe *t = &m->tlb[view][(lin >> 12) & (SOFT_TLB_SIZE - 1)];
    *has_code = false;
    if ((t->meta & META_GLOBAL) && ((t->rtag ^ lin) & PAGE_BITS) == 0 && t->rtag != SOFT_TLB_NONE) {
        t->rtag = (lin & PAGE_BITS) + vp->tlb_gen;
        if (t->wtag != SOFT_TLB_NONE)
            t->wtag = t->rtag;
        if (acc == ACC_READ || t->wtag != SOFT_TLB_NONE) {
            *phys = (t->meta & PAGE_BITS) | (lin & 0xfff);
            return (uint8_t *)(uintptr_t)(t->addend + lin);
        }
    }
    struct xlat x;
    uint32_t error;
    if (soft_long_mode(vp) && !soft_canonical(lin))
        bad_address(vp, i);
    if (!translate(vp, lin, acc, view, &x, &error))
        page_fault(vp, i, lin, error);
    *phys = x.phys;
    const struct soft_region *r = soft_region_at(vp->soft, x.phys);
    uint64_t apic = vp->lapic ? soft_lapic_base(vp->lapic) : 0;
    if (SOFT_UNLIKELY((apic & 0x800) && ((x.phys ^ apic) & PHYS_MASK & PAGE_BITS) == 0))
        return NULL;
    if (!r || (acc == ACC_WRITE && !r->writable))
        return NULL;
    uint64_t page = (x.phys - r->gpa) >> 12;
    uint8_t *host = r->host + (x.phys - r->gpa);
    bool log = atomic_load_explicit(&vp->soft->dirty_log, memory_order_relaxed);
    if (acc == ACC_WRITE && log)
        atomic_fetch_or(&r->dirty[page / 64], 1ull << (page & 63));
    bool writable = x.write && r->writable && (!log || acc == ACC_WRITE);
    if (!watched_page(vp, lin)) {
        t->rtag = (lin & PAGE_BITS) + vp->tlb_gen;
        t->addend = (uint64_t)(uintptr_t)host - lin;
        t->meta = (x.phys & PAGE_BITS) | (x.global ? META_GLOBAL : 0) | (x.large ? META_LARGE : 0);
        if (x.large)
            m->large |= x.huge ? ~0ull : 1ull << (lin >> 21 & 63);
        t->wtag = writable ? t->rtag : SOFT_TLB_NONE;
        atomic_thread_fence(memory_order_seq_cst);
    }
    if (atomic_load(&r->code[page])) {
        *has_code = true;
        t->wtag = SOFT_TLB_NONE;
    }
    return host;
}

static void align_check(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned size)
{
    if (SOFT_UNLIKELY(checks_alignment(vp)) && size <= 8 && (lin & (size - 1)))
        soft_raise_error(vp, i, EXC_AC, 0);
}

static bool is_apic(struct soft_vp *vp, uint64_t phys)
{
    uint64_t base = soft_lapic_base(vp->lapic);
    return (base & 0xc00) == 0x800 && ((phys ^ base) & PHYS_MASK & PAGE_BITS) == 0;
}

static uint64_t io_read(struct soft_vp *vp, uint64_t phys, unsigned size)
{
    if (is_apic(vp, phys)) {
        uint32_t v = soft_lapic_read(vp->lapic, phys & 0xffc);
        return v >> (phys & 3) * 8;
    }
    soft_count(vp, HV_COUNT_MMIO);
    return soft_io_read(vp, HV_IO_MMIO, phys, size);
}

static void io_write(struct soft_vp *vp, uint64_t phys, unsigned size, uint64_t v)
{
    if (is_apic(vp, phys)) {
        if (size >= 4 && !(phys & 3))
            soft_lapic_write(vp->lapic, phys & 0xffc, (uint32_t)v);
        return;
    }
    soft_count(vp, HV_COUNT_MMIO); /* or memory that is read-only now */
    soft_io_write(vp, HV_IO_MMIO, phys, size, v);
}

static unsigned io_piece(uint64_t phys, unsigned size)
{
    unsigned n = 8;
    while (n > size || (size != n && (phys & (n - 1))))
        n /= 2;
    return n;
}

static void mmio_read(struct soft_vp *vp, uint64_t phys, uint8_t *buf, unsigned size)
{
    soft_check_once(vp);
    while (size) {
        unsigned n = io_piece(phys, size);
        uint64_t v = io_read(vp, phys, n);
        memcpy(buf, &v, n);
        phys += n;
        buf += n;
        size -= n;
    }
}

static void mmio_write(struct soft_vp *vp, uint64_t phys, const uint8_t *buf, unsigned size)
{
    while (size) {
        unsigned n = io_piece(phys, size);
        uint64_t v = 0;
        memcpy(&v, buf, n);
        io_write(vp, phys, n, v);
        phys += n;
        buf += n;
        size -= n;
    }
}

SOFT_GUEST_MEMORY static void copy(void *to, const void *from, unsigned size)
{
    switch (size) { /* single accesses where the size has one */
    case 1: *(uint8_t *)to = *(const uint8_t *)from; break;
    case 2: memcpy(to, from, 2); break;
    case 4: memcpy(to, from, 4); break;
    case 8: memcpy(to, from, 8); break;
    default: memcpy(to, from, size); break;
    }
}

static void read_view(struct soft_vp *vp, const struct insn *i, enum soft_mmu view, uint64_t lin,
                      uint8_t *buf, unsigned size)
{
    while (size) {
        unsigned n = 0x1000 - (lin & 0xfff);
        n = n < size ? n : size;
        uint64_t phys;
        bool code;
        const uint8_t *host = look(vp, i, lin, ACC_READ, view, &phys, &code);
        if (host)
            copy(buf, host, n);
        else
            mmio_read(vp, phys, buf, n);
        lin += n;
        if (!soft_long_mode(vp))
            lin &= 0xffffffffu;
        buf += n;
        size -= n;
    }
}

static void check_write(struct soft_vp *vp, uint8_t *host, unsigned n, bool code)
{
    if (host && !code)
        soft_check_writes(vp, host, n);
    else
        soft_check_once(vp);
}

static void write_view(struct soft_vp *vp, const struct insn *i, enum soft_mmu view, uint64_t lin,
                       const uint8_t *buf, unsigned size)
{
    uint64_t phys;
    bool code;
    unsigned first = 0x1000 - (lin & 0xfff);
    if (first < size) { /* both pages must be writable before either is written */
        look(vp, i, lin, ACC_WRITE, view, &phys, &code);
        look(vp, i, soft_long_mode(vp) ? lin + first : (lin + first) & 0xffffffffu, ACC_WRITE, view,
             &phys, &code);
    }
    while (size) {
        unsigned n = 0x1000 - (lin & 0xfff);
        n = n < size ? n : size;
        uint8_t *host = look(vp, i, lin, ACC_WRITE, view, &phys, &code);
        if (SOFT_UNLIKELY(vp->checking))
            check_write(vp, host, n, code);
        if (host) {
            copy(host, buf, n);
            if (code)
                soft_code_written(vp->soft, vp, phys, n);
        } else {
            mmio_write(vp, phys, buf, n);
        }
        lin += n;
        if (!soft_long_mode(vp))
            lin &= 0xffffffffu;
        buf += n;
        size -= n;
    }
}

void soft_read(struct soft_vp *vp, const struct insn *i, uint64_t lin, void *buf, unsigned size)
{
    vp->cur = i;
    align_check(vp, i, lin, size);
    read_view(vp, i, vp->mmu, lin, buf, size);
    watch(vp, lin, size, false);
}

void soft_write(struct soft_vp *vp, const struct insn *i, uint64_t lin, const void *buf,
                unsigned size)
{
    vp->cur = i;
    align_check(vp, i, lin, size);
    write_view(vp, i, vp->mmu, lin, buf, size);
    watch(vp, lin, size, true);
}

void soft_probe_write(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned size)
{
    uint64_t phys;
    bool code;
    if (soft_hit_write(vp, lin, size))
        return;
    align_check(vp, i, lin, size);
    look(vp, i, lin, ACC_WRITE, vp->mmu, &phys, &code);
    uint64_t last = lin + size - 1;
    if ((last ^ lin) & PAGE_BITS)
        look(vp, i, (soft_long_mode(vp) ? last : last & 0xffffffffu) & PAGE_BITS, ACC_WRITE,
             vp->mmu, &phys, &code);
}

/*
 * Locked operations over a page border take one lock for the whole machine; whoever touches the
 * same operand so crosses the border too. Nothing can fault between this and the commit.
 */
static void *rmw_split(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned size)
{
    struct soft_mmu_state *m = vp->mmu_state;
    unsigned first = 0x1000 - (lin & 0xfff);
    uint64_t next = soft_long_mode(vp) ? lin + first : (uint32_t)(lin + first);
    m->part[0] = look(vp, i, lin, ACC_WRITE, vp->mmu, &m->part_phys[0], &m->part_code[0]);
    m->part[1] = look(vp, i, next, ACC_WRITE, vp->mmu, &m->part_phys[1], &m->part_code[1]);
    m->split = m->part[0] && m->part[1];
    m->rmw_buffered = true;
    if (!m->split) {
        read_view(vp, i, vp->mmu, lin, m->rmw, size);
        return m->rmw;
    }
    if (SOFT_UNLIKELY(vp->checking))
        soft_check_once(vp);
    pthread_mutex_lock(&vp->soft->split_lock);
    memcpy(m->rmw, m->part[0], first);
    memcpy(m->rmw + first, m->part[1], size - first);
    return m->rmw;
}

static void commit_split(struct soft_vp *vp, unsigned size)
{
    struct soft_mmu_state *m = vp->mmu_state;
    unsigned first = 0x1000 - (m->rmw_lin & 0xfff);
    memcpy(m->part[0], m->rmw, first);
    memcpy(m->part[1], m->rmw + first, size - first);
    m->split = false;
    pthread_mutex_unlock(&vp->soft->split_lock);
    if (m->part_code[0])
        soft_code_written(vp->soft, vp, m->part_phys[0], first);
    if (m->part_code[1])
        soft_code_written(vp->soft, vp, m->part_phys[1], size - first);
}

void *soft_rmw_slow(struct soft_vp *vp, const struct insn *i, uint64_t lin, unsigned size)
{
    struct soft_mmu_state *m = vp->mmu_state;
    bool code;
    vp->cur = i;
    align_check(vp, i, lin, size);
    m->rmw_lin = lin;
    uint8_t *host;
    if ((lin & 0xfff) + size > 0x1000) {
        host = rmw_split(vp, i, lin, size);
    } else {
        host = look(vp, i, lin, ACC_WRITE, vp->mmu, &m->rmw_phys, &code);
        if (SOFT_UNLIKELY(vp->checking))
            check_write(vp, host, size, code);
        m->rmw_buffered = !host;
        if (!host) {
            read_view(vp, i, vp->mmu, lin, m->rmw, size);
            host = m->rmw;
        } else if (!code) {
            m->rmw_phys = SOFT_TLB_NONE;
        }
    }
    watch(vp, lin, size, true);
    return host;
}

void soft_rmw_commit(struct soft_vp *vp, const struct insn *i, unsigned size)
{
    struct soft_mmu_state *m = vp->mmu_state;
    if (m->split)
        commit_split(vp, size);
    else if (m->rmw_buffered)
        write_view(vp, i, vp->mmu, m->rmw_lin, m->rmw, size);
    else if (m->rmw_phys != SOFT_TLB_NONE)
        soft_code_written(vp->soft, vp, m->rmw_phys, size);
}

void soft_sys_read(struct soft_vp *vp, const struct insn *i, uint64_t lin, void *buf, unsigned size)
{
    vp->cur = i;
    read_view(vp, i, kernel_view(vp), lin, buf, size);
}

void soft_sys_write(struct soft_vp *vp, const struct insn *i, uint64_t lin, const void *buf,
                    unsigned size)
{
    vp->cur = i;
    write_view(vp, i, kernel_view(vp), lin, buf, size);
}

void soft_write_as(struct soft_vp *vp, const struct insn *i, unsigned cpl, uint64_t lin,
                   const void *buf, unsigned size)
{
    vp->cur = i;
    write_view(vp, i, view_of(vp, cpl), lin, buf, size);
}

static uint8_t no_memory[4096] = {[0 ... 4095] = 0xff}; /* what executes where nothing is */

const uint8_t *soft_fetch_page(struct soft_vp *vp, uint64_t lin, uint64_t *phys)
{
    uint64_t page = lin & PAGE_BITS, key = soft_jump_key(vp, lin) >> 3;
    struct soft_fetch *f = &vp->mmu_state->fetch[(lin >> 12) & (SOFT_FETCH_SIZE - 1)];
    if (f->lin == page && f->key == key && f->host) {
        *phys = f->phys;
        return f->host;
    }
    struct xlat x;
    uint32_t error;
    if (soft_long_mode(vp) && !soft_canonical(lin))
        soft_raise_error(vp, NULL, EXC_GP, 0);
    if (!translate(vp, lin, ACC_EXEC, vp->cpl == 3 ? SOFT_MMU_USER : kernel_view(vp), &x, &error))
        page_fault(vp, NULL, lin, error);
    const struct soft_region *r = soft_region_at(vp->soft, x.phys);
    *phys = x.phys & PAGE_BITS;
    if (!r) {
        *phys = SOFT_TLB_NONE;
        return no_memory;
    }
    const uint8_t *host = r->host + ((x.phys & PAGE_BITS) - r->gpa);
    *f = (struct soft_fetch){page, key, *phys, host};
    note_fetched(vp->mmu_state, lin, &x);
    return host;
}

bool soft_load_pdptes(struct soft_vp *vp, uint64_t cr3)
{
    uint64_t v[4];
    const uint8_t *host = table_at(vp->soft, cr3 & 0xffffffe0u);
    for (unsigned n = 0; n < 4; n++) {
        v[n] = host ? pte_get(host + 8 * n, true) : ~0ull;
        if ((v[n] & PTE_P) && (v[n] & (~PHYS_MASK | 0x1e6)))
            return false;
    }
    memcpy(vp->pdpte, v, sizeof v);
    return true;
}
