// SPDX-License-Identifier: Apache-2.0
/*
 * Sharing one socket among threads, and calls by their ids.
 */
#include "lib/connection.h"

#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lib/fault.h"
#include "lib/wire.h"

#define EVENTS_MAX 4096 /* kept for a program that does not take them */

struct connection {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned references; /* the machine's handle, and each call */
    bool closed;         /* by us or the other end; all that came before is delivered */
    bool polling;        /* a thread waits for the socket, for all */
    struct wire wire;
    int socket_ready; /* epoll of the socket alone, whose interest may change while one waits */
    int pending;      /* eventfd: something waits to be taken */
    int ready;        /* epoll of both: what a program polls */
    bool told_pending, wants_out;

    json_int_t last_id;
    GHashTable *calls; /* of struct anima_call * without an answer, by id */
    GQueue answered;   /* of announced calls that have one, and were not told of */
    GQueue events;     /* of json_t *: params */
    json_int_t missed_first, missed_last; /* events that found no room; 0: none */
};

struct anima_call {
    struct connection *connection;
    json_int_t id;
    char *method;
    bool announced;
    json_t *answer;       /* NULL: none yet */
    bool done_without;    /* the connection closed before */
    json_int_t job;       /* 0: not known to be one */
    uint64_t done, total; /* of it */
};

gint64 deadline_in(int timeout_ms)
{
    return timeout_ms < 0 ? -1 : g_get_monotonic_time() + timeout_ms * G_GINT64_CONSTANT(1000);
}

/* ---- life ---- */

static bool watch(int epoll, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events};

    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void connection_free(struct connection *connection)
{
    const int fds[] = {connection->socket_ready, connection->pending, connection->ready};

    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    wire_finish(&connection->wire);
    g_hash_table_unref(connection->calls);
    g_queue_clear(&connection->answered);
    g_queue_clear_full(&connection->events, (GDestroyNotify)json_decref);
    pthread_mutex_destroy(&connection->lock);
    pthread_cond_destroy(&connection->changed);
    g_free(connection);
}

struct connection *connection_create(int fd)
{
    struct connection *connection = g_new0(struct connection, 1);

    pthread_mutex_init(&connection->lock, NULL);
    pthread_cond_init(&connection->changed, NULL);
    connection->references = 1;
    wire_init(&connection->wire, fd);
    connection->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_queue_init(&connection->answered);
    g_queue_init(&connection->events);
    connection->socket_ready = epoll_create1(EPOLL_CLOEXEC);
    connection->ready = epoll_create1(EPOLL_CLOEXEC);
    connection->pending = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (watch(connection->socket_ready, fd, EPOLLIN) &&
        watch(connection->ready, connection->socket_ready, EPOLLIN) &&
        watch(connection->ready, connection->pending, EPOLLIN))
        return connection;
    connection_free(connection);
    return NULL;
}

int connection_fd(const struct connection *connection)
{
    return connection->ready;
}

/* Drops one reference, with the lock held, which it releases. */
static void unref_locked(struct connection *connection)
{
    bool last = --connection->references == 0;

    pthread_mutex_unlock(&connection->lock);
    if (last)
        connection_free(connection);
}

/* ---- what comes ---- */

/* The descriptors that are polled follow what there is; due after every change. */
static void update_ready(struct connection *connection)
{
    bool pending = connection->closed || !g_queue_is_empty(&connection->events) ||
                   !g_queue_is_empty(&connection->answered);
    bool out = !connection->closed && wire_wants_out(&connection->wire);
    uint64_t count = 1;

    if (pending != connection->told_pending) {
        ssize_t moved = pending ? write(connection->pending, &count, sizeof(count))
                                : read(connection->pending, &count, sizeof(count));

        connection->told_pending = moved == sizeof(count) ? pending : connection->told_pending;
    }
    if (out != connection->wants_out) {
        struct epoll_event event = {.events = out ? EPOLLIN | EPOLLOUT : EPOLLIN};

        epoll_ctl(connection->socket_ready, EPOLL_CTL_MOD, connection->wire.fd, &event);
        connection->wants_out = out;
    }
}

static void finish_call(struct anima_call *call, json_t *answer)
{
    struct connection *connection = call->connection;

    g_hash_table_remove(connection->calls, &call->id);
    call->answer = answer;
    call->done_without = !answer;
    if (call->announced)
        g_queue_push_tail(&connection->answered, call);
}

static void tell_missed(struct connection *connection)
{
    if (!connection->missed_first)
        return;
    g_queue_push_tail(&connection->events,
                      json_pack("{s:s, s:I, s:I}", "type", "missed", "first",
                                connection->missed_first, "seq", connection->missed_last));
    connection->missed_first = connection->missed_last = 0;
}

static void take_event(struct connection *connection, json_t *params)
{
    json_int_t number = json_integer_value(json_object_get(params, "seq"));
    const char *type = json_string_value(json_object_get(params, "type"));

    if (!type)
        return;
    /* The last event of all finds room, since somebody will wait for it. */
    if (g_queue_get_length(&connection->events) >= EVENTS_MAX && strcmp(type, "ended") != 0) {
        if (!connection->missed_first)
            connection->missed_first = number;
        connection->missed_last = number;
        return;
    }
    tell_missed(connection);
    g_queue_push_tail(&connection->events, json_incref(params));
}

static struct anima_call *find_call(const struct connection *connection, const json_t *id)
{
    json_int_t number = json_integer_value(id);

    return json_is_integer(id) ? g_hash_table_lookup(connection->calls, &number) : NULL;
}

static void take_progress(struct connection *connection, const json_t *params)
{
    struct anima_call *call = find_call(connection, json_object_get(params, "id"));

    if (!call)
        return;
    call->job = json_integer_value(json_object_get(params, "job"));
    call->total = MAX(json_integer_value(json_object_get(params, "total")), 0);
    call->done =
        CLAMP(json_integer_value(json_object_get(params, "done")), 0, (json_int_t)call->total);
}

static void take_message(struct connection *connection, json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    json_t *params = json_object_get(message, "params");
    struct anima_call *call;

    if (!method) {
        call = find_call(connection, json_object_get(message, "id"));
        if (call)
            finish_call(call, json_incref(message));
    } else if (strcmp(method, "event") == 0) {
        take_event(connection, params);
    } else if (strcmp(method, "progress") == 0) {
        take_progress(connection, params);
    }
}

static void fail_calls(struct connection *connection)
{
    g_autoptr(GList) calls = g_hash_table_get_values(connection->calls);

    for (GList *link = calls; link; link = link->next)
        finish_call(link->data, NULL);
}

/* Move what can be moved now. */
static void move(struct connection *connection)
{
    json_t *message;

    if (!connection->closed)
        wire_move(&connection->wire);
    while (!connection->closed && (message = wire_take(&connection->wire))) {
        take_message(connection, message);
        json_decref(message);
    }
    if (connection->wire.closed && !connection->closed) {
        connection->closed = true;
        fail_calls(connection);
    }
    update_ready(connection);
    pthread_cond_broadcast(&connection->changed);
}

static int milliseconds_to(gint64 deadline)
{
    gint64 left = deadline - g_get_monotonic_time();

    return deadline < 0 ? -1 : CLAMP((left + 999) / 1000, 0, G_MAXINT);
}

/* Let something come. False when the time is up. */
static bool wait_for_more(struct connection *connection, gint64 deadline)
{
    struct pollfd wait = {.fd = connection->socket_ready, .events = POLLIN};

    if (deadline >= 0 && g_get_monotonic_time() >= deadline)
        return false;
    if (connection->polling) {
        const struct timespec until = {deadline / G_USEC_PER_SEC, deadline % G_USEC_PER_SEC * 1000};

        if (deadline < 0)
            pthread_cond_wait(&connection->changed, &connection->lock);
        else
            pthread_cond_clockwait(&connection->changed, &connection->lock, CLOCK_MONOTONIC,
                                   &until);
        return true;
    }
    connection->polling = true;
    pthread_mutex_unlock(&connection->lock);
    poll(&wait, 1, milliseconds_to(deadline));
    pthread_mutex_lock(&connection->lock);
    connection->polling = false;
    move(connection);
    return true;
}

void connection_close(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    connection->closed = true;
    fail_calls(connection);
    pthread_cond_broadcast(&connection->changed);
    shutdown(connection->wire.fd, SHUT_RDWR);
    unref_locked(connection);
}

void connection_leave(struct connection *connection)
{
    pthread_mutex_lock(&connection->lock);
    unref_locked(connection);
}

/* ---- calls ---- */

struct anima_call *connection_ask(struct connection *connection, const char *method, json_t *params,
                                  int fd, bool announced, struct anima_error **error)
{
    struct anima_call *call = g_new0(struct anima_call, 1);
    json_t *request;

    pthread_mutex_lock(&connection->lock);
    call->connection = connection;
    call->id = ++connection->last_id;
    call->method = g_strdup(method);
    call->announced = announced;
    request = json_pack("{s:s, s:I, s:s, s:o*}", "jsonrpc", "2.0", "id", call->id, "method", method,
                        "params", params);
    if (!request || !wire_queue(&connection->wire, request, fd)) {
        pthread_mutex_unlock(&connection->lock);
        error_set(error, ANIMA_ERROR_FAILED, "%s: it cannot be sent", method);
        g_free(call->method);
        g_free(call);
        return NULL;
    }
    connection->references++;
    g_hash_table_insert(connection->calls, &call->id, call);
    if (connection->closed)
        finish_call(call, NULL);
    move(connection);
    pthread_mutex_unlock(&connection->lock);
    return call;
}

static bool is_over(const struct anima_call *call)
{
    return call->answer || call->done_without;
}

bool connection_await(struct anima_call *call, gint64 deadline)
{
    struct connection *connection = call->connection;
    bool over;

    pthread_mutex_lock(&connection->lock);
    move(connection);
    while (!is_over(call) && wait_for_more(connection, deadline))
        continue;
    over = is_over(call);
    pthread_mutex_unlock(&connection->lock);
    return over;
}

static enum anima_error_code code_of(json_int_t code)
{
    switch (code) {
    case -32602:
        return ANIMA_ERROR_USAGE;
    case -32601:
        return ANIMA_ERROR_ABSENT;
    case -32001:
        return ANIMA_ERROR_DENIED;
    case -32002:
        return ANIMA_ERROR_STATE;
    case -32003:
        return ANIMA_ERROR_CANCELLED;
    default:
        return ANIMA_ERROR_FAILED;
    }
}

json_t *connection_result(const struct anima_call *call, struct anima_error **error)
{
    json_t *failure = json_object_get(call->answer, "error");
    json_t *result = json_object_get(call->answer, "result");
    const char *text = json_string_value(json_object_get(failure, "message"));

    if (call->done_without)
        error_set(error, ANIMA_ERROR_FAILED, "%s: the process that does it has gone", call->method);
    else if (!call->answer)
        error_set(error, ANIMA_ERROR_STATE, "%s: there is no answer yet", call->method);
    else if (failure)
        error_set(error, code_of(json_integer_value(json_object_get(failure, "code"))), "%s",
                  text ? text : "the machine refused without a reason");
    else if (!result)
        error_set(error, ANIMA_ERROR_FAILED, "the machine's answer is no answer");
    return failure ? NULL : json_incref(result);
}

struct anima_call *connection_answered(struct connection *connection)
{
    struct anima_call *call;

    pthread_mutex_lock(&connection->lock);
    move(connection);
    call = g_queue_pop_head(&connection->answered);
    update_ready(connection);
    pthread_mutex_unlock(&connection->lock);
    return call;
}

json_t *connection_event(struct connection *connection, gint64 deadline, bool *closed)
{
    json_t *event;

    pthread_mutex_lock(&connection->lock);
    move(connection);
    while (g_queue_is_empty(&connection->events) && !connection->closed &&
           wait_for_more(connection, deadline))
        continue;
    event = g_queue_pop_head(&connection->events);
    if (g_queue_is_empty(&connection->events))
        tell_missed(connection);
    *closed = connection->closed && !event;
    update_ready(connection);
    pthread_mutex_unlock(&connection->lock);
    return event;
}

/* ---- the public face of calls ---- */

ANIMA_API int anima_call_fd(const struct anima_call *call)
{
    return connection_fd(call->connection);
}

ANIMA_API bool anima_call_wait(struct anima_call *call, int timeout_ms)
{
    return connection_await(call, deadline_in(timeout_ms));
}

ANIMA_API char *anima_call_result(struct anima_call *call, struct anima_error **error)
{
    json_t *result;
    char *text;

    pthread_mutex_lock(&call->connection->lock);
    result = connection_result(call, error);
    pthread_mutex_unlock(&call->connection->lock);
    text = result ? json_dumps(result, JSON_INDENT(2) | JSON_ENCODE_ANY) : NULL;
    json_decref(result);
    return text;
}

ANIMA_API bool anima_call_progress(struct anima_call *call, uint64_t *done, uint64_t *total)
{
    struct connection *connection = call->connection;
    bool known;

    pthread_mutex_lock(&connection->lock);
    move(connection);
    *done = call->done;
    *total = call->total;
    known = call->total;
    pthread_mutex_unlock(&connection->lock);
    return known;
}

/* The number of the job, once the machine has told it. */
static json_int_t await_job(struct anima_call *call, gint64 deadline)
{
    struct connection *connection = call->connection;
    json_int_t job;

    pthread_mutex_lock(&connection->lock);
    move(connection);
    while (!call->job && !is_over(call) && wait_for_more(connection, deadline))
        continue;
    job = call->job;
    pthread_mutex_unlock(&connection->lock);
    return job;
}

ANIMA_API bool anima_call_cancel(struct anima_call *call, int timeout_ms,
                                 struct anima_error **error)
{
    gint64 deadline = deadline_in(timeout_ms);
    json_int_t job = await_job(call, deadline);
    struct anima_call *cancel;
    json_t *result = NULL;
    bool good;

    if (!job) {
        error_set(error, ANIMA_ERROR_STATE, "%s: it is nothing that can be cancelled",
                  call->method);
        return false;
    }
    cancel = connection_ask(call->connection, "job.cancel", json_pack("{s:I}", "job", job), -1,
                            false, error);
    if (!cancel)
        return false;
    if (connection_await(cancel, deadline))
        result = connection_result(cancel, error);
    else
        error_set(error, ANIMA_ERROR_TIMEOUT, "%s: the machine does not answer", call->method);
    good = result;
    json_decref(result);
    anima_call_destroy(cancel);
    return good;
}

ANIMA_API void anima_call_destroy(struct anima_call *call)
{
    if (!call)
        return;
    pthread_mutex_lock(&call->connection->lock);
    g_hash_table_remove(call->connection->calls, &call->id);
    g_queue_remove(&call->connection->answered, call);
    update_ready(call->connection);
    unref_locked(call->connection);
    json_decref(call->answer);
    g_free(call->method);
    g_free(call);
}
