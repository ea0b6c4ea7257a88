// SPDX-License-Identifier: Apache-2.0
/*
 * What the guest's agent is asked for: commands, frozen file systems, and what is reported of its
 * answers.
 */
#include "tests/unit/agent_script.h"
#include "vmm/agent/exec.h"
#include "vmm/agent/freeze.h"
#include "vmm/agent/report.h"

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

static void another_client_goes_on_with_a_command(void **state)
{
    g_autoptr(GError) error = g_error_new(VMM_ERROR, VMM_ERROR_CLOSED, "the client goes");
    struct script *script = script_create(run_commands);
    gint64 end = g_get_monotonic_time() + PATIENCE;
    struct agent_exec *first;
    json_int_t pid;

    script->alive = G_MAXUINT;
    first = exec(script, 60000);
    assert_int_equal(agent_exec_pid(first), 0);
    while (!agent_exec_pid(first) || agent_backlog(script->agent))
        turn(script, end);
    pid = agent_exec_pid(first);
    assert_int_equal(pid, COMMAND_PID);
    assert_in_range(agent_exec_left(first), 1, 60000);
    agent_exec_abandon(first, error);
    assert_int_equal(script->answers, 1);
    agent_exec_watch(script->agent, pid, 30, on_exec, script);
    await(script, 2);
    assert_failed(script, VMM_ERROR_FAILED, "its time was over");
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
    struct script *script = script_create_with(freeze_silently, HASTY_MS);
    struct agent_freeze *freeze = freeze_create(script);

    agent_freeze_begin(freeze, 60000, on_count, script);
    await(script, 1);
    assert_int_equal(script->code, VMM_ERROR_FAILED);
    await_thaw(script);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void a_freeze_under_way_is_undone_by_another_process(void **state)
{
    struct script *script = script_create(freeze_silently);
    struct agent_freeze *freeze = freeze_create(script);

    agent_freeze_begin(freeze, 60000, on_count, script);
    run_for(script, 5);
    agent_abandon(script->agent, "another process takes over");
    assert_int_equal(script->code, VMM_ERROR_CLOSED);
    assert_int_equal(agent_freeze_left(freeze), 0);
    agent_freeze_destroy(freeze);
    script_destroy(script);
}

static void a_freeze_that_was_not_sent_is_none(void **state)
{
    struct script *script = script_create_with(freeze_reply, HASTY_MS);
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
        cmocka_unit_test(a_command_is_asked_after_until_it_ends),
        cmocka_unit_test(a_command_that_is_cancelled_is_killed),
        cmocka_unit_test(a_command_is_cancelled_before_it_has_begun),
        cmocka_unit_test(a_command_has_a_time_limit),
        cmocka_unit_test(another_client_goes_on_with_a_command),
        cmocka_unit_test(a_command_ends_with_its_guest),
        cmocka_unit_test(a_command_without_a_number_fails),
        cmocka_unit_test(who_froze_thaws),
        cmocka_unit_test(a_freeze_thaws_by_itself),
        cmocka_unit_test(a_freeze_that_is_not_confirmed_is_undone),
        cmocka_unit_test(a_freeze_under_way_is_undone_by_another_process),
        cmocka_unit_test(a_freeze_that_was_not_sent_is_none),
        cmocka_unit_test(another_process_thaws_what_was_frozen),
        cmocka_unit_test(a_state_that_was_saved_frozen_is_thawed),
        cmocka_unit_test(only_addresses_are_reported_as_addresses),
        cmocka_unit_test(information_is_checked_member_by_member),
        cmocka_unit_test(output_is_base64_up_to_a_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
