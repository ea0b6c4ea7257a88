// SPDX-License-Identifier: Apache-2.0
/*
 * Memory accesses that miss the TLB: translation, RAM, ROM, the local APIC's page and MMIO.
 *
 * An access is at most two pieces, one a page. Both are translated and checked before the first
 * byte moves. RAM is read and written at its host address; ROM takes no writes; all else leaves the
 * CPU as MMIO in aligned pieces of 1, 2, 4 or 8 bytes. A20 is always on.
 *
 * A page is entered into the TLB where the memory authority allows a lasting alias and no data
 * breakpoint watches it: what must be seen each time never hits.
 */
#include "vmm/engine/soft/lapic.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/tlb.h"

#define PAGE_SIZE   0x1000U
#define PAGE_OFFSET 0xfffUL

/* What of an access lies in one page. */
struct piece {
    uint64_t linear;
    unsigned size;
    struct soft_translation translation;
    uint8_t *host; /* of the first byte; NULL: MMIO, or ROM for a write */
};

/* #GP, or #SS where the operand's segment is SS (SDM 1, 3.3.7.1). */
static _Noreturn void raise_noncanonical(struct soft_cpu *cpu)
{
    bool stack =
        cpu->delivering < 0 && cpu->insn && cpu->insn->memory && cpu->insn->segment == SEG_SS;

    soft_raise(cpu, stack ? EXC_SS : EXC_GP, 0);
}

/* ---- data breakpoints (SDM 3B, 17.2.5) ---- */

/* Bytes that breakpoint `index` watches. */
static unsigned watch_size(const struct soft_cpu *cpu, unsigned index)
{
    static const uint8_t sizes[4] = {1, 2, 8, 4};

    return sizes[cpu->dr7 >> (18 + index * 4) & 3];
}

static bool watches_writes_only(const struct soft_cpu *cpu, unsigned index)
{
    return (cpu->dr7 >> (16 + index * 4) & 3) == 1;
}

static bool page_watched(const struct soft_cpu *cpu, uint64_t linear)
{
    for (unsigned i = 0; i < 4; i++)
        if ((cpu->break_data >> i & 1) && !((cpu->dr[i] ^ linear) & ~PAGE_OFFSET))
            return true;
    return false;
}

/* Note the breakpoints that [linear, linear + size) touches: a trap after the instruction. */
static void note_watched(struct soft_cpu *cpu, uint64_t linear, unsigned size, bool write)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned length = watch_size(cpu, i);
        uint64_t start = cpu->dr[i] & ~(uint64_t)(length - 1);

        if (!(cpu->break_data >> i & 1) || (!write && watches_writes_only(cpu, i)))
            continue;
        if (start - linear < size || linear - start < length) {
            cpu->pending_db |= 1U << i;
            cpu->block_end = true;
        }
    }
}

/* ---- translation ---- */

/* The mode whose rights and TLB count: alignment checks make no difference to either. */
static unsigned rights_mode(unsigned mode)
{
    return mode == SOFT_MMU_USER_ALIGNED ? SOFT_MMU_USER : mode;
}

static uint64_t translate(struct soft_cpu *cpu, uint64_t linear, enum soft_access access,
                          unsigned mode, struct soft_translation *translation)
{
    uint32_t error;

    if (soft_long_mode(cpu) && !soft_canonical(linear))
        raise_noncanonical(cpu);
    if (!soft_walk(cpu, linear, access, rights_mode(mode), translation, &error))
        soft_raise_page_fault(cpu, linear, error);
    return translation->physical;
}

/* #AC (SDM 3A, table 6-7): of numbers up to 8 bytes, and of 80-bit ones as if they had 8. */
static void check_alignment(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode)
{
    unsigned alignment = size == 10 ? 8 : size;

    if (mode == SOFT_MMU_USER_ALIGNED && alignment <= 8 && (linear & (alignment - 1)))
        soft_raise(cpu, EXC_AC, 0);
}

/* The register page of an xAPIC lies over whatever else is there. */
static bool is_lapic(const struct soft_cpu *cpu, uint64_t physical)
{
    return cpu->lapic && (physical & ~PAGE_OFFSET) == cpu->lapic_page;
}

/* Find a piece's memory and enter its page into the TLB if that may be: true when it was. */
static bool locate(struct soft_cpu *cpu, struct piece *piece, enum soft_access access,
                   unsigned mode)
{
    uint64_t page = piece->translation.physical & ~PAGE_OFFSET;
    bool keep = true;

    piece->host = NULL;
    if (is_lapic(cpu, page))
        return false;
    if (access == SOFT_WRITE)
        piece->host = soft_page_write(cpu, page, &keep);
    else
        piece->host = (uint8_t *)soft_page_read(cpu, page);
    if (!piece->host)
        return false;
    keep = keep && !(cpu->break_data && page_watched(cpu, piece->linear));
    if (keep)
        soft_tlb_fill(cpu, rights_mode(mode), piece->linear, access, &piece->translation,
                      piece->host);
    piece->host += piece->translation.physical & PAGE_OFFSET;
    return keep;
}

/* Translate and check the whole access. Returns the number of pieces; where they lie is found when
 * each is moved, since a device that is called for the first may change the map for the second. */
static unsigned prepare(struct soft_cpu *cpu, uint64_t linear, unsigned size,
                        enum soft_access access, unsigned mode, struct piece pieces[2])
{
    unsigned room = PAGE_SIZE - (linear & PAGE_OFFSET), count = 1;

    pieces[0].linear = linear;
    pieces[0].size = size;
    if (size > room) {
        pieces[0].size = room;
        pieces[1].linear = linear + room;
        pieces[1].size = size - room;
        if (cpu->code_size != 8 && linear <= UINT32_MAX)
            pieces[1].linear = (uint32_t)pieces[1].linear;
        count = 2;
    }
    for (unsigned i = 0; i < count; i++)
        translate(cpu, pieces[i].linear, access, mode, &pieces[i].translation);
    check_alignment(cpu, linear, size, mode);
    return count;
}

/* ---- registers of devices ---- */

/* The next step of an access that must be aligned: 1, 2, 4 or 8 bytes. */
static unsigned aligned_step(uint64_t address, unsigned left)
{
    unsigned step = 8;

    while (step > left || (address & (step - 1)))
        step /= 2;
    return step;
}

static void mmio_read(struct soft_cpu *cpu, uint64_t address, uint8_t *out, unsigned size)
{
    while (size) {
        unsigned step = aligned_step(address, size);
        uint64_t value = is_lapic(cpu, address)
                             ? soft_lapic_mmio_read(cpu, address & PAGE_OFFSET, step)
                             : cpu->exits->mmio_read(cpu->exits_opaque, address, step);

        memcpy(out, &value, step);
        address += step;
        out += step;
        size -= step;
    }
}

static void mmio_write(struct soft_cpu *cpu, uint64_t address, const uint8_t *in, unsigned size)
{
    while (size) {
        unsigned step = aligned_step(address, size);
        uint64_t value = 0;

        memcpy(&value, in, step);
        if (is_lapic(cpu, address))
            soft_lapic_mmio_write(cpu, address & PAGE_OFFSET, step, value);
        else
            cpu->exits->mmio_write(cpu->exits_opaque, address, step, value);
        address += step;
        in += step;
        size -= step;
    }
}

/* ---- moving the bytes ---- */

/* One host instruction for the sizes that a CPU moves at once, so that aligned ones are atomic. */
SOFT_UNORDERED static void copy_once(void *to, const void *from, unsigned size)
{
    switch (size) {
    case 1:
        memcpy(to, from, 1);
        break;
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    case 8:
        memcpy(to, from, 8);
        break;
    default:
        soft_copy(to, from, size);
    }
}

static void read_piece(struct soft_cpu *cpu, struct piece *piece, uint8_t *out, unsigned mode)
{
    locate(cpu, piece, SOFT_READ, mode);
    if (piece->host)
        copy_once(out, piece->host, piece->size);
    else
        mmio_read(cpu, piece->translation.physical, out, piece->size);
}

static void write_piece(struct soft_cpu *cpu, struct piece *piece, const uint8_t *in, unsigned mode)
{
    uint64_t physical = piece->translation.physical;

    locate(cpu, piece, SOFT_WRITE, mode);
    if (piece->host)
        copy_once(piece->host, in, piece->size);
    else if (is_lapic(cpu, physical) || !soft_page_read(cpu, physical & ~PAGE_OFFSET))
        mmio_write(cpu, physical, in, piece->size);
}

/* Host address of the access if its entry was only put out of its slot. */
static uint8_t *recall(struct soft_cpu *cpu, uint64_t linear, unsigned size,
                       enum soft_access access, unsigned mode)
{
    if (mode == SOFT_MMU_USER_ALIGNED || (linear & PAGE_OFFSET) + size > PAGE_SIZE ||
        !soft_tlb_recall(cpu, mode, linear, access))
        return NULL;
    return (uint8_t *)(soft_tlb_slot(cpu, mode, linear)->host + linear);
}

bool soft_tlb_refill(struct soft_cpu *cpu, uint64_t linear, enum soft_access access)
{
    unsigned mode = cpu->mmu_mode;
    struct piece piece = {.linear = linear};
    uint32_t error;

    if (mode == SOFT_MMU_USER_ALIGNED || cpu->break_data)
        return false;
    /* Registers of 32-bit code may hold more: the interpreter knows that an address ends there. */
    if (cpu->flat ? !soft_canonical(linear) : linear > UINT32_MAX)
        return false;
    if (soft_tlb_recall(cpu, mode, linear, access))
        return true;
    if (!soft_walk(cpu, linear, access, mode, &piece.translation, &error))
        return false;
    /* A write to code ends the block that it is in: for the interpreter to do. */
    if (access == SOFT_WRITE && soft_page_has_code(cpu, piece.translation.physical & ~PAGE_OFFSET))
        return false;
    return locate(cpu, &piece, access, mode);
}

void soft_read_slow(struct soft_cpu *cpu, uint64_t linear, void *out, unsigned size, unsigned mode)
{
    const uint8_t *host = recall(cpu, linear, size, SOFT_READ, mode);
    struct piece pieces[2];
    unsigned count;

    if (host) {
        copy_once(out, host, size);
        return;
    }
    count = prepare(cpu, linear, size, SOFT_READ, mode, pieces);

    if (cpu->break_data)
        note_watched(cpu, linear, size, false);
    read_piece(cpu, &pieces[0], out, mode);
    if (count == 2)
        read_piece(cpu, &pieces[1], (uint8_t *)out + pieces[0].size, mode);
}

void soft_write_slow(struct soft_cpu *cpu, uint64_t linear, const void *in, unsigned size,
                     unsigned mode)
{
    uint8_t *host = recall(cpu, linear, size, SOFT_WRITE, mode);
    struct piece pieces[2];
    unsigned count;

    if (host) {
        copy_once(host, in, size);
        return;
    }
    count = prepare(cpu, linear, size, SOFT_WRITE, mode, pieces);

    if (cpu->break_data)
        note_watched(cpu, linear, size, true);
    write_piece(cpu, &pieces[0], in, mode);
    if (count == 2)
        write_piece(cpu, &pieces[1], (const uint8_t *)in + pieces[0].size, mode);
}

/* ---- probes, fetches, atomics ---- */

void soft_probe_write(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode)
{
    struct piece pieces[2];

    if (soft_tlb_slot(cpu, mode, linear)->write_tag != SOFT_TAG(linear, size))
        prepare(cpu, linear, size, SOFT_WRITE, mode, pieces);
}

void soft_probe_read(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode)
{
    struct piece pieces[2];

    if (soft_tlb_slot(cpu, mode, linear)->read_tag != SOFT_TAG(linear, size))
        prepare(cpu, linear, size, SOFT_READ, mode, pieces);
}

const uint8_t *soft_fetch_slow(struct soft_cpu *cpu, uint64_t linear, uint64_t *gpa)
{
    bool user = cpu->cpl == 3;
    unsigned mode = user ? SOFT_MMU_USER : SOFT_MMU_SUPERVISOR;
    unsigned place = user ? SOFT_MMU_USER_FETCH : SOFT_MMU_SUPERVISOR_FETCH;
    struct soft_translation translation;
    const uint8_t *host;

    if (soft_long_mode(cpu) && !soft_canonical(linear))
        soft_raise(cpu, EXC_GP, 0);
    if (soft_tlb_recall(cpu, place, linear, SOFT_FETCH))
        return soft_fetch_page(cpu, linear, gpa);
    *gpa = translate(cpu, linear, SOFT_FETCH, mode, &translation);
    host = soft_page_read(cpu, *gpa & ~PAGE_OFFSET);
    if (!host)
        return NULL;
    soft_tlb_fill(cpu, place, linear, SOFT_FETCH, &translation, host);
    return host + (*gpa & PAGE_OFFSET);
}

void *soft_atomic_pointer(struct soft_cpu *cpu, uint64_t linear, unsigned size, unsigned mode)
{
    struct soft_tlb_entry *entry = soft_tlb_slot(cpu, mode, linear);
    struct piece pieces[2];

    if (entry->write_tag == SOFT_TAG(linear, size))
        return (void *)(entry->host + linear);
    unsigned count = prepare(cpu, linear, size, SOFT_WRITE, mode, pieces);

    for (unsigned i = 0; i < count; i++)
        locate(cpu, &pieces[i], SOFT_WRITE, mode);
    if (!pieces[0].host || (count == 2 && pieces[1].host != pieces[0].host + pieces[0].size))
        return NULL;
    if (cpu->break_data)
        note_watched(cpu, linear, size, true);
    return pieces[0].host;
}

bool soft_translate(struct soft_cpu *cpu, uint64_t linear, uint64_t *physical)
{
    struct soft_translation translation;

    if (!soft_walk_quietly(cpu, linear, &translation))
        return false;
    *physical = translation.physical;
    return true;
}
