// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models: versioned tables of what a vCPU is.
 *
 * A model says every CPUID bit, the MSRs and their readable and writable bits, MAXPHYADDR and the
 * XSAVE layout. What is not in the table does not exist: CPUID bit 0, #UD, #GP. Both engines take
 * the same resolved definition, so a guest sees the same CPU on either.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/state/state.h"

enum cpu_vendor { CPU_VENDOR_INTEL, CPU_VENDOR_AMD };

/* Feature words, as CPUID gives them; the last one is the MSR IA32_ARCH_CAPABILITIES. */
enum cpu_word {
    CPU_1_ECX,
    CPU_1_EDX,
    CPU_7_EBX,
    CPU_7_ECX,
    CPU_7_EDX,
    CPU_7_1_EAX,
    CPU_D_1_EAX,
    CPU_80000001_ECX,
    CPU_80000001_EDX,
    CPU_80000007_EDX,
    CPU_80000008_EBX,
    CPU_6_EAX,
    CPU_40000001_EAX,
    CPU_80000021_EAX,
    CPU_80000021_ECX,
    CPU_ARCH_CAPABILITIES,
    CPU_WORDS,
};

/* Features by name: the word and the bit. */
#define CPU_FEATURE(word, bit) ((word)*32 + (bit))
enum cpu_feature {
    CPU_MCE = CPU_FEATURE(CPU_1_EDX, 7),
    CPU_MTRR = CPU_FEATURE(CPU_1_EDX, 12),
    CPU_MCA = CPU_FEATURE(CPU_1_EDX, 14),
    CPU_PAT = CPU_FEATURE(CPU_1_EDX, 16),
    CPU_SYSENTER = CPU_FEATURE(CPU_1_EDX, 11),
    CPU_X2APIC = CPU_FEATURE(CPU_1_ECX, 21),
    CPU_TSC_DEADLINE = CPU_FEATURE(CPU_1_ECX, 24),
    CPU_XSAVE = CPU_FEATURE(CPU_1_ECX, 26),
    CPU_AVX = CPU_FEATURE(CPU_1_ECX, 28),
    CPU_TSC_ADJUST = CPU_FEATURE(CPU_7_EBX, 1),
    CPU_AVX512F = CPU_FEATURE(CPU_7_EBX, 16),
    CPU_PKU = CPU_FEATURE(CPU_7_ECX, 3),
    CPU_SPEC_CTRL = CPU_FEATURE(CPU_7_EDX, 26),
    CPU_HAS_ARCH_CAPABILITIES = CPU_FEATURE(CPU_7_EDX, 29),
    CPU_XSAVES = CPU_FEATURE(CPU_D_1_EAX, 3),
    CPU_SYSCALL = CPU_FEATURE(CPU_80000001_EDX, 11),
    CPU_NX = CPU_FEATURE(CPU_80000001_EDX, 20),
    CPU_FXSR_OPT = CPU_FEATURE(CPU_80000001_EDX, 25),
    CPU_RDTSCP = CPU_FEATURE(CPU_80000001_EDX, 27),
    CPU_LONG_MODE = CPU_FEATURE(CPU_80000001_EDX, 29),
    CPU_IBPB = CPU_FEATURE(CPU_80000008_EBX, 12),
    CPU_KVMCLOCK = CPU_FEATURE(CPU_40000001_EAX, 0),
    CPU_KVMCLOCK2 = CPU_FEATURE(CPU_40000001_EAX, 3),
    CPU_AUTO_IBRS = CPU_FEATURE(CPU_80000021_EAX, 8),
};

/* XSAVE components 0..9 are known: x87, SSE, AVX, (MPX), AVX-512 in three, (PT), PKRU. */
#define CPU_XSAVE_COMPONENTS 10

struct cpuid_result {
    uint32_t eax, ebx, ecx, edx;
};

/* A resolved model, constant while the machine lives. */
struct cpu_definition {
    char name[32]; /* "x86-64-v3-1": name and version */
    enum cpu_vendor vendor;
    uint32_t signature; /* leaf 1 EAX: family, model, stepping */
    char brand[49];
    uint32_t words[CPU_WORDS];
    uint8_t physical_bits, linear_bits;
    uint64_t xcr0_mask; /* settable bits of XCR0 */
    struct {
        uint32_t offset, size; /* in the standard form; 0, 0 for a component that is not there */
    } xsave[CPU_XSAVE_COMPONENTS];
    unsigned cpus; /* of the machine, for topology leaves */
    uint64_t tsc_khz;
};

/* Whether a feature word's bit is shown. */
static inline bool cpu_has(const struct cpu_definition *cpu, enum cpu_word word, unsigned bit)
{
    return cpu->words[word] >> bit & 1;
}

static inline bool cpu_has_feature(const struct cpu_definition *cpu, enum cpu_feature feature)
{
    return cpu_has(cpu, feature / 32, feature % 32);
}

/* Names of all models, without versions, NULL-terminated, for messages and completion. Static. */
const char *const *cpu_model_names(void);

/* The name with the version that cpu_model_resolve takes for it today, on an engine that gives
 * these features: "x86-64-v4-1" for "default". NULL for a name that is not known. The caller frees
 * it. */
char *cpu_model_pin(const char *name, const uint32_t engine_words[CPU_WORDS]);

/* What the host's processor (for `kvm`: what KVM) offers. `engine_words` are the features that the
 * engine can give; a model that needs more is refused with every missing feature named. `name` is
 * "x86-64-v1".."v4", "host", a named model, or "default" (best generic level there is); a version
 * may follow ("x86-64-v3-1"), else it is the newest. */
bool cpu_model_resolve(const char *name, const uint32_t engine_words[CPU_WORDS], unsigned cpus,
                       uint64_t tsc_khz, struct cpu_definition *out, GError **error);

/* Fields of struct cpu_definition for streams: what is loaded is plausible, no more. */
extern const struct state_table cpu_definition_table;

/* Give `*out` just the processors that `saved` (from a stream) describes. Refused, with what is
 * lacking, unless the engine gives every feature, the host's registers and addresses are as wide,
 * and its counter runs at the same frequency. */
bool cpu_model_adopt(const struct cpu_definition *saved, const uint32_t engine_words[CPU_WORDS],
                     unsigned cpus, uint64_t tsc_khz, struct cpu_definition *out, GError **error);

/* CPUID as the guest sees it. `apic_id` for topology; `cr4`, `xcr0`, `xss` for the leaves that
 * mirror them (OSXSAVE, OSPKE, XSAVE sizes). Unknown leaves follow the vendor's rule. */
struct cpuid_result cpu_cpuid(const struct cpu_definition *cpu, uint32_t leaf, uint32_t subleaf,
                              uint32_t apic_id, uint64_t cr4, uint64_t xcr0, uint64_t xss);

/* The feature words of the host's processor as CPUID gives them to this program, unmasked (and 0
 * for IA32_ARCH_CAPABILITIES): what an engine starts from. */
void cpu_host_words(uint32_t words[CPU_WORDS]);
