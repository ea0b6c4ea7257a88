// SPDX-License-Identifier: Apache-2.0
/*
 * anima run: start a machine that lives as long as this command, with its serial line on this
 * terminal. Exit status: 0 powered off or left, 1 failed, 2 wrong words, 3 crashed, or what
 * isa-debug-exit says.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/console.h"
#include "cli/progress.h"
#include "cli/terminal.h"

#define DRAIN_MS 1000
#define KILL_MS  5000

enum { POLL_SIGNALS = CONSOLE_POLLS, POLL_MACHINE, POLLS };

struct session {
    struct anima_machine *machine;
    struct console console;
    int signals;      /* signalfd */
    int fatal_signal; /* that told us to end; 0: none */
    bool engine_auto; /* say which engine was taken */
    bool ended;       /* `end` is set */
    struct anima_end end;
};

/* ---- the definition ---- */

static bool is_file_name(const char *word)
{
    return strchr(word, '/') || g_str_has_suffix(word, ".yaml") || g_str_has_suffix(word, ".yml") ||
           g_str_has_suffix(word, ".json");
}

/* From the command's words; NULL after a message. */
static struct anima_definition *define(const struct cli_words *words, int *status)
{
    struct anima_definition *definition = anima_definition_create();
    const char *source = cli_word(words, 0);
    const char *state = cli_setting(words, "state");
    struct anima_error *error = NULL;
    bool good = true;

    if (source && state) {
        *status =
            cli_fail(CLI_USAGE, "--state: the definition is in that file; leave out '%s'", source);
        anima_definition_destroy(definition);
        return NULL;
    }
    if (state)
        good = anima_definition_load_state(definition, state, &error);
    else if (source && is_file_name(source))
        good = anima_definition_load(definition, source, &error);
    else if (source)
        good = anima_definition_load_named(definition, source, &error);
    if (!good)
        *status = cli_fail_error(error);
    else if (cli_define(definition, words, status)) {
        /* A kept definition was filled when it was made. */
        if (!cli_setting(words, "os") || cli_fill(definition, &error))
            return definition;
        *status = cli_fail_error(error);
    }
    anima_definition_destroy(definition);
    return NULL;
}

/* Whether the definition's option has this text. */
static bool has_text(const struct anima_definition *definition, const char *key, const char *text)
{
    char *json = anima_definition_json(definition);
    json_t *object = json_loads(json, 0, NULL);
    const char *value = json_string_value(json_object_get(object, key));
    bool same = value && strcmp(value, text) == 0;

    json_decref(object);
    anima_free(json);
    return same;
}

/* ---- messages beside a raw terminal ---- */

static void say(const char *format, ...) G_GNUC_PRINTF(1, 2);

static void say(const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list arguments;

    va_start(arguments, format);
    text = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    fprintf(stderr, "%s%s", text, terminal_is_raw() ? "\r\n" : "\n");
}

/* ---- what happens while it runs ---- */

static void on_event(struct session *session, const json_t *event)
{
    const char *type = json_string_value(json_object_get(event, "type"));
    const char *line = json_string_value(json_object_get(event, "line"));
    const char *reason = json_string_value(json_object_get(event, "reason"));

    if (!type)
        return;
    if (strcmp(type, "log") == 0 && line)
        say("%s", line);
    else if (strcmp(type, "started") == 0 && session->engine_auto)
        say("anima: engine %s: %s", json_string_value(json_object_get(event, "engine")),
            json_string_value(json_object_get(event, "why")));
    else if (strcmp(type, "crashed") == 0)
        say("anima: the guest crashed: %s", reason ? reason : "without a reason");
    else if (strcmp(type, "restarting") == 0)
        say("anima: %s; it starts again in %lld s",
            json_string_value(json_object_get(event, "message")),
            json_integer_value(json_object_get(event, "delay_ms")) / 1000);
    else if (strcmp(type, "pty") == 0 && line)
        say("anima: %s is %s", line, json_string_value(json_object_get(event, "pty")));
}

/* Take what has come from the monitor. False when there is nothing more now. */
static bool take_event(struct session *session)
{
    struct anima_error *error = NULL;
    char *text = anima_machine_event(session->machine, 0, &error);
    json_t *event = text ? json_loads(text, 0, NULL) : NULL;
    const char *type = json_string_value(json_object_get(event, "type"));

    if (error) {
        session->ended = true;
        session->end = (struct anima_end){.status = CLI_FAILED, .message = strdup(error->message)};
        anima_error_free(error);
    } else if (type && strcmp(type, "ended") == 0) {
        const char *message = json_string_value(json_object_get(event, "message"));

        session->ended = true;
        session->end.status = json_integer_value(json_object_get(event, "status"));
        session->end.cause = strdup(json_string_value(json_object_get(event, "cause")));
        session->end.message = message ? strdup(message) : NULL;
    } else if (event) {
        on_event(session, event);
    }
    json_decref(event);
    anima_free(text);
    return text && !session->ended;
}

/* Stop as the shell expects of a job, with the terminal as the shell expects it. */
static void suspend(void)
{
    terminal_restore();
    kill(getpid(), SIGSTOP);
}

static void take_signal(struct session *session)
{
    struct signalfd_siginfo info;

    if (read(session->signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGTSTP)
        suspend();
    else if (info.ssi_signo != SIGCONT)
        session->fatal_signal = info.ssi_signo;
    if (!session->fatal_signal && session->console.line_open)
        terminal_raw();
}

static void block_signals(struct session *session)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT};
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        sigaddset(&set, numbers[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    session->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void serve(struct session *session)
{
    struct pollfd polls[POLLS];

    while (!session->ended && !session->fatal_signal && !session->console.left) {
        /* Events may have come, and been kept, during an earlier call. */
        while (take_event(session))
            continue;
        if (session->ended)
            break;
        console_prepare(&session->console, polls);
        polls[POLL_SIGNALS] = (struct pollfd){.fd = session->signals, .events = POLLIN};
        polls[POLL_MACHINE] =
            (struct pollfd){.fd = anima_machine_fd(session->machine), .events = POLLIN};
        if (poll(polls, POLLS, -1) < 0 && errno != EINTR)
            break;
        console_move(&session->console, polls);
        if (polls[POLL_SIGNALS].revents)
            take_signal(session);
    }
}

/* ---- the end ---- */

/* The user leaves: end the machine, and wait until nothing of it is left. */
static void leave(struct session *session)
{
    char *result = anima_machine_call(session->machine, "kill", NULL, -1, KILL_MS, NULL);

    anima_free(result);
    if (result && anima_machine_wait(session->machine, KILL_MS, &session->end, NULL) == 1) {
        anima_free(session->end.cause);
        anima_free(session->end.message);
    }
    session->end = (struct anima_end){.status = CLI_GOOD};
}

/* As the signal ends others, so that a shell sees it. */
static void end_by(int number)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, number);
    signal(number, SIG_DFL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
}

static int finish(struct session *session)
{
    if (!session->ended)
        leave(session);
    else
        console_drain(&session->console, DRAIN_MS);
    terminal_restore();
    console_finish(&session->console);
    anima_machine_destroy(session->machine);
    close(session->signals);
    if (session->end.message && session->end.status != CLI_GOOD &&
        strcmp(session->end.cause ? session->end.cause : "", "exit") != 0)
        cli_fail(0, "%s", session->end.message);
    anima_free(session->end.cause);
    anima_free(session->end.message);
    if (session->fatal_signal)
        end_by(session->fatal_signal);
    return session->end.status;
}

/* With `line` on stdio, which it closes. NULL with *status when it does not come to run. */
static struct anima_machine *start(const struct anima_definition *definition, int line, int *status)
{
    struct anima_error *error = NULL;
    struct anima_machine *machine = anima_machine_start_begin(definition, line, &error);

    if (line >= 0)
        close(line);
    if (machine && progress_start(machine, &error))
        return machine;
    anima_machine_destroy(machine);
    if (!error)
        end_by(progress_interrupted());
    *status = error ? cli_fail_error(error) : CLI_FAILED;
    return NULL;
}

static int run(struct anima_definition *definition)
{
    bool stdio =
        has_text(definition, "serial", "stdio") || has_text(definition, "console", "stdio");
    struct session session = {.engine_auto = has_text(definition, "engine", "auto")};
    int line[2] = {-1, -1}, status;

    if (stdio && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, line) != 0)
        return cli_fail(CLI_FAILED, "no serial line can be made: %s", strerror(errno));
    session.machine = start(definition, line[1], &status);
    if (!session.machine) {
        if (line[0] >= 0)
            close(line[0]);
        return status;
    }
    block_signals(&session);
    console_init(&session.console, line[0]);
    if (stdio)
        terminal_raw();
    serve(&session);
    return finish(&session);
}

int command_run(const struct command *command, int argc, char **argv)
{
    int status;
    g_autoptr(cli_words) words = cli_words_parse(command, argc, argv, &status);
    struct anima_definition *definition = words ? define(words, &status) : NULL;

    if (!definition)
        return status;
    status = run(definition);
    anima_definition_destroy(definition);
    return status;
}
