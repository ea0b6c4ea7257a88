// SPDX-License-Identifier: Apache-2.0
/*
 * A machine: memory, clock, engine, vCPU threads and the devices of the board, and its life.
 *
 *     machine_create -> paused -> machine_resume <-> machine_pause ... ended -> machine_destroy
 *
 * Threads: everything here is called on one thread, the control thread, which runs the GMainContext
 * that was its default at machine_create. What the guest asks for on a vCPU's thread (reset,
 * power-off, exit, crash) parks the vCPUs at once and is carried out from that context. vCPUs are
 * parked at an instruction's boundary whenever the machine is not running, so their state, the
 * devices' and memory may be read and changed then.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/block/block.h"
#include "vmm/device/device.h"
#include "vmm/engine/engine.h"
#include "vmm/net/link.h"
#include "vmm/util/chardev.h"
#include "vmm/util/loop.h"

#define MACHINE_CPUS_MAX    255
#define MACHINE_SERIALS     2
#define MACHINE_MODULES_MAX 64
#define MACHINE_DISKS_MAX   16
#define MACHINE_NICS_MAX    8
#define MACHINE_SLOTS       8  /* behind root ports, for what comes and goes */
#define MACHINE_PORTS_MAX   30 /* named ports of the virtio console */

struct machine;

enum machine_on_reboot {
    MACHINE_REBOOT_RESTART, /* from power-on, with the kernel loaded again */
    MACHINE_REBOOT_EXIT,    /* end as a power-off does */
};

enum machine_on_crash {
    MACHINE_CRASH_EXIT,
    MACHINE_CRASH_PAUSE,
    MACHINE_CRASH_RESTART,
};

enum machine_state {
    MACHINE_PAUSED,  /* created, paused, or stopped by the debugger */
    MACHINE_RUNNING, /* vCPUs run and time passes */
    MACHINE_CRASHED, /* paused for good by the crash policy: only reset or the end is left */
    MACHINE_ENDED,
};

/* Why a machine ended. */
enum machine_end {
    MACHINE_END_POWER_OFF, /* by the guest, or by a reboot under MACHINE_REBOOT_EXIT */
    MACHINE_END_EXIT,      /* isa-debug-exit: `status` is the device's own */
    MACHINE_END_CRASH,     /* triple fault or pvpanic under MACHINE_CRASH_EXIT */
    MACHINE_END_STOPPED,   /* machine_stop */
    MACHINE_END_FAILED,    /* the engine could not go on */
};

/* A file to boot, as an open descriptor that the machine reads again at each restart. */
struct machine_image {
    int fd;                /* -1: none; stays the caller's, and open while the machine lives */
    const char *name;      /* for messages */
    const char *arguments; /* command line; NULL: none, for a module its name */
};

struct machine_config {
    const char *name;
    const struct engine_ops *engine;
    int kvm_fd;                       /* for engine kvm, else not read; must outlive the machine */
    const struct engine_debug *debug; /* NULL: nothing; must outlive the machine, and its files */
    const char *cpu_model;
    unsigned cpus;
    uint64_t memory_size; /* bytes, whole pages */
    struct loop *loop; /* the devices' I/O thread; outlives the machine. NULL: no device needs it */

    struct machine_image kernel; /* its `arguments` are the command line */
    struct machine_image initrd;
    struct machine_image modules[MACHINE_MODULES_MAX]; /* multiboot */
    unsigned module_count;
    bool incoming; /* nothing to boot: machine_load brings the state */
    /* Incoming, in place of another process's machine and over its RAM: `ram_fd`, a memory file of
     * just memory_size, sealed against shrinking; stays the caller's. */
    bool takes_over;
    int ram_fd; /* not read otherwise */
    /* Incoming: the processors that the state was saved on, to be had bit by bit; else NULL and
     * `cpu_model` says what they are. Copied. */
    const struct cpu_definition *cpu;

    /* What the serial ports and the debug console are plugged into; NULL: nothing. They stay the
     * caller's and outlive the machine. */
    struct chardev *serial[MACHINE_SERIALS];
    bool debug_exit;               /* isa-debug-exit */
    bool testdev;                  /* pc-testdev */
    struct chardev *debug_console; /* port E9h; NULL: no such device */
    struct chardev *console;       /* a virtio console; NULL: none */
    /* Named ports beside it. The names are copied. */
    struct machine_port {
        const char *name;
        struct chardev *chardev;
    } ports[MACHINE_PORTS_MAX];
    unsigned port_count;
    /* Disks and network cards have an id of their own, and a place: a device number of bus 0, or
     * that of a root port. Ids are copied. */
    struct machine_disk {
        const char *id;
        struct machine_place {
            uint8_t port;   /* from 1; 0: bus 0 */
            uint8_t device; /* on bus 0 */
        } place;
        struct block *block; /* on `loop`; stays the caller's, and outlives the machine */
        const char *serial;  /* NULL: none; copied */
        bool writethrough, discard;
    } disks[MACHINE_DISKS_MAX];
    unsigned disk_count;
    /* Network cards. The links stay the caller's and outlive the machine. */
    struct machine_nic {
        const char *id;
        struct machine_place place;
        struct net_link *link; /* NULL: no cable */
        uint8_t mac[6];
        uint16_t mtu;     /* 0: the guest is not told */
        bool pulled;      /* the cable is not plugged in, whatever it leads to */
        uint64_t rate;    /* bytes a second in each direction; 0: any number */
        int64_t burst_ns; /* so much time's worth of it may be saved up */
    } nics[MACHINE_NICS_MAX];
    unsigned nic_count;
    uint8_t console_device; /* device number of the virtio console on bus 0, if there is one */
    bool pvpanic;
    bool virtio_rng;
    uint8_t rng_device; /* its device number on bus 0 */
    uint64_t rng_rate;  /* bytes a second for the guest's virtio-rng; 0: any number */

    enum machine_on_reboot on_reboot;
    enum machine_on_crash on_crash;

    /* Told on the control thread. Any may be NULL. */
    struct machine_listener {
        /* Paused, running, crashed; `reason` is one phrase, or NULL. */
        void (*changed)(void *opaque, enum machine_state state, const char *reason);
        /* The guest was restarted. */
        void (*restarted)(void *opaque, const char *reason);
        /* The guest has let go of the device `id`, as machine_release asked; it may be detached in
         * here. */
        void (*released)(void *opaque, const char *id);
        /* The last call: nothing runs any more. */
        void (*ended)(void *opaque, enum machine_end end, int status, const char *reason);
        void *opaque;
    } listener;
};

/* What machine_query tells. */
struct machine_status {
    enum machine_state state;
    const char *engine; /* static */
    const char *cpu_model;
    unsigned cpus;
    uint64_t memory_size;
    int64_t clock_ns; /* of machine time */
    uint64_t guest_errors;
    bool exits_counted; /* by this engine */
    uint64_t exits[ENGINE_EXITS];
};

/* Build the board, load the kernel, leave everything paused at the first instruction. The config's
 * strings are copied. NULL and `error` on failure. */
struct machine *machine_create(const struct machine_config *config, GError **error);
/* Ends it first if need be. NULL is fine. */
void machine_destroy(struct machine *machine);

/* Let vCPUs run and time pass. False when it crashed or ended, or is being saved. Idempotent. */
bool machine_resume(struct machine *machine);
/* Park the vCPUs and stop time; returns when that is so, in milliseconds. Idempotent. */
void machine_pause(struct machine *machine);
/* Power-on state and the kernel loaded again; goes on running if it ran. On false it counts as
 * crashed. */
bool machine_reset(struct machine *machine, const char *reason, GError **error);
/* End it; `ended` of the listener is called before this returns. Idempotent. */
void machine_stop(struct machine *machine);
/* Press the power button: the guest's operating system decides. */
void machine_press_power_button(struct machine *machine);
void machine_query(struct machine *machine, struct machine_status *status);

/* ---- devices that come and go, by their ids ---- */

/* Make a disk or a network card behind the root port that is its place, and tell the guest. What it
 * is plugged into stays the caller's and lives until it is detached. false and `error` when the
 * place or the id is taken, or is none; nothing was touched then. */
bool machine_attach_disk(struct machine *machine, const struct machine_disk *disk, GError **error);
bool machine_attach_nic(struct machine *machine, const struct machine_nic *nic, GError **error);

/* Wait for the guest to let go of the device, and with `ask` press the slot's attention button: the
 * listener's `released` follows, never from in here, or not at all. A guest that is reset has let
 * go as well. false and `error` when nothing behind a root port has this id. */
bool machine_release(struct machine *machine, const char *id, bool ask, GError **error);
/* Nobody waits any more. */
void machine_release_cancel(struct machine *machine, const char *id);
/* Take the device out, whether the guest has let go or not; at return nothing of it is left, and
 * what was under way is finished. */
void machine_detach(struct machine *machine, const char *id);

/* What follows a reboot and a crash from now on, as in the config. */
void machine_set_policies(struct machine *machine, enum machine_on_reboot on_reboot,
                          enum machine_on_crash on_crash);

/* ---- parts, for the debugger, streams, metrics and tests; use them only while it is paused, but
 * for what any thread may do ---- */

struct memory *machine_memory(struct machine *machine);
struct clock *machine_clock(struct machine *machine);
const struct engine_ops *machine_engine(struct machine *machine);
unsigned machine_cpus(struct machine *machine);
struct vcpu *machine_vcpu(struct machine *machine, unsigned index);
/* The device called `id`, or NULL. */
struct device *machine_device(struct machine *machine, const char *id);

/* An NMI at every vCPU, as from the button of a server: boards wire it to all of them. */
void machine_nmi(struct machine *machine);

/* Whether a vCPU stays parked while the machine runs. Control thread. */
void machine_hold(struct machine *machine, unsigned cpu, bool hold);

/* A debugger's ear: called on the control thread when a vCPU met a breakpoint or ended a single
 * step; the machine is paused then. NULL takes it away. */
void machine_set_debugger(struct machine *machine, void (*stopped)(void *opaque, unsigned cpu),
                          void *opaque);
