// SPDX-License-Identifier: Apache-2.0
/*
 * The translator's side: a vCPU of the software engine with its run loop, which translates what it
 * meets at once. The case's instruction has a breakpoint behind it; that, or what the instruction
 * raises, comes to a kernel of one page, which stops the vCPU with its registers as they are.
 *
 * Branches are left out, since where they lead to would be executed too, and so is 16-bit code,
 * which is never translated.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/diff/diff.h"
#include "tests/memory.h"
#include "vmm/engine/engine.h"
#include "vmm/engine/engines.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/system.h"
#include "vmm/engine/soft/vector.h"

/* Guest-physical. */
#define RAM_SIZE         (1UL << 20)
#define PML4             0x1000UL
#define PDPT             0x2000UL
#define DIRECTORY        0x3000UL
#define TABLE            0x4000UL
#define PDPT_KERNEL      0xa000UL
#define DIRECTORY_KERNEL 0xb000UL
#define KERNEL           0x5000UL /* and its linear address, from KERNEL_LINEAR on */
#define IDT              0x6000UL
#define GDT              0x7000UL
#define TSS              0x8000UL
#define STACK            0x9000UL
#define DATA             0x10000UL
#define READ_ONLY        0x20000UL
#define CODE             0x21000UL

#define KERNEL_LINEAR 0xffff800000000000UL /* guest-physical 0, 2 MB, for the kernel */

#define SELECTOR_KERNEL 0x08
#define SELECTOR_TSS    0x40
#define STUB_SIZE       16
#define PORT_STOP       0xe0
#define FXSAVE_PART     160 /* x87 in the FXSAVE image and in struct soft_cpu */

#define PAGE_P  1UL
#define PAGE_RW 2UL
#define PAGE_US 4UL
#define PAGE_AD 0x60UL
#define PAGE_PS 0x80UL

/* What the kernel finds on its stack, and ours above it. */
struct frame {
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

static struct engine *engine;
static struct vcpu *vcpu;
static struct soft_cpu *cpu;
static struct memory *memory;
static struct clock *machine_clock;
static struct engine_debug debug;
static struct cpu_definition model;
static uint8_t *ram;
static bool finished;

#define LOW_END     0x100000000UL /* the engine puts nothing that matters above */
#define RANGES_MAX  64
#define LINE_LENGTH 256

static struct range {
    uintptr_t start, end;
    int protection;
} hidden[RANGES_MAX];
static unsigned hidden_count;

/* Signals that both the native side and the engine take: each has them in its turn. */
static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction native_actions[G_N_ELEMENTS(signals)], own_actions[G_N_ELEMENTS(signals)];

static void save_actions(struct sigaction *actions)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], NULL, &actions[i]);
}

static void set_actions(const struct sigaction *actions)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++)
        sigaction(signals[i], &actions[i], NULL);
}

/* ---- the machine ---- */

static void put(uint64_t gpa, uint64_t value)
{
    memcpy(ram + gpa, &value, 8);
}

static void map_page(uint64_t linear, uint64_t gpa, uint64_t rights)
{
    put(TABLE + (linear >> 12 & 511) * 8, gpa | rights | PAGE_P | PAGE_US | PAGE_AD);
}

static void build_tables(void)
{
    uint64_t rights = PAGE_P | PAGE_RW | PAGE_AD;

    put(PML4, PDPT | rights | PAGE_US);
    put(PDPT + (DIFF_DATA >> 30 & 511) * 8, DIRECTORY | rights | PAGE_US);
    put(DIRECTORY + (DIFF_DATA >> 21 & 511) * 8, TABLE | rights | PAGE_US);
    map_page(DIFF_READ_ONLY, READ_ONLY, 0);
    map_page(DIFF_DATA, DATA, PAGE_RW);
    map_page(DIFF_DATA + 0x1000, DATA + 0x1000, PAGE_RW);
    map_page(DIFF_CODE, CODE, 0);
    put(PML4 + (KERNEL_LINEAR >> 39 & 511) * 8, PDPT_KERNEL | rights);
    put(PDPT_KERNEL, DIRECTORY_KERNEL | rights);
    put(DIRECTORY_KERNEL, 0 | rights | PAGE_PS);
}

/* push vector, after an error code where the processor pushes none; out; hlt */
static void put_stub(unsigned vector)
{
    bool has_error = vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
    uint8_t stub[] = {0x6a, 0, 0x6a, (uint8_t)vector, 0xe6, PORT_STOP, 0xf4};
    uint64_t handler = KERNEL_LINEAR + KERNEL + vector * STUB_SIZE;

    if (has_error)
        memmove(stub, stub + 2, sizeof(stub) - 2);
    memcpy(ram + KERNEL + vector * STUB_SIZE, stub, sizeof(stub));
    put(IDT + vector * 16, (handler & 0xffff) | (uint64_t)SELECTOR_KERNEL << 16 | 0xeeUL << 40 |
                               (handler >> 16 & 0xffff) << 48);
    put(IDT + vector * 16 + 8, handler >> 32);
}

static void build_kernel(void)
{
    for (unsigned i = 0; i < 32; i++)
        put_stub(i);
    put(GDT + SELECTOR_KERNEL, 0x00af9b000000ffff);
    put(TSS + 4, KERNEL_LINEAR + STACK + 0x1000);
    put(TSS + 102, 0x68);
    cpu->idtr = (struct cpu_table_register){KERNEL_LINEAR + IDT, 32 * 16 - 1};
    cpu->gdtr = (struct cpu_table_register){KERNEL_LINEAR + GDT, 0x3f};
    cpu->seg[SEG_TR] =
        (struct cpu_segment){SELECTOR_TSS, SEGMENT_P | 11, 0x67, KERNEL_LINEAR + TSS};
    cpu->seg[SEG_LDTR] = (struct cpu_segment){0, SEGMENT_UNUSABLE, 0, 0};
}

/* Linux's segments. */
static void set_segments(unsigned code_size)
{
    const uint16_t flat = SEGMENT_S | SEGMENT_P | 3 << 5 | SEGMENT_G | SEGMENT_DB;

    for (unsigned i = 0; i <= SEG_GS; i++)
        cpu->seg[i] = (struct cpu_segment){DIFF_DS32, flat | 3, ~0U, 0};
    cpu->seg[SEG_CS] = (struct cpu_segment){DIFF_CS32, flat | 11, ~0U, 0};
    if (code_size == 8)
        cpu->seg[SEG_CS] = (struct cpu_segment){
            DIFF_CS64, (uint16_t)((flat & ~SEGMENT_DB) | SEGMENT_L | 11), ~0U, 0};
    soft_update_mode(cpu);
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    finished |= port == PORT_STOP;
    soft_engine_ops.vcpu_kick(vcpu);
}

static uint64_t mmio_read(void *opaque, uint64_t address, unsigned size)
{
    return UINT64_MAX;
}

static void mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
}

static const struct exit_ops exits = {
    .pio_write = pio_write, .mmio_read = mmio_read, .mmio_write = mmio_write};

static void fatal(const char *what, const GError *error)
{
    fprintf(stderr, "anima-difftest: %s: %s\n", what, error ? error->message : "failed");
    exit(2);
}

void translator_init(const char *switches)
{
    struct engine_config config = {
        .exits = &exits, .cpus = 1, .cpu_model = "host", .kvm_fd = -1, .debug = &debug};
    GError *error = NULL;

    debug = (struct engine_debug){.switches = switches, .log = -1, .perf_map = -1};
    config.memory = memory = memory_create();
    config.clock = machine_clock = clock_create_manual(0);
    ram = test_memory_add(memory, MEMORY_RAM, 0, RAM_SIZE);
    save_actions(native_actions);
    engine = soft_engine_ops.create(&config, &error);
    vcpu = engine ? soft_engine_ops.vcpu_create(engine, 0, &error) : NULL;
    if (!vcpu)
        fatal("engine", error);
    cpu = vcpu->cpu;
    if (!cpu->translator)
        fatal("the translator", NULL);
    save_actions(own_actions);
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    cpu->cr3 = PML4;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->msrs.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    cpu->xcr0 = diff_xcr0();
    cpu->model = &model;
    diff_model(&model);
    build_tables();
    build_kernel();
    memset(ram + CODE, 0xcc, 0x1000);
    soft_tlb_flush(cpu, true);
}

void translator_finish(void)
{
    printf("translator: %lu blocks, %lu instructions left to the interpreter\n",
           (unsigned long)cpu->counters.blocks_translated,
           (unsigned long)cpu->counters.interpreted);
    soft_engine_ops.vcpu_destroy(vcpu);
    soft_engine_ops.destroy(engine);
    clock_destroy(machine_clock);
    memory_destroy(memory);
}

/* ---- out of the way ---- */

/* "START-END rwxp ...", as /proc/self/maps has it. */
static bool read_range(const char *line, struct range *range)
{
    char *at;

    range->start = g_ascii_strtoull(line, &at, 16);
    if (*at++ != '-')
        return false;
    range->end = g_ascii_strtoull(at, &at, 16);
    if (strnlen(at, 4) < 4)
        return false;
    range->protection = (at[1] == 'r' ? PROT_READ : 0) | (at[2] == 'w' ? PROT_WRITE : 0) |
                        (at[3] == 'x' ? PROT_EXEC : 0);
    return range->end <= LOW_END &&
           (range->end <= DIFF_WINDOW || range->start >= DIFF_CODE + 0x8000);
}

void translator_hide(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[LINE_LENGTH];

    if (!maps)
        fatal("/proc/self/maps", NULL);
    for (hidden_count = 0; hidden_count < RANGES_MAX && fgets(line, sizeof(line), maps);)
        hidden_count += read_range(line, &hidden[hidden_count]);
    fclose(maps);
    for (unsigned i = 0; i < hidden_count; i++)
        mprotect((void *)hidden[i].start, hidden[i].end - hidden[i].start, PROT_NONE);
    set_actions(native_actions);
}

void translator_show(void)
{
    for (unsigned i = 0; i < hidden_count; i++)
        mprotect((void *)hidden[i].start, hidden[i].end - hidden[i].start, hidden[i].protection);
    set_actions(own_actions);
}

/* ---- cases ---- */

bool translator_takes(const struct diff_case *test)
{
    return test->form->code_size > 2 && !test->branches;
}

static void load_state(const struct diff_state *state)
{
    memcpy(cpu->gpr, state->gpr, sizeof(cpu->gpr));
    cpu->rip = cpu->next_rip = state->rip;
    cpu->rflags = state->rflags;
    memcpy(&cpu->x87, state->fxsave, FXSAVE_PART);
    cpu->x87_cs = cpu->x87_ds = 0;
    memcpy(&cpu->mxcsr, state->fxsave + 24, 4);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(cpu->vector[i].u8, state->fxsave + 160 + i * 16, 16);
        memcpy(cpu->vector[i].u8 + 16, state->ymm_high[i], 16);
        memcpy(cpu->vector[i].u8 + 32, state->zmm_high[i], 32);
        memcpy(cpu->vector[16 + i].u8, state->zmm_upper[i], 64);
    }
    memcpy(cpu->opmask, state->opmask, sizeof(cpu->opmask));
    cpu->avx512_used = true;
}

static void save_state(const struct frame *frame, struct diff_state *state)
{
    uint32_t mask = soft_mxcsr_mask(cpu);

    memcpy(state->gpr, cpu->gpr, sizeof(cpu->gpr));
    state->gpr[GPR_RSP] = frame->rsp;
    state->rip = frame->rip;
    state->rflags = frame->rflags;
    memset(state->fxsave, 0, sizeof(state->fxsave));
    memcpy(state->fxsave, &cpu->x87, 24);
    memcpy(state->fxsave + 24, &cpu->mxcsr, 4);
    memcpy(state->fxsave + 28, &mask, 4);
    for (unsigned i = 0; i < 8; i++)
        memcpy(state->fxsave + 32 + i * 16, cpu->x87.st[i], 10);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(state->fxsave + 160 + i * 16, cpu->vector[i].u8, 16);
        memcpy(state->ymm_high[i], cpu->vector[i].u8 + 16, 16);
        memcpy(state->zmm_high[i], cpu->vector[i].u8 + 32, 32);
        memcpy(state->zmm_upper[i], cpu->vector[16 + i].u8, 64);
    }
    memcpy(state->opmask, cpu->opmask, sizeof(state->opmask));
}

static void load_case(const struct diff_case *test)
{
    uint8_t code[32];

    memset(code, 0xcc, sizeof(code));
    memcpy(code, test->bytes, test->instruction.length);
    memory_write(memory, CODE + (DIFF_CODE_ENTRY - DIFF_CODE), code, sizeof(code));
    memcpy(ram + DATA, test->data, sizeof(test->data));
    memcpy(ram + READ_ONLY, test->read_only, sizeof(test->read_only));
    set_segments(test->form->code_size);
    load_state(&test->state);
    cpu->mp_state = CPU_RUNNABLE;
    cpu->delivering = -1;
    cpu->shadow = 0;
    cpu->pending_db = 0;
}

void translator_run(const struct diff_case *test, struct diff_outcome *out)
{
    uint64_t after = test->state.rip + test->instruction.length;
    enum vcpu_exit exit = VCPU_EXIT_KICKED;
    struct frame frame = {0};

    load_case(test);
    for (finished = false; !finished && exit == VCPU_EXIT_KICKED;)
        exit = soft_engine_ops.vcpu_run(vcpu);
    if (finished)
        memcpy(&frame, ram + (cpu->gpr[GPR_RSP] - KERNEL_LINEAR) % RAM_SIZE, sizeof(frame));
    save_state(&frame, &out->state);
    out->vector = finished ? (int)frame.vector : EXC_DF;
    out->error = (uint32_t)frame.error;
    out->cr2 = cpu->cr2;
    if (out->vector == EXC_BP && frame.rip == after + 1) {
        out->vector = -1;
        out->state.rip--;
    }
    memcpy(out->data, ram + DATA, sizeof(out->data));
}
