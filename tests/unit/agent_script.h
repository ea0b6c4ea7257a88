// SPDX-License-Identifier: Apache-2.0
/*
 * A scripted agent of a guest, honest, silent or hostile, and a client of it: what the tests of
 * vmm/agent/ share.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/agent/agent.h"
#include "vmm/util/fault.h"

#define PATIENCE   (20 * G_TIME_SPAN_SECOND)
#define SILENCE_MS 20
/* Time limits of the client: none that counts on a busy machine, or one that is awaited. */
#define PATIENT_MS 15000
#define HASTY_MS   150

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

static inline void say(const struct script *script, const char *text)
{
    assert_int_equal(send(script->fd, text, strlen(text), 0), strlen(text));
}

static inline char *yes(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{\"return\": {}}\n");
}

static inline char *echo(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup_printf("{\"return\": {\"command\": \"%s\"}}\n", command);
}

static inline char *nothing(struct script *script, const char *command, const json_t *arguments)
{
    return NULL;
}

static inline void hear(struct script *script, const char *line)
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

static inline void serve(struct script *script)
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

static inline bool turn(struct script *script, gint64 end)
{
    assert_true(g_get_monotonic_time() < end);
    if (!script->mute)
        serve(script);
    if (!g_main_context_iteration(NULL, FALSE))
        g_usleep(200);
    return true;
}

/* Let both go on until so many requests have been answered. */
static inline void await(struct script *script, unsigned answers)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;

    while (script->answers < answers)
        turn(script, end);
}

static inline void run_for(struct script *script, unsigned ms)
{
    gint64 end = g_get_monotonic_time() + ms * G_TIME_SPAN_MILLISECOND;

    while (g_get_monotonic_time() < end)
        turn(script, end + PATIENCE);
}

static inline void take(struct script *script, const json_t *result, const GError *error)
{
    assert_true(!result != !error);
    script->answers++;
    json_decref(script->result);
    script->result = result ? json_deep_copy(result) : NULL;
    script->code = error ? error->code : -1;
    g_free(script->message);
    script->message = error ? g_strdup(error->message) : NULL;
}

static inline void on_answer(void *opaque, const json_t *result, const GError *error)
{
    take(opaque, result, error);
}

static inline void ask(struct script *script, const char *command)
{
    agent_ask(script->agent, &(struct agent_command){.name = command}, on_answer, script);
}

static inline void assert_failed(const struct script *script, int code, const char *part)
{
    assert_int_equal(script->code, code);
    assert_non_null(strstr(script->message, part));
}

static inline struct script *
script_create_with(char *(*reply)(struct script *, const char *, const json_t *), unsigned limit_ms)
{
    struct script *script = g_new0(struct script, 1);
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    const struct agent_config config = {
        .fd = ends[0],
        .far = dup(ends[1]),
        .sync_ms = limit_ms,
        .answer_ms = limit_ms,
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

static inline struct script *script_create(char *(*reply)(struct script *, const char *,
                                                          const json_t *))
{
    return script_create_with(reply, PATIENT_MS);
}

/* Let both go on until so many commands have come to the guest. */
static inline void await_heard(struct script *script, unsigned count)
{
    gint64 end = g_get_monotonic_time() + PATIENCE;

    while (script->heard->len < count)
        turn(script, end);
}

static inline void script_destroy(struct script *script)
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

static inline char *refuse(struct script *script, const char *command, const json_t *arguments)
{
    return g_strdup("{\"error\": {\"class\": \"GenericError\", \"desc\": 5}}\n");
}
