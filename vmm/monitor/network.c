// SPDX-License-Identifier: Apache-2.0
/*
 * What the helper says is a guest's word, who may have taken it over: of its answers only what has
 * the form that it should have is passed on, or kept.
 */
#include "vmm/monitor/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/leases.h"
#include "config/network.h"
#include "config/store.h"
#include "vmm/monitor/clients.h"
#include "vmm/monitor/folder.h"
#include "vmm/monitor/network_ports.h"
#include "vmm/monitor/port_owner.h"
#include "vmm/monitor/process.h"
#include "vmm/monitor/resolvers.h"
#include "vmm/monitor/worker.h"

#define PROGRAM       "anima-network"
#define LINGER_MS     2000  /* without a card */
#define BEGIN_MS      10000 /* for the first card */
#define PAUSE_MIN_MS  100
#define PAUSE_MAX_MS  30000
#define LIVED_LONG_US (5 * G_USEC_PER_SEC)
#define CLIENTS_MOST  512
#define LOG_MAX       (1 << 20)

static struct {
    GMainLoop *loop;
    struct clients *clients;
    char *name;
    struct folder *folder;
    char *text; /* of the definition */
    struct definition *definition;
    struct network network;
    char *program;
    struct worker *worker;
    unsigned resolvers; /* that the helper reads; 0: the host's own */
    bool ready;         /* the helper carries frames */
    gint64 began_us;
    guint pause_ms, respawn; /* before the helper is started again */
    guint ending;            /* timer: there is no card */
    json_t *forwards;        /* as they were made */
    struct leases leases;
    struct ports *ports;
    struct control_call *start_call; /* that waits for the first helper */
    GPtrArray *pending, *waiting;    /* of struct control_call *: for an answer, for a helper */
    int status;
} self;

static bool spawn(GError **error);

/* ---- the end ---- */

static gboolean on_ending(gpointer opaque)
{
    self.ending = 0;
    g_main_loop_quit(self.loop);
    return G_SOURCE_REMOVE;
}

/* Live as long as there are cards, and a moment more. */
static void reckon(guint patience_ms)
{
    if (self.ending)
        g_source_remove(self.ending);
    self.ending = ports_count(self.ports) ? 0 : g_timeout_add(patience_ms, on_ending, NULL);
}

static gboolean on_terminate(gpointer opaque)
{
    g_main_loop_quit(self.loop);
    return G_SOURCE_CONTINUE;
}

/* ---- calls ---- */

static void on_forwarded(void *opaque, const struct rpc_message *answer, int *fds, unsigned count);
static void on_counted(void *opaque, const struct rpc_message *answer, int *fds, unsigned count);

/* Ask the helper on behalf of the call; one that comes before the helper is ready waits. */
static void ask(struct control_call *call)
{
    bool counts = strcmp(call->method->name, "network.query") == 0;

    if (!self.ready) {
        g_ptr_array_add(self.waiting, call);
        return;
    }
    g_ptr_array_add(self.pending, call);
    worker_ask(self.worker, counts ? "query" : "forward", json_incref(call->params), NULL, 0,
               counts ? on_counted : on_forwarded, call);
}

static void ask_waiting(void)
{
    while (self.waiting->len)
        ask(g_ptr_array_steal_index(self.waiting, 0));
}

static void fail_all(GPtrArray *calls, const char *text)
{
    for (unsigned i = 0; i < calls->len; i++)
        control_fail(calls->pdata[i], RPC_ERROR_FAILED, text);
    g_ptr_array_set_size(calls, 0);
}

static void forget_peer(GPtrArray *calls, const struct peer *peer)
{
    for (unsigned i = 0; i < calls->len; i++) {
        struct control_call *call = calls->pdata[i];

        if (call->peer == peer)
            call->peer = NULL;
    }
}

/* ---- leases ---- */

static char *leases_path(void)
{
    g_autofree char *path = store_path(&store_networks, self.name);
    g_autofree char *folder = g_path_get_dirname(path);

    return g_build_filename(folder, "leases.json", NULL);
}

static void leases_load(void)
{
    g_autofree char *path = leases_path();
    json_t *list = json_load_file(path, 0, NULL);

    leases_init(&self.leases, &self.network.subnet);
    leases_from_json(&self.leases, list);
    json_decref(list);
}

static void take_leases(const json_t *list)
{
    g_autofree char *path = leases_path(), *text = NULL;
    g_autoptr(GError) error = NULL;
    json_t *kept;

    if (!self.network.subnet.bits)
        return;
    leases_init(&self.leases, &self.network.subnet);
    leases_from_json(&self.leases, list);
    kept = leases_to_json(&self.leases);
    text = json_dumps(kept, JSON_INDENT(1));
    json_decref(kept);
    if (!g_file_set_contents(path, text, -1, &error))
        g_message("%s", error->message);
}

/* ---- forwards ---- */

/* The good ones of a list from the helper, as a new one. */
static json_t *sound_forwards(const json_t *list)
{
    json_t *sound = json_array(), *entry;
    struct network_forward forward;
    size_t i;

    json_array_foreach(list, i, entry)
    {
        const char *text = json_string_value(entry);

        if (text && network_forward_parse(text, &forward, NULL))
            json_array_append(sound, entry);
    }
    return sound;
}

/* Why the helper failed, with the program that has the port of a forward. */
static char *explain(const struct rpc_message *answer)
{
    const char *text = json_string_value(json_object_get(answer->data, "taken"));
    struct network_forward forward;

    if (!text || !network_forward_parse(text, &forward, NULL))
        return g_strdup(answer->text);
    g_autofree char *owner = port_owner(forward.forward.udp, &forward.forward.host);
    return g_strdup_printf("%s%s%s", answer->text, owner ? ", by " : "", owner ? owner : "");
}

/* Whether two texts are of the same port of the host's. */
static bool same_place(const char *a, const char *b)
{
    struct network_forward one, other;

    return network_forward_parse(a, &one, NULL) && network_forward_parse(b, &other, NULL) &&
           one.forward.udp == other.forward.udp &&
           one.forward.host.sin_port == other.forward.host.sin_port &&
           one.forward.host.sin_addr.s_addr == other.forward.host.sin_addr.s_addr;
}

/* Take those of `gone` out of the list. */
static void drop_forwards(const json_t *gone)
{
    json_t *entry;
    size_t i;

    json_array_foreach(
        gone, i,
        entry) for (size_t n = json_array_size(self.forwards);
                    n-- > 0;) if (same_place(json_string_value(entry),
                                             json_string_value(json_array_get(self.forwards, n))))
        json_array_remove(self.forwards, n);
}

static void on_forwarded(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct control_call *call = opaque;
    json_t *made;

    g_ptr_array_remove_fast(self.pending, call);
    if (answer->kind == RPC_FAILURE) {
        g_autofree char *reason = explain(answer);

        control_fail(call, RPC_ERROR_FAILED, reason);
        return;
    }
    made = sound_forwards(json_object_get(answer->result, "forwards"));
    drop_forwards(json_object_get(call->params, "remove"));
    json_array_extend(self.forwards, made);
    control_reply(call, json_pack("{s:o}", "forwards", made));
}

/* The first of the list that is none of ours; NULL: all are. */
static const char *find_unknown(const json_t *list)
{
    const json_t *entry, *ours;
    size_t i, n;

    json_array_foreach(list, i, entry)
    {
        bool found = false;

        json_array_foreach(self.forwards, n, ours) found |=
            same_place(json_string_value(entry), json_string_value(ours));
        if (!found)
            return json_string_value(entry);
    }
    return NULL;
}

static void handle_forward(void *opaque, struct control_call *call)
{
    const char *unknown = find_unknown(json_object_get(call->params, "remove"));

    if (unknown) {
        g_autofree char *text = g_strdup_printf("%s: there is no such forward", unknown);

        control_fail(call, RPC_ERROR_STATE, text);
    } else {
        ask(call);
    }
}

/* ---- the helper ---- */

static void end_helper(void)
{
    self.ready = false;
    ports_lose(self.ports);
    g_clear_pointer(&self.worker, worker_destroy);
    resolvers_forget(self.resolvers);
    self.resolvers = 0;
}

static void on_log(void *opaque, const char *line)
{
    g_message("%s", line);
}

static void on_notified(void *opaque, const struct rpc_message *message)
{
    if (strcmp(message->method, "leases") == 0)
        take_leases(json_object_get(message->params, "leases"));
}

static gboolean on_respawn(gpointer opaque)
{
    g_autoptr(GError) error = NULL;

    self.respawn = 0;
    if (spawn(&error))
        return G_SOURCE_REMOVE;
    g_message("%s", error->message);
    self.pause_ms = CLAMP(self.pause_ms * 2, PAUSE_MIN_MS, PAUSE_MAX_MS);
    self.respawn = g_timeout_add(self.pause_ms, on_respawn, NULL);
    return G_SOURCE_REMOVE;
}

/* Not on the worker's stack. */
static gboolean on_helper_over(gpointer opaque)
{
    end_helper();
    self.respawn = g_timeout_add(self.pause_ms, on_respawn, NULL);
    return G_SOURCE_REMOVE;
}

static void on_ended(void *opaque, struct worker *worker, const char *how)
{
    g_message("%s%s", how, self.start_call ? "" : "; another one takes its place");
    self.ready = false;
    /* What it did not answer, the next one is asked. */
    while (self.pending->len)
        g_ptr_array_add(self.waiting, g_ptr_array_steal_index(self.pending, 0));
    if (self.start_call) {
        self.status = 1;
        control_fail(g_steal_pointer(&self.start_call), RPC_ERROR_FAILED, how);
        g_main_loop_quit(self.loop);
        return;
    }
    if (g_get_monotonic_time() - self.began_us >= LIVED_LONG_US)
        self.pause_ms = 0;
    else
        self.pause_ms = CLAMP(self.pause_ms * 2, PAUSE_MIN_MS, PAUSE_MAX_MS);
    if (!self.respawn)
        self.respawn = g_idle_add(on_helper_over, NULL);
}

static const struct worker_ops worker_ops = {on_log, on_notified, on_ended};

static void on_started(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct control_call *call = g_steal_pointer(&self.start_call);

    if (answer->kind == RPC_FAILURE) {
        g_autofree char *reason = explain(answer);

        g_message("%s", reason);
        if (!call)
            return; /* and it ends */
        self.status = 1;
        control_fail(call, RPC_ERROR_FAILED, reason);
        g_main_loop_quit(self.loop);
        return;
    }
    json_decref(self.forwards);
    self.forwards = sound_forwards(json_object_get(answer->result, "forwards"));
    if (count) {
        self.resolvers = resolvers_follow(fds[0]);
        fds[0] = -1;
    }
    self.ready = true;
    ports_offer(self.ports, self.worker);
    ask_waiting();
    if (call)
        control_reply(call, NULL);
}

static bool spawn(GError **error)
{
    json_t *leases = self.network.subnet.bits ? leases_to_json(&self.leases) : json_array();

    self.began_us = g_get_monotonic_time();
    self.worker = worker_create("network", self.program, &worker_ops, NULL, error);
    if (!self.worker) {
        json_decref(leases);
        return false;
    }
    worker_ask(self.worker, "start",
               json_pack("{s:o, s:o, s:O}", "definition", definition_to_json(self.definition),
                         "leases", leases, "add", self.forwards),
               NULL, 0, on_started, NULL);
    return true;
}

/* ---- starting ---- */

/* Messages go to a file in the network's folder; one that has grown is put aside. */
static void open_log(void)
{
    g_autofree char *path = store_path(&store_networks, self.name);
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *log = g_build_filename(folder, "log", NULL);
    g_autofree char *old = g_strconcat(log, ".old", NULL);
    struct stat status;
    int fd;

    if (stat(log, &status) == 0 && status.st_size > LOG_MAX)
        rename(log, old);
    fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, 0600);
    if (fd < 0)
        return;
    dup2(fd, STDERR_FILENO);
    close(fd);
}

static bool load(const char *name, GError **error)
{
    g_autofree char *path = NULL;

    self.text = store_read(&store_networks, name, error);
    if (!self.text)
        return false;
    path = store_path(&store_networks, name);
    self.definition = definition_create_kind(&definition_network);
    if (!definition_load_yaml(self.definition, path, NULL, self.text, strlen(self.text), error) ||
        !definition_check(self.definition, error))
        return false;
    self.network = definition_network_of(self.definition);
    if (self.network.kind != NETWORK_BRIDGE)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_USAGE, "%s: a bridge is the host's", name);
    return false;
}

static json_t *wanted_forwards(void)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < definition_count(self.definition, NETWORK_FORWARD); i++)
        json_array_append_new(list,
                              json_string(definition_entry(self.definition, NETWORK_FORWARD, i)));
    return list;
}

static bool prepare(const char *name, GError **error)
{
    int fd;

    if (!load(name, error))
        return false;
    self.folder = folder_claim_network(name, error);
    if (!self.folder)
        return false;
    fd = folder_listen(self.folder, error);
    if (fd < 0)
        return false;
    self.name = g_strdup(name);
    open_log();
    self.program = process_program(PROGRAM);
    if (!self.program) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                    PROGRAM " is not there; this build has no networks (libslirp)");
        return false;
    }
    self.forwards = wanted_forwards();
    leases_load();
    if (!spawn(error))
        return false;
    clients_listen(self.clients, fd);
    return true;
}

static void handle_start(void *opaque, struct control_call *call)
{
    GError *error = NULL;

    if (self.name) {
        control_fail(call, RPC_ERROR_STATE, "the network was started before");
        return;
    }
    if (prepare(json_string_value(json_object_get(call->params, "name")), &error)) {
        self.start_call = call;
        return;
    }
    self.status = 1;
    control_fail_error(call, error);
    g_main_loop_quit(self.loop);
}

/* ---- cards ---- */

/* Whether the network is still defined as it runs. */
static bool is_current(void)
{
    g_autofree char *text = store_read(&store_networks, self.name, NULL);
    return g_strcmp0(text, self.text) == 0;
}

static void handle_attach(void *opaque, struct control_call *call)
{
    /* Without a card it has ended, but for a moment: who comes now wants the one that is kept. */
    if (self.ready && !ports_count(self.ports) && !is_current()) {
        control_fail(call, RPC_ERROR_STATE, "the network is defined anew; start it again");
        g_main_loop_quit(self.loop);
        return;
    }
    if (!ports_add(self.ports, call))
        return;
    reckon(LINGER_MS);
    if (self.ready)
        ports_offer(self.ports, self.worker);
}

static void answer_query(struct control_call *call, const json_t *counts)
{
    json_t *leases = self.network.subnet.bits ? leases_to_json(&self.leases) : json_array();

    control_reply(call, json_pack("{s:i, s:o, s:o, s:O}", "monitor_pid", getpid(), "ports",
                                  ports_describe(self.ports, counts), "leases", leases, "forwards",
                                  self.forwards));
}

static void on_counted(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    g_ptr_array_remove_fast(self.pending, opaque);
    answer_query(opaque,
                 answer->kind == RPC_RESULT ? json_object_get(answer->result, "ports") : NULL);
}

static void handle_query(void *opaque, struct control_call *call)
{
    ask(call);
}

static void on_gone(void *opaque, struct peer *peer, bool owner)
{
    if (self.start_call && self.start_call->peer == peer)
        self.start_call->peer = NULL;
    forget_peer(self.pending, peer);
    forget_peer(self.waiting, peer);
    ports_remove_peer(self.ports, peer, self.ready ? self.worker : NULL);
    reckon(LINGER_MS);
}

/* ---- life ---- */

static const struct control_handler handlers[] = {
    {"network.start", handle_start},
    {"network.attach", handle_attach},
    {"network.query", handle_query},
    {"network.forward", handle_forward},
    {0},
};

static void finish(void)
{
    fail_all(self.pending, "the network has ended");
    fail_all(self.waiting, "the network has ended");
    end_helper();
    if (self.start_call)
        control_fail(g_steal_pointer(&self.start_call), RPC_ERROR_FAILED, "the network has ended");
    ports_destroy(self.ports);
    folder_release(self.folder);
    clients_flush(self.clients);
    clients_destroy(self.clients);
    g_ptr_array_unref(self.pending);
    g_ptr_array_unref(self.waiting);
    definition_destroy(self.definition);
    json_decref(self.forwards);
    g_main_loop_unref(self.loop);
    g_free(self.program);
    g_free(self.text);
    g_free(self.name);
}

int network_main(void)
{
    const struct clients_config config = {
        .service = {.handlers = handlers, .public = true},
        .gone = on_gone,
        .most = CLIENTS_MOST,
    };

    signal(SIGPIPE, SIG_IGN);
    self.loop = g_main_loop_new(NULL, FALSE);
    self.clients = clients_create(&config);
    self.ports = ports_create();
    self.pending = g_ptr_array_new();
    self.waiting = g_ptr_array_new();
    clients_add(self.clients, PROCESS_LINK_FD, CONTROL_OBSERVE | CONTROL_OPERATE | CONTROL_OWN);
    g_unix_signal_add(SIGTERM, on_terminate, NULL);
    g_unix_signal_add(SIGINT, on_terminate, NULL);
    reckon(BEGIN_MS);
    g_main_loop_run(self.loop);
    finish();
    return self.status;
}
