/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The legacy network adapter's option ROM: gives the BIOS an entry to boot from (BEV), which loads
 * iPXE as a Linux kernel (the file "ipxe.lkrn" of fw_cfg) and jumps into it. The length, the
 * adapter's ids and the checksums are filled in by tulip-rom.c.
 * Sources: PCI Firmware Specification 3.0, chapter 5; Plug and Play BIOS Specification 1.0A,
 * chapter 3; QEMU docs/specs/fw_cfg; Linux Documentation/x86/boot.
 */
    .section .rodata
    .globl netboot_rom, netboot_rom_end
    .code16
    .intel_syntax noprefix

    .set SELECTOR, 0x510
    .set DIRECTORY, 0x19
    .set BUFFER, 0x2000     /* segment; the GDT for the BIOS's block move behind it */
    .set CHUNK, 0x8000
    .set TABLE, 0x8000
    .set KERNEL, 0x1000     /* segment of the part in real mode */
    .set HIGH, 0x100000

/* Assemblers differ in the operand size that these have in .code16. */
    .macro near_call target
    .byte 0xe8
    .word \target - 77f
77:
    .endm
    .macro near_ret
    .byte 0xc3
    .endm
    .macro far_ret
    .byte 0xcb
    .endm

    .balign 16
netboot_rom:
    .byte 0x55, 0xaa, 0     /* length in 512 bytes */
    .byte 0xe9              /* jmp init */
    .word init - netboot_rom - 6
    .org netboot_rom + 6
    .byte 0                 /* checksum */
    .org netboot_rom + 0x18
    .word pcir - netboot_rom, pnp - netboot_rom

    .balign 4
pcir:
    .ascii "PCIR"
    .word 0, 0, 0, 24       /* vendor, device, vital data, length */
    .byte 0, 0, 0, 2        /* revision; a network adapter */
    .word 0, 1              /* length in 512 bytes; of the code, its revision */
    .byte 0, 0x80           /* for a PC; the last image */
    .word 0

    .balign 16
pnp:
    .ascii "$PnP"
    .byte 1, 2              /* revision; length in 16 bytes */
    .word 0
    .byte 0, 0              /* checksum */
    .long 0
    .word 0, product - netboot_rom
    .byte 2, 0, 0, 0x14     /* a network adapter; a boot device of no other kind */
    .word 0, 0, bev - netboot_rom, 0, 0

product:
    .asciz "Network (legacy adapter)"
name:
    .asciz "ipxe.lkrn"
    .set NAME_LEN, . - name
    .set NAME, name - netboot_rom
missing:
    .asciz "Network boot needs the package ipxe.\r\n"
    .set MISSING, missing - netboot_rom

init:
    mov ax, 0x20            /* a device to boot from is attached */
    far_ret

/* ES:0 = CX bytes of the selected file. */
read:
    mov dx, SELECTOR + 1
    xor di, di
    rep insb
    near_ret

bev:
    sti
    cld
    push cs
    pop ds
    mov ax, BUFFER
    mov es, ax
    mov dx, SELECTOR
    mov ax, DIRECTORY
    out dx, ax
    mov cx, 4
    near_call read
    mov bx, es:[2]
    xchg bl, bh
1:  test bx, bx
    jz fail
    dec bx
    mov cx, 64
    near_call read
    mov si, offset NAME
    mov di, 8
    mov cx, offset NAME_LEN
    repe cmpsb
    jne 1b

    mov ebp, es:[0]         /* bytes that are left */
    bswap ebp
    mov ax, es:[4]
    xchg al, ah
    mov dx, SELECTOR
    out dx, ax
    mov ax, KERNEL
    mov es, ax
    mov cx, 512
    near_call read
    movzx ecx, byte ptr es:[0x1f1]
    cmp cl, 63
    ja fail
    shl cx, 9
    sub ebp, ecx
    sub ebp, 512
    jbe fail
    mov di, 512
    rep insb
    mov byte ptr es:[0x210], 0xff
    mov dword ptr es:[0x228], 0

    mov ax, BUFFER
    mov es, ax
    mov di, TABLE
    mov cx, 24
    xor ax, ax
    rep stosw
    mov dword ptr es:[TABLE + 16], 0xffff | (BUFFER * 16 & 0xfff) << 16
    mov dword ptr es:[TABLE + 20], 0x9300 | BUFFER * 16 >> 16
    mov dword ptr es:[TABLE + 24], 0xffff | (HIGH & 0xffff) << 16
    mov dword ptr es:[TABLE + 28], 0x9300 | HIGH >> 16
2:  mov ecx, CHUNK
    cmp ebp, ecx
    jae 3f
    mov ecx, ebp
3:  sub ebp, ecx
    push ebp
    near_call read
    mov cx, CHUNK / 2
    mov si, TABLE
    mov ah, 0x87
    int 0x15
    pop ebp
    jc fail
    add dword ptr es:[TABLE + 26], CHUNK
    test ebp, ebp
    jnz 2b

    cli
    mov ax, KERNEL
    mov ds, ax
    mov es, ax
    mov fs, ax
    mov gs, ax
    mov ss, ax
    mov sp, 0xfff0
    sti
    .byte 0xea              /* jmp KERNEL + 0x20:0 */
    .word 0, KERNEL + 0x20

fail:
    push cs
    pop ds
    mov si, offset MISSING
4:  lodsb
    test al, al
    jz 5f
    mov ah, 0x0e
    mov bx, 7
    int 0x10
    jmp 4b
5:  int 0x18

    .balign 512
netboot_rom_end:
    .section .note.GNU-stack, "", @progbits
