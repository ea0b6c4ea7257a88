// SPDX-License-Identifier: Apache-2.0
/*
 * A connection of libanima that threads share, with the other end of the socket in the test's
 * hands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/connection.h"

#define PATIENCE_MS 10000

struct bench {
    struct connection *connection;
    int monitor; /* the other end */
};

static int set_up(void **state)
{
    struct bench *bench = g_new0(struct bench, 1);
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    bench->connection = connection_create(ends[0]);
    assert_non_null(bench->connection);
    bench->monitor = ends[1];
    *state = bench;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *bench = *state;

    if (bench->connection)
        connection_close(bench->connection);
    close(bench->monitor);
    g_free(bench);
    return 0;
}

static void say(int monitor, const char *format, ...) G_GNUC_PRINTF(2, 3);

static void say(int monitor, const char *format, ...)
{
    g_autofree char *line = NULL;
    va_list arguments;

    va_start(arguments, format);
    line = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    assert_int_equal(send(monitor, line, strlen(line), MSG_NOSIGNAL), strlen(line));
}

static struct anima_call *ask(struct bench *bench, const char *method)
{
    struct anima_call *call = connection_ask(bench->connection, method, NULL, -1, true, NULL);

    assert_non_null(call);
    return call;
}

static void assert_result(struct anima_call *call, const char *key, int value)
{
    json_t *result;

    assert_true(anima_call_wait(call, PATIENCE_MS));
    result = connection_result(call, NULL);
    assert_int_equal(json_integer_value(json_object_get(result, key)), value);
    json_decref(result);
}

static bool is_readable(struct bench *bench)
{
    struct pollfd wait = {.fd = connection_fd(bench->connection), .events = POLLIN};

    return poll(&wait, 1, 0) == 1;
}

static void answers_find_their_calls(void **state)
{
    struct bench *bench = *state;
    struct anima_call *first = ask(bench, "one"), *second = ask(bench, "two");
    struct anima_error *error = NULL;

    assert_false(anima_call_wait(first, 0));
    assert_null(anima_call_result(first, &error));
    assert_int_equal(error->code, ANIMA_ERROR_STATE);
    anima_error_free(error);
    say(bench->monitor, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"a\":22}}\n"
                        "{\"jsonrpc\":\"2.0\",\"id\":77,\"result\":{}}\n"
                        "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":11}}\n");
    assert_result(first, "a", 11);
    assert_result(second, "a", 22);
    assert_ptr_equal(connection_answered(bench->connection), second);
    assert_ptr_equal(connection_answered(bench->connection), first);
    assert_null(connection_answered(bench->connection));
    anima_call_destroy(first);
    anima_call_destroy(second);
}

static void a_failure_has_a_code_and_a_text(void **state)
{
    static const struct {
        int told;
        enum anima_error_code code;
    } cases[] = {
        {-32602, ANIMA_ERROR_USAGE}, {-32601, ANIMA_ERROR_ABSENT},    {-32001, ANIMA_ERROR_DENIED},
        {-32002, ANIMA_ERROR_STATE}, {-32003, ANIMA_ERROR_CANCELLED}, {-32000, ANIMA_ERROR_FAILED},
        {7, ANIMA_ERROR_FAILED},
    };
    struct bench *bench = *state;

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct anima_call *call = ask(bench, "method");
        struct anima_error *error = NULL;

        say(bench->monitor, "{\"id\":%u,\"error\":{\"code\":%d,\"message\":\"no\"}}\n", i + 1,
            cases[i].told);
        assert_true(anima_call_wait(call, PATIENCE_MS));
        assert_null(anima_call_result(call, &error));
        assert_int_equal(error->code, cases[i].code);
        assert_string_equal(error->message, "no");
        anima_error_free(error);
        anima_call_destroy(call);
    }
}

static void the_descriptor_tells_when_to_look(void **state)
{
    struct bench *bench = *state;
    struct anima_call *call;
    json_t *event;
    bool closed;

    assert_false(is_readable(bench));
    call = ask(bench, "m");
    assert_false(is_readable(bench));
    say(bench->monitor, "{\"method\":\"event\",\"params\":{\"seq\":1,\"type\":\"paused\"}}\n"
                        "{\"id\":1,\"result\":{}}\n");
    assert_true(is_readable(bench));
    /* A thread that waits for something else brings all that there is. */
    assert_true(anima_call_wait(call, PATIENCE_MS));
    assert_true(is_readable(bench));
    event = connection_event(bench->connection, 0, &closed);
    assert_non_null(event);
    json_decref(event);
    assert_true(is_readable(bench));
    assert_ptr_equal(connection_answered(bench->connection), call);
    assert_false(is_readable(bench));
    assert_null(connection_event(bench->connection, 0, &closed));
    assert_false(closed);
    anima_call_destroy(call);
    shutdown(bench->monitor, SHUT_WR);
    assert_true(is_readable(bench));
    assert_null(connection_event(bench->connection, -1, &closed));
    assert_true(closed);
}

static void what_waits_fails_when_the_monitor_goes(void **state)
{
    struct bench *bench = *state;
    struct anima_call *call = ask(bench, "m"), *late;
    struct anima_error *error = NULL;

    say(bench->monitor, "{\"method\":\"event\",\"params\":{\"seq\":1,\"type\":\"ended\"}}\n");
    shutdown(bench->monitor, SHUT_RDWR);
    assert_true(anima_call_wait(call, -1));
    assert_null(anima_call_result(call, &error));
    assert_non_null(strstr(error->message, "has gone"));
    anima_error_free(error);
    late = ask(bench, "n");
    assert_true(anima_call_wait(late, -1));
    /* A call may outlive its machine's handle. */
    connection_close(g_steal_pointer(&bench->connection));
    assert_null(anima_call_result(late, NULL));
    anima_call_destroy(call);
    anima_call_destroy(late);
}

static void events_that_nobody_takes_are_told_as_missed(void **state)
{
    const unsigned count = 6000;
    struct bench *bench = *state;
    struct anima_call *call = ask(bench, "m");
    json_int_t last = 0;
    bool missed = false, closed, ended = false;
    json_t *event;

    for (unsigned i = 1; i < count; i++) {
        say(bench->monitor, "{\"method\":\"event\",\"params\":{\"seq\":%u,\"type\":\"log\"}}\n", i);
        anima_call_wait(call, 0);
    }
    say(bench->monitor, "{\"method\":\"event\",\"params\":{\"seq\":%u,\"type\":\"ended\"}}\n",
        count);
    while ((event = connection_event(bench->connection, 0, &closed))) {
        json_int_t first = json_integer_value(json_object_get(event, "first"));
        const char *type = json_string_value(json_object_get(event, "type"));
        json_int_t number = json_integer_value(json_object_get(event, "seq"));

        missed |= strcmp(type, "missed") == 0;
        ended |= strcmp(type, "ended") == 0;
        assert_int_equal(first ? first : number, last + 1);
        last = number;
        json_decref(event);
    }
    assert_int_equal(last, count);
    assert_true(missed && ended);
    anima_call_destroy(call);
}

static void garbage_ends_the_connection(void **state)
{
    struct bench *bench = *state;
    struct anima_call *call = ask(bench, "m");

    say(bench->monitor, "[1]\n{\"id\":1,\"result\":{}}\n");
    assert_true(anima_call_wait(call, PATIENCE_MS));
    assert_null(anima_call_result(call, NULL));
    anima_call_destroy(call);
}

static void progress_and_cancellation(void **state)
{
    struct bench *bench = *state;
    struct anima_call *call = ask(bench, "state.save");
    struct anima_error *error = NULL;
    uint64_t done, total;
    char request[512];
    ssize_t length;

    assert_false(anima_call_progress(call, &done, &total));
    assert_false(anima_call_cancel(call, 0, &error));
    assert_int_equal(error->code, ANIMA_ERROR_STATE);
    anima_error_free(error);
    say(bench->monitor, "{\"method\":\"progress\",\"params\":{\"id\":1,\"job\":5,\"done\":3,"
                        "\"total\":9}}\n{\"id\":2,\"result\":{}}\n");
    assert_true(anima_call_progress(call, &done, &total));
    assert_int_equal(done, 3);
    assert_int_equal(total, 9);
    assert_false(anima_call_cancel(call, 20, &error));
    assert_int_equal(error->code, ANIMA_ERROR_TIMEOUT);
    anima_error_free(error);
    length = recv(bench->monitor, request, sizeof(request) - 1, 0);
    assert_true(length > 0);
    request[length] = 0;
    assert_non_null(strstr(request, "\"job.cancel\""));
    assert_non_null(strstr(request, "{\"job\":5}"));
    say(bench->monitor, "{\"id\":3,\"result\":{}}\n");
    anima_call_destroy(call);
}

/* ---- threads ---- */

#define THREADS 4
#define CALLS   300

static void answer(int monitor, const char *line)
{
    json_t *request = json_loads(line, 0, NULL);
    json_int_t id = json_integer_value(json_object_get(request, "id"));
    json_int_t value =
        json_integer_value(json_object_get(json_object_get(request, "params"), "value"));

    json_decref(request);
    say(monitor, "{\"id\":%d,\"result\":{\"value\":%d}}\n", (int)id, (int)value);
}

/* Answers what comes together in the reverse order, with an event before. */
static void *serve(void *opaque)
{
    int monitor = *(int *)opaque;
    GString *text = g_string_new(NULL);
    unsigned answered = 0;
    char buffer[4096];
    ssize_t got;

    while (answered < THREADS * CALLS && (got = recv(monitor, buffer, sizeof(buffer), 0)) > 0) {
        g_auto(GStrv) lines = NULL;
        unsigned count;

        g_string_append_len(text, buffer, got);
        lines = g_strsplit(text->str, "\n", -1);
        count = g_strv_length(lines) - 1;
        say(monitor, "{\"method\":\"event\",\"params\":{\"seq\":1,\"type\":\"log\"}}\n");
        for (unsigned i = count; i-- > 0;)
            answer(monitor, lines[i]);
        answered += count;
        g_string_assign(text, lines[count]);
    }
    g_string_free(text, TRUE);
    return NULL;
}

static void *call_often(void *opaque)
{
    struct connection *connection = opaque;

    for (int i = 0; i < CALLS; i++) {
        struct anima_call *call =
            connection_ask(connection, "echo", json_pack("{s:i}", "value", i), -1, false, NULL);

        assert_result(call, "value", i);
        anima_call_destroy(call);
    }
    return NULL;
}

static void threads_share_a_connection(void **state)
{
    struct bench *bench = *state;
    GThread *server = g_thread_new("server", serve, &bench->monitor), *threads[THREADS];
    unsigned events = 0;
    json_t *event;
    bool closed;

    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("caller", call_often, bench->connection);
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    g_thread_join(server);
    while ((event = connection_event(bench->connection, 0, &closed))) {
        events++;
        json_decref(event);
    }
    assert_true(events >= CALLS);
}

#define SCENARIO(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENARIO(answers_find_their_calls),
        SCENARIO(a_failure_has_a_code_and_a_text),
        SCENARIO(the_descriptor_tells_when_to_look),
        SCENARIO(what_waits_fails_when_the_monitor_goes),
        SCENARIO(events_that_nobody_takes_are_told_as_missed),
        SCENARIO(garbage_ends_the_connection),
        SCENARIO(progress_and_cancellation),
        SCENARIO(threads_share_a_connection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
