// SPDX-License-Identifier: Apache-2.0
/*
 * Requests to a worker carry a number; its answers come back by it, in whatever order.
 */
#include "vmm/monitor/worker.h"

#include <signal.h>
#include <sys/wait.h>

#include "vmm/control/method.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/sandbox.h"

struct request {
    worker_answer_fn answer;
    void *opaque;
};

struct worker {
    const char *role; /* static */
    const struct worker_ops *ops;
    void *opaque;
    struct process *process;
    struct peer *link;    /* NULL once it was read to its end */
    GHashTable *requests; /* of struct request *, by number */
    json_int_t last_id;
    bool ended;
    int status;      /* waitpid's */
    char *last_log;  /* line */
    char *violation; /* sentence on a system call that it says it died of */
};

/* What to say of one that ended without a word. */
static char *describe_end(const struct worker *worker)
{
    int status = worker->status;
    const char *last = worker->last_log;

    /* A guest with a debug console can write such a line, but not die so. */
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && worker->violation)
        return g_strdup(worker->violation);
    if (WIFSIGNALED(status))
        return g_strdup_printf("the %s was killed by signal %d (%s)%s%s", worker->role,
                               WTERMSIG(status), g_strsignal(WTERMSIG(status)),
                               last ? "; it last said: " : "", last ? last : "");
    return g_strdup_printf("the %s ended with status %d%s%s", worker->role, WEXITSTATUS(status),
                           last ? "; it last said: " : "", last ? last : "");
}

static void tell_if_over(struct worker *worker)
{
    g_autofree char *how = NULL;

    if (!worker->ended || worker->link)
        return;
    how = describe_end(worker);
    worker->ops->ended(worker->opaque, worker, how);
}

static void on_log(void *opaque, const char *line)
{
    struct worker *worker = opaque;
    bool fatal = false;
    char *violation = sandbox_explain(worker->role, line, &fatal);

    if (violation && fatal) {
        g_free(worker->violation);
        worker->violation = violation;
        return;
    }
    g_free(worker->last_log);
    worker->last_log = violation ? violation : g_utf8_make_valid(line, -1);
    worker->ops->log(worker->opaque, worker->last_log);
}

static void on_ended(void *opaque, int wait_status)
{
    struct worker *worker = opaque;

    worker->ended = true;
    worker->status = wait_status;
    tell_if_over(worker);
}

static const struct process_ops process_ops = {on_log, on_ended};

/* The request with this number, which waits no longer; NULL when there is none. */
static struct request *take_request(struct worker *worker, json_int_t id)
{
    void *key, *request;

    if (!g_hash_table_steal_extended(worker->requests, &id, &key, &request))
        return NULL;
    g_free(key);
    return request;
}

static void take_answer(struct worker *worker, const struct rpc_message *message, int *fds,
                        unsigned count)
{
    g_autofree struct request *request = take_request(worker, json_integer_value(message->id));

    if (request)
        request->answer(request->opaque, message, fds, count);
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct worker *worker = opaque;
    struct rpc_message message;

    if (!control_receive(peer, line, length, &message))
        return;
    if (message.kind == RPC_NOTIFICATION)
        worker->ops->notified(worker->opaque, &message);
    else if (message.kind != RPC_REQUEST)
        take_answer(worker, &message, fds, count);
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    struct worker *worker = opaque;

    peer_destroy(peer);
    worker->link = NULL;
    tell_if_over(worker);
}

static const struct peer_ops peer_ops = {on_line, on_closed};

struct worker *worker_create(const char *role, const char *program, const struct worker_ops *ops,
                             void *opaque, GError **error)
{
    struct worker *worker = g_new0(struct worker, 1);
    int link;

    worker_give(worker, ops, opaque);
    worker->role = role;
    worker->requests = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    worker->process = process_spawn(role, program, &process_ops, worker, &link, error);
    if (!worker->process) {
        worker_destroy(worker);
        return NULL;
    }
    worker->link = peer_create(link, &peer_ops, worker);
    return worker;
}

pid_t worker_pid(const struct worker *worker)
{
    return process_pid(worker->process);
}

void worker_destroy(struct worker *worker)
{
    if (!worker)
        return;
    process_destroy(worker->process);
    peer_destroy(worker->link);
    g_hash_table_unref(worker->requests);
    g_free(worker->last_log);
    g_free(worker->violation);
    g_free(worker);
}

void worker_kill(struct worker *worker)
{
    process_kill(worker->process);
}

static void drop_log(void *opaque, const char *line)
{
}

static void drop_notification(void *opaque, const struct rpc_message *message)
{
}

static void destroy_ended(void *opaque, struct worker *worker, const char *how)
{
    worker_destroy(worker);
}

void worker_discard(struct worker *worker)
{
    static const struct worker_ops discarded = {drop_log, drop_notification, destroy_ended};

    worker_give(worker, &discarded, NULL);
    g_hash_table_remove_all(worker->requests);
    worker_kill(worker);
    if (worker->ended && !worker->link)
        worker_destroy(worker);
}

void worker_give(struct worker *worker, const struct worker_ops *ops, void *opaque)
{
    worker->ops = ops;
    worker->opaque = opaque;
}

json_int_t worker_ask(struct worker *worker, const char *method, json_t *params, const int *fds,
                      unsigned count, worker_answer_fn answer, void *opaque)
{
    struct request *request = g_new(struct request, 1);
    json_int_t *id = g_new(json_int_t, 1);

    *request = (struct request){answer, opaque};
    *id = ++worker->last_id;
    g_hash_table_insert(worker->requests, id, request);
    if (worker->link)
        peer_send(worker->link, rpc_request(*id, method, params), fds, count);
    else
        json_decref(params);
    return worker->last_id;
}

static void drop_answer(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
}

void worker_forget(struct worker *worker, const void *opaque)
{
    GHashTableIter iterator;
    void *value;

    g_hash_table_iter_init(&iterator, worker->requests);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        struct request *request = value;

        if (request->opaque == opaque)
            request->answer = drop_answer;
    }
}

void worker_fail_requests(struct worker *worker, const char *text)
{
    const struct rpc_message failure = {
        .kind = RPC_FAILURE, .code = RPC_ERROR_FAILED, .text = text};
    g_autoptr(GHashTable) requests = g_steal_pointer(&worker->requests);
    GHashTableIter iterator;
    void *value;

    /* An answer may ask anew. */
    worker->requests = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    g_hash_table_iter_init(&iterator, requests);
    while (g_hash_table_iter_next(&iterator, NULL, &value)) {
        struct request *request = value;

        request->answer(request->opaque, &failure, NULL, 0);
    }
}
