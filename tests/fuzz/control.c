// SPDX-License-Identifier: Apache-2.0
/*
 * The control protocol: each line of the input is a message, checked as the monitor checks it for
 * clients with little and with all access.
 */
#include "tests/fuzz/fuzz.h"

#include "vmm/control/method.h"

static void check_line(const char *line, size_t length, unsigned granted)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *param = NULL;
    struct rpc_message message;

    if (rpc_parse(line, length, &message, &error)) {
        fuzz_require(message.root && !error);
        if (message.kind == RPC_REQUEST || message.kind == RPC_NOTIFICATION)
            fuzz_require(!!control_method_check(&message, granted, 0, &param, &error) == !error);
    } else {
        fuzz_require(error);
    }
    rpc_message_clear(&message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *at = (const char *)data, *end = at + size;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t length = (size_t)((newline ? newline : end) - at);
        g_autofree char *line = g_strndup(at, length);

        check_line(line, length, CONTROL_OBSERVE);
        check_line(line, length, CONTROL_OBSERVE | CONTROL_OPERATE | CONTROL_OWN);
        at += length + 1;
    }
    return 0;
}
