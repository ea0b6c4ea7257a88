// SPDX-License-Identifier: Apache-2.0
/*
 * The arithmetic of x87: each instruction as the host's own. Stubs are 4 bytes: opcode, ModRM, a
 * return, padding. `x87_register_stubs` has 64 for each opcode D8..DF (ModRM C0..FF),
 * `x87_memory_stubs` has 8 (ModRM.reg; the operand is at rdi).
 *
 * Around a stub the guest's state is loaded and saved by instructions that do not wait for pending
 * exceptions, so that an unmasked one is found in the saved state and never raised on the host.
 */
.text
    .balign 64
.globl x87_register_stubs, x87_memory_stubs
x87_register_stubs:
    .irp opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf
    .set modrm, 0xc0
    .rept 64
    .byte \opcode, modrm
    ret
    nop
    .set modrm, modrm + 1
    .endr
    .endr

x87_memory_stubs:
    .irp opcode, 0xd8, 0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf
    .set modrm, 0x07
    .rept 8
    .byte \opcode, modrm
    ret
    nop
    .set modrm, modrm + 8
    .endr
    .endr

/* rdi image in FXSAVE form, rsi memory operand, rdx stub. x87.c. */
    .balign 16
.globl x87_run
.type x87_run, @function
x87_run:
    push %rdi
    fxrstor (%rdi)
    mov %rsi, %rdi
    call *%rdx
    pop %rdi
    fxsave (%rdi)
    fninit
    ret

/* rdi image, rsi pointer to flags that go in and out, rdx stub */
    .balign 16
.globl x87_run_flags
.type x87_run_flags, @function
x87_run_flags:
    fxrstor (%rdi)
    pushq (%rsi)
    popfq
    call *%rdx
    pushfq
    popq (%rsi)
    fxsave (%rdi)
    fninit
    ret

.section .note.GNU-stack, "", @progbits
