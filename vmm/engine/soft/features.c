// SPDX-License-Identifier: Apache-2.0
/*
 * What the software CPU can show in CPUID: all that is listed here is implemented, and nothing
 * else is. SIMD, floating point and some bit operations run on the host's own instructions, so
 * they are shown only where the host has them, and the host's system has enabled their state.
 */
#include <immintrin.h>

#include "vmm/engine/soft/soft.h"

#define B(bit) (1U << (bit))

/* By code of ours alone, or on what every x86-64 has. */
static const uint32_t own[CPU_WORDS] = {
    /* cx16 pcid x2apic movbe tsc_deadline xsave rdrand hypervisor */
    [CPU_1_ECX] = B(13) | B(17) | B(21) | B(22) | B(24) | B(26) | B(30) | B(31),
    /* all up to sse2 but psn, dts, acpi */
    [CPU_1_EDX] = 0x078bfbff,
    /* fsgsbase tsc_adjust smep erms invpcid rdseed smap clflushopt */
    [CPU_7_EBX] = B(0) | B(1) | B(7) | B(9) | B(10) | B(18) | B(20) | B(23),
    [CPU_7_ECX] = B(2) | B(22),         /* umip rdpid */
    [CPU_7_EDX] = B(4) | B(26) | B(29), /* fsrm spec_ctrl arch_capabilities */
    [CPU_D_1_EAX] = B(0) | B(1) | B(2), /* xsaveopt xsavec xgetbv1 */
    [CPU_80000001_ECX] = B(0) | B(8),   /* lahf_lm 3dnowprefetch */
    [CPU_80000001_EDX] = B(11) | B(20) | B(26) | B(27) | B(29), /* syscall nx pdpe1gb rdtscp lm */
    [CPU_80000007_EDX] = B(8),                                  /* invariant TSC */
    [CPU_80000008_EBX] = B(12) | B(14) | B(26),                 /* ibpb ibrs amd_ssb_no */
    [CPU_6_EAX] = B(2),                                         /* arat */
    [CPU_40000001_EAX] = B(0) | B(1) | B(3) | B(24),
    /* no_nested_data_bp, LFENCE serializes, a null selector clears its base, autoibrs, srso_no */
    [CPU_80000021_EAX] = B(0) | B(2) | B(6) | B(8) | B(29),
    [CPU_80000021_ECX] = B(1) | B(2), /* tsa_sq_no tsa_l1_no */
    /* A guest's branches and loads are not the host's, so nothing of them is predicted: rdcl_no
     * ibrs_all skip_l1dfl ssb_no mds_no pschange_mc_no taa_no, sbdr_ssdp fbsdp psdp, bhi_no
     * pbrsb_no gds_no rfds_no */
    [CPU_ARCH_CAPABILITIES] = B(0) | B(1) | B(3) | B(4) | B(5) | B(6) | B(8) | B(13) | B(14) |
                              B(15) | B(20) | B(24) | B(26) | B(27),
};

/* On the host's instructions. */
static const uint32_t borrowed[CPU_WORDS] = {
    /* pni pclmulqdq ssse3 fma sse4_1 sse4_2 popcnt aes avx f16c */
    [CPU_1_ECX] = B(0) | B(1) | B(9) | B(12) | B(19) | B(20) | B(23) | B(25) | B(28) | B(29),
    /* bmi1 avx2 bmi2 adx sha */
    [CPU_7_EBX] = B(3) | B(5) | B(8) | B(19) | B(29),
    [CPU_7_ECX] = B(8) | B(9) | B(10), /* gfni vaes vpclmulqdq */
    [CPU_80000001_ECX] = B(5) | B(6),  /* abm sse4a */
};

/* On the host's AVX-512, all of it if it has what x86-64-v4 wants. */
static const uint32_t of_avx512[CPU_WORDS] = {
    /* avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl */
    [CPU_7_EBX] = B(16) | B(17) | B(21) | B(28) | B(30) | B(31),
    /* avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq */
    [CPU_7_ECX] = B(1) | B(6) | B(11) | B(12) | B(14),
    [CPU_7_1_EAX] = B(5), /* avx512_bf16 */
};

/* Features whose registers the host's system must have enabled in XCR0. */
static const uint32_t of_avx[CPU_WORDS] = {
    [CPU_1_ECX] = B(12) | B(28) | B(29),
    [CPU_7_EBX] = B(5),
    [CPU_7_ECX] = B(9) | B(10),
};

__attribute__((target("xsave"))) static uint64_t host_xcr0(void)
{
    return _xgetbv(0);
}

static bool host_has_avx(const uint32_t host[CPU_WORDS])
{
    return host[CPU_1_ECX] & B(27) && (host_xcr0() & 6) == 6;
}

static bool host_has_avx512(const uint32_t host[CPU_WORDS])
{
    const uint32_t wanted = B(16) | B(17) | B(28) | B(30) | B(31); /* F DQ CD BW VL */

    return (host[CPU_7_EBX] & wanted) == wanted && host[CPU_1_ECX] & B(27) &&
           (host_xcr0() & 0xe6) == 0xe6;
}

bool soft_host_has_avx512(void)
{
    uint32_t host[CPU_WORDS];

    cpu_host_words(host);
    return host_has_avx512(host);
}

void soft_features(uint32_t words[CPU_WORDS])
{
    uint32_t host[CPU_WORDS];

    cpu_host_words(host);
    bool avx = host_has_avx(host), avx512 = avx && host_has_avx512(host);
    for (unsigned i = 0; i < CPU_WORDS; i++)
        words[i] = own[i] | (borrowed[i] & host[i] & ~(avx ? 0 : of_avx[i])) |
                   (avx512 ? of_avx512[i] & host[i] : 0);
}
