// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of the EVEX group share: when an instruction of AVX-512 may run, its operand in
 * memory, of which a mask leaves parts out, and the host stubs (evex_stubs.S).
 */
#pragma once

#include "vmm/engine/soft/vector.h"

#define XCR0_AVX512 0xe6UL /* SSE, AVX and all three components of AVX-512 are needed */

/* Bytes of insn->aux, as the EVEX group uses them; the first ones as vector.h says. */
enum evex_aux {
    EVEX_SIZE = AUX_SIZE,
    EVEX_DESTINATION = AUX_DESTINATION,
    EVEX_ELEMENT =
        AUX_TO, /* bytes of an element of the result, to which a bit of the mask belongs */
    EVEX_COUNT = AUX_FROM,  /* elements of the memory operand, or of the vector for a broadcast */
    EVEX_INDEX = AUX_INDEX, /* vector register of indices */
    EVEX_INDEX_SIZE = AUX_SOURCE, /* bytes of an index */
    EVEX_TUPLE = AUX_SOURCE,      /* elements in memory that a broadcast repeats */
    EVEX_MASK = AUX_MASK,         /* number of the mask register; 0: none */
    EVEX_FLAGS = AUX_ALWAYS + 1,
    EVEX_ROUNDING, /* 0: as MXCSR says; else exceptions are suppressed: enum evex_rounding */
    EVEX_TARGET,   /* number of the destination register */
};

enum evex_flag {
    EVEX_ZEROING = 1,   /* elements that are left out become 0 */
    EVEX_SUPPRESS = 2,  /* elements that are left out are not accessed: they cannot fault */
    EVEX_BROADCAST = 4, /* memory is repeated over the whole vector */
    EVEX_SCALAR = 8,    /* the mask has one bit */
    EVEX_PACKED = 16,   /* VEXPAND, VCOMPRESS: memory has only the elements that are not left out */
    EVEX_FLOATING = 32, /* a store that may raise #XM */
};

enum evex_rounding {
    EVEX_ROUND_MXCSR,
    EVEX_ROUND_CONTROL, /* plus the rounding control */
    EVEX_ROUND_SAE = EVEX_ROUND_CONTROL + 4,
};

#define EVEX_NO_VVVV 0xff /* insn->vvvv without such an operand */

/* ---- host stubs ---- */

struct evex_entry {
    uint32_t key; /* opcode, prefix, map, W, length; bit 24: 256 stubs, one an immediate */
    int32_t stub; /* offset from evex_stubs */
};

extern const struct evex_entry evex_entries[], evex_entries_end[];
extern const uint8_t evex_stubs[], evex_stubs_end[], evex_trap[];

/* Operands of a stub. The layout is known to evex_stubs.S. */
struct evex_operands {
    uint8_t x0[64], x1[64], x2[64];
    uint64_t k0;       /* out */
    uint64_t mask, k2; /* in */
    uint64_t rax;      /* out */
    uint64_t rdx;      /* in */
    uint64_t rflags;   /* out */
    uint32_t mxcsr;    /* in and out */
};

/* Run `stub` on the operands: zmm0 (in and out), zmm1, zmm2, k1 (the mask), k2, edx. False when an
 * exception that MXCSR does not mask came up; its flags are in `mxcsr`. The host must have
 * AVX-512. */
bool evex_run(struct evex_operands *operands, const void *stub);

/* The stub of an opcode: `map` 0 is 0F, 1 0F38, 2 0F3A, 3 the groups 12 to 14, whose `opcode` is
 * its lowest two bits and ModRM.reg; `length` 0 to 2 is 128 to 512 bits. NULL for none. */
const void *evex_find_stub(unsigned length, unsigned wide, unsigned prefix, unsigned map,
                           unsigned opcode, uint8_t immediate);

/* ---- may it run ---- */

/* #UD or #NM (SDM 2, 2.8). What runs marks the state as used. */
static inline void evex_check(struct soft_cpu *cpu)
{
    vector_check_state(cpu, XCR0_AVX512);
    cpu->avx512_used = true;
}

/* ---- memory: evex_memory.c ---- */

/* The mask of an instruction; all bits are set where it has none. */
static inline uint64_t evex_mask(const struct soft_cpu *cpu, const struct insn *insn)
{
    return insn->aux[EVEX_MASK] ? cpu->opmask[insn->aux[EVEX_MASK] & 7] : ~0UL;
}

/* What `mask` has of an operand in memory: of a packed one, so many elements from its begin on. */
uint64_t evex_present(const struct insn *insn, uint64_t mask);
/* Read the memory operand, broadcast where it is one. */
void evex_load(struct soft_cpu *cpu, const struct insn *insn, uint64_t mask, uint8_t out[64]);
/* Whether evex_store will not fault; raises if it would. */
void evex_probe_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t mask);
/* Write it, from `in`. */
void evex_store(struct soft_cpu *cpu, const struct insn *insn, uint64_t mask, const uint8_t *in);

/* ---- selection; NULL for what is not theirs ---- */

/* The registers' numbers go to insn->reg, rm and vvvv, and what else is common to insn->aux. */
void evex_fill(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn evex_select_memory(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn evex_select(const struct soft_decoded *decoded, struct insn *insn);
soft_exec_fn evex_select_opmask(const struct soft_decoded *decoded, struct insn *insn);
