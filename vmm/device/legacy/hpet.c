// SPDX-License-Identifier: Apache-2.0
/*
 * IA-PC HPET (Intel, revision 1.0a): one 64-bit counter of 10 ns, three comparators, all periodic
 * capable. Front-side-bus delivery is not offered.
 *
 * The counter is a function of the virtual clock; a timer of ours is armed for each comparator that
 * will match. A comparator that lies behind the counter matches after the counter has wrapped, as
 * hardware does. Of periods too short to be served, the interrupts merge.
 */
#include "vmm/device/legacy/hpet.h"

#include "vmm/machine/pc/layout.h"

#define TIMERS    3
#define WINDOW    1024
#define TICK_NS   10
#define PERIOD_FS (TICK_NS * 1000000ULL)

#define REG_CAPABILITIES 0x000
#define REG_CONFIG       0x010
#define REG_STATUS       0x020
#define REG_COUNTER      0x0F0
#define REG_TIMERS       0x100 /* 0x20 bytes each */
#define REG_TIMERS_END   (REG_TIMERS + 0x20 * TIMERS)

#define CONFIG_ENABLE 0x1
#define CONFIG_LEGACY 0x2

#define TIMER_LEVEL        (1U << 1)
#define TIMER_ENABLE       (1U << 2)
#define TIMER_PERIODIC     (1U << 3)
#define TIMER_PERIODIC_CAP (1U << 4)
#define TIMER_SIZE_CAP     (1U << 5)
#define TIMER_SET_VALUE    (1U << 6)
#define TIMER_32BIT        (1U << 8)
#define TIMER_ROUTE(c)     ((c) >> 9 & 31)
#define TIMER_WRITABLE \
    (TIMER_LEVEL | TIMER_ENABLE | TIMER_PERIODIC | TIMER_SET_VALUE | TIMER_32BIT | 31U << 9)

/* No more than one interrupt of a comparator in so many ticks. */
#define SHORTEST_PERIOD 2000

struct timer_state {
    uint32_t config; /* the writable bits */
    uint64_t comparator;
    uint64_t period; /* ticks; 0: none written yet */
};

struct hpet_state {
    uint32_t config;
    uint32_t status;
    uint64_t counter;  /* at `start_ns`, or while halted */
    uint64_t start_ns; /* machine time when the counter was started */
    struct timer_state timers[TIMERS];
    bool legacy[2]; /* levels of the inputs */
};

struct comparator {
    struct hpet *hpet;
    struct clock_timer *timer;
    int64_t due_ns;
};

struct hpet {
    struct device device;
    struct hpet_config config;
    struct hpet_state state;
    struct bus_window *window;
    struct comparator comparators[TIMERS];
    uint32_t raised; /* routes whose line is up */
};

static const struct state_field timer_fields[] = {
    STATE_RANGE(struct timer_state, config, 0, TIMER_WRITABLE),
    STATE_U(struct timer_state, comparator),
    STATE_U(struct timer_state, period),
};

static const struct state_table timer_table =
    STATE_TABLE("timer", 1, struct timer_state, timer_fields);

static const struct state_field fields[] = {
    STATE_RANGE(struct hpet_state, config, 0, CONFIG_ENABLE | CONFIG_LEGACY),
    STATE_RANGE(struct hpet_state, status, 0, (1 << TIMERS) - 1),
    STATE_U(struct hpet_state, counter),
    STATE_RANGE(struct hpet_state, start_ns, 0, INT64_MAX),
    STATE_NESTED_ARRAY(struct hpet_state, timers, &timer_table),
    {
        .name = "legacy",
        .type = STATE_BOOL,
        .offset = offsetof(struct hpet_state, legacy),
        .size = sizeof(bool),
        .count = 2,
    },
};

static const struct state_table table = STATE_TABLE("hpet", 1, struct hpet_state, fields);

static struct hpet *hpet_of(struct device *device)
{
    return (struct hpet *)device;
}

/* ---- counter ---- */

static bool is_enabled(const struct hpet *hpet)
{
    return hpet->state.config & CONFIG_ENABLE;
}

static bool is_legacy(const struct hpet *hpet)
{
    return hpet->state.config & CONFIG_LEGACY;
}

static uint64_t ticks_since_start(const struct hpet *hpet)
{
    uint64_t now = clock_now(hpet->device.env->clock);

    return now > hpet->state.start_ns ? (now - hpet->state.start_ns) / TICK_NS : 0;
}

static uint64_t counter_now(const struct hpet *hpet)
{
    return hpet->state.counter + (is_enabled(hpet) ? ticks_since_start(hpet) : 0);
}

/* ---- interrupt lines ---- */

static unsigned route_of(const struct hpet *hpet, unsigned index)
{
    if (is_legacy(hpet) && index < 2)
        return index ? PC_GSI_RTC : PC_GSI_PIT;
    return TIMER_ROUTE(hpet->state.timers[index].config);
}

/* The line of a route: in legacy replacement those that the HPET took over. */
static void drive_route(struct hpet *hpet, unsigned index, unsigned route, bool level)
{
    if (is_legacy(hpet) && index < 2)
        irq_set(index ? &hpet->config.irq8 : &hpet->config.irq0, level);
    else if (hpet->config.routes >> route & 1)
        irq_set(&hpet->device.env->gsi[route], level);
}

static bool asserts_level(const struct hpet *hpet, unsigned index)
{
    uint32_t wanted = TIMER_LEVEL | TIMER_ENABLE;

    return is_enabled(hpet) && (hpet->state.status >> index & 1) &&
           (hpet->state.timers[index].config & wanted) == wanted;
}

/* Level-triggered lines are up while a status bit of one of their comparators is set. */
static void update_levels_locked(struct hpet *hpet)
{
    uint32_t raised = 0;

    for (unsigned i = 0; i < TIMERS; i++) {
        if (asserts_level(hpet, i) && !(is_legacy(hpet) && i < 2))
            raised |= 1U << route_of(hpet, i);
    }
    raised &= hpet->config.routes;
    uint32_t changed = raised ^ hpet->raised;
    hpet->raised = raised;
    for (unsigned route = 0; route < 32; route++) {
        if (changed >> route & 1)
            irq_set(&hpet->device.env->gsi[route], raised >> route & 1);
    }
}

/* The two lines that interval timer and clock own, except in legacy replacement. */
static void update_legacy_locked(struct hpet *hpet)
{
    for (unsigned i = 0; i < 2; i++) {
        bool level = is_legacy(hpet) ? asserts_level(hpet, i) : hpet->state.legacy[i];
        irq_set(i ? &hpet->config.irq8 : &hpet->config.irq0, level);
    }
}

static void update_lines_locked(struct hpet *hpet)
{
    update_levels_locked(hpet);
    update_legacy_locked(hpet);
}

static void legacy_input_set(void *controller, unsigned pin, bool level)
{
    struct hpet *hpet = controller;

    g_mutex_lock(&hpet->device.lock);
    hpet->state.legacy[pin & 1] = level;
    if (!is_legacy(hpet))
        irq_set(pin & 1 ? &hpet->config.irq8 : &hpet->config.irq0, level);
    g_mutex_unlock(&hpet->device.lock);
}

struct irq_line hpet_legacy_input(struct device *device, unsigned index)
{
    return (struct irq_line){legacy_input_set, device, index & 1};
}

/* ---- comparators ---- */

static bool is_periodic(const struct timer_state *timer)
{
    return timer->config & TIMER_PERIODIC;
}

/* What `ticks` is in the comparator's width. */
static uint64_t in_width(const struct timer_state *timer, uint64_t ticks)
{
    return timer->config & TIMER_32BIT ? (uint32_t)ticks : ticks;
}

/* Machine time at which the counter will have gone on by `ticks`; INT64_MAX when out of reach. */
static int64_t deadline_after(const struct hpet *hpet, uint64_t ticks)
{
    uint64_t total;

    if (__builtin_add_overflow(ticks_since_start(hpet), ticks, &total) ||
        total > (INT64_MAX - hpet->state.start_ns) / TICK_NS)
        return INT64_MAX;
    return hpet->state.start_ns + total * TICK_NS;
}

/* Whether a match has an effect. */
static bool is_heard(const struct timer_state *timer)
{
    return timer->config & (TIMER_ENABLE | TIMER_LEVEL);
}

/* Move a periodic comparator that nobody listened to past the counter. */
static void catch_up_locked(struct hpet *hpet, unsigned index)
{
    struct timer_state *timer = &hpet->state.timers[index];
    uint64_t period = in_width(timer, timer->period);
    uint64_t late = in_width(timer, counter_now(hpet) - timer->comparator);
    uint64_t half = timer->config & TIMER_32BIT ? 1ULL << 31 : 1ULL << 63;

    if (is_periodic(timer) && !is_heard(timer) && period && late < half)
        timer->comparator = in_width(timer, timer->comparator + (late / period + 1) * period);
}

/* Arm for the next match. One that the counter has just reached is due now. */
static void arm_locked(struct hpet *hpet, unsigned index, int64_t not_before)
{
    struct comparator *comparator = &hpet->comparators[index];
    const struct timer_state *timer = &hpet->state.timers[index];
    uint64_t distance = in_width(timer, timer->comparator - counter_now(hpet));

    comparator->due_ns = INT64_MAX;
    if (is_enabled(hpet) && is_heard(timer))
        comparator->due_ns = deadline_after(hpet, distance);
    if (comparator->due_ns == INT64_MAX) {
        clock_timer_disarm(comparator->timer);
        return;
    }
    comparator->due_ns = MAX(comparator->due_ns, not_before);
    clock_timer_arm(comparator->timer, comparator->due_ns);
}

static void arm_all_locked(struct hpet *hpet)
{
    for (unsigned i = 0; i < TIMERS; i++)
        arm_locked(hpet, i, 0);
}

static void interrupt_locked(struct hpet *hpet, unsigned index)
{
    const struct timer_state *timer = &hpet->state.timers[index];

    if (timer->config & TIMER_LEVEL) {
        hpet->state.status |= 1U << index;
        update_lines_locked(hpet);
    } else if (timer->config & TIMER_ENABLE) {
        unsigned route = route_of(hpet, index);
        drive_route(hpet, index, route, true);
        drive_route(hpet, index, route, false);
    }
}

/* The comparator of a periodic timer moves on by whole periods, past the counter. A one-shot waits
 * for the counter to come round again. */
static void advance_locked(struct hpet *hpet, unsigned index)
{
    struct timer_state *timer = &hpet->state.timers[index];
    int64_t now = clock_now(hpet->device.env->clock);
    uint64_t period = in_width(timer, timer->period);

    if (is_periodic(timer) && period) {
        uint64_t late = in_width(timer, counter_now(hpet) - timer->comparator);
        timer->comparator = in_width(timer, timer->comparator + (late / period + 1) * period);
        arm_locked(hpet, index, period < SHORTEST_PERIOD ? now + SHORTEST_PERIOD * TICK_NS : 0);
        return;
    }
    uint64_t round = timer->config & TIMER_32BIT ? 1ULL << 32 : 0;
    struct comparator *comparator = &hpet->comparators[index];
    uint64_t distance = in_width(timer, timer->comparator - counter_now(hpet));
    comparator->due_ns = INT64_MAX;
    if (round)
        comparator->due_ns = deadline_after(hpet, distance ? distance : round);
    if (comparator->due_ns == INT64_MAX)
        clock_timer_disarm(comparator->timer);
    else
        clock_timer_arm(comparator->timer, comparator->due_ns);
}

static void timer_fired(void *opaque)
{
    struct comparator *comparator = opaque;
    struct hpet *hpet = comparator->hpet;
    unsigned index = comparator - hpet->comparators;

    g_mutex_lock(&hpet->device.lock);
    /* Somebody may have moved the comparator while this was on its way. */
    if (is_enabled(hpet) && comparator->due_ns <= clock_now(hpet->device.env->clock)) {
        interrupt_locked(hpet, index);
        advance_locked(hpet, index);
    }
    g_mutex_unlock(&hpet->device.lock);
}

/* ---- registers ---- */

static uint64_t read_timer(const struct hpet *hpet, uint64_t offset)
{
    const struct timer_state *timer = &hpet->state.timers[(offset - REG_TIMERS) / 0x20];

    switch (offset & 0x18) {
    case 0x00:
        return timer->config | TIMER_PERIODIC_CAP | TIMER_SIZE_CAP |
               (uint64_t)hpet->config.routes << 32;
    case 0x08:
        return timer->comparator;
    }
    return 0; /* FSB route: not offered */
}

/* The whole 64-bit register that holds `offset`. */
static uint64_t read_register(const struct hpet *hpet, uint64_t offset)
{
    offset &= ~7ULL;
    switch (offset) {
    case REG_CAPABILITIES:
        return PERIOD_FS << 32 | HPET_BLOCK_ID;
    case REG_CONFIG:
        return hpet->state.config;
    case REG_STATUS:
        return hpet->state.status;
    case REG_COUNTER:
        return counter_now(hpet);
    }
    if (offset >= REG_TIMERS && offset < REG_TIMERS_END)
        return read_timer(hpet, offset);
    return 0;
}

static void write_config_locked(struct hpet *hpet, uint32_t value)
{
    struct hpet_state *state = &hpet->state;
    uint64_t counter = counter_now(hpet);

    if (((value ^ state->config) & CONFIG_LEGACY) && (value & CONFIG_LEGACY)) {
        /* The lines change hands: let go of what comparators drive under the old wiring. */
        irq_set(&hpet->config.irq0, false);
        irq_set(&hpet->config.irq8, false);
    }
    if ((value ^ state->config) & CONFIG_ENABLE) {
        state->counter = counter;
        state->start_ns = clock_now(hpet->device.env->clock);
    }
    state->config = value & (CONFIG_ENABLE | CONFIG_LEGACY);
    arm_all_locked(hpet);
    update_lines_locked(hpet);
}

static void write_timer_config_locked(struct hpet *hpet, unsigned index, uint32_t value)
{
    struct timer_state *timer = &hpet->state.timers[index];

    catch_up_locked(hpet, index);
    timer->config = value & TIMER_WRITABLE;
    timer->comparator = in_width(timer, timer->comparator);
    timer->period = in_width(timer, timer->period);
    if (!(timer->config & TIMER_LEVEL))
        hpet->state.status &= ~(1U << index);
    arm_locked(hpet, index, 0);
    update_lines_locked(hpet);
}

/* In periodic mode a write sets the period, and the comparator itself only after TIMER_SET_VALUE.
 */
static void write_comparator_locked(struct hpet *hpet, unsigned index, uint64_t value,
                                    uint64_t mask)
{
    struct timer_state *timer = &hpet->state.timers[index];

    if (!is_periodic(timer) || (timer->config & TIMER_SET_VALUE))
        timer->comparator = in_width(timer, (timer->comparator & ~mask) | (value & mask));
    if (is_periodic(timer))
        timer->period = in_width(timer, (timer->period & ~mask) | (value & mask));
    timer->config &= ~TIMER_SET_VALUE;
    arm_locked(hpet, index, 0);
}

static void write_timer_locked(struct hpet *hpet, uint64_t offset, uint64_t value, uint64_t mask)
{
    unsigned index = (offset - REG_TIMERS) / 0x20;

    switch (offset & 0x18) {
    case 0x00:
        if (mask & UINT32_MAX)
            write_timer_config_locked(hpet, index, value);
        break;
    case 0x08:
        write_comparator_locked(hpet, index, value, mask);
        break;
    }
}

/* `value` and `mask` stand where the bytes written lie in the 64-bit register. */
static void write_register_locked(struct hpet *hpet, uint64_t offset, uint64_t value, uint64_t mask)
{
    struct hpet_state *state = &hpet->state;

    switch (offset) {
    case REG_CONFIG:
        if (mask & UINT32_MAX)
            write_config_locked(hpet, value);
        return;
    case REG_STATUS:
        state->status &= ~(value & mask);
        update_lines_locked(hpet);
        return;
    case REG_COUNTER:
        if (is_enabled(hpet))
            device_guest_error(&hpet->device, "the counter was written while it runs");
        else
            state->counter = (state->counter & ~mask) | (value & mask);
        return;
    }
    if (offset >= REG_TIMERS && offset < REG_TIMERS_END)
        write_timer_locked(hpet, offset, value, mask);
}

static uint64_t mmio_read(void *device, uint64_t offset, unsigned size)
{
    struct hpet *hpet = device;

    g_mutex_lock(&hpet->device.lock);
    for (unsigned i = 0; i < TIMERS; i++)
        catch_up_locked(hpet, i);
    uint64_t value = read_register(hpet, offset);
    g_mutex_unlock(&hpet->device.lock);
    return value >> (8 * (offset & 7));
}

static void mmio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct hpet *hpet = device;
    unsigned shift = 8 * (offset & 7);
    uint64_t mask = (size == 8 ? UINT64_MAX : UINT32_MAX) << shift;

    g_mutex_lock(&hpet->device.lock);
    write_register_locked(hpet, offset & ~7ULL, value << shift, mask);
    g_mutex_unlock(&hpet->device.lock);
}

static const struct bus_ops mmio_ops = {mmio_read, mmio_write, BUS_WIDTH_4 | BUS_WIDTH_8};

/* ---- life ---- */

static void reset(struct device *device)
{
    struct hpet *hpet = hpet_of(device);
    struct hpet_state *state = &hpet->state;

    g_mutex_lock(&device->lock);
    *state = (struct hpet_state){.legacy = {state->legacy[0], state->legacy[1]}};
    for (unsigned i = 0; i < TIMERS; i++)
        state->timers[i].comparator = UINT64_MAX;
    arm_all_locked(hpet);
    update_lines_locked(hpet);
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct hpet *hpet = hpet_of(device);

    g_mutex_lock(&device->lock);
    for (unsigned i = 0; i < TIMERS; i++)
        hpet->state.timers[i].config &= TIMER_WRITABLE;
    hpet->raised = 0;
    arm_all_locked(hpet);
    update_lines_locked(hpet);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct hpet *hpet = hpet_of(device);

    hpet->config = *(const struct hpet_config *)config;
    for (unsigned i = 0; i < TIMERS; i++) {
        struct comparator *comparator = &hpet->comparators[i];
        comparator->hpet = hpet;
        comparator->timer = clock_timer_create(device->env->clock, "hpet", timer_fired, comparator);
    }
    reset(device);
    hpet->window =
        bus_claim(device->env->mmio, device->id, hpet->config.base, WINDOW, 0, &mmio_ops, hpet);
    return true;
}

static void finish(struct device *device)
{
    struct hpet *hpet = hpet_of(device);

    bus_release(hpet->window);
    for (unsigned i = 0; i < TIMERS; i++)
        clock_timer_destroy(hpet->comparators[i].timer);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct hpet_config *)config = (struct hpet_config){
        .base = PC_HPET_BASE,
        .irq0 = env->gsi[PC_GSI_PIT],
        .irq8 = env->gsi[PC_GSI_RTC],
        .routes = 0x00F00000, /* 20 to 23, as in the ICH9 */
    };
}

const struct device_ops hpet_device = {
    .kind = "hpet",
    .description = "high-precision event timer",
    .size = sizeof(struct hpet),
    .config_size = sizeof(struct hpet_config),
    .state = &table,
    .state_offset = offsetof(struct hpet, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
