// SPDX-License-Identifier: Apache-2.0
/*
 * The engine "kvm", between its files: kvm.c (the engine and its interrupts), probe.c (what it
 * needs), slots.c and dirty.c (memory), vcpu.c (running), time.c, features.c (CPUID), msr.c,
 * xsave.c, lapic.c and state.c (the canonical state).
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

    /* time.c: the counters of all vCPUs and the machine's clock, at one instant. */
    pthread_mutex_t time_lock;
    uint32_t epoch;       /* of the clock, in which the anchor lies */
    uint64_t anchor_host; /* the host's counter there */
    uint64_t anchor_tsc;  /* clock_tsc there */
    uint64_t lag;         /* by how much all guests' counters were put back so far */
    bool tsc_scaled;      /* they run at another frequency than the host's */
    uint64_t host_khz;

    pthread_mutex_t slots_lock;
    GArray *slots; /* struct kvm_slot, by slot number */
    bool logging;
    unsigned ring_entries; /* of each vCPU's ring of dirty pages; 0: the log is a bitmap */
    bool ring_hidden;      /* the processor keeps entries back until it leaves the guest */

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
    struct kvm_dirty_gfn *ring;           /* dirty.c; NULL: none */
    uint32_t ring_next;                   /* entry to look at; slots_lock */
    struct cpu_msrs held;                 /* those that the kernel does not keep: msr.c */
    uint64_t lag, lag_parked;             /* how much of the engine's its counter was put back by */
    uint64_t tsc_deadline;                /* of its timer, while it is parked */
    _Atomic uint64_t exits[ENGINE_EXITS]; /* written by its own thread alone */

    /* Of any thread. */
    pthread_mutex_t lock; /* of `running` and `thread` */
    bool running;
    pthread_t thread;
    _Atomic bool kicked, nmi;
    _Atomic bool inside;     /* KVM_RUN is under way */
    _Atomic uint32_t passes; /* of KVM_RUN */
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
/* Whether the host's processor has virtualization for KVM to rest on. */
bool kvm_processor_virtualizes(void);

/* features.c: what this KVM can show, and a vCPU's CPUID told to it. */
bool kvm_features(int kvm, uint32_t words[CPU_WORDS], GError **error);
bool kvm_set_cpuid(struct vcpu *vcpu, GError **error);

/* slots.c. */
bool kvm_slots_init(struct kvm_engine *engine, GError **error);
void kvm_slots_finish(struct kvm_engine *engine);
struct kvm_slot *kvm_slot_at(struct kvm_engine *engine, unsigned number);

/* dirty.c. `init` before there are vCPUs; `sync` tells memory/ what was written since the last
 * time, with the slots' lock held or not. */
void kvm_dirty_init(struct kvm_engine *engine);
bool kvm_dirty_map_ring(struct vcpu *vcpu);
void kvm_dirty_unmap_ring(struct vcpu *vcpu);
void kvm_dirty_sync(struct kvm_engine *engine);
void kvm_dirty_sync_locked(struct kvm_engine *engine);
/* The vCPU's own ring is full: empty it, so that it can go on. */
void kvm_dirty_ring_full(struct vcpu *vcpu);

/* time.c: the guest's counters stand still while the machine's clock does. */
void kvm_time_init(struct kvm_engine *engine);
bool kvm_time_scale(struct vcpu *vcpu, GError **error);
/* Around each vcpu_run, on its thread. */
void kvm_time_enter(struct vcpu *vcpu);
void kvm_time_park(struct vcpu *vcpu);
/* The parked vCPU's counter at the anchor: now where time stands still, else where the last vCPU
 * parked. */
uint64_t kvm_time_get(struct vcpu *vcpu);
void kvm_time_set(struct vcpu *vcpu, uint64_t tsc);
/* Nanoseconds for which time stood still since the vCPU parked, as of the last kvm_time_get. */
int64_t kvm_time_paused(const struct vcpu *vcpu);

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

/* msr.c: the filter, the registers that are served here, and all of them as state. */
bool kvm_msr_filter(struct kvm_engine *engine, GError **error);
void kvm_msr_serve(struct vcpu *vcpu);
/* Find out which of cpu_msr_slots this kernel has. */
void kvm_msr_find(struct vcpu *vcpu);
void kvm_msr_get(struct vcpu *vcpu, struct cpu_state *state);
bool kvm_msr_set(struct vcpu *vcpu, const struct cpu_state *state, GError **error);

/* state.c, xsave.c, lapic.c. */
void kvm_vcpu_get_state(struct vcpu *vcpu, struct cpu_state *state);
bool kvm_vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state, GError **error);
void kvm_xsave_get(struct vcpu *vcpu, struct cpu_state *state);
bool kvm_xsave_set(struct vcpu *vcpu, const struct cpu_state *state, GError **error);
void kvm_lapic_get(struct vcpu *vcpu, struct cpu_lapic *out);
bool kvm_lapic_set(struct vcpu *vcpu, const struct cpu_lapic *in, GError **error);
/* "KVM refuses the <what> of vCPU N" with errno; false. */
bool kvm_refuses(GError **error, const struct vcpu *vcpu, const char *what);

#define KVM_MSR_TSC          0x10
#define KVM_MSR_TSC_DEADLINE 0x6e0

/* One MSR; false when the kernel does not have it or refuses the value. */
bool kvm_read_msr(struct vcpu *vcpu, uint32_t index, uint64_t *value);
bool kvm_write_msr(struct vcpu *vcpu, uint32_t index, uint64_t value);
