// SPDX-License-Identifier: Apache-2.0
// Entry of the other processors, for payloads that start some: position-dependent code that is copied
// to AP_START, where a SIPI with vector AP_START >> 12 begins it in real mode. It goes to long mode on
// the boot processor's tables and calls ap_entry with the next of ap_stacks.
#define AP_START 0x8000
#define AT(label) (label - ap_trampoline + AP_START)

    .text
    .globl ap_trampoline, ap_trampoline_end
    .code16
ap_trampoline:
    cli
    xorl %eax, %eax
    movw %ax, %ds
    lgdtl AT(ap_gdt_pointer)
    movl $0x11, %eax                // ET, PE
    movl %eax, %cr0
    ljmpl $0x28, $AT(ap_32)

    .code32
ap_32:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $0x6b0, %eax               // as in start64.S
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    ljmpl $0x08, $AT(ap_64)

    .code64
ap_64:
    movq $-8192, %rax               // the next stack, downwards
    lock xaddq %rax, ap_stacks
    movq %rax, %rsp
    xorl %ebp, %ebp
    movq ap_entry, %rax
    call *%rax
1:  hlt
    jmp 1b

    .balign 4
ap_gdt_pointer:
    .word 9 * 8 - 1
    .long boot_gdt
ap_trampoline_end:

    .data
    .balign 8
    .globl ap_entry, ap_stacks
ap_entry:
    .quad 0
ap_stacks:
    .quad 0
    .section .note.GNU-stack, "", @progbits
