// SPDX-License-Identifier: Apache-2.0
/*
 * Engines: what runs vCPUs. This is all that the rest of the VMM knows about them.
 *
 * An engine executes guest code over the ranges of memory.h and calls `exit_ops` on the vCPU's own
 * thread for everything that leaves the CPU. The local APIC belongs to the engine; PIC, IOAPIC and
 * all else are devices (a "split irqchip"). Engines know nothing of devices.
 *
 * Threads: each vCPU is run by one thread, which is the only one to call the vcpu_ functions,
 * except where "any thread" is said. Control calls happen while all vCPUs are parked.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/engine/cpu_model.h"
#include "vmm/engine/cpu_state.h"
#include "vmm/machine/clock.h"
#include "vmm/memory/memory.h"

struct engine;
struct vcpu;

/* Calls out of the CPU; all on the vCPU's thread. Values lie in the low bytes. */
struct exit_ops {
    uint64_t (*mmio_read)(void *opaque, uint64_t address, unsigned size);
    void (*mmio_write)(void *opaque, uint64_t address, unsigned size, uint64_t value);
    uint32_t (*pio_read)(void *opaque, uint16_t port, unsigned size);
    void (*pio_write)(void *opaque, uint16_t port, unsigned size, uint32_t value);
    /* The CPU takes an interrupt from the 8259 pair: acknowledge it and give its vector. */
    uint8_t (*extint_acknowledge)(void *opaque);
    /* A level-triggered vector was completed in a local APIC: IOAPICs look at their pins again. */
    void (*eoi_broadcast)(void *opaque, uint8_t vector);
    /* VMCALL/VMMCALL with KVM's numbering; returns what RAX gets. */
    uint64_t (*hypercall)(void *opaque, unsigned vcpu, uint64_t number, const uint64_t args[4]);
};

/* What those who debug an engine ask of it. What it means is the engine's. */
struct engine_debug {
    const char *switches; /* comma-separated words; NULL: none */
    int log;              /* a file to write to, or -1 */
    int perf_map;         /* the file in which perf(1) looks up the names of this process's code */
};

struct engine_config {
    struct memory *memory;
    struct clock *clock;
    const struct exit_ops *exits;
    void *opaque; /* handed to exits */
    unsigned cpus;
    const char *cpu_model;            /* name for cpu_model_resolve */
    const struct cpu_definition *cpu; /* for cpu_model_adopt in its place; NULL: none */
    int kvm_fd; /* an open /dev/kvm, or -1; read by "kvm" alone, must outlive the engine */
    const struct engine_debug *debug; /* read by "soft" alone; it and its files outlive the engine.
                                         NULL: nothing */
};

/* Why vcpu_run came back. */
enum vcpu_exit {
    VCPU_EXIT_KICKED,   /* vcpu_kick, or a signal */
    VCPU_EXIT_SHUTDOWN, /* triple fault */
    VCPU_EXIT_DEBUG,    /* breakpoint or single step asked for by vcpu_set_debug */
    VCPU_EXIT_ERROR,    /* the engine cannot go on; vcpu_error tells why */
};

/* Why guest code left the processor for the VMM, for counting. */
enum engine_exit {
    ENGINE_EXIT_PIO,
    ENGINE_EXIT_MMIO,
    ENGINE_EXIT_MSR,
    ENGINE_EXIT_EOI,    /* of a level-triggered interrupt */
    ENGINE_EXIT_WINDOW, /* an interrupt of the 8259 pair can be taken now */
    ENGINE_EXIT_SIGNAL, /* another thread wanted something */
    ENGINE_EXIT_DIRTY,  /* the log of written pages was full */
    ENGINE_EXIT_OTHER,
    ENGINE_EXITS,
};

/* A number that an engine keeps of each vCPU. */
struct engine_counter {
    const char *name;  /* snake_case; NULL ends a list */
    const char *about; /* one phrase */
};

/* What a debugger wants of a vCPU. */
struct vcpu_debug {
    bool single_step;
    unsigned breakpoints; /* used entries of `address`: instruction breakpoints */
    uint64_t address[32];
};

struct engine_ops {
    const char *name; /* "soft", "kvm" */

    /* Take from the host what a sandbox forbids, for an engine with `cpus` vCPUs. Once in a
     * process, before its sandbox closes. NULL: nothing. */
    void (*prepare)(unsigned cpus);

    /* What processors of this engine can have on this host: feature words, as cpu_model_resolve
     * takes them. `kvm_fd` is an open /dev/kvm or -1, which stays the caller's. */
    bool (*features)(int kvm_fd, uint32_t words[CPU_WORDS], GError **error);

    /* Resolves the CPU model too. NULL and `error` on failure. */
    struct engine *(*create)(const struct engine_config *config, GError **error);
    void (*destroy)(struct engine *engine);
    const struct cpu_definition *(*cpu)(const struct engine *engine);

    /* vCPU `index` with APIC id `index`, in power-on state. Its thread need not exist yet. */
    struct vcpu *(*vcpu_create)(struct engine *engine, unsigned index, GError **error);
    void (*vcpu_destroy)(struct vcpu *vcpu);

    /* Run until something below happens. HLT waits inside, as does waiting for a SIPI. */
    enum vcpu_exit (*vcpu_run)(struct vcpu *vcpu);
    /* Make vcpu_run return soon, or at once the next time if it is not running. Any thread. */
    void (*vcpu_kick)(struct vcpu *vcpu);
    const char *(*vcpu_error)(struct vcpu *vcpu);

    /* Only while the vCPU is parked; any thread. set checks everything it takes. */
    void (*vcpu_get_state)(struct vcpu *vcpu, struct cpu_state *state);
    bool (*vcpu_set_state)(struct vcpu *vcpu, const struct cpu_state *state, GError **error);
    /* A breakpoint at rip is met by the next vcpu_run, unless one met it already and nothing was
     * set since. A step meets none. */
    bool (*vcpu_set_debug)(struct vcpu *vcpu, const struct vcpu_debug *debug, GError **error);
    /* Walk the guest's page tables as a supervisor read would; false when not mapped. */
    bool (*vcpu_translate)(struct vcpu *vcpu, uint64_t linear, uint64_t *physical);

    /* A message-signalled interrupt: a write of `data` to `address` (0xFEExxxxx). Any thread. */
    void (*msi)(struct engine *engine, uint64_t address, uint32_t data);
    /* Level of the 8259 pair's output, wired to LINT0 of vCPU 0. Any thread. */
    void (*set_extint)(struct engine *engine, bool level);
    /* What IOAPIC pin `pin` would send now: lets KVM know which vectors want eoi_broadcast. Any
     * thread, called at each change of a redirection entry. */
    void (*ioapic_route)(struct engine *engine, unsigned pin, uint64_t address, uint32_t data,
                         bool masked, bool level);
    /* NMI to a vCPU (control socket's "nmi"); one that waits for its start takes none. Any thread.
     */
    void (*nmi)(struct vcpu *vcpu);

    /* Have guests' writes, of any width and value, that begin at `address` (where no memory is)
     * count `eventfd` up instead of calling mmio_write; or (`attach` false) no more. False when
     * that cannot be. NULL where it never can. Any thread. */
    bool (*doorbell)(struct engine *engine, uint64_t address, int eventfd, bool attach);

    /* Add the exits of a vCPU since its creation to `counts`. NULL where guest code never leaves
     * the VMM. Any thread. */
    void (*exits)(const struct vcpu *vcpu, uint64_t counts[ENGINE_EXITS]);

    /* What else is counted of each vCPU, and the counts since its creation in that order, which may
     * be a moment old. NULL: nothing. Any thread. */
    const struct engine_counter *counters;
    void (*count)(const struct vcpu *vcpu, uint64_t *values);
};

/* Names of enum engine_exit: "pio", "mmio" ... */
extern const char *const engine_exit_names[ENGINE_EXITS];

/* The engines that are built in, NULL-terminated; "soft" first. */
extern const struct engine_ops *const engines[];

/* For engines: the processors that `config` asks for, of one that gives the features `words`, and
 * whose guests' counters may run at another frequency than the host's, or not. The clock's is that
 * of the processors then. */
bool engine_define_cpu(const struct engine_config *config, const uint32_t words[CPU_WORDS],
                       bool tsc_scales, struct cpu_definition *out, GError **error);

/* The engine called `name`, or NULL and an `error` that lists the names. "auto" probes `kvm_fd`, an
 * open /dev/kvm or -1, which stays the caller's. `why` gets one static phrase on the choice. */
const struct engine_ops *engine_find(const char *name, int kvm_fd, const char **why,
                                     GError **error);
