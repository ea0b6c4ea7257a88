// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID as a guest sees it (SDM 2A, CPUID; APM 3, appendix E), from a machine's definition.
 *
 * Topology is one package of single-threaded cores that share the last-level cache. Caches are
 * those of an ordinary server core, since nothing of the host's shall show through.
 */
#include "vmm/engine/cpu_model.h"

#include <string.h>

#define BASIC_MAX             0xdU
#define HYPERVISOR_BASE       0x40000000U
#define HYPERVISOR_MAX        0x40000010U
#define EXTENDED_BASE         0x80000000U
#define EXTENDED_MAX_INTEL    0x80000008U
#define EXTENDED_MAX_AMD      0x80000021U
#define EXTENDED_AMD_CACHES   0x8000001dU
#define EXTENDED_AMD_TOPOLOGY 0x8000001eU
#define LAPIC_BUS_KHZ         1000000U
#define CR4_OSXSAVE           (1UL << 18)
#define CR4_PKE               (1UL << 22)
#define XSAVE_LEGACY          576U
#define CLFLUSH_QUADWORDS     8U

#define KVM_SIGNATURE_EBX 0x4b4d564b /* "KVMKVMKVM\0\0\0" */
#define KVM_SIGNATURE_ECX 0x564b4d56
#define KVM_SIGNATURE_EDX 0x4d

/* Bits that number `count` things. */
static unsigned id_bits(unsigned count)
{
    return count > 1 ? 32 - __builtin_clz(count - 1) : 0;
}

static struct cpuid_result vendor_leaf(const struct cpu_definition *cpu, uint32_t max)
{
    if (cpu->vendor == CPU_VENDOR_AMD)
        return (struct cpuid_result){max, 0x68747541, 0x444d4163, 0x69746e65};
    return (struct cpuid_result){max, 0x756e6547, 0x6c65746e, 0x49656e69};
}

static struct cpuid_result feature_leaf(const struct cpu_definition *cpu, uint32_t apic_id,
                                        uint64_t cr4)
{
    uint32_t logical = 1U << id_bits(cpu->cpus);
    struct cpuid_result result = {
        .eax = cpu->signature,
        .ebx = CLFLUSH_QUADWORDS << 8 | (apic_id & 0xff) << 24,
        .ecx = cpu->words[CPU_1_ECX],
        .edx = cpu->words[CPU_1_EDX],
    };

    result.ebx |= (logical > 255 ? 255 : logical) << 16;
    if (cr4 & CR4_OSXSAVE)
        result.ecx |= 1U << 27;
    return result;
}

struct cache {
    uint8_t type; /* 1 data, 2 instructions, 3 both */
    uint8_t level;
    uint16_t ways;
    uint32_t sets; /* of 64-byte lines */
};

/* Both vendors describe caches in the same form; Intel tells how many cores there are beside. */
static struct cpuid_result cache_leaf(const struct cpu_definition *cpu, uint32_t subleaf)
{
    static const struct cache caches[] = {
        {1, 1, 8, 64}, {2, 1, 8, 64}, {3, 2, 16, 1024}, {3, 3, 16, 16384}};

    if (subleaf >= sizeof(caches) / sizeof(caches[0]))
        return (struct cpuid_result){0};
    const struct cache *cache = &caches[subleaf];
    uint32_t ids = (1U << id_bits(cpu->cpus)) - 1;
    uint32_t cores = cpu->vendor == CPU_VENDOR_INTEL ? ids & 0x3f : 0;

    return (struct cpuid_result){
        .eax = cache->type | cache->level << 5 | 1U << 8 |
               (cache->level == 3 ? ids & 0xfff : 0) << 14 | cores << 26,
        .ebx = 63 | (uint32_t)(cache->ways - 1) << 22,
        .ecx = cache->sets - 1,
    };
}

static struct cpuid_result structured_leaf(const struct cpu_definition *cpu, uint32_t subleaf,
                                           uint64_t cr4)
{
    if (subleaf == 1)
        return (struct cpuid_result){.eax = cpu->words[CPU_7_1_EAX]};
    if (subleaf > 1)
        return (struct cpuid_result){0};
    return (struct cpuid_result){
        .eax = cpu->words[CPU_7_1_EAX] ? 1 : 0,
        .ebx = cpu->words[CPU_7_EBX],
        .ecx =
            cpu->words[CPU_7_ECX] | (cr4 & CR4_PKE && cpu_has_feature(cpu, CPU_PKU) ? 1U << 4 : 0),
        .edx = cpu->words[CPU_7_EDX],
    };
}

static struct cpuid_result topology_leaf(const struct cpu_definition *cpu, uint32_t subleaf,
                                         uint32_t apic_id)
{
    struct cpuid_result result = {.ecx = subleaf & 0xff, .edx = apic_id};

    if (!cpu_has_feature(cpu, CPU_X2APIC))
        return (struct cpuid_result){0};
    if (subleaf == 0) {
        result.ebx = 1;
        result.ecx |= 1 << 8; /* threads of a core */
    } else if (subleaf == 1) {
        result.eax = id_bits(cpu->cpus);
        result.ebx = cpu->cpus;
        result.ecx |= 2 << 8; /* cores of the package */
    }
    return result;
}

/* Bytes of an XSAVE area with `components`, in the standard form. */
static uint32_t xsave_size(const struct cpu_definition *cpu, uint64_t components)
{
    uint32_t size = XSAVE_LEGACY;

    for (unsigned i = 2; i < CPU_XSAVE_COMPONENTS; i++) {
        uint32_t end = cpu->xsave[i].offset + cpu->xsave[i].size;

        if (components >> i & 1 && end > size)
            size = end;
    }
    return size;
}

static uint32_t xsave_compact_size(const struct cpu_definition *cpu, uint64_t components)
{
    uint32_t size = XSAVE_LEGACY;

    for (unsigned i = 2; i < CPU_XSAVE_COMPONENTS; i++) {
        if (components >> i & 1)
            size += cpu->xsave[i].size;
    }
    return size;
}

static struct cpuid_result xsave_leaf(const struct cpu_definition *cpu, uint32_t subleaf,
                                      uint64_t xcr0, uint64_t xss)
{
    if (!cpu_has_feature(cpu, CPU_XSAVE))
        return (struct cpuid_result){0};
    if (subleaf == 0)
        return (struct cpuid_result){
            .eax = (uint32_t)cpu->xcr0_mask,
            .ebx = xsave_size(cpu, xcr0),
            .ecx = xsave_size(cpu, cpu->xcr0_mask),
            .edx = cpu->xcr0_mask >> 32,
        };
    if (subleaf == 1) {
        uint32_t features = cpu->words[CPU_D_1_EAX];

        /* Only XSAVEC and XSAVES (bits 1 and 3) know the compacted form. */
        return (struct cpuid_result){
            .eax = features,
            .ebx = features & (1 << 1 | 1 << 3) ? xsave_compact_size(cpu, xcr0 | xss) : 0,
        };
    }
    if (subleaf < CPU_XSAVE_COMPONENTS)
        return (struct cpuid_result){.eax = cpu->xsave[subleaf].size,
                                     .ebx = cpu->xsave[subleaf].offset};
    return (struct cpuid_result){0};
}

static struct cpuid_result basic_leaf(const struct cpu_definition *cpu, uint32_t leaf,
                                      uint32_t subleaf, uint32_t apic_id, uint64_t cr4,
                                      uint64_t xcr0, uint64_t xss)
{
    switch (leaf) {
    case 0:
        return vendor_leaf(cpu, BASIC_MAX);
    case 1:
        return feature_leaf(cpu, apic_id, cr4);
    case 2:
        /* Look at leaf 4 (FFH); 64 entries each of instruction and data TLB (B2H, 03H). */
        if (cpu->vendor == CPU_VENDOR_INTEL)
            return (struct cpuid_result){.eax = 0x03b2ff01};
        break;
    case 4:
        if (cpu->vendor == CPU_VENDOR_INTEL)
            return cache_leaf(cpu, subleaf);
        break;
    case 6:
        return (struct cpuid_result){.eax = cpu->words[CPU_6_EAX]};
    case 7:
        return structured_leaf(cpu, subleaf, cr4);
    case 0xb:
        return topology_leaf(cpu, subleaf, apic_id);
    case 0xd:
        return xsave_leaf(cpu, subleaf, xcr0, xss);
    }
    return (struct cpuid_result){0};
}

static struct cpuid_result hypervisor_leaf(const struct cpu_definition *cpu, uint32_t leaf)
{
    switch (leaf) {
    case HYPERVISOR_BASE:
        return (struct cpuid_result){HYPERVISOR_MAX, KVM_SIGNATURE_EBX, KVM_SIGNATURE_ECX,
                                     KVM_SIGNATURE_EDX};
    case HYPERVISOR_BASE + 1:
        return (struct cpuid_result){.eax = cpu->words[CPU_40000001_EAX]};
    case HYPERVISOR_MAX:
        return (struct cpuid_result){.eax = (uint32_t)cpu->tsc_khz, .ebx = LAPIC_BUS_KHZ};
    }
    return (struct cpuid_result){0};
}

static struct cpuid_result brand_leaf(const struct cpu_definition *cpu, unsigned part)
{
    struct cpuid_result result;

    memcpy(&result, cpu->brand + part * sizeof(result), sizeof(result));
    return result;
}

/* Leaves from 80000009H on, which only AMD has. */
static struct cpuid_result amd_leaf(const struct cpu_definition *cpu, uint32_t leaf,
                                    uint32_t subleaf, uint32_t apic_id)
{
    switch (leaf) {
    case EXTENDED_AMD_CACHES:
        return cache_leaf(cpu, subleaf);
    case EXTENDED_AMD_TOPOLOGY:
        /* One thread a core, one node. */
        return (struct cpuid_result){.eax = apic_id, .ebx = apic_id & 0xff};
    case EXTENDED_MAX_AMD:
        return (struct cpuid_result){.eax = cpu->words[CPU_80000021_EAX],
                                     .ecx = cpu->words[CPU_80000021_ECX]};
    }
    return (struct cpuid_result){0};
}

static struct cpuid_result extended_leaf(const struct cpu_definition *cpu, uint32_t leaf,
                                         uint32_t subleaf, uint32_t apic_id)
{
    bool amd = cpu->vendor == CPU_VENDOR_AMD;

    switch (leaf) {
    case EXTENDED_BASE:
        return amd ? vendor_leaf(cpu, EXTENDED_MAX_AMD)
                   : (struct cpuid_result){.eax = EXTENDED_MAX_INTEL};
    case EXTENDED_BASE + 1:
        return (struct cpuid_result){.eax = amd ? cpu->signature : 0,
                                     .ecx = cpu->words[CPU_80000001_ECX],
                                     .edx = cpu->words[CPU_80000001_EDX]};
    case EXTENDED_BASE + 2:
    case EXTENDED_BASE + 3:
    case EXTENDED_BASE + 4:
        return brand_leaf(cpu, leaf - EXTENDED_BASE - 2);
    case EXTENDED_BASE + 5:
        /* 64 entries in each TLB; L1 caches of 32 KiB, 8 ways, lines of 64 bytes. */
        if (amd)
            return (struct cpuid_result){0xff40ff40, 0xff40ff40, 0x20080140, 0x20080140};
        break;
    case EXTENDED_BASE + 6:
        /* L2 TLBs of 512 entries; L2 cache of 1 MiB, 16 ways; L3 of 16 MiB, 16 ways. */
        if (amd)
            return (struct cpuid_result){0x42004200, 0x42004200, 0x04008140, 0x00808140};
        return (struct cpuid_result){.ecx = 0x04008040};
    case EXTENDED_BASE + 7:
        return (struct cpuid_result){.edx = cpu->words[CPU_80000007_EDX]};
    case EXTENDED_BASE + 8:
        return (struct cpuid_result){
            .eax = cpu->physical_bits | cpu->linear_bits << 8,
            .ebx = cpu->words[CPU_80000008_EBX],
            .ecx = amd ? ((cpu->cpus - 1) & 0xff) | id_bits(cpu->cpus) << 12 : 0,
        };
    }
    return amd ? amd_leaf(cpu, leaf, subleaf, apic_id) : (struct cpuid_result){0};
}

/* An Intel processor answers a leaf that it has not like its highest basic leaf; AMD's with 0. */
static struct cpuid_result unknown_leaf(const struct cpu_definition *cpu, uint32_t subleaf,
                                        uint64_t xcr0, uint64_t xss)
{
    if (cpu->vendor == CPU_VENDOR_INTEL)
        return xsave_leaf(cpu, subleaf, xcr0, xss);
    return (struct cpuid_result){0};
}

struct cpuid_result cpu_cpuid(const struct cpu_definition *cpu, uint32_t leaf, uint32_t subleaf,
                              uint32_t apic_id, uint64_t cr4, uint64_t xcr0, uint64_t xss)
{
    uint32_t extended_max = cpu->vendor == CPU_VENDOR_AMD ? EXTENDED_MAX_AMD : EXTENDED_MAX_INTEL;

    if (leaf <= BASIC_MAX)
        return basic_leaf(cpu, leaf, subleaf, apic_id, cr4, xcr0, xss);
    if (leaf >= HYPERVISOR_BASE && leaf <= HYPERVISOR_MAX)
        return hypervisor_leaf(cpu, leaf);
    if (leaf >= EXTENDED_BASE && leaf <= extended_max)
        return extended_leaf(cpu, leaf, subleaf, apic_id);
    return unknown_leaf(cpu, subleaf, xcr0, xss);
}
