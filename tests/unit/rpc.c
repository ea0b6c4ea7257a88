// SPDX-License-Identifier: Apache-2.0
/*
 * Messages of the control protocol, and lines with descriptors over a socket.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/control/method.h"

static void assert_refused(const char *line, int code)
{
    struct rpc_message message;
    g_autoptr(GError) error = NULL;

    assert_false(rpc_parse(line, strlen(line), &message, &error));
    assert_int_equal(error->code, code);
    rpc_message_clear(&message);
}

static void messages_are_told_apart(void **state)
{
    static const struct {
        const char *line;
        enum rpc_kind kind;
    } cases[] = {
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"query\"}", RPC_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"query\"}", RPC_REQUEST},
        {"{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{}}", RPC_NOTIFICATION},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", RPC_RESULT},
        {"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-1,\"message\":\"m\"}}", RPC_FAILURE},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct rpc_message message;

        assert_true(rpc_parse(cases[i].line, strlen(cases[i].line), &message, NULL));
        assert_int_equal(message.kind, cases[i].kind);
        rpc_message_clear(&message);
    }
}

static void malformed_messages_are_refused(void **state)
{
    assert_refused("", RPC_ERROR_PARSE);
    assert_refused("{", RPC_ERROR_PARSE);
    assert_refused("[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", RPC_ERROR_PARSE);
    assert_refused("[]", RPC_ERROR_INVALID_REQUEST);
    assert_refused("{\"jsonrpc\":\"2.0\",\"id\":[],\"method\":\"m\"}", RPC_ERROR_INVALID_REQUEST);
    assert_refused("{\"jsonrpc\":\"2.0\",\"id\":1}", RPC_ERROR_INVALID_REQUEST);
    assert_refused("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1,\"error\":{}}",
                   RPC_ERROR_INVALID_REQUEST);
    assert_refused("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":\"x\"}}",
                   RPC_ERROR_INVALID_REQUEST);
}

static void brackets_in_texts_do_not_nest(void **state)
{
    const char *line =
        "{\"jsonrpc\":\"2.0\",\"id\":\"[[[[[[[[[[[[[[[[[[[[\\\"[[\",\"method\":\"m\"}";
    struct rpc_message message;

    assert_true(rpc_parse(line, strlen(line), &message, NULL));
    rpc_message_clear(&message);
}

static bool is_granted(const char *method, unsigned granted)
{
    g_autofree char *line =
        g_strdup_printf("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\"}", method);
    struct rpc_message message;
    g_autoptr(GError) error = NULL;
    g_autofree char *param = NULL;
    bool good;

    assert_true(rpc_parse(line, strlen(line), &message, NULL));
    good = control_method_check(&message, granted, 0, &param, &error) != NULL;
    if (!good)
        assert_int_equal(error->code, RPC_ERROR_DENIED);
    rpc_message_clear(&message);
    return good;
}

static void access_is_by_method(void **state)
{
    assert_true(is_granted("query", CONTROL_OBSERVE));
    assert_false(is_granted("kill", CONTROL_OBSERVE));
    assert_true(is_granted("kill", CONTROL_OBSERVE | CONTROL_OPERATE));
    assert_false(is_granted("start", CONTROL_OBSERVE | CONTROL_OPERATE));
    assert_false(is_granted("query", 0));
}

static void what_is_no_object_has_no_good_members(void **state)
{
    static const char *const values[] = {"[]", "[1]", "\"text\"", "7", "true", "null"};
    const struct control_method *method = control_method_find("pause");

    assert_true(control_fields_check(method->result, NULL, NULL, NULL));
    for (unsigned i = 0; i < G_N_ELEMENTS(values); i++) {
        json_t *value = json_loads(values[i], JSON_DECODE_ANY, NULL);
        g_autofree char *at = NULL;
        g_autoptr(GError) error = NULL;

        assert_non_null(value);
        assert_false(control_fields_check(method->result, value, &at, &error));
        assert_int_equal(error->code, RPC_ERROR_INVALID_PARAMS);
        assert_null(at);
        json_decref(value);
    }
}

/* What a peer under test was told. */
struct ear {
    GString *lines;
    unsigned fds, closed;
};

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct ear *ear = opaque;

    g_string_append_printf(ear->lines, "%s|", line);
    for (unsigned i = 0; i < count; i++)
        ear->fds += fcntl(fds[i], F_GETFD) >= 0;
    if (strcmp(line, "go away") == 0)
        peer_destroy(peer);
}

static void on_closed(void *opaque, struct peer *peer)
{
    ((struct ear *)opaque)->closed++;
}

static const struct peer_ops ops = {on_line, on_closed};

static void run_loop(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        continue;
}

static void lines_may_come_in_pieces(void **state)
{
    struct ear ear = {.lines = g_string_new(NULL)};
    struct peer *peer;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    peer = peer_create(ends[0], &ops, &ear);
    assert_int_equal(write(ends[1], "one\ntw", 6), 6);
    run_loop();
    assert_string_equal(ear.lines->str, "one|");
    assert_int_equal(write(ends[1], "o\n\nthree\n", 9), 9);
    run_loop();
    assert_string_equal(ear.lines->str, "one|two|three|");
    close(ends[1]);
    run_loop();
    assert_int_equal(ear.closed, 1);
    peer_destroy(peer);
    g_string_free(ear.lines, TRUE);
}

static void a_peer_may_be_destroyed_from_its_line(void **state)
{
    struct ear ear = {.lines = g_string_new(NULL)};
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    peer_create(ends[0], &ops, &ear);
    assert_int_equal(write(ends[1], "go away\nunheard\n", 16), 16);
    run_loop();
    assert_string_equal(ear.lines->str, "go away|");
    assert_int_equal(ear.closed, 0);
    close(ends[1]);
    g_string_free(ear.lines, TRUE);
}

static void descriptors_come_with_their_line(void **state)
{
    struct ear ear = {.lines = g_string_new(NULL)}, deaf = {.lines = g_string_new(NULL)};
    struct peer *from, *to;
    int ends[2], fds[2] = {0, 1};

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    from = peer_create(ends[0], &ops, &deaf);
    to = peer_create(ends[1], &ops, &ear);
    peer_send(from, json_pack("[i]", 1), NULL, 0);
    peer_send(from, json_pack("[i]", 2), fds, 2);
    peer_send(from, json_pack("[i]", 3), NULL, 0);
    run_loop();
    assert_string_equal(ear.lines->str, "[1]|[2]|[3]|");
    assert_int_equal(ear.fds, 2);
    peer_destroy(from);
    run_loop();
    assert_int_equal(ear.closed, 1);
    peer_destroy(to);
    g_string_free(ear.lines, TRUE);
    g_string_free(deaf.lines, TRUE);
}

static void an_endless_line_is_cut_off(void **state)
{
    struct ear ear = {.lines = g_string_new(NULL)};
    char block[65536];
    struct peer *peer;
    int ends[2];

    memset(block, 'x', sizeof(block));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    peer = peer_create(ends[0], &ops, &ear);
    for (unsigned i = 0; i < RPC_LINE_MAX / sizeof(block) + 2 && !ear.closed; i++) {
        assert_int_equal(send(ends[1], block, sizeof(block), MSG_NOSIGNAL), sizeof(block));
        run_loop();
    }
    assert_int_equal(ear.closed, 1);
    peer_destroy(peer);
    close(ends[1]);
    g_string_free(ear.lines, TRUE);
}

static void a_peer_that_never_reads_is_cut_off(void **state)
{
    struct ear ear = {.lines = g_string_new(NULL)};
    char *text = g_strnfill(100000, 'x');
    struct peer *peer;
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    peer = peer_create(ends[0], &ops, &ear);
    for (unsigned i = 0; i < PEER_QUEUE_MAX / 100000 + 10; i++)
        peer_send(peer, json_pack("[s]", text), NULL, 0);
    run_loop();
    assert_int_equal(ear.closed, 1);
    peer_destroy(peer);
    close(ends[1]);
    g_free(text);
    g_string_free(ear.lines, TRUE);
}

static void a_failure_has_a_message_even_of_half_a_character(void **state)
{
    /* A euro sign without its last byte. */
    json_t *failure = rpc_failure(NULL, -1, "there is no method '\xe2\x82'", NULL);
    const char *text =
        json_string_value(json_object_get(json_object_get(failure, "error"), "message"));

    assert_non_null(text);
    assert_non_null(strstr(text, "there is no method"));
    json_decref(failure);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_told_apart),
        cmocka_unit_test(malformed_messages_are_refused),
        cmocka_unit_test(brackets_in_texts_do_not_nest),
        cmocka_unit_test(access_is_by_method),
        cmocka_unit_test(what_is_no_object_has_no_good_members),
        cmocka_unit_test(lines_may_come_in_pieces),
        cmocka_unit_test(a_peer_may_be_destroyed_from_its_line),
        cmocka_unit_test(descriptors_come_with_their_line),
        cmocka_unit_test(an_endless_line_is_cut_off),
        cmocka_unit_test(a_peer_that_never_reads_is_cut_off),
        cmocka_unit_test(a_failure_has_a_message_even_of_half_a_character),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
