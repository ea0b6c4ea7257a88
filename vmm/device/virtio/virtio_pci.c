// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio over PCI (Virtio 1.2, 4.1) and what all its devices have in common: features, status,
 * reset.
 *
 * One BAR holds the four structures, a page each; vendor capabilities tell the driver where. MSI-X
 * has a BAR of its own, one vector for each queue and one for changes of the configuration. The
 * last capability is a window through which firmware that cannot reach BARs reads and writes the
 * first.
 *
 * Interrupts: with MSI-X enabled, messages by the vectors that the driver assigned; without, INTx
 * is high while any bit of the ISR is set, and reading the ISR clears it (4.1.4.5).
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm/device/virtio/virtio.h"
#include "vmm/util/fault.h"

#define VIRTIO_VENDOR      0x1AF4
#define VIRTIO_DEVICE_BASE 0x1040 /* + the virtio device ID (4.1.2) */
#define VIRTIO_SUBSYSTEM   0x1100
#define VIRTIO_REVISION    1

#define REGISTERS_BAR 0
#define MSIX_BAR      1
/* Pages of the registers' BAR. */
#define PAGE_COMMON       0x0000
#define PAGE_ISR          0x1000
#define PAGE_CONFIG       0x2000
#define PAGE_NOTIFY       0x3000
#define PAGE_SIZE         0x1000
#define REGISTERS_SIZE    0x4000
#define NOTIFY_MULTIPLIER 4 /* each queue has a doorbell of its own */
#define QUEUES_MAX        256
#define CONFIG_MAX        256

#define RING_FEATURES                                                   \
    (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
     1ULL << VIRTIO_RING_F_EVENT_IDX)
#define STATUS_OF_DRIVER                                                                \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK | \
     VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_FAILED)

static const struct state_field virtio_fields[] = {
    STATE_NESTED(struct virtio_state, pci, &pci_state_table),
    STATE_U(struct virtio_state, driver_features),
    STATE_U(struct virtio_state, device_feature_select),
    STATE_U(struct virtio_state, driver_feature_select),
    STATE_U(struct virtio_state, queue_select),
    STATE_U(struct virtio_state, config_vector),
    STATE_U(struct virtio_state, status),
    STATE_RANGE(struct virtio_state, interrupts, 0, VIRTIO_PCI_ISR_CONFIG | 1),
    STATE_U(struct virtio_state, config_generation),
};
const struct state_table virtio_state_table =
    STATE_TABLE("virtio", 1, struct virtio_state, virtio_fields);

bool virtio_has_feature(const struct virtio_device *device, unsigned bit)
{
    return device->state->driver_features & device->offered & 1ULL << bit;
}

bool virtio_is_running(const struct virtio_device *device)
{
    uint8_t gates = VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET;
    return (device->state->status & gates) == VIRTIO_CONFIG_S_DRIVER_OK && !device->stopping;
}

/* ---- interrupts ---- */

static void intx_update_locked(struct virtio_device *device)
{
    pci_intx_set(&device->pci, device->state->interrupts && !pci_msix_enabled(&device->pci));
}

static void interrupt_locked(struct virtio_device *device, uint8_t cause, uint16_t vector)
{
    if (pci_msix_enabled(&device->pci)) {
        pci_msix_notify(&device->pci, vector);
        return;
    }
    device->state->interrupts |= cause;
    intx_update_locked(device);
}

void virtio_interrupt_queue(struct virtio_device *device, struct virtqueue *queue)
{
    interrupt_locked(device, 1, queue->state->vector);
}

static void interrupt_config_locked(struct virtio_device *device)
{
    if (device->state->status & VIRTIO_CONFIG_S_DRIVER_OK)
        interrupt_locked(device, VIRTIO_PCI_ISR_CONFIG, device->state->config_vector);
}

void virtio_config_changed(struct virtio_device *device)
{
    device->state->config_generation++;
    interrupt_config_locked(device);
}

void virtio_break(struct virtio_device *device, const char *what)
{
    device_guest_error(&device->pci.device, "%s", what);
    if (device->state->status & VIRTIO_CONFIG_S_NEEDS_RESET)
        return;
    device->state->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    interrupt_config_locked(device);
}

/* ---- doorbells on the bus ---- */

/* They hang there while requests may be taken, so that the driver's notifications reach the queues'
 * threads without coming through here. */
static void doorbells_update_locked(struct virtio_device *device)
{
    bool hang = virtio_is_running(device);

    if (!device->doorbells || hang == device->doorbells_hung)
        return;
    device->doorbells_hung = hang;
    for (unsigned i = 0; i < device->queue_count; i++)
        if (device->doorbells[i] >= 0)
            pci_bar_doorbell(&device->pci, REGISTERS_BAR, PAGE_NOTIFY + i * NOTIFY_MULTIPLIER,
                             hang ? device->doorbells[i] : -1);
}

/* ---- reset ---- */

static void state_reset_locked(struct virtio_device *device)
{
    struct virtio_state *state = device->state;

    state->driver_features = 0;
    state->device_feature_select = state->driver_feature_select = 0;
    state->queue_select = 0;
    state->config_vector = VIRTIO_NO_VECTOR;
    state->status = state->interrupts = state->config_generation = 0;
    for (unsigned i = 0; i < device->queue_count; i++)
        virtqueue_reset(&device->queues[i]);
    intx_update_locked(device);
}

/* The driver's reset (2.4): PCI's registers and the table of MSI-X stay. */
static void registers_reset(struct virtio_device *device)
{
    GMutex *lock = &device->pci.device.lock;

    g_mutex_lock(&device->reset_lock);
    g_mutex_lock(lock);
    device->stopping = true;
    doorbells_update_locked(device);
    g_mutex_unlock(lock);
    device->class->stop(device);
    g_mutex_lock(lock);
    state_reset_locked(device);
    device->stopping = false;
    g_mutex_unlock(lock);
    g_mutex_unlock(&device->reset_lock);
}

void virtio_reset(struct virtio_device *device)
{
    registers_reset(device);
    pci_function_reset(&device->pci);
}

/* ---- notifications ---- */

int virtio_doorbell_create(const struct virtio_device *device, GError **error)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        g_set_error(error, VMM_ERROR, VMM_ERROR_FAILED, "%s: no descriptor for a doorbell: %s",
                    device->pci.device.id, g_strerror(errno));
    return fd;
}

/* One that is full has rung already. */
void virtio_doorbell_ring(int fd)
{
    uint64_t one = 1;

    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        continue;
}

static void notify_locked(struct virtio_device *device, unsigned queue)
{
    if (device->doorbells && device->doorbells[queue] >= 0)
        virtio_doorbell_ring(device->doorbells[queue]);
    else
        device->class->notify(device, queue);
}

static void notify_all_locked(struct virtio_device *device)
{
    for (unsigned i = 0; virtio_is_running(device) && i < device->queue_count; i++)
        if (device->queues[i].state->enabled)
            notify_locked(device, i);
}

void virtio_resume(struct virtio_device *device)
{
    g_mutex_lock(&device->pci.device.lock);
    notify_all_locked(device);
    g_mutex_unlock(&device->pci.device.lock);
}

/* ---- features and status ---- */

static uint32_t feature_half(uint64_t features, uint32_t select)
{
    return select > 1 ? 0 : (uint32_t)(features >> (32 * select));
}

static bool features_are_acceptable(const struct virtio_device *device)
{
    uint64_t features = device->state->driver_features;
    return !(features & ~device->offered) && (features & 1ULL << VIRTIO_F_VERSION_1);
}

/* Bits only come, until a reset; those that cannot be yet do not (3.1.1). */
static void status_write_locked(struct virtio_device *device, uint8_t value)
{
    struct virtio_state *state = device->state;
    uint8_t added = value & STATUS_OF_DRIVER & ~state->status;

    if ((added & VIRTIO_CONFIG_S_FEATURES_OK) && !features_are_acceptable(device))
        added &= ~(VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
    if (!((state->status | added) & VIRTIO_CONFIG_S_FEATURES_OK))
        added &= ~VIRTIO_CONFIG_S_DRIVER_OK;
    state->status |= added;
    /* Requests may have been put before the device was started. */
    if (added & VIRTIO_CONFIG_S_DRIVER_OK) {
        doorbells_update_locked(device);
        notify_all_locked(device);
    }
}

static void driver_feature_write(struct virtio_device *device, uint32_t value)
{
    struct virtio_state *state = device->state;
    unsigned shift = 32 * (state->driver_feature_select & 1);

    if (state->driver_feature_select > 1)
        return;
    if (state->status & VIRTIO_CONFIG_S_FEATURES_OK) {
        device_guest_error(&device->pci.device, "features changed after they were agreed");
        return;
    }
    state->driver_features &= ~(0xFFFFFFFFULL << shift);
    state->driver_features |= (uint64_t)value << shift;
}

/* ---- common configuration (4.1.4.3) ---- */

static struct virtqueue *queue_selected(struct virtio_device *device)
{
    uint16_t index = device->state->queue_select;
    return index < device->queue_count ? &device->queues[index] : NULL;
}

static void queue_fill(struct virtio_device *device, struct virtio_pci_common_cfg *common)
{
    const struct virtqueue *queue = queue_selected(device);

    if (!queue)
        return;
    const struct virtqueue_state *state = queue->state;
    common->queue_size = GUINT16_TO_LE(state->size);
    common->queue_msix_vector = GUINT16_TO_LE(state->vector);
    common->queue_enable = GUINT16_TO_LE(state->enabled);
    common->queue_notify_off = GUINT16_TO_LE(device->state->queue_select);
    common->queue_desc_lo = GUINT32_TO_LE((uint32_t)state->descriptors);
    common->queue_desc_hi = GUINT32_TO_LE((uint32_t)(state->descriptors >> 32));
    common->queue_avail_lo = GUINT32_TO_LE((uint32_t)state->available);
    common->queue_avail_hi = GUINT32_TO_LE((uint32_t)(state->available >> 32));
    common->queue_used_lo = GUINT32_TO_LE((uint32_t)state->used);
    common->queue_used_hi = GUINT32_TO_LE((uint32_t)(state->used >> 32));
}

static void common_fill(struct virtio_device *device, struct virtio_pci_common_cfg *common)
{
    const struct virtio_state *state = device->state;

    *common = (struct virtio_pci_common_cfg){
        .device_feature_select = GUINT32_TO_LE(state->device_feature_select),
        .device_feature =
            GUINT32_TO_LE(feature_half(device->offered, state->device_feature_select)),
        .guest_feature_select = GUINT32_TO_LE(state->driver_feature_select),
        .guest_feature =
            GUINT32_TO_LE(feature_half(state->driver_features, state->driver_feature_select)),
        .msix_config = GUINT16_TO_LE(state->config_vector),
        .num_queues = GUINT16_TO_LE((uint16_t)device->queue_count),
        .device_status = state->status,
        .config_generation = state->config_generation,
        .queue_select = GUINT16_TO_LE(state->queue_select),
    };
    queue_fill(device, common);
}

/* A vector that is not there reads back as none (4.1.5.1.2.1). */
static uint16_t vector_or_none(const struct virtio_device *device, uint32_t vector)
{
    return vector <= device->queue_count ? (uint16_t)vector : VIRTIO_NO_VECTOR;
}

static void half_set(uint64_t *value, unsigned half, uint32_t bits)
{
    *value &= ~(0xFFFFFFFFULL << (32 * half));
    *value |= (uint64_t)bits << (32 * half);
}

static void queue_size_write(struct virtqueue *queue, uint32_t size)
{
    if (size && size <= queue->size_max && !(size & (size - 1)))
        queue->state->size = (uint16_t)size;
    else
        device_guest_error(&queue->device->pci.device, "a queue of %u entries", size);
}

/* Once a queue is enabled, only a reset lets its registers be changed. */
static void queue_write(struct virtqueue *queue, unsigned offset, uint32_t value)
{
    struct virtqueue_state *state = queue->state;

    if (state->enabled && offset != VIRTIO_PCI_COMMON_Q_MSIX) {
        device_guest_error(&queue->device->pci.device, "an enabled queue's registers changed");
        return;
    }
    switch (offset) {
    case VIRTIO_PCI_COMMON_Q_SIZE:
        queue_size_write(queue, value);
        break;
    case VIRTIO_PCI_COMMON_Q_MSIX:
        state->vector = vector_or_none(queue->device, value);
        break;
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        if (value != 1 || !virtqueue_enable(queue))
            device_guest_error(&queue->device->pci.device, "a queue that cannot be enabled");
        break;
    case VIRTIO_PCI_COMMON_Q_DESCLO:
    case VIRTIO_PCI_COMMON_Q_DESCHI:
        half_set(&state->descriptors, offset == VIRTIO_PCI_COMMON_Q_DESCHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_AVAILLO:
    case VIRTIO_PCI_COMMON_Q_AVAILHI:
        half_set(&state->available, offset == VIRTIO_PCI_COMMON_Q_AVAILHI, value);
        break;
    case VIRTIO_PCI_COMMON_Q_USEDLO:
    case VIRTIO_PCI_COMMON_Q_USEDHI:
        half_set(&state->used, offset == VIRTIO_PCI_COMMON_Q_USEDHI, value);
        break;
    }
}

/* Width of the writable register at `offset`, 0 where there is none. */
static unsigned common_width(unsigned offset)
{
    switch (offset) {
    case VIRTIO_PCI_COMMON_STATUS:
        return 1;
    case VIRTIO_PCI_COMMON_MSIX:
    case VIRTIO_PCI_COMMON_Q_SELECT:
    case VIRTIO_PCI_COMMON_Q_SIZE:
    case VIRTIO_PCI_COMMON_Q_MSIX:
    case VIRTIO_PCI_COMMON_Q_ENABLE:
        return 2;
    case VIRTIO_PCI_COMMON_DFSELECT:
    case VIRTIO_PCI_COMMON_GFSELECT:
    case VIRTIO_PCI_COMMON_GF:
    case VIRTIO_PCI_COMMON_Q_DESCLO ... VIRTIO_PCI_COMMON_Q_USEDHI:
        return 4;
    default:
        return 0;
    }
}

static void common_write_locked(struct virtio_device *device, unsigned offset, uint32_t value)
{
    struct virtio_state *state = device->state;
    struct virtqueue *queue = queue_selected(device);

    switch (offset) {
    case VIRTIO_PCI_COMMON_DFSELECT:
        state->device_feature_select = value;
        break;
    case VIRTIO_PCI_COMMON_GFSELECT:
        state->driver_feature_select = value;
        break;
    case VIRTIO_PCI_COMMON_GF:
        driver_feature_write(device, value);
        break;
    case VIRTIO_PCI_COMMON_MSIX:
        state->config_vector = vector_or_none(device, value);
        break;
    case VIRTIO_PCI_COMMON_STATUS:
        status_write_locked(device, (uint8_t)value);
        break;
    case VIRTIO_PCI_COMMON_Q_SELECT:
        state->queue_select = (uint16_t)value;
        break;
    default:
        if (queue)
            queue_write(queue, offset, value);
        break;
    }
}

/* ---- the registers' BAR ---- */

static uint32_t bytes_get(const void *bytes, unsigned length, unsigned offset, unsigned size)
{
    uint32_t le = 0;

    if (offset < length)
        memcpy(&le, (const uint8_t *)bytes + offset, MIN(size, length - offset));
    return GUINT32_FROM_LE(le);
}

static uint32_t config_get_locked(struct virtio_device *device, unsigned offset, unsigned size)
{
    uint8_t bytes[CONFIG_MAX] = {0};

    if (!device->class->config_read)
        return 0;
    device->class->config_read(device, bytes);
    return bytes_get(bytes, device->class->config_size, offset, size);
}

static uint32_t isr_read_locked(struct virtio_device *device)
{
    uint8_t interrupts = device->state->interrupts;

    device->state->interrupts = 0;
    intx_update_locked(device);
    return interrupts;
}

static uint64_t registers_read(void *opaque, uint64_t address, unsigned size)
{
    struct virtio_device *device = opaque;
    unsigned offset = address % PAGE_SIZE;
    struct virtio_pci_common_cfg common;
    uint32_t value = 0;

    g_mutex_lock(&device->pci.device.lock);
    switch (address - offset) {
    case PAGE_COMMON:
        common_fill(device, &common);
        value = bytes_get(&common, sizeof(common), offset, size);
        break;
    case PAGE_ISR:
        value = offset ? 0 : isr_read_locked(device);
        break;
    case PAGE_CONFIG:
        value = config_get_locked(device, offset, size);
        break;
    }
    g_mutex_unlock(&device->pci.device.lock);
    return value;
}

static void write_locked(struct virtio_device *device, unsigned page, unsigned offset,
                         unsigned size, uint32_t value)
{
    unsigned queue = offset / NOTIFY_MULTIPLIER;

    switch (page) {
    case PAGE_COMMON:
        if (common_width(offset) == size)
            common_write_locked(device, offset, value);
        else
            device_guest_error(&device->pci.device, "no register of %u bytes at %u", size, offset);
        break;
    case PAGE_CONFIG:
        if (device->class->config_write && offset + size <= device->class->config_size)
            device->class->config_write(device, offset, size, value);
        break;
    case PAGE_NOTIFY:
        if (queue < device->queue_count && virtio_is_running(device))
            notify_locked(device, queue);
        break;
    }
}

static void registers_write(void *opaque, uint64_t address, unsigned size, uint64_t value)
{
    struct virtio_device *device = opaque;
    unsigned offset = address % PAGE_SIZE;

    if (address == PAGE_COMMON + VIRTIO_PCI_COMMON_STATUS && size == 1 && !value) {
        registers_reset(device);
        return;
    }
    g_mutex_lock(&device->pci.device.lock);
    write_locked(device, (unsigned)(address - offset), offset, size, (uint32_t)value);
    g_mutex_unlock(&device->pci.device.lock);
}

static const struct bus_ops registers_ops = {
    .read = registers_read,
    .write = registers_write,
    .widths = BUS_WIDTH_1 | BUS_WIDTH_2 | BUS_WIDTH_4,
};

/* ---- the window in configuration space (4.1.4.9) ---- */

/* Where the window points to; false when an access there is none. */
static bool window_target(struct virtio_device *device, uint32_t *address, uint32_t *size)
{
    struct pci_function *pci = &device->pci;
    unsigned base = device->window;

    *address = pci_config_get(pci, base + offsetof(struct virtio_pci_cap, offset), 4);
    *size = pci_config_get(pci, base + offsetof(struct virtio_pci_cap, length), 4);
    return pci_config_get(pci, base + offsetof(struct virtio_pci_cap, bar), 1) == REGISTERS_BAR &&
           (*size == 1 || *size == 2 || *size == 4) && *address < REGISTERS_SIZE &&
           *address % *size == 0;
}

static bool meets_window_data(struct virtio_device *device, unsigned offset, unsigned size)
{
    unsigned data = device->window + sizeof(struct virtio_pci_cap);
    return offset < data + 4 && offset + size > data;
}

static void config_reading(struct pci_function *function, unsigned offset, unsigned size)
{
    struct virtio_device *device = (struct virtio_device *)function;
    uint32_t address, width;

    if (meets_window_data(device, offset, size) && window_target(device, &address, &width))
        pci_config_set(function, device->window + sizeof(struct virtio_pci_cap), 4,
                       (uint32_t)registers_read(device, address, width));
}

static void config_written(struct pci_function *function, unsigned offset, unsigned size)
{
    struct virtio_device *device = (struct virtio_device *)function;
    unsigned data = device->window + sizeof(struct virtio_pci_cap);
    uint32_t address, width;

    if (meets_window_data(device, offset, size) && window_target(device, &address, &width))
        registers_write(device, address, width, pci_config_get(function, data, width));
    g_mutex_lock(&function->device.lock);
    intx_update_locked(device);
    g_mutex_unlock(&function->device.lock);
}

static const struct pci_function_ops function_ops = {
    .config_reading = config_reading,
    .config_written = config_written,
};

/* ---- life ---- */

/* A vendor capability with `extra` bytes behind the common part; its offset. */
static unsigned capability_add(struct virtio_device *device, uint8_t type, uint32_t offset,
                               uint32_t length, unsigned extra)
{
    struct pci_function *pci = &device->pci;
    unsigned size = sizeof(struct virtio_pci_cap) + extra;
    unsigned base = pci_capability_add(pci, PCI_CAP_ID_VNDR, size);

    pci_config_set(pci, base + offsetof(struct virtio_pci_cap, cap_len), 1, size);
    pci_config_set(pci, base + offsetof(struct virtio_pci_cap, cfg_type), 1, type);
    pci_config_set(pci, base + offsetof(struct virtio_pci_cap, bar), 1, REGISTERS_BAR);
    pci_config_set(pci, base + offsetof(struct virtio_pci_cap, offset), 4, offset);
    pci_config_set(pci, base + offsetof(struct virtio_pci_cap, length), 4, length);
    return base;
}

static void capabilities_add(struct virtio_device *device)
{
    struct pci_function *pci = &device->pci;
    unsigned length = device->class->config_size;

    capability_add(device, VIRTIO_PCI_CAP_COMMON_CFG, PAGE_COMMON,
                   sizeof(struct virtio_pci_common_cfg), 0);
    capability_add(device, VIRTIO_PCI_CAP_ISR_CFG, PAGE_ISR, 1, 0);
    if (length)
        capability_add(device, VIRTIO_PCI_CAP_DEVICE_CFG, PAGE_CONFIG, length, 0);
    unsigned notify = capability_add(device, VIRTIO_PCI_CAP_NOTIFY_CFG, PAGE_NOTIFY,
                                     device->queue_count * NOTIFY_MULTIPLIER, 4);
    pci_config_set(pci, notify + offsetof(struct virtio_pci_notify_cap, notify_off_multiplier), 4,
                   NOTIFY_MULTIPLIER);
    unsigned window = capability_add(device, VIRTIO_PCI_CAP_PCI_CFG, 0, 0, 4);
    pci_config_mask(pci, window + offsetof(struct virtio_pci_cap, bar), 1, 0xFF, 0);
    pci_config_mask(pci, window + offsetof(struct virtio_pci_cap, offset), 4, UINT32_MAX, 0);
    pci_config_mask(pci, window + offsetof(struct virtio_pci_cap, length), 4, UINT32_MAX, 0);
    pci_config_mask(pci, window + sizeof(struct virtio_pci_cap), 4, UINT32_MAX, 0);
    device->window = (uint8_t)window;
}

static bool parts_are_sound(const struct virtio_class *class, const struct virtio_parts *parts)
{
    return parts->queue_count >= 1 && parts->queue_count <= QUEUES_MAX &&
           class->config_size <= CONFIG_MAX && parts->queue_size >= 1 &&
           parts->queue_size <= VIRTQUEUE_SIZE_MAX &&
           !(parts->queue_size & (parts->queue_size - 1));
}

bool virtio_init(struct virtio_device *device, const struct virtio_class *class,
                 const struct virtio_parts *parts, GError **error)
{
    struct pci_function *pci = &device->pci;
    const struct pci_identity identity = {
        .vendor = VIRTIO_VENDOR,
        .device = VIRTIO_DEVICE_BASE + class->id,
        .subsystem_vendor = VIRTIO_VENDOR,
        .subsystem = VIRTIO_SUBSYSTEM,
        .class_code = class->class_code,
        .revision = VIRTIO_REVISION,
        .interrupt_pin = 1,
    };

    if (!parts_are_sound(class, parts)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID,
                    "%s: a virtio device has 1 to %d queues of up to %d entries (a power of two)",
                    pci->device.id, QUEUES_MAX, VIRTQUEUE_SIZE_MAX);
        return false;
    }
    device->class = class;
    device->state = parts->state;
    device->state->config_vector = VIRTIO_NO_VECTOR;
    device->offered = parts->features | RING_FEATURES;
    device->doorbells = parts->doorbells;
    device->queue_count = parts->queue_count;
    device->queues = g_new0(struct virtqueue, parts->queue_count);
    g_mutex_init(&device->reset_lock);
    for (unsigned i = 0; i < parts->queue_count; i++)
        virtqueue_init(&device->queues[i], device, &parts->queues[i], parts->queue_size);
    if (!pci_function_init(pci, &identity, &parts->address, &device->state->pci, &function_ops,
                           error) ||
        !pci_bar_add(pci, REGISTERS_BAR, PCI_BAR_MEMORY32, false, REGISTERS_SIZE, pci->device.id,
                     &registers_ops, device, error) ||
        !pci_msix_add(pci, MSIX_BAR, parts->vectors, parts->queue_count + 1, error))
        return false;
    capabilities_add(device);
    pci_function_plug(pci);
    return true;
}

void virtio_finish(struct virtio_device *device)
{
    pci_function_finish(&device->pci);
    for (unsigned i = 0; device->queues && i < device->queue_count; i++)
        virtqueue_finish(&device->queues[i]);
    if (device->queues)
        g_mutex_clear(&device->reset_lock);
    g_clear_pointer(&device->queues, g_free);
}

void virtio_post_load(struct virtio_device *device)
{
    g_mutex_lock(&device->pci.device.lock);
    for (unsigned i = 0; i < device->queue_count; i++)
        virtqueue_post_load(&device->queues[i]);
    doorbells_update_locked(device);
    g_mutex_unlock(&device->pci.device.lock);
    pci_function_post_load(&device->pci);
}
