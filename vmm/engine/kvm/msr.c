// SPDX-License-Identifier: Apache-2.0
/*
 * Model-specific registers on KVM: the kernel serves only those that the CPU model has and whose
 * effects are its own; every other access comes here (KVM_X86_SET_MSR_FILTER, KVM_EXIT_X86_RDMSR),
 * where the rest of the model's are served and what is not in it raises #GP, as on the other
 * engine.
 */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <string.h>

#include "vmm/engine/cpu_msr.h"

#define MSR_APIC_BASE 0x1b
#define MSR_DEBUGCTL  0x1d9

/* ---- the filter ---- */

/* Where registers of the kernel's lie; anything else is refused. x2APIC's (800H to 8FFH) no filter
 * reaches. */
#define LOW_BASE     0U
#define LOW_COUNT    0xe00U
#define KVM_BASE     0x4b564d00U
#define KVM_COUNT    0x10U
#define SYSTEM_BASE  0xc0000000U
#define SYSTEM_COUNT 0x200U

struct bitmaps {
    uint8_t low[LOW_COUNT / 8], kvm[KVM_COUNT / 8], system[SYSTEM_COUNT / 8];
};

static void allow_in(uint8_t *bitmap, uint32_t base, uint32_t count, uint32_t index)
{
    uint32_t bit = index - base;

    if (bit < count)
        bitmap[bit / 8] |= (uint8_t)(1 << bit % 8);
}

static void allow(struct bitmaps *bitmaps, uint32_t index)
{
    allow_in(bitmaps->low, LOW_BASE, LOW_COUNT, index);
    allow_in(bitmaps->kvm, KVM_BASE, KVM_COUNT, index);
    allow_in(bitmaps->system, SYSTEM_BASE, SYSTEM_COUNT, index);
}

/* DEBUGCTL has an effect in the kernel, which would take more bits than the model has. */
static bool is_the_kernels(const struct cpu_msr *msr)
{
    return (msr->kind == CPU_MSR_STORED || msr->kind == CPU_MSR_COMPUTED) &&
           msr->index != MSR_DEBUGCTL;
}

bool kvm_msr_filter(struct kvm_engine *engine, GError **error)
{
    const struct cpu_definition *model = &engine->model;
    const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
    struct kvm_enable_cap exits = {.cap = KVM_CAP_X86_USER_SPACE_MSR,
                                   .args = {KVM_MSR_EXIT_REASON_FILTER}};
    struct bitmaps bitmaps = {0};
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_DENY,
        .ranges = {{both, LOW_COUNT, LOW_BASE, bitmaps.low},
                   {both, KVM_COUNT, KVM_BASE, bitmaps.kvm},
                   {both, SYSTEM_COUNT, SYSTEM_BASE, bitmaps.system}},
    };

    for (unsigned i = 0; i < cpu_msrs_count; i++) {
        if (is_the_kernels(&cpu_msrs[i]) && cpu_msr_exists(model, &cpu_msrs[i]))
            allow(&bitmaps, cpu_msrs[i].index);
    }
    allow(&bitmaps, MSR_APIC_BASE);
    if (cpu_has_feature(model, CPU_TSC_DEADLINE))
        allow(&bitmaps, KVM_MSR_TSC_DEADLINE);
    if (kvm_ioctl(engine->vm, KVM_ENABLE_CAP, &exits) == 0 &&
        kvm_ioctl(engine->vm, KVM_X86_SET_MSR_FILTER, &filter) == 0)
        return true;
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "KVM refuses the MSR filter of model '%s': %s", model->name, g_strerror(errno));
    return false;
}

/* ---- accesses that come here ---- */

static bool read_here(struct vcpu *vcpu, const struct cpu_msr *msr, uint64_t *value)
{
    if (msr->kind == CPU_MSR_CONSTANT) {
        *value = cpu_msr_constant(&vcpu->engine->model, msr);
        return true;
    }
    if (msr->index != MSR_DEBUGCTL || !kvm_read_msr(vcpu, msr->index, value))
        *value = *cpu_msr_field(&vcpu->held, msr);
    return true;
}

static bool write_here(struct vcpu *vcpu, const struct cpu_msr *msr, uint64_t value)
{
    uint64_t old = msr->offset >= 0 ? *cpu_msr_field(&vcpu->held, msr) : 0;

    if (!cpu_msr_takes(&vcpu->engine->model, msr, old, value))
        return false;
    if (msr->index == MSR_DEBUGCTL)
        kvm_write_msr(vcpu, msr->index, value); /* not every processor traps branches */
    if (msr->offset >= 0)
        *cpu_msr_field(&vcpu->held, msr) = value;
    return true;
}

void kvm_msr_serve(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    const struct cpu_msr *msr = cpu_msr_find(&vcpu->engine->model, run->msr.index);
    bool done = false;
    uint64_t value = 0;

    if (msr && !is_the_kernels(msr)) {
        if (run->exit_reason == KVM_EXIT_X86_WRMSR)
            done = write_here(vcpu, msr, run->msr.data);
        else
            done = read_here(vcpu, msr, &value);
    }
    if (run->exit_reason == KVM_EXIT_X86_RDMSR)
        run->msr.data = value;
    run->msr.error = !done;
}

/* ---- one register of the kernel's ---- */

/* KVM_GET_MSRS and KVM_SET_MSRS of one register. */
union one_msr {
    struct kvm_msrs msrs;
    uint8_t space[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

bool kvm_read_msr(struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
    union one_msr one = {.msrs.nmsrs = 1};

    one.msrs.entries[0].index = index;
    if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, &one) != 1)
        return false;
    *value = one.msrs.entries[0].data;
    return true;
}

bool kvm_write_msr(struct vcpu *vcpu, uint32_t index, uint64_t value)
{
    union one_msr one = {.msrs.nmsrs = 1};

    one.msrs.entries[0].index = index;
    one.msrs.entries[0].data = value;
    return kvm_ioctl(vcpu->fd, KVM_SET_MSRS, &one) == 1;
}

/* ---- state ---- */

static uint64_t *slot_field(struct cpu_msrs *msrs, unsigned slot)
{
    return (uint64_t *)((uint8_t *)msrs + cpu_msr_slots[slot].offset);
}

/* Whether the kernel keeps the register that lies at this offset: not one that is served here. */
static bool kept_by_kernel(const struct cpu_definition *model, uint32_t index)
{
    const struct cpu_msr *msr = cpu_msr_find(model, index);
    return !msr || msr->kind != CPU_MSR_INERT;
}

void kvm_msr_find(struct vcpu *vcpu)
{
    struct kvm_engine *engine = vcpu->engine;
    uint64_t value;

    if (engine->msr_known)
        return;
    engine->msr_known = g_new0(bool, cpu_msr_slots_count);
    for (unsigned i = 0; i < cpu_msr_slots_count; i++)
        engine->msr_known[i] = kept_by_kernel(&engine->model, cpu_msr_slots[i].index) &&
                               kvm_read_msr(vcpu, cpu_msr_slots[i].index, &value);
}

/* All of the kernel's registers in one call, in the order of their slots. */
static struct kvm_msrs *list(const struct kvm_engine *engine)
{
    struct kvm_msrs *msrs =
        g_malloc0(sizeof(*msrs) + cpu_msr_slots_count * sizeof(msrs->entries[0]));

    for (unsigned i = 0; i < cpu_msr_slots_count; i++) {
        if (engine->msr_known[i])
            msrs->entries[msrs->nmsrs++].index = cpu_msr_slots[i].index;
    }
    return msrs;
}

/* Registers that neither the kernel nor this engine keeps have the value of power-on. */
void kvm_msr_get(struct vcpu *vcpu, struct cpu_state *state)
{
    const struct kvm_engine *engine = vcpu->engine;
    g_autofree struct kvm_msrs *msrs = list(engine);

    if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, msrs) < 0)
        return;
    for (unsigned i = 0, at = 0; i < cpu_msr_slots_count; i++) {
        if (engine->msr_known[i])
            *slot_field(&state->msrs, i) = msrs->entries[at++].data;
        else if (!kept_by_kernel(&engine->model, cpu_msr_slots[i].index))
            *slot_field(&state->msrs, i) = *slot_field(&vcpu->held, i);
    }
}

static bool refuse(struct vcpu *vcpu, const struct kvm_msr_entry *entry, GError **error)
{
    g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_INVAL, "KVM refuses MSR 0x%x = 0x%llx of vCPU %u",
                entry->index, entry->data, vcpu->index);
    return false;
}

/* Only what differs from `now` is written, since a register may refuse even the value that it has;
 * and one whose feature is not shown refuses everything, but holds its first value anyway. */
static bool write_changed(struct vcpu *vcpu, const struct kvm_msrs *now, struct cpu_msrs *wanted,
                          GError **error)
{
    const struct kvm_engine *engine = vcpu->engine;
    struct cpu_state fresh;

    cpu_state_reset(&fresh, true, 0, 0);
    for (unsigned i = 0, at = 0; i < cpu_msr_slots_count; i++) {
        struct kvm_msr_entry entry = {.index = cpu_msr_slots[i].index,
                                      .data = *slot_field(wanted, i)};
        bool first = entry.data == *slot_field(&fresh.msrs, i);

        if (!kept_by_kernel(&engine->model, entry.index))
            continue;
        if (engine->msr_known[i] && now->entries[at++].data == entry.data)
            continue;
        if (engine->msr_known[i] && kvm_write_msr(vcpu, entry.index, entry.data))
            continue;
        if (!first)
            return refuse(vcpu, &entry, error);
    }
    return true;
}

bool kvm_msr_set(struct vcpu *vcpu, const struct cpu_state *state, GError **error)
{
    g_autofree struct kvm_msrs *now = list(vcpu->engine);
    struct cpu_msrs wanted = state->msrs;

    if (kvm_ioctl(vcpu->fd, KVM_GET_MSRS, now) < 0)
        return kvm_refuses(error, vcpu, "MSRs");
    vcpu->held = state->msrs;
    return write_changed(vcpu, now, &wanted, error);
}
