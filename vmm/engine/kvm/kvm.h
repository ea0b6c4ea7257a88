// SPDX-License-Identifier: Apache-2.0
/*
 * The engine "kvm", between its files: kvm.c (the engine and its interrupts), slots.c (memory),
 * vcpu.c (running), state.c and lapic.c (the canonical state), features.c (CPUID).
 *
 * The interrupt controllers are split: local APICs are the kernel's, everything else is a device
 * of ours (KVM_CAP_SPLIT_IRQCHIP).
 */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vmm/engine/engine.h"

#define KVM_IOAPIC_PINS 24

/* One KVM memory slot as it was told to the kernel. */
struct kvm_slot {
    uint64_t base, size, offset;
    uint8_t *host; /* NULL: free */
    struct memory_block *block;
    bool readonly, logged;
};

struct kvm_engine {
    struct engine_config config;
    struct cpu_definition model;
    int kvm; /* the configuration's descriptor */
    int vm;
    size_t run_size;   /* of the area shared with the kernel, per vCPU */
    size_t xsave_size; /* of KVM_GET_XSAVE2's answer */
    unsigned count;    /* of vcpus */
    struct vcpu **vcpus;
    bool *msr_known; /* by index in cpu_msr_slots */

    pthread_mutex_t slots_lock;
    GArray *slots; /* struct kvm_slot, by slot number */
    bool logging;

    pthread_mutex_t routes_lock;
    struct kvm_irq_routing_entry routes[KVM_IOAPIC_PINS];
    bool routed[KVM_IOAPIC_PINS]; /* unmasked and level-triggered */

    _Atomic bool extint; /* level of the 8259 pair's output */
};

struct vcpu {
    struct kvm_engine *engine;
    unsigned index;
    int fd;
    struct kvm_run *run;
    bool unfinished;   /* the kernel completes the last exit at the next KVM_RUN */
    bool is_shut_down; /* triple fault; the kernel has no such state */
    char error[256];
    uint64_t tsc_offset; /* of the guest's counter from the machine's clock, while parked */
    _Atomic uint64_t exits[ENGINE_EXITS]; /* written by its own thread alone */

    /* Of any thread. */
    pthread_mutex_t lock; /* of `running` and `thread` */
    bool running;
    pthread_t thread;
    _Atomic bool kicked, nmi;
};

/* KVM_GET_MSRS and KVM_SET_MSRS of one register. */
union kvm_one_msr {
    struct kvm_msrs msrs;
    uint8_t space[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

/* ioctl that is repeated when a signal interrupted it; -1 and errno on failure. */
int kvm_ioctl(int fd, unsigned long request, void *argument);

/* probe.c: one static phrase on the first capability that this KVM lacks and the engine needs, or
 * NULL. */
const char *kvm_missing(int kvm);

/* features.c: what this KVM can show, and a vCPU's CPUID told to it. */
bool kvm_features(int kvm, uint32_t words[CPU_WORDS], GError **error);
bool kvm_set_cpuid(struct vcpu *vcpu, GError **error);

/* slots.c. */
bool kvm_slots_init(struct kvm_engine *engine, GError **error);
void kvm_slots_finish(struct kvm_engine *engine);

/* vcpu.c. */
struct vcpu *kvm_vcpu_create(struct engine *engine, unsigned index, GError **error);
void kvm_vcpu_destroy(struct vcpu *vcpu);
enum vcpu_exit kvm_vcpu_run(struct vcpu *vcpu);
void kvm_vcpu_kick(struct vcpu *vcpu);
/* Leave the kernel and look around, without ending vcpu_run. Any thread. */
void kvm_vcpu_poke(struct vcpu *vcpu);
void kvm_vcpu_nmi(struct vcpu *vcpu);
void kvm_vcpu_exits(const struct vcpu *vcpu, uint64_t counts[ENGINE_EXITS]);
bool kvm_vcpu_set_debug(struct vcpu *vcpu, const struct vcpu_debug *debug, GError **error);
bool kvm_vcpu_translate(struct vcpu *vcpu, uint64_t linear, uint64_t *physical);

/* state.c, lapic.c. */
void kvm_vcpu_get_state(struct vcpu *vcpu, struct cpu_state *state);
bool kvm_vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error);
/* Find out which of cpu_msr_slots this kernel has. */
void kvm_find_msrs(struct vcpu *vcpu);
void kvm_lapic_get(struct vcpu *vcpu, struct cpu_lapic *out);
bool kvm_lapic_set(struct vcpu *vcpu, const struct cpu_lapic *in, GError **error);

#define KVM_MSR_TSC 0x10

/* One MSR; false when the kernel does not have it or refuses the value. */
bool kvm_read_msr(struct vcpu *vcpu, uint32_t index, uint64_t *value);
bool kvm_write_msr(struct vcpu *vcpu, uint32_t index, uint64_t value);
