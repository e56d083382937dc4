/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/bytes.h"

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
        fputc(((unsigned char)*from >= 0x20 && (unsigned char)*from < 0x7f) || *from == '\n' ||
                      *from == '\t'
                  ? *from
                  : '?',
              f);
    fputc('\n', f);
}

static void print(FILE *f, const struct machine_report *r)
{
    if (r->end == MACHINE_FAILED) {
        fprintf(f, "the machine cannot go on: %s\n", r->text);
    } else if (r->end == MACHINE_CRASHED) {
        fprintf(f, "the guest says that it crashed (processor %u)\n  crash", r->vp);
        for (unsigned i = 0; i < ARRAY_LEN(r->crash_param); i++)
            fprintf(f, " %016" PRIx64, r->crash_param[i]);
        fputc('\n', f);
    } else {
        fprintf(f, "triple fault on processor %u\n", r->vp);
    }
    if (r->has_state)
        registers(f, &r->state);
    if (r->end == MACHINE_CRASHED && r->text[0])
        words(f, r->text);
}

char *machine_report_text(const struct machine_report *r)
{
    char *text = NULL;
    size_t len = 0;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    if (r->end == MACHINE_FAILED || r->end == MACHINE_CRASHED || r->end == MACHINE_TRIPLE_FAULT)
        print(f, r);
    fclose(f);
    return text;
}
