// SPDX-License-Identifier: Apache-2.0
/*
 * MC146818 real-time clock (Motorola data sheet MC146818A; ICH9 data sheet 13.6) at ports 0x70 and
 * 0x71, with the century at 0x32 (FADT's CENTURY).
 *
 * While the clock runs, its time is the machine's wall clock plus an offset that the guest set; the
 * time registers are computed when somebody looks. While it is stopped (SET, or the divider chain
 * in reset), the registers are plain memory. Leaving the divider's reset, the first update comes
 * after half a second. The flags of register C are brought up to date when it is read or when an
 * enabled interrupt falls due, so an idle clock wakes nobody. Daylight saving (DSE) does nothing,
 * as in the ICH. Memory and time outlive a reset, as behind a battery; what firmware would tell
 * about the machine's size is written at each reset.
 */
#include "vmm/device/legacy/rtc.h"

#include "vmm/machine/pc/layout.h"
#include "vmm/util/fault.h"

enum {
    REG_SECONDS,
    REG_SECONDS_ALARM,
    REG_MINUTES,
    REG_MINUTES_ALARM,
    REG_HOURS,
    REG_HOURS_ALARM,
    REG_WEEKDAY,
    REG_DAY,
    REG_MONTH,
    REG_YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    REG_EQUIPMENT = 0x14,
    REG_BASE_MEMORY = 0x15,      /* KiB, two bytes */
    REG_EXTENDED_MEMORY = 0x17,  /* KiB above 1 MiB, two bytes */
    REG_EXTENDED_MEMORY2 = 0x30, /* the same again */
    REG_CENTURY = 0x32,
    REG_MEMORY_16M = 0x34, /* 64 KiB units above 16 MiB, two bytes */
    REG_MEMORY_4G = 0x5B,  /* 64 KiB units above 4 GiB, three bytes */
    REG_CPUS = 0x5F,       /* number of CPUs less one */
    REG_COUNT = 128,
};

#define A_UIP         0x80
#define A_RATE(a)     ((a)&15)
#define A_DIVIDER(a)  ((a) >> 4 & 7)
#define DIVIDER_32KHZ 2
#define B_SET         0x80
#define B_PIE         0x40
#define B_AIE         0x20
#define B_UIE         0x10
#define B_SQWE        0x08
#define B_BINARY      0x04
#define B_24H         0x02
#define C_IRQF        0x80
#define C_PF          0x40
#define C_AF          0x20
#define C_UF          0x10
#define D_VALID       0x80

#define HOUR_PM   0x80
#define ALARM_ANY 0xC0 /* an alarm byte with these bits matches all */
#define NMI_MASK  0x80

#define CRYSTAL     32768
#define UIP_LEAD_NS 244000 /* UIP rises so long before an update */
#define DAY_SECONDS 86400
#define TIME_MAX    (1LL << 40) /* seconds: beyond the year 9999, far from overflow */

struct rtc_state {
    uint8_t index; /* as written to port 0x70, with the NMI mask */
    uint8_t cmos[REG_COUNT];
    int64_t offset_s;       /* the guest's time less the wall clock: seconds ... */
    uint32_t offset_ns;     /* ... and nanoseconds */
    int64_t settled_s;      /* guest's second up to which UF and AF are known */
    uint64_t settled_ticks; /* crystal's ticks up to which PF is known */
};

struct rtc {
    struct device device;
    struct rtc_config config;
    struct rtc_state state;
    struct bus_window *window;
    struct clock_timer *timer;
};

static bool check(const void *opaque, GError **error);

static const struct state_field fields[] = {
    STATE_U(struct rtc_state, index),
    STATE_RAW(struct rtc_state, cmos),
    STATE_I(struct rtc_state, offset_s),
    STATE_RANGE(struct rtc_state, offset_ns, 0, NS_PER_SECOND - 1),
    STATE_I(struct rtc_state, settled_s),
    STATE_U(struct rtc_state, settled_ticks),
};

static const struct state_table table = {
    .name = "rtc",
    .version = 1,
    .size = sizeof(struct rtc_state),
    .fields = fields,
    .count = G_N_ELEMENTS(fields),
    .check = check,
};

static bool check(const void *opaque, GError **error)
{
    const struct rtc_state *state = opaque;

    if (state->offset_s > -TIME_MAX && state->offset_s < TIME_MAX && state->settled_s > -TIME_MAX &&
        state->settled_s < TIME_MAX)
        return true;
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_INVALID, "rtc: the time is out of range");
    return false;
}

static struct rtc *rtc_of(struct device *device)
{
    return (struct rtc *)device;
}

/* ---- calendar ---- */

struct calendar {
    int year, month, day; /* full year, 1 to 12, 1 to 31 */
    int hour, minute, second;
    int weekday; /* 1: Sunday */
};

/* Days since 1970-01-01 of a date of the Gregorian calendar; odd months and days carry over. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year += (month - 1) / 12;
    month = (month - 1) % 12 + 1;
    if (month < 1) {
        month += 12;
        year--;
    }
    /* Count years from March, so that the leap day is the last of its year. */
    int64_t shifted = year - (month <= 2);
    int64_t era = (shifted >= 0 ? shifted : shifted - 399) / 400;
    int64_t year_of_era = shifted - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year -
           719468;
}

static struct calendar calendar_of(int64_t seconds)
{
    int64_t days = seconds / DAY_SECONDS, rest = seconds % DAY_SECONDS;

    if (rest < 0) {
        rest += DAY_SECONDS;
        days--;
    }
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* from March */

    return (struct calendar){
        .year = year_of_era + era * 400 + (month >= 10),
        .month = month < 10 ? month + 3 : month - 9,
        .day = day_of_year - (153 * month + 2) / 5 + 1,
        .hour = rest / 3600,
        .minute = rest / 60 % 60,
        .second = rest % 60,
        .weekday = ((days + 4) % 7 + 7) % 7 + 1,
    };
}

/* ---- formats of the registers ---- */

static uint8_t encode(const struct rtc_state *state, unsigned value)
{
    return state->cmos[REG_B] & B_BINARY ? value : value / 10 % 10 << 4 | value % 10;
}

static unsigned decode(const struct rtc_state *state, uint8_t value)
{
    return state->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hour(const struct rtc_state *state, unsigned hour)
{
    if (state->cmos[REG_B] & B_24H)
        return encode(state, hour);
    return encode(state, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static unsigned decode_hour(const struct rtc_state *state, uint8_t value)
{
    if (state->cmos[REG_B] & B_24H)
        return decode(state, value);
    return decode(state, value & ~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* ---- the guest's time ---- */

struct instant {
    int64_t seconds; /* since 1970 */
    uint32_t ns;
};

static bool is_running(const struct rtc_state *state)
{
    return !(state->cmos[REG_B] & B_SET) && A_DIVIDER(state->cmos[REG_A]) == DIVIDER_32KHZ;
}

static struct instant wall_now(const struct rtc *rtc)
{
    int64_t wall = clock_wall(rtc->device.env->clock);
    int64_t ns = wall % NS_PER_SECOND;

    return ns < 0 ? (struct instant){wall / NS_PER_SECOND - 1, ns + NS_PER_SECOND}
                  : (struct instant){wall / NS_PER_SECOND, ns};
}

static struct instant guest_now(const struct rtc *rtc)
{
    struct instant now = wall_now(rtc);
    uint64_t ns = (uint64_t)now.ns + rtc->state.offset_ns;

    now.seconds += rtc->state.offset_s + (ns >= NS_PER_SECOND);
    now.ns = ns % NS_PER_SECOND;
    return now;
}

/* From here on, the guest's time is `now`. */
static void set_guest_time(struct rtc *rtc, struct instant now)
{
    struct instant wall = wall_now(rtc);
    bool borrow = now.ns < wall.ns;

    rtc->state.offset_s = now.seconds - wall.seconds - borrow;
    rtc->state.offset_ns = now.ns - wall.ns + (borrow ? NS_PER_SECOND : 0);
    rtc->state.settled_s = now.seconds;
}

static void store_time(struct rtc_state *state, int64_t seconds)
{
    struct calendar calendar = calendar_of(seconds);

    state->cmos[REG_SECONDS] = encode(state, calendar.second);
    state->cmos[REG_MINUTES] = encode(state, calendar.minute);
    state->cmos[REG_HOURS] = encode_hour(state, calendar.hour);
    state->cmos[REG_WEEKDAY] = calendar.weekday;
    state->cmos[REG_DAY] = encode(state, calendar.day);
    state->cmos[REG_MONTH] = encode(state, calendar.month);
    state->cmos[REG_YEAR] = encode(state, (unsigned)calendar.year % 100);
    state->cmos[REG_CENTURY] = encode(state, (unsigned)calendar.year / 100 % 100);
}

static int64_t loaded_time(const struct rtc_state *state)
{
    int64_t year =
        decode(state, state->cmos[REG_CENTURY]) * 100LL + decode(state, state->cmos[REG_YEAR]);
    int64_t days =
        days_of(year, decode(state, state->cmos[REG_MONTH]), decode(state, state->cmos[REG_DAY]));

    return days * DAY_SECONDS + decode_hour(state, state->cmos[REG_HOURS]) * 3600LL +
           decode(state, state->cmos[REG_MINUTES]) * 60LL + decode(state, state->cmos[REG_SECONDS]);
}

/* Show the time in the registers, if it moves. */
static void refresh_locked(struct rtc *rtc)
{
    if (is_running(&rtc->state))
        store_time(&rtc->state, guest_now(rtc).seconds);
}

/* ---- flags and interrupts ---- */

static bool alarm_matches(uint8_t alarm, unsigned decoded, unsigned value)
{
    return (alarm & ALARM_ANY) == ALARM_ANY || decoded == value;
}

/* The first second after `after` that the alarm bytes match; INT64_MAX for never. */
static int64_t next_alarm(const struct rtc_state *state, int64_t after)
{
    uint8_t hours = state->cmos[REG_HOURS_ALARM], minutes = state->cmos[REG_MINUTES_ALARM],
            seconds = state->cmos[REG_SECONDS_ALARM];
    int64_t at = after + 1;

    while (at <= after + DAY_SECONDS) {
        struct calendar time = calendar_of(at);

        if (!alarm_matches(hours, decode_hour(state, hours), time.hour))
            at += 3600 - (time.minute * 60 + time.second);
        else if (!alarm_matches(minutes, decode(state, minutes), time.minute))
            at += 60 - time.second;
        else if (!alarm_matches(seconds, decode(state, seconds), time.second))
            at++;
        else
            return at;
    }
    return INT64_MAX;
}

/* Ticks of the crystal between periodic interrupts; 0 when they are off. */
static uint64_t period_ticks(const struct rtc_state *state)
{
    unsigned rate = A_RATE(state->cmos[REG_A]);

    if (!rate || A_DIVIDER(state->cmos[REG_A]) != DIVIDER_32KHZ)
        return 0;
    return 1ULL << (rate <= 2 ? rate + 6 : rate - 1);
}

static uint64_t crystal_ticks(const struct rtc *rtc)
{
    return clock_muldiv(clock_now(rtc->device.env->clock), CRYSTAL, NS_PER_SECOND);
}

/* Set the flags of what has happened since they were last brought up to date. */
static void settle_locked(struct rtc *rtc)
{
    struct rtc_state *state = &rtc->state;
    uint64_t period = period_ticks(state), ticks = crystal_ticks(rtc);

    if (period && ticks / period > state->settled_ticks / period)
        state->cmos[REG_C] |= C_PF;
    state->settled_ticks = ticks;

    if (!is_running(state))
        return;
    int64_t now = guest_now(rtc).seconds;
    if (now > state->settled_s) {
        state->cmos[REG_C] |= C_UF;
        if (next_alarm(state, state->settled_s) <= now)
            state->cmos[REG_C] |= C_AF;
    }
    state->settled_s = now;
}

/* Machine time at which the guest's clock shows `second`. */
static int64_t deadline_of_second(const struct rtc *rtc, int64_t second)
{
    struct instant now = guest_now(rtc);
    int64_t ahead = MIN(second - now.seconds, 2 * DAY_SECONDS);

    return clock_now(rtc->device.env->clock) + ahead * NS_PER_SECOND - now.ns;
}

static int64_t deadline_of_tick(uint64_t tick)
{
    uint64_t ns = clock_muldiv(tick, NS_PER_SECOND, CRYSTAL);

    return clock_muldiv(ns, CRYSTAL, NS_PER_SECOND) < tick ? ns + 1 : ns;
}

/* When the next flag whose interrupt is enabled, and that is not set yet, will be. */
static int64_t next_deadline_locked(const struct rtc *rtc)
{
    const struct rtc_state *state = &rtc->state;
    uint8_t waits = state->cmos[REG_B] & ~state->cmos[REG_C];
    uint64_t period = period_ticks(state);
    int64_t deadline = INT64_MAX;

    if ((waits & B_PIE) && period)
        deadline = deadline_of_tick((state->settled_ticks / period + 1) * period);
    if (!is_running(state))
        return deadline;
    if (waits & B_UIE)
        deadline = MIN(deadline, deadline_of_second(rtc, state->settled_s + 1));
    if (waits & B_AIE) {
        int64_t alarm = next_alarm(state, state->settled_s);
        if (alarm != INT64_MAX)
            deadline = MIN(deadline, deadline_of_second(rtc, alarm));
    }
    return deadline;
}

/* The enable bits of B stand where the flags of C do. */
static void update_locked(struct rtc *rtc)
{
    struct rtc_state *state = &rtc->state;

    settle_locked(rtc);
    if (state->cmos[REG_B] & state->cmos[REG_C] & (C_PF | C_AF | C_UF))
        state->cmos[REG_C] |= C_IRQF;
    else
        state->cmos[REG_C] &= ~C_IRQF;
    irq_set(&rtc->config.irq, state->cmos[REG_C] & C_IRQF);

    int64_t deadline = next_deadline_locked(rtc);
    if (deadline == INT64_MAX)
        clock_timer_disarm(rtc->timer);
    else
        clock_timer_arm(rtc->timer, deadline);
}

static void timer_fired(void *opaque)
{
    struct rtc *rtc = opaque;

    g_mutex_lock(&rtc->device.lock);
    update_locked(rtc);
    g_mutex_unlock(&rtc->device.lock);
}

/* ---- registers ---- */

static bool is_time(unsigned index)
{
    return index == REG_CENTURY || (index <= REG_YEAR && index != REG_SECONDS_ALARM &&
                                    index != REG_MINUTES_ALARM && index != REG_HOURS_ALARM);
}

static bool is_updating(const struct rtc *rtc)
{
    return is_running(&rtc->state) && guest_now(rtc).ns >= NS_PER_SECOND - UIP_LEAD_NS;
}

static uint8_t read_locked(struct rtc *rtc, unsigned index)
{
    struct rtc_state *state = &rtc->state;
    uint8_t value;

    switch (index) {
    case REG_A:
        return state->cmos[REG_A] | (is_updating(rtc) ? A_UIP : 0);
    case REG_C:
        update_locked(rtc);
        value = state->cmos[REG_C];
        state->cmos[REG_C] = 0;
        update_locked(rtc);
        return value;
    case REG_D:
        return D_VALID;
    }
    if (is_time(index))
        refresh_locked(rtc);
    return state->cmos[index];
}

/* Change A or B: the clock may stop (its time stays in the registers) or start from them. */
static void write_control_locked(struct rtc *rtc, unsigned index, uint8_t value)
{
    struct rtc_state *state = &rtc->state;
    bool ran = is_running(state);
    bool divider_reset = A_DIVIDER(state->cmos[REG_A]) >= 6;
    uint32_t fraction = guest_now(rtc).ns;

    refresh_locked(rtc);
    if (index == REG_A)
        state->cmos[REG_A] = value & ~A_UIP;
    else /* SET clears the update interrupt's enable */
        state->cmos[REG_B] = value & B_SET ? value & ~B_UIE : value;
    if (ran || !is_running(state))
        return;
    if (divider_reset)
        fraction = NS_PER_SECOND / 2;
    set_guest_time(rtc, (struct instant){loaded_time(state), fraction});
}

static void write_locked(struct rtc *rtc, unsigned index, uint8_t value)
{
    struct rtc_state *state = &rtc->state;

    settle_locked(rtc);
    switch (index) {
    case REG_A:
    case REG_B:
        write_control_locked(rtc, index, value);
        break;
    case REG_C:
    case REG_D:
        break;
    default:
        refresh_locked(rtc);
        state->cmos[index] = value;
        if (is_time(index) && is_running(state))
            set_guest_time(rtc, (struct instant){loaded_time(state), guest_now(rtc).ns});
    }
    update_locked(rtc);
}

static uint64_t pio_read(void *device, uint64_t offset, unsigned size)
{
    struct rtc *rtc = device;
    uint8_t value = 0xFF; /* the index cannot be read */

    g_mutex_lock(&rtc->device.lock);
    if (offset == 1)
        value = read_locked(rtc, rtc->state.index % REG_COUNT);
    g_mutex_unlock(&rtc->device.lock);
    return value;
}

static void pio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *rtc = device;

    g_mutex_lock(&rtc->device.lock);
    if (offset == 0)
        rtc->state.index = value;
    else
        write_locked(rtc, rtc->state.index % REG_COUNT, value);
    g_mutex_unlock(&rtc->device.lock);
}

static const struct bus_ops pio_ops = {pio_read, pio_write, BUS_WIDTH_1};

bool rtc_nmi_masked(struct device *device)
{
    g_mutex_lock(&device->lock);
    bool masked = rtc_of(device)->state.index & NMI_MASK;
    g_mutex_unlock(&device->lock);
    return masked;
}

/* ---- life ---- */

static void store_number(struct rtc_state *state, unsigned index, uint64_t value, unsigned bytes)
{
    uint64_t largest = (1ULL << (8 * bytes)) - 1;

    value = MIN(value, largest);
    for (unsigned i = 0; i < bytes; i++)
        state->cmos[index + i] = value >> (8 * i);
}

static uint64_t above(uint64_t size, uint64_t start)
{
    return size > start ? size - start : 0;
}

/* What firmware finds out at power-on. */
static void describe_machine(struct rtc *rtc)
{
    const struct rtc_config *config = &rtc->config;
    struct rtc_state *state = &rtc->state;
    const uint64_t mib = 1 << 20;

    state->cmos[REG_EQUIPMENT] = 0x06; /* FPU, pointing device */
    store_number(state, REG_BASE_MEMORY, MIN(config->ram_low / 1024, 640), 2);
    store_number(state, REG_EXTENDED_MEMORY, above(config->ram_low, mib) / 1024, 2);
    store_number(state, REG_EXTENDED_MEMORY2, above(config->ram_low, mib) / 1024, 2);
    store_number(state, REG_MEMORY_16M, above(config->ram_low, 16 * mib) / 65536, 2);
    store_number(state, REG_MEMORY_4G, config->ram_high / 65536, 3);
    store_number(state, REG_CPUS, config->cpus ? config->cpus - 1 : 0, 1);
}

static void reset(struct device *device)
{
    struct rtc *rtc = rtc_of(device);
    struct rtc_state *state = &rtc->state;

    g_mutex_lock(&device->lock);
    state->index = 0;
    state->cmos[REG_B] &= ~(B_PIE | B_AIE | B_UIE | B_SQWE);
    state->cmos[REG_C] = 0;
    describe_machine(rtc);
    update_locked(rtc);
    g_mutex_unlock(&device->lock);
}

static void pre_save(struct device *device)
{
    struct rtc *rtc = rtc_of(device);

    g_mutex_lock(&device->lock);
    settle_locked(rtc);
    refresh_locked(rtc);
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct rtc *rtc = rtc_of(device);

    g_mutex_lock(&device->lock);
    /* Time was set back by the load, or the wall clock jumped: neither is an update. */
    if (rtc->state.settled_ticks > crystal_ticks(rtc))
        rtc->state.settled_ticks = crystal_ticks(rtc);
    update_locked(rtc);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct rtc *rtc = rtc_of(device);

    rtc->config = *(const struct rtc_config *)config;
    rtc->timer = clock_timer_create(device->env->clock, "rtc", timer_fired, rtc);
    rtc->state.cmos[REG_A] = DIVIDER_32KHZ << 4 | 6; /* 1024 Hz */
    rtc->state.cmos[REG_B] = B_24H;
    rtc->state.settled_s = guest_now(rtc).seconds;
    rtc->state.settled_ticks = crystal_ticks(rtc);
    refresh_locked(rtc);
    reset(device);
    rtc->window = bus_claim(device->env->pio, device->id, PC_PORT_RTC, 2, 0, &pio_ops, rtc);
    return true;
}

static void finish(struct device *device)
{
    struct rtc *rtc = rtc_of(device);

    bus_release(rtc->window);
    clock_timer_destroy(rtc->timer);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct rtc_config *)config = (struct rtc_config){
        .irq = env->gsi[PC_GSI_RTC],
        .ram_low = 128 << 20,
        .cpus = 1,
    };
}

static const char *const kept_over_reset[] = {"cmos",      "offset_s",      "offset_ns",
                                              "settled_s", "settled_ticks", NULL};

const struct device_ops rtc_device = {
    .kind = "rtc",
    .description = "real-time clock and CMOS memory",
    .size = sizeof(struct rtc),
    .config_size = sizeof(struct rtc_config),
    .state = &table,
    .state_offset = offsetof(struct rtc, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .kept_over_reset = kept_over_reset,
    .pre_save = pre_save,
    .post_load = post_load,
};
