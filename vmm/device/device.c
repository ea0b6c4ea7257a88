// SPDX-License-Identifier: Apache-2.0
/*
 * What all devices have in common: creation, reset, saving and loading by their state table, and
 * the log of what a guest should not have done.
 */
#include "vmm/device/device.h"
#include "vmm/util/fault.h"

static void *device_state(struct device *device)
{
    return (char *)device + device->ops->state_offset;
}

struct device *device_create(const struct device_ops *ops, const char *id,
                             const struct device_env *env, const void *config, GError **error)
{
    struct device *device = g_malloc0(ops->size); /* lint: ok, a constant of the program */

    device->ops = ops;
    device->id = g_strdup(id);
    device->env = env;
    g_mutex_init(&device->lock);
    if (!ops->init(device, config, error)) {
        device_destroy(device);
        return NULL;
    }
    return device;
}

void device_destroy(struct device *device)
{
    if (!device)
        return;
    if (device->ops->finish)
        device->ops->finish(device);
    g_mutex_clear(&device->lock);
    g_free(device->id);
    g_free(device);
}

void device_reset(struct device *device)
{
    if (device->ops->reset)
        device->ops->reset(device);
}

void device_pause(struct device *device)
{
    if (device->ops->pause)
        device->ops->pause(device);
}

void device_resume(struct device *device)
{
    if (device->ops->resume)
        device->ops->resume(device);
}

GBytes *device_save(struct device *device)
{
    if (!device->ops->state)
        return NULL;
    if (device->ops->pre_save)
        device->ops->pre_save(device);
    g_mutex_lock(&device->lock);
    GBytes *bytes = state_save(device->ops->state, device_state(device));
    g_mutex_unlock(&device->lock);
    return bytes;
}

bool device_load(struct device *device, GBytes *bytes, GError **error)
{
    if (!device->ops->state) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "%s: a %s has no state to load",
                    device->id, device->ops->kind);
        return false;
    }
    g_mutex_lock(&device->lock);
    bool loaded = state_load(device->ops->state, device_state(device), bytes, error);
    g_mutex_unlock(&device->lock);
    if (!loaded) {
        g_prefix_error(error, "%s: ", device->id);
        return false;
    }
    if (device->ops->post_load)
        device->ops->post_load(device);
    return true;
}

void device_guest_error(struct device *device, const char *format, ...)
{
    uint64_t count = __atomic_add_fetch(&device->guest_errors, 1, __ATOMIC_RELAXED);
    va_list args;

    /* At counts of 1, 2, 4, 8 ...: a guest in a loop fills no log, whatever its pace. */
    if (count & (count - 1))
        return;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    g_message("%s: guest error %" G_GUINT64_FORMAT ": %s", device->id, count, what);
}
