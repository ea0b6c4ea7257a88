// SPDX-License-Identifier: Apache-2.0
/* What the software CPU shows in CPUID works, and what a model does not show is #UD. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "vmm/engine/cpu_model_table.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/soft.h"

/* One instruction of each feature that has any; `shared`: without the feature the bytes are another
 * instruction. */
static const struct {
    enum cpu_word word;
    unsigned bit;
    uint8_t bytes[8];
    bool shared;
} instructions[] = {
    {CPU_1_EDX, 0, {0xd9, 0xe8}},                                /* fld1 */
    {CPU_1_EDX, 8, {0x0f, 0xc7, 0x0f}},                          /* cmpxchg8b */
    {CPU_1_EDX, 11, {0x0f, 0x34}},                               /* sysenter */
    {CPU_1_EDX, 15, {0x0f, 0x44, 0xc1}},                         /* cmove */
    {CPU_1_EDX, 19, {0x0f, 0xae, 0x3f}},                         /* clflush */
    {CPU_1_EDX, 23, {0x0f, 0xfe, 0xc1}},                         /* paddd mm */
    {CPU_1_EDX, 24, {0x0f, 0xae, 0x07}},                         /* fxsave */
    {CPU_1_EDX, 25, {0x0f, 0x58, 0xc1}},                         /* addps */
    {CPU_1_EDX, 26, {0x66, 0x0f, 0x58, 0xc1}},                   /* addpd */
    {CPU_1_ECX, 0, {0xf2, 0x0f, 0x12, 0xc1}},                    /* movddup */
    {CPU_1_ECX, 1, {0x66, 0x0f, 0x3a, 0x44, 0xc1, 0x00}},        /* pclmulqdq */
    {CPU_1_ECX, 9, {0x66, 0x0f, 0x38, 0x00, 0xc1}},              /* pshufb */
    {CPU_1_ECX, 12, {0xc4, 0xe2, 0xf1, 0x98, 0xc2}},             /* vfmadd132pd */
    {CPU_1_ECX, 13, {0x48, 0x0f, 0xc7, 0x0f}},                   /* cmpxchg16b */
    {CPU_1_ECX, 19, {0x66, 0x0f, 0x38, 0x10, 0xc1}},             /* pblendvb */
    {CPU_1_ECX, 20, {0x66, 0x0f, 0x3a, 0x60, 0xc1, 0x00}},       /* pcmpestrm */
    {CPU_1_ECX, 22, {0x0f, 0x38, 0xf0, 0x07}},                   /* movbe */
    {CPU_1_ECX, 23, {0xf3, 0x0f, 0xb8, 0xc1}},                   /* popcnt */
    {CPU_1_ECX, 25, {0x66, 0x0f, 0x38, 0xdc, 0xc1}},             /* aesenc */
    {CPU_1_ECX, 26, {0x0f, 0xae, 0x27}},                         /* xsave */
    {CPU_1_ECX, 28, {0xc5, 0xfc, 0x58, 0xc1}},                   /* vaddps ymm */
    {CPU_1_ECX, 29, {0xc4, 0xe2, 0x79, 0x13, 0xc1}},             /* vcvtph2ps */
    {CPU_1_ECX, 30, {0x0f, 0xc7, 0xf0}},                         /* rdrand */
    {CPU_7_EBX, 0, {0xf3, 0x0f, 0xae, 0xc0}},                    /* rdfsbase */
    {CPU_7_EBX, 3, {0xc4, 0xe2, 0x78, 0xf2, 0xc1}},              /* andn */
    {CPU_7_EBX, 3, {0xf3, 0x0f, 0xbc, 0xc1}, true},              /* tzcnt, else bsf */
    {CPU_7_EBX, 5, {0xc5, 0xfd, 0xfe, 0xc1}},                    /* vpaddd ymm */
    {CPU_7_EBX, 5, {0xc4, 0xe2, 0x71, 0x90, 0x04, 0x10}},        /* vpgatherdd */
    {CPU_7_EBX, 8, {0xc4, 0xe2, 0x7b, 0xf7, 0xc1}},              /* shrx */
    {CPU_7_EBX, 10, {0x66, 0x0f, 0x38, 0x82, 0x07}},             /* invpcid */
    {CPU_7_EBX, 18, {0x0f, 0xc7, 0xf8}},                         /* rdseed */
    {CPU_7_EBX, 19, {0x66, 0x0f, 0x38, 0xf6, 0xc1}},             /* adcx */
    {CPU_7_EBX, 20, {0x0f, 0x01, 0xcb}},                         /* stac */
    {CPU_7_EBX, 23, {0x66, 0x0f, 0xae, 0x3f}},                   /* clflushopt */
    {CPU_7_EBX, 16, {0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc1}},       /* vaddps zmm */
    {CPU_7_EBX, 16, {0xc5, 0xf8, 0x98, 0xc1}},                   /* kortestw */
    {CPU_7_EBX, 17, {0x62, 0xf1, 0x7c, 0x48, 0x54, 0xc1}},       /* vandps zmm */
    {CPU_7_EBX, 17, {0xc5, 0xf9, 0x98, 0xc1}},                   /* kortestb */
    {CPU_7_EBX, 21, {0x62, 0xf2, 0xfd, 0x48, 0xb4, 0xc1}},       /* vpmadd52luq zmm */
    {CPU_7_EBX, 28, {0x62, 0xf2, 0x7d, 0x48, 0x44, 0xc1}},       /* vplzcntd zmm */
    {CPU_7_EBX, 30, {0x62, 0xf1, 0x7d, 0x48, 0xfc, 0xc1}},       /* vpaddb zmm */
    {CPU_7_EBX, 30, {0xc4, 0xe1, 0xf8, 0x98, 0xc1}},             /* kortestq */
    {CPU_7_EBX, 31, {0x62, 0xf1, 0x7c, 0x28, 0x58, 0xc1}},       /* vaddps ymm */
    {CPU_7_ECX, 1, {0x62, 0xf2, 0x7d, 0x48, 0x8d, 0xc1}},        /* vpermb zmm */
    {CPU_7_ECX, 6, {0x62, 0xf2, 0x7d, 0x48, 0x63, 0xc1}},        /* vpcompressb zmm */
    {CPU_7_ECX, 8, {0x62, 0xf2, 0x7d, 0x48, 0xcf, 0xc1}},        /* gf2p8mulb zmm */
    {CPU_7_ECX, 9, {0x62, 0xf2, 0x7d, 0x48, 0xdc, 0xc1}},        /* vaesenc zmm */
    {CPU_7_ECX, 10, {0x62, 0xf3, 0x7d, 0x48, 0x44, 0xc1, 0x00}}, /* vpclmulqdq zmm */
    {CPU_7_ECX, 11, {0x62, 0xf2, 0x7d, 0x48, 0x50, 0xc1}},       /* vpdpbusd zmm */
    {CPU_7_ECX, 12, {0x62, 0xf2, 0x7d, 0x48, 0x54, 0xc1}},       /* vpopcntb zmm */
    {CPU_7_ECX, 14, {0x62, 0xf2, 0x7d, 0x48, 0x55, 0xc1}},       /* vpopcntd zmm */
    {CPU_7_1_EAX, 5, {0x62, 0xf2, 0x7e, 0x48, 0x52, 0xc1}},      /* vdpbf16ps zmm */
    {CPU_7_ECX, 22, {0xf3, 0x0f, 0xc7, 0xf8}},                   /* rdpid */
    {CPU_D_1_EAX, 0, {0x0f, 0xae, 0x37}},                        /* xsaveopt */
    {CPU_D_1_EAX, 1, {0x0f, 0xc7, 0x27}},                        /* xsavec */
    {CPU_80000001_ECX, 0, {0x9f}},                               /* lahf */
    {CPU_80000001_ECX, 5, {0xf3, 0x0f, 0xbd, 0xc1}, true},       /* lzcnt, else bsr */
    {CPU_80000001_EDX, 11, {0x0f, 0x05}},                        /* syscall */
    {CPU_80000001_EDX, 27, {0x0f, 0x01, 0xf9}},                  /* rdtscp */
};
#define COUNT (sizeof(instructions) / sizeof(instructions[0]))

static soft_exec_fn decode(const struct cpu_definition *model, const uint8_t *bytes)
{
    struct insn insn = {0};

    assert_int_equal(soft_decode(model, 8, bytes, 8, &insn), SOFT_DECODE_OK);
    return insn.exec;
}

/* VFMADDPS of FMA4: not of this engine. */
static soft_exec_fn undefined(const struct cpu_definition *model)
{
    static const uint8_t fma4[8] = {0xc4, 0xe3, 0x71, 0x68, 0xc2, 0x30};

    return decode(model, fma4);
}

static struct cpu_definition whole(void)
{
    struct cpu_definition model = {.physical_bits = 46};

    soft_features(model.words);
    return model;
}

static void what_is_shown_decodes(void **state)
{
    struct cpu_definition model = whole();

    for (unsigned i = 0; i < COUNT; i++) {
        if (!cpu_has(&model, instructions[i].word, instructions[i].bit))
            continue; /* the host lacks it */
        if (decode(&model, instructions[i].bytes) == undefined(&model))
            fail_msg("%s is shown and does not work",
                     cpu_feature_names[instructions[i].word][instructions[i].bit]);
    }
}

static void what_is_not_shown_is_undefined(void **state)
{
    for (unsigned i = 0; i < COUNT; i++) {
        struct cpu_definition model = whole();

        model.words[instructions[i].word] &= ~(1U << instructions[i].bit);
        if (instructions[i].shared)
            continue;
        if (decode(&model, instructions[i].bytes) != undefined(&model))
            fail_msg("%s works and is not shown",
                     cpu_feature_names[instructions[i].word][instructions[i].bit]);
    }
}

static void every_feature_shown_has_a_name(void **state)
{
    struct cpu_definition model = whole();

    for (unsigned word = 0; word < CPU_WORDS; word++)
        for (unsigned bit = 0; bit < 32; bit++)
            if (cpu_has(&model, word, bit) && !cpu_feature_names[word][bit])
                fail_msg("word %u bit %u", word, bit);
}

static void the_second_level_is_given_on_any_host_of_that_level(void **state)
{
    struct cpu_definition model = whole(), resolved;
    GError *error = NULL;

    if (!cpu_has(&model, CPU_1_ECX, 20))
        skip();
    if (!cpu_model_resolve("x86-64-v2", model.words, 1, 1000000, &resolved, &error))
        fail_msg("%s", error->message);
}

/* All of x86-64-v4's part of AVX-512 or none; then XCR0 can have its components. */
static void the_fourth_level_is_given_where_the_host_has_it(void **state)
{
    const uint32_t level = 1U << 16 | 1U << 17 | 1U << 28 | 1U << 30 | 1U << 31;
    struct cpu_definition model = whole(), resolved;
    GError *error = NULL;

    assert_int_equal(model.words[CPU_7_EBX] & level, soft_host_has_avx512() ? level : 0);
    if (!soft_host_has_avx512())
        return;
    if (!cpu_model_resolve("x86-64-v4", model.words, 1, 1000000, &resolved, &error))
        fail_msg("%s", error->message);
    assert_int_equal(resolved.xcr0_mask, 0xe7);
    for (unsigned i = 5; i <= 7; i++)
        assert_int_equal(resolved.xsave[i].size, 64U << (i == 5 ? 0 : i - 3));
}

static void the_fourth_level_is_refused_with_what_is_missing(void **state)
{
    struct cpu_definition model = whole(), resolved;
    GError *error = NULL;

    model.words[CPU_7_EBX] &= ~(1U << 16);
    assert_false(cpu_model_resolve("x86-64-v4", model.words, 1, 1000000, &resolved, &error));
    assert_non_null(strstr(error->message, "avx512f"));
    g_error_free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_shown_decodes),
        cmocka_unit_test(what_is_not_shown_is_undefined),
        cmocka_unit_test(every_feature_shown_has_a_name),
        cmocka_unit_test(the_second_level_is_given_on_any_host_of_that_level),
        cmocka_unit_test(the_fourth_level_is_given_where_the_host_has_it),
        cmocka_unit_test(the_fourth_level_is_refused_with_what_is_missing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
