// SPDX-License-Identifier: Apache-2.0
/*
 * Control, debug and extended control registers: their checks and what a change entails. On the
 * vCPU's thread.
 */
#pragma once

#include "vmm/engine/soft/system.h"

/* MOV to CR0, CR3, CR4 in the current mode: #GP(0) for what is reserved or inconsistent. */
void soft_write_cr0(struct soft_cpu *cpu, uint64_t value);
void soft_write_cr3(struct soft_cpu *cpu, uint64_t value);
void soft_write_cr4(struct soft_cpu *cpu, uint64_t value);

/* WRMSR of IA32_EFER: false for what is reserved by the model or LME under paging, a #GP. LMA is
 * read-only. */
bool soft_write_efer(struct soft_cpu *cpu, uint64_t value);

/* MOV to and from DRn after the privilege check: DR4 and DR5, general detect, reserved bits. */
void soft_write_dr(struct soft_cpu *cpu, unsigned index, uint64_t value);
uint64_t soft_read_dr(struct soft_cpu *cpu, unsigned index);

/* XSETBV of XCR0 after the privilege check. */
void soft_write_xcr0(struct soft_cpu *cpu, uint64_t value);

/* Set PKRU and drop the translations that it decided. */
void soft_write_pkru(struct soft_cpu *cpu, uint32_t value);

/* Note the I/O breakpoints on [port, port + size): a trap after the instruction. */
void soft_note_io_breakpoints(struct soft_cpu *cpu, uint16_t port, unsigned size);
