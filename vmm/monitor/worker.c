// SPDX-License-Identifier: Apache-2.0
/*
 * Requests to a vmm carry a number; its answers come back by it, in whatever order.
 */
#include "vmm/monitor/worker.h"

#include "vmm/control/method.h"
#include "vmm/monitor/process.h"

struct request {
    worker_answer_fn answer;
    void *opaque;
};

struct worker {
    const struct worker_ops *ops;
    void *opaque;
    struct process *process;
    struct peer *link;    /* NULL once it was read to its end */
    GHashTable *requests; /* of struct request *, by number */
    json_int_t last_id;
    bool ended;
    int status;
};

static void tell_if_over(struct worker *worker)
{
    if (worker->ended && !worker->link)
        worker->ops->ended(worker->opaque, worker, worker->status);
}

static void on_log(void *opaque, const char *line)
{
    struct worker *worker = opaque;

    worker->ops->log(worker->opaque, line);
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

struct worker *worker_create(const char *program, const struct worker_ops *ops, void *opaque,
                             GError **error)
{
    struct worker *worker = g_new0(struct worker, 1);
    int link;

    worker_give(worker, ops, opaque);
    worker->requests = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    worker->process = process_spawn("vmm", program, &process_ops, worker, &link, error);
    if (!worker->process) {
        worker_destroy(worker);
        return NULL;
    }
    worker->link = peer_create(link, &peer_ops, worker);
    return worker;
}

void worker_destroy(struct worker *worker)
{
    if (!worker)
        return;
    process_destroy(worker->process);
    peer_destroy(worker->link);
    g_hash_table_unref(worker->requests);
    g_free(worker);
}

void worker_kill(struct worker *worker)
{
    process_kill(worker->process);
}

void worker_give(struct worker *worker, const struct worker_ops *ops, void *opaque)
{
    worker->ops = ops;
    worker->opaque = opaque;
}

void worker_ask(struct worker *worker, const char *method, json_t *params, const int *fds,
                unsigned count, worker_answer_fn answer, void *opaque)
{
    const struct rpc_message gone = {
        .kind = RPC_FAILURE, .code = RPC_ERROR_STATE, .text = "no machine is running"};
    struct request *request;
    json_int_t *id;

    if (!worker->link) {
        json_decref(params);
        answer(opaque, &gone, NULL, 0);
        return;
    }
    request = g_new(struct request, 1);
    *request = (struct request){answer, opaque};
    id = g_new(json_int_t, 1);
    *id = ++worker->last_id;
    g_hash_table_insert(worker->requests, id, request);
    peer_send(worker->link, rpc_request(*id, method, params), fds, count);
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
