// SPDX-License-Identifier: Apache-2.0
/*
 * anima stop: press the power button, and with --timeout kill what does not power off in time.
 */
#include "cli/cli.h"

#define CALL_TIMEOUT_MS 10000

const struct cli_flag stop_flags[] = {
    {"timeout", "SECONDS", "kill it if it is not off by then; wait for it"},
    {0},
};

/* Seconds as text to a number; negative when it is none. */
static int parse_seconds(const char *text)
{
    guint64 seconds;

    if (!g_ascii_string_to_unsigned(text, 10, 0, 86400, &seconds, NULL))
        return -1;
    return seconds;
}

/* Press the button and wait for the end. */
static bool stop_within(struct anima_machine *machine, int seconds, struct anima_error **error)
{
    g_autofree char *params = g_strdup_printf("{\"timeout\": %d}", seconds);
    struct anima_end end;
    char *result =
        anima_machine_call(machine, "events.subscribe", NULL, -1, CALL_TIMEOUT_MS, error);

    anima_free(result);
    if (result)
        result = anima_machine_call(machine, "stop", params, -1, CALL_TIMEOUT_MS, error);
    anima_free(result);
    if (!result || anima_machine_wait(machine, seconds * 1000 + CALL_TIMEOUT_MS, &end, error) < 1)
        return false;
    anima_free(end.cause);
    anima_free(end.message);
    return true;
}

int command_stop(const struct command *command, int argc, char **argv)
{
    int status, seconds = -1;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    struct anima_machine *machine;
    const char *timeout;
    bool good;

    if (!words)
        return status;
    timeout = cli_flag(words, "timeout");
    if (!timeout)
        return cli_call(command, argc, argv, "stop");
    seconds = parse_seconds(timeout);
    if (seconds < 0)
        return cli_fail(CLI_USAGE, "--timeout: expected 0 to 86400 seconds, not '%s'", timeout);
    machine = anima_machine_connect(cli_word(words, 0), &error);
    if (!machine)
        return cli_fail_error(error);
    good = stop_within(machine, seconds, &error);
    anima_machine_destroy(machine);
    if (good)
        return CLI_GOOD;
    return error ? cli_fail_error(error) : cli_fail(CLI_FAILED, "the machine does not end");
}
