// SPDX-License-Identifier: Apache-2.0
/*
 * A program: choosing its units, laying them out over the pages of code, and telling what it is.
 *
 * Code runs on from page to page in rising order, so that what follows a unit is always further up;
 * a gap is bridged by a jump. For each byte of code the kernel gets the address behind its unit.
 */
#include <stdio.h>
#include <string.h>

#include "tests/lockstep/lockstep.h"

#define GAP_JUMP 5  /* bytes of the jump over a gap */
#define TAIL     32 /* bytes of NOPs at the code's end */

/* ---- emitting ---- */

void unit_put(struct unit *unit, const void *bytes, unsigned count)
{
    if (unit->length + count > UNIT_BYTES)
        return;
    memcpy(unit->bytes + unit->length, bytes, count);
    unit->length = (uint8_t)(unit->length + count);
}

void unit_put32(struct unit *unit, uint32_t value)
{
    unit_put(unit, &value, 4);
}

void unit_fixup(struct unit *unit, enum fixup_kind kind, unsigned target, unsigned rest)
{
    unsigned size = kind == FIXUP_RELATIVE8 ? 1 : kind == FIXUP_ADDRESS64 ? 8 : 4;

    unit->fixups[unit->fixup_count++] = (struct fixup){
        .kind = (uint8_t)kind,
        .offset = unit->length,
        .end = (uint8_t)(unit->length + size + rest),
        .target = (uint8_t)target,
    };
    unit_put(unit, &(uint64_t){0}, size);
}

void unit_load(struct unit *unit, unsigned code_size, unsigned reg, uint64_t value)
{
    uint8_t rex = reg >> 3 & 1;

    if (code_size < 8 || value >> 32 == 0) {
        if (rex)
            UNIT_PUT(unit, 0x41);
        UNIT_PUT(unit, (uint8_t)(0xb8 | (reg & 7)));
        unit_put32(unit, (uint32_t)value);
    } else if ((uint64_t)(int32_t)value == value) {
        UNIT_PUT(unit, (uint8_t)(0x48 | rex), 0xc7, (uint8_t)(0xc0 | (reg & 7)));
        unit_put32(unit, (uint32_t)value);
    } else {
        UNIT_PUT(unit, (uint8_t)(0x48 | rex), (uint8_t)(0xb8 | (reg & 7)));
        unit_put(unit, &value, 8);
    }
}

void unit_load_address(struct generator *generator, struct unit *unit, unsigned reg,
                       unsigned target)
{
    uint8_t rex = reg >> 3 & 1;

    if (generator->program->code_size < 8) {
        UNIT_PUT(unit, (uint8_t)(0xb8 | (reg & 7)));
        unit_fixup(unit, FIXUP_ADDRESS32, target, 0);
    } else if (random_below(&generator->random, 2)) {
        UNIT_PUT(unit, (uint8_t)(0x48 | rex), (uint8_t)(0xb8 | (reg & 7)));
        unit_fixup(unit, FIXUP_ADDRESS64, target, 0);
    } else {
        UNIT_PUT(unit, (uint8_t)(0x48 | rex << 2), 0x8d, (uint8_t)(0x05 | (reg & 7) << 3));
        unit_fixup(unit, FIXUP_RELATIVE32, target, 0);
    }
}

void unit_memory(const struct generator *generator, struct unit *unit, const uint8_t *opcode,
                 unsigned count, unsigned reg, uint64_t linear)
{
    unit_put(unit, opcode, count);
    if (generator->program->code_size == 8)
        UNIT_PUT(unit, (uint8_t)(0x04 | (reg & 7) << 3), 0x25); /* no base: absolute */
    else
        UNIT_PUT(unit, (uint8_t)(0x05 | (reg & 7) << 3));
    unit_put32(unit, (uint32_t)linear);
}

unsigned unit_ahead(struct generator *generator)
{
    unsigned target = generator->index + 1 + random_below(&generator->random, 6);

    return target < generator->program->count ? target : generator->program->count - 1;
}

unsigned unit_anywhere(struct generator *generator)
{
    return random_below(&generator->random, generator->program->count);
}

uint64_t unit_alias(struct generator *generator, uint64_t linear)
{
    const struct program *program = generator->program;

    if (program->code_size < 8)
        return linear;
    if (program->supervisor && random_below(&generator->random, 8))
        return linear + ALIAS_HIGH;
    if (random_below(&generator->random, 4))
        return linear;
    return linear + (random_below(&generator->random, 3) ? ALIAS_MIDDLE : ALIAS_HIGH);
}

/* ---- layout ---- */

/* Where each unit lies: program->offset. A unit that would leave the code is dropped. */
static void place_units(struct program *program)
{
    unsigned at = program->units[0].gap;

    for (unsigned i = 0; i < program->count; i++) {
        const struct unit *unit = &program->units[i];
        unsigned length = unit->dropped ? 0 : unit->length;

        if (i && !unit->dropped && unit->gap > at + GAP_JUMP)
            at = unit->gap;
        if (at + length + UNIT_BYTES > CODE_SIZE && i + 1 < program->count)
            length = 0;
        program->offset[i] = (uint16_t)at;
        at += length;
    }
    program->offset[program->count] = (uint16_t)at;
}

static unsigned unit_size(const struct program *program, unsigned index)
{
    const struct unit *unit = &program->units[index];

    if (unit->dropped)
        return 0;
    return program->offset[index] + unit->length + UNIT_BYTES > CODE_SIZE &&
                   index + 1 < program->count
               ? 0
               : unit->length;
}

static void apply_fixups(const struct program *program, unsigned index, uint8_t *bytes)
{
    const struct unit *unit = &program->units[index];
    uint64_t here = CODE_LOW + program->offset[index];

    for (unsigned i = 0; i < unit->fixup_count; i++) {
        const struct fixup *fixup = &unit->fixups[i];
        uint64_t target = CODE_LOW + program->offset[fixup->target] + (uint64_t)fixup->addend;
        int64_t distance = (int64_t)(target - here - fixup->end);

        switch (fixup->kind) {
        case FIXUP_RELATIVE32:
            memcpy(bytes + fixup->offset, &distance, 4);
            break;
        case FIXUP_RELATIVE8:
            bytes[fixup->offset] = distance == (int8_t)distance ? (uint8_t)distance : 0;
            break;
        case FIXUP_ADDRESS64:
            target += program->alias;
            memcpy(bytes + fixup->offset, &target, 8);
            break;
        case FIXUP_ADDRESS32:
            memcpy(bytes + fixup->offset, &target, 4);
            break;
        case FIXUP_LINEAR32:
            distance = (int64_t)(fixup->linear - here - fixup->end);
            memcpy(bytes + fixup->offset, &distance, 4);
            break;
        }
    }
}

/* A unit's bytes at `at` in both contents of its pages; in the other one some are nothing but NOPs.
 */
static void put_code(struct program *program, unsigned at, const uint8_t *bytes, unsigned count,
                     bool only_here)
{
    memcpy(program->data + PAGE_CODE * 4096 + at, bytes, count);
    if (only_here)
        memset(program->data + (PAGE_CODE + PAGE_OTHER) * 4096 + at, 0x90, count);
    else
        memcpy(program->data + (PAGE_CODE + PAGE_OTHER) * 4096 + at, bytes, count);
}

static void put_unit(struct program *program, unsigned index)
{
    const struct unit *unit = &program->units[index];
    uint8_t bytes[UNIT_BYTES];

    memcpy(bytes, unit->bytes, sizeof(bytes));
    apply_fixups(program, index, bytes);
    put_code(program, program->offset[index], bytes, unit_size(program, index), unit->only_here);
}

/* From the end of a unit to where the next one begins. */
static void bridge_gap(struct program *program, unsigned index)
{
    unsigned end = program->offset[index] + unit_size(program, index);
    int32_t distance = program->offset[index + 1] - (int32_t)(end + GAP_JUMP);
    uint8_t jump[GAP_JUMP] = {0xe9};

    if (end == program->offset[index + 1])
        return;
    memcpy(jump + 1, &distance, 4);
    put_code(program, end, jump, GAP_JUMP, false);
}

void program_layout(struct program *program)
{
    uint16_t next[CODE_SIZE];
    unsigned at = 0;
    uint8_t fill = program->code_size == 8 ? 0x06 : 0xcc; /* #UD, #BP */

    place_units(program);
    memset(program->data + PAGE_CODE * 4096, fill, CODE_SIZE);
    memset(program->data + (PAGE_CODE + PAGE_OTHER) * 4096, fill, CODE_SIZE);
    /* What falls off the end of TOP_PAGE. */
    memset(program->data + PAGE_CODE * 4096 + CODE_SIZE - TAIL, 0x90, TAIL);
    for (unsigned i = 0; i < program->count; i++) {
        put_unit(program, i);
        if (i + 1 < program->count)
            bridge_gap(program, i);
    }
    for (unsigned i = 0; i + 1 < program->count; i++)
        for (; at < program->offset[i + 1]; at++)
            next[at] = program->offset[i + 1] | (program->units[i].waits ? NEXT_WAITS : 0);
    for (; at < CODE_SIZE; at++)
        next[at] = program->offset[program->count - 1];
    memcpy(program->kernel + KERNEL_NEXT, next, sizeof(next));
    for (unsigned i = 0; i < TABLE_SIZE; i++) {
        uint64_t address =
            CODE_LOW + program->alias + program->offset[(i * 7 + program->number) % program->count];

        memcpy(program->data + (USER_TABLE - DIFF_WINDOW) + i * 8, &address, 8);
        memcpy(program->data + (STACK_TOP - DIFF_WINDOW) + i * 8, &address, program->code_size);
    }
    ((struct kernel_data *)(program->kernel + KERNEL_DATA))->start =
        CODE_LOW + program->alias + program->offset[0];
    program->state.rip = CODE_LOW + program->alias + program->offset[0];
}

/* ---- making ---- */

static void make_end(struct unit *unit)
{
    UNIT_PUT(unit, 0xcd, CALL_END);
}

/* Mostly the first page's end, so that code crosses it. */
static void choose_start(struct program *program, struct diff_random *random)
{
    unsigned start = random_below(random, 0x1000);

    if (random_below(random, 2))
        start = 0x1000 - random_below(random, 256);
    program->units[0].gap = (uint16_t)(start ? start : 1);
}

/* Before a unit, to somewhere in the next page, about its begin or its end. */
static void choose_gap(struct unit *unit, struct diff_random *random, unsigned *page)
{
    if (*page >= CODE_PAGES || random_below(random, 8))
        return;
    switch (random_below(random, 3)) {
    case 0:
        unit->gap = (uint16_t)(*page * 0x1000 + random_below(random, 8));
        break;
    case 1:
        unit->gap = (uint16_t)(*page * 0x1000 + random_below(random, 0xf00));
        break;
    default:
        unit->gap = (uint16_t)(*page * 0x1000 + 0xfff - random_below(random, 64));
        break;
    }
    (*page)++;
}

static void make_unit(struct generator *generator, struct unit *unit)
{
    unsigned kind = random_below(&generator->random, 16);

    if (kind < 9)
        unit_form(generator, unit);
    else if (kind < 14)
        unit_flow(generator, unit);
    else
        unit_system(generator, unit);
    unit->only_here = random_below(&generator->random, 4) == 0;
}

static void choose_memory(struct program *program, struct diff_random *random)
{
    random_fill(random, program->data, DATA_SIZE / 4);
    random_fill(random, program->data + DATA_SIZE / 4, DATA_SIZE / 4);
    memset(program->data + DATA_SIZE / 2, 0, DATA_SIZE / 2);
    random_fill(random, program->data + (PAGE_OTHER + 2) * 4096, 2 * 4096);
    memset(program->data + PAGE_USER * 4096, 0, 4096);
    *(uint32_t *)(void *)(program->data + PAGE_USER * 4096) = random_below(random, 100);
}

void program_make(struct program *program, const struct diff_forms *forms, uint64_t seed,
                  uint64_t number)
{
    struct generator generator = {.forms = forms, .program = program};
    unsigned page = 1;

    memset(program->units, 0, sizeof(program->units));
    program->seed = seed;
    program->number = number;
    random_seed(&generator.random, seed, number);
    space_make(program, &generator.random);
    choose_memory(program, &generator.random);
    program->count = 4 + random_below(&generator.random, UNITS - 8);
    if (random_below(&generator.random, 2))
        program->count = 4 + random_below(&generator.random, 16);
    for (unsigned i = 0; i + 1 < program->count; i++) {
        generator.index = i;
        make_unit(&generator, &program->units[i]);
        if (i)
            choose_gap(&program->units[i], &generator.random, &page);
    }
    choose_start(program, &generator.random);
    make_end(&program->units[program->count - 1]);
    program_layout(program);
}

/* ---- printing ---- */

static void print_unit(const struct program *program, unsigned index)
{
    const uint8_t *code = program->data + PAGE_CODE * 4096 + program->offset[index];
    ZydisFormatter formatter;
    unsigned size = unit_size(program, index);

    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned at = 0; at < size;) {
        ZydisDecodedInstruction instruction;
        ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
        uint64_t address = CODE_LOW + program->alias + program->offset[index] + at;
        char text[128] = "(no instruction)";

        if (!form_decode(program->code_size, code + at, &instruction, operands))
            instruction.length = (uint8_t)(size - at);
        else
            ZydisFormatterFormatInstruction(&formatter, &instruction, operands,
                                            instruction.operand_count_visible, text, sizeof(text),
                                            address, NULL);
        printf("  %2u%c %012lx  %-48s", index, at ? ' ' : ':', address & 0xffffffffffff, text);
        for (unsigned i = 0; i < instruction.length; i++)
            printf(" %02x", code[at + i]);
        printf("\n");
        at += instruction.length;
    }
}

void program_print(const struct program *program)
{
    static const char *const names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
    const struct kernel_data *data = (const void *)(program->kernel + KERNEL_DATA);
    const struct cpu_state *state = &program->state;

    printf("%u-bit code in ring %u, %u runs, cr0 %lx cr4 %lx efer %lx rflags %lx dr7 %lx\n",
           program->code_size * 8, program->ring, data->fuel + 1, state->cr0, state->cr4,
           state->msrs.efer, state->rflags, state->dr7);
    for (unsigned i = 0; i < 16; i++)
        printf("  %-3s %016lx%s", names[i], state->gpr[i], i % 4 == 3 ? "\n" : "");
    for (unsigned i = 0; i < program->count; i++)
        print_unit(program, i);
}
