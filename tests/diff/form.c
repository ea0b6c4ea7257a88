// SPDX-License-Identifier: Apache-2.0
/*
 * Every instruction form that ring 3 can run: all prefixes, maps, opcodes and ModRM extensions go
 * through Zydis; what it takes and the lists below allow is a form. Two encodings are the same form
 * if map, opcode, mnemonic and the kinds and sizes of their operands agree.
 */
#include <string.h>

#include "tests/diff/diff.h"
#include "vmm/engine/cpu_model.h"

static ZydisDecoder decoders[3]; /* 16-, 32-, 64-bit code */
static uint32_t host_words[CPU_WORDS];
static bool has_avx512;

/* One of AVX-512, with its three vector lengths. */
#define EVEX(name, word, bit)                                                         \
    {ZYDIS_ISA_SET_##name##_128, word, bit}, {ZYDIS_ISA_SET_##name##_256, word, bit}, \
    {                                                                                 \
        ZYDIS_ISA_SET_##name##_512, word, bit                                         \
    }

/* Instruction sets that this test covers, with the CPUID bit that the host must show; the rest of
 * what Zydis knows is not offered to guests. */
static const struct isa_set {
    ZydisISASet set;
    enum cpu_word word;
    uint8_t bit;
} sets[] =
    {
        {ZYDIS_ISA_SET_I86, CPU_1_EDX, 0},          {ZYDIS_ISA_SET_I186, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_I386, CPU_1_EDX, 0},         {ZYDIS_ISA_SET_I486, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_I486REAL, CPU_1_EDX, 0},     {ZYDIS_ISA_SET_I286REAL, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_PENTIUMREAL, CPU_1_EDX, 0},  {ZYDIS_ISA_SET_PENTIUMMMX, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_PPRO, CPU_1_EDX, 0},         {ZYDIS_ISA_SET_LONGMODE, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_LAHF, CPU_1_EDX, 0},         {ZYDIS_ISA_SET_FAT_NOP, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_PAUSE, CPU_1_EDX, 0},        {ZYDIS_ISA_SET_PREFETCH_NOP, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_CMOV, CPU_1_EDX, 0},         {ZYDIS_ISA_SET_FCMOV, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_X87, CPU_1_EDX, 0},          {ZYDIS_ISA_SET_FXSAVE, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_FXSAVE64, CPU_1_EDX, 0},     {ZYDIS_ISA_SET_CLFSH, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_SSE, CPU_1_EDX, 0},          {ZYDIS_ISA_SET_SSE2, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_SSE2MMX, CPU_1_EDX, 0},      {ZYDIS_ISA_SET_SSEMXCSR, CPU_1_EDX, 0},
        {ZYDIS_ISA_SET_SSE_PREFETCH, CPU_1_EDX, 0}, {ZYDIS_ISA_SET_ADOX_ADCX, CPU_7_EBX, 19},
        {ZYDIS_ISA_SET_AES, CPU_1_ECX, 25},         {ZYDIS_ISA_SET_AVXAES, CPU_1_ECX, 25},
        {ZYDIS_ISA_SET_PCLMULQDQ, CPU_1_ECX, 1},    {ZYDIS_ISA_SET_AVX, CPU_1_ECX, 28},
        {ZYDIS_ISA_SET_AVX2, CPU_7_EBX, 5},         {ZYDIS_ISA_SET_AVX2GATHER, CPU_7_EBX, 5},
        {ZYDIS_ISA_SET_FMA, CPU_1_ECX, 12},         {ZYDIS_ISA_SET_F16C, CPU_1_ECX, 29},
        {ZYDIS_ISA_SET_BMI1, CPU_7_EBX, 3},         {ZYDIS_ISA_SET_BMI2, CPU_7_EBX, 8},
        {ZYDIS_ISA_SET_LZCNT, CPU_80000001_ECX, 5}, {ZYDIS_ISA_SET_MOVBE, CPU_1_ECX, 22},
        {ZYDIS_ISA_SET_POPCNT, CPU_1_ECX, 23},      {ZYDIS_ISA_SET_GFNI, CPU_7_ECX, 8},
        {ZYDIS_ISA_SET_AVX_GFNI, CPU_7_ECX, 8},     {ZYDIS_ISA_SET_VAES, CPU_7_ECX, 9},
        {ZYDIS_ISA_SET_VPCLMULQDQ, CPU_7_ECX, 10},  {ZYDIS_ISA_SET_SHA, CPU_7_EBX, 29},
        {ZYDIS_ISA_SET_SSE4A, CPU_80000001_ECX, 6}, {ZYDIS_ISA_SET_SSE3, CPU_1_ECX, 0},
        {ZYDIS_ISA_SET_SSE3X87, CPU_1_ECX, 0},      {ZYDIS_ISA_SET_SSSE3, CPU_1_ECX, 9},
        {ZYDIS_ISA_SET_SSSE3MMX, CPU_1_ECX, 9},     {ZYDIS_ISA_SET_SSE4, CPU_1_ECX, 19},
        {ZYDIS_ISA_SET_SSE42, CPU_1_ECX, 20},       {ZYDIS_ISA_SET_CMPXCHG16B, CPU_1_ECX, 13},
        {ZYDIS_ISA_SET_XSAVE, CPU_1_ECX, 27},       {ZYDIS_ISA_SET_XSAVEOPT, CPU_D_1_EAX, 0},
        {ZYDIS_ISA_SET_XSAVEC, CPU_D_1_EAX, 1},     {ZYDIS_ISA_SET_CLFLUSHOPT, CPU_7_EBX, 23},
        {ZYDIS_ISA_SET_CLWB, CPU_7_EBX, 24},
},
  avx512_sets[] = {
      EVEX(AVX512F, CPU_7_EBX, 16),
      EVEX(AVX512DQ, CPU_7_EBX, 17),
      EVEX(AVX512CD, CPU_7_EBX, 28),
      EVEX(AVX512BW, CPU_7_EBX, 30),
      EVEX(AVX512_IFMA, CPU_7_EBX, 21),
      EVEX(AVX512_VBMI, CPU_7_ECX, 1),
      EVEX(AVX512_VBMI2, CPU_7_ECX, 6),
      EVEX(AVX512_GFNI, CPU_7_ECX, 8),
      EVEX(AVX512_VAES, CPU_7_ECX, 9),
      EVEX(AVX512_VPCLMULQDQ, CPU_7_ECX, 10),
      EVEX(AVX512_VNNI, CPU_7_ECX, 11),
      EVEX(AVX512_BITALG, CPU_7_ECX, 12),
      EVEX(AVX512_VPOPCNTDQ, CPU_7_ECX, 14),
      EVEX(AVX512_BF16, CPU_7_1_EAX, 5),
      {ZYDIS_ISA_SET_AVX512F_SCALAR, CPU_7_EBX, 16},
      {ZYDIS_ISA_SET_AVX512F_128N, CPU_7_EBX, 16},
      {ZYDIS_ISA_SET_AVX512F_KOP, CPU_7_EBX, 16},
      {ZYDIS_ISA_SET_AVX512DQ_SCALAR, CPU_7_EBX, 17},
      {ZYDIS_ISA_SET_AVX512DQ_128N, CPU_7_EBX, 17},
      {ZYDIS_ISA_SET_AVX512DQ_KOP, CPU_7_EBX, 17},
      {ZYDIS_ISA_SET_AVX512BW_128N, CPU_7_EBX, 30},
      {ZYDIS_ISA_SET_AVX512BW_KOP, CPU_7_EBX, 30},
};

static bool find_set(const struct isa_set *table, unsigned count, ZydisISASet set)
{
    for (unsigned i = 0; i < count; i++)
        if (table[i].set == set)
            return host_words[table[i].word] >> table[i].bit & 1;
    return false;
}

static bool set_allowed(ZydisISASet set)
{
    return find_set(sets, G_N_ELEMENTS(sets), set) ||
           (has_avx512 && find_set(avx512_sets, G_N_ELEMENTS(avx512_sets), set));
}

/* What cannot be compared: it asks the operating system, tells time or chance, or works with the
 * host's descriptor tables. Payloads in tests/guest cover these. */
static bool instruction_allowed(const ZydisDecodedInstruction *instruction,
                                const ZydisDecodedOperand *operands)
{
    if (instruction->mnemonic == ZYDIS_MNEMONIC_ARPL)
        return true; /* alone of its set, it looks at no descriptor */
    if (!set_allowed(instruction->meta.isa_set) ||
        (instruction->attributes & ZYDIS_ATTRIB_IS_PRIVILEGED))
        return false;
    switch (instruction->meta.category) {
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_IO:
    case ZYDIS_CATEGORY_IOSTRINGOP:
    case ZYDIS_CATEGORY_SEGOP:
    case ZYDIS_CATEGORY_RDWRFSGS:
        return false;
    default:
        break;
    }
    switch (instruction->mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_XGETBV: /* shows the host's XCR0 */
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_IRET:
    case ZYDIS_MNEMONIC_IRETD:
    case ZYDIS_MNEMONIC_IRETQ:
    case ZYDIS_MNEMONIC_STI:
    case ZYDIS_MNEMONIC_CLI:
        return false;
    default:
        break;
    }
    if (instruction->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return false;
    for (unsigned i = 0; i < instruction->operand_count; i++)
        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            switch (ZydisRegisterGetClass(operands[i].reg.value)) {
            case ZYDIS_REGCLASS_SEGMENT:
            case ZYDIS_REGCLASS_CONTROL:
            case ZYDIS_REGCLASS_DEBUG:
                return false;
            default:
                break;
            }
    return true;
}

bool form_decode(unsigned code_size, const uint8_t *bytes, ZydisDecodedInstruction *instruction,
                 ZydisDecodedOperand *operands)
{
    return ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&decoders[code_size >> 2], bytes, 15, instruction, operands));
}

static uint32_t mix(uint32_t hash, uint32_t value)
{
    return (hash ^ value) * 0x01000193;
}

uint32_t form_key(unsigned code_size, const ZydisDecodedInstruction *instruction,
                  const ZydisDecodedOperand *operands)
{
    uint32_t hash = mix(0x811c9dc5, code_size);

    hash = mix(hash, instruction->mnemonic);
    hash = mix(hash, instruction->encoding);
    hash = mix(hash, instruction->opcode_map);
    hash = mix(hash, instruction->opcode);
    hash = mix(hash, !!(instruction->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)));
    hash = mix(hash, !!(instruction->attributes & ZYDIS_ATTRIB_HAS_REPNE));
    hash = mix(hash, !!(instruction->attributes & ZYDIS_ATTRIB_HAS_LOCK));
    if (instruction->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX) {
        hash = mix(hash, !!instruction->raw.evex.aaa);
        hash = mix(hash, instruction->raw.evex.b);
        hash = mix(hash, instruction->raw.evex.z);
    }
    for (unsigned i = 0; i < instruction->operand_count_visible; i++) {
        const ZydisDecodedOperand *operand = &operands[i];

        hash = mix(hash, operand->type);
        hash = mix(hash, operand->size);
        hash = mix(hash, operand->encoding);
        if (operand->type == ZYDIS_OPERAND_TYPE_REGISTER)
            hash = mix(hash, ZydisRegisterGetClass(operand->reg.value));
        if (operand->type == ZYDIS_OPERAND_TYPE_MEMORY)
            hash = mix(hash, ZydisRegisterGetClass(operand->mem.index) >= ZYDIS_REGCLASS_XMM);
    }
    return hash;
}

static const char *size_prefix(const struct diff_form *form)
{
    return form->code_size == 8 ? "" : form->code_size == 4 ? "32: " : "16: ";
}

/* The instruction's mnemonic and its operands' kinds: "add r32, m32". */
static void name_form(struct diff_form *form, const ZydisDecodedInstruction *instruction,
                      const ZydisDecodedOperand *operands)
{
    const char *separator = " ";
    GString *name = g_string_new(NULL);

    g_string_append(name, size_prefix(form));
    if (instruction->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        g_string_append(name, "lock ");
    if (instruction->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
        g_string_append(name, "rep ");
    if (instruction->attributes & ZYDIS_ATTRIB_HAS_REPNE)
        g_string_append(name, "repne ");
    g_string_append(name, ZydisMnemonicGetString(instruction->mnemonic));
    for (unsigned i = 0; i < instruction->operand_count_visible; i++) {
        static const char *const kinds[] = {"?", "r", "m", "p", "i"};
        const char *kind = kinds[operands[i].type];

        if (operands[i].type == ZYDIS_OPERAND_TYPE_REGISTER)
            switch (ZydisRegisterGetClass(operands[i].reg.value)) {
            case ZYDIS_REGCLASS_XMM:
            case ZYDIS_REGCLASS_YMM:
            case ZYDIS_REGCLASS_ZMM:
                kind = "v";
                break;
            case ZYDIS_REGCLASS_MASK:
                kind = "k";
                break;
            case ZYDIS_REGCLASS_MMX:
                kind = "mm";
                break;
            case ZYDIS_REGCLASS_X87:
                kind = "st";
                break;
            default:
                break;
            }
        g_string_append_printf(name, "%s%s%u", separator, kind, operands[i].size);
        separator = ", ";
    }
    if (form->evex)
        g_string_append_printf(name, " evex%s%s%s", form->aaa ? "k" : "", form->z ? "z" : "",
                               form->b ? "b" : "");
    g_string_append_printf(name, " [%u:%02x]", form->map, form->opcode);
    g_strlcpy(form->name, name->str, sizeof(form->name));
    g_string_free(name, TRUE);
}

/* Bytes of a form with this ModRM; SIB, displacement and immediates are zero. */
static void emit(const struct diff_form *form, uint8_t out[16])
{
    unsigned length = 0;

    memset(out, 0, 16);
    memcpy(out, form->prefixes, form->prefix_count);
    length = form->prefix_count;
    if (form->evex) {
        out[length++] = 0x62;
        out[length++] = (uint8_t)(0xf0 | form->map);
        out[length++] = (uint8_t)(form->w << 7 | (form->vvvv ? 0x70 : 0x78) | 4 | form->pp);
        out[length++] = (uint8_t)(form->z << 7 | form->l << 5 | form->b << 4 | 8 | form->aaa);
    } else if (form->vex) {
        out[length++] = 0xc4;
        out[length++] = (uint8_t)(0xe0 | form->map);
        out[length++] =
            (uint8_t)(form->w << 7 | (form->vvvv ? 0x70 : 0x78) | form->l << 2 | form->pp);
    } else {
        if (form->w)
            out[length++] = 0x48;
        if (form->map)
            out[length++] = 0x0f;
        if (form->map > 1)
            out[length++] = form->map == 2 ? 0x38 : 0x3a;
    }
    out[length++] = form->opcode;
    out[length] = form->modrm;
}

struct collector {
    struct diff_forms lists;
    GHashTable *seen;
    const char *text;
};

static bool is_seen(const struct collector *collector, const struct diff_form *form)
{
    return g_hash_table_contains(collector->seen, GUINT_TO_POINTER(form->key));
}

static void add_form(struct collector *collector, const struct diff_form *form)
{
    GArray *list = form->invalid ? collector->lists.invalid : collector->lists.valid;

    if (g_hash_table_add(collector->seen, GUINT_TO_POINTER(form->key)) &&
        (!collector->text || strstr(form->name, collector->text)))
        g_array_append_val(list, *form);
}

/* Bytes that are prefixes, or the way to another map. */
static bool is_prefix(const struct diff_form *form)
{
    if (form->vex || form->evex || form->map)
        return false;
    switch (form->opcode) {
    case 0x0f:
    case 0x26:
    case 0x2e:
    case 0x36:
    case 0x3e:
    case 0x62: /* EVEX */
    case 0x64:
    case 0x65:
    case 0x66:
    case 0x67:
    case 0x8f: /* XOP */
    case 0xc4:
    case 0xc5:
    case 0xf0:
    case 0xf2:
    case 0xf3:
        return true;
    default:
        return form->code_size == 8 && form->opcode >> 4 == 4;
    }
}

/* What only AMD's processors take (MOV CR8 as LOCK MOV CR0; VPERMQ and VPERMPD whatever VEX.W is;
 * VCVTSI2SD and VCVTUSI2SD with a rounding and EVEX.W outside 64-bit mode), and group 7, where the
 * host may be a virtual machine with hypercalls of its own. */
static bool is_vendors_own(const struct diff_form *form)
{
    if (form->evex)
        return form->map == 1 && (form->opcode == 0x2a || form->opcode == 0x7b) &&
               form->code_size < 8;
    if (form->vex)
        return form->map == 3 && form->opcode <= 1;
    return form->map == 1 && (form->opcode == 0x01 || form->opcode == 0x20 || form->opcode == 0x22);
}

/* An encoding that Zydis does not know stands for its opcode and prefixes. */
static void add_invalid(struct collector *collector, struct diff_form *form)
{
    uint32_t key = mix(mix(mix(0x1234567, form->code_size), form->vex), form->evex);

    if (is_prefix(form) || is_vendors_own(form))
        return;

    form->invalid = true;
    for (unsigned i = 0; i < form->prefix_count; i++)
        key = mix(key, form->prefixes[i]);
    key = mix(mix(key, form->map), form->opcode);
    key = mix(mix(key, form->pp), form->l);
    key = mix(mix(mix(key, form->aaa), form->b), form->z);
    form->key = mix(mix(key, form->w), form->modrm >> 6 == 3);
    if (is_seen(collector, form))
        return;
    g_snprintf(form->name, sizeof(form->name), "%sinvalid %s%s[%u:%02x] %s", size_prefix(form),
               form->vex    ? "vex "
               : form->evex ? "evex "
                            : "",
               form->prefix_count || form->pp ? "prefixed " : "", form->map, form->opcode,
               form->modrm >> 6 == 3 ? "register" : "memory");
    add_form(collector, form);
}

static void try_form(struct collector *collector, struct diff_form form)
{
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    uint8_t bytes[16];

    emit(&form, bytes);
    if (!form_decode(form.code_size, bytes, &instruction, operands)) {
        add_invalid(collector, &form);
        return;
    }
    if (!instruction_allowed(&instruction, operands) || instruction.opcode != form.opcode)
        return; /* or the opcode was a prefix */
    form.key = form_key(form.code_size, &instruction, operands);
    if (is_seen(collector, &form))
        return;
    name_form(&form, &instruction, operands);
    add_form(collector, &form);
}

/* ModRM with a register (2, and for x87 each) and with memory: at [rsi], and with an index. */
static void try_modrm(struct collector *collector, struct diff_form form)
{
    for (unsigned reg = 0; reg < 8; reg++) {
        form.modrm = (uint8_t)(0xc2 | reg << 3);
        try_form(collector, form);
        form.modrm = (uint8_t)(0x06 | reg << 3);
        try_form(collector, form);
        form.modrm = (uint8_t)(0x04 | reg << 3);
        try_form(collector, form);
        for (unsigned rm = 0; rm < 8 && !form.evex; rm++) {
            form.modrm = (uint8_t)(0xc0 | reg << 3 | rm);
            try_form(collector, form);
        }
    }
}

static void collect_legacy(struct collector *collector, unsigned code_size)
{
    static const struct {
        uint8_t count, bytes[3];
    } prefixes[] = {{0, {0}},          {1, {0x66}},       {1, {0xf3}}, {1, {0xf2}},
                    {2, {0x66, 0xf3}}, {2, {0x66, 0xf2}}, {1, {0xf0}}, {2, {0x66, 0xf0}}};

    for (unsigned p = 0; p < G_N_ELEMENTS(prefixes); p++)
        for (unsigned w = 0; w < (code_size == 8 ? 2 : 1); w++)
            for (unsigned map = 0; map < 4; map++)
                for (unsigned opcode = 0; opcode < 256; opcode++) {
                    struct diff_form form = {.code_size = (uint8_t)code_size,
                                             .map = (uint8_t)map,
                                             .opcode = (uint8_t)opcode,
                                             .w = (uint8_t)w,
                                             .prefix_count = prefixes[p].count};

                    memcpy(form.prefixes, prefixes[p].bytes, 3);
                    try_modrm(collector, form);
                }
}

static void collect_vex(struct collector *collector, unsigned code_size)
{
    for (unsigned bits = 0; bits < 32; bits++)
        for (unsigned map = 1; map < 4; map++)
            for (unsigned opcode = 0; opcode < 256; opcode++) {
                struct diff_form form = {.code_size = (uint8_t)code_size,
                                         .vex = true,
                                         .map = (uint8_t)map,
                                         .opcode = (uint8_t)opcode,
                                         .pp = bits & 3,
                                         .w = bits >> 2 & 1,
                                         .l = bits >> 3 & 1,
                                         .vvvv = bits >> 4 & 1};

                try_modrm(collector, form);
            }
}

static void collect_evex(struct collector *collector, unsigned code_size)
{
    for (unsigned bits = 0; bits < 512; bits++)
        for (unsigned map = 1; map < 4; map++)
            for (unsigned opcode = 0; opcode < 256; opcode++) {
                struct diff_form form = {.code_size = (uint8_t)code_size,
                                         .evex = true,
                                         .map = (uint8_t)map,
                                         .opcode = (uint8_t)opcode,
                                         .pp = bits & 3,
                                         .w = bits >> 2 & 1,
                                         .l = bits >> 3 & 3,
                                         .vvvv = bits >> 5 & 1,
                                         .aaa = bits >> 6 & 1,
                                         .b = bits >> 7 & 1,
                                         .z = bits >> 8 & 1};

                try_modrm(collector, form);
            }
}

static void init_decoder(ZydisDecoder *decoder, unsigned code_size)
{
    if (code_size == 8)
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    else if (code_size == 4)
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32);
    else
        ZydisDecoderInit(decoder, ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_AMD_BRANCHES,
                           __builtin_cpu_is("amd") ? ZYAN_TRUE : ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
    ZydisDecoderEnableMode(decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
}

bool form_avx512(void)
{
    return has_avx512;
}

struct diff_forms form_list(const char *text, unsigned least_size, bool avx512)
{
    struct collector collector = {
        .lists = {g_array_new(FALSE, FALSE, sizeof(struct diff_form)),
                  g_array_new(FALSE, FALSE, sizeof(struct diff_form))},
        .seen = g_hash_table_new(NULL, NULL),
        .text = text,
    };

    __builtin_cpu_init();
    cpu_host_words(host_words);
    has_avx512 = avx512;
    for (unsigned code_size = 8; code_size >= least_size; code_size /= 2) {
        init_decoder(&decoders[code_size >> 2], code_size);
        collect_legacy(&collector, code_size);
        collect_vex(&collector, code_size);
        if (has_avx512)
            collect_evex(&collector, code_size);
    }
    g_hash_table_destroy(collector.seen);
    return collector.lists;
}
