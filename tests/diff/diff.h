// SPDX-License-Identifier: Apache-2.0
/*
 * The differential test of single instructions: what its parts share.
 *
 * A case is one instruction with a whole state of registers and memory. It runs three times:
 * natively in this process (native.c), in the interpreter (interpreter.c) and translated
 * (translator.c); compare.c wants the same registers, flags, memory and faults. form.c lists the
 * instructions, operand.c makes a case of one. All randomness comes from the seed and the case's
 * number, so a case can be repeated alone.
 */
#pragma once

#include <Zydis/Zydis.h>
#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/cpu_model.h"

/* Linear addresses, the same on both sides. What is not named is not mapped on either. All lies in
 * a window of 64 KB, which is what the segments of 16-bit code span. */
#define DIFF_WINDOW     0x20000000UL
#define DIFF_READ_ONLY  0x20001000UL /* one page */
#define DIFF_DATA       0x20002000UL /* two pages */
#define DIFF_DATA_SIZE  0x2000UL
#define DIFF_DATA_END   (DIFF_DATA + DIFF_DATA_SIZE)
#define DIFF_CODE       0x20008000UL /* one page, which native code runs in */
#define DIFF_CODE_ENTRY (DIFF_CODE + 0x800)

/* Selectors of the native side. For 16-bit code they are in the LDT. */
#define DIFF_CS64 0x33
#define DIFF_CS32 0x23
#define DIFF_DS32 0x2b
#define DIFF_CS16 0x07
#define DIFF_DS16 0x0f

/* What an instruction can see and change, but memory. */
struct diff_state {
    uint64_t gpr[16];
    uint64_t rip, rflags;
    uint8_t fxsave[512]; /* the 64-bit form */
    uint8_t ymm_high[16][16];
    uint8_t zmm_high[16][32], zmm_upper[16][64]; /* of ZMM0 to 15; ZMM16 to 31 */
    uint64_t opmask[8];
};

/* Where it went: vector -1 is no fault. */
struct diff_outcome {
    struct diff_state state;
    int vector;
    uint32_t error;
    uint64_t cr2;
    uint8_t data[DIFF_DATA_SIZE];
};

/* One instruction up to its registers, addresses and immediates. */
struct diff_form {
    char name[80];
    uint32_t key;      /* of what must stay the same */
    uint8_t code_size; /* 8: 64-bit code; 4 and 2: compatibility mode */
    bool invalid;      /* no instruction: it has to raise #UD */
    bool vex, evex;
    uint8_t prefixes[3], prefix_count; /* legacy prefixes */
    uint8_t map;                       /* 0 one byte, 1 0F, 2 0F38, 3 0F3A */
    uint8_t opcode, w, l, pp;
    uint8_t modrm; /* one that has this form */
    bool vvvv;     /* VEX.vvvv is an operand */
    bool b, z;     /* EVEX.b and z */
    uint8_t aaa;   /* EVEX.aaa: 0, or 1 for a mask */
};

struct diff_case {
    const struct diff_form *form;
    uint8_t bytes[16];
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    struct diff_state state;
    uint8_t data[DIFF_DATA_SIZE];
    uint8_t read_only[4096];
    bool branches; /* single-step it: it may not come to the next instruction */
};

/* ---- random.c ---- */

struct diff_random {
    uint64_t state;
};

void random_seed(struct diff_random *random, uint64_t seed, uint64_t number);
uint64_t random_bits(struct diff_random *random);
/* 0 .. bound-1 */
unsigned random_below(struct diff_random *random, unsigned bound);
/* Values at which instructions change their mind. */
uint64_t random_integer(struct diff_random *random);
void random_vector(struct diff_random *random, uint8_t out[32]);
void random_x87(struct diff_random *random, uint8_t out[10]);
void random_fill(struct diff_random *random, uint8_t *out, unsigned size);

/* ---- form.c ---- */

/* Arrays of struct diff_form: instructions, and encodings that are none. */
struct diff_forms {
    GArray *valid, *invalid;
};

/* All forms whose name contains `text`, or all, of code of `least_size` and more. `avx512`: with
 * those of AVX-512, of which cases then have the registers. */
struct diff_forms form_list(const char *text, unsigned least_size, bool avx512);
bool form_avx512(void);
/* Decode as code of a size; false when invalid. */
bool form_decode(unsigned code_size, const uint8_t *bytes, ZydisDecodedInstruction *instruction,
                 ZydisDecodedOperand *operands);
/* What must be the same for two encodings to be of one form. */
uint32_t form_key(unsigned code_size, const ZydisDecodedInstruction *instruction,
                  const ZydisDecodedOperand *operands);

/* ---- operand.c ---- */

/* Base of the code's segments. */
static inline uint64_t form_base(const struct diff_form *form)
{
    return form->code_size == 2 ? DIFF_WINDOW : 0;
}

/* Fill `out` with a random case of the form. False where no encoding was found. */
bool case_build(const struct diff_form *form, struct diff_random *random, struct diff_case *out);

/* ---- model.c ---- */

/* Components of XSAVE that cases are about: of those that the system has enabled. */
uint64_t diff_xcr0(void);
bool diff_has_avx512(void);
void diff_model(struct cpu_definition *model);

/* ---- native.c ---- */

/* Map the memory, take the signals. The size of the smallest code that can run: 2, or 4 where the
 * system gives no segments of 16 bits. */
unsigned native_init(void);
void native_run(const struct diff_case *test, struct diff_outcome *out);

/* ---- interpreter.c ---- */

void interpreter_init(void);
void interpreter_finish(void);
void interpreter_run(const struct diff_case *test, struct diff_outcome *out);

/* ---- translator.c ---- */

/* `switches` as ANIMA_SOFT has them. */
void translator_init(const char *switches);
void translator_finish(void);
/* Whether it can run the case. */
bool translator_takes(const struct diff_case *test);
void translator_run(const struct diff_case *test, struct diff_outcome *out);
/* Its memory lies where cases may hit it natively: take it out of their way, bring it back. */
void translator_hide(void);
void translator_show(void);

/* ---- compare.c ---- */

/* NULL when both agree, else a description to be freed. `interpreted` may be translated. */
char *outcome_compare(const struct diff_case *test, const struct diff_outcome *native,
                      const struct diff_outcome *interpreted);
