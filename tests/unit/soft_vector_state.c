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

#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/vector_state.h"
#include "vmm/engine/soft/vector.h"

#define GUEST_MXCSR 0x7fa5U /* rounds to zero; some flags are up */

static struct soft_cpu from, to;
static struct cpu_definition model;

static void prepare(void)
{
    for (unsigned i = 0; i < 32; i++)
        for (unsigned b = 0; b < 64; b++)
            from.vector[i].u8[b] = (uint8_t)(i * 64 + b + 1);
    for (unsigned i = 0; i < 8; i++)
        from.opmask[i] = 0x0123456789abcdef + i;
    from.mxcsr = GUEST_MXCSR;
    memset(to.vector, 0xee, sizeof(to.vector));
    memset(to.opmask, 0xee, sizeof(to.opmask));
    to.mxcsr = 0;
}

/* `moved` bytes of `count` registers. */
static void move_and_compare(enum soft_vector_width width, unsigned moved, unsigned count)
{
    soft_vector_load(&from, width);
    soft_vector_save(&to, width);
    assert_int_equal(__builtin_ia32_stmxcsr(), MXCSR_DEFAULT);
    assert_int_equal(to.mxcsr, GUEST_MXCSR);
    for (unsigned i = 0; i < 32; i++)
        for (unsigned b = 0; b < 64; b++)
            assert_int_equal(to.vector[i].u8[b],
                             i < count && b < moved ? from.vector[i].u8[b] : 0xee);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(to.opmask[i], count == 32 ? from.opmask[i] : 0xeeeeeeeeeeeeeeee);
}

static void what_is_loaded_is_saved(void **state)
{
    prepare();
    move_and_compare(SOFT_VECTOR_128, 16, 16);
    prepare();
    if (__builtin_cpu_supports("avx"))
        move_and_compare(SOFT_VECTOR_256, 32, 16);
    prepare();
    if (soft_host_has_avx512())
        move_and_compare(SOFT_VECTOR_512, 64, 32);
}

/* Upper parts that are all 0 are made so in another way than by loading them. */
static void upper_parts_of_0_are_loaded_as_0(void **state)
{
    if (!soft_host_has_avx512())
        skip();
    for (unsigned used = 0; used <= 16; used++) {
        prepare();
        for (unsigned i = 0; i < 16; i++)
            memset(from.vector[i].u8 + 16, 0, 48);
        if (used < 16) /* but one byte of one register */
            from.vector[used].u8[16 + used * 3] = 1;
        move_and_compare(SOFT_VECTOR_512, 64, 32);
    }
}

static void the_guest_must_have_enabled_it(void **state)
{
    to.model = &model;
    to.cr0 = CR0_PE | CR0_ET;
    to.cr4 = CR4_OSFXSR;
    assert_true(soft_vector_allowed(&to, false));
    to.cr4 = 0;
    assert_false(soft_vector_allowed(&to, false));
    to.cr4 = CR4_OSFXSR;
    to.cr0 |= CR0_TS;
    assert_false(soft_vector_allowed(&to, false));
    to.cr0 = CR0_PE | CR0_EM;
    assert_false(soft_vector_allowed(&to, false));
    to.cr0 = CR0_PE;

    /* With AVX in the model all of it must be usable. */
    model.words[CPU_1_ECX] |= 1U << 28;
    to.xcr0 = 7;
    assert_false(soft_vector_allowed(&to, false));
    to.cr4 |= CR4_OSXSAVE;
    assert_true(soft_vector_allowed(&to, false));
    to.xcr0 = 3;
    assert_false(soft_vector_allowed(&to, false));
    to.xcr0 = 7;
    to.rflags = FLAG_VM;
    assert_false(soft_vector_allowed(&to, false));
    to.rflags = 0;
    to.cr0 = 0;
    assert_false(soft_vector_allowed(&to, false));
    to.cr0 = CR0_PE;

    /* AVX-512 only for those who need it. */
    assert_true(soft_vector_allowed(&to, false));
    assert_false(soft_vector_allowed(&to, true));
    to.xcr0 = 0xe7;
    assert_true(soft_vector_allowed(&to, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_loaded_is_saved),
        cmocka_unit_test(upper_parts_of_0_are_loaded_as_0),
        cmocka_unit_test(the_guest_must_have_enabled_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
