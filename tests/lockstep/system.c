// SPDX-License-Identifier: Apache-2.0
/*
 * Units of system instructions, and calls of the kernel. Those that ring 3 may not execute are made
 * for it too, seldom: they fault.
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

static uint64_t window_address(struct generator *generator)
{
    uint64_t linear = DIFF_WINDOW + below(generator, WINDOW_PAGES * 4096);

    return is_wide(generator) && below(generator, 2) ? linear + ALIAS_MIDDLE : linear;
}

/* ---- for all ---- */

static void call_kernel(struct generator *generator, struct unit *unit)
{
    static const uint8_t calls[] = {CALL_NOTHING,   CALL_SPACE,      CALL_INTERRUPT,
                                    CALL_INTERRUPT, CALL_CHECKPOINT, CALL_FLUSH};

    UNIT_PUT(unit, 0xcd, calls[below(generator, sizeof(calls))]);
}

static void edit_table(struct generator *generator, struct unit *unit)
{
    unit_load(unit, generator->program->code_size, GPR_RAX, below(generator, EDITS));
    UNIT_PUT(unit, 0xcd, CALL_EDIT);
}

static void system_call(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0x0f, 0x05);
}

static void breakpoint(struct generator *generator, struct unit *unit)
{
    if (below(generator, 2))
        UNIT_PUT(unit, 0xcc);
    else
        UNIT_PUT(unit, 0xf1);
}

static void ports(struct generator *generator, struct unit *unit)
{
    static const uint8_t opcodes[] = {0xec, 0xed, 0xee, 0xef, 0x6c, 0x6e};

    unit_load(unit, generator->program->code_size, GPR_RDX, 0x300 + below(generator, 16));
    UNIT_PUT(unit, opcodes[below(generator, sizeof(opcodes))]);
}

static void interrupt_flag(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, below(generator, 2) ? 0xfa : 0xfb);
}

/* sti with something in its shadow; an interrupt waits */
static void shadow(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0xfa, 0xcd, CALL_INTERRUPT, 0xfb, 0x90, 0x90);
}

static void load_stack_segment(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0x66, 0x8c, 0xd0, 0x8e, 0xd0, 0x90); /* mov ax, ss; mov ss, ax; nop */
}

static void identify(struct generator *generator, struct unit *unit)
{
    static const uint32_t leaves[] = {0, 1, 7, 0xd, 0x80000000, 0x80000001, 0x80000008};

    unit_load(unit, generator->program->code_size, GPR_RAX,
              leaves[below(generator, G_N_ELEMENTS(leaves))]);
    unit_load(unit, generator->program->code_size, GPR_RCX, below(generator, 3));
    UNIT_PUT(unit, 0x0f, 0xa2);
}

static void small(struct generator *generator, struct unit *unit)
{
    switch (below(generator, 6)) {
    case 0:
        UNIT_PUT(unit, 0xf3, 0x90); /* pause */
        break;
    case 1:
        UNIT_PUT(unit, 0x0f, 0xae, (uint8_t)(0xe8 + below(generator, 3) * 8)); /* fences */
        break;
    case 2:
        UNIT_PUT(unit, 0x31, 0xc9, 0x0f, 0x01, 0xd0); /* xor ecx, ecx; xgetbv */
        break;
    case 3:
        UNIT_PUT(unit, 0x0f, 0x01, 0xe0); /* smsw eax */
        break;
    case 4:
        UNIT_PUT(unit, generator->program->ring == 0 ? 0x90 : 0xf4); /* hlt: #GP in ring 3 */
        break;
    default:
        if (generator->program->ring == 0)
            UNIT_PUT(unit, 0x0f, 0x1f, 0xc0); /* nop */
        else
            UNIT_PUT(unit, 0x0f, 0x31); /* rdtsc: #GP */
        break;
    }
}

/* FSGSBASE: reads, and writes of what changes nothing much. */
static void segment_base(struct generator *generator, struct unit *unit)
{
    unsigned operation = below(generator, 4);

    if (!is_wide(generator))
        return;
    if (operation >= 2)
        unit_load(unit, 8, GPR_RAX, below(generator, 2) ? 0x10 : ALIAS_MIDDLE);
    UNIT_PUT(unit, 0xf3, 0x48, 0x0f, 0xae, (uint8_t)(0xc0 | operation << 3));
}

/* ---- for the kernel's ring ---- */

static void load_cr3(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8);
}

static void invalidate(struct generator *generator, struct unit *unit)
{
    unit_load(unit, 8, GPR_RDI, window_address(generator));
    UNIT_PUT(unit, 0x0f, 0x01, 0x3f);
}

static void swap_gs(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0x0f, 0x01, 0xf8);
    if (below(generator, 4)) /* mov eax, gs:[0x58] in between */
        UNIT_PUT(unit, 0x65, 0x8b, 0x04, 0x25, 0x58, 0, 0, 0, 0x0f, 0x01, 0xf8);
}

static void task_switched(struct generator *generator, struct unit *unit)
{
    switch (below(generator, 3)) {
    case 0:
        UNIT_PUT(unit, 0x0f, 0x06); /* clts */
        break;
    case 1: /* mov rax, cr0; or eax, 8; mov cr0, rax */
        UNIT_PUT(unit, 0x0f, 0x20, 0xc0, 0x83, 0xc8, 8, 0x0f, 0x22, 0xc0);
        break;
    default: /* WP turned around */
        if (generator->program->asynchronous)
            break;
        UNIT_PUT(unit, 0x0f, 0x20, 0xc0, 0x35, 0, 0, 1, 0, 0x0f, 0x22, 0xc0);
        break;
    }
}

static void model_register(struct generator *generator, struct unit *unit)
{
    static const uint32_t numbers[] = {0xc0000100, 0xc0000101, 0xc0000084, 0x277, 0xc0000103, 1};

    unit_load(unit, 8, GPR_RCX, numbers[below(generator, G_N_ELEMENTS(numbers))]);
    UNIT_PUT(unit, 0x0f, 0x32); /* rdmsr */
    if (below(generator, 2))
        UNIT_PUT(unit, 0x0f, 0x30); /* wrmsr of the same */
}

static void task_priority(struct generator *generator, struct unit *unit)
{
    if (below(generator, 2))
        unit_load(unit, 8, GPR_RAX, below(generator, 4));
    UNIT_PUT(unit, 0x44, 0x0f, below(generator, 2) ? 0x20 : 0x22, 0xc0); /* cr8 */
}

static void access_check(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0x0f, 0x01, (uint8_t)(0xca | below(generator, 2))); /* clac, stac */
}

static void debug_register(struct generator *generator, struct unit *unit)
{
    if (below(generator, 2)) {
        unit_load(unit, 8, GPR_RAX, DIFF_DATA + below(generator, 64) * 64);
        UNIT_PUT(unit, 0x0f, 0x23, 0xc0); /* mov dr0, rax */
    } else {
        unit_load(unit, 8, GPR_RAX, below(generator, 2) ? 0x400 : 0xd0402);
        UNIT_PUT(unit, 0x0f, 0x23, 0xf8); /* mov dr7, rax: 4 bytes at DR0, written */
    }
}

/* IRETQ to a unit ahead, in this ring or in ring 3. */
static void interrupt_return(struct generator *generator, struct unit *unit)
{
    bool down = below(generator, 2);
    uint32_t flags = 0x202 | (uint32_t)(random_bits(&generator->random) & 0xcd5);

    if (below(generator, 8) == 0)
        flags |= 0x100;
    UNIT_PUT(unit, 0x6a, down ? SELECTOR_DATA : SELECTOR_DATA0);
    UNIT_PUT(unit, 0x68);
    unit_put32(unit, (uint32_t)STACK_TOP);
    UNIT_PUT(unit, 0x68);
    unit_put32(unit, flags);
    UNIT_PUT(unit, 0x6a, down ? SELECTOR_CODE64 : SELECTOR_CODE0);
    unit_load_address(generator, unit, GPR_RAX, unit_ahead(generator));
    UNIT_PUT(unit, 0x50, 0x48, 0xcf);
}

/* Interrupts closed and opened again around something, as kernels do it. */
static void critical_section(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0x9c, 0xfa); /* pushf; cli */
    if (below(generator, 2))
        UNIT_PUT(unit, 0xcd, CALL_INTERRUPT);
    UNIT_PUT(unit, 0x9d); /* popf */
}

/* hlt with an interrupt on its way */
static void halt(struct generator *generator, struct unit *unit)
{
    UNIT_PUT(unit, 0xfa, 0xcd, CALL_INTERRUPT, 0xfb, 0xf4);
}

static const unit_maker common_makers[] = {
    call_kernel, call_kernel, call_kernel, edit_table,     edit_table, system_call,
    system_call, breakpoint,  ports,       interrupt_flag, shadow,     load_stack_segment,
    identify,    small,       small,       segment_base,
};

/* invpcid rax, [rsp] */
static void invalidate_space(struct generator *generator, struct unit *unit)
{
    unit_load(unit, 8, GPR_RAX, window_address(generator));
    UNIT_PUT(unit, 0x50, 0x6a, (uint8_t)below(generator, 3)); /* push rax; push PCID */
    unit_load(unit, 8, GPR_RAX, below(generator, 5));
    UNIT_PUT(unit, 0x66, 0x0f, 0x38, 0x82, 0x04, 0x24);
}

static const unit_maker kernel_makers[] = {
    invalidate_space, load_cr3,         invalidate,       swap_gs,        task_switched,
    model_register,   task_priority,    access_check,     debug_register, interrupt_return,
    interrupt_return, critical_section, critical_section, halt,
};

void unit_system(struct generator *generator, struct unit *unit)
{
    const struct program *program = generator->program;
    bool kernel = program->ring == 0 ? below(generator, 3) : below(generator, 16) == 0;

    if (kernel && program->code_size == 8)
        kernel_makers[below(generator, G_N_ELEMENTS(kernel_makers))](generator, unit);
    else
        common_makers[below(generator, G_N_ELEMENTS(common_makers))](generator, unit);
}
