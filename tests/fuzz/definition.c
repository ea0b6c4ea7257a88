// SPDX-License-Identifier: Apache-2.0
/*
 * vm.yaml: any text. What is accepted can be written as JSON and read again with the same result.
 */
#include "tests/fuzz/fuzz.h"

#include "config/definition.h"

static void round_trip(const struct definition *definition)
{
    struct definition *again = definition_create();
    json_t *json = definition_to_json(definition), *back;

    fuzz_require(definition_from_json(again, json, NULL));
    back = definition_to_json(again);
    fuzz_require(json_equal(json, back));
    json_decref(json);
    json_decref(back);
    definition_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct definition *definition = definition_create();
    g_autoptr(GError) error = NULL;

    if (definition_load_yaml(definition, "vm.yaml", "/folder", data, size, &error)) {
        round_trip(definition);
        definition_check(definition, NULL);
    } else {
        fuzz_require(error && !strchr(error->message, '\n'));
    }
    definition_destroy(definition);
    return 0;
}
