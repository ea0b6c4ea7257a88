// SPDX-License-Identifier: Apache-2.0
/*
 * 8254 programmable interval timer (Intel 8254 data sheet, 231164) at 1193182 Hz, and system
 * control port B at 0x61 (ICH9 data sheet 13.7.1).
 *
 * No channel counts: each keeps the tick at which its counting element was loaded, and everything
 * else (count, output, next edge) is a function of the current tick, which is a function of the
 * virtual clock. Only channel 0's rising edges, which are the interrupts, need a timer: the fall of
 * its line is drawn together with the next rise. A count of 1 in modes 2 and 3, which the data
 * sheet forbids, counts as 2.
 */
#include "vmm/device/legacy/pit.h"

#include "vmm/machine/pc/layout.h"

#define FREQUENCY 1193182

/* Tick 0 lies before machine time 0, so that a load "before now" is never negative. */
#define TICK_BIAS (1ULL << 20)
#define TICK_MAX  (1ULL << 50)

/* Ticks (20 us). Interrupts of a shorter period, which no CPU could serve, merge. */
#define SHORTEST_PERIOD 24

/* The refresh request toggles port B's bit 4 at this pace. */
#define REFRESH_NS 15085

enum access { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

#define PORT_B_GATE    0x01
#define PORT_B_SPEAKER 0x02
#define PORT_B_KEPT    0x0F /* and the enables of NMI sources that this board has not */
#define PORT_B_REFRESH 0x10
#define PORT_B_OUTPUT  0x20

struct channel_state {
    uint8_t mode;   /* 0 to 5 */
    uint8_t access; /* enum access, not ACCESS_LATCH */
    bool bcd;
    bool gate;
    uint16_t reload;  /* count register, as written */
    uint8_t low_byte; /* first of two bytes written */
    bool write_high, read_high;
    bool programmed;  /* a count was written since the control word */
    bool loaded;      /* the counting element has been loaded since then */
    bool running;     /* it counts; else `elapsed` stands still */
    uint32_t count;   /* its length in ticks */
    uint64_t start;   /* tick of its load */
    uint64_t elapsed; /* ticks, while not running */
    bool pending;     /* `reload` replaces `count` at tick `reload_at` (modes 2 and 3) */
    uint64_t reload_at;
    uint8_t latched_bytes; /* how many of `latched` are still to be read */
    uint16_t latched;
    bool status_latched;
    uint8_t status;
};

struct pit_state {
    struct channel_state channels[3];
    uint8_t port_b;
    bool line; /* level of channel 0's interrupt line, as last driven */
};

struct pit {
    struct device device;
    struct pit_config config;
    struct pit_state state;
    struct bus_window *window, *window_b;
    struct clock_timer *timer;
    uint64_t due; /* tick of channel 0's next rising edge */
};

static const struct state_field channel_fields[] = {
    STATE_RANGE(struct channel_state, mode, 0, 5),
    STATE_RANGE(struct channel_state, access, ACCESS_LOW, ACCESS_BOTH),
    STATE_B(struct channel_state, bcd),
    STATE_B(struct channel_state, gate),
    STATE_U(struct channel_state, reload),
    STATE_U(struct channel_state, low_byte),
    STATE_B(struct channel_state, write_high),
    STATE_B(struct channel_state, read_high),
    STATE_B(struct channel_state, programmed),
    STATE_B(struct channel_state, loaded),
    STATE_B(struct channel_state, running),
    STATE_RANGE(struct channel_state, count, 1, 65536),
    STATE_RANGE(struct channel_state, start, 0, TICK_MAX),
    STATE_RANGE(struct channel_state, elapsed, 0, TICK_MAX),
    STATE_B(struct channel_state, pending),
    STATE_RANGE(struct channel_state, reload_at, 0, TICK_MAX),
    STATE_RANGE(struct channel_state, latched_bytes, 0, 2),
    STATE_U(struct channel_state, latched),
    STATE_B(struct channel_state, status_latched),
    STATE_U(struct channel_state, status),
};

static const struct state_table channel_table =
    STATE_TABLE("channel", 1, struct channel_state, channel_fields);

static const struct state_field fields[] = {
    STATE_NESTED_ARRAY(struct pit_state, channels, &channel_table),
    STATE_RANGE(struct pit_state, port_b, 0, PORT_B_KEPT),
    STATE_B(struct pit_state, line),
};

static const struct state_table table = STATE_TABLE("pit", 1, struct pit_state, fields);

static struct pit *pit_of(struct device *device)
{
    return (struct pit *)device;
}

/* ---- ticks ---- */

static uint64_t tick_now(const struct pit *pit)
{
    return TICK_BIAS + clock_muldiv(clock_now(pit->device.env->clock), FREQUENCY, NS_PER_SECOND);
}

/* The first nanosecond that belongs to `tick`. */
static int64_t tick_to_ns(uint64_t tick)
{
    if (tick < TICK_BIAS)
        return 0;
    uint64_t ticks = tick - TICK_BIAS;
    uint64_t ns = clock_muldiv(ticks, NS_PER_SECOND, FREQUENCY);
    /* Round up unless exact. */
    return clock_muldiv(ns, FREQUENCY, NS_PER_SECOND) < ticks ? ns + 1 : ns;
}

/* ---- counting, as functions of a tick ---- */

static bool is_periodic(const struct channel_state *channel)
{
    return channel->mode == 2 || channel->mode == 3;
}

/* Length in ticks of a count register. 0 stands for the largest count. */
static uint32_t decode_count(const struct channel_state *channel)
{
    uint16_t raw = channel->reload;
    uint32_t count = raw;

    if (channel->bcd)
        count = (raw & 15) + (raw >> 4 & 15) * 10 + (raw >> 8 & 15) * 100 + (raw >> 12) * 1000;
    if (count == 0)
        count = channel->bcd ? 10000 : 65536;
    if (count == 1 && is_periodic(channel))
        count = 2;
    return count;
}

static uint64_t elapsed_at(const struct channel_state *channel, uint64_t tick)
{
    if (!channel->running)
        return channel->elapsed;
    return tick > channel->start ? tick - channel->start : 0;
}

static uint32_t high_part(uint32_t count)
{
    return (count + 1) / 2;
}

/* Apply a count that waited for the end of a period (mode 2) or half period (mode 3). */
static void settle(struct channel_state *channel, uint64_t tick)
{
    if (!channel->pending || tick < channel->reload_at)
        return;
    uint64_t phase = channel->reload_at > channel->start ? channel->reload_at - channel->start : 0;
    bool falls = phase % channel->count != 0;

    channel->pending = false;
    channel->count = decode_count(channel);
    channel->start = channel->reload_at;
    if (falls) /* the new period begins with its low half */
        channel->start -= MIN(high_part(channel->count), channel->start);
}

static bool output_at(const struct channel_state *channel, uint64_t tick)
{
    uint64_t elapsed = elapsed_at(channel, tick);

    if (!channel->loaded)
        return channel->mode != 0;
    switch (channel->mode) {
    case 0:
    case 1:
        return elapsed >= channel->count;
    case 2:
        return !channel->gate || elapsed % channel->count != channel->count - 1;
    case 3:
        return !channel->gate || elapsed % channel->count < high_part(channel->count);
    }
    return elapsed != channel->count;
}

static uint16_t count_at(const struct channel_state *channel, uint64_t tick)
{
    uint64_t elapsed = elapsed_at(channel, tick);
    uint32_t modulus = channel->bcd ? 10000 : 65536, count = channel->count;
    uint32_t phase = elapsed % count, value;

    if (channel->mode == 2)
        value = count - phase;
    else if (channel->mode == 3)
        value = (count & ~1U) - 2 * (phase < high_part(count) ? phase : phase - high_part(count));
    else
        value = (count + modulus - elapsed % modulus) % modulus;
    value %= modulus;
    if (!channel->bcd)
        return value;
    return value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 << 12;
}

/* The next tick after `tick` at which the output rises; UINT64_MAX for never. */
static uint64_t next_rise(const struct channel_state *channel, uint64_t tick)
{
    uint64_t once = UINT64_MAX;

    if (!channel->loaded || !channel->running)
        return UINT64_MAX;
    if (is_periodic(channel)) {
        struct channel_state later = *channel;

        if (later.pending) {
            settle(&later, later.reload_at);
            if (later.start == channel->reload_at) /* the new count's period begins with a rise */
                return later.start;
        }
        return later.start + (elapsed_at(&later, tick) / later.count + 1) * later.count;
    }
    once = channel->start + channel->count + (channel->mode >= 4);
    return once > tick ? once : UINT64_MAX;
}

/* ---- interrupts of channel 0 ---- */

static void drive_locked(struct pit *pit, bool level)
{
    pit->state.line = level;
    irq_set(&pit->config.irq, level);
}

static void arm_locked(struct pit *pit, uint64_t tick)
{
    const struct channel_state *channel = &pit->state.channels[0];
    int64_t deadline;

    pit->due = next_rise(channel, tick);
    if (pit->due > TICK_MAX) {
        clock_timer_disarm(pit->timer);
        return;
    }
    deadline = tick_to_ns(pit->due);
    if (is_periodic(channel) && channel->count < SHORTEST_PERIOD)
        deadline = MAX(deadline, tick_to_ns(tick + SHORTEST_PERIOD));
    clock_timer_arm(pit->timer, deadline);
}

static void timer_fired(void *opaque)
{
    struct pit *pit = opaque;
    struct channel_state *channel = &pit->state.channels[0];

    g_mutex_lock(&pit->device.lock);
    uint64_t tick = tick_now(pit);
    /* Somebody may have programmed the channel anew while this was on its way. */
    if (pit->due <= tick) {
        settle(channel, tick);
        drive_locked(pit, false);
        drive_locked(pit, true);
        arm_locked(pit, tick);
    }
    g_mutex_unlock(&pit->device.lock);
}

/* A channel was programmed or gated. */
static void changed_locked(struct pit *pit, unsigned index, uint64_t tick)
{
    if (index != 0)
        return;
    settle(&pit->state.channels[0], tick);
    drive_locked(pit, output_at(&pit->state.channels[0], tick));
    arm_locked(pit, tick);
}

/* ---- programming ---- */

/* The counting element takes the count at the next clock pulse. */
static void load(struct channel_state *channel, uint64_t tick, bool run)
{
    channel->count = decode_count(channel);
    channel->start = tick + 1;
    channel->elapsed = 0;
    channel->loaded = true;
    channel->pending = false;
    channel->running = run;
}

static void stop(struct channel_state *channel, uint64_t tick)
{
    channel->elapsed = MIN(elapsed_at(channel, tick), TICK_MAX);
    channel->running = false;
}

/* A count is there whole. */
static void count_written(struct channel_state *channel, uint64_t tick)
{
    bool first = !channel->loaded;

    channel->programmed = true;
    switch (channel->mode) {
    case 0:
    case 4:
        load(channel, tick, channel->gate);
        break;
    case 1:
    case 5: /* waits for a rising gate */
        break;
    case 2:
    case 3:
        if (first) {
            load(channel, tick, channel->gate);
        } else if (channel->running) {
            uint64_t elapsed = elapsed_at(channel, tick);
            uint64_t phase = elapsed % channel->count;
            uint64_t period = MAX(tick, channel->start) - phase;
            bool high = channel->mode == 3 && phase < high_part(channel->count);

            channel->pending = true;
            channel->reload_at = period + (high ? high_part(channel->count) : channel->count);
        }
        break;
    }
}

static void write_count_locked(struct pit *pit, unsigned index, uint8_t value)
{
    struct channel_state *channel = &pit->state.channels[index];
    uint64_t tick = tick_now(pit);

    settle(channel, tick);
    if (channel->access == ACCESS_BOTH && !channel->write_high) {
        channel->low_byte = value;
        channel->write_high = true;
        /* Mode 0 stops, with its output low, until the second byte. */
        if (channel->mode == 0) {
            stop(channel, tick);
            channel->loaded = false;
        }
    } else {
        channel->reload = channel->access == ACCESS_LOW    ? value
                          : channel->access == ACCESS_HIGH ? value << 8
                                                           : value << 8 | channel->low_byte;
        channel->write_high = false;
        count_written(channel, tick);
    }
    changed_locked(pit, index, tick);
}

static void latch_count(struct channel_state *channel, uint64_t tick)
{
    if (channel->latched_bytes)
        return;
    channel->latched = count_at(channel, tick);
    channel->latched_bytes = channel->access == ACCESS_BOTH ? 2 : 1;
    if (channel->access == ACCESS_HIGH)
        channel->latched >>= 8;
}

static bool is_null_count(const struct channel_state *channel, uint64_t tick)
{
    return !channel->loaded || channel->pending || (channel->running && tick < channel->start);
}

static void latch_status(struct channel_state *channel, uint64_t tick)
{
    if (channel->status_latched)
        return;
    channel->status_latched = true;
    channel->status = output_at(channel, tick) << 7 | is_null_count(channel, tick) << 6 |
                      channel->access << 4 | channel->mode << 1 | channel->bcd;
}

static void read_back_locked(struct pit *pit, uint8_t command)
{
    uint64_t tick = tick_now(pit);

    for (unsigned i = 0; i < 3; i++) {
        struct channel_state *channel = &pit->state.channels[i];

        if (!(command >> (i + 1) & 1))
            continue;
        settle(channel, tick);
        if (!(command & 0x20))
            latch_count(channel, tick);
        if (!(command & 0x10))
            latch_status(channel, tick);
    }
}

static void write_control_locked(struct pit *pit, uint8_t command)
{
    unsigned index = command >> 6, mode = command >> 1 & 7;
    uint64_t tick = tick_now(pit);

    if (index == 3) {
        read_back_locked(pit, command);
        return;
    }
    struct channel_state *channel = &pit->state.channels[index];
    settle(channel, tick);
    if ((command >> 4 & 3) == ACCESS_LATCH) {
        latch_count(channel, tick);
        return;
    }
    stop(channel, tick);
    channel->mode = mode > 5 ? mode & 3 : mode;
    channel->access = command >> 4 & 3;
    channel->bcd = command & 1;
    channel->programmed = channel->loaded = channel->pending = false;
    channel->write_high = channel->read_high = false;
    channel->latched_bytes = 0;
    channel->status_latched = false;
    changed_locked(pit, index, tick);
}

static uint8_t read_count_locked(struct pit *pit, unsigned index)
{
    struct channel_state *channel = &pit->state.channels[index];

    if (channel->status_latched) {
        channel->status_latched = false;
        return channel->status;
    }
    if (channel->latched_bytes) {
        uint8_t value = channel->latched;

        channel->latched >>= 8;
        channel->latched_bytes--;
        return value;
    }
    uint64_t tick = tick_now(pit);
    settle(channel, tick);
    uint16_t count = count_at(channel, tick);
    bool high = channel->access == ACCESS_HIGH;
    if (channel->access == ACCESS_BOTH) {
        high = channel->read_high;
        channel->read_high = !high;
    }
    return high ? count >> 8 : count;
}

static void set_gate(struct channel_state *channel, bool gate, uint64_t tick)
{
    bool rises = gate && !channel->gate, falls = !gate && channel->gate;

    settle(channel, tick);
    channel->gate = gate;
    switch (channel->mode) {
    case 0:
    case 4:
        if (falls) {
            stop(channel, tick);
        } else if (rises && channel->loaded) {
            channel->start = tick - MIN(channel->elapsed, tick);
            channel->running = true;
        }
        break;
    case 1:
    case 5:
        if (rises && channel->programmed)
            load(channel, tick, true);
        break;
    case 2:
    case 3:
        if (falls)
            stop(channel, tick);
        else if (rises && channel->programmed)
            load(channel, tick, true);
        break;
    }
}

/* ---- registers ---- */

static uint64_t pio_read(void *device, uint64_t offset, unsigned size)
{
    struct pit *pit = device;
    uint8_t value = 0xFF; /* the control word cannot be read */

    g_mutex_lock(&pit->device.lock);
    if (offset < 3)
        value = read_count_locked(pit, offset);
    g_mutex_unlock(&pit->device.lock);
    return value;
}

static void pio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *pit = device;

    g_mutex_lock(&pit->device.lock);
    if (offset < 3)
        write_count_locked(pit, offset, value);
    else
        write_control_locked(pit, value);
    g_mutex_unlock(&pit->device.lock);
}

static uint64_t port_b_read(void *device, uint64_t offset, unsigned size)
{
    struct pit *pit = device;
    struct channel_state *channel = &pit->state.channels[2];

    g_mutex_lock(&pit->device.lock);
    uint64_t tick = tick_now(pit);
    settle(channel, tick);
    uint8_t value = pit->state.port_b;
    if (clock_now(pit->device.env->clock) / REFRESH_NS & 1)
        value |= PORT_B_REFRESH;
    if (output_at(channel, tick))
        value |= PORT_B_OUTPUT;
    g_mutex_unlock(&pit->device.lock);
    return value;
}

static void port_b_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pit *pit = device;

    g_mutex_lock(&pit->device.lock);
    pit->state.port_b = value & PORT_B_KEPT;
    set_gate(&pit->state.channels[2], value & PORT_B_GATE, tick_now(pit));
    g_mutex_unlock(&pit->device.lock);
}

static const struct bus_ops pio_ops = {pio_read, pio_write, BUS_WIDTH_1};
static const struct bus_ops port_b_ops = {port_b_read, port_b_write, BUS_WIDTH_1};

/* ---- life ---- */

/* What the data sheet leaves undefined: mode 0 without a count, so nothing ticks. */
static void reset(struct device *device)
{
    struct pit *pit = pit_of(device);

    g_mutex_lock(&device->lock);
    pit->state = (struct pit_state){0};
    for (unsigned i = 0; i < 3; i++) {
        pit->state.channels[i].access = ACCESS_BOTH;
        pit->state.channels[i].count = 65536;
        pit->state.channels[i].gate = i != 2;
    }
    changed_locked(pit, 0, tick_now(pit));
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct pit *pit = pit_of(device);

    g_mutex_lock(&device->lock);
    settle(&pit->state.channels[0], tick_now(pit));
    irq_set(&pit->config.irq, pit->state.line);
    arm_locked(pit, tick_now(pit));
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct pit *pit = pit_of(device);
    struct bus *pio = device->env->pio;

    pit->config = *(const struct pit_config *)config;
    pit->timer = clock_timer_create(device->env->clock, "pit", timer_fired, pit);
    reset(device);
    pit->window = bus_claim(pio, device->id, PC_PORT_PIT, 4, 0, &pio_ops, pit);
    pit->window_b = bus_claim(pio, device->id, PC_PORT_SYSTEM_B, 1, 0, &port_b_ops, pit);
    return true;
}

static void finish(struct device *device)
{
    struct pit *pit = pit_of(device);

    bus_release(pit->window);
    bus_release(pit->window_b);
    clock_timer_destroy(pit->timer);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct pit_config *)config = (struct pit_config){.irq = env->gsi[PC_GSI_PIT]};
}

const struct device_ops pit_device = {
    .kind = "pit",
    .description = "interval timer (8254) and speaker port",
    .size = sizeof(struct pit),
    .config_size = sizeof(struct pit_config),
    .state = &table,
    .state_offset = offsetof(struct pit, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
