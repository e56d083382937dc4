/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Guests of tests/hv/backend.c: 64-bit position-independent code, entered with a stack, identity-mapped low
 * memory and interrupts off. Results go out by port 0xe0 (32 bits each); port 0xe4 ends the test.
 */
#define REPORT(reg) movl reg, %eax; movw $0xe0, %dx; outl %eax, %dx
#define DONE movw $0xe4, %dx; outl %eax, %dx; 9: cli; hlt; jmp 9b
#define WRMSR(msr, value) movl $(msr), %ecx; movl $((value) & 0xffffffff), %eax; \
        movl $((value) >> 32), %edx; wrmsr
#define GUEST(name) .globl name; name
#define END(name) .globl name##_end; name##_end:

        .section .rodata
        .code64

/* Registers and memory reach the host. */
GUEST(guest_plain):
        movabsq $0x1122334455667788, %rbx
        movq    %rbx, 0x8000
        movl    0x8004, %ecx
        REPORT(%ecx)
        movl    $0xfec00000, %edi       /* MMIO that the host claims */
        movl    $0xabcd, 0x10(%rdi)
        movl    0x20(%rdi), %ecx
        REPORT(%ecx)
        movw    $0x1234, %dx            /* a port nobody has */
        inl     %dx, %eax
        REPORT(%eax)
        DONE
END(guest_plain)

/* CPUID, MSRs, hypercall page, PostMessage, SignalEvent, time. */
GUEST(guest_hyperv):
        movl    $0x40000000, %eax
        cpuid
        REPORT(%ebx)
        movl    $0x40000003, %eax
        cpuid
        REPORT(%eax)
        movl    $0x40000002, %ecx       /* VP index */
        rdmsr
        REPORT(%eax)
        WRMSR(0x40000000, 0x8100000000010000)
        WRMSR(0x40000001, 0x6001)       /* hypercall page at 0x6000 */
        movl    $0x5c, %ecx             /* PostMessage, input at 0x9000 */
        movl    $0x9000, %edx
        xorl    %r8d, %r8d
        movl    $0x6000, %ebx
        call    *%rbx
        REPORT(%eax)
        movl    $0x1005d, %ecx          /* SignalEvent, fast: connection 0x777, nobody's */
        movl    $0x777, %edx
        call    *%rbx
        REPORT(%eax)
        movl    $0x1005d, %ecx          /* connection 0x2001: an event descriptor */
        movl    $0x2001, %edx
        call    *%rbx
        REPORT(%eax)
        movl    $0x7fff, %ecx           /* no such call */
        call    *%rbx
        REPORT(%eax)
        movl    $0x40000105, %ecx       /* crash control: both bits */
        rdmsr
        REPORT(%edx)
        /* reference counter against the reference TSC page at 0x7000 */
        WRMSR(0x40000021, 0x7001)
        movl    0x7000, %ecx            /* sequence: not 0 */
        testl   %ecx, %ecx
        setnz   %cl
        movzbl  %cl, %ecx
        REPORT(%ecx)
        movl    $1000, %esi
1:      movl    $0x40000020, %ecx
        rdmsr
        shlq    $32, %rdx
        leaq    (%rdx, %rax), %rdi      /* before */
        rdtsc
        shlq    $32, %rdx
        orq     %rdx, %rax
        mulq    0x7008
        addq    0x7010, %rdx
        movq    %rdx, %r9               /* by the page */
        movl    $0x40000020, %ecx
        rdmsr
        shlq    $32, %rdx
        orq     %rdx, %rax              /* after */
        /* before - slack <= page <= after + slack; slack is in R12 */
        subq    %r12, %rdi
        cmpq    %rdi, %r9
        jl      2f
        addq    %r12, %rax
        cmpq    %rax, %r9
        jg      2f
        decl    %esi
        jnz     1b
2:      REPORT(%esi)                    /* 0: always in between */
        DONE
END(guest_hyperv)

/* SynIC: SIMP 0xa000, SIEFP 0xb000, SINT 2 vector 0xf3; the IDT is at 0x4000, made by the host with the handler
 * guest_synic_isr. Reports each message's first payload word; each event flag word; ends at payload 0xdead. */
GUEST(guest_synic):
        WRMSR(0x40000000, 0x8100000000010000)
        movl    $0x1b, %ecx             /* x2APIC on */
        rdmsr
        orl     $0xc00, %eax
        wrmsr
        WRMSR(0x80f, 0x1ff)
        WRMSR(0x40000083, 0xa001)
        WRMSR(0x40000082, 0xb001)
        WRMSR(0x40000092, 0xf3)
        WRMSR(0x40000080, 1)
        movl    $0x600d, %ecx
        REPORT(%ecx)                    /* ready: the host starts */
3:      sti
        hlt
        cli
        jmp     3b
END(guest_synic)

GUEST(guest_synic_isr):
        movl    0xa200, %ebx            /* SINT 2: message type */
        testl   %ebx, %ebx
        jz      4f
        movl    0xa210, %edi
        REPORT(%edi)
        xorl    %ebx, %ebx
        xchgl   %ebx, 0xa200
        testb   $1, 0xa205              /* another one waits */
        jz      5f
        WRMSR(0x40000084, 0)
5:      cmpl    $0xdead, %edi
        jne     4f
        WRMSR(0x80b, 0)
        DONE
4:      xorl    %ebx, %ebx
        xchgl   %ebx, 0xb200            /* event flags of SINT 2 */
        testl   %ebx, %ebx
        jz      6f
        REPORT(%ebx)
6:      WRMSR(0x80b, 0)
        iretq
END(guest_synic_isr)

/* A direct synthetic timer, vector 0xed, 2 ms ahead, three times; reports how late in 100 ns (signed). */
GUEST(guest_stimer):
        WRMSR(0x40000000, 0x8100000000010000)
        movl    $0x1b, %ecx
        rdmsr
        orl     $0xc00, %eax
        wrmsr
        WRMSR(0x80f, 0x1ff)
        WRMSR(0x400000b0, 0x1ed8)       /* direct, vector 0xed, auto-enable */
        movl    $3, %r15d
7:      movl    $0x40000020, %ecx
        rdmsr
        shlq    $32, %rdx
        leaq    20000(%rdx, %rax), %r14
        movl    $0x400000b1, %ecx
        movl    %r14d, %eax
        movq    %r14, %rdx
        shrq    $32, %rdx
        xorl    %r13d, %r13d
        wrmsr
8:      sti
        hlt
        cli
        testl   %r13d, %r13d            /* set by the handler */
        jz      8b
        movl    $0x40000020, %ecx
        rdmsr
        shlq    $32, %rdx
        orq     %rdx, %rax
        subq    %r14, %rax
        REPORT(%eax)
        decl    %r15d
        jnz     7b
        DONE
END(guest_stimer)

GUEST(guest_stimer_isr):
        movl    $1, %r13d
        WRMSR(0x80b, 0)
        iretq
END(guest_stimer_isr)

/* Level-triggered message: its EOI must reach the host. Vector 0x40. */
GUEST(guest_level):
        movl    $0x1b, %ecx
        rdmsr
        orl     $0xc00, %eax
        wrmsr
        WRMSR(0x80f, 0x1ff)
        movl    $0x600d, %ecx
        REPORT(%ecx)
        xorl    %r13d, %r13d
10:     sti
        hlt
        cli
        cmpl    $2, %r13d
        jne     10b
        DONE
END(guest_level)

GUEST(guest_level_isr):
        incl    %r13d
        REPORT(%r13d)
        WRMSR(0x80b, 0)
        iretq
END(guest_level_isr)

/* The PIC's line: vector 0x30 by ExtINT, local APIC's LINT0 in ExtINT mode. */
GUEST(guest_extint):
        movl    $0xfee00000, %edi
        movl    $0x1ff, 0xf0(%rdi)
        movl    $0x700, 0x350(%rdi)
        movl    $0x600d, %ecx
        REPORT(%ecx)
        xorl    %r13d, %r13d
11:     sti
        hlt
        cli
        testl   %r13d, %r13d
        jz      11b
        DONE
END(guest_extint)

GUEST(guest_extint_isr):
        movl    $1, %r13d
        REPORT(%r13d)
        iretq
END(guest_extint_isr)

/* Runs with interrupts on, for ever; the handler counts at 0x8020 and says how many came. */
GUEST(guest_busy):
        movl    $0xfee00000, %edi
        movl    $0x1ff, 0xf0(%rdi)
        movl    $0x700, 0x350(%rdi)
        movl    $0, 0x8020
        movl    $0x600d, %ecx
        REPORT(%ecx)
        sti
15:     pause
        jmp     15b
END(guest_busy)

GUEST(guest_busy_isr):
        incl    0x8020
        movl    0x8020, %ecx
        REPORT(%ecx)
        iretq
END(guest_busy_isr)

/* As guest_busy_isr, but then it has done with the PIC: it masks the APIC's LINT0. */
GUEST(guest_masking_isr):
        incl    0x8020
        movl    $0xfee00000, %edi
        movl    $0x10700, 0x350(%rdi)
        movl    0x8020, %ecx
        REPORT(%ecx)
        iretq
END(guest_masking_isr)

/* Counts in R14 and says so now and then, for ever: for pause, save and restore. */
GUEST(guest_count):
        xorl    %r14d, %r14d
12:     incq    %r14
        movq    %r14, 0x8000
        testl   $0xffff, %r14d
        jnz     12b
        movl    %r14d, %ecx
        REPORT(%ecx)
        jmp     12b
END(guest_count)

/* Leaves for the host all the time. */
GUEST(guest_telling):
        movl    $1, %ecx
16:     REPORT(%ecx)
        jmp     16b
END(guest_telling)

/* VP 0 starts VP 1 by INIT and SIPI at 0x3000 (16-bit code put there by the host); x2APIC. */
GUEST(guest_smp):
        movl    $0x1b, %ecx
        rdmsr
        orl     $0xc00, %eax
        wrmsr
        WRMSR(0x80f, 0x1ff)
        WRMSR(0x830, 0x000000010000c500)        /* INIT, level, assert, to APIC id 1 */
        WRMSR(0x830, 0x0000000100008500)
        WRMSR(0x830, 0x000000010000c603)        /* start-up at page 3 */
13:     pause
        movl    0x8010, %ecx            /* written by VP 1 */
        testl   %ecx, %ecx
        jz      13b
        REPORT(%ecx)
        DONE
END(guest_smp)

        .code16
GUEST(guest_smp_ap):
        xorw    %ax, %ax
        movw    %ax, %ds
        movl    $0x1ab1, 0x8010
14:     hlt
        jmp     14b
END(guest_smp_ap)

/* The guest reports its death: a message of 5 bytes at 0x8100. Then resets the machine. */
        .code64
GUEST(guest_crash):
        WRMSR(0x40000000, 0x8100000000010000)
        WRMSR(0x40000100, 0)
        WRMSR(0x40000103, 0x8100)
        WRMSR(0x40000104, 5)
        WRMSR(0x40000105, 0xc000000000000000)
        movl    $0xa11e, %ecx
        REPORT(%ecx)
        WRMSR(0x40000003, 1)
15:     pause
        jmp     15b
END(guest_crash)

/* A triple fault. */
GUEST(guest_triple):
        pushq   $0
        pushq   $0
        lidt    (%rsp)
        ud2
END(guest_triple)
        .section .note.GNU-stack,"",@progbits
