// SPDX-License-Identifier: Apache-2.0
/*
 * A bench for one device: buses, a manual clock, a little memory, an I/O thread, and instruments on
 * everything that the device can reach. Included by device tests, each of which is a program of its
 * own.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/device/device.h"
#include "vmm/device/pci/pci.h"
#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/device/virtio/virtio_net.h"
#include "vmm/util/loop.h"

#define BENCH_WALL  (1700000000LL * NS_PER_SECOND) /* 2023-11-14 22:13:20 UTC, a Tuesday */
#define BENCH_RAM   (1UL << 20)
#define BENCH_DISK  (1UL << 20)
#define BENCH_LINES 64
#define US          1000LL
#define MS          1000000LL

struct bench {
    struct device_env env;
    int ram;
    struct {
        bool level;
        unsigned rises;
        int64_t rose_at; /* machine time of the last rise */
    } lines[BENCH_LINES];
    unsigned messages; /* MSIs; the last one: */
    uint64_t address;
    uint32_t data;
    struct pci_bus *bus; /* behind a bridge, for a PCI device; NULL: it is on bus 0 */
    struct block *disk;  /* for a device that needs one */
    struct net_link *link;
    int wire; /* the far end of the link */
    unsigned resets, power_offs, sleeps, exits, crashes;
    unsigned s_state;
    int status;
};

static inline void bench_line_set(void *controller, unsigned pin, bool level)
{
    struct bench *bench = controller;

    if (level && !bench->lines[pin].level) {
        bench->lines[pin].rises++;
        bench->lines[pin].rose_at = clock_now(bench->env.clock);
    }
    bench->lines[pin].level = level;
}

static inline void bench_msi(void *opaque, uint64_t address, uint32_t data)
{
    struct bench *bench = opaque;

    bench->messages++;
    bench->address = address;
    bench->data = data;
}

static inline void bench_reset(void *machine, const char *reason)
{
    ((struct bench *)machine)->resets++;
}

static inline void bench_power_off(void *machine, const char *reason)
{
    ((struct bench *)machine)->power_offs++;
}

static inline void bench_sleep(void *machine, unsigned s_state)
{
    ((struct bench *)machine)->sleeps++;
    ((struct bench *)machine)->s_state = s_state;
}

static inline void bench_exit(void *machine, int status)
{
    ((struct bench *)machine)->exits++;
    ((struct bench *)machine)->status = status;
}

static inline void bench_crashed(void *machine, const char *reason)
{
    ((struct bench *)machine)->crashes++;
}

static inline struct irq_line bench_line(struct bench *bench, unsigned pin)
{
    return (struct irq_line){bench_line_set, bench, pin};
}

/* A disk of BENCH_DISK bytes of memory. */
static inline struct block *bench_disk(struct loop *loop)
{
    struct block_config config = {
        .fd = memory_memfd("disk", BENCH_DISK, NULL), .name = "bench", .loop = loop};

    assert_true(config.fd >= 0);
    return block_raw_create(&config, NULL);
}

/* A cable; its far end takes frames until somebody has to read them. */
static inline struct net_link *bench_link(int *wire)
{
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    struct net_link_config config = {NET_LINK_PACKETS, ends[0], "bench"};
    *wire = ends[1];
    return net_link_create(&config, NULL);
}

/* Throw away what came over the cable. */
static inline void bench_drain(struct bench *bench)
{
    uint8_t byte;

    while (recv(bench->wire, &byte, 1, MSG_DONTWAIT) > 0)
        continue;
}

static inline struct bench *bench_create(void)
{
    struct bench *bench = g_new0(struct bench, 1);

    bench->env.clock = clock_create_manual(BENCH_WALL);
    bench->env.pio = bus_create("pio", UINT16_MAX);
    bench->env.mmio = bus_create("mmio", (1ULL << 52) - 1);
    bench->env.memory = memory_create();
    bench->env.pci = pci_root_create();
    bench->env.loop = loop_create("io/bench", NULL);
    assert_non_null(bench->env.loop);
    bench->disk = bench_disk(bench->env.loop);
    bench->link = bench_link(&bench->wire);
    bench->ram = memory_memfd("bench", BENCH_RAM, NULL);
    assert_true(bench->ram >= 0);
    assert_true(
        memory_add(bench->env.memory, "ram", MEMORY_RAM, 0, BENCH_RAM, bench->ram, 0, NULL));
    for (unsigned i = 0; i < BENCH_LINES; i++)
        bench->env.gsi[i] = bench_line(bench, i);
    bench->env.msi = bench_msi;
    bench->env.msi_opaque = bench;
    bench->env.requests = (struct machine_requests){
        .reset = bench_reset,
        .power_off = bench_power_off,
        .sleep = bench_sleep,
        .exit = bench_exit,
        .crashed = bench_crashed,
        .machine = bench,
    };
    return bench;
}

/* All devices are destroyed before. */
static inline void bench_destroy(struct bench *bench)
{
    block_destroy(bench->disk);
    net_link_destroy(bench->link);
    close(bench->wire);
    loop_destroy(bench->env.loop);
    pci_bus_destroy(bench->env.pci);
    memory_destroy(bench->env.memory);
    bus_destroy(bench->env.mmio);
    bus_destroy(bench->env.pio);
    clock_destroy(bench->env.clock);
    close(bench->ram);
    g_free(bench);
}

/* A device in its place in the standard PC. */
static inline struct device *bench_device(struct bench *bench, const struct device_ops *kind)
{
    const struct pci_address behind = {bench->bus, 0, 0};
    g_autofree void *config = g_malloc0(kind->config_size + 1);
    GError *error = NULL;

    if (kind->defaults)
        kind->defaults(&bench->env, config);
    if (bench->bus && kind->config_size >= sizeof(behind))
        memcpy(config, &behind, sizeof(behind));
    if (kind == &virtio_blk_device)
        ((struct virtio_disk_config *)config)->block = bench->disk;
    if (kind == &virtio_net_device)
        ((struct virtio_nic_config *)config)->link = bench->link;
    struct device *device = device_create(kind, kind->kind, &bench->env, config, &error);
    if (!device)
        fail_msg("%s: %s", kind->kind, error ? error->message : "no error given");
    return device;
}

static inline uint8_t in8(struct bench *bench, uint16_t port)
{
    return bus_read(bench->env.pio, port, 1);
}

static inline void out8(struct bench *bench, uint16_t port, uint8_t value)
{
    bus_write(bench->env.pio, port, 1, value);
}

static inline uint16_t in16(struct bench *bench, uint16_t port)
{
    return bus_read(bench->env.pio, port, 2);
}

static inline void out16(struct bench *bench, uint16_t port, uint16_t value)
{
    bus_write(bench->env.pio, port, 2, value);
}

static inline uint32_t in32(struct bench *bench, uint16_t port)
{
    return bus_read(bench->env.pio, port, 4);
}

static inline void out32(struct bench *bench, uint16_t port, uint32_t value)
{
    bus_write(bench->env.pio, port, 4, value);
}

static inline void bench_step(struct bench *bench, int64_t ns)
{
    clock_step(bench->env.clock, ns);
}

/* The level and the number of rises of a line, and forget the rises. */
static inline unsigned bench_rises(struct bench *bench, unsigned pin)
{
    unsigned rises = bench->lines[pin].rises;

    bench->lines[pin].rises = 0;
    return rises;
}
