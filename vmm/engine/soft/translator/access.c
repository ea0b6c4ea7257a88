// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands of translated code: the soft form, which is the TLB of cpu.h looked up inline.
 *
 * The linear address chooses a line by its page number; the line's tag for the access is compared
 * with the page of the operand's last byte. So one comparison tells a miss, a page without the
 * right, an address that is not canonical, and an operand that crosses into another page. What does
 * not hit goes to the interpreter, with the guest's registers as they were.
 *
 * In 32-bit code a base register may hold more than 32 bits (from 64-bit code) or the sum exceed
 * them: such an address hits nothing, and the interpreter does it right.
 */
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/translation.h"

#define PAGE_SIZE      0x1000U
#define NEAR           0x10000 /* displacement that does not make a 32-bit address wrap, mostly */
#define LINE_SHIFT     5       /* of a TLB entry's size */
#define SIZE_MAX_BYTES 64

_Static_assert(sizeof(struct soft_tlb_entry) == 1 << LINE_SHIFT, "a TLB entry is 32 bytes");

static int32_t tlb_field(const struct build *build, size_t field)
{
    unsigned mode = build->translation->mode & 3;

    return (int32_t)((uintptr_t)&build->cpu->tlb[mode][0] + field);
}

void access_check_segment(struct build *build, unsigned segment)
{
    struct emit_memory limit = BUILD_FIELD(build, seg[segment].limit);
    struct emit_memory attributes = BUILD_FIELD(build, seg[segment].attributes);

    held_lose(build, T2);
    emit_alu_memory_immediate(&build->emitter, 7, false, &limit, -1);
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(&build->emitter, 5));
    emit_op_memory(&build->emitter, 0, 0x0fb7, false, T2, &attributes); /* MOVZX */
    emit_alu_immediate(&build->emitter, 4, false, T2, (int32_t)(SEGMENT_UNUSABLE | 14));
    emit_alu_immediate(&build->emitter, 7, false, T2, 2);
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(&build->emitter, 5));
}

/* Whether the access needs an address of 32 bits, whatever registers hold. */
static bool window_is_small(const struct build *build)
{
    return build->window != WINDOW_NONE && mode_is_small(build->translation->mode);
}

/* The linear address in T0, by itself. */
static void use_t0(struct access *access)
{
    access->address = (struct emit_memory){.base = T0, .index = EMIT_NONE};
    access->host = (struct emit_memory){.base = T0, .index = T1};
    access->scratch = 1U << T0 | 1U << T1;
}

/* An operand without general registers, before the segment's base. */
static uint64_t constant_address(const struct build *build, const struct insn *insn)
{
    uint64_t address = (uint64_t)insn->displacement;

    if (insn->base == INSN_RIP)
        address += build->rip + insn->length;
    return insn->address_size == 4 ? (uint32_t)address : address;
}

static bool prepare_constant(struct build *build, const struct insn *insn, unsigned size,
                             struct access *access)
{
    uint64_t linear = constant_address(build, insn);

    access->constant = true;
    access->relative = insn->base == INSN_RIP;
    access->cut = insn->address_size == 4;
    access->linear = linear;
    access->scratch = 1U << T1 | 1U << T2;
    return (linear & (PAGE_SIZE - 1)) + size <= PAGE_SIZE;
}

/* [base + displacement] stays as it is; only the delta is added. */
static void prepare_simple(struct build *build, const struct insn *insn, struct access *access)
{
    uint8_t base = held_load(build, insn->base, T0);

    if (base == T1 || base == T2) { /* the check wants these */
        emit_mov_register(&build->emitter, true, T0, base);
        held_set(build, T0, insn->base);
        base = T0;
    }
    access->simple = base != T0;
    access->base = insn->base;
    access->address = (struct emit_memory){
        .base = base, .index = EMIT_NONE, .displacement = (int32_t)insn->displacement};
    access->host = (struct emit_memory){
        .base = base, .index = T1, .displacement = (int32_t)insn->displacement};
    access->scratch = 1U << T1 | (base == T0 ? 1U << T0 : 0);
}

/* The linear address to T0. */
static void compute_address(struct build *build, const struct insn *insn)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory sum = {.base = EMIT_NONE,
                              .index = EMIT_NONE,
                              .scale = insn->scale,
                              .displacement = (int32_t)insn->displacement};

    if (insn->base < GPR_COUNT)
        sum.base = held_load(build, insn->base, T0);
    if (insn->index < GPR_COUNT)
        sum.index = held_load(build, insn->index, sum.base == T1 ? T0 : T1);
    if (insn->base == INSN_RIP)
        emit_mov_linear(emitter, T0, constant_address(build, insn), insn->address_size == 4);
    else if (insn->displacement != (int32_t)insn->displacement) /* and no register */
        emit_mov_immediate(emitter, T0, constant_address(build, insn));
    else
        emit_lea(emitter, insn->address_size == 8, T0, &sum);
    if (insn->segment >= SEG_FS) {
        struct emit_memory base = BUILD_FIELD(build, seg[insn->segment].base);

        emit_op_memory(emitter, 0, 0x03, build->long_mode, T0, &base);
    }
    held_lose(build, T0);
}

static void prepare_general(struct build *build, const struct insn *insn, struct access *access)
{
    compute_address(build, insn);
    use_t0(access);
}

bool access_key(const struct build *build, const struct insn *insn, struct address_key *key)
{
    int64_t reach = build->long_mode ? INT32_MAX - SIZE_MAX_BYTES : NEAR;

    key->base = insn->base;
    key->index = insn->index < GPR_COUNT ? insn->index : EMIT_NONE;
    key->scale = insn->index < GPR_COUNT ? insn->scale : 0;
    return insn->base < GPR_COUNT && insn->segment < SEG_FS &&
           (build->long_mode || (insn->segment != SEG_CS && insn->segment != SEG_ES)) &&
           insn->address_size == build_word(build) && insn->displacement < reach &&
           insn->displacement > -reach;
}

bool access_prepare_sum(struct build *build, const struct insn *insn, struct access *access)
{
    if (!insn->memory || insn->segment >= SEG_FS || insn->address_size == 2 ||
        (!build->long_mode && (insn->segment == SEG_CS || insn->segment == SEG_ES)))
        return false;
    *access = (struct access){0};
    prepare_general(build, insn, access);
    return true;
}

bool access_covered(const struct build *build, const struct insn *insn, unsigned size, bool write)
{
    struct address_key key;

    return access_key(build, insn, &key) &&
           group_holds(build, &key, (int)insn->displacement, size, write);
}

/* By a group that needs more than one register for its addresses. */
static bool prepare_grouped(struct build *build, const struct insn *insn, unsigned size, bool write,
                            struct access *access)
{
    const struct group *group = &build->group;
    struct address_key key;
    int displacement = (int)insn->displacement;

    if (!access_key(build, insn, &key) || key_is_simple(&key) ||
        !group_covers(build, &key, displacement, size, write))
        return false;
    access->grouped = true;
    access->host =
        (struct emit_memory){.base = T0,
                             .index = EMIT_NONE,
                             .displacement = group->moved + displacement - group->origin};
    access->scratch = 1U << T0;
    return true;
}

bool access_prepare(struct build *build, const struct insn *insn, unsigned size, bool write,
                    struct access *access)
{
    bool lone = insn->base >= GPR_COUNT && insn->index >= GPR_COUNT;
    bool segmented = insn->segment >= SEG_FS;
    struct address_key key;

    if (!insn->memory || insn->segment > SEG_GS || insn->address_size == 2 ||
        (!build->long_mode && (insn->segment == SEG_CS || insn->segment == SEG_ES)))
        return false;
    *access = (struct access){0};
    if (segmented && !build->long_mode)
        access_check_segment(build, insn->segment);
    if (lone && !segmented)
        return prepare_constant(build, insn, size, access);
    if (prepare_grouped(build, insn, size, write, access))
        return true;
    if (access_key(build, insn, &key) && key.index == EMIT_NONE && !window_is_small(build))
        prepare_simple(build, insn, access);
    else
        prepare_general(build, insn, access);
    return true;
}

void access_prepare_stack(struct build *build, unsigned base, int displacement,
                          struct access *access)
{
    uint8_t host = host_register(base);

    if (window_is_small(build)) {
        const struct emit_memory sum = {
            .base = host, .index = EMIT_NONE, .displacement = displacement};

        held_lose(build, T0);
        emit_lea(&build->emitter, false, T0, &sum);
        *access = (struct access){0};
        use_t0(access);
        return;
    }
    *access = (struct access){
        .simple = true,
        .base = (uint8_t)base,
        .address = {.base = host, .index = EMIT_NONE, .displacement = displacement},
        .host = {.base = host, .index = T1, .displacement = displacement},
        .scratch = 1U << T1,
    };
}

/* Where the miss goes: the address is computed there again, out of the way. */
static void add_miss(struct build *build, const struct access *access, unsigned size, bool write)
{
    bool sparse = build->now->form.sparse;
    struct cold *cold = build_cold(build, sparse ? COLD_INTERPRET : COLD_MISS,
                                   emit_jump_if_forward(&build->emitter, 5));

    if (!cold || sparse)
        return;
    cold->access = size | (write ? 1U << 8 : 0);
    cold->address = access->address;
    cold->constant = access->constant;
    cold->relative = access->relative;
    cold->cut = access->cut;
    cold->linear = access->linear;
}

void access_load_constant(struct build *build, uint8_t to, uint64_t linear, bool relative, bool cut)
{
    if (relative)
        emit_mov_linear(&build->emitter, to, linear, cut);
    else
        emit_mov_immediate(&build->emitter, to, linear);
}

/* The page is known: so is the line. */
static void check_constant(struct build *build, struct access *access, unsigned size, bool write)
{
    struct emitter *emitter = &build->emitter;
    uint64_t page = access->linear & ~(uint64_t)(PAGE_SIZE - 1);
    uintptr_t entry = (uintptr_t)soft_tlb_slot(build->cpu, build->translation->mode & 3, page);
    struct emit_memory tag = {.base = EMIT_NONE,
                              .index = EMIT_NONE,
                              .relocate = access->relative ? RELOCATION_TLB : RELOCATION_NONE};
    struct emit_memory host = tag;

    tag.displacement = (int32_t)(entry + (write ? offsetof(struct soft_tlb_entry, write_tag)
                                                : offsetof(struct soft_tlb_entry, read_tag)));
    host.displacement = (int32_t)(entry + offsetof(struct soft_tlb_entry, host));
    held_lose(build, T1);
    held_lose(build, T2);
    access_load_constant(build, T2, page, access->relative, access->cut);
    emit_op_memory(emitter, 0, 0x3b, true, T2, &tag);
    add_miss(build, access, size, write);
    emit_load(emitter, true, T1, &host);
    access->host = (struct emit_memory){
        .base = T1, .index = T2, .displacement = (int32_t)(access->linear & (PAGE_SIZE - 1))};
}

/* The line of the byte at `address` in T1; compare its tag with the page of the one at `last`. */
static void compare_tag(struct build *build, const struct emit_memory *address,
                        const struct emit_memory *last, bool write)
{
    struct emitter *emitter = &build->emitter;
    struct emit_memory tag = {.base = T1, .index = EMIT_NONE};

    tag.displacement = tlb_field(build, write ? offsetof(struct soft_tlb_entry, write_tag)
                                              : offsetof(struct soft_tlb_entry, read_tag));
    held_lose(build, T1);
    held_lose(build, T2);
    if (address->displacement)
        emit_lea(emitter, false, T1, address);
    else
        emit_mov_register(emitter, false, T1, address->base);
    emit_shift(emitter, 5, false, T1, 12 - LINE_SHIFT);
    emit_alu_immediate(emitter, 4, false, T1, (SOFT_TLB_ENTRIES - 1) << LINE_SHIFT);
    if (last->displacement)
        emit_lea(emitter, true, T2, last);
    else
        emit_mov_register(emitter, true, T2, last->base);
    emit_alu_immediate(emitter, 4, true, T2, -(int32_t)PAGE_SIZE);
    emit_op_memory(emitter, 0, 0x3b, true, T2, &tag);
}

static void load_delta(struct build *build, uint8_t to)
{
    struct emit_memory host = {
        .base = T1,
        .index = EMIT_NONE,
        .displacement = tlb_field(build, offsetof(struct soft_tlb_entry, host)),
    };

    held_lose(build, to);
    emit_load(&build->emitter, true, to, &host);
}

void access_check(struct build *build, struct access *access, unsigned size, bool write)
{
    const struct address_key key = {.base = access->base, .index = EMIT_NONE};
    struct emit_memory last = access->address;

    if (build->window != WINDOW_NONE) {
        build_window_check(build, access);
        return;
    }
    if (access->grouped)
        return;
    if (access->constant) {
        check_constant(build, access, size, write);
        return;
    }
    if (access->simple && group_covers(build, &key, access->address.displacement, size, write)) {
        access->host.index = T0;
        access->scratch = 1U << T0;
        return;
    }
    last.displacement += (int32_t)size - 1;
    compare_tag(build, &access->address, &last, write);
    add_miss(build, access, size, write);
    load_delta(build, T1);
}

void access_check_group(struct build *build, int displacement, unsigned size)
{
    struct group *group = &build->group;
    struct emit_memory here = {.base = host_register(group->key.base), .index = EMIT_NONE};
    struct emit_memory kept = BUILD_FIELD(build, group_delta), first, last;
    struct emit_memory host = {.base = T1,
                               .index = EMIT_NONE,
                               .displacement =
                                   tlb_field(build, offsetof(struct soft_tlb_entry, host))};
    struct cold *cold;

    group->pointer = !key_is_simple(&group->key);
    group->origin = group->pointer ? displacement : 0;
    if (group->pointer) {
        compute_address(build, build_now(build));
        here.base = T0;
    }
    first = last = here;
    first.displacement = group->low - group->origin;
    last.displacement = group->high - group->origin - 1;
    here.displacement = displacement - group->origin;
    compare_tag(build, &first, &last, group->write);
    cold = build_cold(build, COLD_GROUP, emit_jump_if_forward(&build->emitter, 5));
    held_lose(build, T0);
    emit_op_memory(&build->emitter, 0, group->pointer ? 0x03 : 0x8b, true, T0, &host);
    emit_store(&build->emitter, true, &kept, T0);
    if (!cold)
        return;
    cold->access = size | (group->write ? 1U << 8 : 0);
    cold->address = here;
    cold->first = first;
    cold->last = last;
    cold->flags = build->flags;
    cold->exit = build_exit(build, EXIT_PLAIN, build->rip, NULL);
}

void access_check_run(struct build *build, uint8_t base, const struct emit_memory *last, bool write,
                      uint8_t to)
{
    const struct emit_memory address = {.base = base, .index = EMIT_NONE};

    compare_tag(build, &address, last, write);
    build_cold(build, COLD_INTERPRET, emit_jump_if_forward(&build->emitter, 5));
    load_delta(build, to);
}
