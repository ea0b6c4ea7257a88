// SPDX-License-Identifier: Apache-2.0
/*
 * State tables: what is saved loads, what is wrong is refused and changes nothing.
 */
#include "vmm/state/state.h"
#include "vmm/util/fault.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

struct channel {
    uint8_t mode;
    uint16_t count;
    bool gate;
};

struct sample {
    uint8_t small;
    uint64_t large;
    int16_t negative;
    int64_t lowest;
    bool flag;
    uint32_t words[3];
    uint8_t raw[40];
    struct channel single;
    struct channel channels[2];
    uint8_t added;
    int unsaved;
};

static const struct state_field channel_fields[] = {
    STATE_RANGE(struct channel, mode, 0, 5),
    STATE_U(struct channel, count),
    STATE_B(struct channel, gate),
};
static const struct state_table channel_table =
    STATE_TABLE("channel", 1, struct channel, channel_fields);

static const struct state_field sample_fields[] = {
    STATE_RANGE(struct sample, small, 1, 9),
    STATE_U(struct sample, large),
    STATE_I(struct sample, negative),
    STATE_I(struct sample, lowest),
    STATE_B(struct sample, flag),
    STATE_ARRAY(struct sample, words),
    STATE_RAW(struct sample, raw),
    STATE_NESTED(struct sample, single, &channel_table),
    STATE_NESTED_ARRAY(struct sample, channels, &channel_table),
};

/* large must not be less than small. */
static bool sample_check(const void *state, GError **error)
{
    const struct sample *sample = state;

    if (sample->large >= sample->small)
        return true;
    g_set_error(error, VMM_ERROR, VMM_ERROR_INVALID, "large is too small");
    return false;
}

static const struct state_table sample_table = {
    .name = "sample",
    .version = 1,
    .size = sizeof(struct sample),
    .fields = sample_fields,
    .count = G_N_ELEMENTS(sample_fields),
    .check = sample_check,
};

static const struct sample example = {
    .small = 9,
    .large = UINT64_MAX,
    .negative = -300,
    .lowest = INT64_MIN,
    .flag = true,
    .words = {1, 0x10000, UINT32_MAX},
    .raw = "raw",
    .single = {.mode = 5, .count = 77},
    .channels = {{.mode = 1, .gate = true}, {.mode = 2, .count = 65535}},
    .unsaved = 4,
};

static void what_is_saved_loads(void **state)
{
    g_autoptr(GBytes) bytes = state_save(&sample_table, &example);
    g_autoptr(GBytes) again = NULL;
    struct sample loaded = {.unsaved = 1};
    struct sample expected = example;

    assert_true(state_load(&sample_table, &loaded, bytes, NULL));
    again = state_save(&sample_table, &loaded);
    assert_true(g_bytes_equal(bytes, again));
    expected.unsaved = 1;
    assert_int_equal(loaded.large, expected.large);
    assert_int_equal(loaded.negative, expected.negative);
    assert_true(loaded.lowest == INT64_MIN);
    assert_memory_equal(loaded.words, expected.words, sizeof(loaded.words));
    assert_string_equal((char *)loaded.raw, "raw");
    assert_int_equal(loaded.channels[1].count, 65535);
    assert_int_equal(loaded.unsaved, 1);
}

/* Load `data` into a copy of the example: it must be refused with a message that has `part` in it,
 * and change nothing. */
static void assert_refused_by(const struct state_table *table, const void *data, size_t length,
                              const char *part)
{
    g_autoptr(GBytes) bytes = g_bytes_new(data, length);
    g_autoptr(GError) error = NULL;
    struct sample copy, before;

    memcpy(&copy, &example, sizeof(copy));
    memcpy(&before, &copy, sizeof(copy));
    assert_false(state_load(table, &copy, bytes, &error));
    assert_non_null(error);
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
    assert_memory_equal(&copy, &before, sizeof(copy));
}

static void assert_sample_refused(const struct sample *sample, const char *part)
{
    g_autoptr(GBytes) bytes = state_save(&sample_table, sample);

    assert_refused_by(&sample_table, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes), part);
}

static void values_out_of_range_are_refused(void **state)
{
    struct sample sample = example;

    sample.small = 0;
    assert_sample_refused(&sample, "sample.small: 0 is not within 1 and 9");
    sample = example;
    sample.channels[1].mode = 6;
    assert_sample_refused(&sample, "sample.channels[1].mode: 6");
}

static void the_check_of_a_table_refuses(void **state)
{
    struct sample sample = example;

    sample.large = 3;
    assert_sample_refused(&sample, "sample: large is too small");
}

static void truncated_bytes_are_refused_at_every_length(void **state)
{
    g_autoptr(GBytes) bytes = state_save(&sample_table, &example);
    size_t length;
    const uint8_t *data = g_bytes_get_data(bytes, &length);

    for (size_t i = 0; i < length; i++)
        assert_refused_by(&sample_table, data, i, "state of sample");
}

static void trailing_bytes_are_refused(void **state)
{
    g_autoptr(GBytes) bytes = state_save(&sample_table, &example);
    size_t length;
    const uint8_t *data = g_bytes_get_data(bytes, &length);
    g_autofree uint8_t *longer = g_malloc0(length + 1);

    memcpy(longer, data, length);
    assert_refused_by(&sample_table, longer, length + 1, "bytes too many");
}

/* A table of one byte field, for hand-made CBOR. */
static const struct state_field byte_fields[] = {{
    .name = "b",
    .type = STATE_UINT,
    .offset = offsetof(struct sample, small),
    .size = 1,
    .count = 1,
}};
static const struct state_table byte_table = STATE_TABLE("byte", 1, struct sample, byte_fields);

#define assert_byte_refused(data, part) \
    assert_refused_by(&byte_table, (data), sizeof(data) - 1, (part))

static void malformed_cbor_is_refused(void **state)
{
    assert_byte_refused("\x18\x2a", "is not a map");
    assert_byte_refused("\xa0", "is empty");
    assert_byte_refused("\xa1\x61\x62\x05\x00", "does not begin with its version");
    assert_byte_refused("\xa2\x00\x02\x61\x62\x05", "has version 2, known are 1 to 1");
    assert_byte_refused("\xa2\x00\x01\x61\x62\x19\x01\x00", "256 is not within 0 and 255");
    assert_byte_refused("\xa2\x00\x01\x61\x62\x24", "is not an unsigned number");
    assert_byte_refused("\xa2\x00\x01\x61\x63\x05", "unknown field \"c\"");
    assert_byte_refused("\xa3\x00\x01\x61\x62\x05\x61\x62\x05", "byte.b: appears twice");
    assert_byte_refused("\xa1\x00\x01", "lacks the field \"b\"");
    assert_byte_refused("\xbf\x00\x01\x61\x62\x05\xff", "not an item of this format");
    assert_byte_refused("\xa2\x00\x01\x7f\x61\x62\xff\x05", "not an item of this format");
    assert_byte_refused("\xa2\x00\x01\x61\x62\xc1\x05", "not an item of this format");
    assert_byte_refused("\xa2\x00\x01\x61\x62\xf6", "not an item of this format");
    assert_byte_refused("\xa2\x00\x01\x61\x62\xfb\x00\x00\x00\x00\x00\x00\x00\x00",
                        "not an item of this format");
    assert_byte_refused("\xbb\xff\xff\xff\xff\xff\xff\xff\xff\x00\x01", "longer than the data");
    assert_byte_refused("\xa2\x00\x01\x7b\xff\xff\xff\xff\xff\xff\xff\xff", "ends too early");
    assert_byte_refused("\xa2\x00\x01\x61\x62\x9a\xff\xff\xff\xff", "longer than the data");
}

/* Version 2 of a table: one field more. */
static const struct state_field grown_fields[] = {
    {
        .name = "b",
        .type = STATE_UINT,
        .offset = offsetof(struct sample, small),
        .size = 1,
        .count = 1,
    },
    {
        .name = "added",
        .type = STATE_UINT,
        .offset = offsetof(struct sample, added),
        .size = 1,
        .count = 1,
        .since = 2,
    },
};
static const struct state_table grown_table = STATE_TABLE("byte", 2, struct sample, grown_fields);

static void older_streams_leave_new_fields_alone(void **state)
{
    g_autoptr(GBytes) old = g_bytes_new_static("\xa2\x00\x01\x61\x62\x05", 6);
    struct sample sample = {.added = 42};

    assert_true(state_load(&grown_table, &sample, old, NULL));
    assert_int_equal(sample.small, 5);
    assert_int_equal(sample.added, 42);
    assert_refused_by(&grown_table, "\xa2\x00\x02\x61\x62\x05", 6, "lacks the field \"added\"");
}

static void the_dump_is_readable(void **state)
{
    g_autoptr(GBytes) bytes = state_save(&sample_table, &example);
    g_autoptr(GString) out = g_string_new(NULL);

    assert_true(state_dump(bytes, "s", out, NULL));
    assert_string_equal(out->str, "s.version = 1\n"
                                  "s.small = 9\n"
                                  "s.large = 0xffffffffffffffff\n"
                                  "s.negative = -300\n"
                                  "s.lowest = -9223372036854775808\n"
                                  "s.flag = true\n"
                                  "s.words = 1, 0x10000, 0xffffffff\n"
                                  "s.raw = 726177 + 37 zero bytes\n"
                                  "s.single.mode = 5\n"
                                  "s.single.count = 0x4d\n"
                                  "s.single.gate = false\n"
                                  "s.channels[0].mode = 1\n"
                                  "s.channels[0].count = 0\n"
                                  "s.channels[0].gate = true\n"
                                  "s.channels[1].mode = 2\n"
                                  "s.channels[1].count = 0xffff\n"
                                  "s.channels[1].gate = false\n");
}

static void the_dump_refuses_deep_nesting_and_long_names(void **state)
{
    uint8_t deep[1000];
    g_autoptr(GBytes) nested = NULL;
    g_autoptr(GBytes) named = NULL;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    memset(deep, 0x81, sizeof(deep));
    nested = g_bytes_new(deep, sizeof(deep));
    assert_false(state_dump(nested, "s", out, &error));
    assert_non_null(strstr(error->message, "nested too deep"));
    g_clear_error(&error);
    deep[0] = 0xa1;
    deep[1] = 0x78;
    deep[2] = 65;
    named = g_bytes_new(deep, 70);
    assert_false(state_dump(named, "s", out, &error));
    assert_non_null(strstr(error->message, "a key is no name"));
}

static void the_schema_names_every_field(void **state)
{
    g_autoptr(GString) out = g_string_new(NULL);

    state_schema(&sample_table, out);
    assert_string_equal(out->str, "sample version 1\n"
                                  "sample.small u8 1..9\n"
                                  "sample.large u64\n"
                                  "sample.negative i16\n"
                                  "sample.lowest i64\n"
                                  "sample.flag bool\n"
                                  "sample.words[3] u32\n"
                                  "sample.raw[40] bytes\n"
                                  "sample.single struct channel version 1\n"
                                  "sample.single.mode u8 0..5\n"
                                  "sample.single.count u16\n"
                                  "sample.single.gate bool\n"
                                  "sample.channels[2] struct channel version 1\n"
                                  "sample.channels[2].mode u8 0..5\n"
                                  "sample.channels[2].count u16\n"
                                  "sample.channels[2].gate bool\n");
}

/* Whatever is loaded satisfies the table; whatever is refused changed nothing. */
static void mutated_bytes_never_break_the_rules(void **state)
{
    g_autoptr(GBytes) bytes = state_save(&sample_table, &example);
    g_autoptr(GRand) random = g_rand_new_with_seed(2);
    size_t length;
    const uint8_t *data = g_bytes_get_data(bytes, &length);
    unsigned loaded = 0;

    for (unsigned i = 0; i < 50000; i++) {
        g_autofree uint8_t *mutant = g_memdup2(data, length);
        g_autoptr(GBytes) input = NULL;
        g_autoptr(GString) out = g_string_new(NULL);
        struct sample sample, before;

        memcpy(&sample, &example, sizeof(sample));
        memcpy(&before, &sample, sizeof(sample));
        for (int n = g_rand_int_range(random, 1, 4); n > 0; n--)
            mutant[g_rand_int_range(random, 0, (int)length)] = (uint8_t)g_rand_int(random);
        input = g_bytes_new(mutant, length);
        if (state_load(&sample_table, &sample, input, NULL)) {
            loaded++;
            assert_in_range(sample.small, 1, 9);
            assert_in_range(sample.channels[0].mode, 0, 5);
            assert_true(sample.large >= sample.small);
        } else {
            assert_memory_equal(&sample, &before, sizeof(sample));
        }
        state_dump(input, "s", out, NULL);
        assert_true(out->len < 100000);
    }
    assert_in_range(loaded, 1000, 49000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_loads),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(the_check_of_a_table_refuses),
        cmocka_unit_test(truncated_bytes_are_refused_at_every_length),
        cmocka_unit_test(trailing_bytes_are_refused),
        cmocka_unit_test(malformed_cbor_is_refused),
        cmocka_unit_test(older_streams_leave_new_fields_alone),
        cmocka_unit_test(the_dump_is_readable),
        cmocka_unit_test(the_dump_refuses_deep_nesting_and_long_names),
        cmocka_unit_test(the_schema_names_every_field),
        cmocka_unit_test(mutated_bytes_never_break_the_rules),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
