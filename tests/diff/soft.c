/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Cases on the software processor, through the backend's public face alone. A guest at privilege 3
 * has Linux's selectors, the same LDT and the same pages; every vector's handler is one OUT in the
 * supervisor's half, whose upcall ends the run, and the exception frame tells the rest. So
 * exception delivery is compared too.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/hv/backend.h"
#include "core/hv/clock.h"
#include "tests/diff/diff.h"

/* Guest-physical layout. */
enum {
    PML4 = 0x1000,
    PDPT_LOW = 0x2000,
    PD_LOW = 0x3000,
    PT_CODE = 0x4000,
    PT_DATA = 0x5000,
    PDPT_HIGH = 0x6000,
    PD_HIGH = 0x7000,
    PT_HIGH = 0x8000,
    TABLES = 0x9000, /* GDT +0, LDT +0x200, TSS +0x400, handlers +0x800 */
    IDT = 0xa000,
    STACK = 0xb000,
    CODE = 0x10000,
    DATA = 0x20000,
    MEMORY = 0x40000,
};
#define HIGH 0xffff800000000000ull /* maps physical 0 on, supervisor only */
enum { GDT_AT = 0, LDT_AT = 0x200, TSS_AT = 0x400, HANDLERS_AT = 0x800 };
enum { PORT = 0x80, VECTORS = 32 };
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_AD = 0x60 };
#define PTE_NX (1ull << 63)

struct diff_soft {
    const struct hv_backend_ops *ops;
    void *b;
    struct hv_memory *memory;
    struct hv_io *io;
    struct hv_clock clock;
    struct hv_timers *timers;
    struct hv_region *ram;
    uint8_t *host; /* of the RAM, for the data pages alone */
    struct hv_vp_state base;
    unsigned vector;            /* that the last handler announced */
    uint32_t code_at, code_len; /* what the last case left in the code pages */
};

static void put64(struct diff_soft *s, uint64_t gpa, uint64_t v)
{
    hv_memory_write(s->memory, gpa, &v, 8);
}

static void make_pages(struct diff_soft *s)
{
    put64(s, PML4, PDPT_LOW | PTE_P | PTE_W | PTE_U);
    put64(s, PDPT_LOW, PD_LOW | PTE_P | PTE_W | PTE_U);
    put64(s, PD_LOW + 8 * (DIFF_CODE >> 21), PT_CODE | PTE_P | PTE_W | PTE_U);
    put64(s, PD_LOW + 8 * (DIFF_DATA >> 21), PT_DATA | PTE_P | PTE_W | PTE_U);
    for (unsigned k = 0; k < 2; k++) {
        put64(s, PT_CODE + 8 * k, (CODE + k * 0x1000) | PTE_P | PTE_U | PTE_AD);
        put64(s, PT_DATA + 8 * k, (DATA + k * 0x1000) | PTE_P | PTE_W | PTE_U | PTE_AD | PTE_NX);
    }
    put64(s, PT_DATA + 16, (DATA + 0x2000) | PTE_P | PTE_U | PTE_AD | PTE_NX);
    put64(s, PML4 + 8 * 256, PDPT_HIGH | PTE_P | PTE_W);
    put64(s, PDPT_HIGH, PD_HIGH | PTE_P | PTE_W);
    put64(s, PD_HIGH, PT_HIGH | PTE_P | PTE_W);
    for (unsigned k = 0; k < 16; k++)
        put64(s, PT_HIGH + 8 * k, k * 0x1000 | PTE_P | PTE_W | PTE_AD);
}

/* A descriptor; access and flags as bits 40-47 and 52-55. */
static uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)access << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)flags << 52 |
           (uint64_t)(base >> 24) << 56;
}

static const struct {
    uint32_t base, limit;
    uint8_t access, flags;
} ldt[DIFF_LDT_ENTRIES] = {
    {DIFF_CODE, 0x1fff, 0xfb, 0}, {DIFF_DATA, 0x2fff, 0xf3, 0},
    {DIFF_DATA, 0x2fff, 0xf3, 4}, {DIFF_DATA - 0x10000, 0xffff, 0xf7, 4},
    {DIFF_DATA, 0x2fff, 0xf1, 4},
};

static void make_tables(struct diff_soft *s)
{
    uint64_t gdt = TABLES + GDT_AT;
    put64(s, gdt + 8 * 2, descriptor(0, 0xfffff, 0x9b, 0xa));          /* 0x10 kernel code */
    put64(s, gdt + 8 * 3, descriptor(0, 0xfffff, 0x93, 0xc));          /* 0x18 kernel data */
    put64(s, gdt + 8 * 4, descriptor(0, 0xfffff, 0xfb, 0xc));          /* 0x23 user code, 32 bits */
    put64(s, gdt + 8 * 5, descriptor(0, 0xfffff, 0xf3, 0xc));          /* 0x2b user data */
    put64(s, gdt + 8 * 6, descriptor(0, 0xfffff, 0xfb, 0xa));          /* 0x33 user code */
    put64(s, gdt + 8 * 8, descriptor(TABLES + TSS_AT, 0x67, 0x8b, 0)); /* TSS, never reloaded */
    for (unsigned k = 0; k < DIFF_LDT_ENTRIES; k++)
        put64(s, TABLES + LDT_AT + 8 * k,
              descriptor(ldt[k].base, ldt[k].limit, ldt[k].access, ldt[k].flags));
    put64(s, TABLES + TSS_AT + 4, HIGH + STACK + 0x1000); /* RSP0 */
    hv_memory_write(s->memory, TABLES + TSS_AT + 102, &(uint16_t){0x68}, 2);
    for (unsigned v = 0; v < VECTORS; v++) {
        uint8_t stub[4] = {0xe6, (uint8_t)(PORT + v), 0xeb, 0xfe};
        uint64_t at = HIGH + TABLES + HANDLERS_AT + 8 * v, dpl = v == 3 || v == 4 ? 0x6000 : 0;
        hv_memory_write(s->memory, TABLES + HANDLERS_AT + 8 * v, stub, sizeof(stub));
        put64(s, IDT + 16 * v,
              (at & 0xffff) | 0x10ull << 16 | (0x8e00ull | dpl) << 32 | (at >> 16 & 0xffff) << 48);
        put64(s, IDT + 16 * v + 8, at >> 32);
    }
}

static void set_segment(struct hv_segment *g, uint16_t sel)
{
    static const struct hv_segment code32 = {0, 0xffffffff, DIFF_CS32, 0xcfb},
                                   code64 = {0, 0xffffffff, DIFF_CS64, 0xafb},
                                   data = {0, 0xffffffff, DIFF_DS, 0xcf3};
    memset(g, 0, sizeof(*g));
    if (sel & 4) {
        unsigned k = sel >> 3;
        *g = (struct hv_segment){ldt[k].base, ldt[k].limit, sel,
                                 (uint16_t)(ldt[k].access | ldt[k].flags << 12)};
    } else if (sel == DIFF_CS32) {
        *g = code32;
        g->attrib = 0xc0fb;
    } else if (sel == DIFF_CS64) {
        *g = code64;
        g->attrib = 0xa0fb;
    } else if (sel == DIFF_DS) {
        *g = data;
        g->attrib = 0xc0f3;
    }
}

static void make_base(struct diff_soft *s)
{
    struct hv_vp_state *b = &s->base;
    hv_vp_state_reset(b, 0);
    b->cr0 = 0x80050033; /* PG AM WP NE ET MP PE */
    b->cr3 = PML4;
    b->cr4 = 0x620 | 0x80; /* OSXMMEXCPT OSFXSR PAE PGE */
    b->efer = 0xd01;       /* NXE LMA LME SCE */
    b->gdtr = (struct hv_table){HIGH + TABLES + GDT_AT, 0x7f};
    b->idtr = (struct hv_table){HIGH + IDT, VECTORS * 16 - 1};
    b->seg[HV_LDTR] =
        (struct hv_segment){HIGH + TABLES + LDT_AT, DIFF_LDT_ENTRIES * 8 - 1, 0x50, 0x82};
    b->seg[HV_TR] = (struct hv_segment){HIGH + TABLES + TSS_AT, 0x67, 0x40, 0x8b};
    b->activity = HV_VP_RUNNING;
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    return UINT64_MAX;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct diff_soft *s = ctx;
    s->vector = (unsigned)offset;
    s->ops->vp_kick(s->b, 0);
}

static bool no_rdmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t *v)
{
    return false;
}
static bool no_wrmsr(void *ctx, unsigned vp, uint32_t msr, uint64_t v)
{
    return false;
}
static bool no_hypercall(void *ctx, unsigned vp, const struct hv_hypercall *h, uint64_t *result)
{
    return false;
}
static void no_eoi(void *ctx, unsigned vp, uint8_t vector)
{
}
static void no_eom(void *ctx, unsigned vp)
{
}
static int no_extint(void *ctx)
{
    return -1;
}

static bool make_backend(struct diff_soft *s, err *e)
{
    static const struct hv_io_ops ops = {"diff", port_read, port_write};
    s->memory = hv_memory_new(e);
    s->io = hv_io_new(e);
    hv_clock_init(&s->clock);
    hv_clock_start(&s->clock);
    s->timers = hv_timers_new(&s->clock, e);
    if (!s->memory || !s->io || !s->timers ||
        !hv_io_claim(s->io, HV_IO_PORT, PORT, VECTORS, &ops, s, e))
        return false;
    struct hv_backend_params p = {
        .memory = s->memory,
        .io = s->io,
        .timers = s->timers,
        .vp_count = 1,
        .clock = &s->clock,
        .apic_hz = 1000000000,
        .up = {.rdmsr = no_rdmsr,
               .wrmsr = no_wrmsr,
               .hypercall = no_hypercall,
               .eoi = no_eoi,
               .eom = no_eom,
               .extint_ack = no_extint,
               .ctx = s},
    };
    s->ops = &hv_backend_soft;
    s->b = s->ops->create(&p, e);
    s->ram = s->b ? hv_memory_add_ram(s->memory, 0, MEMORY, e) : NULL;
    return s->ram;
}

/* A case that does not end is reported by its seed, and ends the program. */
static uint64_t running;
static void on_alarm(int sig)
{
    char text[80];
    int n = snprintf(text, sizeof(text), "diff: case 0x%llx does not end in the interpreter\n",
                     (unsigned long long)running);
    if (write(2, text, (size_t)n) < 0)
        _exit(3);
    _exit(1);
}

struct diff_soft *diff_soft_new(bool host)
{
    err e = ERR_INIT;
    struct diff_soft *s = calloc(1, sizeof(*s));
    if (!s || !make_backend(s, &e)) {
        fprintf(stderr, "diff: %s\n", e.text);
        return NULL;
    }
    s->host = hv_region_host(s->ram);
    signal(SIGALRM, on_alarm);
    make_pages(s);
    make_tables(s);
    make_base(s);
    uint8_t fill[DIFF_CODE_BYTES];
    memset(fill, 0xcc, sizeof(fill));
    hv_memory_write(s->memory, CODE, fill, sizeof(fill));
    hv_memory_write(s->memory, DATA + DIFF_DATA_BYTES, diff_ro_pool(), DIFF_RO_BYTES);
    return s;
}

void diff_soft_free(struct diff_soft *s)
{
    if (!s)
        return;
    s->ops->destroy(s->b);
    hv_memory_free(s->memory);
    hv_io_free(s->io);
    hv_timers_free(s->timers);
    free(s);
}

/* Code goes through hv_memory_write, which tells the backend; data straight into RAM. */
static void load_memory(struct diff_soft *s, const struct diff_case *c)
{
    uint8_t fill[DIFF_CODE_MAX];
    memset(fill, 0xcc, sizeof(fill));
    if (s->code_len)
        hv_memory_write(s->memory, CODE + s->code_at, fill, s->code_len);
    s->code_at = (uint32_t)(c->mode == DIFF_16 ? c->s.rip : c->s.rip - DIFF_CODE);
    s->code_len = c->code_len;
    hv_memory_write(s->memory, CODE + s->code_at, c->code, c->code_len);
    memcpy(s->host + DATA, diff_data_pool(c->data_pick), DIFF_DATA_BYTES);
}

static void load_state(struct diff_soft *s, const struct diff_case *c)
{
    static struct hv_vp_state st;
    st = s->base;
    memcpy(st.gpr, c->s.gpr, sizeof(st.gpr));
    st.rip = c->s.rip;
    st.rflags = c->s.rflags;
    set_segment(&st.seg[HV_CS], c->s.cs);
    set_segment(&st.seg[HV_SS], c->s.ss);
    set_segment(&st.seg[HV_DS], c->s.ds);
    set_segment(&st.seg[HV_ES], c->s.es);
    set_segment(&st.seg[HV_FS], c->s.fs);
    set_segment(&st.seg[HV_GS], c->s.gs);
    if (c->mode == DIFF_64) {
        st.seg[HV_FS].base = DIFF_FS_BASE;
        st.seg[HV_GS].base = DIFF_GS_BASE;
    }
    memcpy(st.xsave, c->s.fx, 512);
    st.xsave[512] = 3;
    err e = ERR_INIT;
    if (!s->ops->vp_set_state(s->b, 0, &st, &e)) {
        fprintf(stderr, "diff: %s\n", e.text);
        abort();
    }
}

static bool has_error(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static void store_outcome(struct diff_soft *s, struct diff_outcome *o)
{
    static struct hv_vp_state st;
    err e = ERR_INIT;
    if (!s->ops->vp_get_state(s->b, 0, &st, &e))
        abort();
    uint64_t frame[6];
    o->vector = s->vector;
    unsigned at = has_error(s->vector) ? 0 : 1;
    uint64_t sp = st.gpr[HV_RSP] - HIGH;
    if (!hv_memory_read(s->memory, sp, frame + at, sizeof(frame) - 8 * at))
        memset(frame, 0xee, sizeof(frame));
    o->error = at ? 0 : (uint32_t)frame[0];
    o->cr2 = st.cr2;
    memcpy(o->s.gpr, st.gpr, sizeof(st.gpr));
    o->s.rip = frame[1];
    o->s.cs = (uint16_t)frame[2];
    o->s.rflags = frame[3];
    o->s.gpr[HV_RSP] = frame[4];
    o->s.ss = (uint16_t)frame[5];
    o->s.ds = st.seg[HV_DS].selector;
    o->s.es = st.seg[HV_ES].selector;
    o->s.fs = st.seg[HV_FS].selector;
    o->s.gs = st.seg[HV_GS].selector;
    memcpy(o->s.fx, st.xsave, 512);
    memcpy(o->data, s->host + DATA, DIFF_DATA_BYTES);
}

void diff_soft_run(struct diff_soft *s, const struct diff_case *c, struct diff_outcome *out)
{
    struct hv_exit exit = {.kind = HV_EXIT_FAILED};
    load_memory(s, c);
    load_state(s, c);
    s->vector = 99;
    running = c->seed;
    alarm(10);
    s->ops->vp_run(s->b, 0, &exit);
    alarm(0);
    out->skipped = false;
    if (exit.kind == HV_EXIT_KICKED && s->vector != 99) {
        store_outcome(s, out);
        return;
    }
    memset(out, 0, sizeof(*out));
    out->vector = 100 + exit.kind;
    fprintf(stderr, "diff: the software processor stopped: %s\n", exit.text);
}
