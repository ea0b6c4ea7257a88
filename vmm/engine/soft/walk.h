// SPDX-License-Identifier: Apache-2.0
/*
 * Page walks (SDM 3A, chapter 4): from a linear address to a guest-physical one with its rights.
 */
#pragma once

#include "vmm/engine/soft/cpu.h"

/* Bits of a #PF error code (SDM 3A, 4.7). */
enum soft_page_fault {
    PAGE_FAULT_PRESENT = 1 << 0,
    PAGE_FAULT_WRITE = 1 << 1,
    PAGE_FAULT_USER = 1 << 2,
    PAGE_FAULT_RESERVED = 1 << 3,
    PAGE_FAULT_FETCH = 1 << 4,
    PAGE_FAULT_KEY = 1 << 5,
};

/* What a walk found. */
struct soft_translation {
    uint64_t physical; /* of the linear address itself */
    uint8_t shift;     /* of the page: 12, 21, 22, 30; 12 without paging */
    bool global;
    /* Of all levels together: user pages, write permission, accessed bits; of the last: dirty. */
    bool user, writable, accessed, dirty;
};

/* Walk for an access of `mode` (enum soft_mmu_mode), check it, set A and D as hardware does.
 * false: the access faults, `*error` is the #PF error code and nothing was changed. `linear` is
 * canonical. On the vCPU's thread. */
bool soft_walk(struct soft_cpu *cpu, uint64_t linear, enum soft_access access, unsigned mode,
               struct soft_translation *out, uint32_t *error);

/* The same for a debugger: no rights are checked, nothing is changed. false when not mapped. */
bool soft_walk_quietly(struct soft_cpu *cpu, uint64_t linear, struct soft_translation *out);

/* The entries that lead to a page, as they are in the guest's tables now, with where they lie. */
struct soft_path {
    uint64_t root; /* guest-physical address of the first table */
    unsigned count;
    uint64_t gpa[4], entry[4];
    struct soft_translation translation;
};

/* As soft_walk_quietly, and how it came there. False for paging of 32-bit entries and without
 * paging, too. */
bool soft_walk_path(struct soft_cpu *cpu, uint64_t linear, struct soft_path *path);

/* Whether the first `count` entries of a path to `linear` are what a walk would find now. */
bool soft_path_holds(struct soft_cpu *cpu, uint64_t linear, const struct soft_path *path,
                     unsigned count);

/* Load the four PDPTEs of PAE paging from the table that `cr3` names (SDM 3A, 4.4.1). false: one of
 * them has reserved bits set, a #GP; cpu->pdptr is then as it was. */
bool soft_load_pdptr(struct soft_cpu *cpu, uint64_t cr3);
