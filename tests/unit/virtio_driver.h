// SPDX-License-Identifier: Apache-2.0
/*
 * The smallest driver of a virtio PCI device that speaks registers, for the tests of such devices:
 * it opens BARs, negotiates, lays rings out in the bench's memory, puts chains and looks at what
 * comes back. It keeps to the rules; tests break them by writing memory or registers themselves.
 */
#pragma once

#include "tests/unit/device_bench.h"

#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>

#include "vmm/device/virtio/virtio.h"

#define DRIVER_REGISTERS 0xC0000000UL
#define DRIVER_MSIX      0xC0010000UL
#define DRIVER_NOTIFY    (DRIVER_REGISTERS + 0x3000)
#define DRIVER_ISR       (DRIVER_REGISTERS + 0x1000)
/* Where queue `queue` has its areas; buffers of tests lie from 0x40000 on. */
#define DRIVER_DESCRIPTORS(queue) (0x10000 + 0x4000ULL * (queue))
#define DRIVER_AVAILABLE(queue)   (DRIVER_DESCRIPTORS(queue) + 0x1000)
#define DRIVER_USED(queue)        (DRIVER_DESCRIPTORS(queue) + 0x2000)
#define DRIVER_READY                                                                      \
    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
     VIRTIO_CONFIG_S_DRIVER_OK)

struct driver {
    struct bench *bench;
    struct pci_function *pci;
    uint16_t size; /* of each queue */
};

static inline uint32_t driver_read(struct driver *driver, unsigned offset, unsigned size)
{
    return bus_read(driver->bench->env.mmio, DRIVER_REGISTERS + offset, size);
}

static inline void driver_write(struct driver *driver, unsigned offset, unsigned size,
                                uint32_t value)
{
    bus_write(driver->bench->env.mmio, DRIVER_REGISTERS + offset, size, value);
}

static inline uint8_t driver_status(struct driver *driver)
{
    return driver_read(driver, VIRTIO_PCI_COMMON_STATUS, 1);
}

static inline void driver_set_status(struct driver *driver, uint8_t status)
{
    driver_write(driver, VIRTIO_PCI_COMMON_STATUS, 1, status);
}

static inline uint32_t driver_config(struct driver *driver, unsigned offset, unsigned size)
{
    return pci_config_read(driver->bench->env.pci, 0, driver->pci->devfn, offset, size);
}

static inline void driver_set_config(struct driver *driver, unsigned offset, unsigned size,
                                     uint32_t value)
{
    pci_config_write(driver->bench->env.pci, 0, driver->pci->devfn, offset, size, value);
}

/* Put the BARs into place and switch decoding and bus mastering on. */
static inline void driver_open(struct driver *driver, struct bench *bench, struct device *device)
{
    *driver = (struct driver){bench, (struct pci_function *)device, 8};
    driver_set_config(driver, PCI_BASE_ADDRESS_0, 4, DRIVER_REGISTERS);
    driver_set_config(driver, PCI_BASE_ADDRESS_1, 4, DRIVER_MSIX);
    driver_set_config(driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static inline uint64_t driver_offered(struct driver *driver)
{
    uint64_t features = 0;

    for (unsigned half = 0; half < 2; half++) {
        driver_write(driver, VIRTIO_PCI_COMMON_DFSELECT, 4, half);
        features |= (uint64_t)driver_read(driver, VIRTIO_PCI_COMMON_DF, 4) << (32 * half);
    }
    return features;
}

static inline void driver_accept(struct driver *driver, uint64_t features)
{
    for (unsigned half = 0; half < 2; half++) {
        driver_write(driver, VIRTIO_PCI_COMMON_GFSELECT, 4, half);
        driver_write(driver, VIRTIO_PCI_COMMON_GF, 4, (uint32_t)(features >> (32 * half)));
    }
}

static inline void driver_queue(struct driver *driver, unsigned queue)
{
    driver_write(driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
    driver_write(driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, driver->size);
    driver_write(driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, queue + 1);
    driver_write(driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4, DRIVER_DESCRIPTORS(queue));
    driver_write(driver, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, DRIVER_AVAILABLE(queue));
    driver_write(driver, VIRTIO_PCI_COMMON_Q_USEDLO, 4, DRIVER_USED(queue));
    driver_write(driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
}

/* From reset to DRIVER_OK, with `features` of those offered and `queues` queues. */
static inline void driver_start(struct driver *driver, uint64_t features, unsigned queues)
{
    driver_set_status(driver, 0);
    driver_set_status(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    driver_accept(driver, features | 1ULL << VIRTIO_F_VERSION_1);
    driver_set_status(driver, DRIVER_READY & ~VIRTIO_CONFIG_S_DRIVER_OK);
    for (unsigned queue = 0; queue < queues; queue++)
        driver_queue(driver, queue);
    driver_set_status(driver, DRIVER_READY);
    assert_int_equal(driver_status(driver), DRIVER_READY);
}

/* ---- memory ---- */

static inline void driver_poke(struct driver *driver, uint64_t address, const void *bytes,
                               uint64_t size)
{
    assert_true(memory_write(driver->bench->env.memory, address, bytes, size));
}

static inline void driver_peek(struct driver *driver, uint64_t address, void *bytes, uint64_t size)
{
    assert_true(memory_read(driver->bench->env.memory, address, bytes, size));
}

static inline void driver_poke16(struct driver *driver, uint64_t address, uint16_t value)
{
    driver_poke(driver, address, &value, sizeof(value));
}

static inline uint16_t driver_peek16(struct driver *driver, uint64_t address)
{
    uint16_t value;
    driver_peek(driver, address, &value, sizeof(value));
    return value;
}

/* Entry `index` of the table at `table`. */
static inline void driver_descriptor(struct driver *driver, uint64_t table, unsigned index,
                                     uint64_t address, uint32_t length, uint16_t flags,
                                     uint16_t next)
{
    struct vring_desc descriptor = {address, length, flags, next};
    driver_poke(driver, table + index * sizeof(descriptor), &descriptor, sizeof(descriptor));
}

/* Make `head` available, without a notification. */
static inline void driver_put(struct driver *driver, unsigned queue, uint16_t head)
{
    uint64_t ring = DRIVER_AVAILABLE(queue);
    uint16_t index = driver_peek16(driver, ring + 2);

    driver_poke16(driver, ring + 4 + 2 * (index % driver->size), head);
    driver_poke16(driver, ring + 2, index + 1);
}

static inline void driver_notify(struct driver *driver, unsigned queue)
{
    bus_write(driver->bench->env.mmio, DRIVER_NOTIFY + 4 * queue, 2, queue);
}

static inline uint16_t driver_used_count(struct driver *driver, unsigned queue)
{
    return driver_peek16(driver, DRIVER_USED(queue) + 2);
}

static inline struct vring_used_elem driver_used(struct driver *driver, unsigned queue,
                                                 unsigned index)
{
    struct vring_used_elem element;

    driver_peek(driver, DRIVER_USED(queue) + 4 + sizeof(element) * (index % driver->size), &element,
                sizeof(element));
    return element;
}

/* ---- MSI-X ---- */

/* Unmask every vector; vector N sends N to 0xFEE00000. */
static inline void driver_msix(struct driver *driver, unsigned vectors)
{
    for (unsigned i = 0; i < vectors; i++) {
        bus_write(driver->bench->env.mmio, DRIVER_MSIX + 16 * i, 4, 0xFEE00000);
        bus_write(driver->bench->env.mmio, DRIVER_MSIX + 16 * i + 8, 4, i);
        bus_write(driver->bench->env.mmio, DRIVER_MSIX + 16 * i + 12, 4, 0);
    }
    driver_set_config(driver, driver->pci->msix + PCI_MSIX_FLAGS, 2, PCI_MSIX_FLAGS_ENABLE);
}
