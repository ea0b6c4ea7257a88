// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio console device (Virtio 1.2, 5.3) with several ports. Each port has a queue either way;
 * queues 2 and 3 carry control messages, by which each side tells of ports and of their being
 * opened and closed. A driver without the feature MULTIPORT sees port 0 alone.
 *
 * Behind a port is a character device. Both ways the slower side holds the faster one up: what the
 * character device does not take stays in the guest's buffer, in flight, and its input is read only
 * when the guest has a buffer for it. So each queue has one request in flight at most, and of the
 * outgoing one the state says how much has been delivered: no byte is lost or doubled when it is
 * taken again after a load.
 *
 * What the guest has to be told waits in a set of bits for each port until the guest has a buffer
 * for it, so nothing that a guest does makes a list grow.
 */
#include "vmm/device/virtio/virtio_console.h"

#include <linux/virtio_console.h>
#include <linux/virtio_ids.h>
#include <string.h>

#include "vmm/device/virtio/virtio.h"
#include "vmm/machine/pc/layout.h"

#define QUEUE_SIZE       32
#define QUEUES_MAX       (2 * (VIRTIO_CONSOLE_PORTS + 1))
#define CONTROL_RECEIVE  2U
#define CONTROL_TRANSMIT 3U
#define PIECE_MAX        4096        /* bytes copied at once */
#define BATCH_MAX        64          /* requests of a queue served in one go... */
#define BATCH_BYTES      (64 * 1024) /* ...and bytes; the rest after it, by the timer */
#define NAME_MAX_SIZE    128         /* bytes of a port's name */
#define CLASS_OTHER      0x078000    /* simple communication controller, other */

/* What the guest has to be told of a port, in the order in which it is. */
enum tell {
    TELL_ADDED = 1 << 0,
    TELL_CONSOLE = 1 << 1,
    TELL_NAME = 1 << 2,
    TELL_CLOSED = 1 << 3, /* before "opened": one client after another */
    TELL_OPENED = 1 << 4,
    TELL_ALL = (1 << 5) - 1,
};

struct port_state {
    uint32_t sent;   /* bytes of the oldest outgoing request that were delivered */
    uint8_t to_tell; /* enum tell */
    bool ready;      /* the driver knows it */
    bool guest_open, host_open;
};

/* The host's part of a port. */
struct port {
    struct virtio_console *console;
    unsigned number;
    struct chardev *chardev;
    char *name; /* NULL for the console */
    bool present;
    struct virtqueue_request *sending, *receiving; /* taken; NULL: none */
};

struct virtio_console {
    struct virtio_device virtio;
    unsigned port_count; /* highest number + 1 */
    struct virtio_console_state {
        struct virtio_state virtio;
        struct virtqueue_state queues[QUEUES_MAX];
        struct pci_msix_entry vectors[QUEUES_MAX + 1];
        struct port_state ports[VIRTIO_CONSOLE_PORTS];
    } state;
    struct {
        struct port ports[VIRTIO_CONSOLE_PORTS];
        struct clock_timer *timer; /* goes on with a batch that was cut */
    } host;
};

static const struct state_field port_fields[] = {
    STATE_U(struct port_state, sent),      STATE_RANGE(struct port_state, to_tell, 0, TELL_ALL),
    STATE_B(struct port_state, ready),     STATE_B(struct port_state, guest_open),
    STATE_B(struct port_state, host_open),
};
static const struct state_table port_table =
    STATE_TABLE("virtio-console-port", 1, struct port_state, port_fields);

static const struct state_field virtio_console_fields[] = {
    STATE_NESTED(struct virtio_console_state, virtio, &virtio_state_table),
    STATE_NESTED_ARRAY(struct virtio_console_state, queues, &virtqueue_state_table),
    STATE_NESTED_ARRAY(struct virtio_console_state, vectors, &pci_msix_entry_table),
    STATE_NESTED_ARRAY(struct virtio_console_state, ports, &port_table),
};
static const struct state_table virtio_console_table =
    STATE_TABLE("virtio-console", 1, struct virtio_console_state, virtio_console_fields);

/* ---- ports ---- */

static struct port_state *state_of(struct port *port)
{
    return &port->console->state.ports[port->number];
}

static struct virtqueue *receive_queue(struct port *port)
{
    return &port->console->virtio.queues[port->number ? 2 * port->number + 2 : 0];
}

static struct virtqueue *transmit_queue(struct port *port)
{
    return receive_queue(port) + 1;
}

static bool has_ports(const struct virtio_console *console)
{
    return virtio_has_feature(&console->virtio, VIRTIO_CONSOLE_F_MULTIPORT);
}

/* Whether the guest will take what comes from the host, sooner or later. */
static bool is_listening(struct port *port)
{
    return virtio_is_running(&port->console->virtio) &&
           (has_ports(port->console) ? state_of(port)->guest_open : port->number == 0);
}

/* Whether what the guest sends goes anywhere. */
static bool is_heard(struct port *port)
{
    return port->chardev && state_of(port)->host_open;
}

static void lock(struct port *port)
{
    g_mutex_lock(&port->console->virtio.pci.device.lock);
}

static void unlock(struct port *port)
{
    g_mutex_unlock(&port->console->virtio.pci.device.lock);
}

static void go_on_later(struct virtio_console *console)
{
    clock_timer_arm(console->host.timer, clock_now(console->virtio.pci.device.env->clock));
}

/* ---- from the guest to the host ---- */

/* Deliver the rest of a request, up to `budget` bytes. True when it is done with. */
static bool request_send(struct port *port, struct virtqueue_request *request, uint32_t *budget)
{
    struct port_state *state = state_of(port);
    uint8_t piece[PIECE_MAX];

    while (state->sent < request->readable_length && is_heard(port) && *budget) {
        uint32_t size = MIN(MIN(request->readable_length - state->sent, PIECE_MAX), *budget);

        if (!virtqueue_request_read(request, state->sent, piece, size)) {
            virtio_break(&port->console->virtio, "a buffer outside of memory");
            return true;
        }
        uint32_t taken = chardev_write(port->chardev, piece, size);
        state->sent += taken;
        *budget -= taken;
        if (taken < size)
            return false;
    }
    /* With nobody there, the rest goes where the rest of a serial line's goes. */
    if (state->sent < request->readable_length && is_heard(port))
        return false;
    state->sent = 0;
    virtqueue_complete(request, 0);
    return true;
}

static void transmit_locked(struct port *port)
{
    struct virtqueue *queue = transmit_queue(port);
    uint32_t budget = BATCH_BYTES;
    unsigned served = 0;

    while (served < BATCH_MAX && budget) {
        struct virtqueue_request *request = port->sending ? port->sending : virtqueue_take(queue);

        port->sending = NULL;
        if (!request)
            break;
        if (!request_send(port, request, &budget)) {
            port->sending = request;
            break;
        }
        served++;
    }
    virtqueue_signal(queue);
    if (served == BATCH_MAX || !budget)
        go_on_later(port->console);
}

/* ---- from the host to the guest ---- */

/* The guest's buffer for what comes next, and its size; 0 when there is none. */
static size_t receive_room_locked(struct port *port)
{
    if (!is_listening(port))
        return 0;
    if (!port->receiving)
        port->receiving = virtqueue_take(receive_queue(port));
    if (!port->receiving)
        return 0;
    if (!port->receiving->writable_length)
        virtio_break(&port->console->virtio, "a buffer for input without room");
    return port->receiving->writable_length;
}

static size_t can_receive(void *opaque)
{
    struct port *port = opaque;

    lock(port);
    size_t room = receive_room_locked(port);
    unlock(port);
    return room;
}

/* A driver that reset the device since it was asked has given the bytes up. */
static void receive(void *opaque, const uint8_t *data, size_t length)
{
    struct port *port = opaque;

    lock(port);
    struct virtqueue_request *request = g_steal_pointer(&port->receiving);
    if (request && length <= request->writable_length) {
        if (virtqueue_request_write(request, 0, data, length)) {
            virtqueue_complete(request, length);
            virtqueue_signal(receive_queue(port));
        } else {
            virtio_break(&port->console->virtio, "a buffer outside of memory");
        }
    }
    unlock(port);
}

static bool wants_rest(void *opaque)
{
    struct port *port = opaque;

    lock(port);
    bool wants = is_listening(port);
    unlock(port);
    return wants;
}

static void writable(void *opaque)
{
    struct port *port = opaque;

    lock(port);
    transmit_locked(port);
    unlock(port);
}

static void accept_input(struct port *port)
{
    if (port->chardev)
        chardev_accept_input(port->chardev);
}

/* ---- control messages (5.3.6.2) ---- */

/* Make the message for one bit of `to_tell`; its size. */
static uint32_t message_make(struct port *port, enum tell tell,
                             uint8_t message[sizeof(struct virtio_console_control) + NAME_MAX_SIZE])
{
    static const struct {
        enum tell tell;
        uint16_t event, value;
    } events[] = {
        {TELL_ADDED, VIRTIO_CONSOLE_PORT_ADD, 0},   {TELL_CONSOLE, VIRTIO_CONSOLE_CONSOLE_PORT, 1},
        {TELL_NAME, VIRTIO_CONSOLE_PORT_NAME, 1},   {TELL_CLOSED, VIRTIO_CONSOLE_PORT_OPEN, 0},
        {TELL_OPENED, VIRTIO_CONSOLE_PORT_OPEN, 1},
    };
    struct virtio_console_control control = {.id = GUINT32_TO_LE(port->number)};
    uint32_t name_size = 0;

    for (unsigned i = 0; i < G_N_ELEMENTS(events); i++)
        if (events[i].tell == tell) {
            control.event = GUINT16_TO_LE(events[i].event);
            control.value = GUINT16_TO_LE(events[i].value);
        }
    /* That the console has a name to be told, only a stream can say. */
    if (tell == TELL_NAME && port->name) {
        name_size = strlen(port->name);
        memcpy(message + sizeof(control), port->name, name_size);
    }
    memcpy(message, &control, sizeof(control));
    return sizeof(control) + name_size;
}

/* Give one message to the guest; false when it has to wait. */
static bool message_send(struct port *port, enum tell tell)
{
    struct virtio_console *console = port->console;
    struct virtqueue_request *request = virtqueue_take(&console->virtio.queues[CONTROL_RECEIVE]);
    uint8_t message[sizeof(struct virtio_console_control) + NAME_MAX_SIZE];

    if (!request)
        return false;
    uint32_t size = message_make(port, tell, message);
    if (!virtqueue_request_write(request, 0, message, size)) {
        virtio_break(&console->virtio, "no room in memory for a control message");
        return false;
    }
    virtqueue_complete(request, size);
    return true;
}

/* Tell all of a port; false when something has to wait. */
static bool tell_port(struct port *port)
{
    uint8_t *to_tell = &state_of(port)->to_tell;

    for (unsigned tell = TELL_ADDED; port->present && tell & TELL_ALL; tell <<= 1) {
        if (*to_tell & tell && !message_send(port, tell))
            return false;
        *to_tell &= ~tell;
    }
    return true;
}

static void tell_locked(struct virtio_console *console)
{
    bool goes_on = has_ports(console);

    for (unsigned i = 0; goes_on && i < console->port_count; i++)
        goes_on = tell_port(&console->host.ports[i]);
    virtqueue_signal(&console->virtio.queues[CONTROL_RECEIVE]);
}

/* The client of the host's side has come or gone. */
static void set_host_open_locked(struct port *port, bool open)
{
    struct port_state *state = state_of(port);

    if (state->host_open == open)
        return;
    state->host_open = open;
    if (state->ready && open)
        state->to_tell |= TELL_OPENED;
    else if (state->ready)
        state->to_tell = (state->to_tell & ~TELL_OPENED) | TELL_CLOSED;
    if (virtio_is_running(&port->console->virtio))
        tell_locked(port->console);
}

static void connected(void *opaque, bool is_connected)
{
    struct port *port = opaque;

    lock(port);
    set_host_open_locked(port, is_connected);
    transmit_locked(port);
    unlock(port);
}

static void device_is_ready(struct virtio_console *console, bool ready)
{
    if (!ready)
        device_guest_error(&console->virtio.pci.device, "the driver has no use for the ports");
    for (unsigned i = 0; ready && i < console->port_count; i++)
        if (console->host.ports[i].present)
            console->state.ports[i].to_tell |= TELL_ADDED;
}

static void port_is_ready(struct port *port, bool ready)
{
    struct port_state *state = state_of(port);

    if (!ready)
        device_guest_error(&port->console->virtio.pci.device, "the driver refuses port %u",
                           port->number);
    state->ready = ready;
    if (ready)
        state->to_tell |=
            (port->name ? TELL_NAME : TELL_CONSOLE) | (state->host_open ? TELL_OPENED : 0);
}

/* A message of the driver. */
static void message_handle(struct virtio_console *console,
                           const struct virtio_console_control *control)
{
    uint32_t number = GUINT32_FROM_LE(control->id);
    uint16_t event = GUINT16_FROM_LE(control->event), value = GUINT16_FROM_LE(control->value);

    if (event == VIRTIO_CONSOLE_DEVICE_READY) {
        device_is_ready(console, value == 1);
        return;
    }
    if (number >= console->port_count || !console->host.ports[number].present) {
        device_guest_error(&console->virtio.pci.device, "control message %u for port %u", event,
                           number);
        return;
    }
    struct port *port = &console->host.ports[number];
    switch (event) {
    case VIRTIO_CONSOLE_PORT_READY:
        port_is_ready(port, value == 1);
        break;
    case VIRTIO_CONSOLE_PORT_OPEN:
        state_of(port)->guest_open = value == 1;
        accept_input(port);
        break;
    default:
        device_guest_error(&console->virtio.pci.device, "control message %u", event);
        break;
    }
}

static void control_locked(struct virtio_console *console)
{
    struct virtqueue *queue = &console->virtio.queues[CONTROL_TRANSMIT];
    struct virtqueue_request *request;
    unsigned served = 0;

    while (served < BATCH_MAX && has_ports(console) && (request = virtqueue_take(queue))) {
        struct virtio_console_control control;

        if (request->readable_length < sizeof(control)) {
            device_guest_error(&console->virtio.pci.device, "a control message that is too short");
        } else if (virtqueue_request_read(request, 0, &control, sizeof(control))) {
            message_handle(console, &control);
        } else {
            virtio_break(&console->virtio, "a control message outside of memory");
            return;
        }
        virtqueue_complete(request, 0);
        served++;
    }
    virtqueue_signal(queue);
    tell_locked(console);
    if (served == BATCH_MAX)
        go_on_later(console);
}

/* ---- the device's side of virtio ---- */

static void notify(struct virtio_device *device, unsigned queue)
{
    struct virtio_console *console = (struct virtio_console *)device;
    struct port *port = &console->host.ports[queue < 2 ? 0 : queue / 2 - 1];

    if (queue == CONTROL_RECEIVE)
        tell_locked(console);
    else if (queue == CONTROL_TRANSMIT)
        control_locked(console);
    else if (queue % 2)
        transmit_locked(port);
    else
        accept_input(port);
}

static void timer_fired(void *opaque)
{
    struct virtio_console *console = opaque;

    g_mutex_lock(&console->virtio.pci.device.lock);
    control_locked(console);
    for (unsigned i = 0; i < console->port_count; i++)
        transmit_locked(&console->host.ports[i]);
    g_mutex_unlock(&console->virtio.pci.device.lock);
}

/* Forget what was taken, as before any request. */
static void forget_requests(struct virtio_console *console)
{
    clock_timer_disarm(console->host.timer);
    for (unsigned i = 0; i < console->port_count; i++)
        console->host.ports[i].sending = console->host.ports[i].receiving = NULL;
}

/* What the driver made of the ports is gone; that somebody is at the host's end is not. */
static void stop(struct virtio_device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;

    g_mutex_lock(&device->pci.device.lock);
    forget_requests(console);
    for (unsigned i = 0; i < console->port_count; i++) {
        struct port *port = &console->host.ports[i];

        *state_of(port) = (struct port_state){.host_open = state_of(port)->host_open};
        accept_input(port);
    }
    g_mutex_unlock(&device->pci.device.lock);
}

static void config_read(struct virtio_device *device, uint8_t *config)
{
    struct virtio_console *console = (struct virtio_console *)device;
    struct virtio_console_config registers = {.max_nr_ports = GUINT32_TO_LE(console->port_count)};

    memcpy(config, &registers, sizeof(registers));
}

/* The emergency register writes a character without a queue, for a system that dies. */
static void config_write(struct virtio_device *device, unsigned offset, unsigned size,
                         uint32_t value)
{
    struct virtio_console *console = (struct virtio_console *)device;
    struct chardev *chardev = console->host.ports[0].chardev;
    uint8_t character = (uint8_t)value;

    if (offset == offsetof(struct virtio_console_config, emerg_wr) && chardev)
        chardev_write(chardev, &character, 1);
}

static const struct virtio_class console_class = {
    .id = VIRTIO_ID_CONSOLE,
    .class_code = CLASS_OTHER,
    .config_size = sizeof(struct virtio_console_config),
    .notify = notify,
    .stop = stop,
    .config_read = config_read,
    .config_write = config_write,
};

/* ---- life ---- */

static void defaults(const struct device_env *env, void *opaque)
{
    struct virtio_console_setup *setup = opaque;

    *setup = (struct virtio_console_setup){
        .address = {NULL, PC_PCI_USER_DEVICES, 0},
        .ports = {{.present = true}, {.present = true, .name = "port1"}},
    };
}

static void ports_init(struct virtio_console *console, const struct virtio_console_setup *setup)
{
    for (unsigned i = 0; i < VIRTIO_CONSOLE_PORTS; i++) {
        const struct virtio_console_port *from = &setup->ports[i];

        console->host.ports[i] = (struct port){
            .console = console,
            .number = i,
            .chardev = from->present ? from->chardev : NULL,
            .name = from->present && i ? g_strndup(from->name, NAME_MAX_SIZE) : NULL,
            .present = from->present,
        };
        if (from->present)
            console->port_count = i + 1;
    }
}

/* Queues that this configuration does not have look as unused ones do. */
static void unused_queues_init(struct virtio_console *console, unsigned queue_count)
{
    for (unsigned i = queue_count; i < QUEUES_MAX; i++)
        console->state.queues[i] =
            (struct virtqueue_state){.size = QUEUE_SIZE, .vector = VIRTIO_NO_VECTOR};
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct virtio_console *console = (struct virtio_console *)device;
    const struct virtio_console_setup *setup = config;

    ports_init(console, setup);
    console->host.timer =
        clock_timer_create(device->env->clock, "virtio-console", timer_fired, console);
    const struct virtio_parts parts = {
        .address = setup->address,
        .state = &console->state.virtio,
        .queues = console->state.queues,
        .vectors = console->state.vectors,
        .queue_count = 2 * (MAX(console->port_count, 1) + 1),
        .queue_size = QUEUE_SIZE,
        .features = 1ULL << VIRTIO_CONSOLE_F_MULTIPORT |
                    (setup->ports[0].present ? 1ULL << VIRTIO_CONSOLE_F_EMERG_WRITE : 0),
    };
    unused_queues_init(console, parts.queue_count);
    return virtio_init(&console->virtio, &console_class, &parts, error);
}

static void set_handlers(struct virtio_console *console, bool on)
{
    for (unsigned i = 0; i < console->port_count; i++) {
        struct port *port = &console->host.ports[i];
        const struct chardev_handlers handlers = {
            .can_receive = can_receive,
            .receive = receive,
            .writable = writable,
            .connected = connected,
            .wants_rest = wants_rest,
            .opaque = port,
        };

        if (port->chardev)
            chardev_set_handlers(port->chardev, on ? &handlers : NULL);
    }
}

static void finish(struct device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;

    set_handlers(console, false);
    clock_timer_destroy(console->host.timer);
    virtio_finish(&console->virtio);
    for (unsigned i = 0; i < VIRTIO_CONSOLE_PORTS; i++)
        g_free(console->host.ports[i].name);
}

static void reset(struct device *device)
{
    virtio_reset((struct virtio_device *)device);
}

static void post_load(struct device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;

    g_mutex_lock(&device->lock);
    forget_requests(console);
    g_mutex_unlock(&device->lock);
    virtio_post_load(&console->virtio);
}

static void pause_ports(struct device *device)
{
    set_handlers((struct virtio_console *)device, false);
}

/* Who is at the host's end may have changed, most of all after a load. */
static void resume_ports(struct device *device)
{
    struct virtio_console *console = (struct virtio_console *)device;

    set_handlers(console, true);
    for (unsigned i = 0; i < console->port_count; i++) {
        struct port *port = &console->host.ports[i];

        lock(port);
        set_host_open_locked(port, port->chardev && chardev_is_connected(port->chardev));
        unlock(port);
    }
    virtio_resume(&console->virtio);
}

const struct device_ops virtio_console_device = {
    .kind = "virtio-console",
    .description = "virtio console and ports",
    .size = sizeof(struct virtio_console),
    .config_size = sizeof(struct virtio_console_setup),
    .state = &virtio_console_table,
    .state_offset = offsetof(struct virtio_console, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
    .pause = pause_ports,
    .resume = resume_ports,
};
