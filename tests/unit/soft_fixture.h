// SPDX-License-Identifier: Apache-2.0
/*
 * A vCPU of the software engine with some RAM and no thread, for tests of its parts: tests call the
 * parts' functions and look at what was raised.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/memory.h"
#include "vmm/engine/soft/system.h"

#define FIXTURE_RAM (16UL << 20)

struct fixture {
    struct soft_cpu *cpu;
    struct memory *memory;
    uint8_t *ram; /* guest-physical 0 */
    struct cpu_definition model;
    struct exit_ops exits;
    sigjmp_buf escape;
};

/* Where a RAISED comes back to, no local variable has changed since. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wclobbered"
#endif

/* Run `statement`; gives the vector that it raised, or -1. */
#define RAISED(f, statement)                  \
    ({                                        \
        volatile int raised_ = -1;            \
        (f)->cpu->escape = &(f)->escape;      \
        if (!sigsetjmp((f)->escape, 0)) {     \
            statement;                        \
        } else {                              \
            raised_ = (f)->cpu->fault.vector; \
        }                                     \
        raised_;                              \
    })

/* Where XSAVE puts a component. */
static inline void fixture_place(struct cpu_definition *model, unsigned component, uint32_t offset,
                                 uint32_t size)
{
    model->xsave[component].offset = offset;
    model->xsave[component].size = size;
}

/* XSAVE's layout is that of Intel's processors. */
static inline void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->memory = memory_create();
    f->ram = test_memory_add(f->memory, MEMORY_RAM, 0, FIXTURE_RAM);
    f->model.physical_bits = 40;
    f->model.linear_bits = 48;
    fixture_place(&f->model, 2, 576, 256);
    fixture_place(&f->model, 5, 1088, 64);
    fixture_place(&f->model, 6, 1152, 512);
    fixture_place(&f->model, 7, 1664, 1024);
    f->cpu = soft_cpu_create();
    assert_non_null(f->cpu);
    f->cpu->memory = f->memory;
    f->cpu->model = &f->model;
    f->cpu->exits = &f->exits;
    f->cpu->exits_opaque = f;
    f->cpu->delivering = -1;
    f->cpu->rflags = FLAG_FIXED;
    f->cpu->lapic_page = SOFT_TLB_NONE;
    soft_tlb_init(f->cpu);
}

static inline void fixture_finish(struct fixture *f)
{
    soft_cpu_destroy(f->cpu);
    memory_destroy(f->memory);
}

/* Show a feature of the model. */
static inline void fixture_show(struct fixture *f, enum cpu_word word, unsigned bit)
{
    f->model.words[word] |= 1U << bit;
}

static inline void poke64(struct fixture *f, uint64_t gpa, uint64_t value)
{
    memcpy(f->ram + gpa, &value, 8);
}

static inline uint64_t peek64(const struct fixture *f, uint64_t gpa)
{
    uint64_t value;

    memcpy(&value, f->ram + gpa, 8);
    return value;
}

static inline void poke32(struct fixture *f, uint64_t gpa, uint32_t value)
{
    memcpy(f->ram + gpa, &value, 4);
}

static inline uint32_t peek32(const struct fixture *f, uint64_t gpa)
{
    uint32_t value;

    memcpy(&value, f->ram + gpa, 4);
    return value;
}

static inline void poke16(struct fixture *f, uint64_t gpa, uint16_t value)
{
    memcpy(f->ram + gpa, &value, 2);
}

static inline uint16_t peek16(const struct fixture *f, uint64_t gpa)
{
    uint16_t value;

    memcpy(&value, f->ram + gpa, 2);
    return value;
}
