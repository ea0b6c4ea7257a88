// SPDX-License-Identifier: Apache-2.0
/*
 * Memory as an instruction sees it: segmentation, paging, pages that cross, MMIO. The TLB hit is
 * inline; the rest is in mmu.c.
 */
#pragma once

#include <string.h>

#include "vmm/engine/soft/cpu.h"

/* Linear address of an explicit operand of `size` bytes at `offset` in `segment`: adds the base,
 * checks limit, type and (in 64-bit mode, lazily: on the TLB miss) canonicality; raises #GP or #SS.
 */
uint64_t soft_segment_address(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                              unsigned size, enum soft_access access);

/* Usable, writable data that grows up (SDM 3A, 3.4.5.1: type bits code, expand-down, writable). */
#define SEGMENT_IS_PLAIN(attributes) (((attributes) & (SEGMENT_UNUSABLE | 14U)) == 2U)

/* The whole access after a TLB miss, in pieces where it crosses pages: walks, sets A and D,
 * refills, goes to MMIO. `mode` is enum soft_mmu_mode. May raise; a write that crosses pages raises
 * before its first byte is stored. */
void soft_read_slow(struct soft_cpu *cpu, uint64_t linear, void *out, unsigned size, unsigned mode);
void soft_write_slow(struct soft_cpu *cpu, uint64_t linear, const void *in, unsigned size,
                     unsigned mode);

/* Raise now what a write of [linear, linear+size) would raise. */
void soft_probe_write(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode);
void soft_probe_read(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode);

/* Host address for an atomic read-modify-write of `size` bytes by an instruction of the host, or
 * NULL when it crosses into a page that lies elsewhere or is not RAM: then the caller does it under
 * soft_exclusive_begin/_end, while no other vCPU executes anything (coherence.c). begin may drop
 * the TLB: what was a host address before is none any more. */
void *soft_atomic_pointer(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode);
void soft_exclusive_begin(struct soft_cpu *cpu);
void soft_exclusive_end(struct soft_cpu *cpu);

/* After a miss of translated code that reads or writes the page of `linear`, in the current mode:
 * find the page and enter it. True: the access hits now, if it stays within the page. False:
 * something is special about it (a fault, a device's register, a page whose writes are watched),
 * nothing was raised, and nothing was changed but accessed and dirty bits of an access that is
 * allowed: the interpreter's handler of the instruction has to do it. */
bool soft_tlb_refill(struct soft_cpu *cpu, uint64_t linear, enum soft_access access);

/* Make the TLB empty, whatever it held: a new vCPU needs this. */
void soft_tlb_init(struct soft_cpu *cpu);

/* Forget translations: everything of all PCIDs, or of the current PCID all but global pages; one
 * page of the current PCID in all modes. */
void soft_tlb_flush(struct soft_cpu *cpu, bool global_too);
void soft_tlb_flush_page(struct soft_cpu *cpu, uint64_t linear);

/* CR3 changes to another PCID: `keep` says that the translations of that are still good. */
void soft_tlb_switch(struct soft_cpu *cpu, uint64_t from, uint64_t to, bool keep);
/* Forget all but global pages of a PCID that is not the current one; of all that are not. */
/* Forget users' translations of addresses above 4 GB, before 32-bit code runs: what it computes is
 * compared with tags in 64 bits, where a sum that ran over, or a register that 64-bit code left,
 * must hit nothing. */
void soft_tlb_drop_high(struct soft_cpu *cpu);
void soft_tlb_flush_context(struct soft_cpu *cpu, unsigned pcid);
void soft_tlb_flush_contexts(struct soft_cpu *cpu);
/* Drop writable entries whose page is guest-physical `page` (it now holds code, or is protected).
 */
void soft_tlb_protect(struct soft_cpu *cpu, uint64_t page);

/* Guest-physical address of a linear one as a supervisor read that changes nothing would find it.
 */
bool soft_translate(struct soft_cpu *cpu, uint64_t linear, uint64_t *physical);

/* The miss of soft_fetch_page. */
const uint8_t *soft_fetch_slow(struct soft_cpu *cpu, uint64_t linear, uint64_t *gpa);

static inline struct soft_tlb_entry *soft_tlb_slot(struct soft_cpu *cpu, unsigned mode,
                                                   uint64_t linear)
{
    return &cpu->tlb[mode][linear >> 12 & (SOFT_TLB_ENTRIES - 1)];
}

/* The tag that an access of `size` bytes must find: an access that crosses its page looks for the
 * next page's tag in this page's slot, and misses. */
#define SOFT_TAG(linear, size) (((linear) + (size)-1) & ~0xfffUL)

/* What moves a guest's bytes, for which its CPUs may race as they may on hardware, or touches
 * nothing but what one thread has: not for ThreadSanitizer to judge. (The files of single
 * instructions are built without it as a whole: meson.build.) */
#if defined(__SANITIZE_THREAD__) || defined(SOFT_OUTSIDE_TSAN)
#define SOFT_UNORDERED __attribute__((no_sanitize("thread")))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SOFT_UNORDERED __attribute__((no_sanitize("thread")))
#endif
#endif

/* memcpy for them: the library's is looked into wherever it is called from. */
static inline void soft_copy(void *to, const void *from, size_t size)
{
#ifdef SOFT_UNORDERED
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
#else
    memcpy(to, from, size);
#endif
}
#ifndef SOFT_UNORDERED
#define SOFT_UNORDERED
#endif

#define SOFT_DEFINE_ACCESS(bits)                                                                   \
    SOFT_UNORDERED static inline uint##bits##_t soft_read##bits##_as(                              \
        struct soft_cpu *cpu, uint64_t linear, unsigned mode)                                      \
    {                                                                                              \
        struct soft_tlb_entry *entry = soft_tlb_slot(cpu, mode, linear);                           \
        uint##bits##_t value;                                                                      \
        if (__builtin_expect(entry->read_tag == SOFT_TAG(linear, bits / 8), 1))                    \
            memcpy(&value, (const void *)(entry->host + linear), sizeof(value));                   \
        else                                                                                       \
            soft_read_slow(cpu, linear, &value, sizeof(value), mode);                              \
        return value;                                                                              \
    }                                                                                              \
    SOFT_UNORDERED static inline void soft_write##bits##_as(struct soft_cpu *cpu, uint64_t linear, \
                                                            uint##bits##_t value, unsigned mode)   \
    {                                                                                              \
        struct soft_tlb_entry *entry = soft_tlb_slot(cpu, mode, linear);                           \
        if (__builtin_expect(entry->write_tag == SOFT_TAG(linear, bits / 8), 1))                   \
            memcpy((void *)(entry->host + linear), &value, sizeof(value));                         \
        else                                                                                       \
            soft_write_slow(cpu, linear, &value, sizeof(value), mode);                             \
    }                                                                                              \
    static inline uint##bits##_t soft_read##bits(struct soft_cpu *cpu, uint64_t linear)            \
    {                                                                                              \
        return soft_read##bits##_as(cpu, linear, cpu->mmu_mode);                                   \
    }                                                                                              \
    static inline void soft_write##bits(struct soft_cpu *cpu, uint64_t linear,                     \
                                        uint##bits##_t value)                                      \
    {                                                                                              \
        soft_write##bits##_as(cpu, linear, value, cpu->mmu_mode);                                  \
    }
SOFT_DEFINE_ACCESS(8)
SOFT_DEFINE_ACCESS(16)
SOFT_DEFINE_ACCESS(32)
SOFT_DEFINE_ACCESS(64)

/* Any number of bytes up to a page (vectors, x87 images). */
SOFT_UNORDERED static inline void soft_read_bytes(struct soft_cpu *cpu, uint64_t linear, void *out,
                                                  unsigned size)
{
    struct soft_tlb_entry *entry = soft_tlb_slot(cpu, cpu->mmu_mode, linear);
    if (entry->read_tag == SOFT_TAG(linear, size))
        soft_copy(out, (const void *)(entry->host + linear), size);
    else
        soft_read_slow(cpu, linear, out, size, cpu->mmu_mode);
}

SOFT_UNORDERED static inline void soft_write_bytes(struct soft_cpu *cpu, uint64_t linear,
                                                   const void *in, unsigned size)
{
    struct soft_tlb_entry *entry = soft_tlb_slot(cpu, cpu->mmu_mode, linear);
    if (entry->write_tag == SOFT_TAG(linear, size))
        soft_copy((void *)(entry->host + linear), in, size);
    else
        soft_write_slow(cpu, linear, in, size, cpu->mmu_mode);
}

static inline struct soft_tlb_entry *soft_fetch_slot(struct soft_cpu *cpu, uint64_t linear)
{
    return soft_tlb_slot(cpu, cpu->cpl == 3 ? SOFT_MMU_USER_FETCH : SOFT_MMU_SUPERVISOR_FETCH,
                         linear);
}

/* Make all marks void: the numbers get another meaning. */
void soft_fetch_forget(struct soft_cpu *cpu);

/* The mark of the line that fetches of `linear` in the current mode hit: see soft_cpu.fetch_id. May
 * be set after soft_fetch_page of `linear` gave an address, before anything else fills the TLB. */
static inline uint32_t *soft_fetch_id(struct soft_cpu *cpu, uint64_t linear)
{
    return &cpu->fetch_id[cpu->cpl == 3][linear >> 12 & (SOFT_TLB_ENTRIES - 1)];
}

/* Translate `linear` for an instruction fetch (SOFT_FETCH: NX, SMEP; user or supervisor by CPL).
 * Returns the host address of that byte and the guest-physical one in `*gpa`; both are good to the
 * page's end. NULL when no RAM or ROM is there: such code reads as 0xff. Raises #PF, and #GP where
 * the address is not canonical. */
static inline const uint8_t *soft_fetch_page(struct soft_cpu *cpu, uint64_t linear, uint64_t *gpa)
{
    const struct soft_tlb_entry *entry = soft_fetch_slot(cpu, linear);

    if (__builtin_expect(entry->read_tag != (linear & ~0xfffUL), 0))
        return soft_fetch_slow(cpu, linear, gpa);
    *gpa = entry->page | (linear & 0xfff);
    return (const uint8_t *)(entry->host + linear);
}

/* Offset of the memory operand within its segment, wrapped to the address size. */
static inline uint64_t soft_operand_offset(const struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t offset = insn->displacement;

    if (insn->base < GPR_COUNT)
        offset += cpu->gpr[insn->base];
    else if (insn->base == INSN_RIP)
        offset += cpu->rip + insn->length;
    if (insn->index < GPR_COUNT)
        offset += cpu->gpr[insn->index] << insn->scale;
    if (insn->address_size == 8)
        return offset;
    return insn->address_size == 4 ? (uint32_t)offset : (uint16_t)offset;
}

/* Linear address of [offset, offset + size) of `segment`, checked: inline in 64-bit mode, and where
 * the segment is writable data that grows up, to which nothing but its limit matters. */
static inline uint64_t soft_linear_address(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                                           unsigned size, enum soft_access access)
{
    const struct cpu_segment *seg = &cpu->seg[segment];

    if (__builtin_expect(cpu->flat, 1))
        return segment < SEG_FS ? offset : offset + seg->base;
    if (SEGMENT_IS_PLAIN(seg->attributes) && offset + size - 1 <= seg->limit)
        return (uint32_t)(seg->base + offset);
    return soft_segment_address(cpu, segment, offset, size, access);
}

/* Linear address of the memory operand, checked for an access of `size` bytes. */
static inline uint64_t soft_operand_address(struct soft_cpu *cpu, const struct insn *insn,
                                            unsigned size, enum soft_access access)
{
    if (__builtin_expect(insn->plain, 1)) {
        uint64_t linear = cpu->gpr[insn->base] + insn->displacement;

        return insn->index < GPR_COUNT ? linear + (cpu->gpr[insn->index] << insn->scale) : linear;
    }
    return soft_linear_address(cpu, insn->segment, soft_operand_offset(cpu, insn), size, access);
}
