// SPDX-License-Identifier: Apache-2.0
/*
 * What a machine's monitor says to libanima, when it is another's, or was taken over. Input: a byte
 * that says how much of the rest comes before the calls are made, then any bytes; or, by its
 * highest bit, lines that are nearly right: choices of what each is. The library waits for nothing
 * that cannot come, gives each call one answer at most, and keeps no more than it promises to.
 */
#include <sys/socket.h>

#include "tests/fuzz/fuzz.h"

#include "lib/connection.h"

#define CALLS      4
#define EVENTS_MAX 5000 /* more than can be in an input */

/* A line that a monitor might say, with something of the input in it. */
static void add_line(struct fuzz_input *input, GString *text)
{
    static const char *const ids[] = {"1", "2", "3", "4", "5", "0", "-1", "\"1\"", "null", "1.0"};
    static const char *const bodies[] = {
        "\"result\":{}",
        "\"result\":null",
        "\"error\":{\"code\":-32000,\"message\":\"no\"}",
        "\"error\":{\"code\":\"x\",\"message\":5}",
        "\"error\":[]",
        "\"result\":1,\"error\":{}",
        "\"method\":\"event\",\"params\":{\"seq\":1,\"type\":\"paused\"}",
        "\"method\":\"event\",\"params\":[]",
        "\"method\":\"progress\",\"params\":{\"id\":1,\"job\":7,\"done\":9,\"total\":3}",
        "\"method\":\"progress\",\"params\":{\"id\":1,\"job\":-1,\"done\":-5,\"total\":0}",
        "\"method\":\"event\",\"params\":{\"type\":\"missed\",\"first\":-1,\"last\":{}}",
        "\"method\":5",
    };

    g_string_append_printf(text, "{\"jsonrpc\":\"2.0\",\"id\":%s,%s}\n",
                           ids[fuzz_byte(input) % G_N_ELEMENTS(ids)],
                           bodies[fuzz_byte(input) % G_N_ELEMENTS(bodies)]);
}

static GString *compose(struct fuzz_input *input, bool lines)
{
    GString *text = g_string_new(NULL);

    if (!lines)
        return g_string_append_len(text, (const char *)input->data, (gssize)input->size);
    for (unsigned i = 0; i < 64 && input->size > 8; i++)
        add_line(input, text);
    fuzz_patch(input, (uint8_t *)text->str, text->len);
    return text;
}

static void say(int fd, const char *bytes, size_t size)
{
    fuzz_require(size == 0 || send(fd, bytes, size, MSG_DONTWAIT) == (ssize_t)size);
}

static void take_events(struct connection *connection)
{
    bool closed = false;
    json_t *event;

    for (unsigned count = 0; (event = connection_event(connection, 0, &closed)); count++) {
        fuzz_require(json_is_object(event) && count < EVENTS_MAX);
        json_decref(event);
    }
    fuzz_require(closed);
}

/* The other end is closed: every call has come to an end. */
static void end_call(struct anima_call *call)
{
    struct anima_error *error = NULL;
    uint64_t done, total;
    json_t *result;

    fuzz_require(connection_await(call, -1));
    if (anima_call_progress(call, &done, &total))
        fuzz_require(total > 0 && done <= total);
    result = connection_result(call, &error);
    fuzz_require(!result == (error != NULL));
    fuzz_require(!error || error->message);
    anima_error_free(error);
    json_decref(result);
    anima_call_destroy(call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = {data, size};
    uint8_t head = fuzz_byte(&input);
    GString *text = compose(&input, head & 0x80);
    size_t before = text->len * (head & 0x7f) / 0x80;
    struct anima_call *calls[CALLS];
    struct connection *connection;
    int ends[2];

    fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    connection = connection_create(ends[0]);
    say(ends[1], text->str, before);
    for (unsigned i = 0; i < CALLS; i++)
        calls[i] = connection_ask(connection, "query", NULL, -1, i % 2, NULL);
    say(ends[1], text->str + before, text->len - before);
    close(ends[1]);
    for (struct anima_call *call; (call = connection_answered(connection));)
        fuzz_require(call == calls[1] || call == calls[3]);
    take_events(connection);
    for (unsigned i = 0; i < CALLS; i++)
        if (calls[i])
            end_call(calls[i]);
    connection_close(connection);
    g_string_free(text, TRUE);
    return 0;
}
