// SPDX-License-Identifier: Apache-2.0
/*
 * String instructions: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS with their repeat prefixes
 * (SDM 1, 7.3.9; SDM 2).
 *
 * A repeated one works in runs: as far as both operands stay within a page whose TLB entries hit,
 * and within their segments, the host's own instruction does all elements at once, upwards or, with
 * DF set, downwards. Where that is not so (an element across pages, MMIO, the first touch of a
 * page), one element goes the way of a single instruction. Registers are written after each run, so
 * a fault leaves them at the element that could not be done, and an interrupt is let in between
 * runs.
 */
#include "vmm/engine/soft/operand.h"

/* Longest run before the loop looks at requests again. */
#define RUN_BYTES 4096U

/* One operand of a string instruction. */
struct string_side {
    unsigned gpr;     /* GPR_RSI or GPR_RDI */
    unsigned segment; /* enum cpu_segment_index */
    enum soft_access access;
};

static uint64_t wrap(uint64_t value, unsigned address_size)
{
    if (address_size == 8)
        return value;
    return address_size == 4 ? (uint32_t)value : (uint16_t)value;
}

static int64_t step_of(const struct soft_cpu *cpu, const struct insn *insn)
{
    return cpu->rflags & FLAG_DF ? -(int64_t)insn->operand_size : insn->operand_size;
}

static void advance(struct soft_cpu *cpu, const struct insn *insn, unsigned gpr, int64_t by)
{
    reg_set(cpu, gpr * 8, cpu->gpr[gpr] + (uint64_t)by, insn->address_size);
}

static struct string_side source_side(const struct insn *insn)
{
    return (struct string_side){GPR_RSI, insn->segment, SOFT_READ};
}

static struct string_side destination_side(enum soft_access access)
{
    return (struct string_side){GPR_RDI, SEG_ES, access};
}

static uint64_t element_address(struct soft_cpu *cpu, const struct insn *insn,
                                const struct string_side *side)
{
    return mem_address(cpu, side->segment, wrap(cpu->gpr[side->gpr], insn->address_size),
                       insn->operand_size, side->access);
}

/* Whether the segment's checks hold for all that lies between one good offset and the limit (or 0):
 * not so for expand-down and unusable segments. */
static bool grows_up(const struct soft_cpu *cpu, const struct cpu_segment *seg)
{
    if (seg->attributes & SEGMENT_UNUSABLE)
        return false;
    return !soft_protected(cpu) || soft_v86(cpu) || (SEGMENT_TYPE(seg->attributes) & 8) ||
           !(SEGMENT_TYPE(seg->attributes) & 4);
}

/* Bytes from `offset` up to where the address size wraps or the segment ends; 0 when unknown. */
static uint64_t room_above(const struct soft_cpu *cpu, const struct insn *insn, unsigned segment,
                           uint64_t offset)
{
    const struct cpu_segment *seg = &cpu->seg[segment];
    uint64_t room = insn->address_size == 8   ? RUN_BYTES
                    : insn->address_size == 4 ? 0x100000000UL - offset
                                              : 0x10000UL - offset;

    if (cpu->flat)
        return room;
    if (offset > seg->limit || !grows_up(cpu, seg))
        return 0;
    return room < seg->limit - offset + 1UL ? room : seg->limit - offset + 1UL;
}

/* Bytes from the end of the element of `size` bytes at `offset` down to where the address wraps. */
static uint64_t room_below(const struct soft_cpu *cpu, const struct insn *insn, unsigned segment,
                           uint64_t offset)
{
    if (insn->address_size == 8)
        return RUN_BYTES;
    return cpu->flat || grows_up(cpu, &cpu->seg[segment]) ? offset + insn->operand_size : 0;
}

/* Host address of a side's first element if the TLB knows the page; `*count` is cut to what can be
 * done there, upwards or downwards, without a look aside. NULL: by element. */
static inline void *run_pointer(struct soft_cpu *cpu, const struct insn *insn,
                                const struct string_side *side, uint64_t *count)
{
    bool down = cpu->rflags & FLAG_DF;
    unsigned size = insn->operand_size;
    uint64_t offset = wrap(cpu->gpr[side->gpr], insn->address_size), linear, room, in_page;
    struct soft_tlb_entry *entry;

    room = down ? room_below(cpu, insn, side->segment, offset)
                : room_above(cpu, insn, side->segment, offset);
    if (room < size)
        return NULL;
    /* Rights and bounds of the first element; the rest of the run shares them. */
    linear = mem_address(cpu, side->segment, offset, size, side->access);
    entry = soft_tlb_slot(cpu, cpu->mmu_mode, linear);
    if ((side->access == SOFT_WRITE ? entry->write_tag : entry->read_tag) != SOFT_TAG(linear, size))
        return NULL;
    in_page = down ? (linear & 0xfff) + size : 0x1000 - (linear & 0xfff);
    if (room > in_page)
        room = in_page;
    if (room / size < *count)
        *count = room / size;
    return (void *)(entry->host + linear);
}

/* ---- repetition ---- */

/* One element, or a run of at most `count`; returns how many were done. `*stop` is set when the
 * condition of REPE or REPNE ended the instruction. */
typedef uint64_t (*string_step)(struct soft_cpu *cpu, const struct insn *insn, uint64_t count,
                                bool *stop);

static bool interrupted(const struct soft_cpu *cpu)
{
    return atomic_load_explicit(&cpu->requests, memory_order_relaxed) || cpu->block_end ||
           cpu->pending_db || (cpu->rflags & FLAG_TF);
}

/* Run `step` until the counter is 0. An interruption in the middle executes the instruction again.
 */
static inline void repeat(struct soft_cpu *cpu, const struct insn *insn, string_step step)
{
    bool single = cpu->rflags & FLAG_TF;
    bool stop = false;
    uint64_t left;

    if (!(insn->prefixes & (INSN_REP | INSN_REPNE))) {
        step(cpu, insn, 1, &stop);
        return;
    }
    left = reg_get(cpu, GPR_RCX * 8, insn->address_size);
    while (left) {
        uint64_t done = step(cpu, insn, single ? 1 : left, &stop);

        left -= done;
        reg_set(cpu, GPR_RCX * 8, left, insn->address_size);
        if (stop)
            break;
        if (left && interrupted(cpu)) {
            cpu->next_rip = cpu->rip;
            cpu->block_end = true;
            break;
        }
    }
}

/* Expands to the host's string instruction of the element's size. */
#define HOST_STRING(size, instruction, ...)                   \
    do {                                                      \
        switch (size) {                                       \
        case 1:                                               \
            __asm__ volatile(instruction("b") : __VA_ARGS__); \
            break;                                            \
        case 2:                                               \
            __asm__ volatile(instruction("w") : __VA_ARGS__); \
            break;                                            \
        case 4:                                               \
            __asm__ volatile(instruction("l") : __VA_ARGS__); \
            break;                                            \
        default:                                              \
            __asm__ volatile(instruction("q") : __VA_ARGS__); \
        }                                                     \
    } while (0)

/* Downwards. The C code around, and its signal handlers, know DF clear alone. */
#define DOWN(instruction) "std\n\t" instruction "\n\tcld"

/* `count` elements, both ways, from the first one on. */
#define HOST_RUN(cpu, size, up, down, ...)        \
    do {                                          \
        if ((cpu)->rflags & FLAG_DF)              \
            HOST_STRING(size, down, __VA_ARGS__); \
        else                                      \
            HOST_STRING(size, up, __VA_ARGS__);   \
    } while (0)

/* The distance of `count` elements. */
static int64_t distance(const struct soft_cpu *cpu, const struct insn *insn, uint64_t count)
{
    return step_of(cpu, insn) * (int64_t)count;
}

/* ---- MOVS ---- */

#define REP_MOVS(suffix)      "rep movs" suffix
#define REP_MOVS_DOWN(suffix) DOWN("rep movs" suffix)

static uint64_t movs_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side from = source_side(insn), to = destination_side(SOFT_WRITE);
    unsigned size = insn->operand_size;
    uint64_t value;

    if (count > 1) {
        void *source = run_pointer(cpu, insn, &from, &count);
        void *target = source ? run_pointer(cpu, insn, &to, &count) : NULL;
        uint64_t number = count;

        if (target) {
            HOST_RUN(cpu, size, REP_MOVS, REP_MOVS_DOWN, "+S"(source), "+D"(target),
                     "+c"(number)::"memory");
            advance(cpu, insn, GPR_RSI, distance(cpu, insn, count));
            advance(cpu, insn, GPR_RDI, distance(cpu, insn, count));
            return count;
        }
    }
    value = mem_get(cpu, element_address(cpu, insn, &from), size);
    mem_set(cpu, element_address(cpu, insn, &to), value, size);
    advance(cpu, insn, GPR_RSI, step_of(cpu, insn));
    advance(cpu, insn, GPR_RDI, step_of(cpu, insn));
    return 1;
}

/* ---- STOS ---- */

#define REP_STOS(suffix)      "rep stos" suffix
#define REP_STOS_DOWN(suffix) DOWN("rep stos" suffix)

static uint64_t stos_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side to = destination_side(SOFT_WRITE);
    unsigned size = insn->operand_size;

    if (count > 1) {
        void *target = run_pointer(cpu, insn, &to, &count);
        uint64_t number = count;

        if (target) {
            HOST_RUN(cpu, size, REP_STOS, REP_STOS_DOWN, "+D"(target), "+c"(number)
                     : "a"(cpu->gpr[GPR_RAX])
                     : "memory");
            advance(cpu, insn, GPR_RDI, distance(cpu, insn, count));
            return count;
        }
    }
    mem_set(cpu, element_address(cpu, insn, &to), cpu->gpr[GPR_RAX], size);
    advance(cpu, insn, GPR_RDI, step_of(cpu, insn));
    return 1;
}

/* ---- LODS ---- */

#define REP_LODS(suffix)      "rep lods" suffix
#define REP_LODS_DOWN(suffix) DOWN("rep lods" suffix)

static uint64_t lods_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side from = source_side(insn);
    unsigned size = insn->operand_size;

    if (count > 1) {
        const void *source = run_pointer(cpu, insn, &from, &count);
        uint64_t number = count, value;

        if (source) {
            HOST_RUN(cpu, size, REP_LODS, REP_LODS_DOWN, "+S"(source), "+c"(number), "=a"(value)
                     :
                     : "memory");
            reg_set(cpu, GPR_RAX * 8, value, size);
            advance(cpu, insn, GPR_RSI, distance(cpu, insn, count));
            return count;
        }
    }
    reg_set(cpu, GPR_RAX * 8, mem_get(cpu, element_address(cpu, insn, &from), size), size);
    advance(cpu, insn, GPR_RSI, step_of(cpu, insn));
    return 1;
}

/* ---- CMPS, SCAS ---- */

/* The red zone lies where PUSHF writes. */
#define FLAGS_PUSHED "\n\tlea -128(%%rsp), %%rsp\n\tpushfq\n\tpop %[flags]\n\tlea 128(%%rsp), %%rsp"

#define REPE_CMPS(suffix)       "repe cmps" suffix FLAGS_OUT
#define REPE_CMPS_DOWN(suffix)  DOWN("repe cmps" suffix) FLAGS_OUT
#define REPNE_CMPS(suffix)      "repne cmps" suffix FLAGS_OUT
#define REPNE_CMPS_DOWN(suffix) DOWN("repne cmps" suffix) FLAGS_OUT
#define REPE_SCAS(suffix)       "repe scas" suffix FLAGS_PUSHED
#define REPE_SCAS_DOWN(suffix)  DOWN("repe scas" suffix) FLAGS_PUSHED
#define REPNE_SCAS(suffix)      "repne scas" suffix FLAGS_PUSHED
#define REPNE_SCAS_DOWN(suffix) DOWN("repne scas" suffix) FLAGS_PUSHED

/* Flags of left - right for operands of `size` bytes, and whether the repetition ends. */
static void compare(struct soft_cpu *cpu, const struct insn *insn, uint64_t left, uint64_t right,
                    bool *stop)
{
    uint32_t carrier;
    unsigned shift = 64 - insn->operand_size * 8;
    bool equal;

    switch (insn->operand_size) {
    case 1:
        __asm__("cmpb %b[right], %b[left]" FLAGS_OUT
                : "=&a"(carrier)
                : [left] "r"(left), [right] "r"(right)
                : "cc");
        break;
    case 2:
        __asm__("cmpw %w[right], %w[left]" FLAGS_OUT
                : "=&a"(carrier)
                : [left] "r"(left), [right] "r"(right)
                : "cc");
        break;
    case 4:
        __asm__("cmpl %k[right], %k[left]" FLAGS_OUT
                : "=&a"(carrier)
                : [left] "r"(left), [right] "r"(right)
                : "cc");
        break;
    default:
        __asm__("cmpq %[right], %[left]" FLAGS_OUT
                : "=&a"(carrier)
                : [left] "r"(left), [right] "r"(right)
                : "cc");
    }
    cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);
    equal = (left << shift) == (right << shift);
    *stop = insn->prefixes & INSN_REP ? !equal : equal;
}

static uint64_t cmps_run(struct soft_cpu *cpu, const struct insn *insn, const void *source,
                         const void *target, uint64_t count, bool *stop)
{
    uint64_t number = count, done;
    uint32_t carrier;

    if (insn->prefixes & INSN_REP)
        HOST_RUN(cpu, insn->operand_size, REPE_CMPS, REPE_CMPS_DOWN, "+S"(source), "+D"(target),
                 "+c"(number), "=&a"(carrier)::"cc", "memory");
    else
        HOST_RUN(cpu, insn->operand_size, REPNE_CMPS, REPNE_CMPS_DOWN, "+S"(source), "+D"(target),
                 "+c"(number), "=&a"(carrier)::"cc", "memory");
    cpu->rflags = flags_merge(cpu->rflags, carrier, FLAGS_STATUS);
    *stop = !!(cpu->rflags & FLAG_ZF) != !!(insn->prefixes & INSN_REP);
    done = count - number;
    advance(cpu, insn, GPR_RSI, distance(cpu, insn, done));
    advance(cpu, insn, GPR_RDI, distance(cpu, insn, done));
    return done;
}

static uint64_t cmps_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side from = source_side(insn), to = destination_side(SOFT_READ);
    unsigned size = insn->operand_size;
    uint64_t left, right;

    if (count > 1) {
        const void *source = run_pointer(cpu, insn, &from, &count);
        const void *target = source ? run_pointer(cpu, insn, &to, &count) : NULL;

        if (target)
            return cmps_run(cpu, insn, source, target, count, stop);
    }
    left = mem_get(cpu, element_address(cpu, insn, &from), size);
    right = mem_get(cpu, element_address(cpu, insn, &to), size);
    compare(cpu, insn, left, right, stop);
    advance(cpu, insn, GPR_RSI, step_of(cpu, insn));
    advance(cpu, insn, GPR_RDI, step_of(cpu, insn));
    return 1;
}

static uint64_t scas_run(struct soft_cpu *cpu, const struct insn *insn, const void *target,
                         uint64_t count, bool *stop)
{
    uint64_t number = count, done, flags;

    if (insn->prefixes & INSN_REP)
        HOST_RUN(cpu, insn->operand_size, REPE_SCAS, REPE_SCAS_DOWN, "+D"(target),
                 "+c"(number), [flags] "=&r"(flags)
                 : "a"(cpu->gpr[GPR_RAX])
                 : "cc", "memory");
    else
        HOST_RUN(cpu, insn->operand_size, REPNE_SCAS, REPNE_SCAS_DOWN, "+D"(target),
                 "+c"(number), [flags] "=&r"(flags)
                 : "a"(cpu->gpr[GPR_RAX])
                 : "cc", "memory");
    cpu->rflags = (cpu->rflags & ~FLAGS_STATUS) | (flags & FLAGS_STATUS);
    *stop = !!(flags & FLAG_ZF) != !!(insn->prefixes & INSN_REP);
    done = count - number;
    advance(cpu, insn, GPR_RDI, distance(cpu, insn, done));
    return done;
}

static uint64_t scas_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side to = destination_side(SOFT_READ);

    if (count > 1) {
        const void *target = run_pointer(cpu, insn, &to, &count);

        if (target)
            return scas_run(cpu, insn, target, count, stop);
    }
    compare(cpu, insn, cpu->gpr[GPR_RAX],
            mem_get(cpu, element_address(cpu, insn, &to), insn->operand_size), stop);
    advance(cpu, insn, GPR_RDI, step_of(cpu, insn));
    return 1;
}

/* ---- INS, OUTS ---- */

/* The destination is probed first: a port is read once, and what it gave must not be lost. */
static uint64_t ins_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side to = destination_side(SOFT_WRITE);
    uint16_t port = (uint16_t)cpu->gpr[GPR_RDX];
    unsigned size = insn->operand_size;
    uint64_t linear;

    soft_check_io(cpu, port, size);
    linear = element_address(cpu, insn, &to);
    soft_probe_write(cpu, linear, size, cpu->mmu_mode);
    mem_set(cpu, linear, cpu->exits->pio_read(cpu->exits_opaque, port, size), size);
    advance(cpu, insn, GPR_RDI, step_of(cpu, insn));
    return 1;
}

static uint64_t outs_step(struct soft_cpu *cpu, const struct insn *insn, uint64_t count, bool *stop)
{
    struct string_side from = source_side(insn);
    uint16_t port = (uint16_t)cpu->gpr[GPR_RDX];
    unsigned size = insn->operand_size;

    soft_check_io(cpu, port, size);
    cpu->exits->pio_write(cpu->exits_opaque, port, size,
                          (uint32_t)mem_get(cpu, element_address(cpu, insn, &from), size));
    advance(cpu, insn, GPR_RSI, step_of(cpu, insn));
    return 1;
}

#define DEFINE_STRING(name)                                         \
    static void name(struct soft_cpu *cpu, const struct insn *insn) \
    {                                                               \
        repeat(cpu, insn, name##_step);                             \
    }
DEFINE_STRING(movs)
DEFINE_STRING(stos)
DEFINE_STRING(lods)
DEFINE_STRING(cmps)
DEFINE_STRING(scas)
DEFINE_STRING(ins)
DEFINE_STRING(outs)

soft_exec_fn soft_select_string(const struct soft_decoded *decoded, struct insn *insn)
{
    static const struct {
        ZydisMnemonic mnemonic;
        uint8_t size;
        soft_exec_fn exec;
    } strings[] = {
        {ZYDIS_MNEMONIC_MOVSB, 1, movs}, {ZYDIS_MNEMONIC_MOVSW, 2, movs},
        {ZYDIS_MNEMONIC_MOVSD, 4, movs}, {ZYDIS_MNEMONIC_MOVSQ, 8, movs},
        {ZYDIS_MNEMONIC_STOSB, 1, stos}, {ZYDIS_MNEMONIC_STOSW, 2, stos},
        {ZYDIS_MNEMONIC_STOSD, 4, stos}, {ZYDIS_MNEMONIC_STOSQ, 8, stos},
        {ZYDIS_MNEMONIC_LODSB, 1, lods}, {ZYDIS_MNEMONIC_LODSW, 2, lods},
        {ZYDIS_MNEMONIC_LODSD, 4, lods}, {ZYDIS_MNEMONIC_LODSQ, 8, lods},
        {ZYDIS_MNEMONIC_CMPSB, 1, cmps}, {ZYDIS_MNEMONIC_CMPSW, 2, cmps},
        {ZYDIS_MNEMONIC_CMPSD, 4, cmps}, {ZYDIS_MNEMONIC_CMPSQ, 8, cmps},
        {ZYDIS_MNEMONIC_SCASB, 1, scas}, {ZYDIS_MNEMONIC_SCASW, 2, scas},
        {ZYDIS_MNEMONIC_SCASD, 4, scas}, {ZYDIS_MNEMONIC_SCASQ, 8, scas},
        {ZYDIS_MNEMONIC_INSB, 1, ins},   {ZYDIS_MNEMONIC_INSW, 2, ins},
        {ZYDIS_MNEMONIC_INSD, 4, ins},   {ZYDIS_MNEMONIC_OUTSB, 1, outs},
        {ZYDIS_MNEMONIC_OUTSW, 2, outs}, {ZYDIS_MNEMONIC_OUTSD, 4, outs},
    };
    ZydisInstructionCategory category = decoded->instruction.meta.category;

    /* MOVSD and CMPSD are names of vector instructions too. */
    if (category != ZYDIS_CATEGORY_STRINGOP && category != ZYDIS_CATEGORY_IOSTRINGOP)
        return NULL;
    for (unsigned i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        if (strings[i].mnemonic != decoded->instruction.mnemonic)
            continue;
        insn->operand_size = strings[i].size;
        return strings[i].exec;
    }
    return NULL;
}
