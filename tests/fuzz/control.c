// SPDX-License-Identifier: Apache-2.0
/*
 * The control socket: the first byte says what the connection was granted, and whether the rest is
 * what it sends, or chooses methods, parameters and what is broken in requests that are well made.
 * What a client may not, what is unknown and what is not as described reaches no handler, so
 * that it changes nothing; every line but a notification is answered once; and results and
 * failures are as many as calls that were served and that were not.
 */
#include <sys/socket.h>

#include "tests/fuzz/fuzz.h"

#include "vmm/control/method.h"
#include "vmm/monitor/clients.h"

static unsigned granted, served, changed; /* by the input at hand */

enum { WELL_MADE = 0x80 };

/* In the place of every handler: a call comes here when all checks let it. */
static void serve(void *opaque, const struct control_method *method, struct control_call *call)
{
    fuzz_require(method == control_method_find(method->name));
    fuzz_require(method->access & granted);
    fuzz_require(call->count == 0 && method->fds_min == 0);
    fuzz_require(control_fields_check(method->params, call->params, NULL, NULL));
    served += call->id != NULL;
    changed += method->access != CONTROL_OBSERVE;
    control_fail(call, RPC_ERROR_FAILED, "served");
}

static void on_gone(void *opaque, struct peer *peer, bool owner)
{
}

/* A value, right for many a parameter or for none. */
static void add_value(struct fuzz_input *input, GString *text)
{
    static const char *const values[] = {
        "true",
        "false",
        "null",
        "0",
        "-1",
        "60",
        "86401",
        "9223372036854775807",
        "1e3",
        "\"\"",
        "\"soft\"",
        "\"kvm\"",
        "{}",
        "[]",
        "{\"name\":\"a\"}",
        "[[1],{}]",
        "\"\\u0000\"",
        "\"\xff\"",
    };

    g_string_append(text, values[fuzz_byte(input) % G_N_ELEMENTS(values)]);
}

static void add_param(struct fuzz_input *input, const struct control_method *method, GString *text)
{
    uint8_t choice = fuzz_byte(input);
    unsigned count = 0;

    while (method->params[count].name)
        count++;
    g_string_append_printf(
        text, "\"%s\":",
        choice % (count + 1) == count ? "what" : method->params[choice % (count + 1)].name);
    add_value(input, text);
}

static void add_request(struct fuzz_input *input, GString *text)
{
    const struct control_method *method = control_methods;
    uint8_t params = fuzz_byte(input) % 4;

    for (unsigned i = fuzz_byte(input) % 32; i && method[1].name; i--)
        method++;
    g_string_append_printf(text, "{\"jsonrpc\":\"2.0\",\"method\":\"%s\"", method->name);
    if (fuzz_byte(input) % 8) {
        g_string_append(text, ",\"id\":");
        add_value(input, text);
    }
    g_string_append(text, ",\"params\":{");
    for (unsigned i = 0; i < params; i++) {
        g_string_append(text, i ? "," : "");
        add_param(input, method, text);
    }
    g_string_append(text, "}}\n");
}

/* What is sent. */
static GString *compose(struct fuzz_input *input, bool well_made)
{
    GString *text = g_string_new(NULL);

    if (!well_made)
        return g_string_append_len(text, (const char *)input->data, (gssize)input->size);
    for (unsigned i = 0; i < 16 && input->size > 8; i++)
        add_request(input, text);
    fuzz_patch(input, (uint8_t *)text->str, text->len);
    return text;
}

/* How many of the lines want an answer. */
static unsigned count_questions(const char *at, const char *end)
{
    unsigned count = 0;
    const char *newline;

    for (; (newline = memchr(at, '\n', (size_t)(end - at))); at = newline + 1) {
        struct rpc_message message;

        if (newline == at)
            continue;
        if (!rpc_parse(at, (size_t)(newline - at), &message, NULL))
            count++;
        else
            count += message.kind != RPC_NOTIFICATION;
        rpc_message_clear(&message);
    }
    return count;
}

static void check_answers(int fd, unsigned questions)
{
    GString *text = g_string_new(NULL);
    unsigned failures = 0, of_serve = 0;
    g_auto(GStrv) lines = NULL;
    char buffer[16384];
    ssize_t got;

    while ((got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT)) > 0)
        g_string_append_len(text, buffer, got);
    lines = g_strsplit(text->str, "\n", -1);
    for (char **line = lines; *line && **line; line++) {
        struct rpc_message message;

        fuzz_require(rpc_parse(*line, strlen(*line), &message, NULL));
        fuzz_require(message.kind == RPC_FAILURE);
        failures++;
        of_serve += message.code == RPC_ERROR_FAILED;
        rpc_message_clear(&message);
    }
    fuzz_require(failures == questions);
    fuzz_require(of_serve == served);
    g_string_free(text, TRUE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct control_handler none[] = {{0}};
    const struct clients_config config = {
        .service = {.handlers = none, .forward = serve, .public = true},
        .gone = on_gone,
    };
    struct fuzz_input input = {data, size};
    uint8_t head = fuzz_byte(&input);
    struct clients *clients;
    GString *text;
    int ends[2];

    granted = head & (CONTROL_OBSERVE | CONTROL_OPERATE | CONTROL_OWN);
    served = changed = 0;
    text = compose(&input, head & WELL_MADE);
    clients = clients_create(&config);
    fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    clients_add(clients, ends[0], granted);
    fuzz_require(text->len == 0 ||
                 send(ends[1], text->str, text->len, MSG_DONTWAIT) == (ssize_t)text->len);
    while (g_main_context_iteration(NULL, FALSE))
        continue;
    check_answers(ends[1], count_questions(text->str, text->str + text->len));
    fuzz_require(changed == 0 || (granted & (CONTROL_OPERATE | CONTROL_OWN)));
    clients_destroy(clients);
    close(ends[1]);
    g_string_free(text, TRUE);
    return 0;
}
