// SPDX-License-Identifier: Apache-2.0
/*
 * General-purpose instructions: their groups, asked in the order of how often they occur.
 */
#include "vmm/engine/soft/operand.h"

soft_exec_fn soft_select_integer(const struct soft_decoded *decoded, struct insn *insn)
{
    static soft_exec_fn (*const groups[])(const struct soft_decoded *, struct insn *) = {
        select_move, select_arithmetic, select_stack,    select_shift,
        select_bit,  select_multiply,   select_exchange, select_misc,
    };

    for (unsigned i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        soft_exec_fn exec = groups[i](decoded, insn);

        if (exec)
            return exec;
    }
    return NULL;
}
