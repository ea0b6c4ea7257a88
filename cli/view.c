// SPDX-License-Identifier: Apache-2.0
/*
 * anima console: the line on stdio of a running machine on this terminal, beside all others who
 * look at it. Ctrl-] leaves, and the machine goes on.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/console.h"
#include "cli/terminal.h"

#define CALL_TIMEOUT_MS 10000

const struct cli_flag console_flags[] = {
    {"readonly", NULL, "only look"},
    {"no-scrollback", NULL, "leave out what was said before"},
    {0},
};

static volatile sig_atomic_t fatal_signal;

static void on_signal(int number)
{
    fatal_signal = number;
}

/* Signals that end us come only while we poll, for which *mask is. */
static void catch_signals(sigset_t *mask)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++) {
        sigaddset(&set, numbers[i]);
        sigaction(numbers[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &set, mask);
}

/* Our end of the line; -1 and `error` on failure. */
static int attach(const cli_words *words, struct anima_machine *machine, struct anima_error **error)
{
    g_autofree char *params = g_strdup_printf("{\"readonly\": %s, \"scrollback\": %s}",
                                              cli_flag(words, "readonly") ? "true" : "false",
                                              cli_flag(words, "no-scrollback") ? "false" : "true");
    int ends[2];
    char *result;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    result = anima_machine_call(machine, "console.attach", params, ends[1], CALL_TIMEOUT_MS, error);
    anima_free(result);
    close(ends[1]);
    if (result)
        return ends[0];
    close(ends[0]);
    return -1;
}

/* Until the line closes, its output is written, and somebody leaves. */
static void serve(int line)
{
    struct pollfd polls[CONSOLE_POLLS];
    struct console console;
    sigset_t mask;

    catch_signals(&mask);
    console_init(&console, line);
    terminal_raw();
    while (console.line_open && !console.left && !fatal_signal) {
        console_prepare(&console, polls);
        if (ppoll(polls, CONSOLE_POLLS, NULL, &mask) < 0)
            continue;
        console_move(&console, polls);
    }
    if (!console.line_open)
        console_drain(&console, CALL_TIMEOUT_MS);
    terminal_restore();
    console_finish(&console);
}

int command_console(const struct command *command, int argc, char **argv)
{
    int status, line;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_error *error = NULL;
    struct anima_machine *machine;

    if (!words)
        return status;
    machine = anima_machine_connect(cli_word(words, 0), &error);
    line = machine ? attach(words, machine, &error) : -1;
    anima_machine_destroy(machine);
    if (line < 0)
        return error ? cli_fail_error(error) : cli_fail(CLI_FAILED, "console: %s", strerror(errno));
    serve(line);
    return CLI_GOOD;
}
