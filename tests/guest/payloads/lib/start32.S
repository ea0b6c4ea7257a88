// SPDX-License-Identifier: Apache-2.0
// Entry of a 32-bit payload: flat protected mode without paging, as Multiboot leaves it.

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
    movl $stack32_top, %esp
    lgdt gdt32_pointer
    ljmp $0x08, $1f
1:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    pushl %ebx
    call payload32_start
2:  hlt
    jmp 2b

    .balign 16
    .globl exception_entries
exception_entries:
    vector = 0
    .rept 256
    .balign 16
    .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
    pushl $0
    .endif
    pushl $vector
    jmp exception_common
    vector = vector + 1
    .endr

exception_common:
    pushal
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    pushl %esp
    call exception_handle
    addl $4, %esp
    popal
    addl $8, %esp
    iretl

// bool call_catching(void (*fn)(void *), void *argument)
    .globl call_catching
call_catching:
    pushl %ebx
    pushl %ebp
    pushl %esi
    pushl %edi
    pushl catch_esp
    movl %esp, catch_esp
    pushl 28(%esp)
    call *28(%esp)
    addl $4, %esp
    movl $1, %eax
    jmp 1f
    .globl catch_return
catch_return:
    movl catch_esp, %esp
    movl $0x10, %eax
    movl %eax, %ss
    movl %eax, %ds
    movl %eax, %es
    xorl %eax, %eax
1:  popl catch_esp
    popl %edi
    popl %esi
    popl %ebp
    popl %ebx
    ret

    .data
    .balign 8
    .globl gdt32
gdt32:
    .quad 0
    .quad 0x00cf9b000000ffff        // 08: code, ring 0
    .quad 0x00cf93000000ffff        // 10: data, ring 0
    .quad 0x00cffb000000ffff        // 18: code, ring 3
    .quad 0x00cff3000000ffff        // 20: data, ring 3
    .fill 27, 8, 0                  // 28..: for the payload
gdt32_end:
gdt32_pointer:
    .word gdt32_end - gdt32 - 1
    .long gdt32
    .globl catch_esp
catch_esp:
    .long 0

    .bss
    .balign 4096
stack32: .skip 65536
    .globl stack32_top
stack32_top:
    .section .note.GNU-stack, "", @progbits
