// SPDX-License-Identifier: Apache-2.0
/*
 * Copying a guest's instruction for the host: what it is said to read and write, and that its new
 * encoding is the same instruction with the host's registers and memory operand. Zydis judges.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "vmm/engine/cpu_state.h"
#include "vmm/engine/soft/operand.h"
#include "vmm/engine/soft/translator/copy.h"
#include "vmm/engine/soft/translator/copy_list.h"

#define STATUS FLAGS_STATUS

struct decoded {
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static const struct copy_features all_features = {.bmi2 = true, .avx = true};

/* As the translator has it: three guest registers come to lie in scratch ones, RSP in R15. */
static const uint8_t shuffled[16] = {0, 1, 2, 3, 15, 5, 6, 7, 8, 9, 11, 14, 12, 13, 10, 11};
static const struct emit_memory scratch_memory = {
    .base = 10, .index = EMIT_NONE, .displacement = 0x40};

static bool decode(unsigned code_size, const void *bytes, unsigned length, struct decoded *decoded)
{
    ZydisDecoder decoder;

    ZydisDecoderInit(&decoder,
                     code_size == 8   ? ZYDIS_MACHINE_MODE_LONG_64
                     : code_size == 4 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                      : ZYDIS_MACHINE_MODE_LEGACY_16,
                     code_size == 8   ? ZYDIS_STACK_WIDTH_64
                     : code_size == 4 ? ZYDIS_STACK_WIDTH_32
                                      : ZYDIS_STACK_WIDTH_16);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    memset(decoded->bytes, 0, sizeof(decoded->bytes));
    memcpy(decoded->bytes, bytes, length);
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, decoded->bytes, length,
                                               &decoded->instruction, decoded->operands));
}

/* Bytes from hexadecimal digits, decoded. */
static struct decoded decode_text(unsigned code_size, const char *text)
{
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    struct decoded decoded;
    unsigned length = 0;

    for (const char *digit = text; *digit; digit += 2) {
        char pair[3] = {digit[0], digit[1], 0};

        bytes[length++] = (uint8_t)strtoul(pair, NULL, 16);
    }
    if (!decode(code_size, bytes, length, &decoded))
        fail_msg("%s is no instruction", text);
    return decoded;
}

static struct copy_form classify(const struct decoded *decoded, bool exact)
{
    struct copy_form form;

    copy_classify(&decoded->instruction, decoded->operands, &all_features, exact, &form);
    return form;
}

static struct copy_form classify_text(unsigned code_size, const char *text, bool exact)
{
    struct decoded decoded = decode_text(code_size, text);

    return classify(&decoded, exact);
}

/* ---- the same instruction ---- */

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
        {8, "0fae1f", "410fae5a40"},           /* stmxcsr [rdi] */
        {8, "0faee8", "0faee8"},               /* lfence */
        {4, "40", "ffc0"},                     /* inc eax */
        {4, "4c", "41ffcf"},                   /* dec esp */
        {4, "6641", "66ffc1"},                 /* inc cx */
        {4, "a178563412", "418b4240"},         /* mov eax, [0x12345678] */
        {4, "66a378563412", "6641894240"},     /* mov [0x12345678], ax */
        {4, "82c001", "80c001"},               /* add al, 1: an alias */
        {2, "01c8", "6601c8"},                 /* add ax, cx */
        {2, "6601c8", "01c8"},                 /* add eax, ecx */
        {2, "b83412", "66b83412"},             /* mov ax, 0x1234 */
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
    memcpy(other, shuffled, sizeof(other));
    other[0] = 8;
    assert_false(emit(&move, other, NULL, bytes, &length));
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
    for (unsigned round = 0; round < 1500000; round++) {
        unsigned code_size = code_sizes[random_next() & 3];
        struct emit_memory memory = random_memory();
        struct decoded guest;
        uint8_t bytes[15];

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

/* ---- classification ---- */

struct flag_row {
    const char *bytes;
    uint32_t read, written, killed, killed_exactly;
};

static void flags_are_those_of_the_manual(void **state)
{
    static const struct flag_row rows[] = {
        {"01c8", 0, STATUS, STATUS, STATUS},                                  /* add */
        {"11c8", FLAG_CF, STATUS, STATUS, STATUS},                            /* adc */
        {"21c8", 0, STATUS, STATUS, STATUS & ~FLAG_AF},                       /* and */
        {"89c8", 0, 0, 0, 0},                                                 /* mov */
        {"f7d0", 0, 0, 0, 0},                                                 /* not */
        {"ffc0", 0, STATUS & ~FLAG_CF, STATUS & ~FLAG_CF, STATUS & ~FLAG_CF}, /* inc */
        {"d3e0", 0, STATUS, 0, 0},                                            /* shl eax, cl */
        {"c1e020", 0, 0, 0, 0},                                         /* shl eax, 32: by 0 */
        {"48c1e020", 0, STATUS, STATUS, STATUS & ~(FLAG_AF | FLAG_OF)}, /* shl rax, 32 */
        {"d1e0", 0, STATUS, STATUS, STATUS & ~FLAG_AF},                 /* shl eax, 1 */
        {"c0e009", 0, STATUS, STATUS, STATUS & ~(FLAG_AF | FLAG_OF | FLAG_CF)}, /* shl al, 9 */
        {"c1c003", 0, FLAG_CF | FLAG_OF, FLAG_CF | FLAG_OF, FLAG_CF},           /* rol eax, 3 */
        {"d3d0", FLAG_CF, FLAG_CF | FLAG_OF, 0, 0},                             /* rcl eax, cl */
        {"660fa4c811", 0, STATUS, STATUS, 0},                               /* shld ax, cx, 17 */
        {"0fafc1", 0, STATUS, STATUS, FLAG_CF | FLAG_OF},                   /* imul */
        {"f7f1", 0, STATUS, STATUS, 0},                                     /* div */
        {"0fa3c8", 0, STATUS, STATUS & ~FLAG_ZF, FLAG_CF},                  /* bt */
        {"0fbcc1", 0, STATUS, STATUS, FLAG_ZF},                             /* bsf */
        {"f30fbcc1", 0, STATUS, STATUS, FLAG_CF | FLAG_ZF},                 /* tzcnt */
        {"0fc70f", 0, FLAG_ZF, FLAG_ZF, FLAG_ZF},                           /* cmpxchg8b */
        {"f8", 0, FLAG_CF, FLAG_CF, FLAG_CF},                               /* clc */
        {"f5", FLAG_CF, FLAG_CF, FLAG_CF, FLAG_CF},                         /* cmc */
        {"9f", STATUS & ~FLAG_OF, 0, 0, 0},                                 /* lahf */
        {"9e", 0, STATUS & ~FLAG_OF, STATUS & ~FLAG_OF, STATUS & ~FLAG_OF}, /* sahf */
        {"0f9fc0", FLAG_ZF | FLAG_SF | FLAG_OF, 0, 0, 0},                   /* setg */
        {"0f42c1", FLAG_CF, 0, 0, 0},                                       /* cmovb */
        {"0f46c1", FLAG_CF | FLAG_ZF, 0, 0, 0},                             /* cmovbe */
        {"0f4ac1", FLAG_PF, 0, 0, 0},                                       /* cmovp */
        {"f3480f38f6c1", FLAG_OF, FLAG_OF, FLAG_OF, FLAG_OF},               /* adox */
        {"c4e2f3f7c2", 0, 0, 0, 0},                                         /* shrx */
        {"0f2ec1", 0, STATUS, STATUS, STATUS},                              /* ucomiss */
        {"660f3817c1", 0, STATUS, STATUS, STATUS},                          /* ptest */
        {"0f58c1", 0, 0, 0, 0},                                             /* addps */
        {"c4e2f8f3c9", 0, STATUS, STATUS, STATUS & ~(FLAG_AF | FLAG_PF)},   /* blsr */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy_form loose, exact;

        loose = classify_text(8, rows[i].bytes, false);
        exact = classify_text(8, rows[i].bytes, true);
        assert_true(loose.copies);
        assert_int_equal(loose.flags_read, rows[i].read);
        assert_int_equal(loose.flags_written, rows[i].written);
        assert_int_equal(loose.flags_killed, rows[i].killed);
        assert_int_equal(exact.flags_read, rows[i].read);
        assert_int_equal(exact.flags_killed, rows[i].killed_exactly);
    }
}

#define BIT(name) (1U << GPR_##name)

struct register_row {
    const char *bytes;
    unsigned read, written;
};

static void registers_are_those_of_the_manual(void **state)
{
    static const struct register_row rows[] = {
        {"4801c8", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* add rax, rcx */
        {"89c8", BIT(RCX), BIT(RAX)},                             /* mov eax, ecx */
        {"6689c8", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* mov ax, cx */
        {"88e1", BIT(RAX) | BIT(RCX), BIT(RCX)},                  /* mov cl, ah */
        {"0f94c3", BIT(RBX), BIT(RBX)},                           /* setz bl */
        {"f7e6", BIT(RAX) | BIT(RSI), BIT(RAX) | BIT(RDX)},       /* mul esi */
        {"f6f3", BIT(RAX) | BIT(RBX), BIT(RAX)},                  /* div bl */
        {"d3e6", BIT(RCX) | BIT(RSI), BIT(RSI)},                  /* shl esi, cl */
        {"4d87c8", BIT(R8) | BIT(R9), BIT(R8) | BIT(R9)},         /* xchg r8, r9 */
        {"0f42c1", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* cmovb eax, ecx */
        {"0fbcc1", BIT(RAX) | BIT(RCX), BIT(RAX)},                /* bsf eax, ecx */
        {"4889e5", BIT(RSP), BIT(RBP)},                           /* mov rbp, rsp */
        {"c4e2f3f6c6", BIT(RDX) | BIT(RSI), BIT(RAX) | BIT(RCX)}, /* mulx rax, rcx, rsi */
        {"480fc70f", BIT(RAX) | BIT(RDX) | BIT(RBX) | BIT(RCX), BIT(RAX) | BIT(RDX)},
        {"4898", BIT(RAX), BIT(RAX)},                    /* cdqe */
        {"99", BIT(RAX), BIT(RDX)},                      /* cdq */
        {"8b0437", 0, BIT(RAX)},                         /* mov eax, [rdi + rsi] */
        {"660f7ec1", 0, BIT(RCX)},                       /* movd ecx, xmm0 */
        {"66480f6ec1", BIT(RCX), 0},                     /* movq xmm0, rcx */
        {"660fd7c1", 0, BIT(RAX)},                       /* pmovmskb eax, xmm1 */
        {"f20f2dc1", 0, BIT(RAX)},                       /* cvtsd2si eax, xmm1 */
        {"660f3a61c100", BIT(RAX) | BIT(RDX), BIT(RCX)}, /* pcmpestri */
        {"660f3a22c100", BIT(RCX), 0},                   /* pinsrd xmm0, ecx, 0 */
        {"9f", BIT(RAX), BIT(RAX)},                      /* lahf */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy_form form = classify_text(8, rows[i].bytes, false);

        assert_true(form.copies);
        assert_int_equal(form.gpr_read, rows[i].read);
        assert_int_equal(form.gpr_written, rows[i].written);
    }
}

struct memory_row {
    const char *bytes;
    bool memory, reads, writes, faults;
    unsigned size;
};

static void memory_is_that_of_the_manual(void **state)
{
    static const struct memory_row rows[] = {
        {"8b07", true, true, false, false, 4},          /* mov eax, [rdi] */
        {"488907", true, false, true, false, 8},        /* mov [rdi], rax */
        {"480107", true, true, true, false, 8},         /* add [rdi], rax */
        {"803f00", true, true, false, false, 1},        /* cmp byte [rdi], 0 */
        {"0fb707", true, true, false, false, 2},        /* movzx eax, word [rdi] */
        {"0f9407", true, false, true, false, 1},        /* setz [rdi] */
        {"480fc70f", true, true, true, true, 16},       /* cmpxchg16b [rdi] */
        {"0fc70f", true, true, true, false, 8},         /* cmpxchg8b [rdi] */
        {"f737", true, true, false, true, 4},           /* div dword [rdi] */
        {"488d07", false, false, false, false, 0},      /* lea rax, [rdi] */
        {"0f1f00", false, false, false, false, 0},      /* nop [rax] */
        {"0f1807", false, false, false, false, 0},      /* prefetchnta [rdi] */
        {"0fba2703", true, true, false, false, 4},      /* bt [rdi], 3 */
        {"0fba2f03", true, true, true, false, 4},       /* bts [rdi], 3 */
        {"f7f1", false, false, false, true, 0},         /* div ecx */
        {"0f4207", true, true, false, false, 4},        /* cmovb eax, [rdi] */
        {"f30f1007", true, true, false, false, 4},      /* movss xmm0, [rdi] */
        {"0f1707", true, false, true, false, 8},        /* movhps [rdi], xmm0 */
        {"0f1607", true, true, false, false, 8},        /* movhps xmm0, [rdi] */
        {"0f2807", true, true, false, true, 16},        /* movaps xmm0, [rdi] */
        {"0f1007", true, true, false, false, 16},       /* movups xmm0, [rdi] */
        {"c5fc2807", true, true, false, true, 32},      /* vmovaps ymm0, [rdi] */
        {"c5fc1007", true, true, false, false, 32},     /* vmovups ymm0, [rdi] */
        {"c5fdfc07", true, true, false, false, 32},     /* vpaddb ymm0, ymm0, [rdi] */
        {"660ffc07", true, true, false, true, 16},      /* paddb xmm0, [rdi] */
        {"660fe707", true, false, true, true, 16},      /* movntdq [rdi], xmm0 */
        {"f20f5807", true, true, false, true, 8},       /* addsd xmm0, [rdi] */
        {"f20f2a07", true, true, false, true, 4},       /* cvtsi2sd xmm0, dword [rdi] */
        {"f2480f2a07", true, true, false, true, 8},     /* cvtsi2sd xmm0, qword [rdi] */
        {"660f3a200700", true, true, false, false, 1},  /* pinsrb xmm0, [rdi], 0 */
        {"660f3a140700", true, false, true, false, 1},  /* pextrb [rdi], xmm0, 0 */
        {"c4e27d1807", true, true, false, false, 4},    /* vbroadcastss ymm0, [rdi] */
        {"c4e27d5a07", true, true, false, false, 16},   /* vbroadcasti128 ymm0, [rdi] */
        {"c4e37d190701", true, false, true, false, 16}, /* vextractf128 [rdi], ymm0, 1 */
        {"c4e27d1307", true, true, false, true, 16},    /* vcvtph2ps ymm0, [rdi] */
        {"c4e37d1d0700", true, false, true, true, 16},  /* vcvtps2ph [rdi], ymm0, 0 */
        {"660f382007", true, true, false, false, 8},    /* pmovsxbw xmm0, [rdi] */
        {"660f382207", true, true, false, false, 2},    /* pmovsxbq xmm0, [rdi] */
        {"0fae1f", true, false, true, false, 4},        /* stmxcsr [rdi] */
        {"0fb107", true, true, true, false, 4},         /* cmpxchg [rdi], eax */
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct copy_form form = classify_text(8, rows[i].bytes, false);

        assert_true(form.copies);
        assert_int_equal(form.memory, rows[i].memory);
        assert_int_equal(form.reads, rows[i].reads);
        assert_int_equal(form.writes, rows[i].writes);
        assert_int_equal(form.faults, rows[i].faults);
        assert_int_equal(form.size, rows[i].size);
    }
}

static const char *const refused[] = {
    "0f05",         /* syscall */
    "0f34",         /* sysenter */
    "0f01ef",       /* wrpkru */
    "0f01ee",       /* rdpkru */
    "f3480faed8",   /* wrgsbase */
    "f3480faed0",   /* wrfsbase */
    "f3480faec0",   /* rdfsbase */
    "660faef1",     /* tpause */
    "f30faef1",     /* umonitor */
    "f20faef1",     /* umwait */
    "c7f800000000", /* xbegin */
    "c6f800",       /* xabort */
    "0f01d5",       /* xend */
    "0fae2f",       /* xrstor */
    "0fae27",       /* xsave */
    "0fae0f",       /* fxrstor */
    "0fae3f",       /* clflush */
    "8ed8",         /* mov ds, ax */
    "8cd8",         /* mov eax, ds */
    "0f20c0",       /* mov rax, cr0 */
    "0f22c0",       /* mov cr0, rax */
    "0f23c0",       /* mov dr0, rax */
    "0f31",         /* rdtsc */
    "0f01f9",       /* rdtscp */
    "0fa2",         /* cpuid */
    "0fc7f0",       /* rdrand */
    "f30fc7f8",     /* rdpid */
    "cc",           /* int3 */
    "cd80",         /* int 0x80 */
    "f1",           /* int1 */
    "0f0b",         /* ud2 */
    "0fb9c0",       /* ud1 */
    "0f01d7",       /* enclu */
    "0f01c1",       /* vmcall */
    "0f01d9",       /* vmmcall */
    "0f01d0",       /* xgetbv */
    "0f01d1",       /* xsetbv */
    "660ff7c1",     /* maskmovdqu */
    "ff1f",         /* call far [rdi] */
    "ff2f",         /* jmp far [rdi] */
    "ff17",         /* call [rdi] */
    "e800000000",   /* call */
    "c3",           /* ret */
    "cb",           /* retf */
    "cf",           /* iret */
    "7400",         /* jz */
    "e200",         /* loop */
    "50",           /* push */
    "58",           /* pop */
    "8f07",         /* pop [rdi] */
    "c9",           /* leave */
    "9c",           /* pushf */
    "9d",           /* popf */
    "fa",           /* cli */
    "fb",           /* sti */
    "fd",           /* std */
    "f4",           /* hlt */
    "a4",           /* movsb */
    "f348ab",       /* rep stosq */
    "d7",           /* xlat */
    "e460",         /* in */
    "ee",           /* out */
    "0fa307",       /* bt [rdi], eax */
    "0fab07",       /* bts [rdi], eax */
    "660fc8",       /* bswap ax */
    "6663c8",       /* movsxd cx, eax */
    "f390",         /* pause */
    "0f01c8",       /* monitor */
    "0f01f8",       /* swapgs */
    "f30f01e8",     /* setssbsy */
    "f30faee8",     /* incsspd */
    "0f38f907",     /* movdiri */
    "660f38f807",   /* movdir64b */
    "0f01fc",       /* clzero */
    "0f01e8",       /* serialize */
    "0f00c8",       /* str */
    "0f0107",       /* sgdt */
    "0f02c1",       /* lar */
    "0f32",         /* rdmsr */
    "0f30",         /* wrmsr */
    "0f06",         /* clts */
    "0f09",         /* wbinvd */
    "c4e26d920c07", /* vgatherdps ymm1, [rdi + ymm0], ymm2 */
    "0f2ac1",       /* cvtpi2ps xmm0, mm1 */
    "0f2a07",       /* cvtpi2ps xmm0, [rdi] */
    "f30fd6c1",     /* movq2dq xmm0, mm1 */
    "f20fd6c1",     /* movdq2q mm0, xmm1 */
    "f20f2b07",     /* movntsd [rdi], xmm0 */
    "62f17c4858c1", /* vaddps zmm: EVEX */
};

static void what_is_not_on_the_list_is_refused(void **state)
{
    for (unsigned i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (classify_text(8, refused[i], false).copies)
            fail_msg("%s is copied", refused[i]);
}

static void hidden_features_are_refused(void **state)
{
    static const struct copy_features none = {0};
    struct decoded mulx = decode_text(8, "c4e2f3f6c2"), andn = decode_text(8, "c4c2f8f2c3"),
                   add = decode_text(8, "c5f858c1"), legacy = decode_text(8, "0f58c1");
    struct copy_form form;

    copy_classify(&mulx.instruction, mulx.operands, &none, false, &form);
    assert_false(form.copies);
    copy_classify(&andn.instruction, andn.operands, &none, false, &form);
    assert_true(form.copies);
    copy_classify(&add.instruction, add.operands, &none, false, &form);
    assert_false(form.copies);
    copy_classify(&legacy.instruction, legacy.operands, &none, false, &form);
    assert_true(form.copies && form.vector);
    /* Outside 64-bit mode VZEROUPPER leaves half of the registers alone. */
    assert_true(classify_text(8, "c5f877", false).copies);
    assert_false(classify_text(4, "c5f877", false).copies);
    /* VEX.W counts for nothing in 32-bit code. */
    assert_false(classify_text(4, "c4e2f3f6c2", false).copies);
    assert_true(classify_text(4, "c4e273f6c2", false).copies);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodings_are_those_of_the_manual),
        cmocka_unit_test(high_bytes_exclude_what_needs_rex),
        cmocka_unit_test(control_words_are_left_to_be_looked_at),
        cmocka_unit_test(implicit_registers_stay_where_they_are),
        cmocka_unit_test(memory_is_asked_for_where_it_is_named),
        cmocka_unit_test(random_instructions_stay_the_same),
        cmocka_unit_test(flags_are_those_of_the_manual),
        cmocka_unit_test(registers_are_those_of_the_manual),
        cmocka_unit_test(memory_is_that_of_the_manual),
        cmocka_unit_test(what_is_not_on_the_list_is_refused),
        cmocka_unit_test(hidden_features_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
