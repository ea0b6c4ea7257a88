// SPDX-License-Identifier: Apache-2.0
/*
 * Making a program that shows a difference small: what is not needed for it goes, unit by unit,
 * then runs, flags and registers.
 */
#include "tests/lockstep/lockstep.h"

static bool still(struct program *program, program_test test, void *opaque)
{
    program_layout(program);
    return test(program, opaque);
}

/* Leave out units [first, first + count), if that can be. */
static bool drop_units(struct program *program, unsigned first, unsigned count, program_test test,
                       void *opaque)
{
    bool dropped[UNITS];

    for (unsigned i = 0; i < count; i++) {
        dropped[i] = program->units[first + i].dropped;
        program->units[first + i].dropped = true;
    }
    if (still(program, test, opaque))
        return true;
    for (unsigned i = 0; i < count; i++)
        program->units[first + i].dropped = dropped[i];
    return false;
}

static void simplify_gaps(struct program *program, program_test test, void *opaque)
{
    for (unsigned i = 1; i < program->count; i++) {
        uint16_t gap = program->units[i].gap;

        if (!gap || program->units[i].dropped)
            continue;
        program->units[i].gap = 0;
        if (!still(program, test, opaque))
            program->units[i].gap = gap;
    }
}

static void simplify_registers(struct program *program, program_test test, void *opaque)
{
    struct kernel_data *data = (struct kernel_data *)(program->kernel + KERNEL_DATA);
    uint32_t fuel = data->fuel;

    for (data->fuel = 0; data->fuel < fuel; data->fuel++)
        if (still(program, test, opaque))
            break;
    for (unsigned i = 0; i < GPR_COUNT; i++) {
        uint64_t value = program->state.gpr[i];

        if (i == GPR_RSP)
            continue;
        program->state.gpr[i] = 0;
        if (!still(program, test, opaque))
            program->state.gpr[i] = value;
    }
}

void program_minimize(struct program *program, program_test test, void *opaque)
{
    bool again = true;

    while (again) {
        again = false;
        for (unsigned size = program->count / 2; size; size /= 2)
            for (unsigned i = 0; i + size < program->count; i += size) {
                bool any = false;

                for (unsigned j = i; j < i + size; j++)
                    any |= !program->units[j].dropped;
                if (any)
                    again |= drop_units(program, i, size, test, opaque);
            }
    }
    simplify_gaps(program, test, opaque);
    simplify_registers(program, test, opaque);
    program_layout(program);
}
