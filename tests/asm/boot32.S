/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Start of the tests of legacy modes: multiboot leaves the processor in flat 32-bit protected mode, and there
 * they stay. Exception entries, recovery, rings, real mode and virtual-8086 mode.
 */
    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 3, -(0x1badb002 + 3)

    .section .text
    .code32
    .globl _start
_start:
    cli
    cld
    mov $boot_stack_end, %esp
    lgdt gdt_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    call boot_main
1:  hlt
    jmp 1b

    .globl trap_entries
    .balign 16
trap_entries:
    .set v, 0
    .rept 64
    .if (v == 8) || ((v >= 10) && (v <= 14)) || (v == 17)
    .else
    push $0
    .endif
    push $v
    jmp trap_common
    .balign 16
    .set v, v + 1
    .endr

/* struct frame of test32.h. */
trap_common:
    pusha
    push %ds
    push %es
    push %fs
    push %gs
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %esp, %eax
    cld
    push %eax
    call trap
    add $4, %esp
    pop %gs
    pop %fs
    pop %es
    pop %ds
    popa
    add $8, %esp
    iret

/* int try_call(void (*fn)(void *), void *arg): as in the 64-bit tests. */
    .globl try_call, try_recover
try_call:
    push %ebx
    push %ebp
    push %esi
    push %edi
    pushf
    mov %esp, try_esp
    movl $1, try_armed
    push 28(%esp)
    call *28(%esp)
    add $4, %esp
    mov $-1, %eax
try_out:
    movl $0, try_armed
    popf
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret
try_recover:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov try_esp, %esp
    mov try_vector, %eax
    jmp try_out

/* uint32_t user_call(uint32_t (*fn)(uint32_t), uint32_t arg): at privilege 3, back by INT 0x30. */
    .globl user_call, user_return
user_call:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 20(%esp), %eax
    mov 24(%esp), %ecx
    mov %esp, user_saved_esp
    mov $user_stack_end - 16, %edx
    movl $user_exit, (%edx)
    mov %ecx, 4(%edx)
    push $0x23
    push %edx
    push $2
    push $0x1b
    push %eax
    mov $0x23, %eax
    mov %eax, %ds
    mov %eax, %es
    iret
user_exit:
    int $0x30
user_return:
    mov $0x10, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov user_saved_esp, %esp
    mov user_result, %eax
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

/* uint32_t real_call(uint16_t ip): runs the real-mode code at 0000:ip (a near procedure), with 16-bit
 * segments of base 0 and the stack below 0x7000; returns EAX as it left it. */
    .globl real_call
real_call:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 20(%esp), %edx
    mov %esp, real_saved_esp
    ljmp $0x28, $(real16 - 0x100000) /* 16-bit protected mode, base 0x100000 */
    .code16
real16:
    mov $0x30, %cx
    mov %cx, %ds
    mov %cx, %es
    mov %cx, %ss
    mov %cx, %fs
    mov %cx, %gs
    mov %cr0, %ecx
    and $~1, %ecx
    mov %ecx, %cr0
    .byte 0x66, 0xea            /* to 0000:8010, where the way back was copied */
    .long 0x8010
    .word 0
    .code32

/* Copied to 0x8000: 8000: far pointer etc.; 8010: real-mode start. */
    .globl real_low, real_low_end
    .balign 16
real_low:
    .word 0x3ff                 /* 8000: the real-mode IDT */
    .long 0
    .word 0
    .skip 8                     /* 8008: the protected-mode IDT pointer */
    .code16
    xor %cx, %cx                /* 8010 */
    mov %cx, %ds
    mov %cx, %es
    mov %cx, %fs
    mov %cx, %gs
    mov %cx, %ss
    mov $0x7000, %esp
    lidtl 0x8000
    call *%dx
    mov %cr0, %ecx
    or $1, %ecx
    lidtl %cs:0x8008
    mov %ecx, %cr0
    ljmpl $0x08, $real_back
real_low_end:
    .code32
real_back:
    mov $0x10, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov %ecx, %fs
    mov %ecx, %gs
    mov real_saved_esp, %esp
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

/* void v86_enter(uint32_t ip, uint32_t flags): 0000:ip in virtual-8086 mode; ends when trap() sends
 * it to v86_return. */
    .globl v86_enter, v86_return
v86_enter:
    push %ebx
    push %ebp
    push %esi
    push %edi
    mov 20(%esp), %eax
    mov 24(%esp), %ecx
    mov %esp, user_saved_esp
    push $0                     /* gs, fs, ds, es */
    push $0
    push $0
    push $0
    push $0                     /* ss */
    push $0x7000
    push %ecx
    push $0                     /* cs */
    push %eax
    iret
v86_return:
    mov $0x10, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %fs
    mov %ecx, %gs
    mov %ecx, %ss
    mov user_saved_esp, %esp
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret

    .section .data
    .balign 16
    .globl gdt, gdt_pointer
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* 08 code */
    .quad 0x00cf93000000ffff    /* 10 data */
    .quad 0x00cffb000000ffff    /* 1b user code */
    .quad 0x00cff3000000ffff    /* 23 user data */
    .quad 0x00009b100000ffff    /* 28 code, 16 bits, base 0x100000 */
    .quad 0x000093000000ffff    /* 30 data, 16 bits */
    .fill 64 - 7, 8, 0          /* 38 and up: for tests */
gdt_pointer:
    .word 64 * 8 - 1
    .long gdt

    .globl try_esp, try_armed, try_vector, user_saved_esp, user_result
    .balign 4
try_armed:      .long 0
try_vector:     .long 0
try_esp:        .long 0
user_saved_esp: .long 0
user_result:    .long 0
real_saved_esp: .long 0

    .section .bss
    .balign 4096
    .skip 0x4000
boot_stack_end:
    .skip 0x4000
    .globl user_stack_end
user_stack_end:
    .skip 16
    .section .note.GNU-stack, "", @progbits
