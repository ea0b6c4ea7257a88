// SPDX-License-Identifier: Apache-2.0
/* The software CPU's local APIC: timer modes, priorities, EOI, messages, illegal accesses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/engine/soft/lapic.h"
#include "vmm/engine/soft/mem.h"

#define CPUS 3

static unsigned eoi_count, extint_count;
static uint8_t eoi_vector;

static void eoi_broadcast(void *opaque, uint8_t vector)
{
    eoi_count++;
    eoi_vector = vector;
}

static uint8_t extint_acknowledge(void *opaque)
{
    extint_count++;
    return 0x77;
}

static const struct exit_ops exits = {.eoi_broadcast = eoi_broadcast,
                                      .extint_acknowledge = extint_acknowledge};

static struct cpu_definition model;
static struct clock *manual;
static struct soft_apics *apics;
static struct soft_cpu *cpus[CPUS];

static int setup(void **state)
{
    eoi_count = extint_count = 0;
    model = (struct cpu_definition){.name = "test", .physical_bits = 46, .cpus = CPUS};
    model.words[CPU_1_ECX] = 1 << 21 | 1 << 24;
    manual = clock_create_manual(0);
    apics = soft_apics_create(CPUS);
    for (unsigned i = 0; i < CPUS; i++) {
        cpus[i] = soft_cpu_create();
        cpus[i]->index = i;
        cpus[i]->clock = manual;
        cpus[i]->model = &model;
        cpus[i]->exits = &exits;
        soft_tlb_init(cpus[i]);
        assert_non_null(soft_lapic_create(apics, cpus[i]));
        soft_lapic_mmio_write(cpus[i], 0xf0, 4, 0x1ff);
        atomic_store(&cpus[i]->requests, 0);
    }
    return 0;
}

static int teardown(void **state)
{
    for (unsigned i = 0; i < CPUS; i++) {
        soft_lapic_destroy(cpus[i]->lapic);
        soft_cpu_destroy(cpus[i]);
    }
    soft_apics_destroy(apics);
    clock_destroy(manual);
    return 0;
}

static void wr(unsigned cpu, unsigned offset, uint32_t value)
{
    soft_lapic_mmio_write(cpus[cpu], offset, 4, value);
}

static uint32_t rd(unsigned cpu, unsigned offset)
{
    return (uint32_t)soft_lapic_mmio_read(cpus[cpu], offset, 4);
}

/* The requests since the last look, as the run loop takes them. */
static uint32_t requests(unsigned cpu)
{
    uint32_t taken = atomic_exchange(&cpus[cpu]->requests, 0);

    if (taken & SOFT_REQUEST_TIMER)
        soft_lapic_timer(cpus[cpu]);
    return taken | atomic_exchange(&cpus[cpu]->requests, 0);
}

static int take(unsigned cpu)
{
    return soft_interrupt_pending(cpus[cpu]) ? soft_interrupt_acknowledge(cpus[cpu]) : -1;
}

static void send_fixed(uint32_t destination, uint8_t vector, bool level)
{
    const struct soft_message message = {
        .destination = destination, .vector = vector, .level = level};

    soft_apics_send(apics, &message);
}

static void enter_x2apic(unsigned cpu)
{
    uint64_t base;

    assert_true(soft_lapic_rdmsr(cpus[cpu], 0x1b, &base));
    assert_true(soft_lapic_wrmsr(cpus[cpu], 0x1b, base | 1 << 10));
}

/* ---- the timer ---- */

static void one_shot_fires_once_at_its_time(void **state)
{
    wr(0, 0x320, 0x40);
    wr(0, 0x3e0, 0xb); /* by 1 */
    wr(0, 0x380, 1000);
    clock_step(manual, 400);
    assert_int_equal(rd(0, 0x390), 600);
    clock_step(manual, 599);
    assert_int_equal(requests(0), 0);
    clock_step(manual, 1);
    assert_true(requests(0) & SOFT_REQUEST_INTERRUPT);
    assert_int_equal(take(0), 0x40);
    assert_int_equal(rd(0, 0x390), 0);
    clock_step(manual, 5000);
    assert_int_equal(requests(0), 0);
}

static void every_divisor_divides(void **state)
{
    const struct {
        uint32_t code;
        unsigned divisor;
    } divisors[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};

    for (unsigned i = 0; i < 8; i++) {
        wr(0, 0x3e0, divisors[i].code);
        wr(0, 0x380, 1000);
        clock_step(manual, 100 * divisors[i].divisor);
        assert_int_equal(rd(0, 0x390), 900);
        assert_int_equal(rd(0, 0x3e0), divisors[i].code);
    }
}

static void periodic_counts_again_and_coalesces_what_was_missed(void **state)
{
    wr(0, 0x320, 0x20041);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x380, 100);
    for (int i = 0; i < 3; i++) {
        clock_step(manual, 100);
        assert_true(requests(0) & SOFT_REQUEST_TIMER);
        assert_int_equal(take(0), 0x41);
        wr(0, 0xb0, 0);
    }
    clock_step(manual, 250);
    requests(0);
    assert_int_equal(take(0), 0x41);
    wr(0, 0xb0, 0);
    assert_int_equal(take(0), -1);
    assert_int_equal(rd(0, 0x390), 50);
    clock_step(manual, 50);
    requests(0);
    assert_int_equal(take(0), 0x41);
}

static void writing_zero_stops_the_count(void **state)
{
    wr(0, 0x320, 0x40);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x380, 100);
    wr(0, 0x380, 0);
    clock_step(manual, 1000);
    assert_int_equal(requests(0), 0);
    assert_int_equal(rd(0, 0x390), 0);
}

static void a_masked_timer_counts_but_stays_silent(void **state)
{
    wr(0, 0x320, 0x10040);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x380, 100);
    clock_step(manual, 60);
    assert_int_equal(rd(0, 0x390), 40);
    clock_step(manual, 60);
    requests(0);
    assert_int_equal(take(0), -1);
}

static void changing_the_divisor_keeps_the_count(void **state)
{
    wr(0, 0x320, 0x40);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x380, 1000);
    clock_step(manual, 500);
    wr(0, 0x3e0, 0); /* by 2 */
    assert_int_equal(rd(0, 0x390), 500);
    clock_step(manual, 999);
    assert_int_equal(requests(0), 0);
    clock_step(manual, 1);
    requests(0);
    assert_int_equal(take(0), 0x40);
}

static void tsc_deadline_fires_and_disarms_itself(void **state)
{
    uint64_t value;

    wr(0, 0x320, 0x40042);
    assert_true(soft_lapic_wrmsr(cpus[0], 0x6e0, 5000));
    assert_true(soft_lapic_rdmsr(cpus[0], 0x6e0, &value));
    assert_int_equal(value, 5000);
    clock_step(manual, 4999);
    requests(0);
    assert_int_equal(take(0), -1);
    clock_step(manual, 2);
    requests(0);
    assert_int_equal(take(0), 0x42);
    assert_true(soft_lapic_rdmsr(cpus[0], 0x6e0, &value));
    assert_int_equal(value, 0);
}

static void a_deadline_in_the_past_fires_at_once(void **state)
{
    clock_step(manual, 1000);
    wr(0, 0x320, 0x40042);
    soft_lapic_wrmsr(cpus[0], 0x6e0, 10);
    requests(0);
    assert_int_equal(take(0), 0x42);
}

static void a_deadline_follows_the_counters_offset(void **state)
{
    wr(0, 0x320, 0x40042);
    soft_lapic_wrmsr(cpus[0], 0x6e0, 5000);
    cpus[0]->tsc_offset = -3000;
    soft_lapic_tsc_changed(cpus[0]);
    clock_step(manual, 6000);
    requests(0);
    assert_int_equal(take(0), -1);
    clock_step(manual, 2001);
    requests(0);
    assert_int_equal(take(0), 0x42);
}

static void timer_modes_exclude_each_other(void **state)
{
    uint64_t value;

    wr(0, 0x320, 0x40); /* one-shot: the deadline is ignored */
    assert_true(soft_lapic_wrmsr(cpus[0], 0x6e0, 5000));
    soft_lapic_rdmsr(cpus[0], 0x6e0, &value);
    assert_int_equal(value, 0);
    wr(0, 0x380, 100);
    wr(0, 0x320, 0x40042); /* deadline: the count stops, and cannot be started */
    wr(0, 0x380, 100);
    clock_step(manual, 1000);
    requests(0);
    assert_int_equal(take(0), -1);
    assert_int_equal(rd(0, 0x390), 0);
}

/* ---- priorities, EOI ---- */

static void higher_classes_come_first_and_nest(void **state)
{
    send_fixed(0, 0x31, false);
    send_fixed(0, 0x52, false);
    send_fixed(0, 0x58, false);
    assert_int_equal(take(0), 0x58);
    assert_int_equal(rd(0, 0xa0), 0x50);
    assert_int_equal(take(0), -1); /* 0x52 is of the class in service */
    send_fixed(0, 0x60, false);
    assert_int_equal(take(0), 0x60);
    wr(0, 0xb0, 0);
    wr(0, 0xb0, 0);
    assert_int_equal(take(0), 0x52);
    wr(0, 0xb0, 0);
    assert_int_equal(take(0), 0x31);
}

static void task_priority_holds_interrupts_back(void **state)
{
    wr(0, 0x80, 0x40);
    send_fixed(0, 0x4f, false);
    assert_int_equal(requests(0), 0);
    assert_int_equal(take(0), -1);
    assert_int_equal(soft_lapic_cr8(cpus[0]), 4);
    soft_lapic_set_cr8(cpus[0], 3);
    assert_int_equal(rd(0, 0x80), 0x30);
    assert_true(requests(0) & SOFT_REQUEST_INTERRUPT);
    assert_int_equal(take(0), 0x4f);
}

static void only_level_interrupts_broadcast_their_eoi(void **state)
{
    send_fixed(0, 0x41, false);
    assert_int_equal(take(0), 0x41);
    wr(0, 0xb0, 0);
    assert_int_equal(eoi_count, 0);
    send_fixed(0, 0x42, true);
    assert_int_equal(take(0), 0x42);
    assert_int_equal(rd(0, 0x180 + 0x20), 1 << 2);
    wr(0, 0xb0, 0);
    assert_int_equal(eoi_count, 1);
    assert_int_equal(eoi_vector, 0x42);
    wr(0, 0xb0, 0); /* nothing in service */
    assert_int_equal(eoi_count, 1);
}

static void an_eoi_asks_for_what_waits(void **state)
{
    send_fixed(0, 0x41, false);
    send_fixed(0, 0x42, false);
    take(0);
    requests(0);
    wr(0, 0xb0, 0);
    assert_true(requests(0) & SOFT_REQUEST_INTERRUPT);
}

static void a_disabled_apic_accepts_nothing_and_masks_its_table(void **state)
{
    wr(0, 0x320, 0x40);
    wr(0, 0xf0, 0xff);
    assert_int_equal(rd(0, 0x320), 0x10040);
    wr(0, 0x320, 0x40);
    assert_int_equal(rd(0, 0x320), 0x10040);
    send_fixed(0, 0x41, false);
    assert_int_equal(rd(0, 0x220), 0);
    wr(0, 0xf0, 0x1ff);
    assert_int_equal(take(0), -1);
}

/* ---- messages ---- */

static void ipis_reach_their_shorthands(void **state)
{
    wr(0, 0x300, 0xc4041); /* all but self */
    assert_int_equal(take(0), -1);
    assert_int_equal(take(1), 0x41);
    assert_int_equal(take(2), 0x41);
    wr(1, 0x300, 0x84051); /* all */
    assert_int_equal(take(0), 0x51);
    assert_int_equal(take(1), 0x51);
    assert_int_equal(take(2), 0x51);
    wr(2, 0x300, 0x44061); /* self */
    assert_int_equal(take(0), -1);
    assert_int_equal(take(2), 0x61);
}

static void ipis_reach_their_physical_destination(void **state)
{
    wr(0, 0x310, 2 << 24);
    wr(0, 0x300, 0x4041);
    assert_int_equal(take(1), -1);
    assert_int_equal(take(2), 0x41);
    wr(0, 0x310, 0xff000000);
    wr(0, 0x300, 0x4042);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(take(i), 0x42);
}

static void logical_destinations_flat_and_cluster(void **state)
{
    for (unsigned i = 0; i < CPUS; i++)
        wr(i, 0xd0, 1U << (24 + i));
    wr(0, 0x310, 0x05000000);
    wr(0, 0x300, 0x4841);
    assert_int_equal(take(0), 0x41);
    assert_int_equal(take(1), -1);
    assert_int_equal(take(2), 0x41);
    for (unsigned i = 0; i < CPUS; i++) {
        wr(i, 0xe0, 0x0fffffff);
        wr(i, 0xd0, (i == 2 ? 0x20U : 0x10U) << 24 | 1U << (24 + i));
    }
    wr(0, 0x310, 0x17000000);
    wr(0, 0x300, 0x4871);
    assert_int_equal(take(0), 0x71);
    assert_int_equal(take(1), 0x71);
    assert_int_equal(take(2), -1);
}

static void lowest_priority_picks_the_idlest(void **state)
{
    const struct soft_message message = {
        .destination = 0xff, .logical = true, .delivery = SOFT_DELIVER_LOWEST, .vector = 0x91};

    wr(0, 0x80, 0x20);
    wr(2, 0x80, 0x10);
    wr(1, 0x80, 0x30);
    for (int i = 0; i < 4; i++) {
        soft_apics_send(apics, &message);
        assert_int_equal(take(0), -1);
        assert_int_equal(take(1), -1);
        assert_int_equal(take(2), 0x91);
        wr(2, 0xb0, 0);
    }
}

static void init_sipi_and_nmi_become_requests(void **state)
{
    wr(0, 0x310, 1 << 24);
    wr(0, 0x300, 0xc500);
    assert_int_equal(requests(1), SOFT_REQUEST_INIT);
    wr(0, 0x300, 0x8500); /* de-assert does nothing */
    assert_int_equal(requests(1), 0);
    wr(0, 0x300, 0x469a);
    assert_int_equal(requests(1), SOFT_REQUEST_SIPI);
    assert_int_equal(soft_lapic_sipi_vector(cpus[1]), 0x9a);
    wr(0, 0x300, 0x4400);
    assert_int_equal(requests(1), SOFT_REQUEST_NMI);
}

static void the_8259_reaches_the_first_cpu_by_virtual_wire(void **state)
{
    struct cpu_lapic fresh;

    soft_lapic_get(cpus[0], &fresh);
    cpu_lapic_reset(&fresh, true, 0);
    soft_lapic_set(cpus[0], &fresh);
    requests(0);
    soft_apics_set_extint(apics, true);
    assert_true(requests(0) & SOFT_REQUEST_INTERRUPT);
    assert_int_equal(take(0), 0x77);
    assert_int_equal(extint_count, 1);
    assert_int_equal(take(1), -1);
    wr(0, 0xf0, 0x1ff);
    wr(0, 0x350, 0x10700);
    assert_int_equal(take(0), -1);
    wr(0, 0x350, 0x700);
    assert_int_equal(take(0), 0x77);
    soft_apics_set_extint(apics, false);
    assert_int_equal(take(0), -1);
}

static void lint0_in_fixed_mode_follows_edges_or_levels(void **state)
{
    wr(0, 0x350, 0x45);
    soft_apics_set_extint(apics, true);
    assert_int_equal(take(0), 0x45);
    wr(0, 0xb0, 0);
    assert_int_equal(take(0), -1);
    soft_apics_set_extint(apics, false);
    wr(0, 0x350, 0x8046);
    soft_apics_set_extint(apics, true);
    assert_int_equal(rd(0, 0x350) & 1 << 14, 1 << 14);
    assert_int_equal(take(0), 0x46);
    wr(0, 0xb0, 0); /* still up */
    assert_int_equal(take(0), 0x46);
    soft_apics_set_extint(apics, false);
    wr(0, 0xb0, 0);
    assert_int_equal(take(0), -1);
}

static void extint_by_message_is_taken_once(void **state)
{
    const struct soft_message message = {.destination = 1, .delivery = SOFT_DELIVER_EXTINT};

    soft_apics_send(apics, &message);
    assert_int_equal(take(1), 0x77);
    assert_int_equal(take(1), -1);
}

/* ---- errors ---- */

static void illegal_vectors_and_registers_set_the_error_register(void **state)
{
    wr(0, 0x370, 0x33);
    wr(0, 0x300, 0x44005); /* self, vector 5 */
    assert_int_equal(rd(0, 0x280), 0);
    wr(0, 0x280, 0);
    assert_int_equal(rd(0, 0x280), 1 << 5);
    assert_int_equal(take(0), 0x33);
    wr(0, 0xb0, 0);
    send_fixed(0, 3, false);
    wr(0, 0x280, 0);
    assert_int_equal(rd(0, 0x280), 1 << 6);
    rd(0, 0x2f0);
    wr(0, 0x3d0, 1);
    wr(0, 0x280, 0);
    assert_int_equal(rd(0, 0x280), 1 << 7);
    wr(0, 0x280, 0);
    assert_int_equal(rd(0, 0x280), 0);
}

static void odd_accesses_do_no_harm(void **state)
{
    soft_lapic_mmio_write(cpus[0], 0x82, 2, 0xffff);
    soft_lapic_mmio_write(cpus[0], 0x80, 8, 0xffff);
    soft_lapic_mmio_write(cpus[0], 0xffc, 4, 0xffff);
    assert_int_equal(rd(0, 0x80), 0);
    wr(0, 0x80, 0x1234);
    assert_int_equal(rd(0, 0x80), 0x34);
    assert_int_equal(soft_lapic_mmio_read(cpus[0], 0x84, 4), 0);
    assert_int_equal(soft_lapic_mmio_read(cpus[0], 0x32, 1), 5);
}

/* ---- x2APIC ---- */

static void modes_change_only_as_the_manual_allows(void **state)
{
    struct soft_cpu *cpu = cpus[1];
    uint64_t base = 0xfee00000, on = 1 << 11, x2 = 1 << 10;

    assert_false(soft_lapic_wrmsr(cpu, 0x1b, base | x2));
    assert_true(soft_lapic_wrmsr(cpu, 0x1b, base | on | x2));
    assert_int_equal(cpu->lapic_page, SOFT_TLB_NONE);
    assert_false(soft_lapic_wrmsr(cpu, 0x1b, base | on));
    assert_true(soft_lapic_wrmsr(cpu, 0x1b, base));
    assert_false(soft_lapic_wrmsr(cpu, 0x1b, base | on | x2));
    assert_true(soft_lapic_wrmsr(cpu, 0x1b, base | on));
    assert_int_equal(cpu->lapic_page, base);
    assert_false(soft_lapic_wrmsr(cpu, 0x1b, base | on | 1));
    assert_false(soft_lapic_wrmsr(cpu, 0x1b, base | on | 1UL << 46));
    assert_true(soft_lapic_wrmsr(cpu, 0x1b, 0x123000 | on));
    assert_int_equal(cpu->lapic_page, 0x123000);
}

static void x2apic_registers_are_msrs_only_in_their_mode(void **state)
{
    uint64_t value;

    assert_false(soft_lapic_rdmsr(cpus[2], 0x802, &value));
    enter_x2apic(2);
    assert_true(soft_lapic_rdmsr(cpus[2], 0x802, &value));
    assert_int_equal(value, 2);
    assert_true(soft_lapic_rdmsr(cpus[2], 0x80d, &value));
    assert_int_equal(value, 4);
    assert_true(soft_lapic_wrmsr(cpus[2], 0x808, 0x20));
    assert_int_equal(soft_lapic_cr8(cpus[2]), 2);
}

static void x2apic_raises_on_what_xapic_ignores(void **state)
{
    static const struct {
        uint32_t index;
        uint64_t value;
    } illegal[] = {
        {0x802, 0},       {0x803, 0}, {0x808, 0x100},   {0x80a, 0},     {0x80b, 1},
        {0x80d, 0},       {0x80e, 0}, {0x810, 0},       {0x828, 1},     {0x82f, 0x10000},
        {0x830, 1 << 20}, {0x831, 0}, {0x832, 0x60000}, {0x832, 0x800}, {0x838, 1UL << 32},
        {0x839, 0},       {0x83e, 4}, {0x83f, 0x100},   {0x840, 0},     {0x8ff, 0},
    };
    static const uint32_t unreadable[] = {0x800, 0x801, 0x809, 0x80b, 0x80c, 0x80e,
                                          0x82f, 0x831, 0x83f, 0x840, 0x8ff};
    uint64_t value;

    enter_x2apic(0);
    for (unsigned i = 0; i < G_N_ELEMENTS(illegal); i++) {
        if (soft_lapic_wrmsr(cpus[0], illegal[i].index, illegal[i].value))
            fail_msg("wrmsr %x, %lx", illegal[i].index, illegal[i].value);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(unreadable); i++) {
        if (soft_lapic_rdmsr(cpus[0], unreadable[i], &value))
            fail_msg("rdmsr %x", unreadable[i]);
    }
}

static void x2apic_ipis_take_wide_destinations(void **state)
{
    for (unsigned i = 0; i < CPUS; i++)
        enter_x2apic(i);
    assert_true(soft_lapic_wrmsr(cpus[0], 0x830, 2UL << 32 | 0x41));
    assert_int_equal(take(2), 0x41);
    assert_true(soft_lapic_wrmsr(cpus[0], 0x830, 6UL << 32 | 0x842));
    assert_int_equal(take(0), -1);
    assert_int_equal(take(1), 0x42);
    assert_true(soft_lapic_wrmsr(cpus[2], 0x80b, 0));
    assert_int_equal(take(2), 0x42);
    assert_true(soft_lapic_wrmsr(cpus[0], 0x830, 0xffUL << 32 | 0x43));
    assert_int_equal(take(1), -1);
    assert_true(soft_lapic_wrmsr(cpus[0], 0x83f, 0x44));
    assert_int_equal(take(0), 0x44);
}

/* ---- state ---- */

static void a_saved_apic_goes_on_where_it_stood(void **state)
{
    struct cpu_lapic saved;

    wr(0, 0x320, 0x20041);
    wr(0, 0x3e0, 0xb);
    wr(0, 0x380, 1000);
    send_fixed(0, 0x55, true);
    clock_step(manual, 300);
    soft_lapic_get(cpus[0], &saved);
    assert_int_equal(saved.timer_current, 700);
    clock_step(manual, 100000);
    soft_lapic_set(cpus[0], &saved);
    requests(0);
    assert_int_equal(rd(0, 0x390), 700);
    assert_int_equal(take(0), 0x55);
    clock_step(manual, 699);
    assert_int_equal(requests(0), 0);
    wr(0, 0xb0, 0);
    assert_int_equal(eoi_vector, 0x55);
    clock_step(manual, 1);
    requests(0);
    assert_int_equal(take(0), 0x41);
}

static void init_forgets_but_keeps_mode_and_identity(void **state)
{
    uint64_t value;

    enter_x2apic(1);
    soft_lapic_wrmsr(cpus[1], 0x832, 0x40);
    soft_lapic_wrmsr(cpus[1], 0x838, 100);
    soft_lapic_init(cpus[1]);
    clock_step(manual, 1000);
    assert_int_equal(requests(1) & SOFT_REQUEST_TIMER, 0);
    assert_true(soft_lapic_rdmsr(cpus[1], 0x802, &value));
    assert_int_equal(value, 1);
    assert_true(soft_lapic_rdmsr(cpus[1], 0x80d, &value));
    assert_int_equal(value, 2);
    assert_true(soft_lapic_rdmsr(cpus[1], 0x80f, &value));
    assert_int_equal(value, 0xff);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_shot_fires_once_at_its_time),
        TEST(every_divisor_divides),
        TEST(periodic_counts_again_and_coalesces_what_was_missed),
        TEST(writing_zero_stops_the_count),
        TEST(a_masked_timer_counts_but_stays_silent),
        TEST(changing_the_divisor_keeps_the_count),
        TEST(tsc_deadline_fires_and_disarms_itself),
        TEST(a_deadline_in_the_past_fires_at_once),
        TEST(a_deadline_follows_the_counters_offset),
        TEST(timer_modes_exclude_each_other),
        TEST(higher_classes_come_first_and_nest),
        TEST(task_priority_holds_interrupts_back),
        TEST(only_level_interrupts_broadcast_their_eoi),
        TEST(an_eoi_asks_for_what_waits),
        TEST(a_disabled_apic_accepts_nothing_and_masks_its_table),
        TEST(ipis_reach_their_shorthands),
        TEST(ipis_reach_their_physical_destination),
        TEST(logical_destinations_flat_and_cluster),
        TEST(lowest_priority_picks_the_idlest),
        TEST(init_sipi_and_nmi_become_requests),
        TEST(the_8259_reaches_the_first_cpu_by_virtual_wire),
        TEST(lint0_in_fixed_mode_follows_edges_or_levels),
        TEST(extint_by_message_is_taken_once),
        TEST(illegal_vectors_and_registers_set_the_error_register),
        TEST(odd_accesses_do_no_harm),
        TEST(modes_change_only_as_the_manual_allows),
        TEST(x2apic_registers_are_msrs_only_in_their_mode),
        TEST(x2apic_raises_on_what_xapic_ignores),
        TEST(x2apic_ipis_take_wide_destinations),
        TEST(a_saved_apic_goes_on_where_it_stood),
        TEST(init_forgets_but_keeps_mode_and_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
