// SPDX-License-Identifier: Apache-2.0
/*
 * The worker: serves one call of libanima's, as a monitor serves calls about a machine: with
 * progress, and "job.cancel". Whoever asked may go at any time; then nothing is left of the work.
 */
#include "vmm/import/package.h"

#include <signal.h>
#include <unistd.h>

#include "vmm/control/peer.h"
#include "vmm/control/rpc.h"
#include "vmm/monitor/process.h"
#include "vmm/util/log.h"

#define JOB 1 /* the number of the only one */

/* A process has one call. */
static struct {
    struct peer *peer;
    GMainLoop *loop;
    json_t *id; /* of the call; NULL: it was answered, or has not come */
    const struct job_kind *kind;
    void *job;
    json_t *answer; /* for when the job is destroyed */
    guint end;      /* GSource of that, out of the job's own callbacks */
} worker;

static const struct job_kind *const kinds[] = {&import_job, &export_job};

/* ---- answers ---- */

static void destroy_job(void)
{
    if (worker.job)
        worker.kind->destroy(worker.job);
    worker.job = NULL;
}

/* Nothing of the work is left when it is told that it failed. */
static gboolean end(void *opaque)
{
    worker.end = 0;
    destroy_job();
    peer_send(worker.peer, g_steal_pointer(&worker.answer), NULL, 0);
    return G_SOURCE_REMOVE;
}

static void answer(json_t *message)
{
    worker.answer = message;
    worker.end = g_idle_add(end, NULL);
    json_decref(worker.id);
    worker.id = NULL;
}

static void on_progress(uint64_t done, uint64_t total)
{
    if (worker.id)
        peer_send(worker.peer,
                  rpc_notification("progress",
                                   json_pack("{s:O, s:i, s:I, s:I}", "id", worker.id, "job", JOB,
                                             "done", (json_int_t)done, "total", (json_int_t)total)),
                  NULL, 0);
}

static void on_finished(json_t *result)
{
    if (worker.id)
        answer(rpc_result(worker.id, result));
    else
        json_decref(result);
}

static void on_failed(GError *error)
{
    if (worker.id)
        answer(rpc_failure(worker.id, rpc_code_of(error), error->message, NULL));
    g_error_free(error);
}

static const struct job_ops job_ops = {on_progress, on_finished, on_failed};

/* ---- requests ---- */

static void begin(const struct rpc_message *message)
{
    GError *error = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (g_str_equal(kinds[i]->method, message->method))
            worker.kind = kinds[i];
    worker.id = json_incref(message->id);
    if (!worker.kind) {
        answer(rpc_failure(worker.id, RPC_ERROR_UNKNOWN_METHOD, "there is no such method", NULL));
        return;
    }
    /* Its number is what cancels it. */
    peer_send(worker.peer,
              rpc_notification("progress", json_pack("{s:O, s:i, s:i, s:i}", "id", worker.id, "job",
                                                     JOB, "done", 0, "total", 0)),
              NULL, 0);
    worker.job = worker.kind->begin(message->params, &job_ops, &error);
    if (!worker.job && error)
        on_failed(error);
}

static void cancel(const struct rpc_message *message)
{
    bool there = worker.id;

    if (there) {
        destroy_job();
        answer(rpc_failure(worker.id, RPC_ERROR_CANCELLED, "it was cancelled", NULL));
    }
    peer_send(worker.peer,
              there ? rpc_result(message->id, json_object())
                    : rpc_failure(message->id, RPC_ERROR_STATE, "there is no such job", NULL),
              NULL, 0);
}

static void on_line(void *opaque, struct peer *peer, const char *line, size_t length, int *fds,
                    unsigned count)
{
    struct rpc_message message;

    if (rpc_parse(line, length, &message, NULL) && message.kind == RPC_REQUEST) {
        if (g_str_equal(message.method, "job.cancel"))
            cancel(&message);
        else if (!worker.kind)
            begin(&message);
    }
    rpc_message_clear(&message);
}

static void on_closed(void *opaque, struct peer *peer)
{
    g_main_loop_quit(worker.loop);
}

int worker_run(void)
{
    static const struct peer_ops ops = {.line = on_line, .closed = on_closed};

    log_start();
    /* A terminal's Ctrl-C is its owner's, who then cancels the work. */
    setsid();
    signal(SIGPIPE, SIG_IGN);
    worker.loop = g_main_loop_new(NULL, FALSE);
    worker.peer = peer_create(PROCESS_LINK_FD, &ops, NULL);
    g_main_loop_run(worker.loop);
    if (worker.end)
        g_source_remove(worker.end);
    destroy_job();
    json_decref(worker.answer);
    json_decref(worker.id);
    peer_destroy(worker.peer);
    g_main_loop_unref(worker.loop);
    return 0;
}
