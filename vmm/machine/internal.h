// SPDX-License-Identifier: Apache-2.0
/*
 * What the files of machine/ share: the machine's insides.
 */
#pragma once

#include "vmm/machine/machine.h"

struct pc;

/* Why the vCPUs are parked though the machine runs: things asked for by them, to be carried out by
 * the control thread. Bits. */
enum machine_request {
    REQUEST_EXIT = 1 << 0,
    REQUEST_FAILED = 1 << 1,
    REQUEST_POWER_OFF = 1 << 2,
    REQUEST_RESET = 1 << 3,
    REQUEST_CRASHED = 1 << 4,
    REQUEST_DEBUG = 1 << 5,
};

/* One vCPU and the thread that runs it. */
struct machine_cpu {
    struct machine *machine;
    unsigned index;
    struct vcpu *vcpu;
    GThread *thread;
    bool held; /* stays parked while the machine runs; under the machine's lock */
};

/* Behind one root port. Control thread. */
struct machine_slot {
    struct machine *machine;
    struct device *port, *device; /* NULL: nothing is in it */
    bool awaited;                 /* somebody waits for the guest to let go */
    int64_t asked_ns;             /* machine time when the guest was asked to */
};

struct machine {
    struct machine_config config; /* strings are ours */
    struct memory *memory;
    struct clock *clock;
    struct engine *engine;
    struct device_env env;
    GPtrArray *devices; /* struct device *, in creation order */
    struct pc *pc;
    struct machine_slot slots[MACHINE_SLOTS];
    struct machine_cpu *cpus;
    GMainContext *context;
    enum machine_state state; /* control thread */
    bool awake;               /* time passes and devices work; control thread */
    unsigned savers;          /* that need it to stand still; control thread */
    void (*debugger)(void *opaque, unsigned cpu);
    void *debugger_opaque;

    GMutex lock;   /* all that follows */
    GCond go;      /* told when vCPUs may run, or shall quit */
    GCond parking; /* told when one parks */
    unsigned parked;
    bool running, quit;
    unsigned requests;    /* of enum machine_request */
    GSource *dispatch;    /* attached while requests wait */
    GSource *slot_source; /* attached while slots are to be looked at */
    char *reason;         /* of the first request that waits */
    int exit_status;
    unsigned debug_cpu;
};

/* ---- vcpus.c: the vCPU threads ---- */

bool machine_cpus_create(struct machine *machine, GError **error);
/* Joins threads, destroys vCPUs. */
void machine_cpus_destroy(struct machine *machine);
void machine_cpus_run(struct machine *machine);
/* Returns when every vCPU is at an instruction's boundary and stays there. */
void machine_cpus_park(struct machine *machine);
/* Power-on state for all. */
bool machine_cpus_reset(struct machine *machine, GError **error);

/* ---- requests.c: what vCPUs and devices ask of the control thread ---- */

/* Note it, park the vCPUs soon, wake the control thread. `reason` is copied. Any thread. */
void machine_request(struct machine *machine, enum machine_request request, const char *reason,
                     int value);
/* For struct device_env. */
struct machine_requests machine_device_requests(struct machine *machine);
/* Whether something was asked for and not carried out yet. Any thread. */
bool machine_requests_wait(struct machine *machine);
/* Forget requests and take the source from the context. Control thread. */
void machine_requests_drop(struct machine *machine);

/* ---- machine.c; control thread, vCPUs parked; state changes but for a restart ---- */

void machine_end(struct machine *machine, enum machine_end end, int status, const char *reason);
void machine_crash(struct machine *machine, const char *reason);
void machine_restart(struct machine *machine, const char *reason);
void machine_debug(struct machine *machine, unsigned cpu);

/* ---- pc/pc.c: the board ---- */

/* RAM, and a board without devices yet. */
bool pc_init(struct machine *machine, GError **error);
/* For the engine, with machine->pc as `opaque`. */
extern const struct exit_ops pc_exit_ops;
/* All devices, in order; fills machine->devices. The engine is there. */
bool pc_devices_create(struct machine *machine, GError **error);
/* Put a device on the board; `device` (may be NULL) gets it. */
bool pc_add(struct machine *machine, const struct device_ops *ops, const char *id,
            const void *config, struct device **device, GError **error);
/* What firmware does before an operating system: set up PCI buses, write tables, load the kernel,
 * put the first vCPU at its entry. Everything has just been reset. */
bool pc_boot(struct machine *machine, GError **error);
void pc_press_power_button(struct machine *machine);
void pc_finish(struct machine *machine);

/* ---- pc/slots.c: disks and network cards, and the root ports ---- */

/* The root ports. */
bool slots_create(struct machine *machine, GError **error);
/* Disks and network cards of the configuration. */
bool slots_fill(struct machine *machine, GError **error);
/* The guest begins anew: what it was asked to let go, it has. vCPUs are parked. */
void slots_reset(struct machine *machine);
/* Nothing is told any more. */
void slots_finish(struct machine *machine);
