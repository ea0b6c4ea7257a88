// SPDX-License-Identifier: Apache-2.0
/*
 * Disks and network cards that come and go behind root ports of a machine that runs. The guest is
 * this test: it writes slot registers, and drives a disk by its queue, on a vCPU's thread where it
 * matters.
 */
#include "tests/unit/machine_bench.h"

#include <linux/pci_regs.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <sys/socket.h>

#include "vmm/device/pci/pci.h"
#include "vmm/machine/internal.h"

#define DISK_SIZE (4UL << 20)
#define BAR       0xC0000000UL
#define NOTIFY    (BAR + 0x3000)
#define QUEUE     64
#define RINGS     0x300000UL /* descriptors, available and used, a page each; requests behind */
#define REQUESTS  0x400000UL
#define REQUEST   0x3000UL /* header, two pages of data, status */

struct hot {
    struct bench *bench;
    struct loop *loop;
    struct block *disk;
    unsigned releases;
    char released[16];
    bool detaches; /* when it is told that the guest has let go */
};

static struct hot *the_hot; /* of the vCPU's acts */

static void on_released(void *opaque, const char *id)
{
    struct hot *hot = the_hot;

    hot->releases++;
    g_strlcpy(hot->released, id, sizeof(hot->released));
    if (hot->detaches)
        machine_detach(hot->bench->machine, hot->released);
}

static void open_disk(struct hot *hot)
{
    struct block_config config = {
        .fd = memfd_create("disk", MFD_CLOEXEC), .name = "hot", .loop = hot->loop};

    assert_int_equal(ftruncate(config.fd, DISK_SIZE), 0);
    hot->disk = block_raw_create(&config, NULL);
    assert_non_null(hot->disk);
}

static int setup(void **state)
{
    struct hot *hot = g_new0(struct hot, 1);

    bench_setup((void **)&hot->bench);
    hot->loop = loop_create("io/hot", NULL);
    open_disk(hot);
    hot->bench->config.loop = hot->loop;
    hot->bench->config.listener.released = on_released;
    hot->detaches = true;
    make(hot->bench);
    *state = the_hot = hot;
    return 0;
}

static int teardown(void **state)
{
    struct hot *hot = *state;
    struct bench *bench = hot->bench;

    bench_teardown((void **)&bench);
    block_destroy(hot->disk);
    loop_destroy(hot->loop);
    g_free(hot);
    return 0;
}

/* ---- the guest's hands ---- */

static struct pci_bus *root(struct hot *hot)
{
    return hot->bench->machine->env.pci;
}

static uint8_t devfn_of(unsigned port)
{
    return PCI_DEVFN(PC_PCI_ROOT_PORTS + (port - 1) / 4, (port - 1) % 4);
}

static unsigned express_of(struct hot *hot, unsigned port)
{
    return ((struct pci_function *)hot->bench->machine->slots[port - 1].port)->express;
}

static uint32_t slot_read(struct hot *hot, unsigned port, unsigned reg)
{
    return pci_config_read(root(hot), 0, devfn_of(port), express_of(hot, port) + reg, 2);
}

static void slot_write(struct hot *hot, unsigned port, unsigned reg, uint32_t value)
{
    pci_config_write(root(hot), 0, devfn_of(port), express_of(hot, port) + reg, 2, value);
}

static enum vcpu_exit switch_off(struct engine *engine)
{
    slot_write(the_hot, 1, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
    return VCPU_EXIT_KICKED;
}

static uint16_t read_vendor(struct hot *hot, unsigned port)
{
    return (uint16_t)pci_config_read(root(hot), (uint8_t)port, 0, PCI_VENDOR_ID, 2);
}

static bool is_present(struct hot *hot, unsigned port)
{
    return slot_read(hot, port, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_PDS;
}

static void serve(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        continue;
}

static struct machine_disk disk_at(struct hot *hot, const char *id, unsigned port)
{
    return (struct machine_disk){
        .id = id, .place = {.port = (uint8_t)port}, .block = hot->disk, .discard = true};
}

static void attach(struct hot *hot, unsigned port)
{
    struct machine_disk disk = disk_at(hot, "disk1", port);
    GError *error = NULL;

    machine_attach_disk(hot->bench->machine, &disk, &error);
    if (error)
        fail_msg("%s", error->message);
}

static void release(struct hot *hot, bool ask)
{
    GError *error = NULL;

    machine_release(hot->bench->machine, "disk1", ask, &error);
    if (error)
        fail_msg("%s", error->message);
}

/* ---- coming and going ---- */

static void the_guest_sees_it_come(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    assert_int_equal(read_vendor(hot, 1), 0xFFFF);
    assert_false(is_present(hot, 1));
    attach(hot, 1);
    assert_int_equal(read_vendor(hot, 1), 0x1AF4);
    assert_int_equal(slot_read(hot, 1, PCI_EXP_SLTSTA), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC |
                                                            PCI_EXP_SLTSTA_ABP |
                                                            PCI_EXP_SLTSTA_DLLSC);
    assert_true(slot_read(hot, 1, PCI_EXP_LNKSTA) & PCI_EXP_LNKSTA_DLLLA);
    assert_non_null(machine_device(hot->bench->machine, "disk1"));
}

static void a_guest_that_switches_the_slot_off_has_let_go(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    for (unsigned round = 1; round <= 3; round++) {
        attach(hot, 1);
        slot_write(hot, 1, PCI_EXP_SLTSTA, 0xFFFF);
        release(hot, true);
        assert_true(slot_read(hot, 1, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
        serve();
        assert_int_equal(hot->releases, round - 1);
        act(0, switch_off);
        serve_until(&hot->releases, round);
        assert_string_equal(hot->released, "disk1");
        assert_int_equal(read_vendor(hot, 1), 0xFFFF);
        assert_false(is_present(hot, 1));
        assert_null(machine_device(hot->bench->machine, "disk1"));
        slot_write(hot, 1, PCI_EXP_SLTCTL, 0);
    }
}

static void a_slot_without_power_is_let_go_already(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    attach(hot, 1);
    slot_write(hot, 1, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
    serve();
    assert_int_equal(hot->releases, 0); /* nobody waited */
    slot_write(hot, 1, PCI_EXP_SLTSTA, 0xFFFF);
    release(hot, true);
    assert_int_equal(hot->releases, 0); /* not from in there */
    assert_false(slot_read(hot, 1, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
    serve();
    assert_int_equal(hot->releases, 1);
    assert_int_equal(read_vendor(hot, 1), 0xFFFF);
}

static void a_guest_that_changes_its_mind_keeps_it(void **state)
{
    struct hot *hot = *state;

    attach(hot, 1);
    release(hot, true);
    slot_write(hot, 1, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
    slot_write(hot, 1, PCI_EXP_SLTCTL, 0);
    serve();
    assert_int_equal(hot->releases, 0);
    assert_int_equal(read_vendor(hot, 1), 0x1AF4);
}

static void who_waits_no_longer_hears_nothing(void **state)
{
    struct hot *hot = *state;

    attach(hot, 1);
    release(hot, true);
    slot_write(hot, 1, PCI_EXP_SLTSTA, 0xFFFF);
    machine_release_cancel(hot->bench->machine, "disk1");
    /* The button again, within five seconds: the wish is taken back. */
    assert_true(slot_read(hot, 1, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
    slot_write(hot, 1, PCI_EXP_SLTSTA, 0xFFFF);
    machine_release_cancel(hot->bench->machine, "disk1");
    assert_false(slot_read(hot, 1, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
    slot_write(hot, 1, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
    serve();
    assert_int_equal(hot->releases, 0);
    assert_int_equal(read_vendor(hot, 1), 0x1AF4);
    /* Somebody else's wish, of another process: the button is not for us to press. */
    slot_write(hot, 1, PCI_EXP_SLTCTL, 0);
    release(hot, false);
    machine_release_cancel(hot->bench->machine, "disk1");
    assert_false(slot_read(hot, 1, PCI_EXP_SLTSTA) & PCI_EXP_SLTSTA_ABP);
}

static void a_reset_lets_go_of_what_was_asked_for_alone(void **state)
{
    struct hot *hot = *state;
    struct machine_disk other = disk_at(hot, "other", 2);

    machine_resume(hot->bench->machine);
    attach(hot, 1);
    assert_true(machine_attach_disk(hot->bench->machine, &other, NULL));
    release(hot, true);
    assert_true(machine_reset(hot->bench->machine, "test", NULL));
    assert_int_equal(hot->releases, 1);
    assert_int_equal(read_vendor(hot, 1), 0xFFFF);
    assert_int_equal(read_vendor(hot, 2), 0x1AF4);
    assert_int_equal(slot_read(hot, 2, PCI_EXP_SLTSTA), PCI_EXP_SLTSTA_PDS);
}

static void assert_refused(struct hot *hot, const char *id, unsigned port, const char *phrase)
{
    struct machine_disk disk = disk_at(hot, id, port);
    unsigned devices = hot->bench->machine->devices->len;
    g_autoptr(GError) error = NULL;

    disk.place.device = 5;
    assert_false(machine_attach_disk(hot->bench->machine, &disk, &error));
    if (!strstr(error->message, phrase))
        fail_msg("'%s' does not speak of '%s'", error->message, phrase);
    assert_int_equal(hot->bench->machine->devices->len, devices);
}

static void places_and_ids_that_are_taken_are_refused(void **state)
{
    struct hot *hot = *state;
    g_autoptr(GError) error = NULL;

    attach(hot, 3);
    assert_refused(hot, "disk2", 0, "behind its 8 root ports only");
    assert_refused(hot, "disk2", 9, "behind its 8 root ports only");
    assert_refused(hot, "disk2", 3, "disk1 is behind root port 3");
    assert_refused(hot, "disk1", 4, "has a device of this id");
    assert_refused(hot, "lpc", 4, "has a device of this id");
    assert_false(is_present(hot, 4));
    assert_false(machine_release(hot->bench->machine, "lpc", true, &error));
    assert_non_null(strstr(error->message, "nothing behind a root port"));
}

/* ---- with work under way ---- */

static void mmio(struct hot *hot, unsigned offset, unsigned size, uint32_t value)
{
    bus_write(hot->bench->machine->env.mmio, BAR + offset, size, value);
}

static void drive(struct hot *hot, unsigned port)
{
    const uint8_t ready = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

    pci_config_write(root(hot), 0, devfn_of(port), PCI_MEMORY_BASE, 4, 0xC000C000);
    pci_config_write(root(hot), 0, devfn_of(port), PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    pci_config_write(root(hot), (uint8_t)port, 0, PCI_BASE_ADDRESS_0, 4, BAR);
    pci_config_write(root(hot), (uint8_t)port, 0, PCI_BASE_ADDRESS_1, 4, BAR + 0x10000);
    pci_config_write(root(hot), (uint8_t)port, 0, PCI_COMMAND, 2,
                     PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    mmio(hot, VIRTIO_PCI_COMMON_STATUS, 1, 0);
    mmio(hot, VIRTIO_PCI_COMMON_STATUS, 1, ready);
    mmio(hot, VIRTIO_PCI_COMMON_GFSELECT, 4, 1);
    mmio(hot, VIRTIO_PCI_COMMON_GF, 4, 1U << (VIRTIO_F_VERSION_1 - 32));
    mmio(hot, VIRTIO_PCI_COMMON_STATUS, 1, ready | VIRTIO_CONFIG_S_FEATURES_OK);
    mmio(hot, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0);
    mmio(hot, VIRTIO_PCI_COMMON_Q_SIZE, 2, QUEUE);
    mmio(hot, VIRTIO_PCI_COMMON_Q_DESCLO, 4, RINGS);
    mmio(hot, VIRTIO_PCI_COMMON_Q_AVAILLO, 4, RINGS + 0x1000);
    mmio(hot, VIRTIO_PCI_COMMON_Q_USEDLO, 4, RINGS + 0x2000);
    mmio(hot, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    mmio(hot, VIRTIO_PCI_COMMON_STATUS, 1,
         ready | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
}

static void poke(struct hot *hot, uint64_t address, const void *bytes, size_t size)
{
    assert_true(memory_write(machine_memory(hot->bench->machine), address, bytes, size));
}

/* Request `index` of the queue: two pages to be written, or a flush. */
static void put_request(struct hot *hot, unsigned index)
{
    uint64_t place = REQUESTS + REQUEST * index;
    bool flush = index % 4 == 3;
    struct virtio_blk_outhdr header = {.type = flush ? VIRTIO_BLK_T_FLUSH : VIRTIO_BLK_T_OUT,
                                       .sector = flush ? 0 : index * 16};
    uint16_t first = (uint16_t)(index * 3);
    struct vring_desc chain[3] = {
        {place, sizeof(header), VRING_DESC_F_NEXT, (uint16_t)(first + (flush ? 2 : 1))},
        {place + 0x200, 0x2000, VRING_DESC_F_NEXT, (uint16_t)(first + 2)},
        {place + 0x2F00, 1, VRING_DESC_F_WRITE, 0},
    };

    poke(hot, place, &header, sizeof(header));
    poke(hot, RINGS + first * sizeof(chain[0]), chain, sizeof(chain));
    poke(hot, RINGS + 0x1000 + 4 + 2 * (uint64_t)index, &first, sizeof(first));
}

/* All of the queue at once. */
static void put_requests(struct hot *hot)
{
    uint16_t count = QUEUE / 3;
    static const uint8_t nothing[0x2000];

    poke(hot, RINGS + 0x1000, nothing, 0x2000);
    for (unsigned i = 0; i < count; i++)
        put_request(hot, i);
    poke(hot, RINGS + 0x1000 + 2, &count, sizeof(count));
    bus_write(hot->bench->machine->env.mmio, NOTIFY, 2, 0);
}

static uint16_t count_used(struct hot *hot)
{
    uint16_t used;

    assert_true(memory_read(machine_memory(hot->bench->machine), RINGS + 0x2002, &used, 2));
    return used;
}

/* It rings, reads and resets as long as the device is there: on a vCPU's thread, while the control
 * thread takes the device out. */
static enum vcpu_exit hammer(struct engine *engine)
{
    struct bus *bus = the_hot->bench->machine->env.mmio;
    unsigned round = 0;

    while (read_vendor(the_hot, 1) == 0x1AF4) {
        bus_write(bus, NOTIFY, 2, 0);
        bus_read(bus, BAR + 0x2000, 4);
        if (++round % 16 == 0)
            slot_write(the_hot, 1, PCI_EXP_SLTCTL, round % 32 ? PCI_EXP_SLTCTL_PCC : 0);
        if (round % 64 == 0)
            bus_write(bus, BAR + VIRTIO_PCI_COMMON_STATUS, 1, 0);
    }
    return VCPU_EXIT_KICKED;
}

static void go_with_work_under_way(struct hot *hot)
{
    attach(hot, 1);
    drive(hot, 1);
    put_requests(hot);
    machine_detach(hot->bench->machine, "disk1");
    uint16_t used = count_used(hot);
    assert_int_equal(read_vendor(hot, 1), 0xFFFF);
    assert_false(bus_is_claimed(hot->bench->machine->env.mmio, BAR));
    g_usleep(100);
    assert_int_equal(count_used(hot), used); /* nothing writes there any more */
}

static void what_is_under_way_is_finished(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    for (unsigned round = 0; round < 50; round++)
        go_with_work_under_way(hot);
}

/* What waits for a limit of its rate is not waited for. */
static void what_waits_is_given_up(void **state)
{
    static const struct block_limits slow = {.bytes = {100}, .burst_ns = 100};
    struct hot *hot = *state;
    gint64 begun = g_get_monotonic_time();

    assert_true(block_set_limits(hot->disk, &slow, NULL));
    machine_resume(hot->bench->machine);
    for (unsigned round = 0; round < 10; round++)
        go_with_work_under_way(hot);
    assert_true(g_get_monotonic_time() - begun < 60 * G_TIME_SPAN_SECOND);
}

static void a_guest_that_hammers_does_no_harm(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    for (unsigned round = 1; round <= 20; round++) {
        attach(hot, 1);
        drive(hot, 1);
        put_requests(hot);
        act(1, hammer);
        while (acts_of(1) < round)
            g_usleep(50);
        g_usleep(300);
        machine_detach(hot->bench->machine, "disk1");
        /* It sees that, and stops. */
        machine_pause(hot->bench->machine);
        machine_resume(hot->bench->machine);
        slot_write(hot, 1, PCI_EXP_SLTCTL, 0);
        serve();
    }
}

static void a_card_comes_and_goes_too(void **state)
{
    struct hot *hot = *state;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    struct net_link_config config = {NET_LINK_PACKETS, ends[0], "hot"};
    struct net_link *link = net_link_create(&config, NULL);
    struct machine_nic nic = {.id = "nic7",
                              .place = {.port = 8},
                              .link = link,
                              .rate = 1000,
                              .burst_ns = 1000,
                              .mac = {0x52, 0x54, 0, 1, 2, 3}};
    uint8_t frame[64] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};

    machine_resume(hot->bench->machine);
    for (unsigned round = 0; round < 5; round++) {
        assert_true(machine_attach_nic(hot->bench->machine, &nic, NULL));
        assert_int_equal(read_vendor(hot, 8), 0x1AF4);
        assert_int_equal(send(ends[1], frame, sizeof(frame), 0), sizeof(frame));
        machine_detach(hot->bench->machine, "nic7");
        assert_int_equal(read_vendor(hot, 8), 0xFFFF);
    }
    net_link_destroy(link);
    close(ends[1]);
}

/* ---- streams ---- */

/* The machine goes on in another one, made with the disk in its slot. */
static void go_on_elsewhere(struct hot *hot)
{
    struct machine_config config = hot->bench->config;
    int fd = memfd_create("state", MFD_CLOEXEC);
    GError *error = NULL;

    machine_pause(hot->bench->machine);
    assert_true(machine_save(hot->bench->machine, fd, "{}", NULL));
    machine_destroy(hot->bench->machine);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    struct stream_reader *reader = stream_reader_create(fd, NULL);
    config.incoming = true;
    config.disks[0] = disk_at(hot, "disk1", 1);
    config.disk_count = 1;
    hot->bench->machine = machine_create(&config, &error);
    if (error)
        fail_msg("%s", error->message);
    if (!machine_load(hot->bench->machine, reader, NULL, &error))
        fail_msg("%s", error->message);
    stream_reader_destroy(reader);
    close(fd);
}

static void a_device_that_has_come_is_saved_and_loaded(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    attach(hot, 1);
    drive(hot, 1);
    go_on_elsewhere(hot);
    assert_int_equal(read_vendor(hot, 1), 0x1AF4);
    assert_int_equal(slot_read(hot, 1, PCI_EXP_SLTSTA), PCI_EXP_SLTSTA_PDS | PCI_EXP_SLTSTA_PDC |
                                                            PCI_EXP_SLTSTA_ABP |
                                                            PCI_EXP_SLTSTA_DLLSC);
    machine_resume(hot->bench->machine);
    put_requests(hot);
    gint64 end = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
    while (count_used(hot) < QUEUE / 3 && g_get_monotonic_time() < end)
        g_usleep(200);
    assert_int_equal(count_used(hot), QUEUE / 3);
}

static void a_device_that_was_to_go_goes_in_the_next_machine(void **state)
{
    struct hot *hot = *state;

    machine_resume(hot->bench->machine);
    attach(hot, 1);
    release(hot, true);
    hot->detaches = false; /* whoever hears it here does nothing, as a vmm that is being replaced */
    slot_write(hot, 1, PCI_EXP_SLTCTL, PCI_EXP_SLTCTL_PCC);
    serve();
    go_on_elsewhere(hot);
    hot->detaches = true;
    hot->releases = 0;
    release(hot, false);
    machine_resume(hot->bench->machine);
    serve_until(&hot->releases, 1);
    assert_int_equal(read_vendor(hot, 1), 0xFFFF);
}

int main(void)
{
#define HOT(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        HOT(the_guest_sees_it_come),
        HOT(a_guest_that_switches_the_slot_off_has_let_go),
        HOT(a_slot_without_power_is_let_go_already),
        HOT(a_guest_that_changes_its_mind_keeps_it),
        HOT(who_waits_no_longer_hears_nothing),
        HOT(a_reset_lets_go_of_what_was_asked_for_alone),
        HOT(places_and_ids_that_are_taken_are_refused),
        HOT(what_is_under_way_is_finished),
        HOT(what_waits_is_given_up),
        HOT(a_guest_that_hammers_does_no_harm),
        HOT(a_card_comes_and_goes_too),
        HOT(a_device_that_has_come_is_saved_and_loaded),
        HOT(a_device_that_was_to_go_goes_in_the_next_machine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
