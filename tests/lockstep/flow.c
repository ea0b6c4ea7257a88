// SPDX-License-Identifier: Apache-2.0
/*
 * Units of control flow, of the stack, of flags, of copies, and of stores into code.
 *
 * What leads backward takes from the fuel first, so that a program ends.
 */
#include "tests/lockstep/lockstep.h"

typedef void (*unit_maker)(struct generator *generator, struct unit *unit);

static unsigned below(struct generator *generator, unsigned bound)
{
    return random_below(&generator->random, bound);
}

static bool is_wide(const struct generator *generator)
{
    return generator->program->code_size == 8;
}

/* A general register that is not the stack's; of the first eight in 32-bit code. */
static unsigned any_register(struct generator *generator)
{
    unsigned reg;

    do
        reg = below(generator, is_wide(generator) ? 16 : 8);
    while (reg == GPR_RSP);
    return reg;
}

static unsigned low_register(struct generator *generator)
{
    unsigned reg = below(generator, 7);

    return reg < GPR_RSP ? reg : reg + 1;
}

/* ---- jumps ---- */

static void jump_forward(struct generator *generator, struct unit *unit)
{
    bool near = below(generator, 2);
    unsigned condition = below(generator, 20);

    if (condition >= 16)
        UNIT_PUT(unit, near ? 0xeb : 0xe9);
    else if (near)
        UNIT_PUT(unit, (uint8_t)(0x70 | condition));
    else
        UNIT_PUT(unit, 0x0f, (uint8_t)(0x80 | condition));
    unit_fixup(unit, near ? FIXUP_RELATIVE8 : FIXUP_RELATIVE32, unit_ahead(generator), 0);
}

/* sub dword [fuel], 1; js over `skipped` bytes */
static void take_fuel(struct generator *generator, struct unit *unit, unsigned skipped)
{
    static const uint8_t subtract[] = {0x83};

    unit_memory(generator, unit, subtract, 1, 5, USER_FUEL);
    UNIT_PUT(unit, 1, 0x78, (uint8_t)skipped);
}

static void jump_anywhere(struct generator *generator, struct unit *unit)
{
    unsigned target = unit_anywhere(generator);

    if (below(generator, 2)) { /* a loop of this unit or of a few */
        target = generator->index - below(generator, 3);
        if (target > generator->index)
            target = 0;
    }
    take_fuel(generator, unit, 6);
    UNIT_PUT(unit, 0x0f, (uint8_t)(0x80 | below(generator, 16)));
    unit_fixup(unit, FIXUP_RELATIVE32, target, 0);
}

static void loop_instruction(struct generator *generator, struct unit *unit)
{
    if (below(generator, 2)) {
        unit_load(unit, generator->program->code_size, GPR_RCX, below(generator, 3));
        UNIT_PUT(unit, (uint8_t)(0xe0 + below(generator, 4)));
        unit_fixup(unit, FIXUP_RELATIVE8, unit_ahead(generator), 0);
        return;
    }
    take_fuel(generator, unit, 2);
    UNIT_PUT(unit, (uint8_t)(0xe0 + below(generator, 4)));
    unit_fixup(unit, FIXUP_RELATIVE8, generator->index ? generator->index - 1 : 0, 0);
}

static void call_ahead(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0xe8);
    unit_fixup(unit, FIXUP_RELATIVE32, unit_ahead(generator), 0);
}

static void return_near(struct generator *generator, struct unit *unit)
{
    if (below(generator, 4))
        UNIT_PUT(unit, 0xc3);
    else
        UNIT_PUT(unit, 0xc2, (uint8_t)(below(generator, 4) * 8), 0);
}

static void jump_register(struct generator *generator, struct unit *unit)
{
    unsigned reg = any_register(generator);

    unit_load_address(generator, unit, reg, unit_ahead(generator));
    if (reg >= 8)
        UNIT_PUT(unit, 0x41);
    UNIT_PUT(unit, 0xff, (uint8_t)((below(generator, 3) ? 0xe0 : 0xd0) | (reg & 7)));
}

/* Through the table, by an index that changes. */
static void jump_table(struct generator *generator, struct unit *unit)
{
    uint8_t operation = below(generator, 3) ? 4 : 2;

    take_fuel(generator, unit, is_wide(generator) ? 10 : 10);
    UNIT_PUT(unit, 0x83, 0xe1, TABLE_SIZE - 1); /* and ecx */
    UNIT_PUT(unit, 0xff, (uint8_t)(0x04 | operation << 3), 0xcd);
    unit_put32(unit, USER_TABLE); /* [rcx * 8 + table] */
}

static void jump_entry(struct generator *generator, struct unit *unit)
{
    static const uint8_t jump[] = {0xff};

    take_fuel(generator, unit, is_wide(generator) ? 7 : 6);
    unit_memory(generator, unit, jump, 1, below(generator, 3) ? 4 : 2,
                USER_TABLE + below(generator, TABLE_SIZE) * 8);
}

static void push_return(struct generator *generator, struct unit *unit)
{
    unsigned reg = low_register(generator);

    unit_load_address(generator, unit, reg, unit_ahead(generator));
    UNIT_PUT(unit, (uint8_t)(0x50 | reg), 0xc3);
}

/* ---- the stack ---- */

static void push_pop(struct generator *generator, struct unit *unit)
{
    for (unsigned i = 1 + below(generator, 4); i--;) {
        unsigned reg = any_register(generator);

        if (reg >= 8)
            UNIT_PUT(unit, 0x41);
        UNIT_PUT(unit, (uint8_t)((below(generator, 2) ? 0x50 : 0x58) | (reg & 7)));
    }
}

static void set_stack(struct generator *generator, struct unit *unit)
{
    unit_load(unit, generator->program->code_size, GPR_RSP,
              STACK_TOP + generator->program->alias - below(generator, 0xe00));
}

static void frame(struct generator *generator, struct unit *unit)
{
    if (below(generator, 2))
        UNIT_PUT(unit, 0xc8, (uint8_t)below(generator, 64), 0, (uint8_t)below(generator, 3));
    else
        UNIT_PUT(unit, 0xc9);
}

static void move_stack(struct generator *generator, struct unit *unit)
{
    if (is_wide(generator))
        UNIT_PUT(unit, 0x48);
    UNIT_PUT(unit, 0x83, below(generator, 2) ? 0xec : 0xc4, (uint8_t)(below(generator, 8) * 8));
}

static void push_memory(struct generator *generator, struct unit *unit)
{
    static const uint8_t push[] = {0xff}, pop[] = {0x8f};
    bool up = below(generator, 2);

    unit_memory(generator, unit, up ? push : pop, 1, up ? 6 : 0,
                DIFF_DATA + below(generator, 0x1ff8));
}

/* ---- flags ---- */

static void use_flags(struct generator *generator, struct unit *unit)
{
    static const uint8_t set[] = {0x0f, 0x90};
    uint8_t setcc[2] = {set[0], (uint8_t)(set[1] | below(generator, 16))};
    unsigned reg = low_register(generator), other = low_register(generator);

    switch (below(generator, 8)) {
    case 0:
        unit_memory(generator, unit, setcc, 2, 0, DIFF_DATA + below(generator, 0x2000));
        break;
    case 1:
        UNIT_PUT(unit, 0x0f, setcc[1], (uint8_t)(0xc0 | reg));
        break;
    case 2:
        UNIT_PUT(unit, 0x0f, (uint8_t)(0x40 | below(generator, 16)),
                 (uint8_t)(0xc0 | reg << 3 | other));
        break;
    case 3:
        UNIT_PUT(unit, 0x9c, (uint8_t)(0x58 | reg)); /* pushf; pop */
        break;
    case 4:
        UNIT_PUT(unit, 0x9f); /* lahf */
        break;
    case 5:
        UNIT_PUT(unit, 0x9e); /* sahf */
        break;
    case 6:
        UNIT_PUT(unit, below(generator, 2) ? 0x11 : 0x19, (uint8_t)(0xc0 | reg << 3 | other));
        break;
    default:
        UNIT_PUT(unit, below(generator, 2) ? 0xf5 : (uint8_t)(0xf8 | below(generator, 2)));
        break;
    }
}

static void set_direction(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, below(generator, 3) ? 0xfc : 0xfd);
}

/* Set TF: traps follow until the kernel has had enough of them. */
static void single_step(struct generator *generator, struct unit *unit)
{
    if (!generator->program->waits)
        UNIT_PUT(unit, 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d);
}

/* AC, NT, DF, the status flags: what POPF takes. */
static void pop_flags(struct generator *generator, struct unit *unit)
{
    uint32_t flags = (uint32_t)random_bits(&generator->random) & 0x244cd5;

    if (below(generator, 4))
        flags &= 0x8d5;
    UNIT_PUT(unit, 0x68);
    unit_put32(unit, flags | 0x202);
    UNIT_PUT(unit, 0x9d);
}

/* ---- memory ---- */

static uint64_t string_address(struct generator *generator)
{
    static const uint8_t pages[] = {2, 3, 2, 3, 2, 3, PAGE_ALIAS, PAGE_ALIAS + 1, PAGE_STACK, 1};
    uint64_t linear =
        DIFF_WINDOW + pages[below(generator, sizeof(pages))] * 4096UL + below(generator, 4096);

    return unit_alias(generator, linear);
}

/* Long ones, across pages and into what cannot be written. */
static void repeat(struct generator *generator, struct unit *unit)
{
    static const uint8_t operations[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac,
                                         0xad, 0xa6, 0xa7, 0xae, 0xaf};
    unsigned size = generator->program->code_size;

    if (generator->program->large)
        return;
    unit_load(unit, size, GPR_RSI, string_address(generator));
    unit_load(unit, size, GPR_RDI, string_address(generator));
    unit_load(unit, size, GPR_RCX, below(generator, below(generator, 4) ? 64 : 0x1200));
    if (below(generator, 8) == 0)
        UNIT_PUT(unit, 0x67);
    UNIT_PUT(unit, below(generator, 2) ? 0xf3 : 0xf2);
    if (is_wide(generator) && below(generator, 2))
        UNIT_PUT(unit, 0x48);
    UNIT_PUT(unit, operations[below(generator, below(generator, 2) ? 4 : sizeof(operations))]);
}

/* A compare-and-exchange that mostly succeeds. */
static void compare_exchange(struct generator *generator, struct unit *unit)
{
    static const uint8_t load[] = {0x8b}, exchange[] = {0xf0, 0x0f, 0xb1},
                         eight[] = {0xf0, 0x0f, 0xc7};
    uint64_t linear = DIFF_DATA + below(generator, 0x1ff8);

    if (below(generator, 2)) {
        unit_memory(generator, unit, load, 1, GPR_RAX, linear);
        unit_memory(generator, unit, exchange, 3, low_register(generator), linear);
        return;
    }
    unit_memory(generator, unit, load, 1, GPR_RAX, linear);
    unit_memory(generator, unit, load, 1, GPR_RDX, linear + 4);
    unit_memory(generator, unit, eight, 3, 1, linear);
}

/* Plain code: the bulk of what real programs are. */
static void plain(struct generator *generator, struct unit *unit)
{
    for (unsigned i = 1 + below(generator, 4); i--;) {
        unsigned reg = low_register(generator), other = low_register(generator);
        uint8_t operation = (uint8_t)(below(generator, 8) << 3 | 1 | below(generator, 2) << 1);
        uint64_t linear = DIFF_DATA + below(generator, 0x7f8) * (below(generator, 4) ? 4 : 1);

        if (is_wide(generator) && below(generator, 2))
            UNIT_PUT(unit, (uint8_t)(0x48 | (below(generator, 8) & 5)));
        if (below(generator, 2))
            UNIT_PUT(unit, operation, (uint8_t)(0xc0 | reg << 3 | other));
        else
            unit_memory(generator, unit, &operation, 1, reg, linear);
    }
}

/* ---- code that is written ---- */

/* Instructions whose every immediate is good: mov reg, imm32, and op reg, imm32. */
static void patched(struct generator *generator, struct unit *unit)
{
    unsigned reg = low_register(generator);

    if (below(generator, 2)) {
        UNIT_PUT(unit, (uint8_t)(0xb8 | reg));
    } else {
        UNIT_PUT(unit, 0x81, (uint8_t)(0xc0 | below(generator, 8) << 3 | reg));
    }
    unit->patch = unit->length;
    unit_put32(unit, (uint32_t)random_bits(&generator->random));
}

/* The nearest unit before or behind that can be patched; or -1. */
static int find_patched(struct generator *generator)
{
    const struct program *program = generator->program;

    for (unsigned i = generator->index; i-- > 0;)
        if (program->units[i].patch && below(generator, 2))
            return (int)i;
    return -1;
}

/* mov [code], value: by the code's own page or by an alias of it. Behind it lies what it changes,
 * or anything that was made before. */
static void write_code(struct generator *generator, struct unit *unit)
{
    const struct program *program = generator->program;
    int target = below(generator, 2) ? find_patched(generator) : -1;
    unsigned page = below(generator, 2) ? 0 : 1 + below(generator, 4);
    bool byte = below(generator, 2);
    struct fixup *fixup;

    /* mov byte [abs], imm8, or mov dword [abs], imm32 */
    UNIT_PUT(unit, byte ? 0xc6 : 0xc7, program->code_size == 8 ? 0x04 : 0x05);
    if (program->code_size == 8)
        UNIT_PUT(unit, 0x25);
    unit_fixup(unit, FIXUP_ADDRESS32, target < 0 ? generator->index : (unsigned)target,
               byte ? 1 : 4);
    fixup = &unit->fixups[unit->fixup_count - 1];
    if (byte)
        UNIT_PUT(unit, (uint8_t)random_bits(&generator->random));
    else
        unit_put32(unit, (uint32_t)random_bits(&generator->random));
    if (target >= 0) {
        fixup->addend = program->units[target].patch;
    } else {
        patched(generator, unit);
        fixup->addend = unit->patch;
    }
    if (byte)
        fixup->addend += (int32_t)below(generator, 4);
    if (page) /* where the program's code is seen through an alias, if it is */
        for (unsigned i = 0; i < ALIAS_PAGES; i++)
            if (program->alias_target[i] >= PAGE_CODE && program->alias_target[i] < PAGE_ALIAS)
                fixup->addend += (int32_t)(PAGE_ALIAS + i - program->alias_target[i]) * 4096;
}

/* Copy code onto itself, or what else lies there. */
static void copy_code(struct generator *generator, struct unit *unit)
{
    unsigned target = generator->index ? unit_anywhere(generator) : 0;

    unit_load_address(generator, unit, GPR_RSI, target);
    unit_load_address(generator, unit, GPR_RDI, target);
    unit_load(unit, generator->program->code_size, GPR_RCX, 1 + below(generator, 64));
    UNIT_PUT(unit, 0xfc, 0xf3, 0xa4);
}

/* Some accesses by one base, which may lie in two pages. */
static void neighbours(struct generator *generator, struct unit *unit)
{
    static const uint8_t opcodes[] = {0x8b, 0x89, 0x03, 0x01, 0x2b, 0x33, 0x39, 0x88, 0x8a, 0x63};
    unsigned base = low_register(generator), size = generator->program->code_size;
    uint64_t linear = DIFF_DATA + (below(generator, 2) ? 0x1000 - below(generator, 64)
                                                       : below(generator, 0x1f80));
    bool indexed = below(generator, 3) == 0 && base != GPR_RCX && base != GPR_RBP;

    if (indexed)
        unit_load(unit, size, GPR_RCX, below(generator, 4));
    unit_load(unit, size, base, unit_alias(generator, linear));
    for (unsigned i = 2 + below(generator, 4); i--;) {
        uint8_t opcode = opcodes[below(generator, sizeof(opcodes) - !is_wide(generator))];
        unsigned reg;

        do
            reg = low_register(generator);
        while (reg == base || reg == GPR_RCX);
        if (is_wide(generator) && below(generator, 2))
            UNIT_PUT(unit, 0x48);
        if (indexed)
            UNIT_PUT(unit, opcode, (uint8_t)(0x44 | reg << 3), (uint8_t)(0xc8 | base));
        else
            UNIT_PUT(unit, opcode, (uint8_t)(0x40 | reg << 3 | base));
        UNIT_PUT(unit, (uint8_t)(below(generator, 64) - 32));
    }
}

/* A procedure that is called through a register, again and again, and changed in between. */
static void change_called(struct generator *generator, struct unit *unit)
{
    bool wide = is_wide(generator);
    unsigned start;

    if (wide) {
        UNIT_PUT(unit, 0x48, 0x8d, 0x05); /* lea rax, [procedure] */
        unit_fixup(unit, FIXUP_RELATIVE32, generator->index, 0);
    } else {
        UNIT_PUT(unit, 0xb8);
        unit_fixup(unit, FIXUP_ADDRESS32, generator->index, 0);
    }
    start = unit->length;
    take_fuel(generator, unit, 8);
    UNIT_PUT(unit, 0xff, 0xd0);                                        /* call rax */
    UNIT_PUT(unit, 0x80, 0x40, 3, (uint8_t)(1 + below(generator, 4))); /* add byte [rax + 3] */
    UNIT_PUT(unit, 0xeb, (uint8_t)(start - (unit->length + 2U)));
    UNIT_PUT(unit, 0xeb, 5); /* over the procedure: lea rbx, [rbx + n]; ret */
    unit->fixups[unit->fixup_count - 1].addend = unit->length;
    UNIT_PUT(unit, wide ? 0x48 : 0x90, 0x8d, 0x5b, (uint8_t)below(generator, 64), 0xc3);
}

/* Until the kernel's handler of an interrupt goes on behind it. */
static void wait_for_interrupt(struct generator *generator, struct unit *unit)
{
    if (!generator->program->waits)
        return;
    unit->waits = true;
    switch (below(generator, 3)) {
    case 0:
        UNIT_PUT(unit, 0xeb, 0xfe);
        break;
    case 1:
        UNIT_PUT(unit, 0xf3, 0x90, 0xeb, 0xfc); /* pause */
        break;
    default:
        UNIT_PUT(unit, 0xeb, 0x00, 0xeb, 0xfc);
        break;
    }
}

/* To the last instructions below the addresses that are not canonical, or beyond. An interrupt
 * there would fault in its return. */
static void jump_to_the_top(struct generator *generator, struct unit *unit)
{
    uint64_t target = TOP_PAGE + 4096 - below(generator, 16);

    if (!is_wide(generator) || generator->program->asynchronous || below(generator, 3))
        return;
    unit_load(unit, 8, GPR_RAX, target);
    UNIT_PUT(unit, 0xff, below(generator, 2) ? 0xe0 : 0xd0);
}

static const unit_maker makers[] = {
    jump_forward,
    jump_forward,
    jump_forward,
    jump_anywhere,
    jump_anywhere,
    jump_anywhere,
    loop_instruction,
    call_ahead,
    call_ahead,
    return_near,
    jump_register,
    jump_table,
    jump_table,
    jump_entry,
    push_return,
    push_pop,
    push_pop,
    set_stack,
    frame,
    move_stack,
    push_memory,
    use_flags,
    use_flags,
    use_flags,
    use_flags,
    set_direction,
    single_step,
    pop_flags,
    repeat,
    repeat,
    compare_exchange,
    plain,
    plain,
    plain,
    plain,
    plain,
    patched,
    patched,
    write_code,
    write_code,
    copy_code,
    wait_for_interrupt,
    jump_to_the_top,
    neighbours,
    neighbours,
    neighbours,
    change_called,
};

void unit_flow(struct generator *generator, struct unit *unit)
{
    makers[below(generator, G_N_ELEMENTS(makers))](generator, unit);
}
