// SPDX-License-Identifier: Apache-2.0
/*
 * vm.yaml and entries of options with members: any text. What is accepted can be written as JSON
 * and as YAML, and read again with the same result.
 */
#include "tests/fuzz/fuzz.h"

#include "config/definition.h"

static void round_trip_yaml(const struct definition *definition, json_t *json)
{
    struct definition *again = definition_create();
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
    struct definition *again = definition_create();
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct definition *definition = definition_create();
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(GError) error = NULL;

    set_entries(text);
    if (definition_load_yaml(definition, "vm.yaml", "/folder", data, size, &error)) {
        round_trip(definition);
        definition_check(definition, NULL);
    } else {
        fuzz_require(error && !strchr(error->message, '\n'));
    }
    definition_destroy(definition);
    return 0;
}
