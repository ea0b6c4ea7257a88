// SPDX-License-Identifier: Apache-2.0
/*
 * The sixteen vector registers and MXCSR from and to memory; vector_state.c has the prototypes. The
 * registers lie 64 bytes apart.
 */
.section .rodata
    .balign 4
default_mxcsr:
    .long 0x1f80

.macro function name
    .balign 16
    .globl \name
    .type \name, @function
\name:
.endm

.macro each_load mnemonic, register
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \mnemonic \number * 64(%rdi), %\register\number
    .endr
.endm

.macro each_store mnemonic, register
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    \mnemonic %\register\number, \number * 64(%rdi)
    .endr
.endm

.text
/* rdi registers, rsi MXCSR */
function vector_state_load_128
    each_load movaps, xmm
    ldmxcsr (%rsi)
    ret

/* Where all upper halves are 0 they are made so as programs do it, after which processors know it:
 * while they do not, each SSE instruction waits for the upper half of what it writes. */
function vector_state_load_256
    vmovaps 16(%rdi), %xmm0
    .irp number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vorps \number * 64 + 16(%rdi), %xmm0, %xmm0
    .endr
    vptest %xmm0, %xmm0
    jnz 1f
    vzeroupper
    each_load movaps, xmm
    ldmxcsr (%rsi)
    ret
1:  each_load vmovaps, ymm
    ldmxcsr (%rsi)
    ret

function vector_state_save_128
    stmxcsr (%rsi)
    each_store movaps, xmm
    ldmxcsr default_mxcsr(%rip)
    ret

function vector_state_save_256
    stmxcsr (%rsi)
    each_store vmovaps, ymm
    vzeroupper
    ldmxcsr default_mxcsr(%rip)
    ret

.section .note.GNU-stack, "", @progbits
