// SPDX-License-Identifier: Apache-2.0
/*
 * The "isa-debug-exit" of test kernels (kvm-unit-tests): four ports, of which a write of any width
 * ends the VMM with status (value << 1) | 1, so that it is never 0. Reads give 0.
 */
#include "vmm/device/legacy/debug_exit.h"

#include "vmm/machine/pc/layout.h"

#define PORTS 4

struct debug_exit {
    struct device device;
    struct debug_exit_config config;
    struct bus_window *window;
};

static uint64_t pio_read(void *device, uint64_t offset, unsigned size)
{
    return 0;
}

static void pio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct debug_exit *debug_exit = device;
    const struct machine_requests *requests = &debug_exit->device.env->requests;

    requests->exit(requests->machine, (uint32_t)value << 1 | 1);
}

static const struct bus_ops pio_ops = {pio_read, pio_write,
                                       BUS_WIDTH_1 | BUS_WIDTH_2 | BUS_WIDTH_4};

static bool init(struct device *device, const void *config, GError **error)
{
    struct debug_exit *debug_exit = (struct debug_exit *)device;

    debug_exit->config = *(const struct debug_exit_config *)config;
    debug_exit->window = bus_claim(device->env->pio, device->id, debug_exit->config.port, PORTS, 0,
                                   &pio_ops, debug_exit);
    return true;
}

static void finish(struct device *device)
{
    bus_release(((struct debug_exit *)device)->window);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct debug_exit_config *)config = (struct debug_exit_config){.port = PC_PORT_DEBUG_EXIT};
}

const struct device_ops debug_exit_device = {
    .kind = "isa-debug-exit",
    .description = "port that ends the VMM with a status",
    .size = sizeof(struct debug_exit),
    .config_size = sizeof(struct debug_exit_config),
    .defaults = defaults,
    .init = init,
    .finish = finish,
};
