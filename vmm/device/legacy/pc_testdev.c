// SPDX-License-Identifier: Apache-2.0
/*
 * "pc-testdev" as kvm-unit-tests use it (described at the head of QEMU's hw/misc/pc-testdev.c):
 *   0xE0 to 0xE3      a register that keeps what is written, in accesses of 1, 2 and 4 bytes
 *   0xE4 to 0xE7      writing a guest-physical address drops cached translations of its page
 *   0xE8 to 0xEB      the register at 0xE0 again, reached by single bytes
 *   0x2000 to 0x2017  a write drives the interrupt line of that number to value != 0
 *   0xFF000000        64 KiB of device memory
 * Dropping translations changes nothing that a guest can see, since engines keep none that memory's
 * authority does not know of.
 */
#include "vmm/device/legacy/pc_testdev.h"

#include <string.h>

#include "vmm/machine/pc/layout.h"

#define PORT_FLUSH  (PC_PORT_TESTDEV + 4)
#define PORT_BYTES  (PC_PORT_TESTDEV + 8)
#define PORT_LINES  0x2000
#define LINES       24
#define MEMORY_BASE 0xFF000000
#define MEMORY_SIZE 0x10000

struct testdev_state {
    uint8_t latch[4];
    uint32_t lines; /* levels driven */
    uint8_t memory[MEMORY_SIZE];
};

struct testdev {
    struct device device;
    struct pc_testdev_config config;
    struct testdev_state state;
    struct bus_window *windows[5];
};

static const struct state_field fields[] = {
    STATE_RAW(struct testdev_state, latch),
    STATE_RANGE(struct testdev_state, lines, 0, (1U << LINES) - 1),
    STATE_RAW(struct testdev_state, memory),
};

static const struct state_table table = STATE_TABLE("pc-testdev", 1, struct testdev_state, fields);

/* ---- registers ---- */

/* Little-endian bytes; the bus keeps offset + size within the window. */
static uint64_t get_bytes(struct testdev *testdev, const uint8_t *from, unsigned size)
{
    uint64_t value = 0;

    g_mutex_lock(&testdev->device.lock);
    memcpy(&value, from, size);
    g_mutex_unlock(&testdev->device.lock);
    return value;
}

static void put_bytes(struct testdev *testdev, uint8_t *to, unsigned size, uint64_t value)
{
    g_mutex_lock(&testdev->device.lock);
    memcpy(to, &value, size);
    g_mutex_unlock(&testdev->device.lock);
}

static uint64_t latch_read(void *device, uint64_t offset, unsigned size)
{
    struct testdev *testdev = device;
    return get_bytes(testdev, testdev->state.latch + offset, size);
}

static void latch_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct testdev *testdev = device;
    put_bytes(testdev, testdev->state.latch + offset, size, value);
}

static uint64_t flush_read(void *device, uint64_t offset, unsigned size)
{
    return 0;
}

static void flush_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
}

static uint64_t ram_read(void *device, uint64_t offset, unsigned size)
{
    struct testdev *testdev = device;
    return get_bytes(testdev, testdev->state.memory + offset, size);
}

static void ram_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct testdev *testdev = device;
    put_bytes(testdev, testdev->state.memory + offset, size, value);
}

static uint64_t lines_read(void *device, uint64_t offset, unsigned size)
{
    return 0;
}

static void lines_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct testdev *testdev = device;
    uint32_t bit = 1U << offset;

    g_mutex_lock(&testdev->device.lock);
    testdev->state.lines = value ? testdev->state.lines | bit : testdev->state.lines & ~bit;
    irq_set(&testdev->config.lines[offset], value != 0);
    g_mutex_unlock(&testdev->device.lock);
}

#define WIDTHS_124 (BUS_WIDTH_1 | BUS_WIDTH_2 | BUS_WIDTH_4)

static const struct bus_ops latch_ops = {latch_read, latch_write, WIDTHS_124};
static const struct bus_ops byte_ops = {latch_read, latch_write, BUS_WIDTH_1};
static const struct bus_ops flush_ops = {flush_read, flush_write, WIDTHS_124};
static const struct bus_ops memory_ops = {ram_read, ram_write, BUS_WIDTH_ANY};
static const struct bus_ops lines_ops = {lines_read, lines_write, BUS_WIDTH_1};

/* ---- life ---- */

/* The lines are shared with real devices: drive only those that were raised here. */
static void drive_raised(struct testdev *testdev, bool level)
{
    for (unsigned i = 0; i < LINES; i++) {
        if (testdev->state.lines >> i & 1)
            irq_set(&testdev->config.lines[i], level);
    }
}

static void reset(struct device *device)
{
    struct testdev *testdev = (struct testdev *)device;

    g_mutex_lock(&device->lock);
    drive_raised(testdev, false);
    memset(&testdev->state, 0, sizeof(testdev->state));
    g_mutex_unlock(&device->lock);
}

static void post_load(struct device *device)
{
    struct testdev *testdev = (struct testdev *)device;

    g_mutex_lock(&device->lock);
    drive_raised(testdev, true);
    g_mutex_unlock(&device->lock);
}

static bool init(struct device *device, const void *config, GError **error)
{
    struct testdev *testdev = (struct testdev *)device;
    struct bus *pio = device->env->pio;

    testdev->config = *(const struct pc_testdev_config *)config;
    testdev->windows[0] = bus_claim(pio, device->id, PC_PORT_TESTDEV, 4, 0, &latch_ops, testdev);
    testdev->windows[1] = bus_claim(pio, device->id, PORT_FLUSH, 4, 0, &flush_ops, testdev);
    testdev->windows[2] = bus_claim(pio, device->id, PORT_BYTES, 4, 0, &byte_ops, testdev);
    testdev->windows[3] = bus_claim(pio, device->id, PORT_LINES, LINES, 0, &lines_ops, testdev);
    testdev->windows[4] =
        bus_claim(device->env->mmio, device->id, MEMORY_BASE, MEMORY_SIZE, 0, &memory_ops, testdev);
    return true;
}

static void finish(struct device *device)
{
    struct testdev *testdev = (struct testdev *)device;

    for (unsigned i = 0; i < G_N_ELEMENTS(testdev->windows); i++)
        bus_release(testdev->windows[i]);
}

static void defaults(const struct device_env *env, void *config)
{
    struct pc_testdev_config *testdev = config;

    for (unsigned i = 0; i < LINES; i++)
        testdev->lines[i] = env->gsi[i];
}

const struct device_ops pc_testdev_device = {
    .kind = "pc-testdev",
    .description = "registers and interrupt lines for test kernels",
    .size = sizeof(struct testdev),
    .config_size = sizeof(struct pc_testdev_config),
    .state = &table,
    .state_offset = offsetof(struct testdev, state),
    .defaults = defaults,
    .init = init,
    .finish = finish,
    .reset = reset,
    .post_load = post_load,
};
