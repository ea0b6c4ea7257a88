// SPDX-License-Identifier: Apache-2.0
/*
 * Aliases of guest memory among threads: TLB entries and decoded code of each vCPU, and the
 * authority in memory/ that asks to drop them.
 *
 * A vCPU's thread is inside or outside. Who needs an alias dropped raises the vCPU's count of
 * wanted flushes and waits until it is done, or until the vCPU is outside: it flushes before it
 * comes in again. A vCPU that waits for another steps outside itself, so that two may wait for each
 * other; it does so only between instructions or from a device's handler, where it holds no bare
 * pointer.
 *
 * A locked access that no instruction of the host can do (across pages that do not lie side by
 * side, to a register) is done alone: every other vCPU is outside and does not come in.
 *
 * A page that becomes code is announced in a ring, and nobody waits: each vCPU that is inside drops
 * its writable entries of it at its next boundary, and says so. Until all have, a write to the page
 * may go unseen, so what is decoded of it is not kept (block.c).
 *
 * Code that was written is dropped without waiting: the architecture demands that another processor
 * serializes before it relies on new code (SDM 3A, 9.1.3).
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/engine/soft/block.h"
#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/soft.h"
#include "vmm/engine/soft/translator/window.h"

static _Thread_local struct soft_cpu *current;

void soft_set_current(struct soft_cpu *cpu)
{
    current = cpu;
    soft_window_load(cpu);
}

/* ---- inside and outside ---- */

static void wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void wait_while(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void soft_take_flush(struct soft_cpu *cpu)
{
    struct vcpu *vcpu = cpu->vcpu;
    uint32_t wanted = vcpu ? atomic_load(&vcpu->flush_wanted) : 0;
    uint64_t marks = vcpu ? atomic_load(&cpu->engine->marks) : 0;

    soft_tlb_flush(cpu, true);
    if (!vcpu)
        return;
    atomic_store(&vcpu->marks_done, marks);
    atomic_store(&vcpu->flush_done, wanted);
    wake(&vcpu->flush_done);
}

void soft_leave(struct soft_cpu *cpu)
{
    struct vcpu *vcpu = cpu->vcpu;

    if (!vcpu)
        return;
    atomic_store(&vcpu->outside, 1);
    if (atomic_load(&cpu->engine->exclusive))
        wake(&vcpu->outside);
    /* Who waits may have looked at `outside` before, and sleeps on the other word from now on: that
     * one must change. */
    if (atomic_load(&vcpu->flush_wanted) != atomic_load(&vcpu->flush_done))
        soft_take_flush(cpu);
}

/* Come in, which another that executes alone forbids. Who comes first is decided by the order of
 * two stores and loads: each tells first and looks then. */
static void pass_in(struct soft_cpu *cpu)
{
    _Atomic uint32_t *exclusive = &cpu->engine->exclusive;

    for (;;) {
        atomic_store(&cpu->vcpu->outside, 0);
        uint32_t alone = atomic_load(exclusive);

        if (!alone || alone == cpu->index + 1)
            return;
        soft_leave(cpu);
        wait_while(exclusive, alone);
    }
}

void soft_enter(struct soft_cpu *cpu)
{
    struct vcpu *vcpu = cpu->vcpu;

    if (!vcpu)
        return;
    pass_in(cpu);
    if (atomic_load(&vcpu->flush_wanted) != atomic_load(&vcpu->flush_done))
        soft_take_flush(cpu);
    soft_take_marks(cpu);
    if (soft_blocks_written(cpu))
        atomic_fetch_or(&cpu->requests, SOFT_REQUEST_CODE);
}

/* Until `vcpu` holds no alias from before. One that is outside is left alone: it looks when it
 * comes in. */
static void flush_and_wait(struct vcpu *vcpu)
{
    uint32_t wanted = atomic_fetch_add(&vcpu->flush_wanted, 1) + 1;

    if (atomic_load(&vcpu->outside))
        return;
    soft_request(vcpu->cpu, SOFT_REQUEST_FLUSH);
    for (;;) {
        uint32_t done = atomic_load(&vcpu->flush_done);

        if ((int32_t)(done - wanted) >= 0 || atomic_load(&vcpu->outside))
            return;
        wait_while(&vcpu->flush_done, done);
    }
}

/* All vCPUs but the current one. */
static void flush_others(struct soft_engine *engine)
{
    bool inside = current && !atomic_load(&current->vcpu->outside);

    if (engine->count == 1 && current)
        return;
    if (inside)
        soft_leave(current);
    for (unsigned i = 0; i < engine->count; i++) {
        struct vcpu *vcpu = engine->vcpus[i];

        if (vcpu && vcpu->cpu != current)
            flush_and_wait(vcpu);
    }
    if (inside)
        soft_enter(current);
}

/* ---- pages that become code ---- */

void soft_take_marks(struct soft_cpu *cpu)
{
    struct vcpu *vcpu = cpu->vcpu;
    struct soft_engine *engine = cpu->engine;
    uint64_t done, marks;

    if (!vcpu)
        return;
    done = atomic_load(&vcpu->marks_done);
    marks = atomic_load(&engine->marks);
    if (done == marks)
        return;
    if (marks - done < SOFT_MARKS)
        for (uint64_t i = done; i < marks; i++)
            soft_tlb_protect(cpu, atomic_load(&engine->marked[i % SOFT_MARKS]));
    /* What was overwritten, before or meanwhile, is not known. */
    if (atomic_load(&engine->marks) - done >= SOFT_MARKS)
        soft_tlb_flush(cpu, true);
    atomic_store(&vcpu->marks_done, marks);
}

uint64_t soft_mark_code(struct soft_cpu *cpu, uint64_t page)
{
    struct soft_engine *engine = cpu->engine;
    uint64_t mark;

    if (!cpu->vcpu) {
        memory_mark_code(cpu->memory, page);
        return 0;
    }
    /* Whoever finds the page marked finds the mark announced too. */
    pthread_mutex_lock(&engine->marks_lock);
    memory_mark_code(cpu->memory, page);
    mark = atomic_load(&engine->marks);
    pthread_mutex_unlock(&engine->marks_lock);
    return mark;
}

bool soft_mark_settled(const struct soft_cpu *cpu, uint64_t mark)
{
    const struct soft_engine *engine = cpu->engine;

    for (unsigned i = 0; cpu->vcpu && i < engine->count; i++) {
        const struct vcpu *vcpu = engine->vcpus[i];

        if (vcpu && vcpu != cpu->vcpu && atomic_load(&vcpu->marks_done) < mark &&
            !atomic_load(&vcpu->outside))
            return false;
    }
    return true;
}

/* ---- executing alone ---- */

void soft_step_out(struct soft_cpu *cpu)
{
    soft_leave(cpu);
    soft_enter(cpu);
}

static void wait_outside(struct vcpu *vcpu)
{
    if (!atomic_load(&vcpu->outside))
        soft_request(vcpu->cpu, SOFT_REQUEST_STEP_OUT);
    while (!atomic_load(&vcpu->outside))
        wait_while(&vcpu->outside, 0);
}

void soft_exclusive_begin(struct soft_cpu *cpu)
{
    struct soft_engine *engine = cpu->engine;

    cpu->exclusive = true;
    if (!cpu->vcpu)
        return;
    soft_leave(cpu);
    pthread_mutex_lock(&engine->exclusive_lock);
    atomic_store(&engine->exclusive, cpu->index + 1);
    for (unsigned i = 0; i < engine->count; i++)
        if (engine->vcpus[i] && i != cpu->index)
            wait_outside(engine->vcpus[i]);
    soft_enter(cpu);
}

void soft_exclusive_end(struct soft_cpu *cpu)
{
    cpu->exclusive = false;
    if (!cpu->vcpu)
        return;
    atomic_store(&cpu->engine->exclusive, 0);
    wake(&cpu->engine->exclusive);
    pthread_mutex_unlock(&cpu->engine->exclusive_lock);
}

/* ---- what memory/ says ---- */

/* A vCPU must drop decoded code soon; one that is outside looks when it comes in. */
static void ask_to_drain(struct vcpu *vcpu)
{
    if (vcpu->cpu == current || !atomic_load(&vcpu->outside))
        soft_blocks_ask(vcpu->cpu);
}

static void unmapped(void *opaque, uint64_t base, uint64_t size)
{
    struct soft_engine *engine = opaque;

    for (unsigned i = 0; i < engine->count; i++) {
        if (!engine->vcpus[i])
            continue;
        soft_blocks_unmapped(engine->vcpus[i]->cpu);
        ask_to_drain(engine->vcpus[i]);
    }
    soft_windows_unmapped(engine->windows, base, size);
    if (current)
        soft_tlb_flush(current, true);
    flush_others(engine);
}

static void write_protected(void *opaque, uint64_t page)
{
    struct soft_engine *engine = opaque;

    soft_windows_protect(engine->windows, page);
    if (current)
        soft_tlb_protect(current, page);
    flush_others(engine);
}

static void code_marked(void *opaque, uint64_t page)
{
    struct soft_engine *engine = opaque;
    uint64_t mark = atomic_load(&engine->marks);

    soft_windows_protect(engine->windows, page);
    if (current)
        soft_tlb_protect(current, page);
    atomic_store(&engine->marked[mark % SOFT_MARKS], page);
    atomic_store(&engine->marks, mark + 1);
    for (unsigned i = 0; i < engine->count; i++) {
        struct vcpu *vcpu = engine->vcpus[i];

        if (vcpu && vcpu->cpu != current && !atomic_load(&vcpu->outside))
            soft_request(vcpu->cpu, SOFT_REQUEST_MARKS);
    }
}

static void code_written(void *opaque, uint64_t page)
{
    struct soft_engine *engine = opaque;

    for (unsigned i = 0; i < engine->count; i++) {
        if (!engine->vcpus[i])
            continue;
        soft_blocks_page_written(engine->vcpus[i]->cpu, page);
        ask_to_drain(engine->vcpus[i]);
    }
}

const struct memory_listener soft_listener = {
    .unmapped = unmapped,
    .write_protected = write_protected,
    .code_marked = code_marked,
    .code_written = code_written,
};

/* ---- calls out ---- */

static const struct engine_config *config(const struct soft_cpu *cpu)
{
    return &cpu->engine->config;
}

static uint64_t exit_mmio_read(void *opaque, uint64_t address, unsigned size)
{
    struct soft_cpu *cpu = opaque;

    soft_count(&cpu->counters.mmio);
    soft_leave(cpu);
    uint64_t value = config(cpu)->exits->mmio_read(config(cpu)->opaque, address, size);
    soft_enter(cpu);
    return value;
}

static void exit_mmio_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
    struct soft_cpu *cpu = opaque;

    soft_count(&cpu->counters.mmio);
    soft_leave(cpu);
    config(cpu)->exits->mmio_write(config(cpu)->opaque, address, size, value);
    soft_enter(cpu);
}

static uint32_t exit_pio_read(void *opaque, uint16_t port, unsigned size)
{
    struct soft_cpu *cpu = opaque;

    soft_count(&cpu->counters.ports);
    soft_leave(cpu);
    uint32_t value = config(cpu)->exits->pio_read(config(cpu)->opaque, port, size);
    soft_enter(cpu);
    return value;
}

static void exit_pio_write(void *opaque, uint16_t port, unsigned size, uint32_t value)
{
    struct soft_cpu *cpu = opaque;

    soft_count(&cpu->counters.ports);
    soft_leave(cpu);
    config(cpu)->exits->pio_write(config(cpu)->opaque, port, size, value);
    soft_enter(cpu);
}

static uint8_t exit_extint_acknowledge(void *opaque)
{
    struct soft_cpu *cpu = opaque;

    soft_leave(cpu);
    uint8_t vector = config(cpu)->exits->extint_acknowledge(config(cpu)->opaque);
    soft_enter(cpu);
    return vector;
}

static void exit_eoi_broadcast(void *opaque, uint8_t vector)
{
    struct soft_cpu *cpu = opaque;

    soft_leave(cpu);
    config(cpu)->exits->eoi_broadcast(config(cpu)->opaque, vector);
    soft_enter(cpu);
}

static uint64_t exit_hypercall(void *opaque, unsigned vcpu, uint64_t number, const uint64_t args[4])
{
    struct soft_cpu *cpu = opaque;

    soft_leave(cpu);
    uint64_t result = config(cpu)->exits->hypercall(config(cpu)->opaque, vcpu, number, args);
    soft_enter(cpu);
    return result;
}

const struct exit_ops soft_exits = {
    .mmio_read = exit_mmio_read,
    .mmio_write = exit_mmio_write,
    .pio_read = exit_pio_read,
    .pio_write = exit_pio_write,
    .extint_acknowledge = exit_extint_acknowledge,
    .eoi_broadcast = exit_eoi_broadcast,
    .hypercall = exit_hypercall,
};
