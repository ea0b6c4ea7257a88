// SPDX-License-Identifier: Apache-2.0
/*
 * Saving and restoring vector and x87 state as a whole: FXSAVE, FXRSTOR (SDM 1, 10.5) and the XSAVE
 * family (SDM 1, chapter 13) for the components x87, SSE, AVX, and the three of AVX-512: mask
 * registers, the upper halves of ZMM0 to ZMM15, and ZMM16 to ZMM31. Where components lie in the
 * standard form the CPU model says, as CPUID does; in the compacted form they follow each other.
 *
 * A component is "in use" when it differs from its initial state; that is the tracking which the
 * manual allows, without the modified optimization of XSAVEOPT.
 */
#include "vmm/engine/soft/vector.h"

#define COMPONENT_X87 1UL
#define COMPONENT_SSE 2UL
#define COMPONENT_AVX 4UL
#define COMPACTED     (1UL << 63)

/* Numbers of the components behind the header. */
#define NUMBER_AVX       2
#define NUMBER_OPMASK    5
#define NUMBER_ZMM_HIGH  6
#define NUMBER_ZMM_UPPER 7
#define COMPONENTS       8
#define COMPONENT_AVX512 (7UL << NUMBER_OPMASK)

#define HEADER      512 /* XSTATE_BV, XCOMP_BV, 48 bytes of zero */
#define HEADER_SIZE 64
#define EXTENDED    576 /* where the components behind the header begin */

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

static void write_xmm(struct soft_cpu *cpu, uint64_t linear)
{
    unsigned count = vector_count(cpu);
    uint8_t image[16 * REGISTER_BYTES];

    for (unsigned i = 0; i < count; i++)
        memcpy(image + i * REGISTER_BYTES, cpu->vector[i].u8, REGISTER_BYTES);
    soft_write_bytes(cpu, linear, image, count * REGISTER_BYTES);
}

static void read_xmm(struct soft_cpu *cpu, uint64_t linear, uint8_t *out)
{
    soft_read_bytes(cpu, linear, out, vector_count(cpu) * REGISTER_BYTES);
}

/* NULL: the initial state. */
static void set_xmm(struct soft_cpu *cpu, const uint8_t *in)
{
    for (unsigned i = 0; i < vector_count(cpu); i++)
        if (in)
            memcpy(cpu->vector[i].u8, in + i * REGISTER_BYTES, REGISTER_BYTES);
        else
            memset(cpu->vector[i].u8, 0, REGISTER_BYTES);
}

/* ---- components behind the header ---- */

/* Registers of a component: `count` parts of `size` bytes each, side by side in memory. */
struct component {
    size_t state;                /* of the first part in struct soft_cpu */
    unsigned size, stride;       /* of a part; between two of them in struct soft_cpu */
    unsigned count, count_short; /* the latter outside 64-bit mode */
    unsigned image;              /* where struct restore_image has it */
};

#define AVX_SIZE       256
#define OPMASK_SIZE    64
#define ZMM_HIGH_SIZE  512
#define ZMM_UPPER_SIZE 1024
#define EXTENDED_SIZE  (AVX_SIZE + OPMASK_SIZE + ZMM_HIGH_SIZE + ZMM_UPPER_SIZE)

static const struct component components[COMPONENTS] = {
    [NUMBER_AVX] = {offsetof(struct soft_cpu, vector[0].u8[16]), 16, 64, 16, 8, 0},
    [NUMBER_OPMASK] = {offsetof(struct soft_cpu, opmask), 8, 8, 8, 8, AVX_SIZE},
    [NUMBER_ZMM_HIGH] = {offsetof(struct soft_cpu, vector[0].u8[32]), 32, 64, 16, 8,
                         AVX_SIZE + OPMASK_SIZE},
    [NUMBER_ZMM_UPPER] = {offsetof(struct soft_cpu, vector[16]), 64, 64, 16, 0,
                          AVX_SIZE + OPMASK_SIZE + ZMM_HIGH_SIZE},
};

static unsigned part_count(const struct soft_cpu *cpu, unsigned number)
{
    return cpu->code_size == 8 ? components[number].count : components[number].count_short;
}

static uint8_t *part_of(struct soft_cpu *cpu, unsigned number, unsigned i)
{
    return (uint8_t *)cpu + components[number].state + i * components[number].stride;
}

static void write_component(struct soft_cpu *cpu, uint64_t linear, unsigned number)
{
    unsigned size = components[number].size, count = part_count(cpu, number);
    uint8_t image[ZMM_UPPER_SIZE];

    for (unsigned i = 0; i < count; i++)
        memcpy(image + i * size, part_of(cpu, number, i), size);
    if (count)
        soft_write_bytes(cpu, linear, image, size * count);
}

static void read_component(struct soft_cpu *cpu, uint64_t linear, unsigned number, uint8_t *out)
{
    unsigned size = components[number].size * part_count(cpu, number);

    if (size)
        soft_read_bytes(cpu, linear, out, size);
}

/* NULL: the initial state. */
static void set_component(struct soft_cpu *cpu, unsigned number, const uint8_t *in)
{
    unsigned size = components[number].size;

    for (unsigned i = 0; i < part_count(cpu, number); i++)
        if (in)
            memcpy(part_of(cpu, number, i), in + i * size, size);
        else
            memset(part_of(cpu, number, i), 0, size);
}

static bool component_in_use(const struct soft_cpu *cpu, unsigned number)
{
    const struct component *component = &components[number];

    for (unsigned i = 0; i < component->count; i++) {
        const uint8_t *part = (const uint8_t *)cpu + component->state + i * component->stride;
        uint64_t any = 0;

        for (unsigned at = 0; at < component->size; at += 8) {
            uint64_t word;

            memcpy(&word, part + at, 8);
            any |= word;
        }
        if (any)
            return true;
    }
    return false;
}

/* Where the components of an area lie, and where those end that are accessed. */
struct layout {
    uint32_t offset[COMPONENTS];
    uint32_t end;
};

/* The area has `present`, of which `accessed` are wanted. */
static struct layout lay_out(const struct soft_cpu *cpu, uint64_t present, uint64_t accessed,
                             bool compact)
{
    struct layout layout = {.end = EXTENDED};
    uint32_t next = EXTENDED;

    for (unsigned i = NUMBER_AVX; i < COMPONENTS; i++) {
        uint32_t size = cpu->model->xsave[i].size;

        if (!(present >> i & 1))
            continue;
        layout.offset[i] = compact ? next : cpu->model->xsave[i].offset;
        next += size;
        if (accessed >> i & 1 && layout.offset[i] + size > layout.end)
            layout.end = layout.offset[i] + size;
    }
    return layout;
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
        write_xmm(cpu, linear + FXSAVE_XMM);
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
            set_xmm(cpu, image + FXSAVE_XMM);
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

static bool xmm_in_use(const struct soft_cpu *cpu)
{
    for (unsigned i = 0; i < vector_count(cpu); i++)
        if (cpu->vector[i].u64[0] | cpu->vector[i].u64[1])
            return true;
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

/* XINUSE[7:5]; what it finds unused, translated code need not load. */
static uint64_t avx512_in_use(struct soft_cpu *cpu)
{
    uint64_t used = 0;

    if (!cpu->avx512_used)
        return 0;
    for (unsigned i = NUMBER_OPMASK; i <= NUMBER_ZMM_UPPER; i++)
        used |= (uint64_t)component_in_use(cpu, i) << i;
    cpu->avx512_used = used;
    return used;
}

void soft_avx512_settle(struct soft_cpu *cpu)
{
    cpu->avx512_used = true;
    avx512_in_use(cpu);
}

/* XINUSE. */
static uint64_t in_use(struct soft_cpu *cpu)
{
    return (x87_in_use(cpu) ? COMPONENT_X87 : 0) |
           (xmm_in_use(cpu) || cpu->mxcsr != MXCSR_DEFAULT ? COMPONENT_SSE : 0) |
           (component_in_use(cpu, NUMBER_AVX) ? COMPONENT_AVX : 0) | avx512_in_use(cpu);
}

static void write_components(struct soft_cpu *cpu, uint64_t linear, uint64_t present,
                             const struct layout *layout, bool wide)
{
    if (present & COMPONENT_X87)
        write_x87(cpu, linear, wide);
    if (present & COMPONENT_SSE)
        write_xmm(cpu, linear + FXSAVE_XMM);
    for (unsigned i = NUMBER_AVX; i < COMPONENTS; i++)
        if (present >> i & 1)
            write_component(cpu, linear + layout->offset[i], i);
}

/* XSAVE; AUX_FROM: XSAVEOPT, which leaves out components in their initial state. */
static void exec_xsave(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t wanted = requested(cpu), used = in_use(cpu), linear, header;
    struct layout layout = lay_out(cpu, wanted, wanted, false);

    check_xsave(cpu);
    linear = aligned_address(cpu, insn, layout.end, 64, SOFT_WRITE);
    soft_probe_write(cpu, linear, layout.end, cpu->mmu_mode);
    header = soft_read64(cpu, linear + HEADER);
    write_components(cpu, linear, insn->aux[AUX_FROM] ? wanted & used : wanted, &layout,
                     insn->aux[AUX_TO]);
    if (wanted & (COMPONENT_SSE | COMPONENT_AVX))
        write_mxcsr(cpu, linear);
    soft_write64(cpu, linear + HEADER, (header & ~wanted) | (wanted & used));
}

/* XSAVEC; AUX_FROM: XSAVES, for CPL 0. */
static void exec_xsavec(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t wanted = requested(cpu), used = in_use(cpu) & wanted, linear;
    struct layout layout = lay_out(cpu, wanted, wanted, true);

    check_xsave(cpu);
    if (insn->aux[AUX_FROM] && cpu->cpl)
        soft_general_protection(cpu, 0);
    linear = aligned_address(cpu, insn, layout.end, 64, SOFT_WRITE);
    soft_probe_write(cpu, linear, layout.end, cpu->mmu_mode);
    write_components(cpu, linear, used, &layout, insn->aux[AUX_TO]);
    if (used & COMPONENT_SSE)
        write_mxcsr(cpu, linear);
    soft_write64(cpu, linear + HEADER, used);
    soft_write64(cpu, linear + HEADER + 8, wanted | COMPACTED);
}

/* Check the header (SDM 1, 13.8.1 and 13.8.2). `*format` is XCOMP_BV without its bit 63, or 0 in
 * the standard form. Returns XSTATE_BV. */
static uint64_t check_header(struct soft_cpu *cpu, const uint8_t header[HEADER_SIZE],
                             uint64_t *format, bool *compact, bool must_be_compact)
{
    uint64_t words[8];
    uint64_t rest = 0;

    memcpy(words, header, sizeof(words));
    *compact = words[1] & COMPACTED;
    *format = words[1] & ~COMPACTED;
    if (!*compact && must_be_compact)
        soft_general_protection(cpu, 0);
    if (!*compact) {
        if (words[0] & ~cpu->xcr0 || words[1] || words[2])
            soft_general_protection(cpu, 0);
        return words[0];
    }
    for (unsigned i = 2; i < 8; i++)
        rest |= words[i];
    if (*format & ~cpu->xcr0 || words[0] & ~*format || rest)
        soft_general_protection(cpu, 0);
    return words[0];
}

/* What XRSTOR has read from memory before it changes anything. */
struct restore_image {
    uint8_t legacy[FXSAVE_SIZE];
    uint8_t extended[EXTENDED_SIZE];
};

static void read_image(struct soft_cpu *cpu, const struct insn *insn, uint64_t linear,
                       uint64_t present, const struct layout *layout, struct restore_image *image)
{
    soft_read_bytes(cpu, linear, image->legacy, FXSAVE_XMM);
    if (present & COMPONENT_SSE)
        read_xmm(cpu, linear + FXSAVE_XMM, image->legacy + FXSAVE_XMM);
    if (present >> NUMBER_AVX)
        soft_operand_address(cpu, insn, layout->end, SOFT_READ);
    for (unsigned i = NUMBER_AVX; i < COMPONENTS; i++)
        if (present >> i & 1)
            read_component(cpu, linear + layout->offset[i], i,
                           image->extended + components[i].image);
}

static void set_components(struct soft_cpu *cpu, const struct restore_image *image, uint64_t wanted,
                           uint64_t present, bool wide)
{
    if (wanted & COMPONENT_X87) {
        if (present & COMPONENT_X87) {
            load_x87(cpu, wide, image->legacy, image->legacy + FXSAVE_ST);
        } else {
            soft_x87_reset(cpu, false);
            memset(cpu->x87.st, 0, sizeof(cpu->x87.st));
        }
    }
    if (wanted & COMPONENT_SSE)
        set_xmm(cpu, present & COMPONENT_SSE ? image->legacy + FXSAVE_XMM : NULL);
    for (unsigned i = NUMBER_AVX; i < COMPONENTS; i++)
        if (wanted >> i & 1)
            set_component(cpu, i, present >> i & 1 ? image->extended + components[i].image : NULL);
    if (wanted & present & COMPONENT_AVX512)
        cpu->avx512_used = true;
}

/* XRSTOR; AUX_FROM: XRSTORS, for CPL 0 and the compacted form. */
static void exec_xrstor(struct soft_cpu *cpu, const struct insn *insn)
{
    uint64_t wanted = requested(cpu), present, format, linear;
    uint8_t header[HEADER_SIZE];
    struct restore_image image;
    struct layout layout;
    bool compact;
    uint32_t mxcsr = MXCSR_DEFAULT;

    check_xsave(cpu);
    if (insn->aux[AUX_FROM] && cpu->cpl)
        soft_general_protection(cpu, 0);
    linear = aligned_address(cpu, insn, EXTENDED, 64, SOFT_READ);
    soft_probe_read(cpu, linear, EXTENDED, cpu->mmu_mode);
    soft_read_bytes(cpu, linear + HEADER, header, sizeof(header));
    present = check_header(cpu, header, &format, &compact, insn->aux[AUX_FROM]);
    layout = lay_out(cpu, compact ? format : wanted, wanted, compact);
    soft_probe_read(cpu, linear, layout.end, cpu->mmu_mode);
    read_image(cpu, insn, linear, wanted & present, &layout, &image);
    if (!compact || (present & COMPONENT_SSE))
        memcpy(&mxcsr, image.legacy + FXSAVE_MXCSR, 4);
    if (wanted & (compact ? COMPONENT_SSE : COMPONENT_SSE | COMPONENT_AVX)) {
        if (mxcsr & ~soft_mxcsr_mask(cpu))
            soft_general_protection(cpu, 0);
        cpu->mxcsr = mxcsr;
    }
    set_components(cpu, &image, wanted, present, insn->aux[AUX_TO]);
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
