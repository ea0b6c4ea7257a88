// SPDX-License-Identifier: Apache-2.0
/* The firmware configuration device through its ports and its DMA register, as firmware uses it. */
#include "tests/unit/device_bench.h"

#include "vmm/device/legacy/fw_cfg.h"

#define PORT    0x510
#define COMMAND 0x1000 /* where the tests put DMA commands */
#define BUFFER  0x2000

#define DMA_READ   2U
#define DMA_SKIP   4U
#define DMA_SELECT 8U
#define DMA_WRITE  16U

static struct bench *bench;
static struct device *device;

static int setup(void **state)
{
    bench = bench_create();
    device = bench_device(bench, &fw_cfg_device);
    return 0;
}

static int teardown(void **state)
{
    device_destroy(device);
    bench_destroy(bench);
    return 0;
}

static void add_file(const char *name, const char *content)
{
    g_autoptr(GBytes) bytes = g_bytes_new(content, strlen(content));
    assert_true(fw_cfg_add_file(device, name, bytes, NULL));
}

static uint32_t read_be(unsigned size)
{
    uint32_t value = 0;
    while (size--)
        value = value << 8 | in8(bench, PORT + 1);
    return value;
}

/* Execute a DMA command; the control word that it leaves. */
static uint32_t dma(uint32_t control, uint32_t length, uint64_t address)
{
    uint32_t words[4] = {GUINT32_TO_BE(control), GUINT32_TO_BE(length),
                         GUINT32_TO_BE((uint32_t)(address >> 32)),
                         GUINT32_TO_BE((uint32_t)address)};

    assert_true(memory_write(bench->env.memory, COMMAND, words, sizeof(words)));
    out32(bench, PORT + 4, 0);
    out32(bench, PORT + 8, GUINT32_TO_BE(COMMAND));
    assert_true(memory_read(bench->env.memory, COMMAND, words, 4));
    return GUINT32_FROM_BE(words[0]);
}

static void the_signature_is_read_byte_by_byte(void **state)
{
    out16(bench, PORT, FW_CFG_SIGNATURE);
    assert_int_equal(read_be(4), 0x51454D55);
    /* Behind the end there are zeros; selecting again starts from the beginning. */
    assert_int_equal(read_be(2), 0);
    out16(bench, PORT, FW_CFG_SIGNATURE);
    assert_int_equal(in8(bench, PORT), 'Q');
    out16(bench, PORT, FW_CFG_ID);
    assert_int_equal(in8(bench, PORT + 1), 3);
}

static void an_unknown_key_reads_as_zeros(void **state)
{
    out16(bench, PORT, 0xFFFF);
    assert_int_equal(read_be(4), 0);
}

static void the_directory_lists_files_by_name(void **state)
{
    char name[56];

    add_file("etc/second", "22");
    add_file("etc/first", "1");
    out16(bench, PORT, FW_CFG_DIRECTORY);
    assert_int_equal(read_be(4), 2);
    assert_int_equal(read_be(4), 1);
    unsigned key = read_be(2);
    assert_int_equal(read_be(2), 0);
    for (unsigned i = 0; i < sizeof(name); i++)
        name[i] = (char)in8(bench, PORT + 1);
    assert_string_equal(name, "etc/first");
    assert_int_equal(read_be(4), 2);
    out16(bench, PORT, key);
    assert_int_equal(in8(bench, PORT + 1), '1');
}

static void names_are_checked(void **state)
{
    g_autoptr(GBytes) bytes = g_bytes_new_static("x", 1);
    g_autoptr(GError) error = NULL;
    char name[57];

    memset(name, 'n', 56);
    name[56] = 0;
    assert_false(fw_cfg_add_file(device, name, bytes, &error));
    assert_non_null(error);
    name[55] = 0;
    assert_true(fw_cfg_add_file(device, name, bytes, NULL));
    assert_false(fw_cfg_add_file(device, name, bytes, NULL));
    assert_false(fw_cfg_add_file(device, "", bytes, NULL));
}

static void dma_shows_its_signature(void **state)
{
    assert_int_equal(GUINT32_FROM_BE(in32(bench, PORT + 4)), 0x51454D55);
    assert_int_equal(GUINT32_FROM_BE(in32(bench, PORT + 8)), 0x20434647);
}

static void dma_selects_reads_and_skips(void **state)
{
    char text[8] = "";

    add_file("etc/text", "abcdefgh");
    uint32_t key = FW_CFG_FIRST_FILE;
    assert_int_equal(dma(key << 16 | DMA_SELECT | DMA_READ, 3, BUFFER), 0);
    assert_int_equal(dma(DMA_SKIP, 2, 0), 0);
    assert_int_equal(dma(DMA_READ, 5, BUFFER + 3), 0);
    assert_true(memory_read(bench->env.memory, BUFFER, text, 8));
    assert_memory_equal(text, "abcfgh\0\0", 8);
}

static void dma_refuses_what_it_cannot_do(void **state)
{
    add_file("etc/text", "abcdefgh");
    uint32_t key = FW_CFG_FIRST_FILE;
    assert_int_equal(dma(key << 16 | DMA_SELECT | DMA_WRITE, 4, BUFFER), 1);
    assert_int_equal(dma(key << 16 | DMA_SELECT | DMA_READ, 4, BENCH_RAM - 2), 1);
    assert_int_equal(dma(key << 16 | DMA_SELECT | DMA_READ, 4, UINT64_MAX - 1), 1);
    assert_int_equal(dma(key << 16 | DMA_SELECT | DMA_READ, UINT32_MAX, 0), 1);
    /* A command that is no RAM is counted and changes nothing. */
    out32(bench, PORT + 4, GUINT32_TO_BE(0x100));
    out32(bench, PORT + 8, 0);
    assert_int_equal(device->guest_errors, 1);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(the_signature_is_read_byte_by_byte),
        SCENARIO(an_unknown_key_reads_as_zeros),
        SCENARIO(the_directory_lists_files_by_name),
        SCENARIO(names_are_checked),
        SCENARIO(dma_shows_its_signature),
        SCENARIO(dma_selects_reads_and_skips),
        SCENARIO(dma_refuses_what_it_cannot_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
