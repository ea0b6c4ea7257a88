// SPDX-License-Identifier: Apache-2.0
/*
 * What must agree: everything, but for flags that the manuals leave undefined and that processors
 * set in their own ways, and a few fields that depend on the operating system below the native
 * side.
 */
#include <string.h>

#include "tests/diff/diff.h"

#define EXC_SS 12
#define EXC_PF 14
#define FSW_ES 0x80

#define FLAG_CF 0x001UL
#define FLAG_PF 0x004UL
#define FLAG_AF 0x010UL
#define FLAG_ZF 0x040UL
#define FLAG_SF 0x080UL
#define FLAG_OF 0x800UL

/* Flags of instructions that the manuals call undefined (SDM 2, APM 3) and that the interpreter
 * does not compute as this processor does. All other instructions have to agree in their undefined
 * flags too. */
static uint64_t undefined_flags(const struct diff_case *test)
{
    switch (test->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_AAA:
    case ZYDIS_MNEMONIC_AAS:
        return FLAG_OF | FLAG_SF | FLAG_ZF | FLAG_PF;
    case ZYDIS_MNEMONIC_AAD:
    case ZYDIS_MNEMONIC_AAM:
        return FLAG_OF | FLAG_AF | FLAG_CF;
    case ZYDIS_MNEMONIC_DAA:
    case ZYDIS_MNEMONIC_DAS:
        return FLAG_OF;
    default:
        return 0;
    }
}

/* Instructions whose operand is wider than a register go by parts: processors differ in which byte
 * of it they name in a page fault, and in which page they try first. */
static bool goes_by_parts(const struct diff_case *test)
{
    switch (test->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
        return true;
    default:
        break;
    }
    for (unsigned i = 0; i < test->instruction.operand_count; i++)
        if (test->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY && test->operands[i].size > 512)
            return true;
    return false;
}

/* The kernel reports every fault in its half of the address space as a protection fault. */
static bool same_error(const struct diff_case *test, const struct diff_outcome *native,
                       const struct diff_outcome *interpreted)
{
    bool ignore = native->vector == EXC_PF && (native->cr2 >> 63 || goes_by_parts(test));

    return !((native->error ^ interpreted->error) & ~(uint32_t)ignore);
}

/* Whether both are faults of a wide operand's address: its end may be beyond the segment's limit
 * and its begin not mapped. */
static bool either_fault(const struct diff_case *test, const struct diff_outcome *native,
                         const struct diff_outcome *interpreted)
{
    bool parts = goes_by_parts(test) || test->form->aaa;

    return parts && native->vector >= EXC_SS && native->vector <= EXC_PF &&
           interpreted->vector >= EXC_SS && interpreted->vector <= EXC_PF &&
           test->form->code_size == 2;
}

static void compare_bytes(GString *text, const char *name, const uint8_t *native,
                          const uint8_t *interpreted, unsigned size)
{
    if (!memcmp(native, interpreted, size))
        return;
    g_string_append_printf(text, "  %-10s native ", name);
    for (unsigned i = size; i-- > 0;)
        g_string_append_printf(text, "%02x", native[i]);
    g_string_append(text, " interpreted ");
    for (unsigned i = size; i-- > 0;)
        g_string_append_printf(text, "%02x", interpreted[i]);
    g_string_append_c(text, '\n');
}

static void compare_word(GString *text, const char *name, uint64_t native, uint64_t interpreted)
{
    if (native != interpreted)
        g_string_append_printf(text, "  %-10s native %016lx interpreted %016lx\n", name, native,
                               interpreted);
}

/* AMD's POPA keeps what it has read when it comes to an unmapped page. */
static bool loses_registers(const struct diff_case *test, int vector)
{
    return vector >= 0 && (test->instruction.mnemonic == ZYDIS_MNEMONIC_POPA ||
                           test->instruction.mnemonic == ZYDIS_MNEMONIC_POPAD);
}

static void compare_registers(GString *text, const struct diff_case *test, int vector,
                              const struct diff_state *native, const struct diff_state *interpreted)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    uint64_t flags = 0x244dd5 & ~0x100UL & ~undefined_flags(test);

    for (unsigned i = 0; i < 16 && !loses_registers(test, vector); i++)
        compare_word(text, names[i], native->gpr[i], interpreted->gpr[i]);
    compare_word(text, "rip", native->rip, interpreted->rip);
    compare_word(text, "rflags", native->rflags & flags, interpreted->rflags & flags);
}

static void compare_fxsave(GString *text, const struct diff_state *native,
                           const struct diff_state *interpreted)
{
    const uint8_t *a = native->fxsave, *b = interpreted->fxsave;
    char name[16];

    compare_bytes(text, "fcw", a, b, 2);
    compare_bytes(text, "fsw", a + 2, b + 2, 2);
    compare_bytes(text, "ftw", a + 4, b + 4, 1);
    if (a[2] & FSW_ES) { /* AMD's processors keep the pointers for pending exceptions only */
        compare_bytes(text, "fop", a + 6, b + 6, 2);
        compare_bytes(text, "fip", a + 8, b + 8, 8);
        compare_bytes(text, "fdp", a + 16, b + 16, 8);
    }
    compare_bytes(text, "mxcsr", a + 24, b + 24, 4);
    for (unsigned i = 0; i < 8; i++) {
        g_snprintf(name, sizeof(name), "st%u", i);
        compare_bytes(text, name, a + 32 + i * 16, b + 32 + i * 16, 10);
    }
    for (unsigned i = 0; i < 16; i++) {
        g_snprintf(name, sizeof(name), "xmm%u", i);
        compare_bytes(text, name, a + 160 + i * 16, b + 160 + i * 16, 16);
        g_snprintf(name, sizeof(name), "ymm%u high", i);
        compare_bytes(text, name, native->ymm_high[i], interpreted->ymm_high[i], 16);
    }
}

static void compare_avx512(GString *text, const struct diff_state *native,
                           const struct diff_state *interpreted)
{
    char name[16];

    for (unsigned i = 0; i < 16; i++) {
        g_snprintf(name, sizeof(name), "zmm%u high", i);
        compare_bytes(text, name, native->zmm_high[i], interpreted->zmm_high[i], 32);
        g_snprintf(name, sizeof(name), "zmm%u", 16 + i);
        compare_bytes(text, name, native->zmm_upper[i], interpreted->zmm_upper[i], 64);
    }
    for (unsigned i = 0; i < 8; i++) {
        g_snprintf(name, sizeof(name), "k%u", i);
        compare_word(text, name, native->opmask[i], interpreted->opmask[i]);
    }
}

static void compare_memory(GString *text, const struct diff_outcome *native,
                           const struct diff_outcome *interpreted)
{
    unsigned shown = 0;

    if (!memcmp(native->data, interpreted->data, sizeof(native->data)))
        return;
    for (unsigned i = 0; i < sizeof(native->data) && shown < 8; i += 8) {
        uint64_t a, b;
        char name[24];

        memcpy(&a, native->data + i, 8);
        memcpy(&b, interpreted->data + i, 8);
        g_snprintf(name, sizeof(name), "[%lx]", DIFF_DATA + i);
        compare_word(text, name, a, b);
        shown += a != b;
    }
}

char *outcome_compare(const struct diff_case *test, const struct diff_outcome *native,
                      const struct diff_outcome *interpreted)
{
    GString *text = g_string_new(NULL);

    if (native->vector != interpreted->vector
            ? !either_fault(test, native, interpreted)
            : native->vector >= 0 && !same_error(test, native, interpreted))
        g_string_append_printf(text, "  fault      native %d(%x) interpreted %d(%x)\n",
                               native->vector, native->error, interpreted->vector,
                               interpreted->error);
    else if (native->vector == EXC_PF && interpreted->vector == EXC_PF && !goes_by_parts(test))
        compare_word(text, "cr2", native->cr2, interpreted->cr2);
    compare_registers(text, test, native->vector, &native->state, &interpreted->state);
    /* AMD's MASKMOVQ has turned the x87 stack before it faults. */
    if (native->vector < 0 || test->instruction.mnemonic != ZYDIS_MNEMONIC_MASKMOVQ)
        compare_fxsave(text, &native->state, &interpreted->state);
    compare_avx512(text, &native->state, &interpreted->state);
    compare_memory(text, native, interpreted);
    return g_string_free(text, text->len == 0);
}
