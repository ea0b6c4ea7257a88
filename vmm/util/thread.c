// SPDX-License-Identifier: Apache-2.0
#include "vmm/util/thread.h"

#include <stddef.h>

static void (*on_begin)(enum thread_kind kind);

void thread_set_guard(void (*guard)(enum thread_kind kind))
{
    on_begin = guard;
}

void thread_begin(enum thread_kind kind)
{
    if (on_begin)
        on_begin(kind);
}
