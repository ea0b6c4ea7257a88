// SPDX-License-Identifier: Apache-2.0
/*
 * One device at a time, under a guest that is the input: accesses to all its windows and its
 * configuration space, memory that changes, time that passes, resets, and state that is saved,
 * damaged and loaded. What a device saves, it must load. Two shortcuts spare the input what it
 * would hardly find: the BARs are put into place, and a virtio device is brought to DRIVER_OK with
 * its rings in low memory.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/memory.h"

#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/device/device.h"
#include "vmm/device/pci/pci.h"
#include "vmm/device/virtio/virtio_blk.h"
#include "vmm/device/virtio/virtio_net.h"
#include "vmm/util/loop.h"

#define RAM         (1UL << 20)
#define DISK        (1UL << 20)
#define LINES       64
#define WINDOWS_MAX 64
#define BARS        0xC0000000UL
#define BAR_STRIDE  0x10000UL
#define RINGS       4096 /* bytes: what the input writes of memory lies there mostly */
#define QUEUES      6
#define RING_STRIDE 64
#define STEP_NS     100000 /* times a byte of the input */

struct window {
    struct bus *bus;
    uint64_t first, last;
};

/* What the device under test reaches, and where its windows lie now. */
struct bench {
    struct device_env env;
    struct block *disk; /* of a device that needs one, or NULL */
    struct net_link *link;
    int wire; /* the far end of the link, or -1 */
    struct device *device;
    struct bus *listed;
    struct window windows[WINDOWS_MAX];
    unsigned window_count;
};

static struct loop *the_loop; /* of all benches, one after another */

static void ignore_line(void *controller, unsigned pin, bool level)
{
}

static void ignore_message(void *opaque, uint64_t address, uint32_t data)
{
}

static void ignore_reason(void *machine, const char *reason)
{
}

static void ignore_sleep(void *machine, unsigned s_state)
{
}

static void ignore_exit(void *machine, int status)
{
}

static void ignore_log(const gchar *domain, GLogLevelFlags level, const gchar *message,
                       gpointer data)
{
}

static struct net_link *make_link(int *wire)
{
    int ends[2];

    fuzz_require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    struct net_link_config config = {NET_LINK_PACKETS, ends[0], "fuzz"};
    *wire = ends[1];
    return net_link_create(&config, NULL);
}

static struct block *make_disk(void)
{
    struct block_config config = {
        .fd = memory_memfd("disk", DISK, NULL), .name = "fuzz", .loop = the_loop};

    fuzz_require(config.fd >= 0);
    return block_raw_create(&config, NULL);
}

static void bench_init(struct bench *bench, const struct device_ops *ops)
{
    g_autofree void *config = g_malloc0(ops->config_size + 1);

    *bench = (struct bench){
        .wire = -1,
        .env =
            {
                .clock = clock_create_manual(0),
                .pio = bus_create("pio", UINT16_MAX),
                .mmio = bus_create("mmio", (1ULL << 52) - 1),
                .memory = memory_create(),
                .pci = pci_root_create(),
                .loop = the_loop,
                .msi = ignore_message,
                .requests = {ignore_reason, ignore_reason, ignore_sleep, ignore_exit, ignore_reason,
                             NULL},
            },
    };
    for (unsigned i = 0; i < LINES; i++)
        bench->env.gsi[i] = (struct irq_line){ignore_line, bench, i};
    test_memory_add(bench->env.memory, MEMORY_RAM, 0, RAM);
    if (ops->defaults)
        ops->defaults(&bench->env, config);
    if (ops == &virtio_blk_device)
        ((struct virtio_disk_config *)config)->block = bench->disk = make_disk();
    if (ops == &virtio_net_device)
        ((struct virtio_nic_config *)config)->link = bench->link = make_link(&bench->wire);
    bench->device = device_create(ops, ops->kind, &bench->env, config, NULL);
    fuzz_require(bench->device);
    device_resume(bench->device);
}

static void bench_finish(struct bench *bench)
{
    device_destroy(bench->device);
    block_destroy(bench->disk);
    net_link_destroy(bench->link);
    if (bench->wire >= 0)
        close(bench->wire);
    pci_bus_destroy(bench->env.pci);
    memory_destroy(bench->env.memory);
    bus_destroy(bench->env.mmio);
    bus_destroy(bench->env.pio);
    clock_destroy(bench->env.clock);
}

static void list_window(void *opaque, const char *name, uint64_t first, uint64_t last)
{
    struct bench *bench = opaque;

    if (bench->window_count < WINDOWS_MAX)
        bench->windows[bench->window_count++] = (struct window){bench->listed, first, last};
}

static void list_windows(struct bench *bench)
{
    bench->window_count = 0;
    bench->listed = bench->env.pio;
    bus_for_each(bench->env.pio, list_window, bench);
    bench->listed = bench->env.mmio;
    bus_for_each(bench->env.mmio, list_window, bench);
}

static void access_register(struct bench *bench, struct fuzz_input *input, bool is_write)
{
    uint8_t place = fuzz_byte(input), size = 1U << (fuzz_byte(input) & 3);
    uint16_t offset;
    uint64_t value = 0;

    fuzz_take(input, &offset, sizeof(offset));
    list_windows(bench);
    if (!bench->window_count)
        return;
    const struct window *window = &bench->windows[place % bench->window_count];
    uint64_t address = window->first + offset % MIN(window->last - window->first + 1, 65536);
    if (is_write) {
        fuzz_take(input, &value, size);
        bus_write(window->bus, address, size, value);
    } else {
        bus_read(window->bus, address, size);
    }
}

static void access_configuration(struct bench *bench, struct fuzz_input *input)
{
    uint16_t place;
    uint32_t value;

    fuzz_take(input, &place, sizeof(place));
    fuzz_take(input, &value, sizeof(value));
    unsigned size = 1U << (place >> 12) % 3, offset = (place & 4095) & ~(size - 1);
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        if (pci_bus_function(bench->env.pci, devfn))
            pci_config_write(bench->env.pci, 0, devfn, offset, size, value);
    }
}

/* Put every memory BAR somewhere and let the function decode and master the bus. */
static void open_functions(struct bench *bench)
{
    for (unsigned devfn = 0; devfn < 256; devfn++) {
        if (!pci_bus_function(bench->env.pci, devfn))
            continue;
        for (unsigned i = 0; i < PCI_BARS; i++)
            pci_config_write(bench->env.pci, 0, devfn, PCI_BASE_ADDRESS_0 + 4 * i, 4,
                             BARS + i * BAR_STRIDE);
        pci_config_write(bench->env.pci, 0, devfn, PCI_COMMAND, 2,
                         PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    }
}

static void set_register(struct bench *bench, unsigned offset, unsigned size, uint32_t value)
{
    bus_write(bench->env.mmio, BARS + offset, size, value);
}

/* What a virtio driver does up to DRIVER_OK, with features and rings of the input's choice; the
 * queues share descriptors. To any other device in that place these are writes like all. */
static void start_virtio(struct bench *bench, struct fuzz_input *input)
{
    uint8_t rings = fuzz_byte(input), features = fuzz_byte(input), place[3] = {0};

    fuzz_take(input, place, sizeof(place));
    open_functions(bench);
    set_register(bench, VIRTIO_PCI_COMMON_STATUS, 1, 0);
    set_register(bench, VIRTIO_PCI_COMMON_DFSELECT, 4, 0);
    uint32_t offered = bus_read(bench->env.mmio, BARS + VIRTIO_PCI_COMMON_DF, 4);
    set_register(bench, VIRTIO_PCI_COMMON_GF, 4,
                 offered & (features * 0x010101U | (rings & 3U) << 28));
    set_register(bench, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
    set_register(bench, VIRTIO_PCI_COMMON_GF, 4, 1);
    set_register(bench, VIRTIO_PCI_COMMON_STATUS, 1, 11);
    for (unsigned queue = 0; queue < QUEUES; queue++) {
        set_register(bench, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
        set_register(bench, VIRTIO_PCI_COMMON_Q_SIZE, 2, 1U << (rings >> 4));
        set_register(bench, VIRTIO_PCI_COMMON_Q_DESCLO, 4, place[0] * 16U);
        set_register(bench, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, place[1] * 16U + queue * RING_STRIDE);
        set_register(bench, VIRTIO_PCI_COMMON_Q_USEDLO, 4, place[2] * 16U + queue * RING_STRIDE);
        set_register(bench, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    }
    set_register(bench, VIRTIO_PCI_COMMON_STATUS, 1, 15);
}

static void change_memory(struct bench *bench, struct fuzz_input *input)
{
    uint8_t bytes[16] = {0}, size = 1 + (fuzz_byte(input) & 15);
    uint16_t place;

    fuzz_take(input, &place, sizeof(place));
    fuzz_take(input, bytes, size);
    memory_write(bench->env.memory, place % RINGS, bytes, size);
}

/* Its own state back, whole, or with a byte or two changed. */
static void save_and_load(struct bench *bench, struct fuzz_input *input)
{
    if (!bench->device->ops->state)
        return;
    device_pause(bench->device);
    g_autoptr(GBytes) saved = device_save(bench->device);
    uint8_t changes = fuzz_byte(input) & 3;
    gsize size;

    g_autofree uint8_t *bytes = g_memdup2(g_bytes_get_data(saved, NULL), g_bytes_get_size(saved));
    size = g_bytes_get_size(saved);
    for (unsigned i = 0; i < changes; i++) {
        uint16_t place;
        fuzz_take(input, &place, sizeof(place));
        bytes[place % size] = fuzz_byte(input);
    }
    g_autoptr(GBytes) changed = g_bytes_new(bytes, size);
    bool loaded = device_load(bench->device, changed, NULL);
    fuzz_require(loaded || changes);
    device_resume(bench->device);
}

/* Frames go over the cable, and one comes. */
static void exchange_frames(struct bench *bench, struct fuzz_input *input)
{
    uint8_t frame[4096] = {0}, byte;
    size_t length = 1 + fuzz_byte(input) * 16;

    if (bench->wire < 0)
        return;
    while (recv(bench->wire, &byte, 1, MSG_DONTWAIT) > 0)
        continue;
    fuzz_take(input, frame, MIN(length, 32));
    send(bench->wire, frame, length, MSG_DONTWAIT);
}

static void act(struct bench *bench, struct fuzz_input *input)
{
    uint8_t action = fuzz_byte(input);

    switch (action % 16) {
    case 0:
        clock_step(bench->env.clock, (int64_t)fuzz_byte(input) * STEP_NS);
        break;
    case 1:
        save_and_load(bench, input);
        break;
    case 2:
        access_configuration(bench, input);
        break;
    case 3:
        if (action >> 4 == 0)
            device_reset(bench->device);
        else
            exchange_frames(bench, input);
        break;
    case 4 ... 6:
        access_register(bench, input, false);
        break;
    case 7:
        start_virtio(bench, input);
        break;
    case 8 ... 9:
        change_memory(bench, input);
        break;
    default:
        access_register(bench, input, true);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    struct bench bench;
    unsigned count = 0;

    g_log_set_handler("anima", G_LOG_LEVEL_MESSAGE, ignore_log, NULL);
    while (device_kinds[count])
        count++;
    if (!the_loop)
        the_loop = loop_create("io/fuzz", NULL);
    fuzz_require(the_loop);
    bench_init(&bench, device_kinds[fuzz_byte(&input) % count]);
    while (input.size)
        act(&bench, &input);
    bench_finish(&bench);
    return 0;
}
