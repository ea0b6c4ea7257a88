// SPDX-License-Identifier: Apache-2.0
/*
 * What the tests of copying instructions share: decoding, and looking at the form.
 */
#pragma once

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

struct decoded {
    uint8_t bytes[ZYDIS_MAX_INSTRUCTION_LENGTH];
    ZydisDecodedInstruction instruction;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

static const struct copy_features all_features = {.bmi2 = true, .avx = true, .avx512 = true};

static inline bool decode(unsigned code_size, const void *bytes, unsigned length,
                          struct decoded *decoded)
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
static inline struct decoded decode_text(unsigned code_size, const char *text)
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

static inline struct copy_form classify(const struct decoded *decoded, bool exact)
{
    struct copy_form form;

    copy_classify(&decoded->instruction, decoded->operands, &all_features, exact, &form);
    return form;
}

static inline struct copy_form classify_text(unsigned code_size, const char *text, bool exact)
{
    struct decoded decoded = decode_text(code_size, text);

    return classify(&decoded, exact);
}
