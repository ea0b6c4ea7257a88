// SPDX-License-Identifier: Apache-2.0
/*
 * 16550A UART (National Semiconductor PC16550D data sheet), clocked at 1.8432 MHz.
 *
 * The transmitter is as fast as its back end: a character has left as soon as the back end took it,
 * and while that has no room, the FIFO fills and THRE stays clear. So a guest is throttled only by
 * who reads the line. The receiver's timeout interrupt keeps the line's time, four characters of
 * the programmed format. OUT2 gates the interrupt as on a PC's board. A plugged-in port reports
 * CTS, DSR and DCD. The format of a character (LCR) has an effect on time only.
 */
#include "vmm/device/legacy/uart16550.h"

#include <string.h>

#include "vmm/machine/pc/layout.h"

#define FIFO_SIZE   16
#define INPUT_CLOCK 1843200

/* Register offsets. */
enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

#define IER_RDA  0x01 /* received data available, and timeout */
#define IER_THRE 0x02
#define IER_RLS  0x04 /* receiver line status */
#define IER_MS   0x08 /* modem status */

#define IIR_NONE    0x01
#define IIR_MS      0x00
#define IIR_THRE    0x02
#define IIR_RDA     0x04
#define IIR_RLS     0x06
#define IIR_TIMEOUT 0x0C
#define IIR_FIFOS   0xC0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define FCR_CLEAR_TX 0x04
#define FCR_KEPT     0xC9 /* enable, DMA mode, trigger level */

#define LCR_DLAB  0x80
#define LCR_BREAK 0x40

#define MCR_DTR  0x01
#define MCR_RTS  0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DR     0x01
#define LSR_OE     0x02
#define LSR_BI     0x10
#define LSR_ERRORS 0x1E
#define LSR_THRE   0x20
#define LSR_TEMT   0x40

#define MSR_DELTA 0x0F
#define MSR_TERI  0x04
#define MSR_CTS   0x10
#define MSR_DSR   0x20
#define MSR_RI    0x40
#define MSR_DCD   0x80

struct fifo {
    uint8_t data[FIFO_SIZE];
    uint8_t head, used; /* head: oldest */
};

struct uart_state {
    struct fifo rx, tx;
    uint16_t divisor;
    uint8_t ier, fcr, lcr, mcr, scr;
    uint8_t errors; /* LSR's error bits, until they are read */
    uint8_t msr;
    bool thre_pending;   /* the transmitter became empty and nobody has heard of it */
    bool timeout;        /* characters wait below the trigger level */
    uint64_t timeout_ns; /* when `timeout` will be set; 0: not counting */
};

struct uart {
    struct device device;
    struct uart16550_config config;
    struct uart_state state;
    struct bus_window *window;
    struct clock_timer *timer;
};

static const struct state_field fifo_fields[] = {
    STATE_RAW(struct fifo, data),
    STATE_RANGE(struct fifo, head, 0, FIFO_SIZE - 1),
    STATE_RANGE(struct fifo, used, 0, FIFO_SIZE),
};

static const struct state_table fifo_table = STATE_TABLE("fifo", 1, struct fifo, fifo_fields);

static const struct state_field fields[] = {
    STATE_NESTED(struct uart_state, rx, &fifo_table),
    STATE_NESTED(struct uart_state, tx, &fifo_table),
    STATE_U(struct uart_state, divisor),
    STATE_RANGE(struct uart_state, ier, 0, 15),
    STATE_U(struct uart_state, fcr),
    STATE_U(struct uart_state, lcr),
    STATE_RANGE(struct uart_state, mcr, 0, 31),
    STATE_U(struct uart_state, scr),
    STATE_RANGE(struct uart_state, errors, 0, LSR_ERRORS),
    STATE_U(struct uart_state, msr),
    STATE_B(struct uart_state, thre_pending),
    STATE_B(struct uart_state, timeout),
    STATE_RANGE(struct uart_state, timeout_ns, 0, INT64_MAX),
};

static const struct state_table table = STATE_TABLE("uart16550", 1, struct uart_state, fields);

static struct uart *uart_of(struct device *device)
{
    return (struct uart *)device;
}

/* ---- FIFOs ---- */

static void fifo_put(struct fifo *fifo, uint8_t byte)
{
    fifo->data[(fifo->head + fifo->used) % FIFO_SIZE] = byte;
    fifo->used++;
}

static uint8_t fifo_take(struct fifo *fifo)
{
    uint8_t byte = fifo->data[fifo->head];

    fifo->head = (fifo->head + 1) % FIFO_SIZE;
    fifo->used--;
    return byte;
}

static void fifo_clear(struct fifo *fifo)
{
    *fifo = (struct fifo){0};
}

static bool has_fifos(const struct uart_state *state)
{
    return state->fcr & FCR_ENABLE;
}

/* Without FIFOs there is one holding register. */
static unsigned depth(const struct uart_state *state)
{
    return has_fifos(state) ? FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct uart_state *state)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};

    return has_fifos(state) ? levels[state->fcr >> 6] : 1;
}

/* ---- interrupts ---- */

static uint8_t interrupt_id(const struct uart_state *state)
{
    if ((state->ier & IER_RLS) && state->errors)
        return IIR_RLS;
    if ((state->ier & IER_RDA) && state->rx.used >= trigger_level(state))
        return IIR_RDA;
    if ((state->ier & IER_RDA) && state->timeout)
        return IIR_TIMEOUT;
    if ((state->ier & IER_THRE) && state->thre_pending)
        return IIR_THRE;
    if ((state->ier & IER_MS) && (state->msr & MSR_DELTA))
        return IIR_MS;
    return IIR_NONE;
}

static void update_irq_locked(struct uart *uart)
{
    bool level = (uart->state.mcr & MCR_OUT2) && interrupt_id(&uart->state) != IIR_NONE;

    irq_set(&uart->config.irq, level);
}

/* ---- receiver ---- */

/* Four characters of the current format: start, 5 to 8 data, parity, 1 to 2 stop bits. */
static uint64_t timeout_length_ns(const struct uart_state *state)
{
    unsigned bits = 1 + 5 + (state->lcr & 3) + !!(state->lcr & 8) + 1 + !!(state->lcr & 4);
    uint64_t clocks = 16ULL * (state->divisor ? state->divisor : 65536);

    return clock_muldiv(4 * bits * clocks, NS_PER_SECOND, INPUT_CLOCK);
}

/* Each character put or taken starts the receiver's timeout anew. */
static void restart_timeout_locked(struct uart *uart)
{
    struct uart_state *state = &uart->state;

    state->timeout = false;
    state->timeout_ns = 0;
    if (!has_fifos(state) || !state->rx.used) {
        clock_timer_disarm(uart->timer);
        return;
    }
    state->timeout_ns = clock_now(uart->device.env->clock) + timeout_length_ns(state);
    clock_timer_arm(uart->timer, state->timeout_ns);
}

static void timeout_fired(void *opaque)
{
    struct uart *uart = opaque;
    struct uart_state *state = &uart->state;

    g_mutex_lock(&uart->device.lock);
    if (state->timeout_ns && clock_now(uart->device.env->clock) >= (int64_t)state->timeout_ns) {
        state->timeout_ns = 0;
        state->timeout = state->rx.used > 0;
        update_irq_locked(uart);
    }
    g_mutex_unlock(&uart->device.lock);
}

static void receive_byte_locked(struct uart *uart, uint8_t byte)
{
    struct uart_state *state = &uart->state;

    if (state->rx.used >= depth(state)) {
        state->errors |= LSR_OE;
        /* The FIFO keeps what it has, the holding register is overwritten. */
        if (has_fifos(state))
            return;
        fifo_clear(&state->rx);
    }
    fifo_put(&state->rx, byte);
    restart_timeout_locked(uart);
}

static size_t can_receive(void *opaque)
{
    struct uart *uart = opaque;

    g_mutex_lock(&uart->device.lock);
    const struct uart_state *state = &uart->state;
    size_t room = state->mcr & MCR_LOOP ? 0 : depth(state) - MIN(state->rx.used, depth(state));
    g_mutex_unlock(&uart->device.lock);
    return room;
}

static void receive(void *opaque, const uint8_t *data, size_t length)
{
    struct uart *uart = opaque;

    g_mutex_lock(&uart->device.lock);
    for (size_t i = 0; i < length; i++)
        receive_byte_locked(uart, data[i]);
    update_irq_locked(uart);
    g_mutex_unlock(&uart->device.lock);
}

static void want_input_locked(struct uart *uart)
{
    if (uart->config.chardev && uart->state.rx.used < depth(&uart->state))
        chardev_accept_input(uart->config.chardev);
}

/* ---- transmitter ---- */

/* Send what the back end takes; an emptied FIFO is news for the guest. */
static void drain_locked(struct uart *uart)
{
    struct uart_state *state = &uart->state;

    while (state->tx.used) {
        uint8_t byte = state->tx.data[state->tx.head];

        if (state->mcr & MCR_LOOP)
            receive_byte_locked(uart, byte);
        else if (uart->config.chardev && !chardev_write(uart->config.chardev, &byte, 1))
            return;
        fifo_take(&state->tx);
        if (!state->tx.used)
            state->thre_pending = true;
    }
}

static void writable(void *opaque)
{
    struct uart *uart = opaque;

    g_mutex_lock(&uart->device.lock);
    drain_locked(uart);
    update_irq_locked(uart);
    g_mutex_unlock(&uart->device.lock);
}

static void transmit_locked(struct uart *uart, uint8_t byte)
{
    struct uart_state *state = &uart->state;

    state->thre_pending = false;
    if (state->tx.used < depth(state))
        fifo_put(&state->tx, byte);
    else if (!has_fifos(state)) /* the holding register is overwritten */
        state->tx.data[state->tx.head] = byte;
    drain_locked(uart);
}

/* ---- modem ---- */

static uint8_t modem_inputs(const struct uart *uart)
{
    uint8_t mcr = uart->state.mcr;

    if (!(mcr & MCR_LOOP))
        return uart->config.chardev ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
    return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
           (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

/* Latch the modem inputs with their deltas; the ring indicator's only at its trailing edge. */
static void update_modem_locked(struct uart *uart)
{
    struct uart_state *state = &uart->state;
    uint8_t inputs = modem_inputs(uart), changed = (inputs ^ state->msr) & 0xF0;
    uint8_t deltas = changed >> 4;

    if (inputs & MSR_RI)
        deltas &= ~MSR_TERI;
    state->msr = inputs | (state->msr & MSR_DELTA) | deltas;
}

/* ---- registers ---- */

static uint8_t line_status(const struct uart_state *state)
{
    return (state->rx.used ? LSR_DR : 0) | state->errors |
           (state->tx.used ? 0 : LSR_THRE | LSR_TEMT);
}

static uint8_t read_data_locked(struct uart *uart)
{
    struct uart_state *state = &uart->state;

    if (!state->rx.used)
        return 0;
    uint8_t byte = fifo_take(&state->rx);
    restart_timeout_locked(uart);
    want_input_locked(uart);
    return byte;
}

static uint8_t read_iir_locked(struct uart *uart)
{
    struct uart_state *state = &uart->state;
    uint8_t id = interrupt_id(state);

    if (id == IIR_THRE)
        state->thre_pending = false;
    return id | (has_fifos(state) ? IIR_FIFOS : 0);
}

static uint8_t read_locked(struct uart *uart, uint64_t offset)
{
    struct uart_state *state = &uart->state;
    uint8_t value = 0;

    switch (offset) {
    case REG_DATA:
        return state->lcr & LCR_DLAB ? state->divisor & 0xFF : read_data_locked(uart);
    case REG_IER:
        return state->lcr & LCR_DLAB ? state->divisor >> 8 : state->ier;
    case REG_IIR_FCR:
        return read_iir_locked(uart);
    case REG_LCR:
        return state->lcr;
    case REG_MCR:
        return state->mcr;
    case REG_LSR:
        value = line_status(state);
        state->errors = 0;
        return value;
    case REG_MSR:
        value = state->msr;
        state->msr &= ~MSR_DELTA;
        return value;
    case REG_SCR:
        return state->scr;
    }
    return value;
}

static void write_ier_locked(struct uart *uart, uint8_t value)
{
    struct uart_state *state = &uart->state;

    /* Enabling the interrupt while the transmitter is empty raises it at once. */
    if ((value & IER_THRE) && !(state->ier & IER_THRE) && !state->tx.used)
        state->thre_pending = true;
    state->ier = value & 0x0F;
}

static void write_fcr_locked(struct uart *uart, uint8_t value)
{
    struct uart_state *state = &uart->state;

    if ((value ^ state->fcr) & FCR_ENABLE)
        value |= FCR_CLEAR_RX | FCR_CLEAR_TX;
    if (value & FCR_CLEAR_RX)
        fifo_clear(&state->rx);
    if (value & FCR_CLEAR_TX) {
        if (state->tx.used)
            state->thre_pending = true;
        fifo_clear(&state->tx);
    }
    /* The other bits are written only together with the enable bit. */
    state->fcr = value & FCR_ENABLE ? value & FCR_KEPT : 0;
    restart_timeout_locked(uart);
    want_input_locked(uart);
}

static void write_lcr_locked(struct uart *uart, uint8_t value)
{
    struct uart_state *state = &uart->state;
    bool begins_break = (value & LCR_BREAK) && !(state->lcr & LCR_BREAK);

    state->lcr = value;
    if (begins_break && (state->mcr & MCR_LOOP)) {
        receive_byte_locked(uart, 0);
        state->errors |= LSR_BI;
    }
}

static void write_locked(struct uart *uart, uint64_t offset, uint8_t value)
{
    struct uart_state *state = &uart->state;

    switch (offset) {
    case REG_DATA:
        if (state->lcr & LCR_DLAB)
            state->divisor = (state->divisor & 0xFF00) | value;
        else
            transmit_locked(uart, value);
        break;
    case REG_IER:
        if (state->lcr & LCR_DLAB)
            state->divisor = (state->divisor & 0x00FF) | value << 8;
        else
            write_ier_locked(uart, value);
        break;
    case REG_IIR_FCR:
        write_fcr_locked(uart, value);
        break;
    case REG_LCR:
        write_lcr_locked(uart, value);
        break;
    case REG_MCR:
        state->mcr = value & 0x1F;
        update_modem_locked(uart);
        drain_locked(uart);
        want_input_locked(uart);
        break;
    case REG_SCR:
        state->scr = value;
        break;
    default: /* LSR and MSR are for reading */
        break;
    }
}

static uint64_t pio_read(void *device, uint64_t offset, unsigned size)
{
    struct uart *uart = device;

    g_mutex_lock(&uart->device.lock);
    uint8_t value = read_locked(uart, offset);
    update_irq_locked(uart);
    g_mutex_unlock(&uart->device.lock);
    return value;
}

static void pio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *uart = device;

    g_mutex_lock(&uart->device.lock);
    write_locked(uart, offset, value);
    update_irq_locked(uart);
    g_mutex_unlock(&uart->device.lock);
}

static const struct bus_ops pio_ops = {pio_read, pio_write, BUS_WIDTH_1};

static const struct chardev_handlers handlers = {
    .can_receive = can_receive,
    .receive = receive,
    .writable = writable,
};

/* ---- life ---- */

static void reset(struct device *device)
{
    struct uart *uart = uart_of(device);

    g_mutex_lock(&device->lock);
    uart->state = (struct uart_state){.divisor = 12};
    uart->state.msr = modem_inputs(uart);
    clock_timer_disarm(uart->timer);
    want_input_locked(uart);
    update_irq_locked(uart);
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct uart *uart = uart_of(device);

    g_mutex_lock(&device->lock);
    clock_timer_disarm(uart->timer);
    if (uart->state.timeout_ns)
        clock_timer_arm(uart->timer, uart->state.timeout_ns);
    drain_locked(uart);
    want_input_locked(uart);
    update_irq_locked(uart);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct uart *uart = uart_of(device);
    struct chardev_handlers mine = handlers;

    uart->config = *(const struct uart16550_config *)config;
    uart->timer = clock_timer_create(device->env->clock, "uart16550", timeout_fired, uart);
    reset(device);
    if (uart->config.chardev) {
        mine.opaque = uart;
        chardev_set_handlers(uart->config.chardev, &mine);
    }
    uart->window = bus_claim(device->env->pio, device->id, uart->config.port, 8, 0, &pio_ops, uart);
    return true;
}

static void finish(struct device *device)
{
    struct uart *uart = uart_of(device);

    bus_release(uart->window);
    if (uart->config.chardev)
        chardev_set_handlers(uart->config.chardev, NULL);
    clock_timer_destroy(uart->timer);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct uart16550_config *)config = (struct uart16550_config){
        .port = PC_PORT_SERIAL0,
        .irq = env->gsi[PC_GSI_SERIAL0],
    };
}

const struct device_ops uart16550_device = {
    .kind = "uart16550",
    .description = "serial port (16550A)",
    .size = sizeof(struct uart),
    .config_size = sizeof(struct uart16550_config),
    .state = &table,
    .state_offset = offsetof(struct uart, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
