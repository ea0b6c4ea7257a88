// SPDX-License-Identifier: Apache-2.0
/*
 * The guest's vector state in the host's registers: what is loaded is what is saved, and it is only
 * there when the guest may use it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "vmm/engine/soft/translator/vector_state.h"
#include "vmm/engine/soft/vector.h"

#define GUEST_MXCSR 0x7fa5U /* rounds to zero; some flags are up */

static struct soft_cpu from, to;
static struct cpu_definition model;

static void prepare(void)
{
    for (unsigned i = 0; i < 16; i++)
        for (unsigned b = 0; b < 64; b++)
            from.vector[i].u8[b] = (uint8_t)(i * 64 + b + 1);
    from.mxcsr = GUEST_MXCSR;
    memset(to.vector, 0xee, sizeof(to.vector));
    to.mxcsr = 0;
}

static void move_and_compare(unsigned moved)
{
    prepare();
    soft_vector_load(&from, moved == 32);
    soft_vector_save(&to, moved == 32);
    assert_int_equal(__builtin_ia32_stmxcsr(), MXCSR_DEFAULT);
    assert_int_equal(to.mxcsr, GUEST_MXCSR);
    for (unsigned i = 0; i < 16; i++)
        for (unsigned b = 0; b < 64; b++)
            assert_int_equal(to.vector[i].u8[b], b < moved ? from.vector[i].u8[b] : 0xee);
    for (unsigned b = 0; b < 64; b++)
        assert_int_equal(to.vector[16].u8[b], 0xee);
}

static void what_is_loaded_is_saved(void **state)
{
    move_and_compare(16);
    if (__builtin_cpu_supports("avx"))
        move_and_compare(32);
}

static void the_guest_must_have_enabled_it(void **state)
{
    to.model = &model;
    to.cr0 = CR0_PE | CR0_ET;
    to.cr4 = CR4_OSFXSR;
    assert_true(soft_vector_allowed(&to));
    to.cr4 = 0;
    assert_false(soft_vector_allowed(&to));
    to.cr4 = CR4_OSFXSR;
    to.cr0 |= CR0_TS;
    assert_false(soft_vector_allowed(&to));
    to.cr0 = CR0_PE | CR0_EM;
    assert_false(soft_vector_allowed(&to));
    to.cr0 = CR0_PE;

    /* With AVX in the model all of it must be usable. */
    model.words[CPU_1_ECX] |= 1U << 28;
    to.xcr0 = 7;
    assert_false(soft_vector_allowed(&to));
    to.cr4 |= CR4_OSXSAVE;
    assert_true(soft_vector_allowed(&to));
    to.xcr0 = 3;
    assert_false(soft_vector_allowed(&to));
    to.xcr0 = 7;
    to.rflags = FLAG_VM;
    assert_false(soft_vector_allowed(&to));
    to.rflags = 0;
    to.cr0 = 0;
    assert_false(soft_vector_allowed(&to));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_loaded_is_saved),
        cmocka_unit_test(the_guest_must_have_enabled_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
