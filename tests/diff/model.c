// SPDX-License-Identifier: Apache-2.0
/*
 * The CPU model of both emulated sides: this processor, with the registers that the system lets
 * programs use, and XSAVE's standard form as this processor has it.
 */
#include <cpuid.h>
#include <immintrin.h>

#include "tests/diff/diff.h"

#define OSXSAVE       (1U << 27)
#define XCR0_SSE      3UL
#define XCR0_COVERED  0xe7UL
#define XCR0_AVX512   0xe6UL
#define FIRST_OFFSETS 2

__attribute__((target("xsave"))) static uint64_t read_xcr0(void)
{
    return _xgetbv(0);
}

uint64_t diff_xcr0(void)
{
    static uint64_t known; /* CPUID takes long in a virtual machine */
    uint32_t words[CPU_WORDS];

    if (!known) {
        cpu_host_words(words);
        known = words[CPU_1_ECX] & OSXSAVE ? read_xcr0() & XCR0_COVERED : XCR0_SSE;
    }
    return known;
}

bool diff_has_avx512(void)
{
    return (diff_xcr0() & XCR0_AVX512) == XCR0_AVX512;
}

void diff_model(struct cpu_definition *model)
{
    unsigned eax, ebx, ecx, edx;

    cpu_host_words(model->words);
    model->vendor = __builtin_cpu_is("amd") ? CPU_VENDOR_AMD : CPU_VENDOR_INTEL;
    model->physical_bits = 40;
    model->linear_bits = 48;
    model->xcr0_mask = diff_xcr0();
    for (unsigned i = FIRST_OFFSETS; i < CPU_XSAVE_COMPONENTS; i++)
        if (model->xcr0_mask >> i & 1 && __get_cpuid_count(0xd, i, &eax, &ebx, &ecx, &edx)) {
            model->xsave[i].size = eax;
            model->xsave[i].offset = ebx;
        }
}
