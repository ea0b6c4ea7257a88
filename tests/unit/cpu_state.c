// SPDX-License-Identifier: Apache-2.0
/* The canonical vCPU state: what power-on and INIT give, the stream round trip, hostile values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "vmm/engine/cpu_state.h"

static struct cpu_state fresh(void)
{
    struct cpu_state state;

    cpu_state_reset(&state, true, 0, 0x1234);
    return state;
}

static void power_on_follows_the_manual(void **unused)
{
    struct cpu_state state = fresh();

    assert_int_equal(state.rip, 0xfff0);
    assert_int_equal(state.segments[SEG_CS].selector, 0xf000);
    assert_int_equal(state.segments[SEG_CS].base, 0xffff0000);
    assert_int_equal(state.rflags, 2);
    assert_int_equal(state.cr0, 0x60000010);
    assert_int_equal(state.gpr[GPR_RDX], 0x1234);
    assert_int_equal(state.dr6, 0xffff0ff0);
    assert_int_equal(state.mxcsr, 0x1f80);
    assert_int_equal(state.lapic.base_msr, 0xfee00900);
    assert_int_equal(state.lapic.svr, 0xff);
    assert_int_equal(state.mp_state, CPU_RUNNABLE);
    cpu_state_reset(&state, false, 3, 0x1234);
    assert_int_equal(state.mp_state, CPU_WAIT_FOR_SIPI);
    assert_int_equal(state.lapic.base_msr, 0xfee00800);
    assert_int_equal(state.lapic.id, 3);
}

static void init_keeps_what_the_manual_says(void **unused)
{
    struct cpu_state state = fresh();

    state.cr0 = 0x80000011;
    state.msrs.lstar = 0x1000;
    state.msrs.efer = 0x500;
    state.mxcsr = 0x1fa0;
    state.vector[3][5] = 7;
    state.tsc = 99;
    state.lapic.base_msr |= 0x400;
    state.lapic.irr[2] = 1;
    cpu_state_init(&state, 0x1234);
    assert_int_equal(state.cr0, 0x10);
    assert_int_equal(state.msrs.lstar, 0x1000);
    assert_int_equal(state.msrs.efer, 0);
    assert_int_equal(state.mxcsr, 0x1fa0);
    assert_int_equal(state.vector[3][5], 7);
    assert_int_equal(state.tsc, 99);
    assert_int_equal(state.lapic.base_msr, 0xfee00d00);
    assert_int_equal(state.lapic.irr[2], 0);
    assert_int_equal(state.rip, 0xfff0);
}

static void sipi_starts_at_its_page(void **unused)
{
    struct cpu_state state;

    cpu_state_reset(&state, false, 1, 0);
    cpu_state_sipi(&state, 0x9a);
    assert_int_equal(state.segments[SEG_CS].selector, 0x9a00);
    assert_int_equal(state.segments[SEG_CS].base, 0x9a000);
    assert_int_equal(state.rip, 0);
    assert_int_equal(state.mp_state, CPU_RUNNABLE);
}

/* Values of every kind that a running kernel leaves. */
static struct cpu_state busy(void)
{
    struct cpu_state state = fresh();

    srand(7);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        state.gpr[i] = (uint64_t)rand() << 32 ^ rand();
    for (unsigned i = 0; i < sizeof(state.vector); i++)
        state.vector[i / 64][i % 64] = (uint8_t)rand();
    for (unsigned i = 0; i < 80; i++)
        state.x87.registers[i / 10][i % 10] = (uint8_t)rand();
    state.cr0 = 0x80050033;
    state.cr4 = 0x6f0;
    state.cr3 = 0x1000000;
    state.msrs.efer = 0xd01;
    state.rip = 0xffffffff81000000;
    state.msrs.lstar = 0xffffffff81800000;
    state.segments[SEG_GS].base = 0xffff888000000000;
    state.lapic.irr[7] = 0x80000000;
    state.lapic.lvt_timer = 0x400ec;
    state.lapic.icr = 0x1000000c0600;
    state.event_pending = true;
    state.event_type = 3;
    state.event_vector = 1;
    state.event_payload = 0x4000;
    state.mp_state = CPU_HALTED;
    state.xcr0 = 7;
    state.tsc = 0x123456789abcdef;
    return state;
}

static void a_stream_gives_back_every_field(void **unused)
{
    struct cpu_state state = busy(), loaded = fresh();
    GError *error = NULL;
    GBytes *bytes = state_save(&cpu_state_table, &state);

    assert_true(state_load(&cpu_state_table, &loaded, bytes, &error));
    GBytes *again = state_save(&cpu_state_table, &loaded);
    assert_true(g_bytes_equal(bytes, again));
    assert_memory_equal(loaded.vector, state.vector, sizeof(state.vector));
    assert_memory_equal(loaded.gpr, state.gpr, sizeof(state.gpr));
    assert_int_equal(loaded.lapic.icr, state.lapic.icr);
    assert_int_equal(loaded.tsc, state.tsc);
    assert_int_equal(loaded.event_payload, state.event_payload);
    g_bytes_unref(again);
    g_bytes_unref(bytes);
}

/* The table lists all of the struct: a state of random bytes, cut to what the fields hold, comes
 * back whole. What no field covers is only padding. */
static size_t covered(const struct state_table *table)
{
    size_t sum = 0;

    for (unsigned i = 0; i < table->count; i++) {
        const struct state_field *field = &table->fields[i];
        sum += field->type == STATE_STRUCT ? covered(field->table) * field->count
                                           : (size_t)field->size * field->count;
    }
    return sum;
}

static void the_table_covers_the_struct_but_for_padding(void **unused)
{
    assert_in_range(sizeof(struct cpu_state) - covered(&cpu_state_table), 0, 128);
}

struct hostile {
    const char *what;
    size_t offset;
    unsigned size;
    uint64_t value;
};

#define HOSTILE(member, value_)                                                               \
    {                                                                                         \
#member, offsetof(struct cpu_state, member), sizeof(((struct cpu_state *)0)->member), \
            (value_),                                                                         \
    }

static const struct hostile hostile_values[] = {
    HOSTILE(mp_state, 4),
    HOSTILE(interrupt_shadow, 3),
    HOSTILE(rflags, 0x80000002),
    HOSTILE(rflags, 0),
    HOSTILE(cr0, 1UL << 32),
    HOSTILE(cr0, 0x80000000),
    HOSTILE(cr4, 1UL << 12),
    HOSTILE(cr4, 1UL << 63),
    HOSTILE(cr3, 1UL << 52),
    HOSTILE(cr8, 16),
    HOSTILE(dr7, 1UL << 32),
    HOSTILE(rip, 0x9000000000000000),
    HOSTILE(mxcsr, 0x10000),
    HOSTILE(xcr0, 0),
    HOSTILE(xcr0, 5),
    HOSTILE(xcr0, 0x27),
    HOSTILE(xss, 1),
    HOSTILE(in_smm, 1),
    HOSTILE(event_type, 4),
    HOSTILE(msrs.efer, 1UL << 9),
    HOSTILE(msrs.efer, 0x400),
    HOSTILE(msrs.lstar, 0x800000000000),
    HOSTILE(msrs.pat, 2),
    HOSTILE(msrs.mtrr_def_type, 2),
    HOSTILE(msrs.mtrr_fixed[10], 7),
    HOSTILE(msrs.mtrr_base[7], 3),
    HOSTILE(msrs.tsc_aux, 1UL << 32),
    HOSTILE(msrs.kvm_steal_time, 1),
    HOSTILE(gdtr.base, 0x800000000000),
    HOSTILE(segments[SEG_FS].base, 0x800000000000),
    HOSTILE(segments[SEG_CS].attributes, 0x2000),
    HOSTILE(lapic.base_msr, 0xfee00400),
    HOSTILE(lapic.base_msr, 1UL << 52),
    HOSTILE(lapic.irr[0], 1),
    HOSTILE(lapic.isr[0], 0x8000),
    HOSTILE(lapic.lvt_timer, 0x60000),
    HOSTILE(lapic.lvt_error, 0x800),
    HOSTILE(lapic.timer_divide, 4),
    HOSTILE(lapic.timer_divide, 0xc),
    HOSTILE(lapic.tpr, 0x100),
    HOSTILE(lapic.svr, 0x4000),
};

static void hostile_values_are_refused(void **unused)
{
    for (unsigned i = 0; i < sizeof(hostile_values) / sizeof(hostile_values[0]); i++) {
        const struct hostile *hostile = &hostile_values[i];
        struct cpu_state state = fresh(), target = fresh();
        GError *error = NULL;

        memcpy((uint8_t *)&state + hostile->offset, &hostile->value, hostile->size);
        GBytes *bytes = state_save(&cpu_state_table, &state);
        if (state_load(&cpu_state_table, &target, bytes, &error))
            fail_msg("%s = 0x%lx was accepted", hostile->what, hostile->value);
        g_bytes_unref(bytes);
        g_error_free(error);
    }
}

/* A register that the model has not, and bits that no guest could have written. */
static void registers_that_no_guest_could_have_written_are_refused(void **unused)
{
    static const struct hostile cases[] = {
        HOSTILE(msrs.tsc_adjust, 1), HOSTILE(msrs.spec_ctrl, 1),
        HOSTILE(msrs.debugctl, 1),   HOSTILE(msrs.misc_enable, 1 | 1 << 11),
        HOSTILE(msrs.hwcr, 0x10),    HOSTILE(msrs.de_cfg, 0x202 | 1 << 5),
        HOSTILE(msrs.mcg_status, 8), HOSTILE(msrs.mtrr_base[0], 0x6),
        HOSTILE(msrs.tsc_aux, 1),
    };
    /* AMD's has no MISC_ENABLE, Intel's none of the other two. */
    struct cpu_definition cpu = {.name = "tiny", .physical_bits = 40};
    GError *error = NULL;

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cpu_state state = fresh();

        memcpy((uint8_t *)&state + cases[i].offset, &cases[i].value, cases[i].size);
        assert_true(cpu_state_check(&state, NULL, NULL));
        for (int vendor = CPU_VENDOR_INTEL; vendor <= CPU_VENDOR_AMD; vendor++) {
            cpu.vendor = (enum cpu_vendor)vendor;
            if (cpu_state_check(&state, &cpu, &error))
                fail_msg("%s = 0x%lx was accepted", cases[i].what, cases[i].value);
            assert_non_null(strstr(error->message, "MSR 0x"));
            g_clear_error(&error);
        }
    }
    struct cpu_state state = fresh();
    cpu.vendor = CPU_VENDOR_AMD;
    state.msrs.hwcr |= 1 << 6;
    state.msrs.de_cfg |= 1 << 9;
    assert_true(cpu_state_check(&state, &cpu, NULL));
}

static void a_feature_that_the_model_has_not_is_refused_by_name(void **unused)
{
    struct cpu_state state = fresh();
    struct cpu_definition cpu = {.name = "tiny", .physical_bits = 40};
    GError *error = NULL;

    state.cr4 = 1 << 20;
    assert_true(cpu_state_check(&state, NULL, NULL));
    assert_false(cpu_state_check(&state, &cpu, &error));
    assert_non_null(strstr(error->message, "CR4.SMEP"));
    g_error_free(error);
    cpu.words[CPU_7_EBX] = 1 << 7;
    assert_true(cpu_state_check(&state, &cpu, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_on_follows_the_manual),
        cmocka_unit_test(init_keeps_what_the_manual_says),
        cmocka_unit_test(sipi_starts_at_its_page),
        cmocka_unit_test(a_stream_gives_back_every_field),
        cmocka_unit_test(the_table_covers_the_struct_but_for_padding),
        cmocka_unit_test(hostile_values_are_refused),
        cmocka_unit_test(registers_that_no_guest_could_have_written_are_refused),
        cmocka_unit_test(a_feature_that_the_model_has_not_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
