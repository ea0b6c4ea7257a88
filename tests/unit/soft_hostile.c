// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile guest against the software CPU within this process: random instructions, most of them
 * with memory operands at bad addresses, in ring 3 and ring 0, in 64-bit and 32-bit code, under
 * random page tables, on two processors that share it all, while the host writes code and collects
 * dirty pages. The guest may do what it likes; the process has to live, and what lies around the
 * guest's memory and at the addresses that the guest computes has to stay as it was.
 *
 *     test-soft_hostile [--seconds N] [--seed S]
 *
 * The code is short slots of 32 bytes in a ring, so that it gets hot. An exception goes on at the
 * next slot, with other registers. Addresses of this process are among their values: an access that
 * was not translated meets a canary there, or the process ends.
 */
#include <fcntl.h>
#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/memory.h"
#include "tests/unit/soft_hostile_code.h"
#include "vmm/engine/engine.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/memory/dma.h"

#define RAM_SIZE   0x400000UL
#define CPUS       2
#define PAGE       4096UL
#define SLICE_US   20000 /* that a guest runs */
#define RESTARTS   4     /* with other modes and registers, under the same tables and code */
#define CANARY     0xc5
#define SLOTS      128
#define REGISTERS  64 /* sets */
#define POINTERS   64
#define CODE_PAGES 2

/* Guest-physical. Each processor has a page of each kind for itself. */
#define GDT       0x1000UL
#define IDT       0x2000UL
#define HANDLER   0x3000UL
#define IDT32     0x4000UL
#define TABLES    0x8000UL
#define TABLES_OF 0x40000UL
#define VALUES    0x60000UL /* sets of registers */
#define OWN(cpu)  (0x70000UL + (cpu)*0x1000)
#define CODE      0x80000UL
#define DATA      0x90000UL /* to the end */

/* Linear: what the handler needs; the code, below 4 GB for all modes. */
#define SYSTEM      0xffffffff80000000UL
#define CODE_LINEAR 0x10000000UL

#define PTE_P  1UL
#define PTE_W  2UL
#define PTE_U  4UL
#define PTE_PS 0x80UL
#define PTE_G  0x100UL

/* In OWN: the TSS, what the handler keeps, its stack. */
#define OWN_COUNTER 0x100
#define OWN_CS      0x108
#define OWN_FLAGS   0x110
#define OWN_SS      0x118
#define OWN_TOP     0xff0

static const struct engine_ops *ops;

/* ---- what must not change ---- */

/* Memory of this process that the guest could hit. The engine knows nothing of it. */
static uint8_t canary_bss[16 * PAGE] __attribute__((aligned(4096)));
static uint8_t canary_data[4 * PAGE] __attribute__((aligned(4096))) = {CANARY};

struct canary {
    uint8_t *start;
    size_t size;
};

static struct canary canaries[512];
static unsigned canary_count;

static void canary_add(void *start, size_t size)
{
    if (start == MAP_FAILED || canary_count == G_N_ELEMENTS(canaries))
        return;
    memset(start, CANARY, size);
    canaries[canary_count++] = (struct canary){start, size};
}

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#define SANITIZED (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#else
#define SANITIZED 0
#endif

/* Where nothing is yet. Sanitizers do not like memory in places of ours; they watch it themselves.
 */
static void canary_at(uintptr_t address, size_t size)
{
    if (SANITIZED)
        return;
    canary_add(mmap((void *)address, size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
               size);
}

static void canaries_check(void)
{
    static uint8_t good[PAGE];

    memset(good, CANARY, sizeof(good));
    for (unsigned i = 0; i < canary_count; i++) {
        for (size_t at = 0; at < canaries[i].size; at += PAGE) {
            if (memcmp(canaries[i].start + at, good, PAGE) == 0)
                continue;
            fprintf(stderr, "memory of the host at %p was changed\n",
                    (void *)(canaries[i].start + at));
            abort();
        }
    }
}

/* Of a line of /proc/self/maps. */
static bool read_bounds(const char *line, uintptr_t *start, uintptr_t *end)
{
    char *at;

    *start = g_ascii_strtoull(line, &at, 16);
    if (*at != '-')
        return false;
    *end = g_ascii_strtoull(at + 1, &at, 16);
    return *at == ' ';
}

/* Beside each mapping of this process that the engine uses: the guest's memory, the blocks of the
 * processors, their code. */
static void canaries_around_mappings(void)
{
    g_autofree char *maps = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
        return;
    lines = g_strsplit(maps, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        uintptr_t start, end;

        if (!read_bounds(lines[i], &start, &end) || strstr(lines[i], "[stack]"))
            continue;
        canary_at(end, 4 * PAGE);
        if (start > 8 * PAGE)
            canary_at(start - 4 * PAGE, 4 * PAGE);
    }
}

/* In some of the slots of 512 GB where windows could be, at both ends: what lies between is theirs,
 * with guards on either side. */
static void canaries_around_windows(void)
{
    const uintptr_t slot_size = 1UL << 39;

    for (uintptr_t slot = 1; slot < 255; slot++) {
        if (below(8))
            continue;
        canary_at(slot * slot_size, PAGE);
        canary_at((slot + 1) * slot_size - PAGE, PAGE);
    }
}

/* ---- addresses that are worth a try ---- */

static uint64_t pointers[POINTERS];
static unsigned pointer_count;

static void pointer_add(uint64_t value)
{
    if (pointer_count < POINTERS)
        pointers[pointer_count++] = value;
}

/* 16 pages each, mapped at random. */
static const uint64_t regions[] = {
    0x400000,
    0x800000,
    0x80400000,
    0xc0400000,
    0xffff8000,
    0x100400000,
    CODE_LINEAR - 0x10000,
    0x0000007fffff8000, /* the ends of slots of 512 GB, which windows are made of */
    0x0000550000000000,
    0x0000557ffffff000,
    0x00007fffffff0000,
    0xffff800000000000,
    0xffff888000200000,
    0xfffffffffffe0000,
};

static void collect_pointers(struct memory *memory)
{
    void *heap = g_malloc(64 * PAGE);
    bool keep;

    for (unsigned i = 0; i < G_N_ELEMENTS(regions); i++)
        pointer_add(regions[i]);
    pointer_add(0x60400000); /* what lies between some */
    pointer_add((uintptr_t)canary_bss);
    pointer_add((uintptr_t)canary_data);
    pointer_add((uintptr_t)memory_write_begin(memory, DATA, &keep));
    pointer_add((uintptr_t)memory_write_begin(memory, 0, &keep));
    pointer_add(((uintptr_t)heap + PAGE) & ~(PAGE - 1));
    canary_add((void *)(((uintptr_t)heap + PAGE) & ~(PAGE - 1)), 32 * PAGE);
    for (uintptr_t at = 0x10000; at < 0x40000000; at *= 4) {
        canary_at(at, 16 * PAGE);
        pointer_add(at);
    }
    canary_at(CODE_LINEAR, CODE_PAGES * PAGE);
    canary_at(0xffff8000, 16 * PAGE);
    canary_at(0x400000, 16 * PAGE);
}

/* The engine's own mappings, as seen from outside. */
static void collect_engine_pointers(void)
{
    g_autofree char *maps = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents("/proc/self/maps", &maps, NULL, NULL))
        return;
    lines = g_strsplit(maps, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        uintptr_t start, end;

        if (read_bounds(lines[i], &start, &end) && (start >> 31 == 0 || below(8) == 0))
            pointer_add(start + 0x100);
    }
}

static uint64_t odd_value(void)
{
    switch (below(16)) {
    case 0:
        return below(64);
    case 1:
        return -(uint64_t)below(64);
    case 2:
        return 1UL << below(64);
    case 3:
        return random64();
    case 4:
        return (uint32_t)random64();
    case 5:
        return 0x100000000UL - below(32);
    case 6:
        return 0x800000000000UL - below(32);
    case 7:
        return 0xffff800000000000UL - below(32);
    case 8:
        return CODE_LINEAR + below(CODE_PAGES * PAGE);
    case 9: /* the end of some page */
        return pointers[below(pointer_count)] + (PAGE << below(4)) - below(16);
    default:
        return pointers[below(pointer_count)] + (below(2) ? below(16 * PAGE) & ~15U : below(64));
    }
}

/* ---- the guest's handler ---- */

/* On an exception: the next slot, with registers of the next set. r15 is where this processor's own
 * page is; the stack of the interrupt is in it (IST 1), so the frame is always at the same place.
 */
extern const uint8_t handler[], handler_end[];
asm(".pushsection .rodata\n"
    ".globl handler, handler_end\n"
    "handler:\n"
    "   movabsq $0xffffffff80060000, %rbp\n" /* VALUES */
    "   movq %rsp, %r15\n"
    "   andq $-4096, %r15\n"
    "   leaq 0xff0 - 40(%r15), %rsp\n"
    "   movq (%rsp), %rax\n"
    "   andq $-32, %rax\n"
    "   addq $32 - 0x10000000, %rax\n"
    "   andq $0xfff, %rax\n" /* SLOTS * SLOT - 1 */
    "   addq $0x10000000, %rax\n"
    "   movq %rax, (%rsp)\n"
    "   movq 0x108(%r15), %rax; movq %rax, 8(%rsp)\n"
    "   movq 0x110(%r15), %rax; movq %rax, 16(%rsp)\n"
    "   movq 0x118(%r15), %rax; movq %rax, 32(%rsp)\n"
    "   incq 0x100(%r15)\n"
    "   movq 0x100(%r15), %rax\n"
    "   andq $63, %rax\n"
    "   shlq $7, %rax\n"
    "   addq %rbp, %rax\n"
    "   movq 32(%rax), %rcx; movq %rcx, 24(%rsp)\n"
    "   cld\n"
    "   movq 8(%rax), %rcx; movq 16(%rax), %rdx; movq 24(%rax), %rbx; movq 40(%rax), %rbp\n"
    "   movq 48(%rax), %rsi; movq 56(%rax), %rdi; movq 64(%rax), %r8; movq 72(%rax), %r9\n"
    "   movq 80(%rax), %r10; movq 88(%rax), %r11; movq 96(%rax), %r12; movq 104(%rax), %r13\n"
    "   movq 112(%rax), %r14; movq 120(%rax), %r15; movq (%rax), %rax\n"
    "   iretq\n"
    "handler_end:\n"
    ".popsection\n");

/* ---- the machine ---- */

static struct {
    struct memory *memory;
    struct dma_space dma;
    struct clock *clock;
    struct engine *engine;
    struct vcpu *vcpu[CPUS];
    uint64_t seeds[CPUS];
    uint64_t tables;  /* next free page for tables */
    atomic_bool over; /* this slice is */
} guest;

static uint64_t mmio_read(void *opaque, uint64_t address, unsigned size)
{
    return 0x1122334455667788;
}

static void mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
}

static uint32_t pio_read(void *opaque, uint16_t port, unsigned size)
{
    return UINT32_MAX;
}

static void pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
}

static uint8_t extint_acknowledge(void *opaque)
{
    return 0x30;
}

static void eoi_broadcast(void *opaque, uint8_t vector)
{
}

static uint64_t hypercall(void *opaque, unsigned vcpu, uint64_t number, const uint64_t args[4])
{
    return 0;
}

static const struct exit_ops exits = {
    .mmio_read = mmio_read,
    .mmio_write = mmio_write,
    .pio_read = pio_read,
    .pio_write = pio_write,
    .extint_acknowledge = extint_acknowledge,
    .eoi_broadcast = eoi_broadcast,
    .hypercall = hypercall,
};

static void put(uint64_t gpa, const void *bytes, size_t size)
{
    if (!memory_write(guest.memory, gpa, bytes, size))
        abort();
}

static void put64(uint64_t gpa, uint64_t value)
{
    put(gpa, &value, sizeof(value));
}

static uint64_t get64(uint64_t gpa)
{
    uint64_t value;

    if (!memory_read(guest.memory, gpa, &value, sizeof(value)))
        abort();
    return value;
}

/* ---- page tables ---- */

static uint64_t new_table(void)
{
    static const uint8_t zero[PAGE];

    put(guest.tables, zero, PAGE);
    guest.tables += PAGE;
    if (guest.tables > TABLES + TABLES_OF)
        abort();
    return guest.tables - PAGE;
}

/* The place of the entry for `linear` at the level whose pages have 1 << shift bytes. */
static uint64_t entry_of(uint64_t linear, unsigned shift)
{
    uint64_t table = TABLES;

    for (unsigned level = 39;; level -= 9) {
        uint64_t at = table + (linear >> level & 511) * 8, entry;

        if (level == shift)
            return at;
        entry = get64(at);
        if (!(entry & PTE_P)) {
            entry = new_table() | PTE_P | PTE_W | PTE_U;
            put64(at, entry);
        }
        table = entry & 0xffffffffff000;
    }
}

static uint64_t random_frame(void)
{
    switch (below(16)) {
    case 0:
        return CODE + below(CODE_PAGES) * PAGE;
    case 1:
        return TABLES + below(32) * PAGE;
    case 2:
        return 0xd0000000;
    case 3:
        return 0xfee00000;
    case 4:
        return RAM_SIZE - PAGE + below(2) * PAGE;
    default:
        return DATA + below(24) * PAGE;
    }
}

/* As a kernel's, if it is to be so: for itself, in all address spaces. */
static uint64_t random_entry(bool kernel)
{
    uint64_t entry = random_frame() | PTE_P | PTE_W | (kernel ? PTE_G : PTE_U);

    switch (below(12)) {
    case 0:
        return entry & ~PTE_P;
    case 1:
        return entry & ~PTE_W;
    case 2:
        return entry ^ PTE_U;
    case 3:
        return entry ^ PTE_G;
    case 4:
        return entry | 1UL << (52 + below(12));
    case 5:
        return entry ^ 1UL << below(52);
    default:
        return entry;
    }
}

static void make_tables(void)
{
    guest.tables = TABLES;
    new_table();
    for (uint64_t page = 0; page < 8; page++)
        put64(entry_of(SYSTEM + page * PAGE, 12), page * PAGE | PTE_P);
    for (uint64_t page = VALUES; page < VALUES + 2 * PAGE; page += PAGE)
        put64(entry_of(SYSTEM + page, 12), page | PTE_P);
    for (unsigned cpu = 0; cpu < CPUS; cpu++)
        put64(entry_of(SYSTEM + OWN(cpu), 12), OWN(cpu) | PTE_P | PTE_W);
    for (uint64_t page = 0; page < CODE_PAGES; page++)
        put64(entry_of(CODE_LINEAR + page * PAGE, 12),
              (CODE + page * PAGE) | PTE_P | PTE_W | PTE_U);
    for (unsigned i = 0; i < G_N_ELEMENTS(regions); i++)
        for (uint64_t page = 0; page < 16; page++)
            put64(entry_of(regions[i] + page * PAGE, 12), random_entry(regions[i] >> 63));
    /* a large page, of all memory */
    put64(entry_of(0xffff888000000000 + (below(4) << 21), 21),
          (below(3) << 21) | PTE_P | PTE_W | PTE_G | PTE_PS);
}

/* ---- code ---- */

static void make_code(void)
{
    /* The end goes on at the beginning. */
    static const int32_t back = -(SLOTS * SLOT + 5);
    uint8_t slot[SLOT], jump[5] = {0xe9};

    for (unsigned i = 0; i < SLOTS; i++) {
        make_slot(slot);
        put(CODE + i * SLOT, slot, SLOT);
    }
    memcpy(jump + 1, &back, 4);
    put(CODE + SLOTS * SLOT, jump, sizeof(jump));
    for (unsigned i = 0; i < REGISTERS * 16; i++)
        put64(VALUES + i * 8, odd_value());
}

/* ---- the processors' state ---- */

static void put_descriptor(unsigned index, uint64_t value)
{
    put64(GDT + index * 8, value);
}

static void make_system(void)
{
    uint64_t linear = SYSTEM + HANDLER;

    put(HANDLER, handler, (size_t)(handler_end - handler));
    put_descriptor(1, 0x00af9b000000ffff); /* 08: ring 0, 64-bit; as in the payloads */
    put_descriptor(2, 0x00cf93000000ffff);
    put_descriptor(3, 0x00cff3000000ffff);
    put_descriptor(4, 0x00affb000000ffff);
    put_descriptor(5, 0x00cf9b000000ffff);
    put_descriptor(6, 0x00cffb000000ffff);
    for (unsigned vector = 0; vector < 256; vector++) {
        put64(IDT + vector * 16, (linear & 0xffff) | 8UL << 16 | 1UL << 32 | 0xeeUL << 40 |
                                     (linear >> 16 & 0xffff) << 48);
        put64(IDT + vector * 16 + 8, linear >> 32);
    }
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        uint64_t top = SYSTEM + OWN(cpu) + OWN_TOP;

        for (unsigned i = 0; i < 3; i++)
            put(OWN(cpu) + 4 + i * 8, &top, 8);
        put(OWN(cpu) + 36, &top, 8); /* IST 1 */
    }
}

static void set_segment(struct cpu_segment *segment, uint16_t selector, uint16_t attributes)
{
    *segment =
        (struct cpu_segment){.selector = selector, .attributes = attributes, .limit = UINT32_MAX};
}

static void set_processor(unsigned cpu)
{
    static const struct {
        uint16_t cs, code, ss, data;
    } modes[] = {
        {0x08, 0x9b | SEGMENT_L | SEGMENT_G, 0x10, 0x93},
        {0x23, 0xfb | SEGMENT_L | SEGMENT_G, 0x1b, 0xf3},
        {0x28, 0x9b | SEGMENT_DB | SEGMENT_G, 0x10, 0x93},
        {0x33, 0xfb | SEGMENT_DB | SEGMENT_G, 0x1b, 0xf3},
    };
    unsigned mode = below(8) % 5 % 4;
    struct cpu_state state;
    GError *error = NULL;

    ops->vcpu_get_state(guest.vcpu[cpu], &state);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        state.gpr[i] = odd_value();
    state.rip = CODE_LINEAR + below(SLOTS) * SLOT;
    state.rflags = 2;
    for (unsigned i = 0; i <= SEG_GS; i++)
        set_segment(&state.segments[i], modes[mode].ss, modes[mode].data | SEGMENT_DB | SEGMENT_G);
    set_segment(&state.segments[SEG_CS], modes[mode].cs, modes[mode].code);
    if (below(2))
        state.segments[SEG_FS].base = odd_value() & 0x7fffffffffff;
    if (below(2))
        state.segments[SEG_GS].base = below(4) ? pointers[below(pointer_count)] & 0x7fffffffffff
                                               : regions[below(G_N_ELEMENTS(regions))];
    state.segments[SEG_LDTR] = (struct cpu_segment){.attributes = 0x82};
    state.segments[SEG_TR] = (struct cpu_segment){
        .selector = 0x38, .attributes = 0x8b, .limit = 0x67, .base = SYSTEM + OWN(cpu)};
    state.gdtr = (struct cpu_table_register){SYSTEM + GDT, 7 * 8 - 1};
    state.idtr = (struct cpu_table_register){SYSTEM + IDT, 256 * 16 - 1};
    state.cr0 = 0x80010033;
    state.cr3 = TABLES;
    state.cr4 = 0x6b0 | (below(2) ? 1 << 18 : 0); /* OSXSAVE */
    if (below(2)) {                               /* PCIDE */
        state.cr4 |= 1 << 17;
        state.cr3 |= below(3);
    }
    state.xcr0 = below(3) ? 7 : 3;
    if (state.xcr0 == 7 && below(2) && soft_host_has_avx512())
        state.xcr0 = 0xe7;
    state.msrs.efer = 0xd01;
    state.dr7 = 0x400;
    memset(state.dr, 0, sizeof(state.dr));
    state.mp_state = CPU_RUNNABLE;
    state.interrupt_shadow = 0;
    state.nmi_masked = state.nmi_pending = state.init_pending = state.event_pending = false;
    state.mxcsr = below(4) ? 0x1f80 : 0x1f80 & (uint32_t)random64();
    put64(OWN(cpu) + OWN_CS, modes[mode].cs);
    put64(OWN(cpu) + OWN_SS, modes[mode].ss);
    put64(OWN(cpu) + OWN_FLAGS, 2 | (below(8) ? 0 : 1 << 18 /* AC */));
    if (!ops->vcpu_set_state(guest.vcpu[cpu], &state, &error)) {
        fprintf(stderr, "%s\n", error->message);
        abort();
    }
}

/* ---- running ---- */

/* A processor that shut down begins again. */
static void *run_processor(void *number)
{
    unsigned cpu = (unsigned)(uintptr_t)number;

    random_state = guest.seeds[cpu];
    do {
        set_processor(cpu);
        if (ops->vcpu_run(guest.vcpu[cpu]) == VCPU_EXIT_ERROR) {
            fprintf(stderr, "%s\n", ops->vcpu_error(guest.vcpu[cpu]));
            abort();
        }
    } while (!atomic_load(&guest.over));
    return NULL;
}

/* The host's part: DMA to code, dirty pages, NMIs, which also end a HLT. */
static void disturb(void)
{
    gint64 end = g_get_monotonic_time() + SLICE_US;
    uint64_t bitmap[RAM_SIZE / PAGE / 64];
    bool tracking = below(2);

    if (tracking)
        memory_dirty_start(guest.memory, MEMORY_CLIENT_MIGRATION);
    while (g_get_monotonic_time() < end) {
        uint8_t slot[SLOT];

        usleep(SLICE_US / 16);
        make_slot(slot);
        dma_write(&guest.dma, CODE + below(SLOTS) * SLOT, slot, SLOT);
        ops->nmi(guest.vcpu[below(CPUS)]);
        if (tracking)
            memory_dirty_collect(guest.memory, MEMORY_CLIENT_MIGRATION, 0, RAM_SIZE / PAGE, bitmap);
    }
    if (tracking)
        memory_dirty_stop(guest.memory, MEMORY_CLIENT_MIGRATION);
}

static void run_slice(void)
{
    pthread_t threads[CPUS];

    atomic_store(&guest.over, false);
    for (unsigned i = 0; i < CPUS; i++) {
        guest.seeds[i] = random64() | 1;
        if (pthread_create(&threads[i], NULL, run_processor, (void *)(uintptr_t)i) != 0)
            abort();
    }
    disturb();
    atomic_store(&guest.over, true);
    for (unsigned i = 0; i < CPUS; i++) {
        ops->vcpu_kick(guest.vcpu[i]);
        pthread_join(threads[i], NULL);
    }
}

static void create_guest(const char *switches)
{
    struct engine_debug debug = {.switches = switches, .log = -1, .perf_map = -1};
    struct engine_config config = {
        .exits = &exits, .cpus = CPUS, .cpu_model = "default", .kvm_fd = -1, .debug = &debug};
    GError *error = NULL;

    guest.memory = config.memory = memory_create();
    test_memory_add(guest.memory, MEMORY_RAM, 0, RAM_SIZE);
    guest.dma = (struct dma_space){guest.memory, true};
    guest.clock = config.clock = clock_create(NULL);
    clock_resume(guest.clock);
    guest.engine = ops->create(&config, &error);
    for (unsigned i = 0; guest.engine && i < CPUS; i++)
        guest.vcpu[i] = ops->vcpu_create(guest.engine, i, &error);
    if (!guest.engine || error) {
        fprintf(stderr, "%s\n", error->message);
        abort();
    }
}

/* What it was made of: rounds in which next to nothing was executed would prove nothing. */
static void print_counters(void)
{
    uint64_t values[CPUS][64] = {0};

    for (unsigned i = 0; i < CPUS; i++)
        ops->count(guest.vcpu[i], values[i]);
    for (unsigned k = 0; ops->counters[k].name; k++)
        printf("%s %lu\n", ops->counters[k].name, values[0][k] + values[1][k]);
}

static void destroy_guest(void)
{
    for (unsigned i = 0; i < CPUS; i++)
        ops->vcpu_destroy(guest.vcpu[i]);
    ops->destroy(guest.engine);
    clock_destroy(guest.clock);
    memory_destroy(guest.memory);
}

int main(int argc, char **argv)
{
    double seconds = 1;
    uint64_t seed = 1, rounds = 0;
    g_autofree char *switches = NULL;
    const GOptionEntry entries[] = {
        {"seconds", 0, 0, G_OPTION_ARG_DOUBLE, &seconds, "how long", "N"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "of the first round", "S"},
        {"switches", 0, 0, G_OPTION_ARG_STRING, &switches, "as in ANIMA_SOFT", "LIST"},
        {0},
    };
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    gint64 end;

    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, NULL))
        return 2;
    ops = engine_find("soft", -1, &(const char *){0}, NULL);
    random_state = seed * 0x9e3779b97f4a7c15 + 1;
    canaries_around_windows();
    create_guest(switches);
    memset(canary_data, CANARY, sizeof(canary_data));
    canary_add(canary_bss, sizeof(canary_bss));
    canary_add(canary_data, sizeof(canary_data));
    collect_pointers(guest.memory);
    collect_engine_pointers();
    canaries_around_mappings();
    end = g_get_monotonic_time() + (gint64)(seconds * 1e6);
    for (; g_get_monotonic_time() < end; rounds++) {
        random_state = (seed + rounds) * 0x9e3779b97f4a7c15 + 1;
        make_tables();
        make_code();
        make_system();
        for (unsigned i = 0; i < RESTARTS; i++)
            run_slice();
        canaries_check();
    }
    printf("%lu rounds from seed %lu, %u places watched\n", rounds, seed, canary_count);
    print_counters();
    destroy_guest();
    return 0;
}
