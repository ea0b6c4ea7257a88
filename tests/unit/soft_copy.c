// SPDX-License-Identifier: Apache-2.0
/*
 * Copying a guest's instruction for the host: its new encoding is the same instruction with the
 * host's registers and memory operand. Zydis judges.
 */
#include "tests/unit/soft_copy.h"

/* As the translator has it: three guest registers come to lie in scratch ones, RSP in R15. */
static const uint8_t shuffled[16] = {0, 1, 2, 3, 15, 5, 6, 7, 8, 9, 11, 14, 12, 13, 10, 11};
static const struct emit_memory scratch_memory = {
    .base = 10, .index = EMIT_NONE, .displacement = 0x40};

static const struct emit_memory *memory_of(const struct decoded *decoded)
{
    for (unsigned i = 0; i < decoded->instruction.operand_count; i++)
        if (decoded->operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            return &scratch_memory;
    return NULL;
}

static bool emit(const struct decoded *decoded, const uint8_t map[16],
                 const struct emit_memory *memory, uint8_t *bytes, unsigned *length)
{
    struct emitter emitter = {.at = bytes, .end = bytes + 32};
    bool done =
        copy_emit(&emitter, &decoded->instruction, decoded->operands, decoded->bytes, map, memory);

    assert_false(emitter.full);
    *length = (unsigned)(emitter.at - bytes);
    if (!done)
        assert_int_equal(*length, 0);
    return done;
}

static void print_bytes(const uint8_t *bytes, unsigned length, char text[32])
{
    text[0] = 0;
    for (unsigned i = 0; i < length; i++)
        snprintf(text + i * 2, 3, "%02x", bytes[i]);
}

static void describe(const struct decoded *guest, const struct decoded *host, const char *what)
{
    char from[32], to[32] = "";

    print_bytes(guest->bytes, guest->instruction.length, from);
    if (host)
        print_bytes(host->bytes, host->instruction.length, to);
    fail_msg("%s -> %s (%s): %s", from, to, ZydisMnemonicGetString(guest->instruction.mnemonic),
             what);
}

static bool same_register(ZydisRegister guest, ZydisRegister host, const uint8_t map[16])
{
    uint8_t from = soft_register_offset(guest), to = soft_register_offset(host);

    if (from == SOFT_NO_OFFSET)
        return guest == host;
    return to != SOFT_NO_OFFSET && to / 8 == map[from / 8] && (to & 1) == (from & 1);
}

static const char *compare_memory(const ZydisDecodedOperand *guest, const ZydisDecodedOperand *host,
                                  const struct emit_memory *memory)
{
    static const ZydisRegister first = ZYDIS_REGISTER_RAX;

    if (host->mem.base != (memory->base == EMIT_NONE ? ZYDIS_REGISTER_NONE : first + memory->base))
        return "base";
    if (host->mem.index !=
        (memory->index == EMIT_NONE ? ZYDIS_REGISTER_NONE : first + memory->index))
        return "index";
    if (memory->index != EMIT_NONE && host->mem.scale != 1 << memory->scale)
        return "scale";
    if (host->mem.disp.value != memory->displacement)
        return "displacement";
    if (host->mem.type != guest->mem.type)
        return "kind of memory";
    if (host->mem.type == ZYDIS_MEMOP_TYPE_MEM &&
        (host->mem.segment == ZYDIS_REGISTER_GS) != memory->gs)
        return "segment";
    if (host->mem.type == ZYDIS_MEMOP_TYPE_MEM && host->size != guest->size)
        return "size of memory";
    return NULL;
}

static const char *compare_operand(const ZydisDecodedOperand *guest,
                                   const ZydisDecodedOperand *host, const uint8_t map[16],
                                   const struct emit_memory *memory)
{
    if (guest->type != host->type)
        return "type of operand";
    if (guest->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return compare_memory(guest, host, memory);
    if (guest->size != host->size)
        return "size of operand";
    if (guest->actions != host->actions)
        return "actions";
    if (guest->type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
        return guest->imm.value.u == host->imm.value.u ? NULL : "immediate";
    return same_register(guest->reg.value, host->reg.value, map) ? NULL : "register";
}

/* The one difference allowed: an operand that is twice as wide since flags are RFLAGS here. */
static bool is_flags(const ZydisDecodedOperand *operand)
{
    return operand->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(operand->reg.value) == ZYDIS_REGCLASS_FLAGS;
}

static const char *compare(const struct decoded *guest, const struct decoded *host,
                           const uint8_t map[16], const struct emit_memory *memory)
{
    bool narrow_lea = guest->instruction.mnemonic == ZYDIS_MNEMONIC_LEA;

    if (guest->instruction.mnemonic != host->instruction.mnemonic)
        return "mnemonic";
    if (guest->instruction.operand_count != host->instruction.operand_count)
        return "count of operands";
    if ((guest->instruction.attributes ^ host->instruction.attributes) & ZYDIS_ATTRIB_HAS_LOCK)
        return "LOCK";
    for (unsigned i = 0; i < guest->instruction.operand_count; i++) {
        const char *difference;

        if (is_flags(&guest->operands[i]) || (narrow_lea && i == 0))
            continue;
        difference = compare_operand(&guest->operands[i], &host->operands[i], map, memory);
        if (difference)
            return difference;
    }
    return NULL;
}

/* XCHG stands for itself with its operands the other way round. */
static void swap_operands(struct decoded *decoded)
{
    ZydisDecodedOperand first = decoded->operands[0];

    decoded->operands[0] = decoded->operands[1];
    decoded->operands[1] = first;
}

/* Emit it, read it back, compare. False when it cannot be encoded. */
static bool check_copy(struct decoded *guest, const uint8_t map[16],
                       const struct emit_memory *memory)
{
    struct decoded host;
    uint8_t bytes[32];
    unsigned length;
    const char *difference;

    if (!emit(guest, map, memory, bytes, &length))
        return false;
    if (!length) /* nothing to be done */
        return true;
    if (length > ZYDIS_MAX_INSTRUCTION_LENGTH || !decode(8, bytes, length, &host))
        describe(guest, NULL, "not an instruction");
    if (host.instruction.length != length)
        describe(guest, &host, "more than an instruction");
    difference = compare(guest, &host, map, memory);
    if (difference && guest->instruction.mnemonic == ZYDIS_MNEMONIC_XCHG) {
        swap_operands(guest);
        difference = compare(guest, &host, map, memory);
    }
    if (difference)
        describe(guest, &host, difference);
    return true;
}

struct pair {
    unsigned code_size;
    const char *guest, *host;
};

/* Encodings looked up by hand, with the shuffled map and [r10 + 0x40] for memory. */
static void encodings_are_those_of_the_manual(void **state)
{
    static const struct pair pairs[] = {
        {8, "4801c3", "4801c3"},                             /* add rbx, rax */
        {8, "4883ec08", "4983ef08"},                         /* sub rsp, 8: R15 */
        {8, "4889e5", "4c89fd"},                             /* mov rbp, rsp */
        {8, "8b4508", "418b4240"},                           /* mov eax, [rbp + 8] */
        {8, "668b00", "66418b4240"},                         /* mov ax, [rax] */
        {8, "f0480fb10f", "f0490fb14a40"},                   /* lock cmpxchg [rdi], rcx */
        {8, "4088e0", "4488f8"},                             /* mov al, spl: R15B */
        {8, "4088f0", "4088f0"},                             /* mov al, sil: keeps REX */
        {8, "88e0", "88e0"},                                 /* mov al, ah */
        {8, "41bb78563412", "41be78563412"},                 /* mov r11d, 0x12345678: R14 */
        {8, "48b80102030405060708", "48b80102030405060708"}, /* mov rax, imm64 */
        {8, "4990", "4987c0"},                               /* xchg r8, rax */
        {8, "90", ""},                                       /* nop */
        {8, "0f1f4000", ""},                                 /* nop [rax] */
        {8, "0f1808", ""},                                   /* prefetcht0 [rax] */
        {8, "f30f1efa", ""},                                 /* endbr64 */
        {8, "f3480fb8c7", "f3480fb8c7"},                     /* popcnt rax, rdi */
        {8, "66f20f38f107", "66f2410f38f14240"},             /* crc32 eax, word [rdi] */
        {8, "64488b042528000000", "498b4240"},               /* mov rax, fs:[0x28] */
        {8, "67488d4708", "418d4240"},                       /* lea rax, [edi + 8]: 32 bits */
        {8, "c4e2f3f6c2", "c4e2f3f6c2"},                     /* mulx rax, rcx, rdx */
        {8, "c4c2f8f2c3", "c4c2f8f2c6"},                     /* andn rax, rax, r11 */
        {8, "0f58c1", "0f58c1"},                             /* addps xmm0, xmm1 */
        {8, "660f6fc9", "660f6fc9"},                         /* movdqa xmm1, xmm1 */
        {8, "f30f100f", "f3410f104a40"},                     /* movss xmm1, [rdi] */
        {8, "66490f6ec3", "66490f6ec6"},                     /* movq xmm0, r11 */
        {8, "f2480f2ac4", "f2490f2ac7"},                     /* cvtsi2sd xmm0, rsp */
        {8, "c5fc58c1", "c5fc58c1"},                         /* vaddps ymm0, ymm0, ymm1 */
        {8, "c5fc5807", "c4c17c584240"},       /* vaddps ymm0, ymm0, [rdi]: three bytes of VEX */
        {8, "c4e37d4bc140", "c4e37d4bc140"},   /* vblendvpd ymm0, ymm0, ymm1, ymm4 */
        {8, "c4c379160301", "c4c37916424001"}, /* vpextrd [r11], xmm0, 1 */
        {8, "c4c37916c301", "c4c37916c601"},   /* vpextrd r11d, xmm0, 1 */
        {8, "c5f877", "c5f877"},               /* vzeroupper */
        {8, "62f17c4858c1", "62f17c4858c1"},   /* vaddps zmm0, zmm0, zmm1 */
        /* vaddps zmm17{k2}{z}, zmm18, [rdi + 64]: the displacement is not compressed */
        {8, "62e16cc2584f01", "62c16cc2588a40000000"},
        {8, "c4c17b92cb", "c4c17b92ce"},   /* kmovd k1, r11d */
        {8, "c5f998c1", "c5f998c1"},       /* kortestb k0, k1 */
        {8, "0fae1f", "410fae5a40"},       /* stmxcsr [rdi] */
        {8, "0faee8", "0faee8"},           /* lfence */
        {4, "40", "ffc0"},                 /* inc eax */
        {4, "4c", "41ffcf"},               /* dec esp */
        {4, "6641", "66ffc1"},             /* inc cx */
        {4, "a178563412", "418b4240"},     /* mov eax, [0x12345678] */
        {4, "66a378563412", "6641894240"}, /* mov [0x12345678], ax */
        {4, "82c001", "80c001"},           /* add al, 1: an alias */
        {2, "01c8", "6601c8"},             /* add ax, cx */
        {2, "6601c8", "01c8"},             /* add eax, ecx */
        {2, "b83412", "66b83412"},         /* mov ax, 0x1234 */
    };

    for (unsigned i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct decoded guest = decode_text(pairs[i].code_size, pairs[i].guest);
        uint8_t bytes[32];
        unsigned length;
        char text[32];

        assert_true(classify(&guest, false).copies);
        assert_true(emit(&guest, shuffled, memory_of(&guest), bytes, &length));
        print_bytes(bytes, length, text);
        assert_string_equal(text, pairs[i].host);
    }
}

static void high_bytes_exclude_what_needs_rex(void **state)
{
    struct decoded load = decode_text(8, "8a27"), move = decode_text(8, "88e1"),
                   stack = decode_text(4, "0fb6e4");
    static const struct emit_memory low = {.base = 7, .index = EMIT_NONE};
    uint8_t other[16];
    uint8_t bytes[32];
    unsigned length;

    assert_false(emit(&load, shuffled, &scratch_memory, bytes, &length)); /* mov ah, [r10..] */
    assert_true(check_copy(&load, shuffled, &low));
    assert_true(check_copy(&move, shuffled, NULL));             /* mov cl, ah */
    assert_false(emit(&stack, shuffled, NULL, bytes, &length)); /* movzx esp, ah */
    assert_int_equal(copy_high_register(&move.instruction, move.operands), EMIT_NONE);
    memcpy(other, shuffled, sizeof(other));
    other[0] = 8;
    assert_false(emit(&move, other, NULL, bytes, &length));
}

/* mov ah, [r10 + 0x40] by way of AL; not where AL is an operand itself. */
static void high_bytes_go_by_low_ones(void **state)
{
    struct decoded load = decode_text(8, "8a27"), both = decode_text(8, "0fb027");
    uint8_t bytes[32];
    struct emitter emitter = {.at = bytes, .end = bytes + sizeof(bytes)};
    char text[32];

    assert_int_equal(copy_high_register(&load.instruction, load.operands), GPR_RAX);
    assert_int_equal(copy_high_register(&both.instruction, both.operands), EMIT_NONE);
    assert_true(copy_emit_exchanged(&emitter, &load.instruction, load.operands, load.bytes,
                                    shuffled, &scratch_memory));
    print_bytes(bytes, (unsigned)(emitter.at - bytes), text);
    assert_string_equal(text, "418a4240");
}

static void control_words_are_left_to_be_looked_at(void **state)
{
    static const char *const loads[] = {"0fae17" /* ldmxcsr [rdi] */, "c5f8ae17",
                                        "d92f" /* fldcw */};
    uint8_t bytes[32];
    unsigned length;

    for (unsigned i = 0; i < sizeof(loads) / sizeof(loads[0]); i++) {
        struct decoded guest = decode_text(8, loads[i]);
        struct copy_form form = classify(&guest, false);

        assert_true(form.copies && form.control && form.reads);
        assert_false(emit(&guest, shuffled, &scratch_memory, bytes, &length));
    }
}

static void implicit_registers_stay_where_they_are(void **state)
{
    static const char *const users[] = {"f7e1" /* mul ecx */, "d3e3" /* shl ebx, cl */,
                                        "4899" /* cqo */, "0fb1ca" /* cmpxchg edx, ecx */,
                                        "9f" /* lahf */};
    uint8_t other[16], bytes[32];
    unsigned length;

    memcpy(other, shuffled, sizeof(other));
    other[0] = 8;
    other[1] = 9;
    for (unsigned i = 0; i < sizeof(users) / sizeof(users[0]); i++) {
        struct decoded guest = decode_text(8, users[i]);

        assert_false(emit(&guest, other, NULL, bytes, &length));
        assert_true(check_copy(&guest, shuffled, NULL));
    }
}

static void memory_is_asked_for_where_it_is_named(void **state)
{
    struct decoded load = decode_text(8, "8b07"), move = decode_text(8, "89c8");
    uint8_t bytes[32];
    unsigned length;

    assert_false(emit(&load, shuffled, NULL, bytes, &length));
    assert_false(emit(&move, shuffled, &scratch_memory, bytes, &length));
}

/* ---- random encodings ---- */

#define PLAIN_ROUNDS 1000000U
#define EVEX_ROUNDS  800000U

static uint64_t random_state;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* The prefix of an instruction that may be one; returns its length. */
static unsigned random_prefix(unsigned code_size, uint8_t *bytes)
{
    static const uint8_t prefixes[] = {0x66, 0x66, 0x66, 0xf2, 0xf2, 0xf3,
                                       0xf3, 0xf0, 0x67, 0x64, 0x2e, 0x65};
    static const uint8_t pp_l[] = {0x78, 0x79, 0x7a, 0x7b, 0x7d, 0x7c};
    unsigned at = 0, kind = (unsigned)(random_next() % 8);
    uint8_t extension = (uint8_t)random_next();

    if (kind < 6)
        while (random_next() % 2 == 0 && at < 3)
            bytes[at++] = prefixes[random_next() % sizeof(prefixes)];
    if (kind >= 6) {
        uint8_t last = pp_l[random_next() % sizeof(pp_l)];

        /* VEX.vvvv is unused by most. */
        if (random_next() & 1)
            last ^= (uint8_t)(random_next() & 0x78);
        bytes[at++] = kind == 6 ? 0xc5 : 0xc4;
        if (code_size != 8)
            extension |= 0xc0;
        if (kind == 7)
            bytes[at++] = (uint8_t)((extension & 0xe0) | (1 + random_next() % 3));
        bytes[at++] = (uint8_t)(last | (kind == 6 ? extension & 0x80 : random_next() & 0x80));
        return at;
    }
    if (code_size == 8 && extension & 1)
        bytes[at++] = (uint8_t)(0x40 | extension >> 4);
    if (kind >= 2)
        bytes[at++] = 0x0f;
    if (kind >= 4)
        bytes[at++] = kind == 4 ? 0x38 : 0x3a;
    return at;
}

/* Bytes that are often an instruction; `round` walks through opcodes and ModRM.reg. */
static void random_bytes(unsigned code_size, unsigned round, uint8_t bytes[15])
{
    unsigned at;

    for (unsigned i = 0; i < 15; i++)
        bytes[i] = (uint8_t)random_next();
    at = random_prefix(code_size, bytes);
    bytes[at] = (uint8_t)round;
    bytes[at + 1] = (uint8_t)((bytes[at + 1] & 0xc7) | (round >> 8 & 7) << 3);
}

/* VEX with the map, prefix and W of `round`. */
static void random_vex(unsigned code_size, unsigned round, uint8_t bytes[15])
{
    uint64_t bits = random_next();
    uint8_t vvvv = bits & 1 ? (uint8_t)(bits >> 1 & 15) : 15;

    bytes[0] = 0xc4;
    bytes[1] =
        (uint8_t)((bits >> 16 & 0xe0) | (1 + (round >> 14) % 3) | (code_size == 8 ? 0 : 0xc0));
    bytes[2] =
        (uint8_t)((round >> 13 & 1) << 7 | vvvv << 3 | (bits >> 5 & 1) << 2 | (round >> 11 & 3));
    bytes[3] = (uint8_t)round;
    bytes[4] = (uint8_t)((bytes[4] & 0xc7) | (round >> 8 & 7) << 3);
    if (bits & 64) /* registers up to 7, of which there are eight masks */
        bytes[1] |= 0xe0;
    if (bits & 128)
        bytes[4] |= 0xc0;
}

/* The same for EVEX; `round` walks through the maps, prefixes and W too. */
static void random_evex(unsigned code_size, unsigned round, uint8_t bytes[15])
{
    uint64_t bits = random_next();
    uint8_t vvvv = bits & 1 ? (uint8_t)(bits >> 1 & 15) : 15, aaa = bits & 32 ? bits >> 6 & 7 : 0;
    bool upper = vvvv == 15 || bits & 1U << 9, zeroing = aaa && bits & 1U << 10;
    uint8_t length = (uint8_t)(bits >> 11 & 3);

    for (unsigned i = 0; i < 15; i++)
        bytes[i] = (uint8_t)random_next();
    if (bits >> 24 & 1) {
        random_vex(code_size, round, bytes);
        return;
    }
    bytes[0] = 0x62;
    bytes[1] =
        (uint8_t)((bits >> 16 & 0xf0) | (1 + (round >> 14) % 3) | (code_size == 8 ? 0 : 0xc0));
    bytes[2] = (uint8_t)((round >> 13 & 1) << 7 | vvvv << 3 | 4 | (round >> 11 & 3));
    bytes[3] = (uint8_t)(zeroing << 7 | length << 5 | !(bits >> 13 & 7) << 4 | upper << 3 | aaa);
    bytes[4] = (uint8_t)round;
    bytes[5] = (uint8_t)((bytes[5] & 0xc7) | (round >> 8 & 7) << 3);
}

static struct emit_memory random_memory(void)
{
    static const int32_t displacements[] = {0, 1, -128, 128, -129, 0x7fffffff};
    struct emit_memory memory = {.base = (uint8_t)(random_next() & 15),
                                 .index = (uint8_t)(random_next() & 15),
                                 .scale = random_next() & 3,
                                 .gs = random_next() & 1,
                                 .displacement = displacements[random_next() % 6]};

    if (memory.index == 4)
        memory.index = EMIT_NONE;
    if (random_next() % 8 == 0) {
        memory.base = memory.index = EMIT_NONE;
        memory.scale = 0;
    }
    return memory;
}

static void random_instructions_stay_the_same(void **state)
{
    static const unsigned code_sizes[] = {8, 8, 4, 2};
    static bool met[ZYDIS_MNEMONIC_MAX_VALUE + 1];

    random_state = 0x9e3779b97f4a7c15;
    for (unsigned round = 0; round < PLAIN_ROUNDS + EVEX_ROUNDS; round++) {
        unsigned code_size = code_sizes[random_next() & 3];
        struct emit_memory memory = random_memory();
        struct decoded guest;
        uint8_t bytes[15];

        if (round >= PLAIN_ROUNDS)
            random_evex(code_size, round - PLAIN_ROUNDS, bytes);
        else
            random_bytes(code_size, round, bytes);
        if (!decode(code_size, bytes, sizeof(bytes), &guest) || !classify(&guest, false).copies)
            continue;
        if (!check_copy(&guest, shuffled, memory_of(&guest) ? &memory : NULL))
            continue;
        met[guest.instruction.mnemonic] = true;
    }
    for (unsigned mnemonic = 0; mnemonic <= ZYDIS_MNEMONIC_MAX_VALUE; mnemonic++)
        if (copy_list_find((ZydisMnemonic)mnemonic) && !met[mnemonic] &&
            !copy_loads_control((ZydisMnemonic)mnemonic))
            fail_msg("%s was never met", ZydisMnemonicGetString((ZydisMnemonic)mnemonic));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_are_those_of_the_manual),
        cmocka_unit_test(high_bytes_exclude_what_needs_rex),
        cmocka_unit_test(high_bytes_go_by_low_ones),
        cmocka_unit_test(control_words_are_left_to_be_looked_at),
        cmocka_unit_test(implicit_registers_stay_where_they_are),
        cmocka_unit_test(memory_is_asked_for_where_it_is_named),
        cmocka_unit_test(random_instructions_stay_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
