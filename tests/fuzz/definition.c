// SPDX-License-Identifier: Apache-2.0
/*
 * Definitions of machines and of networks as a file and as JSON, and entries of options with
 * members: any text. What is accepted can be written as JSON and as YAML, and read again with the
 * same result.
 */
#include "tests/fuzz/fuzz.h"

#include "config/definition.h"
#include "config/network.h"

static void round_trip_yaml(const struct definition *definition, json_t *json)
{
    struct definition *again = definition_create_kind(definition_kind(definition));
    g_autofree char *text = definition_to_yaml(definition, false);
    json_t *back;

    fuzz_require(text && definition_load_yaml(again, "vm.yaml", NULL, text, strlen(text), NULL));
    back = definition_to_json(again);
    fuzz_require(json_equal(json, back));
    json_decref(back);
    definition_destroy(again);
}

static void round_trip(const struct definition *definition)
{
    struct definition *again = definition_create_kind(definition_kind(definition));
    json_t *json = definition_to_json(definition), *back;

    fuzz_require(definition_from_json(again, json, NULL));
    back = definition_to_json(again);
    fuzz_require(json_equal(json, back));
    json_decref(back);
    definition_destroy(again);
    round_trip_yaml(definition, json);
    json_decref(json);
}

/* The input as a word of the command line, for each option that has members. */
static void set_entries(const char *text)
{
    struct definition *definition = definition_create();

    for (const struct option *option = options; option->key; option++) {
        g_autoptr(GError) error = NULL;

        if (option->members && !definition_set(definition, option->key, text, &error))
            fuzz_require(error && !strchr(error->message, '\n'));
    }
    round_trip(definition);
    definition_check(definition, NULL);
    definition_destroy(definition);
}

/* What came of reading it. */
static void check_outcome(const struct definition *definition, bool good, GError *error)
{
    g_autoptr(GError) second = NULL;

    fuzz_require(good == !error);
    fuzz_require(!error || !strchr(error->message, '\n'));
    g_clear_error(&error);
    if (!good)
        return;
    round_trip(definition);
    fuzz_require(definition_check(definition, &second) || !strchr(second->message, '\n'));
}

static void read_json(const struct definition_kind *kind, const char *data, size_t size)
{
    json_t *object = json_loadb(data, size, JSON_DECODE_ANY, NULL);
    struct definition *definition = definition_create_kind(kind);
    GError *error = NULL;
    bool good = object && definition_from_json(definition, object, &error);

    if (object)
        check_outcome(definition, good, error);
    definition_destroy(definition);
    json_decref(object);
}

static void read_yaml(const struct definition_kind *kind, const char *data, size_t size)
{
    struct definition *definition = definition_create_kind(kind);
    GError *error = NULL;
    bool good = definition_load_yaml(definition, "vm.yaml", "/folder", data, size, &error);

    check_outcome(definition, good, error);
    definition_destroy(definition);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct definition_kind *const kinds[] = {&definition_machine, &definition_network};
    g_autofree char *text = g_strndup((const char *)data, size);

    set_entries(text);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        read_yaml(kinds[i], (const char *)data, size);
        read_json(kinds[i], (const char *)data, size);
    }
    return 0;
}
