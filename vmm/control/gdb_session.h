// SPDX-License-Identifier: Apache-2.0
/*
 * One debugger's session: GDB's remote protocol over bytes that somebody else carries, against a
 * target that somebody else provides. vCPU n is thread n + 1. All vCPUs stop together ("all-stop");
 * those run on that the debugger names, so that a step of one leaves others parked where it asks
 * for that ("scheduler-locking", and whenever it steps over a breakpoint).
 */
#pragma once

#include "vmm/engine/engine.h"
#include "vmm/memory/memory.h"

#include <glib.h>

/* What is debugged. All calls come from inside a gdb_session function. */
struct gdb_target {
    unsigned cpus;
    struct memory *memory;
    /* Park all vCPUs, or let them run; both idempotent. resume: false when they cannot. */
    void (*pause)(void *opaque);
    bool (*resume)(void *opaque);
    /* Whether a vCPU stays parked when the others are resumed. */
    void (*hold)(void *opaque, unsigned cpu, bool hold);
    /* The rest is called only while they are parked. */
    void (*get_state)(void *opaque, unsigned cpu, struct cpu_state *state);
    bool (*set_state)(void *opaque, unsigned cpu, const struct cpu_state *state);
    bool (*set_debug)(void *opaque, unsigned cpu, const struct vcpu_debug *debug);
    bool (*translate)(void *opaque, unsigned cpu, uint64_t linear, uint64_t *physical);
    /* End the machine ("kill"). */
    void (*kill)(void *opaque);
    /* Bytes for the debugger. */
    void (*send)(void *opaque, const void *data, size_t size);
    void *opaque;
};

struct gdb_session;

/* Pauses the target. `target` is copied. */
struct gdb_session *gdb_session_create(const struct gdb_target *target);

/* The debugger has gone without a word: take its breakpoints away and let the machine go on. */
void gdb_session_leave(struct gdb_session *session);

/* Frees; does not touch the target. NULL is fine. */
void gdb_session_destroy(struct gdb_session *session);

/* Bytes from the debugger. False when it has detached or killed: then the session is over. */
bool gdb_session_feed(struct gdb_session *session, const void *data, size_t size);

/* A vCPU met a breakpoint or ended its step, and all are parked. */
void gdb_session_stopped(struct gdb_session *session, unsigned cpu);

/* The machine ended; nothing follows. */
void gdb_session_ended(struct gdb_session *session, int status);
