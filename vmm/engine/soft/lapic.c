// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC (SDM 3A, chapter 11): priorities, acceptance of interrupts, messages.
 *
 * A vector that arrives is set in IRR; the vCPU is asked to look when its class is above the
 * processor priority. INTA moves it to ISR, EOI clears it there. Level-triggered vectors are marked
 * in TMR, and their EOI is told to the IOAPICs.
 *
 * ExtINT follows what firmware of PCs relies on: the 8259 pair reaches vCPU 0 while its APIC is
 * switched off, or through LINT0 in ExtINT mode ("virtual wire").
 */
#include "vmm/engine/soft/lapic_internal.h"

#include <glib.h>

#include "vmm/engine/soft/mem.h"
#include "vmm/engine/soft/translator/window.h"

/* ---- 256-bit registers ---- */

static void vector_set(uint32_t bits[8], uint8_t vector)
{
    bits[vector / 32] |= 1U << vector % 32;
}

static void vector_clear(uint32_t bits[8], uint8_t vector)
{
    bits[vector / 32] &= ~(1U << vector % 32);
}

static bool vector_test(const uint32_t bits[8], uint8_t vector)
{
    return bits[vector / 32] >> vector % 32 & 1;
}

/* Highest vector, or -1. */
static int vector_highest(const uint32_t bits[8])
{
    for (int word = 7; word >= 0; word--) {
        if (bits[word])
            return word * 32 + 31 - __builtin_clz(bits[word]);
    }
    return -1;
}

/* ---- priorities ---- */

uint8_t lapic_ppr_locked(const struct soft_lapic *lapic)
{
    int in_service = vector_highest(lapic->regs.isr);
    uint8_t service_class = in_service < 0 ? 0 : in_service & 0xf0;
    uint8_t tpr = (uint8_t)lapic->regs.tpr;

    return (tpr & 0xf0) >= service_class ? tpr : service_class;
}

/* The vector that INTA would get now, or -1. */
static int deliverable_locked(const struct soft_lapic *lapic)
{
    if (!lapic_hardware_enabled(lapic) || !lapic_software_enabled(lapic))
        return -1;
    int vector = vector_highest(lapic->regs.irr);
    return vector >= 0 && (vector & 0xf0) > (lapic_ppr_locked(lapic) & 0xf0) ? vector : -1;
}

void lapic_notify_locked(struct soft_lapic *lapic)
{
    if (deliverable_locked(lapic) >= 0)
        soft_request(lapic->cpu, SOFT_REQUEST_INTERRUPT);
}

static void accept_locked(struct soft_lapic *lapic, uint8_t vector, bool level)
{
    if (vector < 16) {
        lapic_error_locked(lapic, ESR_RECEIVE_ILLEGAL);
        return;
    }
    vector_set(lapic->regs.irr, vector);
    if (level)
        vector_set(lapic->regs.tmr, vector);
    else
        vector_clear(lapic->regs.tmr, vector);
    lapic_notify_locked(lapic);
}

void lapic_error_locked(struct soft_lapic *lapic, uint32_t bits)
{
    uint32_t lvt = lapic->regs.lvt_error;
    bool fresh = bits & ~lapic->regs.esr_pending;

    lapic->regs.esr_pending |= bits;
    /* An illegal vector in the error entry itself is only recorded. */
    if (fresh && !(lvt & LVT_MASKED) && (lvt & 0xff) >= 16 && lapic_software_enabled(lapic))
        accept_locked(lapic, lvt & 0xff, false);
}

/* ---- local sources ---- */

void lapic_local_deliver_locked(struct soft_lapic *lapic, uint32_t lvt)
{
    if (lvt & LVT_MASKED || !lapic_hardware_enabled(lapic))
        return;
    switch (lvt >> 8 & 7) {
    case SOFT_DELIVER_FIXED:
        if (lapic_software_enabled(lapic))
            accept_locked(lapic, lvt & 0xff, false);
        break;
    case SOFT_DELIVER_NMI:
        soft_request(lapic->cpu, SOFT_REQUEST_NMI);
        break;
    default:
        /* ExtINT is a level that extint_accepted looks at; INIT and SMI are not wired up. */
        break;
    }
}

/* LINT0 in fixed mode with a level trigger: accepted while the line is up, once until its EOI. */
static void lint0_level_locked(struct soft_lapic *lapic)
{
    uint32_t lvt = lapic->regs.lvt_lint0;

    if (lvt & (LVT_MASKED | LVT_REMOTE) || !lapic_software_enabled(lapic))
        return;
    lapic->regs.lvt_lint0 |= LVT_REMOTE;
    accept_locked(lapic, lvt & 0xff, true);
}

static bool lint0_is_level(uint32_t lvt)
{
    return (lvt >> 8 & 7) == SOFT_DELIVER_FIXED && lvt & LVT_LEVEL;
}

static bool extint_accepted(struct soft_lapic *lapic)
{
    uint32_t lvt = lapic->regs.lvt_lint0;

    if (lapic->extint_message)
        return true;
    if (lapic->cpu->index != 0 || !atomic_load(&lapic->apics->extint))
        return false;
    return !lapic_hardware_enabled(lapic) ||
           (!(lvt & LVT_MASKED) && (lvt >> 8 & 7) == SOFT_DELIVER_EXTINT);
}

void soft_apics_set_extint(struct soft_apics *apics, bool level)
{
    bool old = atomic_exchange(&apics->extint, level);
    struct soft_lapic *lapic = atomic_load(&apics->lapics[0]);

    if (!lapic || old == level || !level)
        return;
    pthread_mutex_lock(&lapic->lock);
    if (lint0_is_level(lapic->regs.lvt_lint0))
        lint0_level_locked(lapic);
    else
        lapic_local_deliver_locked(lapic, lapic->regs.lvt_lint0);
    pthread_mutex_unlock(&lapic->lock);
    soft_request(lapic->cpu, SOFT_REQUEST_INTERRUPT);
}

/* ---- the run loop's questions ---- */

bool soft_interrupt_pending(struct soft_cpu *cpu)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    bool pending = extint_accepted(lapic) || deliverable_locked(lapic) >= 0;
    pthread_mutex_unlock(&lapic->lock);
    return pending;
}

int soft_interrupt_acknowledge(struct soft_cpu *cpu)
{
    struct soft_lapic *lapic = cpu->lapic;
    int vector = -1;

    pthread_mutex_lock(&lapic->lock);
    bool external = extint_accepted(lapic);
    if (external) {
        lapic->extint_message = false;
    } else {
        vector = deliverable_locked(lapic);
        if (vector >= 0) {
            vector_clear(lapic->regs.irr, (uint8_t)vector);
            vector_set(lapic->regs.isr, (uint8_t)vector);
        }
    }
    pthread_mutex_unlock(&lapic->lock);
    return external ? cpu->exits->extint_acknowledge(cpu->exits_opaque) : vector;
}

void lapic_eoi(struct soft_lapic *lapic)
{
    pthread_mutex_lock(&lapic->lock);
    int vector = vector_highest(lapic->regs.isr);
    bool level = false;

    if (vector >= 0) {
        vector_clear(lapic->regs.isr, (uint8_t)vector);
        level = vector_test(lapic->regs.tmr, (uint8_t)vector);
        if ((lapic->regs.lvt_lint0 & 0xff) == vector)
            lapic->regs.lvt_lint0 &= ~LVT_REMOTE;
    }
    if (lapic->cpu->index == 0 && lint0_is_level(lapic->regs.lvt_lint0) &&
        atomic_load(&lapic->apics->extint))
        lint0_level_locked(lapic);
    lapic_notify_locked(lapic);
    pthread_mutex_unlock(&lapic->lock);
    if (level)
        lapic->cpu->exits->eoi_broadcast(lapic->cpu->exits_opaque, (uint8_t)vector);
}

bool soft_lapic_enabled(const struct soft_cpu *cpu)
{
    return cpu->lapic && lapic_hardware_enabled(cpu->lapic);
}

uint8_t soft_lapic_cr8(struct soft_cpu *cpu)
{
    return cpu->lapic->regs.tpr >> 4 & 15;
}

void soft_lapic_set_cr8(struct soft_cpu *cpu, uint8_t cr8)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    lapic->regs.tpr = (cr8 & 15) << 4;
    lapic_notify_locked(lapic);
    pthread_mutex_unlock(&lapic->lock);
}

/* ---- messages ---- */

static bool matches_physical(const struct soft_lapic *lapic, const struct soft_message *message)
{
    uint32_t all = message->wide ? 0xffffffff : 0xff;

    return message->destination == all || message->destination == lapic->regs.id;
}

static bool matches_logical(const struct soft_lapic *lapic, const struct soft_message *message)
{
    uint32_t destination = message->destination, ldr = lapic->regs.ldr;

    if (destination == (message->wide ? 0xffffffff : 0xff))
        return true;
    if (lapic_x2apic(lapic))
        return destination >> 16 == ldr >> 16 && destination & ldr & 0xffff;
    destination &= 0xff;
    ldr >>= 24;
    if (lapic->regs.dfr >> 28 == 0xf) /* flat */
        return destination & ldr;
    return destination >> 4 == ldr >> 4 && destination & ldr & 15;
}

static bool matches_locked(const struct soft_lapic *lapic, const struct soft_message *message)
{
    if (!lapic_hardware_enabled(lapic))
        return false;
    return message->logical ? matches_logical(lapic, message) : matches_physical(lapic, message);
}

static void receive_locked(struct soft_lapic *lapic, const struct soft_message *message)
{
    switch (message->delivery) {
    case SOFT_DELIVER_FIXED:
    case SOFT_DELIVER_LOWEST:
        if (lapic_software_enabled(lapic))
            accept_locked(lapic, message->vector, message->level);
        break;
    case SOFT_DELIVER_NMI:
        soft_request(lapic->cpu, SOFT_REQUEST_NMI);
        break;
    case SOFT_DELIVER_INIT:
        soft_request(lapic->cpu, SOFT_REQUEST_INIT);
        break;
    case SOFT_DELIVER_SIPI:
        lapic->sipi_vector = message->vector;
        soft_request(lapic->cpu, SOFT_REQUEST_SIPI);
        break;
    case SOFT_DELIVER_EXTINT:
        lapic->extint_message = true;
        soft_request(lapic->cpu, SOFT_REQUEST_INTERRUPT);
        break;
    default:
        /* SMI: there is no SMM; 3 is reserved. */
        break;
    }
}

/* To the one of those addressed whose priority is lowest; of equal ones they take turns. */
static void send_lowest(struct soft_apics *apics, const struct soft_message *message)
{
    struct soft_lapic *best = NULL;
    unsigned best_priority = 256;
    unsigned first = atomic_fetch_add(&apics->turn, 1);

    for (unsigned i = 0; i < apics->capacity; i++) {
        struct soft_lapic *lapic = atomic_load(&apics->lapics[(first + i) % apics->capacity]);

        if (!lapic)
            continue;
        pthread_mutex_lock(&lapic->lock);
        if (matches_locked(lapic, message) && lapic_software_enabled(lapic) &&
            lapic_ppr_locked(lapic) < best_priority) {
            best = lapic;
            best_priority = lapic_ppr_locked(lapic);
        }
        pthread_mutex_unlock(&lapic->lock);
    }
    if (!best)
        return;
    pthread_mutex_lock(&best->lock);
    receive_locked(best, message);
    pthread_mutex_unlock(&best->lock);
}

/* Deliver to one if it is addressed. */
static bool offer(struct soft_lapic *lapic, const struct soft_message *message)
{
    if (!lapic)
        return false;
    pthread_mutex_lock(&lapic->lock);
    bool addressed = matches_locked(lapic, message);
    if (addressed)
        receive_locked(lapic, message);
    pthread_mutex_unlock(&lapic->lock);
    return addressed;
}

/* The one that a physical destination names is at the place of its id, which is fixed. */
static bool send_to_one(struct soft_apics *apics, const struct soft_message *message)
{
    uint32_t id = message->destination;

    return !message->logical && id < apics->capacity && id != 0xff &&
           offer(atomic_load(&apics->lapics[id]), message);
}

void soft_apics_send(struct soft_apics *apics, const struct soft_message *message)
{
    if (message->delivery == SOFT_DELIVER_LOWEST) {
        send_lowest(apics, message);
        return;
    }
    if (send_to_one(apics, message))
        return;
    for (unsigned i = 0; i < apics->capacity; i++)
        offer(atomic_load(&apics->lapics[i]), message);
}

/* Shorthands "all" and "all but self". */
static void send_to_all(struct soft_lapic *self, const struct soft_message *message, bool self_too)
{
    for (unsigned i = 0; i < self->apics->capacity; i++) {
        struct soft_lapic *lapic = atomic_load(&self->apics->lapics[i]);

        if (!lapic || (lapic == self && !self_too))
            continue;
        pthread_mutex_lock(&lapic->lock);
        if (lapic_hardware_enabled(lapic))
            receive_locked(lapic, message);
        pthread_mutex_unlock(&lapic->lock);
    }
}

enum icr_shorthand {
    ICR_DESTINATION,
    ICR_SELF,
    ICR_ALL,
    ICR_OTHERS,
};

void lapic_send_command(struct soft_lapic *lapic)
{
    uint64_t icr = lapic->regs.icr;
    struct soft_message message = {
        .destination = lapic_x2apic(lapic) ? icr >> 32 : icr >> 56,
        .wide = lapic_x2apic(lapic),
        .logical = icr >> 11 & 1,
        .delivery = icr >> 8 & 7,
        .vector = icr & 0xff,
    };

    /* INIT level de-assert only set arbitration ids, on processors long gone. */
    if (message.delivery == SOFT_DELIVER_INIT && icr >> 15 & 1 && !(icr >> 14 & 1))
        return;
    if (message.delivery <= SOFT_DELIVER_LOWEST && message.vector < 16) {
        pthread_mutex_lock(&lapic->lock);
        lapic_error_locked(lapic, ESR_SEND_ILLEGAL);
        pthread_mutex_unlock(&lapic->lock);
        return;
    }
    switch (icr >> 18 & 3) {
    case ICR_DESTINATION:
        soft_apics_send(lapic->apics, &message);
        break;
    case ICR_SELF:
        pthread_mutex_lock(&lapic->lock);
        receive_locked(lapic, &message);
        pthread_mutex_unlock(&lapic->lock);
        break;
    case ICR_ALL:
        send_to_all(lapic, &message, true);
        break;
    case ICR_OTHERS:
        send_to_all(lapic, &message, false);
        break;
    }
}

/* ---- life ---- */

void lapic_place_page(struct soft_lapic *lapic)
{
    struct soft_cpu *cpu = lapic->cpu;
    uint64_t page = SOFT_TLB_NONE;

    if (lapic_hardware_enabled(lapic) && !lapic_x2apic(lapic))
        page = lapic->regs.base_msr & ~0xfffUL;
    if (page == cpu->lapic_page)
        return;
    cpu->lapic_page = page;
    soft_tlb_flush(cpu, true);
    soft_window_set_hole(cpu, page);
}

void soft_lapic_init(struct soft_cpu *cpu)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    lapic_timer_stop_locked(lapic);
    cpu_lapic_init(&lapic->regs);
    lapic->extint_message = false;
    pthread_mutex_unlock(&lapic->lock);
}

uint8_t soft_lapic_sipi_vector(struct soft_cpu *cpu)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    uint8_t vector = lapic->sipi_vector;
    pthread_mutex_unlock(&lapic->lock);
    return vector;
}

void soft_lapic_get(struct soft_cpu *cpu, struct cpu_lapic *out)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    *out = lapic->regs;
    out->timer_current = lapic_timer_current_locked(lapic);
    pthread_mutex_unlock(&lapic->lock);
}

void soft_lapic_set(struct soft_cpu *cpu, const struct cpu_lapic *in)
{
    struct soft_lapic *lapic = cpu->lapic;

    pthread_mutex_lock(&lapic->lock);
    lapic_timer_stop_locked(lapic);
    lapic->regs = *in;
    lapic->extint_message = false;
    lapic_timer_restore_locked(lapic, in->timer_current);
    pthread_mutex_unlock(&lapic->lock);
    lapic_place_page(lapic);
    soft_request(cpu, SOFT_REQUEST_INTERRUPT);
}

struct soft_lapic *soft_lapic_create(struct soft_apics *apics, struct soft_cpu *cpu)
{
    if (cpu->index >= apics->capacity || atomic_load(&apics->lapics[cpu->index]))
        return NULL;
    struct soft_lapic *lapic = g_new0(struct soft_lapic, 1);

    lapic->apics = apics;
    lapic->cpu = cpu;
    pthread_mutex_init(&lapic->lock, NULL);
    lapic->timer = clock_timer_create(cpu->clock, "lapic", lapic_timer_callback, cpu);
    cpu_lapic_reset(&lapic->regs, cpu->index == 0, cpu->index);
    cpu->lapic = lapic;
    cpu->lapic_page = lapic->regs.base_msr & ~0xfffUL;
    atomic_store(&apics->lapics[cpu->index], lapic);
    return lapic;
}

void soft_lapic_destroy(struct soft_lapic *lapic)
{
    if (!lapic)
        return;
    atomic_store(&lapic->apics->lapics[lapic->cpu->index], NULL);
    clock_timer_destroy(lapic->timer);
    pthread_mutex_destroy(&lapic->lock);
    g_free(lapic);
}

struct soft_apics *soft_apics_create(unsigned capacity)
{
    struct soft_apics *apics = g_malloc0(sizeof(*apics) + capacity * sizeof(struct soft_lapic *));

    apics->capacity = capacity;
    return apics;
}

void soft_apics_destroy(struct soft_apics *apics)
{
    g_free(apics);
}
