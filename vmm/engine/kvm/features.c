// SPDX-License-Identifier: Apache-2.0
/*
 * CPUID of KVM's vCPUs: what the kernel supports, as feature words, and the definition's answers
 * told to it leaf by leaf. The kernel keeps the bits that mirror other registers itself.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#define ENTRIES_MAX 256U

#define MSR_ARCH_CAPABILITIES 0x10a

/* Features of KVM's own leaf whose state this engine carries: kvmclock, and no delay after I/O. */
#define PARAVIRTUAL_KNOWN (1U << 0 | 1U << 1 | 1U << 3 | 1U << 24)

static struct kvm_cpuid2 *supported(int kvm)
{
    struct kvm_cpuid2 *table = g_malloc0(sizeof(*table) + ENTRIES_MAX * sizeof(table->entries[0]));

    table->nent = ENTRIES_MAX;
    if (kvm_ioctl(kvm, KVM_GET_SUPPORTED_CPUID, table) < 0) {
        g_free(table);
        return NULL;
    }
    return table;
}

static void take_leaf(uint32_t words[CPU_WORDS], const struct kvm_cpuid_entry2 *leaf)
{
    switch (leaf->function) {
    case 1:
        words[CPU_1_ECX] = leaf->ecx;
        words[CPU_1_EDX] = leaf->edx;
        break;
    case 6:
        words[CPU_6_EAX] = leaf->eax;
        break;
    case 7:
        if (leaf->index == 0) {
            words[CPU_7_EBX] = leaf->ebx;
            words[CPU_7_ECX] = leaf->ecx;
            words[CPU_7_EDX] = leaf->edx;
        } else if (leaf->index == 1) {
            words[CPU_7_1_EAX] = leaf->eax;
        }
        break;
    case 0xd:
        if (leaf->index == 1)
            words[CPU_D_1_EAX] = leaf->eax;
        break;
    case 0x40000001:
        words[CPU_40000001_EAX] = leaf->eax & PARAVIRTUAL_KNOWN;
        break;
    case 0x80000001:
        words[CPU_80000001_ECX] = leaf->ecx;
        words[CPU_80000001_EDX] = leaf->edx;
        break;
    case 0x80000007:
        words[CPU_80000007_EDX] = leaf->edx;
        break;
    case 0x80000008:
        words[CPU_80000008_EBX] = leaf->ebx;
        break;
    case 0x80000021:
        words[CPU_80000021_EAX] = leaf->eax;
        words[CPU_80000021_ECX] = leaf->ecx;
        break;
    }
}

/* Nested virtualization, MONITOR and what has state beyond struct cpu_state are not passed on. */
static void drop_unknown(uint32_t words[CPU_WORDS])
{
    words[CPU_1_ECX] &= ~(1U << 3 | 1U << 5 | 1U << 6 | 1U << 15);
    words[CPU_7_EBX] &= ~(1U << 2 | 1U << 4 | 1U << 11 | 1U << 14 | 1U << 25); /* sgx tsx mpx pt */
    words[CPU_7_ECX] &= ~(1U << 5 | 1U << 7 | 1U << 16 | 1U << 30); /* waitpkg shstk la57 sgx_lc */
    words[CPU_7_EDX] &= ~(1U << 20 | 1U << 22 | 1U << 24 | 1U << 25); /* ibt amx */
    words[CPU_D_1_EAX] &= ~(1U << 3 | 1U << 4);
    words[CPU_80000001_ECX] &= ~(1U << 2 | 1U << 10 | 1U << 15 | 1U << 23 | 1U << 24 | 1U << 28);
}

static uint32_t arch_capabilities(int kvm)
{
    union kvm_one_msr one = {.msrs.nmsrs = 1};

    one.msrs.entries[0].index = MSR_ARCH_CAPABILITIES;
    return kvm_ioctl(kvm, KVM_GET_MSRS, &one) == 1 ? (uint32_t)one.msrs.entries[0].data : 0;
}

bool kvm_features(int kvm, uint32_t words[CPU_WORDS], GError **error)
{
    g_autofree struct kvm_cpuid2 *table = supported(kvm);

    if (!table) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_NOSYS, "KVM: cannot ask for its CPUID: %s",
                    g_strerror(errno));
        return false;
    }
    memset(words, 0, CPU_WORDS * sizeof(words[0]));
    for (unsigned i = 0; i < table->nent; i++)
        take_leaf(words, &table->entries[i]);
    drop_unknown(words);
    if (kvm_ioctl(kvm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0)
        words[CPU_1_ECX] |= 1U << 24;
    words[CPU_1_ECX] |= 1U << 31;
    words[CPU_ARCH_CAPABILITIES] = arch_capabilities(kvm);
    return true;
}

/* ---- telling a vCPU ---- */

static void add(struct kvm_cpuid2 *table, const struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf,
                bool indexed)
{
    const struct cpu_definition *model = &vcpu->engine->model;
    struct cpuid_result result =
        cpu_cpuid(model, leaf, subleaf, vcpu->index, 0, model->xcr0_mask | 1, 0);

    if (table->nent == ENTRIES_MAX)
        return;
    table->entries[table->nent++] = (struct kvm_cpuid_entry2){
        .function = leaf,
        .index = subleaf,
        .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
        .eax = result.eax,
        .ebx = result.ebx,
        .ecx = result.ecx,
        .edx = result.edx,
    };
}

static unsigned subleaves(uint32_t leaf)
{
    switch (leaf) {
    case 4:
    case 0x8000001d:
        return 5;
    case 7:
    case 0xb:
        return 3;
    case 0xd:
        return CPU_XSAVE_COMPONENTS;
    }
    return 0;
}

static void add_range(struct kvm_cpuid2 *table, const struct vcpu *vcpu, uint32_t first)
{
    uint32_t last = cpu_cpuid(&vcpu->engine->model, first, 0, 0, 0, 1, 0).eax;

    for (uint32_t leaf = first; leaf <= last && leaf - first < 0x40; leaf++) {
        unsigned count = subleaves(leaf);

        if (!count)
            add(table, vcpu, leaf, 0, false);
        for (unsigned i = 0; i < count; i++)
            add(table, vcpu, leaf, i, true);
    }
}

bool kvm_set_cpuid(struct vcpu *vcpu, GError **error)
{
    g_autofree struct kvm_cpuid2 *table =
        g_malloc0(sizeof(*table) + ENTRIES_MAX * sizeof(table->entries[0]));

    add_range(table, vcpu, 0);
    add_range(table, vcpu, 0x40000000);
    add_range(table, vcpu, 0x80000000);
    if (kvm_ioctl(vcpu->fd, KVM_SET_CPUID2, table) == 0)
        return true;
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "KVM refuses the CPUID of model '%s': %s",
                vcpu->engine->model.name, g_strerror(errno));
    return false;
}
