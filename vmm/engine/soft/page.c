// SPDX-License-Identifier: Apache-2.0
/*
 * Host addresses of guest pages. A vCPU remembers the ranges of memory that it used last, so that a
 * TLB miss looks nothing up; they are aliases as TLB entries are, and fall with them.
 */
#include "vmm/engine/soft/tlb.h"

static const struct memory_view *find_view(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_tlb_log *log = &cpu->tlb_log;
    struct memory_view view;

    for (unsigned i = 0; i < SOFT_VIEWS; i++)
        if (page - log->views[i].base < log->views[i].size)
            return &log->views[i];
    if (!memory_view(cpu->memory, page, &view))
        return NULL;
    memmove(&log->views[1], &log->views[0], sizeof(log->views) - sizeof(log->views[0]));
    log->views[0] = view;
    return &log->views[0];
}

const uint8_t *soft_page_read(struct soft_cpu *cpu, uint64_t page)
{
    const struct memory_view *view = find_view(cpu, page);

    return view ? view->host + (page - view->base) : NULL;
}

uint8_t *soft_page_write(struct soft_cpu *cpu, uint64_t page, bool *keep)
{
    const struct memory_view *view = find_view(cpu, page);

    *keep = true;
    if (view && memory_view_writable(view, page - view->base))
        return view->host + (page - view->base);
    return memory_write_begin(cpu->memory, page, keep);
}

bool soft_page_has_code(struct soft_cpu *cpu, uint64_t page)
{
    const struct memory_view *view = find_view(cpu, page);

    return view && !memory_view_writable(view, page - view->base) &&
           memory_has_code(cpu->memory, page);
}

void soft_page_forget(struct soft_cpu *cpu)
{
    for (unsigned i = 0; i < SOFT_VIEWS; i++)
        cpu->tlb_log.views[i].size = 0;
}
