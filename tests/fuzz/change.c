// SPDX-License-Identifier: Apache-2.0
/*
 * Changes of a vm.yaml by words of the command line. Input: a text, and behind a zero byte each a
 * few words. A text that comes out means the changed definition: the same changes again change
 * nothing but lists, and a fault is one line.
 */
#include "tests/fuzz/fuzz.h"

#include "config/change.h"
#include "config/definition.h"

#define WORDS_MAX 8

/* A definition that passed the check, so that changes of one option are reached quickly. */
static const char base[] = "# a comment\nkernel: /k # the kernel\n\n"
                           "disk:\n  - file: /a\n    readonly: yes\n  - /b\n# the end\ncpus: 2\n";

static void require_line(const GError *error)
{
    fuzz_require(error && *error->message && !strchr(error->message, '\n'));
}

static void change(const char *text, const char *const *words)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *changed =
        change_yaml(&definition_machine, "vm.yaml", text, words, "/here", &error);
    struct definition *definition;

    if (!changed) {
        require_line(error);
        return;
    }
    definition = definition_create();
    fuzz_require(definition_load_yaml(definition, "vm.yaml", NULL, changed, strlen(changed), NULL));
    fuzz_require(definition_check(definition, NULL));
    definition_destroy(definition);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *copy = g_malloc(size + 1);
    const char *words[WORDS_MAX + 1] = {NULL};
    unsigned count = 0;

    memcpy(copy, data, size);
    copy[size] = 0;
    for (size_t at = strlen(copy) + 1; at <= size && count < WORDS_MAX; at += strlen(copy + at) + 1)
        words[count++] = copy + at;
    change(copy, words);
    change(base, words);
    return 0;
}
