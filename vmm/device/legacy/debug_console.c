// SPDX-License-Identifier: Apache-2.0
/*
 * The debug console at port 0xE9, known from Bochs: each byte written is printed; a read gives E9H,
 * which is how its presence is found. It has no flow control, so output that the back end has no
 * room for is lost, and counted.
 */
#include "vmm/device/legacy/debug_console.h"

#include "vmm/machine/pc/layout.h"

#define PRESENT 0xE9

struct debug_console {
    struct device device;
    struct debug_console_config config;
    struct bus_window *window;
};

static uint64_t pio_read(void *device, uint64_t offset, unsigned size)
{
    return PRESENT;
}

static void pio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_console *console = device;
    uint8_t byte = value;

    if (console->config.chardev && !chardev_write(console->config.chardev, &byte, 1))
        device_guest_error(&console->device, "output faster than its reader was lost");
}

static const struct bus_ops pio_ops = {pio_read, pio_write, BUS_WIDTH_1};

static bool init(struct device *device, const void *config, GError **error)
{
    struct debug_console *console = (struct debug_console *)device;

    console->config = *(const struct debug_console_config *)config;
    console->window =
        bus_claim(device->env->pio, device->id, console->config.port, 1, 0, &pio_ops, console);
    return true;
}

static void finish(struct device *device)
{
    bus_release(((struct debug_console *)device)->window);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct debug_console_config *)config =
        (struct debug_console_config){.port = PC_PORT_DEBUG_CONSOLE};
}

const struct device_ops debug_console_device = {
    .kind = "debug-console",
    .description = "port that prints",
    .size = sizeof(struct debug_console),
    .config_size = sizeof(struct debug_console_config),
    .defaults = defaults,
    .init = init,
    .finish = finish,
};
