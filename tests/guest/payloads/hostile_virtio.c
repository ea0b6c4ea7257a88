// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile driver of every virtio device on bus 0: it negotiates well enough that the device
 * starts, and then gives it descriptors that loop, overlap, lie outside of RAM or in windows of
 * devices, are huge or change while the device works; rings anywhere, doorbells of queues that are
 * not there, resets and bus master bits in the middle. Most chains look like good requests, so that
 * more than the first check is reached. A second processor, where there is one, writes to the rings
 * and buffers meanwhile. It checks nothing itself: the VMM has to live.
 */
#include "hostile.h"

#define DEVICES_MAX 16
#define QUEUES_MAX  64
#define BARS        0xC0000000UL /* each device has 4 MiB */
#define RAM_END     (64UL << 20)
/* Far above this program, so that what a device writes beyond a buffer hits nothing of ours. */
#define ARENA        (16UL << 20)
#define RINGS_SIZE   0x4000UL /* of each queue: descriptors, available, used */
#define BUFFERS      (ARENA + QUEUES_MAX * RINGS_SIZE)
#define BUFFERS_SIZE (1UL << 20)

#define VIRTIO_VENDOR 0x1af4
#define CAP_VENDOR    0x09
enum { COMMON_CFG = 1, NOTIFY_CFG, ISR_CFG, DEVICE_CFG, CFG_TYPES };
/* Offsets of the common configuration (Virtio 1.2, 4.1.4.3). */
enum {
    FEATURE_SELECT = 0,
    FEATURE = 4,
    DRIVER_FEATURE_SELECT = 8,
    DRIVER_FEATURE = 12,
    CONFIG_VECTOR = 16,
    NUM_QUEUES = 18,
    STATUS = 20,
    QUEUE_SELECT = 22,
    QUEUE_SIZE = 24,
    QUEUE_VECTOR = 26,
    QUEUE_ENABLE = 28,
    QUEUE_NOTIFY_OFF = 30,
    QUEUE_DESC = 32,
    QUEUE_DRIVER = 40,
    QUEUE_DEVICE = 48,
};
#define AP_START 0x8000UL /* where lib/ap.S runs */

extern char ap_trampoline[], ap_trampoline_end[];
extern void (*ap_entry)(void);
extern uint64_t ap_stacks;

#define NEEDS_RESET 0x40 /* of STATUS */
enum { F_NEXT = 1, F_WRITE = 2, F_INDIRECT = 4 };

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct device {
    unsigned slot; /* on bus 0 */
    unsigned kind; /* the device ID of chapter 5: 1 net, 2 blk, 3 console, 4 rng */
    uint64_t at[CFG_TYPES];
    uint32_t multiplier;
    unsigned queues;
    uint16_t size[QUEUES_MAX], index[QUEUES_MAX];
};

static struct device devices[DEVICES_MAX];
static unsigned device_count;

/* ---- configuration space ---- */

static uint32_t config_read(unsigned slot, unsigned offset)
{
    outl(0xcf8, 0x80000000 | slot << 11 | (offset & 0xfc));
    return inl(0xcfc) >> 8 * (offset & 3);
}

static void config_write(unsigned slot, unsigned offset, uint32_t value)
{
    outl(0xcf8, 0x80000000 | slot << 11 | (offset & 0xfc));
    outl(0xcfc, value);
}

static void place_bars(struct device *device)
{
    uint64_t base = BARS + device_count * (4UL << 20);

    for (unsigned bar = 0; bar < 6; bar++)
        config_write(device->slot, 0x10 + 4 * bar, base + bar * 0x80000);
    config_write(device->slot, 4, 6);
}

static void find_structures(struct device *device)
{
    for (unsigned cap = config_read(device->slot, 0x34) & 0xfc; cap;
         cap = config_read(device->slot, cap + 1) & 0xfc) {
        unsigned type = config_read(device->slot, cap + 3) & 0xff;
        unsigned bar = config_read(device->slot, cap + 4) & 0xff;

        if ((config_read(device->slot, cap) & 0xff) != CAP_VENDOR || type >= CFG_TYPES || bar > 5)
            continue;
        device->at[type] =
            (config_read(device->slot, 0x10 + 4 * bar) & ~15U) + config_read(device->slot, cap + 8);
        if (type == NOTIFY_CFG)
            device->multiplier = config_read(device->slot, cap + 16);
    }
}

static void find_devices(void)
{
    for (unsigned slot = 0; slot < 32 && device_count < DEVICES_MAX; slot++) {
        struct device *device = &devices[device_count];
        uint32_t id = config_read(slot, 0);

        if ((id & 0xffff) != VIRTIO_VENDOR || id >> 16 < 0x1040)
            continue;
        device->slot = slot;
        device->kind = (id >> 16) - 0x1040;
        place_bars(device);
        find_structures(device);
        if (device->at[COMMON_CFG] && device->at[NOTIFY_CFG])
            device_count++;
    }
}

/* ---- registers ---- */

static void put8(uint64_t at, uint8_t value)
{
    *(volatile uint8_t *)at = value;
}
static void put16(uint64_t at, uint16_t value)
{
    *(volatile uint16_t *)at = value;
}
static void put32(uint64_t at, uint32_t value)
{
    *(volatile uint32_t *)at = value;
}
static uint16_t get16(uint64_t at)
{
    return *(volatile uint16_t *)at;
}
static uint32_t get32(uint64_t at)
{
    return *(volatile uint32_t *)at;
}

/* ---- what is given to devices ---- */

static uint64_t rings_of(unsigned queue)
{
    return ARENA + queue * RINGS_SIZE;
}

static bool one_in(unsigned count)
{
    return random64() % count == 0;
}

static uint64_t wild_address(void)
{
    static const uint64_t places[] = {
        RAM_END - 16, RAM_END,    0xc0000000, 0xc0003000,  0xe0000000, 0xfec00000,
        0xfed00000,   0xfee00000, 0xfffffff0, 0x100000000, 1UL << 51,  ~0UL - 0xfff,
        1UL << 63,    0xa0000,    0xfffc0000, ~0UL,
    };
    return places[random64() % 16] + random64() % 32;
}

static uint32_t any_length(void)
{
    static const uint32_t lengths[] = {0,      1,      7,       512,        513,        4096,
                                       0x1000, 0x8000, 0x10000, 0x7fffffff, 0xfffffff0, 0xffffffff};
    return one_in(3) ? lengths[random64() % 12] : random64() % 2048;
}

static uint64_t buffer(void)
{
    return BUFFERS + random64() % (BUFFERS_SIZE - 0x20000);
}

static void random_descriptor(struct descriptor *descriptor, unsigned size)
{
    descriptor->address = one_in(4) ? wild_address() : buffer();
    descriptor->length = any_length();
    descriptor->flags = one_in(16) ? random64() : random64() % 4;
    descriptor->next = one_in(16) ? random64() : random64() % size;
    if (!one_in(8))
        return;
    descriptor->flags = F_INDIRECT | (one_in(8) ? F_NEXT | F_WRITE : 0);
    descriptor->length = 16 * (1 + random64() % 64) + one_in(16);
    struct descriptor *table = (struct descriptor *)(buffer() & ~15UL);
    if (!one_in(8))
        descriptor->address = (uint64_t)table;
    for (unsigned i = 0; i < 64; i++) {
        table[i].address = one_in(8) ? wild_address() : buffer();
        table[i].length = any_length();
        table[i].flags = random64() % (one_in(16) ? 8 : 4);
        table[i].next = one_in(4) ? random64() % 80 : i + 1;
    }
}

/* What requests of this kind begin with, mostly right: of a network a frame's header or a command,
 * of a disk type and sector, of a console's control queue port and event. */
static void fill_header(const struct device *device, uint64_t at)
{
    static const uint8_t disk_types[] = {0, 1, 1, 1, 4, 8, 11, 13};

    for (unsigned i = 0; i < 4; i++)
        put32(at + 4 * i, 0);
    if (device->kind == 2) {
        put32(at, disk_types[random64() % 8]);
        put32(at + 8, one_in(8) ? odd_value() : random64() % 0x4000);
    } else if (device->kind == 3) {
        put32(at, random64() % 6);
        put32(at + 4, random64() % 9 | (random64() % 2) << 16);
    } else if (one_in(2)) {
        put32(at, random64() % 0x0606);
    }
    if (one_in(8))
        put32(at + 4 * (random64() % 4), odd_value());
}

/* Room for input; or a header, data one way or the other, and room for a status, any of which may
 * be missing. */
static void plausible_chain(const struct device *device, struct descriptor *table, unsigned head,
                            unsigned size)
{
    unsigned parts = one_in(8) ? 1 + random64() % 2 : 3, at = head;
    unsigned direction = one_in(2) ? F_WRITE : 0;
    bool input = device->kind != 2 && one_in(2);

    for (unsigned part = 0; part < (input ? 1 : parts); part++) {
        const uint32_t lengths[] = {one_in(8)           ? any_length()
                                    : device->kind == 1 ? 12
                                                        : 16,
                                    512 * (1 + random64() % 16), 1};

        table[at].address = buffer() & ~511UL;
        table[at].length = lengths[part];
        table[at].flags = (part == 0   ? 0
                           : part == 2 ? F_WRITE
                                       : direction) |
                          (part + 1 < parts ? F_NEXT : 0);
        table[at].next = (at + 1) % size;
        if (part == 0)
            fill_header(device, table[at].address);
        at = (at + 1) % size;
    }
    if (input) {
        table[head].flags = F_WRITE;
        table[head].length = 2048;
    }
}

static void offer_requests(struct device *device, unsigned queue)
{
    struct descriptor *table = (struct descriptor *)rings_of(queue);
    unsigned size = device->size[queue] ? device->size[queue] : 1;
    uint64_t available = rings_of(queue) + 0x2000;
    unsigned count = random64() % 8;

    for (unsigned i = 0; i < count; i++) {
        unsigned head = random64() % size;

        if (one_in(6))
            random_descriptor(&table[head], size);
        else
            plausible_chain(device, table, head, size);
        put16(available + 4 + 2 * (device->index[queue] % size), one_in(64) ? random64() : head);
        device->index[queue]++;
    }
    if (one_in(64))
        device->index[queue] = random64();
    put16(available, random64() % 2);
    put16(available + 2, device->index[queue]);
}

static void change_memory(void)
{
    for (unsigned i = 0; i < 64; i++) {
        uint64_t at = one_in(2) ? rings_of(random64() % 8) + random64() % RINGS_SIZE : buffer();
        *(volatile uint64_t *)(at & ~7UL) = odd_value();
    }
}

/* ---- another processor, which changes memory under devices that work ---- */

static volatile unsigned scribbles;

static void scribble(void)
{
    uint64_t state = random_state;

    for (;;) {
        state = state * 6364136223846793005 + 1442695040888963407;
        uint64_t place = state >> 33, value = state >> 20;
        uint64_t at = place % 2 ? rings_of(place / 2 % 8) + place / 16 % RINGS_SIZE
                                : BUFFERS + place / 2 % BUFFERS_SIZE;

        /* Lengths and flags matter most, and most of all when they nearly fit. */
        *(volatile uint16_t *)(at & ~1UL) = value % 8 ? value % 5 : value;
        scribbles++;
        for (unsigned i = 0; i < 100; i++)
            asm volatile("");
    }
}

static void start_scribbler(void)
{
    static uint8_t stack[8192] __attribute__((aligned(16)));
    volatile uint32_t *lapic = (volatile uint32_t *)0xfee00000;

    memcpy((void *)AP_START, ap_trampoline, ap_trampoline_end - ap_trampoline);
    ap_entry = scribble;
    ap_stacks = (uint64_t)stack + sizeof(stack);
    lapic[0xf0 / 4] = 0x1ff;
    lapic[0x300 / 4] = 0xc4500; /* INIT, then SIPI, to all others */
    lapic[0x300 / 4] = 0xc4600 | AP_START >> 12;
}

/* ---- what a driver does ---- */

static void enable_queue(struct device *device, unsigned queue)
{
    uint64_t common = device->at[COMMON_CFG], rings = rings_of(queue % QUEUES_MAX);
    uint16_t most;

    put16(common + QUEUE_SELECT, queue);
    most = get16(common + QUEUE_SIZE);
    if (one_in(2) && most)
        put16(common + QUEUE_SIZE, one_in(8) ? random64() : 1U << random64() % 9);
    device->size[queue % QUEUES_MAX] = get16(common + QUEUE_SIZE);
    device->index[queue % QUEUES_MAX] = 0;
    memset((void *)rings, 0, RINGS_SIZE);
    for (unsigned area = 0; area < 3; area++) {
        uint64_t address =
            one_in(64) ? wild_address() : rings + area * 0x1000 + (area ? 0x1000 : 0);

        put32(common + QUEUE_DESC + 8 * area, address);
        put32(common + QUEUE_DESC + 8 * area + 4, address >> 32);
    }
    put16(common + QUEUE_VECTOR, random64() % 4);
    put16(common + QUEUE_ENABLE, !one_in(16));
}

static void start(struct device *device)
{
    uint64_t common = device->at[COMMON_CFG];
    uint32_t mask = one_in(2) ? ~0U : random64();

    put8(common + STATUS, 0);
    config_write(device->slot, 4, 6);
    put8(common + STATUS, 3);
    put32(common + FEATURE_SELECT, 0);
    put32(common + DRIVER_FEATURE_SELECT, 0);
    put32(common + DRIVER_FEATURE, get32(common + FEATURE) & mask);
    put32(common + DRIVER_FEATURE_SELECT, 1);
    put32(common + DRIVER_FEATURE, 1);
    put8(common + STATUS, 11);
    device->queues = get16(common + NUM_QUEUES);
    for (unsigned queue = 0; queue < device->queues && queue < QUEUES_MAX; queue++)
        if (!one_in(32))
            enable_queue(device, queue);
    put8(common + STATUS, 15);
}

static void ring(struct device *device, unsigned queue)
{
    put16(device->at[NOTIFY_CFG] + (queue & 0x1ff) * device->multiplier,
          one_in(16) ? random64() : queue);
}

static void odd_register(struct device *device)
{
    unsigned type = 1 + random64() % 4;
    uint64_t at = device->at[type] + random64() % 64;

    if (!device->at[type])
        return;
    switch (random64() % 4) {
    case 0:
        put32(at & ~3UL, odd_value());
        break;
    case 1:
        put16(at & ~1UL, odd_value());
        break;
    case 2:
        put8(at, odd_value());
        break;
    default:
        get32(at & ~3UL);
    }
}

static unsigned some_queue(const struct device *device)
{
    return device->queues ? random64() % (device->queues < QUEUES_MAX ? device->queues : QUEUES_MAX)
                          : 0;
}

/* Mostly requests and doorbells; a memory change right behind a doorbell meets a device that works
 * on another thread. */
static void act(struct device *device)
{
    unsigned action = random64() % 64, queue = some_queue(device);

    if (one_in(2) && *(volatile uint8_t *)(device->at[COMMON_CFG] + STATUS) & NEEDS_RESET)
        start(device);
    if (action < 40) {
        offer_requests(device, queue);
        ring(device, queue);
        if (one_in(4))
            change_memory();
    } else if (action < 50) {
        ring(device, one_in(4) ? random64() : queue);
    } else if (action < 58) {
        change_memory();
    } else if (action < 60) {
        odd_register(device);
    } else if (action == 60) {
        put8(device->at[COMMON_CFG] + STATUS, 0);
    } else if (action == 61) {
        config_write(device->slot, 4, random64() % 8);
        ring(device, queue);
        config_write(device->slot, 4, 6);
    } else {
        start(device);
    }
}

void payload_main(const char *cmdline)
{
    unsigned rounds = hostile_begin(cmdline);

    find_devices();
    print("%u virtio devices\n", device_count);
    for (unsigned i = 0; i < device_count; i++)
        start(&devices[i]);
    start_scribbler();
    for (unsigned i = 0; device_count && i < rounds; i++)
        act(&devices[random64() % device_count]);
    print("another processor wrote %u times\n", scribbles);
    check(device_count > 0, "no virtio device");
}
