// SPDX-License-Identifier: Apache-2.0
/*
 * pvpanic (QEMU's docs/specs/pvpanic): a read tells which events are known, a write reports one: a
 * panic, a panic whose crash kernel takes over (the machine goes on), or an orderly shutdown.
 */
#include "vmm/device/legacy/pvpanic.h"

#include "vmm/machine/pc/layout.h"

#define EVENT_PANICKED     0x01
#define EVENT_CRASH_LOADED 0x02
#define EVENT_SHUTDOWN     0x04
#define EVENTS             (EVENT_PANICKED | EVENT_CRASH_LOADED | EVENT_SHUTDOWN)

struct pvpanic {
    struct device device;
    struct pvpanic_config config;
    struct bus_window *window;
};

static uint64_t pio_read(void *device, uint64_t offset, unsigned size)
{
    return EVENTS;
}

static void pio_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    struct pvpanic *pvpanic = device;
    const struct machine_requests *requests = &pvpanic->device.env->requests;

    if (value & EVENT_PANICKED)
        requests->crashed(requests->machine, "the guest's kernel panicked");
    else if (value & EVENT_CRASH_LOADED)
        device_guest_error(&pvpanic->device, "the kernel panicked and starts its crash kernel");
    else if (value & EVENT_SHUTDOWN)
        requests->power_off(requests->machine, "pvpanic shutdown");
}

static const struct bus_ops pio_ops = {pio_read, pio_write, BUS_WIDTH_1};

static bool init(struct device *device, const void *config, GError **error)
{
    struct pvpanic *pvpanic = (struct pvpanic *)device;

    pvpanic->config = *(const struct pvpanic_config *)config;
    pvpanic->window =
        bus_claim(device->env->pio, device->id, pvpanic->config.port, 1, 0, &pio_ops, pvpanic);
    return true;
}

static void finish(struct device *device)
{
    bus_release(((struct pvpanic *)device)->window);
}

static void defaults(const struct device_env *env, void *config)
{
    *(struct pvpanic_config *)config = (struct pvpanic_config){.port = PC_PORT_PVPANIC};
}

const struct device_ops pvpanic_device = {
    .kind = "pvpanic",
    .description = "port by which a guest tells that it crashed",
    .size = sizeof(struct pvpanic),
    .config_size = sizeof(struct pvpanic_config),
    .defaults = defaults,
    .init = init,
    .finish = finish,
};
