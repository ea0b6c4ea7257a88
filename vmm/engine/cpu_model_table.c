// SPDX-License-Identifier: Apache-2.0
/*
 * CPU models, version by version, and the names of features.
 *
 * The generic levels are those of the x86-64 psABI (section 3.1.1) for user mode; to each belongs
 * what a system needs beside (paging, APIC, hypervisor leaves), as far as the engine gives it. A
 * version that was released never changes: what is better comes as a new version.
 */
#include "vmm/engine/cpu_model_table.h"

#define B(bit) (1U << (bit))

/* fpu cx8 cmov mmx fxsr sse sse2 */
#define LEVEL_1_1_EDX (B(0) | B(8) | B(15) | B(23) | B(24) | B(25) | B(26))
/* syscall, long mode; AMD repeats the bits above here */
#define LEVEL_1_80000001_EDX (B(11) | B(29))
/* pni ssse3 cx16 sse4_1 sse4_2 popcnt */
#define LEVEL_2_1_ECX (B(0) | B(9) | B(13) | B(19) | B(20) | B(23))
/* lahf_lm */
#define LEVEL_2_80000001_ECX B(0)
/* fma movbe xsave avx f16c */
#define LEVEL_3_1_ECX (LEVEL_2_1_ECX | B(12) | B(22) | B(26) | B(28) | B(29))
/* bmi1 avx2 bmi2 */
#define LEVEL_3_7_EBX (B(3) | B(5) | B(8))
/* abm (lzcnt) */
#define LEVEL_3_80000001_ECX (LEVEL_2_80000001_ECX | B(5))
/* avx512f avx512dq avx512cd avx512bw avx512vl */
#define LEVEL_4_7_EBX (LEVEL_3_7_EBX | B(16) | B(17) | B(28) | B(30) | B(31))

/* Not of the levels, yet what every processor of their time has: pclmulqdq aes; adx sha_ni */
#define CRYPTOGRAPHY_1_ECX (B(1) | B(25))
#define CRYPTOGRAPHY_7_EBX (B(19) | B(29))

const uint32_t cpu_system_features[CPU_WORDS] = {
    /* cx16 pcid x2apic tsc_deadline rdrand hypervisor */
    [CPU_1_ECX] = B(13) | B(17) | B(21) | B(24) | B(30) | B(31),
    /* vme de pse tsc msr pae mce apic sep mtrr pge mca pat pse36 clflush */
    [CPU_1_EDX] = B(1) | B(2) | B(3) | B(4) | B(5) | B(6) | B(7) | B(9) | B(11) | B(12) | B(13) |
                  B(14) | B(16) | B(17) | B(19),
    /* fsgsbase tsc_adjust smep erms invpcid rdseed smap clflushopt */
    [CPU_7_EBX] = B(0) | B(1) | B(7) | B(9) | B(10) | B(18) | B(20) | B(23),
    /* umip rdpid */
    [CPU_7_ECX] = B(2) | B(22),
    /* fsrm spec_ctrl arch_capabilities */
    [CPU_7_EDX] = B(4) | B(26) | B(29),
    /* xsaveopt xsavec xgetbv1 */
    [CPU_D_1_EAX] = B(0) | B(1) | B(2),
    /* 3dnowprefetch */
    [CPU_80000001_ECX] = B(8),
    /* nx pdpe1gb rdtscp */
    [CPU_80000001_EDX] = B(20) | B(26) | B(27),
    /* invariant TSC */
    [CPU_80000007_EDX] = B(8),
    /* ibpb ibrs amd_ssb_no */
    [CPU_80000008_EBX] = B(12) | B(14) | B(26),
    /* arat */
    [CPU_6_EAX] = B(2),
    /* kvmclock kvm_nopiodelay kvmclock2 kvmclock_stable */
    [CPU_40000001_EAX] = B(0) | B(1) | B(3) | B(24),
    /* no_nested_data_bp lfence_rdtsc null_sel_clr_base autoibrs srso_no */
    [CPU_80000021_EAX] = B(0) | B(2) | B(6) | B(8) | B(29),
    /* tsa_sq_no tsa_l1_no */
    [CPU_80000021_ECX] = B(1) | B(2),
    [CPU_ARCH_CAPABILITIES] = 0xffffffff,
};

/* Zen 3 (Milan), Ice Lake server: current enough that no old erratum's workaround is switched on.
 */
#define GENERIC_SIGNATURES     \
    {                          \
        0x000606a6, 0x00a00f11 \
    }

const struct cpu_model cpu_models[] = {
    {
        .name = "x86-64-v1",
        .version = 1,
        .vendor = -1,
        .signature = GENERIC_SIGNATURES,
        .brand = "Anima x86-64-v1 processor",
        .physical_bits = 46,
        .required =
            {
                [CPU_1_EDX] = LEVEL_1_1_EDX,
                [CPU_80000001_EDX] = LEVEL_1_80000001_EDX,
            },
    },
    {
        .name = "x86-64-v2",
        .version = 1,
        .vendor = -1,
        .signature = GENERIC_SIGNATURES,
        .brand = "Anima x86-64-v2 processor",
        .physical_bits = 46,
        .required =
            {
                [CPU_1_EDX] = LEVEL_1_1_EDX,
                [CPU_1_ECX] = LEVEL_2_1_ECX,
                [CPU_80000001_EDX] = LEVEL_1_80000001_EDX,
                [CPU_80000001_ECX] = LEVEL_2_80000001_ECX,
            },
        .optional = {[CPU_1_ECX] = CRYPTOGRAPHY_1_ECX},
    },
    {
        .name = "x86-64-v3",
        .version = 1,
        .vendor = -1,
        .signature = GENERIC_SIGNATURES,
        .brand = "Anima x86-64-v3 processor",
        .physical_bits = 46,
        .required =
            {
                [CPU_1_EDX] = LEVEL_1_1_EDX,
                [CPU_1_ECX] = LEVEL_3_1_ECX,
                [CPU_7_EBX] = LEVEL_3_7_EBX,
                [CPU_80000001_EDX] = LEVEL_1_80000001_EDX,
                [CPU_80000001_ECX] = LEVEL_3_80000001_ECX,
            },
        .optional = {[CPU_1_ECX] = CRYPTOGRAPHY_1_ECX, [CPU_7_EBX] = CRYPTOGRAPHY_7_EBX},
    },
    {
        .name = "x86-64-v4",
        .version = 1,
        .vendor = -1,
        .signature = GENERIC_SIGNATURES,
        .brand = "Anima x86-64-v4 processor",
        .physical_bits = 46,
        .required =
            {
                [CPU_1_EDX] = LEVEL_1_1_EDX,
                [CPU_1_ECX] = LEVEL_3_1_ECX,
                [CPU_7_EBX] = LEVEL_4_7_EBX,
                [CPU_80000001_EDX] = LEVEL_1_80000001_EDX,
                [CPU_80000001_ECX] = LEVEL_3_80000001_ECX,
            },
        .optional = {[CPU_1_ECX] = CRYPTOGRAPHY_1_ECX, [CPU_7_EBX] = CRYPTOGRAPHY_7_EBX},
    },
    {
        .name = "Haswell",
        .version = 1,
        .vendor = CPU_VENDOR_INTEL,
        .signature = {[CPU_VENDOR_INTEL] = 0x000306c4},
        .brand = "Intel Core Processor (Haswell)",
        .physical_bits = 39,
        .required =
            {
                [CPU_1_EDX] = LEVEL_1_1_EDX,
                /* pclmulqdq pcid aes rdrand */
                [CPU_1_ECX] = LEVEL_3_1_ECX | B(1) | B(17) | B(25) | B(30),
                /* fsgsbase smep erms invpcid */
                [CPU_7_EBX] = LEVEL_3_7_EBX | B(0) | B(7) | B(9) | B(10),
                [CPU_D_1_EAX] = B(0),
                /* nx pdpe1gb rdtscp */
                [CPU_80000001_EDX] = LEVEL_1_80000001_EDX | B(20) | B(26) | B(27),
                [CPU_80000001_ECX] = LEVEL_3_80000001_ECX,
            },
    },
    {
        .name = "EPYC-Rome",
        .version = 1,
        .vendor = CPU_VENDOR_AMD,
        .signature = {[CPU_VENDOR_AMD] = 0x00830f10},
        .brand = "AMD EPYC-Rome Processor",
        .physical_bits = 48,
        .required =
            {
                [CPU_1_EDX] = LEVEL_1_1_EDX,
                /* pclmulqdq aes rdrand */
                [CPU_1_ECX] = LEVEL_3_1_ECX | B(1) | B(25) | B(30),
                /* fsgsbase smep rdseed adx smap clflushopt clwb sha_ni */
                [CPU_7_EBX] =
                    LEVEL_3_7_EBX | B(0) | B(7) | B(18) | B(19) | B(20) | B(23) | B(24) | B(29),
                [CPU_7_ECX] = B(2) | B(22),
                [CPU_D_1_EAX] = B(0) | B(1) | B(2),
                /* nx mmxext fxsr_opt pdpe1gb rdtscp */
                [CPU_80000001_EDX] = LEVEL_1_80000001_EDX | B(20) | B(22) | B(25) | B(26) | B(27),
                /* cr8_legacy sse4a misalignsse 3dnowprefetch */
                [CPU_80000001_ECX] = LEVEL_3_80000001_ECX | B(4) | B(6) | B(7) | B(8),
                /* clzero xsaveerptr wbnoinvd ibpb */
                [CPU_80000008_EBX] = B(0) | B(2) | B(9) | B(12),
            },
    },
};
const unsigned cpu_models_count = sizeof(cpu_models) / sizeof(cpu_models[0]);

const char *const cpu_feature_names[CPU_WORDS][32] = {
    [CPU_1_ECX] = {"pni",    "pclmulqdq", "dtes64",  "monitor", "ds_cpl",
                   "vmx",    "smx",       "est",     "tm2",     "ssse3",
                   "cid",    "sdbg",      "fma",     "cx16",    "xtpr",
                   "pdcm",   NULL,        "pcid",    "dca",     "sse4_1",
                   "sse4_2", "x2apic",    "movbe",   "popcnt",  "tsc_deadline_timer",
                   "aes",    "xsave",     "osxsave", "avx",     "f16c",
                   "rdrand", "hypervisor"},
    [CPU_1_EDX] = {"fpu",  "vme",   "de",   "pse",     "tsc",  "msr", "pae",  "mce",
                   "cx8",  "apic",  NULL,   "sep",     "mtrr", "pge", "mca",  "cmov",
                   "pat",  "pse36", "pn",   "clflush", NULL,   "dts", "acpi", "mmx",
                   "fxsr", "sse",   "sse2", "ss",      "ht",   "tm",  "ia64", "pbe"},
    [CPU_7_EBX] = {"fsgsbase",
                   "tsc_adjust",
                   "sgx",
                   "bmi1",
                   "hle",
                   "avx2",
                   "fdp_excptn_only",
                   "smep",
                   "bmi2",
                   "erms",
                   "invpcid",
                   "rtm",
                   "cqm",
                   "zero_fcs_fds",
                   "mpx",
                   "rdt_a",
                   "avx512f",
                   "avx512dq",
                   "rdseed",
                   "adx",
                   "smap",
                   "avx512ifma",
                   NULL,
                   "clflushopt",
                   "clwb",
                   "intel_pt",
                   "avx512pf",
                   "avx512er",
                   "avx512cd",
                   "sha_ni",
                   "avx512bw",
                   "avx512vl"},
    [CPU_7_ECX] = {NULL,
                   "avx512vbmi",
                   "umip",
                   "pku",
                   "ospke",
                   "waitpkg",
                   "avx512_vbmi2",
                   "shstk",
                   "gfni",
                   "vaes",
                   "vpclmulqdq",
                   "avx512_vnni",
                   "avx512_bitalg",
                   "tme",
                   "avx512_vpopcntdq",
                   NULL,
                   "la57",
                   NULL,
                   NULL,
                   NULL,
                   NULL,
                   NULL,
                   "rdpid",
                   NULL,
                   "bus_lock_detect",
                   "cldemote",
                   NULL,
                   "movdiri",
                   "movdir64b",
                   "enqcmd",
                   "sgx_lc"},
    [CPU_7_EDX] = {[4] = "fsrm",
                   [8] = "avx512_vp2intersect",
                   [10] = "md_clear",
                   [14] = "serialize",
                   [22] = "amx_bf16",
                   [23] = "avx512_fp16",
                   [24] = "amx_tile",
                   [25] = "amx_int8",
                   [26] = "spec_ctrl",
                   [27] = "intel_stibp",
                   [28] = "flush_l1d",
                   [29] = "arch_capabilities",
                   [30] = "core_capabilities",
                   [31] = "ssbd"},
    [CPU_7_1_EAX] = {[4] = "avx_vnni",
                     [5] = "avx512_bf16",
                     [10] = "fzrm",
                     [11] = "fsrs",
                     [12] = "fsrc",
                     [23] = "avx_ifma"},
    [CPU_D_1_EAX] = {"xsaveopt", "xsavec", "xgetbv1", "xsaves", "xfd"},
    [CPU_80000001_ECX] = {"lahf_lm",    "cmp_legacy",  "svm",
                          "extapic",    "cr8_legacy",  "abm",
                          "sse4a",      "misalignsse", "3dnowprefetch",
                          "osvw",       "ibs",         "xop",
                          "skinit",     "wdt",         NULL,
                          "lwp",        "fma4",        "tce",
                          NULL,         "nodeid_msr",  NULL,
                          "tbm",        "topoext",     "perfctr_core",
                          "perfctr_nb", NULL,          "bpext",
                          "ptsc",       "perfctr_llc", "mwaitx"},
    [CPU_80000001_EDX] = {[11] = "syscall",
                          [19] = "mp",
                          [20] = "nx",
                          [22] = "mmxext",
                          [25] = "fxsr_opt",
                          [26] = "pdpe1gb",
                          [27] = "rdtscp",
                          [29] = "lm",
                          [30] = "3dnowext",
                          [31] = "3dnow"},
    [CPU_80000007_EDX] = {[8] = "invtsc"},
    [CPU_80000008_EBX] = {[0] = "clzero",
                          [1] = "irperf",
                          [2] = "xsaveerptr",
                          [4] = "rdpru",
                          [9] = "wbnoinvd",
                          [12] = "ibpb",
                          [14] = "ibrs",
                          [15] = "stibp",
                          [24] = "amd_ssbd",
                          [25] = "virt_ssbd",
                          [26] = "amd_ssb_no",
                          [29] = "btc_no"},
    [CPU_6_EAX] = {[2] = "arat"},
    [CPU_40000001_EAX] =
        {[0] = "kvmclock",
         [1] = "kvm_nopiodelay",
         [3] = "kvmclock2",
         [4] = "kvm_asyncpf",
         [5] = "kvm_steal_time",
         [6] = "kvm_pv_eoi",
         [7] = "kvm_pv_unhalt",
         [24] = "kvmclock_stable"},
    [CPU_80000021_EAX] = {[0] = "no_nested_data_bp",
                          [2] = "lfence_rdtsc",
                          [6] = "null_sel_clr_base",
                          [8] = "autoibrs",
                          [29] = "srso_no"},
    [CPU_80000021_ECX] = {[1] = "tsa_sq_no", [2] = "tsa_l1_no"},
    [CPU_ARCH_CAPABILITIES] = {[0] = "rdcl_no",
                               [1] = "ibrs_all",
                               [3] = "skip_l1dfl_vmentry",
                               [4] = "ssb_no",
                               [5] = "mds_no",
                               [6] = "pschange_mc_no",
                               [8] = "taa_no",
                               [13] = "sbdr_ssdp_no",
                               [14] = "fbsdp_no",
                               [15] = "psdp_no",
                               [20] = "bhi_no",
                               [24] = "pbrsb_no",
                               [26] = "gds_no",
                               [27] = "rfds_no"},
};
