// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel below a program: what exceptions, interrupts and calls do. It lies at KERNEL_LINEAR
 * and addresses itself relative to RIP; its data is struct kernel_data (lockstep.h), whose offsets
 * stand here again. An exception is logged with all registers, and the program goes on behind the
 * unit that raised it.
 */
#define DATA_FUEL    0x5000
#define DATA_FAULTS  0x5004
#define DATA_STEPS   0x5008
#define DATA_RELOAD  0x500c
#define DATA_MASK    0x5010
#define DATA_START   0x5018
#define DATA_STACK   0x5020
#define DATA_CS      0x5028
#define DATA_SS      0x5030
#define DATA_CR3     0x5038
#define DATA_LOG     0x5040
#define DATA_IRQS    0x5048
#define DATA_NMIS    0x5050
#define DATA_MOVE    0x5058
#define DATA_EDITS   0x5100
#define STACK_TOP    0x9000
#define LOG_AT       0xc000
#define LOG_SIZE     0x4000
#define NEXT_AT      0x10000
#define CODE_LOW     0x20008000
#define CODE_SIZE    0x4000
#define ALIAS_NEAR   0x40000000
#define ALIAS_FAR    0x80000000
#define ALIAS_MIDDLE 0x7f0000000000
#define ALIAS_HIGH   0xffff880000000000
#define ALIAS_TOP    0xffffffff80000000
#define ALIASES      12
#define OFFSET_MASK  0x3fffffff /* of the address within an alias */

#define FRAME_VECTOR 128
#define FRAME_RIP    144
#define FRAME_CS     152
#define FRAME_RFLAGS 160
#define FRAME_RSP    168
#define FRAME_SS     176

    .section .rodata
    .intel_syntax noprefix
    .code64
    .global kernel_image, kernel_image_end
    .balign 16
kernel_image:
/* What lies at `offset` of the kernel. */
#define AT(offset) rip + kernel_image + (offset)

/* A stub of 16 bytes for each vector. */
    .set vector, 0
    .rept 256
    .balign 16
    .if vector == 2
    jmp nmi
    .elseif vector >= 0x40 && vector < 0x50
    jmp interrupt
    .else
    .if vector != 8 && (vector < 10 || vector > 14) && vector != 17
    push 0
    .endif
    push vector
    jmp common
    .endif
    .set vector, vector + 1
    .endr
    .balign 16

nmi:
    inc qword ptr [AT(DATA_NMIS)]
    iretq

interrupt:
    push rax
    push rcx
    push rdx
    inc qword ptr [AT(DATA_IRQS)]
/* A unit that waits for an interrupt is marked in the table of those behind: it goes on there. */
    mov rax, [rsp + 24]
    mov ecx, eax
    and ecx, OFFSET_MASK
    mov edx, ecx
    sub edx, CODE_LOW
    cmp edx, CODE_SIZE
    jae 1f
    sub rax, rcx
    lea rcx, [AT(NEXT_AT)]
    movzx edx, word ptr [rcx + rdx * 2]
    btr edx, 15
    jnc 1f
    add edx, CODE_LOW
    add rax, rdx
    mov [rsp + 24], rax
1:  mov ecx, 0x80b /* EOI of the x2APIC */
    xor eax, eax
    xor edx, edx
    wrmsr
    pop rdx
    pop rcx
    pop rax
    iretq

common:
    .irp r, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rsp, rbx, rdx, rcx, rax
    push \r
    .endr
    cld
    mov ebx, [rsp + FRAME_VECTOR]
    cmp ebx, 0x80
    jae call
    cmp ebx, 3
    je logged
    cmp ebx, 4
    je logged
    mov rcx, [AT(DATA_MASK)]
    and [rsp + FRAME_RFLAGS], rcx
logged:
    call log
    dec dword ptr [AT(DATA_FAULTS)]
    js finish
    cmp ebx, 1
    je debug
    cmp ebx, 3
    je return
    cmp ebx, 4
    je return
    cmp ebx, 7
    je no_math
    cmp ebx, 16
    jne skip
    fnclex

/* To the unit behind the one at RIP. */
skip:
    mov rax, [rsp + FRAME_RIP]
    mov ecx, eax
    and ecx, OFFSET_MASK
    mov edx, ecx
    sub edx, CODE_LOW
    cmp edx, CODE_SIZE
    jae restart
    sub rax, rcx
    lea rsi, [AT(NEXT_AT)]
    movzx edx, word ptr [rsi + rdx * 2]
    and edx, 0x7fff
    add edx, CODE_LOW
    add rax, rdx
    mov [rsp + FRAME_RIP], rax
    jmp return

no_math:
    clts
    jmp return

/* Of so many single steps; an instruction breakpoint is passed by RF. */
debug:
    mov rax, dr6
    mov ecx, 0xffff0ff0
    mov dr6, rcx
    test al, 15
    jz 1f
    or dword ptr [rsp + FRAME_RFLAGS], 0x10000
1:  dec dword ptr [AT(DATA_STEPS)]
    jns return
    mov eax, [AT(DATA_RELOAD)]
    mov [AT(DATA_STEPS)], eax
    and dword ptr [rsp + FRAME_RFLAGS], ~0x100
    jmp return

/* INT n of the program, with n in EBX. */
call:
    cmp ebx, 0x81
    je ended
    cmp ebx, 0x82
    je other_space
    cmp ebx, 0x83
    je edit
    cmp ebx, 0x84
    je ask
    cmp ebx, 0x85
    je checkpoint
    cmp ebx, 0x86
    jne return
flush:
    mov rax, cr4
    xor rax, 0x80
    mov cr4, rax
    xor rax, 0x80
    mov cr4, rax
    jmp return

ended:
    call log
restart:
    dec dword ptr [AT(DATA_FUEL)]
    js finish
    mov rax, [AT(DATA_START)]
    mov [rsp + FRAME_RIP], rax
    xor rax, [AT(DATA_MOVE)] /* the next time elsewhere */
    mov [AT(DATA_START)], rax
    mov rax, [AT(DATA_STACK)]
    mov [rsp + FRAME_RSP], rax
    mov rax, [AT(DATA_CS)]
    mov [rsp + FRAME_CS], rax
    mov rax, [AT(DATA_SS)]
    mov [rsp + FRAME_SS], rax
    jmp return

other_space:
    mov rax, cr3
    xor rax, [AT(DATA_CR3)]
    mov cr3, rax
    jmp return

/* Entry EAX of the list: where a page-table entry lies, its new value, the page, and whether to
 * flush all but global pages (1), or everything (2). */
edit:
    mov eax, [rsp]
    and eax, 15
    shl eax, 5
    lea rsi, [AT(DATA_EDITS)]
    add rsi, rax
    mov rdi, [rsi]
    mov rax, [rsi + 8]
    mov rdx, [rsi + 16]
    mov [rdi], rax
    lea r8, [rip + aliases]
    mov ecx, ALIASES
1:  mov r9, [r8 + rcx * 8 - 8]
    invlpg [rdx + r9]
    dec ecx
    jnz 1b
    test dword ptr [rsi + 24], 2
    jnz flush
    test dword ptr [rsi + 24], 1
    jz return
    mov rax, cr3
    mov cr3, rax
    jmp return

/* The device sends an interrupt, which comes when IF is set again. */
ask:
    out 0xe1, al
    jmp return

checkpoint:
    call log
return:
    .irp r, rax, rcx, rdx, rbx
    pop \r
    .endr
    add rsp, 8
    .irp r, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
    pop \r
    .endr
    add rsp, 16
    iretq

finish:
    out 0xe0, al
1:  hlt
    jmp 1b

/* The frame, CR2 and DR6 to the next place in the log. */
log:
    mov rcx, [AT(DATA_LOG)]
    lea rdi, [AT(LOG_AT)]
    add rdi, rcx
    add ecx, 256
    and ecx, LOG_SIZE - 1
    mov [AT(DATA_LOG)], rcx
    lea rsi, [rsp + 8]
    mov ecx, 23
    rep movsq
    mov rax, cr2
    stosq
    mov rax, dr6
    stosq
    ret

/* SYSCALL: GS is the kernel's data then, as the kernels of the world have it. */
    .global kernel_syscall, kernel_syscall32
kernel_syscall:
    swapgs
    mov gs:[0x60], rsp
    lea rsp, [AT(STACK_TOP)]
    push rcx
    push r11
    inc qword ptr gs:[0x68]
    pop r11
    pop rcx
    mov rsp, gs:[0x60]
    swapgs
    sysretq
kernel_syscall32:
    swapgs
    inc qword ptr gs:[0x70]
    swapgs
    sysretd

    .balign 8
aliases:
    .irp alias, 0, ALIAS_MIDDLE, ALIAS_HIGH, ALIAS_TOP
    .quad \alias, \alias + ALIAS_NEAR, \alias + ALIAS_FAR
    .endr
kernel_image_end:
    .att_syntax
    .section .note.GNU-stack, "", @progbits
