/* SPDX-License-Identifier: Apache-2.0 */
/*
 * void coroutine_switch(void **from, void *to): leave this stack, whose place goes to *from, and go
 * on with the one at `to`. What the ABI lets a function keep (System V AMD64, 3.2.1) lies on the
 * stack that is left. MXCSR and the x87 control word are not among it: nobody changes them on a
 * thread with coroutines.
 */
.text
    .globl coroutine_switch
    .type coroutine_switch, @function
    .balign 16
coroutine_switch:
    push %rbp
    push %rbx
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, (%rdi)
    mov %rsi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    ret
    .size coroutine_switch, . - coroutine_switch

/* The first frame of a coroutine: %rbx its function, %r12 what that is called with. It never
 * returns; a debugger's walk up the stack ends here. */
    .globl coroutine_begin
    .type coroutine_begin, @function
    .balign 16
coroutine_begin:
    .cfi_startproc
    .cfi_undefined %rip
    mov %r12, %rdi
    call *%rbx
    ud2
    .cfi_endproc
    .size coroutine_begin, . - coroutine_begin

.section .note.GNU-stack, "", @progbits
