// SPDX-License-Identifier: Apache-2.0
/* CPU models: what resolves, what is refused with which words, and the CPUID that follows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "vmm/engine/cpu_model_table.h"

/* An engine that gives everything. */
static void give_all(uint32_t words[CPU_WORDS])
{
    memset(words, 0xff, CPU_WORDS * sizeof(words[0]));
}

/* Exactly what a model asks for, all its options included. */
static void give_model(uint32_t words[CPU_WORDS], const char *name)
{
    for (unsigned i = 0; i < cpu_models_count; i++) {
        if (strcmp(cpu_models[i].name, name) == 0) {
            for (unsigned word = 0; word < CPU_WORDS; word++)
                words[word] = cpu_models[i].required[word] | cpu_models[i].optional[word] |
                              cpu_system_features[word];
            return;
        }
    }
    fail();
}

static struct cpu_definition resolve(const char *name, const uint32_t words[CPU_WORDS],
                                     unsigned cpus)
{
    struct cpu_definition cpu;
    GError *error = NULL;

    assert_true(cpu_model_resolve(name, words, cpus, 2500000, &cpu, &error));
    assert_null(error);
    return cpu;
}

static void assert_refused(const char *name, const uint32_t words[CPU_WORDS], const char *phrase)
{
    struct cpu_definition cpu;
    GError *error = NULL;

    assert_false(cpu_model_resolve(name, words, 1, 2500000, &cpu, &error));
    assert_non_null(error);
    if (!strstr(error->message, phrase))
        fail_msg("'%s' does not speak of '%s'", error->message, phrase);
    g_error_free(error);
}

static struct cpuid_result cpuid(const struct cpu_definition *cpu, uint32_t leaf, uint32_t subleaf)
{
    return cpu_cpuid(cpu, leaf, subleaf, 0, 0, 1, 0);
}

static void an_unknown_model_is_refused_with_the_list(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    assert_refused("pentium9", words, "'pentium9'");
    for (const char *const *name = cpu_model_names(); *name; name++)
        assert_refused("pentium9", words, *name);
}

static void every_listed_model_resolves_where_all_is_given(void **state)
{
    uint32_t words[CPU_WORDS];
    unsigned count = 0;

    give_all(words);
    for (const char *const *name = cpu_model_names(); *name; name++, count++)
        resolve(*name, words, 1);
    assert_true(count >= 6);
}

static void every_missing_feature_is_named(void **state)
{
    uint32_t words[CPU_WORDS];

    give_model(words, "x86-64-v3");
    const char *const missing[] = {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"};
    for (unsigned i = 0; i < 5; i++)
        assert_refused("x86-64-v4", words, missing[i]);
    words[CPU_1_ECX] &= ~(1U << 12);
    assert_refused("x86-64-v3", words, "needs fma,");
}

static void every_bit_of_a_model_has_a_name(void **state)
{
    for (unsigned i = 0; i < cpu_models_count; i++)
        for (unsigned word = 0; word < CPU_WORDS; word++)
            for (unsigned bit = 0; bit < 32; bit++)
                if (cpu_models[i].required[word] >> bit & 1)
                    assert_non_null(cpu_feature_names[word][bit]);
}

static void the_default_is_the_best_level_that_the_engine_gives(void **state)
{
    uint32_t words[CPU_WORDS];

    for (unsigned level = 1; level <= 4; level++) {
        g_autofree char *name = g_strdup_printf("x86-64-v%u", level);
        g_autofree char *versioned = g_strdup_printf("x86-64-v%u-1", level);

        give_model(words, name);
        assert_string_equal(resolve("default", words, 1).name, versioned);
        assert_string_equal(resolve(versioned, words, 1).name, versioned);
    }
}

static void a_level_shows_no_more_than_it_has(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v2", words, 1);
    assert_false(cpu_has_feature(&cpu, CPU_AVX));
    assert_false(cpu_has_feature(&cpu, CPU_XSAVE));
    assert_int_equal(cpu.xcr0_mask, 0);
    assert_int_equal(cpuid(&cpu, 0xd, 0).ecx, 0);
    assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 28 & 1, 0);
    assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 20 & 1, 1);
}

static void levels_have_what_kernels_and_ciphers_want(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v3", words, 1);
    assert_true(cpu_has(&cpu, CPU_1_ECX, 25)); /* aes */
    assert_true(cpu_has(&cpu, CPU_1_ECX, 17)); /* pcid */
    assert_true(cpu_has(&cpu, CPU_7_EBX, 20)); /* smap */
    assert_true(cpu_has_feature(&cpu, CPU_X2APIC));
    assert_true(cpu_has_feature(&cpu, CPU_TSC_DEADLINE));
    assert_true(cpu_has_feature(&cpu, CPU_KVMCLOCK2));
}

static void xsave_sizes_follow_xcr0(void **state)
{
    uint32_t words[CPU_WORDS];

    give_model(words, "x86-64-v3");
    struct cpu_definition cpu = resolve("x86-64-v3", words, 1);
    assert_int_equal(cpu.xcr0_mask, 7);
    assert_int_equal(cpu_cpuid(&cpu, 0xd, 0, 0, 0, 3, 0).ebx, 576);
    assert_int_equal(cpu_cpuid(&cpu, 0xd, 0, 0, 0, 7, 0).ebx, 832);
    assert_int_equal(cpu_cpuid(&cpu, 0xd, 0, 0, 0, 3, 0).ecx, 832);
    assert_int_equal(cpuid(&cpu, 0xd, 2).eax, 256);
    assert_int_equal(cpuid(&cpu, 0xd, 2).ebx, 576);
    assert_int_equal(cpuid(&cpu, 0xd, 5).eax, 0);
    assert_int_equal(cpuid(&cpu, 0xd, 77).eax, 0);
}

static void osxsave_mirrors_cr4(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v3", words, 1);
    assert_int_equal(cpu_cpuid(&cpu, 1, 0, 0, 0, 1, 0).ecx >> 27 & 1, 0);
    assert_int_equal(cpu_cpuid(&cpu, 1, 0, 0, 1 << 18, 1, 0).ecx >> 27 & 1, 1);
}

static void topology_tells_cores_and_ids(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v3", words, 6);
    struct cpuid_result core = cpu_cpuid(&cpu, 0xb, 1, 5, 0, 1, 0);
    assert_int_equal(core.eax, 3);
    assert_int_equal(core.ebx, 6);
    assert_int_equal(core.ecx, 0x201);
    assert_int_equal(core.edx, 5);
    struct cpuid_result basic = cpu_cpuid(&cpu, 1, 0, 5, 0, 1, 0);
    assert_int_equal(basic.ebx >> 24, 5);
    assert_int_equal(basic.ebx >> 16 & 0xff, 8);
    assert_int_equal(basic.edx >> 28 & 1, 1);
    cpu = resolve("x86-64-v3", words, 1);
    assert_int_equal(cpuid(&cpu, 1, 0).edx >> 28 & 1, 0);
}

static void the_hypervisor_leaves_speak_kvm(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v3", words, 1);
    struct cpuid_result signature = cpuid(&cpu, 0x40000000, 0);
    assert_memory_equal(&signature.ebx, "KVMKVMKVM\0\0\0", 12);
    assert_int_equal(cpuid(&cpu, 0x40000001, 0).eax & (1 << 3), 1 << 3);
    assert_int_equal(cpuid(&cpu, 0x40000010, 0).eax, 2500000);
    assert_int_equal(cpuid(&cpu, 1, 0).ecx >> 31, 1);
}

static void unknown_leaves_follow_the_vendor(void **state)
{
    uint32_t words[CPU_WORDS];

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v3", words, 1);
    cpu.vendor = CPU_VENDOR_AMD;
    assert_int_equal(cpuid(&cpu, 0x1234, 0).eax, 0);
    cpu.vendor = CPU_VENDOR_INTEL;
    assert_int_equal(cpuid(&cpu, 0x1234, 0).eax, cpuid(&cpu, 0xd, 0).eax);
    assert_int_equal(cpuid(&cpu, 0x80000021, 0).ecx, cpuid(&cpu, 0xd, 0).ecx);
}

static void the_brand_string_is_whole(void **state)
{
    uint32_t words[CPU_WORDS];
    char brand[49] = "";

    give_all(words);
    struct cpu_definition cpu = resolve("x86-64-v1", words, 1);
    for (unsigned i = 0; i < 3; i++) {
        struct cpuid_result part = cpuid(&cpu, 0x80000002 + i, 0);
        memcpy(brand + 16 * i, &part, 16);
    }
    assert_string_equal(brand, cpu.brand);
}

/* ---- going on on the processors of a state ---- */

static void assert_not_adopted(const struct cpu_definition *saved, const uint32_t words[CPU_WORDS],
                               const char *phrase)
{
    struct cpu_definition cpu;
    g_autoptr(GError) error = NULL;

    assert_false(cpu_model_adopt(saved, words, 2, 2500000, &cpu, &error));
    if (!strstr(error->message, phrase))
        fail_msg("'%s' does not speak of '%s'", error->message, phrase);
}

/* As it comes out of a stream. */
static struct cpu_definition through_a_stream(const struct cpu_definition *cpu)
{
    g_autoptr(GBytes) bytes = state_save(&cpu_definition_table, cpu);
    struct cpu_definition loaded = {.cpus = 0};

    assert_true(state_load(&cpu_definition_table, &loaded, bytes, NULL));
    return loaded;
}

static void the_processors_of_a_state_are_had_bit_by_bit(void **state)
{
    uint32_t words[CPU_WORDS], more[CPU_WORDS];
    struct cpu_definition cpu, adopted;

    give_model(words, "x86-64-v2");
    give_all(more);
    cpu = resolve("x86-64-v2", words, 2);
    struct cpu_definition saved = through_a_stream(&cpu);
    /* Whatever more the engine has to give. */
    assert_true(cpu_model_adopt(&saved, words, 2, 2500000, &adopted, NULL));
    assert_memory_equal(&adopted, &cpu, sizeof(cpu));
    assert_true(cpu_model_adopt(&saved, more, 2, 2500100, &adopted, NULL));
    assert_memory_equal(&adopted, &cpu, sizeof(cpu));
}

static void processors_that_cannot_be_had_are_refused_with_what_they_lack(void **state)
{
    uint32_t words[CPU_WORDS];
    struct cpu_definition cpu, other;

    give_model(words, "x86-64-v2");
    cpu = resolve("x86-64-v2", words, 2);
    words[CPU_1_ECX] &= ~(1U << 20 | 1U << 30);
    assert_not_adopted(&cpu, words, "has sse4_2, rdrand, which");
    give_model(words, "x86-64-v2");
    other = cpu;
    other.tsc_khz = 2600000;
    assert_not_adopted(&other, words, "2600000 kHz, this host at 2500000 kHz");
    other = cpu;
    other.cpus = 3;
    assert_not_adopted(&other, words, "one of 3 CPUs, the machine has 2");
    other = cpu;
    other.physical_bits = 52;
    if (cpu_host_physical_bits() < 52)
        assert_not_adopted(&other, words, "addresses of 52 bits");
    other = cpu;
    other.xcr0_mask |= 1 << 9;
    assert_not_adopted(&other, words, "XCR0 0x200");
    other = cpu;
    other.xsave[2].offset = 4000;
    assert_not_adopted(&other, words, "XSAVE component 2");
}

static void a_host_without_avx512_takes_no_guest_that_has_it(void **state)
{
    uint32_t words[CPU_WORDS];
    struct cpu_definition cpu;

    give_model(words, "x86-64-v4");
    cpu = resolve("x86-64-v4", words, 2);
    assert_int_equal(cpu.xcr0_mask, 0xe7);
    give_model(words, "x86-64-v3");
    assert_not_adopted(&cpu, words, "has avx512f, avx512dq, avx512cd, avx512bw, avx512vl, which");
    give_model(words, "x86-64-v4");
    cpu.xsave[6].offset += 64;
    assert_not_adopted(&cpu, words, "XSAVE component 6");
}

static void a_definition_without_text_is_refused(void **state)
{
    uint32_t words[CPU_WORDS];

    give_model(words, "x86-64-v2");
    struct cpu_definition cpu = resolve("x86-64-v2", words, 1), loaded;
    memset(cpu.name, 'x', sizeof(cpu.name));
    g_autoptr(GBytes) bytes = state_save(&cpu_definition_table, &cpu);
    assert_false(state_load(&cpu_definition_table, &loaded, bytes, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_unknown_model_is_refused_with_the_list),
        cmocka_unit_test(every_listed_model_resolves_where_all_is_given),
        cmocka_unit_test(every_missing_feature_is_named),
        cmocka_unit_test(every_bit_of_a_model_has_a_name),
        cmocka_unit_test(the_default_is_the_best_level_that_the_engine_gives),
        cmocka_unit_test(a_level_shows_no_more_than_it_has),
        cmocka_unit_test(levels_have_what_kernels_and_ciphers_want),
        cmocka_unit_test(xsave_sizes_follow_xcr0),
        cmocka_unit_test(osxsave_mirrors_cr4),
        cmocka_unit_test(topology_tells_cores_and_ids),
        cmocka_unit_test(the_hypervisor_leaves_speak_kvm),
        cmocka_unit_test(unknown_leaves_follow_the_vendor),
        cmocka_unit_test(the_brand_string_is_whole),
        cmocka_unit_test(the_processors_of_a_state_are_had_bit_by_bit),
        cmocka_unit_test(processors_that_cannot_be_had_are_refused_with_what_they_lack),
        cmocka_unit_test(a_host_without_avx512_takes_no_guest_that_has_it),
        cmocka_unit_test(a_definition_without_text_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
