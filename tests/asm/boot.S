/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Start of every bare-metal test: multiboot 1 entry in 32-bit protected mode, long mode with the
 * first 4 GiB identity-mapped, then main() on the boot processor; ap_main(index) on the others once
 * smp_start() has sent them their SIPI. Exception entries and the way back from them.
 */
    .set MAGIC, 0x1badb002
    .set FLAGS, 0x00000003
    .section .multiboot, "a"
    .balign 4
    .long MAGIC, FLAGS, -(MAGIC + FLAGS)

    .section .text
    .code32
    .globl _start
_start:
    cli
    mov $boot_stack_end, %esp
    mov $page_tables, %edi
    call make_tables
    call enter_long
    ljmp $0x10, $start64

/* Identity map: PML4 at edi, PDPT, four page directories of 2 MiB pages. Kept in plain sight: the
 * paging test looks at and changes them. */
make_tables:
    mov $page_tables, %edi
    lea 0x1007(%edi), %eax
    mov %eax, (%edi)
    lea 0x1000(%edi), %ebx
    lea 0x2007(%edi), %eax
    mov $4, %ecx
1:  mov %eax, (%ebx)
    add $0x1000, %eax
    add $8, %ebx
    loop 1b
    lea 0x2000(%edi), %ebx
    mov $0x87, %eax
    mov $2048, %ecx
2:  mov %eax, (%ebx)
    add $0x200000, %eax
    add $8, %ebx
    loop 2b
    ret

enter_long:
    mov $page_tables, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x620, %eax             /* PAE, OSFXSR, OSXMMEXCPT */
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax             /* NXE, LME, SCE */
    wrmsr
    mov %cr0, %eax
    and $~0xc, %eax             /* TS and EM off */
    or $0x80010033, %eax        /* PG WP NE ET MP PE */
    mov %eax, %cr0
    lgdt gdt_pointer
    ret

    .code64
start64:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    mov $boot_stack_end, %rsp
    call boot_main
1:  hlt
    jmp 1b

/* Application processors start here in real mode; copied to 0x8000. */
    .code16
    .globl ap_trampoline, ap_trampoline_end
ap_trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 0x8000 + (ap_gdt_pointer - ap_trampoline)
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x08, $ap32
    .balign 8
ap_gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
ap_trampoline_end:

    .code32
ap32:
    mov $0x18, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $1, %eax
    lock xadd %eax, ap_counter  /* 1 for the first */
    mov %eax, %ebp
    mov %eax, %ebx
    shl $14, %ebx
    lea ap_stacks(%ebx), %esp
    call enter_long
    ljmp $0x10, $ap64
    .code64
ap64:
    mov $0x18, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %ebp, %edi
    call ap_entry
1:  hlt
    jmp 1b

/* Exceptions and interrupts: a struct frame (test.h) on the stack, then trap(). */
    .globl trap_entries
    .balign 16
trap_entries:
    .set v, 0
    .rept 256
    .if (v == 8) || ((v >= 10) && (v <= 14)) || (v == 17)
    .else
    push $0
    .endif
    push $v
    jmp trap_common
    .balign 16
    .set v, v + 1
    .endr

trap_common:
    push %r15
    push %r14
    push %r13
    push %r12
    push %r11
    push %r10
    push %r9
    push %r8
    push %rdi
    push %rsi
    push %rbp
    push %rbx
    push %rdx
    push %rcx
    push %rax
    mov %rsp, %rdi
    cld
    mov %rsp, %rbp
    and $-16, %rsp
    call trap
    mov %rbp, %rsp
    pop %rax
    pop %rcx
    pop %rdx
    pop %rbx
    pop %rbp
    pop %rsi
    pop %rdi
    pop %r8
    pop %r9
    pop %r10
    pop %r11
    pop %r12
    pop %r13
    pop %r14
    pop %r15
    add $16, %rsp
    iretq

/* int try_call(void (*fn)(void *), void *arg): calls fn; the vector of the exception that ended it, or
 * -1. Interrupt flag and stack are put back. Not nested. */
    .globl try_call, try_recover
try_call:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    pushfq
    sub $8, %rsp
    mov %rsp, try_rsp
    movl $1, try_armed
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    mov $-1, %eax
try_out:
    movl $0, try_armed
    add $8, %rsp
    popfq
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
try_recover:
    mov $0x18, %ecx
    mov %ecx, %ss
    mov %ecx, %ds
    mov %ecx, %es
    mov try_rsp, %rsp
    mov try_vector, %eax
    jmp try_out

/* uint64_t user_call(uint64_t (*fn)(uint64_t), uint64_t arg): fn at privilege 3; it returns through
 * INT 0x30. */
    .globl user_call, user_return
user_call:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, user_saved_rsp
    mov %rdi, %rax
    mov %rsi, %rdi
    lea user_stack_end - 16(%rip), %rcx
    movq $user_exit, (%rcx)
    push $0x2b
    push %rcx
    push $0x202
    push $0x33
    push %rax
    iretq
user_exit:
    int $0x30
user_return:
    mov user_saved_rsp, %rsp
    mov $0x18, %ecx
    mov %ecx, %ss
    mov user_result, %rax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

/* The gadgets that tests in legacy modes share: see modes.c. */
    .section .data
    .balign 16
    .globl gdt, gdt_end, gdt_pointer
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 code, 32 bits */
    .quad 0x00af9b000000ffff    /* 10 code, 64 bits */
    .quad 0x00cf93000000ffff    /* 18 data */
    .quad 0x00cffb000000ffff    /* 23 user code, 32 bits */
    .quad 0x00cff3000000ffff    /* 2b user data */
    .quad 0x00affb000000ffff    /* 33 user code, 64 bits */
    .quad 0x00009b000000ffff    /* 38 code, 16 bits */
    .quad 0x000093000000ffff    /* 40 data, 16 bits */
    .quad 0, 0                  /* 48 TSS of the boot processor */
    .fill 64 - 11, 8, 0         /* for tests: 58 and up */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

    .globl ap_counter, try_rsp, try_armed, try_vector, user_saved_rsp, user_result
    .balign 8
ap_counter:     .long 1
try_armed:      .long 0
try_vector:     .long 0, 0
try_rsp:        .quad 0
user_saved_rsp: .quad 0
user_result:    .quad 0

    .section .bss
    .balign 4096
    .globl page_tables, user_stack_end
page_tables: .skip 0x6000
    .skip 0x4000
boot_stack_end:
    .skip 0x4000
user_stack_end:
    .skip 16
    .balign 4096
ap_stacks:                      /* the processor with index n uses the 16 KiB below n * 16 KiB */
    .skip 0x4000 * 64
    .section .note.GNU-stack, "", @progbits
