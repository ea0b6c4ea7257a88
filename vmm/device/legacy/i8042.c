// SPDX-License-Identifier: Apache-2.0
/*
 * 8042 keyboard controller of a PC with an auxiliary port (IBM PS/2 Hardware Interface Technical
 * Reference, "Keyboard and auxiliary device controller"), and system control port A at 0x92 (ICH9
 * data sheet 13.7.3).
 *
 * The output buffer holds one byte; it is filled from the controller's own answers, the keyboard
 * and the mouse, in this order, as soon as it is empty. Commands take no time, so the input buffer
 * is never full. Both ways to the A20 gate are ORed; a reset by either way is asked of the machine.
 */
#include "vmm/device/legacy/i8042.h"

#include "vmm/device/legacy/ps2.h"
#include "vmm/machine/pc/layout.h"

#define STATUS_OUTPUT_FULL 0x01
#define STATUS_SELF_TEST   0x04
#define STATUS_COMMAND     0x08
#define STATUS_UNLOCKED    0x10
#define STATUS_MOUSE_FULL  0x20

/* The command byte, first of the controller's memory. */
#define MODE_KEYBOARD_IRQ 0x01
#define MODE_MOUSE_IRQ    0x02
#define MODE_SELF_TEST    0x04
#define MODE_KEYBOARD_OFF 0x10
#define MODE_MOUSE_OFF    0x20
#define MODE_TRANSLATE    0x40

/* Output port. */
#define PORT_RESET        0x01 /* 0 resets */
#define PORT_A20          0x02
#define PORT_KEYBOARD_IRQ 0x10
#define PORT_MOUSE_IRQ    0x20

/* Port 0x92. */
#define FAST_INIT 0x01
#define FAST_A20  0x02

#define MEMORY_SIZE 32

struct i8042_state {
    struct ps2_keyboard keyboard;
    struct ps2_mouse mouse;
    struct ps2_queue answers; /* the controller's own */
    uint8_t memory[MEMORY_SIZE];
    uint8_t command;      /* that waits for a byte at the data port; 0 for none */
    bool command_written; /* the last write went to the command port */
    uint8_t output;
    bool output_full, output_from_mouse;
    bool release; /* translating: F0 was seen */
    bool a20, fast_a20;
};

struct i8042 {
    struct device device;
    struct i8042_config config;
    struct i8042_state state;
    struct bus_window *data_window, *command_window, *fast_window;
};

static const struct state_field fields[] = {
    STATE_NESTED(struct i8042_state, keyboard, &ps2_keyboard_table),
    STATE_NESTED(struct i8042_state, mouse, &ps2_mouse_table),
    STATE_NESTED(struct i8042_state, answers, &ps2_queue_table),
    STATE_RAW(struct i8042_state, memory),
    STATE_U(struct i8042_state, command),
    STATE_B(struct i8042_state, command_written),
    STATE_U(struct i8042_state, output),
    STATE_B(struct i8042_state, output_full),
    STATE_B(struct i8042_state, output_from_mouse),
    STATE_B(struct i8042_state, release),
    STATE_B(struct i8042_state, a20),
    STATE_B(struct i8042_state, fast_a20),
};

static const struct state_table table = STATE_TABLE("i8042", 1, struct i8042_state, fields);

static struct i8042 *i8042_of(struct device *device)
{
    return (struct i8042 *)device;
}

static uint8_t mode(const struct i8042 *kbc)
{
    return kbc->state.memory[0];
}

/* ---- output buffer ---- */

static void drive_irqs(struct i8042 *kbc)
{
    const struct i8042_state *state = &kbc->state;

    irq_set(&kbc->config.keyboard_irq,
            state->output_full && !state->output_from_mouse && (mode(kbc) & MODE_KEYBOARD_IRQ));
    irq_set(&kbc->config.mouse_irq,
            state->output_full && state->output_from_mouse && (mode(kbc) & MODE_MOUSE_IRQ));
}

static void fill_output(struct i8042 *kbc, uint8_t byte, bool from_mouse)
{
    kbc->state.output = byte;
    kbc->state.output_full = true;
    kbc->state.output_from_mouse = from_mouse;
}

/* The keyboard's next byte as the host sees it; false when it was a prefix that is swallowed. */
static bool take_key(struct i8042 *kbc, uint8_t *byte)
{
    struct i8042_state *state = &kbc->state;

    *byte = ps2_queue_take(&state->keyboard.queue);
    if (!(mode(kbc) & MODE_TRANSLATE))
        return true;
    if (*byte == 0xF0) {
        state->release = true;
        return false;
    }
    *byte = ps2_translate(*byte) | (state->release ? 0x80 : 0);
    state->release = false;
    return true;
}

static void refill_locked(struct i8042 *kbc)
{
    struct i8042_state *state = &kbc->state;
    uint8_t byte;

    if (!state->output_full && state->answers.used)
        fill_output(kbc, ps2_queue_take(&state->answers), false);
    while (!state->output_full && state->keyboard.queue.used && !(mode(kbc) & MODE_KEYBOARD_OFF)) {
        if (take_key(kbc, &byte))
            fill_output(kbc, byte, false);
    }
    if (!state->output_full && state->mouse.queue.used && !(mode(kbc) & MODE_MOUSE_OFF))
        fill_output(kbc, ps2_queue_take(&state->mouse.queue), true);
    drive_irqs(kbc);
}

void i8042_key(struct device *device, uint8_t key, bool pressed)
{
    struct i8042 *kbc = i8042_of(device);

    g_mutex_lock(&device->lock);
    ps2_keyboard_key(&kbc->state.keyboard, key, pressed);
    refill_locked(kbc);
    g_mutex_unlock(&device->lock);
}

void i8042_mouse(struct device *device, int dx, int dy, int dz, uint8_t buttons)
{
    struct i8042 *kbc = i8042_of(device);

    g_mutex_lock(&device->lock);
    ps2_mouse_move(&kbc->state.mouse, dx, dy, dz, buttons);
    refill_locked(kbc);
    g_mutex_unlock(&device->lock);
}

/* ---- commands; each returns whether the machine shall be reset ---- */

static void drive_a20(struct i8042 *kbc)
{
    irq_set(&kbc->config.a20, kbc->state.a20 || kbc->state.fast_a20);
}

static uint8_t output_port(const struct i8042 *kbc)
{
    const struct i8042_state *state = &kbc->state;

    return 0xC0 | PORT_RESET | (state->a20 ? PORT_A20 : 0) |
           (state->output_full ? state->output_from_mouse ? PORT_MOUSE_IRQ : PORT_KEYBOARD_IRQ : 0);
}

static bool write_output_port(struct i8042 *kbc, uint8_t value)
{
    kbc->state.a20 = value & PORT_A20;
    drive_a20(kbc);
    return !(value & PORT_RESET);
}

static void self_test(struct i8042 *kbc)
{
    struct i8042_state *state = &kbc->state;

    ps2_queue_clear(&state->answers);
    state->output_full = false;
    state->memory[0] =
        MODE_SELF_TEST | MODE_KEYBOARD_OFF | MODE_MOUSE_OFF | (state->memory[0] & MODE_TRANSLATE);
    ps2_queue_put(&state->answers, 0x55);
}

static bool take_command(struct i8042 *kbc, uint8_t command)
{
    struct i8042_state *state = &kbc->state;

    state->command = 0;
    switch (command) {
    case 0x20 ... 0x3F:
        ps2_queue_put(&state->answers, state->memory[command % MEMORY_SIZE]);
        break;
    case 0x60 ... 0x7F: /* write memory */
    case 0xD1:          /* write output port */
    case 0xD2:          /* put a byte in the output buffer, as if from the keyboard */
    case 0xD3:          /* or the mouse */
    case 0xD4:          /* send a byte to the mouse */
        state->command = command;
        break;
    case 0xA7:
        state->memory[0] |= MODE_MOUSE_OFF;
        break;
    case 0xA8:
        state->memory[0] &= ~MODE_MOUSE_OFF;
        break;
    case 0xA9: /* tests of the mouse's and the keyboard's line: no fault */
    case 0xAB:
        ps2_queue_put(&state->answers, 0x00);
        break;
    case 0xAA:
        self_test(kbc);
        break;
    case 0xAD:
        state->memory[0] |= MODE_KEYBOARD_OFF;
        break;
    case 0xAE:
        state->memory[0] &= ~MODE_KEYBOARD_OFF;
        break;
    case 0xC0: /* input port: not locked */
        ps2_queue_put(&state->answers, 0x80);
        break;
    case 0xD0:
        ps2_queue_put(&state->answers, output_port(kbc));
        break;
    case 0xDD: /* A20 off and on, of some boards */
    case 0xDF:
        state->a20 = command == 0xDF;
        drive_a20(kbc);
        break;
    case 0xF0 ... 0xFF: /* pulse output lines low; line 0 is reset */
        return !(command & PORT_RESET);
    default:
        device_guest_error(&kbc->device, "unknown controller command %02xH", command);
        break;
    }
    return false;
}

/* A byte at the data port: a command's parameter, else for the keyboard. */
static bool take_data(struct i8042 *kbc, uint8_t value)
{
    struct i8042_state *state = &kbc->state;
    uint8_t command = state->command;

    state->command = 0;
    switch (command) {
    case 0x60 ... 0x7F:
        state->memory[command % MEMORY_SIZE] = value;
        break;
    case 0xD1:
        return write_output_port(kbc, value);
    case 0xD2:
        fill_output(kbc, value, false);
        break;
    case 0xD3:
        fill_output(kbc, value, true);
        break;
    case 0xD4:
        state->memory[0] &= ~MODE_MOUSE_OFF;
        ps2_mouse_write(&state->mouse, value);
        break;
    default:
        state->memory[0] &= ~MODE_KEYBOARD_OFF;
        ps2_keyboard_write(&state->keyboard, value);
        break;
    }
    return false;
}

/* ---- registers ---- */

static void request_reset(const struct i8042 *kbc, const char *reason)
{
    const struct machine_requests *requests = &kbc->device.env->requests;

    requests->reset(requests->machine, reason);
}

static uint64_t data_read(void *device, uint64_t offset, unsigned size)
{
    struct i8042 *kbc = device;

    g_mutex_lock(&kbc->device.lock);
    uint8_t value = kbc->state.output;
    kbc->state.output_full = false;
    drive_irqs(kbc);
    refill_locked(kbc);
    g_mutex_unlock(&kbc->device.lock);
    return value;
}

static void data_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *kbc = device;

    g_mutex_lock(&kbc->device.lock);
    kbc->state.command_written = false;
    bool reset = take_data(kbc, value);
    refill_locked(kbc);
    g_mutex_unlock(&kbc->device.lock);
    if (reset)
        request_reset(kbc, "keyboard controller's output port");
}

static uint64_t command_read(void *device, uint64_t offset, unsigned size)
{
    struct i8042 *kbc = device;
    const struct i8042_state *state = &kbc->state;

    g_mutex_lock(&kbc->device.lock);
    uint8_t value = STATUS_UNLOCKED | (state->output_full ? STATUS_OUTPUT_FULL : 0) |
                    (state->output_full && state->output_from_mouse ? STATUS_MOUSE_FULL : 0) |
                    (mode(kbc) & MODE_SELF_TEST ? STATUS_SELF_TEST : 0) |
                    (state->command_written ? STATUS_COMMAND : 0);
    g_mutex_unlock(&kbc->device.lock);
    return value;
}

static void command_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *kbc = device;

    g_mutex_lock(&kbc->device.lock);
    kbc->state.command_written = true;
    bool reset = take_command(kbc, value);
    refill_locked(kbc);
    g_mutex_unlock(&kbc->device.lock);
    if (reset)
        request_reset(kbc, "keyboard controller");
}

static uint64_t fast_read(void *device, uint64_t offset, unsigned size)
{
    struct i8042 *kbc = device;

    g_mutex_lock(&kbc->device.lock);
    uint8_t value = kbc->state.fast_a20 ? FAST_A20 : 0;
    g_mutex_unlock(&kbc->device.lock);
    return value;
}

static void fast_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct i8042 *kbc = device;

    g_mutex_lock(&kbc->device.lock);
    kbc->state.fast_a20 = value & FAST_A20;
    drive_a20(kbc);
    g_mutex_unlock(&kbc->device.lock);
    if (value & FAST_INIT)
        request_reset(kbc, "port 92H");
}

static const struct bus_ops data_ops = {data_read, data_write, BUS_WIDTH_1};
static const struct bus_ops command_ops = {command_read, command_write, BUS_WIDTH_1};
static const struct bus_ops fast_ops = {fast_read, fast_write, BUS_WIDTH_1};

/* ---- life ---- */

static void reset(struct device *device)
{
    struct i8042 *kbc = i8042_of(device);

    g_mutex_lock(&device->lock);
    kbc->state = (struct i8042_state){
        .memory[0] = MODE_KEYBOARD_IRQ | MODE_MOUSE_IRQ | MODE_SELF_TEST | MODE_TRANSLATE,
        .a20 = true,
    };
    ps2_keyboard_reset(&kbc->state.keyboard);
    ps2_mouse_reset(&kbc->state.mouse);
    drive_a20(kbc);
    refill_locked(kbc);
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct i8042 *kbc = i8042_of(device);

    g_mutex_lock(&device->lock);
    drive_a20(kbc);
    drive_irqs(kbc);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct i8042 *kbc = i8042_of(device);
    struct bus *pio = device->env->pio;

    kbc->config = *(const struct i8042_config *)config;
    reset(device);
    kbc->data_window = bus_claim(pio, device->id, PC_PORT_I8042_DATA, 1, 0, &data_ops, kbc);
    kbc->command_window =
        bus_claim(pio, device->id, PC_PORT_I8042_COMMAND, 1, 0, &command_ops, kbc);
    kbc->fast_window = bus_claim(pio, device->id, PC_PORT_A20, 1, 0, &fast_ops, kbc);
    return true;
}

static void finish(struct device *device)
{
    struct i8042 *kbc = i8042_of(device);

    bus_release(kbc->data_window);
    bus_release(kbc->command_window);
    bus_release(kbc->fast_window);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct i8042_config *)config = (struct i8042_config){
        .keyboard_irq = env->gsi[PC_GSI_KEYBOARD],
        .mouse_irq = env->gsi[PC_GSI_MOUSE],
    };
}

const struct device_ops i8042_device = {
    .kind = "i8042",
    .description = "keyboard controller with keyboard and mouse",
    .size = sizeof(struct i8042),
    .config_size = sizeof(struct i8042_config),
    .state = &table,
    .state_offset = offsetof(struct i8042, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
