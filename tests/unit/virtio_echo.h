// SPDX-License-Identifier: Apache-2.0
/*
 * A virtio device for tests: it takes requests when told to and keeps them until told to give them
 * back, as a disk or a network does. Two queues, 16 bytes of configuration, one feature of its own.
 */
#pragma once

#include "tests/unit/virtio_driver.h"

#define ECHO_QUEUES  2
#define ECHO_SIZE    16
#define ECHO_FEATURE 5

struct echo {
    struct virtio_device virtio;
    struct echo_state {
        struct virtio_state virtio;
        struct virtqueue_state queues[ECHO_QUEUES];
        struct pci_msix_entry vectors[ECHO_QUEUES + 1];
        uint8_t config[16];
    } state;
    unsigned notifies, stops;
};

static const struct state_field echo_fields[] = {
    STATE_NESTED(struct echo_state, virtio, &virtio_state_table),
    STATE_NESTED_ARRAY(struct echo_state, queues, &virtqueue_state_table),
    STATE_NESTED_ARRAY(struct echo_state, vectors, &pci_msix_entry_table),
    STATE_RAW(struct echo_state, config),
};
static const struct state_table echo_table = STATE_TABLE("echo", 1, struct echo_state, echo_fields);

static inline void echo_notify(struct virtio_device *device, unsigned queue)
{
    ((struct echo *)device)->notifies++;
}

static inline void echo_stop(struct virtio_device *device)
{
    ((struct echo *)device)->stops++;
}

static inline void echo_config_read(struct virtio_device *device, uint8_t *config)
{
    memcpy(config, ((struct echo *)device)->state.config, 16);
}

static inline void echo_config_write(struct virtio_device *device, unsigned offset, unsigned size,
                                     uint32_t value)
{
    memcpy(((struct echo *)device)->state.config + offset, &value, size);
}

static const struct virtio_class echo_class = {
    .id = 42,
    .class_code = 0xFF0000,
    .config_size = 16,
    .notify = echo_notify,
    .stop = echo_stop,
    .config_read = echo_config_read,
    .config_write = echo_config_write,
};

static inline bool echo_init(struct device *device, const void *config, GError **error)
{
    struct echo *echo = (struct echo *)device;
    const struct virtio_parts parts = {
        .address = {NULL, 3, 0},
        .state = &echo->state.virtio,
        .queues = echo->state.queues,
        .vectors = echo->state.vectors,
        .queue_count = ECHO_QUEUES,
        .queue_size = ECHO_SIZE,
        .features = 1ULL << ECHO_FEATURE,
    };
    return virtio_init(&echo->virtio, &echo_class, &parts, error);
}

static inline void echo_finish(struct device *device)
{
    virtio_finish((struct virtio_device *)device);
}

static inline void echo_reset(struct device *device)
{
    virtio_reset((struct virtio_device *)device);
}

static inline void echo_post_load(struct device *device)
{
    virtio_post_load((struct virtio_device *)device);
}

static const struct device_ops echo_device = {
    .kind = "echo",
    .size = sizeof(struct echo),
    .state = &echo_table,
    .state_offset = offsetof(struct echo, state),
    .init = echo_init,
    .finish = echo_finish,
    .reset = echo_reset,
    .post_load = echo_post_load,
};

/* One device with its driver. */
struct echo_bench {
    struct bench *bench;
    struct echo *echo;
    struct driver driver;
};

static inline int echo_setup(void **state)
{
    struct echo_bench *it = g_new0(struct echo_bench, 1);

    it->bench = bench_create();
    it->echo = (struct echo *)bench_device(it->bench, &echo_device);
    driver_open(&it->driver, it->bench, &it->echo->virtio.pci.device);
    *state = it;
    return 0;
}

static inline int echo_teardown(void **state)
{
    struct echo_bench *it = *state;

    device_destroy(&it->echo->virtio.pci.device);
    bench_destroy(it->bench);
    g_free(it);
    return 0;
}

/* virtqueue_take and _complete as a device calls them. */
static inline struct virtqueue_request *echo_take(struct echo *echo, unsigned queue)
{
    g_mutex_lock(&echo->virtio.pci.device.lock);
    struct virtqueue_request *request = virtqueue_take(&echo->virtio.queues[queue]);
    g_mutex_unlock(&echo->virtio.pci.device.lock);
    return request;
}

static inline void echo_complete(struct echo *echo, struct virtqueue_request *request,
                                 uint32_t written)
{
    struct virtqueue *queue = request->queue;

    g_mutex_lock(&echo->virtio.pci.device.lock);
    virtqueue_complete(request, written);
    virtqueue_signal(queue);
    g_mutex_unlock(&echo->virtio.pci.device.lock);
}

#define ECHO_SCENARIO(name) cmocka_unit_test_setup_teardown(name, echo_setup, echo_teardown)
