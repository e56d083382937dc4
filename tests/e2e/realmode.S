/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A disk's first sectors: what old systems and their programs do in real mode. Says on COM1 how far it is (REAL-...),
 * and waits there for a byte before it goes on; what it draws is looked at from outside (pc.py).
 */
    .code16
    .intel_syntax noprefix
    .text
    .set VBE_INFO, 0x9000
    .set MODE_INFO, 0x9200
    .set MODE, 0x144                    /* 1024x768, 32 bits */
    .set TICKS, 0x46c
    .globl _start
_start:
    ljmp 0, offset start
start:
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
    sti
    mov drive, dl
    mov ax, 0x0210                      /* 16 sectors by cylinder, head and sector */
    mov cx, 2
    mov dh, 0
    mov bx, 0x7e00
    int 0x13
    jc 1f
    cmp dword ptr loaded, 0x4c4f4144
    je rest
1:  mov si, offset no_disk
    call say
    hlt

say:
    mov dx, 0x3fd
1:  in al, dx
    test al, 0x20
    jz 1b
    lodsb
    test al, al
    jz 2f
    mov dx, 0x3f8
    out dx, al
    jmp say
2:  ret

/* Says SI, and waits to be told to go on. */
pause:
    call say
    mov dx, 0x3fd
1:  in al, dx
    test al, 1
    jz 1b
    mov dx, 0x3f8
    in al, dx
    ret

no_disk: .asciz "REAL-NO-DISK\r\n"
drive: .byte 0
    .org 510
    .word 0xaa55

rest:
    mov si, offset begun
    call say

/* Of a floppy: two sectors of another cylinder and side hold what pc.py put there; one is written. */
    cmp byte ptr drive, 0x80
    jae 9f
    mov ax, 0x0202
    mov cx, 40 << 8 | 5
    mov dh, 1
    mov dl, drive
    mov bx, 0xa000
    int 0x13
    jc 8f
    cmp dword ptr ds:[0xa000], 0x504f4c46
    jne 8f
    cmp dword ptr ds:[0xa200], 0x504f4c47
    jne 8f
    mov dword ptr ds:[0xa200], 0x57524954
    mov ax, 0x0301
    mov cx, 79 << 8 | 18
    mov dh, 1
    mov dl, drive
    mov bx, 0xa200
    int 0x13
    jc 8f
    mov si, offset is_floppy
    call pause
    mov ax, 0x0201                      /* once more after that */
    mov cx, 79 << 8 | 18
    mov dh, 1
    mov dl, drive
    mov bx, 0xa400
    int 0x13
    jc 8f
    cmp dword ptr ds:[0xa400], 0x57524954
    jne 8f
    mov si, offset is_written
    call say
    jmp 9f
8:  mov al, ah
    aam 16
    add ax, 0x4141
    mov error, ah
    mov error + 1, al
    mov si, offset no_floppy
    call say
9:

/* The processor's reset, four ways, with CMOS telling the BIOS to jump by 40:67: all else stays as it is. */
    in al, 0x21
    or al, 0x20
    out 0x21, al
    mov word ptr ds:[0x467], offset back
    mov word ptr ds:[0x469], 0
again:
    cli
    mov al, 0x8f
    out 0x70, al
    mov al, 0x0a
    out 0x71, al
    cmp byte ptr resets, 1
    jb by_keyboard
    je by_port_92
    cmp byte ptr resets, 3
    jb by_control
    lidt nothing                        /* a triple fault */
    int3
by_keyboard:
    mov al, 0xfe
    out 0x64, al
    jmp wait
by_port_92:
    in al, 0x92
    or al, 1
    out 0x92, al
    jmp wait
by_control:
    mov dx, 0xcf9
    mov al, 2
    out dx, al
    mov al, 6
    out dx, al
wait:
    hlt
    jmp wait
back:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld
    mov al, 0x0d
    out 0x70, al
    lidt vectors
    inc byte ptr resets
    cmp byte ptr resets, 4
    jb again
    sti
    in al, 0x21
    test al, 0x20
    jz 9f
    and al, 0xdf
    out 0x21, al
    mov si, offset is_back
    call say
9:

/* A20: 1 MiB and 0 are one place while it is off, by port 92, the keyboard controller and the BIOS. */
    mov word ptr ds:[0x6000], 0x1111
    call wraps
    je 9f
    in al, 0x92
    and al, 0xfc
    out 0x92, al
    call wraps
    jne 9f
    call keyboard_says_a20
    jnz 9f
    mov ah, 0xdf                        /* on */
    call keyboard_command
    call wraps
    je 9f
    in al, 0x92
    test al, 2
    jz 9f
    mov ah, 0xd1                        /* the output port, without it */
    call keyboard_command
    mov al, 0xdd
    out 0x60, al
    call wraps
    jne 9f
    mov ax, 0x2401
    int 0x15
    jc 9f
    call wraps
    je 9f
    mov ax, 0x2400
    int 0x15
    call wraps
    jne 9f
    in al, 0x92
    or al, 2
    and al, 0xfe
    out 0x92, al
    call keyboard_says_a20
    jz 9f
    call wraps
    je 9f
    mov si, offset is_a20
    call say
9:

/* PAM: the BIOS's segment is read-only; a segment of RAM, read-only, ROM (there is none), and ROM with RAM
 * behind that takes writes. */
    mov ax, 0xf000
    mov es, ax
    mov ax, es:[0]
    not word ptr es:[0]
    cmp es:[0], ax
    jne 9f
    mov ax, 0xdc00
    mov es, ax
    mov al, 0x30
    call pam
    mov word ptr es:[0], 0x1234
    cmp word ptr es:[0], 0x1234
    jne 9f
    mov al, 0x10
    call pam
    mov word ptr es:[0], 0x5678
    cmp word ptr es:[0], 0x1234
    jne 9f
    mov al, 0
    call pam
    mov word ptr es:[0], 0x5678
    cmp word ptr es:[0], 0xffff
    jne 9f
    mov al, 0x20
    call pam
    cmp word ptr es:[0], 0xffff
    jne 9f
    mov byte ptr es:[1], 0xab
    mov byte ptr es:[0], 0x90          /* nop; retf */
    mov byte ptr es:[1], 0xcb
    cmp word ptr es:[0], 0xffff
    jne 9f
    mov al, 0x10
    call pam
    cmp word ptr es:[0], 0xcb90
    jne 9f
    lcall 0xdc00, 0                     /* what was written so runs */
    mov al, 0x30
    call pam
    mov si, offset is_pam
    call say
9:
    xor ax, ax
    mov es, ax

/* A limit of 4 GiB stays in FS after protected mode, also while interrupts come; DS keeps its own. */
    call unreal
    mov ebx, 0x200000
    mov dword ptr fs:[ebx], 0x12345678
    mov dword ptr fs:[ebx + 0xffffc], 0x9abcdef0
    mov eax, ds:[TICKS]
    add eax, 5
1:  cmp ds:[TICKS], eax
    jb 1b
    cmp dword ptr fs:[ebx], 0x12345678
    jne 9f
    cmp dword ptr fs:[ebx + 0xffffc], 0x9abcdef0
    jne 9f
    mov si, offset is_unreal
    call say
    mov dword ptr ds:[13 * 4], offset protection
    mov ebx, 0x10000
    xor cx, cx
    mov al, ds:[ebx]                    /* 3 bytes, which the handler skips */
    cmp cx, 1
    jne 9f
    mov si, offset is_limit
    call say
9:

/* VBE: controller, mode, linear framebuffer. */
    mov di, VBE_INFO
    mov dword ptr [di], 0x32454256      /* "VBE2" */
    mov ax, 0x4f00
    int 0x10
    cmp ax, 0x4f
    jne 9f
    mov di, MODE_INFO
    mov cx, MODE
    mov ax, 0x4f01
    int 0x10
    cmp ax, 0x4f
    jne 9f
    mov ax, 0x4f02
    mov bx, 0x4000 | MODE
    int 0x10
    cmp ax, 0x4f
    jne 9f
    call unreal
    mov edi, ds:[MODE_INFO + 0x28]
    mov ecx, 1024 * 384
    mov eax, 0x00c08040
1:  mov fs:[edi], eax
    add edi, 4
    dec ecx
    jnz 1b
    mov ecx, 1024 * 384
    mov eax, 0x00204060
2:  mov fs:[edi], eax
    add edi, 4
    dec ecx
    jnz 2b
    mov si, offset is_vbe
    call pause
9:

/* 320x200 in 256 colours, then 640x480 in four planes. */
    mov ax, 0x13
    int 0x10
    mov ax, 0xa000
    mov es, ax
    xor di, di
    mov cx, 32000
    mov ax, 0x0404
    rep stosw
    mov si, offset is_13
    call pause
    mov ax, 0x12
    int 0x10
    mov dx, 0x3c4
    mov ax, 0x0202                      /* the map mask: plane 1 alone */
    out dx, ax
    xor di, di
    mov cx, 19200
    mov ax, 0xffff
    rep stosw
    mov si, offset is_12
    call pause

/* Text and the keyboard. */
    mov ax, 3
    int 0x10
    mov si, offset is_text
    call say
1:  mov ah, 0
    int 0x16
    mov key, al
    mov si, offset is_key
    call say
    jmp 1b

/* ZF: what is written at 0:6000 is at ffff:6010, too. */
wraps:
    mov ax, 0xffff
    mov es, ax
    not word ptr ds:[0x6000]
    mov ax, ds:[0x6000]
    cmp es:[0x6010], ax
    jne 1f
    not word ptr es:[0x6010]            /* and the other way round */
    not ax
    cmp ds:[0x6000], ax
1:  ret

keyboard_free:
    in al, 0x64
    test al, 2
    jnz keyboard_free
    ret

/* AH to the controller. */
keyboard_command:
    call keyboard_free
    mov al, ah
    out 0x64, al
    jmp keyboard_free

/* NZ: the controller's output port has A20. */
keyboard_says_a20:
    cli
    mov ah, 0xd0
    call keyboard_command
1:  in al, 0x64
    test al, 1
    jz 1b
    in al, 0x60
    sti
    test al, 2
    ret

/* AL to the bits of DC000 in the host bridge's PAM4. */
pam:
    mov cl, al
    mov eax, 0x8000005c
    mov dx, 0xcf8
    out dx, eax
    mov dx, 0xcfd
    in al, dx
    and al, 0x0f
    or al, cl
    out dx, al
    ret

unreal:
    cli
    lgdt gdtr
    mov eax, cr0
    or al, 1
    mov cr0, eax
    jmp 1f
1:  mov bx, 8
    mov fs, bx
    and al, 0xfe
    mov cr0, eax
    ljmp 0, offset 2f
2:  xor bx, bx
    mov fs, bx                          /* the base is 0 again; the limit stays */
    sti
    ret

protection:
    push bp
    mov bp, sp
    add word ptr [bp + 2], 3
    pop bp
    inc cx
    iret

    .balign 8
gdt:
    .quad 0, 0x008f92000000ffff
gdtr:
    .word 15
    .long gdt
nothing:
    .word 0
    .long 0
vectors:
    .word 0x3ff
    .long 0
resets: .byte 0
is_floppy: .asciz "REAL-FLOPPY\r\n"
is_written: .asciz "REAL-WRITTEN\r\n"
no_floppy: .ascii "REAL-NO-FLOPPY "
error: .asciz "00\r\n"
is_back: .asciz "REAL-RESETS\r\n"
loaded: .long 0x4c4f4144
begun: .asciz "REAL-BEGUN\r\n"
is_a20: .asciz "REAL-A20\r\n"
is_pam: .asciz "REAL-PAM\r\n"
is_limit: .asciz "REAL-LIMIT\r\n"
is_unreal: .asciz "REAL-UNREAL\r\n"
is_vbe: .asciz "REAL-VBE\r\n"
is_13: .asciz "REAL-13H\r\n"
is_12: .asciz "REAL-12H\r\n"
is_text: .asciz "REAL-TEXT\r\n"
is_key: .ascii "REAL-KEY "
key: .asciz "?\r\n"
    .org 17 * 512
