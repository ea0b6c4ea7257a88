// SPDX-License-Identifier: Apache-2.0
/*
 * The power management block of the ICH9's LPC bridge (data sheet 13.8), its APM ports 0xB2 and
 * 0xB3 (13.7.2) and reset control register 0xCF9 (13.7.5); semantics of the fixed registers by
 * ACPI 4.8.
 *
 * There is no SMM: a write to the SMI command port switches SCI_EN at once, as firmware's handler
 * would, and SMI_EN.APMC_EN reads 1 from reset on, which tells firmware that SMIs are set up. The
 * timer is 32 bits wide; its overflow flag is brought up to date when it is read or when its
 * interrupt falls due. TCO, at the block's end, is not there.
 */
#include "vmm/device/legacy/acpi_pm.h"

#include "vmm/machine/pc/layout.h"

#define TIMER_HZ   3579545
#define TIMER_HALF (1ULL << 31) /* TMROF is set whenever bit 31 changes */

#define WINDOW (PC_PORT_TCO - PC_PORT_ACPI_PM)

#define PM1_TMROF    (1 << 0)
#define PM1_GBL      (1 << 5)
#define PM1_PWRBTN   (1 << 8)
#define PM1_SLPBTN   (1 << 9)
#define PM1_RTC      (1 << 10)
#define PM1_WAK      (1 << 15)
#define PM1_STATUSES (PM1_TMROF | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC | PM1_WAK)
#define PM1_ENABLES  (PM1_TMROF | PM1_GBL | PM1_PWRBTN | PM1_SLPBTN | PM1_RTC)

#define CONTROL_SCI_EN     (1 << 0)
#define CONTROL_SLP_TYP(c) ((c) >> 10 & 7)
#define CONTROL_SLP_EN     (1 << 13)
#define CONTROL_KEPT       0x1C03 /* SCI_EN, BM_RLD, SLP_TYP */

#define REG_SMI_EN  0x30
#define SMI_APMC_EN (1 << 5)

#define RESET_SYSTEM 0x02
#define RESET_CPU    0x04
#define RESET_FULL   0x08

struct acpi_pm_state {
    uint16_t pm1_status, pm1_enable, pm1_control;
    uint64_t gpe_status, gpe_enable;
    uint64_t gpe_lines; /* levels of the inputs */
    uint32_t smi_enable;
    uint8_t apm_control, apm_status;
    uint8_t reset_control;
    uint64_t settled_half; /* half rounds of the timer up to which TMROF is known */
};

struct acpi_pm {
    struct device device;
    struct acpi_pm_config config;
    struct acpi_pm_state state;
    struct bus_window *window, *apm_window, *reset_window;
    struct clock_timer *timer;
};

static const struct state_field fields[] = {
    STATE_U(struct acpi_pm_state, pm1_status),   STATE_U(struct acpi_pm_state, pm1_enable),
    STATE_U(struct acpi_pm_state, pm1_control),  STATE_U(struct acpi_pm_state, gpe_status),
    STATE_U(struct acpi_pm_state, gpe_enable),   STATE_U(struct acpi_pm_state, gpe_lines),
    STATE_U(struct acpi_pm_state, smi_enable),   STATE_U(struct acpi_pm_state, apm_control),
    STATE_U(struct acpi_pm_state, apm_status),   STATE_U(struct acpi_pm_state, reset_control),
    STATE_U(struct acpi_pm_state, settled_half),
};

static const struct state_table table = STATE_TABLE("acpi_pm", 1, struct acpi_pm_state, fields);

static struct acpi_pm *acpi_pm_of(struct device *device)
{
    return (struct acpi_pm *)device;
}

/* ---- timer and interrupt ---- */

static uint64_t timer_ticks(const struct acpi_pm *pm)
{
    return clock_muldiv(clock_now(pm->device.env->clock), TIMER_HZ, NS_PER_SECOND);
}

static int64_t tick_to_ns(uint64_t tick)
{
    uint64_t ns = clock_muldiv(tick, NS_PER_SECOND, TIMER_HZ);

    return clock_muldiv(ns, TIMER_HZ, NS_PER_SECOND) < tick ? ns + 1 : ns;
}

static void settle_locked(struct acpi_pm *pm)
{
    uint64_t half = timer_ticks(pm) / TIMER_HALF;

    if (half != pm->state.settled_half)
        pm->state.pm1_status |= PM1_TMROF;
    pm->state.settled_half = half;
}

static void update_locked(struct acpi_pm *pm)
{
    struct acpi_pm_state *state = &pm->state;

    settle_locked(pm);
    bool asks = (state->pm1_status & state->pm1_enable) || (state->gpe_status & state->gpe_enable);
    irq_set(&pm->config.sci, asks && (state->pm1_control & CONTROL_SCI_EN));

    if (state->pm1_enable & ~state->pm1_status & PM1_TMROF)
        clock_timer_arm(pm->timer, tick_to_ns((state->settled_half + 1) * TIMER_HALF));
    else
        clock_timer_disarm(pm->timer);
}

static void timer_fired(void *opaque)
{
    struct acpi_pm *pm = opaque;

    g_mutex_lock(&pm->device.lock);
    update_locked(pm);
    g_mutex_unlock(&pm->device.lock);
}

static void latch(struct device *device, uint16_t statuses)
{
    struct acpi_pm *pm = acpi_pm_of(device);

    g_mutex_lock(&device->lock);
    pm->state.pm1_status |= statuses;
    update_locked(pm);
    g_mutex_unlock(&device->lock);
}

void acpi_pm_power_button(struct device *device)
{
    latch(device, PM1_PWRBTN);
}

void acpi_pm_wake(struct device *device)
{
    latch(device, PM1_WAK | PM1_PWRBTN);
}

static void gpe_set(void *controller, unsigned pin, bool level)
{
    struct acpi_pm *pm = controller;
    struct acpi_pm_state *state = &pm->state;
    uint64_t bit = 1ULL << pin;

    g_mutex_lock(&pm->device.lock);
    if (level && !(state->gpe_lines & bit))
        state->gpe_status |= bit;
    state->gpe_lines = level ? state->gpe_lines | bit : state->gpe_lines & ~bit;
    update_locked(pm);
    g_mutex_unlock(&pm->device.lock);
}

struct irq_line acpi_pm_gpe(struct device *device, unsigned bit)
{
    return bit < 64 ? (struct irq_line){gpe_set, device, bit} : (struct irq_line){0};
}

/* ---- sleep ---- */

/* What to ask of the machine once the lock is dropped. */
enum request { REQUEST_NONE, REQUEST_POWER_OFF, REQUEST_SLEEP, REQUEST_RESET };

static enum request sleep_locked(struct acpi_pm *pm, unsigned type)
{
    switch (type) {
    case PC_SLP_TYP_S1: /* the CPU stops and is woken at once */
        pm->state.pm1_status |= PM1_WAK;
        return REQUEST_NONE;
    case PC_SLP_TYP_S3:
        return REQUEST_SLEEP;
    case PC_SLP_TYP_S4: /* the system saved itself to disk */
    case PC_SLP_TYP_S5:
        return REQUEST_POWER_OFF;
    }
    device_guest_error(&pm->device, "sleep type %u is none of this machine's", type);
    return REQUEST_NONE;
}

static void carry_out(struct acpi_pm *pm, enum request request)
{
    const struct machine_requests *requests = &pm->device.env->requests;

    switch (request) {
    case REQUEST_NONE:
        break;
    case REQUEST_POWER_OFF:
        requests->power_off(requests->machine, "ACPI power-off");
        break;
    case REQUEST_SLEEP:
        requests->sleep(requests->machine, 3);
        break;
    case REQUEST_RESET:
        requests->reset(requests->machine, "reset control register");
        break;
    }
}

/* ---- registers of the block, as 32-bit words ---- */

static uint32_t read_word_locked(struct acpi_pm *pm, uint64_t word)
{
    struct acpi_pm_state *state = &pm->state;

    settle_locked(pm);
    switch (word) {
    case PC_PM_EVENT:
        return state->pm1_status | (uint32_t)state->pm1_enable << 16;
    case PC_PM_CONTROL:
        return state->pm1_control;
    case PC_PM_TIMER:
        return timer_ticks(pm);
    case PC_PM_GPE0:
        return state->gpe_status;
    case PC_PM_GPE0 + 4:
        return state->gpe_status >> 32;
    case PC_PM_GPE0 + 8:
        return state->gpe_enable;
    case PC_PM_GPE0 + 12:
        return state->gpe_enable >> 32;
    case REG_SMI_EN:
        return state->smi_enable;
    }
    return 0;
}

/* Bits of `value` under `mask` replace those of `*field`. */
#define REPLACE(field, value, mask) ((field) = ((field) & ~(mask)) | ((value) & (mask)))

static enum request write_control_locked(struct acpi_pm *pm, uint32_t value, uint32_t mask)
{
    REPLACE(pm->state.pm1_control, value, mask & CONTROL_KEPT);
    if (!(value & mask & CONTROL_SLP_EN))
        return REQUEST_NONE;
    return sleep_locked(pm, CONTROL_SLP_TYP(pm->state.pm1_control));
}

static enum request write_word_locked(struct acpi_pm *pm, uint64_t word, uint32_t value,
                                      uint32_t mask)
{
    struct acpi_pm_state *state = &pm->state;
    uint64_t wide = value & mask, wide_mask = mask;

    settle_locked(pm);
    switch (word) {
    case PC_PM_EVENT: /* statuses are cleared by writing 1 */
        state->pm1_status &= ~(value & mask & PM1_STATUSES);
        REPLACE(state->pm1_enable, value >> 16, mask >> 16 & PM1_ENABLES);
        break;
    case PC_PM_CONTROL:
        return write_control_locked(pm, value, mask);
    case PC_PM_GPE0:
        state->gpe_status &= ~wide;
        break;
    case PC_PM_GPE0 + 4:
        state->gpe_status &= ~(wide << 32);
        break;
    case PC_PM_GPE0 + 8:
        REPLACE(state->gpe_enable, wide, wide_mask);
        break;
    case PC_PM_GPE0 + 12:
        REPLACE(state->gpe_enable, wide << 32, wide_mask << 32);
        break;
    case REG_SMI_EN:
        REPLACE(state->smi_enable, value, mask);
        break;
    }
    return REQUEST_NONE;
}

static uint64_t pm_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;

    g_mutex_lock(&pm->device.lock);
    uint32_t value = read_word_locked(pm, offset & ~3ULL);
    g_mutex_unlock(&pm->device.lock);
    return value >> (8 * (offset & 3)) & (UINT32_MAX >> (32 - 8 * size));
}

static void pm_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;
    unsigned shift = 8 * (offset & 3);
    uint32_t mask = UINT32_MAX >> (32 - 8 * size) << shift;

    g_mutex_lock(&pm->device.lock);
    enum request request = write_word_locked(pm, offset & ~3ULL, (uint32_t)value << shift, mask);
    update_locked(pm);
    g_mutex_unlock(&pm->device.lock);
    carry_out(pm, request);
}

static const struct bus_ops pm_ops = {pm_read, pm_write, BUS_WIDTH_1 | BUS_WIDTH_2 | BUS_WIDTH_4};

/* ---- APM ports ---- */

static uint64_t apm_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;

    g_mutex_lock(&pm->device.lock);
    uint8_t value = offset ? pm->state.apm_status : pm->state.apm_control;
    g_mutex_unlock(&pm->device.lock);
    return value;
}

static void apm_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;

    g_mutex_lock(&pm->device.lock);
    if (offset) {
        pm->state.apm_status = value;
    } else {
        pm->state.apm_control = value;
        if (value == PC_APM_ACPI_ENABLE)
            pm->state.pm1_control |= CONTROL_SCI_EN;
        else if (value == PC_APM_ACPI_DISABLE)
            pm->state.pm1_control &= ~CONTROL_SCI_EN;
        update_locked(pm);
    }
    g_mutex_unlock(&pm->device.lock);
}

static const struct bus_ops apm_ops = {apm_read, apm_write, BUS_WIDTH_1};

/* ---- reset control ---- */

static uint64_t reset_read(void *device, uint64_t offset, unsigned size)
{
    struct acpi_pm *pm = device;

    g_mutex_lock(&pm->device.lock);
    uint8_t value = pm->state.reset_control;
    g_mutex_unlock(&pm->device.lock);
    return value;
}

/* A rising RST_CPU resets; the machine knows one kind of reset. */
static void reset_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct acpi_pm *pm = device;

    g_mutex_lock(&pm->device.lock);
    bool rises = (value & RESET_CPU) && !(pm->state.reset_control & RESET_CPU);
    pm->state.reset_control = value & (RESET_SYSTEM | RESET_CPU | RESET_FULL);
    g_mutex_unlock(&pm->device.lock);
    if (rises)
        carry_out(pm, REQUEST_RESET);
}

static const struct bus_ops reset_ops = {reset_read, reset_write, BUS_WIDTH_1};

/* ---- life ---- */

static void reset(struct device *device)
{
    struct acpi_pm *pm = acpi_pm_of(device);

    g_mutex_lock(&device->lock);
    pm->state = (struct acpi_pm_state){
        .smi_enable = SMI_APMC_EN,
        .gpe_lines = pm->state.gpe_lines,
        .settled_half = timer_ticks(pm) / TIMER_HALF,
    };
    update_locked(pm);
    g_mutex_unlock(&device->lock);
}

static void pre_save(struct device *device)
{
    struct acpi_pm *pm = acpi_pm_of(device);

    g_mutex_lock(&device->lock);
    settle_locked(pm);
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct acpi_pm *pm = acpi_pm_of(device);

    g_mutex_lock(&device->lock);
    pm->state.pm1_status &= PM1_STATUSES;
    pm->state.pm1_enable &= PM1_ENABLES;
    pm->state.pm1_control &= CONTROL_KEPT;
    update_locked(pm);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct acpi_pm *pm = acpi_pm_of(device);
    struct bus *pio = device->env->pio;

    pm->config = *(const struct acpi_pm_config *)config;
    pm->timer = clock_timer_create(device->env->clock, "acpi-pm", timer_fired, pm);
    reset(device);
    pm->window = bus_claim(pio, device->id, PC_PORT_ACPI_PM, WINDOW, 0, &pm_ops, pm);
    pm->apm_window = bus_claim(pio, device->id, PC_PORT_APM, 2, 0, &apm_ops, pm);
    /* Inside the PCI address port, which takes 4-byte accesses only. */
    pm->reset_window = bus_claim(pio, device->id, PC_PORT_RESET, 1, 1, &reset_ops, pm);
    return true;
}

static void finish(struct device *device)
{
    struct acpi_pm *pm = acpi_pm_of(device);

    bus_release(pm->window);
    bus_release(pm->apm_window);
    bus_release(pm->reset_window);
    clock_timer_destroy(pm->timer);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct acpi_pm_config *)config = (struct acpi_pm_config){.sci = env->gsi[PC_GSI_SCI]};
}

const struct device_ops acpi_pm_device = {
    .kind = "acpi-pm",
    .description = "ACPI power management of the ICH9",
    .size = sizeof(struct acpi_pm),
    .config_size = sizeof(struct acpi_pm_config),
    .state = &table,
    .state_offset = offsetof(struct acpi_pm, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .pre_save = pre_save,
    .post_load = post_load,
};
