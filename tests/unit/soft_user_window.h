// SPDX-License-Identifier: Apache-2.0
/*
 * Two vCPUs of the software engine with windows of user address spaces, for tests of those. Page
 * tables are real ones in RAM; each page of RAM from STAMPS on begins with its own address, so that
 * a window tells what it shows. Whether the host lets an address be read or written is asked by
 * system calls, which fail where an access would raise a signal.
 *
 * On a host without FSGSBASE, and under a sanitizer that is in the way, there are no windows:
 * windowed() skips the test.
 */
#pragma once

#include <errno.h>
#include <signal.h>

#include "tests/unit/soft_paging.h"
#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/control.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/tlb.h"
#include "vmm/engine/soft/translator/translator.h"
#include "vmm/engine/soft/translator/user_window.h"
#include "vmm/engine/soft/translator/window.h"
#include "vmm/machine/clock.h"

#define USER   (P | W | U | A | D)
#define STAMPS 0x100000UL /* what lies below is for tables and code */

struct user {
    struct fixture base; /* the first vCPU */
    struct soft_cpu *second;
    struct soft_engine engine;
    struct soft_windows *windows;
    int pipe[2];
};

/* The translator's, which cmocka replaces by its own around each test. */
static struct sigaction on_fault;

static inline void unmapped(void *opaque, uint64_t base, uint64_t size)
{
    struct user *user = opaque;

    soft_tlb_flush(user->base.cpu, true);
    soft_page_forget(user->base.cpu);
    soft_page_forget(user->second);
    soft_windows_unmapped(user->windows, base, size);
}

static inline void code_written(void *opaque, uint64_t page)
{
    struct user *user = opaque;

    soft_blocks_page_written(user->base.cpu, page);
    soft_blocks_ask(user->base.cpu);
}

static inline void write_protected(void *opaque, uint64_t page)
{
    struct user *user = opaque;

    soft_tlb_protect(user->base.cpu, page);
    soft_windows_protect(user->windows, page);
}

static inline void enter_user_mode(struct fixture *f)
{
    enter_long_mode(f);
    f->cpu->seg[SEG_CS].attributes = 0x2fb;
    f->cpu->seg[SEG_CS].selector = 0x33;
    f->cpu->seg[SEG_SS].attributes = 0xf3;
    f->cpu->cpl = 3;
    soft_update_mode(f->cpu);
}

static inline void give_translator(struct user *user, struct soft_cpu *cpu)
{
    cpu->clock = clock_create_manual(0);
    cpu->engine = &user->engine;
    cpu->blocks = soft_blocks_create(cpu);
    cpu->translator = soft_translator_create(cpu, NULL);
}

static inline void take_translator(struct soft_cpu *cpu)
{
    struct clock *clock = cpu->clock;

    soft_window_leave(cpu);
    soft_translator_destroy(cpu->translator);
    soft_blocks_destroy(cpu->blocks);
    clock_destroy(clock);
}

/* As the first one is now. */
static inline struct soft_cpu *make_second(struct user *user)
{
    const struct soft_cpu *first = user->base.cpu;
    struct soft_cpu *cpu = soft_cpu_create();

    assert_non_null(cpu);
    cpu->memory = first->memory;
    cpu->model = first->model;
    cpu->exits = first->exits;
    cpu->exits_opaque = first->exits_opaque;
    cpu->delivering = -1;
    cpu->rflags = FLAG_FIXED;
    cpu->lapic_page = SOFT_TLB_NONE;
    soft_tlb_init(cpu);
    cpu->cr0 = first->cr0;
    cpu->cr4 = first->cr4;
    cpu->cr3 = first->cr3;
    cpu->msrs.efer = first->msrs.efer;
    memcpy(cpu->seg, first->seg, sizeof(cpu->seg));
    cpu->cpl = first->cpl;
    soft_update_mode(cpu);
    give_translator(user, cpu);
    return cpu;
}

/* `eager`: each address space has windows at once. */
static inline void user_begin(void **state, bool eager)
{
    struct user *user = calloc(1, sizeof(*user));
    struct fixture *f = &user->base;
    const struct memory_listener listener = {.unmapped = unmapped,
                                             .write_protected = write_protected,
                                             .code_written = code_written,
                                             .opaque = user};

    fixture_init(f);
    *state = user;
    fixture_show(f, CPU_80000001_EDX, 26); /* pages of 1 GB */
    for (uint64_t page = STAMPS; page < FIXTURE_RAM; page += 0x1000)
        poke64(f, page, page);
    user->engine = (struct soft_engine){.count = 1, .switches.eager = eager};
    give_translator(user, f->cpu);
    enter_user_mode(f);
    user->second = make_second(user);
    if (!on_fault.sa_sigaction) /* it is installed once */
        sigaction(SIGSEGV, NULL, &on_fault);
    assert_int_equal(pipe(user->pipe), 0);
    if (f->cpu->translator && user->second->translator && soft_windows_supported()) {
        user->windows = soft_windows_create(f->memory);
        assert_true(soft_window_join(user->windows, f->cpu));
        assert_true(soft_window_join(user->windows, user->second));
        soft_window_load(f->cpu);
    }
    assert_true(memory_listen(f->memory, &listener, NULL));
}

/* After the tables were made. */
static inline void user_start(struct user *user)
{
    soft_window_update(user->base.cpu);
    soft_window_update(user->second);
}

static inline int user_end(void **state)
{
    struct user *user = *state;

    soft_window_load(NULL);
    memory_unlisten(user->base.memory, user);
    take_translator(user->base.cpu);
    take_translator(user->second);
    soft_windows_destroy(user->windows);
    soft_cpu_destroy(user->second);
    close(user->pipe[0]);
    close(user->pipe[1]);
    fixture_finish(&user->base);
    free(user);
    return 0;
}

static inline struct user *windowed(void **state)
{
    struct user *user = *state;

    if (!user->base.cpu->user_windows)
        skip();
    return user;
}

/* Where a vCPU's user code finds the address. */
static inline void *host_of(const struct soft_cpu *cpu, uint64_t linear)
{
    return (void *)(linear + cpu->user_delta[linear >> WINDOW_SLOT_SHIFT]);
}

/* What is there; false where that would raise a signal. */
static inline bool peek(const struct user *user, const struct soft_cpu *cpu, uint64_t linear,
                        uint64_t *value)
{
    if (write(user->pipe[1], host_of(cpu, linear), 8) != 8) {
        assert_int_equal(errno, EFAULT);
        return false;
    }
    assert_int_equal(read(user->pipe[0], value, 8), 8);
    return true;
}

static inline bool readable(const struct user *user, const struct soft_cpu *cpu, uint64_t linear)
{
    uint64_t value;

    return peek(user, cpu, linear, &value);
}

/* Writes what is there already. */
static inline bool writable(const struct user *user, const struct soft_cpu *cpu, uint64_t linear)
{
    uint64_t value;

    if (!peek(user, cpu, linear, &value))
        return false;
    assert_int_equal(write(user->pipe[1], &value, 8), 8);
    if (read(user->pipe[0], host_of(cpu, linear), 8) == 8)
        return true;
    assert_int_equal(errno, EFAULT);
    assert_int_equal(read(user->pipe[0], &value, 8), 8);
    return false;
}

static inline bool shows(const struct user *user, const struct soft_cpu *cpu, uint64_t linear,
                         uint64_t physical)
{
    uint64_t value;

    return peek(user, cpu, linear, &value) && value == physical;
}

static inline void show(struct soft_cpu *cpu, uint64_t linear, bool write)
{
    assert_int_equal(soft_window_fault(cpu, linear, write), WINDOW_ENTERED);
}

/* `kept`: without a flush. */
static inline void switch_to(struct soft_cpu *cpu, uint64_t root, unsigned pcid, bool kept)
{
    soft_write_cr3(cpu, root | pcid | (uint64_t)kept << 63);
}
