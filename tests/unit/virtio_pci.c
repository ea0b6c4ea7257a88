// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio over PCI as a driver sees it: capabilities, negotiation, queue registers, reset,
 * interrupts by MSI-X and by the line, and the window in configuration space.
 */
#include <sys/eventfd.h>

#include "tests/unit/virtio_echo.h"

#define LINE 3 /* INTA of device 3 */

/* The vendor capability of `type`; 0 when there is none. */
static unsigned find_capability(struct driver *driver, uint8_t type)
{
    unsigned offset = driver_config(driver, PCI_CAPABILITY_LIST, 1);

    for (unsigned i = 0; offset && i < 48; i++) {
        if (driver_config(driver, offset, 1) == PCI_CAP_ID_VNDR &&
            driver_config(driver, offset + 3, 1) == type)
            return offset;
        offset = driver_config(driver, offset + PCI_CAP_LIST_NEXT, 1);
    }
    return 0;
}

static void capabilities_say_where_registers_are(void **state)
{
    struct echo_bench *it = *state;
    static const struct {
        uint8_t type, length;
        uint32_t offset, size;
    } expected[] = {
        {VIRTIO_PCI_CAP_COMMON_CFG, 16, 0, 56},
        {VIRTIO_PCI_CAP_ISR_CFG, 16, 0x1000, 1},
        {VIRTIO_PCI_CAP_DEVICE_CFG, 16, 0x2000, 16},
        {VIRTIO_PCI_CAP_NOTIFY_CFG, 20, 0x3000, 8},
    };

    assert_int_equal(driver_config(&it->driver, PCI_VENDOR_ID, 4), (0x1040 + 42) << 16 | 0x1AF4);
    assert_true(driver_config(&it->driver, PCI_REVISION_ID, 1) >= 1);
    for (unsigned i = 0; i < G_N_ELEMENTS(expected); i++) {
        unsigned base = find_capability(&it->driver, expected[i].type);
        assert_true(base);
        assert_int_equal(driver_config(&it->driver, base + 2, 1), expected[i].length);
        assert_int_equal(driver_config(&it->driver, base + 4, 1), 0);
        assert_int_equal(driver_config(&it->driver, base + 8, 4), expected[i].offset);
        assert_int_equal(driver_config(&it->driver, base + 12, 4), expected[i].size);
    }
    assert_true(find_capability(&it->driver, VIRTIO_PCI_CAP_PCI_CFG));
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_NUMQ, 2), ECHO_QUEUES);
}

/* ---- features and status ---- */

static void features_are_offered_and_agreed(void **state)
{
    struct echo_bench *it = *state;
    uint64_t all = 1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX |
                   1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << ECHO_FEATURE;

    assert_int_equal(driver_offered(&it->driver), all);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_DFSELECT, 4, 2);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_DF, 4), 0);
    driver_start(&it->driver, 1ULL << ECHO_FEATURE, 1);
    assert_true(virtio_has_feature(&it->echo->virtio, ECHO_FEATURE));
    assert_false(virtio_has_feature(&it->echo->virtio, VIRTIO_RING_F_EVENT_IDX));
    /* Agreed is agreed. */
    driver_accept(&it->driver, all);
    assert_false(virtio_has_feature(&it->echo->virtio, VIRTIO_RING_F_EVENT_IDX));
}

static void features_that_were_not_offered_are_refused(void **state)
{
    struct echo_bench *it = *state;
    static const uint64_t sets[] = {0, 1, 1ULL << VIRTIO_F_VERSION_1 | 1ULL << 63,
                                    1ULL << ECHO_FEATURE};

    for (unsigned i = 0; i < G_N_ELEMENTS(sets); i++) {
        driver_set_status(&it->driver, 0);
        driver_accept(&it->driver, sets[i]);
        driver_set_status(&it->driver, DRIVER_READY);
        assert_int_equal(driver_status(&it->driver),
                         VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    }
    driver_start(&it->driver, 0, 1);
}

static void status_bits_only_come(void **state)
{
    struct echo_bench *it = *state;

    driver_set_status(&it->driver, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert_int_equal(driver_status(&it->driver), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    driver_set_status(&it->driver, VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_DRIVER_OK);
    assert_int_equal(driver_status(&it->driver),
                     VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    driver_set_status(&it->driver, 0);
    assert_int_equal(driver_status(&it->driver), 0);
}

static void a_reset_ends_everything(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 2);
    driver_msix(&it->driver, 3);
    unsigned stops = it->echo->stops;
    driver_descriptor(&it->driver, DRIVER_DESCRIPTORS(1), 0, 0x40000, 1, VRING_DESC_F_WRITE, 0);
    driver_put(&it->driver, 1, 0);
    struct virtqueue_request *request = echo_take(it->echo, 1);
    assert_non_null(request);
    driver_set_status(&it->driver, 0);
    assert_int_equal(it->echo->stops, stops + 1);
    assert_false(request->queue->taken[request->head]);
    echo_complete(it->echo, request, 1);
    assert_int_equal(driver_used_count(&it->driver, 1), 0);
    for (unsigned queue = 0; queue < 2; queue++) {
        driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, queue);
        assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
        assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ECHO_SIZE);
        assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
        assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_NO_VECTOR);
    }
    /* PCI is not reset by it: the registers still answer, MSI-X is on. */
    assert_true(pci_msix_enabled(it->driver.pci));
}

/* Where an engine catches notifications; by queue. */
static uint64_t caught[ECHO_QUEUES];
static int bells[ECHO_QUEUES];

static bool catch (void *opaque, uint64_t address, int eventfd)
{
    caught[eventfd == bells[1]] = address;
    return true;
}

static void let_go(void *opaque, uint64_t address, int eventfd)
{
    assert_int_equal(caught[eventfd == bells[1]], address);
    caught[eventfd == bells[1]] = 0;
}

static void doorbells_hang_while_the_driver_runs(void **state)
{
    struct echo_bench *it = *state;
    const struct bus_shortcuts shortcuts = {catch, let_go, NULL};
    uint64_t count;

    for (unsigned i = 0; i < ECHO_QUEUES; i++)
        bells[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    it->echo->virtio.doorbells = bells;
    bus_set_shortcuts(it->bench->env.mmio, &shortcuts);
    assert_int_equal(caught[0], 0);
    driver_start(&it->driver, 0, 2);
    assert_int_equal(caught[0], DRIVER_NOTIFY);
    assert_int_equal(caught[1], DRIVER_NOTIFY + 4);
    /* Requests may have been put before. */
    assert_int_equal(read(bells[1], &count, sizeof(count)), sizeof(count));
    driver_set_config(&it->driver, PCI_BASE_ADDRESS_0, 4, DRIVER_REGISTERS + 0x100000);
    assert_int_equal(caught[1], DRIVER_NOTIFY + 0x100000 + 4);
    driver_set_config(&it->driver, PCI_COMMAND, 2, 0);
    assert_int_equal(caught[1], 0);
    driver_set_config(&it->driver, PCI_BASE_ADDRESS_0, 4, DRIVER_REGISTERS);
    driver_set_config(&it->driver, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    assert_int_equal(caught[1], DRIVER_NOTIFY + 4);
    driver_set_status(&it->driver, 0);
    assert_int_equal(caught[0] | caught[1], 0);
    /* A loaded state in which the driver runs. */
    driver_start(&it->driver, 0, 2);
    g_autoptr(GBytes) bytes = device_save(&it->echo->virtio.pci.device);
    driver_set_status(&it->driver, 0);
    assert_true(device_load(&it->echo->virtio.pci.device, bytes, NULL));
    assert_int_equal(caught[1], DRIVER_NOTIFY + 4);
    device_reset(&it->echo->virtio.pci.device);
    assert_int_equal(caught[0] | caught[1], 0);
    for (unsigned i = 0; i < ECHO_QUEUES; i++)
        close(bells[i]);
}

/* ---- queues ---- */

static void a_queue_out_of_range_reads_as_none(void **state)
{
    struct echo_bench *it = *state;

    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, ECHO_QUEUES);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SELECT, 2, 0xFFFF);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
}

static void queue_sizes_are_powers_of_two_up_to_the_devices(void **state)
{
    struct echo_bench *it = *state;
    static const uint16_t refused[] = {0, 3, 32, 0xFFFF};

    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 4);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 4);
    for (unsigned i = 0; i < G_N_ELEMENTS(refused); i++) {
        driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, refused[i]);
        assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 4);
    }
}

static void misplaced_areas_are_refused(void **state)
{
    struct echo_bench *it = *state;
    static const struct {
        unsigned reg, address;
    } misplaced[] = {
        {VIRTIO_PCI_COMMON_Q_DESCLO, 8},
        {VIRTIO_PCI_COMMON_Q_AVAILLO, 1},
        {VIRTIO_PCI_COMMON_Q_USEDLO, 2},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(misplaced); i++) {
        driver_write(&it->driver, misplaced[i].reg, 4, 0x10000 + misplaced[i].address);
        driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
        assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
        driver_write(&it->driver, misplaced[i].reg, 4, 0x10000);
    }
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 1);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
}

static void an_enabled_queue_is_fixed(void **state)
{
    struct echo_bench *it = *state;

    driver_start(&it->driver, 0, 1);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2, 16);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_USEDHI, 4, 1);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2, 0);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_USEDHI, 4), 0);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_ENABLE, 2), 1);
    assert_int_equal(it->echo->virtio.pci.device.guest_errors, 3);
}

static void notifications_reach_a_running_device_only(void **state)
{
    struct echo_bench *it = *state;

    driver_notify(&it->driver, 0);
    assert_int_equal(it->echo->notifies, 0);
    driver_start(&it->driver, 0, 2);
    assert_int_equal(it->echo->notifies, 2); /* what was put before the start */
    driver_notify(&it->driver, 1);
    assert_int_equal(it->echo->notifies, 3);
    driver_notify(&it->driver, 2);
    assert_int_equal(it->echo->notifies, 3);
}

/* ---- interrupts ---- */

static void complete_one(struct echo_bench *it)
{
    driver_descriptor(&it->driver, DRIVER_DESCRIPTORS(0), 0, 0x40000, 1, VRING_DESC_F_WRITE, 0);
    driver_put(&it->driver, 0, 0);
    echo_complete(it->echo, echo_take(it->echo, 0), 1);
}

static void count_line(void *opaque, unsigned pin, bool level)
{
    struct bench *bench = opaque;
    bench->lines[pin].level = level;
}

static void connect_lines(struct bench *bench)
{
    struct irq_line lines[PCI_PIRQS];

    for (unsigned i = 0; i < PCI_PIRQS; i++)
        lines[i] = (struct irq_line){count_line, bench, i};
    pci_root_connect(bench->env.pci, lines);
}

static void the_line_is_up_until_the_isr_is_read(void **state)
{
    struct echo_bench *it = *state;

    connect_lines(it->bench);
    driver_start(&it->driver, 0, 1);
    complete_one(it);
    assert_true(it->bench->lines[LINE].level);
    assert_int_equal(bus_read(it->bench->env.mmio, DRIVER_ISR, 1), 1);
    assert_false(it->bench->lines[LINE].level);
    g_mutex_lock(&it->echo->virtio.pci.device.lock);
    virtio_config_changed(&it->echo->virtio);
    g_mutex_unlock(&it->echo->virtio.pci.device.lock);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_CFGGENERATION, 1), 1);
    assert_int_equal(bus_read(it->bench->env.mmio, DRIVER_ISR, 1), VIRTIO_PCI_ISR_CONFIG);
    assert_int_equal(bus_read(it->bench->env.mmio, DRIVER_ISR, 1), 0);
    complete_one(it);
    driver_msix(&it->driver, 3); /* messages take over from the line */
    assert_false(it->bench->lines[LINE].level);
}

static void vectors_are_the_drivers_choice(void **state)
{
    struct echo_bench *it = *state;

    driver_msix(&it->driver, 3);
    driver_start(&it->driver, 0, 1);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_MSIX, 2, 2);
    complete_one(it);
    assert_int_equal(it->bench->messages, 1);
    assert_int_equal(it->bench->data, 1);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_MSIX, 2, 3); /* there are 0, 1 and 2 */
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_NO_VECTOR);
    complete_one(it);
    assert_int_equal(it->bench->messages, 1);
    /* A broken device says so by the configuration's vector. */
    driver_put(&it->driver, 0, 0xFFFF);
    assert_null(echo_take(it->echo, 0));
    assert_int_equal(it->bench->messages, 2);
    assert_int_equal(it->bench->data, 2);
}

/* ---- other registers ---- */

static void device_configuration_has_every_width(void **state)
{
    struct echo_bench *it = *state;

    driver_write(&it->driver, 0x2004, 4, 0x11223344);
    driver_write(&it->driver, 0x2006, 1, 0x99);
    driver_write(&it->driver, 0x2010, 4, 0x55555555); /* behind the end */
    assert_int_equal(driver_read(&it->driver, 0x2004, 4), 0x11993344);
    assert_int_equal(driver_read(&it->driver, 0x2006, 2), 0x1199);
    assert_int_equal(driver_read(&it->driver, 0x2010, 4), 0);
}

static void registers_of_the_wrong_width_are_not_written(void **state)
{
    struct echo_bench *it = *state;

    driver_write(&it->driver, VIRTIO_PCI_COMMON_STATUS, 4, 0x01010101);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 1, 4);
    driver_write(&it->driver, VIRTIO_PCI_COMMON_NUMQ, 2, 7);
    driver_write(&it->driver, 0x800, 4, 7);
    assert_int_equal(driver_status(&it->driver), 0);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_Q_SIZE, 2), ECHO_SIZE);
    assert_int_equal(driver_read(&it->driver, VIRTIO_PCI_COMMON_NUMQ, 2), ECHO_QUEUES);
    assert_int_equal(it->echo->virtio.pci.device.guest_errors, 4);
    assert_int_equal(driver_read(&it->driver, 0x800, 4), 0);
}

static void the_window_reaches_the_registers(void **state)
{
    struct echo_bench *it = *state;
    unsigned window = find_capability(&it->driver, VIRTIO_PCI_CAP_PCI_CFG);

    driver_set_config(&it->driver, window + 8, 4, VIRTIO_PCI_COMMON_STATUS);
    driver_set_config(&it->driver, window + 12, 4, 1);
    driver_set_config(&it->driver, window + 16, 1, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    assert_int_equal(driver_status(&it->driver), VIRTIO_CONFIG_S_ACKNOWLEDGE);
    driver_set_status(&it->driver, VIRTIO_CONFIG_S_DRIVER);
    assert_int_equal(driver_config(&it->driver, window + 16, 1),
                     VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    driver_set_config(&it->driver, window + 16, 1, 0);
    assert_int_equal(driver_status(&it->driver), 0);
    /* What points out of the BAR, or is no access, does nothing. */
    static const uint32_t bad[][3] = {
        {0, 0x4000, 4}, {0, UINT32_MAX, 1}, {0, 2, 4}, {0, 0, 3}, {0, 0, 8}, {1, 0, 4}, {0, 0, 0},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
        driver_set_config(&it->driver, window + 4, 1, bad[i][0]);
        driver_set_config(&it->driver, window + 8, 4, bad[i][1]);
        driver_set_config(&it->driver, window + 12, 4, bad[i][2]);
        driver_set_config(&it->driver, window + 16, 4, 0x12345678);
        assert_int_equal(driver_config(&it->driver, window + 16, 4), 0x12345678);
    }
    assert_int_equal(it->echo->state.virtio.device_feature_select, 0);
    assert_int_equal(it->echo->virtio.pci.device.guest_errors, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ECHO_SCENARIO(capabilities_say_where_registers_are),
        ECHO_SCENARIO(features_are_offered_and_agreed),
        ECHO_SCENARIO(features_that_were_not_offered_are_refused),
        ECHO_SCENARIO(status_bits_only_come),
        ECHO_SCENARIO(a_reset_ends_everything),
        ECHO_SCENARIO(doorbells_hang_while_the_driver_runs),
        ECHO_SCENARIO(a_queue_out_of_range_reads_as_none),
        ECHO_SCENARIO(queue_sizes_are_powers_of_two_up_to_the_devices),
        ECHO_SCENARIO(misplaced_areas_are_refused),
        ECHO_SCENARIO(an_enabled_queue_is_fixed),
        ECHO_SCENARIO(notifications_reach_a_running_device_only),
        ECHO_SCENARIO(the_line_is_up_until_the_isr_is_read),
        ECHO_SCENARIO(vectors_are_the_drivers_choice),
        ECHO_SCENARIO(device_configuration_has_every_width),
        ECHO_SCENARIO(registers_of_the_wrong_width_are_not_written),
        ECHO_SCENARIO(the_window_reaches_the_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
