// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the vector group share: when a vector instruction may run at all, its memory
 * operand, the MMX registers, and the host stubs (vector_stubs.S).
 *
 * A handler first checks, then reads memory, then computes, then writes: nothing of the guest's
 * state changes before its last possible fault.
 */
#pragma once

#include <string.h>

#include "vmm/engine/soft/cpu.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/x87.h"

#define XCR0_AVX 6UL /* SSE and AVX state: both are needed */

/* CF, PF, AF, ZF, SF, OF: comparisons write all of them. */
#define VECTOR_FLAGS 0x8d5UL

#define MXCSR_DEFAULT    0x1f80U
#define MXCSR_MISALIGNED (1U << 17) /* AMD: legacy instructions need no alignment */

/* Bytes of insn->aux, as the vector group uses them. */
enum vector_aux {
    AUX_SIZE,        /* bytes of the memory operand or of the element moved */
    AUX_ALIGNMENT,   /* mask of address bits that must be clear, or 0 */
    AUX_DESTINATION, /* enum vector_place */
    AUX_SOURCE,      /* enum vector_place */
    AUX_TO,          /* byte offset in the destination register */
    AUX_FROM,        /* byte offset in the source register */
    AUX_VEX,         /* bytes of the vector: 16 or 32; 0 for legacy encodings */
    AUX_INDEX,       /* vector register of indices (VSIB) */
    AUX_MASK,        /* of the handler's own */
    AUX_ALWAYS,      /* AUX_ALIGNMENT holds whatever MXCSR.MM says */
};

/* Where an operand lives. */
enum vector_place {
    PLACE_NONE,
    PLACE_VECTOR,
    PLACE_MMX,
    PLACE_GPR,
    PLACE_MEMORY,
    PLACE_FLAGS,
    PLACE_MASK,
};

/* ---- host stubs ---- */

struct vector_entry {
    uint32_t key; /* opcode, prefix, map, set; bits 24.. are flags */
    int32_t stub; /* offset from vector_stubs */
};

#define VECTOR_FP        (1U << 24) /* may raise SIMD floating-point exceptions */
#define VECTOR_IMMEDIATE (1U << 25) /* 256 stubs, one a value */

extern const struct vector_entry vector_entries[], vector_entries_end[];
extern const uint8_t vector_stubs[], vector_stubs_end[];
extern const uint8_t vector_sha256rnds2[], vector_trap[];

/* Execute `stub` with xmm0, xmm1, xmm2 (or ymm) from `destination`, `first`, `second`; the register
 * xmm0 goes back to `destination`. 16 or 32 bytes each, any alignment. */
void vector_run_128(void *destination, const void *first, const void *second, const void *stub);
void vector_run_256(void *destination, const void *first, const void *second, const void *stub);

/* The same under the guest's MXCSR, which gets its flags. False when an unmasked exception came up:
 * the flags are set then, and the destination is untouched. */
bool vector_run_128_fp(void *destination, const void *first, const void *second, const void *stub,
                       uint32_t *mxcsr);
bool vector_run_256_fp(void *destination, const void *first, const void *second, const void *stub,
                       uint32_t *mxcsr);

/* Operands of instructions that mix register files. The layout is known to vector_stubs.S. */
struct vector_operands {
    uint8_t x0[32], x1[32], x2[32];
    uint8_t mm0[8], mm2[8];
    uint8_t reserved[16];
    uint64_t rax;     /* in and out */
    uint64_t rdx_rcx; /* in: RDX, out: RCX */
    uint64_t rflags;  /* out */
    uint32_t mxcsr;   /* in and out */
};

/* Run `stub` on the operands, with vectors of 16 or 32 bytes or with MMX registers. false when an
 * exception that MXCSR does not mask came up; its flags are in `mxcsr`. */
bool vector_run_mixed(struct vector_operands *operands, const void *stub);
bool vector_run_mixed_256(struct vector_operands *operands, const void *stub);
bool vector_run_mmx(struct vector_operands *operands, const void *stub);

/* Build the index of stubs and install the SIGFPE handler; once a process, any thread. Selecting
 * does it too: engines call it before their sandbox closes. */
void soft_vector_init(void);

/* Install the SIGFPE handler again, after somebody else took the signal; it hands on what is not
 * its own. vCPU threads must not block SIGFPE. */
void soft_vector_catch(void);

/* The entry of an opcode, or NULL. `set` is 0 for legacy encodings, 2 for VEX.128, 4 for VEX.256,
 * plus W; `prefix` is numbered as in VEX.pp; `map` is 0 for 0F, 1 for 0F38, 2 for 0F3A. After
 * soft_vector_init. */
const struct vector_entry *vector_find_entry(unsigned set, unsigned prefix, unsigned map,
                                             unsigned opcode);
const void *vector_entry_stub(const struct vector_entry *entry, uint8_t immediate);

/* While decoding: AUX_SIZE, AUX_ALIGNMENT and AUX_VEX of an instruction; an operand's place. */
void vector_fill_aux(const struct soft_decoded *decoded, struct insn *insn);
uint8_t vector_place_of(const ZydisDecodedOperand *operand);

/* The registers of AVX-512 were replaced: find out whether any is in use. */
void soft_avx512_settle(struct soft_cpu *cpu);

/* ---- may it run ---- */

_Noreturn void vector_refuse_sse(struct soft_cpu *cpu);
_Noreturn void vector_refuse_state(struct soft_cpu *cpu, uint64_t state);
_Noreturn void vector_raise_simd(struct soft_cpu *cpu);

/* #UD or #NM for a legacy SSE instruction (SDM 2, table 2-19). */
static inline void vector_check_sse(struct soft_cpu *cpu)
{
    if (__builtin_expect((cpu->cr0 & (CR0_EM | CR0_TS)) | (~cpu->cr4 & CR4_OSFXSR), 0))
        vector_refuse_sse(cpu);
}

/* The same for what needs all of `state` in XCR0. */
static inline void vector_check_state(struct soft_cpu *cpu, uint64_t state)
{
    if (__builtin_expect((cpu->cr0 & CR0_TS) | (~cpu->cr4 & CR4_OSXSAVE) | (~cpu->xcr0 & state) |
                             (~cpu->cr0 & 1) | soft_v86(cpu),
                         0))
        vector_refuse_state(cpu, state);
}

/* The same for VEX encodings. */
static inline void vector_check_avx(struct soft_cpu *cpu)
{
    vector_check_state(cpu, XCR0_AVX);
}

static inline void vector_check(struct soft_cpu *cpu, bool vex)
{
    if (vex)
        vector_check_avx(cpu);
    else
        vector_check_sse(cpu);
}

/* Bits of MXCSR that may be set. */
static inline uint32_t soft_mxcsr_mask(const struct soft_cpu *cpu)
{
    return cpu_has(cpu->model, CPU_80000001_ECX, 7) ? 0x2ffff : 0xffff;
}

/* ---- operands ---- */

/* Address of the memory operand; #GP where the instruction wants alignment, which is looked at
 * before limits. */
static inline uint64_t vector_address(struct soft_cpu *cpu, const struct insn *insn, unsigned size,
                                      enum soft_access access)
{
    if (insn->aux[AUX_ALIGNMENT]) {
        uint64_t linear = soft_operand_offset(cpu, insn);

        if (!cpu->flat || insn->segment >= SEG_FS)
            linear += cpu->seg[insn->segment].base;
        if (__builtin_expect(linear & insn->aux[AUX_ALIGNMENT], 0) &&
            (insn->aux[AUX_ALWAYS] || !(cpu->mxcsr & MXCSR_MISALIGNED)))
            soft_general_protection(cpu, 0);
    }
    return soft_operand_address(cpu, insn, size, access);
}

/* Read the memory operand of `size` bytes; the rest of the first 32 bytes is zero. */
static inline void vector_load(struct soft_cpu *cpu, const struct insn *insn, void *out,
                               unsigned size)
{
    uint64_t linear = vector_address(cpu, insn, size, SOFT_READ);
    uint8_t *bytes = out;

    switch (size) {
    case 4:
        memset(bytes, 0, 32);
        soft_read_bytes(cpu, linear, bytes, 4);
        break;
    case 8:
        memset(bytes, 0, 32);
        soft_read_bytes(cpu, linear, bytes, 8);
        break;
    case 16:
        memset(bytes + 16, 0, 16);
        soft_read_bytes(cpu, linear, bytes, 16);
        break;
    case 32:
        soft_read_bytes(cpu, linear, bytes, 32);
        break;
    default: /* 1 and 2 */
        memset(bytes, 0, 32);
        soft_read_bytes(cpu, linear, bytes, size);
        break;
    }
}

/* Clear what a VEX-encoded instruction clears above its `size` bytes of result. */
static inline void vector_clear_above(union soft_vector *vector, unsigned size)
{
    memset(vector->u8 + size, 0, sizeof(vector->u8) - size);
}

/* ---- the other select functions of the group; NULL for what is not theirs ---- */

soft_exec_fn vector_select_move(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn vector_select_element(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn vector_select_masked(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn vector_select_special(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn vector_select_state(const struct soft_decoded *decoded, struct insn *insn);
