// SPDX-License-Identifier: Apache-2.0
/* Small payloads through the interface of engines, the same on each engine that this host has. */
#include <sys/eventfd.h>

#include "tests/unit/engine_fixture.h"
#include "vmm/engine/cpu_msr.h"
#include "vmm/memory/dma.h"

/* ---- payloads ---- */

static void ports_are_written_and_a_kick_ends_the_run(void **state)
{
    REAL(OUT_LOG('h'), OUT_LOG('i'), OUT_KICK, OUT_LOG('!'), OUT_KICK, HLT);
    run_until_kicked();
    assert_string_equal(fixture.log, "hi");
    run_until_kicked();
    assert_string_equal(fixture.log, "hi!");
}

static void a_kick_before_the_run_is_not_lost(void **state)
{
    REAL(HLT);
    ops->vcpu_kick(fixture.vcpu);
    run_until_kicked();
}

static void ports_are_read_in_all_widths(void **state)
{
    struct cpu_state after;

    /* in al, PORT_IN; mov bl, al; in ax, PORT_IN; mov cx, ax; in eax, PORT_IN */
    REAL(0xe4, PORT_IN, 0x88, 0xc3, 0xe5, PORT_IN, 0x89, 0xc1, 0x66, 0xe5, PORT_IN, OUT_KICK);
    run_until_kicked();
    after = get();
    assert_int_equal(after.gpr[GPR_RBX] & 0xff, 0xd8);
    assert_int_equal(after.gpr[GPR_RCX] & 0xffff, 0xc7d8);
    assert_int_equal(after.gpr[GPR_RAX] & 0xffffffff, 0xa5b6c7d8);
}

static void string_output_writes_every_byte(void **state)
{
    put(0x2000, "strings", 7);
    /* cld; mov si, 2000h; mov cx, 7; mov dx, PORT_LOG; rep outsb */
    REAL(0xfc, 0xbe, 0x00, 0x20, 0xb9, 7, 0, 0xba, PORT_LOG, 0, 0xf3, 0x6e, OUT_KICK);
    run_until_kicked();
    assert_string_equal(fixture.log, "strings");
    assert_int_equal(get().gpr[GPR_RCX] & 0xffff, 0);
}

static void *kick_later(void *opaque)
{
    usleep(20000);
    ops->vcpu_kick(fixture.vcpu);
    return NULL;
}

static void run_and_kick_later(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, kick_later, NULL);
    run_until_kicked();
    pthread_join(thread, NULL);
}

static void halted_vcpus_wait_for_the_kick(void **state)
{
    REAL(HLT, OUT_LOG('x'), HLT);
    run_and_kick_later();
    assert_int_equal(get().mp_state, CPU_HALTED);
    assert_int_equal(get().rip, CODE + 1);
    run_and_kick_later();
    assert_int_equal(get().mp_state, CPU_HALTED);
    assert_string_equal(fixture.log, "");
}

static void a_kick_from_another_thread_ends_a_loop(void **state)
{
    REAL(0xeb, 0xfe); /* jmp $ */
    run_and_kick_later();
    assert_int_equal(get().rip, CODE);
}

static void a_triple_fault_is_a_shutdown(void **state)
{
    struct cpu_state after;

    FLAT(0x0f, 0x0b); /* ud2 */
    after = get();
    after.idtr.limit = 0;
    set(&after);
    assert_int_equal(ops->vcpu_run(fixture.vcpu), VCPU_EXIT_SHUTDOWN);
    assert_int_equal(get().mp_state, CPU_SHUTDOWN);
    assert_int_equal(ops->vcpu_run(fixture.vcpu), VCPU_EXIT_SHUTDOWN);
}

static void what_is_no_memory_goes_to_the_bus(void **state)
{
    /* mov dword [MMIO_BASE + 8], 12345678h; mov al, [MMIO_BASE + 3] */
    FLAT(0xc7, 0x05, 8, 0, 0, 0xd0, 0x78, 0x56, 0x34, 0x12, OUT_KICK, 0xa0, 3, 0, 0, 0xd0,
         OUT_KICK);
    run_until_kicked();
    assert_int_equal(fixture.mmio_address, MMIO_BASE + 8);
    assert_int_equal(fixture.mmio_size, 4);
    assert_int_equal(fixture.mmio_value, 0x12345678);
    run_until_kicked();
    assert_int_equal(fixture.mmio_address, MMIO_BASE + 3);
    assert_int_equal(fixture.mmio_size, 1);
    assert_int_equal(get().gpr[GPR_RAX] & 0xff, 0x88);
}

static void a_doorbell_is_rung_in_place_of_a_call(void **state)
{
    uint64_t count = 0;

    if (!ops->doorbell)
        skip();
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(ops->doorbell(fixture.engine, MMIO_BASE + 8, bell, true));
    /* mov word [MMIO_BASE + 8], 1; mov dword [MMIO_BASE + 8], 1; kick; jmp again */
    FLAT(0x66, 0xc7, 0x05, 8, 0, 0, 0xd0, 1, 0, 0xc7, 0x05, 8, 0, 0, 0xd0, 1, 0, 0, 0, OUT_KICK,
         0xeb, 0xe9);
    run_until_kicked();
    assert_int_equal(read(bell, &count, sizeof(count)), sizeof(count));
    assert_int_equal(count, 2);
    assert_int_equal(fixture.mmio_address, 0);
    assert_true(ops->doorbell(fixture.engine, MMIO_BASE + 8, bell, false));
    run_until_kicked();
    assert_int_equal(read(bell, &count, sizeof(count)), -1);
    assert_int_equal(fixture.mmio_address, MMIO_BASE + 8);
    close(bell);
}

static void exits_are_counted_by_reason(void **state)
{
    uint64_t counts[ENGINE_EXITS] = {0};

    if (!ops->exits)
        skip();
    /* mov al, [MMIO_BASE]; log; kick */
    FLAT(0xa0, 0, 0, 0, 0xd0, OUT_LOG('x'), OUT_KICK);
    run_until_kicked();
    ops->exits(fixture.vcpu, counts);
    assert_int_equal(counts[ENGINE_EXIT_MMIO], 1);
    assert_int_equal(counts[ENGINE_EXIT_PIO], 2);
}

/* The engine's counter called `name`; -1 when it has none. */
static int64_t count_of(const char *name)
{
    g_autofree uint64_t *values = NULL;
    unsigned count = 0, found = UINT_MAX;

    for (; ops->counters[count].name; count++)
        if (strcmp(ops->counters[count].name, name) == 0)
            found = count;
    values = g_new0(uint64_t, count);
    ops->count(fixture.vcpu, values);
    return found == UINT_MAX ? -1 : (int64_t)values[found];
}

static void what_happens_is_counted(void **state)
{
    if (!ops->counters)
        skip();
    /* mov al, [MMIO_BASE]; log; kick; mov [MMIO_BASE], al; kick */
    FLAT(0xa0, 0, 0, 0, 0xd0, OUT_LOG('x'), OUT_KICK, 0xa2, 0, 0, 0, 0xd0, OUT_KICK);
    run_until_kicked();
    assert_int_equal(count_of("mmio"), 1);
    assert_int_equal(count_of("ports"), 2);
    assert_int_equal(count_of("faults"), 0);
    run_until_kicked();
    assert_int_equal(count_of("mmio"), 2);
    assert_true(count_of("blocks_decoded") > 0);
    assert_int_equal(count_of("sheep"), -1);
}

/* What the model has not raises #GP, what it has reads the same on every engine. */
static void model_specific_registers_are_the_models(void **state)
{
    const struct cpu_definition *cpu = ops->cpu(fixture.engine);
    static const struct {
        uint32_t index;
        bool readable;
    } cases[] = {{0x10, true},  {0x8b, true},   {0xfe, true},        {0x179, true},
                 {0x277, true}, {0x400, false}, {0x1b0, false},      {0x40000000, false},
                 {0x34, false}, {0xc1, false},  {0xc0010200, false}, {0x4b564d06, false}};

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        uint32_t index = cases[i].index;
        const struct cpu_msr *msr = cpu_msr_find(cpu, index);

        fixture.logged = 0;
        install_handler(13, 'g');
        /* mov ecx, index; rdmsr; kick */
        REAL(0x66, 0xb9, (uint8_t)index, (uint8_t)(index >> 8), (uint8_t)(index >> 16),
             (uint8_t)(index >> 24), 0x0f, 0x32, OUT_KICK, HLT);
        run_until_kicked();
        struct cpu_state after = get();
        if (fixture.logged != !cases[i].readable)
            fail_msg("RDMSR %x: %s", index, fixture.logged ? "#GP" : "no #GP");
        assert_int_equal(msr != NULL, cases[i].readable);
        if (msr && msr->kind == CPU_MSR_CONSTANT)
            assert_int_equal(after.gpr[GPR_RDX] << 32 | after.gpr[GPR_RAX],
                             cpu_msr_constant(cpu, msr));
    }
}

/* Stored here or there, a register holds what it took, and takes no more than its bits. */
static void model_specific_registers_are_written(void **state)
{
    const bool amd = ops->cpu(fixture.engine)->vendor == CPU_VENDOR_AMD;
    const uint32_t index = amd ? 0xc0010015 : 0x17a;
    const uint8_t good = amd ? 0x48 : 5, bad = 0x90;

    install_handler(13, 'g');
    /* mov ecx, index; mov eax, good; xor edx, edx; wrmsr; kick; mov al, bad; wrmsr */
    REAL(0x66, 0xb9, (uint8_t)index, (uint8_t)(index >> 8), (uint8_t)(index >> 16),
         (uint8_t)(index >> 24), 0x66, 0xb8, good, 0, 0, 0, 0x66, 0x31, 0xd2, 0x0f, 0x30, OUT_KICK,
         0xb0, bad, 0x0f, 0x30, HLT);
    run_until_kicked();
    struct cpu_state after = get();
    assert_int_equal(amd ? after.msrs.hwcr : after.msrs.mcg_status, good);
    set(&after);
    run_until_kicked();
    assert_string_equal(fixture.log, "g");
    after = get();
    assert_int_equal(amd ? after.msrs.hwcr : after.msrs.mcg_status, good);
}

static void writes_are_seen_in_memory_and_as_dirty(void **state)
{
    uint64_t bitmap[4] = {0};
    uint32_t value;

    memory_dirty_start(fixture.memory, MEMORY_CLIENT_MIGRATION);
    /* mov dword [5004h], 0badcafeh */
    FLAT(0xc7, 0x05, 0x04, 0x50, 0, 0, 0xfe, 0xca, 0xad, 0x0b, OUT_KICK);
    memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
    run_until_kicked();
    assert_true(memory_read(fixture.memory, 0x5004, &value, sizeof(value)));
    assert_int_equal(value, 0x0badcafe);
    memset(bitmap, 0, sizeof(bitmap));
    memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
    assert_true(bitmap[0] >> 5 & 1);
    /* KVM may map the page of the code writable too, and calls it dirty then. */
    assert_int_equal(bitmap[0] & ~(1UL << 5 | 1UL << (CODE >> 12)), 0);
    assert_int_equal(bitmap[1] | bitmap[2] | bitmap[3], 0);
}

/* What a program writes and what a device does by DMA: just these pages, on each engine. */
static void the_set_of_dirty_pages_is_exact(void **state)
{
    static const unsigned written[] = {2, 5, 7, 63, 64, 65, 127, 128, 200, 255};
    static const uint8_t byte = 0x5a;
    uint64_t bitmap[4], expected[4] = {0};
    uint8_t code[G_N_ELEMENTS(written) * 7 + 3];

    for (unsigned i = 0; i < G_N_ELEMENTS(written); i++) {
        const uint32_t address = (written[i] << 12) + i;
        /* mov byte [address], i */
        const uint8_t store[] = {
            0xc6, 0x05,      (uint8_t)address, (uint8_t)(address >> 8), (uint8_t)(address >> 16),
            0,    (uint8_t)i};
        memcpy(code + 7 * i, store, sizeof(store));
        expected[written[i] / 64] |= 1UL << written[i] % 64;
    }
    memcpy(code + sizeof(code) - 3, (const uint8_t[]){OUT_KICK, HLT}, 3);
    load_flat(code, sizeof(code));
    memory_dirty_start(fixture.memory, MEMORY_CLIENT_MIGRATION);
    run_until_kicked();
    struct dma_space dma = {.memory = fixture.memory, .enabled = true};
    assert_true(dma_write(&dma, 150 << 12, &byte, 1));
    expected[150 / 64] |= 1UL << 150 % 64;
    memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
    bitmap[0] &=
        ~(1UL << (CODE >> 12)); /* KVM may map the code's page writable and call it dirty */
    assert_memory_equal(bitmap, expected, sizeof(expected));
    memory_dirty_collect(fixture.memory, MEMORY_CLIENT_MIGRATION, 0, 256, bitmap);
    assert_int_equal(bitmap[0] | bitmap[1] | bitmap[2] | bitmap[3], 0);
    memory_dirty_stop(fixture.memory, MEMORY_CLIENT_MIGRATION);
}

/* Clients that collect at different times each see all that was written since their own last time,
 * and nothing twice. */
static void each_client_sees_every_write_once(void **state)
{
    uint64_t bitmap[4];

    for (unsigned client = 0; client < MEMORY_CLIENTS; client++)
        memory_dirty_start(fixture.memory, client);
    /* again: inc dword [5000h]; kick; jmp again */
    FLAT(0xff, 0x05, 0x00, 0x50, 0x00, 0x00, OUT_KICK, 0xeb, 0xf6);
    for (unsigned round = 1; round <= 24; round++) {
        run_until_kicked();
        for (unsigned client = 0; client < MEMORY_CLIENTS; client++) {
            if (round % (client + 1))
                continue;
            memory_dirty_collect(fixture.memory, client, 0, 256, bitmap);
            if (!(bitmap[0] >> 5 & 1))
                fail_msg("client %u missed the write of round %u", client, round);
            memory_dirty_collect(fixture.memory, client, 0, 256, bitmap);
            if (bitmap[0] >> 5 & 1)
                fail_msg("client %u saw the write of round %u twice", client, round);
        }
    }
    for (unsigned client = 0; client < MEMORY_CLIENTS; client++)
        memory_dirty_stop(fixture.memory, client);
}

static void enable_lapic(void)
{
    struct cpu_state state = get();

    state.lapic.svr = 0x1ff;
    set(&state);
}

static void a_message_interrupts_a_halted_vcpu(void **state)
{
    install_handler(0x40, 'i');
    REAL(0xfb, HLT, OUT_LOG('n'), OUT_KICK, HLT); /* sti; hlt */
    enable_lapic();
    ops->msi(fixture.engine, 0xfee00000, 0x40);
    run_until_kicked();
    assert_string_equal(fixture.log, "i");
    run_until_kicked();
    assert_string_equal(fixture.log, "in");
    assert_int_equal(get().lapic.irr[2], 0);
}

static void interrupts_wait_for_the_flag(void **state)
{
    install_handler(0x40, 'i');
    /* nop; out log 'a'; sti; nop; hlt */
    REAL(0x90, OUT_LOG('a'), 0xfb, 0x90, HLT);
    enable_lapic();
    ops->msi(fixture.engine, 0xfee00000, 0x40);
    run_until_kicked();
    assert_string_equal(fixture.log, "ai");
}

static void the_8259_interrupts_through_lint0(void **state)
{
    install_handler(0x21, 'p');
    REAL(0xfb, HLT, OUT_LOG('n'), OUT_KICK, HLT);
    ops->set_extint(fixture.engine, true);
    run_until_kicked();
    assert_string_equal(fixture.log, "p");
    run_until_kicked();
    assert_string_equal(fixture.log, "pn");
}

static void an_eoi_of_a_level_interrupt_is_broadcast(void **state)
{
    /* An IDT entry for vector 51h, flat: EOI, log, kick. */
    const uint32_t gdt[] = {0, 0, 0x0000ffff, 0x00cf9b00, 0x0000ffff, 0x00cf9300};
    const uint32_t gate[] = {0x00083000, 0x00008e00};
    /* mov dword [0fee000b0h], 0; log; kick; iret */
    const uint8_t handler[] = {0xc7, 0x05, 0xb0,         0,        0xe0, 0xfe, 0, 0,
                               0,    0,    OUT_LOG('e'), OUT_KICK, 0xcf};

    FLAT(0xfb, HLT, OUT_LOG('n'), OUT_KICK, HLT);
    put(0x4000, gdt, sizeof(gdt));
    put(0x5000 + 0x51 * 8, gate, sizeof(gate));
    put(0x3000, handler, sizeof(handler));
    struct cpu_state setup = get();
    setup.gdtr = (struct cpu_table_register){.base = 0x4000, .limit = sizeof(gdt) - 1};
    setup.idtr = (struct cpu_table_register){.base = 0x5000, .limit = 0x7ff};
    setup.lapic.svr = 0x1ff;
    set(&setup);
    ops->ioapic_route(fixture.engine, 5, 0xfee00000, 0x8051, false, true);
    ops->msi(fixture.engine, 0xfee00000, 0xc051);
    run_until_kicked();
    assert_string_equal(fixture.log, "e");
    assert_int_equal(fixture.eois, 1);
    assert_int_equal(fixture.eoi_vector, 0x51);
    assert_int_equal(get().lapic.isr[2], 0);
}

static void an_nmi_goes_through_vector_two(void **state)
{
    install_handler(2, 'N');
    REAL(OUT_KICK, HLT, HLT);
    run_until_kicked();
    ops->nmi(fixture.vcpu);
    run_until_kicked();
    assert_string_equal(fixture.log, "N");
}

static void the_timer_of_the_lapic_ends_a_halt(void **state)
{
    install_handler(0x40, 't');
    REAL(0xfb, HLT, HLT);
    struct cpu_state setup = get();
    setup.lapic.svr = 0x1ff;
    setup.lapic.lvt_timer = 0x40;
    setup.lapic.timer_divide = 0xb;
    setup.lapic.timer_initial = setup.lapic.timer_current = 3000000;
    set(&setup);
    run_until_kicked();
    assert_string_equal(fixture.log, "t");
}

/* It runs out while the vCPU is parked, before its state is read: the interrupt is in the state. */
static void a_timer_that_ran_out_is_not_lost_to_a_saved_state(void **state)
{
    install_handler(0x40, 't');
    REAL(0xfb, HLT, HLT);
    struct cpu_state saved = get();
    saved.lapic.svr = 0x1ff;
    saved.lapic.lvt_timer = 0x40;
    saved.lapic.timer_divide = 0xb;
    saved.lapic.timer_initial = saved.lapic.timer_current = 100000;
    set(&saved);
    usleep(1000);
    saved = get();
    set(&saved);
    run_until_kicked();
    assert_string_equal(fixture.log, "t");
}

/* All vector registers that the processor has, and its mask registers. */
static void fill_vectors(struct cpu_state *state)
{
    uint64_t components = ops->cpu(fixture.engine)->xcr0_mask;
    bool avx512 = (components & 0xe0) == 0xe0;
    unsigned bytes = avx512 ? 64 : components & 4 ? 32 : 16;

    for (unsigned i = 0; i < (avx512 ? 32U : 16U); i++)
        for (unsigned b = 0; b < bytes; b++)
            state->vector[i][b] = (uint8_t)(0x10 + i * 3 + b);
    for (unsigned i = 0; avx512 && i < 8; i++)
        state->opmask[i] = 0x0123456789abcdef * (i + 1);
}

static void state_goes_round(void **state)
{
    struct cpu_state before = get(), after;

    for (unsigned i = 0; i < GPR_COUNT; i++)
        before.gpr[i] = 0x1111111111111111UL * i;
    fill_vectors(&before);
    before.x87.control = 0x37f;
    before.x87.tag = 1;
    before.x87.registers[0][9] = 0x3f;
    before.x87.registers[0][7] = 0x80;
    before.mxcsr = 0x1fa0;
    before.rip = CODE;
    before.cr2 = 0x1234;
    before.dr[1] = 0x5678;
    before.msrs.lstar = 0xffffffff81000000;
    before.msrs.star = 0x23001000000000;
    before.msrs.kernel_gs_base = 0x7fff00000000;
    before.segments[SEG_FS].base = 0x10000;
    before.lapic.svr = 0x1ff;
    before.lapic.lvt_timer = 0x10041;
    before.lapic.irr[3] = 4;
    set(&before);
    after = get();
    assert_memory_equal(after.gpr, before.gpr, sizeof(before.gpr));
    assert_memory_equal(after.vector, before.vector, sizeof(before.vector));
    assert_memory_equal(after.opmask, before.opmask, sizeof(before.opmask));
    assert_memory_equal(&after.x87.registers, &before.x87.registers, 80);
    assert_int_equal(after.x87.tag, 1);
    assert_int_equal(after.x87.control, 0x37f);
    assert_int_equal(after.mxcsr, 0x1fa0);
    assert_int_equal(after.cr2, before.cr2);
    assert_int_equal(after.dr[1], before.dr[1]);
    assert_int_equal(after.msrs.lstar, before.msrs.lstar);
    assert_int_equal(after.msrs.star, before.msrs.star);
    assert_int_equal(after.msrs.kernel_gs_base, before.msrs.kernel_gs_base);
    assert_int_equal(after.segments[SEG_FS].base, 0x10000);
    assert_int_equal(after.lapic.lvt_timer, 0x10041);
    assert_int_equal(after.lapic.irr[3], 4);
    assert_true(after.tsc >= before.tsc);
}

/* As another engine may save it: recognized, not delivered. It is kept by a second round trip. */
static void an_event_that_was_begun_is_delivered_first(void **state)
{
    static const struct {
        uint8_t type, vector;
    } events[] = {{CPU_EVENT_EXTERNAL, 0x40}, {CPU_EVENT_NMI, 2}, {CPU_EVENT_EXCEPTION, 6}};

    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++) {
        install_handler(events[i].vector, (char)('0' + i));
        REAL(OUT_LOG('n'), OUT_KICK, HLT);
        struct cpu_state begun = get();
        begun.event_pending = true;
        begun.event_type = events[i].type;
        begun.event_vector = events[i].vector;
        begun.nmi_masked = events[i].type == CPU_EVENT_NMI;
        set(&begun);
        begun = get();
        assert_true(begun.event_pending);
        assert_int_equal(begun.event_type, events[i].type);
        assert_int_equal(begun.event_vector, events[i].vector);
        set(&begun);
        run_until_kicked();
        run_until_kicked();
        assert_false(get().event_pending);
    }
    assert_string_equal(fixture.log, "0n1n2n");
}

static void impossible_states_are_refused(void **state)
{
    struct cpu_state hostile = get(), kept = get();
    GError *error = NULL;

    hostile.cr4 = 1UL << 40;
    hostile.gpr[0] = 77;
    assert_false(ops->vcpu_set_state(fixture.vcpu, &hostile, &error));
    assert_non_null(error);
    g_error_free(error);
    assert_int_equal(get().gpr[0], kept.gpr[0]);
}

static void single_steps_and_breakpoints_come_back(void **state)
{
    struct vcpu_debug debug = {.single_step = true};

    REAL(0x40, 0x40, 0x40, 0x40, OUT_KICK, HLT); /* inc ax */
    assert_true(ops->vcpu_set_debug(fixture.vcpu, &debug, NULL));
    assert_int_equal(ops->vcpu_run(fixture.vcpu), VCPU_EXIT_DEBUG);
    assert_int_equal(get().rip, CODE + 1);
    assert_int_equal(ops->vcpu_run(fixture.vcpu), VCPU_EXIT_DEBUG);
    assert_int_equal(get().rip, CODE + 2);
    debug = (struct vcpu_debug){.breakpoints = 1, .address = {CODE + 3}};
    assert_true(ops->vcpu_set_debug(fixture.vcpu, &debug, NULL));
    enum vcpu_exit exit = ops->vcpu_run(fixture.vcpu);
    if (exit == VCPU_EXIT_KICKED && strcmp(ops->name, "kvm") == 0) {
        print_message("SKIP: the processor below this KVM has no breakpoints for guests\n");
        skip();
    }
    assert_int_equal(exit, VCPU_EXIT_DEBUG);
    assert_int_equal(get().rip, CODE + 3);
    debug.breakpoints = 0;
    assert_true(ops->vcpu_set_debug(fixture.vcpu, &debug, NULL));
    run_until_kicked();
    assert_int_equal(get().gpr[GPR_RAX] & 0xffff, 4);
}

static void the_counter_stands_still_while_the_clock_does(void **state)
{
    uint64_t khz = clock_tsc_khz(fixture.clock), before;

    REAL(OUT_KICK, OUT_KICK, HLT);
    run_until_kicked();
    if (get().tsc > 100000 * khz) {
        print_message("SKIP: this KVM cannot give a guest another counter than the host's\n");
        skip();
    }
    clock_pause(fixture.clock);
    before = get().tsc;
    usleep(200000);
    assert_int_equal(get().tsc, before);
    clock_resume(fixture.clock);
    run_until_kicked();
    assert_in_range(get().tsc - before, 0, 150 * khz);
}

static void addresses_translate_through_the_guests_tables(void **state)
{
    /* 64-bit mode: 2 MB pages at 0 and, one further, 4 MB on. */
    const uint64_t pml4 = 0x9003, pdpt = 0xa003, directory[] = {0x83, 0x400083};
    struct cpu_state paged;
    uint64_t physical;

    FLAT(HLT);
    assert_true(ops->vcpu_translate(fixture.vcpu, 0x1234, &physical));
    assert_int_equal(physical, 0x1234);
    put(0x8000, &pml4, sizeof(pml4));
    put(0x9000, &pdpt, sizeof(pdpt));
    put(0xa000, directory, sizeof(directory));
    paged = get();
    paged.cr3 = 0x8000;
    paged.cr4 |= 1 << 5;
    paged.msrs.efer = 0x500;
    paged.cr0 |= 1UL << 31;
    paged.segments[SEG_CS].attributes = 0x9b | SEGMENT_L | SEGMENT_G;
    set(&paged);
    assert_true(ops->vcpu_translate(fixture.vcpu, 0x200123, &physical));
    assert_int_equal(physical, 0x400123);
    assert_false(ops->vcpu_translate(fixture.vcpu, 0x800000, &physical));
}

/* ---- the choice of an engine ---- */

static void engines_are_found_by_name(void **state)
{
    const char *why = NULL;
    GError *error = NULL;

    for (unsigned i = 0; engines[i]; i++)
        assert_ptr_equal(engine_find(engines[i]->name, kvm_fd, &why, NULL), engines[i]);
    assert_null(engine_find("hard", kvm_fd, &why, &error));
    assert_non_null(strstr(error->message, "'hard'"));
    for (unsigned i = 0; engines[i]; i++)
        assert_non_null(strstr(error->message, engines[i]->name));
    g_error_free(error);
}

static void auto_chooses_kvm_only_on_a_processor_that_virtualizes(void **state)
{
    const char *why = NULL;
    const struct engine_ops *chosen = engine_find("auto", kvm_fd, &why, NULL);

    assert_non_null(why);
    assert_non_null(chosen);
    if (strcmp(chosen->name, "kvm") == 0)
        assert_string_equal(why, "KVM runs in hardware here");
    else
        assert_string_not_equal(why, "KVM runs in hardware here");
}

static void auto_without_kvm_is_soft(void **state)
{
    const char *why = NULL;

    assert_string_equal(engine_find("auto", -1, &why, NULL)->name, "soft");
    assert_non_null(strstr(why, "/dev/kvm"));
}

static void kvm_without_its_descriptor_is_refused(void **state)
{
    struct engine_config config = {
        .exits = &exits, .cpus = 1, .cpu_model = "default", .kvm_fd = -1};
    GError *error = NULL;

    assert_null(engine_find("kvm", -1, &(const char *){NULL}, NULL)->create(&config, &error));
    assert_non_null(strstr(error->message, "use --engine soft"));
    g_error_free(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(ports_are_written_and_a_kick_ends_the_run),
        TEST(a_kick_before_the_run_is_not_lost),
        TEST(ports_are_read_in_all_widths),
        TEST(string_output_writes_every_byte),
        TEST(halted_vcpus_wait_for_the_kick),
        TEST(a_triple_fault_is_a_shutdown),
        TEST(what_is_no_memory_goes_to_the_bus),
        TEST(a_doorbell_is_rung_in_place_of_a_call),
        TEST(exits_are_counted_by_reason),
        TEST(what_happens_is_counted),
        TEST(model_specific_registers_are_the_models),
        TEST(model_specific_registers_are_written),
        TEST(writes_are_seen_in_memory_and_as_dirty),
        TEST(the_set_of_dirty_pages_is_exact),
        TEST(each_client_sees_every_write_once),
        TEST(a_message_interrupts_a_halted_vcpu),
        TEST(interrupts_wait_for_the_flag),
        TEST(the_8259_interrupts_through_lint0),
        TEST(an_eoi_of_a_level_interrupt_is_broadcast),
        TEST(an_nmi_goes_through_vector_two),
        TEST(the_timer_of_the_lapic_ends_a_halt),
        TEST(a_timer_that_ran_out_is_not_lost_to_a_saved_state),
        TEST(a_kick_from_another_thread_ends_a_loop),
        TEST(state_goes_round),
        TEST(an_event_that_was_begun_is_delivered_first),
        TEST(impossible_states_are_refused),
        TEST(single_steps_and_breakpoints_come_back),
        TEST(the_counter_stands_still_while_the_clock_does),
        TEST(addresses_translate_through_the_guests_tables),
    };
    const struct CMUnitTest choice[] = {
        cmocka_unit_test(engines_are_found_by_name),
        cmocka_unit_test(auto_chooses_kvm_only_on_a_processor_that_virtualizes),
        cmocka_unit_test(auto_without_kvm_is_soft),
        cmocka_unit_test(kvm_without_its_descriptor_is_refused),
    };

    kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int failures = cmocka_run_group_tests_name("choice", choice, NULL, NULL);
    failures += run_on_engines(tests);
    if (kvm_fd >= 0)
        close(kvm_fd);
    return failures;
}
