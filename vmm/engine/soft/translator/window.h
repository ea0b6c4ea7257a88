// SPDX-License-Identifier: Apache-2.0
/*
 * Windows: guest memory at addresses of the host that follow from the guest's linear ones, so that
 * translated code needs no TLB. Here are those of supervisor code, the guest's upper half, reached
 * by a GS prefix, and what the engine says to both; user_window.h has those of user code. window.c
 * has the argument why that is right.
 *
 * An access may go through a window whose linear address lies in a slot of 512 GB of the upper half
 * (bits 63 to 39 are compared) and which is executed with supervisor rights in 64-bit mode. The
 * host's GS base is cpu->window_delta then. Where nothing is mapped the access raises SIGSEGV; the
 * translator leaves its code, calls soft_window_fault, and executes the instruction again or has it
 * interpreted.
 */
#pragma once

#include "vmm/engine/soft/cpu.h"

struct soft_windows;

/* The delta with which every access to the upper half raises SIGSEGV, whatever is mapped: it leads
 * to addresses of the host's kernel, but never into the last slot, where a page may be legible, nor
 * does the slot behind the last one of the guest. */
#define SOFT_WINDOW_NOWHERE (-(2UL << 39))

/* Whether this host (and this build) can: it lets user mode write the GS base. */
bool soft_windows_supported(void);

/* The windows of an engine's vCPUs, nothing mapped. NULL when there is no memory. */
struct soft_windows *soft_windows_create(struct memory *memory);
/* After the last vCPU left. */
void soft_windows_destroy(struct soft_windows *windows);

/* A vCPU has windows from now on, until it leaves. False when there are too many. */
bool soft_window_join(struct soft_windows *windows, struct soft_cpu *cpu);
void soft_window_leave(struct soft_cpu *cpu);

/* ---- for a vCPU; its thread, or while it is parked. Nothing without windows ---- */

/* This thread runs `cpu` from now on (NULL: none): load the GS base. */
void soft_window_load(struct soft_cpu *cpu);

/* Whether supervisor code may use windows now. */
bool soft_window_attached(const struct soft_cpu *cpu);

/* Before translated code guesses that an address is in the slot of `linear`, which is of the upper
 * half: reserve that slot, with its neighbours, for the rest of the engine's life. False when it
 * has no place. */
bool soft_window_reserve(struct soft_cpu *cpu, uint64_t linear);

/* CR3 was written; `kept`: without a flush. */
void soft_window_switch(struct soft_cpu *cpu, bool kept);
/* Paging was switched or altered, the rights of a protection key, or data breakpoints changed. */
void soft_window_update(struct soft_cpu *cpu);

/* The guest demands that translations be dropped: all of them with the global ones, or those of the
 * page of `linear`. */
void soft_window_flush(struct soft_cpu *cpu);
void soft_window_flush_page(struct soft_cpu *cpu, uint64_t linear);
/* Those that are not global: of the present PCID, or of one page of it; of others. */
void soft_window_flush_user(struct soft_cpu *cpu);
void soft_window_flush_user_page(struct soft_cpu *cpu, uint64_t linear);
void soft_window_flush_others(struct soft_cpu *cpu);

/* An interrupt is about to be delivered. */
void soft_window_sample(struct soft_cpu *cpu);

enum window_fault {
    WINDOW_ENTERED, /* the page is mapped now, do the access again */
    WINDOW_ABSENT,  /* the guest's tables do not allow it: have it interpreted */
    WINDOW_NEVER,   /* it is not to be in a window: have it interpreted, now and later */
};

/* An access to `linear` by a window raised SIGSEGV: of supervisor code in the upper half, of user
 * code in the lower one. Nothing was raised. A page with translated code is never mapped for
 * writing: the interpreter's write throws the code away first. */
enum window_fault soft_window_fault(struct soft_cpu *cpu, uint64_t linear, bool write);

/* Never show the guest-physical page to any vCPU: registers lie over it, for `cpu` at least. It
 * takes the place of the page that was named before; SOFT_TLB_NONE: there is none. */
void soft_window_set_hole(struct soft_cpu *cpu, uint64_t page);

/* ---- what memory/ says; any thread. At return no vCPU has such access ---- */

void soft_windows_unmapped(struct soft_windows *windows, uint64_t base, uint64_t size);
void soft_windows_protect(struct soft_windows *windows, uint64_t page);
