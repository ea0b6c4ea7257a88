// SPDX-License-Identifier: Apache-2.0
/*
 * Changes of a machine that runs: "device.change" and "machine.change".
 *
 *     checked -> cable opened, helper ready (or forwards changed) -> vmm follows -> kept here, told
 *
 * Until the vmm has followed, what there was stays as it is, and a step that fails undoes those
 * before it. What there was goes last: another cable's helper, its descriptors.
 *
 * One change at a time, so that what was checked still holds when it is done.
 */
#include <string.h>
#include <unistd.h>

#include "config/devices.h"
#include "config/live.h"
#include "config/nics.h"
#include "vmm/monitor/internal.h"

#define PATIENCE_S 30 /* for a network to be there */

struct change {
    struct monitor *monitor;
    struct control_call *call;
    char *id; /* NULL: the machine itself */
    struct definition *after;
    bool replugs; /* a network card's cable leads elsewhere: */
    struct nic_cable cable;
    struct nat *nat;  /* its helper; NULL: it has none */
    guint timer;      /* until that has to be ready; 0: nothing is awaited of it */
    bool reserved;    /* a place among the files waits for the cable */
    json_t *forwards; /* as they were, in case that they are to be so again; NULL: no matter */
};

/* ---- the end ---- */

static void change_destroy(struct change *change)
{
    struct monitor *monitor = change->monitor;
    const int ends[] = {change->cable.fd, change->cable.helper};

    if (monitor->vmm)
        worker_forget(monitor->vmm, change);
    nats_forget(monitor->nats, change);
    files_release_room(monitor->files, change->reserved);
    g_clear_handle_id(&change->timer, g_source_remove);
    for (unsigned i = 0; i < G_N_ELEMENTS(ends); i++)
        if (ends[i] >= 0)
            close(ends[i]);
    nat_discard(change->nat);
    definition_destroy(change->after);
    json_decref(change->forwards);
    g_free(change->id);
    g_free(change);
    monitor->change = NULL;
}

/* Answer the call, undo what was done, and free. */
static void change_fail(struct change *change, int code, const char *failure)
{
    struct control_call *call = change->call;

    if (change->forwards)
        nats_set_forwards(change->monitor->nats, change->id, change->forwards, NULL, NULL);
    change_destroy(change);
    control_fail(call, code, failure);
}

static void tell_device(const struct change *change)
{
    clients_event(change->monitor->clients, "device-changed", json_pack("{s:s}", "id", change->id));
}

static void tell_machine(const struct change *change, const struct definition *after)
{
    json_t *keys = json_array();

    for (const struct option *option = options; option->key; option++)
        if (definition_differs(change->monitor->definition, after, NULL, option->key))
            json_array_append_new(keys, json_string(option->key));
    clients_event(change->monitor->clients, "machine-changed", json_pack("{s:o}", "options", keys));
}

static void replug_done(struct change *change)
{
    struct monitor *monitor = change->monitor;

    nats_remove(monitor->nats, change->id);
    files_replug(monitor->files, change->id, &change->cable);
    change->cable = (struct nic_cable){.fd = -1, .helper = -1};
    if (change->nat)
        nats_adopt(monitor->nats, g_steal_pointer(&change->nat));
}

/* The vmm has followed. */
static void commit(struct change *change)
{
    struct monitor *monitor = change->monitor;
    struct control_call *call = change->call;
    const struct live_change wanted = live_change_of(call->params);
    /* Devices may have come and gone since it was checked. */
    struct definition *after =
        definition_follow_live(monitor->definition, change->id, &wanted, NULL);

    if (!after) {
        change_fail(change, RPC_ERROR_STATE, "the device has gone meanwhile");
        return;
    }
    if (change->replugs)
        replug_done(change);
    if (change->id)
        tell_device(change);
    else
        tell_machine(change, after);
    definition_destroy(monitor->definition);
    monitor->definition = after;
    monitor->restart.policy =
        restart_policy_find(definition_text(monitor->definition, OPTION_RESTART));
    change_destroy(change);
    control_reply(call, NULL);
}

/* ---- the steps, the last one first ---- */

static void on_followed(void *opaque, const struct rpc_message *answer, int *fds, unsigned count)
{
    struct change *change = opaque;

    if (answer->kind == RPC_FAILURE)
        change_fail(change, answer->code, answer->text);
    else
        commit(change);
}

static void ask_vmm(struct change *change)
{
    json_t *params = json_copy(change->call->params);

    if (change->replugs)
        json_object_set_new(params, "cable", json_true());
    worker_ask(change->monitor->vmm, "vmm.change", params, &change->cable.fd, change->cable.fd >= 0,
               on_followed, change);
}

static void on_helper(void *opaque, const char *failure)
{
    struct change *change = opaque;

    g_clear_handle_id(&change->timer, g_source_remove);
    if (failure)
        change_fail(change, RPC_ERROR_FAILED, failure);
    else
        ask_vmm(change);
}

static gboolean on_timeout(gpointer opaque)
{
    struct change *change = opaque;

    change->timer = 0;
    change_fail(change, RPC_ERROR_FAILED, "nic: the network does not answer");
    return G_SOURCE_REMOVE;
}

/* A helper that a guest has taken over may be silent. */
static void limit_wait(struct change *change)
{
    change->timer = g_timeout_add_seconds(PATIENCE_S, on_timeout, change);
}

/* The card's cable leads elsewhere: what it leads to is made beside what there is. */
static bool replug(struct change *change, unsigned card, GError **error)
{
    struct monitor *monitor = change->monitor;
    struct nic nic = definition_nic(change->after, card);

    /* A device may be attached before the cable is there. */
    change->reserved = files_reserve_room(monitor->files, error);
    if (!change->reserved || !nic_open(&nic, &change->cable, error))
        return false;
    change->replugs = true;
    if (change->cable.helper < 0) {
        ask_vmm(change);
        return true;
    }
    change->nat = nat_begin(monitor->nats, change->after, card, change->cable.helper, on_helper,
                            change, error);
    if (change->nat)
        limit_wait(change);
    return change->nat;
}

static void on_forwards(void *opaque, const char *failure)
{
    struct change *change = opaque;

    if (failure)
        g_clear_pointer(&change->forwards, json_decref);
    on_helper(change, failure);
}

static bool forward(struct change *change, unsigned card, GError **error)
{
    struct monitor *monitor = change->monitor;
    json_t *wanted = nats_forwards_of(change->after, card);
    bool good;

    change->forwards = nats_forwards_of(monitor->definition, card);
    good = nats_set_forwards(monitor->nats, change->id, wanted, on_forwards, change);
    json_decref(wanted);
    if (good) {
        limit_wait(change);
    } else {
        g_clear_pointer(&change->forwards, json_decref);
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_STATE,
                    "%s: its NAT helper has died, and another one is not ready yet; try again",
                    change->id);
    }
    return good;
}

static bool begin_nic(struct change *change, unsigned card, GError **error)
{
    const struct definition *before = change->monitor->definition;

    if (definition_differs(before, change->after, change->id, "network"))
        return replug(change, card, error);
    if (definition_nic(before, card).network == NIC_USER &&
        definition_differs(before, change->after, change->id, "forward"))
        return forward(change, card, error);
    ask_vmm(change);
    return true;
}

static bool begin(struct change *change, GError **error)
{
    const struct live_change wanted = live_change_of(change->call->params);
    struct device_place place;

    change->after = definition_change_live(change->monitor->definition, change->id, &wanted, error);
    if (!change->after)
        return false;
    if (change->id && definition_find_device(change->after, change->id, &place) &&
        place.kind == OPTION_NIC)
        return begin_nic(change, place.index, error);
    ask_vmm(change);
    return true;
}

/* ---- calls ---- */

/* Why nothing can change now; NULL: it can. */
static const char *find_obstacle(const struct monitor *monitor)
{
    if (!monitor->vmm || !monitor->lives)
        return "no machine is running";
    if (monitor->upgrade)
        return "an upgrade is under way; try again when it is done";
    return monitor->change ? "another change is under way; try again" : NULL;
}

void monitor_handle_change(void *opaque, struct control_call *call)
{
    struct monitor *monitor = opaque;
    const char *obstacle = find_obstacle(monitor);
    const char *id = json_string_value(json_object_get(call->params, "id"));
    GError *error = NULL;

    if (obstacle) {
        control_fail(call, RPC_ERROR_STATE, obstacle);
        return;
    }
    monitor->change = g_new0(struct change, 1);
    *monitor->change = (struct change){
        .monitor = monitor, .call = call, .id = g_strdup(id), .cable = {.fd = -1, .helper = -1}};
    if (begin(monitor->change, &error))
        return;
    change_fail(monitor->change, rpc_code_of(error), error->message);
    g_error_free(error);
}

void change_forget_peer(struct monitor *monitor, const struct peer *peer)
{
    if (monitor->change && monitor->change->call->peer == peer)
        monitor->change->call->peer = NULL;
}

void change_end(struct monitor *monitor, const char *message)
{
    if (monitor->change)
        change_fail(monitor->change, RPC_ERROR_FAILED, message);
}
