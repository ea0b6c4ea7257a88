// SPDX-License-Identifier: Apache-2.0
/*
 * The list of jobs under way. There are few: a client may have few calls waiting.
 */
#include "vmm/monitor/jobs.h"

#define BACKLOG_MAX (64U << 10) /* bytes; who reads slower hears of less progress */

struct job {
    json_int_t number;
    struct control_call *call;
    json_int_t done, total; /* bytes or steps; total 0: not known yet */
};

struct jobs {
    struct clients *clients;
    GPtrArray *list; /* of struct job *, in the order of their numbers */
    json_int_t last;
};

struct jobs *jobs_create(struct clients *clients)
{
    struct jobs *jobs = g_new0(struct jobs, 1);

    jobs->clients = clients;
    jobs->list = g_ptr_array_new_with_free_func(g_free);
    return jobs;
}

void jobs_destroy(struct jobs *jobs)
{
    if (!jobs)
        return;
    g_ptr_array_unref(jobs->list);
    g_free(jobs);
}

static struct job *job_of(const struct jobs *jobs, const struct control_call *call)
{
    for (guint i = 0; i < jobs->list->len; i++)
        if (((struct job *)jobs->list->pdata[i])->call == call)
            return jobs->list->pdata[i];
    return NULL;
}

static json_t *name_job(const struct job *job)
{
    return json_pack("{s:I, s:s}", "job", job->number, "method", job->call->method->name);
}

static json_t *describe_job(const struct job *job)
{
    json_t *details = name_job(job);

    json_object_set_new(details, "done", json_integer(job->done));
    json_object_set_new(details, "total", json_integer(job->total));
    return details;
}

/* Tell the one who asked. That a job has begun is told in any case: without its number it could not
 * be cancelled. */
static void tell_client(const struct job *job)
{
    json_t *params;

    if (!job->call->peer || !job->call->id)
        return;
    params = describe_job(job);
    json_object_set(params, "id", job->call->id);
    peer_send(job->call->peer, rpc_notification("progress", params), NULL, 0);
}

void jobs_begin(struct jobs *jobs, struct control_call *call)
{
    struct job *job = g_new0(struct job, 1);

    job->number = ++jobs->last;
    job->call = call;
    g_ptr_array_add(jobs->list, job);
    clients_event(jobs->clients, "job-started", name_job(job));
    tell_client(job);
}

void jobs_progress(struct jobs *jobs, const struct control_call *call, json_int_t done,
                   json_int_t total)
{
    struct job *job = job_of(jobs, call);

    if (!job || done < 0 || done > total || (done == job->done && total == job->total))
        return;
    job->done = done;
    job->total = total;
    clients_event(jobs->clients, "job-progress", describe_job(job));
    if (job->call->peer && peer_backlog(job->call->peer) <= BACKLOG_MAX)
        tell_client(job);
}

void jobs_end(struct jobs *jobs, const struct control_call *call, int code, const char *failure)
{
    const char *outcome = failure ? "failed" : "done";
    struct job *job = job_of(jobs, call);
    json_t *details;

    if (!job)
        return;
    details = name_job(job);
    if (failure && code == RPC_ERROR_CANCELLED)
        outcome = "cancelled";
    json_object_set_new(details, "outcome", json_string(outcome));
    if (failure)
        json_object_set_new(details, "message", json_string(failure));
    clients_event(jobs->clients, "job-ended", details);
    g_ptr_array_remove(jobs->list, job);
}

struct control_call *jobs_find(const struct jobs *jobs, json_int_t number)
{
    for (guint i = 0; i < jobs->list->len; i++) {
        const struct job *job = jobs->list->pdata[i];

        if (job->number == number)
            return job->call;
    }
    return NULL;
}

json_t *jobs_describe(const struct jobs *jobs)
{
    json_t *list = json_array();

    for (guint i = 0; i < jobs->list->len; i++)
        json_array_append_new(list, describe_job(jobs->list->pdata[i]));
    return json_pack("{s:o}", "jobs", list);
}
