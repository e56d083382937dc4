/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "app/cli/cli.h"
#include "app/cli/run-int.h"
#include "core/base/bytes.h"

/* ---- the report ---- */

static void registers(FILE *f, const struct hv_vp_state *s)
{
    static const char *const names[] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                        "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const segs[] = {"ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR"};
    fprintf(f, "  RIP %016" PRIx64 "  RFLAGS %08" PRIx64 "\n", s->rip, s->rflags);
    for (unsigned i = 0; i < HV_GPR_COUNT; i++)
        fprintf(f, "%s%s %016" PRIx64 "%s", i % 4 ? "  " : "  ", names[i], s->gpr[i],
                i % 4 == 3 ? "\n" : "");
    for (unsigned i = 0; i < HV_SEG_COUNT; i++)
        fprintf(f, "  %-3s %04x %016" PRIx64 " %08x %04x%s", segs[i], s->seg[i].selector,
                s->seg[i].base, s->seg[i].limit, s->seg[i].attrib, i % 2 ? "\n" : "");
    fprintf(f, "  CR0 %08" PRIx64 "  CR2 %016" PRIx64 "  CR3 %016" PRIx64 "  CR4 %08" PRIx64 "\n",
            s->cr0, s->cr2, s->cr3, s->cr4);
    fprintf(f, "  EFER %" PRIx64 "  GDT %016" PRIx64 "+%04x  IDT %016" PRIx64 "+%04x\n", s->efer,
            s->gdtr.base, s->gdtr.limit, s->idtr.base, s->idtr.limit);
}

/* The guest's log: its last lines, printable characters alone. */
static void words(FILE *f, const char *text)
{
    const char *from = text + strlen(text);
    for (int lines = 0; from > text && lines < 12; from--)
        lines += from[-1] == '\n' && from[0];
    if (from > text)
        from += 2;
    for (; *from; from++)
        fputc((unsigned char)*from >= 0x20 || *from == '\n' || *from == '\t' ? *from : '?', f);
    fputc('\n', f);
}

void run_report(FILE *f, const struct machine_report *r)
{
    if (r->end == MACHINE_FAILED) {
        fprintf(f, "vireoctl: the machine cannot go on: %s\n", r->text);
    } else if (r->end == MACHINE_CRASHED) {
        fprintf(f, "vireoctl: the guest says that it crashed (processor %u)\n  crash", r->vp);
        for (unsigned i = 0; i < ARRAY_LEN(r->crash_param); i++)
            fprintf(f, " %016" PRIx64, r->crash_param[i]);
        fputc('\n', f);
    } else {
        fprintf(f, "vireoctl: triple fault on processor %u\n", r->vp);
    }
    if (r->has_state)
        registers(f, &r->state);
    if (r->end != MACHINE_FAILED && r->text[0])
        words(f, r->text);
}

/* ---- statistics ---- */

struct ranges {
    uintptr_t from[8], to[8];
    size_t n;
};

static bool note_region(void *ctx, struct hv_region *r)
{
    struct ranges *g = ctx;
    if (g->n == ARRAY_LEN(g->from))
        return false;
    g->from[g->n] = (uintptr_t)hv_region_host(r);
    g->to[g->n] = g->from[g->n] + hv_region_size(r);
    g->n++;
    return true;
}

/* Private memory of this process, in bytes: that of guest memory and the rest. */
static void private_memory(struct machine *m, int64_t *guest, int64_t *other)
{
    struct ranges g = {.n = 0};
    char line[512];
    bool in_guest = false;
    hv_memory_each(hv_partition_memory(machine_partition(m)), note_region, &g);
    *guest = *other = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    while (f && fgets(line, sizeof line, f)) {
        uintptr_t from, to;
        unsigned long kib;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
            in_guest = false;
            for (size_t i = 0; i < g.n; i++)
                in_guest |= from < g.to[i] && to > g.from[i];
        } else if (sscanf(line, "Private_Dirty: %lu", &kib) == 1 ||
                   sscanf(line, "Private_Clean: %lu", &kib) == 1) {
            *(in_guest ? guest : other) += (int64_t)kib << 10;
        }
    }
    if (f)
        fclose(f);
}

static double seconds(const struct timeval *t)
{
    return (double)t->tv_sec + (double)t->tv_usec / 1e6;
}

static void write_json(struct cli_json *j, struct machine *m, const struct machine_report *r,
                       bool quit)
{
    static const char *const kinds[HV_COUNT_KINDS] = {
        "pio", "mmio", "msr", "hypercall", "halt", "interrupt-window", "eoi", "signal", "other"};
    struct machine_stats s;
    struct rusage u;
    int64_t guest, other, total = 0;
    machine_stats(m, &s);
    getrusage(RUSAGE_SELF, &u);
    private_memory(m, &guest, &other);
    cli_json_open(j, '{');
    cli_json_key(j, "end");
    cli_json_string(j, quit ? "quit" : machine_end_name(r->end));
    cli_json_key(j, "backend");
    cli_json_string(j, hv_partition_backend(machine_partition(m)));
    cli_json_key(j, "resets");
    cli_json_number(j, (int64_t)s.resets);
    cli_json_key(j, "exits");
    cli_json_open(j, '{');
    for (unsigned i = 0; i < HV_COUNT_KINDS; i++) {
        cli_json_key(j, kinds[i]);
        cli_json_number(j, (int64_t)s.vp.exits[i]);
        total += (int64_t)s.vp.exits[i];
    }
    cli_json_close(j, '}');
    cli_json_key(j, "exits_total");
    cli_json_number(j, total);
    cli_json_key(j, "guest_instructions");
    cli_json_number(j, (int64_t)s.vp.instructions);
    cli_json_key(j, "guest_seconds");
    cli_json_real(j, s.guest_seconds);
    cli_json_key(j, "cpu_seconds");
    cli_json_real(j, seconds(&u.ru_utime) + seconds(&u.ru_stime));
    cli_json_key(j, "peak_memory");
    cli_json_number(j, (int64_t)u.ru_maxrss << 10);
    cli_json_key(j, "private_guest_memory");
    cli_json_number(j, guest);
    cli_json_key(j, "private_other_memory");
    cli_json_number(j, other);
    cli_json_close(j, '}');
}

bool run_write_stats(const char *path, struct machine *m, const struct machine_report *r, bool quit,
                     err *e)
{
    struct cli_json j = {.f = fopen(path, "we")};
    if (!j.f)
        return err_errno(e, errno, "%s", path);
    write_json(&j, m, r, quit);
    bool failed = ferror(j.f);
    if (fclose(j.f) || failed)
        return err_errno(e, errno, "Writing %s", path);
    return true;
}
