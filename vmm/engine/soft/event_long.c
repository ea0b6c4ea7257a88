// SPDX-License-Identifier: Apache-2.0
/*
 * Events and returns in long mode as they usually are (SDM 3A, 6.14; SDM 2, IRET): a gate of the
 * IDT that leads to 64-bit code of privilege 0, an IRETQ from it to 64-bit code. All that is read
 * is read as always, by the TLB; what is checked one by one in deliver.c and iret.c is compared
 * here at once with what a descriptor without fault looks like, and a stack frame lies in one page
 * that hits. Nothing has changed where one of these returns false: the general way finds out why.
 */
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/transfer.h"

#define TSS_RSP0       4U
#define TSS_IST(index) (36U + ((index)-1) * 8)
#define CLEARED_FLAGS  (FLAG_TF | FLAG_VM | FLAG_RF | FLAG_NT)

/* Access byte and flags of a descriptor, in place: present, accessed; 64-bit code that does not
 * conform, writable data. */
#define CODE_MASK   0x0060fd0000000000UL
#define CODE_VALUE  0x0020990000000000UL
#define DATA_MASK   0x0000fb0000000000UL
#define DATA_VALUE  0x0000930000000000UL
#define DPL_AT(dpl) ((uint64_t)(dpl) << 45)

/* An interrupt or trap gate that is present. */
#define GATE_MASK  0x00009e0000000000UL
#define GATE_VALUE 0x00008e0000000000UL

/* Host address of `size` bytes of the stack at `linear`, or NULL. */
static uint64_t *stack_frame(struct soft_cpu *cpu, uint64_t linear, unsigned size, bool write,
                             unsigned mode)
{
    const struct soft_tlb_entry *entry = soft_tlb_slot(cpu, mode, linear);

    if ((write ? entry->write_tag : entry->read_tag) != SOFT_TAG(linear, size) || (linear & 7))
        return NULL;
    return (uint64_t *)(entry->host + linear);
}

/* The GDT's descriptor for `selector`; false for a null one, and one that is not there. */
static bool read_descriptor(struct soft_cpu *cpu, uint16_t selector, uint64_t *raw)
{
    unsigned offset = selector & ~7U;

    if (selector & SELECTOR_TI || SELECTOR_NULL(selector) || offset + 7 > cpu->gdtr.limit)
        return false;
    *raw = soft_read64_as(cpu, cpu->gdtr.base + offset, SOFT_MMU_SUPERVISOR);
    return true;
}

/* The stack that the event is delivered on: that of the TSS, or the present one. */
static bool find_stack(struct soft_cpu *cpu, unsigned ist, uint64_t *rsp)
{
    const struct cpu_segment *tr = &cpu->seg[SEG_TR];
    unsigned offset = ist ? TSS_IST(ist) : TSS_RSP0;

    if (!ist && cpu->cpl == 0) {
        *rsp = cpu->gpr[GPR_RSP];
        return true;
    }
    if ((tr->attributes & SEGMENT_UNUSABLE) || offset + 7 > tr->limit)
        return false;
    *rsp = soft_read64_as(cpu, tr->base + offset, SOFT_MMU_SUPERVISOR);
    return true;
}

bool soft_deliver_usual(struct soft_cpu *cpu, uint8_t vector, const uint32_t *error,
                        uint64_t return_rip)
{
    unsigned size = error ? 48 : 40, mode;
    uint64_t gate, upper, offset, code, rsp, *frame, words[6];

    if (vector * 16U + 15 > cpu->idtr.limit || (cpu->cpl != 0 && cpu->cpl != 3))
        return false;
    gate = soft_read64_as(cpu, cpu->idtr.base + vector * 16U, SOFT_MMU_SUPERVISOR);
    upper = soft_read64_as(cpu, cpu->idtr.base + vector * 16U + 8, SOFT_MMU_SUPERVISOR);
    offset = (gate & 0xffff) | (gate >> 32 & 0xffff0000) | upper << 32;
    if ((gate & GATE_MASK) != GATE_VALUE || !soft_canonical(offset) ||
        !read_descriptor(cpu, (uint16_t)(gate >> 16), &code) || (code & CODE_MASK) != CODE_VALUE ||
        !find_stack(cpu, gate >> 32 & 7, &rsp))
        return false;
    mode = cpu->cpl == 0 && !(gate >> 32 & 7) ? cpu->mmu_mode : SOFT_MMU_SUPERVISOR;
    rsp = (rsp & ~15UL) - size;
    frame = stack_frame(cpu, rsp, size, true, mode);
    if (!frame)
        return false;

    words[0] = error ? *error : 0;
    words[1] = return_rip;
    words[2] = cpu->seg[SEG_CS].selector;
    words[3] = cpu->rflags;
    words[4] = cpu->gpr[GPR_RSP];
    words[5] = cpu->seg[SEG_SS].selector;
    soft_copy(frame, error ? words : words + 1, size);
    if (cpu->cpl != 0)
        soft_segment_set_null(cpu, SEG_SS, 0, 0);
    cpu->gpr[GPR_RSP] = rsp;
    soft_segment_set(cpu, SEG_CS, (uint16_t)(gate >> 16) & ~3U, code);
    cpu->rip = cpu->next_rip = offset;
    cpu->rflags &= ~(CLEARED_FLAGS | (gate >> 40 & 1 ? 0 : FLAG_IF));
    soft_update_mode(cpu);
    return true;
}

/* Whether `selector` may be SS at privilege `cpl`; `*raw` is 0 for a null one. */
static bool check_stack_segment(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                                uint64_t *raw)
{
    *raw = 0;
    if (SELECTOR_RPL(selector) != cpl)
        return false;
    if (SELECTOR_NULL(selector))
        return cpl != 3;
    return read_descriptor(cpu, selector, raw) && (*raw & DATA_MASK) == (DATA_VALUE | DPL_AT(cpl));
}

bool soft_return_usual(struct soft_cpu *cpu)
{
    uint64_t mask = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_TF | FLAG_DF | FLAG_OF |
                    FLAG_NT | FLAG_RF | FLAG_AC | FLAG_ID | FLAG_IF | FLAG_IOPL | FLAG_VIF |
                    FLAG_VIP;
    const uint64_t *frame = stack_frame(cpu, cpu->gpr[GPR_RSP], 40, false, cpu->mmu_mode);
    uint64_t rip, rflags, rsp, code, stack, words[5];
    uint16_t cs, ss;
    unsigned cpl;

    if (!frame || cpu->cpl != 0 || (cpu->rflags & FLAG_NT))
        return false;
    soft_copy(words, frame, sizeof(words));
    rip = words[0];
    cs = (uint16_t)words[1];
    rflags = words[2];
    rsp = words[3];
    ss = (uint16_t)words[4];
    cpl = SELECTOR_RPL(cs);
    if (!soft_canonical(rip) || !read_descriptor(cpu, cs, &code) ||
        (code & CODE_MASK) != (CODE_VALUE | DPL_AT(cpl)) ||
        !check_stack_segment(cpu, ss, cpl, &stack))
        return false;

    if (stack)
        soft_segment_set(cpu, SEG_SS, ss, stack);
    else
        soft_segment_set_null(cpu, SEG_SS, ss, cpl);
    cpu->gpr[GPR_RSP] = rsp;
    soft_segment_set(cpu, SEG_CS, cs, code);
    cpu->rip = cpu->next_rip = rip;
    cpu->rflags = (cpu->rflags & ~mask) | (rflags & mask) | FLAG_FIXED;
    if (cpl)
        soft_drop_inner_segments(cpu, cpl);
    soft_update_mode(cpu);
    return true;
}
