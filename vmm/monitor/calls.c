// SPDX-License-Identifier: Apache-2.0
/*
 * The set of calls under way, some of which wait for a vmm to go to.
 */
#include "vmm/monitor/calls.h"

#include <fcntl.h>
#include <unistd.h>

#define CALLS_MAX 16 /* of one client */

struct entry {
    struct calls *calls;
    struct control_call *call;
    calls_answer_fn answer;
    void *opaque;
    json_int_t number; /* of the request to the vmm; 0: it waits here */
    /* While it waits here: */
    char *method;
    json_t *params;
    int *fds; /* duplicates */
    unsigned count;
};

struct calls {
    struct worker *worker;
    GHashTable *entries; /* a set of struct entry * */
    GQueue waiting;      /* of struct entry *, in order */
    bool hold;
};

struct calls *calls_create(void)
{
    struct calls *calls = g_new0(struct calls, 1);

    calls->entries = g_hash_table_new(NULL, NULL);
    g_queue_init(&calls->waiting);
    return calls;
}

void calls_destroy(struct calls *calls)
{
    if (!calls)
        return;
    g_hash_table_unref(calls->entries);
    g_free(calls);
}

void calls_set_worker(struct calls *calls, struct worker *worker)
{
    calls->worker = worker;
}

static void on_answer(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    g_autofree struct entry *entry = opaque;

    g_hash_table_remove(entry->calls->entries, entry);
    entry->answer(entry->opaque, entry->call, answer);
}

static unsigned count_of(const struct calls *calls, const struct peer *peer)
{
    unsigned count = 0;
    GHashTableIter iterator;
    void *entry;

    g_hash_table_iter_init(&iterator, calls->entries);
    while (g_hash_table_iter_next(&iterator, &entry, NULL))
        count += ((struct entry *)entry)->call->peer == peer;
    return count;
}

static void let_wait(struct calls *calls, struct entry *entry, const char *method, json_t *params,
                     const int *fds, unsigned count)
{
    entry->method = g_strdup(method);
    entry->params = params;
    entry->fds = g_new(int, count);
    entry->count = count;
    for (unsigned i = 0; i < count; i++)
        entry->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
    g_queue_push_tail(&calls->waiting, entry);
}

/* What it brought along is not needed any more. */
static void stop_waiting(struct entry *entry)
{
    for (unsigned i = 0; i < entry->count; i++)
        if (entry->fds[i] >= 0)
            close(entry->fds[i]);
    g_clear_pointer(&entry->fds, g_free);
    g_clear_pointer(&entry->method, g_free);
    g_clear_pointer(&entry->params, json_decref);
}

bool calls_forward(struct calls *calls, const char *method, json_t *params, const int *fds,
                   unsigned count, struct control_call *call, calls_answer_fn answer, void *opaque)
{
    struct entry *entry;

    if (!calls->worker || count_of(calls, call->peer) >= CALLS_MAX) {
        json_decref(params);
        control_fail(call, RPC_ERROR_STATE,
                     calls->worker ? "too many calls are waiting" : "no machine is running");
        return false;
    }
    entry = g_new0(struct entry, 1);
    *entry = (struct entry){.calls = calls, .call = call, .answer = answer, .opaque = opaque};
    g_hash_table_add(calls->entries, entry);
    if (calls->hold)
        let_wait(calls, entry, method, params, fds, count);
    else
        entry->number = worker_ask(calls->worker, method, params, fds, count, on_answer, entry);
    return true;
}

struct control_call *calls_find(const struct calls *calls, json_int_t number)
{
    GHashTableIter iterator;
    void *key;

    g_hash_table_iter_init(&iterator, calls->entries);
    while (g_hash_table_iter_next(&iterator, &key, NULL))
        if (number && ((struct entry *)key)->number == number)
            return ((struct entry *)key)->call;
    return NULL;
}

static struct entry *entry_of(const struct calls *calls, const struct control_call *call)
{
    GHashTableIter iterator;
    void *key;

    g_hash_table_iter_init(&iterator, calls->entries);
    while (g_hash_table_iter_next(&iterator, &key, NULL))
        if (((struct entry *)key)->call == call)
            return key;
    return NULL;
}

/* What the vmm says to it does not matter: the call itself is answered, cancelled or done. */
static void drop_answer(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
}

void calls_cancel(struct calls *calls, const struct control_call *call)
{
    const struct rpc_message cancelled = {
        .kind = RPC_FAILURE, .code = RPC_ERROR_CANCELLED, .text = "it was cancelled"};
    struct entry *entry = entry_of(calls, call);

    if (entry && entry->number) {
        worker_ask(calls->worker, "vmm.cancel", json_pack("{s:I}", "call", entry->number), NULL, 0,
                   drop_answer, NULL);
    } else if (entry) {
        g_queue_remove(&calls->waiting, entry);
        stop_waiting(entry);
        on_answer(entry, &cancelled, NULL, 0);
    }
}

void calls_hold(struct calls *calls)
{
    calls->hold = true;
}

void calls_release(struct calls *calls)
{
    struct entry *entry;

    calls->hold = false;
    while ((entry = g_queue_pop_head(&calls->waiting))) {
        entry->number = worker_ask(calls->worker, entry->method, g_steal_pointer(&entry->params),
                                   entry->fds, entry->count, on_answer, entry);
        stop_waiting(entry);
    }
}

void calls_forget_peer(struct calls *calls, const struct peer *peer)
{
    GHashTableIter iterator;
    void *key;

    g_hash_table_iter_init(&iterator, calls->entries);
    while (g_hash_table_iter_next(&iterator, &key, NULL)) {
        struct entry *entry = key;

        if (entry->call->peer == peer)
            entry->call->peer = NULL;
    }
}

void calls_fail(struct calls *calls, const char *text)
{
    const struct rpc_message failure = {
        .kind = RPC_FAILURE, .code = RPC_ERROR_FAILED, .text = text};
    struct entry *entry;

    while ((entry = g_queue_pop_head(&calls->waiting))) {
        stop_waiting(entry);
        on_answer(entry, &failure, NULL, 0);
    }
    if (calls->worker)
        worker_fail_requests(calls->worker, text);
}
