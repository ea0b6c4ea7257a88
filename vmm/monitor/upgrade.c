// SPDX-License-Identifier: Apache-2.0
/*
 * The steps of an upgrade, each the answer to the last:
 *
 *     old: describe -> new: start -> old: pause -> new: load -> (switch) -> new: go
 *
 * What one vmm tells the other goes through two memory files of ours: the head, of which the new
 * one is made while the guest still runs, and the state.
 */
#include "vmm/monitor/upgrade.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/schema.h"
#include "vmm/control/peer.h"

#define PATIENCE_S 60 /* for all steps together */
#define STEPS      5

struct upgrade {
    struct upgrade_config config;
    char *program, *engine;
    struct worker *fresh; /* NULL before it is started, and once it was switched to */
    struct definition *definition;
    char *engine_before;
    int head, state; /* memory files */
    int ram;
    json_t *pause; /* what the old one said of it; NULL before */
    bool standing; /* the old one was told to pause */
    guint timer;
    unsigned steps;      /* that are done */
    const char *awaited; /* who has to answer; for messages */
};

/* ---- the end ---- */

static void drop_answer(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
}

static void take_back(struct upgrade *upgrade)
{
    g_clear_pointer(&upgrade->fresh, worker_discard);
    worker_forget(upgrade->config.old, upgrade);
    if (upgrade->standing)
        worker_ask(upgrade->config.old, "handover.cancel", NULL, NULL, 0, drop_answer, NULL);
    upgrade->standing = false;
}

static void fail_with(struct upgrade *upgrade, int code, const char *reason)
{
    g_autofree char *failure =
        g_strdup_printf("upgrade: %s; the machine goes on as it was", reason);

    take_back(upgrade);
    upgrade->config.ended(upgrade->config.opaque, NULL, code, failure);
}

static void fail(struct upgrade *upgrade, const char *reason)
{
    fail_with(upgrade, RPC_ERROR_FAILED, reason);
}

static void tell_progress(struct upgrade *upgrade)
{
    upgrade->steps++;
    if (upgrade->config.progress)
        upgrade->config.progress(upgrade->config.opaque, upgrade->steps, STEPS);
}

/* Of an answer to our last request: whether it is a result. Ends the upgrade if not. */
static bool succeeded(struct upgrade *upgrade, const struct rpc_message *answer)
{
    if (answer->kind == RPC_RESULT) {
        tell_progress(upgrade);
        return true;
    }
    fail(upgrade, answer->text);
    return false;
}

static gboolean on_timeout(gpointer opaque)
{
    struct upgrade *upgrade = opaque;
    g_autofree char *reason = g_strdup_printf("%s does not answer", upgrade->awaited);

    upgrade->timer = 0;
    fail(upgrade, reason);
    return G_SOURCE_REMOVE;
}

/* ---- the new vmm, before it has the machine ---- */

static void on_log(void *opaque, const char *line)
{
    struct upgrade *upgrade = opaque;

    upgrade->config.log(upgrade->config.opaque, line);
}

static void on_notified(void *opaque, const struct rpc_message *message)
{
}

static void on_ended(void *opaque, struct worker *worker, const char *how)
{
    struct upgrade *upgrade = opaque;
    g_autofree char *reason = g_strdup_printf("of the new vmm: %s", how);

    fail(upgrade, reason);
}

static const struct worker_ops fresh_ops = {on_log, on_notified, on_ended};

/* ---- the steps, the last one first ---- */

static void on_gone_on(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct upgrade *upgrade = opaque;
    json_t *result;

    if (answer->kind == RPC_FAILURE) {
        upgrade->config.ended(upgrade->config.opaque, NULL, RPC_ERROR_FAILED, answer->text);
        return;
    }
    tell_progress(upgrade);
    result = json_object();
    json_object_set(result, "downtime_ns", json_object_get(answer->result, "downtime_ns"));
    json_object_set(result, "running", json_object_get(upgrade->pause, "running"));
    json_object_set_new(result, "engine_before", json_string(upgrade->engine_before));
    json_object_set_new(result, "engine", json_string(upgrade->engine));
    upgrade->config.ended(upgrade->config.opaque, result, 0, NULL);
    json_decref(result);
}

static void on_loaded(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    static const char *const passed[] = {"running", "began_ns", "stopped_ns", "started_us",
                                         "frozen_ms"};
    struct upgrade *upgrade = opaque;
    struct worker *fresh = upgrade->fresh;
    json_t *params;

    if (!succeeded(upgrade, answer))
        return;
    params = json_object();
    for (unsigned i = 0; i < G_N_ELEMENTS(passed); i++)
        json_object_set(params, passed[i], json_object_get(upgrade->pause, passed[i]));
    g_clear_handle_id(&upgrade->timer, g_source_remove);
    upgrade->fresh = NULL;
    upgrade->config.old = fresh;
    upgrade->standing = false;
    upgrade->config.switched(upgrade->config.opaque, fresh, g_steal_pointer(&upgrade->definition));
    worker_ask(fresh, "handover.go", params, NULL, 0, on_gone_on, upgrade);
}

static void on_paused(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct upgrade *upgrade = opaque;
    int handed[PEER_FDS_MAX];
    json_t *clients, *params;

    if (!succeeded(upgrade, answer))
        return;
    clients = json_object_get(answer->result, "clients");
    if (json_array_size(clients) != count || count >= PEER_FDS_MAX) {
        fail(upgrade, "the running vmm hands over something else than it says");
        return;
    }
    upgrade->pause = json_incref(answer->result);
    handed[0] = upgrade->state;
    memcpy(handed + 1, fds, count * sizeof(int));
    lseek(upgrade->state, 0, SEEK_SET);
    params = json_object();
    json_object_set(params, "clients", clients);
    upgrade->awaited = "the new vmm";
    worker_ask(upgrade->fresh, "handover.load", params, handed, count + 1, on_loaded, upgrade);
}

static void on_started(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct upgrade *upgrade = opaque;

    if (!succeeded(upgrade, answer))
        return;
    upgrade->standing = true;
    upgrade->awaited = "the running vmm";
    upgrade->config.standing(upgrade->config.opaque);
    worker_ask(upgrade->config.old, "handover.pause", NULL, &upgrade->state, 1, on_paused, upgrade);
}

/* The machine's definition with engine and CPU model as they are to be. */
static bool define(struct upgrade *upgrade, json_t *description, GError **error)
{
    const char *engine = json_string_value(json_object_get(description, "engine"));
    const char *cpu = json_string_value(json_object_get(description, "cpu"));
    json_t *object = definition_to_json(upgrade->config.definition);
    bool good;

    upgrade->engine_before = g_strdup(engine ? engine : "");
    if (!upgrade->engine)
        upgrade->engine = g_strdup(upgrade->engine_before);
    json_object_set_new(object, "engine", json_string(upgrade->engine));
    if (cpu)
        json_object_set_new(object, "cpu", json_string(cpu));
    json_object_del(object, options[OPTION_STATE].key);
    upgrade->definition = definition_create();
    good = definition_from_json(upgrade->definition, object, error);
    json_decref(object);
    return good;
}

/* The files of the machine, the RAM and the head, and what each is for. */
static bool collect(struct upgrade *upgrade, json_t *names, int fds[PEER_FDS_MAX], unsigned *count,
                    GError **error)
{
    bool kvm = g_str_equal(upgrade->engine, "kvm");
    unsigned total;
    const int *all;

    if (kvm && !files_add_kvm(upgrade->config.files, error))
        return false;
    all = files_fds(upgrade->config.files, &total);
    for (unsigned i = 0; i < total; i++) {
        const char *name = files_name(upgrade->config.files, i);

        if ((g_str_equal(name, "kvm") && !kvm) || g_str_equal(name, "state"))
            continue;
        fds[(*count)++] = all[i];
        json_array_append_new(names, json_string(name));
    }
    fds[(*count)++] = upgrade->head;
    json_array_append_new(names, json_string("state"));
    fds[(*count)++] = upgrade->ram;
    json_array_append_new(names, json_string("ram"));
    return true;
}

static bool start_fresh(struct upgrade *upgrade, json_t *description, GError **error)
{
    json_t *params = json_object(), *names = json_array();
    int fds[PEER_FDS_MAX];
    unsigned count = 0;
    bool good;

    json_object_set_new(params, "fds", names);
    if (define(upgrade, description, error))
        upgrade->fresh = worker_create("vmm", upgrade->program, &fresh_ops, upgrade, error);
    good = upgrade->fresh &&
           files_add_perf_map(upgrade->config.files, worker_pid(upgrade->fresh), error) &&
           collect(upgrade, names, fds, &count, error);
    if (!good) {
        json_decref(params);
        return false;
    }
    lseek(upgrade->head, 0, SEEK_SET);
    json_object_set_new(params, "definition", definition_to_json(upgrade->definition));
    json_object_set_new(params, "folder", json_string(upgrade->config.folder));
    upgrade->awaited = "the new vmm";
    worker_ask(upgrade->fresh, "vmm.start", params, fds, count, on_started, upgrade);
    return true;
}

static void on_described(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct upgrade *upgrade = opaque;
    g_autoptr(GError) error = NULL;

    if (!succeeded(upgrade, answer))
        return;
    if (count != 1) {
        fail(upgrade, "the running vmm hands over no RAM");
        return;
    }
    upgrade->ram = fds[0];
    fds[0] = -1;
    if (!start_fresh(upgrade, answer->result, &error))
        fail(upgrade, error->message);
}

/* ---- life ---- */

static int memory_file(const char *name, GError **error)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED, "upgrade: no memory file: %s",
                    g_strerror(errno));
    return fd;
}

static bool check_program(const char *program, GError **error)
{
    if (access(program, X_OK) == 0)
        return true;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FAILED,
                "upgrade: %s: %s; the machine was started from there, install Anima there again",
                program, g_strerror(errno));
    return false;
}

struct upgrade *upgrade_create(const struct upgrade_config *config, GError **error)
{
    struct upgrade *upgrade = g_new0(struct upgrade, 1);

    upgrade->config = *config;
    upgrade->program = g_strdup(config->program);
    upgrade->engine = g_strdup(config->engine);
    upgrade->ram = upgrade->state = -1;
    upgrade->head = memory_file("upgrade-head", error);
    if (upgrade->head >= 0)
        upgrade->state = memory_file("upgrade-state", error);
    if (upgrade->state < 0 || !check_program(config->program, error)) {
        upgrade_destroy(upgrade);
        return NULL;
    }
    upgrade->awaited = "the running vmm";
    upgrade->timer = g_timeout_add_seconds(PATIENCE_S, on_timeout, upgrade);
    worker_ask(config->old, "handover.describe", NULL, &upgrade->head, 1, on_described, upgrade);
    return upgrade;
}

bool upgrade_cancel(struct upgrade *upgrade)
{
    if (!upgrade->fresh && upgrade->pause)
        return false;
    fail_with(upgrade, RPC_ERROR_CANCELLED, "it was cancelled");
    return true;
}

void upgrade_destroy(struct upgrade *upgrade)
{
    const int fds[] = {upgrade ? upgrade->head : -1, upgrade ? upgrade->state : -1,
                       upgrade ? upgrade->ram : -1};

    if (!upgrade)
        return;
    /* Waited for: it has the machine's files. */
    g_clear_pointer(&upgrade->fresh, worker_destroy);
    take_back(upgrade);
    if (upgrade->timer)
        g_source_remove(upgrade->timer);
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (upgrade->pause)
        json_decref(upgrade->pause);
    definition_destroy(upgrade->definition);
    g_free(upgrade->program);
    g_free(upgrade->engine);
    g_free(upgrade->engine_before);
    g_free(upgrade);
}
