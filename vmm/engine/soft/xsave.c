// SPDX-License-Identifier: Apache-2.0
/*
 * Saving and restoring vector and x87 state as a whole: FXSAVE, FXRSTOR (SDM 1, 10.5) and the XSAVE
 * family (SDM 1, chapter 13) for the components x87, SSE and AVX.
 *
 * A component is "in use" when it differs from its initial state; that is the tracking which the
 * manual allows, without the modified optimization of XSAVEOPT.
 */
#include "vmm/engine/soft/vector.h"

#define COMPONENT_X87 1UL
#define COMPONENT_SSE 2UL
#define COMPONENT_AVX 4UL
#define COMPACTED     (1UL << 63)

#define HEADER      512 /* XSTATE_BV, XCOMP_BV, 48 bytes of zero */
#define HEADER_SIZE 64
#define AVX_AREA    576
#define AVX_SIZE    256

#define FXSAVE_SIZE    512
#define FXSAVE_MXCSR   24
#define FXSAVE_ST      32
#define FXSAVE_XMM     160
#define REGISTER_BYTES 16

/* AUX_TO: pointers have 64 bits (REX.W). */

/* Vector registers that the mode can reach: the others stay alone. */
static unsigned vector_count(const struct soft_cpu *cpu)
{
    return cpu->code_size == 8 ? 16 : 8;
}

/* ---- x87 part: the first 24 bytes and the registers ---- */

static void build_x87(const struct soft_cpu *cpu, bool wide, uint8_t header[24],
                      uint8_t registers[128])
{
    memset(header, 0, 24);
    memcpy(header, &cpu->x87.fcw, 2);
    memcpy(header + 2, &cpu->x87.fsw, 2);
    header[4] = cpu->x87.ftw;
    memcpy(header + 6, &cpu->x87.fop, 2);
    memcpy(header + 8, &cpu->x87.fip, wide ? 8 : 4);
    memcpy(header + 16, &cpu->x87.fdp, wide ? 8 : 4);
    if (!wide) {
        memcpy(header + 12, &cpu->x87_cs, 2);
        memcpy(header + 20, &cpu->x87_ds, 2);
    }
    memset(registers, 0, 128);
    for (unsigned i = 0; i < 8; i++)
        memcpy(registers + i * REGISTER_BYTES, cpu->x87.st[i], 10);
}

/* AMD's processors keep the bits of a linear address only, 57 of them even without LA57. */
static uint64_t pointer_kept(const struct soft_cpu *cpu, uint64_t value)
{
    return cpu->model->vendor == CPU_VENDOR_AMD ? (uint64_t)((int64_t)(value << 7) >> 7) : value;
}

static void load_x87(struct soft_cpu *cpu, bool wide, const uint8_t header[24],
                     const uint8_t registers[128])
{
    memcpy(&cpu->x87.fcw, header, 2);
    memcpy(&cpu->x87.fsw, header + 2, 2);
    cpu->x87.ftw = header[4];
    memcpy(&cpu->x87.fop, header + 6, 2);
    cpu->x87.fop &= 0x7ff;
    cpu->x87.fip = cpu->x87.fdp = 0;
    cpu->x87_cs = cpu->x87_ds = 0;
    memcpy(&cpu->x87.fip, header + 8, wide ? 8 : 4);
    memcpy(&cpu->x87.fdp, header + 16, wide ? 8 : 4);
    if (!wide) {
        memcpy(&cpu->x87_cs, header + 12, 2);
        memcpy(&cpu->x87_ds, header + 20, 2);
    }
    if (wide) {
        cpu->x87.fip = pointer_kept(cpu, cpu->x87.fip);
        cpu->x87.fdp = pointer_kept(cpu, cpu->x87.fdp);
    }
    for (unsigned i = 0; i < 8; i++)
        memcpy(cpu->x87.st[i], registers + i * REGISTER_BYTES, 10);
    soft_x87_normalize(cpu);
}

static void write_x87(struct soft_cpu *cpu, uint64_t linear, bool wide)
{
    uint8_t header[24], registers[128];

    build_x87(cpu, wide, header, registers);
    soft_write_bytes(cpu, linear, header, sizeof(header));
    soft_write_bytes(cpu, linear + FXSAVE_ST, registers, sizeof(registers));
}

/* ---- vector parts ---- */

static void write_mxcsr(struct soft_cpu *cpu, uint64_t linear)
{
    soft_write32(cpu, linear + FXSAVE_MXCSR, cpu->mxcsr);
    soft_write32(cpu, linear + FXSAVE_MXCSR + 4, soft_mxcsr_mask(cpu));
}

/* 16 bytes of each register, `offset` 0 for XMM, 16 for the upper halves of YMM. */
static void write_vectors(struct soft_cpu *cpu, uint64_t linear, unsigned offset)
{
    for (unsigned i = 0; i < vector_count(cpu); i++)
        soft_write_bytes(cpu, linear + i * REGISTER_BYTES, cpu->vector[i].u8 + offset,
                         REGISTER_BYTES);
}

static void read_vectors(struct soft_cpu *cpu, uint64_t linear, uint8_t *out)
{
    soft_read_bytes(cpu, linear, out, vector_count(cpu) * REGISTER_BYTES);
}

/* NULL: the initial state. */
static void set_vectors(struct soft_cpu *cpu, const uint8_t *in, unsigned offset)
{
    for (unsigned i = 0; i < vector_count(cpu); i++)
        if (in)
            memcpy(cpu->vector[i].u8 + offset, in + i * REGISTER_BYTES, REGISTER_BYTES);
        else
            memset(cpu->vector[i].u8 + offset, 0, REGISTER_BYTES);
}

/* ---- FXSAVE, FXRSTOR ---- */

static void check_fx(struct soft_cpu *cpu)
{
    if (cpu->cr0 & (CR0_EM | CR0_TS))
        soft_raise(cpu, EXC_NM, 0);
}

static uint64_t aligned_address(struct soft_cpu *cpu, const struct insn *insn, unsigned size,
                                unsigned alignment, enum soft_access access)
{
    uint64_t linear = soft_operand_address(cpu, insn, size, access);

    if (linear & (alignment - 1))
        soft_general_protection(cpu, 0);
    return linear;
}

/* FXSAVE and FXRSTOR see that an address on the stack is not canonical before its alignment. */
static uint64_t fx_address(struct soft_cpu *cpu, const struct insn *insn, enum soft_access access)
{
    if (cpu->flat && insn->segment == SEG_SS && !soft_canonical(soft_operand_offset(cpu, insn)))
        soft_raise(cpu, EXC_SS, 0);
    return aligned_address(cpu, insn, FXSAVE_SIZE, 16, access);
}

/* AMD's fast form leaves the XMM registers to the operating system (APM 2, 11.4.4). */
static bool leaves_vectors(const struct soft_cpu *cpu)
{
    return (cpu->msrs.efer & EFER_FFXSR) && cpu->cpl == 0 && cpu->code_size == 8;
}

static void exec_fxsave(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t linear;

    check_fx(cpu);
    linear = fx_address(cpu, insn, SOFT_WRITE);
    soft_probe_write(cpu, linear, FXSAVE_SIZE, cpu->mmu_mode);
    write_x87(cpu, linear, insn->aux[AUX_TO]);
    write_mxcsr(cpu, linear);
    if (!leaves_vectors(cpu))
        write_vectors(cpu, linear + FXSAVE_XMM, 0);
}

static void exec_fxrstor(struct soft_cpu *cpu, const struct insn *insn)
{
    uint8_t image[FXSAVE_SIZE];
    uint64_t linear;
    uint32_t mxcsr;

    check_fx(cpu);
    linear = fx_address(cpu, insn, SOFT_READ);
    soft_read_bytes(cpu, linear, image, FXSAVE_SIZE);
    memcpy(&mxcsr, image + FXSAVE_MXCSR, 4);
    if (cpu->cr4 & CR4_OSFXSR) {
        if (mxcsr & ~soft_mxcsr_mask(cpu))
            soft_general_protection(cpu, 0);
        cpu->mxcsr = mxcsr;
        if (!leaves_vectors(cpu))
            set_vectors(cpu, image + FXSAVE_XMM, 0);
    }
    load_x87(cpu, insn->aux[AUX_TO], image, image + FXSAVE_ST);
}

/* ---- XSAVE and its like ---- */

static void check_xsave(struct soft_cpu *cpu)
{
    if (!(cpu->cr4 & CR4_OSXSAVE))
        soft_undefined(cpu);
    if (cpu->cr0 & CR0_TS)
        soft_raise(cpu, EXC_NM, 0);
}

static uint64_t requested(const struct soft_cpu *cpu)
{
    uint64_t mask = (uint32_t)cpu->gpr[GPR_RAX] | cpu->gpr[GPR_RDX] << 32;

    return mask & cpu->xcr0;
}

static bool vectors_in_use(const struct soft_cpu *cpu, unsigned offset)
{
    for (unsigned i = 0; i < vector_count(cpu); i++) {
        const uint64_t *half = cpu->vector[i].u64 + offset / 8;

        if (half[0] | half[1])
            return true;
    }
    return false;
}

static bool x87_in_use(const struct soft_cpu *cpu)
{
    static const uint8_t zero[10];

    if (cpu->x87.fcw != 0x37f || cpu->x87.fsw || cpu->x87.ftw || cpu->x87.fop || cpu->x87.fip ||
        cpu->x87.fdp || cpu->x87_cs || cpu->x87_ds)
        return true;
    for (unsigned i = 0; i < 8; i++)
        if (memcmp(cpu->x87.st[i], zero, sizeof(zero)))
            return true;
    return false;
}

/* XINUSE. */
static uint64_t in_use(const struct soft_cpu *cpu)
{
    return (x87_in_use(cpu) ? COMPONENT_X87 : 0) |
           (vectors_in_use(cpu, 0) || cpu->mxcsr != MXCSR_DEFAULT ? COMPONENT_SSE : 0) |
           (vectors_in_use(cpu, 16) ? COMPONENT_AVX : 0);
}

static unsigned area_size(uint64_t components)
{
    return components & COMPONENT_AVX ? AVX_AREA + AVX_SIZE : AVX_AREA;
}

static void write_components(struct soft_cpu *cpu, uint64_t linear, uint64_t components, bool wide)
{
    if (components & COMPONENT_X87)
        write_x87(cpu, linear, wide);
    if (components & COMPONENT_SSE)
        write_vectors(cpu, linear + FXSAVE_XMM, 0);
    if (components & COMPONENT_AVX)
        write_vectors(cpu, linear + AVX_AREA, 16);
}

/* XSAVE; AUX_FROM: XSAVEOPT, which leaves out components in their initial state. */
static void exec_xsave(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t components = requested(cpu), used = in_use(cpu), linear, header;

    check_xsave(cpu);
    linear = aligned_address(cpu, insn, area_size(components), 64, SOFT_WRITE);
    soft_probe_write(cpu, linear, area_size(components), cpu->mmu_mode);
    header = soft_read64(cpu, linear + HEADER);
    write_components(cpu, linear, insn->aux[AUX_FROM] ? components & used : components,
                     insn->aux[AUX_TO]);
    if (components & (COMPONENT_SSE | COMPONENT_AVX))
        write_mxcsr(cpu, linear);
    soft_write64(cpu, linear + HEADER, (header & ~components) | (components & used));
}

/* XSAVEC; AUX_FROM: XSAVES, for CPL 0. */
static void exec_xsavec(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t components = requested(cpu), used = in_use(cpu) & components, linear;

    check_xsave(cpu);
    if (insn->aux[AUX_FROM] && cpu->cpl)
        soft_general_protection(cpu, 0);
    linear = aligned_address(cpu, insn, area_size(components), 64, SOFT_WRITE);
    soft_probe_write(cpu, linear, area_size(components), cpu->mmu_mode);
    write_components(cpu, linear, used, insn->aux[AUX_TO]);
    if (used & COMPONENT_SSE)
        write_mxcsr(cpu, linear);
    soft_write64(cpu, linear + HEADER, used);
    soft_write64(cpu, linear + HEADER + 8, components | COMPACTED);
}

/* Check the header (SDM 1, 13.8.1 and 13.8.2); returns XSTATE_BV. */
static uint64_t check_header(struct soft_cpu *cpu, const uint8_t header[HEADER_SIZE], bool *compact,
                             bool must_be_compact)
{
    uint64_t words[8];
    uint64_t rest = 0;

    memcpy(words, header, sizeof(words));
    *compact = words[1] & COMPACTED;
    if (!*compact && must_be_compact)
        soft_general_protection(cpu, 0);
    if (!*compact) {
        if (words[0] & ~cpu->xcr0 || words[1] || words[2])
            soft_general_protection(cpu, 0);
        return words[0];
    }
    for (unsigned i = 2; i < 8; i++)
        rest |= words[i];
    if (words[1] & ~(cpu->xcr0 | COMPACTED) || words[0] & ~(words[1] & ~COMPACTED) || rest)
        soft_general_protection(cpu, 0);
    return words[0];
}

/* What XRSTOR has read from memory before it changes anything. */
struct restore_image {
    uint8_t legacy[FXSAVE_SIZE];
    uint8_t avx[AVX_SIZE];
};

static void set_components(struct soft_cpu *cpu, const struct restore_image *image,
                           uint64_t components, uint64_t present, bool wide)
{
    if (components & COMPONENT_X87) {
        if (present & COMPONENT_X87) {
            load_x87(cpu, wide, image->legacy, image->legacy + FXSAVE_ST);
        } else {
            soft_x87_reset(cpu, false);
            memset(cpu->x87.st, 0, sizeof(cpu->x87.st));
        }
    }
    if (components & COMPONENT_SSE)
        set_vectors(cpu, present & COMPONENT_SSE ? image->legacy + FXSAVE_XMM : NULL, 0);
    if (components & COMPONENT_AVX)
        set_vectors(cpu, present & COMPONENT_AVX ? image->avx : NULL, 16);
}

/* XRSTOR; AUX_FROM: XRSTORS, for CPL 0 and the compacted form. */
static void exec_xrstor(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t components = requested(cpu), present, linear;
    uint8_t header[HEADER_SIZE];
    struct restore_image image;
    bool compact;
    uint32_t mxcsr = MXCSR_DEFAULT;

    check_xsave(cpu);
    if (insn->aux[AUX_FROM] && cpu->cpl)
        soft_general_protection(cpu, 0);
    linear = aligned_address(cpu, insn, AVX_AREA, 64, SOFT_READ);
    soft_probe_read(cpu, linear, AVX_AREA, cpu->mmu_mode);
    soft_read_bytes(cpu, linear + HEADER, header, sizeof(header));
    present = check_header(cpu, header, &compact, insn->aux[AUX_FROM]);
    soft_probe_read(cpu, linear, area_size(components), cpu->mmu_mode);
    soft_read_bytes(cpu, linear, image.legacy, FXSAVE_XMM);
    if (components & present & COMPONENT_SSE)
        read_vectors(cpu, linear + FXSAVE_XMM, image.legacy + FXSAVE_XMM);
    if (components & present & COMPONENT_AVX)
        read_vectors(cpu,
                     soft_operand_address(cpu, insn, AVX_AREA + AVX_SIZE, SOFT_READ) + AVX_AREA,
                     image.avx);
    if (!compact || (present & COMPONENT_SSE))
        memcpy(&mxcsr, image.legacy + FXSAVE_MXCSR, 4);
    if (components & (compact ? COMPONENT_SSE : COMPONENT_SSE | COMPONENT_AVX)) {
        if (mxcsr & ~soft_mxcsr_mask(cpu))
            soft_general_protection(cpu, 0);
        cpu->mxcsr = mxcsr;
    }
    set_components(cpu, &image, components, present, insn->aux[AUX_TO]);
}

/* ---- selection ---- */

static soft_exec_fn choose(struct insn *insn, bool wide, bool variant, soft_exec_fn exec)
{
    insn->aux[AUX_TO] = wide;
    insn->aux[AUX_FROM] = variant;
    return exec;
}

soft_exec_fn vector_select_state(const struct soft_decoded *decoded, struct insn *insn)
{
    switch (decoded->instruction.mnemonic) {
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_FXSAVE64, false,
                      exec_fxsave);
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_FXRSTOR64, false,
                      exec_fxrstor);
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XSAVE64, false,
                      exec_xsave);
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XSAVEOPT64, true,
                      exec_xsave);
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XSAVEC64, false,
                      exec_xsavec);
    case ZYDIS_MNEMONIC_XSAVES:
    case ZYDIS_MNEMONIC_XSAVES64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XSAVES64, true,
                      exec_xsavec);
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XRSTOR64, false,
                      exec_xrstor);
    case ZYDIS_MNEMONIC_XRSTORS:
    case ZYDIS_MNEMONIC_XRSTORS64:
        return choose(insn, decoded->instruction.mnemonic == ZYDIS_MNEMONIC_XRSTORS64, true,
                      exec_xrstor);
    default:
        return NULL;
    }
}
