// SPDX-License-Identifier: Apache-2.0
/*
 * The queue of requests and the exchange that the first of them is in:
 *
 *     IDLE --(the machine runs)--> SYNC --(the number comes back)--> COMMAND --(answer)--> IDLE
 */
#include "vmm/agent/agent.h"

#include <errno.h>
#include <glib-unix.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/agent/reader.h"
#include "vmm/util/fault.h"

#define READ_SIZE 16384
#define SYNC_BITS 52 /* of the random number: any JSON has room for it */

enum stage { IDLE, SYNC, COMMAND };

struct request {
    struct agent_command command;
    agent_answer_fn answer;
    void *opaque;
};

struct agent {
    struct agent_config config;
    struct agent_reader reader;
    GQueue requests; /* of struct request *; the first one is in `stage` */
    enum stage stage;
    json_int_t number; /* that the sync has */
    GByteArray *out;   /* that has not been written */
    guint in_source, out_source, timer;
    bool running;
};

static void begin(struct agent *agent);

/* ---- the end of a request ---- */

static void remove_source(guint *source)
{
    if (*source)
        g_source_remove(*source);
    *source = 0;
}

static void request_free(void *opaque)
{
    struct request *request = opaque;

    json_decref(request->command.arguments);
    g_free(request);
}

/* What the guest has not fetched. */
static void take_back(const struct agent *agent)
{
    uint8_t piece[READ_SIZE];

    while (recv(agent->config.far, piece, sizeof(piece), MSG_DONTWAIT) > 0)
        continue;
}

static void stop(struct agent *agent)
{
    remove_source(&agent->in_source);
    remove_source(&agent->out_source);
    remove_source(&agent->timer);
    g_byte_array_set_size(agent->out, 0);
    take_back(agent);
    agent_reader_reset(&agent->reader, 0);
    agent->stage = IDLE;
}

/* `error` is freed. */
static void finish(struct agent *agent, const json_t *result, GError *error)
{
    struct request *request = g_queue_pop_head(&agent->requests);

    stop(agent);
    request->answer(request->opaque, result, error);
    request_free(request);
    g_clear_error(&error);
    begin(agent);
}

static const struct request *current(struct agent *agent)
{
    return g_queue_peek_head(&agent->requests);
}

static void fail(struct agent *agent, enum vmm_error code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
static void fail(struct agent *agent, enum vmm_error code, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    finish(agent, NULL, g_error_new_valist(VMM_ERROR, code, format, arguments));
    va_end(arguments);
}

static void succeed_silently(struct agent *agent)
{
    json_t *nothing = json_object();

    finish(agent, nothing, NULL);
    json_decref(nothing);
}

/* ---- time ---- */

static gboolean on_time(gpointer opaque)
{
    struct agent *agent = opaque;

    agent->timer = 0;
    if (agent->stage == SYNC)
        fail(agent, VMM_ERROR_NOT_SUPPORTED,
             "the guest's agent does not answer; is qemu-guest-agent running in it?");
    else if (current(agent)->command.silent)
        succeed_silently(agent);
    else
        fail(agent, VMM_ERROR_FAILED, "%s: the guest's agent has not answered within %u s",
             current(agent)->command.name, agent->config.answer_ms / 1000);
    return G_SOURCE_REMOVE;
}

static void set_timer(struct agent *agent)
{
    unsigned ms = agent->config.sync_ms;

    remove_source(&agent->timer);
    if (agent->stage == IDLE || !agent->running)
        return;
    if (agent->stage == COMMAND)
        ms = current(agent)->command.silent ? agent->config.silence_ms : agent->config.answer_ms;
    agent->timer = g_timeout_add(ms, on_time, agent);
}

/* ---- to the guest ---- */

static gboolean on_writable(gint fd, GIOCondition condition, gpointer opaque);

/* Write what can be written now; the rest follows. */
static void flush(struct agent *agent)
{
    ssize_t sent =
        send(agent->config.fd, agent->out->data, agent->out->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent > 0)
        g_byte_array_remove_range(agent->out, 0, (guint)sent);
    if (!agent->out->len)
        remove_source(&agent->out_source);
    else if (!agent->out_source)
        agent->out_source = g_unix_fd_add(agent->config.fd, G_IO_OUT, on_writable, agent);
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct agent *agent = opaque;

    if (condition & (G_IO_ERR | G_IO_HUP))
        agent->out_source = 0;
    else
        flush(agent);
    return agent->out_source ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* `arguments` may be NULL. */
static void send_command(struct agent *agent, const char *name, json_t *arguments)
{
    json_t *message = json_pack("{s:s, s:O*}", "execute", name, "arguments", arguments);
    char *text = json_dumps(message, JSON_COMPACT);

    if (text) {
        g_byte_array_append(agent->out, (const guint8 *)text, strlen(text));
        g_byte_array_append(agent->out, (const guint8 *)"\n", 1);
    }
    json_decref(message);
    free(text);
    flush(agent);
}

/* ---- from the guest ---- */

static bool is_number(const json_t *answer, json_int_t number)
{
    const json_t *returned = json_object_get(answer, "return");

    return json_is_integer(returned) && json_integer_value(returned) == number;
}

static void begin_command(struct agent *agent)
{
    const struct request *request = current(agent);
    size_t size = request->command.answer_size;

    agent->stage = COMMAND;
    agent_reader_reset(&agent->reader, size ? size : AGENT_ANSWER_MAX);
    set_timer(agent);
    send_command(agent, request->command.name, request->command.arguments);
}

/* The agent says why it did not do it; its words are the guest's. */
static void take_failure(struct agent *agent, const json_t *failure)
{
    const char *class = json_string_value(json_object_get(failure, "class"));
    const char *text = json_string_value(json_object_get(failure, "desc"));
    bool absent = class && strcmp(class, "CommandNotFound") == 0;
    g_autofree char *shown = text_show(text ? text : "it does not say why");

    fail(agent, absent ? VMM_ERROR_NOT_SUPPORTED : VMM_ERROR_FAILED,
         "%s: the guest's agent refuses: %s", current(agent)->command.name, shown);
}

static void take_answer(struct agent *agent, const json_t *answer)
{
    const json_t *result = json_object_get(answer, "return");
    const json_t *failure = json_object_get(answer, "error");

    if (failure)
        take_failure(agent, failure);
    else if (result)
        finish(agent, result, NULL);
    else
        fail(agent, VMM_ERROR_FAILED, "%s: the guest's agent answers with something else",
             current(agent)->command.name);
}

static void take_line(struct agent *agent)
{
    json_t *answer = agent_parse(agent->reader.line->data, agent->reader.line->len);
    bool delimited = agent->reader.delimited;

    agent_reader_next(&agent->reader);
    if (agent->stage == COMMAND)
        take_answer(agent, answer);
    else if (delimited && is_number(answer, agent->number))
        begin_command(agent);
    json_decref(answer);
}

/* Whether there may be more. */
static bool take_piece(struct agent *agent, const uint8_t **data, size_t *size)
{
    switch (agent_reader_take(&agent->reader, data, size)) {
    case AGENT_PIECE_NONE:
        return false;
    case AGENT_PIECE_LINE:
        take_line(agent);
        return true;
    case AGENT_PIECE_TOO_LONG:
        /* Before the sync it is an old answer. */
        if (agent->stage == COMMAND)
            fail(agent, VMM_ERROR_NO_SPACE,
                 "%s: the guest's agent answers with more than %zu bytes",
                 current(agent)->command.name, agent->reader.line_max);
        else
            agent_reader_next(&agent->reader);
        return true;
    case AGENT_PIECE_TOO_MUCH:
        break;
    }
    fail(agent, agent->stage == SYNC ? VMM_ERROR_NOT_SUPPORTED : VMM_ERROR_FAILED,
         "the guest's agent sends what nobody asked for; restart qemu-guest-agent in it");
    return true;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer opaque)
{
    struct agent *agent = opaque;
    guint source = agent->in_source;
    uint8_t piece[READ_SIZE];
    const uint8_t *data = piece;
    ssize_t got = recv(fd, piece, sizeof(piece), MSG_DONTWAIT);
    size_t size = got > 0 ? (size_t)got : 0;

    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        agent->in_source = 0;
        fail(agent, VMM_ERROR_FAILED, "the connection to the guest's agent is gone");
        return G_SOURCE_REMOVE;
    }
    /* What is behind the last answer that was awaited is of no interest. */
    while (agent->in_source == source && take_piece(agent, &data, &size))
        continue;
    return G_SOURCE_CONTINUE;
}

/* ---- requests ---- */

static json_int_t random_number(void)
{
    uint64_t number = 0;

    /* A number that could be foretold would only fool the guest's own programs. */
    if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != sizeof(number))
        number = (uint64_t)g_get_monotonic_time();
    return (json_int_t)(number & ((1ULL << SYNC_BITS) - 1));
}

static void begin(struct agent *agent)
{
    static const guint8 sentinel = AGENT_SENTINEL;
    json_t *arguments;

    if (agent->stage != IDLE || !agent->running || g_queue_is_empty(&agent->requests))
        return;
    agent->stage = SYNC;
    agent->number = random_number();
    agent_reader_reset(&agent->reader, AGENT_ANSWER_MAX);
    agent->in_source = g_unix_fd_add(agent->config.fd, G_IO_IN, on_readable, agent);
    set_timer(agent);
    /* Whatever the agent has half of is void by that. */
    g_byte_array_append(agent->out, &sentinel, 1);
    arguments = json_pack("{s:I}", "id", agent->number);
    send_command(agent, "guest-sync-delimited", arguments);
    json_decref(arguments);
}

void agent_ask(struct agent *agent, const struct agent_command *command, agent_answer_fn answer,
               void *opaque)
{
    struct request *request = g_new0(struct request, 1);

    *request = (struct request){*command, answer, opaque};
    g_queue_push_tail(&agent->requests, request);
    begin(agent);
}

unsigned agent_backlog(const struct agent *agent)
{
    return g_queue_get_length((GQueue *)&agent->requests);
}

void agent_set_running(struct agent *agent, bool running)
{
    agent->running = running;
    set_timer(agent);
    begin(agent);
}

void agent_abandon(struct agent *agent, const char *why)
{
    bool sent = agent->stage == COMMAND && current(agent)->command.silent;
    GQueue requests = agent->requests;
    struct request *request;

    stop(agent);
    g_queue_init(&agent->requests);
    while ((request = g_queue_pop_head(&requests))) {
        g_autoptr(GError) error = g_error_new_literal(VMM_ERROR, VMM_ERROR_CLOSED, why);
        json_t *nothing = json_object();

        request->answer(request->opaque, sent ? nothing : NULL, sent ? NULL : error);
        json_decref(nothing);
        request_free(request);
        sent = false;
    }
}

/* ---- life ---- */

struct agent *agent_create(const struct agent_config *config)
{
    struct agent *agent = g_new0(struct agent, 1);

    agent->config = *config;
    agent->out = g_byte_array_new();
    g_queue_init(&agent->requests);
    agent_reader_init(&agent->reader);
    return agent;
}

void agent_destroy(struct agent *agent)
{
    if (!agent)
        return;
    stop(agent);
    g_queue_clear_full(&agent->requests, request_free);
    agent_reader_finish(&agent->reader);
    g_byte_array_unref(agent->out);
    close(agent->config.fd);
    close(agent->config.far);
    g_free(agent);
}
