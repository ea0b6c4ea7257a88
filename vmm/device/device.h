// SPDX-License-Identifier: Apache-2.0
/*
 * What a device is.
 *
 * A device's struct begins with `struct device` and has three parts: `config` (what the user said,
 * constant), `state` (all that the guest can see; only this is in the state table) and `host`
 * (timers, descriptors, windows). The machine file creates devices in one straight list; the array
 * device_kinds[] names every kind, and the contract suite walks it.
 *
 * Threads: register handlers run on vCPU threads, timer callbacks on the clock's thread, save, load
 * and reset on the control thread while the vCPUs are parked. Each of these takes the device's own
 * lock itself: no function of the ops is called with it held.
 * Device code never fails on a guest's input: it does what the hardware would, or sets the device's
 * error state, and counts.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/machine/bus.h"
#include "vmm/machine/clock.h"
#include "vmm/machine/irq.h"
#include "vmm/memory/dma.h"
#include "vmm/state/state.h"

struct device;
struct loop;

/* What the guest may ask of the whole machine. Any thread; they only request, the control thread
 * carries out. */
struct machine_requests {
    void (*reset)(void *machine, const char *reason);
    void (*power_off)(void *machine, const char *reason);
    void (*sleep)(void *machine, unsigned s_state);
    /* The guest ends the VMM with an exit status (isa-debug-exit). */
    void (*exit)(void *machine, int status);
    /* The guest reports that it crashed (pvpanic). */
    void (*crashed)(void *machine, const char *reason);
    void *machine;
};

/* Everything a device may reach, handed in at creation. Lives as long as the machine. */
struct device_env {
    struct clock *clock;
    struct bus *pio;
    struct bus *mmio;
    struct memory *memory;
    struct pci_bus *pci; /* root bus; NULL on machines without PCI */
    /* GSI inputs: 0..15 reach both PIC and IOAPIC, the rest the IOAPIC alone. */
    struct irq_line gsi[64];
    /* Deliver a message-signalled interrupt: a 4-byte write to the 0xFEExxxxx window. */
    void (*msi)(void *opaque, uint64_t address, uint32_t data);
    void *msi_opaque;
    struct machine_requests requests;
    struct loop *loop; /* I/O thread for devices with work of their own */
};

struct device_ops {
    const char *kind;                /* "pit": stable, part of streams */
    const char *description;         /* one phrase for people */
    size_t size;                     /* of the device's struct */
    size_t config_size;              /* of its config struct; 0 for none */
    const struct state_table *state; /* NULL: no guest-visible state */
    size_t state_offset;             /* of `state` in the device's struct */

    /* Fill `config` with this device's place in the standard PC; used by the machine file as a
     * starting point and by the contract suite. NULL when config_size is 0. */
    void (*defaults)(const struct device_env *env, void *config);
    /* `device` is zeroed, with its common part filled. Claims windows, creates timers; leaves
     * the device in its power-on state. `config` is copied by the callee. */
    bool (*init)(struct device *device, const void *config, GError **error);
    /* Undo init; also after a failed init (host parts may be NULL). vCPUs may run and reach its
     * registers until its windows are released. */
    void (*finish)(struct device *device);
    /* Power-on state, except what hardware keeps over reset. */
    void (*reset)(struct device *device);
    /* Names of the state's fields that a reset keeps (battery-backed memory); NULL-terminated, or
     * NULL for none. The contract suite compares the rest with a fresh device. */
    const char *const *kept_over_reset;
    /* Called after its state was replaced by a load: re-arm timers, re-drive interrupt lines,
     * move windows. Never fails: what cannot be is refused by the state table's check. */
    void (*post_load)(struct device *device);
    /* Called before state is saved: bring lazily computed fields up to date. Optional. */
    void (*pre_save)(struct device *device);
    /* The machine stops (vCPUs are parked, time stands still) or goes on. After pause returns, no
     * thread of the device touches guest memory or its state, and no interrupt comes from it: what
     * was under way is finished, or stays recorded in the state as in flight. resume takes up what
     * is in flight (a load may have brought it) and looks at every queue. A device is created
     * paused. Both are called in turn, on the control thread; optional, for devices with threads of
     * their own. A reset may come while it runs as well as while it is paused. */
    void (*pause)(struct device *device);
    void (*resume)(struct device *device);
};

struct device {
    const struct device_ops *ops;
    char *id; /* unique in the machine, part of streams: "pit", "serial0" */
    const struct device_env *env;
    GMutex lock;
    uint64_t guest_errors; /* nonsense that the guest asked for, counted */
};

/* Create and initialize. NULL and `error` on failure. */
struct device *device_create(const struct device_ops *ops, const char *id,
                             const struct device_env *env, const void *config, GError **error);
void device_destroy(struct device *device);
void device_reset(struct device *device);
void device_pause(struct device *device);
void device_resume(struct device *device);

/* One CBOR map of the device's state; NULL for a kind without state. vCPUs are parked. */
GBytes *device_save(struct device *device);
bool device_load(struct device *device, GBytes *bytes, GError **error);

/* Count and, ever more rarely (the 1st, 2nd, 4th, 8th ... time), log something that the guest
 * should not have done. */
void device_guest_error(struct device *device, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Every kind there is; ends with NULL. */
extern const struct device_ops *const device_kinds[];
