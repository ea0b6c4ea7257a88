// SPDX-License-Identifier: Apache-2.0
/*
 * Segmentation (SDM 3A, chapters 3 and 5): addresses, descriptors, and loading segment registers.
 *
 * The hidden part of a register is what counts for accesses; selector and descriptor table matter
 * only when it is loaded. Real mode changes no more than selector and base, so that limits set in
 * protected mode stay ("unreal mode"). Tables are read as a supervisor, whatever CPL is.
 */
#include "vmm/engine/soft/segment.h"

#define SUPERVISOR SOFT_MMU_SUPERVISOR

/* ---- addresses ---- */

static bool type_allows(const struct cpu_segment *segment, enum soft_access access)
{
    unsigned type = SEGMENT_TYPE(segment->attributes);

    if (access == SOFT_WRITE)
        return (type & (TYPE_CODE | TYPE_WRITABLE)) == TYPE_WRITABLE;
    return !(type & TYPE_CODE) || (type & TYPE_READABLE);
}

bool soft_segment_limit_allows(const struct cpu_segment *segment, uint64_t offset, unsigned size)
{
    uint64_t last = offset + size - 1;
    bool expand_down =
        (SEGMENT_TYPE(segment->attributes) & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN;

    if (!expand_down)
        return last <= segment->limit;
    return offset > segment->limit &&
           last <= (segment->attributes & SEGMENT_DB ? UINT32_MAX : UINT16_MAX);
}

uint64_t soft_segment_address(struct soft_cpu *cpu, unsigned segment, uint64_t offset,
                              unsigned size, enum soft_access access)
{
    const struct cpu_segment *seg = &cpu->seg[segment];
    unsigned vector = segment == SEG_SS ? EXC_SS : EXC_GP;

    if (cpu->flat)
        return segment < SEG_FS ? offset : offset + seg->base;
    if (soft_protected(cpu) && !soft_v86(cpu)) {
        if (seg->attributes & SEGMENT_UNUSABLE)
            soft_raise(cpu, vector, 0);
        if (!type_allows(seg, access))
            soft_raise(cpu, vector, 0);
    }
    if (!soft_segment_limit_allows(seg, offset, size))
        soft_raise(cpu, vector, 0);
    return (uint32_t)(seg->base + offset);
}

/* ---- descriptors ---- */

/* Where a selector's 8 bytes lie; false when any of `size` bytes is beyond the limit. */
static bool locate(const struct soft_cpu *cpu, uint16_t selector, unsigned size, uint64_t *linear)
{
    unsigned offset = selector & ~7U;
    const struct cpu_segment *ldt = &cpu->seg[SEG_LDTR];

    if (!(selector & SELECTOR_TI)) {
        *linear = soft_table_linear(cpu, cpu->gdtr.base, offset);
        return offset + size - 1 <= cpu->gdtr.limit;
    }
    if (ldt->attributes & SEGMENT_UNUSABLE)
        return false;
    *linear = soft_table_linear(cpu, ldt->base, offset);
    return offset + size - 1 <= ldt->limit;
}

bool soft_descriptor_read(struct soft_cpu *cpu, uint16_t selector, struct soft_descriptor *out)
{
    if (!locate(cpu, selector, 8, &out->linear))
        return false;
    out->raw = soft_read64_as(cpu, out->linear, SUPERVISOR);
    out->upper = 0;
    return true;
}

bool soft_descriptor_read_upper(struct soft_cpu *cpu, uint16_t selector,
                                struct soft_descriptor *descriptor)
{
    uint64_t linear;

    if (!locate(cpu, selector, 16, &linear))
        return false;
    descriptor->upper = soft_read64_as(cpu, linear + 8, SUPERVISOR);
    return true;
}

void soft_descriptor_get(struct soft_cpu *cpu, uint16_t selector, unsigned vector,
                         struct soft_descriptor *out)
{
    if (!soft_descriptor_read(cpu, selector, out))
        soft_raise(cpu, vector, SELECTOR_ERROR(selector));
}

/* Change the type byte as hardware does, with a lock. */
static void change_type(struct soft_cpu *cpu, uint64_t linear, uint8_t set, uint8_t clear)
{
    uint8_t *byte = soft_atomic_pointer(cpu, linear + 5, 1, SUPERVISOR);

    if (byte) {
        if (set)
            __atomic_fetch_or(byte, set, __ATOMIC_SEQ_CST);
        if (clear)
            __atomic_fetch_and(byte, (uint8_t)~clear, __ATOMIC_SEQ_CST);
        return;
    }
    soft_exclusive_begin(cpu);
    soft_write8_as(cpu, linear + 5, (soft_read8_as(cpu, linear + 5, SUPERVISOR) | set) & ~clear,
                   SUPERVISOR);
    soft_exclusive_end(cpu);
}

void soft_descriptor_set_type(struct soft_cpu *cpu, struct soft_descriptor *descriptor,
                              unsigned bits)
{
    if ((descriptor_type(descriptor->raw) & bits) == bits)
        return;
    change_type(cpu, descriptor->linear, bits, 0);
    descriptor->raw |= (uint64_t)bits << 40;
}

void soft_descriptor_clear_busy(struct soft_cpu *cpu, struct soft_descriptor *descriptor)
{
    change_type(cpu, descriptor->linear, 0, 2);
    descriptor->raw &= ~(2UL << 40);
}

/* ---- hidden parts ---- */

void soft_segment_set(struct soft_cpu *cpu, unsigned index, uint16_t selector, uint64_t raw)
{
    cpu->seg[index] = (struct cpu_segment){.selector = selector,
                                           .attributes = descriptor_attributes(raw),
                                           .limit = descriptor_limit(raw),
                                           .base = descriptor_base(raw)};
}

void soft_segment_set_null(struct soft_cpu *cpu, unsigned index, uint16_t selector, unsigned dpl)
{
    cpu->seg[index] = (struct cpu_segment){
        .selector = selector,
        .attributes = SEGMENT_UNUSABLE | (index == SEG_SS ? dpl << 5 : 0),
    };
}

void soft_segment_set_real(struct soft_cpu *cpu, unsigned index, uint16_t selector)
{
    struct cpu_segment *segment = &cpu->seg[index];

    if (segment->attributes & SEGMENT_UNUSABLE) {
        segment->attributes = 0x93;
        segment->limit = 0xffff;
    }
    segment->selector = selector;
    segment->base = (uint32_t)selector << 4;
}

void soft_segment_set_v86(struct soft_cpu *cpu, unsigned index, uint16_t selector)
{
    cpu->seg[index] = (struct cpu_segment){
        .selector = selector,
        .attributes = 0xf3,
        .limit = 0xffff,
        .base = (uint32_t)selector << 4,
    };
}

/* ---- loading ---- */

void soft_stack_segment_check(struct soft_cpu *cpu, uint16_t selector, unsigned cpl,
                              unsigned vector, struct soft_descriptor *out)
{
    soft_descriptor_get(cpu, selector, vector, out);
    if (SELECTOR_RPL(selector) != cpl || !descriptor_is_writable_data(out->raw) ||
        descriptor_dpl(out->raw) != cpl)
        soft_raise(cpu, vector, SELECTOR_ERROR(selector));
    if (!descriptor_present(out->raw))
        soft_raise(cpu, EXC_SS, SELECTOR_ERROR(selector));
}

static void load_stack_segment(struct soft_cpu *cpu, uint16_t selector)
{
    struct soft_descriptor descriptor;

    if (SELECTOR_NULL(selector)) {
        if (cpu->code_size != 8 || cpu->cpl == 3 || SELECTOR_RPL(selector) != cpu->cpl)
            soft_general_protection(cpu, 0);
        soft_segment_set_null(cpu, SEG_SS, selector, cpu->cpl);
        return;
    }
    soft_stack_segment_check(cpu, selector, cpu->cpl, EXC_GP, &descriptor);
    soft_descriptor_set_type(cpu, &descriptor, TYPE_ACCESSED);
    soft_segment_set(cpu, SEG_SS, selector, descriptor.raw);
}

/* Whether data of privilege DPL may be held at `cpl` under `rpl` (SDM 3A, 5.6). */
static bool data_reachable(uint64_t raw, unsigned cpl, unsigned rpl)
{
    unsigned conforming = TYPE_CODE | TYPE_CONFORMING;

    if ((descriptor_type(raw) & conforming) == conforming)
        return true;
    return cpl <= descriptor_dpl(raw) && rpl <= descriptor_dpl(raw);
}

void soft_data_segment_load(struct soft_cpu *cpu, unsigned index, uint16_t selector,
                            unsigned vector)
{
    struct soft_descriptor descriptor;
    bool readable;

    if (SELECTOR_NULL(selector)) {
        soft_segment_set_null(cpu, index, selector, 0);
        return;
    }
    soft_descriptor_get(cpu, selector, vector, &descriptor);
    readable = descriptor_is_segment(descriptor.raw) &&
               (descriptor_type(descriptor.raw) & (TYPE_CODE | TYPE_READABLE)) != TYPE_CODE;
    if (!readable || !data_reachable(descriptor.raw, cpu->cpl, SELECTOR_RPL(selector)))
        soft_raise(cpu, vector, SELECTOR_ERROR(selector));
    if (!descriptor_present(descriptor.raw))
        soft_raise(cpu, EXC_NP, SELECTOR_ERROR(selector));
    soft_descriptor_set_type(cpu, &descriptor, TYPE_ACCESSED);
    soft_segment_set(cpu, index, selector, descriptor.raw);
    if (cpu->cpl == 0 && !(selector & SELECTOR_TI)) {
        cpu->loaded[index].raw = descriptor.raw;
        cpu->loaded[index].value = cpu->seg[index];
    }
}

void soft_segment_load(struct soft_cpu *cpu, unsigned index, uint16_t selector)
{
    if (!soft_protected(cpu))
        soft_segment_set_real(cpu, index, selector);
    else if (soft_v86(cpu))
        soft_segment_set_v86(cpu, index, selector);
    else if (index == SEG_SS)
        load_stack_segment(cpu, selector);
    else
        soft_data_segment_load(cpu, index, selector, EXC_GP);
}

/* The descriptor of an LDT or TSS, whole, of one of the types in the set `types`. */
static void get_system_descriptor(struct soft_cpu *cpu, uint16_t selector, unsigned types,
                                  unsigned vector, struct soft_descriptor *out)
{
    uint32_t error = SELECTOR_ERROR(selector);

    if (selector & SELECTOR_TI)
        soft_raise(cpu, vector, error);
    soft_descriptor_get(cpu, selector, vector, out);
    if (soft_long_mode(cpu) && !soft_descriptor_read_upper(cpu, selector, out))
        soft_raise(cpu, vector, error);
    if (descriptor_is_segment(out->raw) || !(types >> descriptor_type(out->raw) & 1))
        soft_raise(cpu, vector, error);
    if (!descriptor_present(out->raw))
        soft_raise(cpu, vector == EXC_TS ? EXC_TS : EXC_NP, error);
    if (out->upper >> 40 & 31 || !soft_canonical(out->upper << 32 | descriptor_base(out->raw)))
        soft_raise(cpu, vector, error);
}

static void set_system_segment(struct soft_cpu *cpu, unsigned index, uint16_t selector,
                               const struct soft_descriptor *descriptor)
{
    soft_segment_set(cpu, index, selector, descriptor->raw);
    cpu->seg[index].base |= descriptor->upper << 32;
}

void soft_ldt_load(struct soft_cpu *cpu, uint16_t selector, unsigned vector)
{
    struct soft_descriptor descriptor;

    if (SELECTOR_NULL(selector)) {
        soft_segment_set_null(cpu, SEG_LDTR, selector, 0);
        return;
    }
    get_system_descriptor(cpu, selector, 1U << DESCRIPTOR_LDT, vector, &descriptor);
    set_system_segment(cpu, SEG_LDTR, selector, &descriptor);
}

void soft_task_register_load(struct soft_cpu *cpu, uint16_t selector)
{
    struct soft_descriptor descriptor;
    unsigned types = 1U << DESCRIPTOR_TSS | (soft_long_mode(cpu) ? 0 : 1U << DESCRIPTOR_TSS16);

    if (SELECTOR_NULL(selector))
        soft_general_protection(cpu, 0);
    get_system_descriptor(cpu, selector, types, EXC_GP, &descriptor);
    soft_descriptor_set_type(cpu, &descriptor, 2);
    set_system_segment(cpu, SEG_TR, selector, &descriptor);
}

void soft_drop_inner_segments(struct soft_cpu *cpu, unsigned cpl)
{
    static const uint8_t indices[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < sizeof(indices); i++) {
        struct cpu_segment *segment = &cpu->seg[indices[i]];
        unsigned type = SEGMENT_TYPE(segment->attributes), conforming = TYPE_CODE | TYPE_CONFORMING;

        if (!(segment->attributes & SEGMENT_UNUSABLE) && SEGMENT_DPL(segment->attributes) < cpl &&
            (type & conforming) != conforming)
            soft_segment_set_null(cpu, indices[i], 0, 0);
    }
}

/* ---- looking at descriptors (SDM 3A, 5.10) ---- */

static bool system_type_shown(const struct soft_cpu *cpu, unsigned type, enum soft_inspection what)
{
    unsigned types = 1U << DESCRIPTOR_LDT | 1U << DESCRIPTOR_TSS | 1U << DESCRIPTOR_TSS_BUSY;

    if (what == SOFT_INSPECT_VERR || what == SOFT_INSPECT_VERW)
        return false;
    if (what == SOFT_INSPECT_LAR)
        types |= 1U << DESCRIPTOR_CALL_GATE;
    if (!soft_long_mode(cpu)) {
        types |= 1U << DESCRIPTOR_TSS16 | 1U << DESCRIPTOR_TSS16_BUSY;
        if (what == SOFT_INSPECT_LAR)
            types |= 1U << DESCRIPTOR_CALL_GATE16 | 1U << DESCRIPTOR_TASK_GATE;
    }
    return types >> type & 1;
}

bool soft_descriptor_inspect(struct soft_cpu *cpu, uint16_t selector, enum soft_inspection what,
                             uint64_t *raw)
{
    struct soft_descriptor descriptor;
    unsigned type, rpl = SELECTOR_RPL(selector);

    if (SELECTOR_NULL(selector) || !soft_descriptor_read(cpu, selector, &descriptor))
        return false;
    *raw = descriptor.raw;
    type = descriptor_type(descriptor.raw);
    if (!descriptor_is_segment(descriptor.raw))
        return system_type_shown(cpu, type, what) && cpu->cpl <= descriptor_dpl(descriptor.raw) &&
               rpl <= descriptor_dpl(descriptor.raw);
    if (what == SOFT_INSPECT_VERR && (type & (TYPE_CODE | TYPE_READABLE)) == TYPE_CODE)
        return false;
    if (what == SOFT_INSPECT_VERW && !descriptor_is_writable_data(descriptor.raw))
        return false;
    return data_reachable(descriptor.raw, cpu->cpl, rpl);
}
