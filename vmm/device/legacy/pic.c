// SPDX-License-Identifier: Apache-2.0
/*
 * 8259A programmable interrupt controllers (Intel 8259A data sheet, 231468), as the ICH has them:
 * triggering is chosen per input by the ELCR registers at 0x4D0 and 0x4D1 (ICH9 data sheet 13.4),
 * not by ICW1.LTIM, and ICW4's processor and buffer bits do nothing.
 *
 * An edge is latched until it is acknowledged, also when the line falls before: a pulse counts. The
 * cascade input follows the slave's output instead, so that a request which the guest masks at the
 * slave leaves no spurious one at the master. After power-on all inputs are masked, where the data
 * sheet leaves the mask undefined: a kernel that is started without firmware finds silence.
 */
#include "vmm/device/legacy/pic.h"

#include "vmm/machine/pc/layout.h"

#define CASCADE 2

/* What the next write to the odd port means. */
enum init_step { STEP_NONE, STEP_ICW2, STEP_ICW3, STEP_ICW4, STEP_LAST = STEP_ICW4 };

struct chip_state {
    uint8_t lines; /* levels of the inputs */
    uint8_t irr, isr, imr;
    uint8_t elcr;   /* 1: level-triggered */
    uint8_t base;   /* vector of input 0 */
    uint8_t icw3;   /* kept for its reader's sake: the cascade is wired */
    uint8_t lowest; /* input of lowest priority */
    uint8_t step;   /* enum init_step */
    bool single, icw4_follows;
    bool auto_eoi, rotate_on_auto_eoi, fully_nested_special;
    bool special_mask, read_isr, poll;
};

struct pic_state {
    struct chip_state chips[2];
};

struct pic {
    struct device device;
    struct pic_config config;
    struct pic_state state;
    struct bus_window *windows[3];
    bool output; /* level last driven */
};

static const struct state_field chip_fields[] = {
    STATE_U(struct chip_state, lines),
    STATE_U(struct chip_state, irr),
    STATE_U(struct chip_state, isr),
    STATE_U(struct chip_state, imr),
    STATE_U(struct chip_state, elcr),
    STATE_U(struct chip_state, base),
    STATE_U(struct chip_state, icw3),
    STATE_RANGE(struct chip_state, lowest, 0, 7),
    STATE_RANGE(struct chip_state, step, 0, STEP_LAST),
    STATE_B(struct chip_state, single),
    STATE_B(struct chip_state, icw4_follows),
    STATE_B(struct chip_state, auto_eoi),
    STATE_B(struct chip_state, rotate_on_auto_eoi),
    STATE_B(struct chip_state, fully_nested_special),
    STATE_B(struct chip_state, special_mask),
    STATE_B(struct chip_state, read_isr),
    STATE_B(struct chip_state, poll),
};

static const struct state_table chip_table = STATE_TABLE("chip", 1, struct chip_state, chip_fields);

static const struct state_field fields[] = {
    STATE_NESTED_ARRAY(struct pic_state, chips, &chip_table),
};

static const struct state_table table = STATE_TABLE("pic", 1, struct pic_state, fields);

static struct pic *pic_of(struct device *device)
{
    return (struct pic *)device;
}

static bool is_master(const struct pic *pic, const struct chip_state *chip)
{
    return chip == &pic->state.chips[0];
}

/* ---- priorities ---- */

/* The input of highest priority among `mask`, which is not 0. */
static unsigned highest(const struct chip_state *chip, uint8_t mask)
{
    for (unsigned i = 1; i < 8; i++) {
        unsigned input = (chip->lowest + i) & 7;
        if (mask >> input & 1)
            return input;
    }
    return chip->lowest;
}

/* 0 is the highest priority. */
static unsigned rank(const struct chip_state *chip, unsigned input)
{
    return (input - chip->lowest - 1) & 7;
}

/* Inputs in service that hold others back. */
static uint8_t blocking(const struct chip_state *chip)
{
    return chip->special_mask ? chip->isr & ~chip->imr : chip->isr;
}

/* The input that asks for the CPU, or -1. */
static int pending(const struct pic *pic, const struct chip_state *chip)
{
    uint8_t requests = chip->irr & ~chip->imr, in_service = blocking(chip);

    if (!requests || chip->step != STEP_NONE)
        return -1;
    unsigned request = highest(chip, requests);
    if (!in_service)
        return request;
    unsigned current = highest(chip, in_service);
    if (rank(chip, request) < rank(chip, current))
        return request;
    /* Special fully nested mode: the slave may interrupt its own service routine. */
    if (chip->fully_nested_special && is_master(pic, chip) && request == CASCADE &&
        current == CASCADE)
        return request;
    return -1;
}

/* ---- lines ---- */

static void set_input(struct chip_state *chip, unsigned input, bool level)
{
    uint8_t bit = 1U << input;
    bool was = chip->lines & bit;

    if (level)
        chip->lines |= bit;
    else
        chip->lines &= ~bit;
    if (chip->elcr & bit)
        chip->irr = level ? chip->irr | bit : chip->irr & ~bit;
    else if (level && !was)
        chip->irr |= bit;
}

/* Pass the slave's request to the master and the master's to the CPU. */
static void update_locked(struct pic *pic)
{
    struct chip_state *master = &pic->state.chips[0];

    if (pending(pic, &pic->state.chips[1]) >= 0)
        master->irr |= 1U << CASCADE;
    else
        master->irr &= ~(1U << CASCADE);

    bool output = pending(pic, master) >= 0;
    if (output != pic->output) {
        pic->output = output;
        irq_set(&pic->config.output, output);
    }
}

static void input_set(void *controller, unsigned pin, bool level)
{
    struct pic *pic = controller;

    g_mutex_lock(&pic->device.lock);
    set_input(&pic->state.chips[pin >> 3 & 1], pin & 7, level);
    update_locked(pic);
    g_mutex_unlock(&pic->device.lock);
}

struct irq_line pic_input(struct device *device, unsigned pin)
{
    if (pin > 15 || pin == CASCADE)
        return (struct irq_line){0};
    return (struct irq_line){input_set, device, pin};
}

/* ---- acknowledge and end of interrupt ---- */

/* Put the pending input into service and return it; 7 when none is pending (spurious). */
static unsigned take(struct pic *pic, struct chip_state *chip)
{
    int input = pending(pic, chip);

    if (input < 0)
        return 7;
    if (!(chip->elcr >> input & 1))
        chip->irr &= ~(1U << input);
    if (!chip->auto_eoi)
        chip->isr |= 1U << input;
    else if (chip->rotate_on_auto_eoi)
        chip->lowest = input;
    return input;
}

uint8_t pic_acknowledge(struct device *device)
{
    struct pic *pic = pic_of(device);
    struct chip_state *master = &pic->state.chips[0], *slave = &pic->state.chips[1];

    g_mutex_lock(&device->lock);
    bool asked = pending(pic, master) >= 0;
    unsigned input = take(pic, master);
    uint8_t vector = master->base + input;
    if (asked && input == CASCADE)
        vector = slave->base + take(pic, slave);
    update_locked(pic);
    g_mutex_unlock(&device->lock);
    return vector;
}

static void end_of_interrupt(struct chip_state *chip, bool specific, bool rotate, unsigned input)
{
    if (!specific) {
        uint8_t mask = blocking(chip);
        if (!mask)
            return;
        input = highest(chip, mask);
    }
    chip->isr &= ~(1U << input);
    if (rotate)
        chip->lowest = input;
}

/* ---- registers ---- */

static void write_icw1(struct chip_state *chip, uint8_t value)
{
    chip->irr = chip->lines & chip->elcr;
    chip->isr = 0;
    chip->imr = 0;
    chip->lowest = 7;
    chip->special_mask = chip->read_isr = chip->poll = false;
    chip->auto_eoi = chip->rotate_on_auto_eoi = chip->fully_nested_special = false;
    chip->icw4_follows = value & 0x01;
    chip->single = value & 0x02;
    chip->step = STEP_ICW2;
}

static void write_ocw2(struct chip_state *chip, uint8_t value)
{
    unsigned input = value & 7;

    switch (value >> 5) {
    case 0: /* rotate in automatic EOI mode: clear */
        chip->rotate_on_auto_eoi = false;
        break;
    case 4: /* and set */
        chip->rotate_on_auto_eoi = true;
        break;
    case 1:
        end_of_interrupt(chip, false, false, 0);
        break;
    case 3:
        end_of_interrupt(chip, true, false, input);
        break;
    case 5:
        end_of_interrupt(chip, false, true, 0);
        break;
    case 7:
        end_of_interrupt(chip, true, true, input);
        break;
    case 6: /* set priority */
        chip->lowest = input;
        break;
    case 2: /* no operation */
        break;
    }
}

static void write_ocw3(struct chip_state *chip, uint8_t value)
{
    if (value & 0x40)
        chip->special_mask = value & 0x20;
    if (value & 0x04)
        chip->poll = true;
    else if (value & 0x02)
        chip->read_isr = value & 0x01;
}

static void write_odd(struct chip_state *chip, uint8_t value)
{
    switch (chip->step) {
    case STEP_NONE:
        chip->imr = value;
        break;
    case STEP_ICW2:
        chip->base = value & 0xF8;
        chip->step = !chip->single ? STEP_ICW3 : chip->icw4_follows ? STEP_ICW4 : STEP_NONE;
        break;
    case STEP_ICW3:
        chip->icw3 = value;
        chip->step = chip->icw4_follows ? STEP_ICW4 : STEP_NONE;
        break;
    case STEP_ICW4:
        chip->auto_eoi = value & 0x02;
        chip->fully_nested_special = value & 0x10;
        chip->step = STEP_NONE;
        break;
    }
}

static void chip_write(struct pic *pic, struct chip_state *chip, uint64_t offset, uint8_t value)
{
    g_mutex_lock(&pic->device.lock);
    if (offset)
        write_odd(chip, value);
    else if (value & 0x10)
        write_icw1(chip, value);
    else if (value & 0x08)
        write_ocw3(chip, value);
    else
        write_ocw2(chip, value);
    update_locked(pic);
    g_mutex_unlock(&pic->device.lock);
}

/* The read after a poll command is an acknowledge cycle. */
static uint8_t poll_locked(struct pic *pic, struct chip_state *chip)
{
    chip->poll = false;
    if (pending(pic, chip) < 0)
        return 0;
    uint8_t answer = 0x80 | take(pic, chip);
    update_locked(pic);
    return answer;
}

static uint8_t chip_read(struct pic *pic, struct chip_state *chip, uint64_t offset)
{
    uint8_t value;

    g_mutex_lock(&pic->device.lock);
    if (chip->poll)
        value = poll_locked(pic, chip);
    else if (offset)
        value = chip->imr;
    else
        value = chip->read_isr ? chip->isr : chip->irr;
    g_mutex_unlock(&pic->device.lock);
    return value;
}

static uint64_t master_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *pic = device;
    return chip_read(pic, &pic->state.chips[0], offset);
}

static void master_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pic *pic = device;
    chip_write(pic, &pic->state.chips[0], offset, value);
}

static uint64_t slave_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *pic = device;
    return chip_read(pic, &pic->state.chips[1], offset);
}

static void slave_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pic *pic = device;
    chip_write(pic, &pic->state.chips[1], offset, value);
}

/* Inputs 0, 1, 2, 8 and 13 are always edge-triggered. */
static const uint8_t elcr_writable[2] = {0xF8, 0xDE};

static uint64_t elcr_read(void *device, uint64_t offset, unsigned size)
{
    struct pic *pic = device;

    g_mutex_lock(&pic->device.lock);
    uint8_t value = pic->state.chips[offset & 1].elcr;
    g_mutex_unlock(&pic->device.lock);
    return value;
}

static void elcr_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pic *pic = device;
    struct chip_state *chip = &pic->state.chips[offset & 1];

    g_mutex_lock(&pic->device.lock);
    chip->elcr = value & elcr_writable[offset & 1];
    /* A level-triggered input asks exactly while its line is up. */
    chip->irr = (chip->irr & ~chip->elcr) | (chip->lines & chip->elcr);
    update_locked(pic);
    g_mutex_unlock(&pic->device.lock);
}

static const struct bus_ops master_ops = {master_read, master_write, BUS_WIDTH_1};
static const struct bus_ops slave_ops = {slave_read, slave_write, BUS_WIDTH_1};
static const struct bus_ops elcr_ops = {elcr_read, elcr_write, BUS_WIDTH_1};

/* ---- life ---- */

static void reset(struct device *device)
{
    struct pic *pic = pic_of(device);

    g_mutex_lock(&device->lock);
    for (unsigned i = 0; i < 2; i++) {
        /* The lines belong to other devices: they lower their own at their reset. */
        uint8_t lines = pic->state.chips[i].lines;
        pic->state.chips[i] = (struct chip_state){.lines = lines, .imr = 0xFF, .lowest = 7};
    }
    update_locked(pic);
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct pic *pic = pic_of(device);

    g_mutex_lock(&device->lock);
    for (unsigned i = 0; i < 2; i++)
        pic->state.chips[i].elcr &= elcr_writable[i];
    pic->output = pending(pic, &pic->state.chips[0]) >= 0;
    irq_set(&pic->config.output, pic->output);
    update_locked(pic);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct pic *pic = pic_of(device);
    struct bus *pio = device->env->pio;

    pic->config = *(const struct pic_config *)config;
    reset(device);
    pic->windows[0] = bus_claim(pio, device->id, PC_PORT_PIC_MASTER, 2, 0, &master_ops, pic);
    pic->windows[1] = bus_claim(pio, device->id, PC_PORT_PIC_SLAVE, 2, 0, &slave_ops, pic);
    pic->windows[2] = bus_claim(pio, device->id, PC_PORT_PIC_ELCR, 2, 0, &elcr_ops, pic);
    return true;
}

static void finish(struct device *device)
{
    struct pic *pic = pic_of(device);

    for (unsigned i = 0; i < G_N_ELEMENTS(pic->windows); i++)
        bus_release(pic->windows[i]);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct pic_config *)config = (struct pic_config){0};
}

const struct device_ops pic_device = {
    .kind = "pic",
    .description = "pair of 8259A interrupt controllers",
    .size = sizeof(struct pic),
    .config_size = sizeof(struct pic_config),
    .state = &table,
    .state_offset = offsetof(struct pic, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
