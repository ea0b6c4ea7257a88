// SPDX-License-Identifier: Apache-2.0
/*
 * The log has an entry for each translation, in the order in which they were made:
 *
 *     block 0xffffffff81000123, vcpu 0, mode 1, 64-bit code: 96 bytes at 0x7f0000001040
 *             7f0000001040  mov r10, 0xffffffff81000123
 *       ffffffff81000123  mov rax, qword ptr [rdi+0x08]
 *             7f0000001068  lea r10d, ss:[rdi+0x08]
 *       behind
 *             7f0000001090  jmp 0x00007f0000000080  ; interpret
 *
 * The ways in stand before the first instruction of the guest, what is seldom executed, and lies
 * elsewhere, behind the last. A clone (clone.c) has the host's instructions alone. A line of the
 * map is perf's own: address, size, name. Several vCPUs write to one file, each an entry at a time.
 * A write that fails is left out: nothing of the guest's depends on it.
 */
#include "vmm/engine/soft/translator/log.h"

#include <inttypes.h>
#include <unistd.h>

#include "vmm/engine/soft/soft.h"

#define TEXT_MAX 128

static const struct {
    const char *name;
    size_t offset, size;
} fields[] = {
#define FIELD(name)                                                                  \
    {                                                                                \
#name, offsetof(struct soft_cpu, name), sizeof(((struct soft_cpu *)0)->name) \
    }
    FIELD(gpr),  FIELD(next_rip), FIELD(rflags), FIELD(requests), FIELD(flags_carrier), FIELD(live),
    FIELD(exit), FIELD(fetch_id), FIELD(seg),    FIELD(tlb),      FIELD(counters),
#undef FIELD
};

static const struct soft_switches *switches_of(const struct soft_translator *translator)
{
    return &translator->cpu->engine->switches;
}

static void write_all(int fd, const GString *text)
{
    for (size_t done = 0; done < text->len;) {
        ssize_t count = write(fd, text->str + done, text->len - done);

        if (count <= 0)
            return;
        done += (size_t)count;
    }
}

/* ---- the map ---- */

static void map_code(const struct soft_translator *translator, const uint8_t *from,
                     const uint8_t *to, const char *what, uint64_t linear)
{
    g_autoptr(GString) line = g_string_new(NULL);

    if (!switches_of(translator)->perf || switches_of(translator)->perf_map < 0 || from == to)
        return;
    g_string_append_printf(line, "%" PRIxPTR " %tx anima:%s 0x%" PRIx64 "\n",
                           (uintptr_t)(from + translator->cache.execute), to - from, what, linear);
    write_all(switches_of(translator)->perf_map, line);
}

/* ---- the log ---- */

static void name_field(GString *text, const struct soft_cpu *cpu, int64_t address)
{
    uint64_t offset = (uint64_t)address - (uintptr_t)cpu;

    for (unsigned i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (offset - fields[i].offset >= fields[i].size)
            continue;
        g_string_append_printf(text, "  ; %s", fields[i].name);
        if (offset != fields[i].offset)
            g_string_append_printf(text, "+%" PRIu64, offset - fields[i].offset);
        return;
    }
}

static void name_code(GString *text, struct soft_translator *translator,
                      const struct translation *own, uint64_t address)
{
    const uint8_t *code =
        (const uint8_t *)((uintptr_t)address - (uintptr_t)translator->cache.execute);
    const struct translation *translation;

    if (code == translator->leave || code == translator->leave_kept) {
        g_string_append(text, "  ; leave");
    } else if (code == translator->interpret) {
        g_string_append(text, "  ; interpret");
    } else {
        translation = translator_find_code(translator, code);
        if (translation && translation != own)
            g_string_append_printf(text, "  ; block 0x%" PRIx64, translation->linear);
    }
}

/* What the instruction's operands are, where they are ours. */
static void name_operands(GString *text, struct soft_translator *translator,
                          const struct translation *own, const ZydisDecodedInstruction *decoded,
                          const ZydisDecodedOperand *operands, uint64_t address)
{
    ZyanU64 target;

    for (unsigned i = 0; i < decoded->operand_count_visible; i++) {
        if (operands[i].type == ZYDIS_OPERAND_TYPE_MEMORY)
            name_field(text, translator->cpu, operands[i].mem.disp.value);
        else if (operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && operands[i].imm.is_relative &&
                 ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(decoded, &operands[i], address, &target)))
            name_code(text, translator, own, target);
    }
}

/* The host's instructions from `from` to `to`, of translation `own`. */
static void add_host_code(GString *text, struct soft_translator *translator,
                          const struct translation *own, const ZydisFormatter *formatter,
                          const uint8_t *from, const uint8_t *to)
{
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction decoded;
    ZydisDecoder decoder;
    char words[TEXT_MAX];

    ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (const uint8_t *at = from; at < to; at += decoded.length) {
        uint64_t address = (uintptr_t)(at + translator->cache.execute);

        if (ZYAN_FAILED(
                ZydisDecoderDecodeFull(&decoder, at, (size_t)(to - at), &decoded, operands)) ||
            ZYAN_FAILED(ZydisFormatterFormatInstruction(formatter, &decoded, operands,
                                                        decoded.operand_count_visible, words,
                                                        sizeof(words), address, NULL))) {
            g_string_append_printf(text, "        %012" PRIx64 "  no instruction\n", address);
            return;
        }
        g_string_append_printf(text, "        %012" PRIx64 "  %s", address, words);
        name_operands(text, translator, own, &decoded, operands, address);
        g_string_append_c(text, '\n');
    }
}

static void add_guest_instruction(GString *text, const struct build *build, unsigned index,
                                  const ZydisFormatter *formatter)
{
    const struct build_insn *entry = &build->insns[index];
    const ZydisDecodedInstruction *decoded = &entry->decoded.instruction;
    char words[TEXT_MAX];

    if (soft_insn_undefined(entry->insn) ||
        ZYAN_FAILED(ZydisFormatterFormatInstruction(formatter, decoded, entry->decoded.operands,
                                                    decoded->operand_count_visible, words,
                                                    sizeof(words), entry->rip, NULL)))
        g_strlcpy(words, "undefined", sizeof(words));
    g_string_append_printf(text, "  %016" PRIx64 "  %s\n", entry->rip, words);
}

static void add_head(GString *text, const struct soft_translator *translator,
                     const struct translation *translation, const char *what)
{
    g_string_append_printf(
        text, "%s 0x%" PRIx64 ", vcpu %u, mode %u, %u-bit code: %td bytes at 0x%" PRIxPTR "\n",
        what, translation->linear, translator->cpu->index, translation->mode,
        translation->block->code_size * 8U, translation->end - translation->indirect,
        (uintptr_t)(translation->indirect + translator->cache.execute));
}

static void add_behind(GString *text, struct soft_translator *translator,
                       const struct translation *translation, const ZydisFormatter *formatter)
{
    g_string_append(text, "  behind\n");
    add_host_code(text, translator, translation, formatter, translation->cold,
                  translation->cold_end);
    g_string_append_c(text, '\n');
}

static void log_block(const struct build *build)
{
    const struct translation *translation = build->translation;
    struct soft_translator *translator = build->translator;
    g_autoptr(GString) text = g_string_new(NULL);
    ZydisFormatter formatter;

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    add_head(text, translator, translation, "block");
    add_host_code(text, translator, translation, &formatter, translation->indirect,
                  build->insns[0].code);
    for (unsigned i = 0; i < build->count; i++) {
        add_guest_instruction(text, build, i, &formatter);
        add_host_code(text, translator, translation, &formatter, build->insns[i].code,
                      i + 1 < build->count ? build->insns[i + 1].code : translation->end);
    }
    add_behind(text, translator, translation, &formatter);
    write_all(switches_of(translator)->log, text);
}

static void log_clone(struct soft_translator *translator, const struct translation *translation)
{
    g_autoptr(GString) text = g_string_new(NULL);
    ZydisFormatter formatter;

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    add_head(text, translator, translation, "clone");
    add_host_code(text, translator, translation, &formatter, translation->indirect,
                  translation->end);
    add_behind(text, translator, translation, &formatter);
    write_all(switches_of(translator)->log, text);
}

void translator_log_glue(const struct soft_translator *translator)
{
    map_code(translator, translator->cache.write, translator->empty, "glue", 0);
}

static void map_translation(const struct soft_translator *translator,
                            const struct translation *translation)
{
    map_code(translator, translation->indirect, translation->end, "block", translation->linear);
    map_code(translator, translation->cold, translation->cold_end, "cold", translation->linear);
}

void translator_log_clone(struct soft_translator *translator, const struct translation *translation)
{
    map_translation(translator, translation);
    if (switches_of(translator)->log >= 0)
        log_clone(translator, translation);
}

void translator_log_translation(const struct build *build)
{
    map_translation(build->translator, build->translation);
    if (switches_of(build->translator)->log >= 0)
        log_block(build);
}
