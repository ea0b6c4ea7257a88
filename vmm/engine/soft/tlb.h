// SPDX-License-Identifier: Apache-2.0
/*
 * Filling the TLB, for the misses in mmu.c. Flushes are in mem.h.
 */
#pragma once

#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/walk.h"

/* Host address of the guest's page at `page` (of its first byte) for reading, NULL for a hole; for
 * writing, NULL for what is no RAM, `*keep` as memory_write_begin gives it. Good until the TLB is
 * flushed. */
const uint8_t *soft_page_read(struct soft_cpu *cpu, uint64_t page);
uint8_t *soft_page_write(struct soft_cpu *cpu, uint64_t page, bool *keep);

bool soft_page_has_code(struct soft_cpu *cpu, uint64_t page);

/* Forget what these know of memory: it was remapped. */
void soft_page_forget(struct soft_cpu *cpu);

/* After a miss of `access` to the page of `linear`: bring its entry back if it was put out of its
 * slot lately. */
bool soft_tlb_recall(struct soft_cpu *cpu, unsigned mode, uint64_t linear, enum soft_access access);

/* Remember that `linear` in `mode` is the guest page at `physical`, which lies at `host` (start of
 * the page). Only `access` is entered; what the entry held of the same page stays. */
void soft_tlb_fill(struct soft_cpu *cpu, unsigned mode, uint64_t linear, enum soft_access access,
                   const struct soft_translation *translation, const void *host);
