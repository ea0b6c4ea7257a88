// SPDX-License-Identifier: Apache-2.0
/*
 * The client of the guest's agent, against a scripted one that is honest, silent or hostile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/agent/agent.h"
#include "vmm/agent/exec.h"
#include "vmm/agent/freeze.h"
#include "vmm/agent/reader.h"
#include "vmm/agent/report.h"
#include "vmm/util/fault.h"

#define SYNC_MS    40
#define ANSWER_MS  60
#define SILENCE_MS 20
#define PATIENCE   (5 * G_TIME_SPAN_SECOND)

/* The guest: answers the sync by itself, and other commands by `reply`, which makes the text of its
 * answer, or NULL for none. */
struct script {
    struct agent *agent;
    int fd;
    GString *in;
    GPtrArray *heard; /* commands, without the sync */
    char *(*reply)(struct script *script, const char *command, const json_t *arguments);
    bool mute;          /* not even the sync */
    const char *before; /* sent before the sync's answer, each time */
    unsigned alive;     /* asked after a command in the guest, it says so often that it runs */
    bool unkillable;    /* `kill` is not there */
    unsigned refusals;  /* of a thaw */
    GThread *shouting;
    /* What came of requests. */
    unsigned answers;
    json_t *result;
    int code; /* -1: none */
    char *message;
    int count;
    unsigned frozen, thawed;
};

static void say(const struct script *script, const char *text)
{
    assert_int_equal(send(script->fd, text, strlen(text), 0), strlen(text));
}

static char *yes(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{\"return\": {}}\n");
}

static char *echo(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup_printf("{\"return\": {\"command\": \"%s\"}}\n", command);
}

static char *nothing(struct script *script, const char *command, const json_t *arguments)
{
    return NULL;
}

static void hear(struct script *script, const char *line)
{
    json_t *message = json_loads(line[0] == '\xff' ? line + 1 : line, 0, NULL);
    const char *command = json_string_value(json_object_get(message, "execute"));
    const json_t *arguments = json_object_get(message, "arguments");
    g_autofree char *answer = NULL;

    assert_non_null(command);
    if (strcmp(command, "guest-sync-delimited") == 0) {
        if (script->before && !script->mute)
            say(script, script->before);
        answer = g_strdup_printf("\xff{\"return\": %" JSON_INTEGER_FORMAT "}\n",
                                 json_integer_value(json_object_get(arguments, "id")));
    } else {
        g_ptr_array_add(script->heard, g_strdup(command));
        answer = script->reply(script, command, arguments);
    }
    if (answer && !script->mute)
        say(script, answer);
    json_decref(message);
}

static void serve(struct script *script)
{
    char piece[4096];
    ssize_t got = recv(script->fd, piece, sizeof(piece), MSG_DONTWAIT);
    char *newline;

    if (got > 0)
        g_string_append_len(script->in, piece, got);
    while ((newline = strchr(script->in->str, '\n'))) {
        g_autofree char *line = g_strndup(script->in->str, newline - script->in->str);

        g_string_erase(script->in, 0, newline + 1 - script->in->str);
        hear(script, line);
    }
}

static bool turn(struct script *script, gint64 end)
{
    assert_true(g_get_monotonic_time() < end);
    if (!script->mute)
        serve(script);
    if (!g_main_context_iteration(NULL, FALSE))
        g_usleep(200);
    return true;
}

/* Let both go on until so many requests have been answered. */
static void await(struct script *script, unsigned answers)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;

    while (script->answers < answers)
        turn(script, end);
}

static void run_for(struct script *script, unsigned ms)
{
    gint64 end = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;

    while (g_get_monotonic_time() < end)
        turn(script, end + PATIENCE);
}

static void take(struct script *script, const json_t *result, const GError *error)
{
    assert_true(!result != !error);
    script->answers++;
    json_decref(script->result);
    script->result = result ? json_deep_copy(result) : NULL;
    script->code = error ? error->code : -1;
    g_free(script->message);
    script->message = error ? g_strdup(error->message) : NULL;
}

static void on_answer(void *opaque, const json_t *result, const GError *error)
{
    take(opaque, result, error);
}

static void ask(struct script *script, const char *command)
{
    agent_ask(script->agent, &(struct agent_command){.name = command}, on_answer, script);
}

static void assert_failed(const struct script *script, int code, const char *part)
{
    assert_int_equal(script->code, code);
    assert_non_null(strstr(script->message, part));
}

static struct script *script_create(char *(*reply)(struct script *, const char *, const json_t *))
{
    struct script *script = g_new0(struct script, 1);
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    const struct agent_config config = {
        .fd = ends[0],
        .far = dup(ends[1]),
        .sync_ms = SYNC_MS,
        .answer_ms = ANSWER_MS,
        .silence_ms = SILENCE_MS,
    };
    script->fd = ends[1];
    script->in = g_string_new(NULL);
    script->heard = g_ptr_array_new_with_free_func(g_free);
    script->reply = reply;
    script->agent = agent_create(&config);
    agent_set_running(script->agent, true);
    return script;
}

static void script_destroy(struct script *script)
{
    agent_abandon(script->agent, "the end");
    agent_destroy(script->agent);
    if (script->shouting)
        g_thread_join(script->shouting);
    close(script->fd);
    g_string_free(script->in, TRUE);
    g_ptr_array_unref(script->heard);
    json_decref(script->result);
    g_free(script->message);
    g_free(script);
}

/* ---- exchanges ---- */

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
    struct script *script = script_create(yes);
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
    struct script *script = script_create(nothing);

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

static char *refuse(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{\"error\": {\"class\": \"GenericError\", \"desc\": 5}}\n");
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
    struct script *script = script_create(yes);
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
    struct script *script = script_create(yes);

    script->mute = true;
    ask(script, "guest-ping");
    agent_set_running(script->agent, false);
    run_for(script, 2 * SYNC_MS);
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
    run_for(script, 5);
    assert_int_equal(script->heard->len, 1);
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

/* ---- commands in the guest ---- */

#define COMMAND_PID 100
#define KILLER_PID  200

static char *run_commands(struct script *script, const char *command, const json_t *arguments)
{
    const char *path = json_string_value(json_object_get(arguments, "path"));
    json_int_t pid = json_integer_value(json_object_get(arguments, "pid"));

    if (path && strcmp(path, "kill") == 0) {
        const json_t *words = json_object_get(arguments, "arg");

        assert_string_equal(json_string_value(json_array_get(words, 1)), "100");
        if (script->unkillable)
            return refuse(script, command, arguments);
        script->alive = 0;
    }
    if (path && strcmp(path, "taskkill") == 0)
        script->alive = 0;
    if (path)
        return g_strdup_printf("{\"return\": {\"pid\": %d}}\n",
                               strstr(path, "kill") ? KILLER_PID : COMMAND_PID);
    if (pid == COMMAND_PID && script->alive && script->alive--)
        return g_strdup("{\"return\": {\"exited\": false}}\n");
    return g_strdup("{\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"aGk=\"}}\n");
}

static void on_exec(void *opaque, json_t *result, const GError *error)
{
    take(opaque, result, error);
    json_decref(result);
}

static struct agent_exec *exec(struct script *script, unsigned timeout_ms)
{
    json_t *argv = json_pack("[s, s]", "ls", "-l");
    const struct agent_exec_config config = {.argv = argv, .timeout_ms = timeout_ms};
    struct agent_exec *exec = agent_exec_start(script->agent, &config, on_exec, script);

    json_decref(argv);
    return exec;
}

static void a_command_is_asked_after_until_it_ends(void **state)
{
    struct script *script = script_create(run_commands);

    script->alive = 3;
    exec(script, 0);
    await(script, 1);
    assert_int_equal(json_integer_value(json_object_get(script->result, "status")), 3);
    assert_string_equal(json_string_value(json_object_get(script->result, "stdout")), "aGk=");
    assert_int_equal(script->heard->len, 5);
    script_destroy(script);
}

static void a_command_that_is_cancelled_is_killed(void **state)
{
    for (unsigned unkillable = 0; unkillable < 2; unkillable++) {
        struct script *script = script_create(run_commands);
        struct agent_exec *running;

        script->alive = G_MAXUINT;
        script->unkillable = unkillable;
        running = exec(script, 0);
        run_for(script, 10);
        agent_exec_cancel(running);
        await(script, 1);
        assert_failed(script, VMM_ERROR_CANCELLED, "it was cancelled");
        assert_null(strstr(script->message, "goes on"));
        assert_int_equal(script->alive, 0);
        script_destroy(script);
    }
}

static void a_command_is_cancelled_before_it_has_begun(void **state)
{
    struct script *script = script_create(run_commands);

    script->alive = G_MAXUINT;
    agent_exec_cancel(exec(script, 0));
    await(script, 1);
    assert_failed(script, VMM_ERROR_CANCELLED, "it was cancelled");
    assert_int_equal(script->alive, 0);
    script_destroy(script);
}

static void a_command_has_a_time_limit(void **state)
{
    struct script *script = script_create(run_commands);

    script->alive = G_MAXUINT;
    exec(script, 30);
    await(script, 1);
    assert_failed(script, VMM_ERROR_FAILED, "its time was over");
    assert_int_equal(script->alive, 0);
    script_destroy(script);
}

static void a_command_ends_with_its_guest(void **state)
{
    g_autoptr(GError) error = g_error_new(VMM_ERROR, VMM_ERROR_CLOSED, "the guest began anew");
    struct script *script = script_create(run_commands);
    struct agent_exec *waiting;
    gint64 end = g_get_monotonic_time() + PATIENCE;

    script->alive = G_MAXUINT;
    waiting = exec(script, 0);
    while (script->heard->len < 3 || agent_backlog(script->agent))
        turn(script, end);
    agent_abandon(script->agent, "the guest began anew");
    assert_int_equal(script->answers, 0);
    agent_exec_abandon(waiting, error);
    assert_failed(script, VMM_ERROR_CLOSED, "the guest began anew");
    /* One that is just being asked after. */
    exec(script, 0);
    assert_int_equal(agent_backlog(script->agent), 1);
    agent_abandon(script->agent, "the guest began anew");
    assert_int_equal(script->answers, 2);
    script_destroy(script);
}

static char *say_nonsense(struct script *script, const char *command, const json_t *arguments)
{
    return strcmp(command, "guest-exec") == 0 ? g_strdup("{\"return\": {\"pid\": \"1\"}}\n") : NULL;
}

static void a_command_without_a_number_fails(void **state)
{
    struct script *script = script_create(say_nonsense);

    exec(script, 0);
    await(script, 1);
    assert_failed(script, VMM_ERROR_FAILED, "something else");
    script_destroy(script);
}

/* ---- file systems ---- */

static char *freeze_reply(struct script *script, const char *command, const json_t *arguments)
{
    if (strcmp(command, "guest-fsfreeze-status") == 0)
        return g_strdup("{\"return\": \"frozen\"}\n");
    if (strcmp(command, "guest-fsfreeze-thaw") == 0 && script->refusals && script->refusals--)
        return refuse(script, command, arguments);
    return g_strdup("{\"return\": 2}\n");
}

static char *freeze_silently(struct script *script, const char *command, const json_t *arguments)
{
    return strcmp(command, "guest-fsfreeze-freeze") == 0 ? NULL
                                                         : freeze_reply(script, command, arguments);
}

static void on_count(void *opaque, int count, const GError *error)
{
    struct script *script = opaque;
    json_t *number = error ? NULL : json_integer(count);

    take(script, number, error);
    script->count = count;
    json_decref(number);
}

static void on_frozen(void *opaque, unsigned count)
{
    ((struct script *)opaque)->frozen++;
}

static void on_thawed(void *opaque, const char *why)
{
    ((struct script *)opaque)->thawed++;
}

static struct agent_freeze *freeze_create(struct script *script)
{
    return agent_freeze_create(script->agent,
                               &(struct agent_freeze_listener){on_frozen, on_thawed, script});
}

static void await_thaw(struct script *script)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;

    while (!script->thawed)
        turn(script, end);
}

static void who_froze_thaws(void **state)
{
    struct script *script = script_create(freeze_reply);
    struct agent_freeze *freeze = freeze_create(script);

    agent_freeze_begin(freeze, 60000, on_count, script);
    await(script, 1);
    assert_int_equal(script->count, 2);
    assert_int_equal(script->frozen, 1);
    assert_in_range(agent_freeze_left(freeze), 50000, 60000);
    agent_freeze_begin(freeze, 60000, on_count, script);
    assert_failed(script, VMM_ERROR_BUSY, "frozen already");
    agent_freeze_end(freeze, on_count, script);
    await(script, 3);
    assert_int_equal(script->count, 2);
    assert_int_equal(script->thawed, 1);
    assert_int_equal(agent_freeze_left(freeze), -1);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void a_freeze_thaws_by_itself(void **state)
{
    struct script *script = script_create(freeze_reply);
    struct agent_freeze *freeze = freeze_create(script);

    /* The first attempt fails, and another one follows. */
    script->refusals = 1;
    agent_freeze_begin(freeze, 20, on_count, script);
    await_thaw(script);
    assert_int_equal(script->heard->len, 3);
    assert_int_equal(agent_freeze_left(freeze), -1);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void a_freeze_that_is_not_confirmed_is_undone(void **state)
{
    struct script *script = script_create(freeze_silently);
    struct agent_freeze *freeze = freeze_create(script);

    agent_freeze_begin(freeze, 60000, on_count, script);
    await(script, 1);
    assert_int_equal(script->code, VMM_ERROR_FAILED);
    await_thaw(script);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void a_freeze_that_was_not_sent_is_none(void **state)
{
    struct script *script = script_create(freeze_reply);
    struct agent_freeze *freeze = freeze_create(script);

    script->mute = true;
    agent_freeze_begin(freeze, 60000, on_count, script);
    await(script, 1);
    assert_int_equal(script->code, VMM_ERROR_NOT_SUPPORTED);
    assert_int_equal(agent_freeze_left(freeze), -1);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void another_process_thaws_what_was_frozen(void **state)
{
    struct script *script = script_create(freeze_reply);
    struct agent_freeze *freeze = freeze_create(script);

    agent_freeze_adopt(freeze, 20);
    assert_in_range(agent_freeze_left(freeze), 0, 20);
    await_thaw(script);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void a_state_that_was_saved_frozen_is_thawed(void **state)
{
    struct script *script = script_create(freeze_reply);
    struct agent_freeze *freeze = freeze_create(script);

    agent_freeze_look(freeze);
    await_thaw(script);
    assert_string_equal(script->heard->pdata[0], "guest-fsfreeze-status");
    assert_string_equal(script->heard->pdata[1], "guest-fsfreeze-thaw");
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

/* ---- what is said of the guest ---- */

static void assert_report(json_t *report, const char *expected)
{
    json_t *wanted = json_loads(expected, 0, NULL);

    assert_non_null(wanted);
    if (!json_equal(report, wanted)) {
        g_autofree char *text = json_dumps(report, 0);

        fail_msg("%s is not %s", text, expected);
    }
    json_decref(wanted);
    json_decref(report);
}

static void only_addresses_are_reported_as_addresses(void **state)
{
    json_t *answer = json_loads(
        "[{\"name\": \"eth0\", \"hardware-address\": \"52:54:00:00:00:01\", \"ip-addresses\": ["
        "{\"ip-address-type\": \"ipv4\", \"ip-address\": \"10.0.2.15\", \"prefix\": 24},"
        "{\"ip-address-type\": \"ipv4\", \"ip-address\": \"10.0.2.15\", \"prefix\": 33},"
        "{\"ip-address-type\": \"ipv4\", \"ip-address\": \"fe80::1\", \"prefix\": 24},"
        "{\"ip-address-type\": \"ipv6\", \"ip-address\": \"fe80::1\", \"prefix\": 64},"
        "{\"ip-address-type\": \"ipv4\", \"ip-address\": \"$(reboot)\", \"prefix\": 24},"
        "{\"ip-address-type\": \"ipv4\", \"ip-address\": 1, \"prefix\": 24}, 5, null]},"
        "{\"name\": \"a\\u001b[2J\"}, {\"name\": 1}, [], {\"name\": \"x\", "
        "\"hardware-address\": \"52:54:00:00:00:0g\", \"ip-addresses\": 7}]",
        0, NULL);

    assert_report(report_addresses(answer),
                  "{\"interfaces\": [{\"name\": \"eth0\", \"mac\": \"52:54:00:00:00:01\", "
                  "\"addresses\": [{\"family\": \"ipv4\", \"address\": \"10.0.2.15\", \"prefix\": "
                  "24}, {\"family\": \"ipv6\", \"address\": \"fe80::1\", \"prefix\": 64}]}, "
                  "{\"name\": \"x\", \"addresses\": []}]}");
    json_decref(answer);
    answer = json_object();
    assert_report(report_addresses(answer), "{\"interfaces\": []}");
    json_decref(answer);
}

static void information_is_checked_member_by_member(void **state)
{
    json_t *answer = json_loads("{\"version\": \"7.2\", \"supported_commands\": [{\"name\": \"a\", "
                                "\"enabled\": true}, {\"name\": \"b\", \"enabled\": false}, 1, "
                                "{\"name\": 2, \"enabled\": true}]}",
                                0, NULL);
    json_t *info = report_info(answer);

    json_decref(answer);
    answer = json_loads("{\"id\": \"debian\", \"name\": [], \"pretty-name\": \"x\\ny\"}", 0, NULL);
    report_add_os(info, answer);
    json_decref(answer);
    answer = json_loads("{\"host-name\": \"a\\u0007\"}", 0, NULL);
    report_add_hostname(info, answer);
    json_decref(answer);
    answer = json_string("frozen");
    report_add_frozen(info, answer);
    json_decref(answer);
    assert_report(info, "{\"agent\": \"7.2\", \"commands\": [\"a\"], \"os\": {\"id\": \"debian\"}, "
                        "\"frozen\": true}");
}

static void output_is_base64_up_to_a_size(void **state)
{
    g_autofree char *much = g_strnfill(4 << 20, 'A');
    json_t *answer =
        json_pack("{s:s, s:s, s:i}", "out-data", much, "err-data", "a$==", "exitcode", -1);
    json_t *report = report_exec(answer);

    assert_int_equal(json_string_length(json_object_get(report, "stdout")), 1398104);
    assert_true(json_is_true(json_object_get(report, "stdout_cut")));
    assert_string_equal(json_string_value(json_object_get(report, "stderr")), "");
    assert_int_equal(json_integer_value(json_object_get(report, "status")), -1);
    json_decref(answer);
    json_decref(report);
    answer = json_pack("{s:s, s:b, s:I}", "err-data", "aGk=", "err-truncated", 1, "signal",
                       (json_int_t)1 << 60);
    assert_report(report_exec(answer),
                  "{\"signal\": 4294967295, \"stdout\": \"\", \"stderr\": \"aGk=\", "
                  "\"stdout_cut\": false, \"stderr_cut\": true}");
    json_decref(answer);
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
        cmocka_unit_test(a_command_is_asked_after_until_it_ends),
        cmocka_unit_test(a_command_that_is_cancelled_is_killed),
        cmocka_unit_test(a_command_is_cancelled_before_it_has_begun),
        cmocka_unit_test(a_command_has_a_time_limit),
        cmocka_unit_test(a_command_ends_with_its_guest),
        cmocka_unit_test(a_command_without_a_number_fails),
        cmocka_unit_test(who_froze_thaws),
        cmocka_unit_test(a_freeze_thaws_by_itself),
        cmocka_unit_test(a_freeze_that_is_not_confirmed_is_undone),
        cmocka_unit_test(a_freeze_that_was_not_sent_is_none),
        cmocka_unit_test(another_process_thaws_what_was_frozen),
        cmocka_unit_test(a_state_that_was_saved_frozen_is_thawed),
        cmocka_unit_test(only_addresses_are_reported_as_addresses),
        cmocka_unit_test(information_is_checked_member_by_member),
        cmocka_unit_test(output_is_base64_up_to_a_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
