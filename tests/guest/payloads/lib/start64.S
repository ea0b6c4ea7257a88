// SPDX-License-Identifier: Apache-2.0
// Entry of a 64-bit payload: a Multiboot 1 header, 32-bit protected mode to long mode with an identity
// map of 4 GiB in 2 MiB pages, then payload_start(multiboot_info).

    .section .multiboot, "ax"
    .balign 4
    .long 0x1badb002
    .long 0
    .long -0x1badb002

    .text
    .code32
    .globl start
start:
    cli
    movl $stack_top, %esp
    movl %ebx, %edi
    // Page tables: one PML4 entry, four page directories of 2 MiB pages.
    movl $boot_pdpt + 7, boot_pml4
    movl $boot_pd + 7, %eax
    movl $boot_pdpt, %edx
    movl $4, %ecx
1:  movl %eax, (%edx)
    addl $4096, %eax
    addl $8, %edx
    loop 1b
    movl $0x83, %eax
    movl $boot_pd, %edx
    movl $2048, %ecx
2:  movl %eax, (%edx)
    addl $0x200000, %eax
    addl $8, %edx
    loop 2b

    movl $0x6b0, %eax               // PSE is implied; PAE, MCE, PGE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $boot_pml4, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax                // SCE, LME, NXE
    wrmsr
    movl $0x80010033, %eax          // PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $0x08, $start64

    .code64
start64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movl $stack_top, %esp
    movl %edi, %edi
    call payload_start
3:  hlt
    jmp 3b

// One entry per vector: pushes a zero where the CPU pushes no error code, then the vector.
    .balign 16
    .globl exception_entries
exception_entries:
    vector = 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushq $0
    .endif
    pushq $vector
    jmp exception_common
    vector = vector + 1
    .endr

exception_common:
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rdi
    pushq %rsi
    pushq %rbp
    pushq %rbx
    pushq %rdx
    pushq %rcx
    pushq %rax
    movq %rsp, %rdi
    cld
    call exception_handle
    popq %rax
    popq %rcx
    popq %rdx
    popq %rbx
    popq %rbp
    popq %rsi
    popq %rdi
    popq %r8
    popq %r9
    popq %r10
    popq %r11
    popq %r12
    popq %r13
    popq %r14
    popq %r15
    addq $16, %rsp
    iretq

// bool call_catching(void (*fn)(void *), void *argument): false when an exception ended it. The
// handler comes back through catch_return with the stack that was saved here.
    .globl call_catching
call_catching:
    pushq %rbx
    pushq %rbp
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq catch_rsp
    movq %rsp, catch_rsp
    movq %rdi, %rax
    movq %rsi, %rdi
    subq $8, %rsp
    call *%rax
    movq catch_rsp, %rsp
    movl $1, %eax
    jmp 1f
    .globl catch_return
catch_return:
    movq catch_rsp, %rsp
    xorl %eax, %eax
1:  popq catch_rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbp
    popq %rbx
    ret

// void user_run(uint64_t rip, uint64_t rsp, uint64_t rax, uint64_t rflags): runs ring-3 code until an
// exception or `int $0x80` there, which comes back through catch_return.
    .globl user_enter
user_enter:
    pushq $0x1b | 0                 // SS: user data
    pushq %rsi
    pushq %rcx
    pushq $0x23                     // CS: user 64-bit code
    pushq %rdi
    movq %rdx, %rax
    iretq

    .data
    .balign 16
    .globl boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff        // 08: kernel code, 64-bit
    .quad 0x00cf93000000ffff        // 10: kernel data
    .quad 0x00cff3000000ffff        // 18: user data
    .quad 0x00affb000000ffff        // 20: user code, 64-bit
    .quad 0x00cf9b000000ffff        // 28: kernel code, 32-bit
    .quad 0x00cffb000000ffff        // 30: user code, 32-bit
    .quad 0                         // 38: TSS, filled in by payload_start
    .quad 0
    .fill 16, 8, 0                  // 48..: for the payload
boot_gdt_end:
boot_gdt_pointer:
    .word boot_gdt_end - boot_gdt - 1
    .quad boot_gdt

    .globl catch_rsp
catch_rsp:
    .quad 0

    .bss
    .balign 4096
    .globl boot_pml4, boot_pdpt, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4096 * 4
stack:     .skip 65536
    .globl stack_top
stack_top:
    .section .note.GNU-stack, "", @progbits
