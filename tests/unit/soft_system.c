// SPDX-License-Identifier: Apache-2.0
/*
 * System instructions of the software CPU, decoded from their bytes and executed one at a time.
 */
#include "tests/unit/soft_tables.h"
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/decode.h"
#include "vmm/engine/soft/walk.h"

#define CODE(...)       \
    (const uint8_t[15]) \
    {                   \
        __VA_ARGS__     \
    }
#define FREE_RAM 0x60000UL

/* Decode and execute one instruction at rip; gives the vector that it raised, or -1. */
static int run(struct fixture *f, const uint8_t *bytes)
{
    static struct insn insn;

    assert_int_equal(soft_decode(&f->model, f->cpu->code_size, bytes, 15, &insn), SOFT_DECODE_OK);
    f->cpu->insn = &insn;
    f->cpu->delivering = -1;
    f->cpu->next_rip = f->cpu->rip + insn.length;
    return RAISED(f, insn.exec(f->cpu, &insn));
}

static void show_all(struct fixture *f)
{
    memset(f->model.words, 0xff, sizeof(f->model.words));
    f->model.xcr0_mask = 7;
}

/* ---- privilege ---- */

static void privileged_instructions_raise_gp_outside_of_ring_0(void **state)
{
    static const uint8_t instructions[][15] = {
        {0xf4},                         /* hlt */
        {0x0f, 0x06},                   /* clts */
        {0x0f, 0x01, 0x38},             /* invlpg [rax] */
        {0x0f, 0x01, 0x10},             /* lgdt */
        {0x0f, 0x01, 0x18},             /* lidt */
        {0x0f, 0x01, 0xf0},             /* lmsw ax */
        {0x0f, 0x00, 0xd0},             /* lldt ax */
        {0x0f, 0x00, 0xd8},             /* ltr ax */
        {0x0f, 0x20, 0xc0},             /* mov rax, cr0 */
        {0x0f, 0x22, 0xd8},             /* mov cr3, rax */
        {0x0f, 0x21, 0xf8},             /* mov rax, dr7 */
        {0x0f, 0x23, 0xf8},             /* mov dr7, rax */
        {0x0f, 0x30},                   /* wrmsr */
        {0x0f, 0x32},                   /* rdmsr */
        {0x0f, 0x33},                   /* rdpmc */
        {0x0f, 0x08},                   /* invd */
        {0x0f, 0x09},                   /* wbinvd */
        {0x0f, 0x01, 0xf8},             /* swapgs */
        {0x0f, 0x01, 0xd1},             /* xsetbv */
        {0x66, 0x0f, 0x38, 0x82, 0x00}, /* invpcid rax, [rax] */
        {0xfa},                         /* cli */
        {0xfb},                         /* sti */
        {0xe4, 0x10},                   /* in al, 0x10 */
        {0xef},                         /* out dx, eax */
    };
    struct fixture *f = *state;

    show_all(f);
    for (unsigned i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
        enter_long(f, 3);
        poke16(f, TSS_AT + 102, UINT16_MAX);
        f->cpu->cr4 |= CR4_OSXSAVE;
        f->cpu->gpr[GPR_RAX] = FREE_RAM;
        assert_int_equal(run(f, instructions[i]), EXC_GP);
        assert_int_equal(f->cpu->fault.error, 0);
    }
}

static void real_mode_does_not_know_protections_instructions(void **state)
{
    static const uint8_t instructions[][15] = {
        {0x0f, 0x00, 0xc0}, /* sldt */
        {0x0f, 0x00, 0xc8}, /* str */
        {0x0f, 0x00, 0xd0}, /* lldt */
        {0x0f, 0x00, 0xd8}, /* ltr */
        {0x0f, 0x00, 0xe0}, /* verr */
        {0x0f, 0x00, 0xe8}, /* verw */
        {0x0f, 0x02, 0xc0}, /* lar */
        {0x0f, 0x03, 0xc0}, /* lsl */
        {0x63, 0xc0},       /* arpl */
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
        enter_real(f);
        assert_int_equal(run(f, instructions[i]), EXC_UD);
        enter_v86(f);
        assert_int_equal(run(f, instructions[i]), EXC_UD);
        f->cpu->rflags = FLAG_FIXED;
    }
}

static void umip_hides_the_tables_from_user_code(void **state)
{
    static const uint8_t instructions[][15] = {
        {0x0f, 0x01, 0x00}, /* sgdt [rax] */
        {0x0f, 0x01, 0x08}, /* sidt [rax] */
        {0x0f, 0x00, 0xc0}, /* sldt eax */
        {0x0f, 0x00, 0xc8}, /* str eax */
        {0x0f, 0x01, 0xe0}, /* smsw eax */
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(instructions) / sizeof(instructions[0]); i++) {
        for (unsigned umip = 0; umip < 2; umip++) {
            enter_long(f, 3);
            f->cpu->cr4 |= umip ? CR4_UMIP : 0;
            f->cpu->gpr[GPR_RAX] = FREE_RAM;
            assert_int_equal(run(f, instructions[i]), umip ? EXC_GP : -1);
        }
        enter_long(f, 0);
        f->cpu->cr4 |= CR4_UMIP;
        f->cpu->gpr[GPR_RAX] = FREE_RAM;
        assert_int_equal(run(f, instructions[i]), -1);
    }
    assert_int_equal(run(f, CODE(0x0f, 0x01, 0x00)), EXC_PF);
    f->cpu->gpr[GPR_RAX] = FREE_RAM;
    assert_int_equal(run(f, CODE(0x0f, 0x01, 0x00)), -1);
    assert_int_equal(peek16(f, FREE_RAM), GDT_LIMIT);
    assert_int_equal(peek64(f, FREE_RAM + 2), GDT_AT);
}

/* ---- control registers ---- */

static void cr0_refuses_inconsistent_values(void **state)
{
    static const struct {
        uint64_t value;
        int vector;
    } cases[] = {
        {CR0_PE, -1},          {CR0_PE | CR0_CD | CR0_NW, -1},
        {CR0_PE | CR0_CD, -1}, {CR0_PE | CR0_NW, EXC_GP},
        {CR0_PG, EXC_GP},      {CR0_PE | 1UL << 6, -1},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enter_protected(f, 0);
        f->cpu->gpr[GPR_RAX] = cases[i].value;
        assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), cases[i].vector);
        if (cases[i].vector < 0)
            assert_int_equal(f->cpu->cr0, (cases[i].value & ~(1UL << 6)) | CR0_ET);
    }
    enter_long(f, 0);
    f->cpu->gpr[GPR_RAX] = CR0_PE | CR0_PG | 1UL << 32;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), EXC_GP);
    f->cpu->gpr[GPR_RAX] = CR0_PE;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), EXC_GP);
}

static void long_mode_begins_and_ends_with_paging(void **state)
{
    struct fixture *f = *state;

    show_all(f);
    enter_long(f, 0);
    enter_protected(f, 0);
    f->cpu->cr4 = 0;
    f->cpu->msrs.efer = 0;
    assert_true(soft_write_efer(f->cpu, EFER_LME | EFER_SCE));
    f->cpu->gpr[GPR_RAX] = CR0_PE | CR0_PG;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), EXC_GP);
    f->cpu->cr4 = CR4_PAE;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), -1);
    assert_int_equal(f->cpu->msrs.efer, EFER_LME | EFER_LMA | EFER_SCE);
    assert_int_equal(f->cpu->code_size, 4);
    assert_false(soft_write_efer(f->cpu, EFER_SCE));
    assert_true(soft_write_efer(f->cpu, EFER_LME));
    f->cpu->gpr[GPR_RAX] = CR0_PE;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), -1);
    assert_int_equal(f->cpu->msrs.efer, EFER_LME);
    f->cpu->seg[SEG_CS].attributes = 0xa9b;
    f->cpu->gpr[GPR_RAX] = CR0_PE | CR0_PG;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), EXC_GP);
}

static void cr4_has_the_bits_of_the_model(void **state)
{
    static const struct {
        uint64_t bit;
        enum cpu_word word;
        uint8_t feature;
    } bits[] = {
        {CR4_VME, CPU_1_EDX, 1},      {CR4_PSE, CPU_1_EDX, 3},    {CR4_PGE, CPU_1_EDX, 13},
        {CR4_OSFXSR, CPU_1_EDX, 24},  {CR4_UMIP, CPU_7_ECX, 2},   {CR4_FSGSBASE, CPU_7_EBX, 0},
        {CR4_OSXSAVE, CPU_1_ECX, 26}, {CR4_SMEP, CPU_7_EBX, 7},   {CR4_SMAP, CPU_7_EBX, 20},
        {CR4_PKE, CPU_7_ECX, 3},      {1UL << 12, CPU_7_ECX, 16},
    };
    struct fixture *f = *state;

    enter_long(f, 0);
    for (unsigned i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
        bool la57 = bits[i].bit == 1UL << 12;

        memset(f->model.words, 0, sizeof(f->model.words));
        fixture_show(f, CPU_1_EDX, 6);
        f->cpu->gpr[GPR_RAX] = CR4_PAE | bits[i].bit;
        assert_int_equal(run(f, CODE(0x0f, 0x22, 0xe0)), EXC_GP);
        fixture_show(f, bits[i].word, bits[i].feature);
        assert_int_equal(run(f, CODE(0x0f, 0x22, 0xe0)), la57 ? EXC_GP : -1);
    }
    f->cpu->gpr[GPR_RAX] = 0;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xe0)), EXC_GP);
}

static void pcid_needs_long_mode_and_a_clean_cr3(void **state)
{
    struct fixture *f = *state;

    show_all(f);
    enter_long(f, 0);
    f->cpu->cr3 = PAGE_TABLES | 0x18;
    f->cpu->gpr[GPR_RAX] = CR4_PAE | CR4_PCIDE;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xe0)), EXC_GP);
    f->cpu->cr3 = PAGE_TABLES;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xe0)), -1);

    /* The highest bit keeps translations, and is not stored. */
    f->cpu->gpr[GPR_RBX] = FREE_RAM;
    assert_int_equal(run(f, CODE(0x8b, 0x03)), -1); /* mov eax, [rbx] */
    poke64(f, PAGE_TABLES + 0x2000, 0);
    f->cpu->gpr[GPR_RAX] = PAGE_TABLES | 1UL << 63;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xd8)), -1);
    assert_int_equal(f->cpu->cr3, PAGE_TABLES);
    assert_int_equal(run(f, CODE(0x8b, 0x03)), -1);
    f->cpu->gpr[GPR_RAX] = PAGE_TABLES;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xd8)), -1);
    assert_int_equal(run(f, CODE(0x8b, 0x03)), EXC_PF);
    f->cpu->gpr[GPR_RAX] = PAGE_TABLES | 1UL << 62;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xd8)), EXC_GP);
    f->cpu->gpr[GPR_RAX] = CR0_PE;
    assert_int_equal(run(f, CODE(0x0f, 0x22, 0xc0)), EXC_GP);
}

static void invpcid_checks_its_descriptor(void **state)
{
    static const struct {
        uint64_t type, pcid, linear;
        bool pcide;
        int vector;
    } cases[] = {
        {0, 0, FREE_RAM, false, -1},
        {0, 5, FREE_RAM, true, -1},
        {0, 5, FREE_RAM, false, EXC_GP},
        {0, 0, 1UL << 47, false, EXC_GP},
        {1, 5, 1UL << 47, true, -1},
        {1, 5, 0, false, EXC_GP},
        {2, 0, 0, false, -1},
        {3, 0, 0, false, -1},
        {4, 0, 0, false, EXC_GP},
        {2, 0x1000, 0, true, EXC_GP},
    };
    struct fixture *f = *state;

    show_all(f);
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enter_long(f, 0);
        f->cpu->cr4 |= cases[i].pcide ? CR4_PCIDE : 0;
        f->cpu->gpr[GPR_RAX] = cases[i].type;
        f->cpu->gpr[GPR_RBX] = FREE_RAM;
        poke64(f, FREE_RAM, cases[i].pcid);
        poke64(f, FREE_RAM + 8, cases[i].linear);
        assert_int_equal(run(f, CODE(0x66, 0x0f, 0x38, 0x82, 0x03)), cases[i].vector);
    }
}

/* ---- debug registers ---- */

static void debug_registers_have_aliases_and_a_guard(void **state)
{
    struct fixture *f = *state;

    show_all(f);
    enter_long(f, 0);
    f->cpu->gpr[GPR_RAX] = 0xffffffff;
    assert_int_equal(run(f, CODE(0x0f, 0x23, 0xe0)), -1); /* mov dr4, rax */
    assert_int_equal(f->cpu->dr6, 0xffffeffful);
    f->cpu->gpr[GPR_RAX] = 0x1ffffffff;
    assert_int_equal(run(f, CODE(0x0f, 0x23, 0xf0)), EXC_GP);
    f->cpu->cr4 |= CR4_DE;
    assert_int_equal(run(f, CODE(0x0f, 0x23, 0xe0)), EXC_UD);
    f->cpu->gpr[GPR_RAX] = 0x2000;
    assert_int_equal(run(f, CODE(0x0f, 0x23, 0xf8)), -1); /* mov dr7, rax */
    assert_int_equal(f->cpu->dr7, 0x2400);
    assert_int_equal(run(f, CODE(0x0f, 0x21, 0xc0)), EXC_DB);
    soft_handle_fault(f->cpu);
    assert_int_equal(f->cpu->dr6 & 0x2000, 0x2000);
    assert_int_equal(f->cpu->dr7, 0x400);
}

static void instruction_breakpoints_match_rip_unless_rf(void **state)
{
    struct fixture *f = *state;

    enter_long(f, 0);
    f->cpu->dr[2] = 0x50000;
    f->cpu->dr7 = 0x400 | 1 << 4;
    soft_update_debug(f->cpu);
    assert_int_equal(f->cpu->break_code, 4);
    assert_int_equal(RAISED(f, soft_check_code_breakpoint(f->cpu)), EXC_DB);
    assert_int_equal(f->cpu->fault.payload, 4);
    f->cpu->rflags |= FLAG_RF;
    assert_int_equal(RAISED(f, soft_check_code_breakpoint(f->cpu)), -1);
    f->cpu->rflags &= ~FLAG_RF;
    f->cpu->rip++;
    assert_int_equal(RAISED(f, soft_check_code_breakpoint(f->cpu)), -1);
}

/* ---- the interrupt flag ---- */

static void cli_and_sti_follow_iopl_vme_and_pvi(void **state)
{
    static const struct {
        bool v86;
        uint8_t cpl, iopl;
        uint64_t cr4;
        int vector;
        uint64_t flag;
    } cases[] = {
        {false, 0, 0, 0, -1, FLAG_IF},     {false, 3, 3, 0, -1, FLAG_IF},
        {false, 3, 0, 0, EXC_GP, 0},       {false, 3, 0, CR4_PVI, -1, FLAG_VIF},
        {false, 3, 0, CR4_VME, EXC_GP, 0}, {true, 3, 0, CR4_VME, -1, FLAG_VIF},
        {true, 3, 0, CR4_PVI, EXC_GP, 0},  {true, 3, 3, CR4_VME, -1, FLAG_IF},
    };
    struct fixture *f = *state;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        f->cpu->rflags = FLAG_FIXED;
        if (cases[i].v86)
            enter_v86(f);
        else
            enter_protected(f, cases[i].cpl);
        f->cpu->cr4 = cases[i].cr4;
        f->cpu->rflags |= (uint64_t)cases[i].iopl << 12;
        f->cpu->shadow = 0;
        uint64_t before = f->cpu->rflags;

        assert_int_equal(run(f, CODE(0xfb)), cases[i].vector);
        assert_int_equal(f->cpu->rflags, before | cases[i].flag);
        assert_int_equal(f->cpu->shadow, cases[i].flag == FLAG_IF);
        assert_int_equal(run(f, CODE(0xfa)), cases[i].vector);
        assert_int_equal(f->cpu->rflags, before);
        f->cpu->rflags |= FLAG_VIP;
        if (cases[i].flag == FLAG_VIF)
            assert_int_equal(run(f, CODE(0xfb)), EXC_GP);
    }
}

static void mov_ss_shadows_the_next_instruction(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    f->cpu->gpr[GPR_RAX] = KERNEL_DATA;
    assert_int_equal(run(f, CODE(0x8e, 0xd0)), -1);
    assert_int_equal(f->cpu->shadow, 2);
    f->cpu->shadow = 0;
    assert_int_equal(run(f, CODE(0x8e, 0xd8)), -1);
    assert_int_equal(f->cpu->shadow, 0);
    assert_int_equal(run(f, CODE(0x16)), -1); /* push ss */
    assert_int_equal(peek32(f, STACK0 - 4), KERNEL_DATA);
    assert_int_equal(run(f, CODE(0x17)), -1); /* pop ss */
    assert_int_equal(f->cpu->shadow, 2);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0);
}

/* ---- ports ---- */

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return 0xa0b0c000 | size;
}

static void ports_ask_iopl_and_then_the_bitmap(void **state)
{
    struct fixture *f = *state;

    f->exits.pio_read = pio_read;
    enter_protected(f, 3);
    f->cpu->gpr[GPR_RDX] = 0x3fe;
    memset(f->ram + TSS_AT + 0x68, 0xff, 0x100);
    poke16(f, TSS_AT + 102, 0x68);
    assert_int_equal(run(f, CODE(0xec)), EXC_GP);
    f->ram[TSS_AT + 0x68 + 0x3fe / 8] = 0x3f;
    f->ram[TSS_AT + 0x68 + 0x400 / 8] = 0xff;
    assert_int_equal(run(f, CODE(0xec)), -1);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0x01);
    assert_int_equal(run(f, CODE(0x66, 0xed)), -1);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0xc002);
    assert_int_equal(run(f, CODE(0xed)), EXC_GP); /* 0x400 is refused */
    f->cpu->rflags |= FLAG_IOPL;
    assert_int_equal(run(f, CODE(0xed)), -1);
    assert_int_equal(f->cpu->gpr[GPR_RAX], 0xa0b0c004);
    /* Beyond the TSS's limit nothing is allowed. */
    f->cpu->rflags &= ~FLAG_IOPL;
    f->ram[TSS_AT + 0x68 + 0x3fe / 8] = 0;
    f->cpu->seg[SEG_TR].limit = 0x68 + 0x3fe / 8;
    assert_int_equal(run(f, CODE(0xec)), EXC_GP);
}

/* ---- fast system calls ---- */

static void prepare_syscall(struct fixture *f, enum cpu_vendor vendor, unsigned cpl)
{
    show_all(f);
    f->model.vendor = vendor;
    enter_long(f, cpl);
    f->cpu->msrs.efer |= EFER_SCE;
    f->cpu->msrs.star = 0x0023001000000000UL;
    f->cpu->msrs.lstar = 0x70000;
    f->cpu->msrs.cstar = 0x71000;
    f->cpu->msrs.fmask = FLAG_IF | FLAG_TF;
}

static void syscall_and_sysret_swap_the_world(void **state)
{
    struct fixture *f = *state;

    prepare_syscall(f, CPU_VENDOR_INTEL, 3);
    f->cpu->rflags |= FLAG_IF | FLAG_CF;
    assert_int_equal(run(f, CODE(0x0f, 0x05)), -1);
    assert_int_equal(f->cpu->rip, 0x70000);
    assert_int_equal(f->cpu->cpl, 0);
    assert_int_equal(f->cpu->gpr[GPR_RCX], 0x50002);
    assert_int_equal(f->cpu->gpr[GPR_R11], FLAG_IF | FLAG_CF | FLAG_FIXED);
    assert_int_equal(f->cpu->rflags, FLAG_CF | FLAG_FIXED);
    assert_int_equal(f->cpu->seg[SEG_CS].selector, 0x10);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, 0x18);

    assert_int_equal(run(f, CODE(0x48, 0x0f, 0x07)), -1);
    assert_int_equal(f->cpu->rip, 0x50002);
    assert_int_equal(f->cpu->cpl, 3);
    assert_int_equal(f->cpu->code_size, 8);
    assert_int_equal(f->cpu->rflags, FLAG_IF | FLAG_CF | FLAG_FIXED);
    assert_int_equal(f->cpu->seg[SEG_CS].selector, 0x33);
    assert_int_equal(f->cpu->seg[SEG_SS].selector, 0x2b);
}

static void vendors_differ_in_fast_system_calls(void **state)
{
    struct fixture *f = *state;

    prepare_syscall(f, CPU_VENDOR_INTEL, 0);
    f->cpu->gpr[GPR_RCX] = 1UL << 47;
    assert_int_equal(run(f, CODE(0x48, 0x0f, 0x07)), EXC_GP);
    prepare_syscall(f, CPU_VENDOR_AMD, 0);
    assert_int_equal(run(f, CODE(0x48, 0x0f, 0x07)), -1);
    assert_int_equal(f->cpu->cpl, 3);

    for (unsigned vendor = 0; vendor < 2; vendor++) {
        prepare_syscall(f, vendor, 3);
        load_flat(f, USER_CODE, USER_DATA);
        assert_int_equal(run(f, CODE(0x0f, 0x05)), vendor == CPU_VENDOR_INTEL ? EXC_UD : -1);
        if (vendor == CPU_VENDOR_AMD)
            assert_int_equal(f->cpu->rip, 0x71000);
        prepare_syscall(f, vendor, 3);
        f->cpu->msrs.sysenter_cs = KERNEL_CODE64;
        f->cpu->msrs.sysenter_eip = 0x72000;
        f->cpu->rip = 0x50000;
        assert_int_equal(run(f, CODE(0x0f, 0x34)), vendor == CPU_VENDOR_INTEL ? -1 : EXC_UD);
        if (vendor == CPU_VENDOR_INTEL)
            assert_int_equal(f->cpu->rip, 0x72000);
    }
    prepare_syscall(f, CPU_VENDOR_INTEL, 3);
    f->cpu->msrs.efer &= ~EFER_SCE;
    assert_int_equal(run(f, CODE(0x0f, 0x05)), EXC_UD);
}

static void bases_of_fs_and_gs_are_canonical(void **state)
{
    struct fixture *f = *state;

    show_all(f);
    enter_long(f, 0);
    assert_int_equal(run(f, CODE(0xf3, 0x48, 0x0f, 0xae, 0xc8)), EXC_UD); /* rdgsbase rax */
    f->cpu->cr4 |= CR4_FSGSBASE;
    f->cpu->gpr[GPR_RAX] = 1UL << 47;
    assert_int_equal(run(f, CODE(0xf3, 0x48, 0x0f, 0xae, 0xd8)), EXC_GP); /* wrgsbase rax */
    f->cpu->gpr[GPR_RAX] = 0xffff800000001000UL;
    assert_int_equal(run(f, CODE(0xf3, 0x48, 0x0f, 0xae, 0xd8)), -1);
    f->cpu->msrs.kernel_gs_base = 0x1234;
    assert_int_equal(run(f, CODE(0x0f, 0x01, 0xf8)), -1); /* swapgs */
    assert_int_equal(f->cpu->seg[SEG_GS].base, 0x1234);
    assert_int_equal(f->cpu->msrs.kernel_gs_base, 0xffff800000001000UL);
}

/* ---- the rest ---- */

static uint64_t hypercall(void *opaque, unsigned vcpu, uint64_t number, const uint64_t args[4])
{
    return number + args[0] * 2 + args[3];
}

static void both_vendors_hypercalls_reach_the_machine(void **state)
{
    struct fixture *f = *state;

    f->exits.hypercall = hypercall;
    for (unsigned i = 0; i < 2; i++) {
        uint8_t last = i ? 0xd9 : 0xc1;

        enter_long(f, 0);
        f->cpu->gpr[GPR_RAX] = 100;
        f->cpu->gpr[GPR_RBX] = 10;
        f->cpu->gpr[GPR_RSI] = 1;
        assert_int_equal(run(f, CODE(0x0f, 0x01, last)), -1);
        assert_int_equal(f->cpu->gpr[GPR_RAX], 121);
    }
    enter_long(f, 3);
    assert_int_equal(run(f, CODE(0x0f, 0x01, 0xc1)), -1);
    assert_int_equal(f->cpu->gpr[GPR_RAX], -1UL);
}

static void xsetbv_takes_consistent_components(void **state)
{
    static const struct {
        uint64_t value;
        int vector;
    } cases[] = {{1, -1}, {3, -1}, {7, -1}, {0, EXC_GP}, {2, EXC_GP}, {5, EXC_GP}, {15, EXC_GP}};
    struct fixture *f = *state;

    show_all(f);
    enter_long(f, 0);
    assert_int_equal(run(f, CODE(0x0f, 0x01, 0xd1)), EXC_UD);
    f->cpu->cr4 |= CR4_OSXSAVE;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        f->cpu->gpr[GPR_RCX] = f->cpu->gpr[GPR_RDX] = 0;
        f->cpu->gpr[GPR_RAX] = cases[i].value;
        assert_int_equal(run(f, CODE(0x0f, 0x01, 0xd1)), cases[i].vector);
    }
    f->cpu->gpr[GPR_RCX] = 1;
    assert_int_equal(run(f, CODE(0x0f, 0x01, 0xd1)), EXC_GP);
}

static void far_pointers_come_from_code_and_memory(void **state)
{
    struct fixture *f = *state;

    enter_protected(f, 0);
    assert_int_equal(run(f, CODE(0xea, 0x78, 0x56, 0x34, 0x12, KERNEL_CODE, 0)), -1);
    assert_int_equal(f->cpu->rip, 0x12345678);
    poke32(f, FREE_RAM, 0x4444);
    poke16(f, FREE_RAM + 4, KERNEL_CODE);
    f->cpu->gpr[GPR_RAX] = FREE_RAM;
    assert_int_equal(run(f, CODE(0xff, 0x18)), -1); /* call far [eax] */
    assert_int_equal(f->cpu->rip, 0x4444);
    assert_int_equal(peek32(f, STACK0 - 8), 0x1234567a);
    assert_int_equal(run(f, CODE(0xca, 4, 0)), -1); /* retf 4 */
    assert_int_equal(f->cpu->rip, 0x1234567a);
    assert_int_equal(f->cpu->gpr[GPR_RSP], STACK0 + 4);
    poke16(f, FREE_RAM + 4, KERNEL_DATA);
    assert_int_equal(run(f, CODE(0xc4, 0x18)), -1); /* les ebx, [eax] */
    assert_int_equal(f->cpu->gpr[GPR_RBX], 0x4444);
    assert_int_equal(f->cpu->seg[SEG_ES].selector, KERNEL_DATA);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, tables_setup, tables_teardown)
        TEST(privileged_instructions_raise_gp_outside_of_ring_0),
        TEST(real_mode_does_not_know_protections_instructions),
        TEST(umip_hides_the_tables_from_user_code),
        TEST(cr0_refuses_inconsistent_values),
        TEST(long_mode_begins_and_ends_with_paging),
        TEST(cr4_has_the_bits_of_the_model),
        TEST(pcid_needs_long_mode_and_a_clean_cr3),
        TEST(invpcid_checks_its_descriptor),
        TEST(debug_registers_have_aliases_and_a_guard),
        TEST(instruction_breakpoints_match_rip_unless_rf),
        TEST(cli_and_sti_follow_iopl_vme_and_pvi),
        TEST(mov_ss_shadows_the_next_instruction),
        TEST(ports_ask_iopl_and_then_the_bitmap),
        TEST(syscall_and_sysret_swap_the_world),
        TEST(vendors_differ_in_fast_system_calls),
        TEST(bases_of_fs_and_gs_are_canonical),
        TEST(both_vendors_hypercalls_reach_the_machine),
        TEST(xsetbv_takes_consistent_components),
        TEST(far_pointers_come_from_code_and_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
