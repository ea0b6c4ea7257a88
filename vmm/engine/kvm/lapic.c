// SPDX-License-Identifier: Apache-2.0
/* The kernel's local APIC in the canonical form: KVM_GET_LAPIC gives its register page. */
#include "vmm/engine/kvm/kvm.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define BASE_X2APIC (1UL << 10)

/* Registers that are one word in both forms. */
static const struct {
    uint16_t page, state;
} words[] = {
    {0x080, offsetof(struct cpu_lapic, tpr)},
    {0x0d0, offsetof(struct cpu_lapic, ldr)},
    {0x0e0, offsetof(struct cpu_lapic, dfr)},
    {0x0f0, offsetof(struct cpu_lapic, svr)},
    {0x280, offsetof(struct cpu_lapic, esr)},
    {0x320, offsetof(struct cpu_lapic, lvt_timer)},
    {0x330, offsetof(struct cpu_lapic, lvt_thermal)},
    {0x340, offsetof(struct cpu_lapic, lvt_perf)},
    {0x350, offsetof(struct cpu_lapic, lvt_lint0)},
    {0x360, offsetof(struct cpu_lapic, lvt_lint1)},
    {0x370, offsetof(struct cpu_lapic, lvt_error)},
    {0x380, offsetof(struct cpu_lapic, timer_initial)},
    {0x390, offsetof(struct cpu_lapic, timer_current)},
    {0x3e0, offsetof(struct cpu_lapic, timer_divide)},
};

/* 256-bit registers: eight words, 16 bytes apart. */
static const struct {
    uint16_t page, state;
} sets[] = {
    {0x100, offsetof(struct cpu_lapic, isr)},
    {0x180, offsetof(struct cpu_lapic, tmr)},
    {0x200, offsetof(struct cpu_lapic, irr)},
};

static uint32_t page_get(const struct kvm_lapic_state *page, unsigned offset)
{
    uint32_t value;

    memcpy(&value, page->regs + offset, sizeof(value));
    return value;
}

static void page_set(struct kvm_lapic_state *page, unsigned offset, uint32_t value)
{
    memcpy(page->regs + offset, &value, sizeof(value));
}

/* The kernel's count went down while time stood still. */
static void give_back_pause(struct vcpu *vcpu, struct cpu_lapic *out)
{
    /* 1011b divides by 1, the others by 2 to 128 (SDM 3A, 11.5.4); a tick is a nanosecond. */
    unsigned shift = ((out->timer_divide & 3) | (out->timer_divide >> 1 & 4)) + 1;
    uint64_t ticks = (uint64_t)kvm_time_paused(vcpu) >> (shift & 7);

    if (out->timer_current)
        out->timer_current = (uint32_t)MIN(out->timer_current + ticks, out->timer_initial);
}

void kvm_lapic_get(struct vcpu *vcpu, struct cpu_lapic *out)
{
    struct kvm_lapic_state page;

    if (kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &page) < 0)
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
        uint32_t value = page_get(&page, words[i].page);
        memcpy((uint8_t *)out + words[i].state, &value, sizeof(value));
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        for (unsigned word = 0; word < 8; word++) {
            uint32_t value = page_get(&page, sets[i].page + 16 * word);
            memcpy((uint8_t *)out + sets[i].state + 4 * word, &value, sizeof(value));
        }
    }
    out->id = vcpu->index;
    out->lvt_cmci = 1 << 16;
    out->icr = page_get(&page, 0x300) | (uint64_t)page_get(&page, 0x310) << 32;
    out->tsc_deadline = vcpu->tsc_deadline;
    give_back_pause(vcpu, out);
}

bool kvm_lapic_set(struct vcpu *vcpu, const struct cpu_lapic *in, GError **error)
{
    struct kvm_lapic_state page;

    /* What the canonical form does not have (version) stays. */
    if (kvm_ioctl(vcpu->fd, KVM_GET_LAPIC, &page) == 0) {
        for (unsigned i = 0; i < G_N_ELEMENTS(words); i++) {
            uint32_t value;
            memcpy(&value, (const uint8_t *)in + words[i].state, sizeof(value));
            page_set(&page, words[i].page, value);
        }
        for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
            for (unsigned word = 0; word < 8; word++) {
                uint32_t value;
                memcpy(&value, (const uint8_t *)in + sets[i].state + 4 * word, sizeof(value));
                page_set(&page, sets[i].page + 16 * word, value);
            }
        }
        page_set(&page, 0x20, in->base_msr & BASE_X2APIC ? vcpu->index : vcpu->index << 24);
        page_set(&page, 0x300, (uint32_t)in->icr);
        page_set(&page, 0x310, in->icr >> 32);
        if (kvm_ioctl(vcpu->fd, KVM_SET_LAPIC, &page) == 0) {
            vcpu->tsc_deadline = in->tsc_deadline;
            return true;
        }
    }
    g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                "KVM refuses the local APIC of vCPU %u: %s", vcpu->index, g_strerror(errno));
    return false;
}
