// SPDX-License-Identifier: Apache-2.0
/*
 * The vector registers and MXCSR from and to memory, with AVX-512 the mask registers too;
 * vector_state.c has the prototypes. The vector registers lie 64 bytes apart.
 */
#include "vmm/engine/soft/stubs.inc"

#define LOWER 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define UPPER 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

.macro each_load mnemonic, register, numbers:vararg
    .irp number, \numbers
    \mnemonic \number * 64(%rdi), %\register\number
    .endr
.endm

.macro each_store mnemonic, register, numbers:vararg
    .irp number, \numbers
    \mnemonic %\register\number, \number * 64(%rdi)
    .endr
.endm

.text
/* rdi registers, rsi MXCSR */
function vector_state_load_128
    each_load movaps, xmm, LOWER
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
    each_load movaps, xmm, LOWER
    ldmxcsr (%rsi)
    ret
1:  each_load vmovaps, ymm, LOWER
    ldmxcsr (%rsi)
    ret

/* rdx mask registers. The upper parts of the first sixteen registers as above: programs that use
 * the others with the lengths of SSE and AVX need never have an upper part in use. */
function vector_state_load_512
    each_load vmovdqa64, zmm, LOWER
    vmovdqa64 %zmm0, %zmm16
    .irp number, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    vporq %zmm\number, %zmm16, %zmm16
    .endr
    vptestmq %zmm16, %zmm16, %k0
    kshiftrb $2, %k0, %k0 /* above 128 bits */
    kortestb %k0, %k0
    jnz 1f
    vzeroupper
1:  each_load vmovdqa64, zmm, UPPER
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq \number * 8(%rdx), %k\number
    .endr
    ldmxcsr (%rsi)
    ret

function vector_state_save_128
    stmxcsr (%rsi)
    each_store movaps, xmm, LOWER
    ldmxcsr host_mxcsr(%rip)
    ret

function vector_state_save_256
    stmxcsr (%rsi)
    each_store vmovaps, ymm, LOWER
    vzeroupper
    ldmxcsr host_mxcsr(%rip)
    ret

function vector_state_save_512
    stmxcsr (%rsi)
    each_store vmovdqa64, zmm, LOWER, UPPER
    .irp number, 0, 1, 2, 3, 4, 5, 6, 7
    kmovq %k\number, \number * 8(%rdx)
    .endr
    vzeroupper
    ldmxcsr host_mxcsr(%rip)
    ret

.section .note.GNU-stack, "", @progbits
