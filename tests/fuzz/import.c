// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptions of other hypervisors: any bytes. What is read of them can be written as a vm.yaml
 * and read again; a fault is one line, and so is each thing that was lost.
 */
#include "tests/fuzz/fuzz.h"

#include "vmm/import/import.h"

static void require_line(const char *text)
{
    fuzz_require(text && !strchr(text, '\n'));
}

static void require_readable(const struct import *import)
{
    g_autofree char *yaml = definition_to_yaml(import->definition, false);
    struct definition *again = definition_create();
    json_t *before = definition_to_json(import->definition), *after;

    fuzz_require(yaml && definition_load_yaml(again, "x", NULL, yaml, strlen(yaml), NULL));
    after = definition_to_json(again);
    fuzz_require(json_equal(before, after));
    json_decref(before);
    json_decref(after);
    definition_destroy(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    struct import import;

    import_init(&import);
    if (import_read(&import, (const char *)data, size, &error))
        require_readable(&import);
    else
        require_line(error->message);
    for (unsigned i = 0; i < import.lost->len; i++)
        require_line(import.lost->pdata[i]);
    import_finish(&import);
    return 0;
}
