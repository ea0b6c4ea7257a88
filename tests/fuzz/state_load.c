// SPDX-License-Identifier: Apache-2.0
/*
 * State of every kind of device, of a vCPU and of its model, as a stranger may have written it: raw
 * bytes, or valid state with some bytes changed. What is refused changes nothing; what loads is
 * saved again and loads again.
 */
#include "tests/fuzz/fuzz.h"

#include "vmm/device/device.h"
#include "vmm/engine/cpu_state.h"
#include "vmm/state/state.h"

static const struct state_table *choose_table(uint8_t choice)
{
    const struct state_table *tables[64] = {&cpu_state_table, &cpu_definition_table};
    unsigned count = 2;

    for (unsigned i = 0; device_kinds[i] && count < G_N_ELEMENTS(tables); i++)
        if (device_kinds[i]->state)
            tables[count++] = device_kinds[i]->state;
    return tables[choice % count];
}

static GBytes *make_bytes(struct fuzz_input *input, const struct state_table *table,
                          const void *state)
{
    g_autoptr(GBytes) valid = NULL;
    gsize size;
    uint8_t *bytes;

    if (fuzz_byte(input) & 1)
        return g_bytes_new(input->data, input->size);
    valid = state_save(table, state);
    size = g_bytes_get_size(valid);
    bytes = g_memdup2(g_bytes_get_data(valid, NULL), size);
    fuzz_patch(input, bytes, size);
    return g_bytes_new_take(bytes, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    const struct state_table *table = choose_table(fuzz_byte(&input));
    g_autofree uint8_t *state = g_malloc0(table->size);
    g_autofree uint8_t *before = g_malloc0(table->size);
    g_autoptr(GBytes) bytes = make_bytes(&input, table, state);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;

    if (state_load(table, state, bytes, &error)) {
        g_autoptr(GBytes) saved = state_save(table, state);

        fuzz_require(!error);
        fuzz_require(state_load(table, before, saved, NULL));
    } else {
        fuzz_require(error && !strchr(error->message, '\n'));
        fuzz_require(!memcmp(state, before, table->size));
    }
    state_dump(bytes, "s", text, NULL);
    return 0;
}
