// SPDX-License-Identifier: Apache-2.0
/*
 * The client of the guest's agent: requests and answers, against a scripted agent.
 */
#include <fcntl.h>

#include "tests/unit/agent_script.h"
#include "vmm/agent/reader.h"

static void requests_are_answered_in_their_order(void **state)
{
    struct script *script = script_create(echo);

    ask(script, "guest-ping");
    ask(script, "guest-info");
    assert_int_equal(agent_backlog(script->agent), 2);
    await(script, 1);
    assert_string_equal(json_string_value(json_object_get(script->result, "command")),
                        "guest-ping");
    await(script, 2);
    assert_string_equal(json_string_value(json_object_get(script->result, "command")),
                        "guest-info");
    assert_int_equal(agent_backlog(script->agent), 0);
    script_destroy(script);
}

static void what_came_before_the_sync_is_dropped(void **state)
{
    static const char *const stale[] = {
        "{\"return\": {\"command\": \"old\"}}\n",
        "\xff{\"return\": 1}\n{\"error\": {}}\n",
        "garbage\n\n\xff\xff[[[[\n",
        "{\"return\": ",
        "\xff{\"return\": \"1\"}\n\xff{\"return\": {\"id\": 1}}\n",
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(stale); i++) {
        struct script *script = script_create(echo);

        script->before = stale[i];
        ask(script, "guest-ping");
        await(script, 1);
        assert_string_equal(json_string_value(json_object_get(script->result, "command")),
                            "guest-ping");
        script_destroy(script);
    }
}

static void an_agent_that_is_not_there_is_told_and_sent_no_command(void **state)
{
    struct script *script = script_create_with(yes, HASTY_MS);
    char left[100];

    script->mute = true;
    ask(script, "guest-shutdown");
    await(script, 1);
    assert_failed(script, VMM_ERROR_NOT_SUPPORTED, "is qemu-guest-agent running in it?");
    /* One that comes now finds nothing. */
    assert_int_equal(recv(script->fd, left, sizeof(left), MSG_DONTWAIT), -1);
    script->mute = false;
    run_for(script, 5);
    assert_int_equal(script->heard->len, 0);
    ask(script, "guest-ping");
    await(script, 2);
    assert_int_equal(script->code, -1);
    script_destroy(script);
}

static void a_late_answer_is_not_the_next_ones(void **state)
{
    struct script *script = script_create_with(nothing, HASTY_MS);

    ask(script, "guest-network-get-interfaces");
    await(script, 1);
    assert_failed(script, VMM_ERROR_FAILED, "has not answered");
    say(script, "{\"return\": {\"command\": \"late\"}}\n");
    script->reply = echo;
    ask(script, "guest-ping");
    await(script, 2);
    assert_string_equal(json_string_value(json_object_get(script->result, "command")),
                        "guest-ping");
    script_destroy(script);
}

static char *refuse_unknown(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no \\u001b[2J\"}}\n");
}

static void refusals_are_told_without_the_guests_control_characters(void **state)
{
    struct script *script = script_create(refuse_unknown);

    ask(script, "guest-set-time");
    await(script, 1);
    assert_failed(script, VMM_ERROR_NOT_SUPPORTED,
                  "guest-set-time: the guest's agent refuses: no ?");
    assert_null(strchr(script->message, '\x1b'));
    script->reply = refuse;
    ask(script, "guest-set-time");
    await(script, 2);
    assert_failed(script, VMM_ERROR_FAILED, "it does not say why");
    script_destroy(script);
}

static char *answer_long(struct script *script, const char *command, const json_t *arguments)
{
    g_autofree char *text = g_strnfill(AGENT_ANSWER_MAX, 'x');

    return g_strdup_printf("{\"return\": \"%s\"}\n", text);
}

static char *answer_deep(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{\"return\": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}\n");
}

static char *answer_nothing(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{}\n");
}

static void answers_that_are_none_fail(void **state)
{
    static const struct {
        char *(*reply)(struct script *, const char *, const json_t *);
        int code;
        const char *part;
    } cases[] = {
        {answer_deep, VMM_ERROR_FAILED, "something else"},
        {answer_nothing, VMM_ERROR_FAILED, "something else"},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct script *script = script_create(cases[i].reply);

        ask(script, "guest-ping");
        await(script, 1);
        assert_failed(script, cases[i].code, cases[i].part);
        script_destroy(script);
    }
}

/* The sockets hold less than that. */
static void *shout(void *opaque)
{
    const struct script *script = opaque;
    g_autofree char *text = answer_long(NULL, NULL, NULL);
    size_t left = strlen(text), sent = 0;

    fcntl(script->fd, F_SETFL, 0);
    while (left) {
        ssize_t count = send(script->fd, text + sent, left, MSG_NOSIGNAL);

        if (count <= 0)
            break;
        sent += (size_t)count;
        left -= (size_t)count;
    }
    return NULL;
}

static char *shout_answer(struct script *script, const char *command, const json_t *arguments)
{
    script->shouting = g_thread_new("guest", shout, script);
    return NULL;
}

static void an_answer_that_is_too_long_fails(void **state)
{
    struct script *script = script_create(shout_answer);

    ask(script, "guest-ping");
    await(script, 1);
    assert_failed(script, VMM_ERROR_NO_SPACE, "more than 262144 bytes");
    script_destroy(script);
}

static void a_guest_that_floods_waits_until_it_is_asked(void **state)
{
    struct script *script = script_create_with(yes, HASTY_MS);
    g_autofree char *flood = g_strnfill(4096, '{');
    ssize_t total = 0, count;

    while ((count = send(script->fd, flood, 4096, MSG_DONTWAIT)) > 0)
        total += count;
    run_for(script, 10);
    assert_int_equal(send(script->fd, flood, 4096, MSG_DONTWAIT), -1);
    script->mute = true;
    ask(script, "guest-ping");
    /* It goes on for as long as anybody listens, and the request ends in time all the same. */
    for (gint64 end = g_get_monotonic_time() + PATIENCE; !script->answers;) {
        send(script->fd, flood, 4096, MSG_DONTWAIT);
        turn(script, end);
    }
    assert_int_equal(script->code, VMM_ERROR_NOT_SUPPORTED);
    script_destroy(script);
}

static void bytes_are_bounded_too(void **state)
{
    g_autofree uint8_t *flood = g_malloc(1 << 20);
    enum agent_piece piece = AGENT_PIECE_NONE;
    struct agent_reader reader;
    unsigned rounds = 0;

    memset(flood, '{', 1 << 20);
    agent_reader_init(&reader);
    agent_reader_reset(&reader, 1000);
    while (piece == AGENT_PIECE_NONE && rounds < 1000) {
        const uint8_t *data = flood;
        size_t size = 1 << 20;

        piece = agent_reader_take(&reader, &data, &size);
        assert_true(reader.line->len <= 1000);
        rounds++;
    }
    assert_int_equal(piece, AGENT_PIECE_TOO_MUCH);
    assert_int_equal(rounds, (AGENT_BYTES_MAX >> 20) + 1);
    agent_reader_finish(&reader);
}

static void what_is_parsed_is_bounded(void **state)
{
    g_autofree char *many = g_strnfill(3 * AGENT_VALUES_MAX, ',');
    g_autofree char *list = g_strdup_printf("{\"return\": [1%s]}", many);
    static const char *const wrong[] = {"",
                                        "1",
                                        "[]",
                                        "{\"a\": 1, \"a\": 2}",
                                        "{\"a\": \"\\u0000\"}",
                                        "{\"a\": {}",
                                        "{\"a\": [[[[[[[[[[[[[1]]]]]]]]]]]]]}"};
    json_t *object = agent_parse((const uint8_t *)"{\"a\": \"[[[[[[[[[[[[[[\"}", 23);

    assert_non_null(object);
    json_decref(object);
    for (unsigned i = 0; i < G_N_ELEMENTS(wrong); i++)
        assert_null(agent_parse((const uint8_t *)wrong[i], strlen(wrong[i])));
    assert_null(agent_parse((const uint8_t *)list, strlen(list)));
}

static void time_limits_stand_still_with_the_machine(void **state)
{
    struct script *script = script_create_with(yes, HASTY_MS);

    script->mute = true;
    ask(script, "guest-ping");
    agent_set_running(script->agent, false);
    run_for(script, 2 * HASTY_MS);
    assert_int_equal(script->answers, 0);
    agent_set_running(script->agent, true);
    script->mute = false;
    await(script, 1);
    assert_int_equal(script->code, -1);
    /* What is asked of one that stands still waits. */
    agent_set_running(script->agent, false);
    ask(script, "guest-ping");
    run_for(script, 5);
    assert_int_equal(script->heard->len, 1);
    agent_set_running(script->agent, true);
    await(script, 2);
    script_destroy(script);
}

static void all_requests_end_when_the_guest_begins_anew(void **state)
{
    struct script *script = script_create(nothing);

    ask(script, "guest-ping");
    ask(script, "guest-info");
    await_heard(script, 1);
    agent_abandon(script->agent, "it began anew");
    assert_int_equal(script->answers, 2);
    assert_failed(script, VMM_ERROR_CLOSED, "it began anew");
    script->reply = yes;
    ask(script, "guest-ping");
    await(script, 3);
    assert_int_equal(script->code, -1);
    script_destroy(script);
}

static void a_command_without_an_answer_has_succeeded(void **state)
{
    const struct agent_command shutdown = {.name = "guest-shutdown", .silent = true};
    struct script *script = script_create(nothing);

    agent_ask(script->agent, &shutdown, on_answer, script);
    await(script, 1);
    assert_int_equal(script->code, -1);
    /* The guest is quicker than we are. */
    agent_ask(script->agent, &shutdown, on_answer, script);
    while (script->heard->len < 2)
        turn(script, g_get_monotonic_time() + PATIENCE);
    agent_abandon(script->agent, "the machine has ended");
    assert_int_equal(script->answers, 2);
    assert_int_equal(script->code, -1);
    script->reply = refuse;
    agent_ask(script->agent, &shutdown, on_answer, script);
    await(script, 3);
    assert_int_equal(script->code, VMM_ERROR_FAILED);
    script_destroy(script);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_answered_in_their_order),
        cmocka_unit_test(what_came_before_the_sync_is_dropped),
        cmocka_unit_test(an_agent_that_is_not_there_is_told_and_sent_no_command),
        cmocka_unit_test(a_late_answer_is_not_the_next_ones),
        cmocka_unit_test(refusals_are_told_without_the_guests_control_characters),
        cmocka_unit_test(answers_that_are_none_fail),
        cmocka_unit_test(an_answer_that_is_too_long_fails),
        cmocka_unit_test(a_guest_that_floods_waits_until_it_is_asked),
        cmocka_unit_test(bytes_are_bounded_too),
        cmocka_unit_test(what_is_parsed_is_bounded),
        cmocka_unit_test(time_limits_stand_still_with_the_machine),
        cmocka_unit_test(all_requests_end_when_the_guest_begins_anew),
        cmocka_unit_test(a_command_without_an_answer_has_succeeded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
