// SPDX-License-Identifier: Apache-2.0
/*
 * What every kind of device owes the machine, tried on each of device_kinds[]: a saved state loads
 * into a fresh device and is saved again as the same bytes with the same interrupt lines up; a
 * reset device equals a fresh one; damaged streams are refused whole or give a device that goes on;
 * a pause changes nothing. Between these, a seeded guest writes nonsense to all registers.
 *
 * A device with work on another thread is paused and goes on after each access, which waits for
 * what is under way: so its answers come always in the same order.
 */
#include "tests/unit/device_bench.h"

#include <linux/pci_regs.h>

#include "vmm/device/pci/pci.h"
#include "vmm/device/pci/root_port.h"

#define SEED    20240611
#define TRAFFIC 1500

/* One device on its bench. */
struct subject {
    const struct device_ops *ops;
    struct bench *bench;
    struct device *port; /* that the device is behind; NULL: none */
    struct device *device;
    int64_t age;   /* machine time */
    uint64_t seen; /* hash of all that its registers answered */
};

/* Whether devices are behind a root port, as those are that came while the machine ran. */
static bool behind_port;

#define PORT_DEVFN PCI_DEVFN(0x1C, 0)
#define PORT_BUS   1

/* A root port that forwards all that is asked for: nonsense comes to what is behind it alone. */
static void subject_add_port(struct subject *subject)
{
    struct pci_bus *root = subject->bench->env.pci;

    subject->port = bench_device(subject->bench, &root_port_device);
    pci_config_write(root, 0, PORT_DEVFN, PCI_SECONDARY_BUS, 1, PORT_BUS);
    pci_config_write(root, 0, PORT_DEVFN, PCI_SUBORDINATE_BUS, 1, PORT_BUS);
    pci_config_write(root, 0, PORT_DEVFN, PCI_MEMORY_BASE, 4, 0xFFF00000);
    pci_config_write(root, 0, PORT_DEVFN, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    subject->bench->bus = root_port_bus(subject->port);
}

static struct subject subject_create(const struct device_ops *ops, int64_t age)
{
    struct subject subject = {.ops = ops, .bench = bench_create(), .age = age};

    bench_step(subject.bench, age);
    if (behind_port)
        subject_add_port(&subject);
    subject.device = bench_device(subject.bench, ops);
    return subject;
}

/* One that runs: a device is created paused. */
static struct subject subject_create_running(const struct device_ops *ops, int64_t age)
{
    struct subject subject = subject_create(ops, age);

    device_resume(subject.device);
    return subject;
}

/* The state of one that runs. */
static GBytes *subject_save(struct subject *subject)
{
    device_pause(subject->device);
    GBytes *bytes = device_save(subject->device);
    device_resume(subject->device);
    return bytes;
}

/* ...which then stays paused. */
static GBytes *subject_pause_and_save(struct subject *subject)
{
    device_pause(subject->device);
    return device_save(subject->device);
}

static void subject_settle(struct subject *subject)
{
    if (!subject->ops->pause)
        return;
    device_pause(subject->device);
    bench_drain(subject->bench);
    device_resume(subject->device);
}

static void subject_destroy(struct subject *subject)
{
    device_destroy(subject->device);
    device_destroy(subject->port);
    bench_destroy(subject->bench);
}

static void subject_step(struct subject *subject, int64_t ns)
{
    bench_step(subject->bench, ns);
    subject->age += ns;
}

/* ---- a guest that writes nonsense ---- */

struct stretch {
    struct bus *bus;
    uint64_t first, last;
};

struct survey {
    struct bus *bus;
    GArray *stretches;
};

static void note_stretch(void *opaque, const char *name, uint64_t first, uint64_t last)
{
    struct survey *survey = opaque;
    struct stretch stretch = {survey->bus, first, last};

    assert_non_null(name);
    g_array_append_val(survey->stretches, stretch);
}

static GArray *survey_windows(struct bench *bench)
{
    struct survey survey = {bench->env.pio, g_array_new(false, false, sizeof(struct stretch))};

    bus_for_each(bench->env.pio, note_stretch, &survey);
    survey.bus = bench->env.mmio;
    bus_for_each(bench->env.mmio, note_stretch, &survey);
    return survey.stretches;
}

static uint64_t odd_value(GRand *rand)
{
    static const uint64_t edges[] = {0, 1, 0x80, 0xFF, 0x7FFF, 0xFFFF, UINT32_MAX, UINT64_MAX};

    switch (g_rand_int_range(rand, 0, 4)) {
    case 0:
        return edges[g_rand_int_range(rand, 0, G_N_ELEMENTS(edges))];
    case 1:
        return g_rand_int(rand) & 0xFF;
    default:
        return (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    }
}

static void see(struct subject *subject, uint64_t value)
{
    subject->seen = (subject->seen ^ value) * 0x100000001B3;
}

static void one_access(struct subject *subject, GArray *stretches, GRand *rand)
{
    const struct stretch *stretch =
        &g_array_index(stretches, struct stretch, g_rand_int_range(rand, 0, stretches->len));
    uint64_t length = MIN(stretch->last - stretch->first + 1, 1 << 16);
    uint64_t address = stretch->first + g_rand_int_range(rand, 0, length);
    unsigned size =
        1U << g_rand_int_range(rand, 0, stretch->bus == subject->bench->env.pio ? 3 : 4);

    if (g_rand_boolean(rand))
        bus_write(stretch->bus, address, size, odd_value(rand));
    else
        see(subject, bus_read(stretch->bus, address, size));
}

/* The bus that the device is on, and its number. */
static struct pci_bus *bus_of(const struct bench *bench, uint8_t *number)
{
    *number = bench->bus ? PORT_BUS : 0;
    return bench->bus ? bench->bus : bench->env.pci;
}

static void one_configuration_access(struct subject *subject, GRand *rand)
{
    unsigned size = 1U << g_rand_int_range(rand, 0, 3);
    unsigned offset = g_rand_int_range(rand, 0, 4096 / size) * size;
    struct pci_bus *root = subject->bench->env.pci;
    uint8_t number;
    struct pci_bus *bus = bus_of(subject->bench, &number);

    for (unsigned devfn = 0; devfn < 256; devfn++) {
        if (!pci_bus_function(bus, devfn))
            continue;
        if (g_rand_boolean(rand))
            pci_config_write(root, number, devfn, offset, size, odd_value(rand));
        else
            see(subject, pci_config_read(root, number, devfn, offset, size));
    }
}

/* Put every memory BAR somewhere and let its function decode: nonsense alone hardly does. */
static void open_functions(struct bench *bench)
{
    uint8_t number;
    struct pci_bus *bus = bus_of(bench, &number);

    for (unsigned devfn = 0; devfn < 256; devfn++) {
        if (!pci_bus_function(bus, devfn))
            continue;
        for (unsigned i = 0; i < PCI_BARS; i++)
            pci_config_write(bench->env.pci, number, devfn, 0x10 + 4 * i, 4,
                             0xC0000000 + (i << 16));
        pci_config_write(bench->env.pci, number, devfn, 0x04, 2, 6);
    }
}

static void traffic(struct subject *subject, GRand *rand, unsigned accesses)
{
    GArray *stretches = survey_windows(subject->bench);

    for (unsigned i = 0; i < accesses; i++) {
        unsigned kind = g_rand_int_range(rand, 0, 32);

        if (kind == 0) {
            subject_step(subject, g_rand_int_range(rand, 0, 3 * MS));
        } else if (kind < 8) {
            one_configuration_access(subject, rand);
        } else if (kind == 8) { /* windows may have moved */
            open_functions(subject->bench);
            g_array_unref(stretches);
            stretches = survey_windows(subject->bench);
        } else if (stretches->len) {
            one_access(subject, stretches, rand);
        }
        subject_settle(subject);
    }
    g_array_unref(stretches);
}

/* ---- comparing ---- */

static void assert_same_bytes(const char *kind, GBytes *left, GBytes *right)
{
    g_autoptr(GString) text_left = g_string_new(NULL), text_right = g_string_new(NULL);

    if (g_bytes_equal(left, right))
        return;
    assert_true(state_dump(left, kind, text_left, NULL));
    assert_true(state_dump(right, kind, text_right, NULL));
    assert_string_equal(text_left->str, text_right->str);
    fail_msg("%s: the bytes differ, their dumps do not", kind);
}

static void assert_same_lines(const struct subject *left, const struct subject *right)
{
    for (unsigned i = 0; i < BENCH_LINES; i++) {
        if (left->bench->lines[i].level != right->bench->lines[i].level)
            fail_msg("%s: line %u is %s after load", left->ops->kind, i,
                     right->bench->lines[i].level ? "up" : "down");
    }
}

static bool is_kept(const struct device_ops *ops, const char *line)
{
    for (unsigned i = 0; ops->kept_over_reset && ops->kept_over_reset[i]; i++) {
        g_autofree char *prefix = g_strdup_printf("%s.%s", ops->kind, ops->kept_over_reset[i]);
        size_t length = strlen(prefix);
        if (g_str_has_prefix(line, prefix) && strchr(" [.=", line[length]))
            return true;
    }
    return false;
}

/* The dump of a device's state without what it keeps over a reset. */
static char *reset_dump(struct subject *subject)
{
    g_autoptr(GBytes) bytes = subject_save(subject);
    g_autoptr(GString) all = g_string_new(NULL);
    GString *rest = g_string_new(NULL);

    assert_true(state_dump(bytes, subject->ops->kind, all, NULL));
    g_auto(GStrv) lines = g_strsplit(all->str, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        if (!is_kept(subject->ops, lines[i]))
            g_string_append_printf(rest, "%s\n", lines[i]);
    }
    return g_string_free(rest, false);
}

/* ---- the contract ---- */

/* The same accesses get the same answers: no field that matters is missing from the table. */
static void check_same_behaviour(struct subject *first, struct subject *second, GRand *rand)
{
    GRand *twin = g_rand_copy(rand);

    first->seen = second->seen = 0;
    traffic(first, rand, TRAFFIC / 8);
    traffic(second, twin, TRAFFIC / 8);
    g_rand_free(twin);
    if (first->seen != second->seen)
        fail_msg("%s: answers otherwise after load", first->ops->kind);
    g_autoptr(GBytes) left = subject_save(first);
    g_autoptr(GBytes) right = subject_save(second);
    assert_same_bytes(first->ops->kind, left, right);
    assert_same_lines(first, second);
}

static void check_save_and_load(const struct device_ops *ops, GRand *rand)
{
    struct subject first = subject_create_running(ops, 5 * MS);

    for (unsigned round = 0; round < 8; round++) {
        traffic(&first, rand, TRAFFIC / 8);
        g_autoptr(GBytes) saved = subject_pause_and_save(&first);
        struct subject second = subject_create(ops, first.age);
        GError *error = NULL;

        if (!device_load(second.device, saved, &error))
            fail_msg("%s: its own state is refused: %s", ops->kind, error->message);
        g_autoptr(GBytes) again = device_save(second.device);
        assert_same_bytes(ops->kind, saved, again);
        assert_same_lines(&first, &second);
        device_resume(first.device);
        device_resume(second.device);
        check_same_behaviour(&first, &second, rand);
        subject_destroy(&second);
    }
    subject_destroy(&first);
}

static void check_reset(const struct device_ops *ops, GRand *rand)
{
    struct subject subject = subject_create_running(ops, 5 * MS);

    traffic(&subject, rand, TRAFFIC);
    device_reset(subject.device);
    struct subject fresh = subject_create_running(ops, subject.age);
    g_autofree char *after = reset_dump(&subject);
    g_autofree char *expected = reset_dump(&fresh);
    assert_string_equal(after, expected);
    assert_same_lines(&fresh, &subject);
    subject_destroy(&fresh);
    subject_destroy(&subject);
}

/* A load that fails leaves the state alone; one that succeeds leaves a device that works. */
static void try_load(struct subject *subject, GBytes *bytes, GRand *rand)
{
    g_autoptr(GBytes) before = subject_pause_and_save(subject);
    GError *error = NULL;

    if (device_load(subject->device, bytes, &error)) {
        assert_null(error);
        device_resume(subject->device);
        traffic(subject, rand, 60);
        return;
    }
    assert_non_null(error);
    g_error_free(error);
    g_autoptr(GBytes) after = device_save(subject->device);
    assert_same_bytes(subject->ops->kind, before, after);
    device_resume(subject->device);
}

static void check_damaged_streams(const struct device_ops *ops, GRand *rand)
{
    struct subject subject = subject_create_running(ops, 5 * MS);
    gsize length;

    traffic(&subject, rand, TRAFFIC / 4);
    g_autoptr(GBytes) saved = subject_pause_and_save(&subject);
    const uint8_t *data = g_bytes_get_data(saved, &length);

    for (unsigned i = 0; i < 20; i++) {
        g_autoptr(GBytes) part = g_bytes_new(data, length * i / 20);
        assert_false(device_load(subject.device, part, NULL));
    }
    device_resume(subject.device);
    for (unsigned i = 0; i < 300; i++) {
        g_autofree uint8_t *copy = g_memdup2(data, length);
        unsigned flips = g_rand_int_range(rand, 1, 4);

        for (unsigned j = 0; j < flips; j++)
            copy[g_rand_int_range(rand, 0, length)] = odd_value(rand);
        g_autoptr(GBytes) damaged = g_bytes_new(copy, length);
        try_load(&subject, damaged, rand);
    }
    device_pause(subject.device);
    assert_true(device_load(subject.device, saved, NULL));
    subject_destroy(&subject);
}

static void check_pause(const struct device_ops *ops, GRand *rand)
{
    struct subject subject = subject_create_running(ops, 5 * MS);

    traffic(&subject, rand, TRAFFIC / 4);
    clock_pause(subject.bench->env.clock);
    g_autoptr(GBytes) before = subject_save(&subject);
    clock_pause(subject.bench->env.clock);
    g_autoptr(GBytes) after = subject_save(&subject);
    assert_same_bytes(ops->kind, before, after);
    clock_resume(subject.bench->env.clock);
    clock_resume(subject.bench->env.clock);
    g_autoptr(GBytes) resumed = subject_save(&subject);
    assert_same_bytes(ops->kind, before, resumed);
    traffic(&subject, rand, TRAFFIC / 4);
    subject_destroy(&subject);
}

static void for_each_that_comes_and_goes(void (*check)(const struct device_ops *ops, GRand *rand))
{
    static const struct device_ops *const kinds[] = {&virtio_blk_device, &virtio_net_device};

    behind_port = true;
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        GRand *rand = g_rand_new_with_seed(SEED + i);
        check(kinds[i], rand);
        g_rand_free(rand);
    }
    behind_port = false;
}

static void for_each_kind(void (*check)(const struct device_ops *ops, GRand *rand), bool stateful)
{
    for (unsigned i = 0; device_kinds[i]; i++) {
        if (stateful && !device_kinds[i]->state)
            continue;
        GRand *rand = g_rand_new_with_seed(SEED + i);
        check(device_kinds[i], rand);
        g_rand_free(rand);
    }
    for_each_that_comes_and_goes(check);
}

static void a_saved_state_loads_into_a_fresh_device_and_saves_the_same(void **state)
{
    for_each_kind(check_save_and_load, true);
}

static void a_reset_device_equals_a_fresh_one(void **state)
{
    for_each_kind(check_reset, true);
}

static void damaged_streams_are_refused_or_harmless(void **state)
{
    for_each_kind(check_damaged_streams, true);
}

static void pausing_twice_changes_nothing(void **state)
{
    for_each_kind(check_pause, true);
}

static void check_survival(const struct device_ops *ops, GRand *rand)
{
    struct subject subject = subject_create_running(ops, 0);

    traffic(&subject, rand, 4 * TRAFFIC);
    device_reset(subject.device);
    traffic(&subject, rand, TRAFFIC);
    subject_destroy(&subject);
}

static void nonsense_leaves_every_device_alive(void **state)
{
    for_each_kind(check_survival, false);
}

static void kinds_and_their_tables_have_names_of_their_own(void **state)
{
    g_autoptr(GHashTable) kinds = g_hash_table_new(g_str_hash, g_str_equal);

    for (unsigned i = 0; device_kinds[i]; i++) {
        const struct device_ops *ops = device_kinds[i];

        assert_true(g_hash_table_add(kinds, (gpointer)ops->kind));
        assert_non_null(ops->description);
        assert_true(ops->size >= sizeof(struct device));
        assert_true((ops->config_size != 0) == (ops->defaults != NULL));
        if (ops->state)
            assert_true(ops->state_offset + ops->state->size <= ops->size);
    }
}

static void swallow(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_and_their_tables_have_names_of_their_own),
        cmocka_unit_test(nonsense_leaves_every_device_alive),
        cmocka_unit_test(a_saved_state_loads_into_a_fresh_device_and_saves_the_same),
        cmocka_unit_test(a_reset_device_equals_a_fresh_one),
        cmocka_unit_test(damaged_streams_are_refused_or_harmless),
        cmocka_unit_test(pausing_twice_changes_nothing),
    };

    /* Guest errors are what this is about. */
    g_log_set_handler("anima", G_LOG_LEVEL_MESSAGE | G_LOG_LEVEL_WARNING, swallow, NULL);
    alarm(110);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
